"""From which place of an image each pixel of its deformed version comes: the arguments, and the arrays of a warp."""

from __future__ import annotations

import functools
import operator
from typing import Any

import numpy as np

from . import check, dispatch
from .displacement import Shape, array_of, is_bare, is_field, per_pixel, read, spacing_of, spline
from .faces.numpy import FACE as NUMPY
from .ops import static
from .sampling import _array
from .scheme import Warp, intern


def crop_of(crop: Any, full: Shape, where: str) -> tuple[Shape, Shape]:
    """The first pixel and the shape of the result."""
    if crop is None:
        return (0,) * len(full), full
    wanted = f"a slice without step for each of the {len(full)} deformed axes"
    if not isinstance(crop, (list, tuple)) or len(crop) != len(full) or not all(isinstance(c, slice) for c in crop):
        raise ValueError(f"{where}: crop must be {wanted}, got {crop!r}")
    start, shape = [], []
    for a, (c, n) in enumerate(zip(crop, full, strict=True)):
        ends = [0 if c.start is None else c.start, n if c.stop is None else c.stop]
        try:
            ends = [operator.index(e) + (n if e < 0 else 0) for e in ends]
        except TypeError:
            ends = [-1, -1]
        if c.step not in (None, 1) or not 0 <= ends[0] < ends[1] <= n:
            raise ValueError(f"{where}: crop {c} along axis {a} must be {wanted}, not empty and within its {n} pixels")
        start.append(ends[0])
        shape.append(ends[1] - ends[0])
    return tuple(start), tuple(shape)


class Geometry:
    """A deformation, ready for images of any type."""

    def __init__(
        self, F: Any, where: str, full: Shape, displacement: Any, batched: bool | None, crop: Any, affine: Any,
        rotate: Any, zoom: Any, spacing: Any,
    ) -> None:  # fmt: skip
        self.F, self.where, self.full = F, where, full
        self.start, self.shape = crop_of(crop, full, where)
        self.spacing = spacing_of(spacing, len(full), where)
        self.pose_arguments = affine, rotate, zoom
        self.points: Shape | None = (1,) * len(full)
        self.given, self.batched = None, False
        if displacement is not None:
            self.given, self.batched, dense = read(F, displacement, full, where, batched)
            self.points = None if dense else tuple(self.given.shape[2:])

    @property
    def ndim(self) -> int:
        """Number of deformed axes."""
        return len(self.full)

    def field(self, dtype: str, like: Any, crop: bool = True) -> Any:
        """(batch or 1, ndim, *points): coefficients, or the displacement of every pixel of the result."""
        F = self.F
        if self.given is None:
            return F.constant(np.zeros((1, self.ndim, *[1] * self.ndim)), dtype, like)
        x = per_pixel(F, self.given, self.spacing, dtype)
        if self.points is not None:
            return spline(F, x)
        if crop and self.shape != self.full:
            part = (slice(s, s + m) for s, m in zip(self.start, self.shape, strict=True))
            return x[(slice(None), slice(None), *part)]
        return x

    def pose(self, dtype: str, like: Any) -> Any:
        """(batch or 1, ndim, ndim + 1): what displaces a pixel at ``(o - centre, 1)``, beside the field."""
        n, where = self.ndim, self.where
        affine, rotate, zoom = self.pose_arguments
        if affine is None and rotate is None and zoom is None:
            return self.F.constant(np.zeros((1, n, n + 1)), dtype, like)
        # numbers make the matrix in float64, whatever the images are
        G, real = (NUMPY, "float64") if is_bare(self.pose_arguments) else (self.F, dtype)

        def number(x: Any, name: str) -> Any:
            if isinstance(x, (list, tuple)) and not is_bare(x):
                return G.stack([number(item, name) for item in x])  # so that each is differentiated
            H = NUMPY if is_bare(x) else G  # torch and TensorFlow would make float32 of Python's numbers
            x = _array(H, x, name, where)
            kind = H.dtype(x)
            if not check.is_number(kind) or kind in check.REAL or kind == "bool":
                raise TypeError(f"{where}: {name} must be real numbers, got {kind}")
            return constant(x) if H is NUMPY else G.astype(x, real)

        def constant(table: Any) -> Any:
            return G.constant(np.asarray(table, np.float64), real, like)

        # content at p goes to M R Z p + t, from the centre; pixels are pulled: p = inv(Z) R^T inv(M) (p' - t)
        pull, shift = constant(np.eye(n)), constant(np.zeros((n, 1)))
        if affine is not None:
            x = number(affine, "affine")
            if x.ndim not in (2, 3) or tuple(x.shape[-2:]) not in ((n, n), (n, n + 1), (n + 1, n + 1)):
                raise ValueError(
                    f"{where}: affine has shape {tuple(x.shape)} but must be (ndim, ndim), (ndim, ndim + 1) or "
                    f"(ndim + 1, ndim + 1) with ndim = {n}, or a batch of those"
                )
            _regular(G, x[..., :n, :n], "affine", where)
            last = G.concrete(x[..., n, :]) if x.shape[-2] > n else None
            if last is not None and not np.allclose(last, np.eye(n + 1)[n], rtol=0, atol=1e-6):
                raise ValueError(f"{where}: the last row of affine must be {np.eye(n + 1)[n]}, got {last}")
            pull = G.inv(x[..., :n, :n])
            if x.shape[-1] == n + 1:
                shift = x[..., :n, n:]
        if rotate is not None:
            pull = G.matmul(G.moveaxis(rotation(G, number(rotate, "rotate"), n, where), 0, 1), pull)
        if zoom is not None:
            x = number(zoom, "zoom")
            if tuple(x.shape) not in ((), (1,), (n,)):
                raise ValueError(f"{where}: zoom has shape {tuple(x.shape)} but must be one number, or one per axis")
            if (known := G.concrete(x)) is not None and not (np.isfinite(known).all() and (known > 0).all()):
                raise ValueError(f"{where}: zoom must be positive, got {zoom!r}")
            pull = pull / G.reshape(x, (-1, 1))
        shift = G.matmul(pull, shift)
        units = np.array(self.spacing)
        pull = pull * constant(units / units[:, None]) - constant(np.eye(n))
        shift = shift * constant(-1 / units[:, None])
        pull = G.reshape(pull, (-1, n, n))
        shift = G.broadcast_to(G.reshape(shift, (-1, n, 1)), (pull.shape[0], n, 1))
        out = G.moveaxis(G.stack([*(pull[..., j] for j in range(n)), shift[..., 0]]), 0, -1)
        return self.F.constant(out, dtype, like) if G is NUMPY else out

    def arrays(self, dtype: str, like: Any, batch: Any) -> tuple[Any, Any]:
        """Field and pose for so many items."""
        F, out = self.F, []
        for name, x in (("displacement", self.field(dtype, like)), ("affine", self.pose(dtype, like))):
            if isinstance(batch, int) and x.shape[0] not in (1, batch, None):
                raise ValueError(
                    f"{self.where}: {name} has a batch of {x.shape[0]} but the images of {batch} along batch_axis"
                )
            out.append(
                x if isinstance(batch, int) and x.shape[0] == batch else F.broadcast_to(x, (batch, *x.shape[1:]))
            )
        return out[0], out[1]

    def text(self, texts: tuple[str, str | None, str | None]) -> str:
        """The static argument of the warp."""
        return _text(*texts, self.points, self.full, self.start, self.shape)


@static
def _text(*content: Any) -> str:
    return _cached_text(*content)  # torch.compile looks through a cache, but not through a function


@functools.lru_cache(maxsize=4096)
def _cached_text(*content: Any) -> str:
    return intern(Warp(*content))


def followed(displacement: Any, affine: Any, rotate: Any, zoom: Any) -> dict[str, Any]:
    """The arguments that tell the framework, by name: of affine, rotate and zoom NumPy arrays go with any."""
    given = {} if displacement is None else {"displacement": array_of(displacement)}
    for name, x in (("affine", affine), ("rotate", rotate), ("zoom", zoom)):
        if x is not None and dispatch.frameworks((type(x),)) != ("numpy",):
            given[name] = x
    return given


def on_one_device(F: Any, where: str, arrays: dict[str, Any]) -> None:
    """All arrays; a list is put where the framework puts a displacement, and other numbers where they are needed."""
    (first, x), *rest = arrays.items()
    for name, y in rest:
        if hasattr(y, "shape") or name == "displacement":
            check.same_device(where, F.device(x), F.device(F.array(y)), first, name)


def ndim_of(displacement: Any, affine: Any, rotate: Any, batched: bool, where: str) -> int | None:
    """How many axes these arguments deform, if they tell."""
    if displacement is not None:
        if is_field(displacement):
            return displacement.ndim
        shape = _shape(array_of(displacement))
        if batched and len(shape) > 2 and shape[1] == len(shape) - 2:
            return len(shape) - 2
        if len(shape) < 2:
            raise ValueError(f"{where}: displacement must be (ndim, *control points), got shape {shape}")
        if len(shape) > 2 and shape[1] == len(shape) - 2 != shape[0] - 1:
            raise ValueError(
                f"{where}: displacement has shape {shape}, a batch of them: say by batch_axis which axis of the images "
                "it belongs to"
            )
        return len(shape) - 1
    if affine is not None:
        shape = _shape(affine)
        return shape[-2] if len(shape) >= 2 else None
    if rotate is not None:
        size = _shape(rotate)
        return {0: 2, 1: 3 if size == (3,) else 2}.get(len(size), size[-1] if size else 2)
    return None


def _shape(x: Any) -> Shape:
    """Of an array, or of lists of numbers or arrays."""
    if hasattr(x, "shape"):
        return tuple(x.shape)
    return np.shape(x) if is_bare(x) else (len(x), *_shape(x[0]))


def homogeneous(affine: Any) -> bool:
    """Whether a matrix of three rows or more may be one for homogeneous coordinates, with or without a batch."""
    shape = _shape(affine)
    if not hasattr(affine, "shape") and not is_bare(affine):
        return False  # lists of arrays, whose numbers may not be known
    if len(shape) < 2 or shape[-1] != shape[-2] or shape[-1] < 3:
        return False
    face = dispatch.face("gf.deform", affine=affine) if hasattr(affine, "shape") else NUMPY
    known = face.concrete(face.array(affine))
    return known is not None and bool(np.all(known[..., -1, :] == np.eye(shape[-1])[-1]))


def _regular(G: Any, x: Any, name: str, where: str) -> None:
    known = G.concrete(x)
    if known is not None and not (np.isfinite(known).all() and np.all(np.linalg.det(known) != 0)):
        raise ValueError(f"{where}: {name} must be finite and have an inverse, got {known.tolist()}")


def rotation(G: Any, x: Any, n: int, where: str) -> Any:
    """The matrix that turns content: by an angle in 2-D, by angles about axes 0, 1 and 2 in turn in 3-D, in degrees."""
    shape = tuple(x.shape)
    if shape == (n, n) and n > 1:
        known = G.concrete(x)
        if known is not None and not (
            np.allclose(known @ known.T, np.eye(n), rtol=0, atol=1e-4) and np.linalg.det(known) > 0
        ):
            raise ValueError(f"{where}: rotate is a matrix but not of a rotation; give it as affine")
        return x
    if not (n == 2 and shape in ((), (1,))) and not (n == 3 and shape == (3,)):
        raise ValueError(
            f"{where}: rotate has shape {shape} but for {n} deformed axes it must be "
            + {2: "an angle or a (2, 2) matrix", 3: "3 angles or a (3, 3) matrix"}.get(n, f"a ({n}, {n}) matrix")
        )
    if (known := G.concrete(x)) is not None and not np.isfinite(known).all():
        raise ValueError(f"{where}: rotate must be finite, got {known.tolist()}")
    angles = G.reshape(x, (-1,)) * (np.pi / 180)
    out = None
    for a in range(1 if n == 2 else 3):
        i, j = (0, 1) if n == 2 else ((a + 1) % 3, (a + 2) % 3)
        cos, sin = G.cos(angles[a]), G.sin(angles[a])
        entries = {(i, i): cos, (i, j): -sin, (j, i): sin, (j, j): cos}
        one = 0 * cos + 1
        rows = [G.stack([entries.get((r, c), one if r == c else 0 * cos) for c in range(n)]) for r in range(n)]
        turn = G.stack(rows)
        out = turn if out is None else G.matmul(turn, out)
    return out
