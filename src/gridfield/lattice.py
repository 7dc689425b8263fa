"""Control points laid over an image: the first and the last on the first and the last pixel centre of each axis.

Between them is a cubic B-spline whose ends are mirrored. It is separable, so that an axis is a matrix, or, four numbers
to a row, the taps of that matrix.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from .boundary import extension
from .kernel import bspline

Matrix = np.ndarray[Any, Any]

BEFORE, AFTER = 1, 2  # control points beyond the ends that the taps reach


def spacing(points: int, n: int) -> float:
    """Pixels from one control point to the next; 1 where there is nothing to tell it from."""
    return (n - 1) / (points - 1) if n > 1 and points > 1 else 1.0


def positions(points: int, n: int) -> Matrix:
    """(n,): the pixels of an axis, counted in control points; a single pixel is in the middle."""
    return np.linspace(0.0, points - 1.0, n) if n > 1 else np.full(n, (points - 1) / 2)


@functools.lru_cache(maxsize=256)
def taps(points: int, n: int, order: int = 0) -> tuple[Matrix, Matrix]:
    """First tap of each pixel, counted in control points from BEFORE the first, and the weights (n, 4).

    Of a derivative they are per pixel.
    """
    x = positions(points, n)
    cell = np.clip(np.floor(x), 0, max(points - 2, 0))
    rows = np.array(bspline(3).table(order))
    weights = np.polynomial.polynomial.polyval(x - cell, rows.T).T
    scale = 1.0 if order == 0 else 0.0 if n == 1 else spacing(points, n) ** -order
    return cell.astype(np.int64), np.ascontiguousarray(weights * scale)


@functools.lru_cache(maxsize=256)
def matrix(points: int, n: int, order: int = 0) -> Matrix:
    """(n, points): the field, or a derivative per pixel, at the pixels of an axis, of its B-spline coefficients."""
    if points == 1:
        return np.full((n, 1), float(order == 0))
    first, weights = taps(points, n, order)
    ext = extension("mirror", points, np.arange(-BEFORE, points + AFTER))
    out = np.zeros((n, points))
    for j in range(weights.shape[1]):
        np.add.at(out, (np.arange(n), ext.index[first + j, 0]), weights[:, j])
    return out
