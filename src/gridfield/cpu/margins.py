"""pad and fold: continue a grid beyond its ends, and the transpose.

The padded grid has its channels last, (batch, *padded, channels), as the taps read them. Samples beyond the ends are
combinations of samples on the same line (boundary.Extension), so the margins are made axis by axis, each from the
whole extent of the axes before it. Any number of axes: an axis is (outer, n, inner) in flat memory.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numba import njit, types

from .cache import array, compiled


# dims rows: n, padded n, samples before
@njit(nogil=True, error_model="numpy")
def _place(dims, lines, line):  # type: ignore[no-untyped-def]
    """Where line `line` of all batch items begins in the padded grid, in samples."""
    nd = dims.shape[1]
    place, size, rest = dims[2, nd - 1], dims[1, nd - 1], line % lines
    for a in range(nd - 2, -1, -1):
        place += (rest % dims[0, a] + dims[2, a]) * size
        size *= dims[1, a]
        rest //= dims[0, a]
    return place + line // lines * size


@njit(nogil=True, error_model="numpy")
def _rows(flat, padded, dims, channels, start, stop, inward):  # type: ignore[no-untyped-def]
    """Copy lines start ... stop of flat (batch, channels, *shape) into the middle of padded (batch, *padded, channels),
    or back."""
    nd = dims.shape[1]
    n = dims[0, nd - 1]
    lines = 1
    for a in range(nd - 1):
        lines *= dims[0, a]
    run = dims[0, nd - 2] if nd > 1 else 1  # lines that follow one another: no divisions between them
    line = start
    while line < stop:
        place = _place(dims, lines, line)
        for _ in range(min(run - line % run, stop - line)):
            at = place * channels
            for c in range(channels):
                source = (line // lines * (channels - 1) * lines + c * lines + line) * n
                if channels == 1:  # no slice is assigned: the text of its errors takes 3 s to compile
                    outer, inner = padded[at : at + n], flat[source : source + n]
                    for k in range(n):
                        if inward:
                            outer[k] = inner[k]
                        else:
                            inner[k] = outer[k]
                elif inward:
                    for k in range(n):
                        padded[at + k * channels + c] = flat[source + k]
                else:
                    for k in range(n):
                        flat[source + k] = padded[at + k * channels + c]
            place += dims[1, nd - 1]
            line += 1


@njit(nogil=True, error_model="numpy")
def _margins_in(dst, dims, batch, channels, index, weight, rest, cval):  # type: ignore[no-untyped-def]
    """Fill the margins of dst from its middle."""
    nd = dims.shape[1]
    inner, outer = channels, batch
    for a in range(nd):
        inner *= dims[1, a]
    for a in range(nd):
        n, size, before = dims[0, a], dims[1, a], dims[2, a]
        inner //= size
        for e in range(size - n):
            row = (e if e < before else e + n) * inner
            for o in range(outer):
                for j in range(o * size * inner + row, o * size * inner + row + inner):
                    dst[j] = cval if rest[a, e] != 0 else 0.0
            for t in range(index.shape[2]):
                w, shift = weight[a, e, t], (before + index[a, e, t]) * inner - row
                if w != 0:
                    for o in range(outer):
                        for j in range(o * size * inner + row, o * size * inner + row + inner):
                            dst[j] += w * dst[j + shift]
        outer *= size


@njit(nogil=True, error_model="numpy")
def _margins_out(dst, dims, batch, channels, index, weight):  # type: ignore[no-untyped-def]
    """The transpose: add the margins of dst to the samples they were made of, last axis first."""
    nd = dims.shape[1]
    inner, outer = channels, batch
    for a in range(nd):
        outer *= dims[1, a]
    for a in range(nd - 1, -1, -1):
        n, size, before = dims[0, a], dims[1, a], dims[2, a]
        outer //= size
        for e in range(size - n):
            row = (e if e < before else e + n) * inner
            for t in range(index.shape[2]):
                w, shift = weight[a, e, t], (before + index[a, e, t]) * inner - row
                if w != 0:
                    for o in range(outer):
                        for j in range(o * size * inner + row, o * size * inner + row + inner):
                            dst[j + shift] += w * dst[j]
        inner *= size


def _pad(src, dst, dims, batch, channels, start, stop, margins, index, weight, rest, cval):  # type: ignore[no-untyped-def]
    """Copy lines start ... stop into the middle; then, if asked, fill the margins."""
    _rows(src, dst, dims, channels, start, stop, True)
    if margins:
        _margins_in(dst, dims, batch, channels, index, weight, rest, cval)


def _fold(src, dst, dims, batch, channels, start, stop, margins, index, weight):  # type: ignore[no-untyped-def]
    """If asked, fold the margins; then copy the middle out to lines start ... stop."""
    if margins:
        _margins_out(src, dims, batch, channels, index, weight)
    _rows(dst, src, dims, channels, start, stop, False)


@functools.cache
def entry(kind: str, dtype: str) -> Any:
    """The compiled function: "pad" or "fold"."""
    flat, i64 = array(dtype, 1, "C"), types.int64
    shared = (flat, flat, array(np.int64, 2, "C"), i64, i64, i64, i64, types.boolean)
    tables = (array(np.int64, 3, "C"), array(dtype, 3, "C"))
    if kind == "pad":
        return compiled(_pad, dtype, (*shared, *tables, array(dtype, 2, "C"), types.float64))
    return compiled(_fold, dtype, (*shared, *tables))
