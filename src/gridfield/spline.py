"""Spline: what a learnable field is beside its coefficients, and what it computes from them, over any face."""

from __future__ import annotations

import itertools
import operator
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import reduce
from math import prod
from typing import Any

import numpy as np

from . import arguments, basis, check, dispatch
from .boundary import ENLARGED, as_boundaries
from .cached import cached_property
from .grid import Grid
from .kernel import NAMED, Kernel, as_kernels
from .ops import recipe, static
from .sampling import BoundaryLike, KernelLike, Texts, evaluate
from .scheme import Filter, Scheme, intern

Orders = tuple[tuple[int, ...], ...]
EXACT = ("natural", "mirror", "wrap")  # boundaries of which a finer lattice continues as the coarse one does


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
        shape: int | Sequence[int] | Grid, kernel: KernelLike, bounds: Any, boundary: BoundaryLike, name: str
    ) -> Spline:
        """From what users give."""
        if not isinstance(shape, Grid):
            shape = Grid(shape, bounds)
        elif bounds is not None:
            raise ValueError(f"{name}: bounds must not be given with a Grid, which has its own")
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
