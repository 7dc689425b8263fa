"""gridfield: fields on grids, and moving between grids and points in N-D.

Differentiable, fast, and the same functions on NumPy arrays and PyTorch tensors.
"""

from .boundary import BOUNDARIES
from .cpu.threads import get_num_threads, set_num_threads
from .deform import deform, deform_gradient
from .displacement import displacement_field, jacobian_determinant, random_displacement
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
