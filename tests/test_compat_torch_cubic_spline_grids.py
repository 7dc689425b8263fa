"""The classes of torch-cubic-spline-grids: by the formulas, beside the original if installed, and beyond it."""

import copy
import importlib
import itertools
import pickle

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

import gridfield.compat.torch_cubic_spline_grids as ours
from gridfield.compat.torch_cubic_spline_grids import _base_cubic_grid
from gridfield.torch import SplineField

pytestmark = pytest.mark.filterwarnings(r"ignore:`torch.jit.script\w*` is deprecated:DeprecationWarning")  # torch's own
SLOW = pytest.mark.slow

# rows 1, t, t^2, t^3; columns the four control points
MATRICES = {
    "BSpline": np.array([[1, 4, 1, 0], [-3, 0, 3, 0], [3, -6, 3, 0], [-1, 3, -3, 1]]) / 6,
    "CatmullRom": np.array([[0, 2, 0, 0], [-1, 0, 1, 0], [2, -5, 4, -1], [-1, 3, -3, 1]]) / 2,
}
SHAPES = {1: [6, 2, 1], 2: [(5, 6), (2, 1), (1, 7)], 3: [(3, 4, 5), (4, 1, 1)], 4: [(3, 2, 4, 3), (2, 5, 1, 1)]}
CASES = [(k, n, s) for k in MATRICES for n, shapes in SHAPES.items() for s in shapes]
# Every number of axes with both kinds, every shape with one of them; the other pairs, two kernels each to compile, are
# marked slow.
every_case = pytest.mark.parametrize(
    ("kind", "ndim", "shape"),
    [
        pytest.param(k, n, s, marks=() if s is SHAPES[n][0] or SHAPES[n].index(s) % 2 == (k == "BSpline") else SLOW)
        for k, n, s in CASES
    ],
    ids=str,
)
every_kind = pytest.mark.parametrize("kind", MATRICES)
# Every two values of these three; the other four triples, a compiled graph or four kernels each, are marked slow.
every_two = pytest.mark.parametrize(
    ("kind", "monotonicity", "ndim"),
    [
        pytest.param(k, m, n, marks=SLOW if (i + j + n) % 2 == 0 else ())
        for (i, k), (j, m), n in itertools.product(enumerate(MATRICES), enumerate((None, "increasing")), (1, 2))
    ],
)
BOTH = ("increasing", "decreasing")


def class_of(kind, ndim, package=ours):
    return getattr(package, f"Cubic{kind}Grid{ndim}d")


def tuple_of(shape):
    return shape if isinstance(shape, tuple) else (shape,)


def grid_of(kind, ndim, shape=None, channels=2, seed=0, dtype=torch.float32, **how):
    shape = (6, 5, 4, 3)[:ndim] if shape is None else shape
    grid = class_of(kind, ndim)(shape, channels, **how).to(dtype)
    generator = torch.Generator().manual_seed(seed)
    grid.data = torch.randn(grid.data.shape, generator=generator, dtype=torch.float64).to(dtype)
    return grid


def points_of(ndim, n=60, seed=1, dtype=torch.float32, beyond=0.2):
    """Some outside, and both ends."""
    u = np.random.default_rng(seed).uniform(-beyond, 1 + beyond, (n, ndim))
    return torch.from_numpy(np.concatenate([u, np.zeros((1, ndim)), np.ones((1, ndim))])).to(dtype)


def continued(n):
    """(n + 2, n): the control points with one more at each end, on the line through the last two."""
    if n == 1:
        return np.ones((4, 1))
    e = np.eye(n)
    return np.vstack([2 * e[0] - e[1], e, 2 * e[-1] - e[-2]])


def along(u, n, kind):
    """(points, n + 2): what each control point, the continued ones included, is multiplied by at u."""
    u = np.clip(u, 0, 1)
    cells = max(n - 1, 1)
    cell = np.minimum((u * cells).astype(int), cells - 1)
    t = u * cells - cell
    out = np.zeros((len(u), cells + 3))
    for p, (i, row) in enumerate(zip(cell, np.stack([t**0, t, t**2, t**3], -1) @ MATRICES[kind], strict=True)):
        out[p, i : i + 4] = row
    return out


def dense(padded, u, shape, kind):
    """(points, channels) from control points (channels, *(n + 2)), one full matrix per axis."""
    out = np.broadcast_to(padded, (len(u), *padded.shape))
    for axis in reversed(range(len(shape))):
        out = np.einsum("p...n,pn->p...", out, along(u[:, axis], shape[axis], kind))
    return out


def pad(data, shape):
    for axis, n in enumerate(shape, start=1):
        data = np.moveaxis(np.moveaxis(data, axis, -1) @ continued(n).T, -1, axis)
    return data


def formula(data, u, kind, monotonicity=None):
    data, u = np.asarray(data, np.float64), np.asarray(u, np.float64)
    shape = data.shape[1:]
    padded = pad(data, shape)
    if monotonicity:
        running = np.maximum if monotonicity == "increasing" else np.minimum
        for axis in range(1, 1 + len(shape)):
            padded = running.accumulate(padded, axis)
    return dense(padded, u, shape, kind)


# ---- the numbers -----------------------------------------------------------------------------------------------------
@every_case
def test_numbers_are_those_of_the_formulas(kind, ndim, shape):
    grid = grid_of(kind, ndim, shape)
    assert (grid.ndim, grid.resolution, grid.n_channels) == (ndim, tuple_of(shape), 2)
    u = points_of(ndim)
    y = grid(u)
    assert y.dtype == torch.float32 and y.shape == (len(u), 2)
    assert_allclose(y.detach(), formula(grid.data, u, kind), rtol=0, atol=1e-5)
    exact, u = grid.double(), points_of(ndim, dtype=torch.float64)
    assert_allclose(exact(u).detach(), formula(exact.data, u, kind), rtol=0, atol=1e-12)


@pytest.mark.parametrize("monotonicity", BOTH)
@every_case
def test_monotone_numbers_are_those_of_the_formulas(kind, ndim, shape, monotonicity):
    grid = grid_of(kind, ndim, shape, dtype=torch.float64, monotonicity=monotonicity)
    u = points_of(ndim, dtype=torch.float64)
    if kind == "CatmullRom" and sum(n > 1 for n in tuple_of(shape)) == 1:  # a single axis: see below for the others
        step = torch.rand(grid.data.shape, dtype=torch.float64) + 0.3  # at most 13 / 3 apart
        values = step.reshape(2, -1).cumsum(-1).reshape(grid.data.shape)
        grid.data = values if monotonicity == "increasing" else -values
    assert_allclose(grid(u).detach(), formula(grid.data, u, kind, monotonicity), rtol=0, atol=1e-10)


@every_case
def test_numbers_and_gradients_are_those_of_the_original(kind, ndim, shape):
    """To what it is off by itself: its knots at the ends are moved by 1e-6."""
    original = pytest.importorskip("torch_cubic_spline_grids")
    theirs = class_of(kind, ndim, original)(tuple_of(shape), 2)
    with torch.no_grad():
        theirs._data.copy_(grid_of(kind, ndim, shape).data)
    grid = class_of(kind, ndim)(tuple_of(shape), 2)
    grid.load_state_dict(theirs.state_dict())
    assert list(grid.state_dict()) == list(theirs.state_dict()) == ["_data"]
    assert repr(type(grid).__name__) == repr(type(theirs).__name__)
    u = points_of(ndim).requires_grad_()
    inside = ((u > 1e-3) & (u < 1 - 1e-3)).all(-1)  # on the ends, the gradient depends on which side rounding is
    results = []
    for g in (grid, theirs):
        y = g(u)
        weights = torch.linspace(-1, 1, y.numel()).reshape(y.shape)
        by_data, by_u = torch.autograd.grad((y * weights).sum(), (g._data, u), materialize_grads=True)
        results.append((y.detach(), by_data, by_u[inside]))
    for a, b in zip(*results, strict=True):
        assert_allclose(a, b, rtol=0, atol=1e-4)
    theirs.load_state_dict(grid.state_dict())


@pytest.mark.parametrize("monotonicity", BOTH)
@every_kind
@pytest.mark.parametrize("ndim", (1, 2, 3))
def test_monotone_numbers_are_those_of_the_original(kind, ndim, monotonicity):
    """Which has it on three axes at most."""
    original = pytest.importorskip("torch_cubic_spline_grids")
    theirs = class_of(kind, ndim, original)((6, 5, 4)[:ndim], 2, monotonicity=monotonicity)
    grid = class_of(kind, ndim)((6, 5, 4)[:ndim], 2, monotonicity=monotonicity)
    data = torch.from_numpy(np.random.default_rng(3).normal(size=grid.data.shape)).float()
    if (kind, ndim) == ("CatmullRom", 1):
        data = (0.3 + data.abs().clamp(max=1)).cumsum(-1) * (1 if monotonicity == "increasing" else -1)
    theirs.data, grid.data = data.clone(), data
    u = points_of(ndim)
    assert_allclose(grid(u).detach(), theirs(u).detach(), rtol=0, atol=1e-4)
    gradients = [torch.autograd.grad(g(u).square().sum(), g._data)[0] for g in (grid, theirs)]
    assert_allclose(*gradients, rtol=0, atol=1e-3 * float(gradients[1].abs().max()))


def test_names_and_modules_are_those_of_the_original():
    original = pytest.importorskip("torch_cubic_spline_grids")
    assert set(original.__all__) <= set(ours.__all__)
    for module, names in {
        "_base_cubic_grid": ["CubicSplineGrid"],
        "b_spline_grids": [n for n in ours.__all__ if "BSplineGrid" in n],
        "catmull_rom_grids": [n for n in ours.__all__ if "CatmullRom" in n],
    }.items():
        theirs = importlib.import_module(f"torch_cubic_spline_grids.{module}")
        mine = importlib.import_module(f"gridfield.compat.torch_cubic_spline_grids.{module}")
        assert all(hasattr(theirs, n) and getattr(mine, n) is getattr(ours, n) for n in names)


def test_one_implementation():
    for kind, ndim in itertools.product(MATRICES, (1, 2, 3, 4)):
        cls = class_of(kind, ndim)
        assert cls.__mro__[1] is _base_cubic_grid.CubicSplineGrid and cls.ndim == ndim
        assert not [n for n in vars(cls) if callable(getattr(cls, n)) and not n.startswith("__")]
        assert isinstance(cls(), _base_cubic_grid.CubicSplineGrid)
        assert cls().resolution == (2,) * ndim and cls().n_channels == 1 and not cls().data.any()
        assert cls((3,) * ndim, 2, 1000, "increasing").data.shape == (2, *(3,) * ndim)  # by position, as there
        assert cls.__name__ in cls.__doc__


# ---- shapes ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("ndim", "channels", "given", "expected"),
    [
        (1, 1, (), (1, 1)),
        (1, 3, (), (1, 3)),
        (1, 1, (1,), (1, 1)),
        (1, 1, (7,), (7,)),
        (1, 1, (4, 7), (4, 7)),
        (1, 1, (4, 7, 1), (4, 7, 1)),
        (1, 3, (7, 1), (7, 3)),
        (1, 3, (7,), (7, 3)),  # the original: an error
        (1, 1, (0,), (0,)),  # these, too
        (1, 3, (0, 1), (0, 3)),
        (2, 1, (2,), (1, 1)),
        (2, 3, (7, 2), (7, 3)),
        (2, 3, (4, 1, 7, 2), (4, 1, 7, 3)),
        (2, 3, (4, 0, 2), (4, 0, 3)),
        (3, 2, (3,), (1, 2)),
        (4, 2, (5, 6, 4), (5, 6, 2)),
    ],
    ids=str,
)
@pytest.mark.parametrize("monotonicity", (None, "increasing"))
def test_shapes(ndim, channels, given, expected, monotonicity):
    grid = grid_of("BSpline", ndim, channels=channels, monotonicity=monotonicity)
    u = torch.rand(given)
    y = grid(u)
    assert y.shape == expected
    points = u.reshape(-1, ndim)
    assert torch.equal(y.reshape(-1, channels), grid(points))
    y.sum().backward()
    assert grid._data.grad.shape == grid.data.shape
    package = pytest.importorskip("torch_cubic_spline_grids")
    if points.numel() and not (channels > 1 and given == (7,)):
        theirs = class_of("BSpline", ndim, package)(grid.resolution, channels)
        assert theirs(u).shape == expected


def test_coordinates_may_be_anything_like_an_array():
    line, plane = grid_of("BSpline", 1, channels=1), grid_of("CatmullRom", 2)
    assert_array_equal(line(0.25).detach(), line(torch.tensor([[0.25]])).detach())
    assert_array_equal(line([0.25, 0.5]).detach(), line(torch.tensor([[0.25], [0.5]]))[:, 0].detach())
    assert line([0, 1]).shape == (2,)  # integers
    u = np.random.default_rng(0).random((7, 2))
    expected = plane(torch.from_numpy(u))
    assert expected.dtype == torch.float32
    frozen = u.copy()
    frozen.flags.writeable = False
    for given in (
        u,
        u.tolist(),
        [tuple(p) for p in u],
        u[::-1][::-1],
        frozen,
        torch.from_numpy(u).float(),
        u.T.copy().T,
    ):
        assert torch.equal(plane(given), expected)
    assert torch.equal(plane(u[::-1]), expected.flip(0))
    assert torch.equal(plane(u=u), expected)


# ---- data ------------------------------------------------------------------------------------------------------------
def test_data_is_a_view_and_a_setter():
    grid = grid_of("BSpline", 2, (5, 6))
    parameter = grid._data
    assert grid.data.shape == (2, 5, 6) and not grid.data.requires_grad
    assert grid.data.data_ptr() == parameter.data_ptr()
    grid.data[0, 2] = 7.0
    assert (parameter[0, 2] == 7).all()
    new = torch.rand(2, 5, 6)
    grid.data = new
    assert grid._data is parameter and torch.equal(grid.data, new)
    before = new.clone()
    new += 1  # its owner's
    assert torch.equal(grid.data, before)
    grid.data = grid.data.flip(-1)
    assert torch.equal(grid.data, before.flip(-1))
    for data, shape in ((torch.rand(3, 4), (1, 3, 4)), (torch.rand(4, 1, 2), (4, 1, 2)), (np.ones((2, 3)), (1, 2, 3))):
        grid.data = data
        assert grid._data is parameter and grid.data.shape == shape and (grid.n_channels, *grid.resolution) == shape
        u = points_of(2, dtype=grid.data.dtype)
        assert_allclose(grid(u).detach(), formula(grid.data, u, "BSpline"), rtol=0, atol=1e-5)
        grid(u).sum().backward()
        assert parameter.grad.shape == shape
    square = grid_of("BSpline", 2, (4, 4), channels=1)
    transposed = square.data.transpose(1, 2).clone()
    square.data = square.data.transpose(1, 2)  # a view of what is written to
    assert torch.equal(square.data, transposed)


def test_parameters_may_be_assigned_to_data():
    grid = grid_of("BSpline", 1, 5, channels=1)
    parameter = grid._data
    grid.data = torch.nn.Parameter(torch.ones(5))
    assert grid._data is parameter and list(grid.state_dict()) == ["_data"] and (grid.data == 1).all()
    assert list(dict(grid.named_parameters())) == ["_data"]
    assert grid.from_grid_data(parameter)._data is not parameter
    grid._data = torch.nn.Parameter(torch.rand(2, 7))  # behind its back
    u = points_of(1)
    assert grid.resolution == (7,)
    assert_allclose(grid(u).detach(), formula(grid.data, u, "BSpline"), rtol=0, atol=1e-5)


@pytest.mark.parametrize("resized", (False, True))
def test_an_optimiser_made_before_data_is_assigned_goes_on(resized):
    """Or a scheduler, an average, a hook: whatever holds the parameter."""
    grid = class_of("BSpline", 2)((5, 5))
    optimiser = torch.optim.Adam(grid.parameters(), lr=0.1)
    if not resized:
        grid(torch.rand(9, 2)).sum().backward()
        optimiser.step()
    loss = grid(torch.rand(9, 2)).sum()  # its graph stays alive over the assignment, as in a notebook
    grid.data = torch.rand(2, 4, 6) if resized else torch.rand(5, 5)
    before, u = grid.data.clone(), torch.rand(50, 2)
    optimiser.zero_grad()
    grid(u).square().sum().backward()
    optimiser.step()
    assert float((grid.data - before).abs().min()) > 1e-3
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()  # its gradient would be that of another grid


@pytest.mark.parametrize("dtype", (torch.float16, torch.bfloat16, torch.float64))
@pytest.mark.parametrize("monotonicity", (None, "decreasing"))
@every_kind
def test_types(kind, dtype, monotonicity):
    grid = grid_of(kind, 2, dtype=dtype, monotonicity=monotonicity)
    made = type(grid).from_grid_data(grid.data)
    assert made.data.dtype == dtype
    for u in (points_of(2, dtype=torch.float64), points_of(2), points_of(2).half(), points_of(2).numpy()):
        exact = torch.as_tensor(u).to(dtype if dtype == torch.float64 else torch.float32).double()
        y = grid(u)
        assert y.dtype == dtype
        atol = {torch.float64: 1e-10, torch.float16: 2e-2, torch.bfloat16: 1e-1}[dtype]
        assert_allclose(y.detach().double(), formula(grid.data.double(), exact, kind, monotonicity), rtol=0, atol=atol)
    u = points_of(2).requires_grad_()
    grid(u).sum().backward()
    assert grid._data.grad.dtype == dtype and u.grad.dtype == torch.float32


@pytest.mark.parametrize(
    "data", (torch.arange(12).reshape(3, 4), np.arange(12, dtype=np.uint8).reshape(3, 4), [[0, 1], [2, 3]])
)
def test_integer_data(data):
    grid = class_of("CatmullRom", 2).from_grid_data(data)
    assert grid.data.dtype == torch.float32 and grid._data.requires_grad
    assert_allclose(grid([1.0, 1.0]).detach(), float(np.asarray(data)[-1, -1]), rtol=1e-6)
    assert class_of("CatmullRom", 2).from_grid_data(torch.ones(2, 2, dtype=torch.bool))([0.3, 0.4]).item() == 1
    double = class_of("CatmullRom", 2)().double()
    double.data = data
    assert double.data.dtype == torch.float64


@pytest.mark.parametrize("monotonicity", (None, "increasing"))
def test_nan_and_infinity(monotonicity):
    grid = grid_of("BSpline", 2, (5, 6), monotonicity=monotonicity)
    u = torch.tensor([[np.nan, 0.5], [0.5, np.nan], [np.inf, 0.5], [-np.inf, np.inf], [0.5, 0.5]])
    y = grid(u).detach()
    assert y[:2].isnan().all() and y[2:].isfinite().all()
    assert_allclose(y[2:], grid(u[2:].clamp(0, 1)).detach(), rtol=0, atol=1e-6)


# ---- a module --------------------------------------------------------------------------------------------------------
@every_kind
@pytest.mark.parametrize("monotonicity", (None, "increasing"))
def test_copies_and_state(kind, monotonicity):
    grid = grid_of(kind, 1, 7, monotonicity=monotonicity)
    u = points_of(1)
    copies = [copy.deepcopy(grid), pickle.loads(pickle.dumps(grid))]
    fresh = class_of(kind, 1)(7, 2, monotonicity=monotonicity)
    assert str(fresh.load_state_dict(grid.state_dict())) == "<All keys matched successfully>"
    for other in (*copies, fresh):
        assert torch.equal(other(u), grid(u)) and repr(other) == repr(grid)
        other.data = other.data + 1
        assert not torch.equal(other(u), grid(u))
    assert repr(grid).startswith(f"Cubic{kind}Grid1d(resolution=(7,), n_channels=2")
    with pytest.raises(RuntimeError, match="size mismatch"):
        class_of(kind, 1)(8, 2).load_state_dict(grid.state_dict())


def test_subclasses():
    class Field(ours.CubicSplineGrid):
        ndim = 5
        _kernel = "catmull_rom"

    class Motion(class_of("BSpline", 3)):
        def forward(self, u):
            return super().forward(u) + 1

    assert Field()(torch.rand(4, 5)).shape == (4, 1)
    assert (Motion((2, 3, 4), 2)(torch.rand(4, 3)) == 1).all()
    assert isinstance(Motion.from_grid_data(torch.rand(2, 3, 4)), Motion)


def test_native_fields_are_the_same():
    for kind, kernel in (("BSpline", "cubic"), ("CatmullRom", "catmull_rom")):
        grid, field = grid_of(kind, 2, (5, 6)), SplineField((5, 6), 2, kernel=kernel)
        with torch.no_grad():
            field.coefficients.copy_(grid.data)
        u = points_of(2)
        assert torch.equal(field(u), grid(u))


@every_two
def test_gradients(kind, monotonicity, ndim):
    grid = grid_of(kind, ndim, dtype=torch.float64, monotonicity=monotonicity)
    u = points_of(ndim, 5, dtype=torch.float64, beyond=-0.05)[:5].requires_grad_()

    def f(data, u):
        return torch.func.functional_call(grid, {"_data": data}, u)

    data = grid.data.clone().requires_grad_()
    assert torch.autograd.gradcheck(f, (data, u))
    assert torch.autograd.gradgradcheck(f, (data, u))
    by_func = torch.func.jacrev(f)(data.detach(), u.detach())
    by_forward = torch.func.jacfwd(f)(data.detach(), u.detach())
    assert_allclose(by_forward, by_func, rtol=0, atol=1e-10)
    each = torch.func.vmap(f, in_dims=(None, 0))(data.detach(), u.detach())
    assert_allclose(each[:, 0], f(data, u).detach(), rtol=0, atol=1e-12)


def test_gradients_beyond_the_ends_are_zero():
    for monotonicity in (None, "increasing"):
        grid = grid_of("BSpline", 2, (5, 6), monotonicity=monotonicity)
        u = torch.tensor([[-0.1, 0.5], [0.5, 1.2]], requires_grad=True)
        grid(u).sum().backward()
        assert u.grad[0, 0] == 0 and u.grad[1, 1] == 0 and u.grad[0, 1] != 0 and u.grad[1, 0] != 0


@every_two
def test_compiled(kind, monotonicity, ndim):
    """In one graph, over an assignment to data, too."""
    grid, u = grid_of(kind, ndim, monotonicity=monotonicity), points_of(ndim).requires_grad_()
    bare = [u[:, 0].detach().requires_grad_()] if ndim == 1 else []
    torch.compiler.reset()
    compiled = torch.compile(grid, fullgraph=True, backend="aot_eager")
    for _ in range(2):
        for x in (u, *bare):
            results = []
            for f in (compiled, grid):
                y = f(x)
                results.append((y.detach(), *torch.autograd.grad(y.square().sum(), (grid._data, x))))
            for a, b in zip(*results, strict=True):
                assert_allclose(a, b, rtol=0, atol=1e-4 * max(1, float(b.abs().max())))
        grid.data = torch.rand(1, *(7, 4)[:ndim])


# ---- monotonicity ----------------------------------------------------------------------------------------------------
ADVERSARIES = {
    "noise": lambda r, s: r.normal(size=s),
    "plateaus and jumps": lambda r, s: np.floor(r.normal(size=s) * 1.5) * 10,
    "one step": lambda r, s: np.broadcast_to(np.arange(s[-1]) >= s[-1] // 2, s) * 1.0,
    "wild": lambda r, s: np.exp(r.normal(size=s) * 8) * r.choice([-1, 1], s),
    "the wrong way": lambda r, s: -np.cumsum(r.random(s), -1),
    "constant": lambda r, s: np.full(s, 3.0),
}


@pytest.mark.parametrize("adversary", ADVERSARIES)
@pytest.mark.parametrize("monotonicity", BOTH)
@pytest.mark.parametrize(
    ("kind", "shape"),
    [
        ("BSpline", (9,)),
        ("BSpline", (6, 5)),
        ("BSpline", (4, 1, 5)),
        ("BSpline", (3, 4, 2, 5)),
        ("CatmullRom", (2,)),
        ("CatmullRom", (9,)),
        ("CatmullRom", (40,)),
        ("CatmullRom", (1, 8)),
        ("CatmullRom", (1, 1, 9, 1)),
    ],
    ids=str,
)
def test_monotone_along_every_axis(kind, shape, monotonicity, adversary, rng):
    data = ADVERSARIES[adversary](rng, (2, *shape))
    grid = class_of(kind, len(shape))(shape, 2, monotonicity=monotonicity).double()
    grid.data = data
    fine = np.linspace(-0.1, 1.1, 301)
    rounding = 1e-13 * np.abs(pad(data, shape)).max()
    for axis in range(len(shape)):
        u = np.broadcast_to(rng.random((20, 1, len(shape))), (20, len(fine), len(shape))).copy()
        u[..., axis] = fine
        steps = np.diff(grid(u).detach().numpy(), axis=1) * (1 if monotonicity == "increasing" else -1)
        assert steps.min() >= -rounding
    ends = np.array([[0.0] * len(shape), [1.0] * len(shape)])
    assert_allclose(grid(ends).detach(), formula(data, ends, kind, monotonicity), rtol=0, atol=1e2 * rounding)


def test_monotone_grids_learn():
    """From a ramp: from equal control points a running maximum can only follow the highest, there as here."""
    u = torch.linspace(0, 1, 200)[:, None]
    target = torch.tanh(8 * (u - 0.5))
    noisy = target + 0.2 * torch.sin(20 * u)
    for kind in MATRICES:
        grid = class_of(kind, 1)(9, monotonicity="increasing")
        grid.data = torch.linspace(0, 1, 9)
        first = (grid(u) - noisy).square().mean().item()
        optimiser = torch.optim.Adam(grid.parameters(), lr=0.05)
        for _ in range(200):
            optimiser.zero_grad()
            loss = (grid(u) - noisy).square().mean()
            loss.backward()
            optimiser.step()
        assert loss.item() < 0.04 * first
        y = grid(u).detach()
        assert float((y - target).abs().max()) < 0.4 and float(y.diff(dim=0).min()) > -1e-6


# ---- bad input -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda g: g(torch.rand(7, 3)),
            ValueError,
            r"CubicBSplineGrid2d: points has 3 coordinates .*\(7, 3\).* 2 axes",
        ),
        (lambda g: g(0.5), ValueError, r"CubicBSplineGrid2d: points has 1 coordinates"),
        (lambda g: g([]), ValueError, r"CubicBSplineGrid2d: points must have shape"),
        (lambda g: g(torch.rand(7, 2) * 1j), TypeError, r"CubicBSplineGrid2d: u has dtype torch.complex64"),
        (lambda g: type(g)((0, 3)), ValueError, r"CubicBSplineGrid2d: resolution \(0, 3\)"),
        (lambda g: type(g)((2, 3, 4)), ValueError, r"CubicBSplineGrid2d: resolution has 3 values .* 2 axes"),
        (lambda g: type(g)((2.5, 3)), TypeError, r"CubicBSplineGrid2d: resolution \(2.5, 3\)"),
        (lambda g: type(g)((2, 3), 0), ValueError, r"CubicBSplineGrid2d: channels must be an int >= 1, got 0"),
        (lambda g: type(g)(monotonicity="up"), ValueError, r"monotonicity must be None, 'increasing' or .*, got 'up'"),
        (lambda g: setattr(g, "data", torch.rand(5)), ValueError, r"data must have shape \(c, \*resolution\).*\(5,\)"),
        (lambda g: g.from_grid_data(torch.rand(1, 0, 3)), ValueError, r"data must have shape .*\(1, 0, 3\)"),
        (lambda g: g.from_grid_data(torch.rand(2, 3) * 1j), TypeError, r"data has dtype torch.complex64"),
        (lambda g: ours.CubicSplineGrid((2, 3)), TypeError, r"CubicSplineGrid is a base class without ndim"),
    ],
)
def test_bad_input(call, error, message):
    grid = grid_of("BSpline", 2, (5, 6))
    before = grid.data.clone()
    with pytest.raises(error, match=message):
        call(grid)
    assert torch.equal(grid.data, before)
