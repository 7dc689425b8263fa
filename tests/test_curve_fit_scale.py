"""Data whose squares are no numbers: the fit is that in other units, to the bit where both go step by step."""

import numpy as np
import pytest

import gridfield as gf

X = np.linspace(0, 4, 300)  # more than fits in lanes have, whose sums are in another order
EQUATION = "a*exp(-b*x) + c"
START = {"a": 2.0, "b": 1.0, "c": 0.1}


def decay(x, a, b, c):
    return a * np.exp(-b * x) + c


@pytest.fixture
def y(rng):
    out = decay(X, np.array([[2.5], [3.0], [1.0]]), 1.3, 0.5) + 0.01 * rng.normal(size=(3, len(X)))
    out[1, 7] = np.nan
    return out


def same(ours, plain, unit):
    """In units of the data."""
    units = np.array([unit, 1.0, unit])
    np.testing.assert_array_equal(ours.status, plain.status)
    np.testing.assert_array_equal(ours.n_iter, plain.n_iter)
    np.testing.assert_array_equal(ours.popt, plain.popt * units)
    for k, name in enumerate("abc"):
        np.testing.assert_array_equal(ours.stderr[name], plain.stderr[name] * units[k])
    np.testing.assert_array_equal(ours.corr, plain.corr)
    np.testing.assert_array_equal(ours.residual, plain.residual * unit)
    np.testing.assert_allclose(ours.r2, plain.r2, rtol=1e-14)


@pytest.mark.parametrize("power", [-1000, -660, 660, 1000])
@pytest.mark.parametrize("f", [EQUATION, decay])
@pytest.mark.parametrize("given", [{}, {"loss": "soft_l1", "sigma": 0.02}, {"bounds": {"b": (0.5, 1.2)}}])
def test_the_same_bits_in_other_units(power, f, given, y):
    unit = 2.0**power
    if power == -1000 and f is decay:
        pytest.skip("the complex step is 2**-100, and 2**-1100 is no number")
    start = {"a": 2.0 * unit, "b": 1.0, "c": 0.1 * unit}
    theirs = {k: v * unit if k == "sigma" else v for k, v in given.items()}
    for data in (y[0], y):
        axis = None if data.ndim == 1 else -1
        plain = gf.curve_fit(f, X, data, START, axis=axis, **given)
        ours = gf.curve_fit(f, X, data * unit, start, axis=axis, **theirs)
        assert np.all(ours.success)
        same(ours, plain, unit)
        low, _ = ours.confidence_band()
        np.testing.assert_allclose(low / unit, plain.confidence_band()[0], rtol=1e-12)
    if "sigma" in given:
        np.testing.assert_array_equal(ours.chi2, plain.chi2)
        np.testing.assert_allclose(ours.aic, plain.aic, rtol=1e-13)


@pytest.mark.parametrize("power", [-660, 660])
def test_few_points(power, y):
    """Of which one fit goes in lanes, the other step by step."""
    unit, few = 2.0**power, slice(None, None, 8)
    plain = gf.curve_fit(EQUATION, X[few], y[:, few], START, axis=-1)
    ours = gf.curve_fit(EQUATION, X[few], y[:, few] * unit, {"a": 2 * unit, "b": 1.0, "c": 0.1 * unit}, axis=-1)
    np.testing.assert_array_equal(ours.n_iter, plain.n_iter)
    for name, by in (("a", unit), ("b", 1.0), ("c", unit)):
        np.testing.assert_allclose(ours.params[name], plain.params[name] * by, rtol=1e-12)
        np.testing.assert_allclose(ours.stderr[name], plain.stderr[name] * by, rtol=1e-10)


@pytest.mark.parametrize("f", [EQUATION, decay])
def test_one_fit_of_many_and_poor_starts(f, y):
    units = np.array([1.0, 1e-200, 1e200])
    plain = gf.curve_fit(f, X, y, START, axis=-1)
    ours = gf.curve_fit(f, X, y * units[:, None], {"a": 2 * units, "b": 1.0, "c": 0.1 * units}, axis=-1)
    np.testing.assert_allclose(ours.params["a"], plain.params["a"] * units, rtol=1e-8)
    np.testing.assert_allclose(ours.params["b"], plain.params["b"], rtol=1e-8)
    np.testing.assert_allclose(ours.stderr["a"], plain.stderr["a"] * units, rtol=1e-6)
    assert "converged" in ours.summary()
    line = gf.curve_fit("a*x + c", X, (2 * X + 1) * 1e-200 + 1e-202 * np.sin(9 * X))  # starts at 1
    expected = np.polyfit(X, 2 * X + 1 + 1e-2 * np.sin(9 * X), 1) * 1e-200
    np.testing.assert_allclose(line.popt, expected, rtol=1e-9)


@pytest.mark.parametrize("f", [EQUATION, decay])
def test_starts_that_are_far_off_in_size(f, y):
    # b is damped by the derivative that it had where a was 2
    plain = gf.curve_fit(f, X, y[0], START)
    for unit in (1e-6, 1e-12, 1e-20, 1e-60, 1e-100):
        far = gf.curve_fit(f, X, y[0] * unit, START)
        assert far.success
        np.testing.assert_allclose(far.popt, plain.popt * [unit, 1, unit], rtol=1e-6)


def test_extreme_coordinates_and_sigma(y):
    plain = gf.curve_fit(EQUATION, X, y[0], START)
    for scale in (1e-200, 1e200):
        ours = gf.curve_fit(EQUATION, X * scale, y[0], {**START, "b": 1 / scale})
        np.testing.assert_allclose(ours.popt, plain.popt * [1, 1 / scale, 1], rtol=1e-9)
        ours = gf.curve_fit(EQUATION, X, y[0], START, sigma=scale)
        np.testing.assert_allclose(ours.cov, plain.cov, rtol=1e-9)
        two = gf.curve_fit(
            [EQUATION, "d*exp(-b*x)"], X, [y[0] * scale, 2 * scale * np.exp(-1.3 * X)],
            {"a": 2 * scale, "b": 1.0, "c": 0.1 * scale, "d": scale},
        )  # fmt: skip
        assert two.success and two.params["d"] == pytest.approx(2 * scale, rel=0.1)
    steep = gf.curve_fit("a*x + c", X, (2 * X + 1) * 1e300, sigma=1e290)  # moderate together, not their derivatives
    np.testing.assert_allclose(steep.popt, [2e300, 1e300], rtol=1e-6)
    nothing = gf.curve_fit("a*x", X, 0 * X)
    assert abs(nothing.params["a"]) < 1e-100 and nothing.success


def test_derivatives_of_extreme_data(y):
    import torch

    t, u = (torch.tensor(y[0] * unit, requires_grad=True) for unit in (1.0, 1e-200))
    gf.curve_fit(EQUATION, X, t, START).popt[1].backward()
    gf.curve_fit(EQUATION, X, u, {"a": 2e-200, "b": 1.0, "c": 1e-201}).popt[1].backward()
    np.testing.assert_allclose(u.grad * 1e-200, t.grad, rtol=1e-6, atol=1e-9)


def test_fits_beside_extreme_ones_keep_their_bits(y):
    for f in (EQUATION, decay):
        for loss in ("linear", "huber"):
            plain = gf.curve_fit(f, X, y, START, axis=-1, loss=loss)
            more = np.concatenate([y, y[:1] * 2.0**-700, 0 * y[:1], np.full((1, len(X)), np.nan)])
            ours = gf.curve_fit(f, X, more, START, axis=-1, loss=loss)
            np.testing.assert_array_equal(ours.popt[:3], plain.popt)
            np.testing.assert_array_equal(ours.cov[:3], plain.cov)
            np.testing.assert_array_equal(ours.chi2[:3], plain.chi2)
            np.testing.assert_array_equal(ours.r2[:3], plain.r2)
            assert list(ours.status[[0, 1, 2, 5]]) == [1, 1, 1, 7]
            assert ours.params["a"][3] * 2.0**700 == pytest.approx(plain.params["a"][0], rel=1e-4)


def test_no_more_steps_than_asked_for(y):
    """Also of fits that begin anew."""
    far = gf.curve_fit(EQUATION, X, y * 1e-20, START, axis=-1)
    assert np.all(far.success)
    for maxiter in (3, int(far.n_iter.max()) - 1):
        few = gf.curve_fit(EQUATION, X, y * 1e-20, START, axis=-1, maxiter=maxiter)
        assert np.all(few.n_iter <= maxiter) and not np.all(few.success)


@pytest.mark.parametrize(("power", "loss"), [(-660, "huber"), (660, "huber"), (-310, "cauchy"), (310, "cauchy")])
def test_derivatives_of_robust_fits_in_other_units(power, loss):
    import torch

    x, found = np.linspace(0, 3, 30), []
    for unit in (1.0, 2.0**power):
        y = torch.tensor((2 * np.exp(-x) + 0.05 * np.cos(9 * x)) * unit, requires_grad=True)
        fit = gf.curve_fit("a*exp(-b*x)", x, y, {"a": 1.5 * unit, "b": 0.7}, loss=(loss, 0.1 * unit))
        (slope,) = torch.autograd.grad(fit.params["b"], y)
        found.append((float(fit.params["b"].detach()), slope.numpy() * unit))
    np.testing.assert_allclose(found[1][0], found[0][0], rtol=1e-9)
    if abs(power) < 600:
        np.testing.assert_allclose(found[1][1], found[0][1], rtol=1e-6, atol=1e-9)
