"""Constraint: what makes the coefficients of a torch field monotone or positive, whatever its parameter is."""

from __future__ import annotations

import functools
import operator
from collections.abc import Sequence
from math import log, prod
from typing import Any

import numpy as np
import torch

from .kernel import bspline, catmull_rom
from .spline import Spline

Monotonic = tuple[str, int] | Sequence[tuple[str, int]] | None
BSPLINES = frozenset(map(bspline, range(8)))
MONOTONE = ("natural", "nearest")  # the others come back
POSITIVE = ("nearest", "mirror", "reflect", "wrap")  # coefficients that continue without a sign of their own
RATIO = 5.0  # between neighbouring differences of a monotone Catmull-Rom spline


class Constraint(torch.nn.Module):
    """Coefficients (channels, *shape) from a parameter of that shape, and back: for torch.nn.utils.parametrize.

    True if there is anything to hold. Where `rises` are the differences along an axis, the field's derivative is
    ``sum_k rises[k] B(x - k)`` with B-splines of one degree less, which are positive. So it is monotone if all rises
    are positive, those beyond the ends included: a natural end mirrors them, "nearest" has none. Along another axis the
    rises are coefficients like any others, continued by that axis's boundary. A natural end then makes negative ones,
    but no negative values where the field is evaluated, which is between the ends: one coefficient ``c[k]`` inside
    gives ``c[k] (B(x - k) - B(x + k))`` there, with ``|x - k| <= |x + k|``, and the last one a falling curve to zero.
    """

    order: torch.Tensor
    back: torch.Tensor
    before: torch.Tensor

    def __init__(self, spline: Spline, monotonic: Monotonic, positive: bool) -> None:
        super().__init__()
        self.monotonic, self.positive, self.shape = _words(spline, monotonic), positive, spline.grid.shape
        self.ends = spline.boundary
        _check(spline, self.monotonic, positive)
        moving = [(word, a) for word, a in self.monotonic if self.shape[a] > 1]  # one control point is constant
        self.axes = [1 + a for _, a in moving]  # of the coefficients
        self.falling = [1 + a for word, a in moving if word == "decreasing"]
        self.bounded = any(spline.kernel[a - 1] == catmull_rom for a in self.axes)
        if len(self.axes) > 1:
            order, before, self.fronts = _fronts(tuple(self.shape[a - 1] for a in self.axes))
            self.register_buffer("order", torch.from_numpy(order), persistent=False)
            self.register_buffer("back", torch.from_numpy(np.argsort(order)), persistent=False)
            self.register_buffer("before", torch.from_numpy(before), persistent=False)

    def __bool__(self) -> bool:
        return bool(self.axes) or self.positive

    def continues(self, extended: Sequence[int]) -> bool:
        """Whether control points that the boundaries make beyond the ends of these axes hold the constraint, too."""
        if not self:
            return True
        natural = [1 + a for a in extended if self.ends[a] == "natural" and self.shape[a] > 1]
        alone = len(self.axes) == 1 and not self.bounded
        return not natural or (alone and natural == self.axes)

    def first(self, like: torch.Tensor) -> torch.Tensor:
        """The coefficients to begin with: ramps of height 1, from 1 if they are to be positive."""
        c = torch.full_like(like, float(self.positive))
        for a in self.axes:
            ramp = torch.linspace(0, 1, c.shape[a], dtype=c.dtype, device=c.device)
            c = c + ramp.reshape([-1 if i == a else 1 for i in range(c.ndim)])
        return c.flip(self.falling)

    def forward(self, original: torch.Tensor) -> torch.Tensor:
        """The coefficients of a parameter, in its type; worked out in single precision at least."""
        x = _at_least_single(original).flip(self.falling)
        steps = _softplus(x)
        if self.positive:  # also where softplus is too small for the type
            steps = steps.clamp_min(torch.finfo(original.dtype).tiny)
        if not self.axes:
            return steps.to(original.dtype)
        c = self._along_one(x, steps) if len(self.axes) == 1 else self._along_several(x, steps)
        return c.flip(self.falling).to(original.dtype)

    def _along_one(self, x: torch.Tensor, steps: torch.Tensor) -> torch.Tensor:
        (a,) = self.axes
        rises = steps.narrow(a, 1, steps.shape[a] - 1)
        if self.bounded:
            rises = torch.movedim(rises.movedim(a, -1) @ _decay(rises.shape[a], rises), -1, a)
        c = torch.cat([(steps if self.positive else x).narrow(a, 0, 1), rises], a).cumsum(a)
        # where sums are not worked out one after the other (on GPUs), rounding may lose the order
        return c.gather(a, torch.cummax(c.detach(), a).indices)

    def _along_several(self, x: torch.Tensor, steps: torch.Tensor) -> torch.Tensor:
        """c = steps + the largest neighbour before, along any axis; all of one distance to the corner at once."""
        last = list(range(-len(self.axes), 0))
        sizes = [self.shape[a - 1] for a in self.axes]
        x, steps = ((x if i else steps).movedim(self.axes, last).flatten(-len(sizes)) for i in (1, 0))
        _, *added = steps.index_select(-1, self.order).split(self.fronts, -1)
        _, *neighbours = self.before.split(self.fronts, -1)
        fronts = [(steps if self.positive else x)[..., :1]]
        for more, before in zip(added, neighbours, strict=True):
            best = functools.reduce(torch.maximum, (fronts[-1].index_select(-1, b) for b in before))
            fronts.append(best + more)
        c = torch.cat(fronts, -1).index_select(-1, self.back)
        return c.unflatten(-1, sizes).movedim(last, self.axes)

    def right_inverse(self, coefficients: torch.Tensor) -> torch.Tensor:
        """The parameter of coefficients. Those that do not hold the constraint are made to, by as little as is simple.

        They are replaced by the mean of the running maximum and, from the other end, the running minimum; differences
        of zero, whose parameter would be infinite, by the root of the precision times the mean difference.
        """
        if coefficients.shape[1:] != self.shape:
            raise ValueError(
                f"gf.torch.SplineField: coefficients has shape {tuple(coefficients.shape)} but must be (channels, "
                f"*{self.shape})"
            )
        c = coefficients.double().flip(self.falling)
        least = torch.finfo(coefficients.dtype).eps ** 0.5
        if self.positive:
            c = _raised(c, least)
        if not self.axes:
            return _softplus_inverse(c).to(coefficients.dtype)
        below = above = c
        for a in self.axes:
            below = torch.cummax(below, a).values
            above = torch.cummin(above.flip(a), a).values.flip(a)
        c = below / 2 + above / 2
        before = torch.full_like(c, -torch.inf)
        for a in self.axes:
            moved = c.roll(1, a).index_fill(a, torch.zeros(1, dtype=torch.int64, device=c.device), -torch.inf)
            before = torch.maximum(before, moved)
        corner = before == -torch.inf
        rises = torch.where(corner, 0, c - before)
        if self.bounded:
            rises = _undecayed(rises, *self.axes)
        rises = _raised(rises, least, ~corner)
        start = _softplus_inverse(c) if self.positive else c
        return torch.where(corner, start, _softplus_inverse(rises)).flip(self.falling).to(coefficients.dtype)


def _words(spline: Spline, monotonic: Any) -> tuple[tuple[str, int], ...]:
    """The pairs (word, axis), in the order of the axes."""
    where = f"{spline.name}: monotonic"
    if monotonic is None:
        return ()
    single = isinstance(monotonic, (tuple, list)) and len(monotonic) == 2 and isinstance(monotonic[0], str)
    pairs = {}
    try:
        for word, axis in [monotonic] if single else monotonic:
            axis = operator.index(axis)
            if word not in ("increasing", "decreasing") or not -spline.ndim <= axis < spline.ndim:
                raise ValueError
            if axis % spline.ndim in pairs:
                raise ValueError(f"{where} names axis {axis} twice: {monotonic!r}")
            pairs[axis % spline.ndim] = word
    except (TypeError, ValueError) as error:
        if "twice" in str(error):
            raise
        raise ValueError(
            f"{where} must be ('increasing' or 'decreasing', axis), with an axis of the {spline.ndim}, or a list of "
            f"such pairs, got {monotonic!r}"
        ) from None
    return tuple((word, a) for a, word in sorted(pairs.items()))


def _check(spline: Spline, monotonic: tuple[tuple[str, int], ...], positive: Any) -> None:
    """Whether there is a construction."""
    where = spline.name
    if not isinstance(positive, bool):
        raise TypeError(f"{where}: positive must be True or False, got {positive!r}")
    long = [a for a, n in enumerate(spline.grid.shape) if n > 1]
    axes = [a for _, a in monotonic]
    for a in axes:
        if a in long and spline.boundary[a] not in MONOTONE:
            raise ValueError(
                f"{where}: monotonic along axis {a} needs boundary 'natural' or 'nearest' there: with "
                f"{spline.boundary[a]!r} the field comes back"
            )
    others = {a: spline.kernel[a] for a in long if spline.kernel[a] not in BSPLINES}
    if monotonic and others:
        (a, kernel), *more = others.items()
        if kernel != catmull_rom:
            raise ValueError(f"{where}: monotonic needs B-splines or 'catmull_rom', got kernel {kernel.name!r}")
        if more or axes != [a] or len(axes) > 1:
            raise ValueError(
                f"{where}: monotonic needs B-splines in more than one dimension: a 'catmull_rom' spline overshoots "
                "across the axis, whose weights are negative"
            )
        if spline.boundary[a] != "natural":
            raise ValueError(
                f"{where}: monotonic needs boundary 'natural' for 'catmull_rom', got {spline.boundary[a]!r}: "
                "continued by a constant the spline overshoots"
            )
    if positive and others:
        name = next(iter(others.values())).name
        raise ValueError(f"{where}: positive needs B-splines, whose weights are positive, got kernel {name!r}")
    if positive:
        for a in long:
            if spline.boundary[a] not in POSITIVE:
                raise ValueError(
                    f"{where}: positive needs boundary {', '.join(map(repr, POSITIVE))} along every axis, got "
                    f"{spline.boundary[a]!r} along axis {a}, which continues coefficients to zero or below"
                )


def _at_least_single(x: torch.Tensor) -> torch.Tensor:
    return x if x.dtype in (torch.float32, torch.float64) else x.float()


def _softplus(x: torch.Tensor) -> torch.Tensor:
    """log(1 + e^x); beyond the threshold, where the two are the same in float64, x."""
    return torch.nn.functional.softplus(x, threshold=40)


def _softplus_inverse(s: torch.Tensor) -> torch.Tensor:
    return s + torch.log(-torch.expm1(-s))


def _raised(x: torch.Tensor, least: float, where: torch.Tensor | None = None) -> torch.Tensor:
    """What is not positive becomes `least` times the mean of what is, of its channel."""
    counted = x > 0 if where is None else where
    axes = list(range(1, x.ndim))
    mean = x.clamp(min=0).where(counted, 0).sum(axes, keepdim=True) / counted.sum(axes, keepdim=True).clamp(min=1)
    return torch.where(x <= 0, least * torch.where(mean > 0, mean, 1), x)


def _decay(n: int, like: torch.Tensor) -> torch.Tensor:
    """(n, n): 5^-|i - k|, by which softplus steps become differences d.

    A cubic from a to b with end slopes m is monotone if 0 <= m <= 3 (b - a) at both (C. de Boor, B. Swartz, "Piecewise
    monotone interpolation", J. Approx. Theory 21 (1977), 411-416). The slopes of a Catmull-Rom spline are means of
    neighbouring differences, so it is if d[i ± 1] <= 5 d[i], which each column of this matrix obeys, and so any sum of
    columns; a natural end repeats the last difference. Nothing else is lost but part of the narrowest valleys: all d
    are such sums with d[i - 1] + d[i + 1] <= 5.2 d[i].
    """
    k = torch.arange(n, device=like.device)
    return torch.exp(-log(RATIO) * (k[:, None] - k).abs().to(like.dtype))


def _undecayed(rises: torch.Tensor, a: int) -> torch.Tensor:
    """The steps of differences, or, where some would be negative, of near ones with the same sum."""
    d = rises.movedim(a, -1)[..., 1:]  # the corner is no difference
    decay = _decay(d.shape[-1], d)
    steps = torch.linalg.solve(decay, d[..., None])[..., 0].clamp(min=0)
    made = (steps @ decay).sum(-1, keepdim=True)
    steps = steps * torch.where(made > 0, d.sum(-1, keepdim=True) / made, 1)
    return torch.cat([torch.zeros_like(steps[..., :1]), steps], -1).movedim(-1, a)


@functools.cache
def _fronts(sizes: tuple[int, ...]) -> tuple[Any, Any, list[int]]:
    """The cells of an array by their distance to the first, one front after the other.

    Returns their flat numbers; (axes, cells), where in the front before is the neighbour along each axis (where there
    is none, another that there is); and how many cells a front has.
    """
    index = np.indices(sizes).reshape(len(sizes), -1)
    distance = index.sum(0)
    order, counts = np.argsort(distance, kind="stable"), np.bincount(distance)
    place = np.empty(prod(sizes), np.int64)
    place[order] = np.arange(len(order)) - np.repeat(counts.cumsum() - counts, counts)
    strides = [prod(sizes[a + 1 :]) for a in range(len(sizes))]
    flat = np.arange(len(order))
    before = np.array([np.where(i > 0, flat - s, -1) for i, s in zip(index, strides, strict=True)])
    before = np.where(before < 0, before.max(0), before)
    return order, place[np.maximum(before, 0)][:, order], counts.tolist()
