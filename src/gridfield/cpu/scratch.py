"""Working memory that is used again: fresh pages cost a microsecond each, as much as a small transform."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..cached import lock

LINE = 64  # bytes: vectors that cross cache lines take twice as long
KEPT = 2**28  # bytes that are kept at most, when nobody uses them

_free: dict[int, list[np.ndarray[Any, Any]]] = {}  # by size, the sizes used last at the end
_kept = 0
_lock = lock()


class scratch:
    """`count` elements of memory with anything in them, for the time of a `with` block."""

    __slots__ = ("bytes", "dtype", "memory", "size")

    def __init__(self, count: int, dtype: Any) -> None:
        self.dtype = np.dtype(dtype)
        self.bytes = count * self.dtype.itemsize
        self.size = -(-self.bytes // 4096) * 4096

    def __enter__(self) -> np.ndarray[Any, Any]:
        global _kept
        with _lock:
            free = _free.get(self.size)
            memory = free.pop() if free else None
            if memory is not None:
                _kept -= self.size
        if memory is None:
            memory = np.empty(self.size + LINE, np.uint8)
            memory = memory[-memory.ctypes.data % LINE :][: self.size]
        self.memory = memory
        return memory[: self.bytes].view(self.dtype)

    def __exit__(self, *error: Any) -> None:
        global _kept
        with _lock:
            _free[self.size] = [*_free.pop(self.size, ()), self.memory]
            _kept += self.size
            while _kept > KEPT:
                oldest = next(iter(_free))
                _kept -= oldest * len(_free.pop(oldest))
