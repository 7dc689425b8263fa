"""gridfield: fields on grids, and moving between grids and points in N-D.

Differentiable, fast, and the same functions on NumPy arrays and PyTorch tensors.
"""

from . import plot
from .boundary import BOUNDARIES
from .cpu.threads import get_num_threads, set_num_threads
from .deform import deform, deform_gradient
from .displacement import displacement_field, jacobian_determinant, random_displacement
from .fitting import FitInfo, fit_field
from .grid import Grid
from .kernel import Kernel, bspline, catmull_rom
from .landmarks import deform_points, invert_displacement
from .sampling import fold, pad, prefilter, sample, splat

__version__ = "0.1.0"

__all__ = [
    "Grid",
    "Kernel",
    "bspline",
    "catmull_rom",
    "BOUNDARIES",
    "sample",
    "splat",
    "prefilter",
    "pad",
    "fold",
    "fit_field",
    "FitInfo",
    "plot",
    "deform",
    "deform_gradient",
    "displacement_field",
    "jacobian_determinant",
    "random_displacement",
    "deform_points",
    "invert_displacement",
    "get_num_threads",
    "set_num_threads",
]
