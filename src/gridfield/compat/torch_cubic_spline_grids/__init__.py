"""The classes of torch-cubic-spline-grids over gridfield: the same names, shapes, numbers and state dicts.

Switch by changing the package's name in the import; docs/migrate.md shows how, and what comes after.
"""

from ._base_cubic_grid import CubicSplineGrid
from .b_spline_grids import CubicBSplineGrid1d, CubicBSplineGrid2d, CubicBSplineGrid3d, CubicBSplineGrid4d
from .catmull_rom_grids import (
    CubicCatmullRomGrid1d,
    CubicCatmullRomGrid2d,
    CubicCatmullRomGrid3d,
    CubicCatmullRomGrid4d,
)

__all__ = [
    "CubicSplineGrid",
    "CubicBSplineGrid1d",
    "CubicBSplineGrid2d",
    "CubicBSplineGrid3d",
    "CubicBSplineGrid4d",
    "CubicCatmullRomGrid1d",
    "CubicCatmullRomGrid2d",
    "CubicCatmullRomGrid3d",
    "CubicCatmullRomGrid4d",
]
