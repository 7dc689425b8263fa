"""One series correlated with every series of an array, detrended and smoothed; beside xarray, and SciPy with NumPy.

    python benchmarks/correlation.py [--quick]

All sides compute the same numbers, which is checked before they are timed. Writes text, JSON, Markdown and a picture to
benchmarks/results (with --docs also to docs/), with --quick while developing.
"""

from __future__ import annotations

import argparse
import functools
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd
import scipy.signal
import xarray as xr
from _bench import HERE, Case, Figure, Report, interleave, machine, measure

import gridfield as gf

THREADS = 2
WINDOW = 360


def data(shape: tuple[int, ...], dtype: Any = np.float64) -> tuple[np.ndarray, np.ndarray]:
    """A series, and the field: noise in which there is a bit of it, about 280 with a trend."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=shape[0])
    y = rng.normal(size=shape) + 0.2 * x[:, None, None] + 280 + np.linspace(0, 3, shape[0])[:, None, None]
    return x, y.astype(dtype)


def with_xarray(x: np.ndarray, y: np.ndarray, window: int) -> np.ndarray:
    """Trends by polyfit, rolling means, xarray's corr."""

    def prepared(a: xr.DataArray) -> xr.DataArray:
        fit = a.polyfit("time", 1).polyfit_coefficients
        return (a - xr.polyval(a.time, fit)).rolling(time=window, center=True).mean()

    time_axis = {"time": np.arange(len(x))}
    a = xr.DataArray(x, time_axis, ("time",))
    b = xr.DataArray(y, time_axis, ("time", "lat", "lon"))
    return xr.corr(prepared(a), prepared(b), "time").to_numpy()


def with_scipy(x: np.ndarray, y: np.ndarray, window: int) -> np.ndarray:
    """scipy.signal.detrend, means by cumsum, Pearson written out."""

    def prepared(a: np.ndarray) -> np.ndarray:
        a = scipy.signal.detrend(a, axis=0)
        sums = np.cumsum(a, axis=0)
        means = sums[window - 1 :].copy()
        means[1:] -= sums[:-window]
        means /= window
        return means - means.mean(0)

    a, b = prepared(x), prepared(y)
    return np.tensordot(a, b, 1) / np.sqrt((a @ a) * (b * b).sum(0))


def cases(shape: tuple[int, ...], window: int) -> Iterator[Case]:
    """The targets."""
    x, y = data(shape)
    what = f"corr of {shape} float64, detrended, window {window}"

    def ours() -> np.ndarray:
        return gf.corr(x, y, 0, detrend="linear", window=window)

    yield Case(what, "xarray: polyfit, rolling, corr", 30, ours, functools.partial(with_xarray, x, y, window), 1e-9,
               least=1, note="without bottleneck, which makes xarray's rolling mean a running sum")  # fmt: skip
    yield Case(
        what, "scipy.signal.detrend, cumsum, Pearson", 15, ours, functools.partial(with_scipy, x, y, window), 1e-9
    )


def parts(shape: tuple[int, ...], window: int) -> Iterator[Case]:
    """Functions of their own; no targets but not to be slower."""
    _, y = data(shape)
    flat = pd.DataFrame(y.reshape(shape[0], -1))
    yield Case(f"detrend of {shape} float64", "scipy.signal.detrend", 1, lambda: gf.detrend(y, 0),
               lambda: scipy.signal.detrend(y, axis=0), 1e-9)  # fmt: skip
    yield Case(
        f"rolling_mean of {shape} float64, window {window}", "pandas rolling", 1,
        lambda: np.nan_to_num(gf.rolling_mean(y, window, 0)),
        lambda: np.nan_to_num(flat.rolling(window, center=True).mean().to_numpy()), 1e-9,
        note="both with np.nan_to_num of the result, so that the numbers compare",
    )  # fmt: skip
    several = np.ascontiguousarray(y[:, :10].reshape(shape[0], -1).T)
    yield Case(f"corr_matrix of {several.shape} float64", "np.corrcoef", 1, lambda: gf.corr_matrix(several),
               lambda: np.corrcoef(several), 1e-9)  # fmt: skip


def bandwidth(shape: tuple[int, ...], window: int, budget: float) -> Iterator[Figure]:
    """How long reading takes, and the general paths; time of one thread, which others beside it do not change much."""
    x, y = data(shape)
    single = y.astype(np.float32)
    last = np.ascontiguousarray(np.moveaxis(y, 0, -1))
    gaps = np.where(np.random.default_rng(1).random(shape) < 0.01, np.nan, y)
    weights = np.random.default_rng(2).random(shape[0])
    how: dict[str, Any] = {"detrend": "linear", "window": window}

    gf.set_num_threads(1)
    functions: dict[str, Callable[[], Any]] = {
        "reading float64 (np.sum)": lambda: np.sum(y),
        "corr": lambda: gf.corr(x, y, 0, **how),
        "reading float32 (np.sum)": lambda: np.sum(single),
        "corr of float32": lambda: gf.corr(x, single, 0, **how),
        "corr, no window": lambda: gf.corr(x, y, 0, detrend="linear"),
        "corr along the last axis": lambda: gf.corr(x, last, -1, **how),
        "corr with weights": lambda: gf.corr(x, y, 0, weights=weights, **how),
        "corr of 5 lags": lambda: gf.corr(x, y, 0, lag=range(5), **how),
        "corr of min_periods": lambda: gf.corr(x, y, 0, min_periods=window // 2, **how),
        "corr of gaps, 'omit'": lambda: gf.corr(x, gaps, 0, nan_policy="omit", min_periods=window // 2, **how),
        "corr of two fields": lambda: gf.corr(y, y, 0, **how),
    }
    for f in functions.values():
        f()
    ms = {name: 1e3 * statistics.median(s) for name, s in interleave(functions, budget, clock=time.thread_time).items()}
    for name, t in ms.items():
        yield Figure(f"{name}, one thread", t, "ms")
    for kind, a, ours in (("float64", y, "corr"), ("float32", single, "corr of float32")):
        reading = ms[f"reading {kind} (np.sum)"]
        yield Figure(f"{ours} of {kind}" if kind == "float64" else ours, 1e-6 * a.nbytes / ms[ours], "GB/s")
        yield Figure(f"reading {kind}", 1e-6 * a.nbytes / reading, "GB/s")
        yield Figure(f"{ours}, times the time of reading ({100 * reading / ms[ours]:.0f} % of the bandwidth)",
                     ms[ours] / reading, "×", 2.0)  # fmt: skip


def main() -> None:
    """Measure everything, and write it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a smaller array, short runs: for development only")
    parser.add_argument(
        "--docs", action="store_true", help="write table and picture to docs/correlation_benchmark, too"
    )
    arguments = parser.parse_args()
    shape, window, budget = ((500, 30, 90), 90, 0.5) if arguments.quick else ((2000, 60, 180), WINDOW, 4.0)
    began = time.perf_counter()
    gf.set_num_threads(THREADS)
    report = Report(
        "correlation-quick" if arguments.quick else "correlation",
        "Correlation of series: how many times faster than the packages in use",
        f"{THREADS} threads for those who can. Medians of interleaved calls, all compiled and warm.",
        machine(["numpy", "numba", "scipy", "xarray", "pandas"]),
    )
    for group in (cases(shape, window), parts(shape, window)):
        for case in group:
            report.rows.append(measure(case, budget))
            row = report.rows[-1]
            print(f"{time.perf_counter() - began:6.0f} s  {row.case}, {row.peer}: {row.ratio:.1f}x", flush=True)
    report.figures += bandwidth(shape, window, budget)
    gf.set_num_threads(THREADS)
    report.write(HERE.parent / "docs" / "correlation_benchmark" if arguments.docs else None)


if __name__ == "__main__":
    main()
