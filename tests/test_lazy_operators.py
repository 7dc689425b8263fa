"""pairwise, MaskIndex and Nufft with labelled and lazy arrays: labels kept, nothing computed early."""

import importlib
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lazily import agree, chunkings, computed, field, lazy, never_early  # noqa: F401 (a fixture)

import gridfield as gf

xr = pytest.importorskip("xarray")
da = pytest.importorskip("dask.array")

X, Y = field(37, 3), field(23, 3, seed=1)
MATRICES = [
    {},
    {"function": "gaussian", "length": 2.0},
    {"function": "squared", "cov": np.diag([1.0, -2.0, 3.0])},
    {"cov": np.diag([1.0, 2.0, 3.0]) + 0.1},
    {"function": lambda r: np.cos(r)},
]


def named(x, dim, **attrs):
    labels = {dim: np.arange(len(x)) * 10, "height": (dim, np.arange(len(x)) * 0.5)}
    return xr.DataArray(x, labels, [dim, "axis"], attrs=attrs)


# ---- pairwise of dask
@settings(max_examples=10)
@given(chunkings(37, 3), chunkings(23, 3), st.sampled_from(MATRICES), st.sampled_from([0, 1]))
def test_pairwise(of_x, of_y, options, axis):
    """Blocks of the first points, a tree over those of the second."""
    mine, theirs = gf.pairwise(lazy(X, of_x), lazy(Y, of_y), **options), gf.pairwise(X, Y, **options)
    assert mine.shape == theirs.shape and repr(mine) == repr(theirs) and isinstance(mine, gf.Pairwise)
    for name in ("sum", "logsumexp", "argmin", "min"):
        agree(getattr(mine, name)(axis), getattr(theirs, name)(axis))
    agree((-mine / 3).T.logsumexp(axis), (-theirs / 3).T.logsumexp(axis))
    v = field(23, 2, seed=2)
    agree(mine @ v, theirs @ v)
    agree(mine @ lazy(v[:, 0], 7), theirs @ v[:, 0])
    if options.get("function") != "squared":
        for a, b in zip(mine.kneighbors(9), theirs.kneighbors(9), strict=True):
            agree(a, b)


def test_pairwise_in_other_ways():
    p = gf.pairwise(X, Y)
    agree(gf.pairwise(X, lazy(Y, 7)).argmin(1), p.argmin(1))
    agree(gf.pairwise(lazy(X, 7), Y).min(0), p.min(0))
    agree(gf.pairwise(lazy(X, 9)).kneighbors(2)[1], gf.pairwise(X).kneighbors(2)[1])
    agree(gf.pairwise(lazy(X, 9), lazy(Y, 9)).map("matern32", length=0.5).sum(1), p.map("matern32", length=0.5).sum(1))
    agree(p @ lazy(Y[:, 0], 5), p @ Y[:, 0])  # of points of NumPy
    agree(pickle.loads(pickle.dumps(gf.pairwise(lazy(X, 9), Y))).argmin(1), p.argmin(1))
    x = X.astype(np.float32)
    agree(gf.pairwise(lazy(x, 9), lazy(x[:5], 2)).logsumexp(1), gf.pairwise(x, x[:5]).logsumexp(1), 1e-6)
    agree(gf.pairwise(lazy(X[:0], 9), lazy(Y, 9)).argmin(1), gf.pairwise(X[:0], Y).argmin(1))
    agree(gf.pairwise(lazy(X, 9), lazy(Y[:0], 9)).logsumexp(1), gf.pairwise(X, Y[:0]).logsumexp(1))


def test_pairwise_of_equals_and_gaps():
    """The first of equals, also across chunks; NaN is never near, and infinitely far is farther than all else."""
    y = np.repeat(Y[:4], 5, 0)
    y[3], y[11], x = np.nan, np.inf, np.concatenate([X, X[:2] * np.nan])
    mine, theirs = gf.pairwise(lazy(x, 10), lazy(y, 3)), gf.pairwise(x, y)
    agree(mine.argmin(1), theirs.argmin(1))
    agree(mine.min(1), theirs.min(1))
    for a, b in zip(mine.kneighbors(20), theirs.kneighbors(20), strict=True):
        agree(a, b)
    agree((-mine).argmin(1), (-theirs).argmin(1))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("d", [3, 70])
def test_equals_with_weights(d, dtype):
    """About the mean of all points, not of a block: equal points have the same distance wherever they are."""
    rng = np.random.default_rng(d)
    y = (1e3 + rng.normal(size=(40, d))).astype(dtype)[rng.integers(0, 40, 300)]
    x, spread = (1e3 + rng.normal(size=(37, d))).astype(dtype), np.cov(rng.normal(size=(d, 2 * d + 3)))
    y[7, 1], y[9] = np.nan, np.inf
    for weights in ({"cov": spread}, {"precision": spread}, {"cov": spread + 0.1 * np.triu(spread)}, {"cov": y[0]}):
        theirs, mine = gf.pairwise(x, y, **weights), gf.pairwise(lazy(x, 20), lazy(y, 61), **weights)
        for a, b in zip(mine.kneighbors(30), theirs.kneighbors(30), strict=True):
            np.testing.assert_array_equal(computed(a), b)
        np.testing.assert_array_equal(computed(mine.argmin(1)), theirs.argmin(1))
        one = gf.pairwise(x[:1], y, **weights | {"function": "squared"})  # as a block of one row has it
        assert len(set(one.kneighbors(280)[0][0].tolist())) <= 40
        np.testing.assert_array_equal(computed(gf.pairwise(x, lazy(y, 299), **weights).min(1)), theirs.min(1))


def test_the_mean_of_huge_points():
    """A sum beyond the largest number is no mean."""
    x = np.array([[1e308, 1.0], [1e308, 2.0], [-1e308, 4.0]])
    assert gf.pairwise(x, cov=[1.0, 1.0]).argmin(1).tolist() == [0, 1, 2]
    agree(gf.pairwise(lazy(x, 1), cov=[1.0, 1.0]).argmin(1), np.arange(3))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: gf.pairwise(x, X[:, :2]), "coordinates per point"),
        (lambda x: gf.pairwise(x, function="nope"), "function must be callable or one of"),
        (lambda x: gf.pairwise(x, cov=lazy(np.eye(3), 3)), r"cov is of dask.*cov.compute\(\)"),
        (lambda x: gf.pairwise(x).kneighbors(90), "k must be an int from 1 to 37"),
        (lambda x: gf.pairwise(x, cov=-np.eye(3), function="squared").kneighbors(1), "not positive definite"),
        (lambda x: gf.pairwise(x) @ np.ones(4), "expected"),
        (lambda x: gf.pairwise(x).sum(2), "axis must be 1"),
        (lambda x: gf.pairwise(x[x[:, 0] > 0]), "size that is not known"),
        (lambda x: gf.pairwise(x, X[:0]).argmin(1), "least of no points"),
        (lambda x: gf.pairwise(named(X, "obs"), dim="obs"), "takes no dim"),
        (lambda x: gf.pairwise(named(X, "obs")) @ xr.DataArray(np.ones(37), dims="x"), "but not 'obs'"),
    ],
)
def test_errors(call, message):
    with pytest.raises((ValueError, TypeError), match=message):
        call(lazy(X, (10, 2)))


# ---- pairwise of labelled points
@pytest.mark.parametrize("chunks", [None, 7])
def test_labelled_pairwise(chunks):
    """The dim of the points that are left, with its coordinates; units where they are known."""
    x, y = named(X, "station", units="m"), named(Y, "buoy", units="m")
    mine, theirs = gf.pairwise(*(p if chunks is None else p.chunk(chunks) for p in (x, y))), gf.pairwise(X, Y)
    for axis, of in ((1, x), (0, y)):
        for name in ("argmin", "min", "sum", "logsumexp"):
            out = getattr(mine, name)(axis)
            assert out.dims == of.dims[:1] and set(out.coords) == {of.dims[0], "height"}
            assert out.attrs == ({"units": "m"} if name in ("min", "sum") else {})
            assert isinstance(out.data, np.ndarray if chunks is None else da.Array)
            np.testing.assert_allclose(computed(out.data), getattr(theirs, name)(axis), 1e-10)
    values, numbers = mine.kneighbors(3)
    assert values.dims == numbers.dims == ("station", "neighbor") and values.attrs == {"units": "m"}
    np.testing.assert_array_equal(computed(numbers.data), theirs.kneighbors(3)[1])
    importlib.import_module("gridfield.xarray")
    assert x.gf.pairwise(y).argmin(1).dims == ("station",)
    assert mine.map("squared").min(1).attrs == {"units": "(m)^2"} and "station by buoy" in repr(mine)


def test_labelled_products():
    x, y = named(X, "station", units="m"), named(Y, "buoy", units="m")
    mine, theirs = gf.pairwise(x, y, "gaussian"), gf.pairwise(X, Y, "gaussian")
    v = xr.DataArray(field(2, 23), {"time": [5, 6], "buoy": y.buoy}, ["time", "buoy"], attrs={"units": "K"})
    out = (2 * mine) @ v
    assert out.dims == ("station", "time") and out.attrs == {"units": "K"}
    assert set(out.coords) == {"station", "height", "time"}
    np.testing.assert_allclose(out, 2 * (theirs @ v.values.T))
    agree((mine @ v.chunk(buoy=5)).data, theirs @ v.values.T)
    assert (mine.map("distance") @ v).attrs == {}
    assert (mine @ v.values[0]).dims == ("station",) and (theirs @ v.transpose()).dims == ("points", "time")
    for w in (v.transpose("buoy", ...), v.chunk(buoy=5).transpose("buoy", ...)):  # the points, of dask, without labels
        out = gf.pairwise(lazy(X, 9), lazy(Y, 4), "gaussian") @ w
        assert out.dims == ("points", "time") and out.attrs == {"units": "K"} and isinstance(out.data, da.Array)
        agree(out.data, theirs @ v.values.T)
    with pytest.raises(ValueError, match="different coordinates along 'buoy'"):
        mine @ v.assign_coords(buoy=np.arange(23))
    data = xr.Dataset({"lat": ("station", X[:, 0]), "lon": ("station", X[:, 1])}, {"station": np.arange(37)})
    nearest = gf.pairwise(data, Y[:, :2]).argmin(1)
    assert nearest.dims == ("station",) and "station" in nearest.coords
    np.testing.assert_array_equal(nearest, gf.pairwise(X[:, :2], Y[:, :2]).argmin(1))
    assert gf.pairwise(data, Y[:, :2]).argmin(0).dims == ("points",) and gf.pairwise(x).T.argmin(0).dims == ("station",)


# ---- MaskIndex
def test_mask_index():
    rng = np.random.default_rng(0)
    m = xr.DataArray(
        rng.random((6, 5)) > 0.5, {"lat": np.arange(6.0)[::-1] * 10, "lon": np.arange(5.0)}, ["lat", "lon"]
    )
    points = xr.Dataset({"lat": ("obs", rng.uniform(0, 50, 40)), "lon": ("obs", rng.uniform(0, 4, 40))})
    index = gf.MaskIndex(m)  # latitudes from north to south
    xr.testing.assert_identical(index.select(points), gf.select(points, m))
    agree(index.select(points.chunk(obs=7)).data, gf.select(points, m).values)
    x = rng.uniform(-1, 7, (30, 2))
    agree(gf.MaskIndex(m.values).select(lazy(x, (7, 1)), outside=True), gf.select(x, m.values, outside=True))
    assert pickle.loads(pickle.dumps(index)).count == index.count
    for bad, message in ((lambda: gf.MaskIndex(m.chunk(lat=2)), r"mask is of dask.*mask.compute\(\)"),
                         (lambda: gf.MaskIndex(m.assign_coords(lat=np.arange(6.0) ** 2)), "coordinate 'lat'"),
                         (lambda: index.select(points.chunk(obs=7), indices=True), "indices=False")):  # fmt: skip
        with pytest.raises((ValueError, TypeError), match=message):
            bad()


# ---- Nufft
@pytest.fixture(scope="module")
def operator():
    x = xr.DataArray(np.random.default_rng(0).uniform(-3, 3, (40, 2)), {"sample": np.arange(40)}, ["sample", "axis"])
    return x, gf.Nufft(x, (6, 5)), gf.Nufft(x.values, (6, 5))


def test_nufft_with_labels(operator):
    """As nufft2 and nufft1 label them; `normal` keeps what it is given."""
    x, mine, theirs = operator
    modes = xr.DataArray(field(3, 6, 5), {"time": [1, 2, 3]}, ["time", "ky", "kx"], attrs={"units": "K"})
    values = mine(modes)
    xr.testing.assert_allclose(values, gf.nufft2(x, modes))
    assert values.dims == ("time", "sample") and values.attrs == {"units": "K"} and "sample" in values.coords
    xr.testing.assert_allclose(mine.adjoint(values), gf.nufft1(x, values, (6, 5), sign=-1))
    xr.testing.assert_identical(mine.normal(modes), modes.copy(data=theirs.normal(modes.values)))
    found = mine.solve(values)
    assert found.dims == mine.adjoint(values).dims and found.coords["x0_mode"].values.tolist() == [*range(-3, 3)]
    np.testing.assert_array_equal(found, theirs.solve(values.values))
    assert mine.H(values).dims == found.dims and theirs(modes).dims == ("time", "points")
    assert mine(modes.astype(np.float32)).dtype == np.complex64
    maps = xr.DataArray(field(4, 6, 5), dims=["coil", "ky", "kx"])
    seen = mine((maps * modes).transpose("coil", "time", ...)).transpose("coil", "sample", "time")
    mapped = mine.solve(seen, sense_maps=maps, iterations=20)
    there = theirs.solve(seen.transpose("time", "coil", "sample").values, sense_maps=maps.values, iterations=20)
    assert mapped.dims == ("time", "x0_mode", "x1_mode")
    np.testing.assert_array_equal(mapped, there)
    agree(mine.solve(seen.chunk(time=2), sense_maps=maps, iterations=20).data, there)
    assert pickle.loads(pickle.dumps(mine))(modes).dims == values.dims
    many = gf.Nufft(xr.concat([x, 2 * x, -x], "time"), (6, 5))  # points of their own for every item
    seen = many(modes)
    assert seen.dims == ("time", "sample") and many.adjoint(seen).dims == many.solve(seen).dims == found.dims
    assert gf.nufft1(xr.concat([x, x], "time"), seen[:2], (6, 5)).dims == found.dims
    both = gf.Nufft({"u": x[:, 0], "v": x[:, 1]}, (6, 5))
    assert both.adjoint(values).dims == ("time", "u_mode", "v_mode")


@settings(max_examples=5, deadline=None)
@given(chunkings(3, 40))
def test_nufft_of_dask(operator, chunks):
    x, mine, theirs = operator
    modes, values = field(3, 6, 5), field(3, 40, seed=1)
    agree(theirs(lazy(modes, (chunks[0], 6, 5))), theirs(modes), 1e-9)
    agree(theirs.normal(lazy(modes, (chunks[0], 6, 5)), np.arange(40.0)), theirs.normal(modes, np.arange(40.0)), 1e-9)
    agree(
        theirs.adjoint(lazy(values, chunks)), theirs.adjoint(values), 1e-4
    )  # chunks of points have windows of their own
    agree(theirs.solve(lazy(values, (chunks[0], 40)), iterations=9), theirs.solve(values, iterations=9), 1e-9)
    named = xr.DataArray(values, dims=["time", "sample"]).chunk(sample=13)
    agree(mine.adjoint(named).data, theirs.adjoint(values), 1e-4)
    for call, message in ((lambda: mine.solve(named), r"along dim 'sample'.*values.chunk\(\{'sample': -1\}\)"),
                          (lambda: theirs.normal(lazy(modes, 2)), r"along axes 1, 2.*modes.rechunk"),
                          (lambda: gf.nufft1(lazy(x.values, 9), values[:, :7], 4), "values has shape.*its 40 points"),
                          (lambda: gf.Nufft(lazy(x.values, 9), 4), "points is of dask"),
                          (lambda: theirs.normal(modes, lazy(np.ones(40), 9)), "weights is of dask")):  # fmt: skip
        with pytest.raises((ValueError, TypeError), match=message):
            call()


@pytest.mark.parametrize("chunks", [4, (2, 40), (2, 13), (3, 40)])
def test_nufft_of_a_batch(chunks):
    """Points of their own for every item, of NumPy or dask: items and points in any chunks."""
    x, values, modes = np.random.default_rng(0).uniform(-3, 3, (4, 40, 2)), field(4, 3, 40), field(4, 3, 6, 5)
    of_items, of_points = (chunks, 40) if isinstance(chunks, int) else chunks
    v, m = lazy(values, (of_items, 3, of_points)), lazy(modes, (of_items, 3, 6, 5))
    for p in (x, lazy(x, (3, 20, 1))):
        agree(gf.nufft1(p, v, (6, 5)), gf.nufft1(x, values, (6, 5)), 1e-4)
        agree(gf.nufft2(p, m), gf.nufft2(x, modes), 1e-4)
        for at in (2 * x[:, :9], 2 * x[0]):
            agree(gf.nufft3(p, v, at), gf.nufft3(x, values, at), 1e-4)
    agree(gf.nufft3(lazy(x[0], 13), v, lazy(x, 2)), gf.nufft3(x[0], values, x), 1e-4)
    many = gf.Nufft(x, (6, 5))
    agree(many(m), many(modes), 1e-4)
    agree(many.adjoint(v), many.adjoint(values), 1e-4)
    named = xr.DataArray(values, dims=["time", "band", "sample"])
    assert gf.nufft3(x, named, x[:, :9]).dims == ("time", "band", "at")
    named = named.chunk(time=of_items)
    assert many.adjoint(named).dims == ("time", "band", "x0_mode", "x1_mode")
    agree(many.adjoint(named).data, many.adjoint(values), 1e-4)


# ---- gradients
@settings(max_examples=4, deadline=None)
@given(
    chunkings(5, 3),
    st.sampled_from(
        [{}, {"crop": (slice(2, 9), slice(0, 5))}, {"rotate": 20.0, "boundary": "mirror"}, {"kernel": "linear"}]
    ),
    st.sampled_from([np.float32, np.float64, np.uint8]),
)
def test_deform_gradient(chunks, options, dtype):
    """Block by block in the images, summed over blocks in the displacement."""
    x, u = (40 * field(5, 12, 3, 11)).astype(dtype), gf.random_displacement(3, 1.0, shape=(12, 11), rng=0)
    ct = field(*gf.deform(x, u, axis=(1, 3), **options).shape, dtype=np.float64 if dtype == np.float64 else np.float32)
    ct = ct if np.dtype(dtype).kind == "f" else ct.astype(np.float64)
    theirs = gf.deform_gradient(ct, x, u, axis=(1, 3), **options)
    tolerance = 1e-10 if theirs[0].dtype == np.float64 else 2e-3
    whole = (chunks[0], -1, chunks[1], -1)
    for displacement in (u, lazy(u, 2)):
        mine = gf.deform_gradient(lazy(ct, whole), lazy(x, (2, -1, 3, -1)), displacement, axis=(1, 3), **options)
        for a, b in zip(mine, theirs, strict=True):
            agree(a, b, tolerance)
    alone, none = gf.deform_gradient(lazy(ct.astype(np.float64), whole), x.shape, u, axis=(1, 3), **options)
    assert none is None
    agree(alone, gf.deform_gradient(ct.astype(np.float64), x.shape, u, axis=(1, 3), **options)[0])


def test_deform_gradient_in_other_ways():
    x, ct, u = field(3, 12, 11), field(3, 12, 11, seed=1), gf.random_displacement(3, 1.0, shape=(12, 11), rng=0)
    many = np.stack([u, -u, 2 * u])
    mine = gf.deform_gradient(lazy(ct, (3, 12, 11)), x, many, batch_axis=0)
    for a, b in zip(mine, gf.deform_gradient(ct, x, many, batch_axis=0), strict=True):
        agree(a, b)
    agree(gf.deform_gradient(ct, lazy(x, (1, 12, 11)), zoom=2.0, axis=(1, 2))[0],
          gf.deform_gradient(ct, x, zoom=2.0, axis=(1, 2))[0])  # fmt: skip
    image = xr.DataArray(x, {"time": [1, 2, 3]}, ["time", "y", "x"], attrs={"units": "K"})
    in_image, in_u = gf.deform_gradient(image.copy(data=ct).chunk(time=1), image.chunk(time=2), u)
    assert in_image.dims == image.dims and in_image.attrs == image.attrs and isinstance(in_u, da.Array)
    agree(in_image.data, gf.deform_gradient(ct, x, u)[0])
    for bad, message in ((lambda: gf.deform_gradient(ct, image.chunk(y=5), u), r"dim 'y'.*images.chunk\(\{'y': -1"),
                         (lambda: gf.deform_gradient(lazy(ct, 2), x, many, batch_axis=0), "axes 1, 2, 0")):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            bad()
