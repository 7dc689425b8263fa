"""Values of points dealt out to blocks of cells, so that a block's records stay in the second cache while they change.

Where 2e6 points meet 64**3 cells, to change the 32 bytes of a variance took 8.5 ns of one thread, memory of the third
cache and back, and as much again to clear and merge what each thread had; dealt out 2.2 ns, and the dealing takes 3.
Chunk by chunk, the values of a block are put one behind the other, in segments that follow each other in a list: to
count first how many there are for each block took about 1 ns more. Every cell meets its values in the order of the
points: the result depends on nothing else.

What limited the number of blocks were not pages (huge ones change nothing), but that the hardware fetches no more than
32 streams ahead: of 64 blocks, 12.4 ns a point went by waiting for lines to write to. Asked for ahead, they take 3.0.
To ask for the next segment when values are read again gains nothing.
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
from .axes import layout
from .cache import SOURCES, array, compiled
from .cells import CHUNK, HERE, LOCATE_NS
from .machine import specialising, staged
from .scratch import scratch

Array = np.ndarray[Any, Any]

MIDDLE = 2**15  # cells of a block at most are twice this many: they are numbered from -MIDDLE on, in 16 bits
DEAL_NS = 3.5  # measured: of a value to its block
ROOM = 2**27  # bytes of values dealt out at a time, whatever there is of points; of half of it 1e7 took 83 ms, not 71
AHEAD = 16  # values
SHARE = 4  # segments of a block in a chunk, if values are spread evenly: a quarter of the room stays empty at most


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


def _deal(spec, cells, whose, n, values, weights, start, omit, shift, long, base, lists, local, line, heavy):  # type: ignore[no-untyped-def]
    """Values of n points, counted from start, behind those that there are of their blocks, in segments of 2**long of
    them from `base` on, with the numbers of their cells in the block and their weights; lists as of Dealt. Returns how
    many are NaN."""
    blocks = (len(lists) - (CHUNK >> long)) // 4
    number, first, places = lists[:blocks], lists[blocks : 2 * blocks], lists[2 * blocks : 3 * blocks]
    following = lists[3 * blocks :]
    own, inner = np.int32((1 << shift) - 1), np.int64((1 << long) - 1)
    free, nans = 0, 0
    first[:] = -1
    places[:] = 0
    for j in range(n):
        point = np.uint64(start + whose[j])
        x = np.float64(values[point])
        if x != x:
            nans += 1
            if omit:
                continue
        block = np.uint64(cells[j] >> shift)
        place = places[block]
        if place & inner == 0:  # none yet, or the last one is full
            if first[block] < 0:
                first[block] = free
            else:
                following[np.uint64((place - 1 - base) >> long)] = free
            place = base + (free << long)
            free += 1
        places[block] = place + 1
        at = np.uint64(place)
        ask(spec, local, line, heavy, at)
        line[at], local[at] = x, np.int16((cells[j] & own) - MIDDLE)
        if len(weights):
            heavy[at] = weights[point]
    for b in range(blocks):
        number[b] = 0
        if first[b] >= 0:
            segment, last = first[b], (places[b] - 1 - base) >> long
            while segment != last:
                number[b] += 1 << long
                segment = following[segment]
            number[b] += places[b] - base - (last << long)
    return nans


@njit(nogil=True, error_model="numpy")
def pieces(lists, blocks, long, area, block):  # type: ignore[no-untyped-def]
    """Where the values of a block lie, chunk by chunk: (pieces, 2), from and to."""
    count, length, k = 0, np.int64(1) << long, 0
    for chunk in range(len(lists)):
        count += (lists[chunk, block] + length - 1) >> long
    out = np.empty((count, 2), np.int64)
    for chunk in range(len(lists)):
        left, segment = lists[chunk, block], lists[chunk, blocks + block]
        while left > 0:
            out[k, 0] = chunk * area + (segment << long)
            out[k, 1] = out[k, 0] + min(left, length)
            k += 1
            left -= length
            segment = lists[chunk, 3 * blocks + segment]
    return out


@functools.cache
def _entry(weighted: bool, values: str, weights: str) -> Any:
    """The compiled kernel; the texts are a dtype and a layout."""
    spec, i64, line = DealSpec(weighted)._numba_type_, types.int64, array("float64", 1, "C")  # type: ignore[attr-defined]
    v, w = (array(text[:-1], 1, text[-1]) for text in (values, weights))
    args = spec, *HERE, v, w, i64, i64, i64, i64, i64, array("int64", 1, "C"), array("int16", 1, "C"), line, line
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
    """Values of at most so many points, in so many columns, dealt out to blocks; used in a `with` block.

    Attributes: the exponent of the length of a segment, `long`; places of a chunk, `area`; `lists` (chunks, columns, 4
    blocks + segments): of each block how many values there are, their first segment, where the next goes; then which
    segment follows each.
    """

    def __init__(self, blocks: Blocks, points: int, columns: int, weighted: bool) -> None:
        self.blocks, self.columns, self.weighted = blocks, columns, weighted
        chunks = max(-(-points // CHUNK), 1)
        self.long = max(CHUNK // blocks.number // SHARE, 1).bit_length() - 1
        self.area = (-(-min(points, CHUNK) >> self.long) + blocks.number) << self.long
        self.lists = np.zeros((chunks, columns, 4 * blocks.number + (CHUNK >> self.long)), np.int64)

    @staticmethod
    def most(points: int, columns: int, weighted: bool) -> int:
        """How many points are dealt out at a time."""
        fit = ROOM // (columns * (18 if weighted else 10)) // CHUNK * CHUNK
        return max(fit, CHUNK) if points > fit else max(points, 1)

    def __enter__(self) -> Dealt:
        n, count = len(self.lists) * self.area, self.columns
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
        kernel = _entry(self.weighted, *(a.dtype.name + layout(a) for a in (values[:, 0], weights)))
        spec, found = DealSpec(self.weighted), []
        self.filled = -(-(stop - start) // CHUNK)

        def run(i: int, j: int) -> None:
            for k, *here, lost in inside(start + i, start + j):
                chunk = (k - start) // CHUNK
                how, nans = (k, omit, self.blocks.shift, self.long, chunk * self.area), 0
                for c in range(self.columns):
                    into = self.lists[chunk, c], self.local[c], self.line[c], self.heavy[c]
                    nans += kernel(spec, *here, values[:, c], weights, *how, *into)
                found.append((lost, nans))

        threads.over(run, stop - start, (LOCATE_NS + DEAL_NS * values.shape[1]) * (stop - start), align=CHUNK)
        return [sum(each) for each in zip(*found, strict=True)] or [0, 0]

    def column(self, c: int, weights: bool = True) -> tuple[Any, ...]:
        """Local numbers of cells, values and weights, and what finds those of a block: the lists of each chunk, how
        many blocks, the exponent, and the places of a chunk."""
        lines = (self.local[c], self.line[c], self.heavy[c])
        return *lines[: 2 + weights], self.lists[: self.filled, c], self.blocks.number, self.long, self.area

    def held(self) -> list[int]:
        """How many values of the first column are in each block."""
        return self.lists[: self.filled, 0, : self.blocks.number].sum(0).tolist()
