"""Compiled passes over data: an expression and its derivatives, summed up as a least-squares fit needs them.

A `Program` is an expression graph as frozen data. Its steps become straight-line vector code, eight points at a time; what
depends on parameters alone is computed once a block. Values and derivatives of a block of points, weighted, go to rows of
memory in the first-level cache; their products are then summed by tiles of up to four rows by four (six by six on the
diagonal), whose sums are registers. That is at most 0.5 reads a multiply-add, for any number of parameters.

The sums of a fit are by chunks of `CHUNK` points, added in order: the same bits for any number of threads.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement
from typing import Any, NamedTuple

import numpy as np
from numba import njit, types

from ..expression import Node, ordered
from . import elementary, faddeeva, threads
from .cache import SOURCES, array, compiled
from .machine import specialising, staged
from .scratch import scratch

Array = np.ndarray[Any, Any]

LANES = 8
CHUNK = 2**14  # points of a fit that are summed by one task
LOSSES = ("linear", "huber", "soft_l1", "cauchy")
STEP_NS = {"cheap": 0.05, "div": 0.4, "dear": 2.0}  # measured, of a point: a multiply-add, a division, a function
DEAR = {"faddeeva_re": 25.0, "faddeeva_im": 25.0, "pow": 6.0, "erf": 5.0, "erfc": 5.0}


@specialising(SOURCES)
@dataclass(frozen=True)
class Program:
    """Steps (operation, the numbers of its arguments' steps, data); a symbol's data is its place, parameters behind the
    variables. outputs: steps of the value and of the derivatives. mode: "normal", "cost" or "rows"."""

    variables: int
    parameters: int
    steps: tuple[tuple[str, tuple[int, ...], float | int | None], ...]
    outputs: tuple[int, ...]
    mode: str = "normal"
    loss: str = "linear"

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


class _Steps:
    """Steps turned into instructions; what several have in common is kept."""

    def __init__(self, m: Any, spec: Program, zero: Any) -> None:
        self.m, self.spec, self.zero = m, spec, zero
        self.values: dict[int, Any] = {}
        self.kept: dict[Any, Any] = {}

    def shared(self, key: Any, f: Any) -> Any:
        """f(), worked out once."""
        if key not in self.kept:
            self.kept[key] = f()
        return self.kept[key]

    def power(self, i: int, n: int) -> Any:
        """Step i to the nth, n above 0."""
        if n == 1:
            return self.values[i]
        half = self.shared((i, n // 2), lambda: self.power(i, n // 2))
        square = half * half
        return square * self.values[i] if n % 2 else square

    def parts(self, i: int) -> Any:
        """The two parts of the logarithm of |step i|."""
        return self.shared(("log", i), lambda: elementary.log_parts(self.m, self.m.absolute(self.values[i])))

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
                return elementary.power(m, *v, self.parts(args[0]))
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
            return self.shared(("sin", args[0]), lambda: elementary.sin_cos(m, v[0]))[op == "cos"]
        if op in ("erf", "erfc"):
            return self.shared(("erf", args[0]), lambda: elementary.erf_erfc(m, v[0]))[op == "erfc"]
        if op.startswith("faddeeva"):
            return self.shared(("w", *args), lambda: _faddeeva(m, *v))[op == "faddeeva_im"]
        if op in elementary.TWO:
            return elementary.TWO[op](m, *v)
        return elementary.ONE[op](m, *v)


def _faddeeva(m: Any, x: Any, y: Any) -> tuple[Any, Any]:
    beyond = x * x + y * y > faddeeva.FAR
    near, far = faddeeva.near(x, y), faddeeva.far(x, y)
    return m.select(beyond, far[0], near[0]), m.select(beyond, far[1], near[1])


def _robust(m: Any, loss: str, r: Any, scale: Any) -> tuple[Any, Any, Any]:
    """rho, and the factors of the rows and of the residual, as scipy.optimize.least_squares has them: with z = (r / C)**2,
    J sqrt(rho' + 2 rho'' z) and r rho' / sqrt(rho' + 2 rho'' z), the root at least 2**-52."""
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


@staged
def points(m: Any, spec: Any, params: Any, first: Any, x: Any, y: Any, w: Any, scale: Any, vectors: Any, rows: Any,
           total: Any) -> None:  # fmt: skip
    """The rows of a block: derivatives and residual ("normal"), or derivatives and value ("rows"). total: twice the cost
    of each lane, to which this block's is added."""
    pitch, weighed = spec.pitch, spec.mode != "rows"
    outputs = spec.outputs[:1] if spec.mode == "cost" else spec.outputs
    order, varying = needed(spec, outputs)
    uniform = set(order) - varying
    zero = m.const(total, [0.0] * LANES)
    before = _Steps(m, spec, zero)
    for i in order:
        op, args, data = spec.steps[i]
        if op == "symbol" and i in uniform:
            before.values[i] = m.spread(m.load(params, first + (data - spec.variables)), LANES)
        elif i in uniform:
            before.run(i, uniform)
    for i in order:
        op, args, _ = spec.steps[i]
        if i in varying and op == "div" and args[1] in uniform:
            before.reciprocal(args[1])
    scale = m.spread(m.load(scale, 0), LANES)

    def body(k: Any, carry: Any) -> list[Any]:
        at, now = k * LANES, _Steps(m, spec, zero)
        now.values, now.kept = dict(before.values), dict(before.kept)
        for i in order:
            op, args, data = spec.steps[i]
            if i in varying:
                if op == "symbol":
                    now.values[i] = m.load(x, at + data * pitch, LANES)
                else:
                    now.run(i, uniform)
        values, weight = [now.values[i] for i in outputs], m.load(w, at, LANES)
        if not weighed:
            m.store(rows, at + spec.parameters * pitch, values[0])
            for j, d in enumerate(values[1:]):
                m.store(rows, at + j * pitch, d * weight)
            return list(carry)
        data = m.load(y, at, LANES)
        there = (data <= data) & ((weight < 0.0) | (weight > 0.0))
        r = m.select(there, (values[0] - data) * weight, 0.0)
        square, times = r * r, weight
        if spec.loss != "linear":
            square, rows_by, residual_by = _robust(m, spec.loss, r, scale)
            times, r = weight * rows_by, r * residual_by
        if spec.mode == "normal":
            m.store(rows, at + spec.parameters * pitch, r)
            for j, d in enumerate(values[1:]):
                m.store(rows, at + j * pitch, m.select(there, d * times, 0.0))
        return [carry[0] + square]

    (cost,) = m.loop(0, vectors, body, [m.load(total, 0, LANES)])
    m.store(total, 0, cost)


def tiles(rows: int) -> list[list[tuple[int, int]]]:
    """Pairs of rows i <= j, by tiles whose sums fit into registers."""
    groups = 1 if rows <= 6 else -(-rows // 4)
    cuts = [rows * g // groups for g in range(groups + 1)]
    parts = [range(a, b) for a, b in zip(cuts, cuts[1:])]
    out = []
    for a, b in combinations_with_replacement(range(groups), 2):
        out.append([(i, j) for i in parts[a] for j in parts[b] if i <= j])
    return out


def pairs(rows: int) -> list[tuple[int, int]]:
    """The order of sums."""
    return [p for tile in tiles(rows) for p in tile]


@staged
def products(m: Any, spec: Any, rows: Any, vectors: Any, sums: Any) -> None:
    """sums += products of rows, lane by lane, in the order of `pairs`."""
    slot = 0
    for tile in tiles(spec.rows):

        def body(k: Any, carry: Any, tile: Any = tile) -> list[Any]:
            at = k * LANES
            row = {i: m.load(rows, at + i * spec.pitch, LANES) for i in sorted({i for p in tile for i in p})}
            return [c + row[i] * row[j] for c, (i, j) in zip(carry, tile)]

        slots = [(slot + s) * LANES for s in range(len(tile))]
        for s, total in zip(slots, m.loop(0, vectors, body, [m.load(sums, s, LANES) for s in slots])):
            m.store(sums, s, total)
        slot += len(tile)


@staged
def finish(m: Any, spec: Any, sums: Any, total: Any, out: Any) -> None:
    """The lanes of each sum added up, eight sums at a time; the cost behind them."""
    count = len(pairs(spec.rows)) if spec.mode == "normal" else 0
    vectors = [m.load(sums, s * LANES, LANES) for s in range(count)] + [m.load(total, 0, LANES)]
    while len(vectors) % LANES:
        vectors.append(m.const(sums, [0.0] * LANES))
    for k in range(0, len(vectors), LANES):
        c = m.transpose(vectors[k : k + LANES])
        m.store(out, k, ((c[0] + c[1]) + (c[2] + c[3])) + ((c[4] + c[5]) + (c[6] + c[7])))


@staged
def spread(m: Any, spec: Any, out: Any, A: Any, g: Any, cost: Any, row: Any) -> None:
    """The sums of one fit into its matrix (both triangles), gradient and cost."""
    p, count = spec.parameters, 0
    if spec.mode == "normal":
        for count, (i, j) in enumerate(pairs(spec.rows)):
            s = m.load(out, count)
            if j < p:
                m.store(A, row * (p * p) + (i * p + j), s)
                if i != j:
                    m.store(A, row * (p * p) + (j * p + i), s)
            elif i < p:
                m.store(g, row * p + i, s)
        count += 1
    m.store(cost, row, m.load(out, count) * 0.5)


@njit(nogil=True, error_model="numpy", _nrt=False)
def put(x, at, values, base, m):  # type: ignore[no-untyped-def]
    """x[at ...] = values[base ...]; an index without a sign spares the test whether it counts from the end."""
    for i in range(m):
        x[np.uint64(at + i)] = values[np.uint64(base + i)]


@njit(nogil=True, error_model="numpy", _nrt=False)
def fill(x, at, value, m):  # type: ignore[no-untyped-def]
    """x[at ...] = value."""
    for i in range(m):
        x[np.uint64(at + i)] = value


@njit(nogil=True, error_model="numpy", _nrt=False)
def fetch(columns, layout, fit, start, m, x, pitch):  # type: ignore[no-untyped-def]
    """The coordinates of points start ... start + m, each point's (i // repeat) % length of its axis."""
    for a in range(len(columns)):
        values, length, repeat = columns[a].reshape(-1), layout[a, 0], layout[a, 1]
        base = fit * length if columns[a].shape[0] > 1 else 0
        j, at = 0, a * pitch
        while j < m:
            k = (start + j) // repeat
            if repeat == 1:
                k %= length
                count = min(length - k, m - j)
                put(x, at + j, values, base + k, count)
            else:
                count = min((k + 1) * repeat - (start + j), m - j)
                fill(x, at + j, np.float64(values[np.uint64(base + k % length)]), count)
            j += count
        fill(x, at + m, x[at + m - 1], -m % LANES)


@njit(nogil=True, error_model="numpy", _nrt=False)
def weigh(weight, fit, start, m, w, n):  # type: ignore[no-untyped-def]
    """The weights of points, 1 where there are none, and 0 beyond the last."""
    if weight.shape[1]:
        put(w, 0, weight.reshape(-1), start + (fit * n if weight.shape[0] > 1 else 0), m)
    else:
        fill(w, 0, 1.0, m)
    fill(w, m, 0.0, -m % LANES)


def _pass(spec, columns, layout, y, weight, params, which, n, scale, A, g, cost, by_task, room, sizes, start, stop):  # type: ignore[no-untyped-def]
    """Tasks: chunks of points of fits. Sums go to the fit's place, or the task's."""
    block, chunk, pitch = sizes[0], sizes[1], sizes[11]
    chunks = max((n + chunk - 1) // chunk, 1)
    x, data, w = room[sizes[2] : sizes[3]], room[sizes[3] : sizes[4]], room[sizes[4] : sizes[5]]
    total, out = room[sizes[5] : sizes[6]], room[sizes[6] : sizes[7]]
    sums, rows = room[sizes[7] : sizes[8]], room[sizes[8] : sizes[9]]
    flat, p, values = params.reshape(-1), params.shape[1], y.reshape(-1)
    Af, gf = A.reshape(-1), g.reshape(-1)
    shared = n <= block
    for a in range(len(columns)):
        shared &= columns[a].shape[0] == 1
    constant = shared and weight.shape[0] == 1
    for task in range(start, stop):
        fit = which[task // chunks]
        low = task % chunks * chunk
        fill(total, 0, 0.0, LANES)
        fill(sums, 0, 0.0, len(sums))
        for begin in range(low, min(low + chunk, n), block):
            m = min(block, n - begin)
            vectors = (m + LANES - 1) // LANES
            if not shared or task == start:
                fetch(columns, layout, fit, begin, m, x, pitch)
            if not constant or task == start:
                weigh(weight, fit, begin, m, w, n)
            put(data, 0, values, begin + (fit * n if y.shape[0] > 1 else 0), m)
            fill(data, m, 0.0, -m % LANES)
            points(spec, flat, fit * p, x, data, w, scale, vectors, rows, total)
            if sizes[10]:
                products(spec, rows, vectors, sums)
        finish(spec, sums, total, out)
        spread(spec, out, Af, gf, cost, task if by_task else fit)


def _rows(spec, columns, layout, weight, params, fit, scale, room, sizes, out, n, start, stop):  # type: ignore[no-untyped-def]
    """Rows of points start ... stop of one fit: derivatives times weight, then the value."""
    block, pitch = sizes[0], sizes[11]
    x, data, w = room[sizes[2] : sizes[3]], room[sizes[3] : sizes[4]], room[sizes[4] : sizes[5]]
    total, rows = room[sizes[5] : sizes[6]], room[sizes[8] : sizes[9]]
    flat, p, to = params.reshape(-1), params.shape[1], out.reshape(-1)
    for begin in range(start, stop, block):
        m = min(block, stop - begin)
        fetch(columns, layout, fit, begin, m, x, pitch)
        weigh(weight, fit, begin, m, w, n)
        points(spec, flat, fit * p, x, data, w, scale, (m + LANES - 1) // LANES, rows, total)
        for k in range(out.shape[0]):
            put(to, k * out.shape[1] + begin - start, rows, k * pitch, m)


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
    columns: tuple[Array, ...]
    layout: Array
    y: Array
    weight: Array
    params: Array


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
        count, spec = stop - start, self._spec("rows", "linear")
        out = np.empty((spec.rows, max(count, 0)))
        if out.size:
            given = self._prepared(coords, np.empty((1, 0), self.dtype), weight, params)
            kernel, sizes = _entry(spec, self.dtype.name), _sizes(spec)
            with scratch(int(sizes[9]), np.float64) as room:
                room[sizes[3] : sizes[6]] = 0
                kernel(
                    given.columns, given.layout, given.weight, given.params, fit, np.ones(1), room, sizes, out,
                    given.weight.shape[1], start, stop,
                )  # fmt: skip
        return out[-1], out[:-1].T

    def _spec(self, mode: str, loss: str) -> Program:
        s = self.spec
        return _kept_spec(Program(s.variables, s.parameters, s.steps, s.outputs, mode, loss))

    def _prepared(self, coords: Sequence[Any], y: Array, weight: Array | None, params: Array) -> _Prepared:
        columns, layout = [], []
        for c in coords:
            c = c if isinstance(c, Column) else Column(c)
            columns.append(self._lines(c.values))
            layout.append((c.values.shape[-1], c.repeat))
        if not columns:  # of an equation without variables
            columns, layout = [np.zeros((1, 1), self.dtype)], [(1, 1)]
        weight = np.empty((1, 0)) if weight is None else weight
        params = np.ascontiguousarray(params, np.float64)
        return _Prepared(
            tuple(columns), np.array(layout, np.int64), self._lines(y), self._lines(weight),
            params if params.shape[1] else np.zeros((len(params), 1)),
        )  # fmt: skip

    def _lines(self, x: Array) -> Array:
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
        n, p = given.y.shape[1], spec.parameters
        kernel, sizes = _entry(spec, self.dtype.name), _sizes(spec)
        chunks = max(-(-n // CHUNK), 1)
        tasks, by_task = len(which) * chunks, chunks > 1
        if by_task and mode == "normal":
            A_to, g_to = np.empty((tasks, p, p)), np.empty((tasks, p))
        else:
            A_to, g_to = A, g
        cost_to = np.empty(tasks) if by_task else cost
        which = np.ascontiguousarray(which, np.int64)

        def part(i: int, j: int) -> None:
            with scratch(int(sizes[9]), np.float64) as room:
                kernel(*given, which, n, np.array([float(loss[1])]), A_to, g_to, cost_to, by_task, room, sizes, i, j)

        threads.over(part, tasks, _work(spec) * n * len(which), align=1 if by_task else 16)
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
def _kept_spec(spec: Program) -> Program:
    return spec


@functools.lru_cache(maxsize=512)
def _work(spec: Program) -> float:
    """ns of a point, roughly: for how many threads it is worth."""
    order, varying = needed(spec, spec.outputs if spec.mode == "normal" else spec.outputs[:1])
    ns = 1.0
    for i in order:
        op = spec.steps[i][0]
        if i in varying and op != "symbol":
            cheap = op in ("add", "sub", "mul", "neg", "power", "where", "lt", "le", "min", "max", "abs")
            ns += DEAR.get(op, STEP_NS["cheap" if cheap else "div" if op in ("div", "sqrt") else "dear"])
    return ns + (STEP_NS["cheap"] * len(pairs(spec.rows)) if spec.mode == "normal" else 0)


@functools.lru_cache(maxsize=512)
def _sizes(spec: Program) -> Array:
    """Block, chunk, and where in the working memory what begins: coordinates, data, weights, cost, sums of one fit, sums
    by lanes, rows, end; whether rows are multiplied; how far they are apart."""
    normal = spec.mode == "normal"
    count = len(pairs(spec.rows)) if normal else 0
    lengths = (
        max(spec.variables, 1) * spec.pitch, spec.pitch, spec.pitch, LANES, -(-(count + 1) // LANES) * LANES,
        max(count, 1) * LANES, spec.rows * spec.pitch if spec.mode != "cost" else LANES,
    )  # fmt: skip
    return np.array([spec.block, CHUNK, *np.cumsum([0, *lengths]), normal, spec.pitch], np.int64)


@functools.lru_cache(maxsize=512)
def _entry(spec: Program, dtype: str) -> Any:
    """The compiled pass of a program."""
    columns = types.UniTuple(array(dtype, 2, "C"), max(spec.variables, 1))
    lines, whole, flat, i64 = array(dtype, 2, "C"), array(np.int64, 1, "C"), array(np.float64, 1, "C"), types.int64
    matrix, table, kind = array(np.float64, 2, "C"), array(np.int64, 2, "C"), spec._numba_type_  # type: ignore[attr-defined]
    label = f"{kind.digest}_{hashlib.sha256(dtype.encode()).hexdigest()[:4]}"
    if spec.mode == "rows":
        signature = (kind, columns, table, lines, matrix, i64, flat, flat, whole, matrix, i64, i64, i64)
        return functools.partial(compiled(_rows, label, signature, contract=True), spec)
    signature = (
        kind, columns, table, lines, lines, matrix, whole, i64, flat, array(np.float64, 3, "C"), matrix, flat,
        types.boolean, flat, whole, i64, i64,
    )  # fmt: skip
    return functools.partial(compiled(_pass, label, signature, contract=True), spec)


@functools.lru_cache(maxsize=256)
def passes(spec: Program, dtype: str) -> Passes:
    """The passes of a program over data of a type."""
    return Passes(spec, dtype)
