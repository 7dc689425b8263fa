"""Learnable spline fields, without the framework: what torch.py, jax.py and tensorflow.py make classes of.

A field is a `Spline` (grid, kernel and boundary per axis: frozen, hashable) and an array of coefficients
(channels, *grid.shape), which belongs to the framework's class.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from . import arguments, check, dispatch
from .boundary import as_boundaries
from .cached import cached_property
from .grid import Grid
from .kernel import NAMED, Kernel, as_kernels
from .ops import recipe, static
from .sampling import BoundaryLike, KernelLike, Texts, evaluate
from .scheme import Scheme, intern

Orders = tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Spline:
    """Where a field's control points are and what lies between and beyond them."""

    grid: Grid
    kernel: tuple[Kernel, ...]
    boundary: tuple[str, ...]
    name: str = "gf.SplineField"  # for messages

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
            raise TypeError(f"{where}: points must be an array of {F.name}, got {type(points).__module__}."
                            f"{type(points).__name__}")  # fmt: skip
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
    def on_grid(self, F: Any, coefficients: Any, shape: int | Sequence[int] | Grid) -> Any:
        """(channels, *shape): one small banded matrix per axis."""
        where = f"{self.name}.on_grid"
        target = shape if isinstance(shape, Grid) else self.per_axis(shape)
        if isinstance(target, Grid) and target.ndim != self.ndim:
            raise ValueError(f"{where}: grid has {target.ndim} axes {target.shape} but the field has {self.ndim}")
        check.trailing(coefficients.shape, self.grid.shape, "coefficients", "the grid's shape", where)
        given, channels = F.dtype(coefficients), F.shape(coefficients)[0]
        dtype = check.compute_dtype(given, given, where)
        values, done, last = F.astype(coefficients, dtype), channels, self.ndim - 1
        for a, n in enumerate(self.grid.shape):
            matrix = F.constant(_matrix(self, target, a, a == last), dtype, coefficients)
            # nearly all the work is in the last axis: one plain matrix product, which writes the result in order
            if a == last:
                values = F.matmul(F.reshape(values, (done, n)), matrix)
            else:
                values = F.matmul(matrix, F.reshape(values, (done, n, prod(self.grid.shape[a + 1 :]))))
                done *= matrix.shape[0]
        out = F.reshape(values, (channels, *(target.shape if isinstance(target, Grid) else target)))
        return F.astype(out, given)

    def to_json(self) -> dict[str, Any]:
        """As data that JSON can hold."""
        g = self.grid
        kernels = [k.name if NAMED.get(k.name) == k else [k.name, k.table()] for k in self.kernel]
        return {"grid": [g.shape, g.origin, g.spacing, g.periodic], "kernel": kernels, "boundary": self.boundary}

    @staticmethod
    def from_json(spline: Any) -> dict[str, Any]:
        """The arguments (shape, kernel, boundary) of a field from `to_json`."""
        shape, origin, spacing, periodic = map(tuple, spline["grid"])
        kernels = [NAMED[k] if isinstance(k, str) else Kernel(k[1], k[0]) for k in spline["kernel"]]
        grid = Grid.from_spacing(shape, origin, spacing, periodic=periodic)
        return {"shape": grid, "kernel": kernels, "boundary": list(spline["boundary"])}

    def per_axis(self, shape: int | Sequence[int]) -> tuple[int, ...]:
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


def check_channels(channels: Any, where: str) -> int:
    """How many values a field has at a point."""
    if not isinstance(channels, int) or isinstance(channels, bool) or channels < 1:
        raise ValueError(f"{where}: channels must be an int >= 1, got {channels!r}")
    return channels


@static
def _texts(spline: Spline, what: str) -> tuple[Texts, int]:
    return spline.texts[what]


@static
def _matrix(spline: Spline, target: Grid | tuple[int, ...], axis: int, transposed: bool) -> np.ndarray[Any, Any]:
    """The matrix (samples, control points) of a kernel along one axis, or its transpose.

    A shape as target means a grid between the same bounds.
    """
    return _cached_matrix(spline, target, axis, transposed)


@functools.lru_cache(maxsize=64)
def _cached_matrix(spline: Spline, target: Grid | tuple[int, ...], axis: int, transposed: bool) -> np.ndarray[Any, Any]:
    """What sampling the identity gives."""
    target = target if isinstance(target, Grid) else spline.grid_of(target)
    source = spline.grid.take([axis])
    text = intern(Scheme(source, (spline.kernel[axis],), (spline.boundary[axis],), ((0,),)))
    points = target.origin[axis] + target.spacing[axis] * np.arange(target.shape[axis])
    matrix = dispatch.of("numpy").sample(np.eye(source.shape[0])[None], points[None, :, None], text)[0, 0]
    return np.ascontiguousarray(matrix.T) if transposed else matrix
