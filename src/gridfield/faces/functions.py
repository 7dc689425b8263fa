"""The functions of equations on arrays of each framework, by the framework's own names."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..cpu.faddeeva import plain as faddeeva
from ..ops import Face
from .numpy import FACE as NUMPY

ARITHMETIC: dict[str, Callable[..., Any]] = {
    "add": lambda a, b: a + b, "sub": lambda a, b: a - b, "mul": lambda a, b: a * b, "div": lambda a, b: a / b,
    "neg": lambda a: -a, "lt": lambda a, b: a < b, "le": lambda a, b: a <= b,
}  # fmt: skip
OTHER_NAMES = {
    "jax": {"min": "minimum", "max": "maximum"},
    "numpy": {"min": "minimum", "max": "maximum"},
    "torch": {"min": "minimum", "max": "maximum"},
    "tensorflow": {"min": "minimum", "max": "maximum"},
}


def function(framework: str, name: str) -> Callable[..., Any]:
    """A function of an equation on arrays of a framework. Not kept: torch.compile warns of caches it traces through."""
    spelled = OTHER_NAMES[framework].get(name, name)
    if framework == "numpy":
        import scipy.special

        return getattr(scipy.special if name in ("erf", "erfc") else np, spelled)
    module = sys.modules[framework]
    if framework == "jax":
        return getattr(module.scipy.special if name in ("erf", "erfc") else module.numpy, spelled)
    if framework == "tensorflow":
        if name in ("log2", "log10"):
            scale = {"log2": 1.4426950408889634, "log10": 0.4342944819032518}[name]
            return lambda x: module.math.log(x) * scale
        return getattr(module.math, spelled)
    return getattr(module, spelled)


def apply(F: Face, op: str, data: Any, args: Sequence[Any], like: Any) -> Any:
    """An operation of an expression on arrays and numbers; like: an array of the type of results."""
    x = args[0]
    if all(isinstance(a, (int, float)) and not isinstance(a, np.generic) for a in args):  # parameters that are numbers
        return _of_numbers(op, data, args)
    if op in ARITHMETIC:
        return ARITHMETIC[op](*args)
    if op == "power":
        n = int(data)
        return x**n if n > 0 else 1.0 / x**-n
    if op == "pow":
        return x ** args[1]
    if op == "where":
        return F.where(x, *_alike(F, args[1], args[2], like))
    if op in ("min", "max", "atan2"):
        return function(F.name, op)(*_alike(F, x, args[1], like))
    if op.startswith("faddeeva"):
        choose = lambda condition, a, b: F.where(condition, *_alike(F, a, b, like))  # noqa: E731
        return faddeeva(*_alike(F, x, args[1], like), choose)[op == "faddeeva_im"]
    if op == "safe_log":
        zero = x == 0
        one, nothing = _alike(F, 1.0, 0.0, like)
        return F.where(zero, nothing, function(F.name, "log")(F.where(zero, one, x)))
    if op == "heaviside":
        return 0.5 * function(F.name, "sign")(x) + 0.5
    return function(F.name, op)(x)


def _of_numbers(op: str, data: Any, args: Sequence[Any]) -> float:
    if op == "where":
        return args[1] if args[0] else args[2]
    if op in ("lt", "le"):
        return ARITHMETIC[op](*args)
    with np.errstate(all="ignore"):
        return float(apply(NUMPY, op, data, [np.asarray(a, np.float64) for a in args], None))


def _alike(F: Face, a: Any, b: Any, like: Any) -> tuple[Any, Any]:
    """Two arrays, where one may be a number."""
    if F.name == "numpy":
        return a, b
    dtype = F.dtype(like)
    return tuple(F.constant(np.asarray(x), dtype, like) if isinstance(x, (int, float)) else x for x in (a, b))  # type: ignore[return-value]
