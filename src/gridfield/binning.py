"""binned_statistic and bin_index: what the values of scattered points come to in the cells of a grid."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import arguments, check, dispatch, uniform
from .cpu import bins as cpu
from .cpu.axes import MOST, Axes
from .cpu.summaries import NEEDS, Summary
from .grid import Grid
from .histogram import back, native, present
from .ops import Face, recipe, static
from .sampling import KernelLike, sample, splat

Array = np.ndarray[Any, Any]

SMOOTH = ("count", "sum", "mean")  # what kernels wider than a cell are for
DIFFERENTIABLE = ("count", "sum", "mean", "var", "std", "min", "max")
MEDIAN = -1.0  # stands for it among probabilities


@dataclass(frozen=True)
class Cells:
    """Where points go: a grid, or lists of edges along each axis."""

    grid: Grid | None
    listed: tuple[Array, ...] = ()

    @property
    def shape(self) -> tuple[int, ...]:
        """Cells along each axis."""
        return self.grid.shape if self.grid else tuple(len(e) - 1 for e in self.listed)

    @property
    def edges(self) -> tuple[Array, ...]:
        """Edges along each axis."""
        return tuple(self.grid.edges()) if self.grid else self.listed

    def axes(self) -> Axes:
        """As the kernels read them."""
        wraps, nd = self.grid.periodic if self.grid else None, len(self.shape)
        return Axes(self.edges, [self.grid is not None] * nd, wraps)


@static
def _ends(*axes: tuple[Any, ...]) -> tuple[tuple[float, float], ...]:
    """The outer edges of the cells of a grid, constants where a compiler traces."""
    return tuple(uniform.outer(*axis) for axis in axes)


@recipe
def bin_index(points: Any, grid: Any, *, bounds: Any = None) -> Any:
    """Flat number, in C order, of the cell that each point is in; -1 outside.

    A cell holds its lower edge and not its upper one, the last holds both: the rule of `numpy.histogramdd`.

    Parameters
    ----------
    points : array, shape (*pts, ndim), or tuple of ndim arrays, shape (*pts)
        Coordinates in the units of the grid.
    grid : Grid, or numbers of cells, or list of edges per axis
        The cells; irregular edges are allowed.
    bounds : (lo, hi) or one such pair per axis
        Outer edges, where `grid` is numbers of cells.

    Returns
    -------
    array, shape (*pts), int64
        Of the framework and on the device of `points`; ``np.unravel_index(index, grid.shape)`` gives the number of the
        cell along each axis.

    Raises
    ------
    ValueError, TypeError
        If the arguments do not fit together.

    Examples
    --------
    >>> import gridfield as gf, numpy as np
    >>> points = np.array([[0.0, 0.5], [1.0, 9.0], [0.2, 10.0]])
    >>> gf.bin_index(points, [[0, 0.5, 1], [0, 1, 3, 9]])
    array([ 0,  5, -1])
    """
    name = "gf.bin_index"
    F, named, x = _points(points, {}, name)
    cells = _cells(grid, bounds, name)
    pts = _checked_points(named, cells, name)
    how = cells.axes()

    def index(*coordinates: Array) -> tuple[Array]:
        shape = coordinates[0].shape
        return (
            how.index(_columns(coordinates, "points" in named)).reshape(shape[:-1] if "points" in named else shape),
        )

    x = [F.astype(c, "float32") if F.dtype(c) in check.HALF else c for c in x]  # NumPy has no bfloat16
    known: list[Any] = [F.concrete(c) for c in x]
    if all(c is not None for c in known):
        return back(F, index(*known)[0], named)
    return F.outside(index, [pts], F.widest("int64"), *x)[0]


@recipe
def binned_statistic(
    points: Any,
    values: Any,
    grid: Any,
    statistic: Any = "mean",
    *,
    bounds: Any = None,
    weights: Any = None,
    where: Any = None,
    nan_policy: str = "omit",
    outside: str = "drop",
    fill_value: float = math.nan,
    kernel: KernelLike = "nearest",
) -> Any:
    """A statistic of the values of scattered points in each cell of a grid, or several in one pass.

    A cell holds its lower edge and not its upper one, the last holds both: the rule of `numpy.histogramdd`. With
    weights w, the mean is ``sum(w v) / sum(w)`` and the variance ``sum(w (v - mean)**2) / sum(w)``. A wider kernel
    spreads each point over the cells around it: ``sum = splat(w v)``, ``count = splat(w)``, ``mean = sum / count``.

    Parameters
    ----------
    points : array, shape (*pts, ndim), or tuple of ndim arrays, shape (*pts)
        Coordinates in the units of the grid. A point with a NaN is in no cell.
    values : array, shape (*pts, *lead), or None
        One number, or one per column, for each point. None: there is nothing but a "count".
    grid : Grid, or numbers of cells, or list of edges per axis
        The cells; irregular edges are allowed.
    statistic : str or float, or list of those, default "mean"
        "count", "sum", "mean", "var", "std" (of the population, as NumPy's), "min", "max", "first", "last" (in the
        order of the points), "median", or a probability from 0 to 1: that quantile, as `numpy.quantile` has it, but
        beside an infinite value the limit instead of NaN. A list adds a leading axis to the result, and costs little
        more than one.
    bounds : (lo, hi) or one such pair per axis
        Outer edges, where `grid` is numbers of cells.
    weights : array, shape (*pts), optional
        For count (their sum), sum, mean, var and std; other statistics take no weights.
    where : array, shape (*pts), optional
        Take only these points; in a mask of numbers, those above 0.
    nan_policy : {"omit", "propagate", "raise"}, default "omit"
        Leave values out that are NaN, or let them spoil their cell, or raise.
    outside : {"drop", "clip", "raise"}, default "drop"
        Leave points out that are outside of the grid, or hold them at its ends, or raise.
    fill_value : float, default NaN
        What empty cells hold; for "count" and "sum" it is 0.
    kernel : str, int or Kernel, default "nearest"
        Any but "nearest" spreads points smoothly, as `splat` does: for "count", "sum" and "mean".

    Returns
    -------
    array, shape (*lead, *grid.shape), or (len(statistic), *lead, *grid.shape)
        Of the framework, type and device of `values`, float64 for integers and without values; summed in float64. The
        same bits whatever the number of threads. ``grid.coords()`` says where the cells are. Count, sum, mean, var,
        std, min and max have derivatives in the values; with a smooth kernel, in the points, too.

    Raises
    ------
    ValueError, TypeError
        If the arguments do not fit together, or something has no derivative that is followed.

    Examples
    --------
    >>> import gridfield as gf, numpy as np
    >>> points = np.array([[1.0, 2, 3], [4, 5, 6], [2.5, 3.5, 4.5], [2.9, 3.9, 4.9], [1.5, 2, 3]])
    >>> grid = gf.Grid.covering(points, spacing=0.5)
    >>> field = gf.binned_statistic(points, (points**2).sum(-1), grid)
    >>> field.shape, field[0, 0, 0], field[1, 0, 0], np.isnan(field).sum()
    ((7, 7, 7), np.float64(14.0), np.float64(15.25), np.int64(338))
    >>> x = np.array([0.1, 0.2, 0.7])
    >>> gf.binned_statistic((x,), np.array([1.0, 3.0, 5.0]), 2, ["mean", "max", "count"], bounds=(0, 1))
    array([[2., 5.],
           [3., 5.],
           [2., 1.]])
    """
    name = "gf.binned_statistic"
    F, named, x = _points(points, {"values": values, "weights": weights, "where": where}, name)
    cells = _cells(grid, bounds, name)
    pts = _checked_points(named, cells, name)
    wanted, several = _statistics(statistic, name)
    for what, given, allowed in (("nan_policy", nan_policy, ("omit", "propagate", "raise")),
                                 ("outside", outside, ("drop", "clip", "raise"))):  # fmt: skip
        if given not in allowed:
            raise ValueError(f"{name}: {what} must be one of {allowed}, got {given!r}")
    fill_value = check.number(fill_value, "fill_value", name)
    smooth = not (isinstance(kernel, (str, int)) and kernel in ("nearest", 0))
    v, w, mask = (None if a is None else _array(F, a, label, name)
                  for label, a in (("values", values), ("weights", weights), ("where", where)))  # fmt: skip
    dtype = _check_arrays(F, x, v, w, mask, pts, wanted, smooth, cells, kernel, name)
    if not smooth:
        refused = "points are followed, but kernel='nearest' has no derivative in them: detach them, or choose a smooth"
        x = [F.refusing(c, f"{name}: {refused} kernel") for c in x]
    lead = () if v is None else tuple(v.shape[len(pts) :])
    _fits(math.prod(cells.shape), name, len(wanted) * math.prod([n for n in lead if isinstance(n, int)]))
    *x, v, w, mask = (  # NumPy has no bfloat16
        F.astype(a, "float32") if a is not None and F.dtype(a) in check.HALF else a for a in (*x, v, w, mask)
    )
    job = _Job(F, x, "points" in named, v, w, mask, cells, wanted, nan_policy, outside, fill_value, kernel,
               F.widest("float64"), name, pts, lead)  # fmt: skip
    out = _stacked(job, job.followed(smooth)) if smooth else F.apart(_nearest, job)
    return F.reshape(F.astype(out, dtype), (*([len(wanted)] if several else []), *lead, *cells.shape))


def _stacked(job: _Job, each: list[Any]) -> Any:
    return each[0] if len(each) == 1 else job.F.stack(each, 0)


def _nearest(job: _Job) -> Any:
    """Statistics by the kernels, where nothing follows or traces, else by the framework."""
    F, arrays = job.F, (*job.x, job.v, job.w, job.mask)
    # what the framework cannot compute goes to the kernels from wherever it is
    own = set(job.wanted) <= set(DIFFERENTIABLE)
    known = [None if a is None else F.at_hand(a) if own else F.concrete(a) for a in arrays]
    if any(k is None for k, a in zip(known, arrays, strict=True) if a is not None):
        if not own:
            raise TypeError(
                f"{job.name}: {_names(job.wanted)} need numbers, which are not known while something traces"
            )
        return _stacked(job, job.followed(False))
    return F.constant(np.ascontiguousarray(job.known(*known)), job.dtype, job.x[0] if job.v is None else job.v)


@dataclass
class _Job:
    """One call, its arguments checked: x is one array (*pts, ndim), or one (*pts) per axis."""

    F: Face
    x: list[Any]
    joined: bool  # x is one array
    v: Any
    w: Any
    mask: Any
    cells: Cells
    wanted: list[Any]
    nan_policy: str
    outside: str
    fill: float
    kernel: Any
    dtype: str  # to compute in, where derivatives are followed
    name: str
    pts: tuple[int, ...]
    lead: tuple[int, ...]

    @property
    def rows(self) -> Any:
        """How many points there are; -1 where that is not known while something traces."""
        return -1 if None in self.pts else math.prod(self.pts)

    def known(self, *arrays: Any) -> Array:
        """(statistics, columns, cells) by the kernels, of NumPy arrays."""
        *x, v, w, mask = arrays
        columns, axes, clip = _columns(x, self.joined), self.cells.axes(), self.outside == "clip"
        n = len(columns[0])
        w, mask = (None if a is None else native(np.ascontiguousarray(a).reshape(n)) for a in (w, mask))
        if v is None:
            counts, lost = (
                cpu.count(axes, columns, mask, clip, np.float64)
                if w is None
                else cpu.weigh(axes, columns, w, mask, clip)
            )
            self._outside(lost)
            one = counts[None, None]
            return one if len(self.wanted) == 1 else np.repeat(one, len(self.wanted), 0)
        plain = [s for s in self.wanted if isinstance(s, str)]
        omit = self.nan_policy == "omit"
        summary = Summary(axes, columns, native(v.reshape(n, math.prod(self.lead))), w, mask, clip, omit)
        found: dict[Any, Array] = dict(summary.statistics(plain, self.fill)) if plain else {}
        if probabilities := [s for s in self.wanted if not isinstance(s, str)]:
            found |= dict(zip(probabilities, summary.quantiles(probabilities, self.fill), strict=True))
        self._outside(summary.outside)
        if self.nan_policy == "raise" and summary.nans:
            raise ValueError(f"{self.name}: values has {summary.nans} NaN, and nan_policy is 'raise'")
        # one as it is: of 128**3 cells a copy takes 5 ms
        return found[self.wanted[0]][None] if len(self.wanted) == 1 else np.stack([found[s] for s in self.wanted])

    def _outside(self, lost: int) -> None:
        if self.outside == "raise" and lost:
            raise ValueError(f"{self.name}: {lost} points are in no cell of the grid, and outside is 'raise'")

    def followed(self, smooth: bool) -> list[Any]:
        """Statistics (columns, *cells) of sums of splat, which have derivatives."""
        F, shape, n = self.F, self.cells.shape, self.rows
        if "raise" in (self.outside, self.nan_policy):
            self._raise()
        x = self.x[0] if self.joined else F.stack(self.x, -1)
        x = F.reshape(x, (n, len(shape)))
        mask = [] if self.mask is None else [F.reshape(self.mask, (n,))]
        if smooth:
            return self._smooth(F.astype(x, self.dtype), mask)
        axes, clip = self.cells.axes(), self.outside == "clip"

        def centres(points: Array, *where: Array) -> tuple[Array, Array]:
            """The cell of each point along each axis, and 1; of points in none 0, and 0."""
            index = axes.index(_columns([points], True), clip)
            inside = (index >= 0) & (where[0].reshape(-1) > 0) if where else index >= 0
            numbers = np.stack(np.unravel_index(np.maximum(index, 0), shape), -1)
            return numbers, inside[:, None]

        known = None if n == -1 else n
        held, inside = F.outside(centres, [(known, len(shape)), (known, 1)], self.dtype, x, *mask)
        v, ones, w = self._counted(inside)

        def add(y: Any) -> Any:
            pixels = Grid.pixels(shape)
            return splat(y, held, pixels, kernel="nearest", boundary="nearest")

        count, out = add(w), {}
        empty = F.fixed(count) == 0
        safe = F.where(empty, 0 * count + 1, count)
        blank = 0 * count + self.fill
        for s in self.wanted:
            if s == "count":
                out[s] = count
            elif s in ("sum", "mean"):
                total = add(w * v)
                out[s] = total if s == "sum" else F.where(empty, blank, total / safe)
            elif s in ("var", "std"):
                mean = add(w * v) / safe
                there = sample(mean, held, kernel="nearest", boundary="nearest", prefilter=False)
                d = F.where(ones > 0, v - there, 0 * v)
                var = add(w * d * d) / safe
                if s == "std":  # of 0 the slope is 0, not infinite
                    some = F.fixed(var) > 0
                    var = F.where(some, F.where(some, var, 0 * var + 1) ** 0.5, 0 * var)
                out[s] = F.where(empty, blank, var)
            else:
                chosen = self._extreme(s, axes, clip, x, v, ones)
                number = add(ones)
                out[s] = F.where(F.fixed(number) == 0, 0 * number + self.fill, add(F.where(chosen > 0, v, 0 * v)))
        return [out[s] for s in self.wanted]

    def _extreme(self, which: str, axes: Axes, clip: bool, x: Any, v: Any, ones: Any) -> Any:
        """1 for the values that are the smallest or largest of their cells, the first of equals; else 0."""
        sign = 1 if which == "min" else -1

        def chosen(points: Array, values: Array, there: Array) -> tuple[Array]:
            index, out = axes.index(_columns([points], True), clip), np.zeros(values.shape)
            for c, column in enumerate(values.T):
                key = np.where(np.isnan(column), -np.inf, sign * column)  # a NaN spoils its cell
                order = np.lexsort((key, index))
                order = order[np.broadcast_to(there, values.shape)[order, c] > 0]
                first = np.ones(len(order), bool)
                first[1:] = index[order][1:] != index[order][:-1]
                out[order[first], c] = 1
            return (out,)

        return self.F.outside(chosen, [tuple(v.shape)], self.dtype, x, v, ones)[0]

    def _counted(self, inside: Any) -> tuple[Any, Any, Any]:
        """Values (n, columns), 0 where they do not count; 1 where they do; their weights. inside: (n, 1)."""
        F, n, columns = self.F, self.rows, math.prod(self.lead)
        v = inside if self.v is None else F.astype(F.reshape(self.v, (n, columns)), self.dtype)
        if self.nan_policy == "omit":  # a NaN is 0, and counts nothing
            ones = F.where(F.fixed(v) == F.fixed(v), inside, 0 * inside)
        else:
            ones = F.broadcast_to(inside, F.shape(v))
        v = F.where(ones > 0, v, 0 * ones)
        return v, ones, ones if self.w is None else F.reshape(F.astype(self.w, self.dtype), (n, 1)) * ones

    def _smooth(self, x: Any, mask: list[Any]) -> list[Any]:
        """Points spread by a kernel; what would fall beyond the ends is held there, so that nothing is lost."""
        F, n = self.F, self.rows
        grid: Any = self.cells.grid  # a list of edges was refused
        numbers = F.fixed(x)
        ends, inside = _ends(*grid._each()), None
        lo, hi = (F.constant(np.array([e[i] for e in ends]), self.dtype, x) for i in (0, 1))
        for a, (wraps, (first, last)) in enumerate(zip(grid.periodic, ends, strict=True)):
            u = numbers[:, a]
            here = u - u == 0 if wraps else (u >= first) & (u <= last)
            here = u == u if self.outside == "clip" and not wraps else here
            inside = here if inside is None else inside & here
        if self.outside == "clip":
            held = F.constant(np.array([not wraps for wraps in grid.periodic], float), self.dtype, x) > 0
            x = F.where((numbers < lo) & held, lo, F.where((numbers > hi) & held, hi, x))
        x = F.where(F.reshape(inside, (n, 1)), x, lo)  # of points that count nothing, anything that is a number
        if mask:
            inside = inside & (F.fixed(F.astype(mask[0], self.dtype)) > 0)  # TensorFlow compares no bools
        v, _, w = self._counted(F.reshape(F.astype(inside, self.dtype), (n, 1)))

        def add(y: Any) -> Any:
            return splat(y, x, grid, kernel=self.kernel, boundary="nearest")

        out: dict[Any, Any] = {}
        count = add(w) if {"count", "mean"} & set(self.wanted) else None
        if {"sum", "mean"} & set(self.wanted):
            out["sum"] = add(w * v)
        if count is not None:
            out["count"] = count
            if "mean" in self.wanted:
                empty = F.fixed(count) == 0
                mean = out["sum"] / F.where(empty, 0 * count + 1, count)
                out["mean"] = F.where(empty, 0 * mean + self.fill, mean)
        return [out[s] for s in self.wanted]

    def _raise(self) -> None:
        """Errors that depend on numbers, where they are known."""
        F = self.F
        known: list[Any] = [None if a is None else F.concrete(a) for a in (*self.x, self.v, self.mask)]
        if any(k is None for k, a in zip(known, (*self.x, self.v, self.mask), strict=True) if a is not None):
            raise TypeError(f"{self.name}: 'raise' needs numbers, which are not known while something traces")
        *x, v, mask = known
        columns = _columns(x, self.joined)
        inside = np.ones(len(columns[0]), bool) if mask is None else np.asarray(mask).reshape(-1) > 0
        index = self.cells.axes().index(columns, self.outside == "clip")
        self._outside(int(np.sum(inside & (index < 0))))
        if self.nan_policy == "raise" and v is not None:
            nans = np.isnan(np.asarray(v)).reshape(len(index), -1)[inside & (index >= 0)].sum()
            if nans:
                raise ValueError(f"{self.name}: values has {nans} NaN, and nan_policy is 'raise'")


# ---- arguments
def _points(points: Any, others: dict[str, Any], name: str) -> tuple[Face, dict[str, Any], list[Any]]:
    """The face; the coordinates by name, a tuple of arrays one by one; the same as arrays."""
    if isinstance(points, tuple):
        named = {f"points[{i}]": p for i, p in enumerate(points)}
        if not named:
            raise ValueError(f"{name}: points is an empty tuple, but there is an array of coordinates per axis")
    else:
        named = {"points": points}
    F = dispatch.face(name, **named, **present(**others))
    named = {label: _array(F, p, label, name) for label, p in named.items()}
    return F, named, list(named.values())


def _array(F: Face, x: Any, label: str, name: str) -> Any:
    try:
        x = F.array(x)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"{name}: {label} must be an array of numbers, or convertible to one ({error})") from None
    if not check.is_number(F.dtype(x)) or F.dtype(x) in check.REAL:
        raise TypeError(f"{name}: {label} has dtype {F.dtype(x)} but must be real numbers")
    return x


def _checked_points(named: dict[str, Any], cells: Cells, name: str) -> tuple[int, ...]:
    """The shape of the points."""
    nd, arrays = len(cells.shape), list(named.values())
    if "points" not in named:
        if len(arrays) != nd:
            raise ValueError(f"{name}: points has {len(arrays)} arrays of coordinates but the grid has {nd} axes")
        for label, a in named.items():
            if tuple(a.shape) != tuple(arrays[0].shape):
                raise ValueError(f"{name}: {label} has shape {tuple(a.shape)} but points[0] {tuple(arrays[0].shape)}")
        return tuple(arrays[0].shape)
    shape = tuple(arrays[0].shape)
    if len(shape) == 0 or shape[-1] != nd:
        raise ValueError(
            f"{name}: points has shape {shape} but must be (*pts, {nd}), as the grid has {nd} axes {cells.shape}"
            + ("; one line of coordinates may be given as (x,)" if nd == 1 else "")
        )
    return shape[:-1]


def _cells(grid: Any, bounds: Any, name: str) -> Cells:
    """A Grid, or what stands for one."""
    if not isinstance(grid, Grid):
        items: Any = arguments.items(grid)
        counts = all(np.ndim(i) == 0 for i in items or ())
        if counts and bounds is None:
            raise ValueError(
                f"{name}: grid {grid!r} must be a gf.Grid, or a list of edges for each axis, or numbers of cells with "
                "bounds="
            )
        if not counts and bounds is not None:
            raise ValueError(f"{name}: bounds goes with numbers of cells, but grid is a list of edges")
        if not counts:
            return Cells(None, tuple(_edges(e, i, name) for i, e in enumerate(items or ())))
        sizes, _ = arguments.shape_and_periodic(name, grid, False)
        _fits(math.prod(sizes), name)
        pairs: Any = () if bounds is None else bounds
        if items is None and np.ndim(pairs) == 2:  # one number of cells for all axes
            sizes = sizes * len(pairs)
        arguments.lows_and_highs(name, bounds, sizes)
        grid = Grid.cells(sizes, bounds)
    elif bounds is not None:
        raise ValueError(f"{name}: bounds goes with numbers of cells, but grid is a gf.Grid")
    _fits(grid.size, name)
    return Cells(grid)


def _edges(edges: Any, axis: int, name: str) -> Array:
    try:
        e = np.asarray(edges, np.float64)
    except (TypeError, ValueError):
        e = np.empty(0)
    if e.ndim != 1 or len(e) < 2 or np.isnan(e).any() or np.any(e[1:] < e[:-1]):
        raise ValueError(f"{name}: edges of axis {axis} must be 2 or more increasing numbers, got {edges!r}")
    return e


def _fits(cells: int, name: str, each: int = 1) -> None:
    """So many cells, with so many numbers each."""
    check.fits(cells, name, each, most=MOST)


def _statistics(statistic: Any, name: str) -> tuple[list[Any], bool]:
    """Names, and probabilities of quantiles; whether it was a list."""
    several = isinstance(statistic, Sequence) and not isinstance(statistic, str)
    out: list[Any] = []
    for s in statistic if several else [statistic]:
        if isinstance(s, str) and s in NEEDS:
            out.append(s)
        elif isinstance(s, str) and s == "median":
            out.append(MEDIAN)
        elif isinstance(s, (int, float, np.number)) and not isinstance(s, bool) and 0 <= s <= 1:
            out.append(float(s))
        else:
            raise ValueError(
                f"{name}: statistic must be one of {(*NEEDS, 'median')}, or a probability from 0 to 1, or a list of "
                f"those; got {s!r}"
            )
    if not out:
        raise ValueError(f"{name}: statistic is an empty list")
    return out, several


def _names(wanted: Iterable[Any]) -> list[Any]:
    """As they were given."""
    return ["median" if s == MEDIAN else s for s in wanted]


def _check_arrays(
    F: Face, x: list[Any], v: Any, w: Any, mask: Any, pts: Any, wanted: Any, smooth: bool, cells: Any, kernel: Any,
    name: str,
) -> str:  # fmt: skip
    """Shapes, devices, derivatives; returns the type of the result."""
    if v is None and set(wanted) != {"count"}:
        raise ValueError(f"{name}: values may be None only where the statistic is 'count'")
    if v is not None:
        check.leading(v.shape, pts, "values", "the shape of the points", name)
    for label, a in (("weights", w), ("where", mask)):
        if a is not None and not check.same(tuple(a.shape), tuple(pts)):
            raise ValueError(f"{name}: {label} has shape {tuple(a.shape)} but must have the points' {tuple(pts)}")
    for label, a in (("values", v), ("weights", w), ("where", mask)):
        if a is not None:
            check.same_device(name, F.device(a), F.device(x[0]), label, "points")
    unweighed = _names(s for s in wanted if s in ("min", "max", "first", "last") or not isinstance(s, str))
    if w is not None and unweighed:
        raise ValueError(f"{name}: weights do not go with {unweighed}")
    if smooth and cells.grid is None:
        raise ValueError(f"{name}: kernel={kernel!r} needs a uniform grid, not a list of edges")
    if smooth and not set(wanted) <= set(SMOOTH):
        raise ValueError(f"{name}: kernel={kernel!r} is for {SMOOTH}; the statistic is {wanted}")
    tracked = [a for a in (v, w) if a is not None and F.followed(a)]
    without = _names(s for s in wanted if s not in DIFFERENTIABLE)
    if tracked and without:
        raise TypeError(
            f"{name}: {without} have no derivative in values or weights that are followed or traced: only "
            f"{DIFFERENTIABLE} do; detach them"
        )
    dtype = F.dtype(x[0] if v is None else v)
    return F.widest("float64") if check.is_integer(dtype) or (v is None and not smooth) else dtype


def _columns(x: Sequence[Array], joined: bool) -> list[Array]:
    """Coordinates (n,) along each axis, of one array (*pts, ndim) or of one per axis."""
    if joined:
        return list(native(x[0]).reshape(-1, x[0].shape[-1]).T)
    common = np.result_type(*x)
    return [native(np.ascontiguousarray(c, common)).reshape(-1) for c in x]
