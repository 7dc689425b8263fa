"""detrend and rolling_mean: series along any axis, with samples missing; for any framework."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np

from . import check, dispatch
from .cpu import series as cpu
from .ops import Face, recipe, static
from .projection import Windows
from .scheme import Stencil, intern

Array = np.ndarray[Any, Any]

TRENDS = ("linear", "constant")
POLICIES = ("propagate", "omit")


@recipe
def detrend(y: Any, axis: int = -1, type: str = "linear", *, nan_policy: str = "propagate") -> Any:
    """Series less their line, or their mean, of least squares.

    ``y - a - b t``, the a and b that make the sum of squares smallest. It is linear in y, and differentiable.

    Parameters
    ----------
    y : array
        Real; integers give float64.
    axis : int, default -1
        That of the series.
    type : {"linear", "constant"}, default "linear"
        Take away a line, or the mean only; as `scipy.signal.detrend`.
    nan_policy : {"propagate", "omit"}, default "propagate"
        "propagate": a series with a NaN is NaN. "omit": samples that are NaN stay so, and have no part in the line.

    Returns
    -------
    array, the shape of y
        Of the framework, type and device of `y`; computed in float64.

    Raises
    ------
    ValueError, TypeError
        If the arguments do not fit together, y is complex, or has no samples along the axis.

    Examples
    --------
    >>> import gridfield as gf, numpy as np
    >>> gf.detrend(np.array([1.0, 2.0, 6.0, 7.0])).round(6)
    array([ 0.3, -0.9,  0.9, -0.3])
    >>> gf.detrend(np.array([1.0, np.nan, 3.0, 4.0]), nan_policy="omit").round(6)
    array([ 0., nan,  0.,  0.])
    """
    where = "gf.detrend"
    F, y, axis, given, dtype = series(y, axis, where)
    check_word(type, "type", TRENDS, where)
    check_word(nan_policy, "nan_policy", POLICIES, where)
    known = numbers(F, y)
    if known is not None:
        return F.constant(cpu.detrend(known, axis, type == "linear", nan_policy == "omit"), given, y)
    out = detrended(F, F.astype(F.moveaxis(y, axis, len(y.shape) - 1), dtype), type == "linear", nan_policy == "omit")
    return F.astype(F.moveaxis(out, len(y.shape) - 1, axis), given)


@recipe
def rolling_mean(y: Any, window: int, axis: int = -1, *, min_periods: int | None = None) -> Any:
    """Centred rolling mean, of the samples in each window that are not NaN.

    The window of sample t is t - window // 2 ... t + (window - 1) // 2, as pandas and xarray have it for
    ``rolling(window, center=True)``: one of even length has a sample more before its centre than behind it. It is
    linear in y, and differentiable.

    Parameters
    ----------
    y : array
        Real; integers give float64.
    window : int
        Samples of a window.
    axis : int, default -1
        That of the series.
    min_periods : int, optional
        How many samples a window must have, NaN and those beyond the ends not counted, or its mean is NaN. Default:
        all.

    Returns
    -------
    array, the shape of y
        Of the framework, type and device of `y`; computed in float64. No rounding is carried along a series, and a
        spike or an infinity is felt in the windows that hold it only.

    Raises
    ------
    ValueError, TypeError
        If the arguments do not fit together, y is complex, or no window can have `min_periods` samples.

    Examples
    --------
    >>> import gridfield as gf, numpy as np
    >>> y = np.array([1.0, 2.0, 6.0, np.nan, 3.0, 5.0, 4.0])
    >>> gf.rolling_mean(y, 3)
    array([nan,  3., nan, nan, nan,  4., nan])
    >>> gf.rolling_mean(y, 3, min_periods=2)
    array([1.5, 3. , 4. , 4.5, 4. , 4. , 4.5])
    """
    where = "gf.rolling_mean"
    F, y, axis, given, dtype = series(y, axis, where)
    windows = windows_of(int(y.shape[axis]), window, min_periods, axis, where)
    known = numbers(F, y)
    if known is not None:
        return F.constant(cpu.rolling_mean(known, axis, windows.window, windows.before, windows.least), given, y)
    out = rolled(F, F.astype(F.moveaxis(y, axis, len(y.shape) - 1), dtype), windows)
    return F.astype(F.moveaxis(out, len(y.shape) - 1, axis), given)


# ---- arguments
def series(y: Any, axis: Any, where: str) -> tuple[Face, Any, int, str, str]:
    """The face, y as an array, its axis counted from 0, the type of the result, the type to compute in."""
    F = dispatch.face(where, y=y)
    y = check.array(F, y, "y", where)
    given = real(F, y, "y", where)
    return F, y, axis_of(y, axis, "y", where), given, F.widest("float64")


def real(F: Face, y: Any, name: str, where: str) -> str:
    """The type of results, y being real numbers."""
    given = F.dtype(y)
    if not check.is_number(given) or given in check.REAL:
        parts = "; its real and imaginary parts are two series" if given in check.REAL else ""
        raise TypeError(f"{where}: {name} has dtype {given} but must be real numbers{parts}")
    return F.widest("float64") if check.is_integer(given) else given


def axis_of(y: Any, axis: Any, name: str, where: str) -> int:
    """An axis counted from 0, along which there are samples, the number of which is known."""
    ndim = len(y.shape)
    if not check._is_int(axis) or not -ndim <= axis < ndim:
        raise ValueError(
            f"{where}: axis must be one of the {ndim} axes of {name}, shape {tuple(y.shape)}; got {axis!r}"
        )
    axis = operator.index(axis) % ndim
    (n,) = check.sizes(y.shape[axis : axis + 1], name, where)
    if n == 0:
        raise ValueError(f"{where}: {name} has no samples along axis {axis} (shape {tuple(y.shape)})")
    return axis


def check_word(given: Any, name: str, allowed: tuple[Any, ...], where: str) -> None:
    """One of those that are allowed."""
    if not (given is None or isinstance(given, str)) or given not in allowed:
        raise ValueError(f"{where}: {name} must be one of {', '.join(map(repr, allowed))}, got {given!r}")


def windows_of(n: int, window: Any, min_periods: Any, axis: int, where: str) -> Windows:
    """The windows of series of n samples; one sample each without a window."""
    if window is None:
        window = 1
    if not check._is_int(window) or window < 1:
        raise ValueError(f"{where}: window must be a positive number of samples, an int, got {window!r}")
    window = operator.index(window)
    least = window if min_periods is None else min_periods
    if not check._is_int(least) or not 1 <= least <= window:
        raise ValueError(f"{where}: min_periods must be an int from 1 to the window, {window}, got {min_periods!r}")
    least = operator.index(least)
    if least > n:
        short = "give min_periods=" if min_periods is None else f"min_periods={least} is more than there are"
        raise ValueError(f"{where}: window={window} is longer than the {n} samples along axis {axis}: {short}")
    return Windows(n, window, least)


def numbers(F: Face, y: Any) -> Array | None:
    """For the kernels, where they are known and nothing follows; of types that the kernels read."""
    if F.dtype(y) in check.HALF:
        y = F.astype(y, "float32")
    known = F.at_hand(y)
    return known.view(np.uint8) if known is not None and known.dtype == np.bool_ else known


# ---- where derivatives are followed: along the last axis
def zeros(F: Face, y: Any, value: float = 0.0) -> Any:
    """A number that goes with y."""
    return F.constant(np.full((), value), F.dtype(y), y)


def present(F: Face, y: Any) -> tuple[Any, Any, Any]:
    """Whether samples are there; 1 or 0 for that; y with 0 in the gaps."""
    there = F.fixed(y) == F.fixed(y)
    nought = zeros(F, y)
    return there, F.where(there, zeros(F, y, 1.0), nought), F.where(there, y, nought)


def detrended(F: Face, y: Any, linear: bool, omit: bool) -> Any:
    """Series along the last axis less their trend."""
    n, one = int(y.shape[-1]), zeros(F, y, 1.0)
    k = F.constant(np.arange(n) - (n - 1) / 2, F.dtype(y), y)
    there, count, filled = present(F, y) if omit else (None, F.broadcast_to(one, F.shape(y)), y)
    number = F.sum(count, -1)[..., None]
    number = F.where(number > 0, number, one)
    out = (filled - F.sum(filled, -1)[..., None] / number) * count
    if linear:
        k = (k - F.sum(count * k, -1)[..., None] / number) * count
        spread = F.sum(k * k, -1)[..., None]
        out = out - k * (F.sum(k * out, -1)[..., None] / F.where(spread > 0, spread, one))
    return out if there is None else F.where(there, out, zeros(F, y, np.nan))


@static
def boxes(window: int, before: int) -> str:
    """The text of `correlate` for sums over windows."""
    return intern(Stencil.of(np.ones(window), (before,), (0,)))


def rolled(F: Face, y: Any, windows: Windows) -> Any:
    """Means over windows along the last axis; NaN of those that have too few samples."""
    if windows.window == 1:
        return y
    there, count, filled = present(F, y)
    held = F.sum(count, -1)[..., None]
    middle = F.fixed(F.sum(filled, -1)[..., None] / F.where(held > 0, held, zeros(F, y, 1.0)))  # whose sums are small
    shape, text = F.shape(y), boxes(windows.window, windows.before)
    empty = any(isinstance(n, int) and n == 0 for n in y.shape[:-1])
    lines = (0 if empty else -1, shape[-1])

    def sums(x: Any) -> Any:
        return F.reshape(F.correlate(F.reshape(x, lines), text), shape)

    number = F.floor(sums(count) + 0.5)  # an FFT leaves rounding
    enough = number > windows.least - 0.5
    mean = sums((filled - middle) * count) / F.where(enough, number, zeros(F, y, 1.0)) + middle
    return F.where(enough, mean, zeros(F, y, np.nan))
