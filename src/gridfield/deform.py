"""Elastic deformation of images and labels, with all derivatives: gf.deform, gf.deform_gradient."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import numpy as np

from . import check
from .deformable import Image, Images
from .displacement import spline_filter
from .geometry import Geometry
from .ops import OPS, coefficients, exactly, recipe, uncoefficients, vjp
from .sampling import BoundaryLike, KernelLike, _array, _texts
from .scheme import decode

LABEL = "label"
EXACT_BITS = {"float32": 24, "float64": 53}  # integers of so many bits are floats
Remap = Callable[[Any], Any] | None  # what happens to coordinates before they are sampled (compat)


@recipe
def deform(
    images: Any,
    displacement: Any = None,
    *,
    kernel: KernelLike | Any = "cubic",
    boundary: BoundaryLike | Any = "constant",
    cval: Any = 0.0,
    axis: Any = None,
    crop: Sequence[slice] | None = None,
    affine: Any = None,
    rotate: Any = None,
    zoom: Any = None,
    prefilter: bool = True,
    spacing: Any = None,
    batch_axis: Any = None,
) -> Any:
    """Deform an image, or several alike, by displaced control points, an affine map, rotation and zoom.

    Pixel o of the result, in a patch that begins at pixel s of the image and has its centre at c, is the image at
    ``src(o) = c + P (o - c) - P t + s + u(o + s)`` with ``P = inv(Z) inv(R) inv(A)``: `zoom` Z, then `rotate` R, then
    `affine` A with shift t move the content of the patch about its centre, and the displacement u tells, for every
    pixel, how far away its value comes from. With `spacing` h, P is ``inv(h) inv(Z) inv(R) inv(A) h``.

    Parameters
    ----------
    images : array, or list, tuple or dict of arrays
        Of any number of axes. Several are deformed alike: their deformed axes have the same sizes.
    displacement : array, shape (ndim, *points), or SplineField, optional
        In pixels, or in units of `spacing`: component i along deformed axis i, at control points of which the first
        and last of each axis are on the first and last pixel centre of the uncropped image; between them the
        interpolating cubic B-spline with mirrored ends. Dense if there are as many as pixels along every axis. With
        `batch_axis` also (batch, ndim, *points). Of any precision; it is computed in that of each image. See
        `displacement_field` and `random_displacement`.
    kernel : str, int, Kernel or one per deformed axis, default "cubic"
        As for `sample`. "nearest" keeps labels; "label", for integers, deforms the indicator of each label linearly
        and takes the largest (of equals, the smallest label), which takes as long as so many images. With several
        images a list or dict has one for each image, and so for `boundary`, `cval`, `axis` and `batch_axis`; anything
        else, a tuple too, is for all.
    boundary : str or one per deformed axis, default "constant"
        What lies beyond the ends of the image; as for `sample`.
    cval : float, default 0.0
        Value beyond for "constant" and "grid-constant".
    axis : int or sequence of int, optional
        The deformed axes, in the order of the displacement's components. Default: as many of the last ones as the
        displacement, the affine map or the rotation has axes; with zoom alone all.
    crop : sequence of slice, optional
        The patch of the deformed image that is wanted, one slice without step for each deformed axis. Without affine,
        rotation and zoom it is, bit for bit, that region of the whole.
    affine : array, shape (ndim, ndim), (ndim, ndim + 1) or (ndim + 1, ndim + 1), optional
        Moves content from p to ``A p + t``, both from the centre of the patch. With `batch_axis` also a batch of them.
    rotate : float, 3 floats, or array of shape (ndim, ndim), optional
        In 2-D an angle in degrees: 90 is ``np.rot90``. In 3-D angles about axes 0, 1 and 2, in turn. Or a matrix.
    zoom : float or one per deformed axis, optional
        2 makes content twice as large.
    prefilter : bool, default True
        Make the spline pass through the pixels; False: the images are coefficients.
    spacing : float or one per deformed axis, default 1
        Units per pixel, of the displacement, and in which affine and rotation are meant.
    batch_axis : int, optional
        Axis of the images along which each has a displacement, or an affine map, of its own.

    Returns
    -------
    array, or list, tuple or dict of arrays
        Of the framework, type and device of each image, its deformed axes those of the patch. Integers are computed
        in float64 (8 bits in float32), rounded and saturated; half precision is computed in float32. Where the
        displacement is NaN the result is, in integers 0. Differentiable in images, displacement, affine, rotate, zoom.

    Raises
    ------
    ValueError, TypeError
        If shapes, types, devices or frameworks do not fit together.

    References
    ----------
    O. Ronneberger, P. Fischer, T. Brox, "U-Net: convolutional networks for biomedical image segmentation", MICCAI
    (2015), section 3.1.

    Examples
    --------
    >>> import gridfield as gf, numpy as np
    >>> image = np.zeros((200, 300), np.float32)
    >>> image[::10, ::10] = 1
    >>> u = gf.random_displacement(3, 25.0, shape=image.shape, rng=0)
    >>> out, labels = gf.deform([image, image > 0], u, kernel=["cubic", "nearest"])
    >>> out.shape, out.dtype, labels.dtype
    ((200, 300), dtype('float32'), dtype('bool'))
    >>> gf.deform(np.arange(4.0).reshape(2, 2), rotate=90, kernel="linear", boundary="nearest").round(6)
    array([[1., 3.],
           [0., 2.]])
    """
    call = Images("gf.deform", images, displacement, kernel, boundary, cval, axis, batch_axis, affine, rotate, zoom)
    check.flag(prefilter, "prefilter", call.where)
    geometry = call.geometry(displacement, crop, affine, rotate, zoom, spacing)
    warped: dict[Any, Any] = {}  # displacement and pose, for each type and batch
    return call.packed([deformed(geometry, image, prefilter, warped) for image in call.images])


@recipe
def deform_gradient(
    cotangent: Any,
    images: Any,
    displacement: Any = None,
    *,
    kernel: KernelLike | Any = "cubic",
    boundary: BoundaryLike | Any = "constant",
    axis: Any = None,
    crop: Sequence[slice] | None = None,
    affine: Any = None,
    rotate: Any = None,
    zoom: Any = None,
    prefilter: bool = True,
    spacing: Any = None,
    batch_axis: Any = None,
) -> tuple[Any, Any]:
    """Gradients of ``sum(cotangent * deform(images, displacement, ...))`` in the images and in the displacement.

    For plain NumPy; torch, JAX and TensorFlow differentiate `deform` themselves.

    Parameters
    ----------
    cotangent : array, or list, tuple or dict of arrays
        Of the shapes that `deform` returns.
    images : array, tuple of int, or list, tuple or dict of arrays
        As they were given to `deform`, but real. The shape of a single image does for its gradient alone.
    displacement, kernel, boundary, axis, crop, affine, rotate, zoom, prefilter, spacing, batch_axis
        As they were given to `deform`; `cval` makes no difference.

    Returns
    -------
    images : array, or list, tuple or dict of arrays
        The gradient in the images, in the type to which each is computed: the exact transpose of `deform`.
    displacement : array or None
        The gradient in the displacement, of its shape, summed over the images. None for a shape instead of an image,
        without a displacement, or if it is a `SplineField`.

    Raises
    ------
    ValueError, TypeError
        If shapes or types do not fit together, or the arrays are not NumPy's.

    Examples
    --------
    >>> import gridfield as gf, numpy as np
    >>> image, u = np.random.default_rng(0).normal(size=(9, 8)), np.full((2, 3, 3), 0.3)
    >>> in_image, in_u = gf.deform_gradient(np.ones((9, 8)), image, u)
    >>> in_image.shape, in_u.shape
    ((9, 8), (2, 3, 3))
    """
    where = "gf.deform_gradient"
    shape_only = isinstance(images, tuple) and all(isinstance(n, (int, np.integer)) for n in images)
    if shape_only:
        images = np.zeros(images, np.asarray(cotangent).dtype)
    call = Images(where, images, displacement, kernel, boundary, 0.0, axis, batch_axis, affine, rotate, zoom)
    F = call.F
    if F.name != "numpy":
        raise TypeError(f"{where}: images must be NumPy arrays, got arrays of {F.name}, which differentiates gf.deform")
    check.flag(prefilter, "prefilter", where)
    geometry = call.geometry(displacement, crop, affine, rotate, zoom, spacing)
    cts, total, out = call.unpacked(cotangent), None, []
    follow = geometry.given is not None and not shape_only
    for image, ct in zip(call.images, cts, strict=True):
        in_image, part = pulled_back(geometry, image, ct, prefilter, follow)
        out.append(in_image)
        if follow:
            total = part if total is None else total + part
    in_displacement = None if total is None or geometry.given is None else _like_given(displacement, total)
    return call.packed(out), in_displacement


def pulled_back(
    geometry: Geometry, image: Image, ct: Any, prefilter: bool, follow: bool, remap: Remap = None
) -> tuple[Any, Any]:
    """The gradients in one image and, to follow, in the displacement, for a cotangent of the result."""
    F, where = geometry.F, geometry.where
    if image.kernel == LABEL or F.dtype(image.array) in check.REAL:
        raise TypeError(f"{where}: {image.name} must be real and its kernel not 'label'")
    dtype = _compute_dtype(F, image, where)
    values, batch = _canonical(F, image, F.astype(image.array, dtype))
    field, pose = geometry.arrays(dtype, values, batch)
    text = geometry.text(_texts_of(image, prefilter, where))
    expected = tuple(_sizes(image, geometry.shape)[a] for a in range(image.array.ndim))
    ct = _array(F, ct, "cotangent", where)
    if tuple(ct.shape) != expected:
        raise ValueError(f"{where}: cotangent has shape {tuple(ct.shape)} but the result of deform {expected}")
    moved = (*image.axes[: image.batched], *image.axes[image.lead :], *image.axes[image.batched : image.lead])
    ct = F.reshape(F.transpose(F.astype(ct, dtype), moved), (batch, 1, prod(geometry.shape), values.shape[1]))
    if remap is None:
        in_values, in_field, _ = vjp(F, OPS["warp"], (values, field, pose), ct, (True, follow, False), text)
    else:
        wide, x = exactly(F, field, pose, text)
        spread_out = F.splat(F.astype(ct, wide), remap(x), decode(decode(text).sample).linear)
        in_values, in_field = uncoefficients(F, F.astype(spread_out, dtype), text), None
    sizes = tuple(image.array.shape[a] for a in image.axes)
    in_image = np.ascontiguousarray(F.transpose(F.reshape(in_values, sizes), np.argsort(image.axes)))
    return in_image, _in_displacement(geometry, in_field) if follow else None


def _in_displacement(geometry: Geometry, in_field: Any) -> Any:
    """From the gradient in coefficients or pixels to that in the displacement as it was given."""
    F, given = geometry.F, geometry.given
    x = np.asarray(in_field, np.float64)
    if given is not None and given.shape[0] == 1:  # one for the whole batch
        x = x.sum(0, keepdims=True)
    if geometry.points is None:
        whole = np.zeros((*x.shape[:2], *geometry.full))
        part = (slice(s, s + m) for s, m in zip(geometry.start, geometry.shape, strict=True))
        whole[(slice(None), slice(None), *part)] = x
        x = whole
    else:
        text = decode(spline_filter(geometry.ndim)).flipped
        x = F.prefilter(x.reshape(-1, *geometry.points), text).reshape(x.shape)
    return x / np.reshape(geometry.spacing, (-1, *[1] * geometry.ndim))


def _like_given(displacement: Any, total: Any) -> Any:
    if not hasattr(displacement, "dtype") and not isinstance(displacement, (list, tuple)):
        return None
    given = np.asarray(displacement)
    dtype = given.dtype if given.dtype.kind == "f" else np.float64
    return total.reshape(given.shape).astype(dtype)


# ---- one image
def _compute_dtype(F: Any, image: Image, where: str) -> str:
    given = F.dtype(image.array)
    if given in ("int8", "uint8", "bool"):
        return "float32"  # off by 1e-5 of a grey value: half the memory, twice the speed
    return F.widest(check.compute_dtype(given, "int64", where))


def _texts_of(image: Image, prefilter: bool, where: str, cval: float | None = None) -> Any:
    kernel = "linear" if image.kernel == LABEL else image.kernel
    full = image.full
    orders = ((0,) * len(full),)
    return _texts(full, kernel, image.boundary, orders, image.cval if cval is None else cval, prefilter, where)


def _sizes(image: Image, shape: tuple[int, ...]) -> dict[int, Any]:
    """{axis: its size in the result}."""
    sizes = {a: image.array.shape[a] for a in image.axes[: image.lead]}
    return sizes | dict(zip(image.axes[image.lead :], shape, strict=True))


def _canonical(F: Any, image: Image, x: Any) -> tuple[Any, Any]:
    """(batch, channels, *full), and the batch."""
    x = F.transpose(x, image.axes) if image.axes != tuple(range(len(image.axes))) else x
    sizes = F.shape(x)
    batch, rest = sizes[0] if image.batched else 1, sizes[image.batched : image.lead]
    return F.reshape(x, (batch, prod(rest), *image.full)), batch


def deformed(geometry: Geometry, image: Image, prefilter: bool, warped: dict[Any, Any], remap: Remap = None) -> Any:
    """The image deformed, of its own type."""
    F, where = geometry.F, geometry.where
    given, dtype = F.dtype(image.array), _compute_dtype(F, image, where)

    def warp(x: Any, cval: float) -> Any:
        x = x if F.converts and remap is None else F.astype(x, dtype)
        values, batch = _canonical(F, image, x)
        key = dtype, batch if isinstance(batch, int) else image.name
        if key not in warped:
            warped[key] = geometry.arrays(dtype, values, batch)
        (field, pose), text = warped[key], geometry.text(_texts_of(image, prefilter, where, cval))
        if remap is None:
            out = F.warp(values, field, pose, text)
        else:
            wide, places = exactly(F, field, pose, text)
            c = F.astype(coefficients(F, values, text), wide)
            out = F.astype(F.sample(c, remap(places), decode(text).sample), dtype)
        return _restored(F, image, out, batch, geometry.shape)

    if image.kernel == LABEL:
        return _labels(F, image, warp, dtype, where)
    if given in check.REAL:
        parts = F.as_real(image.array)  # the real part continues by cval, the imaginary part by 0
        return F.as_complex(F.stack([warp(parts[..., 0], image.cval), warp(parts[..., 1], 0.0)], -1))
    info = check.is_integer(given) and given != "bool" and np.iinfo(given)
    # torch cannot do arithmetic with its uint64
    if info and info.bits > EXACT_BITS[dtype] and image.nearest and (F.name, given) != ("torch", "uint64"):
        return _in_halves(F, image, warp, given, info)
    out = warp(image.array, image.cval)
    if not check.is_integer(given):
        return F.astype(out, given)
    return out >= 0.5 if given == "bool" else F.round_to(out, given)


def _in_halves(F: Any, image: Image, warp: Any, given: str, info: Any) -> Any:
    """Integers too large for the type they are computed in, by the nearest pixel.

    The upper and the lower half of their bits are not too large.
    """
    half = 2 ** (info.bits // 2)
    cval = 0 if np.isnan(image.cval) else min(max(image.cval, info.min), info.max)
    high = image.array // half
    parts = [(high, round(cval) // half), (image.array - high * half, round(cval) % half)]
    upper, lower = (F.round_to(warp(x, float(c)), given) for x, c in parts)
    return upper * half + lower


def _restored(F: Any, image: Image, out: Any, batch: Any, shape: tuple[int, ...]) -> Any:
    """(batch, 1, pixels, channels) -> the axes of the image."""
    sizes = F.shape(image.array)
    rest = image.axes[image.batched : image.lead]
    out = F.reshape(out, (*([batch] if image.batched else []), *shape, *(sizes[a] for a in rest)))
    order = (*image.axes[: image.batched], *image.axes[image.lead :], *rest)
    back = tuple(order.index(a) for a in range(len(order)))
    return F.transpose(out, back) if back != tuple(range(len(back))) else out


def _labels(F: Any, image: Image, warp: Any, dtype: str, where: str) -> Any:
    """The label whose indicator, deformed linearly, is largest; one indicator at a time."""
    x, given = image.array, F.dtype(image.array)
    if not check.is_integer(given):
        raise TypeError(f"{where}: kernel 'label' needs integers, but {image.name} has dtype {given}")
    known = F.concrete(x)
    if known is None:
        raise TypeError(
            f"{where}: kernel 'label' has to know which labels {image.name} holds, and cannot while tracing; use "
            "kernel='nearest', or deform the labels outside"
        )
    beyond = np.array(image.cval).astype(known.dtype)
    if beyond != image.cval:
        raise ValueError(f"{where}: cval must be a label of type {given} for kernel 'label', got {image.cval!r}")
    best = label = None
    for one in np.union1d(known, beyond):
        value = F.constant(np.asarray(one), given, x)
        score = warp(x == value, float(one == beyond))
        if best is None:
            best, label = score, F.where(score == score, value, F.constant(np.zeros((), known.dtype), given, x))
        else:
            better = score > best
            best, label = F.where(better, score, best), F.where(better, value, label)
    return label
