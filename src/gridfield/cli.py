"""The command line: ``gridfield deform in.png out.png --points 3 --sigma 25 --seed 0``.

What it computes with is imported when the arguments are read, so that `--help` and mistakes are quick.
"""

from __future__ import annotations

import argparse
import re
import secrets
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from .options import FAR, Usage, check_consistent, joined, parser

if TYPE_CHECKING:
    from .images import ImageFile

DPI = 150  # of the preview


class Job(NamedTuple):
    """A file to deform: which of its axes, and where it goes."""

    source: ImageFile
    axes: tuple[int, ...]
    path: str
    kernel: str | int
    cval: float  # as the file stores its numbers
    write: Callable[..., None]


class Patch(NamedTuple):
    """What of the result is wanted, by its first pixel and its shape; and rotation, zoom and crop for gf.deform."""

    start: tuple[int, ...]
    shape: tuple[int, ...]
    options: dict[str, Any]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code: 0, 1 for files that do not do, 2 for arguments that do not.

    Parameters
    ----------
    argv : sequence of str, optional
        The arguments. Default: those of the process.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    name = "gridfield deform" if arguments[:1] == ["deform"] else "gridfield"
    try:
        options, unknown = parser(_deform).parse_known_args(joined(arguments))
        if unknown:  # argparse itself would send to the help of the whole program
            raise Usage(f"unrecognized arguments: {' '.join(unknown)} (see {name} --help)")
        return options.run(options)
    except Usage as error:
        return _failed(name, error, 2)
    except KeyboardInterrupt:
        print(f"{name}: interrupted", file=sys.stderr)
        return 130
    except (ValueError, TypeError, OSError, ImportError, MemoryError) as error:
        if "-v" in arguments or "--verbose" in arguments:
            raise
        return _failed(name, error, 1)


def _failed(name: str, error: BaseException, code: int) -> int:
    text = str(error).strip() or ("not enough memory" if isinstance(error, MemoryError) else type(error).__name__)
    if isinstance(error, OSError) and error.strerror and error.filename:
        text = f"{error.filename}: {error.strerror}"
    print(f"{name}: error: {' '.join(text.split())}", file=sys.stderr)
    return code


# ---- the files and their axes
def _axes(image: ImageFile, axes: str | None) -> tuple[int, ...]:
    """The deformed axes of an image, in the order of the file."""
    if axes is None:
        if image.spatial is None:
            letters = f" ({image.names})" if image.names else ""
            raise Usage(
                f"{image.path}: does not say which of its {image.array.ndim} axes {image.array.shape}{letters} are of "
                "space; give --axes, as --axes 0,1"
            )
        return image.spatial
    ndim, words = image.array.ndim, axes.split(",")
    if all(re.fullmatch(r"\s*-?\d+\s*", w) for w in words):
        found = [int(w) for w in words]
        found = [a + ndim if a < 0 else a for a in found]
    else:
        found = [image.names.find(letter) for letter in axes.replace(",", "").upper()]
    if not found or not all(0 <= a < ndim for a in found) or len(set(found)) < len(found):
        raise Usage(
            f"argument --axes: must name axes of {image.path}, "
            + (f"{image.names} or " if image.names else "")
            + f"0 to {ndim - 1}, each once, got {axes!r}"
        )
    return tuple(sorted(found))


def _read_labels(
    o: argparse.Namespace, path: str, image: ImageFile, axes: tuple[int, ...], say: Callable[[str], None]
) -> tuple[ImageFile, tuple[int, ...]]:
    """A label image that fits the image, and its deformed axes."""
    from . import images

    mask = images.read(path, labels=True)
    own = _label_axes(mask, o.axes, image, axes)
    sizes, found = (tuple(x.array.shape[a] for a in which) for x, which in ((image, axes), (mask, own)))
    if found != sizes:
        raise ValueError(f"{path}: its deformed axes have the sizes {found} but those of {o.input} {sizes}")
    _check_labels(mask, o, say)
    _check_affine(mask, image, say)
    return mask, own


def _label_axes(label: ImageFile, axes: str | None, image: ImageFile, deformed: tuple[int, ...]) -> tuple[int, ...]:
    """Those of a label image: as many as of the image."""
    count = len(deformed)
    names = [image.names[a] for a in deformed] if image.names else []
    if names and all(n in label.names for n in names):
        return tuple(label.names.index(n) for n in names)
    if label.array.ndim == count:
        return tuple(range(count))
    if axes is not None and label.array.ndim == image.array.ndim:
        return deformed
    if label.spatial is not None and len(label.spatial) == count:
        return label.spatial
    raise ValueError(
        f"{label.path}: has the shape {label.array.shape}, in which the {count} deformed axes of {image.path} "
        f"{tuple(image.array.shape[a] for a in deformed)} are not found"
    )


def _per_axis(name: str, values: Sequence[Any] | None, sizes: Sequence[int]) -> Any:
    """One value, or one for each deformed axis."""
    if values is None:
        return None
    if len(values) not in (1, len(sizes)):
        raise Usage(f"argument --{name}: got {len(values)} values for {len(sizes)} deformed axes {tuple(sizes)}")
    return list(values) if len(values) > 1 else values[0]


# ---- what is done
def _deform(o: argparse.Namespace) -> int:
    check_consistent(o)
    from . import images

    say = _silent if o.quiet else _say
    tell = _say if o.verbose else _silent
    image = images.read(o.input, labels=o.order == 0)
    axes = _axes(image, o.axes)
    tell(_described(image, axes))
    patch = _patch(o, image, axes)
    jobs = [_job(image, axes, patch, o.output, o.order or "nearest", _stored(image, "--cval", o.cval))]
    for path, out in o.label:
        mask, own = _read_labels(o, path, image, axes, say)
        tell(_described(mask, own))
        jobs.append(_job(mask, own, patch, out, o.label_kernel, _stored(mask, "--label-cval", o.label_cval, True)))
    picture = _blank(o, image, axes)
    u = _displacement(o, image, axes, patch, say)
    if u is not None:
        tell(f"displacement: {' x '.join(map(str, u.shape[1:]))} control points, up to {abs(u).max():.4g} pixels")

    # from here on files are written
    how, bar = patch.options | {"boundary": o.boundary}, _Bar(o)
    for job in jobs:
        out = _deformed(job, patch.shape, _in_units(u, how.get("spacing")), how, bar)
        with images.writing(job.path) as part:
            job.write(part, out, _origin(job, patch))
        tell(f"wrote {job.path}: {out.dtype} {out.shape}")
    if o.save_displacement and u is not None:
        import numpy as np

        with images.writing(o.save_displacement) as part:
            np.save(part, u)
        tell(f"wrote {o.save_displacement}")
    if o.preview:
        _preview(o.preview, jobs[0], u, how, picture)
        tell(f"wrote {o.preview}")
    return 0


def _job(source: ImageFile, axes: tuple[int, ...], patch: Patch, path: str, kernel: str | int, cval: float) -> Job:
    """One, or an error if its file cannot be written."""
    from . import images

    shape = _resized(source.array.shape, axes, patch.shape)
    for a in axes:
        if source.names[a : a + 1] == images.SAMPLES and shape[a] != source.array.shape[a]:
            raise Usage(
                f"argument --crop: axis {a} ({source.names[a]}) of {source.path} is of colours, which stay together"
            )
    return Job(source, axes, path, kernel, cval, images.writer(path, shape, source.array.dtype, source))


def _origin(job: Job, patch: Patch) -> list[int]:
    """Where in space the result begins, in a NIfTI."""
    origin = [0] * 3
    if job.source.kind == "nifti":
        for axis, first in zip(job.axes, patch.start, strict=True):
            if axis < 3:
                origin[axis] = first
    return origin


def _say(text: str) -> None:
    print(text, file=sys.stderr)


def _silent(text: str) -> None:
    pass


def _described(image: ImageFile, axes: tuple[int, ...]) -> str:
    def named(which: Sequence[int]) -> str:
        return "".join(image.names[a] for a in which) if image.names else ",".join(map(str, which))

    rest = [a for a in range(image.array.ndim) if a not in axes]
    alike = f", alike along {named(rest)}" if rest else ""
    sizes = {image.names[a]: image.spacing.get(image.names[a]) for a in axes} if image.names else {}
    spacing = ", ".join(f"{k} {v:.4g}" for k, v in sizes.items() if v is not None)
    return (
        f"{image.path}: {image.array.dtype} {image.names} {image.array.shape}, deformed along {named(axes)}{alike}"
        + (f"; spacing {spacing} {image.unit}" if spacing else "")
    )


def _check_labels(mask: ImageFile, o: argparse.Namespace, say: Callable[[str], None]) -> None:
    from . import images

    if o.label_kernel == "label" and mask.array.dtype.kind not in "biu":
        raise ValueError(f"{mask.path}: holds {mask.array.dtype}; --label-kernel label needs integers")
    if images.extension(mask.path) in images.LOSSY:
        say(f"warning: {mask.path}: labels in JPEG are not exact")


def _check_affine(mask: ImageFile, image: ImageFile, say: Callable[[str], None]) -> None:
    import numpy as np

    if "affine" in mask.about and "affine" in image.about:
        a, b = mask.about["affine"], image.about["affine"]
        if not np.allclose(a, b, rtol=1e-3, atol=1e-3):
            say(f"warning: {mask.path} has another affine map to space than {image.path}")


def _stored(image: ImageFile, option: str, value: float | None, label: bool = False) -> float:
    """A value of the image as the numbers of the file, those of a NIfTI being scaled; or an error if it cannot hold it.

    None, the default: 0, or the nearest that it can hold.
    """
    import numpy as np

    slope, inter = image.about.get("scale", (1.0, 0.0))
    slope = slope or 1.0
    stored, dtype = ((value or 0.0) - inter) / slope, image.array.dtype
    integers, finite = dtype.kind in "biu", abs(stored) < float("inf")
    least: float = 0
    most: float = 1
    if dtype.kind != "b":
        limits: Any = np.iinfo(dtype) if integers else np.finfo(dtype)
        least, most = (end if integers else float(end) for end in (limits.min, limits.max))
    whole = round(stored) if label and integers and finite else stored
    if value is None:
        return float(min(max(whole, least), most))
    if not integers and not finite:
        return stored
    if not least <= stored <= most or abs(stored - whole) > 1e-6 * max(abs(stored), 1):
        low, high = sorted(end * slope + inter for end in (least, most))
        steps = f" in steps of {abs(slope):g}" if label and integers else ""
        raise Usage(
            f"argument {option}: {value:g} is none of the numbers that {image.path} can hold, {low:.7g} to "
            f"{high:.7g}{steps} ({dtype})"
        )
    return float(whole)


def _patch(o: argparse.Namespace, image: ImageFile, axes: tuple[int, ...]) -> Patch:
    """Rotation, zoom and crop."""
    from .geometry import crop_of

    sizes, n = tuple(image.array.shape[a] for a in axes), len(axes)
    how: dict[str, Any] = {}
    if o.rotate is not None:
        if n not in (2, 3) or len(o.rotate) != (1 if n == 2 else 3):
            wanted = {2: "one angle", 3: "three angles, A,B,C,"}.get(n, "2 or 3 deformed axes:")
            raise Usage(f"argument --rotate: needs {wanted} for {n} deformed axes {sizes}, got {len(o.rotate)}")
        how["rotate"] = o.rotate if n == 3 else o.rotate[0]
        spacing = _spacing(image, axes)
        if spacing and max(spacing) > min(spacing) * (1 + 1e-6):
            how["spacing"] = spacing
    if o.zoom is not None:
        how["zoom"] = _per_axis("zoom", o.zoom, sizes)
    if o.crop is None:
        return Patch((0,) * n, sizes, how)
    if len(o.crop) != n:
        raise Usage(f"argument --crop: got {len(o.crop)} slices for {n} deformed axes {sizes}")
    how["crop"], ends = o.crop, []
    for a, part, size in zip(axes, o.crop, sizes, strict=True):
        try:
            (start,), (length,) = crop_of([part], (size,), "")
        except ValueError:
            text = ":".join("" if end is None else str(end) for end in (part.start, part.stop))
            named = f" ({image.names[a]})" if image.names else ""
            raise Usage(f"argument --crop: {text} is no part of 0:{size}, axis {a}{named} of {image.path}") from None
        ends.append((start, length))
    return Patch(tuple(start for start, _ in ends), tuple(length for _, length in ends), how)


def _spacing(image: ImageFile, axes: tuple[int, ...]) -> list[float] | None:
    names = [image.names[a] for a in axes] if image.names else []
    sizes = [image.spacing.get(name) for name in names]
    known = [size for size in sizes if size is not None and 0 < size < float("inf")]
    return known if known and len(known) == len(axes) else None


def _displacement(
    o: argparse.Namespace, image: ImageFile, axes: tuple[int, ...], patch: Patch, say: Callable[[str], None]
) -> Any:
    """(ndim, *points) in pixels, or None."""
    import numpy as np

    sizes = tuple(image.array.shape[a] for a in axes)
    if o.displacement is not None:
        u = _read_displacement(o.displacement, sizes)
    elif o.sigma is not None:
        with np.errstate(over="ignore", invalid="ignore"):  # told below
            u = _drawn(o, image, axes, sizes, patch.options, say)
    else:
        return None
    farthest = max(abs(float(u.min())), abs(float(u.max())))
    if not farthest <= FAR:
        given = o.displacement or "argument --sigma"
        raise Usage(f"{given}: displaces by up to {farthest:.3g} pixels, and may by {FAR:g}")
    return u


def _read_displacement(path: str, sizes: tuple[int, ...]) -> Any:
    import numpy as np

    from . import images

    u, n = images.read(path).array, len(sizes)
    if u.ndim != n + 1 or u.shape[0] != n or u.dtype.kind not in "iuf":
        raise ValueError(
            f"{path}: is {u.dtype} of shape {u.shape}, but a displacement of the {n} deformed axes {sizes} is real, of "
            f"shape ({n}, {', '.join(['points'] * n)})"
        )
    if u.shape[1:] != sizes and min(u.shape[1:]) < 2:
        raise ValueError(f"{path}: has the shape {u.shape}, but each axis needs at least 2 control points")
    if not np.isfinite(u).all():
        raise ValueError(f"{path}: is not finite")
    return u


def _drawn(
    o: argparse.Namespace, image: ImageFile, axes: tuple[int, ...], sizes: tuple[int, ...], how: dict[str, Any],
    say: Callable[[str], None],
) -> Any:  # fmt: skip
    import numpy as np

    from .displacement import fold_free_scale, random_displacement

    spacing, seed = None, o.seed
    if o.physical and (spacing := _spacing(image, axes)) is None:
        raise Usage(f"--physical: {image.path} does not say how large its pixels are")
    points = _per_axis("points", o.points or [3], sizes)
    sigma = _per_axis("sigma", o.sigma, sizes)
    if seed is None:
        seed = secrets.randbelow(2**32)
        say(f"seed {seed}")
    affine = _affine(how, len(sizes))
    u = random_displacement(
        points, sigma, shape=sizes, rng=seed, fold_free=o.fold_free and affine is None, fixed_border=o.fixed_border,
        spacing=spacing,
    )  # fmt: skip
    if spacing is not None:
        u = u / np.reshape(spacing, (-1, *[1] * len(axes)))
    if o.fold_free and affine is not None:
        # pixels come from P x + u(x) = P (x + inv(P) u(x)), P the inverse of rotation and zoom
        u = u * fold_free_scale(np.tensordot(affine, u, 1), sizes, (1.0,) * len(sizes))
    return u


def _affine(how: dict[str, Any], ndim: int) -> Any:
    """Rotation times zoom, of pixels; None without."""
    import numpy as np

    from .faces.numpy import FACE
    from .geometry import rotation

    if "rotate" not in how and "zoom" not in how:
        return None
    h = np.array(how.get("spacing", [1.0] * ndim))
    turn = rotation(FACE, np.array(how["rotate"]), ndim, "--rotate") if "rotate" in how else np.eye(ndim)
    return turn * how.get("zoom", 1.0) * h / h[:, None]


def _in_units(u: Any, spacing: Sequence[float] | None) -> Any:
    import numpy as np

    return u if u is None or spacing is None else u * np.reshape(spacing, (-1, *[1] * len(spacing)))


def _resized(full: Sequence[int], axes: tuple[int, ...], shape: Sequence[int]) -> tuple[int, ...]:
    sizes = dict(zip(axes, shape, strict=True))
    return tuple(sizes.get(a, n) for a, n in enumerate(full))


def _items(image: ImageFile, axes: tuple[int, ...]) -> tuple[list[int], int, int]:
    """Its axes, those that are looped over first, then colours, then the deformed ones; how many of the first two."""
    rest = [a for a in range(image.array.ndim) if a not in axes]
    colours = [a for a in rest if image.names[a : a + 1] == "S"]
    looped = [a for a in rest if a not in colours]
    return [*looped, *colours, *axes], len(looped), len(colours)


def _deformed(job: Job, shape: Sequence[int], u: Any, how: dict[str, Any], bar: Any) -> Any:
    """The image of a job deformed, item by item."""
    import numpy as np

    from .deform import deform

    image, axes = job.source, job.axes
    how = how | {"kernel": job.kernel, "cval": job.cval}
    order, looped, _ = _items(image, axes)
    out = np.empty(_resized(image.array.shape, axes, shape), image.array.dtype)
    source, goal = image.array.transpose(order), out.transpose(order)
    last = tuple(range(-len(axes), 0))
    for index in bar(np.ndindex(source.shape[:looped]), int(np.prod(source.shape[:looped])), image.path.name):
        goal[index] = deform(np.ascontiguousarray(source[index]), u, axis=last, **how)
    dtype = image.about.get("dtype", out.dtype)
    return out.astype(dtype, copy=False)


class _Bar:
    """A bar of progress for stacks, on a terminal, if tqdm is there."""

    def __init__(self, o: argparse.Namespace) -> None:
        self.quiet = o.quiet

    def __call__(self, items: Iterator[Any], count: int, name: str) -> Any:
        if self.quiet or count < 2:
            return items
        try:
            from tqdm import tqdm
        except ImportError:
            return items
        return tqdm(items, total=count, desc=name, disable=None)


def _blank(o: argparse.Namespace, image: ImageFile, axes: tuple[int, ...]) -> Any:
    """The figure of the preview, or an error before the work is done."""
    if o.preview is None:
        return None
    if len(axes) not in (2, 3):
        raise ValueError(f"{o.preview}: a preview is of 2 or 3 deformed axes, not {len(axes)}")
    from .plot.deformations import figure

    out = figure([image.array.shape[a] for a in axes], _spacing(image, axes))
    kinds = out.canvas.get_supported_filetypes()
    if Path(o.preview).suffix[1:].lower() not in kinds:
        raise Usage(f"{o.preview}: the preview may be .{', .'.join(sorted(kinds))}")
    return out


def _preview(path: str, job: Job, u: Any, how: dict[str, Any], picture: Any) -> None:
    """The first item, drawn."""
    from . import images
    from .plot.deformations import deformation

    image, axes = job.source, job.axes
    order, looped, colours = _items(image, axes)
    item = image.array.transpose(order)[(0,) * looped]
    if colours and len(item) not in (3, 4):  # grey and opacity, or bands that are no colours
        item = item[0]
    names = [image.names[a].lower() if image.names else f"x{a}" for a in axes]
    spacing, unit = _spacing(image, axes), image.unit
    options = how | {"spacing": spacing, "units": unit if spacing else None, "dims": names}
    deformation(item, _in_units(u, spacing), **options, kernel=job.kernel, cval=job.cval, ax=picture)
    with images.writing(path) as part:
        picture.savefig(part, dpi=DPI)
