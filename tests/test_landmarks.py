"""Points that move with an image, and inverses: second derivatives, and what traces, in every framework."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tensorflow as tf
import torch
from frameworks import FRAMEWORKS
from numpy.testing import assert_allclose

import gridfield as gf

pytestmark = pytest.mark.filterwarnings(r"ignore:`torch.jit.script\w*` is deprecated:DeprecationWarning")  # torch's own

SHAPE = (8, 9)


def arguments(rng):
    """Points, displacement, affine, angle, zoom: all that a derivative can be taken in."""
    u = gf.random_displacement(2, 5.0, shape=SHAPE, rng=3, fold_free=True)
    affine = np.eye(2, 3) + 0.1 * rng.normal(size=(2, 3))
    return [rng.uniform(2, 5, (3, 2)), u, affine, np.array(20.0), np.array(1.2)]


def moved(p, u, affine=None, rotate=None, zoom=None, **how):
    return gf.deform_points(p, u, SHAPE, affine=affine, rotate=rotate, zoom=zoom, **how)


def inverted(u):
    return gf.invert_displacement(u, (4, 3))[0]


def slopes(f, arrays, h):
    """Differences of f (an array of any shape) in each number of each argument, one after the other."""
    columns = []
    for i, a in enumerate(arrays):
        for j in np.ndindex(a.shape):
            ends = []
            for s in (h, -h):
                b = a.copy()
                b[j] += s
                ends.append(f(*arrays[:i], b, *arrays[i + 1 :]))
            columns.append((ends[0] - ends[1]) / (2 * h))
    return np.stack(columns, -1)


def hessian_by_differences(f, arrays, h=1e-3):
    """Of a scalar NumPy function: differences of differences."""
    return slopes(lambda *a: slopes(f, a, h), arrays, h)


@functools.cache
def expected():
    """Arguments, and the Hessian of sum(w sin(deform_points)) in all of them."""
    arrays = arguments(np.random.default_rng(5))
    return arrays, hessian_by_differences(FRAMEWORKS["NumPy"].scalar(moved, (3, 2)), arrays)


def gradient(arrays):
    return slopes(FRAMEWORKS["NumPy"].scalar(moved, (3, 2)), arrays, 1e-5)


def joined(framework, arrays):
    return np.concatenate([framework.numpy(a).ravel() for a in arrays])


def flat_hessian(h, sizes):
    return np.block([[np.reshape(np.asarray(b), (m, n)) for b, n in zip(row, sizes, strict=True)]
                     for row, m in zip(h, sizes, strict=True)])  # fmt: skip


# ---- derivatives
def test_second_derivatives_against_differences():
    arrays, hessian = expected()
    leaves = [torch.tensor(a, requires_grad=True) for a in arrays]
    assert torch.autograd.gradcheck(moved, leaves)
    assert torch.autograd.gradgradcheck(moved, leaves, atol=1e-4, fast_mode=True)
    loss = FRAMEWORKS["torch (autograd)"].scalar(moved, (3, 2))
    got = torch.autograd.functional.hessian(loss, tuple(leaves))
    assert np.abs(hessian).max() > 1  # not of a map that is nearly affine
    assert_allclose(flat_hessian(got, [a.size for a in arrays]), hessian, atol=1e-4 * np.abs(hessian).max())


def test_second_derivatives_of_an_inverse(rng):
    u = torch.tensor(0.3 * rng.normal(size=(2, 3, 3)), requires_grad=True)
    assert torch.autograd.gradgradcheck(inverted, u, atol=1e-4)
    dense = torch.tensor(0.1 * rng.normal(size=(2, 4, 3)), requires_grad=True)
    assert torch.autograd.gradgradcheck(inverted, dense, atol=1e-4)


@pytest.mark.parametrize("title", ("torch (autograd)", "TensorFlow (eager)", "TensorFlow (tf.function)"))
def test_tapes(title, rng):
    """First and second derivatives by reverse mode, and forward over reverse; each where it is not slow."""
    framework, (arrays, hessian) = FRAMEWORKS[title], expected()
    directions = [rng.normal(size=a.shape) for a in arrays]
    flat = np.concatenate([d.ravel() for d in directions])
    given, along = [framework.asarray(a) for a in arrays], [framework.asarray(d) for d in directions]
    loss = framework.scalar(moved, (3, 2))
    if title != "TensorFlow (tf.function)":
        assert_allclose(joined(framework, framework.grad(loss)(*given)), gradient(arrays), atol=1e-7)
    second = joined(framework, framework.grad(framework.along(loss, along))(*given))
    assert_allclose(second, hessian @ flat, atol=1e-4 * np.abs(hessian).max())
    if title != "TensorFlow (eager)":
        curvature = framework.jvp(framework.along(loss, along), tuple(given), tuple(along))
        assert_allclose(framework.numpy(curvature), flat @ second, rtol=1e-6)


@pytest.mark.parametrize("title", ("torch.func", "JAX"))
def test_transforms(title):
    """The gradient, and the Hessian, which is forward over reverse, mapped."""
    framework, (arrays, hessian) = FRAMEWORKS[title], expected()
    some, n = tuple(range(len(arrays))), [a.size for a in arrays]
    with jax.enable_x64(True):
        given, loss = [framework.asarray(a) for a in arrays], framework.scalar(moved, (3, 2))
        if title == "JAX":
            first, second = jax.jit(lambda *a: (jax.grad(loss, some)(*a), jax.hessian(loss, some)(*a)))(*given)
        else:
            first, second = torch.func.grad(loss, some)(*given), torch.func.hessian(loss, some)(*given)
    assert_allclose(joined(framework, first), gradient(arrays), atol=1e-7)
    assert_allclose(flat_hessian(second, n), hessian, atol=1e-4 * np.abs(hessian).max())


# ---- what traces
@pytest.mark.parametrize("title", ("torch.func", "JAX", "TensorFlow (tf.function)"))
def test_mapped(title, rng):
    """Points, displacements or both; the gradient of a map and the map of a gradient."""
    framework, (p, u, *_) = FRAMEWORKS[title], arguments(rng)
    p, u = np.stack([p, p + 0.5]), np.stack([u, -u])
    vmap, total = framework.vmap, framework.sum

    def loss(p, u):
        return total(framework.sin(moved(p, u)))

    def everything(p, u):
        of_map = framework.grad(lambda p, u: total(vmap(loss, (True, True))(p, u)))(p, u)
        map_of = vmap(lambda p, u: framework.grad(loss)(p, u)[1], (True, True))(p, u)
        return vmap(moved, (True, True))(p, u), vmap(moved, (True, False))(p, u[1]), *of_map, map_of

    leaves = torch.tensor(p, requires_grad=True), torch.tensor(u, requires_grad=True)
    in_p, in_u = torch.autograd.grad(moved(*leaves).sin().sum(), leaves)
    with jax.enable_x64(True):
        compiled = everything if title == "torch.func" else framework.compile(everything)
        got = compiled(framework.asarray(p), framework.asarray(u))
        for a, b in zip(got, (moved(p, u), [moved(q, u[1]) for q in p], in_p, in_u, in_u), strict=True):
            assert_allclose(framework.numpy(a), b, atol=1e-8)


@pytest.mark.parametrize("title", ("torch (autograd)", "JAX", "TensorFlow (tf.function)"))
def test_compiled(title, rng):
    framework, (p, u, *_) = FRAMEWORKS[title], arguments(rng)
    compiled = torch.compile(moved, backend="eager") if title.startswith("torch") else framework.compile(moved)
    with jax.enable_x64(True):
        got = compiled(framework.asarray(p), framework.asarray(u))
        assert got.shape == (3, 2)
        assert_allclose(framework.numpy(got), moved(p, u), atol=1e-9)


@pytest.mark.parametrize("title", ("torch.func", "JAX", "TensorFlow (tf.function)"))
def test_an_inverse_and_its_residual(title, rng):
    framework, u = FRAMEWORKS[title], 0.3 * rng.normal(size=(2, 3, 3))
    v, residual = gf.invert_displacement(u, (4, 3))
    assert type(residual) is float
    with jax.enable_x64(True):
        given = framework.asarray(u)
        if title == "torch.func":
            got = torch.func.vmap(lambda u: gf.invert_displacement(u, (4, 3)))(given[None])
            got = [x[0] for x in got]
        else:
            got = framework.compile(lambda u: gf.invert_displacement(u, (4, 3)))(given)
        assert_allclose(framework.numpy(got[0]), v, atol=1e-9)
        assert got[1].shape == () and float(got[1]) <= 1e-9
        (slope,) = framework.grad(lambda u: framework.sum(gf.invert_displacement(u, (4, 3))[1]))(given)
        assert slope is None or not framework.numpy(slope).any()


def test_maps_of_maps_and_of_nothing(rng):
    p, u, *_ = map(torch.tensor, arguments(rng))
    several = p + torch.tensor(rng.random((2, 3, 1, 1)))
    got = torch.func.vmap(torch.func.vmap(lambda p: moved(p, u)))(several)
    assert_allclose(got, moved(several.numpy(), u.numpy()), atol=1e-9)
    assert torch.func.vmap(lambda p: moved(p, u))(several[:0, 0]).shape == (0, 3, 2)
    assert torch.autograd.gradcheck(moved, (p.requires_grad_(), u), check_forward_ad=True, check_batched_grad=True)


def test_without_double_precision(rng):
    p, u, *_ = (jnp.asarray(a) for a in arguments(rng))
    got = jax.jit(moved)(p, u)
    assert got.dtype == jnp.float32
    assert_allclose(got, moved(*map(np.asarray, (p, u))), atol=1e-5)


def test_unknown_sizes(rng):
    p, u, *_ = arguments(rng)
    f = tf.function(moved, input_signature=[tf.TensorSpec((None, 2), tf.float64), tf.TensorSpec(u.shape, tf.float64)])
    assert_allclose(f(p, u), moved(p, u), atol=1e-9)
    assert f(p[:0], u).shape == (0, 2)


@pytest.mark.parametrize("title", ("torch.func", "JAX", "TensorFlow (tf.function)"))
def test_no_solution_is_nan(title):
    """As where the numbers are known."""
    framework, u = FRAMEWORKS[title], np.zeros((2, 3, 3))
    u[0, 1] = 60.0  # it folds
    p = np.array([[np.nan, 1.0], [np.inf, 1.0], [3.0, -1e3], [-20.0, 3.0], [4.0, 4.0]])
    how = framework.compile
    if title == "torch.func":
        how = functools.partial(torch.func.vmap, in_dims=(0, None))
    with jax.enable_x64(True):
        given = framework.asarray(p), framework.asarray(u)
        got, eager = framework.numpy(how(moved)(*given)), moved(p, u)
        assert np.isnan(got[:2]).all() and np.isfinite(got[2:]).any()
        assert_allclose(got, eager, atol=1e-8)


def test_a_traced_map_without_an_inverse():
    """Where the numbers are known it is an error; torch and TensorFlow have one of their own."""
    f = jax.jit(lambda a: gf.deform_points(jnp.ones((1, 2)), None, SHAPE, affine=a))
    assert np.isnan(f(jnp.zeros((2, 2)))).all()
    assert np.isfinite(f(jnp.eye(2))).all()
    g = jax.jit(lambda z: gf.deform_points(jnp.ones((1, 2)), None, SHAPE, zoom=z))
    assert np.isnan(g(jnp.inf)).all()


# ---- bad input
@pytest.mark.parametrize(
    ("error", "message", "call"),
    [
        (
            ValueError,
            r"gf.deform_points: points has shape \(2,\) but must be \(2, \*pts, 2\)",
            lambda: gf.deform_points(np.array([3.0, 4.0]), np.zeros((2, 2, 3, 3)), SHAPE),
        ),
        (
            ValueError,
            "displacement has a batch of 3 but affine of 2",
            lambda: gf.deform_points(np.ones((3, 1, 2)), np.ones((3, 2, 3, 3)), SHAPE, affine=[np.eye(2), np.eye(2)]),
        ),
        *[
            (ValueError, f"{name}: tol must be a positive number, got {tol}", functools.partial(call, tol=tol))
            for tol in (0, -1.0, np.nan, np.inf)
            for name, call in (
                ("gf.deform_points", lambda tol: gf.deform_points(np.ones((1, 2)), None, SHAPE, tol=tol)),
                ("gf.invert_displacement", lambda tol: gf.invert_displacement(np.zeros((2, 3, 3)), SHAPE, tol=tol)),
            )
        ],
        *[
            (TypeError, "points (has dtype|must be)", functools.partial(gf.deform_points, p, None, SHAPE))
            for p in (
                np.ones((1, 2), complex), [["a", "b"]], np.array([["1", "2"]]), torch.ones((1, 2), dtype=torch.cfloat),
                tf.constant([["1", "2"]]), np.array([[None, 1]]), jnp.ones((1, 2), jnp.complex64),
            )
        ],
    ],
)  # fmt: skip
def test_errors_say_what_was_wrong(error, message, call):
    with pytest.raises(error, match=message):
        call()


def test_far_out_of_scale():
    """A Jacobian with a tiny determinant has an inverse all the same."""
    p = np.array([[1.0, 2.0, 3.0]])
    there = gf.deform_points(p, None, (4, 5, 6), zoom=1e5)
    assert_allclose(gf.deform_points(there, None, (4, 5, 6), zoom=1e5, inverse=True), p, atol=1e-8)
