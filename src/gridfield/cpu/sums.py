"""Staged passes over data: the rows of a program at points, and their products, summed up for a least-squares fit.

Values and derivatives of a block of points, weighted, go to rows of memory in the first-level cache; their products are
then summed by tiles of up to four rows by four (six by six, if there are no more), whose sums are registers. That is
half a read a multiply-add, for any number of parameters. Of many rows the tiles are loops.
"""

from __future__ import annotations

import functools
from itertools import combinations_with_replacement, pairwise
from typing import Any, NamedTuple

import numpy as np

from .expressions import LANES, WRITTEN, Program, Steps, needed, robust
from .machine import staged

INTS = 8  # integers of a call before those of its columns
CHUNK = 2**14  # points of a fit that are summed by one task


class Places(NamedTuple):
    """What begins where in the working memory: coordinates, data, weights, cost, sums of a fit, of lanes, rows."""

    x: int
    data: int
    weight: int
    cost: int
    out: int
    sums: int
    rows: int
    end: int


@functools.lru_cache(maxsize=512)
def places(spec: Program) -> Places:
    """Of a program."""
    count, rows = sums_of(spec), 4 * _groups(spec) or spec.rows
    lengths = (
        max(spec.variables, 1) * spec.pitch, spec.pitch, spec.pitch, LANES, -(-(count + 1) // LANES) * LANES,
        max(count, 1) * LANES, rows * spec.pitch if spec.mode != "cost" else LANES,
    )  # fmt: skip
    return Places(*np.cumsum([0, *lengths]).tolist())


def sums_of(spec: Program) -> int:
    """How many sums of products there are."""
    if spec.mode != "normal":
        return 0
    groups = _groups(spec)
    return 8 * groups * (groups + 1) or len(pairs(spec.rows))


def points(m: Any, spec: Program, params: Any, first: Any, scale: Any, vectors: Any, room: Any, at: Places) -> None:
    """The rows of a block: derivatives and residual, or ("rows") derivatives and value. To each lane's twice the cost,
    this block's is added."""
    weighed, outputs = spec.mode != "rows", spec.outputs[:1] if spec.mode == "cost" else spec.outputs
    order, varying = needed(spec, outputs)
    uniform = set(order) - varying
    zero = m.const(room, [0.0] * LANES)
    before = Steps(m, spec, zero)
    for i in order:
        op, args, data = spec.steps[i]
        if op == "symbol" and i in uniform:
            before.values[i] = m.spread(m.load(params, first + (data - spec.variables)), LANES)
        elif i in uniform:
            before.run(i, uniform)
        elif op == "div" and args[1] in uniform:
            before.reciprocal(args[1])
    scale = m.spread(m.load(scale, 0), LANES)

    def body(k: Any, carry: Any) -> list[Any]:
        here, now = k * LANES, Steps(m, spec, zero)
        now.values, now.kept = dict(before.values), dict(before.kept)
        for i in order:
            op, _, data = spec.steps[i]
            if i in varying:
                if op == "symbol":
                    now.values[i] = m.load(room, here + (at.x + data * spec.pitch), LANES)
                else:
                    now.run(i, uniform)
        values, weight = [now.values[i] for i in outputs], m.load(room, here + at.weight, LANES)
        rows = [here + (at.rows + j * spec.pitch) for j in range(spec.rows)]
        if not weighed:
            m.store(room, rows[-1], values[0])
            for j, d in zip(rows, values[1:]):
                m.store(room, j, d * weight)
            return list(carry)
        data = m.load(room, here + at.data, LANES)
        there = (data <= data) & ((weight < 0.0) | (weight > 0.0))
        r = m.select(there, (values[0] - data) * weight, 0.0)
        square, times = r * r, weight
        if spec.loss != "linear":
            square, rows_by, residual_by = robust(m, spec.loss, r, scale)
            times, r = weight * rows_by, r * residual_by
        if spec.mode == "normal":
            m.store(room, rows[-1], r)
            for j, d in zip(rows, values[1:]):
                m.store(room, j, m.select(there, d * times, 0.0))
        return [carry[0] + square]

    (cost,) = m.loop(0, vectors, body, [m.load(room, at.cost, LANES)])
    m.store(room, at.cost, cost)


def tiles(rows: int) -> list[list[tuple[int, int]]]:
    """Pairs of rows i <= j, by tiles whose sums fit into registers."""
    groups = 1 if rows <= 6 else -(-rows // 4)
    cuts = [rows * g // groups for g in range(groups + 1)]
    parts = [range(a, b) for a, b in pairwise(cuts)]
    out = []
    for a, b in combinations_with_replacement(range(groups), 2):
        out.append([(i, j) for i in parts[a] for j in parts[b] if i <= j])
    return out


def pairs(rows: int) -> list[tuple[int, int]]:
    """The order of sums."""
    return [p for tile in tiles(rows) for p in tile]


def _groups(spec: Program) -> int:
    """Of four rows, where products are loops over those; 0 where all of them are written out. 31 rows written out, 500
    sums, took 4 s to compile."""
    return -(-spec.rows // 4) if spec.rows > WRITTEN else 0


def _each_tile(m: Any, groups: int, f: Any) -> None:
    """f(a, b, number of the tile) for groups a <= b, at run time."""
    m.loop(0, groups, lambda a, _: m.loop(a, groups, lambda b, _: f(a, b, a * groups - ((a * (a - 1)) >> 1) + b - a)))


def _products_looped(m: Any, spec: Program, vectors: Any, room: Any, at: Places) -> None:
    def tile(a: Any, b: Any, t: Any) -> None:
        left, right = (g * (4 * spec.pitch) + at.rows for g in (a, b))

        def body(k: Any, carry: Any) -> list[Any]:
            x, y = ([m.load(room, k * LANES + (g + i * spec.pitch), LANES) for i in range(4)] for g in (left, right))
            return [c + x[s // 4] * y[s % 4] for s, c in enumerate(carry)]

        slots = [t * (16 * LANES) + (at.sums + s * LANES) for s in range(16)]
        for s, total in zip(slots, m.loop(0, vectors, body, [m.load(room, s, LANES) for s in slots])):
            m.store(room, s, total)

    _each_tile(m, _groups(spec), tile)


def _lanes_added(m: Any, vectors: list[Any]) -> Any:
    """The sums of the lanes of eight vectors."""
    c = m.transpose(vectors)
    return ((c[0] + c[1]) + (c[2] + c[3])) + ((c[4] + c[5]) + (c[6] + c[7]))


def _finish_looped(m: Any, spec: Program, A: Any, g: Any, row: Any, room: Any, at: Places) -> None:
    p = spec.parameters

    def tile(a: Any, b: Any, t: Any) -> None:
        first = t * (16 * LANES) + at.sums
        for half in (0, 8):
            added = _lanes_added(m, [m.load(room, first + (half + s) * LANES, LANES) for s in range(8)])
            m.store(room, at.out + half, added)
        one = a * 0 + 1

        def put(i: Any, j: Any, s: Any) -> None:
            m.store(A, row * (p * p) + (i * p + j), s)
            m.store(A, row * (p * p) + (j * p + i), s)

        def entry(k: Any, _: Any) -> None:
            i, j, s = a * 4 + (k >> 2), b * 4 + (k & 3), m.load(room, k + at.out)
            m.loop(0, m.select((i <= j) & (j < p), one, one - 1), lambda _i, _: put(i, j, s))
            m.loop(0, m.select((i < p) & (j >= p) & (j <= p), one, one - 1), lambda _i, _: m.store(g, row * p + i, s))

        m.loop(0, 16, entry)

    _each_tile(m, _groups(spec), tile)


def products(m: Any, spec: Program, vectors: Any, room: Any, at: Places) -> None:
    """Products of rows added to the sums, lane by lane, in the order of `pairs`."""
    if _groups(spec):
        _products_looped(m, spec, vectors, room, at)
        return
    slot = at.sums
    for tile in tiles(spec.rows):

        def body(k: Any, carry: Any, tile: Any = tile) -> list[Any]:
            here = k * LANES
            used = sorted({i for p in tile for i in p})
            row = {i: m.load(room, here + (at.rows + i * spec.pitch), LANES) for i in used}
            return [c + row[i] * row[j] for c, (i, j) in zip(carry, tile)]

        slots = [slot + s * LANES for s in range(len(tile))]
        for s, total in zip(slots, m.loop(0, vectors, body, [m.load(room, s, LANES) for s in slots])):
            m.store(room, s, total)
        slot += len(tile) * LANES


def finish(m: Any, spec: Program, A: Any, g: Any, cost: Any, row: Any, room: Any, at: Places) -> None:
    """The lanes of each sum added up, eight sums at a time, and put into the matrix (both triangles), the gradient and
    the cost of a fit."""
    p, order = spec.parameters, pairs(spec.rows) if spec.mode == "normal" else []
    if order and _groups(spec):
        _finish_looped(m, spec, A, g, row, room, at)
        order = []
    vectors = [m.load(room, at.sums + s * LANES, LANES) for s in range(len(order))] + [m.load(room, at.cost, LANES)]
    while len(vectors) % LANES:
        vectors.append(m.const(room, [0.0] * LANES))
    for k in range(0, len(vectors), LANES):
        m.store(room, at.out + k, _lanes_added(m, vectors[k : k + LANES]))
    for k, (i, j) in enumerate(order):
        s = m.load(room, at.out + k)
        if j < p:
            m.store(A, row * (p * p) + (i * p + j), s)
            if i != j:
                m.store(A, row * (p * p) + (j * p + i), s)
        elif i < p:
            m.store(g, row * p + i, s)
    m.store(cost, row, m.load(room, at.out + len(order)) * 0.5)


def copy(m: Any, room: Any, to: Any, source: Any, base: Any, count: Any) -> None:
    """room[to ...] = source[base ...], as float64; up to 7 more elements of the room may be written."""
    whole = count >> 3

    def body(v: Any, _: Any) -> None:
        m.store(room, v * LANES + to, m.to_double(m.load(source, v * LANES + base, LANES)))

    def rest(v: Any, _: Any) -> None:
        live = count - v * LANES
        m.store(room, v * LANES + to, m.to_double(m.load(source, v * LANES + base, LANES, live=live)))

    m.loop(0, whole, body)
    m.loop(whole, (count + 7) >> 3, rest)


def fill(m: Any, room: Any, to: Any, value: Any, count: Any) -> None:
    """room[to ...] = a number; up to 7 more elements may be written."""
    m.loop(0, (count + 7) >> 3, lambda v, _: m.store(room, v * LANES + to, value))


def fetch(
    m: Any, spec: Program, columns: Any, ints: Any, fit: Any, start: Any, count: Any, room: Any, at: Places
) -> None:
    """The coordinates of points start ... start + count, of each axis (i // repeat) % length."""
    for a, column in enumerate(columns[: spec.variables]):
        layout = [m.load(ints, INTS + 4 * a + k) for k in range(4)]
        _fetch_axis(m, column, layout, fit, start, count, room, at.x + a * spec.pitch)


def _fetch_axis(m: Any, column: Any, layout: Any, fit: Any, start: Any, count: Any, room: Any, to: int) -> None:
    """Of one axis, run by run; the last once more in all lanes behind them."""
    length, repeat, step, plain = layout
    base, stop = fit * step, start + count

    def turn(q: Any, _: Any) -> None:
        low = _larger(m, q * length, start)
        copy(m, room, low - start + to, column, base + (low - q * length), _smaller(m, (q + 1) * length, stop) - low)

    def same(q: Any, _: Any) -> None:
        low = _larger(m, q * repeat, start)
        value = m.to_double(m.load(column, base + (q - m.quotient(q, length) * length)))
        fill(m, room, low - start + to, m.spread(value, LANES), _smaller(m, (q + 1) * repeat, stop) - low)

    def runs(size: Any, body: Any) -> None:
        m.loop(m.quotient(start, size), m.quotient(stop - 1, size) + 1, body)

    m.loop(0, plain, lambda i, _: runs(length, turn))
    m.loop(0, 1 - plain, lambda i, _: runs(repeat, same))
    m.store(room, count + to, m.spread(m.load(room, count + (to - 1)), LANES))


def _larger(m: Any, a: Any, b: Any) -> Any:
    return m.select(a > b, a, b)


def _smaller(m: Any, a: Any, b: Any) -> Any:
    return m.select(a < b, a, b)


def weigh(m: Any, weight: Any, has: Any, base: Any, count: Any, room: Any, at: Places) -> None:
    """The weights of points, 1 where there are none, and 0 beyond the last."""
    m.loop(0, has, lambda i, _: copy(m, room, at.weight, weight, base, count))
    one = m.const(room, [1.0] * LANES)
    m.loop(0, 1 - has, lambda i, _: fill(m, room, at.weight, one, count))
    m.store(room, count + at.weight, m.const(room, [0.0] * LANES))


@staged
def run_fits(
    m: Any, spec: Any, columns: Any, y: Any, weight: Any, params: Any, which: Any, ints: Any, scale: Any, A: Any,
    g: Any, cost: Any, room: Any, start: Any, stop: Any,
) -> None:  # fmt: skip
    """Tasks start ... stop: chunks of points of fits. Sums go to the fit's place, or the task's. All of it is staged:
    plain code of the same took Numba 2 s longer to compile."""
    n, chunks, by_task, y_step, has, w_step, shared, even = (m.load(ints, k) for k in range(INTS))
    at, zeros, block = places(spec), m.const(room, [0.0] * LANES), spec.block
    sums, behind = sums_of(spec), at.rows + spec.rows * spec.pitch
    # rows that fill up a group: what memory happens to hold, such as numbers too small to be normal, is slow
    m.loop(0, (at.end - behind) // LANES if sums else 0, lambda k, _: m.store(room, k * LANES + behind, zeros))

    def task(t: Any, _: Any) -> None:
        number = m.quotient(t, chunks)
        fit, low = m.load(which, number), (t - number * chunks) * CHUNK
        high = _smaller(m, low + CHUNK, n)
        m.store(room, at.cost, zeros)
        m.loop(0, sums, lambda s, _: m.store(room, s * LANES + at.sums, zeros))
        again = t > start

        def part(b: Any, _: Any) -> None:
            begin = low + b * block
            count = _smaller(m, high - begin, begin * 0 + block)
            new, heavy = m.select(again, 1 - shared, 1 - shared * 0), m.select(again, 1 - even, 1 - even * 0)
            m.loop(0, new, lambda i, _: fetch(m, spec, columns, ints, fit, begin, count, room, at))
            m.loop(0, heavy, lambda i, _: weigh(m, weight, has, begin + fit * w_step, count, room, at))
            copy(m, room, at.data, y, begin + fit * y_step, count)
            m.store(room, count + at.data, zeros)
            vectors = (count + 7) >> 3
            points(m, spec, params, fit * spec.parameters, scale, vectors, room, at)
            if sums:
                products(m, spec, vectors, room, at)

        m.loop(0, m.quotient(high - low + (block - 1), block), part)
        finish(m, spec, A, g, cost, m.select(by_task > 0, t, fit), room, at)

    m.loop(start, stop, task)


@staged
def run_rows(
    m: Any, spec: Any, columns: Any, weight: Any, params: Any, fit: Any, ints: Any, scale: Any, out: Any, room: Any,
    start: Any, stop: Any,
) -> None:  # fmt: skip
    """Rows of points start ... stop of one fit: derivatives times weight, then the value."""
    has, w_step, at, block = m.load(ints, 4), m.load(ints, 5), places(spec), spec.block
    m.store(room, at.cost, m.const(room, [0.0] * LANES))

    def part(b: Any, _: Any) -> None:
        begin = start + b * block
        count = _smaller(m, stop - begin, begin * 0 + block)
        fetch(m, spec, columns, ints, fit, begin, count, room, at)
        weigh(m, weight, has, begin + fit * w_step, count, room, at)
        points(m, spec, params, fit * spec.parameters, scale, (count + 7) >> 3, room, at)
        for k in range(spec.rows):
            to = (stop - start) * k + (begin - start)
            m.loop(
                0, count, lambda i, _, k=k, to=to: m.store(out, to + i, m.load(room, i + (at.rows + k * spec.pitch)))
            )

    m.loop(0, m.quotient(stop - start + (block - 1), block), part)
