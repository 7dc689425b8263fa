"""Multiplication by a multilevel Toeplitz matrix, whose entries depend on k - k' alone: a convolution of modes.

Modes are transformed to a grid at least twice as fine, multiplied by the real spectrum there, and transformed back, by
the pruned FFT of fourier.py. Along the first axis all three are done at once, in the cache: the whole fine grid never
exists (of 64**3 modes in complex128 32 MB, written and read twice).
"""

from __future__ import annotations

import functools
from math import log2, prod
from typing import Any

import numpy as np
from numba import types

from . import threads
from .cache import array, compiled
from .fourier import NS, Axis, Lines, Transform, _back, _towards, clear, fine_size, read_columns, write_columns
from .machine import staged
from .scratch import scratch

Array = np.ndarray[Any, Any]

LAST = 16  # what the size of the last axis is a multiple of: whole vectors in either type


def sizes(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Of the fine grid: as many frequencies as there are differences k - k', and more."""
    last = fine_size(2 * shape[-1])
    while last % LAST:
        last = fine_size(last + 1)
    return *(fine_size(2 * n) for n in shape[:-1]), last


@staged
def multiply(m: Any, spec: Any, buf: Any, spectrum: Any, start: Any, step: Any, count: Any) -> None:
    """buf[k] times spectrum[start + k step ...], a column per lane; re and im change places, for the way back."""
    n = spec.lanes

    def body(k: Any, _: Any) -> None:
        scale, at = m.load(spectrum, start + k * step, n), k * (2 * n)
        re, im = m.load(buf, at, n), m.load(buf, at + n, n)
        m.store(buf, at, im * scale)
        m.store(buf, at + n, re * scale)

    m.loop(0, count, body)


def _columns(spec, x, spectrum, ints, wide, at, turns, narrow, back_at, back_turns, factor, a, b, first, stop):  # type: ignore[no-untyped-def]
    """The first axis of x, in place, all others being fine: there, times the spectrum, and back."""
    n, nf, zero, lowest, post, lanes = ints[0], ints[1], ints[2], ints[3], ints[4], ints[5]
    high, low, step = (n + 1) // 2, n // 2, 2 * post
    for task in range(first, stop):
        column = 2 * lanes * task
        clear(spec, a, high, nf // 4)
        clear(spec, a, nf - nf // 4, nf - low)
        read_columns(spec, x, column + zero * step, step, high, factor, zero, a, 0, 0)
        read_columns(spec, x, column + lowest * step, step, low, factor, lowest, a, nf - low, 0)
        if _towards(spec, a, b, wide, turns, at, nf, True):
            a, b = b, a
        multiply(spec, a, spectrum, lanes * task, post, nf)
        if _back(spec, a, b, narrow, back_turns, back_at, nf, True):
            a, b = b, a
        write_columns(spec, x, column + zero * step, step, high, factor, zero, a, 0, lanes)
        write_columns(spec, x, column + lowest * step, step, low, factor, lowest, a, nf - low, lanes)


@functools.cache
def _entry(dtype: str) -> tuple[Any, Lines]:
    spec = Lines(64 // np.dtype(dtype).itemsize)
    real, whole, i64 = array(dtype, 1, "C"), array(np.int64, 1, "C"), types.int64
    side = whole, whole, real
    signature = spec._numba_type_, real, real, whole, *side, *side, real, real, real, i64, i64  # type: ignore[attr-defined]
    return compiled(_columns, dtype, signature), spec


class Toeplitz(Transform):
    """The convolution of modes of some shape, of two axes or more."""

    def __init__(self, shape: tuple[int, ...], centered: bool, dtype: str) -> None:
        # the two transforms together are nf times too large
        axes = [
            Axis(n, nf, 0, centered, np.full(n, nf**-0.5), dtype) for n, nf in zip(shape, sizes(shape), strict=True)
        ]
        super().__init__(axes, dtype)
        a = axes[0]
        self.post = prod(self.grid[1:])
        self.ints = np.array([a.n, a.nf, a.zero, a.lowest, self.post, self.lanes])

    def __call__(self, modes: Array, spectrum: Array, out: Array) -> None:
        """out[k] = 1 / size sum_l spectrum[l] exp(2 pi i k l / nf) sum_k' exp(-2 pi i k' l / nf) modes[k']; flat."""
        nd, a = len(self.axes), self.axes[0]
        (kernel, spec), room = _entry(self.dtype.name), 2 * self.lanes * (a.nf + 3 * self.lanes)
        tasks = self.post // self.lanes
        there, back = ((side.factors, side.at, side.twiddles) for side in (a.wide, a.narrow))

        with scratch(2 * a.n * self.post, self.dtype) as x:

            def run(first: int, stop: int) -> None:
                with scratch(2 * room, self.dtype) as buffers:
                    kernel(spec, x, spectrum, self.ints, *there, *back, a.factor, buffers[:room], buffers[room:], first,
                           stop)  # fmt: skip

            self._chain(range(nd - 1, 0, -1), True, modes, x, -1)
            threads.over(run, tasks, 2 * NS * self.post * a.nf * log2(a.nf), align=1)
            self._chain(range(1, nd), False, x, out, 1)


@functools.lru_cache(maxsize=64)
def _toeplitz(shape: tuple[int, ...], centered: bool, dtype: str) -> Toeplitz:
    return Toeplitz(shape, centered, dtype)


def convolve(modes: Array, spectrum: Array, centered: bool) -> Array:
    """Of modes (b, c, *shape), complex, with spectra (b, *sizes), real, of the same precision."""
    modes, spectrum = np.ascontiguousarray(modes), np.ascontiguousarray(spectrum)
    out, real = np.empty_like(modes), spectrum.dtype
    items = [(b, c) for b in range(modes.shape[0]) for c in range(modes.shape[1])]
    plan = _toeplitz(modes.shape[2:], centered, real.name)

    def item(b: int, c: int) -> None:
        plan(modes[b, c].reshape(-1).view(real), spectrum[b].reshape(-1), out[b, c].reshape(-1).view(real))

    threads.run([functools.partial(item, *i) for i in items])
    return out
