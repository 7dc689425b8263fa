"""corr_matrix, and corr with an array of series, of chunks of time: moments of each chunk about its own means, merged.

Of two parts a, b with counts n, means m and sums of products C about them

    C = C_a + C_b + n_a n_b / (n_a + n_b) (m_b - m_a) (m_b - m_a)',

so nothing large is ever subtracted from something large.

T. F. Chan, G. H. Golub, R. J. LeVeque, "Updating formulae and a pairwise algorithm for computing sample variances",
COMPSTAT (1982), (2.1).
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np

from .. import check
from ..projection import EPS, Windows
from ..series import POLICIES, check_word, detrend, rolling_mean
from .blocks import array, dask, each, floating, is_lazy, words
from .series import TABLE as SERIES
from .series import _axis, _real
from .series import corr as of_one
from .sums import _as_it_is, _others

Given = dict[str, Any]
# number; mean of one, rounded, and what is left of it; the same of the other; sums of products x y, x x, y y
PAIR = 8


def _merged(x: Any, axis: Any, keepdims: Any) -> Any:
    """Several moments of pairs, along axis 1 of (fields, parts, ...), in one."""
    x = x[0] if isinstance(x, list) and len(x) == 1 else x
    n, total = x[0], x[0].sum(0)
    some = n > 0
    first = some.argmax(0)[None]
    out, away = [total], []
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        share = np.where(some, n / np.where(total > 0, total, 1), 0)
        for mean, left in (x[1:3], x[3:5]):
            near = np.take_along_axis(mean, first, 0)[0]
            d = np.where(some, (mean - near) + left, 0)  # large means differ by little, and that is exact
            left = (share * d).sum(0)
            out += [near, left]
            away.append(np.where(some, d - left, 0))
        u, v = away
        out += [(c + n * e).sum(0) for c, e in zip(x[5:], (u * v, u * u, v * v), strict=True)]
    merged = np.stack(out)
    return merged[:, None] if keepdims else merged


def _tree(parts: Any) -> Any:
    return dask().reduction(
        parts, _as_it_is, _merged, axis=1, combine=_merged, dtype=np.float64, concatenate=True, split_every=8,
        meta=np.empty((0,) * (parts.ndim - 1)),
    )  # fmt: skip


# ---- corr_matrix
def corr_matrix(f: Callable[..., Any], given: Given) -> Any:
    """A block for each pair of chunks of series; over chunks of time a tree."""
    where, a = "gf.corr_matrix", array(given["a"])
    _real(a, where)
    axis = _axis(a, given.get("axis", -1), where)
    check_word(policy := given.get("nan_policy", "propagate"), "nan_policy", POLICIES, where)
    kind = floating(a)
    work = np.float32 if kind.name in check.HALF else kind
    eps = float(np.finfo(work).eps)
    if a.ndim == 1:
        return each(lambda b: np.asarray(f(b, nan_policy=policy)), (), a.rechunk(-1), ("t",), dtype=kind)
    index = words("a", a.ndim)
    time, rest = index[axis], tuple(w for i, w in enumerate(index) if i != axis)
    twin = {w: f"{w}'" for w in rest}
    again = tuple(twin.values())

    def rows(block: Any) -> tuple[Any, tuple[int, ...]]:
        v = np.moveaxis(block, axis, -1).astype(work)
        return v.reshape(prod(v.shape[:-1]), v.shape[-1]), v.shape[:-1]

    if policy == "propagate":
        return _of_whole(a, index, time, rest, again, rows, work, kind)

    def moments(x: Any, y: Any) -> Any:
        (x, xs), (y, ys) = rows(x), rows(y)
        return _of_pairs(x, y).reshape(PAIR, 1, *xs, *ys)

    other = tuple(twin.get(w, w) for w in index)
    parts = each(moments, ("field", time, *rest, *again), a, index, a, other, dtype=np.float64, new={"field": PAIR},
                 ones=[time], name="corr_matrix", aligned=False)  # fmt: skip
    made = (*rest, *again)
    return each(lambda sums: _ratio(sums, eps).astype(kind), made, _tree(parts), ("field", *made), dtype=kind,
                name="corr_matrix")  # fmt: skip


def _of_whole(a: Any, index: Any, time: Any, rest: Any, again: Any, rows: Any, work: Any, kind: Any) -> Any:
    """Of series without gaps a product of matrices is all there is of each pair; the rest is of each series."""
    eps = float(np.finfo(work).eps)

    def moments(x: Any) -> Any:
        x, shape = rows(x)
        with np.errstate(all="ignore"):
            u, _, means = _centred(x, False)
            number = np.full(len(x), float(x.shape[1]))
            return np.stack([number, *means, np.einsum("it,it->i", u, u, dtype=np.float64)]).reshape(4, 1, *shape)

    def centred(x: Any) -> Any:
        x, shape = rows(x)
        with np.errstate(all="ignore"):
            return _centred(x, False)[0].reshape(*shape, x.shape[1])

    def product(x: Any, y: Any) -> Any:
        xs, ys = x.shape[:-1], y.shape[:-1]
        with np.errstate(all="ignore"):
            out = x.reshape(prod(xs), x.shape[-1]) @ y.reshape(prod(ys), y.shape[-1]).T
        return out.reshape(1, *xs, *ys)

    def ratio(total: Any, x: Any, y: Any) -> Any:
        with np.errstate(all="ignore"):
            (n, p, xx, good), (_, q, yy, fine) = (_merged_whole(m.reshape(*m.shape[:2], -1), eps) for m in (x, y))
            r = total.reshape(len(xx), len(yy)) + (n * p).T @ q
            r *= np.where(good, 1 / np.sqrt(np.where(good, xx, 1)), np.nan)[:, None]
            r *= np.where(fine, 1 / np.sqrt(np.where(fine, yy, 1)), np.nan)
        return r.reshape(total.shape).astype(kind)

    of = each(
        moments, ("field", time, *rest), a, index, dtype=np.float64, new={"field": 4}, ones=[time], name="moments"
    )
    of = of.rechunk({1: -1})
    u = each(centred, (*rest, time), a, index, dtype=work, name="centred")
    parts = each(product, (time, *rest, *again), u, (*rest, time), u, (*again, time), dtype=work, ones=[time],
                 name="product", aligned=False)  # fmt: skip
    return each(ratio, (*rest, *again), parts.sum(axis=0, dtype=np.float64), (*rest, *again), of,
                ("field", "part", *rest), of, ("field", "part", *again), dtype=kind, name="corr_matrix")  # fmt: skip


def _merged_whole(moments: Any, eps: float) -> tuple[Any, Any, Any, Any]:
    """Of (fields, parts, series): numbers, means about that of all, sums of squares, and which are not constant."""
    n, mean, left, square = moments
    some, total = n > 0, n.sum(0)
    near = mean[some[:, 0].argmax() if some.size else 0]
    d = np.where(some, (mean - near) + left, 0)
    middle = (n * d).sum(0) / np.where(total > 0, total, 1)
    d = np.where(some, d - middle, 0)
    square = square.sum(0) + (n * d * d).sum(0)
    good = (square > (4 * eps) ** 2 * (square + total * (near + middle) ** 2)) & (square < np.inf)
    return n, d, square, good


def _of_pairs(x: Any, y: Any) -> Any:
    """Moments of every row of x (m, t) with every row of y (n, t), where both are there: (fields, m, n), float64."""
    with np.errstate(all="ignore"):
        (u, p, of_x), (v, q, of_y) = (_centred(a, True) for a in (x, y))
        n = (p @ q.T).astype(np.float64)
        one = np.where(n > 0, n, 1)
        su, sv = (u @ q.T).astype(np.float64), (p @ v.T).astype(np.float64)
        uv = (u @ v.T).astype(np.float64)
        uu, vv = ((u * u) @ q.T).astype(np.float64), (p @ (v * v).T).astype(np.float64)
        means = [of_x[0][:, None], of_x[1][:, None] + su / one, of_y[0], of_y[1] + sv / one]
        sums = [uv - su * sv / one, np.maximum(uu - su * su / one, 0), np.maximum(vv - sv * sv / one, 0)]
        return np.stack(np.broadcast_arrays(n, *means, *sums))


def _centred(x: Any, omit: bool) -> tuple[Any, Any, tuple[Any, Any]]:
    """Rows less their means, gaps 0; what is there; the means, rounded, and what is left of them, float64."""
    there = x == x if omit else np.ones(x.shape, bool)
    number = np.maximum(there.sum(1), 1)
    mean = (np.where(there, x, 0).sum(1, dtype=np.float64) / number).astype(x.dtype)
    u = np.where(there, x - mean[:, None], 0)
    left = (u.sum(1, dtype=np.float64) / number).astype(x.dtype)
    u = np.where(there, u - left[:, None], 0)
    return u, there.astype(x.dtype), (mean.astype(np.float64), left.astype(np.float64))


def _ratio(sums: Any, eps: float) -> Any:
    """Correlations; NaN where one of both is constant to the rounding of its numbers, or nothing but a pair is left."""
    n, ab, aa, bb = sums[0], *sums[5:]
    with np.errstate(all="ignore"):
        good = n > 1.5
        for m, square in ((sums[1] + sums[2], aa), (sums[3] + sums[4], bb)):
            good &= (square > (4 * eps) ** 2 * (square + n * m * m)) & (square < np.inf)
        return np.where(good, ab / np.sqrt(np.where(good, aa, 1)) / np.sqrt(np.where(good, bb, 1)), np.nan)


# ---- corr with several series
def corr(f: Callable[..., Any], given: Given) -> Any:
    """One series with all of y; or one with each, which in chunks of time are told by their moments."""
    where, x, y = "gf.corr", array(given["x"]), array(given["y"])
    if x.ndim < 2:
        return of_one(f, given)
    _real(y, where)
    axis, ndim = _axis(y, given.get("axis", -1), where), max(x.ndim, y.ndim)
    axis += ndim - y.ndim
    x, y = (a.reshape((1,) * (ndim - a.ndim) + a.shape) for a in (x, y))
    if x.shape[axis] != y.shape[axis]:
        raise ValueError(f"{where}: x has {x.shape[axis]} samples but y (shape {y.shape}) has {y.shape[axis]}")
    given = given | {"x": x, "y": y, "axis": axis}
    if all(not is_lazy(a) or a.numblocks[axis] == 1 for a in (x, y)):
        return of_one(f, given)
    weights, nothing = given.get("weights"), np.zeros(y.shape[axis])  # its errors, before any chunk is read
    f(nothing, nothing, weights=None if is_lazy(weights) else weights, **_others(given, "x", "y", "axis", "weights"))
    return _several(given, x, y, axis, weights)


def _several(given: Given, x: Any, y: Any, axis: int, weights: Any) -> Any:
    """Both without trend and smoothed, then moments."""
    n, window, kind = y.shape[axis], given.get("window") or 1, floating(y)
    windows = Windows(n, window, given.get("min_periods") or window)
    lags: Any = given.get("lag", 0)
    several = np.ndim(lags) > 0 or isinstance(lags, range)
    trim = given.get("trim", 0)
    trim = (trim, trim) if np.ndim(trim) == 0 else tuple(trim)
    trend, omit = ("linear" if given.get("detrend") == "linear" else "constant"), given.get("nan_policy") == "omit"
    index = words("a", y.ndim)
    time, rest = index[axis], tuple(w for i, w in enumerate(index) if i != axis)
    first, stop = windows.valid
    first, stop = first + trim[0], stop - trim[1]
    policies = "omit", "omit" if omit else "propagate"
    smooth = [
        _prepared(a.astype(np.float64), axis, trend, windows, policy)
        for a, policy in zip((x, y), policies, strict=True)
    ]
    least = [_mean_square(a, axis, index) for a in (x, y)]

    def moments(x: Any, y: Any, q: Any) -> Any:
        x, y = np.broadcast_arrays(*(np.moveaxis(a, axis, -1) for a in (x, y)))
        return _weighted(x, y, q)[:, None]

    def ratio(sums: Any, of_x: Any, of_y: Any) -> Any:
        total, ab, aa, bb = sums[0], *sums[5:]
        with np.errstate(all="ignore"):
            good = (aa > (4 * EPS) ** 2 * of_x * total) & (bb > (4 * EPS) ** 2 * of_y * total)
            r = np.where(good, ab / np.sqrt(np.where(good, aa, 1)) / np.sqrt(np.where(good, bb, 1)), np.nan)
        return r.astype(kind)

    out = []
    for lag in np.atleast_1d(np.asarray(lags)).tolist():
        low, high = max(first, first + lag), min(stop, stop + lag)
        if low >= high:
            low, high, lag = 0, 1, 0  # one pair: NaN
        at = (slice(None),) * axis
        xs, ys = smooth[0][(*at, slice(low - lag, high - lag))], smooth[1][(*at, slice(low, high))]
        q: Any = array(np.ones(high - low) if weights is None else weights[low:high]).astype(np.float64)
        q = q if is_lazy(q) else dask().from_array(q)
        xs, q = xs.rechunk({axis: ys.chunks[axis]}), q.rechunk((ys.chunks[axis],))
        parts = each(moments, ("field", time, *rest), xs, index, ys, index, q, (time,), dtype=np.float64,
                     new={"field": PAIR}, ones=[time], name="corr")  # fmt: skip
        out.append(each(ratio, rest, _tree(parts), ("field", *rest), least[0], rest, least[1], rest, dtype=kind))
    return dask().stack(out) if several else out[0]


def _prepared(a: Any, axis: int, trend: str, windows: Windows, policy: str) -> Any:
    """Without trend, and smoothed."""
    a = a if is_lazy(a) else dask().from_array(a, chunks=-1)
    v = SERIES["detrend"](detrend, {"y": a, "axis": axis, "type": trend, "nan_policy": policy})
    if windows.window == 1:
        return v
    options = {"window": windows.window, "axis": axis, "min_periods": windows.least}
    return SERIES["rolling_mean"](rolling_mean, {"y": v, **options})


def _mean_square(a: Any, axis: int, index: Any) -> Any:
    """Of the samples that are there, along an axis."""
    time, rest = index[axis], tuple(w for i, w in enumerate(index) if i != axis)

    def part(block: Any) -> Any:
        v = np.nan_to_num(block.astype(np.float64), posinf=np.inf, neginf=-np.inf)
        with np.errstate(over="ignore"):
            return np.stack([(v * v).sum(axis), np.sum(block == block, axis)])[:, None]

    total = each(part, ("two", time, *rest), a, index, dtype=np.float64, new={"two": 2}, ones=[time]).sum(axis=1)
    return total[0] / dask().maximum(total[1], 1)


def _weighted(x: Any, y: Any, q: Any) -> Any:
    """Moments along the last axis of those pairs that are both there, with weights: (fields, *rest)."""
    with np.errstate(all="ignore"):
        there = (x == x) & (y == y)
        q = np.where(there, q, 0.0)
        x, y = np.where(there, x, 0.0), np.where(there, y, 0.0)
        total = q.sum(-1)
        one = np.where(total > 0, total, 1)
        means = []
        for a in (x, y):
            for _ in range(2):  # the first mean of large numbers is rounded
                means.append((q * a).sum(-1) / one)
                a -= means[-1][..., None]
        xy, xx, yy = ((q * a * b).sum(-1) for a, b in ((x, y), (x, x), (y, y)))
        return np.stack([total, *means, xy, xx, yy])


TABLE: dict[str, Callable[..., Any]] = {"corr": corr, "corr_matrix": corr_matrix}
