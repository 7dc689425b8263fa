"""Sums over pairs of series in which samples may be missing, from which a correlation is made in one pass.

As in correlation.py, but the windows have as many samples as there are, and both series take part: fifteen sums (PAIRS)
instead of five, of blocks that are copied.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import types

from . import threads
from .cache import array, compiled
from .layout import ROW, Lines, gathered

Array = np.ndarray[Any, Any]

PAIRS = 15  # where samples are missing: number, places k, k**2, v, v k of samples; share p of windows, and p times x,
# x**2, r, r**2, x r, n, n**2, n r, n x, with r and n the means of v and k over a window
PAIR_NS = 6.0  # measured: one sample


def _pairs(
    flat,
    offsets,
    step,
    stride,
    inner,
    above,
    rows,
    below,
    window,
    least,
    own,
    place,
    xs,
    xo,
    xq,
    xr,
    part,
    begin,
    gradient,
    block,
    work,
    out,
    start,
    stop,
):  # type: ignore[no-untyped-def]
    """Blocks start ... stop of all series, samples missing where they are NaN: out[table, field, o, q].

    The rows of data are preceded by `above` missing ones and followed by `below`; windows that have `least` samples
    count. x of table t at row i for the series (o, q) is xs[t, o * xo + q * xq + (i - above) * xr], NaN if there is
    none.
    """
    per = (inner + ROW - 1) // ROW
    every, nan = above + rows + below, np.nan
    for job in range(start, stop):
        o, q = job // per, job % per * ROW
        live = min(ROW, inner - q)
        gathered(flat, offsets[o] + q * stride, step, stride, rows, live, ROW, block[above * ROW :])
        for i in range(above * ROW):
            block[i] = nan
        for i in range((above + rows) * ROW, every * ROW):
            block[i] = nan
        for table in range(len(part)):
            work[: (PAIRS + 6) * ROW] = 0.0
            for j in range(live):
                work[j], work[ROW + j] = begin[o, q + j], gradient[o, q + j]
            x = xs[table]
            for i in range(every):
                here, leaving, k = i * ROW, (i - window) * ROW, place[i]
                share, mine, old = part[table, i], own[i], place[max(i - window, 0)]
                for j in range(ROW):
                    y = block[here + j]
                    there = 1.0 if y == y else 0.0
                    v = y - work[j] - work[ROW + j] * k if y == y else 0.0
                    work[2 * ROW + j] += v
                    work[3 * ROW + j] += there
                    work[4 * ROW + j] += there * k
                    work[6 * ROW + j] += there * mine
                    work[7 * ROW + j] += there * mine * k
                    work[8 * ROW + j] += there * mine * k * k
                    work[9 * ROW + j] += mine * v
                    work[10 * ROW + j] += mine * v * k
                if i >= window:
                    for j in range(ROW):
                        y = block[leaving + j]
                        there = 1.0 if y == y else 0.0
                        v = y - work[j] - work[ROW + j] * old if y == y else 0.0
                        work[2 * ROW + j] -= v
                        work[3 * ROW + j] -= there
                        work[4 * ROW + j] -= there * old
                if share == 0.0:
                    continue
                for j in range(live):
                    work[5 * ROW + j] = x[o * xo + (q + j) * xq + (i - above) * xr]
                for j in range(ROW):
                    z, number = work[5 * ROW + j], work[3 * ROW + j]
                    counts = z == z and number >= least
                    p = share if counts else 0.0
                    z = z if counts else 0.0
                    over = 1.0 / number if counts else 0.0
                    r, n = work[2 * ROW + j] * over, work[4 * ROW + j] * over
                    work[11 * ROW + j] += p
                    work[12 * ROW + j] += p * z
                    work[13 * ROW + j] += p * z * z
                    work[14 * ROW + j] += p * r
                    work[15 * ROW + j] += p * r * r
                    work[16 * ROW + j] += p * z * r
                    work[17 * ROW + j] += p * n
                    work[18 * ROW + j] += p * n * n
                    work[19 * ROW + j] += p * n * r
                    work[20 * ROW + j] += p * n * z
            for k in range(PAIRS):
                for j in range(live):
                    out[table, k, o, q + j] = work[(k + 6) * ROW + j]


@functools.cache
def _pairs_entry(dtype: str) -> Any:
    """The compiled kernel for a type of data."""
    i64, f64 = types.int64, types.float64
    real, two, whole = array("float64", 1, "C"), array("float64", 2, "C"), array("int64", 1, "C")
    arguments = (
        array(dtype, 1, "C"), whole, i64, i64, i64, i64, i64, i64, i64, f64, real, real, two, i64, i64, i64, two,
        two, two, real, real, array("float64", 4, "C"), i64, i64,
    )  # fmt: skip
    return compiled(_pairs, dtype, arguments, contract=True)


@dataclass(frozen=True)
class Gaps:
    """The same where samples may be missing: (tables, rows), own and place (rows,), rows with those above and below."""

    above: int
    below: int
    own: Array  # 1 for samples that count for the trend, 0 for those that do so elsewhere
    place: Array
    part: Array
    window: int
    least: int


def pairs(a: Array, axis: int, gaps: Gaps, x: Array, begin: Array, gradient: Array) -> Array:
    """(tables, PAIRS, *rest) of the series along an axis.

    x : (tables, rows), or (tables, *rest, rows), without the rows above: what is paired with the window that ends at a
    row.
    """
    if not a.size:
        return np.zeros((len(gaps.part), PAIRS, *a.shape[:axis], *a.shape[axis + 1 :]))
    lines = Lines(axis, a)
    (view,) = lines.views
    rows = gaps.above + lines.rows + gaps.below
    if x.ndim == 2:
        xs, xo, xq, xr = np.ascontiguousarray(x, np.float64), 0, 0, 1
    else:
        series = lines.outer * lines.inner
        xs = lines.flattened(np.moveaxis(x, -1, 1)).reshape(len(x), -1)
        xo, xq, xr = lines.inner, 1, series
    out = np.empty((len(gaps.part), PAIRS, lines.outer, lines.inner))
    first, slope = (lines.flattened(np.asarray(z, np.float64)) for z in (begin, gradient))
    run = _pairs_entry(a.dtype.name)

    def part(start: int, stop: int) -> None:
        run(
            view.flat, view.offsets, view.step, view.stride, lines.inner, gaps.above, lines.rows, gaps.below,
            gaps.window, gaps.least, gaps.own, gaps.place, xs, xo, xq, xr, gaps.part, first, slope,
            np.empty(rows * ROW), np.empty((PAIRS + 6) * ROW), out, start, stop,
        )  # fmt: skip

    threads.over(part, lines.outer * -(-lines.inner // ROW), PAIR_NS * a.size * len(gaps.part), align=1)
    return lines.arranged(out)
