"""Convolution of points with a kernel: fast summation through type 1, a product of modes, type 2."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable
from math import pi, prod
from typing import Any

import numpy as np
from scipy.special import erfc, erfcinv

from . import check, dispatch
from .arguments import LENGTH, SIZE, per_axis
from .faces.numpy import FACE as NUMPY
from .grid import Grid
from .nonuniform import fast
from .nufft import _complex, _fits, _options, _points, inside, nufft1, nufft2
from .ops import recipe, static

# of squared distances in units of the length
KERNELS: dict[str, Callable[[Any, Any], Any]] = {
    "gaussian": lambda F, q: F.exp(-0.5 * q),
    "matern32": lambda F, q: (1 + (3 * q) ** 0.5) * F.exp(-((3 * q) ** 0.5)),
    "matern52": lambda F, q: (1 + (5 * q) ** 0.5 + 5 / 3 * q) * F.exp(-((5 * q) ** 0.5)),
}
MODES = 2**24  # most that are tried for a kernel by itself
WIDER = 1.5  # half a period over the largest distance, where nothing is periodic


@recipe
def convolve_points(
    points: Any,
    values: Any,
    kernel: Any = None,
    *,
    fourier_kernel: Any = None,
    length: Any = None,
    radial: bool = True,
    at: Any = None,
    shape: Any = None,
    period: Any = 2 * pi,
    extent: Any = None,
    eps: float = 1e-6,
    modes_order: str = "centered",
) -> Any:
    """Convolution of a cloud of points with a kernel, at the same or at other points.

    ``result[i] = sum_j kernel(at[i] - points[j]) values[j]``, without going through all pairs: the kernel is a sum of
    waves, ``kernel(r) = 1 / M sum_k fourier_kernel[k] exp(i 2 pi k . r / period)`` with M modes in all.

    Parameters
    ----------
    points : array, shape (N, ndim) or (*batch, N, ndim)
        Coordinates.
    values : array, shape (*batch, N)
        Real or complex.
    kernel : {"gaussian", "matern32", "matern52"} or callable, optional
        ``exp(-q / 2)``, ``(1 + sqrt(3 q)) exp(-sqrt(3 q))``, ``(1 + sqrt(5 q) + 5 q / 3) exp(-sqrt(5 q))``, with q the
        squared distance in units of `length`. A function gets an array, of the framework, of squared distances, or with
        ``radial=False`` of displacements ``(*shape, ndim)`` (the point where it acts minus the point where it is from),
        and gives an array ``(*shape,)``; derivatives go through it. Distances are those to the nearest image. The
        smoother it is, also where images meet, the fewer modes it takes.
    fourier_kernel : array, shape (*modes,), optional
        Instead: modes of the kernel, as ``fftn`` gives them of its values on a grid over one period that begins at 0
        (shifted by ``fftshift`` for the order "centered").
    length : float or scalar array, optional
        Of a kernel by name, in the units of the points.
    radial : bool, default True
        Whether a function is of squared distances.
    at : array, shape (M, ndim) or (*batch, M, ndim), or Grid, optional
        Where it is evaluated; by default at the points. For plain points, of any shape (*at, ndim).
    shape : int or tuple of int, optional
        Number of modes along each axis. By default so many that those left out of the kernel are below eps; needed
        where a compiler traces, unless the kernel is a word.
    period : float or one per axis, or None, default 2 pi
        After which everything repeats. None: nothing does; the points are placed in a period three times as large as
        they reach, and the kernel is smoothly cut off beyond their distances.
    extent : float or one per axis, optional
        With ``period=None``: a number that no coordinate of `points` and `at` exceeds in magnitude; the period is then
        6 times that, whatever the points. Default: from the numbers themselves, which are not known where something
        traces (``jit``, ``torch.func``, ``torch.compile``, ``tf.function``); there it is needed.
    eps : float, default 1e-6
        Error relative to the sum of ``|values|`` times the kernel's largest value.
    modes_order : {"centered", "fft"}, default "centered"
        Of `fourier_kernel`.

    Returns
    -------
    array, shape (*batch, M), (*grid.shape) or (*at)
        Real where the values and the kernel's are, complex with `fourier_kernel`.

    Raises
    ------
    ValueError, TypeError
        If shapes, types, devices or frameworks do not fit together, or a kernel takes too many modes for this eps; if
        the extent is needed and not given; if a coordinate exceeds it (where a compiler traces, the result is NaN
        instead: all of it for one of the points, the result there for one of `at`).

    References
    ----------
    D. Potts, G. Steidl, A. Nieslony, "Fast convolution with radial kernels at nonequispaced knots", Numer. Math. 98
    (2004), 329-351.

    Examples
    --------
    >>> import gridfield as gf, numpy as np
    >>> rng = np.random.default_rng(0)
    >>> points, values = rng.normal(size=(1000, 2)), rng.normal(size=1000)
    >>> smooth = gf.convolve_points(points, values, "gaussian", length=0.5, period=None)
    >>> squared = ((points[:, None] - points) ** 2).sum(-1)
    >>> bool(np.allclose(smooth, np.exp(-squared / 0.5) @ values, atol=1e-3))
    True
    >>> inverse = gf.convolve_points(points, values, lambda q: (1 + q) ** -0.5, period=None)
    >>> bool(np.allclose(inverse, (1 + squared) ** -0.5 @ values, atol=1e-3))
    True
    """
    where = "gf.convolve_points"
    check.flag(radial, "radial", where)
    F = dispatch.face(where, points=points, values=values, **({} if at is None or isinstance(at, Grid) else {"at": at}))
    given, (points, batch, ndim) = points, _points(F, points, where)
    if isinstance(at, Grid):
        at = F.constant(at.coords(), F.dtype(points) if F.dtype(points) in check.FLOATS else "float64", points)
    at, at_batch, at_ndim = (points, batch, ndim) if at is None or at is given else _points(F, at, where, "at")
    places: Any = None
    if at_batch and not batch:  # a grid of places, or any other array of them
        places, at_batch = F.shape(at)[:-1], ()
        at = F.reshape(at, (prod(places), at_ndim))
    if at_ndim != ndim or (at_batch and not check.same(tuple(at_batch), tuple(batch))):
        raise ValueError(
            f"{where}: at has shape {tuple(at.shape)} but must have coordinates and batch axes as points, "
            f"{tuple(points.shape)}"
        )
    values = check.array(F, values, "values", where)
    real = F.dtype(values) not in check.REAL
    values, dtype = _complex(F, values, points, "values", where)
    eps, _, modes_order, _ = _options(eps, 1, modes_order, 1.0, ndim, dtype, where)
    _one_kernel(kernel, fourier_kernel, period, extent, where)
    reach = None
    if period is None:
        points, at, reach = _placed(F, points, at, extent, dtype, where)
        period = tuple(2 * WIDER * r for r in reach)
    period = per_axis(where, "period", period, ndim, LENGTH)
    if fourier_kernel is not None:
        dispatch.face(where, points=points, fourier_kernel=fourier_kernel)
    elif shape is not None:
        shape = per_axis(where, "shape", shape, ndim, SIZE)
        _fits(shape, eps, dtype, F.followed(points), F.known(F.shape(points)[-2]), where)
    modes, of_reals = spectrum(F, kernel, fourier_kernel, length, radial, period, reach, shape, eps, values, points)
    real, modes_order = real and of_reals, modes_order if fourier_kernel is not None else "fft"
    sizes = check.grid_shape(modes.shape, "fourier_kernel", where)
    how: dict[str, Any] = {"eps": eps, "modes_order": modes_order, "period": period}
    out = nufft2(at, nufft1(points, values, sizes, **how) * (modes / prod(sizes)), **how)
    out = F.as_real(out)[..., 0] if real else out
    return out if places is None else F.reshape(out, (*F.shape(out)[:-1], *places))


def _one_kernel(kernel: Any, fourier_kernel: Any, period: Any, extent: Any, where: str) -> None:
    if (kernel is None) == (fourier_kernel is None):
        raise ValueError(f"{where}: give one of kernel and fourier_kernel")
    if period is None and fourier_kernel is not None:
        raise ValueError(f"{where}: period must be given with fourier_kernel")
    if period is not None and extent is not None:
        raise ValueError(f"{where}: extent goes with period=None, but the period is {period!r}")


def spectrum(
    F: Any, kernel: Any, fourier_kernel: Any, length: Any, radial: Any, period: Any, reach: Any, shape: Any, eps: float,
    values: Any, points: Any,
) -> tuple[Any, bool]:  # fmt: skip
    """The modes of a kernel, of the type of complex values, and whether it is real; by itself in the order "fft"."""
    where, kind = "gf.convolve_points", F.dtype(values)
    if fourier_kernel is not None:
        modes, _ = _complex(F, fourier_kernel, points, "fourier_kernel", where)
        if len(modes.shape) != len(period):
            raise ValueError(f"{where}: fourier_kernel has shape {tuple(modes.shape)} but points {len(period)} axes")
        return modes, False
    least = max(eps, 1e-5 * (kind == "complex64"))
    if isinstance(kernel, str) and isinstance(length, (int, float, np.number, str)):
        (length,) = per_axis(where, "length", length, 1, LENGTH)
        return F.constant(_by_name(kernel, length, period, reach, shape, least, where), kind, values), True
    sampled = _sampler(F, kernel, length, radial, period, reach, eps, values, where)
    modes, of_reals = _transformed(F, sampled, shape, period, least, where)
    return F.astype(modes, kind), of_reals


def _placed(F: Any, points: Any, at: Any, extent: Any, dtype: str, where: str) -> tuple[Any, Any, tuple[float, ...]]:
    """Points and places near 0, and the largest distance along each axis."""
    known = {"points": F.concrete(points), "at": F.concrete(at)}
    if extent is not None:
        half = per_axis(where, "extent", extent, operator.index(points.shape[-1]), LENGTH)
        for name, x in known.items():
            if x is not None and (np.abs(x) > half).any():
                raise ValueError(f"{where}: {name} reach to {np.abs(x).max():g}, beyond extent = {extent}")

        def marked(x: Any) -> Any:
            return F.where(inside(x, half)[..., None], F.astype(x, dtype), F.constant(np.full(1, np.nan), dtype, x))

        points, at = (marked(x) if found is None else x for x, found in zip((points, at), known.values(), strict=True))
        return points, at, tuple(2 * h for h in half)
    if any(x is None for x in known.values()):
        raise ValueError(
            f"{where}: without a period the extent of the points has to be known beforehand where something traces "
            "them: give extent=greatest |coordinate| of points and at, one number or one per axis"
        )
    ends = np.concatenate([np.asarray(x, np.float64).reshape(-1, x.shape[-1]) for x in known.values()])
    if len(ends) == 0:
        return points, at, (1.0,) * ends.shape[-1]
    low, high = ends.min(0), ends.max(0)
    reach = np.where(high > low, high - low, 1.0)
    middle = F.constant((low + high) / 2, F.dtype(points), points) if F.dtype(points) in check.FLOATS else 0
    return points - middle, at - middle, tuple((reach * (1 + 1e-6)).tolist())


@static
def _by_name(*arguments: Any) -> Any:
    """What `_transformed` gives of a kernel by name, without a framework: constant where a compiler traces."""
    return _cached_by_name(*arguments)


@functools.lru_cache(maxsize=16)
def _cached_by_name(kernel: str, length: float, period: Any, reach: Any, shape: Any, eps: float, where: str) -> Any:
    sampled = _sampler(NUMPY, kernel, length, True, period, reach, eps, np.zeros(1), where)
    return _transformed(NUMPY, sampled, shape, period, eps, where)[0]


def _sampler(
    F: Any, kernel: Any, length: Any, radial: Any, period: Any, reach: Any, eps: float, like: Any, where: str
) -> Callable[[tuple[int, ...]], Any]:
    """A function: the kernel at the points of a grid over one period, 0 first."""
    if isinstance(kernel, str):
        if kernel not in KERNELS:
            raise ValueError(f"{where}: kernel must be one of {', '.join(KERNELS)}, or a function, got {kernel!r}")
        if length is None:
            raise ValueError(f"{where}: the kernel {kernel!r} needs a length")
        named, radial = KERNELS[kernel], True

        def function(q: Any) -> Any:
            return named(F, q / F.astype(F.array(length), F.dtype(q)) ** 2)
    elif callable(kernel):
        function = kernel
        if length is not None:
            raise ValueError(f"{where}: length goes with a kernel by name, not with a function")
    else:
        raise TypeError(f"{where}: kernel must be a word or a function, got {type(kernel).__name__}")

    def sampled(sizes: tuple[int, ...]) -> Any:
        lines = [np.fft.fftfreq(n, 1 / p) for n, p in zip(sizes, period, strict=True)]
        r = np.stack(np.meshgrid(*lines, indexing="ij"), -1)
        wide = F.widest("float64")
        y = F.array(function(F.constant((r**2).sum(-1) if radial else r, wide, like)))
        if tuple(y.shape) != sizes:
            raise ValueError(f"{where}: kernel gave an array of shape {tuple(y.shape)} of {sizes} distances")
        if reach is not None:  # from 1 to 0 between the largest distance and half a period
            c = float(erfcinv(eps / 10))
            u = (np.abs(r) / np.array(reach) - 1) / (WIDER - 1)
            y = y * F.constant(np.prod(erfc(c * (2 * u - 1)) / 2, -1), F.dtype(y), like)
        return y

    return sampled


def _transformed(F: Any, sampled: Any, shape: Any, period: Any, eps: float, where: str) -> tuple[Any, bool]:
    """The FFT of the kernel, on a grid fine enough that its modes have died away; whether the kernel is real."""
    n = 16 if shape is None else 0
    while True:
        relative = [p / max(period) for p in period]
        sizes = shape or tuple(fast(max(8, round(n * p))) for p in relative)
        y = sampled(sizes)
        real = F.dtype(y) not in check.REAL
        if real:
            y = F.astype(y, "complex128" if F.dtype(y) == "float64" else "complex64")
        for axis, size in enumerate(sizes):
            y = F.fft(y, size, axis)
        if shape is None:
            known = F.concrete(y)
            if known is None:
                raise ValueError(f"{where}: shape must be given where a compiler traces")
            if not np.isfinite(known).all():
                raise ValueError(
                    f"{where}: kernel is not finite at all distances; smooth it at the origin, or elsewhere"
                )
        if shape is not None or _died_away(np.abs(known), eps):
            return y, real
        n *= 2
        if prod(n * p for p in relative) > MODES:
            raise ValueError(
                f"{where}: the modes of this kernel do not fall below eps = {eps:g} within {prod(sizes)} modes: it is "
                "not smooth, or narrow, or so wide beside the period that it has a kink half of one away; give a "
                "larger eps, shape= to cut it off there, or period=None"
            )


def _died_away(size: np.ndarray[Any, Any], eps: float) -> bool:
    """Whether the outer quarter of all frequencies hold less than eps of a sum of modes."""
    outer = np.zeros(size.shape, bool)
    for axis, n in enumerate(size.shape):
        k = np.abs(np.fft.fftfreq(n, 1 / n)).reshape([-1 if a == axis else 1 for a in range(size.ndim)])
        outer |= k > 3 / 8 * n
    return bool(size[outer].sum() <= eps * size.sum())
