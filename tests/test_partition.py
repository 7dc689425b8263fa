"""Values dealt out to blocks of cells, coordinates picked by a mask before they are located; beside SciPy and NumPy."""

import numpy as np
import pytest
import scipy.stats

import gridfield as gf
from gridfield.cpu.axes import FEW
from gridfield.cpu.partition import CHUNK, Blocks, Dealt

SHAPE = (64, 60, 63)  # its records are too many for the second cache


def scattered(n, skew, seed=0):
    """Points, most of them near a corner where skew is large, and values far from 0, of which some are NaN."""
    rng = np.random.default_rng(seed)
    points, values = rng.random((n, 3)) ** skew, rng.normal(size=n) + 1e6
    values[::7] = np.nan
    return points, values


@pytest.mark.parametrize(("n", "skew"), [(1, 1), (1000, 1), (CHUNK, 1), (3 * CHUNK + 5, 1), (2 * CHUNK - 1, 12)])
@pytest.mark.parametrize("statistic", ["mean", "std", "median"])
def test_beside_scipy(statistic, n, skew):
    points, values = scattered(n, skew)
    kept = ~np.isnan(values)
    grid = gf.Grid.cells(SHAPE, (0, 1))
    got = gf.binned_statistic(points, values, grid, statistic)
    known = scipy.stats.binned_statistic_dd(points[kept], values[kept], statistic, SHAPE, [(0, 1)] * 3).statistic
    known = np.full(SHAPE, np.nan) if not kept.any() else known
    np.testing.assert_allclose(got, known, rtol=1e-13, atol=1e-7)
    assert (gf.binned_statistic(points[kept], values[kept], grid, statistic) == got).sum() == (~np.isnan(got)).sum()


@pytest.mark.parametrize("threads", [1, 2])
def test_the_order_of_points_alone_decides(threads):
    points, values = scattered(3 * CHUNK + 5, 3)
    grid, before = gf.Grid.cells(SHAPE, (0, 1)), gf.get_num_threads()
    cell = gf.bin_index(points, grid)
    kept = ~np.isnan(values)
    known = np.bincount(cell[kept], values[kept], grid.size).reshape(SHAPE)
    try:
        gf.set_num_threads(threads)
        np.testing.assert_array_equal(gf.binned_statistic(points, values, grid, "sum"), known)
    finally:
        gf.set_num_threads(before)


def test_weights_and_columns_go_with_their_values():
    points, values = scattered(2 * CHUNK + 9, 2)
    other, weights = np.roll(values, 3), np.random.default_rng(1).random(len(points))
    grid = gf.Grid.cells(SHAPE, (0, 1))
    both = gf.binned_statistic(points, np.stack([values, other], 1), grid, "var", weights=weights)
    for got, v in zip(both, (values, other), strict=True):
        kept = ~np.isnan(v)
        cell, v, w = gf.bin_index(points, grid)[kept], v[kept] - 1e6, weights[kept]
        total, first, second = (np.bincount(cell, w * v**k, grid.size) for k in range(3))
        with np.errstate(invalid="ignore"):
            known = (second / total - (first / total) ** 2).reshape(SHAPE)
        np.testing.assert_allclose(got, known, rtol=1e-7, atol=1e-9)


def test_a_block_may_have_every_value():
    blocks = Blocks(2**18, 2**13, 32)
    dealt = Dealt(blocks, CHUNK, 1, False)
    assert dealt.area >= CHUNK + (blocks.number << dealt.long) and not dealt.area % (1 << dealt.long)
    points = np.full((5 * CHUNK // 2, 3), 0.5)
    names, middle = ["sum", "max", "count"], (32, 32, 32)
    total, most, count = gf.binned_statistic(points, np.arange(len(points)), gf.Grid.cells((64,) * 3, (0, 1)), names)
    assert total.sum() == total[middle] == np.arange(len(points)).sum() and most[middle] == len(points) - 1
    assert count.sum() == count[middle] == len(points)


@pytest.mark.parametrize("share", [0.001, FEW - 0.2, FEW, 0.9, 1])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_masks_of_any_share_beside_numpy(dtype, share):
    rng = np.random.default_rng(2)
    for n in (100, 513, 3 * CHUNK * 2 + 77):
        a, mask = (rng.normal(size=n) * 3).astype(dtype), rng.random(n) < share
        mask[n // 2 :] &= rng.random(n - n // 2) < 0.1  # it changes on the way
        edges = np.linspace(-2, 2, 41).astype(dtype)
        a[rng.integers(0, n, n // 20)] = rng.choice([np.nan, np.inf, -np.inf, *edges], n // 20)
        for bins, ends in ((40, (-2, 2)), (edges, None), (np.array([-2.0, -1, 0.5, 2]), None)):
            got, known = gf.histogram(a, bins, ends, where=mask), np.histogram(a[mask], bins, ends)
            np.testing.assert_array_equal(got[0], known[0])
            np.testing.assert_array_equal(got[1], known[1])
