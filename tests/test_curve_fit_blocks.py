"""Python functions are evaluated by blocks of points where that is the same, and whole where it is not."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # before anything imports tensorflow

import importlib
import tracemalloc
from math import prod

import numpy as np
import pytest
import scipy.ndimage

import gridfield as gf
from gridfield.fits import blocks, function_problem, python_model

SHAPE = (37, 23)
ROW, COLUMN = np.indices(SHAPE).astype(float)
TRUTH = {"A": 3.0, "x0": 11.0, "s": 4.0, "b": 0.5}
START = {"A": 2.0, "x0": 10.0, "s": 5.0, "b": 0.1}


@pytest.fixture
def small(monkeypatch):
    """Blocks of at most 100 points."""
    for module in (python_model, function_problem):
        monkeypatch.setattr(module, "BLOCK", 1000)
    monkeypatch.setattr(python_model, "POINTS", 100)


def peak(c, A, x0, s, b):
    row, x = c
    return A * np.exp(-((x - x0) ** 2 + (row - 17) ** 2) / (2 * s**2)) + b


def slopes(c, A, x0, s, b):
    row, x = c
    square = (x - x0) ** 2 + (row - 17) ** 2
    g = np.exp(-square / (2 * s**2))
    return np.stack([g, A * g * (x - x0) / s**2, A * g * square / s**3, np.ones_like(g)], -1)


def normalised(c, A, x0, s, b):
    g = peak(c, 1.0, x0, s, 0.0)
    return 100 * A * g / g.sum() + b


def convolved(c, A, x0, s, b):
    return scipy.ndimage.gaussian_filter(np.real(peak(c, A, x0, s, b)), 2.0)


def of_arrays(c, A, x0, s, b):
    return peak((ROW, COLUMN), A, x0, s, b)


def late(c, A, x0, s, b):
    """Needs all points where the fit ends, not where it starts."""
    f = peak(c, A, x0, s, b)
    return f - 0.1 * (np.mean(c[0]) - 18) * np.where(np.real(A) > 2.5, A - 2.5, 0.0)


@pytest.mark.parametrize("shape", [(5,), (37, 23), (3, 4, 50), (1, 1, 7), (40, 1, 3), (0,), (0, 4)])
@pytest.mark.parametrize("most", [1, 7, 100])
def test_boxes_follow_each_other(shape, most):
    numbers = np.arange(prod(shape)).reshape(shape)
    found = [(place, numbers[box].ravel()) for place, box in blocks.boxes(shape, most)]
    assert all(len(n) <= most and np.array_equal(n, np.arange(place.start, place.stop)) for place, n in found)
    assert sum(len(n) for _, n in found) == prod(shape)


@pytest.mark.parametrize(
    ("f", "split", "jac"),
    [(peak, True, "auto"), (peak, True, "3-point"), (peak, True, slopes), (normalised, False, "auto"),
     (convolved, False, "auto"), (of_arrays, False, "auto"), (late, False, "auto")],
)  # fmt: skip
@pytest.mark.parametrize("loss", ["linear", "soft_l1"])
def test_the_same_by_blocks(f, split, jac, loss, rng, small, monkeypatch):
    image = np.real(f((ROW, COLUMN), **TRUTH)) + 0.01 * rng.normal(size=SHAPE)
    image[3:5, 7] = np.nan
    sigma = rng.uniform(0.5, 2, size=SHAPE)
    given = {"sigma": sigma, "jac": jac, "loss": loss}
    ours = gf.curve_fit(f, (ROW, COLUMN), image, START, **given)
    assert (ours._parts[0].model.function.points is not None) == split
    monkeypatch.setattr(python_model, "BLOCK", 10**9)
    whole = gf.curve_fit(f, (ROW, COLUMN), image, START, **given)
    assert ours.success and whole._parts[0].model.function.points is None
    np.testing.assert_allclose(ours.popt, whole.popt, rtol=1e-7)
    np.testing.assert_allclose(ours.cov, whole.cov, rtol=1e-5)
    np.testing.assert_allclose(ours.residual, whole.residual, atol=1e-7)


@pytest.mark.parametrize("framework", ["torch", "jax", "tensorflow"])
def test_of_a_framework(framework, rng, small):
    module = importlib.import_module({"jax": "jax.numpy"}.get(framework, framework))
    f = lambda c, A, x0, s, b: A * module.exp(-((c[1] - x0) ** 2 + (c[0] - 17) ** 2) / (2 * s**2)) + b  # noqa: E731
    image = peak((ROW, COLUMN), **TRUTH) + 0.01 * rng.normal(size=SHAPE)
    grid = gf.Grid.pixels(SHAPE)
    ours, plain = gf.curve_fit(f, grid, image, START), gf.curve_fit(peak, grid, image, START)
    function = ours._parts[0].model.function
    assert function.framework == framework and function.points is not None and function.way == "autodiff"
    single = 1e-4 if framework == "jax" else 1e-7  # float32 by default
    np.testing.assert_allclose(ours.popt, plain.popt, rtol=single)
    np.testing.assert_allclose(ours.predict(grid), plain.predict(grid), rtol=single)


def test_large_fits_of_a_batch_and_by_qr(rng, small):
    images = np.stack([peak((ROW, COLUMN), **TRUTH | {"A": a}) for a in (2.0, 3.0)])
    images += 0.01 * rng.normal(size=images.shape)
    many = gf.curve_fit(peak, (ROW, COLUMN), images, START, axis=(1, 2))
    for k, image in enumerate(images):
        np.testing.assert_allclose(many.popt[k], gf.curve_fit(peak, (ROW, COLUMN), image, START).popt, rtol=1e-9)
    x = np.linspace(10, 11, 1000)
    y = np.sin(3 * x) + 1e-3 * rng.normal(size=1000)
    poor = gf.curve_fit(lambda x, p: sum(p[k] * (x - 10) ** k for k in range(10)), x, y, np.ones(10))
    V = np.vander(x - 10, 10, increasing=True)
    assert poor._parts[0].model.function.points == 100
    np.testing.assert_allclose(poor.popt, np.linalg.lstsq(V, y, rcond=None)[0], rtol=1e-5)


def test_memory_of_a_function_is_that_of_blocks():
    y, x = np.mgrid[:800, :800].astype(float)
    image = 3 * np.exp(-((x - 400) ** 2 + (y - 380) ** 2) / (2 * 80**2)) + 0.5

    def f(c, A, x0, y0, s, b):
        return A * np.exp(-((c[1] - x0) ** 2 + (c[0] - y0) ** 2) / (2 * s**2)) + b

    grid, start = gf.Grid.pixels((800, 800)), [2.0, 410.0, 390.0, 70.0, 0.0]
    tracemalloc.start()
    result = gf.curve_fit(f, grid, image, start)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # what f itself makes when it is called first; the Jacobian alone would be 5, and was 30 with all its copies
    assert result.success and most < 5 * image.nbytes
