"""Bad input is an error that names the operation, the argument, what was given and what was expected."""

import re

import numpy as np
import pytest
import torch

import gridfield as gf
from gridfield.torch import SplineField

V, X, Y = np.ones((5, 6)), np.ones((10, 2)), np.ones(10)
TV, TX, TY = map(torch.from_numpy, (V, X, Y))
GRID = gf.Grid.pixels((5, 6))
WORDS = "'natural', 'nearest', 'mirror', 'reflect', 'wrap', 'constant', 'grid-constant'"
RAGGED = [[1.0, 2.0], [3.0]]


def sample(values=V, points=X, **how):
    return lambda: gf.sample(values, points, **how)


def splat(values=Y, points=X, grid=GRID, **how):
    return lambda: gf.splat(values, points, grid, **how)


BAD = {  # what: (call, error, message)
    # ---- shapes
    "points of the wrong dimension": (
        sample(V, np.ones((10, 3)), grid=GRID),
        ValueError,
        r"gf\.sample: points has 3 coordinates per point \(shape \(10, 3\)\) but the grid has 2 axes \(5, 6\)",
    ),
    "points of too many dimensions": (
        sample(V, np.ones((10, 3))),
        ValueError,
        r"gf\.sample: points has 3 coordinates per point \(shape \(10, 3\)\) but values has only 2 axes \(5, 6\)",
    ),
    "splat points of the wrong dimension": (
        splat(Y, np.ones((10, 3))),
        ValueError,
        r"gf\.splat: points has 3 coordinates per point \(shape \(10, 3\)\) but the grid has 2 axes \(5, 6\)",
    ),
    "a scalar for points": (
        sample(V, 1.0),
        ValueError,
        r"gf\.sample: points must have shape \(\*pts, ndim\).*got \(\)",
    ),
    "no coordinates": (sample(V, np.ones((3, 0))), ValueError, r"gf\.sample: points must have shape .*got \(3, 0\)"),
    "an empty list": (sample(V, []), ValueError, r"gf\.sample: points must have shape .*got \(0,\)"),
    "a scalar for values": (
        sample(1.0, np.ones((3, 1))),
        ValueError,
        r"gf\.sample: points has 1 .* values has only 0 axes",
    ),
    "no samples": (sample(np.ones((5, 0)), X), ValueError, r"gf\.sample: values has no samples .*\(5, 0\)"),
    "no samples to prefilter": (lambda: gf.prefilter(np.ones((5, 0))), ValueError, r"gf\.prefilter: values .*\(5, 0\)"),
    "no samples to pad": (lambda: gf.pad(np.ones((5, 0)), 1), ValueError, r"gf\.pad: values has shape \(5, 0\)"),
    "values of another shape than the grid": (
        sample(V, X, grid=gf.Grid.pixels((6, 5))),
        ValueError,
        r"gf\.sample: values has shape \(5, 6\) but must end in the grid's shape \(6, 5\)",
    ),
    "too few values": (
        splat(np.ones(9)),
        ValueError,
        r"gf\.splat: values has shape \(9,\) but must begin with the shape of points \(10,\)",
    ),
    "one value for many points": (splat(1.0), ValueError, r"gf\.splat: values has shape \(\) but must begin .*\(10,\)"),
    "values without an axis of derivatives": (
        splat(derivative=[(0, 0), (1, 0)]),
        ValueError,
        r"gf\.splat: values has shape \(10,\) but must begin with the number of derivatives and .* points \(2, 10\)",
    ),
    "a scalar to prefilter": (
        lambda: gf.prefilter(1.0),
        ValueError,
        r"gf\.prefilter: values must have at least one axis",
    ),
    "prefilter of another shape": (
        lambda: gf.prefilter(V, grid=gf.Grid.pixels((5, 5))),
        ValueError,
        r"gf\.prefilter: values has shape \(5, 6\) but must end in the grid's shape \(5, 5\)",
    ),
    "a scalar to pad": (lambda: gf.pad(1.0, 1), ValueError, r"gf\.pad: (margins|values)"),
    "margins for too many axes": (lambda: gf.pad(V, [(1, 1)] * 3), ValueError, r"gf\.pad: margins must be .*at most 2"),
    "negative margins": (lambda: gf.pad(V, -1), ValueError, r"gf\.pad: margins must be an int from 0 .*got -1"),
    "half a sample": (lambda: gf.pad(V, 1.5), ValueError, r"gf\.pad: margins must be .*got 1\.5"),
    "margins that are no pairs": (lambda: gf.pad(V, (1, 2)), ValueError, r"gf\.pad: margins must be .*got \(1, 2\)"),
    "margins that are a word": (lambda: gf.fold(V, "ab"), ValueError, r"gf\.fold: margins must be .*got 'ab'"),
    "margins that leave nothing": (
        lambda: gf.fold(V, [(2, 3), (0, 0)]),
        ValueError,
        r"gf\.fold: values has shape \(5, 6\), too small for margins \(\(2, 3\), \(0, 0\)\)",
    ),
    # ---- types
    "mixed precision": (
        sample(V.astype(np.float32)),
        TypeError,
        r"gf\.sample: values has dtype float32 but points float64",
    ),
    "mixed precision the other way": (
        splat(Y, X.astype(np.float32)),
        TypeError,
        r"gf\.splat: values has dtype float64 but points float32",
    ),
    "complex64 and float64": (sample(V.astype(np.complex64)), TypeError, r"gf\.sample: values has dtype complex64 but"),
    "half and double": (
        sample(V.astype(np.float16)),
        TypeError,
        r"gf\.sample: values has dtype float16 but points float64",
    ),
    "tensors of mixed precision": (
        sample(TV.float(), TX),
        TypeError,
        r"gf\.sample: values has dtype float32 but points",
    ),
    "complex points": (sample(V, X + 1j), TypeError, r"gf\.sample: points has dtype complex128 but .* real"),
    "values of objects": (sample(V.astype(object)), TypeError, r"gf\.sample: values has dtype object"),
    "points of objects": (sample(V, X.astype(object)), TypeError, r"gf\.sample: points has dtype object"),
    "words": (sample(np.array([["a", "b"]]), X), TypeError, r"gf\.sample: values has dtype str"),
    "points of words": (sample(V, np.array([["a", "b"]])), TypeError, r"gf\.sample: points has dtype str"),
    "nothing": (sample(None), TypeError, r"gf\.sample: values"),
    "no points": (sample(V, None), (TypeError, ValueError), r"gf\.sample: points"),
    "dates": (sample(V, np.zeros((3, 2), "datetime64[s]")), TypeError, r"gf\.sample: points has dtype datetime64"),
    "structured values": (sample(np.zeros((5, 6), [("a", float)])), TypeError, r"gf\.sample: values has dtype void"),
    "extended precision": (
        sample(V.astype(np.longdouble)),
        TypeError,
        r"gf\.sample: values has dtype (longdouble|float\d+)",
    ),
    "a dictionary": (sample({"a": 1}), TypeError, r"gf\.sample: values has dtype object"),
    "ragged points": (sample(V, RAGGED), (TypeError, ValueError), r"gf\.sample: points"),
    "ragged values": (sample(RAGGED, X), (TypeError, ValueError), r"gf\.sample: values"),
    "ragged values to splat": (splat(RAGGED), (TypeError, ValueError), r"gf\.splat: values"),
    "nothing next to a tensor": (sample(None, TX), (TypeError, ValueError), r"gf\.sample: values"),
    "a word next to a tensor": (sample("abc", TX), (TypeError, ValueError), r"gf\.sample: values"),
    "ragged points next to a tensor": (sample(TV, RAGGED), (TypeError, ValueError), r"gf\.sample: points"),
    "ragged points of waves": (lambda: gf.nufft1(RAGGED, Y, 4), (TypeError, ValueError), r"gf\.nufft1: points"),
    "ragged points of waves next to a tensor": (
        lambda: gf.nufft2(RAGGED, TV),
        (TypeError, ValueError),
        r"gf\.nufft2: points",
    ),
    "ragged values of waves": (lambda: gf.nufft1(X, RAGGED, 4), (TypeError, ValueError), r"gf\.nufft1: values"),
    "ragged frequencies": (lambda: gf.nufft3(X, Y, RAGGED), (TypeError, ValueError), r"gf\.nufft3: frequencies"),
    "ragged points of an operator": (lambda: gf.Nufft(RAGGED, 4), (TypeError, ValueError), r"gf\.Nufft: points"),
    "ragged weights": (
        lambda: gf.Nufft(X, (4, 4)).normal(np.zeros((4, 4)), weights=RAGGED),
        (TypeError, ValueError),
        r"gf\.Nufft\.normal: weights",
    ),
    "ragged points to convolve": (
        lambda: gf.convolve_points(RAGGED, Y, "gaussian", length=1),
        (TypeError, ValueError),
        r"gf\.convolve_points: points",
    ),
    "a word for return_info of type 1": (
        lambda: gf.nufft1(X, Y, (4, 4), return_info="no"),
        TypeError,
        r"gf\.nufft1: return_info must be True or False, got 'no'",
    ),
    "a word for return_info of type 2": (
        lambda: gf.nufft2(X, V, return_info="no"),
        TypeError,
        r"gf\.nufft2: return_info must be True or False, got 'no'",
    ),
    "a number for return_info of type 3": (
        lambda: gf.nufft3(X, Y, X, return_info=1),
        TypeError,
        r"gf\.nufft3: return_info must be True or False, got 1",
    ),
    "a word for radial": (
        lambda: gf.convolve_points(X, Y, "gaussian", length=1.0, radial="no"),
        TypeError,
        r"gf\.convolve_points: radial must be True or False, got 'no'",
    ),
    "a word for progress": (
        lambda: gf.Nufft(X, (4, 4)).solve(Y, progress="no"),
        TypeError,
        r"gf\.Nufft\.solve: progress must be True or False, got 'no'",
    ),
    "objects to prefilter": (
        lambda: gf.prefilter(V.astype(object)),
        TypeError,
        r"gf\.prefilter: values has dtype object",
    ),
    "objects to pad": (lambda: gf.pad(V.astype(object), 1), TypeError, r"gf\.pad: values has dtype object"),
    # ---- frameworks and devices
    "an array next to a tensor": (
        sample(TV, X),
        TypeError,
        r"gf\.sample: values is a torch\.Tensor but points is a numpy\.ndarray; .*one framework",
    ),
    "a tensor next to an array": (
        splat(Y, TX),
        TypeError,
        r"gf\.splat: points is a torch\.Tensor but values is a numpy\.nd",
    ),
    "two devices": (
        sample(TV.to("meta"), TX),
        ValueError,
        r"gf\.sample: values is on meta but points on cpu; both must be on one device",
    ),
    "two devices to splat": (splat(TY, TX.to("meta")), ValueError, r"gf\.splat: values is on cpu but points on meta"),
    # ---- words and numbers
    "a kernel that does not exist": (
        sample(kernel="bicubic"),
        ValueError,
        r"gf\.sample: kernel must be one of 'nearest', 'linear', .* or a gf\.Kernel, got 'bicubic'",
    ),
    "a degree too high": (splat(kernel=8), ValueError, r"gf\.splat: kernel must be .*got 8"),
    "a negative degree": (splat(kernel=-1), ValueError, r"gf\.splat: kernel must be .*got -1"),
    "True for a kernel": (sample(kernel=True), ValueError, r"gf\.sample: kernel must be .*got True"),
    "a kernel that is a float": (sample(kernel=3.0), (TypeError, ValueError), r"gf\.sample: kernel must be .*got 3\.0"),
    "no kernel": (sample(kernel=None), (TypeError, ValueError), r"gf\.sample: kernel must be .*got None"),
    "a kernel that is a dictionary": (sample(kernel={}), (TypeError, ValueError), r"gf\.sample: kernel"),
    "kernels in an array": (sample(kernel=[["cubic"], 3]), (TypeError, ValueError), r"gf\.sample: kernel"),
    "a kernel that is an array": (sample(kernel=np.ones((2, 2))), (TypeError, ValueError), r"gf\.sample: kernel"),
    "kernels for other axes": (
        sample(kernel=["linear"] * 3),
        ValueError,
        r"gf\.sample: kernel names 3 axes but the grid has 2",
    ),
    "a boundary that does not exist": (
        sample(boundary="grid-wrap"),
        ValueError,
        rf"gf\.sample: boundary must be one of {WORDS}, got 'grid-wrap'",
    ),
    "one boundary that does not exist": (
        lambda: gf.pad(V, 1, boundary=("wrap", "edge")),
        ValueError,
        rf"gf\.pad: boundary must be one of {WORDS}, got 'edge'",
    ),
    "no boundary": (sample(boundary=None), (TypeError, ValueError), r"gf\.sample: boundary must be .*got None"),
    "a boundary that is a number": (splat(boundary=3), (TypeError, ValueError), r"gf\.splat: boundary must be .*got 3"),
    "a boundary in a list in a list": (
        sample(boundary=[["wrap"], "wrap"]),
        (TypeError, ValueError),
        r"gf\.sample: boundary must be .*got \['wrap'\]",
    ),
    "boundaries for other axes": (
        lambda: gf.prefilter(V, boundary=["wrap"]),
        ValueError,
        r"gf\.prefilter: boundary names 1 axes but the grid has 2",
    ),
    "a derivative of other axes": (
        sample(derivative=(1,)),
        ValueError,
        r"gf\.sample: derivative must be a multi-index of 2 orders >= 0, one per axis, or a list of those; got \(1,\)",
    ),
    "a negative derivative": (
        sample(derivative=(1, -1)),
        ValueError,
        r"gf\.sample: derivative must be .*got \(1, -1\)",
    ),
    "half a derivative": (sample(derivative=(0.5, 1)), ValueError, r"gf\.sample: derivative must be .*got \(0\.5, 1\)"),
    "a derivative that is a word": (sample(derivative="x"), ValueError, r"gf\.sample: derivative must be .*got 'x'"),
    "a derivative that is a number": (splat(derivative=1), ValueError, r"gf\.splat: derivative must be .*got 1"),
    "no derivatives": (sample(derivative=[]), ValueError, r"gf\.sample: derivative must be .*got \[\]"),
    "one derivative too short": (sample(derivative=[(0, 0), (1,)]), ValueError, r"gf\.sample: derivative must be"),
    "a cval that is a word": (sample(cval="nan?"), TypeError, r"gf\.sample: cval must be a real number, got 'nan\?'"),
    "a complex cval": (sample(cval=1j), TypeError, r"gf\.sample: cval must be a real number, got 1j"),
    "many cvals": (lambda: gf.pad(V, 1, cval=[1, 2]), TypeError, r"gf\.pad: cval must be a real number, got \[1, 2\]"),
    "no cval": (lambda: gf.prefilter(V, cval=None), TypeError, r"gf\.prefilter: cval must be a real number, got None"),
    "a cval for complex data": (
        lambda: gf.prefilter(V + 1j, boundary="grid-constant", cval=2),
        ValueError,
        r"gf\.prefilter: cval must be 0 for complex values, got 2",
    ),
    "a shape for a grid": (splat(grid=(5, 6)), TypeError, r"gf\.splat: grid must be a gf\.Grid, got tuple"),
    "no grid": (splat(grid=None), TypeError, r"gf\.splat: grid must be a gf\.Grid, got NoneType"),
    "a number for a grid": (
        lambda: gf.prefilter(V, grid=5),
        TypeError,
        r"gf\.prefilter: grid must be a gf\.Grid, got int",
    ),
    # ---- SplineField
    "a field without channels": (
        lambda: SplineField(5, 0),
        ValueError,
        r"gf\.torch\.SplineField: channels must be an int >= 1",
    ),
    "half a channel": (lambda: SplineField(5, 1.5), ValueError, r"gf\.torch\.SplineField: channels must be .*got 1\.5"),
    "a grid and bounds": (
        lambda: SplineField(GRID, bounds=(0, 1)),
        ValueError,
        r"gf\.torch\.SplineField: bounds must not be given with a Grid",
    ),
    "an integer field": (
        lambda: SplineField(5, dtype=torch.int32),
        TypeError,
        r"gf\.torch\.SplineField: dtype must be a floating-point torch\.dtype, got torch\.int32",
    ),
    "a field of a type that is a word": (
        lambda: SplineField(5, dtype="float32"),
        TypeError,
        r"gf\.torch\.SplineField: dtype must be a floating-point torch\.dtype, got 'float32'",
    ),
    "no shape to evaluate on": (
        lambda: SplineField(5).on_grid(None),
        TypeError,
        r"gf\.torch\.SplineField: shape None must hold an integer",
    ),
    "an empty shape to evaluate on": (
        lambda: SplineField(5).on_grid(0),
        ValueError,
        r"gf\.torch\.SplineField: shape 0 must hold an integer of 1 or more",
    ),
    "coefficients of another shape": (
        lambda: _with_coefficients(7)(torch.ones(3, 1)),
        ValueError,
        r"gf\.torch\.SplineField: coefficients has shape \(1, 7\) but must end in the grid's shape \(5,\)",
    ),
    "a sparse tensor": (
        lambda: gf.sample(torch.ones(5, 6).to_sparse(), X_TORCH),
        TypeError,
        r"gf\.sample: values must be an array of numbers.*sparse_coo tensor",
    ),
    "a prefilter that is a word": (sample(prefilter="no"), TypeError, r"gf\.sample: prefilter must be True or False"),
    "a tensor in a graph for a grid": (
        lambda: GRID.index(torch.ones(3, 2, requires_grad=True)),
        TypeError,
        r"gf\.Grid\.index: points must be a NumPy array, or convertible to one",
    ),
    "margins without end": (lambda: gf.pad(V, 2**62), ValueError, r"gf\.pad: margins must be an int from 0"),
    "a field with an unknown kernel": (
        lambda: SplineField(5, kernel="x"),
        ValueError,
        r"gf\.torch\.SplineField: kernel must",
    ),
    "a field without kernel": (
        lambda: SplineField(5, kernel=None),
        (TypeError, ValueError),
        r"gf\.torch\.SplineField: kernel must be .*got None",
    ),
    "a field with an unknown boundary": (
        lambda: SplineField(5, boundary="x"),
        ValueError,
        r"gf\.torch\.SplineField: boundary must be one of",
    ),
    "a field without boundary": (
        lambda: SplineField(5, boundary=None),
        (TypeError, ValueError),
        r"gf\.torch\.SplineField: boundary must be .*got None",
    ),
    "an array into a field": (
        lambda: SplineField(5)(np.ones((3, 1))),
        TypeError,
        r"gf\.torch\.SplineField: points .*numpy",
    ),
    "doubles into a field of floats": (
        lambda: SplineField(5)(torch.ones(3, 1, dtype=torch.float64)),
        TypeError,
        r"gf\.torch\.SplineField: values has dtype float32 but points float64",
    ),
    "two axes into a field of one": (
        lambda: SplineField(5).jacobian(torch.ones(3, 2)),
        ValueError,
        r"gf\.torch\.SplineField: points has 2 coordinates per point .*but the grid has 1 ax",
    ),
    "another device than the field's": (
        lambda: SplineField(5)(torch.ones(3, 1, device="meta")),
        ValueError,
        r"gf\.torch\.SplineField: values is on cpu but points on meta",
    ),
    "the wrong grid to evaluate on": (
        lambda: SplineField((4, 5)).on_grid(GRID.take(0)),
        ValueError,
        r"gf\.torch\.SplineField\.on_grid: (grid|shape) .* 1 .* 2",
    ),
}


def _with_coefficients(n):
    field = SplineField(5)
    field.coefficients = torch.nn.Parameter(torch.ones(1, n))
    return field


X_TORCH = torch.ones(3, 2)


@pytest.mark.parametrize("what", BAD)
def test_errors_say_what_is_wrong(what):
    call, error, pattern = BAD[what]
    with pytest.raises(error) as caught:
        call()
    assert type(caught.value) in (ValueError, TypeError)
    message = str(caught.value)
    assert re.match(pattern, message), message
    # the operation, then the argument, in one sentence
    arguments = (
        "values|points|grid|kernel|boundary|derivative|cval|margins|channels|coefficients|prefilter|bounds|dtype|shape|"
        "frequencies|weights|return_info|radial|progress"
    )
    assert re.match(rf"gf\.[\w.]+: ({arguments})\b", message)
    assert "\n" not in message and len(message) < 400


def test_an_error_leaves_nothing_behind():
    """The same call again fails the same way, and a good call after it works."""
    for _ in range(2):
        with pytest.raises(ValueError, match="kernel must be"):
            gf.sample(V, X, kernel="nonsense")
        with pytest.raises(ValueError, match="boundary must be"):
            gf.sample(V, X, boundary="nonsense")
    assert gf.sample(V, X).shape == (10,)


def test_unknown_arguments_are_refused():
    for call in (
        lambda: gf.sample(V, X, order=3),
        lambda: gf.sample(V, X, mode="mirror"),
        lambda: gf.sample(V, X, GRID),  # keyword only
        lambda: gf.splat(Y, X),
        lambda: gf.prefilter(V, "cubic"),
    ):
        with pytest.raises(TypeError):
            call()


def test_grids_that_single_precision_cannot_hold():
    grid = gf.Grid.from_spacing(4, 0, 1e-50)
    with pytest.raises(ValueError, match="do not fit into float32: use float64, or other units"):
        gf.sample(np.ones(4, np.float32), np.zeros((1, 1), np.float32), grid=grid)
    assert gf.sample(np.ones(4), np.full((1, 1), 1.5e-50), grid=grid) == pytest.approx(1)


def test_words_are_no_degrees_and_no_distances():
    for wrong in ([3], True, "3", None, 8):
        with pytest.raises(ValueError, match=r"gf\.bspline: degree must be an int from 0 to 7"):
            gf.bspline(wrong)
    with pytest.raises(TypeError, match=r"gf\.Kernel: x must be real numbers, got 'a'"):
        gf.bspline(3)("a")
    with pytest.raises(TypeError, match=r"gf\.Kernel\.fourier: k must be real numbers"):
        gf.bspline(3).fourier("a")


def test_derivatives_of_any_order_are_defined():
    assert gf.sample(V, np.full((1, 2), 1.5), derivative=(2000, 0)).tolist() == [0.0]
    orders = (o for o in [(1, 0), (0, 1)])
    assert gf.sample(V, np.full((1, 2), 1.5), derivative=orders).shape == (2, 1)
