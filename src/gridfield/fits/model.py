"""What is fitted, whatever it was written as: an equation, a ready model or a Python function.

A model here knows its parameters and its coordinates, and makes the `Problem` that `least_squares` solves.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import numpy as np

from .. import dispatch
from .. import expression as ex
from ..cpu import lanes
from ..cpu.expressions import program
from ..cpu.passes import Column, passes
from ..equation import Equation, parse
from ..models import Model, named
from .data import ORDERS, Data
from .function_problem import FunctionProblem
from .least_squares import Loss, Scale
from .parameters import Parameters, of_function
from .python_model import Function, spread

Array = np.ndarray[Any, Any]

BLOCK = 2**20  # points evaluated at a time


class EquationProblem:
    """The residuals of an equation, by compiled passes."""

    exact = float(np.finfo(float).eps)

    def __init__(self, passes: Any, columns: Sequence[Any], y: Array, weight: Array | None) -> None:
        self.passes, self.columns, self.y, self.weight = passes, list(columns), y, weight
        self.points = y.shape[1]
        self._params = np.zeros((len(y), 0))

    def normal(self, params: Array, which: Array, loss: Loss, A: Array, g: Array, cost: Array) -> None:
        """In one pass over the data."""
        self.passes.normal(self.columns, self.y, self.weight, params, which, loss, A, g, cost)

    def together(
        self, start: Array, low: Array, high: Array, dof: Array, floor: Array, which: Array, loss: Loss,
        numbers: tuple[float, float, float], status: Array,
    ) -> lanes.Ended | None:  # fmt: skip
        """Fits of few points from start to end, where they are ordinary; numbers: tolerance, damping, most steps."""
        if not lanes.suits(self.passes.spec, self.points):
            return None
        given = self.passes, self.columns, self.y, self.weight
        return lanes.fit(*given, start, low, high, dof, floor, which, loss, *numbers, status)

    def some(self, which: Array) -> EquationProblem:
        """Of some fits alone."""

        def rows(a: Array) -> Array:
            return a[which] if a.ndim > 1 and len(a) > 1 else a

        columns = [
            Column(rows(c.values), c.repeat, c.count) if isinstance(c, Column) else rows(c) for c in self.columns
        ]
        weight = None if self.weight is None else self.weight[which]
        return EquationProblem(self.passes, columns, self.y[which], weight)

    def residuals(self, x: Array, fit: int, start: int, stop: int) -> tuple[Array, Array]:
        """Of some points."""
        if self._params.shape[1] != len(x):
            self._params = np.zeros((len(self.y), len(x)))
        self._params[fit] = x
        f, J = self.passes.rows(self.columns, self.weight, self._params, fit, start, stop)
        y = self.y[fit, start:stop]
        r, J = f - y, np.array(J)
        there = ~np.isnan(y)
        if self.weight is not None:
            w = self.weight[fit, start:stop]
            r, there = r * w, there & (w != 0)
        return np.where(there, r, 0.0), np.where(there[:, None], J, 0.0)


class ScaledEquationProblem:
    """The same in units of its own: each parameter a times a parameter that is not fitted, its unit.

    Those stand beside the others in the passes, where what depends on parameters alone is worked out once a block.
    """

    exact = float(np.finfo(float).eps)

    def __init__(self, model: EquationModel, data: Data, scale: Scale) -> None:
        names, root = model.parameters.names, model.equation.root
        units = tuple(f"__{name}" for name in names)  # no name in an equation begins like that
        root = ex.substituted(root, {n: ex.mul(ex.symbol(n), ex.symbol(u)) for n, u in zip(names, units, strict=True)})
        roots = (root, *ex.gradient(root, list(names)), *(ex.number(0.0) for _ in names))
        compiled = passes(program(roots, model.variables, (*names, *units)), "float64")
        weight = np.ones_like(data.y) if data.weight is None else data.weight
        self.inner = EquationProblem(compiled, data.columns(model.places), data.y, weight * scale.data[:, None])
        self.units, self.points = scale.params, self.inner.points

    def normal(self, params: Array, which: Array, loss: Loss, A: Array, g: Array, cost: Array) -> None:
        """Of those that are fitted."""
        fits, p = params.shape
        A2, g2 = np.zeros((fits, 2 * p, 2 * p)), np.zeros((fits, 2 * p))
        self.inner.normal(np.concatenate([params, self.units], 1), which, loss, A2, g2, cost)
        A[which], g[which] = A2[which, :p, :p], g2[which, :p]

    def residuals(self, x: Array, fit: int, start: int, stop: int) -> tuple[Array, Array]:
        """Of some points."""
        r, J = self.inner.residuals(np.concatenate([x, self.units[fit]]), fit, start, stop)
        return r, J[:, : len(x)]


class EquationModel:
    """An equation with its variables, which are coordinates, and parameters, which all other names are."""

    def __init__(
        self, equation: Equation, variables: Sequence[str], places: Sequence[int], parameters: Parameters
    ) -> None:
        self.equation, self.variables, self.places, self.parameters = (
            equation,
            tuple(variables),
            tuple(places),
            parameters,
        )
        self.describes = repr(equation.text)
        self.ready: Model | None = None

    def problem(self, data: Data, scale: Scale | None = None) -> Any:
        """With compiled passes."""
        if scale is not None:
            return ScaledEquationProblem(self, data, scale)
        passes = self.equation.passes(self.variables, self.parameters.names, "float64")
        return EquationProblem(passes, data.columns(self.places), data.y, data.weight)

    def evaluate(self, F: Any, theta: Any, coords: Sequence[Any], shape: tuple[int, ...]) -> Any:
        """(m, *shape) of parameters (m, p) and coordinates (m or 1, *shape or 1), in any framework."""
        m = F.shape(theta)[0]
        columns = F.moveaxis(theta, 1, 0)
        values = {name: F.reshape(columns[k], (m, *(1 for _ in shape))) for k, name in enumerate(self.parameters.names)}
        values |= {name: coords[k] for name, k in zip(self.variables, self.places, strict=True)}
        return F.broadcast_to(self.equation.evaluate(F, values), (m, *shape))

    def values(self, params: Array, coords: Sequence[Array], shape: tuple[int, ...], which: Array) -> Array:
        """(m, n), a block at a time."""
        F, n = dispatch.of("numpy"), prod(shape)
        out = np.empty((len(which), n))
        some = max(1, BLOCK // max(n, 1))
        for at in range(0, len(which), some):
            part = which[at : at + some]
            here = [c if len(c) == 1 else c[part] for c in coords]
            with np.errstate(all="ignore"):
                out[at : at + some] = self.evaluate(F, params[at : at + some], here, shape).reshape(len(part), n)
        return out

    def slopes(self, params: Array, data: Data) -> tuple[Array, Array]:
        """(f (n,), J (n, p)) of one fit at data's coordinates."""
        problem = self.problem(data)
        return problem.passes.rows(problem.columns, None, params[None], 0, 0, problem.points)


class FunctionModel:
    """A Python function."""

    ready = None

    def __init__(self, f: Callable[..., Any], parameters: Parameters, jac: Any, name: str) -> None:
        self.f, self.parameters, self.jac, self.name = f, parameters, jac, name
        self.describes = getattr(f, "__name__", type(f).__name__)
        self._function: Function | None = None

    @property
    def function(self) -> Function:
        """What is known of it since it was called first."""
        if self._function is None:
            raise RuntimeError(f"{self.name}: a function that was never called")
        return self._function

    def bound(self, data: Data, start: Array) -> Function:
        """With its coordinates, framework, and way to derivatives."""
        coords, fits = data.coords, len(start)
        if not fits:  # it is called all the same
            coords = [c if len(c) else np.ones((1, *c.shape[1:])) for c in coords]
            start = np.ones((1, self.parameters.size))
        return Function(
            self.f, self.parameters, coords, data.build, data.shape, fits, self.jac, start, data.framework, self.name
        )

    def begin(self, data: Data, start: Array, low: Array, high: Array) -> None:
        """Find out what the function is, by calling it."""
        self._function = self.bound(data, start)
        if len(low):
            self._function.low, self._function.high = low.min(0), high.max(0)

    def problem(self, data: Data, scale: Scale | None = None) -> FunctionProblem:
        """By blocks of points where it can be evaluated by blocks."""
        return FunctionProblem(self.function, data.y, data.weight, scale)

    def evaluate(self, F: Any, theta: Any, coords: Sequence[Any], shape: tuple[int, ...]) -> Any:
        """(m, *shape), in the framework that the function is written in."""
        own, m = [F.shape(c)[0] > 1 for c in coords], F.shape(theta)[0]
        function, size = self.function, prod(shape)

        def one(theta: Any, *coords: Any) -> Any:
            y = self.parameters.call(self.f, function.build(list(coords)), theta)
            return spread(F.name, y, shape, size)

        given = [c if o else c[0] for c, o in zip(coords, own, strict=True)]
        axes = (0, *(0 if o else None for o in own))
        if F.name == "jax":
            import jax

            return F.reshape(jax.vmap(one, in_axes=axes)(theta, *given), (m, *shape))
        if F.name == "torch":
            import torch

            return F.reshape(torch.func.vmap(one, in_dims=axes)(theta, *given), (m, *shape))
        rows = [one(theta[k], *(c[k] if o else c for c, o in zip(given, own, strict=True))) for k in range(m)]
        return F.reshape(F.stack(rows, 0), (m, *shape))

    def values(self, params: Array, coords: Sequence[Array], shape: tuple[int, ...], which: Array) -> Array:
        """(m, n)."""
        f = self.function
        if f.coords is not coords:
            f = f.elsewhere(coords, shape)
        if f.points is not None:
            rows = np.empty((len(which), prod(shape)))
            for place, part in f.blocks():
                for m in range(len(which)):
                    rows[m, place] = np.real(part.value(params[m : m + 1], which[m : m + 1])[0])
            return rows
        out = [f.value(params[m : m + 4096], which[m : m + 4096]) for m in range(0, len(which), 4096)]
        return np.real(np.concatenate(out)) if out else np.empty((0, prod(shape)))

    def slopes(self, params: Array, data: Data) -> tuple[Array, Array]:
        """(f (n,), J (n, p)) of one fit at data's coordinates."""
        function = self.bound(data, params[None])
        f, J = function.jacobian(params[None], np.zeros(1, np.int64))
        return f[0], J[0].T


def model_of(f: Any, data: Data, p0: Any, jac: Any, name: str) -> Any:
    """From what the user gave."""
    if callable(f) and not isinstance(f, Equation) and not _is_sympy(f) and not hasattr(f, "equation"):
        return FunctionModel(f, of_function(f, p0, data.batch, name), jac, name)
    if not (isinstance(jac, str) and jac in ("auto", "autodiff")):
        raise ValueError(f"{name}: jac is for Python functions; an equation is differentiated as it is written")
    ready = f if isinstance(f, Model) else named(f) if isinstance(f, str) else None
    equation = f if ready is None else ready.equation
    if not isinstance(equation, Equation):
        equation = parse(equation, data.names, where=name)
    if ready is None:
        variables, places = _variables(equation, data, name)
        names = equation.split(variables)[1]
    else:
        variables, places = _of_ready(ready, data, name)
        names = tuple(ready.parameters)
    if not names:
        raise ValueError(f"{name}: the equation {equation.text!r} has no parameters to fit")
    if isinstance(p0, dict):
        unknown = [n for n in names if n not in p0]
        if unknown and ready is None and any(k in names for k in p0):
            raise ValueError(
                f"{name}: the equation has {', '.join(unknown)}, which {'is' if len(unknown) == 1 else 'are'} neither "
                f"in p0 nor coordinates ({', '.join(variables) or 'none'})"
            )
    model = EquationModel(equation, variables, places, Parameters(names, ((),) * len(names)))
    model.ready = ready
    if ready is not None:
        model.describes = ready.name
    return model


def _is_sympy(f: Any) -> bool:
    return type(f).__module__.partition(".")[0] == "sympy"


def _of_ready(ready: Model, data: Data, name: str) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Its coordinates, x, y, z, by name where those have such names, else in order."""
    variables = tuple(ready.variables)
    count = len(data.coords) if data.inner is None else data.inner
    if data.names is not None and set(variables) <= set(data.names[:count]):  # not an axis of the fits called x
        return variables, tuple(data.names.index(v) for v in variables)
    if count != len(variables):
        raise ValueError(
            f"{name}: {ready.name} has the coordinates {', '.join(variables)}, but coords has {count} of them"
        )
    # as in equations: of a grid the last axis is x, of a tuple the first array
    order = reversed(range(count)) if data.kind in ("grid", "labelled") else range(count)
    return variables, tuple(order)


def _variables(equation: Equation, data: Data, name: str) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Which names are coordinates, and which coordinates those are."""
    count, names = len(data.coords), equation.names
    if data.names is not None:
        if data.kind == "named" and not data.dims:
            unused = [n for n in data.names if n not in names]
            if unused:
                raise ValueError(
                    f"{name}: the equation {equation.text!r} does not use {', '.join(unused)} of coords; it has "
                    f"{', '.join(names)}"
                )
        found = [(n, k) for k, n in enumerate(data.names) if n in names]
        return tuple(n for n, _ in found), tuple(k for _, k in found)
    if equation.arguments is not None:
        if len(equation.arguments) != count:
            raise ValueError(
                f"{name}: the equation has arguments {', '.join(equation.arguments)}, but there are {count} coordinates"
            )
        return equation.arguments, tuple(range(count))
    candidates: list[tuple[str, ...]]
    if count == 1:
        candidates = [(n,) for n in ("x", "t") if n in names]
        if not candidates and len(names) == 1:
            raise ValueError(f"{name}: coords has no name, and the equation {equation.text!r} has none of x and t")
    elif data.kind == "grid":  # axes in their order: the last is x
        candidates = [order[-count:] for order in ORDERS if count <= 3]
    else:  # arguments in theirs: the first is x
        candidates = [
            tuple(reversed(order[-count:])) if order[0] == "z" else order[-count:] for order in ORDERS if count <= 3
        ]
    best = max(candidates, key=lambda order: sum(n in names for n in order), default=())
    if not any(n in names for n in best):
        raise ValueError(
            f"{name}: none of the names of the equation {equation.text!r} is a coordinate: give coords as a dictionary "
            "{name: array}" + (f", or use {', '.join(best)}" if best else "")
        )
    used = [(n, k) for k, n in enumerate(best) if n in names]
    return tuple(n for n, _ in used), tuple(k for _, k in used)
