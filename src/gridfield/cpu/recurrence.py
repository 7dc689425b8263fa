"""The recursive filters of the prefilter: one kernel for every boundary, number of poles, length and direction.

What it computes, and where the recursions start, is said in prefilter.py, which makes the tables it reads. Many lines
are filtered at once, one per lane of a wide vector, the carry in registers:
- strided lines: neighbours in memory are lanes; the recursion up reads the array and writes a buffer, the one down
  reads the buffer and writes the array, so that memory is touched once each way;
- lines along the last axis, and other short rows, are turned into that by in-register transposes ("packed").
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import types

from .cache import SOURCES, array, compiled
from .machine import specialising, staged

TILE = 256  # bytes of a row of lanes: along the first of three axes 1.5x faster than 128 (pages, DRAM rows)
SQUARE = 64  # bytes of a row of a transposed block

# a pass, and a solve of a pass, as rows of integers
FRESH, WIDE, SHARE, TOTAL, TILES, N, INNER, COLUMN, COLUMNS = range(9)
WINDOWS, BEGIN, STEP, ROWS, FIRST, STORED, SOLVE, SOLVES = range(9, 17)
REPEAT, COUNT, WIDTH, LOW, HIGH, STAGE, POLES = range(7)


@specialising(SOURCES)
@dataclass(frozen=True)
class Spec:
    """What the kernel is specialised to: lanes of a row, and of a transposed block."""

    lanes: int
    square: int


class Rows:
    """Rows of lanes: row k starts at element start + k * step."""

    def __init__(self, m: Any, a: Any, start: Any, step: Any, lanes: int) -> None:
        self.m, self.a, self.start, self.step, self.lanes = m, a, start, step, lanes

    def load(self, k: Any, live: Any = None) -> Any:
        """Row k, or its first lanes and zeros."""
        return self.m.load(self.a, self.start + k * self.step, self.lanes, live=live)

    def store(self, k: Any, x: Any, live: Any = None) -> None:
        """Write row k, or its first lanes."""
        self.m.store(self.a, self.start + k * self.step, x, live=live)


@staged
def solve(
    m: Any, spec: Any, source: Any, target: Any, start: Any, step: Any, work: Any, work_start: Any, work_step: Any,
    rows: Any, low: Any, high: Any, stage: Any, poles: Any, numbers: Any, pointer: Any, index: Any, weight: Any,
) -> None:  # fmt: skip
    """All stages of one line per lane, source -> work -> target (may be one); rows low ... high are written."""
    source, target = (Rows(m, a, start, step, spec.lanes) for a in (source, target))
    work = Rows(m, work, work_start, work_step, spec.lanes)
    zero = m.const(work.a, [0.0] * spec.lanes)
    last = rows - 1

    def recur(s: Any, a: Rows, b: Rows, row: Any, skip: Any, stop: Any) -> None:
        """Stage s from rows a to rows b in the order given by row(i); the first `skip` are not written."""
        z, scale = m.load(numbers, s * 2), m.load(numbers, s * 2 + 1)
        before, after, end = (m.load(pointer, s * 2 + k) for k in range(3))

        def gather(j: Any, carry: list[Any]) -> list[Any]:
            return [carry[0] + m.load(weight, j) * a.load(m.load(index, j))]

        def advance(i: Any, carry: list[Any]) -> list[Any]:
            return [a.load(row(i)) * scale + z * carry[0]]

        def write(i: Any, carry: list[Any]) -> list[Any]:
            new = advance(i, carry)
            b.store(row(i), new[0])
            if b is target:  # the next lines in memory: 1.2x in a sweep along the first of three axes
                for lane in range(spec.lanes, 2 * spec.lanes, spec.square):
                    m.prefetch(source.a, source.start + row(i) * source.step + lane)
            return new

        carry = m.loop(before, after, gather, [zero])
        (final,) = m.loop(skip, stop, write, m.loop(0, skip, advance, carry))

        def scatter(j: Any, _: Any) -> None:
            k = m.load(index, j)
            b.store(k, b.load(k) + m.load(weight, j) * final)

        m.loop(after, end, scatter)

    def up(s: Any, a: Rows, b: Rows) -> None:
        recur(s, a, b, lambda i: i, 0, rows)

    def down(s: Any, a: Rows, b: Rows, low: Any, high: Any) -> None:
        recur(s, a, b, lambda i: last - i, rows - high, rows - low)

    def between(i: Any, _: Any) -> None:
        down(stage + (i * 2 - 1), work, work, 0, rows)
        up(stage + i * 2, work, work)

    up(stage, source, work)
    m.loop(1, poles, between)
    down(stage + (poles * 2 - 1), work, target, low, high)


def squares(m: Any, spec: Any, columns: Any, whole: Any, body: Any) -> None:
    """body(c, lane, live) for the blocks of all columns; live: how many there are in the last, incomplete one."""

    def group(g: Any, _: Any) -> None:
        lane, done = g * spec.square, whole * spec.square
        m.loop(0, whole, lambda i, _: body(i * spec.square, lane, None))
        m.loop(done, m.select(done < columns, done + 1, done), lambda c, _: body(c, lane, columns - c))

    m.loop(0, spec.lanes // spec.square, group)  # few lines at a time: the other order is 2x slower at 2048**2


@staged
def pack(m: Any, spec: Any, source: Any, lines: Any, columns: Any, whole: Any, block: Any) -> None:
    """block[c, l] = source[lines[l] + c]."""

    def square(c: Any, lane: Any, live: Any) -> None:
        part = [m.load(source, m.load(lines, lane + r) + c, spec.square, live=live) for r in range(spec.square)]
        for r, row in enumerate(m.transpose(part)):
            m.store(block, (c + r) * spec.lanes + lane, row)

    squares(m, spec, columns, whole, square)


@staged
def unpack(m: Any, spec: Any, block: Any, lines: Any, low: Any, columns: Any, whole: Any, target: Any) -> None:
    """target[lines[l] + c] = block[c, l] for low <= c < low + columns."""

    def square(c: Any, lane: Any, live: Any) -> None:
        part = [m.load(block, (low + c + r) * spec.lanes + lane, spec.square) for r in range(spec.square)]
        for r, row in enumerate(m.transpose(part)):
            m.store(target, m.load(lines, lane + r) + low + c, row, live=live)

    squares(m, spec, columns, whole, square)


@staged
def narrow_in(m: Any, spec: Any, source: Any, start: Any, step: Any, rows: Any, live: Any, block: Any) -> None:
    """The first lanes of strided rows -> block, the other lanes zero."""
    a, b = Rows(m, source, start, step, spec.lanes), Rows(m, block, 0, spec.lanes, spec.lanes)
    m.loop(0, rows, lambda k, _: b.store(k, a.load(k, live)))


@staged
def narrow_out(
    m: Any, spec: Any, block: Any, low: Any, high: Any, live: Any, target: Any, start: Any, step: Any
) -> None:
    """The first lanes of rows low ... high of block -> strided rows."""
    a, b = Rows(m, block, 0, spec.lanes, spec.lanes), Rows(m, target, start, step, spec.lanes)
    m.loop(low, high, lambda k, _: b.store(k, a.load(k), live))


def _filter(spec, source, target, block, lines, passes, solves, numbers, pointer, index, weight, start, stop):  # type: ignore[no-untyped-def]
    """Blocks start ... stop of all passes of a sweep."""
    lanes, square = TILE // source.itemsize, SQUARE // source.itemsize
    for job in range(start, stop):
        for k in range(len(passes)):
            p = passes[k]
            read = source if p[FRESH] else target
            wide, tiles, inner, windows = p[WIDE], p[TILES], p[INNER], p[WINDOWS]
            t = job * p[SHARE]
            last = min(t + p[SHARE], p[TOTAL])
            while t < last:
                line = t // tiles
                column = p[COLUMN] + (t - line * tiles) * lanes
                outer = line // windows
                window = line - outer * windows
                for lane in range(wide):
                    lines[lane] = (outer * p[N] + p[BEGIN] + window * p[STEP]) * inner + column
                    if t + lane + 1 < last:  # else surplus lanes repeat the last line
                        window += 1
                        if window == windows:
                            outer, window = outer + 1, 0
                place, live = lines[0], p[COLUMNS] - column
                direct = wide == 1 and live >= lanes
                if wide > 1:
                    pack(spec, read, lines, p[ROWS] * inner, p[ROWS] * inner // square, block)
                elif not direct:
                    narrow_in(spec, read, place, inner, p[ROWS], live, block)
                a, b = (read, target) if direct else (block, block)
                for s in range(p[SOLVE], p[SOLVES]):
                    q = solves[s]
                    step = q[WIDTH] * lanes
                    for r in range(q[REPEAT]):
                        for i in range(q[WIDTH]):
                            own = r * q[COUNT] * step + i * lanes
                            solve(
                                spec, a, b, place if direct else own, inner if direct else step, block, own, step,
                                q[COUNT], q[LOW], q[HIGH], q[STAGE], q[POLES], numbers, pointer, index, weight,
                            )  # fmt: skip
                if wide > 1:
                    size = p[STORED] * inner
                    unpack(spec, block, lines, p[FIRST] * inner, size, size // square, target)
                elif not direct:
                    narrow_out(spec, block, p[FIRST], p[FIRST] + p[STORED], live, target, place, inner)
                t += wide


@functools.cache
def entry(dtype: str) -> tuple[Any, Spec]:
    """The compiled kernel for a dtype, and its spec."""
    size = np.dtype(dtype).itemsize
    spec = Spec(TILE // size, SQUARE // size)
    real, integers, table, i64 = array(dtype, 1, "C"), array(np.int64, 1, "C"), array(np.int64, 2, "C"), types.int64
    typ = spec._numba_type_  # type: ignore[attr-defined]
    arguments = (real, real, real, integers, table, table, real, integers, integers, real, i64, i64)
    return compiled(_filter, f"{typ.digest}_{dtype}", (typ, *arguments)), spec
