"""Spline: what a learnable field is beside its coefficients, and what it computes from them, over any face."""

from __future__ import annotations

import itertools
import operator
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import reduce
from math import ceil, floor, isclose, prod
from typing import Any

import numpy as np

from . import arguments, basis, check, dispatch
from .boundary import ENLARGED, as_boundaries
from .cached import cached_property
from .grid import Grid
from .kernel import NAMED, Kernel, as_kernels
from .ops import recipe, static
from .sampling import BoundaryLike, KernelLike, Texts, evaluate, pad
from .scheme import Filter, Scheme, intern

Orders = tuple[tuple[int, ...], ...]
Window = tuple[int, int]  # the first and the last control point, counted along an axis continued by its boundary
EXACT = ("natural", "mirror", "wrap")  # boundaries of which a finer lattice continues as the coarse one does
ROUNDING = 1e-6  # of a spacing: how far coordinates that mean the same may lie apart


@dataclass(frozen=True)
class Spline:
    """Where a field's control points are and what lies between and beyond them."""

    grid: Grid
    kernel: tuple[Kernel, ...]
    boundary: tuple[str, ...]
    name: str = "gf.SplineField"  # for messages
    labels: tuple[tuple[str, str], ...] = ()  # name and unit of each axis, where they are known

    @staticmethod
    def of(
        shape: int | Sequence[int] | Grid,
        kernel: KernelLike,
        bounds: Any,
        boundary: BoundaryLike,
        name: str,
        periodic: bool | Sequence[bool] = False,
    ) -> Spline:
        """From what users give."""
        if not isinstance(shape, Grid):
            shape = Grid(shape, bounds, periodic=periodic)
        elif bounds is not None:
            raise ValueError(f"{name}: bounds must not be given with a Grid, which has its own")
        elif periodic is not False:
            raise ValueError(f"{name}: periodic must not be given with a Grid, which has its own")
        kernels = as_kernels(kernel, shape.ndim, name)
        return Spline(shape, kernels, as_boundaries(boundary, shape.ndim, shape.periodic, name), name)

    def labelled(self, labels: Any) -> Spline:
        """With a name and a unit for each axis; () for none."""
        labels = tuple((str(name), str(unit)) for name, unit in labels)
        if len(labels) not in (0, self.ndim):
            raise ValueError(f"{self.name}: labels {labels} must be one pair (name, unit) for each of {self.ndim} axes")
        return replace(self, labels=labels)

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return self.grid.ndim

    @cached_property
    def texts(self) -> dict[str, tuple[Texts, int]]:
        """The static arguments of sample, and the number of derivatives, for a value, a jacobian, a hessian."""
        n = self.ndim
        # all pairs, both ways round: the kernel sums each once, and a view of the result is the matrix
        pairs = itertools.product(range(n), repeat=2)
        orders: dict[str, Orders] = {
            "value": ((0,) * n,),
            "jacobian": tuple(tuple(int(i == j) for j in range(n)) for i in range(n)),
            "hessian": tuple(tuple((i == a) + (i == b) for i in range(n)) for a, b in pairs),
        }
        schemes = {what: Scheme(self.grid, self.kernel, self.boundary, o) for what, o in orders.items()}
        return {what: ((intern(s), None, None), len(s.orders)) for what, s in schemes.items()}

    @cached_property
    def axes(self) -> tuple[basis.Axis, ...]:
        """The axes, each of its own."""
        axes = zip(range(self.ndim), self.kernel, self.boundary, strict=True)
        return tuple(basis.Axis(self.grid.take([a]), kernel, boundary) for a, kernel, boundary in axes)

    def describe(self, channels: int) -> str:
        """What `print` shows of a field."""
        kernel, boundary = (", ".join(dict.fromkeys(w)) for w in ([k.name for k in self.kernel], self.boundary))
        return f"{self.grid}, channels={channels}, kernel={kernel}, boundary={boundary}"

    @recipe
    def sample(self, F: Any, coefficients: Any, points: Any, what: str) -> Any:
        """(*pts, channels), for a jacobian (*pts, channels, ndim), for a hessian (*pts, channels, ndim, ndim).

        gf.sample without what is known already: half of the time of a small call.
        """
        where = self.name
        if dispatch.frameworks((type(points),)) != (F.name,):
            raise TypeError(
                f"{where}: points must be an array of {F.name}, got {type(points).__module__}.{type(points).__name__}"
            )
        points = F.array(points)
        check.points(points.shape, where, self.grid)
        if tuple(coefficients.shape[1:]) != self.grid.shape:
            check.trailing(coefficients.shape, self.grid.shape, "coefficients", "the grid's shape", where)
        check.same_device(where, F.device(coefficients), F.device(points))
        dtype = check.compute_dtype(F.dtype(coefficients), F.dtype(points), where)
        (texts, count), several = _texts(self, what), what != "value"
        out = evaluate(F, coefficients, points, self.grid.shape, texts, count, several, dtype, False)
        if not several:
            return out
        out = F.moveaxis(out, 0, -1)
        return out if what == "jacobian" else F.reshape(out, (*F.shape(out)[:-1], self.ndim, self.ndim))

    @recipe
    def separable(self, F: Any, values: Any, kind: str, arguments: tuple[Any, ...]) -> Any:
        """(channels, *shape): a matrix of `basis` applied along every axis, `arguments` its own."""
        check.trailing(values.shape, self.grid.shape, "coefficients", "the grid's shape", f"{self.name}.{kind}")
        given, channels = F.dtype(values), F.shape(values)[0]
        dtype = check.compute_dtype(given, given, self.name)
        out, done, last, shape = F.astype(values, dtype), channels, self.ndim - 1, []
        for a, n in enumerate(self.grid.shape):
            matrix = F.constant(_matrix(self, a, kind, arguments[a], a == last), dtype, values)
            # nearly all the work is in the last axis: one plain matrix product, which writes the result in order
            if a == last:
                out = F.matmul(F.reshape(out, (done, n)), matrix)
                shape.append(matrix.shape[1])
            else:
                out = F.matmul(matrix, F.reshape(out, (done, n, prod(self.grid.shape[a + 1 :]))))
                shape.append(matrix.shape[0])
                done *= matrix.shape[0]
        return F.astype(F.reshape(out, (channels, *shape)), given)

    @recipe
    def on_grid(self, F: Any, coefficients: Any, target: Any, orders: tuple[int, ...] | None = None) -> Any:
        """(channels, *shape), of the field or of a derivative."""
        target = target if isinstance(target, Grid) else self.per_axis(target)
        ndim = target.ndim if isinstance(target, Grid) else len(target)
        if ndim != self.ndim:
            raise ValueError(f"{self.name}.on_grid: grid has {ndim} axes {target} but the field has {self.ndim}")
        orders = (0,) * self.ndim if orders is None else orders
        return self.separable(F, coefficients, "on_grid", tuple((target, o) for o in orders))

    @recipe
    def interpolating(self, F: Any, values: Any, where: str) -> Any:
        """(channels, *shape): the coefficients of the field that passes through the values."""
        for axis in self.axes:
            if not axis.kernel.interpolating and axis.n > 1:
                _ = axis.kernel.poles  # or an error
        if any(b in ENLARGED for b in self.boundary):  # these continue the coefficients here, not the data: no filter
            return self.separable(F, values, "interpolation", ((),) * self.ndim)
        dtype = check.compute_dtype(F.dtype(values), "int64", where)
        boundary = tuple("mirror" if b == "constant" else b for b in self.boundary)
        out = F.prefilter(F.astype(values, dtype), intern(Filter(self.kernel, boundary)))
        return F.astype(out, F.dtype(values))

    def per_axis(self, shape: Any) -> tuple[int, ...]:
        """A shape; an int means the same for all axes."""
        return arguments.per_axis(self.name, "shape", shape, self.ndim, arguments.SIZE)

    def grid_of(self, shape: int | Sequence[int]) -> Grid:
        """The grid of another shape between the same bounds."""
        g, shape = self.grid, self.per_axis(shape)
        bounds = [
            (lo, lo + spacing * (n if periodic else max(n - 1, 1)))
            for (lo, _), spacing, n, periodic in zip(g.bounds, g.spacing, g.shape, g.periodic, strict=True)
        ]
        return Grid(shape, bounds, periodic=g.periodic)

    def refined(self, factor: int | Sequence[int]) -> tuple[Spline, tuple[int, ...]]:
        """The same field's spline on a finer lattice, and the factors; an error where it would be another field."""
        where = f"{self.name}.refine"
        factors = arguments.per_axis(where, "factor", factor, self.ndim, arguments.SIZE)
        for axis, f in zip(self.axes, factors, strict=True):
            degree = axis.kernel.degree
            bspline = NAMED.get(axis.kernel.name) == axis.kernel or axis.kernel.name.startswith("bspline")
            if f == 1 or axis.n == 1:
                continue
            if not bspline or axis.kernel.name == "catmull_rom" or axis.boundary not in EXACT:
                raise ValueError(
                    f"{where}: factor {f} is exact for B-splines with boundary {', '.join(map(repr, EXACT))} only, not "
                    f"for {axis.kernel.name} with {axis.boundary!r}; resample finds the nearest field"
                )
            if degree % 2 == 0 and f % 2 == 0:
                raise ValueError(
                    f"{where}: factor {f} must be odd for a kernel of even degree ({axis.kernel.name}), whose knots "
                    "are half-way between the samples; resample finds the nearest field"
                )
        return replace(self, grid=self._finer(factors)), factors

    def _finer(self, factors: tuple[int, ...]) -> Grid:
        """grid.refine, but an axis that wraps by its boundary alone has as many spacings as samples, too."""
        fine = self.grid.refine(factors)
        shape = tuple(
            n * f if boundary == "wrap" and n > 1 else m
            for n, f, m, boundary in zip(self.grid.shape, factors, fine.shape, self.boundary, strict=True)
        )
        return Grid.from_spacing(shape, fine.origin, fine.spacing, periodic=fine.periodic)

    def lattice(self, shape: int | Sequence[int] | Grid) -> Spline:
        """The spline of the same kind on a lattice of its own, or of that shape over the same domain."""
        if isinstance(shape, Grid):
            if shape.ndim != self.ndim:
                raise ValueError(
                    f"{self.name}.resample: shape has {shape.ndim} axes {shape.shape} but the field has {self.ndim}"
                )
            return replace(
                self, grid=shape, boundary=as_boundaries(self.boundary, self.ndim, shape.periodic, self.name)
            )
        grid = self.grid_of(shape)
        spacing = tuple(  # of an axis that wraps by its boundary alone the period stays
            n * h / m if boundary == "wrap" and n > 1 else new
            for n, h, m, new, boundary in zip(
                self.grid.shape, self.grid.spacing, grid.shape, grid.spacing, self.boundary, strict=True
            )
        )
        return replace(self, grid=Grid.from_spacing(grid.shape, grid.origin, spacing, periodic=grid.periodic))

    def within(self, bounds: Any, margin: Any) -> list[Window | None]:
        """The control points of each axis between bounds, and some beyond; None: the axis as it is."""
        where, g = f"{self.name}.crop", self.grid
        reach = tuple(k.left for k in self.kernel)
        margins = reach if margin is None else arguments.per_axis(where, "margin", margin, self.ndim, arguments.COUNT)
        pairs = arguments.items(bounds)
        if pairs is None or (len(pairs) == 2 and all(b is not None and arguments.items(b) is None for b in pairs)):
            pairs = (bounds,) * self.ndim
        if len(pairs) != self.ndim:
            raise ValueError(
                f"{where}: bounds {bounds!r} must be one pair (lo, hi), or one pair or None for each of the "
                f"{self.ndim} axes"
            )
        windows: list[Window | None] = []
        for a, (pair, m, n) in enumerate(zip(pairs, margins, g.shape, strict=True)):
            windows.append(None)
            if pair is None:
                continue
            (lo,), (hi,) = arguments.lows_and_highs(where, pair, (n,))
            first = floor((lo - g.origin[a]) / g.spacing[a] + ROUNDING)
            last = max(ceil((hi - g.origin[a]) / g.spacing[a] - ROUNDING), first)
            if n == 1:
                continue  # constant along the axis, wherever that is
            if self.boundary[a] == "wrap":
                windows[a] = first - m, last + m
                continue
            if last < 0 or first > n - 1:
                raise ValueError(
                    f"{where}: bounds {lo, hi} along axis {a} lie outside of the field, which is between "
                    f"{g.bounds[a]} there"
                )
            windows[a] = max(first - m, 0), min(last + m, n - 1)
        return windows

    def beyond(self, margins: Any) -> list[Window | None]:
        """All control points of each axis and some beyond; None: the axis as it is."""
        where = f"{self.name}.pad"
        given = arguments.items(margins)
        given = (margins,) * self.ndim if given is None else given
        pairs = [(m, m) if (pair := arguments.items(m)) is None else pair for m in given]
        if len(pairs) != self.ndim or any(len(pair) != 2 for pair in pairs):
            raise ValueError(
                f"{where}: margins {margins!r} must be one int, or one int or pair (before, after) for each of the "
                f"{self.ndim} axes"
            )
        counts = arguments.per_axis(
            where, "margins", [m for pair in pairs for m in pair], 2 * self.ndim, arguments.COUNT
        )
        ends = zip(counts[::2], counts[1::2], self.grid.shape, strict=True)
        return [(-before, n - 1 + after) if before or after else None for before, after, n in ends]

    def cut(self, windows: Sequence[Window | None]) -> Spline:
        """The spline on windows of the lattice. A part of an axis that wraps, or several turns, has two ends."""
        g, shape, origin, periodic, boundary = self.grid, [], [], list(self.grid.periodic), list(self.boundary)
        for a, (window, n) in enumerate(zip(windows, g.shape, strict=True)):
            first, last = (0, n - 1) if window is None else window
            shape.append(last - first + 1)
            origin.append(g.origin[a] + first * g.spacing[a])
            if window is not None and boundary[a] == "wrap":
                periodic[a], boundary[a] = False, "natural"
        grid = Grid.from_spacing(shape, origin, g.spacing, periodic=periodic)
        return replace(self, grid=grid, boundary=tuple(boundary))

    @recipe
    def window(self, F: Any, coefficients: Any, windows: Sequence[Window | None]) -> Any:
        """(channels, *shape): the control points in windows, new ones by the boundary."""
        margins, slices = [], [slice(None)]
        for window, n, boundary in zip(windows, self.grid.shape, self.boundary, strict=True):
            first, last = (0, n - 1) if window is None else window
            if boundary == "wrap":  # the turn that the window begins in
                first, last = first % n, last - first + first % n
            before = max(0, -first)
            margins.append((before, max(0, last - n + 1)))
            slices.append(slice(first + before, last + before + 1))
        if any(map(any, margins)):
            coefficients = pad(coefficients, margins, boundary=self.boundary)
        return F.copy(coefficients[tuple(slices)])

    def joined(self, other: Spline, operation: str) -> Spline:
        """The coarsest spline, one of the two along each axis, that can hold both; an error where there is none."""
        where = f"{self.name}: {operation} needs fields"
        if self.ndim != other.ndim:
            raise ValueError(f"{where} with as many axes, got {self.grid.shape} and {other.grid.shape}")
        if self.kernel != other.kernel:
            kernels = [", ".join(k.name for k in s.kernel) for s in (self, other)]
            raise ValueError(f"{where} with the same kernel, got {kernels[0]} and {kernels[1]}")
        if self.boundary != other.boundary:
            raise ValueError(f"{where} with the same boundary, got {self.boundary} and {other.boundary}")
        finer = [
            max(pair, key=lambda g: g.shape) for pair in zip(*map(_one_by_one, (self.grid, other.grid)), strict=True)
        ]
        shape, origin, spacing, periodic = zip(
            *((*g.shape, *g.origin, *g.spacing, *g.periodic) for g in finer), strict=True
        )
        grid = Grid.from_spacing(shape, origin, spacing, periodic=periodic)
        fine = replace(self, grid=grid)
        for spline in (self, other):
            try:
                refined = spline.refined(spline.factors(fine))[0].grid
            except ValueError as error:
                raise ValueError(f"{where} on lattices of which one refines the other: {error}") from None
            near = [
                isclose(h, k, rel_tol=1e-9) and abs(o - p) <= ROUNDING * k
                for o, p, h, k in zip(refined.origin, grid.origin, refined.spacing, grid.spacing, strict=True)
            ]
            if refined.shape != grid.shape or refined.periodic != grid.periodic or not all(near):
                raise ValueError(
                    f"{where} on the same lattice, or on one and a refinement of it, got {self.grid} and {other.grid}; "
                    "resample makes it so"
                )
        return fine

    def factors(self, fine: Spline) -> tuple[int, ...]:
        """How many times finer that one is along each axis, if it is a refinement."""
        spacings = zip(self.grid.spacing, fine.grid.spacing, strict=True)
        return tuple(max(round(h / k), 1) for h, k in spacings)

    @recipe
    def roughness(self, F: Any, coefficients: Any, order: int) -> Any:
        """Sum over channels of the integral of all squared derivatives of an order."""
        terms = []
        for alpha in basis.of_order(self.ndim, order):
            products = self.separable(F, coefficients, "gram", tuple((o,) for o in alpha))
            terms.append(basis.multinomial(alpha) * F.sum(products * coefficients))
        return reduce(operator.add, terms)

    @recipe
    def integral(self, F: Any, coefficients: Any) -> Any:
        """(channels,): over the domain."""
        values, dtype = coefficients, F.dtype(coefficients)
        for a in reversed(range(self.ndim)):
            values = F.matmul(values, F.constant(_matrix(self, a, "moments", (), False), dtype, values))[..., 0]
        return values

    def to_json(self) -> dict[str, Any]:
        """As data that JSON can hold."""
        g = self.grid
        kernels = [k.name if NAMED.get(k.name) == k else [k.name, k.table()] for k in self.kernel]
        labels = {"labels": self.labels} if self.labels else {}
        grid = [g.shape, g.origin, g.spacing, g.periodic]
        return {"grid": grid, "kernel": kernels, "boundary": self.boundary} | labels

    @staticmethod
    def from_json(spline: Any) -> dict[str, Any]:
        """The arguments (shape, kernel, boundary) of a field from `to_json`."""
        shape, origin, spacing, periodic = map(tuple, spline["grid"])
        kernels = [NAMED[k] if isinstance(k, str) else Kernel(k[1], k[0]) for k in spline["kernel"]]
        grid = Grid.from_spacing(shape, origin, spacing, periodic=periodic)
        return {"shape": grid, "kernel": kernels, "boundary": list(spline["boundary"])}


def _one_by_one(grid: Grid) -> list[Grid]:
    """The axes of a grid."""
    return [grid.take([a]) for a in range(grid.ndim)]


MATRICES = {
    "gram": basis.gram,
    "refine": basis.refinement,
    "resample": basis.projection,
    "moments": basis.moments,
    "interpolation": basis.interpolation,
}


@static
def _texts(spline: Spline, what: str) -> tuple[Texts, int]:
    return spline.texts[what]


@static
def _matrix(spline: Spline, a: int, kind: str, given: tuple[Any, ...], transposed: bool) -> basis.Matrix:
    """A matrix of basis along one axis, in the order that the product needs."""
    axis = spline.axes[a]
    if kind == "on_grid":
        target, order = given
        target = target if isinstance(target, Grid) else spline.grid_of(target)
        matrix = basis.on_lattice(axis, target.take([a]), order)
    else:
        matrix = MATRICES[kind](axis, *given)
    return np.ascontiguousarray(matrix.T) if transposed else matrix
