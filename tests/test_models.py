"""Ready models: what they are worth at a point, what they say, and start values from which a fit finds the optimum."""

import doctest
import warnings

import numpy as np
import pytest
from scipy.optimize import OptimizeWarning, curve_fit

import gridfield as gf
from gridfield import models
from gridfield.models import MADE, Model

FIXED = [m for m in vars(models).values() if isinstance(m, Model)]


def example_count(thing, name):
    test = doctest.DocTestParser().get_doctest(thing.__doc__, {}, name, None, None)
    assert doctest.DocTestRunner().run(test).failed == 0
    return len(test.examples)


def test_each_explains_itself():
    assert len(FIXED) == 13
    for model in FIXED:
        assert example_count(model, model.name) >= 2
        assert model.name in models.__all__ and all(f"{p}" in model.__doc__ for p in model.parameters)
        assert set(model.units) == set(model.parameters) and model.variables
        assert model.equation.split(model.variables)[0] == model.variables
        assert set(model.equation.split(model.variables)[1]) == set(model.parameters)


def test_named():
    for model in FIXED:
        assert models.named(model.name) is model
    assert set(MADE) | {m.name for m in FIXED} | {"Model", "named"} == set(models.__all__)
    assert models.named(" polynomial(2, 3) ").parameters == models.polynomial(2, 3).parameters
    assert models.named("t1_recovery('saturation')").parameters == ("m0", "t1")
    assert models.named("t1_recovery").parameters == ("m0", "t1", "inversion")
    for text in ("a*x + b", "gaussian + b", "gauss", "gaussian(3)", "x", "", "exp(x)", "__import__('os')"):
        assert models.named(text) is None
    for text, message in (("polynomial", "needs a degree"), ("polynomial(x)", "plain numbers"),
                          ("polynomial(-1)", "degree should be"), ("polynomial(2, ndim=2)", "plain numbers"),
                          ("t1_recovery('other')", "kind should be"), ("exponential_decay(9)", "n_terms")):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            models.named(text)
    with pytest.raises(ValueError, match="over 500"):
        models.polynomial(40, 3)
    with pytest.raises(TypeError, match="missing or unknown: offset"):
        models.gaussian(0.0, amplitude=1, center=0, sigma=1)
    with pytest.raises(TypeError, match="1 coordinates given, expected 2"):
        models.gaussian_2d(0.0, amplitude=1)


def test_formulas():
    x = np.linspace(-3, 5, 31)
    y = np.linspace(0, 2, 31)
    got = models.gaussian_2d(x, y, amplitude=2, center_x=1, center_y=0.5, sigma_x=2, sigma_y=0.7, theta=0.3, offset=1)
    turn = np.array([[np.cos(0.3), np.sin(0.3)], [-np.sin(0.3), np.cos(0.3)]])
    u, v = turn @ np.stack([x - 1, y - 0.5])
    np.testing.assert_allclose(got, 2 * np.exp(-(u**2) / 8 - v**2 / 0.98) + 1)
    poly = models.polynomial(3, 2)
    c = dict(zip(poly.parameters, np.arange(1.0, 11), strict=True))
    expected = sum(c[f"c{i}{j}"] * x**i * y**j for i in range(4) for j in range(4 - i))
    np.testing.assert_allclose(poly(x, y, **c), expected, atol=1e-9)
    assert len(models.polynomial(2, 5).parameters) == 21 and models.polynomial(2, 5).variables[-1] == "x4"
    assert models.polynomial(11, 2).parameters[-1] == "c0_11"
    t = np.linspace(0, 3, 9)
    np.testing.assert_allclose(models.t1_recovery(magnitude=True)(t, m0=2, t1=1.5, inversion=1.9),
                               np.abs(2 * (1 - 1.9 * np.exp(-t / 1.5))))  # fmt: skip
    half = models.moffat(np.sqrt(2 ** (1 / 3) - 1) * 2, amplitude=2, center=0, alpha=2, beta=3, offset=0)
    np.testing.assert_allclose(half, 1)


# ---- start values
rng = np.random.default_rng(0)
U = rng.uniform


def signed(low, high):
    return U(low, high) * rng.choice([-1, 1])


def peak(*names):
    """1-D: a peak with a tenth of its height as noise, 2 to 20 % of the range wide."""

    def draw():
        width, lo, span = 10 ** U(-1.7, -0.7), U(-10, 10), 10 ** U(-2, 3)
        height = signed(0.5, 5)
        full = {"amplitude": height, "center": lo + span * U(0.1, 0.9), "offset": U(-3, 3), "beta": U(1.5, 4)}
        full |= {"sigma": width * span, "alpha": width * span, "gamma": width * span / 2}
        full |= {"area": 3 * height * width * span}
        return [np.linspace(lo, lo + span, 200)], {n: full[n] for n in names}, abs(height) * 0.1

    return draw


def decay(model, fraction, noise, first=0.0):
    def draw():
        span, height = 10 ** U(0, 3), U(1, 10)
        full = {"m0": height, "amplitude": height, "offset": U(-3, 3), "inversion": U(1.7, 2)}
        known = {n: full.get(n, span * 10 ** U(*fraction)) for n in model.parameters}
        return [np.linspace(first * span, span, 40)], known, noise * height

    return draw


def two_decays():
    tau, span = 10 ** U(-1.3, -0.8), 10 ** U(-2, 3)
    known = {
        "amplitude_1": U(1, 5),
        "tau_1": tau * span,
        "amplitude_2": U(1, 5),
        "tau_2": tau * span * U(3, 6),
        "offset": 1,
    }
    return [np.linspace(0, span, 200)], known, 0.01


def wave():
    span, lo, height = 10 ** U(-1, 2), U(-5, 5), U(0.5, 3)
    known = {"amplitude": height, "frequency": U(0.5, 40) / span, "phase": U(-3, 3), "offset": U(-2, 2)}
    return [np.sort(lo + span * U(0, 1, 200))], known, 0.3 * height


def step():
    span, lo, lower = 10 ** U(-1, 2), U(-5, 5), U(-3, 3)
    height = signed(0.5, 3)
    known = {
        "lower": lower,
        "upper": lower + height,
        "center": lo + span * U(0.2, 0.8),
        "width": span * 10 ** U(-2, -0.9),
    }
    return [np.linspace(lo, lo + span, 80)], known, 0.07 * abs(height)


def dose():
    known = {"bottom": U(0, 1), "top": U(2, 4), "ec50": 10 ** U(-1, 1), "hill": signed(0.6, 3)}
    return [np.tile(np.r_[0, np.geomspace(0.01, 100, 12)], 3)], known, 0.1


def powers():
    known = {"amplitude": U(0.5, 5), "exponent": U(-2.5, 3)}
    x = np.linspace(0.1, 10 ** U(0, 1.5), 50)
    return [x], known, 0.03 * np.median(known["amplitude"] * x ** known["exponent"])


def image(round_one, noise=0.1):
    def draw():
        x = np.meshgrid(np.arange(40.0), np.arange(50.0), indexing="ij")
        known = {"amplitude": signed(1, 5), "center_x": U(8, 32), "center_y": U(8, 42)}
        if round_one:
            known |= {"alpha": U(2, 7), "beta": U(1.5, 4.5)}
        else:
            known |= {"sigma_x": U(1.5, 7), "sigma_y": U(1.5, 7), "theta": U(-0.7, 0.7)}
        return [v.ravel() for v in x], {**known, "offset": U(-3, 3)}, noise * abs(known["amplitude"])

    return draw


def volume():
    x = np.meshgrid(*[np.arange(14.0)] * 3, indexing="ij")
    known = {"amplitude": U(1, 5), **{f"center_{a}": U(3, 10) for a in "xyz"}, **{f"sigma_{a}": U(1, 3) for a in "xyz"}}
    return [v.ravel() for v in x], {**known, "offset": U(-2, 2)}, 0.1 * known["amplitude"]


def surface(model):
    def draw():
        return [U(-2, 2, 300) for _ in model.variables], dict.fromkeys(model.parameters, U(-2, 2)), 0.1

    return draw


M = models
DRAWS = {
    "gaussian": (M.gaussian, peak("amplitude", "center", "sigma", "offset")),
    "lorentzian": (M.lorentzian, peak("amplitude", "center", "gamma", "offset")),
    "voigt": (M.voigt, peak("area", "center", "sigma", "gamma", "offset")),
    "moffat": (M.moffat, peak("amplitude", "center", "alpha", "beta", "offset")),
    "decay": (M.exponential_decay(), decay(M.exponential_decay(), (-1, 0.5), 0.05)),
    "decays": (M.exponential_decay(2), two_decays),
    "inversion": (M.t1_recovery(), decay(M.t1_recovery(), (-0.9, 0), 0.02, 0.01)),
    "saturation": (M.t1_recovery("saturation"), decay(M.t1_recovery("saturation"), (-0.9, 0), 0.02, 0.01)),
    "magnitude": (M.t1_recovery(magnitude=True), decay(M.t1_recovery(), (-0.9, 0), 0.02, 0.01)),
    "t2": (M.t2_decay, decay(M.t2_decay, (-0.8, 0.3), 0.03, 0.05)),
    "t2_star": (M.t2_star, decay(M.t2_star, (-0.8, 0.3), 0.03, 0.05)),
    "sinusoid": (M.sinusoid, wave),
    "sigmoid": (M.sigmoid, step),
    "dose_response": (M.dose_response, dose),
    "power_law": (M.power_law, powers),
    "polynomial": (M.polynomial(3, 2), surface(M.polynomial(3, 2))),
    "gaussian_2d": (M.gaussian_2d, image(False)),
    "gaussian_2d, noisy": (M.gaussian_2d, image(False, 0.25)),
    "moffat_2d": (M.moffat_2d, image(True)),
    "gaussian_3d": (M.gaussian_3d, volume),
}


def found(model, coords, y, start):
    """What is left after a fit from there."""

    def f(x, *p):
        return np.broadcast_to(model(*x, **dict(zip(model.parameters, p, strict=True))), y.shape)

    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore", OptimizeWarning)
        try:
            p, _ = curve_fit(f, coords, y, start, maxfev=2000)
        except RuntimeError:
            return np.inf
    return float(((f(coords, *p) - y) ** 2).sum())


@pytest.mark.parametrize("name", DRAWS)
def test_a_fit_from_the_guess_finds_the_optimum(name):
    model, draw = DRAWS[name]
    count, good = (8 if "d" in name[-9:] and len(model.variables) > 1 else 25), 0
    for _ in range(count):
        coords, known, noise = draw()
        clean = np.broadcast_to(model(*coords, **known), coords[0].shape)
        y = clean + noise * rng.normal(size=clean.shape)
        start = model.guess(coords, y[None], None)
        assert start.shape == (1, len(model.parameters)) and np.isfinite(start).all()
        best = found(model, coords, y, [known[p] for p in model.parameters])
        good += found(model, coords, y, start[0]) <= 1.001 * best
    assert good >= 0.95 * count - 1  # measured over 100 draws each (images 40): 100 %


@pytest.mark.parametrize("name", DRAWS)
def test_guesses_of_many_are_those_of_each(name):
    model, draw = DRAWS[name]
    coords, known, noise = draw()
    clean = np.broadcast_to(model(*coords, **known), coords[0].shape)
    y = clean + noise * rng.normal(size=(4, clean.size))
    y[1, ::7] = np.nan
    y[2] = np.nan
    weight = np.ones(y.shape)
    weight[3, ::5] = 0
    many = model.guess(coords, y, weight)
    assert np.isnan(many[2]).all() and np.isfinite(many[[0, 1, 3]]).all()
    for k in (0, 1, 3):
        one = model.guess([x[None] for x in coords], y[k : k + 1], weight[k : k + 1])
        np.testing.assert_allclose(one[0], many[k], rtol=1e-6, atol=1e-9)
    apart = model.guess([np.stack([x] * 4) for x in coords], y, None)  # coordinates of their own
    np.testing.assert_allclose(apart[[0, 1]], model.guess(coords, y, None)[[0, 1]], rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("name", DRAWS)
def test_guesses_of_odd_data(name):
    model, draw = DRAWS[name]
    coords, _, _ = draw()
    d = len(coords)
    for y in (np.zeros(coords[0].size), np.ones(coords[0].size), np.full(coords[0].size, 1e300)):
        assert model.guess(coords, y[None], None).shape == (1, len(model.parameters))
    for n in (1, 2, 3):
        assert np.isfinite(model.guess([np.arange(1.0, n + 1)] * d, np.arange(1.0, n + 1)[None], None)).all()
    assert np.isfinite(model.guess([np.ones(5)] * d, np.arange(5.0)[None], None)).all()
    y = np.ones((1, coords[0].size))
    y[0, 3] = np.inf
    assert np.isfinite(model.guess(coords, y, None)).all()


def test_spots_of_nothing_but_noise():
    """What is above half the height may lie on a line, which has no area."""
    x = [v.ravel() for v in np.meshgrid(np.arange(11.0), np.arange(9.0), indexing="ij")]
    y = np.random.default_rng(0).normal(size=(2000, 99))
    for model in (models.gaussian_2d, models.moffat_2d):
        assert np.isfinite(model.guess(x, y, None)).all()


def test_on_torch():
    torch = pytest.importorskip("torch")
    x = torch.linspace(-1, 1, 5, dtype=torch.float64, requires_grad=True)
    y = gf.models.voigt(x, area=1, center=0.1, sigma=torch.tensor(0.5, dtype=torch.float64), gamma=0.2, offset=0.0)
    (grad,) = torch.autograd.grad(y.sum(), x)
    assert y.dtype == torch.float64 and torch.isfinite(grad).all()
