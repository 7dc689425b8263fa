"""Any shape, stride, kernel, boundary, values and points: hypothesis looks for the exception.

A kernel takes half a second to compile, so what is compiled for comes from the table of cases; what is left free is the
rest: shapes, layouts, spacings, the path taken, the values and the points.
"""

import os

import numpy as np
import pytest
import torch
from cases import MORE_AXES, ONE_AXIS, Case, as_kernel, force, often, roomy
from hypothesis import given, note, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.testing import assert_allclose, assert_array_equal

import gridfield as gf
from gridfield import reference
from gridfield.scheme import scheme

# specialised for the table already: no more is compiled, save for axes of one sample
POOL = [c for c in ONE_AXIS if as_kernel(c.kernels[0]).degree < 6] + [c for c in MORE_AXES if 1 < c.ndim < 4]
if os.environ.get("HYPOTHESIS_PROFILE") != "ci":
    POOL = [c for c in POOL if often(c) and (c.ndim < 3 or len(c.orders) == 1)]
special = st.sampled_from([np.nan, np.inf, -np.inf, 1e30, -1e30, 0.0, -0.0, 1e-300, 2**31 + 0.5, -(2**63) * 1.0])
moderate = st.floats(-1e3, 1e3)


@st.composite
def cases(draw, max_size=12, single=True):
    """A case of the table with another shape and another place in space."""
    case = draw(st.sampled_from(POOL))
    least = 1 if single and case.ndim == 1 else 2
    shape = tuple(draw(st.integers(least, max_size)) for _ in case.shape)
    case = Case(shape, case.kernels, case.boundaries, case.orders)
    if draw(st.booleans()):  # else dyadic numbers, in which ties are exact
        origin = [draw(st.floats(-100, 100)) for _ in shape]
        spacing = [draw(st.floats(1e-3, 1e3)) for _ in shape]
        case.__dict__["grid"] = gf.Grid.from_spacing(shape, origin, spacing)
    return case


def layouts(draw, a):
    """The same numbers, in memory some other way."""
    how = draw(st.sampled_from(["C", "F", "reversed", "gaps", "read-only"]))
    if how == "F":
        a = np.asfortranarray(a)
    elif how == "reversed" and a.ndim:
        a = a[::-1].copy()[::-1]
    elif how == "gaps" and a.ndim:
        a = np.repeat(a, 3, axis=-1)[..., 1::3]
    elif how == "read-only":
        a = a.copy()
        a.setflags(write=False)
    return a


@st.composite
def problems(draw, max_points=70):
    """(case, points, path): points near and far, in samples off the breaks of all kernels."""
    case = draw(cases())
    n = draw(st.integers(0, max_points))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    points = case.points(rng, n, ties=False)
    for _ in range(draw(st.integers(0, min(n, 2)))):
        points[draw(st.integers(0, n - 1)), draw(st.integers(0, case.ndim - 1))] = draw(special)
    path = draw(st.sampled_from(["padded", "direct"] if roomy(case) else ["padded"]))
    note(f"{case} {case.shape} {case.grid} {path}")
    return case, layouts(draw, points), path, rng


def static(case, cval=0.0):
    return scheme(case.grid, tuple(map(as_kernel, case.kernels)), case.boundaries, case.orders, cval)


def close(got, expected, scale):
    """Equal to rounding; where the definition is NaN or garbage from huge coordinates is told by `scale`."""
    assert got.shape == expected.shape
    assert_array_equal(np.isnan(got), np.isnan(expected))
    assert_allclose(got, expected, rtol=1e-9, atol=1e-10 * scale)


def ordinary(case, points):
    """Points whose coordinates can be folded exactly enough to compare two ways of doing it."""
    u = (points - np.array(case.grid.origin)) / np.array(case.grid.spacing)
    return (np.abs(u) < 1e4).all(-1)


def steepness(case):
    """Derivatives per unit are as large as spacings are small."""
    return max(
        np.prod([h ** -float(o) for h, o in zip(case.grid.spacing, order, strict=True)]) for order in case.orders
    )


def check_sample(problem, values, cval):
    case, points, path, _ = problem
    before = points.copy(), values.copy()
    with pytest.MonkeyPatch.context() as patch:
        force(patch, path)
        got = case.sample(values, points, cval=cval)
    assert_array_equal(points, before[0])
    assert_array_equal(values, before[1])
    assert got.shape == (len(case.orders), len(points))
    assert_array_equal(np.isnan(got).all(0), np.isnan(got).any(0))
    good = ordinary(case, points)
    expected = reference.sample(values[None, None], points[None][:, good], static(case, cval))[0, :, :, 0]
    scale = (np.abs(values).max() + abs(cval)) * max(1, steepness(case))
    close(got[:, good], expected, 100 * scale)
    nan = np.isnan(points).any(-1)
    assert np.isnan(got[:, nan]).all()


def check_splat(problem, values):
    case, points, path, _ = problem
    with pytest.MonkeyPatch.context() as patch:
        force(patch, path)
        got = case.splat(values, points)
    assert got.shape == case.shape and np.isfinite(got).all()
    good = ordinary(case, points)
    with pytest.MonkeyPatch.context() as patch:
        force(patch, path)
        some = case.splat(values[:, good], points[good])
    expected = reference.splat(values[None, :, good, None], points[None][:, good], static(case))[0, 0]
    close(some, expected, 100 * max(1, np.abs(values).max(initial=0)) * max(1, steepness(case)))


def check_adjoint(problem):
    case, points, path, rng = problem
    points = points[ordinary(case, points)]
    c, y = case.values(rng), rng.normal(size=(len(case.orders), len(points)))
    with pytest.MonkeyPatch.context() as patch:
        force(patch, path)
        image, preimage = case.sample(c, points), case.splat(y, points)
    scale = np.linalg.norm(image) * np.linalg.norm(y) + np.linalg.norm(c) * np.linalg.norm(preimage)
    scale += steepness(case) * np.linalg.norm(c) * np.linalg.norm(y)  # weights of derivatives may cancel
    assert abs(np.vdot(image, y) - np.vdot(c, preimage)) <= 1e-12 * scale


@given(problems(), st.data(), st.floats(-10, 10))
def test_sample(problem, data, cval):
    values = data.draw(hnp.arrays(float, problem[0].shape, elements=moderate))
    check_sample(problem, layouts(data.draw, values), cval)


@given(problems())
def test_splat(problem):
    case, points, _, rng = problem
    check_splat(problem, rng.normal(size=(len(case.orders), len(points))))


@given(problems())
def test_adjoint(problem):
    check_adjoint(problem)


@pytest.mark.slow
@settings(max_examples=1500)
@given(problems(max_points=300), st.data(), st.floats(-1e6, 1e6))
def test_sample_and_splat_at_length(problem, data, cval):
    case, points, _, rng = problem
    check_sample(problem, layouts(data.draw, case.values(rng) * 10.0 ** rng.integers(-3, 4)), cval)
    check_splat(problem, rng.normal(size=(len(case.orders), len(points))))
    check_adjoint(problem)


# ---- laws that need no oracle ----------------------------------------------------------------------------------------
@given(problems(), st.floats(-5, 5))
def test_sample_is_linear_in_the_values(problem, factor):
    case, points, _, rng = problem
    points = points[ordinary(case, points)]
    a, b = case.values(rng), case.values(rng)
    got = case.sample(a + factor * b, points)
    scale = 100 * max(1, steepness(case))
    assert_allclose(got, case.sample(a, points) + factor * case.sample(b, points), rtol=1e-9, atol=1e-11 * scale)


@given(problems())
def test_a_constant_is_that_constant(problem):
    """With weights that sum to one, whatever the boundary; and splat keeps the total."""
    case, points, _, rng = problem
    if not all(as_kernel(k).partition_of_unity for k in case.kernels):
        return
    points = points[ordinary(case, points)]
    got = case.sample(np.full(case.shape, 3.5), points, cval=3.5)
    for order, row in zip(case.orders, got, strict=True):
        scale = np.prod([h ** -float(o) for h, o in zip(case.grid.spacing, order, strict=True)])
        assert_allclose(row, 0.0 if any(order) else 3.5, rtol=1e-10, atol=1e-9 * scale)
    if not any("constant" in b for b in case.boundaries):
        y = rng.normal(size=len(points))
        how = {"kernel": case.kernels, "boundary": case.boundaries}
        if all(as_kernel(k).degree < 2 for k in case.kernels) or case.ndim == 1:
            total = gf.splat(y, points, case.grid, **how).sum()
            assert_allclose(total, y.sum(), rtol=0, atol=1e-11 * (1 + np.abs(y).sum()))


@given(problems())
def test_the_two_paths_agree(problem):
    case, points, _, rng = problem
    if not roomy(case):
        return
    values, results = case.values(rng), []
    y = rng.normal(size=(len(case.orders), len(points)))
    for path in ("padded", "direct"):
        with pytest.MonkeyPatch.context() as patch:
            force(patch, path)
            results.append((case.sample(values, points, cval=2.0), case.splat(y, points)))
    scale = 100 * max(1, steepness(case))
    for a, b in zip(*results, strict=True):
        assert_allclose(a, b, rtol=1e-9, atol=1e-11 * scale)


@given(problems())
def test_each_point_is_on_its_own(problem):
    """A point's value does not depend on the points around it, nor on how many there are; not by a bit."""
    case, points, path, rng = problem
    values = case.values(rng)
    with pytest.MonkeyPatch.context() as patch:
        force(patch, path)
        whole = case.sample(values, points)
        order = rng.permutation(len(points))
        assert_array_equal(case.sample(values, points[order]), whole[:, order])
        half = len(points) // 2
        parts = [case.sample(values, points[:half]), case.sample(values, points[half:])]
        assert_array_equal(np.concatenate(parts, axis=1), whole)


@given(cases(single=False), st.integers(0, 2**32))
def test_numpy_and_torch_agree_to_the_bit(case, seed):
    rng = np.random.default_rng(seed)
    values, points = case.values(rng), case.points(rng, 30)
    got = case.sample(torch.from_numpy(values), torch.from_numpy(points), cval=1.5)
    assert_array_equal(got.numpy(), case.sample(values, points, cval=1.5))
    y = rng.normal(size=got.shape)
    assert_array_equal(case.splat(torch.from_numpy(y), torch.from_numpy(points)).numpy(), case.splat(y, points))


shapes = hnp.array_shapes(min_dims=1, max_dims=4, min_side=1, max_side=9)


@given(shapes, st.data())
def test_prefilter_gives_back_the_data(shape, data):
    """Sampled at the samples, the coefficients are the data: any shape, degree and boundary."""
    kernels = data.draw(st.lists(st.sampled_from(["linear", 2, 3, 4, 5]), min_size=len(shape), max_size=len(shape)))
    words = ["natural", "mirror", "reflect", "wrap"]
    boundaries = data.draw(st.lists(st.sampled_from(words), min_size=len(shape), max_size=len(shape)))
    values = data.draw(hnp.arrays(float, shape, elements=moderate))
    c = gf.prefilter(layouts(data.draw, values), kernel=kernels, boundary=boundaries)
    assert c.shape == shape
    for axis, (kernel, boundary) in enumerate(zip(kernels, boundaries, strict=True)):
        taps = as_kernel(kernel).samples
        m = len(taps) // 2
        widths = [(m, m) if a == axis else (0, 0) for a in range(len(shape))]
        padded = gf.pad(c, widths, boundary=boundary)
        if shape[axis] > 1:  # one sample is constant along its axis
            c = sum(t * np.take(padded, range(k, k + shape[axis]), axis) for k, t in enumerate(taps))
    assert_allclose(c, values, rtol=0, atol=1e-10 * max(1, np.abs(values).max()))


@given(shapes, st.data())
def test_pad_and_fold(shape, data):
    margins = [tuple(data.draw(st.tuples(st.integers(0, 7), st.integers(0, 7)))) for _ in shape]
    boundary = data.draw(st.sampled_from(gf.BOUNDARIES))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    values = rng.normal(size=shape)
    padded = gf.pad(layouts(data.draw, values), margins, boundary=boundary)
    inner = tuple(slice(before, before + n) for (before, _), n in zip(margins, shape, strict=True))
    assert_array_equal(padded[inner], values)
    y = rng.normal(size=padded.shape)
    folded = gf.fold(layouts(data.draw, y), margins, boundary=boundary)
    scale = np.linalg.norm(padded) * np.linalg.norm(y) + np.linalg.norm(values) * np.linalg.norm(folded)
    assert abs(np.vdot(padded, y) - np.vdot(values, folded)) <= 1e-12 * scale
    # in two steps or in one
    if boundary in ("nearest", "wrap", "grid-constant") and all(n > 1 for n in shape):
        once = gf.pad(values, [(b, 0) for b, _ in margins], boundary=boundary)
        if boundary != "wrap":
            assert_array_equal(gf.pad(once, [(0, a) for _, a in margins], boundary=boundary), padded)


@given(st.data())
def test_grids_only_move_and_scale(data):
    """sample in a grid's own units is sample in samples, and derivatives per unit."""
    case = data.draw(cases(single=False))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    u = case.index_points(rng, 20, ties=False)
    values = case.values(rng)
    here = case.sample(values, case.grid.to_physical(u))
    pixels = gf.Grid.pixels(case.shape)
    there = gf.sample(values, u, **{**case.how, "grid": pixels}, prefilter=False)
    for order, a, b in zip(case.orders, here, there, strict=True):
        scale = np.prod([h ** -float(o) for h, o in zip(case.grid.spacing, order, strict=True)])
        assert_allclose(a, b * scale, rtol=0, atol=1e-7 * scale * max(1, np.abs(b).max()))
