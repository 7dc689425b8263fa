import copy
import dataclasses
import math
import pickle

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from gridfield.grid import Grid


def holds_for(*strategies):
    return lambda test: settings(deadline=None)(given(*strategies)(test))


coordinate = st.floats(-1e6, 1e6, allow_subnormal=False)
sizes = st.integers(1, 60)


@st.composite
def pairs(draw):
    lo, hi = sorted((draw(coordinate), draw(coordinate)))
    if not hi - lo > 1e-9 * max(abs(lo), abs(hi), 1e-3):
        hi = lo + 1 + abs(lo)
    return lo, hi


@st.composite
def grids(draw, max_ndim=3):
    ndim = draw(st.integers(1, max_ndim))
    shape = draw(st.lists(sizes, min_size=ndim, max_size=ndim))
    bounds = draw(st.lists(pairs(), min_size=ndim, max_size=ndim))
    periodic = draw(st.lists(st.booleans(), min_size=ndim, max_size=ndim))
    make = draw(st.sampled_from((Grid, Grid.cells)))
    return make(shape, bounds, periodic=periodic)


def cell_by_hand(grid, point):
    """The rule of `index`, one coordinate and one edge at a time."""
    number = 0
    for x, edges, wraps in zip(point, grid.edges(), grid.periodic, strict=True):
        if wraps and math.isfinite(x) and not edges[0] <= x < edges[-1]:
            x = min(edges[0] + np.mod(x - edges[0], edges[-1] - edges[0]), edges[-1])
        if not edges[0] <= x <= edges[-1]:
            return -1
        cell = sum(edge <= x for edge in edges) - 1
        number = number * (len(edges) - 1) + min(cell, len(edges) - 2)
    return number


# ---------------------------------------------------------------- a grid is a value


def test_stored_fields_are_plain_python():
    grid = Grid(np.array([5, 6]), np.array([[0, 1], [2, 4]], np.float32), periodic=np.array([0, 1]) > 0)
    assert [field.name for field in dataclasses.fields(grid)] == [
        "shape", "origin", "spacing", "periodic",
    ]  # fmt: skip
    assert grid.shape == (5, 6) and {type(n) for n in grid.shape} == {int}
    assert grid.origin == (0.0, 2.0) and {type(o) for o in grid.origin} == {float}
    assert grid.spacing == (0.25, 2 / 6) and {type(h) for h in grid.spacing} == {float}
    assert grid.periodic == (False, True) and {type(p) for p in grid.periodic} == {bool}
    assert (grid.ndim, grid.size) == (2, 30)
    with pytest.raises(dataclasses.FrozenInstanceError):
        grid.shape = (1, 1)
    with pytest.raises((AttributeError, TypeError)):
        grid.unit = "mm"


@holds_for(grids())
def test_grid_equals_its_copies(grid):
    fields = grid.shape, grid.origin, grid.spacing
    rebuilt = Grid.from_spacing(*fields, periodic=grid.periodic)
    for twin in (pickle.loads(pickle.dumps(grid)), copy.deepcopy(grid), copy.copy(grid), rebuilt):
        assert twin == grid and hash(twin) == hash(grid)
    assert grid.take(range(grid.ndim)) == grid


def test_different_grids_differ():
    grid = Grid((5, 6))
    others = [Grid((6, 5)), Grid((5, 6), (0, 2)), Grid((5, 6), periodic=True), Grid.cells((5, 6))]
    assert len({grid, *others}) == 5 and grid != (5, 6)


def test_repr_is_short_and_makes_the_grid():
    assert repr(Grid(5)) == "Grid((5,), (0.0, 1.0), periodic=False)"
    assert repr(Grid((50, 1), ((0, 1), (-1, 2)), periodic=(True, False))) == (
        "Grid((50, 1), ((0.0, 1.0), (-1.0, 2.0)), periodic=(True, False))"
    )


@holds_for(grids())
def test_repr_evaluates_to_nearly_the_grid(grid):
    twin = eval(repr(grid))
    assert (twin.shape, twin.periodic) == (grid.shape, grid.periodic)
    assert_allclose(twin.bounds, grid.bounds, rtol=1e-14, atol=0)


# ---------------------------------------------------------------- where the samples are


def test_bounds_are_the_first_and_last_sample():
    assert Grid((5, 6)).bounds == ((0.0, 1.0), (0.0, 1.0))
    assert Grid((5, 6), (0, 2)).bounds == ((0.0, 2.0), (0.0, 2.0))
    assert Grid((5, 6), ((0, 2), (1, 3))).bounds == ((0.0, 2.0), (1.0, 3.0))
    assert Grid(5, (0, 2)) == Grid((5,), ((0, 2),)) == Grid([5], np.array([0, 2]))
    assert Grid(4, (0, 2), periodic=True).spacing == (0.5,)
    assert Grid(4, (0, 2), periodic=True).bounds == ((0.0, 1.5),)


@pytest.mark.parametrize("periodic", (False, True))
def test_axis_of_one_sample_spans_its_bounds(periodic):
    grid = Grid((1, 3), (2, 5), periodic=periodic)
    assert grid.spacing[0] == 3.0 and grid.bounds[0] == (2.0, 2.0)
    assert_array_equal(grid.axes()[0], [2.0])
    assert_array_equal(grid.edges()[0], [0.5, 3.5])


@pytest.mark.parametrize("bounds", ((0, 1), (-1, 1), (0, 0.3), (-0.5, 0.5), (0, 1000), (20, 90)))
def test_axes_and_edges_are_those_of_linspace_bit_for_bit(bounds):
    for n in range(2, 400):
        assert_array_equal(Grid(n, bounds).axes()[0], np.linspace(*bounds, n))
        assert_array_equal(Grid.cells(n, bounds).edges()[0], np.linspace(*bounds, n + 1))


@holds_for(sizes, pairs())
@example(49, (0.0, 1.0))
@example(3, (-0.1, 0.30000000000000004))
def test_samples_lie_on_the_bounds_and_cells_fill_them(n, pair):
    lo, hi = pair
    rounding = 3 * math.ulp(hi - lo + max(abs(lo), abs(hi)))
    grid = Grid(n, pair)
    assert grid.bounds[0][0] == lo
    if n > 1:
        assert abs(grid.bounds[0][1] - hi) <= rounding
    (edges,) = Grid.cells(n, pair).edges()
    assert len(edges) == n + 1 and (np.diff(edges) > 0).all()
    assert lo - rounding <= edges[0] <= lo and hi <= edges[-1] <= hi + rounding
    assert_array_equal(Grid.cells(n, pair).index([[lo], [hi]]), [0, n - 1])


@holds_for(grids())
def test_axes_edges_coords_and_indices_agree(grid):
    axes, edges, coords = grid.axes(), grid.edges(), grid.coords()
    assert coords.shape == (*grid.shape, grid.ndim) and coords.dtype == np.float64
    assert_array_equal(coords, np.stack(np.meshgrid(*axes, indexing="ij"), -1))
    for i, (axis, edge, n) in enumerate(zip(axes, edges, grid.shape, strict=True)):
        assert axis.dtype == edge.dtype == np.float64 and edge.shape == (n + 1,)
        assert grid.bounds[i] == (axis[0], axis[-1])
        atol = 8 * math.ulp(abs(edge).max())
        assert_allclose(axis, grid.origin[i] + np.arange(n) * grid.spacing[i], rtol=0, atol=atol)
        assert_allclose((edge[1:] + edge[:-1]) / 2, axis, rtol=0, atol=atol)
    assert_array_equal(grid.index(coords).ravel(), np.arange(grid.size))
    whole = np.moveaxis(np.indices(grid.shape), 0, -1)
    assert_allclose(grid.to_index(coords), whole, atol=1e-5)
    assert_allclose(grid.to_physical(whole), coords, rtol=1e-12, atol=1e-8)


def test_pixels_are_array_indices():
    grid = Grid.pixels((3, 1, 4), periodic=(False, False, True))
    assert grid.spacing == (1.0,) * 3 and grid.origin == (0.0,) * 3
    assert_array_equal(grid.axes()[2], [0, 1, 2, 3])
    assert_array_equal(grid.edges()[0], [-0.5, 0.5, 1.5, 2.5])
    points = np.array([[0.25, 0.0, 7.5]])
    assert_array_equal(grid.to_index(points), points)


def test_conversion_keeps_the_floating_type_and_works_in_float64():
    grid = Grid.from_spacing(2000, origin=1e4, spacing=0.5)
    points = np.float32([[10000.5], [10999.5]])
    assert grid.to_index(points).dtype == grid.to_physical(points).dtype == np.float32
    assert_array_equal(grid.to_index(points), [[1], [1999]])
    assert grid.to_index([[10000]]).dtype == grid.to_physical([[3]]).dtype == np.float64
    assert_array_equal(grid.to_physical([3]), [10001.5])
    assert grid.to_index(np.empty((0, 1))).shape == (0, 1)


# ---------------------------------------------------------------- index


@holds_for(grids(), st.data())
def test_index_follows_the_edges_exactly(grid, data):
    near = []
    for edges in grid.edges():
        width = edges[-1] - edges[0]
        edge = st.sampled_from([*edges, edges[0] - width, edges[-1] + width])
        nudged = st.tuples(edge, st.sampled_from((-math.inf, math.inf))).map(lambda pair: float(np.nextafter(*pair)))
        wild = st.sampled_from((math.nan, math.inf, -math.inf, 1e30, -1e30, 1.7e308, -1.7e308))
        inner = st.floats(float(edges[0]), float(edges[-1]))
        near.append(st.one_of(edge, nudged, inner, wild))
    points = np.array(data.draw(st.lists(st.tuples(*near), min_size=1, max_size=20)), np.float64)
    number = grid.index(points)
    assert number.dtype == np.int64
    with np.errstate(over="ignore", invalid="ignore"):
        assert_array_equal(number, [cell_by_hand(grid, point) for point in points])


@pytest.mark.parametrize("ndim", (1, 2, 3))
def test_index_counts_as_histogramdd(ndim):
    rng = np.random.default_rng(ndim)
    shape, bounds = (7, 10, 49)[:ndim], ((0, 1), (-1, 1), (0.1, 0.7))[:ndim]
    grid = Grid.cells(shape, bounds)
    scattered = rng.uniform(-1.2, 1.2, (5000, ndim))
    on_edges = np.stack([rng.choice(edges, 5000) for edges in grid.edges()], -1)
    just_off = np.nextafter(on_edges, rng.choice((-2, 2), on_edges.shape))
    points = np.concatenate([scattered, on_edges, just_off])
    number = grid.index(points)
    count = np.bincount(number[number >= 0], minlength=grid.size).reshape(shape)
    assert_array_equal(count, np.histogramdd(points, grid.edges())[0])
    assert_array_equal(count, np.histogramdd(points, shape, range=bounds)[0])


def test_index_wraps_on_periodic_axes():
    grid = Grid.cells((4, 3), (0, 12), periodic=(True, False))
    points = np.array([[0.0, 1], [12, 1], [-0.1, 1], [27, 1], [-1e-20, 1], [1e30, 1], [1, -1]])
    number = grid.index(points)
    assert_array_equal(number[:5], [0, 0, 9, 3, 9])
    assert number[5] >= 0 and number[6] == -1
    assert_array_equal(grid.index([[np.inf, 1], [-np.inf, 1], [np.nan, 1]]), [-1, -1, -1])


@holds_for(st.integers(2, 60), pairs(), st.integers(-5, 5))
def test_periodic_samples_repeat_after_a_period(n, pair, turns):
    grid = Grid(n, pair, periodic=True)
    shifted = grid.coords() + turns * n * grid.spacing[0]
    assert_array_equal(grid.index(shifted), np.arange(n))


def test_index_takes_any_array():
    grid = Grid.cells((4, 3), (0, 12))
    points = np.random.default_rng(0).uniform(-1, 13, (5, 6, 2))
    expected = [[cell_by_hand(grid, point) for point in row] for row in points]
    assert_array_equal(grid.index(points), expected)
    assert_array_equal(grid.index(points[::-1, ::-2]), np.array(expected)[::-1, ::-2])
    assert_array_equal(grid.index(np.moveaxis(points.copy().T, 0, -1)), np.array(expected).T)
    points.flags.writeable = False
    before = points.copy()
    grid.index(points), grid.to_index(points), Grid.covering(points, spacing=1)
    assert_array_equal(points, before)
    assert_array_equal(grid.index([[1, 5], [11, 11]]), [1, 11])
    assert grid.index([1.0, 5.0]).shape == () and grid.index(np.empty((0, 2))).shape == (0,)


def test_index_is_the_same_in_blocks():
    grid = Grid.cells((40, 50), periodic=(True, False))
    points = np.random.default_rng(0).uniform(-0.5, 1.5, (40_000, 2))
    number = grid.index(points)
    assert_array_equal(number[::97], [grid.index(point) for point in points[::97]])


# ---------------------------------------------------------------- covering


def test_covering_a_lattice_of_the_given_spacing():
    points = np.array([[i / 10] * 3 for i in range(10)])
    assert_array_equal(points[:, 0] // 0.1, [0, 1, 2, 2, 4, 4, 5, 6, 8, 8])
    for lattice in (points, np.array([[i * 0.1] * 3 for i in range(10)])):
        grid = Grid.covering(lattice, spacing=0.1)
        assert grid.shape == (10, 10, 10)
        assert_array_equal(np.unravel_index(grid.index(lattice), grid.shape), [np.arange(10)] * 3)
    assert Grid.covering(points, shape=10) == Grid.covering(points, shape=(10, 10, 10))
    assert_array_equal(Grid.covering(points, shape=10).index(points), grid.index(points))


def test_covering_five_scattered_points():
    points = np.array([(1, 2, 3), (4, 5, 6), (2.5, 3.5, 4.5), (2.9, 3.9, 4.9), (1.5, 2, 3)])
    grid = Grid.covering(points, spacing=0.5)
    assert grid.shape == (7, 7, 7) and grid.bounds == ((1.0, 4.0), (2.0, 5.0), (3.0, 6.0))
    cells = np.transpose(np.unravel_index(grid.index(points), grid.shape))
    assert_array_equal(cells, [[0] * 3, [6] * 3, [3] * 3, [4] * 3, [1, 0, 0]])
    # cells that begin, not centre, on the smallest point: two of the points share one
    grid = Grid.cells((7, 7, 7), ((1, 4.5), (2, 5.5), (3, 6.5)))
    assert_array_equal(np.bincount(grid.index(points))[grid.index(points)], [1, 1, 2, 2, 1])


def test_covering_sorts_a_shuffled_lattice():
    rng = np.random.default_rng(0)
    lattice = Grid.from_spacing((4, 5, 6), (-0.3, 7.1, 0.0), (0.1, 0.7, 1 / 3))
    points = rng.permutation(lattice.coords().reshape(-1, 3))
    for grid in (
        Grid.covering(points, spacing=lattice.spacing),
        Grid.covering(points, shape=lattice.shape),
    ):
        assert grid.shape == lattice.shape
        volume = np.empty(grid.shape)
        volume.ravel()[grid.index(points)] = (points**2).sum(-1)
        assert_allclose(volume, (lattice.coords() ** 2).sum(-1))


@holds_for(st.floats(1e-3, 1e3), st.floats(-1e3, 1e3), st.integers(2, 500))
def test_covering_numbers_any_lattice_in_order(spacing, start, n):
    points = (start + np.arange(n) * spacing)[:, None]
    for grid in (Grid.covering(points, spacing=spacing), Grid.covering(points, shape=n)):
        assert grid.shape == (n,)
        assert_array_equal(grid.index(points), np.arange(n))
    rounded = points.astype(np.float32)
    if abs(rounded - points).max() < 0.1 * spacing:
        assert_array_equal(Grid.covering(rounded, spacing=spacing).index(rounded), np.arange(n))


@holds_for(
    st.lists(st.tuples(coordinate, coordinate), min_size=2, max_size=20),
    st.floats(1e-3, 1e7),
    st.integers(1, 9),
    st.integers(0, 3),
)
def test_covering_keeps_every_point(points, spacing, n, margin):
    points = np.array(points)
    extent = points.max(0) - points.min(0)
    made = [Grid.covering(points, spacing=spacing, margin=margin)]
    if (extent > 1e-6).all():
        made.append(Grid.covering(points, shape=n + 2 * margin, margin=margin))
        assert made[1].shape == (n + 2 * margin,) * 2
    for grid in made:
        assert (grid.index(points) >= 0).all()
        cells = np.transpose(np.unravel_index(grid.index(points), grid.shape))
        if n > 1 or grid is made[0]:  # a single cell between margins has the largest point on its edge
            assert (cells.min(0) == margin).all()
            assert (cells.max(0) <= np.array(grid.shape) - 1 - margin).all()
    assert made[0].spacing == (spacing, spacing)


def test_covering_special_points():
    points = np.array([[1.0, 2.0], [3.0, np.nan], [np.nan, 9.0], [2.0, 4.0]])
    grid = Grid.covering(points, spacing=(1, 2))
    assert grid.bounds == ((1.0, 2.0), (2.0, 4.0))
    assert_array_equal(grid.index(points), [0, -1, -1, 3])
    same = np.full((4, 2), 0.7)
    assert Grid.covering(same, spacing=0.1).shape == (1, 1)
    assert_array_equal(Grid.covering(same, spacing=0.1, margin=(1, 0)).index(same), [1] * 4)
    assert Grid.covering(np.arange(6).reshape(2, 3, 1), spacing=1).bounds == ((0.0, 5.0),)
    assert Grid.covering([3.0, 4.0], spacing=1).shape == (1, 1)


# ---------------------------------------------------------------- other grids from a grid


def test_refine():
    grid = Grid((3, 1, 4), ((0, 1), (2, 5), (0, 4)), periodic=(False, False, True))
    fine = grid.refine((2, 7, 3))
    assert fine.shape == (5, 1, 12) and fine.periodic == grid.periodic
    assert fine.origin == grid.origin
    assert_allclose(fine.spacing, (0.25, 3, 1 / 3))
    assert grid.refine(2).shape == (5, 1, 8)
    assert Grid(50).refine(7).bounds == ((0.0, 1.0),)


@holds_for(grids(max_ndim=2), st.integers(1, 7))
def test_refined_samples_include_the_old_ones(grid, factor):
    fine = grid.refine(factor)
    assert factor > 1 or fine == grid
    for old, new, n in zip(grid.axes(), fine.axes(), grid.shape, strict=True):
        taken = new[::factor] if n > 1 else new
        atol = 8 * math.ulp(abs(old).max())
        assert_allclose(taken, old, rtol=0, atol=max(atol, 1e-14 * np.ptp(old)))
    for wraps, old, new in zip(grid.periodic, grid.edges(), fine.edges(), strict=True):
        if wraps:
            assert_allclose(new[-1] - new[0], old[-1] - old[0])


def test_take():
    grid = Grid((3, 4, 5), ((0, 1), (0, 2), (0, 3)), periodic=(False, True, False))
    assert grid.take((2, 0)) == Grid((5, 3), ((0, 3), (0, 1)))
    assert grid.take(1) == grid.take(-2) == Grid(4, (0, 2), periodic=True)


# ---------------------------------------------------------------- errors


nan, inf = math.nan, math.inf
grid = Grid((5, 6, 7))
BAD = [
    (lambda: Grid(()), ValueError, r"gf\.Grid: shape \(\) is empty"),
    (lambda: Grid((5, 0)), ValueError, r"gf\.Grid: shape \(5, 0\) .* integer of 1 or more"),
    (lambda: Grid(-1), ValueError, r"gf\.Grid: shape -1 .* integer of 1 or more"),
    (lambda: Grid(2.0), TypeError, r"gf\.Grid: shape 2\.0 .* integer"),
    (lambda: Grid((2, True)), TypeError, r"gf\.Grid: shape \(2, True\) .* integer"),
    (lambda: Grid("5"), TypeError, r"gf\.Grid: shape '5'"),
    (lambda: Grid(None), TypeError, r"gf\.Grid: shape None"),
    (lambda: Grid(((2, 3),)), TypeError, r"gf\.Grid: shape \(\(2, 3\),\)"),
    (lambda: Grid.pixels((2**40, 2**40)), ValueError, r"gf\.Grid\.pixels: shape .* more cells"),
    (
        lambda: Grid((5, 6), ((0, 1),) * 3),
        ValueError,
        r"gf\.Grid: bounds has 3 pairs but shape \(5, 6\) has 2 axes",
    ),
    (lambda: Grid((5, 6), ((0, 1),)), ValueError, r"bounds has 1 pairs but shape \(5, 6\)"),
    (lambda: Grid(5, (0, 1, 2)), ValueError, r"gf\.Grid: bounds \(0, 1, 2\) .* pair"),
    (lambda: Grid(5, 3), ValueError, r"gf\.Grid: bounds 3 .* pair"),
    (lambda: Grid((5, 6), ((0, 1), (2,))), ValueError, r"gf\.Grid: bounds .* pair"),
    (lambda: Grid(5, ("a", "b")), TypeError, r"gf\.Grid: bounds \('a', 'b'\) .* numbers"),
    (lambda: Grid(5, (0, 1j)), TypeError, r"gf\.Grid: bounds .* numbers"),
    (lambda: Grid(5, (1, 1)), ValueError, r"bounds \(1\.0, 1\.0\) along axis 0 .* lo < hi"),
    (lambda: Grid((5, 6), ((0, 1), (2, 1))), ValueError, r"bounds \(2\.0, 1\.0\) along axis 1"),
    (lambda: Grid(5, (0, nan)), ValueError, r"gf\.Grid: bounds \(0\.0, nan\) along axis 0"),
    (lambda: Grid(5, (-inf, 0)), ValueError, r"gf\.Grid: bounds \(-inf, 0\.0\) along axis 0"),
    (
        lambda: Grid(5, (-1e308, 1e308)),
        ValueError,
        r"gf\.Grid: bounds .* along axis 0 .* finitely far apart",
    ),
    (lambda: Grid(99, (1, 1 + 1e-15)), ValueError, r"spacing .* axis 0 must be resolved"),
    (lambda: Grid.cells(5, (1, 0)), ValueError, r"gf\.Grid\.cells: bounds \(1\.0, 0\.0\)"),
    (
        lambda: Grid((5, 6), periodic=(True,) * 3),
        ValueError,
        r"gf\.Grid: periodic has 3 values but there are 2 axes",
    ),
    (lambda: Grid(5, periodic=1), TypeError, r"gf\.Grid: periodic 1 must hold True or False"),
    (lambda: Grid.pixels(5, periodic="x"), TypeError, r"gf\.Grid\.pixels: periodic 'x'"),
    (lambda: Grid.from_spacing(5, 0, 0), ValueError, r"from_spacing: spacing 0 .* positive"),
    (lambda: Grid.from_spacing(5, 0, -1.0), ValueError, r"from_spacing: spacing -1\.0 .* positive"),
    (lambda: Grid.from_spacing(5, nan, 1), ValueError, r"from_spacing: origin nan .* finite"),
    (lambda: Grid.from_spacing(5, "a", 1), TypeError, r"from_spacing: origin 'a'"),
    (
        lambda: Grid.from_spacing((5, 6), 0, (1, 2, 3)),
        ValueError,
        r"spacing has 3 values .* 2 axes",
    ),
    (lambda: Grid.from_spacing(5, 1e20, 1), ValueError, r"spacing 1\.0 along axis 0 .* resolved"),
    (
        lambda: grid.index(np.zeros((10, 2))),
        ValueError,
        r"gf\.Grid\.index: points has 2 coordinates per point \(shape \(10, 2\)\) but the grid "
        r"has 3 axes \(5, 6, 7\)",
    ),
    (lambda: Grid(5).index(np.zeros(10)), ValueError, r"\(shape \(10,\)\).* 1 axis \(5,\).*None\]"),
    (lambda: Grid(5).index(1.0), ValueError, r"gf\.Grid\.index: points .*\(shape \(\)\)"),
    (lambda: grid.index(["a", "b", "c"]), TypeError, r"gf\.Grid\.index: points .* real numbers"),
    (lambda: grid.index(np.ones((2, 3), complex)), TypeError, r"complex128 .* real numbers"),
    (lambda: grid.index([[1, 2, 3], [4]]), ValueError, r"gf\.Grid\.index: points .* equal length"),
    (lambda: grid.to_index(np.zeros((10, 2))), ValueError, r"gf\.Grid\.to_index: points has 2"),
    (lambda: grid.to_physical([1, 2]), ValueError, r"gf\.Grid\.to_physical: index has 2"),
    (lambda: grid.refine(0), ValueError, r"gf\.Grid\.refine: factor 0 .* 1 or more"),
    (lambda: grid.refine(1.5), TypeError, r"gf\.Grid\.refine: factor 1\.5 .* integer"),
    (lambda: grid.refine((1, 2)), ValueError, r"refine: factor has 2 values .* 3 axes"),
    (lambda: grid.take(3), ValueError, r"gf\.Grid\.take: axes 3 must name .*\(5, 6, 7\)"),
    (lambda: grid.take((0, -3)), ValueError, r"gf\.Grid\.take: axes \(0, -3\) names an axis twice"),
    (lambda: grid.take(()), ValueError, r"gf\.Grid\.take: axes \(\)"),
    (lambda: grid.take(0.5), TypeError, r"gf\.Grid\.take: axes 0\.5 .* integer"),
    (lambda: Grid.covering([[0.0], [1]]), TypeError, r"gf\.Grid\.covering: give either"),
    (lambda: Grid.covering([[0.0], [1]], shape=5, spacing=1), TypeError, r"covering: give either"),
    (lambda: Grid.covering(np.empty((0, 2)), spacing=1), ValueError, r"\(0, 2\)\) holds no point"),
    (lambda: Grid.covering([[nan, 1]], spacing=1), ValueError, r"holds no point"),
    (lambda: Grid.covering([[inf, 1]], spacing=1), ValueError, r"points must be finite or NaN"),
    (lambda: Grid.covering(1.0, spacing=1), ValueError, r"covering: points has shape \(\)"),
    (lambda: Grid.covering([["a"]], spacing=1), TypeError, r"covering: points .* real numbers"),
    (lambda: Grid.covering([[1.0], [1]], shape=5), ValueError, r"all points .* 1\.0 .* axis 0"),
    (
        lambda: Grid.covering([[1.0], [2]], spacing=0),
        ValueError,
        r"covering: spacing 0 .* positive",
    ),
    (lambda: Grid.covering([[1.0], [2]], spacing=1e-300), ValueError, r"gf\.Grid\.covering: shape"),
    (
        lambda: Grid.covering([[1.0], [2]], shape=4, margin=2),
        ValueError,
        r"no cell .* margins of 2",
    ),
    (lambda: Grid.covering([[1.0], [2]], spacing=1, margin=-1), ValueError, r"covering: margin -1"),
]


@pytest.mark.parametrize(("make", "error", "message"), BAD, ids=range(len(BAD)))
def test_errors_name_the_operation_and_the_argument(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_covering_of_coordinates_one_by_one():
    x, y = np.array([0.0, 1, 3]), np.array([0.0, 5, 2])
    assert Grid.covering((x, y), spacing=1.0) == Grid.covering(np.stack([x, y], -1), spacing=1.0)
