"""Solvers of symmetric positive semi-definite equations: banded Cholesky factors, conjugate gradients.

A column of right-hand sides and of solutions per channel; they know no fields.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from scipy import linalg, sparse

from .cached import cached_property
from .cpu import band

Array = np.ndarray[Any, Any]

SHIFT = 1e-8  # of the greatest diagonal element: what a singular matrix is shifted by, as a preconditioner
PIVOT = 1e-13  # squared pivots of the factor below this share of the diagonal count as zero
EXACT = 1024  # coefficients up to which a singular matrix is inverted by its eigenvectors
SMALL = 4e8  # operations of a factor below which our own is quicker than LAPACK's, or not much slower


class Solution(NamedTuple):
    """Coefficients, and how they came about."""

    x: Array  # (n, columns)
    iterations: int
    converged: bool
    condition: float  # estimate, of the equations that were iterated or factored
    deficient: bool  # whether the equations alone do not determine the coefficients


NOTHING = Solution(np.zeros((0, 0)), 0, True, 1.0, False)


class Factored:
    """A banded matrix by its Cholesky factor; a singular one by its eigenvectors or, if it is large, a shifted factor.

    `solve` gives the solution of least norm. The shifted inverse is a function of the matrix itself, so that conjugate
    gradients that it preconditions stay in the matrix's range, where that solution is.
    """

    def __init__(self, matrix: sparse.csr_array, ordering: Array, sure: bool = False) -> None:
        """sure: whether the matrix is known to be positive definite, though it may not be to rounding."""
        self.matrix, self.ordering = matrix, ordering
        self.rows = _rows(matrix, ordering)
        diagonal = self.rows[:, -1].copy()
        # a factor by LAPACK where many operations pay for its threads
        self.small = self.rows.size * self.rows.shape[1] <= SMALL
        self._factor: Any = None
        self._modes: tuple[Array, Array] | None = None
        self.deficient = False
        if not (diagonal > 0).all() or not self._factored(0.0) or (not sure and self._has_zero_pivots(diagonal)):
            self.deficient = not sure
            if sure:
                next(k for k in range(-15, 0) if self._factored(10.0**k * diagonal.max()))
            elif len(ordering) <= EXACT:
                values, vectors = linalg.eigh(matrix.toarray(), check_finite=False)
                kept = values > len(values) * np.finfo(float).eps * values[-1]
                self._modes = values[kept], vectors[:, kept]
            else:
                self._factored(SHIFT * diagonal.max())

    def _factored(self, shift: float) -> bool:
        """Factor the matrix with something added to its diagonal; whether that succeeds."""
        rows = self.rows.copy()
        rows[:, -1] += shift
        if self.small:
            self._factor = rows
            return band.cholesky(rows)
        try:
            self._factor = linalg.cholesky_banded(_lapack(rows), lower=True, overwrite_ab=True, check_finite=False)
        except linalg.LinAlgError:
            return False
        return True

    def _has_zero_pivots(self, diagonal: Array) -> bool:
        pivots = self._factor[:, -1] if self.small else self._factor[0]
        return bool((pivots**2 < PIVOT * diagonal).any())

    def inverse(self, b: Array) -> Array:
        """The (pseudo-, shifted) inverse of the matrix times b, (n, columns)."""
        if self._modes is not None:
            values, vectors = self._modes
            return vectors @ ((vectors.T @ b) / values[:, None])
        x = np.empty_like(b)
        if self.small:
            x[self.ordering] = band.solve(self._factor, b[self.ordering])
        else:
            x[self.ordering] = linalg.cho_solve_banded((self._factor, True), b[self.ordering], check_finite=False)
        return x

    def trace(self, other: sparse.csr_array) -> float | None:
        """Trace of the (pseudo-)inverse times another matrix of no wider band; None where that is a lot of work."""
        if self._modes is not None:
            values, vectors = self._modes
            return float((vectors * (other @ vectors) / values).sum())
        if not self.small:
            return None
        return band.trace(self._factor, _rows(other, self.ordering, self.rows.shape[1]))

    def solve(self, b: Array) -> Solution:
        """Of least norm, if there are several."""
        if self.deficient and self._modes is None:
            found = conjugate_gradients(lambda x: self.matrix @ x, b, self.inverse, tolerance=1e-12, stalled=3)
            return found._replace(converged=True, condition=self.condition, deficient=True)
        x = self.inverse(b)
        x += self.inverse(b - self.matrix @ x)
        return Solution(x, 0, True, self.condition, self.deficient)

    @cached_property
    def condition(self) -> float:
        """Greatest eigenvalue by that of the inverse, both by a few steps of the power method."""
        x = np.random.default_rng(0).standard_normal((len(self.ordering), 1))
        scales = []
        for apply in (lambda v: self.matrix @ v, self.inverse):
            v, size = x, 1.0
            for _ in range(8):
                v = apply(v)
                size = float(np.linalg.norm(v)) or 1.0
                v = v / size
            scales.append(size)
        return scales[0] * scales[1]


def _rows(matrix: sparse.csr_array, ordering: Array, width: int = 1) -> Array:
    """The lower triangle of a banded matrix, in another order of its rows and columns, as `cpu.band` takes it."""
    place = sparse.coo_array(matrix[ordering][:, ordering])
    row, column = place.coords
    lower = row >= column
    row, below = row[lower], (row - column)[lower]
    rows = np.zeros((len(ordering), max(width, int(below.max(initial=0)) + 1)))
    rows[row, rows.shape[1] - 1 - below] = place.data[lower]
    return rows


def _lapack(rows: Array) -> Array:
    """The same as LAPACK takes it: a line per diagonal."""
    n, width = rows.shape
    lines = np.zeros((width, n), order="F")
    for d in range(min(width, n)):
        lines[d, : n - d] = rows[d:, width - 1 - d]
    return lines


def conjugate_gradients(
    apply: Callable[[Array], Array],
    b: Array,
    precondition: Callable[[Array], Array] | None = None,
    tolerance: float = 1e-10,
    most: int = 5000,
    stalled: int = 500,
    scale: Array | float = 1.0,
    whole: Array | None = None,
    step: Callable[[float], Any] = lambda residual: None,
) -> Solution:
    """Preconditioned conjugate gradients from zero, all columns at once, until every residual is below tolerance * |b|.

    Residuals are taken per unit of `scale`, the diagonal of the matrix, so that heavy weights do not hide light ones;
    `whole` is what b is the rest of, if its size is what they are to be compared with.
    Or until `most` iterations, or `stalled` ones without progress; `step` is called with the residual after each.

    The condition number is that of the preconditioned matrix, from the Lanczos coefficients of the first column.
    """
    precondition = precondition or (lambda r: r)
    x, r = np.zeros_like(b), b.copy()
    z = precondition(r)
    p, rz = z.copy(), _inner(r, z)
    whole = b if whole is None else whole
    goal = tolerance * np.sqrt(_inner(whole / scale, whole / scale))
    alphas: list[float] = []
    betas: list[float] = []
    best, since, converged = np.inf, 0, False
    while True:
        size = np.sqrt(_inner(r / scale, r / scale))
        converged = bool((size <= goal).all())
        left = float((size / np.where(goal > 0, goal, np.inf)).max(initial=0.0)) * tolerance
        best, since = (left, 0) if left < 0.9 * best else (best, since + 1)
        step(left)
        if converged or len(alphas) == most or since == stalled:
            break
        q = apply(p)
        pq = _inner(p, q)
        alpha = np.where(pq > 0, rz / np.where(pq > 0, pq, 1.0), 0.0)
        x += alpha * p
        r -= alpha * q
        z = precondition(r)
        rz, before = _inner(r, z), rz
        beta = np.where(before > 0, rz / np.where(before > 0, before, 1.0), 0.0)
        p = z + beta * p
        alphas.append(float(alpha[0]) if len(alpha) else 0.0)
        betas.append(float(beta[0]) if len(beta) else 0.0)
    return Solution(x, len(alphas), converged, _lanczos(alphas, betas), False)


def _inner(a: Array, b: Array) -> Array:
    """Inner product of each column."""
    return np.einsum("ij,ij->j", a, b)


def _lanczos(alphas: list[float], betas: list[float]) -> float:
    """Ratio of the extreme eigenvalues of the tridiagonal matrix that conjugate gradients make."""
    steps = next((k for k, a in enumerate(alphas) if a <= 0), len(alphas))
    if steps == 0:
        return 1.0
    inverse, b = 1 / np.array(alphas[:steps]), np.array(betas[:steps])
    diagonal = inverse + np.append(0.0, b[:-1] * inverse[:-1])
    ends = linalg.eigvalsh_tridiagonal(diagonal, np.sqrt(b[:-1]) * inverse[:-1])
    return float(ends[-1] / max(ends[0], 1e-300))
