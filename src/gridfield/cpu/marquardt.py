"""Many small least-squares fits, one step of each: damped normal equations, bounds, what to accept, when to stop.

Levenberg-Marquardt on the normal equations A = J^T J, g = J^T r: (A + lam D) delta = -g, D the largest diagonal of A so
far (J. J. More, "The Levenberg-Marquardt algorithm: implementation and theory", Lect. Notes Math. 630 (1978), 105-116),
lam by the gain ratio (H. B. Nielsen, "Damping parameter in Marquardt's method", IMM-REP-1999-05, Lyngby 1999). Bounds:
a parameter that a step would carry beyond is put on its bound and the others are solved for anew; one on its bound
that the gradient pushes outwards is held.

A fit ends by the length of its step in units of the standard errors, delta^T A delta <= tol^2 2 cost / dof, or by the
rounding of its residuals (D. M. Bates, D. G. Watts, "A relative offset orthogonality convergence criterion for
nonlinear least squares", Technometrics 23 (1981), 179-183). Close to the end costs no longer tell steps apart, their
differences being rounding, while the gradient still does: there steps are undamped and taken unseen.
100,000 fits of 3 parameters: 17 ms a step on one thread (Xeon, 2.3 GHz).
"""

from __future__ import annotations

import functools
import math
from types import FunctionType
from typing import Any

import numpy as np
from numba import njit, types

from . import threads
from .cache import array, compiled

Array = np.ndarray[Any, Any]

LAM, NU, PRED, SIZE, FLOOR, DOF, SEEN, ITER, ILL, LEAST, STUCK, COST = range(12)  # numbers of a fit; then come
X, G, LOW, HIGH, SCALE = range(5)  # its vectors, then its matrix
NUMBERS, VECTORS = 12, 5
# what becomes of a fit
RUNNING, CONVERGED, EXHAUSTED, STALLED, MODEL_NAN, SLOPE_NAN, SINGULAR = 0, 1, 2, 3, 4, 5, 6
ALIKE = 1e-11  # of a cost: differences below are rounding
UNDAMPED = 1e-13
FEW, SPENT = (
    20_000.0,
    5e6,
)  # ns of compiled work, of a step and in all: less is done without a compiler, which takes 3 s
LARGEST = 1e20
POOR = 1e-10  # least pivot of a matrix of unit diagonal: below, its steps have few digits left
_inline = njit(nogil=True, error_model="numpy")


@_inline
def _factor(A, at, lam, w, p):  # type: ignore[no-untyped-def]
    """Cholesky factor of the free part of D (A + lam / D^2) D; the least pivot, 0 or less if there is none.

    w: free, D, and room for two vectors, then for the factor L, whose diagonal is inverted.
    """
    least = 1.0
    for a in range(p):
        if w[a] == 0.0:
            continue
        row = (4 + a) * p
        for b in range(a):
            s = 0.0
            if w[b] != 0.0:
                s = A[at + a * p + b] * w[p + a] * w[p + b]
                for k in range(b):
                    s -= w[row + k] * w[(4 + b) * p + k]
                s *= w[(4 + b) * p + b]
            w[row + b] = s
        s = A[at + a * p + a] * w[p + a] * w[p + a] + lam
        for k in range(a):
            s -= w[row + k] * w[row + k]
        if not s > 0.0:
            return 0.0
        least = min(least, s)
        w[row + a] = 1.0 / math.sqrt(s)
    return least


@_inline
def _solve(w, x, p):  # type: ignore[no-untyped-def]
    """w[x:] becomes the solution for that right-hand side; 0 where not free."""
    for a in range(p):
        s = 0.0
        if w[a] != 0.0:
            row = (4 + a) * p
            s = w[x + a] * w[p + a]
            for k in range(a):
                s -= w[row + k] * w[x + k]
            s *= w[row + a]
        w[x + a] = s
    for a in range(p - 1, -1, -1):
        if w[a] != 0.0:
            s = w[x + a]
            for k in range(a + 1, p):
                if w[k] != 0.0:
                    s -= w[(4 + k) * p + a] * w[x + k]
            w[x + a] = s * w[(4 + a) * p + a]
    for a in range(p):
        w[x + a] *= w[p + a]


@_inline
def _within(S, at, w, p):  # type: ignore[no-untyped-def]
    """A damped step within the bounds, w[3 p:]; the least pivot."""
    v = at + NUMBERS
    x, g, low, high, A = v + X * p, v + G * p, v + LOW * p, v + HIGH * p, v + VECTORS * p
    for a in range(p):
        w[3 * p + a] = 0.0
        # held: fixed, without any influence, or on a bound that the gradient pushes it against
        free = (
            S[low + a] < S[high + a]
            and S[A + a * p + a] > 0.0
            and not (S[x + a] <= S[low + a] and S[g + a] > 0.0)
            and not (S[x + a] >= S[high + a] and S[g + a] < 0.0)
        )
        w[a] = 1.0 if free else 0.0
    while True:
        least = _factor(S, A, S[at + LAM], w, p)
        if not least > 0.0:
            return least
        for a in range(p):
            s = -S[g + a]
            for k in range(p):
                s -= S[A + a * p + k] * w[3 * p + k]
            w[2 * p + a] = s
        _solve(w, 2 * p, p)
        beyond = False
        for a in range(p):
            y = S[x + a] + w[2 * p + a]
            if w[a] != 0.0 and not S[low + a] <= y <= S[high + a]:
                w[3 * p + a] = (S[low + a] if y < S[low + a] else S[high + a]) - S[x + a]
                w[a], beyond = 0.0, True
        if not beyond:
            break
    for a in range(p):
        if w[a] != 0.0:
            w[3 * p + a] = w[2 * p + a]
    return least


@_inline
def _propose(S, at, trial, to, tol, w, p):  # type: ignore[no-untyped-def]
    """The next trial, or the end: what becomes of the fit."""
    v = at + NUMBERS
    A, cost = v + VECTORS * p, S[at + COST]
    for a in range(p):
        S[v + SCALE * p + a] = max(S[v + SCALE * p + a], S[A + a * p + a])
        w[p + a] = 1.0 / math.sqrt(S[v + SCALE * p + a]) if S[v + SCALE * p + a] > 0.0 else 0.0
    enough = tol * tol * 2.0 * cost / S[at + DOF] + S[at + FLOOR]
    for _ in range(60):
        least = _within(S, at, w, p)
        ended, size, slope, inward = False, 0.0, 0.0, False
        for a in range(p):
            s = 0.0
            for b in range(p):
                s += S[A + a * p + b] * w[3 * p + b]
            size += s * w[3 * p + a]
            slope += S[v + G * p + a] * w[3 * p + a]
            y, s = S[v + X * p + a] + w[3 * p + a], s + S[v + G * p + a]
            if s * s > enough * S[A + a * p + a] and S[v + LOW * p + a] < S[v + HIGH * p + a]:
                inward = inward or (y <= S[v + LOW * p + a] and s < 0.0) or (y >= S[v + HIGH * p + a] and s > 0.0)
        if size < 0.0:  # rounding, of a singular matrix
            size = 0.0
        predicted = -(slope + 0.5 * size)
        if least > 0.0 and size <= enough and S[at + LAM] > UNDAMPED and S[at + SEEN] == 0.0:
            S[at + LAM], S[at + SEEN] = UNDAMPED, 1.0  # short by damping, perhaps
            continue
        if least > 0.0:
            # steps that shrink by a factor q leave q / (1 - q) of the last to go
            q = math.sqrt(size / S[at + LEAST]) if S[at + LEAST] > 0.0 else 0.0
            left = q / (1.0 - q) if q < 1.0 else 1.0
            ended = size * max(1e-4, left * left) <= enough and (size <= enough or S[at + LAM] <= 1e-3)
            ended = ended and not inward  # held by a bound that the gradient has left
            if not ended and abs(predicted) <= 1e-3 * ALIKE * cost and q >= 1.0:
                S[at + STUCK] += 1.0  # at rounding level, when they no longer shrink
                ended = S[at + STUCK] > 2.0
            if ended and S[at + LAM] > 1e-3 and cost > S[at + FLOOR]:
                # short by damping: an optimum only where the residual is normal to the derivatives
                for a in range(p):
                    if w[a] != 0.0 and S[v + G * p + a] * S[v + G * p + a] > 1e-6 * 2.0 * cost * S[A + a * p + a]:
                        return STALLED
            if ended or predicted > 0.0:
                for a in range(p):
                    y = min(max(S[v + X * p + a] + w[3 * p + a], S[v + LOW * p + a]), S[v + HIGH * p + a])
                    if ended:
                        S[v + X * p + a] = y
                    else:
                        trial[to + a] = y
                if ended:
                    return CONVERGED
                S[at + PRED], S[at + SIZE], S[at + LEAST] = predicted, size, min(S[at + LEAST], size)
                S[at + ILL] = 1.0 if least < POOR else 0.0
                return RUNNING
        S[at + LAM] = max(10.0 * S[at + LAM], UNDAMPED)
    return SINGULAR


@_inline
def _judge(S, at, cost2):  # type: ignore[no-untyped-def]
    """Whether a trial is taken; the damping of the next."""
    cost, lam = S[at + COST], S[at + LAM]
    taken = False
    if S[at + PRED] <= ALIKE * cost:
        taken = cost2 <= cost * (1.0 + 10.0 * ALIKE)
        lam *= 0.1
    else:
        gain = (cost - cost2) / S[at + PRED]
        taken = gain > 1e-4
        gain = 2.0 * gain - 1.0
        lam *= max(0.1, 1.0 - gain * gain * gain)
    if taken:
        S[at + LAM], S[at + NU], S[at + SEEN] = max(lam, UNDAMPED), 2.0, 0.0
    else:
        S[at + LAM], S[at + NU] = max(S[at + LAM], 1e-9) * S[at + NU], 2.0 * S[at + NU]
    return taken


def _step(which, S, trial, A2, g2, cost2, status, tol, limit, parameters, start, stop):  # type: ignore[no-untyped-def]
    """One step of the fits which[start:stop]: their trials have been worked out; judge them, and make the next."""
    p = len(parameters)
    w = np.zeros((4 + p) * p)
    width = NUMBERS + VECTORS * p + p * p
    for m in range(start, stop):
        i = which[m]
        at = i * width
        v, total = at + NUMBERS, cost2[i]
        for a in range(p):
            total += abs(g2[i * p + a]) + A2[(i * p + a) * p + a]
        good, first = math.isfinite(total), math.isnan(S[at + COST])
        S[at + ITER] += 1.0
        if first and not good:
            status[i] = SLOPE_NAN if math.isfinite(cost2[i]) else MODEL_NAN
            S[at + COST] = cost2[i]
            continue
        taken = first
        if not first:
            taken = _judge(S, at, cost2[i] if good else np.inf)
        if taken:
            S[at + COST] = cost2[i]
            for a in range(p):
                S[v + X * p + a], S[v + G * p + a] = trial[i * p + a], g2[i * p + a]
            for a in range(p * p):
                S[v + VECTORS * p + a] = A2[i * p * p + a]
        elif S[at + LAM] > LARGEST:
            # nowhere to go although the gradient says so: at the rounding of the model, or its derivative is wrong
            status[i] = CONVERGED if S[at + PRED] <= 1e3 * ALIKE * S[at + COST] else STALLED
            continue
        status[i] = _propose(S, at, trial, i * p, tol, w, p)
        if status[i] == RUNNING and S[at + ITER] >= limit:
            status[i] = EXHAUSTED


def _inverses(A, fixed, out, least, parameters, start, stop):  # type: ignore[no-untyped-def]
    """The inverse of the free part of each matrix, zero elsewhere, and the least pivot at unit diagonal."""
    p = len(parameters)
    w = np.zeros((4 + p) * p)
    for i in range(start, stop):
        at = i * p * p
        for a in range(p):
            w[a] = 0.0 if fixed[i * p + a] else 1.0
            w[p + a] = 1.0 / math.sqrt(A[at + a * p + a]) if A[at + a * p + a] > 0.0 else 0.0
        least[i] = max(_factor(A, at, 0.0, w, p), 0.0)
        for b in range(p):
            for a in range(p):
                w[2 * p + a] = 1.0 if a == b else 0.0
            if w[b] != 0.0 and least[i] > 0.0:
                _solve(w, 2 * p, p)
            for a in range(p):
                out[at + a * p + b] = w[2 * p + a] if w[a] != 0.0 and w[b] != 0.0 else 0.0


KERNELS = {"step": _step, "inverses": _inverses}
_plain: dict[str, Any] = dict(globals())  # the same code without a compiler
for _f in (_factor, _solve, _within, _propose, _judge, _step, _inverses):
    _f = getattr(_f, "py_func", _f)
    _plain[_f.__name__] = FunctionType(_f.__code__, _plain)
_ready: set[tuple[str, int]] = set()
_spent: dict[tuple[str, int], float] = {}


@functools.cache
def _entry(name: str, p: int) -> Any:
    """For that many parameters, a constant of the code: 1.6 times faster than a number of the run."""
    i1, f1, b1 = (array(t, 1, "C") for t in (np.int64, np.float64, np.bool_))
    real, integer, several = types.float64, types.int64, types.UniTuple(types.int64, p)
    signatures = {
        "step": (i1, f1, f1, f1, f1, f1, i1, real, real, several, integer, integer),
        "inverses": (f1, b1, f1, f1, several, integer, integer),
    }
    entry = compiled(KERNELS[name], f"float64_{p}", signatures[name])
    _ready.add((name, p))
    return entry


def _run(name: str, arrays: tuple[Array, ...], written: tuple[int, ...], numbers: Any, p: int, count: int) -> None:
    """A kernel for rows 0 ... count; `written`: which of its arrays it writes.

    Few fits do not wait seconds for a compiler: 40 us for a step of 3 parameters in Python, 4 ms for one of 30.
    """
    several, work = (0,) * p, 50.0 + 20.0 * p * p
    spent = _spent.get((name, p), 0.0)
    if count * work < FEW and spent < SPENT and (name, p) not in _ready:
        _spent[name, p] = spent + count * work
        lists = [a.tolist() for a in arrays]
        _plain[f"_{name}"](*lists, *numbers, several, 0, count)
        for a in written:
            arrays[a][...] = lists[a]
    else:
        run = _entry(name, p)
        threads.over(lambda i, j: run(*arrays, *numbers, several, i, j), count, count * work)


class Fits:
    """The state of many fits: a row for each, so that a step touches few lines of memory."""

    def __init__(self, start: Array, low: Array, high: Array) -> None:
        fits, p = start.shape
        self.p, self.rows = p, np.zeros((fits, NUMBERS + VECTORS * p + p * p))
        for name, values in ((X, start), (LOW, low), (HIGH, high)):
            self.vector(name)[...] = values
        for name, value in ((NU, 2.0), (LEAST, np.inf), (COST, np.nan)):
            self.number(name)[...] = value
        self.trial = np.array(start, np.float64, order="C")
        self.normal, self.gradient, self.cost = np.zeros((fits, p, p)), np.zeros((fits, p)), np.zeros(fits)

    def number(self, name: int) -> Array:
        """(fits,), a view."""
        return self.rows[:, name]

    def vector(self, name: int) -> Array:
        """(fits, p), a view."""
        return self.rows[:, NUMBERS + name * self.p : NUMBERS + (name + 1) * self.p]

    def diagonal(self) -> Array:
        """(fits, p), a view: of their matrices."""
        return self.rows[:, -(self.p**2) :: self.p + 1] if self.p else self.rows[:, :0]

    def matrix(self) -> Array:
        """(fits, p, p), a copy."""
        return self.rows[:, NUMBERS + VECTORS * self.p :].reshape(-1, self.p, self.p).copy()

    def step(self, which: Array, status: Array, tol: float, limit: float) -> None:
        """One step of the fits `which`: `normal`, `gradient` and `cost` are those of their trials."""
        flat = (
            which, self.rows.ravel(), self.trial.ravel(), self.normal.ravel(), self.gradient.ravel(), self.cost, status,
        )  # fmt: skip
        _run("step", flat, (1, 2, 6), (tol, limit), self.p, len(which))


def inverses(A: Array, fixed: Array) -> tuple[Array, Array]:
    """(A's inverses, least pivots) of matrices of fits, over the parameters that are not fixed."""
    out, least, p = np.empty_like(A), np.empty(len(A)), A.shape[1]
    _run("inverses", (A.ravel(), fixed.ravel(), out.ravel(), least), (2, 3), (), p, len(A))
    return out, least
