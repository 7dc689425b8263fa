"""The coordinate of a dim as numbers, and whether these are evenly spaced."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

EVEN = 1e-3  # of the spacing: coordinates are often stored in float32
DAY = np.timedelta64(1, "D")


def numbers(x: Any, where: str, name: str) -> Any:
    """Real numbers as they are; dates as days since 1970, durations as days. Of arrays of NumPy or dask."""
    if x.dtype.kind == "M":
        x = (x - np.datetime64("1970-01-01", "ns")) / DAY
    elif x.dtype.kind == "m":
        x = x / DAY
    if x.dtype.kind not in "iufb":
        raise TypeError(
            f"{where}: coordinate {name!r} has dtype {x.dtype} but must be numbers or dates; give grid=, or "
            "choose dims without it"
        )
    return x


def even(x: Any, where: str, name: str, periodic: bool = False) -> tuple[float, float, bool]:
    """Lowest place, spacing and whether it decreases, of an evenly spaced coordinate; of a single place 1 apart."""
    x = numbers(np.asarray(x), where, name)
    n = len(x)
    if n == 0:
        raise ValueError(f"{where}: coordinate {name!r} is empty")
    if not np.isfinite(x.astype(np.float64)).all():
        raise ValueError(f"{where}: coordinate {name!r} must be finite, got {x[~np.isfinite(x)][0]}")
    first, last = float(x[0]), float(x[-1])
    if n == 1:
        return first, 1.0, False
    step = (last - first) / (n - 1)
    off = np.abs(x.astype(np.float64) - (first + step * np.arange(n)))
    eps = float(np.finfo(x.dtype).eps) if x.dtype.kind == "f" else 0.0
    slack = max(EVEN * abs(step), 4 * eps * max(abs(first), abs(last)))
    if step == 0 or off.max() > min(slack, 0.25 * abs(step)):
        gaps = np.diff(x.astype(np.float64))
        raise ValueError(
            f"{where}: coordinate {name!r} is not evenly spaced: neighbours are {gaps.min():.9g} to {gaps.max():.9g} "
            f"apart, the first uneven ones at {int(np.argmax(np.abs(gaps - gaps[0]) > EVEN * abs(gaps[0])))}; give "
            "grid=, or interpolate to an even coordinate first"
        )
    return (last, -step, True) if step < 0 else (first, step, False)


def sizes(dims: Any, shape: tuple[int, ...]) -> dict[Any, int]:
    """Size of each dim."""
    return dict(zip(dims, shape, strict=True))


def matches(x: Any, origin: float, spacing: float, where: str, name: str) -> bool:
    """Whether a coordinate that decreases has, read backwards, that origin and spacing."""
    try:
        low, step, falls = even(x, where, name)
    except (ValueError, TypeError):
        return False
    return falls and math.isclose(step, spacing, rel_tol=1e-6) and abs(low - origin) <= 0.25 * spacing
