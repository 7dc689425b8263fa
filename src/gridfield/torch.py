"""PyTorch: learnable spline fields as modules."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from . import check
from .boundary import as_boundaries
from .faces.numpy import FACE as NUMPY
from .faces.torch import FACE
from .grid import Grid
from .kernel import Kernel, as_kernels
from .sampling import BoundaryLike, KernelLike, Texts, evaluate
from .scheme import Scheme, intern

__all__ = ["SplineField"]


class SplineField(torch.nn.Module):
    """A learnable field on a grid of control points: any dimension, any number of channels.

    ``field(x)[c] = sum_k prod_i kernel(x_i - k_i) coefficients[c, k]`` with coordinates in units of the grid's spacing.
    Control points are approximated, not interpolated (by B-splines above degree 1), as usual for learnable splines.

    Parameters
    ----------
    shape : int, sequence of int, or Grid
        Control points along each axis; an axis of one control point is constant along it. A `Grid` brings its own
        bounds.
    channels : int, default 1
        Values per point.
    kernel : str, int, Kernel or one per axis, default "cubic"
        As for `gridfield.sample`.
    bounds : (lo, hi) or one pair per axis, default (0, 1)
        Coordinates of the first and last control point, in any unit; derivatives come out per that unit.
    boundary : str or one per axis, default "natural"
        How coefficients continue beyond the ends; with "natural" points outside are held at the edge.
    dtype : torch.dtype, optional
        float32 or float64; default ``torch.get_default_dtype()``.
    device : torch.device, optional
        Where the coefficients are made.

    Attributes
    ----------
    coefficients : torch.nn.Parameter, shape (channels, *shape)
        The control points, zero at first.
    grid : Grid
        Where they are.

    Raises
    ------
    ValueError
        If shape, bounds, kernel or boundary is not of that form.

    Examples
    --------
    >>> import torch
    >>> from gridfield.torch import SplineField
    >>> field = SplineField((4, 5), channels=2, bounds=[(0, 3), (0, 4)])
    >>> with torch.no_grad():
    ...     field.coefficients[0] = torch.arange(4.0)[:, None]  # linear along the first axis
    >>> field(torch.tensor([[1.5, 2.0]])).detach()
    tensor([[1.5000, 0.0000]])
    >>> field.jacobian(torch.tensor([1.5, 2.0])).detach().round(decimals=4)
    tensor([[1., 0.],
            [0., 0.]])
    """

    grid: Grid
    coefficients: torch.nn.Parameter

    def __init__(
        self,
        shape: int | Sequence[int] | Grid,
        channels: int = 1,
        *,
        kernel: KernelLike = "cubic",
        bounds: Any = None,
        boundary: BoundaryLike = "natural",
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__()
        where = "gf.torch.SplineField"
        if isinstance(shape, Grid):
            if bounds is not None:
                raise ValueError(f"{where}: bounds must not be given with a Grid, which has its own")
            self.grid = shape
        else:
            self.grid = Grid(shape, bounds)
        if not isinstance(channels, int) or isinstance(channels, bool) or channels < 1:
            raise ValueError(f"{where}: channels must be an int >= 1, got {channels!r}")
        self.kernel = as_kernels(kernel, self.grid.ndim, where)
        self.boundary = as_boundaries(boundary, self.grid.ndim, self.grid.periodic, where)
        dtype = torch.get_default_dtype() if dtype is None else dtype
        if not dtype.is_floating_point:
            raise TypeError(f"{where}: dtype must be a floating-point type, got {dtype}")
        self.coefficients = torch.nn.Parameter(torch.zeros(channels, *self.grid.shape, dtype=dtype, device=device))
        self._texts: dict[Any, Texts] = {}
        ndim = self.grid.ndim
        self._value = ((0,) * ndim,)
        self._first = tuple(tuple(int(i == j) for j in range(ndim)) for i in range(ndim))
        # all pairs, both ways round: the kernel sums each once, and a view of the result is the matrix
        pairs = itertools.product(range(ndim), repeat=2)
        self._second = tuple(tuple((i == a) + (i == b) for i in range(ndim)) for a, b in pairs)
        for orders in (self._value, self._first, self._second):
            self._resolve(orders)

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return self.grid.ndim

    @property
    def channels(self) -> int:
        """Values per point."""
        return self.coefficients.shape[0]

    def extra_repr(self) -> str:
        """What `print` shows."""
        kernel, boundary = (", ".join(dict.fromkeys(w)) for w in ([k.name for k in self.kernel], self.boundary))
        return f"{self.grid}, channels={self.channels}, kernel={kernel}, boundary={boundary}"

    def _sample(self, points: torch.Tensor, orders: tuple[tuple[int, ...], ...], several: bool) -> torch.Tensor:
        """sample() without what is known already: half of the time of a small call."""
        where, values = "gf.torch.SplineField", self.coefficients
        if not isinstance(points, torch.Tensor):
            raise TypeError(
                f"{where}: points must be a torch.Tensor, got {type(points).__module__}.{type(points).__name__}"
            )
        check.points(points.shape, where, self.grid)
        check.same_device(where, values.device, points.device)
        dtype = check.compute_dtype(FACE.dtype(values), FACE.dtype(points), where)
        texts = self._texts.get(orders) or self._resolve(orders)
        return evaluate(FACE, values, points, self.grid.shape, texts, len(orders), several, dtype, False)

    def _resolve(self, orders: tuple[tuple[int, ...], ...]) -> Texts:
        scheme = Scheme(self.grid, self.kernel, self.boundary, orders)
        self._texts[orders] = intern(scheme), None, None
        return self._texts[orders]

    def forward(self, points: torch.Tensor) -> torch.Tensor:
        """The field at points.

        Parameters
        ----------
        points : Tensor, shape (*pts, ndim)
            Coordinates in the units of the bounds.

        Returns
        -------
        Tensor, shape (*pts, channels)
            Differentiable in the coefficients and in the points.
        """
        return self._sample(points, self._value, False)

    def jacobian(self, points: torch.Tensor) -> torch.Tensor:
        """First derivatives of the field, per unit of the bounds.

        Parameters
        ----------
        points : Tensor, shape (*pts, ndim)
            Coordinates in the units of the bounds.

        Returns
        -------
        Tensor, shape (*pts, channels, ndim)
            Differentiable in the coefficients and in the points.
        """
        return self._sample(points, self._first, True).movedim(0, -1)

    def hessian(self, points: torch.Tensor) -> torch.Tensor:
        """Second derivatives of the field, per unit of the bounds squared.

        Parameters
        ----------
        points : Tensor, shape (*pts, ndim)
            Coordinates in the units of the bounds.

        Returns
        -------
        Tensor, shape (*pts, channels, ndim, ndim)
            Symmetric; differentiable in the coefficients and in the points.

        Examples
        --------
        >>> import torch
        >>> from gridfield.torch import SplineField
        >>> SplineField((4, 5)).hessian(torch.rand(7, 2)).shape
        torch.Size([7, 1, 2, 2])
        """
        return self._sample(points, self._second, True).movedim(0, -1).unflatten(-1, (self.ndim, self.ndim))

    def on_grid(self, shape: int | Sequence[int] | Grid) -> torch.Tensor:
        """The field at all samples of a grid: one small banded matrix per axis, far faster than the same points.

        Parameters
        ----------
        shape : int, sequence of int, or Grid
            Samples per axis (an int: the same for all) between the bounds of this field, or a grid of its own.

        Returns
        -------
        Tensor, shape (channels, *shape)
            Differentiable in the coefficients.

        Examples
        --------
        >>> from gridfield.torch import SplineField
        >>> SplineField((4, 5), channels=2).on_grid((64, 64)).shape
        torch.Size([2, 64, 64])
        """
        values = self.coefficients
        target = shape if isinstance(shape, Grid) else self._per_axis(shape)
        if isinstance(target, Grid) and target.ndim != self.ndim:
            where = "gf.torch.SplineField.on_grid"
            raise ValueError(f"{where}: grid has {target.ndim} axes {target.shape} but the field has {self.ndim}")
        done, last = self.channels, self.ndim - 1
        for a, n in enumerate(self.grid.shape):
            matrix = _matrix(self.grid, target, a, self.kernel[a], self.boundary[a])
            matrix = matrix.to(values.device, values.dtype)
            # nearly all the work is in the last axis: one plain matrix product, which writes the result in order
            values = values.reshape(done, n) @ matrix.mT if a == last else matrix @ values.reshape(done, n, -1)
            done *= len(matrix)
        return values.reshape(self.channels, *(target.shape if isinstance(target, Grid) else target))

    def _per_axis(self, shape: int | Sequence[int]) -> tuple[int, ...]:
        shape = (shape,) * self.ndim if isinstance(shape, int) else tuple(shape)
        if len(shape) != self.ndim:
            raise ValueError(f"gf.torch.SplineField: shape has {len(shape)} axes {shape} but the field has {self.ndim}")
        return shape

    def grid_of(self, shape: int | Sequence[int]) -> Grid:
        """The grid of that shape with the bounds of this field.

        Parameters
        ----------
        shape : int or sequence of int
            Samples per axis; an int: the same for all.

        Returns
        -------
        Grid
            Periodic where this field is.

        Examples
        --------
        >>> from gridfield.torch import SplineField
        >>> SplineField(4, bounds=(0, 6)).grid_of(7).spacing
        (1.0,)
        """
        return _same_bounds(self.grid, self._per_axis(shape))


def _same_bounds(g: Grid, shape: tuple[int, ...]) -> Grid:
    """Another shape between the same bounds."""
    bounds = [
        (lo, lo + spacing * (n if periodic else max(n - 1, 1)))
        for (lo, _), spacing, n, periodic in zip(g.bounds, g.spacing, g.shape, g.periodic, strict=True)
    ]
    return Grid(shape, bounds, periodic=g.periodic)


def _matrix(source: Grid, target: Grid | tuple[int, ...], axis: int, kernel: Kernel, boundary: str) -> torch.Tensor:
    """The matrix (samples, control points) of a kernel along one axis, in float64: what sampling the identity gives.

    A shape as target means a grid between the source's bounds.
    """
    if not torch.compiler.is_compiling():
        return torch.from_numpy(_cached_matrix(source, target, axis, kernel, boundary))
    text, n, start, spacing = _matrix_text(source, target, axis, kernel, boundary)
    points = start + spacing * torch.arange(n, dtype=torch.float64)
    identity = torch.eye(source.shape[axis], dtype=torch.float64)
    return FACE.sample(identity[None], points[None, :, None], text)[0, 0]


@functools.lru_cache(maxsize=64)
def _cached_matrix(
    source: Grid, target: Grid | tuple[int, ...], axis: int, kernel: Kernel, boundary: str
) -> np.ndarray[Any, Any]:
    """In NumPy, because a tensor would belong to the mode (inference, torch.func) that it was first made in."""
    text, n, start, spacing = _matrix_text(source, target, axis, kernel, boundary)
    points = start + spacing * np.arange(n)
    return NUMPY.sample(np.eye(source.shape[axis])[None], points[None, :, None], text)[0, 0]


@torch.compiler.assume_constant_result
def _matrix_text(
    source: Grid, target: Grid | tuple[int, ...], axis: int, kernel: Kernel, boundary: str
) -> tuple[str, int, float, float]:
    """The scheme of one axis, and where its samples are."""
    target = target if isinstance(target, Grid) else _same_bounds(source, target)
    text = intern(Scheme(source.take([axis]), (kernel,), (boundary,), ((0,),)))
    return text, target.shape[axis], target.origin[axis], target.spacing[axis]
