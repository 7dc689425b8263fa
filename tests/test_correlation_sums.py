"""The sums that correlations are made of: parts of the time add up to the whole, in any layout."""

import numpy as np
import pytest
from slow_series import slow

from gridfield import projection as P

CASES = [
    {},
    {"window": 6},
    {"window": 5, "detrend": None},
    {"window": 6, "trim": (3, 4)},
    {"window": 7, "least": 3},
    {"window": 50, "least": 20},
    {"window": 6, "lag": 5},
    {"window": 6, "lag": -7, "trim": (2, 0)},
    {"window": 4, "weights": True},
    {"window": 6, "omit": True},
    {"window": 6, "omit": True, "least": 2, "lag": 3, "weights": True},
    {"detrend": "constant", "omit": True},
]


def made(case, gaps, x_gaps, seed=0):
    rng = np.random.default_rng(seed)
    n = 47
    x = rng.normal(size=n).cumsum()
    y = rng.normal(size=(3, n, 21)).cumsum(1) + 100 + 3.0 * np.arange(n)[:, None]
    if gaps:
        y[rng.random(y.shape) < 0.04] = np.nan
        y[0, :, 3], y[1, :, 2], y[1, :46, 4] = np.nan, 7.0, np.nan
    if x_gaps:
        x[[4, 30]] = np.nan
    weights = rng.random(n) * (rng.random(n) > 0.2) if case.get("weights") else None
    return x, y, weights


def projected(x, case, weights):
    window = case.get("window", 1)
    windows = P.Windows(len(x), window, case.get("least", window))
    return P.project(
        x, windows, detrend=case.get("detrend", "linear"), trim=case.get("trim", (0, 0)), lags=(case.get("lag", 0),),
        weights=weights, omit=case.get("omit", False),
    )  # fmt: skip


@pytest.mark.parametrize("x_gaps", (False, True))
@pytest.mark.parametrize("gaps", (False, True))
@pytest.mark.parametrize("case", CASES, ids=str)
def test_sums_against_the_long_way(case, gaps, x_gaps):
    x, y, weights = made(case, gaps, x_gaps)
    p = projected(x, case, weights)
    expected = [[slow(x, y[a, :, q], **{**case, "weights": weights}) for q in range(21)] for a in range(3)]
    r = P.finish(p, P.partial(p, y, 1, 0, y[:, 0], y[:, -1]), y[:, 0], y[:, -1])[0]
    np.testing.assert_allclose(r, expected, atol=1e-12)


@pytest.mark.parametrize("cuts", ((20,), (1, 2, 3, 40, 46), tuple(range(1, 47))), ids=("two", "odd", "single"))
@pytest.mark.parametrize("case", CASES, ids=str)
def test_parts_of_the_time_add_up(case, cuts):
    x, y, weights = made(case, case.get("omit", False), True, seed=1)
    p = projected(x, case, weights)
    first, last = y[:, 0], y[:, -1]
    whole = P.finish(p, P.partial(p, y, 1, 0, first, last), first, last)
    ends = [0, *cuts, len(x)]
    sums = [
        P.partial(p, y[:, max(0, a - p.halo) : b], 1, a, first, last) for a, b in zip(ends[:-1], ends[1:], strict=True)
    ]
    assert all(s.shape == (1, p.fields, 3, 21) for s in sums)
    np.testing.assert_allclose(P.finish(p, P.combine(*sums[::-1]), first, last), whole, atol=1e-12)
