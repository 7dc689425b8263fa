"""pairwise of points of dask: a block for each pair of chunks, and a tree over those of the second set."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from .. import check, dispatch
from ..pairwise import RISING, Pairwise
from ..weighting import added, centre, moments
from .blocks import array, dask, each, is_lazy
from .sums import _as_it_is, _coordinates, _others

Given = dict[str, Any]
NONE = (np.inf, -1.0, np.nan)  # key, number, value of a neighbour that there is not


class Matrix(NamedTuple):
    """What a matrix is, but for its points; it travels to where blocks are computed."""

    dtype: str
    result: str
    weights: Any
    root: bool
    length: Any
    function: Any
    scale: float

    def of(self, x: Any, y: Any, middle: Any = None) -> Pairwise:
        """That of points (m, d) and (n, d) of NumPy; middle: of all points, which these are some of."""
        w = self.weights if middle is None else self.weights._replace(centre=middle)
        x, y = (np.ascontiguousarray(p).astype(self.dtype, copy=False)[None] for p in (x, y))
        F = dispatch.of("numpy")
        return Pairwise(F, x, y, self.result, w, self.root, self.length, self.function, self.scale)


class LazyPairwise(Pairwise):
    """The matrix of points of which some are of dask: its methods give arrays of dask."""

    def __init__(self, x: Any, y: Any, matrix: Matrix) -> None:
        self._x, self._y, self._matrix = x, y, matrix
        # what the methods that are inherited read
        self._function, self._scale = matrix.function, matrix.scale
        self._of = (dispatch.of("numpy"), x[None], y[None], *matrix[1:5])

    def __reduce__(self) -> Any:
        return LazyPairwise, (self._x, self._y, self._matrix)

    @property
    def T(self) -> LazyPairwise:
        """The transpose."""
        return LazyPairwise(self._y, self._x, self._matrix)

    def map(self, function: Any, *, length: Any = None) -> LazyPairwise:
        """Another function of the same distances."""
        d = self._x.shape[1]
        one = self._matrix.of(np.zeros((1, d)), np.zeros((1, d))).map(function, length=length)
        return LazyPairwise(self._x, self._y, matrix_of(one))

    def __mul__(self, factor: Any) -> LazyPairwise:
        factor = check.number(factor, "factor", "gf.Pairwise")
        return LazyPairwise(self._x, self._y, self._matrix._replace(scale=self._scale * factor))

    __rmul__ = __mul__

    # ---- what is computed
    def _blocks(self, f: Callable[..., Any], new: dict[str, int], v: Any = None, channels: Any = ()) -> Any:
        """f(matrix of a block, first number of its second points, v) -> (rows, 1, ...), of every pair of chunks."""
        x, y, matrix = self._x, self._y, self._matrix
        ends = np.cumsum((0, *y.chunks[0][:-1])) if is_lazy(y) else np.zeros(1, np.int64)
        first = dask().from_array(ends, chunks=1)

        def block(x: Any, y: Any, first: Any, v: Any, of: Any) -> Any:
            p = matrix.of(x, y, None if of is None else centre(of))
            return f(p, int(first[0])) if v is None else f(p, v)

        # an array of dask, also where one of the two sets is not: the other will do for its blocks
        return each(
            block, ("x", "y", *new, *channels), x, ("x", "axis"), y, ("y", "axis"), first, ("y",), v, ("y", *channels),
            self._moments(), ("moment", "a"), dtype=np.float64, new=new, ones=["y"], name="pairwise", aligned=False,
        )  # fmt: skip

    def _moments(self) -> Any:
        """Of all points, whose mean weights need: with one of its own in each block equal points would differ."""
        if self._matrix.weights is None:
            return None
        parts = [
            each(lambda p: moments(p)[None], ("part", "moment", "a"), p, ("part", "a"), dtype=np.float64,
                 new={"moment": 3}, ones=["part"], name="moments")
            for p in (self._x, self._y)
        ]  # fmt: skip
        return dask().reduction(
            dask().concatenate(parts), _as_it_is, _added, axis=0, combine=_added, dtype=np.float64, concatenate=True,
            split_every=8, meta=np.empty((0, 0)),
        )  # fmt: skip

    def _tree(self, parts: Any, merge: Callable[..., Any]) -> Any:
        return dask().reduction(
            parts, _as_it_is, merge, axis=1, combine=merge, dtype=np.float64, concatenate=True, split_every=8,
            meta=np.empty((0,) * (parts.ndim - 1)),
        )  # fmt: skip

    def __matmul__(self, v: Any) -> Any:
        """The product with v, shape (n,) or (n, channels)."""
        where = "gf.Pairwise @"
        if hasattr(v, "dims"):
            return super().__matmul__(v)  # which leads to labels
        v = array(v)
        if v.ndim not in (1, 2) or v.shape[0] != self.shape[1]:
            raise ValueError(
                f"{where}: v has shape {tuple(v.shape)} but the matrix is {self.shape}: expected (n,) or (n, c)"
            )
        if v.dtype.kind == "c" or not check.is_number(v.dtype.name):
            raise TypeError(f"{where}: v has dtype {v.dtype} but must be real")
        if is_lazy(v) or is_lazy(self._y):
            v = v if is_lazy(v) else dask().from_array(v)
            v = v.rechunk({0: self._y.chunks[0] if is_lazy(self._y) else -1})
        channels = ("channel",) * (v.ndim - 1)
        parts = self._blocks(lambda p, v: np.asarray(p @ v, np.float64)[:, None], {}, v, channels)
        return parts.sum(axis=1).astype(self._matrix.result)

    def sum(self, axis: int) -> Any:
        """Sums of the rows (axis 1), or of the columns (axis 0)."""
        this: Any = self._along(axis, "sum")
        parts = this._blocks(lambda p, _: np.asarray(p.sum(1), np.float64)[:, None], {})
        return parts.sum(axis=1).astype(self._matrix.result)

    def logsumexp(self, axis: int) -> Any:
        """log of the sums of exp of the rows (axis 1) or the columns (axis 0)."""
        this: Any = self._along(axis, "logsumexp")
        parts = this._blocks(lambda p, _: np.asarray(p.logsumexp(1), np.float64)[:, None], {})
        return this._tree(parts, _logsumexp).astype(self._matrix.result)

    def argmin(self, axis: int) -> Any:
        """Where the least of each row is (axis 1), or of each column (axis 0)."""
        return self._least_of(axis, "argmin")[:, 0, 1].astype(np.int64)

    def min(self, axis: int) -> Any:
        """The least of each row (axis 1), or of each column (axis 0)."""
        return self._least_of(axis, "min")[:, 0, 2].astype(self._matrix.result)

    def _least_of(self, axis: int, name: str) -> Any:
        this: Any = self._along(axis, name)
        if this.shape[1] == 0:
            raise ValueError(f"gf.Pairwise: the least of no points: the matrix has shape {this.shape} along that axis")
        return this._tree(this._blocks(_least, {"k": 1, "of": 3}), functools.partial(_first, 1))

    def kneighbors(self, k: int) -> tuple[Any, Any]:
        """The k nearest points of the second set to each of the first: values and numbers."""
        where, n = "gf.Pairwise.kneighbors", self.shape[1]
        if isinstance(k, bool) or not isinstance(k, (int, np.integer)) or not 1 <= k <= n:
            raise ValueError(f"{where}: k must be an int from 1 to {n}, the number of points, got {k!r}")
        if not self._matrix.root:
            raise ValueError(f"{where}: the weights are not positive definite: there is no nearest point")
        k = int(k)
        found = self._tree(
            self._blocks(functools.partial(_nearest, k), {"k": k, "of": 3}), functools.partial(_first, k)
        )
        return found[..., 2].astype(self._matrix.result), found[..., 1].astype(np.int64)


def matrix_of(p: Pairwise) -> Matrix:
    """What a matrix of points of NumPy is."""
    _, x, _, result, weights, root, length = p._of
    return Matrix(str(x.dtype), result, weights, root, length, p._function, p._scale)


def _squares(p: Pairwise, numbers: Any) -> Any:
    """(m, k) squared distances, float64, to points by number."""
    _, of, _ = p._mode()
    with np.errstate(invalid="ignore", over="ignore"):  # of infinities
        u = of.x[0][:, None].astype(np.float64) - of.y[0][np.maximum(numbers, 0)].astype(np.float64)
        return np.where(numbers < 0, np.inf, (u * u).sum(-1))


def _packed(keys: Any, numbers: Any, values: Any, first: int, k: int) -> Any:
    """(m, 1, k, 3), filled up with neighbours that there are not."""
    out = np.empty((len(keys), 1, k, 3))
    out[...] = NONE
    here = keys.shape[1]
    out[:, 0, :here] = np.stack([keys, np.where(numbers < 0, -1, numbers + first), values], -1)
    return out


def _added(of: Any, axis: Any, keepdims: Any) -> Any:
    of = of[0] if isinstance(of, list) and len(of) == 1 else of
    out = added(of)
    return out[None] if keepdims else out


def _least(p: Pairwise, first: int) -> Any:
    m, n = p.shape
    if 0 in (m, n):
        return np.full((m, 1, 1, 3), NONE)
    numbers, values = p.argmin(1)[:, None], np.asarray(p.min(1), np.float64)[:, None]
    # by squares, as in memory: roots of two of them may be rounded to one number
    exact = p._of[5] and p._function in RISING and p._scale > 0
    return _packed(_squares(p, numbers) if exact else values, numbers, values, first, 1)


def _nearest(k: int, p: Pairwise, first: int) -> Any:
    m, n = p.shape
    if 0 in (m, n):
        return np.full((m, 1, k, 3), NONE)
    values, numbers = p.kneighbors(min(k, n))
    return _packed(_squares(p, numbers), numbers, np.asarray(values, np.float64), first, k)


def _first(k: int, x: Any, axis: Any, keepdims: Any) -> Any:
    """The first k of several lists of neighbours, each in order; of equals those of the first list."""
    x = x[0] if isinstance(x, list) and len(x) == 1 else x
    flat = x.reshape(len(x), x.shape[1] * x.shape[2], 3)
    order = np.lexsort((flat[..., 0], flat[..., 1] < 0), axis=-1)[:, :k]
    out = np.take_along_axis(flat, order[..., None], 1)
    return out[:, None] if keepdims else out


def _logsumexp(x: Any, axis: Any, keepdims: Any) -> Any:
    x = x[0] if isinstance(x, list) and len(x) == 1 else x
    top = x.max(1, keepdims=True, initial=-np.inf)
    shift = np.where(np.isfinite(top), top, 0.0)
    with np.errstate(divide="ignore", over="ignore"):
        out = shift + np.log(np.exp(x - shift).sum(1, keepdims=True))
    return out if keepdims else out[:, 0]


def pairwise(f: Callable[..., Any], given: Given) -> LazyPairwise:
    """The matrix, lazily twice over."""
    where = "gf.pairwise"
    for name in ("cov", "precision", "length"):
        if is_lazy(given.get(name)):
            raise TypeError(f"{where}: {name} is of dask, but is needed by every pair: call {name}.compute() first")
    (x,), _ = _coordinates(given["x"], where, "x")
    (y,), _ = ([x], 0) if given.get("y") is None else _coordinates(given["y"], where, "y")
    few = {"x": np.zeros((0, *x.shape[1:]), x.dtype), "y": np.zeros((0, *y.shape[1:]), y.dtype)}
    return LazyPairwise(x, y, matrix_of(f(**few, **_others(given, "x", "y"))))  # its errors, before anything is read


def beside(p: Pairwise) -> LazyPairwise:
    """The matrix of points of NumPy, for a product with an array of dask."""
    F, x, y, *_ = p._of
    if F.name != "numpy":
        raise TypeError(f"gf.Pairwise @: v is of dask, but the points of {F.name}: call v.compute() first")
    return LazyPairwise(dask().from_array(x[0], chunks=-1), dask().from_array(y[0], chunks=-1), matrix_of(p))


TABLE: dict[str, Callable[..., Any]] = {"pairwise": pairwise}
