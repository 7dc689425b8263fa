"""Points located in the cells of a grid, and looked up in a mask of bits, in one pass.

A mask of 5000**2 is 3 MB of bits, which the second-level cache holds, and 25 MB of bools, which it does not.
Coordinates come one array for each axis, of any stride; a block of points at a time goes through all axes, so that
what lies between stays in the cache. The cells are those of `uniform.cell`, to the bit: no multiply-adds here.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np
from numba import njit, types

from . import threads
from .cache import array, compiled

Array = np.ndarray[Any, Any]

BLOCK = 512  # points at a time
KINDS = ("float32", "float64", "int32", "int64")  # of coordinates; others are converted
LOCATE_NS, TEST_NS = 1.5, 2.0  # measured: an axis of a point; a bit of 25 million


@njit(nogil=True, error_model="numpy")
def _wrap(x, count, lo, hi):  # type: ignore[no-untyped-def]
    """Coordinates of a periodic axis, within a period."""
    for j in range(count):
        if not lo <= x[j] < hi:
            x[j] = min(lo + (x[j] - lo) % (hi - lo), hi)


@njit(nogil=True, error_model="numpy")
def _along(x, count, lo, hi, n, first, cell):  # type: ignore[no-untyped-def]
    """cell = cell n + the cell along one axis; NaN outside. Whole numbers as floats, as vectors have no other type."""
    step = (hi - lo) / n
    inverse, last = 1 / step, np.float64(n - 1)  # a guess that is at most one off, put right below
    for j in range(count):
        u = x[j]
        k = np.floor((u - lo) * inverse)
        k = k if k < last else last
        k = k - 1.0 if u < k * step + lo else k  # edge k in the arithmetic of linspace
        k = k + 1.0 if u >= (k + 1.0) * step + lo else k
        k = k if k < last else last
        k = k if (u >= lo) & (u <= hi) else np.nan
        cell[j] = k if first else cell[j] * n + k


@njit(nogil=True, error_model="numpy")
def _whole(columns, ends, sizes, wraps, start, count, x, cell, out):  # type: ignore[no-untyped-def]
    """out[:count] = number of the cell of each of the points from `start` on, -1 outside; x and cell are room."""
    for a in range(len(sizes)):
        column = columns[a]
        for j in range(count):
            x[j] = column[start + j]
        if wraps[a]:
            _wrap(x, count, ends[a, 0], ends[a, 1])
        _along(x, count, ends[a, 0], ends[a, 1], sizes[a], a == 0, cell)
    for j in range(count):
        out[j] = np.int64(cell[j]) if cell[j] == cell[j] else -1


@njit(nogil=True, error_model="numpy")
def _bits(cells, bits, limit, out):  # type: ignore[no-untyped-def]
    """out = the bit of each cell, of -1 that of `limit`: unsigned it is beyond all (a branch here takes 3.1 ms for 1e6
    points, the minimum 2.5, nothing 2.1)."""
    for j in range(len(out)):
        at = min(np.uint64(cells[j]), np.uint64(limit))
        out[j] = np.uint8((bits[at >> np.uint64(6)] >> (at & np.uint64(63))) & np.uint64(1))


def _cells(columns, ends, sizes, wraps, start, stop, out):  # type: ignore[no-untyped-def]
    """out[p] = number of the cell of point p."""
    x, cell = np.empty(BLOCK), np.empty(BLOCK)
    for first in range(start, stop, BLOCK):
        count = min(BLOCK, stop - first)
        _whole(columns, ends, sizes, wraps, first, count, x, cell, out[first : first + count])


def _test_points(columns, ends, sizes, wraps, bits, limit, start, stop, out):  # type: ignore[no-untyped-def]
    """out[p] = the bit of the cell of point p."""
    x, cell, cells = np.empty(BLOCK), np.empty(BLOCK), np.empty(BLOCK, np.int64)
    for first in range(start, stop, BLOCK):
        count = min(BLOCK, stop - first)
        _whole(columns, ends, sizes, wraps, first, count, x, cell, cells)
        _bits(cells, bits, limit, out[first : first + count])


def _test_cells(cells, bits, limit, start, stop, out):  # type: ignore[no-untyped-def]
    """out[p] = the bit of cell cells[p]; the largest cell."""
    top = np.int64(-1)
    for first in range(start, stop, BLOCK):
        block = cells[first : min(first + BLOCK, stop)]
        for j in range(len(block)):
            top = max(top, np.int64(block[j]))
        _bits(block, bits, limit, out[first : first + len(block)])
    return top


@functools.cache
def entry(kind: str, dtype: str, ndim: int = 1) -> Any:
    """A compiled kernel: "cells", "points" or "flat"."""
    i64, u8, u64 = types.int64, array(np.uint8, 1, "C"), array(np.uint64, 1, "C")
    if kind == "flat":
        return compiled(_test_cells, dtype, (array(dtype, 1, "C"), u64, i64, i64, i64, u8))
    tables = array(np.float64, 2, "C"), array(np.int64, 1, "C"), u8
    shared = types.UniTuple(array(dtype, 1), ndim), *tables
    label = f"{dtype}_{ndim}"
    if kind == "cells":
        return compiled(_cells, label, (*shared, i64, i64, array(np.int64, 1, "C")))
    return compiled(_test_points, label, (*shared, u64, i64, i64, i64, u8))


class Cells:
    """The cells of a grid: outer edges, number and periodicity of each axis."""

    def __init__(self, ends: Sequence[tuple[float, float]], shape: Sequence[int], periodic: Sequence[bool]) -> None:
        self.tables = np.array(ends, np.float64), np.array(shape, np.int64), np.array(periodic, np.uint8)
        self.ndim, self.size = len(shape), prod(shape)

    @staticmethod
    def _columns(columns: Sequence[Array]) -> tuple[str, tuple[Array, ...]]:
        kind = np.result_type(*columns).name
        if kind not in KINDS:
            kind = "float32" if kind == "float16" else "float64"
        return kind, tuple(c.astype(kind, copy=False) for c in columns)

    def index(self, columns: Sequence[Array]) -> Array:
        """The number of the cell of each point, given an array of coordinates for each axis."""
        kind, columns = self._columns(columns)
        out = np.empty(len(columns[0]), np.int64)
        kernel = entry("cells", kind, self.ndim)
        threads.over(lambda i, j: kernel(columns, *self.tables, i, j, out), len(out), LOCATE_NS * self.ndim * len(out))
        return out

    def test(self, columns: Sequence[Array], bits: Array, outside: bool) -> Array:
        """The bit of the cell of each point."""
        kind, columns = self._columns(columns)
        out = np.empty(len(columns[0]), np.uint8)
        kernel = entry("points", kind, self.ndim)
        threads.over(
            lambda i, j: kernel(columns, *self.tables, bits, self.size + outside, i, j, out),
            len(out), (LOCATE_NS * self.ndim + TEST_NS) * len(out),
        )  # fmt: skip
        return out.view(np.bool_)


def packed(mask: Array) -> Array:
    """A bit for each cell, in C order, of bools; then one that is 0 and one that is 1, for points outside."""
    octets = np.packbits(np.concatenate([mask.reshape(-1), [False, True]]), bitorder="little")
    return np.concatenate([octets, np.zeros(-len(octets) % 8, np.uint8)]).view("<u8").astype(np.uint64, copy=False)


def test(cells: Array, bits: Array, size: int, outside: bool) -> tuple[Array, int]:
    """The bit of each cell, of -1 `outside`; the largest cell, for which and beyond there may be none."""
    kind = cells.dtype.name if cells.dtype.name in ("int32", "int64") else "int64"
    cells = np.ascontiguousarray(cells, kind)
    out, tops = np.empty(len(cells), np.uint8), [-1]
    kernel = entry("flat", kind)
    threads.over(lambda i, j: tops.append(kernel(cells, bits, size + outside, i, j, out)), len(out), TEST_NS * len(out))
    return out.view(np.bool_), max(tops)
