"""Numbers so small or large that their squares are not numbers: fits in other units, by powers of two.

A power of two changes no digit, so a fit in such units is the same one, to the bit (fits in lanes.py, to the last
digits: their sums are in another order), as long as no square in it is lost;
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
HELD = -1  # status of a fit that is another's to do


def extreme(datas: Sequence[Any], start: Array, status: Array) -> Array:
    """Fits in which squares of data, coordinates or parameters may be lost: (fits,) bool."""
    low, high = 2.0**-FAR, 2.0**FAR
    x = np.abs(start)
    with np.errstate(over="ignore", invalid="ignore"):
        far = ((x > high) | ((x < low) & (x > 0))).any(1)
        for data in datas:
            far |= (data.size < low**2) | (data.size > high**2)
            nothing = np.flatnonzero(data.size == 0)
            far[nothing] = _largest(data, nothing) > 0  # not of data that are zero
            if data.weight is not None:  # of the derivatives, whatever the data are
                far |= ~_moderate(data.weight.max(1, initial=0.0))
            for c in data.coords:
                if c.size:
                    flat = c.reshape(len(c), -1)
                    far |= ~(_moderate(flat.max(1)) & _moderate(flat.min(1)))
    return far & (status == RUNNING)


def _moderate(c: Array) -> Array:
    """Of coordinates, which may be squared before they are in a derivative."""
    return (c == 0) | ((np.abs(c) >= 2.0 ** (-FAR / 2)) & (np.abs(c) <= 2.0 ** (FAR / 2)))


def _largest(data: Any, which: Array) -> Array:
    """Largest of the weighted data of some fits."""
    with np.errstate(invalid="ignore", over="ignore"):
        y = np.abs(data.y[which]) if data.weight is None else np.abs(data.y[which] * data.weight[which])
        return np.nan_to_num(y, nan=0.0).max(1, initial=0.0)


def power(x: Array) -> Array:
    """The inverse of a number as a power of two; 1 of what is none."""
    exponent = np.where(np.isfinite(x) & (x > 0), -np.frexp(np.where(np.isfinite(x), x, 1.0))[1], 0)
    return np.ldexp(1.0, np.clip(exponent, -1000, 1000))


def scale_at(problem: Problem, datas: Sequence[Any], x: Array, status: Array, common: bool) -> Scale:
    """Units in which residuals and derivatives at x are about 1."""
    size, slope = np.ones(len(x)), np.ones_like(x)
    which = np.flatnonzero((status == RUNNING) & np.isfinite(x).all(1))
    size[which] = np.maximum.reduce([_largest(d, which) for d in datas])
    for fit in which:
        steep = np.zeros(x.shape[1])
        for at in range(0, problem.points, ROWS):
            with np.errstate(all="ignore"):
                r, J = problem.residuals(x[fit], int(fit), at, min(at + ROWS, problem.points))
            size[fit] = max(size[fit], np.abs(r).max(initial=0.0, where=np.isfinite(r)))
            steep = np.maximum(steep, np.abs(J).max(0, initial=0.0, where=np.isfinite(J)))
        slope[fit] = steep
    if common and len(which):
        size[which] = size[which].max()
    data = power(np.where((status == RUNNING), size, 1.0))
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
            loss = (name, min(bend * float(scale.data[begun][0]), 1e100)) if common else (name, bend)
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


def solve_some(
    problem_of: Callable[[Scale | None], Problem], datas: Sequence[Any], start: Array, low: Array, high: Array,
    dof: Array, size: Array, status: Array, options: dict[str, Any],
) -> Solution:  # fmt: skip
    """All fits, those that need it in units of their own."""
    far = extreme(datas, start, status)
    if not far.any():
        return solve(problem_of(None), start, low, high, dof, size, status=status, **options)
    done = in_units(problem_of, datas, start, low, high, dof, np.where(far, status, HELD), options)
    if far.all():
        return done
    plain = solve(problem_of(None), start, low, high, dof, size, status=np.where(far, HELD, status), **options)
    for name in ("params", "cost", "status", "iterations", "normal", "cov"):
        getattr(done, name)[~far] = getattr(plain, name)[~far]
    if done.scale is not None:
        done.scale.data[~far], done.scale.params[~far] = 1.0, 1.0
    return done
