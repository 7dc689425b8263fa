"""What is worked out once and kept, in a process that may fork at any moment."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class cached_property(Generic[T]):
    """functools.cached_property without its lock, which Python 3.11 shares by all instances of a class.

    A child forked while another thread held it would wait for ever. Two threads at once may work a value out twice.
    """

    def __init__(self, f: Callable[[Any], T]) -> None:
        self.f, self.__doc__ = f, f.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, instance: Any, owner: type | None = None) -> T:
        """The value, from now on an attribute of the instance."""
        value = self.f(instance)
        instance.__dict__[self.name] = value  # which Python finds before this descriptor
        return value


def held_over_fork(lock: Any) -> Any:
    """The lock; a fork waits until it is free, so that no child inherits it held."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(before=lock.acquire, after_in_parent=lock.release, after_in_child=lock.release)
    return lock


def lock() -> Any:
    """A lock that a fork waits for."""
    return held_over_fork(threading.Lock())
