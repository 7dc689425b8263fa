"""Trends and rolling means of series, one pass over memory: a block of series is read, worked on and written.

A sum over a window of W samples is one over the last of a stretch of W samples and one over the first of the next, so
that nothing is subtracted: no rounding adds up, and a spike, an infinity or a NaN is felt by the windows that hold it
and by no other (running sums carry a spike on). Rows of lanes as in correlation.py.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numba import types

from . import threads
from .cache import array, compiled
from .correlation import ROW, gathered, scattered
from .layout import Lines

Array = np.ndarray[Any, Any]

TREND_NS, MEAN_NS = 2.0, 4.0  # measured: one sample


def _trends(
    flat,
    offsets,
    stride,
    step,
    outer,
    inner,
    rows,
    linear,
    omit,
    block,
    work,
    out,
    targets,
    ostride,
    ostep,
    start,
    stop,
):  # type: ignore[no-untyped-def] # noqa: E501
    """Blocks start ... stop of series less their trends."""
    per = (inner + ROW - 1) // ROW
    for job in range(start, stop):
        o, q = job // per, job % per * ROW
        live = min(ROW, inner - q)
        gathered(flat, offsets[o] + q * stride, step, stride, rows, live, ROW, block)
        for j in range(ROW):  # a line through the first and the last sample there is, which leaves nothing to cancel
            a, b = 0, rows - 1
            if omit:
                while a < b and block[a * ROW + j] != block[a * ROW + j]:
                    a += 1
                while b > a and block[b * ROW + j] != block[b * ROW + j]:
                    b -= 1
            low, high = block[a * ROW + j], block[b * ROW + j]
            work[j] = low
            work[ROW + j] = (high - low) / (b - a) if linear and b > a else 0.0
            work[2 * ROW + j] = a
        work[3 * ROW : 8 * ROW] = 0.0
        for i in range(rows):
            for j in range(ROW):
                y, k = block[i * ROW + j], i - work[2 * ROW + j]
                there = 1.0 if y == y or not omit else 0.0
                v = y - work[j] - work[ROW + j] * k if there else 0.0
                block[i * ROW + j] = v if there else y
                work[3 * ROW + j] += there
                work[4 * ROW + j] += there * k
                work[5 * ROW + j] += there * k * k
                work[6 * ROW + j] += v
                work[7 * ROW + j] += v * k
        for j in range(ROW):
            n, k, kk = work[3 * ROW + j], work[4 * ROW + j], work[5 * ROW + j]
            v, vk = work[6 * ROW + j], work[7 * ROW + j]
            n = n if n > 0 else 1.0
            spread = kk - k * k / n
            slope = (vk - k * v / n) / spread if linear and spread > 0 else 0.0
            work[j], work[ROW + j] = v / n - slope * k / n, slope
        for i in range(rows):
            for j in range(ROW):
                block[i * ROW + j] -= work[j] + work[ROW + j] * (i - work[2 * ROW + j])
        scattered(block, rows, live, ROW, out, targets[o] + q * ostride, ostep, ostride)


def _means(
    flat,
    offsets,
    stride,
    step,
    outer,
    inner,
    rows,
    window,
    before,
    least,
    block,
    made,
    work,
    out,
    targets,
    ostride,
    ostep,
    start,
    stop,
):  # type: ignore[no-untyped-def] # noqa: E501
    """Blocks start ... stop of series of rolling means: the window of sample t begins `before` samples before it."""
    per = (inner + ROW - 1) // ROW
    after = window - 1 - before
    n = (window + 1) * ROW  # work: sums and numbers of the rows of the stretch before up to its end, and a row's
    for job in range(start, stop):
        o, q = job // per, job % per * ROW
        live = min(ROW, inner - q)
        gathered(flat, offsets[o] + q * stride, step, stride, rows, live, ROW, block)
        work[:] = 0.0
        for first in range(0, rows + after, window):
            work[2 * n :] = 0.0
            last = min(first + window, rows + after)
            for e in range(first, last):  # the row at which a window ends
                if e < rows:
                    for j in range(ROW):
                        y = block[e * ROW + j]
                        work[2 * n + j] += y if y == y else 0.0
                        work[2 * n + ROW + j] += 1.0 if y == y else 0.0
                t, row = e - after, (e - first + 1) * ROW
                if t < 0 or t >= rows:
                    continue
                for j in range(ROW):
                    number = work[2 * n + ROW + j] + work[n + row + j]
                    mean = (work[2 * n + j] + work[row + j]) / number
                    made[t * ROW + j] = mean if number >= least else np.nan
            for e in range(min(first + window, rows) - 1, first - 1, -1):
                row = (e - first) * ROW
                for j in range(ROW):
                    y = block[e * ROW + j]
                    known, more = y == y, e < min(first + window, rows) - 1
                    work[row + j] = (work[row + ROW + j] if more else 0.0) + (y if known else 0.0)
                    work[n + row + j] = (work[n + row + ROW + j] if more else 0.0) + (1.0 if known else 0.0)
        scattered(made, rows, live, ROW, out, targets[o] + q * ostride, ostep, ostride)


@functools.cache
def _entry(kind: str, dtype: str, out: str) -> Any:
    """A compiled kernel, "trends" or "means", for types of data and results."""
    i64, real, whole = types.int64, array("float64", 1, "C"), array("int64", 1, "C")
    own = (i64, i64, real) if kind == "trends" else (i64, i64, i64, real, real)
    arguments = (
        array(dtype, 1, "C"), whole, i64, i64, i64, i64, i64, *own, real, array(out, 1, "C"), whole, i64, i64,
        i64, i64,
    )  # fmt: skip
    return compiled(_trends if kind == "trends" else _means, f"{kind}_{dtype}_{out}", arguments, contract=True)


def _run(kind: str, a: Array, axis: int, own: tuple[int, ...], extra: int, ns: float) -> Array:
    """A result of the shape of a, float64 of integers."""
    out = np.empty_like(a, dtype=a.dtype if a.dtype.kind == "f" else np.float64, subok=False)
    if not a.size:
        return out
    lines = Lines(axis, a, out)
    source, target = lines.views
    run = _entry(kind, a.dtype.name, out.dtype.name)
    size = (2 * (extra + 1) + 2 if kind == "means" else 8) * ROW
    copies = 2 if kind == "means" else 1

    def part(start: int, stop: int) -> None:
        run(
            source.flat, source.offsets, source.stride, source.step, lines.outer, lines.inner, lines.rows, *own,
            *(np.empty(lines.rows * ROW) for _ in range(copies)), np.empty(size), target.flat, target.offsets, target.stride, target.step,
            start, stop,
        )  # fmt: skip

    threads.over(part, lines.outer * -(-lines.inner // ROW), ns * a.size, align=1)
    return out


def detrend(a: Array, axis: int, linear: bool, omit: bool) -> Array:
    """Series less their line or mean of least squares; omit: NaN are left out of it."""
    return _run("trends", a, axis, (int(linear), int(omit)), 0, TREND_NS)


def rolling_mean(a: Array, axis: int, window: int, before: int, least: int) -> Array:
    """Means over windows, cut off at the ends, of the samples that are not NaN; NaN of fewer than `least`."""
    return _run("means", a, axis, (window, before, least), window, MEAN_NS)
