"""Non-uniform FFTs: transforms, their gradients, batches and a training step, beside finufft, ducc0, pytorch-finufft.

Run it on a quiet machine for the published figures (about ten minutes; --docs writes them to docs/), with --quick
while developing; --only TEXT takes the cases whose names hold it.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from math import pi, prod
from typing import Any

import ducc0
import finufft
import numpy as np
import pytorch_finufft.functional
import torch
from _bench import HERE, Case, Figure, Report, fresh, interleave, machine, measure, significant
from fields import THREADS, use_threads

import gridfield as gf
from gridfield.torch import PointConvolution

EPS = 1e-6
REUSED, DUCC, TORCH = "finufft, plan reused, fftw=0", "ducc0", "pytorch-finufft"
Array = np.ndarray[Any, Any]
Cases = Iterator[tuple[int, Case]]  # with the number of threads


def problem(shape: tuple[int, ...], n: int, kind: str, batch: int = 0) -> tuple[Array, Array, Array]:
    """Points in no order, values at them, modes."""
    rng, lead, real = np.random.default_rng(1), (batch,) * bool(batch), np.dtype(kind).char.lower()
    x = (2 * pi * rng.random((*lead, n, len(shape)))).astype(real)
    c, f = (rng.normal(size=(*lead, *s, 2)).view(complex)[..., 0].astype(kind) for s in ((n,), shape))
    return x, c, f


def plan(type_: int, shape: tuple[int, ...], kind: str, threads: int, n_trans: int = 1) -> finufft.Plan:
    """As one who calls it often would make it."""
    sign = -1 if type_ == 1 else 1
    return finufft.Plan(type_, shape, n_trans, EPS, sign, kind, nthreads=threads, fftw=0)


def columns(x: Array) -> list[Array]:
    """Points as finufft takes them, made beforehand."""
    return [np.ascontiguousarray(column) for column in x.T]


def named(shape: tuple[int, ...], n: int, kind: str) -> str:
    """A problem in a few words."""
    return f"{shape[0]}{' ²³'[len(shape) - 1]}, N = {n:,}, {kind}"


# ---- side by side ---------------------------------------------------------------------------------------------------
def transforms(shape: tuple[int, ...], n: int, kind: str, target: float, duccs: float | None = None) -> Cases:
    """Types 1 and 2. Points are new in every call: finufft's setpts is counted, as is our sorting."""
    x, c, f = problem(shape, n, kind)
    xs, name = columns(x), named(shape, n, kind)
    for threads, type_ in itertools.product((1, THREADS), (1, 2)):
        p, data = plan(type_, shape, kind, threads), c if type_ == 1 else f

        def theirs(p: Any = p, data: Array = data) -> Array:
            p.setpts(*xs)
            return p.execute(data)

        def ours(type_: int = type_) -> Array:
            return gf.nufft1(x, c, shape, eps=EPS) if type_ == 1 else gf.nufft2(x, f, eps=EPS)

        def by_ducc(type_: int = type_, threads: int = threads, out: Array = np.empty(shape, kind)) -> Array:  # noqa: B008
            how: Any = {"coord": x, "epsilon": EPS, "nthreads": threads}
            if type_ == 1:
                return ducc0.nufft.nu2u(points=c, forward=True, out=out, **how)
            return ducc0.nufft.u2nu(grid=f, forward=False, **how)

        case = Case(f"type {type_}, {name}", REUSED, target, ours, theirs)
        yield threads, case
        if duccs:
            yield threads, replace(case, peer=DUCC, target=duccs, theirs=by_ducc)


def value_and_gradient(shape: tuple[int, ...], n: int, kind: str, target: float) -> Cases:
    """The value of type 2 and a gradient in the points: by autograd, and by hand from three more sets of modes."""
    x, w, f = problem(shape, n, kind)
    xs, ndim = columns(x), len(shape)
    ks = np.meshgrid(*(np.arange(m) - m // 2 for m in shape), indexing="ij")
    ramps = 1j * np.stack([np.ones(shape), *ks]).astype(kind)
    ramps[0] = 1
    leaf, modes, weights = torch.from_numpy(x).requires_grad_(), torch.from_numpy(f), torch.from_numpy(w)

    def ours() -> Any:
        leaf.grad = None
        y = gf.nufft2(leaf, modes, eps=EPS)
        y.backward(weights)
        return y.detach().numpy(), leaf.grad.numpy()

    for threads in (1, THREADS):
        p = plan(2, shape, kind, threads, 1 + ndim)

        def theirs(p: Any = p) -> Any:
            p.setpts(*xs)
            y, *slopes = p.execute(ramps * f)
            return y, np.stack([(w.conj() * s).real for s in slopes], -1)

        yield threads, Case(f"value + gradient in points, {named(shape, n, kind)}", f"finufft, n_trans={1 + ndim}",
                            target, ours, theirs)  # fmt: skip


def toeplitz(shape: tuple[int, ...], n: int, kind: str, target: float) -> Cases:
    """Type 2, then type 1, at points that stay; on both sides all that depends on the points alone is made before."""
    x, _, f = problem(shape, n, kind)
    operator = gf.Nufft(x, shape, eps=EPS)
    operator.normal(f)
    for threads in (1, THREADS):
        there, back = (plan(t, shape, kind, threads) for t in (2, 1))
        for p in (there, back):
            p.setpts(*columns(x))

        def theirs(there: Any = there, back: Any = back) -> Array:
            return back.execute(there.execute(f))

        yield threads, Case(f"normal operator, {named(shape, n, kind)}", f"{REUSED}, points set before", target,
                            lambda: operator.normal(f), theirs)  # fmt: skip


def batches(count: int, shape: tuple[int, ...], n: int, target: float) -> Cases:
    """Every item has its own points: one call, and a loop of simple calls."""
    kind = "complex128"
    x, c, f = problem(shape, n, kind, count)
    rows = [[np.ascontiguousarray(column) for column in item.T] for item in x]
    for threads in (1, THREADS):

        def one(threads: int = threads) -> Array:
            return np.stack([
                finufft.nufft2d1(*xs, v, shape, isign=-1, eps=EPS, nthreads=threads)
                for xs, v in zip(rows, c, strict=True)
            ])  # fmt: skip

        def two(threads: int = threads) -> Array:
            return np.stack([
                finufft.nufft2d2(*xs, m, isign=1, eps=EPS, nthreads=threads) for xs, m in zip(rows, f, strict=True)
            ])  # fmt: skip

        name, peer = f"{count} sets of points, {named(shape, n, kind)}", f"finufft, {count} calls"
        yield threads, Case(f"type 1, {name}", peer, target, lambda: gf.nufft1(x, c, shape, eps=EPS), one)
        yield threads, Case(f"type 2, {name}", peer, target, lambda: gf.nufft2(x, f, eps=EPS), two)


def training(targets: tuple[float, float]) -> Cases:
    """A Fourier kernel learned from a few fresh points in every step: forward, backward, AdamW.

    Points and what their convolution with a Gaussian should be are drawn beforehand, for both.
    """
    shape, n, sigma, count = (128, 128), 20, 0.5, 64
    draws = torch.Generator().manual_seed(0)
    x = 2 * pi * torch.rand(count, n, 2, generator=draws, dtype=torch.float64)
    c = torch.randn(count, n, generator=draws, dtype=torch.float64).to(torch.complex128)
    apart = torch.remainder(x[:, :, None] - x[:, None] + pi, 2 * pi) - pi
    wanted = torch.einsum("bij,bj->bi", torch.exp(-apart.square().sum(-1) / (2 * sigma**2)).to(c), c)
    start = torch.randn(shape, generator=draws, dtype=torch.complex128) / prod(shape)
    theirs = pytorch_finufft.functional

    def by_them(points: Any, values: Any, kernel: Any, **how: Any) -> Any:
        modes = theirs.finufft_type1(points, values, shape, modeord=0, eps=EPS, **how)
        return theirs.finufft_type2(points, kernel * modes, isign=1, modeord=0, eps=EPS, **how)

    def by_layer() -> Callable[[], Any]:
        layer = PointConvolution(shape, real=False, eps=EPS, dtype=torch.float64)
        with torch.no_grad():
            layer.fourier_kernel[0, 0] = torch.fft.ifftshift(start) * prod(shape)
        return step(lambda points, values, _: layer(points, values), x, layer.fourier_kernel)

    def by_functions(points: Any, values: Any, kernel: Any) -> Any:
        return gf.nufft2(points, kernel * gf.nufft1(points, values, shape, eps=EPS), eps=EPS)

    def step(convolve: Callable[..., Any], points: Any, kernel: Any = None, **how: Any) -> Callable[[], Any]:
        kernel = start.clone().requires_grad_() if kernel is None else kernel
        optimiser, turn = torch.optim.AdamW([kernel], lr=0.005, weight_decay=0.001), itertools.cycle(range(count))

        def run() -> Any:
            i = next(turn)
            optimiser.zero_grad()
            found = convolve(points[i], c[i], kernel, **how)
            loss = (found - wanted[i]).abs().square().mean()
            loss.backward()
            optimiser.step()
            loss.item()
            return found.detach().numpy()

        return run

    name, across = "training step, 128², N = 20, complex128", x.movedim(-1, 1).contiguous()
    for threads, peer, target, how in (
        (THREADS, f"{TORCH}, as shipped", targets[0], {}),
        (1, f"{TORCH}, nthreads=1", targets[1], {"nthreads": 1}),
    ):
        yield threads, Case(f"{name}, PointConvolution", peer, target, by_layer(), step(by_them, across, **how))
        with_functions = step(by_functions, x), step(by_them, across, **how)
        yield threads, Case(f"{name}, nufft1 and nufft2", peer, target, *with_functions)


def cases(quick: bool) -> Cases:
    """All of them; made one by one, as the large ones need memory."""
    many, plane, cube = (20_000, (256,) * 2, (32,) * 3) if quick else (1_000_000, (1024,) * 2, (64,) * 3)
    yield from training((20, 5))
    for n, kind in itertools.product((1_000, 10_000, 100_000), ("complex64", "complex128")):
        yield from transforms((128, 128), n, kind, 1.4)
    for shape, kind in itertools.product((plane, cube), ("complex64", "complex128")):
        yield from transforms(shape, many, kind, 2, 1.5)
    for kind in ("complex64", "complex128"):
        yield from value_and_gradient(cube, many, kind, 3)
    if hasattr(gf, "Nufft"):
        for kind in ("complex64", "complex128"):
            yield from toeplitz(cube, many, kind, 10)
    else:
        print("         left out: the normal operator (there is no gf.Nufft)", flush=True)
    yield from batches(32, (64, 64), 2000, 2)


# ---- by itself ------------------------------------------------------------------------------------------------------
def two_threads(budget: float) -> list[list[str]]:
    """Where they begin to help."""
    shape, kind, counts = (128, 128), "complex128", (1_000, 5_000, 20_000, 100_000, 400_000)
    out = [["128², complex128", *(f"N = {n:,}" for n in counts)]]

    def on(threads: int, f: Callable[..., Any], *args: Any) -> Any:
        gf.set_num_threads(threads)
        return f(*args, eps=EPS)

    for type_ in (1, 2):
        row = [f"type {type_}: {THREADS} threads beside one"]
        for n in counts:
            x, c, f = problem(shape, n, kind)
            call = (gf.nufft1, x, c, shape) if type_ == 1 else (gf.nufft2, x, f)
            functions = {str(threads): functools.partial(on, threads, *call) for threads in (1, THREADS)}
            for function in functions.values():
                function()
            one, two = (statistics.median(t) for t in interleave(functions, budget).values())
            row.append(f"{one / two:.2f}×")
        out.append(row)
    return out


def compiling() -> Iterator[Figure]:
    """The first call of a process, less what a call in one dimension costs that starts the compiler."""
    with tempfile.TemporaryDirectory() as folder:
        for when, limit in (("compiled", 2.0), ("from the cache", 0.3)):
            seconds = fresh("first_nufft", 3, EPS, GRIDFIELD_CACHE_DIR=folder)
            yield Figure(f"first call of type 2 in 3-D, {when}", seconds, "s", limit)


def large(size: int = 512, n: int = 100_000) -> None:
    """Errors of both types at size**3 modes, complex64, beside direct sums of some outputs; takes 16 GB."""
    x, c, f = problem((size,) * 3, n, "complex64")
    exact, k = x.astype(float), np.arange(size) - size // 2

    def compare(name: str, seconds: float, got: Array, expected: Array) -> None:
        wrong = np.linalg.norm(got - expected) / np.linalg.norm(expected)
        print(f"{name}, {size}³, N = {n:,}: {seconds:.1f} s, relative error of {len(got)} outputs {wrong:.1e}")

    began = time.perf_counter()
    values, seconds = gf.nufft2(x, f, eps=EPS), time.perf_counter() - began
    sums = []
    for point in exact[:12]:
        first, second, third = (np.exp(1j * k * u) for u in point)
        sums.append(sum(a * ((plane @ third) @ second) for a, plane in zip(first, f, strict=True)))
    compare("type 2", seconds, values[:12], np.array(sums))
    del f, values
    began = time.perf_counter()
    modes, seconds = gf.nufft1(x, c, (size,) * 3, eps=EPS), time.perf_counter() - began
    some = np.random.default_rng(2).integers(size, size=(200, 3))
    sums = [c @ np.exp(-1j * (exact @ (i - size // 2))) for i in some]
    compare("type 1", seconds, modes[tuple(some.T)], np.array(sums))


def main() -> None:
    """Measure everything, and write it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small problems, short runs: for development only")
    parser.add_argument("--docs", action="store_true", help="write table and picture to docs/nufft_benchmark, too")
    parser.add_argument("--only", default="", metavar="TEXT", help="the cases whose names hold this; no figures")
    parser.add_argument("--large", action="store_true", help="only errors at 512³, complex64, which takes 16 GB")
    arguments = parser.parse_args()
    if arguments.large:
        return large()
    quick = arguments.quick
    budget = 0.5 if quick else 4.0
    began = time.perf_counter()
    report = Report(
        "nufft-quick" if quick else "nufft",
        "Non-uniform FFTs: how many times faster",
        f"Random points, relative error {EPS:g} asked of all, points new in every call; one thread or {THREADS}, as "
        "said. Medians of interleaved calls, all compiled, planned and warm.",
        machine(["numpy", "numba", "torch", "finufft", "ducc0", "pytorch-finufft"]),
    )
    cpu = [["case, peer", "peer CPU ms", "ours CPU ms", "ratio"]]
    for threads, case in cases(quick):
        if arguments.only not in case.name:
            continue
        use_threads(threads)
        case = replace(case, name=f"{case.name}, {threads} thread{'s'[: threads > 1]}")
        report.rows.append(measure(case, budget))
        row = report.rows[-1]
        functions = {"theirs": case.theirs, "ours": case.ours}
        times = interleave(functions, budget / 4, clock=time.process_time)
        theirs, ours = (1e3 * statistics.mean(t) for t in times.values())  # the clock of a process is coarse: no median
        cpu.append(
            [f"{row.case}, {row.peer}", significant(theirs), significant(ours), f"{significant(theirs / ours)}×"]
        )
        print(f"{time.perf_counter() - began:6.0f} s  {row.case}, {row.peer}: {row.ratio:.2f}x", flush=True)
    report.tables["CPU time of all threads together"] = cpu
    if not arguments.only:
        report.tables["Two threads"] = two_threads(budget / 8)
        use_threads(THREADS)
        report.figures.extend(compiling())
    report.write(HERE.parent / "docs" / "nufft_benchmark" if arguments.docs else None)


if __name__ == "__main__":
    main()
