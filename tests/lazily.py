"""What the tests of lazy arrays share: random chunks, and a scheduler that nothing may call early."""

import numpy as np
import pytest
from hypothesis import strategies as st

da = pytest.importorskip("dask.array")
dask = pytest.importorskip("dask")


def lazy(x, chunks):
    return da.from_array(x, chunks=chunks)


@pytest.fixture(autouse=True)
def never_early():
    """A graph that runs while it is made is a failure: `computed` lets one run."""
    with dask.config.set(scheduler=_refuse):
        yield


def _refuse(*args, **kwargs):
    raise AssertionError("computed early")


def computed(x):
    with dask.config.set(scheduler="synchronous"):
        return x.compute() if isinstance(x, da.Array) else x


def agree(mine, theirs, tolerance=1e-10):
    assert isinstance(mine, da.Array)
    done = computed(mine)
    assert mine.dtype == done.dtype == theirs.dtype and mine.shape == done.shape == theirs.shape
    assert all(n == sum(c) for n, c in zip(done.shape, mine.chunks, strict=True))
    np.testing.assert_allclose(done, theirs, tolerance, tolerance)


def field(*shape, seed=0, missing=0.0, dtype=np.float64):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=shape)
    x[rng.random(shape) < missing] = np.nan
    return x.astype(dtype)


def cut(draw, n):
    """An axis in chunks, at random."""
    ends = sorted(draw(st.sets(st.integers(1, n - 1), max_size=3))) if n > 1 else []
    return tuple(np.diff([0, *ends, n]).tolist())


def chunkings(*shape):
    return st.composite(lambda draw: tuple(cut(draw, n) for n in shape))()
