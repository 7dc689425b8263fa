"""Compiled passes over data: an expression and its derivatives, summed up as a least-squares fit needs them.

The sums of a fit are by chunks of `CHUNK` points, added in order: the same bits for any number of threads.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numba import types

from . import threads
from .cache import array, compiled
from .expressions import Program, kept_spec, needed
from .scratch import scratch
from .sums import CHUNK, pairs, places, run_fits, run_rows

Array = np.ndarray[Any, Any]

STEP_NS = {"cheap": 0.05, "div": 0.4, "dear": 2.0}  # measured, of a point: a multiply-add, a division, a function
DEAR = {"faddeeva_re": 25.0, "faddeeva_im": 25.0, "pow": 6.0, "erf": 5.0, "erfc": 5.0}


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
