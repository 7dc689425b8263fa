"""Non-uniform FFTs: sums of waves at points (type 2), and from points (type 1); for type 3 see type3.py."""

from __future__ import annotations

import functools
import operator
from collections.abc import Sequence
from math import copysign, pi, prod
from typing import Any

import numpy as np

from . import check, dispatch
from .arguments import LENGTH, SIZE, per_axis
from .cpu import waves
from .nufft_info import of_sums
from .ops import recipe, static
from .scheme import Waves, intern
from .window import BEST, FINE, LESS_FINE, WIDTHS, error, width_for

ORDERS = ("centered", "fft")


@static
def _text(*arguments: Any, points: int | None = None) -> str:
    """The static argument, see _cached_text; for so many points if that is known."""
    return _cached_text(*arguments, _about(points))  # torch.compile looks through a cache, but not through a function


@functools.lru_cache(maxsize=4096)
def _cached_text(
    shape: tuple[int, ...],
    eps: float,
    sign: int,
    modes_order: str,
    periods: Any,
    dtype: str,
    smooth: bool,
    points: int | None,
) -> str:
    """`smooth`: for derivatives in the points, too."""
    width, sigma = _window(shape, eps, dtype, smooth, points)
    return intern(Waves(shape, periods, sign, modes_order == "centered", width, ((0,) * len(shape),), sigma))


def _about(points: int | None) -> int | None:
    """A power of two, so that choices are met again."""
    return None if points is None else 1 << points.bit_length()


@functools.lru_cache(maxsize=4096)
def _window(shape: tuple[int, ...], eps: float, dtype: str, smooth: bool, points: int | None) -> tuple[int, float]:
    """Taps, and how much finer the grid: as cheap as can be, of few points a coarser grid with more taps.

    `smooth`: so much wider that first derivatives in the points are as exact as eps.
    """
    width = width_for(eps, shape, dtype)
    if points is None:
        return width + smooth, FINE
    target = 0.75 * eps  # what is off at a hundred points is off by a tenth, and so few points come with such grids
    wider = width_for(target, shape, dtype, LESS_FINE)
    choices = (width + smooth, FINE), (wider + smooth, LESS_FINE)
    # a tap more is no better where rounding grows with the width
    if choices[1][0] not in WIDTHS or any(error(w, shape, dtype, LESS_FINE) > target for w in {wider, choices[1][0]}):
        return choices[0]
    usual, less = (waves.cost_ns(shape, *choice, dtype, points) for choice in choices)
    return choices[less < 0.9 * usual or _bytes(shape, FINE, dtype) > check.memory()]


def _options(
    eps: Any, sign: Any, modes_order: Any, period: Any, ndim: int, dtype: str, where: str
) -> tuple[float, int, str, Any]:
    """Checked and hashable."""
    usual = isinstance(eps, float) and isinstance(sign, int)
    if usual:  # with dynamic=True, torch.compile takes even defaults for unknown numbers; what these give is constant
        eps, sign = (copysign(eps, 1.0) if eps > 0 else eps), operator.index(sign)
    if usual and isinstance(period, float) and period > 0:
        period = copysign(period, 1.0)
    usual = usual and all(isinstance(p, float) for p in (period if isinstance(period, tuple) else (period,)))
    if usual and isinstance(modes_order, str):  # 10 us less
        return _usual_options(eps, sign, modes_order, period, ndim, dtype, where)
    return _checked_options(eps, sign, modes_order, period, ndim, dtype, where)


def _checked_options(
    eps: Any, sign: Any, modes_order: Any, period: Any, ndim: int, dtype: str, where: str
) -> tuple[float, int, str, Any]:
    eps = check.number(eps, "eps", where)
    best = BEST[dtype]
    if not best <= eps < 1:
        raise ValueError(
            f"{where}: eps must be at least {best:g}, the best that {dtype} is good for, and less than 1; got {eps:g}"
            + (" (float64 is good for 1e-12)" if dtype == "float32" and eps < best else "")
        )
    if sign not in (1, -1):
        raise ValueError(f"{where}: sign must be +1 or -1, that of the exponent, got {sign!r}")
    if modes_order not in ORDERS:
        raise ValueError(f"{where}: modes_order must be 'centered' or 'fft', got {modes_order!r}")
    return eps, int(sign), modes_order, per_axis(where, "period", period, ndim, LENGTH)


@static
def _usual_options(*arguments: Any) -> tuple[float, int, str, Any]:
    """Of ordinary Python types."""
    return _cached_options(*arguments)


_cached_options = functools.lru_cache(maxsize=256, typed=True)(_checked_options)


def _bytes(shape: tuple[int, ...], sigma: float, dtype: str, times: int = 1) -> float:
    """Of so many times these modes, and a grid."""
    return (times + sigma ** len(shape)) * prod(shape) * (8 if dtype == "float32" else 16)


@static
def _fits(
    shape: tuple[int, ...], eps: float, dtype: str, smooth: bool, points: int | None, where: str, *lead: Any
) -> None:
    """The modes and the finer grid have room in the memory of the machine, or an error.

    lead: how many times these modes, where that is known.
    """
    times = prod(n for n in lead if isinstance(n, int))
    _, sigma = _window(shape, eps, dtype, smooth, _about(points))
    needed = _bytes(shape, sigma, dtype, times)
    if needed > check.memory():
        raise MemoryError(
            f"{where}: {times if times != 1 else ''}{' times ' if times != 1 else ''}modes of shape {shape} and the "
            f"grid of {sigma:g} times that shape take {needed / 2**30:.3g} GiB, and this machine has "
            f"{check.memory() / 2**30:.3g} GiB"
        )


def _points(F: Any, points: Any, where: str, name: str = "points") -> tuple[Any, tuple[Any, ...], int]:
    """The points, their batch axes, their number of axes; finite, as far as that is known."""
    points = check.array(F, points, name, where)
    if len(points.shape) < 2 or points.shape[-1] in (0, None):
        raise ValueError(
            f"{where}: {name} must have shape (N, ndim), or (*batch, N, ndim), with coordinates along the last axis, "
            f"got {tuple(points.shape)}"
        )
    known = F.concrete(points)
    if known is not None and known.dtype.kind == "f" and not np.isfinite(known).all():
        bad = np.argwhere(~np.isfinite(known))[0]
        raise ValueError(
            f"{where}: {name} has a coordinate that is not finite, {known[tuple(bad)]} at {tuple(bad.tolist())}"
        )
    return points, F.shape(points)[:-2], operator.index(points.shape[-1])


def inside(p: Any, half: Any) -> Any:
    """Which rows have no coordinate greater in magnitude than `half`, and no NaN."""
    rows = [(p[..., a] <= h) & (p[..., a] >= -h) for a, h in enumerate(half)]
    return functools.reduce(operator.and_, rows)


def _complex(F: Any, x: Any, points: Any, name: str, where: str) -> tuple[Any, str]:
    """Values or modes as complex numbers, and their real type; nothing is cast silently but integers."""
    x = check.array(F, x, name, where)
    dtype = check.compute_dtype(F.dtype(x), F.dtype(points), where, name)
    if F.dtype(x) in check.HALF:
        raise TypeError(f"{where}: {name} has dtype {F.dtype(x)}; complex numbers need float32 or float64")
    check.same_device(where, F.device(x), F.device(points), name)
    kind = "complex64" if dtype == "float32" else "complex128"
    return (x if F.dtype(x) == kind else F.astype(x, kind)), dtype


def _batches(F: Any, x: Any, ndim: int, of: Any, name: str, where: str) -> Sequence[Any]:
    """The axes of x before its last ndim beside those that the points of a batch have, too."""
    batch, lead = tuple(of.shape[:-2]), tuple(x.shape[: len(x.shape) - ndim])
    if not check.same(lead[: len(batch)], batch):
        raise ValueError(
            f"{where}: points has the batch axes {batch} but {name} begins with {lead}; points of a batch go with "
            "values that begin with its axes"
        )
    return F.shape(x)[len(batch) : len(lead)]


def _several(channels: Any) -> bool:
    """Whether there are more than one, or a tracing compiler does not know how many."""
    return not (isinstance(channels, int) and channels == 1)


def _values(F: Any, values: Any, points: Any, of: Any, where: str) -> tuple[Any, str, Sequence[Any]]:
    """Values at points as complex numbers, their real type, and the leading axes that they have beside the points."""
    values, dtype = _complex(F, values, points, "values", where)
    if len(values.shape) == 0 or not check.same(tuple(values.shape[-1:]), tuple(points.shape[-2:-1])):
        raise ValueError(
            f"{where}: values has shape {tuple(values.shape)} but must end in the number of points, as points has "
            f"shape {tuple(points.shape)}"
        )
    return values, dtype, _batches(F, values, 1, of, "values", where)


def _modes(F: Any, modes: Any, points: Any, batch: Any, ndim: int, where: str) -> tuple[Any, str, Sequence[Any]]:
    """The same of modes."""
    modes, dtype = _complex(F, modes, points, "modes", where)
    if len(modes.shape) < len(batch) + ndim:
        raise ValueError(
            f"{where}: modes has shape {tuple(modes.shape)} but points {tuple(points.shape)}: it must have an axis for "
            f"each of the {ndim} coordinates" + (f", after the batch axes {tuple(batch)}" if batch else "")
        )
    return modes, dtype, _batches(F, modes, ndim, points, "modes", where)


@recipe
def nufft1(
    points: Any,
    values: Any,
    shape: Any,
    *,
    eps: float = 1e-6,
    sign: int = -1,
    modes_order: str = "centered",
    period: Any = 2 * pi,
    return_info: bool = False,
) -> Any:
    """Type 1: Fourier coefficients of values at points.

    ``modes[k] = sum_j values[j] exp(sign i 2 pi k . points[j] / period)``, for ``k_a`` from ``-(n_a // 2)`` to
    ``(n_a - 1) // 2`` along each axis. With the default period, 2 pi, that is ``exp(sign i k . x)``.

    Parameters
    ----------
    points : array, shape (N, ndim) or (*batch, N, ndim)
        Coordinates; any number of periods away. With batch axes, every item has its own points.
    values : array, shape (*batch, N)
        Real or complex, in the precision of the points. With plain points all leading axes share them.
    shape : int or tuple of int
        Number of modes along each axis.
    eps : float, default 1e-6
        Relative error in l2, 1e-12 at best in double and 1e-6 in single precision. Where derivatives in the points may
        be asked for, those of first order are as exact, those of second order 100 times less.
    sign : {-1, 1}, default -1
        Of the exponent.
    modes_order : {"centered", "fft"}, default "centered"
        Frequency 0 in the middle, or first, as ``numpy.fft.fft`` has it.
    period : float or one per axis, default 2 pi
        After which the points repeat.
    return_info : bool, default False
        Return ``(modes, NufftInfo)``: what was chosen, and what it takes.

    Returns
    -------
    array, shape (*batch, *shape)
        Complex, of the framework, precision and device of `values`.

    Raises
    ------
    ValueError, TypeError
        If shapes, types, devices or frameworks do not fit together, eps is too small for the type, or a coordinate is
        not finite (where a compiler traces, the result is NaN instead).

    References
    ----------
    A. Dutt, V. Rokhlin, "Fast Fourier transforms for nonequispaced data", SIAM J. Sci. Comput. 14 (1993), 1368-1393.

    Examples
    --------
    >>> import gridfield as gf, numpy as np
    >>> gf.nufft1(np.array([[0.0], [np.pi]]), np.array([1.0, 1.0]), 4).real.round(5) + 0.0
    array([2., 0., 2., 0.])
    >>> gf.nufft1(np.zeros((1, 2)), np.ones(1), (100, 100), return_info=True)[1].method  # one point needs no FFT
    'direct'
    """
    where = "gf.nufft1"
    check.flag(return_info, "return_info", where)
    F = dispatch.face(where, points=points, values=values)
    points, batch, ndim = _points(F, points, where)
    values, dtype, extra = _values(F, values, points, points, where)
    shape = per_axis(where, "shape", shape, ndim, SIZE)
    eps, sign, modes_order, period = _options(eps, sign, modes_order, period, ndim, dtype, where)
    n, b, c = F.shape(points)[-2], prod(batch), prod(extra)
    smooth, count = F.followed(points), F.known(n)
    _fits(shape, eps, dtype, smooth, count, where, *batch, *extra)
    text = _text(shape, eps, -sign, modes_order, period, dtype, smooth, points=count)
    y, x = F.as_real(values), F.astype(points, dtype)
    if _several(c):
        y, x = F.moveaxis(F.reshape(y, (b, c, n, 2)), 1, 2), F.reshape(x, (b, n, ndim))
        out = F.splat(F.reshape(y, (b, 1, n, 2 * c)), x, text)
        out = F.reshape(out, (*batch, *extra, *shape, 2))
    else:  # fewer nodes in a graph
        out = F.shaped("splat", (y, x), ((b, 1, n, 2), (b, n, ndim)), text, (*batch, *extra, *shape, 2))
    out = F.as_complex(out)
    return (out, of_sums(text, dtype, n)) if return_info else out


@recipe
def nufft2(
    points: Any,
    modes: Any,
    *,
    eps: float = 1e-6,
    sign: int = 1,
    modes_order: str = "centered",
    period: Any = 2 * pi,
    return_info: bool = False,
) -> Any:
    """Type 2: the sum of waves with given Fourier coefficients, at points.

    ``values[j] = sum_k modes[k] exp(sign i 2 pi k . points[j] / period)``, k as in `nufft1`, of which this is the
    adjoint (with the other sign).

    Parameters
    ----------
    points : array, shape (N, ndim) or (*batch, N, ndim)
        Coordinates; any number of periods away. With batch axes, every item has its own points.
    modes : array, shape (*batch, *shape)
        Real or complex, in the precision of the points. With plain points all leading axes share them.
    eps, sign, modes_order, period, return_info
        As for `nufft1`; the sign is +1.

    Returns
    -------
    array, shape (*batch, N)
        Complex, of the framework, precision and device of `modes`.

    Raises
    ------
    ValueError, TypeError
        As `nufft1`.

    Examples
    --------
    >>> import gridfield as gf, numpy as np
    >>> x = np.array([[0.1], [7.0]])
    >>> wave = gf.nufft2(x, np.array([0.0, 0.0, 0.0, 1.0, 0.0]))  # exp(i x)
    >>> bool(np.allclose(wave, np.exp(1j * x[:, 0]), atol=1e-6))
    True
    """
    where = "gf.nufft2"
    check.flag(return_info, "return_info", where)
    F = dispatch.face(where, points=points, modes=modes)
    points, batch, ndim = _points(F, points, where)
    modes, dtype, extra = _modes(F, modes, points, batch, ndim, where)
    shape = check.grid_shape(modes.shape[len(modes.shape) - ndim :], "modes", where)
    eps, sign, modes_order, period = _options(eps, sign, modes_order, period, ndim, dtype, where)
    n, b, c = F.shape(points)[-2], prod(batch), prod(extra)
    smooth, count = F.followed(points), F.known(n)
    _fits(shape, eps, dtype, smooth, count, where, *batch, *extra)
    text = _text(shape, eps, sign, modes_order, period, dtype, smooth, points=count)
    y, x = F.as_real(modes), F.astype(points, dtype)
    if _several(c):
        out = F.sample(F.reshape(y, (b, c, *shape, 2)), F.reshape(x, (b, n, ndim)), text)
        out = F.moveaxis(F.reshape(out, (b, n, c, 2)), 2, 1)
        out = F.reshape(out, (*batch, *extra, n, 2))
    else:
        out = F.shaped("sample", (y, x), ((b, 1, *shape, 2), (b, n, ndim)), text, (*batch, *extra, n, 2))
    out = F.as_complex(out)
    return (out, of_sums(text, dtype, n)) if return_info else out
