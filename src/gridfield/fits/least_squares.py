"""Nonlinear least squares, many fits at once: Levenberg-Marquardt on normal equations, by QR where those are poor.

A `Problem` says what residuals are; here is what to do about them. No framework, no shapes of users: fits are rows.
The normal equations are summed up in blocks, so nothing of the size (points, parameters) is kept. Their steps are as
good as those by QR as long as the matrix has digits left, since errors of the matrix make a step longer or shorter but
move no minimum; below `marquardt.POOR` the steps are made by QR of the Jacobian, by blocks of rows (TSQR: J. Demmel,
L. Grigori, M. Hoemmen, J. Langou, SIAM J. Sci. Comput. 34 (2012), A206-A239).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from ..cpu import marquardt
from ..cpu.marquardt import CONVERGED, EXHAUSTED, MODEL_NAN, RUNNING, SINGULAR, SLOPE_NAN, STALLED

Array = np.ndarray[Any, Any]
Loss = tuple[str, float]  # name, and the residual from which on it matters

ROWS = 65536  # of a block of the Jacobian
TOLERANCE = 1e-9  # length of the last step, in standard errors
DAMPING = 1e-4  # to begin with, of the diagonal
STALE, AGAIN = 1e-12, 4  # of the diagonal; how often a fit begins anew for that
LOSSES = ("linear", "huber", "soft_l1", "cauchy")
# found before anything is fitted
FEW, OUTSIDE, SIGMA, INFINITE, MISSING = 7, 8, 9, 10, 11

REASONS = {
    RUNNING: "not fitted yet",
    CONVERGED: "converged",
    EXHAUSTED: "no convergence within maxiter steps",
    STALLED: "no step decreases the sum of squares although its gradient is not zero: is the derivative right?",
    MODEL_NAN: "the model is NaN or infinite at the start values",
    SLOPE_NAN: "the derivative of the model is NaN or infinite at the start values",
    SINGULAR: "the Jacobian is singular: the data do not determine all parameters",
    FEW: "fewer points than parameters",
    OUTSIDE: "the start values are outside of the bounds",
    SIGMA: "sigma is zero or negative somewhere",
    INFINITE: "the data are infinite somewhere",
    MISSING: "the data hold NaN",
}


@dataclass
class Scale:
    """Units of fits: residuals are r data, parameters theta / params, all of them powers of two."""

    data: Array  # (fits,)
    params: Array  # (fits, p)

    def of(self, places: Array) -> Scale:
        """For some of the parameters."""
        return Scale(self.data, np.ascontiguousarray(self.params[:, places]))


class Problem(Protocol):
    """What is fitted: residuals r = weight (model - y) of fits, each of `points` of its own."""

    points: int
    exact: float  # relative rounding of the model

    def normal(self, params: Array, which: Array, loss: Loss, A: Array, g: Array, cost: Array) -> None:
        """J^T J, J^T r and 1/2 sum rho at the rows `which`."""
        ...

    def residuals(self, x: Array, fit: int, start: int, stop: int) -> tuple[Array, Array]:
        """(r, J) of some points of one fit at its parameters x, weighted; 0 where there are no data."""
        ...


@dataclass
class Solution:
    """What became of each fit."""

    params: Array  # (fits, p)
    cost: Array  # (fits,)
    status: Array  # (fits,) int
    iterations: Array  # (fits,) int
    normal: Array  # (fits, p, p)
    cov: Array = field(default_factory=lambda: np.zeros(0))  # inverse of J^T J, NaN or inf where there is none
    scale: Scale | None = (
        None  # units of cost, normal and cov, where they are not those of the data; params are in those
    )


def rho(z: Array, loss: str) -> tuple[Array, Array, Array]:
    """A loss of z = (r / scale)^2 and its first two derivatives, as scipy.optimize.least_squares has them."""
    if loss == "huber":
        small = z <= 1
        root = np.sqrt(np.where(small, 1.0, z))
        return np.where(small, z, 2 * root - 1), 1 / root, np.where(small, 0.0, -0.5 / root**3)
    if loss == "soft_l1":
        t = 1 + z
        return 2 * (np.sqrt(t) - 1), t**-0.5, -0.5 * t**-1.5
    if loss == "cauchy":
        t = 1 / (1 + z)
        return np.log1p(z), t, -(t**2)
    return z, np.ones_like(z), np.zeros_like(z)


def robust(r: Array, J: Array | None, loss: Loss) -> tuple[Array, Array | None, Array]:
    """(r, J) scaled so that J^T J is the Gauss-Newton matrix of the loss and J^T r its gradient; each point's loss.

    B. Triggs et al., "Bundle adjustment: a modern synthesis" (2000), section 4.3.
    """
    name, scale = loss
    if name == "linear":
        return r, J, r * r
    value, first, second = rho((r / scale) ** 2, name)
    root = np.sqrt(np.maximum(first + 2 * second * (r / scale) ** 2, np.finfo(float).eps))
    return r * (first / root), None if J is None else J * root[..., None], scale**2 * value


def solve(
    problem: Problem,
    start: Array,
    low: Array,
    high: Array,
    dof: Array,
    size: Array,
    *,
    status: Array,
    loss: Loss = ("linear", 1.0),
    maxiter: int = 200,
    tell: Callable[[float], Any] | None = None,
) -> Solution:
    """Fits from their start values; those whose status is RUNNING.

    start, low, high (fits, p), low == high: fixed; dof (fits,) points less free parameters; size (fits,) sum of squares
    of the weighted data, by which the rounding of residuals is known.
    """
    dof, floor = np.maximum(dof, 1), (8 * problem.exact) ** 2 * size
    tolerance = max(TOLERANCE, problem.exact**0.5 if problem.exact > 1e-10 else 0.0)
    begin, which = np.clip(start, low, high), np.flatnonzero(status == RUNNING)
    ended = None
    if len(which) and hasattr(problem, "together"):
        numbers = tolerance, DAMPING, float(maxiter)
        ended = problem.together(begin, low, high, dof, floor, which, loss, numbers, status)  # type: ignore[attr-defined]
    given = begin, low, high, dof, floor, status
    if ended is None or (len(which) and (status[which] == RUNNING).all()):
        done, largest = _by_steps(problem, *given, loss, maxiter, tolerance, tell)
    else:
        done, largest = _of_ended(ended, begin, which, status), ended.largest
        stale = _stale(np.einsum("fii->fi", done.normal), largest, status, low < high)
        status[stale] = RUNNING
        left = which[status[which] == RUNNING]
        if len(left):
            part = [a[left] for a in given]
            some, most = _by_steps(problem.some(left), *part, loss, maxiter, tolerance, tell)  # type: ignore[attr-defined]
            done.params[left], done.cost[left], done.normal[left] = some.params, some.cost, some.normal
            done.iterations[left], largest[left], status[left] = some.iterations, most, some.status
    done.cov = covariance(problem, done, low, high, loss)
    lost = vanished(done, start, largest, dof)
    status[lost & (status == CONVERGED)] = SINGULAR
    return done


def _of_ended(ended: Any, start: Array, which: Array, status: Array) -> Solution:
    """With what fits have that were not begun."""
    if len(which) < len(status):
        never = np.ones(len(status), bool)
        never[which] = False
        ended.params[never], ended.cost[never], ended.normal[never] = start[never], np.nan, 0.0
        ended.largest[never] = 0.0
    return Solution(ended.params, ended.cost, status, ended.turns.astype(np.int64), ended.normal)


def _by_steps(
    problem: Problem, start: Array, low: Array, high: Array, dof: Array, floor: Array, status: Array, loss: Loss,
    maxiter: int, tolerance: float, tell: Callable[[float], Any] | None,
) -> tuple[Solution, Array]:  # fmt: skip
    """All fits step by step; and the largest diagonals of their matrices."""
    state = marquardt.Fits(start, low, high)
    state.number(marquardt.DOF)[...] = dof
    state.number(marquardt.FLOOR)[...] = floor
    which = np.flatnonzero(status == RUNNING)
    _begin(state, which)
    largest = np.zeros_like(start)
    for k in range(AGAIN + 1):
        _iterate(problem, state, status, which, loss, tolerance, maxiter, tell)
        largest = np.maximum(largest, state.vector(marquardt.SCALE))
        which = _stale(state.diagonal(), state.vector(marquardt.SCALE), status, low < high)
        if len(which) and k < AGAIN:  # but not those that went to where there is nothing to be found
            done = _solution(state, status.copy())
            done.cov = covariance(problem, done, low, high, loss)
            lost = vanished(done, start, largest, dof) | (done.status == SINGULAR)
            which = which[~lost[which]]
        if not len(which) or k == AGAIN:
            break
        _begin(state, which)
        status[which] = RUNNING
    return _solution(state, status), largest


def _solution(state: marquardt.Fits, status: Array) -> Solution:
    return Solution(
        state.vector(marquardt.X).copy(), state.number(marquardt.COST).copy(), status,
        state.number(marquardt.ITER).astype(np.int64), state.matrix(),
    )  # fmt: skip


def _begin(state: marquardt.Fits, which: Array) -> None:
    """Fits where they are, with nothing known of the way there but how many steps it took."""
    for name in (marquardt.PRED, marquardt.SIZE, marquardt.SEEN, marquardt.ILL, marquardt.STUCK):
        state.number(name)[which] = 0.0
    for name, value in (
        (marquardt.LAM, DAMPING),
        (marquardt.NU, 2.0),
        (marquardt.LEAST, np.inf),
        (marquardt.COST, np.nan),
    ):
        state.number(name)[which] = value
    state.vector(marquardt.SCALE)[which] = 0.0
    state.trial[which] = state.vector(marquardt.X)[which]


def _iterate(
    problem: Problem, state: marquardt.Fits, status: Array, which: Array, loss: Loss, tolerance: float, maxiter: int,
    tell: Callable[[float], Any] | None,
) -> None:  # fmt: skip
    """Steps until none of these fits is RUNNING."""
    ill = state.number(marquardt.ILL)
    while len(which):
        problem.normal(state.trial, which, loss, state.normal, state.gradient, state.cost)
        state.step(which, status, tolerance, float(maxiter))
        which = which[status[which] == RUNNING]
        poor = which[ill[which] > 0]
        if len(poor):
            _by_qr(problem, poor, state, status, loss, tolerance)
        which = which[status[which] == RUNNING] if len(poor) else which
        if tell is not None and len(which):
            size, cost = state.number(marquardt.SIZE)[which], state.number(marquardt.COST)[which]
            tell(float(np.sqrt(size / np.maximum(cost, 1e-300)).max()))


def _stale(size: Array, largest: Array, status: Array, free: Array) -> Array:
    """Fits that ended with a parameter still damped by a derivative that it had far away.

    size (fits, p): the diagonals of their matrices, largest: what those have been at most. Of a*exp(-b*x) from a = 1 to
    data near 1e-20 the derivative in b falls by as much, and b would stay where it was.
    """
    far = (size < STALE * largest) & (size > 0)
    if not far.any():
        return np.zeros(0, np.int64)
    return np.flatnonzero((status == CONVERGED) & (far & free).any(1))


def vanished(done: Solution, start: Array, largest: Array, dof: Array) -> Array:
    """Fits that went to where the model is flat in a parameter, to rounding: (fits,) bool.

    Its derivative is nothing beside what it was on the way, and its standard error has no digit in common with it.
    Both: the first alone is that of an exponential from a poor start, the second that of a parameter which is zero.
    """
    eps, lost = np.finfo(float).eps, np.zeros(len(dof), bool)
    with np.errstate(invalid="ignore", over="ignore"):
        flat = np.einsum("fii->fi", done.normal) < eps**2 * largest
        some = np.flatnonzero(anywhere(flat)) if flat.any() else []
        if len(some):
            error = np.sqrt(np.einsum("fii->fi", done.cov[some]) * (2 * done.cost[some] / dof[some])[:, None])
            size = np.maximum(np.abs(done.params[some]), np.abs(start[some]))
            lost[some] = (flat[some] & (eps * error > size)).any(1)
    return lost


def anywhere(x: Array) -> Array:
    """x.any(1) of few columns: NumPy takes 30 ns a row for its own."""
    return functools.reduce(np.logical_or, x.T)


def triangle(problem: Problem, x: Array, fit: int, loss: Loss) -> Array:
    """R of the QR of (J, r) at the parameters x of a fit, by blocks of rows: (k, p + 1) with k <= p + 1."""
    factor: Any = np.zeros((0, len(x) + 1))
    for start in range(0, problem.points, ROWS):
        r, J = problem.residuals(x, fit, start, min(start + ROWS, problem.points))
        r, J, _ = robust(r, J, loss)
        factor = np.linalg.qr(np.concatenate([factor, np.column_stack([np.asarray(J), r])]), mode="r")
    return factor


def triangles(problem: Problem, params: Array, fits: Array, loss: Loss) -> Array:
    """The triangles of some fits at their parameters (m, p): (m, k, p + 1).

    Those of small fits in one call: 500 fits of 32 points that take 10,000 steps by QR: 4.9 -> 2.5 s.
    """
    m, p = params.shape
    if problem.points > ROWS:
        return np.stack([triangle(problem, x, int(fit), loss) for x, fit in zip(params, fits, strict=True)])
    out = np.empty((m, min(problem.points, p + 1), p + 1))
    some = max(1, ROWS * 4 // (max(problem.points, 1) * (p + 1)))
    both = np.empty((min(some, m), problem.points, p + 1))
    for at in range(0, m, some):
        part = slice(at, min(at + some, m))
        here = both[: part.stop - at]
        many = getattr(problem, "many", None)
        if many is not None:
            here[..., -1], here[..., :-1] = many(params[part], fits[part])
        else:
            for k, fit in enumerate(fits[part]):
                here[k, :, -1], here[k, :, :-1] = problem.residuals(params[at + k], int(fit), 0, problem.points)
        if loss[0] != "linear":
            here[..., -1], here[..., :-1], _ = robust(here[..., -1], here[..., :-1], loss)
        out[part] = np.linalg.qr(here, mode="r")
    return out


def _by_qr(problem: Problem, fits: Array, state: marquardt.Fits, status: Array, loss: Loss, tolerance: float) -> None:
    """The next trials of some fits by QR, instead of those that the normal equations gave."""
    factor = triangles(problem, state.vector(marquardt.X)[fits], fits, loss)
    good = np.isfinite(factor).all((1, 2))
    fits, J, r = fits[good], factor[good, :, :-1], factor[good, :, -1]
    x, lo, hi, scale = (state.vector(v)[fits] for v in (marquardt.X, marquardt.LOW, marquardt.HIGH, marquardt.SCALE))
    lam, cost, dof, floor, seen = (
        state.number(v)[fits] for v in (marquardt.LAM, marquardt.COST, marquardt.DOF, marquardt.FLOOR, marquardt.SEEN)
    )
    root = np.sqrt(np.where(scale > 0, scale, 1.0))
    slope = (J.swapaxes(1, 2) @ r[..., None])[..., 0]
    free = (lo < hi) & (scale > 0) & ~((x <= lo) & (slope > 0)) & ~((x >= hi) & (slope < 0))
    delta = np.zeros_like(x)
    left = np.flatnonzero(free.any(1))
    while len(left):
        F = free[left]
        damped = np.concatenate([J[left] / root[left, None], np.sqrt(lam[left, None, None]) * np.eye(x.shape[1])], 1)
        damped *= F[:, None]
        right = np.zeros(damped.shape[:2])
        right[:, : r.shape[1]] = -(r[left] + (J[left] @ np.where(F, 0.0, delta[left])[..., None])[..., 0])
        inverse = np.linalg.pinv(damped, np.finfo(float).eps * damped.shape[1])
        step = (inverse @ right[..., None])[..., 0] / root[left]
        beyond = F & ((x[left] + step < lo[left]) | (x[left] + step > hi[left]))
        held = np.clip(x[left] + step, lo[left], hi[left]) - x[left]
        delta[left] = np.where(beyond, held, np.where(F, step, delta[left]))
        free[left] = F & ~beyond
        left = left[beyond.any(1) & free[left].any(1)]
    along = (J @ delta[..., None])[..., 0]
    length = (along * along).sum(1)
    predicted = -(r * along).sum(1) - 0.5 * length
    ended = (length <= tolerance**2 * 2 * cost / dof + floor) & ((lam <= 1e-9) | (seen > 0))
    there = np.clip(x + delta, lo, hi)
    state.vector(marquardt.X)[fits[ended]] = there[ended]
    status[fits[ended]] = CONVERGED
    further = ~ended & (predicted > 0)
    state.trial[fits[further]] = there[further]
    state.number(marquardt.PRED)[fits[further]] = predicted[further]
    state.number(marquardt.SIZE)[fits[further]] = length[further]


def covariance(problem: Problem, done: Solution, low: Array, high: Array, loss: Loss) -> Array:
    """(J^T J)^-1 over the free parameters; by QR where the matrix has too few digits, inf where it is singular."""
    ended = (done.status == CONVERGED) | (done.status == EXHAUSTED) | (done.status == STALLED)
    A = done.normal if ended.all() else np.where(ended[:, None, None], done.normal, np.eye(low.shape[1]))
    cov, least = marquardt.inverses(np.ascontiguousarray(A), low == high)
    if A is not done.normal:
        cov[~ended] = np.nan
    poor = np.flatnonzero(ended & (least < 1e-8))
    if not len(poor):
        return cov
    free = low[poor] < high[poor]
    factor = triangles(problem, done.params[poor], poor, loss)[..., :-1]
    for pattern in np.unique(free, axis=0):
        same = (free == pattern).all(1)
        fits, J = poor[same], factor[same][..., pattern]
        inverse = _inverse(J, problem.points)
        singular = fits[np.isinf(inverse).any((1, 2))]
        done.status[singular] = np.where(done.status[singular] == CONVERGED, SINGULAR, done.status[singular])
        cov[fits] = 0.0
        cov[np.ix_(fits, np.flatnonzero(pattern), np.flatnonzero(pattern))] = inverse
    return cov


def _inverse(J: Array, points: int) -> Array:
    """(J^T J)^-1 of triangles (m, k, p); inf where it is singular."""
    m, k, p = J.shape
    inverse = np.full((m, p, p), np.inf)
    norm = np.sqrt((J * J).sum(1))
    good = np.flatnonzero(np.isfinite(J).all((1, 2)) & (norm > 0).all(1))
    if k < p or not p or not len(good):
        return inverse
    _, s, V = np.linalg.svd(J[good] / norm[good, None], full_matrices=False)
    known = s[:, -1] > np.finfo(float).eps * max(points, p) * s[:, 0]
    half = V[known].swapaxes(1, 2) / s[known, None] / norm[good[known], :, None]
    inverse[good[known]] = half @ half.swapaxes(1, 2)
    return inverse
