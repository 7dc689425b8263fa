"""Points in masks and smoothing, beside what people use for them today.

Run it on a quiet machine for the published figures (--docs writes them to docs/), with --quick while developing.
"""

from __future__ import annotations

import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import astropy.convolution
import numpy as np
import scipy.ndimage
import scipy.signal
from _bench import HERE, Case, Figure, Report, interleave, machine, measure, options

import gridfield as gf

THREADS = 2
SIZE = 5000  # of the mask


def masks(n: int) -> Iterator[Case]:
    """Points in a prepared mask, with their cells known, which the peer's are, and located first."""
    rng = np.random.default_rng(0)
    mask = rng.random((SIZE, SIZE)) < 0.3
    points = rng.uniform(0, SIZE - 1, (n, 2))
    index, cells = gf.MaskIndex(mask), gf.Grid.pixels(mask.shape).index(points)
    i, j = np.rint(points).astype(np.int64).T.copy()
    points = np.stack([i, j], -1) + rng.uniform(-0.4, 0.4, (n, 2))

    def peer() -> Any:
        return mask[i, j]

    yield Case(f"select {n:,} points in {SIZE}², cells known", "mask[i, j]", 8, lambda: index.select(cells), peer)
    yield Case(
        f"select {n:,} points in {SIZE}², from coordinates", "mask[i, j]", 8, lambda: index.select(points), peer,
        note="the peer has its int indices given; from coordinates it takes `np.rint(points).astype(int)` as well",
    )  # fmt: skip


def smoothing(n: int) -> Iterator[Case]:
    """A volume, whole and with a tenth missing."""
    a = np.random.default_rng(1).normal(size=(n,) * 3)
    _, info = gf.smooth(a, "ball", 6.0, return_info=True)
    kernel = info.kernel
    for dtype in (np.float64, np.float32):
        data, w = a.astype(dtype), kernel.astype(dtype)
        yield Case(
            f"ball radius 6 on {n}³ {np.dtype(dtype).name}", "scipy.signal.fftconvolve", 1.5,
            lambda data=data: gf.smooth(data, "ball", 6.0),
            lambda data=data, w=w: scipy.signal.fftconvolve(data, w, "same"),
            1e-4,
        )  # fmt: skip
    holes = a.copy()
    holes[np.random.default_rng(2).random(a.shape) < 0.1] = np.nan

    def peer() -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return astropy.convolution.convolve_fft(holes, kernel, boundary="fill", nan_treatment="interpolate")

    yield Case(
        f"ball radius 6 on {n}³ float64, 10 % NaN", "astropy.convolution.convolve_fft", 4,
        lambda: gf.smooth(holes, "ball", 6.0), peer, 1e-8, 2,
    )  # fmt: skip
    yield Case(
        f"gaussian sigma 2 on {n}³ float32", "scipy.ndimage.gaussian_filter", 1,
        lambda: gf.smooth(a.astype(np.float32), "gaussian", sigma=2.0),
        lambda: scipy.ndimage.gaussian_filter(a.astype(np.float32), 2.0, mode="constant"),
    )  # fmt: skip


def bounds(n: int, budget: float) -> Iterator[Figure]:
    """One thread beside what memory, or the reads of a vector, allow at least."""
    rng = np.random.default_rng(3)
    mask = rng.random((SIZE, SIZE)) < 0.3
    index, cells = gf.MaskIndex(mask), rng.integers(0, SIZE**2, n)
    bits = np.packbits(mask.reshape(-1))
    octets, out = cells >> 3, np.empty(n, np.uint8)
    gf.set_num_threads(1)
    functions: dict[str, Callable[[], Any]] = {
        "select, cells known, one thread": lambda: index.select(cells),
        "no less than a random read of the same bits (np.take, its octets given)": lambda: np.take(
            bits, octets, out=out, mode="clip"
        ),
    }
    for f in functions.values():
        f()
    for name, seconds in interleave(functions, budget, clock=time.thread_time).items():
        yield Figure(name, 1e9 * statistics.median(seconds) / n, "ns/point")
    gf.set_num_threads(THREADS)


def main() -> None:
    """Measure everything, and write it."""
    arguments = options(__doc__)
    quick = arguments.quick
    budget = 2.0 if quick else 12.0
    began = time.perf_counter()
    gf.set_num_threads(THREADS)
    info = machine(["numpy", "numba", "scipy", "astropy"])
    report = Report(
        "smoothing-quick" if quick else "smoothing",
        "Points in masks and smoothing: how many times faster than the packages in use",
        f"{THREADS} threads; the peers have only one. Masks and kernels are prepared, for all. Medians of interleaved "
        "calls, all compiled and warm.",
        info,
    )
    for cases in (masks(1_000_000), smoothing(128)):
        for case in cases:
            report.rows.append(measure(case, budget))
            row = report.rows[-1]
            print(f"{time.perf_counter() - began:6.0f} s  {row.case}, {row.peer}: {row.ratio:.1f}x", flush=True)
    report.figures.extend(bounds(1_000_000, budget / 2))
    info["minutes"] = round((time.perf_counter() - began) / 60, 1)
    report.write(HERE.parent / "docs" / "smoothing_benchmark" if arguments.docs else None)


if __name__ == "__main__":
    main()
