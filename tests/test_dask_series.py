"""Series in chunks of time: correlations of many with many, and digits that large offsets and gaps leave."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lazily import agree, chunkings, computed, field, lazy, never_early  # noqa: F401 (a fixture)

import gridfield as gf

MANY = field(3, 40, 4).cumsum(1) + 1e3
MANY[0, 3, 1], MANY[2, 30:, 0], MANY[2, :, 2] = np.nan, np.nan, 5.0  # gaps, and a constant


@settings(max_examples=6, deadline=None)
@given(chunkings(3, 40, 4), st.sampled_from(["omit", "propagate"]), st.sampled_from([np.float64, np.float32]))
def test_corr_matrix(chunks, policy, dtype):
    """Moments of every chunk about its own means: none is lost where a series is far from 0."""
    a = MANY.astype(dtype)
    mine = gf.corr_matrix(lazy(a, chunks), 1, nan_policy=policy)
    agree(mine, gf.corr_matrix(a, 1, nan_policy=policy), 1e-12 if dtype is np.float64 else 2e-6)


def test_corr_matrix_otherwise():
    a = field(60, 5)
    agree(gf.corr_matrix(lazy(a + 1e8, (7, 2)), 0), gf.corr_matrix(a + 1e8, 0), 1e-12)
    agree(gf.corr_matrix(lazy(a[:, 0], 7)), gf.corr_matrix(a[:, 0]))
    agree(gf.corr_matrix(lazy(np.arange(20).reshape(4, 5), 2)), gf.corr_matrix(np.arange(20).reshape(4, 5)))
    agree(gf.corr_matrix(lazy(a.astype(np.float16), (9, 5)), 0), gf.corr_matrix(a.astype(np.float16), 0), 2e-3)
    a[3, 1] = np.inf
    agree(gf.corr_matrix(lazy(a, (9, 2)), 0), gf.corr_matrix(a, 0))
    xr = pytest.importorskip("xarray")
    t = xr.DataArray(a, {"site": list("abcde")}, ["time", "site"])
    r = t.chunk(time=9).pipe(gf.corr_matrix, dim="time")
    assert r.dims == ("site", "site_2") and r.site_2.values.tolist() == list("abcde")
    agree(r.data, gf.corr_matrix(a, 0))
    with pytest.raises(ValueError, match="nan_policy must be"):
        gf.corr_matrix(lazy(a, 9), nan_policy="nope")


@settings(max_examples=12, deadline=None)
@given(
    chunkings(3, 40, 4), st.sampled_from([np.s_[:], np.s_[:1], np.s_[0], np.s_[0, :, :1]]), st.booleans(),
    st.sampled_from([
        {},
        {"detrend": "linear", "window": 7},
        {"lag": range(-2, 3), "window": 4, "min_periods": 2, "nan_policy": "omit"},
        {"weights": np.random.default_rng(5).random(40), "trim": 3, "nan_policy": "omit"},
        {"detrend": "constant", "lag": -3, "trim": (0, 2)},
    ]),
)  # fmt: skip
def test_corr_with_an_array(chunks, part, lazily, options):
    """Every series with its own, or one of few with all."""
    x = field(3, 40, 4, seed=1).cumsum(1)
    x[1, 5:8, 2] = np.nan
    x = x[part]
    mine = gf.corr(lazy(x, 13) if lazily else x, lazy(MANY, chunks), 1, **options)
    agree(mine, gf.corr(x, MANY, 1, **options), 1e-10)


def test_corr_with_an_array_otherwise():
    x, y = field(2, 3, 40, 4, seed=1), field(40, 4, seed=2)
    agree(gf.corr(lazy(x, (1, 3, 40, 2)), lazy(y, (9, 4)), 0), gf.corr(x, y, 0), 1e-10)
    agree(gf.corr(lazy(x, (1, 3, 40, 2)), lazy(y, (40, 4)), 0), gf.corr(x, y, 0), 1e-10)
    agree(gf.corr(x, lazy(y, (40, 2)), 0), gf.corr(x, y, 0), 1e-10)
    for bad, message in ((lambda: gf.corr(x[:, :, :5], lazy(y, 9), 0), "x has 5 samples"),
                         (lambda: gf.corr(x, lazy(y, 9), 0, lag=99), "lag must be less"),
                         (lambda: gf.corr(x, lazy(y, 9), 0, window=99), "window")):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            bad()


@pytest.mark.parametrize("gaps", ["none", "first", "both ends"])
@pytest.mark.parametrize("offset", [0.0, 1e6])
def test_digits_beside_large_offsets(offset, gaps):
    """Offset 1e6 and trend 1e5, as exact as in memory, against longdouble; with gaps at the ends, too."""
    n = 300
    t, rng = np.arange(n), np.random.default_rng(0)
    z, w = offset * (1 + 0.1 * t[:, None] / n) + rng.normal(size=(n, 5)), rng.normal(size=n)
    if gaps != "none":
        z[0], z[:120, 3] = np.nan, np.nan
    if gaps == "both ends":
        z[-40:] = np.nan
    there, exact, r = ~np.isnan(z), np.full(z.shape, np.nan, np.longdouble), []
    wide = np.longdouble

    def less_line(v, k):
        v, k = v - v.mean(), k - k.mean()
        return v - k * (k @ v) / (k @ k)

    x = less_line(wide(w), wide(t))
    for j in range(5):
        m = there[:, j]
        exact[m, j] = less_line(wide(z[m, j]), wide(t[m]))
        p, q = x[m] - x[m].mean(), exact[m, j] - exact[m, j].mean()
        r.append(p @ q / np.sqrt((p @ p) * (q @ q)))
    late = lazy(z, (37, 2))
    found = computed(gf.detrend(late, 0, nan_policy="omit"))
    np.testing.assert_allclose(found, exact.astype(float), 0, 3e-13)
    corr = computed(gf.corr(w, late, 0, detrend="linear", nan_policy="omit"))
    np.testing.assert_allclose(corr, np.array(r, float), 0, 1e-13)
    both = computed(gf.corr(np.stack([w] * 5, 1), late, 0, detrend="linear", nan_policy="omit"))
    np.testing.assert_allclose(both, np.array(r, float), 0, 1e-13)
    if gaps == "none":
        np.testing.assert_allclose(computed(gf.detrend(late, 0)), exact.astype(float), 0, 3e-13)


def test_series_that_are_not_there():
    y = field(30, 4)
    y[:, 1], y[:29, 2], y[:, 3] = np.nan, np.nan, 7.0
    for policy in ("omit", "propagate"):
        agree(gf.detrend(lazy(y, 7), 0, nan_policy=policy), gf.detrend(y, 0, nan_policy=policy))
        agree(gf.corr(y[:, 0] ** 2, lazy(y, 7), 0, nan_policy=policy), gf.corr(y[:, 0] ** 2, y, 0, nan_policy=policy))
