"""Empty cells filled, beside loops over cells and a dense solve."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # before anything imports tensorflow

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tensorflow as tf
import torch

import gridfield as gf

METHODS = ("nearest", "smooth", "spline")


def holes(rng, shape, part=0.4):
    a = rng.normal(size=shape)
    a[rng.random(shape) < part] = np.nan
    a.reshape(-1)[0] = 1.0
    return a


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("shape", [(1,), (9,), (6, 7), (5, 1, 6)])
@pytest.mark.parametrize("part", [0.0, 0.3, 0.9])
def test_cells_with_a_value_keep_it_and_all_get_one(method, shape, part, rng):
    a = holes(rng, shape, part)
    before = a.copy()
    got = gf.fill_empty(a, method)
    there = ~np.isnan(a)
    np.testing.assert_array_equal(got[there], a[there])
    assert np.isfinite(got).all() and got.dtype == a.dtype
    np.testing.assert_array_equal(a, before)
    assert got is not a and not np.shares_memory(got, a)


def test_nearest_is_the_nearest(rng):
    a, grid = holes(rng, (6, 7), 0.7), gf.Grid.from_spacing((6, 7), spacing=(1.0, 0.3))
    got, x = gf.fill_empty(a, grid=grid), grid.coords()
    there = np.argwhere(~np.isnan(a))
    for i in np.argwhere(np.isnan(a)):
        d = np.linalg.norm(x[tuple(there.T)] - x[tuple(i)], axis=-1)
        assert got[tuple(i)] in a[tuple(there[d <= d.min() + 1e-12].T)]


def test_smooth_is_the_smallest_ball_that_reaches(rng):
    a = holes(rng, (12, 13), 0.85)
    expected = a.copy()
    for radius in (1.5, 3.0, 6.0, 12.0, 24.0):
        around = gf.smooth(a, "ball", radius, cval=np.nan)
        expected = np.where(np.isnan(expected), around, expected)
    np.testing.assert_allclose(gf.fill_empty(a, "smooth"), expected)
    # a periodic axis: what is missing at one end is filled from the other
    a = np.full((10, 3), np.nan)
    a[9], a[4] = 1.0, 2.0
    grid = gf.Grid.pixels((10, 3), periodic=(True, False))
    np.testing.assert_array_equal(gf.fill_empty(a, "smooth", grid=grid)[0], 1.0)


def test_holes_as_wide_as_a_volume():
    """Balls of radius 96, which as a whole would be more weights than are allowed."""
    a = np.full((130, 4, 60), np.nan)
    a[3, 1, 2], a[10, 1, 2] = 1.0, 2.0
    got = gf.fill_empty(a, "smooth")
    assert got[0, 1, 2] == 1 and got[15, 1, 2] == 2
    np.testing.assert_allclose(got[70:95, 1, 2], 1.5)  # both are within the ball


def test_spline_has_the_least_second_differences(rng):
    a, h = holes(rng, (6, 7)), (1.0, 0.5)
    got = gf.fill_empty(a, "spline", grid=gf.Grid.from_spacing((6, 7), spacing=h))
    rows = []
    for k, f in ((2, 1.0), (1, 1e-3)):
        for axis in (0, 1):
            d = np.diff(np.eye(42).reshape(42, 6, 7), k, axis=axis + 1)
            rows.append(f * d.reshape(42, -1).T / h[axis] ** k)
    d, missing = np.concatenate(rows), np.isnan(a).reshape(-1)
    expected = a.reshape(-1).copy()
    expected[missing] = np.linalg.lstsq(d[:, missing], -d[:, ~missing] @ expected[~missing], rcond=None)[0]
    np.testing.assert_allclose(got, expected.reshape(6, 7), atol=1e-9)
    # a plane is continued
    plane = np.add.outer(2.0 * np.arange(9), -np.arange(8.0))
    bare = np.where(rng.random(plane.shape) < 0.5, np.nan, plane)
    np.testing.assert_allclose(gf.fill_empty(bare, "spline"), plane, atol=1e-4)


@pytest.mark.parametrize("method", METHODS)
def test_shapes_and_types(method, rng):
    a, grid = np.stack([holes(rng, (5, 6)) for _ in range(3)]), gf.Grid.pixels((5, 6))
    a[2] = np.nan  # nothing to fill it from
    got = gf.fill_empty(a, method, grid=grid)
    np.testing.assert_array_equal(got, np.stack([gf.fill_empty(x, method) for x in a]))
    assert np.isnan(got[2]).all() and np.isfinite(got[:2]).all()
    for dtype in ("float32", "float16"):
        small = gf.fill_empty(a.astype(dtype), method, grid=grid)
        assert small.dtype == dtype
        np.testing.assert_allclose(small, got, atol=1e-2 if dtype == "float16" else 1e-4)
    whole = np.arange(6)
    np.testing.assert_array_equal(gf.fill_empty(whole, method), whole)
    a.setflags(write=False)
    np.testing.assert_array_equal(
        gf.fill_empty(a[..., ::-1], method, grid=grid), gf.fill_empty(a[..., ::-1].copy(), method, grid=grid)
    )


@pytest.mark.parametrize("method", METHODS)
def test_frameworks_and_derivatives(method, rng):
    a, ct = holes(rng, (5, 6)), rng.normal(size=(5, 6))
    expected = gf.fill_empty(a, method)
    for of in (torch.as_tensor, jnp.asarray, tf.constant):
        np.testing.assert_allclose(np.asarray(gf.fill_empty(of(a), method)), expected, atol=1e-5)
    gradient = np.zeros(a.shape)
    for i in zip(*np.nonzero(~np.isnan(a)), strict=True):
        moved = a.copy()
        moved[i] += 1
        gradient[i] = ((gf.fill_empty(moved, method) - expected) * ct).sum()
    v = torch.tensor(a, requires_grad=True)
    (gf.fill_empty(v, method) * torch.as_tensor(ct)).sum().backward()
    np.testing.assert_allclose(np.where(np.isnan(a), 0, v.grad.numpy()), gradient, atol=1e-9)
    with tf.GradientTape() as tape:
        v = tf.Variable(a)
        if method == "spline":
            with pytest.raises(TypeError, match="torch only"):
                gf.fill_empty(v, method)
            return
        y = tf.reduce_sum(gf.fill_empty(v, method) * ct)
    np.testing.assert_allclose(np.where(np.isnan(a), 0, tape.gradient(y, v).numpy()), gradient, atol=1e-9)
    if method == "smooth":
        found = jax.jit(jax.grad(lambda v: (gf.fill_empty(v, method) * ct).sum()))(jnp.asarray(a))
        np.testing.assert_allclose(np.where(np.isnan(a), 0, np.asarray(found)), gradient, atol=1e-4)


A = np.array([[1.0, np.nan], [2.0, 3.0]])


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: gf.fill_empty(A, "mean"), ValueError, ["gf.fill_empty", "'nearest'", "'mean'"]),
        (lambda: gf.fill_empty(A * 1j), TypeError, ["complex128"]),
        (lambda: gf.fill_empty(A, grid=gf.Grid.pixels((2, 3))), ValueError, ["(2, 2)", "(2, 3)"]),
        (lambda: gf.fill_empty(A, grid=(2, 2)), TypeError, ["gf.Grid"]),
        (lambda: gf.fill_empty(np.ones((0, 2))), ValueError, ["no samples"]),
        (lambda: gf.fill_empty(np.ones(())), ValueError, ["scalar"]),
        (lambda: gf.fill_empty(["a"]), TypeError, ["a"]),
        (lambda: jax.jit(gf.fill_empty)(A), TypeError, ["traces"]),
    ],
)
def test_bad_input(call, error, words):
    with pytest.raises(error) as raised:
        call()
    for word in words:
        assert word in str(raised.value), raised.value
