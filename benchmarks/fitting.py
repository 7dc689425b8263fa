"""Fitting a field to scattered data: a linear solve, beside hundreds of steps of Adam on torch-cubic-spline-grids.

Run it on a quiet machine for the published figures (about five minutes; --docs writes them to docs/), with --quick
while developing.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from _bench import HERE, Case, Figure, Report, interleave, machine, measure
from fields import GRIDS, TCSG, THREADS, use_threads

from gridfield.torch import SplineField

STEPS, RATE = 800, 0.05  # of Adam: what people use, and enough for the residual of least squares, within 2 %
NOISE = 0.1


def scattered(n: int, ndim: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Points in the unit cube, and noisy values of a smooth function there."""
    points = torch.rand(n, ndim)
    waves = torch.sin(points @ torch.linspace(5, 9, ndim)) * torch.cos(7 * points[:, 0])
    return points, (waves + NOISE * torch.randn(n))[:, None]


def rms(field: Any, points: torch.Tensor, values: torch.Tensor) -> float:
    """Root mean square of the residual."""
    with torch.no_grad():
        return float((field(points) - values).square().mean().sqrt())


def adam(shape: tuple[int, ...], points: torch.Tensor, values: torch.Tensor) -> tuple[Any, Callable[[], None]]:
    """A grid of theirs, from zero, and a step of its training."""
    grid = GRIDS[len(shape)](shape)
    optimizer = torch.optim.Adam(grid.parameters(), lr=RATE)

    def step() -> None:
        optimizer.zero_grad()
        (grid(points) - values).square().mean().backward()
        optimizer.step()

    return grid, step


def plane(n: int, steps: int) -> Case:
    """1e5 points, 32 x 32 control points: both until the residual is that of least squares."""
    points, values = scattered(n, 2)

    def ours() -> float:
        return rms(SplineField.fit(points, values, (32, 32)), points, values)

    def theirs() -> float:
        grid, step = adam((32, 32), points, values)
        for _ in range(steps):
            step()
        return rms(grid, points, values)

    return Case(
        f"fit of {n:,} points, 32²", f"{TCSG}, {steps} steps of Adam", 200, ours, theirs, 0.02, least=2,
        note="compared are residuals: they agree within 2 %",
    )  # fmt: skip


def finer(n: int) -> Case:
    """A finer lattice for what is known: exact, against fitting the data again."""
    points, values = scattered(n, 2)
    field = SplineField.fit(points, values, (32, 32))
    return Case(
        "refine 32² to 63²", "fit of the same data on 63²", 1,
        lambda: rms(field.refine(2), points, values),
        lambda: rms(SplineField.fit(points, values, (63, 63)), points, values),
        0.05, note="63² control points fit the noise a little better than the 32² that were refined",
    )  # fmt: skip


def volume(n: int, budget: float) -> list[Figure]:
    """1e6 points, 32^3 control points; of Adam only some steps, as 800 take too long."""
    points, values = scattered(n, 3)
    shape = (32, 32, 32)
    _, step = adam(shape, points, values)
    functions = {
        "fit": lambda: SplineField.fit(points, values, shape),
        "fit with roughness": lambda: SplineField.fit(points, values, shape, roughness=1e-3),
        "step": step,
    }
    for f in functions.values():
        f()
    ms = {k: 1e3 * statistics.median(t) for k, t in interleave(functions, budget).items()}
    info = SplineField.fit(points, values, shape).fit_info
    assert info is not None
    return [
        Figure(f"fit of {n:,} points, 32³", ms["fit"], "ms",
               note=f"{info.iterations} iterations of conjugate gradients, residual {float(info.residual[0]):.4f}"),
        Figure("the same with roughness", ms["fit with roughness"], "ms"),
        Figure(f"one step of Adam on {TCSG}, the same data", ms["step"], "ms"),
        Figure(f"{STEPS} such steps over a fit", STEPS * ms["step"] / ms["fit"], "×",
               note="from the two rows above, not run to the end"),
    ]  # fmt: skip


def main() -> None:
    """Measure everything, and write it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer points, short runs: for development only")
    parser.add_argument("--docs", action="store_true", help="write table and picture to docs/fitting, too")
    arguments = parser.parse_args()
    quick = arguments.quick
    began = time.perf_counter()
    use_threads(THREADS)
    torch.manual_seed(0)
    report = Report(
        "fitting-quick" if quick else "fitting",
        "Fitting scattered data: how many times faster",
        f"Cubic B-splines, float32 data with noise of {NOISE}, {THREADS} threads; Adam at learning rate {RATE} from "
        "zero. Medians of interleaved calls, all compiled and warm.",
        machine(["numpy", "numba", "torch", TCSG, "scipy"]),
    )
    cases = (plane(10_000, 400), finer(100_000)) if quick else (plane(100_000, STEPS), finer(100_000))
    for case in cases:
        report.rows.append(measure(case, 0.5 if quick else 90.0))
        row = report.rows[-1]
        print(f"{time.perf_counter() - began:6.0f} s  {row.case}, {row.peer}: {row.ratio:.1f}x", flush=True)
    for figure in volume(50_000 if quick else 1_000_000, 1.0 if quick else 30.0):
        report.figures.append(figure)
        print(f"{time.perf_counter() - began:6.0f} s  {figure.what}: {figure.value:.4g} {figure.unit}", flush=True)
    report.write(HERE.parent / "docs" / "fitting_benchmark" if arguments.docs else None)


if __name__ == "__main__":
    main()
