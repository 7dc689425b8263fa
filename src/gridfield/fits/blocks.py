"""Points of a fit, some at a time: boxes of them that follow each other in C order."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
Box = tuple[slice, ...]


def boxes(shape: tuple[int, ...], most: int) -> Iterator[tuple[slice, Box]]:
    """(place in C order, box) of at most that many points; at least half as many, but for remainders."""
    axis = next((a for a in range(len(shape)) if prod(shape[a + 1 :]) <= most), len(shape) - 1)
    row = prod(shape[axis + 1 :])  # points of one index along that axis
    step, at = max(1, most // max(row, 1)), 0
    for index in np.ndindex(shape[:axis]):
        outer = tuple(slice(i, i + 1) for i in index)
        for first in range(0, shape[axis], step):
            last = min(first + step, shape[axis])
            count = (last - first) * row
            yield slice(at, at + count), (*outer, slice(first, last), *(slice(0, n) for n in shape[axis + 1 :]))
            at += count


def part_of(c: Array, box: Box) -> Array:
    """A coordinate (1 or fits, *shape or 1) in a box."""
    return c[(slice(None), *(s if n > 1 else slice(None) for n, s in zip(c.shape[1:], box, strict=True)))]
