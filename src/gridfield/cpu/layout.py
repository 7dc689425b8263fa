"""Series along one axis of an array of any strides, as kernels read them: places in one line of memory."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

ENOUGH = 16  # neighbours that make a row of lanes; of fewer, those along the longest axis are


class Lines:
    """Sample i of the series (o, q) is ``flat[offsets[o] + q * stride + i * step]``; o < outer, q < inner.

    The axes beside that of the series are merged as far as their strides allow, and the quickest of these groups is the
    inner one. Strides may be negative or 0.
    """

    def __init__(self, a: Array, axis: int) -> None:
        if any(s % a.itemsize for s in a.strides):  # a field of records
            a = a.copy()
        strides = [s // a.itemsize for s in a.strides]
        lowest = sum(min(0, (n - 1) * s) for n, s in zip(a.shape, strides, strict=True))
        span = 1 + sum((n - 1) * abs(s) for n, s in zip(a.shape, strides, strict=True))
        origin = a[tuple(slice(n - 1, n) if s < 0 else slice(0, 1) for n, s in zip(a.shape, strides, strict=True))]
        self.flat = np.lib.stride_tricks.as_strided(origin, (span,), (a.itemsize,), writeable=a.flags.writeable)
        self.rows, self.step = a.shape[axis], strides[axis]
        rest = [i for i in range(a.ndim) if i != axis]
        self.shape = tuple(a.shape[i] for i in rest)
        order = sorted(range(len(rest)), key=lambda k: -abs(strides[rest[k]]))
        self.order = order
        groups: list[list[int]] = []  # [size, stride]
        self.groups: list[int] = []  # how many axes each has
        for k in order:
            n, s = self.shape[k], strides[rest[k]]
            if groups and (groups[-1][1] == n * s or groups[-1][0] == 1 or n == 1):
                last = groups[-1]
                last[1] = last[1] if n == 1 else s
                last[0] *= n
            else:
                groups.append([n, s])
        groups = groups or [[1, 1]]
        chosen = len(groups) - 1
        if groups[chosen][0] < ENOUGH:
            chosen = max(range(len(groups)), key=lambda g: groups[g][0])
        self.sizes, self.chosen = tuple(g[0] for g in groups), chosen
        self.inner, self.stride = groups[chosen]
        offsets = np.array(-lowest)
        for g, (n, s) in enumerate(groups):
            if g != chosen:
                offsets = np.add.outer(offsets, np.arange(n) * s)
        self.offsets = np.ascontiguousarray(offsets.reshape(-1), np.int64)
        self.outer = len(self.offsets)

    def arranged(self, x: Array) -> Array:
        """(*lead, outer, inner) -> (*lead, *shape), one number for each series."""
        lead = x.shape[:-2]
        others = tuple(n for g, n in enumerate(self.sizes) if g != self.chosen)
        x = np.moveaxis(x.reshape(*lead, *others, self.inner), -1, len(lead) + self.chosen)
        x = x.reshape(*lead, *(self.shape[k] for k in self.order))
        back = np.argsort(self.order).tolist() if self.order else []
        return x.transpose(*range(len(lead)), *(len(lead) + k for k in back))

    def flattened(self, x: Array) -> Array:
        """(*shape) -> (outer, inner), C-contiguous: the inverse."""
        x = x.transpose(self.order).reshape(self.sizes)
        return np.ascontiguousarray(np.moveaxis(x, self.chosen, -1).reshape(self.outer, self.inner))
