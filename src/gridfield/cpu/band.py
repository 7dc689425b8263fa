"""Banded symmetric matrices: Cholesky factor, solves, and those elements of the inverse that lie within the band.

A row i of the lower triangle is kept as rows[i, :], columns i - b ... i. On one thread on purpose: where the processor
is shared, LAPACK's threads wait for each other 15-40 times longer than small matrices take, which gain nothing by them.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numba import njit

from .cache import array, compiled

Array = np.ndarray[Any, Any]


@njit(nogil=True, error_model="numpy", fastmath={"reassoc", "contract", "nsz"})
def _dot(a, i, b, j, n):  # type: ignore[no-untyped-def]
    """Inner product of a[i : i + n] and b[j : j + n], in vectors: hence `reassoc`."""
    s = 0.0
    for k in range(n):
        s += a[i + k] * b[j + k]
    return s


def _cholesky(rows):  # type: ignore[no-untyped-def]
    """The factor in place of the matrix; the number of the first row whose pivot is not positive, or that of rows."""
    n, b = rows.shape[0], rows.shape[1] - 1
    for i in range(n):
        low = max(0, i - b)
        for j in range(low, i + 1):
            s = rows[i, j - i + b] - _dot(rows[i], low - i + b, rows[j], low - j + b, j - low)
            if j < i:
                rows[i, j - i + b] = s / rows[j, b]
            elif s > 0.0:
                rows[i, b] = np.sqrt(s)
            else:
                return i
    return n


def _solve(rows, x):  # type: ignore[no-untyped-def]
    """x (n, columns) becomes the solution for the right-hand sides x."""
    n, b, columns = rows.shape[0], rows.shape[1] - 1, x.shape[1]
    for i in range(n):
        for k in range(max(0, i - b), i):
            w = rows[i, k - i + b]
            for c in range(columns):
                x[i, c] -= w * x[k, c]
        for c in range(columns):
            x[i, c] /= rows[i, b]
    for i in range(n - 1, -1, -1):
        for c in range(columns):
            x[i, c] /= rows[i, b]
        for k in range(max(0, i - b), i):
            w = rows[i, k - i + b]
            for c in range(columns):
                x[k, c] -= w * x[i, c]


def _inverse(rows, inverse):  # type: ignore[no-untyped-def]
    """The band of the inverse, both triangles: inverse[i, b + d] is its element (i, i + d).

    From the last column to the first, by L^T Z = L^-1, whose upper triangle is zero (K. Takahashi et al. 1973; for
    smoothing splines M. F. Hutchinson, F. R. de Hoog, Numer. Math. 47 (1985), 99-106).
    """
    n, b = rows.shape[0], rows.shape[1] - 1
    column = np.empty(b + 1)
    for j in range(n - 1, -1, -1):
        m = min(n - 1 - j, b)
        scale = 1.0 / rows[j, b]
        for d in range(1, m + 1):
            column[d] = rows[j + d, b - d]
        s = 0.0
        for d in range(1, m + 1):
            z = -scale * _dot(inverse[j + d], b - d + 1, column, 1, m)
            inverse[j + d, b - d] = z
            inverse[j, b + d] = z
            s += column[d] * z
        inverse[j, b] = scale * (scale - s)


@functools.cache
def _entry(name: str) -> Any:
    f2 = array(np.float64, 2, "C")
    kernels: dict[str, Any] = {
        "cholesky": (_cholesky, (f2,)),
        "solve": (_solve, (f2, f2)),
        "inverse": (_inverse, (f2, f2)),
    }
    f, signature = kernels[name]
    return compiled(f, "float64", signature)


def cholesky(rows: Array) -> bool:
    """The factor in place of the matrix; False if it is not positive definite."""
    return _entry("cholesky")(rows) == len(rows)


def solve(factor: Array, b: Array) -> Array:
    """The matrix's inverse times b, (n, columns)."""
    x = np.array(b, order="C")
    _entry("solve")(factor, x)
    return x


def trace(factor: Array, other: Array) -> float:
    """Trace of the matrix's inverse times another, symmetric one, given by its rows of the same width."""
    n, b = factor.shape[0], factor.shape[1] - 1
    inverse = np.zeros((n, 2 * b + 1))
    _entry("inverse")(factor, inverse)
    lower = inverse[:, : b + 1]
    return float(2 * np.einsum("ij,ij->", lower, other) - lower[:, b] @ other[:, b])
