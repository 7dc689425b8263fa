"""Labelled arrays of dask beside those in memory: the same dims, coordinates, attributes and names, nothing early."""

import numpy as np
import pytest
from lazily import computed, field, never_early  # noqa: F401 (a fixture)

import gridfield as gf

xr = pytest.importorskip("xarray")
da = pytest.importorskip("dask.array")
pytest.importorskip("gridfield.xarray")

LABELS = {"lat": np.arange(9.0)[::-1], "lon": np.arange(10.0), "land": (("lat", "lon"), field(9, 10, seed=1) > 0)}
T = xr.DataArray(field(12, 9, 10), LABELS, ["time", "lat", "lon"], attrs={"units": "K"})  # without a name
PLACES = xr.Dataset(
    {"lat": ("obs", np.linspace(0, 8, 30) ** 2 / 8), "lon": ("obs", np.linspace(9, 0, 30))}, {"obs": np.arange(30)}
)
SEEN = xr.DataArray(field(30, seed=2), {"obs": PLACES.obs}, ["obs"], attrs={"units": "psu"})
CELLS, DIMS = gf.Grid.cells((4, 5), ((0, 8), (0, 9))), ["lat", "lon"]
U = gf.random_displacement(3, 0.5, shape=(9, 10), rng=0)
CALLS = {
    "corr": lambda t, p, v: t.gf.corr(T[:, 3, 2], dim="time", lag=range(-1, 2)),
    "corr_matrix": lambda t, p, v: t[:, 0].gf.corr_matrix(dim="time"),
    "detrend": lambda t, p, v: t.gf.detrend(dim="time"),
    "rolling_mean": lambda t, p, v: t.gf.rolling_mean(3, dim="time"),
    "smooth": lambda t, p, v: t.gf.smooth("ball", 1.0, dim=DIMS),
    "pad": lambda t, p, v: t.gf.pad(2, dim=DIMS, boundary="mirror"),
    "histogram": lambda t, p, v: t.gf.histogram(9, (-3, 3), dim="time")[0],
    "sample": lambda t, p, v: t.gf.sample(p),
    "refine": lambda t, p, v: t.gf.refine(2, DIMS),
    "deform": lambda t, p, v: t.gf.deform(U, dim=DIMS),
    "splat": lambda t, p, v: v.gf.splat(p, gf.Grid((9, 10), ((0, 8), (0, 9)))),
    "binned_statistic": lambda t, p, v: v.gf.binned_statistic(p, CELLS, "mean"),
    "grid_and_smooth": lambda t, p, v: v.gf.grid_and_smooth(p, "ball", 3.0, grid=CELLS)[0],
    "fit_field": lambda t, p, v: v.gf.fit_field(p, CELLS, roughness=0.1),
    "lookup": lambda t, p, v: gf.lookup(p, T.land.astype(int)),
    "bin_index": lambda t, p, v: gf.bin_index(p, CELLS),
    "cdist": lambda t, p, v: gf.cdist(p, squared=True),
    "nufft1": lambda t, p, v: v.gf.nufft1(p / 9, (6, 5)),
    "convolve_points": lambda t, p, v: v.gf.convolve_points(p / 9, kernel="gaussian", length=0.3),
    "product": lambda t, p, v: gf.pairwise(p, function="gaussian") @ v,
    "jacobian_determinant": lambda t, p, v: gf.jacobian_determinant(t[:2], (9, 10)),
}


@pytest.mark.parametrize("name", CALLS)
def test_as_in_memory(name):
    there = CALLS[name](T, PLACES, SEEN)
    mine = CALLS[name](T.chunk(time=5, lat=4, lon=7), PLACES.chunk(obs=13), SEEN.chunk(obs=11))
    assert isinstance(mine.data, da.Array) and isinstance(there.data, np.ndarray)
    assert mine.name == there.name and mine.dims == there.dims and mine.attrs == there.attrs
    assert set(mine.coords) == set(there.coords) and mine.dtype == there.dtype
    for k, c in there.coords.items():
        assert computed(mine.coords[k].variable.data).tolist() == c.values.tolist(), k
    np.testing.assert_allclose(computed(mine.data), there, 1e-5, 1e-5)


def test_distances_of_labelled_points():
    """Points as a Dataset of coordinates, beside themselves or others; in the units of the points."""
    x = np.stack([PLACES.lat, PLACES.lon], -1)
    out = gf.cdist(PLACES, PLACES[["lat", "lon"]].isel(obs=slice(4)).rename(obs="port"))
    assert out.dims == ("obs", "port") and {"obs", "port"} <= set(out.coords) and out.attrs == {}
    np.testing.assert_array_equal(out, gf.cdist(x, x[:4]))
    assert gf.cdist(PLACES, PLACES).dims == gf.cdist(PLACES).dims == ("obs", "obs_2")
    km = xr.DataArray(x, dims=["obs", "axis"], attrs={"units": "km"})
    assert gf.cdist(km).attrs == {"units": "km"} and gf.cdist(km, squared=True).attrs == {"units": "(km)^2"}
    assert gf.cdist(km, cov=[1.0, 2.0]).attrs == {} and gf.cdist(km, km.assign_attrs(units="m")).attrs == {}
