"""The data of fits as rows: (fits, points) out of arrays of any shape, with what is left out, and wrong, in each.

Axes of one fit go last, all others are fits. A coordinate is kept as small as it was given: (1 or fits, *shape of one
fit or 1 along each axis).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np

from .. import dispatch
from ..cpu.passes import Column
from ..grid import Grid
from .least_squares import INFINITE, MISSING, RUNNING, SIGMA
from .parameters import numbers
from .whitening import Whitening, is_covariance

Array = np.ndarray[Any, Any]
Shape = tuple[int, ...]

POLICIES = ("omit", "raise", "propagate")
ORDERS = (("z", "y", "x"), ("slice", "row", "column"), ("k", "i", "j"))  # names of axes of a grid, the last first known


def is_labelled(x: Any) -> bool:
    """An object of xarray, which is not imported for that."""
    return type(x).__module__.partition(".")[0] == "xarray"


@dataclass
class Data:
    """What is fitted, and where."""

    framework: str
    y: Array  # (fits, n), NaN where there is nothing to fit
    weight: Array | None  # (fits, n): 1 / sigma
    shape: Shape  # of one fit
    batch: Shape  # of the fits
    axes: tuple[int, ...]  # of one fit, in the data as given
    names: tuple[str, ...] | None  # of the coordinates, where they have some
    coords: list[Array]  # (1 or fits, *shape or 1)
    build: Callable[[list[Any]], Any]  # what a function takes, from arrays of any framework
    status: Array  # (fits,)
    points: Array  # (fits,) that count
    size: Array  # (fits,) sum of squares of what is fitted, weighted
    units: dict[str, str] = field(default_factory=dict)  # of data ("") and coordinates
    dims: tuple[str, ...] = ()  # of the data, where they are labelled
    labels: dict[str, Any] = field(default_factory=dict)  # coordinates of those dims
    kind: str = "array"  # of the coordinates: "grid", "array", "tuple", "named", "stack"
    blank: Array | None = None  # (1 or fits, n): where a coordinate is missing, and so is the model
    left_out: Array = field(default_factory=lambda: np.zeros((0, 0), bool))  # (fits, n)
    layout: Any = None
    beside: Any = None  # an array of the framework, where results go
    whitening: Whitening | None = None  # where sigma is a covariance
    inner: int | None = None  # coordinates of the axes of a fit, the first of all, where they are labelled

    @property
    def fits(self) -> int:
        """How many fits."""
        return len(self.y)

    def place(self, shape: Shape, what: str) -> Array:
        """(fits, n): where in an array of that shape, in C order, the number of each point is."""
        placed = self.layout.place(np.arange(prod(shape)).reshape(shape), what)
        return np.broadcast_to(placed, (self.fits, *self.shape)).reshape(self.fits, prod(self.shape))

    def squares(self, by: Array) -> Array:
        """(fits,) sums of squares of what is fitted, by a factor for each fit."""
        with np.errstate(invalid="ignore", over="ignore"):
            y = np.where(self.left_out, 0.0, self.y if self.weight is None else self.y * self.weight)
            y = y if self.whitening is None else self.whitening(y[0])[None]
            return ((y * by[:, None]) ** 2).sum(1)

    def columns(self, which: Sequence[int]) -> list[Any]:
        """Coordinates as passes over an equation take them."""
        out: list[Any] = []
        n = prod(self.shape)
        for k in which:
            c = self.coords[k]
            long = [a for a, m in enumerate(c.shape[1:]) if m > 1]
            if len(long) <= 1:
                a = long[0] if long else len(self.shape) - 1
                repeat = prod(self.shape[a + 1 :]) if long else n
                out.append(Column(np.ascontiguousarray(c.reshape(len(c), -1)), repeat, n))
            else:
                full = np.broadcast_to(c, (len(c), *self.shape)).reshape(len(c), n)
                out.append(np.ascontiguousarray(full))
        return out


def arrange(coords: Any, y: Any, sigma: Any, where: Any, axis: Any, nan_policy: str, name: str) -> Data:
    """Everything about the data of one call."""
    if nan_policy not in POLICIES:
        raise ValueError(f"{name}: nan_policy must be one of {', '.join(map(repr, POLICIES))}, got {nan_policy!r}")
    dims, labels, units = _labels(y, coords, name)
    framework, values = _values(y, "y", name)
    if values.ndim == 0:
        raise ValueError(f"{name}: y must have an axis of points, got a number")
    axes = _axes(axis, values.ndim, dims, name)
    rest = tuple(a for a in range(values.ndim) if a not in axes)
    order = (*rest, *axes)
    shape, batch = tuple(values.shape[a] for a in axes), tuple(values.shape[a] for a in rest)
    fits, n = prod(batch), prod(shape)
    layout = _Layout(values.shape, order, len(axes), dims, name)
    kind, names, arrays, build = _coordinates(coords, layout, labels, units, name)
    rows = np.ascontiguousarray(values.transpose(order).reshape(fits, n), np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        size = np.einsum("fn,fn->f", rows, rows)  # tells of most rows that all is finite, in a quarter of the time
    odd = np.flatnonzero(~np.isfinite(size))
    left_out = np.zeros(rows.shape, bool)
    left_out[odd] = np.isnan(rows[odd])
    status = np.full(fits, RUNNING, np.int64)
    if nan_policy != "omit" and (left_out.any() or any(np.isnan(c).any() for c in arrays)):
        if nan_policy == "raise":
            raise ValueError(f"{name}: the data or coordinates hold NaN; see nan_policy")
        gone = left_out.any(1)
        for c in arrays:
            gone = gone | np.isnan(c).reshape(len(c), -1).any(1)
        status[gone] = MISSING
    if where is not None:
        chosen = layout.place(_mask(where, name), "where")
        left_out = left_out | ~_rows(chosen, fits, shape)
    blank = None
    for k, c in enumerate(arrays):
        missing = np.isnan(c)
        if missing.any():
            blank = _rows(missing, fits, shape) if blank is None else blank | _rows(missing, fits, shape)
            arrays[k] = np.where(missing, c[~missing][0] if not missing.all() else 0.0, c)
    left_out = left_out if blank is None else left_out | blank
    weight, covariance = None, None
    if sigma is not None:
        given = numbers(getattr(sigma, "data", sigma) if is_labelled(sigma) else _in_unit(sigma, y))
        if is_covariance(given.shape, shape) and given.shape != values.shape:
            if batch:
                raise ValueError(
                    f"{name}: sigma of shape {given.shape}, a covariance of the data, is for a single fit, not for many"
                )
            covariance, variance = given, np.diag(given)
            left_out = left_out | ~np.isfinite(variance)
        else:
            s = _rows(layout.place(given, "sigma", sigma), fits, shape)
            left_out = left_out | np.isnan(s) | np.isinf(s)
            bad = ((s <= 0) & ~left_out).any(1)
            status[bad & (status == RUNNING)] = SIGMA
            with np.errstate(divide="ignore", invalid="ignore"):
                weight = np.where(left_out | ~(s > 0), 0.0, 1 / s)
    gaps = bool(left_out.any()) if len(odd) or not (where is None and blank is None and sigma is None) else False
    if gaps:
        rows = np.where(left_out, np.nan, rows)
    infinite = odd[np.isinf(rows[odd]).any(1)]
    status[infinite[status[infinite] == RUNNING]] = INFINITE
    if gaps or weight is not None:
        with np.errstate(invalid="ignore", over="ignore"):
            scaled = rows if weight is None else rows * weight
            scaled = np.where(left_out, 0.0, scaled) if gaps else scaled
            size = np.einsum("fn,fn->f", scaled, scaled)
    whitening = None
    if covariance is not None and status[0] == RUNNING:
        whitening = Whitening(covariance, ~left_out[0], name)
        size = (whitening(np.where(left_out[0], 0.0, rows[0])) ** 2).sum(keepdims=True)
    points = (~left_out).sum(1) if gaps else np.full(fits, n)
    beside = None
    if framework != "numpy":
        F = dispatch.of(framework)
        beside = F.fixed(F.array(y.data if is_labelled(y) else y))
    return Data(
        framework, rows, weight, shape, batch, axes, names, arrays, build, status, points, size,
        units, dims, labels, kind, blank, left_out, layout, beside, whitening,
        len(axes) if kind == "labelled" else None,
    )  # fmt: skip


def _is_quantity(x: Any) -> bool:
    """A number with a unit, of pint, which is not imported for that."""
    return hasattr(x, "magnitude") and hasattr(x, "units")


def _in_unit(sigma: Any, y: Any) -> Any:
    """Errors in the unit of the data, where both have one."""
    return sigma.to(y.units) if _is_quantity(sigma) and _is_quantity(y) else sigma


def _values(y: Any, what: str, name: str) -> tuple[str, Array]:
    """The framework of an array, and its numbers."""
    if is_labelled(y):
        y = y.data
    if _is_quantity(y):
        y = y.magnitude
    if isinstance(y, np.ma.MaskedArray):
        raise TypeError(f"{name}: {what} is a masked array: give its data, and where=~{what}.mask")
    F = dispatch.face(name, **{what: y})
    try:
        values = F.numpy(F.fixed(F.array(y)))
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"{name}: {what} must be an array of numbers, or convertible to one ({error})") from None
    values = np.asarray(values)
    if values.dtype.kind not in "fiub":
        raise TypeError(f"{name}: {what} must be of real numbers, got {values.dtype}")
    return F.name, values


def _mask(where: Any, name: str) -> Array:
    where = where.values if is_labelled(where) else where
    framework = dispatch.frameworks((type(where),))[0]
    mask = np.asarray(where if framework in ("", "numpy") else dispatch.of(framework).numpy(where))
    if mask.dtype != bool:
        raise TypeError(f"{name}: where must be of True and False, got {mask.dtype}")
    return mask


def _rows(a: Array, fits: int, shape: Shape) -> Array:
    """(1 or fits, *shape or 1) -> (1 or fits, n)."""
    return np.broadcast_to(a, (len(a), *shape)).reshape(len(a), prod(shape))


def _axes(axis: Any, ndim: int, dims: tuple[str, ...], name: str) -> tuple[int, ...]:
    """The axes of one fit."""
    if axis is None:
        return tuple(range(ndim))
    out = []
    for a in axis if isinstance(axis, (tuple, list)) else (axis,):
        if isinstance(a, str):
            if a not in dims:
                raise ValueError(f"{name}: axis {a!r} is none of the dimensions of y {dims}")
            out.append(dims.index(a))
            continue
        try:
            index = a.__index__()
        except AttributeError:
            raise TypeError(f"{name}: axis must be an int, a tuple of them or None, got {axis!r}") from None
        if not -ndim <= index < ndim:
            raise ValueError(f"{name}: axis {index} is out of bounds: y has {ndim} axes")
        out.append(index % ndim)
    if len(set(out)) < len(out) or not out:
        raise ValueError(f"{name}: axis must name different axes, got {axis!r}")
    return tuple(sorted(out))


@dataclass
class _Layout:
    """How arrays beside the data are laid over them."""

    full: Shape
    order: tuple[int, ...]
    inner: int  # axes of one fit
    dims: tuple[str, ...]
    name: str

    @property
    def shape(self) -> Shape:
        """Of one fit."""
        return tuple(self.full[a] for a in self.order[len(self.full) - self.inner :])

    @property
    def batch(self) -> Shape:
        """Of the fits."""
        return tuple(self.full[a] for a in self.order[: len(self.full) - self.inner])

    def place(self, a: Array, what: str, labelled: Any = None) -> Array:
        """(1 or fits, *shape or 1): of an array along the axes of one fit, or of all data."""
        if labelled is not None and is_labelled(labelled) and self.dims:
            unknown = [d for d in labelled.dims if d not in self.dims]
            if unknown:
                raise ValueError(f"{self.name}: {what} has dimension {unknown[0]!r}, y has {self.dims}")
            kept = [d for d in self.dims if d in labelled.dims]
            a = np.asarray(a).transpose([labelled.dims.index(d) for d in kept])
            a = a.reshape([labelled.sizes[d] if d in kept else 1 for d in self.dims])
        ndim, batch, shape = len(self.full), self.batch, self.shape
        if a.ndim <= self.inner and (a.ndim == self.inner or not batch):
            inner = a.reshape((1,) * (self.inner - a.ndim) + a.shape)
            if _fits(inner.shape, shape):
                return inner[None]
        elif a.ndim <= ndim:
            outer = a.reshape((1,) * (ndim - a.ndim) + a.shape)
            if _fits(outer.shape, self.full):
                outer = outer.transpose(self.order)
                many = outer.shape[: len(batch)]
                if all(m == 1 for m in many):
                    return outer.reshape((1, *outer.shape[len(batch) :]))
                rest = outer.shape[len(batch) :]
                return np.ascontiguousarray(np.broadcast_to(outer, (*batch, *rest))).reshape((prod(batch), *rest))
        elif a.ndim == 0:
            return a.reshape((1,) * (1 + self.inner))
        if a.ndim == 0:
            return a.reshape((1,) * (1 + self.inner))
        told = f"{self.full}" if not batch else f"{self.full}, of one fit {shape}"
        raise ValueError(f"{self.name}: {what} has shape {a.shape}, which does not broadcast to that of y, {told}")


def _fits(small: Shape, large: Shape) -> bool:
    return len(small) == len(large) and all(m in (1, n) for m, n in zip(small, large, strict=True))


def _labels(y: Any, coords: Any, name: str) -> tuple[tuple[str, ...], dict[str, Any], dict[str, str]]:
    """Dimensions, their coordinates, units."""
    units: dict[str, str] = {}
    owner = y if is_labelled(y) else coords if is_labelled(coords) else None
    if is_labelled(y) and hasattr(y, "data_vars"):
        raise TypeError(f"{name}: y must be an array, or an xarray.DataArray, got a Dataset")
    if owner is None:
        if _is_quantity(y):
            units[""] = str(y.units)
        return (), {}, units
    if is_labelled(y) and _is_quantity(y.data):
        units[""] = str(y.data.units)
    elif is_labelled(y) and y.attrs.get("units"):
        units[""] = str(y.attrs["units"])
    dims = tuple(map(str, owner.dims)) if is_labelled(y) else tuple(map(str, owner.sizes))
    labels = {str(d): owner.coords[d] for d in owner.coords if set(owner.coords[d].dims) <= set(owner.dims)}
    for d, c in labels.items():
        if c.attrs.get("units"):
            units[d] = str(c.attrs["units"])
    return dims, labels, units


Coordinates = tuple[str, "tuple[str, ...] | None", list[Array], Callable[[list[Any]], Any]]


def _one(arrays: list[Any]) -> Any:
    return arrays[0]


def _is_variable(array: Any) -> bool:
    """Whether a labelled array is a coordinate itself, rather than a field whose coordinates are meant.

    Its dims have none, or it is a line of other numbers than that of its dim.
    """
    if not any(d in array.coords for d in array.dims):
        return True
    return array.ndim == 1 and not np.array_equal(array.values, array.coords[array.dims[0]].values)


def _coordinates(coords: Any, layout: _Layout, labels: dict[str, Any], units: dict[str, str], name: str) -> Coordinates:
    """kind, names, arrays, build."""
    shape = layout.shape
    if coords is None and not labels:
        coords = Grid.pixels(shape)
    given: Any = coords
    if is_labelled(given) and not hasattr(given, "data_vars") and _is_variable(given):
        coords = {str(given.dims[0] if given.name is None else given.name): given}
    if isinstance(coords, Grid):
        if coords.shape not in (shape, layout.full):
            raise ValueError(f"{name}: the grid has shape {coords.shape}, the data of a fit {shape}")
        axes = np.meshgrid(*coords.axes(), indexing="ij", sparse=True)
        if coords.shape != shape:  # of all data: what varies within a fit
            axes = [axes[a] for a in layout.order[len(layout.full) - layout.inner :]]
        arrays = [layout.place(np.asarray(a), "the grid") for a in axes]
        return "grid", None, arrays, _one if len(arrays) == 1 else tuple
    if coords is None or (is_labelled(coords) and not hasattr(coords, "data_vars")):
        found: Any = labels if coords is None else {str(d): coords.coords[d] for d in coords.coords}
        # those along the axes of a fit, which a function takes; an equation may use the others, too
        inner = (
            [layout.dims[a] for a in layout.order[len(layout.full) - layout.inner :]] if layout.dims else list(found)
        )
        arrays = []
        for d in inner:
            along = found[d] if d in found else np.arange(layout.full[layout.dims.index(d)])
            if d not in found:
                along = along.reshape([-1 if e == d else 1 for e in layout.dims])
            arrays.append(layout.place(_number(along, d, name), d, along))
        more = [d for d in found if d not in inner and getattr(found[d].dtype, "kind", "O") in "fiu"]
        arrays += [
            layout.place(_number(found[d], d, name), d, found[d])
            for d in more
            if set(found[d].dims) <= set(layout.dims)
        ]
        more = [d for d in more if set(found[d].dims) <= set(layout.dims)]
        first = len(inner)
        return "labelled", (*inner, *more), arrays, _one if first == 1 else lambda arrays: tuple(arrays[:first])
    if is_labelled(coords) or isinstance(coords, Mapping):
        found = dict(coords)
        found |= {d: coords.coords[d] for d in coords.coords} if is_labelled(coords) else {}  # type: ignore[union-attr]
        if not found:
            raise ValueError(f"{name}: coords is empty")
        for d, c in found.items():
            if is_labelled(c) and c.attrs.get("units"):
                units[str(d)] = str(c.attrs["units"])
            elif _is_quantity(c):
                units[str(d)] = str(c.units)
        names = tuple(map(str, found))
        arrays = [layout.place(_number(c, f"coords[{d!r}]", name), f"coords[{d!r}]", c) for d, c in found.items()]
        return "named", names, arrays, lambda arrays: dict(zip(names, arrays, strict=True))
    if isinstance(coords, (tuple, list)) and any(np.ndim(c) > 0 or is_labelled(c) for c in coords if not _numeric(c)):
        arrays = [layout.place(_number(c, f"coords[{k}]", name), f"coords[{k}]", c) for k, c in enumerate(coords)]
        units |= {f"#{k}": str(c.units) for k, c in enumerate(coords) if _is_quantity(c)}
        return "tuple", None, arrays, tuple
    array = _number(coords, "coords", name)
    if _is_quantity(coords):
        units["#0"] = str(given.units)
    if array.ndim == len(shape) + 1 and array.ndim != len(layout.full) and _fits(array.shape[1:], shape):
        arrays = [layout.place(c, "coords") for c in array]
        return "stack", None, arrays, _stack
    if array.ndim == len(layout.full) + 1 and _fits(array.shape[1:], layout.full):
        arrays = [layout.place(c, "coords") for c in array]
        return "stack", None, arrays, _stack
    return "array", None, [layout.place(array, "coords")], _one


def _numeric(c: Any) -> bool:
    return isinstance(c, (int, float, np.number))


def _stack(arrays: list[Any]) -> Any:
    """One array, its first axis the coordinates."""
    F = dispatch.of(dispatch.frameworks((type(arrays[0]),))[0] or "numpy")
    if F.name == "numpy":
        return np.stack(np.broadcast_arrays(*arrays))
    return F.stack(list(arrays), 0)


def _number(c: Any, what: str, name: str) -> Array:
    """Coordinates as float64."""
    values = c.values if is_labelled(c) else c
    if getattr(values, "dtype", None) is not None and getattr(values.dtype, "kind", "f") in "Mm":
        raise TypeError(f"{name}: {what} are dates: give numbers, such as seconds since the first")
    try:
        if getattr(getattr(values, "dtype", None), "kind", "f") == "c":
            raise TypeError("complex numbers")
        return numbers(values)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name}: {what} must be an array of numbers ({error})") from None
