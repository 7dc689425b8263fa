"""The functions of pytorch-finufft: by direct sums, beside the original if installed, and beyond it."""

import itertools
import warnings

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from gridfield.compat.pytorch_finufft import functional as ours

# torch's own
pytestmark = pytest.mark.filterwarnings(r"ignore:`torch.jit.script\w*` is deprecated:DeprecationWarning")

SHAPES = {1: (8,), 2: (6, 5), 3: (4, 3, 6)}
BATCHES = ((), (2,), (2, 3))
EXACT = {"eps": 1e-12}


@pytest.fixture
def theirs():
    return pytest.importorskip("pytorch_finufft.functional")


def problem(rng, ndim, n=7, batch=(), dtype=torch.float64):
    """Points, values at points, modes."""
    kind = torch.complex64 if dtype == torch.float32 else torch.complex128
    x = torch.from_numpy(rng.uniform(-np.pi, np.pi, (ndim, n))).to(dtype)

    def noise(*shape):
        return torch.from_numpy(rng.normal(size=shape) + 1j * rng.normal(size=shape)).to(kind)

    return x, noise(*batch, n), noise(*batch, *SHAPES[ndim])


def waves(x, shape, isign=-1, modeord=1):
    """(N, *shape)"""
    x, out = torch.atleast_2d(x).double(), torch.ones(x.shape[-1], dtype=torch.complex128)
    for a, n in enumerate(shape):
        k = torch.arange(n) - n // 2
        k = torch.fft.ifftshift(k) if modeord else k
        out = out[..., None] * torch.exp(isign * 1j * x[a][:, None] * k).reshape(-1, *[1] * a, n)
    return out


def type1(x, c, shape, **how):
    return torch.tensordot(c.to(torch.complex128), waves(x, shape, **how), 1)


def type2(x, f, **how):
    shape = f.shape[f.ndim - torch.atleast_2d(x).shape[0] :]
    w = waves(x, shape, **how).flatten(1)
    return f.to(torch.complex128).flatten(-len(shape)) @ w.T


@pytest.mark.parametrize("ndim", SHAPES)
@pytest.mark.parametrize("batch", BATCHES, ids=str)
@pytest.mark.parametrize("dtype", (torch.float32, torch.float64))
def test_direct_sums(rng, ndim, batch, dtype):
    x, c, f = problem(rng, ndim, batch=batch, dtype=dtype)
    for isign, modeord in itertools.product((-1, 1), (0, 1)):
        how = {"isign": isign, "modeord": modeord}
        y = ours.finufft_type1(x, c, SHAPES[ndim], **how)
        assert y.dtype == c.dtype and y.shape == (*batch, *SHAPES[ndim])
        assert_allclose(y, type1(x, c, SHAPES[ndim], **how), atol=3e-5)
        y = ours.finufft_type2(x, f, **how)
        assert y.dtype == f.dtype and y.shape == (*batch, 7)
        assert_allclose(y, type2(x, f, **how), atol=1e-4)
    s = 5 * torch.from_numpy(rng.normal(size=(ndim, 9))).to(dtype)
    for isign in (-1, 1):
        expected = c.to(torch.complex128) @ torch.exp(isign * 1j * (x.double().T @ s.double()))
        assert_allclose(ours.finufft_type3(x, c, s, isign=isign), expected, atol=3e-5)
    assert_allclose(ours.finufft_type1(x, c, SHAPES[ndim]), type1(x, c, SHAPES[ndim]), atol=3e-5)  # the defaults
    assert_allclose(ours.finufft_type2(x, f), type2(x, f), atol=1e-4)


@pytest.mark.parametrize("ndim", SHAPES)
@pytest.mark.parametrize("batch", BATCHES, ids=str)
def test_numbers_and_gradients_of_the_original(rng, theirs, ndim, batch):
    x, c, f = problem(rng, ndim, 20, batch)
    for isign, modeord in itertools.product((-1, 1), (0, 1)):
        results = []
        for package in (ours, theirs):
            how = {"isign": isign, "modeord": modeord, **EXACT}
            leaves = [t.clone().requires_grad_() for t in (x, c, f)]
            y1 = package.finufft_type1(leaves[0], leaves[1], SHAPES[ndim], **how)
            y2 = package.finufft_type2(leaves[0], leaves[2], **how)
            (y1 * f).real.sum().backward(retain_graph=True)
            first = leaves[0].grad.clone()
            (y2 * c).imag.sum().backward()
            results.append([y1.detach(), y2.detach(), first, *(t.grad for t in leaves)])
        for a, b in zip(*results, strict=True):
            assert a.shape == b.shape and a.dtype == b.dtype
            assert_allclose(a, b, atol=1e-8)


@pytest.mark.parametrize("ndim", SHAPES)
def test_gradients(rng, ndim):
    """With one point on the grid and one at the end of the period; of both orders."""
    x, c, f = problem(rng, ndim, 4)
    x[:, 0], x[:, 1] = 0, np.pi
    s = torch.from_numpy(rng.normal(size=(ndim, 3)))
    x, c, f, s = (t.requires_grad_() for t in (x, c, f, s))
    calls = (
        (lambda x, c: ours.finufft_type1(x, c, SHAPES[ndim], **EXACT), (x, c)),
        (lambda x, f: ours.finufft_type2(x, f, **EXACT), (x, f)),
        (lambda x, c, s: ours.finufft_type3(x, c, s, **EXACT), (x, c, s)),
    )
    for call, arguments in calls:
        assert torch.autograd.gradcheck(call, arguments)
        if ndim < 3:
            assert torch.autograd.gradgradcheck(call, arguments, atol=1e-4)


def test_the_originals_own_step(rng):
    """Its tests of gradients take steps of 1e-8."""
    f = problem(rng, 2)[2]
    x = (
        torch.stack(torch.meshgrid(*[torch.arange(-2, 2).double() * np.pi / 2] * 2, indexing="ij"))
        .flatten(1)
        .requires_grad_()
    )
    how = {"eps": 1e-8, "atol": 1e-4}
    assert torch.autograd.gradcheck(lambda x: ours.finufft_type2(x, f, eps=1e-12), (x,), **how)


@pytest.mark.parametrize("dtype", (torch.float32, torch.float64))
def test_what_crashes_in_the_original(rng, dtype):
    x, c, f = problem(rng, 2, 7, dtype=dtype)
    line = x[0]
    expected = type1(line, c, (8,))
    for shape in (8, (8,), [8], np.int64(8), torch.Size([8])):
        assert_allclose(ours.finufft_type1(line, c, shape), expected, atol=1e-4)
    assert_allclose(ours.finufft_type1(x, c, [6, 5]), type1(x, c, (6, 5)), atol=1e-4)
    # conjugated, negated, not contiguous
    assert_allclose(ours.finufft_type1(x, c.conj(), (6, 5)), type1(x, c.conj().resolve_conj(), (6, 5)), atol=1e-4)
    assert_allclose(ours.finufft_type2(x, f.conj()), type2(x, f.conj().resolve_conj()), atol=1e-4)
    negated = torch.view_as_complex(x.T.contiguous()).conj().imag
    assert negated.is_neg()
    assert_allclose(ours.finufft_type1(negated, c, 8), type1(negated.resolve_neg(), c, (8,)), atol=1e-4)
    assert_allclose(ours.finufft_type2(x, f.T), type2(x, f.T.contiguous()), atol=1e-4)
    # no point, one point, axes of one mode
    assert ours.finufft_type1(x[:, :0], c[:0], (6, 5)).abs().sum() == 0
    assert ours.finufft_type2(x[:, :0], f).shape == (0,)
    assert ours.finufft_type3(x[:, :0], c[:0], x).abs().sum() == 0
    assert ours.finufft_type3(x, c, x[:, :0]).shape == (0,)
    assert_allclose(ours.finufft_type1(x[:, :1], c[:1], (6, 5)), type1(x[:, :1], c[:1], (6, 5)), atol=1e-4)
    assert_allclose(ours.finufft_type2(x[:, :1], f), type2(x[:, :1], f), atol=1e-4)
    for shape in ((1, 5), (6, 1), (1, 1)):
        assert_allclose(ours.finufft_type1(x, c, shape), type1(x, c, shape), atol=1e-4)
        g = f[: shape[0], : shape[1]]
        assert_allclose(ours.finufft_type2(x, g), type2(x, g), atol=1e-4)


def test_gradients_with_nothing_there(rng):
    x, c, _ = problem(rng, 2, 0)
    x, c = x.requires_grad_(), c.requires_grad_()
    ours.finufft_type1(x, c, (3, 4)).abs().sum().backward()
    assert x.grad.shape == (2, 0) and c.grad.shape == (0,)


def test_transformations(rng):
    """torch.func, mapped over points too, and one graph of a compiler."""
    x, c, f = problem(rng, 2, batch=(3,))
    xs = torch.stack([x, x + 1, 2 * x])
    mapped = torch.func.vmap(lambda x, f: ours.finufft_type2(x, f))(xs, f)
    assert_allclose(mapped, torch.stack([type2(a, b) for a, b in zip(xs, f, strict=True)]), atol=1e-4)
    loss = torch.func.grad(lambda x: ours.finufft_type1(x, c, (6, 5)).abs().square().sum())
    y = x.clone().requires_grad_()
    ours.finufft_type1(y, c, (6, 5)).abs().square().sum().backward()
    assert_allclose(loss(x), y.grad)
    compiled = torch.compile(lambda x, c: ours.finufft_type1(x, c, (6, 5)), fullgraph=True, backend="eager")
    assert_allclose(compiled(x, c), ours.finufft_type1(x, c, (6, 5)), atol=1e-5)


def test_options(rng):
    x, c, f = problem(rng, 2)
    how = {"nthreads": 1, "upsampfac": 2.0, "debug": 0, "fftw": 64, "gpu_method": 2, "spread_sort": 1}
    assert torch.equal(ours.finufft_type1(x, c, (6, 5), **how), ours.finufft_type1(x, c, (6, 5)))
    assert torch.equal(ours.finufft_type3(x, c, x, **how), ours.finufft_type3(x, c, x))
    assert_allclose(ours.finufft_type2(x, f, eps=1e-20), type2(x, f), atol=1e-10)  # as exactly as can be
    assert_allclose(ours.finufft_type2(x, f, eps=2.0), type2(x, f), atol=20)
    assert ours.FINUFFT_AVAIL and torch.cuda.is_available() == ours.CUFINUFFT_AVAIL


OPTIONS = (
    *({"out": None}, {"isign": None}, {"isign": 0}, {"isign": 5}, {"isign": np.int32(-3)}, {"isign": True}),
    *({"modeord": None}, {"modeord": 2}, {"nthreads": 1}, {"upsampfac": 1.25}, {"fftw": 64}, {"chkbnds": 1}),
    *({"spread_kerformula": 1}, {"spreadinterponly": 0}, {"spread_max_sp_size": 0}, {"allow_eps_too_small": 1}),
    *({"modes_order": 1}, {"bogus": None}, {"hint_nj": 3, "isign": 1}),
    *({"isign": "a"}, {"isign": 2.5}, {"eps": None}, {"eps": "1e-3"}, {"dtype": "complex64"}, {"n_trans": 1}),
    *({"fftw_lock_fun": None}, {"out": torch.zeros(6, 5).cdouble()}),
)
OLDER = {"chkbnds", "allow_eps_too_small"}  # options of some versions of FINUFFT; others warn


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_options_as_the_original_has_them(rng, theirs, options):
    """The same numbers, the same warning, or an error in both."""
    x, c, f = problem(rng, 2)
    for name, arguments in (("finufft_type1", (x, c, (6, 5))), ("finufft_type2", (x, f))):
        answers = []
        for package in (ours, theirs):
            with warnings.catch_warnings(record=True) as told:
                warnings.simplefilter("always")
                try:
                    answer = getattr(package, name)(*arguments, **options)
                except Exception:
                    answer = None
            answers.append((answer, {(w.category, str(w.message)) for w in told if not OLDER & set(options)}))
        (a, told_a), (b, told_b) = answers
        assert told_a == told_b
        assert (a is None) == (b is None)
        assert a is None or np.allclose(a, b, atol=1e-4)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    (
        ({"isign": "a"}, TypeError, "finufft_type1: isign must be an integer"),
        ({"isign": 2.5}, TypeError, "finufft_type1: isign must be an integer"),
        ({"eps": None}, TypeError, "finufft_type1: eps must be a real number, got None"),
        ({"eps": "1e-3"}, TypeError, "finufft_type1: eps must be a real number"),
        ({"dtype": "complex64"}, TypeError, "got multiple values for argument 'dtype'"),
        ({"fftw_lock_fun": None}, TypeError, "Invalid option 'fftw_lock_fun': FFTW locks are not exposed in Python"),
        ({"out": np.zeros((6, 5), complex)}, TypeError, "out must be None, as results are new tensors; got ndarray"),
        ({"spreadinterponly": 1}, ValueError, "spreadinterponly must be 0"),
    ),
)
def test_options_that_are_errors(options, error, message):
    with pytest.raises(error, match=message):
        ours.finufft_type1(X, C, (6, 5), **options)


def test_an_unknown_option_is_a_warning_and_ignored(rng):
    x, c, _ = problem(rng, 2)
    with pytest.warns(Warning, match='finufft_opts does not have attribute "modes_order"') as told:
        found = ours.finufft_type1(x, c, (6, 5), modes_order=1)
    assert told[0].category is Warning and told[0].filename == __file__
    assert torch.equal(found, ours.finufft_type1(x, c, (6, 5)))
    # gradients with FINUFFT's own sign, which the original loses on the way back
    x.requires_grad_()
    slopes = [
        torch.autograd.grad(ours.finufft_type1(x, c, (6, 5), isign=isign).abs().square().sum(), x)[0]
        for isign in (None, 1)
    ]
    assert torch.equal(*slopes)


X, C, F = torch.zeros(2, 7).double(), torch.zeros(7).cdouble(), torch.zeros(6, 5).cdouble()
BAD = (
    ("finufft_type1", (X.float(), C, (6, 5)), TypeError, "Points must have a dtype of torch.float64 as values has"),
    ("finufft_type1", (X, C.real, (6, 5)), TypeError, "Values must have a dtype of torch.complex64 or torch.c"),
    ("finufft_type1", (X, C[:6], (6, 5)), ValueError, "The same number of points and values must be supplied"),
    ("finufft_type1", (X[0], C[:6], (6,)), ValueError, "The same number of points and values must be supplied"),
    ("finufft_type1", (torch.zeros(4, 7).double(), C, (6,)), ValueError, "Points can be at most 3d, got 4 instead"),
    ("finufft_type1", (X[None], C, (6, 5)), ValueError, "The points tensor must be 1d or 2d"),
    ("finufft_type1", (X, C, (6,)), ValueError, "output_shape must be of length 2 for 2d NUFFT"),
    ("finufft_type1", (X, C, 6), ValueError, "output_shape must be a tuple of length 2 for 2d NUFFT"),
    ("finufft_type1", (X, C, (6, 0)), ValueError, "Got output_shape that was not positive integer"),
    ("finufft_type1", (X[0], C, -1), ValueError, "Got output_shape that was not positive integer"),
    ("finufft_type2", (X.float(), F), TypeError, "Points must have a dtype of torch.float64 as targets has a dtype of"),
    ("finufft_type2", (X, F.real), TypeError, "Targets must have a dtype of torch.complex64 or torch.complex128"),
    ("finufft_type2", (X, F[0]), ValueError, "For type 2 2d FINUFFT, targets must be at least a 2d tensor"),
    ("finufft_type2", (X[None], F), ValueError, "The points tensor must be 1d or 2d"),
    ("finufft_type2", (torch.zeros(4, 7).double(), F), ValueError, "Points can be at most 3d, got 4 instead"),
)  # fmt: skip


@pytest.mark.parametrize(("name", "arguments", "error", "message"), BAD)
def test_errors_in_the_words_of_the_original(name, arguments, error, message):
    with pytest.raises(error, match=message):
        getattr(ours, name)(*arguments)


@pytest.mark.parametrize(("name", "arguments", "error", "message"), BAD)
def test_these_are_the_words_of_the_original(theirs, name, arguments, error, message):
    with pytest.raises(error, match=message):
        getattr(theirs, name)(*arguments)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    (
        ((X, C.real, X), TypeError, "Strengths must have a dtype of"),
        ((X, C, X.float()), TypeError, "Targets must have a dtype of torch.float64 as strengths"),
        ((X, C[:5], X), ValueError, "The same number of points and strengths must be supplied"),
        ((X, C, X[:1]), ValueError, "Points are 2d but targets 1d"),
        ((X, C, X[None]), ValueError, "The targets tensor must be 1d or 2d"),
        ((X, C, X.to("meta")), ValueError, "Finufft only supports cpu and cuda tensors. Got meta"),
    ),
)
def test_errors_of_type_3(arguments, error, message):
    with pytest.raises(error, match=message):
        ours.finufft_type3(*arguments)
