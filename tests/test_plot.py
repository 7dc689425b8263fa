"""Pictures show the field: their numbers are read back from the artists and compared with what was drawn."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import builtins

import jax.numpy as jnp
import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib.contour import ContourSet
from matplotlib.quiver import Quiver
from numpy.testing import assert_allclose

import gridfield as gf
import gridfield.jax
import gridfield.tensorflow
from gridfield.torch import SplineField


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Pictures of fewer pixels are drawn faster."""
    monkeypatch.setattr(gf.plot.fields, "IMAGE", 60)
    with matplotlib.rc_context({"figure.dpi": 50}):
        yield
    plt.close("all")


def field_of(shape, channels=1, seed=0, dtype=torch.float64, **how):
    field = SplineField(shape, channels, dtype=dtype, **how)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        field.coefficients.copy_(torch.randn(field.coefficients.shape, generator=generator))
    return field


def drawn(panel):
    """Everything is really rendered: errors and warnings of matplotlib come only then."""
    figure = np.ravel(panel)[0].get_figure(root=True)
    figure.canvas.draw()
    return figure


def pixels(panel):
    """Coordinates (down, across) of the middles of an image's pixels, and their values."""
    (image,) = panel.images
    left, right, bottom, top = image.get_extent()
    values = np.ma.filled(image.get_array(), np.nan)
    y, x = gf.Grid.cells(values.shape, [(top, bottom), (left, right)]).axes()
    return np.stack(np.meshgrid(y, x, indexing="ij"), -1), values


def of(panel, kind):
    return [c for c in panel.collections if isinstance(c, kind)]


# ---- what is drawn ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("boundary", ("natural", "wrap"))
@pytest.mark.parametrize("channels", (1, 3, 12))
def test_curves(channels, boundary):
    field = field_of(7, channels, bounds=(-2, 4), boundary=boundary)
    ax = gf.plot.field(field, dims="t", units="s")
    curves = [line for line in ax.lines if len(line.get_xdata()) > 100]
    points = [line for line in ax.lines if len(line.get_xdata()) == 7]
    assert len(curves) == len(points) == channels
    for c in range(channels):
        x, y = curves[c].get_data()
        assert (x[0], x[-1]) == (-2, 5 if boundary == "wrap" else 4)
        assert_allclose(y, field(torch.from_numpy(x[:, None])).detach()[:, c], atol=1e-12)
        assert_allclose(points[c].get_data(), [field.grid.axes()[0], field.coefficients.detach()[c]])
        assert points[c].get_color() == curves[c].get_color() and points[c].get_linestyle() == "None"
    names = [text.get_text() for text in ax.get_legend().get_texts()]
    assert names == ["field"] * (channels == 1) + [f"channel {c}" for c in range(channels) if channels > 1] + [
        "control points"
    ]
    assert ax.get_xlabel() == "t (s)"
    drawn(ax)


@pytest.mark.parametrize("origin", ("upper", "lower"))
def test_an_image_with_contours(origin):
    """The first axis is vertical and points down, whatever the settings."""
    field = field_of((5, 7), bounds=[(0, 3), (-1, 4)])
    with matplotlib.rc_context({"image.origin": origin}):
        ax = gf.plot.field(field)
    x, values = pixels(ax)
    assert_allclose(values, field(torch.from_numpy(x)).detach()[..., 0], atol=1e-12)
    assert ax.get_xlim() == (-1, 4) and ax.get_ylim() == (3, 0)
    assert (ax.get_ylabel(), ax.get_xlabel()) == ("x0", "x1")
    drawn(ax)
    assert ax.get_aspect() == 1 and len(ax.child_axes) == 1  # a colour bar
    (contours,) = of(ax, ContourSet)
    for level, path in zip(contours.levels, contours.get_paths(), strict=True):
        at = field(torch.from_numpy(path.vertices[:, ::-1].copy())).detach().numpy()
        assert len(at) and np.abs(at - level).max() < 0.02 * np.ptp(values)


def test_arrows_over_the_magnitude():
    """Of the vector that the channels are, along the axes: also of its direction on the screen."""
    field = field_of((5, 7), 2, bounds=[(0, 3), (0, 4)])
    ax = gf.plot.field(field)
    x, values = pixels(ax)
    assert_allclose(values, field(torch.from_numpy(x)).detach().norm(dim=-1), atol=1e-12)
    (quiver,) = of(ax, Quiver)
    at = torch.from_numpy(quiver.XY[:, ::-1].copy())
    vectors = field(at).detach().numpy()
    assert_allclose(np.stack([quiver.V, quiver.U], -1), vectors, atol=1e-12)
    assert quiver.angles == "xy" and len(at) > 100
    with torch.no_grad():
        field.coefficients.copy_(torch.tensor([1.0, 0.0], dtype=torch.float64)[:, None, None])  # along the first axis
    plt.close("all")
    ax = gf.plot.field(field)
    drawn(ax)
    (quiver,) = of(ax, Quiver)
    arrow = quiver.get_paths()[0].vertices  # about its middle, with y upwards
    tip = arrow[np.argmin(np.abs(arrow[:, 0]))]  # all else is left or right of the axis
    assert tip[1] == arrow[:, 1].min() < 0


@pytest.mark.parametrize("channels", (3, 5))
def test_panels(channels):
    field = field_of((5, 6), channels)
    panels = gf.plot.field(field)
    assert panels.shape == (channels,)
    figure = drawn(panels)
    assert len(figure.axes) == channels and all(panel.child_axes for panel in panels)  # colour bars
    for c, panel in enumerate(panels):
        x, values = pixels(panel)
        assert_allclose(values, field(torch.from_numpy(x)).detach()[..., c], atol=1e-12)
        assert panel.get_title() == f"channel {c}"
    one = gf.plot.field(field, channel=-1)
    assert_allclose(pixels(one)[1], values)
    assert len(gf.plot.field(field_of((5, 6), 2), channel=1).images) == 1


@pytest.mark.parametrize(("channels", "at", "deep"), ((1, None, 2), (2, (0.2, 2.5, 1), 2), (1, (9, 2.5, 1), 50)))
def test_three_slices(channels, at, deep):
    field = field_of((4, 5, 6), channels, bounds=[(0, deep), (0, 3), (0, 4)])
    panels = gf.plot.field(field, at=at, dims=("z", "y", "x"), units=("s", "nm", None))
    assert panels.shape == ((3,) if channels == 1 else (channels, 3))
    centre = (deep / 2, 1.5, 2.0) if at is None else at
    drawn(panels)
    for c, row in enumerate(panels.reshape(-1, 3)):
        for a, panel in enumerate(row):
            plane, values = pixels(panel)
            x = np.insert(plane, a, centre[a], axis=-1)
            assert_allclose(values, field(torch.from_numpy(x)).detach()[..., c], atol=1e-12)
            down, across = (i for i in range(3) if i != a)
            names = ("z (s)", "y (nm)", "x")
            assert (panel.get_ylabel(), panel.get_xlabel()) == (names[down], names[across])
            lines = sorted((tuple(line.get_xdata()), tuple(line.get_ydata())) for line in panel.lines)
            expected = [((0, 1), (centre[down],) * 2), ((centre[across],) * 2, (0, 1))]
            assert lines == sorted(expected)  # where the other slices are
            (low, high), *others = {p.images[0].get_clim() for p in row}
            assert not others and low <= values.min() and values.max() <= high  # one scale of colours
    titles = [panel.get_title().removeprefix("channel 0, ") for panel in panels.reshape(-1, 3)[0]]
    assert titles == [f"z = {centre[0]:g} s", f"y = {centre[1]:g} nm", f"x = {centre[2]:g}"]
    scales = {
        p.transData.transform([(0, 0), (1, 0)])[1, 0] - p.transData.transform([(0, 0)])[0, 0] for p in panels.flat
    }
    assert deep == 50 or np.ptp(list(scales)) < 2  # pixels per unit, the same in all where that can be


def test_kernels():
    mine = gf.Kernel([[0.25, 0.5], [0.5, -1]], name="mine")
    for given in (*gf.kernel.NAMED, *range(8), gf.catmull_rom, mine, gf.bspline(1).derivative(), np.int64(3)):
        ax = gf.plot.kernel(given)
        k = gf.kernel.as_kernel(given, "")
        _, curve, samples = ax.lines
        x, y = curve.get_data()
        inside = np.isfinite(y) & (np.abs(2 * x - np.rint(2 * x)) > 1e-9)  # at breaks it may jump
        assert inside.sum() >= 90 * k.width
        assert_allclose(y[inside], k(x[inside]), atol=1e-12)
        assert np.isnan(y).any() == (k.continuity < 0)  # a gap instead of a steep line
        assert_allclose(samples.get_ydata(), k(samples.get_xdata()))
        assert (x[0], x[-1]) == (k.support[0] - 0.5, k.support[1] + 0.5)
        assert [t.get_text() for t in ax.get_legend().get_texts()] == [k.name]
        plt.close("all")
    drawn(ax := gf.plot.kernel(["nearest", 3, mine]))
    assert len({line.get_color() for line in ax.lines[1:]}) == 3
    with pytest.raises(ValueError, match=r"gf\.plot\.kernel: kernel must be one of 'nearest'"):
        gf.plot.kernel("septic")
    with pytest.raises(ValueError, match=r"gf\.plot\.kernel: kernel names no kernels"):
        gf.plot.kernel([])


# ---- fields of all kinds ---------------------------------------------------------------------------------------------
@pytest.mark.parametrize("shape", (6, (5, 6), (4, 5, 6)))
def test_fields_of_all_frameworks(shape):
    """Followed by autograd and in half precision, too."""
    theirs = field_of(shape, 2, dtype=torch.float32)
    c = theirs.coefficients.detach().numpy()
    layer = gf.tensorflow.SplineField(shape, 2)
    layer.coefficients.assign(c)
    fields = [gf.jax.SplineField(shape, 2).replace(jnp.asarray(c)), layer]
    for dtype in ("float16", "bfloat16"):
        fields += [theirs.__class__(shape, 2, dtype=getattr(torch, dtype))]
        fields[-1].load_state_dict(theirs.state_dict())
        fields += [gf.jax.SplineField(shape, 2).replace(jnp.asarray(c, dtype))]
    assert theirs.coefficients.requires_grad
    channel = 1 if theirs.ndim == 3 else None  # three panels take their time
    expected = np.ravel(gf.plot.field(theirs, channel=channel))

    def shown(panel):
        return panel.lines[0].get_ydata() if theirs.ndim == 1 else pixels(panel)[1]

    for field in fields:
        panels = np.ravel(gf.plot.field(field, channel=channel))
        assert len(panels) == len(expected)
        for one, other in zip(panels, expected, strict=True):
            assert_allclose(shown(one), shown(other), atol=0.03)
        plt.close("all")


@pytest.mark.parametrize("value", (0.0, -3e30, np.nan, np.inf, 1e-40))
@pytest.mark.parametrize(("shape", "channels"), ((4, 1), ((4, 5), 1), ((4, 5), 2)))
def test_constants_and_what_is_no_number(shape, channels, value):
    field = SplineField(shape, channels, dtype=torch.float32)
    with torch.no_grad():
        field.coefficients.fill_(value)
        one = drawn(gf.plot.field(field))
        field.coefficients.flatten()[3] = 7.0
        other = drawn(gf.plot.field(field))
    assert len(one.axes) == len(other.axes) == 1


def test_a_hole_is_as_large_as_it_is():
    """One control point without a value: nothing more than what it touches is missing."""
    whole, field = field_of((6, 12)), field_of((6, 12), dtype=torch.bfloat16)
    with torch.no_grad():
        field.coefficients[0, 2, 3] = np.nan
    ax = gf.plot.field(field)
    drawn(ax)
    x, values = pixels(ax)
    near = (np.abs(x / [0.2, 1 / 11] - [2, 3]) < 2).all(-1)
    assert_allclose(np.isnan(values), near)
    expected = whole(torch.from_numpy(x)).detach()[..., 0]
    assert_allclose(values[~near], expected[~near], atol=0.03)
    field = field_of(6)
    with torch.no_grad():
        field.coefficients[0, 0] = np.inf
    assert np.isfinite(gf.plot.field(field).lines[0].get_ydata()).sum() > 300


@pytest.mark.parametrize("shape", (1, (1, 6), (6, 1), (1, 1), (1, 4, 5)))
def test_axes_of_one_control_point(shape):
    field = field_of(shape, bounds=(0, 2))
    panel = np.ravel(gf.plot.field(field))[-1]
    drawn(panel)
    assert panel.get_ylim() == (2, 0) or field.ndim == 1
    if field.ndim == 1:
        assert np.ptp(panel.lines[0].get_ydata()) == 0 and panel.lines[0].get_xdata()[-1] == 2


def test_domain_of_a_periodic_axis():
    field = field_of(gf.Grid((6, 5), [(0, 2), (0, 1)], periodic=(True, False)), kernel="nearest")
    ax = gf.plot.field(field)
    assert ax.get_ylim() == (2, 0) and ax.get_xlim() == (0, 1)
    x, values = pixels(ax)
    assert_allclose(values, field(torch.from_numpy(x)).detach()[..., 0], atol=1e-12)


def test_names_of_a_field_from_an_array():
    field = SplineField.from_xarray(field_of((4, 5)).to_xarray(dims=("y", "x"), units="mm"))
    ax = gf.plot.field(field)
    assert (ax.get_ylabel(), ax.get_xlabel()) == ("y (mm)", "x (mm)")
    assert gf.plot.field(field, units=("s", None)).get_ylabel() == "y (s)"


def test_axes_very_different_in_length():
    ax = gf.plot.field(field_of((4, 5), bounds=[(0, 1000), (0, 1)]))
    assert ax.get_aspect() == "auto"


# ---- where it is drawn -----------------------------------------------------------------------------------------------
def test_axes_that_are_given():
    figure, ax = plt.subplots()
    for draw in (
        lambda: gf.plot.field(field_of(4), ax=ax),
        lambda: gf.plot.field(field_of((4, 5)), ax=ax),
        lambda: gf.plot.field(field_of((4, 5), 2), ax=ax),
        lambda: gf.plot.kernel("cubic", ax=ax),
    ):
        assert draw() is ax
    assert plt.get_fignums() == [figure.number]
    figure, axes = plt.subplots(2, 3)
    assert list(gf.plot.field(field_of((3, 4, 5)), ax=axes[0])) == list(axes[0])
    assert list(gf.plot.field(field_of((4, 5), 3), ax=list(axes[1]))) == list(axes[1])
    assert gf.plot.field(field_of((3, 4, 5), 2), ax=plt.subplots(2, 3)[1]).shape == (2, 3)
    figure = plt.figure(layout="constrained")
    left, right = figure.subfigures(1, 2)
    for part in (left, right):
        panels = gf.plot.field(field_of((3, 4, 5)), ax=part)
        assert all(panel.figure is part for panel in panels)
    drawn(panels)
    assert gf.plot.field(field_of(4), ax=plt.figure()).get_xlabel() == "x0"
    assert len(plt.figure().axes) == 0


def test_what_cannot_be_drawn():
    field, _ = field_of((4, 5), 3), plt.subplots()
    ax = plt.gca()
    for call, error, message in (
        (lambda: gf.plot.field(field.coefficients), TypeError, "field must be a SplineField, got Parameter"),
        (lambda: gf.plot.field(field_of((2,) * 4)), ValueError, r"field must have 1 to 3 axes, got 4 \(2, 2, 2, 2\)"),
        (lambda: gf.plot.field(field, channel=3), ValueError, "channel must be one of the field's 3 channels, got 3"),
        (lambda: gf.plot.field(field, channel="x"), ValueError, "channel must be one of the field's 3 channels"),
        (lambda: gf.plot.field(field, at=(1, 1)), ValueError, "at is for fields of 3 axes, not of 2"),
        (lambda: gf.plot.field(field, dims="x"), ValueError, "dims has 1 words"),
        (lambda: gf.plot.field(field, ax=ax), ValueError, r"ax must be an array of 3 axes or a figure here, got 1"),
        (lambda: gf.plot.field(field_of(5), ax=[ax, ax]), ValueError, "ax must be one axes or a figure here, got 2"),
        (lambda: gf.plot.field(field_of(5), ax="here"), TypeError, "ax must be matplotlib Axes, an array"),
        (lambda: gf.plot.field(field_of((3, 3, 3)), at=(0, 1)), ValueError, "at must be three coordinates"),
        (
            lambda: gf.plot.field(field_of((3, 3, 3)), at=(0, 1, 9)),
            ValueError,
            "at must be three coordinates, one with",
        ),
        (lambda: gf.plot.field(field_of((3, 3, 3)), at=(0, 1, np.nan)), ValueError, "at must be three coordinates"),
        (lambda: gf.plot.field(SplineField(4, device="meta")), TypeError, "coefficients have no values here"),
    ):
        with pytest.raises(error, match=rf"gf\.plot\.field: {message}"):
            call()
    assert not ax.has_data() and plt.get_fignums() == [1]  # nothing half drawn is left


def test_without_matplotlib(monkeypatch):
    whole = builtins.__import__

    def without(name, *args):
        if name.partition(".")[0] == "matplotlib":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return whole(name, *args)

    with monkeypatch.context() as patch:
        patch.setattr(builtins, "__import__", without)
        for call in (lambda: gf.plot.field(field_of(4)), lambda: gf.plot.kernel("cubic")):
            with pytest.raises(
                ImportError, match=r'gridfield\.plot needs matplotlib.*: pip install "gridfield\[plot\]"'
            ):
                call()
