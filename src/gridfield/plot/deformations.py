"""Pictures of deformations, by matplotlib, which is imported when one is drawn."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from .. import check
from ..deform import deformed
from ..deformable import Images
from ..extras import needs
from ..geometry import Geometry
from ..labelled import _words, default
from ..landmarks import mapped
from ..ops import recipe
from ..sampling import BoundaryLike, KernelLike
from .panels import Array, axes_for, equal, limits_of, name_of

STEPS = 240  # of the lattice that lines and determinant are drawn from, along the longer side; a quarter, at least
PIXELS = 2**18  # that the determinant is told of; of larger planes every second, third, ... along each axis
LINES = 16  # of the grid, along the longer side; fewer in the smaller panels of a volume
FLAT = {2: 12, 3: 3}  # so many times as long as high, still drawn in one scale; by the axes of the image
ARROWS = 11  # along the longer side, where there are no control points
POINTS = 33  # more control points than that along an axis are not drawn one by one
LINE, POINT, FOLD = "#ffab00", "#d6006c", "black"


class Plane(NamedTuple):
    """Two axes of a picture, down and across, and, in a volume, where along the third."""

    down: int
    across: int
    through: int | None = None
    at: int = 0  # pixel of the uncropped image


class View(NamedTuple):
    """What all panels need to know."""

    geometry: Geometry
    source: Any  # pixels of the result -> where they come from, Jacobians
    before: Array  # deformed axes, then colours
    after: Array
    names: tuple[tuple[str, str], ...]
    cmap: Any
    limits: tuple[float, float]
    lines: float  # pixels times spacing from one line of the grid to the next

    def extent(self, plane: Plane, cropped: bool) -> tuple[float, float, float, float]:
        """Left, right, bottom, top: the edges of the outermost pixels."""
        g = self.geometry
        ends = []
        for a in (plane.across, plane.down):
            first, n = (g.start[a], g.shape[a]) if cropped else (0, g.full[a])
            ends.append(((first - 0.5) * g.spacing[a], (first + n - 0.5) * g.spacing[a]))
        (left, right), (top, bottom) = ends
        return left, right, bottom, top

    def places(self, plane: Plane, down: Array, across: Array) -> tuple[Array, Array]:
        """Of pixels of the uncropped image in a plane: where they come from, in units, and the Jacobians."""
        g = self.geometry
        o = np.zeros((*np.broadcast_shapes(down.shape, across.shape), g.ndim))
        o[..., plane.down], o[..., plane.across] = down, across
        if plane.through is not None:
            o[..., plane.through] = plane.at
        place, jacobian = self.source(o.reshape(1, -1, g.ndim) - np.array(g.start))
        return place.reshape(o.shape) * np.array(g.spacing), jacobian.reshape(*o.shape, g.ndim)


@recipe
def deformation(
    image: Any,
    displacement: Any = None,
    *,
    kernel: KernelLike | Any = "cubic",
    boundary: BoundaryLike | Any = "constant",
    cval: float = 0.0,
    axis: Any = None,
    crop: Sequence[slice] | None = None,
    affine: Any = None,
    rotate: Any = None,
    zoom: Any = None,
    spacing: Any = None,
    at: Sequence[float] | None = None,
    ax: Any = None,
    dims: str | Sequence[str] | None = None,
    units: str | Sequence[str | None] | None = None,
    cmap: Any = "gray",
) -> Any:
    """Draw what `deform` does to an image of two or three dimensions, in four panels.

    Before, with a regular grid; after, with the same grid, moved as the image is; where the pixels of the result come
    from: their own regular grid, mapped into the image, and an arrow from each control point; and the determinant of
    that map, 1 where areas are kept, black where it folds, at 0 and below; above it its least and largest value, and
    how much folds, at the pixels of the result. Of a volume, a row of them for each of three planes, in which
    displacements across the plane do not show.

    Axes are in pixels, or in units of `spacing`. The first axis of a picture is vertical and points down.

    Parameters
    ----------
    image : array
        In any framework. Beside its deformed axes it may have one of 3 or 4 colours: unsigned integers of 8 or 16 bits
        over their range, others from 0 to 1, or, if they go beyond (floats beyond 2), to 255, or to their largest.
    displacement : array, shape (ndim, *points), or SplineField, optional
        As for `deform`; so are `kernel`, `boundary`, `cval`, `axis`, `crop`, `affine`, `rotate`, `zoom`, `spacing`.
    kernel, boundary, cval, axis, crop, affine, rotate, zoom, spacing
        As for `deform`.
    at : sequence of float, optional
        Of a volume, where the planes are: one coordinate per axis, in pixels times `spacing`. Default: the middle.
    ax : array of matplotlib Axes, Figure or SubFigure, optional
        Where to draw: 4 axes, 12 for a volume, or a figure that they are made in. Default: a new figure.
    dims, units : str or sequence of str, optional
        Names and units of the deformed axes, for their labels. Default: x0, x1, ... and, without `spacing`, px.
    cmap : str or Colormap, default "gray"
        Of an image without colours.

    Returns
    -------
    ndarray of Axes, shape (4,) or (3, 4)

    Raises
    ------
    ValueError, TypeError
        If `deform` would, if there are fewer than 2 or more than 3 deformed axes, or if an argument does not fit.
    ImportError
        If matplotlib is missing: ``pip install "gridfield[plot]"``.

    Examples
    --------
    >>> import gridfield as gf, numpy as np
    >>> image = np.hypot(*np.mgrid[-20:20, -30:30]) % 10
    >>> u = gf.random_displacement(4, 3.0, shape=image.shape, rng=0)
    >>> before, after, source, determinant = gf.plot.deformation(image, u)
    >>> before.get_ylabel(), bool(before.yaxis_inverted())
    ('x0 (px)', True)
    """
    where = "gf.plot.deformation"
    if isinstance(image, (list, tuple, dict)):
        raise TypeError(f"{where}: image must be one array, got {type(image).__name__}")
    call = Images(where, image, displacement, kernel, boundary, cval, axis, None, affine, rotate, zoom, "image")
    geometry, one = call.geometry(displacement, crop, affine, rotate, zoom, spacing), call.images[0]
    if geometry.ndim not in (2, 3):
        raise ValueError(f"{where}: image must have 2 or 3 deformed axes, got {geometry.ndim} {geometry.full}")
    colours = math.prod(one.array.shape[a] for a in one.axes[: one.lead])
    if colours not in (1, 3, 4):
        raise ValueError(
            f"{where}: image has shape {tuple(one.array.shape)}: beside its deformed axes {geometry.full} it may have "
            f"3 or 4 colours, not {colours} numbers for each pixel"
        )
    names = _names(geometry, dims, units, spacing, where)
    planes = _planes(geometry, at, where)
    with needs("plot"):
        import matplotlib.pyplot  # noqa: F401
    F = call.F
    if F.concrete(one.array) is None:
        raise TypeError(f"{where}: image cannot be drawn while tracing")
    after = deformed(geometry, one, True, {})
    dtype = F.widest("float64")
    known = [F.concrete(x) for x in (geometry.field(dtype, one.array, crop=False), geometry.pose(dtype, one.array))]
    if any(k is None for k in known):
        raise TypeError(f"{where}: a deformation cannot be drawn while tracing")
    field, pose = (np.asarray(k, np.float64) for k in known)
    full = _full_scale(F.numpy(one.array)) if colours > 1 else 1.0
    before, after = (_picture(F.numpy(x), one.axes, one.lead, colours, full) for x in (one.array, after))
    longest = max((n - 1) * h for n, h in zip(geometry.full, geometry.spacing, strict=True))
    view = View(
        geometry, mapped(geometry, field, pose), before, after, names, cmap, limits_of(before),
        max(_step(longest, LINES if geometry.ndim == 2 else LINES * 2 // 3), min(geometry.spacing)),
    )  # fmt: skip
    size = _inches(geometry.full, geometry.spacing)
    if len(planes) == 3:
        panels = axes_for(ax, (3, 4), size, where, heights=_heights(geometry.full, geometry.spacing))
    else:
        panels = axes_for(ax, _arranged(geometry.full, geometry.spacing), size, where).reshape(1, 4)
    for row, plane in zip(panels, planes, strict=True):
        _draw(row, view, plane)
    return panels if len(planes) == 3 else panels[0]


def figure(full: Sequence[int], spacing: Any = None) -> Any:
    """For an image of that shape, without the windows of pyplot."""
    with needs("plot"):
        from matplotlib.figure import Figure
    return Figure(figsize=_inches(full, spacing), layout="compressed")


def _inches(full: Sequence[int], spacing: Any = None) -> tuple[float, float]:
    units = [1.0] * len(full) if spacing is None else spacing
    if len(full) == 3:
        return 13.5, sum(_heights(full, units))
    rows, columns = _arranged(full, units)
    ratio = _ratio(full[0] * units[0], full[1] * units[1], 2)
    each = {1: 7.5, 2: 4.6, 4: 3.0}[columns]
    return columns * (each + 0.9), rows * (each * ratio + 0.9)


def _heights(full: Sequence[int], spacing: Any) -> list[float]:
    """Of the rows of a volume."""
    lengths = [n * h for n, h in zip(full, spacing, strict=True)]
    return [2.6 * _ratio(lengths[p.down], lengths[p.across], 3) + 0.9 for p in _all_planes()]


def _ratio(height: float, width: float, ndim: int) -> float:
    return height / width if equal(height, width, FLAT[ndim]) else 0.8


def _arranged(full: Sequence[int], spacing: Any) -> tuple[int, int]:
    """Rows and columns of the four panels."""
    ratio = _ratio(full[0] * spacing[0], full[1] * spacing[1], 2)
    return (1, 4) if ratio > 1.6 else (4, 1) if ratio < 0.3 else (2, 2)


# ---- the arguments
def _names(geometry: Geometry, dims: Any, units: Any, spacing: Any, where: str) -> tuple[tuple[str, str], ...]:
    n = geometry.ndim
    called = [name for name, _ in default(n)] if dims is None else _words(dims, n, "dims", where)
    if units is None:
        units = "px" if spacing is None else ""
    known = _words((units,) * n if isinstance(units, str) else units, n, "units", where)
    return tuple((str(name), unit or "") for name, unit in zip(called, known, strict=True))


def _all_planes() -> list[Plane]:
    return [Plane(1, 2, 0), Plane(0, 2, 1), Plane(0, 1, 2)]


def _planes(geometry: Geometry, at: Any, where: str) -> list[Plane]:
    """One for a picture; of a volume those across each axis."""
    g = geometry
    if g.ndim == 2:
        if at is not None:
            raise ValueError(f"{where}: at is for volumes, not for {g.ndim} deformed axes")
        return [Plane(0, 1)]
    if at is None:
        pixels = [s + (m - 1) // 2 for s, m in zip(g.start, g.shape, strict=True)]
    else:
        try:
            pixels = [round(check.number(x, "at", where) / h) for x, h in zip(at, g.spacing, strict=True)]
        except (TypeError, ValueError, OverflowError):
            pixels = [-1] * 3
        if not all(s <= p < s + m for p, s, m in zip(pixels, g.start, g.shape, strict=True)):
            ends = [(s * h, (s + m - 1) * h) for s, m, h in zip(g.start, g.shape, g.spacing, strict=True)]
            raise ValueError(f"{where}: at must be three coordinates, one within each of {ends}, got {at!r}")
    return [plane._replace(at=pixels[plane.through or 0]) for plane in _all_planes()]


def _full_scale(x: Array) -> float:
    """What is shown as white of colours."""
    if x.dtype.kind == "u" and x.dtype.itemsize <= 2:
        return float(np.iinfo(x.dtype).max)
    x = np.abs(x) if x.dtype.kind == "c" else x
    most = float(np.max(x, where=np.isfinite(x), initial=0))
    # an interpolation goes a little beyond the 1 it began with
    return 1.0 if most <= (1 if x.dtype.kind in "biu" else 2) else max(most, 255.0)


def _picture(x: Any, axes: tuple[int, ...], lead: int, colours: int, full: float) -> Array:
    """(*deformed, colours): as imshow takes them, of which `full` is white; without colours (*deformed)."""
    x = np.asarray(x).transpose((*axes[lead:], *axes[:lead]))
    x = x.reshape((*x.shape[: len(axes) - lead], colours))
    x = np.abs(x) if x.dtype.kind == "c" else x
    if colours == 1:
        return x[..., 0].astype(np.float64)
    return np.nan_to_num(np.clip(x.astype(np.float64) / full, 0.0, 1.0))


def _step(length: float, lines: int) -> float:
    """Round, so that about so many of them are a length."""
    if not 0 < length < math.inf:
        return 1.0
    rough = length / lines
    power = 10.0 ** math.floor(math.log10(rough))
    return min((f * power for f in (1.0, 2.0, 2.5, 5.0, 10.0)), key=lambda s: abs(math.log(s / rough)))


# ---- what is drawn
def _draw(row: Any, view: View, plane: Plane) -> None:
    g = view.geometry
    inside = view.extent(plane, True)
    left, right, bottom, top = inside
    longest = max(right - left, bottom - top)
    counts = [max(round(STEPS * length / longest), STEPS // 4, 9) for length in (bottom - top, right - left)]
    # to the edges of the outermost pixels
    down = np.linspace(top, bottom, counts[0]) / g.spacing[plane.down]
    across = np.linspace(left, right, counts[1]) / g.spacing[plane.across]
    places, jacobian = view.places(plane, down[:, None], across[None, :])
    y, x = down * g.spacing[plane.down], across * g.spacing[plane.across]
    cuts = [_cut(view.before, plane, plane.at), _cut(view.after, plane, plane.at - _first(view, plane))]

    title = "" if plane.through is None else f", {_place(view, plane)}"
    whole = view.extent(plane, False)
    _show(row[0], cuts[0], view, whole, f"before{title}")
    for a, line in ((plane.down, row[0].axhline), (plane.across, row[0].axvline)):
        for level in _levels(view, a):
            line(level, color=LINE, linewidth=0.7, alpha=0.8)
    if inside != whole:
        row[0].add_patch(_frame(inside, POINT))
    _show(row[1], cuts[1], view, inside, "after")
    for a in (plane.down, plane.across):
        _contours(row[1], x, y, places[..., a], _levels(view, a))
    _origins(row[2], view, plane, whole, inside)
    _determinant(row[3], view, _determinants(jacobian, g), _at_pixels(view, plane), inside)
    for panel in row:
        panel.set_xlabel(name_of(view.names[plane.across]))
        panel.set_ylabel(name_of(view.names[plane.down]))
        panel.set_aspect("equal" if equal(bottom - top, right - left, FLAT[g.ndim]) else "auto")


def _first(view: View, plane: Plane) -> int:
    return 0 if plane.through is None else view.geometry.start[plane.through]


def _place(view: View, plane: Plane) -> str:
    a = plane.through or 0
    return f"{view.names[a][0]} = {plane.at * view.geometry.spacing[a]:.4g} {view.names[a][1]}".strip()


def _cut(picture: Array, plane: Plane, at: int) -> Array:
    return picture if plane.through is None else np.take(picture, at, axis=plane.through)


def _levels(view: View, a: int) -> Array:
    """Lines of the grid across an axis, over the whole image."""
    length = (view.geometry.full[a] - 1) * view.geometry.spacing[a]
    return np.arange(0, length + view.lines * 1e-6, view.lines)


def _show(panel: Any, values: Array, view: View, extent: tuple[float, ...], title: str) -> None:
    low, high = view.limits
    panel.imshow(
        values,
        origin="upper",
        extent=extent,
        cmap=view.cmap,
        vmin=low,
        vmax=high,
        interpolation="antialiased",
        rasterized=True,
    )
    panel.set_title(title, fontsize="medium" if view.geometry.ndim == 2 else "small")


def _contours(panel: Any, x: Array, y: Array, values: Array, levels: Array) -> None:
    finite = values[np.isfinite(values)]
    there = levels[(levels > finite.min(initial=np.inf)) & (levels < finite.max(initial=-np.inf))]
    if len(there):
        panel.contour(x, y, np.ma.masked_invalid(values), there, colors=LINE, linewidths=0.7, alpha=0.8)


def _origins(panel: Any, view: View, plane: Plane, whole: tuple[float, ...], inside: tuple[float, ...]) -> None:
    """Where pixels come from: their grid, mapped, and arrows from the control points."""
    g = view.geometry
    left, right, bottom, top = inside
    t = np.linspace(0, 1, STEPS)
    seen = []
    for a, (lo, hi), (from_, to) in (
        (plane.down, (top, bottom), (left, right)),
        (plane.across, (left, right), (top, bottom)),
    ):
        other = plane.across if a == plane.down else plane.down
        levels = _levels(view, a)
        levels = np.array([lo, *levels[(levels > lo) & (levels < hi)], hi]) / g.spacing[a]
        along = (from_ + t * (to - from_)) / g.spacing[other]
        level, along = np.broadcast_arrays(levels[:, None], along[None])
        places, _ = view.places(plane, *((level, along) if a == plane.down else (along, level)))
        for n, place in enumerate(places):
            edge = n in (0, len(places) - 1)  # of the result
            style = {"color": "0.1" if edge else "0.45", "linewidth": 1.2 if edge else 0.7}
            panel.plot(place[:, plane.across], place[:, plane.down], zorder=1 + edge, **style)
        seen.append(places.reshape(-1, g.ndim))
    down, across, known = _arrows_at(view, plane)
    places, _ = view.places(plane, down, across)
    y, x = down * g.spacing[plane.down], across * g.spacing[plane.across]
    v, u = places[..., plane.down] - y, places[..., plane.across] - x
    there = np.isfinite(u) & np.isfinite(v)
    if np.any(np.hypot(u[there], v[there])):
        panel.quiver(
            x[there], y[there], u[there], v[there], angles="xy", scale_units="xy", scale=1, color=POINT,
            width=0.004, headwidth=4, headlength=5, zorder=3,
        )  # fmt: skip
    if known:
        panel.plot(x.ravel(), y.ravel(), "o", color=POINT, markersize=3.5, zorder=4, label="control points")
    panel.add_patch(_frame(whole, LINE))
    all_of = np.concatenate([*seen, places.reshape(-1, g.ndim)])
    all_of = all_of[np.isfinite(all_of).all(-1)][:, [plane.across, plane.down]]
    low, high = np.array([whole[0], whole[3]]), np.array([whole[1], whole[2]])
    if len(all_of):
        low, high = np.minimum(low, all_of.min(0)), np.maximum(high, all_of.max(0))
    margin = 0.02 * (high - low)
    panel.set_xlim(low[0] - margin[0], high[0] + margin[0])
    panel.set_ylim(high[1] + margin[1], low[1] - margin[1])
    panel.set_title("where pixels come from", fontsize="medium" if view.geometry.ndim == 2 else "small")


def _frame(extent: tuple[float, ...], color: str) -> Any:
    from matplotlib.patches import Rectangle

    left, right, bottom, top = extent
    return Rectangle((left, top), right - left, bottom - top, fill=False, color=color, linewidth=1.2, zorder=2)


def _arrows_at(view: View, plane: Plane) -> tuple[Array, Array, bool]:
    """Pixels that have an arrow: the control points, or some evenly spread where they are too many or none."""
    g, axes = view.geometry, (plane.down, plane.across)
    points = g.points
    known = points is not None and g.given is not None and max(points[a] for a in axes) <= POINTS
    if known and points is not None:
        down, across = (np.linspace(0, g.full[a] - 1, points[a]) for a in axes)
    else:
        longest = max(g.full[a] * g.spacing[a] for a in axes)
        counts = [max(round(ARROWS * g.full[a] * g.spacing[a] / longest), 2) for a in axes]
        down, across = (
            np.linspace(g.start[a], g.start[a] + g.shape[a] - 1, n) for a, n in zip(axes, counts, strict=True)
        )
    down, across = np.meshgrid(down, across, indexing="ij")
    return down, across, known


def _determinants(jacobian: Array, g: Geometry) -> Array:
    """Of the map; an axis of one pixel is not stretched."""
    jacobian = jacobian.copy()
    for a, n in enumerate(g.full):
        if n == 1:
            jacobian[..., a] = np.eye(g.ndim)[a]
    usable = np.all(np.isfinite(jacobian), (-1, -2))
    return np.where(usable, np.linalg.det(np.where(usable[..., None, None], jacobian, np.eye(g.ndim))), np.nan)


def _at_pixels(view: View, plane: Plane) -> Array:
    """The determinants at the pixels of the result in a plane."""
    g = view.geometry
    every = math.ceil(math.sqrt(g.shape[plane.down] * g.shape[plane.across] / PIXELS))
    down, across = (g.start[a] + np.arange(0, g.shape[a], every) for a in (plane.down, plane.across))
    return _determinants(view.places(plane, down[:, None], across[None, :])[1], g)


def _ends(values: Array) -> tuple[float, float] | None:
    finite = values[np.isfinite(values)]
    return (float(finite.min()), float(finite.max())) if len(finite) else None


def _determinant(panel: Any, view: View, values: Array, pixels: Array, extent: tuple[float, ...]) -> None:
    import matplotlib
    from matplotlib.colors import Normalize

    low, high = _ends(values) or (1.0, 1.0)
    folds, reach = low <= 0, min(max(abs(low - 1), abs(high - 1), 0.1), 1.0)
    cmap = matplotlib.colormaps["RdBu"]
    if folds:  # else a value is below the colours by rounding alone
        cmap = cmap.with_extremes(under=FOLD)
    image = panel.imshow(
        np.ma.masked_invalid(values),
        origin="upper",
        extent=extent,
        cmap=cmap,
        norm=Normalize(np.nextafter(0.0, 1.0) if folds else 1 - reach, 1 + reach),
        interpolation="nearest",
        rasterized=True,
    )
    ends = _ends(pixels)
    known = pixels[np.isfinite(pixels)]
    share = f", folded {np.mean(known <= 0):.1%}" if ends and ends[0] <= 0 else ""
    text = f"{ends[0]:.2g} to {ends[1]:.2g}" if ends else "not finite"
    panel.set_title(f"determinant {text}{share}", fontsize="medium" if view.geometry.ndim == 2 else "small")
    extend = ("neither", "max", "min", "both")[2 * folds + (high > 1 + reach)]
    panel.figure.colorbar(image, cax=panel.inset_axes((1.03, 0, 0.05, 1)), extend=extend)
