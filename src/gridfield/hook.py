"""The hook on public functions and methods: labelled arrays (xarray) and lazy ones (dask) go by another way.

Both are looked for in `sys.modules`, never imported first.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from .grid import Grid
from .kernel import Kernel
from .ops import static

# by the name of a module, the classes that it has for us
OURS = {"xarray": ("DataArray", "Dataset", "Variable"), "dask.array": ("Array",)}

METHODS = {
    "MaskIndex": ("__init__", "select"),
    "Nufft": ("__init__", "__call__", "adjoint", "normal", "solve"),
    "Pairwise": ("__matmul__",),
}

_modules = sys.modules
# classes that are no such; those of other arrays come in as they are seen
_plain: set[type] = {np.ndarray, int, float, complex, bool, str, type(None), slice, Grid, Kernel}


@static
def _ours(cls: type) -> bool:
    """Whether a class is one of xarray or dask."""
    for name, arrays in OURS.items():
        module = _modules.get(name)
        if any(issubclass(cls, getattr(module, a)) for a in arrays if hasattr(module, a)):
            return True
    _plain.add(cls)
    return False


def _found(x: Any) -> bool:
    """Whether an argument of a class that is not known as plain, or an item of it, is labelled or lazy."""
    cls = type(x)
    if cls is tuple or cls is list or cls is dict:
        for item in x.values() if cls is dict else x:  # noqa: SIM110 (any() takes 0.3 us more)
            if type(item) not in _plain and _found(item):
                return True
        return False
    return _ours(cls)


def hook(name: str, f: Callable[..., Any]) -> Callable[..., Any]:
    """A public function that takes labelled and lazy arrays, too, as gridfield.labels has it."""

    # Where xarray and dask are not loaded that is 0.2 us (0.35 with keywords) a call, the price of *args and **kwargs;
    # where one is, 0.07 us an argument more. A helper that looks at all of them took 2 us.
    @functools.wraps(f)
    def public(*args: Any, **kwargs: Any) -> Any:
        if "xarray" in _modules or "dask" in _modules:
            for x in args:
                if type(x) not in _plain and _found(x):
                    return _elsewhere(name, f, args, kwargs)
            for x in kwargs.values():
                if type(x) not in _plain and _found(x):
                    return _elsewhere(name, f, args, kwargs)
        return f(*args, **kwargs)

    # where pickle finds it
    public.__module__, public.__qualname__ = "gridfield", name
    return public


def hook_methods(cls: type) -> None:
    """The same for the methods of a public class that take arrays."""
    for name in METHODS.get(cls.__name__, ()):
        f = cls.__dict__[name]
        if not hasattr(f, "__wrapped__"):
            public = hook(f"{cls.__name__}.{name}", f)
            public.__module__ = f.__module__
            setattr(cls, name, public)


def _elsewhere(name: str, f: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    from . import labels

    return labels.call(name, f, args, kwargs)
