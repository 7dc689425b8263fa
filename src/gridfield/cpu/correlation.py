"""Sums over series that a correlation is made of, in one pass over the data.

Of a series y, less a line (its reference, through its first and last sample): v. With R the sum over a window that ends
at a sample, and tables of numbers per sample made by the caller, there are five sums (FIELDS):

    sum weight v      the numerator: `weight` has trend, rolling mean and the other series in it
    sum slope v       the slope of the trend
    sum part R, sum part R**2, sum part line R      over the windows, `part` being the share of each, 0 without one

Series that are neighbours in memory are lanes. A block of them is read from top to bottom, a few rows at a time, the
sums in registers; the row that leaves the window is still in the cache. A series axis that is the quickest in memory
is turned into that by transposing, block by block. Every lane sees the same operations whatever is beside it, so that
the same bits come out for any layout and number of threads.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit, types

from . import threads
from .cache import SOURCES, array, compiled
from .layout import Lines
from .machine import specialising, staged

Array = np.ndarray[Any, Any]

FIELDS = 5  # sums for each series
PAIRS = 15  # where samples are missing: number, places k, k**2, v, v k of samples; share p of windows, and p times x,
# x**2, r, r**2, x r, n, n**2, n r, n x, with r and n the means of v and k over a window
LANES = 8  # numbers of 64 bits in a vector
WIDEST = 512  # lanes of a block
CACHE = 2**20  # bytes of the rows of a window that a block may have: half a second cache
ROW = 16  # lanes of a block that is a copy: known when it is compiled, or nothing would be vectorised
GROUP = 4  # rows at a time: of (2000, 60, 180) with window 360 25 ms, 8 rows 31, one row 45; np.sum takes 19
SAMPLE_NS, PAIR_NS = 1.0, 6.0  # measured: one sample

FILL, FIRST, SLIDE, COUNT, ALONE = range(5)  # rows: of a window that is not full; that fills it; of the next window,
# which counts for nothing; which counts; of windows of one row


@specialising(SOURCES)
@dataclass(frozen=True)
class Rows:
    """What happens at a row."""

    kind: int
    lanes: int


@staged
def add_rows(
    m: Any, spec: Any, flat: Any, base: Any, step: Any, window: Any, start: Any, stop: Any, width: Any,
    weight: Any, slope: Any, part: Any, line: Any, place: Any, work: Any,
) -> None:  # fmt: skip
    """Rows start ... stop of a block: of `work` (first, gradient, window, R, sums), rows of WIDEST lanes."""
    kind, n = spec.kind, spec.lanes

    def lanes(v: Any, _: Any) -> None:
        at = v * n

        def own(k: int) -> Any:
            return m.load(work, at + k * WIDEST, n)

        first, minus, length = own(0), own(1) * -1.0, own(2)

        def row(i: Any, carry: list[Any]) -> list[Any]:
            total, number, slopes, sums, squares, lines = carry
            here = base + i * step + at
            m.prefetch(flat, here + GROUP * step)  # the next group: 25 ms instead of 33
            y = m.to_double(m.load(flat, here, n))
            x = m.fused(minus, m.load(place, i), y - first)
            number, slopes = m.fused(x, m.load(weight, i), number), m.fused(x, m.load(slope, i), slopes)
            if kind == ALONE:
                total = x
            elif kind in (FILL, FIRST):
                total = total + x
            else:
                # fused: a rounded gradient * window, added at every row, would drift (1e-10 of a correlation)
                total = total + m.fused(minus, length, y - m.to_double(m.load(flat, here - window * step, n)))
            if kind in (FIRST, COUNT, ALONE):
                some = total * m.load(part, i)
                sums, squares, lines = (
                    sums + some, m.fused(some, total, squares), m.fused(some, m.load(line, i), lines),
                )  # fmt: skip
            return [total, number, slopes, sums, squares, lines]

        for k, x in enumerate(m.loop(start, stop, row, [own(k) for k in range(3, 9)])):
            m.store(work, at + (k + 3) * WIDEST, x)

    m.loop(0, width, lanes)


def _gather(flat, base, step, stride, rows, lanes, width, block):  # type: ignore[no-untyped-def]
    """block[i, j] = sample i of series j, for `lanes` series; 0 beyond them. Where series are not neighbours, eight
    samples of one at a time, as that is a line of the cache."""
    if stride == 1 and lanes == width:
        for i in range(rows):
            here = base + i * step
            for j in range(width):
                block[i * width + j] = flat[here + j]
        return
    for i in range(0, rows, 8):
        stop = min(i + 8, rows)
        for j in range(lanes):
            here = base + j * stride
            for k in range(i, stop):
                block[k * width + j] = flat[here + k * step]
        for k in range(i, stop):
            for j in range(lanes, width):
                block[k * width + j] = 0


def _scatter(block, rows, lanes, width, flat, base, step, stride):  # type: ignore[no-untyped-def]
    """The inverse of _gather."""
    if stride == 1:
        for i in range(rows):
            here = base + i * step
            for j in range(lanes):
                flat[here + j] = block[i * width + j]
        return
    for i in range(0, rows, 8):
        for j in range(lanes):
            here = base + j * stride
            for k in range(i, min(i + 8, rows)):
                flat[here + k * step] = block[k * width + j]


gathered = njit(nogil=True, error_model="numpy")(_gather)
scattered = njit(nogil=True, error_model="numpy")(_scatter)


def _sums(
    fill,
    first,
    slide,
    count,
    alone,
    flat,
    offsets,
    step,
    stride,
    inner,
    rows,
    window,
    lanes,
    kinds,
    weight,
    slope,
    part,
    line,
    place,
    begin,
    gradient,
    direct,
    data,
    work,
    out,
    start,
    stop,
):  # type: ignore[no-untyped-def] # noqa: E501
    """Blocks start ... stop of all series: out[table, field, o, q]; data: what is read (direct), or a block."""
    per = (inner + lanes - 1) // lanes
    for job in range(start, stop):
        o, q = job // per, job % per * lanes
        live = min(lanes, inner - q)
        width = (live + LANES - 1) // LANES
        if direct:  # the last block reaches back into the one before, so that all its vectors are whole
            q -= width * LANES - live
            live = width * LANES
            base, row = offsets[o] + q, step
        else:
            base, row = 0, width * LANES
            gathered(flat, offsets[o] + q * stride, step, stride, rows, live, row, data)
        for table in range(len(weight)):
            for j in range(width * LANES):
                for k in range(3, 9):
                    work[k * WIDEST + j] = 0.0
                known = j < live
                work[j] = begin[o, q + j] if known else 0.0
                work[WIDEST + j] = gradient[o, q + j] if known else 0.0
                work[2 * WIDEST + j] = window
            w, p, n = weight[table], part[table], line[table]
            i = 0
            while i < rows:
                kind, j = kinds[table, i], i + 1
                while j < rows and j - i < GROUP and kinds[table, j] == kind:
                    j += 1
                if kind == FILL:
                    add_rows(fill, data, base, row, window, i, j, width, w, slope, p, n, place, work)
                elif kind == FIRST:
                    add_rows(first, data, base, row, window, i, j, width, w, slope, p, n, place, work)
                elif kind == SLIDE:
                    add_rows(slide, data, base, row, window, i, j, width, w, slope, p, n, place, work)
                elif kind == COUNT:
                    add_rows(count, data, base, row, window, i, j, width, w, slope, p, n, place, work)
                else:
                    add_rows(alone, data, base, row, window, i, j, width, w, slope, p, n, place, work)
                i = j
            for k in range(FIELDS):
                for j in range(live):
                    out[table, k, o, q + j] = work[(k + 4) * WIDEST + j]


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
):  # type: ignore[no-untyped-def] # noqa: E501
    """Blocks start ... stop of all series, samples missing where they are NaN: out[table, field, o, q].

    The rows of data are preceded by `above` missing ones and followed by `below`; windows that have `least` samples
    count. x: that of table t at row i for the series (o, q) is xs[t, o * xo + q * xq + i * xr], NaN if there is none.
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
                    work[5 * ROW + j] = x[o * xo + (q + j) * xq + i * xr]
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


@functools.cache
def _entry(dtype: str, block: str) -> Any:
    """The compiled kernel for the types of the data and of blocks, and its specs."""
    specs = [Rows(kind, LANES) for kind in (FILL, FIRST, SLIDE, COUNT, ALONE)]
    kinds = [s._numba_type_ for s in specs]  # type: ignore[attr-defined]
    i64, real, two = types.int64, array("float64", 1, "C"), array("float64", 2, "C")
    arguments = (
        *kinds, array(dtype, 1, "C"), array("int64", 1, "C"), i64, i64, i64, i64, i64, i64, array("int64", 2, "C"),
        two, real, two, two, real, two, two, i64, array(block, 1, "C"), real, array("float64", 4, "C"), i64, i64,
    )  # fmt: skip
    return functools.partial(compiled(_sums, f"{kinds[0].digest}_{dtype}_{block}", arguments), *specs)


@dataclass(frozen=True)
class Tables:
    """Numbers of every sample, for one correlation or several at once: (tables, samples) but for slope and place."""

    kinds: Array
    weight: Array
    slope: Array
    part: Array
    line: Array
    place: Array  # how far from where the line of reference begins
    window: int


def sums(a: Array, axis: int, tables: Tables, begin: Array, gradient: Array) -> Array:
    """(tables, FIELDS, *rest) of the series along an axis.

    begin, gradient (*rest): the line of reference, ``begin + gradient * place``.
    """
    if not a.size:
        return np.zeros((len(tables.weight), FIELDS, *a.shape[:axis], *a.shape[axis + 1 :]))
    lines = Lines(axis, a)
    (view,) = lines.views
    real = a.dtype.name in ("float32", "float64")
    direct = view.stride == 1 and lines.inner >= LANES and real
    lanes = WIDEST if direct else ROW
    size = a.itemsize if real else 8
    while lanes > LANES * (4 if direct else 1) and (tables.window if direct else lines.rows) * lanes * size > CACHE:
        lanes //= 2
    out = np.empty((len(tables.weight), FIELDS, lines.outer, lines.inner))
    first, slope = (lines.flattened(np.asarray(x, np.float64)) for x in (begin, gradient))
    jobs = lines.outer * -(-lines.inner // lanes)
    block = a.dtype if real else np.dtype(np.float64)
    run = _entry(a.dtype.name, block.name)

    def part(start: int, stop: int) -> None:
        run(
            view.flat, view.offsets, view.step, view.stride, lines.inner, lines.rows, tables.window, lanes,
            tables.kinds, tables.weight, tables.slope, tables.part, tables.line, tables.place, first, slope,
            int(direct), view.flat if direct else np.empty(lines.rows * lanes, block), np.empty(9 * WIDEST), out, start, stop,
        )  # fmt: skip

    threads.over(part, jobs, SAMPLE_NS * a.size * len(tables.weight), align=1)
    return lines.arranged(out)


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

    x : (tables, rows), or (tables, *rest, rows): what is paired with the window that ends at a row.
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
        flattened = [lines.flattened(one) for one in np.moveaxis(x, -1, 1).reshape(-1, *lines.shape)]
        xs, xo, xq, xr = np.stack(flattened).reshape(len(x), rows * series), lines.inner, 1, series
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
