"""Calculus: derivatives of fields at points and on grids, vector calculus, exact integrals."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from functools import reduce
from typing import Any

from ..displacement import determinant
from ..grid import Grid
from .base import Base


class Calculus(Base):
    """Values, derivatives and integrals of fields."""

    def jacobian(self, points: Any) -> Any:
        """First derivatives of the field, per unit of the bounds.

        Parameters
        ----------
        points : array, shape (*pts, ndim)
            Coordinates in the units of the bounds.

        Returns
        -------
        array, shape (*pts, channels, ndim)
            Differentiable in the coefficients and in the points.

        Examples
        --------
        >>> import torch
        >>> from gridfield.torch import SplineField
        >>> SplineField((4, 5), 3).jacobian(torch.rand(7, 2)).shape
        torch.Size([7, 3, 2])
        """
        return self.spline.sample(self._face, self._array(), points, "jacobian")

    def hessian(self, points: Any) -> Any:
        """Second derivatives of the field, per unit of the bounds squared.

        Parameters
        ----------
        points : array, shape (*pts, ndim)
            Coordinates in the units of the bounds.

        Returns
        -------
        array, shape (*pts, channels, ndim, ndim)
            Symmetric; differentiable in the coefficients and in the points.

        Examples
        --------
        >>> import torch
        >>> from gridfield.torch import SplineField
        >>> SplineField((4, 5)).hessian(torch.rand(7, 2)).shape
        torch.Size([7, 1, 2, 2])
        """
        return self.spline.sample(self._face, self._array(), points, "hessian")

    def on_grid(self, shape: int | Sequence[int] | Grid) -> Any:
        """The field at all samples of a grid: one small banded matrix per axis, far faster than the same points.

        Parameters
        ----------
        shape : int, sequence of int, or Grid
            Samples per axis (an int: the same for all) between the bounds of this field, or a grid of its own.

        Returns
        -------
        array, shape (channels, *shape)
            Differentiable in the coefficients.

        Examples
        --------
        >>> from gridfield.torch import SplineField
        >>> SplineField((4, 5), channels=2).on_grid((64, 64)).shape
        torch.Size([2, 64, 64])
        """
        return self.spline.on_grid(self._face, self._array(), shape)

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
        return self.spline.grid_of(shape)

    def divergence(self, points: Any) -> Any:
        """Divergence of a vector field, ``sum_i d field_i / d x_i``.

        Parameters
        ----------
        points : array, shape (*pts, ndim)
            Coordinates in the units of the bounds.

        Returns
        -------
        array, shape (*pts)
            Differentiable in the coefficients and in the points.

        Raises
        ------
        ValueError
            If the field has not one channel per axis.

        Examples
        --------
        >>> import torch
        >>> from gridfield.torch import SplineField
        >>> SplineField((4, 5), channels=2).divergence(torch.rand(7, 2)).shape
        torch.Size([7])
        """
        slopes = self._vector("divergence", points)
        return reduce(operator.add, (slopes[..., i, i] for i in range(self.ndim)))

    def curl(self, points: Any) -> Any:
        """Curl of a vector field in two or three dimensions.

        Parameters
        ----------
        points : array, shape (*pts, ndim)
            Coordinates in the units of the bounds.

        Returns
        -------
        array, shape (*pts) in 2-D, (*pts, 3) in 3-D
            ``d field_1 / d x_0 - d field_0 / d x_1``; in 3-D the vector of such differences.

        Raises
        ------
        ValueError
            If the field has not one channel per axis, or not two or three axes.

        Examples
        --------
        >>> import torch
        >>> from gridfield.torch import SplineField
        >>> SplineField((4, 5, 6), channels=3).curl(torch.rand(7, 3)).shape
        torch.Size([7, 3])
        """
        if self.ndim not in (2, 3):
            raise ValueError(f"{self.spline.name}.curl: grid has {self.ndim} axes, but a curl needs 2 or 3")
        d = self._vector("curl", points)
        if self.ndim == 2:
            return d[..., 1, 0] - d[..., 0, 1]
        turns = ((2, 1), (0, 2), (1, 0))
        return self._face.stack([d[..., i, j] - d[..., j, i] for i, j in turns], -1)

    def jacobian_determinant(
        self, points: Any = None, *, on_grid: int | Sequence[int] | Grid | None = None, displacement: bool = False
    ) -> Any:
        """Determinant of the first derivatives of a vector field: how it scales volumes; below zero it folds.

        Parameters
        ----------
        points : array, shape (*pts, ndim), optional
            Coordinates in the units of the bounds.
        on_grid : int, sequence of int, or Grid, optional
            Instead of points: all samples of a grid, as for `on_grid`, and as fast.
        displacement : bool, default False
            Whether the field is a displacement u, so that the map is ``x + u(x)``.

        Returns
        -------
        array, shape (*pts) or the grid's shape
            Differentiable in the coefficients and in the points.

        Raises
        ------
        ValueError
            If the field has not one channel per axis, or not one of `points` and `on_grid` is given.

        Examples
        --------
        >>> import torch
        >>> from gridfield.torch import SplineField
        >>> warp = SplineField((4, 5), channels=2)
        >>> warp.jacobian_determinant(on_grid=(2, 3), displacement=True).detach()
        tensor([[1., 1., 1.],
                [1., 1., 1.]])
        """
        name, F = "jacobian_determinant", self._face
        if (points is None) == (on_grid is None):
            raise ValueError(f"{self.spline.name}.{name}: points or on_grid must be given, not both")
        n = range(self.ndim)
        if on_grid is None:
            d = self._vector(name, points)
            rows = [[d[..., i, j] for j in n] for i in n]
        else:
            self._vector(name)
            orders = [tuple(int(i == j) for i in n) for j in n]
            by_axis = [self.spline.on_grid(F, self._array(), on_grid, o) for o in orders]
            rows = [[by_axis[j][i] for j in n] for i in n]
        if displacement:
            rows = [[x + 1 if i == j else x for j, x in enumerate(row)] for i, row in enumerate(rows)]
        return determinant(rows)

    def _vector(self, what: str, points: Any = None) -> Any:
        """The jacobian of a field with one channel per axis."""
        if self.channels != self.ndim:
            raise ValueError(
                f"{self.spline.name}.{what}: channels must be one per axis ({self.ndim}), but the field has "
                f"{self.channels}"
            )
        return None if points is None else self.jacobian(points)

    # ---- integrals
    def roughness(self, order: int = 2) -> Any:
        """The integral of all squared derivatives of an order, exactly: what smoothing splines penalise.

        ``sum_c sum_{|a| = order} order! / a! integral (d^a field_c)^2 dx`` over the domain of the field, from the first
        to the last control point; by Gram matrices of B-spline derivatives, without samples.

        Parameters
        ----------
        order : int, default 2
            1 (membrane), 2 (thin plate) or 3.

        Returns
        -------
        array, shape ()
            Differentiable in the coefficients.

        Raises
        ------
        ValueError
            If order is not from 1 to 3.

        References
        ----------
        J. Duchon, "Splines minimizing rotation-invariant semi-norms in Sobolev spaces" (1977).

        Examples
        --------
        >>> import torch
        >>> from gridfield.torch import SplineField
        >>> field = SplineField(5, bounds=(0, 4), dtype=torch.float64)
        >>> with torch.no_grad():
        ...     field.coefficients[0] = 3 * torch.arange(5.0)  # slope 3 over a length of 4
        >>> round(field.roughness(1).item(), 9), abs(round(field.roughness(2).item(), 9))
        (36.0, 0.0)
        """
        if order not in (1, 2, 3) or isinstance(order, bool):
            raise ValueError(f"{self.spline.name}.roughness: order must be 1, 2 or 3, got {order!r}")
        return self.spline.roughness(self._face, self._array(), order)

    def bending_energy(self) -> Any:
        """The integral of all squared second derivatives, mixed ones twice: ``roughness(2)``.

        Returns
        -------
        array, shape ()

        References
        ----------
        D. Rueckert et al., "Nonrigid registration using free-form deformations", IEEE Trans. Med. Imaging 18 (1999),
        712-721.

        Examples
        --------
        >>> from gridfield.torch import SplineField
        >>> SplineField((4, 5), 2).bending_energy().item()
        0.0
        """
        return self.roughness(2)

    def integral(self) -> Any:
        """The integral of each channel over the domain, exactly.

        Returns
        -------
        array, shape (channels,)
            Differentiable in the coefficients.

        Examples
        --------
        >>> import torch
        >>> from gridfield.torch import SplineField
        >>> field = SplineField((4, 5), bounds=[(0, 3), (0, 2)])
        >>> torch.nn.init.ones_(field.coefficients).shape
        torch.Size([1, 4, 5])
        >>> round(field.integral().item(), 4)
        6.0
        """
        return self.spline.integral(self._face, self._array())
