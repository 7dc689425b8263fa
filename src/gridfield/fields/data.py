"""FromData: fields from scattered data, from data on a grid, and from functions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Self

import numpy as np

from .. import check
from ..fitting import FitInfo, Options, fit
from ..grid import Grid
from ..sampling import BoundaryLike, KernelLike
from ..spline import Spline
from .base import Base


class FromData(Base):
    """How fields are made of data."""

    @classmethod
    def fit(
        cls,
        points: Any,
        values: Any,
        shape: int | Sequence[int] | Grid,
        *,
        weights: Any = None,
        kernel: KernelLike = "cubic",
        bounds: Any = None,
        boundary: BoundaryLike = "natural",
        periodic: bool | Sequence[bool] = False,
        roughness: float | str = 0.0,
        order: int = 2,
        levels: int = 1,
        solver: str = "auto",
        progress: bool = False,
    ) -> Self:
        """The field that fits scattered data best: weighted, regularised least squares, solved rather than trained.

        Minimises ``sum_p weights_p |field(x_p) - values_p|**2 + roughness * field.roughness(order)``. It is
        `gf.fit_field` for fields; see there for all that it does.

        Parameters
        ----------
        points : array, shape (*pts, ndim)
            Coordinates in the units of the bounds.
        values : array, shape (*pts) or (*pts, channels)
            Data; NaN is left out.
        shape : int, sequence of int, or Grid
            Control points along each axis.
        weights : array, shape (*pts) or (*pts, channels), optional
            Weights of the squared residuals, >= 0; default 1.
        kernel, bounds, boundary, periodic
            As for the class.
        roughness : float >= 0 or "gcv", default 0
            Weight of the exact integral; "gcv" chooses it by generalised cross-validation.
        order : int, default 2
            Order of the derivatives in the integral: 1, 2 or 3.
        levels : int, default 1
            Above 1: from coarse to fine, so that gaps are filled by what is known around them.
        solver : "auto", "direct" or "cg", default "auto"
            Cholesky or conjugate gradients.
        progress : bool, default False
            Show a progress bar.

        Returns
        -------
        SplineField
            Learnable like any other, in the type of `values` (float64 for integers); `fit_info` has the residual, the
            effective degrees of freedom, the roughness, and a warning where data leave something open. It belongs to
            this object: files and transformations of JAX, which make new ones, do not keep it.

        Raises
        ------
        ValueError, TypeError
            As `gf.fit_field` does.

        Examples
        --------
        >>> import torch
        >>> from gridfield.torch import SplineField
        >>> x = torch.rand(1000, 2, dtype=torch.float64)
        >>> field = SplineField.fit(x, torch.sin(6 * x[:, 0]) * x[:, 1], (12, 12))
        >>> bool(field.fit_info.residual < 1e-3), field.fit_info.effective_dof
        (True, 144.0)
        """
        spline, where = cls._spline(shape, kernel, bounds, boundary, periodic, "fit")
        own = bounds is not None or isinstance(shape, Grid)
        options = Options(roughness, order, levels, solver, progress)
        c, info = fit(cls._face, spline, points, values, weights, options, where, own)
        field = cls._from(spline, _as_channels(c, spline, where))
        field._set_info(info)
        return field

    def _set_info(self, info: FitInfo) -> None:
        object.__setattr__(self, "fit_info", info)

    @classmethod
    def interpolate(
        cls,
        values: Any,
        grid: Grid | None = None,
        *,
        kernel: KernelLike = "cubic",
        bounds: Any = None,
        boundary: BoundaryLike = "natural",
        periodic: bool | Sequence[bool] = False,
    ) -> Self:
        """The field that passes through data on a grid.

        Solves ``field(grid sample) = value`` along every axis (`gf.prefilter`).

        Parameters
        ----------
        values : array, shape (channels, *shape); with a grid also (*grid.shape)
            Data, one sample per control point.
        grid : Grid, optional
            Where they are; default: a grid of their shape between `bounds`.
        kernel, bounds, boundary, periodic
            As for the class.

        Returns
        -------
        SplineField
            In the type of `values`, float64 for integers.

        Raises
        ------
        ValueError
            If values do not fit the grid, or no field of that kernel and boundary passes through all data.

        Examples
        --------
        >>> import torch
        >>> from gridfield.torch import SplineField
        >>> data = torch.tensor([[0.0, 1.0, 0.0, 2.0]])
        >>> SplineField.interpolate(data)(torch.tensor([[1 / 3], [1.0]])).detach().round(decimals=4)
        tensor([[1.],
                [2.]])
        """
        where, F = f"{cls._name}.interpolate", cls._face
        try:
            values = F.array(values)
        except (TypeError, ValueError, RuntimeError) as error:
            raise TypeError(f"{where}: values must be an array of numbers ({error})") from None
        if grid is None:
            if len(values.shape) < 2 or 0 in tuple(values.shape):
                raise ValueError(
                    f"{where}: values must have shape (channels, *shape), got {tuple(values.shape)}; without a channel "
                    "axis give a grid"
                )
            shape: Any = check.sizes(values.shape[1:], "values", where)
        else:
            check.is_grid(grid, where)
            shape = grid
        spline, where = cls._spline(shape, kernel, bounds, boundary, periodic, "interpolate")
        check.trailing(values.shape, spline.grid.shape, "values", "the grid's shape", where)
        if len(values.shape) == spline.ndim:
            values = F.reshape(values, (1, *F.shape(values)))
        if len(values.shape) != spline.ndim + 1:
            raise ValueError(
                f"{where}: values has shape {tuple(values.shape)} but must be (channels, *{spline.grid.shape})"
            )
        given = F.dtype(values)
        if not check.is_number(given) or given in check.REAL:
            raise TypeError(f"{where}: values has dtype {given} but a field's coefficients are real")
        if check.is_integer(given):
            values = F.astype(values, F.widest("float64"))
        return cls._from(spline, spline.interpolating(F, values, where))

    @classmethod
    def from_function(
        cls,
        f: Callable[[Any], Any],
        shape: int | Sequence[int] | Grid,
        *,
        kernel: KernelLike = "cubic",
        bounds: Any = None,
        boundary: BoundaryLike = "natural",
        periodic: bool | Sequence[bool] = False,
        dtype: Any = None,
    ) -> Self:
        """The field that equals a function at the control points.

        Parameters
        ----------
        f : callable
            From points (*shape, ndim), an array of the framework in the units of the bounds, to values (*shape) or
            (*shape, channels). Another field will do.
        shape : int, sequence of int, or Grid
            Control points along each axis.
        kernel, bounds, boundary, periodic
            As for the class.
        dtype : dtype, optional
            Of the points; default: the framework's.

        Returns
        -------
        SplineField

        Raises
        ------
        ValueError
            If f returns another shape.

        Examples
        --------
        >>> import torch
        >>> from gridfield.torch import SplineField
        >>> field = SplineField.from_function(lambda x: torch.sin(x[..., 0]), 20, bounds=(0, 6))
        >>> abs(field(torch.tensor([[2.0]])).item() - 0.909297) < 1e-4
        True
        """
        spline, where = cls._spline(shape, kernel, bounds, boundary, periodic, "from_function")
        F, grid = cls._face, spline.grid
        name = cls._default_dtype() if dtype is None else _dtype_name(dtype, where)
        values = F.array(f(F.constant(grid.coords(), name, F.array(0.0))))
        if tuple(values.shape[: spline.ndim]) != grid.shape or len(values.shape) > spline.ndim + 1:
            raise ValueError(
                f"{where}: f returned shape {tuple(values.shape)} for points {(*grid.shape, spline.ndim)}, but must "
                f"return {grid.shape} or {grid.shape} and channels"
            )
        if len(values.shape) == spline.ndim + 1:
            values = F.moveaxis(values, -1, 0)
        return cls.interpolate(values, grid, kernel=spline.kernel, boundary=spline.boundary)


def _as_channels(c: Any, spline: Spline, where: str) -> Any:
    """(*shape) or (channels, *shape) -> (channels, *shape)."""
    if len(c.shape) == spline.ndim:
        return c[None]
    if len(c.shape) != spline.ndim + 1:
        raise ValueError(
            f"{where}: values must be one per point, or one per channel, but have {len(c.shape) - spline.ndim} axes "
            "beyond those of points"
        )
    return c


def _dtype_name(dtype: Any, where: str) -> str:
    """The name of a framework's floating type."""
    try:
        name = dtype if isinstance(dtype, str) else getattr(dtype, "name", None) or np.dtype(dtype).name
    except TypeError:
        name = str(dtype).removeprefix("torch.")
    if name not in (*check.FLOATS, *check.HALF):
        raise TypeError(f"{where}: dtype must be a floating-point type, got {dtype!r}")
    return name
