"""The functions of elasticdeform over gridfield: the same names, arguments and numbers.

Switch by changing the package's name in the import. What differs: integer images are filtered in float64, integer
displacements are not rounded, gradients reach the displacement, an affine map of three axes works, and `axis` may be a
list.
"""

from .deform_grid import deform_grid, deform_grid_gradient, deform_random_grid

__all__ = ["deform_grid", "deform_grid_gradient", "deform_random_grid"]
