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
def _rows_in(src, dst, dims, channels, start, stop):  # type: ignore[no-untyped-def]
    """Copy lines start ... stop of src (batch, channels, *shape) into the middle of dst (batch, *padded, channels)."""
    nd = dims.shape[1]
    n = dims[0, nd - 1]
    lines = 1
    for a in range(nd - 1):
        lines *= dims[0, a]
    for line in range(start, stop):
        item, r = line // lines, line % lines
        place, size, rest = dims[2, nd - 1], dims[1, nd - 1], r
        for a in range(nd - 2, -1, -1):
            place += (rest % dims[0, a] + dims[2, a]) * size
            size *= dims[1, a]
            rest //= dims[0, a]
        place = (place + item * size) * channels
        for c in range(channels):
            source = ((item * channels + c) * lines + r) * n
            if channels == 1:
                dst[place : place + n] = src[source : source + n]
            else:
                for k in range(n):
                    dst[place + k * channels + c] = src[source + k]


@njit(nogil=True, error_model="numpy")
def _rows_out(src, dst, dims, channels, start, stop):  # type: ignore[no-untyped-def]
    """The way back: the middle of src (batch, *padded, channels) to lines of dst (batch, channels, *shape)."""
    nd = dims.shape[1]
    n = dims[0, nd - 1]
    lines = 1
    for a in range(nd - 1):
        lines *= dims[0, a]
    for line in range(start, stop):
        item, r = line // lines, line % lines
        place, size, rest = dims[2, nd - 1], dims[1, nd - 1], r
        for a in range(nd - 2, -1, -1):
            place += (rest % dims[0, a] + dims[2, a]) * size
            size *= dims[1, a]
            rest //= dims[0, a]
        place = (place + item * size) * channels
        for c in range(channels):
            target = ((item * channels + c) * lines + r) * n
            if channels == 1:
                dst[target : target + n] = src[place : place + n]
            else:
                for k in range(n):
                    dst[target + k] = src[place + k * channels + c]


@njit(nogil=True, error_model="numpy")
def _margins_in(dst, dims, batch, channels, index, weight, rest, cval):  # type: ignore[no-untyped-def]
    """Fill the margins of dst from its middle."""
    nd = dims.shape[1]
    inner = channels
    for a in range(nd):
        inner *= dims[1, a]
    outer = batch
    for a in range(nd):
        n, size, before = dims[0, a], dims[1, a], dims[2, a]
        inner //= size
        for o in range(outer):
            for e in range(size - n):
                row = (o * size + (e if e < before else e + n)) * inner
                for j in range(inner):
                    dst[row + j] = cval if rest[a, e] != 0 else 0.0
                for t in range(index.shape[2]):
                    w = weight[a, e, t]
                    if w != 0:
                        source = (o * size + before + index[a, e, t]) * inner
                        for j in range(inner):
                            dst[row + j] += w * dst[source + j]
        outer *= size


@njit(nogil=True, error_model="numpy")
def _margins_out(dst, dims, batch, channels, index, weight):  # type: ignore[no-untyped-def]
    """The transpose: add the margins of dst to the samples they were made of, last axis first."""
    nd = dims.shape[1]
    inner = channels
    outer = batch
    for a in range(nd):
        outer *= dims[1, a]
    for a in range(nd - 1, -1, -1):
        n, size, before = dims[0, a], dims[1, a], dims[2, a]
        outer //= size
        for o in range(outer):
            for e in range(size - n):
                row = (o * size + (e if e < before else e + n)) * inner
                for t in range(index.shape[2]):
                    w = weight[a, e, t]
                    if w != 0:
                        target = (o * size + before + index[a, e, t]) * inner
                        for j in range(inner):
                            dst[target + j] += w * dst[row + j]
        inner *= size


def _pad(src, dst, dims, batch, channels, start, stop, margins, index, weight, rest, cval):  # type: ignore[no-untyped-def]
    """Copy lines start ... stop into the middle; then, if asked, fill the margins."""
    _rows_in(src, dst, dims, channels, start, stop)
    if margins:
        _margins_in(dst, dims, batch, channels, index, weight, rest, cval)


def _fold(src, dst, dims, batch, channels, start, stop, margins, index, weight):  # type: ignore[no-untyped-def]
    """If asked, fold the margins; then copy the middle out to lines start ... stop."""
    if margins:
        _margins_out(src, dims, batch, channels, index, weight)
    _rows_out(src, dst, dims, channels, start, stop)


@functools.cache
def entry(kind: str, dtype: str) -> Any:
    """The compiled function: "pad" or "fold"."""
    flat, i64 = array(dtype, 1, "C"), types.int64
    shared = (flat, flat, array(np.int64, 2, "C"), i64, i64, i64, i64, types.boolean)
    tables = (array(np.int64, 3, "C"), array(dtype, 3, "C"))
    if kind == "pad":
        return compiled(_pad, dtype, (*shared, *tables, array(dtype, 2, "C"), types.float64))
    return compiled(_fold, dtype, (*shared, *tables))
