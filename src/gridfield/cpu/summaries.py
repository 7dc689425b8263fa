"""Statistics of the values in each cell: one pass for what can be added up, a sort by cells for quantiles.

Variances are about the first value of a cell, which is near enough to the mean: sums of squares about 0 lose all digits
of a variance that is 1e-16 of the squared mean. What parts of the points found is combined in their order, by
T. F. Chan, G. H. Golub, R. J. LeVeque, "Algorithms for computing the sample variance", Am. Stat. 37 (1983), 242-247.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numba import njit, types

from . import threads
from .bins import ADD_NS, NO_WEIGHTS, NOTHING, parts
from .cache import array, compiled
from .cells import BLOCK, LOCATE_NS, Axes, axes_types, columns_type, layout, left_out, locate, memory, plain, wanted

Array = np.ndarray[Any, Any]

SLOTS = ("number", "weight", "sum", "first", "about", "squares", "min", "max", "last")
NUMBER, WEIGHT, SUM, FIRST, ABOUT, SQUARES, MIN, MAX, LAST = range(len(SLOTS))
NEEDS = {  # slots of each statistic, beside the number of values and, where there are weights, their sum
    "count": (), "sum": (SUM,), "mean": (SUM,), "var": (FIRST, ABOUT, SQUARES), "std": (FIRST, ABOUT, SQUARES),
    "min": (MIN,), "max": (MAX,), "first": (FIRST,), "last": (LAST,),
}  # fmt: skip
FEW = 24  # values that are sorted by insertion
CELL_NS = 2.0  # measured: of a cell, read and written
SORT_NS = 10.0  # measured: of a value to its cell and through the sort of a cell of 8


@njit(nogil=True, error_model="numpy")
def _note(a, at, slots, v, w):  # type: ignore[no-untyped-def]
    """One value into the record of its cell, which begins at `at`."""
    number = a[np.uint64(at)]
    a[np.uint64(at)] = number + 1
    if slots[WEIGHT] > 0:
        a[np.uint64(at + slots[WEIGHT])] += w
    if slots[SUM] > 0:
        a[np.uint64(at + slots[SUM])] += w * v
    if slots[FIRST] > 0 and number == 0:
        a[np.uint64(at + slots[FIRST])] = v
    if slots[ABOUT] > 0:
        d = v - a[np.uint64(at + slots[FIRST])]
        a[np.uint64(at + slots[ABOUT])] += w * d
        a[np.uint64(at + slots[SQUARES])] += w * d * d
    if slots[MIN] > 0:
        m = np.uint64(at + slots[MIN])
        a[m] = v if number == 0 or v < a[m] or v != v else a[m]
    if slots[MAX] > 0:
        m = np.uint64(at + slots[MAX])
        a[m] = v if number == 0 or v > a[m] or v != v else a[m]
    if slots[LAST] > 0:
        a[np.uint64(at + slots[LAST])] = v


@njit(nogil=True, error_model="numpy")
def _note_sums(cells, values, start, m, omit, a):  # type: ignore[no-untyped-def]
    """The same of a block, where number and sum are all there is."""
    nans = 0
    for j in range(m):
        v = np.float64(values[np.uint64(start + j)])
        missing = v != v
        nans += missing & (cells[j] >= 0)
        if cells[j] >= 0 and not (missing and omit):
            at = np.uint64(2 * np.int64(cells[j]))
            a[at] += 1
            a[at + np.uint64(1)] += v
    return nans


def _summarise(
    spec, columns, axes, edges, clip, where, values, weights, omit, slots, size, records, found, start, stop
):  # type: ignore[no-untyped-def]
    """Records (columns of values, size * slots) of points start ... stop; found: how many are outside, and NaN."""
    x, k, close, cells = memory(edges)
    weighed, sums, width = len(weights) > 0, slots.max() == 1 and slots[SUM] == 1, slots.max() + 1
    for i in range(start, stop, BLOCK):
        m = min(BLOCK, stop - i)
        if not wanted(where, i, m):
            continue
        locate(spec, columns, i, m, axes, edges, clip, x, k, close, cells)
        found[0] += left_out(where, i, m, cells)
        for c in range(values.shape[1]):
            a = records[c]
            if sums:
                found[1] += _note_sums(cells, values[:, c], i, m, omit, a)
                continue
            for j in range(m):
                if cells[j] >= 0:
                    v = np.float64(values[i + j, c])
                    found[1] += v != v
                    if not (omit and v != v):
                        _note(a, np.int64(cells[j]) * width, slots, v, np.float64(weights[i + j]) if weighed else 1.0)


def _place(spec, columns, axes, edges, clip, where, values, omit, following, to, start, stop):  # type: ignore[no-untyped-def]
    """Each value behind the last of its cell."""
    x, k, close, cells = memory(edges)
    for i in range(start, stop, BLOCK):
        m = min(BLOCK, stop - i)
        if wanted(where, i, m):
            locate(spec, columns, i, m, axes, edges, clip, x, k, close, cells)
            left_out(where, i, m, cells)
            for j in range(m):
                v = np.float64(values[i + j])
                if cells[j] >= 0 and not (omit and v != v):
                    to[following[cells[j]]] = v
                    following[cells[j]] += 1


@njit(nogil=True, error_model="numpy")
def _sort(v):  # type: ignore[no-untyped-def]
    """In place; whether all are numbers."""
    n = len(v)
    for i in range(n):
        if v[i] != v[i]:
            return False
    if n > FEW:
        v.sort()
        return True
    for i in range(1, n):
        x, j = v[i], i
        while j > 0 and v[j - 1] > x:
            v[j] = v[j - 1]
            j -= 1
        v[j] = x
    return True


def _quantiles(values, ends, probabilities, out, start, stop):  # type: ignore[no-untyped-def]
    """out[q, cell]: np.median of the values of a cell where a probability is negative, else np.quantile."""
    for cell in range(start, stop):
        first = ends[cell - 1] if cell else 0
        v = values[first : ends[cell]]
        n = len(v)
        if n == 0:
            continue
        numbers = _sort(v)
        for q in range(len(probabilities)):
            p = probabilities[q]
            if not numbers:
                out[q, cell] = np.nan
            elif p < 0:
                out[q, cell] = v[n // 2] if n % 2 else (v[n // 2 - 1] + v[n // 2]) / 2
            else:
                place = p * (n - 1)
                i = min(int(place), n - 1)
                t, low, high = place - i, v[i], v[min(i + 1, n - 1)]
                step = high - low
                out[q, cell] = low if t == 0 else low + step * t if t < 0.5 else high - step * (1 - t)


@njit(nogil=True, error_model="numpy")
def _combine(a, at, b, slots):  # type: ignore[no-untyped-def]
    """The record of a cell, with that of points that follow; neither is empty."""
    if slots[ABOUT] > 0:
        w = slots[WEIGHT] if slots[WEIGHT] > 0 else 0
        before, after, step = a[at + w], b[at + w], b[at + slots[ABOUT]] - a[at + slots[ABOUT]]
        share = after / (before + after) if before + after != 0 else 0.0
        a[at + slots[SQUARES]] += b[at + slots[SQUARES]] + step * step * before * share
        a[at + slots[ABOUT]] += step * share
    for slot in (NUMBER, WEIGHT, SUM):
        if slots[slot] >= 0:
            a[at + slots[slot]] += b[at + slots[slot]]
    if slots[MIN] > 0:
        m = at + slots[MIN]
        a[m] = b[m] if b[m] < a[m] or b[m] != b[m] else a[m]
    if slots[MAX] > 0:
        m = at + slots[MAX]
        a[m] = b[m] if b[m] > a[m] or b[m] != b[m] else a[m]
    if slots[LAST] > 0:
        a[at + slots[LAST]] = b[at + slots[LAST]]


def _merge(records, slots, width, start, stop):  # type: ignore[no-untyped-def]
    """Parts (parts, columns of values, cells * slots) into the first, in order; sums about the first value of a cell
    become the mean, and squares about it."""
    w = slots[WEIGHT] if slots[WEIGHT] > 0 else 0
    for c in range(records.shape[1]):
        a = records[0, c]
        for p in range(records.shape[0]):
            b = records[p, c]
            for cell in range(start, stop):
                at = cell * width
                if b[at] == 0:
                    continue
                if slots[ABOUT] > 0:
                    mean = b[at + slots[ABOUT]] / b[at + w] if b[at + w] != 0 else 0.0
                    squares = b[at + slots[SQUARES]] - b[at + slots[ABOUT]] * mean
                    b[at + slots[SQUARES]] = 0.0 if squares < 0 else squares  # a rounding below 0 is 0
                    b[at + slots[ABOUT]] = b[at + slots[FIRST]] + mean
                if p and a[at] == 0:
                    a[at : at + width] = b[at : at + width]
                elif p:
                    _combine(a, at, b, slots)


def _finish(records, slots, width, slot, divided, root, fill, out, start, stop):  # type: ignore[no-untyped-def]
    """A slot of every cell, over the weight where it is to be `divided`; `fill` where there is nothing."""
    w = slots[WEIGHT] if slots[WEIGHT] > 0 else 0
    for c in range(records.shape[0]):
        a = records[c]
        for cell in range(start, stop):
            at = cell * width
            x = a[at + slot]
            if divided:
                x = x / a[at + w] if a[at + w] != 0 else fill
                if root and a[at + w] != 0:
                    x = np.sqrt(x)
            elif a[at] == 0:
                x = fill
            out[c, cell] = x


@functools.cache
def _entry(kind: str, label: str, columns: types.Type, real: str, mask: str, values: str, weights: str) -> Any:
    """A compiled kernel: "summarise" or "place"; the texts are a dtype and a layout."""
    i64, line, begin = types.int64, array("int64", 1, "C"), axes_types(columns, real)
    where, label = array(mask[:-1], 1, mask[-1]), f"{label}_{real}_{mask}_{values}_{weights}"
    if kind == "place":
        args = *begin, where, array(values[:-1], 1), types.boolean, line, array("float64", 1, "C"), i64, i64
        return compiled(_place, label, args)
    args = *begin, where, array(values[:-1], 2), array(weights[:-1], 1, weights[-1]), types.boolean, line, i64
    return compiled(_summarise, label, (*args, array("float64", 2, "C"), line, i64, i64))


@functools.cache
def _quantiles_entry() -> Any:
    real, line, i64 = array("float64", 1, "C"), array("int64", 1, "C"), types.int64
    return compiled(_quantiles, "", (real, line, real, array("float64", 2, "C"), i64, i64))


@functools.cache
def _cells_entry(kind: str) -> Any:
    """A compiled kernel over cells: "merge" or "finish"."""
    real, line, i64, two = types.float64, array("int64", 1, "C"), types.int64, array("float64", 2, "C")
    if kind == "merge":
        return compiled(_merge, "", (array("float64", 3, "C"), line, i64, i64, i64))
    args = two, line, i64, i64, types.boolean, types.boolean, real, two, i64, i64
    return compiled(_finish, "", args)


class Summary:
    """Statistics of values (n, columns) in cells: of points in the mask and, with `omit`, of values that are no NaN.

    Parameters: cells; coordinates along each axis; values; names of NEEDS that will be asked for; weights and mask
    (n,); whether points outside are held at the ends; whether NaN is left out.
    """

    def __init__(
        self,
        axes: Axes,
        columns: Sequence[Array],
        values: Array,
        names: Iterable[str],
        weights: Array | None = None,
        where: Array | None = None,
        clip: bool = False,
        omit: bool = True,
    ) -> None:
        self.axes, self.columns, self.values, self.clip, self.omit = axes, columns, plain(values), clip, omit
        self.mask = NOTHING if where is None else plain(where)
        self.weights = NO_WEIGHTS if weights is None else plain(weights)
        kept = {NUMBER}.union(*(NEEDS[name] for name in names), () if weights is None else (WEIGHT,))
        self.slots = np.full(len(SLOTS), -1)
        self.slots[sorted(kept)] = np.arange(len(kept))
        n, width = len(values), len(kept)
        work = (LOCATE_NS * len(columns) + ADD_NS * values.shape[1]) * n
        each = parts(n, axes.size * values.shape[1] * width // 2, work)
        records, found = self._pass(each, self.slots, width)
        self.outside, self.nans = found.tolist()
        self.width, self.records = width, records[0]
        if len(each) > 1 or self.slots[ABOUT] > 0:
            merge = functools.partial(_cells_entry("merge"), records, self.slots, width)
            threads.over(merge, axes.size, CELL_NS * records.size / width)

    def _pass(self, each: Sequence[tuple[int, int]], slots: Array, width: int) -> tuple[Array, Array]:
        size, count = self.axes.size, self.values.shape[1]
        layouts = (a.dtype.name + layout(a) for a in (self.mask, self.values, self.weights))
        kernel = _entry("summarise", *columns_type(self.columns), self.axes.dtype.name, *layouts)
        records, found = np.zeros((len(each), count, size * width)), np.zeros((len(each), 2), np.int64)
        args = *self.axes.args(self.columns, self.clip), self.mask, self.values, self.weights, self.omit, slots, size
        threads.run([functools.partial(kernel, *args, records[p], found[p], *each[p]) for p in range(len(each))])
        return records, found.sum(0)

    def get(self, name: str, fill: float) -> Array:
        """A statistic (columns, cells); `fill` where there is nothing to make it of."""
        slot = WEIGHT if name == "count" and self.slots[WEIGHT] > 0 else NEEDS[name][-1] if NEEDS[name] else NUMBER
        column = int(self.slots[slot])
        how = column, name in ("mean", "var", "std"), name == "std", 0.0 if name in ("count", "sum") else fill
        out = np.empty((len(self.records), self.axes.size))
        run = functools.partial(_cells_entry("finish"), self.records, self.slots, self.width, *how, out)
        threads.over(run, self.axes.size, CELL_NS * out.size)
        return out

    def quantiles(self, probabilities: Sequence[float], fill: float) -> Array:
        """(probabilities, columns, cells); a negative one stands for the median."""
        n, size = len(self.values), self.axes.size
        each = threads.split(0, n, SORT_NS * n if 2 * size <= n else 0)
        alone = np.full(len(SLOTS), -1)
        alone[NUMBER] = 0
        numbers, _ = self._pass(each, alone, 1)
        out = np.full((self.values.shape[1], len(probabilities), size), fill, np.float64)
        wanted_ones, sort = np.array(probabilities, np.float64), _quantiles_entry()
        layouts = self.mask.dtype.name + layout(self.mask), self.values.dtype.name + "A", "float64C"
        place = _entry("place", *columns_type(self.columns), self.axes.dtype.name, *layouts)
        for c, counts in enumerate(np.moveaxis(numbers, 1, 0).astype(np.int64)):
            ends = np.cumsum(counts.T).reshape(size, -1).T  # cell by cell, of each part after part
            following, line = np.ascontiguousarray(ends - counts), np.empty(int(counts.sum()))
            args = *self.axes.args(self.columns, self.clip), self.mask, self.values[:, c], self.omit
            threads.run([functools.partial(place, *args, following[p], line, *each[p]) for p in range(len(each))])
            run = functools.partial(sort, line, np.ascontiguousarray(ends[-1]), wanted_ones, out[c])
            threads.over(run, size, SORT_NS * len(line))
        return np.moveaxis(out, 1, 0)
