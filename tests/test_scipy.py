"""sample with its prefilter is scipy.ndimage.map_coordinates, to 1e-10, in every mode, order and dimension."""

import itertools

import numpy as np
import pytest
from cases import SCIPY_MODE, force, in_turn
from numpy.testing import assert_allclose
from scipy import ndimage

import gridfield as gf

MODES = tuple(SCIPY_MODE)
ORDERS = range(6)


def listed():
    """All orders in all modes in one and two dimensions; in three and four each order and each mode several times. In
    every run are the cubic ones and half, or fewer, of the others: each is a kernel to compile."""
    settings = [(nd, order, mode) for nd in (1, 2) for order, mode in itertools.product(ORDERS, MODES)]
    settings += [(3, order, MODES[(order + k) % 6]) for order in ORDERS for k in (0, 1, 3)]
    settings += [(4, order, MODES[(order + 2) % 6]) for order in ORDERS] + [(4, 3, "mirror"), (4, 3, "constant")]
    for nd, order, mode in settings:
        turn = (order + MODES.index(mode)) % 6
        kept = {1: turn in (0, 3), 2: order == 3 or turn == 0, 3: turn == order % 2, 4: order == 1}[nd]
        yield pytest.param(nd, order, mode, marks=() if kept else pytest.mark.slow, id=f"{nd}-{order}-{mode}")


SHAPES = {
    1: [(17,), (30,), (5,), (2,), (1,)],
    2: [(17, 12), (2, 9), (1, 6)],
    3: [(7, 8, 9), (2, 5, 1)],
    4: [(5, 4, 6, 3)],
}


def expected(data, x, order, mode, cval):
    """What SciPy gives. "reflect" as "grid-wrap" of the data and their mirror image, which is the same by definition:
    SciPy's own filter for it is off by 1e-3 on lines of 2 samples and by 1e-11 on lines of 9 (`_init_causal_reflect`
    overwrites the first sample before its last use)."""
    if mode == "reflect":
        mode = "wrap"
        for axis in range(data.ndim):
            data = np.concatenate([data, np.flip(data, axis)], axis)
    return ndimage.map_coordinates(data, x.T, order=order, mode=SCIPY_MODE[mode], cval=cval)


def both(data, x, order, mode, cval=0.3):
    return gf.sample(data, x, kernel=order, boundary=mode, cval=cval), expected(data, x, order, mode, cval)


@pytest.mark.parametrize(("ndim", "order", "mode"), list(listed()))
def test_map_coordinates(ndim, order, mode, rng, monkeypatch):
    force(monkeypatch, "padded")  # the other path has the same oracles elsewhere; here it would compile all anew
    for shape in SHAPES[ndim]:
        data = rng.normal(size=shape)
        size = np.array(shape)
        near = rng.uniform(-2, size + 1, (100, ndim))
        inside = rng.uniform(0, size - 1, (100, ndim))
        far = rng.uniform(-40 * size, 40 * size, (60, ndim))
        for x in (inside, near, far):
            assert_allclose(*both(data, x, order, mode), rtol=0, atol=1e-10, err_msg=str(shape))


@pytest.mark.parametrize(("order", "mode"), in_turn((0, 1, 2, 3, 5), MODES, keep=(0, 3)))
def test_without_prefilter(order, mode, rng):
    """The data are the coefficients, continued by the boundary."""
    data, x = rng.normal(size=9), rng.uniform(-30, 40, (300, 1))
    got = gf.sample(data, x, kernel=order, boundary=mode, cval=0.3, prefilter=False)
    by_scipy = ndimage.map_coordinates(data, x.T, order=order, mode=SCIPY_MODE[mode], cval=0.3, prefilter=False)
    assert_allclose(got, by_scipy, rtol=0, atol=1e-12)


@pytest.mark.parametrize("order", ORDERS)
def test_reflect_on_long_lines(order, rng):
    """Where SciPy's filter for it has lost its error."""
    data, x = rng.normal(size=(40, 50)), rng.uniform(-200, 200, (300, 2))
    by_scipy = ndimage.map_coordinates(data, x.T, order=order, mode="reflect")
    assert_allclose(gf.sample(data, x, kernel=order, boundary="reflect"), by_scipy, rtol=0, atol=1e-10)


@pytest.mark.parametrize(("order", "mode"), in_turn((1, 2, 3, 5), MODES, keep=(0, 3)))
def test_at_the_samples_and_between(order, mode, rng):
    """Exact coordinates, both ends included. Order 0 has ties there, which SciPy breaks by rounding noise."""
    data = rng.normal(size=(9, 6))
    u, v = np.arange(-12, 21) / 2, np.arange(-12, 18) / 2
    x = np.stack(np.meshgrid(u, v, indexing="ij"), -1).reshape(-1, 2)
    assert_allclose(*both(data, x, order, mode), rtol=0, atol=1e-10)


@pytest.mark.parametrize("mode", MODES)
def test_many_points(mode, rng):
    """So many that the grid is padded and the work is cut among threads."""
    data = rng.normal(size=(40, 50))
    x = rng.uniform(-30, 80, (60_000, 2))
    assert_allclose(*both(data, x, 3, mode), rtol=0, atol=1e-10)


@pytest.mark.parametrize("mode", ("mirror", "reflect", "wrap"))
def test_spline_filter(mode, rng):
    """The coefficients too."""
    data = rng.normal(size=(30, 25))
    for order in (2, 3, 4, 5):
        coefficients = ndimage.spline_filter(data, order=order, mode=SCIPY_MODE[mode])
        assert_allclose(gf.prefilter(data, kernel=order, boundary=mode), coefficients, rtol=0, atol=1e-10)


@pytest.mark.parametrize("order", (0, 1, 3))
def test_zoom_and_shift(order, rng):
    """Grid arithmetic against SciPy's: a shift and a zoom are grids of coordinates."""
    data = rng.normal(size=(8, 9))
    shifted = ndimage.shift(data, (1.3, -2.6), order=order, mode="constant", cval=0.5)
    x = gf.Grid.pixels(data.shape).coords() - (1.3, -2.6)
    assert_allclose(gf.sample(data, x, kernel=order, boundary="constant", cval=0.5), shifted, rtol=0, atol=1e-10)
    zoomed = ndimage.zoom(data, (2, 3), order=order, mode="mirror")
    if order:  # nearest has ties
        fine = gf.Grid((16, 27), [(0, 7), (0, 8)]).coords()
        assert_allclose(gf.sample(data, fine, kernel=order, boundary="mirror"), zoomed, rtol=0, atol=1e-10)


def test_uint8_images_are_rounded_and_saturated(rng):
    """SciPy rounds too, but wraps what overshoots; so compare where nothing does."""
    image = rng.integers(0, 256, (20, 30)).astype(np.uint8)
    x = rng.uniform(-3, 32, (500, 2))
    exact = ndimage.map_coordinates(image.astype(float), x.T, order=3, mode="mirror")
    got = gf.sample(image, x, kernel="cubic", boundary="mirror")
    assert got.dtype == np.uint8
    tie = np.abs(exact - np.floor(exact) - 0.5) < 1e-9
    assert (got == np.clip(np.rint(exact), 0, 255))[~tie].all()
    assert exact.min() < 0 and exact.max() > 255
