"""Points are convolved as by going through all pairs, and a module learns the kernel."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tensorflow as tf
import torch
from cases import in_turn

import gridfield as gf
from gridfield.torch import PointConvolution

TAU = 2 * np.pi
ARRAYS = {"numpy": np.asarray, "torch": torch.as_tensor, "jax": jnp.asarray, "tensorflow": tf.constant}
NAMED = {
    "gaussian": lambda q: np.exp(-q / 2),
    "matern32": lambda q: (1 + np.sqrt(3 * q)) * np.exp(-np.sqrt(3 * q)),
    "matern52": lambda q: (1 + np.sqrt(5 * q) + 5 * q / 3) * np.exp(-np.sqrt(5 * q)),
}


@pytest.fixture(autouse=True, scope="module")
def double():
    with jax.enable_x64(True):
        yield


def displacements(at, points, period=None):
    r = at[:, None] - points
    return r if period is None else (r + period / 2) % period - period / 2


def direct(kernel, at, points, values, period=None):
    return kernel((displacements(at, points, period) ** 2).sum(-1)) @ values


@pytest.mark.parametrize(("ndim", "eps"), in_turn([1, 2, 3], [1e-3, 1e-6, 1e-9], keep=(0,)))
def test_gaussian_on_the_torus(rng, ndim, eps):
    points, at, values = rng.uniform(-9, 9, (50, ndim)), rng.uniform(-9, 9, (30, ndim)), rng.normal(size=50)
    found = gf.convolve_points(points, values, "gaussian", length=0.4, at=at, eps=eps)
    expected = direct(lambda q: np.exp(-q / 0.32), at, points, values, TAU)
    assert found.dtype == np.float64
    assert np.abs(found - expected).max() <= eps * np.abs(values).sum()


@pytest.mark.parametrize(("name", "far"), in_turn(NAMED, [0, 100], keep=(0,)))
def test_without_a_period(rng, name, far):
    eps = 1e-6 if name == "gaussian" else 1e-4
    points, at, values = far + rng.normal(size=(60, 2)), far + rng.normal(size=(40, 2)), rng.normal(size=60) + 1j
    found = gf.convolve_points(points, values, name, length=0.8, at=at, period=None, eps=eps)
    expected = direct(lambda q: NAMED[name](q / 0.64), at, points, values)
    assert np.abs(found - expected).max() <= 2 * eps * np.abs(values).sum()


def test_kernels_that_do_not_die_away(rng):
    """As they are cut off beyond all distances."""
    points, values = rng.uniform(0, 3, (60, 2)) * [1, 0.2], rng.normal(size=60)
    for kernel in (lambda q: np.sqrt(1 + q), lambda q: 1 / (0.5 + q)):
        found = gf.convolve_points(points, values, kernel, period=None)
        expected = direct(kernel, points, points, values)
        most = kernel(np.array([0.0, 10.0])).max()
        assert np.abs(found - expected).max() <= 1e-6 * np.abs(values).sum() * most


def test_kernels_of_displacements(rng):
    """A derivative of a Gaussian, which is odd; and its complex wave."""
    points, values = rng.uniform(-2, 2, (40, 2)), rng.normal(size=40)

    def odd(r):
        return r[..., 0] * np.exp(-(r**2).sum(-1))

    found = gf.convolve_points(points, values, odd, radial=False, period=None, eps=1e-8)
    assert np.allclose(found, odd(displacements(points, points)) @ values, atol=1e-6)

    def wave(r):
        return np.exp(3j * r[..., 1] - 8 * (r**2).sum(-1))

    found = gf.convolve_points(points, values, wave, radial=False, eps=1e-8)
    assert found.dtype == np.complex128
    assert np.allclose(found, wave(displacements(points, points, TAU)) @ values, atol=1e-6)


@pytest.mark.parametrize("order", ["fft", "centered"])
def test_fourier_kernels_are_ffts_of_images(rng, order):
    k = (np.arange(16) + 8) % 16 - 8
    image = np.exp(-((k[:, None] / 2) ** 2 + (k / 3) ** 2))  # the origin first
    modes = np.fft.fft2(image) if order == "fft" else np.fft.fftshift(np.fft.fft2(image))
    corner, one = np.zeros((1, 2)), np.ones(1)
    at = np.stack(np.meshgrid(np.arange(16), np.arange(16), indexing="ij"), -1).reshape(-1, 2) * 0.5
    found = gf.convolve_points(corner, one, fourier_kernel=modes, at=at, period=8, modes_order=order, eps=1e-9)
    assert np.allclose(found.reshape(16, 16), image, atol=1e-8)


@pytest.mark.parametrize("name", ARRAYS)
def test_frameworks_agree(rng, name):
    points, values, of = rng.uniform(-2, 2, (40, 2)), rng.normal(size=(3, 40)), ARRAYS[name]
    for how in ({}, {"period": None}):
        expected = gf.convolve_points(points, values, "matern52", length=0.7, eps=1e-4, **how)
        found = gf.convolve_points(of(points), of(values), "matern52", length=of(0.7), eps=1e-4, **how)
        assert np.allclose(np.asarray(found), expected, atol=1e-6)
    batch = gf.convolve_points(of(np.stack([points, -points])), of(values[:2]), "gaussian", length=0.7)
    one = gf.convolve_points(-points, values[1], "gaussian", length=0.7)
    assert np.allclose(np.asarray(batch)[1], one, atol=1e-5)


def test_single_precision(rng):
    points, values = rng.uniform(-2, 2, (40, 2)).astype(np.float32), rng.normal(size=40).astype(np.float32)
    found = gf.convolve_points(points, values, "gaussian", length=0.5)
    assert found.dtype == np.float32
    expected = direct(lambda q: np.exp(-2 * q), points, points, values)
    assert np.allclose(found, expected, atol=1e-5 * np.abs(values).sum())


def test_derivatives(rng):
    points = torch.tensor(rng.uniform(-2, 2, (8, 2)), requires_grad=True)
    values, length = torch.tensor(rng.normal(size=8), requires_grad=True), torch.tensor(0.8, dtype=torch.float64)
    length.requires_grad_()

    def f(points, values, length):
        return gf.convolve_points(points, values, "gaussian", length=length, eps=1e-10, shape=24)

    at = points.detach() + 0.1

    def g(points, values, length):
        return gf.convolve_points(points, values, lambda q: torch.exp(-q / length), at=at, eps=1e-10, shape=30)

    for h in (f, g):
        assert torch.autograd.gradcheck(h, (points, values, length), atol=1e-4)


def test_jit(rng):
    points, values = jnp.asarray(rng.uniform(-2, 2, (20, 2))), jnp.asarray(rng.normal(size=20))
    expected = gf.convolve_points(points, values, "gaussian", length=0.6)
    by_name = jax.jit(lambda x, v: gf.convolve_points(x, v, "gaussian", length=0.6))
    by_function = jax.jit(lambda x, v: gf.convolve_points(x, v, lambda q: jnp.exp(-q / 0.72), shape=32))
    assert np.allclose(by_name(points, values), expected, atol=1e-5)
    assert np.allclose(by_function(points, values), expected, atol=1e-4)
    with pytest.raises(ValueError, match="shape must be given where a compiler traces"):
        jax.jit(lambda x, v: gf.convolve_points(x, v, lambda q: jnp.exp(-q)))(points, values)
    with pytest.raises(ValueError, match=r"give extent=greatest \|coordinate\|"):
        jax.jit(lambda x, v: gf.convolve_points(x, v, "gaussian", length=1.0, period=None))(points, values)


def test_without_a_period_where_something_traces(rng):
    """Value and gradient, as the sum over all pairs has them."""
    points, at, values = rng.uniform(-2, 2, (20, 2)), rng.uniform(-1, 1, (5, 2)), rng.normal(size=20)

    def smooth(points, at, values, extent=(2.0, 3.0)):
        return gf.convolve_points(points, values, "gaussian", length=0.6, at=at, period=None, eps=1e-8, extent=extent)

    x, places = (torch.tensor(a, requires_grad=True) for a in (points, at))
    exact = torch.exp(-(torch.cdist(places, x) ** 2) / 0.72) @ torch.tensor(values)
    slopes = [s.numpy() for s in torch.autograd.grad(exact.sum(), (x, places))]
    value = exact.detach().numpy()

    assert np.allclose(smooth(points, at, values), value, atol=1e-6)
    of = [jnp.asarray(a) for a in (points, at, values)]
    assert np.allclose(jax.jit(smooth)(*of), value, atol=1e-6)
    for grad in (jax.grad(lambda *a: smooth(*a).sum(), (0, 1)), jax.jit(jax.grad(lambda *a: smooth(*a).sum(), (0, 1)))):
        assert all(np.allclose(a, b, atol=1e-5) for a, b in zip(grad(*of), slopes, strict=True))
    mapped = jax.vmap(smooth, (0, None, None))(jnp.stack([of[0], of[0] / 2]), *of[1:])
    assert np.allclose(mapped[0], value, atol=1e-6)

    in_graph = tf.function(smooth)
    a, b, v = (tf.constant(a) for a in (points, at, values))
    with tf.GradientTape() as tape:
        tape.watch((a, b))
        found = in_graph(a, b, v)
    assert np.allclose(found.numpy(), value, atol=1e-6)
    assert all(np.allclose(g.numpy(), s, atol=1e-5) for g, s in zip(tape.gradient(found, (a, b)), slopes, strict=True))

    tensors = [torch.tensor(a) for a in (points, at, values)]
    assert np.allclose(torch.compile(smooth, fullgraph=True, backend="aot_eager")(*tensors), value, atol=1e-6)
    slope = torch.func.grad(lambda p: smooth(p, *tensors[1:]).sum())(tensors[0])
    assert np.allclose(slope, slopes[0], atol=1e-5)


def test_beyond_the_extent(rng):
    points, values = rng.uniform(-2, 2, (20, 2)), np.ones(20)
    how = {"kernel": "gaussian", "length": 0.6, "period": None, "extent": 2}
    for name in ("points", "at"):
        given = {"points": points, "at": points, name: points + 3}
        with pytest.raises(ValueError, match=f"{name} reach to .*beyond extent = 2"):
            gf.convolve_points(values=values, **given, **how)
    traced = jax.jit(lambda points, at: gf.convolve_points(points, jnp.asarray(values), at=at, **how))
    inside, beyond = jnp.asarray(points), jnp.asarray(points).at[3, 1].set(2.5)
    assert np.isnan(traced(beyond, inside)).all()
    assert np.flatnonzero(np.isnan(traced(inside, beyond))).tolist() == [3]
    whole = jnp.asarray(rng.integers(-2, 3, (20, 2)))
    found = traced(whole, whole)
    assert np.allclose(found, gf.convolve_points(np.asarray(whole), values, **how), atol=1e-5)
    stated = gf.convolve_points(points, values, **how)  # of another period
    assert np.allclose(stated, gf.convolve_points(points, values, **{**how, "extent": None}), atol=1e-4)


def test_compiled_and_mapped(rng):
    points, values = torch.tensor(rng.uniform(-2, 2, (20, 2))), torch.tensor(rng.normal(size=20))
    layer = PointConvolution((8, 8), dtype=torch.float64)

    def smooth(points, values):
        return gf.convolve_points(points, values, "gaussian", length=0.6)

    for f in (smooth, layer):
        torch.compiler.reset()
        compiled = torch.compile(f, fullgraph=True, backend="aot_eager")
        assert torch.allclose(compiled(points, values), f(points, values), atol=1e-5)
        many = torch.stack([values, 2 * values])
        assert torch.allclose(torch.func.vmap(f, in_dims=(None, 0))(points, many)[1], 2 * f(points, values), atol=1e-5)
    in_graph = tf.function(smooth)(tf.constant(points.numpy()), tf.constant(values.numpy()))
    assert np.allclose(in_graph.numpy(), smooth(points, values).numpy(), atol=1e-5)


def test_few_points():
    one = gf.convolve_points(np.array([[1.0, 2.0]]), np.array([3.0]), "gaussian", length=0.5, period=None)
    assert np.allclose(one, 3, atol=1e-5)
    for period in (None, 1.0):
        none = gf.convolve_points(np.zeros((0, 2)), np.zeros(0), "gaussian", length=0.05, period=period)
        assert none.shape == (0,)


@pytest.mark.parametrize(
    ("kwargs", "error", "match"),
    [
        ({}, ValueError, "give one of kernel and fourier_kernel"),
        ({"kernel": "gaussian"}, ValueError, "needs a length"),
        ({"kernel": "gaussian", "length": -1.0}, ValueError, "length"),
        ({"kernel": "gauss", "length": 1}, ValueError, "one of gaussian, matern32, matern52"),
        ({"kernel": np.exp, "length": 1}, ValueError, "not with a function"),
        ({"kernel": 3}, TypeError, "a word or a function"),
        ({"kernel": lambda q: q[0]}, ValueError, "kernel gave an array of shape"),
        ({"kernel": lambda q: 1 / q}, ValueError, "not finite"),
        ({"kernel": lambda q: np.where(q < 1, 1.0, 0.0)}, ValueError, "not smooth"),
        ({"kernel": np.cos, "at": np.zeros((4, 3))}, ValueError, "at has shape"),
        ({"kernel": np.cos, "at": torch.zeros(4, 2)}, TypeError, "one framework"),
        ({"fourier_kernel": np.ones(4)}, ValueError, "fourier_kernel has shape"),
        ({"fourier_kernel": np.ones((4, 4)), "period": None}, ValueError, "period must be given with fourier_kernel"),
        ({"kernel": np.cos, "extent": 1.0}, ValueError, "extent goes with period=None"),
        ({"kernel": np.cos, "period": None, "extent": -1.0}, ValueError, "extent -1.0 must hold a positive"),
        ({"kernel": np.cos, "period": None, "extent": (1, 2, 3)}, ValueError, "extent has 3 values"),
        ({"kernel": np.cos, "radial": 1}, TypeError, "radial"),
    ],
)
@pytest.mark.filterwarnings("ignore:divide by zero")
def test_bad_input(kwargs, error, match):
    with pytest.raises(error, match=match):
        gf.convolve_points(np.zeros((5, 2)), np.zeros(5), **kwargs)


# ---- the module
@pytest.mark.parametrize("channels", [(1, 1), (2, 3), (3, 2), (1, 2)])
@pytest.mark.parametrize("real", [True, False])
def test_module_is_the_sum_over_pairs(rng, channels, real):
    layer = PointConvolution((6, 5), *channels, real=real, eps=1e-9, period=3.0, dtype=torch.float64)
    into, out = channels
    with torch.no_grad():
        layer.fourier_kernel.copy_(torch.fft.fft2(torch.randn(out, into, 6, 5, dtype=torch.float64)))
    points, at = torch.rand(2, 7, 2, dtype=torch.float64), torch.rand(2, 4, 2, dtype=torch.float64)
    values = torch.randn(2, into, 7, dtype=torch.float64 if real else torch.complex128)
    found = layer(points, values, at)
    k = np.stack(np.meshgrid(np.fft.fftfreq(6, 1 / 6), np.fft.fftfreq(5, 1 / 5), indexing="ij"), -1).reshape(-1, 2)
    r = (at[:, :, None] - points[:, None]).numpy()
    waves = np.exp(TAU / 3j * -(r @ k.T))
    kernel = np.einsum("bijk,ock->boicj", waves, layer.fourier_kernel.detach().numpy().reshape(out, into, -1)) / 30
    expected = np.einsum("boicj,bcj->boi", kernel, values.numpy())
    assert found.shape == (2, out, 4)
    assert np.allclose(found.detach().numpy(), expected.real if real else expected, atol=1e-7)


def test_module_begins_with_unit_variance():
    torch.manual_seed(0)
    for into, out in ((1, 1), (8, 8), (4, 16), (16, 4)):
        layer = PointConvolution((32, 32), into, out)
        result = layer(TAU * torch.rand(100, 2), torch.randn(20, into, 100))
        assert 0.8 < result.var().item() < 1.4


def test_module_derivatives():
    layer = PointConvolution(5, 2, 2, eps=1e-11, dtype=torch.float64)
    points = torch.rand(6, 1, dtype=torch.float64, requires_grad=True)
    values = torch.rand(2, 6, dtype=torch.float64, requires_grad=True)

    def f(points, values, kernel):
        return torch.func.functional_call(layer, {"fourier_kernel": kernel}, (points, values))

    assert torch.autograd.gradcheck(f, (points, values, layer.fourier_kernel))


def test_module_learns(rng):
    torch.manual_seed(0)
    r = TAU * torch.fft.fftfreq(16)
    true = PointConvolution((16, 16))
    with torch.no_grad():
        true.fourier_kernel[0, 0] = torch.fft.fft2(torch.exp(-(r[:, None] ** 2 + r**2)))
    layer = PointConvolution((16, 16))
    optimiser = torch.optim.AdamW(layer.parameters(), lr=1)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, 300)
    for _ in range(300):
        points, values = TAU * torch.rand(20, 2), torch.randn(20)
        loss = (layer(points, values) - true(points, values)).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    assert loss.item() < 1e-2
    assert (layer.kernel - true.kernel).abs().max() < 0.1
    again = PointConvolution((16, 16))
    again.load_state_dict(layer.state_dict())
    assert torch.equal(again.kernel, layer.kernel)


def test_module_bad_input():
    layer = PointConvolution((4, 4), 2)
    for args, error, match in (
        ((torch.zeros(3, 2), torch.zeros(3)), ValueError, "values has shape"),
        ((torch.zeros(3, 1), torch.zeros(2, 3)), ValueError, "points has shape"),
        ((torch.zeros(3, 2), torch.zeros(2, 3) + 0j), TypeError, "real=False"),
    ):
        with pytest.raises(error, match=match):
            layer(*args)
    with pytest.raises(ValueError, match="channels_in"):
        PointConvolution(4, 0)
    with pytest.raises(ValueError, match=r"PointConvolution: eps"):
        PointConvolution(4, eps=1e-9)
    with pytest.raises(TypeError, match="dtype"):
        PointConvolution(4, dtype=torch.float16)


def _layer(channels, real):
    layer = PointConvolution((6, 5), *channels, real=real, eps=1e-10, dtype=torch.float64)
    with torch.no_grad():
        layer.fourier_kernel.copy_(torch.randn_like(layer.fourier_kernel))
    return layer


@pytest.mark.parametrize("channels", [(1, 1), (2, 3), (1, 2), (3, 1)])
@pytest.mark.parametrize("real", [True, False])
@pytest.mark.parametrize("lead", [((), ()), ((), (4,)), ((2,), (2,)), ((2,), (2, 3))])
def test_module_gives_the_same_when_only_the_kernel_is_followed(channels, real, lead):
    torch.manual_seed(0)
    layer, (batch, of_values) = _layer(channels, real), lead
    points, at = torch.randn(*batch, 7, 2, dtype=torch.float64), torch.randn(*batch, 4, 2, dtype=torch.float64)
    values = torch.randn(*of_values, channels[0], 7, dtype=torch.float64 if real else torch.complex128)
    for where in (None, at, at[0] if batch else at):
        found = layer(points, values, where)
        (gradient,) = torch.autograd.grad(found.abs().square().sum(), layer.fourier_kernel)
        followed = layer(points.clone().requires_grad_(), values, where)
        (expected,) = torch.autograd.grad(followed.abs().square().sum(), layer.fourier_kernel)
        assert found.shape == followed.shape and found.dtype == followed.dtype
        assert torch.allclose(found, followed, atol=1e-8)
        assert torch.allclose(gradient, expected, rtol=1e-7, atol=1e-7)


def test_module_second_derivatives_in_the_kernel():
    layer, points = _layer((2, 2), real=True), torch.randn(7, 2, dtype=torch.float64)
    values = torch.randn(2, 7, dtype=torch.float64)

    def f(kernel):
        return torch.func.functional_call(layer, {"fourier_kernel": kernel}, (points, values)) ** 3

    kernel = layer.fourier_kernel.detach().requires_grad_()
    assert torch.autograd.gradcheck(f, (kernel,)) and torch.autograd.gradgradcheck(f, (kernel,))
    numbers = torch.view_as_real(kernel.detach()).requires_grad_()
    rows, mapped, functional = (
        jacobian(lambda x: f(torch.view_as_complex(x)), numbers)
        for jacobian in (
            torch.autograd.functional.jacobian,
            functools.partial(torch.autograd.functional.jacobian, vectorize=True),
            lambda g, x: torch.func.jacrev(g)(x),
        )
    )
    assert torch.equal(mapped, rows) and torch.allclose(functional, rows, atol=1e-7)


def test_module_notices_changes_between_forward_and_backward():
    layer = _layer((1, 1), real=True)
    points, values = torch.randn(7, 2, dtype=torch.float64), torch.randn(7, dtype=torch.float64)
    out = layer(points, values)
    points += 1
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        out.sum().backward()


def test_module_bad_places():
    layer = _layer((1, 1), real=True)
    points, values = torch.randn(3, 7, 2, dtype=torch.float64), torch.randn(3, 1, 7, dtype=torch.float64)
    for at, match in (
        (torch.full((3, 4, 2), torch.nan, dtype=torch.float64), "not finite"),
        (torch.zeros(2, 4, 2, dtype=torch.float64), "batch axes"),
        (torch.zeros(3, 4, 1, dtype=torch.float64), "axis|axes|coordinates"),
        (torch.zeros(2, dtype=torch.float64), "shape"),
    ):
        with pytest.raises(ValueError, match=match):
            layer(points, values, at)
    assert layer(points, values, torch.zeros(3, 0, 2, dtype=torch.float64)).shape == (3, 1, 0)
    assert layer(points[:, :0], values[..., :0]).shape == (3, 1, 0)


def test_module_in_another_precision():
    layer, points = PointConvolution((4, 3)), torch.randn(7, 2, dtype=torch.float64)
    values = torch.randn(7, dtype=torch.float64)
    with pytest.raises(TypeError, match=r"float64 but the kernel is torch\.complex64"):
        layer(points, values)
    assert layer(points.float(), values.float()).dtype == torch.float32
    before = layer.fourier_kernel.detach().clone()
    for convert in (lambda: layer.double(), lambda: layer.to(torch.float64)):
        assert convert().fourier_kernel.dtype == torch.complex128
        assert torch.equal(layer.fourier_kernel, before.to(torch.complex128))
        assert layer(points, values).dtype == torch.float64
        layer.float()
        assert torch.equal(layer.fourier_kernel, before)


def test_module_bad_tensors():
    layer, points, values = PointConvolution((4, 3)), torch.zeros(7, 2), torch.zeros(7)
    for args, error, match in (
        ((points.numpy(), values), TypeError, r"points must be a torch.Tensor"),
        ((points, values, [0.0, 0.0]), TypeError, r"at must be a torch.Tensor"),
        ((torch.tensor(0.0), values), ValueError, "points has shape"),
        ((points, torch.tensor(0.0)), ValueError, "values has shape"),
        ((points, values, torch.zeros(3, 1)), ValueError, r"at has shape \(3, 1\) but the kernel 2 axes"),
    ):
        with pytest.raises(error, match=match):
            layer(*args)
    with pytest.raises(ValueError, match="no axes"):
        PointConvolution(())


def test_at_a_grid_or_an_array_of_places(rng):
    points, values = rng.normal(size=(7, 2)), rng.normal(size=(3, 7))
    grid = gf.Grid((5, 4), bounds=[(-1, 1), (-2, 2)])
    how = {"kernel": "gaussian", "length": 0.5, "period": None}
    expected = gf.convolve_points(points, values, at=grid.coords().reshape(-1, 2), **how).reshape(3, 5, 4)
    for at in (grid, grid.coords()):
        assert np.allclose(gf.convolve_points(points, values, at=at, **how), expected)
    tensor = gf.convolve_points(torch.tensor(points), torch.tensor(values), at=grid, **how)
    assert np.allclose(tensor.numpy(), expected)


def test_modes_that_do_not_fit_into_memory():
    points = np.zeros((3, 2))
    with pytest.raises(MemoryError, match=r"40000.*GiB"):
        gf.convolve_points(points, np.ones(3), "gaussian", length=1.0, shape=(400_000,) * 2)
