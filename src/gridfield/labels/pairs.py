"""pairwise of labelled points: the matrix with the dims and coordinates of both sets, which its results have."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from .. import check
from ..pairwise import Pairwise
from .binding import Call, _compute, _nested, _signature, bare, labelled
from .binding import run as of_bare
from .results import _multi

UNITLESS = ("inverse_multiquadric", "cauchy", "gaussian", "exponential", "matern32", "matern52")
DISTANCES = {"distance": "{}", "squared": "({})^2"}  # units of these functions


class Points(NamedTuple):
    """The dim of a set of points, its coordinates, and the units of where they are."""

    dim: Any
    coords: dict[Any, Any]
    units: str | None


class LabelledPairwise(Pairwise):
    """The matrix of labelled points: its methods give DataArrays."""

    def __init__(self, matrix: Pairwise, rows: Points, columns: Points) -> None:
        self._matrix, self._rows, self._columns = matrix, rows, columns

    def __repr__(self) -> str:
        return repr(self._matrix)[:-1] + f", {self._rows.dim} by {self._columns.dim}>"

    @property
    def shape(self) -> tuple[int, int]:
        """(m, n)."""
        return self._matrix.shape

    @property
    def T(self) -> LabelledPairwise:
        """The transpose."""
        return LabelledPairwise(self._matrix.T, self._columns, self._rows)

    def map(self, function: Any, *, length: Any = None) -> LabelledPairwise:
        """Another function of the same distances."""
        rows, columns = (p if length is None else p._replace(units=None) for p in (self._rows, self._columns))
        return LabelledPairwise(self._matrix.map(function, length=length), rows, columns)

    def __mul__(self, factor: Any) -> LabelledPairwise:
        return LabelledPairwise(self._matrix * factor, self._rows, self._columns)

    __rmul__ = __mul__

    def __truediv__(self, divisor: Any) -> LabelledPairwise:
        return self * (1 / check.number(divisor, "divisor", "gf.Pairwise"))

    # ---- what is computed
    def _array(self, data: Any, rows: Points, more: Any = (), coords: Any = None, attrs: Any = None) -> Any:
        made = rows.coords | (coords or {})
        return sys.modules["xarray"].DataArray(data, made, (rows.dim, *more), name="pairwise", attrs=attrs)

    def _units(self) -> dict[str, str]:
        """Of what the function gives, where that is a distance whose units are known."""
        units, function = self._rows.units, self._matrix._function
        if units is None or units != self._columns.units or not isinstance(function, str):
            return {}
        if function not in DISTANCES:
            return {}
        return {"units": DISTANCES[function].format(units)}

    def _along(self, axis: Any, name: str) -> Any:
        """The points that are left."""
        super()._along(axis, name)
        return self._rows if axis in (1, -1) else self._columns

    def sum(self, axis: int) -> Any:
        """Sums of the rows (axis 1), or of the columns (axis 0)."""
        return self._array(self._matrix.sum(axis), self._along(axis, "sum"), attrs=self._units())

    def logsumexp(self, axis: int) -> Any:
        """log of the sums of exp of the rows (axis 1) or the columns (axis 0)."""
        return self._array(self._matrix.logsumexp(axis), self._along(axis, "logsumexp"))

    def argmin(self, axis: int) -> Any:
        """Where the least of each row is (axis 1), or of each column (axis 0)."""
        return self._array(self._matrix.argmin(axis), self._along(axis, "argmin"))

    def min(self, axis: int) -> Any:
        """The least of each row (axis 1), or of each column (axis 0)."""
        return self._array(self._matrix.min(axis), self._along(axis, "min"), attrs=self._units())

    def kneighbors(self, k: int) -> tuple[Any, Any]:
        """The k nearest points of the second set to each of the first: values and numbers, along "neighbor"."""
        values, numbers = self._matrix.kneighbors(k)
        more = ["neighbor"]
        return self._array(values, self._rows, more, attrs=self._units()), self._array(numbers, self._rows, more)

    def __matmul__(self, v: Any) -> Any:
        """The product with v, along the dim of the second points, and another."""
        where, dim = "gf.Pairwise @", self._columns.dim
        if not labelled(v):
            out = self._matrix @ v
            return self._array(out, self._rows, [f"dim_{i}" for i in range(out.ndim - 1)])
        v = sys.modules["xarray"].DataArray(v) if not hasattr(v, "coords") else v
        if not hasattr(v, "data"):
            raise TypeError(f"{where}: v is a Dataset: choose one of its variables, or use Dataset.map")
        if dim not in v.dims:
            raise ValueError(f"{where}: v has dims {tuple(v.dims)}, but not {dim!r}, that of the points")
        own, theirs = self._columns.coords.get(dim), v.coords.get(dim)
        if own is not None and theirs is not None and not own.equals(theirs.variable):
            raise ValueError(f"{where}: v and the points have different coordinates along {dim!r}; align them first")
        v = v.transpose(dim, ...)
        if self._rows.dim in v.dims[1:]:
            raise ValueError(
                f"{where}: both v and the first points have the dim {self._rows.dim!r}: rename one of them"
            )
        coords = {k: c.variable for k, c in v.coords.items() if dim not in c.dims and k not in self._rows.coords}
        attrs = dict(v.attrs)
        if self._matrix._function not in UNITLESS:
            attrs.pop("units", None)
        return self._array(self._matrix @ v.data, self._rows, v.dims[1:], coords, attrs)


def run(rule: Any, f: Callable[..., Any], args: Any, kwargs: dict[str, Any]) -> Any:
    """pairwise of points in whatever form, of which some are labelled or lazy."""
    where, named = "gf.pairwise", dict(kwargs)
    if not any(_nested(v, labelled) for v in (*args, *kwargs.values())):
        return of_bare("pairwise", rule, f, args, kwargs, False)
    if named.pop("dim", None) is not None:
        raise TypeError(f"{where}: it takes no dim: coordinates are along the last one of points")
    try:
        given = dict(_signature(f).bind(*args, **named).arguments)
    except TypeError as error:
        raise TypeError(f"{where}: {error}") from None
    sets = {}
    for key in ("x", "y"):
        if given.get(key) is not None:
            call = Call("pairwise", rule, f, {}, None, False)
            call.given = {"x": given[key]}  # a Dataset, too
            call._points("x", "pts")
            sets[key] = call.given["x"], _labels(call, given[key])
    x, rows = sets["x"]
    y, columns = sets.get("y", (None, rows))
    rest = {k: bare(v) for k, v in given.items() if k not in ("x", "y")}
    matrix = _compute("pairwise", f, {"x": x, "y": y} | rest, {})
    weighted = any(rest.get(k) is not None for k in ("cov", "precision"))
    if weighted or np.ndim(rest.get("length", 1.0)) or rest.get("length", 1.0) != 1:
        rows, columns = rows._replace(units=None), columns._replace(units=None)
    return LabelledPairwise(matrix, rows, columns)


def _labels(call: Any, given: Any) -> Points:
    dims = call.dims["pts"]
    dim = dims[0] if len(dims) == 1 else "points"
    coords = {}
    for arrays, _ in call.coords:
        coords |= {
            k: c.variable for k, c in arrays.items() if set(c.dims) == {dim} and k not in coords and not _multi(c)
        }
    items = list(given.values()) if isinstance(given, Mapping) and not hasattr(given, "dtype") else given
    items = items if isinstance(items, (list, tuple)) else [given]
    units = {getattr(i, "attrs", {}).get("units") for i in items}
    return Points(dim, coords, units.pop() if len(units) == 1 else None)
