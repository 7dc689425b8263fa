"""Series along one axis of arrays of any strides, as kernels read them: places in one line of memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

ENOUGH = 16  # neighbours that make a row of lanes; of fewer, those along the longest axis are


@dataclass(frozen=True)
class View:
    """Sample i of the series (o, q) is ``flat[offsets[o] + q * stride + i * step]``."""

    flat: Array
    offsets: Array
    stride: int
    step: int


class Lines:
    """The series of arrays of one shape, numbered (o, q) in the same way, o < outer, q < inner.

    The axes beside that of the series are merged as far as all strides allow, and the group that is the quickest in the
    first array is the inner one. Strides may be negative or 0.
    """

    def __init__(self, axis: int, *arrays: Array) -> None:
        # a field of records is copied
        arrays = tuple(a.copy() if any(s % a.itemsize for s in a.strides) else a for a in arrays)
        strides = [[s // a.itemsize for s in a.strides] for a in arrays]
        whole = arrays[0].shape
        rest = [i for i in np.arange(len(whole)).tolist() if i != axis]
        self.rows, self.shape = whole[axis], tuple(whole[i] for i in rest)
        self.order = sorted(range(len(rest)), key=lambda k: -abs(strides[0][rest[k]]))
        groups: list[tuple[int, list[int]]] = []  # size, stride in each array
        for k in self.order:
            n, steps = self.shape[k], [s[rest[k]] for s in strides]
            if n == 1:
                continue
            if groups and groups[-1][1] == [n * s for s in steps]:
                groups[-1] = groups[-1][0] * n, steps
            else:
                groups.append((n, steps))
        groups = groups or [(1, [1] * len(arrays))]
        self.chosen = len(groups) - 1
        if groups[-1][0] < ENOUGH:
            self.chosen = max(range(len(groups)), key=lambda g: groups[g][0])
        self.sizes = tuple(n for n, _ in groups)
        self.inner = self.sizes[self.chosen]
        self.outer = int(np.prod(self.sizes)) // self.inner
        self.views = [self._view(a, s, [g[1][i] for g in groups], s[axis])
                      for i, (a, s) in enumerate(zip(arrays, strides, strict=True))]  # fmt: skip

    def _view(self, a: Array, strides: list[int], groups: list[int], step: int) -> View:
        """Of one array: from its first place in memory on."""
        lowest = sum(min(0, (n - 1) * s) for n, s in zip(a.shape, strides, strict=True))
        span = 1 + sum((n - 1) * abs(s) for n, s in zip(a.shape, strides, strict=True))
        origin = a[tuple(slice(n - 1, n) if s < 0 else slice(0, 1) for n, s in zip(a.shape, strides, strict=True))]
        flat = np.lib.stride_tricks.as_strided(origin, (span,), (a.itemsize,), writeable=a.flags.writeable)
        offsets = np.array(-lowest)
        for g, (n, s) in enumerate(zip(self.sizes, groups, strict=True)):
            if g != self.chosen:
                offsets = np.add.outer(offsets, np.arange(n) * s)
        return View(flat, np.ascontiguousarray(offsets.reshape(-1), np.int64), groups[self.chosen], step)

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
