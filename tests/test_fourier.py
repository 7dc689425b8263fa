"""The FFT, pruned where that can be, between modes and a finer grid is SciPy's FFT of modes among zeros, each way."""

import functools
from math import ceil

import numpy as np
import pytest
import scipy.fft
from numpy.testing import assert_allclose

from gridfield.cpu.fourier import Axis, Transform, fine_size
from gridfield.cpu.plan import SLACK

SHAPES = [(1,), (2,), (13,), (50,), (1, 9), (20, 1), (8, 33), (17, 12), (1, 1, 1), (4, 7, 10), (3, 2, 1, 5)]
COMPLEX = {"float32": "complex64", "float64": "complex128"}


def embedded(shape, fine, centered):
    """Where each mode lies on the fine grid, per axis."""
    k = [np.arange(n) - n // 2 for n in shape]
    return np.ix_(*((a if centered else np.fft.ifftshift(a)) % nf for a, nf in zip(k, fine, strict=True)))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("centered", (True, False), ids=("centered", "fft"))
@pytest.mark.parametrize("dtype", COMPLEX)
@pytest.mark.parametrize("finer", (2, 1.5, 1))
def test_widen_and_narrow(shape, centered, dtype, finer, rng):
    margins = [3 + a for a in range(len(shape))]
    fine = [fine_size(max(ceil(finer * n), 2 * m)) for n, m in zip(shape, margins, strict=True)]
    factors = [rng.uniform(1, 2, n) for n in shape]
    axes = [Axis(*a, centered, f, dtype) for *a, f in zip(shape, fine, margins, factors, strict=True)]
    transform = Transform(axes, dtype)
    weights = functools.reduce(np.multiply, np.ix_(*factors))
    place = embedded(shape, fine, centered)
    eps = 1e-6 if dtype == "float32" else 1e-14

    def close(a, b):
        assert_allclose(a, b, rtol=0, atol=eps * max(1, np.abs(b).max()))

    used = tuple(slice(0, nf + m) for nf, m in zip(fine, margins, strict=True))
    for sign in (1, -1):
        fft = scipy.fft.fftn if sign < 0 else lambda x: scipy.fft.ifftn(x, norm="forward")
        modes = (rng.normal(size=shape) + 1j * rng.normal(size=shape)).astype(COMPLEX[dtype])
        memory = np.full(2 * np.prod(transform.grid) + SLACK, np.nan, dtype)
        transform.widen(modes.view(dtype).reshape(-1), memory, sign)
        grid = memory[: 2 * np.prod(transform.grid)].view(COMPLEX[dtype]).reshape(transform.grid)
        among_zeros = np.zeros(fine, complex)
        among_zeros[place] = modes * weights
        close(grid[used], np.pad(fft(among_zeros), [(0, m) for m in margins], mode="wrap"))

        # back, what lies behind the margins counts for nothing
        grid[...] = np.nan
        grid[used] = rng.normal(size=grid[used].shape) + 1j * rng.normal(size=grid[used].shape)
        folded = grid[used].astype(complex)
        for a, (nf, m) in enumerate(zip(fine, margins, strict=True)):
            head, rest = np.split(np.moveaxis(folded, a, 0), [nf])
            head = head.copy()
            head[:m] += rest
            folded = np.moveaxis(head, 0, a)
        out = np.full(modes.size * 2, np.nan, dtype)
        transform.narrow(memory, out, sign)
        close(out.view(COMPLEX[dtype]).reshape(shape), weights * fft(folded)[place])


@pytest.mark.parametrize("n", [*range(1, 40), 100, 127, 1000, 2047])
def test_sizes_of_fine_grids(n):
    """Multiples of 8 with factors 2, 3 and 5, and not much larger than wanted; transforms of all of them are right."""
    size = fine_size(n)
    assert n <= size <= max(16, 1.25 * n + 8) and size % 8 == 0
    transform = Transform([Axis(1, size, 0, True, np.ones(1), "float64")], "float64")
    for k in (0, size // 3):  # a lone wave comes out of every size as one number
        wave = np.zeros((transform.grid[0], 2))
        wave[:size, 0] = np.cos(2 * np.pi * k * np.arange(size) / size)
        out = np.empty(2)
        transform.narrow(np.concatenate([wave.ravel(), np.zeros(SLACK)]), out, 1)
        assert_allclose(out, [size if k == 0 else 0, 0], rtol=0, atol=1e-12 * size)
