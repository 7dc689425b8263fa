"""Data whose errors are correlated: residuals by the Cholesky factor of their covariance, so that they are not.

With C = L L^T the residuals L^-1 (f - y) are uncorrelated, of variance 1 (generalised least squares: A. C. Aitken, "On
least squares and linear combination of observations", Proc. R. Soc. Edinburgh 55 (1936), 42-48).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.linalg

from .least_squares import Loss, Problem, Scale, robust

Array = np.ndarray[Any, Any]


class Whitening:
    """The factor of a covariance (n, n), over the points that are not left out."""

    def __init__(self, covariance: Array, kept: Array, name: str) -> None:
        self.kept, self.errors = kept, np.sqrt(np.maximum(np.diag(covariance), 0.0))
        C = covariance[np.ix_(kept, kept)]
        if not np.isfinite(C).all():
            raise ValueError(f"{name}: sigma, the covariance of the data, is NaN or infinite beside its diagonal")
        if (np.abs(C - C.T) > 1e-8 * np.abs(C).max(initial=0.0)).any():
            raise ValueError(f"{name}: sigma, the covariance of the data, must be symmetric")
        try:
            self.factor = np.linalg.cholesky(C)
        except np.linalg.LinAlgError:
            raise ValueError(f"{name}: sigma, the covariance of the data, must be positive definite") from None

    def __call__(self, a: Array) -> Array:
        """L^-1 of (n, ...), 0 where points are left out."""
        out = np.zeros(a.shape)
        if self.kept.any():
            out[self.kept] = scipy.linalg.solve_triangular(self.factor, a[self.kept], lower=True, check_finite=False)
        return out

    @property
    def matrix(self) -> Array:
        """L^-1 (n, n)."""
        return self(np.eye(len(self.kept)))


def is_covariance(sigma: tuple[int, ...], shape: tuple[int, ...]) -> bool:
    """Whether that is the shape of a covariance (n, n) of all n points of a fit rather than of an error of each."""
    n = int(np.prod(shape))
    return n > 1 and sigma == (n, n) != shape


class WhitenedProblem:
    """The problem of one fit with residuals L^-1 (f - y)."""

    def __init__(self, problem: Problem, whitening: Whitening, scale: Scale | None = None) -> None:
        self.problem, self.whitening, self.scale = problem, whitening, scale
        self.points, self.exact = problem.points, problem.exact
        self._last: tuple[bytes, Array, Array] | None = None

    def normal(self, params: Array, which: Array, loss: Loss, A: Array, g: Array, cost: Array) -> None:
        """Of all points: each depends on those before."""
        for fit in which:
            with np.errstate(all="ignore"):
                r, J = self.residuals(params[fit], fit, 0, self.points)
                r, weighted, value = robust(r, J, loss)
                A[fit], g[fit], cost[fit] = weighted.T @ weighted, weighted.T @ r, 0.5 * value.sum()  # type: ignore[union-attr]

    def residuals(self, x: Array, fit: int, start: int, stop: int) -> tuple[Array, Array]:
        """Some of them."""
        if self._last is None or self._last[0] != x.tobytes():
            inner = x if self.scale is None else x * self.scale.params[0]
            r, J = self.problem.residuals(inner, fit, 0, self.points)
            both = self.whitening(np.column_stack([r, J]))
            if self.scale is not None:
                both[:, 0] *= self.scale.data[0]
                both[:, 1:] *= self.scale.data[0] * self.scale.params[0]
            self._last = x.tobytes(), both[:, 0], both[:, 1:]
        return self._last[1][start:stop], self._last[2][start:stop]
