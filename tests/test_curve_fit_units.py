"""Units of parameters: by the rule of a ready model, of an equation by what its dimensions determine."""

import numpy as np
import pytest
import xarray as xr

import gridfield as gf

T = np.linspace(0.1, 4, 30)


def line(equation, y="mV", t="s", **given):
    values = xr.DataArray(
        2.5 * np.exp(-1.3 * T) + 0.5,
        {"t": ("t", T, {"units": t} if t else {})},
        ("t",),
        attrs={"units": y} if y else {},
    )
    return gf.curve_fit(equation, None, values, **given).units


@pytest.mark.parametrize(
    ("equation", "expected"),
    [
        ("a*exp(-t/tau) + b", {"a": "mV", "tau": "s", "b": "mV"}),
        ("a*exp(-k*t) + b", {"a": "mV", "k": "1/s", "b": "mV"}),
        ("a*t**2 + b*t + c", {"a": "mV/s**2", "b": "mV/s", "c": "mV"}),
        ("A*exp(-(t - t0)**2/(2*s**2)) + b", {"A": "mV", "t0": "s", "s": "s", "b": "mV"}),
        ("A*sin(w*t + p)", {"A": "mV", "w": "1/s"}),
        ("A/(1 + (t/t0)**n)", {}),  # nor of this, unless 1 is taken for a pure number
        ("A*t**n", {}),  # of the unit of A to the power of a parameter nobody knows
        ("a*b*t", {}),  # only of the product
        ("sqrt(a*t) + b", {"a": "mV**2/s", "b": "mV"}),
        ("where(t < t0, a*t, b)", {"t0": "s", "a": "mV/s", "b": "mV"}),
        ("max(a*t, b) + 1", {"a": "mV/s", "b": "mV"}),
        ("1 - exp(-t/tau)", {}),  # no mV: a contradiction
        ("a*log(t/t0) + hypot(b, c*t)", {"a": "mV", "t0": "s", "b": "mV", "c": "mV/s"}),
        ("a*atan2(t, t0) + b*heaviside(t - u) + abs(c)", {"a": "mV", "t0": "s", "b": "mV", "u": "s", "c": "mV"}),
        ("a*voigt_profile(t - t0, s, g)", {"a": "mV*s", "t0": "s", "s": "s", "g": "s"}),
        ("exponential_decay", {"amplitude": "mV", "tau": "s", "offset": "mV"}),
        ("sinusoid", {"amplitude": "mV", "frequency": "1/s", "phase": "rad", "offset": "mV"}),
    ],
)
def test_of_an_equation(equation, expected):
    assert line(equation, maxiter=2) == expected


def test_where_units_are_not_known():
    assert line("a*exp(-t/tau) + b", t=None) == {"a": "mV", "b": "mV"}
    assert line("a*exp(-t/tau) + b", y=None) == {"tau": "s"}
    assert line("a*exp(-t/tau) + b", y=None, t=None) == {}
    assert line("a*exp(-t/tau) + b*t", y="1", t="s") == {"tau": "s", "b": "1/s"}
    assert line("a*t + b", y="m/s", t="km h") == {"a": "(m/s)/(km h)", "b": "m/s"}
    assert line("sinusoid", t="m/s")["frequency"] == "1/(m/s)"
    assert gf.curve_fit("a*x + b", T, 2 * T).units == {}


def test_of_images_and_several_models():
    image = xr.DataArray(
        np.exp(-((np.arange(12) - 5.0) ** 2 + (np.arange(10)[:, None] - 4.0) ** 2) / 8),
        {"y": ("y", np.arange(10.0), {"units": "um"}), "x": ("x", np.arange(12.0), {"units": "um"})}, ("y", "x"),
        attrs={"units": "counts"},
    )  # fmt: skip
    peak = "A*exp(-((x-x0)**2 + (y-y0)**2)/(2*s**2)) + b"
    result = gf.curve_fit(peak, None, image, {"A": 1.0, "x0": 5.0, "y0": 4.0, "s": 2.0, "b": 0.0})
    assert result.units == {"A": "counts", "x0": "um", "y0": "um", "s": "um", "b": "counts"}
    assert result.to_xarray().s.units == "um" and " um" in result.summary()
    image.y.attrs["units"] = "nm"  # which are added to um
    assert gf.curve_fit(peak, None, image, {"A": 1.0, "x0": 5.0, "y0": 4.0, "s": 2.0, "b": 0.0}).units == {}
    y1 = xr.DataArray(np.exp(-T), {"t": ("t", T, {"units": "s"})}, ("t",), attrs={"units": "V"})
    two = gf.curve_fit(["a*exp(-k*t)", "g*a*exp(-k*t)"], [{"t": y1.t}, {"t": y1.t}], [y1, y1.copy()])
    assert two.units == {"a": "V", "k": "1/s"}


def test_pint():
    pint = pytest.importorskip("pint")
    u = pint.UnitRegistry()
    y, t = (2.5 * np.exp(-1.3 * T) + 0.5) * u.mV, T * u.s
    for coords in (t, {"t": t}):
        result = gf.curve_fit("a*exp(-t/tau) + b", coords, y, sigma=np.full(30, 1e-5) * u.V)
        assert result.units == {"a": "millivolt", "tau": "second", "b": "millivolt"}
        np.testing.assert_allclose(result.popt, [2.5, 1 / 1.3, 0.5], rtol=1e-6)
        assert result.chi2 == pytest.approx(
            gf.curve_fit("a*exp(-t/tau) + b", T, y.magnitude, sigma=0.01).chi2, abs=1e-9
        )
    pair = gf.curve_fit("a*x + b*y", (t, 2 * T**2 * u.m), y)
    assert pair.units == {"a": "millivolt/second", "b": "millivolt/meter"}
    assert isinstance(pair.residual, np.ndarray)
