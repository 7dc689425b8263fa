"""sigma that is a covariance of the data: SciPy's optimum and uncertainties, what is left out, what is wrong."""

import numpy as np
import pytest
import scipy.linalg
import scipy.optimize

import gridfield as gf

X = np.linspace(0, 4, 40)
EQUATION = "a*exp(-b*x) + c"
START = [1.0, 1.0, 0.0]


def decay(x, a, b, c):
    return a * np.exp(-b * x) + c


@pytest.fixture
def problem(rng):
    """Data, and their covariance: neighbours have errors in common."""
    errors = rng.uniform(0.05, 0.15, size=40)
    C = errors[:, None] * errors * np.exp(-np.abs(X[:, None] - X) / 0.3)
    return decay(X, 2.5, 1.3, 0.5) + np.linalg.cholesky(C) @ rng.normal(size=40), C


@pytest.mark.parametrize("f", [EQUATION, decay])
@pytest.mark.parametrize("absolute", [True, False])
def test_as_scipy(f, absolute, problem):
    y, C = problem
    result = gf.curve_fit(f, X, y, START, sigma=C, absolute_sigma=absolute)
    popt, pcov = scipy.optimize.curve_fit(
        decay, X, y, START, sigma=C, absolute_sigma=absolute, ftol=1e-14, xtol=1e-14, gtol=1e-14
    )
    np.testing.assert_allclose(result.popt, popt, rtol=1e-6)
    np.testing.assert_allclose(result.cov, pcov, rtol=1e-5, atol=1e-9 * pcov.max())
    np.testing.assert_allclose(np.sqrt(np.diag(result.cov)), np.sqrt(np.diag(pcov)), rtol=1e-6)
    r = y - decay(X, *result.popt)
    assert result.chi2 == pytest.approx(r @ np.linalg.solve(C, r), rel=1e-9)
    ones = np.ones(40)
    mean = (ones @ np.linalg.solve(C, y)) / (ones @ np.linalg.solve(C, ones))
    assert result.r2 == pytest.approx(1 - result.chi2 / ((y - mean) @ np.linalg.solve(C, y - mean)), rel=1e-9)
    low, high = result.confidence_band()
    assert (low < high).all() and "chi2" in result.summary()
    result.plot()


def test_a_diagonal_is_standard_deviations(problem, rng):
    y, _ = problem
    s = rng.uniform(0.05, 0.2, size=40)
    for loss in ("linear", ("huber", 1.0)):
        ours = gf.curve_fit(EQUATION, X, y, START, sigma=np.diag(s**2), loss=loss)
        plain = gf.curve_fit(EQUATION, X, y, START, sigma=s, loss=loss)
        np.testing.assert_allclose(ours.popt, plain.popt, rtol=1e-8)
        np.testing.assert_allclose(ours.cov, plain.cov, rtol=1e-6)
        np.testing.assert_allclose([ours.chi2, ours.r2, ours.aic], [plain.chi2, plain.r2, plain.aic], rtol=1e-8)


def test_points_left_out_leave_the_matrix(problem):
    y, C = problem
    y, C = y.copy(), C.copy()
    where = np.arange(40) != 9
    y[3], C[20, 20], C[30, 30], C[21] = np.nan, np.nan, np.inf, C[21]
    kept = where & ~np.isin(np.arange(40), (3, 20, 30))
    ours = gf.curve_fit(EQUATION, X, y, START, sigma=C, where=where)
    less = gf.curve_fit(EQUATION, X[kept], y[kept], START, sigma=C[np.ix_(kept, kept)])
    np.testing.assert_allclose(ours.popt, less.popt, rtol=1e-10)
    np.testing.assert_allclose(ours.cov, less.cov, rtol=1e-8)
    assert ours.dof == less.dof == 33


def test_images_and_several_models(problem, rng):
    y, C = problem
    flat = gf.curve_fit(EQUATION, X, y, START, sigma=C)
    image = gf.curve_fit(EQUATION, X.reshape(8, 5), y.reshape(8, 5), START, sigma=C)
    np.testing.assert_allclose(image.popt, flat.popt, rtol=1e-10)
    both = gf.curve_fit([EQUATION, EQUATION], X, [y, y], START, sigma=[C, C], absolute_sigma=True)
    np.testing.assert_allclose(both.popt, flat.popt, rtol=1e-7)
    square = rng.normal(size=(2, 2)) + 3  # of an image standard deviations, broadcast as ever
    assert gf.curve_fit("a + 0*x*y", None, square, sigma=np.full((2, 2), 0.1)).chi2 > 0


@pytest.mark.parametrize(
    ("change", "message"),
    [(lambda C: C - 0.1 * np.eye(40), "positive definite"), (lambda C: np.zeros((40, 40)), "positive definite"),
     (lambda C: np.triu(C), "symmetric"), (lambda C: np.where(np.eye(40)[::-1] > 0, np.nan, C), "NaN or infinite"),
     (lambda C: C[:39], "does not broadcast")],
)  # fmt: skip
def test_bad_matrices(change, message, problem):
    y, C = problem
    with pytest.raises(ValueError, match=message):
        gf.curve_fit(EQUATION, X, y, START, sigma=change(C))


def test_not_in_a_batch(problem):
    y, C = problem
    with pytest.raises(ValueError, match="a covariance of the data, is for a single fit"):
        gf.curve_fit(EQUATION, X, np.stack([y, y]), START, sigma=C, axis=-1)
    square = gf.curve_fit(EQUATION, X, np.tile(y, (40, 1)), START, sigma=1 + C, axis=-1)  # of the shape of the data
    assert square.success.all()


def test_derivatives_in_the_data(problem):
    import torch

    y, C = problem
    t = torch.tensor(y, requires_grad=True)
    gf.curve_fit(EQUATION, X, t, START, sigma=C).popt[1].backward()
    i, h = 7, 1e-5
    step = h * np.eye(40)[i]
    up, down = (gf.curve_fit(EQUATION, X, v, START, sigma=C).popt[1] for v in (y + step, y - step))
    assert float(t.grad[i]) == pytest.approx((up - down) / (2 * h), rel=1e-5)
    with pytest.raises(TypeError, match="derivatives in sigma"):
        gf.curve_fit(EQUATION, X, t, START, sigma=torch.tensor(C, requires_grad=True))
    with pytest.raises(TypeError, match="covariance cannot be given within"):
        torch.func.grad(lambda v: gf.curve_fit(EQUATION, X, v, START, sigma=C).popt[1])(torch.tensor(y))
