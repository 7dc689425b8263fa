"""TensorFlow: learnable spline fields as Keras layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

from .extras import needs

with needs("tensorflow"):
    import tensorflow as tf  # isort: skip (Keras says less when it is missing)
    import keras

    from .faces.tensorflow import FACE

from . import check
from .fields import Field, Sum, Terms, check_channels
from .grid import Grid
from .sampling import BoundaryLike, KernelLike
from .spline import Spline

__all__ = ["SplineField", "SumField"]


@keras.saving.register_keras_serializable("gridfield")
class SplineField(Field, keras.layers.Layer):
    """A learnable field on a grid of control points, as a Keras layer: any dimension, any number of channels.

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
    **layer
        What every Keras layer takes: name, dtype, trainable.

    Attributes
    ----------
    coefficients : keras.Variable, shape (channels, *shape)
        The control points, zero at first.
    grid : Grid
        Where they are.

    Raises
    ------
    ValueError
        If shape, bounds, kernel, boundary or periodic is not of that form, or Keras does not run on TensorFlow.

    Notes
    -----
    The layer calls compiled code outside of the TensorFlow graph: it cannot be part of an XLA-compiled model
    (``jit_compile=True``) or of a SavedModel. ``model.save("model.keras")`` and ``save_weights`` work.

    Examples
    --------
    >>> import tensorflow as tf
    >>> from gridfield.tensorflow import SplineField
    >>> field = SplineField((4, 5), channels=2, bounds=[(0, 3), (0, 4)])
    >>> slope = tf.broadcast_to(tf.range(4.0)[:, None], (2, 4, 5))  # linear along the first axis
    >>> field.coefficients.assign(slope).shape
    TensorShape([2, 4, 5])
    >>> field(tf.constant([[1.5, 2.0]])).numpy().round(3)
    array([[1.5, 1.5]], dtype=float32)
    """

    _face, _name = FACE, "gf.tensorflow.SplineField"

    def __init__(
        self,
        shape: int | Sequence[int] | Grid,
        channels: int = 1,
        *,
        kernel: KernelLike = "cubic",
        bounds: Any = None,
        boundary: BoundaryLike = "natural",
        periodic: bool | Sequence[bool] = False,
        **layer: Any,
    ) -> None:
        name = self._name
        if keras.config.backend() != "tensorflow":
            raise ValueError(f"{name}: Keras must run on TensorFlow but runs on {keras.config.backend()}")
        super().__init__(**layer)
        self.spline = Spline.of(shape, kernel, bounds, boundary, name, periodic)
        self.supports_jit = False  # XLA cannot call out
        self.coefficients = self.add_weight(
            shape=(check_channels(channels, name), *self.grid.shape), initializer="zeros", name="coefficients"
        )
        self.built = True

    def get_config(self) -> dict[str, Any]:
        """What `from_config` makes the layer of."""
        return super().get_config() | {"channels": self.channels, "spline": self.spline.to_json()}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> SplineField:
        """The layer that `get_config` describes."""
        config = dict(config)
        spline = config.pop("spline")
        field = cls(**Spline.from_json(spline), **config)
        field.spline = field.spline.labelled(spline.get("labels", ()))
        return field

    def _array(self) -> Any:
        return tf.convert_to_tensor(self.coefficients)

    @classmethod
    def _made(cls, spline: Spline, coefficients: Any, *, dtype: Any, **how: Any) -> Self:
        where = {"kernel": spline.kernel, "boundary": spline.boundary}
        field = cls(spline.grid, coefficients.shape[0], dtype=dtype, **where, **how)
        field.spline = spline
        field.coefficients.assign(coefficients)
        return field

    def _sum(self, spline: Spline, terms: Terms) -> SumField:
        return SumField(*zip(*terms, strict=True), dtype=self.dtype_policy)

    @classmethod
    def _default_dtype(cls) -> str:
        return keras.config.floatx()

    def _with(self, spline: Spline, coefficients: Any, extended: Sequence[int] = ()) -> SplineField:
        return SplineField._made(spline, coefficients, dtype=self.dtype_policy, trainable=self.trainable)

    def call(self, points: Any) -> Any:
        """The field at points (*pts, ndim) -> (*pts, channels); differentiable in the coefficients and the points."""
        return self.spline.sample(FACE, self._array(), tf.convert_to_tensor(points), "value")

    def compute_output_shape(self, input_shape: Any) -> tuple[Any, ...]:
        """For Keras: (*pts, ndim) -> (*pts, channels)."""
        check.points(tuple(input_shape), self.spline.name, self.grid)
        return (*input_shape[:-1], self.channels)


@keras.saving.register_keras_serializable("gridfield")
class SumField(Sum, keras.layers.Layer):
    """A sum of fields, each times a number: what ``base + delta``, ``a - b`` and ``2 * a`` are.

    A layer that holds its terms and has all methods of a field. With ``base.trainable = False`` only the others learn.

    Parameters
    ----------
    terms : sequence of SplineField
        On one lattice, or on lattices that can be refined to one; with the same kernel and boundary.
    scales : sequence of float, optional
        The number of each; 1 by default.
    **layer
        What every Keras layer takes: name, dtype, trainable.

    Attributes
    ----------
    terms, scales : sequence
        The fields, and their numbers.
    coefficients : tensor, shape (channels, *shape)
        The control points of the sum.

    Raises
    ------
    ValueError
        If terms are not of that form.

    Examples
    --------
    >>> from gridfield.tensorflow import SplineField
    >>> base, delta = SplineField(4), SplineField(7)
    >>> base.trainable = False
    >>> field = base + delta
    >>> field.grid.shape, len(field.trainable_variables)
    ((7,), 1)
    """

    _face, _name = FACE, "gf.tensorflow.SumField"

    def __init__(self, terms: Sequence[Any], scales: Sequence[float] | None = None, **layer: Any) -> None:
        super().__init__(**layer)
        self._hold(terms, scales, self._name)
        self.terms = list(terms)
        self.supports_jit = False
        self.built = True

    def get_config(self) -> dict[str, Any]:
        """What `from_config` makes the layer of."""
        terms = [keras.saving.serialize_keras_object(field) for field in self.terms]
        return super().get_config() | {"terms": terms, "scales": self.scales}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> SumField:
        """The layer that `get_config` describes."""
        config = dict(config)
        return cls([keras.saving.deserialize_keras_object(field) for field in config.pop("terms")], **config)

    @classmethod
    def _made(cls, spline: Spline, coefficients: Any, *, dtype: Any, **how: Any) -> SplineField:  # type: ignore[override]
        return SplineField._made(spline, coefficients, dtype=dtype, **how)

    def _with(self, spline: Spline, coefficients: Any, extended: Sequence[int] = ()) -> SplineField:  # type: ignore[override]
        return SplineField._made(spline, coefficients, dtype=self.dtype_policy, trainable=self.trainable)

    def _sum(self, spline: Spline, terms: Terms) -> SumField:
        return SumField(*zip(*terms, strict=True), dtype=self.dtype_policy)

    def call(self, points: Any) -> Any:
        """The field at points (*pts, ndim) -> (*pts, channels); differentiable in the coefficients and the points."""
        return self.spline.sample(FACE, self._array(), tf.convert_to_tensor(points), "value")

    def compute_output_shape(self, input_shape: Any) -> tuple[Any, ...]:
        """For Keras: (*pts, ndim) -> (*pts, channels)."""
        check.points(tuple(input_shape), self.spline.name, self.grid)
        return (*input_shape[:-1], self.channels)
