"""Compiled passes over data: an expression and its derivatives, summed up as a least-squares fit needs them.

A `Program` is an expression graph as frozen data. Its steps become straight-line vector code, eight points at a time;
what depends on parameters alone is computed once a block. Values and derivatives of a block of points, weighted, go to
rows of memory in the first-level cache; their products are then summed by tiles of up to four rows by four (six by six,
if there are no more), whose sums are registers. That is half a read a multiply-add, for any number of parameters.

The sums of a fit are by chunks of `CHUNK` points, added in order: the same bits for any number of threads.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement, pairwise
from typing import Any, NamedTuple

import numpy as np
from numba import types

from ..expression import Node, ordered
from . import elementary, faddeeva, threads
from .cache import SOURCES, array, compiled
from .machine import specialising, staged
from .scratch import scratch

Array = np.ndarray[Any, Any]

LANES = 8
INTS = 8  # integers of a call before those of its columns
WRITTEN = 12  # rows whose products are written out one by one, and functions
CHUNK = 2**14  # points of a fit that are summed by one task
LOSSES = ("linear", "huber", "soft_l1", "cauchy")
STEP_NS = {"cheap": 0.05, "div": 0.4, "dear": 2.0}  # measured, of a point: a multiply-add, a division, a function
LONG = {
    "exp", "tan", "tanh", "sinh", "cosh", "atan", "asin", "acos", "atan2", "log", "log2", "log10", "safe_log", "pow",
    "sin", "cos", "erf", "erfc", "faddeeva_re", "faddeeva_im",
}  # fmt: skip
DEAR = {"faddeeva_re": 25.0, "faddeeva_im": 25.0, "pow": 6.0, "erf": 5.0, "erfc": 5.0}


@specialising(SOURCES)
@dataclass(frozen=True)
class Program:
    """Steps (operation, the numbers of its arguments' steps, data); a symbol's data is its place, parameters behind the
    variables. outputs: steps of the value and of the derivatives. mode: "normal", "cost" or "rows", or of `lanes`
    "fits" or "weighted fits"."""

    variables: int
    parameters: int
    steps: tuple[tuple[str, tuple[int, ...], float | int | None], ...]
    outputs: tuple[int, ...]
    mode: str = "normal"
    loss: str = "linear"

    @property
    def weighted(self) -> bool:
        """Whether the fits of `lanes` have weights."""
        return self.mode == "weighted fits"

    @property
    def rows(self) -> int:
        """Derivatives, and the residual behind them."""
        return self.parameters + 1

    @property
    def pitch(self) -> int:
        """How far rows are apart: a multiple of 2048 bytes would put them into the same few places of the cache."""
        return self.block + LANES

    @property
    def block(self) -> int:
        """Points whose rows, with the data, stay in the first-level cache."""
        return 256 if self.rows <= 12 else 128 if self.rows <= 24 else 64


def program(roots: Sequence[Node], variables: Sequence[str], parameters: Sequence[str]) -> Program:
    """The program of a value and its derivatives in the parameters."""
    nodes = ordered(roots)
    place = {id(n): i for i, n in enumerate(nodes)}
    names = {name: i for i, name in enumerate((*variables, *parameters))}
    steps = tuple(
        (n.op, tuple(place[id(a)] for a in n.args), names[str(n.data)] if n.op == "symbol" else n.data) for n in nodes
    )
    return Program(len(variables), len(parameters), steps, tuple(place[id(r)] for r in roots))  # type: ignore[arg-type]


def needed(spec: Program, outputs: Sequence[int]) -> tuple[list[int], set[int]]:
    """The steps that outputs need, in order; those of them that change from point to point."""
    wanted, stack = set(outputs), list(outputs)
    while stack:
        for a in spec.steps[stack.pop()][1]:
            if a not in wanted:
                wanted.add(a)
                stack.append(a)
    order, varying = sorted(wanted), set()
    for i in order:
        op, args, data = spec.steps[i]
        if (op == "symbol" and data < spec.variables) or any(a in varying for a in args):
            varying.add(i)
    return order, varying


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


class Steps:
    """Steps turned into instructions; what several have in common is kept."""

    def __init__(self, m: Any, spec: Program, zero: Any) -> None:
        self.m, self.spec, self.zero = m, spec, zero
        # functions are written out where they are few: of 100 sines, that took 4.5 s to compile
        self.apart = sum(step[0] in LONG for step in spec.steps) > WRITTEN
        self.values: dict[int, Any] = {}
        self.kept: dict[Any, Any] = {}

    def shared(self, key: Any, f: Any) -> Any:
        """f(), worked out once."""
        if key not in self.kept:
            self.kept[key] = f()
        return self.kept[key]

    def long(self, name: str, f: Any, *values: Any, results: int = 1) -> Any:
        """f(m, *values), written out or called."""
        return self.m.outlined(name, f, *values, results=results) if self.apart else f(self.m, *values)

    def power(self, i: int, n: int) -> Any:
        """Step i to the nth, n above 0."""
        if n == 1:
            return self.values[i]
        half = self.shared((i, n // 2), lambda: self.power(i, n // 2))
        square = half * half
        return square * self.values[i] if n % 2 else square

    def parts(self, i: int) -> Any:
        """The two parts of the logarithm of |step i|."""
        return self.shared(
            ("log", i), lambda: self.long("log", elementary.log_parts, self.m.absolute(self.values[i]), results=2)
        )

    def reciprocal(self, i: int) -> Any:
        """1 / step i."""
        return self.shared(("1/", i), lambda: 1.0 / self.values[i])

    def run(self, i: int, uniform: set[int]) -> None:
        """Compute a step, whose arguments have been."""
        self.values[i] = self.value(i, uniform)

    def value(self, i: int, uniform: set[int]) -> Any:
        m, (op, args, data) = self.m, self.spec.steps[i]
        v = [self.values[a] for a in args]
        match op:
            case "number":
                return self.zero + data
            case "add":
                return v[0] + v[1]
            case "sub":
                return v[0] - v[1]
            case "mul":
                return v[0] * v[1]
            case "div":  # by what is the same for all points: a product
                return v[0] * self.reciprocal(args[1]) if args[1] in uniform and i not in uniform else v[0] / v[1]
            case "neg":
                return -v[0]
            case "power":
                n = int(data)
                return self.power(args[0], n) if n > 0 else 1.0 / self.power(args[0], -n)
            case "pow":
                return self.long(
                    "pow", lambda m, x, a, *parts: elementary.power(m, x, a, parts), *v, *self.parts(args[0])
                )
            case "lt":
                return v[0] < v[1]
            case "le":
                return v[0] <= v[1]
            case "where":
                return m.select(*v)
        return self.function(op, args, v)

    def function(self, op: str, args: tuple[int, ...], v: list[Any]) -> Any:
        m = self.m
        if op in ("log", "log2", "log10", "safe_log"):
            natural = elementary.log(m, v[0], self.parts(args[0]))
            if op == "safe_log":
                return m.select((v[0] <= 0.0) & (v[0] >= 0.0), 0.0, natural)
            return natural * {"log": 1.0, "log2": 1.4426950408889634, "log10": 0.4342944819032518}[op]
        if op in ("sin", "cos"):
            return self.shared(("sin", args[0]), lambda: self.long("sin", elementary.sin_cos, v[0], results=2))[
                op == "cos"
            ]
        if op in ("erf", "erfc"):
            both = self.shared(("erf", args[0]), lambda: self.long("erf", elementary.erf_erfc, v[0], results=2))
            return both[op == "erfc"]
        if op.startswith("faddeeva"):
            return self.shared(("w", *args), lambda: self.long("w", _faddeeva, *v, results=2))[op == "faddeeva_im"]
        f = elementary.TWO[op] if op in elementary.TWO else elementary.ONE[op]
        return self.long(op, f, *v) if op in LONG else f(m, *v)


def _faddeeva(m: Any, x: Any, y: Any) -> tuple[Any, Any]:
    beyond = x * x + y * y > faddeeva.FAR
    near, far = faddeeva.near(x, y), faddeeva.far(x, y)
    return m.select(beyond, far[0], near[0]), m.select(beyond, far[1], near[1])


def robust(m: Any, loss: str, r: Any, scale: Any) -> tuple[Any, Any, Any]:
    """rho, and the factors of the rows and of the residual, as SciPy has them: J s and r rho' / s
    with s**2 = rho' + 2 rho'' z, at least 2**-52, and z = (r / C)**2."""
    z = (r / scale) * (r / scale)
    if loss == "huber":
        size = m.sqrt(z)
        inside = z <= 1.0
        rho, first = m.select(inside, z, size * 2.0 - 1.0), m.select(inside, 1.0, 1.0 / size)
        bend = m.select(inside, 1.0, 0.0 * z)
    elif loss == "soft_l1":
        t = z + 1.0
        root = m.sqrt(t)
        rho, first = z / (root + 1.0) * 2.0, 1.0 / root
        bend = first / t  # rho' + 2 z rho'' = t**-1/2 - z t**-3/2
    else:
        t = z + 1.0
        rho, first = elementary.log1p(m, z), 1.0 / t
        bend = first - z * 2.0 * first * first
    tiny = 2.0**-52
    root = m.sqrt(m.select(bend < tiny, tiny, bend))
    return rho * scale * scale, root, first / root


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


def _pass(spec, columns, y, weight, params, which, ints, scale, A, g, cost, room, start, stop):  # type: ignore[no-untyped-def]
    run_fits(spec, columns, y, weight, params, which, ints, scale, A, g, cost, room, start, stop)


def _rows(spec, columns, weight, params, fit, ints, scale, out, room, start, stop):  # type: ignore[no-untyped-def]
    run_rows(spec, columns, weight, params, fit, ints, scale, out, room, start, stop)


class Column:
    """A variable that repeats, as an axis of a grid does: point i has values[..., (i // repeat) % length]."""

    def __init__(self, values: Any, repeat: int = 1, count: int | None = None) -> None:
        self.values, self.repeat = np.asarray(values), repeat
        self.count = self.values.shape[-1] * repeat if count is None else count

    @property
    def shape(self) -> tuple[int, ...]:
        """(fits or 1, points)."""
        return (self.values.shape[0] if self.values.ndim > 1 else 1, self.count)

    def full(self, start: int, stop: int) -> Array:
        """The values of points start ... stop."""
        return self.values[..., np.arange(start, stop) // self.repeat % self.values.shape[-1]]


class _Prepared(NamedTuple):
    """Flat arrays, and the integers of a call: those of run_fits, then of each column length, repeat, step from fit to
    fit, and whether it is plain (1)."""

    columns: tuple[Array, ...]
    y: Array
    weight: Array
    params: Array
    ints: Array


class Passes:
    """What a least-squares fit asks of an equation. Made by `Equation.passes`.

    coords: an array (fits or 1, n) or (n,), or a Column, for each variable; y, weight: (fits, n), weight may be None;
    params (fits, p). Points whose y is NaN or whose weight is 0 (or NaN) are left out. which: the fits to run.
    """

    def __init__(self, spec: Program, dtype: str) -> None:
        self.spec, self.dtype = spec, np.dtype(dtype)

    def normal(
        self, coords: Sequence[Any], y: Array, weight: Array | None, params: Array, which: Array,
        loss: tuple[str, float], A: Array, g: Array, cost: Array,
    ) -> None:  # fmt: skip
        """A[which] = J^T J, g[which] = J^T r and cost[which] = sum rho(r**2) / 2, of r = weight (f - y)."""
        self._run("normal", coords, y, weight, params, which, loss, A, g, cost)

    def cost(
        self, coords: Sequence[Any], y: Array, weight: Array | None, params: Array, which: Array,
        loss: tuple[str, float], cost: Array,
    ) -> None:  # fmt: skip
        """cost[which] alone."""
        nothing = np.empty((1, 1, 1)), np.empty((1, 1))
        self._run("cost", coords, y, weight, params, which, loss, *nothing, cost)

    def rows(
        self, coords: Sequence[Any], weight: Array | None, params: Array, fit: int, start: int, stop: int
    ) -> tuple[Array, Array]:
        """The value f (not weighted) at points start ... stop of one fit, and the Jacobian (points, p) of weight f."""
        count, spec = max(stop - start, 0), self._spec("rows", "linear")
        out = np.empty((spec.rows, count))
        if out.size:
            given = self._prepared(coords, np.empty((1, 0), self.dtype), weight, params)
            kernel = _entry(spec, self.dtype.name)
            with scratch(places(spec).end, np.float64) as room:
                kernel(
                    given.columns, given.weight, given.params, fit, given.ints, np.ones(1), out.reshape(-1), room,
                    start, stop,
                )  # fmt: skip
        return out[-1], out[:-1].T

    def _spec(self, mode: str, loss: str) -> Program:
        s = self.spec
        return kept_spec(Program(s.variables, s.parameters, s.steps, s.outputs, mode, loss))

    def _prepared(self, coords: Sequence[Any], y: Array, weight: Array | None, params: Array) -> _Prepared:
        columns, layout, shared = [], [], True
        for c in coords:
            c = c if isinstance(c, Column) else Column(c)
            lines = self.lines(c.values)
            length = lines.shape[1]
            shared &= len(lines) == 1
            columns.append(lines.reshape(-1))
            layout += [max(length, 1), c.repeat, length if len(lines) > 1 else 0, int(c.repeat == 1)]
        y, w = self.lines(y), self.lines(np.empty((1, 0)) if weight is None else weight)
        n = y.shape[1]
        shared &= n <= self.spec.block
        even = shared and len(w) == 1
        ints = [n, max(-(-n // CHUNK), 1), n > CHUNK, n * (len(y) > 1), weight is not None, w.shape[1] * (len(w) > 1)]
        return _Prepared(
            tuple(columns) or (np.zeros(1, self.dtype),), y.reshape(-1), w.reshape(-1),
            np.ascontiguousarray(params, np.float64).reshape(-1), np.array([*ints, shared, even, *layout], np.int64),
        )  # fmt: skip

    def lines(self, x: Array) -> Array:
        """(fits or 1, n), contiguous and of our type; what is the same for all fits, once."""
        x = np.asarray(x)
        x = x[None] if x.ndim == 1 else x
        if len(x) > 1 and x.strides[0] == 0:
            x = x[:1]
        x = np.ascontiguousarray(x, self.dtype)
        return x

    def _run(
        self, mode: str, coords: Sequence[Any], y: Array, weight: Array | None, params: Array, which: Array,
        loss: tuple[str, float], A: Array, g: Array, cost: Array,
    ) -> None:  # fmt: skip
        if len(which) == 0:
            return
        spec = self._spec(mode, loss[0])
        given = self._prepared(coords, y, weight, params)
        p, kernel, (n, chunks, by_task) = spec.parameters, _entry(spec, self.dtype.name), given.ints[:3].tolist()
        tasks = len(which) * chunks
        A_to, g_to, cost_to = A, g, cost
        if by_task:
            cost_to = np.empty(tasks)
            if mode == "normal":
                A_to, g_to = np.empty((tasks, p, p)), np.empty((tasks, p))
        which = np.ascontiguousarray(which, np.int64)
        flat, size = (np.array([float(loss[1])]), A_to.reshape(-1), g_to.reshape(-1), cost_to), places(spec).end

        def part(i: int, j: int) -> None:
            with scratch(size, np.float64) as room:
                kernel(*given[:4], which, given.ints, *flat, room, i, j)

        threads.over(part, tasks, work(spec) * n * len(which), align=1 if by_task else 16)
        if by_task:
            cost[which] = _in_order(cost_to, chunks)
            if mode == "normal":
                A[which], g[which] = _in_order(A_to, chunks), _in_order(g_to, chunks)


def _in_order(parts: Array, chunks: int) -> Array:
    """Sums of consecutive parts, one after the other."""
    parts = parts.reshape(-1, chunks, *parts.shape[1:])
    total = parts[:, 0].copy()
    for k in range(1, chunks):
        total += parts[:, k]
    return total


@functools.lru_cache(maxsize=512)
def kept_spec(spec: Program) -> Program:
    """One of equal programs, whose hash is known."""
    return spec


@functools.lru_cache(maxsize=512)
def work(spec: Program) -> float:
    """ns of a point, roughly: for how many threads it is worth."""
    order, varying = needed(spec, spec.outputs if spec.mode != "cost" else spec.outputs[:1])
    ns = 1.0
    for i in order:
        op = spec.steps[i][0]
        if i in varying and op != "symbol":
            cheap = op in ("add", "sub", "mul", "neg", "power", "where", "lt", "le", "min", "max", "abs")
            ns += DEAR.get(op, STEP_NS["cheap" if cheap else "div" if op in ("div", "sqrt") else "dear"])
    return ns + (STEP_NS["cheap"] * len(pairs(spec.rows)) if spec.mode != "cost" else 0)


@functools.lru_cache(maxsize=512)
def _entry(spec: Program, dtype: str) -> Any:
    """The compiled pass of a program."""
    columns = types.UniTuple(array(dtype, 1, "C"), max(spec.variables, 1))
    real, whole, flat, i64 = array(dtype, 1, "C"), array(np.int64, 1, "C"), array(np.float64, 1, "C"), types.int64
    kind = spec._numba_type_  # type: ignore[attr-defined]
    if spec.mode == "rows":
        f, signature = _rows, (kind, columns, real, flat, i64, whole, flat, flat, flat, i64, i64)
    else:
        f = _pass
        signature = (kind, columns, real, real, flat, whole, whole, flat, flat, flat, flat, flat, i64, i64)
    return functools.partial(compiled(f, f"{kind.digest}_{dtype}", signature, contract=True), spec)


@functools.lru_cache(maxsize=256)
def passes(spec: Program, dtype: str) -> Passes:
    """The passes of a program over data of a type."""
    return Passes(spec, dtype)
