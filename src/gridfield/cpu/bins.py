"""Points into cells, in one pass over them: counts, weights, sums, moments, extremes, first and last.

Every part of the points has a grid of its own, which are added up in the order of the parts, so that the result does
not depend on the threads. Counts are whole numbers, which come out the same for any parts: there are as many as
threads. For all else the number of parts follows from the sizes alone.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
from numba import njit, types

from . import threads
from .cache import array, compiled
from .cells import BLOCK, LOCATE_NS, Axes, axes_types, columns_type, layout, left_out, locate, memory, plain, wanted

Array = np.ndarray[Any, Any]

ADD_NS = 2.5  # measured: one number to a random cell of 128**3
SPARE = 64  # cells behind the last, for what is left out: in one and the same, each would wait for the one before
COPIES, SMALL = 4, 2**12  # so many copies of a grid of so few cells, for the same reason
PARTS = 8  # at most, where the order of sums matters
NOTHING = np.empty(0, np.uint8)
NO_WEIGHTS = np.empty(0)


@njit(nogil=True, error_model="numpy")
def _add(cells, m, size, copies, grid, carried, full):  # type: ignore[no-untyped-def]
    """Count points in their cells; a counter that is full begins anew, and is noted."""
    row, carries = size + SPARE, 0
    for j in range(m):
        c = cells[j] if cells[j] >= 0 else size + (j & (SPARE - 1))
        at = np.uint64(c + (j & (copies - 1)) * row)
        grid[at] += 1
        if grid[at] == 0:
            carried[at] += full
            carries += 1
    return carries


@njit(nogil=True, error_model="numpy")
def _add_weights(cells, weights, start, m, size, copies, grid):  # type: ignore[no-untyped-def]
    """Add the weights of points to their cells."""
    row = size + SPARE
    for j in range(m):
        c = cells[j] if cells[j] >= 0 else size + (j & (SPARE - 1))
        grid[np.uint64(c + (j & (copies - 1)) * row)] += weights[start + j]


def _count(spec, columns, axes, edges, clip, where, size, copies, grid, carried, full, found, start, stop):  # type: ignore[no-untyped-def]
    """Points per cell; found: how many are in none, and how often a counter was full."""
    x, k, close, cells = memory(edges)
    for i in range(start, stop, BLOCK):
        m = min(BLOCK, stop - i)
        if wanted(where, i, m):
            locate(spec, columns, i, m, axes, edges, clip, x, k, close, cells)
            found[0] += left_out(where, i, m, cells)
            found[1] += _add(cells, m, size, copies, grid, carried, full)


def _weigh(spec, columns, axes, edges, clip, where, weights, size, copies, grid, start, stop):  # type: ignore[no-untyped-def]
    """Sum of weights per cell; how many points are in none."""
    x, k, close, cells = memory(edges)
    lost = 0
    for i in range(start, stop, BLOCK):
        m = min(BLOCK, stop - i)
        if wanted(where, i, m):
            locate(spec, columns, i, m, axes, edges, clip, x, k, close, cells)
            lost += left_out(where, i, m, cells)
            _add_weights(cells, weights, i, m, size, copies, grid)
    return lost


def _count_slices(spec, columns, axes, edges, clip, slices, masks, weights, size, grid, start, stop):  # type: ignore[no-untyped-def]
    """The same of every slice (outer, inner, points) by itself: grid (outer * inner, cells). Of `columns` only the
    type is of use."""
    x, k, close, cells = memory(edges)
    inner, n = slices.shape[1], slices.shape[2]
    for s in range(start, stop):
        line, mask = (slices[s // inner, s % inner],), masks[s // inner, s % inner]
        for i in range(0, n, BLOCK):
            m = min(BLOCK, n - i)
            if wanted(mask, i, m):
                locate(spec, line, i, m, axes, edges, clip, x, k, close, cells)
                left_out(mask, i, m, cells)
                for j in range(m):
                    if cells[j] >= 0:
                        grid[s, cells[j]] += weights[s // inner, s % inner, i + j] if weights.shape[2] else 1


@functools.cache
def _entry(kind: str, label: str, columns: types.Type, real: str, mask: str, weights: str) -> Any:
    """A compiled kernel: "count", "weigh", "slices"; mask and weights (of a count: counters) are a dtype and
    a layout."""
    i64, begin = types.int64, axes_types(columns, real)
    where, w = array(mask[:-1], 1, mask[-1]), array(weights[:-1], 1, weights[-1])
    label = f"{label}_{real}_{mask}_{weights}"
    if kind == "count":
        line = array("int64", 1, "C")
        args = *begin, where, i64, i64, array(weights[:-1], 1, "C"), line, i64, line, i64, i64
        return compiled(_count, label, args)
    if kind == "weigh":
        args = *begin, where, w, i64, i64, array("float64", 1, "C"), i64, i64
        return compiled(_weigh, label, args)
    values = types.Array(columns.dtype.dtype, 3, "A")
    args = *begin, values, array(mask[:-1], 3), array(weights[:-1], 3), i64, array("float64", 2, "C"), i64, i64
    return compiled(_count_slices, label, args)


def _type(line: Array) -> str:
    """Dtype and layout."""
    return line.dtype.name + layout(line)


def parts(n: int, cells: int, work: float) -> list[tuple[int, int]]:
    """Parts of n points with a grid each, as sizes alone would have them: a grid costs as much as its cells."""
    count = int(max(1, min(PARTS, n // max(2 * cells, 2**16), work / 1e5)))
    step = max(BLOCK, -(-n // count // BLOCK) * BLOCK) if count > 1 else max(n, 1)
    return [(i, min(i + step, n)) for i in range(0, n, step)] or [(0, 0)]


def count(axes: Axes, columns: Sequence[Array], where: Array | None = None, clip: bool = False) -> tuple[Array, int]:
    """Points per cell (cells,), int64, of those in the mask; how many of these are in none."""
    n, size = len(columns[0]), axes.size
    mask = NOTHING if where is None else plain(where)
    work = (LOCATE_NS * len(columns) + ADD_NS) * n
    each = threads.split(0, n, work if size <= n else 0)
    # bytes, as 128**3 of them fit the second cache: 8.7 ns a point, located and all, instead of 12.8
    copies, counter = (COPIES, np.uint32) if size <= SMALL else (1, np.uint8)
    full = 1 << (8 * np.dtype(counter).itemsize)
    kernel = _entry("count", *columns_type(columns), axes.dtype.name, _type(mask), np.dtype(counter).name + "C")
    grids, found = np.zeros((len(each), copies, size + SPARE), counter), np.zeros((len(each), 2), np.int64)
    carried = np.zeros(grids.shape, np.int64)  # pages that nobody writes are not there

    def run(p: int) -> None:
        kernel(*axes.args(columns, clip), mask, size, copies, grids[p].reshape(-1), carried[p].reshape(-1), full,
               found[p], *each[p])  # fmt: skip

    threads.run([functools.partial(run, p) for p in range(len(each))])
    total = grids.reshape(-1, size + SPARE)[:, :size].sum(0, dtype=np.int64)
    for p in np.flatnonzero(found[:, 1]):
        total += carried[p].reshape(-1, size + SPARE)[:, :size].sum(0)
    return total, int(found[:, 0].sum())


def weigh(
    axes: Axes, columns: Sequence[Array], weights: Array, where: Array | None = None, clip: bool = False
) -> tuple[Array, int]:
    """Sum of weights per cell (cells,), float64, of points in the mask; how many of these are in none."""
    n, size = len(columns[0]), axes.size
    mask, weights = NOTHING if where is None else plain(where), plain(weights)
    each = parts(n, size, (LOCATE_NS * len(columns) + ADD_NS) * n)
    copies = COPIES if size <= SMALL else 1
    kernel = _entry("weigh", *columns_type(columns), axes.dtype.name, _type(mask), _type(weights))
    grids, lost = np.zeros((len(each), copies, size + SPARE)), [0] * len(each)

    def run(p: int) -> None:
        lost[p] = kernel(*axes.args(columns, clip), mask, weights, size, copies, grids[p].reshape(-1), *each[p])

    threads.run([functools.partial(run, p) for p in range(len(each))])
    return grids.reshape(-1, size + SPARE)[:, :size].sum(0), sum(lost)


def slices(axes: Axes, values: Array, where: Array | None, weights: Array | None) -> Array:
    """Histograms (outer, inner, cells) of values (outer, inner, points) along the last axis, float64."""
    outer, inner, _ = values.shape
    mask = np.broadcast_to(NOTHING, (outer, inner, 0)) if where is None else plain(where)
    w = np.broadcast_to(NO_WEIGHTS, (outer, inner, 0)) if weights is None else plain(weights)
    grid = np.zeros((outer * inner, axes.size))
    line = (np.empty(0, values.dtype)[::2],) if values.strides[-1] != values.itemsize else (np.empty(0, values.dtype),)
    columns = f"{values.dtype.name}A1", types.UniTuple(array(values.dtype, 1), 1)
    kernel = _entry("slices", *columns, axes.dtype.name, mask.dtype.name + "A", w.dtype.name + "A")
    run = functools.partial(kernel, *axes.args(line, False), values, mask, w, axes.size, grid)
    threads.over(run, outer * inner, 3 * values.size, align=1)
    return grid.reshape(outer, inner, axes.size)
