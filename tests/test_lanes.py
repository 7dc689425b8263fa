"""Fits of few points, eight at a time: the same as step by step, and the same bits in whatever company."""

from __future__ import annotations

import numpy as np
import pytest

import gridfield as gf
from gridfield.cpu import lanes

t = np.linspace(0, 3, 40)
P0 = {"a": 2.0, "tau": 0.8, "c": 0.2}
DECAY = "a*exp(-t/tau) + c"


def decays(fits, seed=0, noise=0.02):
    rng = np.random.default_rng(seed)
    truth = rng.uniform((1, 0.3, 0), (3, 1.5, 0.5), (fits, 3))
    return truth[:, :1] * np.exp(-t / truth[:, 1:2]) + truth[:, 2:] + noise * rng.normal(size=(fits, len(t)))


@pytest.fixture
def step_by_step(monkeypatch):
    """A fit as it is done without lanes."""

    def fit(*args, **options):
        with monkeypatch.context() as m:
            m.setattr(lanes, "suits", lambda *a: False)
            return gf.curve_fit(*args, **options)

    return fit


def alike(one, other, steps=True):
    assert np.array_equal(one.status, other.status)
    if steps:
        assert np.array_equal(one.n_iter, other.n_iter)
    good = one.success
    error = np.sqrt(np.einsum("fii->fi", other.cov[good]))
    error = np.where(error > 0, error, 1.0)
    assert np.abs((one.popt[good] - other.popt[good]) / error).max() < 1e-7
    assert (np.abs(one.cov[good] - other.cov[good]) / (error[:, :, None] * error[:, None, :])).max() < 1e-6


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"sigma": 0.01 + 0.02 * np.linspace(0, 1, 40)},
        {"loss": ("soft_l1", 0.03)},
        {"bounds": ([0.0, 0.1, 0.0], [2.5, 5.0, 0.2])},
        {"fixed": {"c": 0.25}},
        {"fixed": ["a", "tau"]},
        {"maxiter": 6},
    ],
    ids=str,
)
def test_as_step_by_step(options, step_by_step):
    data = decays(60)
    given = DECAY, {"t": t}, data, P0
    alike(gf.curve_fit(*given, axis=-1, **options), step_by_step(*given, axis=-1, **options))


def test_gaps_and_coordinates_of_each_fit(step_by_step):
    rng = np.random.default_rng(3)
    data = decays(50)
    data[rng.random(data.shape) < 0.1] = np.nan
    data[7] = np.nan
    data[9, 2:] = np.nan  # fewer points than parameters
    data[11, 5] = np.inf
    own = np.broadcast_to(t, data.shape) * rng.uniform(0.9, 1.1, (50, 1))
    given = DECAY, {"t": own}, data, P0
    one, other = gf.curve_fit(*given, axis=-1), step_by_step(*given, axis=-1)
    alike(one, other)
    assert not one.success[[7, 9, 11]].any() and one.success.sum() == 47


@pytest.mark.parametrize("p", [1, 2, 5, 8])
def test_any_number_of_parameters(p, step_by_step):
    rng = np.random.default_rng(p)
    x = np.linspace(-1, 1, 30)
    equation = " + ".join(f"c{k}*x**{k}" if k != 1 else "sinh(c1)*x" for k in range(p))
    data = rng.normal(size=(20, 30))
    given = equation, {"x": x}, data, {f"c{k}": 0.1 for k in range(p)}
    alike(gf.curve_fit(*given, axis=-1), step_by_step(*given, axis=-1))


def test_same_bits_alone_and_in_company():
    data = decays(30)
    together = gf.curve_fit(DECAY, {"t": t}, data, P0, axis=-1)
    for k in (0, 13, 29):
        alone = gf.curve_fit(DECAY, {"t": t}, data[k], P0)
        assert alone.popt.tobytes() == together.popt[k].tobytes()
        assert alone.cov.tobytes() == together.cov[k].tobytes()
        assert alone.n_iter == together.n_iter[k]


def test_same_bits_for_any_number_of_threads():
    data, found = decays(5000, noise=0.2), []
    for threads in (1, 2, 3, 7):
        gf.set_num_threads(threads)
        try:
            found.append(gf.curve_fit(DECAY, {"t": t}, data, P0, axis=-1))
        finally:
            gf.set_num_threads(None)
    for other in found[1:]:
        assert other.popt.tobytes() == found[0].popt.tobytes() and other.cov.tobytes() == found[0].cov.tobytes()
        assert np.array_equal(other.n_iter, found[0].n_iter)


@pytest.mark.parametrize("fits", [0, 1, 7, 8, 9])
def test_special_fits_among_others(fits, step_by_step):
    """In lanes, few of them taken, of which some begin where the model is NaN or have a singular matrix."""
    data, start = decays(fits), {"a": np.full(fits, 2.0), "tau": np.full(fits, 0.8), "c": np.full(fits, 0.2)}
    if fits > 2:
        start["tau"][2], start["a"][1] = 0.0, 0.0
    given = DECAY, {"t": t}, data, start
    one, other = gf.curve_fit(*given, axis=-1), step_by_step(*given, axis=-1)
    if fits:
        alike(one, other)
    flat = gf.curve_fit("a*t + b*t", {"t": t}, data, axis=-1)
    assert not np.any(flat.success) and flat.popt.shape == (fits, 2)


def test_read_only_strided_integers_and_other_types():
    data = decays(9)
    whole = np.round(100 * data)
    for y in (data[:, ::-1][:, ::-1], np.asfortranarray(data), whole.astype(np.int32), data.astype(np.float32)):
        y = y.copy(order="K")
        y.flags.writeable = False
        a = gf.curve_fit(DECAY, {"t": t}, y, P0, axis=-1)
        b = gf.curve_fit(DECAY, {"t": t}, y.T.astype(np.float64), P0, axis=0)
        assert a.success.all() and a.popt.tobytes() == b.popt.tobytes()


def test_points_up_to_the_most(step_by_step):
    for n in (4, lanes.SHORT, lanes.SHORT + 1):
        x = np.linspace(0, 3, n)
        y = np.exp(-x / 0.7)[None] * np.array([[1.0], [2.0], [3.0]]) + 0.3 + 0.01 * np.cos(37 * x)
        given = "a*exp(-t/tau) + c", {"t": x}, y, P0
        alike(gf.curve_fit(*given, axis=-1), step_by_step(*given, axis=-1))


def test_small_images(step_by_step):
    """Coordinates of a grid, those of each axis kept once."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:9, :9].astype(float)
    centre = rng.uniform(3, 5, (2, 25, 1, 1))
    spots = 5 * np.exp(-((y - centre[0]) ** 2 + (x - centre[1]) ** 2) / 4.5) + 1 + 0.05 * rng.normal(size=(25, 9, 9))
    text, start = "A*exp(-((x-x0)**2 + (y-y0)**2)/(2*s**2)) + b", {"A": 4.0, "x0": 4.0, "y0": 4.0, "s": 1.2, "b": 0.5}
    given = text, gf.Grid.pixels((9, 9)), spots, start
    one, other = gf.curve_fit(*given, axis=(1, 2)), step_by_step(*given, axis=(1, 2))
    alike(one, other)
    assert np.abs(one.params["y0"] - centre[0, :, 0, 0]).max() < 0.1
