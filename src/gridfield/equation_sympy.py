"""Sympy's expressions, converted class by class. Sympy is never imported here: who has an expression has it loaded."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import Any, NoReturn

from . import expression as ex
from .expression import Node, call, number
from .formulas import ALIASES, FUNCTIONS

NUMBERS = ("Pi", "Exp1", "GoldenRatio", "EulerGamma", "Catalan")
RELATIONS = {
    "StrictLessThan": ("lt", False), "LessThan": ("le", False), "StrictGreaterThan": ("lt", True),
    "GreaterThan": ("le", True),
}  # fmt: skip
LOGARITHMS = 2  # log(x, base) may have two arguments


def convert(given: Any, where: str) -> tuple[Node, tuple[str, ...], str | None]:
    """The graph and the names of a sympy expression; of Eq(y, ...) the right side, and the left one's name."""

    def fail(what: str) -> NoReturn:
        raise ValueError(f"{where}: {what}\n    {given}")

    left = None
    if type(given).__name__ == "Equality":
        name, given = given.args
        if not name.is_Symbol and not name.is_Function:
            fail("what is left of Eq(..., ...) should be a symbol")
        left = str(name.name if name.is_Symbol else name.func)
    if not hasattr(given, "is_number"):
        fail(f"an equation cannot be a sympy {type(given).__name__}")
    names: dict[str, None] = {}
    done: dict[Any, Node] = {}
    stack: list[tuple[Any, bool]] = [(given, False)]
    while stack:
        if len(stack) + len(done) > ex.MOST:  # before sympy writes it out, which takes minutes
            raise ValueError(f"{where}: an equation of more than {ex.MOST} operations; at most so many are compiled")
        e, ready = stack.pop()
        if e in done:
            continue
        if ready:
            done[e] = _converted(e, [done[a] for a in _parts(e)], fail)
        elif e.is_Symbol:
            names.setdefault(e.name, None)
            done[e] = ex.symbol(e.name)
        elif e.is_Number or type(e).__name__ in NUMBERS:
            done[e] = number(_finite(e, fail))
        else:
            stack.append((e, True))
            stack.extend((a, False) for a in reversed(_parts(e)))
    return done[given], tuple(names), left


def _finite(e: Any, fail: Callable[[str], NoReturn]) -> float:
    x = float(e)
    if x - x != 0:
        fail(f"{e} is no finite number")
    return x


def _parts(e: Any) -> list[Any]:
    """What has to be converted before."""
    kind = type(e).__name__
    if kind == "Piecewise":
        out = []
        for value, condition in e.args:
            out += [value] if condition is True or str(condition) == "True" else [value, *condition.args]
        return out
    if kind == "Heaviside":
        return [e.args[0]]
    return list(e.args)


def _converted(e: Any, args: list[Node], fail: Callable[[str], NoReturn]) -> Node:
    kind = type(e).__name__
    if kind == "Add":
        return reduce(ex.add, args)
    if kind == "Mul":
        return _product(e, args)
    if kind == "Pow":
        return ex.pow(*args)
    if kind == "exp":
        return call("exp", *args)
    if kind == "log" and len(args) == LOGARITHMS:
        return ex.div(call("log", args[0]), call("log", args[1]))
    if kind == "Piecewise":
        return _piecewise(e, args, fail)
    name = ALIASES.get(kind, kind)
    if name in FUNCTIONS and name != "where":
        least, most, f = FUNCTIONS[name]
        if least <= len(args) <= most:
            return f(*args)
    fail(f"sympy's {kind} cannot stand in an equation; the functions are {', '.join(sorted(FUNCTIONS))}")


def _product(e: Any, args: list[Node]) -> Node:
    """a b**-1 is a / b: sympy has no quotients."""
    above, below = [], []
    for part, node in zip(e.args, args, strict=True):
        if part.is_Pow and part.exp.is_Number and part.exp.is_negative and node.op in ("power", "div", "pow"):
            below.append(ex.div(ex.ONE, node) if node.op != "power" else ex.power(node.args[0], -int(node.data or 0)))
        else:
            above.append(node)
    top = reduce(ex.mul, above, ex.ONE)
    return ex.div(top, reduce(ex.mul, below)) if below else top


def _piecewise(e: Any, args: list[Node], fail: Callable[[str], NoReturn]) -> Node:
    cases: list[tuple[Node | None, Node]] = []
    rest = iter(args)
    for _, condition in e.args:
        value = next(rest)
        if str(condition) == "True":
            cases.append((None, value))
            break
        if type(condition).__name__ not in RELATIONS:
            fail(f"a case of Piecewise should be one comparison, got {condition}")
        op, swapped = RELATIONS[type(condition).__name__]
        a, b = next(rest), next(rest)
        cases.append((call(op, b, a) if swapped else call(op, a, b), value))
    condition, out = cases.pop()
    if condition is not None:
        fail("Piecewise needs a last case (value, True)")
    for condition, value in reversed(cases):
        out = ex.where(condition, value, out)  # type: ignore[arg-type]
    return out
