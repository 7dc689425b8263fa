"""From the arrays of a call to the face of their framework. A framework is looked for, never imported first."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from .ops import Face, static

# a framework, by the name of its module, and the classes of its arrays
FRAMEWORKS = {"torch": ("Tensor",), "jax": ("Array",), "tensorflow": ("Tensor", "Variable")}

_known: dict[type, str] = {np.ndarray: "numpy"}
_faces: dict[str, Face] = {}


@static
def frameworks(classes: tuple[type, ...]) -> tuple[str, ...]:
    """The framework of each class; "" for numbers and lists, which go with any."""
    return tuple([_known.get(cls) or _framework(cls) for cls in classes])


def _framework(cls: type) -> str:
    for name, arrays in FRAMEWORKS.items():
        module = sys.modules.get(name)
        bases = tuple(getattr(module, a) for a in arrays if hasattr(module, a))  # it may be half imported
        if name == "tensorflow" and bases and hasattr(cls, "__tf_tensor__"):  # keras.Variable, for one
            _known[cls] = name
            return name
        # a JAX tracer is an instance of jax.Array, but no class of it is a subclass
        if issubclass(cls, bases) or (name == "jax" and bases and any(c.__name__ == "Tracer" for c in cls.__mro__)):
            _known[cls] = name
            return name
    return "numpy" if issubclass(cls, np.ndarray) or hasattr(cls, "__array_interface__") else ""


def face(where: str, /, **arrays: Any) -> Face:
    """The face for the arguments of a public function; `where` and the names are for the message."""
    found = frameworks(tuple(map(type, arrays.values())))
    if found.count(found[0]) == len(found):
        return of(found[0])
    # what has no axes, a number, goes with any
    given = [(f, name) for f, (name, x) in zip(found, arrays.items(), strict=True) if f != "numpy" or np.ndim(x)]
    given = [g for g in given if g[0]]
    if len({f for f, _ in given}) > 1:
        given = sorted(given, key=lambda item: item[0] == "numpy")
        (f, a), (g, b) = given[0], next(item for item in given if item[0] != given[0][0])
        raise TypeError(
            f"{where}: {a} is a {_name(f, arrays[a])} but {b} is a {_name(g, arrays[b])}; "
            "all arrays of a call must belong to one framework"
        )
    return of(given[0][0] if given else "numpy")


def _name(framework: str, x: Any) -> str:
    array = FRAMEWORKS.get(framework)
    return f"{framework}.{array[0]}" if array else f"{type(x).__module__}.{type(x).__name__}"


def of(framework: str) -> Face:
    """The face of a framework, by name."""
    return _faces.get(framework) or _load(framework)


def _load(framework: str) -> Face:
    if framework == "torch":
        from .faces.torch import FACE
    elif framework == "jax":
        from .faces.jax import FACE
    elif framework == "tensorflow":
        from .faces.tensorflow import FACE
    else:
        from .faces.numpy import FACE
    return _faces.setdefault(framework, FACE)
