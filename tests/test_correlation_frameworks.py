"""corr, corr_matrix, detrend, rolling_mean in every framework: NumPy's values, first and second derivatives."""

import os
import warnings

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tensorflow as tf
import torch

import gridfield as gf

T = 9
RNG = np.random.default_rng(0)
X, Y, W = RNG.normal(size=T), RNG.normal(size=(2, T, 3)), RNG.random(T)
XN, YN = X.copy(), Y.copy()
XN[7], YN[0, 4, 1] = np.nan, np.nan

CALLS = {
    "corr": lambda x, y, w: gf.corr(x, y, 1, detrend="linear", window=4),
    "corr, lags": lambda x, y, w: gf.corr(x, y, 1, lag=(0, 2, -1), trim=(1, 2), window=3, weights=w),
    "corr, omit": lambda x, y, w: gf.corr(
        x, y, 1, detrend="linear", window=4, min_periods=2, nan_policy="omit", weights=w
    ),
    "corr, array": lambda x, y, w: gf.corr(x[None, :, None], y, 1, detrend="constant"),
    "matrix": lambda x, y, w: gf.corr_matrix(y, 1),
    "matrix, omit": lambda x, y, w: gf.corr_matrix(y, 1, nan_policy="omit"),
    "detrend": lambda x, y, w: gf.detrend(y, 1, nan_policy="omit"),
    "rolling_mean": lambda x, y, w: gf.rolling_mean(y, 4, 1, min_periods=2),
}
UNKNOWN = [tf.TensorSpec(s, tf.float64) for s in ((T,), (None, T, 3), (T,))]


@pytest.fixture(autouse=True)
def in_double_precision():
    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", before)


def close(found, expected):
    np.testing.assert_allclose(np.asarray(found), expected, atol=1e-12)


def everything(x, y, w):
    """All of them in one function, which is traced once."""
    return [f(x, y, w) for f in CALLS.values()]


FEW = ("corr, omit", "corr, array", "matrix", "detrend", "rolling_mean")  # each function: second derivatives are long


def scalar(sin, total, nan):
    """A number that each of the functions goes into."""

    def f(x, y, w):
        return sum(total(sin(nan(CALLS[name](x, y, w)))) for name in FEW)

    return f


of_torch = scalar(torch.sin, torch.sum, torch.nan_to_num)
of_jax = scalar(jnp.sin, jnp.sum, jnp.nan_to_num)
of_tf = scalar(tf.sin, tf.reduce_sum, lambda r: tf.where(tf.math.is_nan(r), tf.zeros_like(r), r))


@pytest.mark.parametrize(("x", "y"), ((X, Y), (XN, YN)), ids=("whole", "gaps"))
def test_values(x, y):
    expected = everything(x, y, W)
    t = [torch.tensor(a) for a in (x, y, W)]
    found = {
        "torch": everything(*t),
        "torch, followed": [r.detach() for r in everything(t[0], t[1].clone().requires_grad_(), t[2])],
        "jax": everything(*map(jnp.asarray, (x, y, W))),
        "jax, jit": jax.jit(everything)(x, y, W),
        "tensorflow": everything(*map(tf.constant, (x, y, W))),
        "graph": tf.function(everything, input_signature=UNKNOWN, autograph=False)(x, y, W),
    }
    for how, results in found.items():
        for name, r, e in zip(CALLS, results, expected, strict=True):
            np.testing.assert_allclose(np.asarray(r), e, atol=1e-12, err_msg=f"{how}: {name}")


@pytest.mark.parametrize("name", CALLS)
def test_derivatives(name):
    leaves, w = [torch.tensor(a, requires_grad=True) for a in (X, Y)], torch.tensor(W)
    used = leaves if name.startswith("corr") else leaves[1:]

    def f(*arrays):
        return CALLS[name]((leaves[0], *arrays)[-2], arrays[-1], w)

    assert torch.autograd.gradcheck(f, used)
    if name in ("corr", "corr, omit", "matrix"):
        assert torch.autograd.gradgradcheck(f, used)


def test_derivatives_in_weights():
    w = torch.tensor(W, requires_grad=True)

    def f(w):
        return gf.corr(torch.tensor(X), torch.tensor(Y), 1, window=3, detrend="linear", lag=(0, 1), weights=w)

    assert torch.autograd.gradcheck(f, [w])
    assert torch.autograd.gradgradcheck(f, [w])


def test_derivatives_are_those_of_torch():
    x, y = XN, YN
    direction = RNG.normal(size=Y.shape)
    t = torch.tensor(y, requires_grad=True)
    (g,) = torch.autograd.grad(of_torch(torch.tensor(x), t, torch.tensor(W)), t, create_graph=True)
    (h,) = torch.autograd.grad((g * torch.tensor(direction)).sum(), t)
    assert torch.isfinite(g).all() and torch.isfinite(h).all()  # NaN stays out of the derivatives of others
    assert g.abs().sum() > 0.1 and h.abs().sum() > 0.1
    gradient = jax.grad(lambda y: of_jax(jnp.asarray(x), y, jnp.asarray(W)))
    first, second = jax.jit(lambda y: jax.jvp(gradient, (y,), (jnp.asarray(direction),)))(jnp.asarray(y))
    close(first, g.detach())
    close(second, h)

    @tf.function(autograph=False)
    def graph(x, y, w):
        with tf.GradientTape() as outer:
            outer.watch(y)
            with tf.GradientTape() as tape:
                tape.watch(y)
                s = of_tf(x, y, w)
            g = tape.gradient(s, y)
            along = tf.reduce_sum(g * direction)
        return g, outer.gradient(along, y)

    first, second = graph(tf.constant(x), tf.constant(y), tf.constant(W))
    close(first, g.detach())
    close(second, h)


def test_torch_compiled():
    arrays = [torch.tensor(X), torch.tensor(Y, requires_grad=True), torch.tensor(W)]
    torch.compiler.reset()
    found = torch.compile(of_torch, fullgraph=True, backend="aot_eager")(*arrays)
    expected = of_torch(*arrays)
    close(found.detach(), expected.detach())
    close(*(torch.autograd.grad(s, arrays[1])[0] for s in (found, expected)))


def test_transformations():
    expected = np.stack([gf.corr(X, y, 0, detrend="linear", window=4) for y in Y])
    x = torch.tensor(X)
    close(torch.func.vmap(lambda y: gf.corr(x, y, 0, detrend="linear", window=4))(torch.tensor(Y)), expected)
    close(jax.vmap(lambda y: gf.corr(jnp.asarray(X), y, 0, detrend="linear", window=4))(jnp.asarray(Y)), expected)

    def loss(y):
        return gf.corr(x, y, 0, detrend="linear", window=4).sin().sum()

    y = torch.tensor(Y[0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # torch's own, of torch.jit
        h = torch.func.hessian(loss)(y)
    close(h, torch.autograd.functional.hessian(loss, y))


def test_types_and_frameworks_do_not_mix():
    y = torch.tensor(Y)
    for dtype in (torch.bfloat16, torch.float16, torch.float32):
        assert gf.corr(torch.tensor(X), y.to(dtype), 1).dtype == dtype
        assert gf.detrend(y.to(dtype).requires_grad_(), 1).dtype == dtype
        assert gf.corr_matrix(y.to(dtype), 1).dtype == dtype
    assert gf.rolling_mean(torch.arange(6), 2).dtype == torch.float64
    with pytest.raises(TypeError, match=r"gf.corr: x is a .*ndarray but y is a torch.Tensor|one framework"):
        gf.corr(X, y, 1)
    with pytest.raises(ValueError, match=r"gf.corr: x .* has 2 samples"):
        jax.jit(lambda x, y: gf.corr(x, y, 1))(X[:2], Y)
