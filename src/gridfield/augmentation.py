"""Random elastic deformation as a transform of samples: images, labels and points that move alike."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import get_worker_info

from . import arguments, check
from .boundary import as_boundaries
from .deform import LABEL, deform
from .displacement import Shape
from .draws import Draws, ElasticParams, stacked
from .kernel import as_kernels
from .landmarks import deform_points
from .sampling import BoundaryLike, KernelLike, _hashable

Keys = str | int | Sequence[str | int] | None

IMAGE, MASK, POINTS = "images", "labels", "landmarks"  # the arguments that name them
DEFAULT_KEYS: dict[str, tuple[str | int, ...]] = {IMAGE: ("image", 0), MASK: ("label",), POINTS: ("points",)}


PROBABILITY: arguments.Rule = (arguments.COORDINATE[0], lambda v: 0 <= v <= 1, "a number from 0 to 1")


class ElasticDeform(torch.nn.Module):
    """Deform at random: tensors or NumPy arrays, alone, in batches, or images with their labels and points.

    A transform for `Dataset`, `torch.nn.Sequential`, ``torchvision.transforms.v2.Compose`` or any pipeline that calls
    its steps. It has no parameters, and does the same in training and evaluation.

    Parameters
    ----------
    points : int or one per axis, default 3
        Control points along each axis, the first and the last at the ends of the image.
    sigma : float or one per axis, default 25.0
        Standard deviation of their displacement in pixels, or in units of `spacing`.
    p : float, default 1.0
        Probability that anything happens.
    rotate : float, (float, float) or one of these for each of 3 axes, optional
        Range of angles in degrees, about the centre: 15 for -15 to 15. In 3-D the angle about each axis is drawn.
    zoom : (float, float) or one such pair per axis, optional
        Range of factors, as often 2 as 1/2; 2 makes content twice as large. One pair is for all axes together.
    fold_free, fixed_border : bool, default False
        As for `gf.random_displacement`; nothing folds with rotation and zoom either.
    spacing : float or one per axis, default 1
        Units per pixel, in which displacements, rotations and points are meant.
    kernel : default "cubic" for images and "nearest" for labels
        As for `gf.deform`; "linear" is fastest. A dict has one for each of the items it names, "label" for a label too.
        Anything else is for images.
    boundary : default "constant"
        As for `gf.deform`; a dict has one for each of the items it names, anything else is for all.
    cval : float, default 0.0
        As for `gf.deform`; a dict has one for each of the items it names, a number is for images.
    ndim : int, optional
        How many axes are deformed, the last ones: 3 for volumes. Default: as many as `points`, `sigma` or `spacing`
        have items, else 2, and then a NumPy array (rows, columns, 3 or 4 colours) is an error.
    batch_axis : int, optional
        Axis of images and labels, from the front, along which each item is deformed in its own way; their points then
        begin with that axis. Without it all leading axes are deformed alike.
    images, labels, landmarks : key or sequence of keys, optional
        What the items of a sample are: keys of a dict, places in a tuple or list. By default "image" (or place 0),
        "label" and "points" where there are such; those that are named have to be there. Images and labels are
        ``(*lead, *image)``, landmarks ``(*pts, ndim)`` with coordinates in the order of the axes, pixels times
        `spacing`.
    keep : key or sequence of keys, optional
        Arrays as large as the image that are to stay as they are. All else that is not named stays anyway, but such an
        array is an error: it would no longer fit the image.
    generator : torch.Generator, optional
        The source of randomness. Default: torch's own, which `torch.manual_seed` and the workers of a DataLoader seed.

    Attributes
    ----------
    params : ElasticParams or None
        What the last call has drawn (in a DataLoader, in its worker).

    Raises
    ------
    ValueError, TypeError
        If an argument, or a sample, is not of that form.

    See Also
    --------
    gridfield.deform, gridfield.deform_points, gridfield.random_displacement

    Notes
    -----
    One number is taken from the generator for each deformation, whatever the options, and seeds all that is drawn: the
    same seed gives the same deformation on every device and for any number of threads. In a worker of a DataLoader the
    worker's own seed is mixed into what a `generator` of the transform gives, as each worker has a copy of that.

    Boxes move by their corners: give these as landmarks. Landmarks come back as float64 if they are integers, NaN where
    something folds over them.

    Examples
    --------
    >>> import torch
    >>> from gridfield.torch import ElasticDeform
    >>> t = ElasticDeform(points=3, sigma=5.0, rotate=15, zoom=(0.9, 1.1), generator=torch.Generator().manual_seed(0))
    >>> sample = {
    ...     "image": torch.rand(3, 64, 64),
    ...     "label": torch.zeros(64, 64, dtype=torch.int64),
    ...     "points": torch.tensor([[10.0, 20.0], [40.0, 50.0]]),
    ...     "name": "cell 7",
    ... }
    >>> out = t(sample)
    >>> {key: tuple(x.shape) for key, x in out.items() if key != "name"}
    {'image': (3, 64, 64), 'label': (64, 64), 'points': (2, 2)}
    >>> torch.equal(t.apply(sample["image"], t.params), out["image"])
    True
    >>> each = ElasticDeform(sigma=5.0, batch_axis=0)  # of a batch: 8 deformations
    >>> each(torch.rand(8, 3, 64, 64)).shape, each.params.batch
    (torch.Size([8, 3, 64, 64]), 8)
    """

    _name = "gf.torch.ElasticDeform"

    def __init__(
        self,
        points: int | Sequence[int] = 3,
        sigma: float | Sequence[float] = 25.0,
        p: float = 1.0,
        *,
        rotate: Any = None,
        zoom: Any = None,
        fold_free: bool = False,
        fixed_border: bool = False,
        spacing: float | Sequence[float] | None = None,
        kernel: KernelLike | Mapping[Any, KernelLike] = "cubic",
        boundary: BoundaryLike | Mapping[Any, BoundaryLike] = "constant",
        cval: float | Mapping[Any, float] = 0.0,
        ndim: int | None = None,
        batch_axis: int | None = None,
        images: Keys = None,
        labels: Keys = None,
        landmarks: Keys = None,
        keep: Keys = (),
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        where = self._name
        self.draws = Draws(where, points, sigma, rotate, zoom, fold_free, fixed_border, spacing)
        self.ndim = _ndim(where, ndim, points=points, sigma=sigma, spacing=spacing)
        self.told = ndim is not None or any(arguments.items(x) is not None for x in (points, sigma, spacing))
        self.draws.per_axis(self.ndim)
        (self.p,) = arguments.per_axis(where, "p", p, 1, PROBABILITY)
        self.batch_axis = batch_axis
        if batch_axis is not None:
            (self.batch_axis,) = arguments.per_axis(where, "batch_axis", batch_axis, 1, arguments.COUNT)
        named = {IMAGE: images, MASK: labels, POINTS: landmarks}
        self.named = {role: _keys(where, role, keys) for role, keys in named.items()}
        self.keep = _keys(where, "keep", keep) or ()
        used = [k for keys in self.named.values() for k in keys or ()] + list(self.keep)
        if len(set(used)) < len(used):
            raise ValueError(f"{where}: images, labels, landmarks and keep name something twice: {used}")
        self.options = {"kernel": kernel, "boundary": boundary, "cval": cval}
        self._check_options(where)
        self.generator = _checked(where, generator)
        self.params: ElasticParams | None = None

    def __getstate__(self) -> dict[str, Any]:
        # as torch pickles a generator, it does not arrive in a process that is spawned (2.13)
        g = self.generator
        return vars(self) | {"generator": g if g is None else (str(g.device), g.get_state().numpy())}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if self.generator is not None:
            device, numbers = state["generator"]
            self.generator = torch.Generator(device)
            self.generator.set_state(torch.from_numpy(numbers))

    def _check_options(self, where: str) -> None:
        known = {k for role in (IMAGE, MASK) for k in self.named[role] or DEFAULT_KEYS[role]}
        for name, option in self.options.items():
            if isinstance(option, Mapping) and not set(option) <= known:
                raise ValueError(
                    f"{where}: {name} has the keys {list(option)}, but images and labels are {sorted(known, key=str)}"
                )
            for value in option.values() if isinstance(option, Mapping) else [option]:
                if name == "cval":
                    check.number(value, name, where)
                elif name == "boundary":
                    as_boundaries(_hashable(value), self.ndim, (False,) * self.ndim, where)
                elif value != LABEL:
                    as_kernels(_hashable(value), self.ndim, where)

    def _option(self, name: str, key: Any, role: str) -> Any:
        """That of one item."""
        option = self.options[name]
        default = {"kernel": "cubic" if role == IMAGE else "nearest", "boundary": "constant", "cval": 0.0}[name]
        if isinstance(option, Mapping):
            return option.get(key, default)
        return option if role == IMAGE or name == "boundary" else default

    def extra_repr(self) -> str:
        """What `print` shows."""
        d = self.draws
        shown = [f"points={d.points}, sigma={d.sigma}, p={self.p}, ndim={self.ndim}"]
        others = {
            "rotate": (d.rotate, None), "zoom": (d.zoom, None), "fold_free": (d.fold_free, False),
            "fixed_border": (d.fixed_border, False), "spacing": (d.spacing, None),
            "kernel": (self.options["kernel"], "cubic"), "boundary": (self.options["boundary"], "constant"),
            "cval": (self.options["cval"], 0.0), "batch_axis": (self.batch_axis, None),
            **{role: (keys, None) for role, keys in self.named.items()}, "keep": (self.keep, ()),
        }  # fmt: skip
        shown += [f"{name}={value!r}" for name, (value, default) in others.items() if value != default]
        return ", ".join(shown)

    def forward(self, *inputs: Any) -> Any:
        """Draw a deformation and apply it.

        Parameters
        ----------
        *inputs : Tensor, ndarray, or dict, tuple or list of these and anything else
            A sample. Several arguments are one in a tuple.

        Returns
        -------
        Tensor, ndarray, dict, tuple or list
            As it came: of the same types, on the same devices. Differentiable in tensors.
        """
        sample = inputs[0] if len(inputs) == 1 else inputs
        self.params = self.sample(sample)
        return self.apply(sample, self.params)

    def sample(self, inputs: Any, *, generator: torch.Generator | None = None) -> ElasticParams:
        """Draw a deformation, or one for each item of a batch, without applying it.

        Parameters
        ----------
        inputs : as for a call, or sequence of int
            A sample, or the shape of an image, leading axes included.
        generator : torch.Generator, optional
            Instead of that of the transform.

        Returns
        -------
        ElasticParams
            On the CPU, to be used as often as wanted.

        Examples
        --------
        >>> import torch
        >>> from gridfield.torch import ElasticDeform
        >>> t = ElasticDeform(points=4, p=0.8)
        >>> q = t.sample((3, 64, 64), generator=torch.Generator().manual_seed(0))
        >>> q.displacement.shape, q.applied
        (torch.Size([2, 4, 4]), True)
        """
        shape, batch = self._shape_of(inputs)
        if batch is None:
            return self.draws.draw(shape, self._rng(generator), self.p)
        drawn = [self.draws.draw(shape, self._rng(generator), self.p) for _ in range(batch)]
        return stacked(drawn, drawn[0] if drawn else self.draws.draw(shape, np.random.default_rng(0), 0.0))

    def apply(self, inputs: Any, params: ElasticParams | None = None) -> Any:
        """Deform as drawn before.

        Parameters
        ----------
        inputs : as for a call
            A sample, or part of one. (With a function alone this is `torch.nn.Module.apply`.)
        params : ElasticParams, optional
            From `sample`. Default: those of the last call.

        Returns
        -------
        As for a call.
        """
        where = self.draws.where
        if params is None:
            if callable(inputs):
                return super().apply(inputs)  # type: ignore[arg-type]
            params = self.params
        if not isinstance(params, ElasticParams):
            raise TypeError(f"{where}: params must be ElasticParams, from `sample` or a call before, got {params!r}")
        if len(params.shape) != self.ndim:
            raise ValueError(f"{where}: params are for images of shape {params.shape}, but ndim is {self.ndim}")
        items = _items(inputs)
        out = {key: self._moved(items[key], key, role, params) for key, role in self._roles(inputs, False).items()}
        if isinstance(inputs, Mapping):
            return dict(inputs) | out
        if not _several(inputs):
            return out[0]
        results = [out.get(i, x) for i, x in enumerate(inputs)]
        if isinstance(inputs, list):
            return results
        return type(inputs)(*results) if hasattr(inputs, "_fields") else tuple(results)

    def _shape_of(self, inputs: Any) -> tuple[Shape, int | None]:
        """The sizes of the deformed axes of a sample, and its batch."""
        where = self.draws.where
        if isinstance(inputs, (tuple, list)) and inputs and all(isinstance(n, (int, np.integer)) for n in inputs):
            return self._sizes(tuple(map(int, inputs)), "shape")
        items = _items(inputs)
        roles = self._roles(inputs)
        sizes = {k: self._sizes(items[k].shape, f"{roles[k]} {k!r}") for k in roles if roles[k] != POINTS}
        if not sizes:
            raise ValueError(f"{where}: there is neither an image nor a label among the items {list(items)}")
        first = next(iter(sizes))
        for key, size in sizes.items():
            if size != sizes[first]:
                raise ValueError(
                    f"{where}: {roles[key]} {key!r} has the shape {tuple(items[key].shape)}, but {roles[first]} "
                    f"{first!r} {tuple(items[first].shape)}: the last {self.ndim} axes"
                    f"{'' if self.batch_axis is None else ' and the batch'} must be alike"
                )
        return sizes[first]

    def _rng(self, generator: torch.Generator | None) -> np.random.Generator:
        """By one number of the generator."""
        g = self.generator if generator is None else _checked(self._name, generator)
        device = "cpu" if g is None else g.device
        seeds = [int(torch.randint(2**63 - 1, (), generator=g, device=device))]
        worker = get_worker_info()
        if worker is not None and g is not None and generator is None:  # a copy, as in every worker
            seeds.append(worker.seed)
        return np.random.default_rng(seeds)

    def _sizes(self, shape: Sequence[int], name: str) -> tuple[Shape, int | None]:
        """Those of the deformed axes, and of the batch."""
        where, ndim, axis, shape = self.draws.where, self.ndim, self.batch_axis, tuple(shape)
        if len(shape) < ndim or 0 in shape[-ndim:]:
            raise ValueError(f"{where}: {name} must have {ndim} axes or more, the last {ndim} not empty, got {shape}")
        if axis is not None and axis >= len(shape) - ndim:
            raise ValueError(
                f"{where}: {name} has the shape {shape}, of which the last {ndim} axes are deformed; that leaves no "
                f"batch_axis {axis}"
            )
        return shape[-ndim:], None if axis is None else shape[axis]

    def _roles(self, inputs: Any, whole: bool = True) -> dict[Any, str]:
        """{key: images, labels or landmarks} of a sample, or of part of one."""
        where, items = self.draws.where, _items(inputs)
        given = {k for keys in self.named.values() for k in keys or ()} | set(self.keep)
        roles = {}
        for role, keys in self.named.items():
            for key in keys if keys is not None else DEFAULT_KEYS[role]:
                if key in items and (keys is not None or key not in given):
                    roles[key] = role
                elif keys is not None and whole and _several(inputs):
                    raise ValueError(f"{where}: {role} names {key!r}, but the sample has {list(items)}")
        if not _several(inputs):
            roles = {0: roles.get(0, IMAGE)}
        if not roles:
            raise ValueError(
                f"{where}: nothing to deform among {list(items)}: name the items by images=, labels= and landmarks="
            )
        for key, role in roles.items():
            if not isinstance(items[key], (np.ndarray, torch.Tensor)):
                raise TypeError(
                    f"{where}: {role} {key!r} must be a tensor or a NumPy array, got {type(items[key]).__name__}"
                )
            if role != POINTS and not self.told:
                _channels_first(where, f"{role} {key!r}", items[key])
        sizes = {tuple(items[k].shape[-self.ndim :]) for k, role in roles.items() if role != POINTS}
        for key, x in items.items():
            if key not in given and key not in roles and tuple(getattr(x, "shape", ()))[-self.ndim :] in sizes:
                raise ValueError(
                    f"{where}: {key!r} has the size of the image (shape {tuple(x.shape)}) but is not named: say by "
                    "images=, labels= or keep= what it is"
                )
        return roles

    def _moved(self, x: Any, key: Any, role: str, q: ElasticParams) -> Any:
        """One item of a sample, of its own kind."""
        where, batch, shape = self.draws.where, q.batch, tuple(x.shape)
        applied: Any = q.applied
        name = f"{role} {key!r} has the shape {shape}"
        if batch is not None and self.batch_axis is None:
            raise ValueError(f"{where}: params are of a batch of {batch}, but there is no batch_axis")
        axis: Any = 0 if role == POINTS else self.batch_axis
        if role == POINTS:
            if not shape or shape[-1] != self.ndim:
                raise ValueError(f"{where}: {name} but must be (*pts, {self.ndim})")
            if isinstance(x, np.ndarray):
                x = x.astype(np.float64) if x.dtype.kind in "iu" else x
            elif not (x.is_floating_point() or x.is_complex()):
                x = x.double()
        elif shape[-self.ndim :] != q.shape:
            raise ValueError(f"{where}: {name} but params are for images of shape {q.shape}")
        if batch is None:
            return self._deformed(x, key, role, q, None) if applied else x
        if len(shape) <= axis + (1 if role == POINTS else self.ndim) or shape[axis] != batch:
            raise ValueError(f"{where}: {name} but params are of a batch of {batch} along axis {axis}")
        chosen = [i for i in range(batch) if applied[i]]
        if len(chosen) in (0, batch):
            return self._deformed(x, key, role, q, axis) if chosen else x
        out = x.clone() if isinstance(x, torch.Tensor) else x.copy()
        part = x.swapaxes(0, axis)[chosen].swapaxes(0, axis)
        out.swapaxes(0, axis)[chosen] = self._deformed(part, key, role, q[chosen], axis).swapaxes(0, axis)
        return out

    def _deformed(self, x: Any, key: Any, role: str, q: ElasticParams, axis: int | None) -> Any:
        where_from: Any = {"affine": None if q.affine is None else q.affine.numpy(force=True), "spacing": q.spacing}
        if role != POINTS:
            own = {name: self._option(name, key, role) for name in self.options}
            where_from |= {"batch_axis": axis} | {name: {key: value} for name, value in own.items()}

        def result(x: Any, u: Any) -> Any:
            if role == POINTS:
                return deform_points(x, u, q.shape, **where_from)
            return deform({key: x}, u, **where_from)[key]  # so that errors name it

        if isinstance(x, np.ndarray):
            return result(x, q.displacement.numpy(force=True))
        u = q.displacement.to(x.device)
        if type(x) in (torch.Tensor, torch.nn.Parameter):
            return result(x, u)
        out = result(x.as_subclass(torch.Tensor), u).as_subclass(type(x))  # an image of torchvision or MONAI
        vars(out).update({name: copy.copy(value) for name, value in vars(x).items()})
        return out


def _channels_first(where: str, name: str, x: Any) -> None:
    """Not a picture (rows, columns, colours) as NumPy has them, of which columns and colours would be deformed."""
    if isinstance(x, np.ndarray) and x.ndim >= 3 and x.shape[-1] in (3, 4) and min(x.shape[-3:-1]) > 4:
        raise ValueError(
            f"{where}: {name} has the shape {x.shape}, whose last axis may be colours, while the last 2 are deformed: "
            "move the channels first, or give ndim="
        )


def _several(inputs: Any) -> bool:
    """Whether a sample has items; else it is one array."""
    return isinstance(inputs, (Mapping, tuple, list))


def _items(inputs: Any) -> dict[Any, Any]:
    """The items of a sample by key or place."""
    if isinstance(inputs, Mapping):
        return dict(inputs)
    return dict(enumerate(inputs if _several(inputs) else [inputs]))


def _checked(where: str, generator: Any) -> torch.Generator | None:
    if generator is not None and not isinstance(generator, torch.Generator):
        raise TypeError(f"{where}: generator must be a torch.Generator, got {type(generator).__name__}")
    return generator


def _keys(where: str, name: str, value: Any) -> tuple[Any, ...] | None:
    keys = (value,) if isinstance(value, (str, int)) else value
    if keys is None:
        return None
    if isinstance(keys, Mapping) or not hasattr(keys, "__len__") or not all(isinstance(k, (str, int)) for k in keys):
        raise TypeError(f"{where}: {name} must be a key (str or int) or a sequence of keys, got {value!r}")
    return tuple(keys)


def _ndim(where: str, ndim: Any, **per_axis: Any) -> int:
    """As it is given, or as many as an argument has items, or 2."""
    if ndim is not None:
        return arguments.per_axis(where, "ndim", ndim, 1, arguments.SIZE)[0]
    counts = [len(items) for items in map(arguments.items, per_axis.values()) if items is not None]
    return counts[0] if counts else 2
