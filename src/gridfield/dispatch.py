"""From the arrays of a call to the face of their framework. A framework is looked for, never imported first."""

from __future__ import annotations

import sys
from typing import Any

from .faces import numpy as numpy_face
from .ops import Face


def _is_torch(x: Any) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(x, torch.Tensor)


def face(where: str, **arrays: Any) -> Face:
    """The face for the arguments of a public function; `where` and the names are for the message."""
    if "torch" not in sys.modules:
        return numpy_face.FACE
    torch = [name for name, x in arrays.items() if _is_torch(x)]
    if not torch:
        return numpy_face.FACE
    for name, x in arrays.items():
        if name not in torch and hasattr(x, "__array_interface__") and getattr(x, "ndim", 0):
            raise TypeError(
                f"{where}: {torch[0]} is a torch.Tensor but {name} is a {type(x).__module__}.{type(x).__name__}; "
                "all arrays of a call must belong to one framework"
            )
    from .faces.torch import FACE

    return FACE
