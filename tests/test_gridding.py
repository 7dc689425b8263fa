"""Scattered points onto a grid, beside loops over points and cells."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # before anything imports tensorflow

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tensorflow as tf
import torch

import gridfield as gf
from gridfield.smoothing_kernel import ball

ARRAYS = {"torch": torch.as_tensor, "jax": jnp.asarray, "tensorflow": tf.convert_to_tensor}


def gridded(points, values, grid, kernel):
    """The mean around each cell, point by point."""
    half = np.array(kernel.shape) // 2
    sums, weights = np.zeros(grid.shape), np.zeros(grid.shape)
    for p, y in zip(points, values, strict=True):
        cell = grid.index(p[None])[0]
        if cell < 0 or np.isnan(y):
            continue
        k = np.array(np.unravel_index(cell, grid.shape))
        for i in itertools.product(*map(range, grid.shape)):
            d = np.array(i) - k + half
            if ((d >= 0) & (d < kernel.shape)).all():
                sums[i] += kernel[tuple(d)] * y
                weights[i] += kernel[tuple(d)]
    with np.errstate(all="ignore"):
        return np.where(weights > 0, sums / weights, np.nan)


# ---- gridded and smoothed --------------------------------------------------------------------------------------------
def test_the_five_points_as_asked():
    """TASKS.md, 1: step 0.5, two of five points in one cell, values squared norms; no point is lost."""
    points = np.array([[1, 2, 3], [4, 5, 6], [2.5, 3.5, 4.5], [2.9, 3.9, 4.9], [1.5, 2, 3]])
    values = (points**2).sum(-1)
    smooth, grid = gf.grid_and_smooth(points, values, spacing=0.5, radius=0.75)
    assert grid == gf.Grid.covering(points, spacing=0.5) and grid.bounds == ((1, 4), (2, 5), (3, 6))
    np.testing.assert_allclose(smooth, gridded(points, values, grid, ball(0.75, (0.5,) * 3)), atol=1e-12)
    assert np.isfinite(smooth[0, 0, 0]) and np.isfinite(smooth[-1, -1, -1])  # the extremes are there
    alone, _ = gf.grid_and_smooth(points, values, spacing=0.5, radius=0.25)  # a ball within its cell: the mean there
    found = alone[np.isfinite(alone)]
    np.testing.assert_allclose(np.sort(found), np.sort([values[0], values[4], values[2], values[3], values[1]]))


def test_the_diagonal_as_asked():
    """TASKS.md, 1: points (i, i, i) of step 0.1, of which rounding must not put two into one cell."""
    x = np.arange(10)[:, None] * 0.1 * np.ones(3)
    values = (x**2).sum(-1)
    alone, grid = gf.grid_and_smooth(x, values, spacing=0.1, radius=0.05)
    assert grid.shape == (10, 10, 10) and np.isfinite(alone).sum() == 10
    np.testing.assert_allclose(alone[np.arange(10), np.arange(10), np.arange(10)], values)


@pytest.mark.parametrize("periodic", [False, (True, False)])
def test_beside_loops(periodic, rng):
    points, values = rng.uniform(-0.5, 5, (30, 2)), rng.normal(size=30)
    values[3], points[4, 1] = np.nan, np.nan
    grid = gf.Grid.from_spacing((9, 6), (0.0, 0.5), (0.5, 0.7), periodic=periodic)
    kernel = np.arange(1.0, 16).reshape(5, 3)
    got, same = gf.grid_and_smooth(points, values, kernel, grid=grid)
    assert same is grid
    if periodic:
        wide = gf.Grid.from_spacing((9 + 8, 6), (-4 * 0.5, 0.5), (0.5, 0.7))
        thrice = np.concatenate([points + np.array([s * 4.5, 0]) for s in (-1, 0, 1)])
        expected = gridded(thrice, np.tile(values, 3), wide, kernel)[4:-4]
    else:
        expected = gridded(points, values, grid, kernel)
    np.testing.assert_allclose(got, expected, atol=1e-12)
    columns = tuple(points.T)
    np.testing.assert_array_equal(gf.grid_and_smooth(columns, values, kernel, grid=grid)[0], got)


def test_channels_and_types(rng):
    points, values = rng.uniform(0, 3, (5, 4, 2)), rng.normal(size=(5, 4, 3))
    both, grid = gf.grid_and_smooth(points, values, radius=1.2, spacing=0.6, margin=2)
    assert both.shape == (3, *grid.shape) and grid == gf.Grid.covering(points.reshape(-1, 2), spacing=0.6, margin=2)
    one, _ = gf.grid_and_smooth(points, values[..., 1], radius=1.2, spacing=0.6, margin=2)
    np.testing.assert_allclose(both[1], one)
    small, _ = gf.grid_and_smooth(points.astype("f4"), values.astype("f4"), radius=1.2, grid=grid)
    assert small.dtype == np.float32
    np.testing.assert_allclose(small, both, atol=1e-5)
    whole, _ = gf.grid_and_smooth(points, (values > 0), radius=1.2, grid=grid)
    assert whole.dtype == np.float64 and np.nanmin(whole) >= 0 and np.nanmax(whole) <= 1


@pytest.mark.parametrize("name", ARRAYS)
def test_gridding_in_frameworks(name, rng):
    of, (points, values) = ARRAYS[name], (rng.uniform(0, 3, (20, 2)), rng.normal(size=20))
    expected, grid = gf.grid_and_smooth(points, values, radius=1.2, spacing=0.6)
    ct = np.where(np.isnan(expected), 0, rng.normal(size=grid.shape))
    got, made = gf.grid_and_smooth(of(points), of(values), radius=1.2, spacing=0.6)
    tol = 1e-5 if name == "jax" else 1e-12
    assert made.shape == grid.shape
    np.testing.assert_allclose(np.asarray(got), expected, atol=tol)

    def scalar(v, where=jnp.where):
        y, _ = gf.grid_and_smooth(of(points), v, radius=1.2, grid=made)
        return (where(of(ct) != 0, y, of(np.zeros_like(ct))) * of(ct)).sum() if name != "tensorflow" else y

    expected = np.array(
        [(np.nan_to_num(gf.grid_and_smooth(points, e, radius=1.2, grid=grid)[0]) * ct).sum() for e in np.eye(20)]
    )
    if name == "torch":
        v = torch.tensor(values, requires_grad=True)
        scalar(v, torch.where).backward()
        found = v.grad
    elif name == "jax":
        found = jax.jit(jax.grad(scalar))(of(values))
    else:
        with tf.GradientTape() as tape:
            v = tf.Variable(values)
            y = tf.function(scalar)(v)
            y = tf.reduce_sum(tf.where(of(ct) != 0, y, tf.zeros_like(y)) * ct)
        found = tape.gradient(y, v)
    np.testing.assert_allclose(np.asarray(found), expected, atol=tol)


# ---- lattices --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("dtype", ["float64", "float32", "int64"])
def test_a_lattice_in_any_order(dtype, rng):
    """TASKS.md, 1: the points are a full lattice, and only need sorting."""
    grid = gf.Grid.from_spacing((4, 1, 10), (3, -2, 100), (2, 1, 3) if dtype == "int64" else (0.1, 1, 0.3))
    points = grid.coords().reshape(-1, 3).astype(dtype)
    order = rng.permutation(len(points))
    for values in (
        rng.normal(size=40),
        rng.integers(0, 9, 40),
        rng.random((40, 2)) < 0.5,
        rng.normal(size=(40, 2)) * 1j,
    ):
        array, found = gf.to_grid(points[order], values[order])
        assert array.dtype == values.dtype
        np.testing.assert_array_equal(np.moveaxis(array.reshape(*values.shape[1:], 40), -1, 0), values)
        assert found.shape == grid.shape
        np.testing.assert_allclose(found.coords(), grid.coords(), rtol=1e-6)
        np.testing.assert_array_equal(gf.to_grid(tuple(points[order].T), values[order])[0], array)


def test_a_lattice_with_gaps(rng):
    grid = gf.Grid.from_spacing((9, 7), (1, 2), (0.1, 0.25))
    values = rng.normal(size=grid.shape)
    there = rng.random(grid.shape) < 0.4
    there[[0, -1], [0, -1]] = there[3, 4] = there[4, 4] = there[4, 5] = True  # corners, and neighbours along each axis
    there[6], there[5, 2] = False, True  # a whole row, but not its neighbours
    array, found = gf.to_grid(grid.coords()[there], values[there])
    assert found.shape == grid.shape
    np.testing.assert_array_equal(array, np.where(there, values, np.nan))
    array, _ = gf.to_grid(grid.coords()[there], values[there], fill_value=-5)
    np.testing.assert_array_equal(array, np.where(there, values, -5))
    array, _ = gf.to_grid(grid.coords()[there], there[there])
    np.testing.assert_array_equal(array, np.where(there, 1, np.nan))


def test_a_jittered_lattice_is_one_up_to_a_thousandth(rng):
    points = np.arange(20.0)[:, None] * 0.3
    gf.to_grid(points + rng.uniform(-1e-4, 1e-4, points.shape), np.ones(20))
    with pytest.raises(ValueError, match="axis 0"):
        gf.to_grid(points + rng.uniform(-0.05, 0.05, points.shape), np.ones(20))


@pytest.mark.parametrize("part", [1.0, 0.7])
def test_derivatives_of_a_lattice(part, rng):
    grid = gf.Grid.pixels((5, 6))
    there = rng.random(grid.shape) < part
    there[0, :2] = there[1, 0] = there[-1, -1] = True
    points, ct = grid.coords()[there], rng.normal(size=(2, *grid.shape))
    v = torch.randn(len(points), 2, dtype=torch.float64, requires_grad=True)
    y, _ = gf.to_grid(points.tolist(), v)
    np.testing.assert_array_equal(y.detach().numpy(), gf.to_grid(points, v.detach().numpy())[0])
    torch.nansum(y * torch.as_tensor(ct)).backward()
    np.testing.assert_array_equal(v.grad.numpy(), np.moveaxis(ct, 0, -1)[there])
    small, mass = jnp.asarray(points), np.moveaxis(ct, 0, -1)[there]
    f = jax.grad(lambda v: jnp.nansum(gf.to_grid(small, v)[0] * ct))
    np.testing.assert_allclose(np.asarray(f(jnp.ones((len(points), 2)))), mass, atol=1e-6)


# ---- bad input -------------------------------------------------------------------------------------------------------
P, V = np.random.default_rng(0).normal(size=(6, 2)), np.ones(6)
L = gf.Grid.pixels((2, 3)).coords().reshape(-1, 2)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: gf.grid_and_smooth(P, V, radius=1), TypeError, ["gf.grid_and_smooth", "spacing or grid"]),
        (lambda: gf.grid_and_smooth(P, V, radius=1, spacing=1, grid=gf.Grid((2, 2))), TypeError, ["not both"]),
        (lambda: gf.grid_and_smooth(P, V, spacing=1), ValueError, ["gf.grid_and_smooth", "needs a radius"]),
        (lambda: gf.grid_and_smooth(P, V, radius=-1, spacing=1), ValueError, ["radius", "positive"]),
        (lambda: gf.grid_and_smooth(P, V, radius=1, spacing=0), ValueError, ["spacing", "positive"]),
        (lambda: gf.grid_and_smooth(P, V[:5], radius=1, spacing=1), ValueError, ["values has shape (5,)", "(6,)"]),
        (lambda: gf.grid_and_smooth(P, V, radius=1, grid=gf.Grid(3)), ValueError, ["2 coordinates", "1 axes"]),
        (lambda: gf.grid_and_smooth(P, V * 1j, radius=1, spacing=1), TypeError, ["complex128"]),
        (lambda: gf.grid_and_smooth(np.arange(6), V, radius=1, spacing=1), ValueError, ["coordinates"]),
        (lambda: gf.grid_and_smooth(P * np.nan, V, radius=1, spacing=1), ValueError, ["no point without NaN"]),
        (lambda: gf.grid_and_smooth(P * np.inf, V, radius=1, spacing=1), ValueError, ["finite"]),
        (lambda: gf.grid_and_smooth(P[:0], V[:0], radius=1, spacing=1), ValueError, ["no point"]),
        (lambda: gf.grid_and_smooth(torch.as_tensor(P), V, radius=1, spacing=1), TypeError, ["torch.Tensor"]),
        (lambda: gf.to_grid(P, V), ValueError, ["gf.to_grid", "axis 0", "not evenly spaced"]),
        (lambda: gf.to_grid(np.c_[L[:, 0], L[:, 1] ** 2 + L[:, 1] * 0.3], V), ValueError, ["axis 1", "not evenly"]),
        (lambda: gf.to_grid(L[[0, 1, 2, 3, 4, 1]], V), ValueError, ["points 1 and 5", "same place (0.0, 1.0)"]),
        (lambda: gf.to_grid(L * [1, np.nan], V), ValueError, ["axis 1", "finite", "nan"]),
        (lambda: gf.to_grid(L + np.array([0, np.inf]), V), ValueError, ["inf"]),
        (lambda: gf.to_grid(L[:0], V[:0]), ValueError, ["empty"]),
        (lambda: gf.to_grid(L, V[:5]), ValueError, ["values has shape (5,)"]),
        (lambda: gf.to_grid(L.reshape(2, 3, 2), V.reshape(2, 3)), ValueError, ["(n, ndim)"]),
        (lambda: gf.to_grid(L, V, fill_value="none"), TypeError, ["fill_value"]),
        (lambda: gf.to_grid([[0.0] * 4, [1.0] * 4, [1e5, 1e5, 1e5, 1e5]], V[:3]), ValueError, ["more than memory"]),
        (lambda: jax.jit(lambda p: gf.to_grid(p, jnp.asarray(V))[0])(L), TypeError, ["traces"]),
    ],
)  # fmt: skip
def test_bad_input(call, error, words):
    with pytest.raises(error) as raised:
        call()
    for word in words:
        assert word in str(raised.value), raised.value


def test_more_cells_than_memory():
    points, values = np.array([[0.0, 0, 0], [1, 1, 1]]), np.ones((2, 1000))
    for how, message in (
        ({"spacing": 1e-5}, "1000030000300001 cells are too many"),
        ({"grid": gf.Grid.cells((900,) * 3, (0, 1)), "radius": 0.1}, "729000000 cells with 1000 results each"),
    ):
        with pytest.raises(ValueError, match=rf"gf\.grid_and_smooth: {message}"):
            gf.grid_and_smooth(points, values if "grid" in how else values[:, 0], **{"radius": 1e-4, **how})
