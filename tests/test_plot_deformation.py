"""Pictures of deformations: their numbers are read back from the artists and compared with the deformation."""

import builtins

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib.contour import ContourSet
from matplotlib.quiver import Quiver
from numpy.testing import assert_allclose, assert_array_equal

import gridfield as gf
from gridfield.torch import SplineField


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Pictures of fewer pixels are drawn faster."""
    monkeypatch.setattr(gf.plot.deformations, "STEPS", 40)
    with matplotlib.rc_context({"figure.dpi": 40}):
        yield
    plt.close("all")


FULL = (21, 33)


def image_of(shape=FULL):
    return np.random.default_rng(0).normal(size=shape)


def u_of(shape=FULL, sigma=2.0, points=4, seed=0):
    return gf.random_displacement(points, sigma, shape=shape, rng=seed)


def drawn(panels):
    """Everything is really rendered: errors and warnings of matplotlib come only then."""
    np.ravel(panels)[0].get_figure(root=True).canvas.draw()
    return panels


def values(panel):
    return np.ma.filled(np.ma.asarray(panel.images[0].get_array()), np.nan)


def lattice(panel):
    """(rows, columns, 2): the places of the pixels of a determinant."""
    left, right, bottom, top = panel.images[0].get_extent()
    m, n = panel.images[0].get_array().shape
    return np.stack(np.meshgrid(np.linspace(top, bottom, m), np.linspace(left, right, n), indexing="ij"), -1)


HOW = {"crop": (slice(3, 19), slice(2, 30)), "rotate": 20.0, "zoom": (1.2, 0.9), "spacing": (0.5, 2.0)}


@pytest.mark.parametrize("how", ({}, HOW))
def test_two_dimensions(how):
    """Every panel against deform, deform_points and differences of it: with crop, rotation, zoom and spacing too."""
    image, u = image_of(), u_of()
    spacing = np.array(how.get("spacing", (1.0, 1.0)))
    start = np.array([s.start for s in how["crop"]]) if how else np.zeros(2)
    panels = drawn(gf.plot.deformation(image, u * spacing[:, None, None], kernel="linear", **how))
    assert panels.shape == (4,)
    before, after, origins, determinant = panels

    def source(x):
        """Physical places of the uncropped image -> where they come from."""
        return gf.deform_points(x - start * spacing, u * spacing[:, None, None], FULL, inverse=True, **how)

    assert_array_equal(values(before), image)
    assert_array_equal(values(after), gf.deform(image, u * spacing[:, None, None], kernel="linear", **how))
    edges = [-spacing[1] / 2, 32.5 * spacing[1], 20.5 * spacing[0], -spacing[0] / 2]
    assert_allclose(before.images[0].get_extent(), edges)
    inner = np.array(values(after).shape)
    first, last = (start - 0.5) * spacing, (start + inner - 0.5) * spacing
    for panel in (after, determinant):
        assert_allclose(panel.images[0].get_extent(), (first[1], last[1], last[0], first[0]))
    for panel in panels:
        assert panel.yaxis_inverted() and not panel.xaxis_inverted() and panel.get_aspect() == 1
        assert panel.get_ylabel() == ("x0" if how else "x0 (px)")

    # the same lines before and after
    straight = [line.get_ydata()[0] for line in before.lines if line.get_ydata()[0] == line.get_ydata()[1]]
    found = [c for c in after.collections if isinstance(c, ContourSet)]
    assert len(found) == 2
    step = np.diff(straight)[0]
    for a, contours in enumerate(found):
        assert set(np.round(contours.levels / step, 9) % 1) == {0}
        for level, path in zip(contours.levels, contours.get_paths(), strict=True):
            error = source(path.vertices[:, ::-1])[:, a] - level
            assert len(error) and np.abs(error).max() < 0.05 * step

    # lines of the result, and arrows, in the image
    for line in origins.lines:
        if line.get_marker() == "o":
            continue
        at = np.stack([line.get_ydata(), line.get_xdata()], -1)
        o = gf.deform_points(at, u * spacing[:, None, None], FULL, **how) + start * spacing
        o = o[np.isfinite(o).all(-1)]
        across = np.ptp(o, axis=0).min()  # of a line of the result, one coordinate is the same
        assert len(o) > 30 and across < 1e-4
    (quiver,) = [c for c in origins.collections if isinstance(c, Quiver)]
    points = gf.Grid((4, 4), [(0, 20 * spacing[0]), (0, 32 * spacing[1])]).coords().reshape(-1, 2)
    assert_allclose(quiver.XY[:, ::-1], points, atol=1e-9)
    assert_allclose(np.stack([quiver.V, quiver.U], -1), source(points) - points, atol=1e-9)
    if not how:
        assert_allclose(np.stack([quiver.V, quiver.U]), u.reshape(2, -1), atol=1e-9)
    (dots,) = [line for line in origins.lines if line.get_marker() == "o"]
    assert_allclose(np.stack([dots.get_ydata(), dots.get_xdata()], -1), points, atol=1e-9)

    # the determinant of the map in pixels
    x, e = lattice(determinant), 1e-5
    slopes = [(source(x + d) - source(x - d)) / (2 * e) for d in e * np.eye(2)]
    expected = np.linalg.det(np.stack(slopes, -1))
    inside = ((x > 0) & (x < [20 * spacing[0], 32 * spacing[1]])).all(-1)
    assert_allclose(values(determinant)[inside], expected[inside], atol=1e-5)


def test_determinant_is_that_of_the_displacement():
    u = u_of(sigma=1.0)
    panel = gf.plot.deformation(image_of(), u)[3]
    x = lattice(panel)
    inside = ((x >= 0) & (x <= np.array(FULL) - 1)).all(-1)
    dense = gf.jacobian_determinant(u, FULL, factor=16)
    expected = gf.sample(dense, x[inside] * 16, kernel="linear")
    assert_allclose(values(panel)[inside], expected, atol=2e-3)
    at_pixels = gf.jacobian_determinant(u, FULL)
    assert panel.get_title() == f"determinant {at_pixels.min():.2g} to {at_pixels.max():.2g}"


def test_folds_are_black():
    """Where the determinant is 0 or less, and nowhere else."""
    u = u_of(sigma=8.0)
    panel = gf.plot.deformation(image_of(), u)[3]
    drawn(panel)
    shown = panel.images[0]
    black = (shown.cmap(shown.norm(values(panel)))[..., :3] == 0).all(-1)
    assert 0.02 < black.mean() < 0.98
    assert_array_equal(black, values(panel) <= 0)
    assert f"folded {(gf.jacobian_determinant(u, FULL) <= 0).mean():.1%}" in panel.get_title()
    calm = gf.plot.deformation(image_of(), u_of(sigma=0.1))[3]
    assert "folded" not in calm.get_title() and calm.images[0].norm.vmin == pytest.approx(0.9)


@pytest.mark.parametrize("how", ({"zoom": 3}, {"zoom": 2, "rotate": 20}, {"zoom": 0.5}))
def test_a_constant_determinant_is_no_fold(how):
    """Its rounding errors are not below the colours."""
    panel = drawn(gf.plot.deformation(image_of(), None, kernel="linear", **how))[3]
    shown = panel.images[0]
    colours = shown.cmap(shown.norm(values(panel)))[..., :3]
    assert (colours > 0).any(-1).all() and "folded" not in panel.get_title()
    size = 2 * (how["zoom"] ** -2,)
    assert panel.get_title() == "determinant {:.2g} to {:.2g}".format(*size)


def test_long_images(monkeypatch):
    """Enough rows of the determinant in a strip, and numbers from its pixels, of larger ones from some."""
    shape = (20, 451)
    u = u_of(shape, 12.0, (3, 30))
    at_pixels = gf.jacobian_determinant(u, shape)
    assert at_pixels.min() < 0
    for limit, some in ((2**18, at_pixels), (1000, at_pixels[::4, ::4])):
        monkeypatch.setattr(gf.plot.deformations, "PIXELS", limit)
        panel = gf.plot.deformation(image_of(shape), u, kernel="linear")[3]
        expected = f"determinant {some.min():.2g} to {some.max():.2g}, folded {(some <= 0).mean():.1%}"
        assert values(panel).shape == (10, 40) and panel.get_title() == expected


def test_white_of_colours():
    """The same before and after, of any type, and neither all black nor all white."""
    rgb = np.random.default_rng(1).integers(0, 256, (*FULL, 3))
    rgb[0, 0] = 255
    for image, full in (
        (rgb, 255), (rgb.astype(np.uint8), 255), (rgb.astype(np.float32), 255), (rgb // 2, 255), (rgb * 4, 1020),
        (rgb * 400.0, 102000), (rgb // 128, 1), (rgb / 255, 1), (rgb > 99, 1), (rgb.astype(np.uint32) * 16, 4080),
        (np.where(rgb == 7, np.nan, rgb), 255), (rgb - 300, 1), (rgb * 1j, 255), (np.full((*FULL, 3), np.nan), 1),
    ):  # fmt: skip
        assert gf.plot.deformations._full_scale(image) == full
    for image in (rgb, rgb.astype(np.float64)):
        before, after = gf.plot.deformation(image, zoom=1, axis=(0, 1), kernel="linear")[:2]
        assert_allclose(values(before), rgb / 255, atol=1e-6)
        assert_allclose(values(after), values(before), atol=1e-6)


def test_volumes():
    """Three planes, each with the components in it; where they are said to be."""
    shape, spacing = (7, 11, 13), (3.0, 1.0, 2.0)
    image, u = image_of(shape), u_of(shape, 1.0) * np.reshape(spacing, (3, 1, 1, 1))
    panels = drawn(gf.plot.deformation(image, u, kernel="linear", spacing=spacing, at=(6, 5, 20), dims=("z", "y", "x"),
                                       units="mm"))  # fmt: skip
    assert panels.shape == (3, 4)
    deformed = gf.deform(image, u, kernel="linear", spacing=spacing)
    for through, (row, at) in enumerate(zip(panels, (2, 5, 10), strict=True)):
        assert_array_equal(values(row[0]), np.take(image, at, through))
        assert_array_equal(values(row[1]), np.take(deformed, at, through))
        down, across = (a for a in range(3) if a != through)
        assert row[0].get_title() == f"before, {'zyx'[through]} = {at * spacing[through]:g} mm"
        assert (row[0].get_ylabel(), row[0].get_xlabel()) == (f"{'zyx'[down]} (mm)", f"{'zyx'[across]} (mm)")
        (quiver,) = [c for c in row[2].collections if isinstance(c, Quiver)]
        points = np.zeros((len(quiver.XY), 3))
        points[:, [across, down]], points[:, through] = quiver.XY, at * spacing[through]
        moved = gf.deform_points(points, u, shape, spacing=spacing, inverse=True) - points
        assert_allclose(np.stack([quiver.U, quiver.V], -1), moved[:, [across, down]], atol=1e-9)
    assert_array_equal(values(gf.plot.deformation(image, u, kernel="linear")[1, 0]), image[:, 5])


def test_what_an_image_may_be():
    """Colours first, last or of integers; bool, complex, half precision; NaN, one value, few pixels; any framework."""
    u = u_of(sigma=1.0)
    whole = image_of()
    rgb = np.random.default_rng(1).integers(0, 65535, (*FULL, 3)).astype(np.uint16)
    shown = values(gf.plot.deformation(rgb, u, axis=(0, 1), kernel="linear")[0])
    assert_allclose(shown, rgb / 65535)
    shown = values(gf.plot.deformation(np.moveaxis(rgb / 40000, -1, 0), u, kernel="linear")[0])
    assert_allclose(shown, np.clip(rgb / 40000, 0, 1))
    expected = values(gf.plot.deformation(whole.astype(np.float32), u, kernel="linear")[1])
    single = u.astype(np.float32)
    x, v = torch.from_numpy(whole).float().requires_grad_(), torch.from_numpy(single).requires_grad_()
    assert_allclose(values(gf.plot.deformation(x, v, kernel="linear")[1]), expected, atol=1e-4)
    assert set(np.unique(values(gf.plot.deformation(whole > 0, u, kernel="linear")[1]))) == {0, 1}
    assert_allclose(values(gf.plot.deformation(whole * 1j, u, kernel="linear")[0]), np.abs(whole))
    broken = whole.copy()
    broken[3, 4] = np.nan
    drawn(gf.plot.deformation(broken, u, kernel="linear"))
    for shape in ((2, 2), (1, 1)):
        drawn(gf.plot.deformation(np.ones(shape), np.full((2, 2, 2), 0.3), kernel="linear"))
    drawn(gf.plot.deformation(whole, np.full((2, 3, 3), np.nan), kernel="linear"))


def test_what_a_displacement_may_be():
    """Dense, a field, none, many points: without control points, arrows are evenly spread."""
    u = u_of(sigma=1.0)
    dense = gf.displacement_field(u, FULL)
    field = SplineField((5, 6), 2, dtype=torch.float64)
    expected = gf.plot.deformation(image_of(), u, kernel="linear")
    for displacement in (dense, gf.random_displacement((40, 50), 0.1, shape=(99, 99), rng=0)):
        shape = FULL if displacement is dense else (99, 99)
        panels = drawn(gf.plot.deformation(image_of(shape), displacement, kernel="linear"))
        assert not [line for line in panels[2].lines if line.get_marker() == "o"]
        (quiver,) = [c for c in panels[2].collections if isinstance(c, Quiver)]
        assert 50 < len(quiver.XY) < 200
        if displacement is dense:
            assert_allclose(values(panels[1]), values(expected[1]), atol=1e-9)
            assert_allclose(values(panels[3]), values(expected[3]), atol=0.05)
    panels = gf.plot.deformation(torch.from_numpy(image_of()), field, kernel="linear")
    assert values(panels[3]).shape == values(expected[3]).shape
    panels = drawn(gf.plot.deformation(image_of(), rotate=30, kernel="linear"))
    assert_allclose(values(panels[3]), 1, atol=1e-12)
    assert_array_equal(values(panels[1]), gf.deform(image_of(), rotate=30, kernel="linear"))


def test_axes_that_are_given():
    image, u = image_of(), u_of()
    figure, axes = plt.subplots(2, 2)
    assert list(gf.plot.deformation(image, u, kernel="linear", ax=axes)) == list(axes.ravel())
    figure = plt.figure()
    assert all(p.figure is figure for p in gf.plot.deformation(image, u, kernel="linear", ax=figure))
    for shape, layout in (((40, 40), (2, 2)), ((100, 20), (1, 4)), ((20, 100), (4, 1))):
        panels = gf.plot.deformation(np.zeros(shape), np.zeros((2, 2, 2)), kernel="linear")
        spec = panels[3].get_subplotspec().get_gridspec()
        assert (spec.nrows, spec.ncols) == layout


def test_what_cannot_be_drawn():
    image, u = image_of(), u_of()
    for call, error, message in (
        (lambda: gf.plot.deformation([image], u), TypeError, "image must be one array, got list"),
        (lambda: gf.plot.deformation("image", u), TypeError, "image must be an array"),
        (lambda: gf.plot.deformation(torch.zeros(9, 9), u), TypeError, "image is a torch.Tensor but displacement"),
        (lambda: gf.plot.deformation(image, u[:1]), ValueError, "displacement has shape"),
        (lambda: gf.plot.deformation(image[0], u_of((33,))), ValueError, r"2 or 3 deformed axes, got 1 \(33,\)"),
        (lambda: gf.plot.deformation(np.zeros((5, *FULL)), u), ValueError, "3 or 4 colours, not 5 numbers"),
        (lambda: gf.plot.deformation(image, u, at=(1, 2)), ValueError, "at is for volumes, not for 2"),
        (lambda: gf.plot.deformation(np.zeros((3, 3, 3)), rotate=(1, 2, 3), at=(1, 2, 3)), ValueError, "at must be"),
        (lambda: gf.plot.deformation(np.zeros((3, 3, 3)), rotate=(1, 2, 3), at=2), ValueError, "at must be three"),
        (lambda: gf.plot.deformation(image, u, dims="y"), ValueError, "dims has 1 words"),
        (lambda: gf.plot.deformation(image, u, crop=(slice(0, 99), slice(2))), ValueError, "crop slice"),
        (lambda: gf.plot.deformation(image, u, ax=plt.gca()), ValueError, "ax must be an array of 4 axes or a figure"),
    ):
        with pytest.raises(error, match=rf"gf\.plot\.deformation: {'.*' if error is ValueError else ''}{message}"):
            call()
    assert not plt.gca().has_data() and len(plt.get_fignums()) == 1  # nothing half drawn is left


def test_without_matplotlib(monkeypatch):
    whole = builtins.__import__

    def without(name, *args):
        if name.partition(".")[0] == "matplotlib":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return whole(name, *args)

    with monkeypatch.context() as patch:
        patch.setattr(builtins, "__import__", without)
        with pytest.raises(ImportError, match=r'gridfield\.plot needs matplotlib.*: pip install "gridfield\[plot\]"'):
            gf.plot.deformation(image_of(), u_of())
