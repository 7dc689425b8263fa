"""Points in a mask and labels under points, beside one point at a time."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # before anything imports tensorflow

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tensorflow as tf
import torch
from hypothesis import given
from hypothesis import strategies as st

import gridfield as gf
from gridfield.cpu import masks

GRIDS = {
    "pixels 1-D": gf.Grid.pixels(7),
    "pixels 2-D": gf.Grid.pixels((4, 6)),
    "one cell": gf.Grid.cells((1, 1), ((0, 1), (2, 5))),
    "far away": gf.Grid.cells((5, 9), ((1e9, 1e9 + 1), (-3e7, 2e7))),
    "tenths": gf.Grid.cells((10, 3), ((0, 1), (0.1, 0.4))),
    "periodic": gf.Grid((4, 5, 6), ((0, 2), (-1, 1), (0, 3)), periodic=(True, False, True)),
}
ARRAYS = {"torch": torch.as_tensor, "jax": jnp.asarray, "tensorflow": tf.convert_to_tensor}
each_grid = pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS)


def points_of(grid, rng, n=400):
    """Inside, outside, on all edges and a rounding beside them, NaN and infinite."""
    sides = [(e[0], e[-1]) for e in grid.edges()]
    x = np.stack([rng.uniform(lo - 0.3 * (hi - lo), hi + 0.3 * (hi - lo), n) for lo, hi in sides], -1)
    for a, edges in enumerate(grid.edges()):
        special = [edges, np.nextafter(edges, np.inf), np.nextafter(edges, -np.inf), [np.nan, np.inf, -np.inf, -0.0]]
        special = np.concatenate(special)
        rows = rng.choice(n, len(special), replace=False)
        x[rows, a] = special
    return x


def selected(points, mask, grid, outside=False):
    """One point at a time."""
    cells = [grid.index(p[None])[0] for p in points]
    return np.array([mask.reshape(-1)[c] > 0 if c >= 0 else outside for c in cells], bool)


def cells_by(points, grid):
    """The number of the cell of each point, looked up."""
    return gf.lookup(points, np.arange(grid.size).reshape(grid.shape), grid, outside=-1)


# ---- the kernel ------------------------------------------------------------------------------------------------------
@each_grid
@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "int64", "int32", "uint8"])
def test_cells_are_those_of_the_grid(grid, dtype, rng):
    with np.errstate(all="ignore"):
        x = (
            np.nan_to_num(points_of(grid, rng))
            if dtype not in ("float64", "float32", "float16")
            else points_of(grid, rng)
        )
        x = x.astype(dtype)
    np.testing.assert_array_equal(cells_by(x, grid), grid.index(x))


@given(
    st.integers(1, 2**20), st.floats(-1e6, 1e6), st.floats(1e-3, 1e6), st.integers(0, 2**32), st.booleans()
)  # fmt: skip
def test_cells_at_edges(n, lo, width, seed, periodic):
    grid = gf.Grid.cells(n, (lo, lo + width), periodic=periodic)
    k = np.random.default_rng(seed).integers(0, n + 1, 50)
    edges = np.linspace(grid.edges()[0][0], grid.edges()[0][-1], n + 1)[k]
    x = np.concatenate([edges, np.nextafter(edges, np.inf), np.nextafter(edges, -np.inf)])
    np.testing.assert_array_equal(cells_by(x[:, None], grid), grid.index(x[:, None]))


def test_more_cells_than_have_a_number_of_32_bits(rng, monkeypatch):
    monkeypatch.setattr("gridfield.selection.MOST", 100)
    grid = gf.Grid.cells((20, 30), (0, 1))
    x, mask = rng.uniform(-0.1, 1.1, (300, 2)), rng.random((20, 30)) < 0.5
    np.testing.assert_array_equal(cells_by(x, grid), grid.index(x))
    for m, over in ((mask, grid), (gf.MaskIndex(mask, grid), None)):
        np.testing.assert_array_equal(gf.select(x, m, over), selected(x, mask, grid))


def test_threads_do_not_matter(rng):
    grid, x = gf.Grid.pixels((300, 200)), rng.uniform(-5, 300, (400_000, 2))
    mask = rng.random(grid.shape) < 0.5
    index, cells = gf.MaskIndex(mask), grid.index(x)
    results = []
    for n in (1, 3):
        gf.set_num_threads(n)
        results.append((index.select(x), index.select(cells), gf.select(x, mask), gf.lookup(cells, mask)))
    gf.set_num_threads(None)
    for one, other in zip(*results, strict=True):
        np.testing.assert_array_equal(one, other)
        np.testing.assert_array_equal(one, results[0][0])


# ---- select ----------------------------------------------------------------------------------------------------------
@each_grid
@pytest.mark.parametrize("outside", [False, True])
def test_select_by_every_way(grid, outside, rng):
    x, mask = points_of(grid, rng), rng.random(grid.shape) < 0.4
    expected = selected(x, mask, grid, outside)
    cells, prepared = grid.index(x), gf.MaskIndex(mask, grid)
    columns = tuple(np.ascontiguousarray(c) for c in x.T)
    for points in (x, columns, cells, cells.astype(np.int32), np.asfortranarray(x), x[::-1][::-1]):
        for m in (mask, mask.astype(float), mask.astype(np.uint8), np.asfortranarray(mask), prepared):
            got = gf.select(points, m, None if m is prepared else grid, outside=outside)
            assert got.dtype == bool
            np.testing.assert_array_equal(got, expected)
            found = gf.select(points, m, None if m is prepared else grid, outside=outside, indices=True)
            np.testing.assert_array_equal(found, np.flatnonzero(expected))
    assert prepared.count == mask.sum()


def test_points_in_an_image_mask_as_asked(rng):
    """TASKS.md, 4: x and y as two arrays, a mask of 0 and 1, bins from the least to the largest of the data."""
    n, size = 2000, 50
    x, y = rng.normal(size=n), rng.normal(size=n)
    mask = (rng.random((size, size)) < 0.3).astype(float)
    bounds = ((y.min(), y.max()), (x.min(), x.max()))
    edges = [np.linspace(*b, size + 1) for b in bounds]
    slow = []
    for k in range(n):
        row, column = (
            min(np.searchsorted(e, v, "right") - 1, size - 1) for e, v in zip(edges, (y[k], x[k]), strict=True)
        )
        if mask[row, column] == 1:
            slow.append(k)
    grid = gf.Grid.cells(mask.shape, bounds)
    np.testing.assert_array_equal(gf.select((y, x), mask, grid, indices=True), slow)
    np.testing.assert_array_equal(gf.MaskIndex(mask, grid).select((y, x), indices=True), slow)
    np.testing.assert_array_equal(gf.select(grid.index(np.stack([y, x], -1)), mask, grid, indices=True), slow)


@pytest.mark.parametrize("value", [np.nan, -1, 0, -0.0, 0.5, 1, np.inf])
def test_a_mask_of_numbers_is_those_above_zero(value):
    mask = np.full((3, 3), value)
    for m in (mask, gf.MaskIndex(mask)):
        assert gf.select(np.ones((1, 2)), m)[0] == (value > 0)


def test_shapes_of_points(rng):
    mask = rng.random((5, 6)) < 0.5
    x = rng.uniform(0, 4, (2, 3, 2))
    expected = mask[tuple(np.rint(x).astype(int).reshape(-1, 2).T)].reshape(2, 3)
    for m in (mask, gf.MaskIndex(mask)):
        np.testing.assert_array_equal(gf.select(x, m), expected)
        np.testing.assert_array_equal(gf.select((x[..., 0], x[..., 1]), m), expected)
        assert gf.select(x[0, 0], m) == expected[0, 0] and gf.select(x[0, 0], m).shape == ()
        assert gf.select(x[:0], m).shape == (0, 3)
        assert gf.select(np.zeros(0, int), m).shape == (0,)
        np.testing.assert_array_equal(gf.select([[1, 2]], m), mask[1, 2][None])


@pytest.mark.parametrize("size", [1, 5, 62, 63, 64, 65, 126, 127, 128, 1000])
def test_bits(size, rng):
    mask = rng.random(size) < 0.5
    cells = np.concatenate([np.arange(-1, size), rng.integers(-1, size, 2000)])
    for outside in (False, True):
        got, top = masks.test_cells(cells, masks.packed(mask), size, outside)
        np.testing.assert_array_equal(got, np.where(cells >= 0, mask[cells], outside))
        assert top < size
        for beyond in (size, size + 70, 2**31 - 1):
            for kind in ("int32", "int64"):
                assert (
                    masks.test_cells(np.append(cells, beyond).astype(kind), masks.packed(mask), size, outside)[1]
                    == beyond
                )
    low = np.array([-1, np.iinfo(np.int64).min])
    np.testing.assert_array_equal(masks.test_cells(low, masks.packed(mask), size, True)[0], True)
    assert masks.test_cells(low, masks.packed(mask), size, False)[1] == -1


def test_read_only_arrays(rng):
    x, mask = rng.uniform(0, 3, (10, 2)), rng.random((4, 4)) < 0.5
    expected = gf.select(x, mask)
    x.setflags(write=False), mask.setflags(write=False)
    np.testing.assert_array_equal(gf.select(x, mask), expected)
    np.testing.assert_array_equal(gf.MaskIndex(mask).select(x), expected)


# ---- lookup ----------------------------------------------------------------------------------------------------------
@each_grid
@pytest.mark.parametrize("dtype", ["int32", "uint8", "float32", "float64", "complex64", "bool", "float16"])
def test_lookup(grid, dtype, rng):
    x, labels = points_of(grid, rng), rng.integers(0, 2 if dtype == "bool" else 9, grid.shape).astype(dtype)
    cells = grid.index(x)
    expected = np.where(cells < 0, np.array(1, dtype), labels.reshape(-1)[cells])
    got = gf.lookup(x, labels, grid, outside=1)
    assert got.dtype == labels.dtype
    np.testing.assert_array_equal(got, expected)
    np.testing.assert_array_equal(gf.lookup(cells, labels, grid, outside=1), expected)


# ---- frameworks ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ARRAYS)
def test_frameworks(name, rng):
    grid, of = gf.Grid.cells((5, 6), ((0, 5), (0, 6))), ARRAYS[name]
    x = rng.uniform(-1, 7, (40, 2)).astype(np.float32)
    mask, labels = rng.random(grid.shape) < 0.5, rng.integers(0, 9, grid.shape).astype(np.int32)
    cells = grid.index(x).astype(np.int32)
    prepared = gf.MaskIndex(of(mask), grid)
    for points in (x, cells):
        for m in (of(mask), prepared):
            got = gf.select(of(points), m, grid)
            assert type(got) is type(of(mask))
            np.testing.assert_array_equal(np.asarray(got), gf.select(points, mask, grid))
            np.testing.assert_array_equal(
                np.asarray(gf.select(of(points), m, grid, indices=True)), gf.select(points, mask, grid, indices=True)
            )
        np.testing.assert_array_equal(
            np.asarray(gf.lookup(of(points), of(labels), grid, outside=-1)), gf.lookup(points, labels, grid, outside=-1)
        )
    np.testing.assert_array_equal(
        np.asarray(gf.select((of(x[:, 0]), of(x[:, 1])), of(mask), grid)), gf.select(x, mask, grid)
    )


@pytest.mark.parametrize(
    "compiled",
    [jax.jit, lambda f: tf.function(f), lambda f: torch.compile(f, backend="eager")],
    ids=["jax.jit", "tf.function", "torch.compile"],
)
def test_compiled(compiled, request, rng):
    of = {"jax.jit": jnp.asarray, "tf.function": tf.constant}.get(request.node.callspec.id, torch.as_tensor)
    grid = gf.Grid.pixels((5, 6))
    x, mask = rng.uniform(-1, 7, (40, 2)).astype(np.float32), rng.random(grid.shape) < 0.5
    labels = rng.normal(size=grid.shape).astype(np.float32)
    prepared = gf.MaskIndex(mask)
    got = compiled(lambda x, m, v: (gf.select(x, m), prepared.select(x), gf.lookup(x, v)))(of(x), of(mask), of(labels))
    np.testing.assert_array_equal(np.asarray(got[0]), gf.select(x, mask))
    np.testing.assert_array_equal(np.asarray(got[1]), gf.select(x, mask))
    np.testing.assert_array_equal(np.asarray(got[2]), gf.lookup(x, labels))


def test_derivatives_in_labels(rng):
    """lookup is linear in the labels: what is under a point gets its cotangent."""
    x, labels = rng.uniform(-1, 7, (40, 2)), rng.normal(size=(5, 6))
    ct, cells = rng.normal(size=40), gf.Grid.pixels((5, 6)).index(x)
    expected = np.zeros(31)
    np.add.at(expected, cells, ct)  # -1: the last, cut off
    expected = expected[:-1].reshape(5, 6)
    v = torch.tensor(labels, requires_grad=True)
    y = gf.lookup(torch.as_tensor(x), v, outside=2.5)
    np.testing.assert_array_equal(y.detach().numpy(), gf.lookup(x, labels, outside=2.5))
    (y * torch.as_tensor(ct)).sum().backward()
    np.testing.assert_allclose(v.grad.numpy(), expected)
    with tf.GradientTape() as tape:
        v = tf.Variable(labels)
        y = tf.reduce_sum(gf.lookup(tf.constant(x), v) * ct)
    np.testing.assert_allclose(tape.gradient(y, v).numpy(), expected)
    small = [a.astype(np.float32) for a in (x, labels, ct)]
    gradient = jax.grad(lambda v: (gf.lookup(jnp.asarray(small[0]), v) * small[2]).sum())(jnp.asarray(small[1]))
    np.testing.assert_allclose(np.asarray(gradient), expected, atol=1e-6)


def test_half_precision(rng):
    x, mask = torch.tensor([[1.0, 2.0], [0.0, 9.0]], dtype=torch.bfloat16), rng.random((3, 4)) < 2
    assert gf.select(x, torch.as_tensor(mask)).tolist() == [True, False]
    assert gf.lookup(x, torch.ones(3, 4, dtype=torch.bfloat16)).dtype == torch.bfloat16


# ---- bad input -------------------------------------------------------------------------------------------------------
MASK = np.ones((4, 6), bool)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: gf.select(np.ones((3, 3)), MASK), ValueError, ["gf.select", "3 coordinates", "(3, 3)", "(4, 6)"]),
        (lambda: gf.select((np.ones(3),), MASK), ValueError, ["1 coordinates", "(3,)", "2 axes"]),
        (lambda: gf.select((np.ones(3), np.ones(4)), MASK), ValueError, ["points[1]", "(4,)", "(3,)"]),
        (lambda: gf.select((), MASK), ValueError, ["empty tuple"]),
        (lambda: gf.select(np.ones((3, 2)), MASK, gf.Grid.pixels((4, 5))), ValueError, ["(4, 6)", "(4, 5)"]),
        (lambda: gf.MaskIndex(MASK, gf.Grid.pixels((4, 5))), ValueError, ["gf.MaskIndex", "(4, 6)", "(4, 5)"]),
        (lambda: gf.MaskIndex(np.ones((0, 3))), ValueError, ["no samples", "(0, 3)"]),
        (lambda: gf.MaskIndex(np.ones(())), ValueError, ["scalar"]),
        (lambda: gf.MaskIndex(np.ones(3, complex)), TypeError, ["complex128"]),
        (lambda: gf.MaskIndex(np.array(["a"])), TypeError, ["mask"]),
        (lambda: gf.select(np.ones((3, 2)), np.zeros((0, 2))), ValueError, ["no samples"]),
        (lambda: gf.select(np.ones((3, 2), complex), MASK), TypeError, ["points", "complex128"]),
        (lambda: gf.select(np.ones((3, 2), bool), MASK), TypeError, ["points", "bool"]),
        (lambda: gf.select(np.array([1, 24]), MASK), ValueError, ["numbers of cells up to 24", "24 cells"]),
        (lambda: gf.select(np.array([1, 24]), gf.MaskIndex(MASK)), ValueError, ["numbers of cells up to 24"]),
        (lambda: gf.lookup(np.array([1, 24]), MASK), ValueError, ["gf.lookup", "numbers of cells up to 24"]),
        (lambda: gf.select(np.ones((3, 2)), MASK, outside=2), TypeError, ["outside", "True or False"]),
        (lambda: gf.select(np.ones((3, 2)), MASK, indices="yes"), TypeError, ["indices", "True or False"]),
        (lambda: gf.select(np.ones((3, 2)), MASK, grid=(4, 6)), TypeError, ["gf.Grid"]),
        (lambda: gf.select(np.ones((3, 2)), gf.MaskIndex(MASK), gf.Grid((4, 6))), ValueError, ["MaskIndex of"]),
        (lambda: gf.select(torch.ones(3, 2), MASK), TypeError, ["torch.Tensor", "numpy.ndarray"]),
        (lambda: gf.lookup(np.ones((3, 2)), MASK.astype(np.uint8), outside=-1), ValueError, ["uint8", "-1"]),
        (lambda: gf.lookup(np.ones((3, 2)), MASK.astype(int), outside=np.nan), ValueError, ["int64", "nan"]),
        (lambda: gf.lookup(np.ones((3, 2)), MASK * 1.0, outside="a"), ValueError, ["outside", "'a'"]),
        (lambda: gf.lookup(np.ones((3, 2)), MASK * 1.0, outside=1j), ValueError, ["outside", "1j"]),
    ],
)  # fmt: skip
def test_bad_input(call, error, words):
    with pytest.raises(error) as raised:
        call()
    for word in words:
        assert word in str(raised.value), raised.value


def test_indices_while_tracing():
    with pytest.raises(TypeError, match="indices=False"):
        jax.jit(lambda x: gf.select(x, jnp.ones((4, 6)), indices=True))(jnp.ones((3, 2)))


def test_no_derivative_in_the_points():
    grid, p = gf.Grid.cells(3, (0, 1)), np.array([[0.1], [0.5]])
    for f in (
        lambda p: gf.lookup(p, jnp.arange(3.0), grid).sum(),
        lambda p: jnp.nansum(gf.grid_and_smooth(p, jnp.ones(2), grid=grid, radius=1.0)[0]),
    ):
        with pytest.raises(TypeError, match="there is no derivative in them"):
            jax.grad(f)(jnp.array(p))
    x = torch.tensor(p, requires_grad=True)
    with pytest.raises(TypeError, match="there is no derivative in them"):
        gf.grid_and_smooth(x, torch.ones(2, dtype=torch.float64), grid=grid, radius=1.0)
    with pytest.raises(TypeError, match="there is no derivative in them"):
        gf.lookup(x, torch.arange(3.0), grid)
    assert gf.select(x, torch.ones(3), grid).all()


def test_numbers_of_cells_beyond_int64():
    cells, mask = np.array([2**64 - 1, 3], np.uint64), np.ones(10, bool)
    for f in (
        lambda: gf.select(cells, mask),
        lambda: gf.lookup(cells, np.arange(10)),
        lambda: gf.MaskIndex(mask).select(cells),
    ):
        with pytest.raises(ValueError, match="numbers of cells"):
            f()
    np.testing.assert_array_equal(gf.select(cells[1:], mask), [True])
