"""Numbers so small or large that their squares are not numbers: fits in other units, by powers of two.

A power of two changes no digit, so a fit in such units is the same one, to the bit, as long as no square in it is lost;
and it is done only where some would be: y near 1e-200, whose squares are 0, say.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .least_squares import ROWS, RUNNING, Problem, Scale, Solution, solve

Array = np.ndarray[Any, Any]

FAR = 300  # powers of two from 1: their squares, and the products of those with eps**2, are numbers
ROUNDS = 8


def extreme(datas: Sequence[Any], start: Array, status: Array) -> bool:
    """Whether squares of data, coordinates or parameters may be lost."""
    with np.errstate(over="ignore"):
        low, high = 2.0**-FAR, 2.0**FAR
        running = np.flatnonzero(status == RUNNING)
        for data in datas:
            size = data.size[running]
            if not ((size >= low**2) & (size <= high**2) | (size == 0)).all():
                return True
            if (size == 0).any() and _largest(data)[running][size == 0].any():
                return True
            for c in data.coords:
                if c.size and not (_moderate(c.max()) and _moderate(c.min())):
                    return True
        x = np.abs(start[running])
        return bool(((x > high) | ((x < low) & (x > 0))).any())


def _moderate(c: Any) -> bool:
    """Of a coordinate, which may be squared before it is one of a derivative."""
    return bool(c == 0 or 2.0 ** (-FAR / 2) <= abs(c) <= 2.0 ** (FAR / 2))


def _largest(data: Any) -> Array:
    """Largest of the weighted data of each fit."""
    with np.errstate(invalid="ignore", over="ignore"):
        y = np.abs(data.y) if data.weight is None else np.abs(data.y * data.weight)
        return np.nan_to_num(y, nan=0.0).max(1, initial=0.0)


def power(x: Array) -> Array:
    """The inverse of a number as a power of two; 1 of what is none."""
    exponent = np.where(np.isfinite(x) & (x > 0), -np.frexp(np.where(np.isfinite(x), x, 1.0))[1], 0)
    return np.ldexp(1.0, np.clip(exponent, -1000, 1000))


def scale_at(problem: Problem, datas: Sequence[Any], x: Array, status: Array, common: bool) -> Scale:
    """Units in which residuals and derivatives at x are about 1."""
    size = np.maximum.reduce([_largest(d) for d in datas])
    slope = np.ones_like(x)
    for fit in np.flatnonzero((status == RUNNING) & np.isfinite(x).all(1)):
        steep = np.zeros(x.shape[1])
        for at in range(0, problem.points, ROWS):
            with np.errstate(all="ignore"):
                r, J = problem.residuals(x[fit], int(fit), at, min(at + ROWS, problem.points))
            size[fit] = max(size[fit], np.abs(r).max(initial=0.0, where=np.isfinite(r)))
            steep = np.maximum(steep, np.abs(J).max(0, initial=0.0, where=np.isfinite(J)))
        slope[fit] = steep
    data = power(np.full_like(size, size.max(initial=0.0)) if common else size)
    with np.errstate(over="ignore"):
        return Scale(data, power(slope * data[:, None]))


def in_units(
    problem_of: Callable[[Scale | None], Problem], datas: Sequence[Any], start: Array, low: Array, high: Array,
    dof: Array, status: Array, options: dict[str, Any],
) -> Solution:  # fmt: skip
    """Fits in units of their own; again in others where they went to where those are not theirs any more."""
    plain, begun, x = problem_of(None), status == RUNNING, start
    steps = np.zeros(len(start), np.int64)
    name, bend = options["loss"]
    common = name != "linear"  # a robust loss has one residual for all where it bends
    scale = scale_at(plain, datas, x, status, common)
    for _ in range(ROUNDS):
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            theirs = (x / scale.params, low / scale.params, high / scale.params)
            size = np.sum([d.squares(scale.data) for d in datas], 0)
            loss = (name, bend * float(scale.data[0])) if common and len(x) else (name, bend)
            done = solve(problem_of(scale), *theirs, dof, size, status=status.copy(), **{**options, "loss": loss})
            done.params, done.scale = np.clip(done.params * scale.params, low, high), scale
        steps += np.where(begun, done.iterations, 0)
        known = begun & np.isfinite(done.params).all(1)
        x = np.where(known[:, None], done.params, start)
        found = scale_at(plain, datas, x, np.where(known, RUNNING, status), common)
        far = np.abs(np.log2(found.data / scale.data)) > FAR / 2
        far |= (np.abs(np.log2(found.params / scale.params)) > FAR / 2).any(1)
        if not (far & known).any():
            break
        status = np.where(known, RUNNING, done.status)
        scale = found
    done.iterations = steps
    return done
