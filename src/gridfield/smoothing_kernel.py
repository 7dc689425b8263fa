"""The weights that a neighbourhood is smoothed with: ball, shell, box, gaussian, as arrays of odd sizes."""

from __future__ import annotations

import functools
from math import ceil, isfinite, prod
from typing import Any

import numpy as np

from .arguments import LENGTH, items, per_axis

Array = np.ndarray[Any, Any]
PerAxis = tuple[float, ...]

KERNELS = ("ball", "gaussian", "box", "shell")
CHORDS = 16  # across a cell along each axis but the last, along which the part inside is exact: to 1e-4 of the whole
STEPS = 2.0**40  # weights are multiples of its inverse, so that rows as far from the axis are equal to the bit
TRUNCATE = 4.0  # standard deviations, as scipy.ndimage
MOST = 2**24  # weights, and chords


def _reach(radius: float, step: float) -> int:
    """How many cells from the middle one the radius reaches into."""
    return max(ceil(radius / step - 0.5), 0)


def ball(radius: float, spacing: PerAxis, half: tuple[int, ...] | None = None) -> Array:
    """The part of each cell that lies within `radius` of the centre of the middle one.

    Along the last axis the part of a line that is inside is known; it is the mean over lines, at CHORDS places across
    a cell along each of the other axes.
    """
    half = half or tuple(_reach(radius, h) for h in spacing)
    squares: Any = 0.0
    for a, (m, h) in enumerate(zip(half[:-1], spacing[:-1], strict=True)):
        places = (np.arange(m + 1)[:, None] + (np.arange(CHORDS) + 0.5) / CHORDS - 0.5) * h  # of half the ball
        shape = [1] * (2 * (len(half) - 1))
        shape[2 * a], shape[2 * a + 1] = places.shape
        squares = squares + (places**2).reshape(shape)
    chord = np.sqrt(np.maximum(radius**2 - squares, 0)) / spacing[-1]  # half of it, in cells
    lines = tuple(range(0, chord.ndim, 2))
    chord = chord.transpose(*lines, *range(1, chord.ndim, 2)).reshape(*[m + 1 for m in half[:-1]], -1)
    short, long = chord.min(-1), chord.max(-1)
    parts = []
    for k in range(half[-1] + 1):
        part = np.asarray(short >= k + 0.5, float)
        rim = (short < k + 0.5) & (long > k - 0.5)  # the other cells are all inside or all outside
        inside = np.minimum(chord[rim], 0.5) * 2 if k == 0 else np.clip(chord[rim] - (k - 0.5), 0, 1)
        part[rim] = inside.mean(-1)
        parts.append(part)
    quarter = np.round(np.stack(parts, -1) * STEPS) / STEPS
    for a in range(quarter.ndim):
        quarter = np.concatenate([np.flip(quarter, a)[_but_last(a)], quarter], a)
    return quarter


def _but_last(axis: int) -> tuple[slice, ...]:
    return (*[slice(None)] * axis, slice(-1))


def box(radius: PerAxis, spacing: PerAxis) -> Array:
    """The part of each cell within `radius` along every axis."""
    lines = []
    for r, h in zip(radius, spacing, strict=True):
        k = np.abs(np.arange(-_reach(r, h), _reach(r, h) + 1))
        lines.append(np.where(k == 0, min(2 * r / h, 1.0), np.clip(r / h - (k - 0.5), 0, 1)))
    return functools.reduce(np.multiply.outer, lines)


def gaussian(sigma: PerAxis, radius: PerAxis, spacing: PerAxis) -> Array:
    """exp(-x**2 / (2 sigma**2)) at the samples, cut off at `radius` along every axis."""
    lines = []
    for s, r, h in zip(sigma, radius, spacing, strict=True):
        k = np.arange(-int(r / h + 0.5), int(r / h + 0.5) + 1)
        lines.append(np.exp(-0.5 * (k * h / s) ** 2))
    return functools.reduce(np.multiply.outer, lines)


def weights(kernel: Any, radius: Any, sigma: Any, spacing: PerAxis, where: str) -> Array:
    """The weights as users say them."""
    if not isinstance(kernel, str):
        if radius is not None or sigma is not None:
            raise ValueError(f"{where}: radius and sigma go with a kernel by name, not with an array")
        return _given(kernel, len(spacing), where)
    if kernel not in KERNELS:
        raise ValueError(f"{where}: kernel must be one of {', '.join(map(repr, KERNELS))}, or an array, got {kernel!r}")
    if (sigma is not None) != (kernel == "gaussian"):
        raise ValueError(
            f"{where}: kernel 'gaussian' needs sigma"
            if sigma is None
            else f"{where}: sigma goes with the kernel 'gaussian', not with {kernel!r}"
        )
    if radius is None and kernel != "gaussian":
        raise ValueError(f"{where}: kernel {kernel!r} needs a radius")
    try:
        return _named(kernel, _hashable(radius), _hashable(sigma), spacing, where)
    except TypeError:
        return _named.__wrapped__(kernel, radius, sigma, spacing, where)


def _hashable(x: Any) -> Any:
    given = items(x)
    return x if given is None else tuple(given)


@functools.lru_cache(maxsize=64, typed=True)
def _named(kernel: str, radius: Any, sigma: Any, spacing: PerAxis, where: str) -> Array:
    ndim = len(spacing)
    if kernel == "shell" and items(radius) is not None:
        inner, outer = per_axis(where, "radius", radius, 2, LENGTH)
        if not inner < outer:
            raise ValueError(f"{where}: radius {radius!r} of a shell must be (inner, outer), inner < outer")
    elif kernel in ("ball", "shell"):
        (outer,) = per_axis(where, "radius", radius, 1, LENGTH)
        inner = outer - min(spacing) / 2
        outer += (kernel == "shell") * min(spacing) / 2
    if kernel in ("ball", "shell"):
        half = tuple(_reach(outer, h) for h in spacing)
        _few(tuple(2 * m + 1 for m in half), where, CHORDS ** (ndim - 1) * prod(m + 1 for m in half[:-1]))
        out = ball(outer, spacing)
        if kernel == "shell" and inner > 0:
            out = out - ball(inner, spacing, tuple(n // 2 for n in out.shape))
        return _locked(out)
    if kernel == "box":
        reach = per_axis(where, "radius", radius, ndim, LENGTH)
        _few(tuple(2 * _reach(r, h) + 1 for r, h in zip(reach, spacing, strict=True)), where)
        return _locked(box(reach, spacing))
    deviations = per_axis(where, "sigma", sigma, ndim, LENGTH)
    reach = (
        tuple(TRUNCATE * s for s in deviations) if radius is None else per_axis(where, "radius", radius, ndim, LENGTH)
    )
    _few(tuple(2 * int(min(r / h, 1e9) + 0.5) + 1 for r, h in zip(reach, spacing, strict=True)), where)
    return _locked(gaussian(deviations, reach, spacing))


def _few(shape: tuple[int, ...], where: str, chords: int = 1) -> None:
    if max(prod(shape), chords) > MOST:
        raise ValueError(f"{where}: the kernel would have {shape} weights: the radius is in units of the grid")


def _locked(x: Array) -> Array:
    x.setflags(write=False)
    return x


def _given(kernel: Any, ndim: int, where: str) -> Array:
    """An array of weights, which do not depend on anything."""
    if getattr(kernel, "requires_grad", False):
        raise TypeError(f"{where}: kernel is constant to derivatives, but is a tensor that requires them: detach it")
    try:
        table = np.array(kernel, np.float64) if not np.iscomplexobj(kernel) else None
    except (TypeError, ValueError, RuntimeError):
        table = None
    if table is None:
        raise TypeError(f"{where}: kernel must be a word or an array of real numbers, got {type(kernel).__name__}")
    if table.ndim != ndim or any(n % 2 == 0 for n in table.shape):
        raise ValueError(
            f"{where}: kernel has shape {table.shape} but must have an odd number of weights along each of {ndim} axes"
        )
    if not all(map(isfinite, (float(table.min()), float(table.max())))):
        raise ValueError(f"{where}: kernel must hold finite numbers")
    return table
