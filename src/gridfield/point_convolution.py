"""PointConvolution: a torch module that learns the kernel with which points are convolved."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from math import pi, prod
from typing import Any

import numpy as np
import torch

from .arguments import SIZE, per_axis
from .cpu.kept import Store, kept
from .faces.numpy import FACE as NUMPY
from .faces.torch import FACE, TENSORS
from .nufft import _options, _points, _text, nufft1, nufft2
from .ops import OPS

Map = Callable[[Any], Any]


class PointConvolution(torch.nn.Module):
    """A learnable convolution of points, at the same or at other points.

    ``result[o, i] = sum_c sum_j kernel[o, c](at[i] - points[j]) values[c, j]`` with the periodic kernels
    ``kernel(r) = 1 / M sum_k fourier_kernel[k] exp(i 2 pi k . r / period)`` of M modes.

    Parameters
    ----------
    shape : int or sequence of int
        Number of modes along each axis.
    channels_in, channels_out : int, default 1
        Values per point.
    real : bool, default True
        Whether values, kernel and result are real. Else they are complex.
    eps : float, default 1e-6
        Relative error of the transforms.
    period : float or one per axis, default 2 pi
        After which everything repeats.
    dtype : torch.dtype, optional
        float32 or float64, of the points; default ``torch.get_default_dtype()``.
    device : torch.device, optional
        Where the parameter is made.

    Attributes
    ----------
    fourier_kernel : torch.nn.Parameter, shape (channels_out, channels_in, *shape)
        Complex, in the order and normalisation of ``torch.fft.fftn``: frequency 0 first, the plain sum over the grid of
        the kernel's values at ``period * n / shape``. So ``torch.fft.fft2(image)`` of a kernel sampled there, with its
        origin first, is what this holds for that kernel.
    kernel : Tensor, shape (channels_out, channels_in, *shape)
        The kernels at these places: the inverse FFT.

    Raises
    ------
    ValueError, TypeError
        If arguments are not of that form.

    Notes
    -----
    At first a kernel is a number times the narrowest peak that the modes allow, 1 at the origin; so the result is the
    values, through a matrix with orthogonal rows or columns. Of values of unit variance it has a variance of 1 + N / M,
    the least there can be with these modes: 1 where points are few beside modes.

    Examples
    --------
    >>> import torch
    >>> from gridfield.torch import PointConvolution
    >>> n = 32
    >>> r = (torch.arange(n) + n // 2) % n - n // 2  # the origin first, in units of the grid
    >>> image = torch.exp(-(r[:, None] ** 2 + r**2) / 8)
    >>> layer = PointConvolution((n, n), period=n)
    >>> with torch.no_grad():
    ...     layer.fourier_kernel[0, 0] = torch.fft.fft2(image)
    >>> points = torch.tensor([[0.0, 0.0], [2.0, 0.0]])
    >>> layer(points, torch.tensor([1.0, 0.0])).detach().round(decimals=4)  # 1 and exp(-1/2)
    tensor([1.0000, 0.6065])
    """

    def __init__(
        self,
        shape: Any,
        channels_in: int = 1,
        channels_out: int = 1,
        *,
        real: bool = True,
        eps: float = 1e-6,
        period: Any = 2 * pi,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__()
        name = "gf.torch.PointConvolution"
        self.shape = per_axis(name, "shape", shape, len(shape) if hasattr(shape, "__len__") else 1, SIZE)
        if not self.shape:
            raise ValueError(f"{name}: shape () has no axes")
        dtype = torch.get_default_dtype() if dtype is None else dtype
        if dtype not in (torch.float32, torch.float64):
            raise TypeError(f"{name}: dtype must be torch.float32 or torch.float64, got {dtype!r}")
        if not isinstance(real, bool):
            raise TypeError(f"{name}: real must be True or False, got {real!r}")
        self.channels_in, self.channels_out = (
            per_axis(name, what, n, 1, SIZE)[0]
            for what, n in (("channels_in", channels_in), ("channels_out", channels_out))
        )
        self.real = real
        kind = str(dtype).removeprefix("torch.")
        self.eps, _, _, self.period = _options(eps, 1, "fft", period, len(self.shape), kind, name)
        kernel = torch.empty(self.channels_out, self.channels_in, *self.shape, dtype=dtype.to_complex(), device=device)
        self.fourier_kernel = torch.nn.Parameter(kernel)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Begin anew: peaks at the origin, through a random orthogonal matrix.

        Examples
        --------
        >>> from gridfield.torch import PointConvolution
        >>> layer = PointConvolution(8)
        >>> layer.reset_parameters()
        >>> layer.kernel.abs().sum().round().item()  # 1 at the origin
        1.0
        """
        real = self._real
        matrix = torch.nn.init.orthogonal_(torch.empty(self.channels_out, self.channels_in, dtype=real))
        matrix = matrix * max(1.0, (self.channels_out / self.channels_in) ** 0.5)
        with torch.no_grad():
            self.fourier_kernel.copy_(matrix.reshape(*matrix.shape, *[1] * len(self.shape)))

    @property
    def kernel(self) -> torch.Tensor:
        """The kernels on the grid, the origin first."""
        image = torch.fft.ifftn(self.fourier_kernel, dim=tuple(range(-len(self.shape), 0)))
        return image.real if self.real else image

    def extra_repr(self) -> str:
        """What `print` shows."""
        return f"{self.shape}, {self.channels_in} -> {self.channels_out} channels, real={self.real}, eps={self.eps:g}"

    def forward(self, points: torch.Tensor, values: torch.Tensor, at: torch.Tensor | None = None) -> torch.Tensor:
        """The convolution.

        Parameters
        ----------
        points : Tensor, shape (N, ndim) or (*batch, N, ndim)
            Where the values are.
        values : Tensor, shape (*batch, channels_in, N)
            Of one channel also ``(N,)``.
        at : Tensor, shape (M, ndim) or (*batch, M, ndim), optional
            Where the result is wanted; by default at the points.

        Returns
        -------
        Tensor, shape (*batch, channels_out, M)
            ``(M,)`` for values ``(N,)`` and one channel. Differentiable in everything.
        """
        name = "gf.torch.PointConvolution"
        self._fit(points, values, at, name)
        if self.real and values.is_complex():
            raise TypeError(f"{name}: values are complex ({values.dtype}); give real=False to the module")
        plain = values.ndim == 1
        values = values[None] if plain else values
        if values.shape[-2] != self.channels_in:
            raise ValueError(
                f"{name}: values has shape {tuple(values.shape)} but must be (*batch, {self.channels_in}, N): an axis "
                "of channels before that of the points"
            )
        at, out = points if at is None else at, None
        if self._fixed(points, values, at):
            p, v = FACE.concrete(points), FACE.concrete(values)
            maps = self._given(p, v, p if at is points else FACE.concrete(at))
            out = FACE.linear(*maps, self.fourier_kernel, points, values, at)
        if out is None:
            out = self._followed(points, values, at)
        return out[0] if plain and self.channels_out == 1 else out

    def _fit(self, points: Any, values: Any, at: Any, name: str) -> None:
        """Errors about types; nothing is cast silently but integers."""
        for what, x in (("points", points), ("values", values), ("at", at)):
            if x is None and what == "at":
                continue
            if not isinstance(x, torch.Tensor):
                raise TypeError(f"{name}: {what} must be a torch.Tensor, got {type(x).__name__}")
            if x.ndim < 1 + (what != "values"):
                raise ValueError(f"{name}: {what} has shape {tuple(x.shape)}, too few axes")
            if what != "values" and x.shape[-1] != len(self.shape):
                raise ValueError(f"{name}: {what} has shape {tuple(x.shape)} but the kernel {len(self.shape)} axes")
            kind = x.dtype if x.is_floating_point() or x.is_complex() else self._real
            if kind not in (self._real, self.fourier_kernel.dtype) or not self.fourier_kernel.is_complex():
                raise TypeError(
                    f"{name}: {what} are {x.dtype} but the kernel is {self.fourier_kernel.dtype}; give dtype= to the "
                    "module, or call its float() or double()"
                )

    def _apply(self, fn: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True) -> PointConvolution:
        """What double(), to(torch.float64) and the like do to parameters; to a complex one's numbers.

        Torch by itself leaves those as they are, or drops the imaginary part.
        """

        def numbers(t: torch.Tensor) -> torch.Tensor:
            pairs = fn(torch.view_as_real(t))
            return torch.view_as_complex(pairs.real.contiguous() if pairs.is_complex() else pairs)

        return super()._apply(lambda t: numbers(t) if t.is_complex() else fn(t), recurse)

    def _fixed(self, points: torch.Tensor, values: torch.Tensor, at: torch.Tensor) -> bool:
        """Whether these are known, nobody follows them, and they fit together as they stand."""
        kernel = self.fourier_kernel.dtype
        if torch.compiler.is_compiling() or FACE.followed(points, values, at):
            return False
        fits = points.dtype == at.dtype == self._real and values.dtype in (self._real, kernel)
        fits = fits and points.ndim > 1 and at.ndim > 1 and at.shape[-1] == points.shape[-1]
        fits = fits and all(type(x) in TENSORS and x.is_cpu for x in (points, values, at))
        return fits and values.shape[:-2][: at.ndim - 2] == at.shape[:-2]

    def _followed(self, points: torch.Tensor, values: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
        """Differentiable in everything."""
        how, nd = self._how, len(self.shape)
        # both transforms, and those of the backward pass, locate and sort the points once
        with nullcontext() if torch.compiler.is_compiling() else kept(Store()):
            modes = nufft1(points, values, self.shape, **how)
            weights = self.fourier_kernel * (1 / prod(self.shape))  # complex numbers divide four times slower
            one = self.channels_in == 1
            modes = modes * weights[:, 0] if one else (modes.unsqueeze(-nd - 2) * weights).sum(-nd - 1)
            out = nufft2(at, modes, **how)
        return out.real if self.real else out

    def _given(self, points: Any, values: Any, at: Any) -> tuple[Map, Map]:
        """The convolution as a linear map of the kernel, and its adjoint, in NumPy: for when nobody follows the rest.

        A step of learning 128**2 modes from 20 points is overhead most of all, and this has the least.
        """
        how, nd, store, scale = self._how, len(self.shape), Store(), 1 / prod(self.shape)
        with kept(store):
            modes = nufft1(points, values, self.shape, **how)  # (*lead, channels_in, *shape)
        at = points if at is points else _points(NUMPY, at, "gf.torch.PointConvolution", "at")[0]
        lead, real = modes.shape[: -nd - 1], points.dtype
        modes = modes.reshape(prod(lead), self.channels_in, *self.shape)
        # from here on the ops themselves: what their callers check is known
        text = _text(self.shape, self.eps, 1, "fft", self.period, real.name, False, points=at.shape[-2])
        batch, n, one = prod(at.shape[:-2]), at.shape[-2], self.channels_in == 1
        at = at.reshape(batch, n, nd)
        count = self.channels_out * (prod(lead) // batch if batch else 0)

        def forward(kernel: Any) -> Any:
            product = modes * kernel[:, 0] if one else np.einsum("bc...,oc...->bo...", modes, kernel)
            with kept(store):
                out = OPS["sample"].run(product.view(real).reshape(batch, count, *self.shape, 2), at, text)
            out = out.reshape(batch, n, count, 2).swapaxes(1, 2) * real.type(scale)
            out = out[..., 0] if self.real else out.view(kernel.dtype)
            return np.ascontiguousarray(out.reshape(*lead, self.channels_out, n))

        def adjoint(ct: Any) -> Any:
            pairs = np.zeros((batch, n, count, 2), real)
            ct = ct.reshape(batch, count, n).swapaxes(1, 2)
            if self.real:
                pairs[..., 0] = ct
            else:
                pairs[..., 0], pairs[..., 1] = ct.real, ct.imag
            pairs *= real.type(scale)
            with kept(store):
                back = OPS["splat"].run(pairs.reshape(batch, 1, n, 2 * count), at, text)
            back = back.view(modes.dtype).reshape(len(modes), self.channels_out, *self.shape)
            if one and len(modes) == 1:
                return (back * modes.conj())[0, :, None]
            return np.einsum("bo...,bc...->oc...", back, modes.conj())

        return forward, adjoint

    @property
    def _real(self) -> torch.dtype:
        return torch.float64 if self.fourier_kernel.dtype == torch.complex128 else torch.float32

    @property
    def _how(self) -> dict[str, Any]:
        return {"eps": self.eps, "modes_order": "fft", "period": self.period}
