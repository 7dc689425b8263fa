"""What is static about a call, as frozen data.

Scheme, Waves (both sample and splat), Filter (prefilter), Margins (pad, fold), Warp, Stencil (correlate).
"""

from __future__ import annotations

import base64
import functools
import json
from dataclasses import dataclass, fields, replace
from math import ceil, floor, pi
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from . import lattice
from .boundary import FOLD, reach
from .cached import cached_property, lock
from .grid import Grid
from .kernel import NAMED, Kernel, bspline

MultiIndex = tuple[int, ...]


class Axis(NamedTuple):
    """One axis of a scheme, with the integers that locating a stencil needs."""

    n: int
    kernel: Kernel
    boundary: str
    lowest: float  # coordinates left after folding, in samples
    highest: float
    cell: int  # the lowest cell; a point's stencil starts at its cell - kernel.left
    cells: int  # number of cells
    offset: float  # |origin| / spacing

    @property
    def first(self) -> int:
        """Index of the first sample that any stencil touches."""
        return self.cell - self.kernel.left

    @property
    def extent(self) -> int:
        """Number of samples, on the grid and beyond, that stencils touch."""
        return self.cells + self.kernel.width - 1

    @property
    def fold(self) -> str:
        """What happens to coordinates beyond the ends (boundary.FOLD)."""
        return "hold" if self.n == 1 and self.boundary == "mirror" else FOLD[self.boundary]

    @property
    def margins(self) -> tuple[int, int]:
        """How many of those samples lie before and after the grid."""
        return -self.first, self.first + self.extent - self.n

    def slack(self, eps: float) -> float:
        """How far outside, in samples, a coordinate may come by the rounding of (x - origin) / spacing."""
        return min(0.25, 4 * eps * (self.n + self.offset))

    @staticmethod
    def of(n: int, kernel: Kernel, boundary: str, offset: float = 0.0) -> Axis:
        """The axis; one of a single sample is constant along it, so one tap does."""
        if n == 1 and boundary not in ("constant", "grid-constant") and kernel.partition_of_unity:
            kernel, boundary = bspline(0), "natural"
        lowest, highest = reach(boundary, n, kernel.width)
        cell = floor(lowest + kernel.shift)
        # a coordinate at the highest end belongs to the cell before it, at fraction 1, unless the kernel jumps there
        end = highest + kernel.shift
        last = max(cell, floor(end) if kernel.continuity < 0 else ceil(end) - 1)
        return Axis(n, kernel, boundary, lowest, highest, cell, last - cell + 1, offset)


class Static:
    """The static argument of an op. Frozen, one object per content, and a string both ways (frameworks carry that)."""

    @cached_property
    def text(self) -> str:
        """The content as a string that `decode` reads, in this process or another."""
        return json.dumps([type(self).__name__, *(_plain(getattr(self, f.name)) for f in fields(self))])  # type: ignore[arg-type]


def _plain(x: Any) -> Any:
    """What JSON can hold."""
    if isinstance(x, Kernel):
        return x.name if NAMED.get(x.name) == x else [x.name, x.table()]
    if isinstance(x, Grid):
        return x.shape, x.origin, x.spacing, x.periodic
    return list(map(_plain, x)) if isinstance(x, tuple) else x


def _kernel(x: Any) -> Kernel:
    return NAMED[x] if isinstance(x, str) else Kernel(x[1], x[0])


def _tuple(x: Any) -> Any:
    return tuple(map(_tuple, x)) if isinstance(x, list) else x


def raised(orders: tuple[MultiIndex, ...]) -> tuple[MultiIndex, ...]:
    """One derivative more along each axis: alpha_k + e_i, i fastest."""
    return tuple(tuple(o + (j == i) for j, o in enumerate(a)) for a in orders for i in range(len(a)))


@dataclass(frozen=True, eq=False)
class Scheme(Static):
    """sample and splat: grid, kernel and boundary per axis, derivatives evaluated together, the value outside."""

    grid: Grid
    kernels: tuple[Kernel, ...]
    boundaries: tuple[str, ...]
    orders: tuple[MultiIndex, ...]
    cval: float = 0.0

    parts = 1  # numbers of a point for each channel of the values

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.kernels)

    @property
    def extent(self) -> tuple[int, ...]:
        """The last axes of the values."""
        return self.grid.shape

    @cached_property
    def axes(self) -> tuple[Axis, ...]:
        """The axes with their integers."""
        offsets = (abs(o / s) for o, s in zip(self.grid.origin, self.grid.spacing, strict=True))
        return tuple(map(Axis.of, self.grid.shape, self.kernels, self.boundaries, offsets))

    @cached_property
    def linear(self) -> str:
        """The same without cval: the part that is linear in the values."""
        return self.text if self.cval == 0 else intern(replace(self, cval=0.0))

    @cached_property
    def up(self) -> str:
        """One derivative more along each axis: orders (alpha_k + e_i), i fastest."""
        return intern(replace(self, orders=raised(self.orders)))

    def permuted(self, axes: tuple[int, ...]) -> str:
        """The same with the axes in another order."""
        kernels, boundaries = tuple(self.kernels[a] for a in axes), tuple(self.boundaries[a] for a in axes)
        orders = tuple(tuple(o[a] for a in axes) for o in self.orders)
        return intern(Scheme(self.grid.take(axes), kernels, boundaries, orders, self.cval))

    @staticmethod
    def parse(grid: Any, kernels: Any, boundaries: Any, orders: Any, cval: float) -> Scheme:
        """From JSON."""
        shape, origin, spacing, periodic = map(_tuple, grid)
        grid = Grid.from_spacing(shape, origin, spacing, periodic=periodic)
        return Scheme(grid, tuple(map(_kernel, kernels)), _tuple(boundaries), _tuple(orders), cval)


def period_rest(period: float) -> float:
    """What the exact period is longer by: 2 pi is no float, and 1e6 is 159,155 of them away, 4e-11 in all."""
    return 2.4492935982947064e-16 if period == 2 * pi else 0.0


@dataclass(frozen=True, eq=False)
class Waves(Static):
    """sample and splat of waves instead of a kernel: y[p] = sum_k c[k] prod_i (i s w_i k_i)**alpha_i exp(i s w.k x_p).

    s is the sign, w_i = 2 pi / period_i. Values are (batch, channels, *shape, 2), real and imaginary part last; of a
    point there are two numbers for each channel. The transpose, over real numbers, has the conjugate wave.
    """

    shape: tuple[int, ...]
    periods: tuple[float, ...]
    sign: int
    centered: bool  # k_i from -(n_i // 2) upwards; else the order of an FFT
    width: int  # taps of the window: how exact
    orders: tuple[MultiIndex, ...]
    sigma: float = 2.0  # of the window: how many times finer the grid is, at least

    parts = 2  # numbers of a point for each channel of the values

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def extent(self) -> tuple[int, ...]:
        """The last axes of the values."""
        return (*self.shape, 2)

    @cached_property
    def modes(self) -> tuple[NDArray[Any], ...]:
        """The k of each axis."""
        centered = (np.arange(n) - n // 2 for n in self.shape)
        return tuple(k if self.centered else np.fft.ifftshift(k) for k in centered)

    @property
    def linear(self) -> str:
        """The part that is linear in the values: all of it."""
        return self.text

    @cached_property
    def up(self) -> str:
        """One derivative more along each axis: orders (alpha_k + e_i), i fastest."""
        return intern(replace(self, orders=raised(self.orders)))

    @staticmethod
    def parse(shape: Any, periods: Any, sign: int, centered: bool, width: int, orders: Any, sigma: float) -> Waves:
        """From JSON."""
        return Waves(_tuple(shape), _tuple(periods), sign, centered, width, _tuple(orders), sigma)


@dataclass(frozen=True, eq=False)
class Filter(Static):
    """prefilter: kernel and boundary per axis."""

    kernels: tuple[Kernel, ...]
    boundaries: tuple[str, ...]
    transposed: bool = False

    @cached_property
    def flipped(self) -> str:
        """The transpose."""
        return intern(replace(self, transposed=not self.transposed))

    @staticmethod
    def parse(kernels: Any, boundaries: Any, transposed: bool) -> Filter:
        """From JSON."""
        return Filter(tuple(map(_kernel, kernels)), _tuple(boundaries), transposed)


@dataclass(frozen=True, eq=False)
class Margins(Static):
    """pad and fold: samples (before, after) and boundary per axis, and the value that continues the data."""

    widths: tuple[tuple[int, int], ...]
    boundaries: tuple[str, ...]
    cval: float = 0.0

    @cached_property
    def linear(self) -> str:
        """The same without cval."""
        return self.text if self.cval == 0 else intern(replace(self, cval=0.0))

    @staticmethod
    def parse(widths: Any, boundaries: Any, cval: float) -> Margins:
        """From JSON."""
        return Margins(_tuple(widths), _tuple(boundaries), cval)


@dataclass(frozen=True, eq=False)
class Warp(Static):
    """warp: how the image is sampled (texts), and where: at pixels of an image of shape `full`, displaced."""

    sample: str
    filter: str | None  # None: the values are the coefficients
    pad: str | None
    points: tuple[int, ...] | None  # control points of the displacement; None: one for each pixel of the result
    full: tuple[int, ...]  # the shape over which the control points are laid
    start: tuple[int, ...]  # the first pixel of the result
    shape: tuple[int, ...]  # of the result

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.full)

    @cached_property
    def linear(self) -> str:
        """The same without cval."""
        pad = self.pad and decode(self.pad).linear
        return intern(replace(self, sample=decode(self.sample).linear, pad=pad))

    @cached_property
    def matrices(self) -> tuple[NDArray[Any], ...]:
        """Per axis (pixels of the result, control points)."""
        return tuple(
            lattice.matrix(p, n)[s : s + m]
            for p, n, s, m in zip(self.points or (), self.full, self.start, self.shape, strict=True)
        )

    @staticmethod
    def parse(*content: Any) -> Warp:
        """From JSON."""
        return Warp(*content[:3], *map(_tuple, content[3:]))


@dataclass(frozen=True, eq=False)
class Stencil(Static):
    """correlate: y[i] = sum_k w[k] v[i + k - before], v being zero beyond its ends; y is longer than v by `extras`."""

    shape: tuple[int, ...]  # of the weights
    weights: str  # float64 in C order, little endian, in base64: digits of 1000 numbers take 20 kB
    befores: tuple[int, ...]
    extras: tuple[int, ...]

    @staticmethod
    def of(weights: NDArray[np.float64], befores: tuple[int, ...], extras: tuple[int, ...]) -> Stencil:
        """From an array."""
        table = np.array(weights, np.float64, order="C")
        made = Stencil(
            table.shape, base64.b64encode(table.astype("<f8", copy=False).tobytes()).decode(), befores, extras
        )
        made.__dict__["table"] = table
        return made

    def beside(self, befores: tuple[int, ...], extras: tuple[int, ...]) -> Stencil:
        """The same weights, other ends."""
        made = Stencil(self.shape, self.weights, befores, extras)
        made.__dict__["table"] = self.table
        return made

    @cached_property
    def text(self) -> str:
        """As of others; there is nothing to escape, for which JSON looks for 0.3 s in 255**3 weights."""
        shape, befores, extras = map(json.dumps, (self.shape, self.befores, self.extras))
        return f'["Stencil", {shape}, "{self.weights}", {befores}, {extras}]'

    @cached_property
    def table(self) -> NDArray[np.float64]:
        """The weights as an array."""
        return np.frombuffer(base64.b64decode(self.weights), "<f8").astype(np.float64).reshape(self.shape)

    def sizes(self, shape: Any) -> tuple[Any, ...]:
        """What becomes of the last axes of an array."""
        lead = len(shape) - len(self.shape)
        return (*shape[:lead], *(None if n is None else n + e for n, e in zip(shape[lead:], self.extras, strict=True)))

    @cached_property
    def flipped(self) -> str:
        """The transpose."""
        befores = tuple(k - 1 - b for k, b in zip(self.shape, self.befores, strict=True))
        return intern(Stencil.of(np.flip(self.table), befores, tuple(-e for e in self.extras)))

    @staticmethod
    def parse(shape: Any, weights: str, befores: Any, extras: Any) -> Stencil:
        """From JSON."""
        return Stencil(_tuple(shape), weights, _tuple(befores), _tuple(extras))


_known: dict[str, Any] = {}
_length = 0  # of their texts
_lock = lock()
KNOWN = 4096  # how many static arguments are kept; others are read from their text again
TEXT = 2**27  # characters of these together: a ball of 255**3 weights takes 177 MB
_parsers = {c.__name__: c.parse for c in (Scheme, Waves, Filter, Margins, Warp, Stencil)}


def parsed(cls: Any) -> None:
    """Let `decode` know a class of static arguments that lives elsewhere."""
    _parsers[cls.__name__] = cls.parse


def intern(static: Static) -> str:
    """The text of a static argument, which is then known to `decode`."""
    _keep(static.text, static)
    return static.text


def _keep(text: str, static: Any) -> Any:
    global _length
    with _lock:
        if text in _known:
            return _known[text]
        while _known and (len(_known) >= KNOWN or _length + len(text) > TEXT):
            oldest = next(iter(_known))
            del _known[oldest]
            _length -= len(oldest)
        _known[text] = static
        _length += len(text)
        return static


def decode(text: str) -> Any:
    """The Scheme, Waves, Filter, Margins, Warp or Stencil of a text."""
    known = _known.get(text)
    if known is None:
        name, *content = json.loads(text)
        known = _keep(text, _parsers[name](*content))
    return known


@functools.lru_cache(maxsize=4096)
def scheme(
    grid: Grid,
    kernels: tuple[Kernel, ...],
    boundaries: tuple[str, ...],
    orders: tuple[MultiIndex, ...] = (),
    cval: float = 0.0,
) -> Scheme:
    """The scheme for this grid, kernel and boundary per axis, derivatives (none: the value) and cval."""
    return decode(intern(Scheme(grid, kernels, boundaries, orders or ((0,) * len(kernels),), float(cval))))
