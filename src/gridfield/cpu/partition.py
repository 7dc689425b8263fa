"""Values of points dealt out to blocks of cells, so that a block's records stay in the second cache while they change.

Where 2e6 points meet 64**3 cells, to change the 32 bytes of a variance took 8.5 ns of one thread, memory of the third
cache and back, and as much again to clear and merge what each thread had; dealt out 2.5 ns, and the dealing takes 4.2.
Chunk by chunk it is counted how many values go to each block, and they are put one behind the other, block by block.
Every cell meets its values in the order of the points: the result depends on nothing else.

What limited the number of blocks were not pages (huge ones change nothing), but that the hardware fetches no more than
32 streams ahead: of 64 blocks, 12.4 ns a point went by waiting for lines to write to. Asked for ahead, they take 3.0.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit, types

from . import threads
from .cache import SOURCES, array, compiled
from .cells import BLOCK, CHUNK, HERE, LOCATE_NS, NUMBERS, layout
from .machine import specialising, staged
from .scratch import scratch

Array = np.ndarray[Any, Any]

MIDDLE = 2**15  # cells of a block at most are twice this many: they are numbered from -MIDDLE on, in 16 bits
DEAL_NS = 3.5  # measured: of a value to its block
ROOM = 2**26  # bytes of values that are dealt out at a time: a fixed amount, whatever there is of points
AHEAD = 16  # values


@specialising(SOURCES)
@dataclass(frozen=True)
class DealSpec:
    """Whether there are weights."""

    weighted: bool


@staged
def ask(m: Any, spec: Any, local: Any, line: Any, heavy: Any, at: Any) -> None:
    """For the lines that are written to soon."""
    m.prefetch(line, at + AHEAD)
    m.prefetch(local, at + 4 * AHEAD)
    if spec.weighted:
        m.prefetch(heavy, at + AHEAD)


@njit(nogil=True, error_model="numpy", _nrt=False)
def picked(cells, whose, n, values, start, omit, kept, v):  # type: ignore[no-untyped-def]
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
def weights_of(whose, n, values, weights, start, omit, w):  # type: ignore[no-untyped-def]
    """Their weights."""
    count = 0
    for j in range(n):
        at = np.uint64(start + whose[j])
        w[np.uint64(count)] = weights[at]
        x = np.float64(values[at])
        count += 1 - (np.int64(x != x) & omit)


@njit(nogil=True, error_model="numpy", _nrt=False)
def _count(cells, n, shift, values, start, places):  # type: ignore[no-untyped-def]
    """places += how many points are in each block; returns how many of their values are NaN."""
    nans = 0
    for j in range(n):
        places[np.uint64(cells[j] >> shift)] += 1
        x = np.float64(values[np.uint64(start + j)])
        nans += np.int64(x != x)
    return nans


@njit(nogil=True, error_model="numpy", _nrt=False)
def _spread(spec, cells, n, shift, values, weights, start, places, local, line, heavy):  # type: ignore[no-untyped-def]
    """Values of n points, from start on, behind those that there are of their blocks."""
    own = np.int32((1 << shift) - 1)
    for j in range(n):
        block, point = np.uint64(cells[j] >> shift), np.uint64(start + j)
        at = np.uint64(places[block])
        places[block] = at + np.uint64(1)
        ask(spec, local, line, heavy, at)
        line[at], local[at] = values[point], np.int16((cells[j] & own) - MIDDLE)
        if len(weights):
            heavy[at] = weights[point]


def _deal(spec, cells, whose, n, span, values, weights, start, omit, shift, base, ends, local, line, heavy, kept, v, w):  # type: ignore[no-untyped-def]
    """Values (points, columns) of n of `span` points to lines (columns, places) from `base` on, block by block, with
    the numbers of their cells in the block and their weights; ends (columns, blocks) of the blocks. Returns how many
    are NaN."""
    nans = 0
    for c in range(values.shape[1]):
        column, places, near, to, by = values[:, c], ends[c], local[c], line[c], heavy[c]
        places[:] = 0
        whole = n == span  # no point has to be looked for: 2 ns less
        if whole:
            missing = _count(cells, n, shift, column, start, places)
            nans += missing
            if missing & -omit:
                places[:] = 0
                nans -= missing
                whole = False
        if not whole:
            for first in range(0, n, BLOCK):
                m, own, of = min(BLOCK, n - first), cells[first : first + BLOCK], whose[first : first + BLOCK]
                count, missing = picked(own, of, m, column, start, omit, kept, v)
                _count(kept, count, shift, v, 0, places)
                nans += missing
        total = base
        for b in range(len(places)):
            total, places[b] = total + places[b], total
        if whole:
            _spread(spec, cells, n, shift, column, weights, start, places, near, to, by)
        else:
            for first in range(0, n, BLOCK):
                m, own, of = min(BLOCK, n - first), cells[first : first + BLOCK], whose[first : first + BLOCK]
                count, _ = picked(own, of, m, column, start, omit, kept, v)
                if len(weights):
                    weights_of(of, m, column, weights, start, omit, w)
                _spread(spec, kept, count, shift, v, w if len(weights) else w[:0], 0, places, near, to, by)
    return nans


@functools.cache
def _entry(weighted: bool, values: str, weights: str) -> Any:
    """The compiled kernel; the texts are a dtype and a layout."""
    spec, i64, line = DealSpec(weighted)._numba_type_, types.int64, array("float64", 1, "C")  # type: ignore[attr-defined]
    v, w, lines = array(values[:-1], 2, values[-1]), array(weights[:-1], 1, weights[-1]), array("float64", 2, "C")
    into = array("int64", 2, "C"), array("int16", 2, "C"), lines, lines
    args = spec, *HERE, i64, v, w, i64, i64, i64, i64, *into, NUMBERS, line, line
    return compiled(_deal, f"{values}_{weights}", args)


class Blocks:
    """Blocks of cells: at most so many each, a power of two; `least` blocks or more, where there are so many cells."""

    def __init__(self, size: int, most: int, least: int) -> None:
        self.size, self.shift = size, min(most, 2 * MIDDLE, max(size // least, 1)).bit_length() - 1
        self.cells = 1 << self.shift
        self.number = -(-size // self.cells)

    def of(self, block: int) -> tuple[int, int]:
        """The first of its cells, and where they end."""
        first = block << self.shift
        return first, min(first + self.cells, self.size)


class Dealt:
    """Values of at most so many points, in so many columns, dealt out to blocks; used in a `with` block."""

    def __init__(self, blocks: Blocks, points: int, columns: int, weighted: bool) -> None:
        self.blocks, self.points, self.columns, self.weighted = blocks, points, columns, weighted
        self.ends = np.zeros((max(-(-points // CHUNK), 1), columns, blocks.number), np.int64)

    @staticmethod
    def most(points: int, columns: int, weighted: bool) -> int:
        """How many points are dealt out at a time."""
        fit = ROOM // (columns * (18 if weighted else 10)) // CHUNK * CHUNK
        return max(fit, CHUNK) if points > fit else max(points, 1)

    def __enter__(self) -> Dealt:
        n, count = self.points, self.columns
        with contextlib.ExitStack() as stack:
            self.local, self.line, self.heavy = (
                stack.enter_context(scratch(count * k, kind)).reshape(count, k)
                for k, kind in ((n, np.int16), (n, np.float64), (n * self.weighted, np.float64))
            )
            self.stack = stack.pop_all()
        return self

    def __exit__(self, *error: Any) -> None:
        self.stack.close()

    def deal(
        self, inside: Callable[[int, int], Iterator[Any]], values: Array, weights: Array, omit: int, start: int,
        stop: int,
    ) -> list[int]:  # fmt: skip
        """Points start ... stop. Returns how many are in no cell, and how many values are NaN."""
        kernel = _entry(self.weighted, *(a.dtype.name + layout(a) for a in (values, weights)))
        spec, into, found = DealSpec(self.weighted), (self.local, self.line, self.heavy), []
        self.filled = -(-(stop - start) // CHUNK)

        def run(i: int, j: int) -> None:
            room = np.empty(BLOCK, np.int32), np.empty(BLOCK), np.empty(BLOCK)
            for k, *here, lost in inside(start + i, start + j):
                base, span = k - start, min(CHUNK, start + j - k)
                where = k, omit, self.blocks.shift, base, self.ends[base // CHUNK]
                nans = kernel(spec, *here, span, values, weights, *where, *into, *room)
                found.append((lost, nans))

        threads.over(run, stop - start, (LOCATE_NS + DEAL_NS * values.shape[1]) * (stop - start), align=CHUNK)
        return [sum(each) for each in zip(*found, strict=True)] or [0, 0]

    def column(self, c: int, weights: bool = True) -> tuple[Array, ...]:
        """Local numbers of cells, values and weights, and where the blocks of each chunk end."""
        lines = (self.local[c], self.line[c], self.heavy[c])
        return *lines[: 2 + weights], self.ends[: self.filled, c]

    def held(self) -> list[int]:
        """How many values of the first column are in each block."""
        ends = self.ends[: self.filled, 0]
        return np.diff(ends, prepend=CHUNK * np.arange(len(ends))[:, None]).sum(0).tolist()
