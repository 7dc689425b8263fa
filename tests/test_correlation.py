"""corr, corr_matrix, detrend, rolling_mean against SciPy, pandas and sums written out: axes, types, strides, gaps."""

import os
import subprocess
import sys
import textwrap

import numpy as np
import pandas as pd
import pytest
import scipy.signal
from slow_series import pearson, slow, smoothed

import gridfield as gf

T = 41
LAYOUTS = {
    "as it is": lambda a: a,
    "backwards": lambda a: a[::-1, ::-1, ::-1].copy()[::-1, ::-1, ::-1],
    "Fortran": np.asfortranarray,
    "every second": lambda a: np.repeat(a, 2, -1)[..., ::2],
    "gaps": lambda a: np.pad(a, 3)[3:-3, 3:-3, 3:-3],
    "record": lambda a: np.rec.fromarrays([a, np.zeros(a.shape, np.int8)], names="a,b")["a"],
    "read-only": lambda a: np.frombuffer(a.tobytes(), a.dtype).reshape(a.shape),
}
TYPES = {"float64": 1e-12, "float32": 1e-6, "float16": 1e-3, "int16": 1e-12, "uint8": 1e-12, "bool": 1e-12}


def field(axis, dtype="float64", gaps=False, seed=0):
    """Series along an axis of three, and one."""
    rng = np.random.default_rng(seed)
    y = 20 * rng.normal(size=(3, 18, T)) + np.arange(T) + 100
    y = (y > 120) if dtype == "bool" else y.clip(0, 255).astype(dtype)
    if gaps:
        y[rng.random(y.shape) < 0.03] = np.nan
    return rng.normal(size=T), np.moveaxis(y, -1, axis)


def every(f, y, axis):
    """f of every series, as float64."""
    return np.apply_along_axis(f, axis, np.asarray(y, np.float64))


# ---- values
@pytest.mark.parametrize("axis", (0, 1, 2))
@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(layout, axis):
    x, y = field(axis)
    y = LAYOUTS[layout](np.ascontiguousarray(y))
    for how in ({"window": 6, "detrend": "linear"}, {"window": 6, "nan_policy": "omit"}):
        kind, omit = how.get("detrend"), "nan_policy" in how
        expected = every(lambda s, kind=kind, omit=omit: slow(x, s, 6, None, kind, omit=omit), y, axis)
        np.testing.assert_allclose(gf.corr(x, y, axis, **how), expected, atol=1e-12)
    np.testing.assert_allclose(gf.detrend(y, axis), scipy.signal.detrend(y, axis), atol=1e-11)
    np.testing.assert_allclose(gf.rolling_mean(y, 6, axis), every(lambda s: smoothed(s, 6, 6, None), y, axis))


# of the types that are not floats one in every run; the others, three kernels of two seconds each, are marked slow
@pytest.mark.parametrize("axis", (0, 1, 2))
@pytest.mark.parametrize(
    "dtype", [pytest.param(t, marks=pytest.mark.slow) if t in ("uint8", "bool") else t for t in TYPES]
)
def test_types(dtype, axis):
    x, y = field(axis, dtype)
    kind, tolerance = (y.dtype if y.dtype.kind == "f" else np.float64), TYPES[dtype]
    for f, one in (
        (lambda: gf.corr(x, y, axis, window=5, detrend="linear"), lambda s: slow(x, s, 5)),
        (lambda: gf.detrend(y, axis, "constant"), lambda s: s - s.mean()),
        (lambda: gf.rolling_mean(y, 4, axis, min_periods=2), lambda s: smoothed(s, 4, 2, None)),
    ):
        found, expected = f(), every(one, y, axis)
        assert found.dtype == kind and found.shape == expected.shape
        np.testing.assert_allclose(found, expected, rtol=tolerance, atol=50 * tolerance)


@pytest.mark.parametrize("window", (1, 2, 5, 6, T, T + 1, 2 * T + 2))
@pytest.mark.parametrize("least", (None, 1, 3))
def test_rolling_mean_with_gaps(window, least):
    if (least is None and window > T) or (least and least > window):
        pytest.skip("no window has that")
    _, y = field(1, gaps=True)
    f = np.moveaxis(y, 1, 0)
    expected = pd.DataFrame(f.reshape(T, -1)).rolling(window, center=True, min_periods=least).mean()
    found = np.moveaxis(gf.rolling_mean(y, window, 1, min_periods=least), 1, 0)
    np.testing.assert_allclose(found, expected.to_numpy().reshape(f.shape))


@pytest.mark.parametrize("kind", ("linear", "constant"))
def test_detrend_with_gaps(kind):
    _, y = field(1, gaps=True)
    y[0, :, 0], y[0, 1:, 1], y[0, 2:, 2] = np.nan, np.nan, np.nan  # none, one, two samples
    degree = int(kind == "linear")

    def one(s):
        k = np.flatnonzero(~np.isnan(s))
        if len(k) > degree:
            s = s - np.polyval(np.polyfit(k, s[k], degree), np.arange(T))
        return s if len(k) > 1 else 0 * s

    np.testing.assert_allclose(gf.detrend(y, 1, kind, nan_policy="omit"), every(one, y, 1), atol=1e-10)
    spoiled = np.isnan(gf.detrend(y, 1, kind))
    assert np.array_equal(spoiled, np.broadcast_to(np.isnan(y).any(1, keepdims=True), y.shape))


def test_what_is_missing_stays_where_it_is():
    y = np.ones(30)
    y[[3, 12]] = 1e30, np.inf
    m = gf.rolling_mean(y, 4)
    touched = [any(abs(t - 2 - k) < 1e-9 or t - 2 < k <= t + 1 for k in (3, 12)) for t in range(30)]
    inside = np.arange(30)[2:-1]
    assert (m[inside][~np.array(touched)[inside]] == 1).all()  # running sums would carry them on
    assert m[11] == np.inf and np.isfinite(m[15])


def the_asker(x, y, window, more):
    """The loop of the question: every series by itself."""
    out = np.full(y.shape[:1] + y.shape[2:], np.nan)
    cut = window // 2 + more

    def prepared(s):
        k = np.arange(len(s))
        known = ~np.isnan(s)
        s = s - np.polyval(np.polyfit(k[known], s[known], 1), k)
        return pd.Series(s).rolling(window, center=True).mean().to_numpy()[cut:-cut]

    xs = prepared(x)
    for i in np.ndindex(out.shape):
        s = y[i[0], :, i[1], i[2]]
        if not np.isnan(s).any():
            ys = prepared(s)
            ok = ~np.isnan(xs) & ~np.isnan(ys)
            out[i] = np.corrcoef(xs[ok], ys[ok])[0, 1]
    return out


@pytest.mark.parametrize("dtype", (np.float64, np.float32))
@pytest.mark.parametrize("gaps", (False, True))
def test_the_question(dtype, gaps):
    rng = np.random.default_rng(3)
    n, window, more = 300, 36, 12
    x = rng.normal(size=n).cumsum()
    y = (rng.normal(size=(2, n, 3, 9)).cumsum(1) + 0.3 * x[:, None, None] + 280).astype(dtype)
    y[1, 17, 2, 3] = np.nan
    if gaps:
        x[[100, 101, 190]] = np.nan
    # an even window has one sample less behind its centre than before it, and the question drops as many at both ends
    r = gf.corr(x, y, 1, detrend="linear", window=window, trim=(more, more + 1))
    assert r.dtype == dtype and np.isnan(r[1, 2, 3]) and np.isnan(r).sum() == 1
    np.testing.assert_allclose(
        r, the_asker(x, y.astype(np.float64), window, more), atol=1e-11 if dtype == np.float64 else 1e-6
    )
    before = gf.corr(x[12:-12], y[:, 12:-12], 1, detrend="linear", window=window)  # dropping before is another number
    assert np.nanmax(np.abs(before - r)) > 0.01


@pytest.mark.parametrize("policy", ("propagate", "omit"))
def test_lags(policy):
    x, y = field(1, seed=2)
    y[0, :, 0] = np.roll(x, 3)
    r = gf.corr(x, y, 1, lag=range(-5, 6), window=2, nan_policy=policy)
    assert r.shape == (11, 3, 18) and r[:, 0, 0].argmax() == 5 + 3
    for i, lag in enumerate(range(-5, 6)):
        assert np.array_equal(r[i], gf.corr(x, y, 1, lag=lag, window=2, nan_policy=policy))
        np.testing.assert_allclose(r[i], every(lambda s, lag=lag: slow(x, s, 2, None, None, lag=lag), y, 1), atol=1e-12)
    assert np.isnan(gf.corr(x, y, 1, lag=T - 1)).all()  # one pair
    np.testing.assert_allclose(np.abs(gf.corr(x, y, 1, lag=2 - T)), 1)  # two


@pytest.mark.parametrize("policy", ("propagate", "omit"))
def test_arrays_that_broadcast(policy):
    _, y = field(1, gaps=True)
    rng = np.random.default_rng(5)
    several = rng.normal(size=(3, T, 1)).cumsum(1)
    several[1, 7] = np.nan
    several[2] = 3.0
    how = {"detrend": "linear", "window": 5, "lag": 2, "nan_policy": policy}
    r = gf.corr(several, y, 1, **how)
    for a in range(3):
        np.testing.assert_allclose(r[a], gf.corr(several[a, :, 0], y[a], 0, **how), atol=1e-12)
    assert np.isnan(r[2]).all() and not np.isnan(r[:2]).all()
    np.testing.assert_allclose(gf.corr(y, y, 1, nan_policy="omit"), np.ones((3, 18)))
    wide = gf.corr(rng.normal(size=(4, 1, T, 1)), y, 1)
    assert wide.shape == (4, 3, 18)
    assert gf.corr(several[:, :, 0], y[0, :, 0], 0).shape == (3,)  # y broadcasts, too


def test_weights():
    x, y = field(2)
    w = np.random.default_rng(0).random(T)
    w[[0, 5]] = 0
    expected = every(lambda s: pearson(smoothed(x, 3), smoothed(s, 3), w), y, 2)
    np.testing.assert_allclose(gf.corr(x, y, weights=w, window=3, detrend="linear"), expected, atol=1e-12)
    assert np.isnan(gf.corr(x, y, weights=np.zeros(T))).all()


@pytest.mark.parametrize("policy", ("propagate", "omit"))
def test_matrix(policy):
    _, y = field(1, gaps=policy == "omit")
    y[0, :, 3] = 7.7
    r = gf.corr_matrix(y, 1, nan_policy=policy)
    assert r.shape == (3, 18, 3, 18)
    table = pd.DataFrame(np.moveaxis(y, 1, 0).reshape(T, -1))
    with np.errstate(all="ignore"):
        expected = table.corr().to_numpy(copy=True)
    expected[3], expected[:, 3] = np.nan, np.nan
    np.testing.assert_allclose(r.reshape(54, 54), expected, atol=1e-12)


# ---- stability
def long_way(x, y, window, wide=np.longdouble):
    """In extended precision: (n, series)."""
    n = len(x)
    k = np.arange(n, dtype=wide) - wide(n - 1) / 2

    def prepared(a):
        a = a.astype(wide)
        a = a - a.mean(0)
        a = a - np.multiply.outer(k, np.tensordot(k, a, 1) / (k @ k))
        s = np.stack([a[i : i + window].sum(0) for i in range(n - window + 1)]) / window
        return s - s.mean(0)

    a, b = prepared(x), prepared(y)
    return ((a[:, None] * b).sum(0) / np.sqrt((a * a).sum() * (b * b).sum(0))).astype(np.float64)


def test_offsets_and_trends_do_not_cancel():
    rng = np.random.default_rng(0)
    n, window = 2000, 360
    x = rng.normal(size=n)
    y = rng.normal(size=(n, 40)) + 0.2 * x[:, None] + 1e6 + np.linspace(0, 1e5, n)[:, None]
    expected = long_way(x, y, window)
    error = np.abs(gf.corr(x, y, 0, detrend="linear", window=window) - expected).max()
    assert error <= 4e-13
    assert np.abs(gf.corr(x, y, 0, detrend="linear", window=window, nan_policy="omit") - expected).max() <= 4e-12
    plain = scipy.signal.detrend(y, axis=0)
    sums = np.concatenate([np.zeros((1, 40)), plain.cumsum(0)])
    means = (sums[window:] - sums[:-window]) / window
    xs = smoothed(x, window)[window // 2 : n - (window - 1) // 2]
    plain = np.array([np.corrcoef(xs, m)[0, 1] for m in means.T])
    assert np.abs(plain - expected).max() > 1000 * error


@pytest.mark.parametrize("policy", ("propagate", "omit"))
def test_large_and_small_numbers(policy):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=30), rng.normal(size=30)
    r = gf.corr(x, y, window=3, nan_policy=policy)
    for scale in (1e300, 1e-300):
        assert gf.corr(x * scale, y, window=3, nan_policy=policy) == pytest.approx(r, abs=1e-12)
        assert np.isnan(gf.corr(x, y * scale, window=3, nan_policy=policy))  # squares of y are beyond float64
    for scale in (1e100, 1e-100):
        assert gf.corr(x, y * scale, window=3, nan_policy=policy) == pytest.approx(r, abs=1e-12)
    y[5] = np.inf
    for a, b in ((x, y), (y, x), (y[None], x[None])):
        assert np.isnan(gf.corr(a, b, window=3, nan_policy=policy)).all()


# ---- threads, processes
def test_same_bits_whatever_the_threads_and_neighbours():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=300), rng.normal(size=(300, 37, 41))
    how = [{"window": 20, "detrend": "linear", "lag": (0, 3)}, {"window": 20, "nan_policy": "omit"}]

    def run():
        return [*(gf.corr(x, y, 0, **h) for h in how), gf.detrend(y, 0), gf.rolling_mean(y, 9, 0)]

    gf.set_num_threads(1)
    try:
        alone = run()
        for n in (2, 3, 7):
            gf.set_num_threads(n)
            assert all(np.array_equal(a, b, equal_nan=True) for a, b in zip(run(), alone, strict=True))
    finally:
        gf.set_num_threads(None)
    last = np.ascontiguousarray(np.moveaxis(y, 0, -1))
    assert np.array_equal(gf.corr(x, last, **how[0]), alone[0])
    assert np.array_equal(gf.corr(x, y[:, 3:4, 5:6], 0, **how[0])[:, 0, 0], alone[0][:, 3, 5])


@pytest.mark.parametrize("neighbours", (*range(1, 34), 511, 513, 520, 1025))
def test_blocks_stay_in_their_rows(neighbours):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=12), rng.normal(size=(3, 12, neighbours))
    expected = [[gf.corr(x, s.copy(), window=3, lag=1) for s in row.T] for row in y]
    assert np.array_equal(gf.corr(x, y, 1, window=3, lag=1), expected)
    first = y[:1]  # nothing is read that lies before it, or NUMBA_DISABLE_JIT says so
    assert np.array_equal(gf.corr(x, first, 1, window=3, lag=1), expected[:1])


def test_without_compiling():
    code = """
        import numpy as np, gridfield as gf
        rng = np.random.default_rng(0)
        x, y = rng.normal(size=7), rng.normal(size=(2, 7, 9))
        for a, axis in ((y, 1), (np.moveaxis(y, 1, -1).copy(), 2)):
            print(np.array([gf.corr(x, a, axis, window=3, nan_policy=p) for p in ("propagate", "omit")]).tolist())
            print(gf.detrend(a, axis).sum(axis).tolist(), gf.rolling_mean(a, 3, axis, min_periods=1).sum(axis).tolist())
    """
    run = [sys.executable, "-W", "ignore", "-c", textwrap.dedent(code)]
    plain, compiled = (
        subprocess.run(run, check=True, timeout=120, capture_output=True, text=True, env={**os.environ, **more}).stdout
        for more in ({"NUMBA_DISABLE_JIT": "1"}, {})
    )
    for a, b in zip(plain.split(), compiled.split(), strict=True):
        assert float(a.strip("[],")) == pytest.approx(float(b.strip("[],")), abs=1e-12)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_forked_children():
    code = """
        import os, numpy as np, gridfield as gf
        gf.set_num_threads(2)
        x, y = np.arange(400.0) ** 2 % 7, np.random.default_rng(0).normal(size=(400, 30, 30))
        r = gf.corr(x, y, 0, window=12)
        pid = os.fork()
        if pid == 0:
            os._exit(0 if np.array_equal(gf.corr(x, y, 0, window=12), r) else 1)
        assert os.waitpid(pid, 0)[1] == 0
    """
    subprocess.run([sys.executable, "-W", "ignore", "-c", textwrap.dedent(code)], check=True, timeout=60)


# ---- bad input
X, Y = np.arange(6.0) ** 2, np.random.default_rng(0).normal(size=(4, 6))
BAD = [
    (lambda: gf.corr(X[:5], Y), ValueError, r"gf.corr: x \(shape \(5,\)\) has 5 samples but y .* has 6 along axis 1"),
    (lambda: gf.corr(X, Y, 0), ValueError, r"has 6 samples but y \(shape \(4, 6\)\) has 4 along axis 0"),
    (lambda: gf.corr(Y[:3], Y), ValueError, "does not broadcast"),
    (lambda: gf.corr(2.0, Y), ValueError, "a single number"),
    (lambda: gf.corr(X, 2.0), ValueError, "axis must be one of the 0 axes"),
    (lambda: gf.corr(X, Y, 2), ValueError, "axis must be one of the 2 axes"),
    (lambda: gf.corr(X, Y, 1.0), ValueError, "axis must be"),
    (lambda: gf.corr(X, Y + 0j), TypeError, "y has dtype complex128 but must be real"),
    (lambda: gf.corr(X * 1j, Y), TypeError, "x has dtype complex128"),
    (lambda: gf.corr(X, Y.astype(np.longdouble)), TypeError, "must be real numbers"),
    (lambda: gf.corr(["a"] * 6, Y), TypeError, "x "),
    (lambda: gf.corr(X, Y, window=7), ValueError, "window=7 is longer than the 6 samples along axis 1"),
    (lambda: gf.corr(X, Y, window=9, min_periods=7), ValueError, "min_periods=7 is more than there are"),
    (lambda: gf.corr(X, Y, window=0), ValueError, "window must be a positive"),
    (lambda: gf.corr(X, Y, window=2.5), ValueError, "window must be a positive"),
    (lambda: gf.corr(X, Y, window=2, min_periods=3), ValueError, "from 1 to the window, 2, got 3"),
    (lambda: gf.corr(X, Y, window=2, min_periods=0), ValueError, "min_periods"),
    (lambda: gf.corr(X, Y, trim=3), ValueError, "trim=3 leaves nothing of the 6 windows"),
    (lambda: gf.corr(X, Y, trim=-1), ValueError, "trim must be"),
    (lambda: gf.corr(X, Y, trim=(1, 2, 3)), ValueError, "trim must be"),
    (lambda: gf.corr(X, Y, lag=6), ValueError, "lag must be less than the 6"),
    (lambda: gf.corr(X, Y, lag=()), ValueError, "lag must be"),
    (lambda: gf.corr(X, Y, lag=0.5), TypeError, "lag must be an int"),
    (lambda: gf.corr(X, Y, weights=X[1:]), ValueError, r"weights has shape \(5,\) but must have one for each sample"),
    (lambda: gf.corr(X, Y, weights=-X), ValueError, "not negative"),
    (lambda: gf.corr(X, Y, weights=X * np.nan), ValueError, "finite"),
    (
        lambda: gf.corr(X, Y, detrend="quadratic"),
        ValueError,
        "detrend must be one of None, 'constant', 'linear'|detrend",
    ),
    (lambda: gf.corr(X, Y, nan_policy="raise"), ValueError, "nan_policy must be one of 'propagate', 'omit'"),
    (lambda: gf.corr(X[:0], Y[:, :0]), ValueError, r"y has no samples along axis 1 \(shape \(4, 0\)\)"),
    (lambda: gf.detrend(Y, type="cubic"), ValueError, "gf.detrend: type must be one of 'linear', 'constant'"),
    (lambda: gf.detrend(Y + 0j), TypeError, "gf.detrend: y has dtype complex128 .* imaginary"),
    (lambda: gf.rolling_mean(Y, 7), ValueError, "gf.rolling_mean: window=7 is longer than the 6 samples"),
    (lambda: gf.rolling_mean(Y, True), ValueError, "window must be"),
    (lambda: gf.corr_matrix(Y * 1j), TypeError, "gf.corr_matrix: a has dtype"),
    (lambda: gf.corr_matrix(3.0), ValueError, "gf.corr_matrix: axis must be"),
]


@pytest.mark.parametrize(("call", "error", "says"), BAD, ids=range(len(BAD)))
def test_bad_input(call, error, says):
    with pytest.raises(error, match=says) as e:
        call()
    assert str(e.value).startswith("gf.")


@pytest.mark.parametrize("policy", ("propagate", "omit"))
@pytest.mark.parametrize("detrend", (None, "constant", "linear"))
def test_what_has_no_correlation(policy, detrend):
    k = np.arange(50)
    how = {"detrend": detrend, "nan_policy": policy}
    x = np.sin(k)
    constant = np.multiply.outer([0.0, 0.1, -1e300, 1e6 / 3, np.inf], np.ones(50))
    assert np.isnan(gf.corr(x, constant, **how)).all()
    assert np.isnan(gf.corr(constant[1], x, **how)) and np.isnan(gf.corr(constant[:4], x[None], **how)).all()
    line = 0.1 * k + 1 / 3
    assert np.isnan(gf.corr(x, line, **how)) == (detrend == "linear")
    assert np.isnan(gf.corr(line, x, **how)) == (detrend == "linear")
    assert np.isnan(gf.corr(x, np.full(50, np.nan), **how))
    assert np.isnan(gf.corr(x[:1], x[:1], **how)) and np.isnan(gf.corr(x, x, window=50, **how))
    two = gf.corr(np.array([0.0, 1.0]), np.array([[3.0, 2.0], [1.0, 1.0]]), **how)
    assert np.isnan(two[1]) and (np.isnan(two[0]) if detrend == "linear" else two[0] == pytest.approx(-1))
    assert gf.corr(x, np.zeros((50, 0)), 0, **how).shape == (0,)
    assert gf.detrend(np.zeros((3, 0, 4)), 0).shape == (3, 0, 4)
    assert gf.rolling_mean(np.zeros((0, 4)), 2).shape == (0, 4)
    assert gf.corr_matrix(np.zeros((0, 4))).shape == (0, 0)


def test_one_window_is_no_correlation_where_samples_are_missing():
    """Nor are windows that are equal: what is left of a difference of sums is rounding."""
    rng = np.random.default_rng(4)
    x, y, w = rng.normal(size=21), 10 * rng.normal(size=(40, 21)), np.zeros(21)
    w[7] = 0.3
    for options in ({"nan_policy": "omit"}, {"min_periods": 2}, {"min_periods": 2, "detrend": "linear"}):
        assert np.isnan(gf.corr(x, y, window=3, weights=w, **options)).all()
    y[:, 1:] = rng.normal(size=(40, 1)) * 1e3  # all but the first, which x has not
    x[0] = np.nan
    for options in ({}, {"nan_policy": "omit"}):
        assert np.isnan(gf.corr(x, y, **options)).all()


@pytest.mark.parametrize("detrend", (None, "linear"))
def test_offsets_do_not_cancel_beyond_gaps_at_the_ends(detrend):
    rng = np.random.default_rng(5)
    x = rng.normal(size=200)
    y = 0.5 * x[:, None] + rng.normal(size=(200, 5))
    y[:20, 0], y[-20:, 1], y[:, 3], y[1:, 4] = np.nan, np.nan, np.nan, np.nan
    y[:20, 2], y[-30:, 2] = np.nan, np.nan
    far = y + 1e6 + (1e5 / 200 * np.arange(200)[:, None] if detrend else 0)
    found, expected = (gf.corr(x, a, 0, detrend=detrend, nan_policy="omit", window=7) for a in (far, y))
    np.testing.assert_allclose(found, expected, atol=1e-10)
    assert np.isnan(found[3:]).all()
