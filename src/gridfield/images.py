"""Images as files hold them: pictures by Pillow, TIFF by tifffile, NIfTI by nibabel, .npy by NumPy.

What a file says beside its numbers (palette, resolution, affine map, scaling) stays with them, and goes into the file
that is written. (Pillow rather than imageio, which hands out the colours of a palette instead of the numbers: labels.)
"""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np

from .extras import needs

Array = np.ndarray[Any, Any]

KINDS = {
    ".png": "picture",
    ".jpg": "picture",
    ".jpeg": "picture",
    ".bmp": "picture",
    ".tif": "tiff",
    ".tiff": "tiff",
    ".nii": "nifti",
    ".nii.gz": "nifti",
    ".npy": "npy",
}
PICTURES = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".bmp": "BMP"}
LOSSY = (".jpg", ".jpeg")
SAMPLES = "S"  # the name of the axis of colours


@dataclass(frozen=True)
class ImageFile:
    """The numbers of a file, and what else it says."""

    path: Path
    kind: str
    array: Array
    names: str = ""  # a letter for each axis; none known in .npy
    spatial: tuple[int, ...] | None = None  # the axes of space; None: the file does not say
    spacing: dict[str, float] = field(default_factory=dict)  # along named axes, in the unit
    unit: str = ""
    about: dict[str, Any] = field(default_factory=dict)  # for who writes it


def extension(path: str | Path) -> str:
    """Of a path, one that is known."""
    name = Path(path).name.lower()
    found = [known for known in KINDS if name.endswith(known)]
    if not found:
        raise ValueError(f"{path}: the extension must be one of {', '.join(KINDS)}")
    return max(found, key=len)


def read(path: str | Path, *, labels: bool = False) -> ImageFile:
    """An image from a file.

    labels: numbers that stand for themselves; of a palette the indices, rather than its colours.
    """
    path = Path(path)
    reader = {"picture": _read_picture, "tiff": _read_tiff, "nifti": _read_nifti, "npy": _read_npy}
    end = extension(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: there is no such file")
    try:
        image = reader[KINDS[end]](path, labels)
    except (ImportError, MemoryError):
        raise
    except Exception as error:  # of each library's own
        if isinstance(error, _Refused):
            raise
        raise ValueError(f"{path}: cannot be read as {end} ({_line(error)})") from error
    if image.array.dtype.kind not in "biufc":
        raise ValueError(f"{path}: holds {image.array.dtype}, which are not numbers")
    if image.array.size == 0:
        raise ValueError(f"{path}: is empty, of shape {image.array.shape}")
    return image


def write(path: str | Path, array: Array, source: ImageFile, start: Sequence[int] = ()) -> None:
    """An array into a file, with what its source says beside the numbers.

    start: where, along each axis of space, the array begins in the source. The file appears when it is whole.
    """
    with writing(path) as part:
        writer(path, array.shape, array.dtype, source)(part, array, start)


def writer(path: str | Path, shape: Sequence[int], dtype: Any, source: ImageFile) -> Callable[..., None]:
    """What writes arrays like that into such a file, or an error."""
    end, dtype = extension(path), np.dtype(dtype)
    kind = KINDS[end]
    if kind == "picture":
        mode = _mode(path, PICTURES[end], tuple(shape), dtype, source)
        return lambda part, array, start: _write_picture(part, array, source, mode)
    if kind == "npy":
        return lambda part, array, start: _write_npy(part, array)
    if kind == "nifti" and source.kind != "nifti":
        raise ValueError(f"{path}: NIfTI needs the affine map of a NIfTI, which {source.path} is not")
    if kind == "tiff" and (source.kind == "nifti" or not source.names):
        raise ValueError(f"{path}: {source.path} does not say what its axes would be in a TIFF; write {_same(source)}")
    if kind == "nifti":
        return lambda part, array, start: _write_nifti(part, array, source, start)
    return lambda part, array, start: _write_tiff(part, array, source)


@contextlib.contextmanager
def writing(path: str | Path) -> Iterator[Path]:
    """Another name in the same folder, of which the file becomes `path` when all went well."""
    path = Path(path).resolve()  # through a link, to what it stands for
    part = path.with_name(f".{os.getpid()}-{path.name}")
    try:
        yield part
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


class _Refused(ValueError):
    """What is understood, but cannot be kept."""


def _line(error: Exception) -> str:
    return (str(error) or type(error).__name__).strip().splitlines()[0].rstrip(".")


def _same(source: ImageFile) -> str:
    return extension(source.path)


def _native(array: Array) -> Array:
    return array.astype(array.dtype.newbyteorder("="), copy=False)


# ---- PNG, JPEG, BMP
def _read_picture(path: Path, labels: bool) -> ImageFile:
    with needs("io", str(path)):
        from PIL import Image as Pillow
    with open(path, "rb") as file:
        head = file.read(26)
    if head[:4] == b"\x89PNG" and head[24] == 16 and head[25] in (2, 4, 6):  # bits, type of colour
        raise _Refused(f"{path}: has 16 bits for each colour, of which 8 would be lost; make it a TIFF")
    with _any_size(Pillow), Pillow.open(path) as opened:
        picture: Any = opened
        if (frames := getattr(picture, "n_frames", 1)) > 1:
            raise _Refused(f"{path}: has {frames} frames, of which one could be kept")
        picture.load()
        info = {key: picture.info[key] for key in ("dpi", "icc_profile", "exif") if key in picture.info}
        see_through = "transparency" in picture.info
        about: dict[str, Any] = {"info": info}
        if picture.mode == "P" and labels:
            about["palette"] = picture.getpalette("RGB")
            if see_through:
                info["transparency"] = picture.info["transparency"]
        elif picture.mode == "P":
            picture = picture.convert("RGBA" if see_through else "RGB")
        elif see_through and not labels and picture.mode in ("1", "L", "RGB"):  # one colour is; it would not move
            picture = picture.convert("RGBA" if picture.mode == "RGB" else "LA")
        about["mode"] = picture.mode
        if picture.mode not in ("1", "P", "L", "LA", "RGB", "RGBA", "CMYK", "I;16", "I;16B", "I"):
            raise _Refused(f"{path}: has pixels of the kind {picture.mode}, which is not supported")
        array = _native(np.array(picture))
    if picture.mode == "I":
        array = array.astype(np.uint16)  # as older versions of Pillow open 16 bits
    return ImageFile(path, "picture", array, "YXS"[: array.ndim], (0, 1), about=about)


@contextlib.contextmanager
def _any_size(pillow: Any) -> Iterator[None]:
    """Without Pillow's limit on pixels: the file is the user's own, and scans are large."""
    limit, pillow.MAX_IMAGE_PIXELS = pillow.MAX_IMAGE_PIXELS, None
    try:
        yield
    finally:
        pillow.MAX_IMAGE_PIXELS = limit


def _mode(path: Any, form: str, shape: tuple[int, ...], dtype: np.dtype[Any], source: ImageFile) -> str:
    """Pillow's word for such pixels."""
    mode = ""
    if len(shape) == 2:
        mode = {"bool": "1", "uint8": "L", "uint16": "I;16"}.get(dtype.name, "")
        if mode == "L" and _palette(source) is not None:
            mode = "P"
    elif len(shape) == 3 and dtype == np.uint8 and source.names.endswith(SAMPLES) and source.kind != "nifti":
        mode = {2: "LA", 3: "RGB", 4: "RGBA"}.get(shape[2], "")
        if source.about.get("mode") == "CMYK":
            mode = "CMYK"
    able = {
        "PNG": ("1", "P", "L", "LA", "RGB", "RGBA", "I;16"),
        "JPEG": ("L", "RGB", "CMYK"),
        "BMP": ("1", "P", "L", "RGB", "RGBA"),
    }
    if mode not in able[form] or min(shape) == 0:
        better = dict.fromkeys([".png"] * (mode in able["PNG"]) + [_same(source)])
        raise ValueError(
            f"{path}: {form} cannot hold {dtype} of shape {shape}"
            + (f" ({source.names})" if source.names else "")
            + (" with a palette" if mode == "P" else "")
            + f"; write {' or '.join(better)}"
        )
    return mode


def _palette(source: ImageFile) -> Array | None:
    """(256, 3), of 8 bits, where the numbers are its indices; or None."""
    out = np.zeros((256, 3), np.uint8)
    if source.about.get("mode") == "P":
        colours = np.reshape(source.about["palette"], (-1, 3))
    elif source.about.get("photometric") == "palette" and source.array.dtype == np.uint8:
        colours = _eight_bits(source.about["colormap"].T)
    else:
        return None
    out[: len(colours)] = colours
    return out


def _eight_bits(colours: Array) -> Array:
    """Of the 16 that TIFF has in its palettes, whether they were made from 8 by 256 or by 257."""
    return (colours >> 8).astype(np.uint8)


def _write_picture(path: Path, array: Array, source: ImageFile, mode: str) -> None:
    from PIL import Image as Pillow

    array = np.ascontiguousarray(array)
    if mode in ("1", "P", "I;16"):
        picture = Pillow.fromarray(array)
    else:
        picture = Pillow.frombytes(mode, array.shape[1::-1], array.tobytes())
    if mode == "P":
        picture.putpalette(cast(Array, _palette(source)).tobytes(), "RGB")
    form, options = PICTURES[extension(path)], dict(source.about.get("info", {}))
    if form == "JPEG":
        options |= {"quality": 95, "subsampling": 0}
    picture.save(path, format=form, **options)


# ---- TIFF
CENTIMETRE = 3  # of TIFF's units; dots per inch are about printing
COUNTED = ("ImageJ", "images", "channels", "slices", "frames", "hyperstack", "axes", "shape", "truncated")
DRAWN = ("ROI", "Overlays", "ROIs")  # on the image as it was
OME = ("PhysicalSizeX", "PhysicalSizeY", "PhysicalSizeZ", "TimeIncrement")  # and the unit of each


def _read_tiff(path: Path, labels: bool) -> ImageFile:
    with needs("io", str(path)):
        import tifffile
    with tifffile.TiffFile(path) as tif:
        if len(tif.series) != 1:
            raise _Refused(f"{path}: holds {len(tif.series)} images of different kinds, of which one could be kept")
        series, page = tif.series[0], cast(Any, tif.series[0].keyframe)
        array, names = _native(np.asarray(series.asarray())), series.axes
        colours = page.photometric.name.lower()
        about: dict[str, Any] = {
            "photometric": colours if colours in ("minisblack", "miniswhite", "rgb", "palette") else "minisblack",
            "extrasamples": tuple(page.extrasamples) or None,
            "compression": "zlib" if page.compression != 1 else None,  # without loss, whatever it was
            "byteorder": tif.byteorder,
            "bigtiff": tif.is_bigtiff,
            "flavour": "plain",
        }
        if colours in ("ycbcr", "rgb"):  # what comes out is red, green and blue
            about["photometric"] = "rgb" if SAMPLES in names else "minisblack"
        elif colours in ("cfa", "cielab", "icclab", "itulab", "logl", "logluv"):
            raise _Refused(f"{path}: has pixels of the kind {colours}, which is not supported")
        across, along, per = (page.tags.get(t) for t in ("XResolution", "YResolution", "ResolutionUnit"))
        spacing, unit = {}, ""
        if across is not None and along is not None:
            about["resolution"] = across.value, along.value
            about["resolutionunit"] = 1 if per is None else int(per.value)
            sizes = {n: value[1] / value[0] for n, value in zip("XY", (across.value, along.value)) if value[0]}  # noqa: B905
        else:
            sizes = {}
        if tif.is_ome:
            about["flavour"], about["metadata"] = "ome", _ome(tif.ome_metadata)
            known = about["metadata"]
            spacing = {n: float(known[f"PhysicalSize{n}"]) for n in "XYZ" if f"PhysicalSize{n}" in known}
            unit = known.get("PhysicalSizeXUnit", "µm")
        elif tif.is_imagej:
            about["flavour"] = "imagej"
            known = tif.imagej_metadata or {}
            about["metadata"] = {k: v for k, v in known.items() if k not in (*COUNTED, *DRAWN)}
            unit = str(known.get("unit", ""))
            spacing = {**sizes, "Z": float(known.get("spacing", 1.0))} if unit not in ("", "pixel") else {}
        else:
            if about.get("resolutionunit") == CENTIMETRE:
                spacing, unit = {n: size * 10 for n, size in sizes.items()}, "mm"
            if tif.is_shaped:
                about["flavour"] = "shaped"
                known = (tif.shaped_metadata or ({},))[0]
                about["metadata"] = {k: v for k, v in known.items() if k not in COUNTED}
            elif page.description:
                about["description"] = page.description
        if colours == "palette":
            about["colormap"] = page.colormap
            if not labels and not tif.is_imagej:  # there it is how grey values are shown
                known = page.colormap if array.dtype.itemsize > 1 else _eight_bits(page.colormap)
                array = np.moveaxis(np.take(known, array, axis=1), 0, -1)
                names, about["photometric"] = names + SAMPLES, "rgb"
    spatial = tuple(a for a, name in enumerate(names) if name in "ZYX" and (name != "Z" or array.shape[a] > 1))
    if not {"Y", "X"} <= set(names):
        spatial = None
    return ImageFile(path, "tiff", array, names, spatial, spacing, unit, about)


def _ome(xml: str | None) -> dict[str, Any]:
    """Sizes of pixels, and names of channels."""
    from xml.etree import ElementTree

    out: dict[str, Any] = {}
    pixels = next((e for e in ElementTree.fromstring(xml or "<OME/>").iter() if e.tag.endswith("}Pixels")), None)
    if pixels is None:
        return out
    for key in OME:
        if key in pixels.attrib:
            out[key] = float(pixels.attrib[key])
        if f"{key}Unit" in pixels.attrib:
            out[f"{key}Unit"] = pixels.attrib[f"{key}Unit"]
    called = [e.attrib.get("Name", "") for e in pixels if e.tag.endswith("}Channel")]
    if any(called):
        out["Channel"] = {"Name": called}
    return out


def _write_tiff(path: Path, array: Array, source: ImageFile) -> None:
    with needs("io", str(path)):
        import tifffile
    about, names = source.about, source.names
    samples = names.find(SAMPLES)
    default = "rgb" if samples >= 0 and array.shape[samples] >= 3 else "minisblack"
    options: dict[str, Any] = {"photometric": about.get("photometric", default), "metadata": None}
    if samples >= 0:
        options["planarconfig"] = "contig" if samples == len(names) - 1 else "separate"
        if about.get("extrasamples"):
            options["extrasamples"] = about["extrasamples"]
        elif source.kind == "picture" and array.shape[samples] in (2, 4):
            options["extrasamples"] = ("unassalpha",)
    if options["photometric"] == "palette":
        options["colormap"] = np.zeros((3, 256 ** min(array.itemsize, 2)), np.uint16)
        options["colormap"][:, : about["colormap"].shape[1]] = about["colormap"]  # of fewer bits than these
    for key in ("resolution", "resolutionunit", "compression", "description"):
        if about.get(key) is not None:
            options[key] = about[key]
    if source.kind == "picture" and (palette := _palette(source)) is not None:
        options |= {"photometric": "palette", "colormap": palette.T.astype(np.uint16) * 257}
    how = {"byteorder": about.get("byteorder"), "bigtiff": about.get("bigtiff", False)}
    flavour = about.get("flavour", "plain")
    if flavour != "plain":
        options["metadata"] = {"axes": names, **about["metadata"]}
    if flavour == "ome":
        options["metadata"]["UUID"] = str(uuid.uuid5(uuid.NAMESPACE_OID, str(source.path.name)))  # the same each time
    if flavour in ("ome", "imagej"):
        how[flavour] = True
    if array.nbytes > 2**32 - 2**25 and flavour != "imagej":
        how["bigtiff"] = True
    tifffile.imwrite(path, np.ascontiguousarray(array), **how, **options)


# ---- NIfTI
def _read_nifti(path: Path, labels: bool) -> ImageFile:
    with needs("io", str(path)):
        import nibabel
    loaded: Any = nibabel.load(path, mmap=False)  # the file may be written over
    proxy = loaded.dataobj
    stored, names = _native(np.asanyarray(proxy.get_unscaled())), "XYZTUVW"[: len(loaded.shape)]
    if stored.dtype.names:  # colours
        stored = np.stack([stored[colour] for colour in stored.dtype.names], -1)
        names += SAMPLES
    spatial = tuple(range(min(len(loaded.shape), 3)))
    spatial = tuple(a for a in spatial if stored.shape[a] > 1) or spatial
    sizes = loaded.header.get_zooms()[:3]
    spacing = {name: float(size) for name, size in zip("XYZ", sizes, strict=False) if size > 0}
    unit = loaded.header.get_xyzt_units()[0]
    about = {"image": loaded, "scale": (float(proxy.slope), float(proxy.inter)), "affine": loaded.affine}
    return ImageFile(path, "nifti", stored, names, spatial, spacing, "mm" if unit == "unknown" else unit, about)


def _write_nifti(path: Path, array: Array, source: ImageFile, start: Sequence[int]) -> None:
    old = source.about["image"]
    header = old.header.copy()
    if source.names.endswith(SAMPLES):
        array = np.ascontiguousarray(array).view(old.header.get_data_dtype().newbyteorder("="))[..., 0]
    shift = np.eye(4)
    shift[: len(start), 3] = start
    out = type(old)(array, old.affine @ shift, header)
    if any(start):  # both maps to space, each with its code
        sform, s_code = old.get_sform(coded=True)
        qform, q_code = old.get_qform(coded=True)
        if s_code:
            out.set_sform(sform @ shift, int(s_code), update_affine=False)
        if q_code:
            out.set_qform(qform @ shift, int(q_code), update_affine=False, strip_shears=False)
    slope, inter = source.about["scale"]
    out.header.set_slope_inter(slope, inter)  # so the stored numbers are written as they are
    out.to_filename(path)


# ---- .npy
def _read_npy(path: Path, labels: bool) -> ImageFile:
    with open(path, "rb") as file:
        if file.read(6) != b"\x93NUMPY":  # NumPy would take it for a pickle
            raise _Refused(f"{path}: cannot be read as .npy (it begins with something else)")
    array = np.load(path, allow_pickle=False)
    if not isinstance(array, np.ndarray) or array.ndim == 0:
        raise _Refused(f"{path}: holds no array")
    about = {"dtype": array.dtype}
    few = array.ndim <= 2
    return ImageFile(path, "npy", _native(array), "YX"[2 - array.ndim :] if few else "", _all(array, few), about=about)


def _all(array: Array, few: bool) -> tuple[int, ...] | None:
    return tuple(range(array.ndim)) if few else None


def _write_npy(path: Path, array: Array) -> None:
    np.save(path, np.ascontiguousarray(array), allow_pickle=False)
