"""Floats to small integers, against exact arithmetic."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from gridfield.faces.numpy import FACE

NUMBERS = [np.nan, np.inf, -np.inf, 1e300, -1e300, 2.0**31, -(2.0**63), 2.0**64, -0.0]


@pytest.mark.parametrize("wanted", ("uint8", "int8", "uint16", "int16", "int32", "uint32", "int64", "uint64"))
@pytest.mark.parametrize("given", ("float32", "float64"))
def test_rounds_to_even_and_saturates(given, wanted, rng):
    info = np.iinfo(wanted)
    near = [b + d for b in (0, 100, info.min, info.max) for d in np.arange(-4, 4.25, 0.25)]
    with np.errstate(over="ignore"):
        x = np.array([*NUMBERS, *near, *rng.normal(size=500) * 200], given)
    expected = [0 if np.isnan(v) else min(max(round(v), info.min), info.max) if np.isfinite(v) else
                info.min if v < 0 else info.max for v in x.tolist()]  # fmt: skip
    got = FACE.round_to(x, wanted)
    assert got.dtype == wanted
    assert_array_equal(got, np.array(expected, wanted))


def test_shapes_and_strides(rng):
    x = rng.normal(size=(300, 400, 3)).astype(np.float32) * 100
    for view in (x, x[::2, 1::3], x.transpose(2, 0, 1), x[:0], x[0, 0, 0]):
        assert_array_equal(FACE.round_to(view, "uint8"), np.clip(np.rint(view), 0, 255).astype(np.uint8))
