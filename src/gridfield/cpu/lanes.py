"""Fits of few points, eight at a time: each is a lane of vectors, from its start to its end, in the first-level cache.

The steps are those of marquardt.py, by which a fit that is in any way special is done: a lane that meets a step beyond
its bounds, a matrix with few digits left, a model that is NaN at the start, or too many steps, is left to it. A lane
whose fit has ended takes the next one, so that quick fits do not wait for slow ones. No lane knows of the others: a fit
has the same bits whatever is fitted beside it.

100,000 fits of 3 parameters to 64 points: 7 steps each at 0.14 us, where a pass over all data and then a step
of all fits took 0.47 us (Xeon, 2.6 GHz, one thread).
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numba import types

from . import threads
from .cache import array, compiled
from .expressions import LANES, Program, Steps, kept_spec, needed, robust
from .machine import staged
from .marquardt import ALIKE, LARGEST, POOR, UNDAMPED
from .passes import Column, Passes, work
from .scratch import scratch

Array = np.ndarray[Any, Any]

SHORT, FEW = 256, 8  # points and parameters at most
TURNS = 64  # steps of a lane
SHARE = 2048  # fits of a task

# what a fit knows: numbers, then vectors, then triangles
NUMBERS = ("lam", "nu", "pred", "seen", "least", "stuck", "cost", "turns", "dof", "floor", "live", "end", "todo")
VECTORS = ("x", "g", "low", "high", "scale", "trial")
START = {"nu": 2.0, "least": np.inf, "live": 1.0}  # all others 0


class Ended(NamedTuple):
    """What becomes of fits; of those whose status is still 0 nothing is known."""

    params: Array  # (fits, p)
    normal: Array  # (fits, p, p)
    largest: Array  # (fits, p)
    cost: Array  # (fits,)
    turns: Array  # (fits,)


class Lanes:
    """The memory of eight fits: numbers by name, and (behind `end`) coordinates, data and weights of each point."""

    def __init__(self, m: Any, room: Any, p: int) -> None:
        names = [*NUMBERS, *(f"{v}{a}" for v in VECTORS for a in range(p))]
        names += [f"A{a}{b}" for a in range(p) for b in range(a + 1)]
        self.m, self.room, self.p = m, room, p
        self.at = {name: k * LANES for k, name in enumerate(names)}
        self.end = len(names) * LANES

    def get(self, name: str) -> Any:
        """Of all lanes."""
        return self.m.load(self.room, self.at[name], LANES)

    def vector(self, name: str) -> list[Any]:
        """Of all lanes and parameters."""
        return [self.get(f"{name}{a}") for a in range(self.p)]

    def put(self, name: str, x: Any) -> None:
        """Of all lanes."""
        self.m.store(self.room, self.at[name], x)

    def one(self, name: str, lane: Any) -> Any:
        """Of one lane."""
        return self.m.load(self.room, lane + self.at[name])

    def set(self, name: str, lane: Any, x: Any) -> None:
        """Of one lane."""
        self.m.store(self.room, lane + self.at[name], x)


def _sums(m: Any, spec: Program, n: Any, scale: Any, room: Any, own: Lanes) -> tuple[list[Any], list[Any], Any]:
    """(lower triangle of J^T J by rows, J^T r, cost) of the trials, summed from point to point."""
    order, varying = needed(spec, spec.outputs)
    uniform, p = set(order) - varying, spec.parameters
    zero = m.const(room, [0.0] * LANES)
    before = Steps(m, spec, zero)
    for i in order:
        op, args, data = spec.steps[i]
        if op == "symbol" and i in uniform:
            before.values[i] = own.get(f"trial{data - spec.variables}")
        elif i in uniform:
            before.run(i, uniform)
        elif op == "div" and args[1] in uniform:
            before.reciprocal(args[1])
    size, scale = n * LANES, m.spread(m.load(scale, 0), LANES)

    def body(k: Any, carry: Any) -> list[Any]:
        here, now = k * LANES + own.end, Steps(m, spec, zero)
        now.values, now.kept = dict(before.values), dict(before.kept)
        for i in order:
            op, _, data = spec.steps[i]
            if i in varying:
                if op == "symbol":
                    now.values[i] = m.load(room, here + size * int(data), LANES)
                else:
                    now.run(i, uniform)
        value, *slopes = [now.values[i] for i in spec.outputs]
        data = m.load(room, here + size * spec.variables, LANES)
        there, r, times = data <= data, value - data, None
        if spec.weighted:
            times = m.load(room, here + size * (spec.variables + 1), LANES)
            there, r = there & ((times < 0.0) | (times > 0.0)), r * times
        r = m.select(there, r, 0.0)
        square = r * r
        if spec.loss != "linear":
            square, by, residual_by = robust(m, spec.loss, r, scale)
            times, r = by if times is None else times * by, r * residual_by
        rows = [m.select(there, d if times is None else d * times, 0.0) for d in slopes]
        terms = [rows[a] * rows[b] for a in range(p) for b in range(a + 1)]
        terms += [d * r for d in rows] + [square]
        return [c + t for c, t in zip(carry, terms)]

    *found, cost = m.loop(0, n, body, [zero] * (p * (p + 1) // 2 + p + 1))
    return found[: len(found) - p], found[len(found) - p :], cost * 0.5


def _triangle(rows: list[Any], a: int, b: int) -> Any:
    a, b = max(a, b), min(a, b)
    return rows[a * (a + 1) // 2 + b]


def _largest(m: Any, x: Any, y: Any) -> Any:
    return m.select(x > y, x, y)


def _taken(m: Any, own: Lanes, A2: list[Any], g2: list[Any], cost2: Any, zero: Any) -> tuple[list[Any], ...]:
    """Whether the trials are (Nielsen's gain ratio); what is then known: (A, g, x, [cost, lam, seen], [left])."""
    p, inf = own.p, np.inf
    total = cost2
    for a in range(p):
        total = total + m.absolute(g2[a]) + A2[a * (a + 3) // 2]
    good, turns = m.absolute(total) < inf, own.get("turns")
    first = turns < 0.5
    cost, lam, nu, predicted = own.get("cost"), own.get("lam"), own.get("nu"), own.get("pred")
    tried = m.select(good, cost2, zero + inf)
    close = predicted <= cost * ALIKE
    gain = (cost - tried) / predicted
    bend = gain * 2.0 - 1.0
    below = _largest(m, 1.0 - bend * bend * bend, zero + 0.1)
    # costs no longer tell steps apart, their differences being rounding
    taken = (close & (tried <= cost * (1.0 + 10.0 * ALIKE))) | ((gain > 1e-4) & ~close)
    accepted = _largest(m, lam * m.select(close, 0.1, below), zero + UNDAMPED)
    refused = _largest(m, lam, zero + 1e-9) * nu
    lam = m.select(first, lam, m.select(taken, accepted, refused))
    own.put("nu", m.select(taken | first, 2.0, nu * 2.0))
    own.put("turns", turns + 1.0)
    seen = m.select(taken, 0.0, own.get("seen"))
    left = (first & ~good) | (lam > LARGEST)
    taken = taken | first
    names = [f"A{a}{b}" for a in range(p) for b in range(a + 1)]
    A = [m.select(taken, new, own.get(name)) for new, name in zip(A2, names)]
    g = [m.select(taken, new, old) for new, old in zip(g2, own.vector("g"))]
    x = [m.select(taken, new, old) for new, old in zip(own.vector("trial"), own.vector("x"))]
    cost = m.select(taken, cost2, cost)
    for name, value in zip([*names, *(f"{v}{a}" for v in "gx" for a in range(p)), "cost"], [*A, *g, *x, cost]):
        own.put(name, value)
    own.put("lam", lam)
    own.put("seen", seen)
    return A, g, x, [cost], [left]


def _solved(m: Any, A: list[Any], g: list[Any], free: list[Any], most: list[Any], lam: Any, zero: Any) -> Any:
    """(step, lanes that are poor): L D L^T of the free part of A + lam diag(most), and the solution for -g.

    No roots, which would be half of the time of a step; nor units of the parameters, since it knows none.
    """
    p, L, inverse, poor = len(g), {}, [], zero > 1.0
    for a in range(p):
        row = []
        for b in range(a):
            s = _triangle(A, a, b)
            for k in range(b):
                s = s - row[k] * L[b, k]
            row.append(m.select(free[a] & free[b], s, 0.0))
            L[a, b] = row[b] * inverse[b]
        s = _triangle(A, a, a) + lam * most[a]
        for k in range(a):
            s = s - row[k] * L[a, k]
        s = m.select(free[a], s, 1.0)
        poor = poor | (free[a] & ~(s >= most[a] * POOR))
        inverse.append(1.0 / s)
    x: list[Any] = []
    for a in range(p):
        s = -g[a]
        for k in range(a):
            s = s - L[a, k] * x[k]
        x.append(m.select(free[a], s, 0.0))
    x = [v * i for v, i in zip(x, inverse)]
    for a in reversed(range(p)):
        for k in range(a + 1, p):
            x[a] = x[a] - L[k, a] * x[k]
    return x, poor


def _step(m: Any, room: Any, own: Lanes, A2: list[Any], g2: list[Any], cost2: Any, numbers: Any) -> None:
    """The trials have been worked out: judge them, and make the next; marquardt._step of eight fits."""
    p, zero = own.p, m.const(room, [0.0] * LANES)
    A, g, x, (cost,), (left,) = _taken(m, own, A2, g2, cost2, zero)
    low, high, most, free = own.vector("low"), own.vector("high"), [], []
    for a in range(p):
        most.append(_largest(m, own.get(f"scale{a}"), _triangle(A, a, a)))
        own.put(f"scale{a}", most[a])
        pushed = ((x[a] <= low[a]) & (g[a] > 0.0)) | ((x[a] >= high[a]) & (g[a] < 0.0))
        free.append((low[a] < high[a]) & (_triangle(A, a, a) > 0.0) & ~pushed)
    tol, limit = (m.spread(m.load(numbers, k), LANES) for k in (0, 1))
    enough = cost * (tol * tol * 2.0) / own.get("dof") + own.get("floor")
    live = own.get("live") > 0.5  # a lane without a fit never ends
    running = live & ~left
    own.put("end", m.select(live & left, 2.0, zero))
    own.put("todo", m.select(running, 1.0, zero))

    def solve(_i: Any, _carry: Any) -> None:
        todo, lam, seen, before = own.get("todo") > 0.5, own.get("lam"), own.get("seen"), own.get("least")
        step, poor = _solved(m, A, g, free, most, lam, zero)
        size, slope = zero, zero
        for a in range(p):
            s = zero
            for b in range(p):
                s = s + _triangle(A, a, b) * step[b]
            size, slope = size + s * step[a], slope + g[a] * step[a]
        size = _largest(m, size, zero)
        predicted = -(slope + size * 0.5)
        far, beyond = [], poor
        for a in range(p):
            to = x[a] + step[a]
            beyond = beyond | (free[a] & ~((low[a] <= to) & (to <= high[a])))
            far.append(to)
        short = size <= enough
        again = short & (lam > UNDAMPED) & (seen < 0.5)  # short by damping, perhaps
        q = m.select(before > 0.0, m.sqrt(size / before), 0.0)
        rest = m.select(q < 1.0, q / (1.0 - q), 1.0)  # of steps that shrink by a factor q, in units of the last
        ended = (size * _largest(m, rest * rest, zero + 1e-4) <= enough) & (short | (lam <= 1e-3))
        slow = ~ended & (predicted <= cost * (1e-3 * ALIKE)) & (q >= 1.0) & ~again & todo
        stuck = own.get("stuck") + m.select(slow, 1.0, zero)
        own.put("stuck", stuck)
        ended = (ended | (slow & (stuck > 2.5))) & ~again
        moved = (predicted > 0.0) & ~again & ~ended
        beyond = beyond | (ended & (lam > 1e-3))
        gone, now = todo & beyond, todo & ~beyond
        for a in range(p):
            own.put(f"x{a}", m.select(now & ended, far[a], own.get(f"x{a}")))
            own.put(f"trial{a}", m.select(now & moved, far[a], own.get(f"trial{a}")))
        own.put("pred", m.select(now & moved, predicted, own.get("pred")))
        own.put("least", m.select(now & moved & (size < before), size, before))
        own.put("seen", m.select(now & again, 1.0, seen))
        raised = m.select(again, zero + UNDAMPED, _largest(m, lam * 10.0, zero + UNDAMPED))
        own.put("lam", m.select(now & ~ended & ~moved, raised, lam))
        own.put("end", m.select(gone, 2.0, m.select(now & ended, 1.0, own.get("end"))))
        own.put("todo", m.select(now & ~ended & ~moved, 1.0, zero))

    # once, and again where a step was short by damping
    m.loop(0, 4, lambda i, _: m.loop(0, m.any(own.get("todo") > 0.5), solve) and None)
    late = (own.get("todo") > 0.5) | ((own.get("turns") > limit - 0.5) & (own.get("end") < 0.5) & running)
    own.put("end", m.select(late, 2.0, own.get("end")))


@staged
def run_lanes(
    m: Any, spec: Any, columns: Any, y: Any, weight: Any, ints: Any, scale: Any, numbers: Any, start: Any, low: Any,
    high: Any, dof: Any, floor: Any, which: Any, X: Any, A: Any, largest: Any, cost: Any, turns: Any, status: Any,
    room: Any, lanes: Any, first: Any, stop: Any,
) -> None:  # fmt: skip
    """The fits which[first:stop] from their start values to their ends; status 1 of those that converged."""
    p, own = spec.parameters, Lanes(m, room, spec.parameters)
    n, y_step, w_step = (m.load(ints, k) for k in range(3))
    size = n * LANES
    zero, nothing = m.const(room, [0.0] * LANES), n * 0

    def column(a: int, fit: Any, put: Any) -> None:
        base = fit * m.load(ints, 3 + a)
        m.loop(0, n, lambda i, _: put(size * a + i * LANES + own.end, m.to_double(m.load(columns[a], base + i))))

    def row(values: Any, place: int, base: Any, lane: Any) -> None:
        to = size * place + own.end
        m.loop(0, n, lambda i, _: m.store(room, to + i * LANES + lane, m.to_double(m.load(values, base + i))))

    def take(lane: Any) -> None:
        turn = m.load(lanes, LANES)
        more = m.select(turn < stop, nothing + 1, nothing)
        m.store(lanes, LANES, turn + more)
        m.store(lanes, LANES + 1, m.load(lanes, LANES + 1) + more)
        m.store(lanes, lane, turn)
        for name in NUMBERS:
            own.set(name, lane, START.get(name, 0.0))
        own.set("live", lane, 0.0)
        m.loop(0, more, lambda i, _: begin(lane, m.load(which, turn)))

    def begin(lane: Any, fit: Any) -> None:
        for name in NUMBERS:
            own.set(name, lane, START.get(name, 0.0))
        own.set("lam", lane, m.load(numbers, 2))
        own.set("dof", lane, m.load(dof, fit))
        own.set("floor", lane, m.load(floor, fit))
        for a in range(p):
            for name, values in (("trial", start), ("low", low), ("high", high)):
                own.set(f"{name}{a}", lane, m.load(values, fit * p + a))
            own.set(f"scale{a}", lane, 0.0)
        for a in range(spec.variables):  # those of all fits have been put there
            each = m.select(m.load(ints, 3 + a) > 0, nothing + 1, nothing)
            m.loop(0, each, lambda i, _, a=a: row(columns[a], a, fit * m.load(ints, 3 + a), lane))
        row(y, spec.variables, fit * y_step, lane)
        if spec.weighted:
            row(weight, spec.variables + 1, fit * w_step, lane)

    def keep(lane: Any) -> None:
        fit = m.load(which, m.load(lanes, lane))
        m.store(status, fit, nothing + 1)
        m.store(cost, fit, own.one("cost", lane))
        m.store(turns, fit, own.one("turns", lane))
        for a in range(p):
            m.store(X, fit * p + a, own.one(f"x{a}", lane))
            m.store(largest, fit * p + a, own.one(f"scale{a}", lane))
            for b in range(p):
                m.store(A, fit * (p * p) + (a * p + b), own.one(f"A{max(a, b)}{min(a, b)}", lane))

    def end(lane: Any, _: Any) -> None:
        how = own.one("end", lane)
        m.loop(0, m.select((how > 0.5) & (how < 1.5), nothing + 1, nothing), lambda i, _: keep(lane))

        def leave(i: Any, _: Any) -> None:
            m.store(lanes, LANES + 1, m.load(lanes, LANES + 1) - 1)
            take(lane)

        m.loop(0, m.select(how > 0.5, nothing + 1, nothing), leave)

    def turn() -> Any:
        _step(m, room, own, *_sums(m, spec, n, scale, room, own), numbers)
        m.loop(0, m.any(own.get("end") > 0.5) * LANES, end)
        return m.load(lanes, LANES + 1)

    m.loop(0, own.end // LANES, lambda k, _: m.store(room, k * LANES, zero))
    for a in range(spec.variables):
        column(a, nothing, lambda i, x: m.store(room, i, m.spread(x, LANES)))
    m.store(lanes, LANES, first)
    m.store(lanes, LANES + 1, nothing)
    m.loop(0, LANES, lambda lane, _: take(lane))
    m.repeat(turn)


def _lanes(  # type: ignore[no-untyped-def]
    spec, columns, y, weight, ints, scale, numbers, start, low, high, dof, floor, which, X, A, largest, cost, turns,
    status, room, lanes, first, stop,
):  # fmt: skip
    run_lanes(
        spec, columns, y, weight, ints, scale, numbers, start, low, high, dof, floor, which, X, A, largest, cost,
        turns, status, room, lanes, first, stop,
    )  # fmt: skip


@functools.lru_cache(maxsize=512)
def _entry(spec: Program, dtype: str) -> Any:
    """The compiled fits of a program."""
    columns = types.UniTuple(array(dtype, 1, "C"), max(spec.variables, 1))
    real, whole, flat, i64 = array(dtype, 1, "C"), array(np.int64, 1, "C"), array(np.float64, 1, "C"), types.int64
    kind = spec._numba_type_  # type: ignore[attr-defined]
    signature = (kind, columns, real, real, whole, *[flat] * 7, whole, *[flat] * 5, whole, flat, whole, i64, i64)
    return functools.partial(compiled(_lanes, f"{kind.digest}_{dtype}", signature, contract=True), spec)


def suits(spec: Program, points: int) -> bool:
    """Whether fits of an equation to so many points are done here."""
    return 0 < points <= SHORT and 0 < spec.parameters <= FEW


def fit(
    passes: Passes, coords: Sequence[Any], y: Array, weight: Array | None, start: Array, low: Array, high: Array,
    dof: Array, floor: Array, which: Array, loss: tuple[str, float], tol: float, damping: float, limit: float,
    status: Array,
) -> Ended:  # fmt: skip
    """The fits `which` from start (fits, p) within low ... high; those that converged get a status of 1."""
    (fits, p), n, s = start.shape, y.shape[1], passes.spec
    spec = kept_spec(
        Program(s.variables, s.parameters, s.steps, s.outputs, "fits" if weight is None else "weighted fits", loss[0])
    )
    lines = [passes.lines(c.full(0, n) if isinstance(c, Column) else c) for c in coords]
    y = passes.lines(y)
    w = passes.lines(np.empty((1, 0)) if weight is None else weight)
    steps = [n * (len(a) > 1) for a in (y, w, *lines)]
    out = Ended(np.empty((fits, p)), np.empty((fits, p, p)), np.empty((fits, p)), np.empty(fits), np.zeros(fits))
    flat = (
        tuple(a.reshape(-1) for a in lines) or (np.zeros(1, passes.dtype),), y.reshape(-1), w.reshape(-1),
        np.array([n, *steps], np.int64), np.array([float(loss[1])]), np.array([tol, min(limit, TURNS), damping]),
        *(np.ascontiguousarray(a, np.float64).reshape(-1) for a in (start, low, high, dof, floor)),
        np.ascontiguousarray(which, np.int64), *(a.reshape(-1) for a in out), status,
    )  # fmt: skip
    kernel = _entry(spec, passes.dtype.name)
    size = (len(NUMBERS) + len(VECTORS) * p + p * (p + 1) // 2 + n * (s.variables + 2)) * LANES

    def part(i: int, j: int) -> None:
        with scratch(size, np.float64) as room, scratch(LANES + 2, np.int64) as lanes, np.errstate(all="ignore"):
            kernel(*flat, room, lanes, i, j)

    # some parts more than threads, since some fits are longer than others
    if work(spec) * n * len(which) < 2e5 or threads.get_num_threads() == 1:
        part(0, len(which))
    else:
        share = min(SHARE, -(-len(which) // threads.get_num_threads()))
        threads.run([functools.partial(part, i, min(i + share, len(which))) for i in range(0, len(which), share)])
    return out
