"""Everyday questions about points and grids, each in one or two calls, beside the loops that askers write."""

import itertools

import numpy as np
import pytest

import gridfield as gf

DIAGONAL = np.array([[i, i, i] for i in range(10)], float)
FIVE = np.array([[1, 2, 3], [4, 5, 6], [2.5, 3.5, 4.5], [2.9, 3.9, 4.9], [1.5, 2, 3]])
LATTICE = np.array([[i / 10] * 3 for i in range(10)])


# ---- scattered points on a grid, smoothed with a ball ----------------------------------------------------------------
def by_loops(points, values, edges, strict=False):
    """The values in each cell: three loops over cells, one over points."""
    cells = {}
    for cell in itertools.product(*(range(len(e) - 1) for e in edges)):
        for x, v in zip(points, values, strict=True):
            lower, upper = ([e[k + j] for e, k in zip(edges, cell, strict=True)] for j in (0, 1))
            inside = (lower < x) & (x < upper) if strict else (lower <= x) & (x < upper)
            if inside.all():
                cells.setdefault(cell, []).append(v)
    return cells


def ball(cells, grid, radius, fine=12):
    """The mean around each cell, a point counting as much as its cell, cut into fine**3, lies within the radius."""
    offsets = np.array(list(itertools.product((np.arange(fine) + 0.5) / fine - 0.5, repeat=3)))
    out, weights, reached = np.full(grid.shape, np.nan), np.zeros(grid.shape), np.zeros(grid.shape, bool)
    for i in itertools.product(*map(range, grid.shape)):
        total = 0.0
        for k, v in cells.items():
            nearest = np.maximum(abs(np.subtract(k, i)) - 0.5, 0) * grid.spacing
            reached[i] |= np.linalg.norm(nearest) < radius
            parts = (np.subtract(k, i) + offsets) * grid.spacing
            weight = (np.linalg.norm(parts, axis=-1) < radius).mean()
            weights[i] += weight * len(v)
            total += weight * sum(v)
        if weights[i]:
            out[i] = total / weights[i]
    return out, weights, reached


BEGINS = gf.Grid.cells((7, 7, 7), ((1, 4.5), (2, 5.5), (3, 6.5)))  # cells that begin at the smallest of the five points


@pytest.mark.parametrize(
    ("points", "spacing", "grid", "shared", "lost"),
    [(DIAGONAL, 1.0, None, 0, 10), (LATTICE, 0.1, None, 0, 2), (FIVE, 0.5, None, 0, 4), (FIVE, 0.5, BEGINS, 1, 4)],
)
def test_points_onto_a_grid(points, spacing, grid, shared, lost):
    values = (points**2).sum(-1)
    grid = grid or gf.Grid.covering(points, spacing=spacing)
    cells = by_loops(points, values, grid.edges())
    assert sum(map(len, cells.values())) == len(points) and sum(len(v) > 1 for v in cells.values()) == shared

    mean, count, first = gf.binned_statistic(points, values, grid, ["mean", "count", "first"])
    expected = np.full(grid.shape, np.nan)
    for cell, v in cells.items():
        expected[cell] = np.mean(v)
        assert count[cell] == len(v) and first[cell] == v[0]
    np.testing.assert_allclose(mean, expected)
    assert count.sum() == len(points)

    # with strict inequalities, and edges from the least to the largest
    ends = zip(points.min(0), points.max(0), strict=True)
    edges = [np.linspace(lo, hi, round((hi - lo) / spacing) + 1) for lo, hi in ends]
    strict = by_loops(points, values, edges, strict=True)
    assert len(points) - sum(map(len, strict.values())) >= lost


@pytest.mark.parametrize(("points", "spacing"), [(DIAGONAL, 1.0), (FIVE, 0.5), (LATTICE, 0.1)])
def test_points_onto_a_grid_smoothed_with_a_ball(points, spacing):
    values = (points**2).sum(-1)
    smooth, grid = gf.grid_and_smooth(points, values, spacing=spacing, radius=1.7 * spacing)
    expected, weights, reached = ball(by_loops(points, values, grid.edges()), grid, 1.7 * spacing)
    np.testing.assert_array_equal(np.isfinite(smooth), reached)
    clear = weights > 0.1
    assert clear.sum() > 20
    np.testing.assert_allclose(smooth[clear], expected[clear], atol=0.02 * np.ptp(values))


def test_rounding_does_not_lose_points_of_a_lattice():
    x = LATTICE[:, 0]
    np.testing.assert_array_equal((x - x.min()) // 0.1, [0, 1, 2, 2, 4, 4, 5, 6, 8, 8])
    grid = gf.Grid.covering(LATTICE, spacing=0.1)
    np.testing.assert_array_equal(np.unravel_index(gf.bin_index(LATTICE, grid), grid.shape), [np.arange(10)] * 3)


def test_a_full_lattice_in_any_order(rng):
    points = np.array(list(itertools.product(np.arange(4) * 0.1, np.arange(3) * 0.1 + 7, np.arange(10) * 0.1)))
    values = rng.normal(size=len(points))
    slow = np.empty((4, 3, 10))
    for k, i in enumerate(itertools.product(range(4), range(3), range(10))):
        slow[i] = values[k]
    order = rng.permutation(len(points))
    array, grid = gf.to_grid(points[order], values[order])
    np.testing.assert_array_equal(array, slow)
    np.testing.assert_allclose(grid.coords().reshape(-1, 3), points)
    # scattered on that grid, the same
    np.testing.assert_array_equal(gf.binned_statistic(points[order], values[order], grid), slow)


# ---- points in a mask ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("of", [bool, int, float])
@pytest.mark.parametrize("known", [False, True])
def test_points_in_a_mask(of, known, rng):
    """Row by y, column by x; bins from the least to the largest of the data, or of a known range."""
    x, y = rng.normal(size=500), 3 * rng.normal(size=500)
    mask = (rng.random((20, 20)) < 0.3).astype(of)
    mask[:, 0] = 0
    (x0, x1), (y0, y1) = ((-2, 2), (-4, 4)) if known else ((x.min(), x.max()), (y.min(), y.max()))
    columns, rows = np.linspace(x0, x1, 21), np.linspace(y0, y1, 21)
    slow = []
    for k in range(500):
        for i in range(20):
            for j in range(20):
                in_row = rows[i] <= y[k] < rows[i + 1] or (i == 19 and y[k] == y1)
                in_column = columns[j] <= x[k] < columns[j + 1] or (j == 19 and x[k] == x1)
                if in_row and in_column and mask[i, j] == 1:
                    slow.append(k)
    grid = gf.Grid.cells(mask.shape, ((y0, y1), (x0, x1)))
    np.testing.assert_array_equal(gf.select((y, x), mask, grid, indices=True), slow)
    np.testing.assert_array_equal(np.flatnonzero(gf.select(np.stack([y, x], -1), mask, grid)), slow)
    digitized = [np.clip(np.digitize(v, e) - 1, 0, 19) for v, e in ((y, rows), (x, columns))]
    if not known:
        np.testing.assert_array_equal(np.flatnonzero(mask[tuple(digitized)] == 1), slow)
    else:
        assert len(np.flatnonzero(mask[tuple(digitized)] == 1)) >= len(slow)  # clipped: points outside, too


def test_thousands_of_masks_over_the_same_points_and_the_other_way_round(rng):
    x, y = rng.uniform(0, 1, (2, 300))
    masks = rng.random((2000, 8, 8)) < 0.5
    grid = gf.Grid.cells((8, 8), ((0, 1), (0, 1)))
    cells = gf.bin_index((y, x), grid)
    rows, columns = (np.floor(8 * v).astype(int) for v in (y, x))
    for mask in masks:
        np.testing.assert_array_equal(gf.select(cells, mask, grid), mask[rows, columns])
    index = gf.MaskIndex(masks[0], grid)
    for _ in range(100):
        x, y = rng.uniform(0, 1, (2, 50))
        slow = [masks[0][int(8 * b), int(8 * a)] for a, b in zip(x, y, strict=True)]
        np.testing.assert_array_equal(index.select((y, x)), slow)


# ---- the histogram of a volume in a mask -----------------------------------------------------------------------------
@pytest.mark.parametrize("of", [bool, int, float])
def test_a_histogram_in_a_mask(of, rng):
    """The volume holds zeros, in the mask and outside."""
    volume = np.maximum(rng.normal(50, 60, (6, 7, 8)), 0)
    mask = (rng.random(volume.shape) < 0.3).astype(of)
    most = volume.max()
    edges = np.linspace(0, most, 201)
    slow = np.zeros((6, 200), int)
    for i, j, k in itertools.product(*map(range, volume.shape)):
        if mask[i, j, k] == 1:
            slow[i, min(np.digitize(volume[i, j, k], edges) - 1, 199)] += 1
    counts, found = gf.histogram(volume, 200, (0, most), where=mask)
    np.testing.assert_array_equal(counts, slow.sum(0))
    np.testing.assert_array_equal(found, edges)
    np.testing.assert_array_equal(gf.histogram(volume, 200, (0, most), where=mask, axis=(1, 2))[0], slow)

    inside = mask.astype(bool)
    assert 0 < np.count_nonzero(volume[inside] == 0) <= counts[0]
    wrong, _ = np.histogram(volume * mask, 200, (0, most))
    assert wrong[0] - counts[0] == np.count_nonzero(~inside)
    np.testing.assert_array_equal(wrong[1:], counts[1:])
