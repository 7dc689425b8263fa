"""Working memory that is used again: fresh pages cost a microsecond each, as much as a small transform."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from ..cached import lock

LINE = 64  # bytes
KEPT = 2**28  # bytes that are kept at most, when nobody uses them

_free: list[np.ndarray[Any, Any]] = []
_lock = lock()


@contextlib.contextmanager
def scratch(count: int, dtype: Any) -> Iterator[np.ndarray[Any, Any]]:
    """`count` elements of memory with anything in them, for the time of a `with` block."""
    size = -(-count * np.dtype(dtype).itemsize // 4096) * 4096
    with _lock:
        fitting = [i for i, a in enumerate(_free) if size <= a.nbytes <= 2 * size]
        memory = _free.pop(min(fitting, key=lambda i: _free[i].nbytes)) if fitting else None
    if memory is None:
        memory = np.empty(size + LINE, np.uint8)
        memory = memory[-memory.ctypes.data % LINE :][:size]  # vectors that cross cache lines take twice as long
    try:
        yield memory[: count * np.dtype(dtype).itemsize].view(dtype)
    finally:
        with _lock:
            _free.append(memory)
            while sum(a.nbytes for a in _free) > KEPT:
                _free.pop(0)
