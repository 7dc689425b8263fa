"""What has to be measured in a process of its own: `_bench.fresh` runs this file with a function and arguments."""

from __future__ import annotations

import ctypes
import gc
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def _seconds(f: Callable[[], Any]) -> float:
    t = time.perf_counter()
    f()
    return time.perf_counter() - t


def compile_times(ndims: list[int], dtypes: list[str]) -> dict[str, Any]:
    """Seconds that the kernel of each specialisation takes to come from compiler or cache: first call less second call.

    Calls with another kernel beforehand pay for what is no specialisation's own (starting the compiler, pad and
    fold); the first of them, the first call of the process, is reported as "start".
    """
    import numpy as np
    import torch

    import gridfield as gf

    def times(nd: int, dtype: str, kernel: str) -> dict[str, tuple[float, float]]:
        """First and second call of every kind."""
        rng = np.random.default_rng(0)
        grid, points = gf.Grid((6,) * nd), rng.random((4096, nd)).astype(dtype)
        values, some = rng.random(grid.shape).astype(dtype), np.ones(len(points), dtype)
        how: Any = {"grid": grid, "kernel": kernel, "boundary": "natural"}
        orders = [(0,) * nd, *(tuple(int(i == a) for i in range(nd)) for a in range(nd))]
        calls: dict[str, Callable[[], Any]] = {
            "value": lambda: gf.sample(values, points, prefilter=False, **how),
            "value + gradient": lambda: gf.sample(values, points, prefilter=False, derivative=orders, **how),
            "backward in values": lambda: gf.splat(some, points, **how),
            "backward in points": lambda: torch.autograd.grad(y, x, ct, retain_graph=True),
        }
        took = {}
        for kind, f in calls.items():
            if kind == "backward in points":
                x, ct = torch.from_numpy(points).requires_grad_(), torch.from_numpy(some)
                y = gf.sample(torch.from_numpy(values), x, prefilter=False, **how)
            took[kind] = _seconds(f), _seconds(f)
        return took

    others = [times(1, dtype, "linear") for dtype in dtypes]
    kernels = [
        {"ndim": nd, "dtype": dtype, "kind": kind, "seconds": first - second}
        for nd in ndims
        for dtype in dtypes
        for kind, (first, second) in times(nd, dtype, "cubic").items()
    ]
    return {"start": others[0]["value"][0], "kernels": kernels}


def _status(name: str) -> int:
    """Bytes of a line of /proc/self/status, VmRSS or VmHWM."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(name))


def peak_memory(package: str, backward: bool, n: int) -> float:
    """Bytes per point at the peak of a 3-D cubic forward pass, or forward and backward, coordinates included."""
    import torch

    torch.set_num_threads(2)
    if package == "gridfield":
        from gridfield.torch import SplineField

        field: Any = SplineField((10, 10, 10))
    else:
        from torch_cubic_spline_grids import CubicBSplineGrid3d

        field = CubicBSplineGrid3d((10, 10, 10))

    def run(n: int) -> float:
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)
        before = _status("VmRSS")
        points = torch.rand(n, 3, requires_grad=backward)
        Path("/proc/self/clear_refs").write_text("5")  # VmHWM from here on
        with torch.set_grad_enabled(backward):
            y = field(points)
            if backward:
                y.backward(torch.ones_like(y))
        return (_status("VmHWM") - before) / n

    run(n // 20)  # kernels, thread pools
    for p in field.parameters():
        p.grad = None
    return run(n)


def peak_memory_of_deform(size: int) -> float:
    """Bytes at the peak of a 3-D cubic deformation beyond the image itself, in images."""
    import numpy as np

    import gridfield as gf

    rng = np.random.default_rng(0)
    u = rng.normal(size=(3, 5, 5, 5)) * 3

    def run(size: int) -> float:
        image = rng.random((size, size, size), np.float32)
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)
        before = _status("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")  # VmHWM from here on
        gf.deform(image, u)
        return (_status("VmHWM") - before) / image.nbytes

    run(64)  # kernels, thread pools
    return run(size)


def first_nufft(ndim: int, eps: float) -> float:
    """Seconds of the first call of type 2, less the second, after one in 1-D that starts the compiler."""
    import numpy as np

    import gridfield as gf

    rng = np.random.default_rng(0)
    gf.nufft2(rng.random((5000, 1)), np.ones(16), eps=eps)
    x, modes = rng.random((5000, ndim)), np.ones((16,) * ndim)
    first, second = (_seconds(lambda: gf.nufft2(x, modes, eps=eps)) for _ in range(2))
    return first - second


def first_curve_fit(text: str, start: dict[str, float]) -> tuple[float, float]:
    """Seconds of the first fit of a string model in a process; of what any first call of a process pays, before."""
    import numpy as np

    import gridfield as gf

    grid, n = gf.Grid((6,)), 128
    values, points = np.zeros(6), np.zeros((9, 1))
    started = _seconds(lambda: gf.sample(values, points, grid=grid, kernel="linear"))  # starts the compiler
    image = np.random.default_rng(0).normal(size=(n, n))
    y, x = np.mgrid[:n, :n]
    image += 3 * np.exp(-(((x - 60) / 15) ** 2 + ((y - 66) / 9) ** 2) / 2)
    return _seconds(lambda: gf.curve_fit(text, gf.Grid.pixels((n, n)), image, start)), started


if __name__ == "__main__":
    print(json.dumps(globals()[sys.argv[1]](*json.loads(sys.argv[2]))))
