"""Points of a periodic fine grid: where they are, and in which order to take them.

Points are taken tile by tile, so that the samples of one fit the cache (at 1e6 points in 128**3 unsorted stencils wait
for memory most of the time), and within a tile by bundles (see scattering.py). What is sorted are 8 bytes a point, the
number of its bundle and its own: points that move with them made it three times slower. They are located a second time
instead, in float64 (in float32 the cell of x = 3 on a grid of 4096 is 2e-4 off), in their new order.
"""

from __future__ import annotations

import functools
import itertools
from dataclasses import dataclass
from fractions import Fraction
from math import prod
from typing import Any

import numpy as np
from numba import types

from ..scheme import period_rest
from . import threads
from .cache import SOURCES, array, compiled
from .gathering import Gather
from .machine import WHOLE, specialising, staged
from .scattering import Scatter, reached
from .scratch import scratch

Array = np.ndarray[Any, Any]

TILES = {1: (512,), 2: (32, 64), 3: (8, 8, 16)}  # samples, powers of 2; of more axes 8 each
SORTED, FEW = 2**14, 2**12  # points from which on sorting pays: threads can share the work; of a grid beyond the cache
CACHE = 2**21  # bytes of it
APART = 64  # points in a tile, on average, from which on it is summed by itself and then added to the grid
LOCATE_NS, SORT_NS, TAP_NS = 2.0, 4.0, 0.12  # measured: of a coordinate; of a point and digit; of a tap
DIGIT = 10  # bits by which points are sorted at once
ROUND = 64  # points located at once


@specialising(SOURCES)
@dataclass(frozen=True)
class Tiles:
    """What the kernels are specialised to: tiles of 2**shifts samples, bundles of 2**across along the last axis."""

    shifts: tuple[int, ...]
    across: int

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shifts)

    @property
    def bits(self) -> int:
        """Of the number of a bundle in its tile."""
        return sum(self.shifts) - self.across


@staged
def fetch(m: Any, spec: Any, x: Any, point: Any, q: Any, u: Any) -> None:
    """u[:, q] = the point."""
    for a in range(spec.ndim):
        m.store(u, q + a * ROUND, m.to_double(m.load(x, point * spec.ndim + a)))


@staged
def locate(m: Any, spec: Any, x: Any, frame: Any, cells: Any, t: Any, first: Any, row: Any) -> None:
    """Points x[a * ROUND + q]: the first sample of their stencil -> cells[a * ROUND + q], their fraction ->
    t[a * row + first + q].

    x less the nearest multiple of the period, which is exact for x from -period to period, and the fraction by one
    rounding from that; `rest`: what the period is longer by than a number can say, in cells.
    """
    lanes = WHOLE // 8
    for a in range(spec.ndim):
        period, rest, inverse, scale, scale_rest, shift, n = (m.load(frame, a * 7 + k) for k in range(7))

        def body(k: Any, _: Any, a: int = a, period: Any = period, rest: Any = rest, inverse: Any = inverse,
                 scale: Any = scale, scale_rest: Any = scale_rest, shift: Any = shift, n: Any = n) -> None:  # fmt: skip
            q = k * lanes
            u = m.load(x, q + a * ROUND, lanes)
            turns = m.floor(u * inverse + 0.5)
            r = m.fused(turns, period * -1.0, u)
            start = m.floor(m.fused(r, scale, shift))
            fraction = m.fused(r, scale, shift - start) + (r * scale_rest - turns * rest)
            start = m.select(start < 0.0, start + n, start)
            start = m.select(start > n - 1.0, start - n, start)
            finite = (fraction > -1.0) & (fraction < 2.0)
            start = m.select(finite, start, start * 0.0)
            m.store(cells, q + a * ROUND, m.truncate(m.select(finite, start, m.const(x, [0.0] * lanes)), cells))
            m.store(t, row * a + (first + q), m.as_element(m.select(finite, fraction, r * 0.0 + (r - r)), t))

        m.loop(0, ROUND // lanes, body)


@staged
def number(m: Any, spec: Any, cells: Any, counts: Any, keys: Any) -> None:
    """keys[q] = the tile of a point, then its bundle there; counts: of tiles per axis."""
    lanes, nd = WHOLE // 4, spec.ndim

    def body(k: Any, _: Any) -> None:
        tile = within = None
        for a, shift in enumerate(spec.shifts):
            cell, drop = m.load(cells, k * lanes + a * ROUND, lanes), spec.across if a == nd - 1 else 0
            part = (cell & ((1 << shift) - 1)) >> drop
            tile = cell >> shift if tile is None else tile * m.load(counts, a) + (cell >> shift)
            within = part if within is None else (within << (shift - drop)) | part
        m.store(keys, k * lanes, (tile << spec.bits) | within)

    m.loop(0, ROUND // lanes, body)


def _number(spec, x, frame, counts, packed, u, cells, keys, t, start, stop):  # type: ignore[no-untyped-def]
    """packed[i]: the bundle of a point, then its own number."""
    for i in range(start, stop, ROUND):
        m = min(ROUND, stop - i)
        for q in range(m):
            fetch(spec, x, i + q, q, u)
        locate(spec, u, frame, cells, t, 0, ROUND)
        number(spec, cells, counts, keys)
        for q in range(m):
            packed[i + q] = (np.int64(keys[q]) << 32) | (i + q)


def _count(packed, shift, found, start, stop):  # type: ignore[no-untyped-def]
    """How many there are of each digit."""
    for i in range(start, stop):
        found[(packed[i] >> shift) & (len(found) - 1)] += 1


def _move(packed, shift, following, to, start, stop):  # type: ignore[no-untyped-def]
    """Each behind the last with the same digit."""
    for i in range(start, stop):
        digit = (packed[i] >> shift) & (len(following) - 1)
        p = following[digit]
        to[p] = packed[i]
        following[digit] = p + 1


@staged
def ahead(m: Any, spec: Any, x: Any, point: Any) -> None:
    """Ask for a point before it is needed."""
    m.prefetch(x, point * spec.ndim)


@staged
def begin(m: Any, spec: Any, cells: Any, steps: Any, within: Any, first: Any, starts: Any, own: Any) -> None:
    """Where stencils begin, in the grid and in their own tiles."""
    lanes = WHOLE // 8

    def body(k: Any, _: Any) -> None:
        at = inside = None
        for a, shift in enumerate(spec.shifts):
            cell = m.load(cells, k * lanes + a * ROUND, lanes)
            here = m.cast(cell, starts) * m.load(steps, a)
            there = (cell & ((1 << shift) - 1)) * m.load(within, a)
            at, inside = (here, there) if at is None else (at + here, inside + there)
        m.store(starts, first + k * lanes, at)
        m.store(own, first + k * lanes, inside)

    m.loop(0, ROUND // lanes, body)


def _place(spec, x, frame, packed, steps, within, starts, own, t, order, u, cells, start, stop):  # type: ignore[no-untyped-def]
    """What is kept of points start ... stop of the order: where the stencil begins, in the grid and in its own tile,
    fractions, numbers."""
    for i in range(start, stop, ROUND):
        m = min(ROUND, stop - i)
        for q in range(min(ROUND, stop - i - m)):  # 20 ns a point less, of 1e6
            ahead(spec, x, packed[i + m + q] & 0xFFFFFFFF)
        for q in range(m):
            point = packed[i + q] & 0xFFFFFFFF
            order[i + q] = point
            fetch(spec, x, point, q, u)
        locate(spec, u, frame, cells, t, i, t.shape[1])
        begin(spec, cells, steps, within, i, starts, own)


@functools.cache
def entry(kind: str, spec: Tiles, dtype: str, index: str) -> Any:
    """A compiled kernel: "number", "count", "move" or "place"."""
    i64 = types.int64
    wide, line, cells = array(np.float64, 1, "C"), array(np.int64, 1, "C"), array(np.int32, 1, "C")
    if kind == "count":
        return compiled(_count, "", (line, i64, line, i64, i64))
    if kind == "move":
        return compiled(_move, "", (line, i64, line, line, i64, i64))
    typ, x = spec._numba_type_, array(dtype, 2, "C")  # type: ignore[attr-defined]
    if kind == "number":
        args = typ, x, wide, cells, line, wide, cells, cells, array(dtype, 1, "C"), i64, i64
        return compiled(_number, f"{typ.digest}_{dtype}", args)
    starts = array(index, 1, "C")
    args = typ, x, wide, line, starts, cells, starts, cells, array(dtype, 2, "C"), cells, wide, cells, i64, i64
    return compiled(_place, f"{typ.digest}_{dtype}_{index}", args)


class Fine:
    """A periodic fine grid, in memory of shape `grid`: how coordinates become samples and fractions, and its tiles."""

    def __init__(
        self, periods: tuple[float, ...], shape: tuple[int, ...], grid: tuple[int, ...], width: int, dtype: str
    ) -> None:
        nd = len(shape)
        frame = []
        for period, size in zip(periods, shape, strict=True):
            rest = period_rest(period)
            scale = size / period
            exact = Fraction(period) + Fraction(rest)  # of a million cells the last digit of the scale is 1e-10
            scale_rest = float((size - Fraction(scale) * exact) / exact)
            frame += [
                period,
                rest * scale,
                1 / period,
                scale,
                scale_rest,
                0.5 * (width % 2) - (width - 1) // 2,
                float(size),
            ]
        self.frame, self.dtype = np.array(frame), np.dtype(dtype)
        first, *rest = TILES.get(nd, (8,) * nd)
        tiles = max(first, 1 << (width - 1).bit_length()), *rest  # slabs are at least a stencil thick
        across = (WHOLE // (2 * self.dtype.itemsize)).bit_length() - 1
        self.spec = Tiles(tuple(tile.bit_length() - 1 for tile in tiles), across)
        self.counts = np.array([-(-size // tile) for size, tile in zip(shape, tiles, strict=True)], np.int32)
        # a tile by itself, with all that its stencils reach
        beyond = *(width - 1,) * (nd - 1), (reached(width, across) - 1) << across
        self.tile = tuple(tile + more for tile, more in zip(tiles, beyond, strict=True))
        self.index = "int64" if 2 * prod(grid) >= 2**31 else "int32"  # of offsets in the grid
        self.steps = np.array([2 * prod(grid[a + 1 :]) for a in range(nd)], self.index)  # numbers in memory
        self.window = np.array(self.tile)
        self.within = np.array([2 * prod(self.tile[a + 1 :]) for a in range(nd)], np.int32)
        self.worth_sorting = FEW if 2 * prod(grid) * self.dtype.itemsize > CACHE else SORTED
        self.kernels: dict[str, Any] = {}

    def kernel(self, kind: str) -> Any:
        """A compiled kernel of those above."""
        if kind not in self.kernels:
            self.kernels[kind] = entry(kind, self.spec, self.dtype.name, self.index)
        return self.kernels[kind]

    def sorted(self, x: Array, packed: Array, other: Array) -> Array:
        """Points by tiles and bundles (one of the two arrays).

        A stable sort by digits, from the last to the first, in as many parts as there are threads; the order does not
        depend on them.
        """
        spec, number = self.spec, self.kernel("number")

        def run(start: int, stop: int) -> None:
            size = spec.ndim * ROUND
            u, t = np.empty(size), np.empty(size, self.dtype)
            cells, keys = np.empty(size, np.int32), np.empty(ROUND, np.int32)
            number(spec, x, self.frame, self.counts, packed, u, cells, keys, t, start, stop)

        threads.over(run, len(x), LOCATE_NS * x.size)
        tiles = prod(self.counts.tolist())
        bits = (tiles << self.spec.bits).bit_length()
        low = self.spec.bits if len(x) < tiles else 0  # bundles of one point each are not worth a digit
        digits = -(-(bits - low) // DIGIT)
        for digit in range(digits):
            first, end = (low + (bits - low) * d // digits for d in (digit, digit + 1))
            packed, other = self._by_digit(packed, 32 + first, end - first, other)
        return packed

    def tiles(self, packed: Array) -> tuple[Array, Array, list[tuple[int, int]]]:
        """Of sorted points: where in them each tile with points begins, and the last ends; the first samples of these
        tiles (tiles, ndim); the tiles of each slab, first and behind the last."""
        numbers = packed >> (32 + self.spec.bits)
        edges = np.concatenate([[0], np.flatnonzero(numbers[1:] != numbers[:-1]) + 1, [len(numbers)]])
        numbers = numbers[edges[:-1]]
        origins = np.stack(np.unravel_index(numbers, tuple(self.counts.tolist())), -1) << np.array(self.spec.shifts)
        ends = np.searchsorted(numbers, np.arange(int(self.counts[0]) + 1) * prod(self.counts[1:].tolist()))
        return edges, origins, list(itertools.pairwise(ends.tolist()))

    def _by_digit(self, packed: Array, shift: int, bits: int, to: Array) -> tuple[Array, Array]:
        parts = threads.split(0, len(packed), SORT_NS * len(packed))
        found = np.zeros((len(parts), 1 << bits), np.int64)
        count, move = self.kernel("count"), self.kernel("move")
        threads.run([functools.partial(count, packed, shift, row, *part) for row, part in zip(found, parts)])
        ends = np.cumsum(found.T).reshape(-1, len(parts)).T  # digit by digit, of each part after part
        rows = np.ascontiguousarray(ends - found)
        threads.run([functools.partial(move, packed, shift, row, to, *part) for row, part in zip(rows, parts)])
        return to, packed


@functools.lru_cache(maxsize=1024)
def fine(periods: tuple[float, ...], shape: tuple[int, ...], grid: tuple[int, ...], width: int, dtype: str) -> Fine:
    """One and the same for all plans whose points lie in the same places."""
    return Fine(periods, shape, grid, width, dtype)


class Located:
    """Points (n, ndim) on a fine grid: where stencils begin, fractions, and the order in which to take them."""

    def __init__(self, points: Array, fine: Fine) -> None:
        (n, nd), padded = points.shape, len(points) + WHOLE  # vectors of points end behind the last
        self.fine, self.n, self.t, self.order = fine, n, np.empty((nd, padded), fine.dtype), np.zeros(padded, np.int32)
        self.starts, self.own = np.empty(padded, fine.index), np.empty(padded, np.int32)
        place = fine.kernel("place")

        def put(packed: Array, start: int, stop: int) -> None:
            u, cells = np.empty(nd * ROUND), np.empty(nd * ROUND, np.int32)
            place(fine.spec, points, fine.frame, packed, fine.steps, fine.within, self.starts, self.own, self.t,
                  self.order, u, cells, start, stop)  # fmt: skip

        with scratch(n, np.int64) as packed, scratch(n, np.int64) as other:
            if n >= fine.worth_sorting:
                packed = fine.sorted(points, packed, other)
                self.edges, self.origins, self.slabs = fine.tiles(packed)
                self.apart = n >= APART * len(self.origins)
                if not self.apart:  # a slab is one part
                    self.edges = self.edges[[0, *(end for _, end in self.slabs)]]
                    self.slabs = [(i, i + 1) for i in range(len(self.slabs))]
            else:
                packed[:] = np.arange(n)
                self.edges, self.origins, self.slabs = np.array([0, n]), np.zeros((1, nd), np.int64), [(0, 1)]
                self.apart = False
            threads.over(functools.partial(put, packed), n, 2 * LOCATE_NS * points.size)

    def gather(self, kernels: Gather, grid: Array, slope: Array, values: Array, out: Array, b: int) -> None:
        """out[b, :, points, :] from a padded grid (1, *shape, 2); for a dot with values[b]."""
        kernel = kernels.kernel(self.fine.index)

        def run(start: int, stop: int) -> None:
            with scratch(kernels.room, kernels.dtype) as w:
                k = int(np.searchsorted(self.edges, start, "right")) - 1
                kernel(kernels.spec, grid, self.apart, self.edges, self.origins, self.fine.window, self.starts,
                       self.t, slope, self.order, values, out, b, w, k, start, stop)  # fmt: skip

        threads.over(run, self.n, TAP_NS * self.n * kernels.taps)

    def scatter(self, kernels: Scatter, grid: Array, slope: Array, values: Array, b: int) -> None:
        """grid += values[b, :, points, :]: first the even slabs, whose stencils do not meet, then the odd ones."""
        apart, spec = self.apart, kernels.spec
        starts, shape = (self.own, self.fine.tile) if apart else (self.starts, (1,) * spec.ndim)
        kernel = kernels.kernel("int32" if apart else self.fine.index)

        def run(first: int, stop: int) -> None:
            with scratch(spec.room, kernels.dtype) as w, scratch(2 * prod(shape), kernels.dtype) as tile:
                target = tile.reshape(1, *shape, 2) if apart else grid
                kernel(spec, grid, target, apart, self.edges, self.origins, self.fine.window, starts, self.t, slope,
                       self.order, values, b, w, spec.lanes, first, stop)  # fmt: skip

        for parity in (0, 1):
            threads.run([functools.partial(run, i, j) for i, j in self.slabs[parity::2] if i < j])
