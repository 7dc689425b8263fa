"""Several models with shared parameters: one problem out of the problems of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .data import Data
from .least_squares import Loss, Problem, Scale
from .whitening import WhitenedProblem

Array = np.ndarray[Any, Any]


@dataclass
class Part:
    """A model and its data; places: which of all parameters are its own."""

    key: Any
    model: Any
    data: Data
    places: Array

    def own(self, params: Array) -> Array:
        """Its own parameters of (fits, p)."""
        return np.ascontiguousarray(params[..., self.places])


class JointProblem:
    """Sums over parts."""

    def __init__(self, parts: Sequence[Part], scale: Scale | None = None) -> None:
        self.parts, self.problems = parts, [_own(part, scale) for part in parts]
        self.ends = np.cumsum([0, *(p.points for p in self.problems)])
        self.points = int(self.ends[-1])
        self.exact = max(p.exact for p in self.problems)

    def normal(self, params: Array, which: Array, loss: Loss, A: Array, g: Array, cost: Array) -> None:
        """J^T J, J^T r and the cost."""
        A[which], g[which], cost[which] = 0.0, 0.0, 0.0
        for part, problem in zip(self.parts, self.problems, strict=True):
            k, fits = len(part.places), len(params)
            A1, g1, cost1 = np.zeros((fits, k, k)), np.zeros((fits, k)), np.zeros(fits)
            problem.normal(part.own(params), which, loss, A1, g1, cost1)
            A[np.ix_(which, part.places, part.places)] += A1[which]
            g[np.ix_(which, part.places)] += g1[which]
            cost[which] += cost1[which]

    def residuals(self, x: Array, fit: int, start: int, stop: int) -> tuple[Array, Array]:
        """One part behind the other."""
        r, J = np.zeros(stop - start), np.zeros((stop - start, len(x)))
        for part, problem, first, last in zip(self.parts, self.problems, self.ends, self.ends[1:], strict=False):
            a, b = max(start, int(first)), min(stop, int(last))
            if a < b:
                some = problem.residuals(part.own(x), fit, a - int(first), b - int(first))
                r[a - start : b - start] = some[0]
                J[a - start : b - start, part.places] = some[1]
        return r, J


def problem_of(parts: Sequence[Part], scale: Scale | None = None) -> Problem:
    """One, or several; in units of its own, perhaps."""
    return _own(parts[0], scale) if len(parts) == 1 else JointProblem(parts, scale)


def _own(part: Part, scale: Scale | None) -> Problem:
    """Of one part."""
    scale = None if scale is None else scale.of(part.places)
    if part.data.whitening is None:
        return part.model.problem(part.data, scale)
    return WhitenedProblem(part.model.problem(part.data, None), part.data.whitening, scale)
