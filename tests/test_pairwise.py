"""pairwise beside the matrix that it does not form, and the derivatives of plain torch."""

import tracemalloc

import numpy as np
import pytest
import torch
from frameworks import FRAMEWORKS, Jax, Torch
from scipy.spatial import cKDTree
from scipy.spatial.distance import cdist
from scipy.special import logsumexp

import gridfield as gf

pytestmark = pytest.mark.filterwarnings(r"ignore:`torch.jit.script\w*` is deprecated:DeprecationWarning")  # torch's own

FOLLOWING = [f for name, f in FRAMEWORKS.items() if name != "NumPy"]
DENSE = {
    "distance": lambda r: r,
    "squared": lambda r: r * r,
    "inverse": lambda r: 1 / r,
    "multiquadric": lambda r: (1 + r * r) ** 0.5,
    "inverse_multiquadric": lambda r: (1 + r * r) ** -0.5,
    "cauchy": lambda r: 1 / (1 + r * r),
    "gaussian": lambda r: np.exp(-r * r / 2),
    "exponential": lambda r: np.exp(-r),
    "matern32": lambda r: (1 + 3**0.5 * r) * np.exp(-(3**0.5) * r),
    "matern52": lambda r: (1 + 5**0.5 * r + 5 / 3 * r * r) * np.exp(-(5**0.5) * r),
}


@pytest.fixture(autouse=True, scope="module")
def double():
    import jax

    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", before)


def spread(rng, d):
    a = rng.normal(size=(d, d))
    return a @ a.T + 0.1 * np.eye(d)


# ---- numbers
@pytest.mark.parametrize("name", DENSE)
@pytest.mark.parametrize("weighted", [False, True])
def test_functions(rng, name, weighted):
    x, y = rng.normal(size=(33, 3)), rng.normal(size=(70, 3))
    c = spread(rng, 3) if weighted else None
    r = cdist(x, y) if c is None else cdist(x, y, "mahalanobis", VI=np.linalg.inv(c))
    matrix = DENSE[name](r / 1.5)
    p = gf.pairwise(x, y, name, cov=c, length=1.5)
    v = rng.normal(size=(70, 12))
    np.testing.assert_allclose(p @ v, matrix @ v, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(p @ v[:, 0], matrix @ v[:, 0], rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(p.T @ rng.normal(size=33) * 0 + p.sum(0), matrix.sum(0), rtol=1e-11)
    np.testing.assert_allclose((p * -2).sum(1), -2 * matrix.sum(1), rtol=1e-11)
    for axis in (0, 1):
        np.testing.assert_allclose(p.min(axis), matrix.min(axis), rtol=1e-11)
        np.testing.assert_array_equal(p.argmin(axis), matrix.argmin(axis))
        np.testing.assert_array_equal((-p).argmin(axis), matrix.argmax(axis))
        for q, expected in ((p, matrix), (-p / 3, -matrix / 3)):
            np.testing.assert_allclose(q.logsumexp(axis), logsumexp(expected, axis), rtol=1e-11)
    values, indices = p.kneighbors(5)
    np.testing.assert_array_equal(indices, np.argsort(r, 1)[:, :5])
    np.testing.assert_allclose(values, np.take_along_axis(matrix, indices, 1), rtol=1e-11)


# each d is a kernel, half a second to a second to compile, for either type: in float32 one of each kind in every run
@pytest.mark.parametrize(
    ("d", "dtype"),
    [pytest.param(d, dtype, marks=pytest.mark.slow if dtype == "float32" and d not in (3, 60) else ())
     for dtype in ("float32", "float64") for d in (1, 2, 3, 20, 60)],
)  # fmt: skip
def test_nearest(rng, d, dtype):
    """With many ties: the first counts, and equal points are found."""
    x = rng.integers(0, 4, (101, d)).astype(dtype)
    y = rng.integers(0, 4, (777, d)).astype(dtype)
    r = cdist(x, y, "sqeuclidean")
    p = gf.pairwise(x, y)
    np.testing.assert_array_equal(p.argmin(1), r.argmin(1))
    np.testing.assert_array_equal(p.argmin(0), r.argmin(0))
    _, indices = p.kneighbors(7)
    np.testing.assert_array_equal(indices, np.argsort(r, 1, kind="stable")[:, :7])
    assert p.argmin(1).dtype == np.int64


def test_nearest_beside_a_tree(rng):
    x, y = (1e4 + rng.normal(size=(n, 3)).astype(np.float32) for n in (500, 3000))
    distances, indices = cKDTree(y.astype(float)).query(x.astype(float), 4)
    got, where = gf.pairwise(x, y).kneighbors(4)
    np.testing.assert_allclose(got, distances, rtol=1e-6)
    assert (where == indices).mean() > 0.99  # some are equal in single precision


def test_callables_and_map(rng):
    x, y = rng.normal(size=(600, 2)), rng.normal(size=(5000, 2))
    r = cdist(x, y)
    p = gf.pairwise(x, y, lambda r: np.sin(3 * r))
    np.testing.assert_allclose(p @ np.ones(5000), np.sin(3 * r).sum(1), atol=1e-9)
    np.testing.assert_array_equal(p.argmin(1), np.sin(3 * r).argmin(1))
    np.testing.assert_allclose(p.min(0), np.sin(3 * r).min(0))
    np.testing.assert_allclose(p.logsumexp(1), logsumexp(np.sin(3 * r), 1))
    np.testing.assert_allclose(p.map("gaussian", length=0.5).sum(1), np.exp(-2 * r * r).sum(1))
    assert repr(p.map("gaussian") * 2) == "<gf.Pairwise (600, 5000), 2 times gaussian, float64>"


def test_logsumexp_does_not_overflow():
    x = np.array([[0.0], [1e3], [1e150]])
    p = gf.pairwise(x, x[:2], "squared")
    with np.errstate(over="ignore"):
        np.testing.assert_allclose((-p).logsumexp(1)[:2], [0, 0], atol=1e-300)
    np.testing.assert_allclose((-gf.pairwise(x, x[:1])).logsumexp(1), -x[:, 0])
    np.testing.assert_allclose(gf.pairwise(x[:2], x[:2]).logsumexp(1), [1e3, 1e3])


def test_weights_without_a_root(rng):
    x, d = rng.normal(size=(20, 2)), np.diag([1.0, -2.0])
    u = x[:, None] - x
    matrix = np.einsum("ijk,ijk->ij", u / np.diag(d), u)
    p = gf.pairwise(x, function="squared", cov=d)
    np.testing.assert_allclose(p.sum(1), matrix.sum(1), atol=1e-12)
    np.testing.assert_array_equal(p.argmin(1), matrix.argmin(1))
    np.testing.assert_allclose(p.logsumexp(0), logsumexp(matrix, 0))
    with pytest.raises(ValueError, match="not positive definite"):
        p.map("distance")
    with pytest.raises(ValueError, match="not positive definite"):
        p.kneighbors(2)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_nan_and_infinity(rng, dtype):
    """Nobody is near a point with NaN."""
    x, y = rng.normal(size=(9, 3)).astype(dtype), rng.normal(size=(40, 3)).astype(dtype)
    x[2, 0], y[5, 1] = np.nan, np.nan
    r = cdist(x, y)
    p = gf.pairwise(x, y)
    good = np.arange(9) != 2
    np.testing.assert_array_equal(p.argmin(1)[good], np.nanargmin(r[good], 1))
    assert p.argmin(1)[2] == -1 and np.isnan(p.min(1)[2]) and np.isfinite(p.min(1)[good]).all()
    values, indices = p.kneighbors(40)
    assert (indices[good, -1] == -1).all() and np.isnan(values[good, -1]).all() and (indices[2] == -1).all()
    assert np.isnan(p.sum(1)).all() and np.isnan(p.logsumexp(1)).all()
    far = np.array([[1e300], [0.0]]), np.array([[np.nan], [-1e300], [-1e299]])
    np.testing.assert_array_equal(gf.pairwise(*far).argmin(1), [1, 1])  # both infinitely far: the first


@pytest.mark.parametrize("name", DENSE)
def test_infinitely_far(rng, name):
    """What falls to 0 is 0 there, without a warning, and by tiles as by the kernel."""
    x, y = rng.normal(size=(9, 3)), rng.normal(size=(20, 3))
    y[6, 0] = np.inf
    with np.errstate(all="ignore"):
        matrix = DENSE[name](np.r_["1", cdist(x, y[:6]), np.full((9, 1), 1e300), cdist(x, y[7:])])
    far = np.inf if matrix[0, 6] > 1 else 0.0
    matrix[:, 6] = far
    p = gf.pairwise(x, y, name)
    np.testing.assert_allclose(p.sum(1), matrix.sum(1))
    np.testing.assert_allclose(p.logsumexp(1), matrix.max(1) if far else logsumexp(matrix, 1))
    np.testing.assert_allclose((-p).logsumexp(1), logsumexp(-matrix, 1))
    np.testing.assert_allclose(p.min(1), matrix.min(1))
    assert p.kneighbors(20)[1][0, -1] == 6 and p.kneighbors(20)[0][0, -1] == far


def test_sizes(rng):
    for m, n in ((0, 3), (0, 0), (1, 1), (5, 0)):
        p = gf.pairwise(np.zeros((m, 2)), np.zeros((n, 2)), "gaussian")
        assert p.sum(1).shape == (m,) and (p @ np.zeros((n, 3))).shape == (m, 3)
        assert p.logsumexp(1).shape == (m,)
    assert gf.pairwise(np.zeros((0, 2)), np.zeros((3, 2))).argmin(1).shape == (0,)
    with pytest.raises(ValueError, match="least of no points"):
        gf.pairwise(np.zeros((3, 2)), np.zeros((0, 2))).argmin(1)
    p = gf.pairwise(rng.normal(size=(3, 0)), function="gaussian")
    np.testing.assert_array_equal(p.sum(1), [3, 3, 3])
    many = gf.pairwise(np.zeros((2, 1), np.float32), np.zeros((10**6 + 1, 1), np.float32), "gaussian")
    np.testing.assert_allclose(many.sum(1), 1e6 + 1, rtol=1e-6)


def test_memory_is_not_that_of_the_matrix(rng):
    x = rng.normal(size=(6000, 3))
    p = gf.pairwise(x, function="gaussian")
    p.sum(1), p.map("distance").argmin(1), p.kneighbors(3), p @ np.ones((6000, 20))
    tracemalloc.start()
    p.sum(1), p.map("distance").argmin(1), p.kneighbors(3), p @ np.ones((6000, 20))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8e6 < 8 * 6000**2 / 30


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda x: gf.pairwise(x, np.zeros((3, 5))), ValueError, "gf.pairwise: x has 2 coordinates"),
        (lambda x: gf.pairwise(x[None]), ValueError, "gf.pairwise: x must have shape"),
        (lambda x: gf.pairwise(x, function="gauss"), ValueError, "function must be callable or one of"),
        (lambda x: gf.pairwise(x, length=0), ValueError, "length must be positive"),
        (lambda x: gf.pairwise(x, length=[1, 2, 3]), ValueError, "length has shape"),
        (lambda x: gf.pairwise(x, length=[1, -2]), ValueError, "length must be positive"),
        (lambda x: gf.pairwise(x, length=[1, np.nan]), ValueError, "length must be positive"),
        (lambda x: gf.pairwise(x * 1j), TypeError, "complex128"),
        (lambda x: gf.pairwise(x).sum(2), ValueError, "axis must be 1"),
        (lambda x: gf.pairwise(x).kneighbors(0), ValueError, "k must be an int from 1 to 4"),
        (lambda x: gf.pairwise(x).kneighbors(5), ValueError, "k must be an int from 1 to 4"),
        (lambda x: gf.pairwise(x) @ np.ones(3), ValueError, r"v has shape \(3,\)"),
        (lambda x: gf.pairwise(x) @ torch.ones(4), TypeError, "framework"),
        (lambda x: gf.pairwise(x).map("gauss"), ValueError, "gf.Pairwise.map: function"),
        (lambda x: gf.pairwise(x) * "2", TypeError, "factor must be a real number"),
        (lambda x: gf.pairwise(x, cov=-np.eye(2)), ValueError, "not positive definite"),
    ],
)
def test_bad_input(rng, call, error, words):
    with pytest.raises(error, match=words):
        call(rng.normal(size=(4, 2)))


# ---- derivatives
def dense(x, y, v, c, name):
    """Plain torch: a product, a log of sums, and least values, all in one number."""
    u = x[:, None] - y[None]
    q = torch.einsum("ijk,kl,ijl->ij", u, torch.linalg.inv(c), u)
    matrix = torch.exp(-q / 2) if name == "gaussian" else q.sqrt()
    return torch.cat([(matrix @ v).reshape(-1), torch.logsumexp(-2 * q.sqrt(), 1), q.sqrt().amin(0)])


def ours(F, x, y, v, c, name):
    p = gf.pairwise(x, y, name, cov=c)
    plain = p.map("distance")
    product = F.reshape(p @ v, (-1,))
    return F.concatenate([product, (-2 * plain).logsumexp(1), plain.min(0)], 0)


@pytest.mark.parametrize(
    ("framework", "name"),
    [pytest.param(f, n, marks=[pytest.mark.slow] if n == "gaussian" and f.title != "torch (autograd)" else [])
     for f in FOLLOWING for n in ("gaussian", "distance")],
    ids=lambda x: getattr(x, "title", x),
)  # fmt: skip
def test_derivatives(rng, framework, name):
    """Of first and second order, in points, vector and weights."""
    arrays = [rng.normal(size=(4, 2)), rng.normal(size=(3, 2)), rng.normal(size=(3, 2)), spread(rng, 2)]
    directions, plain = [rng.normal(size=a.shape) for a in arrays], Torch()
    of_dense = plain.scalar(lambda *a: dense(*a, name), (15,))
    args, moves = [[plain.asarray(a) for a in some] for some in (arrays, directions)]
    first = plain.grad(of_dense)(*args)
    second = plain.grad(plain.along(of_dense, moves))(*args)
    f = framework.scalar(lambda *a: ours(framework.F, *a, name), (15,))
    args, moves = [[framework.asarray(a) for a in some] for some in (arrays, directions)]
    for got, expected in zip(framework.once(framework.grad(f))(*args), first, strict=True):
        np.testing.assert_allclose(framework.numpy(got), plain.numpy(expected), rtol=1e-9, atol=1e-10)
    curved = framework.once(framework.grad(framework.along(f, moves)))
    for got, expected in zip(curved(*args), second, strict=True):
        np.testing.assert_allclose(framework.numpy(got), plain.numpy(expected), rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("name", ["inverse", "matern32"])
def test_gradcheck(rng, name):
    arrays = [rng.normal(size=(3, 2)), rng.normal(size=(4, 2)), rng.normal(size=4), np.array(1.3)]
    leaves = [torch.as_tensor(a).requires_grad_() for a in arrays]

    def f(x, y, v, length):
        return gf.pairwise(x, y, name, length=length) @ v

    assert torch.autograd.gradcheck(f, leaves)
    assert torch.autograd.gradgradcheck(f, leaves)


@pytest.mark.parametrize("framework", [Torch(), Jax()], ids=lambda f: f.title)
def test_derivatives_of_callables(rng, framework):
    x, y = framework.asarray(rng.normal(size=(4, 2))), framework.asarray(rng.normal(size=(5, 2)))

    def f(x, y):
        return framework.sum(gf.pairwise(x, y, lambda r: framework.sin(r) * r).logsumexp(1))

    def plain(x, y):
        r = ((x[:, None] - y[None]) ** 2).sum(-1) ** 0.5
        return framework.F.sum(framework.F.log(framework.F.sum(framework.F.exp(framework.sin(r) * r), 1)))

    moves = [x * 0.5, y - 1]
    for g, h in ((f, plain), (framework.along(f, moves), framework.along(plain, moves))):
        for got, expected in zip(*(framework.once(framework.grad(k))(x, y) for k in (g, h)), strict=True):
            np.testing.assert_allclose(framework.numpy(got), framework.numpy(expected), rtol=1e-9)


@pytest.mark.parametrize("framework", FOLLOWING, ids=lambda f: f.title)
def test_coincident_points(rng, framework):
    """Distances of 0 have gradient 0, not NaN."""
    x = framework.asarray(np.r_[rng.normal(size=(3, 2)), np.zeros((2, 2))])
    for name in ("distance", "exponential", "inverse"):
        total = framework.grad(lambda x, name=name: framework.sum(gf.pairwise(x, function=name).sum(1)))
        (gradient,) = framework.once(total)(x)
        u = framework.numpy(x)[:, None] - framework.numpy(x)
        r = np.sqrt((u**2).sum(-1))
        safe = np.where(r == 0, 1, r)
        slope = {"distance": 1 / safe, "exponential": -np.exp(-safe) / safe, "inverse": -(safe**-3)}[name]
        expected = 2 * (u * np.where(r == 0, 0, slope)[..., None]).sum(1)
        np.testing.assert_allclose(framework.numpy(gradient), expected, rtol=1e-11)
    (gradient,) = framework.grad(lambda x: framework.sum(gf.pairwise(x).min(1)))(x)
    assert not framework.numpy(gradient).any()


@pytest.mark.parametrize("framework", FOLLOWING, ids=lambda f: f.title)
def test_compiled_and_mapped(rng, framework):
    x, y = rng.normal(size=(3, 4, 2)), rng.normal(size=(5, 2))
    args = [framework.asarray(a) for a in (x, y)]

    def f(x, y):
        p = gf.pairwise(x, y, "gaussian")
        return framework.F.stack([p.sum(1), (-p.map("squared")).logsumexp(1)], 0)

    expected = np.stack(
        [np.stack([gf.pairwise(a, y, "gaussian").sum(1), (-gf.pairwise(a, y, "squared")).logsumexp(1)]) for a in x]
    )
    if "compiled" not in framework.cannot:
        got = framework.compile(f)(args[0][0], args[1])
        np.testing.assert_allclose(framework.numpy(got), expected[0], rtol=1e-11)
    if "vmap" not in framework.cannot:
        np.testing.assert_allclose(framework.numpy(framework.vmap(f, (True, False))(*args)), expected, rtol=1e-11)


def test_indices_where_jax_traces(rng):
    import jax

    x, y = rng.normal(size=(4, 2)), rng.normal(size=(9, 2))
    values, indices = jax.jit(lambda x, y: gf.pairwise(x, y).kneighbors(3))(x, y)
    expected = gf.pairwise(x, y).kneighbors(3)
    np.testing.assert_allclose(values, expected[0])
    np.testing.assert_array_equal(indices, expected[1])
    np.testing.assert_array_equal(jax.jit(lambda x, y: gf.pairwise(x, y).argmin(0))(x, y), gf.pairwise(x, y).argmin(0))


def test_memory_of_gradients(rng):
    """Torch would keep a matrix of 72 MB, and more."""
    x = torch.as_tensor(rng.normal(size=(3000, 3))).requires_grad_()
    assert gf.pairwise(x, function="gaussian").sum(1).grad_fn is not None
    tracemalloc.start()
    torch.autograd.grad(gf.pairwise(x, function="gaussian").sum(1).sum(), x)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 12e6


@pytest.mark.parametrize("n", [1, 31, 32, 33, 64, 70])
def test_sums_with_an_infinite_point(n):
    """What fills the last panel weighs nothing, also where it is infinitely far away."""
    y = np.r_[np.full((n - 1, 1), 2.0), [[np.inf]]]
    for p in (gf.pairwise(np.zeros((2, 1)), y), gf.pairwise(np.zeros((2, 1)), y, "squared")):
        np.testing.assert_array_equal(p.sum(1), [np.inf, np.inf])
        np.testing.assert_array_equal(p @ np.ones(n), [np.inf, np.inf])
