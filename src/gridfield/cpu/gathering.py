"""Gathering from a fine grid of complex numbers: the taps of taps.py, at points that have been located before.

A row is one load as it lies, across cache lines: whole aligned vectors, as in scattering.py, are two loads and two
multiply-adds a row (at 1e6 points in 128**3 84 ns a point instead of 50).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit, types

from .cache import array, compiled
from .machine import WHOLE, staged
from .taps import BLOCK, Spec, Table, gather, horner, power

Orders = tuple[int, ...]


def whole_taps(width: int, itemsize: int) -> int:
    """How many taps along the last axis fill vectors of 64 bytes, or a power of two of them less; others have masks."""
    full = WHOLE // (2 * itemsize)
    return -(-width // full) * full if width > full else 1 << (width - 1).bit_length()


@staged
def weigh(m: Any, spec: Any, t: Any, slope: Any, row: Any, first: Any, count: Any, w: Any) -> None:
    """What taps.locate leaves in w for stage 2, for points that are located: fractions t[a * row + first ...].

    A vector of points at once, the last ones perhaps beyond the end of t and of use to nobody.
    """
    nd, rows = spec.ndim, len(spec.slots)
    lanes = WHOLE // m.itemsize(w)
    slopes = [m.load(slope, a) for a in range(nd)]
    last = m.const(w, [0.0] * lanes) + slopes[-1]

    def body(k: Any, _: Any) -> None:
        q = k * lanes
        ts = [m.load(t, row * a + (first + q), lanes) for a in range(nd)]
        for (a, o, j), s in spec.slots.items():
            weight = horner(spec.table(a, o)[j], ts[a])
            m.store(w, q + s * BLOCK, weight * power(slopes[a], o) if o else weight)
        m.store(w, q + rows * BLOCK, ts[-1])
        m.store(w, q + (rows + 1) * BLOCK, last)

    m.loop(0, m.quotient(count + (lanes - 1), lanes), body)


def over_window(
    m: Any, spec: Any, grid: Any, origins: Any, k: Any, window: Any, visit: Callable[[Any, Any], None], tile: Any = None
) -> None:
    """visit(place in the grid, place in the tile) for all vectors of what the stencils of tile k reach, window[a]
    samples along each axis, as far as the grid goes."""
    nd, lanes = spec.ndim, WHOLE // m.itemsize(grid)

    def nest(a: int, target: Any, source: Any) -> None:
        first, length, step = m.load(origins, k * nd + a), m.load(window, a), m.stride(grid, a + 1)
        left = m.shape(grid, a + 1) - first
        count, start = m.select(left < length, left, length), target + first * step
        if a == nd - 1:
            m.loop(0, m.quotient(count * 2, lanes), lambda v, _: visit(start + v * lanes, source + v * lanes))
        else:
            own = k * 0 if tile is None else m.stride(tile, a + 1)
            m.loop(0, count, lambda j, _: nest(a + 1, start + j * step, source + j * own))

    nest(0, k * 0, k * 0)


@staged
def approach(m: Any, spec: Any, grid: Any, origins: Any, k: Any, window: Any) -> None:
    """Ask for a tile's part of the grid before it is needed: its rows are pages apart, and to wait for each takes long
    (at 1e6 points in 128**3 a third of the time)."""
    over_window(m, spec, grid, origins, k, window, lambda place, _: m.prefetch(grid, place))


@staged
def ahead(m: Any, spec: Any, values: Any, b: Any, i: Any) -> None:
    """Ask for values[b, :, i], for a point of the next round: points are sorted, their values are anywhere."""
    for k in range(len(spec.orders) if not getattr(spec, "dot", False) else 1):
        m.prefetch(values, b * m.stride(values, 0) + m.stride(values, 1) * k + m.widen(i) * m.stride(values, 2))


@njit(error_model="numpy", inline="never")
def _gather_points(spec, grid, starts, t, slope, order, values, out, b, w, start, stop):  # type: ignore[no-untyped-def]
    i = start
    while i < stop:
        m = min(BLOCK, stop - i)
        weigh(spec, t, slope, t.shape[1], i, m, w)
        for q in range(m):
            ahead(spec, out, b, order[i + m + q])
            gather(spec, grid, 0, starts, i + q, w, q, values, out, b, order[i + q])
        i += m


def _gather(spec, grid, apart, edges, origins, window, starts, t, slope, order, values, out, b, w, k, start, stop):  # type: ignore[no-untyped-def]
    """Points start ... stop, the first of them in tile k; apart: there are tiles."""
    while start < stop:
        if apart:
            approach(spec, grid, origins, k, window)
        end = min(stop, edges[k + 1])
        _gather_points(spec, grid, starts, t, slope, order, values, out, b, w, start, end)
        start = end
        k += 1


class Indexed:
    """A specialisation whose kernel is compiled for a type of offsets in the grid when one is asked for."""

    def __init__(self, spec: Any, dtype: str, compile_for: Callable[[Any, str, str], Any]) -> None:
        self.spec, self.dtype, self._compile = spec, dtype, compile_for
        self._kernels: dict[str, Any] = {}

    def kernel(self, index: str) -> Any:
        """The compiled kernel; hashing a spec for a dictionary takes longer than a small call."""
        if index not in self._kernels:
            self._kernels[index] = self._compile(self.spec, self.dtype, index)
        return self._kernels[index]


class Gather(Indexed):
    """The kernel for a window, derivatives and dtype; dot: orders are (k, axis), and it contracts with values."""

    def __init__(self, table: Table, orders: tuple[Orders, ...], dtype: str, dot: bool) -> None:
        nd = len(orders[0])
        taps = whole_taps(len(table), np.dtype(dtype).itemsize)
        last = table + ((0.0,) * len(table[0]),) * (taps - len(table))
        tables = (*(table,) * (nd - 1), last)
        spec = Spec(tables, ("wrap",) * nd, (0.0,) * nd, (0,) * nd, orders, 2, False, dot)
        super().__init__(spec, dtype, _compiled)
        self.taps = float(np.prod(spec.widths))
        self.room = (len(spec.slots) + 2) * BLOCK


@functools.cache
def _compiled(spec: Spec, dtype: str, index: str) -> Any:
    typ, i64, values = spec._numba_type_, types.int64, array(dtype, 4)  # type: ignore[attr-defined]
    numbers, line = array(dtype, 1, "C"), array(np.int64, 1, "C")
    tiles = types.boolean, line, array(np.int64, 2, "C"), line
    where = array(index, 1, "C"), array(dtype, 2, "C"), numbers, array(np.int32, 1, "C")
    args = typ, array(dtype, spec.ndim + 2), *tiles, *where, values, values, i64, numbers, i64, i64, i64
    return compiled(_gather, f"{typ.digest}_{dtype}_{index}", args)
