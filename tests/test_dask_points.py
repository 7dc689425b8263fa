"""fit_field, convolve_points and displacements of arrays of dask."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lazily import agree, chunkings, computed, field, lazy, never_early  # noqa: F401 (a fixture)

import gridfield as gf

RNG = np.random.default_rng(0)
X, V, W = RNG.random((200, 2)), RNG.normal(size=(200, 3)), RNG.random(200)
POINTS, VALUES = np.clip(RNG.normal(size=(120, 2)), -3, 3), RNG.normal(size=(2, 120))


def test_fit_field():
    """All points in one task, channels apart; what is asked for cannot come before it."""
    agree(gf.fit_field(lazy(X, (70, 1)), lazy(V, (80, 2)), (8, 9)), gf.fit_field(X, V, (8, 9)))
    grid = gf.Grid((6, 5))
    options = {"roughness": "gcv", "kernel": "quadratic"}
    mine = gf.fit_field(X, lazy(V, (80, 2)), grid, weights=lazy(W, 50), **options)
    agree(mine, gf.fit_field(X, V, grid, weights=W, **options))
    agree(
        gf.fit_field(lazy(X, 90), V[:, 0].astype(np.float32), grid), gf.fit_field(X, V[:, 0].astype(np.float32), grid)
    )
    for bad, message in ((lambda: gf.fit_field(lazy(X, 9), V, (8, 9), full_output=True), "full_output"),
                         (lambda: gf.fit_field(lazy(X, 9), V[:9], (8, 9)), "values has shape"),
                         (lambda: gf.fit_field(lazy(X, 9), V, (8, 9), roughness=-1), "roughness must be"),
                         (lambda: gf.fit_field(lazy(X, 9), V, (8, 9), weights=W[:9]), "weights has shape"),
                         (lambda: gf.fit_field(lazy(X, 9), V, (8, 9, 3)), "3 axes")):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            bad()


@settings(max_examples=8, deadline=None)
@given(
    chunkings(2, 120), st.sampled_from(["points", "array", "grid"]), st.booleans(),
    st.sampled_from([
        {"kernel": "gaussian", "length": 0.5, "period": None, "extent": 3.0},
        {"kernel": lambda q: np.exp(-q), "period": 9.0, "shape": (64, 60)},
        {"fourier_kernel": RNG.normal(size=(8, 6))},
    ]),
)  # fmt: skip
def test_convolve_points(chunks, places, lazily, options):
    """Modes add up over chunks of points; places go chunk by chunk."""
    at = {"points": None, "array": POINTS[:37] * 0.9, "grid": gf.Grid((4, 5), ((-1, 1), (-1, 1)))}[places]
    theirs = gf.convolve_points(POINTS, VALUES, at=at, **options)
    late = lazy(at, (10, 2)) if places == "array" and lazily else at
    agree(gf.convolve_points(lazy(POINTS, (50, 1)), lazy(VALUES, chunks), at=late, **options), theirs, 2e-4)


def test_convolve_points_refuses():
    late, how = lazy(POINTS, 50), {"kernel": "gaussian", "length": 1.0}
    for bad, message in ((lambda: gf.convolve_points(late, VALUES, **how, period=None), "extent is needed.*early"),
                         (lambda: gf.convolve_points(late, VALUES[:, :5], **how), "must end in the number of points"),
                         (lambda: gf.convolve_points(late, VALUES), "give one of kernel and fourier_kernel"),
                         (lambda: gf.to_grid(late, VALUES[0]), "lattice.*known only once all points")):  # fmt: skip
        with pytest.raises((ValueError, TypeError), match=message):
            bad()
    with pytest.raises(ValueError, match=r"points reach to .* beyond extent = 1"):
        computed(gf.convolve_points(late, VALUES, **how, period=None, extent=1.0))


def test_labels():
    xr = pytest.importorskip("xarray")
    x = xr.DataArray(X, {"obs": np.arange(200)}, ["obs", "axis"])
    v = xr.DataArray(V, dims=["obs", "band"], attrs={"units": "K"}).chunk(obs=70, band=2)
    fitted = gf.fit_field(x, v, gf.Grid((8, 9)))
    assert fitted.dims == ("band", "x0", "x1") and fitted.attrs == {"units": "K"}
    agree(fitted.data, gf.fit_field(X, V, gf.Grid((8, 9))))
    smooth = gf.convolve_points(x, v.transpose(), "gaussian", length=0.5)
    assert smooth.dims == ("band", "obs")
    agree(smooth.data, gf.convolve_points(X, np.ascontiguousarray(V.T), "gaussian", length=0.5), 1e-4)


# ---- displacements
SHAPE = (70, 80)
DENSE = gf.displacement_field(gf.random_displacement(4, 3.0, shape=SHAPE, rng=0, fold_free=True), SHAPE)


@settings(max_examples=5, deadline=None)
@given(chunkings(2, *SHAPE))
def test_dense_displacements(chunks):
    """The filter of the spline reaches as far as the rounding of the type."""
    agree(gf.displacement_field(lazy(DENSE, chunks), SHAPE), DENSE)
    options = {"spacing": (1.0, 2.0)}
    mine = gf.jacobian_determinant(lazy(DENSE, chunks), SHAPE, **options)
    agree(mine, gf.jacobian_determinant(DENSE, SHAPE, **options), 1e-13)


def test_displacements_of_a_batch():
    u = np.stack([gf.random_displacement(4, 2.0, shape=SHAPE, rng=i, fold_free=True) for i in range(3)])
    late = lazy(u, (2, 1, 4, 4))
    agree(gf.displacement_field(late, SHAPE), gf.displacement_field(u, SHAPE))
    agree(gf.jacobian_determinant(late, SHAPE, factor=2), gf.jacobian_determinant(u, SHAPE, factor=2), 1e-12)
    (v, residual), (there, _) = gf.invert_displacement(late, SHAPE), gf.invert_displacement(u, SHAPE)
    agree(v, there, 1e-3)
    assert computed(residual) < 1e-3
    agree(gf.jacobian_determinant(lazy(u[0].astype(np.float32), -1), SHAPE),
          gf.jacobian_determinant(u[0].astype(np.float32), SHAPE), 1e-5)  # fmt: skip
    cut = lazy(DENSE, (2, 40, 80))
    for bad, message in ((lambda: gf.invert_displacement(cut, SHAPE), "axis 1.*how far its inverse reaches"),
                         (lambda: gf.jacobian_determinant(cut, SHAPE, factor=2), "finer lattice"),
                         (lambda: gf.displacement_field(lazy(u, 2), SHAPE), "axes 2, 3.*all control points"),
                         (lambda: gf.displacement_field(late, (70,)), "displacement has shape")):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            bad()
    xr = pytest.importorskip("xarray")
    named = xr.DataArray(DENSE, dims=["component", "y", "x"])
    assert gf.jacobian_determinant(named.chunk(y=40), SHAPE).dims == ("y", "x")
    with pytest.raises(ValueError, match=r"dim 'y'.*displacement.chunk\(\{'y': -1\}\)"):
        gf.invert_displacement(named.chunk(y=40), SHAPE)
