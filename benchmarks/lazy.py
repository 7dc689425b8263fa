"""Three gigabytes in zarr, correlated by dask; beside reading the same zarr and summing it.

    python benchmarks/lazy.py [--quick] [--docs]

A made array (35, 2000, 60, 180) of float32, written block by block to a folder of its own and removed afterwards. One
series is correlated with each of its 378,000, after a linear trend and a rolling mean of 360 of both are taken. Each
measurement is a process of its own, with two threads; its peak memory is what the system says it was (VmHWM: ru_maxrss
is handed on by the process that starts another). The files are in the memory of the system, as they are after writing:
what is timed is decompression and arithmetic. Some of the correlations are compared with SciPy and NumPy first. Writes
text, JSON, Markdown and a picture to benchmarks/results (with --docs also to docs/), with --quick while developing.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from _bench import HERE, Figure, Report, Row, machine

THREADS, WINDOW = 2, 360
CHUNKS = {"chunks of 500 samples": (1, 500, 60, 180), "whole series in a chunk": (1, 2000, 60, 180)}
PEAK = 1000.0  # MB


def write(folder: Path, shape: tuple[int, ...], chunks: tuple[int, ...]) -> None:
    """A trend, a season, and noise of the precision of an instrument: it compresses as measurements do."""
    import zarr

    array = zarr.create_array(str(folder), shape=shape, chunks=chunks, dtype=np.float32)
    rng = np.random.default_rng(0)
    for i in range(shape[0]):
        phase = 6 * rng.random(shape[2:])
        for start in range(0, shape[1], chunks[1]):
            block = np.empty((min(chunks[1], shape[1] - start), *shape[2:]), np.float32)
            for k in range(len(block)):
                t = start + k
                season = 10 * np.sin(2 * np.pi * t / 365 + phase)
                block[k] = np.round(280 + 0.01 * t + season + rng.standard_normal(shape[2:], np.float32), 2)
            array[i, start : start + len(block)] = block


def index(n: int) -> np.ndarray:
    """The series that all are correlated with."""
    return np.random.default_rng(1).normal(size=n).cumsum()


def window(n: int) -> int:
    """Of the rolling mean."""
    return min(WINDOW, n // 4)


def difference(folder: Path) -> float:
    """The greatest from the long way, of some series."""
    import dask.array as da
    from scipy.signal import detrend

    import gridfield as gf

    y = da.from_zarr(str(folder))[0, :, :2, :3]
    n, w = y.shape[0], window(y.shape[0])

    def prepared(z: np.ndarray) -> np.ndarray:
        sums = np.cumsum(np.concatenate([np.zeros((1, *z.shape[1:])), detrend(z, 0)]), 0)
        return (sums[w:] - sums[:-w]) / w

    x, z = prepared(index(n)), prepared(y.compute().astype(np.float64))
    x, z = x - x.mean(), z - z.mean(0)
    theirs = np.tensordot(x, z, 1) / np.sqrt((x @ x) * (z * z).sum(0))
    return float(np.abs(gf.corr(index(n), y, 0, detrend="linear", window=w).compute() - theirs).max())


def child(what: str, folder: str) -> dict[str, float]:
    """One measurement: seconds, of a second run in the process (the first compiles), and the peak in MB."""
    import dask
    import dask.array as da

    import gridfield as gf

    gf.set_num_threads(1)  # dask has the threads
    y = da.from_zarr(folder)
    x, w = index(y.shape[1]), window(y.shape[1])

    def run(y: Any) -> Any:
        if what == "sum":
            return y.sum(dtype=np.float64).compute()
        return gf.corr(x, y, axis=1, detrend="linear", window=w).compute()

    with dask.config.set(scheduler="threads", num_workers=THREADS):
        run(y[:1])
        start = time.perf_counter()
        out = run(y)
        seconds = time.perf_counter() - start
    return {"seconds": seconds, "peak": peak(), "check": float(np.nansum(out))}


def peak() -> float:
    """MB."""
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6  # in bytes, where there is no /proc
    return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmHWM")) / 1000


def measured(what: str, folder: Path) -> dict[str, float]:
    """In a process of its own."""
    command = [sys.executable, __file__, "--child", what, str(folder)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def compare(report: Report, name: str, folder: Path, rounds: int, size: float) -> None:
    """Rows and figures of one layout, calls in turn."""
    found: dict[str, list[dict[str, float]]] = {"sum": [], "corr": []}
    for _ in range(rounds):
        for what in found:
            found[what].append(measured(what, folder))
    ms = {what: [1e3 * r["seconds"] for r in runs] for what, runs in found.items()}
    quartiles = {what: np.quantile(times, (0.25, 0.75)).tolist() for what, times in ms.items()}
    peer, ours = statistics.median(ms["sum"]), statistics.median(ms["corr"])
    report.rows.append(
        Row(f"corr of {size:.2g} GB in zarr, {name}", "reading and summing it", peer, ours, 1 / 1.5, difference(folder),
            quartiles["sum"], quartiles["corr"], rounds, rounds, f"{ours / peer:.2f} times as long as the sum")
    )  # fmt: skip
    for what, label in (("corr", "corr"), ("sum", "the sum")):
        peak = max(r["peak"] for r in found[what])
        report.figures.append(Figure(f"peak memory of {label}, {name}", peak, "MB", PEAK if what == "corr" else None))


def main() -> None:
    """Measure everything, and write it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a thirtieth of the data, one round")
    parser.add_argument("--docs", action="store_true", help="write docs/lazy_benchmark.md and .png, too")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(child(*options.child)))
        return
    shape = (2, 1000, 60, 180) if options.quick else (35, 2000, 60, 180)
    size, rounds = 4e-9 * np.prod(shape), 1 if options.quick else 3
    report = Report(
        "lazy-quick" if options.quick else "lazy", "Larger than memory: correlation from zarr by dask",
        f"{shape} float32, {size:.2g} GB; one series with each of the others after a linear trend and a rolling mean "
        f"of {WINDOW}; {THREADS} threads of dask. Medians of {rounds} runs, each in a process of its own.",
        machine(["numpy", "numba", "dask", "zarr"]),
    )  # fmt: skip
    for name, chunks in CHUNKS.items():
        with tempfile.TemporaryDirectory() as folder:
            write(Path(folder) / "y.zarr", shape, tuple(map(min, chunks, shape)))
            compare(report, name, Path(folder) / "y.zarr", rounds, size)
    report.write(HERE.parent / "docs" / "lazy_benchmark" if options.docs else None)


if __name__ == "__main__":
    main()
