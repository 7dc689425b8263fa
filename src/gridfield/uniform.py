"""Arithmetic of one uniform axis, exact where floats allow it.

An axis stores two floats, from which its far end cannot always be had: in float64, 49 * (1 / 49) is 0.9999999999999999.
So of the numbers that are the end by all we know (they give the stored floats back) we take the one with the fewest
digits, here 1.0.
"""

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray


def steps(shape: tuple[int, ...], periodic: tuple[bool, ...]) -> list[int]:
    """How many spacings lie between the bounds that the constructor takes, along each axis."""
    return [n if wraps else max(n - 1, 1) for n, wraps in zip(shape, periodic, strict=True)]


def _shortest(value: float, gives_back: Callable[[float], bool]) -> float:
    for digits in range(1, 18):
        candidate = float(f"{value:.{digits}g}")
        if gives_back(candidate):
            return candidate
    return value


@lru_cache(maxsize=1024)
def end(start: float, spacing: float, steps: int) -> float:
    """The coordinate `steps` spacings after `start`."""
    if steps == 0:
        return start
    return _shortest(start + steps * spacing, lambda end: (end - start) / steps == spacing)


@lru_cache(maxsize=1024)
def outer(origin: float, spacing: float, n: int) -> tuple[float, float]:
    """The lower edge of the first cell and the upper edge of the last."""
    first = _shortest(origin - spacing / 2, lambda edge: edge + spacing / 2 == origin)
    return first, end(first, spacing, n)


def _near(value: float, rounding: float) -> list[float]:
    unit = max(math.ulp(value), rounding)
    return [value + k * unit for k in (0, 1, -1, 2, -2)]


def fit_samples(lo: float, hi: float, steps: int, guess: float | None = None) -> float:
    """The spacing with which `end` gives `hi` back, or comes nearest to it."""
    best = (hi - lo) / steps if guess is None else guess
    spacings = _near(best, math.ulp(max(abs(lo), abs(hi))) / steps)
    return next(
        (h for h in spacings if end(lo, h, steps) == hi),
        min(spacings, key=lambda h: abs(lo + steps * h - hi)),
    )


def fit_cells(lo: float, hi: float, n: int) -> tuple[float, float]:
    """Origin and spacing with which `outer` gives `lo` and `hi` back, or is a rounding wider."""
    rounding = math.ulp(max(abs(lo), abs(hi)))
    best, least = (lo, hi), (True, math.inf)
    for h in _near((hi - lo) / n, rounding / n):
        for o in _near(lo + h / 2, 0.0):
            first, last = outer(o, h, n)
            misfit = (first > lo or last < hi, abs(first - lo) + abs(last - hi))
            if misfit < least:
                best, least = (o, h), misfit
            if least == (False, 0.0):
                return best
    return best


Fit = tuple[int, float, float]


def cover_with_spacing(data: tuple[float, float], spacing: float, margin: int) -> Fit:
    """Cells of that spacing round the data, the smallest in the middle of one."""
    lo, hi = data
    n = math.floor(min((hi - lo) / spacing, 2.0**63) + 0.5) + 1
    n += outer(lo, spacing, n)[1] < hi
    return n + 2 * margin, lo - margin * spacing, spacing


def cover_with_cells(data: tuple[float, float], cells: int, margin: int) -> Fit:
    """So many cells round the data, the smallest and the largest in the middle of one."""
    lo, hi = data
    inner = cells - 2 * margin
    o, h = (lo, fit_samples(lo, hi, inner - 1)) if inner > 1 else fit_cells(lo, hi, 1)
    return cells, o - margin * h, h


def cell(x: NDArray[Any], lo: float, hi: float, n: int, wraps: bool) -> tuple[Any, Any]:
    """Number of the cell of each coordinate along one axis, and whether there is one."""
    x = x.astype(np.float64)
    if wraps:
        away = ~((x >= lo) & (x < hi))
        with np.errstate(over="ignore", invalid="ignore"):
            x[away] = np.minimum(lo + np.mod(x[away] - lo, hi - lo), hi)
    inside = (x >= lo) & (x <= hi)
    x[~inside] = lo
    step = (hi - lo) / n
    cell = np.minimum((x - lo) / step, n - 1).astype(np.int64)
    # edge k in the arithmetic of linspace, to the bit; the clip below also closes the last cell
    cell -= x < cell * step + lo
    cell += x >= (cell + 1) * step + lo
    return np.minimum(cell, n - 1, out=cell), inside
