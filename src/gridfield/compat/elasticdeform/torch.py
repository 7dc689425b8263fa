"""elasticdeform.torch over gridfield: differentiable in the images and, unlike there, in the displacement."""

from __future__ import annotations

from typing import Any

from ...extras import needs
from . import deform_grid as _deform_grid

with needs("torch"):
    import torch

__all__ = ["deform_grid"]


def deform_grid(X: Any, displacement: Any, *args: Any, **kwargs: Any) -> Any:
    """Deform a tensor, or a list of tensors alike; see `gridfield.compat.elasticdeform.deform_grid`.

    Parameters
    ----------
    X : torch.Tensor, or list or tuple of those
        The images.
    displacement : torch.Tensor or ndarray, shape (ndim, *points)
        In pixels.
    *args, **kwargs
        As for `deform_grid`.

    Returns
    -------
    torch.Tensor, or tuple of torch.Tensor
        Differentiable, to any order, in images and displacement.

    Examples
    --------
    >>> import torch, gridfield.compat.elasticdeform.torch as etorch
    >>> etorch.deform_grid(torch.ones(20, 30), torch.zeros(2, 3, 3), order=1).shape
    torch.Size([20, 30])
    """
    out = _deform_grid(X, torch.as_tensor(displacement), *args, **kwargs)
    return tuple(out) if isinstance(X, (list, tuple)) else out
