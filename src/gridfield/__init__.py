"""gridfield: fields on grids, and moving between grids and points in N-D.

Differentiable, fast, and the same functions on arrays of NumPy, PyTorch, JAX and TensorFlow.
"""

from __future__ import annotations

import importlib
import sys
from types import FunctionType, ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import plot
    from .vocabulary import *

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
    "nufft1",
    "nufft2",
    "Nufft",
    "convolve_points",
    "nufft3",
    "curve_fit",
    "FitResult",
    "NufftInfo",
    "binned_statistic",
    "bin_index",
    "histogram",
    "histogramdd",
    "select",
    "MaskIndex",
    "lookup",
    "smooth",
    "SmoothInfo",
    "grid_and_smooth",
    "to_grid",
    "fill_empty",
    "corr",
    "corr_matrix",
    "detrend",
    "rolling_mean",
    "cdist",
    "pairwise",
    "Pairwise",
    "models",
    "get_num_threads",
    "set_num_threads",
]


class _Package(ModuleType):
    """What is public comes with the first name that is asked for: it needs Numba, `gridfield --help` does not."""

    def __getattr__(self, name: str) -> Any:
        if name not in __all__:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        if name == "plot":
            return importlib.import_module(f"{self.__name__}.plot")
        vocabulary = importlib.import_module(f"{self.__name__}.vocabulary")
        hook = importlib.import_module(f"{self.__name__}.hook")
        for public in __all__:
            if public != "plot":
                thing = getattr(vocabulary, public)
                self.__dict__[public] = hook.hook(public, thing) if isinstance(thing, FunctionType) else thing
                if isinstance(thing, type):
                    hook.hook_methods(thing)
        return self.__dict__[name]

    def __setattr__(self, name: str, value: Any) -> None:
        # importing gridfield.deform, the module, must not hide gridfield.deform, the function
        if not (name in __all__ and name != "plot" and isinstance(value, ModuleType)):
            super().__setattr__(name, value)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *__all__})


sys.modules[__name__].__class__ = _Package
