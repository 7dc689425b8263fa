"""prefilter: the coefficients whose spline passes through the data, by recursive filters along each axis.

Along an axis the data are the coefficients, continued by the boundary, filtered with the kernel's samples s. Per pole z
of 1/s the inverse is a pair of recursions (Unser, Aldroubi, Eden 1993, "B-spline signal processing: part II", sec. II):

    upwards p[k] = y[k] + z p[k-1],    downwards q[k] = p[k] + z q[k+1],    times prod (1 - z)**2 / sum(s) in all.

What is special about a boundary is where they start: p[-1] and q[n] are linear functionals of the rows y and p, whose
weights decay like z**k and are tabulated here in closed form. So one kernel serves all boundaries, any number of poles
and all lengths; and since the transpose of "start from a functional w, then recur" is "recur the other way from
zero, then add w times the last value to the rows", the transposed solve is the same kernel with another table.

Trailing axes are done together, block by block in the second-level cache. Lines too long for a buffer are cut into
windows that overlap so far that what is wrong at their ends has decayed below rounding.

256**3 float32, cubic (2 cores Zen 4): 25 ms on one thread, 14 on two; scipy.ndimage.spline_filter takes 490. Memory is
read and written twice; two copies of the array, the bound for that, take 10 and 8 ms: 40 % and 60 % of the bandwidth.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from math import ceil, log, prod
from typing import Any, NamedTuple

import numpy as np

from ..boundary import ENLARGED, extension
from ..kernel import Kernel, bspline
from . import threads
from .recurrence import FRESH, SHARE, TILE, TOTAL, entry

Array = np.ndarray[Any, Any]

BLOCK = 2**19  # bytes of the array that are worked on at a time, and of the longest packed buffer
TALL = 2**21  # bytes of the longest buffer of strided lines; larger, since their windows need a second array
AXIS_NS = 0.3  # measured in cache: one element, one axis, one pole
CONTINUED = {"constant": "mirror", **ENLARGED}  # boundaries that only matter outside the data


class Room(NamedTuple):
    """Where values lie in a larger array, and which of the results are wanted."""

    befores: tuple[int, ...]  # rows before the values, per axis
    whole: tuple[int, ...]  # shape of the larger array
    wanted: tuple[tuple[int, int], ...]  # rows of the values, per axis


class Stage(NamedTuple):
    """One recursion: what it starts from, as weights of the rows; how much of its last value is added to the rows."""

    pole: float
    scale: float
    before: Array
    after: Array


def head(boundary: str, n: int, z: float) -> Array:
    """Weights w of p[-1] = sum_k w[k] y[k] = sum_(j>=1) z**(j-1) y[-j]."""
    period = {"wrap": n, "reflect": 2 * n}.get(boundary, 2 * n - 2)
    j = np.arange(1, min(period, ceil(log(1e-18) / log(abs(z)))) + 1)
    again = 1 / (1 - z**period)
    ext = extension(boundary, n, -j)
    w = np.zeros(n)
    np.add.at(w, ext.index, ext.weight * (again * z ** (j - 1))[:, None])
    if boundary == "natural":  # y[k - period] = y[k] - 2 (y[n-1] - y[0])
        w[[0, -1]] += np.array([2, -2]) * again * z**period / (1 - z)
    return w


def tail(boundary: str, n: int, z: float) -> Array:
    """Weights w of q[n] = sum_k w[k] p[k]: q continues as the boundary says, q[k] = p[k] + z q[k+1]."""
    if boundary == "wrap":  # q[n] = q[0]
        return z ** np.arange(n) / (1 - z**n)
    w = np.zeros(n)
    if boundary == "mirror":  # q[n] = q[n-2]
        w[-2:] = np.array([1, z]) / (1 - z * z)
    elif boundary == "reflect":  # q[n] = q[n-1]
        w[-1] = 1 / (1 - z)
    else:  # q[n] = 2 q[n-1] - q[n-2]
        w[-2:] = np.array([-1, 2 - z]) / (1 - z) ** 2
    return w


def stages(kernel: Kernel, boundary: str, n: int, transposed: bool, left: bool, right: bool) -> list[Stage]:
    """The recursions of an axis, up and down in turns; left, right: whether the data end there, or the window only."""
    none = np.zeros(0)
    plan = []
    for z in kernel.poles:
        plan.append((z, head(boundary, n, z) if left else none))
        plan.append((z, tail(boundary, n, z) if right else none))
    gain = prod((1 - z) ** 2 for z in kernel.poles) / float(np.sum(kernel.samples))
    scales = [gain] + [1.0] * (len(plan) - 1)
    if transposed and boundary not in ("reflect", "wrap"):  # those two are symmetric
        return [Stage(z, scale, none, z * w) for (z, w), scale in zip(reversed(plan), scales)]
    return [Stage(z, scale, scale * w, none) for (z, w), scale in zip(plan, scales)]


def margin(kernel: Kernel, dtype: Any) -> int:
    """After how many rows a wrong start has decayed below rounding."""
    eps = float(np.finfo(dtype).eps)
    return ceil(log(eps / 64) / log(max(map(abs, kernel.poles)))) + 4 * len(kernel.poles)


def vanishing(kernel: Kernel, dtype: Any) -> int:
    """After how many rows nothing at all is left of a number, be it the largest there is: then lines that begin
    elsewhere agree to the last bit, also where there is nothing but zeros."""
    info = np.finfo(dtype)  # its least number is 0 on threads that flush such to zero, as XLA's
    powers = info.maxexp - info.minexp + info.nmant
    return ceil(powers * log(2) / -log(max(map(abs, kernel.poles)))) + margin(kernel, dtype)


class Window(NamedTuple):
    """Like windows of a line: count of them from row begin on, step apart; of their rows, low ... high are stored."""

    count: int
    begin: int
    step: int
    rows: int
    low: int
    high: int
    left: bool
    right: bool


def windows(n: int, longest: int, margin: int) -> list[Window]:
    """Cut a line of n rows, if longer than that, into shorter windows: the first, those between, the last."""
    most = max(longest // 4, 4 * margin)
    if n <= max(longest, most):
        return [Window(1, 0, 0, n, 0, n, True, True)]
    step = most - 2 * margin
    between = -(-(n - most) // step) - 1
    end = step * (between + 1) + margin  # the first row that the last window stores
    return [
        Window(1, 0, 0, most, 0, most - margin, True, False),
        Window(between, step, step, most, margin, margin + step, False, False),
        Window(1, n - most, 0, most, end - (n - most), most, False, True),
    ]


class Sweep(NamedTuple):
    """Passes over the array, together, block by block."""

    axes: list[int]
    passes: Array
    jobs: int
    windowed: bool  # lines are cut into windows: not to be written where they are read from
    ns: float


class Plan:
    """The sweeps for one shape, dtype, and kernel and boundary per axis (entry 0 of each: the batch)."""

    def __init__(
        self, shape: tuple[int, ...], dtype: Any, kernels: Sequence[Any], boundaries: Sequence[str], transposed: bool,
        room: Room | None = None,
    ) -> None:  # fmt: skip
        self.shape, self.dtype, self.transposed = shape, dtype, transposed
        self.befores, self.whole, self.wanted = room or Room((0,) * len(shape), shape, tuple((0, n) for n in shape))
        self.kernels, self.boundaries = kernels, [CONTINUED.get(b, b) for b in boundaries]
        self.lanes, self.size = TILE // dtype.itemsize, prod(self.whole)
        # elements from one row of an axis to the next
        self.inner = [prod(self.whole[a + 1 :]) for a in range(len(shape))]
        self.solves: list[tuple[int, ...]] = []
        self.stages: list[Stage] = []
        self.room = self.packed = 0  # rows of the buffer; axes whose lines share it
        self.sweeps = self._sweeps() if self.size else []
        self.tables = self._tables()

    def margin(self, axis: int) -> int:
        """After how many rows a wrong start has decayed below rounding."""
        return margin(self.kernels[axis], self.dtype)

    def _slab(self, active: list[int]) -> list[int]:
        """The trailing axes, last first, whose rows are so short that lines of other rows fill more lanes."""
        slab = []
        for a in active:
            inner = self.inner[a]
            lines = prod(self.whole[:a]) * ceil(self.shape[a] * inner * TILE / BLOCK)
            if inner > 1 and (2 * inner >= self.lanes or inner >= lines):
                break
            slab.append(a)
        return slab

    def _sweeps(self) -> list[Sweep]:
        """Axes from last to first; those that fit in a block share a sweep."""
        active = [a for a in range(len(self.shape) - 1, 0, -1) if self.shape[a] > 1 and self.kernels[a].poles]
        slab = self._slab(active)
        self.packed = len(slab)
        sweeps: list[Sweep] = []
        for axes in ([slab] if slab else []) + [[a] for a in active[len(slab) :]]:
            passes = self._passes(axes, packed=axes is slab)
            ns = self.size * AXIS_NS * sum(len(self.kernels[a].poles) for a in axes)
            windowed = len(passes) > 1
            unit = prod(self.whole[axes[-1] :])
            room = BLOCK // (unit * self.dtype.itemsize)
            if sweeps and not (windowed or sweeps[-1].windowed) and unit * self.dtype.itemsize <= 2 * BLOCK:
                before = sweeps.pop()
                axes, passes, ns = before.axes + axes, np.concatenate([before.passes, passes]), before.ns + ns
                passes[1:, FRESH] = 0
                units = self.size // unit
                passes[:, SHARE] = max(1, min(room, units // 16)) * passes[:, TOTAL] // units
            jobs = int(np.max(-(-passes[:, TOTAL] // passes[:, SHARE])))
            sweeps.append(Sweep(axes, passes, jobs, windowed, ns))
        return sweeps

    def _passes(self, axes: list[int], packed: bool) -> Array:
        """One pass along axes (several only if packed), or one per kind of window."""
        lead = axes[-1]
        n, inner, whole, before = self.shape[lead], self.inner[lead], self.whole[lead], self.befores[lead]
        cut = windows(n, BLOCK // (inner * TILE) if packed else TALL // TILE, self.margin(lead))
        ring = len(cut) > 1 and self.boundaries[lead] == "wrap"  # what lies beyond the ends is left to _close
        columns = 0, inner
        if not packed:  # the next axis was filtered before: its other rows are needed no more
            size, first = self.inner[lead + 1], self.befores[lead + 1]
            columns = size * (first + self.wanted[lead + 1][0]), size * (first + self.wanted[lead + 1][1])
        wide, tiles = (self.lanes, 1) if packed else (1, -(-(columns[1] - columns[0]) // self.lanes))
        passes = []
        for w in cut:
            first = len(self.solves)
            for a in axes:
                rows = w.rows if a == lead else self.shape[a]
                left, right = (w.left and not ring, w.right and not ring) if a == lead else (True, True)
                width = self.inner[a] if packed else 1
                repeat = w.rows * inner // (rows * width) if packed else 1
                low, high = (0, rows) if packed else (w.low, w.high)
                self.solves.append((repeat, rows, width, low, high, len(self.stages), len(self.kernels[a].poles)))
                self.stages += stages(self.kernels[a], self.boundaries[a], rows, self.transposed, left, right)
            self.room = max(self.room, w.rows * inner + self.lanes if packed else w.rows)
            total = self.size // (whole * inner) * w.count * tiles
            place = (whole, inner, *columns, w.count, before + w.begin, w.step, w.rows, w.low, w.high - w.low)
            passes.append((1, wide, wide, total, tiles, *place, first, len(self.solves)))
        return np.array(passes, np.int64)

    def _tables(self) -> tuple[Array, ...]:
        """Solves and stages as the kernel takes them; weights below rounding are dropped."""
        pointer, index, weight = [0], [np.zeros(0, np.int64)], [np.zeros(0)]
        for w in (w for s in self.stages for w in (s.before, s.after)):
            (keep,) = np.nonzero(np.abs(w) > np.finfo(self.dtype).eps / 4)
            index.append(keep)
            weight.append(w[keep])
            pointer.append(pointer[-1] + len(keep))
        numbers = np.array([(s.pole, s.scale) for s in self.stages], self.dtype).reshape(-1)
        solves = np.array(self.solves, np.int64).reshape(-1, 7)
        pointers = np.array(pointer, np.int64)
        return solves, numbers, pointers, np.concatenate(index), np.concatenate(weight).astype(self.dtype)

    def __call__(self, values: Array) -> Array:
        """The coefficients."""
        if not self.sweeps:
            return np.array(values, order="C")
        source, target = np.ascontiguousarray(values), np.empty(0)
        for k, sweep in enumerate(self.sweeps):
            if k == 0 or sweep.windowed:
                target = _aligned(self.size, self.dtype).reshape(self.shape)
            parts = threads.split(0, sweep.jobs, sweep.ns, align=1)
            work = functools.partial(self._run, sweep.passes, source.reshape(-1), target.reshape(-1))
            if len(parts) == 1:
                work(0, sweep.jobs)
            else:
                threads.run([functools.partial(work, *part) for part in parts])
            if sweep.windowed and self.boundaries[sweep.axes[-1]] == "wrap":
                self._close(sweep.axes, source, target)
            source = target
        return target

    def within(self, flat: Array) -> None:
        """The coefficients, in place of the values in memory that has room around them."""
        for sweep in self.sweeps:
            work = functools.partial(self._run, sweep.passes, flat, flat)
            threads.run([functools.partial(work, *part) for part in threads.split(0, sweep.jobs, sweep.ns, align=1)])

    def _run(self, passes: Array, source: Array, target: Array, start: int, stop: int) -> None:
        kernel, spec = entry(self.dtype)
        block = _aligned(self.room * self.lanes, self.dtype)
        lines = np.empty(self.lanes, np.int64)
        kernel(spec, source, target, block, lines, passes, *self.tables, start, stop)

    def _close(self, axes: list[int], source: Array, target: Array) -> None:
        """The ends of a periodic axis that was cut into windows: solved again with what comes before and after."""
        lead, margin = axes[-1], self.margin(axes[-1])
        part = functools.partial(_part, lead)
        ends = np.concatenate([source[part(-2 * margin, None)], source[part(0, 2 * margin)]], lead)
        kernels = tuple(k if a in axes else bspline(1) for a, k in enumerate(self.kernels))
        boundaries = tuple("mirror" if a == lead else b for a, b in enumerate(self.boundaries))
        solved = prefilter(ends, kernels[1:], boundaries[1:], self.transposed)
        target[part(0, margin)] = solved[part(2 * margin, 3 * margin)]
        target[part(-margin, None)] = solved[part(margin, 2 * margin)]


def _part(axis: int, start: int, stop: int | None) -> tuple[slice, ...]:
    """The index of rows start ... stop of an axis."""
    return (*[slice(None)] * axis, slice(start, stop))


def _aligned(n: int, dtype: Any) -> Array:
    """Memory for n elements that starts on a cache line."""
    flat = np.empty(n + 64 // dtype.itemsize, dtype)
    skip = -flat.__array_interface__["data"][0] % 64 // dtype.itemsize
    return flat[skip : skip + n]


@functools.lru_cache(maxsize=1024)
def plan(
    shape: tuple[int, ...], dtype: Any, kernels: tuple[Kernel, ...], boundaries: tuple[str, ...], transposed: bool
) -> Plan:
    """The plan for arrays of this shape and dtype."""
    return Plan(shape, dtype, (None, *kernels), ("", *boundaries), transposed)


def prefilter(values: Array, kernels: tuple[Kernel, ...], boundaries: tuple[str, ...], transposed: bool) -> Array:
    """Coefficients whose spline passes through values (batch, *shape), along the axes after the first, or the
    transpose of that solve: see reference.prefilter."""
    out = plan(values.shape, values.dtype, kernels, boundaries, transposed)(values)
    scale = _scale(values.shape[1:], kernels)
    return out if scale == 1 else out / np.asarray(scale, out.dtype)


def _scale(shape: Sequence[int], kernels: Sequence[Kernel]) -> float:
    """What no recursion does: kernels whose samples are one number, and axes of one sample."""
    return prod(
        float(np.sum(k.samples)) for k, n in zip(kernels, shape) if not k.interpolating and (n == 1 or not k.poles)
    )


@functools.lru_cache(maxsize=256)
def within(
    shape: tuple[int, ...], dtype: Any, kernels: tuple[Kernel, ...], boundaries: tuple[str, ...], room: Room
) -> Callable[[Array], None] | None:
    """`prefilter` of values (batch, *shape, channels) in place, in flat memory that has room around them: what lies
    there, and what is not wanted, comes out as any numbers. None where it takes a second array: windows, and short
    rows of several axes."""
    solve = Plan(shape, dtype, (None, *kernels, bspline(1)), ("", *boundaries, "mirror"), False, room)
    apart = any(s.windowed for s in solve.sweeps) or solve.packed > 1 or _scale(shape[1:-1], kernels) != 1
    return None if apart else solve.within
