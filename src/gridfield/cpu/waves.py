"""sample, splat and dot of waves: the non-uniform FFT, as window, FFT and the taps of any kernel.

    sample:  y[p] = sum_l phi(x_p - l) g[l],  g = FFT of c[k] / phi^(k) on a grid twice as fine      (type 2)
    splat:   the transpose, step by step                                                            (type 1)

(A. Dutt, V. Rokhlin, SIAM J. Sci. Comput. 14 (1993), 1368-1393; L. Greengard, J.-Y. Lee, SIAM Rev. 46 (2004), 443-454.)
Derivatives in the points are those of phi, from the same g.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from ..scheme import Waves, decode
from ..window import window
from .fourier import Axis, Transform, fine_size
from .plan import SLACK
from .scratch import scratch
from .spread import Located
from .taps import Spec

Array = np.ndarray[Any, Any]


class Plan:
    """Waves prepared for one dtype."""

    def __init__(self, waves: Waves, dtype: str) -> None:
        self.waves, self.dtype = waves, np.dtype(dtype)
        kernel, width = window(waves.width), waves.width
        self.fine = tuple(fine_size(max(2 * n, 2 * width)) for n in waves.shape)
        hats = (kernel.fourier(k / nf).real for k, nf in zip(waves.modes, self.fine, strict=True))
        axes = [
            Axis(n, nf, width, waves.centered, 1 / hat, dtype)
            for n, nf, hat in zip(waves.shape, self.fine, hats, strict=True)
        ]
        self.transform = Transform(axes, dtype)
        self.slope = np.array([nf / p for nf, p in zip(self.fine, waves.periods, strict=True)], dtype)
        self.tables = (kernel.table(),) * waves.ndim

    def spec(self, dot: bool = False) -> Spec:
        """The specialisation of the taps."""
        nd = self.waves.ndim
        return Spec(self.tables, ("wrap",) * nd, (0.0,) * nd, (0,) * nd, self.waves.orders, 2, False, dot)

    def _grid(self, flat: Array) -> Array:
        return flat[: 2 * int(np.prod(self.transform.grid))].reshape(1, *self.transform.grid, 2)

    def _locate(self, points: Array) -> Located:
        return Located(points, self.waves.periods, self.fine, self.spec())

    def _memory(self) -> Any:
        return scratch(2 * int(np.prod(self.transform.grid)) + SLACK, self.dtype)

    def _sampled(self, spec: Spec, values: Array, points: Array, fields: Any) -> None:
        """For each item and channel: the modes on the fine grid, and `fields(channel)` = (values, out) from there."""
        for b in range(len(values)):
            located = self._locate(points[b])
            for c in range(values.shape[1]):
                with self._memory() as flat:
                    self.transform.widen(values[b, c].reshape(-1), flat, self.waves.sign)
                    located.gather(spec, self._grid(flat), self.slope, *fields(c), b)

    def sample(self, values: Array, points: Array, out: Array | None = None) -> Array:
        """See reference.wave_sums."""
        values, (batch, n, _) = np.ascontiguousarray(values), points.shape
        if out is None:
            out = np.empty((batch, len(self.waves.orders), n, 2 * values.shape[1]), self.dtype)
        parts = [out[..., 2 * c : 2 * c + 2] for c in range(values.shape[1])]
        if n:
            self._sampled(self.spec(), values, points, lambda c: (parts[c], parts[c]))
        return out

    def dot(self, values: Array, weights: Array, points: Array) -> Array:
        """See reference.dot; these waves are those with the derivatives along each axis (Waves.up)."""
        values, total = np.ascontiguousarray(values), np.zeros((len(points), 1, *points.shape[1:]), self.dtype)
        part = np.empty_like(total)
        for c in range(values.shape[1] if points.size else 0):
            self._sampled(
                self.spec(dot=True),
                values[:, c : c + 1],
                points,
                lambda _: (weights[..., 2 * c : 2 * c + 2], part),  # noqa: B023
            )
            total += part
        return total[:, 0]

    def splat(self, values: Array, points: Array, out: Array | None = None) -> Array:
        """See reference.wave_sums_back."""
        batch, _, n, numbers = values.shape
        if out is None:
            out = np.empty((batch, numbers // 2, *self.waves.extent), self.dtype)
        if n == 0:
            out[...] = 0
            return out
        spec = self.spec()
        for b in range(batch):
            located = self._locate(points[b])
            for c in range(numbers // 2):
                with self._memory() as flat:
                    flat[...] = 0
                    located.scatter(spec, self._grid(flat), self.slope, values[..., 2 * c : 2 * c + 2], b)
                    self.transform.narrow(flat, out[b, c].reshape(-1), -self.waves.sign)
        return out


@functools.lru_cache(maxsize=1024)
def plan(text: str, dtype: str) -> Plan:
    """The plan of waves and dtype."""
    return Plan(decode(text), dtype)
