"""Labelled arrays: dims, coordinates, attributes and units kept; axes by name; grids from coordinates."""

import importlib
import inspect

import numpy as np
import pytest

import gridfield as gf

xr = pytest.importorskip("xarray")
importlib.import_module("gridfield.xarray")

LAT, LON = np.linspace(80, -80, 17), np.arange(0, 360, 20.0)  # latitudes from north to south, as they often are
TIME = np.arange("2000-01-01", "2000-01-13", dtype="M8[D]").astype("M8[ns]")


@pytest.fixture
def t():
    rng = np.random.default_rng(0)
    return xr.DataArray(
        rng.normal(size=(12, 17, 18)).astype(np.float32),
        {
            "time": TIME,
            "lat": ("lat", LAT, {"units": "degrees_north"}),
            "lon": ("lon", LON, {"units": "degrees_east"}),
            "height": 2.0,
            "land": (("lat", "lon"), rng.random((17, 18)) > 0.5),
        },
        ["time", "lat", "lon"],
        name="t2m",
        attrs={"units": "K", "long_name": "temperature"},
    )


@pytest.fixture
def stations():
    places = {"lat": [10.0, 20.0, -33.0], "lon": [5.0, 15.0, 333.0]}
    return xr.Dataset({k: ("station", v) for k, v in places.items()}, {"station": ["a", "b", "c"]})


@pytest.fixture
def observed():
    rng = np.random.default_rng(1)
    return xr.DataArray(
        rng.normal(size=80),
        {"lat": ("obs", rng.uniform(-90, 90, 80), {"units": "degrees_north"}), "lon": ("obs", rng.uniform(0, 360, 80))},
        ["obs"],
        name="salinity",
        attrs={"units": "psu"},
    )


def like(mine, theirs):
    """The same labels, whatever the numbers."""
    assert isinstance(mine, xr.DataArray)
    assert mine.dims == theirs.dims and mine.attrs == theirs.attrs and mine.name == theirs.name
    assert set(mine.coords) == set(theirs.coords)
    for k in theirs.coords:
        xr.testing.assert_identical(mine.coords[k].variable, theirs.coords[k].variable)


# ---- grids
def test_grid_of_coordinates(t):
    grid = gf.Grid.from_xarray(t, ["lat", "lon"], periodic="lon")
    assert (
        grid
        == gf.Grid((17, 18), ((-80, 80), (0, 360)), periodic=(False, True))
        == t.gf.grid(["lat", "lon"], periodic="lon")
    )
    assert gf.Grid.from_xarray(t, "time").bounds == ((10957.0, 10968.0),)  # days since 1970
    assert gf.Grid.from_xarray(t.drop_vars("lat"), "lat") == gf.Grid.pixels(17)
    assert gf.Grid.from_xarray(t.isel(lat=[3]), "lat").spacing == (1.0,)
    single = t.assign_coords(lat=np.linspace(0.1, 0.7, 17).astype(np.float32))
    np.testing.assert_allclose(gf.Grid.from_xarray(single, "lat").spacing, 0.0375, 1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda t: t.assign_coords(lon=LON**2),
            "coordinate 'lon' is not evenly spaced: neighbours are 400 to 13200 apart",
        ),
        (lambda t: t.assign_coords(lon=np.r_[LON[:-1], LON[0]]), "coordinate 'lon' is not evenly spaced"),
        (lambda t: t.assign_coords(lon=np.full(18, 3.0)), "coordinate 'lon' is not evenly spaced"),
        (lambda t: t.assign_coords(lon=np.r_[LON[:-1], np.nan]), "coordinate 'lon' must be finite"),
        (lambda t: t.assign_coords(lon=[f"c{i}" for i in range(18)]), "coordinate 'lon' has dtype"),
        (lambda t: t.rename(lon="x"), "has dims"),
    ],
)
def test_the_coordinate_is_named(t, change, message):
    with pytest.raises((ValueError, TypeError), match=message):
        gf.smooth(change(t), "ball", 30.0, dim=["lat", "lon"])
    if "dims" not in message:
        with pytest.raises((ValueError, TypeError), match=r"gf.Grid.from_xarray: " + message):
            gf.Grid.from_xarray(change(t))


def test_grids_refuse(t):
    for bad in (lambda: gf.Grid.from_xarray(np.ones(3)), lambda: gf.Grid.from_xarray(t, "z"),
                lambda: gf.Grid.from_xarray(t, []), lambda: gf.Grid.from_xarray(t, "lat", periodic="lon")):  # fmt: skip
        with pytest.raises((ValueError, TypeError), match=r"gf\.Grid\.from_xarray"):
            bad()


# ---- fields
def test_smooth_in_the_units_of_the_coordinates(t):
    """Whatever the order of dims, and with a coordinate that decreases."""
    grid = t.gf.grid(["lat", "lon"], periodic="lon")
    mine = t.gf.smooth("gaussian", sigma=25.0, dim=["lat", "lon"], grid=grid)
    like(mine, t)
    np.testing.assert_array_equal(mine.values, gf.smooth(t.values[:, ::-1], "gaussian", sigma=25.0, grid=grid)[:, ::-1])
    turned = gf.smooth(t.transpose("lat", "time", "lon"), "gaussian", sigma=25.0, dim=["lat", "lon"], grid=grid)
    assert turned.dims == ("lat", "time", "lon")
    xr.testing.assert_identical(turned.transpose(*t.dims), mine)
    each = gf.smooth(t, "box", {"lat": 11.0, "lon": 30.0}, dim=("lat", "lon"), boundary={"lon": "wrap"})
    plain = gf.Grid((17, 18), ((-80, 80), (0, 340)))
    theirs = gf.smooth(t.values[:, ::-1], "box", (11.0, 30.0), grid=plain, boundary=("constant", "wrap"))[:, ::-1]
    np.testing.assert_array_equal(each.values, theirs)
    whole, info = gf.smooth(t.isel(time=0), "ball", 30.0, return_info=True)
    like(whole, t.isel(time=0))
    assert info.kernel.ndim == 2


def test_fields_keep_their_labels(t):
    like(gf.prefilter(t, dim=["lat", "lon"]), t)
    like(gf.fill_empty(t.where(t.land), dim=["lat", "lon"]), t)
    missing = t.where(t.land)
    filled = gf.fill_empty(missing, dim=["lat", "lon"])
    np.testing.assert_array_equal(filled.values[missing.notnull().values], t.values[missing.notnull().values])
    larger, grid = gf.prefilter(t, dim=["lat", "lon"], boundary="nearest")
    assert larger.shape == (12, 41, 42) and grid.shape == (41, 42)
    np.testing.assert_allclose(larger.lon, np.arange(-12, 30) * 20.0)
    wide = gf.pad(t, {"lon": (2, 3)}, boundary={"lon": "wrap"}, dim="lon")
    assert wide.sizes["lon"] == 23 and "land" not in wide.coords and wide.attrs == t.attrs
    np.testing.assert_array_equal(wide.lon.values[:3], [-40.0, -20, 0])
    np.testing.assert_array_equal(wide.isel(lon=[0, 1]).values, t.isel(lon=[-2, -1]).values)
    assert gf.fold(t, 1, dim="time").time.values.tolist() == TIME[1:-1].tolist()
    stacked = t.stack(place=("lat", "lon")).transpose("place", "time")
    like(gf.smooth(stacked, "gaussian", sigma=1.5, dim="time"), stacked)


# ---- points
def test_sample_as_xarray_interpolates(t, stations):
    mine = t.gf.sample(stations, kernel="linear")
    theirs = t.interp(lat=stations.lat, lon=stations.lon)
    np.testing.assert_allclose(mine.transpose(*theirs.dims), theirs, atol=1e-6)
    assert mine.dims == ("station", "time") and mine.attrs == t.attrs and mine.dtype == np.float32
    assert list(mine.station.values) == ["a", "b", "c"] and mine.lat.values.tolist() == [10.0, 20.0, -33.0]
    across = gf.sample(t, {"lat": [10.0, 20], "lon": [5.0, 15, 30]}, kernel="linear")
    np.testing.assert_allclose(
        across.transpose("time", "lat", "lon"), t.interp(lat=[10.0, 20], lon=[5.0, 15, 30]), atol=1e-6
    )
    noon = np.array(["2000-01-05T12", "2000-01-07T06"], "M8[ns]")
    np.testing.assert_allclose(gf.sample(t, {"time": noon}, kernel="linear"), t.interp(time=noon), atol=1e-5)
    assert gf.sample(t, {"time": noon}).time.values.tolist() == noon.tolist()


def test_sample_otherwise(t):
    bare = np.array([[10.0, 5.0], [20.0, 15.0]])
    mine = gf.sample(t, bare)
    assert mine.dims == ("points", "time")
    values, grid = t.values[:, ::-1].astype(np.float64), t.gf.grid(["lat", "lon"])
    np.testing.assert_allclose(mine, gf.sample(values, bare, grid=grid), 1e-6, 1e-6)
    slope = gf.sample(t, bare, derivative={"lat": 1})
    assert slope.attrs["units"] == "(K)/(degrees_north)"
    np.testing.assert_allclose(slope, gf.sample(values, bare, grid=grid, derivative=(1, 0)), 1e-5, 1e-6)
    names = xr.DataArray(
        bare[:, ::-1], {"axis": ["lon", "lat"]}, ["p", "axis"]
    )  # coordinates say which dim they are along
    np.testing.assert_array_equal(gf.sample(t, names).values, mine.values)
    with pytest.raises(ValueError, match="both values and points have the dim 'time'"):
        gf.sample(t, {"lat": xr.DataArray(np.zeros(12), dims="time"), "lon": xr.DataArray(np.zeros(12), dims="time")})
    with pytest.raises(ValueError, match="but not 'z'"):
        gf.sample(t, {"z": [1.0]})


def test_binned_statistic(t, observed):
    mine = observed.gf.binned_statistic(["lat", "lon"], (3, 4), bounds=((-90, 90), (0, 360)))
    x = np.stack([observed.lat, observed.lon], -1)
    np.testing.assert_array_equal(mine, gf.binned_statistic(x, observed.values, (3, 4), bounds=((-90, 90), (0, 360))))
    assert mine.dims == ("lat", "lon") and mine.attrs == {"units": "psu"} and mine.name == "salinity"
    assert mine.lat.values.tolist() == [-60, 0, 60] and mine.lat.attrs["units"] == "degrees_north"
    grid = gf.Grid.cells((3, 4), ((-90, 90), (0, 360)))
    several = gf.binned_statistic((observed.lat, observed.lon), observed, grid, ["mean", "var"])
    assert several.dims == ("statistic", "lat", "lon") and "units" not in several.attrs
    assert list(several.statistic.values) == ["mean", "var"]
    assert gf.binned_statistic((observed.lat, observed.lon), observed, grid, "var").attrs["units"] == "(psu)^2"
    counted = gf.binned_statistic(
        {"lat": observed.lat, "lon": observed.lon}, None, [[-90, 0, 90], [0, 100, 360]], "count"
    )
    assert float(counted.sum()) == 80 and counted.lon.values.tolist() == [50, 230]
    coarse = gf.binned_statistic(["lat", "lon"], t, (4, 3), bounds=((-90, 90), (-10, 350)))  # a field made coarser
    assert coarse.dims == ("time", "lat", "lon") and coarse.shape == (12, 4, 3)
    with pytest.raises(ValueError, match="values has 3 along 'obs' but points 80"):
        gf.binned_statistic((observed.lat, observed.lon), observed.isel(obs=slice(3)), grid)


def test_what_points_give(t, observed):
    pair = {"lat": observed.lat, "lon": observed.lon}
    x = np.stack([observed.lat, observed.lon], -1)
    grid, flipped = t.gf.grid(["lat", "lon"]), t.land.values[::-1]
    inside = gf.select(pair, t.land)
    assert inside.dims == ("obs",) and inside.dtype == bool and "lat" in inside.coords
    np.testing.assert_array_equal(inside, gf.select(x, flipped, grid))
    np.testing.assert_array_equal(gf.select(pair, t.land, indices=True), gf.select(x, flipped, grid, indices=True))
    under = gf.lookup({"lon": observed.lon, "lat": observed.lat}, t.isel(time=0))  # in any order
    np.testing.assert_array_equal(under, gf.lookup(x, t.values[0, ::-1], grid))
    assert under.attrs == t.attrs
    np.testing.assert_array_equal(gf.bin_index((observed.lat, observed.lon), grid), gf.bin_index(x, grid))
    smooth, where = gf.grid_and_smooth((observed.lat, observed.lon), observed, "ball", 30.0, spacing=10.0)
    np.testing.assert_array_equal(smooth.lat, where.axes()[0])
    spread = gf.splat(observed, (observed.lat, observed.lon), grid)
    np.testing.assert_allclose(spread, gf.splat(observed.values, x, grid))
    modes = gf.nufft1((observed.lat, observed.lon), observed, (4, 5))
    assert modes.dims == ("lat_mode", "lon_mode") and modes.lat_mode.values.tolist() == [-2, -1, 0, 1]
    back = gf.nufft2((observed.lat, observed.lon), modes)
    assert back.dims == ("obs",)
    table = t.isel(time=0).stack(p=("lat", "lon")).reset_index("p")
    sorted_out, _ = gf.to_grid((table.lat, table.lon), table)
    np.testing.assert_array_equal(sorted_out.values, t.values[0, ::-1])
    fitted = gf.fit_field((observed.lat, observed.lon), observed, gf.Grid((5, 6), ((-90, 90), (0, 360))))
    assert fitted.dims == ("lat", "lon") and fitted.attrs == {"units": "psu"}


def test_histograms(t, observed):
    hist, edges = t.gf.histogram(10, (-3, 3), where=t.land, dim="time")
    mask = np.broadcast_to(t.land.values, t.shape)
    np.testing.assert_array_equal(hist, gf.histogram(t.values, 10, (-3, 3), where=mask, axis=0)[0])
    assert hist.dims == ("lat", "lon", "t2m_bin") and edges.dims == ("t2m_edge",) and edges.attrs["units"] == "K"
    assert "units" not in hist.attrs and hist.t2m_bin.attrs["units"] == "K"
    assert gf.histogram(t, 10, (-3, 3), density=True)[0].attrs["units"] == "1/(K)"
    both, (lat, _) = gf.histogramdd((observed.lat, observed.lon), (3, 4), [(-90, 90), (0, 360)])
    assert both.dims == ("lat_bin", "lon_bin") and lat.dims == ("lat_edge",) and float(both.sum()) == 80


# ---- deformation
def test_deform(t):
    u = gf.random_displacement(3, 1.0, shape=(17, 18), rng=0)
    labelled = xr.DataArray(u, dims=["component", "lat", "lon"], attrs={"units": "px"})
    mine = t.gf.deform(labelled, dim=["lat", "lon"], crop={"lat": slice(2, 10)})
    like(mine, t.isel(lat=slice(2, 10)))
    np.testing.assert_array_equal(mine, gf.deform(t.values, u, crop=(slice(2, 10), slice(None))))
    turned = gf.deform(t.transpose("lat", "time", "lon"), u, dim=["lat", "lon"])
    assert turned.dims == ("lat", "time", "lon")
    both = gf.deform({"t": t, "land": t.land}, u, dim=["lat", "lon"], kernel={"t": "cubic", "land": "nearest"})
    like(both["land"], t.land)
    assert gf.displacement_field(labelled, (17, 18)).dims == ("component", "lat", "lon")
    assert gf.jacobian_determinant(labelled, (17, 18)).dims == ("lat", "lon")
    inverse, residual = gf.invert_displacement(labelled, (17, 18))
    assert inverse.attrs == {"units": "px"} and residual < 1e-3
    points = xr.DataArray(np.ones((5, 2)), {"p": list("abcde")}, ["p", "yx"])
    assert gf.deform_points(points, labelled, (17, 18)).coords["p"].values.tolist() == list("abcde")
    in_image, in_u = gf.deform_gradient(np.ones((17, 18)), t.isel(time=0), labelled)
    like(in_image, t.isel(time=0))
    assert in_u.dims == labelled.dims


def test_refine(t):
    fine = t.gf.refine(2, ["lat", "lon"])
    assert fine.shape == (12, 33, 35)
    np.testing.assert_allclose(fine.values[:, ::2, ::2], t.values, atol=1e-5)
    np.testing.assert_allclose(fine.lat, np.linspace(80, -80, 33))
    grid = t.gf.grid(["lat", "lon"])
    whole = gf.sample(t.values[:, ::-1].astype(float), grid.refine(2).coords(), grid=grid)
    np.testing.assert_allclose(fine.transpose("lat", "lon", "time").values[::-1], whole, atol=1e-5)
    assert str(t.gf.refine({"time": 2}).time.values[1]) == "2000-01-01T12:00:00.000000000"


# ---- lazily
def test_lazy_arrays_stay_lazy(t, stations):
    pytest.importorskip("dask")
    lazily = t.chunk(time=5, lat=6)
    smooth = lazily.gf.smooth("gaussian", sigma=25.0, dim=["lat", "lon"])
    assert smooth.chunks is not None
    like(smooth, t)
    np.testing.assert_allclose(smooth.values, t.gf.smooth("gaussian", sigma=25.0, dim=["lat", "lon"]), 1e-5, 1e-6)
    np.testing.assert_allclose(lazily.gf.sample(stations).values, t.gf.sample(stations), 1e-5, 1e-6)
    hist, _ = lazily.gf.histogram(10, (-3, 3), where=t.land, dim="time")
    assert hist.chunks is not None
    np.testing.assert_array_equal(hist.values, t.gf.histogram(10, (-3, 3), where=t.land, dim="time")[0])
    fine = lazily.gf.refine({"lon": 2})
    np.testing.assert_allclose(fine.values, t.gf.refine({"lon": 2}).values, 1e-5, 1e-6)
    with pytest.raises(
        ValueError, match=r"fill_empty: a is in several chunks along dim 'lat'.*a.chunk\(\{'lat': -1\}\)"
    ):
        lazily.gf.fill_empty(dim=["lat", "lon"])


def test_zarr_in_and_out(t, tmp_path):
    pytest.importorskip("zarr")
    t.drop_vars("land").chunk(time=4).to_dataset().to_zarr(str(tmp_path / "in.zarr"), consolidated=False)
    with xr.open_zarr(str(tmp_path / "in.zarr"), consolidated=False) as opened:
        smooth = opened.t2m.gf.smooth("ball", 30.0, dim=["lat", "lon"])
        smooth.to_dataset(name="smooth").drop_encoding().to_zarr(str(tmp_path / "out.zarr"), consolidated=False)
    with xr.open_zarr(str(tmp_path / "out.zarr"), consolidated=False) as written:
        np.testing.assert_allclose(written.smooth, t.gf.smooth("ball", 30.0, dim=["lat", "lon"]), 1e-5, 1e-6)
        assert written.smooth.attrs == t.attrs


# ---- all of it
def test_every_public_function_has_a_rule():
    """A new one either says how it treats dims, or takes no array that could have any."""
    from gridfield.labels import RULES

    without = {"random_displacement", "get_num_threads", "set_num_threads", "bspline"}  # no arrays
    without |= {"deform_gradient", "cdist", "pairwise", "curve_fit"}  # bare arrays, or labels of their own
    public = {n for n in gf.__all__ if inspect.isfunction(getattr(gf, n))}
    assert public - set(RULES) - without == set()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda t: gf.smooth(t.to_dataset(), "ball", 3.0), "a is a Dataset: choose one of its variables"),
        (lambda t: gf.smooth(t, "ball", 3.0, dim="x"), "but not 'x'"),
        (lambda t: gf.smooth(t, "box", {"lat": 3.0, "z": 1.0}, dim=["lat", "lon"]), "radius has 'z'"),
        (lambda t: gf.smooth(t, "box", {"lat": 3.0}, dim=["lat", "lon"]), "radius has no value for 'lon'"),
        (lambda t: gf.smooth(t, "ball", 3.0, nope=1), "gf.smooth: got an unexpected keyword argument 'nope'"),
        (lambda t: gf.histogram(t, 3, where=t.land.rename(lat="y")), "where has dims"),
        (
            lambda t: gf.histogram(t, 3, where=t.land.isel(lat=slice(None, None, -1))),
            "different coordinates along a dim",
        ),
        (lambda t: gf.histogram(t, 3, axis=0, dim="time"), "either dim or axis"),
    ],
)
def test_errors(t, call, message):
    with pytest.raises((ValueError, TypeError), match=message):
        call(t)


# ---- series
def test_corr(t):
    rng = np.random.default_rng(2)
    index = xr.DataArray(rng.normal(size=12), {"time": TIME}, ["time"], name="index")
    mine = t.gf.corr(index, dim="time")
    np.testing.assert_allclose(mine, xr.corr(t, index, "time"), 1e-3, 1e-6)
    assert mine.dims == ("lat", "lon") and "units" not in mine.attrs and "land" in mine.coords
    lagged = gf.corr(index, t, lag=[-1, 0, 1], detrend="linear", window=3)
    assert lagged.dims == ("lag", "lat", "lon") and lagged.lag.values.tolist() == [-1, 0, 1]
    np.testing.assert_array_equal(
        lagged, gf.corr(index.values, t.values, 0, lag=[-1, 0, 1], detrend="linear", window=3)
    )
    each = t.gf.corr(t.transpose("lon", "time", "lat"), dim="time")  # of each with itself, whatever the order of dims
    np.testing.assert_allclose(each, 1, 1e-5)
    zonal = t.gf.corr(t.mean("lon"), dim="time")  # several series, which go along with lat
    np.testing.assert_allclose(zonal, xr.corr(t, t.mean("lon"), "time"), 1e-3, 1e-5)
    lazily = t.chunk(time=5, lat=6).gf.corr(index, dim="time", detrend="linear", window=3)
    assert lazily.chunks is not None
    np.testing.assert_allclose(lazily.values, t.gf.corr(index, dim="time", detrend="linear", window=3), 1e-4, 1e-5)
    with pytest.raises(ValueError, match=r"along dimension 'time' because of conflicting dimension sizes"):
        gf.corr(index.drop_vars("time").isel(time=slice(5)), t.drop_vars("time"), dim="time")
    with pytest.raises(ValueError, match="different coordinates along a dim that they share"):
        gf.corr(index.isel(time=slice(5)), t, dim="time")


def test_series_keep_their_labels(t):
    like(t.gf.detrend(dim="time"), t)
    np.testing.assert_array_equal(t.gf.detrend(dim="time"), gf.detrend(t.values, 0))
    rolled = t.gf.rolling_mean(5, dim="time")
    like(rolled, t)
    np.testing.assert_allclose(rolled, t.rolling(time=5, center=True).mean(), 1e-5, 1e-6)
    matrix = gf.corr_matrix(t.isel(lon=0), dim="time")
    assert matrix.dims == ("lat", "lat_2") and matrix.shape == (17, 17)
    np.testing.assert_allclose(np.diag(matrix), 1, 1e-5)
    np.testing.assert_array_equal(matrix.lat_2, t.lat)


def test_cdist(stations):
    if "cdist" not in gf.__all__:
        pytest.skip("not yet")
    places = stations.to_dataarray("axis").transpose("station", "axis")
    mine = gf.cdist(places)
    assert mine.dims == ("station", "station_2") and mine.station_2.values.tolist() == ["a", "b", "c"]
    np.testing.assert_array_equal(mine, gf.cdist(places.values))
    two = gf.cdist(places, places.isel(station=[0, 1]))
    assert two.dims == ("station", "station_2") and two.station_2.values.tolist() == ["a", "b"]
    assert gf.cdist(places, places.isel(station=[0]).rename(station="other")).dims == ("station", "other")


@pytest.mark.slow
def test_the_hook_is_no_obstacle_to_compilers():
    """With xarray loaded, too: torch.compile without a break, jax.jit, tf.function (AutoGraph)."""
    torch, jax, tf = (pytest.importorskip(name) for name in ("torch", "jax", "tensorflow"))
    v, x = np.random.default_rng(0).normal(size=(5, 6)), np.random.default_rng(1).uniform(0, 4, (7, 2))
    there = gf.sample(v, x)
    tv, tx = torch.tensor(v), torch.tensor(x)
    compiled = torch.compile(gf.sample, backend="aot_eager", fullgraph=True)
    for _ in range(2):
        np.testing.assert_allclose(compiled(tv, tx), there)
    np.testing.assert_allclose(jax.jit(gf.sample)(v.astype(np.float32), x.astype(np.float32)), there, 1e-4, 1e-5)
    np.testing.assert_allclose(tf.function(gf.sample)(tf.constant(v), tf.constant(x)), there)


def test_curve_fit_with_names():
    if "curve_fit" not in gf.__all__:
        pytest.skip("not yet")
    x = np.linspace(0, 5, 40)
    y = xr.DataArray(np.exp(-x)[:, None] * [3.0, 6.0], {"t": x, "k": [0, 1]}, ["t", "k"])

    def decay(t, a, b):
        return a * np.exp(-b * t)

    a, b = y.gf.curve_fit(decay, "t", (1.0, 1.0), dim="t").params.values()
    np.testing.assert_allclose(a, [3, 6], 1e-6)
    np.testing.assert_allclose(b, 1, 1e-6)
    with pytest.raises(ValueError, match="but not 'z'"):
        y.gf.curve_fit(decay, "t", (1.0, 1.0), dim="z")


def test_a_series_of_the_field_itself(rng):
    """Its place, a scalar coordinate, has the name of a dim of the result."""
    field = xr.DataArray(
        rng.normal(size=(40, 3, 4)), {"time": np.arange(40), "lat": [0.0, 1.0, 2.0], "lon": np.arange(4.0)}, name="t"
    )
    for y in (field, field.chunk({"time": 10, "lat": 2})):
        r = y.gf.corr(field.isel(lat=1, lon=2), dim="time", window=3).compute()
        assert r.dims == ("lat", "lon") and r.coords["lat"].equals(field.coords["lat"])
        assert float(r.sel(lat=1.0, lon=2.0)) == pytest.approx(1)
        r.to_dataset()
