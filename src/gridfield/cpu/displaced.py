"""The displacement of a row: the lattice of control points contracted axis by axis, over the first when a plane begins,
over the next when a row does; along a row, four numbers to a pixel are left.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit

from .cache import SOURCES
from .machine import specialising, staged

SEGMENT = 1024  # pixels of a row whose displacement is worked out at a time
# rows of a plane that are done before those of the next plane, since what they read is then still in cache, and planes
TILE, SLAB = 32, 32
LINE = 64  # bytes of a vector of displacements; the last of a run may go so far beyond it
ROW = SEGMENT + LINE  # elements from the displacement along one axis to that along the next
NONE, LATTICE, DENSE = 0, 1, 2  # how displacements are given


def dot4(vectors: Any, numbers: Any) -> Any:
    """The sum of four products."""
    a, b, c, d = (v * x for v, x in zip(vectors, numbers))
    return (a + b) + (c + d)


@staged
def contract(m: Any, spec: Any, src: Any, s: Any, dst: Any, t: Any, inner: Any, trips: Any, w: Any, at: Any) -> None:
    """dst[t + j] = sum_k w[at + k] src[s + k inner + j], vector by vector: trips of them, the last may go too far.

    What is written too far is written again later; Numba's own loops do these few numbers one by one.
    """
    lanes = LINE // w.itemsize
    weights = [m.load(w, at + k) for k in range(4)]

    def body(p: Any, _: Any) -> None:
        j = p * lanes
        rows = [m.load(src, s + inner * k + j, lanes) for k in range(4)]
        m.store(
            dst, t + j, (rows[0] * weights[0] + rows[1] * weights[1]) + (rows[2] * weights[2] + rows[3] * weights[3])
        )

    m.loop(0, trips, body)


@staged
def along_row(
    m: Any, spec: Any, src: Any, s: Any, size: Any, w: Any, n: Any, x: Any, d: Any, t: Any, trips: Any
) -> None:
    """d[a * ROW + t + p] = sum_k w[k n + x + p] src[s + a size + k] for every axis a, as contract."""
    lanes = LINE // w.itemsize
    points = [[m.load(src, s + size * a + k) for k in range(4)] for a in range(spec.ndim)]

    def body(p: Any, _: Any) -> None:
        i = p * lanes
        ws = [m.load(w, n * k + x + i, lanes) for k in range(4)]
        for a, c in enumerate(points):
            m.store(d, t + i + a * ROW, dot4(ws, c))

    m.loop(0, trips, body)


@specialising(SOURCES)
@dataclass(frozen=True)
class RowSpec:
    """What the displacement of a row is specialised to: not to the image's kernel, so it is compiled less often."""

    ndim: int


# _nrt=False: without counting references to the arrays it is given, which took a tenth of the time of a volume
@njit(nogil=True, error_model="numpy", boundscheck=False, _nrt=False)
def displaced(spec, mode, field, firsts, weights, ends, lasts, sizes, levels, pose, posed, shape, at, d, unit):  # type: ignore[no-untyped-def]
    """d[axis * ROW + q]: the displacements of segment `unit` of the rows; at: its first pixel, after it the batch item,
    as they were before (-1: nowhere) -> as they are. Returns the number of that pixel, and how many there are."""
    nd = shape.size
    length = shape[nd - 1]
    segments = (length + SEGMENT - 1) // SEGMENT
    rows = 1
    for a in range(nd - 1):
        rows *= shape[a]
    lanes = LINE // lasts.itemsize
    line = unit // segments
    x0 = (unit - line * segments) * SEGMENT
    x1 = min(length, x0 + SEGMENT)
    b = line // rows
    row, r, changed = line - b * rows, 0, nd
    if nd > 1:  # a few rows of many planes, before the next few
        most = shape[nd - 2]
        planes = rows // most
        slab = row // (SLAB * most) * SLAB
        planes, r = min(SLAB, planes - slab), row - slab * most
        begin = r // (TILE * planes) * TILE
        r -= begin * planes
        few = min(TILE, most - begin)
        plane = r // few
        o = begin + r - plane * few
        r = slab + plane
        row = r * most + o
        if o != at[nd - 2]:
            at[nd - 2], changed = o, nd - 2
    for a in range(nd - 3, -1, -1):
        o = r % shape[a]
        r //= shape[a]
        if o != at[a]:
            at[a], changed = o, a
    if b != at[nd]:
        at[nd], changed = b, 0
    at[nd - 1] = x0
    if mode == LATTICE:
        source, target, own = 0, 0, b * sizes[0] * nd
        for k in range(nd - 1):  # levels[source ...]: contracted over the first k axes
            if k >= changed:
                inner, n = sizes[k + 1], firsts.shape[1]
                shift, place, trips = firsts[k, at[k]] * inner, (k * n + at[k]) * 4, (inner + lanes - 1) // lanes
                for a in range(nd):
                    s = a * sizes[k] + shift
                    if k == 0:
                        contract(spec, field, own + s, levels, target + a * inner, inner, trips, weights, place)
                    else:
                        contract(spec, levels, source + s, levels, target + a * inner, inner, trips, weights, place)
            source, target = target, target + nd * sizes[k + 1]
        x = x0
        while x < x1:  # runs of pixels between two control points
            k = firsts[nd - 1, x]
            run = min(x1, ends[k])
            trips, n = (run - x + lanes - 1) // lanes, lasts.size // 4
            if nd == 1:
                along_row(spec, field, own + k, sizes[0], lasts, n, x, d, x - x0, trips)
            else:
                along_row(spec, levels, source + k, sizes[nd - 1], lasts, n, x, d, x - x0, trips)
            x = run
    else:
        for a in range(nd):
            place, s = np.uintp(a * ROW), np.uintp(((b * nd + a) * rows + row) * length + x0)
            for x in range(np.uintp(x1 - x0)):
                if mode == DENSE:
                    d[place + x] = field[s + x]
                else:
                    d[place + x] = 0.0
    if posed:
        for a in range(nd):
            origin, slope = pose[b, a, nd], pose[b, a, nd - 1]
            for j in range(nd - 1):
                origin += pose[b, a, j] * (at[j] - 0.5 * (shape[j] - 1))
            origin += slope * (x0 - 0.5 * (length - 1))
            place = np.uintp(a * ROW)  # an index that may be negative would keep the loop from being vectorised
            for x in range(np.uintp(x1 - x0)):
                d[place + x] += origin + slope * x
    return row * length + x0, x1 - x0
