"""CubicSplineGrid: all that the eight classes do, over gridfield's fields."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any, Literal, Self, TypeVar

import numpy as np

from ... import arguments, check
from ...extras import needs
from ...fields import check_channels
from ...grid import Grid
from ...sampling import pad
from ...spline import Spline

with needs("torch"):
    import torch

    from ...faces.torch import FACE

MonotonicityType = Literal["increasing", "decreasing"]
_SIGNS = {None: 0, "increasing": 1, "decreasing": -1}


class CubicSplineGrid(torch.nn.Module):
    """Base class of the eight grids: for isinstance, and to derive from.

    A subclass has the class attributes `ndim` and, for a Catmull-Rom spline, ``_kernel = "catmull_rom"``.

    Parameters
    ----------
    resolution : int or sequence of int, default 2 along each axis
        Control points along each axis (an int: the same for all), the first at 0 and the last at 1; an axis of one
        control point is constant along it.
    n_channels : int, default 1
        Values per point.
    minibatch_size : int, default 1_000_000
        Accepted and not needed: a call takes a few bytes per point.
    monotonicity : "increasing" or "decreasing", optional
        Use, instead of the control points, their running maximum (minimum) along every axis, ends continued by a line
        included. A B-spline is then monotone along every axis. A Catmull-Rom spline with a single axis of more than
        one control point is made so by a bound: no increment is more than five times its neighbour, where necessary
        the small ones are raised and the values at 0 and 1 kept. A Catmull-Rom spline along several axes is monotone
        from control point to control point, but may overshoot between them.
        Where control points are equal only the highest learns, so begin with a ramp, not with zeros.

    Attributes
    ----------
    ndim : int
        Number of axes.

    Raises
    ------
    ValueError
        If an argument is not of that form.

    Examples
    --------
    >>> import torch
    >>> from gridfield.compat.torch_cubic_spline_grids import CubicBSplineGrid2d
    >>> from gridfield.compat.torch_cubic_spline_grids._base_cubic_grid import CubicSplineGrid
    >>> grid = CubicBSplineGrid2d(resolution=(5, 3), n_channels=2)
    >>> isinstance(grid, CubicSplineGrid), grid.ndim, grid.resolution, grid.n_channels
    (True, 2, (5, 3), 2)
    >>> grid(torch.rand(10, 2)).shape
    torch.Size([10, 2])
    >>> list(grid.state_dict())
    ['_data']
    """

    ndim: int
    _kernel: str = "cubic"
    _data: torch.nn.Parameter

    def __init__(
        self,
        resolution: int | Sequence[int] | None = None,
        n_channels: int = 1,
        minibatch_size: int = 1_000_000,
        monotonicity: MonotonicityType | None = None,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        if not hasattr(self, "ndim"):
            raise TypeError(f"{name} is a base class without ndim: use CubicBSplineGrid1d or one of the other seven")
        if monotonicity not in _SIGNS:
            raise ValueError(f"{name}: monotonicity must be None, 'increasing' or 'decreasing', got {monotonicity!r}")
        self._monotonicity = monotonicity
        check_channels(int(n_channels) if isinstance(n_channels, np.integer) else n_channels, name)
        shape = arguments.per_axis(
            name, "resolution", 2 if resolution is None else resolution, self.ndim, arguments.SIZE
        )
        self._data = torch.nn.Parameter(torch.zeros(n_channels, *shape))
        self._spline = self._where()

    @classmethod
    def from_grid_data(cls, data: Any) -> Self:
        """A grid of these control points.

        Parameters
        ----------
        data : Tensor or array_like, shape (c, *resolution) or (*resolution)
            The control points, copied. The grid is of their type and device; integers become the default float type.

        Returns
        -------
        CubicSplineGrid
            Of this class.

        Raises
        ------
        ValueError, TypeError
            If data has another number of axes, no samples, or complex values.

        Examples
        --------
        >>> import torch
        >>> from gridfield.compat.torch_cubic_spline_grids import CubicBSplineGrid1d
        >>> grid = CubicBSplineGrid1d.from_grid_data(torch.arange(5))
        >>> grid([0.0, 0.25, 0.6]).detach()
        tensor([0.0000, 1.0000, 2.4000])
        """
        grid = cls()
        grid.data = data
        return grid

    @property
    def data(self) -> torch.Tensor:
        """The control points, shape (n_channels, *resolution): a view, detached, so writing to it changes the grid.

        Assigning (c, *resolution) or (*resolution) replaces the values, and the type and resolution where they differ.
        Assigned values are copied; the parameter stays the same object, so that an optimiser made before goes on with
        it. (One with moments of another resolution must be made anew.)
        """
        return self._data.detach()

    @data.setter
    def data(self, grid_data: Any) -> None:
        name = type(self).__name__
        data = _tensor(grid_data, self._data.device).detach()
        if data.is_complex():
            raise TypeError(f"{name}: data has dtype {data.dtype} but must be real")
        if data.ndim == self.ndim:
            data = data[None]
        if data.ndim != self.ndim + 1 or 0 in data.shape:
            raise ValueError(
                f"{name}: data must have shape (c, *resolution) or (*resolution) with {self.ndim} axes of one control "
                f"point or more, got {tuple(data.shape)}"
            )
        # a copy: the source may be a view of this grid's own data, and is its owner's to change
        data = data.to(data.dtype if data.is_floating_point() else self._data.dtype, copy=True)
        own = self._data
        if (data.shape, data.dtype, data.device) != (own.shape, own.dtype, own.device):
            own.grad = None
            # by way of another type: only then does torch forget the shape that gradients had in a graph still alive
            own.data = data.new_empty(0, dtype=torch.float32 if own.dtype == torch.float64 else torch.float64)
            own.data = torch.empty_like(data)
        with torch.no_grad():
            own.copy_(data)  # counted as a change: backward through what was computed before is an error, not wrong
        self._spline = self._where()

    def __setattr__(self, name: str, value: Any) -> None:
        # nn.Module would register a Parameter that is assigned to `data` as a second one
        super().__setattr__(name, value.detach() if name == "data" and isinstance(value, torch.Tensor) else value)

    @property
    def n_channels(self) -> int:
        """Values per point."""
        return self._data.shape[0]

    @property
    def resolution(self) -> tuple[int, ...]:
        """Control points along each axis."""
        return tuple(self._data.shape[1:])

    def extra_repr(self) -> str:
        """What `print` shows."""
        monotone = f", monotonicity={self._monotonicity!r}" if self._monotonicity else ""
        return f"resolution={self.resolution}, n_channels={self.n_channels}{monotone}"

    def forward(self, u: Any) -> torch.Tensor:
        """The field at points.

        Parameters
        ----------
        u : Tensor or array_like, shape (*pts, ndim) or (ndim,)
            Coordinates in [0, 1] along each axis; what is outside is held at the edge, and NaN gives NaN. In 1-D also a
            number, or any shape of which the last axis is not 1: a coordinate per element. They are taken in the
            precision of the grid, or in float32 where that is half precision.

        Returns
        -------
        Tensor, shape (*pts, n_channels)
            (1, n_channels) for one point. In 1-D, for coordinates without an axis of their own, (*pts) of one channel,
            (*pts, n_channels) of several. Of the type of the grid, and differentiable in its control points and in u.

        Raises
        ------
        ValueError, TypeError
            If there are not ndim coordinates per point, they are complex, or on another device.
        """
        name, values = type(self).__name__, self._data
        points = _tensor(u, values.device)
        if points.is_complex():
            raise TypeError(f"{name}: u has dtype {points.dtype} but coordinates must be real")
        dtype = values.dtype if values.dtype in (torch.float32, torch.float64) else torch.float32
        points = torch.atleast_1d(points).to(dtype)
        bare = self.ndim == 1 and points.shape[-1] != 1
        sign = _SIGNS[self._monotonicity]
        if bare:
            points = points[..., None]
        check.points(points.shape, name, self._spline.grid)
        if sign:
            # the margins are control points like the others now, so points are held here
            values, points = sign * self._monotone(sign * values.to(dtype)), points.clamp(0, 1)
        if self._spline.grid.shape != values.shape[1:]:  # someone gave the module another `_data`
            self._spline = self._where()
        out = self._spline.sample(FACE, values, torch.atleast_2d(points), "value").to(self._data.dtype)
        return out[..., 0] if bare and out.shape[-1] == 1 else out

    def _where(self) -> Spline:
        """Where the control points are, with those that continue the ends if these are made monotone too."""
        grid = Grid(self.resolution)
        if self._monotonicity:
            before = [m for m, _ in _margins(self.resolution)]
            grid = Grid.from_spacing(
                [n + 2 * m for n, m in zip(self.resolution, before, strict=True)],
                [-m * h for m, h in zip(before, grid.spacing, strict=True)],
                grid.spacing,
            )
        return Spline.of(grid, self._kernel, None, "natural", type(self).__name__)

    def _monotone(self, values: torch.Tensor) -> torch.Tensor:
        """The control points and one more at each end, nondecreasing along every axis."""
        values = pad(values, _margins(self.resolution), boundary="natural")
        for axis in range(-1, -1 - self.ndim, -1):
            # not cummax's values: its backward has no batching rule, so that jacrev would warn of a slow loop
            values = values.gather(axis, torch.cummax(values.detach(), axis).indices)
        if self._kernel == "catmull_rom" and max(self.resolution) == prod(self.resolution) > 1:
            return _bounded(values.flatten(1)).reshape(values.shape)
        return values


def _margins(resolution: tuple[int, ...]) -> list[tuple[int, int]]:
    """How many control points continue each axis; one is constant as it is."""
    return [(0, 0) if n == 1 else (1, 1) for n in resolution]


def _bounded(p: torch.Tensor) -> torch.Tensor:
    """Nondecreasing control points (c, n) that a Catmull-Rom spline is nondecreasing between; p itself if it is.

    A cubic from a to b with end slopes m is monotone if 0 <= m <= 3 (b - a) at both (C. de Boor, B. Swartz, "Piecewise
    monotone interpolation", J. Approx. Theory 21 (1977), 411-416). Here m is the mean of the increment on either side,
    so increments d must obey d[i ± 1] <= 5 d[i]. The least d above the given ones that do are max_k d[i + k] / 5^|k|;
    they are scaled so that the values at 0 and 1, p[1] and p[-2], stay.
    """
    given = p.diff(dim=-1)
    d, step = given, 1
    while step < d.shape[-1] and 5.0**-step > 0:  # all |k| < 2 step, by doubling
        left = torch.nn.functional.pad(d[..., :-step], (step, 0)) * 5.0**-step
        right = torch.nn.functional.pad(d[..., step:], (0, step)) * 5.0**-step
        d, step = torch.maximum(d, torch.maximum(left, right)), 2 * step
    rise, raised = given[..., 1:-1].sum(-1, keepdim=True), d[..., 1:-1].sum(-1, keepdim=True)
    flat = raised == 0
    d = d * torch.where(flat, 1.0, rise / torch.where(flat, 1.0, raised))
    change = d - given
    return p + torch.cat([-change[..., :1], torch.zeros_like(rise), change[..., 1:].cumsum(-1)], -1)


def _tensor(x: Any, device: torch.device) -> torch.Tensor:
    """From anything array-like; what is not on a device yet goes to that one."""
    if isinstance(x, torch.Tensor):
        return x
    if hasattr(x, "__array_interface__"):  # torch warns of read-only arrays and refuses negative strides
        x = np.array(x, order="C")
    return torch.as_tensor(x, device=device)


T = TypeVar("T", bound=type[CubicSplineGrid])

_SECTIONS = """

    `CubicSplineGrid` describes monotonicity, assignment to `data` and all else in full.

    Parameters
    ----------
    resolution : int or sequence of int, default 2 along each axis
        Control points along each axis, the first at 0 and the last at 1.
    n_channels : int, default 1
        Values per point.
    minibatch_size : int, default 1_000_000
        Accepted and not needed.
    monotonicity : "increasing" or "decreasing", optional
        Along every axis.

    Raises
    ------
    ValueError
        If an argument is not of that form.

    Examples
    --------
    >>> import torch
    >>> from gridfield.compat.torch_cubic_spline_grids import {name}
    >>> grid = {name}(resolution={resolution}, n_channels=2)
    >>> grid(torch.rand(10, {ndim})).shape
    torch.Size([10, 2])
    """


def documented(cls: T) -> T:
    """The class, with what all eight have in common after its line of summary."""
    resolution = (6, 5, 4, 3)[: cls.ndim]
    cls.__doc__ = (cls.__doc__ or "") + _SECTIONS.format(name=cls.__name__, resolution=resolution, ndim=cls.ndim)
    return cls
