"""histogram and histogramdd: NumPy's signatures and answers, in one pass, under a mask that is read on the way."""

from __future__ import annotations

import contextlib
import math
import operator
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from . import check, dispatch
from .cpu import bins as cpu
from .cpu.axes import MOST, Axes
from .ops import Face, recipe

Array = np.ndarray[Any, Any]

EXACT = 2**53  # integers up to here are float64
FINE = 2**20  # bins of float32: NumPy's own arithmetic is off by more than one bin beyond
SMALL_INTEGERS = ("int8", "uint8", "int16", "uint16")  # there are few of them: they are counted as they are


@recipe
def histogram(
    a: Any,
    bins: Any = 10,
    range: tuple[float, float] | None = None,
    *,
    where: Any = None,
    weights: Any = None,
    density: bool = False,
    axis: int | Sequence[int] | None = None,
) -> tuple[Any, Any]:
    """Histogram of an array, in a mask: exactly what `numpy.histogram` says of ``a[where]``, without that copy.

    Bin k holds ``edges[k] <= a < edges[k + 1]``, the last also its upper edge; NaN is in none.

    Parameters
    ----------
    a : array
        Real numbers of any shape.
    bins : int, sequence of float or str, default 10
        Number of equal bins, or increasing edges, or one of NumPy's rules ("auto", "fd", ...).
    range : (lo, hi), optional
        Ends of the bins. Default: the smallest and the largest of the numbers in the mask.
    where : array, shape of `a`, optional
        Count only where this is True; in a mask of numbers, above 0.
    weights : array, shape of `a`, optional
        What each number counts, instead of 1.
    density : bool, default False
        Divide by widths and total, so that the integral is 1.
    axis : int or sequence of int, optional
        Count along these axes only: a histogram for each slice, all with the same edges.

    Returns
    -------
    hist : array, shape (bins,), or (*rest, bins) with `axis`
        int64; of the type of `weights` (summed in float64); float64 for densities.
    edges : array, shape (bins + 1,)
        Of NumPy's type. Both are of the framework and on the device of `a`, and have no derivative.

    Raises
    ------
    ValueError, TypeError
        Where NumPy does; if `where` or `weights` have another shape; if there are more bins than memory.

    Examples
    --------
    >>> import gridfield as gf, numpy as np
    >>> volume = np.array([[0.0, 1.0, 2.0], [0.0, 3.0, 9.0]])
    >>> inside = np.array([[1, 1, 1], [0, 1, 0]])
    >>> gf.histogram(volume, 3, (0, 3), where=inside)
    (array([1, 1, 2]), array([0., 1., 2., 3.]))
    >>> gf.histogram(volume, 3, (0, 3), axis=1)[0]
    array([[1, 1, 1],
           [1, 0, 1]])
    """
    where_is = "gf.histogram"
    given = present(a=a, where=where, weights=weights)
    F = dispatch.face(where_is, **given)
    a, where, weights = (
        _numbers(F, x, name, where_is) for name, x in (("a", a), ("where", where), ("weights", weights))
    )
    if a.dtype == np.bool_:
        a = a.view(np.uint8)
    _same_shape(a, where_is, where=where, weights=weights)
    check.flag(density, "density", where_is)
    with _named(where_is):
        hist, edges = _histogram(a, bins, range, where, weights, axis, where_is)
    if density:
        with np.errstate(invalid="ignore", divide="ignore"):
            hist = hist / np.array(np.diff(edges), float) / hist.sum(-1, keepdims=True)
    return back(F, hist, given), back(F, edges, given)


@recipe
def histogramdd(
    points: Any,
    bins: Any = 10,
    range: Any = None,
    *,
    where: Any = None,
    weights: Any = None,
    density: bool = False,
) -> tuple[Any, list[Any]]:
    """Histogram of points in N-D: exactly what `numpy.histogramdd` says of ``points[where]``, in one pass.

    Parameters
    ----------
    points : array, shape (n, ndim), or tuple of ndim arrays, shape (n,)
        Coordinates.
    bins : int, or one int or sequence of edges per axis, default 10
        Number of equal bins along each axis, or increasing edges.
    range : sequence of (lo, hi) or None, one per axis, optional
        Ends of the bins. Default: the smallest and largest coordinate of the points in the mask.
    where : array, shape (n,), optional
        Count only these points; in a mask of numbers, those above 0.
    weights : array, shape (n,), optional
        What each point counts, instead of 1.
    density : bool, default False
        Divide by volumes and total, so that the integral is 1.

    Returns
    -------
    hist : array, shape (*bins,), float64
    edges : list of arrays, shapes (bins + 1,)
        Both are of the framework and on the device of `points`, and have no derivative.

    Raises
    ------
    ValueError, TypeError
        Where NumPy does; if `where` or `weights` have another shape; if there are more bins than memory.

    Examples
    --------
    >>> import gridfield as gf, numpy as np
    >>> points = np.array([[0.0, 0.0], [1.0, 2.0], [1.0, 1.9], [0.2, 0.1]])
    >>> hist, edges = gf.histogramdd(points, (2, 2), [(0, 1), (0, 2)])
    >>> hist
    array([[2., 0.],
           [0., 2.]])
    >>> edges
    [array([0. , 0.5, 1. ]), array([0., 1., 2.])]
    """
    name = "gf.histogramdd"
    several = isinstance(points, (tuple, list)) and len(points) > 0 and all(np.ndim(p) == 1 for p in points)
    named = {f"points[{i}]": p for i, p in enumerate(points)} if several else {"points": points}
    given = present(**named, where=where, weights=weights)
    F = dispatch.face(name, **given)
    columns = [_numbers(F, p, label, name) for label, p in named.items()]
    columns = [c.view(np.uint8) if c.dtype == np.bool_ else c for c in columns]
    if not several:
        if columns[0].ndim not in (1, 2):
            raise ValueError(f"{name}: points must have shape (n, ndim), got {columns[0].shape}")
        columns = list(columns[0].T) if columns[0].ndim == 2 else [columns[0]]
    if not columns:
        raise ValueError(f"{name}: points must have at least one coordinate")
    if len({c.dtype for c in columns}) > 1:
        columns = [c.astype(np.result_type(*columns), copy=False) for c in columns]
    where, weights = (_numbers(F, x, label, name) for label, x in (("where", where), ("weights", weights)))
    for i, c in enumerate(columns):
        _same_shape(columns[0], name, **{f"points[{i}]": c})
    _same_shape(columns[0], name, what="the points'", where=where, weights=weights)
    check.flag(density, "density", name)
    if weights is not None and not np.can_cast(weights.dtype, np.float64, "safe"):
        raise TypeError(f"{name}: weights has dtype {weights.dtype}, which float64 does not hold")
    with _named(name):
        edges, uniform = _edges_per_axis(columns, bins, range, where, name)
    shape = tuple(len(e) - 1 for e in edges)
    _fits(math.prod(shape), name)
    if 0 in shape:
        hist = np.zeros(shape)
    elif any(x.dtype == np.longdouble for x in (*columns, *edges)) or _unlike(columns, edges):
        chosen = slice(None) if where is None else where > 0
        kept = [c[chosen] for c in columns]
        with _named(name):
            hist, _ = np.histogramdd(kept, bins, range, weights=None if weights is None else weights[chosen])
    else:
        axes, columns = Axes(edges, uniform, single=columns[0].dtype == np.float32), [native(c) for c in columns]
        flat, _ = (
            cpu.count(axes, columns, where, dtype=np.float64)
            if weights is None
            else cpu.weigh(axes, columns, native(weights), where)
        )
        hist = flat.reshape(shape)
    if density:
        total = hist.sum()
        for i, e in enumerate(edges):
            hist = hist / np.diff(e).reshape([-1 if i == j else 1 for j in np.arange(len(edges))])
        with np.errstate(invalid="ignore", divide="ignore"):
            hist = hist / total
    return back(F, hist, given), [back(F, e, given) for e in edges]


@contextlib.contextmanager
def _named(name: str) -> Iterator[None]:
    """Errors of NumPy begin with the name of the function, and are of the two kinds that it raises."""
    try:
        yield
    except (ValueError, TypeError, OverflowError, IndexError, MemoryError) as error:
        if str(error).startswith(name):
            raise
        raise (TypeError if isinstance(error, TypeError) else ValueError)(f"{name}: {error}") from None


# ---- one axis
def _histogram(a: Array, bins: Any, range: Any, where: Any, weights: Any, axis: Any, name: str) -> tuple[Array, Array]:
    axes = _chosen_axes(axis, a.ndim, name)
    rule = isinstance(bins, str)
    equal = np.ndim(bins) == 0
    if equal and not rule:
        bins = _number_of_bins(bins)
        slices = 1 if axes is None else math.prod(n for i, n in enumerate(a.shape) if i not in axes)
        _fits(bins * slices, name)
    if not equal:
        range = None  # as NumPy has it
    simple = a.dtype.name in (*check.FLOATS, "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64")
    simple = simple and (equal or np.asarray(bins).dtype.name not in ("longdouble", "float128", "object"))
    if weights is not None:
        simple = simple and (weights.dtype.kind in "biu" or weights.dtype.name in ("float16", *check.FLOATS))
    if rule or not simple:
        return _by_numpy(a, where, weights, axes, bins, range, name)
    if equal and range is None:
        range = _extremes(a, where)
    if equal:
        edges = np.histogram_bin_edges(np.empty(0, a.dtype), bins, range)
    else:
        edges = np.histogram_bin_edges(np.empty(0, a.dtype), bins)
    if axes is None and weights is None and a.dtype.name in SMALL_INTEGERS and a.size > 2 ** (8 * a.itemsize):
        return _by_value(a, where, edges, bins, range)
    single = a.dtype == np.float32 and edges.dtype == np.float32
    fine = equal and single and int(bins) > FINE
    if fine or (axes is None and len(edges) < 2) or _unlike([a], [edges], *(range or ())):
        return _by_numpy(a, where, weights, axes, bins if equal else edges, range, name)
    inside = None
    if equal:
        # NumPy compares with the ends in the type of `a` where they are Python's numbers
        ends = _outer(range)
        inside = [tuple(a.dtype.type(e) if type(e) in (int, float) and a.dtype.kind == "f" else e for e in ends)]
    how = Axes([edges], [equal], inside=inside, single=single)
    if axes is not None:
        return _slices(a, where, weights, axes, how, name), edges
    a, where, weights = _in_memory_order(a, where, weights)
    if weights is None:
        return cpu.count(how, [a], where)[0], edges
    return _as_weights(cpu.weigh(how, [a], native(weights), where)[0], weights.dtype), edges


def _number_of_bins(bins: Any) -> int:
    try:
        bins = operator.index(bins)
    except TypeError:
        raise TypeError("`bins` must be an integer, a string, or an array") from None
    if bins < 1:
        raise ValueError("`bins` must be positive, when an integer")
    return bins


def _as_weights(total: Array, dtype: Any) -> Array:
    """Sums in the type of the weights, as NumPy has them."""
    return total > 0 if dtype == np.bool_ else total.astype(dtype, copy=False)


def _outer(range: Any) -> tuple[Any, Any]:
    """The ends; an empty range is made 1 wide, as NumPy does."""
    lo, hi = range
    return (lo - 0.5, hi + 0.5) if lo == hi else (lo, hi)


def _extremes(a: Array, where: Any) -> tuple[Any, Any]:
    """The smallest and the largest number in the mask, NaN if there is one; (0, 1) of nothing."""
    chosen: Any = True
    if where is not None:
        chosen = where if where.dtype == np.bool_ else where > 0
        if not chosen.any():
            return 0, 1
    if a.size == 0:
        return 0, 1
    top, bottom = (np.inf, -np.inf) if a.dtype.kind == "f" else (np.iinfo(a.dtype).max, np.iinfo(a.dtype).min)
    lo, hi = (np.min(a, where=chosen, initial=top), np.max(a, where=chosen, initial=bottom))
    if not (np.isfinite(lo) and np.isfinite(hi)):
        raise ValueError(f"autodetected range of [{lo}, {hi}] is not finite")
    return lo, hi


def _by_value(a: Array, where: Any, edges: Array, bins: Any, range: Any) -> tuple[Array, Array]:
    """Of integers of few bits: every value counted, and the values then put into bins."""
    info = np.iinfo(a.dtype)
    values = np.arange(info.min, info.max + 1).astype(a.dtype)
    every = Axes([np.arange(info.min, info.max + 2) - 0.5], [True])
    a, where, _ = _in_memory_order(a, where, None)
    counts, _ = cpu.count(every, [a], where)
    hist, edges = np.histogram(values, bins if np.ndim(bins) == 0 else edges, range, weights=counts)
    return hist, edges


def _slices(a: Array, where: Any, weights: Any, axes: tuple[int, ...], how: Axes, name: str) -> Array:
    """A histogram per slice, (*rest, bins)."""
    rest = tuple(i for i in np.arange(a.ndim).tolist() if i not in axes)
    shape = tuple(a.shape[i] for i in rest)
    if len(axes) == 1:  # a view, where the array is contiguous
        three = math.prod(a.shape[: axes[0]]), a.shape[axes[0]], math.prod(a.shape[axes[0] + 1 :])
        order = tuple(np.arange(a.ndim))
    else:
        three, order = (math.prod(shape), math.prod(a.shape[i] for i in axes), 1), (*rest, *axes)
    _fits(how.size * math.prod(shape), name)
    read = None if weights is None else native(weights)
    arrays = [None if x is None else x.transpose(order).reshape(three) for x in (a, where, read)]
    hist = cpu.slices(how, *arrays).reshape(*shape, how.size)  # type: ignore[arg-type]
    return hist.astype(np.int64) if weights is None else _as_weights(hist, weights.dtype)


def _chosen_axes(axis: Any, ndim: int, name: str) -> tuple[int, ...] | None:
    if axis is None:
        return None
    try:
        axes = tuple(operator.index(i) for i in (axis if np.ndim(axis) else (axis,)))
    except TypeError:
        raise TypeError(f"{name}: axis must be an int or a sequence of them, got {axis!r}") from None
    if not axes or any(not -ndim <= i < ndim for i in axes) or len({i % ndim for i in axes}) < len(axes):
        raise ValueError(f"{name}: axis {axis!r} must name one or more of the {ndim} axes of a, each once")
    return tuple(sorted(i % ndim for i in axes))


# ---- several axes
def _edges_per_axis(
    columns: list[Array], bins: Any, range: Any, where: Any, name: str
) -> tuple[list[Array], list[bool]]:
    """Edges as NumPy makes them, and whether they are equally far apart."""
    nd = len(columns)
    try:
        if len(bins) != nd:
            raise ValueError(f"{name}: bins has {len(bins)} entries but the points have {nd} coordinates")
    except TypeError:
        bins = nd * [bins]
    if range is not None and len(range) != nd:
        raise ValueError(f"{name}: range has {len(range)} entries but the points have {nd} coordinates")
    edges = []
    for i, (column, b) in enumerate(zip(columns, bins, strict=True)):
        if np.ndim(b) == 0:
            n = _number_of_bins(b)
            _fits(n, name)
            lo, hi = _ends(column, None if range is None else range[i], where)
            if not math.isfinite(float(hi) - float(lo)):  # of NumPy the edges are NaN then
                raise ValueError(f"Too many bins for data range. Cannot create {n} finite-sized bins.")
            edges.append(np.linspace(lo, hi, n + 1))
        elif np.ndim(b) == 1:
            e = np.asarray(b)
            if len(e) < 1 or np.any(e[:-1] > e[1:]):
                raise ValueError(f"`bins[{i}]` must be monotonically increasing, when an array")
            edges.append(e)
        else:
            raise ValueError(f"`bins[{i}]` must be a scalar or 1d array")
    return edges, [np.ndim(b) == 0 for b in bins]


def _ends(column: Array, range: Any, where: Any) -> tuple[Any, Any]:
    if range is None:
        return _outer(_extremes(column, where))
    lo, hi = range
    if lo > hi:
        raise ValueError("max must be larger than min in range parameter.")
    if not (np.isfinite(lo) and np.isfinite(hi)):
        raise ValueError(f"supplied range of [{lo}, {hi}] is not finite")
    return _outer(range)


# ---- in and out
def present(**arrays: Any) -> dict[str, Any]:
    """Those that are not None."""
    return {name: x for name, x in arrays.items() if x is not None}


def _numbers(F: Face, x: Any, name: str, where: str) -> Any:
    """The numbers of an array, which has to have them by now."""
    if x is None:
        return None
    if name == "weights" and F.followed(F.array(x)):
        raise TypeError(
            f"{where}: weights are followed or traced, but a histogram has no derivative: detach them; the 'sum' of "
            "gf.binned_statistic has one"
        )
    try:
        x = F.array(x)
        x = F.concrete(F.astype(x, "float32") if F.dtype(x) == "bfloat16" else x)  # NumPy has none
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"{where}: {name} must be an array of numbers, or convertible to one ({error})") from None
    if x is None:
        raise TypeError(f"{where}: {name} has no numbers while something traces it; a histogram has no derivative")
    if x.dtype.kind not in "biufc" or (name != "weights" and x.dtype.kind == "c"):
        raise TypeError(f"{where}: {name} has dtype {x.dtype} but must be real numbers")
    return x


def back(F: Face, x: Array, given: dict[str, Any]) -> Any:
    """As an array of the framework."""
    return x if F.name == "numpy" else F.constant(x, F.widest(x.dtype.name), F.array(next(iter(given.values()))))


def _same_shape(a: Array, name: str, what: str = "that of a,", **others: Any) -> None:
    for other, x in others.items():
        if x is not None and x.shape != a.shape:
            raise ValueError(f"{name}: {other} has shape {x.shape} but must have {what} {a.shape}")


def _fits(bins: int, name: str) -> None:
    """No more bins than there is memory for, and than can be numbered."""
    check.fits(bins, name, what="bins", size=16, most=MOST)


def native(x: Array) -> Array:
    """Of a type that the kernels read."""
    if x.dtype == np.bool_:
        return x.view(np.uint8)
    return x if x.dtype.kind in "biu" or x.dtype.name in check.FLOATS else x.astype(np.float64)


def _unlike(columns: list[Array], edges: list[Array], *ends: Any) -> bool:
    """Whether NumPy itself has to say what is in which bin.

    Edges are NaN, or of a range so narrow that rounding makes them decrease; or integers, of which some may be no
    float64, meet edges that are no less.
    """
    if not all((e[1:] >= e[:-1]).all() for e in edges):
        return True
    if all(c.dtype.kind == "f" for c in columns) and all(e.dtype.kind == "f" for e in edges):
        return False
    bounds = [*ends, *(x for e in edges if len(e) for x in (e[0], e[-1]) if np.isfinite(x))]
    return any(abs(int(x)) >= EXACT for x in bounds)


def _by_numpy(
    a: Array, where: Any, weights: Any, axes: tuple[int, ...] | None, bins: Any, range: Any, name: str
) -> tuple[Array, Array]:
    """What is rare, by NumPy; slices (*rest, bins) one by one."""
    if axes is None:
        return np.histogram(*_picked(a, where, weights, bins, range))
    every = _picked(a, where, weights, bins, range)
    edges = np.histogram_bin_edges(every[0], bins, range, every[4])
    if np.ndim(bins) == 0 and (range is None or isinstance(bins, str)):  # the same for all
        bins, range = len(edges) - 1, (edges[0], edges[-1])
    rest = tuple(i for i in np.arange(a.ndim).tolist() if i not in axes)
    shape = tuple(a.shape[i] for i in rest)
    _fits(max(len(edges) - 1, 0) * math.prod(shape), name)
    hist = np.empty((*shape, max(len(edges) - 1, 0)), np.int64 if weights is None else weights.dtype)
    lines = [None if x is None else x.transpose(*rest, *axes) for x in (a, where, weights)]
    for i in np.ndindex(*shape):
        one, mask, w = (None if x is None else x[i] for x in lines)
        hist[i], _ = np.histogram(*_picked(one, mask, w, bins, range))
    return hist, edges


def _picked(a: Any, where: Any, weights: Any, bins: Any, range: Any) -> tuple[Any, ...]:
    """Arguments for NumPy, of what is in the mask."""
    chosen = slice(None) if where is None else where > 0
    return a[chosen], bins, range, None, None if weights is None else weights[chosen]


def _in_memory_order(*arrays: Any) -> list[Any]:
    """The same elements of all arrays in one line; not copied where they are contiguous and in one order."""
    order = sorted(range(arrays[0].ndim), key=lambda i: -abs(arrays[0].strides[i]))
    return [None if x is None else x.transpose(order).reshape(-1) for x in arrays]
