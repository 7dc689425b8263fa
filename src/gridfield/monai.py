"""MONAI: random elastic deformation in dictionary pipelines."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Self

import numpy as np
import torch

from .extras import needs

with needs("monai"):
    from monai.config.type_definitions import KeysCollection
    from monai.transforms.transform import MapTransform, RandomizableTransform
    from monai.utils.misc import MAX_SEED, ensure_tuple_rep

    from .augmentation import ElasticDeform, _ndim
    from .deform import LABEL
    from .draws import ElasticParams

from .sampling import BoundaryLike, KernelLike

__all__ = ["RandElasticDeformd"]

# the words of MONAI, which are those of grid_sample and of SciPy
KERNELS = {"bilinear": "linear", "bicubic": "catmull_rom"}
BOUNDARIES = {
    "zeros": "constant", "border": "nearest", "reflection": "reflect", "grid-mirror": "reflect", "grid-wrap": "wrap",
}  # fmt: skip


DIMENSIONS = range(1, 5)  # that a transform may turn out to be for, when it sees a dictionary


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
        "catmull_rom". For "label", labels may be floats that hold whole numbers, as `LoadImaged` delivers them.
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
        self._steps: dict[int, _Deform] = {}
        self._check()

    def _check(self) -> None:
        """An error, unless the arguments do for some number of axes."""
        spacing = None if isinstance(self.spacing, str) else self.spacing
        first = _ndim(self._name, None, points=self.how["points"], sigma=self.how["sigma"], spacing=spacing)
        errors = []
        for ndim in (first, *DIMENSIONS):
            try:
                self._step(ndim)
                return
            except (TypeError, ValueError) as error:
                errors.append(error)
        raise errors[0]

    def _step(self, ndim: int) -> _Deform:
        """What deforms so many axes, for all keys."""
        if ndim not in self._steps:
            names = list(map(_name, self.keys))
            kernel, boundary, cval = (dict(zip(names, each, strict=True)) for each in self.options.values())
            self._steps[ndim] = _Deform(
                **self.how, spacing=None if isinstance(self.spacing, str) else self.spacing, kernel=kernel,
                boundary=boundary, cval=cval, ndim=ndim, images=names, labels=(), landmarks=(),
            )  # fmt: skip
        return self._steps[ndim]

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
        step = self._step(arrays[0].ndim - 1)
        spacing = self._pixdim(found[0][0], arrays[0]) if isinstance(self.spacing, str) else self.spacing
        shape, _ = step._sizes(arrays[0].shape, repr(found[0][0]))
        rng, p = np.random.default_rng(self._seed), float(self._do_transform)
        self.params = replace(step.draws, spacing=spacing).draw(shape, rng, p)
        if not self._do_transform:
            return out
        for (key, kernel, *_), x in zip(found, arrays, strict=True):
            labels = self._integers(key, x) if kernel == LABEL else x
            moved = step.apply({_name(key): labels}, self.params)[_name(key)]
            out[key] = moved if labels is x else _as(moved, x.dtype)
        return out

    def _integers(self, key: Hashable, x: Any) -> Any:
        """Labels as they came, or floats as integers."""
        floats = x.dtype.kind == "f" if isinstance(x, np.ndarray) else x.is_floating_point()
        if not floats:
            return x
        wide = _as(x, np.float64 if isinstance(x, np.ndarray) else torch.float64)
        if not bool(((wide.round() == wide) & (abs(wide) < 2**53)).all()):
            raise ValueError(
                f"{self._name}: {key!r} has dtype {x.dtype}, but not only whole numbers, as mode 'label' needs them"
            )
        return _as(x, np.int64 if isinstance(x, np.ndarray) else torch.int64)

    def _pixdim(self, key: Hashable, x: Any) -> list[float]:
        if not hasattr(x, "pixdim"):
            raise TypeError(f"{self._name}: spacing is 'pixdim', but {key!r} is a {type(x).__name__}, not a MetaTensor")
        return [float(v) for v in x.pixdim]


def _name(key: Hashable) -> str | int:
    """A key as ElasticDeform has them."""
    return key if isinstance(key, (str, int)) else repr(key)


def _as(x: Any, dtype: Any) -> Any:
    return x.astype(dtype) if isinstance(x, np.ndarray) else x.to(dtype)
