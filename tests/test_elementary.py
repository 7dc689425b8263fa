"""The machine's own elementary functions: to the last places, at special points, and with the JIT off."""

import os
import subprocess
import sys

import numpy as np
import pytest
import scipy.special

from gridfield import equation

LONG = np.longdouble
N = 100_000
SPECIAL = [0.0, np.inf, -np.inf, np.nan, 5e-324, -5e-324, 2.2e-308, 1e308, -1e308, 1.0, -1.0, 0.5, -0.5, 2.0, 710.0]
SPECIAL += [-746.0, 1e22, -1e22, 1e6, 1e6 + 1, 2.0**1000, np.pi, -3.0, 2.5]

needs_long = pytest.mark.skipif(np.finfo(LONG).nmant < 63, reason="long double is float64 here")


def run(text, **values):
    """An equation of variables alone, compiled."""
    passes = equation.parse(text, tuple(values)).passes(tuple(values), ())
    columns = [np.asarray(v, float) for v in values.values()]
    return passes.rows(columns, None, np.zeros((1, 0)), 0, 0, len(columns[0]))[0]


def ulps(got, expected):
    """The largest error in units of the last place of the result."""
    expected = np.asarray(expected, LONG)
    unit = np.maximum(np.spacing(np.abs(expected.astype(float))), 5e-324)
    off = np.abs(np.asarray(got, LONG) - expected) / unit.astype(LONG)
    return float(off[np.isfinite(expected.astype(float))].max())


def uniform(low, high, seed=0, n=N):
    return np.random.default_rng(seed).uniform(low, high, n)


CASES = {  # function, points, at most so many units of the last place (measured: 0.97, 0.94, 0.54, ...)
    "exp": (np.exp, [uniform(-745, 709), uniform(-1, 1), uniform(-745, -700)], 1.0),
    "log": (np.log, [10 ** uniform(-308, 308), uniform(0.5, 2), 1 + uniform(-1, 1) * 1e-5, 10 ** uniform(-323, -300)],
            0.6),
    "log2": (np.log2, [10 ** uniform(-300, 300)], 2.0),
    "log10": (np.log10, [10 ** uniform(-300, 300)], 2.0),
    "sin": (np.sin, [uniform(-10, 10), uniform(-1e6, 1e6), np.arange(N) * np.pi, uniform(-1e300, 1e300, n=1000)], 1.0),
    "cos": (np.cos, [uniform(-10, 10), uniform(-1e6, 1e6), np.arange(N) * np.pi + np.pi / 2], 1.0),
    "tan": (np.tan, [uniform(-10, 10)], 2.5),
    "tanh": (np.tanh, [uniform(-25, 25), uniform(-1, 1), 10 ** uniform(-300, 0)], 3.0),
    "sinh": (np.sinh, [uniform(-710, 710), uniform(-1, 1), uniform(-3, 3)], 3.0),
    "cosh": (np.cosh, [uniform(-710, 710), uniform(-1, 1)], 2.0),
    "atan": (np.arctan, [uniform(-3, 3), 10 ** uniform(-300, 300)], 2.5),
    "asin": (np.arcsin, [uniform(-1, 1), 1 - 10 ** uniform(-16, 0)], 3.0),
    "acos": (np.arccos, [uniform(-1, 1), 1 - 10 ** uniform(-16, 0)], 3.0),
    "sqrt": (np.sqrt, [10 ** uniform(-300, 300)], 0.51),
}  # fmt: skip


@needs_long
@pytest.mark.parametrize("name", CASES)
def test_last_places(name):
    f, points, most = CASES[name]
    for x in points:
        assert ulps(run(f"{name}(x)", x=x), f(x.astype(LONG))) <= most


@pytest.mark.parametrize(("name", "most"), [("erf", 2.0), ("erfc", 5.0)])
def test_error_function(name, most):
    mpmath = pytest.importorskip("mpmath")
    with mpmath.workdps(40):
        for x in (
            uniform(-6, 6, n=1000),
            uniform(0.4, 1.2, n=1000),
            uniform(1, 26, n=1000),
            10 ** uniform(-300, 0, n=99),
        ):
            expected = [float(getattr(mpmath, name)(mpmath.mpf(float(v)))) for v in x]
            assert ulps(run(f"{name}(x)", x=x), expected) <= most


@needs_long
def test_power():
    for x, a in ((10 ** uniform(-30, 30), uniform(-10, 10, 1)), (uniform(0.5, 2), uniform(-300, 300, 1))):
        expected = x.astype(LONG) ** a.astype(LONG)
        inside = (expected < 1e300) & (expected > 1e-300)
        off = np.abs(run("x**a", x=x, a=a) - expected)[inside] / expected[inside]
        assert off.max() < 1e-14  # 7e-16 measured


@needs_long
def test_angle():
    y, x = uniform(-1, 1), uniform(-1, 1, 1)
    assert ulps(run("atan2(y, x)", y=y, x=x), np.arctan2(y.astype(LONG), x.astype(LONG))) <= 2


def same(got, expected, rtol=1e-14):
    np.testing.assert_allclose(got, expected, rtol=rtol, atol=0, equal_nan=True)


@pytest.mark.parametrize("name", [*CASES, "erf", "erfc", "sign", "abs"])
def test_special_points(name):
    x = np.array(SPECIAL)
    f = CASES[name][0] if name in CASES else getattr(scipy.special if "erf" in name else np, name)
    with np.errstate(all="ignore"):
        same(run(f"{name}(x)", x=x), f(x))


def test_special_powers():
    x, a = (v.ravel() for v in np.meshgrid(SPECIAL, [*SPECIAL, 3.0, -2.0, 4.0, 0.5 + 2**30]))
    with np.errstate(all="ignore"):
        expected = x**a
    got = run("x**a", x=x, a=a)
    one = np.abs(x) == 1  # NumPy: 1 to the power of NaN or infinity is 1; here it is NaN
    same(got[~one], expected[~one])
    same(got[one & np.isfinite(a)], expected[one & np.isfinite(a)])


def test_voigt_profile():
    n = 20_000
    x, s, g = 10 ** uniform(-3, 3, n=n), 10 ** uniform(-2, 1, 1, n=n), 10 ** uniform(-8, 2, 2, n=n)
    got, expected = run("voigt_profile(x, s, g)", x=x, s=s, g=g), scipy.special.voigt_profile(x, s, g)
    z = (x + 1j * g) / (s * np.sqrt(2))
    size = np.abs(scipy.special.wofz(z)) / (s * np.sqrt(2 * np.pi))
    assert (np.abs(got - expected) / size).max() < 5e-14
    wing = np.abs(z) > 8
    assert (np.abs(got - expected) / expected)[wing].max() < 1e-13


PLAIN = """
import numba
import numpy as np
import scipy.special
from gridfield import equation
from gridfield.cpu.passes import Column

assert numba.config.DISABLE_JIT
rng = np.random.default_rng(0)
x, a = rng.uniform(0.1, 0.9, 40), rng.uniform(-3, 3, 40)
functions = {"exp": np.exp, "log": np.log, "log10": np.log10, "sin": np.sin, "cos": np.cos, "tan": np.tan,
             "tanh": np.tanh, "sinh": np.sinh, "cosh": np.cosh, "atan": np.arctan, "asin": np.arcsin,
             "acos": np.arccos, "sqrt": np.sqrt, "abs": np.abs, "sign": np.sign, "erf": scipy.special.erf,
             "erfc": scipy.special.erfc}
for name, f in functions.items():
    passes = equation.parse(f"{name}(x)").passes(("x",), ())
    got = passes.rows([x], None, np.zeros((1, 0)), 0, 0, 40)[0]
    np.testing.assert_allclose(got, f(x), rtol=1e-14, err_msg=name)
got = equation.parse("x**a").passes(("x", "a"), ()).rows([x, a], None, np.zeros((1, 0)), 0, 0, 40)[0]
np.testing.assert_allclose(got, x**a, rtol=1e-14)
got = equation.parse("sin(1e7*x)").passes(("x",), ()).rows([x], None, np.zeros((1, 0)), 0, 0, 40)[0]
np.testing.assert_allclose(got, np.sin(1e7 * x), rtol=1e-12)

eq = equation.parse("a*exp(-x/t)+b*voigt_profile(x-c,s,g)+where(x<d,0,1)*max(x,a)")
variables, parameters = eq.split(("x",))
passes, p = eq.passes(variables, parameters), len(parameters)
y, params = rng.normal(size=(3, 40)), rng.uniform(0.5, 1.5, (3, p))
y[1, 3] = np.nan
A, g, cost = np.zeros((3, p, p)), np.zeros((3, p)), np.zeros(3)
for loss in ("linear", "huber", "soft_l1", "cauchy"):
    passes.normal([x], y, None, params, np.arange(3), (loss, 0.7), A, g, cost)
    assert np.isfinite(A).all() and (cost > 0).all()
f, J = passes.rows([Column(x, 2)], None, params, 0, 0, 80)
np.testing.assert_allclose(J.T @ J, J.T @ J)
"""


def test_plain_python():
    env = {**os.environ, "NUMBA_DISABLE_JIT": "1"}
    done = subprocess.run([sys.executable, "-c", PLAIN], env=env, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
