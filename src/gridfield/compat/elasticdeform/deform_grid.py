"""elasticdeform's arguments read as those of gf.deform; any framework's arrays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ... import check, dispatch
from ...arguments import SIZE, per_axis
from ...deform import deformed, pulled_back
from ...deformable import Image, check_numbers
from ...geometry import Geometry, crop_of
from ...ops import recipe
from ...sampling import _array

NAME = "elasticdeform.deform_grid"


def _clamp(F: Any, x: Any, last: Any) -> Any:
    return F.where(x < 0, 0 * x, F.where(x > last, 0 * x + last, x))


def _wrap(F: Any, x: Any, last: Any) -> Any:
    turns = F.floor(x / F.where(last > 0, last, last + 1))
    return F.where((x < 0) | (x > last), F.where(last > 0, x - last * turns, 0 * x), x)


def _reflect(F: Any, x: Any, last: Any) -> Any:
    """About -1/2 and n - 1/2, but x in (-1, 0) goes to -1 - x, which is in (-1, 0) again: there the taps mirror."""
    period = 2 * (last + 1)
    z = x - period * F.floor(x / period)
    z = F.where(z > last, F.where(z >= last + 1, period - z - 1, z), z)
    # above the last pixel as it is, where the taps mirror
    return F.where((x < 0) | (x > last), z, x)


# what happens to coordinates; the image itself always continues as in a mirror
REMAP: dict[str, tuple[str, Callable[..., Any] | None]] = {
    "nearest": ("mirror", _clamp),
    "wrap": ("mirror", _wrap),
    "reflect": ("mirror", _reflect),
    "mirror": ("mirror", None),
    "constant": ("constant", None),
}


def deform_random_grid(
    X: Any,
    sigma: float = 25,
    points: int | Sequence[int] = 3,
    order: Any = 3,
    mode: Any = "constant",
    cval: Any = 0.0,
    crop: Any = None,
    prefilter: bool = True,
    axis: Any = None,
    affine: Any = None,
    rotate: float | None = None,
    zoom: float | None = None,
) -> Any:
    """Deform an image, or a list of images alike, by control points displaced at random.

    Parameters
    ----------
    X : ndarray, or list of ndarray
        As for `deform_grid`, and so for `order`, `mode`, `cval`, `crop`, `prefilter`, `axis`, `affine`, `rotate` and
        `zoom`.
    sigma : float, default 25
        Standard deviation of the displacements, in pixels.
    points : int or list or tuple of int, default 3
        Control points along each axis.
    order, mode, cval, crop, prefilter, axis, affine, rotate, zoom
        As for `deform_grid`.

    Returns
    -------
    ndarray, or list of ndarray
        Random by NumPy's global generator (``numpy.random.seed``); `gridfield.random_displacement` takes its own.

    Examples
    --------
    >>> import gridfield.compat.elasticdeform as elasticdeform
    >>> elasticdeform.deform_random_grid(np.zeros((200, 300)), sigma=25, points=3).shape
    (200, 300)
    """
    images, _ = _images(X)
    ndim = len(_axes(axis, images)[0])
    count = per_axis("elasticdeform.deform_random_grid", "points", points, ndim, SIZE)
    displacement = np.random.randn(ndim, *count) * sigma  # noqa: NPY002 (the generator that users have seeded)
    return deform_grid(X, displacement, order, mode, cval, crop, prefilter, axis, affine, rotate, zoom)


@recipe
def deform_grid(
    X: Any,
    displacement: Any,
    order: Any = 3,
    mode: Any = "constant",
    cval: Any = 0.0,
    crop: Any = None,
    prefilter: bool = True,
    axis: Any = None,
    affine: Any = None,
    rotate: float | None = None,
    zoom: float | None = None,
) -> Any:
    """Deform an image, or a list of images alike, by displaced control points.

    Pixel o of the result is the image at ``RZ(inv(A) o) + s + u(o + s)``: A the affine map, RZ rotation and zoom about
    the centre of the result, s the first pixel of the crop, u the cubic spline through the control points.

    Parameters
    ----------
    X : ndarray, or list of ndarray
        Images whose deformed axes have the same sizes. Of a list, `order`, `mode`, `cval` and `axis` may be lists.
    displacement : ndarray, shape (ndim, *points)
        In pixels, pull direction; the first and the last control points are on the first and the last pixels.
    order : int from 0 to 5, default 3
        Degree of the spline of the image.
    mode : str, default "constant"
        "nearest", "wrap" (with a period of n - 1), "reflect", "mirror" or "constant": what becomes of coordinates
        beyond the image, which itself always continues mirrored.
    cval : float, default 0.0
        Value beyond for "constant".
    crop : list or tuple of slice, optional
        The part of the result that is wanted, for each deformed axis.
    prefilter : bool, default True
        Make the spline of `X` pass through its pixels.
    axis : int, tuple of int, or list of those, optional
        Deformed axes; a list has one for each image. Default: all.
    affine : ndarray, shape (ndim, ndim + 1) or (ndim + 1, ndim + 1), optional
        Moves content, about the first pixel of the result.
    rotate : float, optional
        Degrees, about the centre of the result; in 2-D.
    zoom : float, optional
        Factor, about the centre of the result.

    Returns
    -------
    ndarray, or list of ndarray
        Of the types of the images; integers are rounded and saturated.

    Raises
    ------
    ValueError, TypeError
        If an argument is not of that form.

    Examples
    --------
    >>> import gridfield.compat.elasticdeform as elasticdeform
    >>> u = np.random.default_rng(0).normal(size=(2, 3, 3)) * 25
    >>> image, labels = np.ones((200, 300)), np.ones((200, 300), int)
    >>> a, b = elasticdeform.deform_grid([image, labels], u, order=[3, 0])
    >>> a.shape, b.dtype == labels.dtype
    ((200, 300), True)
    """
    images, several = _images(X)
    F = dispatch.face(NAME, X=images[0], displacement=displacement)
    geometry, parts, remaps = _read(F, images, displacement, order, mode, cval, crop, axis, affine, rotate, zoom)
    check.flag(prefilter, "prefilter", NAME)
    out = [deformed(geometry, part, prefilter, {}, remap) for part, remap in zip(parts, remaps, strict=True)]
    return out if several else out[0]


def deform_grid_gradient(
    dY: Any,
    displacement: Any,
    order: Any = 3,
    mode: Any = "constant",
    cval: Any = 0.0,
    crop: Any = None,
    prefilter: bool = True,
    axis: Any = None,
    X_shape: Any = None,
    affine: Any = None,
    rotate: float | None = None,
    zoom: float | None = None,
) -> Any:
    """The gradient of ``sum(dY * deform_grid(X, ...))`` in X: the exact transpose of `deform_grid`.

    Parameters
    ----------
    dY : ndarray, or list of ndarray
        Of the shapes that `deform_grid` returned.
    displacement, order, mode, cval, crop, prefilter, axis, affine, rotate, zoom
        As they were given to `deform_grid`.
    X_shape : tuple of int, or list of those, optional
        Shapes of the images; needed with `crop`.

    Returns
    -------
    ndarray, or list of ndarray
        Of the type of `dY`. `gridfield.deform_gradient` gives the gradient in the displacement, too.

    Raises
    ------
    ValueError, TypeError
        If an argument is not of that form.

    Examples
    --------
    >>> import gridfield.compat.elasticdeform as elasticdeform
    >>> elasticdeform.deform_grid_gradient(np.ones((20, 30)), np.ones((2, 3, 3))).shape
    (20, 30)
    """
    where = "elasticdeform.deform_grid_gradient"
    cts, several = _images(dY)
    if X_shape is None and crop is not None:
        raise ValueError(f"{where}: X_shape must be given with crop")
    shapes = [X_shape] if isinstance(X_shape, tuple) else [c.shape for c in cts] if X_shape is None else list(X_shape)
    if len(shapes) != len(cts):
        raise ValueError(f"{where}: X_shape has {len(shapes)} shapes but dY {len(cts)} arrays")
    images = [np.zeros(s, c.dtype) for s, c in zip(shapes, cts, strict=True)]
    F = dispatch.face(where, dY=cts[0], displacement=displacement)
    geometry, parts, remaps = _read(F, images, displacement, order, mode, cval, crop, axis, affine, rotate, zoom)
    out = []
    for part, remap, ct in zip(parts, remaps, cts, strict=True):
        in_image, _ = pulled_back(geometry, part, ct, prefilter, False, remap)
        out.append(in_image.astype(ct.dtype, copy=False))
    return out if several else out[0]


# ---- their arguments
def _images(X: Any) -> tuple[list[Any], bool]:
    several = isinstance(X, (list, tuple))
    images = list(X) if several else [X]
    if not images or not all(hasattr(x, "shape") for x in images):
        raise TypeError(f"{NAME}: X must be an array or a list of arrays, got {type(X).__name__}")
    return images, several


def _each(option: Any, name: str, count: int) -> list[Any]:
    """One for each image."""
    out = list(option) if isinstance(option, (list, tuple)) else [option] * count
    if len(out) != count:
        raise ValueError(f"{NAME}: {name} has {len(out)} values but there are {count} images")
    return out


def _axes(axis: Any, images: list[Any]) -> list[tuple[int, ...]]:
    if axis is None:
        return [tuple(range(len(x.shape))) for x in images]
    if isinstance(axis, list) and len(images) == 1 and all(isinstance(a, int) for a in axis):
        axis = tuple(axis)
    own = axis if isinstance(axis, list) else [axis] * len(images)
    if len(own) != len(images):
        raise ValueError(f"{NAME}: axis has {len(own)} items but there are {len(images)} images")
    out = [(a,) if isinstance(a, int) else tuple(a) for a in own]
    for axes, x in zip(out, images, strict=True):
        inside = all(isinstance(a, int) and 0 <= a < len(x.shape) for a in axes)
        if not axes or not inside or list(axes) != sorted(set(axes)):
            raise ValueError(f"{NAME}: axis {axes} must be sorted and name axes of an image of shape {tuple(x.shape)}")
    return out


def _read(
    F: Any, images: list[Any], displacement: Any, order: Any, mode: Any, cval: Any, crop: Any, axis: Any, affine: Any,
    rotate: Any, zoom: Any,
) -> tuple[Geometry, list[Image], list[Any]]:  # fmt: skip
    """The arguments as those of gf.deform, and what happens to coordinates first."""
    count, every = len(images), _axes(axis, images)
    images = [_array(F, x, "X", NAME) for x in images]
    modes = _each(mode, "mode", count)
    for m in modes:
        if m not in REMAP:
            raise ValueError(f"{NAME}: mode must be one of {', '.join(map(repr, REMAP))}, got {m!r}")
    parts = []
    for x, axes, o, m, c in zip(
        images, every, _each(order, "order", count), modes, _each(cval, "cval", count), strict=True
    ):
        check_numbers(F, x, "X", NAME)
        rest = tuple(a for a in range(x.ndim) if a not in axes)
        if isinstance(o, bool) or o not in range(6):
            raise ValueError(f"{NAME}: order must be an int from 0 to 5, got {o!r}")
        parts.append(
            Image("X", x, int(o), REMAP[m][0], check.number(c, "cval", NAME), (*rest, *axes), len(rest), False)
        )
    full = check.sizes(parts[0].full, "X", NAME)
    if any(part.full != full for part in parts):
        raise ValueError(f"{NAME}: the deformed axes of X differ in size: {[part.full for part in parts]}")
    if (rotate or zoom) and len(full) != 2:
        raise ValueError(f"{NAME}: rotate and zoom are for 2 deformed axes, got {len(full)}")
    if affine is not None:
        affine = _about_centre(affine, crop_of(crop, full, NAME)[1])
    geometry = Geometry(F, NAME, full, displacement, False, crop, affine, rotate or None, zoom or None, None)
    return geometry, parts, [_remapped(F, REMAP[m][1], full) for m in modes]


def _about_centre(affine: Any, shape: tuple[int, ...]) -> np.ndarray:
    """A map about pixel 0 as one about the centre: ``M (p + c) + t - c``."""
    n, a = len(shape), np.asarray(affine, float)
    if a.shape not in ((n, n + 1), (n + 1, n + 1)):
        raise ValueError(f"{NAME}: affine has shape {a.shape} but must be ({n}, {n + 1}) or ({n + 1}, {n + 1})")
    if len(a) > n and not np.allclose(a[n], np.eye(n + 1)[n]):
        raise ValueError(f"{NAME}: the last row of affine must be {np.eye(n + 1)[n]}, got {a[n]}")
    centre = (np.array(shape) - 1) / 2
    return np.concatenate([a[:n, :n], (a[:n, :n] @ centre + a[:n, n] - centre)[:, None]], 1)


def _remapped(F: Any, rule: Callable[..., Any] | None, full: tuple[int, ...]) -> Any:
    if rule is None:
        return None
    return lambda x: rule(F, x, F.constant(np.array(full, np.float64) - 1, F.dtype(x), x))
