"""Statistics of the values in each cell: one pass for what can be added up, a sort by cells for quantiles.

Variances are about the first value of a cell, which is near enough to the mean: sums of squares about 0 lose all digits
of a variance that is 1e-16 of the squared mean. What parts of the points found is combined in their order, by
T. F. Chan, G. H. Golub, R. J. LeVeque, "Algorithms for computing the sample variance", Am. Stat. 37 (1983), 242-247.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit, types

from . import threads
from .bins import ADD_NS, parts
from .cache import SOURCES, array, compiled
from .cells import BLOCK, HERE, LOCATE_NS, NUMBERS, Axes, layout, plain
from .machine import specialising, staged
from .scratch import scratch

Array = np.ndarray[Any, Any]

SLOTS = ("number", "weight", "sum", "first", "about", "squares", "min", "max", "last")  # of a cell's record, in order
MOMENTS = ("first", "about", "squares")
NEEDS = {  # slots of each statistic, beside the number of values and, where there are weights, their sum
    "count": (), "sum": ("sum",), "mean": ("sum",), "var": MOMENTS, "std": MOMENTS,
    "min": ("min",), "max": ("max",), "first": ("first",), "last": ("last",),
}  # fmt: skip
RANKED = 16  # values that are sorted by counting how many are below each, all at once
CELL_NS = 2.0  # measured: of a cell, read and written
SORT_NS = 10.0  # measured: of a value to its cell and through the sort of a cell of 8


@specialising(SOURCES)
@dataclass(frozen=True)
class RecordSpec:
    """What is noted of a cell. Without the number of values, NaN stands for none: a maximum takes half the room."""

    slots: tuple[str, ...]

    @property
    def numbered(self) -> bool:
        """Whether there is the number of values."""
        return "number" in self.slots


@staged
def note(m: Any, spec: Any, records: Any, first: Any, cells: Any, values: Any, weights: Any, count: Any) -> None:
    """Values into the records of their cells, which begin at `first`."""
    slots = spec.slots

    def body(j: Any, _: Any) -> None:
        at = m.widen(m.load(cells, j)) * len(slots) + first
        v, old = m.load(values, j), {name: m.load(records, at + i) for i, name in enumerate(slots)}
        if not spec.numbered:
            for i, name in enumerate(slots):
                kept = old[name] <= v if name == "min" else old[name] >= v
                m.store(records, at + i, m.select(kept, old[name], v))
            return
        w, new, fresh = m.load(weights, j) if "weight" in slots else None, {}, old["number"] < 0.5
        new["number"] = old["number"] + 1.0
        if w is not None:
            new["weight"] = old["weight"] + w
        if "sum" in slots:
            new["sum"] = old["sum"] + (v if w is None else v * w)
        if w is not None and "about" in slots:
            # what has no weight is not what differences are taken from: those so far were 0
            none = [(old[name] >= 0.0) & (old[name] <= 0.0) for name in ("weight", "about", "squares")]
            fresh = fresh | (none[0] & none[1] & none[2])
        if "first" in slots:
            new["first"] = m.select(fresh, v, old["first"])
        if "about" in slots:
            d = v - new["first"]
            wd = d if w is None else d * w
            new["about"], new["squares"] = old["about"] + wd, old["squares"] + wd * d
        if "min" in slots:
            new["min"] = m.select(fresh | (v < old["min"]) | m.not_number(v), v, old["min"])
        if "max" in slots:
            new["max"] = m.select(fresh | (v > old["max"]) | m.not_number(v), v, old["max"])
        if "last" in slots:
            new["last"] = v
        for i, name in enumerate(slots):
            m.store(records, at + i, new[name])

    m.loop(0, count, body)


@njit(nogil=True, error_model="numpy", _nrt=False)
def _picked(cells, whose, n, values, start, omit, kept, v):  # type: ignore[no-untyped-def]
    """Cells and values of n points, without those of NaN where these are left out: how many, and how many NaN."""
    count, nans = 0, 0
    for j in range(n):
        x = np.float64(values[np.uint64(start + whose[j])])
        v[np.uint64(count)], kept[np.uint64(count)] = x, cells[j]
        nan = np.int64(x != x)
        nans += nan
        count += 1 - (nan & omit)
    return count, nans


@njit(nogil=True, error_model="numpy", _nrt=False)
def _weights_of(whose, n, values, weights, start, omit, w):  # type: ignore[no-untyped-def]
    """Their weights."""
    count = 0
    for j in range(n):
        at = np.uint64(start + whose[j])
        w[np.uint64(count)] = weights[at]
        x = np.float64(values[at])
        count += 1 - (np.int64(x != x) & omit)


def _summarise(spec, cells, whose, n, values, weights, start, omit, kept, v, w, records):  # type: ignore[no-untyped-def]
    """Values (points, columns) into records (columns, size * slots); how many are NaN."""
    nans = 0
    for c in range(values.shape[1]):
        for first in range(0, n, BLOCK):
            m, own, of = min(BLOCK, n - first), cells[first : first + BLOCK], whose[first : first + BLOCK]
            count, missing = _picked(own, of, m, values[:, c], start, omit, kept, v)
            if len(weights):
                _weights_of(of, m, values[:, c], weights, start, omit, w)
            nans += missing
            note(spec, records, c * records.shape[1], kept, v, w, count)
    return nans


def _place(cells, whose, n, values, start, omit, kept, v, following, places, to):  # type: ignore[no-untyped-def]
    """Each value behind the last of its cell; with no room for them they are only counted. Returns how many are NaN."""
    nans = 0
    for first in range(0, n, BLOCK):
        m, own, of = min(BLOCK, n - first), cells[first : first + BLOCK], whose[first : first + BLOCK]
        count, missing = _picked(own, of, m, values, start, omit, kept, v)
        nans += missing
        for j in range(count):  # places are all known before the first is written to
            at = np.uint64(kept[j])
            places[j] = following[at]
            following[at] += 1
        if len(to):
            for j in range(count):
                to[np.uint64(places[j])] = v[j]
    return nans


@specialising(SOURCES)
@dataclass(frozen=True)
class RankSpec:
    """So many vectors of 8 numbers."""

    vectors: int


ONE, TWO = RankSpec(1), RankSpec(2)


@staged
def rank(m: Any, spec: Any, line: Any, first: Any, count: Any, room: Any, ranks: Any, nans: Any) -> None:
    """room = `count` numbers from line[first] on, and infinity; ranks = their places when sorted, of equals in their
    order; nans[0] = how many are NaN. What follows on the numbers is read, too."""
    lanes = 8
    numbers = [m.const(ranks, list(range(lanes * k, lanes * k + lanes))) for k in range(spec.vectors)]
    zero, one, beyond = (m.const(ranks, [i] * lanes) for i in (0, 1, RANKED))
    vectors, spoilt = [], None
    for k, n in enumerate(numbers):
        v = m.load(line, first + lanes * k, lanes)
        v = m.select(n < m.cast(count, ranks), v, m.const(line, [np.inf] * lanes))
        m.store(room, k * lanes, v)
        vectors.append(v)
        some = m.number_of(m.not_number(v))
        spoilt = some if spoilt is None else spoilt + some
    m.store(nans, 0, spoilt)
    totals = [zero] * spec.vectors
    for j in range(lanes * spec.vectors):  # one after the other beside all
        x = m.load(room, j)
        for k, (v, n) in enumerate(zip(vectors, numbers)):
            before = m.select(v < x, zero, one) if lanes * k > j else m.select(v > x, one, zero)
            if lanes * k <= j < lanes * k + lanes:
                before = m.select(n > j, m.select(v < x, zero, one), before)
            totals[k] = totals[k] + before
    for k, r in enumerate(totals):
        m.store(ranks, k * lanes, m.select(r < beyond, r, zero))  # a NaN is as little below as above


@njit(nogil=True, error_model="numpy", _nrt=False)
def _sorted(spec, line, first, n, room, ranks, nans, out):  # type: ignore[no-untyped-def]
    """out = the n numbers from `first` on, sorted; whether all are numbers."""
    rank(spec, line, first, n, room, ranks, nans)
    for i in range(len(ranks)):
        out[np.uint64(ranks[i])] = room[i]
    return nans[0] == 0


def _quantiles(one, two, line, ends, probabilities, out, start, stop):  # type: ignore[no-untyped-def]
    """out[q, cell]: np.median of the values of a cell where a probability is negative, else np.quantile. RANKED more
    numbers than there are values may be read."""
    ranks, room, few, nans = np.empty(RANKED, np.int32), np.empty(RANKED), np.empty(RANKED), np.zeros(1, np.int64)
    for cell in range(start, stop):
        first = np.int64(ends[cell - 1] if cell else 0)
        n = ends[cell] - first
        if n == 0:
            continue
        if n <= RANKED:
            v = few
            numbers = (
                _sorted(one, line, first, n, room[:8], ranks[:8], nans, few) if n <= 8
                else _sorted(two, line, first, n, room, ranks, nans, few)
            )  # fmt: skip
        else:
            v, numbers = line[first : first + n], True
            for x in v:
                numbers &= x == x
            v.sort()
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


@staged
def settle(m: Any, spec: Any, records: Any, start: Any, stop: Any) -> None:
    """Sums about the first value of a cell become the mean, and squares about it."""
    slots = spec.slots
    of = {name: i for i, name in enumerate(slots)}

    def body(cell: Any, _: Any) -> None:
        at = cell * len(slots)
        w, about = m.load(records, at + of.get("weight", of["number"])), m.load(records, at + of["about"])
        mean = m.select((w < 0.0) | (w > 0.0), about / w, w * 0.0)
        squares = m.load(records, at + of["squares"]) - about * mean
        squares = m.select(squares > 0.0, squares, m.select(squares <= 0.0, 0.0, squares))  # a rounding below 0 is 0
        m.store(records, at + of["squares"], squares)
        m.store(records, at + of["about"], m.load(records, at + of["first"]) + mean)

    m.loop(start, stop, body)


@staged
def combine(m: Any, spec: Any, records: Any, others: Any, start: Any, stop: Any) -> None:
    """Records of cells with those of points that follow."""
    slots = spec.slots

    def body(cell: Any, _: Any) -> None:
        at = cell * len(slots)
        a, b = ({name: m.load(x, at + i) for i, name in enumerate(slots)} for x in (records, others))
        if not spec.numbered:
            for i, name in enumerate(slots):
                further = b[name] < a[name] if name == "min" else b[name] > a[name]
                m.store(records, at + i, m.select(further | m.not_number(a[name]), b[name], a[name]))
            return
        nobody, follow = a["number"] < 0.5, b["number"] > 0.5
        new = {name: a[name] + b[name] for name in ("number", "weight", "sum") if name in slots}
        if "first" in slots:
            new["first"] = m.select(nobody, b["first"], a["first"])
        if "about" in slots:
            before, after = (x.get("weight", x["number"]) for x in (a, b))
            total, step = before + after, b["about"] - a["about"]
            share = m.select((total < 0.0) | (total > 0.0), after / total, total * 0.0)
            squares = a["squares"] + b["squares"] + step * step * before * share
            new["about"] = m.select(nobody, b["about"], m.select(follow, a["about"] + step * share, a["about"]))
            new["squares"] = m.select(nobody, b["squares"], m.select(follow, squares, a["squares"]))
        if "min" in slots:
            below = (b["min"] < a["min"]) | m.not_number(b["min"])
            new["min"] = m.select(nobody | (follow & below), b["min"], a["min"])
        if "max" in slots:
            above = (b["max"] > a["max"]) | m.not_number(b["max"])
            new["max"] = m.select(nobody | (follow & above), b["max"], a["max"])
        if "last" in slots:
            new["last"] = m.select(follow, b["last"], a["last"])
        for i, name in enumerate(slots):
            m.store(records, at + i, new[name])

    m.loop(start, stop, body)


def _settle(spec, records, start, stop):  # type: ignore[no-untyped-def]
    """The columns (columns, cells * slots) of one part."""
    for c in range(len(records)):
        settle(spec, records[c], start, stop)


def _merge(spec, records, start, stop):  # type: ignore[no-untyped-def]
    """Parts (parts, columns, cells * slots) into the first, in order."""
    for p in range(1, len(records)):
        for c in range(records.shape[1]):
            combine(spec, records[0, c], records[p, c], start, stop)


def _finish(records, width, slot, weight, divided, root, fill, out, start, stop):  # type: ignore[no-untyped-def]
    """A slot of every cell, over the weight where it is to be `divided`; `fill` where there is nothing: where the first
    slot is 0, or, without a weight, where there is NaN."""
    for c in range(len(records)):
        a = records[c]
        for cell in range(start, stop):
            at = cell * width
            x, w = a[at + slot], a[at + max(weight, 0)]
            if weight < 0:
                x = x if x == x else fill
            elif divided:
                x = x / w
                x = np.sqrt(x) if root else x
                x = x if w != 0 else fill
            elif a[at] == 0:
                x = fill
            out[c, cell] = x


@functools.cache
def _entry(kind: str, values: str, other: str, slots: tuple[str, ...] = ()) -> Any:
    """A compiled kernel: "summarise", other being the weights, or "place", other the numbers of places. The texts are a
    dtype and a layout."""
    i64, v, line = types.int64, array("float64", 1, "C"), array(other[:-1], 1, other[-1])
    if kind == "place":
        args = *HERE, array(values[:-1], 1), i64, i64, NUMBERS, v, line, line, v
        return compiled(_place, f"{values}_{other}", args)
    spec: Any = RecordSpec(slots)
    args = spec._numba_type_, *HERE, array(values[:-1], 2), line, i64, i64, NUMBERS, v, v, array("float64", 2, "C")
    return compiled(_summarise, f"{values}_{other}_{'_'.join(slots)}", args)


@functools.cache
def _quantiles_entry(places: str) -> Any:
    real, ends, two, i64 = array("float64", 1, "C"), array(places, 1, "C"), array("float64", 2, "C"), types.int64
    ranks = (r._numba_type_ for r in (ONE, TWO))  # type: ignore[attr-defined]
    return compiled(_quantiles, places, (*ranks, real, ends, real, two, i64, i64))


@functools.cache
def _cells_entry(kind: str, slots: tuple[str, ...] = ()) -> Any:
    """A compiled kernel over cells: "settle", "merge" or "finish"."""
    real, i64, two, spec = types.float64, types.int64, array("float64", 2, "C"), RecordSpec(slots)._numba_type_  # type: ignore[attr-defined]
    label = "_".join(slots)
    if kind == "settle":
        return compiled(_settle, label, (spec, two, i64, i64))
    if kind == "merge":
        return compiled(_merge, label, (spec, array("float64", 3, "C"), i64, i64))
    args = two, i64, i64, i64, types.boolean, types.boolean, real, two, i64, i64
    return compiled(_finish, "", args)


class Summary:
    """Statistics of values (n, columns) in cells: of points in the mask and, with `omit`, of values that are no NaN.

    Parameters: cells; coordinates along each axis; values; weights and mask (n,); whether points outside are held at
    the ends; whether NaN is left out. Attributes, once something was worked out: how many points of the mask are
    `outside`, and how many values are `nans`.
    """

    def __init__(
        self,
        axes: Axes,
        columns: Sequence[Array],
        values: Array,
        weights: Array | None = None,
        where: Array | None = None,
        clip: bool = False,
        omit: bool = True,
    ) -> None:
        self.axes, self.columns, self.values, self.clip, self.omit = axes, columns, plain(values), clip, int(omit)
        self.mask = where
        self.weights = np.empty(0) if weights is None else plain(weights)
        self.outside = self.nans = 0

    def _inside(self) -> Any:
        return self.axes.inside(self.columns, self.mask, self.clip)

    def statistics(self, names: Sequence[str], fill: float) -> dict[str, Array]:
        """Statistics (columns, cells); `fill` where there is nothing to make one of."""
        (n, count), size = self.values.shape, self.axes.size
        kept = set().union(*(NEEDS[name] for name in names), ("weight",) if len(self.weights) else ())
        extremes = set(names) <= {"min", "max"} and bool(self.omit) and not len(self.weights)
        slots = tuple(name for name in SLOTS if name in kept or (name == "number" and not extremes))
        width, work = size * len(slots), (LOCATE_NS * len(self.columns) + ADD_NS * count) * n
        # extremes are the same for any parts
        each = threads.split(0, n, work if size <= n else 0) if extremes else parts(n, count * width, work)
        spec, inside, found = RecordSpec(slots), self._inside(), np.zeros((len(each), 2), int)
        kernel = _entry("summarise", *(a.dtype.name + layout(a) for a in (self.values, self.weights)), slots)
        # not fresh pages: 32 MB of them for each of two threads took 41 of 180 ms
        with scratch(len(each) * count * width, np.float64) as memory:
            records = memory.reshape(len(each), count, width)

            def run(p: int) -> None:
                room = np.empty(BLOCK, np.int32), np.empty(BLOCK), np.empty(BLOCK)
                records[p] = np.nan if extremes else 0
                for i, *here, lost in inside(*each[p]):
                    found[p] += lost, kernel(spec, *here, self.values, self.weights, i, self.omit, *room, records[p])

            threads.run([functools.partial(run, p) for p in range(len(each))])
            self.outside, self.nans = found.sum(0).tolist()
            work = CELL_NS * size * count
            if "about" in slots:
                for part in records:
                    threads.over(functools.partial(_cells_entry("settle", slots), spec, part), size, work)
            if len(each) > 1:
                merge = functools.partial(_cells_entry("merge", slots), spec, records)
                threads.over(merge, size, len(each) * work)
            return {name: self._statistic(name, records[0], slots, fill) for name in names}

    def _statistic(self, name: str, records: Array, slots: tuple[str, ...], fill: float) -> Array:
        """(columns, cells) of records (columns, cells * slots)."""
        weight = "weight" if "weight" in slots else "number" if "number" in slots else ""
        slot = weight if name == "count" else NEEDS[name][-1]
        how = name in ("mean", "var", "std"), name == "std", 0.0 if name in ("count", "sum") else fill
        out = np.empty((len(records), self.axes.size))
        places = slots.index(slot), slots.index(weight) if weight else -1
        run = functools.partial(_cells_entry("finish"), records, len(slots), *places, *how, out)
        threads.over(run, self.axes.size, CELL_NS * out.size)
        return out

    def quantiles(self, probabilities: Sequence[float], fill: float) -> Array:
        """(probabilities, columns, cells); a negative one stands for the median."""
        (n, count), size = self.values.shape, self.axes.size
        places = "int32" if n < 2**31 else "int64"  # half the memory that is written to at random
        each = threads.split(0, n, SORT_NS * n if 2 * size <= n else 0)
        out = np.full((count, len(probabilities), size), fill, np.float64)
        kernel, sort = _entry("place", self.values.dtype.name + "A", places + "C"), _quantiles_entry(places)
        wanted, nans, inside = np.array(probabilities, np.float64), 0, self._inside()

        def place(c: int, following: Array, line: Array) -> list[int]:
            found, values = np.zeros((len(each), 2), int), self.values[:, c]

            def run(p: int) -> None:
                room = np.empty(BLOCK, np.int32), np.empty(BLOCK), following[p], np.empty(BLOCK, places)
                for i, *here, lost in inside(*each[p]):
                    found[p] += lost, kernel(*here, values, i, self.omit, *room, line)

            threads.run([functools.partial(run, p) for p in range(len(each))])
            return found.sum(0).tolist()

        for c in range(count):
            following = np.zeros((len(each), size), places)  # of each part: at first, how many there are
            self.outside, missing = place(c, following, np.empty(0))
            nans += missing
            ends = np.cumsum(following.T, dtype=places).reshape(size, -1).T  # cell by cell, of each part after part
            following[:] = ends - following
            with scratch(int(ends[-1, -1]) + RANKED, np.float64) as line:
                place(c, following, line)
                # where the last part would put another one, a cell ends
                tail = functools.partial(sort, ONE, TWO, line, following[-1], wanted, out[c])
                threads.over(tail, size, SORT_NS * len(line))
        self.nans = nans
        return np.moveaxis(out, 1, 0)
