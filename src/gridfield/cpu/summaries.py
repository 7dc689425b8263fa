"""Statistics of the values in each cell: one pass for what can be added up, a sort by cells for quantiles.

Of few cells the records are changed as points come, each part of the points having its own; of more, values are dealt
out to blocks of cells first (partition.py), so that a block's records stay in a cache.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
from numba import njit, types

from . import threads
from .axes import Axes, layout, plain
from .bins import ADD_NS, parts
from .cache import array, compiled
from .cells import BLOCK, HERE, LOCATE_NS, NUMBERS
from .partition import MIDDLE, Blocks, Dealt, pieces
from .ranks import RANKED, quantiles
from .records import NEEDS, SLOTS, FinishSpec, RecordSpec, combine, finish, note
from .scratch import scratch

Array = np.ndarray[Any, Any]

CELL_NS = 2.0  # measured: of a cell, read and written
RECORD = 8  # bytes of a slot
DIRECT = 2**19  # bytes of records that are best left where they are, with the points as they come
RECORDS = 2**19  # bytes of the records of a block
SORTED = 2**14  # values that are sorted as a block
LEAST = 32  # blocks: of 8, a point often waits for the one before, 9.9 ns to deal one out instead of 8.1
BLOCKS = 512  # at most: of more, lines are fetched for a few values each
COLUMNS = 8  # at once


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


def _add_up(spec, local, line, heavy, lists, blocks, long, area, block, first, records):  # type: ignore[no-untyped-def]
    """The values of a block, chunk by chunk, into the records of its cells, of which number 0 is at `first`."""
    of = pieces(lists, blocks, long, area, block)
    for piece in range(len(of)):
        i, j = of[piece, 0], of[piece, 1]
        note(spec, records, first, local[i:j], line[i:j], heavy[i:j] if len(heavy) else heavy, j - i)


def _gather(local, line, lists, blocks, long, area, block, ends, to):  # type: ignore[no-untyped-def]
    """The values of a block, cell by cell; ends = where those of each cell end."""
    of = pieces(lists, blocks, long, area, block)
    for piece in range(len(of)):
        for k in range(of[piece, 0], of[piece, 1]):
            ends[np.uint64(np.int64(local[k]) + MIDDLE)] += 1
    total = 0
    for cell in range(len(ends)):
        total, ends[cell] = total + ends[cell], total
    for piece in range(len(of)):
        for k in range(of[piece, 0], of[piece, 1]):
            cell = np.uint64(np.int64(local[k]) + MIDDLE)
            to[np.uint64(ends[cell])] = line[k]
            ends[cell] += 1


def _merge(spec, records, start, stop):  # type: ignore[no-untyped-def]
    """Parts (parts, columns, cells * slots) into the first, in order."""
    for p in range(1, len(records)):
        for c in range(records.shape[1]):
            combine(spec, records[0, c], records[p, c], start, stop)


def _finish(spec, records, fill, out, start, stop):  # type: ignore[no-untyped-def]
    """A statistic (columns, cells) of records (columns, cells * slots)."""
    for c in range(len(records)):
        finish(spec, records[c], fill, out[c], start, stop)


LINE, TWO_D, I64 = array("float64", 1, "C"), array("float64", 2, "C"), types.int64
OF_BLOCK = array("int16", 1, "C"), LINE  # types of local numbers of cells, and values
LISTS = array("int64", 2), I64, I64, I64, I64  # which segments are whose, and which block


@functools.cache
def _entry(values: str, weights: str, slots: tuple[str, ...]) -> Any:
    """The compiled kernel for values and weights where they are; the texts are a dtype and a layout."""
    w, spec = array(weights[:-1], 1, weights[-1]), RecordSpec(slots)._numba_type_  # type: ignore[attr-defined]
    args = spec, *HERE, array(values[:-1], 2), w, I64, I64, NUMBERS, LINE, LINE, TWO_D
    return compiled(_summarise, f"{values}_{weights}_{'_'.join(slots)}", args)


@functools.cache
def _gather_entry() -> Any:
    return compiled(_gather, "", (*OF_BLOCK, *LISTS, array("int64", 1, "C"), LINE))


@functools.cache
def _cells_entry(kind: str, slots: tuple[str, ...]) -> Any:
    """A compiled kernel over the records of cells: "add" or "merge"."""
    spec, label = RecordSpec(slots)._numba_type_, "_".join(slots)  # type: ignore[attr-defined]
    if kind == "add":
        return compiled(_add_up, label, (spec, *OF_BLOCK, LINE, *LISTS, I64, LINE))
    return compiled(_merge, label, (spec, array("float64", 3, "C"), I64, I64))


@functools.cache
def _finishing(slots: tuple[str, ...], name: str) -> Any:
    """The compiled kernel that makes a statistic of records: (records, fill, out, start, stop)."""
    spec = FinishSpec(slots, name)
    signature = (spec._numba_type_, TWO_D, LINE, TWO_D, I64, I64)  # type: ignore[attr-defined]
    return functools.partial(compiled(_finish, "_".join((*slots, name)), signature), spec)


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
            if len(each) > 1:
                merge = functools.partial(_cells_entry("merge", slots), spec, records)
                threads.over(merge, size, len(each) * work)
            for name, a in out.items():
                threads.over(functools.partial(_finishing(slots, name), records[0], _filled(name, fill), a), size, work)

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
                            for name, a in out.items():
                                own_fill = _filled(name, fill)
                                _finishing(slots, name)(records[None], own_fill, a[c : c + 1, i:j], 0, j - i)

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
        gather, sort, wanted = _gather_entry(), quantiles(), np.array(probabilities, np.float64)
        inside, nans = self._inside(), 0
        with Dealt(blocks, n, 1, False) as dealt:

            def run(c: int, b: int, held: int) -> None:
                i, j = blocks.of(b)
                with scratch(held + RANKED, np.float64) as line:
                    ends = np.zeros(j - i, np.int64)
                    gather(*dealt.column(0, False), b, ends, line)
                    sort(line, ends, wanted, out[c, :, i:j], 0, j - i)

            for c in range(count):
                self.outside, more = dealt.deal(inside, self.values[:, c : c + 1], np.empty(0), self.omit, 0, n)
                nans += more
                threads.run([functools.partial(run, c, b, held) for b, held in enumerate(dealt.held())])
        self.nans = nans
        return np.moveaxis(out, 1, 0)


def _filled(name: str, fill: float) -> Array:
    """What stands where nothing is, as the kernel takes it."""
    return np.array([0.0 if name in ("count", "sum") else fill])
