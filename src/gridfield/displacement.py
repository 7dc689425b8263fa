"""Displacements by control points: how they are read, their dense field, its Jacobian determinant, and random ones."""

from __future__ import annotations

import functools
import operator
from collections.abc import Sequence
from typing import Any

import numpy as np

from . import arguments, check, dispatch, lattice
from .faces.numpy import FACE as NUMPY
from .kernel import bspline
from .ops import expand, recipe, static
from .sampling import _array
from .scheme import Filter, intern

Shape = tuple[int, ...]


@static
def spline_filter(ndim: int) -> str:
    """The static argument of the prefilter of control points."""
    return intern(Filter((bspline(3),) * ndim, ("mirror",) * ndim))


def is_field(displacement: Any) -> bool:
    """Whether it is a SplineField, of any framework."""
    return hasattr(displacement, "spline") and hasattr(displacement, "_array")


def array_of(displacement: Any) -> Any:
    """What tells the framework."""
    return displacement._array() if is_field(displacement) else displacement


def is_bare(x: Any) -> bool:
    """Whether it is of Python's numbers or NumPy's, which go with any framework, and holds no array of one."""
    if isinstance(x, (list, tuple)):
        return all(is_bare(item) for item in x)
    return dispatch.frameworks((type(x),))[0] in ("", "numpy")


def shape_of(shape: Any, where: str) -> Shape:
    """The shape of an image, one int for each axis."""
    items = arguments.items(shape)
    if not items:
        raise ValueError(f"{where}: shape must have one size per axis, got {shape!r}")
    return arguments.per_axis(where, "shape", shape, len(items), arguments.SIZE)


def spacing_of(spacing: Any, ndim: int, where: str) -> tuple[float, ...]:
    """Units per pixel along each axis; 1 for None."""
    return arguments.per_axis(where, "spacing", 1.0 if spacing is None else spacing, ndim, arguments.LENGTH)


def read(F: Any, displacement: Any, shape: Shape, where: str, batched: bool | None = None) -> tuple[Any, bool, bool]:
    """(batch, ndim, *points) in the units given; whether it has a batch axis; whether it is dense, as `shape` is.

    batched: None leaves it to the number of axes.
    """
    ndim = len(shape)
    if is_field(displacement):
        if displacement.channels != ndim or displacement.ndim != ndim:
            raise ValueError(
                f"{where}: displacement is a field of {displacement.channels} channels on {displacement.ndim} axes, "
                f"but the image has {ndim} deformed axes {shape}; it needs as many of both"
            )
        dense = displacement.spline.on_grid(F, displacement._array(), shape)
        return F.reshape(dense, (1, ndim, *shape)), False, True
    if is_bare(displacement):  # torch and TensorFlow would make lists of floats float32
        displacement = _array(NUMPY, displacement, "displacement", where)
    x = _array(F, displacement, "displacement", where)
    if not check.is_number(F.dtype(x)) or F.dtype(x) in check.REAL:
        raise TypeError(f"{where}: displacement has dtype {F.dtype(x)} but must be real numbers")
    given = tuple(x.shape)
    batched = len(given) == ndim + 2 if batched is None else batched
    expected = f"({'batch, ' if batched else ''}{ndim}, {', '.join(f'points_{a}' for a in range(ndim))})"
    if len(given) != ndim + 1 + batched or given[batched] != ndim:
        raise ValueError(
            f"{where}: displacement has shape {given} but must be {expected} for {ndim} deformed axes {shape}"
        )
    points = check.sizes(given[1 + batched :], "displacement", where)
    if points != shape and min(points) < 2:
        raise ValueError(
            f"{where}: displacement has shape {given}, that is {points} control points; each axis needs at least 2 "
            f"(or all of the image's {shape})"
        )
    x = F.astype(x, F.widest("float64")) if check.is_integer(F.dtype(x)) else x
    return F.reshape(x, (F.shape(x)[0] if batched else 1, ndim, *points)), batched, points == shape


def per_pixel(F: Any, x: Any, spacing: tuple[float, ...], dtype: str) -> Any:
    """(batch, ndim, *points) in units of the spacing -> in pixels, in the type to compute in."""
    x = F.astype(x, dtype)
    if all(s == 1 for s in spacing):
        return x
    return x * F.constant(1 / np.array(spacing).reshape(-1, *[1] * len(spacing)), dtype, x)


def spline(F: Any, x: Any) -> Any:
    """The B-spline coefficients of (batch, ndim, *points)."""
    b, ndim, *points = F.shape(x)
    return F.reshape(F.prefilter(F.reshape(x, (b * ndim, *points)), spline_filter(ndim)), (b, ndim, *points))


def _expanded(F: Any, c: Any, shape: Shape, orders: Sequence[int], scale: float = 1.0) -> Any:
    matrices = map(lattice.matrix, c.shape[2:], shape, orders)
    return expand(F, c, [m * scale**o if o else m for m, o in zip(matrices, orders, strict=True)])


def _working(F: Any, x: Any) -> str:
    """The type to compute in."""
    return "float32" if F.dtype(x) in check.HALF else F.dtype(x)


@recipe
def displacement_field(displacement: Any, shape: Sequence[int]) -> Any:
    """The displacement of every pixel, from that of control points: what `deform` uses without ever storing it.

    Along each axis the interpolating cubic B-spline through the control points, its ends mirrored; the first and the
    last control point are on the first and the last pixel centre, an axis of one pixel takes the middle.

    Parameters
    ----------
    displacement : array, shape (ndim, *points) or (batch, ndim, *points), or SplineField
        Component i is along axis i of the image. At least 2 control points along each axis; if there are as many as
        pixels along every axis the field is dense already. Of a `SplineField` with ndim channels, the values over its
        own domain, from the first to the last control point.
    shape : sequence of int
        Pixels along each axis.

    Returns
    -------
    array, shape (ndim, *shape) or (batch, ndim, *shape)
        Of the framework, type and units of `displacement`; float64 for integers. Differentiable.

    Raises
    ------
    ValueError
        If `displacement` does not fit the number of axes, or has fewer than 2 control points along one.

    Examples
    --------
    >>> import gridfield as gf, numpy as np
    >>> corners = np.array([[[0.0, 0.0], [4.0, 4.0]], [[0.0, 2.0], [0.0, 2.0]]])
    >>> rows, columns = gf.displacement_field(corners, (5, 3))
    >>> columns[0].round(12) + 0.0
    array([0., 1., 2.])
    """
    where = "gf.displacement_field"
    F = dispatch.face(where, displacement=array_of(displacement))
    size = shape_of(shape, where)
    x, batched, dense = read(F, displacement, size, where)
    if not dense:
        given = F.dtype(x)
        x = F.astype(x, _working(F, x))
        x = F.astype(_expanded(F, spline(F, x), size, (0,) * len(size)), given)
    elif not is_field(displacement):
        x = F.copy(x)  # the result is the caller's to change
    return x if batched else F.reshape(x, F.shape(x)[1:])


@recipe
def jacobian_determinant(
    displacement: Any, shape: Sequence[int], *, factor: int | Sequence[int] = 1, spacing: Any = None
) -> Any:
    """Determinant of ``I + du/dx`` at every pixel: how much a displacement u scales volumes; at 0 and below it folds.

    The derivatives are those of the spline itself, not differences.

    Parameters
    ----------
    displacement : array, shape (ndim, *points) or (batch, ndim, *points), or SplineField
        As for `displacement_field`.
    shape : sequence of int
        Pixels along each axis of the image.
    factor : int or one per axis, default 1
        Evaluate on a lattice so many times finer, of ``(n - 1) * factor + 1`` samples.
    spacing : float or one per axis, default 1
        Units of the displacement per pixel.

    Returns
    -------
    array, shape (*shape) or (batch, *shape), or of the finer lattice
        Of the framework and type of `displacement`; float64 for integers. Differentiable.

    Raises
    ------
    ValueError
        As `displacement_field` does.

    Examples
    --------
    >>> import gridfield as gf, numpy as np
    >>> stretch = np.array([[[0.0, 0.0], [2.0, 2.0]], [[0.0, 0.0], [0.0, 0.0]]])
    >>> gf.jacobian_determinant(stretch, (5, 5))[2, 2].round(3)
    np.float64(1.75)
    """
    where = "gf.jacobian_determinant"
    F = dispatch.face(where, displacement=array_of(displacement))
    size = shape_of(shape, where)
    units, ndim = spacing_of(spacing, len(size), where), len(size)
    factors = arguments.per_axis(where, "factor", factor, ndim, arguments.SIZE)
    x, batched, _ = read(F, displacement, size, where)
    given, dtype = F.dtype(x), _working(F, x)
    c = spline(F, per_pixel(F, x, units, dtype))
    fine = tuple((n - 1) * f + 1 for n, f in zip(size, factors, strict=True))
    by_axis = [_expanded(F, c, fine, [int(i == j) for i in range(ndim)], factors[j]) for j in range(ndim)]
    rows = [[by_axis[j][:, i] + float(i == j) for j in range(ndim)] for i in range(ndim)]
    out = F.astype(determinant(rows), given)
    return out if batched else F.reshape(out, F.shape(out)[1:])


def determinant(rows: list[list[Any]]) -> Any:
    """By expansion along the first row: images have few axes."""
    if len(rows) == 1:
        return rows[0][0]
    minors = [[row[:j] + row[j + 1 :] for row in rows[1:]] for j in range(len(rows))]
    return functools.reduce(
        operator.add, [(-1) ** j * x * determinant(m) for j, (x, m) in enumerate(zip(rows[0], minors, strict=True))]
    )


def steepness(coefficients: np.ndarray, shape: Shape) -> float:
    """``max_i sum_j max |delta_j c_i| / h_j``, h_j the pixels between control points.

    It bounds du/dx in the maximum norm, as a B-spline's derivative is a convex combination of the differences of its
    coefficients; below 1 the map ``x + u(x)`` is one to one, and its determinant positive.

    S. Y. Chun, J. A. Fessler, "A simple regularizer for B-spline nonrigid image registration that encourages local
    invertibility", IEEE J. Sel. Top. Signal Process. 3 (2009), 159-169.
    """
    total = np.zeros(len(coefficients))
    for j, n in enumerate(shape):
        if n > 1:
            steps = np.abs(np.diff(coefficients, axis=j + 1)).reshape(len(coefficients), -1)
            total += steps.max(1) / lattice.spacing(coefficients.shape[j + 1], n)
    return float(total.max())


def fold_free_scale(displacement: np.ndarray, shape: Shape, spacing: tuple[float, ...]) -> float:
    """What to multiply control points by so that it is certain that nothing folds: 1 if it is anyway."""
    F = dispatch.of("numpy")
    bound = steepness(spline(F, per_pixel(F, displacement[None], spacing, "float64"))[0], shape)
    return min(1.0, (1 - MARGIN) / bound) if bound else 1.0


def random_displacement(
    points: int | Sequence[int],
    sigma: float | Sequence[float],
    *,
    shape: Sequence[int],
    rng: int | np.random.Generator,
    fold_free: bool = False,
    fixed_border: bool = False,
    spacing: Any = None,
) -> np.ndarray:
    """Control points displaced at random, each component normally distributed: for `deform`.

    Parameters
    ----------
    points : int or one per axis
        Control points along each axis, at least 2.
    sigma : float or one per axis
        Standard deviation of the displacement along each axis, in pixels (or in units of `spacing`).
    shape : sequence of int
        Pixels along each axis of the image.
    rng : numpy.random.Generator or int
        The source of randomness, or a seed for one.
    fold_free : bool, default False
        Scale the displacement down, where necessary, until it is certain that nothing folds: that ``x + u(x)`` is one
        to one, and its determinant positive everywhere, between the pixels too.
    fixed_border : bool, default False
        Leave the outermost control points where they are, and with them the border of the image.
    spacing : float or one per axis, default 1
        Units of the displacement per pixel.

    Returns
    -------
    ndarray, shape (ndim, *points), float64

    Raises
    ------
    ValueError, TypeError
        If an argument is not of that form.

    Notes
    -----
    `fold_free` uses a sufficient bound: ``max_i sum_j max |delta_j c_i| / h_j < 1`` with c the B-spline coefficients,
    delta_j their differences along axis j, and h_j the distance of control points. A displacement beyond it may well
    be free of folds; see `jacobian_determinant`.

    References
    ----------
    S. Y. Chun, J. A. Fessler, "A simple regularizer for B-spline nonrigid image registration that encourages local
    invertibility", IEEE J. Sel. Top. Signal Process. 3 (2009), 159-169.

    Examples
    --------
    >>> import gridfield as gf
    >>> u = gf.random_displacement(4, 25.0, shape=(100, 120), rng=0, fold_free=True)
    >>> u.shape, bool(gf.jacobian_determinant(u, (100, 120)).min() > 0)
    ((2, 4, 4), True)
    """
    where = "gf.random_displacement"
    size = shape_of(shape, where)
    ndim = len(size)
    count = arguments.per_axis(where, "points", points, ndim, arguments.SIZE)
    if min(count) < 2:
        raise ValueError(f"{where}: points must be at least 2 along each axis, got {points!r}")
    width = arguments.per_axis(where, "sigma", sigma, ndim, NOT_NEGATIVE)
    units = spacing_of(spacing, ndim, where)
    for name, flag in (("fold_free", fold_free), ("fixed_border", fixed_border)):
        check.flag(flag, name, where)
    if isinstance(rng, bool) or not isinstance(rng, (int, np.integer, np.random.Generator)):
        raise TypeError(f"{where}: rng must be a numpy.random.Generator or an int, got {type(rng).__name__}")
    if not isinstance(rng, np.random.Generator) and rng < 0:
        raise ValueError(f"{where}: rng must not be negative, got {rng}")
    with np.errstate(over="ignore"):
        out = np.random.default_rng(rng).normal(size=(ndim, *count)) * np.reshape(width, (ndim, *[1] * ndim))
    if fixed_border:
        for a in range(ndim):
            np.moveaxis(out, a + 1, 0)[[0, -1]] = 0
    if abs(out).max() > 1e150:
        raise ValueError(f"{where}: sigma {sigma!r} is too large")
    if fold_free:
        out *= fold_free_scale(out, size, units)
    return out


NOT_NEGATIVE: arguments.Rule = (float, lambda v: 0 <= v < float("inf"), "a finite number of 0 or more")
MARGIN = 1e-5  # so that what is left of the bound survives a rounding to float32
