"""nufft1 and nufft2 are the sums of waves they stand for, to within eps, whatever the arguments; and adjoints."""

import itertools
import re

import numpy as np
import pytest
import tensorflow as tf
import torch
from numpy.testing import assert_array_equal

import gridfield as gf
from gridfield import check, nufft
from gridfield.cpu import waves as engine
from gridfield.cpu.places import SORTED


# ---- the oracle: sums of waves, one mode after the other along each axis, in float64
def frequencies(n, modes_order="centered"):
    k = np.arange(n) - n // 2
    return k if modes_order == "centered" else np.fft.ifftshift(k)


def waves(points, shape, sign, modes_order="centered", period=2 * np.pi):
    """exp(sign i 2 pi k x / period) per axis, (N, n) each."""
    periods = np.broadcast_to(period, (len(shape),))
    return [
        np.exp(sign * 2j * np.pi * np.outer(x / p, frequencies(n, modes_order)))
        for x, p, n in zip(np.asarray(points, np.float64).T, periods, shape, strict=True)
    ]


def summed(points, modes, sign=1, **how):
    """Type 2, of plain points; modes (..., *shape)."""
    nd = points.shape[1]
    shape = modes.shape[modes.ndim - nd :]
    axes = "abcd"[:nd]
    factors = ",".join("n" + a for a in axes)
    return np.einsum(f"...{axes},{factors}->...n", modes, *waves(points, shape, sign, **how), optimize=True)


def coefficients(points, values, shape, sign=-1, **how):
    """Type 1, of plain points; values (..., N)."""
    axes = "abcd"[: len(shape)]
    factors = ",".join("n" + a for a in axes)
    return np.einsum(f"...n,{factors}->...{axes}", values, *waves(points, shape, sign, **how), optimize=True)


def wrong(got, expected):
    """The relative error in l2."""
    got, expected = np.asarray(got), np.asarray(expected)
    assert got.shape == expected.shape
    return np.linalg.norm(got - expected) / np.linalg.norm(expected)


def draw(rng, *shape, dtype="complex128"):
    return (rng.normal(size=shape) + 1j * rng.normal(size=shape)).astype(dtype)


REAL = {"complex64": "float32", "complex128": "float64"}
SHAPES = {  # odd, even, prime
    1: [(36,), (37,), (101,)],
    2: [(12, 17), (13, 30)],
    3: [(6, 7, 10)],
    4: [(5, 6, 7, 5)],
}
# each row compiles its own kernels, half a second to two: those that are not in OFTEN are marked slow
OFTEN = [
    *((1, "complex128", eps) for eps in (1e-6, 1e-12)),
    *((2, "complex128", eps) for eps in (1e-6, 1e-9)), (2, "complex64", 1e-6),
    (3, "complex128", 1e-3), (3, "complex64", 1e-6), (4, "complex128", 1e-2),
]  # fmt: skip
ACCURACIES = [
    *((1, "complex128", eps) for eps in (1e-2, 1e-6, 1e-9, 1e-12)),
    *((1, "complex64", eps) for eps in (1e-2, 1e-6)),
    *((2, "complex128", eps) for eps in (1e-2, 1e-6, 1e-9, 1e-12)),
    *((2, "complex64", eps) for eps in (1e-4, 1e-6)),
    (3, "complex128", 1e-3), (3, "complex128", 1e-12), (3, "complex64", 1e-6),
    (4, "complex128", 1e-2), (4, "complex128", 1e-8), (4, "complex64", 1e-4),
]  # fmt: skip


def often(rows):
    return [pytest.param(*row, marks=() if row in OFTEN else pytest.mark.slow) for row in rows]


OPTIONS = [  # sign, modes_order, period
    (1, "centered", 2 * np.pi),
    (-1, "fft", 2 * np.pi),
    (1, "fft", 1.0),
    (-1, "centered", "each its own"),
]


@pytest.mark.parametrize(("ndim", "dtype", "eps"), often(ACCURACIES))
def test_the_error_is_at_most_eps(ndim, dtype, eps, rng):
    for shape in SHAPES[ndim]:
        for sign, modes_order, period in OPTIONS:
            if period == "each its own":
                period = tuple(1.0 + 2.5 * a for a in range(ndim))
            how = {"sign": sign, "modes_order": modes_order, "period": period}
            points = rng.uniform(-9, 9, (60, ndim)).astype(REAL[dtype])
            modes, values = draw(rng, *shape, dtype=dtype), draw(rng, 60, dtype=dtype)
            got = gf.nufft2(points, modes, eps=eps, **how)
            assert got.dtype == dtype
            assert wrong(got, summed(points, modes, **how)) <= eps, (shape, how)
            got = gf.nufft1(points, values, shape, eps=eps, **how)
            assert got.dtype == dtype
            assert wrong(got, coefficients(points, values, shape, **how)) <= eps, (shape, how)


def test_signs_and_orders_unless_said_otherwise(rng):
    points, values = rng.uniform(-9, 9, (60, 2)), draw(rng, 60)
    modes = gf.nufft1(points, values, (12, 17))
    assert wrong(modes, coefficients(points, values, (12, 17), sign=-1)) <= 1e-6
    assert wrong(gf.nufft2(points, modes), summed(points, modes, sign=1)) <= 1e-6
    nodes = np.arange(12)[:, None] * (2 * np.pi / 12)
    signal = draw(rng, 12)
    assert wrong(gf.nufft1(nodes, signal, 12, modes_order="fft"), np.fft.fft(signal)) <= 1e-6
    assert wrong(gf.nufft2(nodes, signal, modes_order="fft") / 12, np.fft.ifft(signal)) <= 1e-6


@pytest.mark.parametrize("dtype", REAL)
@pytest.mark.parametrize("shape", [(1,), (2,), (3,), (1, 7), (8, 1), (1, 1)], ids=str)
def test_few_modes(shape, dtype, rng):
    """Of one mode along an axis the sum is constant along it; of two, frequencies -1 and 0."""
    points = rng.uniform(-4, 4, (20, len(shape))).astype(REAL[dtype])
    modes, values = draw(rng, *shape, dtype=dtype), draw(rng, 20, dtype=dtype)
    for modes_order in ("centered", "fft"):
        how = {"modes_order": modes_order}
        assert wrong(gf.nufft2(points, modes, **how), summed(points, modes, **how)) <= 1e-6
        got = gf.nufft1(points, values, shape, **how)
        assert wrong(got, coefficients(points, values, shape, **how)) <= 1e-6


# ---- batches
def test_values_that_share_points(rng):
    points, values, modes = rng.uniform(-4, 4, (40, 2)), draw(rng, 3, 2, 40), draw(rng, 3, 2, 12, 17)
    assert wrong(gf.nufft1(points, values, (12, 17)), coefficients(points, values, (12, 17))) <= 1e-6
    assert wrong(gf.nufft2(points, modes), summed(points, modes)) <= 1e-6
    assert gf.nufft1(points, values[:0], (12, 17)).shape == (0, 2, 12, 17)
    assert gf.nufft2(points, modes[:, :0]).shape == (3, 0, 40)


@pytest.mark.parametrize("batch", [(3,), (2, 3), (1,)], ids=str)
@pytest.mark.parametrize("extra", [(), (2,)], ids=str)
def test_points_of_their_own(batch, extra, rng):
    points = rng.uniform(-4, 4, (*batch, 40, 2))
    values, modes = draw(rng, *batch, *extra, 40), draw(rng, *batch, *extra, 12, 17)
    spread, gathered = gf.nufft1(points, values, (12, 17)), gf.nufft2(points, modes)
    assert spread.shape == modes.shape and gathered.shape == values.shape
    for item in np.ndindex(*batch):
        assert_array_equal(spread[item], gf.nufft1(points[item], values[item], (12, 17)))
        assert_array_equal(gathered[item], gf.nufft2(points[item], modes[item]))
    assert gf.nufft2(points[:0], modes[:0]).shape == (0, *values.shape[1:])


# ---- types and layouts
@pytest.mark.parametrize("dtype", ("float32", "float64", "int16", "int64", "bool"))
def test_real_numbers_are_promoted(dtype, rng):
    real = "float32" if dtype == "float32" else "float64"
    kind = "complex64" if dtype == "float32" else "complex128"
    points = rng.uniform(-4, 4, (40, 2)).astype(real)
    values, modes = (rng.normal(size=n).astype(dtype) for n in (40, (12, 17)))
    for got, expected in (
        (gf.nufft1(points, values, (12, 17)), gf.nufft1(points, values.astype(kind), (12, 17))),
        (gf.nufft2(points, modes), gf.nufft2(points, modes.astype(kind))),
    ):
        assert got.dtype == kind
        assert_array_equal(got, expected)


def test_integer_points_and_lists(rng):
    modes = draw(rng, 12, 17)
    points = rng.integers(-9, 9, (5, 2))
    assert_array_equal(gf.nufft2(points, modes), gf.nufft2(points.astype(float), modes))
    assert_array_equal(gf.nufft2(points.tolist(), modes), gf.nufft2(points.astype(float), modes))
    assert wrong(gf.nufft1([[0.0], [np.pi]], [1, 1], 4), [2, 0, 2, 0]) <= 1e-6


LAYOUTS = {
    "Fortran": np.asfortranarray,
    "strided": lambda a: np.stack([a, a], -1)[..., 0],
    "backwards": lambda a: a[::-1].copy()[::-1],
    "other byte order": lambda a: a.astype(a.dtype.newbyteorder()),
    "read-only": lambda a: np.frombuffer(a.tobytes(), a.dtype).reshape(a.shape),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(layout, rng):
    f = LAYOUTS[layout]
    points, values, modes = rng.uniform(-4, 4, (40, 2)), draw(rng, 2, 40), draw(rng, 2, 12, 17)
    kept = points.copy(), values.copy(), modes.copy()
    assert_array_equal(gf.nufft1(f(points), f(values), (12, 17)), gf.nufft1(points, values, (12, 17)))
    assert_array_equal(gf.nufft2(f(points), f(modes)), gf.nufft2(points, modes))
    for a, b in zip((points, values, modes), kept, strict=True):
        assert_array_equal(a, b)


def test_conjugated_tensors_of_torch(rng):
    """torch conjugates lazily, by a bit that NumPy knows nothing of."""
    points, values, modes = rng.uniform(-4, 4, (40, 2)), draw(rng, 40), draw(rng, 12, 17)
    x, y, m = map(torch.from_numpy, (points, values, modes))
    assert_array_equal(gf.nufft1(x, y.conj(), (12, 17)), gf.nufft1(points, values.conj(), (12, 17)))
    assert_array_equal(gf.nufft2(x, m.conj()), gf.nufft2(points, modes.conj()))
    assert_array_equal(gf.nufft2(x, m.imag), gf.nufft2(points, modes.imag))


# ---- where points are
@pytest.mark.parametrize("eps", (1e-6, 1e-12))
def test_points_on_nodes_and_at_the_ends(eps, rng):
    """Where a cell ends and the next begins; the fine grid has 40 or 48 nodes along each axis."""
    nodes = np.concatenate([np.arange(-n, n + 1) / n for n in (24, 40, 48, 64)])
    modes = draw(rng, 20)
    assert (
        wrong(gf.nufft2(nodes[:, None], modes, eps=eps, period=1.0), summed(nodes[:, None], modes, period=1.0)) <= eps
    )
    for turns in (nodes, np.nextafter(nodes, -9), np.nextafter(nodes, 9)):
        points = (2 * np.pi * turns)[:, None]
        values = draw(rng, len(points))
        assert wrong(gf.nufft2(points, modes, eps=eps), summed(points, modes)) <= eps
        assert wrong(gf.nufft1(points, values, 20, eps=eps), coefficients(points, values, (20,))) <= eps
    ends = np.array([-np.pi, np.pi, 0.0, -0.0, 2 * np.pi, -2 * np.pi, 5e-324, -5e-324, -1e-17])[:, None]
    assert wrong(gf.nufft2(ends, modes, eps=eps), summed(ends, modes)) <= eps


@pytest.mark.parametrize("dtype", REAL)
def test_points_far_outside(dtype, rng):
    """A period of 1 is taken away exactly."""
    modes = draw(rng, 101, dtype=dtype)
    for away in (10.0, 1e3, 1e6):
        points = (away * rng.uniform(-1, 1, (60, 1))).astype(REAL[dtype])
        near = points.astype(np.float64) - np.floor(points.astype(np.float64))
        values = draw(rng, 60, dtype=dtype)
        assert wrong(gf.nufft2(points, modes, period=1.0), summed(near, modes, period=1.0)) <= 1e-6
        got = gf.nufft1(points, values, 101, period=1.0)
        assert wrong(got, coefficients(near, values, (101,), period=1.0)) <= 1e-6


def test_two_pi_is_taken_away_with_more_digits_than_it_has():
    """1e6 away the rounding of 2 pi, 2.4e-16, adds up to 4e-11 of a period, 4e-9 of the wave of the 101st mode."""
    from fractions import Fraction

    two_pi = Fraction(6283185307179586476925286766559005768, 10**36)
    points = np.random.default_rng(0).uniform(-1e6, 1e6, (60, 1))
    turns = np.array([float(Fraction(x) / two_pi % 1) for x in points[:, 0]])[:, None]
    modes = np.random.default_rng(1).normal(size=101) + 0j
    assert wrong(gf.nufft2(points, modes, eps=1e-10), summed(turns, modes, period=1.0)) <= 1e-10


@pytest.mark.skipif(np.finfo(np.longdouble).eps > 1e-18, reason="long double has no more digits than double here")
@pytest.mark.parametrize("half", (np.pi, 2 * np.pi))
def test_a_quarter_of_a_million_modes(rng, half):
    """Their phases go to 4e5, where the last digit of a double is 6e-11; and their factors take no 50 us each."""
    n = 1 << 18
    points, modes = rng.uniform(-half, half, (1000, 1)), draw(rng, n)
    values, info = gf.nufft2(points, modes, eps=1e-12, return_info=True)
    k = (np.arange(n) - n // 2).astype(np.longdouble)
    exact = [(np.exp(1j * (k * x)) * modes).sum() for x in points[:10, 0]]
    assert info.method == "fft"
    assert wrong(values[:10], np.array(exact)) <= 1e-12


def test_cells_are_found_in_double_precision(rng):
    """In float32 a point at 3 on a grid of 8192 samples is 4e-4 of a sample off, which is 1e-3 of the highest waves."""
    points = rng.uniform(0, 2 * np.pi, (200, 1)).astype(np.float32)
    modes = draw(rng, 4096, dtype="complex64")
    assert wrong(gf.nufft2(points, modes), summed(points, modes)) <= 1e-6


def test_no_points_and_one():
    modes = np.ones((12, 17))
    assert gf.nufft2(np.zeros((0, 2)), modes).shape == (0,)
    assert_array_equal(gf.nufft1(np.zeros((0, 2)), np.zeros(0), (12, 17)), np.zeros((12, 17)))
    assert_array_equal(gf.nufft1(np.zeros((3, 0, 2)), np.zeros((3, 0)), (12, 17)), np.zeros((3, 12, 17)))
    one = np.array([[0.3, -2.0]])
    assert wrong(gf.nufft2(one, modes), summed(one, modes)) <= 1e-6
    assert wrong(gf.nufft1(one, [2.0], (12, 17)), coefficients(one, np.array([2.0]), (12, 17))) <= 1e-6


# ---- adjoints, threads, many points
@pytest.mark.parametrize(("ndim", "dtype", "eps"), often(a for a in ACCURACIES if a[2] > 1e-9))
def test_type_1_is_the_adjoint_of_type_2(ndim, dtype, eps, rng):
    """To rounding, not to eps: also where the transform itself is wrong by 1e-2."""
    shape = SHAPES[ndim][0]
    points = rng.uniform(-4, 4, (60, ndim)).astype(REAL[dtype])
    modes, values = draw(rng, *shape, dtype=dtype), draw(rng, 60, dtype=dtype)
    image = gf.nufft2(points, modes, eps=eps, sign=1).astype(complex)
    preimage = gf.nufft1(points, values, shape, eps=eps, sign=-1).astype(complex)
    scale = np.linalg.norm(image) * np.linalg.norm(values)
    assert abs(np.vdot(values, image) - np.vdot(preimage, modes)) <= (1e-14 if dtype == "complex128" else 1e-6) * scale


N = 30_000
assert N > SORTED


@pytest.fixture
def many(rng):
    """More points than are left unsorted, and modes that give every thread some."""
    return rng.uniform(-20, 20, (N, 2)), draw(rng, N), draw(rng, 300, 200)


@pytest.mark.parametrize("eps", (1e-6, pytest.param(1e-12, marks=pytest.mark.slow)))  # seven kernels each
def test_the_same_bits_for_any_number_of_threads(eps, many):
    points, values, modes = many

    def everything():
        x, y, m = (torch.from_numpy(a).requires_grad_() for a in (points, values, modes))
        (gf.nufft2(x, m, eps=eps).abs() ** 2).sum().backward()
        (gf.nufft1(x, y, (300, 200), eps=eps).abs() ** 2).sum().backward()
        return (gf.nufft1(points, values, (300, 200), eps=eps), gf.nufft2(points, modes, eps=eps),
                x.grad.numpy(), y.grad.numpy(), m.grad.numpy())  # fmt: skip

    before = gf.get_num_threads()
    try:
        gf.set_num_threads(1)
        expected = everything()
        for n in (2, 5):
            gf.set_num_threads(n)
            for a, b in zip(everything(), expected, strict=True):
                assert_array_equal(a, b)
    finally:
        gf.set_num_threads(None)
    assert gf.get_num_threads() == before


def test_many_points_are_sorted_and_few_are_not(many, monkeypatch):
    monkeypatch.setattr(engine, "cost_ns", lambda *_: 1.0)  # or fewer points had a coarser grid
    monkeypatch.setattr(nufft, "_window", nufft._window.__wrapped__)
    monkeypatch.setattr(nufft, "_cached_text", nufft._cached_text.__wrapped__)
    points, values, modes = many
    parts = [slice(i, i + SORTED // 2) for i in range(0, N, SORTED // 2)]
    got = gf.nufft2(points, modes)
    assert wrong(got, np.concatenate([gf.nufft2(points[p], modes) for p in parts])) <= 1e-14
    assert wrong(got[:50], summed(points[:50], modes)) <= 1e-6
    expected = sum(gf.nufft1(points[p], values[p], (300, 200)) for p in parts)
    assert wrong(gf.nufft1(points, values, (300, 200)), expected) <= 1e-13


@pytest.mark.parametrize("ndim", (1, 3, 4))
def test_many_points_along_other_numbers_of_axes(ndim, rng):
    shape, eps = SHAPES[ndim][0], {1: 1e-6, 3: 1e-3, 4: 1e-2}[ndim]
    points = rng.uniform(-9, 9, (N // 3, ndim))
    modes, values = draw(rng, *shape), draw(rng, len(points))
    assert wrong(gf.nufft2(points, modes, eps=eps)[::97], summed(points[::97], modes)) <= eps
    assert wrong(gf.nufft1(points, values, shape, eps=eps), coefficients(points, values, shape)) <= eps


def test_points_all_in_one_place():
    points = np.full((N, 2), 0.3)
    got = gf.nufft1(points, np.ones(N), (12, 17))
    assert wrong(got, N * coefficients(points[:1], np.ones(1), (12, 17))) <= 1e-6


@pytest.mark.slow
@pytest.mark.parametrize(("dtype", "eps"), [("complex64", 1e-6), ("complex128", 1e-6), ("complex128", 1e-12)])
def test_many_modes(dtype, eps, rng):
    """2048 x 2048 of them, in 30 places."""
    shape = 2048, 2048
    points = rng.uniform(-9, 9, (200_000, 2)).astype(REAL[dtype])
    modes, values = draw(rng, *shape, dtype=dtype), draw(rng, len(points), dtype=dtype)
    some = rng.integers(0, len(points), 30)
    assert wrong(gf.nufft2(points, modes, eps=eps)[some], summed(points[some], modes.astype(complex))) <= eps
    got = gf.nufft1(points, values, shape, eps=eps)
    some = rng.integers(0, 2048, (2, 30))
    k = some - 1024
    assert wrong(got[tuple(some)], np.exp(-1j * (points.astype(np.float64) @ k)).T @ values) <= eps


# ---- derivatives
def derivative(points, modes, axes, sign=1):
    """Of summed, once along each of the axes."""
    k = np.meshgrid(*map(frequencies, modes.shape), indexing="ij")
    return summed(points, modes * np.prod([1j * sign * k[a] for a in axes], 0), sign)


@pytest.mark.parametrize(("ndim", "eps"), [(1, 1e-2), (1, 1e-12), (2, 1e-6)])
def test_first_derivatives_are_as_exact_as_eps(ndim, eps, rng):
    """And those of second order 100 times less; at nodes of the fine grid too, where the window's pieces meet."""
    shape = SHAPES[ndim][0]
    points = np.concatenate([rng.uniform(-4, 4, (60, ndim)), np.pi * rng.integers(-20, 21, (20, ndim)) / 20])
    modes, values = draw(rng, *shape), draw(rng, 80)
    x = torch.from_numpy(points).requires_grad_()
    m, y = torch.from_numpy(modes), torch.from_numpy(values)
    last = ndim - 1
    z = gf.nufft2(x, m, eps=eps)
    assert wrong(z.detach(), summed(points, modes)) <= eps
    for part in ("real", "imag"):
        (first,) = torch.autograd.grad(getattr(z, part).sum(), x, create_graph=True)
        expected = np.stack([getattr(derivative(points, modes, [a]), part) for a in range(ndim)], -1)
        assert wrong(first.detach(), expected) <= eps
        (second,) = torch.autograd.grad(first[:, 0].sum(), x, retain_graph=True)
        expected = getattr(derivative(points, modes, [0, last]), part)
        assert wrong(second[:, last], expected) <= 100 * eps

    def loss(x):  # of type 1: sum conj(modes) nufft1 = sum values conj(nufft2)
        return (m.conj() * gf.nufft1(x, y, shape, eps=eps)).sum().real

    first = torch.autograd.grad(loss(x), x, create_graph=True)[0]
    expected = np.stack([(values * derivative(points, modes, [a]).conj()).real for a in range(ndim)], -1)
    assert wrong(first.detach(), expected) <= eps
    (second,) = torch.autograd.grad(first[:, 0].sum(), x)
    assert wrong(second[:, last], (values * derivative(points, modes, [0, last]).conj()).real) <= 100 * eps


def tensors(rng):
    """Few, as every number is moved in turn."""
    points, values, modes = rng.uniform(-4, 4, (2, 2)), draw(rng, 2), draw(rng, 3, 2)
    return [torch.from_numpy(a).requires_grad_() for a in (points, values, modes)]


@pytest.mark.filterwarnings(r"ignore:`torch.jit.script\w*` is deprecated:DeprecationWarning")  # torch's own
@pytest.mark.parametrize("type", (1, 2))
def test_derivatives_against_differences(type, rng):
    """Reverse and forward mode, and both over reverse, in points and values together."""
    x, y, m = tensors(rng)
    f, arrays = (gf.nufft2, (x, m)) if type == 2 else (lambda x, y: gf.nufft1(x, y, (3, 2)), (x, y))
    assert torch.autograd.gradcheck(f, arrays, check_forward_ad=True, check_batched_grad=True)
    assert torch.autograd.gradgradcheck(f, arrays, check_fwd_over_rev=True, atol=1e-4)


def test_vmap(rng):
    """Over points, over values, over both. What is mapped may be differentiated: the window is one tap wider."""
    x, m = torch.from_numpy(rng.uniform(-4, 4, (3, 40, 2))), torch.from_numpy(draw(rng, 3, 12, 17))
    for dims in ((0, 0), (0, None), (None, 0)):
        args = [a if d == 0 else a[0] for a, d in zip((x, m), dims, strict=True)]
        got = torch.func.vmap(gf.nufft2, in_dims=dims)(*args)
        expected = [
            summed(*(a[i if d == 0 else 0].numpy() for a, d in zip((x, m), dims, strict=True))) for i in range(3)
        ]
        assert wrong(got, expected) <= 1e-6


# ---- bad input
X, C, Y = np.zeros((10, 2)), np.ones((5, 6), complex), np.ones(10, complex)
NAN, INF = X.copy(), X.copy()
NAN[3, 1], INF[4, 0] = np.nan, -np.inf


def one(points=X, values=Y, shape=(5, 6), **how):
    return lambda: gf.nufft1(points, values, shape, **how)


def two(points=X, modes=C, **how):
    return lambda: gf.nufft2(points, modes, **how)


BAD = {
    # ---- points
    "a NaN": (one(NAN), ValueError, "gf.nufft1: points has a coordinate that is not finite, nan at (3, 1)"),
    "an infinity": (two(INF), ValueError, "gf.nufft2: points has a coordinate that is not finite, -inf at (4, 0)"),
    "a NaN in a tensor": (
        lambda: gf.nufft2(torch.from_numpy(NAN), torch.from_numpy(C)), ValueError,
        "gf.nufft2: points has a coordinate that is not finite, nan at (3, 1)"),
    "a list of coordinates": (
        one(np.zeros(10)), ValueError,
        "gf.nufft1: points must have shape (N, ndim), or (*batch, N, ndim), with coordinates along the last axis, "
        "got (10,)"),
    "no coordinates": (two(np.zeros((10, 0))), ValueError, "gf.nufft2: points must have shape (N, ndim)"),
    "complex points": (one(X + 0j), TypeError, "gf.nufft1: points has dtype complex128 but coordinates must be real"),
    # ---- shapes
    "too few values": (
        one(values=np.ones(9)), ValueError,
        "gf.nufft1: values has shape (9,) but must end in the number of points, as points has shape (10, 2)"),
    "a number for values": (one(values=1.0), ValueError, "gf.nufft1: values has shape () but must end in"),
    "values before points": (one(values=np.ones((10, 3))), ValueError, "gf.nufft1: values has shape (10, 3) but"),
    "another batch": (
        one(np.zeros((3, 10, 2)), np.ones((2, 10))), ValueError,
        "gf.nufft1: points has the batch axes (3,) but values begins with (2,); points of a batch go with values"),
    "no batch of values": (one(np.zeros((3, 10, 2)), Y), ValueError, "gf.nufft1: points has the batch axes (3,) but"),
    "another batch of modes": (
        two(np.zeros((3, 10, 2)), np.ones((2, 5, 6))), ValueError,
        "gf.nufft2: points has the batch axes (3,) but modes begins with (2,)"),
    "too few axes of modes": (
        two(np.zeros((10, 4)), np.ones((3, 3, 3))), ValueError,
        "gf.nufft2: modes has shape (3, 3, 3) but points (10, 4): it must have an axis for each of the 4 coordinates"),
    "too few axes of modes in a batch": (
        two(np.zeros((3, 10, 2)), np.ones((3, 5))), ValueError, "the 2 coordinates, after the batch axes (3,)"),
    "no modes": (two(modes=np.ones((5, 0))), ValueError, "gf.nufft2: modes has no samples along a grid axis"),
    "points of more axes than the shape": (
        one(np.zeros((10, 4)), shape=(3, 3, 3)), ValueError, "gf.nufft1: shape has 3 values but there are 4 axes"),
    "no modes wanted": (one(shape=(5, 0)), ValueError, "shape (5, 0) must hold an integer of 1 or more per axis"),
    "fewer than none": (one(shape=-3), ValueError, "gf.nufft1: shape -3 must hold an integer of 1 or more per axis"),
    "half a mode": (one(shape=(5, 2.5)), TypeError, "gf.nufft1: shape (5, 2.5) must hold an integer of 1 or more"),
    # ---- types
    "single points, double values": (
        one(X.astype("f4")), TypeError, "gf.nufft1: values has dtype complex128 but points float32; nothing is cast"),
    "double points, single modes": (
        two(modes=C.astype("c8")), TypeError, "gf.nufft2: modes has dtype complex64 but points float64; nothing is"),
    "half precision": (
        two(X.astype("f4"), np.ones((5, 6), "f2")), TypeError,
        "gf.nufft2: modes has dtype float16; complex numbers need float32 or float64"),
    "words": (one(values=np.array(["a"] * 10)), TypeError, "gf.nufft1: values has dtype"),
    "two frameworks": (two(modes=torch.ones(5, 6)), TypeError, "gf.nufft2: modes is a torch.Tensor but points is a"),
    # ---- options
    "more digits than double has": (
        one(eps=1e-13), ValueError, "gf.nufft1: eps must be at least 1e-12, the best that float64 is good for, and"),
    "more digits than single has": (
        two(X.astype("f4"), C.astype("c8"), eps=1e-7), ValueError,
        "gf.nufft2: eps must be at least 1e-06, the best that float32 is good for, and less than 1; got 1e-07 "
        "(float64 is good for 1e-12)"),
    "an error of all": (one(eps=1), ValueError, "and less than 1; got 1"),
    "no error at all": (two(eps=0), ValueError, "eps must be at least 1e-12"),
    "an error that is no number": (two(eps=np.nan), ValueError, "eps must be at least 1e-12"),
    "a word for eps": (two(eps="1e-6"), TypeError, "gf.nufft2: eps must be a real number, got '1e-6'"),
    "a sign of 0": (one(sign=0), ValueError, "gf.nufft1: sign must be +1 or -1, that of the exponent, got 0"),
    "a word for a sign": (two(sign="+"), ValueError, "gf.nufft2: sign must be +1 or -1, that of the exponent, got '+'"),
    "FINUFFT's word": (
        two(modes_order=1), ValueError, "gf.nufft2: modes_order must be 'centered' or 'fft', got 1"),
    "a period of 0": (one(period=0), ValueError, "gf.nufft1: period 0 must hold a positive, finite number per axis"),
    "an endless period": (two(period=(1, np.inf)), ValueError, "must hold a positive, finite number per axis"),
    "too many periods": (two(period=(1, 2, 3)), ValueError, "gf.nufft2: period has 3 values but there are 2 axes"),
    "a word for a period": (two(period="2pi"), TypeError, "period '2pi' must hold a positive, finite number per axis"),
}  # fmt: skip


@pytest.mark.parametrize("what", BAD)
def test_errors_say_what_is_wrong(what):
    call, error, message = BAD[what]
    with pytest.raises(error, match=re.escape(message)):
        call()


def test_a_nan_that_nobody_sees_is_not_hidden():
    """While JAX traces there is nothing to look at: the result is NaN where the point counts, and memory is safe."""
    import jax
    import jax.numpy as jnp

    x = jnp.asarray(np.linspace(0, 3, 10)[:, None], jnp.float32).at[3, 0].set(jnp.nan)
    x = x.at[5, 0].set(-jnp.inf).at[7, 0].set(1e38)
    got = np.asarray(jax.jit(lambda x, m: gf.nufft2(x, m, eps=1e-2))(x, jnp.ones(36, jnp.complex64)))
    assert_array_equal(np.isnan(got[:7]), np.isin(np.arange(7), (3, 5)))
    got = jax.jit(lambda x, y: gf.nufft1(x, y, 36, eps=1e-2))(x, jnp.ones(10, jnp.complex64))
    assert np.isnan(np.asarray(got)).all()


def test_more_modes_than_memory_are_refused_before_anything_is_allocated():
    with pytest.raises(
        MemoryError, match=r"gf\.nufft1: modes of shape \(100000, 100000\) and the grid of 1.5 times .* take 484 GiB"
    ):
        gf.nufft1(np.zeros((3, 2)), np.ones(3), (100_000, 100_000))


# ---- what was chosen
@pytest.mark.parametrize("dtype", REAL)
def test_info_says_how_it_was_computed(dtype, rng):
    points, modes = rng.uniform(-4, 4, (N, 2)).astype(REAL[dtype]), draw(rng, 60, 50, dtype=dtype)
    values, many = gf.nufft2(points, modes, eps=1e-5, return_info=True)
    assert_array_equal(values, gf.nufft2(points, modes, eps=1e-5))
    assert wrong(values[:50], summed(points[:50], modes)) <= many.error <= 1e-5
    assert (many.method, many.sorted, many.precision, many.grid) == ("fft", True, REAL[dtype], (120, 120))
    assert many.upsampling == (2.0, 2.4) and many.threads == gf.get_num_threads()
    assert 2**19 < many.memory < 2**23
    some, few = (gf.nufft2(points[:n], modes, eps=1e-5, return_info=True)[1] for n in (5000, 3))
    assert (some.method, some.sorted, some.taps) == ("fft", False, many.taps)
    assert (few.method, few.sorted, few.taps, few.grid, few.upsampling) == ("direct", False, None, None, None)
    assert few.memory < some.memory < many.memory and few.error <= some.error
    back, info = gf.nufft1(points, values, (60, 50), eps=1e-5, return_info=True)
    assert_array_equal(back, gf.nufft1(points, values, (60, 50), eps=1e-5))
    assert info == many
    assert gf.nufft2(points, modes, return_info=True)[1].taps > many.taps
    moved = gf.nufft2(torch.from_numpy(points).requires_grad_(), torch.from_numpy(modes), eps=1e-5, return_info=True)[1]
    assert moved.taps == many.taps + 1


@pytest.mark.slow
def test_info_of_type_3(rng):
    points, frequencies = rng.uniform(-3, 3, (N, 1)), rng.uniform(-40, 40, (5000, 1))
    out, info = gf.nufft3(points, np.ones(N), frequencies, eps=1e-5, return_info=True)
    assert wrong(out, np.exp(-1j * frequencies @ points.T).sum(1)) <= info.error <= 1e-5
    assert (info.method, info.precision, info.sorted) == ("fft", "float64", True)
    assert info.grid[0] > 2 * 240 / np.pi and info.memory > 0
    out, info = gf.nufft3(points[:9], np.ones(9), frequencies[:9], return_info=True)
    assert (info.method, info.grid, out.shape) == ("direct", None, (9,))
    single = (a[:, :].astype(np.float32) for a in (points, frequencies))
    x, f = single
    assert gf.nufft3(x, np.ones(N, np.float32), f, return_info=True)[1].precision == "float64"  # rounding is felt


def test_info_where_a_compiler_traces(rng):
    """Of sizes that are known; without a number of points the method is open."""
    import jax
    import jax.numpy as jnp
    import tensorflow as tf

    points, modes, seen = rng.uniform(-4, 4, (5000, 1)).astype("f4"), np.ones(50, "f4"), []

    def call(x, m):
        y, info = gf.nufft2(x, m, return_info=True)
        seen.append(info)
        return y

    jax.jit(call)(jnp.asarray(points), jnp.asarray(modes))
    signature = [tf.TensorSpec((None, 1), tf.float32), tf.TensorSpec((50,), tf.float32)]
    tf.function(call, input_signature=signature)(points, modes)
    both = torch.compile(lambda x, m: gf.nufft2(x, m, return_info=True), fullgraph=True, backend="aot_eager")
    seen.append(both(torch.from_numpy(points), torch.from_numpy(modes))[1])
    assert [i.method for i in seen] == ["fft", None, "fft"]
    assert seen[1].sorted is None and seen[1].memory is None
    assert len({(i.taps, i.grid, i.error) for i in seen}) == 1


def test_far_away_by_sums_and_by_fft(rng):
    """2 pi is no float: 1e6 is 159,155 periods away, and so many roundings of it."""
    x, modes = rng.uniform(-3, 3, (4, 1)) + 1e6, rng.normal(size=20) + 0j
    few = gf.nufft2(x, modes, eps=1e-12)
    many, info = gf.nufft2(np.tile(x, (200, 1)), modes, eps=1e-12, return_info=True)
    assert info.method == "fft"
    turn = np.longdouble(2 * np.pi) + np.longdouble(2.4492935982947064e-16)
    near = (x.astype(np.longdouble) - 159154 * turn).astype(float)
    exact = np.exp(1j * near * np.arange(-10, 10)) @ modes
    for found in (few, many[:4]):
        assert np.linalg.norm(found - exact) < 1e-12 * np.linalg.norm(exact)


@pytest.mark.parametrize(
    ("shape", "eps"),  # 64 modes and 1e-6 need other kernels than the others: in `make test-slow`
    [((24,) * 3, 1e-5), ((12,) * 3, 1e-3), ((16,) * 3, 1e-3), ((32, 32), 1e-6),
     pytest.param((64,) * 3, 1e-6, marks=pytest.mark.slow)],
)  # fmt: skip
def test_errors_where_the_window_is_just_wide_enough(rng, shape, eps):
    for n in (1000, 4000):
        x, modes, values = rng.uniform(-4, 4, (n, len(shape))), draw(rng, *shape), draw(rng, n)
        for f, args in ((gf.nufft2, (modes,)), (gf.nufft1, (values, shape))):
            exact = f(x, *args, eps=1e-12)
            assert np.linalg.norm(f(x, *args, eps=eps) - exact) <= eps * np.linalg.norm(exact)


def test_unknown_leading_axes_in_graphs(rng):
    x, xs = rng.normal(size=(7, 2)), rng.normal(size=(3, 7, 2))
    values, modes = draw(rng, 3, 7), draw(rng, 3, 4, 4)
    for f, args, shapes in (
        (lambda x, y: gf.nufft1(x, y, (4, 4)), (x, values), ([None, 2], [None, None])),
        (lambda x, y: gf.nufft1(x, y, (4, 4)), (xs, values), ([None, 7, 2], [None, 7])),
        (gf.nufft2, (x, modes), ([None, 2], [None, 4, 4])),
        (gf.nufft2, (xs, modes), ([None, None, 2], [None, 4, 4])),
    ):
        signature = [tf.TensorSpec(s, kind) for s, kind in zip(shapes, ("float64", "complex128"), strict=True)]
        graph = tf.function(f, input_signature=signature, autograph=False)
        assert np.allclose(graph(*args), f(*args), atol=1e-4)


def test_compiled_with_unknown_sizes(rng):
    x, modes, values = rng.normal(size=(7, 2)), draw(rng, 4, 4), draw(rng, 7)
    for f, args in (
        (gf.nufft2, (modes,)),
        (lambda x, m: gf.nufft2(x, m), (modes,)),
        (lambda x, v: gf.nufft1(x, v, (4, 4)), (values,)),
    ):
        compiled = torch.compile(f, fullgraph=True, backend="aot_eager", dynamic=True)
        assert np.allclose(compiled(*map(torch.tensor, (x, *args))), f(x, *args))


def test_memory_of_many_modes_is_named():
    with pytest.raises(MemoryError, match=r"nufft1: 1000 times modes of shape \(30000, 30000\)"):
        gf.nufft1(np.zeros((1000, 1, 2)), np.ones((1000, 1)), (30000, 30000))


LESS_FINE = {1: (400,), 2: (64, 48), 3: (24, 20, 32)}  # grids 1.5 times as fine have good sizes


LESS_FINE_EPS = {
    "complex64": (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6),
    "complex128": (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-8, 1e-9, 1e-10, 1e-12),
}
LESS_FINE_OFTEN = [  # each eps is two kernels of a second each: in every run every eps is there once or twice
    (1, "complex128", "centered", (1e-1, 1e-4, 1e-8, 1e-12)),
    (2, "complex128", "fft", (1e-2, 1e-6, 1e-9, 1e-10)),
    (2, "complex64", "centered", (1e-3, 1e-5, 1e-6)),
]


@pytest.mark.parametrize(
    ("ndim", "dtype", "order", "every"),
    [*LESS_FINE_OFTEN,
     *(pytest.param(n, dtype, order, LESS_FINE_EPS[dtype], marks=pytest.mark.slow)
       for n, dtype, order in itertools.product(LESS_FINE, REAL, ("centered", "fft")))],
)  # fmt: skip
def test_a_less_fine_grid_is_as_exact(rng, dtype, ndim, order, every):
    """Where modes are many beside points: every eps that it can give, both types, adjoint to rounding."""
    shape = LESS_FINE[ndim]
    points = rng.uniform(-9, 9, (200, ndim)).astype(REAL[dtype])
    modes, values = draw(rng, *shape, dtype=dtype), draw(rng, 200, dtype=dtype)
    how = {"modes_order": order}
    exact, back = summed(points, modes, **how), coefficients(points, values, shape, **how)
    found = {}
    for eps in every:
        ours, info = gf.nufft2(points, modes, eps=eps, return_info=True, **how)
        found[eps] = min(info.upsampling) < 1.7
        assert info.method == "fft" and info.error <= eps
        assert wrong(ours, exact) <= eps
        adjoint, other = gf.nufft1(points, values, shape, eps=eps, return_info=True, **how)
        assert other.grid == info.grid
        assert wrong(adjoint, back) <= eps
        rounding = 1e-13 if dtype == "complex128" else 1e-5
        assert abs(np.vdot(values, ours) - np.vdot(adjoint, modes)) <= rounding * np.linalg.norm(
            values
        ) * np.linalg.norm(ours)
    assert all(less for eps, less in found.items() if eps >= 1e-5)
    if (best := LESS_FINE_EPS[dtype][-1]) in found:  # no window is wide enough for it
        assert found[best] == (dtype == "complex64" and ndim < 3)


@pytest.mark.parametrize(
    ("ndim", "eps"),
    [pytest.param(ndim, eps, marks=() if (ndim, eps) in ((1, 1e-9), (2, 1e-6), (3, 1e-3)) else pytest.mark.slow)
     for ndim in LESS_FINE for eps in (1e-3, 1e-6, 1e-9)],
)  # fmt: skip
def test_derivatives_with_a_less_fine_grid(rng, ndim, eps):
    """The first as exact as eps, the second 100 times less."""
    shape = LESS_FINE[ndim]
    points, modes = rng.uniform(-3, 3, (100, ndim)), draw(rng, *shape)
    x = torch.tensor(points, requires_grad=True)
    k = np.arange(shape[0]).reshape(-1, *[1] * (ndim - 1)) - shape[0] // 2
    ours, info = gf.nufft2(x, torch.tensor(modes), eps=eps, return_info=True)
    assert min(info.upsampling) < 1.7 and info.taps == gf.nufft2(points, modes, eps=eps, return_info=True)[1].taps + 1
    (first,) = torch.autograd.grad(ours.real.sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(first[:, 0].sum(), x)
    assert wrong(first[:, 0].detach().numpy(), summed(points, 1j * k * modes).real) <= eps
    assert wrong(second[:, 0].numpy(), summed(points, -(k**2) * modes).real) <= 100 * eps


def test_how_fine_a_grid_is_chosen(rng, monkeypatch):
    def upsampling(n, shape=(64,) * 3, **how):
        points, values = np.zeros((n, len(shape))), np.zeros(n)
        return gf.nufft1(points, values, shape, return_info=True, **how)[1].upsampling[0]

    assert upsampling(10_000) == upsampling(1000, (128, 128)) == 1.5  # the FFT is most of the work
    assert upsampling(400_000) == upsampling(50_000, (128, 128)) == 2.0  # the taps are
    assert upsampling(10_000, eps=1e-12) == 2.0
    # where the size of a grid is not known to be the same in each call, that of any number of points
    points, values = torch.zeros(1000, 2), torch.zeros(1000)
    compiled = torch.compile(
        lambda x, y: gf.nufft1(x, y, (128, 128), return_info=True)[1].upsampling, fullgraph=True, backend="eager"
    )
    assert compiled(points, values) == (2.0, 2.0)
    # a grid for which there is no room is no choice
    choose, usual = nufft._window.__wrapped__, ((2048, 2048), 1e-6, "float64", False, 1 << 26)
    assert choose(*usual)[1] == 2.0
    monkeypatch.setattr(check, "memory", lambda: 300e6)  # modes take 67 MB, the grid 268 MB
    assert choose(*usual)[1] == 1.5
