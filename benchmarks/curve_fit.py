"""Fitting models: a rotated Gaussian to an image, and 100,000 small fits, beside SciPy, lmfit and Optimistix.

Run it on a quiet machine for the published figures (--docs writes them to docs/), with --quick while developing.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import tempfile
import time
from collections.abc import Iterator
from typing import Any

import lmfit
import numpy as np
import scipy.optimize
from _bench import HERE, Case, Figure, Report, fresh, machine, measure, options

import gridfield as gf

THREADS = 2
GAUSSIAN = (
    "A*exp(-(((x - x0)*cos(th) + (y - y0)*sin(th))**2/(2*sx**2)"
    " + ((y - y0)*cos(th) - (x - x0)*sin(th))**2/(2*sy**2))) + b"
)
TRUTH = {"A": 3.0, "x0": 270.0, "th": 0.5, "y0": 240.0, "sx": 60.0, "sy": 25.0, "b": 0.7}
START = {"A": 2.0, "x0": 256.0, "th": 0.3, "y0": 256.0, "sx": 50.0, "sy": 35.0, "b": 0.5}
DECAY = "a*exp(-t/tau) + c"


def gaussian(xy: Any, A: Any, x0: Any, th: Any, y0: Any, sx: Any, sy: Any, b: Any) -> Any:
    """As people write it for SciPy: coordinates and values flat."""
    x, y = xy
    u = (x - x0) * np.cos(th) + (y - y0) * np.sin(th)
    v = (y - y0) * np.cos(th) - (x - x0) * np.sin(th)
    return A * np.exp(-(u**2 / (2 * sx**2) + v**2 / (2 * sy**2))) + b


def slopes(xy: Any, A: Any, x0: Any, th: Any, y0: Any, sx: Any, sy: Any, b: Any) -> Any:
    """Its derivatives, written out."""
    x, y = xy
    cos, sin = np.cos(th), np.sin(th)
    u = (x - x0) * cos + (y - y0) * sin
    v = (y - y0) * cos - (x - x0) * sin
    e = np.exp(-(u**2 / (2 * sx**2) + v**2 / (2 * sy**2)))
    f, du, dv = A * e, u / sx**2, v / sy**2
    return np.stack(
        [e, f * (du * cos - dv * sin), f * u * v * (1 / sy**2 - 1 / sx**2), f * (du * sin + dv * cos), f * u * du / sx,
         f * v * dv / sy, np.ones_like(e)],
        1,
    )  # fmt: skip


def image(n: int) -> Iterator[Case]:
    """One fit of an image."""
    y, x = np.mgrid[:n, :n].astype(float)
    truth = {k: v * n / 512 if k in ("x0", "y0", "sx", "sy") else v for k, v in TRUTH.items()}
    start = {k: v * n / 512 if k in ("x0", "y0", "sx", "sy") else v for k, v in START.items()}
    data = gaussian((x, y), **truth) + 0.1 * np.random.default_rng(0).normal(size=(n, n))
    flat, values, grid = (x.ravel(), y.ravel()), data.ravel(), gf.Grid.pixels((n, n))
    order = list(START)

    def ours() -> Any:
        return gf.curve_fit(GAUSSIAN, grid, data, start).popt

    def numeric() -> Any:
        return in_order(scipy.optimize.curve_fit(gaussian, flat, values, list(start.values()), method="lm")[0])

    def analytic() -> Any:
        return in_order(
            scipy.optimize.curve_fit(gaussian, flat, values, list(start.values()), method="lm", jac=slopes)[0]
        )

    model = lmfit.Model(lambda xy, A, x0, th, y0, sx, sy, b: gaussian(xy, A, x0, th, y0, sx, sy, b))

    def by_lmfit() -> Any:
        found = model.fit(values, xy=flat, **start)
        return in_order([found.params[k].value for k in order])

    names = gf.curve_fit(GAUSSIAN, grid, data, start).names

    def in_order(p: Any) -> Any:
        return np.array([p[order.index(k)] for k in names])

    what = f"{n}² rotated Gaussian, 7 parameters, float64"
    yield Case(what, "scipy curve_fit (lm, numeric)", 8, ours, numeric, 1e-4)
    yield Case(what, "scipy curve_fit (lm, analytic Jacobian)", 6, ours, analytic, 1e-4)
    yield Case(what, "lmfit", 8, ours, by_lmfit, 1e-4)


P0 = {"a": 2.0, "tau": 0.8, "c": 0.2}


def decays(fits: int) -> tuple[Any, Any]:
    """Times, and the data of many small fits."""
    rng = np.random.default_rng(1)
    t = np.linspace(0, 3, 64)
    truth = rng.uniform((1, 0.3, 0), (3, 1.5, 0.5), (fits, 3))
    return t, truth[:, :1] * np.exp(-t / truth[:, 1:2]) + truth[:, 2:] + 0.02 * rng.normal(size=(fits, 64))


def looped(t: Any, data: Any, some: int) -> Case:
    """SciPy's loop over the first fits."""

    def model(t: Any, a: Any, tau: Any, c: Any) -> Any:
        return a * np.exp(-t / tau) + c

    def ours() -> Any:
        return gf.curve_fit(DECAY, {"t": t}, data, P0, axis=-1).popt[:some]

    def loop() -> Any:
        return np.array([scipy.optimize.curve_fit(model, t, y, list(P0.values()))[0] for y in data[:some]])

    return Case(f"{len(data):,} fits of 64 points, 3 parameters", "scipy curve_fit, in a loop", 100, ours, loop, 1e-3)


def batched(t: Any, data: Any, some: int) -> Case:
    """Optimistix, all of the first fits at once: float64, compiled."""
    import jax
    import jax.numpy as jnp
    import optimistix

    jax.config.update("jax_enable_x64", True)
    start = jnp.array(list(P0.values()))
    solver = optimistix.LevenbergMarquardt(rtol=1e-8, atol=1e-8)

    def residual(p: Any, y: Any) -> Any:
        return p[0] * jnp.exp(-t / p[1]) + p[2] - y

    def one(y: Any) -> Any:
        return optimistix.least_squares(residual, solver, start, args=y, throw=False, max_steps=256).value

    together, given = jax.jit(jax.vmap(one)), jnp.asarray(data[:some])

    def ours() -> Any:
        return gf.curve_fit(DECAY, {"t": t}, data, P0, axis=-1).popt[:some]

    def theirs() -> Any:
        return np.asarray(together(given))

    name = f"{len(data):,} fits of 64 points, 3 parameters"
    return Case(name, "optimistix LevenbergMarquardt, jax.vmap and jit", 1, ours, theirs, 1e-3)


def many(budget: float) -> Iterator[Any]:
    """The rows of many small fits; what takes a peer too long is done for fewer of them, its time multiplied."""
    t, data = decays(100_000)
    found = importlib.util.find_spec("optimistix") is not None
    for case, some, name in ((looped, 1000, "the loop"), (batched, 10_000, "optimistix")):
        if case is batched and not found:
            continue
        row, times = measure(case(t, data, some), budget), len(data) / some
        note = f"of {name} {some:,} fits are timed, and their time multiplied by {times:g}"
        note += "" if found else "; optimistix is not installed, so there is no row of it"
        yield dataclasses.replace(
            row, peer_ms=row.peer_ms * times, peer_quartiles_ms=[times * q for q in row.peer_quartiles_ms], note=note
        )


def main() -> None:
    """Measure everything, and write it."""
    arguments = options(__doc__)
    quick = arguments.quick
    budget = 2.0 if quick else 15.0
    began = time.perf_counter()
    gf.set_num_threads(THREADS)
    peers = ["optimistix", "jax"] if importlib.util.find_spec("optimistix") else []
    info = machine(["numpy", "numba", "scipy", "lmfit", *peers])
    report = Report(
        "curve_fit-quick" if quick else "curve_fit",
        "Fitting models: how many times faster than the packages in use",
        f"{THREADS} threads; the peers' model functions have NumPy's. The same start, the same optimum. Medians of "
        "interleaved calls, all compiled and warm.",
        info,
    )

    def add(row: Any) -> None:
        report.rows.append(row)
        print(f"{time.perf_counter() - began:6.0f} s  {row.case}, {row.peer}: {row.ratio:.1f}x", flush=True)

    for case in image(512):
        add(measure(case, budget))
    for row in many(budget):
        add(row)
    start = START | {"x0": 64.0, "y0": 64.0, "sx": 12.0, "sy": 9.0}
    with tempfile.TemporaryDirectory() as folder:
        (cold, _), (warm, started) = (
            fresh("first_curve_fit", GAUSSIAN, start, GRIDFIELD_CACHE_DIR=folder) for _ in range(2)
        )
    report.figures.append(Figure("a new string model compiled and fitted first, nothing on disk", cold, "s", 2))
    report.figures.append(
        Figure(
            "the same in a new process, kernels on disk",
            warm,
            "s",
            0.2,
            note="of both, what the first call of any kind in a process pays, starting Numba's compiler, is taken "
            "before and is not counted",
        )
    )
    report.figures.append(Figure("starting the compiler, with a first call of another function", started, "s"))
    info["minutes"] = round((time.perf_counter() - began) / 60, 1)
    report.write(HERE.parent / "docs" / "curve_fit_benchmark" if arguments.docs else None)


if __name__ == "__main__":
    main()
