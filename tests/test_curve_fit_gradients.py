"""The optimum of curve_fit on torch, JAX and TensorFlow: its numbers, and its derivatives beside differences."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # before anything imports tensorflow

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tensorflow as tf
import torch

import gridfield as gf

X = np.linspace(0, 4, 9)
EQUATION = "a*exp(-b*x) + c"
P0 = {"a": 2.0, "b": 1.0, "c": 0.1}
rng = np.random.default_rng(0)
Y = 2.5 * np.exp(-1.3 * X) + 0.5 + 0.1 * rng.normal(size=(2, 9))
Y[1, 4] = np.nan  # left out: its derivative is 0
S = 0.5 + rng.random(9)
COT = rng.normal(size=(2, 3))
FUNCTIONS = {
    "torch": lambda x, a, b, c: a * torch.exp(-b * x) + c,
    "jax": lambda x, a, b, c: a * jnp.exp(-b * x) + c,
    "tensorflow": lambda x, a, b, c: a * tf.exp(-b * x) + c,
}
ARRAYS = {"torch": torch.as_tensor, "jax": jnp.asarray, "tensorflow": tf.convert_to_tensor}
LOSSES = ["linear", ("huber", 0.1), ("soft_l1", 0.1), ("cauchy", 0.1)]


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def fit(f, y, s, b=None, loss="linear", bounds=None):
    fixed = None if b is None else {"b": b}
    return gf.curve_fit(f, X, y, P0, sigma=s, axis=-1, loss=loss, fixed=fixed, bounds=bounds).popt


def differences(of, x, h=1e-5):
    """Gradient of a number by central differences."""
    out = np.zeros_like(x)
    for i in np.ndindex(x.shape):
        if np.isnan(x[i]):
            continue
        up, down = x.copy(), x.copy()
        up[i] += h
        down[i] -= h
        out[i] = (of(up) - of(down)) / (2 * h)
    return out


@functools.cache
def expected(loss, fixed):
    """Gradients in y, sigma and the fixed b."""
    b = np.array(1.1) if fixed else None

    def number(y=Y, s=S, b=b):
        return (fit(EQUATION, y, s, b, loss) * COT).sum()

    in_b = differences(lambda b: number(b=b), b) if fixed else None
    return differences(lambda y: number(y), Y), differences(lambda s: number(s=s), S), in_b


def gradients(name, f, loss, fixed):
    b = 1.1 if fixed else None
    arrays = [ARRAYS[name](v) for v in (Y, S, *([np.array(b)] if fixed else []))]

    def number(y, s, b=None):
        p = fit(f, y, s, b, loss)
        cot = ARRAYS[name](COT)
        return tf.reduce_sum(p * cot) if name == "tensorflow" else (p * cot).sum()

    if name == "torch":
        arrays = [a.requires_grad_() for a in arrays]
        return torch.autograd.grad(number(*arrays), arrays)
    if name == "jax":
        return jax.grad(number, tuple(range(len(arrays))))(*arrays)
    with tf.GradientTape() as tape:
        tape.watch(arrays)
        y = number(*arrays)
    return tape.gradient(y, arrays)


CASES = [(EQUATION, "linear", False), (EQUATION, "linear", True), (EQUATION, ("cauchy", 0.1), False)]


# JAX compiles for each; the quick ones are representatives of each framework
SLOW = [
    ("jax", *CASES[0]),
    ("jax", *CASES[1]),
    *((name, *CASES[2]) for name in ARRAYS),
    *((name, *CASES[0]) for name in ("tensorflow",)),
]


@pytest.mark.parametrize(
    ("name", "model", "loss", "fixed"),
    [
        pytest.param(*case, marks=[pytest.mark.slow] if case in SLOW else [])
        for case in ((name, *rest) for name in ARRAYS for rest in [*CASES, (None, "linear", True)])
    ],
)
def test_gradients_of_the_optimum(name, model, loss, fixed):
    found = gradients(name, model or FUNCTIONS[name], loss, fixed)
    for got, want in zip(found, expected(loss, fixed), strict=False):
        np.testing.assert_allclose(np.asarray(got), want, atol=1e-6 * max(np.abs(want).max(), 1))


@pytest.mark.parametrize("loss", LOSSES, ids=str)
def test_gradients_of_robust_fits(loss):
    for got, want in zip(gradients("torch", EQUATION, loss, False), expected(loss, False), strict=False):
        np.testing.assert_allclose(np.asarray(got), want, atol=1e-6 * max(np.abs(want).max(), 1))


@pytest.mark.parametrize("name", ARRAYS)
def test_numbers_are_those_of_numpy(name):
    want = gf.curve_fit(EQUATION, X, Y, P0, sigma=S, axis=-1)
    for model in (EQUATION, FUNCTIONS[name]):
        result = gf.curve_fit(model, X, ARRAYS[name](Y), P0, sigma=S, axis=-1)
        assert type(result.popt).__module__.partition(".")[0] in (name, "jaxlib")
        np.testing.assert_allclose(np.asarray(result.popt), want.popt, rtol=1e-8)
        np.testing.assert_allclose(np.asarray(result.cov), want.cov, rtol=1e-6)
        np.testing.assert_allclose(np.asarray(result.stderr["b"]), want.stderr["b"], rtol=1e-6)
        np.testing.assert_allclose(np.asarray(result.residual), want.residual, atol=1e-8)
        assert "2 fits" in result.summary()
    # data of NumPy, a model of the framework
    by_model = gf.curve_fit(FUNCTIONS[name], X, Y, P0, sigma=S, axis=-1)
    np.testing.assert_allclose(by_model.popt, want.popt, rtol=1e-8)
    assert by_model._parts[0].model.function.way == "autodiff"


def test_second_derivatives():
    y = torch.tensor(Y[0], requires_grad=True)
    s = torch.tensor(S, requires_grad=True)

    def of(y, s):
        return gf.curve_fit(EQUATION, X, y, P0, sigma=s).popt

    assert torch.autograd.gradcheck(of, (y, s), eps=1e-5, atol=1e-6)
    assert torch.autograd.gradgradcheck(of, (y, s), eps=1e-4, atol=1e-3, rtol=1e-4)


def test_a_parameter_on_its_bound_does_not_move():
    y = torch.tensor(Y[0], requires_grad=True)
    popt = gf.curve_fit(EQUATION, X, y, P0, bounds={"b": (0, 1)}).popt
    assert popt[1] == 1
    (g,) = torch.autograd.grad(popt[1], y, retain_graph=True)
    assert (g == 0).all()
    (g,) = torch.autograd.grad(popt[0], y)
    want = differences(lambda v: gf.curve_fit(EQUATION, X, v, P0, bounds={"b": (0, 1)}).popt[0], Y[0])
    np.testing.assert_allclose(g, want, atol=1e-7)


def test_under_jit_and_torch_func():
    y = jnp.asarray(Y[:1])
    want = gf.curve_fit(EQUATION, X, Y[:1], P0, sigma=S, axis=-1)
    both = jax.jit(lambda y: [(r := gf.curve_fit(EQUATION, X, y, P0, sigma=S, axis=-1)).popt, r.stderr["b"]])(y)
    np.testing.assert_allclose(both[0], want.popt, rtol=1e-9)
    np.testing.assert_allclose(both[1], want.stderr["b"], rtol=1e-6)
    with pytest.raises(TypeError, match="cannot be fitted under"):
        jax.jit(lambda y: fit(FUNCTIONS["jax"], y, S))(y)
    t = torch.tensor(Y[:1], requires_grad=True)
    (backward,) = torch.autograd.grad(fit(EQUATION, t, S).sum(), t)
    g = torch.func.grad(lambda y: fit(EQUATION, y, S).sum())(torch.tensor(Y[:1]))
    np.testing.assert_allclose(g, backward, atol=1e-9)


@pytest.mark.slow  # 38 s, JAX compiling
def test_transformations():
    y, s = jnp.asarray(Y[:1]), jnp.asarray(S)
    want = np.asarray(fit(EQUATION, Y[:1], S))

    def of(y, s):
        return fit(EQUATION, y, s)

    np.testing.assert_allclose(jax.jit(of)(y, s), want, rtol=1e-9)
    many = jax.vmap(of, (0, None))(jnp.stack([y, 2 * y]), s)
    np.testing.assert_allclose(many[1, :, 0], 2 * want[:, 0], rtol=1e-7)
    reverse, forward = jax.jacrev(of)(y, s), jax.jacfwd(of)(y, s)
    np.testing.assert_allclose(reverse, forward, atol=1e-10)
    g = torch.func.grad(lambda y: fit(EQUATION, y, S).sum())(torch.tensor(Y[:1]))
    np.testing.assert_allclose(g, np.asarray(reverse).sum((0, 1)), atol=1e-9)
    traced = jax.jit(lambda y: gf.curve_fit(EQUATION, X, y, P0, sigma=S, axis=-1).stderr["b"])(y)
    np.testing.assert_allclose(traced, gf.curve_fit(EQUATION, X, Y[:1], P0, sigma=S, axis=-1).stderr["b"], rtol=1e-6)
    with pytest.raises(AttributeError, match="while something traces"):
        jax.jit(lambda y: gf.curve_fit(EQUATION, X, y, P0, axis=-1).chi2)(y)
    with pytest.raises(TypeError, match="cannot be fitted under"):
        jax.jit(lambda y: fit(FUNCTIONS["jax"], y, S))(y)


def test_a_failed_pixel_leaves_the_derivatives_of_others():
    bad = np.concatenate([Y, np.full((1, 9), np.nan)])
    t, u = torch.tensor(bad, requires_grad=True), torch.tensor(Y, requires_grad=True)
    popt = fit(EQUATION, t, S)
    assert torch.isnan(popt[2]).all()
    popt[:2].sum().backward()
    fit(EQUATION, u, S).sum().backward()
    np.testing.assert_allclose(t.grad[:2], u.grad, atol=1e-12)
    assert (t.grad[2] == 0).all()
    alone = gf.curve_fit("a*b*x", X, torch.tensor(Y[0], requires_grad=True))
    assert not alone.success and "singular" in alone.message


def test_derivatives_in_sigma_and_fixed_values_of_data_that_are_numbers():
    b = torch.tensor(1.1, dtype=torch.float64, requires_grad=True)
    s = torch.tensor(S, requires_grad=True)
    (gf.curve_fit(EQUATION, X, Y, P0, sigma=s, fixed={"b": b}, axis=-1).popt * torch.tensor(COT)).sum().backward()
    _, in_s, in_b = expected("linear", True)
    np.testing.assert_allclose(s.grad, in_s, atol=1e-6 * np.abs(in_s).max())
    np.testing.assert_allclose(b.grad, in_b, rtol=1e-6)


def test_variables_of_tensorflow():
    y, b, s = tf.Variable(Y), tf.Variable(np.array(1.1)), tf.Variable(S)
    number = lambda: tf.reduce_sum(fit(EQUATION, y, s, b) * COT)  # noqa: E731
    want = expected("linear", True)
    with tf.GradientTape() as tape:
        value = number()
    for ours, theirs in zip(tape.gradient(value, [y, s, b]), want, strict=True):
        np.testing.assert_allclose(np.nan_to_num(ours), theirs, atol=1e-6 * np.abs(theirs).max())
    with tf.GradientTape() as tape:  # also where only what is beside the data is followed
        value = tf.reduce_sum(gf.curve_fit(EQUATION, X, Y, P0, sigma=s, fixed={"b": b}, axis=-1).popt * COT)
    np.testing.assert_allclose(tape.gradient(value, b), want[2], rtol=1e-6)
    assert gf.curve_fit(EQUATION, X, y, P0, axis=-1).popt.shape == (2, 3)


def test_a_fixed_parameter_needs_no_start_value():
    for f in (EQUATION, lambda x, a, b, c: a * np.exp(-b * x) + c):
        result = gf.curve_fit(f, X, Y[0], {"a": 2.0, "c": 0.1}, fixed={"b": 1.1})
        assert result.success and result.params["b"] == 1.1


def test_several_models():
    models, p0 = [EQUATION, "d*exp(-b*x)"], {**P0, "d": 1.0}
    y2 = Y[0] - 0.5

    def rate(y):
        return gf.curve_fit(models, X, [y, y2], p0).popt[1]

    want = differences(rate, Y[0])
    t = torch.tensor(Y[0], requires_grad=True)
    gf.curve_fit(models, X, [t, torch.tensor(y2)], p0).popt[1].backward()
    np.testing.assert_allclose(t.grad, want, atol=1e-7)
    for call in (
        lambda: jax.jit(lambda y: gf.curve_fit(models, X, [y, y], p0).popt)(jnp.asarray(Y[0])),
        lambda: torch.func.grad(lambda y: gf.curve_fit(models, X, [y, y], p0).popt[1])(torch.tensor(Y[0])),
    ):
        with pytest.raises(TypeError, match="several models cannot"):
            call()


@pytest.mark.parametrize("name", ARRAYS)
def test_functions_of_numpy_on_data_of_a_framework(name):
    def f(x, a, b, c):
        return a * np.exp(-b * x) + c

    want = gf.curve_fit(f, X, Y, P0, axis=-1).popt
    np.testing.assert_allclose(np.asarray(gf.curve_fit(f, X, ARRAYS[name](Y), P0, axis=-1).popt), want, rtol=1e-9)
    if name == "tensorflow":
        return
    derivative = jax.grad if name == "jax" else lambda of: lambda y: of(y.requires_grad_()).backward()
    with pytest.raises(TypeError, match="cannot be followed"):
        derivative(lambda y: gf.curve_fit(f, X, y, P0, axis=-1).popt.sum())(ARRAYS[name](Y))
