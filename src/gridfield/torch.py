"""PyTorch: learnable spline fields as modules, random elastic deformation as a transform."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

from .extras import needs

with needs("torch"):
    import torch
    from torch.nn.utils import parametrize

    from .augmentation import ElasticDeform
    from .constraints import Constraint, Monotonic
    from .draws import ElasticParams
    from .faces.torch import FACE
    from .point_convolution import PointConvolution

from .fields import Field, Sum, Terms, check_channels
from .grid import Grid
from .sampling import BoundaryLike, KernelLike, sample
from .spline import Spline

__all__ = ["SplineField", "SumField", "carry_state", "PointConvolution", "ElasticDeform", "ElasticParams"]


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
    periodic : bool or one per axis, default False
        Whether an axis closes on itself: `hi` is then where `lo` comes again, and the boundary is "wrap".
    monotonic : (word, axis) or list of such pairs, optional
        Keep the field from falling ("increasing") or from rising ("decreasing") along axes, wherever it is evaluated
        and whatever the optimiser does. For boundary "natural" or "nearest" along these axes, any along the others, and
        B-splines of every degree; or along one axis for "catmull_rom" with boundary "natural". It then begins as a ramp
        of height 1 along each of these axes.
    positive : bool, default False
        Keep the field positive, for B-splines with boundary "nearest", "mirror", "reflect" or "wrap". It then begins at
        1, or as a ramp from 1.
    dtype : torch.dtype, optional
        float32 or float64; default ``torch.get_default_dtype()``.
    device : torch.device, optional
        Where the coefficients are made.

    Attributes
    ----------
    coefficients : torch.nn.Parameter, shape (channels, *shape)
        The control points, zero at first. Where `monotonic` or `positive` is given: a tensor that is worked out from
        the parameter ``parametrizations.coefficients.original``, which takes any value. Assigning control points to it
        changes that; such as do not hold the constraint become near ones that do.
    grid : Grid
        Where they are.

    Raises
    ------
    ValueError
        If shape, bounds, kernel, boundary or periodic is not of that form, or monotonic or positive cannot be had
        with them.

    Notes
    -----
    Monotone control points are a first value and what is added along the axis, softplus of the parameter, so that all
    have gradients; along several axes ``c[i, j] = max(c[i - 1, j], c[i, j - 1]) + softplus(...)``, which can be any
    array that rises along each. As B-spline derivatives are B-splines of the differences, the field is monotone then. A
    Catmull-Rom spline is where, moreover, no difference is more than five times its neighbour: its differences are sums
    of softplus that fall off by 5 per control point. The control points are in order without exception; the field is up
    to the rounding of an evaluation, less than 8 times the precision of the type times the largest control point.

    Constrained fields can be copied, pickled and moved; a state dict holds the parameter. What `refine`, `crop` and
    `pad` give is constrained likewise where that is the same function, else a plain field (as of `pad` along a natural
    axis across the monotone one); what `resample` gives is made to hold the constraint. A sum of fields is not
    constrained.

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
    >>> rising = SplineField(6, monotonic=("increasing", 0))
    >>> for parameter in rising.parameters():
    ...     parameter = torch.nn.init.normal_(parameter)  # anything
    >>> bool((rising.on_grid(100).diff() > 0).all())
    True
    """

    coefficients: torch.nn.Parameter
    _face, _name = FACE, "gf.torch.SplineField"
    _stored = ("monotonic", "positive")

    def __init__(
        self,
        shape: int | Sequence[int] | Grid,
        channels: int = 1,
        *,
        kernel: KernelLike = "cubic",
        bounds: Any = None,
        boundary: BoundaryLike = "natural",
        periodic: bool | Sequence[bool] = False,
        monotonic: Monotonic = None,
        positive: bool = False,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__()
        name = self._name
        self.spline = Spline.of(shape, kernel, bounds, boundary, name, periodic)
        check_channels(channels, name)
        dtype = torch.get_default_dtype() if dtype is None else dtype
        if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
            raise TypeError(f"{name}: dtype must be a floating-point torch.dtype, got {dtype!r}")
        self.coefficients = torch.nn.Parameter(torch.zeros(channels, *self.grid.shape, dtype=dtype, device=device))
        constraint = Constraint(self.spline, monotonic, positive)
        self.monotonic, self.positive = constraint.monotonic, positive
        if constraint:
            self.coefficients = torch.nn.Parameter(constraint.first(self.coefficients))
            parametrize.register_parametrization(self, "coefficients", constraint)

    @classmethod
    def _made(cls, spline: Spline, coefficients: Any, *, dtype: Any, **how: Any) -> Self:
        dtype = getattr(torch, dtype, dtype) if isinstance(dtype, str) else dtype
        if isinstance(coefficients, torch.Tensor):
            how = {"device": coefficients.device} | how
        where = {"kernel": spline.kernel, "boundary": spline.boundary}
        field = cls(spline.grid, len(coefficients), dtype=dtype, **where, **how)
        field.spline = spline
        values = torch.as_tensor(coefficients).detach().clone().to(field.coefficients)
        constrained = parametrize.is_parametrized(field)
        field.coefficients = values if constrained else torch.nn.Parameter(values)  # type: ignore[assignment]
        return field

    def _with(self, spline: Spline, coefficients: torch.Tensor, extended: Sequence[int] = ()) -> SplineField:
        how = {"monotonic": self.monotonic, "positive": self.positive}
        try:
            keeps = Constraint(spline, **how).continues(extended)
        except ValueError:  # as of what was cut off an axis that wrapped
            keeps = False
        return _plain(self, spline, coefficients, **(how if keeps else {}))

    def _sum(self, spline: Spline, terms: Terms) -> SumField:
        return SumField(*zip(*terms, strict=True))

    def __reduce_ex__(self, protocol: Any) -> Any:
        # torch gives a parametrized module a class of its own, which pickle cannot find
        if not parametrize.is_parametrized(self):
            return super().__reduce_ex__(protocol)
        return _restored, (parametrize.type_before_parametrizations(self), self.__dict__)

    def _parameter(self) -> Any:
        constrained = parametrize.is_parametrized(self)
        return self.parametrizations.coefficients.original if constrained else None  # type: ignore[union-attr]

    def _set_parameter(self, values: Any) -> None:
        if parametrize.is_parametrized(self):
            with torch.no_grad():
                self.parametrizations.coefficients.original.copy_(torch.as_tensor(values))  # type: ignore[union-attr]

    @classmethod
    def _default_dtype(cls) -> str:
        return str(torch.get_default_dtype()).removeprefix("torch.")

    def extra_repr(self) -> str:
        """What `print` shows."""
        how = {"monotonic": self.monotonic, "positive": self.positive}
        return ", ".join([self.spline.describe(self.channels)] + [f"{k}={v}" for k, v in how.items() if v])

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


class SumField(Sum, torch.nn.Module):
    """A sum of fields, each times a number: what ``base + delta``, ``a - b`` and ``2 * a`` are.

    A module that holds its terms, follows them when they change, and has all methods of a field.

    Parameters
    ----------
    terms : sequence of SplineField
        On one lattice, or on lattices that can be refined to one; with the same kernel and boundary.
    scales : sequence of float, optional
        The number of each; 1 by default.

    Attributes
    ----------
    terms, scales : sequence
        The fields, and their numbers.
    coefficients : Tensor, shape (channels, *shape)
        The control points of the sum.

    Raises
    ------
    ValueError, TypeError
        If terms are not of that form.

    Examples
    --------
    >>> from gridfield.torch import SplineField
    >>> base, delta = SplineField((4, 4)).requires_grad_(False), SplineField((7, 7))
    >>> field = base + delta  # on the finer lattice; only delta learns
    >>> field.grid.shape, [p.shape for p in field.parameters() if p.requires_grad]
    ((7, 7), [torch.Size([1, 7, 7])])
    """

    _face, _name = FACE, "gf.torch.SumField"

    def __init__(self, terms: Sequence[Any], scales: Sequence[float] | None = None) -> None:
        super().__init__()
        self._hold(terms, scales, self._name)
        self.terms = torch.nn.ModuleList(terms)

    @classmethod
    def _made(cls, spline: Spline, coefficients: Any, *, dtype: Any, **how: Any) -> SplineField:  # type: ignore[override]
        return SplineField._made(spline, coefficients, dtype=dtype, **how)

    def _with(self, spline: Spline, coefficients: torch.Tensor, extended: Sequence[int] = ()) -> SplineField:  # type: ignore[override]
        return _plain(self, spline, coefficients)

    def _sum(self, spline: Spline, terms: Terms) -> SumField:
        return SumField(*zip(*terms, strict=True))

    def extra_repr(self) -> str:
        """What `print` shows."""
        return f"{self.spline.describe(self.channels)}, scales={self.scales}"

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
        return self.spline.sample(FACE, self._array(), points, "value")


def _plain(like: torch.nn.Module, spline: Spline, coefficients: torch.Tensor, **how: Any) -> SplineField:
    """A field with these coefficients, without history, that learns if the other does."""
    learns = any(p.requires_grad for p in like.parameters())
    return SplineField._made(spline, coefficients, dtype=coefficients.dtype, **how).requires_grad_(learns)


def _restored(cls: type[SplineField], state: dict[str, Any]) -> SplineField:
    """A constrained field from its pickled attributes."""
    field, modules = cls.__new__(cls), dict(state["_modules"])
    field.__setstate__(state | {"_modules": modules})
    for name, parametrization in modules.pop("parametrizations").items():
        field.register_parameter(name, torch.nn.Parameter(parametrization().detach()))
        parametrize.register_parametrization(field, name, parametrization[0])
        parametrizations: Any = field.parametrizations
        parametrizations[name] = parametrization  # the very numbers, not their way there and back
    return field


# what optimisers of torch remember, in units of the gradient, and of its square; all else is not scaled
GRADIENTS = {"exp_avg", "momentum_buffer", "grad_avg", "exp_inf", "prev"}
SQUARES = {"exp_avg_sq", "max_exp_avg_sq", "square_avg", "sum"}


def carry_state(optimizer: torch.optim.Optimizer, old: SplineField, new: SplineField) -> None:
    """Let an optimiser go on with a field on another lattice: coarse to fine without starting anew.

    `new` takes the place of `old` in the optimiser's groups, and what it remembers of each coefficient (moments,
    momentum, averages of squares) is carried over, linearly interpolated between the old control points. Gradients
    become smaller in proportion as coefficients become more, and so do the moments.

    Parameters
    ----------
    optimizer : torch.optim.Optimizer
        Of the coefficients of `old`: Adam and its relatives, SGD, RMSprop, Adagrad. LBFGS is only reset.
    old, new : SplineField
        As before and after ``new = old.refine(2)``, `resample`, or one of both kinds.

    Raises
    ------
    ValueError
        If the optimiser does not have the coefficients of `old`, the fields are not of the same number of axes and
        channels, or they are constrained: what an optimiser sees then is no field.

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
    here = "gf.torch.carry_state"
    for name, field in (("old", old), ("new", new)):
        if not isinstance(field, SplineField) or parametrize.is_parametrized(field):
            raise ValueError(f"{here}: {name} must be a SplineField without constraints, got {field}")
    before, after = old.coefficients, new.coefficients
    groups = [g for g in optimizer.param_groups if any(p is before for p in g["params"])]
    if not groups:
        raise ValueError(f"{here}: the optimiser has no parameter of old")
    if (old.ndim, old.channels) != (new.ndim, new.channels):
        raise ValueError(
            f"{here}: old has {old.ndim} axes and {old.channels} channels, but new {new.ndim} and {new.channels}"
        )
    for group in groups:
        group["params"] = [after if p is before else p for p in group["params"]]
    state = optimizer.state.pop(before, {})
    if isinstance(optimizer, torch.optim.LBFGS):
        return
    # linear between the old control points, by weights that are positive and sum to 1: so squares stay positive, and
    # moments within their roots. Of the nearest fields in L2 neither is true, and steps may become huge
    where = torch.from_numpy(new.grid.coords()).to(after)
    edge = ["wrap" if b == "wrap" else "nearest" for b in old.boundary]
    fewer = old.grid.size / new.grid.size
    for name, x in state.items():
        if isinstance(x, torch.Tensor) and x.shape == before.shape:
            power = 2 if name in SQUARES else 1 if name in GRADIENTS else 0
            x = sample(x.to(after), where, grid=old.grid, kernel="linear", boundary=edge, prefilter=False)
            x = x.movedim(-1, 0) * fewer**power
        optimizer.state[after][name] = x
