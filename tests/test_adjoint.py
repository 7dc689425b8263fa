"""sample and splat, pad and fold, prefilter and its transpose: <A c, y> = <c, A' y> to rounding, for all cases."""

import numpy as np
import pytest
from cases import CASES, NUMPY_PAD, PATH_IDS, PATHS, as_kernel, force, marked
from numpy.testing import assert_allclose

import gridfield as gf
from gridfield.ops import OPS
from gridfield.scheme import Filter, decode, intern


def assert_transposed(forward, backward, c, y, eps=1e-13):
    """<forward(c), y> = <c, backward(y)>, up to rounding of sums of this size."""
    image, preimage = forward(c), backward(y)
    assert image.shape == y.shape and preimage.shape == c.shape
    scale = np.linalg.norm(image) * np.linalg.norm(y) + np.linalg.norm(c) * np.linalg.norm(preimage)
    assert scale > 0
    assert abs(np.vdot(image, y) - np.vdot(c, preimage)) <= eps * scale


@pytest.mark.parametrize(("case", "path"), PATHS, ids=PATH_IDS)
def test_sample_and_splat(case, path, rng, monkeypatch):
    force(monkeypatch, path)
    points = case.points(rng)
    c, y = case.values(rng), rng.normal(size=(len(case.orders), len(points)))
    assert_transposed(lambda c: case.sample(c, points), lambda y: case.splat(y, points), c, y)


@pytest.mark.parametrize("case", list(map(marked, CASES[5::13])), ids=str)
def test_sample_and_splat_are_the_same_matrix(case, rng):
    """Entry by entry, not only in one inner product."""
    points = case.points(rng, 20)
    size = int(np.prod(case.shape))
    if size > 200:
        case = type(case)(tuple(min(n, 3) for n in case.shape), case.kernels, case.boundaries, case.orders)
        size = int(np.prod(case.shape))
    rows = case.sample(np.eye(size).reshape(size, *case.shape), points)
    rows = rows.reshape(-1, size)
    y = np.eye(len(rows)).reshape(len(case.orders), len(points), -1)
    columns = case.splat(y, points).reshape(len(rows), size)
    assert_allclose(columns, rows, rtol=0, atol=1e-13 * np.abs(rows).max())
    assert np.count_nonzero(rows) > len(rows) / 10


@pytest.mark.parametrize("dtype", (np.float32, np.complex64, np.complex128))
def test_sample_and_splat_of_other_types(dtype, rng):
    case = next(c for c in CASES if str(c) == "2d-cubic-natural-00,10,01")
    real = np.float32 if dtype != np.complex128 else np.float64
    points = case.points(rng, 300).astype(real)

    def draw(*shape):
        x = rng.normal(size=shape)
        return (x + 1j * rng.normal(size=shape) if np.issubdtype(dtype, np.complexfloating) else x).astype(dtype)

    c, y = draw(2, *case.shape), draw(len(case.orders), 300, 2)
    eps = 10 * float(np.finfo(real).eps)
    assert_transposed(lambda c: case.sample(c, points), lambda y: case.splat(y, points), c, y, eps=eps)


@pytest.mark.parametrize("boundary", [b for b in gf.BOUNDARIES if b not in ("nearest", "grid-constant")])
def test_prefiltered_sample_and_splat(boundary, rng):
    """sample with its prefilter is a linear map too: its transpose is splat, then the transposed prefilter."""
    points = rng.uniform(-9, 18, (60, 2))
    c, y = rng.normal(size=(9, 10)), rng.normal(size=60)
    grid = gf.Grid.pixels(c.shape)
    solved = "mirror" if boundary == "constant" else boundary
    back = decode(intern(Filter((gf.bspline(3),) * 2, (solved,) * 2))).flipped

    def transposed(y):
        return OPS["prefilter"].run(gf.splat(y, points, grid, kernel="cubic", boundary=boundary)[None], back)[0]

    assert_transposed(lambda c: gf.sample(c, points, boundary=boundary), transposed, c, y)


MARGINS = [
    ((6,), 3, False),
    ((5,), [(2, 13)], False),
    ((1,), 4, False),
    ((2,), 5, False),
    ((4, 5), [(3, 0), (0, 9)], False),
    ((3, 1, 4), 2, False),
    ((2, 5, 4), [(1, 2)], True),  # one padded axis, channels before it
    ((2, 3, 2, 2, 3), [(1, 0), (0, 2), (3, 1), (1, 1), (0, 0)], False),
]


@pytest.mark.parametrize("boundary", gf.BOUNDARIES)
@pytest.mark.parametrize(("shape", "margins", "some"), MARGINS, ids=str)
def test_pad_and_fold(shape, margins, some, boundary, rng):
    c = rng.normal(size=shape)
    padded = gf.pad(c, margins, boundary=boundary)
    y = rng.normal(size=padded.shape)
    assert_transposed(
        lambda c: gf.pad(c, margins, boundary=boundary), lambda y: gf.fold(y, margins, boundary=boundary), c, y
    )
    pairs = [(margins, margins)] * c.ndim if isinstance(margins, int) else margins
    expected = c
    for axis, pair in enumerate(pairs, start=c.ndim - len(pairs)):
        widths = [pair if a == axis else (0, 0) for a in range(c.ndim)]
        expected = np.pad(expected, widths, **NUMPY_PAD[boundary])
    assert_allclose(padded, expected, rtol=0, atol=1e-13 * np.abs(expected).max())


@pytest.mark.parametrize("kernel", ("quadratic", "cubic", "quartic", "quintic", 6, 7))
@pytest.mark.parametrize("boundary", ("natural", "mirror", "reflect", "wrap"))
def test_prefilter_and_its_transpose(kernel, boundary, rng):
    static = intern(Filter((as_kernel(kernel),) * 2, (boundary,) * 2))
    flipped = decode(static).flipped
    assert decode(flipped).flipped == static
    run = OPS["prefilter"].run
    for shape in ((1, 9, 20), (2, 2, 3), (1, 1, 5), (3, 40, 1)):
        c, y = rng.normal(size=shape), rng.normal(size=shape)
        # the condition number of the solve, up to 1e4 for degree 7 in two dimensions, multiplies rounding
        assert_transposed(lambda c: run(c, static), lambda y: run(y, flipped), c, y, eps=1e-11)
