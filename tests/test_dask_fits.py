"""curve_fit of arrays of dask: every block of fits by itself, nothing computed early, the numbers of NumPy's arrays."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lazily import agree, chunkings, computed, field, lazy, never_early  # noqa: F401 (a fixture)

import gridfield as gf

xr = pytest.importorskip("xarray")
dask = pytest.importorskip("dask")
da = pytest.importorskip("dask.array")

TIME = np.linspace(0, 1, 12)
HEIGHT, TAU = np.random.default_rng(0).uniform(1, 2, (2, 5, 6))
DATA = HEIGHT[:, None] * np.exp(-TIME[:, None] / TAU[:, None]) + 0.01 * field(5, 12, 6)
DATA[2, 3, 4], DATA[4, :, 5] = np.nan, np.nan  # a gap, and a fit that fails
SIGMA = 0.01 * (1 + np.arange(6.0))
MODELS = [
    ("a*exp(-t/tau)", {}),
    ("a*exp(-t/tau)", {"p0": {"a": HEIGHT, "tau": 0.5}, "bounds": {"tau": (0.1, TAU + 0.5)}}),
    ("a*exp(-t/tau)", {"sigma": SIGMA * np.ones((5, 1, 1)), "absolute_sigma": True, "where": DATA > 0.05}),
    ("a*exp(-t/tau)", {"p0": {"a": 1.0, "tau": 0.5}, "fixed": {"a": HEIGHT}, "loss": "huber"}),
    (lambda t, p: p[0] * np.exp(-t / p[1]), {"p0": [1.0, 0.5]}),
    (lambda t, v: v["a"][0] * np.exp(-t / v["a"][1]), {"p0": {"a": np.array([1.0, 0.5])}, "jac": "2-point"}),
]
NAMES = ("popt", "cov", "corr", "status", "success", "dof", "chi2", "reduced_chi2", "r2", "aic", "bic", "residual")


@settings(max_examples=5, deadline=None)
@given(chunkings(5, 6), st.sampled_from(MODELS))
def test_maps_of_fits(chunks, case):
    """Start values, bounds, what is fixed, uncertainties and masks come block by block, too."""
    f, options = case
    mine = gf.curve_fit(f, TIME, lazy(DATA, (chunks[0], 12, chunks[1])), axis=1, **options)
    theirs = gf.curve_fit(f, TIME, DATA, axis=1, **options)
    assert mine.names == theirs.names and "not computed" in repr(mine)
    pairs = {name: (getattr(mine, name), getattr(theirs, name)) for name in NAMES}
    pairs |= {k: (mine.params[k], v) for k, v in theirs.params.items()}
    pairs |= {f"{k}_stderr": (mine.stderr[k], v) for k, v in theirs.stderr.items()}
    pairs["model"] = mine.predict(), theirs.predict()
    pairs["elsewhere"] = mine.predict([0.1, 0.2, 0.3]), theirs.predict([0.1, 0.2, 0.3])
    assert all(isinstance(a, da.Array) and a.shape == np.shape(b) for a, b in pairs.values())
    late = [a for a, _ in pairs.values()]
    *found, message, reason = dask.compute(*late, mine.message, mine.reason, scheduler="synchronous")
    for name, a, lazily, (_, b) in zip(pairs, found, late, pairs.values(), strict=True):
        assert a.dtype == lazily.dtype == b.dtype, name
        np.testing.assert_allclose(a, b, 2e-5, 2e-5, err_msg=name)
    assert message.item() == theirs.message and (reason == theirs.reason).all()
    done = mine.compute(scheduler="synchronous")
    popt, cov = done
    np.testing.assert_array_equal(done[done.names[0].partition("[")[0]], next(iter(done.params.values())))
    assert isinstance(popt, np.ndarray) and cov.shape == (5, 6, 2, 2) and done.message == theirs.message


@pytest.mark.parametrize("lazily", [False, True])
def test_what_goes_along(lazily):
    """Coordinates that differ from fit to fit, of NumPy or dask; vectors as long as a block has fits."""
    times = TIME[:, None] * (1 + 0.1 * np.arange(5))[:, None, None] * np.ones(6)
    as_given = (lambda x: lazy(x, 2)) if lazily else (lambda x: x)
    mine = gf.curve_fit("a*exp(-t/tau)", as_given(times), lazy(DATA, (2, 12, 3)), axis=1)
    agree(mine.popt, gf.curve_fit("a*exp(-t/tau)", times, DATA, axis=1).popt, 1e-5)
    options = {"sigma": SIGMA[:, None][:, :0].sum() + DATA * 0 + 0.1, "p0": {"a": HEIGHT, "tau": 0.5}}
    late = {"sigma": as_given(options["sigma"]), "p0": {"a": as_given(HEIGHT), "tau": 0.5}}
    mine = gf.curve_fit("a*exp(-t/tau)", as_given(TIME), lazy(DATA, (2, 12, 3)), axis=1, **late)
    agree(mine.popt, gf.curve_fit("a*exp(-t/tau)", TIME, DATA, axis=1, **options).popt, 1e-5)
    f = lambda t, v: v["a"][0] + v["a"][1] * t  # noqa: E731
    p0 = {"a": np.array([1.0, 0.5])}
    mine = gf.curve_fit(f, TIME, lazy(DATA[:, :, 0], (2, 12)), axis=1, p0=p0, jac="2-point")
    agree(mine.popt, gf.curve_fit(f, TIME, DATA[:, :, 0], axis=1, p0=p0, jac="2-point").popt, 1e-5)
    stack = np.stack([TIME, TIME**2])
    both = lambda x, a, b: a * x[0] + b * x[1]  # noqa: E731
    mine = gf.curve_fit(both, as_given(stack), lazy(DATA, (2, 12, 3)), axis=1, p0=[1.0, 1.0])
    agree(mine.popt, gf.curve_fit(both, stack, DATA, axis=1, p0=[1.0, 1.0]).popt, 1e-5)


def test_chunks_without_fits():
    """After a selection some chunks may be empty."""
    y = DATA[:, :, 0]
    some = lazy(y, (1, 12))[lazy(np.arange(5) > 2, 1)]
    with dask.config.set(scheduler="synchronous"):
        some.compute_chunk_sizes()
    assert 0 in some.chunks[0]
    agree(gf.curve_fit("a*t + b", TIME, some, axis=1).popt, gf.curve_fit("a*t + b", TIME, y[3:], axis=1).popt)
    assert computed(gf.curve_fit("a*t + b", TIME, lazy(y[:0], (2, 12)), axis=1).popt).shape == (0, 2)
    many = {"a": lazy(np.ones((5, 6)), (5, 1)), "b": 1.0}  # in other chunks than the data
    agree(gf.curve_fit("a*t + b", TIME, lazy(DATA, (1, 12, 6)), axis=1, p0=many).popt,
          gf.curve_fit("a*t + b", TIME, DATA, axis=1).popt, 1e-6)  # fmt: skip


def test_one_fit():
    image = 3.0 * np.arange(8)[:, None] + np.arange(9) + 0.01 * field(8, 9)
    grid = gf.Grid.pixels((8, 9))
    mine, theirs = gf.curve_fit("a*x + b*y + c0", grid, lazy(image, -1)), gf.curve_fit("a*x + b*y + c0", grid, image)
    agree(mine.popt, theirs.popt, 1e-6)
    agree(mine.residual, theirs.residual, 1e-6)
    assert computed(mine.success).item() is True and computed(mine.message).item() == theirs.message
    assert mine.compute(scheduler="synchronous").message == theirs.message
    many = lazy(np.stack([image, 2 * image]), (1, 8, 9))
    whole = gf.Grid((2, 8, 9), ((0, 1), (0, 7), (0, 8)))
    agree(gf.curve_fit("a*x + b*y + c0", grid, many, axis=(1, 2)).popt[1], 2 * theirs.popt, 1e-6)
    agree(gf.curve_fit("a*x + b*y + c0", whole, many, axis=(1, 2)).popt[0], theirs.popt, 1e-6)


def test_labels():
    """Coordinates by name, those of the fits too; units; a Dataset, lazily."""
    labels = {"time": ("time", TIME, {"units": "s"}), "lat": np.arange(5.0), "gain": (("lat", "lon"), HEIGHT)}
    y = xr.DataArray(DATA, labels, ["lat", "time", "lon"], name="z", attrs={"units": "K"})
    for model in ("a*gain*exp(-time/tau)", gf.models.exponential_decay(1, offset=False)):
        theirs = gf.curve_fit(model, None, y, axis="time")
        mine = gf.curve_fit(model, None, y.chunk(lat=2, lon=4), dim="time")
        assert mine.units == theirs.units
        out, there = mine.to_xarray(), theirs.to_xarray()
        assert all(isinstance(v.data, da.Array) for v in out.data_vars.values())
        out = out.compute(scheduler="synchronous")
        assert {k: v.attrs for k, v in out.items()} == {k: v.attrs for k, v in there.items()}
        xr.testing.assert_allclose(out, there, 2e-5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda y: gf.curve_fit("a*t", TIME, y.rechunk(5), axis=1), r"along axis 1.*one fit.*y.rechunk\(\{1: -1\}\)"),
        (lambda y: gf.curve_fit("a*t", TIME, y), r"several chunks along axes 0, 2"),
        (
            lambda y: gf.curve_fit("a*t", None, xr.DataArray(y, dims=list("xty")).chunk(t=3), axis="t"),
            r"along dim 't'.*y.chunk\(\{'t': -1\}\)",
        ),
        (lambda y: gf.curve_fit("a*t", TIME[:3], y, axis=1), "does not broadcast"),
        (lambda y: gf.curve_fit("a*t", TIME, y, axis=1, p0={"b": 1.0}), "p0 has b"),
        (lambda y: gf.curve_fit("a*t", TIME, y, axis=1, p0={"a": lazy(TIME, 5)}), "does not begin with the axes"),
        (lambda y: gf.curve_fit({"a": "a*t"}, TIME, {"a": y}), r"several models.*y.compute\(\)"),
        (lambda y: gf.curve_fit("a*t", TIME, y, axis=7), "out of bounds"),
        (lambda y: gf.curve_fit("a*t", TIME, y[y[:, 0, 0] > 0], axis=1), "size that is not known"),
    ],
)
def test_errors_come_while_the_graph_is_made(call, message):
    with pytest.raises((ValueError, TypeError), match=message):
        call(lazy(DATA, (2, 12, 3)))
