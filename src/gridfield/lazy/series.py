"""Series in chunks of time: halos of a window, and sums that add up (projection.py)."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import numpy as np

from .. import check
from ..projection import Projection, Windows, ends, finish, partial, project, reference
from .blocks import array, dask, each, floating, is_lazy, known, whole, words
from .sums import _as_it_is, _others

Given = dict[str, Any]


def _axis(y: Any, axis: Any, where: str) -> int:
    """Counted from 0."""
    if not isinstance(axis, (int, np.integer)) or isinstance(axis, bool) or not -y.ndim <= axis < y.ndim:
        raise ValueError(f"{where}: axis must be one of the {y.ndim} axes of y {y.shape}, got {axis!r}")
    return int(axis) % y.ndim


def _real(y: Any, where: str) -> None:
    known(y, where, "y")
    if not check.is_number(y.dtype.name) or y.dtype.kind == "c":
        raise TypeError(f"{where}: y has dtype {y.dtype} but must be real")


def _at_least(y: Any, axis: int, size: int) -> Any:
    """With chunks of so many samples, or one."""
    if y.numblocks[axis] == 1 or min(y.chunks[axis]) >= size:
        return y
    if size >= y.shape[axis]:
        return y.rechunk({axis: -1})
    return y.rechunk({axis: dask().overlap.ensure_minimum_chunksize(size, y.chunks[axis])})


def _empty(ndim: int, kind: Any) -> Any:
    return np.empty((0,) * ndim, kind)


def rolling_mean(f: Callable[..., Any], given: Given) -> Any:
    """Windows reach over the ends of a chunk."""
    where, y, window = "gf.rolling_mean", array(given["y"]), given["window"]
    _real(y, where)
    axis = _axis(y, given.get("axis", -1), where)
    options, kind = _others(given, "y", "axis"), floating(y)
    f(np.zeros(y.shape[axis]), **options)  # its errors, before any chunk is read
    y = _at_least(y, axis, int(window))

    def block(x: Any) -> Any:
        return f(x, axis=axis, **options)

    if y.numblocks[axis] == 1:
        return dask().map_blocks(block, y, dtype=kind, meta=_empty(y.ndim, kind))
    windows = Windows(y.shape[axis], int(window))
    return dask().overlap.map_overlap(
        block, y, depth={axis: (windows.before, windows.after)}, boundary="none", trim=True, dtype=kind,
        meta=_empty(y.ndim, kind),
    )  # fmt: skip


def _starts(y: Any, axis: int) -> Any:
    """The first sample of each chunk, a chunk each."""
    starts = np.cumsum((0, *y.chunks[axis][:-1]))
    return dask().from_array(starts, chunks=1)


def _line(y: Any, axis: int, rest: Any) -> tuple[Any, Any]:
    """Ends of a line through each series, by some samples at either end; of those the chunks there are enough."""
    n = y.shape[axis]
    some = min(32, max(1, n // 16), *y.chunks[axis])
    index = (*rest[:axis], "line", *rest[axis:])
    at = (slice(None),) * axis

    def middle(block: Any) -> Any:
        first, last = ends(block, axis)
        with np.errstate(invalid="ignore", over="ignore"):
            return (first + last) / 2

    low, high = (
        each(middle, tuple(rest), y[(*at, part)].rechunk({axis: -1}), index, dtype=np.float64, name="ends")
        for part in (slice(0, some), slice(n - some, n))
    )
    beyond = (high - low) / max(n - some, 1) * ((some - 1) / 2)
    beyond = dask().where(
        dask().isfinite(beyond), beyond, 0.0
    )  # of series that have gaps at one end, the other will do
    return low - beyond, high + beyond


def _line_over_gaps(y: Any, axis: int, index: Any) -> Any:
    """The same of series that may have gaps at their ends: by the first and the last samples there are of each.

    That looks at every chunk once more.
    """
    n, time = y.shape[axis], index[axis]
    rest = tuple(w for w in index if w != time)
    some = min(32, max(1, n // 16))

    def found(x: Any, start: Any) -> Any:
        v = np.moveaxis(x, axis, -1).astype(np.float64)
        there, t, out = np.isfinite(v), start[0] + np.arange(v.shape[-1]), []
        for order, none in ((slice(None), np.inf), (slice(None, None, -1), -np.inf)):
            chosen = there[..., order]
            chosen = chosen & (np.cumsum(chosen, -1, dtype=np.int32) <= some)
            number = np.maximum(chosen.sum(-1), 1)
            out.append(np.where(chosen.any(-1), chosen @ t[order] / number, none))
            out.append(np.where(chosen, v[..., order], 0).sum(-1) / number)
        return np.stack(out)[None]

    def merge(x: Any, axis: Any, keepdims: Any) -> Any:
        x = x[0] if isinstance(x, list) and len(x) == 1 else x
        low, high = x[:, 0].argmin(0)[None], x[:, 2].argmax(0)[None]
        out = [np.take_along_axis(x[:, i], k, 0)[0] for i, k in enumerate((low, low, high, high))]
        return np.stack(out)[None] if keepdims else np.stack(out)

    parts = _blocks(found, (time, "end", *rest), y, index, _starts(y, axis), (time,), kind=np.float64, new={"end": 4},
                    ones=[time])  # fmt: skip
    ends = dask().reduction(parts, _as_it_is, merge, axis=0, combine=merge, dtype=np.float64, concatenate=True,
                            split_every=8, meta=_empty(parts.ndim - 1, np.float64))  # fmt: skip

    def line(ends: Any) -> Any:
        a, low, b, high = ends
        with np.errstate(invalid="ignore", over="ignore"):
            slope = np.where(b > a, (high - low) / np.where(b > a, b - a, 1), 0.0)
            first = np.where(np.isfinite(a), low - slope * np.where(np.isfinite(a), a, 0), np.nan)
            return np.stack([first, first + slope * (n - 1)])

    both = _blocks(line, ("two", *rest), ends, ("end", *rest), kind=np.float64, new={"two": 2})
    return both[0], both[1]


def _blocks(f: Callable[..., Any], out: Any, *pairs: Any, kind: Any, new: Any = None, ones: Any = ()) -> Any:
    """each, of arrays of which the chunks of time are as many, but not as long."""
    return each(f, out, *pairs, dtype=kind, new=new, ones=ones, name="series", aligned=False)


def detrend(f: Callable[..., Any], given: Given) -> Any:
    """Sums of each series, then each chunk less the line."""
    where, y = "gf.detrend", array(given["y"])
    _real(y, where)
    axis = _axis(y, given.get("axis", -1), where)
    options, kind = _others(given, "y", "axis"), floating(y)
    f(np.zeros(2), **options)
    if y.numblocks[axis] == 1:
        return dask().map_blocks(lambda x: f(x, axis=axis, **options), y, dtype=kind, meta=_empty(y.ndim, kind))
    n, linear = y.shape[axis], given.get("type", "linear") == "linear"
    omit = given.get("nan_policy", "propagate") == "omit"
    index = words("a", y.ndim)
    time, rest = index[axis], tuple(w for i, w in enumerate(index) if i != axis)
    starts, middle = _starts(y, axis), (n - 1) / 2
    # of a series with gaps nothing is left if they propagate
    first, last = _line_over_gaps(y, axis, index) if omit else _line(y, axis, rest)

    def moved(x: Any, start: Any, first: Any, last: Any) -> tuple[Any, Any]:
        """Time last, less a line, which leaves no rounding of large offsets and trends; the centred places."""
        begin, gradient = reference(first, last, n, linear)
        with np.errstate(over="ignore", under="ignore"):  # with so few digits the products with places are exact
            few = gradient.astype(np.float32).astype(np.float64)
        gradient = np.where(np.isfinite(few), few, gradient)
        t = start[0] + np.arange(x.shape[axis])
        v = np.moveaxis(x, axis, -1) - begin[..., None]
        return v - gradient[..., None] * t, t - middle

    def sums(x: Any, start: Any, first: Any, last: Any) -> Any:
        v, k = moved(x, start, first, last)
        there = v == v if omit else np.ones(v.shape, bool)
        v = np.where(there, v, 0.0)
        part = there.astype(np.float64)
        return np.stack([part.sum(-1), part @ k, part @ (k * k), v.sum(-1), v @ k])[None]

    total = _blocks(sums, (time, "sum", *rest), y, index, starts, (time,), first, rest, last, rest,
                    kind=np.float64, new={"sum": 5}, ones=[time]).sum(axis=0)  # fmt: skip

    def less(x: Any, start: Any, first: Any, last: Any, total: Any) -> Any:
        v, k = moved(x, start, first, last)
        number, k1, k2, v1, vk = total
        with np.errstate(invalid="ignore", divide="ignore"):
            spread = k2 - k1 * k1 / number
            slope = np.where((number > 1) & (spread > 0), (vk - k1 * v1 / number) / spread, 0.0) if linear else 0.0 * v1
            slope = np.where(np.isnan(v1), v1, slope)
            level = (v1 - slope * k1) / number
        return np.moveaxis(v - level[..., None] - slope[..., None] * k, -1, axis).astype(kind)

    return _blocks(less, index, y, index, starts, (time,), first, rest, last, rest, total, ("sum", *rest), kind=kind)


def corr(f: Callable[..., Any], given: Given) -> Any:
    """One series, or whole ones; else sums over chunks that have the end of the one before, and what they make."""
    where, x, y = "gf.corr", array(given["x"]), array(given["y"])
    _real(y, where)
    axis = _axis(y, given.get("axis", -1), where)
    weights = None if given.get("weights") is None else array(given["weights"])
    options = _others(given, "x", "y", "axis", "weights")
    lags = given.get("lag", 0)
    several, n, kind = np.ndim(lags) > 0 or isinstance(lags, range), y.shape[axis], floating(y)
    index = words("a", y.ndim)
    time, rest = index[axis], tuple(w for i, w in enumerate(index) if i != axis)
    if not is_lazy(x):  # its errors, before any chunk is read
        f(x if x.ndim == 1 else np.zeros(n), np.zeros(n), weights=weights if not is_lazy(weights) else None, **options)
    out = ("lag", *rest) if several else rest
    new = {"lag": len(lags)} if several else {}
    if not is_lazy(y) or y.numblocks[axis] == 1:
        pairs = _series(x, y, axis, index, where)
        w = _whole(weights)
        return each(lambda y, w, x: f(x, y, axis=axis, weights=w, **options), out, y, index, w, (time,), *pairs,
                    dtype=kind, new=new, name="corr")  # fmt: skip
    prepared = _prepared(x, weights, n, given, where)
    lazily = is_lazy(x) or is_lazy(weights)
    halo = (given.get("window") or 1) - 1
    y = _at_least(y, axis, max(halo, 1))
    if y.numblocks[axis] == 1:
        return corr(f, given | {"y": y})
    starts = _starts(y, axis)
    longer = dask().overlap.overlap(y, {axis: (halo, 0)}, {axis: "none"}) if halo else y
    gaps = given.get("nan_policy") == "omit"
    first, last = _line_over_gaps(y, axis, index) if gaps else _line(y, axis, rest)
    count = len(list(lags)) if several else 1
    fields = _fields(given)

    def sums(block: Any, start: Any, first: Any, last: Any, *p: Any) -> Any:
        how: Projection = p[0].reshape(-1)[0] if p else prepared
        return partial(how, native(block), axis, int(start[0]), first, last)[None]

    def ratio(total: Any, first: Any, last: Any, *p: Any) -> Any:
        how: Projection = p[0].reshape(-1)[0] if p else prepared
        r = finish(how, total, first, last).astype(kind)
        return r if several else r[0]

    boxed = [prepared, ("one",)] if lazily else []
    total = _blocks(sums, (time, "lags", "field", *rest), longer, index, starts, (time,), first, rest, last, rest,
                    *boxed, kind=np.float64, new={"lags": count, "field": fields}, ones=[time]).sum(axis=0)  # fmt: skip
    made = ("lags", *rest) if several else rest
    return _blocks(ratio, made, total, ("lags", "field", *rest), first, rest, last, rest, *boxed, kind=kind)


def native(x: Any) -> Any:
    """Of a type that the kernels read."""
    x = x if x.dtype.isnative else x.astype(x.dtype.newbyteorder("="))
    return x if x.dtype.name in check.FLOATS else x.astype(np.float64)


def _whole(x: Any) -> Any:
    return x.rechunk(-1) if is_lazy(x) else x


def _series(x: Any, y: Any, axis: int, index: Any, where: str) -> list[Any]:
    """x with the words of the axes of y that it has."""
    if x.ndim == 1:
        return [_whole(x), (index[axis],)]
    if is_lazy(x):
        whole(x, [axis - y.ndim], where, "x")
    return [x, index[y.ndim - x.ndim :]]


def _fields(given: Given) -> int:
    """How many sums there are."""
    window = given.get("window") or 1
    windows = Windows(4 * window, window, given.get("min_periods") or window)
    return Projection(windows, False, given.get("nan_policy") == "omit", np.zeros((1, 1)), np.zeros((1, 1))).fields


def _prepared(x: Any, weights: Any, n: int, given: Given, where: str) -> Any:
    """The projection of x; in one lazy element where x is lazy."""
    window, lags, trim = given.get("window") or 1, given.get("lag", 0), given.get("trim", 0)
    windows = Windows(n, window, given.get("min_periods") or window)
    lags = [int(i) for i in lags] if np.ndim(lags) or isinstance(lags, range) else [int(lags)]
    ends = (trim, trim) if np.ndim(trim) == 0 else tuple(trim)

    def make(x: Any, weights: Any = None) -> Projection:
        w = None if weights is None else np.asarray(weights, np.float64)
        omit = given.get("nan_policy") == "omit"
        return project(np.asarray(x, np.float64), windows, detrend=given.get("detrend"), trim=ends, lags=lags,
                       weights=w, omit=omit)  # fmt: skip

    if len(x) != n:
        raise ValueError(f"{where}: x has {len(x)} samples but y has {n}")
    if not is_lazy(x) and not is_lazy(weights):
        return make(x, weights)

    def boxed(x: Any, *w: Any) -> Any:
        out = np.empty(1, object)
        out[0] = make(x, *w)
        return out

    delayed = importlib.import_module("dask").delayed(boxed)
    arguments = [_whole(x), *([] if weights is None else [_whole(weights)])]
    return dask().from_delayed(delayed(*arguments), (1,), dtype=object, meta=np.empty(0, object))


TABLE: dict[str, Callable[..., Any]] = {"rolling_mean": rolling_mean, "detrend": detrend}
