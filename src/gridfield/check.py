"""What a public function demands of its arguments: every shape, dtype and device error is raised here, once.

Messages name the operation, the argument, what was given and what was expected.
"""

from __future__ import annotations

import operator
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from .grid import Grid

MultiIndex = tuple[int, ...]

REAL = {"complex64": "float32", "complex128": "float64"}  # the real type of a complex one
FLOATS = ("float32", "float64")
HALF = ("float16", "bfloat16")


def is_grid(grid: Any, where: str) -> None:
    """A Grid."""
    if not isinstance(grid, Grid):
        raise TypeError(f"{where}: grid must be a gf.Grid, got {type(grid).__name__}")


def points(shape: Sequence[int], where: str, grid: Grid | None = None) -> int:
    """Points are (*pts, ndim), with the grid's ndim if there is one; returns ndim."""
    if len(shape) == 0 or shape[-1] == 0 or shape[-1] is None:
        raise ValueError(
            f"{where}: points must have shape (*pts, ndim) with coordinates along the last axis, got {tuple(shape)}"
        )
    if grid is not None and shape[-1] != grid.ndim:
        raise ValueError(
            f"{where}: points has {shape[-1]} coordinates per point (shape {tuple(shape)}) but the grid has "
            f"{grid.ndim} axes {grid.shape}"
        )
    return shape[-1]


def trailing(shape: Sequence[int], expected: Sequence[int], name: str, what: str, where: str) -> None:
    """The last axes are those of the grid."""
    shape, expected = tuple(shape), tuple(expected)
    if None in (last := shape[len(shape) - len(expected) :]):
        sizes(last, name, where)
    if len(shape) < len(expected) or not same(last, expected):
        raise ValueError(f"{where}: {name} has shape {shape} but must end in {what} {expected}")


def leading(shape: Sequence[int], expected: Sequence[int], name: str, what: str, where: str) -> None:
    """The first axes are those of the points."""
    shape, expected = tuple(shape), tuple(expected)
    if not same(shape[: len(expected)], expected):
        raise ValueError(f"{where}: {name} has shape {shape} but must begin with {what} {expected}")


def grid_shape(shape: Sequence[int], name: str, where: str) -> tuple[int, ...]:
    """All axes belong to the grid: at least one axis, at least one sample per axis."""
    if len(shape) == 0:
        raise ValueError(f"{where}: {name} must have at least one axis, got a scalar")
    if 0 in shape:
        raise ValueError(f"{where}: {name} has no samples along a grid axis (grid shape {tuple(shape)})")
    return sizes(shape, name, where)


def sizes(shape: Sequence[int], name: str, where: str) -> tuple[int, ...]:
    """The sizes of grid axes as ints; under a tracing compiler they may be unknown, which is an error."""
    try:
        return tuple(operator.index(n) for n in shape)
    except Exception as error:  # of each compiler's own
        raise TypeError(
            f"{where}: {name} has grid axes {tuple(shape)} of which not all sizes are known while tracing; only the "
            "number of points and leading axes may be unknown (give grid=, or fix the shape)"
        ) from error


def same(shape: tuple[Any, ...], expected: tuple[Any, ...]) -> bool:
    """Whether the sizes agree; None, a size that a tracing compiler does not know, does with any."""
    return len(shape) == len(expected) and all(
        a is None or b is None or a == b for a, b in zip(shape, expected, strict=True)
    )


def last_axes(shape: Sequence[int], ndim: int | None, name: str, where: str) -> Sequence[int]:
    """The last ndim axes; all for None."""
    if ndim is None:
        return shape
    if not _is_int(ndim) or not 1 <= ndim <= len(shape):
        raise ValueError(
            f"{where}: ndim must be from 1 to {len(shape)}, as {name} has shape {tuple(shape)}, got {ndim!r}"
        )
    return shape[len(shape) - ndim :]


def compute_dtype(values: str, points: str, where: str, name: str = "values") -> str:
    """The float type a call is computed in, from the types of its arrays; both must be of one precision.

    Integers and bools are computed in float64, half precision in float32, integer points in the type of the values.
    """
    if values == points and values in FLOATS:
        return values
    if not is_number(values):
        raise TypeError(f"{where}: {name} has dtype {values}, which is not a type of numbers it can use")
    if not is_number(points) or points in REAL:
        raise TypeError(f"{where}: points has dtype {points} but coordinates must be real")
    real = REAL.get(values, values)
    if is_integer(real):
        return "float64"
    if real in HALF:
        if points == "float64":
            raise TypeError(
                f"{where}: {name} has dtype {values} but points {points}; cast points to float32 or {values}"
            )
        return "float32"
    if not is_integer(points) and points != real:
        raise TypeError(
            f"{where}: {name} has dtype {values} but points {points}; nothing is cast silently, so cast one of them "
            f"(the result has the type of {name})"
        )
    return real


def array(F: Any, x: Any, name: str, where: str) -> Any:
    """As an array of the framework of the face F."""
    try:
        return F.array(x)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"{where}: {name} must be an array of numbers, or convertible to one ({error})") from None


def is_integer(dtype: str) -> bool:
    """Integers and bool."""
    return dtype.startswith(("int", "uint", "bool"))


def is_number(dtype: str) -> bool:
    """The types of numbers that are supported."""
    return is_integer(dtype) or dtype in FLOATS or dtype in HALF or dtype in REAL


def number(x: Any, name: str, where: str) -> float:
    """A real number as a float; under a tracing compiler a value, no longer a symbol."""
    try:
        if isinstance(x, str):
            raise TypeError
        if isinstance(x, float) and x == 0:
            return 0.0
        return float.fromhex(float(x).hex())
    except (TypeError, ValueError):
        raise TypeError(f"{where}: {name} must be a real number, got {x!r}") from None


def flag(x: Any, name: str, where: str) -> None:
    """True or False (a word would count as True)."""
    if not isinstance(x, (bool, np.bool_)):
        raise TypeError(f"{where}: {name} must be True or False, got {x!r}")


def same_device(where: str, values: Any, points: Any, first: str = "values", second: str = "points") -> None:
    """No array is moved silently. None: goes with any device."""
    if values != points and values is not None and points is not None:
        raise ValueError(f"{where}: {first} is on {values} but {second} on {points}; both must be on one device")


def memory() -> float:
    """Bytes of the machine."""
    return _memory


def fits(number: int, where: str, each: int = 1, what: str = "cells", size: int = 32, most: int | None = None) -> None:
    """So many cells, with so many results of that size each; no more than memory holds, and than can be numbered."""
    needed = float(size) * number * each
    if needed > memory() or (most and number > most):
        several = f" with {each} results each" if each > 1 else ""
        numbered = f" (and at most {most} {what} can be numbered)" if most else ""
        raise ValueError(
            f"{where}: {number} {what}{several} are too many: at {size} bytes each they take {needed / 2**30:.3g} GiB "
            f"of the {memory() / 2**30:.3g} GiB of this machine{numbered}"
        )


def _bytes() -> float:
    try:
        return float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (AttributeError, ValueError, OSError):  # not everywhere
        return 2.0**35


_memory = _bytes()


def orders(derivative: Any, ndim: int, where: str) -> tuple[tuple[MultiIndex, ...], bool]:
    """One multi-index, or a list of them -> (multi-indices, whether it was a list)."""
    if derivative is None:
        return ((0,) * ndim,), False
    derivative = derivative.tolist() if hasattr(derivative, "tolist") else derivative
    given = derivative
    try:
        derivative = tuple(derivative)
        several = not all(_is_int(o) for o in derivative)
        alphas = tuple(tuple(operator.index(o) for o in a) for a in (derivative if several else (derivative,)))
    except TypeError:
        alphas, several = ((),), False
    if not alphas or any(len(a) != ndim or any(o < 0 for o in a) for a in alphas):
        raise ValueError(
            f"{where}: derivative must be a multi-index of {ndim} orders >= 0, one per axis, or a list of those; "
            f"got {given!r}"
        )
    return alphas, several


def margins(widths: Any, ndim: int, where: str) -> tuple[tuple[int, int], ...]:
    """An int, or (before, after) for each of the last axes, none negative."""
    pairs: tuple[tuple[int, int], ...]
    try:
        if _is_int(widths):
            n = operator.index(widths)  # under a tracing compiler: a value, no longer a symbol
            pairs = ((n, n),) * ndim
        else:
            pairs = tuple((operator.index(before), operator.index(after)) for before, after in widths)
    except (TypeError, ValueError):
        pairs = ((-1, -1),)
    if not pairs or len(pairs) > ndim or not all(0 <= w < 2**31 for pair in pairs for w in pair):
        raise ValueError(
            f"{where}: margins must be an int from 0 to 2**31 - 1 or one pair (before, after) for each of the last "
            f"axes (at most {ndim}), got {widths!r}"
        )
    return pairs


def _is_int(x: Any) -> bool:
    if isinstance(x, int):
        return not isinstance(x, bool)
    return hasattr(x, "__index__") and not hasattr(x, "__len__")
