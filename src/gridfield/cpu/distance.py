"""All pairs of two sets of points: the matrix, the nearest ones, sums. The loops round the blocks of pairs.py.

Rows go in groups, columns in tiles that stay in the first cache with the rows that use them. A row is worked on by one
thread alone and in the same order, so that the result does not depend on their number.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numba import njit, types

from . import threads
from .cache import array, compiled
from .machine import WHOLE
from .pairs import ROWS, UNROLLED, Pairs, lay, nearest_block, store_tile, sum_block, transpose_tile
from .scratch import scratch

Array = np.ndarray[Any, Any]

TILE = 2**14  # bytes of a tile of the second set, and of the part of a row beside it
GROUP = 64  # rows that meet a tile
SIDE = 128  # of square tiles, in the symmetric case
STREAMED = 2**22  # bytes that do not stay in the caches
# coordinates from which on, measured at 5000 points on one thread: `product` is quicker (64: 88 instead of 122 ms in
# float64, 35 instead of 53 in float32, BLAS alone 80 and 40; 16: 51 and 49); half of a symmetric matrix is (128: 150
# instead of 202 ms; 64: 98 instead of 122; 16: 59 instead of 49, as turning it over costs more than to compute it)
PRODUCT = 48
HALF = 64
AT_ONCE, MANY = 4, 8  # channels of a sum; of more, blocks of so many bytes are multiplied by BLAS
BLOCK = 2**22
PAIR_NS, COORDINATE_NS = 0.5, 0.06  # of a pair, for the threads: at least, and of each coordinate


# ---- kernels; dims: points of the second set, panel, lanes, coordinates, rows of a group, panels of a tile
def _store(spec, of, dims, out, start, stop):  # type: ignore[no-untyped-def]
    """Rows start ... stop of the matrix."""
    (xs, bs, nx, ys, cs, ny, offsets), (n, panel, _, d, group, tile) = of, dims
    panels = (n + panel - 1) // panel
    for i in range(start, stop, group):
        end = min(i + group, stop)
        for p in range(0, panels, tile):
            q, j = min(p + tile, panels), p * panel
            store_tile(spec, xs, bs, nx, ys, cs, ny, d, offsets, i, end, p, q, n, out, i * n + j, n, j)


def _store_half(spec, of, dims, skew, room, turned, out, start, stop):  # type: ignore[no-untyped-def]
    """Square tiles above the diagonal, each with its mirror image: rows of tiles k and (count - 1 - k) for k from start
    to stop, which are as much work for every k."""
    (xs, bs, nx, ys, cs, ny, offsets), (n, panel, lanes, d, side, tile) = of, dims
    count, panels, step = (n + side - 1) // side, (n + panel - 1) // panel, side + lanes
    for k in range(start, stop):
        for again in range(1 if 2 * k + 1 == count else 2):
            t = count - 1 - k if again else k
            i, end = t * side, min((t + 1) * side, n)
            for u in range(t, count):
                j, right = u * side, min((u + 1) * side, n)
                last = min((u + 1) * tile, panels)
                store_tile(spec, xs, bs, nx, ys, cs, ny, d, offsets, i, end, u * tile, last, n, room, 0, step, j)
                for r in range(i, end):
                    lay(spec, room, (r - i) * step, out, r * n + j, right - j, skew)
                if u > t:
                    transpose_tile(spec, room, turned, side, step)
                    for c in range(j, right):
                        lay(spec, turned, (c - j) * step, out, c * n + i, end - i, skew)


def _nearest(spec, of, dims, best, where, qs, ks, start, stop):  # type: ignore[no-untyped-def]
    """The nearest point and its q for rows start ... stop, a multiple of ROWS of them; of equals the first."""
    (xs, bs, nx, ys, cs, ny, _), (n, panel, lanes, d, group, tile) = of, dims
    panels = (n + panel - 1) // panel
    for i in range(start, stop, group):
        end = min(i + group, stop)
        for p in range(0, panels, tile):
            for row in range(i, end, ROWS):
                nearest_block(spec, xs, bs, nx, ys, cs, ny, d, row, p, min(p + tile, panels), qs, ks)
                for r in range(ROWS):
                    q, k = best[np.uint64(row + r)], where[np.uint64(row + r)]
                    for lane in range(r * lanes, (r + 1) * lanes):
                        if qs[lane] < q or (qs[lane] == q and ks[lane] >= 0 and ks[lane] < k):
                            q, k = qs[lane], np.int64(ks[lane])
                    best[np.uint64(row + r)], where[np.uint64(row + r)] = q, k


def _sum(spec, of, dims, vs, room, out, start, stop):  # type: ignore[no-untyped-def]
    """out[row, channel] += the sums, in float64 from tile to tile, for rows start ... stop, a multiple of ROWS."""
    (xs, bs, nx, ys, cs, ny, offsets), (n, panel, lanes, d, group, tile) = of, dims
    panels, channels = (n + panel - 1) // panel, len(room) // (ROWS * lanes)
    for i in range(start, stop, group):
        end = min(i + group, stop)
        for p in range(0, panels, tile):
            for row in range(i, end, ROWS):
                sum_block(spec, xs, bs, nx, ys, cs, ny, d, offsets, vs, row, p, min(p + tile, panels), n, room)
                for k in range(ROWS * channels):
                    total = 0.0
                    for lane in range(k * lanes, (k + 1) * lanes):
                        total += np.float64(room[lane])
                    out[np.uint64(row * channels + k)] += total


@njit(nogil=True, error_model="numpy", _nrt=False)
def _insert(q, k, best, where, base, count):  # type: ignore[no-untyped-def]
    """Put (q, k) where it belongs among the `count` least, which are in order."""
    at = base + count - 1
    while at > base and best[np.uint64(at - 1)] > q:
        best[np.uint64(at)], where[np.uint64(at)] = best[np.uint64(at - 1)], where[np.uint64(at - 1)]
        at -= 1
    best[np.uint64(at)], where[np.uint64(at)] = q, k


def _neighbours(spec, of, dims, k, room, best, where, start, stop):  # type: ignore[no-untyped-def]
    """The k nearest points of rows start ... stop, in order; of equals the first ones."""
    (xs, bs, nx, ys, cs, ny, offsets), (n, panel, _, d, group, tile) = of, dims
    panels, step = (n + panel - 1) // panel, tile * panel
    for i in range(start, stop, group):
        end = min(i + group, stop)
        for p in range(0, panels, tile):
            last = min(p + tile, panels)
            store_tile(spec, xs, bs, nx, ys, cs, ny, d, offsets, i, end, p, last, n, room, 0, step, p * panel)
            count = min(n, last * panel) - p * panel
            for row in range(i, end):
                at, base = (row - i) * step, row * k
                for j in range(0, count, 64):
                    worst, some = best[np.uint64(base + k - 1)], False
                    for c in range(j, min(j + 64, count)):
                        some |= room[np.uint64(at + c)] < worst
                    if some:
                        for c in range(j, min(j + 64, count)):
                            if room[np.uint64(at + c)] < best[np.uint64(base + k - 1)]:
                                _insert(room[np.uint64(at + c)], p * panel + c, best, where, base, k)


_LOOPS: dict[str, Any] = {"store": _store, "half": _store_half, "nearest": _nearest, "sum": _sum, "k": _neighbours}


@functools.lru_cache(maxsize=1024)
def _entry(loop: str, dtype: str, spec: Pairs) -> Any:
    flat, whole, i64 = array(dtype, 1, "C"), array("int64", 1, "C"), types.int64
    wide = array("float64", 1, "C")
    arguments = {
        "store": (flat,),
        "half": (i64, flat, flat, flat),
        "nearest": (flat, whole, flat, array("int32", 1, "C")),
        "sum": (flat, flat, wide),
        "k": (i64, flat, flat, whole),
    }[loop]
    signature = (spec._numba_type_, types.UniTuple(flat, 7), types.UniTuple(i64, 6), *arguments, i64, i64)  # type: ignore[attr-defined]
    return compiled(_LOOPS[loop], f"{loop}_{dtype}", signature)


# ---- what is handed to them
def _panels(y: Array, panel: int) -> Array:
    """(n, d) -> (panels, d, panel), the last point repeated."""
    n, d = y.shape
    count = -(-n // panel)
    out = np.empty((count, d, panel), y.dtype)
    whole = n // panel
    out[:whole] = y[: whole * panel].reshape(whole, panel, d).transpose(0, 2, 1)
    if whole < count:
        rest = n - whole * panel
        out[whole, :, :rest] = y[whole * panel :].T
        out[whole, :, rest:] = y[-1][:, None]
    return out.reshape(-1)


def _rows(x: Array) -> Array:
    """(m, d) -> flat, the last point repeated up to a multiple of ROWS."""
    m, d = x.shape
    out = np.empty((-(-m // ROWS) * ROWS, d), x.dtype)
    out[:m] = x
    out[m:] = x[-1]
    return out.reshape(-1)


class Sets:
    """Two sets of points as the kernels read them, x (m, d) and y (n, d), none empty.

    b, c: see pairs.py; exact: never by products, whose rounding would tell equal distances apart.
    """

    def __init__(
        self,
        x: Array,
        y: Array,
        b: Array | None = None,
        c: Array | None = None,
        offsets: Array | None = None,
        side: str = "",
        exact: bool = False,
    ) -> None:
        self.dtype, (self.m, self.d), self.n = x.dtype, x.shape, len(y)
        self.lanes = WHOLE // x.itemsize
        self.panel = Pairs(self.lanes, 0, "", (), "").panel
        nothing = np.empty(0, x.dtype)
        self.form = "bilinear" if b is not None else "square" if exact or self.d < PRODUCT else "product"
        nx = ny = bs = cs = nothing
        if b is not None and c is not None:
            bs, cs = _rows(b), _panels(c, self.panel)
        if self.form == "product":  # centred, for the sake of what cancels; finite, or all would be NaN
            with np.errstate(all="ignore"):
                centre = np.concatenate([x, y]).mean(0, dtype=np.float64).astype(x.dtype)
            centre[~np.isfinite(centre)] = 0
            x, y = x - centre, y - centre
            nx, ny = (
                _rows(np.einsum("ij,ij->i", x, x)[:, None]),
                _panels(np.einsum("ij,ij->i", y, y)[:, None], self.panel),
            )
        if offsets is None:
            shifts = nothing
        else:
            shifts = _rows(offsets[:, None]) if side == "rows" else _panels(offsets[:, None], self.panel)
        self.side = side
        self.of = _rows(x), bs, nx, _panels(y, self.panel), cs, ny, shifts
        self.work = self.m * self.n * (PAIR_NS + COORDINATE_NS * self.d)

    def spec(self, radial: tuple[Any, ...], sink: str, *rest: Any) -> Pairs:
        """What the kernels are specialised to."""
        return Pairs(self.lanes, self.d if self.d <= UNROLLED else 0, self.form, radial, sink, *rest)

    def dims(self, group: int = GROUP, tile: int = 0) -> tuple[int, ...]:
        """Of the loops; a tile: so many panels that they and the rows of the result beside them are TILE bytes."""
        each = self.panel * self.dtype.itemsize * max(self.d, 1)
        return self.n, self.panel, self.lanes, self.d, group, tile or max(1, TILE // each)


SQUARED = ("power", 0.0, 2, 1.0)


def matrix(sets: Sets, radial: tuple[Any, ...], out: Array, same: bool = False, fresh: bool = True) -> None:
    """out[i, j] = f(q_ij), C-contiguous; same: the two sets are one; fresh: out has no pages yet.

    Of one set half is computed and turned over, where that is quicker than to compute all. Memory that is there already
    is then written past the caches; fresh pages, which the system has just cleared in the caches, are not (200 MB: 61
    instead of 48 ms). Where all is computed, roots gain nothing from it (22 ms on one thread either way, staged in rows
    of 4 KiB or straight from the registers).
    """
    flat, half = out.reshape(-1), same and sets.d >= HALF
    spec = sets.spec(radial, "store", "", 1, half and not fresh and out.nbytes >= STREAMED)
    kernel = _entry("half" if half else "store", sets.dtype.name, spec)
    if not half:
        dims = sets.dims()
        threads.over(lambda i, j: kernel(spec, sets.of, dims, flat, i, j), sets.m, sets.work, align=ROWS)
        return
    dims, size = sets.dims(SIDE, SIDE // sets.panel), SIDE * (SIDE + sets.lanes)
    skew = out.ctypes.data % WHOLE // out.itemsize

    def run(i: int, j: int) -> None:
        with scratch(size, sets.dtype) as room, scratch(size, sets.dtype) as turned:
            room[...] = 0  # parts of it that are not written are turned over, too
            kernel(spec, sets.of, dims, skew, room, turned, flat, i, j)

    count = -(-sets.n // SIDE)
    threads.over(run, -(-count // 2), sets.work / 2, align=1)


def nearest(sets: Sets) -> tuple[Array, Array]:
    """The nearest point of the second set for each of the first, and its q; -1 and infinity: none is any."""
    spec, padded = sets.spec(SQUARED, "nearest"), -(-sets.m // ROWS) * ROWS
    best, where = np.full(padded, np.inf, sets.dtype), np.full(padded, -1, np.int64)
    kernel, dims = _entry("nearest", sets.dtype.name, spec), sets.dims()

    def run(i: int, j: int) -> None:
        room, numbers = np.empty(ROWS * sets.lanes, sets.dtype), np.empty(ROWS * sets.lanes, np.int32)
        kernel(spec, sets.of, dims, best, where, room, numbers, i, j)

    threads.over(run, padded, sets.work, align=ROWS)
    return best[: sets.m], where[: sets.m]


def neighbours(sets: Sets, k: int) -> tuple[Array, Array]:
    """The k nearest points (m, k), in order, and their q; -1 and infinity where there are no more."""
    spec, dims = sets.spec(SQUARED, "store"), sets.dims(group=32)
    best, where = np.full((sets.m, k), np.inf, sets.dtype), np.full((sets.m, k), -1, np.int64)
    kernel = _entry("k", sets.dtype.name, spec)

    def run(i: int, j: int) -> None:
        with scratch(dims[4] * dims[5] * sets.panel, sets.dtype) as room:
            kernel(spec, sets.of, dims, k, room, best.reshape(-1), where.reshape(-1), i, j)

    threads.over(run, sets.m, 2 * sets.work, align=ROWS)
    return best, where


def sums(sets: Sets, radial: tuple[Any, ...], v: Array) -> Array:
    """sum_j f(q_ij) v_jc, (m, channels), float64; v (n, channels)."""
    if v.shape[1] > MANY:
        return _products(sets, radial, v)
    padded, channels = -(-sets.m // ROWS) * ROWS, v.shape[1]
    total = np.empty((sets.m, channels))
    for first in range(0, channels, AT_ONCE):
        part = v[:, first : first + AT_ONCE]
        width = part.shape[1]
        spec, vs = sets.spec(radial, "sum", sets.side, width), _panels(part.astype(sets.dtype, copy=False), sets.panel)
        vs.reshape(-1, width, sets.panel)[-1, :, sets.panel - (-sets.n % sets.panel) :] = 0
        out, kernel, dims = np.zeros((padded, width)), _entry("sum", sets.dtype.name, spec), sets.dims()

        def run(i: int, j: int, spec=spec, vs=vs, out=out, kernel=kernel, width=width, dims=dims) -> None:  # type: ignore[no-untyped-def]
            room = np.empty(ROWS * width * sets.lanes, sets.dtype)
            kernel(spec, sets.of, dims, vs, room, out.reshape(-1), i, j)

        threads.over(run, padded, 2 * sets.work, align=ROWS)
        total[:, first : first + width] = out[: sets.m]
    return total


def _products(sets: Sets, radial: tuple[Any, ...], v: Array) -> Array:
    """The same by blocks of the matrix, each multiplied by v."""
    spec, total = sets.spec(radial, "store", sets.side), np.empty((sets.m, v.shape[1]))
    kernel, dims = _entry("store", sets.dtype.name, spec), sets.dims()
    rows = max(ROWS, BLOCK // (sets.n * sets.dtype.itemsize) // ROWS * ROWS)
    v = v.astype(sets.dtype, copy=False)
    xs, bs, nx, ys, cs, ny, offsets = sets.of
    for first in range(0, sets.m, rows):
        count = min(rows, sets.m - first)
        last = first + -(-count // ROWS) * ROWS
        ends = [slice(first * k, last * k) for k in (1, sets.d)]
        part = xs[ends[1]], bs[ends[1]], nx[ends[0]], ys, cs, ny, offsets[ends[0]] if sets.side == "rows" else offsets
        with scratch(count * sets.n, sets.dtype) as room:

            def run(i: int, j: int, part=part, room=room) -> None:  # type: ignore[no-untyped-def]
                kernel(spec, part, dims, room, i, j)

            threads.over(run, count, sets.work * count / sets.m, align=ROWS)
            total[first : first + count] = room.reshape(count, sets.n) @ v
    return total
