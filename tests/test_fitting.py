"""Fitting fields to data: against SciPy's splines, dense least squares, and the gradient of what is minimised."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tensorflow as tf
import torch
from numpy.testing import assert_allclose, assert_array_equal
from scipy.interpolate import make_lsq_spline, make_smoothing_spline

import gridfield as gf
import gridfield.jax
import gridfield.tensorflow
from gridfield import normal, solvers
from gridfield.torch import SplineField

CASES = (  # shape, kernel, boundary
    (7, "cubic", "natural"),
    ((6, 5), ("cubic", "quadratic"), ["natural", "wrap"]),
    ((4, 5, 3), "cubic", ["mirror", "reflect", "nearest"]),
    ((3, 1, 4), ("quintic", "cubic", "linear"), "natural"),
    ((4, 3, 2, 5), "linear", ["natural", "mirror", "wrap", "natural"]),
    ((9, 8), "catmull_rom", ["constant", "grid-constant"]),
    ((2, 3), "quintic", "natural"),  # smaller than the kernel
    ((5, 7), 7, ["wrap", "reflect"]),
)


def data(shape, n=400, channels=(), seed=0, margin=0.2, boundary=""):
    rng = np.random.default_rng(seed)
    ndim = len(np.atleast_1d(shape))
    margin = 0.0 if "constant" in boundary else margin
    points = rng.uniform(-margin, 1 + margin, (n, ndim))
    return points, rng.standard_normal((n, *channels)), rng.uniform(0.2, 3, n)


def design(points, shape, kernel, boundary, bounds=None):
    """(points, coefficients), dense."""
    grid = gf.Grid(shape, bounds)
    unit = np.eye(grid.size).reshape(grid.size, *grid.shape)
    return gf.sample(unit, points, grid=grid, kernel=kernel, boundary=boundary, prefilter=False)


# ---- the solution ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("shape", "kernel", "boundary", "solver"),
    # by conjugate gradients, four kernels to compile each, every second case; the others are marked slow
    [pytest.param(*case, solver, marks=pytest.mark.slow if solver == "cg" and k % 2 else ())
     for k, case in enumerate(CASES) for solver in ("direct", "cg")],
    ids=str,
)  # fmt: skip
def test_weighted_least_squares(shape, kernel, boundary, solver):
    points, values, weights = data(shape, channels=(3,), boundary=boundary)
    fitted = gf.fit_field(points, values, shape, weights=weights, kernel=kernel, bounds=(0, 1), boundary=boundary,
                          solver=solver)  # fmt: skip
    root = np.sqrt(weights)[:, None]
    dense = np.linalg.lstsq(root * design(points, shape, kernel, boundary), root * values, rcond=None)[0]
    assert fitted.shape == (3, *np.atleast_1d(shape))
    assert_allclose(fitted.reshape(3, -1).T, dense, rtol=0, atol=1e-8 * max(1, np.abs(dense).max()))


@pytest.mark.parametrize("degree", range(1, 6))
def test_like_make_lsq_spline(degree):
    """One control point more on either side than knots, so that natural ends do not restrict the spline."""
    rng = np.random.default_rng(0)
    x = np.sort(rng.uniform(0, 10, 200))
    y, w = np.sin(x) + 0.1 * rng.standard_normal(200), rng.uniform(0.5, 2, 200)
    theirs = make_lsq_spline(x, y, np.r_[[0.0] * degree, np.arange(11.0), [10.0] * degree], k=degree, w=np.sqrt(w))
    grid = gf.Grid.from_spacing(10 + degree, -(degree - 1) / 2, 1.0)
    c = gf.fit_field(x[:, None], y, grid, weights=w, kernel=degree)
    at = rng.uniform(0, 10, 500)
    ours = gf.sample(c, at[:, None], grid=grid, kernel=degree, boundary="natural", prefilter=False)
    assert_allclose(ours, theirs(at), rtol=0, atol=1e-9)


@pytest.mark.parametrize("roughness", (1e-4, 1e-2, 1.0, 100.0))
def test_like_a_natural_smoothing_spline(roughness):
    """Knots at all data and natural ends: what scipy.interpolate.make_smoothing_spline finds."""
    rng = np.random.default_rng(1)
    x = np.linspace(-1, 3, 40)
    y, w = np.cos(2 * x) + 0.2 * rng.standard_normal(40), rng.uniform(0.5, 2, 40)
    theirs = make_smoothing_spline(x, y, w, lam=roughness)
    field = SplineField.fit(x[:, None], y, 40, weights=w, bounds=(-1, 3), roughness=roughness)
    at = rng.uniform(-1, 3, 300)
    assert_allclose(field(torch.from_numpy(at[:, None])).detach()[:, 0], theirs(at), rtol=0, atol=1e-9)


@pytest.mark.parametrize("solver", ("direct", "cg"))
@pytest.mark.parametrize(
    ("shape", "kernel", "boundary", "order"),
    # of the largest the second order only, the others are marked slow
    [pytest.param(*case, order, marks=pytest.mark.slow if len(np.atleast_1d(case[0])) == 4 and order != 2 else ())
     for case in ((8, "cubic", "natural"), ((6, 7), "cubic", ["natural", "wrap"]), ((4, 1, 5), "quintic", "mirror"),
                  ((3, 4, 3, 4), "cubic", "natural")) for order in (1, 2, 3)],
    ids=str,
)  # fmt: skip
def test_the_gradient_is_zero(shape, kernel, boundary, order, solver):
    """Of what a fit minimises, by autograd; the penalty is that of `roughness`."""
    points, values, weights = data(shape, channels=(2,))
    how = {"kernel": kernel, "bounds": (0, 1), "boundary": boundary}
    field = SplineField.fit(points, values, shape, weights=weights, roughness=0.01, order=order, solver=solver, **how)
    residual = field(torch.from_numpy(points)) - torch.from_numpy(values)
    loss = (torch.from_numpy(weights)[:, None] * residual**2).sum() + 0.01 * field.roughness(order)
    (gradient,) = torch.autograd.grad(loss, field.coefficients)
    assert gradient.abs().max() < 1e-6 * loss


def test_reproduces_a_field_in_four_dimensions_with_channels():
    torch.manual_seed(0)
    truth = SplineField((5, 4, 3, 6), 2, dtype=torch.float64, boundary=["natural", "mirror", "natural", "wrap"])
    torch.nn.init.normal_(truth.coefficients)
    points = torch.rand(6000, 4, dtype=torch.float64)
    field = SplineField.fit(points, truth(points), truth.grid, boundary=truth.boundary)
    assert_allclose(field.coefficients.detach(), truth.coefficients.detach(), rtol=0, atol=1e-6)
    assert field.kernel == truth.kernel and field.boundary == truth.boundary and field.grid == truth.grid
    assert field.coefficients.requires_grad and field.coefficients.grad_fn is None
    assert_allclose(field.fit_info.residual, 0, atol=1e-9)


def test_periodic():
    """The data of an angle, which need not stop at the seam."""
    angle = np.random.default_rng(0).uniform(-20, 20, (500, 1))
    field = SplineField.fit(angle, np.cos(angle[:, 0]), 12, bounds=(0, 2 * np.pi), periodic=True)
    assert field.boundary == ("wrap",) and field.grid.periodic == (True,)
    at = torch.linspace(-9, 9, 50, dtype=torch.float64)[:, None]
    assert_allclose(field(at).detach(), torch.cos(at), atol=2e-3)
    through = SplineField.from_function(
        lambda x: torch.cos(x[..., 0]), 12, bounds=(0, 2 * np.pi), periodic=True, dtype=torch.float64
    )
    assert_allclose(through(at).detach(), torch.cos(at), atol=2e-3)
    data = torch.cos(torch.arange(12, dtype=torch.float64) * (2 * np.pi / 12))[None]
    again = SplineField.interpolate(data, bounds=(0, 2 * np.pi), periodic=True)
    assert_allclose(again.coefficients.detach(), through.coefficients.detach(), atol=1e-12)
    turns = gf.fit_field(angle / (2 * np.pi), np.cos(angle[:, 0]), 12, periodic=True)  # default bounds have no outside
    assert_allclose(turns, field.coefficients.detach()[0], atol=1e-9)
    c = gf.fit_field(angle, np.cos(angle[:, 0]), 12, bounds=(0, 2 * np.pi), periodic=True)
    assert_allclose(c, field.coefficients.detach()[0], atol=1e-12)


# ---- what the data leave open ----------------------------------------------------------------------------------------
@pytest.mark.parametrize("solver", ("direct", "cg"))
@pytest.mark.parametrize("n", (1, 2, 5, 20))
def test_fewer_data_than_unknowns(n, solver):
    """The interpolant of least norm."""
    points, values, _ = data((6, 6), n=n)
    c, info = gf.fit_field(points, values, (6, 6), bounds=(0, 1), solver=solver, full_output=True)
    dense = np.linalg.pinv(design(points, (6, 6), "cubic", "natural")) @ values
    assert_allclose(c.ravel(), dense, rtol=0, atol=1e-6 * np.abs(dense).max())
    assert "coefficients" in info.warning
    if solver == "direct":
        different = len(np.unique(np.clip(points, 0, 1), axis=0))  # beyond the ends they are held there
        assert info.effective_dof == pytest.approx(different, rel=1e-6)


@pytest.mark.filterwarnings("ignore:.*conjugate gradients ended:RuntimeWarning")  # singular, at any roughness
@pytest.mark.parametrize("roughness", (0.0, 0.1, "gcv"))
@pytest.mark.parametrize("solver", ("direct", "cg"))
def test_all_data_at_one_point(solver, roughness):
    points = np.full((50, 2), 0.4)
    values = np.linspace(0, 2, 50)
    c, info = gf.fit_field(points, values, (5, 6), solver=solver, roughness=roughness, full_output=True)
    assert np.isfinite(c).all() and np.isfinite(info.effective_dof)
    at = gf.sample(c, points[:1], grid=gf.Grid((5, 6)), boundary="natural", prefilter=False)
    assert_allclose(at, 1, atol=1e-5)


def test_gaps_are_defined():
    """By nothing (zero), by coarser lattices, by the roughness; and the field at the data is the same."""
    rng = np.random.default_rng(0)
    points = rng.uniform(0, 1, (4000, 2))
    points = points[(np.abs(points - 0.5) > 0.25).any(-1)]
    values = 3 + points[:, 0]
    middle = np.array([[0.5, 0.5]])
    how = {"grid": gf.Grid((20, 20)), "boundary": "natural", "prefilter": False}
    c, info = gf.fit_field(points, values, (20, 20), full_output=True)
    assert "have no data near them and are defined by zero" in info.warning
    assert abs(gf.sample(c, middle, **how)[0]) < 1e-6
    assert_allclose(gf.sample(c, points, **how), values, atol=1e-7)
    for solver in ("direct", "cg"):
        filled, info = gf.fit_field(points, values, (20, 20), levels=4, solver=solver, full_output=True)
        assert "coarser levels" in info.warning
        assert gf.sample(filled, middle, **how)[0] == pytest.approx(3.5, abs=0.05)
        smooth, info = gf.fit_field(points, values, (20, 20), roughness=1e-6, solver=solver, full_output=True)
        assert "the roughness" in info.warning
        assert gf.sample(smooth, middle, **how)[0] == pytest.approx(3.5, abs=1e-4)  # a plane has none


@pytest.mark.parametrize("solver", ("direct", "cg"))
def test_levels_do_not_change_what_is_unique(solver):
    points, values, _ = data((17, 12), n=3000)
    for roughness in (0.0, 0.01):
        one, many = (
            gf.fit_field(points, values, (17, 12), bounds=(0, 1), roughness=roughness, levels=levels, solver=solver)
            for levels in (1, 3)
        )
        assert_allclose(many, one, rtol=0, atol=1e-7)
    wrapped = {"boundary": ["wrap", "natural"], "bounds": (0, 1)}
    one, many = (gf.fit_field(points, values, (17, 12), levels=k, solver=solver, **wrapped) for k in (1, 9))
    assert_allclose(many, one, rtol=0, atol=1e-7)


# ---- missing data and weights ----------------------------------------------------------------------------------------
@pytest.mark.parametrize("solver", ("direct", "cg"))
def test_what_is_left_out(solver):
    """NaN per channel, NaN points, weights of zero (even of infinite values): as if they had not been given."""
    points, values, weights = data((5, 4), n=500, channels=(3,))
    how = {"bounds": (0, 1), "solver": solver, "roughness": 1e-3}
    values[::7, 1] = np.nan
    values[:, 2] = np.nan
    points[3, 1] = np.nan
    weights[5] = 0
    values[5, 0] = np.inf
    c, info = gf.fit_field(points, values, (5, 4), weights=weights, full_output=True, **how)
    for channel in (0, 1):
        good = np.isfinite(values[:, channel]) & (weights > 0) & np.isfinite(points).all(-1)
        alone = gf.fit_field(points[good], values[good, channel], (5, 4), weights=weights[good], **how)
        assert_allclose(c[channel], alone, rtol=0, atol=1e-9)
    assert_array_equal(c[2], 0)
    assert np.isnan(info.residual[2]) and np.isfinite(info.residual[:2]).all()
    assert info.points == 498 and "1 channels have no data" in info.warning


def test_weights_per_value_and_counts():
    points, values, weights = data((5, 4), n=300, channels=(2,))
    each = np.stack([weights, weights[::-1]], -1)
    together = gf.fit_field(points, values, (5, 4), weights=each, bounds=(0, 1))
    for c in (0, 1):
        alone = gf.fit_field(points, values[:, c], (5, 4), weights=each[:, c], bounds=(0, 1))
        assert_allclose(together[c], alone, atol=1e-10)
    twice = gf.fit_field(np.repeat(points, 2, 0), np.repeat(values, 2, 0), (5, 4), bounds=(0, 1))
    assert_allclose(gf.fit_field(points, values, (5, 4), weights=np.full(300, 2.0), bounds=(0, 1)), twice, atol=1e-10)
    # weights over many orders of magnitude
    wild = 10.0 ** np.random.default_rng(0).uniform(-8, 8, 300)
    c = gf.fit_field(points, values[:, 0], (5, 4), weights=wild, bounds=(0, 1))
    root = np.sqrt(wild)[:, None]
    dense = np.linalg.lstsq(root * design(points, (5, 4), "cubic", "natural"), root[:, 0] * values[:, 0], rcond=None)[0]
    assert_allclose(c.ravel(), dense, rtol=0, atol=1e-5 * np.abs(dense).max())


# ---- much roughness, uneven weights ----------------------------------------------------------------------------------
@pytest.mark.parametrize("solver", ("direct", "cg"))
@pytest.mark.parametrize("order", (1, 2, 3))
@pytest.mark.parametrize("roughness", (1.0, 1e6, 1e15))
@pytest.mark.parametrize(("shape", "bounds"), ((10, (0, 1)), (400, (0, 1)), (12, (0, 1e-4)), ((20, 18), (0, 1e3))))
def test_much_roughness_is_polynomial_regression(shape, bounds, roughness, order, solver):
    """What has no roughness stays, in any unit: here constants, or planes, which natural ends allow."""
    if solver == "cg" and shape == 400:
        pytest.skip("a long axis by iteration")
    rng = np.random.default_rng(0)
    ndim = np.size(shape)
    points = rng.uniform(*bounds, (300, ndim))
    u = (points - bounds[0]) / (bounds[1] - bounds[0])
    values = (2.0 if order == 1 else 2 + 3 * u[:, 0] - u[:, -1]) * np.ones(300)
    field = SplineField.fit(points, values, shape, bounds=bounds, roughness=roughness, order=order, solver=solver)
    assert_allclose(field(torch.from_numpy(points)).detach()[:, 0], values, rtol=0, atol=1e-6)
    info = field.fit_info
    assert "do not determine" not in info.warning
    least = 1 if order == 1 else 1 + ndim
    assert least - 1e-9 <= info.effective_dof <= np.prod(shape)


def test_the_limit_of_much_roughness():
    """From the smoothing spline to the line of least squares."""
    rng = np.random.default_rng(1)
    x = np.linspace(0, 1, 50)
    y = np.sin(4 * x) + 0.1 * rng.standard_normal(50)
    line = np.polyval(np.polyfit(x, y, 1), x)
    for roughness in (1e6, 1e12, 1e18):
        field = SplineField.fit(x[:, None], y, 300, roughness=roughness)
        assert_allclose(field(torch.from_numpy(x[:, None])).detach()[:, 0], line, atol=1e-4)
        assert field.fit_info.effective_dof == pytest.approx(2, abs=1e-2)


@pytest.mark.parametrize(("solver", "ratio"), (("auto", 1e4), ("auto", 1e8), ("auto", 1e12), ("cg", 1e4), ("cg", 1e8)))
def test_uneven_weights(solver, ratio):
    """Heavy weights do not hide from the solver what the light ones say."""
    rng = np.random.default_rng(0)
    points = rng.random((2000, 2))
    values = np.sin(6 * points[:, 0]) + points[:, 1] + 0.1 * rng.standard_normal(2000)
    weights = np.where(np.arange(2000) < 20, ratio, 1.0)
    c, info = gf.fit_field(points, values, (8, 8), weights=weights, solver=solver, full_output=True)
    root = np.sqrt(weights)[:, None]
    dense = np.linalg.lstsq(root * design(points, (8, 8), "cubic", "natural"), root[:, 0] * values, rcond=None)[0]
    assert_allclose(c.ravel(), dense, rtol=0, atol=1e-3)
    assert info.effective_dof == 64 and "determine" not in info.warning


@pytest.mark.parametrize("scale", (1e-300, 1e-10, 1e300))
def test_weights_and_values_of_any_size(scale):
    points, values, weights = data((5, 4))
    want, info = gf.fit_field(points, values, (5, 4), weights=weights, bounds=(0, 1), full_output=True)
    c, scaled = gf.fit_field(points, values, (5, 4), weights=weights * scale, bounds=(0, 1), full_output=True)
    assert_allclose(c, want, rtol=1e-10, atol=1e-12)
    assert_allclose(scaled.residual, info.residual)
    small = gf.fit_field(points, values * 1e-200, (5, 4), weights=weights, bounds=(0, 1))
    assert_allclose(small * 1e200, want, rtol=1e-9, atol=1e-12)


def test_cross_validation_of_few_places():
    """No more degrees of freedom than places; nothing to choose where nothing is rough."""
    for n, ndim in ((10, 1), (10, 2)):
        points = np.full((50, ndim), 0.3)
        values = np.random.default_rng(0).standard_normal(50)
        info = SplineField.fit(points, values, (n,) * ndim, roughness="gcv").fit_info
        assert info.effective_dof <= 1 + 1e-9
    for shape in (1, (1, 1)):
        with pytest.raises(ValueError, match=r"roughness 'gcv' has nothing to choose"):
            SplineField.fit(np.full((5, np.size(shape)), 0.3), np.ones(5), shape, roughness="gcv")


def test_the_last_control_point_in_float32():
    """A rounding beyond the end of boundary "constant": it counts where the field counts it."""
    points = np.linspace(0, 0.1, 11, dtype=np.float32)[:, None]
    assert points.astype(float).max() > 0.1
    c, info = gf.fit_field(points, np.ones(11, np.float32), 11, bounds=(0, 0.1), boundary="constant", full_output=True)
    assert info.points == 11
    at = gf.sample(c, points, grid=gf.Grid(11, (0, 0.1)), boundary="constant", prefilter=False)
    assert_allclose(at, 1, atol=1e-5)


# ---- what comes with it ----------------------------------------------------------------------------------------------
def test_residual_and_degrees_of_freedom():
    points, values, weights = data((8, 7), n=300, channels=(2,))
    field = SplineField.fit(points, values, (8, 7), weights=weights, bounds=(0, 1), roughness=0.05)
    info = field.fit_info
    residual = values - field(torch.from_numpy(points)).detach().numpy()
    rms = np.sqrt((weights[:, None] * residual**2).sum(0) / weights.sum())
    assert_allclose(info.residual, rms, rtol=1e-9)
    b = design(points, (8, 7), "cubic", "natural")
    a = b.T @ (weights[:, None] * b)
    unit = SplineField((8, 7), 56, dtype=torch.float64)
    with torch.no_grad():
        unit.coefficients.copy_(torch.eye(56).reshape(56, 8, 7))
    penalty = np.array([
        unit._with(unit.spline, unit.coefficients[i : i + 1]).roughness(2).item() for i in range(56)
    ])  # fmt: skip
    p = normal.Normal(field.spline, points, weights, 2).penalty_matrix.toarray()
    assert_allclose(np.diag(p), penalty, rtol=1e-9)
    assert info.effective_dof == pytest.approx(np.trace(np.linalg.solve(a + 0.05 * p, a)), rel=1e-8)
    assert info.points == 300 and info.roughness == 0.05 and info.warning == "" and info.gcv is None
    assert info.condition == pytest.approx(np.linalg.cond(a + 0.05 * p), rel=0.3)


def test_degrees_of_freedom_of_many_coefficients(monkeypatch):
    """Estimated with random vectors, and as the trace says to a few per cent."""
    points, values, _ = data((16, 16), n=3000)
    how = {"bounds": (0, 1), "roughness": 1e-2, "full_output": True}
    _, exact = gf.fit_field(points, values, (16, 16), **how)
    monkeypatch.setattr(solvers, "SMALL", 100)
    for solver in ("direct", "cg"):
        _, about = gf.fit_field(points, values, (16, 16), solver=solver, **how)
        assert about.effective_dof == pytest.approx(exact.effective_dof, rel=0.2)
        assert about.effective_dof != exact.effective_dof


def test_generalised_cross_validation(monkeypatch):
    """The roughness that SciPy chooses for a natural smoothing spline; direct and iterated alike."""
    rng = np.random.default_rng(3)
    x = np.linspace(0, 4, 60)
    y = np.sin(3 * x) + 0.3 * rng.standard_normal(60)
    theirs = make_smoothing_spline(x, y)
    field = SplineField.fit(x[:, None], y, 60, bounds=(0, 4), roughness="gcv")
    assert_allclose(field(torch.from_numpy(x[:, None])).detach()[:, 0], theirs(x), atol=1e-4)
    info = field.fit_info
    assert info.gcv == pytest.approx(60 * 60 * info.residual[0] ** 2 / (60 - info.effective_dof) ** 2)
    for factor in (0.5, 2):  # it is a minimum
        _, other = gf.fit_field(x[:, None], y, 60, bounds=(0, 4), roughness=factor * info.roughness, full_output=True)
        assert 3600 * other.residual[0] ** 2 / (60 - other.effective_dof) ** 2 > info.gcv
    monkeypatch.setattr(solvers, "SMALL", 10)
    for solver in ("direct", "cg"):
        _, about = gf.fit_field(x[:, None], y, 60, bounds=(0, 4), roughness="gcv", solver=solver, full_output=True)
        assert 0.1 < about.roughness / info.roughness < 10


def test_cross_validation_of_exact_data():
    """Nothing to smooth: the roughness becomes small, and the fit is the data."""
    x = np.linspace(0, 1, 200)[:, None]
    c, info = gf.fit_field(x, np.sin(9 * x[:, 0]), 30, roughness="gcv", full_output=True)
    assert info.residual[0] < 3e-4 and np.isfinite(info.gcv)
    c, info = gf.fit_field(x[:20], np.sin(9 * x[:20, 0]), 30, roughness="gcv", full_output=True)  # fewer than unknowns
    assert np.isfinite(c).all()


def test_not_converged_is_said(monkeypatch):
    points, values, _ = data((12, 12), n=60)
    monkeypatch.setattr(
        solvers.conjugate_gradients, "__defaults__", (None, 1e-10, 3, 500, 1.0, None, lambda residual: None)
    )
    with pytest.warns(RuntimeWarning, match=r"gf\.fit_field: conjugate gradients ended after 3 iterations"):
        _, info = gf.fit_field(points, values, (12, 12), bounds=(0, 1), solver="cg", roughness=1e-6, full_output=True)
    assert "ended after 3 iterations" in info.warning


def test_progress(capsys):
    points, values, _ = data((8, 8))
    quiet = gf.fit_field(points, values, (8, 8), bounds=(0, 1), solver="cg")
    assert capsys.readouterr().err == ""
    assert_array_equal(gf.fit_field(points, values, (8, 8), bounds=(0, 1), solver="cg", progress=True), quiet)
    assert "iterations" in capsys.readouterr().err


# ---- frameworks and types --------------------------------------------------------------------------------------------
MAKERS = {"torch": torch.tensor, "jax": jnp.asarray, "tensorflow": tf.constant}
CLASSES = {"torch": SplineField, "jax": gridfield.jax.SplineField, "tensorflow": gridfield.tensorflow.SplineField}


@pytest.mark.parametrize("framework", MAKERS)
def test_every_framework(framework):
    make, cls = MAKERS[framework], CLASSES[framework]
    points, values, weights = (a.astype(np.float32) for a in data((6, 5), channels=(2,)))
    want = gf.fit_field(points, values, (6, 5), weights=weights, bounds=(0, 1))
    assert want.dtype == np.float32
    got = gf.fit_field(make(points), make(values), (6, 5), weights=make(weights), bounds=(0, 1))
    assert type(got).__module__.startswith(("torch", "jax", "tensorflow")) and np.asarray(got).dtype == np.float32
    assert_array_equal(np.asarray(got), want)
    field = cls.fit(make(points), make(values), (6, 5), weights=make(weights), bounds=(0, 1))
    assert type(field) is cls and field.channels == 2 and field.fit_info.effective_dof == 30
    assert_array_equal(np.asarray(field.refine(1)._array().detach() if framework == "torch" else field._array()), want)
    one = cls.fit(make(points), make(values[:, 0]), (6, 5), bounds=(0, 1))
    assert one.channels == 1 and tuple(one(make(points)).shape) == (400, 1)
    # interpolation, and the field of a function
    through = cls.interpolate(make(values[:20].T.reshape(2, 4, 5)), kernel="quintic")
    assert_allclose(np.asarray(through.on_grid((4, 5)).detach() if framework == "torch" else through.on_grid((4, 5))),
                    values[:20].T.reshape(2, 4, 5), atol=1e-5)  # fmt: skip
    of = cls.from_function(lambda x: x[..., 0] * 2 + x[..., 1], (4, 6), bounds=[(0, 3), (0, 1)])
    at = make(np.array([[1.3, 0.4]], np.float32))
    assert np.asarray(of(at).detach() if framework == "torch" else of(at)) == pytest.approx(3.0, abs=1e-5)
    again = cls.from_function(of, of.grid)
    assert np.asarray(again(at).detach() if framework == "torch" else again(at)) == pytest.approx(3.0, abs=1e-5)


def test_types_follow_the_values():
    points, values, _ = data((5, 4))
    wanted = gf.fit_field(points, values, (5, 4), bounds=(0, 1))
    assert wanted.dtype == np.float64
    assert gf.fit_field(points.astype(np.float32), values.astype(np.float16), (5, 4), bounds=(0, 1)).dtype == np.float16
    whole = gf.fit_field(points, (10 * values).astype(int), (5, 4), bounds=(0, 1))
    assert whole.dtype == np.float64
    assert_array_equal(whole, gf.fit_field(points, (10 * values).astype(int).astype(float), (5, 4), bounds=(0, 1)))
    turned = gf.fit_field(points, values + 2j * values[::-1], (5, 4), bounds=(0, 1))
    assert_allclose(turned.real, wanted, atol=1e-12)
    assert_allclose(turned.imag, 2 * gf.fit_field(points, values[::-1], (5, 4), bounds=(0, 1)), atol=1e-12)
    lists = gf.fit_field(points.tolist(), values.tolist(), (5, 4), bounds=(0, 1))
    assert_array_equal(lists, wanted)
    half = SplineField.fit(torch.from_numpy(points), torch.from_numpy(values).bfloat16(), (5, 4), bounds=(0, 1))
    assert half.coefficients.dtype == torch.bfloat16
    assert_allclose(half.coefficients.detach().float()[0], wanted, atol=0.05)


def test_shapes_of_points_and_strides():
    points, values, weights = data((5, 4), n=240, channels=(2, 3))
    want = gf.fit_field(points, values, (5, 4), weights=weights, bounds=(0, 1))
    assert want.shape == (2, 3, 5, 4)
    shaped = gf.fit_field(
        points.reshape(12, 20, 2), values.reshape(12, 20, 2, 3), (5, 4), weights=weights.reshape(12, 20), bounds=(0, 1)
    )
    assert_array_equal(shaped, want)
    back = np.asfortranarray(points)[::-1], values[::-1], weights[::-1]
    assert_allclose(gf.fit_field(*back[:2], (5, 4), weights=back[2], bounds=(0, 1)), want, atol=1e-12)
    before = points.copy(), values.copy(), weights.copy()
    gf.fit_field(points, values, (5, 4), weights=weights, bounds=(0, 1), levels=2, roughness="gcv")
    for a, b in zip(before, (points, values, weights), strict=True):
        assert_array_equal(a, b)


def test_tensors_with_history():
    points, values, _ = data((5, 4))
    x, y = torch.tensor(points, requires_grad=True), torch.tensor(values, requires_grad=True)
    field = SplineField.fit(2 * x - x, y + 0, (5, 4), bounds=(0, 1))
    assert field.coefficients.is_leaf
    for symbol in (
        lambda: jax.jit(lambda y: gf.fit_field(jnp.asarray(points), y, (5, 4), bounds=(0, 1)))(jnp.asarray(values)),
        lambda: tf.function(lambda y: gf.fit_field(tf.constant(points), y, (5, 4), bounds=(0, 1)))(tf.constant(values)),
    ):
        with pytest.raises(TypeError, match=r"(points|values) must be an array of numbers, with values now"):
            symbol()


def test_data_on_the_default_bounds():
    """Whatever the number of control points: the end is where the user says, not a rounding before it."""
    x = np.linspace(0, 1, 30)[:, None]
    for n in (100, 193, 2000):
        gf.fit_field(x, x[:, 0], n, roughness=1e-9)


def test_threads_and_repetition_do_not_matter():
    points, values, _ = data((16, 15), n=60_000)
    results = []
    for threads in (1, 2, 1):
        gf.set_num_threads(threads)
        results.append([gf.fit_field(points, values, (16, 15), bounds=(0, 1), solver=s) for s in ("direct", "cg")])
    gf.set_num_threads(None)
    for direct, cg in results[1:]:
        assert_allclose(direct, results[0][0], rtol=0, atol=1e-12)
        assert_allclose(cg, results[0][1], rtol=0, atol=1e-12)


def test_a_long_axis():
    """As many control points as would make 80 GB of dense matrices."""
    rng = np.random.default_rng(0)
    x = rng.uniform(0, 1, (200_000, 1))
    y = np.sin(100 * x[:, 0])
    for boundary in ("natural", "wrap"):
        c, info = gf.fit_field(x, y, 20_000, roughness=1e-12, boundary=boundary, full_output=True)
        assert info.solver == "direct" and np.isfinite(c).all()
        assert info.residual[0] < 2e-3


def test_an_axis_too_long_to_diagonalise(monkeypatch):
    monkeypatch.setattr(normal, "LONGEST", 8)
    monkeypatch.setattr(normal, "DENSE", 8)
    points, values, _ = data((9, 5), n=600)
    for roughness in (0.0, 0.01):
        direct, cg = (
            gf.fit_field(points, values, (9, 5), bounds=(0, 1), roughness=roughness, solver=s) for s in ("direct", "cg")
        )
        assert_allclose(cg, direct, atol=1e-7)


# ---- what is wrong ---------------------------------------------------------------------------------------------------
GOOD = {"points": np.random.default_rng(0).uniform(0, 1, (30, 2)), "values": np.ones(30), "grid": (4, 5)}


@pytest.mark.parametrize(
    ("change", "error", "message"),
    (
        ({"points": np.ones((30, 3))}, ValueError, r"points has 3 coordinates per point .* but the grid has 2 axes"),
        ({"points": np.ones(30)}, ValueError, r"points has 30 coordinates per point"),
        ({"points": np.full((30, 2), 1j)}, TypeError, "points has dtype complex128 but coordinates must be real"),
        ({"points": np.full((30, 2), np.inf)}, ValueError, "points must be finite or NaN, but 30 are infinite"),
        ({"points": 3 * GOOD["points"]}, ValueError, r"points reach over .* beyond the default bounds \(0, 1\): give"),
        ({"points": np.full((30, 2), np.nan)}, ValueError, "no point has data and a weight above 0"),
        ({"points": "abc"}, TypeError, "points (has dtype <U3|must be an array of numbers)"),
        ({"values": np.ones(29)}, ValueError, r"values has shape \(29,\) but must begin with the shape of points"),
        ({"values": np.full(30, np.inf)}, ValueError, "values must be finite or NaN, but 30 are infinite"),
        ({"values": np.full(30, np.nan)}, ValueError, "no point has data and a weight above 0"),
        ({"values": np.array(["a"] * 30)}, TypeError, "values (has dtype <U1|must be an array of numbers)"),
        ({"values": np.ones((30, 0))}, ValueError, "no point has data"),
        ({"points": np.ones((0, 2)), "values": np.ones(0)}, ValueError, "no point has data"),
        ({"weights": -np.ones(30)}, ValueError, "weights must be real, finite and >= 0"),
        ({"weights": np.full(30, np.nan)}, ValueError, "weights must be real, finite and >= 0"),
        ({"weights": np.full(30, np.inf)}, ValueError, "weights must be real, finite and >= 0"),
        ({"weights": np.zeros(30)}, ValueError, "no point has data and a weight above 0"),
        ({"weights": np.ones(7)}, ValueError, r"weights has shape \(7,\) but must be \(30,\), one per point"),
        ({"roughness": -1.0}, ValueError, r"roughness must be a number >= 0 or 'gcv', got -1\.0"),
        ({"roughness": np.nan}, ValueError, "roughness must be a number >= 0 or 'gcv', got nan"),
        ({"roughness": "GCV"}, ValueError, "roughness must be a number >= 0 or 'gcv', got 'GCV'"),
        ({"roughness": [1]}, TypeError, "roughness must be a real number"),
        ({"roughness": 1, "kernel": "linear"}, ValueError, "order 2 is above the degree of kernel 'linear'"),
        ({"order": 2.0}, ValueError, r"order must be 1, 2 or 3, got 2\.0"),
        ({"roughness": True}, TypeError, "roughness must be a number >= 0 or 'gcv', got True"),
        ({"order": 0}, ValueError, "order must be 1, 2 or 3, got 0"),
        ({"levels": 0}, ValueError, "levels 0 must hold an integer of 1 or more"),
        ({"levels": 1.5}, TypeError, "levels 1.5 must hold an integer of 1 or more"),
        ({"solver": "lu"}, ValueError, "solver must be one of 'auto', 'direct', 'cg', got 'lu'"),
        ({"progress": "yes"}, TypeError, "progress must be True or False"),
        ({"kernel": "qubic"}, ValueError, "kernel must be one of"),
        ({"boundary": "sideways"}, ValueError, "boundary must be one of"),
        ({"grid": (0, 4)}, ValueError, "shape"),
        ({"grid": gf.Grid(4)}, ValueError, "points has 2 coordinates per point"),
        ({"grid": gf.Grid((4, 5)), "bounds": (0, 1)}, ValueError, "bounds must not be given with a Grid"),
    ),
)
def test_bad_input(change, error, message):
    arguments = {**GOOD, **change}
    with pytest.raises(error, match=message):
        gf.fit_field(**arguments)
    arguments["shape"] = arguments.pop("grid")
    with pytest.raises(error, match=message):
        SplineField.fit(**arguments)


def test_mixed_frameworks():
    with pytest.raises(TypeError, match="all arrays of a call must belong to one framework"):
        gf.fit_field(torch.ones(30, 2), np.ones(30), (4, 5))


def test_too_many_channel_axes():
    with pytest.raises(ValueError, match=r"SplineField\.fit: values must be one per point"):
        SplineField.fit(GOOD["points"], np.ones((30, 2, 2)), (4, 5))


# ---- interpolation ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("boundary", gf.BOUNDARIES)
@pytest.mark.parametrize("kernel", [*range(8), "catmull_rom"])
def test_interpolate_passes_through_the_data(kernel, boundary):
    values = torch.randn(2, 6, 1, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    field = SplineField.interpolate(values, kernel=kernel, boundary=boundary, bounds=[(0, 2), (0, 1), (-3, 3)])
    assert field.grid == gf.Grid((6, 1, 5), [(0, 2), (0, 1), (-3, 3)]) and field.coefficients.is_leaf
    assert_allclose(field.on_grid(field.grid).detach(), values, atol=1e-9)
    whole = SplineField.interpolate(values[0], field.grid, kernel=kernel, boundary=boundary)
    assert_array_equal(whole.coefficients.detach(), field.coefficients.detach()[:1])


def test_interpolate_is_differentiable_in_jax():
    values = jnp.arange(12.0).reshape(1, 3, 4)
    at = jnp.array([[0.3, 0.6]])
    slope = jax.grad(lambda v: gridfield.jax.SplineField.interpolate(v)(at).sum())(values)
    assert float(slope.sum()) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(
    ("values", "how", "error", "message"),
    (
        (
            torch.ones(4),
            {},
            ValueError,
            r"values must have shape \(channels, \*shape\), got \(4,\); without a channel axis",
        ),
        (torch.ones(2, 0), {}, ValueError, "values must have shape"),
        (torch.ones(4), {"grid": gf.Grid(5)}, ValueError, r"values has shape \(4,\) but must end in the grid's shape"),
        (torch.ones(1, 2, 5), {"grid": gf.Grid(5)}, ValueError, r"values has shape \(1, 2, 5\) but must be"),
        (torch.ones(1, 5).cfloat(), {}, TypeError, "a field's coefficients are real"),
        (torch.ones(1, 5), {"grid": (5,)}, TypeError, "grid must be a gf.Grid"),
        ([["a"]], {}, TypeError, "values must be an array of numbers"),
    ),
)
def test_bad_interpolation(values, how, error, message):
    with pytest.raises(error, match=message):
        SplineField.interpolate(values, **how)


def test_from_function():
    field = SplineField.from_function(
        lambda x: torch.stack([x[..., 0], x[..., 0] * x[..., 1]], -1), (5, 6), bounds=[(0, 2), (1, 4)],
        dtype=torch.float64,
    )  # fmt: skip
    assert field.coefficients.dtype == torch.float64 and field.channels == 2
    at = torch.tensor([[0.7, 2.2]], dtype=torch.float64)
    assert_allclose(field(at).detach(), [[0.7, 1.54]], atol=1e-12)
    with pytest.raises(ValueError, match=r"from_function: f returned shape \(5,\) for points \(5, 6, 2\)"):
        SplineField.from_function(lambda x: x[:, 0, 0], (5, 6))
    with pytest.raises(TypeError, match="dtype must be a floating-point type"):
        SplineField.from_function(lambda x: x[..., 0], 5, dtype=torch.int32)


def test_nothing_is_said_without_reason():
    points, values, _ = data((5, 4))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _, info = gf.fit_field(points, values, (5, 4), bounds=(0, 1), full_output=True)
    assert info.warning == ""
