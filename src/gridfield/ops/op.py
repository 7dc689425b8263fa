"""What an op is: how it is computed, its shape, its derivative and its transposes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..scheme import decode

Array = np.ndarray[Any, Any]
Shape = tuple[int, ...]
Tangents = Sequence[Any]  # one per argument; None: that argument does not move
# functions of ops that are linear in their first argument, by name, with their transposes
Composites = dict[str, tuple[Callable[..., Any], Callable[..., Any]]]


@dataclass(frozen=True)
class Op:
    """A primitive. `F` is a Face: the ops and composites below bound to one framework."""

    name: str
    arrays: int  # how many arrays it takes; the static text comes after them
    run: Callable[..., np.ndarray]  # (*arrays, text, out=None) -> array, by the kernels; `out` is C-contiguous
    reference: Callable[..., Any]  # the same in plain array code
    shape: Callable[..., Shape]  # (*shapes, text) -> shape
    jvp: Callable[..., list[Any]]  # (F, arrays, tangents, text) -> terms of the sum
    transpose: dict[int, Callable[..., Any]]  # {argument: (F, ct, arrays, text) -> its cotangent}
    merge: Callable[..., Any] | None = None  # a cheaper way to batch, see `batched`


def linear_jvp(name: str) -> Callable[..., list[Any]]:
    """The jvp of an op of one array in which it is linear."""

    def jvp(F: Any, arrays: Any, tangents: Tangents, text: str) -> list[Any]:
        static = decode(text)
        return [getattr(F, name)(tangents[0], getattr(static, "linear", text))]

    return jvp


def contiguous(*arrays: np.ndarray) -> list[np.ndarray]:
    """The arrays, copied where they are not C-contiguous."""
    return [a if a.flags.c_contiguous else np.ascontiguousarray(a) for a in arrays]


def dtype_of(a: np.ndarray) -> str:
    """What the kernels call its type."""
    return "float32" if a.itemsize == 4 else "float64"


def into(out: Array | None, result: Array) -> Array:
    """The result, in `out` where there is one."""
    if out is None:
        return result
    out[...] = result
    return out
