"""Series along one axis of arrays of any strides, as kernels read them: places in one line of memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit

Array = np.ndarray[Any, Any]

ENOUGH = 16  # neighbours that make a row of lanes; of fewer, those along the longest axis are

ROW = 16  # lanes of a block that is a copy: known when it is compiled, or nothing would be vectorised


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
        """(*lead, *shape) -> (*lead, outer, inner), C-contiguous: the inverse."""
        lead = x.ndim - len(self.shape)
        x = x.transpose(*range(lead), *(lead + k for k in self.order)).reshape(*x.shape[:lead], *self.sizes)
        x = np.moveaxis(x, lead + self.chosen, -1)
        return np.ascontiguousarray(x.reshape(*x.shape[:lead], self.outer, self.inner))


def _gather(flat, base, step, stride, rows, lanes, width, block):  # type: ignore[no-untyped-def]
    """block[i, j] = sample i of series j, for `lanes` series; 0 beyond them. Where series are not neighbours, eight
    samples of one at a time, as that is a line of the cache."""
    if stride == 1 and lanes == width:
        for i in range(rows):
            here = base + i * step
            for j in range(width):
                block[i * width + j] = flat[here + j]
        return
    for i in range(0, rows, 8):
        stop = min(i + 8, rows)
        for j in range(lanes):
            here = base + j * stride
            for k in range(i, stop):
                block[k * width + j] = flat[here + k * step]
        for k in range(i, stop):
            for j in range(lanes, width):
                block[k * width + j] = 0


def _scatter(block, rows, lanes, width, flat, base, step, stride):  # type: ignore[no-untyped-def]
    """The inverse of _gather."""
    if stride == 1:
        for i in range(rows):
            here = base + i * step
            for j in range(lanes):
                flat[here + j] = block[i * width + j]
        return
    for i in range(0, rows, 8):
        for j in range(lanes):
            here = base + j * stride
            for k in range(i, min(i + 8, rows)):
                flat[here + k * step] = block[k * width + j]


gathered = njit(nogil=True, error_model="numpy")(_gather)
scattered = njit(nogil=True, error_model="numpy")(_scatter)
