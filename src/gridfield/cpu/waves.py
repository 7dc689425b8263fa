"""sample, splat and dot of waves: the non-uniform FFT, as window, FFT and the taps of any kernel.

    sample:  y[p] = sum_l phi(x_p - l) g[l],  g = FFT of c[k] / phi^(k) on a grid sigma times as fine (type 2)
    splat:   the transpose, step by step                                                            (type 1)

(A. Dutt, V. Rokhlin, SIAM J. Sci. Comput. 14 (1993), 1368-1393; L. Greengard, J.-Y. Lee, SIAM Rev. 46 (2004), 443-454.)
Derivatives in the points are those of phi, from the same g.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from math import ceil, prod
from typing import Any

import numpy as np

from ..scheme import Waves, decode
from ..window import band, window
from . import direct, threads
from .fourier import BYTES, Axis, Transform, fft_ns, fine_size
from .gathering import Gather
from .kept import finder
from .places import Located, fine
from .plan import SLACK
from .scattering import Scatter
from .scratch import scratch

Array = np.ndarray[Any, Any]

VECTOR_NS = 0.75  # measured, beside NS of fourier.py: 64 bytes of the taps of a point


def fine_grid(shape: tuple[int, ...], width: int, sigma: float) -> tuple[int, ...]:
    """Shape of the grid that a window of so many taps, made for sigma, goes with."""
    return tuple(fine_size(max(ceil(sigma * n), 2 * width)) for n in shape)


def cost_ns(shape: tuple[int, ...], width: int, sigma: float, dtype: str, points: int) -> float:
    """What depends on width and sigma of the time that a transform takes: the FFT, and the taps."""
    each = np.dtype(dtype).itemsize
    vectors = width ** (len(shape) - 1) * ceil(2 * each * width / BYTES)
    return fft_ns(shape, fine_grid(shape, width, sigma), dtype) + VECTOR_NS * vectors * points


class Plan:
    """Waves prepared for one dtype."""

    def __init__(self, waves: Waves, dtype: str) -> None:
        self.waves, self.dtype = waves, np.dtype(dtype)
        width, sigma = waves.width, waves.sigma
        kernel, self.fine = window(width, sigma), fine_grid(waves.shape, width, sigma)
        hats = (band(width, sigma, k / nf) for k, nf in zip(waves.modes, self.fine, strict=True))
        table = kernel.table()
        self.value, self.contracted = (Gather(table, waves.orders, dtype, dot) for dot in (False, True))
        self.back = Scatter(table, waves.orders, dtype)
        reached = max(self.value.spec.widths[-1], self.back.spec.margin(self.fine[-1]))
        margins = *(width,) * (waves.ndim - 1), reached
        axes = [
            Axis(n, nf, margin, waves.centered, 1 / hat, dtype)
            for n, nf, margin, hat in zip(waves.shape, self.fine, margins, hats, strict=True)
        ]
        self.transform = Transform(axes, dtype)
        self.slope = np.array([nf / p for nf, p in zip(self.fine, waves.periods, strict=True)], dtype)
        self.places = fine(waves.periods, self.fine, self.transform.grid, width, dtype)
        self.size = 2 * prod(self.transform.grid)
        self.direct_below = float(fft_ns(waves.shape, self.fine, dtype) / direct.cost_ns(self.waves, 1))  # points

    def few(self, points: int) -> bool:
        """Whether the sums are cheaper as they stand: so few points that they cost less than the FFT."""
        return points < self.direct_below

    def _grid(self, flat: Array) -> Array:
        return flat[: self.size].reshape(1, *self.transform.grid, 2)

    def _located(self, points: Array) -> Callable[[int], Located]:
        """Of each item."""
        return finder(points, self.places, lambda x: Located(x, self.places))

    def _tables(self, points: Array) -> Callable[[int], direct.Tables]:
        """The same for few points."""
        return finder(points, direct.Tables.purpose(self.waves), lambda x: direct.Tables(x, self.waves))

    def _sampled(self, kernels: Gather, values: Array, points: Array, fields: Any) -> None:
        """For each item and channel: the modes on the fine grid, and `fields(channel)` = (values, out) from there."""

        find = self._located(points)

        def item(b: int) -> None:
            located = find(b)
            for c in range(values.shape[1]):
                with scratch(self.size + SLACK, self.dtype) as flat:
                    self.transform.widen(values[b, c].reshape(-1), flat, self.waves.sign)
                    located.gather(kernels, self._grid(flat), self.slope, *fields(c), b)

        threads.run([functools.partial(item, b) for b in range(len(values))])

    def sample(self, values: Array, points: Array, out: Array | None = None) -> Array:
        """See reference.wave_sums."""
        values, (batch, n, _) = np.ascontiguousarray(values), points.shape
        if out is None:
            out = np.empty((batch, len(self.waves.orders), n, 2 * values.shape[1]), self.dtype)
        parts = [out[..., 2 * c : 2 * c + 2] for c in range(values.shape[1])]
        if n and self.few(n):
            find = self._tables(points)
            for b in range(batch):
                tables = find(b)
                for c, part in enumerate(parts):
                    tables.sample(self.waves.orders, values[b, c], part[b])
        elif n:
            self._sampled(self.value, values, points, lambda c: (parts[c], parts[c]))
        return out

    def dot(self, values: Array, weights: Array, points: Array) -> Array:
        """See reference.dot; these waves are those with the derivatives along each axis (Waves.up)."""
        (batch, n, nd), channels = points.shape, values.shape[1]
        if n and self.few(n):
            slopes = self.sample(values, points).reshape(batch, -1, nd, n, 2 * channels)
            return np.einsum("bknc,bkinc->bni", weights, slopes)
        values, total = np.ascontiguousarray(values), np.zeros((batch, 1, n, nd), self.dtype)
        part = np.empty_like(total)
        for c in range(channels if n else 0):
            fields = weights[..., 2 * c : 2 * c + 2], part
            self._sampled(self.contracted, values[:, c : c + 1], points, lambda _, fields=fields: fields)
            total += part
        return total[:, 0]

    def splat(self, values: Array, points: Array, out: Array | None = None) -> Array:
        """See reference.wave_sums_back."""
        batch, _, n, numbers = values.shape
        if out is None:
            out = np.empty((batch, numbers // 2, *self.waves.extent), self.dtype)
        find = self._tables(points) if self.few(n) else self._located(points)

        def item(b: int) -> None:
            located = find(b) if n else None
            for c in range(numbers // 2):
                part = values[..., 2 * c : 2 * c + 2]
                if located is None:
                    out[b, c] = 0
                elif isinstance(located, direct.Tables):
                    located.splat(self.waves.orders, part[b], out[b, c])
                else:
                    with scratch(self.size + SLACK, self.dtype) as flat:
                        flat[...] = 0
                        located.scatter(self.back, self._grid(flat), self.slope, part, b)
                        self.transform.narrow(flat, out[b, c].reshape(-1), -self.waves.sign)

        threads.run([functools.partial(item, b) for b in range(batch)])
        return out


@functools.lru_cache(maxsize=1024)
def plan(text: str, dtype: str) -> Plan:
    """The plan of waves and dtype."""
    return Plan(decode(text), dtype)
