"""corr and corr_matrix: correlations of series, in one pass over the data; for any framework."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from . import check, dispatch
from .cpu import series as cpu
from .ops import Face, recipe
from .projection import EPS, Projection, Windows, combine, ends, finish, paired, partial, project, reference
from .series import (
    POLICIES,
    TRENDS,
    axis_of,
    check_word,
    detrended,
    numbers,
    present,
    real,
    rolled,
    windows_of,
    zeros,
)  # fmt: skip

__all__ = [
    "Projection",
    "Windows",
    "combine",
    "corr",
    "corr_matrix",
    "ends",
    "finish",
    "partial",
    "project",
    "reference",
]

Array = np.ndarray[Any, Any]


@recipe
def corr(
    x: Any,
    y: Any,
    axis: int = -1,
    *,
    detrend: str | None = None,
    window: int | None = None,
    min_periods: int | None = None,
    trim: int | tuple[int, int] = 0,
    lag: int | Sequence[int] = 0,
    weights: Any = None,
    nan_policy: str = "propagate",
) -> Any:
    """Pearson correlation of a series with every series of an array, after detrending and a rolling mean of both.

    In this order: the trend of each series is taken away, then come centred means over `window` samples, then `trim`
    samples are dropped at each end, then the series are shifted by `lag`, then correlated.

    Parameters
    ----------
    x : array, shape (n,), or one that broadcasts against y
        The series, of any real type. Samples that are NaN are left out of its own trend; the windows they touch leave
        every correlation.
    y : array
        The others, along `axis`; real.
    axis : int, default -1
        That of the series, in y.
    detrend : {None, "constant", "linear"}, default None
        What is taken away first, by least squares. A mean is of no consequence for a correlation.
    window : int, optional
        Samples of the rolling mean (see `rolling_mean`). Default: none.
    min_periods : int, optional
        How many samples a window must have. Default: all, so that n - window + 1 are left.
    trim : int or (int, int), default 0
        Samples dropped at each end, beside those that have no window. An even window leaves window / 2 out at the
        beginning, but one less at the end.
    lag : int or sequence of int, default 0
        x[t] meets y[t + lag]: if positive, y follows x. A range or other sequence adds a leading axis to the result.
    weights : array, shape (n,), optional
        What each sample of y, smoothed, counts in the correlation; not in trends and rolling means.
    nan_policy : {"propagate", "omit"}, default "propagate"
        Of NaN in y. "propagate": its series has no correlation. "omit": such samples are left out of its trend and its
        windows, and windows that are left with too few leave the correlation.

    Returns
    -------
    array, the shape of y without `axis`, or (lags, that)
        Of the framework, type and device of `y`, float64 for integers; summed in float64. NaN where less than two
        windows are left, or one of both is constant (to the rounding of its numbers). The same bits whatever the number
        of threads.

    Raises
    ------
    ValueError, TypeError
        If the arguments do not fit together, are complex, or nothing is left to correlate.

    Notes
    -----
    For a window and a 1-D x without `min_periods`, "omit": one pass over y, without temporaries. With P the projector
    that takes the trend away, S the rolling mean, C the centring, the numerator is ``w . y``, ``w = P' S' C x^``, and
    the norm needs five sums, as S of a line is a line::

        |C S P y|**2 = (sum R**2 - (sum R)**2 / m) / W**2 - 2 b sum(k R) / W + b**2 sum k**2

    R the sums over windows, m their number, k their centred places, b the slope. A line through the ends of each series
    is taken away before, so that large offsets and trends do not cancel.

    Examples
    --------
    >>> import gridfield as gf, numpy as np
    >>> t = np.arange(8.0)
    >>> x = np.array([0.0, 1, 0, -1, 0, 1, 0, -1])
    >>> y = np.stack([5 + 2 * x + t, -x, np.roll(x, 1), np.full(8, 3.0)])
    >>> gf.corr(x, y, detrend="linear").round(3)
    array([ 1.   , -1.   ,  0.105,    nan])
    >>> gf.corr(x, y[2], lag=range(3)).round(3)
    array([ 0.   ,  1.   , -0.059])
    """
    where = "gf.corr"
    F = dispatch.face(where, **{k: v for k, v in (("x", x), ("y", y), ("weights", weights)) if v is not None})
    x, y = check.array(F, x, "x", where), check.array(F, y, "y", where)
    real(F, x, "x", where)
    given = real(F, y, "y", where)
    check.same_device(where, F.device(x), F.device(y), "x", "y")
    axis = axis_of(y, axis, "y", where)
    x, y, axis = _against(F, x, y, axis, where)
    check_word(detrend, "detrend", (None, *TRENDS), where)
    check_word(nan_policy, "nan_policy", POLICIES, where)
    n = int(y.shape[axis])
    windows = windows_of(n, window, min_periods, axis, where)
    cut, (lags, several) = _trim(trim, windows, where), _lags(lag, n, where)
    if weights is not None:
        weights = _weights(F, weights, n, where)
    job = _Job(windows, detrend == "linear", nan_policy == "omit", cut, lags)
    known = [None if a is None else numbers(F, a) for a in (x, y, weights)]
    if any(k is None and a is not None for k, a in zip(known, (x, y, weights), strict=True)):
        out = job.followed(F, x, y, weights, axis)
        return F.astype(F.stack(out, 0) if several else out[0], given)
    found = job.known(known[0], known[1], known[2], axis)  # type: ignore[arg-type]
    return F.constant(found if several else found[0], given, y)


@dataclass(frozen=True)
class _Job:
    """One call, its arguments checked: x (n,), or with the axes of y, or 1 of each."""

    windows: Windows
    linear: bool
    omit: bool
    trim: tuple[int, int]
    lags: tuple[int, ...]

    def known(self, x: Array, y: Array, weights: Array | None, axis: int) -> Array:
        """(lags, *rest) by the kernels."""
        weights = None if weights is None else weights.astype(np.float64)
        x = x.astype(np.float64)
        if x.ndim == 1:
            trend = "linear" if self.linear else "constant"
            p = project(x, self.windows, detrend=trend, trim=self.trim, lags=self.lags, weights=weights, omit=self.omit)
            return self._sums(p, y, axis)
        size = _largest(x, axis)
        with np.errstate(invalid="ignore", over="ignore"):
            v = cpu.detrend(x, axis, self.linear, True)
            left = _largest(v, axis)
            v = np.where((left <= 8 * EPS * size) & (v == v), 0.0, v) / np.where(left > 0, left, 1.0)
        w = self.windows
        v = np.moveaxis(v if w.window == 1 else cpu.rolling_mean(v, axis, w.window, w.before, w.least), axis, -1)
        rest = np.broadcast_shapes(v.shape[:-1], tuple(s for i, s in enumerate(y.shape) if i != axis))
        y = np.broadcast_to(y, (*rest[:axis], y.shape[axis], *rest[axis:]))
        out = np.empty((len(self.lags), *rest))
        for i, lag in enumerate(self.lags):
            p = paired(np.broadcast_to(v, (*rest, v.shape[-1])), w, self.linear, self.trim, (lag,), weights, self.omit)
            out[i] = self._sums(p, y, axis)[0]
        return out

    def _sums(self, p: Projection, y: Array, axis: int) -> Array:
        first, last = ends(y, axis, p.omit)
        return finish(p, partial(p, y, axis, 0, first, last), first, last)

    def followed(self, F: Face, x: Any, y: Any, weights: Any, axis: int) -> list[Any]:
        """(*rest) for each lag, of functions that have derivatives."""
        dtype = F.widest("float64")
        x, y = (a if len(a.shape) == 1 else F.moveaxis(a, axis, len(a.shape) - 1) for a in (x, y))
        x, y = F.astype(x, dtype), F.astype(y, dtype)
        eps = float(np.finfo(dtype).eps)
        # constant, to the rounding of its numbers: of what is left, squares are below this
        least = [(4 * eps) ** 2 * F.fixed(_mean_square(F, a)) for a in (x, y)]
        xs = rolled(F, detrended(F, x, self.linear, True), self.windows)
        ys = rolled(F, detrended(F, y, self.linear, self.omit), self.windows)
        first, stop = self.windows.valid
        first, stop = first + self.trim[0], stop - self.trim[1]
        out = []
        for lag in self.lags:
            low, high = max(first, first + lag), min(stop, stop + lag)
            if low >= high:
                low, high, lag = 0, 1, 0  # one pair: NaN
            q = None if weights is None else F.astype(weights, dtype)[low:high]
            out.append(_pearson(F, xs[..., low - lag : high - lag], ys[..., low:high], q, least))
        return out


def _largest(x: Array, axis: int) -> Array:
    """The largest finite size along an axis, which stays."""
    return np.abs(np.where(np.isfinite(x), x, 0.0)).max(axis, keepdims=True)


def _mean_square(F: Face, x: Any) -> Any:
    """Of the samples that are there, along the last axis."""
    _, count, filled = present(F, x)
    number = F.sum(count, -1)
    return F.sum(filled * filled, -1) / F.where(number > 0, number, zeros(F, x, 1.0))


def _pearson(F: Face, x: Any, y: Any, weights: Any, least: Any) -> Any:
    """Along the last axis, of the pairs that are there."""
    one, nought = zeros(F, y, 1.0), zeros(F, y)
    x, y = x + nought * F.fixed(y), y + nought * F.fixed(x)  # NaN where the other is; and of one shape
    there, count, x = present(F, x)
    y = F.where(there, y, nought)
    q = count if weights is None else count * weights
    total = F.sum(q, -1)[..., None]
    total = F.where(total > 0, total, one)
    x = (x - F.sum(q * x, -1)[..., None] / total) * count
    y = (y - F.sum(q * y, -1)[..., None] / total) * count
    xx, yy, total = F.sum(q * x * x, -1), F.sum(q * y * y, -1), total[..., 0]
    some = F.sum(F.where(q > 0, one, nought), -1) > 1.5
    good = some & (F.fixed(xx) > least[0] * total) & (F.fixed(yy) > least[1] * total)
    norm = F.where(good, xx, one) ** 0.5 * F.where(good, yy, one) ** 0.5
    return F.where(good, F.sum(q * x * y, -1) / norm, zeros(F, y, np.nan))


# ---- arguments
def _against(F: Face, x: Any, y: Any, axis: int, where: str) -> tuple[Any, Any, int]:
    """x and y with as many axes, or x with one; the axis, counted from 0 in what they broadcast to."""
    xs, ys, n = tuple(x.shape), tuple(y.shape), y.shape[axis]
    if len(xs) == 0:
        raise ValueError(f"{where}: x must be a series or an array of series, got a single number")
    along = 0 if len(xs) == 1 else len(xs) - (len(ys) - axis)
    if along < 0 or not check.same((xs[along],), (n,)):
        has = f"has {xs[along]} samples" if along >= 0 else "has no such axis"
        raise ValueError(
            f"{where}: x (shape {xs}) {has} but y (shape {ys}) has {n} along axis {axis}: one number for each"
        )
    if len(xs) == 1:
        return x, y, axis
    ndim = max(len(xs), len(ys))
    full = [(1,) * (ndim - len(s)) + s for s in (xs, ys)]
    if any(a is not None and b is not None and 1 not in (a, b) and a != b for a, b in zip(*full, strict=True)):
        raise ValueError(f"{where}: x has shape {xs}, which does not broadcast against that of y, {ys}")
    axis += ndim - len(ys)
    x, y = (F.reshape(a, (*(1,) * (ndim - len(a.shape)), *F.shape(a))) for a in (x, y))
    return x, y, axis


def _trim(trim: Any, windows: Windows, where: str) -> tuple[int, int]:
    pair = trim if isinstance(trim, (tuple, list)) else (trim, trim)
    if len(pair) != 2 or not all(check._is_int(t) and t >= 0 for t in pair):
        raise ValueError(f"{where}: trim must be a number of samples, 0 or more, or one for each end; got {trim!r}")
    first, stop = windows.valid
    before, after = (operator.index(t) for t in pair)
    if before + after >= stop - first:
        raise ValueError(
            f"{where}: trim={trim!r} leaves nothing of the {stop - first} windows that {windows.length} samples have "
            f"(window {windows.window})"
        )
    return before, after


def _lags(lag: Any, n: int, where: str) -> tuple[tuple[int, ...], bool]:
    several = not check._is_int(lag)
    given = lag
    try:
        lags = tuple(operator.index(i) for i in (lag if several else (lag,)))
    except TypeError:
        raise TypeError(f"{where}: lag must be an int, or a range or another sequence of them, got {given!r}") from None
    if not lags or any(abs(i) >= n for i in lags):
        raise ValueError(f"{where}: lag must be less than the {n} samples of a series, either way, got {given!r}")
    return lags, several


def _weights(F: Face, weights: Any, n: int, where: str) -> Any:
    weights = check.array(F, weights, "weights", where)
    real(F, weights, "weights", where)
    if not check.same(tuple(weights.shape), (n,)):
        raise ValueError(f"{where}: weights has shape {tuple(weights.shape)} but must have one for each sample, ({n},)")
    known = numbers(F, weights)
    if known is not None and not (np.isfinite(known).all() and (known >= 0).all()):
        raise ValueError(f"{where}: weights must be finite and not negative")
    return weights


@recipe
def corr_matrix(a: Any, axis: int = -1, *, nan_policy: str = "propagate") -> Any:
    """Pearson correlation of every series of an array with every other, by matrix products.

    Parameters
    ----------
    a : array
        Real; integers give float64. For trends and rolling means see `detrend` and `rolling_mean`.
    axis : int, default -1
        That of the series.
    nan_policy : {"propagate", "omit"}, default "propagate"
        "propagate": a series with a NaN has no correlations. "omit": each pair is correlated over the samples that both
        have, as pandas does.

    Returns
    -------
    array, shape (*rest, *rest), that of a without `axis` twice
        Of the framework, type and device of `a`, computed in its type (half precision in float32). NaN for series that
        are constant. It has derivatives.

    Raises
    ------
    ValueError, TypeError
        If the arguments do not fit together, or a is complex.

    Examples
    --------
    >>> import gridfield as gf, numpy as np
    >>> gf.corr_matrix(np.array([[1.0, 2.0, 3.0], [2.0, 4.0, 6.0], [1.0, 0.0, -1.0]])).round(3)
    array([[ 1.,  1., -1.],
           [ 1.,  1., -1.],
           [-1., -1.,  1.]])
    """
    where = "gf.corr_matrix"
    F = dispatch.face(where, a=a)
    a = check.array(F, a, "a", where)
    given = real(F, a, "a", where)
    axis = axis_of(a, axis, "a", where)
    check_word(nan_policy, "nan_policy", POLICIES, where)
    known = numbers(F, a) if nan_policy == "propagate" else None
    if known is not None:
        v = np.moveaxis(known.astype(np.float32 if given in check.HALF else given, copy=False), axis, -1)
        out = _all_pairs_known(v.reshape(prod(v.shape[:-1]), v.shape[-1]))
        return F.constant(out.reshape(v.shape[:-1] * 2), given, a)
    v = F.astype(F.moveaxis(a, axis, len(a.shape) - 1), "float32" if given in check.HALF else given)
    rest, n = F.shape(v)[:-1], int(v.shape[-1])
    series = prod(rest) if all(isinstance(s, int) for s in rest) else -1
    v = F.reshape(v, (series, n))
    with np.errstate(all="ignore") if F.name == "numpy" else nullcontext():
        out = _pairwise(F, v) if nan_policy == "omit" else _all_pairs(F, v)
    return F.astype(F.reshape(out, (*rest, *rest)), given)


def _all_pairs_known(v: Array) -> Array:
    """(n, samples) -> (n, n), with few copies: of (1800, 2000) 0.4 of the time of _all_pairs."""
    with np.errstate(all="ignore"):
        square = np.einsum("ij,ij->i", v, v)
        u = v - v.mean(-1, keepdims=True)
        u -= u.mean(-1, keepdims=True)  # the first mean of large numbers is rounded
        norm = np.einsum("ij,ij->i", u, u)
        bad = ~((norm > (4 * float(np.finfo(v.dtype).eps)) ** 2 * square) & (norm < np.inf))
        u *= (1 / np.sqrt(np.where(bad, 1, norm)))[:, None]
        u[bad] = 0
        r = u @ u.T
    r[bad], r[:, bad] = np.nan, np.nan
    return r


def _all_pairs(F: Face, v: Any) -> Any:
    """(n, samples) -> (n, n)."""
    one, nought, n = zeros(F, v, 1.0), zeros(F, v), int(v.shape[-1])
    total = F.sum(F.fixed(v), -1)[..., None]
    v = F.where(total - total == 0, v, nought)  # or its NaN would be in the derivatives of all others
    square = F.sum(F.fixed(v) * F.fixed(v), -1)[..., None]
    for _ in range(2):  # the first mean of large numbers is rounded
        v = v - F.sum(v, -1)[..., None] / n
    norm = F.sum(v * v, -1)[..., None]
    good = F.fixed(norm) > (4 * float(np.finfo(F.dtype(v)).eps)) ** 2 * square
    v = F.where(good, v, nought) / F.where(good, norm, one) ** 0.5
    return F.where(good & F.transpose(good, (1, 0)), F.matmul(v, F.transpose(v, (1, 0))), zeros(F, v, np.nan))


def _pairwise(F: Face, v: Any) -> Any:
    """The same, each pair over the samples that both have."""
    _, m, v = present(F, v)
    one, eps, size = zeros(F, v, 1.0), float(np.finfo(F.dtype(v)).eps), F.fixed(_mean_square(F, v))[..., None]
    number = F.sum(m, -1)[..., None]
    for _ in range(2):
        v = (v - F.sum(v, -1)[..., None] / F.where(number > 0, number, one)) * m
    mt, vt = F.transpose(m, (1, 0)), F.transpose(v, (1, 0))
    both = F.matmul(m, mt)
    n = F.where(both > 0.5, both, one)
    s, ss = F.matmul(v, mt), F.matmul(v * v, mt)  # of one, over the samples that the other has
    var = ss - s * s / n
    st, vart = F.transpose(s, (1, 0)), F.transpose(var, (1, 0))
    limit = F.where(ss * eps > n * (4 * eps) ** 2 * size, ss * (8 * eps), n * (4 * eps) ** 2 * size)
    good = F.fixed(var) > F.fixed(limit)
    good = good & F.transpose(good, (1, 0)) & (both > 1.5)
    norm = F.where(good, var, one) ** 0.5 * F.where(good, vart, one) ** 0.5
    return F.where(good, (F.matmul(v, vt) - s * st / n) / norm, zeros(F, v, np.nan))
