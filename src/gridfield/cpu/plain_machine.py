"""The machine without a compiler: what machine.Emit writes as LLVM, done at once with NumPy's numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np


class Plain:
    """The same vocabulary on NumPy values."""

    @staticmethod
    def load(a: Any, i: Any, lanes: int = 0, slack: bool = False, live: int | None = None) -> Any:
        flat = _flat(a)
        if live is not None:
            return np.concatenate([flat[i : i + live], np.zeros(lanes - live, a.dtype)])
        return flat[i : i + lanes].copy() if lanes else flat[i]

    @staticmethod
    def store(a: Any, i: Any, x: Any, live: int | None = None) -> None:
        count = np.size(x) if live is None else live
        _flat(a)[i : i + count] = x if live is None else x[:live]

    stream = store

    @staticmethod
    def stride(a: Any, axis: int) -> int:
        return a.strides[axis] // a.itemsize

    @staticmethod
    def itemsize(a: Any) -> int:
        return a.itemsize

    @staticmethod
    def shape(a: Any, axis: int) -> int:
        return a.shape[axis]

    @staticmethod
    def const(a: Any, xs: list[float]) -> Any:
        return np.array(xs, a.dtype)

    fused = staticmethod(lambda x, y, z: x * y + z)
    bits = staticmethod(lambda x: np.asarray(x, np.float64).view(np.int64))
    real = staticmethod(lambda i: np.asarray(i, np.int64).view(np.float64))
    spread = staticmethod(lambda x, lanes: np.full(lanes, x))
    sqrt = staticmethod(np.sqrt)
    root_estimate = staticmethod(lambda x: None)
    absolute = staticmethod(np.abs)
    any = staticmethod(lambda chosen: int(np.any(chosen)))
    each = staticmethod(lambda name, x: getattr(np, name)(x))
    pick = staticmethod(lambda a, i, places, count: [_flat(a)[i + k + places] for k in range(count)])
    prefetch = staticmethod(lambda a, i: None)
    narrow = staticmethod(lambda x, a: int(x))
    widen = staticmethod(int)
    truncate = staticmethod(lambda x, a: np.trunc(x).astype(np.int64)[()] if np.ndim(x) else int(x))
    cast = staticmethod(lambda i, a: np.asarray(i).astype(a.dtype) if np.ndim(i) else int(i))
    to_double = staticmethod(np.float64)
    as_element = staticmethod(lambda x, a: np.asarray(x, a.dtype)[()])
    to_float = staticmethod(lambda i, like: type(like)(i))
    quotient = staticmethod(lambda x, n: x // n)
    floor = staticmethod(np.floor)
    power_of_two = staticmethod(lambda n: np.ldexp(np.ones_like(n), n.astype(np.int32)))
    select = staticmethod(
        lambda condition, x, y: np.where(condition, x, y)[()] if np.ndim(condition) else x if condition else y
    )
    not_number = staticmethod(lambda x: x != x)
    bit = staticmethod(lambda condition, k, a: int(condition) << k)
    compress = staticmethod(lambda x, chosen: x[chosen])
    number_of = staticmethod(lambda chosen: int(np.count_nonzero(chosen)))
    tile = staticmethod(np.tile)
    sum_lanes = staticmethod(lambda x, channels: x.reshape(-1, channels).sum(0))
    transpose = staticmethod(lambda rows: list(np.stack(rows).T.copy()))
    every = staticmethod(lambda x, step: [x[k::step] for k in range(step)])
    split = staticmethod(lambda x: (x[0::2], x[1::2]))
    interleave = staticmethod(lambda x, y: np.stack([x, y], -1).reshape(-1))

    @staticmethod
    def precise(x: Any, y: Any, z: Any) -> Any:
        p = x * y
        (a, b), (c, d) = _halves(x), _halves(y)
        e = ((a * c - p) + a * d + b * c) + b * d  # p + e = x y (Dekker, Numer. Math. 18 (1971), 224-242)
        s = p + z
        t = s - p
        out = s + (((p - (s - t)) + (z - t)) + e)  # and the sum's own error (Knuth)
        return np.where(np.isfinite(out), out, s)

    @staticmethod
    def loop(start: Any, stop: Any, body: Callable[..., Any], carry: Any = ()) -> Any:
        for i in range(start, stop):
            carry = body(i, list(carry)) or []
        return list(carry)

    @staticmethod
    def outlined(name: str, f: Callable[..., Any], *values: Any, results: int = 1) -> Any:
        return f(Plain, *values)

    @staticmethod
    def repeat(body: Callable[[], Any]) -> None:
        while body():
            pass


def _halves(x: Any) -> tuple[Any, Any]:
    """A float64 as two of 26 bits (Veltkamp)."""
    c = x * 134217729.0
    high = c - (c - x)
    return high, x - high


def _flat(a: np.ndarray) -> np.ndarray:
    """All memory from a's first element on, so that strided views can be addressed by element as in LLVM."""
    if a.flags.c_contiguous:
        return a.reshape(-1)
    span = 1 + sum((n - 1) * s // a.itemsize for n, s in zip(a.shape, a.strides, strict=True))
    return np.lib.stride_tricks.as_strided(a, (span,), (a.itemsize,))
