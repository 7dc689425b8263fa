"""Expressions as programs: steps that become straight-line vector code, eight points at a time.

A `Program` is an expression graph as frozen data. What depends on parameters alone is computed once, before points are.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..expression import Node, ordered
from . import elementary, faddeeva
from .cache import SOURCES
from .machine import specialising

LANES = 8
WRITTEN = 12  # rows whose products are written out one by one, and functions
LOSSES = ("linear", "huber", "soft_l1", "cauchy")
LONG = {
    "exp", "tan", "tanh", "sinh", "cosh", "atan", "asin", "acos", "atan2", "log", "log2", "log10", "safe_log", "pow",
    "sin", "cos", "erf", "erfc", "faddeeva_re", "faddeeva_im",
}  # fmt: skip


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


@functools.lru_cache(maxsize=512)
def kept_spec(spec: Program) -> Program:
    """One of equal programs, whose hash is known."""
    return spec


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
