"""The non-uniform FFT of type 3, from points to frequencies that are on no grid either: a splat, then type 2.

With a grid of spacing h, and a window phi that lets little through of the grid's other periods (window.py),

    exp(i f x)  =  sum_l phi(x / h - l) exp(i f h l) / phi^(f h / (2 pi))      for |f| <= pi / (2 h)

so the values are spread by phi onto the grid, whose samples are the modes of a sum of waves at the points f h (J.-Y.
Lee, L. Greengard, J. Comput. Phys. 206 (2005), 1-5). Points and frequencies are taken from their centres, which leaves
two phases.
"""

from __future__ import annotations

import functools
from math import ceil, log2, pi, prod, sqrt
from typing import Any, NamedTuple

import numpy as np

from . import check, dispatch
from .arguments import LENGTH, per_axis
from .grid import Grid
from .kernel import bspline
from .nufft import _options, _points, _text, _values, inside
from .nufft_info import of_layout, of_pairs
from .ops import recipe, static
from .sampling import prefilter
from .scheme import Scheme, intern
from .window import DIGIT, ROUNDING, width_for, window

FEW = 4096  # points x frequencies up to which direct sums are no slower than the calls of a grid
MOST = 1 << 24  # and beyond which their waves would be too many to hold
BAND = 0.25  # |f h| / (2 pi) at most: half of what the grid could hold
NODES, BEYOND = (
    256,
    72,
)  # of the table of 1 / phi^ in the band; and beyond it, where the ends of a spline of degree 7 fade


class Layout(NamedTuple):
    """What is static about a call, and what it would cost."""

    steps: tuple[float, ...]  # h
    shape: tuple[int, ...]
    spread: str
    waves: str
    table: str
    width: int
    seconds: float
    bytes: float


@recipe
def nufft3(
    points: Any,
    values: Any,
    frequencies: Any,
    *,
    eps: float = 1e-6,
    sign: int = -1,
    extent: Any = None,
    return_info: bool = False,
) -> Any:
    """Type 3: sums of waves of any frequencies, with values at points.

    ``out[k] = sum_j values[j] exp(sign i frequencies[k] . points[j])``

    Time and memory grow with the product of the two extents, axis by axis, as they do with the number of modes of the
    other types. Few points and frequencies are summed directly.

    Parameters
    ----------
    points : array, shape (N, ndim) or (*batch, N, ndim)
        Coordinates. With batch axes, every item has its own points.
    values : array, shape (*batch, N)
        Real or complex, in the precision of the points. With plain points all leading axes share them.
    frequencies : array, shape (M, ndim) or (*batch, M, ndim)
        In radians per unit of the points.
    eps : float, default 1e-6
        As for `nufft1`: relative error in l2. float32 is computed in float64 where its rounding would be felt. That of
        float64 is felt where phases are large: it adds up to ``2**-53 sum_a max|points_a| max|frequencies_a|``, as much
        as the last digits of the numbers themselves (1e-10 for points and frequencies up to 1e6 and 1).
    sign : {-1, 1}, default -1
        Of the exponent.
    extent : (float, float) or pair of one per axis, optional
        Numbers that no coordinate of the points, and none of the frequencies, exceeds in magnitude. Default: from the
        numbers themselves, which are not known where something traces (``jit``, ``torch.func``, ``torch.compile``,
        ``tf.function``); there it is needed unless N * M is at most 4096.
    return_info : bool, default False
        Return ``(out, NufftInfo)``, as `nufft1`; the grid is that of the type 2 inside, taps are those of the splat.

    Returns
    -------
    array, shape (*batch, M)
        Complex, of the framework, precision and device of `values`.

    Raises
    ------
    ValueError, TypeError
        As `nufft1`; if the extent is needed and not given; if a number exceeds it (where a compiler traces, the result
        is NaN instead).
    MemoryError
        If the grid would not fit into the memory of the machine: nothing is allocated then.

    References
    ----------
    J.-Y. Lee, L. Greengard, "The type 3 nonuniform FFT and its applications", J. Comput. Phys. 206 (2005), 1-5.

    Examples
    --------
    >>> import gridfield as gf, numpy as np
    >>> x, f = np.array([[0.5], [-2.0]]), np.array([[0.0], [1.5], [np.pi]])
    >>> direct = np.exp(-1j * x @ f.T).sum(0)
    >>> out, info = gf.nufft3(x, np.ones(2), f, return_info=True)
    >>> bool(np.allclose(out, direct, atol=1e-6)), info.method
    (True, 'direct')
    """
    where = "gf.nufft3"
    check.flag(return_info, "return_info", where)
    F = dispatch.face(where, points=points, values=values, frequencies=frequencies)
    points, batch, ndim = _points(F, points, where)
    frequencies, of_frequencies, width = _points(F, frequencies, where, "frequencies")
    if width != ndim:
        raise ValueError(
            f"{where}: frequencies has {width} coordinates (shape {tuple(frequencies.shape)}) but points {ndim} (shape "
            f"{tuple(points.shape)})"
        )
    if batch and of_frequencies and not check.same(tuple(batch), tuple(of_frequencies)):
        raise ValueError(
            f"{where}: points has the batch axes {tuple(batch)} but frequencies {tuple(of_frequencies)}; they must be "
            "the same, or only one of the two has any"
        )
    batch = batch or of_frequencies
    values, dtype, extra = _values(F, values, points, points if len(points.shape) > 2 else frequencies, where)
    if F.dtype(frequencies) != dtype and not check.is_integer(F.dtype(frequencies)):
        raise TypeError(
            f"{where}: frequencies has dtype {F.dtype(frequencies)} but the others {dtype}; nothing is cast silently"
        )
    check.same_device(where, F.device(points), F.device(frequencies), "frequencies")
    eps, sign, _, _ = _options(eps, sign, "centered", 1.0, ndim, dtype, where)
    n, m, b, c = F.shape(points)[-2], F.shape(frequencies)[-2], prod(batch), prod(extra)
    y = F.reshape(values, (b, c, n))
    x, f = (_items(F, F.astype(p, dtype), b, k, ndim) for p, k in ((points, n), (frequencies, m)))
    ends = _ends(F, points, frequencies, _given(extent, ndim, where), dtype, where)
    pairs = b * n * m if all(isinstance(k, int) for k in (b, n, m)) else None
    if ends is None and not (pairs is not None and pairs <= FEW):
        raise ValueError(
            f"{where}: the extent of the points and of the frequencies has to be known beforehand where something "
            "traces them: give extent=(greatest |coordinate| of the points, greatest |frequency|), each one number or "
            "one per axis"
        )
    out = info = None
    if ends is not None and pairs != 0:
        layout, work = _layout_for(F, x, f, ends, (b, c, n, m), eps, sign, dtype)
        if pairs is None or not _directly(pairs, c, layout, where):
            out = _through_grid(F, x, f, y, ends, layout, work, sign)
            if return_info:
                rounding = _rounding(ends, F.widest("float64"), work)
                info = of_layout(layout.waves, layout.width, work, dtype, rounding, n, layout.bytes)
    if out is None:
        out = _direct_sums(F, x, f, y, sign)
        if return_info:
            wide = F.widest("float64")
            info = of_pairs(dtype, wide, _rounding(ends, wide, wide) if ends else 0.0, pairs)
    out = F.reshape(F.astype(out, F.dtype(values)), (*batch, *extra, m))
    return (out, info) if return_info else out


def _items(F: Any, p: Any, b: Any, n: Any, ndim: int) -> Any:
    """(b, n, ndim); without batch axes the same for every item."""
    return F.reshape(p, (b, n, ndim)) if len(p.shape) > 2 or b == 1 else F.broadcast_to(p[None], (b, n, ndim))


# ---- extents
Ends = tuple[tuple[tuple[float, ...], tuple[float, ...]], ...]  # centre and half width of points, of frequencies


def _given(extent: Any, ndim: int, where: str) -> Any:
    """The half widths that a user states."""
    if extent is None:
        return None
    if not hasattr(extent, "__len__") or len(extent) != 2:
        raise ValueError(f"{where}: extent must be a pair, of the points and of the frequencies, got {extent!r}")
    return tuple(per_axis(where, f"extent[{i}]", e, ndim, LENGTH) for i, e in enumerate(extent))


def _ends(F: Any, points: Any, frequencies: Any, given: Any, dtype: str, where: str) -> Ends | None:
    """From the numbers, where they are known, or as given; None: neither."""
    ends = []
    for i, (p, name) in enumerate(((points, "points"), (frequencies, "frequencies"))):
        known = F.concrete(p)
        if known is not None and known.size:
            known = known.reshape(-1, known.shape[-1]).astype(np.float64, copy=False)
            low, high = known.min(0), known.max(0)
            if given and (np.maximum(-low, high) > given[i]).any():
                raise ValueError(
                    f"{where}: {name} reach from {low.tolist()} to {high.tolist()}, beyond extent[{i}] = {given[i]}"
                )
            # a centre that the type holds exactly, so that differences from it are exact where they are small
            centre = (low / 2 + high / 2).astype(dtype).astype(np.float64)
            ends.append((tuple(centre.tolist()), tuple(np.maximum(high - centre, centre - low).tolist())))
        elif given:
            ends.append(((0.0,) * len(given[i]), given[i]))
        elif known is not None:
            ends.append(((0.0,) * points.shape[-1],) * 2)
        else:
            return None
    return tuple(ends)


def _within(F: Any, p: Any, half: Any) -> tuple[Any, Any]:
    """Numbers that something traces, rows beyond the extent or with a NaN as 0; and for each row 1, NaN for those."""
    one, zero = (F.constant(np.full(1, c), F.dtype(p), p) for c in (1.0, 0.0))
    every = inside(p, half)
    return F.where(every[..., None], p, zero), F.where(every, one, one * float("nan"))


def _rounding(ends: Ends, wide: str, dtype: str) -> float:
    """What phases are off by: those from the centres in the one type, those to the centres in the other."""
    (from_x, far), (from_f, high) = ends
    near = sum(a * k for a, k in zip(far, high, strict=True))
    whole = sum((abs(x) + a) * (abs(f) + k) for x, a, f, k in zip(from_x, far, from_f, high, strict=True))
    return DIGIT[dtype] * near + DIGIT[wide] * (whole - near)


# ---- which way
def _layout_for(
    F: Any, x: Any, f: Any, ends: Ends, sizes: Any, eps: float, sign: int, dtype: str
) -> tuple[Layout, str]:
    """The layout, and the type to compute in."""
    (_, far), (_, high) = ends
    # coordinates count cells of the grid: float32 is off by its last digit of their number
    felt = ROUNDING["float32"] + DIGIT["float32"] * sum(a * b for a, b in zip(far, high, strict=True))
    moves, turns = F.followed(x), F.followed(f)
    asked = eps * (_narrowest(far, high) if moves or turns else 1.0)
    if dtype == "float32" and 10 * felt > asked:
        dtype = F.widest("float64")
    sizes = tuple(k if isinstance(k, int) else 1 for k in sizes)
    return _layout(far, high, sizes, eps, sign, moves, turns, dtype), dtype


@static
def _layout(far: Any, high: Any, sizes: Any, eps: float, sign: int, moves: bool, turns: bool, dtype: str) -> Layout:
    return _cached_layout(far, high, sizes, eps, sign, moves, turns, dtype)


@functools.lru_cache(maxsize=1024)
def _cached_layout(
    far: tuple[float, ...],
    high: tuple[float, ...],
    sizes: Any,
    eps: float,
    sign: int,
    moves: bool,
    turns: bool,
    dtype: str,
) -> Layout:
    """The grid, its texts and its costs. A grid too large for any memory has no texts."""
    (b, c, n, m), ndim = sizes, len(far)
    # type 2 is as exact as eps on the whole, and is divided by phi^, which is less at the ends of the band
    eps = max(eps / 3 * (_narrowest(far, high) if moves or turns else 1.0), 2 * ROUNDING[dtype])
    width = width_for(eps, (m,) * ndim, dtype) + moves
    steps, counts = [], []
    for a, k in zip(far, high, strict=True):
        steps.append(2 * pi * BAND / _band(a, k))
        counts.append(2 * (a / steps[-1] + width // 2 + 2))
    cells = prod(counts)
    each = 4 if dtype == "float32" else 8
    touched = float(width**ndim)
    seconds = 3e-4 + b * c * (4e-10 * touched * (n + m) + cells * (15 + 9 * 2**ndim) * 1e-9)
    size = each * 2 * cells * (2 * b * c + 2**ndim)
    if size > 1e15:  # so that no table of that length is made below
        return Layout(tuple(steps), tuple(int(min(k, 1e300)) for k in counts), "", "", "", width, seconds, size)
    shape = tuple(map(_rounded, counts))
    waves = _text(shape, eps, sign, "centered", (2 * pi,) * ndim, dtype, turns)
    return Layout(tuple(steps), shape, _spread(shape, width), waves, _table(), width, seconds, size)


@functools.lru_cache(maxsize=1024)
def _spread(shape: tuple[int, ...], width: int) -> str:
    """splat with the window onto cells counted from the middle."""
    ndim = len(shape)
    grid = Grid.from_spacing(shape, tuple(-float(k // 2) for k in shape), (1.0,) * ndim)
    return intern(Scheme(grid, (window(width),) * ndim, ("mirror",) * ndim, ((0,) * ndim,)))


@functools.cache
def _table() -> str:
    """sample of the spline of 1 / phi^, its nodes counted from the middle."""
    line = Grid.from_spacing((NODES + 1 + 2 * BEYOND,), (-float(NODES // 2 + BEYOND),), (1.0,))
    return intern(Scheme(line, (bspline(7),), ("mirror",), ((0,),)))


def _band(a: float, k: float) -> float:
    """The band that the grid is made for: wider than needed where hardly a wave fits in.

    The sums are then all the same, to some eps, and derivatives hardly more than that: in the points they are off by
    eps times the band but as large as k, in the frequencies off by eps / band but as large as a.
    """
    if not (a and k):
        return k or (1 / a if a else 1.0)
    return k / sqrt(min(1.0, max(a * k, 1e-6)))


def _narrowest(far: Any, high: Any) -> float:
    """How much more exact the sums have to be for derivatives to be as exact as asked for."""
    products = [a * k for a, k in zip(far, high, strict=True) if a and k]
    return sqrt(min(1.0, max(min(products, default=1.0), 1e-6)))


def _rounded(count: float) -> int:
    """A size of at least so many samples, one of few (6 % apart), so that plans are met again."""
    unit = 2 ** max(1, int(log2(count)) - 4)
    return ceil(count / unit) * unit


def _directly(pairs: int, c: int, layout: Layout, where: str) -> bool:
    """Whether to sum without a grid: where that is quicker, or the grid too large."""
    if pairs <= FEW or (pairs <= MOST and pairs * (6e-8 + 4e-9 * c) < layout.seconds):
        return True
    memory = check.memory()
    if layout.bytes <= memory:
        return False
    if pairs <= MOST:
        return True
    raise MemoryError(
        f"{where}: the extents of points and frequencies need a grid of shape {layout.shape}, "
        f"{layout.bytes / 2**30:.3g} GiB, and this machine has {memory / 2**30:.3g} GiB; split the points or the "
        "frequencies into parts that are closer together"
    )


# ---- the sums
def _turn(F: Any, theta: Any, dtype: str) -> Any:
    """exp(i theta)."""
    return F.astype(F.as_complex(F.stack([F.cos(theta), F.sin(theta)], -1)), dtype)


def _phases(F: Any, p: Any, centre: Any, sign: int, dtype: str) -> Any:
    """exp(sign i p . centre), the angles in float64: they are large where the centre is far away."""
    wide = F.astype(p, F.widest("float64"))
    by = F.constant(sign * np.array(centre), F.dtype(wide), wide)
    return _turn(F, F.einsum("bni,i->bn", wide, by), dtype)


def _direct_sums(F: Any, x: Any, f: Any, y: Any, sign: int) -> Any:
    wide = F.widest("float64")
    theta = F.einsum("bmi,bni->bmn", F.astype(f, wide), sign * F.astype(x, wide))
    kind = "complex64" if wide == "float32" else "complex128"
    return F.einsum("bcn,bmn->bcm", F.astype(y, kind), _turn(F, theta, kind))


def _through_grid(F: Any, x: Any, f: Any, y: Any, ends: Any, layout: Layout, dtype: str, sign: int) -> Any:
    """(b, c, m)."""
    (from_x, far), (from_f, high) = ends
    (b, c, n), m = F.shape(y), F.shape(f)[1]
    kind = "complex64" if dtype == "float32" else "complex128"
    traced_x, traced_f = (F.concrete(p) is None for p in (x, f))
    x, f, y = F.astype(x, dtype), F.astype(f, dtype), F.astype(y, kind)
    turned = _phases(F, f, from_x, sign, kind) if any(from_x) else None
    if any(from_x):
        x = x - F.constant(np.array(from_x), dtype, x)
    if any(from_f):
        y = y * _phases(F, x, from_f, sign, kind)[:, None]
        f = f - F.constant(np.array(from_f), dtype, f)
    y = F.moveaxis(F.as_real(y), 1, 2)
    if traced_x:
        x, mark = _within(F, x, far)
        y = y * mark[..., None, None]
    mark = None
    if traced_f:
        f, mark = _within(F, f, high)
    steps = np.array(layout.steps)
    u = x * F.constant(1 / steps, dtype, x)
    grid = F.reshape(F.splat(F.reshape(y, (b, 1, n, 2 * c)), u, layout.spread), (b, c, 2, *layout.shape))
    w = f * F.constant(steps, dtype, f)
    out = F.reshape(F.sample(F.moveaxis(grid, 2, -1), w, layout.waves), (b, m, c, 2))
    out = out * F.reshape(_sharpened(F, w, layout, dtype), (b, m, 1, 1))
    if mark is not None:
        out = out * mark[..., None, None]
    out = F.as_complex(F.moveaxis(out, 2, 1))
    return out if turned is None else out * turned[:, None]


def _sharpened(F: Any, w: Any, layout: Layout, dtype: str) -> Any:
    """The product over the axes of 1 / phi^(w / (2 pi)), from a spline, which is differentiable like everything."""
    ndim = len(layout.shape)
    u = F.reshape(w * (NODES / (4 * pi * BAND)), (1, -1, 1))
    table = F.constant(_coefficients(layout.width), dtype, w)
    each = F.reshape(F.sample(table, u, layout.table), (-1, ndim))
    out = each[:, 0]
    for a in range(1, ndim):
        out = out * each[:, a]
    return out


@static
def _coefficients(width: int) -> Any:
    return _cached_coefficients(width)


@functools.cache
def _cached_coefficients(width: int) -> Any:
    """Of the spline of 1 / phi^, (1, 1, nodes)."""
    nodes = np.arange(-(NODES // 2) - BEYOND, NODES // 2 + BEYOND + 1) * (2 * BAND / NODES)
    return prefilter(1 / np.real(window(width).fourier(nodes)), kernel=7)[None, None]
