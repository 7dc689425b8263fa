"""Arrays of dask: nothing is computed early, and what comes out is what NumPy's arrays give, however they are cut."""

import warnings

import numpy as np
import pytest
from cases import in_turn
from hypothesis import given, settings
from hypothesis import strategies as st
from lazily import agree, chunkings, computed, field, lazy, never_early  # noqa: F401 (a fixture)

import gridfield as gf

da = pytest.importorskip("dask.array")
dask = pytest.importorskip("dask")

STATISTICS = ["count", "sum", "mean", "var", "std", "min", "max", "first", "last"]
BOUNDS = ((0, 0.9), (0, 1.2))


# ---- stencils
@settings(max_examples=12)
@given(chunkings(31, 26), st.sampled_from(["constant", "mirror", "reflect", "nearest", "wrap"]),
       st.sampled_from(["omit", "keep", "propagate"]))  # fmt: skip
def test_smooth(chunks, boundary, policy):
    a = field(31, 26, missing=0.1)
    options = {"boundary": boundary, "nan_policy": policy}
    agree(gf.smooth(lazy(a, chunks), "ball", 3.3, **options), gf.smooth(a, "ball", 3.3, **options))


def test_smooth_on_a_periodic_grid_with_leading_axes():
    a, grid = field(3, 24, 40, dtype=np.float32), gf.Grid((24, 40), ((0, 1), (0, 3)), periodic=(False, True))
    mine = gf.smooth(lazy(a, (2, 7, 9)), "gaussian", sigma=(0.05, 0.1), grid=grid, cval=np.nan)
    agree(mine, gf.smooth(a, "gaussian", sigma=(0.05, 0.1), grid=grid, cval=np.nan), 1e-5)
    assert mine.numblocks[0] == 2
    whole = gf.smooth(lazy(a, (2, 24, 40)), "box", 30.0, grid=gf.Grid.pixels((24, 40)), boundary="mirror")
    agree(whole, gf.smooth(a, "box", 30.0, grid=gf.Grid.pixels((24, 40)), boundary="mirror"), 1e-5)
    agree(
        gf.smooth(lazy(a, (1, 5, 5)), "box", 30.0, grid=gf.Grid.pixels((24, 40)), boundary="mirror"),
        computed(whole),
        1e-5,
    )


@pytest.mark.parametrize(("kernel", "boundary"), in_turn(["cubic", "quintic", "linear"], gf.BOUNDARIES, keep=(0, 2, 4)))
def test_prefilter(kernel, boundary):
    """The overlap of a recursive filter is where its poles have died away: the last digits only differ."""
    x, options = field(2, 90, 100), {"kernel": kernel, "boundary": boundary, "ndim": 2, "cval": 0.5}
    mine, theirs = gf.prefilter(lazy(x, (1, 40, 33)), **options), gf.prefilter(x, **options)
    if isinstance(theirs, tuple):
        assert mine[1] == theirs[1]
        mine, theirs = mine[0], theirs[0]
    agree(mine, theirs, 1e-12)


@settings(max_examples=6)
@given(
    chunkings(40, 45), st.sampled_from(["cubic", "linear", "nearest"]), st.sampled_from(gf.BOUNDARIES), st.booleans()
)
def test_sample(chunks, kernel, boundary, prefilter):
    v, x = field(2, 40, 45), np.random.default_rng(1).uniform(-20, 60, size=(7, 11, 2))
    x[0, 0], x[0, 1], x[0, 2], x[1, 1] = (0, 44), (39, 0), np.nan, (-0.5, 44.5)
    options = {"kernel": kernel, "boundary": boundary, "cval": 0.5, "prefilter": prefilter}
    agree(gf.sample(lazy(v, (1, *chunks)), lazy(x, (3, 4, 1)), **options), gf.sample(v, x, **options))


def test_sample_of_integers_and_derivatives():
    image = np.random.default_rng(0).integers(0, 255, (30, 40)).astype(np.uint8)
    x = np.random.default_rng(1).uniform(0, 29, (20, 2))
    agree(gf.sample(lazy(image, (11, 13)), x), gf.sample(image, x))
    agree(gf.sample(image, lazy(x, 7)), gf.sample(image, x))
    orders = [(0, 0), (1, 0)]
    agree(gf.sample(lazy(image, -1), lazy(x, 7), derivative=orders), gf.sample(image, x, derivative=orders))
    with pytest.raises(ValueError, match=r"values is in several chunks along axes 0, 1.*rechunk\(\{0: -1, 1: -1\}\)"):
        gf.sample(lazy(image, 9), x, derivative=orders)


@pytest.mark.parametrize("boundary", gf.BOUNDARIES)
def test_pad_and_fold(boundary):
    x, margins = field(2, 20, 30), [(3, 45), (61, 2)]
    mine = gf.pad(lazy(x, (1, 7, 11)), margins, boundary=boundary, cval=0.3)
    agree(mine, gf.pad(x, margins, boundary=boundary, cval=0.3))
    folded = gf.fold(lazy(x, (1, 20, 30)), [(2, 1), (3, 0)], boundary=boundary)
    agree(folded, gf.fold(x, [(2, 1), (3, 0)], boundary=boundary))


@settings(max_examples=4)
@given(chunkings(50, 60), st.sampled_from(["constant", "mirror"]), st.booleans())
def test_deform(chunks, boundary, cropped):
    """A spline is within its coefficients: a piece of the result needs that much of the image around it."""
    check_deform(chunks, "cubic", boundary, cropped)


@pytest.mark.slow  # each pair of kernel and boundary is compiled
@settings(max_examples=20)
@given(chunkings(50, 60), st.sampled_from(["cubic", "nearest"]), st.sampled_from(["constant", "mirror", "wrap"]),
       st.booleans())  # fmt: skip
def test_deform_at_length(chunks, kernel, boundary, cropped):
    check_deform(chunks, kernel, boundary, cropped)


def check_deform(chunks, kernel, boundary, cropped):
    image, u = field(2, 50, 60), gf.random_displacement(4, 3.0, shape=(50, 60), rng=0)
    options = {"kernel": kernel, "boundary": boundary, "crop": (slice(5, 40), slice(12, 60)) if cropped else None}
    agree(gf.deform(lazy(image, (1, *chunks)), u, **options), gf.deform(image, u, **options), 1e-9)


def test_deform_in_other_ways():
    image, u = field(50, 2, 60), gf.random_displacement(3, 2.0, shape=(50, 60), rng=1)
    agree(gf.deform(lazy(image, (20, 1, 25)), u, axis=(0, 2)), gf.deform(image, u, axis=(0, 2)), 1e-9)
    dense = gf.displacement_field(u, (50, 60))
    agree(gf.deform(lazy(image, (20, 1, 25)), dense, axis=(0, 2)), gf.deform(image, dense, axis=(0, 2)), 1e-9)
    agree(
        gf.deform(lazy(image, (-1, 1, -1)), axis=(0, 2), rotate=30.0), gf.deform(image, axis=(0, 2), rotate=30.0), 1e-9
    )
    labels = (image[:, 0] > 0).astype(np.uint8)
    pair = gf.deform([lazy(image[:, 0], 17), lazy(labels, 23)], u, kernel=["cubic", "label"])
    alike = gf.deform([image[:, 0], labels], u, kernel=["cubic", "label"])
    agree(pair[0], alike[0], 1e-9)
    agree(pair[1], alike[1])
    with pytest.raises(ValueError, match=r"with zoom.*rechunk\(\{0: -1\}\)"):
        gf.deform(lazy(image, (20, 1, 60)), axis=(0, 2), zoom=2.0)
    with pytest.raises(TypeError, match="displacement is of dask"):
        gf.deform(lazy(image, (20, 1, 60)), lazy(u, -1), axis=(0, 2))
    theirs = gf.deform(image, u, axis=(0, 2))
    agree(gf.deform(lazy(image, (50, 1, 60)), lazy(u, 2), axis=(0, 2)), theirs)  # where the image is whole it may be
    agree(gf.deform(image, lazy(u, 2), axis=(0, 2)), theirs)
    both = gf.deform([image[:, 0], image[:, 1]], lazy(u, 2), rotate=lazy(np.asarray(20.0), -1))
    agree(both[1], gf.deform(image[:, 1], u, rotate=20.0))
    x = np.random.default_rng(0).random((30, 2)) * 40
    agree(gf.deform_points(lazy(x, 11), lazy(u, 2), (50, 60)), gf.deform_points(x, u, (50, 60)))
    agree(gf.deform_points(x, lazy(u, 2), (50, 60)), gf.deform_points(x, u, (50, 60)))


def test_fill_empty_is_whole_along_the_grid():
    a = field(3, 9, 8, missing=0.3)
    grid = gf.Grid.pixels((9, 8))
    agree(gf.fill_empty(lazy(a, (1, 9, 8)), grid=grid), gf.fill_empty(a, grid=grid))
    with pytest.raises(ValueError, match=r"a is in several chunks along axes 1, 2.*a.rechunk\(\{1: -1, 2: -1\}\)"):
        gf.fill_empty(lazy(a, 4), grid=grid)


# ---- sums
@settings(max_examples=10)
@given(chunkings(20, 30), st.sampled_from([None, 0, 1, (0, 1)]), st.booleans())
def test_histogram(chunks, axis, density):
    v, rng = field(20, 30), np.random.default_rng(1)
    mask, weights = rng.random(v.shape) > 0.3, rng.random(v.shape)
    for w in (None, weights, weights.astype(np.float32), (weights * 9).astype(np.int16), weights > 0.5):
        options = {"where": mask, "axis": axis, "density": density, "weights": w}
        mine, edges = gf.histogram(lazy(v, chunks), 20, (-2, 2), **options)
        theirs = gf.histogram(v, 20, (-2, 2), **options)
        agree(mine, theirs[0], 1e-6 if w is not None and w.dtype == np.float32 else 1e-12)
        np.testing.assert_array_equal(edges, theirs[1])
    agree(gf.histogram(lazy(v, chunks), [-1.0, 0, 0.5])[0], gf.histogram(v, [-1.0, 0, 0.5])[0])


def test_histogramdd():
    rng = np.random.default_rng(0)
    x, w = rng.random((500, 2)), rng.random(500)
    options = {"bins": (5, [0, 0.2, 1]), "range": [(0, 1), (0, 1)]}
    agree(gf.histogramdd(lazy(x, (130, 1)), weights=w, **options)[0], gf.histogramdd(x, weights=w, **options)[0])
    pair = gf.histogramdd((lazy(x[:, 0], 130), x[:, 1]), density=True, **options)
    agree(pair[0], gf.histogramdd((x[:, 0], x[:, 1]), density=True, **options)[0])


@settings(max_examples=8)
@given(chunkings(300, 2), st.sampled_from(["omit", "propagate"]), st.sampled_from(STATISTICS))
def test_binned_statistic(chunks, policy, one):
    rng = np.random.default_rng(0)
    x, v, mask = rng.random((300, 2)), field(300, 3, missing=0.05) + 1e6, rng.random(300) > 0.2
    grid = gf.Grid.cells((5, 7), BOUNDS)
    options = {"nan_policy": policy, "where": mask}
    mine = gf.binned_statistic(lazy(x, chunks), lazy(v, (110, 2)), grid, STATISTICS, **options)
    agree(mine, gf.binned_statistic(x, v, grid, STATISTICS, **options), 1e-9)
    alone = gf.binned_statistic(lazy(x, chunks), lazy(v, (chunks[0], 3)), grid, one, fill_value=7.0, **options)
    agree(alone, gf.binned_statistic(x, v, grid, one, fill_value=7.0, **options), 1e-9)


def test_binned_statistic_of_other_kinds():
    rng = np.random.default_rng(0)
    x, w, grid = rng.random((4, 100, 2)), rng.random((4, 100)), gf.Grid.cells((5, 7), BOUNDS)
    v = rng.normal(size=(4, 100)).astype(np.float32)
    some = STATISTICS[:5]
    mine = gf.binned_statistic(lazy(x, (2, 40, 2)), lazy(v, (4, 30)), grid, some, weights=lazy(w, 50))
    agree(mine, gf.binned_statistic(x, v, grid, some, weights=w), 1e-6)
    columns = tuple(lazy(x[..., i], (4, 30)) for i in (0, 1))
    counted = gf.binned_statistic(columns, None, (4, 5), "count", bounds=((0, 1), (0, 1)))
    agree(counted, gf.binned_statistic(x, None, (4, 5), "count", bounds=((0, 1), (0, 1))))
    spread = gf.binned_statistic(lazy(x, (2, 40, 2)), v, grid, ["mean", "sum"], kernel="linear")
    agree(spread, gf.binned_statistic(x, v, grid, ["mean", "sum"], kernel="linear"), 1e-5)
    median = gf.binned_statistic(lazy(x, -1), lazy(v, -1), grid, ["median", 0.25, "mean"])
    agree(median, gf.binned_statistic(x, v, grid, ["median", 0.25, "mean"]), 1e-6)
    with pytest.raises(ValueError, match="a median or quantiles, which do not add up"):
        gf.binned_statistic(lazy(x, (2, 40, 2)), v, grid, "median")


def test_points_in_cells_and_masks():
    rng = np.random.default_rng(0)
    x, mask, grid = rng.uniform(-1, 6, (100, 2)), rng.random((5, 6)) > 0.5, gf.Grid((3, 4), ((0, 5), (0, 6)))
    agree(gf.bin_index(lazy(x, 30), grid), gf.bin_index(x, grid))
    agree(gf.select(lazy(x, 30), mask), gf.select(x, mask))
    agree(gf.select((lazy(x[:, 0], 30), x[:, 1]), lazy(mask, -1)), gf.select(x, mask))
    agree(gf.select(lazy(x, 30), gf.MaskIndex(mask)), gf.select(x, mask))
    agree(gf.lookup(lazy(x, 30), mask * 3.0, outside=-1), gf.lookup(x, mask * 3.0, outside=-1))
    with pytest.raises(ValueError, match="indices=False"):
        gf.select(lazy(x, 30), mask, indices=True)


def test_sums_over_points():
    rng = np.random.default_rng(0)
    x, v = rng.random((300, 2)), field(300, 3)
    agree(gf.splat(lazy(v, (110, 2)), lazy(x, 130), gf.Grid((9, 8))), gf.splat(v, x, gf.Grid((9, 8))))
    y, modes = np.ascontiguousarray(v.T), field(2, 8, 9)
    agree(gf.nufft1(lazy(x, 130), lazy(y, (1, 100)), (8, 9)), gf.nufft1(x, y, (8, 9)), 1e-4)
    agree(gf.nufft2(lazy(x, 130), lazy(modes, (1, 8, 9))), gf.nufft2(x, modes), 1e-4)
    agree(gf.nufft3(lazy(x, 130), lazy(y, (1, 100)), lazy(5 * x, 200)), gf.nufft3(x, y, 5 * x), 1e-4)
    grid = gf.Grid.cells((9, 11), BOUNDS)
    mine, where = gf.grid_and_smooth(lazy(x, 130), lazy(v[:, 0], 110), "ball", 0.2, grid=grid)
    assert where == grid
    agree(mine, gf.grid_and_smooth(x, v[:, 0], "ball", 0.2, grid=grid)[0])
    u = gf.random_displacement(4, 3.0, shape=(40, 50), rng=0)
    agree(gf.deform_points(lazy(x * 20, 130), u, (40, 50)), gf.deform_points(x * 20, u, (40, 50)))


# ---- what cannot be
@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: gf.histogram(x, 20), r"range is needed with a dask array.*range=\(lo, hi\)"),
        (lambda x: gf.histogram(x, "auto"), "needs all numbers"),
        (lambda x: gf.histogramdd(x, 5), "range is needed"),
        (lambda x: gf.grid_and_smooth(x, x[:, 0], "ball", 1.0, spacing=0.1), "grid is needed with dask arrays"),
        (lambda x: gf.to_grid(x, x[:, 0]), r"gf.to_grid: points, values of dask.*call .compute\(\) first"),
        (lambda x: gf.deform_gradient(x, x, np.ones((2, 3, 3))), r"cotangent is in several chunks along axis 0"),
        (lambda x: gf.deform_gradient(x, np.ones((9, 2)), np.ones((2, 3, 3))), r"cotangent has shape \(40, 2\) but"),
        (lambda x: gf.deform_gradient([x], [x], np.ones((2, 3, 3))), "several images, some of dask"),
        (lambda x: gf.smooth(x, "ball"), "needs a radius"),
        (lambda x: gf.smooth(x[x[:, 0] > 0], "ball", 1.0), r"size that is not known.*compute_chunk_sizes"),
        (
            lambda x: gf.binned_statistic(x, x[:, 0], gf.Grid((3, 3)), "median"),
            r"points is in several chunks along axis 0.*median.*: points.rechunk\(\{0: -1\}\)",
        ),
        (lambda x: gf.nufft1(x[0], x[0], 4), r"points must be \(N, ndim\)"),
        (lambda x: gf.binned_statistic(x, x[:5, 0], gf.Grid((3, 3))), "must begin with the points'"),
    ],
)
def test_errors_come_while_the_graph_is_made(call, message):
    with pytest.raises((ValueError, TypeError), match=message):
        call(lazy(np.random.default_rng(0).random((40, 2)), (10, 2)))


def test_nothing_else_changes_an_array_of_numpy():
    """The hook: the same function object is pickled by name, keeps its signature, and NumPy's arrays go straight on."""
    import inspect
    import pickle

    assert pickle.loads(pickle.dumps(gf.smooth)) is gf.smooth
    assert list(inspect.signature(gf.smooth).parameters)[:3] == ["a", "kernel", "radius"]
    assert "Smooth data on a grid" in gf.smooth.__doc__
    with pytest.raises(TypeError, match="unexpected keyword argument 'dim'"):
        gf.smooth(np.ones(4), "ball", 1.0, dim="x")


# ---- where it runs
@pytest.mark.slow
def test_distributed_with_zarr(tmp_path):
    """Two processes, data from zarr and back to zarr; nothing is warned of, nothing left behind."""
    distributed = pytest.importorskip("distributed")
    zarr = pytest.importorskip("zarr")
    a, rng = field(6, 40, 50), np.random.default_rng(1)
    x, v = rng.random((1000, 2)), rng.normal(size=1000)
    source = zarr.create_array(str(tmp_path / "a.zarr"), shape=a.shape, chunks=(2, 20, 20), dtype=a.dtype)
    source[:] = a
    grid = gf.Grid.pixels((40, 50))
    u = gf.random_displacement(3, 2.0, shape=(40, 50), rng=0)

    def fit(y, n):
        return gf.curve_fit("a + b*t", np.arange(n), y if isinstance(y, np.ndarray) else y.rechunk({0: -1}), axis=0)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with (
            dask.config.set({"scheduler": "distributed", "distributed.worker.daemon": True}),
            distributed.LocalCluster(
                n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, local_directory=str(tmp_path)
            ) as cluster,
            distributed.Client(cluster) as client,
        ):
            lazily = da.from_zarr(str(tmp_path / "a.zarr"))
            smooth = gf.smooth(lazily, "gaussian", sigma=1.5, grid=grid)
            smooth.to_zarr(str(tmp_path / "smooth.zarr"))
            counts = gf.histogram(lazily, 20, (-3, 3))[0]
            means = gf.binned_statistic(lazy(x, 300), lazy(v, 300), gf.Grid.cells((4, 4)), ["mean", "std"])
            moved = gf.deform(lazily, u)
            near, fits = gf.pairwise(lazy(x, 300), lazy(x[:400] + 0.01, 150)).argmin(1), fit(lazily, 6)
            pairs = gf.corr_matrix(lazily[:, :9, 0], 0)
            late = [counts, means, moved, near, fits.popt, pairs]
            counts, means, moved, near, popt, pairs = client.gather(client.compute(late))
    np.testing.assert_array_equal(counts, gf.histogram(a, 20, (-3, 3))[0])
    np.testing.assert_allclose(means, gf.binned_statistic(x, v, gf.Grid.cells((4, 4)), ["mean", "std"]), 1e-10)
    np.testing.assert_allclose(moved, gf.deform(a, u), 1e-9, 1e-9)
    np.testing.assert_array_equal(near, gf.pairwise(x, x[:400] + 0.01).argmin(1))
    np.testing.assert_allclose(popt, fit(a, 6).popt, 1e-6, 1e-6)
    np.testing.assert_allclose(pairs, gf.corr_matrix(a[:, :9, 0], 0), 1e-10, 1e-10)
    written = zarr.open_array(str(tmp_path / "smooth.zarr"))[:]
    np.testing.assert_allclose(written, gf.smooth(a, "gaussian", sigma=1.5, grid=grid), 1e-10, 1e-10)


# ---- series in chunks of time
SERIES = [
    {},
    {"detrend": "linear", "window": 36, "trim": 5},
    {"window": 30, "min_periods": 20, "nan_policy": "omit"},
    {"lag": range(-2, 3), "detrend": "linear", "window": 7},
    {"detrend": "constant", "weights": np.random.default_rng(5).random(120), "lag": 2},
]


@settings(max_examples=12)
@given(chunkings(2, 120, 3, 4), st.sampled_from(SERIES), st.booleans())
def test_corr(chunks, options, lazily):
    """A halo of a window, and sums that add up."""
    y, x = field(2, 120, 3, 4, seed=1).cumsum(1) + 1e4, field(120, seed=2).cumsum()
    y[0, 50, 1, 2], y[1, 0, 0, 0], x[70] = np.nan, np.nan, np.nan
    mine = gf.corr(lazy(x, 50) if lazily else x, lazy(y, chunks), 1, **options)
    agree(mine, gf.corr(x, y, 1, **options), 1e-7)


@settings(max_examples=8)
@given(chunkings(2, 120, 3), st.sampled_from([(5, None), (36, 3), (90, None), (120, 1), (1, None)]))
def test_rolling_mean(chunks, window):
    y = field(2, 120, 3, missing=0.02)
    mine = gf.rolling_mean(lazy(y, chunks), window[0], 1, min_periods=window[1])
    agree(mine, gf.rolling_mean(y, window[0], 1, min_periods=window[1]))


@settings(max_examples=8)
@given(chunkings(2, 120, 3), st.sampled_from(["linear", "constant"]), st.sampled_from(["omit", "propagate"]))
def test_detrend(chunks, kind, policy):
    y = field(2, 120, 3, missing=0.01).cumsum(1) + 1e5 * np.arange(120)[:, None] + 1e6
    mine = gf.detrend(lazy(y, chunks), 1, kind, nan_policy=policy)
    theirs = gf.detrend(y, 1, kind, nan_policy=policy)
    agree(mine, theirs, 1e-7 * max(1.0, np.nanmax(np.abs(theirs))))


def test_series_in_other_ways():
    y, many = field(3, 100, 4, dtype=np.float32), field(3, 100, 4)
    agree(gf.corr(many, lazy(y, (1, 100, 2)), 1, window=5), gf.corr(many, y, 1, window=5), 1e-5)
    agree(gf.corr(many[0, :, 0], lazy(y, (1, 9, 4)), 1), gf.corr(many[0, :, 0], y, 1), 1e-5)
    for bad in (lambda z: gf.corr(many[0, :5, 0], z, 1), lambda z: gf.rolling_mean(z, 500, 1),
                lambda z: gf.corr(many[0, :, 0], z, 1, window=200), lambda z: gf.detrend(z, 7)):  # fmt: skip
        with pytest.raises(ValueError, match="gf"):
            bad(lazy(y, (1, 50, 4)))


def test_chunks_without_points():
    """After a selection some chunks may be empty, and their results must not count."""
    x, v = np.random.default_rng(0).random((100, 2)), field(100)
    twice, values = np.concatenate([x, x + 10]), np.concatenate([v, v])
    chosen = lazy(twice, 25)[:, 0] < 5
    some, of_some = lazy(twice, 25)[chosen], lazy(values, 25)[chosen]
    with dask.config.set(scheduler="synchronous"):
        some.compute_chunk_sizes()
        of_some.compute_chunk_sizes()
    assert 0 in some.chunks[0]
    grid = gf.Grid((3, 3))
    agree(gf.binned_statistic(some, of_some, grid, STATISTICS), gf.binned_statistic(x, v, grid, STATISTICS))
    agree(gf.histogram(some[:, 0], 4, (0, 1))[0], gf.histogram(x[:, 0], 4, (0, 1))[0])
    agree(gf.sample(np.eye(4), some), gf.sample(np.eye(4), x))
    nothing = gf.binned_statistic(lazy(x[:0], 25), lazy(v[:0], 25), grid, ["mean", "count"])
    agree(nothing, gf.binned_statistic(x[:0], v[:0], grid, ["mean", "count"]))


@pytest.mark.parametrize("dtype", [np.complex128, np.int64, np.float16, ">f4"])
def test_types(dtype):
    rng = np.random.default_rng(0)
    a = rng.normal(size=(20, 30)) * 20
    a = (a + 1j * a[::-1]).astype(dtype) if dtype is np.complex128 else a.astype(dtype)
    u, tolerance = np.full((2, 2, 2), 0.7), 1e-9 if dtype in (np.complex128, np.int64) else 2e-2
    agree(gf.smooth(lazy(a, 7), "ball", 2.0), gf.smooth(a, "ball", 2.0), tolerance)
    agree(gf.deform(lazy(a, 9), u), gf.deform(a, u), tolerance)
    if dtype is not np.complex128:
        agree(
            gf.corr(a[:, 0].astype(float), lazy(a, 6), 0, window=3),
            gf.corr(a[:, 0].astype(float), a, 0, window=3),
            1e-2,
        )


def test_extreme_chunks_and_values():
    a, row = field(20, 30), field(1, 50)
    agree(gf.smooth(lazy(a, 1), "ball", 2.0), gf.smooth(a, "ball", 2.0))
    x = np.random.default_rng(0).random((20, 2)) * 3
    for boundary in ("mirror", "wrap", "reflect", "natural"):
        agree(gf.sample(lazy(row, (1, 9)), x, boundary=boundary), gf.sample(row, x, boundary=boundary))
    far = np.full((2, 2, 2), 1e4)
    agree(gf.deform(lazy(a, 9), far), gf.deform(a, far))
    with pytest.raises(ValueError, match="displacement is not finite"):
        gf.deform(lazy(a, 9), far * np.nan)
    a[7, 7] = np.inf
    agree(gf.smooth(lazy(a, 9), "ball", 2.0), gf.smooth(a, "ball", 2.0))
    late = gf.smooth(lazy(np.where(a > 2, np.nan, a), 9), "ball", 2.0, nan_policy="raise")  # known once it is computed
    with pytest.raises(ValueError, match="a holds NaN"):
        computed(late)


def test_cdist():
    if "cdist" not in gf.__all__:
        pytest.skip("not yet")
    x, y = field(70, 3), field(50, 3, seed=1)
    agree(gf.cdist(lazy(x, (30, 2)), lazy(y, 20)), gf.cdist(x, y))
    agree(
        gf.cdist(lazy(x, 30), squared=True, cov=np.diag([1.0, 2, 3])),
        gf.cdist(x, squared=True, cov=np.diag([1.0, 2, 3])),
    )


def test_grids_do_not_compute():
    x = lazy(field(50, 2), 20)
    for call in (lambda: gf.Grid.covering(x, spacing=0.1), lambda: gf.Grid.pixels((4, 4)).index(x),
                 lambda: gf.Grid.covering((x[:, 0], x[:, 1]), spacing=0.1)):  # fmt: skip
        with pytest.raises(TypeError, match=r"are lazy \(dask\).*call .compute\(\) first"):
            call()
