"""The cubic B-spline in one to four dimensions."""

from ._base_cubic_grid import CubicSplineGrid, documented


@documented
class CubicBSplineGrid1d(CubicSplineGrid):
    """A learnable curve: a cubic B-spline, which approximates its control points and is C2."""

    ndim = 1
    _kernel = "cubic"


@documented
class CubicBSplineGrid2d(CubicSplineGrid):
    """A learnable field in 2-D: a cubic B-spline, which approximates its control points and is C2."""

    ndim = 2
    _kernel = "cubic"


@documented
class CubicBSplineGrid3d(CubicSplineGrid):
    """A learnable field in 3-D: a cubic B-spline, which approximates its control points and is C2."""

    ndim = 3
    _kernel = "cubic"


@documented
class CubicBSplineGrid4d(CubicSplineGrid):
    """A learnable field in 4-D: a cubic B-spline, which approximates its control points and is C2."""

    ndim = 4
    _kernel = "cubic"
