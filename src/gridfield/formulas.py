"""The functions and constants that an equation may use: all there are, whatever the equation comes from."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import reduce

from . import expression as ex
from .expression import Node, call, number

CONSTANTS = {"pi": math.pi, "e": math.e}
ALIASES = {
    "ln": "log", "arcsin": "asin", "arccos": "acos", "arctan": "atan", "arctan2": "atan2", "Abs": "abs",
    "fabs": "abs", "Min": "min", "Max": "max", "minimum": "min", "maximum": "max", "Heaviside": "heaviside",
}  # fmt: skip


def _hypot(x: Node, y: Node) -> Node:
    return call("sqrt", ex.add(ex.power(x, 2), ex.power(y, 2)))


def _logistic(x: Node) -> Node:
    # 1 / (1 + exp(-x)) overflows, and its derivative is then infinity times zero
    return ex.add(ex.HALF, ex.mul(ex.HALF, call("tanh", ex.mul(ex.HALF, x))))


def _voigt_profile(x: Node, sigma: Node, gamma: Node) -> Node:
    """Re w((x + i gamma) / (sigma sqrt 2)) / (sigma sqrt(2 pi)): Olver et al., NIST Handbook, 7.19.

    Both widths by their size, so that a step of a fit across 0 comes back.
    """
    wide = ex.mul(number(math.sqrt(2)), call("abs", sigma))
    w = call("faddeeva_re", ex.div(x, wide), ex.div(call("abs", gamma), wide))
    return ex.div(w, ex.mul(number(math.sqrt(math.pi)), wide))


def _several(op: str) -> Callable[..., Node]:
    return lambda *args: reduce(lambda a, b: call(op, a, b), args)


def _one(op: str) -> Callable[..., Node]:
    return lambda *args: call(op, *args)


# name -> (least and most arguments, what it is)
FUNCTIONS: dict[str, tuple[int, int, Callable[..., Node]]] = {
    **{f: (1, 1, _one(f)) for f in ex.UNARY if f not in ("neg", "safe_log")},
    "atan2": (2, 2, _one("atan2")),
    "pow": (2, 2, ex.pow),
    "min": (2, 16, _several("min")),
    "max": (2, 16, _several("max")),
    "hypot": (2, 2, _hypot),
    "exp2": (1, 1, lambda x: ex.pow(number(2), x)),
    "logistic": (1, 1, _logistic),
    "voigt_profile": (3, 3, _voigt_profile),
    "where": (3, 3, ex.where),
}
