"""Ready models for `curve_fit`: an equation, what its parameters mean, and where to start.

`gf.models.gaussian` and its like are `Model` objects; those with a choice to make (`polynomial`, `exponential_decay`,
`t1_recovery`) are functions that return one. A model can also be named: ``gf.curve_fit("gaussian_2d", ...)``.
"""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import dispatch, guesses
from .equation import Equation, parse

Array = np.ndarray[Any, Any]
Guess = Callable[[Sequence[Array], Array, Any], Array]

__all__ = [
    "Model",
    "dose_response",
    "exponential_decay",
    "gaussian",
    "gaussian_2d",
    "gaussian_3d",
    "lorentzian",
    "moffat",
    "moffat_2d",
    "named",
    "polynomial",
    "power_law",
    "sigmoid",
    "sinusoid",
    "t1_recovery",
    "t2_decay",
    "t2_star",
    "voigt",
]


@dataclass(frozen=True, eq=False)
class Model:
    """A formula with named parameters and a start value for each; what `curve_fit` takes as its first argument.

    Parameters
    ----------
    name : str
        What it is called in summaries.
    equation : Equation
        The formula.
    variables : tuple of str
        The coordinates in it, in the order of a grid's axes.
    parameters : tuple of str
        The other names, in the order of results.
    guess : callable
        ``guess(coords, y, weight) -> (fits, parameters)``: start values for many fits at once. coords: for each
        variable an array (fits or 1, n) or (n,); y (fits, n), NaN where there is nothing; weight the same or None.
    units : mapping
        The unit of each parameter, in those of data and coordinates: "y", "x", "1/x", "rad", "1".

    Examples
    --------
    >>> import numpy as np
    >>> import gridfield as gf
    >>> model = gf.models.gaussian
    >>> model.parameters
    ('amplitude', 'center', 'sigma', 'offset')
    >>> x = np.linspace(-3.0, 3.0, 61)
    >>> y = model(x, amplitude=2.0, center=0.5, sigma=0.4, offset=1.0)
    >>> model.guess([x], y[None], None).shape
    (1, 4)
    """

    name: str
    equation: Equation
    variables: tuple[str, ...]
    parameters: tuple[str, ...]
    guess: Guess
    units: Mapping[str, str]

    def __repr__(self) -> str:
        return f"Model({self.name!r}: {self.equation.text})"

    def __call__(self, *coords: Any, **params: Any) -> Any:
        """The value at coordinates, on arrays of any framework, broadcast.

        Parameters
        ----------
        *coords : array_like
            One for each variable.
        **params : float or array_like
            The parameters by name.

        Returns
        -------
        array

        Raises
        ------
        TypeError
            If a coordinate or parameter is missing or unknown.

        Examples
        --------
        >>> import gridfield as gf
        >>> float(gf.models.power_law(3.0, amplitude=2.0, exponent=2.0))
        18.0
        """
        if len(coords) != len(self.variables):
            raise TypeError(f"gf.models.{self.name}: {len(coords)} coordinates given, expected {len(self.variables)}")
        if set(params) != set(self.parameters):
            wrong = sorted(set(params) ^ set(self.parameters))
            raise TypeError(
                f"gf.models.{self.name}: expected the parameters {', '.join(self.parameters)}; missing or unknown: "
                f"{', '.join(wrong)}"
            )
        values = dict(zip(self.variables, coords, strict=True)) | params
        F = dispatch.face(f"gf.models.{self.name}", **values)
        if F.name != "numpy":
            values = {k: v if hasattr(v, "shape") else float(v) for k, v in values.items()}
        return self.equation.evaluate(F, values)


def _model(
    name: str, text: str, guess: Guess, units: Mapping[str, str], variables: tuple[str, ...] = ("x",), doc: str = ""
) -> Model:
    equation = parse(text, variables, where=f"gf.models.{name}")
    model = Model(name, equation, variables, tuple(units), guess, units)
    if doc:
        object.__setattr__(model, "__doc__", doc)
    return model


def _columns(*columns: Array) -> Array:
    return np.stack(columns, -1)


# ---- peaks
def _peak(shape: Callable[[Array], Array]) -> Guess:
    guess = guesses.peak(shape)
    return lambda coords, y, weight: _columns(*guess(coords, y, weight))


def _bell(u: Array) -> Array:
    return np.exp(-0.5 * u * u)


PEAK = {"amplitude": "y", "center": "x", "sigma": "x", "offset": "y"}

gaussian = _model(
    "gaussian", "amplitude*exp(-(x - center)**2/(2*sigma**2)) + offset", _peak(_bell), PEAK,
    doc="""A Gaussian peak on a constant.

    ``amplitude * exp(-(x - center)**2 / (2 sigma**2)) + offset``; the full width at half height is 2.355 sigma. The
    sign of sigma does not matter.

    amplitude : unit of y, height above offset (negative: a dip)
    center, sigma : unit of x
    offset : unit of y

    Examples
    --------
    >>> import gridfield as gf
    >>> float(gf.models.gaussian(0.0, amplitude=2.0, center=0.0, sigma=1.0, offset=0.5))
    2.5
    """,
)  # fmt: skip


def _lorentzian_shape(u: Array) -> Array:
    return 1 / (1 + u * u)


lorentzian = _model(
    "lorentzian", "amplitude/(1 + ((x - center)/gamma)**2) + offset", _peak(_lorentzian_shape),
    {"amplitude": "y", "center": "x", "gamma": "x", "offset": "y"},
    doc="""A Lorentzian (Cauchy) peak on a constant.

    ``amplitude / (1 + ((x - center) / gamma)**2) + offset``; gamma is half the width at half height.

    amplitude : unit of y, height above offset
    center, gamma : unit of x
    offset : unit of y

    Examples
    --------
    >>> import gridfield as gf
    >>> float(gf.models.lorentzian(1.0, amplitude=2.0, center=0.0, gamma=1.0, offset=0.0))
    1.0
    """,
)  # fmt: skip


def _voigt_guess(coords: Sequence[Array], y: Array, weight: Any) -> Array:
    # half Gaussian, half Lorentzian: of a width w at half height both have about w / 1.64
    height, center, width, offset = guesses.peak(lambda u: 0.5 * _bell(u) + 0.5 / (1 + u * u / 1.39))(coords, y, weight)
    sigma, gamma = 0.7 * width, 0.8 * width
    peak = _VOIGT_PEAK * height * sigma  # area of a Voigt of that height, gamma / sigma being fixed
    return _columns(peak, center, sigma, gamma, offset)


_VOIGT_PEAK = float(np.sqrt(2 * np.pi)) / 0.4559  # Re w(i gamma / (sigma sqrt 2)) at gamma / sigma = 8 / 7

voigt = _model(
    "voigt", "area*voigt_profile(x - center, sigma, gamma) + offset", _voigt_guess,
    {"area": "y x", "center": "x", "sigma": "x", "gamma": "x", "offset": "y"},
    doc="""A Voigt peak, a Gaussian convolved with a Lorentzian, on a constant.

    ``area * Re w((x - center + i gamma) / (sigma sqrt(2))) / (sigma sqrt(2 pi)) + offset`` with the Faddeeva function w
    (Olver et al., NIST Handbook of Mathematical Functions, 7.19). Its error is at most 5e-14 |w|: to 13 digits of the
    peak, and in its wings, beyond 8 sqrt(2) sigma, to 13 digits of the value. Signs of sigma and gamma do not matter.

    area : unit of y times unit of x
    center : unit of x
    sigma : unit of x, of the Gaussian
    gamma : unit of x, half width at half height of the Lorentzian
    offset : unit of y

    Examples
    --------
    >>> import gridfield as gf
    >>> round(float(gf.models.voigt(0.0, area=1.0, center=0.0, sigma=1.0, gamma=1.0, offset=0.0)), 6)
    0.208709
    """,
)  # fmt: skip


def _moffat_guess(coords: Sequence[Array], y: Array, weight: Any) -> Array:
    height, center, alpha, offset = guesses.peak(lambda u: (1 + u * u) ** -2.5)(coords, y, weight)
    return _columns(height, center, alpha, np.where(np.isnan(height), np.nan, 2.5), offset)


moffat = _model(
    "moffat", "amplitude*(1 + ((x - center)/alpha)**2)**(-beta) + offset", _moffat_guess,
    {"amplitude": "y", "center": "x", "alpha": "x", "beta": "1", "offset": "y"},
    doc="""A Moffat peak, the profile of a star, on a constant.

    ``amplitude * (1 + ((x - center) / alpha)**2)**(-beta) + offset`` (A. F. J. Moffat, Astron. Astrophys. 3 (1969),
    455-461); the full width at half height is 2 alpha sqrt(2**(1 / beta) - 1).

    amplitude : unit of y, height above offset
    center, alpha : unit of x
    beta : a number, 2.5 to 4.8 for stars
    offset : unit of y

    Examples
    --------
    >>> import gridfield as gf
    >>> float(gf.models.moffat(1.0, amplitude=4.0, center=0.0, alpha=1.0, beta=2.0, offset=0.0))
    1.0
    """,
)  # fmt: skip


def _spot_2d(coords: Sequence[Array], y: Array, weight: Any) -> Array:
    amplitude, center, cov, offset = guesses.spot(coords, y, weight)
    blank = np.where(np.isnan(offset), np.nan, 1.0)
    values, vectors = np.linalg.eigh(cov)
    # the axis that is nearer to x is sigma_x's: theta is between -45 and 45 degrees
    first = np.argmax(np.abs(vectors[:, 0]), 1)[:, None]
    along = np.take_along_axis(values, first, 1)[:, 0], np.take_along_axis(values, 1 - first, 1)[:, 0]
    axis = np.take_along_axis(vectors, first[:, None], 2)[..., 0]
    theta = np.arctan(axis[:, 1] / np.where(axis[:, 0] == 0, 1.0, axis[:, 0]))
    sigma = [np.sqrt(np.maximum(v, 1e-300)) for v in along]
    return _columns(amplitude, center[:, 0], center[:, 1], *sigma, theta, offset) * blank[:, None]


gaussian_2d = _model(
    "gaussian_2d",
    "amplitude*exp(-((cos(theta)*(x - center_x) + sin(theta)*(y - center_y))**2/(2*sigma_x**2)"
    " + (cos(theta)*(y - center_y) - sin(theta)*(x - center_x))**2/(2*sigma_y**2))) + offset",
    _spot_2d,
    {"amplitude": "y", "center_x": "x", "center_y": "x", "sigma_x": "x", "sigma_y": "x", "theta": "rad", "offset": "y"},
    ("x", "y"),
    doc="""A rotated Gaussian of two coordinates, on a constant.

    ``amplitude * exp(-u**2 / (2 sigma_x**2) - v**2 / (2 sigma_y**2)) + offset`` with u = cos(theta) (x - center_x) +
    sin(theta) (y - center_y) and v = cos(theta) (y - center_y) - sin(theta) (x - center_x). x runs along a grid's last
    axis (the columns of an image), y along the one before.

    amplitude, offset : unit of the data
    center_x, center_y, sigma_x, sigma_y : unit of the coordinates
    theta : radians, from the x axis towards the y axis; not defined for sigma_x = sigma_y

    Examples
    --------
    >>> import gridfield as gf
    >>> names = dict(center_x=1.0, center_y=2.0, sigma_x=1.0, sigma_y=3.0, theta=0.3, offset=0.5)
    >>> float(gf.models.gaussian_2d(1.0, 2.0, amplitude=2.0, **names))
    2.5
    """,
)


def _spot_3d(coords: Sequence[Array], y: Array, weight: Any) -> Array:
    amplitude, center, cov, offset = guesses.spot(coords, y, weight)
    sigma = np.sqrt(np.maximum(np.einsum("fii->fi", cov), 1e-300))
    return _columns(amplitude, *center.T, *sigma.T, offset) * np.where(np.isnan(offset), np.nan, 1.0)[:, None]


gaussian_3d = _model(
    "gaussian_3d",
    "amplitude*exp(-((x - center_x)**2/(2*sigma_x**2) + (y - center_y)**2/(2*sigma_y**2)"
    " + (z - center_z)**2/(2*sigma_z**2))) + offset",
    _spot_3d,
    {"amplitude": "y", "center_x": "x", "center_y": "x", "center_z": "x", "sigma_x": "x", "sigma_y": "x",
     "sigma_z": "x", "offset": "y"},
    ("x", "y", "z"),
    doc="""A Gaussian of three coordinates along their axes, on a constant.

    ``amplitude * exp(-sum_i (x_i - center_i)**2 / (2 sigma_i**2)) + offset``, the coordinates x, y, z being a grid's
    axes in order.

    amplitude, offset : unit of the data
    center_x, center_y, center_z, sigma_x, sigma_y, sigma_z : unit of the coordinates

    Examples
    --------
    >>> import gridfield as gf
    >>> names = dict(center_x=1, center_y=2, center_z=3, sigma_x=1, sigma_y=1, sigma_z=1, offset=0)
    >>> float(gf.models.gaussian_3d(1.0, 2.0, 3.0, amplitude=2.0, **names))
    2.0
    """,
)  # fmt: skip


def _moffat_2d_guess(coords: Sequence[Array], y: Array, weight: Any) -> Array:
    amplitude, center, cov, offset = guesses.spot(coords, y, weight)
    # the half width at half height is alpha sqrt(2**(1 / beta) - 1)
    alpha = np.sqrt(np.einsum("fii->f", cov) / 2 * guesses.HALF / (2**0.4 - 1))
    blank = np.where(np.isnan(offset), np.nan, 1.0)
    return _columns(amplitude, center[:, 0], center[:, 1], alpha * blank, 2.5 * blank, offset)


moffat_2d = _model(
    "moffat_2d", "amplitude*(1 + ((x - center_x)**2 + (y - center_y)**2)/alpha**2)**(-beta) + offset",
    _moffat_2d_guess,
    {"amplitude": "y", "center_x": "x", "center_y": "x", "alpha": "x", "beta": "1", "offset": "y"}, ("x", "y"),
    doc="""A round Moffat peak of two coordinates, a star in an image, on a constant.

    ``amplitude * (1 + ((x - center_x)**2 + (y - center_y)**2) / alpha**2)**(-beta) + offset``; see `moffat`.

    amplitude, offset : unit of the data
    center_x, center_y, alpha : unit of the coordinates
    beta : a number

    Examples
    --------
    >>> import gridfield as gf
    >>> float(gf.models.moffat_2d(0.0, 1.0, amplitude=4.0, center_x=0, center_y=0, alpha=1.0, beta=2.0, offset=0))
    1.0
    """,
)  # fmt: skip


# ---- curves
def exponential_decay(n_terms: int = 1, offset: bool = True) -> Model:
    """A sum of exponential decays.

    ``amplitude * exp(-x / tau) + offset``, or ``amplitude_1 * exp(-x / tau_1) + amplitude_2 * exp(-x / tau_2) + ... +
    offset`` of several terms, those of short tau first in the start values.

    Parameters
    ----------
    n_terms : int, default 1
        1 to 4. Each has an amplitude (unit of y) and a time constant tau (unit of x).
    offset : bool, default True
        Whether a constant is added (unit of y).

    Returns
    -------
    Model

    Raises
    ------
    ValueError
        If n_terms is not 1 to 4.

    Examples
    --------
    >>> import gridfield as gf
    >>> gf.models.exponential_decay().parameters
    ('amplitude', 'tau', 'offset')
    >>> gf.models.exponential_decay(2, offset=False).parameters
    ('amplitude_1', 'tau_1', 'amplitude_2', 'tau_2')
    """
    if isinstance(n_terms, bool) or not isinstance(n_terms, int) or not 1 <= n_terms <= 4:
        raise ValueError(f"gf.models.exponential_decay: n_terms should be an int from 1 to 4, got {n_terms!r}")
    ends = [""] if n_terms == 1 else [f"_{k + 1}" for k in range(n_terms)]
    text = " + ".join(f"amplitude{e}*exp(-x/tau{e})" for e in ends) + (" + offset" if offset else "")
    units = {k: u for e in ends for k, u in ((f"amplitude{e}", "y"), (f"tau{e}", "x"))} | (
        {"offset": "y"} if offset else {}
    )
    return _model("exponential_decay", text, guesses.exponentials(n_terms, bool(offset)), units)


def t1_recovery(kind: str = "inversion", magnitude: bool = False) -> Model:
    """Recovery of longitudinal magnetisation.

    "inversion": ``m0 * (1 - inversion * exp(-x / t1))``, inversion being 2 for a perfect pulse.
    "saturation": ``m0 * (1 - exp(-x / t1))``.

    Parameters
    ----------
    kind : {"inversion", "saturation"}
        What goes before.
    magnitude : bool, default False
        Whether the data are magnitudes: the absolute value of that.

    Returns
    -------
    Model
        With the parameters m0 (unit of y), t1 (unit of x, time after the pulse) and, for "inversion", inversion (a
        number).

    Raises
    ------
    ValueError
        If kind is neither.

    Examples
    --------
    >>> import gridfield as gf
    >>> gf.models.t1_recovery("saturation").parameters
    ('m0', 't1')
    >>> float(gf.models.t1_recovery()(0.0, m0=1.0, t1=2.0, inversion=2.0))
    -1.0
    """
    if kind not in ("inversion", "saturation"):
        raise ValueError(f"gf.models.t1_recovery: kind should be 'inversion' or 'saturation', got {kind!r}")
    inverted = kind == "inversion"
    text = f"m0*(1 - {'inversion*' * inverted}exp(-x/t1))"

    def guess(coords: Sequence[Array], y: Array, weight: Any) -> Array:
        if not inverted or magnitude:  # of a magnitude, the shape of a perfect pulse
            flip = 2.0 if inverted else 1.0
            linear, t1 = guesses.recovery(lambda u, t: [np.abs(1 - flip * np.exp(-u / t))], 1)(coords, y, weight)
            return _columns(linear[:, 0], t1, *([np.where(np.isnan(t1), np.nan, 2.0)] * inverted))
        linear, t1 = guesses.recovery(lambda u, t: [np.exp(-u / t), np.ones_like(u + t)], 2)(coords, y, weight)
        m0 = np.where(linear[:, 1] == 0, 1.0, linear[:, 1])
        return _columns(m0, t1, -linear[:, 0] / m0)

    units = {"m0": "y", "t1": "x"} | ({"inversion": "1"} if inverted else {})
    return _model("t1_recovery", f"abs({text})" if magnitude else text, guess, units)


def _decay(name: str, constant: str, what: str) -> Model:
    def guess(coords: Sequence[Array], y: Array, weight: Any) -> Array:
        linear, t = guesses.recovery(lambda u, t: [np.exp(-np.clip(u / t, -300, None))], 1)(coords, y, weight)
        return _columns(linear[:, 0], t)

    return _model(
        name, f"m0*exp(-x/{constant})", guess, {"m0": "y", constant: "x"},
        doc=f"""Decay of transverse magnetisation{what}.

    ``m0 * exp(-x / {constant})``, x being the echo time. For a constant beneath, `exponential_decay`.

    m0 : unit of y
    {constant} : unit of x

    Examples
    --------
    >>> import gridfield as gf
    >>> float(gf.models.{name}(0.0, m0=3.0, {constant}=40.0))
    3.0
    """,
    )  # fmt: skip


t2_decay = _decay("t2_decay", "t2", " after spin echoes")
t2_star = _decay("t2_star", "t2_star", " after gradient echoes")

sinusoid = _model(
    "sinusoid", "amplitude*sin(2*pi*frequency*x + phase) + offset", guesses.sinusoid,
    {"amplitude": "y", "frequency": "1/x", "phase": "rad", "offset": "y"},
    doc="""A sine wave on a constant.

    ``amplitude * sin(2 pi frequency x + phase) + offset``. The start value looks at frequencies from a quarter of a
    period over the data to half the number of points (at most 1024 periods).

    amplitude, offset : unit of y
    frequency : 1 / unit of x
    phase : radians

    Examples
    --------
    >>> import gridfield as gf
    >>> round(float(gf.models.sinusoid(0.25, amplitude=2.0, frequency=1.0, phase=0.0, offset=1.0)), 12)
    3.0
    """,
)  # fmt: skip

sigmoid = _model(
    "sigmoid", "lower + (upper - lower)*logistic((x - center)/width)",
    lambda coords, y, weight: _columns(*guesses.step(coords, y, weight)),
    {"lower": "y", "upper": "y", "center": "x", "width": "x"},
    doc="""A logistic step.

    ``lower + (upper - lower) / (1 + exp(-(x - center) / width))``. In x = log(dose) it is the four-parameter
    dose-response curve; for doses, `dose_response`.

    lower, upper : unit of y, where it comes from and goes to
    center, width : unit of x

    Examples
    --------
    >>> import gridfield as gf
    >>> float(gf.models.sigmoid(1.0, lower=0.0, upper=4.0, center=1.0, width=0.5))
    2.0
    """,
)  # fmt: skip


def _dose_guess(coords: Sequence[Array], y: Array, weight: Any) -> Array:
    (x,), y, w = guesses.cleaned(coords, y, weight)
    least = np.min(np.where(x > 0, x, np.inf), 1, keepdims=True)
    logs = np.log(np.where(x > 0, x, np.where(np.isfinite(least), least / 100, 1.0)))  # no dose is a small one
    lower, upper, center, width = guesses.step([logs], np.where(w > 0, y, np.nan), np.sqrt(w))
    return _columns(lower, upper, np.exp(np.clip(center, -300, 300)), 1 / width)


dose_response = _model(
    "dose_response",
    "where(x > 0, bottom + (top - bottom)*logistic(hill*log(x/ec50)), where(hill > 0, bottom, top))",
    _dose_guess,
    {"bottom": "y", "top": "y", "ec50": "x", "hill": "1"},
    doc="""The four-parameter dose-response (Hill) curve.

    ``bottom + (top - bottom) * x**hill / (x**hill + ec50**hill)``, of a dose x >= 0 (without a dose: bottom, or top
    where hill is negative).

    bottom, top : unit of y, response to no dose and to any amount
    ec50 : unit of x, the dose of half the response
    hill : a number, the slope

    Examples
    --------
    >>> import gridfield as gf
    >>> float(gf.models.dose_response(3.0, bottom=0.0, top=4.0, ec50=3.0, hill=1.5))
    2.0
    """,
)  # fmt: skip

power_law = _model(
    "power_law", "amplitude*x**exponent", guesses.power, {"amplitude": "y", "exponent": "1"},
    doc="""A power of x.

    ``amplitude * x**exponent``, for x >= 0 (x > 0 where the exponent is negative).

    amplitude : unit of y, the value at x = 1
    exponent : a number

    Examples
    --------
    >>> import gridfield as gf
    >>> float(gf.models.power_law(2.0, amplitude=3.0, exponent=2.0))
    12.0
    """,
)  # fmt: skip


# ---- polynomials
def polynomial(degree: int, ndim: int = 1) -> Model:
    """A polynomial of any degree in any number of coordinates.

    In one coordinate ``c0 + c1 x + c2 x**2 + ...``; in more, all products of powers up to the degree together:
    ``c00 + c10 x + c01 y + c11 x y + c20 x**2 + ...``, each named by its exponents (with _ between them from 10 on).

    Parameters
    ----------
    degree : int
        At least 0.
    ndim : int, default 1
        The number of coordinates: x, y, z, or x0, x1, ... of more than three.

    Returns
    -------
    Model
        Linear in its parameters, so that any start value will do: the constant starts at the mean, the others at 0.

    Raises
    ------
    ValueError
        If there are more than 500 coefficients, or an argument is no positive int (degree: or 0).

    Examples
    --------
    >>> import gridfield as gf
    >>> gf.models.polynomial(2).parameters
    ('c0', 'c1', 'c2')
    >>> gf.models.polynomial(1, ndim=2).equation.text
    'c00 + c10*x + c01*y'
    """
    for name, value, least in (("degree", degree, 0), ("ndim", ndim, 1)):
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ValueError(f"gf.models.polynomial: {name} should be an int of at least {least}, got {value!r}")
    count = 1
    for k in range(ndim):
        count = count * (degree + k + 1) // (k + 1)
    if count > 500:
        raise ValueError(
            f"gf.models.polynomial: degree {degree} in {ndim} dimensions has {count} coefficients, over 500"
        )
    return _polynomial(degree, ndim)


@functools.cache
def _polynomial(degree: int, ndim: int) -> Model:
    variables = ("x", "y", "z")[:ndim] if ndim <= 3 else tuple(f"x{k}" for k in range(ndim))
    powers = sorted(_powers(degree, ndim), key=lambda p: (sum(p), [-k for k in p]))
    between = "_" if degree > 9 and ndim > 1 else ""
    names, terms = [], []
    for p in powers:
        names.append("c" + between.join(map(str, p)))
        factors = [v if k == 1 else f"{v}**{k}" for v, k in zip(variables, p, strict=True) if k]
        terms.append("*".join([names[-1], *factors]))

    def guess(coords: Sequence[Array], y: Array, weight: Any) -> Array:
        _, y, w = guesses.cleaned(coords, y, weight)
        total = w.sum(1)
        out = np.zeros((len(y), len(names)))
        out[:, 0] = (w * y).sum(1) / np.where(total > 0, total, 1.0)
        return guesses.blanked(out, w)

    units = {n: "y" if not sum(p) else f"y/x**{sum(p)}" for n, p in zip(names, powers, strict=True)}
    return _model("polynomial", " + ".join(terms), guess, units, variables)


def _powers(degree: int, ndim: int) -> list[tuple[int, ...]]:
    if ndim == 1:
        return [(k,) for k in range(degree + 1)]
    return [(k, *rest) for k in range(degree + 1) for rest in _powers(degree - k, ndim - 1)]


FIXED = {
    m.name: m
    for m in (gaussian, gaussian_2d, gaussian_3d, lorentzian, voigt, moffat, moffat_2d, t2_decay, t2_star, sinusoid,
              sigmoid, dose_response, power_law)
}  # fmt: skip
MADE: dict[str, Callable[..., Model]] = {
    "polynomial": polynomial, "exponential_decay": exponential_decay, "t1_recovery": t1_recovery,
}  # fmt: skip


def named(text: str) -> Model | None:
    """The ready model of a name, with arguments where it has some.

    Parameters
    ----------
    text : str
        "gaussian", "polynomial(2, 2)", "t1_recovery('saturation')", ...

    Returns
    -------
    Model or None
        None where the text is no such name: an equation, for one.

    Raises
    ------
    ValueError
        If the model refuses its arguments.

    Examples
    --------
    >>> import gridfield as gf
    >>> gf.models.named("exponential_decay(2)").parameters
    ('amplitude_1', 'tau_1', 'amplitude_2', 'tau_2', 'offset')
    >>> gf.models.named("a*x + b") is None
    True
    """
    found = re.fullmatch(r"\s*([a-z]\w*)\s*(?:\(([^()]*)\))?\s*", text[:200])
    if found is None:
        return None
    name, inside = found.groups()
    if name in FIXED and inside is None:
        return FIXED[name]
    if name not in MADE:
        return None
    if name == "polynomial" and inside is None:
        raise ValueError("gf.models: polynomial needs a degree, as in 'polynomial(2)'")
    try:
        args = ast.literal_eval(f"({inside},)") if inside and inside.strip() else ()
    except (ValueError, SyntaxError):
        raise ValueError(
            f"gf.models: the arguments of a model should be plain numbers or words, got {text!r}"
        ) from None
    return MADE[name](*args)
