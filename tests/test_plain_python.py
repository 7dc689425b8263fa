"""With NUMBA_DISABLE_JIT=1 the kernels run as plain Python and give the same numbers: they can be stepped through."""

import os
import subprocess
import sys
from pathlib import Path

SCRIPT = """
import sys

import numba
import numpy as np

assert numba.config.DISABLE_JIT
sys.path.insert(0, sys.argv[1])
import gridfield as gf
from cases import MORE_AXES, ONE_AXIS
from gridfield import reference
from gridfield.cpu.plan import Plan
from gridfield.ops import OPS
from gridfield.scheme import Filter, Margins, Stencil, Warp, intern, scheme

rng = np.random.default_rng(0)
np.seterr(invalid="ignore", over="ignore")  # margins of one axis meet memory that those of the next fill afterwards


def same(got, expected, dtype):
    assert (got.dtype, got.shape) == (dtype, expected.shape), (got.dtype, got.shape, dtype, expected.shape)
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-11 if dtype == "float64" else 1e-3)
    assert (np.abs(np.nan_to_num(got)).max() > 0.1) == (np.abs(np.nan_to_num(expected)).max() > 0.1)


for case, dtype in [(c, "float64") for c in MORE_AXES[:6] + ONE_AXIS[5:60:9]] + [(MORE_AXES[0], "float32")]:
    values = case.values(rng, 1, 2).astype(dtype)
    points = case.points(rng, 9, ties=False)[None].astype(dtype)
    points[0, 4, -1] = np.nan
    static = case.scheme()
    for path in ("padded", "direct"):
        Plan.direct = lambda self, *args, **kwargs: path == "direct"
        y = OPS["sample"].run(values, points, static.text)
        same(y, reference.sample(values.astype(float), points.astype(float), static), dtype)
        y = np.nan_to_num(y)
        grid = OPS["splat"].run(y, points, static.text)
        same(grid, reference.splat(y.astype(float), points.astype(float), static), dtype)
    if case.ndim == 2:
        got = OPS["dot"].run(values, y, points, static.text)
        same(got, reference.dot(values.astype(float), y.astype(float), points.astype(float), static), dtype)

    full, points = case.shape, tuple(3 for _ in case.shape)
    if all(b in ("mirror", "natural", "constant", "wrap", "reflect") for b in case.boundaries) and case.ndim < 4:
        pixels = scheme(gf.Grid.pixels(full), static.kernels, static.boundaries)
        warp = Warp(pixels.text, None, None, points, full, (1,) * case.ndim, tuple(n - 2 for n in full))
        field, pose = rng.normal(size=(1, case.ndim, *points)), 0.01 * rng.normal(size=(1, case.ndim, case.ndim + 1))
        y = OPS["warp"].run(values, field.astype(dtype), pose.astype(dtype), intern(warp))
        same(y, reference.warp(values.astype(float), field, pose, warp), dtype)

values = rng.normal(size=(2, 5, 6))
for boundary in ("natural", "mirror", "reflect", "wrap"):
    for flipped in (False, True):
        static = Filter((gf.bspline(3), gf.bspline(5)), (boundary, boundary), flipped)
        same(OPS["prefilter"].run(values, intern(static)), reference.prefilter(values, static), "float64")
    static = Margins(((2, 1), (0, 7)), (boundary, "grid-constant"), 2.0)
    padded = OPS["pad"].run(values, intern(static))
    same(padded, reference.pad(values, static), "float64")
    same(OPS["fold"].run(padded, intern(static)), reference.fold_back(padded, static), "float64")

for table in (rng.normal(size=(3, 5)), np.ones((5, 3)), np.ones((41, 1))):
    static = Stencil.of(table, (1, 0), (1, 0))
    same(OPS["correlate"].run(values, intern(static)), reference.correlate(values, static), "float64")

mask, points = values[0] > 0, rng.uniform(-1, 6, (20, 2))
cells = gf.Grid.pixels(mask.shape).index(points)
expected = np.where(cells >= 0, mask.reshape(-1)[cells], True)
for way in (points, cells):
    assert (gf.MaskIndex(mask).select(way, outside=True) == expected).all()
    assert (gf.select(way, mask, outside=True) == expected).all()

# the strategies for many points, and values that are written over the whole public way
Plan.direct = lambda self, *args, **kwargs: False
from gridfield.cpu import plan
plan.SERIAL = 10
points = rng.uniform(0, 60, (40, 2))
for shape in ((3, 2), (61, 61)):
    got = gf.splat(np.ones(40), points % np.array(shape), gf.Grid.pixels(shape))
    assert abs(got.sum() - 40) < 1e-9
print("all the same")
"""


def test_the_same_numbers_without_the_compiler():
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", SCRIPT, str(Path(__file__).parent)],
        env={**os.environ, "NUMBA_DISABLE_JIT": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "all the same\n"
