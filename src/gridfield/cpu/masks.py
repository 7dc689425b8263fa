"""Points looked up in a mask of bits, located in its cells on the way, in one pass.

A mask of 5000**2 is 3 MB of bits, which the second-level cache holds, and 25 MB of bools, which it does not.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import types

from . import threads
from .axes import Axes
from .cache import SOURCES, array, compiled
from .cells import BYTES, CHUNK, HERE, LOCATE_NS
from .machine import specialising, staged

Array = np.ndarray[Any, Any]

TEST_NS = 2.0  # measured: a bit of 25 million


LANES = 8


@specialising(SOURCES)
@dataclass(frozen=True)
class LookSpec:
    """So many cells are looked up at once."""

    lanes: int


LOOK = LookSpec(LANES)


@staged
def look(
    m: Any, spec: Any, cells: Any, count: Any, words: Any, size: Any, limit: Any, out: Any, start: Any, beyond: Any
) -> None:
    """Bits of `count` vectors of cells, read as float64, which vectors of can be read at once; beyond[lane]: negative
    where there may be a cell of number `size` or above."""
    lanes, zeros = spec.lanes, m.const(beyond, [0] * spec.lanes)
    last, top = zeros + (size - 1), zeros + limit

    def body(j: Any, carry: Any) -> list[Any]:
        cell = m.cast(m.load(cells, j * lanes, lanes), beyond)
        at = m.select((cell < 0) | (cell > top), top, cell)
        word = m.bits(m.pick(words, 0, at >> 6, 1)[0])
        m.store(out, start + j * lanes, m.cast((word >> (at & 63)) & 1, out))
        return [carry[0] | (last - cell)]

    (some,) = m.loop(0, count, body, [zeros])
    m.store(beyond, 0, some)


def _test(spec, cells, count, bits, words, size, limit, out, start, beyond):  # type: ignore[no-untyped-def]
    """out[start ...] = the bit of each cell, of -1 that of `limit`. Returns a negative number where there may be a cell
    of number `size` or above. 1e6 cells by vectors take 1.6 ms of one thread, one by one 2.3, or 3.2 with that."""
    whole = count // LANES
    look(spec, cells, whole, words, size, limit, out, start, beyond)
    some = np.int64(0)
    for j in range(LANES):
        some |= beyond[j]
    for j in range(whole * LANES, count):
        some |= size - 1 - np.int64(cells[j])
        at = min(np.uint64(cells[j]), np.uint64(limit))  # unsigned, -1 is beyond all
        out[np.uint64(start + j)] = np.uint8((bits[at >> np.uint64(6)] >> (at & np.uint64(63))) & np.uint64(1))
    return some


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
    words, spec = array("float64", 1, "C"), LOOK._numba_type_  # type: ignore[attr-defined]
    args = spec, array(kind, 1, "C"), i64, bits, words, i64, i64, BYTES, i64, array("int64", 1, "C")
    return compiled(_test, kind, args)


def packed(mask: Array) -> Array:
    """A bit for each cell, in C order, of bools; then one that is 0 and one that is 1, for points outside."""
    octets = np.packbits(np.concatenate([mask.reshape(-1), [False, True]]), bitorder="little")
    return np.concatenate([octets, np.zeros(-len(octets) % 8, np.uint8)]).view("<u8").astype(np.uint64, copy=False)


def test_points(axes: Axes, columns: Sequence[Array], bits: Array, outside: bool) -> Array:
    """The bit of the cell of each point, given by its coordinates along each axis, of one type."""
    n, size = len(columns[0]), axes.size
    out, inside = np.full(n, outside, np.uint8), axes.inside(columns)
    every, some, words = _entry("int32"), _entry("some"), bits.view(np.float64)

    def run(start: int, stop: int) -> None:
        room = np.empty(LANES, np.int64)
        for i, cells, whose, count, _ in inside(start, stop):
            if count == min(CHUNK, stop - i):
                every(LOOK, cells, count, bits, words, size, size, out, i, room)
            else:
                some(cells, whose, count, bits, out, i)

    threads.over(run, n, (LOCATE_NS * len(columns) + TEST_NS) * n)
    return out.view(np.bool_)


def test_cells(cells: Array, bits: Array, size: int, outside: bool) -> tuple[Array, int]:
    """The bit of each cell, of -1 `outside`; the largest cell, or -1 where there are all of them."""
    kind = cells.dtype.name if cells.dtype.name in ("int32", "int64") else "int64"
    cells = np.ascontiguousarray(cells, kind)
    out, beyond, test, words = np.empty(len(cells), np.uint8), [0], _entry(kind), bits.view(np.float64)

    def run(start: int, stop: int) -> None:
        where = out, start, np.empty(LANES, np.int64)
        beyond.append(test(LOOK, cells[start:stop], stop - start, bits, words, size, size + outside, *where))

    threads.over(run, len(out), TEST_NS * len(out))
    return out.view(np.bool_), int(cells.max()) if min(beyond) < 0 else -1
