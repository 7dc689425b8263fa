"""gf.Nufft is the matrix of waves: its adjoint, transpose, normal equations, their solutions, sums and products."""

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tensorflow as tf
import torch

import gridfield as gf
from gridfield import check
from gridfield.cpu import direct, places
from gridfield.linear import Operator
from gridfield.torch import PointConvolution

SHAPES = [(7,), (6, 5), (1, 4), (3, 4, 2)]
ARRAYS = {"numpy": np.asarray, "torch": torch.as_tensor, "jax": jnp.asarray, "tensorflow": tf.constant}


@pytest.fixture(autouse=True, scope="module")
def double():
    with jax.enable_x64(True):
        yield


def matrix(points, shape, sign=1, order="centered", period=2 * np.pi):
    """(N, modes)."""
    k = np.stack([g.ravel() for g in np.meshgrid(*(np.arange(n) - n // 2 for n in shape), indexing="ij")])
    if order == "fft":
        roll = np.fft.ifftshift(np.arange(k.shape[1]).reshape(shape)).ravel()
        k = k[:, roll]
    return np.exp(sign * 2j * np.pi / period * (points @ k))


def draw(rng, *shape):
    return rng.normal(size=shape) + 1j * rng.normal(size=shape)


@pytest.mark.parametrize("order", ["centered", "fft"])
@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("shape", SHAPES)
def test_is_the_matrix(rng, shape, sign, order):
    points = rng.uniform(-9, 9, (40, len(shape)))
    op = gf.Nufft(points, shape, eps=1e-10, sign=sign, modes_order=order, period=3.0)
    a = matrix(points, shape, sign, order, 3.0)
    m, y, w = draw(rng, a.shape[1]), draw(rng, 40), rng.uniform(size=40)
    grid = m.reshape(shape)
    scale = np.sqrt(a.size)
    assert np.allclose(op(grid), a @ m, atol=1e-9 * scale)
    assert np.allclose(op.adjoint(y).ravel(), a.conj().T @ y, atol=1e-9 * scale)
    assert np.allclose(op.H(y), op.adjoint(y))
    assert np.allclose(op.T(y).ravel(), a.T @ y, atol=1e-9 * scale)
    assert np.allclose(op.T.T(grid), op(grid)) and np.allclose(op.H.H(grid), op(grid))
    for weights, expected in ((None, a.conj().T @ (a @ m)), (w, a.conj().T @ (w * (a @ m)))):
        assert np.allclose(op.normal(grid, weights).ravel(), expected, atol=1e-9 * scale * 7)


@pytest.mark.parametrize("eps", [1e-3, 1e-6, 1e-9, 1e-12])
def test_normal_is_as_exact_as_eps(rng, eps):
    points = rng.uniform(-np.pi, np.pi, (3000, 2))
    op, a = gf.Nufft(points, (16, 15), eps=eps), matrix(points, (16, 15))
    m = draw(rng, 16, 15)
    expected = (a.conj().T @ (a @ m.ravel())).reshape(16, 15)
    assert np.linalg.norm(op.normal(m) - expected) <= eps * np.linalg.norm(expected)
    assert np.vdot(m, op.normal(m)).imag <= 1e-12 * np.vdot(m, op.normal(m)).real  # Hermitian to rounding


@pytest.mark.parametrize("dtype", ["complex64", "complex128"])
@pytest.mark.parametrize("order", ["centered", "fft"])
@pytest.mark.parametrize("shape", [(1, 1), (2, 1), (1, 9), (40, 50), (9, 17, 33), (3, 1, 4, 2)], ids=str)
def test_normal_by_our_kernel_and_by_the_framework_s_fft(rng, shape, order, dtype):
    """The kernel takes numbers; where weights are followed too the FFTs are torch's."""
    real = "float32" if dtype == "complex64" else "float64"
    points, m = rng.uniform(-3, 3, (2, 30, len(shape))).astype(real), draw(rng, 2, 3, *shape).astype(dtype)
    w = rng.uniform(0.5, 1, (2, 30)).astype(real)
    ours, theirs = (gf.Nufft(x, shape, modes_order=order) for x in (points, torch.from_numpy(points)))
    leaf, v = torch.from_numpy(m).requires_grad_(), torch.from_numpy(w)
    by_fft = theirs.normal(leaf, v.clone().requires_grad_())
    (slope,) = torch.autograd.grad(theirs.normal(leaf, v), leaf, torch.from_numpy(m))  # Hermitian: the same again
    (slope_by_fft,) = torch.autograd.grad(by_fft, leaf, torch.from_numpy(m))
    for got in (ours.normal(m, w), theirs.normal(leaf.detach(), v).numpy(), slope.numpy(), slope_by_fft.numpy()):
        assert got.dtype == dtype
        assert np.linalg.norm(got - by_fft.detach().numpy()) <= 2e-6 * np.linalg.norm(got)


@pytest.mark.slow
@pytest.mark.filterwarnings(r"ignore:`torch.jit.script\w*` is deprecated:DeprecationWarning")  # torch's own
def test_derivatives_of_normal_in_modes_and_weights(rng):
    op = gf.Nufft(torch.tensor(rng.uniform(-3, 3, (9, 2))), (3, 4))
    m, w = torch.tensor(draw(rng, 2, 3, 4), requires_grad=True), torch.tensor(rng.uniform(0.5, 1, 9))
    for weights in (w, w.clone().requires_grad_()):
        assert torch.autograd.gradcheck(op.normal, (m, weights), check_forward_ad=True, check_batched_grad=True)
        assert torch.autograd.gradgradcheck(op.normal, (m, weights), check_fwd_over_rev=True)
    y = op(m).detach().requires_grad_()
    assert torch.autograd.gradcheck(lambda y: op.solve(y, damping=1, iterations=3), y)
    conjugated = torch.conj(m.detach())  # lazily: a bit
    assert torch.allclose(op.normal(conjugated), op.normal(conjugated.resolve_conj()))


def test_normal_has_the_same_bits_for_any_number_of_threads(rng):
    op, m = gf.Nufft(rng.uniform(-3, 3, (30, 3)), (30, 20, 40)), draw(rng, 30, 20, 40)
    expected = op.normal(m)
    try:
        for n in (1, 2, 5):
            gf.set_num_threads(n)
            assert np.array_equal(op.normal(m), expected)
            assert np.array_equal(op.normal(np.asfortranarray(m)), expected)
    finally:
        gf.set_num_threads(None)


def test_single_precision(rng):
    points = rng.uniform(-np.pi, np.pi, (300, 2)).astype(np.float32)
    op, m = gf.Nufft(points, (8, 8), eps=1e-5), draw(rng, 8, 8).astype(np.complex64)
    expected = op.adjoint(op(m))
    assert op.normal(m).dtype == np.complex64 and op.density_weights().dtype == np.float32
    assert np.linalg.norm(op.normal(m) - expected) <= 3e-5 * np.linalg.norm(expected)


@pytest.mark.parametrize("name", ARRAYS)
def test_frameworks_agree(rng, name):
    points, m, w = rng.uniform(-3, 3, (50, 2)), draw(rng, 2, 5, 4), rng.uniform(0.5, 1, 50)
    of = ARRAYS[name]
    ours, theirs = gf.Nufft(points, (5, 4), eps=1e-9), gf.Nufft(of(points), (5, 4), eps=1e-9)
    for f in (
        lambda op, of: op.normal(of(m), of(w)),
        lambda op, of: op.density_weights(5),
        lambda op, of: op.solve(of(ours(m)), weights=of(w), damping=0.1, tol=1e-10),
        lambda op, of: (of(w + 0j) * op)(of(m)),
        lambda op, of: op.T(of(ours(m))),
    ):
        assert np.allclose(np.asarray(f(theirs, of)), f(ours, np.asarray), atol=1e-7)
    assert isinstance(of(w) * theirs, Operator)


def test_batches_of_points(rng):
    points, m, w = rng.uniform(-3, 3, (3, 50, 2)), draw(rng, 3, 2, 4, 5), rng.uniform(0.5, 1, (3, 50))
    op, maps = gf.Nufft(points, (4, 5), eps=1e-9), draw(rng, 2, 4, 5)
    many = op.normal(m, w), op.density_weights(4), op.solve(op(m), weights=w, tol=1e-10)
    joint = op.solve(op(m[:, :1] * maps), sense_maps=maps, tol=1e-10)
    for i in range(3):
        one = gf.Nufft(points[i], (4, 5), eps=1e-9)
        each = one.normal(m[i], w[i]), one.density_weights(4), m[i]
        for a, b in zip(many, each, strict=True):
            assert np.allclose(a[i], b, atol=1e-6)
        assert np.allclose(joint[i], m[i, 0], atol=1e-6)


def test_density_weights_undo_the_density(rng):
    x = np.pi * np.sign(t := rng.uniform(-1, 1, 400)) * np.abs(t) ** 2  # dense in the middle
    op = gf.Nufft(x[:, None], 16)
    w = op.density_weights(200)
    assert (w > 0).all() and np.allclose(abs(op(op.adjoint(w + 0j))), 1, atol=0.1)
    m = draw(rng, 16)
    spread = [np.linalg.norm(op.adjoint(v * op(m)) / v.sum() - m) for v in (w, np.ones(400))]
    assert spread[0] < 0.5 * spread[1]


def test_solution_is_that_of_least_squares(rng):
    points, y, w = rng.uniform(-np.pi, np.pi, (80, 2)), draw(rng, 80), rng.uniform(size=80)
    op, a = gf.Nufft(points, (5, 6), eps=1e-11), matrix(points, (5, 6))
    found = op.solve(y, weights=w, damping=0.3, tol=1e-11, iterations=300)
    expected = np.linalg.solve(a.conj().T @ (w[:, None] * a) + 0.3 * np.eye(30), a.conj().T @ (w * y))
    assert np.allclose(found.ravel(), expected, atol=1e-8)
    assert np.array_equal(op.solve(0 * y), np.zeros((5, 6)))
    assert np.array_equal(op.solve(y, iterations=0), np.zeros((5, 6)))


def test_sense(rng):
    points, maps = rng.uniform(-np.pi, np.pi, (25, 2)), draw(rng, 4, 5, 6)
    y, w = draw(rng, 3, 4, 25), rng.uniform(size=25)
    a = np.concatenate([np.sqrt(w)[:, None] * matrix(points, (5, 6)) * s.ravel() for s in maps])
    op = gf.Nufft(points, (5, 6), eps=1e-11)
    found = op.solve(y, weights=w, sense_maps=maps, damping=0.1, tol=1e-11, iterations=300)
    right = (np.sqrt(w) * y).reshape(3, -1) @ a.conj()
    expected = np.linalg.solve(a.conj().T @ a + 0.1 * np.eye(30), right.T).T
    assert np.allclose(found.reshape(3, 30), expected, atol=1e-8)


def test_algebra(rng):
    points = rng.uniform(-3, 3, (2, 20, 1))
    a, b = (gf.Nufft(p, 6, eps=1e-10) for p in points)
    p, q = (matrix(x, (6,)) for x in points)
    v, w, m, y = draw(rng, 6), draw(rng, 20), draw(rng, 6), draw(rng, 20)
    for op, dense in (
        (a + b, p + q),
        (a - b, p - q),
        (-a, -p),
        (2j * a, 2j * p),
        (w * a, w[:, None] * p),
        (a * v, p * v),
        (a.H @ b, p.conj().T @ q),
        ((a + 3 * b).T @ (w * a), (p + 3 * q).T @ (w[:, None] * p)),
    ):
        z = y if len(dense) == 20 else m
        assert np.allclose(op @ m, dense @ m, atol=1e-7)
        assert np.allclose(op.adjoint(z), dense.conj().T @ z, atol=1e-7)
        assert np.allclose(op.T(z), dense.T @ z, atol=1e-7)
    with pytest.raises(TypeError, match="A @ B"):
        a * b


def test_derivatives_in_the_points(rng):
    x = torch.tensor(rng.uniform(-3, 3, (9, 2)), requires_grad=True)
    m, w = torch.tensor(draw(rng, 3, 4), requires_grad=True), torch.tensor(rng.uniform(0.5, 1, 9), requires_grad=True)
    y = torch.tensor(draw(rng, 9), requires_grad=True)

    def op(x):
        return gf.Nufft(x, (3, 4), eps=1e-11)

    assert torch.autograd.gradcheck(lambda x, m, w: op(x).normal(m, w), (x, m, w))
    assert torch.autograd.gradcheck(lambda m, w: op(x.detach()).normal(m, w), (m, w))
    assert torch.autograd.gradcheck(lambda x, y, w: op(x).solve(y, weights=w, damping=1, iterations=3), (x, y, w))
    assert torch.autograd.gradcheck(lambda x: op(x).density_weights(2), (x,))


def test_points_that_an_optimiser_moves(rng):
    points = torch.tensor(rng.uniform(-3, 3, (9, 1)), requires_grad=True)
    op, m = gf.Nufft(points, 6), torch.tensor(draw(rng, 6))
    with torch.no_grad():
        first = op.normal(m)
        points += 0.3
        second = op.normal(m)
        assert not torch.allclose(first, second)
        assert torch.allclose(second, op.adjoint(op(m)), atol=1e-4)


def test_points_of_numpy_are_copied(rng):
    points, m = rng.uniform(-3, 3, (9, 1)), draw(rng, 6)
    op = gf.Nufft(points, 6)
    before = op(m)
    points += 1
    assert np.array_equal(op(m), before)


@pytest.mark.parametrize("name", ["numpy", "torch"])
@pytest.mark.parametrize("n", [5, 20_000])  # summed directly, and sorted
def test_points_are_located_once(rng, name, n, monkeypatch):
    points, m, y = rng.uniform(-9, 9, (2, n, 2)), draw(rng, 2, 3, 20, 24), draw(rng, 2, n)
    expected = gf.nufft2(points, m), gf.nufft1(points, y, (20, 24))
    count = []
    for thing in (places.Located, direct.Tables):
        make = thing.__init__
        monkeypatch.setattr(thing, "__init__", lambda *args, make=make: (count.append(0), make(*args))[1])
    of = ARRAYS[name]
    op = gf.Nufft(of(points), (20, 24))
    for _ in range(2):
        assert np.array_equal(op(of(m)), expected[0])
        assert np.array_equal(op.adjoint(of(y)), expected[1])
    assert len(count) == 2  # one for each item of the batch
    op.density_weights(2)  # on twice as many modes
    assert len(count) == 4
    gf.nufft2(of(points), of(m))  # who calls the function may change the points
    assert len(count) == 6


def test_points_of_a_backward_pass_are_located_once(rng, monkeypatch):
    found = []
    make = places.Located.__init__
    monkeypatch.setattr(places.Located, "__init__", lambda *args: (found.append(0), make(*args))[1])
    x = torch.tensor(rng.uniform(-9, 9, (20_000, 2)), requires_grad=True)
    m = torch.tensor(draw(rng, 8, 8), requires_grad=True)
    got = torch.autograd.grad(gf.Nufft(x, (8, 8))(m).abs().square().sum(), (x, m))
    assert len(found) == 1
    found.clear()
    expected = torch.autograd.grad(gf.nufft2(x, m).abs().square().sum(), (x, m))
    assert len(found) == 1
    layer = PointConvolution((8, 8), dtype=torch.float64)
    found.clear()
    layer(x, torch.ones(20_000, dtype=torch.float64)).sum().backward()
    assert len(found) == 1
    assert all(map(torch.equal, got, expected))


@pytest.mark.parametrize("n", [5, 20_000])
def test_tensors_changed_in_place_are_located_anew(rng, n):
    x, m, y = torch.tensor(rng.uniform(-9, 9, (n, 2))), torch.tensor(draw(rng, 8, 8)), torch.tensor(draw(rng, n))
    op = gf.Nufft(x, (8, 8))
    for _ in range(3):
        assert torch.equal(op(m), gf.nufft2(x, m)) and torch.equal(op.adjoint(y), gf.nufft1(x, y, (8, 8)))
        x += 0.3
    x.data = torch.tensor(rng.uniform(-9, 9, (n, 2)))  # other memory
    assert torch.equal(op(m), gf.nufft2(x, m))
    x.requires_grad_()
    value = op(m.clone().requires_grad_())
    with torch.no_grad():
        x += 1
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        value.abs().sum().backward()


@pytest.mark.parametrize("change", ["transposed", "integers", "inference"])
def test_points_that_reach_the_kernels_as_copies(rng, change):
    with torch.inference_mode(change == "inference"):
        x = torch.tensor(rng.uniform(-9, 9, (2, 20_000)))
        x = x.T if change == "transposed" else x.T.contiguous()
        x, m = x.to(torch.int64) if change == "integers" else x, torch.tensor(draw(rng, 8, 8))
        op = gf.Nufft(x, (8, 8))
        for _ in range(3):
            assert torch.equal(op(m), gf.nufft2(x, m))
            x += 1


def test_points_of_numpy_are_read_only(rng):
    op = gf.Nufft(np.asfortranarray(rng.uniform(-3, 3, (9, 2))), (6, 6))
    for each in (op, pickle.loads(pickle.dumps(op)), copy.deepcopy(op)):
        with pytest.raises(ValueError, match="read-only"):
            each.points[0] = 1


@pytest.mark.parametrize("name", ["numpy", "torch"])
def test_pickled_and_copied(rng, name):
    points, m = rng.uniform(-9, 9, (20_000, 2)), ARRAYS[name](draw(rng, 8, 9))
    op = gf.Nufft(ARRAYS[name](points), (8, 9), eps=1e-4, sign=-1, modes_order="fft", period=3.0)
    before = len(pickle.dumps(op))
    expected, normal = op(m), op.normal(m)
    assert len(pickle.dumps(op)) == before < 1.1 * points.nbytes
    for other in (pickle.loads(pickle.dumps(op)), copy.copy(op), copy.deepcopy(op)):
        assert repr(other) == repr(op)
        assert np.array_equal(other(m), expected) and np.array_equal(other.normal(m), normal)


def test_threads_that_share_an_operator(rng):
    for n in (5, 20_000):
        x, m, y = rng.uniform(-9, 9, (3, n, 2)), draw(rng, 3, 20, 24), draw(rng, 3, n)
        op = gf.Nufft(x, (20, 24))

        def call(i, op=op, m=m, y=y):
            return (op(m), op.adjoint(y), op.normal(m))[i % 3]

        with ThreadPoolExecutor(6) as pool:
            got = list(pool.map(call, range(30)))
        expected = gf.nufft2(x, m), gf.nufft1(x, y, (20, 24)), op.normal(m)
        for i, each in enumerate(got):
            assert np.array_equal(each, expected[i % 3])


def test_jit(rng):
    points, m = jnp.asarray(rng.uniform(-3, 3, (30, 2))), jnp.asarray(draw(rng, 4, 4))
    outside = gf.Nufft(points, (4, 4), eps=1e-9)
    expected = outside.adjoint(outside(m))
    for _ in range(2):  # nothing of the trace is kept
        assert np.allclose(jax.jit(outside.normal)(m), expected, atol=1e-6)
    assert np.allclose(outside.normal(m), expected, atol=1e-6)
    assert np.allclose(jax.jit(lambda x, m: gf.Nufft(x, (4, 4), eps=1e-9).normal(m))(points, m), expected, atol=1e-6)
    found = jax.jit(lambda x, y: gf.Nufft(x, (4, 4), eps=1e-9).solve(y, iterations=40))(points, outside(m))
    assert np.allclose(found, m, atol=1e-5)


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda op: op(np.zeros((3, 3))), ValueError, r"gf.Nufft: modes has shape \(3, 3\) but must end in"),
        (lambda op: op.normal(np.zeros(3)), ValueError, r"normal: modes has shape \(3,\)"),
        (lambda op: op.normal(np.zeros((4, 5)), np.zeros(3)), ValueError, r"weights has shape \(3,\)"),
        (lambda op: op.normal(np.zeros((4, 5)), np.zeros(9, complex)), TypeError, "must be real"),
        (lambda op: op.solve(np.zeros(8)), ValueError, "number of points"),
        (lambda op: op.solve(np.zeros(9), damping=-1), ValueError, "must not be negative"),
        (lambda op: op.solve(np.zeros(9), tol="x"), TypeError, "tol must be a real number"),
        (lambda op: op.solve(np.zeros(9), iterations=-1), ValueError, "iterations"),
        (lambda op: op.solve(np.zeros((2, 9)), sense_maps=np.zeros((3, 4, 5))), ValueError, "as many coils"),
        (lambda op: op.normal(torch.zeros(4, 5)), TypeError, "one framework"),
    ],
)
def test_bad_input(call, error, match):
    with pytest.raises(error, match=match):
        call(gf.Nufft(np.zeros((9, 2)), (4, 5)))


def test_bad_arguments():
    for kwargs, match in (({"eps": 1e-15}, "gf.Nufft: eps"), ({"sign": 0}, "sign"), ({"modes_order": "x"}, "order")):
        with pytest.raises(ValueError, match=match):
            gf.Nufft(np.zeros((9, 2)), (4, 5), **kwargs)
    with pytest.raises(ValueError, match="shape has 1 values"):
        gf.Nufft(np.zeros((9, 2)), (4,))


def test_in_graphs(rng):
    points, m = rng.uniform(-3, 3, (30, 2)), draw(rng, 4, 4)
    expected = gf.Nufft(points, (4, 4)).normal(m)
    graph = tf.function(lambda x, m: gf.Nufft(x, (4, 4)).normal(m))
    assert np.allclose(graph(tf.constant(points), tf.constant(m)).numpy(), expected, atol=1e-3)
    x, y = torch.tensor(points), torch.tensor(m)
    compiled = torch.compile(lambda x, m: gf.Nufft(x, (4, 4)).normal(m), fullgraph=True, backend="aot_eager")
    assert np.allclose(compiled(x, y).numpy(), expected, atol=1e-3)
    mapped = torch.func.vmap(gf.Nufft(x, (4, 4)).normal)(torch.stack([y, 2 * y]))
    assert np.allclose(mapped.numpy(), [expected, 2 * expected], atol=1e-3)


def test_density_weights_of_spokes():
    """Where |A A^H w| is made 1 instead, the negative lobes of its kernel make it 0.2, and worse with iterations."""
    angles, r = np.pi * np.arange(100) / 100, np.linspace(-np.pi, np.pi, 128, endpoint=False)
    spokes = r[:, None] * np.stack([np.cos(angles), np.sin(angles)], -1)[:, None]
    op = gf.Nufft(spokes.reshape(-1, 2), (64, 64))
    y, x = np.mgrid[:64, :64] - 32.0
    image = np.exp(-(x**2 + y**2) / 100) * (1 + np.cos(x / 2))
    back = op.adjoint(op.density_weights() * op(image))
    assert np.linalg.norm(back - image) < 5e-3 * np.linalg.norm(image)


def test_damping_that_is_learned(rng):
    op = gf.Nufft(torch.tensor(rng.normal(size=(7, 2))), (4, 4))
    values = torch.tensor(draw(rng, 7))

    def solved(damping):
        return op.solve(values, damping=damping, tol=1e-13).abs().square().sum()

    damping = torch.tensor(0.1, dtype=torch.float64, requires_grad=True)
    assert torch.allclose(solved(damping), solved(0.1))
    (found,) = torch.autograd.grad(solved(damping), damping)
    expected = (solved(0.1 + 1e-5) - solved(0.1 - 1e-5)) / 2e-5
    assert np.isclose(found.item(), expected.item(), rtol=1e-5)
    for bad, error, match in ((torch.tensor(-1.0), ValueError, "negative"), (torch.ones(2), ValueError, "one number")):
        with pytest.raises(error, match=match):
            op.solve(values, damping=bad)


def test_products_with_real_arrays_of_tensorflow(rng):
    points, modes = rng.normal(size=(7, 2)), draw(rng, 4, 4)
    op, plain = gf.Nufft(tf.constant(points), (4, 4)), gf.Nufft(points, (4, 4))
    weights = op.density_weights()
    assert np.allclose((weights * op)(tf.constant(modes)), weights.numpy() * plain(modes), atol=1e-5)
    halved = op * tf.constant(0.5, tf.float64)
    assert np.allclose(halved(tf.constant(modes)), plain(modes) / 2, atol=1e-5)
    assert np.allclose((op / 2)(tf.constant(modes)), plain(modes) / 2, atol=1e-5)


def composed(op, weights):
    """All that operators are made of."""
    return (op.H @ (weights * op) + 2 * (op.T @ (op / 3)) - -op.H @ op) * np.linspace(1, 2, 16).reshape(4, 4)


def test_composed_operators_are_pickled_and_copied(rng):
    points, weights, modes = rng.normal(size=(7, 2)), rng.uniform(1, 2, 7), draw(rng, 4, 4)
    made = composed(gf.Nufft(points, (4, 4)), weights)
    expected, back = made(modes), made.adjoint(modes)
    for other in (pickle.loads(pickle.dumps(made)), copy.copy(made), copy.deepcopy(made)):
        assert np.array_equal(other(modes), expected)
        assert np.array_equal(other.adjoint(modes), back)
    op = gf.Nufft(torch.tensor(points), (4, 4))
    values = torch.tensor(draw(rng, 7))
    for of in (op.H, op.T):
        assert torch.equal(pickle.loads(pickle.dumps(of))(values), of(values))


def test_a_tree_of_jax(rng):
    """An operator as an argument of what JAX transforms, its points the one leaf."""
    points, modes = rng.normal(size=(3, 7, 2)), jnp.asarray(draw(rng, 4, 4))
    how = {"eps": 1e-9, "sign": -1, "modes_order": "fft", "period": (5, 6)}
    ops = [gf.Nufft(jnp.asarray(p), (4, 4), **how) for p in points]
    op = ops[0]
    expected = gf.Nufft(points[0], (4, 4), **how)(np.asarray(modes))
    (leaf,), tree = jax.tree.flatten(op)
    assert leaf is op.points
    again = jax.tree.unflatten(tree, [leaf])
    assert repr(again) == repr(op) and np.allclose(again(modes), expected)

    traced = []

    @jax.jit
    def apply(op, modes):
        traced.append(op)
        return op(modes)

    assert np.allclose(apply(op, modes), expected)
    assert np.allclose(apply(ops[1], modes), ops[1](modes)) and len(traced) == 1  # what is static is the same
    apply(gf.Nufft(op.points, (4, 4)), modes)
    assert len(traced) == 2

    def loss(op, modes):
        return (jnp.abs(op(modes)) ** 2).sum()

    slope = jax.grad(loss)(op, modes)
    assert isinstance(slope, gf.Nufft)
    of_points = jax.grad(lambda p: loss(gf.Nufft(p, (4, 4), **how), modes))(op.points)
    assert np.allclose(slope.points, of_points)
    moved = jax.tree.map(lambda p, s: p - 0.1 * s, op, slope)
    assert np.allclose(moved.points, op.points - 0.1 * of_points)

    stacked = jax.tree.map(lambda *p: jnp.stack(p), *ops)  # with a batch axis, which vmap takes away
    mapped = jax.vmap(apply, (0, None))(stacked, modes)
    assert np.allclose(mapped, [op(modes) for op in ops])
    assert np.allclose(stacked(jnp.stack([modes] * 3)), mapped)
    values = jnp.asarray(draw(rng, 7))
    found = jax.jit(lambda op, y: op.solve(y, iterations=3))(op, values)
    assert np.allclose(found, op.solve(values, iterations=3), atol=1e-6)
    assert np.allclose(jax.jit(loss)(pickle.loads(pickle.dumps(op)), modes), loss(op, modes))
    for odd in (None, object(), 3):
        assert "Nufft" in repr(jax.tree.unflatten(tree, [odd]))


@pytest.mark.parametrize("of", [np.asarray, torch.as_tensor])
def test_weights_of_a_solution_are_not_negative(rng, of):
    op = gf.Nufft(of(rng.normal(size=(3, 2))), (4, 4))
    values = of(draw(rng, 3))
    for bad, given in (([1.0, -2.0, 1.0], "-2"), ([1.0, 1.0, np.nan], "nan")):
        with pytest.raises(ValueError, match=rf"gf\.Nufft\.solve: weights must not be negative or NaN, got {given}"):
            op.solve(values, weights=of(np.array(bad)))
    assert np.isfinite(np.asarray(op.solve(values, weights=of(np.array([0.0, 1.0, 2.0]))))).all()
    op.normal(of(draw(rng, 4, 4)), weights=of(np.array([1.0, -2.0, 1.0])))  # an operator like any other


def test_density_weights_that_do_not_fit_into_memory(monkeypatch):
    op = gf.Nufft(np.zeros((3, 2)), (1000, 1000))  # 16 MB of modes
    monkeypatch.setattr(check, "memory", lambda: 3e8)
    with pytest.raises(MemoryError, match=r"density_weights: 4 times modes of shape \(2000, 2000\) .* GiB"):
        op.density_weights()


def test_operators_that_cannot_be():
    with pytest.raises(MemoryError, match="GiB"):
        gf.Nufft(np.zeros((3, 2)), (10**6, 10**6))
    with pytest.raises(TypeError, match="float16"):
        gf.Nufft(np.zeros((3, 2), np.float16), (4, 4))
    op = gf.Nufft(np.zeros((3, 2)), (4, 4))
    with pytest.raises(TypeError, match="weights"):
        op.normal(np.zeros((4, 4)), weights=np.ones(3, np.float32))
