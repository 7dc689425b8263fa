"""SplineField in JAX and in Keras: the same field as the torch module, and at home in its framework."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import copy
import pickle

import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest
import tensorflow as tf
import torch
from numpy.testing import assert_allclose, assert_array_equal

import gridfield as gf
import gridfield.jax
import gridfield.tensorflow
import gridfield.torch

SHAPE, CHANNELS = (4, 6), 3
SHARP = gf.Kernel(np.array(gf.catmull_rom.coefficients), name="my own")
HOW = {
    "default": {},
    "units": {"bounds": [(-1, 1), (0, 5)], "kernel": ("quintic", "linear"), "boundary": ["mirror", "natural"]},
    "own kernel": {"kernel": SHARP, "boundary": "reflect"},
}
COEFFICIENTS = np.random.default_rng(0).normal(size=(CHANNELS, *SHAPE)).astype(np.float32)
POINTS = np.random.default_rng(1).uniform(-0.2, 1.2, (5, 7, 2)).astype(np.float32)


def of_torch(shape=SHAPE, **how):
    field = gf.torch.SplineField(shape, CHANNELS, **how)
    field.load_state_dict({"coefficients": torch.from_numpy(COEFFICIENTS)})
    return field


def of_jax(shape=SHAPE, **how):
    return gf.jax.SplineField(shape, CHANNELS, **how).replace(COEFFICIENTS)


def of_keras(shape=SHAPE, **how):
    field = gf.tensorflow.SplineField(shape, CHANNELS, **how)
    field.coefficients.assign(COEFFICIENTS)
    return field


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("make", (of_jax, of_keras))
def test_the_same_field_everywhere(make, how):
    array = jnp.asarray if make is of_jax else tf.constant
    ours, theirs = make(**HOW[how]), of_torch(**HOW[how])
    assert (ours.grid, ours.kernel, ours.boundary) == (theirs.grid, theirs.kernel, theirs.boundary)
    assert (ours.ndim, ours.channels) == (2, CHANNELS)
    for method in ("__call__", "jacobian", "hessian"):
        got = getattr(ours, method)(array(POINTS))
        assert_array_equal(got, getattr(theirs, method)(torch.from_numpy(POINTS)).detach())
    for target in (9, (9, 7), theirs.grid_of(11), gf.Grid.pixels((3, 2))):
        assert_allclose(ours.on_grid(target), theirs.on_grid(target).detach(), atol=1e-5)
    assert ours.grid_of(11) == theirs.grid_of(11)
    grid = gf.Grid(SHAPE, [(0, 1), (0, 2)], periodic=(True, False))
    assert_array_equal(make(grid)(array(POINTS)), of_torch(grid)(torch.from_numpy(POINTS)).detach())


@pytest.mark.parametrize("make", (gf.jax.SplineField, gf.tensorflow.SplineField, gf.torch.SplineField))
def test_errors_name_the_class(make):
    name = rf"gf\.{make.__module__.removeprefix('gridfield.')}\.SplineField"
    points = {"jax": jnp.zeros, "tensorflow": tf.zeros, "torch": torch.zeros}[
        make.__module__.removeprefix("gridfield.")
    ]
    for call, error, message in (
        (lambda: make(5, 0), ValueError, "channels must be an int >= 1"),
        (lambda: make(5, kernel="x"), ValueError, "kernel must be one of"),
        (lambda: make(5, boundary="x"), ValueError, "boundary must be one of"),
        (lambda: make(gf.Grid(5), bounds=(0, 1)), ValueError, "bounds must not be given with a Grid"),
        (lambda: make((4, 5)).jacobian(points((3, 3))), ValueError, "points has 3 coordinates per point"),
        (lambda: make((4, 5)).on_grid((3, 3, 3)), ValueError, "shape has 3 values but there are 2 axes"),
    ):
        with pytest.raises(error, match=f"{name}.*: {message}"):
            call()


# ---- JAX -------------------------------------------------------------------------------------------------------------
def test_a_pytree():
    field = of_jax()
    leaves, tree = jax.tree.flatten(field)
    assert len(leaves) == 1 and leaves[0] is field.coefficients
    again = jax.tree.unflatten(tree, leaves)
    assert again.spline == field.spline and jax.tree.structure(again) == tree
    ((path, _),) = jax.tree_util.tree_leaves_with_path(field)
    assert jax.tree_util.keystr(path) == ".coefficients"
    for other in (copy.deepcopy(field), pickle.loads(pickle.dumps(field))):
        assert_array_equal(other(jnp.asarray(POINTS)), field(jnp.asarray(POINTS)))
    doubled = jax.tree.map(lambda c: 2 * c, field)
    assert_allclose(doubled(jnp.asarray(POINTS)), 2 * field(jnp.asarray(POINTS)), rtol=1e-6)
    with pytest.raises(AttributeError):
        field.coefficients = 0
    assert "channels=3" in repr(field) and "cubic" in repr(field)


def test_training_in_jax():
    """jit of a gradient step over the field as an argument and result; scan over steps; vmap over an ensemble."""
    x = jnp.asarray(np.random.default_rng(2).uniform(0, 1, (200, 2)), "float32")
    y = jnp.sin(3 * x[:, :1]) * x[:, 1:]

    def loss(field):
        return ((field(x) - y) ** 2).mean()

    @jax.jit
    def step(field, _):
        value, slope = jax.value_and_grad(loss)(field)
        return jax.tree.map(lambda c, g: c - 3.0 * g, field, slope), value

    field, losses = jax.lax.scan(step, gf.jax.SplineField((5, 5)), length=300)
    assert losses[-1] < 1e-3 * losses[0]
    ensemble = jax.vmap(lambda c: field.replace(c))(jnp.stack([field.coefficients, 0 * field.coefficients]))
    values = jax.vmap(loss)(ensemble)
    assert values[0] == pytest.approx(float(losses[-1]), rel=0.1) and values[1] == pytest.approx(float(losses[0]))
    slopes = jax.vmap(jax.jacfwd(field))(x)
    assert_allclose(slopes, field.jacobian(x), atol=2e-5)


def test_what_a_jax_field_refuses():
    with pytest.raises(TypeError, match=r"gf\.jax\.SplineField: dtype must be a floating-point type"):
        gf.jax.SplineField(5, dtype="int32")
    with pytest.raises(ValueError, match=r"gf\.jax\.SplineField\.replace: coefficients has shape \(1, 6\)"):
        gf.jax.SplineField(5).replace(jnp.zeros((1, 6)))
    with pytest.raises(TypeError, match=r"gf\.jax\.SplineField: points must be an array of jax, got torch\.Tensor"):
        gf.jax.SplineField(5)(torch.zeros(3, 1))


# ---- Keras -----------------------------------------------------------------------------------------------------------
def data():
    x = np.random.default_rng(2).uniform(0, 1, (512, 2)).astype(np.float32)
    return x, np.sin(3 * x[:, :1]) * x[:, 1:]


@pytest.mark.filterwarnings("ignore:.*copy keyword.*:DeprecationWarning")  # Keras and NumPy 2
@pytest.mark.parametrize("kind", ("sequential", "functional", "subclass"))
def test_fit(kind, tmp_path):
    """Model.fit round a layer, whole models saved and loaded."""
    keras.utils.set_random_seed(0)
    x, y = data()
    if kind == "sequential":
        model = keras.Sequential([gf.tensorflow.SplineField((5, 5), 4, kernel=SHARP), keras.layers.Dense(1)])
    elif kind == "functional":
        points = keras.Input((2,))
        values = gf.tensorflow.SplineField(gf.Grid((5, 5), (0, 1)), 2, boundary="mirror")(points)
        assert values.shape == (None, 2)
        model = keras.Model(points, keras.layers.Dense(1)(values))
    else:

        class Model(keras.Model):
            def __init__(self):
                super().__init__()
                self.field = gf.tensorflow.SplineField((5, 5))

            def call(self, x):
                return self.field(x)

        model = Model()
    model.compile(keras.optimizers.Adam(0.03), "mse")
    losses = model.fit(x, y, epochs=12, batch_size=64, verbose=0).history["loss"]
    assert losses[-1] < 0.1 * losses[0]
    if kind == "subclass":
        model.save_weights(tmp_path / "m.weights.h5")
        other = Model()
        other(x)
        other.load_weights(tmp_path / "m.weights.h5")
    else:
        model.save(tmp_path / "m.keras")
        other = keras.models.load_model(tmp_path / "m.keras")
    assert_array_equal(other.predict(x, verbose=0), model.predict(x, verbose=0))


def test_a_layer_from_its_config():
    for how in HOW.values():
        field = of_keras(**how)
        again = gf.tensorflow.SplineField.from_config(field.get_config())
        assert again.spline == field.spline and again.channels == CHANNELS
        again.coefficients.assign(COEFFICIENTS)
        assert_array_equal(again(POINTS), field(POINTS))


def test_points_of_any_number_of_axes_and_precision():
    field = of_keras()
    assert field(POINTS[0, 0]).shape == (CHANNELS,) and field(POINTS).shape == (5, 7, CHANNELS)
    assert field.compute_output_shape((None, 7, 2)) == (None, 7, CHANNELS)
    half = gf.tensorflow.SplineField(SHAPE, CHANNELS, dtype="mixed_float16")
    half.coefficients.assign(COEFFICIENTS)
    assert half(POINTS).dtype == tf.float16
    assert_allclose(half(POINTS), field(POINTS), atol=1e-2)
    double = gf.tensorflow.SplineField(SHAPE, CHANNELS, dtype="float64")
    assert double(POINTS).dtype == tf.float64


def test_gradients_of_slopes_train_a_layer():
    field = of_keras()
    with tf.GradientTape() as tape:
        roughness = tf.reduce_mean(field.hessian(tf.constant(POINTS)) ** 2)
    (g,) = tape.gradient(roughness, field.trainable_variables)
    assert g.shape == (CHANNELS, *SHAPE) and float(tf.reduce_max(tf.abs(g))) > 1e-3


def test_xla_is_refused_by_tensorflow():
    """Keras knows that this layer cannot be compiled by XLA, and does without."""
    assert not of_keras().supports_jit
    with pytest.raises(Exception, match=r"(?i)pyfunc|xla"):
        tf.function(lambda x: gf.sample(tf.constant(COEFFICIENTS), x), jit_compile=True)(tf.constant(POINTS[0]))
