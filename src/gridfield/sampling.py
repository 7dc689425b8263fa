"""sample, splat, prefilter, pad and fold as users call them, for any framework: shapes and types in, ops, and back."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from math import prod
from typing import Any

from . import check, dispatch
from .boundary import ENLARGE, ENLARGED, as_boundaries
from .check import array as _array
from .grid import Grid
from .kernel import Kernel, as_kernels
from .ops import recipe, static
from .scheme import Filter, Margins, Scheme, intern

KernelLike = str | int | Kernel | Sequence[str | int | Kernel]
BoundaryLike = str | Sequence[str]
Texts = tuple[str, str | None, str | None]
Derivative = Any  # a multi-index or a list of them


@static
def _texts(
    grid: Grid | tuple[int, ...],
    kernel: Any,
    boundary: Any,
    orders: tuple[tuple[int, ...], ...],
    cval: float,
    prefilter: bool,
    where: str,
) -> Texts:
    """The static arguments of sample or splat, of the prefilter, and of the pad before it (None: not needed).

    A shape stands for the pixel grid of that shape.
    """
    try:
        return _cached_texts(grid, kernel, boundary, orders, cval, prefilter, where)
    except TypeError:  # something unhashable: let the check of that argument say so
        return _cached_texts.__wrapped__(grid, kernel, boundary, orders, cval, prefilter, where)


@functools.lru_cache(maxsize=4096, typed=True)
def _cached_texts(
    grid: Grid | tuple[int, ...], kernel: Any, boundary: Any, orders: Any, cval: float, prefilter: bool, where: str
) -> Texts:
    grid = grid if isinstance(grid, Grid) else Grid.pixels(grid)
    kernels = as_kernels(kernel, grid.ndim, where)
    boundaries = as_boundaries(boundary, grid.ndim, grid.periodic, where)
    pad = filt = None
    if prefilter:
        pad, filt, grid = _prefilter_texts(grid, kernels, boundaries, cval)
    # the derivative one above the kernel's degree is zero, and so are all beyond
    orders = tuple(tuple(min(o, k.degree + 1) for o, k in zip(a, kernels, strict=True)) for a in orders)
    return intern(Scheme(grid, kernels, boundaries, orders, cval)), filt, pad


def _prefilter_texts(
    grid: Grid, kernels: tuple[Kernel, ...], boundaries: tuple[str, ...], cval: float
) -> tuple[str | None, str | None, Grid]:
    """Static arguments of the pad and the prefilter (None: not needed), and the grid of the coefficients."""
    if all(k.interpolating for k in kernels):
        return None, None, grid
    _ = [k.poles for k in kernels]  # or an error
    widths = tuple(
        (ENLARGE, ENLARGE) if not k.interpolating and b in ENLARGED else (0, 0)
        for k, b in zip(kernels, boundaries, strict=True)
    )
    pad = intern(Margins(widths, boundaries, cval)) if any(sum(w) for w in widths) else None
    solved = tuple("mirror" if b == "constant" else ENLARGED.get(b, b) for b in boundaries)
    filt = intern(Filter(kernels, solved))
    if pad:
        grid = Grid.from_spacing(
            tuple(n + sum(w) for n, w in zip(grid.shape, widths, strict=True)),
            tuple(o - w[0] * s for o, w, s in zip(grid.origin, widths, grid.spacing, strict=True)),
            grid.spacing,
            periodic=grid.periodic,
        )
    return pad, filt, grid


def _hashable(x: Any) -> Any:
    """One per axis as a tuple."""
    return tuple(x) if isinstance(x, Sequence) and not isinstance(x, str) else x


@recipe
def sample(
    values: Any,
    points: Any,
    *,
    grid: Grid | None = None,
    kernel: KernelLike = "cubic",
    boundary: BoundaryLike = "mirror",
    cval: float = 0.0,
    prefilter: bool = True,
    derivative: Derivative = None,
) -> Any:
    """Values of a grid, or their derivatives, at points.

    Computes ``y[p] = sum_k prod_i kernel^(alpha_i)(x[p, i] - k_i) c[k]`` with coordinates in units of the grid's
    spacing and derivatives per physical unit. The coefficients `c` are the values themselves
    (``prefilter=False``: a spline of control points) or those whose spline passes through the values.

    Parameters
    ----------
    values : array, shape (*lead, *grid.shape)
        Real, complex or integer; `lead` are channels or batch axes, treated alike.
    points : array, shape (*pts, ndim)
        Coordinates in the order of the grid's axes, in its physical units; same precision as `values`.
    grid : Grid, optional
        Where the values are. Default: ``Grid.pixels`` of the last ``points.shape[-1]`` axes of `values`.
    kernel : str, int, Kernel or one per axis, default "cubic"
        "nearest", "linear", "quadratic", "cubic", "quartic", "quintic", "catmull_rom", a B-spline degree,
        or a `Kernel`.
    boundary : str or one per axis, default "mirror"
        "natural", "nearest", "reflect", "mirror", "wrap", "constant" or "grid-constant". A periodic axis of
        the grid wraps whatever is said here.
    cval : float, default 0.0
        Value outside for "constant" and "grid-constant".
    prefilter : bool, default True
        Make the spline pass through the values.
    derivative : tuple of int, or list of those, optional
        Order of the derivative along each axis; a list adds a leading axis to the result, and costs little more
        than one.

    Returns
    -------
    array, shape (*pts, *lead)
        Of the framework, type and device of `values`. Integers are computed in float64, then rounded and
        saturated (derivatives of integers are float64); half precision is computed in float32. A NaN coordinate gives
        NaN (0 in an integer result).

    Raises
    ------
    ValueError, TypeError
        If shapes, types, devices or frameworks do not fit together.

    References
    ----------
    P. Thevenaz, T. Blu, M. Unser, "Interpolation revisited", IEEE Trans. Med. Imaging 19 (2000), 739-758.

    Examples
    --------
    >>> import gridfield as gf, numpy as np
    >>> squares = np.arange(6.0) ** 2
    >>> gf.sample(squares, np.array([[2.0], [2.5]]), boundary="natural", kernel="cubic").round(2)
    array([4.  , 6.26])
    >>> slope = gf.sample(squares, np.array([[2.5]]), kernel="linear", derivative=(1,))
    >>> slope
    array([5.])
    """
    where = "gf.sample"
    F = dispatch.face(where, values=values, points=points)
    values, points, dtype = _arrays(F, values, points, where)
    if grid is not None:
        check.is_grid(grid, where)
    ndim = check.points(points.shape, where, grid)
    if grid is not None:
        shape = grid.shape
        check.trailing(values.shape, shape, "values", "the grid's shape", where)
    elif values.ndim < ndim:
        raise ValueError(
            f"{where}: points has {ndim} coordinates per point (shape {tuple(points.shape)}) but values has only "
            f"{values.ndim} axes {tuple(values.shape)}"
        )
    else:
        shape = check.grid_shape(values.shape[values.ndim - ndim :], "values", where)
    orders, several = check.orders(derivative, ndim, where)
    cval = check.number(cval, "cval", where)
    kernel, boundary = _hashable(kernel), _hashable(boundary)
    check.flag(prefilter, "prefilter", where)
    where_is = shape if grid is None else grid
    texts = _texts(where_is, kernel, boundary, orders, cval, prefilter, where)
    if F.dtype(values) not in check.REAL or cval == 0:
        return evaluate(F, values, points, shape, texts, len(orders), several, dtype, derivative is None)
    # complex: the real part continues by cval, the imaginary part by 0
    linear = _texts(where_is, kernel, boundary, orders, 0.0, prefilter, where)
    parts = F.as_real(values)
    real = evaluate(F, parts[..., 0], points, shape, texts, len(orders), several, dtype, True)
    imaginary = evaluate(F, parts[..., 1], points, shape, linear, len(orders), several, dtype, True)
    return F.as_complex(F.stack([real, imaginary], -1))


def evaluate(
    F: Any,
    values: Any,
    points: Any,
    shape: tuple[int, ...],
    texts: Texts,
    orders: int,
    several: bool,
    dtype: str,
    rounded: bool,
) -> Any:
    """sample with all arguments checked and turned into the static texts of sample, prefilter and pad."""
    text, filt, pad = texts
    given, pts, lead = F.dtype(values), F.shape(points)[:-1], F.shape(values)[: values.ndim - len(shape)]
    v = values if given == dtype else _to_channels(F, values, lead, shape, dtype)
    if pad:
        v = F.pad(F.reshape(v, (-1, *shape)), pad)
        shape = F.shape(v)[1:]
    if filt:
        v = F.prefilter(F.reshape(v, (-1, *shape)), filt)
    if F.dtype(points) != dtype:
        points = F.astype(points, dtype)
    parts, before = (2,) if given in check.REAL else (), (orders, *pts) if several else pts
    shapes = (1, prod(parts + lead), *shape), (1, prod(pts), len(shape))
    out = F.shaped("sample", (v, points), shapes, text, (*before, *parts, *lead))
    if given == dtype:
        return out
    if parts:
        return F.as_complex(F.moveaxis(out, len(before), -1))
    if not check.is_integer(given):
        return F.astype(out, given)
    if not rounded:
        return out
    return out >= 0.5 if given == "bool" else F.round_to(out, given)


@recipe
def splat(
    values: Any,
    points: Any,
    grid: Grid,
    *,
    kernel: KernelLike = "linear",
    boundary: BoundaryLike = "mirror",
    derivative: Derivative = None,
) -> Any:
    """Spread values at points onto a grid: the exact transpose of `sample` with ``prefilter=False``.

    Computes ``c[k] = sum_p prod_i kernel^(alpha_i)(x[p, i] - k_i) y[p]``; what falls beyond the ends is folded back
    by the boundary. With the same grid, kernel, boundary and derivative,
    ``sum(sample(c, x, prefilter=False) * y) == sum(c * splat(y, x))``.

    Parameters
    ----------
    values : array, shape (*pts, *lead)
        One value, or one per channel, for each point; with a list of derivatives (len(list), *pts, *lead).
    points : array, shape (*pts, ndim)
        Coordinates in the grid's physical units; same precision as `values`.
    grid : Grid
        The grid to spread onto.
    kernel, boundary, derivative
        As for `sample`; the default kernel is "linear".

    Returns
    -------
    array, shape (*lead, *grid.shape)
        Of the framework, type and device of `values`; float64 for integers. Points with a NaN coordinate,
        and with boundary "constant" points outside, contribute nothing. The same bits whatever the number of threads.

    Raises
    ------
    ValueError, TypeError
        If shapes, types, devices or frameworks do not fit together.

    Examples
    --------
    >>> import gridfield as gf, numpy as np
    >>> gf.splat(np.array([1.0, 2.0]), np.array([[0.5], [2.25]]), gf.Grid.pixels(4))
    array([0.5, 0.5, 1.5, 0.5])
    """
    where = "gf.splat"
    F = dispatch.face(where, values=values, points=points)
    values, points, dtype = _arrays(F, values, points, where)
    check.is_grid(grid, where)
    ndim = check.points(points.shape, where, grid)
    orders, several = check.orders(derivative, ndim, where)
    pts = F.shape(points)[:-1]
    stacked = (len(orders), *points.shape[:-1]) if several else tuple(points.shape[:-1])
    what = "the number of derivatives and the shape of points" if several else "the shape of points"
    check.leading(values.shape, stacked, "values", what, where)
    given, lead = F.dtype(values), F.shape(values)[len(stacked) :]
    text, _, _ = _texts(grid, _hashable(kernel), _hashable(boundary), orders, 0.0, False, where)
    y = F.as_real(values) if given in check.REAL else values
    channels = prod(lead) * (2 if given in check.REAL else 1)
    y = F.reshape(F.astype(y, dtype), (1, len(orders), prod(pts), channels))
    x = F.reshape(F.astype(points, dtype), (1, prod(pts), ndim))
    out = F.splat(y, x, text)[0]
    if given in check.REAL:
        out = F.as_complex(F.moveaxis(F.reshape(out, (*lead, 2, *grid.shape)), len(lead), -1))
    out = F.reshape(out, (*lead, *grid.shape))
    return out if check.is_integer(given) else F.astype(out, given)


@recipe
def prefilter(
    values: Any,
    *,
    kernel: KernelLike = "cubic",
    boundary: BoundaryLike = "mirror",
    cval: float = 0.0,
    grid: Grid | None = None,
    ndim: int | None = None,
) -> Any:
    """Coefficients whose spline passes through the values: what `sample` does first when ``prefilter=True``.

    Solves ``sum_j kernel(i - j) c[j] = values[i]`` along every axis of the grid by recursive filters, exactly for the
    boundary.

    Parameters
    ----------
    values : array, shape (*lead, *grid.shape)
        Data on the grid.
    kernel, boundary
        As for `sample`.
    cval : float, default 0.0
        What continues the data where boundary is "grid-constant".
    grid : Grid, optional
        Where the values are; its axes are the last of `values`. Default: ``Grid.pixels`` of the last `ndim` axes.
    ndim : int, optional
        Number of axes of the grid, where there are channels before them. Default: all axes of `values`.

    Returns
    -------
    array, shape (*lead, *grid.shape), or (array, Grid)
        The coefficients, of the type of `values` (float64 for integers). Where boundary is "nearest" or
        "grid-constant" on any axis the data are first continued by 12 samples there, and the enlarged coefficients
        come with their Grid.

    Raises
    ------
    ValueError
        If the kernel cannot be made to interpolate.

    References
    ----------
    M. Unser, A. Aldroubi, M. Eden, "B-spline signal processing: part II", IEEE Trans. Signal Process. 41
    (1993), 834-848.

    Examples
    --------
    >>> import gridfield as gf, numpy as np
    >>> data = np.array([0.0, 1.0, 0.0, 2.0])
    >>> c = gf.prefilter(data)
    >>> np.allclose(gf.sample(c, np.arange(4.0)[:, None], prefilter=False), data)
    True
    >>> c, grid = gf.prefilter(data, boundary="nearest")
    >>> c.shape, grid.bounds
    ((28,), ((-12.0, 15.0),))
    """
    where = "gf.prefilter"
    F = dispatch.face(where, values=values)
    values = _array(F, values, "values", where)
    dtype = F.widest(check.compute_dtype(F.dtype(values), "int64", where))
    cval = check.number(cval, "cval", where)
    if grid is not None:
        check.is_grid(grid, where)
        shape = grid.shape
        check.trailing(values.shape, shape, "values", "the grid's shape", where)
    else:
        shape = check.grid_shape(check.last_axes(values.shape, ndim, "values", where), "values", where)
    lead = F.shape(values)[: values.ndim - len(shape)]
    pad, filt, enlarged = _filter(shape if grid is None else grid, _hashable(kernel), _hashable(boundary), cval, where)
    given = F.dtype(values)
    if given in check.REAL and cval != 0:
        raise ValueError(f"{where}: cval must be 0 for complex values, got {cval!r}; subtract it from the values")
    flat = _to_channels(F, values, lead, shape, dtype)[0]
    if pad:
        flat = F.pad(flat, pad)
    flat = F.prefilter(flat, filt) if filt else F.copy(flat)  # the result is the caller's to change
    out = _grids_from_channels(F, flat, lead, given)
    return out if enlarged is None else (out, enlarged)


@static
def _filter(
    grid: Grid | tuple[int, ...], kernel: Any, boundary: Any, cval: float, where: str
) -> tuple[str | None, str | None, Grid | None]:
    """The static arguments of pad and prefilter, and the grid of the coefficients where the boundary enlarges it."""
    grid = grid if isinstance(grid, Grid) else Grid.pixels(grid)
    boundaries = as_boundaries(boundary, grid.ndim, grid.periodic, where)
    pad, filt, grid = _prefilter_texts(grid, as_kernels(kernel, grid.ndim, where), boundaries, cval)
    return pad, filt, grid if any(b in ENLARGED for b in boundaries) else None


@recipe
def pad(values: Any, margins: Any, *, boundary: BoundaryLike = "mirror", cval: float = 0.0) -> Any:
    """Continue a grid beyond its ends by a boundary rule; differentiable, with `fold` as its transpose.

    Parameters
    ----------
    values : array, shape (*lead, *shape)
        Data or coefficients.
    margins : int, or sequence of (before, after)
        Samples to add; pairs belong to the last axes, an int to all axes.
    boundary : str or one per padded axis, default "mirror"
        As for `sample`; "constant" continues like "mirror".
    cval : float, default 0.0
        Value beyond the ends for "grid-constant".

    Returns
    -------
    array
        Each padded axis longer by before + after; of the type of `values` (float64 for integers).

    Raises
    ------
    ValueError
        If margins is not of that form.

    Examples
    --------
    >>> import gridfield as gf, numpy as np
    >>> gf.pad(np.array([1.0, 2.0, 4.0]), 2, boundary="natural")
    array([-2.,  0.,  1.,  2.,  4.,  6.,  7.])
    >>> gf.pad(np.array([1.0, 2.0, 4.0]), [(2, 0)], boundary="reflect")
    array([2., 1., 1., 2., 4.])
    """
    return _pad_or_fold("pad", values, margins, boundary, cval)


@recipe
def fold(values: Any, margins: Any, *, boundary: BoundaryLike = "mirror") -> Any:
    """The transpose of `pad`: add the margins of a grid to the samples they stand for, and cut them off.

    Parameters
    ----------
    values : array, shape (*lead, *padded)
        A grid with margins.
    margins : int, or sequence of (before, after)
        Samples to remove, as given to `pad`.
    boundary : str or one per padded axis, default "mirror"
        As for `pad`.

    Returns
    -------
    array
        Each padded axis shorter by before + after.

    Raises
    ------
    ValueError
        If the margins leave nothing of an axis.

    Examples
    --------
    >>> import gridfield as gf, numpy as np
    >>> gf.fold(np.ones(5), 1, boundary="reflect")
    array([2., 1., 2.])
    """
    return _pad_or_fold("fold", values, margins, boundary, 0.0)


def _pad_or_fold(name: str, values: Any, margins: Any, boundary: BoundaryLike, cval: float) -> Any:
    where = f"gf.{name}"
    F = dispatch.face(where, values=values)
    values = _array(F, values, "values", where)
    given = F.dtype(values)
    dtype = F.widest(check.compute_dtype(given, "int64", where))
    widths = check.margins(margins, values.ndim, where)
    ndim = len(widths)
    lead = F.shape(values)[: values.ndim - ndim]
    shape = check.sizes(values.shape[values.ndim - ndim :], "values", where)
    left = shape if name == "pad" else tuple(n - sum(w) for n, w in zip(shape, widths, strict=True))
    if any(n < 1 for n in left):
        raise ValueError(f"{where}: values has shape {tuple(values.shape)}, too small for margins {widths}")
    boundaries = as_boundaries(_hashable(boundary), ndim, (False,) * ndim, where)
    cval = check.number(cval, "cval", where)
    if given in check.REAL and cval != 0:
        raise ValueError(f"{where}: cval must be 0 for complex values, got {cval!r}")
    text = _margins(widths, boundaries, cval)
    flat = _to_channels(F, values, lead, shape, dtype)[0]
    return _grids_from_channels(F, getattr(F, name)(flat, text), lead, given)


@static
def _margins(widths: Any, boundaries: Any, cval: float) -> str:
    return intern(Margins(widths, boundaries, cval))


# ---- shapes and types, in and out
def _arrays(F: Any, values: Any, points: Any, where: str) -> tuple[Any, Any, str]:
    """Both as arrays of the framework, and the float type to compute in. Python lists take the other's type."""
    bare_points, bare_values = not hasattr(points, "dtype"), not hasattr(values, "dtype")
    values, points = _array(F, values, "values", where), _array(F, points, "points", where)
    if bare_points and not check.is_integer(F.dtype(values)):
        points = F.astype(points, check.REAL.get(F.dtype(values), F.dtype(values)))
    elif bare_values and not bare_points and F.dtype(values) in check.FLOATS and F.dtype(points) in check.FLOATS:
        values = F.astype(values, F.dtype(points))
    check.same_device(where, values=F.device(values), points=F.device(points))
    return values, points, F.widest(check.compute_dtype(F.dtype(values), F.dtype(points), where))


def _to_channels(F: Any, values: Any, lead: tuple[int, ...], shape: tuple[int, ...], dtype: str) -> Any:
    """(*lead, *shape) -> (1, channels, *shape) in the type to compute in; complex values are two sets of channels."""
    channels = prod(lead)
    if (given := F.dtype(values)) in check.REAL:
        values, channels = F.moveaxis(F.as_real(values), -1, 0), 2 * channels
    elif given != dtype:
        values = F.astype(values, dtype)
    return F.reshape(values, (1, channels, *shape))


def _grids_from_channels(F: Any, flat: Any, lead: tuple[int, ...], given: str) -> Any:
    """(channels, *shape) -> (*lead, *shape) of the type that came in; float64 for integers."""
    shape = F.shape(flat)[1:]
    if given in check.REAL:
        return F.as_complex(F.moveaxis(F.reshape(flat, (2, *lead, *shape)), 0, -1))
    out = F.reshape(flat, (*lead, *shape))
    return out if check.is_integer(given) else F.astype(out, given)
