"""Operators with points of NumPy on items of dask: one call for the items of a chunk."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .blocks import each, known, whole, words


def items(
    f: Callable[[Any], Any], x: Any, axes: int, shape: tuple[int, ...], where: str, argument: str, why: str = ""
) -> Any:
    """f over the leading axes of x: its last `axes`, which must be whole, become those of `shape`; complex."""
    known(x, where, argument)
    lead = words("lead", x.ndim - axes)
    whole(x, range(x.ndim - axes, x.ndim), where, argument, why)
    own, made = words("own", axes), words("made", len(shape))
    kind = np.result_type(x.dtype if x.dtype.kind in "fc" else np.float64, np.complex64)
    return each(f, (*lead, *made), x, (*lead, *own), dtype=kind, new=dict(zip(made, shape, strict=True)), name="items")
