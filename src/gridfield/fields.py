"""Field: what the learnable fields of all frameworks can do; torch.py, jax.py and tensorflow.py make classes of it."""

from __future__ import annotations

import numbers
import operator
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import reduce
from typing import Any, ClassVar, Self

import numpy as np

from . import check, files, labelled
from .fitting import FitInfo, Options, fit
from .grid import Grid
from .kernel import Kernel
from .sampling import BoundaryLike, KernelLike
from .spline import Spline, Window


def check_channels(channels: Any, where: str) -> int:
    """How many values a field has at a point."""
    if not isinstance(channels, int) or isinstance(channels, bool) or channels < 1:
        raise ValueError(f"{where}: channels must be an int >= 1, got {channels!r}")
    return channels


Terms = list[tuple["Field", Any]]


class Field:
    """What the fields of all frameworks can do.

    A subclass has `spline`, `coefficients`, `_face`, `_name`, `_with`, `_made` and `_sum`. Further arguments of its
    constructor that belong to a field for good are attributes, words or numbers, whose names are in `_stored`.
    """

    spline: Spline
    coefficients: Any
    fit_info: FitInfo | None = None  # of a field that `fit` made
    _face: Any
    _name: ClassVar[str]  # the class, for messages
    _stored: ClassVar[tuple[str, ...]] = ()
    __array_ufunc__ = None  # so that numbers of NumPy leave arithmetic to the field

    def _array(self) -> Any:
        """The coefficients as an array of the framework."""
        return self.coefficients

    def _with(self, spline: Spline, coefficients: Any, extended: Sequence[int] = ()) -> Self:
        """A field of the same class with other control points; along `extended` the boundary made new ones."""
        raise NotImplementedError

    def _sum(self, spline: Spline, terms: Terms) -> Any:
        """The field on that lattice that is the sum of fields, each times a number."""
        raise NotImplementedError

    def _terms(self) -> Terms:
        """The fields that this one is the sum of, each with its number."""
        return [(self, 1.0)]

    @classmethod
    def _made(cls, spline: Spline, coefficients: Any, *, dtype: Any, **how: Any) -> Self:
        """A field of a copy of a NumPy array, in a type (a word, too); `how` is for the constructor."""
        raise NotImplementedError

    def _read(self, where: str) -> tuple[Any, str]:
        """The coefficients as a NumPy array (bfloat16 as float32), and the name of their type."""
        array = self._array()
        dtype = self._face.dtype(array)
        if dtype not in (*check.FLOATS, *check.HALF):
            raise TypeError(f"{where}: coefficients have dtype {dtype} but must be one of {check.FLOATS + check.HALF}")
        try:
            values = self._face.numpy(array)
        except Exception as error:  # of each framework's own: there are no values while it traces, on meta devices
            raise TypeError(f"{where}: coefficients have no values here ({type(error).__name__})") from None
        if values.ndim != self.ndim + 1 or values.shape[1:] != self.grid.shape:
            raise ValueError(
                f"{where}: coefficients have shape {values.shape} but must be (channels, *{self.grid.shape})"
            )
        return values, dtype

    @property
    def grid(self) -> Grid:
        """Where the control points are."""
        return self.spline.grid

    @property
    def kernel(self) -> tuple[Kernel, ...]:
        """The kernel of each axis."""
        return self.spline.kernel

    @property
    def boundary(self) -> tuple[str, ...]:
        """The boundary of each axis."""
        return self.spline.boundary

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return self.spline.ndim

    @property
    def channels(self) -> int:
        """Values per point."""
        return self.coefficients.shape[0]

    # ---- from data
    @classmethod
    def _from(cls, spline: Spline, coefficients: Any) -> Self:
        """A field of this class, of an array of its framework."""
        return cls._made(spline, coefficients, dtype=cls._face.dtype(coefficients))

    @classmethod
    def _default_dtype(cls) -> str:
        """The framework's."""
        raise NotImplementedError

    @classmethod
    def _spline(cls, shape: Any, kernel: Any, bounds: Any, boundary: Any, name: str) -> tuple[Spline, str]:
        """What a classmethod is about to make, and its name for messages."""
        where = f"{cls._name}.{name}"
        spline = Spline.of(shape, kernel, bounds, boundary, where)
        return replace(spline, name=cls._name), where

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
        kernel, bounds, boundary
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
            effective degrees of freedom, the roughness, and a warning where data leave something open.

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
        spline, where = cls._spline(shape, kernel, bounds, boundary, "fit")
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
    ) -> Self:
        """The field that passes through data on a grid.

        Solves ``field(grid sample) = value`` along every axis (`gf.prefilter`).

        Parameters
        ----------
        values : array, shape (channels, *shape); with a grid also (*grid.shape)
            Data, one sample per control point.
        grid : Grid, optional
            Where they are; default: a grid of their shape between `bounds`.
        kernel, bounds, boundary
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
        spline, where = cls._spline(shape, kernel, bounds, boundary, "interpolate")
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
        kernel, bounds, boundary
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
        spline, where = cls._spline(shape, kernel, bounds, boundary, "from_function")
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

    # ---- values and derivatives
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
        return _determinant(rows)

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

    # ---- other lattices
    def refine(self, factor: int | Sequence[int]) -> Self:
        """The same field on a finer lattice: knot insertion, exact at every point.

        Parameters
        ----------
        factor : int or one per axis
            How many times finer; odd for kernels of even degree.

        Returns
        -------
        SplineField
            With ``grid.refine(factor)``; its coefficients are new ones, without history.

        Raises
        ------
        ValueError
            If no field on that lattice is the same: for kernels other than B-splines, boundaries other than "natural",
            "mirror" and "wrap", or even factors at an even degree. `resample` then finds the nearest.

        References
        ----------
        M. Unser, "Splines: a perfect fit for signal and image processing", IEEE Signal Process. Mag. 16 (1999), 22-38.

        Examples
        --------
        >>> from gridfield.torch import SplineField
        >>> SplineField((4, 5)).refine((2, 3)).grid.shape
        (7, 13)
        """
        spline, factors = self.spline.refined(factor)
        c = self.spline.separable(self._face, self._array(), "refine", tuple((f,) for f in factors))
        return self._with(spline, c)

    def resample(self, shape: int | Sequence[int] | Grid) -> Self:
        """The nearest field on another lattice, in the sense of L2 over its domain.

        Parameters
        ----------
        shape : int, sequence of int, or Grid
            Control points between the same bounds, or a lattice of its own.

        Returns
        -------
        SplineField
            Equal to this one where nothing has to be lost, as on a lattice `refine` would give; its coefficients are
            new ones, without history.

        Raises
        ------
        ValueError
            If shape has not one size per axis.

        Examples
        --------
        >>> from gridfield.torch import SplineField
        >>> SplineField((8, 8)).resample((5, 6)).grid.shape
        (5, 6)
        """
        spline = self.spline.lattice(shape)
        c = self.spline.separable(self._face, self._array(), "resample", tuple((axis,) for axis in spline.axes))
        return self._with(spline, c)

    def crop(self, bounds: Any, *, margin: int | Sequence[int] | None = None) -> Self:
        """The field on the part of its lattice that lies within bounds.

        Parameters
        ----------
        bounds : (lo, hi), or one such pair or None per axis
            What to keep, in the units of the field's own bounds, widened to control points and cut at the ends of the
            field. None keeps an axis as it is; so does an axis of one control point.
        margin : int or one per axis, optional
            Control points to keep beyond the bounds on either side, where there are any. Default: as many as the kernel
            reaches, ``(width - 1) // 2`` (1 for "cubic", 2 for "quintic"), so that the field between the bounds is
            exactly what it was. With fewer it ends with its boundary where it was cut, and differs near there.

        Returns
        -------
        SplineField
            Its coefficients are new ones, without history. Its bounds include the margin. A periodic axis, or one with
            boundary "wrap", that is cut has two ends afterwards, with boundary "natural"; bounds may lie across the
            seam there, or be more than one turn apart.

        Raises
        ------
        ValueError
            If bounds lie outside of the field, or are not of that form.

        Examples
        --------
        >>> from gridfield.torch import SplineField
        >>> field = SplineField((11, 11), bounds=(0, 10))
        >>> field.crop([(2.5, 6), None]).grid  # from 2 to 6, and one control point on either side
        Grid((7, 11), ((1.0, 7.0), (0.0, 10.0)), periodic=False)
        >>> field.crop((2.5, 6), margin=0).grid.bounds
        ((2.0, 6.0), (2.0, 6.0))
        """
        return self._window(self.spline.within(bounds, margin))

    def pad(self, margins: int | Sequence[Any]) -> Self:
        """The field on a larger lattice, with control points beyond its ends that continue it by its boundary.

        Parameters
        ----------
        margins : int, or one int or pair (before, after) per axis
            Control points to add.

        Returns
        -------
        SplineField
            The same field within the old bounds if each margin is 0 or not less than the kernel's reach,
            ``(width - 1) // 2`` (1 for "cubic", 2 for "quintic"); with boundary "nearest" whatever the margin. Its
            coefficients are new ones, without history. A periodic axis, or one with boundary "wrap", goes on for more
            than a turn and has two ends afterwards, with boundary "natural".

        Raises
        ------
        ValueError, TypeError
            If margins is not of that form.

        Examples
        --------
        >>> from gridfield.torch import SplineField
        >>> SplineField((11, 11), bounds=(0, 10)).pad([2, (0, 1)]).grid
        Grid((15, 12), ((-2.0, 12.0), (0.0, 11.0)), periodic=False)
        """
        return self._window(self.spline.beyond(margins))

    def _window(self, windows: list[Window | None]) -> Self:
        spline, n = self.spline.cut(windows), self.grid.shape
        new = [w is not None and (w[0] < 0 or w[1] >= m) for w, m in zip(windows, n, strict=True)]
        extended = [a for a, b in enumerate(self.boundary) if new[a] and b != "wrap"]  # there they are old ones again
        return self._with(spline, self.spline.window(self._face, self._array(), windows), extended)

    # ---- arithmetic
    def __add__(self, other: Any) -> Any:
        return self._combined("+", other, 1.0)

    def __radd__(self, other: Any) -> Any:
        # for sum(), which begins with 0
        return self if isinstance(other, numbers.Real) and other == 0 else NotImplemented

    def __sub__(self, other: Any) -> Any:
        return self._combined("-", other, -1.0)

    def __neg__(self) -> Any:
        return self * -1.0

    def __mul__(self, number: Any) -> Any:
        if not self._is_number(number):
            return NotImplemented
        number = float(number) if isinstance(number, numbers.Real) else number
        return self._sum(self.spline, [(field, number * scale) for field, scale in self._terms()])

    __rmul__ = __mul__

    def _is_number(self, x: Any) -> bool:
        return isinstance(x, numbers.Real) and not isinstance(x, bool)

    def _combined(self, operation: str, other: Any, scale: float) -> Any:
        """This field plus or minus another."""
        if not isinstance(other, Field):
            return NotImplemented
        check_alike(self, other, operation)
        spline = self.spline.joined(other.spline, operation)
        return self._sum(spline, self._terms() + [(field, scale * s) for field, s in other._terms()])

    # ---- files
    def save(self, path: Any) -> None:
        """Write the field to a file, which `load` reads in any framework.

        A safetensors file, without pickles: the coefficients in their own type as its one tensor, and as JSON in its
        metadata the grid, kernels and boundaries to the last bit. Whether gradients are wanted, the device, and the
        state of an optimiser are not in it.

        Parameters
        ----------
        path : str or os.PathLike
            The file, by convention ``*.safetensors``. One that is there is replaced, whole or not at all.

        Raises
        ------
        OSError
            If the file cannot be written.
        TypeError
            If the coefficients have no values yet: while a framework is tracing.
        ImportError
            If safetensors is missing: ``pip install "gridfield[files]"``.

        Examples
        --------
        >>> from gridfield.torch import SplineField
        >>> SplineField((4, 5), channels=2, bounds=[(0, 3), (0, 9)]).save("warp.safetensors")
        >>> SplineField.load("warp.safetensors")
        SplineField(Grid((4, 5), ((0.0, 3.0), (0.0, 9.0)), periodic=False), channels=2, kernel=cubic, boundary=natural)
        """
        files.save(self, path)

    @classmethod
    def load(cls, path: Any, **options: Any) -> Self:
        """The field in a file that `save` wrote, in this framework or another.

        Parameters
        ----------
        path : str or os.PathLike
            The file.
        **options
            What else the constructor takes: `dtype` (default: as in the file), `device` in torch, `name` and
            `trainable` in Keras.

        Returns
        -------
        SplineField
            Equal to the saved one to the last bit.

        Raises
        ------
        OSError
            If there is no such file, or it cannot be read.
        ValueError
            If it is cut short, not of a field, or written by a later version.
        ImportError
            If safetensors is missing: ``pip install "gridfield[files]"``.

        Examples
        --------
        >>> import torch
        >>> from gridfield.torch import SplineField
        >>> SplineField(6, dtype=torch.float64).save("line.safetensors")
        >>> SplineField.load("line.safetensors", device="cpu").coefficients.dtype
        torch.float64
        """
        return files.load(cls, path, options)

    def to_xarray(
        self,
        *,
        dims: str | Sequence[str] | None = None,
        units: str | Sequence[str | None] | None = None,
        name: str | None = "coefficients",
    ) -> Any:
        """The coefficients as a labelled array, from which `from_xarray` makes the field again.

        Parameters
        ----------
        dims : str or sequence of str, optional
            A name for each axis; default those of the array that the field came from, else ``x0``, ``x1``, ...
        units : str or one str or None per axis, optional
            Of the bounds; default those of the array that the field came from, else none. A str is for all axes.
        name : str, optional
            Of the array.

        Returns
        -------
        xarray.DataArray, dimensions ("channel", *dims)
            A copy, with the positions of the control points as coordinates (whose attribute `units` is theirs) and
            the attribute `gridfield`: kernels, boundaries and grid as JSON. float16 and bfloat16 become float32, as
            netCDF has no such types; `from_xarray` makes them what they were.

        Raises
        ------
        ValueError, TypeError
            If dims or units are not one word per axis, or the coefficients have no values yet.
        ImportError
            If xarray is missing: ``pip install "gridfield[xarray]"``.

        Notes
        -----
        ``array.to_netcdf(path)`` and ``xarray.open_dataarray(path)`` keep all of it; netCDF 3 through SciPy suffices.

        Examples
        --------
        >>> from gridfield.torch import SplineField
        >>> field = SplineField((4, 5), channels=2, bounds=[(0, 3), (0, 9)])
        >>> array = field.to_xarray(dims=("y", "x"), units="nm")
        >>> array.dims, array.y.values, array.y.units
        (('channel', 'y', 'x'), array([0., 1., 2., 3.]), 'nm')
        """
        return labelled.to_xarray(self, dims, units, name)

    @classmethod
    def from_xarray(cls, array: Any, **options: Any) -> Self:
        """The field of an array that `to_xarray` made, in this framework or another.

        Parameters
        ----------
        array : xarray.DataArray
            Its dimensions may have been renamed, reordered, and cut to a part: of consecutive control points, which
            then are all that the field has. Near its new ends it differs from the whole one.
        **options
            What else the constructor takes: `dtype` (default: that of the array, or what `to_xarray` widened), `device`
            in torch, `name` and `trainable` in Keras.

        Returns
        -------
        SplineField
            It remembers the names and units of its axes: `to_xarray`, `save`, and fields made from it have them, too.

        Raises
        ------
        ValueError
            If the array did not come from `to_xarray`, or its coordinates are not control points of the field any more:
            interpolated, moved, rescaled, or a part of a period. For data on a grid of its own there is `interpolate`.
        TypeError
            If it is no xarray.DataArray of floating-point numbers.
        ImportError
            If xarray is missing: ``pip install "gridfield[xarray]"``.

        Examples
        --------
        >>> from gridfield.torch import SplineField
        >>> array = SplineField((4, 5), bounds=[(0, 3), (0, 9)]).to_xarray(dims=("y", "x"), units="nm")
        >>> field = SplineField.from_xarray(array.transpose("x", ...).isel(y=slice(1, 4)))
        >>> field.grid
        Grid((3, 5), ((1.0, 3.0), (0.0, 9.0)), periodic=False)
        >>> field.to_xarray().x.units
        'nm'
        """
        return labelled.from_xarray(cls, array, options)


def check_alike(a: Field, b: Field, operation: str) -> None:
    """Whether two fields can be added, as far as their coefficients go."""
    F, other, where = a._face, b._face, f"{a.spline.name}: {operation} needs fields"
    if F is not other:
        raise TypeError(f"{where} of one framework, got {F.name} and {other.name}")
    if a.channels != b.channels:
        raise ValueError(f"{where} with the same channels, got {a.channels} and {b.channels}")
    dtypes = F.dtype(a._array()), F.dtype(b._array())
    if dtypes[0] != dtypes[1]:
        raise TypeError(f"{where} of one dtype, got {dtypes[0]} and {dtypes[1]}")


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


def _determinant(rows: list[list[Any]]) -> Any:
    """By expansion along the first row: fields have few axes."""
    if len(rows) == 1:
        return rows[0][0]
    terms = [(-1) ** j * x * _determinant([row[:j] + row[j + 1 :] for row in rows[1:]]) for j, x in enumerate(rows[0])]
    return reduce(operator.add, terms)
