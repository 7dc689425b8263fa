"""correlate: y[i] = sum_k w[k] v[i + k - before], v being zero beyond its ends, by the cheapest of four ways.

"separable": the weights are an outer product; one pass for each axis.
"running sums": such a pass whose weights are constant but for the two outermost costs the same for any width: what
comes in is added, what goes out is taken away (in float64, or the roundings of a long line would add up).
"direct": rows of weights along the last axis, of which many are the same: of a ball those as far from its axis. Rows of
the array that meet the same weights are added up first, then weighted once. A ball of radius 6 in 3-D has 137 rows of
23 kinds, and takes 362 reads instead of 1285.
"fft": the product of spectra, always in float64, so that cells that nothing reaches are 0 to 1e-16 of the largest.

All but the last are one kernel: a row of the result is a sum of shifted stretches of memory of the padded array.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from math import log2, prod
from typing import Any

import numpy as np
import scipy.fft
from numba import types

from ..scheme import decode
from . import threads
from .cache import SOURCES, array, compiled
from .machine import WHOLE, specialising, staged
from .scratch import scratch

Array = np.ndarray[Any, Any]
Shape = tuple[int, ...]

CHUNK = 512  # elements of a row at a time: what is added up stays in the first-level cache
AT_ONCE = 8  # vectors of a sum: multiply-adds wait four cycles for the one before, and two begin in each
# measured, ns: a read of a vector of 64 bytes, of rows of a padded array that follow one another, and of rows that are
# pages apart; a pass over the array, a byte; running sums, an element; FFT both ways, an element and a doubling
READ_NS, FAR_NS, PASS_NS, RUN_NS, FFT_NS = 0.75, 3.0, 0.25, 2.5, 1.8
KEPT = 4  # spectra: 22 MB each at 128**3


@specialising(SOURCES)
@dataclass(frozen=True)
class Vectors:
    """What the kernel is specialised to."""

    lanes: int


@staged
def combine(
    m: Any, spec: Any, source: Any, base: Any, offsets: Any, weights: Any, first: Any, last: Any, out: Any, vectors: Any
) -> None:
    """out += sum over t from first to last of weights[t] source[base + offsets[t] ...], so many vectors of each."""
    n = spec.lanes

    def several(v: Any, count: int) -> None:
        at = base + v * n

        def term(t: Any, sums: list[Any]) -> list[Any]:
            w, place = m.load(weights, t), at + m.load(offsets, t)
            return [s + m.load(source, place + i * n, n) * w for i, s in enumerate(sums)]

        sums = m.loop(first, last, term, [m.load(out, (v + i) * n, n) for i in range(count)])
        for i, s in enumerate(sums):
            m.store(out, (v + i) * n, s)

    blocks = m.quotient(vectors, AT_ONCE)
    m.loop(0, blocks, lambda b, _: several(b * AT_ONCE, AT_ONCE))
    m.loop(blocks * AT_ONCE, vectors, lambda v, _: several(v, 1))


def _rows(spec, source, out, dims, ints, lead, ones, group, offsets, weights, taps, room, start, stop):  # type: ignore[no-untyped-def]
    """Rows of the result, cut into chunks; dims: of the rows in the result, and in the source; ints: length of a row,
    distance of rows in the source, width of the weights along it, chunk. Group g is rows group[g] ... of the source,
    added up, times weights taps[g] ...; without groups, all weights are of stretches of the source."""
    n, step, width, chunk = ints[0], ints[1], ints[2], ints[3]
    lanes, chunks = len(room) // 2, (n + chunk - 1) // chunk
    vector = ints[4]
    total, row = room[:lanes], room[lanes:]
    for task in range(start, stop):
        line, first = task // chunks, task % chunks * chunk
        base, rest, size = 0, line, 1
        for a in range(dims.shape[1] - 1, -1, -1):
            base += rest % dims[0, a] * size
            rest //= dims[0, a]
            size *= dims[1, a]
        base, count = base * step + first, min(chunk, n - first)
        total[:] = 0
        if len(group) == 1:
            combine(spec, source, base, offsets, weights, taps[0], taps[1], total, (count + vector - 1) // vector)
        for g in range(len(group) - 1):
            row[:] = 0
            combine(spec, source, base, lead, ones, group[g], group[g + 1], row, (count + width + vector - 2) // vector)
            combine(spec, row, 0, offsets, weights, taps[g], taps[g + 1], total, (count + vector - 1) // vector)
        target = out[line * n + first : line * n + first + count]
        for k in range(count):  # no slice is assigned: the text of its errors takes 3 s to compile
            target[k] = total[k]


def _running(source, out, ints, ends, start, stop):  # type: ignore[no-untyped-def]
    """(lines, n + width - 1, inner) -> (lines, n, inner): weights ends[0], ends[1], ends[1], ..., ends[2]."""
    n, width, inner, chunk = ints[0], ints[1], ints[2], ints[3]
    chunks = (inner + chunk - 1) // chunk
    sums = np.empty(chunk)
    for task in range(start, stop):
        line, first = task // chunks, task % chunks * chunk
        count = min(chunk, inner - first)
        at, to = line * (n + width - 1) * inner + first, line * n * inner + first
        if inner == 1:
            total = 0.0
            for k in range(1, width - 1):
                total += source[at + k]
            for i in range(n):
                new = np.float64(source[at + i + width - 1])
                out[to + i] = ends[1] * total + ends[0] * source[at + i] + ends[2] * new
                total += new - source[at + i + 1]
            continue
        sums[:] = 0
        for k in range(1, width - 1):
            for j in range(count):
                sums[j] += source[at + k * inner + j]
        for i in range(n):
            low, new = at + i * inner, at + (i + width - 1) * inner
            for j in range(count):
                x = np.float64(source[new + j])
                out[to + i * inner + j] = ends[1] * sums[j] + ends[0] * source[low + j] + ends[2] * x
                sums[j] += x - source[low + inner + j]


def _place(source, out, dims, start, stop):  # type: ignore[no-untyped-def]
    """Lines of the source into the middle of an array with zeros around it; dims rows: n, padded n, before."""
    nd = dims.shape[1]
    n, wide, before = dims[0, nd - 1], dims[1, nd - 1], dims[2, nd - 1]
    for line in range(start, stop):  # of the padded array
        rest, row, size, inside = line, 0, 1, True
        for a in range(nd - 2, -1, -1):
            k = rest % dims[1, a] - dims[2, a]
            inside &= (k >= 0) & (k < dims[0, a])
            row += k * size
            size *= dims[0, a]
            rest //= dims[1, a]
        target = out[line * wide : (line + 1) * wide]
        if inside:
            target[:before] = 0
            target[before : before + n] = source[row * n : (row + 1) * n]
            target[before + n :] = 0
        else:
            target[:] = 0


@functools.cache
def entry(kind: str, dtype: str) -> Any:
    """A compiled kernel: "rows", "running" or "place"."""
    flat, whole, i64 = array(dtype, 1, "C"), array(np.int64, 1, "C"), types.int64
    dims = array(np.int64, 2, "C")
    if kind == "rows":
        spec = Vectors(WHOLE // np.dtype(dtype).itemsize)
        signature = (spec._numba_type_, flat, flat, dims, whole, whole, flat, whole, whole, flat, whole, flat, i64, i64)  # type: ignore[attr-defined]
        return functools.partial(compiled(_rows, dtype, signature, contract=True), spec)
    if kind == "running":
        return compiled(_running, dtype, (flat, flat, whole, array(np.float64, 1, "C"), i64, i64), contract=True)
    return compiled(_place, dtype, (flat, flat, dims, i64, i64))


def factors(table: Array) -> list[Array] | None:
    """The vectors whose outer product the weights are, if they are one."""
    peak = np.unravel_index(np.argmax(np.abs(table)), table.shape)
    largest = table[peak]
    if largest == 0:
        return None
    lines = [table[(*peak[:a], slice(None), *peak[a + 1 :])] / largest for a in range(table.ndim)]
    product = functools.reduce(np.multiply.outer, lines) * largest
    if np.abs(product - table).max() > 1e-14 * abs(largest):
        return None
    return [lines[0] * largest, *lines[1:]]


class Pass:
    """One axis of separable weights, on (lines, n + width - 1, inner) -> (lines, n, inner)."""

    def __init__(self, weights: Array, n: int, inner: int, dtype: str) -> None:
        self.n, self.inner, self.dtype = n, inner, dtype
        size = np.dtype(dtype).itemsize
        used = np.flatnonzero(weights)
        direct = (READ_NS if inner == 1 else FAR_NS) * len(used) * size / WHOLE + PASS_NS * size
        constant = len(weights) >= 3 and len(set(weights[1:-1].tolist())) == 1
        self.running = constant and RUN_NS < direct
        self.ns = min(direct, RUN_NS) if constant else direct
        self.weights, self.width = weights, len(weights)
        self.used, self.taps = used * inner, weights[used].astype(dtype)
        self.ends = np.array([weights[0], weights[1], weights[-1]]) if constant else np.zeros(3)

    def __call__(self, source: Array, out: Array, lines: int, exact: bool) -> None:
        """exact: no running sums, which an infinity would spoil for ever."""
        work = self.ns * lines * self.n * self.inner
        if self.running and not exact:
            chunk = min(CHUNK, self.inner)
            ints, kernel = np.array([self.n, self.width, self.inner, chunk]), entry("running", self.dtype)
            tasks = lines * -(-self.inner // chunk)
            threads.over(lambda i, j: kernel(source, out, ints, self.ends, i, j), tasks, work, align=1)
            return
        if self.inner == 1:  # the rows are the lines
            dims, length, step = np.array([[lines], [lines]]), self.n, self.n + self.width - 1
        else:
            dims = np.array([[lines, self.n], [lines, self.n + self.width - 1]])
            length = step = self.inner
        run_rows(source, out, dims, (length, step, 1), None, self.used, self.taps, np.array([0, len(self.used)]), work)


def run_rows(
    source: Array, out: Array, dims: Array, ints: tuple[int, ...], groups: Any, offsets: Array, weights: Array,
    taps: Array, work: float,
) -> None:  # fmt: skip
    """Rows of the result on all threads; groups: (rows of the source, where each group begins), or None."""
    dtype, vector = out.dtype, WHOLE // out.itemsize
    chunk = min(CHUNK, ints[0])
    lead, group = groups or (np.zeros(1, np.int64), np.zeros(1, np.int64))
    ones, kernel = np.ones(len(lead), dtype), entry("rows", dtype.name)
    half = -(-(chunk + ints[2] + 2 * vector) // vector) * vector
    numbers = np.array([*ints, chunk, vector])

    def part(i: int, j: int) -> None:
        with scratch(2 * half, dtype) as room:
            kernel(source, out, dims, numbers, lead, ones, group, offsets, weights, taps, room, i, j)

    threads.over(part, prod(dims[0].tolist()) * -(-ints[0] // chunk), work, align=1)


class Plan:
    """How weights meet arrays (batch, *shape) of one shape and type."""

    def __init__(self, shape: Shape, text: str, dtype: str) -> None:
        static = decode(text)
        self.text, self.dtype, self.shape = text, np.dtype(dtype), shape
        self.table, self.befores = static.table, static.befores
        self.out = static.sizes(shape)
        self.padded = tuple(n + k - 1 for n, k in zip(self.out, static.shape, strict=True))
        self.rows: Any = None
        self.passes: list[Pass] = []
        split = factors(self.table)
        if split is not None:
            inner = [prod(self.padded[a + 1 :]) for a in range(len(shape))]
            self.passes = [Pass(w, n, i, dtype) for w, n, i in zip(split, self.out, inner, strict=True)]
            # passes over the last axes come last: those before still have the margins of these
            direct = sum(p.ns * prod(self.out[: a + 1]) * p.inner for a, p in enumerate(self.passes))
        else:
            lanes = WHOLE // self.dtype.itemsize
            # rows begin on a cache line: a vector that lies in two takes two reads
            self.padded = (*self.padded[:-1], -(-self.padded[-1] // lanes) * lanes)
            direct = self._direct(self._least())
        self.fine = tuple(
            scipy.fft.next_fast_len(max(n + b, m - b + k - 1, k), real=True) or 1
            for n, m, b, k in zip(shape, self.out, self.befores, static.shape, strict=True)
        )
        fourier = FFT_NS * prod(self.fine) * max(log2(prod(self.fine)), 1)
        # groups of 255**2 rows take half a second to find
        if split is None and direct < 4 * fourier:
            self.rows, reads = self._rows()
            direct = self._direct(reads)
        way = "direct" if split is None else "running sums" if any(p.running for p in self.passes) else "separable"
        self.ns = {way: direct, "fft": fourier}
        self.method = min(self.ns, key=lambda name: self.ns[name])

    def _direct(self, reads: float) -> float:
        """Nanoseconds by rows."""
        return (reads * READ_NS / WHOLE + 2 * PASS_NS) * self.dtype.itemsize * prod(self.out)

    def _least(self) -> float:
        """Reads of an element of the result if all rows had the same weights."""
        length = self.table.shape[-1]
        used = np.count_nonzero(np.any(self.table.reshape(-1, length) != 0, -1))
        return used * (1 + (length - 1) / max(self.out[-1], 1))

    def _rows(self) -> tuple[Any, float]:
        """Groups of rows with the same weights; how many reads an element of the result takes."""
        flat = self.table.reshape(-1, self.table.shape[-1])
        used = np.flatnonzero(np.any(flat != 0, -1))
        kinds, kind = np.unique(flat[used], axis=0, return_inverse=True)
        kind = kind.reshape(-1)
        order = np.argsort(kind, kind="stable")
        places = np.stack(np.unravel_index(used[order], self.table.shape[:-1]), 0) if self.table.ndim > 1 else None
        steps = [prod(self.padded[a + 1 :]) for a in range(self.table.ndim - 1)]
        lead = np.zeros(len(used), np.int64) if places is None else np.dot(steps, places)
        group = np.concatenate([[0], np.cumsum(np.bincount(kind, minlength=len(kinds)))])
        offsets = [np.flatnonzero(k) for k in kinds]
        taps = np.concatenate([[0], np.cumsum([len(o) for o in offsets])])
        weights = np.concatenate([k[o] for k, o in zip(kinds, offsets, strict=True)] or [np.zeros(0)])
        where = np.concatenate(offsets or [np.zeros(0, np.int64)])
        reads = len(used) * (1 + (self.table.shape[-1] - 1) / max(self.out[-1], 1)) + len(weights)
        whole = (lead.astype(np.int64), group.astype(np.int64)), where.astype(np.int64)
        return (*whole, weights.astype(self.dtype), taps.astype(np.int64)), reads

    def __call__(self, values: Array) -> Array:
        """(batch, *shape) -> (batch, *out)."""
        values = np.ascontiguousarray(values, self.dtype)
        out = np.empty((len(values), *self.out), self.dtype)
        if out.size == 0 or not self.table.any():
            out[...] = 0
            return out
        exact = False
        if self.method in ("fft", "running sums"):
            with np.errstate(all="ignore"):
                exact = not np.isfinite(np.sum(values))  # a NaN or an infinity would spoil all
        if self.method == "fft" and not exact:
            return self._transformed(values, out)
        if self.rows is None and not self.passes:  # of infinite numbers there is no FFT
            self.rows, _ = self._rows()
        slack = CHUNK + 2 * WHOLE
        with scratch(len(values) * prod(self.padded) + slack, self.dtype) as memory:
            self._padded(values, memory)
            if self.rows:
                self._grouped(memory, out)
            else:
                self._chained(memory, out, slack, exact)
        return out

    def _padded(self, values: Array, memory: Array) -> None:
        """The values with zeros around them, and after them: whole vectors are read."""
        count = len(values) * prod(self.padded)
        memory[count:] = 0
        dims = np.array([(len(values), *self.shape), (len(values), *self.padded), (0, *self.befores)])
        lines, kernel, flat = count // self.padded[-1], entry("place", self.dtype.name), values.reshape(-1)
        threads.over(lambda i, j: kernel(flat, memory, dims, i, j), lines, PASS_NS * count * self.dtype.itemsize)

    def _grouped(self, memory: Array, out: Array) -> None:
        dims = np.array([(len(out), *self.out[:-1]), (len(out), *self.padded[:-1])])
        ints = self.out[-1], self.padded[-1], self.table.shape[-1]
        run_rows(memory, out.reshape(-1), dims, ints, *self.rows, self.ns["direct"] * len(out))

    def _chained(self, memory: Array, out: Array, slack: int, exact: bool) -> None:
        source, lines = memory, len(out)
        held: list[scratch] = []
        for a, step in enumerate(self.passes):
            last = a == len(self.passes) - 1
            room = scratch(lines * step.n * step.inner + (0 if last else slack), self.dtype)
            target = out.reshape(-1) if last else room.__enter__()
            if not last:
                target[lines * step.n * step.inner :] = 0
                held.append(room)
            step(source, target, lines, exact)
            source, lines = target, lines * step.n
            while len(held) > (0 if last else 1):  # what has been read
                held.pop(0).__exit__()

    def _transformed(self, values: Array, out: Array) -> Array:
        axes, workers = tuple(range(1, values.ndim)), threads.get_num_threads()
        spectrum = _spectrum(self.text, self.shape, self.fine)
        middle = tuple(slice(n) for n in self.out)
        for k, item in enumerate(values):  # one at a time: the transform is 4 times as large as float32
            modes = scipy.fft.rfftn(item.astype(np.float64), self.fine, [a - 1 for a in axes], workers=workers)
            modes *= spectrum
            out[k] = scipy.fft.irfftn(modes, self.fine, workers=workers, overwrite_x=True)[middle]
        return out


@functools.lru_cache(maxsize=KEPT)
def _spectrum(text: str, shape: Shape, fine: Shape) -> Array:
    """Of the weights, placed so that the result begins at 0 (sum_k w[k] v[i + k - before] is a correlation)."""
    static = decode(text)
    placed = np.zeros(fine)
    placed[np.ix_(*(np.arange(k) for k in static.shape))] = static.table
    placed = np.roll(placed, tuple(-b for b in static.befores), tuple(range(placed.ndim)))
    return scipy.fft.rfftn(placed, workers=threads.get_num_threads()).conj()


_plan: Callable[..., Plan] = functools.lru_cache(maxsize=256)(Plan)
_large: Callable[..., Plan] = functools.lru_cache(maxsize=KEPT)(Plan)
LARGE = 2**20  # characters


def plan(shape: Shape, text: str, dtype: str) -> Plan:
    """The plan for arrays (batch, *shape)."""
    return (_large if len(text) > LARGE else _plan)(tuple(shape), text, dtype)
