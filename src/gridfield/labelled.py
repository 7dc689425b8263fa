"""Fields as labelled arrays of xarray, and back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from . import check
from .extras import needs
from .files import KEY, describe, understand
from .grid import Grid
from .spline import Spline

AXIS = "gridfield_axis"  # attribute of a coordinate: of which axis it is, whatever it is called by now
CHANNEL = "channel"
Words = str | Sequence[str | None] | None


def labels(spline: Spline, dims: Words, units: Words, where: str) -> tuple[tuple[str, str], ...]:
    """(name, unit) of each axis: what is given, else what the field remembers, else x0, x1, ... without units."""
    names, known = zip(*(spline.labels or default(spline.ndim)), strict=True)
    if dims is not None:
        names = _words(dims, spline.ndim, "dims", where)
        if len(set(names)) < len(names) or CHANNEL in names or not all(names):
            raise ValueError(f"{where}: dims must be different names, none of them {CHANNEL!r}, got {dims!r}")
    if units is not None:
        known = _words((units,) * spline.ndim if isinstance(units, str) else units, spline.ndim, "units", where)
    return tuple((str(name), unit or "") for name, unit in zip(names, known, strict=True))


def default(ndim: int) -> tuple[tuple[str, str], ...]:
    """The names of axes that have none."""
    return tuple((f"x{a}", "") for a in range(ndim))


def _words(words: Any, ndim: int, what: str, where: str) -> tuple[Any, ...]:
    words = (words,) if isinstance(words, str) else words
    if not isinstance(words, Sequence) or not all(isinstance(w, str) or (w is None and what == "units") for w in words):
        raise TypeError(f"{where}: {what} must be a sequence of str, one per axis, got {words!r}")
    if len(words) != ndim:
        raise ValueError(f"{where}: {what} has {len(words)} words {tuple(words)} but the field has {ndim} axes")
    return tuple(words)


def to_xarray(field: Any, dims: Words, units: Words, name: str | None) -> Any:
    """The coefficients with their coordinates, and in one attribute all else."""
    where, grid = f"{field._name}.to_xarray", field.grid
    with needs("xarray"):
        import xarray
    named = labels(field.spline, dims, units, where)
    coefficients, dtype = field._read(where)
    if dtype in check.HALF:  # netCDF has no such types
        coefficients = coefficients.astype(np.float32)
    coords = {
        dim: (dim, x, {AXIS: a} | ({"units": unit} if unit else {}))
        for a, ((dim, unit), x) in enumerate(zip(named, grid.axes(), strict=True))
    }
    arguments = {argument: getattr(field, argument) for argument in field._stored}
    attrs = {KEY: describe(field.spline.labelled(()), dtype, arguments)}  # labels are in the coordinates
    dims = [CHANNEL, *(dim for dim, _ in named)]
    return xarray.DataArray(np.array(coefficients), coords, dims, name=name, attrs=attrs)


def from_xarray(cls: Any, array: Any, options: dict[str, Any]) -> Any:
    """The field of a labelled array, whose axes may have been renamed, transposed, reordered or cut."""
    where = f"{cls._name}.from_xarray"
    with needs("xarray"):
        import xarray
    if not isinstance(array, xarray.DataArray):
        raise TypeError(f"{where}: array must be an xarray.DataArray, got {type(array).__name__}")
    if KEY not in array.attrs:
        raise ValueError(
            f"{where}: array has no attribute {KEY!r}, which to_xarray writes, so it holds no coefficients of a field; "
            "for the field through data on a grid use SplineField.interpolate"
        )
    spline, dtype, arguments = understand(array.attrs[KEY], cls, where, f"array.attrs[{KEY!r}]")
    if array.dtype.kind != "f" or array.dtype.itemsize > 8:
        raise TypeError(f"{where}: array has dtype {array.dtype} but must be of floating-point numbers")
    if dtype not in check.HALF or array.dtype != np.float32:
        dtype = array.dtype.newbyteorder("=").name  # the user's own, since
    dims = _axes(array, spline.ndim, where)
    orders, starts = zip(*(_part(spline, a, array.coords[dim], where) for a, dim in enumerate(dims)), strict=True)
    grid = spline.grid
    if tuple(map(len, orders)) != grid.shape:
        origin = [float(x[start]) for x, start in zip(grid.axes(), starts, strict=True)]
        grid = Grid.from_spacing(tuple(map(len, orders)), origin, grid.spacing, periodic=grid.periodic)
    units = (str(array.coords[dim].attrs.get("units", "")) for dim in dims)
    named = tuple(zip(map(str, dims), units, strict=True))
    spline = replace(spline, grid=grid).labelled(() if named == default(spline.ndim) else named)
    channel = [dim for dim in array.dims if dim not in dims]
    values = array.transpose(*channel, *dims).values
    values = (values if channel else values[None])[np.ix_(range(len(values) if channel else 1), *orders)]
    if len(values) == 0:
        raise ValueError(f"{where}: array has no channels (shape {array.shape})")
    values = values.astype(values.dtype.newbyteorder("="))
    return cls._made(spline, values, **(arguments | {"dtype": dtype} | options))


def _axes(array: Any, ndim: int, where: str) -> list[Any]:
    """The dimension of each axis of the field; one other may be there, that of the channels."""
    found = {array.coords[dim].attrs.get(AXIS): dim for dim in array.dims if dim in array.coords}
    missing = [a for a in range(ndim) if a not in found]
    if missing:
        raise ValueError(
            f"{where}: array (dimensions {array.dims}) has no coordinates with the attribute {AXIS!r}, which to_xarray "
            f"writes, for {'axis' if len(missing) == 1 else 'axes'} {', '.join(map(str, missing))} of the field"
        )
    if len(array.dims) > ndim + 1:
        raise ValueError(
            f"{where}: array has dimensions {array.dims} but the field has {ndim} axes: beside them there must be "
            "that of the channels only"
        )
    return [found[a] for a in range(ndim)]


def _part(spline: Spline, a: int, coordinate: Any, where: str) -> tuple[Any, int]:
    """Which of the array's samples along an axis are the control points, in order, and which is the first of those."""
    dim, x, own = coordinate.name, coordinate.values, spline.grid.axes()[a]
    n, spacing = spline.grid.shape[a], spline.grid.spacing[a]
    wanted = f"{n} from {own[0]:g} to {own[-1]:g}"
    if x.dtype.kind not in "iuf":
        raise TypeError(
            f"{where}: array has coordinates of dtype {x.dtype} along {dim!r}, where the field has numbers ({wanted}); "
            "open files with decode_times=False"
        )
    # coordinates may have been stored in single precision
    slack = 1e-6 * spacing + (2 * float(np.finfo(x.dtype).eps) * max(map(abs, own)) if x.dtype.kind == "f" else 0.0)
    x = x.astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        number = np.clip(np.nan_to_num(np.rint((x - own[0]) / spacing)), 0, n - 1).astype(np.int64)
        if not len(x) or not np.all(np.abs(x - own[number]) <= min(slack, 0.25 * spacing)):
            raise ValueError(
                f"{where}: array has coordinates along {dim!r} that are not those of the control points ({wanted}): it "
                "was interpolated, moved or rescaled since to_xarray; use resample, or SplineField.interpolate"
            )
    order = np.argsort(number, kind="stable")
    number = number[order]
    if np.any(np.diff(number) != 1):
        raise ValueError(
            f"{where}: array has not every control point between the first and the last of its own along {dim!r}, once "
            f"({len(x)} of {wanted}); use resample for a coarser field"
        )
    if len(x) < n and spline.boundary[a] == "wrap":
        raise ValueError(
            f"{where}: array has {len(x)} of {n} control points along {dim!r}, but with boundary 'wrap' it must have "
            "the whole period"
        )
    return order, int(number[0])
