"""From a Scheme to kernels: tables and buffers prepared once per scheme, and how a call is cut among threads."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np

from ..boundary import extension
from ..scheme import Scheme, decode
from . import margins, taps, threads
from .cache import array, compiled

Array = np.ndarray[Any, Any]

WIDE = 2**31  # elements of a grid from which on offsets need 64 bits
SLACK = 64  # elements that vector loads may read past the last row: lanes are rounded up to a power of two
LANES = 32  # (tap, channel) lanes handled at once: more channels go in groups
COPY_NS, EDGE_NS = 0.8, 1.5  # measured: padding one sample; one tap of a stencil that crosses the ends
ADD_NS = 0.3  # measured: adding one sample of a copy to the others
SMALL = 2e5  # ns of work that stay on one thread
SERIAL = 2**14  # points that are not worth a second copy of the grid


class Ends:
    """How the axes of a grid continue: sizes and extension tables in the form the kernels take."""

    def __init__(
        self, shape: tuple[int, ...], widths: tuple[tuple[int, int], ...], boundaries: tuple[str, ...], dtype: str
    ) -> None:
        self.dtype, self.shape = dtype, shape
        self.padded = tuple(n + sum(w) for n, w in zip(shape, widths, strict=True))
        self.dims = np.array([shape, self.padded, [before for before, _ in widths]], np.int64)
        # a row per sample of the margins, and one for samples on the grid: themselves
        parts = [
            extension(boundary, n, np.r_[-before:0, n : n + after])
            for n, (before, after), boundary in zip(shape, widths, boundaries, strict=True)
        ]
        rows, terms = 1 + max(map(sum, widths)), max(e.index.shape[1] for e in parts)
        self.index = np.zeros((len(shape), rows, terms), np.int64)
        self.weight = np.zeros((len(shape), rows, terms), dtype)
        self.rest = np.zeros((len(shape), rows), dtype)
        self.weight[:, -1, 0] = 1
        for a, e in enumerate(parts):
            k, t = e.index.shape
            self.index[a, :k, :t], self.weight[a, :k, :t], self.rest[a, :k] = e
        self.plain = self.padded == shape
        self.lines, self.length = prod(shape[:-1]), prod(self.padded)
        self.pad_kernel, self.fold_kernel = margins.entry("pad", dtype), margins.entry("fold", dtype)

    def buffer(self, batch: int, channels: int, *, zero: bool = False) -> tuple[Array, Array]:
        """An empty or zeroed padded grid (batch, *padded, channels) with slack, and its flat memory."""
        n = batch * self.length * channels
        flat = (np.zeros if zero else np.empty)(n + SLACK, self.dtype)
        return flat[:n].reshape(batch, *self.padded, channels), flat

    def pad(
        self, values: Array, cval: float, solve: Callable[[Array], None] | None = None, *, slack: bool = True
    ) -> Array:
        """(batch, channels, *shape), of any real type and strides -> (batch, *padded, channels), with slack behind it.

        solve: what is done to the padded memory, in place, before the samples are continued. slack: False where none
        is needed: then it may be the values' own memory, which is a sixth of a linear warp.
        """
        batch, channels = values.shape[:2]
        if self.plain and not (slack or solve) and values.dtype == self.dtype:
            own = np.moveaxis(values, 1, -1)
            if own.flags.c_contiguous and own.flags.aligned:
                return own
        grid, flat = self.buffer(batch, channels)
        lines, beyond = batch * self.lines, (self.index, self.weight, self.rest, cval)
        work = COPY_NS * values.size
        if values.dtype == self.dtype and values.flags.c_contiguous:
            part = functools.partial(self.pad_kernel, values.reshape(-1), flat, self.dims, batch, channels)
            if work < SMALL and not solve:
                part(0, lines, not self.plain, *beyond)
                return grid
            threads.over(lambda i, j: part(i, j, False, *beyond), lines, work, align=1)
        else:  # converted on the way
            part = functools.partial(self.pad_kernel, flat, flat, self.dims, batch, channels)
            middle = tuple(slice(before, before + n) for n, _, before in self.dims.T)
            target, source = grid[:, *middle], np.moveaxis(values, 1, -1)
            threads.over(lambda i, j: np.copyto(target[:, i:j], source[:, i:j], "unsafe"), self.shape[0], work, align=1)
        if solve:
            solve(flat[: grid.size])
        self.extend(flat, batch, channels, cval)
        return grid

    def extend(self, flat: Array, batch: int, channels: int, cval: float) -> None:
        """Continue the samples of a padded grid beyond their ends."""
        beyond = not self.plain, self.index, self.weight, self.rest, cval
        self.pad_kernel(flat, flat, self.dims, batch, channels, 0, 0, *beyond)

    def fold(self, grid: Array, flat: Array, out: Array | None = None) -> Array:
        """The transpose of pad; spoils grid."""
        batch, channels = grid.shape[0], grid.shape[-1]
        out = np.empty((batch, channels, *self.shape), self.dtype) if out is None else out
        dst, lines, beyond = out.reshape(-1), batch * self.lines, (self.index, self.weight)
        work = COPY_NS * out.size
        if work < SMALL:
            self.fold_kernel(flat, dst, self.dims, batch, channels, 0, lines, not self.plain, *beyond)
        else:
            part = functools.partial(self.fold_kernel, flat, dst, self.dims, batch, channels)
            part(0, 0, not self.plain, *beyond)
            threads.over(lambda i, j: part(i, j, False, *beyond), lines, work, align=1)
        return out


@functools.cache
def groups(channels: int, most: int) -> list[slice]:
    """Channels in even groups of at most `most`."""
    size = -(-channels // -(-channels // most)) if channels else 1
    return [slice(c, min(c + size, channels)) for c in range(0, channels, size)]


class Plan:
    """A scheme prepared for one dtype."""

    def __init__(self, scheme: Scheme, dtype: str) -> None:
        self.scheme, self.dtype, axes = scheme, dtype, scheme.axes
        boundaries = tuple(a.boundary for a in axes)
        self.ends = Ends(scheme.grid.shape, tuple(a.margins for a in axes), boundaries, dtype)
        eps = float(np.finfo(dtype).eps)
        frame = []
        for axis, origin, spacing in zip(axes, scheme.grid.origin, scheme.grid.spacing, strict=True):
            n = axis.n
            period = {
                "mirror": max(2.0 * (n - 1), 1.0),
                "reflect": 2.0 * n,
                "wrap": 1.0 * n,
                "inside": axis.slack(eps),
                "hold": 1.0,
            }
            p = period[axis.fold]
            frame += [origin, 1 / spacing, axis.lowest, axis.highest, p, 1 / p, axis.cells - 1.0]
        with np.errstate(over="ignore", under="ignore"):
            rounded = np.array(
                [(o, 1 / h) for o, h in zip(scheme.grid.origin, scheme.grid.spacing, strict=True)], dtype
            )
        if not (np.isfinite(rounded).all() and rounded[:, 1].all()):
            raise ValueError(
                f"gridfield: origin {scheme.grid.origin} and spacing {scheme.grid.spacing} of the grid do not fit into "
                f"{dtype}: use float64, or other units"
            )
        # what continues the samples: cval counts there only for "grid-constant" (it may be NaN, so not 0 times it)
        self.beyond = scheme.cval if "grid-constant" in boundaries else 0.0
        self.frame = np.array([*frame, np.nan, scheme.cval, np.nan, 0.0, self.beyond], dtype)  # see taps.fill
        self.taps = prod(a.kernel.width for a in axes)
        crossing = [min(1.0, (a.extent - a.n + a.kernel.width) / a.n) for a in axes]
        self.crossing = 1 - prod(1 - c for c in crossing)
        self.edge_ns = EDGE_NS * self.taps * self.ends.index.shape[2] ** len(axes)
        self.point_ns = 0.1 * self.taps * len(scheme.orders) + 2
        self.samples = prod(scheme.grid.shape)
        self.lanes = max(1, LANES // axes[-1].kernel.width)
        # below this many points, reading the grid in place beats one copy of it
        roomy = all(a.n >= a.kernel.width for a in axes)
        self.few = COPY_NS * self.samples / (self.crossing * self.edge_ns + self.point_ns) if roomy else 0.0
        self.no_block = np.empty((0,) * (len(axes) + 2), dtype)
        self.kernels: dict[tuple[str, int, bool, bool], tuple[Any, taps.Spec, str]] = {}
        self.specs: dict[tuple[int, bool, bool], taps.Spec] = {}

    def spec(self, channels: int, direct: bool, dot: bool) -> taps.Spec:
        """The specialisation for so many channels."""
        axes, key = self.scheme.axes, (channels, direct, dot)
        if key not in self.specs:
            self.specs[key] = taps.Spec(
                tables=tuple(a.kernel.table() for a in axes),
                folds=tuple(a.fold for a in axes),
                offsets=tuple(a.kernel.shift - a.cell for a in axes),
                firsts=tuple(a.first for a in axes),
                orders=self.scheme.orders,
                channels=channels,
                direct=direct,
                dot=dot,
            )
        return self.specs[key]

    def direct(self, points: int, sweeps: int) -> bool:
        """Whether so few points touch the grid that reading it in place beats `sweeps` copies of it."""
        return points < self.few * sweeps

    def kernel(self, kind: str, channels: int, direct: bool, wide: bool) -> tuple[Any, taps.Spec, str]:
        """The compiled kernel, its spec and the type of its offsets (wide: 64 bits)."""
        key = kind, channels, direct, wide
        if key not in self.kernels:
            spec, index = self.spec(channels, direct, kind == "dot"), "int64" if wide else "int32"
            self.kernels[key] = taps.entry("sample" if kind == "dot" else kind, spec, self.dtype, index), spec, index
        return self.kernels[key]

    def call(
        self, kind: str, grid: Array, points: Array, fields: tuple[Array, ...], direct: bool, start: int, stop: int
    ) -> None:
        """Run a kernel on points start ... stop of all items; fields: values (splat), out (sample), both (dot)."""
        kernel, spec, index = self.kernel(kind, fields[0].shape[-1], direct, grid.size >= WIDE * len(grid))
        base, w = spec.scratch(self.dtype, index)
        block = np.empty((1, *spec.widths, 1), self.dtype) if direct else self.no_block
        ends, fields = self.ends, fields * 2 if kind == "sample" else fields
        kernel(spec, grid, points, *fields, self.frame, block, ends.index, ends.weight, base, w, start, stop)

    def gather(self, kind: str, values: Array, points: Array, fields: Callable[[slice], tuple[Array, ...]]) -> None:
        """Run a gathering kernel with the grid read in place or padded, channel group by channel group."""
        (batch, channels), n = values.shape[:2], points.shape[1]
        direct = self.direct(batch * n, sweeps=1)
        # in place, rows must be dense: they are read as vectors
        if not (values.strides[-1] == values.itemsize if direct else values.flags.c_contiguous):
            values = np.ascontiguousarray(values)
        for c in groups(channels, 1 if direct else self.lanes):
            if direct:
                grid = values[:, c.start, ..., None]
            else:
                part = values if c.stop - c.start == channels else np.ascontiguousarray(values[:, c])
                grid = self.ends.pad(part, self.beyond, slack=self.spec(c.stop - c.start, False, False).slack)
            if batch * n * self.point_ns < SMALL:
                self.call(kind, grid, points, fields(c), direct, 0, batch * n)
            else:
                work = functools.partial(self.call, kind, grid, points, fields(c), direct)
                threads.over(work, batch * n, batch * n * self.point_ns)

    def sample(self, values: Array, points: Array, out: Array | None = None) -> Array:
        """See reference.sample."""
        if out is None:
            out = np.empty((len(values), len(self.scheme.orders), points.shape[1], values.shape[1]), self.dtype)
        if values.strides[-1] != values.itemsize in values.strides[2:] and self.direct(
            len(values) * points.shape[1], 1
        ):
            # few points in a large grid that is dense along another axis (Fortran order): that one last, nothing copied
            axes = sorted(range(len(self.scheme.axes)), key=lambda a: -values.strides[2 + a])
            values = values.transpose(0, 1, *(2 + a for a in axes))
            return plan(self.scheme.permuted(tuple(axes)), self.dtype).sample(
                values, np.ascontiguousarray(points[..., axes]), out
            )
        if out.size:
            self.gather("sample", values, points, lambda c: (out[..., c],))
        return out

    def dot(self, values: Array, weights: Array, points: Array) -> Array:
        """See reference.dot; the scheme is the one with the derivatives along each axis (Scheme.up)."""
        if not (points.size and values.size):
            return np.zeros(points.shape, self.dtype)
        parts: list[Array] = []

        def fields(c: slice) -> tuple[Array, Array]:
            parts.append(np.empty((len(points), 1, *points.shape[1:]), self.dtype))
            return weights[..., c], parts[-1]

        self.gather("dot", values, points, fields)
        total = parts[0][:, 0]
        for part in parts[1:]:
            total += part[:, 0]
        return total

    def splat(self, values: Array, points: Array, out: Array | None = None) -> Array:
        """See reference.splat. The order of additions never depends on the number of threads."""
        batch, _, n, channels = values.shape
        direct = values.size == 0 or self.direct(batch * n, sweeps=2)
        if out is None:
            out = (np.zeros if direct else np.empty)((batch, channels, *self.scheme.grid.shape), self.dtype)
        elif direct:
            out[...] = 0
        if direct:
            for c in range(channels if values.size else 0):
                self.call("splat", out[:, c, ..., None], points, (values[..., c : c + 1],), True, 0, batch * n)
            return out
        for c in groups(channels, self.lanes):
            grid, flat = self.ends.buffer(batch, c.stop - c.start, zero=True)
            self._scatter(grid, flat, points, values[..., c])
            if c.stop - c.start == channels:
                return self.ends.fold(grid, flat, out)
            out[:, c] = self.ends.fold(grid, flat)
        return out

    def _scatter(self, grid: Array, flat: Array, points: Array, values: Array) -> None:
        """Add all points to the padded grid."""
        batch, n = points.shape[:2]
        work = functools.partial(self.call, "splat")
        if batch > 1:  # each item has its own grid
            jobs = [functools.partial(work, grid, points, (values,), False, b * n, (b + 1) * n) for b in range(batch)]
            threads.run(jobs) if batch * n * self.point_ns > 1e5 else [job() for job in jobs]
        elif n <= SERIAL:
            work(grid, points, (values,), False, 0, n)
        elif (copies := min(64, n // SERIAL, n * self.taps // (8 * grid.size))) > 1:
            # small grid: equal shares of the points into copies of it, added in order
            share = -(-n // copies)
            bank = np.zeros((copies, len(flat)), self.dtype)  # the system makes these zeros as they are touched
            grids = [row[: grid.size].reshape(grid.shape) for row in bank]
            threads.run(
                [
                    functools.partial(work, g, points, (values,), False, min(k * share, n), min((k + 1) * share, n))
                    for k, g in enumerate(grids)
                ]
            )
            threads.over(lambda i, j: np.sum(bank[:, i:j], axis=0, out=flat[i:j]), len(flat), ADD_NS * bank.size)
        else:
            self._scatter_slabs(grid, points, values)

    def _scatter_slabs(self, grid: Array, points: Array, values: Array) -> None:
        """Large grid: points sorted into slabs along the longest axis; first the even slabs, whose stencils do not
        meet, then the odd ones."""
        axis = int(np.argmax(self.ends.padded))
        a = self.scheme.axes[axis]
        thick = max(a.kernel.width, -(-a.cells // 64))
        # the stencil of cell 0 starts at a.first: count from there, as negative indices would
        slab_of = np.roll(np.arange(a.cells) // thick, a.first)
        slabs, n = -(-a.cells // thick), points.shape[1]
        kernel, spec, index = self.kernel("cells", 1, True, grid.size >= WIDE)
        keys = np.empty(n, np.int64)

        def locate(start: int, stop: int) -> None:
            base, w = spec.scratch(self.dtype, index)
            kernel(spec, grid, points, self.frame, axis, slab_of, keys, base, w, start, stop)

        threads.over(locate, n, 2.0 * n)
        sorted_points, sorted_values = np.empty_like(points), np.empty(values.shape, self.dtype)
        starts = np.zeros(slabs + 1, np.int64)
        _sorter(self.dtype)(keys, starts, points[0], values[0], sorted_points[0], sorted_values[0])
        for parity in (0, 1):
            work = [
                functools.partial(self.call, "splat", grid, sorted_points, (sorted_values,), False, int(i), int(j))
                for i, j in list(itertools.pairwise(starts))[parity::2]
            ]
            threads.run(work)


def _sort(keys, starts, points, values, sorted_points, sorted_values):  # type: ignore[no-untyped-def]
    """Stable counting sort of points (n, ndim) and values (k, n, c) by key; starts[s] is where key s begins."""
    for i in range(len(keys)):
        starts[keys[i] + 1] += 1
    for s in range(len(starts) - 1):
        starts[s + 1] += starts[s]
    place = starts.copy()
    for i in range(len(keys)):
        p = place[keys[i]]
        place[keys[i]] += 1
        for a in range(points.shape[1]):
            sorted_points[p, a] = points[i, a]
        for k in range(values.shape[0]):
            for c in range(values.shape[2]):
                sorted_values[k, p, c] = values[k, i, c]


@functools.cache
def _sorter(dtype: str) -> Any:
    whole = array(np.int64, 1, "C")
    two, three = array(dtype, 2, "C"), array(dtype, 3, "C")
    return compiled(_sort, dtype, (whole, whole, two, array(dtype, 3), two, three))


@functools.lru_cache(maxsize=1024)
def plan(text: str, dtype: str) -> Plan:
    """The plan of a scheme and dtype."""
    return Plan(decode(text), dtype)


@functools.lru_cache(maxsize=1024)
def ends(shape: tuple[int, ...], widths: tuple[tuple[int, int], ...], boundaries: tuple[str, ...], dtype: str) -> Ends:
    """Ends with the given (before, after) margins per axis."""
    return Ends(shape, widths, boundaries, dtype)
