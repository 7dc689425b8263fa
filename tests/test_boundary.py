"""Where coordinates fold to and what a grid continues with: against brute force, np.pad and sums over samples."""

import numpy as np
import pytest
from cases import KERNELS, NUMPY_PAD, Case, as_kernel, force
from numpy.testing import assert_allclose, assert_array_equal

import gridfield as gf
from gridfield import reference
from gridfield.boundary import extension
from gridfield.scheme import Axis

LENGTHS = (1, 2, 3, 4, 7)


def continued_by_hand(boundary, c, k):
    """Sample k of the samples c, by walking; `cval` is 100."""
    n, factor, offset = len(c), 1.0, 0.0
    while not 0 <= k < n:
        if n == 1 and boundary != "grid-constant":
            k = 0
        elif boundary == "natural":  # point reflection about the nearer end
            end, other = (0, -k) if k < 0 else (n - 1, 2 * (n - 1) - k)
            offset, factor, k = offset + factor * 2 * c[end], -factor, other
        elif boundary == "nearest":
            k = 0 if k < 0 else n - 1
        elif boundary in ("mirror", "constant"):
            k = -k if k < 0 else 2 * (n - 1) - k
        elif boundary == "reflect":
            k = -1 - k if k < 0 else 2 * n - 1 - k
        elif boundary == "wrap":
            k = k + n if k < 0 else k - n
        else:
            return 100.0
    return offset + factor * c[k]


@pytest.mark.parametrize("n", LENGTHS)
@pytest.mark.parametrize("boundary", gf.BOUNDARIES)
def test_extension(boundary, n, rng):
    k, c = np.arange(-4 * n - 3, 5 * n + 3), rng.normal(size=n)
    index, weight, rest = extension(boundary, n, k)
    assert index.min() >= 0 and index.max() < n
    got = (weight * c[index]).sum(1) + rest * 100
    assert_allclose(got, [continued_by_hand(boundary, c, int(i)) for i in k], rtol=1e-13, atol=1e-13)
    assert_array_equal(index[(k >= 0) & (k < n), 0], np.arange(n))


@pytest.mark.parametrize("n", LENGTHS[1:])
@pytest.mark.parametrize("boundary", gf.BOUNDARIES)
def test_extension_is_numpy_pad(boundary, n, rng):
    c, margin = rng.normal(size=n), 3 * n + 2
    index, weight, rest = extension(boundary, n, np.arange(-margin, n + margin))
    options = NUMPY_PAD[boundary] | ({"constant_values": 0.5} if boundary == "grid-constant" else {})
    assert_allclose((weight * c[index]).sum(1) + rest * 0.5, np.pad(c, margin, **options), rtol=0, atol=1e-12)


def folded_by_hand(boundary, u, n, width):
    """(coordinate, slope there), by walking back and forth."""
    if boundary in ("natural", "constant"):
        return min(max(u, 0.0), n - 1.0), float(0 <= u <= n - 1)
    if boundary in ("nearest", "grid-constant"):  # so far out that a stencil sees nothing but the last sample, or cval
        low, high = -(width // 2) - 1.0, n + float(width // 2)
        return min(max(u, low), high), float(low <= u <= high)
    low, high = {"mirror": (0.0, n - 1.0), "reflect": (-0.5, n - 0.5), "wrap": (0.0, float(n))}[boundary]
    slope = 1.0
    while not low <= u <= high:
        if boundary == "wrap":
            u += n if u < low else -n
        else:
            u, slope = (2 * low - u if u < low else 2 * high - u), -slope
    return u, slope


@pytest.mark.parametrize("width", (1, 2, 3, 4))
@pytest.mark.parametrize("n", LENGTHS[1:])
@pytest.mark.parametrize("boundary", gf.BOUNDARIES)
def test_coordinates_fold(boundary, n, width, rng):
    axis = Axis.of(n, gf.bspline(width - 1), boundary)
    u = np.concatenate([rng.uniform(-4 * n, 5 * n, 200), [1e-9 - n, n - 1 + 1e-9, -0.25, n - 0.25]])
    y, slope, on = reference.fold(u, axis)
    expected = np.array([folded_by_hand(boundary, float(x), n, width) for x in u])
    assert_allclose(y, expected[:, 0], rtol=0, atol=1e-12)
    assert_array_equal(slope, expected[:, 1])
    inside = (u >= 0) & (u <= n - 1)
    assert_array_equal(on, inside if boundary == "constant" else np.ones_like(on))
    assert np.isnan(reference.fold(np.array([np.nan]), axis)[0]).all()


@pytest.mark.parametrize("boundary", [b for b in gf.BOUNDARIES if b not in ("constant", "grid-constant", "reflect")])
def test_a_ramp_shows_where_coordinates_fold(boundary, rng):
    n = 6
    u = rng.uniform(-20, 25, 300)
    got = gf.sample(np.arange(n + 0.0), u[:, None], kernel="linear", boundary=boundary)
    y = np.array([folded_by_hand(boundary, x, n, 2)[0] for x in u])
    expected = np.where(y > n - 1, (n - 1) * (n - y), y) if boundary == "wrap" else np.clip(y, 0, n - 1)
    assert_allclose(got, expected, rtol=0, atol=1e-11)


@pytest.mark.parametrize("boundary", ("mirror", "reflect", "wrap", "grid-constant"))
@pytest.mark.parametrize("kernel", [k for k in KERNELS.values() if as_kernel(k).symmetric], ids=str)
def test_folding_coordinates_is_continuing_samples(kernel, boundary, rng):
    """What a boundary means: the field of the samples continued for ever. (A kernel that mirrors.)"""
    n, margin = 5, 24
    c, u = rng.normal(size=n), rng.uniform(-15, 20, 200)
    long = np.pad(c, margin, **NUMPY_PAD[boundary])
    for order in (0, 1, 2):
        slopes = as_kernel(kernel).derivative(order)(u[:, None] - np.arange(-margin, n + margin))
        case = Case((n,), (kernel,), (boundary,), ((0,), (1,), (2,)))
        got = case.sample(c, case.grid.to_physical(u[:, None]))[order] * case.grid.spacing[0] ** order
        assert_allclose(got, slopes @ long, rtol=0, atol=1e-11)


@pytest.mark.parametrize("kernel", ("linear", "quadratic", "cubic", "quintic"))
def test_natural_continues_a_line_as_that_line(kernel):
    """A grid of a linear function gives that function up to the ends, without prefilter; beyond it is held."""
    case = Case((9,), (kernel,), ("natural",), ((0,), (1,), (2,)))
    lo, hi = case.grid.bounds[0]
    line = 3 - 0.5 * case.grid.coords()[:, 0]
    x = np.linspace(lo - 2, hi + 2, 101)[:, None]
    value, slope, curvature = case.sample(line, x)
    assert_allclose(value, 3 - 0.5 * np.clip(x[:, 0], lo, hi), rtol=0, atol=1e-12)
    inside = (x[:, 0] > lo) & (x[:, 0] < hi)
    assert_allclose(slope[inside], -0.5, rtol=0, atol=1e-12)
    assert_array_equal(slope[(x[:, 0] < lo) | (x[:, 0] > hi)], 0.0)
    assert_allclose(curvature, 0, rtol=0, atol=1e-11)


def test_natural_has_no_curvature_at_the_ends(rng):
    """The natural spline of numerical analysis, by scipy.interpolate."""
    from scipy.interpolate import CubicSpline

    data, x = rng.normal(size=8), rng.uniform(0, 7, 50)
    spline = CubicSpline(np.arange(8), data, bc_type="natural")
    got = gf.sample(data, x[:, None], boundary="natural", derivative=[(0,), (1,), (2,)])
    assert_allclose(got, [spline(x), spline(x, 1), spline(x, 2)], rtol=0, atol=1e-11)
    ends = gf.sample(data, [[0.0], [7.0]], boundary="natural", derivative=(2,))
    assert_allclose(ends, 0, atol=1e-11)


def test_each_axis_has_its_own_boundary(rng):
    data = rng.normal(size=(5, 6))
    x = rng.uniform(-9, 14, (60, 2))
    for first, second in (("mirror", "natural"), ("wrap", "mirror")):
        got = gf.sample(data, x, kernel="linear", boundary=(first, second))
        columns = zip((first, second), data.shape, x.T, strict=True)
        folded = np.stack([[folded_by_hand(b, float(u), n, 2)[0] for u in column] for b, n, column in columns], axis=-1)
        assert_allclose(got, gf.sample(data, folded, kernel="linear", boundary="wrap"), rtol=0, atol=1e-12)


def test_a_periodic_axis_wraps_whatever_is_said(rng):
    grid = gf.Grid((5, 6), [(0, 10), (2, 8)], periodic=(True, False))
    data = rng.normal(size=grid.shape)
    x = rng.uniform(-12, 23, (60, 2))
    got = gf.sample(data, x, grid=grid, boundary="reflect")
    period = np.array([10.0, 0.0])
    assert_allclose(gf.sample(data, x + 3 * period, grid=grid, boundary="reflect"), got, rtol=0, atol=1e-11)
    plain = gf.Grid.from_spacing(grid.shape, grid.origin, grid.spacing)
    assert_array_equal(gf.sample(data, x, grid=plain, boundary=("wrap", "reflect")), got)
    y = gf.splat(got, x, grid, kernel="cubic", boundary="constant")
    assert_array_equal(gf.splat(got, x, plain, kernel="cubic", boundary=("wrap", "constant")), y)


@pytest.mark.parametrize(
    ("n", "origin", "spacing", "dtype"),
    [
        *((*axis, "float32") for axis in ((11, 0.0, 0.1), (7, -3.3, 1 / 3), (11, 1e3, 1e-2))),
        *((*axis, "float64") for axis in ((11, 0.0, 0.1), (7, -3.3, 1 / 3), (11, 1e3, 1e-2))),
        *((*axis, "float64") for axis in ((1001, 1e6 + 0.1, 1e-3), (101, 2.46e6, 1e-5), (365, 2460676.5, 1 / 1440))),
    ],
    ids=str,
)
def test_samples_are_inside_for_constant(n, origin, spacing, dtype):
    """A point on the last sample, written in the grid's own units, is not outside by rounding."""
    grid = gf.Grid.from_spacing(n, origin, spacing)
    how = {"grid": grid, "kernel": "linear", "boundary": "constant", "cval": 100}
    data = np.ones(n, dtype)
    assert_allclose(gf.sample(data, grid.coords().astype(dtype), **how), data, rtol=1e-6)
    beyond = np.array([[origin - spacing], [origin + n * spacing]], dtype)
    assert_array_equal(gf.sample(data, beyond, **how), 100)


@pytest.mark.parametrize("cval", (np.nan, np.inf, -np.inf))
@pytest.mark.parametrize("few", (True, False))
@pytest.mark.parametrize("kernel", ("linear", "cubic"))
def test_cval_may_be_no_number(kernel, few, cval, rng, monkeypatch):
    """`cval=nan` marks what is outside: only what is outside."""
    force(monkeypatch, "direct" if few else "padded")
    data, x = rng.normal(size=(9, 8)), rng.uniform(-4, 12, (200, 2))
    plain = gf.sample(data, x, kernel=kernel, boundary="constant")
    outside = ((x < 0) | (x > np.array(data.shape) - 1)).any(1)
    got = gf.sample(data, x, kernel=kernel, boundary="constant", cval=cval)
    assert_array_equal(got[outside], np.full(outside.sum(), cval))
    assert_array_equal(got[~outside], plain[~outside])


def test_a_grid_constant_cval_of_nan_touches_only_stencils_that_cross(rng):
    data, x = rng.normal(size=9), rng.uniform(-4, 12, (200, 1))
    got = gf.sample(data, x, kernel="linear", boundary="grid-constant", cval=np.nan)
    assert_array_equal(np.isnan(got), ((x < 0) | (x > 8))[:, 0])
