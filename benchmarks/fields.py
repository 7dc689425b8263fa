"""Fields on grids: sample, its derivatives, on_grid and prefilter, beside the packages that people use for them today.

Run it on a quiet machine for the published figures (under ten minutes; --docs writes them to docs/), with --quick while
developing.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

import numba
import numpy as np
import scipy.ndimage
import torch
import torch_cubic_spline_grids as tcsg
from _bench import HERE, Case, Figure, Report, fresh, interleave, machine, measure
from interpolation.splines import UCGrid, eval_cubic, filter_cubic

import gridfield as gf
from gridfield.torch import SplineField

THREADS = 2
TCSG, SCIPY, ECONFORGE = "torch-cubic-spline-grids", "scipy.ndimage", "interpolation (econforge)"
LOADS, LOADS_A_CYCLE = 26, 2  # of a 3-D cubic gather: 16 of coefficients, 10 of weights and place
GRIDS = {1: tcsg.CubicBSplineGrid1d, 2: tcsg.CubicBSplineGrid2d, 3: tcsg.CubicBSplineGrid3d, 4: tcsg.CubicBSplineGrid4d}


def use_threads(n: int) -> None:
    """As many threads for everyone."""
    torch.set_num_threads(n)
    numba.set_num_threads(min(n, numba.config.NUMBA_NUM_THREADS))
    gf.set_num_threads(n)


# ---- side by side ---------------------------------------------------------------------------------------------------
def fields(shape: tuple[int, ...], channels: int = 1) -> tuple[SplineField, Any]:
    """The same random control points in our module and in theirs."""
    data = torch.randn(channels, *shape)
    ours, theirs = SplineField(shape, channels), GRIDS[len(shape)](shape, n_channels=channels)
    with torch.no_grad():
        ours.coefficients.copy_(data)
    theirs.data = data.clone()
    return ours, theirs


def forward(f: Callable[..., Any], *args: Any) -> Callable[[], Any]:
    """A call without gradients."""

    def run() -> Any:
        with torch.no_grad():
            return f(*args)

    return run


def training_step(field: Any, points: torch.Tensor, cotangent: torch.Tensor) -> Callable[[], Any]:
    """The field at the points, and the gradients in its control points and in the points."""
    (parameter,), x = field.parameters(), points.clone().requires_grad_()

    def run() -> Any:
        parameter.grad = x.grad = None
        y = field(x)
        y.backward(cotangent)
        return y.detach(), parameter.grad, x.grad

    return run


def spline_fields(n: int) -> Iterator[Case]:
    """Learnable fields, at random points."""
    for nd, target in ((3, 100), (1, 15), (2, 50), (4, 100)):
        ours, theirs = fields((10,) * nd)
        x = torch.rand(n, nd)
        yield Case(f"{nd}-D forward", TCSG, target, forward(ours, x), forward(theirs, x))
        if nd == 3:
            ct = torch.randn(n, 1)
            both = training_step(ours, x, ct), training_step(theirs, x, ct)
            yield Case("3-D forward + backward", TCSG, 100, *both)
    (ours, theirs), x, ct = fields((5, 10, 10), 3), torch.rand(n, 3), torch.randn(n, 3)
    both = training_step(ours, x, ct), training_step(theirs, x, ct)
    yield Case("3 channels 5×10×10 forward + backward", TCSG, 100, *both)


def interpolators(n: int) -> Iterator[Case]:
    """Values of a prefiltered volume at random points, float64."""
    rng = np.random.default_rng(1)
    for size in (10, 64):
        volume, x = rng.normal(size=(size,) * 3), rng.uniform(0, size - 1, (n, 3))
        c, columns = gf.prefilter(volume), np.ascontiguousarray(x.T)
        yield Case(
            f"3-D forward float64, {size}³", SCIPY, 30,
            lambda c=c, x=x: gf.sample(c, x, prefilter=False),
            lambda c=c, x=columns: scipy.ndimage.map_coordinates(c, x, order=3, mode="mirror", prefilter=False),
            1e-10,
        )  # fmt: skip
        grid = UCGrid(*((0.0, size - 1.0, size),) * 3)
        c, padded = gf.prefilter(volume, boundary="natural"), filter_cubic(grid, volume)
        yield Case(
            f"3-D forward float64, {size}³", ECONFORGE, 3,
            lambda c=c, x=x: gf.sample(c, x, boundary="natural", prefilter=False),
            lambda c=padded, x=x, grid=grid: eval_cubic(grid, c, x),
            1e-10,
        )  # fmt: skip


def whole_grids(size: int) -> Iterator[Case]:
    """All voxels of a volume."""
    (ours, theirs), shape = fields((10, 10, 10)), (size,) * 3
    x = torch.from_numpy(gf.Grid(shape).coords()).float().reshape(-1, 3)
    yield Case(
        f"on_grid 10³ → {size}³", TCSG, 500, forward(ours.on_grid, shape), forward(theirs, x), least=2,
        note="all voxels; made before: the peer's coordinates, our matrices of basis functions (kept between calls)",
    )  # fmt: skip
    volume = np.random.default_rng(2).normal(size=(size,) * 3).astype(np.float32)
    yield Case(
        f"prefilter {size}³ float32", SCIPY, 30,
        lambda: gf.prefilter(volume),
        lambda: scipy.ndimage.spline_filter(volume, 3, output=np.float32, mode="mirror"),
    )  # fmt: skip


# ---- by itself ------------------------------------------------------------------------------------------------------
def time_per_point(n: int, budget: float, ghz: float) -> Iterator[Figure]:
    """Thread CPU time of one thread at one point, beside what loading the coefficients takes at least."""
    rng = np.random.default_rng(3)
    grid = gf.Grid((10, 10, 10))
    c, x, y = (rng.random(s).astype(np.float32) for s in (grid.shape, (n, 3), n))
    orders = [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)]
    how: Any = {"grid": grid, "boundary": "natural"}
    functions = {
        "sample": lambda: gf.sample(c, x, prefilter=False, **how),
        "sample, value + gradient": lambda: gf.sample(c, x, prefilter=False, derivative=orders, **how),
        "splat": lambda: gf.splat(y, x, kernel="cubic", **how),
    }
    use_threads(1)
    for f in functions.values():
        f()
    for name, seconds in interleave(functions, budget, clock=time.thread_time).items():
        what = f"{name}, 3-D cubic float32, one thread"
        yield Figure(what, 1e9 * statistics.median(seconds) / n, "ns/point")
        if name == "sample":
            bound = LOADS / LOADS_A_CYCLE / ghz
            yield Figure(f"no less than {LOADS} loads, {LOADS_A_CYCLE} a cycle at {ghz:.2f} GHz", bound, "ns/point")
    use_threads(THREADS)


def overhead(budget: float) -> Iterator[Figure]:
    """A call with ten points."""

    class Empty(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, values: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
            return points[:, :1]

        @staticmethod
        def backward(ctx: Any, ct: torch.Tensor) -> Any:
            return None, None

    ours, theirs = fields((10, 10, 10))
    grid, c = ours.grid, ours.coefficients.detach().numpy()[0]
    x, ct = torch.rand(10, 3), torch.randn(10, 1)
    points, wanting = x.numpy(), x.clone().requires_grad_()
    cases: list[tuple[str, float | None, Callable[[], Any]]] = [
        ("gf.sample on NumPy arrays", 25, lambda: gf.sample(c, points, grid=grid, boundary="natural", prefilter=False)),
        ("SplineField under no_grad", 25, forward(ours, x)),
        ("SplineField forward + backward", 100, training_step(ours, x, ct)),
        ("an empty autograd.Function, forward + backward", None,
         lambda: Empty.apply(ours.coefficients, wanting).backward(ct)),
        (f"{TCSG} under no_grad", None, forward(theirs, x)),
        (f"{TCSG} forward + backward", None, training_step(theirs, x, ct)),
    ]  # fmt: skip
    for _, _, f in cases:
        for _ in range(10):
            f()
    times = interleave({name: f for name, _, f in cases}, budget)
    for name, limit, _ in cases:
        yield Figure(f"10 points: {name}", 1e6 * statistics.median(times[name]), "µs", limit)


def memory(quick: bool) -> Iterator[Figure]:
    """Bytes per point at the peak, of which 12 are coordinates and 4 the result."""
    if sys.platform != "linux":
        return
    for backward in (False, True):
        what = "forward + backward" if backward else "forward"
        for package, n, limit in (("gridfield", 4_000_000, 3 * 16), (TCSG, 1_000_000, None)):
            n = n // 4 if quick else n
            if package == TCSG and not backward:
                n *= 4  # it takes a million points at a time
            note = "coordinates and result included; limit: three times these" if limit and not backward else ""
            value = fresh("peak_memory", package, backward, n)
            yield Figure(f"peak memory, 3-D {what}, {n:,} points: {package}", value, "bytes/point", limit, note)


def compiling(report: Report, quick: bool) -> Iterator[Figure]:
    """How long kernels take to come from the compiler, and from the cache."""
    ndims = [1, 3] if quick else [1, 2, 3, 4]
    with tempfile.TemporaryDirectory() as folder:
        runs = [fresh("compile_times", ndims, ["float32", "float64"], GRIDFIELD_CACHE_DIR=folder) for _ in range(2)]
    for (when, limit), run in zip((("compiling", 1000), ("loading", 10)), runs, strict=True):
        took = {(k["ndim"], k["dtype"], k["kind"]): 1e3 * k["seconds"] for k in run["kernels"]}
        kinds = list(dict.fromkeys(kind for _, _, kind in took))
        report.tables[f"Milliseconds of {when} a kernel"] = [
            ["cubic", *kinds],
            *(
                [f"{nd}-D {dtype}", *(f"{took[nd, dtype, kind]:.1f}" for kind in kinds)]
                for nd in ndims
                for dtype in ("float32", "float64")
            ),
        ]
        slowest = max(took, key=lambda k: took[k])
        yield Figure(
            f"{when} a kernel, the slowest ({slowest[0]}-D {slowest[1]} {slowest[2]})", took[slowest], "ms", limit
        )
        yield Figure(f"{when} a kernel, median of {len(took)}", statistics.median(took.values()), "ms", limit)
        yield Figure(f"{when}: the first call of a process", 1e3 * run["start"], "ms")


def main() -> None:
    """Measure everything, and write it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer points, short runs: for development only")
    parser.add_argument("--docs", action="store_true", help="write table and picture to docs/benchmarks, too")
    arguments = parser.parse_args()
    quick = arguments.quick
    n, size, budget = (100_000, 64, 0.5) if quick else (1_000_000, 256, 12.0)
    began = time.perf_counter()
    use_threads(THREADS)
    torch.manual_seed(0)
    info = machine(["numpy", "numba", "torch", TCSG, "scipy", "interpolation"])
    report = Report(
        "fields-quick" if quick else "fields",
        "Fields on grids: how many times faster than the packages in use",
        f"Cubic B-splines, 10 control points per axis, {n:,} random points, float32, {THREADS} threads, unless said "
        "otherwise; SciPy's map_coordinates and spline_filter and econforge's eval_cubic have only one. Sampling is of "
        "control points or prefiltered coefficients, for all. Medians of interleaved calls, all compiled and warm.",
        info,
    )
    for cases in (spline_fields(n), interpolators(n), whole_grids(size)):
        for case in cases:
            report.rows.append(measure(case, budget))
            row = report.rows[-1]
            print(f"{time.perf_counter() - began:6.0f} s  {row.case}, {row.peer}: {row.ratio:.1f}x", flush=True)
    figures = (
        time_per_point(n, budget / 4, info["clock_ghz"]), overhead(budget / 2), memory(quick), compiling(report, quick)
    )  # fmt: skip
    for some in figures:
        for figure in some:
            report.figures.append(figure)
            print(f"{time.perf_counter() - began:6.0f} s  {figure.what}: {figure.value:.4g} {figure.unit}", flush=True)
    info["minutes"] = round((time.perf_counter() - began) / 60, 1)
    report.write(HERE.parent / "docs" / "benchmarks" if arguments.docs else None)


if __name__ == "__main__":
    main()
