"""Elastic deformation: whole images, crops, labels, gradients and batches, beside elasticdeform, SciPy and grid_sample.

Run it on a quiet machine for the published figures (about ten minutes; --docs writes them to docs/), with --quick while
developing.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import elasticdeform
import numpy as np
import scipy.ndimage
import torch
from _bench import HERE, Case, Figure, Report, fresh, interleave, machine, measure
from fields import THREADS, use_threads

import gridfield as gf

ELASTIC, SCIPY, TORCH = "elasticdeform", "scipy.ndimage", "torch grid_sample"
SIGMA = 10.0  # pixels, of the control points; see `sigmas`
Array = np.ndarray[Any, Any]


def noise(shape: tuple[int, ...]) -> Array:
    """Any image: times do not depend on what is on it."""
    return np.random.default_rng(1).normal(size=shape).astype(np.float32)


def displacement(points: int, ndim: int, sigma: float = SIGMA) -> Array:
    """Displacements of control points in pixels."""
    return np.random.default_rng(2).normal(size=(ndim, *[points] * ndim)) * sigma


def dense_coordinates(u: Array, shape: tuple[int, ...]) -> Array:
    """Where each pixel comes from, (ndim, *shape)."""
    return gf.displacement_field(u, shape) + np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"))


# ---- side by side ---------------------------------------------------------------------------------------------------
def whole(size: int, ndim: int, points: int, target: float) -> Case:
    """An image in float32, order 3, mirrored beyond its ends; the spline filter is part of both."""
    x, u = noise((size,) * ndim), displacement(points, ndim)
    return Case(
        f"{size}{'²³'[ndim - 2]}, order 3, {points}{'²³'[ndim - 2]} control points", ELASTIC, target,
        lambda: gf.deform(x, u, boundary="mirror"),
        lambda: elasticdeform.deform_grid(x, u, order=3, mode="mirror"),
        least=2,
    )  # fmt: skip


def image_and_label(size: int) -> Iterator[Case]:
    """An RGB image in uint8 with its labels: linearly, and the nearest."""
    rng = np.random.default_rng(3)
    image = rng.integers(0, 256, (size, size, 3), dtype=np.uint8)
    label = rng.integers(0, 20, (size, size), dtype=np.uint8)
    u = displacement(3, 2)

    def ours() -> Any:
        return tuple(gf.deform([image, label], u, kernel=["linear", "nearest"], boundary="mirror", axis=(0, 1)))

    def theirs() -> Any:
        return tuple(elasticdeform.deform_grid([image, label], u, order=[1, 0], mode="mirror", axis=[(0, 1), (0, 1)]))

    places = dense_coordinates(u, (size, size))

    def by_scipy() -> Any:
        channels = [scipy.ndimage.map_coordinates(image[..., c], places, order=1, mode="mirror") for c in range(3)]
        return np.stack(channels, -1), scipy.ndimage.map_coordinates(label, places, order=0, mode="mirror")

    name = f"{size}² uint8 RGB, order 1, and labels, order 0"
    how = "at equal places a rounded value may differ by 1, and a label where two are equally near"
    yield Case(name, ELASTIC, 40, ours, theirs, 1.0, note=how)
    yield Case(name, f"{SCIPY}, field computed before", 5, ours, by_scipy, 1.0)


def crop(size: int) -> Case:
    """The middle of a volume, half as long along each axis."""
    x, u = noise((size,) * 3), displacement(5, 3)
    part = (slice(size // 4, size // 4 + size // 2),) * 3
    return Case(
        f"{size // 2}³ out of {size}³, order 3", ELASTIC, 100,
        lambda: gf.deform(x, u, boundary="mirror", crop=part),
        lambda: elasticdeform.deform_grid(x, u, order=3, mode="mirror", crop=list(part)),
        least=2,
    )  # fmt: skip


def gradient(size: int) -> Case:
    """Forward, and the gradient in the image."""
    x, u, ct = noise((size,) * 3), displacement(5, 3), noise((size,) * 3)
    return Case(
        f"{size}³, order 3, with the gradient in the image", ELASTIC, 80,
        lambda: (gf.deform(x, u, boundary="mirror"), gf.deform_gradient(ct, x.shape, u, boundary="mirror")[0]),
        lambda: (
            elasticdeform.deform_grid(x, u, order=3, mode="mirror"),
            elasticdeform.deform_grid_gradient(ct, u, order=3, mode="mirror"),
        ),
        least=2,
    )  # fmt: skip


def batch(count: int, size: int) -> Case:
    """Images in torch, each with its own displacement: of control points for us, of every pixel, in the coordinates of
    grid_sample, for the peer."""
    x = torch.from_numpy(noise((count, 1, size, size)))
    u = torch.from_numpy(np.stack([displacement(5, 2, 5.0)] * count).astype(np.float32))
    u += torch.randn(u.shape)
    dense = torch.stack([torch.from_numpy(dense_coordinates(one.double().numpy(), (size, size))) for one in u])
    grid = (2 * dense / (size - 1) - 1).movedim(1, -1).flip(-1).float().contiguous()
    return Case(
        f"{count} × {size}², order 1", f"{TORCH}, field computed before", 1,
        lambda: gf.deform(x, u, kernel="linear", boundary="nearest", axis=(2, 3), batch_axis=0).numpy(),
        lambda: torch.nn.functional.grid_sample(x, grid, padding_mode="border", align_corners=True).numpy(),
    )  # fmt: skip


# ---- by itself ------------------------------------------------------------------------------------------------------
def time_per_voxel(size: int, budget: float) -> Iterator[Figure]:
    """CPU time of one thread, and the wall time of two, at one voxel."""
    x, u = noise((size,) * 3), displacement(5, 3)
    c = gf.prefilter(x)
    functions: dict[str, Callable[[], Any]] = {
        "deform, coefficients given": lambda: gf.deform(c, u, boundary="mirror", prefilter=False),
        "deform, spline filter included": lambda: gf.deform(x, u, boundary="mirror"),
        "elasticdeform": lambda: elasticdeform.deform_grid(x, u, order=3, mode="mirror"),
    }
    for threads, clock in ((1, time.thread_time), (THREADS, time.perf_counter)):
        use_threads(threads)
        if threads > 1:
            del functions["elasticdeform"]
        for f in functions.values():
            f()
        for name, seconds in interleave(functions, budget, least=2, clock=clock).items():
            ns = 1e9 * statistics.median(seconds) / x.size
            yield Figure(f"{size}³ float32, order 3, {threads} thread{'s'[: threads > 1]}: {name}", ns, "ns/voxel")


def memory(quick: bool) -> Iterator[Figure]:
    """Bytes at the peak beyond the image, in images."""
    if sys.platform == "linux":
        size = 128 if quick else 256
        value = fresh("peak_memory_of_deform", size)
        yield Figure(f"peak memory, {size}³ float32, order 3, beyond the image", value, "images", 2.3)


def sigmas(size: int, budget: float) -> list[list[str]]:
    """How the size of displacements matters: memory is read less in order, and a crop needs more of the image."""
    x, part = noise((size,) * 3), (slice(size // 4, size // 4 + size // 2),) * 3
    out = [["σ, pixels", "whole, ms", "crop of an eighth, ms"]]
    for sigma in (1.0, 3.0, 10.0, 25.0):
        u = displacement(5, 3, sigma)
        functions = {
            "whole": lambda u=u: gf.deform(x, u, boundary="mirror"),
            "crop": lambda u=u: gf.deform(x, u, boundary="mirror", crop=part),
        }
        for f in functions.values():
            f()
        times = interleave(functions, budget, least=2)
        out.append([f"{sigma:g}", *(f"{1e3 * statistics.median(t):.0f}" for t in times.values())])
    return out


def main() -> None:
    """Measure everything, and write it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small images, short runs: for development only")
    parser.add_argument("--docs", action="store_true", help="write table and picture to docs/deform_benchmark, too")
    arguments = parser.parse_args()
    quick = arguments.quick
    volume, plane, half, budget = (64, 512, 48, 0.5) if quick else (256, 2048, 128, 12.0)
    began = time.perf_counter()
    use_threads(THREADS)
    torch.manual_seed(0)
    report = Report(
        "deform-quick" if quick else "deform",
        "Elastic deformation: how many times faster",
        f"float32 unless said, control points displaced by {SIGMA:g} pixels (standard deviation), mirrored beyond the "
        f"ends; {THREADS} threads for us and torch, elasticdeform and SciPy have only one. Medians of interleaved "
        "calls, all compiled and warm.",
        machine(["numpy", "numba", "torch", "elasticdeform", "scipy"]),
    )
    cases = (
        whole(volume, 3, 5, 120), whole(plane, 2, 5, 40), *image_and_label(512), crop(volume), gradient(half),
        batch(16, 256),
    )  # fmt: skip
    for case in cases:
        report.rows.append(measure(case, budget))
        row = report.rows[-1]
        print(f"{time.perf_counter() - began:6.0f} s  {row.case}, {row.peer}: {row.ratio:.1f}x", flush=True)
    for figures in (time_per_voxel(volume, budget), memory(quick)):
        for figure in figures:
            report.figures.append(figure)
            print(f"{time.perf_counter() - began:6.0f} s  {figure.what}: {figure.value:.4g} {figure.unit}", flush=True)
    use_threads(THREADS)
    report.tables[f"How far control points move, {volume}³"] = sigmas(volume, budget / 12)
    report.write(HERE.parent / "docs" / "deform_benchmark" if arguments.docs else None)


if __name__ == "__main__":
    main()
