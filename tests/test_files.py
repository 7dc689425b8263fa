"""Fields in files and labelled arrays: the same field again, to the last bit, or an error that says why not."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import builtins
import itertools
import json
import struct
import sys
import threading

import jax
import jax.numpy as jnp
import keras
import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
import tensorflow as tf
import torch
import xarray
from numpy.testing import assert_allclose, assert_array_equal

import gridfield as gf
import gridfield.jax
import gridfield.tensorflow
from gridfield import files
from gridfield.torch import SplineField

CLASSES = {"torch": SplineField, "jax": gf.jax.SplineField, "keras": gf.tensorflow.SplineField}
DTYPES = ("float64", "float32", "float16", "bfloat16")
BITS = {2: np.uint16, 4: np.uint32, 8: np.uint64}
OWN = gf.Kernel([[0.1, 1 / 3], [0.9, -1 / 3]], name="mine")
HOW = {
    "default": {"shape": (4, 5)},
    "units": {"shape": (4, 5), "bounds": [(-1 / 3, 1e-7), (1e6, 1e6 + np.pi)], "kernel": ("quintic", 1)},
    "periodic": {"shape": gf.Grid((4, 5), [(0, 2 * np.pi), (0, 1)], periodic=(True, False)), "boundary": "mirror"},
    "odd": {"shape": (4, 5), "kernel": (OWN, gf.bspline(7)), "boundary": ["reflect", "nearest"]},
    "one": {"shape": (1, 6), "kernel": "catmull_rom", "boundary": ["natural", "wrap"]},
}


def numbers(dtype, shape, seed=0):
    """Random ones, and what is hard to write down."""
    x = np.random.default_rng(seed).normal(size=shape)
    hard = np.nan, np.inf, -np.inf, -0.0, 1e-7, 1 / 3
    x.ravel()[:6] = hard[: x.size]
    return x.astype(getattr(ml_dtypes, dtype, dtype))


def numbers_between(*shape):
    """0 and 1."""
    return np.random.default_rng(0).random(shape)


def make(framework, dtype="float32", channels=2, shape=(4, 5), values=None, **how):
    """A field of one framework with such coefficients."""
    cls = CLASSES[framework]
    kind = getattr(torch, dtype) if framework == "torch" else dtype
    field = cls(shape, channels, dtype=kind, **how)
    values = numbers(dtype, (channels, *field.grid.shape)) if values is None else values
    if framework == "torch":
        with torch.no_grad():
            field.coefficients.copy_(torch.from_numpy(values.astype(np.float64)))
    elif framework == "jax":
        field = field.replace(jnp.asarray(values))
    else:
        field.coefficients.assign(values)
    return field


def bits(field):
    """The coefficients' own bits, and the name of their type."""
    c = field.coefficients
    if isinstance(c, torch.Tensor):
        c = c.detach()
        name = str(c.dtype).removeprefix("torch.")
        c = c.view(torch.int16).numpy() if name == "bfloat16" else c.numpy()
    else:
        c = c.numpy() if isinstance(c, keras.Variable) else np.asarray(c)
        name = c.dtype.name
    return c.view(BITS[c.dtype.itemsize]), name


def same(a, b):
    """The same field to the last bit, in whichever frameworks."""
    assert a.grid == b.grid and a.kernel == b.kernel and a.boundary == b.boundary
    assert [k.name for k in a.kernel] == [k.name for k in b.kernel]
    assert a.spline.labels == b.spline.labels
    (x, one), (y, other) = bits(a), bits(b)
    assert one == other
    nan = np.isnan(a._read("")[0])  # which NaN it is, is nobody's business
    assert_array_equal(nan, np.isnan(b._read("")[0]))
    assert_array_equal(np.where(nan, 0, x), np.where(nan, 0, y))


@pytest.fixture
def x64():
    with jax.enable_x64(True):
        yield


# ---- safetensors -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("framework", CLASSES)
def test_a_file_is_the_field_again_in_every_framework(framework, dtype, tmp_path, x64):
    for name, how in HOW.items():
        field = make(framework, dtype, **how)
        field.save(tmp_path / name)
        for cls in CLASSES.values():
            again = cls.load(tmp_path / name)
            assert type(again) is cls
            same(again, field)
    assert sorted(os.listdir(tmp_path)) == sorted(HOW)  # nothing else is left


def test_the_file_is_a_plain_safetensors_file(tmp_path):
    """By the package of that name: one tensor, the rest as text."""
    field = make("torch", **HOW["odd"])
    field.save(tmp_path / "a.safetensors")
    with safetensors.safe_open(tmp_path / "a.safetensors", "numpy") as file:
        assert list(file.keys()) == ["coefficients"]
        assert_array_equal(file.get_tensor("coefficients"), field.coefficients.detach())
        (text,) = file.metadata().values()
    said = json.loads(text)
    assert said["version"] == 1 and said["boundary"] == ["reflect", "nearest"]
    assert said["kernel"][0] == ["mine", [[0.1, 1 / 3], [0.9, -1 / 3]]]


def test_what_a_loaded_field_can_do(tmp_path):
    field = make("torch", values=np.random.default_rng(0).normal(size=(2, 4, 5)))
    field.save(str(tmp_path / "a"))
    again = SplineField.load(os.fsencode(tmp_path / "a"), device="cpu", dtype=torch.float64)
    assert again.coefficients.requires_grad and again.coefficients.is_leaf and again.coefficients.dtype is torch.float64
    again(torch.rand(3, 2, dtype=torch.float64)).sum().backward()
    assert float(again.coefficients.grad.abs().max()) > 0.1
    assert SplineField.load(tmp_path / "a", device="meta").coefficients.is_meta
    layer = gf.tensorflow.SplineField.load(tmp_path / "a", name="warp", trainable=False)
    assert layer.name == "warp" and layer.trainable_variables == []
    field.requires_grad_(False).double().save(tmp_path / "b")
    half = gf.jax.SplineField.load(tmp_path / "b", dtype="float32")
    assert_allclose(half.coefficients, field.coefficients, rtol=1e-7)
    with pytest.raises(TypeError, match="dtype float64 needs JAX's 64-bit types"):
        gf.jax.SplineField.load(tmp_path / "b")
    with pytest.raises(TypeError, match="argument 'colour'"):  # not silently ignored
        SplineField.load(tmp_path / "b", colour=1)


def test_coefficients_of_any_layout(tmp_path):
    field = SplineField((4, 5), 3)
    field.coefficients = torch.nn.Parameter(torch.randn(5, 4, 6).permute(2, 1, 0)[::2])
    assert not field.coefficients.is_contiguous()
    field.save(tmp_path / "a")
    same(SplineField.load(tmp_path / "a"), field)
    again = SplineField.load(tmp_path / "a")
    same(SplineField.from_xarray(field.to_xarray()[:, ::-1]), again)


def test_save_replaces_whole_files(tmp_path, monkeypatch):
    """Whatever fails, the file that was there is what it was."""
    path, link = tmp_path / "a", tmp_path / "link"
    one, other = make("torch"), make("torch", shape=(7, 7))
    one.save(path)
    link.symlink_to(path)
    other.save(link)
    assert link.is_symlink()
    same(SplineField.load(path), other)
    assert path.stat().st_mode & 0o777 == 0o666 & ~current_umask()

    def fail(*args):
        raise OSError(28, "No space left on device", "something.part")

    for broken in ("fsync", "replace"):
        with monkeypatch.context() as patch:
            patch.setattr(os, broken, fail)
            with pytest.raises(OSError, match=r"gf\.torch\.SplineField\.save: No space left on device: '.*/a'$"):
                one.save(path)
        same(SplineField.load(path), other)
    assert sorted(os.listdir(tmp_path)) == ["a", "link"]


def current_umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_threads_save_and_load_one_path(tmp_path):
    fields = [make("torch", shape=(n, n)) for n in (4, 40, 90)]
    fields[0].save(tmp_path / "a")
    wrong = []

    def work(field):
        for _ in range(20):
            field.save(tmp_path / "a")
            try:
                again = SplineField.load(tmp_path / "a")
                same(again, fields[(4, 40, 90).index(again.grid.shape[0])])
            except Exception as error:
                wrong.append(error)

    threads = [threading.Thread(target=work, args=(f,)) for f in fields]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong and os.listdir(tmp_path) == ["a"]


@pytest.mark.parametrize("framework", CLASSES)
def test_every_shortened_file_is_an_error(framework, tmp_path):
    make(framework, shape=3, channels=1).save(tmp_path / "a")
    whole = (tmp_path / "a").read_bytes()
    for n in range(len(whole)):
        (tmp_path / "cut").write_bytes(whole[:n])
        with pytest.raises(ValueError, match=r"SplineField\.load: .*/cut (is cut short or damaged|is not a safetens)"):
            CLASSES[framework].load(tmp_path / "cut")
    (tmp_path / "cut").write_bytes(whole + b"more")
    with pytest.raises(ValueError, match=r"/cut is cut short or damaged"):
        CLASSES[framework].load(tmp_path / "cut")


def test_damage_is_an_error_or_another_field(tmp_path):
    """Any byte of the header changed: nothing but our own errors comes out."""
    make("torch", shape=3, channels=1).save(tmp_path / "a")
    whole = (tmp_path / "a").read_bytes()
    size = 8 + struct.unpack("<Q", whole[:8])[0]
    outcomes = set()
    for at, byte in itertools.product(range(size), (0, 34, 57, 255)):
        (tmp_path / "b").write_bytes(whole[:at] + bytes([byte]) + whole[at + 1 :])
        try:
            outcomes.add(type(SplineField.load(tmp_path / "b")).__name__)
        except ValueError as error:
            outcomes.add(str(error).partition(": /")[0])
    assert outcomes == {"SplineField", "gf.torch.SplineField.load"}  # a field: e.g. with a bound of 9 for 0


def with_metadata(path, change=None, tensors=None, **metadata):
    """A file as `save` writes it, but for some of what it says."""
    said = json.loads(files.describe(SplineField(3).spline, "float32", {})) | (change or {})
    metadata = {"gridfield": json.dumps(said)} | metadata
    tensors = {"coefficients": np.zeros((1, 3), np.float32)} if tensors is None else tensors
    safetensors.numpy.save_file(tensors, path, metadata)


GRID = [[3], [0.0], [0.5], [False]]
CONTRADICTIONS = {
    "version of the future": ({"change": {"version": 2}}, "has version 2 of the format, but this gridfield reads"),
    "no version": ({"change": {"version": None}}, "has version None"),
    "shape": ({"tensors": {"coefficients": np.zeros((1, 4), "f4")}}, r"of shape \(1, 4\), which must be \(channels, "),
    "axes": ({"tensors": {"coefficients": np.zeros((1, 3, 3), "f4")}}, r"of shape \(1, 3, 3\), which must be"),
    "no channels": ({"tensors": {"coefficients": np.zeros((0, 3), "f4")}}, r"of shape \(0, 3\)"),
    "integers": ({"tensors": {"coefficients": np.zeros((1, 3), "i4")}}, "of type I32, which must be one of F64, F32"),
    "another tensor": ({"tensors": {"weight": np.zeros((1, 3), "f4")}}, r"must hold one tensor, 'coefficients'"),
    "kernel": ({"change": {"kernel": ["septic"]}}, r"does not describe a field \(KeyError"),
    "table": ({"change": {"kernel": [["mine", [[None]]]]}}, "does not describe a field"),
    "boundary": ({"change": {"boundary": ["sticky"]}}, "does not describe a field .*boundary must be one of"),
    "spacing": ({"change": {"grid": [[3], [0.0], [-1.0], [False]]}}, "does not describe a field .*positive"),
    "grid": ({"change": {"grid": 7}}, "does not describe a field"),
    "labels": ({"change": {"labels": [["x", "nm"], ["y", "nm"]]}}, "does not describe a field .*labels"),
    "not JSON": ({"gridfield": "cubic"}, "does not describe a field"),
    "a list": ({"gridfield": "[1]"}, "does not describe a field"),
    "deep": ({"gridfield": "[" * 100_000}, "does not describe a field"),
    "constraint": ({"change": {"arguments": {"convex": True}}}, "describes a field with convex=True, which gf.torch"),
}


@pytest.mark.parametrize("case", CONTRADICTIONS)
def test_metadata_that_contradicts(case, tmp_path):
    how, message = CONTRADICTIONS[case]
    with_metadata(tmp_path / "a", **how)
    with pytest.raises(ValueError, match=rf"gf\.torch\.SplineField\.load: .*/a .*{message}"):
        SplineField.load(tmp_path / "a")


def test_without_contradiction_it_loads(tmp_path):
    with_metadata(tmp_path / "a", change={"grid": GRID, "later": "something that may be ignored"})
    assert SplineField.load(tmp_path / "a").grid == gf.Grid(3)


def test_foreign_files(tmp_path, monkeypatch):
    path = tmp_path / "a"
    for content in (b"", b"abc", b"\x89PNG\r\n\x1a\n" + bytes(100), bytes(1000), b"PK\x03\x04" * 50, b"{" * 100):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"gf\.torch\.SplineField\.load: .*/a is not a safetensors file"):
            SplineField.load(path)
    torch.save({"coefficients": torch.zeros(3)}, path)
    with pytest.raises(ValueError, match="is not a safetensors file"):
        SplineField.load(path)
    safetensors.numpy.save_file({"weight": np.zeros(3), "bias": np.zeros(3)}, path, {"format": "pt"})
    with pytest.raises(ValueError, match=r"/a is a safetensors file of something else \(bias, weight\)"):
        SplineField.load(path)
    safetensors.numpy.save_file({}, path)
    with pytest.raises(ValueError, match=r"of something else \(no tensors\)"):
        SplineField.load(path)


@pytest.mark.parametrize("framework", CLASSES)
def test_paths_that_are_no_files(framework, tmp_path):
    name, cls, field = rf"gf\.{CLASSES[framework].__module__[10:]}\.SplineField", CLASSES[framework], make(framework)
    with pytest.raises(FileNotFoundError, match=rf"{name}\.load: No such file or directory: '.*/none'"):
        cls.load(tmp_path / "none")
    with pytest.raises(FileNotFoundError, match=rf"{name}\.save: No such file or directory: '.*/none/a'"):
        field.save(tmp_path / "none" / "a")
    with pytest.raises(IsADirectoryError, match=rf"{name}\.load: Is a directory: '{tmp_path}'"):
        cls.load(tmp_path)
    with pytest.raises(IsADirectoryError, match=rf"{name}\.save: Is a directory: '{tmp_path}'"):
        field.save(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match=rf"{name}\.save: Not a regular file: '.*/pipe'"):
        field.save(tmp_path / "pipe")
    for call in (field.save, cls.load):
        with pytest.raises(TypeError, match=rf"{name}\..*: path must be a str or os\.PathLike, got int"):
            call(7)


def test_coefficients_without_values(tmp_path):
    message = r"gf\..*\.SplineField\.save: coefficients have no values here"
    with pytest.raises(TypeError, match=message):
        SplineField(3, device="meta").save(tmp_path / "a")
    with pytest.raises(TypeError, match=message):
        jax.jit(lambda f: f.save(tmp_path / "a"))(make("jax"))
    with pytest.raises(TypeError, match=message):
        tf.function(lambda: make("keras").save(tmp_path / "a"))()
    with pytest.raises(TypeError, match=r"\.save: coefficients have dtype float8_e5m2 but must be one of"):
        SplineField(3, dtype=torch.float8_e5m2).save(tmp_path / "a")
    ensemble = jax.vmap(lambda c: make("jax").replace(c))(jnp.zeros((3, 2, 4, 5)))
    with pytest.raises(
        ValueError, match=r"coefficients have shape \(3, 2, 4, 5\) but must be \(channels, \*\(4, 5\)\)"
    ):
        ensemble.save(tmp_path / "a")
    assert os.listdir(tmp_path) == []


def test_what_is_missing_is_named(tmp_path, monkeypatch):
    make("torch").save(tmp_path / "a")
    array = make("torch").to_xarray()
    whole = builtins.__import__

    def without(name, *args):
        if name.partition(".")[0] in ("safetensors", "xarray"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return whole(name, *args)

    monkeypatch.setattr(builtins, "__import__", without)
    for call in (lambda: make("torch").save(tmp_path / "b"), lambda: SplineField.load(tmp_path / "a")):
        with pytest.raises(
            ImportError, match=r'needs safetensors.*, which is not installed: pip install "gridfield\[fi'
        ):
            call()
    for call in (make("torch").to_xarray, lambda: SplineField.from_xarray(array)):
        with pytest.raises(
            ImportError, match=r'needs xarray, which is not installed: pip install "gridfield\[xarray\]"'
        ):
            call()


def test_further_arguments_of_a_class_travel(tmp_path):
    """The way for constraints: attributes that a class stores, and gets back as arguments."""

    class Tense(SplineField):
        _stored = ("tension",)

        def __init__(self, *args, tension=None, **how):
            super().__init__(*args, **how)
            self.tension = tension

    with torch.no_grad():
        tense, slack = Tense((3, 4), tension=0.1), Tense((3, 4))
    tense.save(tmp_path / "a")
    slack.save(tmp_path / "b")
    assert Tense.load(tmp_path / "a").tension == 0.1 and Tense.from_xarray(tense.to_xarray()).tension == 0.1
    with pytest.raises(ValueError, match=r"tension=0\.1, which gf\.torch\.SplineField does not have"):
        SplineField.load(tmp_path / "a")
    assert type(SplineField.load(tmp_path / "b")) is SplineField and Tense.load(tmp_path / "b").tension is None


# ---- xarray ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("framework", CLASSES)
def test_a_labelled_array_is_the_field_again(framework, dtype, tmp_path, x64):
    for how in HOW.values():
        field = make(framework, dtype, **how)
        array = field.to_xarray(dims=("y", "x"), units=("nm", None))
        assert array.dims == ("channel", "y", "x") and array.name == "coefficients"
        for dim, x in zip("yx", field.grid.axes(), strict=True):
            assert_array_equal(array[dim], x)
        assert array.y.units == "nm" and "units" not in array.x.attrs
        array.to_netcdf(tmp_path / "a.nc", engine="scipy")
        with xarray.open_dataarray(tmp_path / "a.nc", engine="scipy") as read:
            for cls, a in itertools.product(CLASSES.values(), (array, read)):
                again = cls.from_xarray(a)
                assert again.spline.labels == (("y", "nm"), ("x", ""))
                object.__setattr__(again, "spline", again.spline.labelled(()))
                same(again, field)


def test_names_and_units_stay_with_the_field(tmp_path):
    array = make("torch").to_xarray(dims=("time", "x"), units=("s", "µm"))
    field = SplineField.from_xarray(array)
    field.save(tmp_path / "a")
    layer = gf.tensorflow.SplineField.load(tmp_path / "a")
    for one in (
        field,
        field.refine(2),
        field.resample((3, 3)),
        layer,
        layer.refine(2),
        gf.tensorflow.SplineField.from_config(layer.get_config()),
        jax.jit(lambda f: f.refine(2))(gf.jax.SplineField.load(tmp_path / "a")),
    ):
        again = one.to_xarray()
        assert again.dims == ("channel", "time", "x") and (again.time.units, again.x.units) == ("s", "µm")
    assert field.to_xarray(units="mm").dims == array.dims and field.to_xarray(units="mm").time.units == "mm"
    assert field.to_xarray(dims=("a", "b")).a.units == "s"
    renamed = SplineField.from_xarray(array.rename(time="frame").rename(channel="component")).to_xarray()
    assert renamed.dims == ("channel", "frame", "x") and renamed.frame.units == "s"
    plain = make("torch")
    same(SplineField.from_xarray(plain.to_xarray()), plain)  # without names it has none afterwards
    assert plain.to_xarray().dims == ("channel", "x0", "x1")


def test_axes_are_found_by_name():
    field = make("torch", shape=(4, 5, 6), channels=3)
    array = field.to_xarray()
    for order in itertools.permutations(array.dims):
        same(SplineField.from_xarray(array.transpose(*order)), field)
    same(SplineField.from_xarray(array.isel(x0=[2, 0, 3, 1], x2=slice(None, None, -1))), field)
    same(SplineField.from_xarray(array.sortby("x1", ascending=False)), field)


def test_a_part_is_the_part():
    """Far from the new ends the same field; the control points are at their places."""
    field = make("torch", "float64", shape=(12, 16), bounds=[(0, 11), (5, 8)], values=numbers_between(2, 12, 16))
    array = field.to_xarray()
    part = SplineField.from_xarray(array.isel(x0=slice(3, 11), x1=slice(4, None)))
    assert part.grid.shape == (8, 12) and part.grid.bounds == ((3.0, 10.0), (5.8, 8.0))
    x = torch.from_numpy(np.random.default_rng(0).uniform((5, 6.5), (8, 7.5), (100, 2)))
    assert_allclose(part(x).detach(), field(x).detach(), rtol=1e-12)
    assert_array_equal(SplineField.from_xarray(array.sel(x0=slice(3, 10))).coefficients.detach(), array[:, 3:11])
    one = SplineField.from_xarray(array.isel(channel=1))
    assert one.channels == 1 and torch.equal(one.coefficients[0], field.coefficients[1])
    assert SplineField.from_xarray(array.isel(x0=[4])).grid.bounds[0] == (4.0, 4.0)
    swapped = SplineField.from_xarray(array.isel(channel=[1, 0]))
    assert torch.equal(swapped.coefficients, field.coefficients[[1, 0]])


def test_what_the_user_has_calculated_since():
    array = make("torch", values=numbers_between(2, 4, 5)).to_xarray()
    twice = (array * 2).assign_attrs(array.attrs).astype(np.float64)
    field = SplineField.from_xarray(twice)
    assert field.coefficients.dtype is torch.float64
    assert_array_equal(field.coefficients.detach(), 2 * array.values)
    assert SplineField.from_xarray(array.mean("channel", keep_attrs=True)).channels == 1
    field.coefficients.data.zero_()
    assert np.all(twice > 0)  # a copy
    read_only = array.copy()
    read_only.values.flags.writeable = False
    SplineField.from_xarray(read_only).coefficients.data.zero_()
    assert SplineField.from_xarray(array.chunk({"x0": 2})).channels == 2


def wrong_arrays():
    array = make("torch", shape=(6, 5)).to_xarray(dims=("y", "x"))
    return {
        "without attributes": (array.drop_attrs(), r"no attribute 'gridfield'.*use SplineField\.interpolate"),
        "every other": (array[:, ::2], "has not every control point .* along 'y', once .3 of 6 from 0 to 1.*resample"),
        "twice": (array.isel(x=[0, 1, 1, 2]), "has not every control point .* along 'x'"),
        "a hole": (array.isel(x=[0, 1, 3, 4]), "has not every control point .* along 'x'"),
        "rescaled": (array.assign_coords(y=("y", array.y.values * 1e3, array.y.attrs)), "not those of the control"),
        "between": (array.interp(y=np.array([0.3, 0.5]), kwargs={}), "no coordinates with the attribute|not those of"),
        "averaged": (array.coarsen(y=2).construct(y=("y", "window")).mean("window", keep_attrs=True), "y|axis 0"),
        "NaN": (array.assign_coords(y=("y", [0, np.nan, 0.4, 0.6, 0.8, 1], array.y.attrs)), "not those of"),
        "empty": (array[:, :0], "not those of the control points"),
        "no channels": (array[:0], "has no channels"),
        "an axis less": (array[:, 2], "for axis 0 of the field"),
        "an axis more": (array.expand_dims("time"), "beside them there must be that of the channels only"),
        "no coordinates": (array.drop_vars(["x", "y"]), "for axes 0, 1 of the field"),
        "of the future": (array.assign_attrs(gridfield='{"version": 9}'), "has version 9"),
        "damaged": (array.assign_attrs(gridfield="{"), "does not describe a field"),
        "a part of a period": (
            make("torch", boundary=["wrap", "natural"]).to_xarray()[:, 1:],
            "has 3 of 4 control points along 'x0', but with boundary 'wrap'",
        ),
    }


@pytest.mark.parametrize("case", wrong_arrays())
def test_arrays_that_are_no_field(case):
    array, message = wrong_arrays()[case]
    with pytest.raises(ValueError, match=rf"gf\.torch\.SplineField\.from_xarray: .*(?:{message})"):
        SplineField.from_xarray(array)


def test_types_that_are_no_field(tmp_path):
    array = make("torch", values=np.zeros((2, 4, 5))).to_xarray()
    for wrong, message in (
        (array.to_dataset(), r"must be an xarray\.DataArray, got Dataset"),
        (array.values, "got ndarray"),
        (array.astype(int), "has dtype int64 but must be of floating-point"),
        (array.astype(complex), "has dtype complex128"),
    ):
        with pytest.raises(TypeError, match=message):
            SplineField.from_xarray(wrong)
    field = make("torch", bounds=[(0, 3), (0, 1)])
    field.to_xarray(dims=("t", "x"), units=("days since 2000-01-01", "nm")).to_netcdf(tmp_path / "a.nc", engine="scipy")
    with (
        xarray.open_dataarray(tmp_path / "a.nc") as read,
        pytest.raises(TypeError, match=r"along 't', where the field has numbers .* decode_times=False"),
    ):
        SplineField.from_xarray(read)
    with xarray.open_dataarray(tmp_path / "a.nc", decode_times=False) as read:
        assert SplineField.from_xarray(read).spline.labels[0] == ("t", "days since 2000-01-01")


def test_words_for_axes():
    field = make("torch")
    for how, error, message in (
        ({"dims": ("y",)}, ValueError, r"dims has 1 words \('y',\) but the field has 2 axes"),
        ({"dims": "yx"}, ValueError, "dims has 1 words"),
        ({"dims": ("x", "x")}, ValueError, "dims must be different names"),
        ({"dims": ("channel", "x")}, ValueError, "dims must be .*, none of them 'channel'"),
        ({"dims": ("", "x")}, ValueError, "dims must be different names"),
        ({"dims": (0, 1)}, TypeError, "dims must be a sequence of str"),
        ({"dims": (None, "x")}, TypeError, "dims must be a sequence of str"),
        ({"units": ("nm",)}, ValueError, r"units has 1 words \('nm',\) but the field has 2 axes"),
        ({"units": 7}, TypeError, "units must be a sequence of str"),
    ):
        with pytest.raises(error, match=rf"gf\.torch\.SplineField\.to_xarray: {message}"):
            field.to_xarray(**how)
    assert make("torch", shape=5).to_xarray(dims="x", units="nm", name=None).dims == ("channel", "x")
    assert "xarray" in sys.modules


def test_coordinates_in_single_precision():
    """As files often hold them: 300 control points are still told apart."""
    field = gridfield.torch.SplineField(300, bounds=(0, 17))
    array = field.to_xarray(dims=("t",))
    array = array.assign_coords(t=array.t.astype(np.float32).assign_attrs(array.t.attrs))
    assert type(field).from_xarray(array).grid == field.grid


@pytest.mark.parametrize("what", ({"channels": 5}, {"kernel": "linear"}, {"periodic": True, "bounds": (0, 1)}))
def test_what_the_file_says_cannot_be_given(tmp_path, what):
    SplineField(4).save(tmp_path / "field.safetensors")
    with pytest.raises(TypeError, match=r"SplineField\.load: .* is what the file says, and cannot be given"):
        SplineField.load(tmp_path / "field.safetensors", **what)
