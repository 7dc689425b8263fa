"""gf.deform against its definition in tests/deform_oracle.py, and what it promises beside: crops, batches, labels."""

import itertools
import tracemalloc

import deform_oracle as oracle
import numpy as np
import pytest
import torch
from cases import SCIPY_MODE
from numpy.testing import assert_allclose, assert_array_equal
from scipy import ndimage

import gridfield as gf
from gridfield.cpu import warp

MODES = tuple(SCIPY_MODE)
ORDERS = (0, 1, 2, 3, 4, 5)
SHAPES = {1: (23,), 2: (14, 17), 3: (7, 9, 8), 4: (5, 4, 6, 5)}
POINTS = {1: (4,), 2: (3, 5), 3: (3, 2, 4), 4: (2, 3, 2, 3)}


def often(cases, among):
    """All of `among`; those that are not in `cases` are marked slow, as each is a kernel or more to compile, 3 s."""
    assert set(cases) <= set(among)
    return [pytest.param(*one, id=str(one), marks=() if one in cases else pytest.mark.slow) for one in among]


# each boundary, each order, each number of axes
OFTEN = {
    *((2, 3, mode) for mode in MODES),
    *((2, order, MODES[order]) for order in (0, 1, 2, 4, 5)),
    *((1, 1, "wrap"), (1, 3, "mirror"), (3, 3, "mirror"), (4, 1, "mirror")),
}
TYPED = {
    (2, 0, MODES[0]), (2, 1, MODES[1]), (2, 3, "mirror"), (2, 3, "constant"), (3, 3, "mirror"),
}  # fmt: skip
SETTINGS = list(itertools.product(SHAPES, ORDERS, MODES))


def case(ndim, rng, sigma=2.0):
    return rng.normal(size=SHAPES[ndim]), rng.normal(size=(ndim, *POINTS[ndim])) * sigma


@pytest.mark.parametrize(("ndim", "order", "mode"), often(OFTEN, SETTINGS))
def test_the_definition(ndim, order, mode, rng):
    x, u = case(ndim, rng)
    expected = oracle.deform(x, u, order, mode, cval=0.3)
    assert_allclose(gf.deform(x, u, kernel=order, boundary=mode, cval=0.3), expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize(("ndim", "order", "mode"), often(TYPED, SETTINGS))
def test_the_definition_in_other_types(ndim, order, mode, rng):
    """float32, and uint8, which is computed so."""
    x, u = case(ndim, rng)
    expected = oracle.deform(x, u, order, mode, cval=0.3)
    allowed = 0.02 if order == 0 or mode == "constant" else 1e-9  # at jumps of kernel or boundary, rounding decides
    got = gf.deform(x.astype(np.float32), u, kernel=order, boundary=mode, cval=0.3)
    assert got.dtype == np.float32
    assert (np.abs(got - expected) > 1e-4).mean() < allowed
    grey = np.clip(128 + 40 * x, 0, 255).astype(np.uint8)
    got = gf.deform(grey, u, kernel=order, boundary=mode, cval=3)
    exact = np.clip(oracle.deform(grey.astype(float), u, order, mode, cval=3), 0, 255)
    assert got.dtype == np.uint8
    assert (np.abs(got - exact) > 0.5 + 1e-3).mean() < allowed


POSES = [
    {"rotate": 30},
    {"zoom": 1.5},
    {"zoom": (0.8, 1.4), "rotate": -40},
    {"affine": [[1.1, 0.2], [-0.1, 0.9]]},
    {"affine": [[1.1, 0.2, 2.5], [-0.1, 0.9, -1.0]], "rotate": 30, "zoom": 1.5},
    {"affine": [[1.1, 0.2, 2.5], [-0.1, 0.9, -1.0], [0, 0, 1]], "crop": (slice(2, 10), slice(5, None))},
    {"rotate": 30, "zoom": (1.2, 0.9), "spacing": (2.0, 0.5), "affine": [[1.1, 0.2, 2.5], [-0.1, 0.9, -1.0]]},
    {"rotate": [[0.6, -0.8], [0.8, 0.6]]},
]


@pytest.mark.parametrize("pose", POSES, ids=str)
@pytest.mark.parametrize("displaced", (True, False))
def test_affine_rotation_and_zoom(pose, displaced, rng):
    x, u = case(2, rng)
    u = u if displaced else None
    expected = oracle.deform(x, u, mode="mirror", **pose)
    assert_allclose(gf.deform(x, u, boundary="mirror", **pose), expected, rtol=0, atol=1e-11)


def test_affine_and_rotation_in_space(rng):
    x, u = case(3, rng)
    affine = np.eye(3, 4) + 0.1 * rng.normal(size=(3, 4))
    how = {"affine": affine, "rotate": (10, -20, 30), "zoom": 1.1, "spacing": (1.0, 2.0, 0.5)}
    assert_allclose(gf.deform(x, u, boundary="wrap", **how), oracle.deform(x, u, mode="wrap", **how), atol=1e-11)
    turned = gf.deform(x[:, :7], rotate=(0, 0, 90), kernel="linear", boundary="nearest")
    assert_allclose(turned, np.rot90(x[:, :7], axes=(0, 1)), atol=1e-12)
    by_matrix = gf.deform(x, rotate=oracle.rotation((10, -20, 30), 3))
    assert_allclose(by_matrix, gf.deform(x, rotate=(10, -20, 30)), atol=1e-12)


def test_quarter_turns_are_rot90(rng):
    x = rng.normal(size=(9, 9))
    for k in range(-2, 3):
        got = gf.deform(x, rotate=90 * k, kernel="linear", boundary="nearest")
        assert_allclose(got, np.rot90(x, k), atol=1e-12)


def test_a_displacement_pulls(rng):
    x = rng.normal(size=(8, 9))
    u = np.zeros((2, 2, 2))
    u[1] = 3
    assert_array_equal(gf.deform(x, u, kernel="nearest")[:, :6], x[:, 3:])


TYPES = (np.float32, np.float64, np.uint8)
CROPPED = list(itertools.product(("nearest", "linear", "cubic"), TYPES, ("constant", "mirror")))
CROPPED += [("quintic", np.float64, "mirror"), ("cubic", np.float32, "nearest"), ("cubic", np.float64, "wrap")]
CROPPED_OFTEN = [
    ("nearest", np.float64, "constant"),
    ("nearest", np.uint8, "mirror"),
    ("linear", np.float32, "mirror"),
    ("linear", np.uint8, "constant"),
    *(("cubic", dtype, boundary) for dtype in TYPES for boundary in ("constant", "mirror")),
    ("cubic", np.float64, "wrap"),
]


@pytest.mark.parametrize(("kernel", "dtype", "boundary"), often(CROPPED_OFTEN, CROPPED))
def test_a_crop_is_that_region_bit_for_bit(kernel, dtype, boundary, rng):
    x = (rng.random((40, 50)) * 255).astype(dtype)
    u = rng.normal(size=(2, 3, 4)) * 4
    whole = gf.deform(x, u, kernel=kernel, boundary=boundary)
    for crop in ((slice(10, 30), slice(0, 20)), (slice(39, 40), slice(17, 50)), (slice(None), slice(-7, -2))):
        assert_array_equal(gf.deform(x, u, kernel=kernel, boundary=boundary, crop=crop), whole[crop])


def test_a_crop_along_any_axis_and_of_a_dense_displacement(rng):
    x, u = rng.normal(size=(4, 12, 11, 3)).astype(np.float32), rng.normal(size=(2, 12, 11))
    crop = (slice(3, 9), slice(2, 4))
    whole = gf.deform(x, u, axis=(1, 2))
    assert_array_equal(gf.deform(x, u, axis=(1, 2), crop=crop), whole[:, 3:9, 2:4])
    assert_allclose(whole[1, :, :, 2], ndimage.map_coordinates(x[1, :, :, 2], u + np.indices((12, 11)), order=3),
                    atol=1e-4)  # fmt: skip
    volume, v = case(3, rng)
    crop = (slice(2, 5), slice(1, 8), slice(3, 8))
    assert_array_equal(gf.deform(volume, v, crop=crop), gf.deform(volume, v)[crop])


@pytest.mark.parametrize(
    "shape", [(3, 2500), (2500, 3), (1100,), pytest.param((2, 3, 1030), marks=pytest.mark.slow)], ids=str
)
def test_long_rows(shape, rng):
    """Longer than what is worked out at a time, and in float32 as exact at their ends as at their beginnings."""
    x, u = rng.normal(size=shape), rng.normal(size=(len(shape), *(5,) * len(shape))) * 3
    expected = oracle.deform(x, u, mode="mirror")
    assert_allclose(gf.deform(x, u, boundary="mirror"), expected, atol=1e-10)
    assert_allclose(gf.deform(x.astype(np.float32), u, boundary="mirror"), expected, atol=3e-5)
    turned = gf.deform(x, u, boundary="mirror", affine=np.eye(len(shape)) * 1.01)
    assert_allclose(turned, oracle.deform(x, u, mode="mirror", affine=np.eye(len(shape)) * 1.01), atol=1e-10)
    crop = (slice(None),) * (len(shape) - 1) + (slice(1, None),)
    assert_array_equal(gf.deform(x, u, crop=crop), gf.deform(x, u)[crop])


@pytest.mark.parametrize("dtype", (np.float32, np.float64))
@pytest.mark.parametrize("boundary", ("mirror", "constant", "natural", "reflect", "wrap"))
def test_a_crop_filters_what_it_touches(dtype, boundary, rng, monkeypatch):
    """And still has the bits of the whole: the margin of what is filtered is wide enough."""
    boxes, box_of = [], warp.Rows.box

    def noted(self, *args):
        read, box = box_of(self, *args)
        boxes.append(box)
        return read, box

    # of the largest number nothing is left after 166 rows in float32, after 1107 in float64
    shape = (700, 70) if dtype is np.float32 else (3000, 70)
    x, u = rng.normal(size=shape).astype(dtype), rng.normal(size=(2, 4, 5)) * 3
    whole, far = gf.deform(x, u, boundary=boundary), gf.deform(x, 60 * u, boundary=boundary)
    monkeypatch.setattr(warp.Rows, "box", noted)
    for crop in (
        np.s_[100:120, 2:10],
        np.s_[0:20, 4:8],
        np.s_[shape[0] // 2 : shape[0] // 2 + 20, 0:1],
        np.s_[-30:, -9:],
    ):
        assert_array_equal(gf.deform(x, u, boundary=boundary, crop=crop), whole[crop])
        assert_array_equal(gf.deform(x, 60 * u, boundary=boundary, crop=crop), far[crop])
    everything = tuple((0, n) for n in shape)
    assert any(b != everything for b in boxes)
    assert boundary in ("natural", "wrap") or any(b == everything for b in boxes)  # natural: held at the edge
    crop = np.s_[100:140, 3:11]
    turned = gf.deform(x, u, boundary=boundary, crop=crop, rotate=30)
    if boundary != "natural":  # which SciPy does not know
        expected = oracle.deform(x.astype(float), u, mode=boundary, crop=crop, rotate=30)
        assert_allclose(turned, expected, atol=1e-10 if dtype is np.float64 else 1e-3)


def test_crops_of_an_image_that_is_zero_or_not_a_number_elsewhere(rng):
    """The tails of a filter are 1e-30 far away, and have their bits too; a NaN spoils whole lines."""
    x, u = np.zeros((420, 400), np.float32), rng.normal(size=(2, 4, 4)) * 2
    x[200:220, 190:215] = 1
    spoilt = x.copy()
    spoilt[10, 10] = np.nan
    for image in (x, x.astype(float), spoilt):
        whole = gf.deform(image, u)
        for i, j in ((0, 0), (180, 0), (0, 180), (240, 240), (360, 340), (300, 20)):
            crop = np.s_[i : i + 60, j : j + 60]
            assert_array_equal(gf.deform(image, u, crop=crop), whole[crop])


LARGE = [
    (shape, dtype, boundary)
    for shape, dtype in (((60, 70, 90), "float32"), ((1100, 1000), "uint8"), ((3, 41, 80, 90, 2), "uint8"))
    for boundary in ("mirror", "reflect", "wrap", "natural", "constant", "nearest")
]
LARGE_OFTEN = [
    *((LARGE[0][0], "float32", boundary) for boundary in ("mirror", "wrap")),
    *(((1100, 1000), "uint8", boundary) for boundary in ("reflect", "natural", "constant", "nearest")),
    (LARGE[-1][0], "uint8", "mirror"),
]


@pytest.mark.parametrize(("shape", "dtype", "boundary"), often(LARGE_OFTEN, LARGE))
def test_large_images_are_filtered_plane_by_plane(shape, dtype, boundary, rng, monkeypatch):
    """With the bits of what is filtered in place, whole or cropped."""
    axis, nd = ((1, 2, 3), 3) if len(shape) == 5 else (None, len(shape))
    x = (rng.random(shape) * 255).astype(dtype)
    u = rng.normal(size=(nd, *(4,) * nd)) * 3
    crop = (slice(5, 25), slice(0, 31), slice(50, 77))[:nd]
    how = {"boundary": boundary, "axis": axis}
    out, part = gf.deform(x, u, **how), gf.deform(x, u, crop=crop, **how)
    assert_array_equal(part, out[(slice(None), *crop) if len(shape) == 5 else crop])
    monkeypatch.setattr(warp.Rows, "_by_planes", lambda *args: None)
    assert_array_equal(out, gf.deform(x, u, **how))


@pytest.mark.parametrize("dtype", ("int32", "int64", "uint64"))
def test_nearest_keeps_large_integers(dtype, rng):
    info, u = np.iinfo(dtype), rng.normal(size=(2, 3, 3))
    x = rng.choice(np.array([info.max - 5, info.min + 7, info.max // 3 + 1], dtype), (14, 17))
    for boundary in ("nearest", "constant"):
        got = gf.deform(x, u, kernel="nearest", boundary=boundary, cval=3)
        assert got.dtype == dtype and set(got.flat) <= {*x.flat, 3} and len(set(got.flat)) > 2
        if dtype != "uint64":  # torch has no arithmetic for it
            tensor = gf.deform(torch.from_numpy(x), torch.from_numpy(u), kernel="nearest", boundary=boundary, cval=3)
            assert_array_equal(tensor.numpy(), got)


def test_memory_is_that_of_coefficients_and_result(rng):
    x, u = rng.normal(size=(160,) * 3).astype(np.float32), rng.normal(size=(3, 5, 5, 5))
    gf.deform(x, u)
    tracemalloc.start()
    gf.deform(x, u)
    peak = tracemalloc.get_traced_memory()[1] / x.nbytes
    tracemalloc.stop()
    assert 1 < peak < 2.3


# ---- axes, batches, several images
def test_other_axes_are_carried_along(rng):
    x, u = rng.normal(size=(3, 14, 2, 17)), case(2, rng)[1]
    got = gf.deform(x, u, axis=(1, 3), boundary="mirror")
    for i, j in np.ndindex(3, 2):
        assert_allclose(got[i, :, j], oracle.deform(x[i, :, j], u, mode="mirror"), atol=1e-11)
    assert_array_equal(gf.deform(x, u, axis=[-3, -1], boundary="mirror"), got)
    swapped = gf.deform(x, np.swapaxes(u, 1, 2)[::-1], axis=(3, 1), boundary="mirror")
    assert_allclose(swapped, got, atol=1e-12)
    last = gf.deform(np.moveaxis(x, 2, 0), u, axis=(2, 3), boundary="mirror")
    assert_array_equal(gf.deform(np.moveaxis(x, 2, 0), u, boundary="mirror"), last)


@pytest.mark.parametrize("batch_axis", (0, 1, -1))
def test_each_item_has_its_own_displacement(batch_axis, rng):
    x, u = rng.normal(size=(3, 14, 17)), rng.normal(size=(3, 2, 3, 5))
    affine = np.eye(2, 3) + 0.1 * rng.normal(size=(3, 2, 3))
    expected = np.stack([oracle.deform(*p, mode="mirror", affine=a) for *p, a in zip(x, u, affine, strict=True)])
    got = gf.deform(np.moveaxis(x, 0, batch_axis), u, axis=[a for a in range(3) if a != batch_axis % 3],
                    batch_axis=batch_axis, boundary="mirror", affine=affine)  # fmt: skip
    assert_allclose(got, np.moveaxis(expected, 0, batch_axis), atol=1e-11)


def test_a_batch_with_channels(rng):
    x, u = rng.normal(size=(3, 4, 14, 17)), rng.normal(size=(3, 2, 3, 5))
    got = gf.deform(x, u, batch_axis=0, boundary="wrap")
    for b, c in np.ndindex(3, 4):
        assert_allclose(got[b, c], oracle.deform(x[b, c], u[b], mode="wrap"), atol=1e-11)


def test_several_images_deform_alike(rng):
    """The walkthrough: grey, colour and labels, each with its own kernel and axes."""
    x = np.zeros((200, 300))
    x[::10, ::10] = 1
    u = rng.normal(size=(2, 3, 3)) * 25
    rgb, labels = rng.integers(0, 256, (3, 200, 300)).astype(np.uint8), rng.integers(0, 5, (200, 300))
    how = {"axis": [None, (1, 2), (0, 1)], "kernel": ["cubic", "linear", "nearest"], "boundary": "mirror"}
    a, b, c = gf.deform([x, rgb, labels], u, **how)
    assert a.dtype == np.float64 and b.dtype == np.uint8 and c.dtype == labels.dtype
    assert_allclose(a, oracle.deform(x, u, mode="mirror"), atol=1e-10)
    assert np.abs(b[1] - oracle.deform(rgb[1].astype(float), u, 1, "mirror")).max() <= 0.5 + 1e-2
    assert_array_equal(c, oracle.deform(labels, u, 0, "mirror"))
    named = gf.deform({"image": x, "labels": labels}, u, kernel={"labels": 0, "image": 3}, boundary="mirror")
    assert list(named) == ["image", "labels"]
    assert_array_equal(named["image"], a)
    assert_array_equal(named["labels"], c)
    assert isinstance(gf.deform((x, labels), u), tuple)
    region = gf.deform(x, u, boundary="mirror", crop=(slice(50, 150), slice(0, 100)))
    assert_array_equal(region, a[50:150, :100])
    assert_allclose(gf.deform(x, u, rotate=30, zoom=1.5), oracle.deform(x, u, rotate=30, zoom=1.5), atol=1e-10)


@pytest.mark.parametrize("dtype", (bool, np.int8, np.uint8, np.int64, np.float16, np.complex64, np.complex128))
def test_types_come_back(dtype, rng):
    u = rng.normal(size=(2, 3, 3))
    x = (rng.random((14, 17)) * 100).astype(dtype)
    if np.issubdtype(dtype, np.complexfloating):
        x = x + 1j * x[::-1]
    wide = oracle.deform(x.astype(complex if np.iscomplexobj(x) else float), u, mode="constant", cval=1.0)
    got = gf.deform(x, u, cval=1.0)
    assert got.dtype == x.dtype
    if np.issubdtype(dtype, np.integer):
        info = np.iinfo(dtype)
        assert_array_equal(got, np.clip(np.rint(wide), info.min, info.max).astype(dtype))
    elif dtype is bool:
        assert_array_equal(got, wide >= 0.5)
    else:
        assert_allclose(got, wide, rtol=1e-3 if dtype is np.float16 else 1e-4, atol=1e-3)


def test_labels_by_the_largest_share(rng):
    labels = rng.integers(-3, 4, (20, 24)).astype(np.int16)
    u = rng.normal(size=(2, 4, 3)) * 3
    for boundary, cval in (("mirror", 0), ("constant", 2), ("constant", -3), ("wrap", 0)):
        words = np.unique(np.append(labels, cval))
        shares = [oracle.deform((labels == w).astype(float), u, 1, boundary, cval=float(w == cval)) for w in words]
        got = gf.deform(labels, u, kernel="label", boundary=boundary, cval=cval)
        assert got.dtype == np.int16
        assert_array_equal(got, words[np.argmax(np.round(shares, 12), 0)])
    assert_array_equal(gf.deform(labels > 0, u, kernel="label"), gf.deform((labels > 0).astype(int), u, kernel="label"))


def test_views_and_strange_strides(rng):
    big = rng.normal(size=(30, 40, 2))
    u = rng.normal(size=(3, 3, 4)).transpose(0, 2, 1)[:2]
    for x in (big[::2, ::-2, 0], big[:, :, 1].T, np.asfortranarray(big[..., 0]), big[:, :1, 0], big[:1, :, 0]):
        kept = x.copy()
        x.flags.writeable = False
        assert_allclose(gf.deform(x, u, boundary="mirror"), oracle.deform(kept, u, mode="mirror"), atol=1e-10)


def test_odd_sizes(rng):
    u = rng.normal(size=(2, 3, 3))
    assert gf.deform(np.zeros((0, 5, 5)), u).shape == (0, 5, 5)
    assert gf.deform(np.zeros((0, 5, 5), np.uint8), u, batch_axis=0).shape == (0, 5, 5)
    assert_allclose(gf.deform(np.full((1, 1), 7.0), u, boundary="nearest"), [[7.0]])
    assert_allclose(gf.deform(rng.normal(size=(1, 9)), np.zeros((2, 2, 2))).shape, (1, 9))
    assert_allclose(gf.deform(np.arange(9.0)), np.arange(9.0), atol=1e-14)
    huge = gf.deform(rng.normal(size=(9, 9)), u * 1e30, boundary="constant", cval=5.0)
    assert np.isin(huge, 5.0).mean() > 0.5
    assert np.isfinite(gf.deform(rng.normal(size=(9, 9)), u * 1e30, boundary="wrap")).all()
    never, how = np.full((2, 9, 9), np.inf), {"kernel": "linear", "cval": 5.0}
    assert np.isnan(gf.deform(np.ones((9, 9)), never, boundary="wrap", **how)).all()  # as gf.sample there
    assert (gf.deform(np.ones((9, 9)), never, boundary="constant", **how) == 5).all()
    for crop in ((slice(0, 3), slice(0, 4)), None):
        assert gf.deform(np.zeros((0, 2, 9, 9)), np.zeros((0, 2, 3, 3)), batch_axis=0, crop=crop).shape[0] == 0


def test_a_nan_displacement_is_a_nan_pixel(rng):
    x = rng.normal(size=(6, 7))
    u = np.zeros((2, 6, 7))
    u[0, 2, 3] = np.nan
    got = gf.deform(x, u, kernel="linear")
    assert np.isnan(got[2, 3]) and np.isnan(got).sum() == 1
    assert gf.deform((x * 100).astype(np.int32), u, kernel="linear")[2, 3] == 0
    assert gf.deform((x > 0) + 1, u, kernel="label")[2, 3] == 0
    assert np.isnan(gf.deform(x, np.full((2, 3, 3), np.nan))).all()


def test_threads_do_not_change_a_bit(rng):
    x, u = rng.normal(size=(300, 310)).astype(np.float32), rng.normal(size=(2, 4, 5)) * 9
    results = []
    try:
        for n in (1, 2, 3):
            gf.set_num_threads(n)
            results.append(gf.deform(x, u, rotate=10))
    finally:
        gf.set_num_threads(None)
    assert_array_equal(results[0], results[1])
    assert_array_equal(results[0], results[2])


def test_coefficients_instead_of_pixels(rng):
    x, u = case(2, rng)
    got = gf.deform(x, u, prefilter=False, boundary="mirror")
    assert_allclose(got, oracle.deform(x, u, mode="mirror", prefilter=False), atol=1e-11)
    assert_allclose(
        gf.deform(gf.prefilter(x), u, prefilter=False, boundary="mirror"), gf.deform(x, u, boundary="mirror")
    )


REFERRED = [
    (ndim, boundary, dense, kernel)
    for ndim, boundary, dense in (
        (2, "mirror", False),
        (2, "nearest", True),
        (3, "constant", False),
        (1, "wrap", True),
    )
    for kernel in ("nearest", "linear", "cubic")
]
REFERRED_OFTEN = [
    (2, "mirror", False, "cubic"),
    (2, "nearest", True, "nearest"),
    (3, "constant", False, "linear"),
    (1, "wrap", True, "cubic"),
]


@pytest.mark.parametrize(("ndim", "boundary", "dense", "kernel"), often(REFERRED_OFTEN, REFERRED))
def test_the_op_against_its_reference(ndim, boundary, dense, kernel, rng):
    """OPS["warp"] is what all frameworks call; reference.warp is what runs on devices without a kernel."""
    from gridfield import reference
    from gridfield.ops import OPS
    from gridfield.sampling import _texts
    from gridfield.scheme import Warp

    full = SHAPES[ndim]
    start, shape = (1,) * ndim, tuple(n - 3 for n in full)
    points = None if dense else POINTS[ndim]
    texts = _texts(full, kernel, boundary, ((0,) * ndim,), 0.5, True, "")
    static = Warp(*texts, points, full, start, shape)
    values, pose = rng.normal(size=(2, 3, *full)), 0.1 * rng.normal(size=(2, ndim, ndim + 1))
    field = rng.normal(size=(2, ndim, *(points or shape)))
    got = OPS["warp"].run(values, field, pose, static.text)
    assert got.shape == OPS["warp"].shape(values.shape, field.shape, pose.shape, static.text)
    assert_allclose(got, reference.warp(values, field, pose, static), atol=1e-11)


# ---- bad input
X, U = np.zeros((6, 7)), np.zeros((2, 3, 3))
BAD = [
    (
        ValueError,
        "affine is .* say by axis",
        {"displacement": None, "images": np.zeros((3, 6, 7)), "affine": np.eye(3)},
    ),
    (ValueError, "last row of affine", {"affine": [[1, 0, 0], [0, 1, 0], [5, 5, 9]]}),
    (TypeError, "affine must be real numbers", {"affine": "abc"}),
    (ValueError, "not of a rotation", {"rotate": np.diag([1.0, -1.0])}),
    (ValueError, "rotate must be finite", {"rotate": np.nan}),
    (TypeError, "rotate must be real numbers", {"rotate": 1j}),
    (TypeError, "zoom must be real numbers", {"zoom": "2"}),
    (ValueError, "crop slice", {"crop": (slice(0.5, 4), slice(0, 3))}),
    (ValueError, "crop slice", {"crop": (slice(0, np.inf), slice(0, 3))}),
    (
        ValueError,
        r"displacement has shape \(3, 3, 3\) but must be \(2, points_0, points_1\)",
        {"displacement": np.zeros((3, 3, 3))},
    ),
    (ValueError, "has 2 axes .* but the displacement is along 3", {"displacement": np.zeros((3, 3, 3, 3))}),
    (ValueError, "needs at least 2", {"displacement": np.zeros((2, 3, 1))}),
    (TypeError, "displacement has dtype complex128", {"displacement": U + 1j}),
    (ValueError, "batch_axis", {"displacement": np.zeros((4, 2, 3, 3)), "images": np.zeros((4, 6, 7))}),
    (
        ValueError,
        "displacement has a batch of 3 but the images of 4",
        {"displacement": np.zeros((3, 2, 3, 3)), "images": np.zeros((4, 6, 7)), "batch_axis": 0},
    ),
    (ValueError, r"images\[1\] have the sizes \(6, 8\)", {"images": [X, np.zeros((6, 8))]}),
    (ValueError, "crop", {"crop": (slice(0, 7), slice(0, 7))}),
    (ValueError, "crop", {"crop": (slice(3, 3), slice(0, 7))}),
    (ValueError, "crop", {"crop": (slice(0, 4, 2), slice(0, 7))}),
    (ValueError, "crop", {"crop": (slice(0, 4),)}),
    (ValueError, "crop", {"crop": 3}),
    (ValueError, "may be named once", {"axis": (0, 0)}),
    (ValueError, "must name axes from -2 to 1", {"axis": (0, 2)}),
    (ValueError, "displacement has shape", {"batch_axis": 1}),
    (ValueError, "kernel is a list of 3 but there are 1 images", {"images": [X], "kernel": ["cubic"] * 3}),
    (ValueError, "kernel has the keys", {"images": {"a": X}, "kernel": {"b": 1}}),
    (TypeError, "'label' needs integers", {"kernel": "label"}),
    (ValueError, "cval must be a label", {"images": X.astype(int), "kernel": "label", "cval": 0.5}),
    (ValueError, "kernel must be one of", {"kernel": "spam"}),
    (ValueError, "boundary must be one of", {"boundary": "spam"}),
    (TypeError, "cval must be a real number", {"cval": "1"}),
    (TypeError, "prefilter must be True or False", {"prefilter": "yes"}),
    (ValueError, r"rotate has shape \(3,\)", {"rotate": (1, 2, 3)}),
    (ValueError, "not of a rotation", {"rotate": np.ones((2, 2))}),
    (ValueError, "zoom must be positive", {"zoom": 0}),
    (ValueError, r"zoom has shape \(3,\)", {"zoom": (1, 1, 1)}),
    (ValueError, "affine must be finite and have an inverse", {"affine": np.zeros((2, 2))}),
    (ValueError, r"affine has shape \(2,\)", {"affine": [1, 2]}),
    (ValueError, "say by batch_axis", {"affine": np.ones((4, 2, 3))}),
    (ValueError, "spacing", {"spacing": 0}),
    (TypeError, "images must be an array", {"images": 3.0}),
    (ValueError, "images is empty", {"images": []}),
    (ValueError, "no samples along a grid axis", {"images": np.zeros((0, 7))}),
    (TypeError, "dtype datetime64", {"images": np.zeros((6, 7), "datetime64[s]")}),
]


@pytest.mark.parametrize(("error", "message", "change"), BAD, ids=lambda x: str(x)[:40] if isinstance(x, str) else "")
def test_errors_say_what_was_wrong(error, message, change):
    given = {"images": X, "displacement": U, **change}
    with pytest.raises(error, match=message) as caught:
        gf.deform(given.pop("images"), **given)
    assert str(caught.value).startswith("gf.deform: ")
