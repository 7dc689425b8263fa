"""Points to cells: the flat number of the cell that each point of a block is in, by the edge rule of np.histogramdd.

A cell holds its lower edge and not its upper one, the last holds both. Along a uniform axis the cell is the whole part
of (x - lo) scale, which is right unless the fraction is within rounding of 0 or 1: where that happens in a block, the
cells of the block are compared with the edges themselves and moved by one. Along any other axis edges are searched.
Blocks are small enough to stay in the first cache, and are worked on axis by axis so that LLVM uses vectors.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numba import njit, types

from . import threads
from .cache import SOURCES, array, compiled
from .machine import WHOLE, specialising, staged

Array = np.ndarray[Any, Any]

BLOCK = 512  # points
LOCATE_NS = 1.0  # measured: of a coordinate
MOST = 2**31 - 2**16  # cells, as they are numbered in 32 bits

# columns of the table of axes: what is inside, cells, where their edges begin, how they are found; then for the guess
# the numbers just beyond what is inside, origin, cells per unit, how near to an edge is too near, the last cell
LO, HI, COUNT, FIRST, SEARCHED, WRAPS, UNDER, OVER, SHIFT, SCALE, NEAR, FAR, LAST = range(13)
GUESS, COLUMNS = range(UNDER, LAST + 1), 13


@specialising(SOURCES)
@dataclass(frozen=True)
class Plain:
    """There is nothing to specialise to."""


PLAIN = Plain()


@njit(nogil=True, error_model="numpy")
def _wrapped(x, lo, hi, m):  # type: ignore[no-untyped-def]
    """Coordinates beyond the ends of a periodic axis, moved into it."""
    for j in range(m):
        if not (x[j] >= lo and x[j] < hi):
            x[j] = min(lo + (x[j] - lo) % (hi - lo), hi)


@njit(nogil=True, error_model="numpy")
def _held(x, lo, hi, m):  # type: ignore[no-untyped-def]
    """Coordinates beyond the ends, held there."""
    for j in range(m):
        x[j] = lo if x[j] < lo else hi if x[j] > hi else x[j]


@staged
def guess(m: Any, spec: Any, x: Any, table: Any, row: Any, k: Any, close: Any) -> None:
    """k[j] = the cell, -1 outside; close[0] ... above 0 where one is so near an edge that it has to be compared."""
    lanes, at = WHOLE // m.itemsize(x), row * COLUMNS
    under, over, shift, scale, near, far, last = (m.load(table, at + c) for c in GUESS)
    zeros, outside = m.const(x, [0.0] * lanes), m.const(k, [-1] * lanes)

    def body(j: Any, carry: Any) -> list[Any]:
        v = m.load(x, j * lanes, lanes)
        inside = (v > under) & (v < over)
        f = m.select(inside, (v - shift) * scale, zeros + 0.5)
        whole = m.floor(f)
        whole = m.select(whole < last, whole, zeros + last)
        rest = f - whole
        m.store(k, j * lanes, m.select(inside, m.truncate(whole, k), outside))
        return [m.select((rest < near) | (rest > far), zeros + 1.0, carry[0])]

    (found,) = m.loop(0, BLOCK // lanes, body, [zeros])
    m.store(close, 0, found)


@staged
def compare(m: Any, spec: Any, x: Any, table: Any, row: Any, edges: Any, k: Any) -> None:
    """Cells that may be off by one, put right by their edges."""
    lanes, at = WHOLE // m.itemsize(x), row * COLUMNS
    first, last = (m.widen(m.truncate(m.load(table, at + c), k)) for c in (FIRST, LAST))
    zeros, last = m.const(k, [0] * lanes), m.cast(last, k)

    def body(j: Any, _: Any) -> None:
        v, i = m.load(x, j * lanes, lanes), m.load(k, j * lanes, lanes)
        held = m.select(i > -1, i, zeros)
        lower, upper = m.pick(edges, first, held, 2)
        down, up = (v < lower) & (held > 0), m.select(v < upper, zeros, zeros + 1)
        moved = m.select(down, held - 1, held + m.select(held < last, up, zeros))
        m.store(k, j * lanes, m.select(i > -1, moved, i))

    m.loop(0, BLOCK // lanes, body)


@staged
def combine(m: Any, spec: Any, cells: Any, n: Any, k: Any) -> None:
    """cells[j] = cells[j] n + k[j], -1 where one of them is."""
    lanes, n = WHOLE // 4, m.cast(n, k)
    outside = m.const(k, [-1] * lanes)

    def body(j: Any, _: Any) -> None:
        c, i = m.load(cells, j * lanes, lanes), m.load(k, j * lanes, lanes)
        m.store(cells, j * lanes, m.select((c > -1) & (i > -1), c * n + i, outside))

    m.loop(0, BLOCK // lanes, body)


@njit(nogil=True, error_model="numpy")
def _searched(x, edges, lo, hi, first, n, k, m):  # type: ignore[no-untyped-def]
    """The last edge not above x, by halving."""
    for j in range(m):
        low, length = first, n + 1
        while length > 1:
            half = length // 2
            low = low + half if edges[np.uint64(low + half)] <= x[j] else low
            length -= half
        k[j] = np.int32(min(low - first, n - 1)) if (x[j] >= lo) & (x[j] <= hi) else np.int32(-1)


@njit(nogil=True, error_model="numpy")
def locate(spec, columns, start, m, axes, edges, clip, x, k, close, cells):  # type: ignore[no-untyped-def]
    """cells[j] = the flat cell of point start + j, -1 for what is outside or NaN; x, k, close are working memory."""
    for a in range(len(columns)):
        column, axis = columns[a], axes[a]
        for j in range(m):
            x[j] = column[np.uint64(start + j)]
        if axis[WRAPS]:
            _wrapped(x, axis[LO], axis[HI], m)
        if clip:
            _held(x, axis[LO], axis[HI], m)
        into = k if a else cells
        n = np.int32(axis[COUNT])
        if axis[SEARCHED]:
            _searched(x, edges, axis[LO], axis[HI], np.int64(axis[FIRST]), n, into, m)
        else:
            guess(spec, x, axes, a, into, close)
            if close.max() > 0:
                compare(spec, x, axes, a, edges, into)
        if a:
            combine(spec, cells, n, k)


@njit(nogil=True, error_model="numpy")
def memory(edges):  # type: ignore[no-untyped-def]
    """Working memory of locate."""
    x = np.zeros(BLOCK, edges.dtype)
    k, cells = np.zeros(BLOCK, np.int32), np.zeros(BLOCK, np.int32)
    return x, k, np.zeros(WHOLE // edges.itemsize, edges.dtype), cells


@njit(nogil=True, error_model="numpy")
def wanted(where, start, m):  # type: ignore[no-untyped-def]
    """Whether the mask lets any of these points through; one without elements does all."""
    if len(where) == 0:
        return True
    found = np.int32(0)
    for j in range(m):
        found |= np.int32(where[np.uint64(start + j)] > 0)
    return found > 0


@njit(nogil=True, error_model="numpy")
def left_out(where, start, m, cells):  # type: ignore[no-untyped-def]
    """cells[j] = -1 where the mask says so; how many of the others are outside."""
    lost = np.int32(0)
    if len(where):
        for j in range(m):
            let = where[np.uint64(start + j)] > 0
            lost += np.int32((cells[j] < 0) & let)
            cells[j] = cells[j] if let else np.int32(-1)
    else:
        for j in range(m):
            lost += np.int32(cells[j] < 0)
    return lost


def _index(spec, columns, axes, edges, clip, out, start, stop):  # type: ignore[no-untyped-def]
    """out[i] = the flat cell of point i."""
    x, k, close, cells = memory(edges)
    for i in range(start, stop, BLOCK):
        m = min(BLOCK, stop - i)
        locate(spec, columns, i, m, axes, edges, clip, x, k, close, cells)
        for j in range(m):
            out[i + j] = cells[j]


def layout(*lines: Array) -> str:
    """The layout of 1-D arrays together: contiguous, or any."""
    return "C" if all(line.flags.c_contiguous for line in lines) else "A"


def plain(line: Array) -> Array:
    """Booleans as bytes, which Numba compares by vectors; nothing is copied."""
    return line.view(np.uint8) if line.dtype == np.bool_ else line


def columns_type(columns: Sequence[Array]) -> tuple[str, types.Type]:
    """A text and the Numba type of coordinate arrays of one dtype."""
    dtype, order = columns[0].dtype.name, layout(*columns)
    return f"{dtype}{order}{len(columns)}", types.UniTuple(array(dtype, 1, order), len(columns))


def axes_types(columns: types.Type, real: str) -> tuple[types.Type, ...]:
    """Of the arguments with which every kernel here begins."""
    return PLAIN._numba_type_, columns, array(real, 2, "C"), array(real, 1, "C"), types.boolean  # type: ignore[attr-defined]


@functools.cache
def _index_entry(label: str, columns: types.Type, real: str) -> Any:
    args = *axes_types(columns, real), array("int64", 1, "C"), types.int64, types.int64
    return compiled(_index, f"{label}_{real}", args)


class Axes:
    """Cells given by their edges along each axis, as the kernels read them.

    Parameters: increasing edges of each axis; whether they are those of np.linspace, where they may be guessed;
    whether axes wrap; what is inside, where that is not from the first edge to the last; whether coordinates are
    float32 and may be compared as such.
    """

    def __init__(
        self,
        edges: Sequence[Array],
        uniform: Sequence[bool],
        wraps: Sequence[bool] | None = None,
        inside: Sequence[tuple[Any, Any]] | None = None,
        single: bool = False,
    ) -> None:
        self.shape = tuple(len(e) - 1 for e in edges)
        self.size, first, rows = prod(self.shape), 0, []
        # float32 where all is, and the guess is good to 1/32 of a cell: twice as many in a vector
        self.dtype, single = np.dtype(np.float64), single and all(e.dtype == np.float32 for e in edges)
        guesses = [self._guess(e, np.float32 if single else np.float64) for e in edges]
        if single and all(u and g[2] < 1 / 32 for u, g in zip(uniform, guesses, strict=True)):
            self.dtype = np.dtype(np.float32)
        elif single:
            guesses = [self._guess(e, np.float64) for e in edges]
        for a, (e, guess) in enumerate(zip(edges, guesses, strict=True)):
            lo, hi = (e[0], e[-1]) if inside is None else inside[a]
            searched = not (uniform[a] and guess[2] < 1 / 4)
            real, (shift, scale, near) = self.dtype.type, guess
            beyond = np.nextafter(real(lo), real(-np.inf)), np.nextafter(real(hi), real(np.inf))
            ways = len(e) - 1, first, searched, wraps is not None and wraps[a]
            rows.append([lo, hi, *ways, *beyond, shift, scale, near, 1 - near, len(e) - 2])
            first += len(e)
        self.table = np.array(rows, self.dtype)
        self.edges = np.concatenate([np.asarray(e, self.dtype) for e in edges])

    @staticmethod
    def _guess(edges: Array, real: Any) -> tuple[float, float, float]:
        """Origin, cells per unit, and the greatest error of (x - origin) scale in cells."""
        n, own = len(edges) - 1, edges.dtype if edges.dtype.kind == "f" else np.float64
        info = max(np.finfo(real), np.finfo(own), key=lambda i: i.eps)  # edges were rounded to their own type
        lo, hi = float(edges[0]), float(edges[-1])
        with np.errstate(all="ignore"):
            scale = float(n / np.float64(hi - lo))
            # of the product, and of edge and coordinate, which are rounded to the spacing of numbers out there
            near = n * 8 * info.eps + 4 * info.eps * max(abs(lo), abs(hi)) * scale + 4 * info.smallest_subnormal * scale
            usable = np.isfinite(hi - lo) and info.smallest_normal < scale < info.max
        return lo, scale, float(near) if usable and near == near else np.inf

    def args(self, columns: Sequence[Array], clip: bool) -> tuple[Any, ...]:
        """What every kernel here begins with. clip: points outside are held at the ends."""
        return PLAIN, tuple(columns), self.table, self.edges, clip

    def index(self, columns: Sequence[Array], clip: bool = False) -> Array:
        """Flat cells of points given by their coordinates (n,) along each axis, int64, -1 outside."""
        n = len(columns[0])
        out = np.empty(n, np.int64)
        kernel = _index_entry(*columns_type(columns), self.dtype.name)
        threads.over(functools.partial(kernel, *self.args(columns, clip), out), n, LOCATE_NS * n * len(columns))
        return out
