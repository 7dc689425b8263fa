"""Floats to small integers: rounded to the nearest, even of two, and saturated; one pass over memory."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numba import types

from . import threads
from .cache import array, compiled

Array = np.ndarray[Any, Any]

ROUND_NS = 0.2  # measured: one number


def _round(x, out, low, high, shift, start, stop):  # type: ignore[no-untyped-def]
    zero = low - low
    for i in range(start, stop):
        v = x[i]
        v = v if v == v else zero
        v = v if v > low else low
        v = v if v < high else high
        out[i] = np.int32((v + shift) - shift)  # no fraction is left beside so large a number


@functools.cache
def _entry(given: str, wanted: str) -> Any:
    real = array(given, 1, "C")
    one = real.dtype
    args = (real, array(wanted, 1, "C"), one, one, one, types.uint64, types.uint64)
    return compiled(_round, f"{given}_{wanted}", args)


def round_to(x: Array, dtype: str) -> Array:
    """float32 or float64 to the nearest integers of 8 or 16 bits; NaN is 0."""
    info, out = np.iinfo(dtype), np.empty(x.shape, dtype)
    shift = 1.5 * 2.0 ** np.finfo(x.dtype).nmant
    work = functools.partial(_entry(x.dtype.name, dtype), np.ravel(x), out.reshape(-1), info.min, info.max, shift)
    threads.over(work, x.size, ROUND_NS * x.size)
    return out
