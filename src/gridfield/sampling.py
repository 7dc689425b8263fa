"""sample, splat, prefilter, pad and fold as users call them, for any framework: shapes and types in, ops, and back."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from math import prod
from typing import Any

from . import check, dispatch
from .boundary import ENLARGE, ENLARGED, as_boundaries
from .grid import Grid
from .kernel import Kernel, as_kernels
from .scheme import Filter, Margins, Scheme, intern

KernelLike = str | int | Kernel | Sequence[str | int | Kernel]
BoundaryLike = str | Sequence[str]
Derivative = Any  # a multi-index or a list of them

_pixels = functools.lru_cache(maxsize=1024)(Grid.pixels)


@functools.lru_cache(maxsize=4096)
def _texts(
    grid: Grid, kernel: Any, boundary: Any, orders: tuple[tuple[int, ...], ...], cval: float, prefilter: bool, where: str
) -> tuple[str, str | None, str | None]:
    """The static arguments of a call: of sample or splat, of the prefilter and of the pad before it (None: not needed)."""
    kernels = as_kernels(kernel, grid.ndim, where)
    boundaries = as_boundaries(boundary, grid.ndim, grid.periodic, where)
    pad = filt = None
    if prefilter:
        pad, filt, grid = _prefilter_texts(grid, kernels, boundaries, cval)
    return intern(Scheme(grid, kernels, boundaries, orders, cval)), filt, pad


def _prefilter_texts(
    grid: Grid, kernels: tuple[Kernel, ...], boundaries: tuple[str, ...], cval: float
) -> tuple[str | None, str | None, Grid]:
    """Static arguments of the pad and the prefilter (None: not needed), and the grid of the coefficients."""
    if not any(k.poles for k in kernels):
        return None, None, grid
    widths = tuple(
        (ENLARGE, ENLARGE) if k.poles and b in ENLARGED else (0, 0) for k, b in zip(kernels, boundaries, strict=True)
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
    return x if isinstance(x, (str, int, Kernel)) or not isinstance(x, Sequence) else tuple(x)


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
    array([4.  , 6.21])
    >>> slope = gf.sample(squares, np.array([[2.5]]), kernel="linear", derivative=(1,))
    >>> slope
    array([5.])
    """
    where = "gf.sample"
    F = dispatch.face(where, values=values, points=points)
    values, points, dtype = _arrays(F, values, points, where)
    ndim = check.points(points.shape, where)
    if grid is None:
        if values.ndim < ndim:
            raise ValueError(
                f"{where}: points has {ndim} coordinates per point (shape {tuple(points.shape)}) but values has only "
                f"{values.ndim} axes {tuple(values.shape)}"
            )
        shape = tuple(values.shape[values.ndim - ndim :])
        check.not_empty(shape, "values", where)
        grid = _pixels(shape)
    else:
        check.grid(grid, ndim, where)
        check.trailing(values.shape, grid.shape, "values", "the grid's shape", where)
    orders, several = check.orders(derivative, ndim, where)
    given, pts = F.dtype(values), tuple(points.shape[:-1])
    lead = tuple(values.shape[: values.ndim - ndim])
    cval = check.number(cval, "cval", where)

    def static(cval: float) -> Any:
        return F.constant(
            _texts, grid, _hashable(kernel), _hashable(boundary), orders, cval, bool(prefilter), where
        )

    flat = _to_channels(F, values, lead, grid.shape, dtype)
    x = F.reshape(F.astype(points, dtype), (1, prod(pts), ndim))
    text, filt, pad = static(cval)
    if given in check.REAL and cval != 0:  # the imaginary part continues by 0, the real part by cval
        out = F.stack(
            [_sample(F, flat[k], x, t) for k, t in enumerate((static(cval), static(0.0)))], 3
        )
        out = F.reshape(out, (*out.shape[:3], 2 * prod(lead)))
    else:
        out = _sample(F, F.reshape(flat, (-1, *grid.shape)), x, (text, filt, pad))
    out = _from_channels(F, out[0], (len(orders), *pts), lead, given)
    if check.is_integer(given):
        out = _to_integer(F, out, given) if derivative is None else out
    else:
        out = F.astype(out, given)
    return out if several else out[0]


def _sample(F: Any, values: Any, points: Any, static: tuple[str, str | None, str | None]) -> Any:
    """(channels, *shape), (1, n, ndim) -> (1, orders, n, channels)."""
    text, filt, pad = static
    if pad:
        values = F.pad(values, pad)
    if filt:
        values = F.prefilter(values, filt)
    return F.sample(values[None], points, text)


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
    ndim = check.points(points.shape, where)
    check.grid(grid, ndim, where)
    orders, several = check.orders(derivative, ndim, where)
    pts = tuple(points.shape[:-1])
    stacked = (len(orders), *pts) if several else pts
    what = "the number of derivatives and the shape of points" if several else "the shape of points"
    check.leading(values.shape, stacked, "values", what, where)
    given, lead = F.dtype(values), tuple(values.shape[len(stacked) :])
    text, _, _ = F.constant(_texts, grid, _hashable(kernel), _hashable(boundary), orders, 0.0, False, where)
    y = F.as_real(values) if given in check.REAL else values
    channels = prod(lead) * (2 if given in check.REAL else 1)
    y = F.reshape(F.astype(y, dtype), (1, len(orders), prod(pts), channels))
    x = F.reshape(F.astype(points, dtype), (1, prod(pts), ndim))
    out = F.splat(y, x, text)[0]
    if given in check.REAL:
        out = F.as_complex(F.moveaxis(F.reshape(out, (*lead, 2, *grid.shape)), len(lead), -1))
    out = F.reshape(out, (*lead, *grid.shape))
    return out if check.is_integer(given) else F.astype(out, given)


def prefilter(
    values: Any,
    *,
    kernel: KernelLike = "cubic",
    boundary: BoundaryLike = "mirror",
    cval: float = 0.0,
    grid: Grid | None = None,
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
        Where the values are; its axes are the last of `values`. Default: ``Grid.pixels`` of all axes.

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
    >>> gf.sample(c, np.arange(4.0)[:, None], prefilter=False).round(12)
    array([0., 1., 0., 2.])
    >>> c, grid = gf.prefilter(data, boundary="nearest")
    >>> c.shape, grid.bounds
    ((28,), ((-12.0, 15.0),))
    """
    where = "gf.prefilter"
    F = dispatch.face(where, values=values)
    values = F.array(values)
    dtype = check.compute_dtype(F.dtype(values), "int64", where)
    grid, lead = _grid_of(values, grid, where)
    kernels = as_kernels(_hashable(kernel), grid.ndim, where)
    boundaries = as_boundaries(_hashable(boundary), grid.ndim, grid.periodic, where)
    pad, filt, coefficient_grid = _prefilter_texts(grid, kernels, boundaries, check.number(cval, "cval", where))
    given = F.dtype(values)
    if given in check.REAL and cval != 0:
        raise ValueError(f"{where}: cval must be 0 for complex values, got {cval!r}; subtract it from the values")
    flat = F.reshape(_to_channels(F, values, lead, grid.shape, dtype), (-1, *grid.shape))
    if pad:
        flat = F.pad(flat, pad)
    if filt:
        flat = F.prefilter(flat, filt)
    out = _grids_from_channels(F, flat, lead, given)
    return (out, coefficient_grid) if any(b in ENLARGED for b in boundaries) else out


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
    values = F.array(values)
    given = F.dtype(values)
    dtype = check.compute_dtype(given, "int64", where)
    widths = check.margins(margins, values.ndim, where)
    ndim = len(widths)
    lead, shape = tuple(values.shape[: values.ndim - ndim]), tuple(values.shape[values.ndim - ndim :])
    left = shape if name == "pad" else tuple(n - sum(w) for n, w in zip(shape, widths, strict=True))
    if any(n < 1 for n in left):
        raise ValueError(f"{where}: values has shape {tuple(values.shape)}, too small for margins {widths}")
    boundaries = as_boundaries(_hashable(boundary), ndim, (False,) * ndim, where)
    cval = check.number(cval, "cval", where)
    if given in check.REAL and cval != 0:
        raise ValueError(f"{where}: cval must be 0 for complex values, got {cval!r}")
    text = F.constant(_margins_text, widths, boundaries, cval)
    flat = F.reshape(_to_channels(F, values, lead, shape, dtype), (-1, *shape))
    return _grids_from_channels(F, getattr(F, name)(flat, text), lead, given)


def _margins_text(widths: Any, boundaries: Any, cval: float) -> str:
    return intern(Margins(widths, boundaries, cval))


# ---- shapes and types, in and out --------------------------------------------------------------------------------------
def _arrays(F: Any, values: Any, points: Any, where: str) -> tuple[Any, Any, str]:
    """Both as arrays of the framework, and the float type to compute in. Python lists take the other's type."""
    bare = not hasattr(points, "dtype")
    values, points = F.array(values), F.array(points)
    if bare and not check.is_integer(F.dtype(values)):
        points = F.astype(points, check.REAL.get(F.dtype(values), F.dtype(values)))
    check.same_device(where, values=F.device(values), points=F.device(points))
    return values, points, check.compute_dtype(F.dtype(values), F.dtype(points), where)


def _grid_of(values: Any, grid: Grid | None, where: str) -> tuple[Grid, tuple[int, ...]]:
    """The grid (of all axes by default) and the axes before it."""
    if grid is None:
        check.not_empty(values.shape, "values", where)
        if values.ndim == 0:
            raise ValueError(f"{where}: values must have at least one axis, got a scalar")
        return _pixels(tuple(values.shape)), ()
    check.grid(grid, getattr(grid, "ndim", 0), where)
    check.trailing(values.shape, grid.shape, "values", "the grid's shape", where)
    return grid, tuple(values.shape[: values.ndim - grid.ndim])


def _to_channels(F: Any, values: Any, lead: tuple[int, ...], shape: tuple[int, ...], dtype: str) -> Any:
    """(*lead, *shape) -> (parts, prod(lead), *shape) in the type to compute in; parts: 2 for complex values, else 1."""
    parts = 1
    if F.dtype(values) in check.REAL:
        values, parts = F.moveaxis(F.as_real(values), -1, 0), 2
    return F.reshape(F.astype(values, dtype), (parts, prod(lead), *shape))


def _from_channels(F: Any, out: Any, before: tuple[int, ...], lead: tuple[int, ...], given: str) -> Any:
    """(orders, n, channels) -> (orders, *pts, *lead)."""
    if given not in check.REAL:
        return F.reshape(out, (*before, *lead))
    return F.as_complex(F.moveaxis(F.reshape(out, (*before, 2, *lead)), len(before), -1))


def _grids_from_channels(F: Any, flat: Any, lead: tuple[int, ...], given: str) -> Any:
    """(parts * prod(lead), *shape) -> (*lead, *shape) of the type that came in; float64 for integers."""
    shape = tuple(flat.shape[1:])
    if given in check.REAL:
        return F.as_complex(F.moveaxis(F.reshape(flat, (2, *lead, *shape)), 0, -1))
    out = F.reshape(flat, (*lead, *shape))
    return out if check.is_integer(given) else F.astype(out, given)


def _to_integer(F: Any, out: Any, dtype: str) -> Any:
    """Rounded and saturated; for masks, whether at least one half."""
    return out >= 0.5 if dtype == "bool" else F.round_to(out, dtype)
