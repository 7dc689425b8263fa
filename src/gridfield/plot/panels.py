"""What pictures of all kinds share: the axes they are drawn in, their limits and names."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def axes_for(
    ax: Any, shape: tuple[int, ...], size: tuple[float, float], where: str, widths: Any = None, heights: Any = None
) -> Any:
    """One Axes for the shape (), else an array of them: those given, or in the figure given, or in a new one."""
    import matplotlib.pyplot as plt
    from matplotlib.axes import Axes
    from matplotlib.figure import FigureBase

    rows, columns = layout(shape)
    if ax is None:
        # compressed: without gaps round images of a fixed aspect, which must have one height then
        ax = plt.figure(figsize=size, layout="constrained" if widths else "compressed")
    if isinstance(ax, FigureBase):
        panels = np.ravel(ax.subplots(rows, columns, squeeze=False, width_ratios=widths, height_ratios=heights))
        for extra in panels[math.prod(shape) :]:
            extra.remove()
        panels = panels[: math.prod(shape)]
    else:
        try:
            panels = np.array(ax, dtype=object).ravel()
        except ValueError:
            panels = np.array([None])
        if not all(isinstance(panel, Axes) for panel in panels):
            raise TypeError(f"{where}: ax must be matplotlib Axes, an array of them, or a figure, got {ax!r}")
        if len(panels) != math.prod(shape):
            wanted = f"an array of {math.prod(shape)} axes" if shape else "one axes"
            raise ValueError(f"{where}: ax must be {wanted} or a figure here, got {len(panels)} axes")
    return panels.reshape(shape) if shape else panels[0]


def layout(shape: tuple[int, ...]) -> tuple[int, int]:
    """Rows and columns of panels."""
    if len(shape) == 2:
        return shape
    n = math.prod(shape)
    columns = n if n <= 3 else min(4, math.ceil(math.sqrt(n)))
    return math.ceil(n / columns), columns


def equal(height: float, width: float, flat: float = 4) -> bool:
    """Whether both axes can have one scale, and still be looked at: up to so many times as long as high."""
    return max(height, width) <= flat * min(height, width)


def name_of(label: tuple[str, str]) -> str:
    """Of an axis, with its unit."""
    return f"{label[0]} ({label[1]})" if label[1] else label[0]


def limits_of(values: Array) -> tuple[float, float]:
    """Of the colours: around finite values, with some width."""
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 0.0)
    if high - low <= 1e-12 * max(abs(low), abs(high)):  # a constant, but for rounding
        width = max(abs(low), 1.0) / 2
        return low - width, high + width
    return low, high
