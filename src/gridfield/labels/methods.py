"""Methods of MaskIndex, Nufft and Pairwise with arguments of xarray or dask: as the functions have it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .. import coordinate, lazy
from ..grid import Grid
from ..nufft import nufft1, nufft2
from ..selection import select
from . import RULES
from .binding import Call, _nested, bare, labelled, run

Method = Callable[..., Any]


def method(name: str, f: Method, args: Any, kwargs: dict[str, Any]) -> Any:
    """The method f of args[0]."""
    return METHODS[name](f, *args, **kwargs)


def _needed(where: str, name: str, x: Any) -> None:
    if lazy.is_lazy(bare(x)):
        raise TypeError(f"{where}: {name} is of dask, but is needed by every call: call {name}.compute() first")


# ---- MaskIndex
def _mask_index(f: Method, self: Any, mask: Any, grid: Any = None) -> None:
    """Of a labelled mask the grid of its coordinates; axes whose coordinate decreases are turned round."""
    where = "gf.MaskIndex"
    _needed(where, "mask", mask)
    if not labelled(mask):
        f(self, mask, grid)
        return
    data = np.asarray(bare(mask))
    if hasattr(mask, "coords"):
        try:
            grid = Grid.from_xarray(mask) if grid is None else grid
        except (ValueError, TypeError) as error:
            raise type(error)(str(error).replace("gf.Grid.from_xarray", where)) from None
        if isinstance(grid, Grid) and grid.ndim == data.ndim:
            for a, (d, low, step) in enumerate(zip(mask.dims, grid.origin, grid.spacing, strict=True)):
                if d in mask.coords and coordinate.matches(mask.coords[d].values, low, step, where, str(d)):
                    data = np.flip(data, a)
    f(self, data, grid)


def _select(f: Method, self: Any, points: Any, **options: Any) -> Any:
    return run("select", RULES["select"], select, (points, self), options, True)


# ---- Nufft
def _nufft(f: Method, self: Any, points: Any, shape: Any, **options: Any) -> None:
    """Of labelled points: their dim and its coordinates are those of values."""
    where = "gf.Nufft"
    if not _nested(points, labelled):
        _needed(where, "points", points)
        f(self, points, shape, **options)
        return
    call = Call("nufft1", RULES["nufft1"], nufft1, {"points": points}, None, False)
    call.where = where
    call._points("points", "pts")
    data = call.given["points"]
    _needed(where, "points", data)
    f(self, data, shape, **options)
    self._labels = points


def _of_numpy(self: Any, where: str) -> Any:
    """The points, labelled if they were given so."""
    if not isinstance(self.points, np.ndarray):
        raise TypeError(
            f"{where}: arrays of xarray and dask go with points of NumPy, but these are {type(self.points)}"
        )
    return getattr(self, "_labels", self.points)


def _how(self: Any, sign: int) -> dict[str, Any]:
    return {"eps": self._eps, "sign": sign, "modes_order": self._order, "period": self._period}


def _call(f: Method, self: Any, modes: Any) -> Any:
    points = _of_numpy(self, "gf.Nufft")

    def on(points: Any, modes: Any, *, eps: Any, sign: Any, modes_order: Any, period: Any) -> Any:
        if points.shape == self.points.shape:  # else those of some items
            return f(self, modes)
        return nufft2(points, modes, eps=eps, sign=sign, modes_order=modes_order, period=period)

    return run("nufft2", RULES["nufft2"], on, (points, modes), _how(self, self._sign), False)


def _adjoint(f: Method, self: Any, y: Any) -> Any:
    points = _of_numpy(self, "gf.Nufft.adjoint")

    def on(points: Any, values: Any, shape: Any, *, eps: Any, sign: Any, modes_order: Any, period: Any) -> Any:
        if points.shape == self.points.shape:  # else a chunk of them
            return f(self, values)
        return nufft1(points, values, shape, eps=eps, sign=sign, modes_order=modes_order, period=period)

    return run("nufft1", RULES["nufft1"], on, (points, y, self.shape), _how(self, -self._sign), False)


def _normal(f: Method, self: Any, modes: Any, weights: Any = None) -> Any:
    where = "gf.Nufft.normal"
    _of_numpy(self, where)
    _needed(where, "weights", weights)
    weights, x, nd = bare(weights), bare(modes), len(self.shape)
    out = _named(modes, lambda: _items(lambda b: f(self, b, weights), x, nd, self.shape, where, "modes"))
    return modes.copy(data=out) if labelled(modes) else out


def _items(f: Method, x: Any, axes: int, shape: tuple[int, ...], where: str, argument: str, why: str = "") -> Any:
    return lazy.items(f, x, axes, shape, where, argument, why) if lazy.is_lazy(x) else f(x)


def _named(x: Any, make: Callable[[], Any]) -> Any:
    """What is made; an error that names an axis of x gets the name of its dim."""
    try:
        return make()
    except lazy.InChunks as error:
        if not labelled(x):
            raise
        raise ValueError(error.text([repr(x.dims[a]) for a in error.axes], ".chunk")) from None


def _solve(f: Method, self: Any, values: Any, **options: Any) -> Any:
    """Over items; with coils, the last axis before the points is theirs and goes."""
    where = "gf.Nufft.solve"
    points = _of_numpy(self, where)
    for name in ("weights", "damping", "sense_maps"):
        _needed(where, name, options.get(name))
    coils = options.get("sense_maps") is not None
    template, full = values, values
    if coils and labelled(values):
        dim = options["sense_maps"].dims[0] if labelled(options["sense_maps"]) else values.dims[-2]
        known = getattr(points, "dims", values.dims[-1:])
        along = next((d for d in values.dims if d in known), values.dims[-1])
        full = values.transpose(..., dim, along)
        template = full.isel({dim: 0}, drop=True)
    options = {k: bare(v) for k, v in options.items()}
    data = bare(full) if coils else None
    if data is not None and not lazy.is_lazy(data):
        data = np.asarray(data)
    if data is not None and data.dtype.kind in "fc" and self._dtype == "float64":
        data = data.astype(np.result_type(data.dtype, np.float64))

    def on(points: Any, values: Any, shape: Any, *, modes_order: Any) -> Any:
        return f(self, values if data is None else data, **options)

    def lazily(given: dict[str, Any]) -> Any:
        x = given["values"] if data is None else data
        why = ", as a solution takes all of them"
        return _items(lambda b: f(self, b, **options), x, 1 + coils, self.shape, where, "values", why)

    on.lazily = lazily  # type: ignore[attr-defined]
    if not labelled(template):
        return _named(values, lambda: lazily({"values": template}))
    return run("nufft1", RULES["nufft1"], on, (points, template, self.shape), {"modes_order": self._order}, False)


# ---- Pairwise
def _product(f: Method, self: Any, v: Any) -> Any:
    """Of points of NumPy without labels."""
    from .pairs import LabelledPairwise, Points

    if labelled(v):
        if not hasattr(v, "data") or v.ndim == 0:
            raise TypeError("gf.Pairwise @: v must be a DataArray with the dim of the points")
        return LabelledPairwise(self, Points("points", {}, None), Points(v.dims[0], {}, None)) @ v
    return lazy.beside(self) @ v


METHODS: dict[str, Method] = {
    "MaskIndex.__init__": _mask_index,
    "MaskIndex.select": _select,
    "Nufft.__init__": _nufft,
    "Nufft.__call__": _call,
    "Nufft.adjoint": _adjoint,
    "Nufft.normal": _normal,
    "Nufft.solve": _solve,
    "Pairwise.__matmul__": _product,
}
