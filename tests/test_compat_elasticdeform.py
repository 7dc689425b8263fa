"""The functions of elasticdeform: by their formulas, and beside what the original answered."""

import itertools

import numpy as np
import pytest
import tensorflow as tf
import torch
from deform_oracle import dense
from elasticdeform_cases import MODES, POSES, RECORD, answers, often
from numpy.testing import assert_allclose, assert_array_equal
from scipy import ndimage

import gridfield as gf
import gridfield.compat.elasticdeform as ours
import gridfield.compat.elasticdeform.tf
import gridfield.compat.elasticdeform.torch


def coordinate(x, mode, n):
    """Where a coordinate goes, one at a time, as the original says."""
    if 0 <= x <= n - 1 or mode == "constant":
        return x
    if mode == "nearest":
        return min(max(x, 0), n - 1)
    if mode == "wrap":
        return x - (n - 1) * np.floor(x / (n - 1))
    if mode == "mirror":
        x = abs(x) % (2 * n - 2)
        return min(x, 2 * n - 2 - x)
    if x < 0:
        x += 2 * n * int(-x / (2 * n))
        return x + 2 * n if x < -n else -x - 1
    x -= 2 * n * int(x / (2 * n))
    return 2 * n - x - 1 if x >= n else x


def expected(x, u, order=3, mode="constant", cval=0.0, crop=None, prefilter=True, affine=None, rotate=None, zoom=None):
    """src(o) = RZ(inv(A) o) + s + u(o + s), for a plane."""
    crop = crop or [slice(None)] * 2
    start, field = np.array([c.start or 0 for c in crop]), dense(u, x.shape)[(slice(None), *crop)]
    shape = field.shape[1:]
    o = np.indices(shape).reshape(2, -1).astype(float)
    if affine is not None:
        o = np.linalg.solve(affine[:2, :2], o - affine[:2, 2:])
    centre = (np.array(shape)[:, None] - 1) / 2
    turn = np.radians(-(rotate or 0))
    turn = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    src = centre + turn @ (o - centre) / (zoom or 1) + start[:, None] + field.reshape(2, -1)
    off = np.any([(s < 0) | (s > n - 1) for s, n in zip(src, x.shape, strict=True)], 0)
    src = np.stack([[coordinate(v, mode, n) for v in s] for s, n in zip(src, x.shape, strict=True)])
    c = ndimage.spline_filter(x, order, mode="mirror") if prefilter and order > 1 else x
    y = ndimage.map_coordinates(c, src, order=order, mode="mirror", prefilter=False)
    return np.where(off & (mode == "constant"), cval, y).reshape(shape)


ALL = list(itertools.product(MODES, range(6)))


@pytest.mark.parametrize(
    ("mode", "order"),
    [pytest.param(m, o, marks=() if often(o, m) else pytest.mark.slow) for m, o in ALL],
)
def test_modes_and_orders(mode, order, rng):
    x, u = rng.normal(size=(12, 15)), rng.normal(size=(2, 3, 4)) * 6
    want = expected(x, u, order, mode, cval=0.3)
    assert_allclose(ours.deform_grid(x, u, order, mode, 0.3), want, rtol=0, atol=1e-8)


@pytest.mark.parametrize(
    ("mode", "order"),
    [
        pytest.param(m, o, marks=() if (m == "constant", o) in ((True, 1), (False, 3)) else pytest.mark.slow)
        for m, o in ALL
    ],
)
def test_modes_and_orders_in_float32(mode, order, rng):
    x, u = rng.normal(size=(12, 15)), rng.normal(size=(2, 3, 4)) * 6
    want = expected(x, u, order, mode, cval=0.3)
    assert_allclose(ours.deform_grid(x.astype(np.float32), u, order, mode, 0.3), want, rtol=0, atol=1e-4)


@pytest.mark.parametrize("pose", POSES, ids=lambda p: "-".join(p))
@pytest.mark.parametrize("mode", ("constant", "reflect"))
def test_crop_affine_rotation_zoom(pose, mode, rng):
    x, u = rng.normal(size=(12, 15)), rng.normal(size=(2, 3, 4)) * 3
    y = ours.deform_grid(x, u, mode=mode, **pose)
    assert_allclose(y, expected(x, u, mode=mode, **pose), rtol=0, atol=1e-8)
    ct = rng.normal(size=y.shape)
    gradient = ours.deform_grid_gradient(ct, u, mode=mode, X_shape=x.shape, **pose)
    assert_allclose((gradient * x).sum(), (ct * y).sum(), rtol=1e-10)


@pytest.mark.parametrize("mode", MODES)
def test_on_the_pixels(mode, rng):
    """No displacement, one of less than a pixel, a huge one: what becomes of the ends."""
    x = rng.normal(size=(12, 15))
    assert_allclose(ours.deform_grid(x, np.zeros((2, 3, 3)), mode=mode), x, atol=1e-12)
    for u in (np.full((2, 3, 3), 0.75), np.full((2, 3, 3), -0.75), rng.normal(size=(2, 3, 3)) * 200):
        assert_allclose(ours.deform_grid(x, u, mode=mode), expected(x, u, mode=mode), rtol=0, atol=1e-8)


def test_lists_of_images(rng):
    x, rgb, u = rng.normal(size=(12, 15)), rng.normal(size=(3, 12, 15)), rng.normal(size=(2, 3, 4))
    labels = rng.integers(0, 255, (12, 15)).astype(np.uint8)
    a, b, c = ours.deform_grid([x, rgb, labels], u, order=[3, 1, 0], mode=["mirror", "nearest", "constant"],
                               cval=[0.0, 0.0, 7.0], axis=[(0, 1), (1, 2), (0, 1)])  # fmt: skip
    assert_allclose(a, expected(x, u, 3, "mirror"), atol=1e-8)
    assert_allclose(b[2], expected(rgb[2], u, 1, "nearest"), atol=1e-8)
    assert c.dtype == np.uint8
    assert_array_equal(c, expected(labels, u, 0, "constant", 7.0))
    (alone,) = ours.deform_grid([x], u, 3, "mirror")
    assert_array_equal(alone, a)
    assert_allclose(ours.deform_grid(rgb, u, axis=[1, 2]), ours.deform_grid(rgb, u, axis=(1, 2)))
    assert_allclose(ours.deform_grid(x[0], u[:1, 0], axis=0), gf.deform(x[0], u[:1, 0]))
    gradients = ours.deform_grid_gradient([a, b], u, order=[3, 1], axis=[(0, 1), (1, 2)])
    assert [g.shape for g in gradients] == [x.shape, rgb.shape]


def test_what_was_broken_there(rng):
    """Integers filtered as numbers, integer displacements as they are, three axes."""
    x, u = rng.integers(0, 255, (12, 15)).astype(np.uint8), rng.normal(size=(2, 3, 4)) * 3
    exact = expected(x.astype(float), u, 3, "mirror")
    assert_array_equal(ours.deform_grid(x, u, 3, "mirror"), np.clip(np.rint(exact), 0, 255))
    whole = rng.integers(-3, 4, (2, 3, 4))
    assert_allclose(ours.deform_grid(x * 1.0, whole), ours.deform_grid(x * 1.0, whole.astype(float)))
    volume, v = rng.normal(size=(5, 6, 7)), rng.normal(size=(3, 2, 3, 2))
    affine = np.eye(3, 4)
    affine[:, 3] = (1, -1, 2)
    shifted = ours.deform_grid(volume, 0 * v, affine=affine, mode="constant", order=1)
    assert_allclose(shifted[1:, :-1, 2:], volume[:-1, 1:, :-2], atol=1e-12)


def test_random_grids(rng):
    x = rng.normal(size=(20, 30))
    np.random.seed(5)  # noqa: NPY002
    got = ours.deform_random_grid(x, sigma=4, points=(3, 5), mode="mirror")
    np.random.seed(5)  # noqa: NPY002
    u = np.random.randn(2, 3, 5) * 4  # noqa: NPY002
    assert_array_equal(got, ours.deform_grid(x, u, mode="mirror"))
    assert ours.deform_random_grid([x, x], points=4, axis=(0, 1))[1].shape == x.shape


@pytest.mark.parametrize("mode", MODES)
def test_torch_and_tensorflow(mode, rng):
    x, u = rng.normal(size=(12, 15)), rng.normal(size=(2, 3, 4)) * 6
    ct = rng.normal(size=x.shape)
    want = ours.deform_grid(x, u, 3, mode)
    in_x = ours.deform_grid_gradient(ct, u, 3, mode)
    a, b = torch.tensor(x, requires_grad=True), torch.tensor(u, requires_grad=True)
    y, again = ours.torch.deform_grid([a, a], b, 3, mode)
    assert_allclose(y.detach(), want, atol=1e-12)
    assert_array_equal(y.detach(), again.detach())
    y.backward(torch.tensor(ct))
    assert_allclose(a.grad, in_x, atol=1e-10)
    step, h = rng.normal(size=u.shape), 1e-6
    moved = [ours.deform_grid(x, u + s * h * step, 3, mode) for s in (1, -1)]
    smooth = np.abs(moved[0] - moved[1]) < 1e-3  # where no coordinate crosses an end
    y = ours.torch.deform_grid(a, b, 3, mode)
    (in_u,) = torch.autograd.grad((y * torch.tensor(ct * smooth)).sum(), b)
    slope = (ct * smooth * (moved[0] - moved[1])).sum() / (2 * h)
    assert_allclose((in_u.numpy() * step).sum(), slope, rtol=1e-4)
    assert ours.torch.deform_grid(torch.tensor(x), u, 3, mode).dtype == torch.float64

    @tf.function
    def gradients(x, u):
        y = ours.tf.deform_grid(x, u, 3, mode)
        return y, *tf.gradients(y, [x, u], grad_ys=tf.constant(ct * smooth))

    y, _, in_displacement = gradients(tf.Variable(x), tf.Variable(u))
    assert_allclose(y, want, atol=1e-12)
    assert_allclose(in_displacement, in_u, atol=1e-9)
    assert isinstance(ours.tf.deform_grid([x, x], u, 3, mode), list)


@pytest.mark.parametrize(
    ("message", "change"),
    [
        ("mode must be one of", {"mode": "spam"}),
        ("order must be an int from 0 to 5", {"order": 6}),
        ("order has 2 values but there are 1 images", {"order": [1, 2]}),
        ("must be sorted", {"axis": (1, 0)}),
        ("axis has 2 items", {"axis": [(0, 1), (0, 1)]}),
        ("displacement has shape", {"displacement": np.zeros((3, 3, 3))}),
        ("affine has shape", {"affine": np.eye(2)}),
        ("last row of affine", {"affine": np.ones((3, 3))}),
        ("are for 2 deformed axes", {"X": np.zeros((4, 5, 6)), "displacement": np.zeros((3, 2, 2, 2)), "rotate": 3}),
        ("crop", {"crop": [slice(0, 13), slice(0, 5)]}),
        ("differ in size", {"X": [np.zeros((12, 15)), np.zeros((12, 14))]}),
    ],
)
def test_errors_say_what_was_wrong(message, change):
    with pytest.raises(ValueError, match=message):
        ours.deform_grid(**{"X": np.zeros((12, 15)), "displacement": np.zeros((2, 3, 3)), **change})
    with pytest.raises(ValueError, match="X_shape must be given with crop"):
        ours.deform_grid_gradient(np.zeros((4, 5)), np.zeros((2, 3, 3)), crop=[slice(0, 4), slice(0, 5)])
    with pytest.raises(TypeError, match="X must be an array"):
        ours.deform_grid(3.0, np.zeros((2, 3, 3)))


@pytest.mark.parametrize("all_of_them", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_what_the_original_answered(all_of_them):
    """`python tests/elasticdeform_cases.py` recorded it."""
    got, count = answers(ours, all_of_them), 0
    with np.load(RECORD) as record:
        for name, x in record.items():
            if name not in got and not all_of_them:
                continue
            assert got[name].dtype == x.dtype and got[name].shape == x.shape, name
            assert_allclose(got[name].astype(float), x.astype(float), atol=TOLERANCE[x.dtype.kind, x.itemsize],
                            err_msg=name)  # fmt: skip
            count += 1
    assert count == len(got) > (90 if all_of_them else 50)


# integers: a linear value that is a half and a rounding error falls to either side
TOLERANCE = {("f", 8): 1e-8, ("f", 4): 1e-4, ("u", 1): 1, ("i", 2): 1}
