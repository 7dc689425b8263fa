"""The FFT between n modes and a grid that is finer, one axis at a time, of any number of axes.

A complex Stockham FFT over many lines at once, a line per lane, real and imaginary parts apart. What makes it pay
beside a library's: where the grid is twice as fine half of its modes are zero, so the first stage (towards the grid)
and the last (back) of four blocks touch only two (`pruned`); the other axes are still short when the first is
transformed, and the factors of the window, the order of the modes and the periodic margin are part of reading and
writing. 256**2 in complex128 0.1 ms, pocketfft 0.5 (both one thread, Zen 4; ours 0.3 on a Xeon).

A stage of radix R, s values done and `count` = n / (s R) to go (C. Van Loan, Computational Frameworks for the Fast
Fourier Transform (1992), section 1.7):

    y[q + s (R p + k)] = w**(p k) sum_j exp(-2 pi i j k / R) x[q + s (p + count j)],  w = exp(-2 pi i / (R count))
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from math import cos, log2, pi, prod, sin, sqrt
from typing import Any

import numpy as np
from numba import njit, types

from . import threads
from .cache import SOURCES, array, compiled
from .machine import specialising, staged
from .scratch import scratch

Array = np.ndarray[Any, Any]
Complex = Any  # (re, im), or None for zero

BYTES = 64  # of the lanes of one part: 16 float32 or 8 float64
RADICES = (2, 3, 4, 5, 8)
NS = 0.35  # measured: one complex number (float64) of one line through one axis, per log2(n)
ALL, OUTER = 0, 1  # which of the four blocks of a stage there are: all, or the first and the last


@specialising(SOURCES)
@dataclass(frozen=True)
class Lines:
    """What the kernels are specialised to: how many lines are done at once."""

    lanes: int


# ---- butterflies, on pairs of vectors; None is zero
def _add(a: Complex, b: Complex) -> Complex:
    if a is None or b is None:
        return b if a is None else a
    return a[0] + b[0], a[1] + b[1]


def _times(a: Complex, c: float) -> Complex:
    return None if a is None else (a[0] * c, a[1] * c)


def _sub(a: Complex, b: Complex) -> Complex:
    if a is None or b is None:
        return a if b is None else _times(b, -1.0)
    return a[0] - b[0], a[1] - b[1]


def _add_i(a: Complex, b: Complex) -> Complex:
    """a + i b."""
    if a is None or b is None:
        return a if b is None else (b[1] * -1.0, b[0])
    return a[0] - b[1], a[1] + b[0]


def _sub_i(a: Complex, b: Complex) -> Complex:
    """a - i b."""
    if a is None or b is None:
        return a if b is None else (b[1], b[0] * -1.0)
    return a[0] + b[1], a[1] - b[0]


def butterfly(x: list[Complex]) -> list[Complex]:
    """The transform of 2, 3, 4, 5 or 8 numbers."""
    n = len(x)
    if n == 2:
        return [_add(*x), _sub(*x)]
    if n % 2 == 0:  # two halves, and the second turned
        even, odd = butterfly(x[0::2]), butterfly(x[1::2])
        if n == 8:
            h = sqrt(0.5)
            (a, b), (c, d) = odd[1], odd[3]
            odd[1], odd[3] = ((a + b) * h, (b - a) * h), ((d - c) * h, (c + d) * -h)
        pairs = [
            (_sub_i(e, o), _add_i(e, o)) if 4 * k == n else (_add(e, o), _sub(e, o))
            for k, (e, o) in enumerate(zip(even, odd, strict=True))
        ]
        return [low for low, _ in pairs] + [high for _, high in pairs]
    y: list[Complex] = [functools.reduce(_add, x)] + [None] * (n - 1)
    sums = [_add(x[j], x[n - j]) for j in range(1, n // 2 + 1)]
    differences = [_sub(x[j], x[n - j]) for j in range(1, n // 2 + 1)]
    for k in range(1, n // 2 + 1):
        turns = [2 * pi * k * j / n for j in range(1, n // 2 + 1)]
        a = functools.reduce(_add, (_times(v, cos(t)) for v, t in zip(sums, turns, strict=True)), x[0])
        b = functools.reduce(_add, (_times(v, sin(t)) for v, t in zip(differences, turns, strict=True)))
        y[k], y[n - k] = _sub_i(a, b), _add_i(a, b)
    return y


def _stage(radix: int, blocks_in: int = ALL, blocks_out: int = ALL, turned: bool = True) -> Callable[..., Any]:
    """A stage; `turned`: with twiddle factors, which the last has none of (count = 1)."""

    def stage(m: Any, spec: Any, source: Any, target: Any, count: Any, s: Any, twiddles: Any, at: Any) -> None:
        n = spec.lanes

        def present(blocks: int, k: int) -> bool:
            return blocks == ALL or k in (0, radix - 1)

        def over(p: Any, _: Any) -> None:
            z = at + p * (2 * (radix - 1))
            turns = [(m.load(twiddles, z + 2 * k), m.load(twiddles, z + (2 * k + 1))) for k in range(radix - 1)] \
                if turned else []  # fmt: skip

            def group(q: Any, _: Any) -> None:
                x: list[Complex] = [None] * radix
                for j in range(radix):
                    if present(blocks_in, j):
                        place = (q + s * (p + count * j)) * (2 * n)
                        x[j] = m.load(source, place, n), m.load(source, place + n, n)
                y = butterfly(x)
                for k in range(radix):
                    if not present(blocks_out, k):
                        continue
                    re, im = y[k]
                    if k and turned:
                        c, d = turns[k - 1]
                        re, im = re * c - im * d, re * d + im * c
                    place = (q + s * (p * radix + k)) * (2 * n)
                    m.store(target, place, re)
                    m.store(target, place + n, im)

            m.loop(0, s, group)

        m.loop(0, count, over)

    stage.__name__ = f"stage{radix}"
    return staged(stage)


# what fine_size and _radices leave: towards the grid 4 comes first and 2, 4 or 8 last, back 4 comes last
stage2, stage3, stage4, stage5, stage8 = map(_stage, RADICES)
last2, last4, last8 = (_stage(r, turned=False) for r in (2, 4, 8))
first_pruned = _stage(4, blocks_in=OUTER)
last_pruned = _stage(4, blocks_out=OUTER, turned=False)


@njit(error_model="numpy", inline="never")
def _towards(spec, a, b, factors, twiddles, at, nf, pruned):  # type: ignore[no-untyped-def]
    """All stages towards the grid, from a to b and back; whether the result is in b."""
    if pruned:
        first_pruned(spec, a, b, nf // 4, 1, twiddles, at[0])
    else:
        stage4(spec, a, b, nf // 4, 1, twiddles, at[0])
    s, swapped = 4, True
    for i in range(1, len(factors)):
        r = factors[i]
        count = nf // (s * r)
        source, target = (b, a) if swapped else (a, b)
        if count > 1:
            if r == 8:
                stage8(spec, source, target, count, s, twiddles, at[i])
            elif r == 5:
                stage5(spec, source, target, count, s, twiddles, at[i])
            elif r == 4:
                stage4(spec, source, target, count, s, twiddles, at[i])
            else:
                stage3(spec, source, target, count, s, twiddles, at[i])
        elif r == 8:
            last8(spec, source, target, count, s, twiddles, at[i])
        elif r == 4:
            last4(spec, source, target, count, s, twiddles, at[i])
        else:
            last2(spec, source, target, count, s, twiddles, at[i])
        swapped = not swapped
        s *= r
    return swapped


@njit(error_model="numpy", inline="never")
def _back(spec, a, b, factors, twiddles, at, nf, pruned):  # type: ignore[no-untyped-def]
    """All stages back to the modes."""
    s, swapped = 1, False
    for i in range(len(factors) - 1):
        r = factors[i]
        count = nf // (s * r)
        source, target = (b, a) if swapped else (a, b)
        if r == 8:
            stage8(spec, source, target, count, s, twiddles, at[i])
        elif r == 5:
            stage5(spec, source, target, count, s, twiddles, at[i])
        elif r == 4:
            stage4(spec, source, target, count, s, twiddles, at[i])
        elif r == 3:
            stage3(spec, source, target, count, s, twiddles, at[i])
        else:
            stage2(spec, source, target, count, s, twiddles, at[i])
        swapped = not swapped
        s *= r
    source, target = (b, a) if swapped else (a, b)
    if pruned:
        last_pruned(spec, source, target, 1, s, twiddles, at[len(factors) - 1])
    else:
        last4(spec, source, target, 1, s, twiddles, at[len(factors) - 1])
    return not swapped


# ---- between memory and lines. flip = 0 or the lanes: 0 transforms with exp(-...), else with exp(+...), as re and im
# change places on both ways
@staged
def clear(m: Any, spec: Any, buf: Any, start: Any, stop: Any) -> None:
    """buf[start ... stop] = 0."""
    zero = m.const(buf, [0.0] * spec.lanes)

    def body(k: Any, _: Any) -> None:
        m.store(buf, k * (2 * spec.lanes), zero)
        m.store(buf, k * (2 * spec.lanes) + spec.lanes, zero)

    m.loop(start, stop, body)


@staged
def wrap(m: Any, spec: Any, buf: Any, n: Any, count: Any) -> None:
    """buf[n + k] = buf[k]."""

    def body(k: Any, _: Any) -> None:
        m.store(buf, k + n * (2 * spec.lanes), m.load(buf, k))

    m.loop(0, count * (2 * spec.lanes), body)


@staged
def unwrap(m: Any, spec: Any, buf: Any, n: Any, count: Any) -> None:
    """buf[k] += buf[n + k]."""
    length = spec.lanes

    def body(k: Any, _: Any) -> None:
        at = k * length
        m.store(buf, at, m.load(buf, at, length) + m.load(buf, at + n * (2 * length), length))

    m.loop(0, count * 2, body)


def next_columns(m: Any, spec: Any, x: Any, place: Any) -> None:
    """Ask for the two lines of the next block of columns: rows are pages apart, and to wait for each takes 150 ns."""
    for line in (0, 1):
        m.prefetch(x, place + spec.lanes * (2 + line))


@staged
def read_columns(
    m: Any, spec: Any, x: Any, start: Any, step: Any, count: Any, factor: Any, f: Any, buf: Any, to: Any, flip: Any
) -> None:
    """buf[to + k] = factor[f + k] x[start + k step ...], a column per lane."""
    n = spec.lanes

    def body(k: Any, _: Any) -> None:
        next_columns(m, spec, x, start + k * step)
        re, im = m.split(m.load(x, start + k * step, 2 * n))
        scale, at = m.load(factor, f + k), (to + k) * (2 * n)
        m.store(buf, at + flip, re * scale)
        m.store(buf, at + (n - flip), im * scale)

    m.loop(0, count, body)


@staged
def write_columns(
    m: Any, spec: Any, x: Any, start: Any, step: Any, count: Any, factor: Any, f: Any, buf: Any, to: Any, flip: Any
) -> None:
    """x[start + k step ...] = factor[f + k] buf[to + k]."""
    n = spec.lanes

    def body(k: Any, _: Any) -> None:
        scale, at = m.load(factor, f + k), (to + k) * (2 * n)
        re, im = m.load(buf, at + flip, n), m.load(buf, at + (n - flip), n)
        next_columns(m, spec, x, start + k * step)
        m.store(x, start + k * step, m.interleave(re * scale, im * scale))

    m.loop(0, count, body)


def _blocks(m: Any, n: int, count: Any, body: Callable[[Any, Any], None]) -> None:
    """body(first, live) for blocks of n columns; live: None, or how many there are in the last."""
    whole = m.quotient(count, n)
    m.loop(0, whole, lambda j, _: body(j * n, None))
    done = whole * n
    m.loop(done, m.select(done < count, done + 1, done), lambda j, _: body(j, count - j))


@staged
def read_rows(
    m: Any, spec: Any, x: Any, starts: Any, first: Any, count: Any, factor: Any, f: Any, buf: Any, to: Any, flip: Any
) -> None:
    """buf[to + k] = factor[f + k] x[starts[row] + 2 (first + k) ...], a row per lane."""
    n = spec.lanes
    rows = [m.load(starts, i) for i in range(n)]

    def block(k: Any, live: Any) -> None:
        lanes = None if live is None else live * 2
        for part in (0, 1):
            columns = m.transpose([m.split(m.load(x, row + (first + k) * 2, 2 * n, live=lanes))[part] for row in rows])
            for j, v in enumerate(columns):
                at = (to + k + j) * (2 * n) + (n - flip if part else flip)
                m.store(buf, at, v * m.load(factor, f + k + j))

    _blocks(m, n, count, block)


@staged
def write_rows(
    m: Any, spec: Any, x: Any, starts: Any, first: Any, count: Any, factor: Any, f: Any, buf: Any, to: Any, flip: Any
) -> None:
    """x[starts[row] + 2 (first + k) ...] = factor[f + k] buf[to + k]."""
    n = spec.lanes
    rows = [m.load(starts, i) for i in range(n)]

    def block(k: Any, live: Any) -> None:
        lanes = None if live is None else live * 2
        scales = [m.load(factor, f + k + j) for j in range(n)]
        parts = []
        for part in (flip, n - flip):
            lines = [m.load(buf, (to + k + j) * (2 * n) + part, n) * scales[j] for j in range(n)]
            parts.append(m.transpose(lines))
        for row, re, im in zip(rows, *parts):
            m.store(x, row + (first + k) * 2, m.interleave(re, im), live=lanes)

    _blocks(m, n, count, block)


@njit(error_model="numpy")
def _row_starts(starts, first, rows, length):  # type: ignore[no-untyped-def]
    """Where the lines of a block begin; the last block, if not full, does its last line several times."""
    for i in range(len(starts)):
        starts[i] = min(first + i, rows - 1) * length


# ---- one axis of many lines. ints = (n, nf, margin, mode of frequency 0, mode of the lowest, lines before, after)
def _widen_columns(spec, x, out, ints, factors, at, twiddles, factor, ones, flip, a, b, starts, first, stop):  # type: ignore[no-untyped-def]
    n, nf, margin, zero, lowest, post = ints[0], ints[1], ints[2], ints[3], ints[4], ints[6]
    high, low, blocks, step, pruned = (n + 1) // 2, n // 2, post // len(starts), 2 * post, nf >= 2 * n
    for task in range(first, stop):
        p = task // blocks
        column = 2 * len(starts) * (task - p * blocks)
        source, target = p * n * step + column, p * (nf + margin) * step + column
        if pruned:
            clear(spec, a, high, nf // 4)
            clear(spec, a, nf - nf // 4, nf - low)
        else:
            clear(spec, a, high, nf - low)
        read_columns(spec, x, source + zero * step, step, high, factor, zero, a, 0, flip)
        read_columns(spec, x, source + lowest * step, step, low, factor, lowest, a, nf - low, flip)
        c = b if _towards(spec, a, b, factors, twiddles, at, nf, pruned) else a
        write_columns(spec, out, target, step, nf, ones, 0, c, 0, flip)
        write_columns(spec, out, target + nf * step, step, margin, ones, 0, c, 0, flip)


def _narrow_columns(spec, x, out, ints, factors, at, twiddles, factor, ones, flip, a, b, starts, first, stop):  # type: ignore[no-untyped-def]
    n, nf, margin, zero, lowest, post = ints[0], ints[1], ints[2], ints[3], ints[4], ints[6]
    high, low, blocks, step, pruned = (n + 1) // 2, n // 2, post // len(starts), 2 * post, nf >= 2 * n
    for task in range(first, stop):
        p = task // blocks
        column = 2 * len(starts) * (task - p * blocks)
        source, target = p * (nf + margin) * step + column, p * n * step + column
        read_columns(spec, x, source, step, nf + margin, ones, 0, a, 0, flip)
        unwrap(spec, a, nf, margin)
        c = b if _back(spec, a, b, factors, twiddles, at, nf, pruned) else a
        write_columns(spec, out, target + zero * step, step, high, factor, zero, c, 0, flip)
        write_columns(spec, out, target + lowest * step, step, low, factor, lowest, c, nf - low, flip)


def _widen_rows(spec, x, out, ints, factors, at, twiddles, factor, ones, flip, a, b, starts, first, stop):  # type: ignore[no-untyped-def]
    n, nf, zero, lowest, rows, pitch = ints[0], ints[1], ints[3], ints[4], ints[5], ints[6]
    high, low, pruned = (n + 1) // 2, n // 2, nf >= 2 * n
    for task in range(first, stop):
        if pruned:
            clear(spec, a, high, nf // 4)
            clear(spec, a, nf - nf // 4, nf - low)
        else:
            clear(spec, a, high, nf - low)
        _row_starts(starts, task * len(starts), rows, 2 * n)
        read_rows(spec, x, starts, zero, high, factor, zero, a, 0, flip)
        read_rows(spec, x, starts, lowest, low, factor, lowest, a, nf - low, flip)
        c = b if _towards(spec, a, b, factors, twiddles, at, nf, pruned) else a
        wrap(spec, c, nf, pitch - nf)
        _row_starts(starts, task * len(starts), rows, 2 * pitch)
        write_rows(spec, out, starts, 0, pitch, ones, 0, c, 0, flip)


def _narrow_rows(spec, x, out, ints, factors, at, twiddles, factor, ones, flip, a, b, starts, first, stop):  # type: ignore[no-untyped-def]
    n, nf, margin, zero, lowest, rows, pitch = ints[0], ints[1], ints[2], ints[3], ints[4], ints[5], ints[6]
    high, low, pruned = (n + 1) // 2, n // 2, nf >= 2 * n
    for task in range(first, stop):
        _row_starts(starts, task * len(starts), rows, 2 * pitch)
        read_rows(spec, x, starts, 0, pitch, ones, 0, a, 0, flip)
        unwrap(spec, a, nf, margin)
        c = b if _back(spec, a, b, factors, twiddles, at, nf, pruned) else a
        _row_starts(starts, task * len(starts), rows, 2 * n)
        write_rows(spec, out, starts, zero, high, factor, zero, c, 0, flip)
        write_rows(spec, out, starts, lowest, low, factor, lowest, c, nf - low, flip)


@functools.cache
def entry(f: Callable[..., Any], dtype: str) -> tuple[Any, Lines]:
    """One of the four functions above, compiled."""
    spec = Lines(BYTES // np.dtype(dtype).itemsize)
    real, whole = array(dtype, 1, "C"), array(np.int64, 1, "C")
    flip, i64 = types.int64, types.int64
    signature = spec._numba_type_, real, real, whole, whole, whole, real, real, real, flip, real, real, whole, i64, i64  # type: ignore[attr-defined]
    return compiled(f, dtype, signature), spec


def fine_size(least: int) -> int:
    """The least multiple of 8 without prime factors above 5 from `least` on."""
    n = -(-max(least, 8) // 8) * 8
    while _radices(n) is None:
        n += 8
    return n


def _radices(n: int) -> list[int] | None:
    """n as a product of radices, an 8 taken where one fits; None where it is not one."""
    found = []
    for r in (5, 3):
        while n % r == 0:
            found.append(r)
            n //= r
    while n % 8 == 0 and n != 16:
        found.append(8)
        n //= 8
    while n % 4 == 0:
        found.append(4)
        n //= 4
    if n == 2:
        found.append(2)
        n = 1
    return found if n == 1 else None


def fft_ns(shape: tuple[int, ...], fine: tuple[int, ...], dtype: str) -> float:
    """What the transform from modes of this shape to that grid takes, or back: of all lines along each axis."""
    per_number = NS * np.dtype(dtype).itemsize / 8
    return sum(per_number * prod(shape[:a]) * prod(fine[a:]) * log2(nf) for a, nf in enumerate(fine))


class Side:
    """Stages of a length in one order, and their twiddle factors."""

    def __init__(self, radices: list[int], dtype: str) -> None:
        n = int(np.prod(radices))
        twiddles: list[np.ndarray[Any, Any]] = []
        at, length = [], n
        for r in radices:
            at.append(sum(t.size for t in twiddles))
            turns = np.outer(np.arange(length // r), np.arange(1, r)) / length
            twiddles.append(np.stack([np.cos(2 * pi * turns), -np.sin(2 * pi * turns)], -1).ravel())
            length //= r
        self.factors, self.at = np.array(radices, np.int64), np.array(at, np.int64)
        self.twiddles = np.concatenate(twiddles).astype(dtype)


class Axis:
    """An axis of n modes, nf points of the fine grid, and `margin` points that continue it."""

    def __init__(self, n: int, nf: int, margin: int, centered: bool, factor: Array, dtype: str) -> None:
        self.n, self.nf, self.margin, self.centered = n, nf, margin, centered
        self.zero, self.lowest = (n // 2, 0) if centered else (0, (n + 1) // 2)
        rest = _radices(nf // 4) or []
        self.wide, self.narrow = Side([4, *rest], dtype), Side([*rest, 4], dtype)
        slack = BYTES // np.dtype(dtype).itemsize
        self.factor = np.concatenate([factor, np.zeros(slack)]).astype(dtype)
        self.ones = np.ones(nf + margin + slack, dtype)


class Transform:
    """Modes of some shape <-> a fine grid with margins, as flat arrays of real numbers, re and im side by side."""

    def __init__(self, axes: list[Axis], dtype: str) -> None:
        self.axes, self.dtype = axes, np.dtype(dtype)
        self.lanes = BYTES // self.dtype.itemsize
        self.shape = tuple(a.n for a in axes)
        last = axes[-1]
        self.pitch = -(-(last.nf + last.margin) // self.lanes) * self.lanes
        self.grid = (*(a.nf + a.margin for a in axes[:-1]), self.pitch)  # complex numbers, those behind the margin free

        self.passes: dict[tuple[int, bool], tuple[Any, Lines, int, Array]] = {}

    def _pass(self, axis: int, wide: bool) -> tuple[Any, Lines, int, Array]:
        """The kernel along an axis, its blocks of lines, and its integers."""
        a, last = self.axes[axis], axis == len(self.axes) - 1
        before, post = prod(self.shape[:axis]), prod(self.grid[axis + 1 :])
        if last:
            f, tasks = (_widen_rows if wide else _narrow_rows), -(-before // self.lanes)
        else:
            f, tasks = (_widen_columns if wide else _narrow_columns), before * post // self.lanes
        ints = np.array([a.n, a.nf, a.margin, a.zero, a.lowest, before, self.pitch if last else post])
        return *entry(f, self.dtype.name), tasks, ints

    def _run(self, axis: int, wide: bool, x: Array, out: Array, sign: int) -> None:
        if (axis, wide) not in self.passes:
            self.passes[axis, wide] = self._pass(axis, wide)
        kernel, spec, tasks, ints = self.passes[axis, wide]
        a = self.axes[axis]
        side = a.wide if wide else a.narrow
        flip = self.lanes if sign > 0 else 0
        room = 2 * self.lanes * (a.nf + a.margin + 3 * self.lanes)

        def run(first: int, stop: int) -> None:
            with scratch(2 * room, self.dtype) as buffers:
                starts = np.empty(self.lanes, np.int64)
                kernel(spec, x, out, ints, side.factors, side.at, side.twiddles, a.factor, a.ones, flip,
                       buffers[:room], buffers[room:], starts, first, stop)  # fmt: skip

        threads.over(run, tasks, NS * tasks * self.lanes * a.nf * log2(a.nf), align=1)

    def widen(self, modes: Array, grid: Array, sign: int) -> None:
        """grid[l] = sum_k factor_k modes[k] exp(sign 2 pi i k l / nf)."""
        self._chain(range(len(self.axes) - 1, -1, -1), True, modes, grid, sign)

    def narrow(self, grid: Array, modes: Array, sign: int) -> None:
        """modes[k] = factor_k sum_l grid[l] exp(sign 2 pi i k l / nf): the transpose of widen with the same sign."""
        self._chain(range(len(self.axes)), False, grid, modes, sign)

    def _chain(self, order: range, wide: bool, x: Array, out: Array, sign: int) -> None:
        """Axis after axis; what lies between two of them is scratch memory."""
        axis, *rest = order
        if not rest:
            return self._run(axis, wide, x, out, sign)
        done = min(axis, rest[0]) + 1  # axes before this are modes, those from here on fine
        size = 2 * prod(self.shape[:done]) * prod(self.grid[done:])
        with scratch(size, self.dtype) as between:
            self._run(axis, wide, x, between, sign)
            return self._chain(order[1:], wide, between, out, sign)
