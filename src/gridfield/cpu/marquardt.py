"""Many small least-squares fits, one step of each: damped normal equations, bounds, what to accept, when to stop.

Levenberg-Marquardt on the normal equations A = J^T J, g = J^T r: (A + lam D) delta = -g, D the largest diagonal of A so
far (J. J. More, "The Levenberg-Marquardt algorithm: implementation and theory", Lect. Notes Math. 630 (1978), 105-116),
lam by the gain ratio (H. B. Nielsen, "Damping parameter in Marquardt's method", IMM-REP-1999-05, Lyngby 1999). Bounds: a
parameter that a step would carry beyond is put on its bound and the others are solved for anew; one on its bound
that the gradient pushes outwards is held.

A fit ends by the length of its step in units of the standard errors, delta^T A delta <= tol^2 2 cost / dof, or by the
rounding of its residuals (D. M. Bates, D. G. Watts, "A relative offset orthogonality convergence criterion for
nonlinear least squares", Technometrics 23 (1981), 179-183). Close to the end costs no longer tell steps apart, their
differences being rounding, while the gradient still does: there steps are undamped and taken unseen.
100,000 fits of 3 parameters: 11 ms a step on one thread (Zen 5).
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numba import njit, types

from . import threads
from .cache import array, compiled

Array = np.ndarray[Any, Any]

LAM, NU, PRED, SIZE, FLOOR, DOF, SEEN, ITER, ILL, LEAST, STUCK = range(11)  # columns of the state of a fit
COLUMNS = 11
# what becomes of a fit
RUNNING, CONVERGED, EXHAUSTED, STALLED, MODEL_NAN, SLOPE_NAN, SINGULAR = 0, 1, 2, 3, 4, 5, 6
ALIKE = 1e-11  # of a cost: differences below are rounding
UNDAMPED = 1e-13
LARGEST = 1e20
POOR = 1e-10  # least pivot of a matrix of unit diagonal: below, its steps have few digits left
_inline = njit(nogil=True, error_model="numpy", inline="never")


@_inline
def _factor(A, D, lam, free, L):  # type: ignore[no-untyped-def]
    """Cholesky factor of the free part of A + lam D, D scaled to 1; the least pivot, 0 or less if there is none."""
    p, least = len(free), 1.0
    for a in range(p):
        if not free[a]:
            continue
        for b in range(a + 1):
            if not free[b]:
                continue
            s = A[a, b] * D[a] * D[b]
            if a == b:
                s += lam
            for k in range(b):
                if free[k]:
                    s -= L[a, k] * L[b, k]
            if a == b:
                if not s > 0.0:
                    return 0.0
                least = min(least, s)
                L[a, a] = np.sqrt(s)
            else:
                L[a, b] = s / L[b, b]
    return least


@_inline
def _solve(L, D, free, x):  # type: ignore[no-untyped-def]
    """x becomes the solution of (A + lam D) delta = x, D in inverse roots."""
    p = len(free)
    for a in range(p):
        if free[a]:
            s = x[a] * D[a]
            for k in range(a):
                if free[k]:
                    s -= L[a, k] * x[k]
            x[a] = s / L[a, a]
    for a in range(p - 1, -1, -1):
        if free[a]:
            s = x[a]
            for k in range(a + 1, p):
                if free[k]:
                    s -= L[k, a] * x[k]
            x[a] = s / L[a, a]
    for a in range(p):
        if free[a]:
            x[a] *= D[a]


@_inline
def _within(A, g, D, lam, x, low, high, free, L, delta):  # type: ignore[no-untyped-def]
    """A damped step within the bounds; the least pivot."""
    p = len(x)
    for a in range(p):
        delta[a] = 0.0
        # held: fixed, without any influence, or on a bound that the gradient pushes it against
        free[a] = (
            low[a] < high[a]
            and A[a, a] > 0.0
            and not (x[a] <= low[a] and g[a] > 0.0)
            and not (x[a] >= high[a] and g[a] < 0.0)
        )
    least = 1.0
    for _ in range(p + 1):
        least = _factor(A, D, lam, free, L)
        if not least > 0.0:
            return least
        for a in range(p):
            if free[a]:
                s = -g[a]
                for k in range(p):
                    if not free[k]:
                        s -= A[a, k] * delta[k]
                L[p, a] = s
        _solve(L, D, free, L[p])
        beyond = False
        for a in range(p):
            if free[a]:
                y = x[a] + L[p, a]
                if y < low[a]:
                    delta[a] = low[a] - x[a]
                    free[a], beyond = False, True
                elif y > high[a]:
                    delta[a] = high[a] - x[a]
                    free[a], beyond = False, True
        if not beyond:
            break
    for a in range(p):
        if free[a]:
            delta[a] = L[p, a]
    return least


@_inline
def _length(A, g, delta, out):  # type: ignore[no-untyped-def]
    """out: decrease of the cost that the quadratic model predicts, and delta^T A delta."""
    size = slope = 0.0
    for a in range(len(delta)):
        s = 0.0
        for b in range(len(delta)):
            s += A[a, b] * delta[b]
        size += s * delta[a]
        slope += g[a] * delta[a]
    out[0], out[1] = -(slope + 0.5 * size), size


@_inline
def _propose(x, trial, A, g, cost, scale, low, high, s, tol, free, L, D, delta, out):  # type: ignore[no-untyped-def]
    """The next trial, or the end: what becomes of the fit."""
    p = len(x)
    for a in range(p):
        scale[a] = max(scale[a], A[a, a])
        D[a] = 1.0 / np.sqrt(scale[a]) if scale[a] > 0.0 else 0.0
    enough = tol * tol * 2.0 * cost / s[DOF] + s[FLOOR]
    for _ in range(60):
        least = _within(A, g, D, s[LAM], x, low, high, free, L, delta)
        if least > 0.0:
            _length(A, g, delta, out)
            if out[1] <= enough and s[LAM] > UNDAMPED and s[SEEN] == 0.0:
                s[LAM], s[SEEN] = UNDAMPED, 1.0  # short by damping, perhaps
                continue
            # steps that shrink by a factor q leave q / (1 - q) of the last to go
            q = np.sqrt(out[1] / s[LEAST]) if s[LEAST] > 0.0 else 0.0
            tiny = out[1] * max(1.0, (q / (1.0 - q)) ** 2 if q < 1.0 else 1.0) <= enough
            if not tiny and out[0] <= 1e-3 * ALIKE * cost and q >= 1.0:
                s[STUCK] += 1.0  # at rounding level, when they no longer shrink
                tiny = s[STUCK] > 2.0
            if tiny:
                for a in range(p):
                    x[a] = min(max(x[a] + delta[a], low[a]), high[a])
                return CONVERGED
            if out[0] > 0.0:
                for a in range(p):
                    trial[a] = min(max(x[a] + delta[a], low[a]), high[a])
                s[PRED], s[SIZE], s[LEAST] = out[0], out[1], min(s[LEAST], out[1])
                s[ILL] = 1.0 if least < POOR else 0.0
                return RUNNING
        s[LAM] = max(10.0 * s[LAM], UNDAMPED)
    return SINGULAR


@_inline
def _finite(A, g):  # type: ignore[no-untyped-def]
    total = 0.0
    for a in range(len(g)):
        total += abs(g[a]) + A[a, a]
    return np.isfinite(total)


@_inline
def _judge(cost, cost2, good, s):  # type: ignore[no-untyped-def]
    """Whether a trial is taken; the damping of the next."""
    if not (good and np.isfinite(cost2)):
        taken = False
    elif s[PRED] <= ALIKE * cost:
        taken = cost2 <= cost * (1.0 + 10.0 * ALIKE)
        if taken:
            s[LAM], s[NU] = max(0.1 * s[LAM], UNDAMPED), 2.0
    else:
        gain = (cost - cost2) / s[PRED]
        taken = gain > 1e-4
        if taken:
            s[LAM] = max(s[LAM] * max(0.1, 1.0 - (2.0 * gain - 1.0) ** 3), UNDAMPED)
            s[NU] = 2.0
    if not taken:
        s[LAM], s[NU] = max(s[LAM], 1e-9) * s[NU], 2.0 * s[NU]
    return taken


def _step(which, x, trial, A, g, cost, A2, g2, cost2, scale, low, high, state, status, tol, limit, start, stop):  # type: ignore[no-untyped-def]
    """One step of the fits which[start:stop]: their trials have been worked out; judge them, and make the next."""
    p = x.shape[1]
    free, L, D, delta, out = np.zeros(p, np.bool_), np.zeros((p + 1, p)), np.zeros(p), np.zeros(p), np.zeros(2)
    for m in range(start, stop):
        i = which[m]
        s = state[i]
        good = _finite(A2[i], g2[i])
        first = s[ITER] == 0.0
        s[ITER] += 1.0
        if first and not (good and np.isfinite(cost2[i])):
            status[i] = SLOPE_NAN if np.isfinite(cost2[i]) else MODEL_NAN
            cost[i] = cost2[i]
            continue
        if first or _judge(cost[i], cost2[i], good, s):
            cost[i], s[SEEN] = cost2[i], 0.0
            for a in range(p):
                x[i, a], g[i, a] = trial[i, a], g2[i, a]
                for b in range(p):
                    A[i, a, b] = A2[i, a, b]
        elif s[LAM] > LARGEST:
            # nowhere to go although the gradient says so: at the rounding of the model, or its derivative is wrong
            status[i] = CONVERGED if s[PRED] <= 1e3 * ALIKE * cost[i] else STALLED
            continue
        status[i] = _propose(
            x[i], trial[i], A[i], g[i], cost[i], scale[i], low[i], high[i], s, tol, free, L, D, delta, out
        )
        if status[i] == RUNNING and s[ITER] >= limit:
            status[i] = EXHAUSTED


def _inverses(A, low, high, out, least, start, stop):  # type: ignore[no-untyped-def]
    """The inverse of the free part of each matrix, zero elsewhere, and the least pivot at unit diagonal."""
    p = A.shape[1]
    free, L, D = np.zeros(p, np.bool_), np.zeros((p + 1, p)), np.zeros(p)
    for i in range(start, stop):
        for a in range(p):
            free[a] = low[i, a] < high[i, a]
            D[a] = 1.0 / np.sqrt(A[i, a, a]) if A[i, a, a] > 0.0 else 0.0
        out[i] = 0.0
        least[i] = _factor(A[i], D, 0.0, free, L)
        if not least[i] > 0.0:
            least[i] = 0.0
            continue
        for b in range(p):
            if free[b]:
                for a in range(p):
                    L[p, a] = 1.0 if a == b else 0.0
                _solve(L, D, free, L[p])
                for a in range(p):
                    out[i, a, b] = L[p, a] if free[a] else 0.0


@functools.cache
def _entry(name: str) -> Any:
    i1, f1, f2, f3 = array(np.int64, 1, "C"), *(array(np.float64, n, "C") for n in (1, 2, 3))
    real, integer = types.float64, types.int64
    kernels: dict[str, Any] = {
        "step": (
            _step,
            (i1, f2, f2, f3, f2, f1, f3, f2, f1, f2, f2, f2, f2, i1, real, real, integer, integer),
        ),
        "inverses": (_inverses, (f3, f2, f2, f3, f1, integer, integer)),
    }
    f, signature = kernels[name]
    return compiled(f, "float64", signature)


def step(which: Array, *arrays: Any) -> None:
    """One step of the fits `which`; arrays as in `_step`."""
    run, p = _entry("step"), arrays[0].shape[1]
    threads.over(lambda i, j: run(which, *arrays, i, j), len(which), len(which) * (30.0 + 12.0 * p * p))


def inverses(A: Array, low: Array, high: Array) -> tuple[Array, Array]:
    """(A's inverses, least pivots) of matrices of fits, over the parameters that are free."""
    out, least, p = np.empty_like(A), np.empty(len(A)), A.shape[1]
    run = _entry("inverses")
    threads.over(lambda i, j: run(A, low, high, out, least, i, j), len(A), len(A) * (30.0 + 8.0 * p**3))
    return out, least
