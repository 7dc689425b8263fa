"""With NUMBA_DISABLE_JIT=1 the kernels run as plain Python and give the same numbers: they can be stepped through."""

import os
import subprocess
import sys

import numpy as np
from numpy.testing import assert_allclose

SCRIPT = """
import sys
import numpy as np
import gridfield as gf
from gridfield.cpu.plan import Plan

out = {}
rng = np.random.default_rng(0)
for path in ("padded", "direct"):
    Plan.direct = lambda self, *args, **kwargs: path == "direct"
    for dtype in ("float64", "float32"):
        values, grid = rng.normal(size=(2, 5, 6)).astype(dtype), gf.Grid.pixels((5, 6))
        points = rng.uniform(-3, 8, (9, 2)).astype(dtype)
        points[4, 1] = np.nan
        for kernel, boundary in (("cubic", "mirror"), ("linear", "natural"), ("quadratic", "constant"),
                                 (gf.catmull_rom, "reflect"), ("cubic", "wrap"), ("nearest", "grid-constant")):
            name = f"{path} {dtype} {kernel} {boundary} "
            how = {"kernel": kernel, "boundary": boundary}
            both = {**how, "derivative": [(0, 0), (1, 0), (0, 2)]}
            out[name + "sample"] = y = gf.sample(values, points, cval=2, prefilter=False, **both)
            out[name + "splat"] = gf.splat(np.nan_to_num(y), points, grid, **both)
            if path == "padded":
                out[name + "prefilter"] = gf.prefilter(values, grid=grid, **how)
                if isinstance(out[name + "prefilter"], tuple):
                    out[name + "prefilter"] = out[name + "prefilter"][0]
                out[name + "pad"] = gf.pad(values, [(2, 1), (0, 7)], boundary=boundary, cval=2)
                out[name + "fold"] = gf.fold(values, [(1, 1), (0, 4)], boundary=boundary)
long = rng.normal(size=(3, 40))
out["long"] = gf.prefilter(long, kernel="quintic", boundary="wrap")
import numba
out["jit"] = np.array([not numba.config.DISABLE_JIT])
np.savez(sys.argv[1], **out)
"""


def run(path, **environment):
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", SCRIPT, str(path)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return np.load(path)


def test_the_same_numbers_without_the_compiler(tmp_path):
    plain = run(tmp_path / "plain.npz", NUMBA_DISABLE_JIT="1")
    compiled = run(tmp_path / "compiled.npz", NUMBA_DISABLE_JIT="0")
    assert set(plain) == set(compiled) and len(plain.files) > 50
    assert not plain["jit"][0] and compiled["jit"][0]
    for name in plain.files:
        a, b = plain[name], compiled[name]
        assert a.dtype == b.dtype and a.shape == b.shape
        atol = 1e-12 if a.dtype == np.float64 else 1e-4
        assert_allclose(a.astype(float), b.astype(float), rtol=0, atol=atol, err_msg=name)
    assert any(np.isnan(plain[name]).any() for name in plain.files)
