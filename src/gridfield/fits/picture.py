"""Pictures of fits: data, model and residual; maps of parameters and their standard errors."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..extras import needs

Array = np.ndarray[Any, Any]


def draw(result: Any, ax: Any) -> Any:
    """One fit, or many."""
    with needs("plot", "FitResult.plot"):
        import matplotlib  # noqa: F401
    if result._batch:
        return _maps(result, ax)
    panels = [_panels_of(result, part) for part in result._parts]
    shape = (len(panels), max(map(len, panels)))
    flat = all(len(result._parts[k].data.shape) == 1 for k in range(len(panels)))
    axes = _axes(
        ax,
        (2 * shape[0], 1) if flat else shape,
        (6.5, 4.6 * shape[0]) if flat else (3.7 * shape[1], 3.4 * shape[0]),
        flat,
    )
    for k, part in enumerate(result._parts):
        if len(part.data.shape) == 1:
            _curve(result, part, axes.reshape(-1, 2)[k] if flat else axes[k, :2])
        else:
            _images(panels[k], axes[k], part)
    return axes


def _axes(ax: Any, shape: tuple[int, int], size: tuple[float, float], curves: bool) -> Any:
    """As many axes as there are panels."""
    import matplotlib.pyplot as plt
    from matplotlib.figure import FigureBase

    figure = ax if isinstance(ax, FigureBase) else None
    if ax is None:
        figure = plt.figure(figsize=size, layout="constrained")
    if figure is not None:
        ratios = [3, 1] * (shape[0] // 2) if curves else None
        return figure.subplots(
            *shape, squeeze=False, height_ratios=ratios, sharex="col" if curves and shape[0] == 2 else False
        )
    axes = np.array(ax, dtype=object).ravel()
    if len(axes) != shape[0] * shape[1]:
        raise ValueError(
            f"FitResult.plot: ax must be {shape[0] * shape[1]} axes or a figure here, got {len(axes)} axes"
        )
    return axes.reshape(shape)


def _panels_of(result: Any, part: Any) -> list[tuple[str, Array]]:
    """Data, model, residual; of more than two axes the middle of the first ones."""
    values = result._values(part)[0].reshape(part.data.shape)
    data = part.data.y[0].reshape(part.data.shape)
    panels = [("data", data), ("model", values), ("residual", data - values)]
    while panels[0][1].ndim > 2:
        panels = [(name, a[len(a) // 2]) for name, a in panels]
    return panels


def _unit(name: str, units: dict[str, str]) -> str:
    return f"{name} ({units[name]})" if units.get(name) else name


def _curve(result: Any, part: Any, axes: Any) -> None:
    """Points with the curve through them and its band, and residuals below."""
    from matplotlib.ticker import AutoMinorLocator

    data = part.data
    x = np.broadcast_to(data.coords[0], (1, *data.shape)).ravel()
    y, f = data.y[0], result._values(part)[0]
    order = np.argsort(x, kind="stable")
    top, below = axes
    error = (
        None
        if data.weight is None
        else np.where(data.weight[0] > 0, 1 / np.where(data.weight[0] > 0, data.weight[0], 1), np.nan)
    )
    if data.whitening is not None:
        error = data.whitening.errors
    top.errorbar(x, y, error, fmt="o", color="0.35", markersize=3.5, elinewidth=0.8, label="data", zorder=2)
    dense, curve = x[order], f[order]
    band = None
    if len(data.coords) == 1 and len(x) > 1:
        dense = np.linspace(x.min(), x.max(), 400)
        try:
            found, sides = result.predict(dense), result.confidence_band(dense)
            if len(result._parts) > 1:
                place = part.key
                found, sides = found[place], sides[place]
            curve, band = np.asarray(found), [np.asarray(s) for s in sides]
        except Exception:  # a function that only takes its own coordinates
            dense, curve = x[order], f[order]
    top.plot(dense, curve, color="tab:red", linewidth=1.5, label="model", zorder=3)
    if band is not None and all(np.isfinite(s).all() for s in band):
        top.fill_between(dense, *band, color="tab:red", alpha=0.2, linewidth=0, label="95 % band", zorder=1)
    top.legend(frameon=False)
    top.set_ylabel(_unit("", data.units).strip() or "y")
    below.errorbar(x, y - f, error, fmt="o", color="0.35", markersize=3, elinewidth=0.8)
    below.axhline(0, color="tab:red", linewidth=1)
    below.set_ylabel("residual")
    below.set_xlabel(_unit(data.names[0], data.units) if data.names else "x")
    for a in axes:
        a.xaxis.set_minor_locator(AutoMinorLocator())


def _images(panels: list[tuple[str, Array]], axes: Any, part: Any) -> None:
    """Three images, data and model in the same colours, the residual about zero."""
    both = np.concatenate([panels[0][1].ravel(), panels[1][1].ravel()])
    both = both[np.isfinite(both)]
    low, high = np.quantile(both, (0.002, 0.998)) if len(both) else (0.0, 1.0)
    rest = np.abs(panels[2][1])
    rest = float(np.quantile(rest[np.isfinite(rest)], 0.998)) if np.isfinite(rest).any() else 1.0
    for panel, (name, image) in zip(axes, panels, strict=False):
        how = {"cmap": "RdBu_r", "vmin": -rest or -1.0, "vmax": rest or 1.0} if name == "residual" else {
            "cmap": "viridis", "vmin": low, "vmax": high if high > low else low + 1}  # fmt: skip
        shown = panel.imshow(image, interpolation="nearest", aspect="equal" if _square(image) else "auto", **how)
        panel.set_title(name)
        panel.set_facecolor("0.85")  # what is left out
        panel.figure.colorbar(shown, ax=panel, shrink=0.8, aspect=15)


def _square(image: Array) -> bool:
    return max(image.shape) <= 4 * min(image.shape)


def _maps(result: Any, ax: Any) -> Any:
    """A row of parameters and a row of standard errors."""
    names, batch = result.names, result._batch
    if 0 in batch:
        raise ValueError(f"FitResult.plot: there is nothing to draw of fits {batch}")
    free = [k for k in range(len(names)) if not result._fixed[:, k].all()] or list(range(len(names)))
    axes = _axes(ax, (2, len(free)), (3.5 * len(free), 6.2 if len(batch) > 1 else 4.5), False)
    for column, k in enumerate(free):
        for row, (values, title) in enumerate(
            ((result._done.params[:, k], names[k]), (result._errors[:, k], f"standard error of {names[k]}"))
        ):
            panel, field = axes[row, column], values.reshape(batch)
            while field.ndim > 2:
                field = field[len(field) // 2]
            unit = result.units.get(names[k], "")
            panel.set_title(title)
            if field.ndim == 1:
                panel.plot(field, ".", color="0.2", markersize=3)
                panel.set_ylabel(unit)
                continue
            finite = field[np.isfinite(field)]
            low, high = np.quantile(finite, (0.01, 0.99)) if len(finite) else (0.0, 1.0)
            shown = panel.imshow(field, interpolation="nearest", cmap="viridis" if row == 0 else "magma", vmin=low,
                                 vmax=high if high > low else low + 1)  # fmt: skip
            panel.set_facecolor("0.85")
            panel.figure.colorbar(shown, ax=panel, shrink=0.8, aspect=15, extend="both", label=unit)
    return axes
