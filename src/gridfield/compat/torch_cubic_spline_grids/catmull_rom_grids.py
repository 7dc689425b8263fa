"""The Catmull-Rom spline in one to four dimensions."""

from ._base_cubic_grid import CubicSplineGrid, documented


@documented
class CubicCatmullRomGrid1d(CubicSplineGrid):
    """A learnable curve: a Catmull-Rom spline, which passes through its control points and is C1."""

    ndim = 1
    _kernel = "catmull_rom"


@documented
class CubicCatmullRomGrid2d(CubicSplineGrid):
    """A learnable field in 2-D: a Catmull-Rom spline, which passes through its control points and is C1."""

    ndim = 2
    _kernel = "catmull_rom"


@documented
class CubicCatmullRomGrid3d(CubicSplineGrid):
    """A learnable field in 3-D: a Catmull-Rom spline, which passes through its control points and is C1."""

    ndim = 3
    _kernel = "catmull_rom"


@documented
class CubicCatmullRomGrid4d(CubicSplineGrid):
    """A learnable field in 4-D: a Catmull-Rom spline, which passes through its control points and is C1."""

    ndim = 4
    _kernel = "catmull_rom"
