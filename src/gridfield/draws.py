"""What is drawn for a random elastic deformation, and from which distribution."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import inf
from typing import Any

import numpy as np
import torch

from . import arguments, check
from .displacement import NOT_NEGATIVE, Shape, fold_free_scale, random_displacement
from .faces.numpy import FACE as NUMPY
from .geometry import rotation

Ranges = tuple[tuple[float, float], ...]


@dataclass(frozen=True, eq=False)
class ElasticParams:
    """What an `ElasticDeform` has drawn: for images of one shape, one deformation or one for each item of a batch.

    By hand: ``gf.deform(image, q.displacement, affine=q.affine, spacing=q.spacing)``, and so `gf.deform_points`.

    Parameters
    ----------
    displacement : Tensor, shape (ndim, *points) or (batch, ndim, *points), float64
        As for `gf.deform`; 0 where the transform is not applied.
    affine : Tensor, shape (ndim, ndim) or (batch, ndim, ndim), float64, or None
        Rotation times zoom.
    applied : bool, or tuple of bool for a batch
        Whether anything happens, which it does with probability `p`.
    shape : tuple of int
        Pixels along each deformed axis.
    rotate : Tensor, shape () or (batch,); in 3-D (3,) or (batch, 3); or None
        The angles in degrees.
    zoom : Tensor, shape (ndim,) or (batch, ndim), or None
        The factors.
    spacing : tuple of float
        Units per pixel.

    Examples
    --------
    >>> import gridfield as gf, torch
    >>> from gridfield.torch import ElasticDeform
    >>> t = ElasticDeform(points=3, sigma=2.0, rotate=10)
    >>> q = t.sample((3, 20, 30), generator=torch.Generator().manual_seed(0))
    >>> q.displacement.shape, q.applied, q.shape, q.batch
    (torch.Size([2, 3, 3]), True, (20, 30), None)
    >>> image = torch.rand(3, 20, 30)
    >>> by_hand = gf.deform(image, q.displacement, affine=q.affine.numpy(), spacing=q.spacing)
    >>> torch.equal(t.apply(image, q), by_hand)
    True
    >>> items = ElasticDeform(sigma=2.0, batch_axis=0).sample((8, 3, 20, 30))
    >>> items.batch, items[5].displacement.shape, items.to("cpu").affine
    (8, torch.Size([2, 3, 3]), None)
    """

    displacement: torch.Tensor
    affine: torch.Tensor | None
    applied: bool | tuple[bool, ...]
    shape: Shape
    rotate: torch.Tensor | None
    zoom: torch.Tensor | None
    spacing: tuple[float, ...]

    @property
    def batch(self) -> int | None:
        """How many deformations; None if there is one for all."""
        return len(self.applied) if isinstance(self.applied, tuple) else None

    def __getitem__(self, item: int | list[int]) -> ElasticParams:
        """Those of one item of a batch, or of several."""
        if not isinstance(self.applied, tuple):
            raise TypeError("gf.torch.ElasticParams: these are of one deformation, not of a batch")
        several = isinstance(item, list)
        applied = tuple(self.applied[i] for i in item) if several else self.applied[item]
        return replace(self._each(lambda x: x[item]), applied=applied)

    def to(self, device: torch.device | str) -> ElasticParams:
        """The same on another device.

        Parameters
        ----------
        device : torch.device or str
            Where the tensors are to be.

        Returns
        -------
        ElasticParams
        """
        return self._each(lambda x: x.to(device))

    def _each(self, f: Callable[[torch.Tensor], torch.Tensor]) -> ElasticParams:
        tensors = {name: getattr(self, name) for name in ("displacement", "affine", "rotate", "zoom")}
        return replace(self, **{name: None if x is None else f(x) for name, x in tensors.items()})


def stacked(items: list[ElasticParams], none: ElasticParams) -> ElasticParams:
    """One for each item of a batch, which may be empty: `none` then tells the shapes."""

    def of(name: str) -> torch.Tensor | None:
        x = getattr(none, name)
        return None if x is None else torch.stack([getattr(q, name) for q in items]) if items else x[None][:0]

    tensors = {name: of(name) for name in ("displacement", "affine", "rotate", "zoom")}
    return replace(none, applied=tuple(bool(q.applied) for q in items), **tensors)


@dataclass(frozen=True)
class Draws:
    """The distribution of deformations, and how its arguments are read."""

    where: str
    points: int | Sequence[int]
    sigma: float | Sequence[float]
    rotate: Any
    zoom: Any
    fold_free: bool
    fixed_border: bool
    spacing: Any

    def per_axis(self, ndim: int) -> tuple[Shape, tuple[float, ...], tuple[float, ...], Ranges, Ranges]:
        """Points, sigma and spacing of each axis; the ranges of the angles and of the zoom; or an error."""
        where = self.where
        points = arguments.per_axis(where, "points", self.points, ndim, CONTROL_POINTS)
        sigma = arguments.per_axis(where, "sigma", self.sigma, ndim, NOT_NEGATIVE)
        spacing = arguments.per_axis(where, "spacing", 1.0 if self.spacing is None else self.spacing, ndim,
                                     arguments.LENGTH)  # fmt: skip
        for name in ("fold_free", "fixed_border"):
            check.flag(getattr(self, name), name, where)
        if self.rotate is not None and ndim not in (2, 3):
            raise ValueError(f"{where}: rotate is for 2 or 3 axes, not for {ndim}")
        angles = _ranges(self.rotate, 1 if ndim == 2 else ndim, lambda v: -inf < v < inf, True)
        if angles is None:
            raise ValueError(
                f"{where}: rotate must be an angle a, for -a to a, or (lowest, highest), in degrees"
                f"{', or one of these per axis' if ndim == 3 else ''}, got {self.rotate!r}"
            )
        zoom = _ranges(self.zoom, ndim, lambda v: 0 < v < inf, False)
        if zoom is None:
            raise ValueError(
                f"{where}: zoom must be (least, largest), both positive, or one such pair for each of {ndim} axes, "
                f"got {self.zoom!r}"
            )
        return points, sigma, spacing, angles, zoom

    def draw(self, shape: Shape, rng: np.random.Generator, p: float = 1.0) -> ElasticParams:
        """One deformation of images of this shape."""
        ndim = len(shape)
        points, sigma, spacing, angles, zooms = self.per_axis(ndim)
        applied = bool(rng.random() < p)
        u = random_displacement(points, sigma, shape=shape, rng=rng, fixed_border=self.fixed_border)
        rotate = np.array([rng.uniform(*r) for r in angles])
        # uniform in the logarithm: as often larger as smaller
        zoom = np.exp([rng.uniform(*np.log(r)) for r in zooms]) if zooms else None
        if zoom is not None:
            zoom = np.broadcast_to(zoom, (ndim,))
        if not applied:
            u, rotate, zoom = 0 * u, 0 * rotate, None if zoom is None else np.ones(ndim)
        affine = None
        if angles or zoom is not None:
            turn = rotation(NUMPY, rotate if ndim == 3 else rotate[0], ndim, self.where) if angles else np.eye(ndim)
            affine = turn if zoom is None else turn * zoom
        if self.fold_free:
            # pixels come from P x + u(x) = P (x + inv(P) u(x)), P the inverse of the affine map
            moved = u if affine is None else np.tensordot(affine, u, 1)
            u = u * fold_free_scale(moved, shape, spacing)
        if ndim == 2 and angles:
            rotate = rotate[0]
        return ElasticParams(
            torch.from_numpy(u), None if affine is None else torch.from_numpy(affine), applied, shape,
            torch.tensor(rotate) if angles else None, None if zoom is None else torch.tensor(zoom), spacing,
        )  # fmt: skip


def _ranges(value: Any, count: int, allowed: Callable[[float], bool], symmetric: bool) -> Ranges | None:
    """(lowest, highest) of each axis, or of all together; () for None, None for what is neither.

    symmetric: a number a stands for (-a, a).
    """
    if value is None:
        return ()

    def pair(x: Any) -> tuple[float, float]:
        given = arguments.items(x)
        if given is None and symmetric:
            given = (-abs(x), abs(x))
        low, high = map(arguments.COORDINATE[0], given or ())
        if not (allowed(low) and allowed(high) and low <= high):
            raise ValueError
        return low, high

    items = arguments.items(value) or ()
    try:
        if any(arguments.items(x) is not None for x in items) or (symmetric and len(items) == count == 3):
            return tuple(map(pair, items)) if len(items) == count else None
        return (pair(value),) * (count if symmetric else 1)
    except (TypeError, ValueError):
        return None


CONTROL_POINTS: arguments.Rule = (arguments.SIZE[0], lambda v: v >= 2, "an integer of 2 or more")
