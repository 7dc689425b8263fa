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
from numba import types

from . import threads
from .axes import Axes, layout, plain
from .cache import array, compiled
from .cells import BYTES, HERE, LOCATE_NS, NUMBERS

Array = np.ndarray[Any, Any]

ADD_NS = 2.5  # measured: one number to a random cell of 128**3
SUM_NS = 1.0  # measured: one number to that beside it
COPIES, SMALL = 4, 2**12  # so many copies of a grid of so few cells: in one, each would wait for the one before
PARTS = 8  # at most, where the order of sums matters


def _add(cells, m, size, grid):  # type: ignore[no-untyped-def]
    """Count points in their cells, which are few."""
    for j in range(m):
        grid[np.uint64(cells[j] + (j & (COPIES - 1)) * size)] += np.uint32(1)


def _add_bytes(cells, m, grid, carried):  # type: ignore[no-untyped-def]
    """Count points in their cells; a counter that is full begins anew, and is noted. Returns how many were."""
    carries = 0
    for j in range(m):
        at = np.uint64(cells[j])
        grid[at] += np.uint8(1)
        if grid[at] == 0:
            carried[at] += 256
            carries += 1
    return carries


def _add_weights(cells, whose, m, weights, start, size, copies, grid):  # type: ignore[no-untyped-def]
    """Add the weights of points to their cells."""
    for j in range(m):
        grid[np.uint64(cells[j] + (j & (copies - 1)) * size)] += weights[np.uint64(start + whose[j])]


def _add_slices(cells, whose, m, weights, start, length, after, size, grid):  # type: ignore[no-untyped-def]
    """Add 1, or weights, to the cells of the slice of each point of an array (before, length, after), which is that of
    its first and last place."""
    row = start // after
    b, k, end = row // length, row % length, (row + 1) * after
    for j in range(m):
        at = start + whose[j]
        while at >= end:
            end += after
            k += 1
            if k == length:
                k = 0
                b += 1
        cell = np.uint64((b * after + at - (end - after)) * size + cells[j])
        if len(weights):
            grid[cell] += weights[np.uint64(at)]
        else:
            grid[cell] += 1


@functools.cache
def _entry(kind: str, weights: str = "float64C") -> Any:
    """A compiled kernel: "few", "bytes", "weights", "slices"; weights: their dtype and layout."""
    i64, grid, w = types.int64, array("float64", 1, "C"), array(weights[:-1], 1, weights[-1])
    if kind == "few":
        return compiled(_add, "", (NUMBERS, i64, i64, array("uint32", 1, "C")))
    if kind == "bytes":
        return compiled(_add_bytes, "", (NUMBERS, i64, BYTES, array("int64", 1, "C")))
    if kind == "weights":
        return compiled(_add_weights, weights, (*HERE, w, i64, i64, i64, grid))
    return compiled(_add_slices, weights, (*HERE, w, i64, i64, i64, i64, grid))


def parts(n: int, numbers: int, work: float) -> list[tuple[int, int]]:
    """Parts of n points with so many numbers of their own each, as sizes alone would have them: a number costs nearly
    as much as a point. A power of two of them, which threads can share evenly."""
    count = int(max(1, min(PARTS, n // max(3 * numbers // 4, 2**16), work / 1e5)))
    count = 1 << (count.bit_length() - 1)
    step = -(-n // count // 64) * 64 if count > 1 else max(n, 1)
    return [(i, min(i + step, n)) for i in range(0, n, step)] or [(0, 0)]


def count(
    axes: Axes, columns: Sequence[Array], where: Array | None = None, clip: bool = False, dtype: Any = np.int64
) -> tuple[Array, int]:
    """Points per cell (cells,) of those in the mask; how many of these are in none."""
    n, size = len(columns[0]), axes.size
    each = threads.split(0, n, (LOCATE_NS * len(columns) + ADD_NS) * n if size <= n else 0)
    inside, lost, carries = axes.inside(columns, where, clip, numbered=False), [0] * len(each), [0] * len(each)
    carried = np.empty((0, size), np.int64)
    if size <= SMALL and n < 2**32:  # no counter of 32 bits is ever full
        few, grids = _entry("few"), np.zeros((len(each), COPIES, size), np.uint32)

        def run(p: int) -> None:
            for _, cells, _, m, out in inside(*each[p]):
                few(cells, m, size, grids[p].reshape(-1))
                lost[p] += out

    else:
        # bytes, as 128**3 of them fit the second cache: 8.7 ns a point, located and all, instead of 12.8
        octets, grids = _entry("bytes"), np.zeros((len(each), 1, size), np.uint8)
        carried = np.zeros((len(each), size), np.int64)  # pages that nobody writes are not there

        def run(p: int) -> None:
            for _, cells, _, m, out in inside(*each[p]):
                carries[p] += octets(cells, m, grids[p, 0], carried[p])
                lost[p] += out

    threads.run([functools.partial(run, p) for p in range(len(each))])
    total, addends = np.empty(size, dtype), [*grids.reshape(-1, size), *(carried[p] for p in np.flatnonzero(carries))]

    def add(start: int, stop: int) -> None:
        total[start:stop] = addends[0][start:stop]
        for a in addends[1:]:
            total[start:stop] += a[start:stop]

    threads.over(add, size, SUM_NS * size * len(addends))
    return total, sum(lost)


def weigh(
    axes: Axes, columns: Sequence[Array], weights: Array, where: Array | None = None, clip: bool = False
) -> tuple[Array, int]:
    """Sum of weights per cell (cells,), float64, of points in the mask; how many of these are in none."""
    n, size, weights = len(columns[0]), axes.size, plain(weights)
    each, copies = parts(n, size, (LOCATE_NS * len(columns) + ADD_NS) * n), COPIES if size <= SMALL else 1
    inside, add = axes.inside(columns, where, clip), _entry("weights", weights.dtype.name + layout(weights))
    grids, lost = np.zeros((len(each), copies, size)), [0] * len(each)

    def run(p: int) -> None:
        for i, *here, out in inside(*each[p]):
            add(*here, weights, i, size, copies, grids[p].reshape(-1))
            lost[p] += out

    threads.run([functools.partial(run, p) for p in range(len(each))])
    return grids.reshape(-1, size).sum(0), sum(lost)


def slices(axes: Axes, values: Array, where: Array | None, weights: Array | None) -> Array:
    """Histograms (before, after, cells) of values (before, length, after) along the middle axis, float64."""
    before, length, after = values.shape
    flat, mask, w = (None if a is None else a.reshape(-1) for a in (values, where, weights))
    grid = np.zeros(before * after * axes.size)
    if values.size:
        w = np.empty(0) if w is None else plain(w)
        inside, add = axes.inside([flat], mask), _entry("slices", w.dtype.name + layout(w))  # type: ignore[list-item]

        def run(start: int, stop: int) -> None:
            for i, *here, _ in inside(start * length * after, stop * length * after):
                add(*here, w, i, length, after, axes.size, grid)

        threads.over(run, before, (LOCATE_NS + ADD_NS) * values.size, align=1)
    return grid.reshape(before, after, axes.size)
