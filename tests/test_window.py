"""The window of the non-uniform FFT lets through of other periods what its table says."""

import numpy as np
import pytest
from scipy.special import pro_ang1

from gridfield.window import BEST, ERRORS, WIDTHS, band, error, leak, prolate, width_for, window


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("sigma", ERRORS)
def test_table_of_errors(width, sigma):
    """The formula at the head of window.py, worked out; the table rounds up, by a quarter at most."""
    kernel = window(width, sigma)
    k = (np.arange(200) + 0.5) / 400 / sigma  # the mean of an even function
    others = np.array([m for m in range(-300, 301) if m])
    ratio = kernel.fourier(k[:, None] + others).real / kernel.fourier(k).real[:, None]
    found = np.sqrt((ratio**2).sum(1).mean())
    assert 0.75 * ERRORS[sigma][width] <= found <= ERRORS[sigma][width]


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("sigma", ERRORS)
def test_transform_in_the_band(width, sigma):
    k = np.linspace(-1, 1, 101) / (2 * sigma)
    np.testing.assert_allclose(band(width, sigma, k), window(width, sigma).fourier(k).real, rtol=1e-13)


@pytest.mark.parametrize("width", WIDTHS)
def test_pieces_meet(width):
    """At the breaks and, at zero, at the ends: a jump would be a jump of the transform where a point crosses it."""
    kernel = window(width)
    assert kernel.width == width and kernel.degree <= width
    pieces = np.array(kernel.table())
    starts, stops = pieces[:, 0], pieces.sum(1)
    assert abs(stops[0]) < 1e-15 and abs(starts[-1]) < 1e-15
    np.testing.assert_allclose(starts[:-1], stops[1:], rtol=0, atol=2e-15)
    np.testing.assert_allclose(starts[:-1], starts[:-1][::-1], rtol=0, atol=2e-15)  # it is even


@pytest.mark.parametrize("c", (1.0, 3 * np.pi / 2, 8.0, 16.0))
def test_prolate_functions(c):
    """Against SciPy's, which come from power series."""
    x = np.linspace(-0.99, 0.99, 23)
    np.testing.assert_allclose(
        prolate(c, x), pro_ang1(0, 0, c, x)[0] / pro_ang1(0, 0, c, 0.0)[0], rtol=1e-9, atol=1e-13
    )


@pytest.mark.parametrize("dtype", BEST)
def test_widths(dtype):
    """The least that is good enough; for the best a type can do there is one, however few the modes."""
    for ndim in (1, 2, 3, 4):
        for n in (1, 2, 5, 100, 10_000):
            shape = (n,) * ndim
            eps = [e for e in (1e-1, 1e-2, 1e-4, 1e-6, 1e-9, 1e-12) if e >= BEST[dtype]]
            widths = [width_for(e, shape, dtype) for e in eps]
            assert widths == sorted(widths)
            for e, width in zip(eps, widths, strict=True):
                assert error(width, shape, dtype) <= e
                assert width + 1 in WIDTHS  # one more is for derivatives
    assert width_for(1e-6, (4, 4), dtype) < 10  # few modes are no reason for the widest there is


@pytest.mark.parametrize("n", (8, 36, 37, 128))
@pytest.mark.parametrize(("width", "sigma"), ((3, 2.0), (7, 2.0), (13, 2.0), (5, 1.5), (9, 1.5)))
def test_errors_of_random_modes(width, sigma, n, rng):
    """One in a thousand is larger than said, and most are not much smaller."""
    k = (np.arange(n) - n // 2) / (8 * np.ceil(max(sigma * n, 2 * width) / 8))
    others = np.array([m for m in range(-50, 51) if m])
    kernel = window(width, sigma)
    squares = ((kernel.fourier(k + others[:, None]) / kernel.fourier(k)).real ** 2).sum(0)
    assert leak(width, n, sigma) == pytest.approx((squares.mean(), (squares**2).mean(), squares.max()), rel=0.1, abs=0)
    amplitudes = rng.exponential(size=(20_000, n))
    found = np.sqrt((amplitudes @ squares) / amplitudes.sum(1))
    expected = error(width, (n,), "float64", sigma)
    assert (found > 1.05 * expected).mean() <= 1e-3
    assert np.median(found) > expected / 4
