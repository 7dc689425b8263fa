"""Points and grids: what is in each cell, histograms in a mask; beside boost-histogram, NumPy and SciPy.

    python benchmarks/points.py [--quick]

All sides compute the same numbers, which is checked before they are timed. boost-histogram is timed with one thread and
with two where it can (its means have only one), and the better of these counts. Writes text, JSON, Markdown and a
picture to benchmarks/results (with --docs also to docs/), with --quick while developing.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import boost_histogram as bh
import numba
import numpy as np
import scipy.stats
from _bench import HERE, Case, Figure, Report, interleave, machine, measure

import gridfield as gf

THREADS = 2
BOOST, NUMPY, SCIPY = "boost-histogram", "NumPy", "scipy.stats"


def best(make: Callable[[int], Callable[[], Any]], counts: tuple[int, ...] = (1, THREADS)) -> Callable[[], Any]:
    """A peer's call with the number of threads that is quickest."""
    calls = {n: make(n) for n in counts}
    if len(calls) == 1:
        return calls[counts[0]]
    times = interleave({str(n): f for n, f in calls.items()}, 0.0, least=3, most=3)
    return calls[min(counts, key=lambda n: statistics.median(times[str(n)]))]


def filled(columns: list[np.ndarray], axes: list[Any], storage: Any, **how: Any) -> Callable[[], np.ndarray]:
    """boost-histogram's counts, weights or means."""

    def run() -> np.ndarray:
        h = bh.Histogram(*axes, storage=storage)
        h.fill(*columns, **how)
        view = h.view()
        return view.value if view.dtype.names else view

    return run


def scattered(n: int, size: int) -> Iterator[Case]:
    """Counts and means of random points in a volume."""
    rng = np.random.default_rng(0)
    points, values = rng.random((n, 3)), rng.normal(size=n) + 3
    grid, columns = gf.Grid.cells((size,) * 3, (0, 1)), [np.ascontiguousarray(c) for c in points.T]
    axes = [bh.axis.Regular(size, 0, 1)] * 3
    ends: Any = {"bins": (size,) * 3, "range": [(0, 1)] * 3}
    what = f"{n:,} points into {size}³"

    def count() -> Any:
        return gf.binned_statistic(points, None, grid, "count")

    def mean() -> Any:
        return gf.binned_statistic(points, values, grid, fill_value=0)

    def theirs() -> Any:
        return np.nan_to_num(scipy.stats.binned_statistic_dd(points, values, "mean", **ends).statistic)

    counts = best(lambda t: filled(columns, axes, bh.storage.Int64(), threads=t))
    means = best(lambda t: filled(columns, axes, bh.storage.Mean(), sample=values), (1,))
    note = "the peer reads coordinates that lie axis by axis, we those of points"
    yield Case(f"{what}: count", BOOST, 2, count, counts, 1e-12, note=note)
    yield Case(f"{what}: mean", BOOST, 3, mean, means, 1e-9, note=note)
    yield Case(f"{what}: count", f"{NUMPY} histogramdd", 40, lambda: gf.histogramdd(points, **ends)[0],
               lambda: np.histogramdd(points, **ends)[0], 0, least=1)  # fmt: skip
    yield Case(f"{what}: mean", SCIPY, 40, mean, theirs, 1e-9, least=1)


def statistics_of(n: int, size: int) -> Iterator[Case]:
    """What SciPy loops over cells for."""
    rng = np.random.default_rng(1)
    points, values = rng.random((n, 3)), rng.normal(size=n) + 3
    ends: Any = {"bins": (size,) * 3, "range": [(0, 1)] * 3}
    grid = gf.Grid.cells((size,) * 3, (0, 1))
    for name in ("std", "max", "median"):
        yield Case(
            f"{n:,} points into {size}³: {name}", SCIPY, 50,
            lambda name=name: gf.binned_statistic(points, values, grid, name, fill_value=0),
            lambda name=name: np.nan_to_num(
                scipy.stats.binned_statistic_dd(points, values, name, **ends).statistic
            ),
            1e-9, least=1,
        )  # fmt: skip


def masked(size: int) -> Iterator[Case]:
    """A volume in a mask."""
    rng = np.random.default_rng(2)
    volume = rng.random((size,) * 3).astype(np.float32)
    mask = rng.random(volume.shape) < 0.3
    flat, weight = volume.reshape(-1), mask.reshape(-1)
    axes, what = [bh.axis.Regular(100, 0, 1)], f"histogram of {size}³ float32 in a 30 % mask"

    def ours() -> Any:
        return gf.histogram(volume, 100, (0, 1), where=mask)[0]

    boost = best(lambda t: filled([flat], axes, bh.storage.Double(), weight=weight, threads=t))
    yield Case(what, f"{NUMPY}, of data[mask]", 15, ours, lambda: np.histogram(volume[mask], 100, (0, 1))[0], 0)
    # their edges are not NumPy's to the last bit
    yield Case(what, f"{BOOST}, weight=mask", 8, ours, boost, 1e-3)


def bounds(n: int, size: int, budget: float) -> Iterator[Figure]:
    """One thread, beside what memory alone would take."""
    rng = np.random.default_rng(3)
    points = rng.random((n, 3))
    grid = gf.Grid.cells((size,) * 3, (0, 1))
    index, cells = gf.bin_index(points, grid), np.zeros(grid.size, np.uint32)

    @numba.njit
    def scatter(index: np.ndarray, cells: np.ndarray) -> None:
        for i in index:
            cells[np.uint64(i)] += 1

    gf.set_num_threads(1)
    functions: dict[str, Callable[[], Any]] = {
        f"count of points in {size}³": lambda: gf.binned_statistic(points, None, grid, "count"),
        "reading the coordinates": lambda: points.sum(),
        f"adding 1 to random cells of {size}³, whose numbers are known": lambda: scatter(index, cells),
    }
    for f in functions.values():
        f()
    for name, seconds in interleave(functions, budget, clock=time.thread_time).items():
        yield Figure(f"{name}, one thread", 1e9 * statistics.median(seconds) / n, "ns/point")
    gf.set_num_threads(THREADS)


def main() -> None:
    """Measure everything, and write it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer points, short runs: for development only")
    parser.add_argument("--docs", action="store_true", help="write table and picture to docs/points_benchmark, too")
    arguments = parser.parse_args()
    quick = arguments.quick
    many, size, some, small, edge, budget = (
        (10**6, 64, 10**5, 32, 128, 0.5) if quick else (10**7, 128, 2 * 10**6, 64, 256, 8.0)
    )
    began = time.perf_counter()
    gf.set_num_threads(THREADS)
    report = Report(
        "points-quick" if quick else "points",
        "Points and grids: how many times faster than the packages in use",
        f"float64 unless said otherwise, {THREADS} threads for those who can. Medians of interleaved calls, all "
        "compiled and warm.",
        machine(["numpy", "numba", "scipy", "boost-histogram"]),
    )
    for cases in (scattered(many, size), statistics_of(some, small), masked(edge)):
        for case in cases:
            report.rows.append(measure(case, budget))
            row = report.rows[-1]
            print(f"{time.perf_counter() - began:6.0f} s  {row.case}, {row.peer}: {row.ratio:.1f}x", flush=True)
    report.figures += bounds(many, size, budget)
    report.write(HERE.parent / "docs" / "points_benchmark" if arguments.docs else None)


if __name__ == "__main__":
    main()
