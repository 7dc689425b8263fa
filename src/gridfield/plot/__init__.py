"""Pictures of fields, kernels and deformations, by matplotlib, which is imported when one is drawn."""

from .deformations import deformation
from .fields import field, kernel

__all__ = ["field", "kernel", "deformation"]
