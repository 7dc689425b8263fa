"""Cells given by their edges along each axis, and which of them points are in; the kernels are those of cells.py."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from math import prod
from typing import Any

import numpy as np
from numba import types

from . import threads
from .cache import array, compiled
from .cells import (
    BLOCK,
    BYTES,
    CHUNK,
    CLIP,
    DIRECT,
    FAR,
    HERE,
    LOCATE_NS,
    NEAR,
    NUMBERS,
    TOGETHER,
    WRAPS,
    CellSpec,
    in_cells,
    in_mask,
)  # fmt: skip
from .machine import WHOLE

Array = np.ndarray[Any, Any]

NOTHING = np.empty(0, np.uint8)
FEW = 0.5  # of the points in a mask: fewer are put together before they are located
MOST = 2**31 - 2**16  # cells, as they are numbered in 32 bits


def layout(*lines: Array) -> str:
    """The layout of 1-D arrays together: contiguous, or any."""
    return "C" if all(line.flags.c_contiguous for line in lines) else "A"


def plain(line: Array) -> Array:
    """Booleans as bytes, which Numba compares by vectors; nothing is copied."""
    return line.view(np.uint8) if line.dtype == np.bool_ else line


def _put(some, whose, n, out, start):  # type: ignore[no-untyped-def]
    """out[start + whose] = some."""
    for j in range(n):
        out[np.uint64(start + whose[j])] = some[j]


@functools.cache
def _entry(label: str, spec: types.Type, columns: types.Type, real: str, sparse: bool = False) -> Any:
    line, i64, begin = array(real, 1, "C"), types.int64, (spec, columns, array(real, 2, "C"))
    found = array("int64", 1, "C")
    room = types.Tuple((line, NUMBERS, line, NUMBERS, BYTES, BYTES, found))
    args = (*begin, line, i64, BYTES, room, NUMBERS, NUMBERS, found, i64, i64)
    return compiled(in_mask if sparse else in_cells, label, args)


@functools.cache
def _put_entry() -> Any:
    return compiled(_put, "", (*HERE, array("int64", 1, "C"), types.int64))


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
        if single and all(u and max(g[2:]) < 1 / 32 for u, g in zip(uniform, guesses, strict=True)):
            self.dtype = np.dtype(np.float32)
        elif single:
            guesses = [self._guess(e, np.float64) for e in edges]
        for a, (e, (shift, scale, near, far)) in enumerate(zip(edges, guesses, strict=True)):
            lo, hi = (e[0], e[-1]) if inside is None else inside[a]
            searched = not (uniform[a] and max(near, far) < 1 / 4)
            ways = len(e) - 1, first, searched, wraps is not None and wraps[a]
            rows.append([lo, hi, *ways, shift, scale, near, 1 - far, len(e) - 2])
            first += len(e)
        self.table = np.array(rows, self.dtype)
        # asked of all axes at once
        self.table[:, NEAR], self.table[:, FAR] = self.table[:, NEAR].max(), self.table[:, FAR].min()
        self.edges = np.concatenate([np.asarray(e, self.dtype) for e in edges])

    @staticmethod
    def _guess(edges: Array, real: Any) -> tuple[float, float, float, float]:
        """Origin, cells per unit, and how far above and below their number edges come out as (x - origin) scale.

        That grows with x whatever is rounded, so that what is below an edge comes out no further above its number than
        the edge itself, and what is not below no further below: nothing else can be put into the wrong cell.
        """
        n, info = len(edges) - 1, np.finfo(real)
        lo, hi = float(edges[0]), float(edges[-1])
        with np.errstate(all="ignore"):
            scale = float(n / np.float64(hi - lo))
            if not (np.isfinite(hi - lo) and info.smallest_normal < scale < info.max):
                return lo, 0.0, np.inf, np.inf
            off = ((edges.astype(real) - real(lo)) * real(scale)).astype(np.float64) - np.arange(n + 1)
            # where subnormals are flushed to 0, and of the comparison itself
            more = 4 * float(info.smallest_normal) * scale + 4 * float(info.eps)
        return lo, scale, float(max(off.max(), 0.0) + more), float(max(-off.min(), 0.0) + more)

    def inside(
        self, columns: Sequence[Array], where: Array | None = None, clip: bool = False, numbered: bool = True
    ) -> Callable[[int, int], Iterator[tuple[int, Array, Array, int, int]]]:
        """What goes through points i ... j, a chunk at a time: (number of the first, cells of those that are in one and
        in the mask, their numbers counted from the first, how many, how many in the mask are in no cell).

        columns: coordinates (n,) along each axis, of one type; clip: points outside are held at the ends.
        """
        first, nd = columns[0], len(columns)
        size, base, real = first.itemsize, first.ctypes.data, self.dtype
        together = nd > 1 and first.dtype == real and all(
            c.strides[0] == nd * size and c.ctypes.data == base + a * size for a, c in enumerate(columns)
        )  # fmt: skip
        name, order = first.dtype.name, layout(*columns)
        alone = nd == 1 and first.dtype == real and order == "C"
        direct = (together or alone) and not (clip or self.table[:, WRAPS].any())
        spec = CellSpec(nd, together, direct, numbered)
        label = f"{name}{order}{nd}_{real}{'_together' * together}{'_direct' * direct}{'_numbered' * numbered}"
        line: Any = types.UniTuple(array(name, 1, order), nd)
        kernel = _entry(label, spec._numba_type_, line, real.name)  # type: ignore[attr-defined]
        begin = tuple(columns), self.table, self.edges, CLIP * clip + TOGETHER * together + DIRECT * direct
        few = CellSpec(nd, False, False, False) if direct and nd == 1 and where is not None and not numbered else None
        sparse = few and _entry(f"{name}_{real}", few._numba_type_, line, real.name, True)  # type: ignore[attr-defined]

        def chunks(start: int, stop: int) -> Iterator[tuple[int, Array, Array, int, int]]:
            near, k, cells = (
                np.empty(WHOLE // real.itemsize, real),
                np.empty(BLOCK, np.int32),
                np.empty(BLOCK, np.int32),
            )
            part, every, ahead = np.empty(BLOCK, np.uint8), np.ones(BLOCK, np.uint8), np.empty(2, np.int64)
            room = np.zeros(BLOCK * (nd + 2), real), k, near, cells, part, every, ahead
            length = CHUNK if numbered else 2 * CHUNK
            some, whose = np.empty(length + BLOCK, np.int32), np.empty(length + BLOCK if numbered else 0, np.int32)
            found = np.empty(2, np.int64)
            mask, through = NOTHING, length
            for i in range(start, stop, length):
                j = min(i + length, stop)
                if where is not None:
                    mask = where[i:j]
                    mask = plain(mask if mask.dtype == np.bool_ and mask.flags.c_contiguous else mask > 0)
                # how many are let through of what comes is guessed by what came
                run, how = (sparse, few) if sparse and through < FEW * length else (kernel, spec)
                run(how, *begin, mask, room, some, whose, found, i, j)
                count, through = found.tolist()
                yield i, some, whose, count, (j - i if where is None else through) - count

        return chunks

    def index(self, columns: Sequence[Array], clip: bool = False) -> Array:
        """Flat cells of points given by their coordinates (n,) along each axis, int64, -1 outside."""
        n = len(columns[0])
        out, put, inside = np.full(n, -1), _put_entry(), self.inside(columns, clip=clip)

        def run(start: int, stop: int) -> None:
            for i, *here, _ in inside(start, stop):
                put(*here, out, i)

        threads.over(run, n, LOCATE_NS * n * len(columns))
        return out
