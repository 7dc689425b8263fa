"""binned_statistic and bin_index against SciPy, and against loops over the cells."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
import tensorflow as tf
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import gridfield as gf
from gridfield import dispatch
from gridfield.cpu import partition, summaries

NAMES = ["count", "sum", "mean", "var", "std", "min", "max", "first", "last", "median", 0.0, 0.3, 0.9, 1.0]
PLAIN = {
    "count": len, "sum": np.sum, "mean": np.mean, "var": np.var, "std": np.std, "min": np.min, "max": np.max,
    "first": lambda v: v[0], "last": lambda v: v[-1], "median": np.median,
}  # fmt: skip


def oracle(index, values, cells, statistic, fill=np.nan):
    """One cell after the other."""
    f = PLAIN.get(statistic) or (lambda v: np.quantile(v, statistic))
    out = np.full(cells, 0.0 if statistic in ("count", "sum") else fill, float)
    for c in np.unique(index[index >= 0]):
        out[c] = f(values[index == c])
    return out


def cloud(rng, n=4000, nd=3):
    return rng.random((n, nd)) * 1.2 - 0.1, rng.normal(size=n) + 3


ELSEWHERE = ((1, "count"), (1, "median"), (3, "var"), (4, "count"))  # in every run; the others are marked slow


@pytest.mark.parametrize(
    ("nd", "statistic"),  # points are located along any number of axes alike, whatever is made of them
    [pytest.param(nd, name, marks=() if nd == 2 or (nd, name) in ELSEWHERE else pytest.mark.slow)
     for nd in (1, 2, 3, 4) for name in NAMES],
)  # fmt: skip
def test_against_a_loop(rng, nd, statistic):
    points, values = cloud(rng, 2000, nd)
    grid = gf.Grid.cells((5, 4, 3, 2)[:nd], (0, 1))
    ours = gf.binned_statistic(points, values, grid, statistic, fill_value=-7)
    expected = oracle(grid.index(points), values, grid.size, statistic, -7)
    np.testing.assert_allclose(ours, expected.reshape(grid.shape), rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("statistic", ["count", "sum", "mean", "std", "min", "max", "median"])
def test_against_scipy(rng, statistic):
    points, values = cloud(rng, 30_000)
    edges = [np.linspace(0, 1, 8), np.array([0, 0.1, 0.5, 0.55, 1]), np.array([-0.1, 0, 0.9])]
    points[::7] = np.stack([rng.choice(e, len(points[::7])) for e in edges], -1)  # on the edges
    theirs = scipy.stats.binned_statistic_dd(points, values, statistic, edges).statistic
    np.testing.assert_allclose(gf.binned_statistic(points, values, edges, statistic), theirs, rtol=1e-12)


@given(data=st.data())
@settings(max_examples=60)
def test_indices_are_those_of_the_grid_and_of_histogramdd(data):
    n = data.draw(st.sampled_from([1, 3, 10, 49, 1000]))
    lo = data.draw(st.sampled_from([0.0, -1.0, 1e6, 0.1, -1e15]))
    hi = lo + data.draw(st.sampled_from([1.0, 0.7, 49.0, 1e6])) * max(1, abs(lo) * 1e-6)
    grid = gf.Grid.cells((n, 2), ((lo, hi), (0, 1)), periodic=data.draw(st.booleans()))
    (edges, _) = grid.edges()
    x = np.array(data.draw(st.lists(st.sampled_from(range(n + 1)), min_size=1, max_size=30)))
    x = edges[x]
    for _ in range(data.draw(st.integers(0, 2))):
        x = np.nextafter(x, data.draw(st.sampled_from([-np.inf, np.inf])))
    x = np.append(x, [np.nan, np.inf, -np.inf, lo - 3.3 * (hi - lo)])
    points = np.stack([x, np.full(len(x), 0.5)], -1)
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(gf.bin_index(points, grid), grid.index(points))
        np.testing.assert_array_equal(gf.bin_index(tuple(points.T), grid), grid.index(points))
    if not grid.periodic[0]:
        counts = gf.binned_statistic(points, None, grid, "count")
        np.testing.assert_array_equal(counts, np.histogramdd(points, grid.edges())[0])


def test_several_at_once_and_columns(rng):
    points, values = cloud(rng)
    values = np.stack([values, values**2, -values], -1).reshape(-1, 1, 3)
    grid = gf.Grid.cells((4, 5, 6), (0, 1))
    ours = gf.binned_statistic(points, values, grid, NAMES)
    assert ours.shape == (len(NAMES), 1, 3, 4, 5, 6)
    for out, name in zip(ours, NAMES, strict=True):
        for c in range(3):
            alone = gf.binned_statistic(points, values[:, 0, c], grid, name)
            np.testing.assert_array_equal(out[0, c], alone)
    table = gf.binned_statistic(points.reshape(40, 100, 3), values.reshape(40, 100, 3), grid)
    np.testing.assert_array_equal(table, ours[2][0])


def test_ways_to_say_the_cells(rng):
    points, values = cloud(rng)
    grid = gf.Grid.cells((4, 5, 6), ((0, 1), (0, 2), (-1, 1)))
    expected = gf.binned_statistic(points, values, grid)
    bounds = ((0, 1), (0, 2), (-1, 1))
    for ours in (
        gf.binned_statistic(points, values, (4, 5, 6), bounds=bounds),
        gf.binned_statistic(tuple(points.T), values, grid.edges()),
        gf.binned_statistic(tuple(points.T), values, grid),
        gf.binned_statistic(np.asfortranarray(points), values, grid),
    ):
        np.testing.assert_array_equal(ours, expected)
    ours = gf.binned_statistic((points[:, 0].reshape(40, 100),), values.reshape(40, 100), 5, bounds=(0, 1))
    np.testing.assert_array_equal(ours, gf.binned_statistic(points[:, :1], values, 5, bounds=(0, 1)))


@pytest.mark.parametrize("kind", [bool, np.int64, np.float32])
def test_where_and_weights(rng, kind):
    points, values = cloud(rng)
    where, weights = rng.random(len(points)) < 0.5, rng.random(len(points))
    grid = gf.Grid.cells((2, 3, 4), (0, 1))
    for name in NAMES:
        ours = gf.binned_statistic(points, values, grid, name, where=where.astype(kind))
        np.testing.assert_array_equal(ours, gf.binned_statistic(points[where], values[where], grid, name))
    ours = gf.binned_statistic(points, values, grid, ["count", "sum", "mean", "var"], weights=weights, where=where)
    index = np.where(where, grid.index(points), -1)
    for c in range(grid.size):
        w, v = weights[index == c], values[index == c]
        mean = np.average(v, weights=w)
        expected = w.sum(), (w * v).sum(), mean, np.average((v - mean) ** 2, weights=w)
        np.testing.assert_allclose(ours.reshape(4, -1)[:, c], expected, rtol=1e-12)


def test_nan_policy(rng):
    points, values = cloud(rng, 300, 2)
    values[::10] = np.nan
    grid, ok = gf.Grid.cells((3, 3), (0, 1)), ~np.isnan(values)
    index = grid.index(points)
    for name in NAMES:
        omit = gf.binned_statistic(points, values, grid, name)
        np.testing.assert_array_equal(omit, gf.binned_statistic(points[ok], values[ok], grid, name))
        if name in ("count", "first", "last"):
            continue
        spoiled = gf.binned_statistic(points, values, grid, name, nan_policy="propagate").reshape(-1)
        np.testing.assert_array_equal(np.isnan(spoiled), [np.isnan(values[index == c]).any() for c in range(9)])
    with pytest.raises(ValueError, match=r"values has \d+ NaN"):
        gf.binned_statistic(points, values, grid, nan_policy="raise")
    values[~ok & (index >= 0)] = 1
    gf.binned_statistic(points, values, grid, nan_policy="raise")  # those that remain are in no cell


def test_outside(rng):
    points, values = cloud(rng, 300, 2)
    points[:3] = [[np.nan, 0], [np.inf, 0.5], [0.5, -np.inf]]
    grid = gf.Grid.cells((3, 3), (0, 1))
    clipped = gf.binned_statistic(points, values, grid, "sum", outside="clip")
    held = np.clip(points, 0, 1)
    np.testing.assert_array_equal(clipped, gf.binned_statistic(held, values, grid, "sum"))
    with pytest.raises(ValueError, match="points are in no cell"):
        gf.binned_statistic(points, values, grid, outside="raise")
    gf.binned_statistic(held[1:], values[1:], grid, outside="raise")


RARER = [pytest.param(dtype, marks=pytest.mark.slow) for dtype in ("bool", "int64")]  # four kernels each to compile


@pytest.mark.parametrize("dtype", ["float32", "float16", "int32", "uint8", *RARER])
def test_types(rng, dtype):
    points, values = cloud(rng, 500, 2)
    values = (values * 5).astype(dtype)
    grid = gf.Grid.cells((3, 3), (0, 1))
    for name in ("mean", "max", "median", "count"):
        ours = gf.binned_statistic(points, values, grid, name)
        assert ours.dtype == (dtype if dtype.startswith("float") else "float64")
        wide = gf.binned_statistic(points, values.astype(float), grid, name)
        np.testing.assert_array_equal(ours, wide.astype(ours.dtype))
    whole = rng.integers(0, 5, (100, 2)).astype("int16")
    counts = gf.binned_statistic(whole, None, 5, "count", bounds=[(0, 5)] * 2)
    assert counts.sum() == 100 and counts.dtype == np.float64
    weighed = gf.binned_statistic(whole, None, 5, ["count", "count"], bounds=[(0, 5)] * 2, weights=np.full(100, 0.5))
    np.testing.assert_array_equal(weighed, [counts / 2] * 2)
    assert counts.flags.writeable and weighed.flags.writeable  # the result is the caller's to change


def test_variances_far_from_zero(rng):
    x, values = rng.random(200_000), rng.normal(size=200_000) + 1e9
    ours = gf.binned_statistic((x,), values, 4, "var", bounds=(0, 1))
    theirs = [values[gf.bin_index((x,), 4, bounds=(0, 1)) == c].var() for c in range(4)]
    np.testing.assert_allclose(ours, theirs, rtol=1e-7)
    assert gf.binned_statistic((x,), np.full(len(x), 0.1), 4, "std", bounds=(0, 1)).tolist() == [0] * 4


def test_the_number_of_threads_changes_nothing(rng):
    points, values = cloud(rng, 1_000_000, 2)
    values[::1000] = np.nan
    grid, results = gf.Grid.cells((7, 9), (0, 1)), []
    for n in (1, 2, 5):
        gf.set_num_threads(n)
        try:
            results.append(gf.binned_statistic(points, values, grid, NAMES))
        finally:
            gf.set_num_threads(None)
    for other in results[1:]:
        np.testing.assert_array_equal(other, results[0])
    ok = ~np.isnan(values)
    index = grid.index(points)[ok]
    for name, ours in zip(NAMES, results[0], strict=True):
        np.testing.assert_allclose(ours.reshape(-1), oracle(index, values[ok], 63, name), rtol=1e-11)


def test_empty():
    none = np.empty((0, 2))
    grid = gf.Grid.cells((2, 2), (0, 1))
    assert gf.bin_index(none, grid).shape == (0,)
    out = gf.binned_statistic(none, np.empty(0), grid, ["count", "sum", "mean", "median", "std", "max"], fill_value=5)
    assert out[:2].tolist() == np.zeros((2, 2, 2)).tolist() and (out[2:] == 5).all()
    values = np.array([1.0])
    assert np.isnan(gf.binned_statistic(np.zeros((1, 2)), values, grid, "mean", where=np.zeros(1))).all()


# ---- the question that started this
def test_five_points_of_which_two_are_in_one_cell():
    points = np.array([[1.0, 2, 3], [4, 5, 6], [2.5, 3.5, 4.5], [2.9, 3.9, 4.9], [1.5, 2, 3]])
    values = (points**2).sum(-1)
    grid = gf.Grid.covering(points, spacing=0.5)
    field, count = gf.binned_statistic(points, values, grid, ["mean", "count"])
    assert count.sum() == 5  # none is lost at the extremes
    for p, v in zip(points, values, strict=True):
        cell = np.unravel_index(gf.bin_index(p, grid), grid.shape)
        assert count[cell] >= 1 and (count[cell] == 2 or field[cell] == v)


def test_a_lattice_is_in_the_middle_of_its_cells():
    x = np.arange(10) * 0.1
    grid = gf.Grid.covering(x[:, None], spacing=0.1)
    np.testing.assert_array_equal(gf.binned_statistic((x,), x, grid), x)
    np.testing.assert_array_equal(gf.binned_statistic((x,), x, grid, "count"), np.ones(10))


# ---- smooth kernels, derivatives, frameworks
def test_smooth_kernels_lose_nothing(rng):
    points, values = rng.random((500, 2)), rng.normal(size=500)
    grid = gf.Grid.cells((6, 7), (0, 1))
    for kernel in ("linear", "cubic", 2):
        count, total, mean = gf.binned_statistic(points, values, grid, ["count", "sum", "mean"], kernel=kernel)
        np.testing.assert_allclose([count.sum(), total.sum()], [500, values.sum()], rtol=1e-12)
        np.testing.assert_allclose(mean, total / count, rtol=1e-12)
    spread = gf.splat(values, points, grid, kernel="cubic", boundary="nearest")
    np.testing.assert_allclose(gf.binned_statistic(points, values, grid, "sum", kernel="cubic"), spread, atol=1e-13)
    beyond = np.concatenate([points, [[1.01, 0.5], [np.nan, 0.5]]])
    ours = gf.binned_statistic(beyond, np.append(values, [7, 8]), grid, "sum", kernel="linear")
    np.testing.assert_array_equal(ours, gf.binned_statistic(points, values, grid, "sum", kernel="linear"))


GRID = gf.Grid.cells((3, 4), (0, 1))
FOLLOWED = ["count", "sum", "mean", "var", "std", "min", "max"]


@pytest.mark.parametrize("policy", ["omit", "propagate"])
@pytest.mark.parametrize("make", [torch.as_tensor, jnp.asarray, tf.constant], ids=["torch", "jax", "tensorflow"])
def test_frameworks_agree(rng, make, policy):
    points, values = cloud(rng, 200, 2)
    points, values = points.astype(np.float32), values.astype(np.float32)
    values[::20] = np.nan
    weights, where = rng.random(200).astype(np.float32), rng.random(200) < 0.8
    for w, names in ((None, NAMES), (weights, ["count", "sum", "mean", "std"])):
        expected = gf.binned_statistic(points, values, GRID, names, weights=w, where=where, nan_policy=policy)
        mine = make(points), make(values), GRID, names
        how = {"weights": None if w is None else make(w), "where": make(where), "nan_policy": policy}
        ours = gf.binned_statistic(*mine, **how)
        assert type(ours) is type(mine[0]) and np.asarray(ours).dtype == np.float32
        np.testing.assert_array_equal(np.asarray(ours), expected)
    index = gf.bin_index(make(points), GRID)
    assert type(index) is type(make(points))
    np.testing.assert_array_equal(np.asarray(index), GRID.index(points))


@pytest.mark.parametrize(
    ("name", "policy"),  # each traced anew by JAX and TensorFlow
    [pytest.param(name, policy, marks=() if policy == "omit" or name in ("mean", "max") else pytest.mark.slow)
     for name in FOLLOWED for policy in ("omit", "propagate")],
)  # fmt: skip
def test_followed_values_give_the_same_numbers(rng, name, policy):
    points, values = cloud(rng, 200, 2)
    values[5], values[7] = values[6], np.nan
    where = rng.random(200) < 0.8
    expected = gf.binned_statistic(points, values, GRID, name, where=where, nan_policy=policy)
    v = torch.as_tensor(values).requires_grad_()
    how = {"where": torch.as_tensor(where), "nan_policy": policy}
    ours = gf.binned_statistic(torch.as_tensor(points), v, GRID, name, **how)
    np.testing.assert_allclose(ours.detach().numpy(), expected, rtol=1e-12, atol=1e-12)
    traced = jax.jit(lambda x, v, m: gf.binned_statistic(x, v, GRID, name, where=m, nan_policy=policy))
    np.testing.assert_allclose(traced(points, values, where), expected, rtol=2e-4, atol=1e-5)
    graph = tf.function(lambda x, v, m: gf.binned_statistic(x, v, GRID, name, where=m, nan_policy=policy))
    tensors = tf.constant(points), tf.constant(values), tf.constant(where)
    np.testing.assert_allclose(graph(*tensors), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ["sum", "mean", "var", "std", "min", "max"])
def test_gradients_in_values(rng, name):
    points, values = torch.rand(60, 2, dtype=torch.float64) * 1.2, torch.randn(60, 2, dtype=torch.float64)
    weights = torch.rand(60, dtype=torch.float64) + 0.1 if name not in ("min", "max") else None
    points[3] = float("nan")

    def f(v):
        return gf.binned_statistic(points, v, GRID, name, weights=weights, fill_value=0)

    values.requires_grad_()
    assert torch.autograd.gradcheck(f, values)
    (g,) = torch.autograd.grad(f(values).sum(), values)
    assert (g[points.isnan().any(-1)] == 0).all() and torch.isfinite(g).all()
    x, v = (jnp.asarray(a.detach().numpy()) for a in (points, values))
    w = None if weights is None else jnp.asarray(weights.numpy())
    theirs = jax.jit(jax.grad(lambda v: gf.binned_statistic(x, v, GRID, name, weights=w, fill_value=0).sum()))(v)
    np.testing.assert_allclose(theirs, g, rtol=2e-3, atol=2e-4)
    with tf.GradientTape() as tape:
        v = tf.Variable(values.detach().numpy())
        w = None if weights is None else tf.constant(weights.numpy())
        y = tf.reduce_sum(gf.binned_statistic(tf.constant(points.numpy()), v, GRID, name, weights=w, fill_value=0))
    np.testing.assert_allclose(tape.gradient(y, v), g, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", ["count", "sum", "mean"])
def test_gradients_of_smooth_kernels_in_points_and_values(name):
    points = (torch.rand(40, 2, dtype=torch.float64) * 0.6 + 0.2).requires_grad_()
    values = torch.randn(40, dtype=torch.float64).requires_grad_()

    def f(x, v):
        return gf.binned_statistic(x, v, GRID, name, kernel="cubic", fill_value=0)

    assert torch.autograd.gradcheck(f, (points, values))


@pytest.mark.filterwarnings(r"ignore:`torch.jit.script\w*` is deprecated:DeprecationWarning")  # torch's own
def test_no_derivative_in_points_that_are_traced():
    grid = gf.Grid.cells((3,), (0, 1))
    p, v = np.array([[0.1], [0.5], [0.9]]), np.array([1.0, 2.0, 3.0])
    means = np.array([1.0, 2.0, 3.0])

    def total(p, v):
        return (gf.binned_statistic(p, v, grid) * np.array([1.0, 2.0, 4.0])).sum()

    with jax.enable_x64(True):
        np.testing.assert_allclose(jax.jit(lambda p, v: gf.binned_statistic(p, v, grid))(p, v), means)
        np.testing.assert_allclose(jax.jit(jax.grad(total, 1))(jnp.array(p), jnp.array(v)), [1, 2, 4])
        for f in (jax.grad(total), jax.jit(jax.grad(total)), jax.grad(jax.jit(total))):
            with pytest.raises(TypeError, match="kernel='nearest' has no derivative"):
                f(jnp.array(p), jnp.array(v))

    p, v = torch.tensor(p), torch.tensor(v)

    def total(p, v):
        return (gf.binned_statistic(p, v, grid) * torch.tensor([1.0, 2.0, 4.0])).sum()

    np.testing.assert_allclose(torch.func.grad(total, 1)(p, v), [1, 2, 4])
    with pytest.raises(TypeError, match="kernel='nearest' has no derivative"):
        torch.func.grad(total)(p, v)
    np.testing.assert_allclose(torch.func.jvp(lambda v: total(p, v), (v,), (torch.ones_like(v),))[1], 7)
    with pytest.raises(TypeError, match="kernel='nearest' has no derivative"):
        torch.func.jvp(lambda p: total(p, v), (p,), (torch.ones_like(p),))

    @tf.function
    def slope(p, v, of):
        with tf.GradientTape() as tape:
            tape.watch([p, v][of])
            loss = tf.reduce_sum(gf.binned_statistic(p, v, grid) * np.array([1.0, 2.0, 4.0]))
        return tape.gradient(loss, [p, v][of])

    p, v = tf.constant(p.numpy()), tf.constant(v.numpy())
    np.testing.assert_allclose(slope(p, v, 1), [1, 2, 4])
    with pytest.raises(TypeError, match="kernel='nearest' has no derivative"):
        slope(p, v, 0)


def test_what_has_no_derivative_says_so():
    points, values = torch.rand(9, 2), torch.rand(9, requires_grad=True)
    for name in ("median", 0.3, "first", "last"):
        with pytest.raises(TypeError, match="no derivative"):
            gf.binned_statistic(points, values, GRID, name)
        gf.binned_statistic(points, values.detach(), GRID, name)
    with pytest.raises(TypeError, match="kernel='nearest' has no derivative"):
        gf.binned_statistic(points.requires_grad_(), values, GRID)


# ---- bad input
POINTS, VALUES = np.zeros((5, 2)), np.zeros(5)


@pytest.mark.parametrize(
    ("points", "values", "grid", "kwargs", "error", "match"),
    [
        (POINTS, VALUES, GRID, {"statistic": "mode"}, ValueError, "statistic must be one of"),
        (POINTS, VALUES, GRID, {"statistic": 1.5}, ValueError, "probability from 0 to 1"),
        (POINTS, VALUES, GRID, {"statistic": []}, ValueError, "empty"),
        (POINTS, VALUES[:4], GRID, {}, ValueError, r"values has shape \(4,\)"),
        (POINTS, VALUES, GRID, {"weights": np.ones(4)}, ValueError, r"weights has shape \(4,\)"),
        (POINTS, VALUES, GRID, {"where": np.ones((5, 1))}, ValueError, r"where has shape \(5, 1\)"),
        (POINTS, VALUES, GRID, {"weights": np.ones(5), "statistic": "median"}, ValueError, "weights do not go"),
        (POINTS, None, GRID, {}, ValueError, "values may be None"),
        (POINTS[:, :1], VALUES, GRID, {}, ValueError, r"points has shape \(5, 1\) but must be \(\*pts, 2\)"),
        ((VALUES,), VALUES, GRID, {}, ValueError, "points has 1 arrays"),
        ((VALUES, VALUES[:3]), VALUES, GRID, {}, ValueError, r"points\[1\] has shape"),
        (POINTS, VALUES, (3, 3), {}, ValueError, "with bounds="),
        (POINTS, VALUES, (3, 3), {"bounds": ((1, 0), (0, 1))}, ValueError, "lo < hi"),
        (POINTS, VALUES, (3, 3), {"bounds": ((1, 1), (0, 1))}, ValueError, "lo < hi"),
        (POINTS, VALUES, GRID, {"bounds": (0, 1)}, ValueError, "bounds goes with numbers of cells"),
        (POINTS, VALUES, [[0, 1], [1, 0]], {}, ValueError, "edges of axis 1"),
        (POINTS, VALUES, [[0, 1], [0, np.nan]], {}, ValueError, "edges of axis 1"),
        (POINTS, VALUES, (10**6, 10**6), {"bounds": (0, 1)}, ValueError, "cells are too many"),
        (POINTS, VALUES, GRID, {"nan_policy": "ignore"}, ValueError, "nan_policy must be one of"),
        (POINTS, VALUES, GRID, {"outside": "wrap"}, ValueError, "outside must be one of"),
        (POINTS, VALUES, GRID, {"kernel": "linear", "statistic": "max"}, ValueError, "kernel='linear' is for"),
        (POINTS, VALUES, [[0, 1], [0, 1]], {"kernel": "linear"}, ValueError, "uniform grid"),
        (POINTS, VALUES, GRID, {"fill_value": "x"}, TypeError, "fill_value"),
        (POINTS, VALUES + 1j, GRID, {}, TypeError, "values has dtype complex128"),
        (POINTS, np.array(["a"] * 5), GRID, {}, TypeError, "values"),
        ((), VALUES, GRID, {}, ValueError, "empty tuple"),
    ],
)
def test_bad_input(points, values, grid, kwargs, error, match):
    with pytest.raises(error, match=match) as caught:
        gf.binned_statistic(points, values, grid, **kwargs)
    assert str(caught.value).startswith("gf.binned_statistic: ")


# ---- what a review found
def test_points_on_an_end_that_is_zero_where_subnormals_are_flushed():
    """Threads of XLA and of tf.function do, torch on demand: a number below 0 that is compared with is 0 then."""
    x, v = np.array([[0.0], [0.3], [1.0]]), np.array([5.0, 7.0, 9.0])
    grid, below = gf.Grid.cells(4, (0, 1)), gf.Grid.cells(4, (-1, 0))
    with jax.enable_x64(True):
        np.testing.assert_array_equal(jax.jit(lambda p: gf.bin_index(p, grid))(x), [0, 1, 3])
        np.testing.assert_array_equal(jax.jit(lambda p: gf.bin_index(p, below))(-x), [3, 2, 0])
        np.testing.assert_array_equal(jax.jit(lambda p: gf.lookup(p, jnp.arange(4.0) + 1, grid))(x), [1, 2, 4])
        sums = jax.jit(lambda v: gf.binned_statistic(jnp.asarray(x - 0.1), v, grid, "sum", outside="clip"))(v)
        np.testing.assert_array_equal(sums, [12, 0, 0, 9])
    np.testing.assert_array_equal(tf.function(lambda p: gf.bin_index(p, grid))(tf.constant(x)), [0, 1, 3])
    torch.set_flush_denormal(True)
    try:
        np.testing.assert_array_equal(gf.histogram(np.array([0.0, 0.0, 0.3, 1.0]), 4, (0, 1))[0], [2, 1, 0, 1])
    finally:
        torch.set_flush_denormal(False)


def test_smooth_kernels_and_followed_values_are_summed_in_float64():
    grid, x = gf.Grid.from_spacing((8,), (5e6,), (0.1,)), 5e6 + np.array([0.05, 0.23, 0.41, 0.62])
    got = gf.binned_statistic((x,), np.ones(4, "f4"), grid, "sum", kernel="linear")
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, [0.5, 0.5, 0.7, 0.3, 0.9, 0.1, 0.8, 0.2], atol=1e-6)
    v, at = np.ones(2001, "f4"), (np.full(2001, 0.5),)
    v[0] = 1e8
    for kernel, values in (("linear", v), ("nearest", torch.tensor(v, requires_grad=True))):
        points = (torch.tensor(at[0]),) if torch.is_tensor(values) else at
        assert gf.binned_statistic(points, values, 1, "sum", bounds=(0, 1), kernel=kernel).tolist() == [100002000]


@pytest.mark.parametrize("first", [-1e9, 1e20, 0.0])
def test_what_has_no_weight_does_not_spoil_a_variance(first):
    x, v, w = (np.zeros(4),), np.array([first, 1.0, 2, 3]), np.array([0, 1.0, 1, 1])
    got = gf.binned_statistic(x, v, 1, ["mean", "var", "std"], bounds=(-1, 1), weights=w)
    np.testing.assert_allclose(got[:, 0], [2, 2 / 3, (2 / 3) ** 0.5], rtol=1e-12)
    w = np.array([0, 1.0, -1, 2])
    v[1] = v[2]
    got = gf.binned_statistic(x, v, 1, "var", bounds=(-1, 1), weights=w)
    np.testing.assert_allclose(got, np.average((v[1:] - 3) ** 2, weights=w[1:]), atol=1e-12)


def test_bool_coordinates_and_memory_of_many_results():
    np.testing.assert_array_equal(gf.bin_index((np.array([True, False]),), 2, bounds=(0, 1)), [1, 0])
    with pytest.raises(ValueError, match="343000000 cells with 10000 results each are too many"):
        gf.binned_statistic(np.zeros((2, 3)), np.zeros((2, 10000)), (700,) * 3, "mean", bounds=(0, 1))
    v = torch.ones(3, requires_grad=True)
    with pytest.raises(TypeError, match=r"\['median'\] have no derivative"):
        gf.binned_statistic(torch.zeros(3, 1), v, 1, "median", bounds=(0, 1))


@pytest.mark.parametrize("name", ["min", "max"])
def test_extremes_alone_are_those_beside_a_count(rng, name):
    """Alone, NaN stands for an empty cell in their records."""
    n = 300_000
    points = rng.random((n, 2))
    values = rng.choice([np.nan, -np.inf, np.inf, -0.0, 0.0, 1.0, -1.0], (n, 2), p=[0.3, 0.1, 0.1, 0.2, 0.1, 0.1, 0.1])
    values[points[:, 0] < 0.1] = np.nan
    grid = gf.Grid.cells((300, 500), (0, 1))
    both = gf.binned_statistic(points, values, grid, [name, "count"], fill_value=7.0)
    try:
        for threads in (1, 2, 3):
            gf.set_num_threads(threads)
            alone = gf.binned_statistic(points, values, grid, name, fill_value=7.0)
            assert alone.tobytes() == both[0].tobytes()
    finally:
        gf.set_num_threads(None)
    assert (alone == 7.0).mean() > 0.1 and np.isinf(alone).mean() > 0.1


@pytest.mark.parametrize("n", [511, 512, 513, 70_000])
# int16 is computed as float64 is: another kernel to compile, 2 s, marked slow
@pytest.mark.parametrize("kind", [np.float32, np.float64, pytest.param(np.int16, marks=pytest.mark.slow)])
def test_masked_histograms_of_lines_of_any_length(rng, n, kind):
    """Whole blocks of the type that is computed in are read where they are, the last one is not."""
    a = (rng.normal(size=n + 3) * 50).astype(kind)[3:]  # begins between vectors
    a[:: max(n // 7, 1)] = 25  # on an edge
    mask = rng.random(n) < 0.4
    mask[: n // 2] &= n < 600  # whole blocks without any
    for edges in (40, np.array([-90.0, -3.0, 25.0, 60.0])):
        ours = gf.histogram(a, edges, (-100, 100), where=mask)
        want = np.histogram(a[mask], edges, (-100, 100))
        np.testing.assert_array_equal(ours[0], want[0])
        assert ours[1].dtype == want[1].dtype and (ours[1] == want[1]).all()


@pytest.mark.parametrize("name", NAMES)
def test_tensors_that_are_elsewhere(rng, monkeypatch, name):
    """Of tensors on another device the framework computes what it can; quantiles and the first came out as extremes."""
    points, values = cloud(rng, 300, 2)
    grid = gf.Grid.cells((5, 4), (0, 1))
    want = gf.binned_statistic(points, values, grid, [name, "count"])
    monkeypatch.setattr(type(dispatch.of("torch")), "nearby", lambda self, x: False)
    ours = gf.binned_statistic(torch.as_tensor(points), torch.as_tensor(values), grid, [name, "count"])
    np.testing.assert_allclose(ours.numpy(), want, rtol=1e-12, atol=1e-12)


@pytest.mark.filterwarnings(r"ignore:`torch.jit.script\w*` is deprecated:DeprecationWarning")  # torch's own
@pytest.mark.parametrize("name", ["mean", "median"])
def test_a_compiler_leaves_cells_as_they_are(rng, name):
    points, values = map(torch.as_tensor, cloud(rng, 300, 2))
    grid = gf.Grid.cells((5, 4), (0, 1))
    f = torch.compile(lambda p, v: 2 * gf.binned_statistic(p, v, grid, name, fill_value=0), backend="eager")
    assert torch.equal(f(points, values), 2 * gf.binned_statistic(points, values, grid, name, fill_value=0))


# ---- values dealt out to blocks of cells ----------------------------------------------------------------------------
def test_sums_in_many_cells_are_those_of_the_points_in_their_order(rng):
    points, values = cloud(rng, 150_000)
    grid = gf.Grid.cells((64, 63, 65), (0, 1))
    index = grid.index(points)
    inside = index >= 0
    expected = np.bincount(index[inside], values[inside], grid.size).reshape(grid.shape)
    for threads in (1, 2, 5):
        gf.set_num_threads(threads)
        np.testing.assert_array_equal(gf.binned_statistic(points, values, grid, "sum"), expected)
    gf.set_num_threads(None)


@pytest.mark.parametrize("policy", ["omit", "propagate"])
@pytest.mark.parametrize("weighted", [False, True])
def test_dealt_values_give_what_those_in_place_do(rng, monkeypatch, policy, weighted):
    n, names = 150_000, ["count", "sum", "mean", "var", "min", "max", "first", "last"]
    points, values = cloud(rng, n)
    values = np.stack([values, rng.random(n), np.arange(n) % 7], -1)
    values[rng.random(values.shape) < 1e-3] = np.nan
    points[70_000:] = np.clip(points[70_000:], 0, 1)  # of some chunks all points are in a cell
    values[131_072:] = np.nan_to_num(values[131_072:])
    grid = gf.Grid.cells((7, 11, 5), (0, 1))
    more = {"weights": rng.random(n) + 0.1} if weighted else {"where": rng.random(n) < 0.7}
    names = names[:4] if weighted else names
    for some in ({}, more):
        args = (points, values, grid, names if weighted or some else ["min", "max"])
        in_place = gf.binned_statistic(*args, nan_policy=policy, **some)
        with monkeypatch.context() as patch:
            patch.setattr(summaries, "DIRECT", 0)
            patch.setattr(summaries, "COLUMNS", 2)
            for room in (2**26, 1):  # at once, and a chunk at a time
                patch.setattr(partition, "ROOM", room)
                dealt = gf.binned_statistic(*args, nan_policy=policy, **some)
                np.testing.assert_allclose(dealt, in_place, rtol=1e-11)


def test_dealt_values_are_counted_where_they_are_to_raise(rng, monkeypatch):
    monkeypatch.setattr(summaries, "DIRECT", 0)
    points, values = np.array([[0.1], [0.2], [7.0]]), np.array([[1.0, np.nan]] * 3)
    with pytest.raises(ValueError, match="values has 2 NaN"):
        gf.binned_statistic(points, values, 5, "mean", bounds=(0, 1), nan_policy="raise")
    with pytest.raises(ValueError, match="1 points are in no cell"):
        gf.binned_statistic(points, values, 5, "mean", bounds=(0, 1), outside="raise")
    empty = gf.binned_statistic(points[:0], values[:0], 5, ["sum", "max", "median"], bounds=(0, 1))
    np.testing.assert_array_equal(empty, np.stack([np.zeros((2, 5)), *[np.full((2, 5), np.nan)] * 2]))


@pytest.mark.parametrize("cells", [1, 3, 50, 70_000])
def test_quantiles_of_any_number_of_blocks(rng, cells):
    n = 140_000
    x, values = rng.random(n) ** 4, rng.integers(0, 1000, n).astype(np.int16)
    grid = gf.Grid.cells(cells, (0, 1))
    index = grid.index(x[:, None])
    order = np.lexsort((values, index))
    starts, counts = np.searchsorted(index[order], np.arange(cells)), np.bincount(index, minlength=cells)
    low, high = (values[order][np.minimum(starts + k, n - 1)] for k in ((counts - 1) // 2, counts // 2))
    expected = np.where(counts, (low.astype(float) + high) / 2, -1)
    np.testing.assert_array_equal(gf.binned_statistic((x,), values, grid, "median", fill_value=-1), expected)


def test_dealt_values_of_any_layout_and_order(rng):
    n = 150_000
    points, values = rng.random((n, 6))[:, ::2], rng.normal(size=(2 * n, 2)).astype(np.float32)[::-2]
    values.setflags(write=False)
    grid = gf.Grid.cells((64, 64, 40), (0, 1))
    index, names = grid.index(points), ["sum", "std", "median"]
    got = gf.binned_statistic(points, values, grid, names)
    for c in range(2):
        expected = np.bincount(index, values[:, c], grid.size).astype(np.float32)
        np.testing.assert_array_equal(got[0, c].reshape(-1), expected)
    order = np.argsort(index, kind="stable")  # cell after cell
    np.testing.assert_array_equal(gf.binned_statistic(points[order], values[order], grid, names), got)
    here, nowhere = (gf.binned_statistic(np.full((n, 3), x), values, grid, names) for x in (0.5, np.nan))
    np.testing.assert_allclose(here[2, :, 32, 32, 20], np.median(values, 0), rtol=1e-6)
    assert not nowhere[0].any() and np.isnan(nowhere[1:]).all()


@pytest.mark.parametrize("many", [3, 40])  # few values are ranked, more are sorted
def test_quantiles_of_infinite_values_are_limits(many):
    """NumPy has NaN where it takes infinity from infinity, even for the median of (1, 2, inf)."""
    inf, middle = np.inf, np.arange(many - 2.0)
    for ends in ((1.0, inf), (-inf, 1.0), (-inf, inf), (inf, inf), (-inf, -inf), (-1.7e308, 1.7e308)):
        v = np.sort([ends[0], *middle, ends[1]])
        for q in (0.0, 0.1, 0.4, 0.5, 0.6, 0.99, 1.0):
            i, t = int(q * (many - 1)), q * (many - 1) % 1
            low, high = v[i], v[min(i + 1, many - 1)]
            expected = low if t == 0 else low * (1 - t) + high * t
            got = gf.binned_statistic((np.zeros(many),), v[::-1], 1, [q, "median"], bounds=(-1, 1))[:, 0]
            np.testing.assert_allclose(got, [expected, np.median(v)], rtol=1e-12)


@pytest.mark.parametrize("make", [torch.as_tensor, jnp.asarray, tf.constant], ids=["torch", "jax", "tensorflow"])
@pytest.mark.parametrize("kind", [bool, np.uint8, np.float32])
def test_masks_beside_a_smooth_kernel(rng, make, kind):
    """TensorFlow compares no bools."""
    points, values = (x.astype(np.float32) for x in cloud(rng, 200, 2))
    where = (rng.random(200) < 0.5).astype(kind)
    expected = gf.binned_statistic(points[where > 0], values[where > 0], GRID, "mean", kernel="linear")
    ours = gf.binned_statistic(make(points), make(values), GRID, "mean", where=make(where), kernel="linear")
    np.testing.assert_allclose(np.asarray(ours), expected, rtol=1e-5)
