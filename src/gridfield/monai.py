"""MONAI: random elastic deformation in dictionary pipelines."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any, Self

import numpy as np

from .extras import needs

with needs("monai"):
    from monai.config.type_definitions import KeysCollection
    from monai.transforms.transform import MapTransform, RandomizableTransform
    from monai.utils.misc import MAX_SEED, ensure_tuple_rep

    from .augmentation import ElasticDeform
    from .draws import ElasticParams

from .sampling import BoundaryLike, KernelLike

__all__ = ["RandElasticDeformd"]

# the words of MONAI, which are those of grid_sample and of SciPy
KERNELS = {"bilinear": "linear", "bicubic": "catmull_rom"}
BOUNDARIES = {
    "zeros": "constant", "border": "nearest", "reflection": "reflect", "grid-mirror": "reflect", "grid-wrap": "wrap",
}  # fmt: skip


class _Deform(ElasticDeform):
    _name = "gf.monai.RandElasticDeformd"


class RandElasticDeformd(RandomizableTransform, MapTransform):
    """Deform images and labels of a dictionary alike, at random.

    A step of ``monai.transforms.Compose``, after ``EnsureChannelFirstd``: all axes but the first are deformed. A
    `MetaTensor` keeps its meta data and its affine matrix; NumPy arrays come back as such.

    Parameters
    ----------
    keys : key or sequence of keys
        The items to deform, of one spatial shape.
    points : int or one per axis, default 3
        Control points along each axis.
    sigma : float or one per axis, default 25.0
        Standard deviation of their displacement in pixels, or in units of `spacing`.
    prob : float, default 0.1
        Probability that anything happens.
    rotate, zoom, fold_free, fixed_border
        As for `gridfield.torch.ElasticDeform`; angles in degrees.
    spacing : float, one per axis, or "pixdim", optional
        Units per pixel. "pixdim": as the affine matrix of the first item says, in mm for most files.
    mode : str, int, Kernel, or a list of one per key, default "cubic"
        The kernel of `gf.deform`: "nearest" or "label" for labels. MONAI's "bilinear" is "linear", and "bicubic"
        "catmull_rom".
    padding_mode : str or a list of one per key, default "constant"
        The boundary of `gf.deform`. MONAI's "zeros" is "constant", "border" is "nearest", "reflection" is "reflect".
    cval : float or a list of one per key, default 0.0
        Value beyond the ends for "constant".
    allow_missing_keys : bool, default False
        Leave out keys that a dictionary does not have.

    Attributes
    ----------
    params : ElasticParams or None
        What the last call has drawn.

    Raises
    ------
    ValueError, TypeError, KeyError
        If an argument, or an item, is not of that form.

    Examples
    --------
    >>> import torch
    >>> from monai.transforms import Compose
    >>> from gridfield.monai import RandElasticDeformd
    >>> t = Compose([RandElasticDeformd(["image", "label"], sigma=3.0, prob=1.0, mode=["linear", "nearest"])])
    >>> t = t.set_random_state(seed=0)
    >>> out = t({"image": torch.rand(1, 16, 20, 24), "label": torch.ones(1, 16, 20, 24, dtype=torch.uint8)})
    >>> out["image"].shape, out["label"].dtype, t.transforms[0].params.shape
    (torch.Size([1, 16, 20, 24]), torch.uint8, (16, 20, 24))
    """

    _name = _Deform._name

    def __init__(
        self,
        keys: KeysCollection,
        points: int | Sequence[int] = 3,
        sigma: float | Sequence[float] = 25.0,
        prob: float = 0.1,
        *,
        rotate: Any = None,
        zoom: Any = None,
        fold_free: bool = False,
        fixed_border: bool = False,
        spacing: float | Sequence[float] | str | None = None,
        mode: KernelLike | list[Any] = "cubic",
        padding_mode: BoundaryLike | list[Any] = "constant",
        cval: float | list[float] = 0.0,
        allow_missing_keys: bool = False,
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        where = self._name
        if not 0 <= prob <= 1:  # MONAI itself would clip it
            raise ValueError(f"{where}: prob must be a number from 0 to 1, got {prob!r}")
        RandomizableTransform.__init__(self, prob)
        self.how = {
            "points": points, "sigma": sigma, "rotate": rotate, "zoom": zoom, "fold_free": fold_free,
            "fixed_border": fixed_border,
        }  # fmt: skip
        if isinstance(spacing, str) and spacing != "pixdim":
            raise ValueError(f"{where}: spacing must be numbers or 'pixdim', got {spacing!r}")
        self.spacing = spacing
        self.options: dict[str, list[Any]] = {}
        own = {"mode": (mode, KERNELS), "padding_mode": (padding_mode, BOUNDARIES), "cval": (cval, {})}
        for name, (value, words) in own.items():
            if isinstance(value, (list, tuple)) and len(value) != len(self.keys):
                raise ValueError(f"{where}: {name} has {len(value)} items, but there are {len(self.keys)} keys")
            each = ensure_tuple_rep(value, len(self.keys))
            self.options[name] = [words.get(x, x) if isinstance(x, str) else x for x in each]
        self.params: ElasticParams | None = None
        self._seed = 0

    def set_random_state(self, seed: int | None = None, state: np.random.RandomState | None = None) -> Self:
        """Seed what is drawn, or give it a state, as `monai.transforms.Compose` does for its steps.

        Parameters
        ----------
        seed : int, optional
            A seed.
        state : numpy.random.RandomState, optional
            The source of randomness itself.

        Returns
        -------
        RandElasticDeformd
            The transform.
        """
        super().set_random_state(seed, state)
        return self

    def randomize(self, data: Any = None) -> None:
        """Draw whether anything happens, and a seed for what."""
        super().randomize(data)
        self._seed = int(self.R.randint(MAX_SEED, dtype=np.uint32))

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Deform the items of a dictionary."""
        out = dict(data)
        found = list(self.key_iterator(out, *self.options.values()))
        self.randomize()
        if not found:
            return out
        arrays = tuple(out[key] for key, *_ in found)
        for (key, *_), x in zip(found, arrays, strict=True):
            if not hasattr(x, "shape") or x.ndim < 2:
                given = type(x).__name__ if not hasattr(x, "shape") else f"shape {tuple(x.shape)}"
                raise ValueError(f"{self._name}: {key!r} must be an array (channels, *axes), got {given}")
            if x.shape[1:] != arrays[0].shape[1:]:
                raise ValueError(
                    f"{self._name}: {key!r} has the shape {tuple(x.shape)}, but {found[0][0]!r} "
                    f"{tuple(arrays[0].shape)}: all axes but the first must be alike"
                )
        kernels, boundaries, cvals = (dict(enumerate(each)) for each in list(zip(*found, strict=True))[1:])
        spacing = self._pixdim(found[0][0], arrays[0]) if isinstance(self.spacing, str) else self.spacing
        transform = _Deform(
            **self.how, spacing=spacing, kernel=kernels, boundary=boundaries, cval=cvals, ndim=arrays[0].ndim - 1,
            images=range(len(arrays)), labels=(), landmarks=(),
        )  # fmt: skip
        shape, _ = transform._shape_of(arrays)
        self.params = transform.draws.draw(shape, np.random.default_rng(self._seed), float(self._do_transform))
        out |= zip((key for key, *_ in found), transform.apply(arrays, self.params), strict=True)
        return out

    def _pixdim(self, key: Hashable, x: Any) -> list[float]:
        if not hasattr(x, "pixdim"):
            raise TypeError(f"{self._name}: spacing is 'pixdim', but {key!r} is a {type(x).__name__}, not a MetaTensor")
        return [float(v) for v in x.pixdim]
