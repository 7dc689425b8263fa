"""The functions of pytorch-finufft over gridfield: the same names, arguments, numbers and errors.

Switch by changing the package's name in the import. What differs: type 3 is there; derivatives of every order, forward
mode, `torch.func`, `torch.compile(fullgraph=True)`; shapes as ints and lists, conjugated tensors, no point at all, one
point, and axes of one mode work.
"""

from . import functional

__all__ = ["functional"]
