"""Points that move with a deformed image, and the inverse of a displacement."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import numpy as np

from . import arguments, check, dispatch, lattice
from .displacement import array_of, read, shape_of, spacing_of, spline
from .faces.numpy import FACE as NUMPY
from .geometry import Geometry, followed, on_one_device
from .grid import Grid
from .kernel import bspline
from .ops import recipe, static
from .sampling import _array
from .scheme import Scheme, intern

STEPS = 100  # of Newton's method; it takes 4 or 5 where nothing folds


@recipe
def deform_points(
    points: Any,
    displacement: Any,
    shape: Sequence[int],
    *,
    crop: Sequence[slice] | None = None,
    affine: Any = None,
    rotate: Any = None,
    zoom: Any = None,
    spacing: Any = None,
    inverse: bool = False,
    tol: float = 1e-6,
) -> Any:
    """Where points of an image (landmarks, corners of boxes, vertices of meshes) are after `deform`.

    Solves ``src(o) = p`` for o by Newton's method, `src` being the map of `deform`. With ``inverse=True`` it is the
    map itself: where points of the deformed image come from.

    Parameters
    ----------
    points : array, shape (*pts, ndim), or (batch, *pts, ndim) where displacement or affine has a batch axis
        Pixels, not necessarily whole, of the image of that shape; or physical coordinates, pixels times `spacing`.
    displacement : array, shape (ndim, *points) or (batch, ndim, *points), SplineField, or None
        As for `deform`.
    shape : sequence of int
        Pixels along each deformed axis of the image, before cropping.
    crop, affine, rotate, zoom, spacing
        As for `deform`.
    inverse : bool, default False
        From the deformed image to the image.
    tol : float, default 1e-6
        How far, in pixels, ``src(o)`` may be from p.

    Returns
    -------
    array, shape of `points`
        Pixels of the deformed image, counted from the first of the patch that `crop` leaves; points may be outside of
        it. NaN where no solution was found. Of the framework and type of `points`, float64 for integers, and
        differentiable twice, in points, displacement, affine, rotate and zoom (further derivatives are wrong; with
        ``inverse=True`` all are right).

    Raises
    ------
    ValueError, TypeError
        If shapes, types or frameworks do not fit together, or `tol` is not positive.

    Notes
    -----
    The solution takes as many steps as the numbers need: what traces (`jax.jit`, `jax.vmap`, `tf.function`,
    `torch.func`) calls back into Python for it, one item of a batch after the other; `torch.compile` breaks its graph
    there. ``inverse=True`` is free of that.

    Examples
    --------
    >>> import gridfield as gf, numpy as np
    >>> u = gf.random_displacement(3, 5.0, shape=(50, 60), rng=0, fold_free=True)
    >>> corners = np.array([[10.0, 12.0], [40.0, 50.0]])
    >>> there = gf.deform_points(corners, u, (50, 60), rotate=30)
    >>> back = gf.deform_points(there, u, (50, 60), rotate=30, inverse=True)
    >>> bool(np.abs(back - corners).max() < 1e-5)
    True
    """
    where = "gf.deform_points"
    given = followed(displacement, affine, rotate, zoom)
    F = dispatch.face(where, points=points, **given)
    check.flag(inverse, "inverse", where)
    tol = _tolerance(tol, where)
    size = shape_of(shape, where)
    points = _array(F, points, "points", where)
    kind = F.dtype(points)
    if not check.is_number(kind) or kind in check.REAL:
        raise TypeError(f"{where}: points has dtype {kind} but coordinates must be real numbers")
    if check.points(points.shape, where) != len(size):
        raise ValueError(
            f"{where}: points has {points.shape[-1]} coordinates per point (shape {tuple(points.shape)}) but shape "
            f"{len(size)} axes {size}"
        )
    on_one_device(F, where, {"points": points} | given)
    dtype = F.widest(check.compute_dtype(kind, "int64", where))
    geometry = Geometry(F, where, size, displacement, None, crop, affine, rotate, zoom, spacing)
    field, pose = geometry.field(dtype, points, crop=False), geometry.pose(dtype, points)
    batch = pose.shape[0] if field.shape[0] == 1 else field.shape[0]
    if pose.shape[0] not in (1, batch):
        raise ValueError(f"{where}: displacement has a batch of {batch} but affine of {pose.shape[0]}")
    if batch != 1 and (points.ndim < 2 or points.shape[0] not in (batch, None)):
        raise ValueError(
            f"{where}: points has shape {tuple(points.shape)} but must be ({batch}, *pts, {len(size)}): it must begin "
            f"with the batch of {batch} of displacement or affine"
        )
    units = np.array(geometry.spacing)
    count = prod(F.shape(points)[batch != 1 : -1])
    x = F.reshape(F.astype(points, dtype), (batch, count, len(size))) * F.constant(1 / units, dtype, points)
    field, pose = (F.broadcast_to(a, (batch, *a.shape[1:])) for a in (field, pose))
    out = _source(F, geometry, field, pose)(x) if inverse else _solved(F, geometry, field, pose, x, tol)[0]
    out = F.reshape(out * F.constant(units, dtype, points), F.shape(points))
    return out if check.is_integer(kind) else F.astype(out, kind)


@recipe
def invert_displacement(
    displacement: Any, shape: Sequence[int], *, tol: float = 1e-3, spacing: Any = None
) -> tuple[Any, Any]:
    """The displacement v that undoes u: ``v(y) = -u(y + v(y))`` at every pixel y, by Newton's method.

    `deform` by u and then by v gives the image back, up to interpolation.

    Parameters
    ----------
    displacement : array, shape (ndim, *points) or (batch, ndim, *points), or SplineField
        As for `deform`. It has an inverse if nothing folds: see `jacobian_determinant` and `random_displacement`.
    shape : sequence of int
        Pixels along each axis of the image.
    tol : float, default 1e-3
        How far, in pixels, ``v(y) + u(y + v(y))`` may be from 0.
    spacing : float or one per axis, default 1
        Units of the displacement per pixel.

    Returns
    -------
    inverse : array, shape (ndim, *shape) or (batch, ndim, *shape)
        Dense, in the units, framework and type of `displacement` (float64 for integers); differentiable twice (further
        derivatives are wrong). NaN where no solution was found.
    residual : float
        The largest ``|v(y) + u(y + v(y))|`` in pixels, NaN if there is a pixel without a solution; a scalar array, a
        constant to derivatives, while something traces.

    Raises
    ------
    ValueError, TypeError
        If shapes or types do not fit together, or `tol` is not positive.

    Notes
    -----
    What traces calls back into Python, as in `deform_points`.

    Examples
    --------
    >>> import gridfield as gf
    >>> u = gf.random_displacement(4, 10.0, shape=(64, 64), rng=0, fold_free=True)
    >>> v, residual = gf.invert_displacement(u, (64, 64))
    >>> v.shape, residual < 1e-3
    ((2, 64, 64), True)
    """
    where = "gf.invert_displacement"
    F = dispatch.face(where, displacement=array_of(displacement))
    tol = _tolerance(tol, where)
    size = shape_of(shape, where)
    raw, batched, _ = read(F, displacement, size, where)
    kind = F.dtype(raw)
    dtype = "float32" if kind in check.HALF else kind
    geometry = Geometry(F, where, size, displacement, None, None, None, None, None, spacing)
    field = geometry.field(dtype, raw)
    batch = field.shape[0]
    pixels = Grid.pixels(size).coords().reshape(1, -1, len(size))
    y = F.broadcast_to(F.constant(pixels, dtype, raw), (batch, *pixels.shape[1:]))
    pose = F.constant(np.zeros((batch, len(size), len(size) + 1)), dtype, raw)
    out, residual = _solved(F, geometry, field, pose, y, tol)
    v = (out - y) * F.constant(np.array(spacing_of(spacing, len(size), where)), dtype, raw)
    v = F.reshape(F.moveaxis(v, 2, 1), (batch, len(size), *size))
    return F.astype(v if batched else v[0], kind), residual


def _tolerance(tol: Any, where: str) -> float:
    value = check.number(tol, "tol", where)
    if not arguments.LENGTH[1](value):
        raise ValueError(f"{where}: tol must be a positive number, got {tol!r}")
    return value


@static
def _scheme(points: tuple[int, ...], full: tuple[int, ...], derivative: bool) -> str:
    """The spline of control points over the pixels of an image: its value, then its derivative along each axis."""
    return _cached_scheme(points, full, derivative)


@functools.lru_cache(maxsize=256)
def _cached_scheme(points: tuple[int, ...], full: tuple[int, ...], derivative: bool) -> str:
    steps = tuple(map(lattice.spacing, points, full))
    origin = tuple(0.0 if n > 1 else -(p - 1) / 2 for p, n in zip(points, full, strict=True))
    orders = [(0,) * len(full)]
    orders += [tuple(int(i == j) for i in range(len(full))) for j in range(len(full))] * derivative
    grid = Grid.from_spacing(points, origin, steps)
    return intern(Scheme(grid, (bspline(3),) * len(full), ("mirror",) * len(full), tuple(orders)))


def _coefficients(F: Any, geometry: Geometry, field: Any) -> tuple[Any, tuple[int, ...]]:
    """Spline coefficients, of a dense displacement too, and how many there are along each axis."""
    if geometry.points is not None:
        return field, geometry.points
    return spline(F, field), geometry.full


def _source(F: Any, geometry: Geometry, field: Any, pose: Any) -> Callable[[Any], Any]:
    """From pixels o of the result, (batch, n, ndim), to where they come from."""
    c, points = _coefficients(F, geometry, field)
    text = _scheme(points, geometry.full, False)
    dtype = F.dtype(field)
    start = F.constant(np.array(geometry.start, float), dtype, field)
    centre = F.constant((np.array(geometry.shape) - 1) / 2, dtype, field)

    def source(o: Any) -> Any:
        turned = F.einsum("bij,bnj->bni", pose[..., :-1], o - centre) + F.moveaxis(pose[..., -1:], 1, 2)
        return o + start + turned + F.sample(c, o + start, text)[:, 0]

    return source


def _solved(F: Any, geometry: Geometry, field: Any, pose: Any, p: Any, tol: float) -> tuple[Any, Any]:
    """The pixels o of the result that come from p, and the largest residual: a float, where the numbers are known.

    Found in float64, outside of the framework, in which chord steps follow: ``o - inv(J) (src(o) - p)``, with the
    Jacobian J at the solution as a constant. A step multiplies the error by ``1 - inv(J) J(o)``, which is 0 at the
    solution and of first order in what moves beside it: k steps from a constant have its first k derivatives right.
    """
    shape = tuple(p.shape)
    run = functools.partial(_newton, geometry, tol)
    o, inverse, residual = F.outside(run, (shape, (*shape, shape[-1]), ()), F.dtype(p), field, pose, p)
    source = _source(F, geometry, field, pose)
    for _ in range(2 if F.followed(field, pose, p) else 1):
        o = o - F.einsum("bnij,bnj->bni", inverse, source(o) - p)
    known = F.concrete(residual)
    return o, residual if known is None else float(known)


def mapped(
    geometry: Geometry, field: np.ndarray, pose: np.ndarray
) -> Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """From pixels o of the result, (batch, n, ndim), to where they come from, and the Jacobians there; in NumPy."""
    n = geometry.ndim
    c, points = _coefficients(NUMPY, geometry, field)
    text = _scheme(points, geometry.full, True)
    start, centre = np.array(geometry.start, float), (np.array(geometry.shape) - 1) / 2
    linear, shift = pose[..., :-1] + np.eye(n), pose[..., -1]

    def source(o: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        y = NUMPY.sample(c, o + start, text)  # (batch, 1 + ndim, n, ndim)
        place = np.einsum("bij,bnj->bni", linear, o - centre) + (shift[:, None] + start + centre) + y[:, 0]
        return place, linear[:, None] + np.moveaxis(y[:, 1:], 1, -1)

    return source


@np.errstate(all="ignore")  # of what is infinite or not a number comes NaN; a callback must not raise
def _newton(
    geometry: Geometry, tol: float, field: np.ndarray, pose: np.ndarray, p: np.ndarray
) -> tuple[np.ndarray, np.ndarray, float]:
    """Newton's method, with steps halved where they lead away: solution, inverse Jacobians, largest residual."""
    field, pose, p = (a.astype(np.float64) for a in (field, pose, p))
    n = geometry.ndim
    start, centre = np.array(geometry.start, float), (np.array(geometry.shape) - 1) / 2
    linear, shift = pose[..., :-1] + np.eye(n), pose[..., -1]
    source = mapped(geometry, field, pose)

    def at(o: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        place, jacobian = source(o)
        return place - p, jacobian

    # without the displacement the map is affine, and inverted at once
    o = centre + np.einsum("bij,bnj->bni", _inverse(linear), p - start - centre - shift[:, None])
    miss, jacobian = at(o)
    error: np.ndarray = np.abs(miss).max(-1)
    goal = min(tol, 1e-6) * 1e-3
    for _ in range(STEPS):
        if not np.any(error > goal):
            break
        step = _solve(jacobian, miss)
        size = np.ones((*error.shape, 1))
        for _ in range(8):
            trial = o - size * step
            new_miss, new_jacobian = at(trial)
            new_error: np.ndarray = np.abs(new_miss).max(-1)
            worse = np.logical_and(~np.less(new_error, error), np.greater(error, goal))
            if not worse.any():
                break
            size = np.where(worse[..., None], size / 2, size)
        better = np.less(new_error, error)
        if not better.any():
            break
        o = np.where(better[..., None], trial, o)
        miss = np.where(better[..., None], new_miss, miss)
        jacobian = np.where(better[..., None, None], new_jacobian, jacobian)
        error = np.where(better, new_error, error)
    found = np.less_equal(error, tol)
    residual = float(error.max(initial=0.0)) if found.all() else float("nan")
    return np.where(found[..., None], o, np.nan), _inverse(jacobian), residual


def _inverse(jacobian: np.ndarray) -> np.ndarray:
    """Of every matrix; where there is none, of the identity (a fixed-point step)."""
    eye = np.eye(jacobian.shape[-1])
    usable = np.all(np.isfinite(jacobian), (-1, -2), keepdims=True)
    safe = np.where(usable, jacobian, eye)
    largest = np.prod(np.linalg.norm(safe, axis=-1), -1)  # that the determinant could be: Hadamard's bound
    singular = np.less_equal(np.abs(np.linalg.det(safe)), 1e-12 * largest)
    return np.linalg.inv(np.where(singular[..., None, None], eye, safe))


def _solve(jacobian: np.ndarray, miss: np.ndarray) -> np.ndarray:
    return np.einsum("bnij,bnj->bni", _inverse(jacobian), miss)
