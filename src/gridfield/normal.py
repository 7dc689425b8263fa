"""The normal equations of a field's fit: as an operator, as banded matrices, and what is known of them beforehand.

A fit minimises ``sum_p w_p (field(x_p) - y_p)**2 + roughness * integral of the squared derivatives of some order``,
which is quadratic in the coefficients: ``(A + roughness P) c = B^T W y`` with B the sampling matrix, ``A = B^T W B``
and P made of Gram matrices. `Normal` holds the points and applies or builds these; solvers.py solves them.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from math import comb, prod
from typing import Any, NamedTuple

import numpy as np
from scipy import linalg, sparse
from scipy.sparse.linalg import splu

from . import basis, reference
from .cached import cached_property
from .cpu import outer
from .faces.numpy import FACE as NUMPY
from .kernel import Kernel
from .scheme import Axis, Scheme, intern, scheme
from .spline import Spline

Array = np.ndarray[Any, Any]

# A direct solve where the Cholesky factor takes at most this many operations and numbers (15 s, 0.5 GB), and the matrix
# this many numbers before its boundary is applied.
MOST_WORK, MOST_FACTOR, MOST_LAGS = 3e10, 6e7, 4e7
# Seconds, measured: a pair of taps of a point, an operation of the factor, a number of the matrix; and a tap of a point
# in one iteration of conjugate gradients, of which uniform data need about 30 (cubic, 3-D).
PAIR, OPERATION, NUMBER, TAP, ITERATIONS = 3e-10, 5e-10, 5e-7, 1e-9, 30
UNEVEN = 1e4  # ratio of weights above which conjugate gradients need many iterations
LONGEST = 1024  # axis that the preconditioner diagonalises
DENSE = 128  # axes up to this long are multiplied by dense matrices: quicker than sparse ones with their transposes


class Normal:
    """The quadratic form of the data: points with positive weights, inside of the field's domain."""

    def __init__(self, spline: Spline, points: Array, weights: Array, order: int) -> None:
        self.spline, self.points, self.weights, self.order = spline, points, weights, order
        self.shape, self.n = spline.grid.shape, prod(spline.grid.shape)
        value = ((0,) * spline.ndim,)
        self.text = intern(Scheme(spline.grid, spline.kernel, spline.boundary, value))

    # ---- as an operator
    def field(self, c: Array) -> Array:
        """(n, columns) -> (points, columns)."""
        return NUMPY.sample(self._grids(c)[None], self.points[None], self.text)[0, 0]

    def gather(self, y: Array) -> Array:
        """B^T W y: (points, columns) -> (n, columns)."""
        return self._flat(NUMPY.splat((self.weights[:, None] * y)[None, None], self.points[None], self.text)[0])

    def data(self, c: Array) -> Array:
        """A c."""
        return self.gather(self.field(c))

    def penalty(self, c: Array) -> Array:
        """P c, for (n, columns): the axes one after the other, by how much of the order is left."""
        left = {self.order: self._grids(c)}
        for a, axis in enumerate(self.spline.axes):
            new: dict[int, Array] = {}
            for r, x in left.items():
                for o in range(r + 1) if a < self.spline.ndim - 1 else (r,):
                    part = comb(r, o) * _along(_gram(axis, o), x, a + 1)
                    new[r - o] = new[r - o] + part if r - o in new else part
            left = new
        return self._flat(left[0])

    def _grids(self, c: Array) -> Array:
        return np.ascontiguousarray(c.T).reshape(-1, *self.shape)

    def _flat(self, grids: Array) -> Array:
        return grids.reshape(len(grids), self.n).T

    # ---- as matrices
    @cached_property
    def data_matrix(self) -> sparse.csr_array:
        """A = B^T W B, (n, n), sparse: sums over the samples that stencils touch, those beyond the ends folded back."""
        axes = scheme(self.spline.grid, self.spline.kernel, self.spline.boundary).axes
        extents = tuple(axis.extent for axis in axes)
        tables = [np.array(axis.kernel.table()) for axis in axes]
        values, offsets = outer.diagonals(*self._located, self.weights, tables, extents)
        beyond = sparse.csr_array(sparse.dia_array((values, offsets), shape=(prod(extents),) * 2))
        beyond.eliminate_zeros()
        of_axes = [_extension(axis) for axis in axes]
        made_of = functools.reduce(lambda a, b: sparse.kron(a, b, format="csr"), of_axes)
        return sparse.csr_array(made_of.T @ beyond @ made_of)

    @cached_property
    def penalty_matrix(self) -> sparse.csr_array:
        """P, (n, n), sparse."""
        total = sparse.csr_array((self.n, self.n))
        for alpha in basis.of_order(self.spline.ndim, self.order):
            grams = [basis.sparse_gram(axis, o) for axis, o in zip(self.spline.axes, alpha, strict=True)]
            product = functools.reduce(lambda a, b: sparse.kron(a, b, format="csr"), grams)
            total = total + basis.multinomial(alpha) * product
        return sparse.csr_array(total)

    @property
    def penalty_trace(self) -> float:
        """Trace of P."""
        return sum(
            basis.multinomial(alpha)
            * prod(
                float(basis.sparse_gram(axis, o).diagonal().sum())
                for axis, o in zip(self.spline.axes, alpha, strict=True)
            )
            for alpha in basis.of_order(self.spline.ndim, self.order)
        )

    # ---- what the choice of a solver rests on
    @property
    def band(self) -> int:
        """Half of the bandwidth of the matrices, at most."""
        sizes, reach = zip(*sorted(zip(self.shape, self._reach, strict=True), reverse=True), strict=True)
        return min(self.n - 1, sum(r * prod(sizes[a + 1 :]) for a, r in enumerate(reach)))

    @property
    def _reach(self) -> list[int]:
        of = zip(self.shape, self.spline.kernel, self.spline.boundary, strict=True)
        return [min(n - 1, (k.width - 1) * (2 if b == "wrap" else 1)) for n, k, b in of]

    @cached_property
    def direct(self) -> bool:
        """Whether to solve directly: where it is possible, and quick, or safer than iterating over gaps in the data."""
        widths, work = [k.width for k in self.spline.kernel], self.n * self.band
        lags = prod(2 * w - 1 for w in widths) * prod(n + 2 * w for n, w in zip(self.shape, widths, strict=True))
        if work * self.band > MOST_WORK or work > MOST_FACTOR or lags > MOST_LAGS:
            return False
        taps = len(self.points) * prod(widths)
        seconds = PAIR * taps * prod(widths) + OPERATION * work * self.band + NUMBER * lags
        uneven = self.weights.max() > UNEVEN * self.weights.min()
        return seconds < 0.5 or seconds < ITERATIONS * TAP * taps or uneven or not self.covered

    @cached_property
    def ordering(self) -> Array:
        """The numbers of the coefficients in an order in which the matrices are banded.

        The longest axis outermost; an axis that wraps from both ends at once (0, n-1, 1, n-2, ...).
        """
        place = np.arange(self.n).reshape(self.shape)
        for a, (n, boundary) in enumerate(zip(self.shape, self.spline.boundary, strict=True)):
            if boundary == "wrap" and n > 2:
                turns = np.arange(n) // 2
                place = np.take(place, np.where(np.arange(n) % 2, n - 1 - turns, turns), axis=a)
        return place.transpose(np.argsort([-n for n in self.shape], kind="stable")).ravel()

    @cached_property
    def support(self) -> Array:
        """(n,): about the diagonal of A; zero exactly where a coefficient has no data near it.

        By splatting with the squares of the kernels, their samples beyond the ends mirrored, so that none is negative.
        """
        kernels = tuple(_square(k) for k in self.spline.kernel)
        plain = tuple(b if b in ("wrap", "reflect") else "mirror" for b in self.spline.boundary)
        text = intern(Scheme(self.spline.grid, kernels, plain, ((0,) * self.spline.ndim,)))
        lo, hi = np.array([axis.ends for axis in self.spline.axes]).T
        grid = NUMPY.splat(self.weights[None, None, :, None], np.clip(self.points, lo, hi)[None], text)
        return np.maximum(grid.ravel(), 0.0)

    @cached_property
    def different(self) -> int:
        """Points, those at one place counted once."""
        lo, hi = np.array([axis.ends for axis in self.spline.axes]).T
        held = np.array([b in ("natural", "nearest") for b in self.spline.boundary])
        return len(np.unique(np.where(held, np.clip(self.points, lo, hi), self.points), axis=0))

    @cached_property
    def covered(self) -> bool:
        """Whether there is a point in every cell, so that the data may be taken to determine all coefficients."""
        if len(self.points) < self.n:
            return False
        axes = scheme(self.spline.grid, self.spline.kernel, self.spline.boundary).axes
        cells = self._located[0]
        flat = np.ravel_multi_index(tuple(cells.T), tuple(axis.cells for axis in axes))
        return bool(np.bincount(flat, minlength=prod(axis.cells for axis in axes)).all())

    @cached_property
    def _located(self) -> tuple[Array, Array]:
        """Cells and fractions of the points, (points, ndim)."""
        grid, axes = self.spline.grid, scheme(self.spline.grid, self.spline.kernel, self.spline.boundary).axes
        of = zip(self.points.T, axes, grid.origin, grid.spacing, strict=True)
        found = [reference.locate(x, axis, origin, spacing) for x, axis, origin, spacing in of]
        return np.stack([cell for cell, *_ in found], axis=-1), np.stack([t for _, t, *_ in found], axis=-1)

    @cached_property
    def polynomials(self) -> Array:
        """(n, few): the fields without any roughness, orthonormal.

        Polynomials of lower total degree than the order, those that the kernel and the boundaries can represent.
        """
        found = []
        powers = [alpha for o in range(self.order) for alpha in basis.of_order(self.spline.ndim, o)]
        for alpha in powers:
            if any(power and n == 1 for power, n in zip(alpha, self.shape, strict=True)):
                continue
            columns = []
            for axis, power in zip(self.spline.axes, alpha, strict=True):
                c = _monomial(axis, power)
                if c is None:
                    break
                columns.append(c)
            else:
                found.append(functools.reduce(np.multiply.outer, columns).ravel())
        return np.linalg.qr(np.stack(found, axis=-1))[0] if found else np.zeros((self.n, 0))

    @cached_property
    def _polynomial_inverse(self) -> tuple[Array, int]:
        """The pseudo-inverse of Q^T A Q with Q the polynomials, and its rank."""
        q = self.polynomials
        gram = q.T @ self.data(q)
        values, vectors = np.linalg.eigh((gram + gram.T) / 2)
        kept = values > 1e-12 * values.max(initial=0.0)
        return (vectors[:, kept] / values[kept]) @ vectors[:, kept].T, int(kept.sum())

    @property
    def smooth_dof(self) -> int:
        """Degrees of freedom that are left at any roughness: polynomials that the data tell apart."""
        return self._polynomial_inverse[1] if self.polynomials.shape[1] else 0

    @property
    def determined(self) -> bool:
        """Whether data and any roughness together determine all coefficients."""
        return self.smooth_dof == self.polynomials.shape[1]

    def regression(self, b: Array) -> Array:
        """(n, columns): the polynomials that fit best, for b = B^T W y."""
        q = self.polynomials
        return q @ (self._polynomial_inverse[0] @ (q.T @ b)) if q.shape[1] else np.zeros_like(b)

    def scale(self, roughness: float) -> Array:
        """(n, 1): about the diagonal of A + roughness P; infinite where that is zero."""
        rough: Any = 0.0
        if roughness:
            for alpha in basis.of_order(self.spline.ndim, self.order):
                each = zip(self.spline.axes, alpha, strict=True)
                diagonals = [basis.sparse_gram(axis, o).diagonal() for axis, o in each]
                rough = rough + basis.multinomial(alpha) * functools.reduce(np.multiply.outer, diagonals).ravel()
        diagonal = self.support + roughness * rough
        return np.where(diagonal > 0, diagonal, np.inf)[:, None]

    def preconditioner(self, roughness: float) -> Callable[[Array], Array]:
        """About the inverse of A + roughness P: what it is for data equally dense everywhere, scaled to the diagonal.

        By fast diagonalisation: in the generalised eigenvectors V of (first-derivative Gram, Gram) of each axis the A
        of such data is the identity, P about ``(sum of the eigenvalues) ** order``. With an axis too long for that: the
        diagonal alone.
        """
        density = self.weights.sum() / prod(hi - lo for lo, hi in (axis.ends for axis in self.spline.axes))
        if max(self.shape) > LONGEST:
            inverse = 1 / self.scale(roughness)
            return lambda r: inverse * r
        modes = [_modes(axis) for axis in self.spline.axes]
        vectors, transposed = [m.vectors for m in modes], [m.vectors.T for m in modes]
        eigenvalues = functools.reduce(np.add.outer, [m.eigenvalues for m in modes])
        rough = roughness * eigenvalues**self.order
        uniform = density + rough
        # the diagonals of V^-T diag V^-1
        squares = [np.square(m.inverse.T) for m in modes]
        diagonal = _along_axes(squares, uniform[None]).ravel()
        own = self.support + _along_axes(squares, rough[None]).ravel()
        scale = np.sqrt(diagonal / np.maximum(own, 1e-8 * diagonal))[:, None]

        def apply(r: Array) -> Array:
            return scale * self._flat(_along_axes(vectors, _along_axes(transposed, self._grids(scale * r)) / uniform))

        return apply


class Modes(NamedTuple):
    """Generalised eigenvectors of the Gram matrix of first derivatives and the Gram matrix, V^T G V = 1, and V^-1."""

    eigenvalues: Array
    vectors: Array
    inverse: Array


@functools.lru_cache(maxsize=32)
def _modes(axis: basis.Axis) -> Modes:
    gram = basis.gram(axis)
    values, vectors = linalg.eigh(basis.gram(axis, 1), gram)
    return Modes(np.maximum(values, 0.0), vectors, vectors.T @ gram)


@functools.lru_cache(maxsize=128)
def _monomial(axis: basis.Axis, power: int) -> Array | None:
    """The coefficients of x**power along an axis (x from -1 to 1 over its domain); None if no field is that."""
    if axis.n == 1:
        return np.ones(1)
    lo, hi = axis.ends
    samples, (nodes, _) = axis.grid.axes()[0], basis.quadrature(basis.pieces(axis), 2 * axis.kernel.degree + 1)
    at, x = ((2 * u - lo - hi) / (hi - lo) for u in (samples, nodes))
    try:
        c = splu(sparse.csc_array(basis.rows(axis, samples))).solve(at**power)
    except RuntimeError:  # singular: no field interpolates
        return None
    return c if np.abs(basis.rows(axis, nodes) @ c - x**power).max() < 1e-8 else None


@functools.lru_cache(maxsize=32)
def _square(kernel: Kernel) -> Kernel:
    """The kernel times itself."""
    return Kernel([np.convolve(row, row) for row in kernel.table()], f"{kernel.name} squared")


def _extension(axis: Axis) -> sparse.csr_array:
    """(samples that stencils touch, samples on the grid)."""
    ext = reference.continued(axis)
    start = np.arange(len(ext.index) + 1) * ext.index.shape[1]
    return sparse.csr_array((ext.weight.ravel(), ext.index.ravel(), start), shape=(len(ext.index), axis.n))


def _gram(axis: basis.Axis, order: int) -> Any:
    return basis.gram(axis, order) if axis.n <= DENSE else basis.sparse_gram(axis, order)


def _along(matrix: Any, x: Array, a: int) -> Array:
    """A matrix, dense or sparse, along one axis."""
    if not sparse.issparse(matrix):
        return np.moveaxis(np.tensordot(matrix, x, (1, a)), 0, a)
    moved = np.moveaxis(x, a, 0)
    return np.moveaxis((matrix @ moved.reshape(len(moved), -1)).reshape(-1, *moved.shape[1:]), 0, a)


def _along_axes(matrices: Sequence[Any], x: Array) -> Array:
    """Matrices along all axes of (columns, *shape)."""
    for a, matrix in enumerate(matrices, start=1):
        x = _along(matrix, x, a)
    return x
