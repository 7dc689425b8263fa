"""cdist beside SciPy, the sum written out in long double, and the derivatives of plain torch."""

import itertools
import threading

import numpy as np
import pytest
import torch
from frameworks import FRAMEWORKS, TensorFlow, Torch, TorchFunc
from scipy.spatial.distance import cdist

import gridfield as gf
from gridfield import reference
from gridfield.cpu import distance as cpu
from gridfield.ops import OPS
from gridfield.radial import FUNCTIONS, SQUARED, radial
from gridfield.scheme import decode

pytestmark = pytest.mark.filterwarnings(r"ignore:`torch.jit.script\w*` is deprecated:DeprecationWarning")  # torch's own

FOLLOWING = [f for name, f in FRAMEWORKS.items() if name != "NumPy"]


@pytest.fixture(autouse=True, scope="module")
def double():
    import jax

    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", before)


def exact(x, y, weights=None):
    """Squared distances in long double."""
    u = np.asarray(x, np.longdouble)[:, None] - np.asarray(y, np.longdouble)[None]
    return np.einsum("ijk,ijk->ij", u, u if weights is None else np.einsum("ijk,lk->ijl", u, weights))


def spread(rng, d):
    a = rng.normal(size=(d, d))
    return a @ a.T + 0.1 * np.eye(d)


# ---- numbers
@pytest.mark.parametrize("d", [1, 2, 3, 9, 47, 60])
@pytest.mark.parametrize(("m", "n"), [(1, 1), (5, 7), (66, 131)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_euclidean(rng, d, m, n, dtype):
    x, y = rng.normal(size=(m, d)).astype(dtype), rng.normal(size=(n, d)).astype(dtype)
    tol = 1e-5 if dtype == "float32" else 1e-14
    np.testing.assert_allclose(gf.cdist(x, y), cdist(x, y), rtol=tol)
    np.testing.assert_allclose(gf.cdist(x, y, squared=True), cdist(x, y, "sqeuclidean"), rtol=tol)
    assert gf.cdist(x, y).dtype == dtype


@pytest.mark.parametrize("d", [1, 2, 3, 16, 60])
def test_weights(rng, d):
    x, y, c = rng.normal(size=(40, d)), rng.normal(size=(70, d)), spread(rng, d)
    p = np.linalg.inv(c)
    expected = cdist(x, y, "mahalanobis", VI=p)
    np.testing.assert_allclose(gf.cdist(x, y, cov=c), expected, rtol=1e-10)
    np.testing.assert_allclose(gf.cdist(x, y, precision=p), expected, rtol=1e-10)
    np.testing.assert_allclose(gf.cdist(x, y, cov=c, squared=True), expected**2, rtol=1e-10)
    v = rng.random(d) + 0.1
    np.testing.assert_allclose(gf.cdist(x, y, cov=v), cdist(x, y, "seuclidean", V=v), rtol=1e-13)
    np.testing.assert_allclose(gf.cdist(x, y, precision=1 / v), cdist(x, y, "seuclidean", V=v), rtol=1e-13)


@pytest.mark.parametrize("d", [2, 5])
def test_any_invertible_matrix_has_squares(rng, d):
    """Task 2: of D it is only said that it can be inverted."""
    x = rng.normal(size=(30, d))
    for D in (rng.normal(size=(d, d)), np.diag(np.r_[-1.0, np.ones(d - 1)]), np.rot90(np.eye(d))):
        slow = np.array([[np.linalg.solve(D, a - b) @ (a - b) for b in x] for a in x])
        size = np.abs(slow).max()
        np.testing.assert_allclose(gf.cdist(x, cov=D, squared=True), slow, atol=1e-12 * size)
        np.testing.assert_allclose(gf.cdist(x, precision=np.linalg.inv(D), squared=True), slow, atol=1e-12 * size)
    v = np.r_[-2.0, np.ones(d - 1)]
    np.testing.assert_allclose(gf.cdist(x, cov=v, squared=True), exact(x, x, np.diag(1 / v)).astype(float), atol=1e-12)


def test_roots_of_a_matrix_that_is_not_symmetric(rng):
    """Its symmetric part counts; Cholesky alone would read one triangle."""
    x, c = rng.normal(size=(20, 3)), spread(rng, 3)
    D = c + np.triu(np.full((3, 3), 0.3), 1) - np.tril(np.full((3, 3), 0.3), -1)
    expected = np.sqrt(exact(x, x, np.linalg.inv(D))).astype(float)
    np.testing.assert_allclose(gf.cdist(x, cov=D), expected, rtol=1e-11)
    np.testing.assert_allclose(gf.cdist(x, precision=np.linalg.inv(D)), expected, rtol=1e-11)


@pytest.mark.parametrize("d", [2, 3, 16, 48, 100])
@pytest.mark.parametrize("weighted", [False, True])
def test_offset_in_single_precision(rng, d, weighted):
    """Exact zeros on the diagonal, 1e-5 elsewhere, however near two points are; a plain product is off by 6."""
    x = (1e4 + rng.normal(size=(150, d))).astype(np.float32)
    x[10:20] = x[:10] + np.float32(0.01) * rng.normal(size=(10, d)).astype(np.float32)
    w = spread(rng, d) if weighted else None
    expected = np.sqrt(exact(x, x, None if w is None else np.linalg.inv(w))).astype(float)
    for got in (gf.cdist(x, cov=w), gf.cdist(x, x.copy(), cov=w)):
        assert not np.diag(got).any()
        np.testing.assert_allclose(got, expected, rtol=1e-5 if not weighted else 3e-5, atol=0 if not weighted else 1e-5)
    if d == 48:
        plain = (x * x).sum(1)[:, None] + (x * x).sum(1) - 2 * x @ x.T
        assert np.abs(np.sqrt(np.maximum(plain, 0)) - expected).max() > 1


@pytest.mark.parametrize("d", [3, 70])
@pytest.mark.parametrize("n", [1, 127, 128, 129, 300])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_one_set_is_symmetric(rng, d, n, dtype):
    x = rng.normal(size=(n, d)).astype(dtype)
    out = np.full((n + 1, n), 7, dtype)[1:]  # begins where no cache line does
    assert gf.cdist(x, out=out) is out
    assert (out == out.T).all() and not np.diag(out).any()
    np.testing.assert_allclose(out, gf.cdist(x, x.copy()), rtol=1e-5)


def test_written_past_the_caches(rng):
    """From 4 MB on, `out` of many coordinates is."""
    x = rng.normal(size=(1100, 64))
    for skew in range(3):
        out = np.full(1100 * 1100 + 8, np.nan)[skew : skew + 1100 * 1100].reshape(1100, 1100)
        gf.cdist(x, out=out)
        np.testing.assert_allclose(out, cdist(x, x), rtol=1e-12)


@pytest.mark.parametrize("d", [3, 70])
def test_same_bits_for_any_threads(rng, d):
    x, y = rng.normal(size=(700, d)), rng.normal(size=(501, d))
    results = []
    for threads in (1, 2, 3):
        gf.set_num_threads(threads)
        results.append([gf.cdist(x, y), gf.cdist(x), gf.pairwise(x, y, "gaussian").sum(1)])
    gf.set_num_threads(None)
    for other in results[1:]:
        assert all(np.array_equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_from_several_threads_at_once(rng):
    x = rng.normal(size=(400, 3))
    expected, found = gf.cdist(x), []
    threads = [threading.Thread(target=lambda: found.append(gf.cdist(x))) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert all(np.array_equal(f, expected) for f in found)


# ---- arrays
def test_batches(rng):
    x, y = rng.normal(size=(2, 1, 4, 3)), rng.normal(size=(5, 6, 3))
    got = gf.cdist(x, y, cov=spread(np.random.default_rng(1), 3))
    assert got.shape == (2, 5, 4, 6)
    c = spread(np.random.default_rng(1), 3)
    for i, j in itertools.product(range(2), range(5)):
        np.testing.assert_allclose(got[i, j], gf.cdist(x[i, 0], y[j], cov=c), rtol=1e-12)
    assert gf.cdist(x).shape == (2, 1, 4, 4)


def test_kinds_of_arrays(rng):
    x = rng.normal(size=(9, 8))
    expected = cdist(x[::2, ::3], x[::-1, ::-3][:, :3])
    np.testing.assert_allclose(gf.cdist(x[::2, ::3], x[::-1, ::-3][:, :3]), expected)
    frozen = x.copy()
    frozen.flags.writeable = False
    np.testing.assert_allclose(gf.cdist(frozen), cdist(x, x), atol=1e-14)
    whole = rng.integers(0, 200, (5, 2)).astype(np.uint8)
    assert gf.cdist(whole).dtype == np.float64
    np.testing.assert_array_equal(gf.cdist(whole), cdist(whole.astype(float), whole.astype(float)))
    half = x.astype(np.float16)
    assert gf.cdist(half).dtype == np.float16
    np.testing.assert_allclose(gf.cdist(half), cdist(half.astype(float), half.astype(float)), rtol=1e-3)
    np.testing.assert_allclose(gf.cdist(x.astype(">f8")), cdist(x, x), atol=1e-14)
    assert gf.cdist(np.array([[1e300, 0]]), [[0.0, 0.0]])[0, 0] == np.inf
    mixed = gf.cdist(x, np.arange(16).reshape(2, 8))
    np.testing.assert_allclose(mixed, cdist(x, np.arange(16).reshape(2, 8)))


def test_out(rng):
    x = rng.normal(size=(6, 2))
    for out in (np.empty((6, 12))[:, ::2], np.empty((6, 6)).T, np.empty((12, 6))[::-2]):
        assert gf.cdist(x, out=out) is out
        np.testing.assert_allclose(out, cdist(x, x))
    square = rng.normal(size=(4, 4))
    expected = cdist(square, square)
    np.testing.assert_allclose(gf.cdist(square, out=square), expected)  # over its own points
    t = torch.empty(6, 6, dtype=torch.float64)
    assert gf.cdist(torch.as_tensor(x), out=t) is t
    np.testing.assert_allclose(t, cdist(x, x))


@pytest.mark.parametrize("d", [0, 2, 60])
def test_nothing(d):
    assert gf.cdist(np.empty((0, d)), np.empty((3, d))).shape == (0, 3)
    assert gf.cdist(np.empty((3, d)), np.empty((0, d)), squared=True).shape == (3, 0)
    assert gf.cdist(np.empty((0, d))).shape == (0, 0)
    assert gf.cdist(np.empty((0, 3, d))).shape == (0, 3, 3)
    if d == 0:
        np.testing.assert_array_equal(gf.cdist(np.empty((3, 0))), np.zeros((3, 3)))


@pytest.mark.parametrize("d", [2, 60])
@pytest.mark.parametrize("weighted", [False, True])
def test_nan_and_infinity(rng, d, weighted):
    x = rng.normal(size=(40, d))
    x[3, 1], x[8, 0] = np.nan, np.inf
    got = gf.cdist(x, cov=spread(rng, d) if weighted else None)
    ok = np.ones(40, bool)
    ok[[3, 8]] = False
    assert np.isnan(got[3]).all() and np.isnan(got[:, 3]).all()
    assert np.isfinite(got[np.ix_(ok, ok)]).all()
    if not weighted:
        assert (got[8][ok] == np.inf).all()


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"x": np.zeros((3, 2)), "y": np.zeros((4, 5))}, ValueError, r"x has 2 coordinates .*\(3, 2\).* 5 .*\(4, 5\)"),
        ({"x": np.zeros(3)}, ValueError, r"x must have shape .*got \(3,\)"),
        ({"x": np.zeros((3, 2)), "y": np.zeros(2)}, ValueError, "y must have shape"),
        ({"x": np.zeros((3, 2), complex)}, TypeError, "x has dtype complex128"),
        ({"x": np.zeros((3, 2)), "cov": np.eye(3)}, ValueError, r"cov has shape \(3, 3\) .*\(2,\) .*\(2, 2\)"),
        ({"x": np.zeros((3, 2)), "precision": np.ones((2, 3))}, ValueError, "precision has shape"),
        ({"x": np.zeros((3, 2)), "cov": 2.0}, ValueError, r"cov has shape \(\)"),
        ({"x": np.zeros((3, 2)), "cov": np.ones((2, 2)), "squared": True}, ValueError, "cov is singular"),
        ({"x": np.zeros((3, 2)), "cov": [0.0, 1.0]}, ValueError, "cov is singular"),
        ({"x": np.zeros((3, 2)), "cov": np.zeros((2, 2))}, ValueError, "cov is singular"),
        ({"x": np.zeros((3, 2)), "cov": np.diag([1.0, -1.0])}, ValueError, "not positive definite.*squared=True"),
        ({"x": np.zeros((3, 2)), "precision": [1.0, 0.0]}, ValueError, "not positive definite"),
        ({"x": np.zeros((3, 2)), "cov": np.full((2, 2), np.nan)}, ValueError, "cov holds NaN"),
        ({"x": np.zeros((3, 2)), "cov": np.eye(2) * 1j}, TypeError, "cov has dtype complex128"),
        ({"x": np.zeros((3, 2)), "cov": np.eye(2), "precision": np.eye(2)}, ValueError, "exclude"),
        ({"x": np.zeros((3, 2), np.float32), "y": np.zeros((3, 2))}, TypeError, "nothing is cast silently"),
        ({"x": np.zeros((2, 3, 2)), "y": np.zeros((3, 3, 2))}, ValueError, r"leading axes of x \(2,\) and y \(3,\)"),
        ({"x": np.zeros((3, 2)), "squared": "yes"}, TypeError, "squared must be True or False"),
        ({"x": np.zeros((3, 2)), "out": np.empty((3, 2))}, ValueError, r"out has shape \(3, 2\)"),
        ({"x": np.zeros((3, 2)), "out": np.empty((3, 3), np.float32)}, ValueError, "dtype float32"),
        ({"x": np.zeros((3, 2)), "out": np.broadcast_to(np.zeros(3), (3, 3))}, ValueError, "read-only"),
        ({"x": np.array([["a", "b"]])}, TypeError, "x"),
        ({"x": np.zeros((3, 2)), "y": torch.zeros(3, 2)}, TypeError, "one framework"),
    ],
)
def test_bad_input(arguments, error, words):
    with pytest.raises(error, match=r"gf.cdist: .*" + words):
        gf.cdist(**arguments)


def test_units_do_not_make_a_matrix_singular(rng):
    x = rng.normal(size=(5, 2)) * [1e-9, 1e9]
    c = np.diag([1e-18, 1e18])
    np.testing.assert_allclose(gf.cdist(x, cov=c), cdist(x * [1e9, 1e-9], x * [1e9, 1e-9]), rtol=1e-12, atol=1e-15)


# ---- the ops beside the plain versions
@pytest.mark.parametrize(
    ("name", "order", "dtype"),
    # in float32 every second one, two kernels of 0.8 s each; the others are marked slow (in float64: test_pairwise.py)
    [pytest.param(name, 0, "float32", marks=pytest.mark.slow if k % 2 else ()) for k, name in enumerate(FUNCTIONS)]
    + [(name, 2, "float64") for name in ("distance", "cauchy", "gaussian", "exponential", "matern52")],
)
def test_functions(rng, name, order, dtype):
    text = radial(name)
    for _ in range(order):
        text = decode(text).up
    x, y = rng.normal(size=(1, 9, 2)).astype(dtype), rng.normal(size=(1, 70, 2)).astype(dtype)
    y[0, :3] = x[0, :3]
    for channels in (1, 9):
        v = rng.normal(size=(1, 70, channels)).astype(dtype)
        expected = reference.interact(*(a.astype(float) for a in (x, y, v)), decode(text))
        got = OPS["interact"].run(x, y, v, text)
        np.testing.assert_allclose(
            got, expected, rtol=0, atol=(1e-4 if dtype == "float32" else 1e-11) * np.abs(expected).max()
        )
    q = reference.square_distances(x, y, decode(SQUARED))
    sets, out = cpu.Sets(x[0], y[0]), np.empty((9, 70), dtype)
    cpu.matrix(sets, decode(text).form, out)
    with np.errstate(all="ignore"):
        expected = reference.radial(q, decode(text).form)[0]
    np.testing.assert_allclose(out, expected, rtol=1e-4 if dtype == "float32" else 1e-12)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_exponential(dtype):
    """To the last digits over the whole range, 0 and infinity beyond."""
    limit = 86 if dtype == "float32" else 700
    q = np.linspace(0, 2 * limit, 2001).astype(dtype)
    x, y = np.zeros((1, 1), dtype), np.sqrt(q)[:, None]
    out = np.empty((1, len(y)), dtype)
    cpu.matrix(cpu.Sets(x, y), ("gauss", -0.5, 1.0), out)
    expected = np.exp(-0.5 * (y[:, 0] * y[:, 0]).astype(np.longdouble))
    assert np.abs(out[0] / expected - 1).max() < 4 * np.finfo(dtype).eps
    y = np.array([[1e3], [np.inf], [np.nan]], dtype)
    out = np.empty((1, 3), dtype)
    cpu.matrix(cpu.Sets(x, y), ("gauss", -0.5, 1.0), out)
    np.testing.assert_array_equal(out, [[0, 0, np.nan]])


# ---- derivatives
def dense(x, y, w=None, squared=False, name="cov"):
    """Plain torch."""
    u = x[:, None] - y[None]
    if w is None:
        q = (u * u).sum(-1)
    elif w.ndim == 1:
        q = (u * u * (1 / w if name == "cov" else w)).sum(-1)
    else:
        p = torch.linalg.inv(w) if name == "cov" else w
        q = torch.einsum("ijk,kl,ijl->ij", u, p, u)
    return q if squared else q.sqrt()


CASES = [
    (None, False, "cov"), (None, True, "cov"), (2, False, "cov"), (2, True, "cov"), (1, False, "cov"),
    (2, False, "precision"), (2, True, "precision"), (1, True, "precision"),
]  # fmt: skip


# JAX and TensorFlow trace or compile anew for each case: one of them stays in the quick suite
@pytest.mark.parametrize(
    ("framework", "ndim", "squared", "name"),
    [pytest.param(f, *case, id=f"{f.title}-{'-'.join(map(str, case))}",
                  marks=[pytest.mark.slow] if f.face in ("jax", "tensorflow") and case != (2, False, "cov") else [])
     for f in FOLLOWING for case in CASES],
)  # fmt: skip
def test_derivatives(rng, framework, ndim, squared, name):
    """Of first and second order, in points and weights, beside plain torch."""
    arrays = [rng.normal(size=(4, 2)), rng.normal(size=(3, 2))]
    if ndim:
        c = spread(rng, 2) + np.array([[0, 0.1], [0, 0]])
        arrays.append(c if ndim == 2 else np.diag(c).copy())
    directions = [rng.normal(size=a.shape) for a in arrays]

    def ours(x, y, *w):
        return gf.cdist(x, y, squared=squared, **({name: w[0]} if w else {}))

    plain = Torch()
    of_dense = plain.scalar(lambda *a: dense(*a, squared=squared, name=name), (4, 3))
    args, moves = [[plain.asarray(a) for a in some] for some in (arrays, directions)]
    first = plain.grad(of_dense)(*args)
    second = plain.grad(plain.along(of_dense, moves))(*args)
    f = framework.scalar(ours, (4, 3))
    args, moves = [[framework.asarray(a) for a in some] for some in (arrays, directions)]
    for got, expected in zip(framework.once(framework.grad(f))(*args), first, strict=True):
        np.testing.assert_allclose(framework.numpy(got), plain.numpy(expected), rtol=1e-9, atol=1e-11)
    curved = framework.once(framework.grad(framework.along(f, moves)))
    for got, expected in zip(curved(*args), second, strict=True):
        np.testing.assert_allclose(framework.numpy(got), plain.numpy(expected), rtol=1e-9, atol=1e-10)
    tangent = framework.jvp(ours, tuple(args), tuple(moves))
    expected = torch.autograd.functional.jvp(
        lambda *a: dense(*a, squared=squared, name=name),
        *[tuple(map(torch.as_tensor, s)) for s in (arrays, directions)],
    )[1]
    np.testing.assert_allclose(framework.numpy(tangent), expected, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("ndim", [None, 2])
def test_gradcheck(rng, ndim):
    arrays = [rng.normal(size=(2, 3, 2)), rng.normal(size=(4, 2)), *([spread(rng, 2)] if ndim else [])]
    leaves = [torch.as_tensor(a).requires_grad_() for a in arrays]

    def f(x, y, w=None):
        return gf.cdist(x, y, cov=w)

    assert torch.autograd.gradcheck(f, leaves)
    assert torch.autograd.gradgradcheck(f, leaves)


@pytest.mark.parametrize("framework", FOLLOWING, ids=lambda f: f.title)
def test_distance_zero_has_gradient_zero(rng, framework):
    x = framework.asarray(np.r_[rng.normal(size=(3, 2)), np.zeros((2, 2))])
    (gradient,) = framework.grad(lambda x: framework.sum(gf.cdist(x)))(x)
    got = framework.numpy(gradient)
    assert np.isfinite(got).all()
    u = framework.numpy(x)[:, None] - framework.numpy(x)
    r = np.sqrt((u**2).sum(-1))
    np.testing.assert_allclose(got, 2 * (u / np.where(r == 0, 1, r)[..., None]).sum(1), rtol=1e-12)
    (second,) = framework.grad(framework.along(lambda x: framework.sum(gf.cdist(x)), [x]))(x)
    assert np.isfinite(framework.numpy(second)).all()


@pytest.mark.parametrize("framework", FOLLOWING, ids=lambda f: f.title)
def test_compiled_and_mapped(rng, framework):
    x, y, c = rng.normal(size=(3, 4, 2)), rng.normal(size=(5, 2)), spread(rng, 2)
    expected = gf.cdist(x, y, cov=c)
    args = [framework.asarray(a) for a in (x, y, c)]
    if "compiled" not in framework.cannot:
        compiled = framework.compile(lambda x, y, c: gf.cdist(x, y, cov=c))
        np.testing.assert_allclose(framework.numpy(compiled(*args)), expected, rtol=1e-12)
    if "vmap" not in framework.cannot:
        mapped = framework.vmap(lambda x, y, c: gf.cdist(x, y, cov=c), (True, False, False))
        np.testing.assert_allclose(framework.numpy(mapped(*args)), expected, rtol=1e-12)


@pytest.mark.parametrize(
    "framework", [f for f in FOLLOWING if type(f) not in (TorchFunc, TensorFlow)], ids=lambda f: f.title
)
def test_types(rng, framework):
    x = rng.normal(size=(4, 2))
    for dtype in framework.half:
        got = gf.cdist(framework.asarray(x, dtype))
        assert got.dtype == dtype
        np.testing.assert_allclose(framework.numpy(got), cdist(x, x), atol=0.03)
    assert "float64" in str(gf.cdist(framework.asarray(np.arange(6).reshape(3, 2))).dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_roots_are_those_of_the_machine_to_a_unit_of_the_last_place(dtype: type) -> None:
    """The root is an estimate that is refined: squares of every size, also those that are no normal numbers."""
    ends = np.finfo(dtype)
    sizes = np.logspace(np.log10(ends.smallest_subnormal) / 2 + 1, np.log10(ends.max) / 2 - 1, 5000)
    special = [0.0, ends.smallest_subnormal, ends.tiny, np.sqrt(ends.tiny), ends.max, np.inf, np.nan, 3.0, 1e6 - 1]
    x = np.concatenate([sizes, special]).astype(dtype)[:, None]
    with np.errstate(all="ignore"):
        expected = np.sqrt((x * x)[:, 0])
    found = gf.cdist(x, np.zeros((3, 1), dtype))
    np.testing.assert_array_equal(found[:, 1:], found[:, :1].repeat(2, 1))
    np.testing.assert_array_equal(np.isfinite(found[:, 0]), np.isfinite(expected))
    normal = np.isfinite(expected) & (expected > 0)
    assert np.all(np.abs(found[normal, 0] - expected[normal]) <= np.spacing(expected[normal]))
    np.testing.assert_array_equal(found[~normal, 0], expected[~normal])
    np.testing.assert_array_equal(found[-2:, 0], x[-2:, 0])  # roots that are numbers are exact
