"""Scattering to a fine grid of complex numbers, two points at a time, in whole vectors of 64 bytes.

Where a point's row is written as it lies, across cache lines, the next point that reads part of it waits until it is
there: 7 cycles for each row. Here points come in bundles: their stencils lie in the same rows and begin in the same
vector along the last axis. The weights of that axis, times the value, are moved to where they belong in the row's
aligned vectors, with zeros beside them (a line), so that two points of a bundle go through

    row_j += w_j line + w'_j line'          for all rows j of the stencil

with one load and one store of each vector. At 1e6 points in 128**3, float32, a bundle has 4 points.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit, types

from ..cached import cached_property
from .cache import SOURCES, array, compiled
from .gathering import Indexed, ahead, approach, over_window, weigh
from .machine import WHOLE, specialising, staged
from .taps import BLOCK, Table, accumulate, derivative, horner, power

Orders = tuple[int, ...]

# line BLOCK is zero, for a point that has no second


def reached(width: int, across: int) -> int:
    """How many vectors of 2**across complex numbers hold a stencil that begins anywhere in the first."""
    return (2 * (1 << across) - 2 + width) >> across


@specialising(SOURCES)
@dataclass(frozen=True)
class Lines:
    """What the kernel is specialised to."""

    window: Table  # of all axes
    orders: tuple[Orders, ...]  # derivatives scattered together
    itemsize: int

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.orders[0])

    @property
    def width(self) -> int:
        """Taps along each axis."""
        return len(self.window)

    def table(self, _: int, order: int) -> Table:
        """Coefficients of the derivative of an axis's window."""
        return derivative(self.window, order)

    @property
    def lanes(self) -> int:
        """Real numbers in a vector; half of it complex ones."""
        return WHOLE // self.itemsize

    @property
    def vectors(self) -> int:
        """How many of them hold a stencil that begins anywhere in the first."""
        return reached(self.width, (self.lanes // 2).bit_length() - 1)

    def margin(self, samples: int) -> int:
        """How many samples beyond those of a row its vectors reach."""
        across = self.lanes // 2
        return ((samples - 1) // across + self.vectors) * across - samples

    @cached_property
    def prefixes(self) -> list[Orders]:
        """The orders of all axes but the last; there is a line for each."""
        return list(dict.fromkeys(o[:-1] for o in self.orders))

    @cached_property
    def slots(self) -> dict[tuple[int, int, int], int]:
        """{(axis, order, tap): row of the weight scratch}; consecutive in the tap. Two rows more hold the last axis's
        fraction and slope factor."""
        keys = dict.fromkeys((a, o[a], j) for a in range(self.ndim - 1) for o in self.orders for j in range(self.width))
        return {key: row for row, key in enumerate(keys)}

    @property
    def start(self) -> int:
        """Where the lines begin in the scratch."""
        return (len(self.slots) + 2) * BLOCK

    @property
    def each(self) -> int:
        """Numbers in the lines of a point."""
        return len(self.prefixes) * self.vectors * self.lanes

    @property
    def room(self) -> int:
        """Numbers of scratch; a line that begins late ends in the next one, or behind."""
        return self.start + (BLOCK + 1) * self.each + 4 * self.lanes


@staged
def line_up(m: Any, spec: Any, starts: Any, order: Any, values: Any, b: Any, first: Any, count: Any, w: Any) -> None:
    """The lines of these points, a line for each prefix: weights of the last axis times values[b, k, i, :]."""
    nd, n, rows = spec.ndim, spec.lanes, len(spec.slots)
    lanes = -(-2 * spec.width // n) * n  # whole vectors are stored without masks
    zero = m.const(w, [0.0] * n)

    def body(q: Any, _: Any) -> None:
        u = m.load(w, q + rows * BLOCK)
        place = b * m.stride(values, 0) + m.widen(m.load(order, first + q)) * m.stride(values, 2)
        lines: dict[Orders, Any] = {}
        for k, o in enumerate(spec.orders):
            table = spec.table(nd - 1, o[-1])
            columns = [[row[p] for row in table for _ in (0, 1)] for p in range(len(table[0]))]
            weights = horner([m.const(w, c + [0.0] * (lanes - len(c))) for c in columns], u)
            v = m.tile(m.load(values, place + m.stride(values, 1) * k, 2), lanes // 2)
            slope = power(m.load(w, q + (rows + 1) * BLOCK), o[-1]) if o[-1] else None
            accumulate(lines, o[:-1], weights * v * slope if o[-1] else weights * v)
        shift = m.widen(m.load(starts, first + q) & (n - 1))
        for k, prefix in enumerate(spec.prefixes):
            at = q * spec.each + (spec.start + k * spec.vectors * n)
            for v in range(spec.vectors):
                m.store(w, at + v * n, zero)
            m.store(w, at + shift, lines[prefix])

    m.loop(0, count, body)
    for v in range(spec.each // n):
        m.store(w, spec.start + BLOCK * spec.each + v * n, zero)


@staged
def add(m: Any, spec: Any, grid: Any, start: Any, first: Any, second: Any, line: Any, w: Any) -> None:
    """grid[start ...] += the stencils of two points of a bundle: weights first and second, lines first and `line`."""
    nd, n, stride = spec.ndim, spec.lanes, m.stride(grid, spec.ndim - 1)
    points = (first, first), (second, line)

    def weight(a: int, o: int, j: Any, p: Any) -> Any:
        return m.load(w, p + (j + spec.slots[a, o, 0]) * BLOCK)

    def product(prefix: Orders, taps: list[Any], p: Any, x: Any) -> Any:
        return functools.reduce(lambda y, a: y * weight(a, prefix[a], taps[a], p), range(len(taps)), x)

    def rows(place: Any, taps: list[Any]) -> None:
        lines: dict[Any, Any] = {}  # of each point, by the order of the last axis but one
        for k, prefix in enumerate(spec.prefixes):
            for i, (p, own) in enumerate(points):
                for v in range(spec.vectors):
                    x = m.load(w, own * spec.each + (spec.start + (k * spec.vectors + v) * n), n)
                    accumulate(lines, (i, prefix[-1:], v), product(prefix, taps, p, x))
        inner = dict.fromkeys(key[:2] for key in lines)
        for j in range(spec.width if nd > 1 else 1):
            weights = {(i, o): weight(nd - 2, *o, j, points[i][0]) if o else None for i, o in inner}
            for v in range(spec.vectors):
                at = place + (stride * j + v * n)
                x = m.load(grid, at, n)
                for key in inner:
                    line, factor = lines[(*key, v)], weights[key]
                    x = x + (line if factor is None else factor * line)
                m.store(grid, at, x)

    def nest(a: int, place: Any, taps: list[Any]) -> None:
        if a >= nd - 2:
            return rows(place, taps)
        step = m.stride(grid, a + 1)
        m.loop(0, spec.width, lambda j, _: nest(a + 1, place + j * step, [*taps, j]))
        return None

    nest(0, start, [])


@staged
def clear(m: Any, spec: Any, tile: Any) -> None:
    """tile = 0."""
    zero, size = m.const(tile, [0.0] * spec.lanes), m.shape(tile, 1) * m.stride(tile, 1)
    m.loop(0, m.quotient(size, spec.lanes), lambda k, _: m.store(tile, k * spec.lanes, zero))


@staged
def merge(m: Any, spec: Any, grid: Any, origins: Any, k: Any, window: Any, tile: Any) -> None:
    """grid[origins[k] ...] += tile."""
    n = spec.lanes

    def vector(place: Any, source: Any) -> None:
        m.store(grid, place, m.load(grid, place, n) + m.load(tile, source, n))

    over_window(m, spec, grid, origins, k, window, vector, tile)


@njit(error_model="numpy", inline="never")
def _add_points(spec, grid, starts, t, slope, order, values, b, w, lanes, start, stop):  # type: ignore[no-untyped-def]
    i, whole = start, ~(lanes - 1)
    while i < stop:
        count = min(BLOCK, stop - i)
        weigh(spec, t, slope, t.shape[1], i, count, w)
        for q in range(count):
            ahead(spec, values, b, order[i + count + q])
        line_up(spec, starts, order, values, b, i, count, w)
        q = 0
        while q < count:
            at, r = starts[i + q] & whole, q + 1
            pair = r < count and starts[i + r] & whole == at
            add(spec, grid, at, q, r if pair else q, r if pair else BLOCK, w)
            q += 2 if pair else 1
        i += count


def _scatter(
    spec, grid, target, apart, edges, origins, window, starts, t, slope, order, values, b, w, lanes, first, stop
):  # type: ignore[no-untyped-def]
    """The points of tiles first ... stop; apart: each is summed in a small array of its own, which stays in the cache
    and in few pages, and then added to the grid."""
    for k in range(first, stop):
        if apart:
            approach(spec, grid, origins, k, window)
            clear(spec, target)
        _add_points(spec, target, starts, t, slope, order, values, b, w, lanes, edges[k], edges[k + 1])
        if apart:
            merge(spec, grid, origins, k, window, target)


class Scatter(Indexed):
    """The kernel for a window, derivatives and dtype."""

    def __init__(self, table: Table, orders: tuple[Orders, ...], dtype: str) -> None:
        super().__init__(Lines(table, orders, np.dtype(dtype).itemsize), dtype, _compiled)


@functools.cache
def _compiled(spec: Lines, dtype: str, index: str) -> Callable[..., Any]:
    typ, i64 = spec._numba_type_, types.int64  # type: ignore[attr-defined]
    fields, numbers, line = array(dtype, spec.ndim + 2), array(dtype, 1, "C"), array(np.int64, 1, "C")
    tiles = types.boolean, line, array(np.int64, 2, "C"), line
    where = array(index, 1, "C"), array(dtype, 2, "C"), numbers, array(np.int32, 1, "C")
    args = typ, fields, fields, *tiles, *where, array(dtype, 4), i64, numbers, i64, i64, i64
    return compiled(_scatter, f"{typ.digest}_{dtype}_{index}", args)
