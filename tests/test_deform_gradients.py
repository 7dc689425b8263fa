"""Derivatives of gf.deform in image, displacement, affine, angle and zoom; the same in every framework."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tensorflow as tf
import torch
from frameworks import FRAMEWORKS
from numpy.testing import assert_allclose, assert_array_equal

import gridfield as gf
import gridfield.torch

pytestmark = pytest.mark.filterwarnings(r"ignore:`torch.jit.script\w*` is deprecated:DeprecationWarning")  # torch's own

SHAPE = (6, 7)
CROP = (slice(1, 5), slice(2, 7))


def arguments(rng, batch=2):
    """Image, displacement, affine, angle, zoom: all that a derivative can be taken in."""
    affine = np.eye(2, 3) + 0.1 * rng.normal(size=(2, 3))
    return [rng.normal(size=(batch, *SHAPE)), rng.normal(size=(batch, 2, 3, 3)), affine, np.array(20.0), np.array(1.3)]


def whole(x, u, affine, rotate, zoom, **how):
    how = {"batch_axis": 0, "boundary": "mirror", "crop": CROP} | how
    return gf.deform(x, u, affine=affine, rotate=rotate, zoom=zoom, **how)


def tensors(arrays):
    return [torch.tensor(a, requires_grad=True) for a in arrays]


@pytest.mark.parametrize(
    ("kernel", "boundary"),
    [
        ("linear", "natural"),
        ("cubic", "mirror"),
        *(pytest.param(*p, marks=pytest.mark.slow) for p in (("cubic", "grid-constant"), ("quintic", "wrap"))),
    ],
)
def test_all_gradients_against_differences(kernel, boundary, rng):
    assert torch.autograd.gradcheck(lambda *a: whole(*a, kernel=kernel, boundary=boundary), tensors(arguments(rng)))


@pytest.mark.parametrize("n", (200, 3000))
def test_gradients_in_float32_are_of_the_places_that_were_read(n, rng):
    """Pixel + displacement in float32 is 2e-4 off at pixel 3000: 1 % of a gradient in the displacement."""
    x, ct = (rng.normal(size=(4, n)).astype(np.float32) for _ in range(2))
    u = rng.normal(size=(2, 3, 9)) * 3
    in_x, in_u = gf.deform_gradient(ct, x, u, kernel="linear", boundary="mirror")
    exact_x, exact_u = gf.deform_gradient(ct.astype(float), x.astype(float), u, kernel="linear", boundary="mirror")
    assert np.abs(in_x - exact_x).max() < 5e-5
    assert np.abs(in_u - exact_u).max() < 5e-5 * np.abs(exact_u).max()
    a, b = (torch.tensor(v, requires_grad=True) for v in (x, u))
    gf.deform(a, b, kernel="linear", boundary="mirror").backward(torch.from_numpy(ct))
    assert np.abs(a.grad.numpy() - exact_x).max() < 5e-5
    assert np.abs(b.grad.numpy() - exact_u).max() < 5e-5 * np.abs(exact_u).max()


def test_second_derivatives_against_differences(rng):
    x, *rest = arguments(rng, 1)
    small = [x[:, :4, :4], *rest]
    crop = (slice(1, 3), slice(2, 4))
    assert torch.autograd.gradgradcheck(lambda *a: whole(*a, crop=crop), tensors(small))


def test_a_dense_displacement(rng):
    u = torch.tensor(rng.normal(size=(2, *SHAPE)), requires_grad=True)
    x = torch.tensor(rng.normal(size=SHAPE), requires_grad=True)
    assert torch.autograd.gradcheck(lambda x, u: gf.deform(x, u, crop=CROP, boundary="wrap"), (x, u))


@pytest.mark.slow
def test_a_volume(rng):
    x, u, a = tensors([rng.normal(size=(3, 4, 3)), rng.normal(size=(3, 2, 2, 2)), np.array([10.0, 20.0, -5.0])])
    assert torch.autograd.gradcheck(
        lambda x, u, a: gf.deform(x, u, rotate=a, spacing=(1, 2, 0.5), boundary="mirror"), (x, u, a)
    )


def test_a_spline_field_learns(rng):
    field = gf.torch.SplineField((4, 5), 2, dtype=torch.float64)
    with torch.no_grad():
        field.coefficients[:] = torch.tensor(rng.normal(size=(2, 4, 5)))
    x = torch.tensor(rng.normal(size=SHAPE))
    got = gf.deform(x, field, boundary="mirror")
    assert_allclose(got.detach(), gf.deform(x, field.on_grid(SHAPE), boundary="mirror").detach(), atol=1e-12)
    assert_allclose(gf.displacement_field(field, SHAPE).detach(), field.on_grid(SHAPE).detach())
    got.sum().backward()
    assert float(field.coefficients.grad.abs().max()) > 1e-3


# ---- the transpose, by hand
HOWS = [
    {},
    {"crop": CROP, "rotate": 20, "boundary": "nearest"},
    {"kernel": "linear", "boundary": "wrap", "spacing": (2.0, 0.5)},
    {"kernel": "cubic", "boundary": "grid-constant", "prefilter": False},
]


@pytest.mark.parametrize(
    ("shape", "axis", "batch_axis", "boundary"),
    [
        ((70, 40, 41), None, None, "mirror"),
        pytest.param((70, 40, 41, 2), (0, 1, 2), None, "constant", marks=pytest.mark.slow),
        ((3, 90, 41, 2), (1, 2), 0, "reflect"),
        ((200, 1100), None, None, "wrap"),
        pytest.param((50000,), None, None, "natural", marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_adjointness_of_large_images(shape, axis, batch_axis, boundary, rng):
    """Which are done in parts, the same ones on any number of threads."""
    nd = len(axis or shape)
    x, u = rng.normal(size=shape), rng.normal(size=(*shape[: batch_axis is not None], nd, *(4,) * nd)) * 4
    how = {"axis": axis, "batch_axis": batch_axis, "boundary": boundary}
    y = gf.deform(x, u, **how)
    ct = rng.normal(size=y.shape)
    gradients = []
    for threads in (1, 3):
        gf.set_num_threads(threads)
        try:
            gradients.append(gf.deform_gradient(ct, x, u, **how)[0])
        finally:
            gf.set_num_threads(None)
    assert_array_equal(*gradients)
    assert_allclose((gradients[0] * x).sum(), (ct * y).sum(), rtol=1e-9)


@pytest.mark.parametrize("how", HOWS, ids=str)
def test_adjointness(how, rng):
    x, u = rng.normal(size=(3, *SHAPE)), rng.normal(size=(2, 3, 4))
    y = gf.deform(x, u, **how)
    ct = rng.normal(size=y.shape)
    in_x, in_u = gf.deform_gradient(ct, x, u, **how)
    assert_allclose((in_x * x).sum(), (ct * y).sum(), rtol=1e-12)
    by_shape, nothing = gf.deform_gradient(ct, x.shape, u, **how)
    assert nothing is None
    assert_allclose(by_shape, in_x)
    step, h = rng.normal(size=u.shape), 1e-6
    moved = [gf.deform(x, u + s * h * step, **how) for s in (1, -1)]
    assert_allclose((in_u * step).sum(), (ct * (moved[0] - moved[1])).sum() / (2 * h), rtol=1e-5)


def test_the_gradient_of_several_images_and_of_batches(rng):
    x, u = rng.normal(size=(4, *SHAPE)).astype(np.float32), rng.normal(size=(4, 2, 3, 3))
    labels = rng.integers(0, 9, (*SHAPE, 4))
    images, how = {"x": x, "n": labels}, {"batch_axis": {"x": 0, "n": 2}, "axis": {"x": None, "n": (0, 1)}}
    cts = {"x": rng.normal(size=x.shape), "n": rng.normal(size=labels.shape)}
    in_images, in_u = gf.deform_gradient(cts, images, u, **how)
    assert in_images["x"].dtype == np.float32 and in_images["n"].dtype == np.float64
    assert in_u.shape == u.shape
    t = {k: torch.tensor(v.astype(np.float64), requires_grad=True) for k, v in images.items()}
    v = torch.tensor(u, requires_grad=True)
    out = gf.deform(t, v, **how)
    sum((out[k] * torch.tensor(cts[k])).sum() for k in out).backward()
    assert_allclose(in_u, v.grad, rtol=1e-4, atol=1e-4)
    assert_allclose(in_images["n"], t["n"].grad, atol=1e-10)
    assert_allclose(in_images["x"], t["x"].grad, atol=1e-4)


def test_deform_gradient_says_what_was_wrong(rng):
    x, u = np.zeros(SHAPE), np.zeros((2, 3, 3))
    for error, message, change in (
        (ValueError, r"cotangent has shape \(6, 8\) but the result of deform \(6, 7\)", {"ct": np.zeros((6, 8))}),
        (TypeError, "arrays of torch", {"x": torch.zeros(SHAPE), "u": torch.zeros(2, 3, 3)}),
        (TypeError, "kernel not 'label'", {"x": x.astype(int), "kernel": "label"}),
        (ValueError, "one item for each of the images", {"x": {"a": x}, "ct": {"b": x}}),
    ):
        given = {"ct": x, "x": x, "u": u} | change
        with pytest.raises(error, match=message):
            gf.deform_gradient(given.pop("ct"), given.pop("x"), given.pop("u"), **given)


# ---- every framework
def loss_of(framework):
    return framework.scalar(whole, (2, 4, 5))


@pytest.mark.parametrize("title", [t for t in FRAMEWORKS if t != "NumPy"])
def test_the_same_in_every_framework(title, rng):
    framework, arrays = FRAMEWORKS[title], arguments(rng)
    with jax.enable_x64(True):
        given = [framework.asarray(a) for a in arrays]
        assert_allclose(framework.numpy(whole(*given)), whole(*arrays), atol=1e-12)
        leaves = tensors(arrays)
        expected = torch.autograd.grad(loss_of(FRAMEWORKS["torch (autograd)"])(*leaves), leaves)
        compiled = framework.compile if title == "JAX" else lambda f: f  # op by op it compiles each
        got = compiled(framework.grad(loss_of(framework)))(*given)
        for a, b in zip(got, expected, strict=True):
            assert_allclose(framework.numpy(a), b, atol=1e-10)
        directions = [framework.asarray(rng.normal(size=a.shape)) for a in arrays]
        slope = compiled(lambda p, t: framework.jvp(loss_of(framework), p, t))(tuple(given), tuple(directions))
        by_hand = sum((e * torch.tensor(framework.numpy(d))).sum() for e, d in zip(expected, directions, strict=True))
        assert_allclose(framework.numpy(slope), by_hand, rtol=1e-9)


@pytest.mark.parametrize("title", ("torch (autograd)", "JAX", "TensorFlow (tf.function)"))
def test_compiled(title, rng):
    framework, arrays = FRAMEWORKS[title], arguments(rng)
    with jax.enable_x64(True):
        given = [framework.asarray(a) for a in arrays]
        assert_allclose(framework.numpy(framework.compile(whole)(*given)).copy(), whole(*arrays), atol=1e-12)


@pytest.mark.parametrize("title", ("torch.func", "JAX"))
def test_mapped(title, rng):
    framework, (x, u, *_) = FRAMEWORKS[title], arguments(rng, 3)
    with jax.enable_x64(True):
        given = framework.asarray(x), framework.asarray(u)
        got = framework.vmap(lambda x, u: gf.deform(x, u), (True, True))(*given)
        assert_allclose(framework.numpy(got), gf.deform(x, u, batch_axis=0), atol=1e-12)
        got = framework.vmap(lambda x, u: gf.deform(x, u), (True, False))(given[0], given[1][0])
        assert_allclose(framework.numpy(got), gf.deform(x, u[0]), atol=1e-12)


def test_tensorflow_variables_and_output_gradients(rng):
    """The walkthrough: tf.gradients with a given output gradient inside of a function; an unknown batch."""
    x, u = rng.normal(size=(2, *SHAPE)), rng.normal(size=(2, 2, 3, 3))
    ct = rng.normal(size=x.shape)

    @tf.function
    def gradients(x, u):
        return tf.gradients(gf.deform(x, u, batch_axis=0), [x, u], grad_ys=tf.constant(ct))

    expected = gf.deform_gradient(ct, x, u, batch_axis=0)
    for a, b in zip(gradients(tf.Variable(x), tf.Variable(u)), expected, strict=True):
        assert_allclose(a, b, atol=1e-10)
    unknown = tf.function(
        lambda x, u: gf.deform(x, u, batch_axis=0),
        input_signature=[tf.TensorSpec((None, None, *SHAPE), tf.float64), tf.TensorSpec((None, 2, 3, 3), tf.float64)],
    )
    assert_allclose(unknown(x[:, None], u)[:, 0], gf.deform(x, u, batch_axis=0), atol=1e-12)


def test_results_are_the_images_kind(rng):
    """Framework and type of each image; the displacement may be of another precision."""
    x, u = rng.random((2, *SHAPE)) * 99, rng.normal(size=(2, 3, 3))
    for make, kinds in (
        (lambda a, d: torch.tensor(a).to(getattr(torch, d)), ("float32", "float16", "bfloat16", "uint8", "complex64")),
        (lambda a, d: tf.cast(tf.constant(a), d), ("float32", "float16", "uint8", "complex64")),
        (lambda a, d: jnp.asarray(a).astype(d), ("float32", "bfloat16", "uint8", "bool")),
    ):
        for kind in kinds:
            image = make(x, kind)
            out = gf.deform(image, make(u, "float32"), boundary="mirror")
            assert type(out) is type(image) and out.dtype == image.dtype and tuple(out.shape) == (2, *SHAPE)
    with pytest.raises(TypeError, match=r"images is a torch.Tensor but displacement is a numpy.ndarray"):
        gf.deform(torch.tensor(x), u)
    by_numpy = gf.deform(torch.tensor(x), affine=np.eye(2, 3), rotate=np.float32(30))
    assert_allclose(by_numpy, gf.deform(x, rotate=30), atol=1e-12)
    labels = rng.integers(0, 5, SHAPE).astype(np.int32)
    expected = gf.deform(labels, u.astype(np.float32), kernel="label")
    for make in (torch.tensor, jnp.asarray, tf.constant):
        got = gf.deform(make(labels), make(u.astype(np.float32)), kernel="label")
        assert_array_equal(np.asarray(got), expected)
    with pytest.raises(TypeError, match="cannot while tracing"):
        jax.jit(lambda x: gf.deform(x, kernel="label"))(jnp.asarray(labels))


@pytest.mark.parametrize("make", (torch.tensor, tf.constant), ids=("torch", "TensorFlow"))
def test_numbers_keep_their_digits(make, rng):
    """Python's numbers, of which torch and TensorFlow would make float32, also beside tensors; tensors in lists."""
    x, u = rng.normal(size=SHAPE), rng.normal(size=(2, 3, 3))
    expected = gf.deform(x, u, rotate=30.3, zoom=(1.1, 1.3))
    angle, zoom = make(np.array(30.3)), make(np.array(1.1))
    for got in (
        gf.deform(make(x), make(u), rotate=angle, zoom=(1.1, 1.3)),
        gf.deform(make(x), make(u), rotate=30.3, zoom=[zoom, 1.3]),
        gf.deform(make(x), make(u), affine=[[angle / 30.3, 0.0], [0.0, 1.0]], rotate=30.3, zoom=(1.1, 1.3)),
        gf.deform(make(x), u.tolist(), rotate=30.3, zoom=(1.1, 1.3)),
    ):
        assert_allclose(np.asarray(got), expected, atol=1e-12)
    p, v = np.array([[2.0, 3.0]]), [[[0.1, 0.2], [0.3, 0.4]]] * 2
    assert_allclose(np.asarray(gf.deform_points(make(p), v, SHAPE, zoom=1.1)), gf.deform_points(p, v, SHAPE, zoom=1.1))


def test_gradients_of_items_of_a_list(rng):
    """They were None in TensorFlow, and an error in torch and JAX."""
    x, zoom = rng.normal(size=SHAPE), np.array([1.1, 1.3])
    z = torch.tensor(zoom, requires_grad=True)
    (expected,) = torch.autograd.grad(gf.deform(torch.tensor(x), zoom=z).sum(), z)
    a = torch.tensor(1.1, dtype=torch.float64, requires_grad=True)
    (got,) = torch.autograd.grad(gf.deform(torch.tensor(x), zoom=[a, 1.3]).sum(), a)
    assert_allclose(got, expected[0], atol=1e-12)
    v = tf.Variable(zoom[0])
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(gf.deform(tf.constant(x), zoom=[v, 1.3]))
    assert_allclose(tape.gradient(total, v), expected[0], atol=1e-12)
    with jax.enable_x64(True):
        got = jax.grad(lambda z: gf.deform(jnp.asarray(x), zoom=[z, 1.3]).sum())(1.1)
        assert_allclose(got, expected[0], atol=1e-12)
        turned = jax.jit(lambda a: gf.deform(jnp.asarray(x[None]), rotate=[a, 2 * a, 0.0]))(3.0)
        assert_allclose(turned, gf.deform(x[None], rotate=[3.0, 6.0, 0.0]), atol=1e-12)


def test_arrays_on_two_devices():
    x, u = torch.zeros(SHAPE), torch.zeros(2, 3, 3)
    for name, run in {
        "rotate": lambda far: gf.deform(x, u, rotate=torch.tensor(3.0, device=far)),
        r"images\[1\]": lambda far: gf.deform([x, x.to(far)], rotate=3),
        "displacement": lambda far: gf.deform(x, u.to(far)),
        "affine": lambda far: gf.deform_points(torch.zeros(4, 2), u, SHAPE, affine=torch.eye(2, device=far)),
    }.items():
        with pytest.raises(ValueError, match=f"is on cpu but {name} on meta; both must be on one device"):
            run("meta")
