"""TensorFlow: learnable spline fields as Keras layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .extras import needs

with needs("tensorflow"):
    import tensorflow as tf  # isort: skip (Keras says less when it is missing)
    import keras

    from .faces.tensorflow import FACE

from .fields import Spline, check_channels
from .grid import Grid
from .kernel import Kernel
from .sampling import BoundaryLike, KernelLike

__all__ = ["SplineField"]


@keras.saving.register_keras_serializable("gridfield")
class SplineField(keras.layers.Layer):
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
        If shape, bounds, kernel or boundary is not of that form, or Keras does not run on TensorFlow.

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

    def __init__(
        self,
        shape: int | Sequence[int] | Grid,
        channels: int = 1,
        *,
        kernel: KernelLike = "cubic",
        bounds: Any = None,
        boundary: BoundaryLike = "natural",
        **layer: Any,
    ) -> None:
        name = "gf.tensorflow.SplineField"
        if keras.config.backend() != "tensorflow":
            raise ValueError(f"{name}: Keras must run on TensorFlow but runs on {keras.config.backend()}")
        super().__init__(**layer)
        self.spline = Spline.of(shape, kernel, bounds, boundary, name)
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
        return cls(**Spline.from_json(config.pop("spline")), **config)

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

    def _sample(self, points: Any, what: str) -> Any:
        points = tf.convert_to_tensor(points)
        return self.spline.sample(FACE, tf.convert_to_tensor(self.coefficients), points, what)

    def call(self, points: Any) -> Any:
        """The field at points (*pts, ndim) -> (*pts, channels); differentiable in the coefficients and the points."""
        return self._sample(points, "value")

    def compute_output_shape(self, input_shape: Any) -> tuple[Any, ...]:
        """For Keras: (*pts, ndim) -> (*pts, channels)."""
        return (*input_shape[:-1], self.channels)

    def jacobian(self, points: Any) -> Any:
        """First derivatives of the field, per unit of the bounds.

        Parameters
        ----------
        points : tensor, shape (*pts, ndim)
            Coordinates in the units of the bounds.

        Returns
        -------
        tensor, shape (*pts, channels, ndim)

        Examples
        --------
        >>> import tensorflow as tf
        >>> from gridfield.tensorflow import SplineField
        >>> SplineField((4, 5), 3).jacobian(tf.zeros((7, 2))).shape
        TensorShape([7, 3, 2])
        """
        return self._sample(points, "jacobian")

    def hessian(self, points: Any) -> Any:
        """Second derivatives of the field, per unit of the bounds squared.

        Parameters
        ----------
        points : tensor, shape (*pts, ndim)
            Coordinates in the units of the bounds.

        Returns
        -------
        tensor, shape (*pts, channels, ndim, ndim)
            Symmetric.

        Examples
        --------
        >>> import tensorflow as tf
        >>> from gridfield.tensorflow import SplineField
        >>> SplineField((4, 5)).hessian(tf.zeros((7, 2))).shape
        TensorShape([7, 1, 2, 2])
        """
        return self._sample(points, "hessian")

    def on_grid(self, shape: int | Sequence[int] | Grid) -> Any:
        """The field at all samples of a grid: one small banded matrix per axis, far faster than the same points.

        Parameters
        ----------
        shape : int, sequence of int, or Grid
            Samples per axis (an int: the same for all) between the bounds of this field, or a grid of its own.

        Returns
        -------
        tensor, shape (channels, *shape)
            Differentiable in the coefficients.

        Examples
        --------
        >>> from gridfield.tensorflow import SplineField
        >>> SplineField((4, 5), channels=2).on_grid((64, 64)).shape
        TensorShape([2, 64, 64])
        """
        return self.spline.on_grid(FACE, tf.convert_to_tensor(self.coefficients), shape)

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
        >>> from gridfield.tensorflow import SplineField
        >>> SplineField(4, bounds=(0, 6)).grid_of(7).spacing
        (1.0,)
        """
        return self.spline.grid_of(shape)
