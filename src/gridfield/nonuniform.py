"""Nufft: the non-uniform FFT of some points as a linear operator, with its normal equations and their solution."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from math import pi, prod
from typing import Any

import numpy as np
import scipy.fft

from . import check, dispatch
from .arguments import COUNT, SIZE, per_axis
from .cpu import toeplitz
from .cpu.kept import Store, kept
from .extras import bar
from .linear import Map, Operator, conjugate_gradients
from .nufft import _complex, _fits, _modes, _options, _points, _values, nufft1, nufft2
from .ops import recipe, static
from .window import BEST


class Nufft(Operator):
    """Sums of waves at points, as a linear operator A: ``A(modes)`` is ``gf.nufft2(points, modes)``.

    ``A(m)[j] = sum_k m[k] exp(sign i 2 pi k . points[j] / period)``. In MRI, points are the trajectory and modes the
    pixels of the image.

    Parameters
    ----------
    points : array, shape (N, ndim) or (*batch, N, ndim)
        Coordinates. An array of NumPy is copied. A tensor is kept as it is: derivatives in it are followed, and so are
        its changes in place, as far as torch counts them (not those through ``.data``, or an array that shares memory).
    shape : int or tuple of int
        Number of modes along each axis.
    eps : float, default 1e-6
        Relative error, as for `gridfield.nufft1`.
    sign : {1, -1}, default 1
        Of the exponent.
    modes_order : {"centered", "fft"}, default "centered"
        Frequency 0 in the middle, or first.
    period : float or one per axis, default 2 pi
        After which the points repeat.

    Attributes
    ----------
    points : array
        The points.
    shape : tuple of int
        Of the modes.
    H, T : Operator
        The conjugate transpose and the transpose.

    Raises
    ------
    ValueError, TypeError
        As `gridfield.nufft1`.

    Notes
    -----
    What depends on the points alone, where they lie and in which order to take them, is worked out in the first call
    and kept (NumPy, tensors of torch on the CPU). Several threads can call one operator; pickled, it is its arguments.

    It is an operator of any framework: build it inside of what is differentiated or compiled. That of an array of JAX
    is a pytree, whose one leaf is `points`, so it can also be an argument there. Operators are added
    (``A + B``), composed (``A @ B``), and multiplied by numbers and arrays (``w * A``, ``A * w``).

    Examples
    --------
    >>> import gridfield as gf, numpy as np
    >>> points = np.random.default_rng(0).uniform(-np.pi, np.pi, (500, 2))
    >>> op = gf.Nufft(points, (8, 8), eps=1e-9)
    >>> modes = np.zeros((8, 8))
    >>> modes[5, 2] = 1  # the wave exp(i (x - 2 y))
    >>> values = op(modes)
    >>> values.shape, op.adjoint(values).shape
    ((500,), (8, 8))
    >>> bool(np.allclose(op.normal(modes), op.adjoint(values)))
    True
    >>> bool(np.allclose(op.solve(values), modes, atol=1e-5))
    True
    """

    def __init__(
        self,
        points: Any,
        shape: Any,
        *,
        eps: float = 1e-6,
        sign: int = 1,
        modes_order: str = "centered",
        period: Any = 2 * pi,
    ) -> None:
        where = "gf.Nufft"
        F = self._face = dispatch.face(where, points=points)
        points, self._batch, self._ndim = _points(F, points, where)
        if F.dtype(points) in check.HALF:
            raise TypeError(f"{where}: points has dtype {F.dtype(points)}; complex numbers need float32 or float64")
        self._dtype = check.compute_dtype(F.dtype(points), F.dtype(points), where)
        self.points = _own(points) if isinstance(points, np.ndarray) else points  # NumPy does not say when it changes
        self.shape = per_axis(where, "shape", shape, self._ndim, SIZE)
        self._eps, self._sign, self._order, self._period = _options(
            eps, sign, modes_order, period, self._ndim, self._dtype, where
        )
        _fits(*self._fitted(self.shape), where)
        self._forget()
        F.as_tree(Nufft)

    def _fitted(self, shape: tuple[int, ...]) -> tuple[Any, ...]:
        """What the grid for modes of a shape depends on."""
        F, points = self._face, self.points
        return shape, self._eps, self._dtype, F.followed(points), F.known(F.shape(points)[-2])

    def _forget(self) -> None:
        """What was worked out."""
        self._spectra: dict[Any, Any] = {}
        self._kept: tuple[Any, Store] | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Without what can be worked out again."""
        return {**self.__dict__, "_face": None, "_spectra": {}, "_kept": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._face = dispatch.face("gf.Nufft", points=self.points)
        self._face.as_tree(Nufft)
        if isinstance(self.points, np.ndarray):
            self.points.setflags(write=False)

    def _flattened(self) -> tuple[tuple[Any], Any]:
        """For JAX: the points, and what is static."""
        return (self.points,), (self.shape, self._ndim, self._dtype, self._eps, self._sign, self._order, self._period)

    @classmethod
    def _unflattened(cls, static: Any, leaves: Any) -> Nufft:
        """For JAX, which also puts things other than arrays in place of the points."""
        op = cls.__new__(cls)
        (op.points,) = leaves
        op.shape, op._ndim, op._dtype, op._eps, op._sign, op._order, op._period = static
        op._face = dispatch.face("gf.Nufft", points=op.points)
        op._batch = tuple(getattr(op.points, "shape", ())[:-2])
        op._forget()
        return op

    def __repr__(self) -> str:
        points = tuple(getattr(self.points, "shape", ()))
        return f"Nufft({points} points, {self.shape}, eps={self._eps:g}, sign={self._sign:+d})"

    @recipe
    def __call__(self, modes: Any) -> Any:
        """A modes: (*batch, *shape) -> (*batch, N)."""
        check.trailing(np.shape(modes), self.shape, "modes", "the shape", "gf.Nufft")
        how = {"eps": self._eps, "sign": self._sign, "modes_order": self._order, "period": self._period}
        with self._places():
            return nufft2(self.points, modes, **how)

    @recipe
    def adjoint(self, y: Any) -> Any:
        """The conjugate transpose: type 1, with the other sign.

        Parameters
        ----------
        y : array, shape (*batch, N)
            Values at the points.

        Returns
        -------
        array, shape (*batch, *shape)
            ``sum_j y[j] exp(-sign i 2 pi k . points[j] / period)``.
        """
        how = {"eps": self._eps, "sign": -self._sign, "modes_order": self._order, "period": self._period}
        with self._places():
            return nufft1(self.points, y, self.shape, **how)

    def _places(self) -> Any:
        """A block in which the points are not located and sorted again, unless they have changed."""
        points = self.points
        version = 0 if isinstance(points, np.ndarray) else self._face.version(points)
        if version is None or self._face.dtype(points) != self._dtype:  # else the kernels get copies
            return nullcontext()
        if self._kept is None or self._kept[0] != version:
            self._kept = version, Store()
        return kept(self._kept[1])

    @recipe
    def normal(self, modes: Any, weights: Any = None) -> Any:
        """A^H W A modes, by two FFTs, whatever the number of points.

        The matrix depends on ``k - k'`` alone: it is a convolution with ``sum_j w[j] exp(-sign i k . points[j])``.
        Where derivatives in the points are followed it is ``adjoint(weights * A(modes))`` instead.

        Parameters
        ----------
        modes : array, shape (*batch, *shape)
            Real or complex.
        weights : array, shape (N,) or (*batch, N), optional
            Real; 1 by default, for which the convolution is worked out once.

        Returns
        -------
        array, shape (*batch, *shape)
            Complex.

        References
        ----------
        J. A. Fessler et al., "Toeplitz-based iterative image reconstruction for MRI with correction for magnetic field
        inhomogeneity", IEEE Trans. Signal Process. 53 (2005), 3393-3402.
        """
        F, where = self._face, "gf.Nufft.normal"
        dispatch.face(where, points=self.points, modes=modes)
        modes, _, _ = _modes(F, modes, self.points, self._batch, self._ndim, where)
        check.trailing(modes.shape, self.shape, "modes", "the shape", where)
        return self._normal(self._checked(weights, where))(modes)

    @recipe
    def density_weights(self, iterations: int = 20) -> Any:
        """Weights of the points that undo their density.

        ``A^H W A`` is then near the identity where there are points enough, so that ``adjoint(w * values)`` is near
        the modes. By ``w <- w / |K w|``, where ``K[i, j]`` is the Fejer kernel ``sum_k prod_a (1 - |k_a| / n_a)
        exp(i 2 pi k . (points[i] - points[j]) / period)``, which is nowhere negative.

        Parameters
        ----------
        iterations : int, default 20
            How often.

        Returns
        -------
        array, shape (*batch, N)
            Positive.

        Raises
        ------
        MemoryError
            If the triangle in twice as many modes along each axis, and their transform, have no room in the memory of
            the machine: nothing is allocated then.

        References
        ----------
        J. G. Pipe, P. Menon, "Sampling density compensation in MRI: rationale and an iterative numerical solution",
        Magn. Reson. Med. 41 (1999), 179-186.

        Examples
        --------
        >>> import gridfield as gf, numpy as np
        >>> points = np.linspace(-np.pi, np.pi, 8, endpoint=False)[:, None]
        >>> gf.Nufft(points, 8).density_weights().round(5)  # evenly spread
        array([0.125, 0.125, 0.125, 0.125, 0.125, 0.125, 0.125, 0.125])
        """
        where = "gf.Nufft.density_weights"
        (iterations,) = per_axis(where, "iterations", iterations, 1, COUNT)
        F = self._face
        # |A A^H w| would have a Dirichlet kernel, whose negative lobes make weights diverge; its square has none.
        # That is a triangle in twice as many modes, of the same integral.
        wide = tuple(2 * n for n in self.shape)
        # the triangle, as it is made and as it is used, and the modes of each item before and after it
        _fits(*self._fitted(wide), where, 2 + 2 * prod(n for n in self._batch if isinstance(n, int)))
        w = self._ones() / prod(self.shape)
        triangle: Any = 1.0
        for n in self.shape:
            triangle = np.multiply.outer(triangle, 1 - np.abs(np.arange(-n, n)) / n)
        triangle = F.constant(triangle, "complex64" if self._dtype == "float32" else "complex128", self.points)
        how = {"eps": self._eps, "period": self._period}
        for _ in range(iterations):
            with self._places():
                again = F.as_real(nufft2(self.points, triangle * nufft1(self.points, w, wide, **how), **how))
            size = (again[..., 0] ** 2 + again[..., 1] ** 2) ** 0.5
            w = w / F.where(size > 0, size, size * 0 + 1)
        return w

    @recipe
    def solve(
        self,
        values: Any,
        *,
        weights: Any = None,
        damping: Any = 0.0,
        sense_maps: Any = None,
        iterations: int = 100,
        tol: float | None = None,
        progress: bool = False,
    ) -> Any:
        """Modes that have these values at the points, in the sense of least squares.

        ``argmin_m sum_j w[j] |A(m)[j] - values[j]|**2 + damping |m|**2``, by conjugate gradients on
        ``(A^H W A + damping) m = A^H W values``. With coils c of sensitivity S_c, ``sum_c |A(S_c m) - values_c|**2``.

        Parameters
        ----------
        values : array, shape (*batch, N), with coils (*batch, coils, N)
            Real or complex.
        weights : array, shape (N,) or (*batch, N), optional
            Real and not negative, as those of `density_weights`; 1 by default.
        damping : float or array without axes, default 0
            Added to the diagonal of A^H W A, all of which is the sum of the weights. Derivatives go through an array.
        sense_maps : array, shape (coils, *shape), optional
            Sensitivities of coils (SENSE).
        iterations : int, default 100
            At most; where a compiler traces, so many.
        tol : float, optional
            Relative residual of the normal equations to stop at; by default eps.
        progress : bool, default False
            Show a progress bar (needs tqdm).

        Returns
        -------
        array, shape (*batch, *shape)
            Complex. Derivatives go through the iterations.

        Raises
        ------
        ValueError, TypeError
            If shapes, types, devices or frameworks do not fit together, or weights, damping or tol are negative.

        References
        ----------
        K. P. Pruessmann et al., "Advances in sensitivity encoding with arbitrary k-space trajectories", Magn. Reson.
        Med. 46 (2001), 638-651.

        Examples
        --------
        >>> import gridfield as gf, numpy as np
        >>> rng = np.random.default_rng(0)
        >>> op = gf.Nufft(rng.uniform(-np.pi, np.pi, (40, 1)), 64)  # fewer points than modes
        >>> image, maps = rng.normal(size=64), rng.normal(size=(4, 64))  # but four coils
        >>> found = op.solve(op(maps * image), sense_maps=maps, iterations=1000, tol=1e-9)
        >>> bool(np.allclose(found, image, atol=1e-3))
        True
        """
        where, F = "gf.Nufft.solve", self._face
        dispatch.face(where, points=self.points, values=values)
        tol = check.number(self._eps if tol is None else tol, "tol", where)
        damped = self._damped(damping, where)
        if tol < 0:
            raise ValueError(f"{where}: tol must not be negative, got {tol:g}")
        (iterations,) = per_axis(where, "iterations", iterations, 1, COUNT)
        check.flag(progress, "progress", where)
        values, _, lead = _values(F, values, self.points, self.points, where)
        weights = self._checked(weights, where)
        known = None if weights is None else F.concrete(weights)
        if known is not None and not (known >= 0).all():
            raise ValueError(f"{where}: weights must not be negative or NaN, got {known[~(known >= 0)][0]:g}")
        normal, right = self._normal(weights), self.adjoint(self._weighted(values, weights))
        items = [*self._batch, *lead]
        if sense_maps is not None:
            dispatch.face(where, points=self.points, sense_maps=sense_maps)
            maps, _ = _complex(F, sense_maps, self.points, "sense_maps", where)
            if tuple(maps.shape[1:]) != self.shape or not lead or lead[-1] != maps.shape[0]:
                raise ValueError(
                    f"{where}: sense_maps has shape {tuple(maps.shape)} but must be (coils, *{self.shape}), with as "
                    f"many coils as values, of shape {tuple(values.shape)}, has along the axis before the points"
                )
            items, one = items[:-1], normal
            coils, size, count = maps.shape[0], prod(self.shape), prod(items)
            flat = F.reshape(maps, (coils, size))

            def combined(y: Any) -> Any:
                y = F.einsum("bcm,cm->bm", F.reshape(y, (count, coils, size)), F.conj(flat))
                return F.reshape(y, (*items, *self.shape))

            def normal(m: Any) -> Any:
                each = F.einsum("bm,cm->bcm", F.reshape(m, (count, size)), flat)
                return combined(one(F.reshape(each, (*items, coils, *self.shape))))

            right = combined(right)
        total = len(items)
        with bar(progress, "solve") as tick:
            return conjugate_gradients(F, damped(normal), right, total, iterations, tol, tick)

    def _damped(self, damping: Any, where: str) -> Callable[[Map], Map]:
        """normal -> normal + damping: a number, or an array without axes, through which derivatives go."""
        F = self._face
        if dispatch.face(where, damping=damping) is dispatch.of("numpy"):
            number = check.number(damping, "damping", where)
            known = np.asarray(number)
        else:
            dispatch.face(where, points=self.points, damping=damping)
            number = F.astype(F.array(damping), self._dtype)
            if len(number.shape):
                raise ValueError(f"{where}: damping has shape {tuple(number.shape)} but must be one number")
            known = F.concrete(number)
        if known is not None and not known >= 0:
            raise ValueError(f"{where}: damping must not be negative, got {float(known):g}")
        if isinstance(number, float):
            return lambda normal: (lambda m: normal(m) + number * m) if number else normal
        return lambda normal: lambda m: normal(m) + F.as_complex(F.as_real(m) * number)

    # ---- the convolution of the normal equations
    def _normal(self, weights: Any) -> Any:
        """A^H W A, its convolution worked out."""
        if self._face.followed(self.points):
            return lambda modes: self.adjoint(self._weighted(self(modes), weights))
        spectrum = self._spectrum(weights)
        return lambda modes: self._convolved(modes, spectrum)

    def _spectrum(self, weights: Any) -> Any:
        """FFT of ``sum_j w[j] exp(-sign i k . points[j])``, of as many k as there are k - k': a real array."""
        F = self._face
        kept = _version(self.points)
        if weights is None and kept in self._spectra:
            return self._spectra[kept]
        w = self._ones() if weights is None else weights
        sizes = lags_of(self.shape)
        eps = max(self._eps / 10, BEST[self._dtype])
        lags = nufft1(self.points, w, sizes, eps=eps, sign=-self._sign, modes_order="fft", period=self._period)
        for axis, n in enumerate(sizes, start=len(lags.shape) - self._ndim):
            lags = F.fft(lags, n, axis)
        spectrum = F.as_real(lags)[..., 0]  # of lags that are conjugate for k and -k it is real but for rounding
        if weights is None and F.concrete(spectrum) is not None:
            self._spectra = {kept: spectrum}
        return spectrum

    def _convolved(self, x: Any, spectrum: Any) -> Any:
        """Zero-padded, multiplied, cropped.

        Where something traces or follows, by the framework's FFT, an axis at a time, so that zeros are not transformed.
        """
        F, nd = self._face, self._ndim
        known = F.at_hand(spectrum) if nd > 1 else None
        if known is not None:
            shape, count = x.shape, prod(self._batch)
            known = known.reshape(count, *known.shape[known.ndim - nd :])

            def convolved(modes: Any) -> Any:
                modes = modes.reshape(count, prod(shape[len(self._batch) : len(shape) - nd]), *self.shape)
                return toeplitz.convolve(modes, known, self._order == "centered").reshape(shape)

            out = F.linear(convolved, convolved, x)
            if out is not None:
                return out
        axes = range(len(x.shape) - nd, len(x.shape))
        sizes, halves = spectrum.shape[len(spectrum.shape) - nd :], tuple(n // 2 for n in self.shape)
        if self._order == "fft":
            x = F.roll(x, halves, tuple(axes))
        for axis, size in zip(axes, sizes, strict=True):
            x = F.fft(x, size, axis)
        between = len(x.shape) - len(spectrum.shape)
        spectrum = F.reshape(spectrum, (*self._batch, *(1,) * between, *sizes, 1))
        x = F.as_complex(F.as_real(x) * spectrum)
        for axis, size, n in reversed(list(zip(axes, sizes, self.shape, strict=True))):  # the largest along rows
            x = F.ifft(x, size, axis)[(slice(None),) * axis + (slice(n),)]
        return F.roll(x, tuple(-h for h in halves), tuple(axes)) if self._order == "fft" else x

    # ---- weights
    def _ones(self) -> Any:
        """A 1 for each point."""
        F = self._face
        return F.astype(self.points[..., 0] * 0 + 1, self._dtype)

    def _checked(self, weights: Any, where: str) -> Any:
        """Real weights of the points, (*batch, N)."""
        F = self._face
        if weights is None:
            return None
        dispatch.face(where, points=self.points, weights=weights)
        weights = check.array(F, weights, "weights", where)
        if F.dtype(weights) in check.REAL:
            raise TypeError(f"{where}: weights has dtype {F.dtype(weights)} but must be real")
        check.compute_dtype(F.dtype(weights), F.dtype(self.points), where, "weights")
        expected = tuple(self.points.shape[:-1])
        if not check.same(tuple(weights.shape), expected) and not check.same(tuple(weights.shape), expected[-1:]):
            raise ValueError(f"{where}: weights has shape {tuple(weights.shape)} but must be {expected}, as the points")
        return F.broadcast_to(F.astype(weights, self._dtype), F.shape(self.points)[:-1])

    def _weighted(self, values: Any, weights: Any) -> Any:
        F = self._face
        if weights is None:
            return values
        between = len(values.shape) - len(weights.shape)
        w = F.reshape(weights, (*self._batch, *(1,) * between, F.shape(weights)[-1], 1))
        return F.as_complex(w * F.as_real(values))


@static
def fast(size: int) -> int:
    """A size that is not less, and quick to transform."""
    return scipy.fft.next_fast_len(size) or size


@static
def lags_of(shape: tuple[int, ...]) -> tuple[int, ...]:
    """At least as many along each axis as there are differences k - k', and quick to transform."""
    return toeplitz.sizes(shape) if len(shape) > 1 else tuple(fast(2 * n - 1) for n in shape)


def _own(points: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """A copy that nobody changes."""
    points = np.array(points, order="C")
    points.setflags(write=False)
    return points


def _version(points: Any) -> Any:
    """Changes when a tensor is changed in place."""
    try:
        return points._version
    except (AttributeError, RuntimeError):  # no tensor; one of inference mode
        return None
