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
from .cells import BLOCK, CHUNK, HERE, LOCATE_NS, NUMBERS, Axes, layout, plain
from .machine import specialising, staged
from .partition import MIDDLE, Blocks, Dealt, picked, weights_of
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
RECORD = 8  # bytes of a slot
DIRECT = 2**19  # bytes of records that are best left where they are, with the points as they come
RECORDS = 2**19  # bytes of the records of a block
SORTED = 2**14  # values that are sorted as a block
LEAST = 32  # blocks: of 8, a point often waits for the one before, 9.9 ns to deal one out instead of 8.1
BLOCKS = 512  # at most: of more, lines are fetched for a few values each
COLUMNS = 8  # at once


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


def _summarise(spec, cells, whose, n, values, weights, start, omit, kept, v, w, records):  # type: ignore[no-untyped-def]
    """Values (points, columns) into records (columns, size * slots); how many are NaN."""
    nans = 0
    for c in range(values.shape[1]):
        for first in range(0, n, BLOCK):
            m, own, of = min(BLOCK, n - first), cells[first : first + BLOCK], whose[first : first + BLOCK]
            count, missing = picked(own, of, m, values[:, c], start, omit, kept, v)
            if len(weights):
                weights_of(of, m, values[:, c], weights, start, omit, w)
            nans += missing
            note(spec, records, c * records.shape[1], kept, v, w, count)
    return nans


def _add_up(spec, local, line, heavy, ends, block, first, records):  # type: ignore[no-untyped-def]
    """The values of a block, chunk by chunk, into the records of its cells, of which number 0 is at `first`."""
    for chunk in range(len(ends)):
        i, j = np.int64(ends[chunk, block - 1] if block else chunk * CHUNK), np.int64(ends[chunk, block])
        note(spec, records, first, local[i:j], line[i:j], heavy[i:j] if len(heavy) else heavy, j - i)


def _gather(local, line, ends, block, following, to):  # type: ignore[no-untyped-def]
    """The values of a block, cell by cell; following = where those of each cell end."""
    for chunk in range(len(ends)):
        i, j = np.int64(ends[chunk, block - 1] if block else chunk * CHUNK), np.int64(ends[chunk, block])
        for k in range(i, j):
            following[np.uint64(np.int64(local[k]) + MIDDLE)] += 1
    total = 0
    for cell in range(len(following)):
        total, following[cell] = total + following[cell], total
    for chunk in range(len(ends)):
        i, j = np.int64(ends[chunk, block - 1] if block else chunk * CHUNK), np.int64(ends[chunk, block])
        for k in range(i, j):
            cell = np.uint64(np.int64(local[k]) + MIDDLE)
            to[np.uint64(following[cell])] = line[k]
            following[cell] += 1


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
                if t != 0 and not step < np.inf:  # of what is infinite the limit, which NumPy has NaN for
                    out[q, cell] = low * (1 - t) + high * t
                else:
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


LINE, TWO_D, I64 = array("float64", 1, "C"), array("float64", 2, "C"), types.int64
OF_BLOCK = array("int16", 1, "C"), LINE  # types of local numbers of cells, and values
ENDS = array("int64", 2)


@functools.cache
def _entry(values: str, weights: str, slots: tuple[str, ...]) -> Any:
    """The compiled kernel for values and weights where they are; the texts are a dtype and a layout."""
    w, spec = array(weights[:-1], 1, weights[-1]), RecordSpec(slots)._numba_type_  # type: ignore[attr-defined]
    args = spec, *HERE, array(values[:-1], 2), w, I64, I64, NUMBERS, LINE, LINE, TWO_D
    return compiled(_summarise, f"{values}_{weights}_{'_'.join(slots)}", args)


@functools.cache
def _gather_entry() -> Any:
    return compiled(_gather, "", (*OF_BLOCK, ENDS, I64, array("int64", 1, "C"), LINE))


@functools.cache
def _quantiles_entry() -> Any:
    ranks = (r._numba_type_ for r in (ONE, TWO))  # type: ignore[attr-defined]
    return compiled(_quantiles, "", (*ranks, LINE, array("int64", 1, "C"), LINE, array("float64", 2), I64, I64))


@functools.cache
def _cells_entry(kind: str, slots: tuple[str, ...] = ()) -> Any:
    """A compiled kernel over cells: "add", "settle", "merge" or "finish"."""
    spec, label = RecordSpec(slots)._numba_type_, "_".join(slots)  # type: ignore[attr-defined]
    if kind == "add":
        return compiled(_add_up, label, (spec, *OF_BLOCK, LINE, ENDS, I64, I64, LINE))
    if kind == "settle":
        return compiled(_settle, label, (spec, TWO_D, I64, I64))
    if kind == "merge":
        return compiled(_merge, label, (spec, array("float64", 3, "C"), I64, I64))
    args = TWO_D, I64, I64, I64, types.boolean, types.boolean, types.float64, TWO_D, I64, I64
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
        kept = set().union(*(NEEDS[name] for name in names), ("weight",) if len(self.weights) else ())
        extremes = set(names) <= {"min", "max"} and bool(self.omit) and not len(self.weights)
        slots = tuple(name for name in SLOTS if name in kept or (name == "number" and not extremes))
        size, count = self.axes.size, self.values.shape[1]
        out = {name: np.empty((count, size)) for name in names}
        # extremes need no more parts than threads: 2 MB of them take 22 ms of one thread where they are, dealt out 26
        if RECORD * len(slots) * size <= DIRECT * (4 if extremes else 1) or size > BLOCKS * 2 * MIDDLE:
            self._direct(slots, fill, out)
        else:
            for c in range(0, count, COLUMNS):
                part = {name: a[c : c + COLUMNS] for name, a in out.items()}
                self._dealt(self.values[:, c : c + COLUMNS], slots, fill, part)
        return out

    def _direct(self, slots: tuple[str, ...], fill: float, out: dict[str, Array]) -> None:
        """Where the records fit a cache, or are too many: each part of the points has records of its own."""
        (n, count), size, extremes = self.values.shape, self.axes.size, "number" not in slots
        width, work = size * len(slots), (LOCATE_NS * len(self.columns) + ADD_NS * count) * n
        # extremes are the same for any parts
        each = threads.split(0, n, work if size <= n else 0) if extremes else parts(n, count * width, work)
        spec, inside, found = RecordSpec(slots), self._inside(), np.zeros((len(each), 2), int)
        kernel = _entry(*(a.dtype.name + layout(a) for a in (self.values, self.weights)), slots)
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
            for name, a in out.items():
                finish = functools.partial(_cells_entry("finish"), records[0], *_how(name, slots, fill), a)
                threads.over(finish, size, work)

    def _dealt(self, values: Array, slots: tuple[str, ...], fill: float, out: dict[str, Array]) -> None:
        """Values dealt out to blocks of cells first, so many at a time; a block's records are a cache's."""
        (n, count), size, width, weights = values.shape, self.axes.size, len(slots), self.weights
        spec, inside, add = RecordSpec(slots), self._inside(), _cells_entry("add", slots)
        blocks, start = (
            Blocks(size, max(RECORDS // (RECORD * width), size // BLOCKS), LEAST),
            np.nan if "number" not in slots else 0.0,
        )
        step = Dealt.most(n, count, bool(len(weights)))
        with Dealt(blocks, min(step, n), count, bool(len(weights))) as dealt, \
                scratch(count * size * width if step < n else 0, np.float64) as memory:  # fmt: skip
            table = memory.reshape(count, -1)

            def run(b: int, first: bool, last: bool) -> None:
                i, j = blocks.of(b)
                with scratch(blocks.cells * width, np.float64) as own:
                    for c in range(count):
                        records = own[: (j - i) * width] if first and last else table[c, i * width : j * width]
                        if first:
                            records[:] = start
                        add(spec, *dealt.column(c), b, MIDDLE * width, records)
                        if last:
                            if "about" in slots:
                                _cells_entry("settle", slots)(spec, records[None], 0, j - i)
                            for name, a in out.items():
                                how = _how(name, slots, fill)
                                _cells_entry("finish")(records[None], *how, a[c : c + 1, i:j], 0, j - i)

            lost = nans = 0
            for i in range(0, max(n, 1), step):
                j = min(i + step, n)
                more = dealt.deal(inside, values, weights, self.omit, i, j)
                lost, nans = lost + more[0], nans + more[1]
                threads.run([functools.partial(run, b, i == 0, j == n) for b in range(blocks.number)])
        self.outside = lost
        self.nans += nans

    def quantiles(self, probabilities: Sequence[float], fill: float) -> Array:
        """(probabilities, columns, cells); a negative one stands for the median."""
        (n, count), size = self.values.shape, self.axes.size
        out = np.full((count, len(probabilities), size), fill, np.float64)
        blocks = Blocks(size, max(size * SORTED // max(n, 1), size // BLOCKS, 1), LEAST)
        gather, sort, wanted = _gather_entry(), _quantiles_entry(), np.array(probabilities, np.float64)
        inside, nans = self._inside(), 0
        with Dealt(blocks, n, 1, False) as dealt:

            def run(c: int, b: int, held: int) -> None:
                i, j = blocks.of(b)
                with scratch(held + RANKED, np.float64) as line:
                    ends = np.zeros(j - i, np.int64)
                    gather(*dealt.column(0, False), b, ends, line)
                    sort(ONE, TWO, line, ends, wanted, out[c, :, i:j], 0, j - i)

            for c in range(count):
                self.outside, more = dealt.deal(inside, self.values[:, c : c + 1], np.empty(0), self.omit, 0, n)
                nans += more
                threads.run([functools.partial(run, c, b, held) for b, held in enumerate(dealt.held())])
        self.nans = nans
        return np.moveaxis(out, 1, 0)


def _how(name: str, slots: tuple[str, ...], fill: float) -> tuple[Any, ...]:
    """What _finish has to know of a statistic."""
    weight = "weight" if "weight" in slots else "number" if "number" in slots else ""
    slot = weight if name == "count" else NEEDS[name][-1]
    places = slots.index(slot), slots.index(weight) if weight else -1
    return len(slots), *places, name in ("mean", "var", "std"), name == "std", 0.0 if name in ("count", "sum") else fill
