"""From one series to what its correlation with every other series is made of, and from sums to that correlation.

With P the projector that takes the trend away, S the means over windows, C the centring, of a series y

    r = <C S P x, C S P y> / (|C S P x| |C S P y|).

The numerator is ``w . y`` with ``w = P' S' C x^``, the same for every y. As S of a line is a line, the norm needs five
sums only: with R the sums over windows of W samples of y less any line, b the slope that is left, k the centred places
of the windows and m their number,

    |C S P y|**2 = (sum R**2 - (sum R)**2 / m) / W**2 - 2 b sum(k R) / W + b**2 sum k**2.

So sums over parts of the time add up: `partial`, `combine`, `finish`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from .cpu import correlation as cpu
from .cpu import pairing

Array = np.ndarray[Any, Any]

EPS = float(np.finfo(np.float64).eps)
LOST = 16 * EPS  # of sums of squares, what is left of their difference is rounding: one window, or all of them equal


@dataclass(frozen=True)
class Windows:
    """Which samples a centred window has, pandas' and xarray's: t - W // 2 ... t + (W - 1) // 2, inside the series."""

    length: int
    window: int = 1
    least: int = 1  # samples that a window must have

    @property
    def before(self) -> int:
        """Samples of a window before its centre."""
        return self.window // 2

    @property
    def after(self) -> int:
        """Samples of a window behind its centre."""
        return (self.window - 1) // 2

    @property
    def valid(self) -> tuple[int, int]:
        """Centres first ... stop of windows that have enough samples."""
        first = max(0, self.least - 1 - self.after)
        return first, self.length - max(0, self.least - 1 - self.before)

    @property
    def whole(self) -> bool:
        """Whether only whole windows count."""
        return self.least == self.window


def trend(x: Array, degree: int) -> Array:
    """A series, float64, less its trend, which samples that are NaN have no part in; 0 where that leaves rounding."""
    known = np.isfinite(x)
    n = int(known.sum())
    if n == 0:
        return x
    first, last = np.flatnonzero(known)[[0, -1]]
    k = np.arange(len(x), dtype=np.float64)
    slope = (x[last] - x[first]) / (last - first) if degree and last > first else 0.0
    with np.errstate(invalid="ignore", over="ignore"):
        v = (x - x[first]) - slope * (k - first)
        v = v - v[known].mean()
        if degree and n > 1:
            k = k - k[known].mean()
            v = v - k * (k[known] @ v[known] / (k[known] @ k[known]))
        constant = np.abs(v[known]).max() <= 8 * EPS * np.abs(x[known]).max()
    return np.where(known, 0.0, x) if constant else v


def rolled(x: Array, windows: Windows) -> Array:
    """Means over the windows of a series, float64; NaN where one has too few samples."""
    if windows.window == 1:
        return x
    known = x == x
    start = x[known][0] if known.any() else 0.0
    with np.errstate(invalid="ignore", over="ignore"):
        v = np.where(known, x - start, 0.0)
        t = np.arange(len(x))
        low, high = np.maximum(t - windows.before, 0), np.minimum(t + windows.after + 1, len(x))
        # the sums in the widest type there is: their ends are far from each other
        total = np.concatenate([[0], np.cumsum(v, dtype=np.longdouble)])
        number = np.concatenate([[0], np.cumsum(known)])
        count = number[high] - number[low]
        mean = ((total[high] - total[low]) / np.maximum(count, 1)).astype(np.float64) + start
    return np.where(count >= windows.least, mean, np.nan)


@dataclass(frozen=True)
class Projection:
    """One series x, ready to be correlated with others: what every sample of those weighs.

    Made by `project`. `paired[l]` and `part[l]` are, for each lag, x as it meets the window that ends at a sample
    (NaN: no pair) and the weight of that pair.
    """

    windows: Windows
    linear: bool
    omit: bool
    paired: Array  # (lags, length + after)
    part: Array

    @property
    def fast(self) -> bool:
        """Whether windows are all whole, so that five sums do."""
        return self.windows.whole and not self.omit and self.paired.ndim == 2

    @property
    def halo(self) -> int:
        """Samples before a part of the time that `partial` needs beside it, as far as there are any."""
        return self.windows.window - 1

    @property
    def fields(self) -> int:
        """Sums per series and lag."""
        return cpu.FIELDS if self.fast else pairing.PAIRS

    @cached_property
    def ends(self) -> Array:
        """Places of the windows, by their ends, 0 in the middle of those that count; (lags, length)."""
        part = self.part[:, : self.windows.length]
        total = part.sum(-1, keepdims=True)
        k = np.arange(self.windows.length, dtype=np.float64)
        return k - (part * k).sum(-1, keepdims=True) / np.where(total > 0, total, 1)

    @cached_property
    def slope(self) -> Array:
        """What each sample adds to the slope of the trend; 0 without one."""
        n = self.windows.length
        k = np.arange(n) - (n - 1) / 2
        return k / (k @ k) if self.linear and n > 1 else np.zeros(n)

    @cached_property
    def weight(self) -> Array:
        """(lags, length): what each sample adds to the correlation, before that is divided by the norm."""
        n, w = self.windows.length, self.windows.window
        out = np.full((len(self.part), n), np.nan)
        k = np.arange(n) - (n - 1) / 2
        with np.errstate(invalid="ignore"):  # of infinities
            for line, x, p in zip(out, self.paired[:, :n], self.part[:, :n], strict=True):
                here = p > 0
                size = np.abs(x[here]).max(initial=0.0)
                x = np.where(here, x, 0.0)
                x = np.where(here, x - p @ x / max(p.sum(), 1e-300), 0.0)
                norm = np.sqrt(p @ (x * x))
                if not norm > 4 * EPS * size * np.sqrt(p.sum()):
                    continue  # constant: NaN
                z = np.concatenate([p * (x / norm), np.zeros(w - 1)])
                sums = np.cumsum(np.concatenate([[0], z]), dtype=np.longdouble)
                z = ((sums[w:] - sums[:-w]) / w).astype(np.float64)
                for _ in range(2):  # the second time for what rounding leaves
                    z = z - z.mean()
                    if self.linear and n > 1:
                        z = z - k * (k @ z / (k @ k))
                line[:] = z
        return out


def project(
    x: Array, windows: Windows, *, detrend: str | None = None, trim: tuple[int, int] = (0, 0), lags: Any = (0,),
    weights: Array | None = None, omit: bool = False,
) -> Projection:  # fmt: skip
    """The projection of a series x (length,), float64, for `partial` and `finish`.

    x meets y at the same sample, with a lag l at l samples later: x[t] and y[t + l].
    """
    x = trend(x, int(detrend == "linear"))  # a constant is of no consequence
    size = np.abs(x[np.isfinite(x)]).max(initial=0.0)
    x = rolled(x / size if size > 0 else x, windows)  # nor is the scale
    return paired(x, windows, detrend == "linear", trim, lags, weights, omit)


def paired(
    x: Array, windows: Windows, linear: bool, trim: tuple[int, int], lags: Any, weights: Array | None, omit: bool
) -> Projection:
    """The same of an x (*rest, length) that is detrended and smoothed."""
    n, (first, stop) = windows.length, windows.valid
    first, stop = first + trim[0], stop - trim[1]
    # time first in memory, which most arrays of series have, and the kernel's blocks
    met = np.moveaxis(np.full((len(lags), n + windows.after, *x.shape[:-1]), np.nan), 1, -1)
    part = np.zeros((len(lags), n + windows.after))
    q = np.ones(n) if weights is None else weights
    for i, lag in enumerate(lags):
        low, high = max(first, first + lag), min(stop, stop + lag)  # of y
        if low < high:
            met[i, ..., low + windows.after : high + windows.after] = x[..., low - lag : high - lag]
            part[i, low + windows.after : high + windows.after] = q[low:high]
    if met.ndim == 2:
        part = np.where(np.isnan(met), 0.0, part)
    return Projection(windows, linear, omit, met, part)


def ends(y: Array, axis: int, omit: bool = False) -> tuple[Array, Array]:
    """Where a line through many series begins and ends, (*rest) each.

    Through the means of some samples at either end: one through the first and the last sample alone leaves more, which
    cancels (with noise, an offset of 1e6 and a trend of 1e5 errors of 8e-12 instead of 4e-13). omit: series may have
    gaps there.
    """
    n = y.shape[axis]
    some = min(32, max(1, n // 16))
    means = []
    for start in (0, n - some):
        total, number = np.zeros(np.delete(y.shape, axis)), 0
        for i in range(start, start + some):  # one by one: NumPy's order in a sum depends on the layout
            a = y[(*(slice(None),) * axis, i)]
            there = a == a
            with np.errstate(invalid="ignore", over="ignore"):
                total = total + np.where(there, a, 0)
            number = number + there
        means.append(np.where(number > 0, total / np.maximum(number, 1), np.nan))
    with np.errstate(invalid="ignore", over="ignore"):
        beyond = (means[1] - means[0]) / max(n - some, 1) * ((some - 1) / 2)
        first, last = means[0] - beyond, means[1] + beyond
        return _over_gaps(y, axis, first, last) if omit else (first, last)


def _over_gaps(y: Array, axis: int, first: Array, last: Array) -> tuple[Array, Array]:
    """Of series that have gaps at an end, those of the line through the first and the last sample there is."""
    if y.ndim == 1:
        first, last = _over_gaps(y[None], 1, first[None], last[None])
        return first[0], last[0]
    n, at = y.shape[axis], (slice(None),) * axis
    missing = np.isnan(first) | np.isnan(last)
    found: list[tuple[Array, Array]] = []
    for order in (range(n), range(n - 1, -1, -1)) if missing.any() else ():
        place, value = np.zeros(first.shape), np.full(first.shape, np.nan)
        left = np.nonzero(missing)
        for i in order:
            a = y[(*at, i)][left]
            there = a == a
            if there.any():
                here = tuple(k[there] for k in left)
                place[here], value[here] = i, a[there]
                left = tuple(k[~there] for k in left)
            if not len(left[0]):
                break
        found.append((place, value))
    if not found:
        return first, last
    (a, low), (b, high) = found
    slope = (high - low) / np.maximum(b - a, 1)
    return np.where(missing, low - slope * a, first), np.where(missing, high + slope * (n - 1 - b), last)


def reference(first: Array, last: Array, length: int, linear: bool = True) -> tuple[Array, Array]:
    """Where the line begins that `partial` takes from series, and its gradient per sample: (*rest) each.

    From its values at the first and the last sample. Without a linear trend it is a constant.
    """
    first, last = np.asarray(first, np.float64), np.asarray(last, np.float64)
    begin = np.where(np.isfinite(first), first, np.where(np.isfinite(last), last, 0.0))
    with np.errstate(invalid="ignore", over="ignore"):
        gradient = (last - begin) / max(length - 1, 1) if linear else np.zeros_like(begin)
    return begin, np.where(np.isfinite(gradient), gradient, 0.0)


def partial(projection: Projection, y: Array, axis: int, start: int, first: Array, last: Array) -> Array:
    """Sums (lags, fields, *rest), float64, over a part of the time of many series.

    Parameters
    ----------
    projection : Projection
        Of the series that they are correlated with.
    y : ndarray
        Samples ``start - min(start, projection.halo)`` and those after it, up to the end of the part: the halo is
        W - 1 samples before it, or as many as there are.
    axis : int
        That of time.
    start : int
        Which sample the part begins with, the halo aside.
    first, last : arrays, shape (*rest)
        The first and last samples of the whole series, or where another line through it has its `ends`; any numbers
        will do, but must be the same for all parts: that line is taken away, so that large offsets and trends leave no
        rounding.

    The parts' sums are added by `combine`, in any order, and `finish` makes the correlation of them.
    """
    windows = projection.windows
    axis %= y.ndim
    halo = min(start, projection.halo)
    stop = start - halo + y.shape[axis]
    begin, gradient = reference(first, last, windows.length, projection.linear)
    end = stop == windows.length
    if not projection.fast:
        above, below = projection.halo - halo, windows.after if end else 0
        rows = np.arange(start - projection.halo, stop + below)
        own = ((rows >= start) & (rows < stop)).astype(np.float64)
        # no window ends at the rows above the first sample
        part = np.zeros((len(projection.part), len(rows)))
        part[:, above:] = projection.part[:, start - halo : stop + below] * (rows[above:] >= start)
        gaps = pairing.Gaps(above, below, own, rows.astype(np.float64), part, windows.window, windows.least)
        return pairing.pairs(y, axis, gaps, projection.paired[..., start - halo : stop + below], begin, gradient)
    here, own = slice(start - halo, stop), np.arange(start - halo, stop) >= start
    part = projection.part[:, here] * own
    e = np.arange(y.shape[axis])
    w = windows.window
    if w == 1:
        kinds = np.full(part.shape, cpu.ALONE)
    else:
        kinds = np.where(e < w - 1, cpu.FILL, np.where(e == w - 1, cpu.FIRST, np.where(part > 0, cpu.COUNT, cpu.SLIDE)))
    tables = cpu.Tables(
        np.ascontiguousarray(np.broadcast_to(kinds, part.shape), np.int64),
        np.where(own, projection.weight[:, here], 0.0), projection.slope[here] * own, part,
        np.ascontiguousarray(projection.ends[:, here]), np.arange(start - halo, stop, dtype=np.float64), w,
    )  # fmt: skip
    return cpu.sums(y, axis, tables, begin, gradient)


def combine(*partials: Array) -> Array:
    """The sums over all these parts."""
    total = partials[0]
    for p in partials[1:]:
        total = total + p
    return total


def finish(projection: Projection, sums: Array, first: Array, last: Array) -> Array:
    """Correlations (lags, *rest), float64, from the sums over the whole time; NaN where one of a pair is constant."""
    windows, each = projection.windows, (slice(None), *(None,) * (sums.ndim - 2))
    begin, gradient = reference(first, last, windows.length, projection.linear)
    size = np.maximum(np.abs(begin), np.abs(begin + gradient * (windows.length - 1)))
    with np.errstate(all="ignore"):
        if projection.fast:
            number, slope, total, square, line = np.moveaxis(sums, 1, 0)
            part, k, w = projection.part[:, : windows.length], projection.ends, windows.window
            n, kk = part.sum(-1)[each], (part * k * k).sum(-1)[each]
            norm = (square - total * total / n) / w**2 - 2 * slope * line / w + slope * slope * kk
            lost = square / w**2 + slope * slope * kk
            r = number / np.sqrt(norm)
            some = (part > 0).sum(-1)[each]
        else:
            norm, n, r, lost = _from_pairs(projection, sums)
            some = np.full(r.shape, 2)
        # constant: as numbers are rounded, or, far from the line, as sums are; beyond 1e150 squares are infinite
        good = (norm > n * (EPS * size) ** 2) & (norm > LOST * lost) & (norm < np.inf) & (some > 1)
        r = np.where(good, np.clip(r, -1, 1), np.nan)
    return r


def _from_pairs(projection: Projection, sums: Array) -> tuple[Array, Array, Array, Array]:
    """Norms, sums of weights, correlations where samples were missing, and what the norms are differences of."""
    a, k, kk, v, vk, n, x, xx, r, rr, xr, line, ll, lr, lx = np.moveaxis(sums, 1, 0)
    spread = kk - k * k / a
    b = np.where(spread > 0, (vk - k * v / a) / spread, 0.0) if projection.linear else 0.0
    norm = (rr - r * r / n) - 2 * b * (lr - line * r / n) + b * b * (ll - line * line / n)
    own = xx - x * x / n
    cov = xr - x * r / n - b * (lx - line * x / n)
    out = cov / np.sqrt(norm * own)
    out = np.where(own > LOST * xx, out, np.nan)
    out = np.where((a < projection.windows.length) & (not projection.omit), np.nan, out)
    return norm, n, out, rr + b * b * ll
