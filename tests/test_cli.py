"""The command line, as a person uses it: every format comes back as it went in, equal to gf.deform by hand."""

import builtins
import contextlib
import dataclasses
import os
import re
import subprocess
import sys

import nibabel
import numpy as np
import pytest
import tifffile
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image as Pillow

import gridfield as gf
from gridfield import cli, images, options


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """Files by their short names."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def run(capsys):
    """Runs a command line: the exit code, and what stands on stderr; nothing is on stdout."""

    def call(line, *more):
        code = cli.main([*line.split(), *map(str, more)])
        out, err = capsys.readouterr()
        assert out == "" and "Traceback" not in err
        return code, err

    return call


@pytest.fixture
def works(run):
    """Runs a command line that says nothing and goes well."""

    def call(line, *more):
        assert run(line, *more) == (0, "")

    return call


def random(shape, dtype, seed=0):
    rng, dtype = np.random.default_rng(seed), np.dtype(dtype)
    if dtype.kind == "f":
        return rng.normal(size=shape).astype(dtype)
    high = 2 if dtype.kind == "b" else min(np.iinfo(dtype).max, 30000)
    return rng.integers(0, high, shape).astype(dtype)


def displaced(shape, points=3, sigma=2.0, seed=0, **how):
    return gf.random_displacement(points, sigma, shape=shape, rng=seed, **how)


def by_hand(x, u=None, axis=None, kernel=1, **how):
    """gf.deform, each item by itself; linear, which compiles in a third of the time."""
    axes = range(x.ndim) if axis is None else [a % x.ndim for a in np.atleast_1d(axis)]
    order = [a for a in range(x.ndim) if a not in axes] + list(axes)
    x = x.transpose(order)
    rest = x.shape[: x.ndim - len(axes)]
    items = [gf.deform(np.ascontiguousarray(x[i]), u, kernel=kernel, **how) for i in np.ndindex(rest)]
    return np.reshape(items, rest + items[0].shape).transpose(np.argsort(order))


RANDOM = "--points 3 --sigma 2 --seed 0 --order 1"


# ---- pictures --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("mode", "shape", "dtype"),
    [
        ("1", (14, 17), bool),
        ("L", (14, 17), np.uint8),
        ("I;16", (14, 17), np.uint16),
        ("LA", (14, 17, 2), np.uint8),
        ("RGB", (14, 17, 3), np.uint8),
        ("RGBA", (14, 17, 4), np.uint8),
    ],
)
def test_png(works, mode, shape, dtype):
    x = random(shape, dtype)
    Pillow.fromarray(x).save("in.png", dpi=(300, 300), icc_profile=b"not really one")
    works(f"deform in.png out.png {RANDOM}")
    with Pillow.open("out.png") as out:
        assert out.mode == mode and out.info["icc_profile"] == b"not really one"
        assert out.info["dpi"] == pytest.approx((300, 300), rel=1e-3)
        y = np.array(out)
    assert y.dtype == dtype
    assert_array_equal(y, by_hand(x, displaced((14, 17)), axis=(0, 1)))


def palette_png(path, transparency=None):
    """Indices 0 to 3 in blocks, with colours that are far from grey."""
    x = np.kron(random((4, 5), np.uint8) % 4, np.ones((4, 4), np.uint8)).astype(np.uint8)
    picture = Pillow.fromarray(x)
    colours = [(0, 0, 0), (255, 0, 0), (0, 255, 0), (10, 20, 250)]
    picture.putpalette([c for colour in colours for c in colour])
    picture.save(path, **({} if transparency is None else {"transparency": transparency}))
    return x, np.array(colours, np.uint8)


def test_palettes(works):
    """Of a label the indices move, of a picture the colours; both with the same displacement."""
    x, colours = palette_png("in.png")
    works(f"deform in.png out.png {RANDOM} --label in.png labels.png")
    u = displaced(x.shape)
    with Pillow.open("labels.png") as labels, Pillow.open("out.png") as out:
        assert labels.mode == "P" and out.mode == "RGB"
        assert_array_equal(labels, by_hand(x, u, kernel="nearest"))
        assert_array_equal(np.reshape(labels.getpalette(), (-1, 3))[:4], colours)
        assert_array_equal(out, by_hand(colours[x], u, axis=(0, 1)))
    works("deform in.png nearest.png --sigma 2 --seed 0 --order 0")
    assert images.read("nearest.png", labels=True).about["mode"] == "P"
    assert_array_equal(Pillow.open("nearest.png"), Pillow.open("labels.png"))
    works("deform in.png nearest.tif --sigma 2 --seed 0 --order 0")
    kept = images.read("nearest.tif", labels=True)
    assert_array_equal(kept.array, images.read("labels.png", labels=True).array)
    assert_array_equal(kept.about["colormap"][:, :4].T // 257, colours)


def test_transparency(works):
    x, colours = palette_png("in.png", transparency=2)
    works(f"deform in.png out.png {RANDOM} --label in.png labels.png")
    with Pillow.open("out.png") as out, Pillow.open("labels.png") as labels:
        assert out.mode == "RGBA" and labels.mode == "P" and labels.info["transparency"] == 2
    rgb = colours[x]
    Pillow.fromarray(rgb).save("rgb.png", transparency=(255, 0, 0))
    works(f"deform rgb.png rgba.png {RANDOM}")
    opaque = np.where((rgb == (255, 0, 0)).all(-1), 0, 255).astype(np.uint8)
    expected = by_hand(np.dstack([rgb, opaque]), displaced(x.shape), axis=(0, 1))
    assert_array_equal(Pillow.open("rgba.png"), expected)


def test_jpeg_and_other_pictures(works, run):
    x = np.full((14, 17, 3), (200, 100, 30), np.uint8)  # JPEG keeps what is even
    Pillow.fromarray(x).save("in.jpg", quality=100, subsampling=0, dpi=(200, 200))
    works("deform in.jpg out.jpg --sigma 0 --seed 0 --order 1")
    with Pillow.open("out.jpg") as out:
        assert out.format == "JPEG" and out.info["dpi"] == (200, 200)
        assert np.abs(np.array(out, int) - x).max() <= 3
    works(f"deform in.jpg out.bmp {RANDOM}")
    stored = np.array(Pillow.open("in.jpg"))
    assert_array_equal(Pillow.open("out.bmp"), by_hand(stored, displaced((14, 17)), axis=(0, 1)))
    code, err = run(f"deform in.jpg out.png {RANDOM} --label in.jpg mask.png")
    assert code == 0 and err == "warning: in.jpg: labels in JPEG are not exact\n"


# ---- TIFF ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("dtype", (np.uint8, np.float32, bool, ">u2"))
@pytest.mark.parametrize("pages", ((), (3,)))
def test_plain_tiff(works, dtype, pages):
    """One page or several: without JSON, as other programs write it."""
    x = random((*pages, 14, 17), dtype)
    options = {"photometric": "minisblack", "metadata": None, "byteorder": ">" if dtype == ">u2" else "<"}
    tifffile.imwrite("in.tif", x, resolution=(40, 20), resolutionunit=3, description="a sample",
                     compression="zlib" if pages else None, **options)  # fmt: skip
    works(f"deform in.tif out.tif {RANDOM}")
    with tifffile.TiffFile("out.tif") as out, tifffile.TiffFile("in.tif") as given:
        page = out.pages[0]
        assert len(out.pages) == len(given.pages) and out.series[0].axes == given.series[0].axes
        assert page.tags["XResolution"].value == (40, 1) and page.tags["YResolution"].value == (20, 1)
        assert page.tags["ResolutionUnit"].value == 3 and page.description == "a sample"
        assert page.compression == given.pages[0].compression and out.byteorder == given.byteorder
        y = out.asarray()
    native = x.astype(x.dtype.newbyteorder("="))
    assert y.dtype == native.dtype
    assert_array_equal(y, by_hand(native, displaced((14, 17)), axis=(-2, -1)))


@pytest.mark.parametrize("planarconfig", ("contig", "separate"))
def test_colour_tiff(works, planarconfig):
    x = random((14, 17, 4), np.uint8)
    stored = x if planarconfig == "contig" else np.moveaxis(x, -1, 0)
    tifffile.imwrite("in.tif", stored, photometric="rgb", planarconfig=planarconfig, extrasamples=["unassalpha"])
    works(f"deform in.tif out.tif {RANDOM}")
    with tifffile.TiffFile("out.tif") as out:
        assert out.pages[0].photometric.name == "RGB" and out.pages[0].planarconfig.name.lower() == planarconfig
        assert [s.name for s in out.pages[0].extrasamples] == ["UNASSALPHA"]
        y = out.asarray()
    expected = by_hand(x, displaced((14, 17)), axis=(0, 1))
    assert_array_equal(y, expected if planarconfig == "contig" else np.moveaxis(expected, -1, 0))


def test_palette_tiff(works):
    x, colours = random((14, 17), np.uint8), random((3, 256), np.uint16)
    tifffile.imwrite("in.tif", x, photometric="palette", colormap=colours)
    works(f"deform in.tif out.tif {RANDOM} --label in.tif labels.tif")
    with tifffile.TiffFile("labels.tif") as labels, tifffile.TiffFile("out.tif") as out:
        assert_array_equal(labels.pages[0].colormap, colours)
        assert_array_equal(labels.asarray(), by_hand(x, displaced((14, 17)), kernel="nearest"))
        assert out.pages[0].photometric.name == "RGB"
        expected = np.moveaxis(colours[:, x] // 256, 0, -1).astype(np.uint8)
        assert out.pages[0].dtype == np.uint8
        assert_array_equal(out.asarray(), by_hand(expected, displaced((14, 17)), axis=(0, 1)))
    works("deform in.tif kept.png --sigma 2 --seed 0 --order 0")
    with Pillow.open("kept.png") as kept:
        assert kept.mode == "P"
        assert_array_equal(np.reshape(kept.getpalette(), (-1, 3)), colours.T // 256)
        assert_array_equal(kept, by_hand(x, displaced((14, 17)), kernel="nearest"))


def test_palettes_of_few_and_many_bits(works):
    """Of 4 bits, which are written as 8; of 16, whose colours stay as they are."""
    x, colours, many = random((14, 17), np.uint16) % 4, random((3, 16), np.uint16), random((3, 2**16), np.uint16)
    tifffile.imwrite("many.tif", x, photometric="palette", colormap=many)
    works(f"deform many.tif out.tif {RANDOM}")
    expected = by_hand(np.moveaxis(many[:, x], 0, -1), displaced((14, 17)), axis=(0, 1))
    assert_array_equal(tifffile.imread("out.tif"), expected)
    works("deform many.tif kept.tif --order 0 --zoom 1")
    read = images.read("kept.tif", labels=True)
    assert_array_equal(read.about["colormap"], many)
    few = dataclasses.replace(read, array=x.astype(np.uint8), about=read.about | {"colormap": colours})
    for name in ("few.tif", "few.png"):
        images.write(name, few.array, few)
    with tifffile.TiffFile("few.tif") as out, Pillow.open("few.png") as picture:
        assert_array_equal(out.asarray(), x)
        assert_array_equal(out.pages[0].colormap[:, :16], colours)
        assert_array_equal(picture, x)
        assert_array_equal(np.reshape(picture.getpalette(), (-1, 3))[:16], colours.T // 256)


def test_imagej_hyperstack(works):
    """The volume is deformed, times and channels alike; spacing and unit are kept, and understood."""
    x = random((2, 5, 2, 14, 17), np.uint16)
    about = {"axes": "TZCYX", "spacing": 3.0, "unit": "um", "finterval": 2.5, "Labels": [f"s{i}" for i in range(20)]}
    tifffile.imwrite("in.tif", x, imagej=True, resolution=(2, 2), metadata=about)
    works(f"deform in.tif out.tif {RANDOM} --physical --fold-free --save-displacement u.npy")
    u = displaced((5, 14, 17), fold_free=True, spacing=(3.0, 0.5, 0.5)) / np.reshape((3.0, 0.5, 0.5), (3, 1, 1, 1))
    assert_array_equal(np.load("u.npy"), u)
    with tifffile.TiffFile("out.tif") as out:
        assert out.is_imagej and out.series[0].axes == "TZCYX"
        assert out.imagej_metadata.items() >= {k: v for k, v in about.items() if k != "axes"}.items()
        assert out.pages[0].tags["XResolution"].value == (2, 1)
        y = out.asarray()
    assert_array_equal(y, by_hand(x, u, axis=(1, 3, 4)))
    works(f"deform in.tif slices.tif {RANDOM} --axes YX")
    assert_array_equal(tifffile.imread("slices.tif"), by_hand(x, displaced((14, 17)), axis=(3, 4)))


def test_other_kinds_of_tiff(works):
    x = random((3, 2, 14, 17), np.uint8)
    size = {"PhysicalSizeX": 0.5, "PhysicalSizeXUnit": "nm", "PhysicalSizeZ": 2.0}
    tifffile.imwrite("in.ome.tif", x, metadata={"axes": "TCYX", "Channel": {"Name": ["DAPI", "GFP"]}, **size})
    tifffile.imwrite("shaped.tif", x, photometric="minisblack", metadata={"axes": "TCYX", "who": "me"})
    for given, result in (("in.ome.tif", "out.ome.tif"), ("in.ome.tif", "again.ome.tif"), ("shaped.tif", "out.tif")):
        works(f"deform {given} {result} {RANDOM}")
        with tifffile.TiffFile(result) as out:
            assert out.series[0].axes == "TCYX" and out.is_ome == ("ome" in given)
            assert_array_equal(out.asarray(), by_hand(x, displaced((14, 17)), axis=(2, 3)))
            if out.is_ome:
                assert all(f'{k}="{v}"' in out.ome_metadata for k, v in size.items()) and "GFP" in out.ome_metadata
            else:
                assert out.shaped_metadata[0]["who"] == "me"
    with open("out.ome.tif", "rb") as one, open("again.ome.tif", "rb") as two:
        assert one.read() == two.read()


def test_unnamed_pages_can_be_a_volume(works):
    x = random((5, 14, 17), np.uint16)
    tifffile.imwrite("in.tif", x, photometric="minisblack", metadata=None)
    for axes in ("0,1,2", "-3,-2,-1"):
        works(f"deform in.tif out.tif {RANDOM} --overwrite --axes {axes}")
        assert_array_equal(tifffile.imread("out.tif"), by_hand(x, displaced((5, 14, 17))))


# ---- NIfTI -----------------------------------------------------------------------------------------------------------
AFFINE = np.array([[-1.9, 0.2, 0.1, 90], [0.1, 1.5, -0.3, -120], [0.2, 0.1, 3.1, -70], [0, 0, 0, 1]])


def nifti(path, x, scale=None, affine=AFFINE, kind=nibabel.Nifti1Image):
    image = kind(x, affine)
    image.set_qform(affine, 1)
    image.set_sform(affine, 2)
    image.header.set_xyzt_units("mm", "sec")
    image.header["descrip"] = b"by hand"
    if scale:
        image.header.set_slope_inter(*scale)
    image.to_filename(path)
    return nibabel.load(path, mmap=False)


@pytest.mark.parametrize("end", (".nii", ".nii.gz"))
def test_nifti(works, end):
    """Stored numbers and their scaling, affine maps with their codes, and the header."""
    x = random((9, 10, 11, 2), np.int16)
    given = nifti(f"in{end}", x, (0.25, -7.0))
    nifti(f"mask{end}", (x[..., 0] % 5).astype(np.uint8))
    works(f"deform in{end} out{end} {RANDOM} --cval 100 --label mask{end} mask_out{end} --label-kernel label")
    out, mask = nibabel.load(f"out{end}"), nibabel.load(f"mask_out{end}")
    assert (out.dataobj.slope, out.dataobj.inter) == (0.25, -7.0)
    u = displaced((9, 10, 11))
    stored = by_hand(x, u, axis=(0, 1, 2), cval=107 / 0.25)
    assert_array_equal(out.dataobj.get_unscaled(), stored)
    assert_allclose(out.get_fdata(), stored * 0.25 - 7)
    assert_array_equal(mask.dataobj, by_hand((x[..., 0] % 5).astype(np.uint8), u, kernel="label"))
    keys = ("dim", "pixdim", "datatype", "qform_code", "sform_code", "srow_x", "quatern_b", "xyzt_units", "descrip")
    for key in keys:
        assert_array_equal(out.header[key], given.header[key])
    assert mask.get_data_dtype() == np.uint8


def test_nifti_crop_and_rotation_in_space(works):
    """The patch stays where it is in space; a rotation of unequal voxels is rigid there."""
    x = random((9, 10, 11), np.float32)
    sizes = (1.0, 2.0, 4.0)
    given = nifti("in.nii", x, affine=np.diag([*sizes, 1.0]))
    works("deform in.nii out.nii --order 1 --rotate -20,0,10.5 --zoom 1,1.5,1 --crop 2:,1:7,-8:-1")
    out = nibabel.load("out.nii")
    crop = (slice(2, None), slice(1, 7), slice(-8, -1))
    expected = by_hand(x, rotate=[-20, 0, 10.5], zoom=[1, 1.5, 1], crop=crop, spacing=sizes)
    assert_array_equal(out.get_fdata(dtype=np.float32), expected)
    for form, code in ((out.get_sform, 2), (out.get_qform, 1)):
        affine, found = form(coded=True)
        assert found == code
        assert_allclose(affine @ [0, 0, 0, 1], given.affine @ [2, 1, 3, 1], atol=1e-5)
    assert_allclose(out.affine[:3, :3], given.affine[:3, :3])


def test_nifti_of_other_kinds(works, run):
    """Big-endian, NIfTI-2, a single slice, colours, labels as floats; another affine map is a warning."""
    header = nibabel.Nifti1Header(endianness=">")
    header.set_data_dtype(">f4")
    x = random((14, 17, 1), np.float32)
    nibabel.Nifti1Image(x, AFFINE, header).to_filename("in.nii")
    works(f"deform in.nii out.nii {RANDOM}")
    out = nibabel.load("out.nii")
    assert out.header.endianness == ">"
    assert_array_equal(out.get_fdata(dtype=np.float32)[..., 0], by_hand(x[..., 0], displaced((14, 17))))
    nifti("two.nii", x, kind=nibabel.Nifti2Image)
    code, err = run(f"deform two.nii out2.nii {RANDOM} --label two.nii mask.nii")
    assert code == 0 and err == "" and isinstance(nibabel.load("out2.nii"), nibabel.Nifti2Image)
    assert set(np.unique(nibabel.load("mask.nii").dataobj)) <= {0, *np.unique(x)}
    colours = np.zeros((14, 17, 1), [("R", "u1"), ("G", "u1"), ("B", "u1")])
    for i, name in enumerate("RGB"):
        colours[name] = random((14, 17, 1), np.uint8, i)
    nifti("rgb.nii", colours)
    works(f"deform rgb.nii rgb_out.nii {RANDOM}")
    y = np.asarray(nibabel.load("rgb_out.nii").dataobj)
    for name in "RGB":
        assert_array_equal(y[name][..., 0], by_hand(colours[name][..., 0], displaced((14, 17))))
    nifti("moved.nii", x, affine=np.eye(4))
    code, err = run(f"deform in.nii out3.nii {RANDOM} --label moved.nii moved_out.nii")
    assert (code, err) == (0, "warning: moved.nii has another affine map to space than in.nii\n")


# ---- .npy ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("dtype", ("f8", "?", ">i2", "c8"))
def test_npy(works, dtype):
    x = random((14, 17), dtype if dtype != "c8" else "f4").astype(dtype)
    np.save("in.npy", np.asfortranarray(x))
    works(f"deform in.npy out.npy {RANDOM}")
    y = np.load("out.npy")
    assert y.dtype == x.dtype
    assert_array_equal(y, by_hand(x.astype(x.dtype.newbyteorder("=")), displaced((14, 17))))


def test_axes_of_npy(works, run):
    x = random((14, 17, 3), np.uint8)
    np.save("in.npy", x)
    code, err = run(f"deform in.npy out.npy {RANDOM}")
    assert code == 2 and "does not say which of its 3 axes (14, 17, 3) are of space; give --axes" in err
    for axes in ("0,1", "-3,1", "1,0"):
        works(f"deform in.npy out.npy {RANDOM} --overwrite --axes {axes}")
        assert_array_equal(np.load("out.npy"), by_hand(x, displaced((14, 17)), axis=(0, 1)))
    np.save("line.npy", x[:, 0, 0])
    works(f"deform line.npy out.npy {RANDOM} --overwrite")
    assert_array_equal(np.load("out.npy"), by_hand(x[:, 0, 0], displaced((14,))))


def test_from_one_format_to_another(works, run):
    x = random((14, 17), np.uint8)
    np.save("in.npy", x)
    Pillow.fromarray(x).save("in.png")
    tifffile.imwrite("in.tif", x)
    nifti("in.nii", x)
    expected = by_hand(x, displaced((14, 17)))
    for given, result in (
        ("in.npy", "a.png"), ("in.npy", "a.tif"), ("in.png", "b.npy"), ("in.png", "b.tif"), ("in.tif", "c.png"),
        ("in.tif", "c.npy"), ("in.nii", "d.npy"), ("in.nii", "d.nii.gz"), ("in.tif", "c.TIFF"),
    ):  # fmt: skip
        works(f"deform {given} {result} {RANDOM}")
        assert_array_equal(images.read(result).array, expected)
    for given, result, message in (
        ("in.png", "e.nii", "e.nii: NIfTI needs the affine map of a NIfTI, which in.png is not"),
        ("in.nii", "e.tif", "e.tif: in.nii does not say what its axes would be in a TIFF; write .nii"),
    ):
        code, err = run(f"deform {given} {result} {RANDOM}")
        assert code == 1 and message in err and not os.path.exists(result)


# ---- options ---------------------------------------------------------------------------------------------------------
def test_options_are_those_of_deform(works):
    x = random((14, 17), np.float64)
    np.save("in.npy", x)
    for line, u, how in (
        ("--sigma 1,3 --points 3,4 --seed 5", displaced((14, 17), (3, 4), (1, 3), 5), {}),
        ("--sigma 9 --seed 1 --fixed-border", displaced((14, 17), 3, 9, 1, fixed_border=True), {}),
        ("--sigma 2 --seed 0 --order 0", displaced((14, 17)), {"kernel": "nearest"}),
        ("--sigma 2 --seed 0 --order 1 --boundary mirror", displaced((14, 17)), {"kernel": 1, "boundary": "mirror"}),
        ("--sigma 2 --seed 0 --cval -3.5", displaced((14, 17)), {"cval": -3.5}),
        ("--rotate -30 --zoom 1.5", None, {"rotate": -30, "zoom": 1.5}),
        ("--crop -9:,:12 --zoom 2", None, {"crop": (slice(-9, None), slice(0, 12)), "zoom": 2}),
        ("--sigma 2 --seed 0 --rotate 10", displaced((14, 17)), {"rotate": 10}),
    ):
        works(f"deform in.npy out.npy --overwrite {line}")
        assert_array_equal(np.load("out.npy"), gf.deform(x, u, **how))


@pytest.mark.parametrize("name", ("g8.png", "v.nii"))
def test_nothing_folds_with_rotation_and_zoom_either(works, name):
    """The Jacobian of where pixels come from, inv(A) + du/dx in the units of the file."""
    if name == "g8.png":
        shape, sizes, line = (40, 60), (1, 1), "--points 2 --sigma 60 --seed 174"
        Pillow.fromarray(random(shape, np.uint8)).save(name)
        maps = (("--zoom 5", np.eye(2) * 5), ("--rotate 90 --zoom 2,3", np.array([[0, -3], [2, 0]])), ("", np.eye(2)))
    else:
        shape, sizes, line = (9, 10, 11), (1.0, 2.0, 4.0), "--points 3 --sigma 20 --seed 0 --physical"
        nifti(name, random(shape, np.int16), affine=np.diag([*sizes, 1.0]))
        turn = np.array([[0, -1, 0], [1, 0, 0], [0, 0, 1.0]])
        maps = (("--rotate 0,0,90 --zoom 1,1,3", turn * (1, 1, 3)),)
    grid, least = np.reshape(sizes, (-1, *[1] * len(sizes))), {}
    for how, affine in maps:
        for fold_free in ("--fold-free", ""):
            out = f"deform {name} out{name[-4:]} {line} {how} {fold_free} --order 1 --overwrite"
            works(f"{out} --save-displacement u.npy")
            u = gf.displacement_field(np.load("u.npy") * grid, shape)
            slopes = np.moveaxis([np.gradient(x, *sizes) for x in u], (0, 1), (-2, -1))
            least[fold_free] = np.linalg.det(slopes + np.linalg.inv(affine)).min()
            assert_array_equal(turned_as(name, shape, sizes, how), affine)
        assert least[""] < 0 < least["--fold-free"] if how else least["--fold-free"] > 0


def turned_as(name, shape, sizes, how):
    """The matrix that gf.deform makes of rotation and zoom, by the points it moves."""
    options = {}
    for option, words in zip(how.split()[::2], how.split()[1::2], strict=True):
        numbers = [float(w) for w in words.split(",")]
        options[option[2:]] = numbers if len(numbers) > 1 else numbers[0]
    centre = (np.array(shape) - 1) / 2 * sizes
    moved = gf.deform_points(centre + np.eye(len(shape)), None, shape, spacing=sizes, **options) - centre
    return moved.T.round(9) + 0.0


def test_replay(works, run):
    """A seed that was drawn is shown, and gives the same again; so does the displacement that was kept."""
    np.save("in.npy", random((14, 17), np.float64))
    code, err = run("deform in.npy out.npy --order 1 --sigma 2 --save-displacement u.npy")
    seed = re.fullmatch(r"seed (\d+)\n", err)[1]
    assert code == 0
    works(f"deform in.npy again.npy --order 1 --sigma 2 --seed {seed}")
    works("deform in.npy replayed.npy --order 1 --displacement u.npy")
    dense = gf.displacement_field(np.load("u.npy"), (14, 17))
    np.save("dense.npy", dense)
    works("deform in.npy by_dense.npy --order 1 --displacement dense.npy")
    y = np.load("out.npy")
    assert_array_equal(np.load("again.npy"), y)
    assert_array_equal(np.load("replayed.npy"), y)
    assert_allclose(np.load("by_dense.npy"), y, atol=1e-10)


def test_the_same_seed_gives_the_same_bytes(works):
    x = random((14, 17), np.uint8)
    Pillow.fromarray(x).save("in.png")
    tifffile.imwrite("in.tif", x)
    nifti("in.nii.gz", x)
    np.save("in.npy", x)
    for end in (".png", ".tif", ".nii.gz", ".npy"):
        for name in ("one", "two"):
            works(f"deform in{end} {name}{end} {RANDOM}")
        with open(f"one{end}", "rb") as one, open(f"two{end}", "rb") as two:
            assert one.read() == two.read()


def test_labels_move_with_the_image(works):
    """Blocks of grey values, and the same as labels, in several files and layouts."""
    x = np.kron(np.arange(12, dtype=np.uint8).reshape(3, 4), np.ones((6, 6), np.uint8))
    Pillow.fromarray(np.dstack([x] * 3)).save("in.png")
    Pillow.fromarray(x).save("mask.png")
    np.save("mask.npy", x.astype(np.int64))
    works("deform in.png out.png --sigma 2 --seed 0 --order 0 --cval 77 --label-cval 77 --label mask.png a.png "
          "--label mask.npy b.npy")  # fmt: skip
    moved = np.array(Pillow.open("out.png"))[..., 0]
    assert_array_equal(Pillow.open("a.png"), moved)
    assert_array_equal(np.load("b.npy"), moved)
    assert np.load("b.npy").dtype == np.int64 and (moved == 77).any()
    stack = np.stack([x, x + 1])
    np.save("stack.npy", stack)
    works("deform stack.npy out.npy --axes 1,2 --sigma 2 --seed 0 --order 0 --cval 77 --label-cval 77 "
          "--label mask.npy c.npy")  # fmt: skip
    assert_array_equal(np.load("c.npy"), moved)


def test_writing_over(works, run):
    np.save("in.npy", random((14, 17), np.float64))
    code, err = run(f"deform in.npy in.npy {RANDOM}")
    assert (code, err) == (1, "gridfield deform: error: in.npy: exists; --overwrite writes over it\n")
    expected = by_hand(np.load("in.npy"), displaced((14, 17)))
    works(f"deform in.npy in.npy {RANDOM} --overwrite")
    assert_array_equal(np.load("in.npy"), expected)
    x = random((9, 10, 11), np.int16)
    nifti("in.nii", x)
    works(f"deform in.nii in.nii {RANDOM} --overwrite")
    assert_array_equal(nibabel.load("in.nii").dataobj, by_hand(x, displaced((9, 10, 11))))


@pytest.mark.skipif(os.name == "nt", reason="needs a right there")
def test_a_link_stays_a_link(works):
    np.save("in.npy", random((14, 17), np.float64))
    np.save("real.npy", 0)
    os.symlink("real.npy", "link.npy")
    works(f"deform in.npy link.npy {RANDOM} --overwrite")
    assert os.path.islink("link.npy") and np.load("real.npy").shape == (14, 17)


def test_nothing_is_left_of_what_went_wrong(run, monkeypatch, here):
    np.save("in.npy", random((14, 17), np.float64))

    def full(path, *_):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(images, "_write_npy", full)
    code, err = run(f"deform in.npy out.npy {RANDOM}")
    assert code == 1 and "No space left on device" in err
    assert [p.name for p in here.iterdir()] == ["in.npy"]


def test_what_it_says(run, here):
    tifffile.imwrite("in.tif", random((2, 14, 17), np.uint8), photometric="minisblack", metadata=None)
    code, err = run(f"deform in.tif out.tif {RANDOM} --verbose")
    assert code == 0 and "(2, 14, 17), deformed along YX, alike along " in err and "wrote out.tif: uint8" in err
    assert run("deform in.tif out.tif --order 1 --sigma 2 --overwrite --quiet") == (0, "")


@pytest.mark.parametrize("name", ("in.png", "in.nii"))
def test_preview(works, monkeypatch, name):
    """Of pictures, here grey and opacity, and of volumes: of the first one."""
    monkeypatch.setattr(cli, "DPI", 40)
    monkeypatch.setattr(gf.plot.deformations, "STEPS", 30)
    if name == "in.png":
        Pillow.fromarray(random((14, 17, 2), np.uint8)).save(name)
    else:
        nifti(name, random((9, 10, 11, 2), np.int16))
    rotate = "0,0,10" if name == "in.nii" else "10"
    works(f"deform {name} out{name[2:]} {RANDOM} --rotate {rotate} --preview grid.png")
    with Pillow.open("grid.png") as picture:
        assert min(picture.size) > 200 and len(np.unique(np.array(picture.convert("L")))) > 50


# ---- what cannot be done ---------------------------------------------------------------------------------------------
def test_values_that_a_file_cannot_hold(run, works):
    """Errors before anything is written; the default is what is nearest to 0."""
    x = random((14, 17), np.uint8)
    Pillow.fromarray(x).save("in.png")
    Pillow.fromarray(x > 99).save("bits.png")
    np.save("f4.npy", x.astype(np.float32))
    nifti("s.nii", random((9, 10, 11), np.int16), (0.1, -7.0))
    nifti("far.nii", random((9, 10, 11), np.uint8), (0.5, 9.75))
    before = set(os.listdir())
    for line, message in (
        ("in.png out.png --cval 300", "--cval: 300 is none of the numbers that in.png can hold, 0 to 255 (uint8)"),
        ("in.png out.png --cval -1", "--cval: -1 is none"),
        ("in.png out.png --cval nan", "--cval: nan is none"),
        ("in.png out.png --cval inf", "--cval: inf is none"),
        ("f4.npy out.npy --cval 1e39", "--cval: 1e+39 is none of the numbers that f4.npy can hold, -3.4"),
        ("in.png out.png --label in.png m.png --label-cval 300", "--label-cval: 300 is none"),
        ("in.png out.png --label in.png m.png --label-cval 3.5", "in.png can hold, 0 to 255 in steps of 1 (uint8)"),
        ("in.png out.png --label in.png m.png --label-cval nan", "--label-cval: nan is none"),
        ("in.png out.png --label in.png m.png --label-cval inf", "--label-cval: inf is none"),
        ("in.png out.png --label in.png m.png --label-cval -1 --label-kernel label", "--label-cval: -1 is none"),
        ("in.png out.png --label bits.png m.png --label-cval 2", "bits.png can hold, 0 to 1 in steps of 1 (bool)"),
        ("s.nii out.nii --cval 3270", "--cval: 3270 is none of the numbers that s.nii can hold, -3283.8 to 3269.7"),
        ("s.nii out.nii --label s.nii m.nii --label-cval 0.35", "--label-cval: 0.35 is none"),
        ("far.nii out.nii --cval 0", "--cval: 0 is none of the numbers that far.nii can hold, 9.75 to 137.25"),
    ):
        code, err = run(f"deform {line} {RANDOM}")
        assert code == 2 and "error: argument --" in err and message in err, (line, code, err)
        assert err.count("\n") == 1 and set(os.listdir()) == before
    works("deform s.nii out.nii --order 0 --zoom 0.3 --cval 0.3 --label s.nii m.nii --label-cval 0.3 "
          "--label-kernel label")  # fmt: skip
    for name in ("out.nii", "m.nii"):
        assert nibabel.load(name).dataobj.get_unscaled()[0, 0, 0] == 73
    works("deform far.nii far_out.nii --order 1 --zoom 0.3 --label far.nii far_m.nii --label-kernel label")
    for name in ("far_out.nii", "far_m.nii"):
        assert nibabel.load(name).get_fdata()[0, 0, 0] == 9.75
    works("deform f4.npy out.npy --order 1 --zoom 0.3 --cval nan")
    assert np.isnan(np.load("out.npy")[0, 0])


def test_colours_stay_together(run, works):
    x = random((14, 17, 3), np.uint8)
    Pillow.fromarray(x).save("rgb.png")
    tifffile.imwrite("rgb.tif", x, photometric="rgb")
    before = set(os.listdir())
    for end in ("png", "tif"):
        code, err = run(f"deform rgb.{end} out.{end} --axes YXS {RANDOM} --crop :,:,0:2")
        assert code == 2 and f"argument --crop: axis 2 (S) of rgb.{end} is of colours, which stay together" in err
        assert set(os.listdir()) == before
    works(f"deform rgb.png out.png --axes YXS {RANDOM} --crop 1:9,:,:")
    assert_array_equal(Pillow.open("out.png"), by_hand(x, displaced(x.shape), crop=(slice(1, 9), slice(17), slice(3))))


def test_wrong_arguments(run, here):
    Pillow.fromarray(random((14, 17), np.uint8)).save("in.png")
    np.save("u.npy", np.zeros((2, 3, 3)))
    np.save("far.npy", np.full((2, 3, 3), -1e308))
    before = set(os.listdir())
    for line, message in (
        ("", "required: COMMAND"),
        ("warp a b", "invalid choice: 'warp'"),
        ("deform in.png", "required: OUT"),
        ("deform in.png out.png", "nothing to do: give one of --sigma"),
        ("deform in.png out.png --sigma -1", "argument --sigma: must be a number from 0 to 1e+09"),
        ("deform in.png out.png --sigma nan", "argument --sigma: must be a number from 0 to 1e+09"),
        ("deform in.png out.png --sigma 1e308", "argument --sigma: must be a number from 0 to 1e+09"),
        ("deform in.png out.png --sigma 1e9 --seed 0", "argument --sigma: displaces by up to "),
        ("deform in.png out.png --displacement far.npy", "far.npy: displaces by up to 1e+308 pixels, and may by 1e+09"),
        ("deform in.png out.png --sigma 1,2,3", "argument --sigma: got 3 values for 2 deformed axes (14, 17)"),
        ("deform in.png out.png --sigma 2 --points 1", "argument --points: must be an integer of 2 or more"),
        ("deform in.png out.png --sigma 2 --points 2.5", "argument --points: must be an integer of 2 or more"),
        ("deform in.png out.png --sigma 2 --seed -4", "argument --seed: must be an integer of 0 or more"),
        ("deform in.png out.png --sigma 2 --order 6", "argument --order: invalid choice"),
        ("deform in.png out.png --sigma 2 --boundary odd", "argument --boundary: invalid choice"),
        ("deform in.png out.png --sigma 2 --cval x", "argument --cval: must be a number"),
        ("deform in.png out.png --sigma 2 --crop 3", "argument --crop: must be one slice per axis"),
        (
            "deform in.png out.png --sigma 2 --crop 3:90,:",
            "argument --crop: 3:90 is no part of 0:14, axis 0 (Y) of in.png",
        ),
        ("deform in.png out.png --sigma 2 --crop :,-3:2", "argument --crop: -3:2 is no part of 0:17, axis 1 (X) of"),
        ("deform in.png out.png --sigma 2 --crop 3:9", "argument --crop: got 1 slices for 2 deformed axes (14, 17)"),
        ("deform in.png out.png --zoom 0", "argument --zoom: must be a number from 1e-6 to 1e6"),
        ("deform in.png out.png --zoom 1e-300", "argument --zoom: must be a number from 1e-6 to 1e6"),
        ("deform in.png out.png --sgma 2", "unrecognized arguments: --sgma 2 (see gridfield deform --help)"),
        ("deform in.png out.png --rotate 1,2,3", "argument --rotate: needs one angle for 2 deformed axes"),
        ("deform in.png out.png --sigma 2 --axes ZX", "argument --axes: must name axes of in.png, YX or 0 to 1"),
        ("deform in.png out.png --sigma 2 --axes 0,0", "argument --axes: must name axes of in.png"),
        ("deform in.png out.png --rotate 3 --axes 0", "argument --rotate: needs 2 or 3 deformed axes"),
        ("deform in.png out.png --sigma 2 --physical", "--physical: in.png does not say how large its pixels are"),
        ("deform in.png out.png --rotate 2 --seed 1", "--seed is for random displacements, so it needs --sigma"),
        ("deform in.png out.png --sigma 2 --displacement u.npy", "--sigma and --displacement exclude each other"),
        ("deform in.png out.png --displacement u.npy --save-displacement v.npy", "--save-displacement needs --sigma"),
        ("deform in.png out.png --displacement in.png", "in.png: a displacement is kept in .npy"),
        ("deform in.png out.xyz --sigma 2", "out.xyz: the extension must be one of .png"),
        ("deform in out.png --sigma 2", "in: the extension must be one of .png"),
        ("deform in.png out.png --sigma 2 --label in.png mask.jpg", "mask.jpg: JPEG would change labels"),
        ("deform in.png out.png --sigma 2 --label in.png out.png", "two of the files to write are the same"),
        ("deform in.png out.png --sigma 2 --preview grid", "grid: the preview needs an extension"),
        ("deform in.png out.png --sigma 2 --preview grid.odd", "grid.odd: the preview may be ."),
        ("deform in.png out.png --sigma 2 -q -v", "not allowed with argument"),
    ):
        code, err = run(line)
        assert code == 2 and message in err and err.count("\n") == 1, (line, code, err)
        assert err.startswith("gridfield")
    assert set(os.listdir()) == before


def test_files_that_do_not_do(run, here):
    x = random((14, 17), np.uint8)
    Pillow.fromarray(x).save("in.png")
    Pillow.fromarray(x[:9]).save("small.png")
    Pillow.fromarray(random((14, 17, 4), np.uint8)).save("rgb.png")
    tifffile.imwrite("colours.tif", x, photometric="palette", colormap=random((3, 256), np.uint16))
    np.save("in.npy", x)
    np.save("float.npy", x / 3)
    np.save("words.npy", np.array(["a"]))
    np.save("empty.npy", np.zeros((0, 4)))
    np.save("number.npy", np.float64(3))
    np.save("odd.npy", np.zeros((3, 3, 3)))
    np.save("thin.npy", np.zeros((2, 1, 3)))
    np.save("nan.npy", np.full((2, 3, 3), np.nan))
    np.save("objects.npy", np.array([{}]), allow_pickle=True)
    frame = Pillow.fromarray(x)
    frame.save("film.png", save_all=True, append_images=[frame.rotate(90), frame])
    tifffile.imwrite("two.tif", x)
    tifffile.imwrite("two.tif", np.zeros((4, 5), np.float32), append=True)
    for name in ("broken.png", "broken.tif", "broken.nii", "broken.nii.gz", "broken.npy"):
        (here / name).write_bytes(b"\x1f\x8b nothing of the kind" * 20)
    (here / "cut.png").write_bytes((here / "in.png").read_bytes()[:100])
    (here / "deep.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(16) + bytes([16, 2]) + bytes(9))
    (here / "folder.png").mkdir()
    before = set(os.listdir())
    for line, message in (
        ("gone.png out.png", "gone.png: there is no such file"),
        ("folder.png out.png", "folder.png: there is no such file"),
        ("in.png folder.png --overwrite", "folder.png: is a folder"),
        ("in.png no/out.png", "no/out.png: there is no folder"),
        ("in.png in.png", "in.png: exists"),
        ("broken.png out.png", "broken.png: cannot be read as .png"),
        ("cut.png out.png", "cut.png: cannot be read as .png"),
        ("broken.tif out.tif", "broken.tif: cannot be read as .tif"),
        ("broken.nii out.nii", "broken.nii: cannot be read as .nii"),
        ("broken.nii.gz out.nii", "broken.nii.gz: cannot be read as .nii.gz"),
        ("broken.npy out.npy", "broken.npy: cannot be read as .npy"),
        ("objects.npy out.npy", "objects.npy: cannot be read as .npy"),
        ("words.npy out.npy", "words.npy: holds <U1, which are not numbers"),
        ("empty.npy out.npy", "empty.npy: is empty, of shape (0, 4)"),
        ("number.npy out.npy", "number.npy: holds no array"),
        ("film.png out.png", "film.png: has 3 frames"),
        ("two.tif out.tif", "two.tif: holds 2 images of different kinds"),
        ("deep.png out.png", "deep.png: has 16 bits for each colour"),
        ("rgb.png out.jpg", "out.jpg: JPEG cannot hold uint8 of shape (14, 17, 4) (YXS); write .png\n"),
        (
            "colours.tif out.jpg --order 0",
            "out.jpg: JPEG cannot hold uint8 of shape (14, 17) (YX) with a palette; write",
        ),
        ("float.npy out.png", "out.png: PNG cannot hold float64 of shape (14, 17) (YX); write .npy"),
        ("in.png out.png --label small.png mask.png", "small.png: its deformed axes have the sizes (9, 17) but"),
        ("in.png out.png --label gone.png mask.png", "gone.png: there is no such file"),
        ("in.png out.png --label odd.npy mask.npy", "odd.npy: has the shape (3, 3, 3), in which the 2 deformed"),
        ("in.png out.png --label float.npy m.npy --label-kernel label", "float.npy: holds float64; --label-kernel"),
    ):
        code, err = run(f"deform {line} {RANDOM if '--order' not in line else RANDOM[:-9]}")
        assert code == 1 and message in err and err.count("\n") == 1, (line, code, err)
    code, err = run(f"deform in.png out.png --axes 0 --preview grid.png {RANDOM}")
    assert code == 1 and "grid.png: a preview is of 2 or 3 deformed axes, not 1" in err
    for name, message in (
        ("odd.npy", "odd.npy: is float64 of shape (3, 3, 3), but a displacement of the 2 deformed axes (14, 17)"),
        ("thin.npy", "thin.npy: has the shape (2, 1, 3), but each axis needs at least 2 control points"),
        ("nan.npy", "nan.npy: is not finite"),
        ("gone.npy", "gone.npy: there is no such file"),
    ):
        code, err = run(f"deform in.png out.png --displacement {name}")
        assert code == 1 and message in err, (name, code, err)
    assert set(os.listdir()) == before


def test_without_the_libraries(run, monkeypatch):
    """An error that says what to install; tqdm is not missed."""
    np.save("in.npy", random((14, 17), np.uint8))
    for name in ("in.png", "in.tif", "in.nii"):
        open(name, "wb").close()
    whole = builtins.__import__

    def without(name, *args):
        if name.partition(".")[0] in ("PIL", "tifffile", "nibabel", "tqdm"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return whole(name, *args)

    with monkeypatch.context() as patch:
        patch.setattr(builtins, "__import__", without)
        for name, library in (("in.png", "PIL"), ("in.tif", "tifffile"), ("in.nii", "nibabel")):
            code, err = run(f"deform {name} out{name[2:]} {RANDOM}")
            assert code == 1 and f'{name} needs {library}, which is not installed: pip install "gridfield[io]"' in err
        assert run(f"deform in.npy out.npy --axes 1 {RANDOM}") == (0, "")


def test_version(capsys):
    with pytest.raises(SystemExit, match="0"):
        cli.main(["--version"])
    assert capsys.readouterr().out == f"gridfield {gf.__version__}\n"


def test_interrupted(run, monkeypatch):
    np.save("in.npy", random((14, 17), np.float64))

    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(images, "read", stop)
    assert run(f"deform in.npy out.npy {RANDOM}") == (130, "gridfield deform: interrupted\n")


# ---- processes of their own ------------------------------------------------------------------------------------------
def process(*command):
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    return done.returncode, done.stdout, done.stderr


def test_help_is_quick():
    """It says what is deformed, and imports neither Numba nor NumPy."""
    code = (
        "import sys, contextlib\nfrom gridfield.cli import main\n"
        "with contextlib.suppress(SystemExit):\n    main(['deform', '--help'])\n"
        "print('numba' in sys.modules, 'numpy' in sys.modules, 'matplotlib' in sys.modules)"
    )
    returned, out, err = process(sys.executable, "-c", code)
    assert (returned, err) == (0, "") and out.endswith("False False False\n")
    for words in ("--label MASK OUT", "the first three axes of a NIfTI", "in pixels"):
        assert words in out
    from gridfield.boundary import BOUNDARIES

    assert set(options.BOUNDARIES) == set(BOUNDARIES)


def test_as_a_process():
    np.save("in.npy", random((14, 17), np.float64))
    line = (sys.executable, "-m", "gridfield")
    assert process(*line, "deform", "in.npy", "out.npy", *RANDOM.split()) == (0, "", "")
    assert_array_equal(np.load("out.npy"), by_hand(np.load("in.npy"), displaced((14, 17))))
    returned, out, err = process(*line, "deform", "gone.npy", "out.npy", *RANDOM.split(), "--overwrite")
    assert (returned, out, err) == (1, "", "gridfield deform: error: gone.npy: there is no such file\n")


def test_public_names_come_when_they_are_asked_for():
    """`import gridfield` imports no Numba; a function is not hidden by the module of its name."""
    code = """
import sys
import gridfield as gf
assert "numba" not in sys.modules and gf.__version__
assert set(gf.__all__) < set(dir(gf))
import gridfield.deform
import gridfield.plot
assert callable(gf.deform) and gf.deform.__module__ == "gridfield"
from gridfield import *
assert sample is gf.sample and plot is gf.plot and "numba" in sys.modules
assert all(getattr(gf, name) is not None for name in gf.__all__)
try:
    gf.nothing
except AttributeError as error:
    assert str(error) == "module 'gridfield' has no attribute 'nothing'"
else:
    raise SystemExit(1)
"""
    assert process(sys.executable, "-c", code) == (0, "", "")
    from gridfield import vocabulary

    listed = {name for name in vars(vocabulary) if not name.startswith("__")}
    assert listed == set(gf.__all__) - {"plot"}


def test_progress(run, monkeypatch):
    """A bar for stacks, on a terminal."""
    tqdm = pytest.importorskip("tqdm")
    shown = []

    def bar(items, **how):
        shown.append(how)
        return items

    monkeypatch.setattr(tqdm, "tqdm", bar)
    tifffile.imwrite("in.tif", random((3, 14, 17), np.uint8), photometric="minisblack", metadata=None)
    with contextlib.suppress(FileNotFoundError):
        os.remove("out.tif")
    assert run(f"deform in.tif out.tif {RANDOM}") == (0, "")
    assert shown == [{"total": 3, "desc": "in.tif", "disable": None}]
    assert run(f"deform in.tif out.tif {RANDOM} --quiet --overwrite") == (0, "") and len(shown) == 1
