"""Labels on what a function returns: dims, coordinates, attributes and units."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from .. import coordinate
from ..grid import Grid


def labels(call: Any, out: Any) -> Any:
    """The result of a call, labelled; what comes beside it (edges, a Grid, information) after it."""
    several = isinstance(out, tuple) and not hasattr(out, "_fields")
    first: Any = out[0] if several else out
    more = list(out[1:]) if several else []
    main = call.main
    if call.cast is not None:
        first = first.astype(np.result_type(call.cast, np.complex64) if first.dtype.kind == "c" else call.cast)
    enlarged = next((g for g in more if isinstance(g, Grid)), None)
    if call.rule.same and main is not None and enlarged is None and first.shape == _shape(call):
        array = call.xr.DataArray(first, dims=call.arranged[call.rule.of])
        array = array.isel({d: slice(None, None, -1) for d in call.falls}).transpose(*main.dims)
        array = main.copy(data=array.data)
    else:
        array = _made(call, first, enlarged)
    array.attrs = _attributes(call, main)
    if call.name in ("histogram", "histogramdd"):
        more[0] = _edges(call, more[0], array)
    return (array, *more) if several else array


def _shape(call: Any) -> tuple[int, ...]:
    sizes = call.main.sizes
    return tuple(sizes[d] for d in call.arranged[call.rule.of])


def _attributes(call: Any, main: Any) -> dict[str, Any]:
    attrs = {} if main is None else dict(main.attrs)
    if call.name == "cdist" and len(call.lengths) == 1 and None not in call.lengths:
        (units,), weighted = call.lengths, any(call.given.get(k) is not None for k in ("cov", "precision"))
        return {} if weighted else {"units": f"({units})^2" if call.given.get("squared") else units}
    if "units" in attrs:
        given = call.given.get("derivative")
        units = call.rule.units(attrs["units"], call.given) if given is None else _derived(call, attrs["units"], given)
        if call.given.get("density"):
            units = f"1/({attrs['units']})"
        attrs.pop("units")
        if units is not None:
            attrs["units"] = units
    return attrs


def _derived(call: Any, units: str, derivative: Any) -> str | None:
    """Units of a derivative; None where they are not known, or not one."""
    orders = np.asarray(derivative)
    if not orders.any():
        return units
    if orders.ndim != 1:
        return None
    for d, order in zip(call.dims["grid"], orders.tolist(), strict=True):
        per = call.main.coords[d].attrs.get("units") if d in call.main.coords else None
        if order and per is None:
            return None
        units = f"({units})/({per})" + (f"^{order}" if order > 1 else "") if order else units
    return units


def _dims(call: Any, first: Any) -> list[Any]:
    """The dims of the result, by the words of the rule."""
    dims, given, name = call.dims, call.given, call.main.name if call.main is not None else None
    if given.get("indices"):
        return ["selected"]
    words: dict[str, Any] = {
        "statistic": ["statistic"] if isinstance(given.get("statistic"), (list, tuple)) else [],
        "bin": [f"{name or 'a'}_bin"],
        "bins": [f"{d}_bin" for d in dims["grid"]],
        "lag": ["lag"] if np.ndim(given.get("lag", 0)) or isinstance(given.get("lag"), range) else [],
    }
    if "at" in call.rule.result.split() and "at" not in dims:
        dims["at"] = _at(call)
    if "modes" in call.rule.result.split():
        p = given["points"]
        words["modes"] = [f"{n}_mode" for n in call.names or [f"x{i}" for i in range(p.shape[-1])]]
    if "rest" in call.rule.result.split():
        axis = given.get("axis", -1 if call.name == "corr" else None)
        n = 0 if call.main is None else call.main.ndim
        gone = set(range(n)) if axis is None else {int(a) % max(n, 1) for a in np.atleast_1d(axis)}
        words["rest"] = [] if call.main is None else [d for i, d in enumerate(call.main.dims) if i not in gone]
    if call.rule.result == "pairs":  # a dim may be there once only
        own: Any = call.main
        axis = int(given.get("axis", -1)) % own.ndim
        one = [d for i, d in enumerate(own.dims) if i != axis]
        return one + [f"{d}_2" for d in one]
    out = [d for w in call.rule.result.split() for d in words.get(w, dims.get(w, []))]
    missing = first.ndim - len(out)
    if missing > 0:  # of bare values
        at = next((i for i, w in enumerate(call.rule.result.split()) if w in ("*", "rest", "grid")), 0)
        before = sum(len(words.get(w, dims.get(w, []))) for w in call.rule.result.split()[:at])
        out[before:before] = [f"dim_{i}" for i in range(missing)]
    return out


def _given_at(call: Any) -> Any:
    return next((call.given.get(k) for k, w in call.rule.arrays.items() if w == "at axis"), None)


def _at(call: Any) -> list[Any]:
    at = _given_at(call)
    if at is None and call.name == "cdist":  # the points themselves, once more
        (dim,) = call.dims["pts"]
        for coords, _ in call.coords:
            if dim in coords and not _multi(coords[dim]):
                call.fresh[f"{dim}_2"] = ((f"{dim}_2",), coords[dim].values, {})
        return [f"{dim}_2"]
    if at is None:
        return call.dims["pts"]
    if isinstance(at, Grid):
        call.fresh |= {f"x{i}": ((f"x{i}",), x, {}) for i, x in enumerate(at.axes())}
        return [f"x{i}" for i in range(at.ndim)]
    n = 1 if call.name == "nufft3" else np.ndim(at) - 1  # axes of a batch are those of the values
    return ["at"] if n == 1 else [f"at_{i}" for i in range(n)]


def _made(call: Any, first: Any, enlarged: Any) -> Any:
    """A new array: its dims, and every coordinate that still is one."""
    xr, result = call.xr, call.rule.result.split()
    dims = _dims(call, first)
    sizes = coordinate.sizes(dims, first.shape)
    gone = {d for w in ("grid", "pts", "modes") if w not in result for d in call.dims.get(w, [])}
    if ("grid" in result and not call.rule.same) or enlarged is not None:
        gone |= set(call.dims["grid"])
    if "at" in result and _given_at(call) is None:
        gone -= set(call.dims["pts"])
    fresh = dict(call.fresh)
    fresh |= _places(call, first, sizes, enlarged)
    kept: dict[Any, Any] = {}
    for coords, of_points in call.coords:
        lost = set() if of_points and "pts" in result else gone
        for k, v in coords.items():
            fits = all(d in sizes and sizes[d] == n for d, n in v.sizes.items())
            fits &= k not in sizes or v.dims == (k,)  # the place of one series is none along a dim of the result
            if fits and k not in fresh and not set(v.dims) & lost and k not in kept:
                kept[k] = v.variable
    coords = kept | {k: v for k, v in fresh.items() if all(d in sizes for d in v[0])}
    coords = {k: v for k, v in coords.items() if not _multi(v)}
    name = call.main.name if call.main is not None else call.name
    # xarray has the name of an array of dask from its graph where that is None
    return xr.DataArray(first, coords=coords, dims=dims).rename(name)


def _multi(v: Any) -> bool:
    """Whether it is, or belongs to, an index of several levels, which is not taken apart."""
    index = getattr(v, "to_index", None)
    if getattr(v, "chunks", None) is not None:  # of dask it is no index, and to ask would compute it
        return False
    try:
        return index is not None and v.ndim == 1 and index().nlevels > 1
    except ValueError:
        return False


def _places(call: Any, first: Any, sizes: dict[Any, int], enlarged: Any) -> dict[Any, Any]:
    """New coordinates: of cells, margins, bins, modes, statistics, lags."""
    given, axes = call.given, call.dims["grid"]
    out: dict[Any, Any] = {}
    attrs = dict(zip(axes, call.units, strict=False))
    result = call.rule.result.split()
    if "statistic" in sizes:
        out["statistic"] = (("statistic",), [str(s) for s in given["statistic"]], {})
    if "lag" in sizes:
        out["lag"] = (("lag",), np.asarray(list(given["lag"])), {})
    if result == ["pairs"]:
        twice = [d for d in sizes if str(d).endswith("_2") and str(d)[:-2] in call.main.coords]
        return out | {d: ((d,), call.main.coords[d[:-2]].values, {}) for d in twice}
    if "modes" in result:
        for d in [d for d in sizes if str(d).endswith("_mode")]:
            k = np.arange(sizes[d]) - sizes[d] // 2
            k = np.fft.ifftshift(k) if given.get("modes_order") == "fft" else k
            out[d] = ((d,), k, {})
    if "grid" not in result or (call.rule.same and enlarged is None):
        return out
    if call.name in ("pad", "fold"):
        for d, (before, after) in zip(axes, given["margins"], strict=True):
            sign = 1 if call.name == "pad" else -1
            if d in call.main.coords:
                x = _continued(call.main.coords[d], sign * before, sign * after)
                out |= {} if x is None else {d: ((d,), x, dict(call.main.coords[d].attrs))}
        return out
    grid = enlarged if enlarged is not None else given.get("grid")
    places = _centres(given, grid)
    for d, x in zip(axes, places, strict=False):
        known = call.main.coords[d].attrs if call.main is not None and d in call.main.coords else {}
        if d in sizes and len(x) == sizes[d]:
            out[d] = ((d,), x, attrs.get(d) or dict(known))
    return out


def _centres(given: dict[str, Any], grid: Any) -> list[Any]:
    if isinstance(grid, Grid):
        return grid.axes()
    if grid is None:
        return []
    if given.get("bounds") is not None:
        counts = (grid,) if np.ndim(grid) == 0 else tuple(grid)
        bounds = np.asarray(given["bounds"], float)
        if bounds.ndim == 2 and len(counts) == 1:
            counts = counts * len(bounds)
        return Grid.cells(counts, given["bounds"]).axes()
    edges = [np.asarray(e, float) for e in grid] if np.ndim(grid[0]) else []
    return [(e[1:] + e[:-1]) / 2 for e in edges]


def _continued(x: Any, before: int, after: int) -> Any:
    """A coordinate with margins, where it is numbers and evenly spaced, or cut."""
    n = x.sizes[x.dims[0]] if x.ndim == 1 else 0
    if before <= 0 and after <= 0:
        return x.values[-before : n + after]
    if n < 2 or x.dtype.kind not in "iufM":
        return None
    try:
        coordinate.even(x.values, "", "")
    except (ValueError, TypeError):
        return None
    v = x.values
    step = (v[-1] - v[0]) / (n - 1)
    left, right = [v[0] - step * i for i in range(before, 0, -1)], [v[-1] + step * i for i in range(1, after + 1)]
    return np.concatenate(
        [np.asarray(p, v.dtype if v.dtype.kind == "M" else float) for p in (left, v, right) if len(p)]
    )


def _edges(call: Any, edges: Any, hist: Any) -> Any:
    """Edges of bins, labelled, and on the histogram the middle of each bin."""
    xr = call.xr

    def one(e: Any, name: Any, attrs: Any) -> Any:
        dim = f"{name}_bin"
        e = np.asarray(e)
        hist.coords[dim] = ((dim,), (e[1:] + e[:-1]) / 2, attrs)
        return xr.DataArray(e, dims=[f"{name}_edge"], name=f"{name}_edge", attrs=attrs)

    hist.name = "histogram"
    if call.name == "histogram":
        attrs = {} if call.main is None else dict(call.main.attrs)
        return one(edges, (call.main.name if call.main is not None else None) or "a", attrs)
    attrs = call.units or [{} for _ in edges]
    return [one(e, n, a) for e, n, a in zip(edges, call.dims["grid"], attrs, strict=True)]


# ---- deformation
def deform(call: Any, compute: Any, bare: Any) -> Any:
    """Images with their dims where they are; coordinates cut as the crop is."""
    given, dim = dict(call.given), call.dim
    images: Any = call.given["images"]
    several = isinstance(images, (list, tuple, Mapping)) and not hasattr(images, "dims")
    items: list[Any] = list(images.values() if isinstance(images, Mapping) else images) if several else [images]
    named = [x for x in items if hasattr(x, "dims")]
    for key in ("crop", "zoom", "spacing"):
        value = given.get(key)
        if isinstance(value, Mapping):
            if dim is None:
                dim = list(value)
            if unknown := [d for d in value if d not in dim]:
                raise ValueError(f"{call.where}: {key} has {unknown[0]!r}, but dim is {tuple(dim)}")
            default = slice(None) if key == "crop" else 1.0
            given[key] = tuple(value.get(d, default) for d in dim)
    if dim is not None:
        if "axis" in given or len(named) < len(items):
            raise TypeError(f"{call.where}: give either dim or axis, and dim with labelled images")
        for x in named:
            for d in dim:
                if d not in x.dims:
                    raise ValueError(f"{call.where}: an image has dims {tuple(x.dims)}, but not {d!r}")
        axis = [tuple(x.dims.index(d) for d in dim) for x in named]
        given["axis"] = dict(zip(images, axis, strict=True)) if isinstance(images, Mapping) else (
            axis if several else axis[0]
        )  # fmt: skip
    names = {"images": tuple(items[0].dims)} if named and hasattr(items[0], "dims") else {}
    out = compute("deform", call.f, {k: bare(v) for k, v in given.items()}, names)
    results = list(out.values() if isinstance(out, Mapping) else out) if several else [out]
    axes = given.get("axis")
    axes = list(axes.values()) if isinstance(axes, Mapping) else axes
    done = [
        _image(call, x, y, given.get("crop"), axes[i] if several and isinstance(axes, list) else axes)
        for i, (x, y) in enumerate(zip(items, results, strict=True))
    ]
    if not several:
        return done[0]
    return dict(zip(images, done, strict=True)) if isinstance(images, Mapping) else type(images)(done)


def _image(call: Any, x: Any, y: Any, crop: Any, axis: Any) -> Any:
    if not hasattr(x, "dims"):
        return y
    if crop is not None:
        n = len(crop)
        axes = range(x.ndim - n, x.ndim) if axis is None else np.atleast_1d(axis)
        x = x.isel({x.dims[int(a)]: c for a, c in zip(axes, crop, strict=True)})
    return x.copy(data=y)


def displacement(call: Any, compute: Any, bare: Any) -> Any:
    """Fields of displacements: a dim of components, and those of the image, whose coordinates are others."""
    given, u = dict(call.given), call.main
    n = np.size(given["shape"])
    names = {} if u is None else {"displacement": tuple(u.dims)}
    out = compute(call.name, call.f, {k: bare(v) for k, v in given.items()}, names)
    if u is None:
        return out
    first, more = (out[0], list(out[1:])) if isinstance(out, tuple) else (out, [])
    dims = list(u.dims)
    control, lead = dims[u.ndim - n :], dims[: u.ndim - n]
    lead = lead[:-1] if call.name == "jacobian_determinant" else lead
    dims = lead + control
    coords = {k: v for k, v in u.coords.items() if set(v.dims) <= set(lead)}
    array = call.xr.DataArray(first, dims=dims, coords=coords, attrs=_attributes(call, u)).rename(u.name)
    return (array, *more) if isinstance(out, tuple) else array
