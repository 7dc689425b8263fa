"""The public names of the package, each from where it lives; `gridfield/__init__.py` lists and loads them."""

from .boundary import BOUNDARIES as BOUNDARIES
from .convolution import convolve_points as convolve_points
from .cpu.threads import get_num_threads as get_num_threads
from .cpu.threads import set_num_threads as set_num_threads
from .deform import deform as deform
from .deform import deform_gradient as deform_gradient
from .displacement import displacement_field as displacement_field
from .displacement import jacobian_determinant as jacobian_determinant
from .displacement import random_displacement as random_displacement
from .fitting import FitInfo as FitInfo
from .fitting import fit_field as fit_field
from .grid import Grid as Grid
from .kernel import Kernel as Kernel
from .kernel import bspline as bspline
from .kernel import catmull_rom as catmull_rom
from .landmarks import deform_points as deform_points
from .landmarks import invert_displacement as invert_displacement
from .nonuniform import Nufft as Nufft
from .nufft import nufft1 as nufft1
from .nufft import nufft2 as nufft2
from .sampling import fold as fold
from .sampling import pad as pad
from .sampling import prefilter as prefilter
from .sampling import sample as sample
from .sampling import splat as splat
from .type3 import nufft3 as nufft3
