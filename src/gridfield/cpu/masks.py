"""Points looked up in a mask of bits, located in its cells on the way, in one pass.

A mask of 5000**2 is 3 MB of bits, which the second-level cache holds, and 25 MB of bools, which it does not.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
from numba import types

from . import threads
from .cache import array, compiled
from .cells import BYTES, CHUNK, HERE, LOCATE_NS, Axes

Array = np.ndarray[Any, Any]

TEST_NS = 2.0  # measured: a bit of 25 million


def _test(cells, count, bits, size, limit, out, start):  # type: ignore[no-untyped-def]
    """out[start ...] = the bit of each cell, of -1 that of `limit`: unsigned it is beyond all (a branch here takes 3.1
    ms for 1e6 points, the minimum 2.5, nothing 2.1). Returns a negative number where there may be a cell of number
    `size` or above: one loop for both, which becomes vectors, takes 2.7 ms, with the largest cell of each block 3.7."""
    beyond = np.int64(0)
    for j in range(count):
        beyond |= size - 1 - np.int64(cells[j])
        at = min(np.uint64(cells[j]), np.uint64(limit))
        out[np.uint64(start + j)] = np.uint8((bits[at >> np.uint64(6)] >> (at & np.uint64(63))) & np.uint64(1))
    return beyond


def _test_some(cells, whose, count, bits, out, start):  # type: ignore[no-untyped-def]
    """out[start + whose] = the bit of each cell."""
    for j in range(count):
        at = np.uint64(cells[j])
        bit = (bits[at >> np.uint64(6)] >> (at & np.uint64(63))) & np.uint64(1)
        out[np.uint64(start + whose[j])] = np.uint8(bit)


@functools.cache
def _entry(kind: str) -> Any:
    """A compiled kernel: "some", or the dtype of cells."""
    i64, bits = types.int64, array(np.uint64, 1, "C")
    if kind == "some":
        return compiled(_test_some, "", (*HERE, bits, BYTES, i64))
    return compiled(_test, kind, (array(kind, 1, "C"), i64, bits, i64, i64, BYTES, i64))


def packed(mask: Array) -> Array:
    """A bit for each cell, in C order, of bools; then one that is 0 and one that is 1, for points outside."""
    octets = np.packbits(np.concatenate([mask.reshape(-1), [False, True]]), bitorder="little")
    return np.concatenate([octets, np.zeros(-len(octets) % 8, np.uint8)]).view("<u8").astype(np.uint64, copy=False)


def test_points(axes: Axes, columns: Sequence[Array], bits: Array, outside: bool) -> Array:
    """The bit of the cell of each point, given by its coordinates along each axis, of one type."""
    n, size = len(columns[0]), axes.size
    out, inside = np.full(n, outside, np.uint8), axes.inside(columns)
    every, some = _entry("int32"), _entry("some")

    def run(start: int, stop: int) -> None:
        for i, cells, whose, count, _ in inside(start, stop):
            if count == min(CHUNK, stop - i):
                every(cells, count, bits, size, size, out, i)
            else:
                some(cells, whose, count, bits, out, i)

    threads.over(run, n, (LOCATE_NS * len(columns) + TEST_NS) * n)
    return out.view(np.bool_)


def test_cells(cells: Array, bits: Array, size: int, outside: bool) -> tuple[Array, int]:
    """The bit of each cell, of -1 `outside`; the largest cell, or -1 where there are all of them."""
    kind = cells.dtype.name if cells.dtype.name in ("int32", "int64") else "int64"
    cells = np.ascontiguousarray(cells, kind)
    out, beyond, test = np.empty(len(cells), np.uint8), [0], _entry(kind)

    def run(start: int, stop: int) -> None:
        beyond.append(test(cells[start:stop], stop - start, bits, size, size + outside, out, start))

    threads.over(run, len(out), TEST_NS * len(out))
    return out.view(np.bool_), int(cells.max()) if min(beyond) < 0 else -1
