"""The residuals of a Python function, and their sums: by blocks of points where it can be evaluated by blocks."""

from __future__ import annotations

from typing import Any

import numpy as np

from .least_squares import Loss, Scale, robust
from .python_model import BLOCK, Function

Array = np.ndarray[Any, Any]


class FunctionProblem:
    """The residuals of a function; data (fits, n) are NaN where there are none, weight is (fits, n) or None."""

    def __init__(self, model: Function, y: Array, weight: Array | None, scale: Scale | None = None) -> None:
        self.model, self.y, self.weight, self.points, self.scale = model, y, weight, y.shape[1], scale
        self.exact = model.exact
        self._last: tuple[int, bytes, slice, Array, Array] | None = None

    def _weighted(self, model: Function, params: Array, which: Array, place: slice) -> tuple[Array, Array]:
        """(r (m, n), J (m, p, n)) of some fits in a block of points."""
        scale = self.scale
        f, J = model.jacobian(params if scale is None else params * scale.params[which], which)  # J is nobody else's
        y = self.y[which, place]
        with np.errstate(invalid="ignore", over="ignore"):
            there = np.isnan(y)
            r = f - y
            if scale is not None:
                by = scale.data[which]
                r *= by[:, None]
                J *= (scale.params[which] * by[:, None])[:, :, None]
            if self.weight is not None:
                w = self.weight[which, place]
                there |= w == 0
                r *= w
                J *= w[:, None]
        np.copyto(r, 0.0, where=there)
        np.copyto(J, 0.0, where=there[:, None])
        return r, J

    def normal(self, params: Array, which: Array, loss: Loss, A: Array, g: Array, cost: Array) -> None:
        """Sums of some fits at a time; of a large fit of some points at a time."""
        some = max(1, BLOCK // (self.points * (params.shape[1] + 2)))
        for at in range(0, len(which), some):
            part = which[at : at + some]
            A[part], g[part], cost[part] = 0.0, 0.0, 0.0
            for place, model in self.model.blocks():
                with np.errstate(all="ignore"):
                    r, J = self._weighted(model, params[part], part, place)
                    r, J, value = robust(r, J.swapaxes(1, 2), loss)
                    J = J.swapaxes(1, 2)  # type: ignore[union-attr]
                    A[part] += J @ J.swapaxes(1, 2)
                    g[part] += (J @ r[..., None])[..., 0]
                    cost[part] += 0.5 * value.sum(1)

    def many(self, params: Array, which: Array) -> tuple[Array, Array]:
        """(r (m, n), J (m, n, p)) of some fits."""
        if self.model.points is not None:
            r, J = zip(
                *(self.residuals(x, int(i), 0, self.points) for x, i in zip(params, which, strict=True)), strict=True
            )
            return np.stack(r), np.stack(J)
        r, J = self._weighted(self.model, params, which, slice(0, self.points))
        return r, J.swapaxes(1, 2)

    def residuals(self, x: Array, fit: int, start: int, stop: int) -> tuple[Array, Array]:
        """From the blocks that hold these points; the last one is kept."""
        rs, Js = [], []
        for place, model in self.model.blocks():
            first, last = max(start, place.start), min(stop, place.stop)
            if first >= last:
                continue
            key = fit, x.tobytes(), place
            if self._last is None or self._last[:3] != key:
                r, J = self._weighted(model, x[None], np.array([fit]), place)
                self._last = (*key, r[0], J[0].T)
            here = slice(first - place.start, last - place.start)
            rs.append(self._last[3][here])
            Js.append(self._last[4][here])
        return (rs[0], Js[0]) if len(rs) == 1 else (np.concatenate(rs), np.concatenate(Js))
