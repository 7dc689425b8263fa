"""Displacement fields, their determinants and inverses, points that move with an image."""

import deform_oracle as oracle
import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

import gridfield as gf

SHAPE = (24, 31)
HOW = {"crop": (slice(3, 20), slice(5, None)), "rotate": 20, "zoom": 1.2, "affine": [[1, 0.1, 2], [0, 0.9, 1]]}


def smooth(rng, shape=SHAPE, points=4, sigma=3.0):
    return gf.random_displacement(points, sigma, shape=shape, rng=rng, fold_free=True)


# ---- the dense field
@pytest.mark.parametrize(
    ("shape", "points"), [((9,), (4,)), ((9, 1), (2, 3)), ((6, 8, 7), (3, 2, 5)), ((4, 3, 5, 4), (2, 3, 2, 3))]
)
def test_the_field_of_control_points(shape, points, rng):
    u = rng.normal(size=(len(shape), *points))
    assert_allclose(gf.displacement_field(u, shape), oracle.dense(u, shape), atol=1e-12)
    several = rng.normal(size=(3, len(shape), *points))
    got = gf.displacement_field(several, shape)
    for one, v in zip(got, several, strict=True):
        assert_allclose(one, gf.displacement_field(v, shape), atol=1e-12)


def test_it_passes_through_the_control_points(rng):
    u = rng.normal(size=(2, 4, 6))
    assert_allclose(gf.displacement_field(u, (7, 11))[:, ::2, ::2], u, atol=1e-12)
    dense = rng.normal(size=(2, 5, 6)).astype(np.float32)
    got = gf.displacement_field(dense, (5, 6))
    assert_array_equal(got, dense)
    assert got.dtype == np.float32 and not np.shares_memory(got, dense)
    assert gf.displacement_field(np.ones((2, 3, 3), int), (5, 6)).dtype == np.float64
    assert gf.displacement_field(np.ones((2, 3, 3), np.float16), (5, 6)).dtype == np.float16


# ---- determinants
def test_the_determinant_against_differences(rng):
    u, h = rng.normal(size=(2, 4, 5)), 1e-5
    fine = oracle.dense(u, SHAPE)  # the spline, sampled between pixels by SciPy with a grid of its own
    x = np.stack(np.meshgrid(*(np.linspace(0, n - 1, n) for n in SHAPE), indexing="ij"), -1)

    def moved(step):
        scaled = (x + step) * [(p - 1) / (n - 1) for p, n in zip(u.shape[1:], SHAPE, strict=True)]
        coefficients = [gf.prefilter(c) for c in u]
        return np.stack([gf.sample(c, scaled, prefilter=False) for c in coefficients])

    assert_allclose(moved(0), fine, atol=1e-12)
    columns = [(moved(h * e) - moved(-h * e)) / (2 * h) for e in np.eye(2)]
    jacobian = np.moveaxis(np.stack(columns, 1), (0, 1), (-2, -1)) + np.eye(2)
    assert_allclose(gf.jacobian_determinant(u, SHAPE), np.linalg.det(jacobian), atol=1e-8)
    again = gf.jacobian_determinant(u, SHAPE, factor=3)
    assert again.shape == (70, 91)
    assert_allclose(again[::3, ::3], gf.jacobian_determinant(u, SHAPE), atol=1e-12)
    dense = gf.displacement_field(u, SHAPE)
    assert_allclose(gf.jacobian_determinant(dense, SHAPE), np.linalg.det(jacobian), atol=0.02)
    units = u * np.reshape((2.0, 0.5), (2, 1, 1))
    assert_allclose(gf.jacobian_determinant(units, SHAPE, spacing=(2.0, 0.5)), np.linalg.det(jacobian), atol=1e-8)


def test_the_determinant_in_space(rng):
    u = rng.normal(size=(2, 3, 3, 3, 3)) * 0.1
    got = gf.jacobian_determinant(u, (5, 6, 7))
    assert got.shape == (2, 5, 6, 7)
    assert_allclose(got[1], gf.jacobian_determinant(u[1], (5, 6, 7)), atol=1e-12)
    stretch = np.zeros((3, 2, 2, 2))
    stretch[0, 1] = 4.0  # over 5 pixels: an interpolating cubic with mirrored ends is steepest in the middle
    assert gf.jacobian_determinant(stretch, (5, 6, 7))[2, 3, 3] == pytest.approx(1 + 1.5)
    t = torch.tensor(u, requires_grad=True)
    assert torch.autograd.gradcheck(lambda u: gf.jacobian_determinant(u, (3, 3, 4)), t)


# ---- random ones
def test_random_displacements(rng):
    u = gf.random_displacement((50, 60), (3.0, 8.0), shape=(200, 300), rng=0)
    assert u.shape == (2, 50, 60) and u.dtype == np.float64
    assert_allclose(u.std((1, 2)), (3, 8), rtol=0.05)
    assert_array_equal(u, gf.random_displacement((50, 60), (3.0, 8.0), shape=(200, 300), rng=np.random.default_rng(0)))
    still = gf.random_displacement(4, 5.0, shape=SHAPE, rng=rng, fixed_border=True)
    field = gf.displacement_field(still, SHAPE)
    border = np.ones(SHAPE, bool)
    border[1:-1, 1:-1] = False
    assert_allclose(field[:, border], 0, atol=1e-12)
    assert np.abs(field).max() > 1
    assert (gf.random_displacement(3, 0.0, shape=SHAPE, rng=rng, fold_free=True) == 0).all()


@pytest.mark.parametrize("draws", [1000, pytest.param(10_000, marks=pytest.mark.slow)])
def test_nothing_folds(draws, rng):
    """Most of them would fold; on a lattice four times finer."""
    scaled = 0
    for k in range(draws):
        shape, points = [((17, 13), (3, 4)), ((9, 8, 7), (3, 3, 2)), ((9, 1), (4, 2))][k % 3]
        sigma, seed = rng.uniform(0.1, 20), int(rng.integers(2**31))
        free = gf.random_displacement(points, sigma, shape=shape, rng=seed, fold_free=True)
        assert gf.jacobian_determinant(free, shape, factor=4).min() > 0
        plain = gf.random_displacement(points, sigma, shape=shape, rng=seed)
        scaled += not np.array_equal(plain, free)
        assert_allclose(free * np.abs(plain).max(), plain * np.abs(free).max(), atol=1e-9)  # scaled, all alike
    assert draws / 2 < scaled < draws


def test_the_bound_is_reached(rng):
    """What is scaled down is scaled just to the bound, and no further."""
    from gridfield.displacement import MARGIN, steepness

    u = gf.random_displacement((4, 5), 50.0, shape=SHAPE, rng=1, fold_free=True, spacing=(2.0, 0.5))
    in_pixels = u / np.reshape((2.0, 0.5), (2, 1, 1))
    c = np.stack([gf.prefilter(x) for x in in_pixels])
    slopes = [np.abs(np.diff(c, axis=j + 1)).max((1, 2)) * (p - 1) / (n - 1)
              for j, (p, n) in enumerate(zip((4, 5), SHAPE, strict=True))]  # fmt: skip
    assert sum(slopes).max() == pytest.approx(1 - MARGIN, abs=1e-12)
    assert steepness(c, SHAPE) == pytest.approx(1 - MARGIN, abs=1e-12)


# ---- points
@pytest.mark.parametrize("displaced", (True, False))
def test_points_move_with_the_image(displaced, rng):
    u = smooth(rng) if displaced else None
    src = np.moveaxis(oracle.source(u, SHAPE, **HOW), 0, -1)
    pixels = np.moveaxis(np.indices(src.shape[:-1]), 0, -1)
    assert_allclose(gf.deform_points(src, u, SHAPE, **HOW), pixels, atol=1e-8)
    assert_allclose(gf.deform_points(pixels, u, SHAPE, inverse=True, **HOW), src, atol=1e-12)


def test_a_landmark_is_where_its_blob_is(rng):
    """Consistent with deform to 0.01 pixels: the blob's centre of mass."""
    shape, p = (60, 70), np.array([[30.2, 35.7]])
    u = gf.random_displacement(3, 6.0, shape=shape, rng=3, fold_free=True)
    x = np.indices(shape)
    image = np.exp(-((x - p[0][:, None, None]) ** 2).sum(0) / (2 * 2.5**2))
    how = {"rotate": 25, "zoom": 1.1, "crop": (slice(10, 55), slice(12, 64))}
    out = gf.deform(image, u, boundary="mirror", **how)
    centre = (np.indices(out.shape) * out).sum((1, 2)) / out.sum()
    there = gf.deform_points(p, u, shape, **how)[0]
    # the blob is stretched unevenly: its mass is off by second derivatives, that of a smaller one less
    assert np.abs(centre - there).max() < 0.1
    peak = gf.sample(out, there[None], derivative=[(0, 0), (1, 0), (0, 1)])
    assert peak[0, 0] > 0.999 and np.abs(peak[1:]).max() < 0.01 / 2.5**2  # it moves by less than 0.01


def test_there_and_back(rng):
    u = smooth(rng, (12, 13, 14), 3, 2.0)
    p = rng.uniform(0, 11, (5, 4, 3))
    how = {"rotate": (10, 20, 30), "spacing": (2.0, 1.0, 0.5), "zoom": 0.9}
    there = gf.deform_points(p, u, (12, 13, 14), **how)
    assert_allclose(gf.deform_points(there, u, (12, 13, 14), inverse=True, **how), p, atol=1e-8)


def test_points_of_a_batch_and_of_each_type(rng):
    u = np.stack([smooth(rng), smooth(rng)])
    p = rng.uniform(0, 20, (2, 5, 2))
    got = gf.deform_points(p, u, SHAPE)
    for one, v, x in zip(got, u, p, strict=True):
        assert_allclose(one, gf.deform_points(x, v, SHAPE), atol=1e-8)
    assert gf.deform_points(p.astype(np.float32), u, SHAPE).dtype == np.float32
    assert gf.deform_points(p.astype(int), u, SHAPE).dtype == np.float64
    assert gf.deform_points(np.zeros((0, 2)), u[0], SHAPE).shape == (0, 2)
    assert gf.deform_points(p[:0], u[:0], SHAPE).shape == (0, 5, 2)
    assert np.isnan(gf.deform_points([[np.nan, 1.0]], u[0], SHAPE)).all()
    assert gf.deform_points(torch.tensor(p), torch.tensor(u), SHAPE).dtype == torch.float64


def test_points_have_derivatives(rng):
    u, p = torch.tensor(smooth(rng), requires_grad=True), torch.tensor(rng.uniform(4, 15, (3, 2)), requires_grad=True)
    angle = torch.tensor(20.0, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda p, u, a: gf.deform_points(p, u, SHAPE, rotate=a), (p, u, angle))
    assert torch.autograd.gradcheck(
        lambda u: gf.invert_displacement(u, (6, 7))[0], 0.2 * u.detach()[:, :3, :3].requires_grad_()
    )


# ---- inverses
@pytest.mark.parametrize("dense", (False, True))
def test_the_inverse_undoes(dense, rng):
    u = smooth(rng)
    u = gf.displacement_field(u, SHAPE) if dense else u
    v, residual = gf.invert_displacement(u, SHAPE)
    y = np.moveaxis(np.indices(SHAPE).astype(float), 0, -1)
    there = y + np.moveaxis(v, 0, -1)
    assert_allclose(gf.deform_points(there, u, SHAPE, inverse=True), y, atol=1e-8)
    assert_allclose(gf.deform_points(y, u, SHAPE), there, atol=1e-8)
    assert 0 <= residual < 1e-6
    ramp = np.add.outer(np.arange(24.0), 2 * np.arange(31.0))
    back = gf.deform(gf.deform(ramp, u, boundary="natural"), v, boundary="natural")
    inside = (there > 2).all(-1) & (there < np.array(SHAPE) - 3).all(-1)
    assert_allclose(back[inside], ramp[inside], atol=0.02)


def test_what_folds_has_no_inverse():
    u = np.zeros((1, 3))
    u[0, 1] = 40.0
    v, residual = gf.invert_displacement(u, (20,))
    assert np.isnan(residual) == np.isnan(v).any()
    ok = ~np.isnan(v[0])
    y = np.arange(20.0)[ok, None]
    assert_allclose(gf.deform_points(y + v[0][ok, None], u, (20,), inverse=True), y, atol=1e-3)


def test_units_of_an_inverse(rng):
    u, spacing = smooth(rng), np.array([2.0, 0.5])
    v, _ = gf.invert_displacement(u, SHAPE)
    w, _ = gf.invert_displacement(u * spacing[:, None, None], SHAPE, spacing=spacing)
    assert_allclose(w, v * spacing[:, None, None], atol=1e-8)
    several, _ = gf.invert_displacement(np.stack([u, u / 2]).astype(np.float32), SHAPE)
    assert several.shape == (2, 2, *SHAPE) and several.dtype == np.float32
    assert_allclose(several[0], v, atol=1e-4)


# ---- bad input
@pytest.mark.parametrize(
    ("error", "message", "call"),
    [
        (
            ValueError,
            r"gf.displacement_field: displacement has shape \(3, 3, 3\) but must be \(2,",
            lambda: gf.displacement_field(np.zeros((3, 3, 3)), (5, 6)),
        ),
        (ValueError, "shape must have one size per axis", lambda: gf.displacement_field(np.zeros((2, 3, 3)), 5)),
        (ValueError, "shape", lambda: gf.displacement_field(np.zeros((2, 3, 3)), (0, 5))),
        (ValueError, "needs at least 2", lambda: gf.jacobian_determinant(np.zeros((2, 1, 3)), (5, 6))),
        (ValueError, "factor", lambda: gf.jacobian_determinant(np.zeros((2, 3, 3)), (5, 6), factor=0)),
        (ValueError, "points must be at least 2", lambda: gf.random_displacement((2, 1), 1.0, shape=(5, 6), rng=0)),
        (ValueError, "points has 3 values", lambda: gf.random_displacement((2, 2, 2), 1.0, shape=(5, 6), rng=0)),
        (ValueError, "sigma", lambda: gf.random_displacement(3, -1.0, shape=(5, 6), rng=0)),
        (
            TypeError,
            "rng must be a numpy.random.Generator or an int, got NoneType",
            lambda: gf.random_displacement(3, 1.0, shape=(5, 6), rng=None),
        ),
        (
            TypeError,
            "fold_free must be True or False",
            lambda: gf.random_displacement(3, 1.0, shape=(5, 6), rng=0, fold_free=1),
        ),
        (
            ValueError,
            "points has 3 coordinates per point",
            lambda: gf.deform_points(np.zeros((4, 3)), np.zeros((2, 3, 3)), (5, 6)),
        ),
        (
            ValueError,
            "must begin with the batch of 4",
            lambda: gf.deform_points(np.zeros((3, 2)), np.zeros((4, 2, 3, 3)), (5, 6)),
        ),
    ],
)
def test_errors_say_what_was_wrong(error, message, call):
    with pytest.raises(error, match=message):
        call()
