"""What has been found out about points, kept as long as somebody vouches that they do not change.

    with kept(store):  # what is computed here, by this thread, looks into the store first
        ...

Who opens the block answers for the points; an array in a store is alive, so that no other can have its address.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from typing import Any

import numpy as np

from ..cached import lock

Array = np.ndarray[Any, Any]

MOST = 4  # kinds of findings in a store: points, and where they are evaluated; with a tap more for gradients

_here = threading.local()
_lock = lock()


class Store:
    """What is known: for points (batch, n, ndim), by their memory, and what for; for each item of the batch."""

    def __init__(self) -> None:
        self.known: dict[Hashable, tuple[Array, dict[int, Any]]] = {}

    def of(self, points: Array, purpose: Hashable) -> dict[int, Any]:
        """By the number of the item; empty at first."""
        key = purpose, points.ctypes.data, points.shape, points.strides, points.dtype.char
        with _lock:
            entry = self.known[key] = self.known.pop(key, (points, {}))
            if len(self.known) > MOST:
                del self.known[next(iter(self.known))]
        return entry[1]


def current() -> Store | None:
    """The store of the innermost block that this thread is in."""
    return getattr(_here, "store", None)


class kept:
    """A block that uses a store; None: that uses none."""

    __slots__ = ("outer", "store")

    def __init__(self, store: Store | None) -> None:
        self.store = store

    def __enter__(self) -> None:
        self.outer, _here.store = current(), self.store

    def __exit__(self, *error: Any) -> None:
        _here.store = self.outer


def finder(points: Array, purpose: Hashable, make: Callable[[Array], Any]) -> Callable[[int], Any]:
    """make(points[b]) as a function of b, for any thread: looked up in the store of this one, if there is any."""
    store = current()
    if store is None:
        return lambda b: make(points[b])
    known = store.of(points, purpose)

    def find(b: int) -> Any:
        found = known.get(b)
        if found is None:  # two threads at once may find the same
            found = known[b] = make(points[b])
        return found

    return find
