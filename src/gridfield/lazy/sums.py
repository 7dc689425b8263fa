"""What adds up over blocks: histograms, statistics of cells, sums of kernels and waves; and what goes point by point.

A block gives a partial result, which a tree of sums (or, for statistics, of `merge`) puts together.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from .. import check
from ..arguments import SIZE, per_axis
from ..binning import _cells, _statistics
from ..grid import Grid
from .blocks import InChunks, array, dask, each, floating, is_lazy, known, whole, words

Given = dict[str, Any]
NEEDS = {"count": ("count",), "sum": ("sum",), "mean": ("count", "mean"), "var": ("count", "mean", "var"),
         "std": ("count", "mean", "var"), "min": ("count", "min"), "max": ("count", "max"),
         "first": ("count", "first"), "last": ("count", "last")}  # fmt: skip
FILL = {"min": math.inf, "max": -math.inf}


def _others(given: Given, *names: str) -> Given:
    return {k: v for k, v in given.items() if k not in names}


# ---- histograms
def histogram(f: Callable[..., Any], given: Given) -> Any:
    """Partial histograms, and their sum."""
    where, a = "gf.histogram", array(given["a"])
    bins, extent, axis = given.get("bins", 10), given.get("range"), given.get("axis")
    mask, weights = (None if given.get(k) is None else array(given[k]) for k in ("where", "weights"))
    _bounded(where, bins, extent)
    for name, x in (("where", mask), ("weights", weights)):
        if x is not None and x.shape != a.shape:
            raise ValueError(f"{where}: {name} has shape {x.shape} but must have that of a, {a.shape}")
    edges = f(np.empty(0, a.dtype), bins, extent)[1]  # none of them are numbers of a: the range is given
    check.flag(given.get("density", False), "density", where)
    index, nd = words("a", a.ndim), a.ndim
    along = tuple(range(nd)) if axis is None else tuple(sorted(int(i) % nd for i in np.atleast_1d(axis)))

    def part(block: Any, mask: Any, weights: Any) -> Any:
        weights = weights if weights is None or weights.dtype.kind == "c" else weights.astype(np.float64)
        hist = f(block, bins, extent, where=mask, weights=weights, axis=axis)[0]
        return np.expand_dims(hist, along)

    kind = np.dtype(np.int64) if weights is None else np.dtype(weights.dtype)
    summed = kind if weights is None or kind.kind == "c" else np.dtype(np.float64)
    parts = each(part, (*index, "bin"), a, index, mask, index, weights, index, dtype=summed,
                 new={"bin": len(edges) - 1}, ones=[index[i] for i in along], name="histogram")  # fmt: skip
    hist = parts.sum(axis=along, dtype=summed)
    hist = hist > 0 if kind.kind == "b" else hist.astype(kind)
    if given.get("density"):
        hist = hist / np.diff(edges).astype(float) / hist.sum(-1, keepdims=True)
    return hist, edges


def _bounded(where: str, bins: Any, extent: Any) -> None:
    if isinstance(bins, str):
        raise ValueError(f"{where}: bins={bins!r} needs all numbers, and would compute a dask array early: give edges")
    if np.ndim(bins) == 0 and extent is None:
        raise ValueError(
            f"{where}: range is needed with a dask array, whose smallest and largest number would be computed early: "
            "give range=(lo, hi), or edges as bins"
        )


def histogramdd(f: Callable[..., Any], given: Given) -> Any:
    """The same for points."""
    where, points = "gf.histogramdd", given["points"]
    columns, index = _coordinates(points, where)
    nd = len(columns) if isinstance(points, (tuple, list)) else columns[0].shape[-1]
    bins, extent = given.get("bins", 10), given.get("range")
    each_axis = bins if isinstance(bins, (list, tuple, np.ndarray)) else nd * [bins]
    for b, ends in zip(each_axis, nd * [None] if extent is None else extent, strict=False):
        _bounded(where, b, ends)
    mask, weights = (None if given.get(k) is None else array(given[k]) for k in ("where", "weights"))
    kind = np.result_type(*[c.dtype for c in columns])
    edges = f(np.empty((0, nd), kind), bins, extent)[1]
    shape = words("bin", nd)

    def part(mask: Any, weights: Any, *columns: Any) -> Any:
        given = columns if isinstance(points, (tuple, list)) else columns[0]
        return f(given, bins, extent, where=mask, weights=weights)[0][None]

    pairs = [p for c in columns for p in (c, index)]
    parts = each(part, ("pts0", *shape), mask, ("pts0",), weights, ("pts0",), *pairs, dtype=np.float64,
                 new={w: len(e) - 1 for w, e in zip(shape, edges, strict=True)}, ones=["pts0"],
                 name="histogramdd")  # fmt: skip
    hist = parts.sum(axis=0)
    if given.get("density"):
        total = hist.sum()
        for i, e in enumerate(edges):
            hist = hist / np.diff(e).reshape([-1 if i == j else 1 for j in range(nd)])
        hist = hist / total
    return hist, edges


def _coordinates(points: Any, where: str, name: str = "points") -> tuple[list[Any], tuple[Any, ...]]:
    """Arrays of coordinates, and the words of their axes; the last, of one array, in one chunk."""
    if isinstance(points, (tuple, list)) and any(np.ndim(p) for p in points):
        columns = [array(p) for p in points]
        for c in columns:
            known(c, where, name)
        return columns, words("pts", columns[0].ndim)
    x = array(points)
    known(x, where, name)
    if x.ndim == 0:
        raise ValueError(f"{where}: {name} must be (*pts, ndim), got a number")
    if is_lazy(x) and x.numblocks[-1] > 1:
        x = x.rechunk({x.ndim - 1: -1})  # a handful of coordinates
    return [x], (*words("pts", x.ndim - 1), "axis")


# ---- statistics of cells
def binned_statistic(f: Callable[..., Any], given: Given) -> Any:
    """Partial counts, means and squares, extremes, first and last ones; merged in a tree."""
    where = "gf.binned_statistic"
    columns, index = _coordinates(given["points"], where)
    cells = _cells(given["grid"], given.get("bounds"), where)
    wanted, several = _statistics(given.get("statistic", "mean"), where)
    v, w, mask = (None if given.get(k) is None else array(given[k]) for k in ("values", "weights", "where"))
    fill = check.number(given.get("fill_value", math.nan), "fill_value", where)
    pts = tuple(i for i in index if i != "axis")
    shape = columns[0].shape[: len(pts)]
    for name, x in (("values", v), ("weights", w), ("where", mask)):
        if x is not None and tuple(x.shape[: len(pts)]) != tuple(shape):
            raise ValueError(f"{where}: {name} has shape {x.shape} but must begin with the points' {tuple(shape)}")
    if v is None and set(wanted) != {"count"}:
        raise ValueError(f"{where}: values may be None only where the statistic is 'count'")
    if w is not None and (unweighed := [s for s in wanted if s in ("min", "max", "first", "last")]):
        raise ValueError(f"{where}: weights do not go with {unweighed}")
    lazy: list[Any] = [x for x in (*columns, v, w, mask) if is_lazy(x)]
    one_chunk = all(n == 1 for x in lazy for n in x.numblocks[: len(pts)])
    orderly = [s for s in wanted if not isinstance(s, str)]
    if orderly and not one_chunk:
        given_as = {"points": columns[0], "values": v, "weights": w, "where": mask}
        cut = next(k for k, x in given_as.items() if is_lazy(x) and max(x.numblocks[: len(pts)]) > 1)
        raise InChunks(where, cut, range(len(pts)), " for a median or quantiles, which do not add up")
    if {"first", "last"} & set(wanted) and len(pts) > 1 and any(n > 1 for x in lazy for n in x.numblocks[1 : len(pts)]):
        raise InChunks(where, "values", range(1, len(pts)), " for 'first' and 'last', which go by the order of points")
    lead = words("lead", 0 if v is None else v.ndim - len(pts))
    grid = words("cell", len(cells.shape))
    dtype = np.dtype(np.float64) if v is None else floating(v)
    options = _others(given, "points", "values", "grid", "bounds", "statistic", "weights", "where", "fill_value")
    place = cells.grid if cells.grid is not None else cells.listed
    asked = wanted if orderly else sorted({n for s in wanted for n in NEEDS[s]}, key=list(NEEDS).index)

    def part(v: Any, w: Any, mask: Any, *columns: Any) -> Any:
        x = columns if isinstance(given["points"], (tuple, list)) else columns[0]
        v = v if v is None else v.astype(np.float64, copy=False)
        if orderly:
            asked_for = [0.5 if s == -1.0 else s for s in wanted]
            out = f(x, v, place, asked_for, weights=w, where=mask, fill_value=fill, **options)
        else:
            parts = [f(x, v, place, s, weights=w, where=mask, fill_value=FILL.get(s, 0.0), **options)
                     for s in asked if s in FILL]  # fmt: skip
            rest = [s for s in asked if s not in FILL]
            others = f(x, v, place, rest, weights=w, where=mask, fill_value=0.0, **options)
            both = dict(zip(rest, others, strict=True)) | dict(zip([s for s in asked if s in FILL], parts, strict=True))
            out = np.stack([np.asarray(both[s], np.float64) for s in asked])
        return np.asarray(out, np.float64).reshape((1,) * len(pts) + out.shape)

    pairs = [p for c in columns for p in (c, index)]
    sizes = {"statistic": len(asked)} | dict(zip(grid, cells.shape, strict=True))
    parts = each(part, (*pts, "statistic", *lead, *grid), v, (*pts, *lead), w, pts, mask, pts, *pairs,
                 dtype=np.float64, new=sizes, ones=pts, name="binned")  # fmt: skip
    axes = tuple(range(len(pts)))
    if orderly:
        out = parts[(0,) * len(pts)]
    else:
        merge = functools.partial(_merged, asked)
        merged = dask().reduction(
            parts, _as_it_is, merge, axis=axes, combine=merge, dtype=np.float64, concatenate=True, split_every=8,
            meta=np.empty((0,) * (1 + len(lead) + len(grid))),
        )  # fmt: skip
        out = _finished(merged, asked, wanted, fill)
    out = out.astype(dtype)
    return out if several else out[0]


def _as_it_is(x: Any, axis: Any, keepdims: Any) -> Any:
    return x


def _merged(asked: list[str], x: Any, axis: Any, keepdims: Any) -> Any:
    """Several partial results in one.

    Of means and squares: T. F. Chan, G. H. Golub, R. J. LeVeque, "Updating formulae and a pairwise algorithm for
    computing sample variances", COMPSTAT (1982), (2.1).
    """
    x = x[0] if isinstance(x, list) and len(x) == 1 else x
    n = len(axis)
    flat = x.reshape(-1, *x.shape[n:])
    part = {s: flat[:, i] for i, s in enumerate(asked)}
    out: dict[str, Any] = {}
    with np.errstate(invalid="ignore", divide="ignore"):
        if "count" in part:
            count = part["count"]
            out["count"] = total = count.sum(0)
            there = count != 0
            share = np.where(there, count / np.where(total == 0, 1, total), 0)
        if "sum" in part:
            out["sum"] = part["sum"].sum(0)
        if "mean" in part:
            out["mean"] = mean = np.where(there, share * part["mean"], 0).sum(0)
        if "var" in part:
            away = np.where(there, part["mean"] - mean, 0)
            out["var"] = np.where(there, share * (part["var"] + away * away), 0).sum(0)
        if "min" in part:
            out["min"] = part["min"].min(0)
        if "max" in part:
            out["max"] = part["max"].max(0)
        for s, order in (("first", there.argmax(0) if "first" in part else 0),
                         ("last", len(flat) - 1 - there[::-1].argmax(0) if "last" in part else 0)):  # fmt: skip
            if s in part:
                out[s] = np.take_along_axis(part[s], np.asarray(order)[None], 0)[0]
    merged = np.stack([out[s] for s in asked])
    return merged.reshape((1,) * n + merged.shape) if keepdims else merged


def _finished(x: Any, asked: list[str], wanted: list[Any], fill: float) -> Any:
    """From what was merged to what was asked for."""
    da = dask()

    def finish(block: Any) -> Any:
        part = {s: block[i] for i, s in enumerate(asked)}
        out = []
        for s in wanted:
            y = np.sqrt(part["var"]) if s == "std" else part[s]
            out.append(y if s in ("count", "sum") else np.where(part["count"] == 0, fill, y))
        return np.stack(out)

    return da.map_blocks(finish, x, chunks=((len(wanted),), *x.chunks[1:]), dtype=np.float64,
                         meta=np.empty((0,) * x.ndim))  # fmt: skip


# ---- point by point
def _pointwise(where: str, table: str | None, kind: Callable[[Given], Any]) -> Callable[..., Any]:
    def run(f: Callable[..., Any], given: Given) -> Any:
        points = given["points"]
        columns, index = _coordinates(points, where)
        numbered = len(columns) == 1 and not isinstance(points, tuple) and columns[0].ndim == 1
        if numbered and table and columns[0].dtype.kind in "iu":
            index = ("pts0",)
        if given.get("indices"):
            raise ValueError(
                f"{where}: how many indices there are is not known before a dask array is computed: indices=False, and "
                "dask.array.nonzero of that"
            )
        x: Any = given.get(table) if table else None
        if is_lazy(x):
            whole(x, range(x.ndim), where, table or "")
        options, pts = _others(given, "points", *([table] if table else [])), tuple(i for i in index if i != "axis")

        def part(x: Any, *columns: Any) -> Any:
            named = {table: x} if table else {}
            return f(columns if isinstance(points, tuple) else columns[0], **named, **options)

        held: Any = x if is_lazy(x) or x is None else None
        if x is not None and held is None:  # a MaskIndex, say: as it is
            options = options | {table: x} if table else options
            body = lambda _, *c: f(c if isinstance(points, tuple) else c[0], **options)  # noqa: E731
        else:
            body = part
        pairs = [p for c in columns for p in (c, index)]
        return each(body, pts, held, words("cell", 0 if held is None else held.ndim), *pairs, dtype=kind(given),
                    name=where[3:])  # fmt: skip

    return run


def deform_points(f: Callable[..., Any], given: Given) -> Any:
    """Points that move with an image."""
    where = "gf.deform_points"
    (x,), index = _coordinates(given["points"], where)
    u: Any = given.get("displacement")
    options = _others(given, "points")
    if np.ndim(u) == np.size(given["shape"]) + 2:
        whole(x, [0], where, "points")
    if not is_lazy(u):
        return each(lambda p: f(p, **options), index, x, index, dtype=floating(x), name="deform_points")
    known(u, where, "displacement")  # which every point needs, whole
    options.pop("displacement")
    return each(lambda p, u: f(p, displacement=u, **options), index, x, index, u.rechunk(-1), words("own", u.ndim),
                dtype=floating(x), name="deform_points")  # fmt: skip


def cdist(f: Callable[..., Any], given: Given) -> Any:
    """A block of distances for each pair of chunks."""
    where, y = "gf.cdist", given.get("y")
    if given.get("out") is not None:
        raise ValueError(f"{where}: out does not go with dask arrays")
    for name in ("cov", "precision"):
        if is_lazy(given.get(name)):
            raise TypeError(f"{where}: {name} is of dask, but is needed by every pair: call {name}.compute() first")
    (x,), _ = _coordinates(given["x"], where, "x")
    (y,), _ = ([x], 0) if y is None else _coordinates(y, where, "y")
    for name, points in (("x", x), ("y", y)):
        if points.ndim != 2:
            raise ValueError(f"{where}: {name} of dask must be (points, d), got shape {points.shape}")
    options, kind = _others(given, "x", "y", "out"), np.result_type(floating(x), floating(y))
    return each(lambda x, y: f(x, y, **options), ("x", "y"), x, ("x", "axis"), y, ("y", "axis"), dtype=kind,
                name="cdist", aligned=False)  # fmt: skip


# ---- sums over points
def splat(f: Callable[..., Any], given: Given) -> Any:
    """Partial grids, and their sum."""
    where, v, grid = "gf.splat", array(given["values"]), given["grid"]
    check.is_grid(grid, where)
    (x,), index = _coordinates(given["points"], where)
    pts, options = index[:-1], _others(given, "values", "points")
    derivative = given.get("derivative")
    stacked = derivative is not None and np.ndim(derivative) == 2
    before = ("orders",) if stacked else ()
    if stacked:
        whole(v, [0], where, "values")
    lead, cells = words("lead", v.ndim - len(pts) - stacked), words("cell", grid.ndim)

    def part(v: Any, x: Any) -> Any:
        out = f(v, x, **options)
        return out.reshape((1,) * len(pts) + out.shape)

    parts = each(part, (*pts, *lead, *cells), v, (*before, *pts, *lead), x, index, dtype=floating(v), ones=pts,
                 new=dict(zip(cells, grid.shape, strict=True)), name="splat")  # fmt: skip
    return parts.sum(axis=tuple(range(len(pts))), dtype=parts.dtype)


def _waves(where: str, takes: str) -> Callable[..., Any]:
    """nufft1 and nufft3 add up over the points; nufft2 goes point by point."""

    def run(f: Callable[..., Any], given: Given) -> Any:
        if given.get("return_info"):
            raise ValueError(f"{where}: return_info does not go with dask arrays")
        (x,), index = _coordinates(given["points"], where)
        if x.ndim < 2:
            raise ValueError(f"{where}: points must be (N, ndim) or (*batch, N, ndim), got shape {x.shape}")
        at = array(given["frequencies"]) if where == "gf.nufft3" else None
        v, nd, (*batch, n) = array(given[takes]), x.shape[-1], x.shape[:-1]
        if at is not None and not batch:
            batch = list(at.shape[:-2])
        own = 1 if takes == "values" else nd  # axes of one item
        if v.ndim < len(batch) + own or list(v.shape[: len(batch)]) != batch or (own == 1 and v.shape[-1] != n):
            raise ValueError(
                f"{where}: {takes} has shape {v.shape} but points {x.shape}: expected the axes {tuple(batch)} of a "
                f"batch, any others, and {f'its {n} points' if takes == 'values' else f'{nd} axes of modes'}"
            )
        items, pts = words("item", len(batch)), "pts"
        lead, index = (*items, *words("lead", v.ndim - len(batch) - own)), (*items[: x.ndim - 2], pts, "axis")
        kind = np.result_type(v.dtype if v.dtype.kind in "fc" else np.float64, np.complex64)
        if takes == "modes":
            whole(v, range(v.ndim - nd, v.ndim), where, "modes")
            modes, options = words("mode", nd), _others(given, "points", "modes")
            return each(lambda p, m: f(p, m, **options), (*lead, pts), x, index, v, (*lead, *modes), dtype=kind,
                        name="nufft2")  # fmt: skip
        options, of_at = _others(given, "points", "values", "frequencies"), ("at0", "axis")
        if at is not None and at.ndim > 2:
            of_at = (*items, *of_at)
        if at is None:
            sizes = per_axis(where, "shape", given["shape"], nd, SIZE)
            made, new = words("mode", nd), dict(zip(words("mode", nd), sizes, strict=True))
            body = lambda p, v, _: f(p, v, **options)[None]  # noqa: E731
        else:
            made, new = ("at0",), {}
            body = lambda p, v, at: f(p, v, at, **options)[None]  # noqa: E731
        parts = each(body, (pts, *lead, *made), x, index, v, (*lead, pts), at, of_at, dtype=kind, new=new, ones=[pts],
                     name=where[3:])  # fmt: skip
        return parts.sum(axis=0)

    return run


def grid_and_smooth(f: Callable[..., Any], given: Given) -> Any:
    """Sums and counts of cells by blocks; smoothed once they are known."""
    from ..binning import binned_statistic as cells_of
    from ..smoothing import smooth

    where, grid = "gf.grid_and_smooth", given.get("grid")
    if not isinstance(grid, Grid):
        raise ValueError(
            f"{where}: grid is needed with dask arrays, whose extent would be computed early: gf.Grid.cells or "
            "gf.Grid.from_spacing, over the range of the points"
        )
    kind = floating(array(given["values"]))
    both = binned_statistic(
        cells_of, {"points": given["points"], "values": given["values"], "grid": grid, "statistic": ["sum", "count"]}
    )
    options = {k: given[k] for k in ("kernel", "radius", "sigma") if k in given}

    def ratio(block: Any) -> Any:
        sums, counts = (smooth(np.asarray(b, np.float64), grid=grid, **options) for b in block)
        nothing = counts <= 1e-12
        return np.where(nothing, np.nan, sums / np.where(nothing, 1, counts)).astype(kind)

    out = dask().map_blocks(ratio, both.astype(np.float64), drop_axis=0, dtype=kind,
                            meta=np.empty((0,) * (both.ndim - 1), kind))  # fmt: skip
    return out, grid


def _labels_of(given: Given) -> Any:
    return array(given["labels"]).dtype


TABLE: dict[str, Callable[..., Any]] = {
    "histogram": histogram,
    "histogramdd": histogramdd,
    "binned_statistic": binned_statistic,
    "bin_index": _pointwise("gf.bin_index", None, lambda given: np.int64),
    "select": _pointwise("gf.select", "mask", lambda given: np.bool_),
    "lookup": _pointwise("gf.lookup", "labels", _labels_of),
    "deform_points": deform_points,
    "cdist": cdist,
    "splat": splat,
    "nufft1": _waves("gf.nufft1", "values"),
    "nufft2": _waves("gf.nufft2", "modes"),
    "nufft3": _waves("gf.nufft3", "values"),
    "grid_and_smooth": grid_and_smooth,
}
