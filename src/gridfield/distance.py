"""cdist: distances of all pairs of points, weighted or not."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from . import check, dispatch
from .cpu import distance as cpu
from .ops import Face, recipe
from .radial import FUNCTIONS, SQUARED
from .weighting import Coordinates, apply, apply_numbers, has_root, weights

Array = np.ndarray[Any, Any]


@recipe
def cdist(
    x: Any,
    y: Any = None,
    *,
    cov: Any = None,
    precision: Any = None,
    squared: bool = False,
    out: Any = None,
) -> Any:
    """Distances of all pairs of points, Euclidean or weighted: ``sqrt(<D^-1 (x_i - y_j), x_i - y_j>)``.

    Points of few coordinates are subtracted, so that near ones are as exact as far ones and the distance of a point to
    itself is 0; of many, matrix products are used, and what cancels in them is computed again from the differences.

    Parameters
    ----------
    x : array, shape (..., m, d)
        Points.
    y : array, shape (..., n, d), optional
        Other points; leading axes broadcast. Default: `x`.
    cov : array, shape (d, d) or (d,), optional
        Covariance D, or its diagonal (variances): the Mahalanobis distance. It need not be symmetric: the
        symmetric part of its inverse counts.
    precision : array, shape (d, d) or (d,), optional
        The inverse of D instead.
    squared : bool, default False
        Squared distances. These are defined for any invertible D, and may then be negative.
    out : array, shape (..., m, n), optional
        Where the result goes: a NumPy array or a CPU tensor of the result's type, of which no derivative is asked for.

    Returns
    -------
    array, shape (..., m, n)
        Of the type of the points; integers give float64, half precision is computed in float32. A point with NaN has
        distance NaN to all.

    Raises
    ------
    ValueError
        If shapes do not fit; if the weights are singular; if they are not positive definite and a root is asked for.
    TypeError
        If points are complex or of different types.

    See Also
    --------
    pairwise : The same matrix, never formed: nearest points, sums, products.

    Notes
    -----
    With ``D = L L^T`` the distance is that of the whitened points ``L^-1 x``. Derivatives, in points and weights,
    exist to any order; where the distance is 0 its root counts as flat.

    References
    ----------
    P. C. Mahalanobis, "On the generalised distance in statistics", Proceedings of the National Institute of
    Sciences of India 2 (1936) 49-55.

    Examples
    --------
    >>> import gridfield as gf, numpy as np
    >>> x = np.array([[0.0, 0.0], [3.0, 4.0]])
    >>> gf.cdist(x)
    array([[0., 5.],
           [5., 0.]])
    >>> gf.cdist(x, [[0.0, 4.0]], cov=[1.0, 4.0], squared=True)
    array([[4.],
           [9.]])
    """
    where = "gf.cdist"
    given = {name: a for name, a in (("x", x), ("y", y), ("cov", cov), ("precision", precision)) if a is not None}
    F = dispatch.face(where, **given)
    check.flag(squared, "squared", where)
    x, y, result, lead, same = points(F, x, y, where)
    w = weights(F, cov, precision, x.shape[-1], where)
    root = has_root(w, squared, where) if w else True
    numbers = (None, None) if F.followed(x, y) or (w and w.array is not None) else (F.at_hand(x), F.at_hand(y))
    shape = (*lead, F.shape(x)[1], F.shape(y)[1])
    if numbers[0] is not None and numbers[1] is not None and (w is None or w.known is not None):
        made = _matrix(w, root, numbers[0], numbers[1], squared, same, _target(F, out, shape, result, where))
        if out is not None:
            return out
        return F.astype(F.constant(made.reshape(shape), F.dtype(x), x), result)
    if out is not None:
        raise TypeError(f"{where}: out cannot be given where something follows or traces the arguments, or on a device")
    q = squares(F, apply(F, w, root, x, y) if w else Coordinates(x, y))
    return F.astype(F.reshape(q if squared else rooted(F, q), shape), result)


def points(F: Face, x: Any, y: Any, where: str, batches: bool = True) -> tuple[Any, Any, str, tuple[Any, ...], bool]:
    """Both sets as (batch, n, d) to compute with; type of the result, leading axes, whether the two are one."""
    same = y is None
    x = check.array(F, x, "x", where)
    y = x if same else check.array(F, y, "y", where)
    for name, p in (("x", x), ("y", y)):
        if len(p.shape) < 2 or (not batches and len(p.shape) != 2):
            raise ValueError(
                f"{where}: {name} must have shape ({'..., ' if batches else ''}n, d), got {tuple(p.shape)}"
            )
        if F.dtype(p) in check.REAL:
            raise TypeError(f"{where}: {name} has dtype {F.dtype(p)} but coordinates must be real")
        if not check.is_number(F.dtype(p)):
            raise TypeError(f"{where}: {name} has dtype {F.dtype(p)}, which is not a type of numbers it can use")
    d = x.shape[-1]
    if d is None or d != y.shape[-1]:
        raise ValueError(
            f"{where}: x has {d} coordinates per point (shape {tuple(x.shape)}) but y has {y.shape[-1]} (shape "
            f"{tuple(y.shape)})"
        )
    check.same_device(where, F.device(x), F.device(y), "x", "y")
    kinds = [F.dtype(p) for p in (x, y)]
    floats = {k for k in kinds if not check.is_integer(k)}
    if len(floats) > 1:
        raise TypeError(
            f"{where}: x has dtype {kinds[0]} but y {kinds[1]}; nothing is cast silently, so cast one of them"
        )
    result = F.widest(floats.pop() if floats else "float64")
    dtype = "float32" if result in check.HALF else result
    x, y = F.astype(x, dtype), x if same else F.astype(y, dtype)
    y = F.astype(y, dtype)
    a, b = tuple(F.shape(x))[:-2], tuple(F.shape(y))[:-2]
    if not a and not b:
        lead: tuple[Any, ...] = ()
    elif check.same(a, b):
        lead = a
    else:
        try:
            lead = np.broadcast_shapes(a, b)
        except ValueError:
            raise ValueError(f"{where}: leading axes of x {a} and y {b} do not broadcast") from None
        x, y = (F.broadcast_to(p, (*lead, *F.shape(p)[-2:])) for p in (x, y))
    size = prod(lead)
    x = F.reshape(x, (size, *F.shape(x)[-2:]))
    return x, x if same else F.reshape(y, (size, *F.shape(y)[-2:])), result, lead, same


def squares(F: Face, of: Coordinates) -> Any:
    """(batch, m, n): squared distances, with derivatives."""
    if of.b is None:
        return F.square(of.x, of.y, SQUARED)
    return F.bilinear(*of_order(of), SQUARED)


def of_order(of: Coordinates) -> tuple[Any, Any, Any, Any]:
    """As the op bilinear takes them."""
    return of.x, of.b, of.y, of.c


def rooted(F: Face, q: Any) -> Any:
    """sqrt(q); at 0, where it has no derivative, as if it were flat."""
    zero, one = F.fixed(q) == 0, F.constant(np.ones(()), F.dtype(q), q)
    return F.where(zero, 0 * one, F.sqrt(F.where(zero, one, q)))


def _target(F: Face, out: Any, shape: tuple[int, ...], result: str, where: str) -> Array | None:
    """The memory of `out`."""
    if out is None:
        return None
    if dispatch.face(where, out=out) is not F or F.name not in ("numpy", "torch") or not F.nearby(out):
        raise TypeError(f"{where}: out must be a NumPy array, or a CPU tensor where the points are tensors")
    if F.followed(out):
        raise TypeError(f"{where}: out is followed by autograd, which cannot see what is written to it")
    if tuple(out.shape) != tuple(shape) or F.dtype(out) != result:
        raise ValueError(
            f"{where}: out has shape {tuple(out.shape)} and dtype {F.dtype(out)} but the result has shape {shape} and "
            f"dtype {result}"
        )
    if result == "bfloat16":
        raise TypeError(f"{where}: out cannot be bfloat16, which NumPy does not have")
    target = F.numpy(out)
    if not target.flags.writeable:
        raise ValueError(f"{where}: out is read-only")
    return target


def _matrix(w: Any, root: bool, x: Array, y: Array, squared: bool, same: bool, out: Array | None) -> Array:
    """(batch, m, n), by the kernel."""
    of = Coordinates(x, y) if w is None else apply_numbers(w, root, x, y)
    shape = (*x.shape[:2], y.shape[1])
    direct = out is not None and out.flags.c_contiguous and out.dtype == x.dtype
    made = out.reshape(shape) if direct and out is not None else np.empty(shape, x.dtype)
    form = FUNCTIONS["squared" if squared else "distance"]
    for k in range(len(x) if made.size else 0):
        sets = cpu.Sets(of.x[k], of.y[k], *(() if of.b is None else (of.b[k], of.c[k])))
        cpu.matrix(sets, form, made[k], same, fresh=not direct)
    if out is not None and not direct:
        out[...] = made.reshape(out.shape)
    return made
