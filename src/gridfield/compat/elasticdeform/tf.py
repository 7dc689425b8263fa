"""elasticdeform.tf over gridfield: differentiable in the images and, unlike there, in the displacement."""

from __future__ import annotations

from typing import Any

from ...extras import needs
from . import deform_grid as _deform_grid

with needs("tensorflow"):
    import tensorflow

__all__ = ["deform_grid"]


def deform_grid(X: Any, displacement: Any, *args: Any, **kwargs: Any) -> Any:
    """Deform a tensor, or a list of tensors alike; see `gridfield.compat.elasticdeform.deform_grid`.

    Parameters
    ----------
    X : tf.Tensor or tf.Variable, or list or tuple of those
        The images.
    displacement : tf.Tensor, tf.Variable or ndarray, shape (ndim, *points)
        In pixels.
    *args, **kwargs
        As for `deform_grid`.

    Returns
    -------
    tf.Tensor, or list of tf.Tensor
        Differentiable, to any order, in images and displacement.

    Examples
    --------
    >>> import tensorflow as tf, gridfield.compat.elasticdeform.tf as etf
    >>> etf.deform_grid(tf.ones((20, 30)), tf.zeros((2, 3, 3)), order=1).shape
    TensorShape([20, 30])
    """
    several = isinstance(X, (list, tuple))
    images = [tensorflow.convert_to_tensor(x) for x in X] if several else tensorflow.convert_to_tensor(X)
    return _deform_grid(images, tensorflow.convert_to_tensor(displacement), *args, **kwargs)
