"""Sums of outer products of stencils: the normal matrix of a fit, B^T W B, without the sparse matrix B.

Points in one cell touch the same T samples, so their weights add up in one (T, T) block, which stays in the first-level
cache; a finished block is added to the diagonals of the matrix. In two dimensions, cubic (T = 16), 1e5 points take
6 ms on one thread; scipy.sparse takes 250 for the same product.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from .cache import array, compiled

Array = np.ndarray[Any, Any]


def _order(cells, counts, order):  # type: ignore[no-untyped-def]
    """Sort by counting: points in the order of their cells, stable; counts[m] becomes the end of cell m."""
    for m in cells:
        counts[m] += 1
    total = 0
    for m in range(len(counts)):
        total, counts[m] = total + counts[m], total
    for p in range(len(cells)):
        m = cells[p]
        order[counts[m]] = p
        counts[m] += 1


def _outer(order, first, t, weights, tables, widths, place, slot, block, phi, diagonals):  # type: ignore[no-untyped-def]
    """diagonals[slot[i, j], first + place[j]] += weights * phi[i] * phi[j], over the points in the order that sorts."""
    size, ndim, previous = len(place), len(widths), np.int64(-1)
    for k in range(len(order) + 1):
        p = order[k] if k < len(order) else np.int64(-1)
        here = first[p] if k < len(order) else np.int64(-1)
        if here != previous:
            if previous >= 0:
                for i in range(size):
                    for j in range(size):
                        diagonals[slot[i, j], previous + place[j]] += block[i, j]
            block[:] = 0.0
            previous = here
        if here < 0:
            break
        # the tensor product of the axes' weights, from the last axis outwards, in place
        phi[size - 1] = 1.0
        length = 1
        for a in range(ndim - 1, -1, -1):
            start = size - length
            for j in range(widths[a]):
                w = tables[a, j, tables.shape[2] - 1]
                for q in range(tables.shape[2] - 2, -1, -1):
                    w = w * t[p, a] + tables[a, j, q]
                at = size - length * (widths[a] - j)
                if j < widths[a] - 1:
                    for i in range(length):
                        phi[at + i] = w * phi[start + i]
                else:
                    for i in range(length):
                        phi[start + i] *= w
            length *= widths[a]
        for i in range(size):
            v = weights[p] * phi[i]
            for j in range(size):
                block[i, j] += v * phi[j]


@functools.cache
def _entries() -> tuple[Any, Any]:
    i1, f1, i2, f2 = (array(t, n, "C") for n in (1, 2) for t in (np.int64, np.float64))
    order = compiled(_order, "int64", (i1, i1, i1))
    outer = compiled(_outer, "float64", (i1, i1, f2, f1, array(np.float64, 3, "C"), i1, i1, i2, f2, f1, f2))
    return order, outer


def diagonals(cells: Array, t: Array, weights: Array, tables: list[Array], extents: tuple[int, ...]) -> Any:
    """The matrix sum_p weights[p] phi_p phi_p^T over a lattice of samples, by its diagonals.

    cells (n, ndim), fractions t (n, ndim), weights (n,); per axis a table of coefficients (width, degree + 1) and the
    number of samples that stencils touch -> (values, offsets) as scipy.sparse.dia_array takes them.
    """
    widths = np.array([len(table) for table in tables])
    degree = max(table.shape[1] for table in tables)
    padded = np.zeros((len(tables), widths.max(), degree))
    for a, table in enumerate(tables):
        padded[a, : len(table), : table.shape[1]] = table
    strides = np.array([int(np.prod(extents[a + 1 :])) for a in range(len(extents))])
    place = sum(np.ix_(*(np.arange(w) * s for w, s in zip(widths, strides, strict=True)))).ravel()  # type: ignore[union-attr]
    offsets, slot = np.unique(place - place[:, None], return_inverse=True)
    first = np.ascontiguousarray(cells @ strides)
    order = np.empty(len(first), np.int64)
    sort, add = _entries()
    sort(first, np.zeros(int(np.prod(extents)), np.int64), order)
    out = np.zeros((len(offsets), int(np.prod(extents))))
    size = len(place)
    scratch = np.zeros((size, size)), np.empty(size)
    add(
        order, first, np.ascontiguousarray(t), np.ascontiguousarray(weights), padded, widths, place,
        np.ascontiguousarray(slot.reshape(size, size)), *scratch, out,
    )  # fmt: skip
    return out, offsets
