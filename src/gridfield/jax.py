"""JAX: learnable spline fields as pytrees."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from .extras import needs

with needs("jax"):
    import jax
    import jax.numpy as jnp

    from .faces.jax import FACE

from .fields import Field, Terms, check_channels, total
from .grid import Grid
from .sampling import BoundaryLike, KernelLike
from .spline import Spline

__all__ = ["SplineField"]


@jax.tree_util.register_pytree_with_keys_class
@dataclass(frozen=True, init=False, repr=False, eq=False)
class SplineField(Field):
    """A learnable field on a grid of control points: any dimension, any number of channels.

    ``field(x)[c] = sum_k prod_i kernel(x_i - k_i) coefficients[c, k]`` with coordinates in units of the grid's spacing.
    Control points are approximated, not interpolated (by B-splines above degree 1), as usual for learnable splines.
    A frozen dataclass and a pytree whose one leaf is `coefficients`: ``jax.grad`` of a function of a field is a field.

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
    dtype : dtype, optional
        float32 or float64 (with x64 enabled); default JAX's.

    Attributes
    ----------
    coefficients : jax.Array, shape (channels, *shape)
        The control points, zero at first; `replace` gives a field with others.
    grid : Grid
        Where they are.

    Raises
    ------
    ValueError, TypeError
        If shape, bounds, kernel, boundary, periodic or dtype is not of that form.

    Examples
    --------
    >>> import jax, jax.numpy as jnp
    >>> from gridfield.jax import SplineField
    >>> field = SplineField((4, 5), channels=2, bounds=[(0, 3), (0, 4)])
    >>> slope = jnp.broadcast_to(jnp.arange(4.0)[:, None], (4, 5))  # linear along the first axis
    >>> field = field.replace(field.coefficients.at[0].set(slope))
    >>> field(jnp.array([[1.5, 2.0]])).tolist()[0]  # doctest: +ELLIPSIS
    [1.5..., 0.0]
    >>> loss = lambda field, points: (field(points) ** 2).sum()
    >>> jax.grad(loss)(field, jnp.array([[1.5, 2.0]])).coefficients.shape
    (2, 4, 5)
    """

    coefficients: jax.Array
    spline: Spline
    _face: ClassVar[Any] = FACE
    _name: ClassVar[str] = "gf.jax.SplineField"

    def __init__(
        self,
        shape: int | Sequence[int] | Grid,
        channels: int = 1,
        *,
        kernel: KernelLike = "cubic",
        bounds: Any = None,
        boundary: BoundaryLike = "natural",
        periodic: bool | Sequence[bool] = False,
        dtype: Any = None,
    ) -> None:
        name = self._name
        spline = Spline.of(shape, kernel, bounds, boundary, name, periodic)
        check_channels(channels, name)
        if dtype is not None:
            _check_floating(dtype, name)
        self._set(jnp.zeros((channels, *spline.grid.shape), dtype), spline)

    def _set(self, coefficients: Any, spline: Spline) -> None:
        object.__setattr__(self, "coefficients", coefficients)
        object.__setattr__(self, "spline", spline)

    def tree_flatten_with_keys(self) -> tuple[Any, Spline]:
        """For JAX."""
        return ((jax.tree_util.GetAttrKey("coefficients"), self.coefficients),), self.spline

    @classmethod
    def tree_unflatten(cls, spline: Spline, leaves: Any) -> SplineField:
        """For JAX, which also puts things other than arrays in place of the leaves."""
        field = object.__new__(cls)
        field._set(leaves[0], spline)
        return field

    def replace(self, coefficients: Any) -> SplineField:
        """The field with other coefficients.

        Parameters
        ----------
        coefficients : array, shape (channels, *shape)
            The new control points; channels may differ.

        Returns
        -------
        SplineField

        Raises
        ------
        ValueError
            If coefficients do not fit the grid.

        Examples
        --------
        >>> import jax
        >>> from gridfield.jax import SplineField
        >>> field = SplineField(6)
        >>> field.replace(jax.random.normal(jax.random.key(0), (3, 6))).channels
        3
        """
        coefficients = jnp.asarray(coefficients)
        _check_floating(coefficients.dtype, "gf.jax.SplineField.replace")
        if coefficients.ndim != self.ndim + 1 or coefficients.shape[1:] != self.grid.shape:
            raise ValueError(
                f"gf.jax.SplineField.replace: coefficients has shape {coefficients.shape} but must be (channels, "
                f"*{self.grid.shape})"
            )
        return self.tree_unflatten(self.spline, (coefficients,))

    def __repr__(self) -> str:
        return f"SplineField({self.spline.describe(self.channels)})"

    @classmethod
    def _from(cls, spline: Spline, coefficients: Any) -> SplineField:
        return cls.tree_unflatten(spline, (coefficients,))

    @classmethod
    def _default_dtype(cls) -> str:
        return FACE.widest("float64")

    @classmethod
    def _made(cls, spline: Spline, coefficients: Any, *, dtype: Any, **how: Any) -> SplineField:
        where = {"kernel": spline.kernel, "boundary": spline.boundary}
        field = cls(spline.grid, len(coefficients), dtype=dtype, **where, **how)
        return cls.tree_unflatten(spline, (jnp.array(coefficients, field.coefficients.dtype),))

    def _with(self, spline: Spline, coefficients: Any, extended: Sequence[int] = ()) -> SplineField:
        return self._from(spline, coefficients)

    def _sum(self, spline: Spline, terms: Terms) -> SplineField:
        return self._with(spline, total(spline, terms))

    def _is_number(self, x: Any) -> bool:
        return super()._is_number(x) or (isinstance(x, jax.Array) and x.ndim == 0)

    def __call__(self, points: Any) -> jax.Array:
        """The field at points.

        Parameters
        ----------
        points : array, shape (*pts, ndim)
            Coordinates in the units of the bounds.

        Returns
        -------
        array, shape (*pts, channels)
            Differentiable in the coefficients and in the points.
        """
        return self.spline.sample(FACE, self.coefficients, points, "value")


def _check_floating(dtype: Any, name: str) -> None:
    try:
        known = jnp.issubdtype(dtype, jnp.floating)
    except TypeError:
        known = False
    if not known:
        raise TypeError(f"{name}: dtype must be a floating-point type, got {dtype!r}")
    if jnp.dtype(dtype).name != FACE.widest(jnp.dtype(dtype).name):
        raise TypeError(f"{name}: dtype {jnp.dtype(dtype).name} needs JAX's 64-bit types: set jax_enable_x64")
