"""warp: an image sampled at displaced pixels, row by row, without a dense displacement.

displaced.py has the displacement of a row, pixels.py locates the pixels of one; here are the kernels that go through
rows, and what they are given: tables, which part of an image a crop needs. A displacement of 3 pixels in float32 is as
exact at pixel 4000 as at pixel 0 (x + d is 2e-4 off there). A crop runs the same arithmetic on the same numbers, and so
gives the same bits.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from math import ceil, floor, prod
from typing import Any

import numpy as np
from numba import njit, types

from .. import lattice
from ..boundary import extension
from ..kernel import bspline
from ..scheme import Warp, decode
from . import plan, prefilter, threads
from .cache import array, compiled
from .displaced import DENSE, LATTICE, LINE, NONE, ROW, SEGMENT, SLAB, RowSpec, displaced
from .machine import staged
from .pixels import gather_located, gather_plain, locate_plain, locate_row, plain_row, turning
from .taps import BLOCK, NAN, fill, scatter

Array = np.ndarray[Any, Any]

Box = tuple[tuple[int, int], ...]

RUN = 256  # plain pixels looked for at a time where they are gathered as they are located
EDGE_RUN = 16  # pixels located at a time where some are not between them
PLACE_NS = 0.7  # measured: one coordinate of one pixel
DENSER = 3  # halvings between control points when a crop looks how far they displace
COPIES = 8  # of a grid, at most, to which parts of the result are added


@staged
def is_across(m: Any, spec: Any, out: Any, base: Any) -> None:
    """base[0] = whether gather_plain can do it."""
    one = m.narrow(m.stride(out, 2), base)
    m.store(base, 0, m.select(one < 2, one, one * 0) if spec.across else 0)


@njit(nogil=True, error_model="numpy", boundscheck=False, _nrt=False)
def _plain(spec, d, q0, most, pix, ints, base):  # type: ignore[no-untyped-def]
    """How many of the next pixels of a row, at most so many, are certain to be plain; none if they are few."""
    plain_row(spec, d, q0, pix, ints, most, base)
    plain = base[(2 + pix.size) * BLOCK]
    return plain if plain == most else plain // EDGE_RUN * EDGE_RUN


@njit(nogil=True, error_model="numpy", boundscheck=False, _nrt=False)
def _located(spec, grid, d, q0, most, pix, ints, frame, plain, base, w):  # type: ignore[no-untyped-def]
    """Locate the next pixels of a row, at most so many, of which the first are plain: how many they are, and whether
    any of them is special."""
    if plain:
        locate_plain(spec, grid, d, q0, pix, ints, plain, base, w)
        return plain, False
    count = min(EDGE_RUN, most)
    locate_row(spec, grid, d, q0, pix, ints, frame, count, base, w)
    return count, base[(2 + pix.size) * BLOCK] != 0


def _warp(
    spec, rows, grid, out, frame, ints, mode, field, firsts, weights, ends, lasts, sizes, levels, pose, posed, shape,
    at, pix, d, base, w, start, stop,
):  # type: ignore[no-untyped-def]  # fmt: skip
    """Segments start ... stop of the rows of the result."""
    nd = shape.size
    at[:] = -1
    for unit in range(start, stop):
        first, length = displaced(
            rows, mode, field, firsts, weights, ends, lasts, sizes, levels, pose, posed, shape, at, d, unit
        )
        b = at[nd]
        for a in range(nd):
            pix[a] = at[a]
        q0 = np.int64(0)  # of a literal 0 what is called with it would be compiled twice
        while q0 < length:
            i, special = first + q0, False
            is_across(spec, out, base)
            across = base[0] == 1
            most = min(RUN if across else BLOCK, length - q0)
            count = _plain(spec, d, q0, most, pix, ints, base)
            if across and count:
                gather_plain(spec, grid, b, d, q0, pix, ints, count, base, out, b, i)
            else:
                most = min(BLOCK, most)
                count, special = _located(spec, grid, d, q0, most, pix, ints, frame, count, base, w)
                for q in range(count):
                    gather_located(spec, grid, b, base, w, q, out, b, i + q)
            q0 += count
            if special:
                for q in range(count):
                    flag = base[BLOCK + q]
                    if flag & NAN:
                        fill(spec, out, b, i + q, frame, 0)
                    elif flag:
                        fill(spec, out, b, i + q, frame, 1)


def _unwarp(
    spec, rows, grid, values, frame, ints, mode, field, firsts, weights, ends, lasts, sizes, levels, pose, posed, shape,
    at, pix, d, base, w, start, stop,
):  # type: ignore[no-untyped-def]  # fmt: skip
    """The transpose of _warp: what the values of segments start ... stop, of one item, add to its grid. Returns the
    least and the greatest offset of a stencil."""
    nd = shape.size
    at[:] = -1
    least, greatest = np.int64(grid.size), np.int64(-1)
    for unit in range(start, stop):
        first, length = displaced(
            rows, mode, field, firsts, weights, ends, lasts, sizes, levels, pose, posed, shape, at, d, unit
        )
        b = at[nd]
        for a in range(nd):
            pix[a] = at[a]
        q0 = np.int64(0)  # of a literal 0 what is called with it would be compiled twice
        while q0 < length:
            i, most = first + q0, min(BLOCK, length - q0)
            count = _plain(spec, d, q0, most, pix, ints, base)
            count, special = _located(spec, grid, d, q0, most, pix, ints, frame, count, base, w)
            q0 += count
            for q in range(count):
                if not special or base[BLOCK + q] == 0:
                    scatter(spec, grid, 0, base, q, w, q, values, b, i + q)
            for q in range(count):
                least, greatest = min(least, np.int64(base[q])), max(greatest, np.int64(base[q]))
    return least, greatest


def _places(
    rows, x, begin, mode, field, firsts, weights, ends, lasts, sizes, levels, pose, posed, shape, at, d, start, stop
):  # type: ignore[no-untyped-def]
    """x[b, i, axis]: where the pixels of segments start ... stop come from."""
    nd = shape.size
    at[:] = -1
    for unit in range(start, stop):
        first, length = displaced(
            rows, mode, field, firsts, weights, ends, lasts, sizes, levels, pose, posed, shape, at, d, unit
        )
        b = at[nd]
        for a in range(nd):
            pixel, step = begin[a] + at[a], 1 if a == nd - 1 else 0
            for q in range(length):
                x[b, first + q, a] = d[a * ROW + q] + (pixel + step * q)


def _arguments(real: Any, index: Any) -> tuple[Any, ...]:
    """Types of what `displaced` takes, between the spec and the segment."""
    whole, one = array(np.int64, 1, "C"), array(real, 1, "C")
    return (
        types.int64, one, array(np.int64, 2, "C"), array(real, 3, "C"), whole, one, whole, one,
        array(np.float64, 3, "C"), types.int64, whole, whole,
    )  # fmt: skip


@functools.cache
def entry(kernel: Callable[..., Any], spec: Any, dtype: str, index: str) -> Any:
    """The compiled kernel of a specialisation."""
    real, offsets, i64 = np.dtype(dtype), np.dtype(index), types.int64
    one, ints, rows = array(real, 1, "C"), array(offsets, 1, "C"), RowSpec(spec.ndim)
    args = (
        rows._numba_type_, array(real, spec.ndim + 2), array(real, 4), one, ints, *_arguments(real, index), ints, one,
        ints, one, i64, i64,
    )  # fmt: skip
    typ = spec._numba_type_
    return compiled(kernel, f"{typ.digest}_{dtype}_{index}", (typ, *args))


@functools.cache
def places_entry(ndim: int, dtype: str) -> Any:
    """The compiled kernel that says where pixels come from."""
    real, i64 = np.dtype(dtype), types.int64
    typ, one = RowSpec(ndim)._numba_type_, array(np.dtype(dtype), 1, "C")
    args = (array(real, 3, "C"), array(np.int64, 1, "C"), *_arguments(real, "int64"), one, i64, i64)
    return compiled(_places, f"{typ.digest}_{dtype}", (typ, *args))


def _add(x: Array, y: Array) -> None:
    """x += y."""
    threads.over(lambda i, j: np.add(x[i:j], y[i:j], out=x[i:j]), x.size, plan.ADD_NS * x.size)


class Rows:
    """The tables of a warp, for one dtype."""

    def __init__(self, static: Warp, dtype: str) -> None:
        self.static, self.dtype, self.plan = static, dtype, plan.plan(static.sample, dtype)
        nd, shape, points = static.ndim, static.shape, static.points
        self.shape = np.array(shape, np.int64)
        self.whole: Box = tuple((0, n) for n in self.plan.scheme.grid.shape)
        self.mode = DENSE if points is None else NONE if set(points) == {1} else LATTICE
        n = max(shape)
        self.firsts, self.weights = np.zeros((nd, n), np.int64), np.zeros((nd, n, 4), dtype)
        self.sizes, self.ends = np.ones(nd, np.int64), np.zeros(1, np.int64)
        if self.mode == LATTICE:
            for a, (p, full, s, m) in enumerate(zip(points, static.full, static.start, shape)):  # type: ignore[arg-type]
                first, weight = lattice.taps(p, full)
                self.firsts[a, :m], self.weights[a, :m] = first[s : s + m], weight[s : s + m]
            padded = [p + lattice.BEFORE + lattice.AFTER for p in points]  # type: ignore[union-attr]
            self.sizes = np.array([prod(padded[a:]) for a in range(nd)], np.int64)
            last = self.firsts[-1, : shape[-1]]
            self.ends = np.searchsorted(last, np.arange(padded[-1]), side="right").astype(np.int64)
        self.lasts = np.zeros((4, shape[-1] + LINE), dtype)
        self.lasts[:, : shape[-1]] = self.weights[-1, : shape[-1]].T
        self.lasts = self.lasts.reshape(-1)
        self.around = [
            extension("mirror", p, np.arange(-lattice.BEFORE, p + lattice.AFTER)).index[:, 0] for p in points or ()
        ]
        self.room = nd * int(self.sizes[1:].sum()) + LINE
        self.units = prod(shape[:-1]) * -(-shape[-1] // SEGMENT)
        self.of_whole = self._ints(self.whole)

    def _bounded(self, field: Array) -> Array:
        """Numbers of which the displacements of the result are averages: control points of the same spline, laid more
        and more densely until their least and greatest are near its own."""
        field, static = np.asarray(field, np.float64), self.static
        for a in range(static.ndim) if self.mode == LATTICE else ():
            p = static.points[a]  # type: ignore[index]
            c = np.moveaxis(np.take(field, self.around[a], a + 2), a + 2, 0)
            at = lattice.positions(p, static.full[a])[[static.start[a], static.start[a] + static.shape[a] - 1]]
            at = at + lattice.BEFORE
            for _ in range(DENSER):  # between two, halfway; at one, a little of both neighbours
                finer = np.empty((2 * len(c) - 3, *c.shape[1:]))
                finer[0::2], finer[1::2] = (c[:-1] + c[1:]) / 2, (c[:-2] + 6 * c[1:-1] + c[2:]) / 8
                c, at = finer, 2 * at - 1
            field = np.moveaxis(c[max(0, floor(at[0]) - 1) : floor(at[1]) + 3], 0, a + 2)
        return field

    def box(self, channels: int, field: Array, pose: Array) -> tuple[Box, Box]:
        """First and last + 1 of the pixels along each axis whose coefficients are read; and of those that are enough
        to know for that, the filter's margins included."""
        static, axes, boundaries = self.static, self.plan.scheme.axes, self.plan.scheme.boundaries
        if static.shape == static.full or static.pad or not (channels and field.size):
            return self.whole, self.whole
        part = self._bounded(field)
        half = (self.shape - 1) / 2
        turn = (np.abs(pose[..., :-1]) @ half).max(0)
        over = (0, *range(2, part.ndim))
        low = np.array(static.start) + part.min(over) + pose[..., -1].min(0) - turn - 1e-3
        high = np.array(static.start) + self.shape - 1 + part.max(over) + pose[..., -1].max(0) + turn + 1e-3
        if not (np.isfinite(low).all() and np.isfinite(high).all()):
            return self.whole, self.whole
        filters = decode(static.filter) if static.filter else None
        read, box, shape = [], [], self.plan.scheme.grid.shape
        for axis, boundary, n, lo, hi in zip(axes, boundaries, shape, low, high):
            last, margin = n - 1, 0
            if filters and axis.kernel.poles and n > 1:
                margin = prefilter.vanishing(axis.kernel, self.dtype)
            for part, reach in (read, axis.kernel.width // 2 + 1), (box, axis.kernel.width // 2 + 1 + margin):
                a, b = lo, hi
                if boundary == "wrap" and (lo < reach or hi > last - reach):
                    a, b = 0.0, float(last)
                elif axis.fold != "hold":  # what lies beyond an end is mirrored into the image
                    a = min(a, 2 * last - hi - 1)
                    b = max(b, 1 - lo)
                part.append(
                    (max(0, min(floor(min(a, last)) - reach, n)), min(n, max(0, ceil(max(b, 0.0)) + 1 + reach)))
                )
        sizes = tuple(b - a for a, b in box)
        if prod(sizes) > 0.8 * prod(shape) or min(sizes) < 4:
            return tuple(read), self.whole
        if filters:  # the filter of very long lines works window by window, with seams
            plans = [prefilter.plan((channels, *s), np.dtype(self.dtype), filters.kernels, filters.boundaries, False)
                     for s in (shape, sizes)]  # fmt: skip
            if any(sweep.windowed for p in plans for sweep in p.sweeps):
                return tuple(read), self.whole
        return tuple(read), tuple(box)

    def ints(self, box: Box) -> tuple[Array, plan.Ends]:
        """See INTS; and how the part of the image that the box holds continues beyond its ends."""
        return self.of_whole if box == self.whole else self._ints(box)

    def _ints(self, box: Box) -> tuple[Array, plan.Ends]:
        scheme, rows, widths = self.plan.scheme, [], []
        for axis, origin, start, (a, b) in zip(scheme.axes, scheme.grid.origin, self.static.start, box):
            period = {"mirror": 2 * (axis.n - 1), "reflect": 2 * axis.n, "wrap": axis.n}.get(axis.fold, 1)
            whole = floor(turning(axis.fold, axis.kernel.width)[0])
            ends = int(axis.lowest), int(axis.highest)
            before, after = axis.margins
            widths.append((0 if a else before, 0 if b < axis.n else after))
            room = b - a + sum(widths[-1]) - axis.kernel.width
            cut = a - axis.first if a else 0
            turn, first = whole + period // 2, int(0.5 * (axis.kernel.width % 2) - axis.kernel.shift + axis.cell)
            # a pixel is so far from an end that a fraction makes no difference
            last = {"hold": ends[1], "inside": ends[1], "wrap": period - 1}.get(axis.fold, turn)
            low = max(ends[0] if axis.fold in ("hold", "inside") else 0, cut + first - 1) + 2
            high = min(last - 1, first + axis.cells - 1, first + cut + room)
            rows += [start - int(origin), *ends, turn, period, axis.cells - 1, cut, room, low, high]
        boundaries = tuple(a.boundary for a in scheme.axes)
        own = plan.ends(tuple(b - a for a, b in box), tuple(widths), boundaries, self.dtype)
        return np.array(rows, np.int64), self.plan.ends if box == self.whole else own

    def field(self, field: Array) -> Array:
        """Flat: the control points continued beyond their ends, or the displacement of every pixel."""
        if self.mode == LATTICE:
            for a, around in enumerate(self.around, start=2):
                field = np.take(field, around, axis=a)
        return np.concatenate([field.reshape(-1), np.zeros(4 * LINE, self.dtype)])

    def _by_planes(self, image: Array, read: Box, box: Box) -> tuple[Array, Array] | None:
        """Padded coefficients, and INTS, of a large image, (batch, channels, *box): a few planes at a time are filtered
        in cache on their way to where they are padded, of which only those are kept that are read; along the first
        axis it is done there. None where that does not work, or is not worth it."""
        static, (batch, channels), box_sizes = self.static, image.shape[:2], [b - a for a, b in box]
        plane = prod(box_sizes[1:]) * channels
        if static.pad or not static.filter or plane * box_sizes[0] * image.itemsize < 2 * prefilter.BLOCK:
            return None
        f, dtype, count = decode(static.filter), np.dtype(self.dtype), box_sizes[0]
        kept: Box = tuple((max(i, a), min(j, b)) for (i, j), (a, b) in zip(read, box))
        wanted = tuple((i - a, j - a) for (i, j), (a, _) in zip(kept, box))
        ints, ends = self.ints((box[0], *kept[1:]))
        sizes = (batch, *ends.shape, channels)
        room = prefilter.Room((0, *ends.dims[2].tolist(), 0), (batch, *ends.padded, channels),
                              ((0, batch), wanted[0], *((0, n) for n in sizes[2:])))  # fmt: skip
        linear = (bspline(1),) * (static.ndim - 1)
        along_first = prefilter.within(sizes, dtype, (f.kernels[0], *linear), f.boundaries, room)
        few = min(max(1, prefilter.BLOCK // (plane * dtype.itemsize)), count)
        solves = {}
        for n in {few, count % few} - {0}:
            whole = (n, *box_sizes[1:], channels)
            room = prefilter.Room((0,) * len(whole), whole, ((0, n), *wanted[1:], (0, channels)))
            solves[n] = prefilter.within(whole, dtype, f.kernels[1:], f.boundaries[1:], room)
        if along_first is None or not all(solves.values()):
            return None
        grid, flat = ends.buffer(batch, channels)
        middle = tuple(slice(before, before + n) for n, _, before in ends.dims.T)
        target, source = grid[:, *middle], np.moveaxis(image, 1, -1)
        parts = [(b, i, min(i + few, count)) for b in range(batch) for i in range(0, count, few)]

        def work(start: int, stop: int) -> None:
            scratch = np.empty((few, *box_sizes[1:], channels), dtype)
            for b, i, j in parts[start:stop]:
                part = scratch[: j - i]
                np.copyto(part, source[b, i:j], "unsafe")
                solves[j - i](part.reshape(-1))  # type: ignore[misc]
                target[b, i:j] = part[:, *(slice(*ends) for ends in wanted[1:])]

        threads.over(work, len(parts), prefilter.AXIS_NS * static.ndim * image.size, align=1)
        along_first(flat[: grid.size])
        ends.extend(flat, batch, channels, self.plan.beyond)
        return grid, ints

    def _in_place(self, image: Array, read: Box, box: Box) -> tuple[Array, Array] | None:
        """The same, by the spline filter in the memory where they are padded. None if it cannot be done there."""
        static, (batch, channels) = self.static, image.shape[:2]
        if static.pad or not static.filter:
            return None
        ints, ends = self.ints(box)
        f, befores, wanted = decode(static.filter), tuple(ends.dims[2].tolist()), []
        for (i, j), (a, b) in zip(read, box):
            wanted.append((max(0, i - a), min(j, b) - a))
        room = prefilter.Room((0, *befores, 0), (batch, *ends.padded, channels), ((0, batch), *wanted, (0, channels)))
        sizes = (batch, *(b - a for a, b in box), channels)
        solve = prefilter.within(sizes, np.dtype(self.dtype), f.kernels, f.boundaries, room)
        return solve and (ends.pad(image, self.plan.beyond, solve), ints)

    def __call__(
        self, image: Array, filtered: Callable[[], Array], read: Box, box: Box, field: Array, pose: Array,
        out: Array | None,
    ) -> Array:  # fmt: skip
        """(batch, 1, pixels, channels) of the pixels of the box, (batch, channels, *box), of any real type and strides.

        read: of which pixels coefficients are read; filtered: makes them where that cannot be done in the memory
        where they are padded. They are let go once they are there, before the result is made.
        """
        batch, channels = image.shape[:2]
        field, pose = self.field(field), np.ascontiguousarray(pose, np.float64)
        posed, pixels, coefficients = bool(pose.any()), prod(self.static.shape), None
        if not (self.static.filter or self.static.pad):
            coefficients = image
        for c in plan.groups(channels, self.plan.lanes):
            made = self._by_planes(image[:, c], read, box) or self._in_place(image[:, c], read, box)
            if made:
                grid, ints = made
            else:
                coefficients = filtered() if coefficients is None else coefficients
                ints, ends = self.ints(box)
                slack = self.plan.spec(c.stop - c.start, False, False).slack
                grid = ends.pad(coefficients[:, c], self.plan.beyond, slack=slack)
            if c.stop == channels:
                coefficients = None
            if out is None:
                out = np.empty((batch, 1, pixels, channels), self.dtype)
            work = functools.partial(self._run, grid, out[..., c], ints, field, pose, posed)
            ns = batch * pixels * (self.plan.point_ns + 2)
            units = batch * self.units
            work(0, units) if ns < plan.SMALL else threads.over(work, units, ns, align=1)
        return np.empty((batch, 1, pixels, channels), self.dtype) if out is None else out

    def transpose(self, values: Array, field: Array, pose: Array) -> Array:
        """(batch, 1, pixels, channels) -> (batch, channels, *shape): the transpose of the call, but for the filter.

        Each part of the result is added to a grid of its own, and those in turn: the same bits on any number of
        threads. What a part does not reach is never touched.
        """
        values, (batch, _, _, channels) = np.ascontiguousarray(values), values.shape
        ends, axes = self.plan.ends, self.plan.scheme.axes
        out = np.zeros((batch, channels, *ends.shape), self.dtype)
        if not values.size:
            return out
        field, pose = self.field(field), np.ascontiguousarray(pose, np.float64)
        posed, ints = bool(pose.any()), self.ints(self.whole)[0]
        ns = values.size * (self.plan.point_ns + 2)
        step = SLAB * prod(self.static.shape[-2:-1]) * -(-self.static.shape[-1] // SEGMENT) if len(axes) > 2 else 1
        share = step * ceil(self.units / step / max(1, min(COPIES // batch, ns // plan.SMALL)))
        starts = [(b, i) for b in range(batch) for i in range(0, self.units, share)]
        stencil = 1 + sum((a.kernel.width - 1) * prod(ends.padded[k + 1 :]) for k, a in enumerate(axes))
        for c in plan.groups(channels, self.plan.lanes):
            size = c.stop - c.start
            grids = [ends.buffer(1, size, zero=True) for _ in starts]
            reached = [(0, 0)] * len(starts)

            def spread(k: int, c: slice = c, grids: Any = grids, reached: Any = reached) -> None:
                b, i = starts[k]
                i, j = b * self.units + i, b * self.units + min(i + share, self.units)
                reached[k] = self._run(grids[k][0], values[..., c], ints, field, pose, posed, i, j, _unwarp)

            tasks = [functools.partial(spread, k) for k in range(len(starts))]
            threads.run(tasks) if ns > plan.SMALL else [task() for task in tasks]
            for (b, i), (grid, flat), (first, last) in zip(starts, grids, reached):
                if i == 0:
                    total = grid, flat
                elif first <= last:
                    part = slice(first, last + stencil * size)
                    _add(total[1][part], flat[part])
                if i + share >= self.units:
                    out[b : b + 1, c] = ends.fold(*total)
        return out

    def _run(
        self, grid: Array, out: Array, ints: Array, field: Array, pose: Array, posed: bool, start: int, stop: int,
        kernel: Callable[..., Any] = _warp,
    ) -> Any:  # fmt: skip
        spec = self.plan.spec(out.shape[-1], False, False)
        index = "int64" if grid.size >= plan.WIDE * len(grid) else "int32"
        base, w = spec.scratch(self.dtype, index)
        d = np.empty(spec.ndim * ROW, self.dtype)
        return entry(kernel, spec, self.dtype, index)(
            spec, RowSpec(spec.ndim), grid, out, self.plan.frame, ints.astype(index), *self._rows(field, pose, posed),
            np.zeros(spec.ndim, index), d, base, w, start, stop,
        )  # fmt: skip

    def _rows(self, field: Array, pose: Array, posed: bool) -> tuple[Any, ...]:
        """See _arguments."""
        return (
            self.mode, field, self.firsts, self.weights, self.ends, self.lasts, self.sizes,
            np.empty(self.room, self.dtype), pose, posed, self.shape, np.empty(self.static.ndim + 1, np.int64),
        )  # fmt: skip

    def places(self, field: Array, pose: Array) -> Array:
        """(batch, pixels, ndim): where the pixels come from."""
        nd, batch, pixels = self.static.ndim, len(field), prod(self.static.shape)
        x, begin = np.empty((batch, pixels, nd), self.dtype), np.array(self.static.start, np.int64)
        field, pose = self.field(field), np.ascontiguousarray(pose, np.float64)
        posed, kernel = bool(pose.any()), places_entry(nd, self.dtype)

        def work(start: int, stop: int) -> None:
            d = np.empty(nd * ROW, self.dtype)
            kernel(RowSpec(nd), x, begin, *self._rows(field, pose, posed), d, start, stop)

        threads.over(work, batch * self.units, PLACE_NS * batch * pixels * nd, align=1)
        return x


@functools.lru_cache(maxsize=256)
def rows(text: str, dtype: str) -> Rows:
    """The tables of a warp."""
    return Rows(decode(text), dtype)
