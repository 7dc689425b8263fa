"""Any array: types, frameworks, channels, layouts, sizes; results follow the input and inputs are left alone."""

import tracemalloc

import numpy as np
import pytest
import torch
from cases import Case, as_kernel, axis_matrix, force, gradient, in_turn
from numpy.testing import assert_allclose, assert_array_equal

import gridfield as gf

CASE = Case((7, 8), ("cubic", "cubic"), ("mirror", "mirror"), gradient(2))
FLOATS = ("float32", "float64", "complex64", "complex128", "float16")
INTEGERS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
PRECISION = {"float32": 1e-5, "complex64": 1e-5, "float16": 2e-3, "bfloat16": 2e-2}  # else 1e-13
REAL = {"complex64": "float32", "complex128": "float64"}


def draw(rng, dtype, *shape):
    """Numbers of a type, in float64 or complex128."""
    x = rng.normal(size=shape)
    return x + 1j * rng.normal(size=shape) if dtype.startswith("complex") else x


def assert_close(got, expected, dtype="float64"):
    assert_allclose(got, expected, rtol=0, atol=PRECISION.get(dtype, 1e-13) * max(1, np.abs(expected).max()))


# ---- types -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("dtype", FLOATS)
def test_numpy_types(dtype, rng):
    exact = draw(rng, dtype, 2, *CASE.shape).astype(dtype)
    points = CASE.points(rng, 20, ties=False).astype(REAL.get(dtype, dtype))
    wide = np.result_type(exact, np.float64)
    for how in ({"prefilter": False}, {"prefilter": True}, {"derivative": (1, 0)}, {"boundary": "constant", "cval": 2}):
        how = {"grid": CASE.grid, **how}
        got = gf.sample(exact, points, **how)
        assert isinstance(got, np.ndarray) and got.dtype == dtype and got.shape == (20, 2)
        assert_close(got, gf.sample(exact.astype(wide), points.astype(float), **how), dtype)
    y = draw(rng, dtype, 20, 2).astype(dtype)
    got = gf.splat(y, points, CASE.grid, kernel="cubic")
    assert got.dtype == dtype and got.shape == (2, *CASE.shape)
    assert_close(got, gf.splat(y.astype(wide), points.astype(float), CASE.grid, kernel="cubic"), dtype)
    for f in (gf.prefilter, lambda v: gf.pad(v, 2), lambda v: gf.fold(v, 2)):
        got = f(exact[0])
        assert got.dtype == dtype
        assert_close(got, f(exact[0].astype(wide)), dtype)


@pytest.mark.parametrize("dtype", (*FLOATS, "bfloat16", *INTEGERS, "bool"))
def test_torch_gives_what_numpy_gives(dtype, rng):
    """The same kernels, so the same bits; bfloat16 is computed as float32."""
    points = CASE.points(rng, 20).astype(np.float32)
    if dtype in INTEGERS or dtype == "bool":
        values = rng.integers(0, 2 if dtype == "bool" else 100, (2, *CASE.shape)).astype(dtype)
        given = torch.from_numpy(values)
    else:
        values = draw(rng, dtype, 2, *CASE.shape).astype("float32" if dtype == "bfloat16" else dtype)
        given = torch.from_numpy(values).to(getattr(torch, dtype))
        values = given.float().numpy() if dtype == "bfloat16" else values
        points = points.astype({"complex128": "float64", "float64": "float64"}.get(dtype, "float32"))
    x = torch.from_numpy(points)
    for how in ({}, {"derivative": [(1, 0), (0, 2)]}, {"boundary": "nearest", "kernel": ("linear", "cubic")}):
        expected = gf.sample(values, points, grid=CASE.grid, **how)
        got = gf.sample(given, x, grid=CASE.grid, **how)
        assert isinstance(got, torch.Tensor) and got.device == given.device
        if dtype == "bfloat16":
            assert got.dtype == torch.bfloat16
            expected = torch.from_numpy(expected).bfloat16().float().numpy()
            got = got.float()
        assert got.numpy().dtype == expected.dtype
        assert_array_equal(got.numpy(), expected)
    y, z = gf.splat(given[:, :, 0].T, x[:7], CASE.grid), gf.splat(values[:, :, 0].T, points[:7], CASE.grid)
    assert y.dtype == (torch.bfloat16 if dtype == "bfloat16" else getattr(torch, z.dtype.name))
    if dtype != "bfloat16":
        assert_array_equal(y.numpy(), z)
    assert gf.pad(given, 1).shape == (4, 9, 10) and gf.fold(given, [(1, 1), (2, 0)]).shape == (2, 5, 6)
    if dtype != "bfloat16":
        assert_array_equal(gf.prefilter(given, grid=CASE.grid).numpy(), gf.prefilter(values, grid=CASE.grid))


@pytest.mark.parametrize("dtype", INTEGERS)
def test_integers_are_rounded_and_saturated(dtype, rng):
    info = np.iinfo(dtype)
    big = min(info.max, 2**52)
    values = rng.integers(max(info.min, -(2**52)), big, CASE.shape, endpoint=True).astype(dtype)
    values[:3], values[3:] = info.min, big
    points = CASE.points(rng, 300, ties=False)
    points[0] = np.nan
    exact = gf.sample(values.astype(float), points, grid=CASE.grid)
    exact[0] = 0
    got = gf.sample(values, points, grid=CASE.grid)
    assert got.dtype == dtype and got[0] == 0
    low, high = exact <= float(info.min), exact >= float(info.max)
    assert low.any() or info.min < -(2**52)
    assert high.any() or info.max > 2**52
    assert (got[low] == info.min).all() and (got[high] == info.max).all()
    rest = ~low & ~high
    assert_array_equal(got[rest], np.rint(exact[rest]).astype(dtype))


def test_integers_become_floats_where_rounding_would_lose(rng):
    values, points = rng.integers(0, 100, CASE.shape), CASE.points(rng, 20)
    x = values.astype(float)
    for dtype in ("uint8", "int64", "bool"):
        v = values.astype(dtype)
        x = v.astype(float)
        for f in (
            lambda v: gf.sample(v, points, derivative=(0, 0)),
            lambda v: gf.sample(v, points, derivative=[(0, 0), (1, 0)]),
            lambda v: gf.splat(v[:, 0], points[:7], CASE.grid),
            gf.prefilter,
            lambda v: gf.pad(v, 2),
            lambda v: gf.fold(v, 2),
        ):
            got = f(v)
            assert got.dtype == np.float64
            assert_array_equal(got, f(x))


def test_masks_are_sampled_as_masks(rng):
    mask = rng.random(CASE.shape) > 0.5
    points = CASE.points(rng, 50, ties=False)
    for kernel in ("nearest", "linear", "cubic"):
        got = gf.sample(mask, points, grid=CASE.grid, kernel=kernel)
        assert got.dtype == bool
        assert_array_equal(got, gf.sample(mask.astype(float), points, grid=CASE.grid, kernel=kernel) >= 0.5)
    assert_array_equal(gf.sample(torch.from_numpy(mask), torch.from_numpy(points)).numpy(), gf.sample(mask, points))


def test_a_cval_of_complex_values_is_real(rng):
    values = rng.normal(size=(2, *CASE.shape)) + 1j * rng.normal(size=(2, *CASE.shape))
    points = CASE.points(rng, 40)
    for boundary in ("constant", "grid-constant"):
        how = {"grid": CASE.grid, "boundary": boundary, "derivative": [(0, 0), (0, 1)]}
        got = gf.sample(values, points, cval=3, **how)
        assert_close(got.real, gf.sample(values.real, points, cval=3, **how))
        assert_close(got.imag, gf.sample(values.imag, points, cval=0, **how))


def test_python_lists_and_scalars():
    assert gf.sample([0.0, 1.0, 4.0], [[1.5]], kernel="linear") == 2.5
    assert gf.sample([0, 1, 4], [[1]], kernel="linear").dtype.kind == "i"
    assert gf.sample(np.arange(4, dtype=np.float32), [[1.5]]).dtype == np.float32
    assert gf.sample(torch.arange(4.0), [[1.5]]).dtype == torch.float32
    assert gf.sample(np.arange(4) * 1j, [[1.5], [2.0]]).dtype == np.complex128
    # "Python lists take the other's type": also where the values are the list
    assert gf.sample([0.0, 1.0, 4.0], np.array([[1.5]], np.float32), kernel="linear").dtype == np.float32
    assert gf.sample([0.0, 1.0, 4.0], torch.tensor([[1.5]], dtype=torch.float64)).dtype == torch.float64
    assert_array_equal(gf.splat([1, 2], [[0], [2.5]], gf.Grid.pixels(4)), [1, 0, 1, 1])
    assert gf.splat([1.0], np.array([[1.5]], np.float32), gf.Grid.pixels(4)).dtype == np.float32


def test_integer_coordinates(rng):
    values = rng.normal(size=(5, 6))
    for dtype in ("int64", "uint8", "int32"):
        points = rng.integers(0, 5, (9, 2)).astype(dtype)
        assert_allclose(gf.sample(values, points), values[points[:, 0], points[:, 1]], rtol=0, atol=1e-13)
        assert gf.sample(values.astype(np.float32), points).dtype == np.float32
        got = gf.splat(np.ones(9), points, gf.Grid.pixels((5, 6)), kernel="nearest")
        assert_array_equal(got, np.histogramdd(points, gf.Grid.pixels((5, 6)).edges())[0])


def test_other_byte_orders(rng):
    values, points = rng.normal(size=(5, 6)), rng.uniform(0, 4, (9, 2))
    expected = gf.sample(values, points), gf.splat(values[:, 0], points[:5], gf.Grid.pixels((5, 6)))
    assert_array_equal(gf.sample(values.astype(">f8"), points.astype(">f8")), expected[0])
    assert_array_equal(gf.sample(values.astype("<f8"), points.astype(">f8")), expected[0])
    swapped = gf.splat(values[:, 0].astype(">f8"), points[:5].astype(">f8"), gf.Grid.pixels((5, 6)))
    assert_array_equal(swapped, expected[1])
    turned = (values * (1 + 2j)).astype(">c16")
    assert_array_equal(gf.sample(turned, points), gf.sample(turned.astype(complex), points))


# ---- channels and shapes ---------------------------------------------------------------------------------------------
@pytest.mark.parametrize("path", ("padded", "direct"))
@pytest.mark.parametrize("lead", ((), (1,), (2,), (3,), (5,), (40,), (2, 3), (2, 1, 3)), ids=str)
def test_channels(lead, path, rng, monkeypatch):
    """Channels are as many fields: any number, in any arrangement."""
    force(monkeypatch, path)
    points = CASE.points(rng, 30).reshape(5, 6, 2)
    values = CASE.values(rng, *lead)
    got = CASE.sample(values, points, cval=1.0)
    assert got.shape == (3, 5, 6, *lead)
    for index in np.ndindex(lead):
        assert_close(got[(..., *index)], CASE.sample(values[index], points, cval=1.0))
    y = rng.normal(size=got.shape)
    grid = CASE.splat(y, points)
    assert grid.shape == (*lead, *CASE.shape)
    for index in np.ndindex(lead):
        assert_close(grid[index], CASE.splat(y[(..., *index)], points))


@pytest.mark.parametrize("channels", (2, 3, 5, 8, 33))
def test_vector_loads_stay_in_their_memory(channels, rng, monkeypatch):
    """The last stencil of a grid that is all NaN but for it: reading on would show, and so would adding elsewhere."""
    from gridfield.cpu.plan import Ends

    force(monkeypatch, "padded")
    buffer = Ends.buffer

    def spoilt(self, batch, width, *, zero=False):
        grid, flat = buffer(self, batch, width, zero=zero)
        flat[grid.size :] = np.nan
        return grid, flat

    monkeypatch.setattr(Ends, "buffer", spoilt)
    case = Case((7,), ("quartic",), ("mirror",), ((0,),))
    x = case.grid.to_physical([[6.0], [5.8], [0.0]])
    values = case.values(rng, channels)
    got = case.sample(values, x)[0]
    assert_close(got, np.stack([[float(as_kernel("quartic")(u - np.arange(-4, 11)) @ np.pad(v, 4, mode="reflect"))
                                 for v in values] for u in (6.0, 5.8, 0.0)]))  # fmt: skip
    assert np.isfinite(case.splat(got[None], x)).all()


def test_shapes_of_points(rng):
    values = rng.normal(size=(2, 5, 6))
    for pts in ((), (1,), (4,), (2, 3), (2, 1, 3, 2), (0,), (3, 0), (0, 2)):
        points = rng.uniform(0, 4, (*pts, 2))
        got = gf.sample(values, points)
        assert got.shape == (*pts, 2)
        assert gf.sample(values, points, derivative=(1, 0)).shape == (*pts, 2)
        assert gf.sample(values, points, derivative=[(1, 0)]).shape == (1, *pts, 2)
        assert gf.sample(values[0], points).shape == pts
        assert gf.splat(got, points, gf.Grid.pixels((5, 6))).shape == (2, 5, 6)
        assert gf.splat(got[..., 0], points, gf.Grid.pixels((5, 6))).shape == (5, 6)
        for index in np.ndindex(pts):
            assert_close(got[index], gf.sample(values, points[index]))
    assert not gf.splat(np.zeros((0, 2)), np.zeros((0, 2)), gf.Grid.pixels((5, 6))).any()


@pytest.mark.parametrize("library", (np, torch), ids=lambda m: m.__name__)
def test_no_channels(library):
    values, points, grid = library.ones((0, 5, 6)), library.ones((3, 2)), gf.Grid.pixels((5, 6))
    for boundary in gf.BOUNDARIES:
        assert tuple(gf.sample(values, points, boundary=boundary).shape) == (3, 0)
        out = gf.prefilter(values, boundary=boundary, grid=grid)
        assert (out[0] if isinstance(out, tuple) else out).shape[0] == 0
    assert tuple(gf.splat(library.ones((3, 0)), points, grid).shape) == (0, 5, 6)
    assert tuple(gf.pad(values, [(1, 2), (0, 3)]).shape) == (0, 8, 9)
    assert tuple(gf.fold(values, [(1, 2), (0, 3)]).shape) == (0, 2, 3)


# every number of axes with two boundaries and every boundary with one or two; the other pairs, two to four kernels each
# to compile, are marked slow
@pytest.mark.parametrize(("ndim", "boundary"), in_turn((1, 2, 3, 4, 5), gf.BOUNDARIES, keep=(1, 6)))
def test_axes_of_one_sample(ndim, boundary, rng):
    """A field is constant along an axis of one sample (but ends there, if it ends)."""
    values = rng.normal(size=(3, *(1,) * ndim))
    points = rng.uniform(-3, 3, (20, ndim))
    points[0] = 0
    got = gf.sample(values, points, kernel="linear", boundary=boundary)
    if boundary in ("constant", "grid-constant"):
        near = (points == 0).all(1) if boundary == "constant" else (np.abs(points) < 1).all(1)
        weight = np.where(near, np.clip(1 - np.abs(points), 0, 1).prod(1), 0)
        assert_close(got, weight[:, None] * values.reshape(1, 3))
    else:
        assert_close(got, np.broadcast_to(values.reshape(1, 3), got.shape))
        assert not gf.sample(values, points, kernel="linear", boundary=boundary, derivative=(1,) * ndim).any()
    total = gf.splat(np.ones(20), points, gf.Grid.pixels((1,) * ndim), boundary=boundary)
    assert_close(total.sum(), gf.sample(np.ones((1,) * ndim), points, kernel="linear", boundary=boundary).sum())


@pytest.mark.parametrize("ndim", (6, 7))
def test_more_than_five_axes(ndim, rng):
    shape = (2, 3, 2, 2, 3, 2, 2)[:ndim]
    values, points = rng.normal(size=shape), rng.uniform(0, 1, (10, ndim))
    got = gf.sample(values, points, kernel="linear", prefilter=False)
    expected = np.broadcast_to(values, (10, *shape))
    for a in range(ndim):
        weights = gf.bspline(1)(points[:, [a]] - np.arange(shape[a]))
        expected = np.einsum("pi...,pi->p...", expected, weights)
    assert_close(got, expected)
    y = rng.normal(size=10)
    assert_close(np.vdot(gf.splat(y, points, gf.Grid.pixels(shape)), values), y @ got)


# ---- layouts ---------------------------------------------------------------------------------------------------------
LAYOUTS = {
    "Fortran": np.asfortranarray,
    "reversed": lambda a: a[tuple([slice(None, None, -1)] * a.ndim)].copy()[tuple([slice(None, None, -1)] * a.ndim)],
    "every second": lambda a: np.repeat(a, 2, axis=-1)[..., ::2],
    "moved axis": lambda a: np.moveaxis(np.moveaxis(a, 0, -1).copy(), -1, 0),
    "a view with a gap": lambda a: np.pad(a, [(1, 1)] * a.ndim)[tuple([slice(1, -1)] * a.ndim)],
    "unaligned": lambda a: np.frombuffer(b"x" + a.tobytes(), np.uint8)[1:].view(a.dtype).reshape(a.shape),
    "read-only": lambda a: [b := a.copy(), b.setflags(write=False)][0],
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", ("float64", "float32", "complex64", "uint8"))
def test_layouts(layout, dtype, rng):
    change = LAYOUTS[layout]
    values = (50 + 20 * draw(rng, dtype, 2, 7, 8)).astype(dtype)
    points = rng.uniform(-3, 9, (20, 2)).astype("float32" if dtype in ("float32", "complex64") else "float64")
    y = draw(rng, dtype, 20, 2).astype(dtype)
    v2, x2, y2 = change(values), change(points), change(y)
    assert_array_equal(v2, values)
    grid = gf.Grid.pixels((7, 8))
    for few in (True, False):
        with pytest.MonkeyPatch.context() as patch:
            force(patch, "direct" if few else "padded")
            assert_array_equal(gf.sample(v2, x2), gf.sample(values, points))
            assert_array_equal(gf.splat(y2, x2, grid, kernel="cubic"), gf.splat(y, points, grid, kernel="cubic"))
    assert_array_equal(gf.prefilter(v2, grid=grid), gf.prefilter(values, grid=grid))
    assert_array_equal(gf.pad(v2, 2, boundary="natural"), gf.pad(values, 2, boundary="natural"))
    assert_array_equal(gf.fold(v2, [(1, 2), (3, 0)]), gf.fold(values, [(1, 2), (3, 0)]))


def test_broadcast_arrays(rng):
    """Strides of 0."""
    values, points = np.broadcast_to(rng.normal(size=8), (3, 7, 8)), np.broadcast_to([1.5, 2.5], (20, 2))
    assert_array_equal(gf.sample(values, points), gf.sample(values.copy(), points.copy()))
    y = np.broadcast_to(1.0, (20, 3))
    grid = gf.Grid.pixels((7, 8))
    assert_array_equal(gf.splat(y, points, grid), gf.splat(y.copy(), points.copy(), grid))
    t = torch.ones(1).expand(20, 3), torch.tensor([1.5, 2.5]).expand(20, 2)
    assert_array_equal(gf.splat(*t, grid), gf.splat(t[0].clone(), t[1].clone(), grid))


def test_lazy_tensors_of_torch(rng):
    """Views that carry a conjugation or a sign that is not in memory yet."""
    z = torch.from_numpy(draw(rng, "complex128", 7, 8))
    x = torch.from_numpy(rng.uniform(0, 6, (20, 2)))
    assert z.conj().is_conj() and z.conj().imag.is_neg()
    assert_array_equal(gf.sample(z.conj(), x), gf.sample(z, x).conj().resolve_conj())
    assert_array_equal(gf.sample(z.conj().imag, x), gf.sample(-z.imag, x))
    points = torch.complex(x, -x).conj().imag
    assert points.is_neg()
    assert_array_equal(gf.sample(z.real, points), gf.sample(z.real, x))
    y = z[:, :2].conj().imag
    assert_array_equal(
        gf.splat(y, x[:7], gf.Grid.pixels((7, 8))), gf.splat(-z[:, :2].imag, x[:7], gf.Grid.pixels((7, 8)))
    )
    assert_array_equal(gf.pad(z.conj().imag, 2), gf.pad(-z.imag, 2))
    assert_array_equal(gf.prefilter(z.conj().imag), gf.prefilter(-z.imag))


@pytest.mark.parametrize("path", ("padded", "direct"))
@pytest.mark.parametrize("library", ("numpy", "torch"))
def test_inputs_are_left_alone(library, path, rng, monkeypatch):
    force(monkeypatch, path)
    grid = gf.Grid.pixels((7, 8))
    arrays = [rng.normal(size=(3, 7, 8)), rng.uniform(-5, 12, (20, 2)), rng.normal(size=(20, 3))]
    before = [a.copy() for a in arrays]
    values, points, y = arrays if library == "numpy" else map(torch.from_numpy, arrays)
    results = []
    for kernel, boundary in (("linear", "mirror"), ("cubic", "natural"), ("cubic", "grid-constant")):
        how = {"kernel": kernel, "boundary": boundary}
        results += [gf.sample(values, points, cval=1, **how), gf.splat(y, points, grid, **how)]
        out = gf.prefilter(values, grid=grid, **how)
        results.append(out[0] if isinstance(out, tuple) else out)
        results += [gf.pad(values, 2, boundary=boundary), gf.fold(values, [(1, 1), (2, 2)], boundary=boundary)]
        results += [gf.pad(values, 0, boundary=boundary), gf.fold(values, 0, boundary=boundary)]
    for a, b in zip(arrays, before, strict=True):
        assert_array_equal(a, b)
    # and a result is the caller's to change
    for result in results:
        result[...] = 7
    for a, b in zip(arrays, before, strict=True):
        assert_array_equal(a, b)


# ---- values and coordinates that are no ordinary numbers -------------------------------------------------------------
WAYS = [("float64", "cubic", "padded"), ("float64", "linear", "direct"), ("float32", "cubic", "padded")]


@pytest.mark.parametrize(
    ("way", "boundary"),  # each is two kernels to compile
    [pytest.param(way, boundary, marks=pytest.mark.slow if (i + k) % 2 else ())
     for k, way in enumerate(WAYS) for i, boundary in enumerate(gf.BOUNDARIES)],
)  # fmt: skip
def test_special_coordinates(way, boundary, rng, monkeypatch):
    dtype, kernel, path = way
    force(monkeypatch, path)
    values = rng.normal(size=9).astype(dtype)
    big = 3e38 if dtype == "float32" else 1.7e308
    x = np.array([np.nan, np.inf, -np.inf, 1e30, -1e30, 1e18, -1e10, big, -big], dtype)[:, None]
    ones = np.ones(len(x), dtype)
    how = {"kernel": kernel, "boundary": boundary}
    got = gf.sample(values, x, cval=5, prefilter=False, **how)
    assert np.isnan(got[0])
    if boundary in ("natural", "nearest", "constant", "grid-constant"):  # far out everything is as at infinity
        above, below = gf.sample(values, np.array([[1e4], [-1e4]], dtype), cval=5, prefilter=False, **how)
        assert_allclose(got[1:], [above, below] * 4, rtol=1e-6)
        if "constant" in boundary:
            assert_allclose(got[1:], 5, rtol=1e-6)
    else:
        assert np.isnan(got[1:3]).all()
        # some value of the field: no garbage from coordinates that cannot be folded exactly
        assert (np.abs(got[3:]) <= 1.3 * np.abs(values).max()).all()
    y = gf.splat(ones, x, gf.Grid.pixels(9), **how)
    assert (np.abs(y) <= len(x)).all()
    assert_array_equal(gf.splat(ones[:1], x[:1], gf.Grid.pixels(9), **how), 0)
    if boundary == "constant":
        assert not y.any()
    elif boundary in ("natural", "nearest"):
        assert_allclose(y.sum(), 8, rtol=1e-6)


@pytest.mark.parametrize("ndim", (1, 2, 3))
def test_nan_in_one_coordinate(ndim, rng):
    values, points = rng.normal(size=(5,) * ndim), rng.uniform(0, 4, (40, ndim))
    clean = gf.sample(values, points)
    bad = rng.random(40) < 0.3
    spoilt = points.copy()
    spoilt[bad, rng.integers(0, ndim, bad.sum())] = np.nan
    for boundary in ("natural", "mirror", "constant"):
        got = gf.sample(values, spoilt, boundary=boundary, derivative=[(0,) * ndim, (1,) * ndim])
        assert_array_equal(np.isnan(got), np.stack([bad, bad]))
        good = gf.sample(values, points, boundary=boundary, derivative=[(0,) * ndim, (1,) * ndim])
        assert_array_equal(got[:, ~bad], good[:, ~bad])
        grid = gf.Grid.pixels(values.shape)
        y = gf.splat(clean, spoilt, grid, kernel="cubic", boundary=boundary)
        rest = gf.splat(np.where(bad, 0, clean), points, grid, kernel="cubic", boundary=boundary)
        assert_allclose(y, rest, rtol=0, atol=1e-13)
        assert_array_equal(gf.splat(np.where(bad, np.nan, clean), spoilt, grid, kernel="cubic", boundary=boundary), y)


@pytest.mark.parametrize("path", ("padded", "direct"))
# every boundary with a kernel, either path; the other one is marked slow
@pytest.mark.parametrize(("boundary", "kernel"), in_turn(gf.BOUNDARIES, ("linear", "cubic"), keep=(0,)))
def test_a_bad_value_spoils_its_own_stencil_only(boundary, kernel, path, rng, monkeypatch):
    """What a NaN in the data reaches: points whose stencil holds it. Not the whole field, not the far end."""
    force(monkeypatch, path)
    n, width = 9, as_kernel(kernel).width
    points = rng.uniform(-3, n + 2, (60, 1))
    weights, _ = axis_matrix(points[:, 0], n, kernel, boundary, 0, 1.0)
    for where, bad in ((0, np.nan), (4, np.inf), (n - 1, np.nan)):
        values = rng.normal(size=n)
        values[where] = bad
        got = gf.sample(values, points, kernel=kernel, boundary=boundary, prefilter=False, cval=1)
        spoilt, must = ~np.isfinite(got), np.abs(weights[:, where]) > 1e-9
        if boundary == "constant":
            must &= (points[:, 0] >= 0) & (points[:, 0] <= n - 1)
        assert (spoilt >= must).all()
        # weights may cancel, as those of natural's c[-k] = 2 c[0] - c[k], but only near by
        near = np.abs(np.clip(points[:, 0], 0, n - 1) - where) <= width
        allowed = near if boundary in ("natural", "nearest") else weights[:, where] != 0
        assert (spoilt <= allowed).all(), points[spoilt & ~allowed, 0]


@pytest.mark.parametrize("path", ("padded", "direct"))
@pytest.mark.parametrize("boundary", gf.BOUNDARIES)
def test_a_bad_contribution_spoils_its_own_stencil_only(boundary, path, monkeypatch):
    force(monkeypatch, path)
    for x in (-0.3, 0.3, 4.5, 8.2):
        point = np.array([[x]])
        weights = gf.splat(np.ones(1), point, gf.Grid.pixels(9), kernel="cubic", boundary=boundary)
        spoilt = np.isnan(gf.splat(np.array([np.nan]), point, gf.Grid.pixels(9), kernel="cubic", boundary=boundary))
        assert (spoilt >= (np.abs(weights) > 1e-9)).all()
        assert (spoilt <= (np.abs(np.arange(9) - np.clip(x, 0, 8)) <= 3) | (weights != 0)).all()


# ---- memory ----------------------------------------------------------------------------------------------------------
def peak(f):
    """Bytes that f() allocates at most."""
    f()  # compile
    tracemalloc.start()
    try:
        f()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("channels", (1, 2))
@pytest.mark.parametrize("library", ("numpy", "torch"))
@pytest.mark.parametrize("boundary", ("mirror", "constant", "natural"))
def test_few_points_in_a_huge_volume_do_not_copy_it(boundary, library, channels, rng):
    values = np.zeros((channels, 200, 200, 200 // channels), np.float32)
    values[:, 100:, 100:] = 1
    points = rng.uniform(-5, 205, (100, 3)).astype(np.float32)
    v, x = (values, points) if library == "numpy" else (torch.from_numpy(values), torch.from_numpy(points))
    how = {"prefilter": False, "boundary": boundary, "derivative": [(0, 0, 0), (1, 0, 0)]}
    assert values.nbytes == 32e6
    assert peak(lambda: gf.sample(v, x, **how)) < 1e6
    got = np.asarray(gf.sample(v, x, **how))
    assert_allclose(got, gf.sample(values.astype(float), points.astype(float), **how), rtol=0, atol=1e-4)


def test_the_gradient_of_few_points_in_a_huge_volume_is_cheap_too(rng):
    values = torch.zeros(100, 200, 100).normal_(generator=torch.Generator().manual_seed(0))
    x = torch.from_numpy(rng.uniform(5, 95, (100, 3))).float().requires_grad_()

    def gradient_in_points():
        x.grad = None
        gf.sample(values, x, prefilter=False).sum().backward()

    assert peak(gradient_in_points) < 1e6
    assert float(x.grad.abs().min()) > 0


@pytest.mark.parametrize(
    "view", (lambda a: a, lambda a: a[:, 1:], lambda a: a[::-1], lambda a: a.T, lambda a: a.transpose(1, 2, 0)[::2])
)
def test_few_points_do_not_copy_a_large_volume(view, rng):
    """Whatever its strides, as long as it is dense along one axis."""
    volume = view(rng.normal(size=(120, 130, 140)).astype(np.float32))
    points = rng.uniform(-3, 150, (9, 3)).astype(np.float32)
    how = {"prefilter": False, "boundary": ("mirror", "natural", "wrap"), "derivative": [(0, 0, 0), (1, 0, 2)]}
    got = gf.sample(volume, points, **how)
    np.testing.assert_allclose(got, gf.sample(np.ascontiguousarray(volume), points, **how), rtol=0, atol=2e-5)
    tracemalloc.start()
    gf.sample(volume, points, **how)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < volume.nbytes / 20
