"""Points of a periodic fine grid: where they are, sorted by tiles, and the kernels that gather and scatter there.

The stencils, weights and taps are those of taps.py. What differs: a point is located once, in float64 (in float32 the
cell of x = 3 on a grid of 4096 is 2e-4 off), and kept as its first sample and its fraction, in the order of tiles that
fit the cache; at 1e6 points in 128**3 unsorted stencils wait for memory most of the time.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from math import pi, prod
from typing import Any

import numpy as np
from numba import types

from . import threads
from .cache import array, compiled
from .machine import staged
from .taps import BLOCK, Spec, gather, horner, power, scatter

Array = np.ndarray[Any, Any]

TILES = {1: (512,), 2: (32, 64), 3: (8, 8, 16)}  # samples, powers of 2; of more axes 8 each
SORTED = 2**13  # points from which on sorting pays, as threads can then share the work
LOCATE_NS, SORT_NS, TAP_NS = 1.5, 6.0, 0.12  # measured: of a coordinate; of a point; of a tap
TWO_PI_REST = 2.4492935982947064e-16  # 2 pi - float(2 pi)


@staged
def place(m: Any, spec: Any, x: Any, frame: Any, first: Any, stop: Any, cells: Any, t: Any) -> None:
    """Points first ... stop: where their stencils start, and their fractions.

    x - period floor(x / period) with the period in two parts, and the fraction by one rounding from that.
    """
    nd = spec.ndim
    frames = [[m.load(frame, a * 7 + k) for k in range(7)] for a in range(nd)]

    def body(i: Any, _: Any) -> None:
        xs = [m.to_double(m.load(x, i * nd + a)) for a in range(nd)]
        for a in range(nd):
            period, rest, inverse, scale, scale_rest, shift, n = frames[a]
            turns = m.floor(xs[a] * inverse)
            r = (xs[a] - turns * period) - turns * rest
            start = m.floor(r * scale + shift)
            fraction = (r * scale - (start - shift)) + r * scale_rest
            start = m.select(start < 0.0, start + n, start)
            start = m.select(start > n - 1.0, start - n, start)
            finite = (fraction > -1.0) & (fraction < 2.0)
            start = m.select(finite, start, n * 0.0)
            m.store(cells, i * nd + a, m.truncate(start, cells))
            m.store(t, i * nd + a, m.as_element(m.select(finite, fraction, r * 0.0 + (r - r)), t))

    m.loop(first, stop, body)


@staged
def weigh(
    m: Any, spec: Any, grid: Any, cells: Any, t: Any, slope: Any, first: Any, count: Any, base: Any, w: Any
) -> None:
    """What taps.locate leaves for stage 2, for points whose first sample and fraction are known."""
    nd, rows = spec.ndim, len(spec.slots)
    strides = [m.narrow(m.stride(grid, a + 1), base) for a in range(nd)]
    slopes = [m.load(slope, a) for a in range(nd)]

    def body(q: Any, _: Any) -> None:
        ts = [m.load(t, (first + q) * nd + a) for a in range(nd)]
        starts = [m.load(cells, (first + q) * nd + a) for a in range(nd)]
        offset = None
        for a in range(nd):
            step = m.cast(starts[a], base) * strides[a]
            offset = step if offset is None else offset + step
            for (axis, o, j), s in spec.slots.items():
                if axis == a:
                    weight = horner(spec.table(a, o)[j], ts[a])
                    m.store(w, q + s * BLOCK, weight * power(slopes[a], o) if o else weight)
        m.store(w, q + rows * BLOCK, ts[-1])
        m.store(w, q + (rows + 1) * BLOCK, slopes[-1])
        m.store(base, q, offset)

    m.loop(0, count, body)


def _place(spec, x, frame, first, stop, cells, t):  # type: ignore[no-untyped-def]
    place(spec, x, frame, first, stop, cells, t)


def _gather(spec, grid, cells, t, slope, order, values, out, b, base, w, start, stop):  # type: ignore[no-untyped-def]
    i = start
    while i < stop:
        m = min(BLOCK, stop - i)
        weigh(spec, grid, cells, t, slope, i, m, base, w)
        for q in range(m):
            gather(spec, grid, 0, base, q, w, q, values, out, b, order[i + q])
        i += m


def _scatter(spec, grid, cells, t, slope, order, values, b, base, w, start, stop):  # type: ignore[no-untyped-def]
    i = start
    while i < stop:
        m = min(BLOCK, stop - i)
        weigh(spec, grid, cells, t, slope, i, m, base, w)
        for q in range(m):
            scatter(spec, grid, 0, base, q, w, q, values, b, order[i + q])
        i += m


def _count(cells, shifts, counts, keys, found, start, stop):  # type: ignore[no-untyped-def]
    """The tile of points start ... stop, and how many are in each. Tiles have 2**shift samples, counts per axis."""
    for i in range(start, stop):
        key = 0
        for a in range(cells.shape[1]):
            key = key * counts[a] + (np.int64(cells[i, a]) >> shifts[a])  # dividing takes 25 ns a point
        keys[i] = key
        found[key] += 1


def _move(cells, t, keys, following, order, sorted_cells, sorted_t, start, stop):  # type: ignore[no-untyped-def]
    """Points start ... stop to where their tiles are; to read them in that order later takes 3 times as long."""
    for i in range(start, stop):
        p = following[keys[i]]
        following[keys[i]] = p + 1
        order[p] = i
        for a in range(cells.shape[1]):
            sorted_cells[p, a] = cells[i, a]
            sorted_t[p, a] = t[i, a]


@functools.cache
def entry(kind: str, spec: Spec, dtype: str, index: str) -> Any:
    """A compiled kernel: "place", "count", "move", "gather" or "scatter"."""
    real, i64 = np.dtype(dtype), types.int64
    whole, numbers = array(np.int32, 2, "C"), array(real, 2, "C")
    typ = spec._numba_type_  # type: ignore[attr-defined]
    label = f"{typ.digest}_{dtype}_{index}"
    if kind == "place":
        frame = array(np.float64, 1, "C")
        return compiled(_place, label, (typ, numbers, frame, i64, i64, whole, numbers))
    line, order = array(np.int64, 1, "C"), array(np.int32, 1, "C")
    if kind == "count":
        return compiled(_count, "", (whole, line, line, order, line, i64, i64))
    if kind == "move":
        return compiled(_move, dtype, (whole, numbers, order, line, order, whole, numbers, i64, i64))
    fields = (array(real, 4),) * (2 if kind == "gather" else 1)
    args = array(real, spec.ndim + 2), whole, numbers, array(real, 1, "C"), order, *fields, i64
    scratch = array(np.dtype(index), 1, "C"), array(real, 1, "C"), i64, i64
    return compiled(_gather if kind == "gather" else _scatter, label, (typ, *args, *scratch))


class Stencil:
    """The specialisation of the taps, with its kernels, for one dtype."""

    def __init__(self, spec: Spec, dtype: str) -> None:
        self.spec, self.dtype = spec, dtype
        self.taps = float(np.prod(spec.widths))
        self.kernels: dict[tuple[str, str], Any] = {}

    def kernel(self, kind: str, index: str = "int32") -> Any:
        """A compiled kernel; hashing a spec for a dictionary takes longer than a small call."""
        if (kind, index) not in self.kernels:
            self.kernels[kind, index] = entry(kind, self.spec, self.dtype, index)
        return self.kernels[kind, index]


class Fine:
    """A periodic fine grid: how coordinates become first samples and fractions, and its tiles."""

    def __init__(self, periods: tuple[float, ...], shape: tuple[int, ...], width: int, dtype: str) -> None:
        nd = len(shape)
        frame = []
        for period, size in zip(periods, shape, strict=True):
            rest = TWO_PI_REST if period == 2 * pi else 0.0
            scale = size / period
            scale_rest = (size - scale * period - scale * rest) / period
            frame += [period, rest, 1 / period, scale, scale_rest, 0.5 * (width % 2) - (width - 1) // 2, float(size)]
        self.frame, self.dtype = np.array(frame), dtype
        self.stencil = Stencil(Spec((((1.0,),) * width,) * nd, ("wrap",) * nd, (), (), ((0,) * nd,), 1, False), dtype)
        first, *rest = TILES.get(nd, (8,) * nd)
        tiles = max(first, 1 << (width - 1).bit_length()), *rest  # slabs are at least a stencil thick
        self.shifts = np.array([tile.bit_length() - 1 for tile in tiles], np.int64)
        self.counts = np.array([-(-size // tile) for size, tile in zip(shape, tiles, strict=True)], np.int64)


class Located:
    """Points (n, ndim) on a fine grid: first samples and fractions, in the order of tiles if there are many."""

    def __init__(self, points: Array, fine: Fine) -> None:
        n, nd = points.shape
        self.cells, self.t = np.empty((n, nd), np.int32), np.empty((n, nd), fine.dtype)
        place, spec = fine.stencil.kernel("place"), fine.stencil.spec
        threads.over(lambda i, j: place(spec, points, fine.frame, i, j, self.cells, self.t), n, LOCATE_NS * points.size)
        self.slabs: list[tuple[int, int]] = [(0, n)]
        if n < SORTED:
            self.order: Array = np.arange(n, dtype=np.int32)
            return
        self._sort(fine)

    def _sort(self, fine: Fine) -> None:
        """A stable counting sort, in as many parts as there are threads; the order does not depend on them."""
        n, tiles = len(self.t), prod(fine.counts.tolist())
        parts = threads.split(0, n, SORT_NS * n)
        keys, found = np.empty(n, np.int32), np.zeros((len(parts), tiles), np.int64)
        count, move = fine.stencil.kernel("count"), fine.stencil.kernel("move")
        threads.run(
            [
                functools.partial(count, self.cells, fine.shifts, fine.counts, keys, row, *part)
                for row, part in zip(found, parts)
            ]
        )
        ends = np.cumsum(found.T).reshape(tiles, -1).T  # tile by tile, of each part after part
        following = np.ascontiguousarray(ends - found)
        cells, t, self.order = np.empty_like(self.cells), np.empty_like(self.t), np.empty(n, np.int32)
        threads.run(
            [
                functools.partial(move, self.cells, self.t, keys, row, self.order, cells, t, *part)
                for row, part in zip(following, parts)
            ]
        )
        self.cells, self.t = cells, t
        per_slab = tiles // int(fine.counts[0])
        self.slabs = list(itertools.pairwise([0, *ends[-1, per_slab - 1 :: per_slab].tolist()]))

    def _call(
        self, kind: str, stencil: Stencil, grid: Array, slope: Array, fields: tuple[Array, ...], b: int
    ) -> Callable[[int, int], None]:
        index = "int64" if grid.size >= 2**31 else "int32"
        kernel, spec = stencil.kernel(kind, index), stencil.spec

        def run(start: int, stop: int) -> None:
            base, w = spec.scratch(stencil.dtype, index)
            kernel(spec, grid, self.cells, self.t, slope, self.order, *fields, b, base, w, start, stop)

        return run

    def gather(self, stencil: Stencil, grid: Array, slope: Array, values: Array, out: Array, b: int) -> None:
        """out[b, :, points, :] from a padded grid (1, *shape, channels); for a dot with values[b]."""
        run = self._call("gather", stencil, grid, slope, (values, out), b)
        threads.over(run, len(self.order), TAP_NS * len(self.order) * stencil.taps)

    def scatter(self, stencil: Stencil, grid: Array, slope: Array, values: Array, b: int) -> None:
        """grid += values[b, :, points, :]: first the even slabs, whose stencils do not meet, then the odd ones."""
        run = self._call("scatter", stencil, grid, slope, (values,), b)
        for parity in (0, 1):
            threads.run([functools.partial(run, i, j) for i, j in self.slabs[parity::2] if i < j])
