"""The recursive prefilter against dense solves, SciPy, its own transpose, and the data it must reproduce."""

import os
import subprocess
import sys

import numpy as np
import pytest
import scipy.ndimage

from gridfield import reference
from gridfield.cpu import prefilter as filters
from gridfield.cpu import threads
from gridfield.cpu.prefilter import prefilter
from gridfield.kernel import Kernel, bspline, catmull_rom
from gridfield.scheme import Filter

BOUNDARIES = ("mirror", "reflect", "wrap", "natural")
SIZES = (1, 2, 3, 4, 5, 17, 100)


def piecewise_linear(centre, side):
    """The kernel with values (side, centre, side) at the samples."""
    rows = [[side, -side], [centre, side - centre], [side, centre - side], [0, side]]
    return Kernel(rows, f"linear({centre}, {side})")


KERNELS = [
    *map(bspline, range(2, 8)),
    Kernel(2 * bspline(3).coefficients, "two cubics"),  # samples do not sum to 1
    piecewise_linear(1.0, -0.2),  # a positive pole
    piecewise_linear(1.0, 0.49),  # a pole near the unit circle, -0.82
]
named = pytest.mark.parametrize("kernel", KERNELS, ids=lambda k: k.name)
bounded = pytest.mark.parametrize("boundary", BOUNDARIES)


def dense(values, kernels, boundaries, transposed):
    return reference.prefilter(values.astype(np.float64), Filter(kernels, boundaries, transposed))


def refiltered(coefficients, kernel, boundary):
    """The spline at the samples along the last axis."""
    m = len(kernel.samples) // 2
    how = {"mode": "reflect", "reflect_type": "odd"} if boundary == "natural" else {"mode": NUMPY_MODE[boundary]}
    padded = np.pad(coefficients, ((0, 0), (m, m)), **how)
    n = coefficients.shape[1]
    return sum(tap * padded[:, k : k + n] for k, tap in enumerate(kernel.samples))


NUMPY_MODE = {"mirror": "reflect", "reflect": "symmetric", "wrap": "wrap"}


def close(a, b, dtype):
    """Equal up to rounding of the largest values."""
    eps = np.finfo(dtype).eps
    np.testing.assert_allclose(a, b, rtol=0, atol=16 * eps * max(1.0, np.abs(b).max(initial=0)))


@named
@bounded
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("transposed", [False, True])
def test_one_axis_equals_dense_solve(rng, kernel, boundary, dtype, transposed):
    for n in SIZES:
        values = rng.standard_normal((3, n)).astype(dtype)
        out = prefilter(values, (kernel,), (boundary,), transposed)
        assert out.dtype == dtype and out.shape == values.shape
        close(out, dense(values, (kernel,), (boundary,), transposed), dtype)


@pytest.mark.parametrize(
    "shape",
    [(3, 20, 30), (2, 5, 6, 7), (1, 70, 130), (33, 2, 3, 4), (1, 130, 5), (200, 9, 3), (2, 3, 4, 5, 6), (4, 100, 1, 3)],
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_axes_with_their_own_kernels_and_boundaries_equal_dense_solves(rng, shape, dtype):
    ndim = len(shape) - 1
    for _ in range(8):
        kernels = tuple(bspline(int(d)) for d in rng.integers(1, 6, ndim))
        boundaries = tuple(map(str, rng.choice(BOUNDARIES, ndim)))
        values = rng.standard_normal(shape).astype(dtype)
        for transposed in (False, True):
            out = prefilter(values, kernels, boundaries, transposed)
            close(out, dense(values, kernels, boundaries, transposed), dtype)


@pytest.mark.parametrize("order", [2, 3, 4, 5])
@pytest.mark.parametrize("boundary", ["mirror", "reflect", "wrap"])
@pytest.mark.parametrize("shape", [(1000,), (40, 70), (23, 17, 31)])
def test_equals_scipy(rng, order, boundary, shape):
    values = rng.standard_normal((2, *shape))
    out = prefilter(values, (bspline(order),) * len(shape), (boundary,) * len(shape), False)
    mode = {"wrap": "grid-wrap"}.get(boundary, boundary)
    for a, b in zip(out, values, strict=True):
        np.testing.assert_allclose(a, scipy.ndimage.spline_filter(b, order, mode=mode), rtol=0, atol=1e-10)


@named
@bounded
@pytest.mark.parametrize("shape", [(2, 2), (1, 3), (5, 50), (2, 33, 70)])
def test_transposed_is_the_transpose(rng, kernel, boundary, shape):
    kernels, boundaries = (kernel,) * (len(shape) - 1), (boundary,) * (len(shape) - 1)
    a, b = rng.standard_normal((2, *shape))
    left = np.vdot(prefilter(a, kernels, boundaries, False), b)
    right = np.vdot(a, prefilter(b, kernels, boundaries, True))
    scale = np.linalg.norm(prefilter(a, kernels, boundaries, False)) * np.linalg.norm(b)
    assert abs(left - right) <= 1e-14 * scale


@named
@bounded
@pytest.mark.parametrize("n", [30, 5000, 60_000])  # in one piece, and cut into windows
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_spline_passes_through_the_data(rng, kernel, boundary, n, dtype):
    values = rng.standard_normal((2, n)).astype(dtype)
    out = prefilter(values, (kernel,), (boundary,), False).astype(np.float64)
    close(refiltered(out, kernel, boundary), values, dtype)


@bounded
@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize(
    "shape", [(1, 700), (3, 500), (1, 500, 3), (40, 300, 4), (1, 400, 70), (2, 200, 300), (1, 400, 2, 40)]
)
def test_windows_of_every_kind_equal_dense_solves(rng, monkeypatch, boundary, transposed, shape):
    monkeypatch.setattr(filters, "BLOCK", 2**12)
    monkeypatch.setattr(filters, "TALL", 2**14)
    filters.plan.cache_clear()
    try:
        kernels, boundaries = (bspline(3),) * (len(shape) - 1), (boundary,) * (len(shape) - 1)
        sweeps = filters.plan(shape, np.dtype(float), kernels, boundaries, transposed).sweeps
        assert any(sweep.windowed for sweep in sweeps)
        values = rng.standard_normal(shape)
        close(prefilter(values, kernels, boundaries, transposed), dense(values, kernels, boundaries, transposed), float)
    finally:
        filters.plan.cache_clear()


def test_a_straight_line_keeps_its_coefficients_under_the_natural_boundary():
    line = 3 - 0.25 * np.arange(40.0)[None]
    out = prefilter(line, (bspline(3),), ("natural",), False)
    np.testing.assert_allclose(out, line, rtol=0, atol=1e-13)


@pytest.mark.parametrize("kernel", [bspline(0), bspline(1), catmull_rom], ids=lambda k: k.name)
def test_kernels_that_interpolate_leave_the_values(rng, kernel):
    values = rng.standard_normal((2, 7, 5))
    out = prefilter(values, (kernel, kernel), ("mirror", "wrap"), False)
    np.testing.assert_array_equal(out, values)
    assert not np.shares_memory(out, values)
    mixed = prefilter(values, (kernel, bspline(3)), ("mirror", "wrap"), False)
    close(mixed, dense(values, (kernel, bspline(3)), ("mirror", "wrap"), False), float)


def test_constant_outside_means_mirror_inside(rng):
    values = rng.standard_normal((2, 9))
    out = prefilter(values, (bspline(3),), ("constant",), False)
    np.testing.assert_array_equal(out, prefilter(values, (bspline(3),), ("mirror",), False))


def _read_only(x):
    x = x.copy()
    x.flags.writeable = False
    return x


INPUTS = {
    "read-only": _read_only,
    "reversed": lambda x: x[:, ::-1, ::-1].copy()[:, ::-1, ::-1],
    "every other": lambda x: np.repeat(x, 2, axis=2)[:, :, ::2],
    "Fortran order": np.asfortranarray,
    "broadcast": lambda x: np.broadcast_to(x[:1], x.shape),
}


@pytest.mark.parametrize("layout", INPUTS)
@pytest.mark.parametrize("kernels", [(bspline(3), bspline(3)), (bspline(1), bspline(1))], ids=["cubic", "linear"])
def test_layout_of_the_input_does_not_matter(rng, layout, kernels):
    values = INPUTS[layout](rng.standard_normal((3, 20, 31)))
    plain = values.copy(order="C")
    out = prefilter(values, kernels, ("mirror", "natural"), False)
    np.testing.assert_array_equal(out, prefilter(plain, kernels, ("mirror", "natural"), False))
    np.testing.assert_array_equal(values, plain)
    assert out.flags.c_contiguous and out.flags.writeable


@pytest.mark.parametrize("shape", [(0, 5), (0, 5, 6), (0,), (3,)])
def test_nothing_to_do(shape):
    out = prefilter(np.ones(shape), (bspline(3),) * (len(shape) - 1), ("mirror",) * (len(shape) - 1), False)
    np.testing.assert_array_equal(out, np.ones(shape))


@pytest.mark.parametrize("shape", [(70, 30, 40), (3, 64, 9), (2, 5, 130)])
def test_lines_do_not_see_each_other(rng, shape):
    """A NaN spoils its own lines, and each item of a batch is filtered as if alone."""
    values = rng.standard_normal(shape)
    kernels, boundaries = (bspline(3), bspline(5)), ("mirror", "natural")
    clean = prefilter(values, kernels, boundaries, False)
    values[1, 2, 3] = np.nan
    out = prefilter(values, kernels, boundaries, False)
    assert np.isnan(out[1]).all()
    np.testing.assert_array_equal(np.delete(out, 1, 0), np.delete(clean, 1, 0))
    close(prefilter(values[:1], kernels, boundaries, False), clean[:1], float)


@bounded
@pytest.mark.parametrize("shape", [(1, 300_000), (5, 300, 301), (1, 70, 80, 90), (300, 10, 12, 11), (1, 20_000, 40)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_same_bits_for_any_number_of_threads(rng, boundary, shape, dtype):
    values = rng.standard_normal(shape).astype(dtype)
    kernels, boundaries = (bspline(3),) * (len(shape) - 1), (boundary,) * (len(shape) - 1)
    out = []
    try:
        for n in (1, 2, 3):
            threads.set_num_threads(n)
            out.append(prefilter(values, kernels, boundaries, False))
    finally:
        threads.set_num_threads(None)
    np.testing.assert_array_equal(out[0], out[1])
    np.testing.assert_array_equal(out[0], out[2])


def test_without_the_jit():
    code = (
        "import numpy as np; from gridfield.cpu.prefilter import prefilter; from gridfield.kernel import bspline\n"
        "x = np.random.default_rng(0).standard_normal((2, 9, 70)).astype('f4')\n"
        "y = prefilter(x, (bspline(3), bspline(5)), ('natural', 'wrap'), True)\n"
        "print(y.astype('f8').sum(), abs(y).astype('f8').sum())"
    )
    environment = {**os.environ, "NUMBA_DISABLE_JIT": "1"}
    run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    total, size = map(float, run.stdout.split())
    values = np.random.default_rng(0).standard_normal((2, 9, 70)).astype("f4")
    out = prefilter(values, (bspline(3), bspline(5)), ("natural", "wrap"), True)
    assert total == pytest.approx(out.astype("f8").sum(), abs=1e-6 * size)
    assert size == pytest.approx(np.abs(out).astype("f8").sum(), rel=1e-6)


@pytest.mark.parametrize("dtype", (np.float32, np.float64))
@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_within_a_larger_array_it_is_the_same_to_the_bit(boundary, dtype, rng):
    """Whatever lies around the values; and where not all results are wanted, those that are."""
    done = 0
    for shape, channels in (((300,), 1), ((40, 50), 3), ((129, 300), 1), ((20, 30, 40), 1), ((130, 90, 70), 3)):
        x = rng.normal(size=(2, *shape, channels)).astype(dtype)
        kernels, boundaries = (bspline(3),) * len(shape), (boundary,) * len(shape)
        expected = np.stack([prefilter(x[..., c], kernels, boundaries, False) for c in range(channels)], -1)
        befores = (0, *range(1, len(shape) + 1), 0)
        whole = tuple(n + b + 2 * (b > 0) for n, b in zip(x.shape, befores, strict=True))
        part = tuple((n // 5, n - n // 4) for n in shape)
        for wanted in (tuple((0, n) for n in shape), part):
            room = filters.Room(befores, whole, ((0, 2), *wanted, (0, channels)))
            solve = filters.within(x.shape, x.dtype, kernels, boundaries, room)
            if solve is None:
                continue
            flat = np.full(np.prod(whole), np.nan, dtype)
            middle = flat.reshape(whole)[tuple(slice(b, b + n) for n, b in zip(x.shape, befores, strict=True))]
            middle[...] = x
            solve(flat)
            read = np.s_[:, *(slice(*ends) for ends in wanted), :]
            np.testing.assert_array_equal(middle[read], expected[read])
            done += 1
    assert done > 6
