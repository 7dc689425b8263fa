"""Medians and quantiles of the values of each cell, which lie one cell behind the other.

Few values are sorted by counting how many are below each, all at once: there are 8 of them in a cell, say, and to sort
those one by one is to wait for branches.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit, types

from .cache import SOURCES, array, compiled
from .machine import specialising, staged

RANKED = 16  # values that are sorted by counting how many are below each, all at once


@specialising(SOURCES)
@dataclass(frozen=True)
class RankSpec:
    """So many vectors of 8 numbers."""

    vectors: int


ONE, TWO = RankSpec(1), RankSpec(2)


@staged
def rank(m: Any, spec: Any, line: Any, first: Any, count: Any, room: Any, ranks: Any, nans: Any) -> None:
    """room = `count` numbers from line[first] on, and infinity; ranks = their places when sorted, of equals in their
    order; nans[0] = how many are NaN. What follows on the numbers is read, too."""
    lanes = 8
    numbers = [m.const(ranks, list(range(lanes * k, lanes * k + lanes))) for k in range(spec.vectors)]
    zero, one, beyond = (m.const(ranks, [i] * lanes) for i in (0, 1, RANKED))
    vectors, spoilt = [], None
    for k, n in enumerate(numbers):
        v = m.load(line, first + lanes * k, lanes)
        v = m.select(n < m.cast(count, ranks), v, m.const(line, [np.inf] * lanes))
        m.store(room, k * lanes, v)
        vectors.append(v)
        some = m.number_of(m.not_number(v))
        spoilt = some if spoilt is None else spoilt + some
    m.store(nans, 0, spoilt)
    totals = [zero] * spec.vectors
    for j in range(lanes * spec.vectors):  # one after the other beside all
        x = m.load(room, j)
        for k, (v, n) in enumerate(zip(vectors, numbers)):
            before = m.select(v < x, zero, one) if lanes * k > j else m.select(v > x, one, zero)
            if lanes * k <= j < lanes * k + lanes:
                before = m.select(n > j, m.select(v < x, zero, one), before)
            totals[k] = totals[k] + before
    for k, r in enumerate(totals):
        m.store(ranks, k * lanes, m.select(r < beyond, r, zero))  # a NaN is as little below as above


@njit(nogil=True, error_model="numpy", _nrt=False)
def _sorted(spec, line, first, n, room, ranks, nans, out):  # type: ignore[no-untyped-def]
    """out = the n numbers from `first` on, sorted; whether all are numbers."""
    rank(spec, line, first, n, room, ranks, nans)
    for i in range(len(ranks)):
        out[np.uint64(ranks[i])] = room[i]
    return nans[0] == 0


def _quantiles(one, two, line, ends, probabilities, out, start, stop):  # type: ignore[no-untyped-def]
    """out[q, cell]: np.median of the values of a cell where a probability is negative, else np.quantile. RANKED more
    numbers than there are values may be read."""
    ranks, room, few, nans = np.empty(RANKED, np.int32), np.empty(RANKED), np.empty(RANKED), np.zeros(1, np.int64)
    for cell in range(start, stop):
        first = np.int64(ends[cell - 1] if cell else 0)
        n = ends[cell] - first
        if n == 0:
            continue
        if n <= RANKED:
            v = few
            numbers = (
                _sorted(one, line, first, n, room[:8], ranks[:8], nans, few) if n <= 8
                else _sorted(two, line, first, n, room, ranks, nans, few)
            )  # fmt: skip
        else:
            v, numbers = line[first : first + n], True
            for x in v:
                numbers &= x == x
            v.sort()
        for q in range(len(probabilities)):
            p = probabilities[q]
            if not numbers:
                out[q, cell] = np.nan
            elif p < 0:
                out[q, cell] = v[n // 2] if n % 2 else (v[n // 2 - 1] + v[n // 2]) / 2
            else:
                place = p * (n - 1)
                i = min(int(place), n - 1)
                t, low, high = place - i, v[i], v[min(i + 1, n - 1)]
                step = high - low
                if t != 0 and not step < np.inf:  # of what is infinite the limit, which NumPy has NaN for
                    out[q, cell] = low * (1 - t) + high * t
                else:
                    out[q, cell] = low if t == 0 else low + step * t if t < 0.5 else high - step * (1 - t)


@functools.cache
def quantiles() -> Any:
    """The compiled kernel: (values cell by cell, where each ends, probabilities, out, start, stop); see _quantiles."""
    ranks = (r._numba_type_ for r in (ONE, TWO))  # type: ignore[attr-defined]
    line, cells = array("float64", 1, "C"), array("int64", 1, "C")
    args = *ranks, line, cells, line, array("float64", 2), types.int64, types.int64
    return functools.partial(compiled(_quantiles, "", args), ONE, TWO)
