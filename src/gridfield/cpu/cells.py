"""Points to cells: the flat number of the cell that each point of a block is in, by the edge rule of np.histogramdd.

A cell holds its lower edge and not its upper one, the last holds both. Along a uniform axis the cell is the whole part
of (x - lo) scale, which is right unless the fraction is within rounding of 0 or 1: where that happens in a block, the
cells of the block are compared with the edges themselves and moved by one. Along any other axis edges are searched.
Blocks are small enough to stay in the first cache, and are worked on by vectors. Of a block, those that are in a cell
and in the mask are moved together, so that what is done with them is done without a branch.

This and what is done with the cells are kernels of their own, chunk by chunk: one kernel for both, of each kind of
coordinates with each kind of statistic, took 3 to 6 seconds to compile.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit, types

from .cache import SOURCES, array
from .machine import WHOLE, specialising, staged

Array = np.ndarray[Any, Any]

BLOCK = 512  # points
CHUNK = 2**16  # points whose cells and numbers are kept, 256 kB each; twice as many cells alone. A quarter of it: +30 %
LOCATE_NS = 1.0  # measured: of a coordinate
SOON = 8192  # bytes ahead that coordinates are asked for: 9.6 ms instead of 13.3 for 256**3 of float32, in a mask

# columns of the table of axes: what is inside, cells, where their edges begin, how they are found; then for the guess
# origin, cells per unit, how near to an edge is too near, the last cell
LO, HI, COUNT, FIRST, SEARCHED, WRAPS, SHIFT, SCALE, NEAR, FAR, LAST = range(11)
COLUMNS = 11
CLIP, TOGETHER, DIRECT = 1, 2, 4  # bits: points outside are held at the ends; see CellSpec


@specialising(SOURCES)
@dataclass(frozen=True)
class CellSpec:
    """What is specialised to: the number of axes; whether the coordinates of a point lie side by side, in the type that
    is computed in; whether coordinates are of that type and one behind the other, read where they are; whether it
    matters which point is in a cell."""

    ndim: int
    together: bool
    direct: bool
    numbered: bool


@njit(nogil=True, error_model="numpy", _nrt=False)
def _wrapped(x, lo, hi, m):  # type: ignore[no-untyped-def]
    """Coordinates beyond the ends of a periodic axis, moved into it."""
    for j in range(m):
        if not (x[j] >= lo and x[j] < hi):
            x[j] = min(lo + (x[j] - lo) % (hi - lo), hi)


@njit(nogil=True, error_model="numpy", _nrt=False)
def _held(x, lo, hi, m):  # type: ignore[no-untyped-def]
    """Coordinates beyond the ends, held there."""
    for j in range(m):
        x[j] = lo if x[j] < lo else hi if x[j] > hi else x[j]


def along(m: Any, x: Any, table: Any, axis: Any) -> Callable[..., tuple[Any, Any, Any]]:
    """How the cell along an axis is guessed: (a vector of coordinates) -> (whether inside, cell, fraction of it). The
    upper end comes out at the cell behind the last or at the end of that, by rounding."""
    at = axis * COLUMNS
    lo, hi, shift, scale = (m.load(table, at + c) for c in (LO, HI, SHIFT, SCALE))
    half = m.const(x, [0.5] * (WHOLE // m.itemsize(x)))

    def guessed(v: Any) -> tuple[Any, Any, Any]:
        inside = (v >= lo) & (v <= hi)
        f = m.select(inside, (v - shift) * scale, half)
        whole = m.floor(f)
        return inside, whole, f - whole

    return guessed


def packing(m: Any, spec: Any, let: Any, at: Any, some: Any, whose: Any, lanes: Any) -> Callable[..., Any]:
    """How a vector of cells is put behind those that there are, of points that are in one and that the mask lets
    through, and, if asked for, the numbers of these points: (number of the vector, cells, whether in one, the points'
    numbers, how many there are, how many the mask let through) -> the last three, for the next vector."""

    def packed(j: Any, cells: Any, inside: Any, numbers: Any, count: Any, through: Any) -> list[Any]:
        mask = m.load(let, at + j * lanes, lanes)
        passed = (mask < 0) | (mask > 0)
        chosen = passed & inside
        m.store(some, count, m.compress(cells, chosen))
        if spec.numbered:
            m.store(whose, count, m.compress(numbers, chosen))
        return [numbers + lanes, count + m.number_of(chosen), through + m.number_of(passed)]

    return packed


@staged
def guess(
    m: Any, spec: Any, x: Any, column: Any, start: Any, table: Any, let: Any, at: Any, some: Any, whose: Any,
    first: Any, found: Any, ahead: Any, close: Any,
) -> None:  # fmt: skip
    """The cells of a block of coordinates, packed; ahead: what `found` becomes, unless in close[0] ... there is
    something above 0: then one is so near an edge that it has to be compared with that."""
    nd, size = spec.ndim, m.itemsize(x)
    lanes = WHOLE // size
    axes = [along(m, x, table, a) for a in range(nd)]
    counts = [m.cast(m.truncate(m.load(table, a * COLUMNS + COUNT), some), some) for a in range(nd)]
    near, far = (m.load(table, c) for c in (NEAR, FAR))
    packed = packing(m, spec, let, at, some, whose, lanes)

    def points(j: Any) -> list[Any]:
        """The coordinates of a vector of points, axis by axis."""
        if not spec.direct:
            return [m.load(x, j * lanes + a * BLOCK, lanes) for a in range(nd)]
        place = (start + j * lanes) * nd
        for line in range(nd):
            m.prefetch(column, place + (line * lanes + SOON // size))
        return m.every(m.load(column, place, lanes * nd), nd)

    def body(j: Any, carry: Any) -> list[Any]:
        cell, there, (low, high, *totals) = None, None, carry
        for v, guessed, n in zip(points(j), axes, counts):
            inside, whole, rest = guessed(v)
            low, high = m.select(rest < low, rest, low), m.select(rest > high, rest, high)
            k = m.truncate(whole, some)
            cell = k if cell is None else cell * n + k
            there = inside if there is None else there & inside
        return [low, high, *packed(j, cell, there, *totals)]

    halves, numbers = m.const(x, [0.5] * lanes), m.const(some, list(range(lanes))) + m.cast(first, some)
    begin = [halves, halves, numbers, *(m.load(found, i) for i in (0, 1))]
    low, high, _, *totals = m.loop(0, BLOCK // lanes, body, begin)
    m.store(close, 0, m.select((low < near) | (high > far), halves, halves - 0.5))
    for i, total in enumerate(totals):
        m.store(ahead, i, total)


@staged
def compare(m: Any, spec: Any, x: Any, table: Any, axis: Any, edges: Any, k: Any) -> None:
    """k[j] = the cell along an axis, -1 outside, by comparison with the edges of the guess."""
    lanes, at, guessed = WHOLE // m.itemsize(x), axis * COLUMNS, along(m, x, table, axis)
    first, last = (m.widen(m.truncate(m.load(table, at + c), k)) for c in (FIRST, LAST))
    zeros, outside, last = m.const(k, [0] * lanes), m.const(k, [-1] * lanes), m.cast(last, k)

    def body(j: Any, _: Any) -> None:
        v = m.load(x, j * lanes + axis * BLOCK, lanes)
        inside, whole, _ = guessed(v)
        i = m.truncate(whole, k)
        i = m.select(i < last, i, zeros + last)
        lower, upper = m.pick(edges, first, i, 2)
        down, up = (v < lower) & (i > 0), m.select(v < upper, zeros, zeros + 1)
        moved = m.select(down, i - 1, i + m.select(i < last, up, zeros))
        m.store(k, j * lanes, m.select(inside, moved, outside))

    m.loop(0, BLOCK // lanes, body)


@staged
def combine(m: Any, spec: Any, cells: Any, n: Any, k: Any) -> None:
    """cells[j] = cells[j] n + k[j], -1 where one of them is."""
    lanes, n = WHOLE // 4, m.cast(n, k)
    outside = m.const(k, [-1] * lanes)

    def body(j: Any, _: Any) -> None:
        c, i = m.load(cells, j * lanes, lanes), m.load(k, j * lanes, lanes)
        m.store(cells, j * lanes, m.select((c > -1) & (i > -1), c * n + i, outside))

    m.loop(0, BLOCK // lanes, body)


@njit(nogil=True, error_model="numpy", _nrt=False)
def _searched(x, edges, lo, hi, first, n, k, m):  # type: ignore[no-untyped-def]
    """The last edge not above x, by halving."""
    for j in range(m):
        low, length = first, n + 1
        while length > 1:
            half = length // 2
            low = low + half if edges[np.uint64(low + half)] <= x[j] else low
            length -= half
        k[j] = np.int32(min(low - first, n - 1)) if (x[j] >= lo) & (x[j] <= hi) else np.int32(-1)


@staged
def fetch(m: Any, spec: Any, column: Any, start: Any, x: Any) -> None:
    """The coordinates of a block, axis by axis, where those of a point lie together: 4.0 ns of a 3-D point, of which
    1.9 are memory, one by one."""
    if not spec.together:
        return
    nd, lanes = spec.ndim, WHOLE // m.itemsize(x)

    def body(j: Any, _: Any) -> None:
        place = (start + j * lanes) * nd
        for line in range(nd):
            m.prefetch(column, place + (line * lanes + SOON // m.itemsize(x)))
        points = m.load(column, place, lanes * nd)
        for a, v in enumerate(m.every(points, nd)):
            m.store(x, j * lanes + a * BLOCK, v)

    m.loop(0, BLOCK // lanes, body)


@staged
def pack(m: Any, spec: Any, cells: Any, let: Any, at: Any, some: Any, whose: Any, first: Any, found: Any) -> None:
    """The cells of a block, packed; found: how many there are, how many points the mask let through."""
    lanes = WHOLE // 4
    packed = packing(m, spec, let, at, some, whose, lanes)

    def body(j: Any, carry: Any) -> list[Any]:
        k = m.load(cells, j * lanes, lanes)
        return packed(j, k, k > -1, *carry)

    numbers = m.const(some, list(range(lanes))) + m.cast(first, some)
    _, *totals = m.loop(0, BLOCK // lanes, body, [numbers, *(m.load(found, i) for i in (0, 1))])
    for i, total in enumerate(totals):
        m.store(found, i, total)


@njit(nogil=True, error_model="numpy", _nrt=False)
def read(spec, columns, start, m, axes, how, x):  # type: ignore[no-untyped-def]
    """x = the coordinates of points start ... start + m, axis by axis, moved to where they count."""
    apart = m < BLOCK or how & TOGETHER == 0
    if not apart:
        fetch(spec, columns[0], start, x)
    for a in range(len(columns)):
        column, axis = columns[a], axes[a]
        here = x[a * BLOCK : (a + 1) * BLOCK]
        if apart:
            for j in range(m):
                here[j] = column[np.uint64(start + j)]
        if axis[WRAPS]:
            _wrapped(here, axis[LO], axis[HI], m)
        if how & CLIP:
            _held(here, axis[LO], axis[HI], m)


@njit(nogil=True, error_model="numpy", _nrt=False)
def locate(spec, x, m, axes, edges, cells, k):  # type: ignore[no-untyped-def]
    """cells[j] = the flat cell of coordinate j by comparison with the edges, -1 for what is outside or NaN, and beyond
    m."""
    for a in range(len(axes)):
        axis, into = axes[a], k if a else cells
        n = np.int32(axis[COUNT])
        if axis[SEARCHED]:
            _searched(x[a * BLOCK : (a + 1) * BLOCK], edges, axis[LO], axis[HI], np.int64(axis[FIRST]), n, into, m)
        else:
            compare(spec, x, axes, a, edges, into)
        if a:
            combine(spec, cells, n, k)
    for j in range(m, BLOCK):
        cells[j] = np.int32(-1)


def in_cells(spec, columns, axes, edges, how, where, room, some, whose, found, start, stop):  # type: ignore[no-untyped-def]
    """The cells of points start ... stop that are in one and in the mask (one without elements has all), and the
    numbers of these points, counted from start; found as of pack."""
    x, k, close, cells, part, every, ahead = room
    found[:] = 0
    searched = False
    for a in range(len(axes)):
        searched |= axes[a, SEARCHED] != 0
    for i in range(start, stop, BLOCK):
        m, first = min(BLOCK, stop - i), i - start
        let, at = every, 0
        if len(where):
            wanted = np.uint8(0)
            for j in range(m):
                wanted |= where[np.uint64(first + j)]
            if wanted == 0:
                continue
            let, at = where, first
        if m < BLOCK:
            part[:m] = let[at : at + m]
            part[m:] = 0
            let, at = part, 0
        kept = how & DIRECT == 0
        if kept:
            read(spec, columns, i, m, axes, how, x)
        if not searched and (kept or m == BLOCK):
            guess(spec, x, columns[0], i, axes, let, at, some, whose, first, found, ahead, close)
            tight = False
            for j in range(len(close)):
                tight |= close[j] > 0
            if not tight:
                found[0], found[1] = ahead[0], ahead[1]
                continue
        if not kept:
            read(spec, columns, i, m, axes, how, x)
        locate(spec, x, m, axes, edges, cells, k)
        pack(spec, cells, let, at, some, whose, first, found)


@staged
def collect(m: Any, spec: Any, column: Any, start: Any, where: Any, at: Any, x: Any, have: Any, ahead: Any) -> None:
    """Of a block of coordinates those in the mask, behind those that x has; ahead[0] = how many it has then."""
    lanes = WHOLE // m.itemsize(x)

    def body(j: Any, carry: Any) -> list[Any]:
        place = start + j * lanes
        m.prefetch(column, place + SOON // m.itemsize(x))
        mask = m.load(where, at + j * lanes, lanes)
        passed = (mask < 0) | (mask > 0)
        m.store(x, carry[0], m.compress(m.load(column, place, lanes), passed))
        return [carry[0] + m.number_of(passed)]

    m.store(ahead, 0, *m.loop(0, BLOCK // lanes, body, [have]))


def in_mask(spec, columns, axes, edges, how, where, room, some, whose, found, start, stop):  # type: ignore[no-untyped-def]
    """As in_cells without numbers of points, for one contiguous coordinate and a mask that lets few through: these are
    put together first, and located block by block: of 256**3 float32 in a mask, 30 % in 9.9 ms instead of 11, 2 % in
    5.8 instead of 8.0."""
    x, k, close, cells, part, every, ahead = room
    found[:] = 0
    have = 0
    for i in range(start, stop, BLOCK):
        m, first = min(BLOCK, stop - i), i - start
        wanted = np.uint8(0)
        for j in range(m):
            wanted |= where[np.uint64(first + j)]
        if wanted != 0 and m == BLOCK:
            collect(spec, columns[0], i, where, first, x, have, ahead)
            have = ahead[0]
        elif wanted != 0:
            for j in range(m):
                if where[np.uint64(first + j)]:
                    x[np.uint64(have)] = columns[0][np.uint64(i + j)]
                    have += 1
        last = i + BLOCK >= stop
        while have >= BLOCK or (last and have > 0):
            n = min(have, BLOCK)
            done = False
            if n == BLOCK and axes[0, SEARCHED] == 0:
                guess(spec, x, x, 0, axes, every, 0, some, whose, 0, found, ahead, close)
                done = True
                for j in range(len(close)):
                    done &= close[j] == 0
            if done:
                found[0], found[1] = ahead[0], ahead[1]
            else:
                for j in range(BLOCK):
                    part[j] = j < n
                locate(spec, x, n, axes, edges, cells, k)
                pack(spec, cells, part, 0, some, whose, 0, found)
            for j in range(have - n):
                x[j] = x[n + j]
            have -= n


NUMBERS, BYTES = array("int32", 1, "C"), array("uint8", 1, "C")
HERE = NUMBERS, NUMBERS, types.int64  # types of cells, whose they are, and how many
