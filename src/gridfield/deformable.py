"""What a call of deform is given: images with their own arguments, in whatever they are packed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from . import arguments, check, dispatch
from .geometry import Geometry, followed, homogeneous, ndim_of, on_one_device
from .kernel import NAMED
from .sampling import _array, _hashable


class Image(NamedTuple):
    """One image of a call, with its own arguments."""

    name: str
    array: Any
    kernel: Any
    boundary: Any
    cval: float
    axes: tuple[int, ...]  # the batch axis, if there is one, the others, the deformed ones
    lead: int  # how many axes before the deformed ones
    batched: bool

    @property
    def nearest(self) -> bool:
        """Whether each pixel of the result is one of the image."""
        kernels = self.kernel if isinstance(self.kernel, tuple) else (self.kernel,)
        return all(k == "nearest" or k == NAMED["nearest"] or (isinstance(k, int) and k == 0) for k in kernels)

    @property
    def full(self) -> tuple[int, ...]:
        """The shape of the deformed axes."""
        return tuple(self.array.shape[a] for a in self.axes[self.lead :])


class Images:
    """The images of a call, and what they were packed in."""

    def __init__(
        self, where: str, images: Any, displacement: Any, kernel: Any, boundary: Any, cval: Any, axis: Any,
        batch_axis: Any, affine: Any, rotate: Any, zoom: Any, name: str = "images",
    ) -> None:  # fmt: skip
        self.where, self.kind = where, type(images)
        self.keys: list[Any] | None = None
        if isinstance(images, Mapping):
            self.keys, arrays = list(images), list(images.values())
        elif isinstance(images, (list, tuple)):
            self.keys, arrays = list(range(len(images))), list(images)
        else:
            arrays = [images]
        if not arrays:
            raise ValueError(f"{where}: images is empty")
        names = [name] if self.keys is None else [f"images[{k!r}]" for k in self.keys]
        for name, x in zip(names, arrays, strict=True):
            if not hasattr(x, "shape"):
                raise TypeError(f"{where}: {name} must be an array, got {type(x).__name__}")
        given = followed(displacement, affine, rotate, zoom)
        self.F = F = dispatch.face(where, **dict(zip(names, arrays, strict=True)), **given)
        arrays = [_array(F, x, name, where) for name, x in zip(names, arrays, strict=True)]
        self.displaced = displacement is not None
        own = {"kernel": kernel, "boundary": boundary, "cval": cval, "axis": axis, "batch_axis": batch_axis}
        options = [self._each(option, name) for name, option in own.items()]
        self.ndim = ndim_of(displacement, affine, rotate, any(b is not None for b in options[4]), where)
        self.ambiguous = displacement is None and homogeneous(affine)
        self.images = [self._image(*one) for one in zip(names, arrays, *options, strict=True)]
        full = self.images[0].full
        for image in self.images:
            if image.full != full:
                raise ValueError(
                    f"{where}: the deformed axes of {image.name} have the sizes {image.full} but those of "
                    f"{names[0]} {full}; images of one call are deformed alike"
                )
        on_one_device(F, where, dict(zip(names, arrays, strict=True)) | given)

    def _each(self, option: Any, name: str) -> list[Any]:
        """One for each image."""
        count = 1 if self.keys is None else len(self.keys)
        if self.keys is None or not isinstance(option, (list, Mapping)):
            return [option] * count
        if isinstance(option, Mapping):
            if set(option) != set(self.keys):
                raise ValueError(f"{self.where}: {name} has the keys {list(option)} but images {self.keys}")
            return [option[k] for k in self.keys]
        if len(option) != count:
            raise ValueError(
                f"{self.where}: {name} is a list of {len(option)} but there are {count} images; give one for each, or "
                "a tuple for all"
            )
        return option

    def _image(self, name: str, x: Any, kernel: Any, boundary: Any, cval: Any, axis: Any, batch_axis: Any) -> Image:
        where, ndim = self.where, x.ndim
        check_numbers(self.F, x, name, where)
        batch = () if batch_axis is None else _axes(batch_axis, ndim, f"batch_axis of {name}", where)
        if len(batch) > 1:
            raise ValueError(f"{where}: batch_axis must be one axis, got {batch_axis!r}")
        if axis is None:
            count = self.ndim
            if count is None:
                count = ndim - len(batch)
            elif count == ndim + 1 and not self.displaced:
                count = ndim  # a (3, 3) affine of a 2-D image
            if count > ndim:
                raise ValueError(
                    f"{where}: {name} has {ndim} axes (shape {tuple(x.shape)}) but the displacement is along {count}"
                )
            if self.ambiguous and count == self.ndim:
                raise ValueError(
                    f"{where}: affine is ({count}, {count}), a map along {count} axes or a homogeneous one along "
                    f"{count - 1}: say by axis which axes of {name} (shape {tuple(x.shape)}) are deformed"
                )
            axes = tuple(a for a in range(ndim) if a not in batch)[-count:]
        else:
            axes = _axes(axis, ndim, f"axis of {name}", where)
        if not axes or len({*axes, *batch}) < len(axes) + len(batch):
            raise ValueError(
                f"{where}: {name} has axis {axis!r} and batch_axis {batch_axis!r}, deformed axes {axes}; each axis may "
                "be named once"
            )
        rest = tuple(a for a in range(ndim) if a not in axes and a not in batch)
        check.grid_shape(tuple(x.shape[a] for a in axes), name, where)
        cval = check.number(cval, "cval", where)
        return Image(name, x, _hashable(kernel), _hashable(boundary), cval, (*batch, *rest, *axes), ndim - len(axes),
                     bool(batch))  # fmt: skip

    def geometry(self, displacement: Any, crop: Any, affine: Any, rotate: Any, zoom: Any, spacing: Any) -> Geometry:
        """Where pixels come from."""
        first = self.images[0]
        full = check.sizes(first.full, first.name, self.where)
        batched = None
        if displacement is not None:
            wide = len(np.shape(displacement) if not hasattr(displacement, "shape") else displacement.shape)
            batched = any(image.batched for image in self.images) and wide == len(full) + 2
        if affine is not None and hasattr(affine, "shape") and len(affine.shape) == 3 and not all(
            image.batched for image in self.images
        ):  # fmt: skip
            raise ValueError(
                f"{self.where}: affine has shape {tuple(affine.shape)}, a batch of them: say by batch_axis which axis "
                "of the images it belongs to"
            )
        geometry = Geometry(self.F, self.where, full, displacement, batched, crop, affine, rotate, zoom, spacing)
        if geometry.batched and not all(image.batched for image in self.images):
            raise ValueError(f"{self.where}: displacement has a batch axis, so each image needs a batch_axis")
        return geometry

    def packed(self, results: list[Any]) -> Any:
        """As the images came."""
        if self.keys is None:
            return results[0]
        if issubclass(self.kind, Mapping):
            return dict(zip(self.keys, results, strict=True))
        if not issubclass(self.kind, tuple):
            return results
        return self.kind(*results) if hasattr(self.kind, "_fields") else tuple(results)

    def unpacked(self, cotangent: Any) -> list[Any]:
        """One cotangent for each image."""
        if self.keys is None:
            return [cotangent]
        try:
            cts = [cotangent[k] for k in self.keys]
        except (TypeError, KeyError, IndexError):
            raise ValueError(f"{self.where}: cotangent must have one item for each of the images {self.keys}") from None
        return cts


def _axes(axis: Any, ndim: int, name: str, where: str) -> tuple[int, ...]:
    items = arguments.items(axis)
    items = (axis,) if items is None else items
    try:
        axes = tuple(arguments.AXIS[0](a) for a in items)
    except (TypeError, ValueError):
        axes = ()
    if not axes or not all(-ndim <= a < ndim for a in axes):
        raise ValueError(f"{where}: {name} must name axes from {-ndim} to {ndim - 1}, got {axis!r}")
    return tuple(a % ndim for a in axes)


def check_numbers(F: Any, x: Any, name: str, where: str) -> None:
    """An array of numbers."""
    if not check.is_number(F.dtype(x)):
        raise TypeError(f"{where}: {name} has dtype {F.dtype(x)}, which is not a type of numbers it can use")
