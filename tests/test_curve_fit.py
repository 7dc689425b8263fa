"""curve_fit beside SciPy's, one fit beside many, what is left out, what is wrong, and what the result says."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # before anything imports tensorflow

import importlib
import warnings

import numpy as np
import pytest
import scipy.optimize
import scipy.special
import xarray as xr

import gridfield as gf
from gridfield.cpu import lanes, marquardt
from gridfield.fits import least_squares

X = np.linspace(0, 4, 40)


def decay(x, a, b, c):
    return a * np.exp(-b * x) + c


DECAY = "a*exp(-b*x) + c"
CASES = {  # equation, function, truth, coordinates
    "decay": (DECAY, decay, (2.5, 1.3, 0.5), X),
    "line": ("a*x + b", lambda x, a, b: a * x + b, (2.0, -3.0), X),
    "peak": (
        "A*exp(-(x - m)**2/(2*s**2)) + b",
        lambda x, A, m, s, b: A * np.exp(-((x - m) ** 2) / (2 * s**2)) + b,
        (3.0, 2.1, 0.6, 0.2),
        X,
    ),
    "wave": ("A*sin(w*x + p)", lambda x, A, w, p: A * np.sin(w * x + p), (1.5, 2.2, 0.4), X),
    "growth": ("K/(1 + exp(-r*(x - m)))", lambda x, K, r, m: K / (1 + np.exp(-r * (x - m))), (5.0, 2.0, 1.7), X),
}


def tight(f, x, y, p0, **how):
    """SciPy as exactly as it goes, without its complaints."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if how.get("method", "lm") == "lm" and "loss" not in how and "bounds" not in how:
            how |= {"ftol": 1e-15, "xtol": 1e-15, "gtol": 1e-15, "maxfev": 5000}
        else:
            how |= {"ftol": 1e-15, "xtol": 1e-15, "gtol": 1e-15, "max_nfev": 5000}
        return scipy.optimize.curve_fit(f, x, y, p0, **how)


# ---- SciPy
HOW = ["plain", "sigma", "absolute", "soft_l1", "huber", "cauchy"]


@pytest.mark.parametrize(
    ("case", "how"),
    # a loss of its own is two kernels to compile: each loss with one or two equations, the other pairs are marked slow
    [pytest.param(case, how, id=f"{name}-{how}", marks=pytest.mark.slow if j > 2 and (i + j) % 3 else ())
     for i, (name, case) in enumerate(CASES.items()) for j, how in enumerate(HOW)],
)  # fmt: skip
def test_the_optimum_and_covariance_of_scipy(case, how, rng):
    equation, f, truth, x = case
    sigma = 0.05 + 0.1 * rng.random(len(x))
    y = f(x, *truth) + sigma * rng.normal(size=len(x))
    p0 = np.array(truth) * 1.1
    scipys, ours = {}, {}
    if how in ("sigma", "absolute"):
        scipys = ours = {"sigma": sigma, "absolute_sigma": how == "absolute"}
    elif how != "plain":
        scipys, ours = {"loss": how, "f_scale": 0.1, "method": "trf", "jac": "3-point"}, {"loss": (how, 0.1)}
    jac = {} if "jac" in scipys else {"jac": lambda x, *p: complex_step(f, x, p)}
    popt, pcov = tight(f, x, y, p0, **scipys, **jac)
    for model in (equation, f):
        result = gf.curve_fit(model, x, y, p0, **ours)
        names = gf.curve_fit(f, x, y, p0, **ours).names
        assert result.success
        if model is equation:
            start = dict(zip(names, p0, strict=True))
            result = gf.curve_fit(model, x, y, start, **ours)
        order = [result.names.index(n) for n in names]
        np.testing.assert_allclose(result.popt[order], popt, rtol=1e-6)
        np.testing.assert_allclose(result.cov[np.ix_(order, order)], pcov, rtol=2e-5 if "loss" in scipys else 1e-6)


def complex_step(f, x, p):
    out = np.empty((len(x), len(p)))
    for k in range(len(p)):
        q = np.array(p, complex)
        q[k] += 1e-30j
        out[:, k] = f(x, *q).imag / 1e-30
    return out


def test_popt_and_pcov_as_with_scipy(rng):
    y = decay(X, 2.5, 1.3, 0.5) + 0.01 * rng.normal(size=40)
    result = gf.curve_fit(decay, X, y)
    popt, pcov = result
    assert popt is result[0] and pcov is result[1] and len(result) == 2
    np.testing.assert_allclose(popt, [2.5, 1.3, 0.5], atol=0.05)
    np.testing.assert_allclose(list(result.stderr.values()), np.sqrt(np.diag(pcov)))
    assert result["a"] == popt[0] and result.dof == 37


def test_bounds_as_scipy(rng):
    y = decay(X, 2.5, 1.3, 0.5) + 0.05 * rng.normal(size=40)
    for bounds in (([0, 0, 0], [3, 1, np.inf]), (0, [2, 3, 0.3]), ([2.6, -np.inf, 0.6], [5, 9, 1])):
        low, high = (np.broadcast_to(b, 3).astype(float) for b in bounds)
        popt, pcov = tight(decay, X, y, np.clip([2.0, 0.9, 0.2], low + 1e-3, high - 1e-3), bounds=bounds)
        start = np.clip([2.0, 0.9, 0.2], low + 1e-3, high - 1e-3)
        for model in (decay, DECAY):
            result = gf.curve_fit(model, X, y, dict(zip("abc", start, strict=True)), bounds=bounds)
            np.testing.assert_allclose(result.popt, popt, rtol=1e-5)
            np.testing.assert_allclose(result.cov, pcov, rtol=1e-3)
            assert (result.popt >= low).all() and (result.popt <= high).all()
    named = gf.curve_fit(DECAY, X, y, bounds={"b": (None, 1.0)})
    np.testing.assert_allclose(named.params["b"], 1.0)


def test_fixed_parameters(rng):
    y = decay(X, 2.5, 1.3, 0.5) + 0.05 * rng.normal(size=40)
    popt, pcov = tight(lambda x, a, b: decay(x, a, b, 0.4), X, y, (1, 1))
    for model in (decay, DECAY):
        result = gf.curve_fit(model, X, y, fixed={"c": 0.4})
        np.testing.assert_allclose(result.popt[:2], popt, rtol=1e-6)
        np.testing.assert_allclose(result.cov[:2, :2], pcov, rtol=1e-4)
        assert result.params["c"] == 0.4 and result.stderr["c"] == 0 and result.dof == 38
        assert (result.cov[2] == 0).all() and "fixed" in result.summary()
    kept = gf.curve_fit(DECAY, X, y, {"a": 1, "b": 1, "c": 0.4}, fixed=["c"])
    np.testing.assert_array_equal(kept.popt, result.popt)


@pytest.mark.parametrize("jac", ["auto", "complex", "3-point", "2-point", "given"])
def test_derivatives_of_a_function(jac, rng):
    y = decay(X, 2.5, 1.3, 0.5) + 0.05 * rng.normal(size=40)
    given = (lambda x, *p: complex_step(decay, x, p)) if jac == "given" else jac
    expected = gf.curve_fit(DECAY, X, y)
    result = gf.curve_fit(decay, X, y, jac=given)
    np.testing.assert_allclose(result.popt, expected.popt, rtol=1e-5 if jac == "2-point" else 1e-8)


def test_functions_that_drop_the_imaginary_part(rng):
    def model(x, a, b):
        return np.abs(a) * x + np.real(b)

    y = 2 * X + 1 + 0.1 * rng.normal(size=40)
    result = gf.curve_fit(model, X, y)
    np.testing.assert_allclose(result.popt, np.polyfit(X, y, 1), rtol=1e-6)

    def special(x, a, b):  # no complex numbers at all
        return a * scipy.special.k0(b * x + 0.1)

    y = special(X, 2.0, 0.7) + 0.01 * rng.normal(size=40)
    np.testing.assert_allclose(gf.curve_fit(special, X, y).popt, tight(special, X, y, (1, 1))[0], rtol=1e-6)


# ---- what coordinates can be
def test_coordinates(rng):
    grid = gf.Grid((12, 15), ((0, 1), (-1, 2)))
    yy, xx = np.meshgrid(*grid.axes(), indexing="ij")
    z = 2 * xx + 3 * yy - 1 + 0.01 * rng.normal(size=yy.shape)
    expected = np.linalg.lstsq(np.stack([xx.ravel(), yy.ravel(), np.ones(180)], 1), z.ravel(), rcond=None)[0]

    def function(coords, a, b, c):
        y, x = coords
        return a * x + b * y + c

    da = xr.DataArray(z, {"y": grid.axes()[0], "x": grid.axes()[1]}, ("y", "x"))
    for f, coords, data in (
        ("a*x + b*y + c", grid, z),
        ("a*x + b*y + c", (xx, yy), z),
        ("a*x + b*y + c", {"x": xx, "y": yy[:, :1]}, z),
        ("f(x, y) = a*x + b*y + c", (xx, yy), z),
        ("a*x + b*y + c", da, z),
        ("a*x + b*y + c", None, da),
        ("a*x + b*y + c", xr.Dataset({"z": da}), da),
        ("a*x + b*y + c", da, da.T),
        (function, grid, z),
        (function, (yy[:, :1], xx[:1]), z),
        (function, np.stack([yy, xx]), z),
        (function, None, da),
        (lambda c, a, b, c0: a * c["x"] + b * c["y"] + c0, {"x": xx, "y": yy}, z),
    ):
        result = gf.curve_fit(f, coords, data)
        np.testing.assert_allclose(result.popt, expected, rtol=1e-8, err_msg=str(coords)[:80])
        assert result.residual.shape == data.shape
    row = gf.curve_fit("a*row + b*column", None, np.add.outer(3.0 * np.arange(5), 4.0 * np.arange(6)))
    np.testing.assert_allclose(row.popt, [3, 4])


def test_parameters_as_trees_and_arrays(rng):
    y = 2 * X**2 - 3 * X + 1 + 0.01 * rng.normal(size=40)
    expected = np.polyfit(X, y, 2)

    def poly(x, p):
        return np.polyval(p["poly"], x) + p["other"]["zero"]

    p0 = {"poly": np.ones(3), "other": {"zero": 0.0}}
    result = gf.curve_fit(poly, X, y, p0, fixed=["other.zero"])
    np.testing.assert_allclose(result.params["poly"], expected, rtol=1e-8)
    assert result.params["other"]["zero"] == 0 and result.names == ("poly[0]", "poly[1]", "poly[2]", "other.zero")
    vector = gf.curve_fit(lambda x, p: np.polyval(p, x), X, y, np.ones(3))
    np.testing.assert_allclose(vector.popt, expected, rtol=1e-8)
    mixed = gf.curve_fit(lambda x, c, p: np.polyval(p, x) + c * x**2, X, y, [0.0, np.ones(3)], fixed=["c"])
    np.testing.assert_allclose(mixed.params["p"], expected, rtol=1e-8)
    maps = gf.curve_fit(poly, X, np.stack([y, 2 * y]), p0, fixed=["other.zero"], axis=-1)
    np.testing.assert_allclose(maps.params["poly"], np.stack([expected, 2 * expected]), rtol=1e-7)


def test_a_map_or_an_array_parameter(rng):
    V = np.stack([X**0, X, X**2])
    truth = rng.normal(size=(3, 3))
    y = truth @ V

    def poly(x, w):
        return sum(w[k] * x**k for k in range(3))

    result = gf.curve_fit(poly, X, y, {"w": np.ones((3, 3))}, axis=-1)  # the fits first
    np.testing.assert_allclose(result.params["w"], truth, rtol=1e-7)
    low = np.full((3, 3), -np.inf)
    low[1, 2] = truth[1, 2] + 0.5  # of one coefficient of one fit
    held = gf.curve_fit(poly, X, y, {"w": np.maximum(low, 1.0)}, axis=-1, bounds={"w": (low, None)})
    assert held.params["w"][1, 2] == low[1, 2] and np.allclose(held.params["w"][0], truth[0])
    one = gf.curve_fit(lambda x, w: w * x, X, truth[:, :1] * X, {"w": np.ones(3)}, axis=-1)  # a number in each
    assert one.params["w"].shape == (3,)
    np.testing.assert_allclose(one.params["w"], truth[:, 0], rtol=1e-7)
    fixed = gf.curve_fit("a*x + w", X, y, {"w": 1.0, "a": 1.0}, axis=-1, fixed={"w": truth[:, 0]})
    np.testing.assert_array_equal(fixed.params["w"], truth[:, 0])
    alone = gf.curve_fit(poly, X, y[0], {"w": np.ones(3)})  # no fits to be mistaken for
    np.testing.assert_allclose(alone.params["w"], truth[0], rtol=1e-7)


def test_several_equations_with_shared_parameters(rng):
    one, two = decay(X, 2.0, 0.8, 0.1), decay(X[:30], 5.0, 0.8, 0.3)
    one, two = one + 0.02 * rng.normal(size=40), two + 0.02 * rng.normal(size=30)

    def residuals(p):
        return np.concatenate([decay(X, p[0], p[1], p[2]) - one, decay(X[:30], p[3], p[1], p[4]) - two])

    expected = scipy.optimize.least_squares(residuals, [1, 1, 0, 1, 0], xtol=1e-15, ftol=1e-15, gtol=1e-15)
    cov = np.linalg.inv(expected.jac.T @ expected.jac) * 2 * expected.cost / 65
    p0 = {"a": 1, "b": 1, "c": 0, "A": 1, "C": 0}
    f = {"one": "a*exp(-b*x) + c", "two": lambda x, A, b, C: decay(x, A, b, C)}
    result = gf.curve_fit(f, {"one": {"x": X}, "two": X[:30]}, {"one": one, "two": two}, p0)
    np.testing.assert_allclose([result[k] for k in "abcAC"], expected.x, rtol=1e-6)
    order = [result.names.index(k) for k in "abcAC"]
    np.testing.assert_allclose(result.cov[np.ix_(order, order)], cov, rtol=1e-4)
    assert result.residual["two"].shape == (30,) and set(result.predict()) == {"one", "two"}
    listed = gf.curve_fit(["a*exp(-b*x) + c", "A*exp(-b*x) + C"], [{"x": X}, {"x": X[:30]}], [one, two], p0)
    np.testing.assert_allclose([listed[k] for k in "abcAC"], expected.x, rtol=1e-6)
    assert len(listed.residual) == 2 and "\n" in listed.summary()
    with pytest.raises(ValueError, match="y has data"):
        gf.curve_fit(["a*x", "b*x"], {"x": X}, [one])


# ---- what is left out
def test_points_with_nan_are_left_out(rng):
    y = decay(X, 2.5, 1.3, 0.5) + 0.05 * rng.normal(size=40)
    sigma = 0.05 + 0.1 * rng.random(40)
    bad = y.copy()
    x, s, where = X.copy(), sigma.copy(), np.ones(40, bool)
    bad[3], x[7], s[11], where[20:25] = np.nan, np.nan, np.nan, False
    keep = where & ~np.isnan(bad + x + s)
    for model in (decay, DECAY):
        expected = gf.curve_fit(model, X[keep], y[keep], sigma=sigma[keep])
        result = gf.curve_fit(model, x, bad, sigma=s, where=where)
        np.testing.assert_allclose(result.popt, expected.popt, rtol=1e-10)
        np.testing.assert_allclose(result.cov, expected.cov, rtol=1e-7)
        assert result.dof == keep.sum() - 3 and np.isnan(result.residual[3]) and np.isnan(result.residual[7])
        assert result.chi2 == pytest.approx(expected.chi2)
    with pytest.raises(ValueError, match="hold NaN"):
        gf.curve_fit(DECAY, X, bad, nan_policy="raise")
    with pytest.raises(ValueError, match="the data hold NaN"):
        gf.curve_fit(DECAY, X, bad, nan_policy="propagate")


# ---- many fits
@pytest.fixture
def pixels(rng):
    truth = rng.uniform((1, 0.4, 0), (3, 2, 0.5), (4, 5, 3))
    a, b, c = (t[..., None] for t in np.moveaxis(truth, -1, 0))
    return decay(X, a, b, c) + 0.02 * rng.normal(size=(4, 5, 40))


@pytest.mark.parametrize(
    "model", [decay, DECAY, lambda x, a, b, c: decay(x, a, b, c) + 0 * x.mean()], ids=["f", "eq", "m"]
)
def test_many_fits_are_each_of_them(model, pixels, rng):
    pixels[1, 2, rng.random(40) < 0.3] = np.nan
    sigma = 0.5 + rng.random(40)
    maps = gf.curve_fit(model, X, pixels, {"a": 1.0, "b": 1.0, "c": 0.0}, sigma=sigma, axis=-1)
    assert maps.success.all() and maps.popt.shape == (4, 5, 3) and maps.cov.shape == (4, 5, 3, 3)
    for i in np.ndindex(4, 5):
        one = gf.curve_fit(model, X, pixels[i], {"a": 1.0, "b": 1.0, "c": 0.0}, sigma=sigma)
        np.testing.assert_allclose(maps.popt[i], one.popt, rtol=1e-9)
        np.testing.assert_allclose(maps.cov[i], one.cov, rtol=1e-6)
        assert maps.chi2[i] == pytest.approx(one.chi2) and maps.dof[i] == one.dof and maps.n_iter[i] == one.n_iter
        np.testing.assert_allclose(maps.residual[i], one.residual, atol=1e-9)
        assert maps.r2[i] == pytest.approx(one.r2) and maps.aic[i] == pytest.approx(one.aic)


def test_axes_in_any_order(pixels):
    expected = gf.curve_fit(DECAY, X, pixels, axis=-1)
    moved = gf.curve_fit(DECAY, X, np.moveaxis(pixels, -1, 0), axis=0)
    np.testing.assert_array_equal(moved.popt, expected.popt)
    assert moved.residual.shape == (40, 4, 5)
    x_each = np.broadcast_to(X, pixels.shape) * np.linspace(1, 2, 5)[:, None]
    own = gf.curve_fit(DECAY, x_each, pixels, axis=-1)
    np.testing.assert_allclose(own.params["b"], expected.params["b"] / np.linspace(1, 2, 5), rtol=1e-6)
    named = gf.curve_fit(DECAY, None, xr.DataArray(pixels, {"x": X}, ("i", "j", "x")), axis="x")
    np.testing.assert_array_equal(named.popt, expected.popt)
    planes = gf.curve_fit("a*x + b*y + c", gf.Grid.pixels((5, 40)), pixels, axis=(1, 2))
    assert planes.popt.shape == (4, 3)


def test_starts_bounds_and_fixed_values_of_their_own(pixels):
    expected = gf.curve_fit(DECAY, X, pixels, axis=-1)
    b = expected.params["b"]
    result = gf.curve_fit(DECAY, X, pixels, {"a": 1.0, "b": b, "c": 0.0}, bounds={"b": (b - 0.1, b + 0.1)}, axis=-1)
    np.testing.assert_allclose(result.popt, expected.popt, rtol=1e-7)
    held = gf.curve_fit(DECAY, X, pixels, fixed={"b": b}, axis=-1)
    np.testing.assert_allclose(held.popt, expected.popt, rtol=1e-7)
    stacked = gf.curve_fit(decay, X, pixels, expected.popt, axis=-1)
    np.testing.assert_allclose(stacked.popt, expected.popt, rtol=1e-9)
    lower = gf.curve_fit(DECAY, X, pixels, bounds={"b": (b + 0.2, np.full((4, 5), np.inf))}, axis=-1)
    np.testing.assert_allclose(lower.params["b"], b + 0.2)


def test_threads_do_not_change_a_bit(rng):
    y = decay(X, 2.0, rng.uniform(0.5, 2, (3000, 1)), 0.1) + 0.02 * rng.normal(size=(3000, 40))
    try:
        gf.set_num_threads(1)
        one = gf.curve_fit(DECAY, X, y, axis=-1)
        gf.set_num_threads(3)
        three = gf.curve_fit(DECAY, X, y, axis=-1)
    finally:
        gf.set_num_threads(None)
    np.testing.assert_array_equal(one.popt, three.popt)
    np.testing.assert_array_equal(one.cov, three.cov)


def test_python_and_compiled_steps_are_the_same_bits(rng, monkeypatch):
    y = decay(X, 2.0, rng.uniform(0.5, 2, (50, 1)), 0.1) + 0.02 * rng.normal(size=(50, 40))
    bounds = ([0, 0, 0.12], 10)
    monkeypatch.setattr(lanes, "suits", lambda *a: False)
    monkeypatch.setattr(marquardt, "FEW", 0.0)
    compiled = gf.curve_fit(DECAY, X, y, [1, 1, 1], bounds=bounds, axis=-1)
    monkeypatch.setattr(marquardt, "FEW", np.inf)
    monkeypatch.setattr(marquardt, "SPENT", np.inf)
    monkeypatch.setattr(marquardt, "_ready", set())
    plain = gf.curve_fit(DECAY, X, y, [1, 1, 1], bounds=bounds, axis=-1)
    np.testing.assert_array_equal(compiled.popt, plain.popt)
    np.testing.assert_array_equal(compiled.cov, plain.cov)
    np.testing.assert_array_equal(compiled.n_iter, plain.n_iter)


# ---- what is wrong
@pytest.mark.parametrize("model", [decay, DECAY], ids=["function", "equation"])
def test_only_the_bad_pixel_is_marked(model, pixels):
    sigma = np.full(pixels.shape, 0.02)
    flat = pixels.reshape(20, 40)
    flat[0] = np.nan
    flat[1, 2:] = np.nan
    flat[2, 5] = np.inf
    flat[4] = 0.0  # a = 0: b is not determined
    sigma.reshape(20, 40)[3, 7] = 0
    b = np.ones((4, 5))
    b[1, 1] = 50.0  # of pixel 6: outside of the bounds
    c = np.ones((4, 5))
    c[1, 2] = 1e308  # of pixel 7: overflows
    result = gf.curve_fit(model, X, pixels, {"a": 1.0, "b": b, "c": c}, sigma=sigma, bounds={"b": (0, 20)}, axis=-1)
    reasons = result.reason.ravel()
    expected = {
        0: "fewer points",
        1: "fewer points",
        2: "infinite",
        3: "sigma",
        6: "outside",
        7: "NaN or infinite at the start",
    }
    for k, words in expected.items():
        assert words in reasons[k] and np.isnan(result.popt.reshape(20, 3)[k]).all()
        assert np.isnan(result.cov.reshape(20, 9)[k]).all()
    assert not result.success.ravel()[4] and np.isnan(result.popt.reshape(20, 3)[4]).all()
    good = [k for k in range(20) if k not in (*expected, 4)]
    assert result.success.ravel()[good].all()
    assert result.success.sum() == len(good) and f"{len(good)} of 20: converged" in result.message


def test_a_single_fit_says_what_is_wrong():
    y = decay(X, 2.5, 1.3, 0.5)
    with pytest.raises(ValueError, match=r"0 points for 3 parameters \(a, b, c\)"):
        gf.curve_fit(DECAY, X, np.full(40, np.nan))
    with pytest.raises(ValueError, match="2 points for 3"):
        gf.curve_fit(decay, X[:2], y[:2])
    with pytest.raises(ValueError, match=r"b starts at 5, which is not within its bounds 0 ... 2"):
        gf.curve_fit(DECAY, X, y, {"a": 1, "b": 5, "c": 0}, bounds={"b": (0, 2)})
    with pytest.raises(ValueError, match="sigma is zero or negative"):
        gf.curve_fit(DECAY, X, y, sigma=np.r_[0.0, np.ones(39)])
    with pytest.raises(ValueError, match="infinite"):
        gf.curve_fit(DECAY, X, np.r_[np.inf, y[1:]])
    singular = gf.curve_fit("a*x + b*x", X, y)
    assert not singular.success and "singular" in singular.message and np.isinf(singular.cov).any()
    nan = gf.curve_fit(lambda x, a: a * np.nan * x, X, y)
    assert not nan.success and "NaN or infinite at the start" in nan.message
    slow = gf.curve_fit(DECAY, X, y, [100.0, 3.0, -9.0], maxiter=2)
    assert not slow.success and "maxiter" in slow.message and np.isfinite(slow.popt).all()
    with pytest.raises(ValueError, match=r"f returned shape \(3,\), but the data of a fit have shape \(40,\)"):
        gf.curve_fit(lambda x, a: a * np.ones(3), X, y)
    assert gf.curve_fit(lambda x, a, b: np.log(a) * x + b, X, y, [90.0, 1.0]).success  # NaN on the way


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: gf.curve_fit("a*x + q*z", {"x": X}, X, {"a": 1}), ValueError, "q, z, which are neither in p0 nor"),
        (lambda: gf.curve_fit("a*x", {"x": X, "u": X}, X), ValueError, "does not use u of coords"),
        (lambda: gf.curve_fit("a*u + b", X, X), ValueError, "none of the names"),
        (lambda: gf.curve_fit("2*x", X, X), ValueError, "no parameters"),
        (lambda: gf.curve_fit("a*x", X[:5], X), ValueError, r"coords has shape \(5,\)"),
        (lambda: gf.curve_fit("a*x", gf.Grid(5), X), ValueError, r"the grid has shape \(5,\)"),
        (lambda: gf.curve_fit("a*x.real", X, X), ValueError, "attributes"),
        (lambda: gf.curve_fit("__import__('os')", X, X), ValueError, "unknown function"),
        (lambda: gf.curve_fit("a*x", X, X, [1, 2]), ValueError, "p0 has 2 values, but there are 1"),
        (lambda: gf.curve_fit(decay, X, X, [1, 2]), ValueError, "p0 has 2 values, but f has 3"),
        (lambda: gf.curve_fit(decay, X, X, {"a": 1, "d": 2}), ValueError, "p0 has d"),
        (lambda: gf.curve_fit(lambda x, *p: x, X, X), ValueError, "p0 must be given"),
        (lambda: gf.curve_fit("a*x", X, X, bounds=(2, 1)), ValueError, "lower bound of a"),
        (lambda: gf.curve_fit("a*x", X, X, bounds=3), TypeError, "bounds must be"),
        (lambda: gf.curve_fit("a*x", X, X, bounds={"b": (0, 1)}), ValueError, "has b, but the parameters are a"),
        (lambda: gf.curve_fit("a*x", X, X, fixed={"b": 0}), ValueError, "fixed has b"),
        (lambda: gf.curve_fit("a*x", X, X, fixed=3), TypeError, "fixed must be"),
        (lambda: gf.curve_fit("a*x", X, X, loss="l1"), ValueError, "loss must be one of"),
        (lambda: gf.curve_fit("a*x", X, X, maxiter=0), ValueError, "maxiter"),
        (lambda: gf.curve_fit("a*x", X, X, nan_policy="drop"), ValueError, "nan_policy"),
        (lambda: gf.curve_fit("a*x", X, X, axis=3), ValueError, "axis 3 is out of bounds"),
        (lambda: gf.curve_fit("a*x", X, X, axis="t"), ValueError, "none of the dimensions"),
        (lambda: gf.curve_fit("a*x", X, X + 1j), TypeError, "real numbers"),
        (lambda: gf.curve_fit("a*x", X, "text"), TypeError, "y must be of real numbers"),
        (lambda: gf.curve_fit("a*x", X, 3.0), ValueError, "axis of points"),
        (lambda: gf.curve_fit("a*x", X, X, where=np.ones(40)), TypeError, "where must be of True and False"),
        (lambda: gf.curve_fit("a*x", X, X, sigma=np.ones(3)), ValueError, r"sigma has shape \(3,\)"),
        (lambda: gf.curve_fit("a*x", X, X, jac="3-point"), ValueError, "jac is for Python functions"),
        (lambda: gf.curve_fit(decay, X, X, jac="fast"), ValueError, "jac must be one of"),
        (lambda: gf.curve_fit(decay, X, X, jac="autodiff"), ValueError, "needs a function of torch"),
        (lambda: gf.curve_fit("a*x", X, np.ma.masked_array(X, X > 1)), TypeError, "masked array"),
        (lambda: gf.curve_fit(3, X, X), TypeError, "equation should be a str"),
        (lambda: gf.curve_fit({"a": "a*x"}, X, X), TypeError, "so y must be one of data"),
    ],
)  # fmt: skip
def test_bad_arguments(call, error, message):
    with pytest.raises(error, match=message) as raised:
        call()
    assert "gf.curve_fit" in str(raised.value)


def test_odd_arrays(rng):
    y = decay(X, 2.5, 1.3, 0.5) + 0.05 * rng.normal(size=40)
    expected = gf.curve_fit(DECAY, X, y)
    y.flags.writeable = False
    np.testing.assert_array_equal(gf.curve_fit(DECAY, X, y).popt, expected.popt)
    np.testing.assert_array_equal(
        gf.curve_fit(DECAY, X[::-1], np.repeat(y[::-1], 2)[::2]).popt.round(9), expected.popt.round(9)
    )
    np.testing.assert_allclose(gf.curve_fit(DECAY, X.tolist(), y.tolist()).popt, expected.popt)
    np.testing.assert_allclose(gf.curve_fit(DECAY, X, y.astype(np.float32)).popt, expected.popt, rtol=1e-5)
    np.testing.assert_allclose(gf.curve_fit(DECAY, X, y.astype(">f8")).popt, expected.popt)
    counts = gf.curve_fit("a*x + b", np.arange(5), np.array([1, 3, 5, 7, 9], np.uint8))
    np.testing.assert_allclose(counts.popt, [2, 1])
    empty = gf.curve_fit(DECAY, X, np.empty((0, 40)), axis=-1)
    assert empty.popt.shape == (0, 3) and empty.success.shape == (0,)
    one = gf.curve_fit("a*x", [2.0], [6.0])
    assert one.params["a"] == 3 and np.isinf(one.cov).all()
    far = gf.curve_fit("a*exp(-b*x) + c", X, y * 1e-100, {"a": 1e-100, "b": 1, "c": 0.0})
    np.testing.assert_allclose(far.params["b"], expected.params["b"], rtol=1e-6)


# ---- what a result says
def test_the_result_as_text_table_and_dataset(pixels):
    one = gf.curve_fit(DECAY, X, pixels[0, 0])
    text = one.summary()
    assert repr(one) == text and "stderr" in one._repr_html_() and "stderr" in text and "converged" in text
    for word in ("a ", "b ", "c ", "chi2", "R2", "AIC"):
        assert word in text
    labelled = xr.DataArray(pixels, {"x": ("x", X, {"units": "s"}), "i": [3, 4, 5, 6]}, ("i", "j", "x"))
    maps = gf.curve_fit(DECAY, None, labelled, axis="x")
    dataset = maps.to_xarray()
    assert dataset.a.dims == ("i", "j") and list(dataset.i.values) == [3, 4, 5, 6]
    np.testing.assert_array_equal(dataset.b_stderr, maps.stderr["b"])
    assert (
        dataset.cov.dims == ("i", "j", "parameter", "parameter_") and "20 fits (4 x 5), 20 converged" in maps.summary()
    )
    assert one.to_xarray().a.dims == ()


def test_what_is_printed(rng):
    y = decay(X, 2.5, 1.3, 0.5) + 0.02 * rng.normal(size=40)
    good = gf.curve_fit(DECAY, X, y, fixed={"c": 0.5}, bounds={"b": (0, 1.2)}).summary()
    assert "converged; " in good and "FAILED" not in good and "unit" not in good
    assert "on its bound" in good and "fixed" in good and "correlations: a, b +0." in good
    bad = gf.curve_fit("a*b*exp(-d*x)", X, y).summary()
    assert "FAILED: the Jacobian is singular" in bad and "nan" not in bad
    nothing = gf.curve_fit("a*log(b - x) + c", X, y, {"a": 1.0, "b": -1.0, "c": 0.0}).summary()
    assert "FAILED: the model is NaN" in nothing and "1 step," in nothing and "nan" not in nothing
    assert "no points are left over" in gf.curve_fit("a*x + b", X[:2], y[:2]).summary()
    long = gf.curve_fit("+".join(f"p{k}*x**{k}" for k in range(12)), X, y).summary()
    assert "..." in long and "more beyond 0.1" in long and "e+0" not in long
    tiny = gf.curve_fit(DECAY, X, y * 2.0**-700, {"a": 2.0**-699, "b": 1.0, "c": 0.0}).summary()
    assert "e-4" in tiny.splitlines()[2]  # chi2, which is no number
    pixels = np.stack([y, y, np.full(40, np.nan)]).reshape(1, 3, 40)
    many = gf.curve_fit(DECAY, X, pixels, axis=-1, fixed={"c": 0.5}).summary()
    assert "3 fits (1 x 3), 2 converged" in many and "1 of 3 failed: fewer points" in many and "fixed" in many
    none = gf.curve_fit(DECAY, X, pixels[:, 2], axis=-1).summary()
    assert "1 fit (1), 0 converged" in none and "median" not in none and "nan" not in none
    assert "0 fits (0 x 3), 0 converged" in gf.curve_fit(DECAY, X, pixels[:0], axis=-1).summary()


def test_lmfit_says_the_same(rng):
    lmfit = pytest.importorskip("lmfit")
    y = decay(X, 2.5, 1.3, 0.5) + 0.05 * rng.normal(size=40)
    sigma = 0.05 + 0.05 * rng.random(40)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = lmfit.Model(decay).fit(
            y, x=X, a=1, b=1, c=1, weights=1 / sigma, fit_kws={"ftol": 1e-14, "xtol": 1e-14}
        )
    ours = gf.curve_fit(DECAY, X, y, sigma=sigma)
    for mine, other in (
        (ours.chi2, theirs.chisqr), (ours.reduced_chi2, theirs.redchi), (ours.aic, theirs.aic), (ours.bic, theirs.bic),
    ):  # fmt: skip
        assert mine == pytest.approx(other, rel=1e-6)
    for name in "abc":
        assert ours.stderr[name] == pytest.approx(theirs.params[name].stderr, rel=1e-4)
    np.testing.assert_allclose(ours.corr, np.corrcoef(np.linalg.cholesky(ours.cov)) * 0 + ours.corr)
    assert ours.corr[0, 1] == pytest.approx(theirs.params["a"].correl["b"], abs=1e-4)


def test_predictions_and_bands(rng):
    sigma, inside = 0.1, 0
    xs = np.array([0.3, 1.0, 2.5])
    truth = decay(xs, 2.5, 1.3, 0.5)
    y = decay(X, 2.5, 1.3, 0.5) + sigma * rng.normal(size=(400, 40))
    maps = gf.curve_fit(DECAY, X, y, axis=-1)
    low, high = maps.confidence_band(xs, 0.9)
    assert low.shape == (400, 3) and maps.predict(xs).shape == (400, 3) and maps.predict(1.0).shape == (400,)
    inside = ((low < truth) & (truth < high)).mean()
    assert 0.86 < inside < 0.94
    J = complex_step(decay, xs, maps.popt[0])
    half = scipy.special.stdtrit(37, 0.95) * np.sqrt(np.einsum("np,pq,nq->n", J, maps.cov[0], J))
    np.testing.assert_allclose(high[0] - low[0], 2 * half, rtol=1e-6)
    np.testing.assert_allclose(maps.predict() + maps.residual, y)
    by_function = gf.curve_fit(decay, X, y[0])
    np.testing.assert_allclose(by_function.confidence_band(xs, 0.9)[0], low[0], rtol=1e-6)
    grid = gf.Grid.pixels((6, 7))
    plane = gf.curve_fit("a*x + b*y", grid, np.add.outer(3.0 * np.arange(6), 4.0 * np.arange(7)))
    np.testing.assert_allclose(plane.predict(gf.Grid.pixels((2, 3))), [[0, 4, 8], [3, 7, 11]], atol=1e-9)
    np.testing.assert_allclose(plane.predict((np.array([1.0]), np.array([2.0]))), [11], atol=1e-9)
    with pytest.raises(ValueError, match="level"):
        maps.confidence_band(xs, 95)


def test_poor_normal_equations_go_by_qr(rng):
    # columns x**0 ... x**9 on [10, 11]: the normal matrix has no digits
    x = np.linspace(10, 11, 200)
    y = np.sin(3 * x) + 1e-3 * rng.normal(size=200)
    equation = " + ".join(f"p{k}*(x-10)**{k}" for k in range(10))
    result = gf.curve_fit(equation, {"x": x}, y)
    V = np.vander(x - 10, 10, increasing=True)
    expected = np.linalg.lstsq(V, y, rcond=None)[0]
    np.testing.assert_allclose(result.popt, expected, rtol=1e-5)
    np.testing.assert_allclose(np.diag(result.cov), np.diag(np.linalg.inv(V.T @ V)) * result.reduced_chi2, rtol=1e-3)


@pytest.mark.parametrize("model", ["a*exp(-t/c) + b*exp(-t/d) + h", "a*b*exp(-t/c) + 0*d*h"])
def test_many_poor_fits_are_each_of_them(model, rng):
    t = np.linspace(0, 1, 32)
    y = np.exp(-t / 0.3) * rng.uniform(1, 2, (6, 1)) + 0.01 * rng.normal(size=(6, 32))
    y[2, 5:9] = np.nan
    p0 = {"a": 1.0, "c": 0.3, "b": 1.0, "d": 0.300001, "h": 0.0}
    given = {"bounds": {"h": (-0.005, 1.0)}, "maxiter": 100, "loss": "soft_l1"}
    many = gf.curve_fit(model, {"t": t}, y, p0, axis=-1, **given)
    for k in range(6):
        one = gf.curve_fit(model, {"t": t}, y[k], p0, **given)
        assert one.status == many.status[k] and one.n_iter == many.n_iter[k]
        if one.success:
            np.testing.assert_array_equal(one.popt, many.popt[k])
            np.testing.assert_array_equal(one.cov, many.cov[k])
    f = lambda t, a, b, c, d, h: a * np.exp(-t / c) + b * np.exp(-t / d) + h  # noqa: E731
    if "0*d" not in model:
        theirs = gf.curve_fit(f, t, y, p0, axis=-1, **given)
        np.testing.assert_allclose(theirs.chi2, many.chi2, rtol=1e-3)


def test_memory_is_that_of_a_block():
    import tracemalloc

    y, x = np.mgrid[:600, :600].astype(float)
    image = 3 * np.exp(-((x - 300) ** 2 + (y - 280) ** 2) / (2 * 60**2)) + 0.5
    p0 = {"A": 2, "x0": 310, "y0": 290, "s": 50, "b": 0}
    call = lambda: gf.curve_fit("A*exp(-((x-x0)**2+(y-y0)**2)/(2*s**2)) + b", gf.Grid.pixels((600, 600)), image, p0)  # noqa: E731
    call()
    tracemalloc.start()
    result = call()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert result.success and peak < 3 * image.nbytes  # the Jacobian would be 5


def test_progress_bar(capfd):
    gf.curve_fit(DECAY, X, decay(X, 2.0, 1.0, 0.1), progress=True)
    assert "curve_fit" in capfd.readouterr().err


def test_robust_loss_as_written():
    z = np.linspace(0, 5, 200)
    for loss in least_squares.LOSSES:
        value, first, second = least_squares.rho(z, loss)
        theirs = importlib.import_module("scipy.optimize._lsq.least_squares").IMPLEMENTED_LOSSES[loss]
        if theirs is None:
            continue
        expected = np.empty((3, 200))
        theirs(z, expected, False)
        np.testing.assert_allclose([value, first, second], expected, atol=1e-12)


# ---- the tasks as their askers had them
def test_a_tilted_plane_and_regressors_from_fits_files(tmp_path, rng):
    fits = pytest.importorskip("astropy.io.fits")
    row, column = np.indices((10, 20))
    plane = 3 * row + 4 * column + rng.normal(scale=3, size=(10, 20))
    expected = np.linalg.lstsq(np.stack([row.ravel(), column.ravel()], 1), plane.ravel(), rcond=None)[0]
    np.testing.assert_allclose(gf.curve_fit("a*row + b*column", None, plane).popt, expected, rtol=1e-9)
    by_function = gf.curve_fit(lambda rc, a, b: a * rc[0] + b * rc[1], None, plane)
    np.testing.assert_allclose(by_function.popt, expected, rtol=1e-9)

    mods = 0.5 + rng.random((3, 10, 20))
    data = mods[0] * 12 + mods[1] ** 1.7 - mods[2] / 2.2 + 0.01 * rng.normal(size=(10, 20))
    data[2, 3], mods[1][5, 6] = np.nan, np.nan
    for name, array in zip(("data", "mod1", "mod2", "mod3"), (data, *mods), strict=True):
        fits.writeto(tmp_path / f"{name}.fits", array)
    read = {name: fits.getdata(tmp_path / f"{name}.fits") for name in ("data", "mod1", "mod2", "mod3")}  # big-endian
    good = ~np.isnan(data + mods[1])

    def model(m, a, b):
        return m[0] * 12 + m[1] ** a - m[2] / b

    popt, pcov = tight(model, mods[:, good], data[good], (1, 1))
    y = read.pop("data")
    for f, coords in (
        ("mod1*12 + mod2**a - mod3/b", read),
        (lambda m, a, b: model((m["mod1"], m["mod2"], m["mod3"]), a, b), read),
        (model, tuple(read.values())),
    ):
        result = gf.curve_fit(f, coords, y)
        np.testing.assert_allclose(result.popt, popt, rtol=1e-6)
        np.testing.assert_allclose(result.cov, pcov, rtol=1e-4)
        assert result.dof == 196 and np.isnan(result.residual[5, 6]) and np.isnan(result.predict()[5, 6])


def test_ready_models_and_their_axes(rng):
    y, x = np.mgrid[:30, :40].astype(float)
    image = 3 * np.exp(-(((x - 24) / 5) ** 2 + ((y - 13) / 3) ** 2) / 2) + 0.5 + 0.02 * rng.normal(size=x.shape)
    for model, coords in (
        ("gaussian_2d", None),
        (gf.models.gaussian_2d, gf.Grid.pixels((30, 40))),
        ("gaussian_2d", (x, y)),
    ):
        result = gf.curve_fit(model, coords, image)
        assert result.success and result.params["center_x"] == pytest.approx(24, abs=0.1)
        assert result.params["center_y"] == pytest.approx(13, abs=0.1)
    t = np.linspace(1, 60, 12)
    volume = 5 * np.exp(-t / np.array([10.0, 30.0])[:, None]) + 0.01 * rng.normal(size=(2, 12))
    labelled = xr.DataArray(volume, {"te": ("te", t, {"units": "ms"})}, ("i", "te"), attrs={"units": "V"})
    maps = gf.curve_fit(gf.models.t2_decay, None, labelled, axis="te")
    np.testing.assert_allclose(maps.params["t2"], [10, 30], rtol=0.05)
    assert maps.units == {"m0": "V", "t2": "ms"} and maps.to_xarray().t2.units == "ms"


def test_pictures(pixels):
    plt = pytest.importorskip("matplotlib.pyplot")
    one = gf.curve_fit(DECAY, X, pixels[0, 0], sigma=np.full(40, 0.02))
    assert one.plot().shape == (2, 1)
    plane = gf.curve_fit("a*x + b*y", None, np.add.outer(np.arange(5.0), np.arange(6.0)))
    assert plane.plot().shape == (1, 3)
    maps = gf.curve_fit(DECAY, X, pixels, axis=-1)
    assert maps.plot().shape == (2, 3)
    _, axes = plt.subplots(2, 1)
    assert one.plot(axes)[0, 0] is axes[0]
    with pytest.raises(ValueError, match="must be 2 axes"):
        one.plot(axes[0])
    both = gf.curve_fit([DECAY, "A*exp(-b*x)"], {"x": X}, [pixels[0, 0], pixels[0, 1]])
    assert both.plot().shape == (4, 1)
    plt.close("all")


def test_functions_with_shapes_of_their_own(rng):
    def normalised(x, a, b):  # takes one fit only: it divides by the largest of all
        f = np.exp(-a * x)
        return b * f / f.max()

    y = np.stack([normalised(X + 1, 0.7, 2.0), normalised(X + 1, 1.4, 3.0)]) + 0.01 * rng.normal(size=(2, 40))
    maps = gf.curve_fit(normalised, X + 1, y, axis=-1)
    for k in range(2):
        np.testing.assert_allclose(maps.popt[k], gf.curve_fit(normalised, X + 1, y[k]).popt, rtol=1e-9)
    assert not maps._parts[0].model.function.together


def test_start_values_that_are_no_numbers(pixels):
    with pytest.raises(ValueError, match="the start or fixed value of a is nan"):
        gf.curve_fit(DECAY, X, pixels[0, 0], [np.nan, 1, 1])
    with pytest.raises(ValueError, match="the start or fixed value of b is inf"):
        gf.curve_fit(DECAY, X, pixels[0, 0], fixed={"b": np.inf})
    a = np.ones((4, 5))
    a[1, 2] = np.nan
    maps = gf.curve_fit(DECAY, X, pixels, {"a": a, "b": 1.0, "c": 0.0}, axis=-1)
    assert maps.success.sum() == 19 and "outside" in maps.reason[1, 2]


def test_in_threads_and_in_a_child(pixels):
    import os
    import threading

    expected, found = gf.curve_fit(DECAY, X, pixels, axis=-1).popt, [None] * 4

    def work(k):
        found[k] = gf.curve_fit(DECAY, X, pixels, axis=-1).popt

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for popt in found:
        np.testing.assert_array_equal(popt, expected)
    if hasattr(os, "fork"):
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*fork.*")  # JAX and Python warn of forks in a process with threads
            child = os.fork()
        if child == 0:
            os._exit(0 if np.array_equal(gf.curve_fit(DECAY, X, pixels, axis=-1).popt, expected) else 1)
        assert os.waitpid(child, 0)[1] == 0


# ---- what broke once
def test_a_single_singular_fit_says_so():
    y = 2.5 * np.exp(-1.3 * X) + 0.5
    for model in ("a*b*x", lambda x, a, b: a * b * x):  # rounding makes the length of a step negative
        result = gf.curve_fit(model, X, y)
        assert not result.success and "singular" in result.message


def test_where_the_model_is_flat_nothing_has_converged():
    x, y = np.array([1.0, 2, 3, 5, 7, 10]), np.array([109.0, 149, 149, 191, 213, 224])  # BoxBOD, from its first start
    model = "b1*(1 - exp(-b2*x))"
    result = gf.curve_fit(model, x, y, [1, 1])
    assert not result.success and "singular" in result.message
    many = gf.curve_fit(model, x, np.stack([y, y]), {"b1": np.array([1, 100.0]), "b2": np.array([1, 0.75])}, axis=-1)
    assert list(many.success) == [False, True] and np.isnan(many.popt[0]).all()
    # a parameter that ends at zero is not one without influence
    assert gf.curve_fit("a*x + b", X - X.mean(), 1e20 * (X - X.mean()) ** 3).success


def test_a_failed_pixel_has_no_chi2():
    y = np.stack([X + 1, np.full_like(X, np.nan)])
    result = gf.curve_fit("a*x + b", X, y, axis=-1)
    assert np.isnan([result.chi2[1], result.reduced_chi2[1], result.r2[1]]).all() and result.chi2[0] < 1e-20


@pytest.mark.parametrize("model", [DECAY, decay, "gaussian"], ids=["equation", "function", "ready"])
def test_no_fits_at_all(model):
    result = gf.curve_fit(model, X, np.zeros((0, len(X))), axis=-1)
    p = len(result.names)
    assert result.popt.shape == (0, p) and result.cov.shape == (0, p, p) and result.message == "no fits"
    assert result.predict(X[:3]).shape == (0, 3) and result.residual.shape == (0, len(X)) and "0 fits" in str(result)
    with pytest.raises(ValueError, match="nothing to draw"):
        result.plot()


def test_a_ready_model_along_an_axis_beside_one_called_x():
    xr = pytest.importorskip("xarray")
    echo, tau = np.arange(6) * 10.0, np.array([20.0, 30])
    values = 3 * np.exp(-echo[:, None] / tau)
    y = xr.DataArray(values, dims=("echo", "x"), coords={"echo": echo, "x": [5, 6]})
    result = gf.curve_fit("exponential_decay", None, y, axis="echo")
    np.testing.assert_allclose(result.params["tau"], tau, rtol=1e-6)
    assert result.predict(echo[:2]).shape == (2, 2)


def test_a_point_is_predicted_as_a_number():
    plane = np.add(*np.indices((5, 6)))
    for coords, point in ((None, (1.0, 2.0)), (np.indices((5, 6)), [1.0, 2.0]), (tuple(np.indices((5, 6))), (1, 2))):
        result = gf.curve_fit(lambda c, a, b: a * c[0] + b * c[1], coords, plane)
        assert result.predict(point).shape == () and abs(result.predict(point) - 3) < 1e-9
        assert result.confidence_band(point)[0].shape == ()


def test_complex_models_are_refused():
    with pytest.raises(TypeError, match="real numbers"):
        gf.curve_fit(lambda x, a: a * x * 1j, X, X)


def test_results_go_to_the_device_of_the_data(monkeypatch):
    """They came out on the CPU; a face puts numbers beside the array it is given."""
    import torch

    from gridfield import dispatch

    y, places = torch.as_tensor(2 * np.exp(-X / 0.7)), []
    face = dispatch.of("torch")
    constant = face.constant

    def noted(table, dtype, like):
        places.append(like.data_ptr())
        return constant(table, dtype, like)

    monkeypatch.setattr(type(face), "constant", staticmethod(noted))
    result = gf.curve_fit("a*exp(-t/b)", {"t": X}, y)
    assert isinstance(result.popt, torch.Tensor) and isinstance(result.residual, torch.Tensor)
    assert places and set(places) == {y.data_ptr()}


@pytest.mark.parametrize("coords", [{}, {"echo": [1.0, 2.0, 3.0, 4.0, 5.0]}, "own"])
@pytest.mark.parametrize("model", ["exponential_decay", "A*exp(-te/T)"])
def test_a_labelled_coordinate_without_coordinates_is_its_numbers(coords, model):
    """They were numbered instead, in silence."""
    te = np.array([0.1, 0.2, 0.4, 0.8, 1.6])
    dim = "te" if coords == "own" else "echo"
    times = xr.DataArray(te, {"te": te} if coords == "own" else coords, [dim], name="te", attrs={"units": "s"})
    y = xr.DataArray(np.arange(1.0, 4)[:, None] * np.exp(-te / 0.5), dims=["pixel", dim])
    result = gf.curve_fit(model, times, y, axis=dim)
    np.testing.assert_allclose(result.params["tau" if model == "exponential_decay" else "T"], 0.5, rtol=1e-6)


@pytest.mark.parametrize("absolute", [False, True])
def test_uncertainties_are_those_of_scipy(absolute):
    """To 1e-6, SciPy's at the optimum itself: where it stops by default, its Jacobian is that of the step before."""
    rng = np.random.default_rng(3)
    x, sigma = np.linspace(0, 3, 80), rng.uniform(0.02, 0.1, 80)

    def f(x, a, b, c):
        return a * np.exp(-x / b) + c

    def jac(x, a, b, c):
        e = np.exp(-x / b)
        return np.stack([e, a * x * e / b**2, np.ones_like(x)], -1)

    y, p = f(x, 2, 0.7, 0.3) + sigma * rng.normal(size=80), [2.2, 0.8, 0.3]
    for _ in range(2):
        p, cov = scipy.optimize.curve_fit(f, x, y, p, sigma, absolute, jac=jac, xtol=1e-15, ftol=1e-15, gtol=1e-15)
    result = gf.curve_fit("a*exp(-x/b) + c", x, y, {"a": 2.2, "b": 0.8, "c": 0.3}, sigma=sigma, absolute_sigma=absolute)
    order = [list(result.params).index(k) for k in "abc"]
    np.testing.assert_allclose(np.asarray(result.cov)[np.ix_(order, order)], cov, rtol=1e-6)


# ---- ends that are none
def test_bounds_that_the_gradient_has_left():
    """Of a linear problem, beside SciPy's solver of those."""
    from scipy.optimize import lsq_linear

    coords = {"u": np.array([2.0, -1, -1]), "v": np.array([1.0, 2, 3]), "w": np.array([0.0, -1, -2])}
    data, bounds = np.array([-5.0, 4, 2]), dict.fromkeys("abc", (0, 1))
    found = gf.curve_fit("a*u + b*v + c*w", coords, data, dict.fromkeys("abc", 0.5), bounds=bounds)
    expected = lsq_linear(np.stack(list(coords.values()), 1), data, (0, 1), tol=1e-14)
    assert found.success
    np.testing.assert_allclose(found.chi2, 2 * expected.cost, rtol=1e-9)


def test_many_bounded_linear_problems(rng):
    from scipy.optimize import lsq_linear

    names, fits, n = "abcd", 300, 6
    A = rng.normal(size=(fits, n, 4)) + 2 * rng.normal(size=(fits, n, 1))
    y = 3 * rng.normal(size=(fits, n))
    coords = {f"x{k}": A[..., k] for k in range(4)}
    equation = " + ".join(f"{a}*x{k}" for k, a in enumerate(names))
    found = gf.curve_fit(equation, coords, y, dict.fromkeys(names, 0.5), bounds=dict.fromkeys(names, (0, 1)), axis=-1)
    for k in np.flatnonzero(found.success):
        least = 2 * lsq_linear(A[k], y[k], (0, 1), tol=1e-14, method="bvls").cost
        assert found.chi2[k] <= least * (1 + 1e-6) + 1e-12
    assert found.success.mean() > 0.99


@pytest.mark.parametrize("points", [40, 300])
@pytest.mark.parametrize(("equation", "size"), [("a*x**b", 2e12), ("a*exp(-b*x)", 1e12), ("a*exp(-b*x) + c", 1e15)])
def test_no_success_where_the_model_is_infinite(equation, size, points):
    x = np.linspace(0.1, 4, points)
    data = size * (x**1.7 if "**" in equation else np.exp(-0.9 * x) + 0.1 + 0.01 * np.cos(9 * x))
    found = gf.curve_fit(equation, x, data)
    assert not found.success or found.r2 > 0.9
