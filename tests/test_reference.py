"""The kernels give what the definition says: against reference.py and against one dense matrix per axis."""

import warnings

import numpy as np
import pytest
import torch
from cases import CASES, MORE_AXES, ONE_AXIS, PATH_IDS, PATHS, Case, as_kernel, force, gradient, marked, oracle
from numpy.testing import assert_allclose

import gridfield as gf
from gridfield import reference
from gridfield.cpu import plan
from gridfield.faces import torch as torch_face
from gridfield.ops import OPS
from gridfield.ops.table import FILES
from gridfield.scheme import Filter, Margins, _known, decode, intern

each_path = pytest.mark.parametrize(("case", "path"), PATHS, ids=PATH_IDS)
SOME = [MORE_AXES[k] for k in (0, 3, 4, 7)] + [ONE_AXIS[k] for k in (3, 26, 40)]
each_of_some = pytest.mark.parametrize("case", SOME, ids=str)


def close(got, expected, rtol=1e-11):
    """Equal up to rounding, measured by the largest value: derivatives on different axes cancel differently."""
    largest = np.max(np.abs(expected), initial=0.0, where=np.isfinite(expected))
    assert_allclose(got, expected, rtol=0, atol=rtol * max(1.0, largest))


def by_reference(case, values, points, cval=0.0):
    """Values (*grid.shape), points (n, ndim) -> (orders, n)."""
    return reference.sample(values[None, None], points[None], case.scheme(cval))[0, :, :, 0]


def transposed_by_reference(case, values, points):
    """Values (orders, n), points (n, ndim) -> grid."""
    return reference.splat(values[None, ..., None], points[None], case.scheme())[0, 0]


@each_path
def test_sample(case, path, rng, monkeypatch):
    force(monkeypatch, path)
    values, points = case.values(rng), case.points(rng)
    points[3, -1] = np.nan
    got = case.sample(values, points, cval=0.7)
    close(got, by_reference(case, values, points, cval=0.7))
    assert np.isnan(got[:, 3]).all() and np.isfinite(np.delete(got, 3, 1)).all()


@each_path
def test_sample_by_the_definition(case, path, rng, monkeypatch):
    force(monkeypatch, path)
    values, points = case.values(rng), case.points(rng, ties=False)
    cval = 0.7 if all(as_kernel(k).partition_of_unity for k in case.kernels) else 0.0
    got = case.sample(values, points, cval=cval)
    close(got, np.stack([oracle(case, values, points, order, cval) for order in case.orders]))


@each_path
def test_splat(case, path, rng, monkeypatch):
    force(monkeypatch, path)
    points = case.points(rng)
    points[3, -1] = np.nan
    values = rng.normal(size=(len(case.orders), len(points)))
    close(case.splat(values, points), transposed_by_reference(case, values, points))


@pytest.mark.parametrize("n", (1, 2, 3))
@pytest.mark.parametrize("case", list(map(marked, ONE_AXIS[:: len(gf.BOUNDARIES) + 1] + ONE_AXIS[3::8])), ids=str)
def test_axes_shorter_than_the_stencil(case, n, rng):
    case = Case((n,), case.kernels, case.boundaries, case.orders)
    values, points = case.values(rng), case.points(rng, ties=False)
    got = case.sample(values, points)
    close(got, by_reference(case, values, points))
    close(got, np.stack([oracle(case, values, points, order) for order in case.orders]))
    y = rng.normal(size=got.shape)
    close(case.splat(y, points), transposed_by_reference(case, y, points))


@pytest.mark.parametrize("boundary", gf.BOUNDARIES)
def test_axis_of_one_sample_and_a_kernel_without_unit_sum(boundary, rng):
    kernel = gf.Kernel([[0.25], [0.5]])
    case = Case((1, 5), (kernel, "linear"), (boundary, "mirror"), gradient(2))
    values, points = case.values(rng), case.points(rng, ties=False)
    got = case.sample(values, points)
    close(got, by_reference(case, values, points))
    close(got, np.stack([oracle(case, values, points, order) for order in case.orders]))


@pytest.mark.parametrize("path", ("padded", "direct"))
@pytest.mark.parametrize("case", MORE_AXES[:2], ids=str)
def test_offsets_of_64_bits(case, path, rng, monkeypatch):
    values, points = case.values(rng), case.points(rng)
    y = rng.normal(size=(len(case.orders), len(points)))
    expected = case.sample(values, points), case.splat(y, points)
    force(monkeypatch, path)
    monkeypatch.setattr(plan, "WIDE", 0)
    used = []
    entry = plan.taps.entry
    monkeypatch.setattr(plan.taps, "entry", lambda *args: used.append(args[-1]) or entry(*args))
    plan.plan.cache_clear()
    close(case.sample(values, points), expected[0])
    close(case.splat(y, points), expected[1])
    plan.plan.cache_clear()
    assert used and set(used) == {"int64"}


@each_of_some
def test_float32(case, rng, monkeypatch):
    force(monkeypatch, "padded")
    # coordinates in float32 carry errors of 1e-7 of their size, which jumps and kinks turn into something else
    points = case.points(rng, ties=False).astype(np.float32)
    values = case.values(rng).astype(np.float32)
    got = case.sample(values, points)
    assert got.dtype == np.float32
    exact = by_reference(case, values.astype(float), points.astype(float))
    close(got, exact, rtol=2e-4)
    y = rng.normal(size=got.shape).astype(np.float32)
    grid = case.splat(y, points)
    assert grid.dtype == np.float32
    close(grid, transposed_by_reference(case, y.astype(float), points.astype(float)), rtol=2e-4)


@pytest.mark.parametrize(
    ("case", "batch", "channels"),
    [(ONE_AXIS[1], 2, 1), *((MORE_AXES[1], b, c) for b, c in ((1, 1), (3, 1), (1, 3), (2, 20))), (MORE_AXES[6], 1, 1)],
    ids=str,
)
def test_op_dot(case, batch, channels, rng):
    values = case.values(rng, batch, channels)
    points = np.stack([case.points(rng) for _ in range(batch)])
    weights = rng.normal(size=(batch, len(case.orders), points.shape[1], channels))
    got = OPS["dot"].run(values, weights, points, case.scheme().text)
    close(got, reference.dot(values, weights, points, case.scheme()))


@pytest.mark.parametrize("case", MORE_AXES[1:4], ids=str)
def test_ops_with_a_batch(case, rng):
    """Every item of a batch has its own grid and its own points."""
    values, points = case.values(rng, 3, 2), np.stack([case.points(rng, 70) for _ in range(3)])
    text = case.scheme().text
    got = OPS["sample"].run(values, points, text)
    close(got, reference.sample(values, points, case.scheme()))
    close(OPS["splat"].run(got, points, text), reference.splat(got, points, case.scheme()))


@pytest.mark.parametrize("boundary", gf.BOUNDARIES)
def test_ops_pad_and_fold(boundary, rng):
    for shape, widths in (
        ((5,), ((2, 9),)),
        ((4, 3), ((3, 0), (1, 7))),
        ((1, 2, 3), ((2, 1), (4, 3), (0, 5))),
        ((2, 3, 2, 2), ((1, 1), (0, 0), (2, 0), (0, 5))),
    ):
        margins = Margins(widths, (boundary,) * len(shape), 0.7)
        values = rng.normal(size=(3, *shape))
        padded = OPS["pad"].run(values, intern(margins))
        close(padded, reference.pad(values, margins))
        y = rng.normal(size=padded.shape)
        close(OPS["fold"].run(y, intern(margins)), reference.fold_back(y, margins))


@pytest.mark.parametrize("transposed", (False, True))
@pytest.mark.parametrize("boundary", ("natural", "mirror", "reflect", "wrap"))
def test_op_prefilter(boundary, transposed, rng):
    kernels = tuple(map(as_kernel, ("quintic", "linear", "cubic")))
    for shape in ((7, 3, 40), (1, 5, 2), (33, 1, 3)):
        static = Filter(kernels, (boundary,) * 3, transposed)
        values = rng.normal(size=(2, *shape))
        close(OPS["prefilter"].run(values, intern(static)), reference.prefilter(values, static), rtol=1e-10)


# ---- what runs where there is no kernel ------------------------------------------------------------------------------
@pytest.mark.parametrize("case", list(map(marked, CASES[::5])), ids=str)
def test_reference_runs_on_tensors(case, rng):
    values, points = case.values(rng, 2, 3), np.stack([case.points(rng, 20) for _ in range(2)])
    points[1, 2, 0] = np.nan
    static = case.scheme(cval=0.7)
    y = reference.sample(values, points, static)
    tensors = torch.from_numpy(values), torch.from_numpy(points)
    got = reference.sample(*tensors, static)
    assert isinstance(got, torch.Tensor) and got.dtype == torch.float64
    close(got.numpy(), y)
    y = np.nan_to_num(y)
    grid = reference.splat(torch.from_numpy(y), tensors[1], case.scheme())
    close(grid.numpy(), reference.splat(y, points, case.scheme()))
    if case.ndim == 2:
        weights = rng.normal(size=y.shape)
        slopes = reference.dot(tensors[0], torch.from_numpy(weights), tensors[1], case.scheme())
        close(slopes.numpy(), reference.dot(values, weights, points, case.scheme()))


@pytest.mark.parametrize("dtype", (torch.float32, torch.float64))
def test_reference_of_the_grid_ops_runs_on_tensors(dtype, rng):
    values = torch.from_numpy(rng.normal(size=(2, 5, 6))).to(dtype)
    rtol = 1e-5 if dtype == torch.float32 else 1e-11
    for boundary in gf.BOUNDARIES:
        margins = Margins(((2, 3), (7, 0)), (boundary,) * 2, 0.7)
        padded = reference.pad(values, margins)
        assert padded.dtype == dtype
        close(padded.numpy(), gf.pad(values.numpy(), [(2, 3), (7, 0)], boundary=boundary, cval=0.7), rtol)
        folded = reference.fold_back(padded, margins)
        close(folded.numpy(), gf.fold(padded.numpy(), [(2, 3), (7, 0)], boundary=boundary), rtol)
        if boundary in ("natural", "mirror", "reflect", "wrap"):
            filtered = reference.prefilter(values, Filter((gf.bspline(3),) * 2, (boundary,) * 2))
            grid = gf.Grid.pixels((5, 6))
            close(filtered.numpy(), gf.prefilter(values.numpy(), boundary=boundary, grid=grid), rtol)


def test_other_devices_use_the_reference_and_say_so_once():
    torch_face._warn_once.cache_clear()
    values, points = torch.ones(3, 5, 6, device="meta"), torch.ones(7, 2, device="meta")

    def calls():
        return (
            gf.sample(values, points, boundary="nearest", derivative=[(0, 0), (1, 0)]),
            gf.splat(points, points, gf.Grid.pixels((5, 6)), kernel="cubic"),
            gf.fold(gf.pad(values, 2), 2),
        )

    with pytest.warns(UserWarning, match=r"gridfield has no \w+ kernel for 'meta' tensors") as caught:
        out = calls()
    assert [tuple(y.shape) for y in out] == [(2, 7, 3), (2, 5, 6), (3, 5, 6)]
    assert all(y.device.type == "meta" for y in out)
    said = sorted(str(w.message).split()[3] for w in caught)
    assert said == ["fold", "pad", "prefilter", "sample", "splat"]  # each once, pad though it ran twice
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        calls()


def test_derivatives_on_other_devices_use_the_reference_too():
    values = torch.ones(5, 6, device="meta", requires_grad=True)
    points = torch.ones(7, 2, device="meta", requires_grad=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        gf.sample(values, points).square().sum().backward()
    assert values.grad.shape == (5, 6) and points.grad.shape == (7, 2) and points.grad.device.type == "meta"


def test_a_text_is_read_as_what_was_written():
    """The static arguments cross process borders as text: a kernel of the user and a cval that is no number too."""
    case = MORE_AXES[5]
    static = case.scheme(cval=float("inf"))
    _known.pop(static.text)
    again = decode(static.text)
    assert again is not static and again.text == static.text
    assert again.kernels == static.kernels and again.grid == static.grid and again.cval == static.cval


def test_no_op_stands_in_its_file_twice():
    names = [op.name for file in FILES for op in file.OPS]
    assert len(set(names)) == len(names) == len(OPS)
