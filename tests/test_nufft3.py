"""Type 3: waves of any frequencies from any points, by the grid as by direct sums; its derivatives; bad input."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tensorflow as tf
import torch
from frameworks import FRAMEWORKS
from numpy.testing import assert_allclose

import gridfield as gf
from gridfield import type3

pytestmark = pytest.mark.filterwarnings(r"ignore:`torch.jit.script\w*` is deprecated:DeprecationWarning")  # torch's own

HALF = np.array([3.0, 1.0, 0.5]), np.array([25.0, 15.0, 6.0])  # half widths of points and frequencies


@pytest.fixture
def by_grid(monkeypatch):
    """No direct sums, however few the points are."""
    monkeypatch.setattr(type3, "FEW", 0)
    monkeypatch.setattr(type3, "_directly", lambda *_: False)


def problem(rng, ndim, n=60, m=50, dtype=np.float64, centres=True, lead=()):
    """Points and frequencies about centres far from zero, and complex values."""
    out = []
    for half, count, far in zip(HALF, (n, m), (5, 20), strict=True):
        centre = far * rng.normal(size=ndim) if centres else 0
        out.append((centre + half[:ndim] * rng.uniform(-1, 1, (*lead, count, ndim))).astype(dtype))
    v = rng.normal(size=(*lead, n)) + 1j * rng.normal(size=(*lead, n))
    return out[0], v.astype(np.result_type(dtype, np.complex64)), out[1]


def direct(x, v, f, sign=-1):
    x, f = np.asarray(x, float), np.asarray(f, float)
    return (np.exp(1j * sign * (f @ np.swapaxes(x, -1, -2))) @ np.asarray(v)[..., None])[..., 0]


def relative(ours, exact):
    return np.linalg.norm(ours - exact) / np.linalg.norm(exact)


@pytest.mark.parametrize(
    ("ndim", "dtype", "sign"),  # 1-D and 3-D in float32, six kernels to compile, are marked slow
    [pytest.param(n, dtype, sign, marks=pytest.mark.slow if dtype == np.float32 and n != 2 else ())
     for sign in (-1, 1) for n in (1, 2, 3) for dtype in (np.float64, np.float32)],
)  # fmt: skip
def test_as_exact_as_asked_for(rng, by_grid, ndim, dtype, sign):
    x, v, f = problem(rng, ndim, dtype=dtype)
    for eps in (1e-1, 1e-3, 1e-6) if dtype == np.float32 else (1e-2, 1e-5, 1e-9, 1e-12):
        ours = gf.nufft3(x, v, f, eps=eps, sign=sign)
        assert ours.dtype == v.dtype and ours.shape == (50,)
        assert relative(ours, direct(x, v, f, sign)) <= eps
    # a wider extent: more cells, and their number as coordinates costs digits
    assert relative(gf.nufft3(x, v, f, eps=1e-6, sign=sign, extent=(16, 80)), direct(x, v, f, sign)) <= 1e-6


@pytest.mark.skipif(np.finfo(np.longdouble).eps > 1e-18, reason="long double has no more digits than double here")
@pytest.mark.parametrize("centre", (0.0, 1e6))
@pytest.mark.parametrize("n", (50, 3000))
def test_large_phases_are_as_exact_as_their_numbers(rng, centre, n):
    """Points 1e6 away and frequencies up to 1: off by 2**-53 of a million at most, and it is said."""
    half = 1.0 if centre else 1e6
    x, f = centre + half * rng.uniform(-1, 1, (n, 1)), rng.uniform(-1, 1, (2000, 1))
    v = rng.normal(size=n) + 1j * rng.normal(size=n)
    ours, info = gf.nufft3(x, v, f, eps=1e-12, return_info=True)
    exact = np.exp(-1j * (f[:40].astype(np.longdouble) @ x.T.astype(np.longdouble))) @ v
    bound = 2.0**-53 * np.abs(x).max() * np.abs(f).max()
    assert info.method == ("direct" if n == 50 and not centre else "fft")
    assert relative(ours[:40], exact) <= bound
    assert bound < info.error < 1.1 * bound
    assert gf.nufft3(x[:, [0]] / 1e6, v, f, eps=1e-12, return_info=True)[1].error < 1e-12  # nothing to be felt


def test_by_direct_sums(rng):
    x, v, f = problem(rng, 2)
    assert_allclose(gf.nufft3(x, v, f), direct(x, v, f), rtol=0, atol=1e-11)


def test_beside_finufft(rng):
    """A problem for the grid; in two precisions."""
    finufft = pytest.importorskip("finufft")
    for dtype in (np.float64, np.float32):
        x, v, f = problem(rng, 2, 3000, 2000, dtype)
        theirs = finufft.nufft2d3(
            *x.T.astype(float).copy(), v.astype(complex), *f.T.astype(float).copy(), isign=-1, eps=1e-10
        )
        assert relative(gf.nufft3(x, v, f, eps=1e-5), theirs) <= 1e-5


def test_batches_of_points_and_of_frequencies(rng, by_grid):
    x, v, f = problem(rng, 2, lead=(3,))
    assert_allclose(gf.nufft3(x, v, f, eps=1e-9), direct(x, v, f), atol=1e-6)
    w = rng.normal(size=(3, 2, 60))  # real, with one axis more
    expected = np.stack([direct(x, w[:, i], f) for i in range(2)], 1)
    assert_allclose(gf.nufft3(x, w, f, eps=1e-9), expected, atol=1e-6)
    assert_allclose(gf.nufft3(x, v, f[0], eps=1e-9), direct(x, v, f[:1]), atol=1e-6)
    assert_allclose(gf.nufft3(x[0], v, f, eps=1e-9), direct(x[:1], v, f), atol=1e-6)
    assert_allclose(gf.nufft3(x[0], w, f[0], eps=1e-9), direct(x[0], w, f[0]), atol=1e-6)


@pytest.mark.parametrize("n", (0, 1))
@pytest.mark.parametrize("m", (0, 1, 5))
def test_few_or_none(rng, by_grid, n, m):
    x, v, f = problem(rng, 2, n, m)
    assert_allclose(gf.nufft3(x, v, f), direct(x, v, f), atol=1e-6)
    assert gf.nufft3(np.zeros((3, n, 2)), np.zeros((3, n)), f).shape == (3, m)


def test_extents_of_nothing(rng, by_grid):
    """All points, or all frequencies, in one place; or nearly so."""
    x, v, f = problem(rng, 2)
    for scale_x, scale_f in ((0, 1), (1, 0), (0, 0), (1e-9, 1e-9), (1e-9, 1)):
        x1, f1 = x[0] + scale_x * (x - x[0]), f[0] + scale_f * (f - f[0])
        assert relative(gf.nufft3(x1, v, f1, eps=1e-9), direct(x1, v, f1)) < 1e-8


# centres are a factor, on any number of axes alike: one pair is marked slow (second derivatives take 7 s each)
@pytest.mark.parametrize(("ndim", "centres"), [(1, True), (2, False), *[pytest.param(*p, marks=pytest.mark.slow)
                                                                       for p in ((1, False), (2, True))]])  # fmt: skip
def test_derivatives(rng, by_grid, ndim, centres):
    """In points, values and frequencies, of both orders, forward mode too."""
    x, v, f = (torch.from_numpy(a).requires_grad_() for a in problem(rng, ndim, 5, 4, centres=centres))

    def run(x, v, f):
        return gf.nufft3(x, v, f, eps=1e-12, extent=(40, 150))

    assert torch.autograd.gradcheck(run, (x, v, f), check_forward_ad=True)
    assert torch.autograd.gradgradcheck(run, (x, v, f), atol=1e-3, rtol=1e-4)


def test_derivatives_are_as_exact_as_eps(rng, by_grid):
    x, v, f = (torch.from_numpy(a).requires_grad_() for a in problem(rng, 2))
    weights = torch.from_numpy(rng.normal(size=50)) * 1j

    def gradients(y):
        return torch.autograd.grad((weights * y).real.sum(), (x, v, f))

    exact = gradients(torch.exp(-1j * (f @ x.T)) @ v)
    for eps in (1e-3, 1e-6, 1e-9):
        for ours, theirs in zip(gradients(gf.nufft3(x, v, f, eps=eps)), exact, strict=True):
            assert relative(ours.numpy(), theirs.numpy()) <= 2 * eps


def test_derivatives_where_hardly_a_wave_fits_in(rng, by_grid):
    """Sums that are all the same have derivatives that are small beside them."""
    for dtype, eps in ((np.float32, 1e-5), (np.float64, 1e-9)):
        x, v, f = (torch.from_numpy(a) for a in problem(rng, 2, dtype=dtype, centres=False))
        small = [t.clone().requires_grad_() for t in (x / 100, f / 10)]
        exact = [t.detach().double().requires_grad_() for t in small]
        gf.nufft3(small[0], v, small[1], eps=eps).real.sum().backward()
        (torch.exp(-1j * (exact[1] @ exact[0].T)) @ v.to(torch.complex128)).real.sum().backward()
        for ours, theirs in zip(small, exact, strict=True):
            assert relative(ours.grad.numpy(), theirs.grad.numpy()) <= 2 * eps


@pytest.mark.parametrize("title", FRAMEWORKS)
def test_every_framework(rng, by_grid, title):
    """Value, gradient and compiled value, where there are such."""
    framework = FRAMEWORKS[title]
    dtype = np.float64 if framework.face != "jax" or jax.config.jax_enable_x64 else np.float32
    x, v, f = problem(rng, 2, 20, 15, dtype, centres=False)
    arrays = [framework.asarray(a) for a in (x, v, f)]

    def run(x, v, f):
        return gf.nufft3(x, v, f, eps=1e-5, extent=(4.0, (30.0, 20.0)))

    assert relative(framework.numpy(run(*arrays)), direct(x, v, f)) < 1e-5
    if hasattr(framework, "compile"):
        assert relative(framework.numpy(framework.compile(run)(*arrays)), direct(x, v, f)) < 1e-5


def test_gradient_in_jax_and_tensorflow(rng, by_grid):
    x, v, f = problem(rng, 2, 20, 15, np.float32, centres=False)
    tx, tv, tf_ = (torch.from_numpy(a).requires_grad_() for a in (x, v, f))
    exact = torch.autograd.grad((torch.exp(-1j * (tf_ @ tx.T)) @ tv).real.sum(), (tx, tf_))

    def real(x, f):
        return jnp.real(gf.nufft3(x, jnp.asarray(v), f, eps=1e-5, extent=(4, 30))).sum()

    for ours, theirs in zip(jax.jit(jax.grad(real, (0, 1)))(jnp.asarray(x), jnp.asarray(f)), exact, strict=True):
        assert relative(np.asarray(ours), theirs.numpy()) < 1e-4
    a, b = tf.constant(x), tf.constant(f)
    with tf.GradientTape() as tape:
        tape.watch((a, b))
        y = tf.reduce_sum(tf.math.real(gf.nufft3(a, tf.constant(v), b, eps=1e-5)))
    for ours, theirs in zip(tape.gradient(y, (a, b)), exact, strict=True):
        assert relative(ours.numpy(), theirs.numpy()) < 1e-4


def test_sizes_that_a_graph_does_not_know(rng):
    x, v, f = problem(rng, 2, 70, 60, centres=False)
    unknown = [tf.TensorSpec([None, 2], tf.float64), tf.TensorSpec([None], tf.complex128)]
    run = tf.function(
        lambda x, v, f: gf.nufft3(x, v, f, extent=(4, 30)),
        input_signature=[*unknown, tf.TensorSpec([None, 2], tf.float64)],
    )
    assert relative(run(x, v, f).numpy(), direct(x, v, f)) < 1e-6


def test_mapped_and_differentiated_by_torch_func(rng, by_grid):
    x, v, f = map(torch.from_numpy, problem(rng, 2, 9, 7, centres=False, lead=(3,)))

    def run(x, v, f):
        return gf.nufft3(x, v, f, eps=1e-9, extent=(4, 30))

    assert_allclose(torch.func.vmap(run)(x, v, f), direct(x, v, f), atol=1e-6)
    assert_allclose(torch.func.vmap(run, (None, 0, None))(x[0], v, f[0]), direct(x[0], v, f[0]), atol=1e-6)
    g = torch.func.grad(lambda x: run(x, v[0], f[0]).real.sum())(x[0])
    assert g.shape == (9, 2) and torch.isfinite(g).all()


def test_beyond_the_extent_is_nan_where_traced(rng, by_grid):
    x, v, f = (jnp.asarray(a) for a in problem(rng, 2, 20, 15, np.float32, centres=False))
    run = jax.jit(lambda x, f: gf.nufft3(x, v, f, eps=1e-4, extent=(4, 30)))
    assert np.isnan(run(x.at[0, 1].set(5), f)).all()
    assert np.isnan(run(x.at[0, 1].set(np.nan), f)).all()
    assert np.isnan(run(x, f.at[3, 0].set(-31))).nonzero()[0].tolist() == [3]


@pytest.mark.parametrize(
    ("change", "error", "message"),
    (
        ({"frequencies": np.zeros((4, 3))}, ValueError, "frequencies has 3 coordinates"),
        ({"frequencies": np.zeros(4)}, ValueError, r"frequencies must have shape \(N, ndim\)"),
        (
            {"frequencies": np.zeros((4, 2), np.float32)},
            TypeError,
            "frequencies has dtype float32 but the others float64",
        ),
        ({"frequencies": np.full((4, 2), np.nan)}, ValueError, "frequencies has a coordinate that is not finite"),
        ({"values": np.zeros(6)}, ValueError, r"values has shape \(6,\) but must end in the number of points"),
        (
            {"points": np.zeros((2, 5, 2)), "frequencies": np.zeros((3, 4, 2))},
            ValueError,
            "must be the same, or only one",
        ),
        ({"extent": 3.0}, ValueError, "extent must be a pair"),
        ({"extent": (3.0, -1.0)}, ValueError, r"extent\[1\] -1.0 must hold a positive"),
        ({"extent": (0.5, 3.0)}, ValueError, r"points reach from .* beyond extent\[0\]"),
        ({"eps": 1e-15}, ValueError, "eps must be at least 1e-12"),
        ({"sign": 2}, ValueError, r"sign must be \+1 or -1"),
    ),
)
def test_bad_input(change, error, message):
    arguments = {"points": np.ones((5, 2)), "values": np.ones(5), "frequencies": np.ones((4, 2))} | change
    with pytest.raises(error, match=message):
        gf.nufft3(arguments.pop("points"), arguments.pop("values"), arguments.pop("frequencies"), **arguments)


def test_an_extent_is_asked_for_where_it_is_not_known(rng):
    x, v, f = (jnp.asarray(a) for a in problem(rng, 2, 100, 100, np.float32))
    with pytest.raises(ValueError, match="extent of the points and of the frequencies has to be known"):
        jax.jit(gf.nufft3)(x, v, f)
    assert jax.jit(gf.nufft3)(x[:9], v[:9], f).shape == (100,)  # so few are summed directly


def test_a_grid_that_does_not_fit_is_named(rng):
    for far in (1e4, 1e9, 1e200):
        x, f = far * rng.normal(size=(5000, 3)), far * rng.normal(size=(5000, 3))
        with pytest.raises(MemoryError, match=r"need a grid of shape .* GiB, and this machine has"):
            gf.nufft3(x, np.ones(5000), f)
    few = gf.nufft3(x[:100] / 1e194, np.ones(100), f[:100] / 1e194)  # 1e6 each: no grid for so few
    assert relative(few, direct(x[:100] / 1e194, np.ones(100), f[:100] / 1e194)) < 1e-3
