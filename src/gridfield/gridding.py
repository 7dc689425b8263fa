"""Scattered points onto a grid: gridded and smoothed in one call, or recognised as the lattice they are."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from . import check, uniform
from .arguments import LENGTH, per_axis
from .grid import Grid
from .ops import recipe
from .sampling import _array, _hashable, _texts
from .selection import Points
from .smoothing import NOTHING, Spaces, stencils

EVEN = 1e-3  # of a spacing: how far from its place a point of a lattice may be
SAME = 64  # roundings of the largest coordinate: closer together than that, coordinates are one


@recipe
def grid_and_smooth(
    points: Any,
    values: Any,
    kernel: Any = "ball",
    radius: Any = None,
    *,
    spacing: Any = None,
    grid: Grid | None = None,
    sigma: Any = None,
    margin: Any = 0,
) -> tuple[Any, Grid]:
    """Scattered values on a regular grid, smoothed: in each cell the mean of the points around it.

    ``y[i] = sum_k w[i - k] sums[k] / sum_k w[i - k] counts[k]``, with the sum of the values and the number of the
    points in each cell, as `Grid.index` has them: every point counts the same, however many share a cell.

    Parameters
    ----------
    points : array, shape (*pts, ndim), or tuple of an array for each axis
        Coordinates. Points with a NaN are left out.
    values : array, shape (*pts, *lead)
        One value, or one per channel, for each point. NaN is left out.
    kernel, radius, sigma
        As for `smooth`; in the units of the points.
    spacing : float or one per axis
        Size of the cells of a grid that holds every point, ``Grid.covering(points, spacing=spacing, margin=margin)``:
        points on a lattice of that spacing are in the middle of their cells, the extremes included.
    grid : Grid
        Instead of a spacing; points outside are left out. Needed where a compiler traces.
    margin : int or one per axis, default 0
        Cells to add round the points.

    Returns
    -------
    array, shape (*lead, *grid.shape)
        Of the framework, type and device of `values`, float64 for integers; NaN where there is no point within reach.
        Differentiable in the values.
    Grid
        Where it is: ``grid.axes()`` and ``grid.coords()`` are the centres of the cells.

    Raises
    ------
    ValueError, TypeError
        If shapes, types, devices or frameworks do not fit together, or not exactly one of spacing and grid is given.

    References
    ----------
    E. A. Nadaraya, "On estimating regression", Theory Probab. Appl. 9 (1964), 141-142.

    Examples
    --------
    >>> import gridfield as gf, numpy as np
    >>> points = np.array([[1, 2, 3], [4, 5, 6], [2.5, 3.5, 4.5], [2.9, 3.9, 4.9], [1.5, 2, 3]])
    >>> values = (points**2).sum(-1)
    >>> smoothed, grid = gf.grid_and_smooth(points, values, spacing=0.5, radius=0.75)
    >>> smoothed.shape, grid.bounds
    ((7, 7, 7), ((1.0, 4.0), (2.0, 5.0), (3.0, 6.0)))
    >>> smoothed[0, 0, 0].round(3)  # between 14 and 15.25
    np.float64(14.608)
    """
    where = "gf.grid_and_smooth"
    given = Points(points, where, "values", values)
    F = given.F
    values = _array(F, values, "values", where)
    if given.numbered:
        raise ValueError(f"{where}: points has shape {given.shape} but must be coordinates (*pts, ndim)")
    grid = _cells(given, spacing, grid, margin, where)
    check.leading(values.shape, given.shape, "values", "the shape of points", where)
    lead = F.shape(values)[len(given.shape) :]
    check.fits(grid.size, where, prod(n for n in lead if isinstance(n, int)))
    kind = F.dtype(values)
    if kind in check.REAL or not check.is_number(kind):
        raise TypeError(f"{where}: values has dtype {kind} but must be real")
    dtype = F.widest(check.compute_dtype(kind, "int64", where))
    asked = kernel, _hashable(radius), _hashable(sigma), grid.spacing, True, where
    spaces = Spaces(F, stencils(*asked), tuple("wrap" if wraps else "grid-constant" for wraps in grid.periodic))
    y = F.reshape(F.astype(values, dtype), (1, 1, -1, prod(lead)))
    x = F.reshape(given.centres(grid, dtype, y), (1, -1, grid.ndim))
    zero, one, nan = (F.constant(np.full((), v), dtype, y) for v in (0.0, 1.0, np.nan))
    there = y == y
    text, _, _ = _texts(grid.shape, "nearest", "constant", ((0,) * grid.ndim,), 0.0, False, where)
    sums, counts = (F.splat(part, x, text)[0] for part in (F.where(there, y, zero), F.where(there, one, zero)))
    weight = spaces.sums(counts)
    nothing = weight <= NOTHING * spaces.size
    out = F.where(nothing, nan, spaces.sums(sums) / F.where(nothing, one, weight))
    out = F.reshape(out, (*lead, *grid.shape))
    return (out if check.is_integer(kind) else F.astype(out, kind)), grid


def _cells(given: Points, spacing: Any, grid: Any, margin: Any, where: str) -> Grid:
    """The grid that was given, or the one that covers the points."""
    if (spacing is None) == (grid is None):
        raise TypeError(f"{where}: give either spacing or grid, not both and not neither")
    if grid is not None:
        check.is_grid(grid, where)
        given.of(grid)
        return grid
    known: list[Any] = [given.F.concrete(x) for x in given.arrays]
    if any(x is None for x in known):
        raise TypeError(f"{where}: where something traces the extent of the points is not known: give grid")
    per_axis(where, "spacing", spacing, given.ndim, LENGTH)
    columns = given.columns(known)
    return Grid.covering(np.stack(columns, -1), spacing=spacing, margin=margin)


@recipe
def to_grid(points: Any, values: Any, *, fill_value: float = np.nan) -> tuple[Any, Grid]:
    """Sort the values of points that are a lattice, in any order, into an array.

    Parameters
    ----------
    points : array, shape (n, ndim), or tuple of an array for each axis
        Coordinates, evenly spaced along each axis to a thousandth of the spacing. Points of the lattice may be missing,
        whole planes of them too; none may come twice.
    values : array, shape (n, *lead)
        One value, or one per channel, for each point.
    fill_value : float, default NaN
        For places of the lattice without a point.

    Returns
    -------
    array, shape (*lead, *grid.shape)
        Of the framework, type and device of `values`; float64 where those are integers and points are missing.
        Differentiable in the values.
    Grid
        Where it is. Along an axis where all points have one coordinate the spacing is 1.

    Raises
    ------
    ValueError
        If an axis is not evenly spaced (it is named), two points are the same, or a coordinate is not finite.
    TypeError
        If types or frameworks do not fit together.

    Examples
    --------
    >>> import gridfield as gf, numpy as np
    >>> points = np.array([[0.2, 5.0], [0.1, 7.0], [0.1, 5.0], [0.2, 7.0], [0.3, 5.0]])  # in any order, one missing
    >>> array, grid = gf.to_grid(points, np.array([3.0, 2.0, 1.0, 4.0, 5.0]))
    >>> array
    array([[ 1.,  2.],
           [ 3.,  4.],
           [ 5., nan]])
    >>> grid.axes()
    [array([0.1, 0.2, 0.3]), array([5., 7.])]
    """
    where = "gf.to_grid"
    given = Points(points, where, "values", values)
    F = given.F
    values = _array(F, values, "values", where)
    if given.numbered or len(given.shape) != 1:
        raise ValueError(f"{where}: points must be (n, ndim), or a tuple of arrays (n,), got {given.shape} points")
    check.leading(values.shape, given.shape, "values", "the shape of points", where)
    fill_value = check.number(fill_value, "fill_value", where)
    known: list[Any] = [F.concrete(x) for x in given.arrays]
    if any(x is None for x in known):
        raise TypeError(f"{where}: the coordinates must be known, but something traces")
    cells, grid = _lattice(given.columns(known), where)
    lead, kind = tuple(values.shape[1:]), F.dtype(values)
    if not check.is_number(kind):
        raise TypeError(f"{where}: values has dtype {kind}, which is not a type of numbers it can use")
    full = len(cells) == grid.size
    if not F.followed(values):
        table = np.asarray(F.numpy(values)).reshape(len(cells), prod(lead))
        out = np.full((grid.size, table.shape[1]), 0 if full else fill_value, table.dtype if full else _wider(table))
        out[cells] = table
        made = F.widest(kind if full or not check.is_integer(kind) else "float64")
        return F.constant(np.ascontiguousarray(out.T).reshape(*lead, *grid.shape), made, values), grid
    # every place gets what its point has: a splat, through which derivatives go
    real = F.as_real(values) if kind in check.REAL else values
    dtype = F.dtype(real)
    at = F.constant(np.stack(np.unravel_index(cells, grid.shape), -1), dtype, values)
    text, _, _ = _texts(grid.shape, "nearest", "constant", ((0,) * grid.ndim,), 0.0, False, where)
    out = F.splat(F.reshape(real, (1, 1, len(cells), -1)), F.reshape(at, (1, len(cells), grid.ndim)), text)[0]
    if not full:
        empty = np.ones(grid.size, bool)
        empty[cells] = False
        nothing = F.constant(np.full((), fill_value), dtype, values)
        out = F.where(F.constant(empty.reshape(1, *grid.shape), "bool", values), nothing, out)
    if kind in check.REAL:
        return F.as_complex(F.moveaxis(F.reshape(out, (*lead, 2, *grid.shape)), len(lead), -1)), grid
    return F.reshape(out, (*lead, *grid.shape)), grid


def _wider(table: np.ndarray) -> Any:
    return np.float64 if table.dtype.kind in "iub" else table.dtype


def _lattice(columns: list[np.ndarray], where: str) -> tuple[np.ndarray, Grid]:
    """The place of each point, in C order, and the grid of all places."""
    if len(columns[0]) == 0:
        raise ValueError(f"{where}: points is empty, so there is no lattice")
    axes = [_axis(x, a, where) for a, x in enumerate(columns)]
    numbers, shape, origin, spacing = zip(*axes, strict=True)
    if prod(map(float, shape)) * 8 > check.memory() / 2:
        raise ValueError(f"{where}: the lattice of {len(columns[0])} points would be {shape}, more than memory holds")
    cells: Any = np.ravel_multi_index(numbers, shape)
    count = (
        np.bincount(cells, minlength=1) if prod(shape) <= 4 * len(cells) else np.unique(cells, return_counts=True)[1]
    )
    if count.max() > 1:
        order = np.argsort(cells, kind="stable")
        i, j = order[np.flatnonzero(np.diff(cells[order]) == 0)[0] :][:2]
        place = tuple(float(x[i]) for x in columns)
        raise ValueError(
            f"{where}: points {i} and {j} are at the same place {place}: an array holds one value there; "
            "gf.grid_and_smooth takes their mean"
        )
    return cells, Grid.from_spacing(shape, origin, spacing)


def _axis(x: np.ndarray, axis: int, where: str) -> tuple[np.ndarray, int, float, float]:
    """The number of each coordinate along an axis, how many places there are, the first, their distance."""
    eps = np.finfo(x.dtype).eps if x.dtype.kind == "f" else 0.0
    x = x.astype(np.float64)
    if not np.isfinite(x).all():
        raise ValueError(f"{where}: points along axis {axis} must be finite, got {x[~np.isfinite(x)][0]}")
    order = np.argsort(x, kind="stable")
    steps = np.diff(x[order])
    apart = steps > SAME * eps * np.abs(x).max()
    if not apart.any():
        return np.zeros(len(x), np.intp), 1, float(x.min()), 1.0
    kind = np.concatenate([[0], np.cumsum(apart)])  # of the sorted coordinates, those that are one
    places = x[order][np.concatenate([[True], apart])]
    gaps = np.diff(places)
    low, high = float(places[0]), float(places[-1])
    spacing = float(gaps.min())
    if (high - low) / spacing < 2**40:
        counted = np.concatenate([[0], np.cumsum(np.rint(gaps / spacing))])
        spacing = uniform.fit_samples(low, high, int(counted[-1]))
        off = np.abs(places - (low + counted * spacing))
        if off.max() <= max(EVEN * spacing, SAME * eps * np.abs(x).max()):
            numbers = np.empty(len(x), np.intp)
            numbers[order] = counted[kind].astype(np.intp)
            return numbers, int(counted[-1]) + 1, low, spacing
    raise ValueError(
        f"{where}: points are not evenly spaced along axis {axis}: of {len(places)} coordinates {low:g} to {high:g} "
        f"neighbours are {gaps.min():g} to {gaps.max():g} apart; gf.grid_and_smooth takes points anywhere"
    )
