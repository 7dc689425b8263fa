"""sample and splat: one generic pair of kernels for any number of axes, any kernel, any set of derivatives.

Two stages, 64 points at a time. Stage 1 (`locate`) turns coordinates into the offset of the stencil's first sample and
the weights of all axes but the last; it is vectorised over points. Stage 2 (`gather`, `scatter`) takes one point at a
time: vectors along the last axis, the other axes' weights broadcast. The staged functions are ordinary Python that
runs at compile time (machine.py); what is left of a 3-D cubic gather are 16 vector loads and 20 multiply-adds.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import types

from ..cached import cached_property
from .cache import SOURCES, array, compiled
from .machine import specialising, staged

BLOCK = 64  # points per round of stage 1: their weights stay in the first-level cache
UNROLLED_ROWS = 64  # stencils of more rows loop over their first axes at run time (5-D cubic has 256)
FRAME = 7  # numbers per axis that place the grid: origin, 1/spacing, lowest, highest, period, 1/period, last cell
NAN, OUTSIDE, EDGE = 1, 2, 4  # why a point is not an ordinary one
Table = tuple[tuple[float, ...], ...]


def derivative(table: Table, order: int) -> Table:
    """The coefficients of a derivative."""
    for _ in range(order):
        table = tuple(tuple(p * c for p, c in enumerate(row))[1:] or (0.0,) for row in table)
    return table


@specialising(SOURCES)
@dataclass(frozen=True)
class Spec:
    """What one compiled kernel is specialised to; per axis where plural."""

    tables: tuple[Table, ...]  # width rows of polynomial coefficients
    folds: tuple[str, ...]  # what happens to coordinates beyond the ends (boundary.FOLD)
    offsets: tuple[float, ...]  # coordinate + offset = cell + fraction, cells counted from 0
    firsts: tuple[int, ...]  # index of the sample that cell 0's stencil starts at
    orders: tuple[tuple[int, ...], ...]  # derivatives evaluated together
    channels: int
    direct: bool  # the grid is read as it is; stencils that cross its ends are gathered sample by sample
    dot: bool = False  # gather contracts with values: orders are (k, axis), axis fastest

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.tables)

    @property
    def widths(self) -> tuple[int, ...]:
        """Stencil size."""
        return tuple(map(len, self.tables))

    @property
    def looped(self) -> int:
        """How many leading axes are looped over at run time."""
        a, rows = 0, int(np.prod(self.widths[:-1]))
        while rows > UNROLLED_ROWS:
            rows //= self.widths[a]
            a += 1
        return a

    @property
    def slack(self) -> bool:
        """Whether vectors along the last axis read beyond their numbers."""
        lanes = self.channels * self.widths[-1]
        return lanes & (lanes - 1) > 0

    @property
    def across(self) -> bool:
        """Whether lanes are better points: there is no vector along the last axis of one channel and two samples."""
        narrow = self.channels == 1 and self.widths[-1] <= 2
        return narrow and not (self.looped or self.dot or any(map(any, self.orders)))

    def axis_orders(self, a: int) -> list[int]:
        """Derivative orders that occur on an axis."""
        return sorted({o[a] for o in self.orders})

    def table(self, a: int, order: int) -> Table:
        """Coefficients of the derivative of an axis's kernel."""
        return derivative(self.tables[a], order)

    @cached_property
    def slots(self) -> dict[tuple[int, int, int], int]:
        """{(axis, order, tap): row of the weight scratch}; consecutive in the tap. Two rows more hold the last axis's
        fraction and slope factor."""
        keys = [(a, o, j) for a in range(self.ndim - 1) for o in self.axis_orders(a) for j in range(self.widths[a])]
        return {key: row for row, key in enumerate(keys)}

    def scratch(self, dtype: Any, index: Any) -> tuple[np.ndarray, np.ndarray]:
        """(base, w): room for what stage 1 hands to stage 2; base also holds flags and first indices."""
        return np.zeros((2 + self.ndim) * BLOCK + 2, index), np.empty((len(self.slots) + 2) * BLOCK, dtype)


def horner(coefficients: Iterable[Any], t: Any) -> Any:
    """The polynomial, constant term first, at t."""
    *rest, value = coefficients
    for c in reversed(rest):
        value = t * value + c
    return value


def power(f: Any, n: int) -> Any:
    """f**n, n >= 1."""
    return f if n == 1 else f * power(f, n - 1)


def accumulate(sums: dict[Any, Any], key: Any, value: Any) -> None:
    """sums[key] += value."""
    sums[key] = sums[key] + value if key in sums else value


def fold(m: Any, how: str, x: Any, frame: list[Any]) -> tuple[Any, Any, Any, Any]:
    """A coordinate -> (the one on the grid it folds to, in samples; its slope; whether NaN; whether off the spline)."""
    origin, inverse, lowest, highest, period, inverse_period, _ = frame
    u = (x - origin) * inverse
    if how in ("hold", "inside"):
        y = m.select(u > lowest, u, lowest)
        y = m.select(y < highest, y, highest)
        slope = m.select((u < lowest) | (u > highest), inverse * 0.0, inverse)
        off = (u < lowest - period) | (u > highest + period) if how == "inside" else None  # period: rounding slack
        return y, slope, m.not_number(u), off
    start = lowest if how == "reflect" else lowest * 0.0
    z = u - start
    z = z - period * m.floor(z * inverse_period)
    if how == "wrap":
        return z, inverse, m.not_number(z), None
    slope = m.select(z > period * 0.5, inverse * -1.0, inverse)
    return m.select(z > period * 0.5, period - z, z) + start, slope, m.not_number(z), None


def note(m: Any, base: Any, q: Any, offset: Any, nan: Any, off: Any, edge: Any) -> Any:
    """Store where the stencil of point q begins, and why it is special; that is returned too."""
    flag = m.bit(nan, 0, base)
    if off is not None:
        flag = flag + m.bit(off, 1, base)
    if edge is not None:
        flag = flag + m.bit(edge, 2, base)
        offset = m.select(edge, offset * 0, offset)
    m.store(base, q, offset)
    m.store(base, q + BLOCK, flag)
    return flag


@staged
def locate(m: Any, spec: Any, grid: Any, x: Any, frame: Any, first: Any, count: Any, base: Any, w: Any) -> None:
    """Points first ... first + count: offset of the stencil -> base[q], why it is special -> base[BLOCK + q], weights
    of the leading axes and the last axis's fraction and slope -> w[:, q]; any special -> base[(2 + ndim) * BLOCK]."""
    nd, rows = spec.ndim, len(spec.slots)
    frames = [[m.load(frame, a * FRAME + k) for k in range(FRAME)] for a in range(nd)]
    strides = [m.narrow(m.stride(grid, a + 1), base) for a in range(nd)]

    def body(q: Any, carry: list[Any]) -> list[Any]:
        # all loads before the first store lets LLVM de-interleave the coordinates (15% of a 3-D gather)
        xs = [m.load(x, (first + q) * nd + a) for a in range(nd)]
        offset, nan, off, edge = None, None, None, None
        for a in range(nd):
            y, slope, is_nan, is_off = fold(m, spec.folds[a], xs[a], frames[a])
            v = y + spec.offsets[a] if spec.offsets[a] else y
            last_cell = frames[a][FRAME - 1]
            if spec.folds[a] not in ("hold", "inside"):
                # folding by a period leaves rounding errors, of 1e30 nothing else; NaN goes to cell 0
                v = m.select(v > 0.0, v, last_cell * 0.0)
                v = m.select(v < last_cell + 1.0, v, last_cell + 1.0)
            cell = m.truncate(m.select(v < last_cell, v, last_cell), base)
            t = v - m.to_float(cell, v)
            for (axis, o, j), s in spec.slots.items():
                if axis == a:
                    weight = horner(spec.table(a, o)[j], t)
                    m.store(w, q + s * BLOCK, weight * power(slope, o) if o else weight)
            if spec.direct:
                cell = cell + spec.firsts[a]
                m.store(base, q + (2 + a) * BLOCK, cell)
                room = m.narrow(m.shape(grid, a + 1), base) - spec.widths[a]
                crosses = (cell < 0) | (cell > room)
                edge = crosses if edge is None else edge | crosses
            step = cell * strides[a]
            offset = step if offset is None else offset + step
            nan = is_nan if nan is None else nan | is_nan
            if is_off is not None:
                off = is_off if off is None else off | is_off
        m.store(w, q + rows * BLOCK, t)
        if any(o[-1] for o in spec.orders):
            m.store(w, q + (rows + 1) * BLOCK, slope)
        return [carry[0] | note(m, base, q, offset, nan, off, edge)]

    zero = m.narrow(count * 0, base)
    (special,) = m.loop(0, count, body, [zero])
    m.store(base, (2 + nd) * BLOCK, special)


def stage_two(m: Any, spec: Any, w: Any, q: Any) -> tuple[Any, dict[int, Any]]:
    """The weights of point q: a function (axis, order, tap) -> scalar, and per order the last axis's vector, whose
    lanes are (tap, channel)."""
    nd, rows = spec.ndim, len(spec.slots)
    known = {key: m.load(w, q + s * BLOCK) for key, s in spec.slots.items() if key[0] >= spec.looped}

    def weight(a: int, o: int, j: Any) -> Any:
        if a >= spec.looped:
            return known[a, o, j]
        return m.load(w, q + (j + spec.slots[a, o, 0]) * BLOCK)

    t = m.load(w, q + rows * BLOCK)
    last = {}
    for o in spec.axis_orders(nd - 1):
        table = spec.table(nd - 1, o)
        lanes = [m.const(w, [row[p] for row in table for _ in range(spec.channels)]) for p in range(len(table[0]))]
        value = horner(lanes, t)
        last[o] = value * power(m.load(w, q + (rows + 1) * BLOCK), o) if o else value
    return weight, last


def contract_taps(m: Any, spec: Any, grid: Any, g: Any, base: Any, z: Any, w: Any, q: Any) -> list[Any]:
    """Per order: the lanes (tap, channel) of the last axis, whose sum over the taps is the derivative of grid[g]."""
    weight, last = stage_two(m, spec, w, q)
    nd = spec.ndim
    lanes = spec.widths[-1] * spec.channels
    strides = [m.stride(grid, a + 1) for a in range(nd)]

    def contract(a: int, p: Any, orders: list[tuple[int, ...]]) -> dict[tuple[int, ...], Any]:
        """{orders of axes a ... but the last: sum over their taps} of the grid's rows from offset p."""
        if a == nd - 1:
            return {(): m.load(grid, p, lanes, slack=not spec.direct)}
        inner = list(dict.fromkeys(o[1:] for o in orders))
        if a < spec.looped:

            def body(j: Any, carry: list[Any]) -> list[Any]:
                sub = contract(a + 1, p + j * strides[a], inner)
                return [c + weight(a, o[0], j) * sub[o[1:]] for o, c in zip(orders, carry, strict=True)]

            zero = m.const(w, [0.0] * lanes)
            return dict(zip(orders, m.loop(0, spec.widths[a], body, [zero] * len(orders)), strict=True))
        sums: dict[tuple[int, ...], Any] = {}
        for j in range(spec.widths[a]):
            sub = contract(a + 1, p + j * strides[a], inner)
            for o in orders:
                accumulate(sums, o, weight(a, o[0], j) * sub[o[1:]])
        return sums

    start = m.widen(m.load(base, z)) + g * m.stride(grid, 0)
    sums = contract(0, start, list(dict.fromkeys(o[:-1] for o in spec.orders)))
    return [sums[o[:-1]] * last[o[-1]] for o in spec.orders]  # the same order twice costs nothing: LLVM merges it


def gather_code(
    m: Any, spec: Any, grid: Any, g: Any, base: Any, z: Any, w: Any, q: Any, values: Any, out: Any, b: Any, i: Any
) -> None:
    """The point with weights w[:, q] and offset base[z]: out[b, k, i, :] = d^orders[k] of grid[g]; or, for a dot,
    out[b, 0, i, a] = sum over k and the channels of values[b, k, i, :] d^orders[k, a] of grid[g]."""
    parts = contract_taps(m, spec, grid, g, base, z, w, q)
    place = b * m.stride(out, 0) + i * m.stride(out, 2)
    if not spec.dot:
        sums_of: dict[Any, Any] = {}
        for k, o in enumerate(spec.orders):
            if o not in sums_of:
                sums_of[o] = m.sum_lanes(parts[k], spec.channels)
            m.store(out, place + m.stride(out, 1) * k, sums_of[o])
        return
    source = b * m.stride(values, 0) + i * m.stride(values, 2)
    sums: dict[int, Any] = {}
    for k in range(len(spec.orders) // spec.ndim):
        v = m.tile(m.load(values, source + m.stride(values, 1) * k, spec.channels), spec.widths[-1])
        for a in range(spec.ndim):
            accumulate(sums, a, parts[k * spec.ndim + a] * v)
    for a in range(spec.ndim):
        m.store(out, place + a, m.sum_lanes(sums[a], 1))


def scatter_code(
    m: Any, spec: Any, grid: Any, g: Any, base: Any, z: Any, w: Any, q: Any, values: Any, b: Any, i: Any
) -> None:
    """The transpose of gather: grid[g] += sum_k (d^orders[k] weights) * values[b, k, i, :]."""
    weight, last = stage_two(m, spec, w, q)
    nd, channels = spec.ndim, spec.channels
    lanes = spec.widths[-1] * channels
    strides = [m.stride(grid, a + 1) for a in range(nd)]

    def spread(a: int, p: Any, parts: dict[tuple[int, ...], Any]) -> None:
        if a == nd - 1:
            return m.store(grid, p, m.load(grid, p, lanes) + parts[()])

        def row(j: Any) -> None:
            sub: dict[tuple[int, ...], Any] = {}
            for o, v in parts.items():
                accumulate(sub, o[1:], weight(a, o[0], j) * v)
            spread(a + 1, p + j * strides[a], sub)

        if a < spec.looped:
            m.loop(0, spec.widths[a], lambda j, _: row(j))
        else:
            for j in range(spec.widths[a]):
                row(j)
        return None

    place = b * m.stride(values, 0) + i * m.stride(values, 2)
    parts: dict[tuple[int, ...], Any] = {}
    for k, o in enumerate(spec.orders):
        v = m.load(values, place + m.stride(values, 1) * k, channels)
        accumulate(parts, o[:-1], last[o[-1]] * m.tile(v, spec.widths[-1]))
    spread(0, m.widen(m.load(base, z)) + g * m.stride(grid, 0), parts)


@staged
def fill(m: Any, spec: Any, out: Any, b: Any, i: Any, frame: Any, kind: Any) -> None:
    """out[b, :, i, :] for a point without a stencil: all NaN (kind 0), or cval and zero derivatives (kind 1)."""
    lanes = spec.ndim if spec.dot else spec.channels
    for row, o in enumerate(spec.orders[:1] if spec.dot else spec.orders):
        v = m.load(frame, kind + (spec.ndim * FRAME + (2 if any(o) else 0)))
        for c in range(lanes):
            m.store(out, b * m.stride(out, 0) + i * m.stride(out, 2) + (m.stride(out, 1) * row + c), v)


def edge_block(
    m: Any, spec: Any, grid: Any, g: Any, block: Any, base: Any, q: Any, index: Any, weight: Any, visit: Any
) -> None:
    """Call visit(place in the block, place in the grid, weight) for all samples of a stencil that crosses the ends.

    The tables have a row per sample of the margins, and one, the last of an axis, for samples on the grid.
    """
    length, terms = m.shape(index, 1), m.shape(index, 2)

    def nest(a: int, place: Any, source: Any, product: Any) -> None:
        if a == spec.ndim:
            return visit(place, source, product)
        start, n, before = m.widen(m.load(base, q + (2 + a) * BLOCK)), m.shape(grid, a + 1), -spec.firsts[a]

        def tap(j: Any, _: Any) -> None:
            k = start + j  # the sample's index on the grid
            beyond = (k < 0) | (k > n - 1)
            margin = m.select(k < 0, k + before, k - n + before)
            line = m.select(beyond, margin, length - 1) + length * a

            def term(t: Any, _: Any) -> None:
                row = line * terms + t
                own = m.load(weight, row)
                sample = m.load(index, row) + m.select(beyond, k * 0, k)
                inner = source + sample * m.stride(grid, a + 1)
                nest(a + 1, place + j * m.stride(block, a + 1), inner, own if product is None else product * own)

            m.loop(0, terms, term)

        m.loop(0, spec.widths[a], tap)
        return None

    nest(0, g * 0, g * m.stride(grid, 0), None)


@staged
def gather_edge(
    m: Any, spec: Any, grid: Any, g: Any, block: Any, base: Any, w: Any, q: Any, index: Any, weight: Any,
    frame: Any, values: Any, out: Any, b: Any, i: Any,
) -> None:  # fmt: skip
    """gather for a stencil that crosses the ends of a grid read directly: its samples are collected first."""
    if not spec.direct:
        return
    cval = m.load(frame, spec.ndim * FRAME + 4)
    m.loop(0, int(np.prod(spec.widths)), lambda j, _: m.store(block, j, cval))

    def collect(place: Any, source: Any, own: Any) -> None:
        part = own * (m.load(grid, source) - cval)
        m.store(block, place, m.load(block, place) + m.select((own < 0.0) | (own > 0.0), part, 0.0))  # NaN stays away

    edge_block(m, spec, grid, g, block, base, q, index, weight, collect)
    gather_code(m, spec, block, g * 0, base, (2 + spec.ndim) * BLOCK + 1, w, q, values, out, b, i)


@staged
def scatter_edge(
    m: Any, spec: Any, grid: Any, g: Any, block: Any, base: Any, w: Any, q: Any, index: Any, weight: Any,
    values: Any, b: Any, i: Any,
) -> None:  # fmt: skip
    """scatter for such a stencil: into a block of zeros first, then from there to the samples it stands for."""
    if not spec.direct:
        return
    m.loop(0, int(np.prod(spec.widths)), lambda j, _: m.store(block, j, 0.0))
    scatter_code(m, spec, block, g * 0, base, (2 + spec.ndim) * BLOCK + 1, w, q, values, b, i)

    def distribute(place: Any, target: Any, own: Any) -> None:
        part = own * m.load(block, place)
        m.store(grid, target, m.load(grid, target) + m.select((own < 0.0) | (own > 0.0), part, 0.0))

    edge_block(m, spec, grid, g, block, base, q, index, weight, distribute)


gather, scatter = staged(gather_code), staged(scatter_code)


def _sample(spec, grid, x, values, out, frame, block, index, weight, base, w, start, stop):  # type: ignore[no-untyped-def]
    n_points, nd = x.shape[1], x.shape[2]
    i = start
    while i < stop:
        b = i // n_points
        n = i - b * n_points
        m = min(BLOCK, stop - i, n_points - n)
        locate(spec, grid, x, frame, i, m, base, w)
        for q in range(m):
            gather(spec, grid, b, base, q, w, q, values, out, b, n + q)
        if base[(2 + nd) * BLOCK]:
            for q in range(m):
                flag = base[BLOCK + q]
                if flag & NAN:
                    fill(spec, out, b, n + q, frame, 0)
                elif flag & OUTSIDE:
                    fill(spec, out, b, n + q, frame, 1)
                elif flag:
                    gather_edge(spec, grid, b, block, base, w, q, index, weight, frame, values, out, b, n + q)
        i += m


def _splat(spec, grid, x, values, frame, block, index, weight, base, w, start, stop):  # type: ignore[no-untyped-def]
    n_points = x.shape[1]
    i = start
    while i < stop:
        b = i // n_points
        n = i - b * n_points
        m = min(BLOCK, stop - i, n_points - n)
        locate(spec, grid, x, frame, i, m, base, w)
        for q in range(m):
            flag = base[BLOCK + q]
            if flag == 0:
                scatter(spec, grid, b, base, q, w, q, values, b, n + q)
            elif flag == EDGE:
                scatter_edge(spec, grid, b, block, base, w, q, index, weight, values, b, n + q)
        i += m


def _cells(spec, grid, x, frame, axis, slab_of, out, base, w, start, stop):  # type: ignore[no-untyped-def]
    """out[i] = slab_of[the cell of point i along one axis], points of one batch item; for a direct spec."""
    i = start
    while i < stop:
        m = min(BLOCK, stop - i)
        locate(spec, grid, x, frame, i, m, base, w)
        for q in range(m):
            out[i + q] = slab_of[base[(2 + axis) * BLOCK + q]]
        i += m


@functools.cache
def entry(kind: str, spec: Spec, dtype: str, index: str) -> Any:
    """The compiled "sample", "splat" or "cells" kernel of a specialisation, for a dtype of numbers and of offsets."""
    real, offsets, i64 = np.dtype(dtype), np.dtype(index), types.int64
    grid, one, table = array(real, spec.ndim + 2), array(real, 1, "C"), array(np.int64, 3, "C")
    scratch = (array(offsets, 1, "C"), one, i64, i64)
    if kind == "cells":
        args = (grid, array(real, 3, "C"), one, i64, *(array(np.int64, 1, "C"),) * 2)
    else:
        fields = (array(real, 4),) * (2 if kind == "sample" else 1)
        args = (grid, array(real, 3, "C"), *fields, one, grid, table, array(real, 3, "C"))
    f = {"sample": _sample, "splat": _splat, "cells": _cells}[kind]
    typ = spec._numba_type_  # type: ignore[attr-defined]
    return compiled(f, f"{typ.digest}_{dtype}_{index}", (typ, *args, *scratch))
