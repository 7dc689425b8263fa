"""PyTorch: learnable spline fields as modules."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

from .extras import needs

with needs("torch"):
    import torch

    from .faces.torch import FACE

from .fields import Field, check_channels
from .grid import Grid
from .sampling import BoundaryLike, KernelLike
from .spline import Spline

__all__ = ["SplineField", "carry_state"]


class SplineField(Field, torch.nn.Module):
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

    coefficients: torch.nn.Parameter
    _face, _name = FACE, "gf.torch.SplineField"

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
        name = self._name
        self.spline = Spline.of(shape, kernel, bounds, boundary, name)
        check_channels(channels, name)
        dtype = torch.get_default_dtype() if dtype is None else dtype
        if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
            raise TypeError(f"{name}: dtype must be a floating-point torch.dtype, got {dtype!r}")
        self.coefficients = torch.nn.Parameter(torch.zeros(channels, *self.grid.shape, dtype=dtype, device=device))

    def _with(self, spline: Spline, coefficients: torch.Tensor) -> SplineField:
        return SplineField._from(spline, coefficients).requires_grad_(self.coefficients.requires_grad)

    @classmethod
    def _made(cls, spline: Spline, coefficients: Any, *, dtype: Any, **how: Any) -> Self:
        dtype = getattr(torch, dtype, dtype) if isinstance(dtype, str) else dtype
        if isinstance(coefficients, torch.Tensor):
            how = {"device": coefficients.device} | how
        where = {"kernel": spline.kernel, "boundary": spline.boundary}
        field = cls(spline.grid, len(coefficients), dtype=dtype, **where, **how)
        field.spline = spline
        values = torch.as_tensor(coefficients).detach().clone()
        field.coefficients = torch.nn.Parameter(values.to(field.coefficients))
        return field

    @classmethod
    def _default_dtype(cls) -> str:
        return str(torch.get_default_dtype()).removeprefix("torch.")

    def extra_repr(self) -> str:
        """What `print` shows."""
        return self.spline.describe(self.channels)

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
        return self.spline.sample(FACE, self.coefficients, points, "value")


def carry_state(optimizer: torch.optim.Optimizer, old: SplineField, new: SplineField) -> None:
    """Let an optimiser go on with a field on another lattice: coarse to fine without starting anew.

    `new` takes the place of `old` in the optimiser's groups, and what it remembers of each coefficient (moments,
    momentum, averages of squares) is carried over as the fields that these are. Gradients become smaller in
    proportion as coefficients become more, and so do the moments.

    Parameters
    ----------
    optimizer : torch.optim.Optimizer
        Of the coefficients of `old`: Adam and its relatives, SGD, RMSprop, Adagrad. LBFGS is only reset.
    old, new : SplineField
        As before and after ``new = old.refine(2)``, `resample`, or one of both kinds.

    Raises
    ------
    ValueError
        If the optimiser does not have the coefficients of `old`, or the fields are not of the same number of axes
        and channels.

    Examples
    --------
    >>> import torch
    >>> from gridfield.torch import SplineField, carry_state
    >>> field = SplineField((4, 4))
    >>> optimizer = torch.optim.Adam(field.parameters())
    >>> field(torch.rand(10, 2)).square().sum().backward()
    >>> optimizer.step()
    >>> fine = field.refine(2)
    >>> carry_state(optimizer, field, fine)
    >>> optimizer.state[fine.coefficients]["exp_avg"].shape
    torch.Size([1, 7, 7])
    """
    where = "gf.torch.carry_state"
    before, after = (next(iter(field.parameters()), None) for field in (old, new))
    groups = [g for g in optimizer.param_groups if any(p is before for p in g["params"])]
    if before is None or after is None or not groups:
        raise ValueError(f"{where}: the optimiser has no parameter of old")
    if (old.ndim, old.channels) != (new.ndim, new.channels):
        raise ValueError(
            f"{where}: old has {old.ndim} axes and {old.channels} channels, but new {new.ndim} and {new.channels}"
        )
    for group in groups:
        group["params"] = [after if p is before else p for p in group["params"]]
    state = optimizer.state.pop(before, {})
    if isinstance(optimizer, torch.optim.LBFGS):
        return
    axes = tuple((axis,) for axis in new.spline.axes)
    fewer = old.grid.size / new.grid.size
    for name, x in state.items():
        if isinstance(x, torch.Tensor) and x.shape == before.shape:
            squares = "sq" in name or name == "sum"  # exp_avg_sq, max_exp_avg_sq, square_avg; Adagrad's sum
            x = old.spline.separable(FACE, x.to(after.dtype), "resample", axes) * fewer ** (2 if squares else 1)
            x = (x.clamp_min(0) if squares else x).to(after.device)
        optimizer.state[after][name] = x
