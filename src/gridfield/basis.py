"""Matrices of one axis of a spline field: its values, inner products, finer and best-approximating coefficients.

A field is separable, so what is linear or quadratic in its coefficients is made of one such matrix per axis. Integrals
are over the domain: from the first to the last sample, round the whole of a periodic axis, and over one spacing along
an axis of one sample. They are exact: Gauss-Legendre quadrature on every polynomial piece, with enough nodes.
"""

from __future__ import annotations

import functools
import itertools
from math import comb
from typing import Any, NamedTuple

import numpy as np
from scipy import sparse

from . import reference
from .boundary import extension
from .grid import Grid
from .kernel import Kernel
from .scheme import scheme

Matrix = np.ndarray[Any, Any]


class Axis(NamedTuple):
    """One axis of a field."""

    grid: Grid  # of one axis
    kernel: Kernel
    boundary: str

    @property
    def n(self) -> int:
        """Control points."""
        return self.grid.shape[0]

    @property
    def ends(self) -> tuple[float, float]:
        """The domain that integrals are over."""
        lo, spacing, n = self.grid.origin[0], self.grid.spacing[0], self.n
        whole = self.boundary == "wrap" or n == 1
        return lo, lo + spacing * (n if whole else n - 1)


def rows(axis: Axis, points: Matrix, order: int = 0) -> sparse.csr_array:
    """(points, control points), sparse: the field, or a derivative, at coordinates along the axis."""
    order = min(order, axis.kernel.degree + 1)
    static = scheme(axis.grid, (axis.kernel,), (axis.boundary,)).axes[0]
    taps, on, number = reference.taps(points, static, {order}, axis.grid.origin[0], axis.grid.spacing[0])
    weights = np.stack([np.where(number, np.where(on, w[order], 0.0), np.nan) for _, w in taps], axis=-1)
    index = np.stack([i for i, _ in taps], axis=-1)
    start = np.arange(len(points) + 1) * len(taps)
    matrix = sparse.csr_array((weights.ravel(), index.ravel(), start), shape=(len(points), axis.n))
    matrix.sum_duplicates()
    return matrix


def sampling(axis: Axis, points: Matrix, order: int = 0) -> Matrix:
    """(points, control points): the same, dense."""
    return rows(axis, points, order).toarray()


@functools.lru_cache(maxsize=256)
def on_lattice(axis: Axis, target: Grid, order: int) -> Matrix:
    """(samples, control points): the field, or a derivative, at the samples of a grid of one axis."""
    return sampling(axis, target.origin[0] + target.spacing[0] * np.arange(target.shape[0]), order)


def pieces(axis: Axis) -> Matrix:
    """Where the polynomial pieces of the field begin and end, within the domain."""
    lo, hi = axis.ends
    if axis.n == 1:
        return np.array([lo, hi])
    # knots are at the samples for kernels of even width, half-way between them for odd
    half = 0.5 * (axis.kernel.width % 2)
    knots = axis.grid.origin[0] + axis.grid.spacing[0] * (np.arange(axis.n + 1) + half)
    inside = knots[(knots > lo) & (knots < hi) & ~np.isclose(knots, hi, rtol=0, atol=1e-9 * axis.grid.spacing[0])]
    return np.array([lo, *inside, hi])


def quadrature(breaks: Matrix, degree: int) -> tuple[Matrix, Matrix]:
    """Nodes and weights that integrate polynomials of a degree exactly on every piece."""
    nodes, weights = np.polynomial.legendre.leggauss(degree // 2 + 1)
    half = np.diff(breaks)[:, None] / 2
    return (breaks[:-1, None] + half * (nodes + 1)).ravel(), (half * weights).ravel()


@functools.lru_cache(maxsize=256)
def gram(axis: Axis, order: int = 0) -> Matrix:
    """(control points, control points): the integral of the product of two fields' derivatives of some order."""
    if axis.n == 1:
        return np.full((1, 1), axis.grid.spacing[0] if order == 0 else 0.0)
    return sparse_gram(axis, order).toarray()


@functools.lru_cache(maxsize=256)
def sparse_gram(axis: Axis, order: int = 0) -> sparse.csr_array:
    """The same as a sparse, banded matrix (for an axis that wraps, with corners)."""
    if axis.n == 1:
        return sparse.csr_array(gram(axis, order))
    x, w = quadrature(pieces(axis), 2 * axis.kernel.degree)
    a = rows(axis, x, order)
    return sparse.csr_array(a.T @ (a * w[:, None]))


@functools.lru_cache(maxsize=256)
def moments(axis: Axis) -> Matrix:
    """(control points, 1): the integral of the field."""
    if axis.n == 1:
        return np.full((1, 1), axis.grid.spacing[0])
    x, w = quadrature(pieces(axis), axis.kernel.degree)
    return (w @ sampling(axis, x))[:, None]


@functools.lru_cache(maxsize=256)
def projection(axis: Axis, target: Axis) -> Matrix:
    """(control points of target, control points): the field on the target's lattice that is nearest in L2.

    By normal equations, whose matrix is banded and well conditioned for B-splines; over the target's domain.
    """
    if axis == target:
        return np.eye(axis.n)
    if axis.n == 1 or target.n == 1:
        x, w = quadrature(pieces(axis if target.n == 1 else target), axis.kernel.degree + target.kernel.degree)
    else:
        lo, hi = target.ends
        inside = pieces(axis)
        breaks = np.union1d(pieces(target), inside[(inside > lo) & (inside < hi)])
        x, w = quadrature(breaks, axis.kernel.degree + target.kernel.degree)
    a, b = sampling(axis, x), sampling(target, x)
    if target.n == 1:
        b = np.ones((len(x), 1))
    if axis.n == 1:
        a = np.ones((len(x), 1))
    # exact for what lies in the target's space, as normal equations of least squares at the nodes
    return np.linalg.lstsq(np.sqrt(w)[:, None] * b, np.sqrt(w)[:, None] * a, rcond=None)[0]


@functools.lru_cache(maxsize=256)
def refinement(axis: Axis, factor: int) -> Matrix:
    """(finer control points, control points): the same field on a lattice `factor` times finer (knot insertion).

    The two-scale relation of B-splines of degree n, ``B(x) = sum_k h_k B(factor x - k)`` with h the coefficients of
    ``factor**-n (1 + z + ... + z**(factor - 1))**(n + 1)``, centred (M. Unser, IEEE Signal Process. Mag. 16 (1999)).
    """
    n, degree = axis.n, axis.kernel.degree
    if n == 1 or factor == 1:
        return np.eye(n)
    h = np.ones(1)
    for _ in range(degree + 1):
        h = np.convolve(h, np.ones(factor))
    h /= float(factor) ** degree
    centre = (len(h) - 1) // 2
    fine = n * factor if axis.boundary == "wrap" else (n - 1) * factor + 1
    reach = centre // factor + 1
    beyond = np.arange(-reach, n + reach)
    ext = extension(axis.boundary, n, beyond)
    continued = np.zeros((len(beyond), n))
    np.add.at(continued, (np.arange(len(beyond))[:, None], ext.index), ext.weight)
    place = np.arange(fine)[:, None] - factor * beyond + centre
    two_scale = np.where((place >= 0) & (place < len(h)), h[np.clip(place, 0, len(h) - 1)], 0.0)
    return two_scale @ continued


@functools.lru_cache(maxsize=256)
def interpolation(axis: Axis) -> Matrix:
    """(control points, control points): the coefficients whose field passes through values at the control points."""
    return np.linalg.inv(on_lattice(axis, axis.grid, 0))


def multinomial(orders: tuple[int, ...]) -> int:
    """How often a mixed derivative occurs among all of its order."""
    total, count = 0, 1
    for o in orders:
        total += o
        count *= comb(total, o)
    return count


def of_order(ndim: int, order: int) -> list[tuple[int, ...]]:
    """The multi-indices of an order."""
    return [alpha for alpha in itertools.product(range(order + 1), repeat=ndim) if sum(alpha) == order]
