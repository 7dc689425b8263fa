"""Kernel: tables, their values, derivatives, transforms and properties; and that a user's table is as good as ours."""

import copy
import itertools
import math
import pickle
import re

import numpy as np
import pytest
from cases import KERNELS, SKEW, TWICE, as_kernel
from numpy.testing import assert_allclose, assert_array_equal
from scipy.integrate import quad
from scipy.interpolate import BSpline

import gridfield as gf

ALL = {name: as_kernel(k) for name, k in KERNELS.items()} | {f"degree {n}": gf.bspline(n) for n in (6, 7)}
each_kernel = pytest.mark.parametrize("kernel", ALL.values(), ids=ALL)
STEP = gf.Kernel([[1.0], [0.0]], name="previous sample")


@pytest.mark.parametrize("degree", range(8))
def test_bspline_is_scipys(degree):
    kernel = gf.bspline(degree)
    half = (degree + 1) / 2
    knots = np.arange(degree + 2) - half
    x = np.concatenate([np.linspace(-half - 1, half + 1, 997), knots])
    for order in range(degree + 1):
        if degree - order < 1:  # jumps at the knots: compare between them
            x = x[np.abs(x[:, None] - knots).min(1) > 1e-9]
        element = BSpline.basis_element(knots, extrapolate=False)
        expected = np.nan_to_num(element.derivative(order)(x) if order else element(x))
        assert_allclose(kernel.derivative(order)(x), expected, rtol=0, atol=1e-12)
    assert kernel.width == kernel.degree + 1 == degree + 1
    assert kernel.support == (-half, half)
    assert kernel.continuity == degree - 1
    assert kernel.interpolating == (degree < 2) and kernel.partition_of_unity and kernel.symmetric
    assert_array_equal(kernel(np.array([-half - 1e-9, half + 1e-9, 1e300])), 0)


def test_special_distances():
    assert_array_equal(gf.bspline(3)([np.inf, -np.inf, np.nan, -1.7e308]), [0, 0, np.nan, 0])
    assert gf.bspline(3)([]).shape == (0,) and gf.bspline(3)(1).shape == ()


def test_continuity():
    found = {name: k.continuity for name, k in ALL.items() if not name.startswith("degree")}
    assert found == {
        "nearest": -1, "linear": 0, "quadratic": 1, "cubic": 2, "quartic": 3, "quintic": 4, "catmull_rom": 1,
        "skew": -1, "twice": 2,
    }  # fmt: skip
    for kernel in (gf.bspline(3), gf.bspline(7), gf.catmull_rom):
        assert kernel.derivative().continuity == kernel.continuity - 1
    # a jump in the value only at one end, a kink only in the middle
    assert gf.Kernel([[1, 0], [1, -1]]).continuity == -1
    assert gf.Kernel([[0, 2], [0, 1]]).continuity == -1
    assert gf.Kernel([[0.0, 0, 1], [1, 0, -1]]).continuity == -1  # not zero at its right end
    assert gf.Kernel([[1, -3, 3, -1], [0, 3, -3, 1]]).continuity == 0


@each_kernel
def test_continuity_by_numbers(kernel):
    """The first derivative that jumps at a break is the one after `continuity`."""
    breaks = np.arange(kernel.width + 1) - kernel.width / 2
    jumps = []
    for order in range(kernel.degree + 1):
        k = kernel.derivative(order)
        jumps.append(np.abs(k(breaks + 1e-9) - k(breaks - 1e-9)).max() > 1e-6)
    assert kernel.continuity == (jumps.index(True) if True in jumps else kernel.degree + 1) - 1


@each_kernel
def test_table_is_weights_of_samples(kernel, rng):
    """Sample m + j has weight sum_p table[j, p] t**p: the kernel at the distance of point and sample."""
    table = kernel.coefficients
    assert table.shape == (kernel.width, kernel.degree + 1)
    assert kernel.support == (-kernel.width / 2, kernel.width / 2)
    for x in rng.uniform(-3, 3, 20):
        cell = math.floor(x + kernel.shift)
        t = x + kernel.shift - cell
        samples = cell - kernel.left + np.arange(kernel.width)
        assert_allclose(kernel(x - samples), table @ t ** np.arange(kernel.degree + 1), rtol=0, atol=1e-13)
    everywhere = kernel(np.linspace(0, 1, 50, endpoint=False)[:, None] - np.arange(-9, 10)).sum(1)
    assert kernel.partition_of_unity == np.allclose(everywhere, 1)


@each_kernel
def test_derivative_by_differences(kernel, rng):
    x = rng.integers(-kernel.width, kernel.width, 60) / 2 + rng.uniform(0.01, 0.49, 60)  # off the breaks
    h = 1e-5
    for order in range(kernel.degree + 2):
        k = kernel.derivative(order)
        assert (k.width, k.support) == (kernel.width, kernel.support)
        slope = (k(x + h) - k(x - h)) / (2 * h)
        assert_allclose(kernel.derivative(order + 1)(x), slope, rtol=1e-6, atol=1e-6 * max(1, np.abs(slope).max()))
    assert kernel.derivative(0) == kernel and kernel.derivative(2) == kernel.derivative().derivative()
    assert_array_equal(kernel.derivative(kernel.degree + 1)(x), 0)


@pytest.mark.parametrize("degree", range(8))
def test_fourier_of_a_bspline_is_a_power_of_sinc(degree):
    k = np.concatenate([np.linspace(-3, 3, 61), [0.0, 0.5, 17.3]])
    got = gf.bspline(degree).fourier(k)
    assert got.dtype == np.float64
    assert_allclose(got, np.sinc(k) ** (degree + 1), rtol=0, atol=1e-13)


@pytest.mark.parametrize("kernel", [gf.catmull_rom, SKEW, TWICE, STEP, gf.bspline(2).derivative()], ids=repr)
def test_fourier_by_quadrature(kernel):
    ks = np.array([[0.0, 0.3], [-1.0, 2.7]])
    got = kernel.fourier(ks)
    assert got.shape == ks.shape and np.iscomplexobj(got) == (not kernel.symmetric)
    breaks = np.arange(kernel.width + 1) - kernel.width / 2

    def integral(part, k):
        def f(x):
            return float(kernel(x)) * part(2 * np.pi * k * x)

        return sum(quad(f, a, b, epsabs=1e-13)[0] for a, b in itertools.pairwise(breaks))

    expected = [[integral(np.cos, k) - 1j * integral(np.sin, k) for k in row] for row in ks]
    assert_allclose(got, expected, rtol=0, atol=1e-12)
    assert_allclose(got[0, 0], (kernel.coefficients / (np.arange(kernel.degree + 1) + 1)).sum(), atol=1e-13)


def test_fourier_of_special_frequencies():
    assert gf.bspline(3).fourier([]).shape == (0,)
    assert gf.bspline(3).fourier(0.5).shape == ()
    got = gf.bspline(3).fourier([0.5, np.nan])
    assert_allclose(got[0], np.sinc(0.5) ** 4)
    assert np.isnan(got[1])
    assert_allclose(gf.bspline(1).fourier([100.25, 0.25]), np.sinc([100.25, 0.25]) ** 2, rtol=0, atol=1e-13)


def test_kernels_are_frozen():
    kernel = gf.Kernel([[1, -1], [0, 1]], name="hat")
    for name in ("name", "coefficients", "_table", "width", "anything"):
        with pytest.raises(AttributeError):
            setattr(kernel, name, 1)
    for name in ("name", "_table", "_hash"):
        with pytest.raises(AttributeError):
            delattr(kernel, name)
    kernel.coefficients[:] = 7
    assert kernel == gf.bspline(1) and kernel.name == "hat"
    given = np.array([[1.0, -1.0], [0.0, 1.0]])
    kernel = gf.Kernel(given)
    given[:] = 7
    assert kernel == gf.bspline(1)


def test_kernels_hash_compare_and_pickle():
    hat, linear = gf.Kernel([[1, -1], [0, 1]], name="hat"), gf.bspline(1)
    assert hat == linear and hash(hat) == hash(linear) and {hat: 1}[linear] == 1
    assert hat != gf.bspline(2) and hat != "linear" and hat != gf.Kernel([[1, -1], [0, 1.0000000001]])
    assert gf.bspline(3) is gf.bspline(3)
    for kernel in (*ALL.values(), hat):
        _ = kernel.symmetric and kernel.poles  # caches
        for again in (copy.copy(kernel), copy.deepcopy(kernel)):
            assert again == kernel and again.name == kernel.name
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
            again = pickle.loads(pickle.dumps(kernel, protocol))
            assert again == kernel and hash(again) == hash(kernel) and again.name == kernel.name
    assert repr(hat) == "Kernel('hat', width=2, degree=1)"


@pytest.mark.parametrize(
    "table", ([], [[]], [1, 2], [[[1.0]]], 3.0, [[np.nan]], [[1, np.inf], [0, 0]], np.zeros((0, 3)), np.zeros((3, 0)))
)
def test_what_is_no_table(table):
    with pytest.raises(
        ValueError, match=re.escape("gf.Kernel: coefficients must be a finite table of shape (width, deg")
    ):
        gf.Kernel(table)


@pytest.mark.parametrize("table", ("abc", None, [["a", "b"]], [[1, 2], [3]], [[1j]], {"a": 1}), ids=repr)
def test_what_is_no_number(table):
    with pytest.raises((TypeError, ValueError), match=re.escape("gf.Kernel: coefficients")):
        gf.Kernel(table)


@pytest.mark.parametrize("degree", (-1, 8, 2.0, "3", None, True))
def test_degrees_that_do_not_exist(degree):
    if degree is True:  # a bool is an int to Python, but no degree; gf.sample(kernel=True) is refused as well
        with pytest.raises(ValueError, match=r"gf\.sample: kernel must be"):
            gf.sample(np.ones(4), np.ones((1, 1)), kernel=True)
        return
    with pytest.raises(ValueError, match=r"gf\.bspline: degree must be an int from 0 to 7, got"):
        gf.bspline(degree)


@pytest.mark.parametrize("order", (-1, 1.5, "1", None))
def test_orders_that_do_not_exist(order):
    with pytest.raises(ValueError, match=r"gf\.Kernel\.derivative: order must be an int >= 0, got"):
        gf.bspline(3).derivative(order)


# ---- a user's table works wherever a word does -----------------------------------------------------------------------
@pytest.mark.parametrize("word", ("nearest", "linear", "cubic", "catmull_rom"))
def test_a_copy_of_a_built_in_table_gives_the_same(word, rng):
    own = gf.Kernel(as_kernel(word).coefficients, name="mine")
    data, x = rng.normal(size=(9, 8)), rng.uniform(-3, 12, (40, 2))
    grid = gf.Grid.pixels(data.shape)
    for boundary in ("natural", "nearest"):
        how = {"boundary": boundary, "derivative": [(0, 0), (1, 0), (0, 1)]}
        y = gf.sample(data, x, kernel=word, **how)
        assert_array_equal(gf.sample(data, x, kernel=own, **how), y)
        assert_array_equal(gf.splat(y, x, grid, kernel=own, **how), gf.splat(y, x, grid, kernel=word, **how))
    for boundary in ("natural", "mirror", "wrap"):
        expected = gf.prefilter(data, kernel=word, boundary=boundary)
        assert_array_equal(gf.prefilter(data, kernel=own, boundary=boundary), expected)
    assert_array_equal(gf.sample(data, x, kernel=(own, "linear")), gf.sample(data, x, kernel=(word, "linear")))


KEYS = gf.Kernel(  # Keys' cubic convolution with a = -3/4, as OpenCV has it
    [[0, -0.75, 1.5, -0.75], [1, 0, -2.25, 1.25], [0, 0.75, 1.5, -1.25], [0, 0, -0.75, 0.75]], name="keys"
)
# symmetric, nothing else: its samples are 1/4, 1.1, 1/4
BUMP = gf.Kernel([[0.25, -0.5, 0.25], [1.1, -1.0, 0.15], [0.25, 0.7, 0.15], [0, 0, 0.25]], name="bump")


def test_user_made_kernels_are_what_they_are_meant_to_be():
    assert KEYS.interpolating and KEYS.symmetric and KEYS.partition_of_unity and KEYS.continuity == 1
    assert BUMP.symmetric and not BUMP.partition_of_unity and len(BUMP.poles) == 1
    assert_allclose(KEYS([0.5, 1.5]), [0.59375, -0.09375])


@pytest.mark.parametrize(
    "kernel",
    [TWICE, KEYS, BUMP, gf.Kernel([[2, -2], [0, 2]], name="twice linear"), gf.Kernel([[3.0]], name="thrice nearest")],
    ids=repr,
)
@pytest.mark.parametrize("shape", ((9,), (2,), (1,), (5, 1)), ids=str)
def test_a_prefiltered_symmetric_table_passes_through_the_data(shape, kernel, rng):
    data, grid = rng.normal(size=shape), gf.Grid.pixels(shape)
    for boundary in ("natural", "reflect"):
        got = gf.sample(data, grid.coords(), kernel=kernel, boundary=boundary)
        assert_allclose(got, data, rtol=0, atol=1e-11, err_msg=boundary)


@pytest.mark.parametrize("kernel", [gf.bspline(0), gf.bspline(1), gf.catmull_rom, KEYS, STEP], ids=repr)
def test_an_interpolating_kernel_gives_the_data_at_the_samples(kernel, rng):
    """At all of them: also at the last, where a kernel that jumps must not take the value from the left."""
    assert kernel.interpolating
    data = rng.normal(size=7)
    for boundary in gf.BOUNDARIES:
        got = gf.sample(data, np.arange(7.0)[:, None], kernel=kernel, boundary=boundary, prefilter=False)
        assert_allclose(got, data, rtol=0, atol=1e-14, err_msg=boundary)


@pytest.mark.parametrize("kernel", [SKEW, gf.Kernel([[0.5], [0.0], [0.5]]), gf.Kernel([[1.0], [1.0]])], ids=repr)
def test_a_table_that_cannot_interpolate_says_so(kernel):
    assert not kernel.interpolating
    for call in (gf.prefilter, lambda data, kernel: gf.sample(data, np.ones((1, 1)), kernel=kernel)):
        with pytest.raises(ValueError, match=r"gf\.\w+: kernel .* cannot be made to interpolate .*use prefilter=False"):
            call(np.ones(5), kernel=kernel)
    assert np.isfinite(gf.sample(np.ones(5), np.ones((1, 1)), kernel=kernel, prefilter=False)).all()


@pytest.mark.parametrize("width", (17, 33, 40, 64))
def test_wide_tables(width, rng):
    """Wider than the lanes of a vector: also with values right up to the end of the memory."""
    kernel = gf.Kernel(rng.normal(size=(width, 2)))
    data, x = rng.normal(size=90), rng.uniform(0, 89, (40, 1))
    samples = np.arange(-width, 90 + width)
    expected = kernel(x - samples) @ np.pad(data, width, mode="wrap")
    got = gf.sample(data, x, kernel=kernel, boundary="wrap", prefilter=False)
    assert_allclose(got, expected, rtol=0, atol=1e-12 * np.abs(expected).max())
    y = rng.normal(size=40)
    grid = gf.splat(y, x, gf.Grid.pixels(90), kernel=kernel, boundary="wrap")
    assert_allclose(grid @ data, y @ got, rtol=1e-11)


def test_many_coefficients(rng):
    """A table of high degree: no limit but the user's."""
    kernel = gf.Kernel(rng.normal(size=(2, 12)) / 12)
    data, x = rng.normal(size=(6, 7)), rng.uniform(0, 5, (30, 2))
    weights = [kernel(x[:, [a]] - np.arange(n)) for a, n in enumerate(data.shape)]
    expected = np.einsum("pi,pj,ij->p", *weights, data)
    assert_allclose(gf.sample(data, x, kernel=kernel, boundary="grid-constant", prefilter=False), expected, atol=1e-12)


def test_fourier_of_any_frequency():
    """Both formulas agree where they meet, decay as they must, and take no memory to speak of."""
    k = np.array([7.9, 8.1, 8.5, 1000.25, 1e6 + 0.5, 1e12, np.inf, np.nan])
    for degree in range(8):
        np.testing.assert_allclose(
            gf.bspline(degree).fourier(k[:6]), np.sinc(k[:6]) ** (degree + 1), rtol=0, atol=1e-14
        )
    assert gf.bspline(3).fourier(k)[6] == 0 and np.isnan(gf.bspline(3).fourier(k)[7])
    skew = gf.Kernel([[0.25, -0.5, 0.25], [0.5, 0.75, -1.0], [-0.125, 0.5, 0.375]])
    x = np.linspace(-1.5, 1.5, 3_000_001)[:-1] + 5e-7
    for f in (7.5, 8.5, 20.25):
        np.testing.assert_allclose(skew.fourier(f), np.mean(skew(x) * np.exp(-2j * np.pi * f * x)) * 3, atol=1e-9)
