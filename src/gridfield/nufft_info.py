"""NufftInfo: what a non-uniform FFT chooses, and what it takes."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from .cpu import threads, waves
from .ops import static
from .scheme import decode
from .window import ROUNDING, error


@dataclass(frozen=True)
class NufftInfo:
    """How a non-uniform FFT is computed: what `return_info=True` gives beside the result.

    It depends on sizes and options, not on numbers, so a compiler may trace the call.

    Parameters
    ----------
    method : {"fft", "direct"} or None
        By a window and an FFT, or, of few points, as the sum that it stands for. None: that depends on a number of
        points that is not known while something traces; what follows is then that of "fft".
    taps : int or None
        Width of the window along each axis, in samples of the fine grid. One more than eps needs where derivatives in
        the points may be asked for. None for "direct".
    error : float
        Estimated relative error in l2, of input without a pattern.
    grid : tuple of int or None
        Shape of the fine grid, None for "direct".
    upsampling : tuple of float or None
        How many times finer than the modes it is, along each axis: 1.5 or 2, and what makes its size quick to
        transform. 1.5 takes more taps, and less time where modes are many beside points.
    sorted : bool or None
        Whether the points are taken in an order that suits the memory.
    precision : {"float32", "float64"}
        In which it is computed.
    threads : int
        How many may be used.
    memory : int or None
        Bytes of working memory, about, of one item of a batch, without arguments and result.

    Examples
    --------
    >>> import gridfield as gf, numpy as np
    >>> points = np.random.default_rng(0).uniform(-np.pi, np.pi, (20000, 2))
    >>> modes, info = gf.nufft1(points, np.ones(20000), (60, 64), eps=1e-6, return_info=True)
    >>> info.method, info.taps, info.grid, info.sorted, info.error < 1e-6
    ('fft', 7, (120, 128), True, True)
    >>> gf.nufft2(points[:5], modes, return_info=True)[1].method
    'direct'
    """

    method: str | None
    taps: int | None
    error: float
    grid: tuple[int, ...] | None
    upsampling: tuple[float, ...] | None
    sorted: bool | None
    precision: str
    threads: int
    memory: int | None


@static
def of_sums(text: str, dtype: str, points: Any) -> NufftInfo:
    """Of types 1 and 2; points: how many, None where that is not known."""
    scheme, plan = decode(text), waves.plan(text, dtype)
    points = points if isinstance(points, int) else None
    each = plan.dtype.itemsize
    if points is not None and plan.few(points):
        size = points * (16 * sum(scheme.shape) + 2 * each * (prod(scheme.shape[:-1]) + scheme.shape[-1]))
        return _direct(dtype, dtype, size)
    known = points is not None
    ordered = points >= plan.places.worth_sorting if known else None
    size = None
    if known:
        size = 3 * plan.size * each // 2 + points * (scheme.ndim * each + np.dtype(plan.places.index).itemsize + 8 + 16)
    return NufftInfo(
        "fft" if known else None,
        scheme.width,
        error(scheme.width, scheme.shape, dtype, scheme.sigma),
        plan.fine,
        tuple(nf / n for nf, n in zip(plan.fine, scheme.shape, strict=True)),
        ordered,
        dtype,
        threads.get_num_threads(),
        size,
    )


@static
def of_pairs(given: str, computed: str, rounding: float, pairs: Any) -> NufftInfo:
    """Of type 3 without a grid; rounding: of the phases."""
    return _direct(given, computed, (4 if computed == "float32" else 8) * 3 * pairs, rounding)


@static
def of_layout(text: str, taps: int, dtype: str, given: str, rounding: float, points: Any, memory: float) -> NufftInfo:
    """Of type 3: a splat with a window of so many taps, and type 2, of which text is."""
    inner, size = of_sums(text, dtype, None), decode(text).shape
    wrong = (inner.error**2 + error(taps, size, dtype) ** 2 + ROUNDING[given] ** 2 + rounding**2) ** 0.5
    enough = waves.plan(text, dtype).places.worth_sorting
    ordered = points >= enough if isinstance(points, int) else None
    return NufftInfo(
        "fft", taps, wrong, inner.grid, inner.upsampling, ordered, dtype, threads.get_num_threads(), int(memory)
    )


def _direct(given: str, computed: str, memory: int, rounding: float = 0.0) -> NufftInfo:
    return NufftInfo(
        "direct", None, ROUNDING[given] + rounding, None, None, False, computed, threads.get_num_threads(), int(memory)
    )
