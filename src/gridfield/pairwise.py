"""pairwise: the matrix of a function of the distances of two sets of points, which is never formed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from . import check, dispatch
from .cpu import distance as cpu
from .distance import points, rooted, squares
from .ops import Face, recipe
from .radial import FUNCTIONS, radial
from .weighting import Coordinates, Weights, apply, apply_numbers, has_root, weights

Array = np.ndarray[Any, Any]

ROWS, COLUMNS = 256, 4096  # of a tile that a callable gets: 8 MB in float64
RISING = ("distance", "squared", "multiquadric")  # least where the distance is


@recipe
def pairwise(
    x: Any,
    y: Any = None,
    function: str | Callable[[Any], Any] = "distance",
    *,
    cov: Any = None,
    precision: Any = None,
    length: Any = 1.0,
) -> Pairwise:
    """The matrix ``f(|x_i - y_j|)`` of all pairs of points, lazily: only what is asked of it is computed, in tiles.

    Parameters
    ----------
    x : array, shape (m, d)
        Points.
    y : array, shape (n, d), optional
        Other points. Default: `x` (each point is then its own nearest neighbour).
    function : str or callable, default "distance"
        With r the distance divided by `length`: "distance" r, "squared" r², "inverse" 1/r (0 at r = 0), "multiquadric"
        sqrt(1 + r²), "inverse_multiquadric" 1/sqrt(1 + r²), "cauchy" 1/(1 + r²), "gaussian" exp(-r²/2), "exponential"
        exp(-r), "matern32", "matern52". Or a function of arrays of r, which gets tiles of the matrix.
    cov, precision : array, shape (d, d) or (d,), optional
        Weights of the distance, as for `cdist`. Those that are not positive definite go with "squared" alone.
    length : float or array, shape (d,), default 1
        Unit of the distance, or of each coordinate.

    Returns
    -------
    Pairwise
        Of shape (m, n), with ``@``, ``sum``, ``logsumexp``, ``min``, ``argmin``, ``kneighbors``, ``map``; it can be
        multiplied by a number. ``.T`` is its transpose.

    Raises
    ------
    ValueError
        If shapes do not fit, the function is unknown, or the weights are singular or not positive definite.
    TypeError
        If points are complex or of different types.

    See Also
    --------
    cdist : The matrix itself.

    Notes
    -----
    Memory is O(m + n), with derivatives too: those of a sum over pairs are such sums again. Derivatives of a
    callable are those of its framework, tile by tile; TensorFlow keeps all tiles for them. Where a function has a kink
    or a pole at r = 0, coincident points contribute nothing to derivatives. Under `torch.compile`, `argmin`, `min` and
    `kneighbors` break the graph.

    References
    ----------
    Charlier, B., Feydy, J., Glaunès, J. A., Collin, F.-D., Durif, G., "Kernel operations on the GPU, with
    autodiff, without memory overflows", Journal of Machine Learning Research 22 (2021) 1-6.

    Examples
    --------
    >>> import gridfield as gf, numpy as np
    >>> x, y = np.array([[0.0, 0.0], [3.0, 0.0]]), np.array([[3.0, 4.0], [1.0, 0.0], [4.0, 0.0]])
    >>> gf.pairwise(x, y).argmin(1)
    array([1, 2])
    >>> gf.pairwise(x, y).kneighbors(2)
    (array([[1., 4.],
           [1., 2.]]), array([[1, 2],
           [2, 1]]))
    >>> gf.pairwise(x, y, "gaussian", length=2.0) @ np.ones(3)
    array([1.06176912, 1.62436285])
    """
    where = "gf.pairwise"
    named = (("x", x), ("y", y), ("cov", cov), ("precision", precision))
    F = dispatch.face(where, **{name: a for name, a in named if a is not None})
    x, y, result, _, _ = points(F, x, y, where, batches=False)
    w = weights(F, cov, precision, x.shape[-1], where)
    _known_function(function, where)
    root = has_root(w, function == "squared", where) if w else True
    if isinstance(length, (int, float, np.number)):
        length = check.number(length, "length", where)
        if not 0 < length < float("inf"):
            raise ValueError(f"{where}: length must be positive and finite, got {length}")
    else:
        length = F.astype(check.array(F, length, "length", where), F.dtype(x))
        if tuple(length.shape) not in ((), (x.shape[-1],)):
            raise ValueError(
                f"{where}: length has shape {tuple(length.shape)} but must be a number or one for each of the "
                f"{x.shape[-1]} coordinates"
            )
        known = F.at_hand(F.fixed(length))
        if known is not None and not ((known > 0) & (known < np.inf)).all():
            raise ValueError(f"{where}: length must be positive and finite, got {known}")
    return Pairwise(F, x, y, result, w, root, length, function, 1.0)


def _known_function(function: Any, where: str) -> None:
    if not callable(function) and not (isinstance(function, str) and function in FUNCTIONS):
        raise ValueError(f"{where}: function must be callable or one of {', '.join(FUNCTIONS)}; got {function!r}")


class Pairwise:
    """The matrix of a function of the distances of all pairs of points, never formed. Made by `pairwise`.

    Parameters
    ----------
    F, x, y, result, w, root, length, function, scale
        What `pairwise` has checked; call that.

    Examples
    --------
    >>> import gridfield as gf, numpy as np
    >>> p = gf.pairwise(np.eye(2), function="squared")
    >>> p
    <gf.Pairwise (2, 2), squared, float64>
    >>> (-p / 2).logsumexp(1)
    array([0.31326169, 0.31326169])
    """

    def __init__(
        self,
        F: Face,
        x: Any,
        y: Any,
        result: str,
        w: Weights | None,
        root: bool,
        length: Any,
        function: Any,
        scale: float,
    ) -> None:
        self._of = F, x, y, result, w, root, length
        self._function, self._scale = function, scale
        self._cache: dict[str, Any] = {}

    def __repr__(self) -> str:
        name = self._function if isinstance(self._function, str) else getattr(self._function, "__name__", "function")
        scale = "" if self._scale == 1 else f"{self._scale:g} times "
        return f"<gf.Pairwise {self.shape}, {scale}{name}, {self._of[3]}>"

    @property
    def shape(self) -> tuple[int, int]:
        """(m, n)."""
        return self._of[1].shape[1], self._of[2].shape[1]

    @property
    def T(self) -> Pairwise:
        """The transpose."""
        F, x, y, result, w, root, length = self._of
        return Pairwise(F, y, x, result, w, root, length, self._function, self._scale)

    def map(self, function: str | Callable[[Any], Any], *, length: Any = None) -> Pairwise:
        """Another function of the same distances (see `pairwise`); what it was multiplied by is dropped.

        Parameters
        ----------
        function : str or callable
            As for `pairwise`.
        length : float, optional
            Unit of the distance. Default: as before.

        Returns
        -------
        Pairwise

        Raises
        ------
        ValueError
            If the function is unknown, or the weights do not go with it.

        Examples
        --------
        >>> import gridfield as gf, numpy as np
        >>> gf.pairwise(np.eye(2)).map("gaussian", length=2.0)
        <gf.Pairwise (2, 2), gaussian, float64>
        """
        F, x, y, result, w, root, of_old = self._of
        _known_function(function, "gf.Pairwise.map")
        if w is not None:
            root = has_root(w, function == "squared", "gf.Pairwise.map")
        if length is not None:
            if not np.all(np.asarray(check.number(length, "length", "gf.Pairwise.map")) > 0):
                raise ValueError(f"gf.Pairwise.map: length must be positive, got {length}")
            of_old = float(length)
        return Pairwise(F, x, y, result, w, root, of_old, function, 1.0)

    def __mul__(self, factor: Any) -> Pairwise:
        factor = check.number(factor, "factor", "gf.Pairwise")
        return Pairwise(*self._of, self._function, self._scale * factor)

    __rmul__ = __mul__

    def __truediv__(self, divisor: Any) -> Pairwise:
        return self * (1 / check.number(divisor, "divisor", "gf.Pairwise"))

    def __neg__(self) -> Pairwise:
        return self * -1.0

    # ---- what is computed
    @recipe
    def __matmul__(self, v: Any) -> Any:
        """The product with v, shape (n,) or (n, channels)."""
        where, F = "gf.Pairwise @", self._of[0]
        if dispatch.face(where, x=self._of[1], v=v) is not F:
            raise TypeError(f"{where}: v is not of the framework of the points")
        v = check.array(F, v, "v", where)
        if len(v.shape) not in (1, 2) or not check.same((v.shape[0],), (self.shape[1],)):
            raise ValueError(
                f"{where}: v has shape {tuple(v.shape)} but the matrix is {self.shape}: expected (n,) or (n, c)"
            )
        if F.dtype(v) in check.REAL or not check.is_number(F.dtype(v)):
            raise TypeError(f"{where}: v has dtype {F.dtype(v)} but must be real")
        v = F.astype(v, F.dtype(self._of[1]))
        G, of, back = self._mode(v)
        single = len(v.shape) == 1
        u = v if G is F else F.at_hand(v)
        u = G.reshape(u, (1, *G.shape(u), *([1] if single else [])))
        out = self._product(G, of, u)
        return back(out[0, :, 0] if single else out[0])

    @recipe
    def sum(self, axis: int) -> Any:
        """Sums of the rows (axis 1), shape (m,), or of the columns (axis 0), shape (n,).

        Parameters
        ----------
        axis : int
            1 for the rows, 0 for the columns.

        Returns
        -------
        array, shape (m,) or (n,)

        Raises
        ------
        ValueError
            If there is no such axis.

        Examples
        --------
        >>> import gridfield as gf, numpy as np
        >>> gf.pairwise(np.array([[0.0], [3.0]]), np.array([[1.0], [5.0]])).sum(1)
        array([6., 4.])
        """
        this = self._along(axis, "sum")
        G, of, back = this._mode()
        one = G.broadcast_to(G.constant(np.ones((1, 1, 1)), G.dtype(of.y), of.y), (1, G.shape(of.y)[1], 1))
        return back(this._product(G, of, one)[0, :, 0])

    @recipe
    def logsumexp(self, axis: int) -> Any:
        """log of the sums of exp of the rows (axis 1) or the columns (axis 0); nothing overflows.

        Parameters
        ----------
        axis : int
            1 for the rows, 0 for the columns.

        Returns
        -------
        array, shape (m,) or (n,)

        Raises
        ------
        ValueError
            If there is no such axis.

        Examples
        --------
        >>> import gridfield as gf, numpy as np
        >>> gf.pairwise(np.array([[0.0], [3.0]]), np.array([[1.0], [5.0]])).logsumexp(1).round(3)
        array([5.018, 2.693])
        """
        this = self._along(axis, "logsumexp")
        G, of, back = this._mode()
        name, scale = this._function, this._scale
        if of.b is not None or name not in ("distance", "squared") or not scale < 0:
            return back(this._tiled_logsumexp(G, of))
        unit = (-scale) ** (0.5 if name == "squared" else 1.0)
        x, y = of.x * unit, of.y * unit
        least = G.least(G.fixed(x), G.fixed(y), radial("squared"))
        offset = -(least if name == "squared" else G.sqrt(least))
        offset = G.fixed(G.where(offset > -np.inf, offset, 0.0))
        one = G.broadcast_to(G.constant(np.ones((1, 1, 1)), G.dtype(y), y), (1, G.shape(y)[1], 1))
        total = G.shifted(x, y, one, offset, radial(f"exp(-{name})", "rows"))
        return back((offset + _log(G, total[:, :, 0]))[0])

    @recipe
    def argmin(self, axis: int) -> Any:
        """Where the least of each row is (axis 1), or of each column (axis 0); of equals the first. -1: all are NaN.

        Parameters
        ----------
        axis : int
            1 for the rows, 0 for the columns.

        Returns
        -------
        array, shape (m,) or (n,)

        Raises
        ------
        ValueError
            If there is no such axis, or nothing along it.

        Examples
        --------
        >>> import gridfield as gf, numpy as np
        >>> gf.pairwise(np.array([[0.0], [3.0]]), np.array([[1.0], [5.0]])).argmin(1)
        array([0, 0])
        """
        this = self._along(axis, "argmin")
        G, of, _ = this._mode()
        return this._indices(G, this._least(G, of)[0])

    @recipe
    def min(self, axis: int) -> Any:
        """The least of each row (axis 1), or of each column (axis 0); NaN where all are.

        Parameters
        ----------
        axis : int
            1 for the rows, 0 for the columns.

        Returns
        -------
        array, shape (m,) or (n,)

        Raises
        ------
        ValueError
            If there is no such axis, or nothing along it.

        Examples
        --------
        >>> import gridfield as gf, numpy as np
        >>> gf.pairwise(np.array([[0.0], [3.0]]), np.array([[1.0], [5.0]])).min(1)
        array([1., 2.])
        """
        this = self._along(axis, "min")
        G, of, back = this._mode()
        where, least = this._least(G, of)
        return back(this._there(G, of, where[:, None])[:, 0] if least is None else least)

    @recipe
    def kneighbors(self, k: int) -> tuple[Any, Any]:
        """The k nearest points of the second set to each of the first, by distance, whatever the function.

        Parameters
        ----------
        k : int
            How many, from 1 to n.

        Returns
        -------
        values : array, shape (m, k)
            The function at these pairs: distances, in order, unless another function was asked for.
        indices : array of int, shape (m, k)
            Numbers of the points; of equals the first come first. -1, and NaN: there is none, as all others are NaN.

        Raises
        ------
        ValueError
            If k is not such a number, or the weights are not positive definite.

        Examples
        --------
        >>> import gridfield as gf, numpy as np
        >>> gf.pairwise(np.array([[0.0], [3.0]]), np.array([[1.0], [5.0]])).kneighbors(1)
        (array([[1.],
               [2.]]), array([[0],
               [0]]))
        """
        where, n = "gf.Pairwise.kneighbors", self.shape[1]
        if isinstance(k, bool) or not isinstance(k, (int, np.integer)) or not 1 <= k <= (n if n is not None else k):
            raise ValueError(f"{where}: k must be an int from 1 to {n}, the number of points, got {k!r}")
        G, of, back = self._mode()
        if of.b is not None:
            raise ValueError(f"{where}: the weights are not positive definite: there is no nearest point")
        (indices,) = G.outside(
            lambda x, y: (_neighbours(x, y, int(k)),), [(self.shape[0], int(k))], *self._whole(G), of.x, of.y
        )
        return back(self._there(G, of, indices)), self._indices(G, indices)

    # ---- how
    def _along(self, axis: Any, name: str) -> Pairwise:
        if axis not in (0, 1, -1, -2) or isinstance(axis, bool):
            raise ValueError(
                f"gf.Pairwise.{name}: axis must be 1 (along the rows) or 0 (along the columns), got {axis!r}"
            )
        return self if axis in (1, -1) else self.T

    def _mode(self, *more: Any) -> tuple[Face, Coordinates, Callable[[Any], Any]]:
        """The face that computes (NumPy's where nothing follows), the points in its arrays, and the way back."""
        F, x, y, result, w, root, length = self._of
        numbers = F.name != "numpy" and (F.followed(x, y, *more) or (w is not None and w.array is not None))
        tensor = not isinstance(length, float)
        if tensor and not numbers and F.name != "numpy":
            numbers = F.followed(length)
        known: list[Any] = [None] if numbers else [F.at_hand(a) for a in (x, y, *more, *([length] if tensor else []))]
        if any(a is None for a in known) or (w is not None and w.known is None):
            of = apply(F, w, root, x, y) if w else Coordinates(x, y)
            return F, _scaled(of, length), lambda out: F.astype(out, result)
        G = dispatch.of("numpy")
        if "numbers" not in self._cache:
            of = apply_numbers(w, root, known[0], known[1]) if w else Coordinates(known[0], known[1])
            self._cache["numbers"] = _scaled(of, known[-1] if tensor else length)
        return G, self._cache["numbers"], lambda out: F.astype(F.constant(np.asarray(out), F.dtype(x), x), result)

    def _whole(self, G: Face) -> tuple[str]:
        return (G.widest("int64"),)

    def _indices(self, G: Face, indices: Any) -> Any:
        """As integers of the user's framework."""
        F = self._of[0]
        return indices if G is F else F.constant(np.asarray(indices), F.widest("int64"), self._of[1])

    def _value(self, G: Face, q: Any) -> Any:
        """The function of squared distances, with derivatives."""
        f: Any = self._function
        y: Any = f(rooted(G, q)) if callable(f) else evaluate(G, f, q)
        return y if self._scale == 1 else y * self._scale

    def _product(self, G: Face, of: Coordinates, v: Any) -> Any:
        if of.b is None and not callable(self._function):
            out = G.interact(of.x, of.y, v, radial(self._function))
            return out if self._scale == 1 else out * self._scale
        if 0 in self.shape:
            shape = 1, self.shape[0], v.shape[2]
            return G.broadcast_to(G.constant(np.zeros((1, 1, 1)), G.dtype(v), v), shape)
        rows = []
        for _, tiles in self._tiles(G, of):
            total = None
            for j, tile in tiles:
                part = G.matmul(tile, v[0, j : j + COLUMNS])
                total = part if total is None else total + part
            rows.append(total)
        return G.concatenate(rows, 0)[None]

    def _tiles(self, G: Face, of: Coordinates) -> Iterator[tuple[int, Iterator[tuple[int, Any]]]]:
        """(first row, (first column, values)), tile by tile; a backward pass computes the values again."""
        m, n = (check.sizes(G.shape(p)[1:2], "the number of points", "gf.Pairwise")[0] for p in (of.x, of.y))
        bilinear = of.b is not None

        def values(*some: Any) -> Any:
            return self._value(G, squares(G, Coordinates(*some)))[0]

        values = G.recomputed(values)

        def row(i: int) -> Iterator[tuple[int, Any]]:
            for j in range(0, n, COLUMNS):
                ends = [slice(i, i + ROWS), slice(j, j + COLUMNS)] * (2 if bilinear else 1)
                arrays = [of.x, of.y, of.b, of.c] if bilinear else [of.x, of.y]
                yield j, values(*(a[:, end] for a, end in zip(arrays, ends, strict=True)))

        for i in range(0, m, ROWS):
            yield i, row(i)

    def _tiled_logsumexp(self, G: Face, of: Coordinates) -> Any:
        if self.shape[1] == 0:
            return G.sum(of.x[0], 1) * 0 - float("inf")
        rows = []
        for _, tiles in self._tiles(G, of):
            parts = [_logsumexp(G, tile) for _, tile in tiles]
            rows.append(_logsumexp(G, G.stack(parts, 1)) if len(parts) > 1 else parts[0])
        return G.concatenate(rows, 0) if rows else of.x[0, :0, 0]

    def _least(self, G: Face, of: Coordinates) -> tuple[Any, Any]:
        """Where the least of each row is, and what it is, unless that is still to be read off (None)."""
        if self.shape[1] == 0:
            raise ValueError(f"gf.Pairwise: the least of no points: the matrix has shape {self.shape} along that axis")
        if of.b is None and self._function in RISING and self._scale > 0:
            (where,) = G.outside(lambda x, y: (_nearest(x, y),), [(self.shape[0],)], *self._whole(G), of.x, of.y)
            return where, None
        rows, lows = [], []
        for _, tiles in self._tiles(G, of):
            low: Any = None
            at: Any = None
            for j, tile in tiles:
                number = tile == tile
                tile = G.where(number, tile, float("inf"))
                here, k = G.amin(tile, 1), G.astype(G.argmin(tile, 1), *self._whole(G)) + j
                k = G.where(G.amax(G.where(number, 1, 0), 1) > 0, k, k * 0 - 1)
                if low is None:
                    low, at = here, k
                else:
                    less = (here < low) | ((at < 0) & (k >= 0))
                    low, at = G.where(less, here, low), G.where(less, k, at)
            rows.append(at)
            lows.append(G.where(at < 0, G.fixed(low) * float("nan"), low))
        if not rows:
            return G.constant(np.zeros(0, np.int64), *self._whole(G), of.x), of.x[0, :0, 0]
        return G.concatenate(rows, 0), G.concatenate(lows, 0)

    def _there(self, G: Face, of: Coordinates, indices: Any) -> Any:
        """(m, k): the function at pairs of each row."""
        none = indices < 0
        near = G.take(of.y[0], G.where(none, indices * 0, indices))
        with np.errstate(invalid="ignore", over="ignore"):  # of infinities
            u = of.x[0][:, None] - near
            q = G.sum(u * u, 2)
        value = self._value(G, q)
        return G.where(none, G.fixed(value) * float("nan"), value)


def _scaled(of: Coordinates, length: Any) -> Coordinates:
    if isinstance(length, float) and length == 1:
        return of
    return Coordinates(*(None if a is None else a / length for a in of))


def _nearest(x: Array, y: Array) -> Array:
    """Indices (m,) of the nearest of y (1, n, d)."""
    if 0 in (x.shape[1], y.shape[1]):
        return np.zeros(x.shape[1], np.int64)
    return _but_infinite(cpu.nearest(cpu.Sets(x[0], y[0], exact=True))[1][:, None], x[0], y[0])[:, 0]


def _neighbours(x: Array, y: Array, k: int) -> Array:
    if x.shape[1] == 0:
        return np.zeros((0, k), np.int64)
    return _but_infinite(cpu.neighbours(cpu.Sets(x[0], y[0], exact=True), k)[1], x[0], y[0])


def _but_infinite(found: Array, x: Array, y: Array) -> Array:
    """With those that the kernel leaves out, as their squares are infinite: the first ones that are no NaN."""
    numbers = np.flatnonzero(~np.isnan(y).any(1))
    for i in np.flatnonzero((found < 0).any(1) & ~np.isnan(x).any(1)):
        with np.errstate(all="ignore"):
            q = np.square(x[i].astype(np.float64) - y[numbers].astype(np.float64)).sum(1)
        order = numbers[np.argsort(q, kind="stable")][: found.shape[1]]
        found[i, : len(order)] = order
    return found


def _logsumexp(G: Face, t: Any) -> Any:
    """Of each row."""
    top = G.fixed(G.amax(t, 1))
    top = G.where((top > -np.inf) & (top < np.inf), top, 0.0)
    return top + _log(G, G.sum(G.exp(t - top[:, None]), 1))


def _log(G: Face, t: Any) -> Any:
    """Of 0 it is minus infinity, without a warning."""
    if G.name != "numpy":
        return G.log(t)
    with np.errstate(divide="ignore"):
        return np.log(t)


def evaluate(G: Face, name: str, q: Any) -> Any:
    """A named function (radial.py) of squared distances, in the functions of a framework."""
    kind, *rest = FUNCTIONS[name]
    if kind == "gauss":
        return G.exp(q * rest[0])
    if kind == "exponential":
        rate, terms = rest
        r = rooted(G, q)
        far, nought = G.fixed(r) == np.inf, G.constant(np.zeros(()), G.dtype(q), q)
        r = G.where(far, nought, r)  # there exp is 0, and a power infinite
        series: Any = 0.0
        for _, c in reversed(terms):  # by Horner; powers 0, 1, ...
            series = series * r + c
        return G.where(far, nought, series * G.exp(r * -rate))
    o, h, _ = rest
    base = q + o
    if h == 2:
        return base
    if h == -2:
        return 1 / base
    root = G.sqrt(base) if o else rooted(G, base)
    if h == 1:
        return root
    if o:
        return 1 / root
    zero, one = G.fixed(q) == 0, G.constant(np.ones(()), G.dtype(q), q)
    return G.where(zero, 0 * one, 1 / G.where(zero, one, root))
