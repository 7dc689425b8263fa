"""Trends, rolling means and correlations of single series, the obvious way: SciPy, pandas, sums."""

import numpy as np
import pandas as pd
import scipy.signal


def smoothed(x, window, least=None, detrend="linear"):
    """Of one series, NaN left out of the trend; by SciPy and pandas."""
    known = ~np.isnan(x)
    x = x.copy()
    if known.any() and np.ptp(x[known]) == 0:
        x[known] = 0  # rounding aside
    elif detrend and known.any():
        k = np.arange(len(x))
        if known.all():
            x = scipy.signal.detrend(x, type=detrend)
        else:
            x = x - np.polyval(np.polyfit(k[known], x[known], 1 if detrend == "linear" else 0), k)
    return pd.Series(x).rolling(window, center=True, min_periods=least).mean().to_numpy()


def pearson(x, y, weights=None):
    """Of the pairs without NaN."""
    w = np.ones(len(x)) if weights is None else weights
    there = ~np.isnan(x) & ~np.isnan(y) & (w > 0)
    if there.sum() < 2:
        return np.nan
    x, y, w = x[there], y[there], w[there]
    x, y = x - np.average(x, weights=w), y - np.average(y, weights=w)
    if not np.ptp(x) or not np.ptp(y):
        return np.nan
    return (w * x * y).sum() / np.sqrt((w * x * x).sum() * (w * y * y).sum())


def slow(x, y, window=1, least=None, detrend="linear", trim=(0, 0), lag=0, weights=None, omit=False):
    """Correlation of x with one series, longhand."""
    n = len(x)
    least = window if least is None else least
    xs = smoothed(x, window, least, detrend)
    ys = smoothed(y, window, least, detrend) if omit or not np.isnan(y).any() else np.full(n, np.nan)
    has = np.flatnonzero(~np.isnan(smoothed(np.zeros(n), window, least, None)))
    first, stop = has[0] + trim[0], has[-1] + 1 - trim[1]
    keep = (np.arange(n) >= first) & (np.arange(n) < stop)
    xs, ys = np.where(keep, xs, np.nan), np.where(keep, ys, np.nan)
    met = np.full(n, np.nan)
    met[max(lag, 0) : n + min(lag, 0)] = xs[max(-lag, 0) : n - max(lag, 0)]
    return pearson(met, ys, weights)
