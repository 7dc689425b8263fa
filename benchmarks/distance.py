"""Distances of all pairs and nearest points, beside SciPy and torch.

Run it on a quiet machine for the published figures (--docs writes them to docs/), with --quick while developing.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from _bench import HERE, Case, Figure, Report, interleave, machine, measure, options
from scipy.spatial.distance import cdist

import gridfield as gf

THREADS = 2
TILE = 1000  # rows that torch.cdist gets at a time: 200 MB in float32


def spread(rng: np.random.Generator, d: int) -> np.ndarray:
    """A covariance."""
    a = rng.normal(size=(d, d))
    return a @ a.T + np.eye(d)


def matrices(m: int) -> Iterator[Case]:
    """Mahalanobis distances, into memory of their own and into memory that is there."""
    rng = np.random.default_rng(0)
    for d, target in ((2, 25), (16, 10)):
        x, cov = rng.normal(size=(m, d)), spread(rng, d)
        inverse, out, theirs = np.linalg.inv(cov), np.empty((m, m)), np.empty((m, m))
        what, peer = f"cdist, full weight, {m:,} points, d = {d}", "scipy cdist mahalanobis"
        yield Case(
            what, peer, target,
            lambda x=x, cov=cov: gf.cdist(x, cov=cov),
            lambda x=x, inverse=inverse: cdist(x, x, "mahalanobis", VI=inverse),
            1e-10,
        )  # fmt: skip
        yield Case(
            f"{what}, with out=", peer, target,
            lambda x=x, cov=cov, out=out: gf.cdist(x, cov=cov, out=out),
            lambda x=x, inverse=inverse, theirs=theirs: cdist(x, x, "mahalanobis", VI=inverse, out=theirs),
            1e-10,
        )  # fmt: skip


def nearest(n: int) -> Iterator[Case]:
    """The nearest of as many points, in single precision; compared by the distances."""
    rng = np.random.default_rng(1)
    x, y = (torch.as_tensor(rng.normal(size=(n, 3)).astype(np.float32)) for _ in range(2))

    def distances(where: torch.Tensor) -> np.ndarray:
        return (x - y[where]).double().norm(dim=1).numpy()

    def theirs() -> Any:
        return distances(torch.cat([torch.cdist(rows, y).argmin(1) for rows in x.split(TILE)]))

    yield Case(
        f"pairwise argmin, {n:,} × {n:,}, d = 3", f"torch.cdist, {TILE} rows at a time", 3,
        lambda: distances(gf.pairwise(x, y).argmin(1)), theirs, 1e-2,
        note="torch.cdist computes products, and may pick a point that is not the nearest",
    )  # fmt: skip


def bandwidth(m: int, budget: float) -> Iterator[Figure]:
    """What share of the speed of plain writes is reached, one thread."""
    rng = np.random.default_rng(2)
    gf.set_num_threads(1)
    out, xs, cov = np.empty((m, m)), [rng.normal(size=(m, d)) for d in (2, 16)], [spread(rng, d) for d in (2, 16)]
    functions = {
        "fill": lambda: out.fill(1.0),
        "fill, fresh": lambda: np.empty((m, m)).fill(1.0),
        "cdist, d = 2, with out=": lambda: gf.cdist(xs[0], cov=cov[0], out=out),
        "cdist, d = 2": lambda: gf.cdist(xs[0], cov=cov[0]),
        "cdist, squared, d = 2, with out=": lambda: gf.cdist(xs[0], cov=cov[0], squared=True, out=out),
        "cdist, d = 16, with out=": lambda: gf.cdist(xs[1], cov=cov[1], out=out),
    }
    for f in functions.values():
        f()
    times = {k: statistics.median(v) for k, v in interleave(functions, budget, clock=time.thread_time).items()}
    gf.set_num_threads(THREADS)
    yield Figure("ndarray.fill of a matrix that is there, one thread", 8e-9 * m * m / times["fill"], "GB/s")
    yield Figure("ndarray.fill of a new matrix, one thread", 8e-9 * m * m / times["fill, fresh"], "GB/s")
    for name, seconds in times.items():
        if "cdist" in name:
            base = times["fill" if "out" in name else "fill, fresh"]
            yield Figure(f"{name}: share of that, one thread", 100 * base / seconds, "%")


def main() -> None:
    """Measure everything, and write it."""
    arguments = options(__doc__)
    quick = arguments.quick
    budget = 2.0 if quick else 10.0
    began = time.perf_counter()
    gf.set_num_threads(THREADS)
    torch.set_num_threads(THREADS)
    info = machine(["numpy", "numba", "scipy", "torch"])
    report = Report(
        "distance-quick" if quick else "distance",
        "Distances: how many times faster than the packages in use",
        f"{THREADS} threads; SciPy has only one. Medians of interleaved calls, all compiled and warm.",
        info,
    )
    for cases in (matrices(5000), nearest(50_000)):
        for case in cases:
            report.rows.append(measure(case, budget))
            row = report.rows[-1]
            print(f"{time.perf_counter() - began:6.0f} s  {row.case}, {row.peer}: {row.ratio:.1f}x", flush=True)
    report.figures.extend(bandwidth(5000, budget))
    info["minutes"] = round((time.perf_counter() - began) / 60, 1)
    report.write(HERE.parent / "docs" / "distance_benchmark" if arguments.docs else None)


if __name__ == "__main__":
    main()
