"""pytorch-finufft's arguments read as those of gf.nufft1, gf.nufft2 and gf.nufft3."""

from __future__ import annotations

import operator
import warnings
from typing import Any

import torch

from ... import check
from ...nufft import nufft1, nufft2
from ...type3 import nufft3
from ...window import BEST

__all__ = ["finufft_type1", "finufft_type2", "finufft_type3"]

FINUFFT_AVAIL = True  # on the CPU: what users ask these flags for, they can have
CUFINUFFT_AVAIL = torch.cuda.is_available()

REAL = {torch.complex64: torch.float32, torch.complex128: torch.float64}
# how FINUFFT goes about it: there is nothing of that kind to choose here
IGNORED = {
    *("debug", "spread_debug", "showwarn", "nthreads", "fftw", "spread_sort", "spread_kerevalmeth", "spread_kerpad"),
    *("upsampfac", "spread_thread", "maxbatchsize", "spread_nthr_atomic", "spread_max_sp_size", "chkbnds"),
    *("allow_eps_too_small", "spread_kerformula", "out"),
}
LOCKS = {"fftw_lock_fun", "fftw_unlock_fun", "fftw_lock_data"}
OF_PLANS = {"nufft_type", "n_modes_or_dim", "n_trans", "dtype"}  # what the original itself hands to FINUFFT


def finufft_type1(points: torch.Tensor, values: torch.Tensor, output_shape: Any, **finufftkwargs: Any) -> torch.Tensor:
    """Type 1, from points to modes: ``f[k] = sum_j values[j] exp(isign i k . points[:, j])``.

    Parameters
    ----------
    points : torch.Tensor, shape (D, N) or (N,)
        Coordinates in radians, any number of periods away; D from 1 to 3.
    values : torch.Tensor, shape (*batch, N)
        complex64 with float32 points, or complex128 with float64 points.
    output_shape : int or sequence of D int
        Number of modes along each axis.
    **finufftkwargs : optional
        `eps` (default 1e-6; what the type is not good for is taken as the best it is), `isign` (default -1; None is
        FINUFFT's own, +1, and -1 for type 2) and `modeord` (default 1: the order of an FFT; 0: centred). How FINUFFT is
        to go about it (`nthreads`, `upsampfac`, `fftw`, `debug`, ..., `gpu_method` and all that begins with `gpu_`) is
        accepted and ignored. Names that FINUFFT does not know are ignored with its warning.

    Returns
    -------
    torch.Tensor, shape (*batch, *output_shape)
        Differentiable to every order in points and values.

    Raises
    ------
    TypeError, ValueError
        As the original, in its words. For what cannot be had: an `out` to write to, `spreadinterponly`.

    Warns
    -----
    Warning
        As FINUFFT, of an option that it does not have.

    Examples
    --------
    >>> import torch
    >>> from gridfield.compat.pytorch_finufft.functional import finufft_type1
    >>> x, c = torch.tensor([[0.0, torch.pi]], dtype=torch.float64), torch.ones(2, dtype=torch.complex128)
    >>> finufft_type1(x, c, (4,)).real.round(decimals=5) + 0.0
    tensor([2., 0., 2., 0.], dtype=torch.float64)
    """
    _check_devices(values, points)
    _check_types(values, points, "Values")
    _check_lengths(points, values.shape[-1], "values")
    x = _rows(points)
    shape = _shape(output_shape, x.shape[-1])
    return nufft1(x, values.resolve_conj(), shape, **_options(1, finufftkwargs, values))


def finufft_type2(points: torch.Tensor, targets: torch.Tensor, **finufftkwargs: Any) -> torch.Tensor:
    """Type 2, from modes to points: ``c[j] = sum_k targets[k] exp(isign i k . points[:, j])``.

    Parameters
    ----------
    points : torch.Tensor, shape (D, N) or (N,)
        As for `finufft_type1`.
    targets : torch.Tensor, shape (*batch, *modes)
        The modes, along the last D axes.
    **finufftkwargs : optional
        As for `finufft_type1`; `isign` is -1 here, too.

    Returns
    -------
    torch.Tensor, shape (*batch, N)
        Differentiable to every order in points and targets.

    Raises
    ------
    TypeError, ValueError
        As the original, in its words.

    Examples
    --------
    >>> import torch
    >>> from gridfield.compat.pytorch_finufft.functional import finufft_type2
    >>> f = torch.tensor([0, 1, 0, 0, 0], dtype=torch.complex128)
    >>> bool(torch.allclose(finufft_type2(torch.tensor([0.5]).double(), f), torch.exp(torch.tensor([-0.5j])).cdouble()))
    True
    """
    _check_devices(targets, points)
    _check_types(targets, points, "Targets")
    x = _rows(points)
    if targets.ndim < x.shape[-1]:
        d = x.shape[-1]
        raise ValueError(f"For type 2 {d}d FINUFFT, targets must be at least a {d}d tensor")
    return nufft2(x, targets.resolve_conj(), **_options(2, finufftkwargs, targets))


def finufft_type3(
    points: torch.Tensor, strengths: torch.Tensor, targets: torch.Tensor, **finufftkwargs: Any
) -> torch.Tensor:
    """Type 3, from points to frequencies: ``f[k] = sum_j strengths[j] exp(isign i targets[:, k] . points[:, j])``.

    Parameters
    ----------
    points : torch.Tensor, shape (D, N) or (N,)
        Coordinates; D from 1 to 3.
    strengths : torch.Tensor, shape (*batch, N)
        complex64 with float32 points, or complex128 with float64 points.
    targets : torch.Tensor, shape (D, M) or (M,)
        Frequencies, in radians per unit of the points.
    **finufftkwargs : optional
        As for `finufft_type1` (`modeord` means nothing); where something traces also `extent`, as for
        `gridfield.nufft3`.

    Returns
    -------
    torch.Tensor, shape (*batch, M)
        Differentiable to every order in points, strengths and targets.

    Raises
    ------
    TypeError, ValueError
        In the words of the other types.

    Examples
    --------
    >>> import torch
    >>> from gridfield.compat.pytorch_finufft.functional import finufft_type3
    >>> x, s = torch.tensor([1.0, 2.0]), torch.tensor([0.0, 0.5, 2.5])
    >>> finufft_type3(x, torch.ones(2, dtype=torch.complex64), s).shape
    torch.Size([3])
    """
    _check_devices(strengths, points, targets)
    _check_types(strengths, points, "Strengths")
    if targets.dtype is not points.dtype:
        raise TypeError(f"Targets must have a dtype of {points.dtype} as strengths has a dtype of {strengths.dtype}")
    _check_lengths(points, strengths.shape[-1], "strengths")
    x, f = _rows(points), _rows(targets, "targets")
    if x.shape[-1] != f.shape[-1]:
        raise ValueError(f"Points are {x.shape[-1]}d but targets {f.shape[-1]}d")
    extent = finufftkwargs.get("extent")
    rest = {name: option for name, option in finufftkwargs.items() if name != "extent"}
    options = _options(3, rest, strengths)
    del options["modes_order"]
    return nufft3(x, strengths.resolve_conj(), f, extent=extent, **options)


# ---- the original's checks, in its order
def _check_devices(*tensors: torch.Tensor) -> None:
    device = tensors[0].device
    for t in tensors:
        if t.device.type not in ("cuda", "cpu"):
            raise ValueError(f"Finufft only supports cpu and cuda tensors. Got {t.device.type}")
        if t.device != device:
            raise ValueError(f"Some tensors are not on the same device. Got {t.device} and {device}")


def _check_types(data: torch.Tensor, points: torch.Tensor, name: str) -> None:
    real = REAL.get(data.dtype)
    if real is None:
        raise TypeError(f"{name} must have a dtype of torch.complex64 or torch.complex128")
    if points.dtype is not real:
        raise TypeError(f"Points must have a dtype of {real} as {name.lower()} has a dtype of {data.dtype}")


def _check_lengths(points: torch.Tensor, count: int, name: str) -> None:
    _rows(points)
    if points.shape[-1] != count:
        raise ValueError(f"The same number of points and {name} must be supplied")


def _rows(points: torch.Tensor, name: str = "points") -> torch.Tensor:
    """(D, N) or (N,) -> (N, D)."""
    if points.ndim not in (1, 2):
        raise ValueError(f"The {name} tensor must be 1d or 2d")
    points = points.resolve_neg()
    if points.ndim == 1:
        return points[:, None]
    if points.shape[0] not in (1, 2, 3):
        raise ValueError(f"{name.capitalize()} can be at most 3d, got {points.shape[0]} instead")
    return points.T


def _shape(output_shape: Any, ndim: int) -> tuple[int, ...]:
    if not hasattr(output_shape, "__len__"):
        if ndim != 1:
            raise ValueError(f"output_shape must be a tuple of length {ndim} for {ndim}d NUFFT")
        output_shape = (output_shape,)
    if len(output_shape) != ndim:
        raise ValueError(f"output_shape must be of length {ndim} for {ndim}d NUFFT")
    try:
        shape = tuple(map(operator.index, output_shape))
    except TypeError:
        shape = (0,)
    if min(shape) <= 0:
        raise ValueError("Got output_shape that was not positive integer")
    return shape


def _options(kind: int, given: dict[str, Any], data: torch.Tensor) -> dict[str, Any]:
    """FINUFFT's options for a transform of type `kind`, as ours."""
    where = f"finufft_type{kind}"
    for name in given:
        if name in LOCKS:
            raise TypeError(f"{where}: Invalid option '{name}': FFTW locks are not exposed in Python")
        if name in OF_PLANS:
            raise TypeError(f"{where}: got multiple values for argument '{name}', which follows from the tensors")
        if name not in {"eps", "isign", "modeord", "spreadinterponly", *IGNORED} and not name.startswith("gpu_"):
            warnings.warn(f'Warning: finufft_opts does not have attribute "{name}"', Warning, stacklevel=3)
    if given.get("out") is not None:
        raise TypeError(f"{where}: out must be None, as results are new tensors; got {type(given['out']).__name__}")
    if given.get("spreadinterponly"):
        raise ValueError(f"{where}: spreadinterponly must be 0: a transform without its FFT is not to be had here")
    eps, isign, modeord = given.get("eps", 1e-6), given.get("isign", -1), given.get("modeord", 1)
    if isign is None:
        isign = -1 if kind == 2 else 1
    if not hasattr(isign, "__index__"):
        raise TypeError(f"{where}: isign must be an integer, of the sign of the exponent, or None, got {isign!r}")
    best = BEST["float32" if data.dtype is torch.complex64 else "float64"]
    return {
        "eps": min(max(check.number(eps, "eps", where), best), 0.5),
        "sign": 1 if isign >= 0 else -1,
        "modes_order": "fft" if modeord else "centered",
    }
