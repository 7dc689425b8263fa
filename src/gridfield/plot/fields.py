"""Pictures of fields and kernels, by matplotlib, which is imported when one is drawn."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..extras import needs
from ..fields import Field
from ..grid import Grid
from ..kernel import Kernel, as_kernel
from ..labelled import labels
from ..sampling import KernelLike
from .panels import Array, axes_for, equal, layout, limits_of, name_of

CURVE, IMAGE = 801, 240  # samples along a curve, and along the longer side of an image
CONTOURS = 9
ARROWS = 17  # along the longer side: more run into each other


def field(
    field: Any,
    *,
    ax: Any = None,
    channel: int | None = None,
    at: Sequence[float] | None = None,
    dims: str | Sequence[str] | None = None,
    units: str | Sequence[str | None] | None = None,
    cmap: Any = "viridis",
) -> Any:
    """Draw a field of one to three dimensions over its domain, from the first to the last control point.

    One dimension: a curve for each channel, and its control points. Two: an image with contours for one channel; for
    two the magnitude with arrows, which are the channels as a vector along the axes; for more a panel for each. Three:
    for each channel three slices, one across every axis, with lines where the others are.

    Axes are in the units of the bounds. In an image the first axis of the field is vertical and points down.

    Parameters
    ----------
    field : SplineField
        In any framework, of 1, 2 or 3 dimensions.
    ax : matplotlib Axes, array of Axes, Figure or SubFigure, optional
        Where to draw: as many axes as there are panels, or a figure that they are made in. Default: a new figure.
    channel : int, optional
        The only one to draw; negative ones count from the last. Default: all.
    at : sequence of float, optional
        Of a three-dimensional field, where the slices are: one coordinate per axis, in the units of the bounds.
        Default: the middle.
    dims, units : str or sequence of str, optional
        Names and units of the axes, for their labels; as for `to_xarray`, whose defaults they have.
    cmap : str or Colormap, default "viridis"
        Of images.

    Returns
    -------
    Axes, or ndarray of Axes
        One panel: its axes. Several: an array, of shape (channels,), (3,), or (channels, 3).

    Raises
    ------
    TypeError
        If `field` is no field, or `ax` nothing to draw in.
    ValueError
        If the field has more than three axes, an argument does not fit it, or `ax` has another number of axes.
    ImportError
        If matplotlib is missing: ``pip install "gridfield[plot]"``.

    Examples
    --------
    >>> import gridfield as gf
    >>> from gridfield.torch import SplineField
    >>> ax = gf.plot.field(SplineField((6, 8), bounds=[(0, 3), (0, 4)]), dims=("y", "x"), units="mm")
    >>> ax.get_ylabel(), bool(ax.yaxis_inverted())
    ('y (mm)', True)
    """
    where = "gf.plot.field"
    if not isinstance(field, Field):
        raise TypeError(f"{where}: field must be a SplineField, got {type(field).__name__}")
    if field.ndim > 3:
        raise ValueError(f"{where}: field must have 1 to 3 axes, got {field.ndim} {field.grid.shape}")
    if at is not None and field.ndim != 3:
        raise ValueError(f"{where}: at is for fields of 3 axes, not of {field.ndim}")
    field._read(where)  # or an error
    channels = _channels(field, channel, where)
    names = labels(field.spline, dims, units, where)
    with needs("plot"):
        import matplotlib.pyplot  # noqa: F401
    if field.ndim == 1:
        panel = axes_for(ax, (), (7.0, 4.0), where)
        _curves(panel, field, channels)
        panel.set_xlabel(name_of(names[0]))
        return panel
    if field.ndim == 3:
        centre = _centre(field, at, where)
        return _slices(field, channels, centre, names, ax, cmap, where)
    arrows = channel is None and field.channels == 2
    panels = axes_for(ax, () if arrows or len(channels) == 1 else (len(channels),), _size(field, len(channels)), where)
    grid = _dense(field, IMAGE)
    values = _values(field, grid)
    if arrows:
        _image(panels, field, np.hypot(*values), (0, 1), names, cmap, "magnitude", contours=False)
        _arrows(panels, field)
        return panels
    for c, panel in zip(channels, np.ravel(panels), strict=True):
        _image(panel, field, values[c], (0, 1), names, cmap)
        if len(channels) > 1:
            panel.set_title(f"channel {c}", fontsize="medium")
    return panels


def kernel(kernel: KernelLike, *, ax: Any = None) -> Any:
    """Draw a kernel: the weight of a sample as a function of its distance, with the weights at whole distances.

    Parameters
    ----------
    kernel : str, int, Kernel or a sequence of those
        As everywhere in gridfield; several are drawn into one picture.
    ax : matplotlib Axes, Figure or SubFigure, optional
        Where to draw. Default: a new figure.

    Returns
    -------
    Axes

    Raises
    ------
    ValueError
        If kernel is none of these.
    ImportError
        If matplotlib is missing: ``pip install "gridfield[plot]"``.

    Examples
    --------
    >>> import gridfield as gf
    >>> ax = gf.plot.kernel(["linear", "cubic", gf.catmull_rom])
    >>> [text.get_text() for text in ax.get_legend().get_texts()]
    ['linear', 'cubic', 'catmull_rom']
    """
    where = "gf.plot.kernel"
    several = isinstance(kernel, Sequence) and not isinstance(kernel, str)
    kernels = [as_kernel(k, where) for k in (kernel if several else [kernel])]  # type: ignore[union-attr]
    if not kernels:
        raise ValueError(f"{where}: kernel names no kernels, got {kernel!r}")
    with needs("plot"):
        import matplotlib.pyplot  # noqa: F401
    panel = axes_for(ax, (), (7.0, 4.0), where)
    panel.axhline(0, color="0.75", linewidth=0.8, zorder=0)
    for k in kernels:
        (line,) = panel.plot(*_pieces(k), label=k.name, zorder=2)
        m = k.width // 2
        panel.plot(np.arange(-m, m + 1), k.samples, "o", color=line.get_color(), markersize=5, zorder=3)
    panel.set_xlabel("distance (samples)")
    panel.set_ylabel("weight")
    panel.legend()
    return panel


# ---- what is drawn
def _values(field: Any, grid: Grid) -> Array:
    """(channels, *shape): the field on a grid, in float64."""
    F, c = field._face, field._array()
    if np.isfinite(field._read("gf.plot.field")[0]).all():
        return F.numpy(field.on_grid(grid)).astype(np.float64)
    # matrices spread a NaN over everything, taps as far as it reaches
    points = F.constant(grid.coords(), "float64" if F.dtype(c) == "float64" else "float32", c)
    return np.moveaxis(F.numpy(field.spline.sample(F, c, points, "value")).astype(np.float64), -1, 0)


def _channels(field: Any, channel: Any, where: str) -> list[int]:
    if channel is None:
        return list(range(field.channels))
    if not isinstance(channel, (int, np.integer)) or not -field.channels <= channel < field.channels:
        raise ValueError(f"{where}: channel must be one of the field's {field.channels} channels, got {channel!r}")
    return [int(channel) % field.channels]


def _dense(field: Any, most: int) -> Grid:
    """Cells that fill the domain, as many along each axis as look alike."""
    ends = [axis.ends for axis in field.spline.axes]
    lengths = [hi - lo for lo, hi in ends]
    square = max(lengths) <= 4 * min(lengths)
    shape = [max(round(most * length / max(lengths)), 1) if square else most for length in lengths]
    return Grid.cells(shape, ends)


def _centre(field: Any, at: Any, where: str) -> list[float]:
    """Where the slices of a three-dimensional field are."""
    ends = [axis.ends for axis in field.spline.axes]
    if at is None:
        return [(lo + hi) / 2 for lo, hi in ends]
    try:
        centre = [float(x) for x in at]
    except (TypeError, ValueError):
        centre = []
    if len(centre) != 3 or not all(lo <= x <= hi for x, (lo, hi) in zip(centre, ends, strict=True)):
        raise ValueError(f"{where}: at must be three coordinates, one within each of {ends}, got {at!r}")
    return centre


def _pieces(k: Kernel) -> tuple[Array, Array]:
    """The curve of a kernel, in polynomial pieces with a gap where it jumps."""
    t = np.linspace(0, 1, 101)
    rows = k.coefficients[::-1]  # the last tap is the leftmost piece
    weights = [np.polynomial.polynomial.polyval(t, row) for row in rows]
    lo = -k.width / 2
    x, y = [np.array([lo - 0.5, lo])], [np.zeros(2)]
    for j, weight in enumerate([*weights, np.zeros(2)]):
        here = lo + j + (t if j < k.width else np.array([0, 0.5]))
        if abs(weight[0] - y[-1][-1]) > 1e-9 * max(1.0, float(np.abs(rows).max())):
            x.append(here[:1])
            y.append(np.array([np.nan]))
        x.append(here)
        y.append(weight)
    return np.concatenate(x), np.concatenate(y)


# ---- panels
def _size(field: Any, panels: int) -> tuple[float, float]:
    """Inches of a figure of images: each about as high as it is wide has to be."""
    rows, columns = (1, 1) if panels == 2 else layout((panels,))
    height, width = (hi - lo for lo, hi in (axis.ends for axis in field.spline.axes))
    ratio = min(max(height / width, 0.4), 1.6) if equal(height, width) else 0.8
    each = 5.0 if columns == 1 else 3.6
    return columns * (each + 1.1), rows * (each * ratio + 0.7)


def _curves(panel: Any, field: Any, channels: list[int]) -> None:
    """Of one dimension: all channels, and the control points."""
    import matplotlib

    lo, hi = field.spline.axes[0].ends
    x = np.linspace(lo, hi, CURVE)
    y, points, c = _values(field, Grid(CURVE, (lo, hi))), field.grid.axes()[0], field._read("gf.plot.field")[0]
    few = len(channels) <= 10  # as many as there are colours in the cycle
    for n, i in enumerate(channels):
        color = None if few else matplotlib.colormaps["turbo"](0.05 + 0.9 * n / (len(channels) - 1))
        (line,) = panel.plot(x, y[i], label=f"channel {i}" if field.channels > 1 else "field", zorder=2, color=color)
        panel.plot(points, c[i], "o", markersize=4, color=line.get_color(), markerfacecolor="none", zorder=3)
    panel.plot([], [], "o", markersize=4, color="0.3", markerfacecolor="none", label="control points")
    panel.set_ylabel("field")
    panel.margins(x=0.02)
    if few:
        panel.legend()
    else:
        panel.legend(loc="upper left", bbox_to_anchor=(1.01, 1), ncols=math.ceil(len(channels) / 14), fontsize="small")


def _image(
    panel: Any,
    field: Any,
    values: Array,
    axes: tuple[int, int],
    names: Any,
    cmap: Any,
    label: str = "",
    *,
    contours: bool = True,
    bar: bool = True,
    limits: tuple[float, float] | None = None,
) -> Any:
    """Values over two axes of a field, the first of them down."""
    (top, bottom), (left, right) = (field.spline.axes[a].ends for a in axes)
    low, high = limits or limits_of(values)
    image = panel.imshow(
        values,
        origin="upper",
        extent=(left, right, bottom, top),
        cmap=cmap,
        vmin=low,
        vmax=high,
        aspect="equal" if equal(bottom - top, right - left) else "auto",
        interpolation="nearest",
        rasterized=True,
    )
    finite, inner = values[np.isfinite(values)], np.linspace(low, high, CONTOURS + 2)[1:-1]
    inner = inner[(inner > finite.min(initial=high)) & (inner < finite.max(initial=low))]  # those that there are
    if contours and len(inner):
        y, x = Grid.cells(values.shape, [(top, bottom), (left, right)]).axes()
        panel.contour(x, y, np.ma.masked_invalid(values), inner, colors="white", linewidths=0.7, alpha=0.7)
    panel.set_xlabel(name_of(names[axes[1]]))
    panel.set_ylabel(name_of(names[axes[0]]))
    if bar:
        beside = panel.inset_axes((1.03, 0, 0.05, 1))  # as high as the image, in any layout
        panel.figure.colorbar(image, cax=beside, label=label)
    return image


def _arrows(panel: Any, field: Any) -> None:
    """The two channels of a two-dimensional field, as a vector along its axes."""
    grid = _dense(field, ARROWS)
    down, across = _values(field, grid)
    y, x = grid.axes()
    there = np.isfinite(down) & np.isfinite(across)
    if np.any(np.hypot(down[there], across[there])):
        y, x, down, across = (v[there] for v in (*np.meshgrid(y, x, indexing="ij"), down, across))
        style = {"color": "white", "edgecolor": "0.2", "linewidth": 0.4, "width": 0.006, "pivot": "mid"}
        panel.quiver(x, y, across, down, angles="xy", **style)


def _slices(field: Any, channels: list[int], centre: list[float], names: Any, ax: Any, cmap: Any, where: str) -> Any:
    """Of three dimensions: a row of three slices per channel, with one colour bar."""
    shape = (3,) if len(channels) == 1 else (len(channels), 3)
    depth, height, width = (hi - lo for lo, hi in (axis.ends for axis in field.spline.axes))
    if equal(depth, height) and equal(depth, width) and equal(height, width):  # one scale for all three
        widths = [width, width, height]
        row = 10.0 * max(height, depth) / sum(widths)
    else:
        widths, row = None, 3.0
    panels = axes_for(ax, shape, (12.0, (row + 0.9) * len(channels)), where, widths)
    dense = _dense(field, IMAGE)
    cuts = []
    for a, x in enumerate(centre):
        sizes, origin = list(dense.shape), list(dense.origin)
        sizes[a], origin[a] = 1, x
        cuts.append(_values(field, Grid.from_spacing(sizes, origin, dense.spacing)).squeeze(a + 1))
    for row, c in zip(panels.reshape(-1, 3), channels, strict=True):
        limits = limits_of(np.concatenate([cut[c].ravel() for cut in cuts]))
        for a, panel in enumerate(row):
            down, across = (other for other in range(3) if other != a)
            image = _image(panel, field, cuts[a][c], (down, across), names, cmap, bar=False, limits=limits)
            for line, place in ((panel.axhline, centre[down]), (panel.axvline, centre[across])):
                line(place, color="white", linewidth=0.8, linestyle=(0, (4, 4)), alpha=0.8)
            place = f"{names[a][0]} = {centre[a]:.4g} {names[a][1]}".strip()
            panel.set_title(f"channel {c}, {place}" if field.channels > 1 else place, fontsize="medium")
        row[0].figure.colorbar(image, ax=list(row))
    return panels
