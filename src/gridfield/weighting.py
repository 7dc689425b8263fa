"""Weights of a distance, <P (x - y), x - y>, as other coordinates: by a Cholesky factor, never by an inverse.

With `cov` D the weights are the symmetric part of its inverse, which is D^-1 H D^-T with H = (D + D^T)/2. Where H is
positive definite, H = L L^T, the distance is that of the points z = L^T D^-T x; of a symmetric D these are L^-1 x, one
triangular solve. With `precision` P they are R^T x, where R R^T is the symmetric part of P. Else there is no root, and
the square is the bilinear form of x with D^-1 x.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import scipy.linalg

from . import check
from .ops import Face

Array = np.ndarray[Any, Any]


class Weights(NamedTuple):
    """The weights of a call: an array of the face, or its numbers where no derivative is asked for."""

    name: str  # cov or precision
    array: Any
    known: Array | None  # float64
    centre: Array | None = None  # of the points, where those of a call are some of them only


class Coordinates(NamedTuple):
    """Points whose distance is the one asked for; b, c: the other coordinates of a bilinear form, or None."""

    x: Any
    y: Any
    b: Any = None
    c: Any = None


def weights(F: Face, cov: Any, precision: Any, d: int, where: str) -> Weights | None:
    """The weights, checked."""
    if cov is None and precision is None:
        return None
    if cov is not None and precision is not None:
        raise ValueError(f"{where}: cov and precision exclude each other: give one of them")
    name, w = ("cov", cov) if precision is None else ("precision", precision)
    w = check.array(F, w, name, where)
    if F.dtype(w) in check.REAL or not check.is_number(F.dtype(w)):
        raise TypeError(f"{where}: {name} has dtype {F.dtype(w)} but weights must be real")
    if not check.same(tuple(w.shape), (d,)) and not check.same(tuple(w.shape), (d, d)):
        raise ValueError(
            f"{where}: {name} has shape {tuple(w.shape)} but the points have {d} coordinates: expected ({d},) for a "
            f"diagonal or ({d}, {d})"
        )
    known = F.concrete(w)
    if known is not None:
        if not F.followed(w) or F.name == "numpy":
            w = None if not F.followed(w) else w
        known = np.asarray(known, np.float64)
        if not np.isfinite(known).all():
            raise ValueError(f"{where}: {name} holds NaN or infinity")
    return Weights(name, w, known)


def _definite(w: Array) -> bool:
    """Whether the symmetric part is positive definite, whatever the units of the coordinates."""
    if w.ndim == 1:
        return bool((w > 0).all())
    if not (np.diag(w) > 0).all():
        return False
    scale = 1 / np.sqrt(np.diag(w))
    h = (w + w.T) / 2 * scale[:, None] * scale
    try:
        factor = np.linalg.cholesky(h)
    except np.linalg.LinAlgError:
        return False
    return bool(np.diag(factor).min(initial=1.0) ** 2 > 4 * len(w) * np.finfo(float).eps)


def _singular(w: Array) -> bool:
    """Whether it has no inverse, as far as float64 can tell, whatever the units of the coordinates."""
    if w.ndim == 1:
        return bool((w == 0).any())
    for axis in (1, 0):  # the largest of each row and each column to 1
        largest = np.abs(w).max(axis, keepdims=True, initial=0)
        if (largest == 0).any():
            return True
        w = w / largest
    values = np.linalg.svd(w, compute_uv=False)
    return bool(values.size and values[-1] <= 4 * len(w) * np.finfo(float).eps * values[0])


def has_root(w: Weights, squared: bool, where: str) -> bool:
    """Whether the form is positive definite. Of unknown numbers a root is believed to be, a square not."""
    if w.known is None:
        return not squared
    if w.name == "cov" and _singular(w.known):
        raise ValueError(
            f"{where}: cov is singular (shape {w.known.shape}): it has no inverse to weight distances with"
        )
    definite = _definite(w.known)
    if not definite and not squared:
        raise ValueError(
            f"{where}: {w.name} is not positive definite, so squared distances may be negative and have no root: give "
            "squared=True, or a positive definite matrix"
        )
    return definite


def moments(p: Array) -> Array:
    """(3, d) of points (..., d): how many coordinates are finite, their sum, and the largest of them."""
    flat = p.reshape(-1, p.shape[-1])
    finite = np.isfinite(flat)
    flat = np.where(finite, flat, 0).astype(np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        return np.stack([finite.sum(0), flat.sum(0), np.abs(flat).max(0, initial=0)])


def added(of: Array) -> Array:
    """Those (k, 3, d) of several sets together."""
    with np.errstate(over="ignore", invalid="ignore"):
        return np.stack([of[:, 0].sum(0), of[:, 1].sum(0), of[:, 2].max(0)])


def centre(of: Array) -> Array:
    """The mean, to 2^-23 of the largest coordinate: the same whatever the order in which the sum was taken."""
    count, total, largest = of
    mean = np.where(np.isfinite(total), total, 0) / np.maximum(count, 1)  # a sum may overflow
    unit = np.ldexp(1.0, np.maximum(np.frexp(largest)[1] - 24, -1000))
    return np.round(mean / unit) * unit


def apply_numbers(w: Weights, root: bool, x: Array, y: Array) -> Coordinates:
    """NumPy points in other coordinates, by way of float64, about their mean: an offset would cost digits."""
    matrix: Any = w.known
    dtype, middle = x.dtype, centre(added(np.stack([moments(x), moments(y)]))) if w.centre is None else w.centre
    # Equal points need equal bits, whatever is beside them. BLAS (OpenBLAS 0.3) has other code for a single row, and
    # from 64 coordinates on for few.
    least = 2 if x.shape[-1] < 64 else 256

    def mapped(f: Any) -> list[Array]:
        out = []
        for p in (x, y):
            flat = p.reshape(-1, p.shape[-1]) - middle
            finite = np.isfinite(flat).all(-1, keepdims=True)
            flat = np.where(finite, flat, 0)
            if matrix.ndim == 2 and 0 < len(flat) < least:
                flat = np.concatenate([flat, np.zeros((least - len(flat), flat.shape[1]))])
            made = f(flat)[: finite.size]
            out.append(np.where(finite, made, np.nan).astype(dtype).reshape(p.shape))
        return out

    if matrix.ndim == 1:
        diagonal = matrix if w.name == "precision" else 1 / matrix
        if root:
            return Coordinates(*mapped(lambda p: p * np.sqrt(diagonal)))
        return Coordinates(*mapped(lambda p: p), *mapped(lambda p: p * diagonal))
    if not root:
        if w.name == "precision":
            return Coordinates(*mapped(lambda p: p), *mapped(lambda p: p @ matrix.T))
        return Coordinates(*mapped(lambda p: p), *mapped(lambda p: np.linalg.solve(matrix, p.T).T))
    factor = np.linalg.cholesky((matrix + matrix.T) / 2)
    if w.name == "precision":
        return Coordinates(*mapped(lambda p: p @ factor))
    if (matrix == matrix.T).all():
        return Coordinates(*mapped(lambda p: scipy.linalg.solve_triangular(factor, p.T, lower=True).T))
    return Coordinates(*mapped(lambda p: np.linalg.solve(matrix.T, p.T).T @ factor))


def apply(F: Face, w: Weights, root: bool, x: Any, y: Any) -> Coordinates:
    """Points (batch, n, d) of a framework in other coordinates; each step has derivatives, in the weights too."""
    dtype = F.dtype(x)
    known: Any = w.known
    matrix = F.constant(known, dtype, x) if w.array is None else F.astype(w.array, dtype)
    y_fixed = F.fixed(y)
    finite = y_fixed - y_fixed == 0
    count = F.sum(F.where(finite, y_fixed * 0 + 1, 0.0), 1)
    centre = (F.sum(F.where(finite, y_fixed, 0.0), 1) / (count + F.where(count == 0, count * 0 + 1, count * 0)))[
        :, None
    ]
    x, y = x - centre, y - centre

    def solved(a: Any, p: Any) -> Any:
        b, n, d = F.shape(p)
        flat = F.transpose(F.reshape(p, (b * n, d)), (1, 0))
        return F.reshape(F.transpose(F.solve(a, flat), (1, 0)), (b, n, d))

    def product(p: Any, a: Any) -> Any:
        b, n, d = F.shape(p)
        return F.reshape(F.matmul(F.reshape(p, (b * n, d)), a), (b, n, d))

    if len(matrix.shape) == 1:
        diagonal = matrix if w.name == "precision" else 1 / matrix
        if root:
            return Coordinates(x * F.sqrt(diagonal), y * F.sqrt(diagonal))
        return Coordinates(x, y, x * diagonal, y * diagonal)
    turned = F.transpose(matrix, (1, 0))
    if not root:
        if w.name == "precision":
            return Coordinates(x, y, product(x, turned), product(y, turned))
        return Coordinates(x, y, solved(matrix, x), solved(matrix, y))
    factor = F.cholesky((matrix + turned) / 2)
    if w.name == "precision":
        return Coordinates(product(x, factor), product(y, factor))
    return Coordinates(product(solved(turned, x), factor), product(solved(turned, y), factor))
