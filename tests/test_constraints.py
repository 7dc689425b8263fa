"""Monotone and positive fields: by construction, for any parameter, up to the rounding of an evaluation."""

import copy
import io
import itertools
import pickle

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from scipy.interpolate import CubicHermiteSpline
from scipy.optimize import nnls

import gridfield as gf
from gridfield import basis, constraints
from gridfield.torch import SplineField

pytestmark = pytest.mark.filterwarnings(r"ignore:`torch.jit.script\w*` is deprecated:DeprecationWarning")  # torch's own
UP = ("increasing", 0)
KINDS = ("random", "huge", "alternating", "spike", "flat")
OTHERS = ("natural", "nearest", "mirror", "reflect", "wrap")


def adversarial(shape, kind, seed=0, dtype=torch.float64):
    """Values that the parameter of a constraint could have."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=shape)
    if kind == "huge":
        x = x * 10.0 ** rng.uniform(-3, 9, shape)
    elif kind == "alternating":
        x = np.where(np.indices(shape).sum(0) % 2, 1e4, -1e4) * (1 + rng.random(shape))
    elif kind == "spike":
        x = np.full(shape, -200.0)
        x[tuple(n // 2 for n in shape)] = 1e6
    elif kind == "flat":
        x = np.full(shape, -1e30)
    return torch.from_numpy(x).to(dtype)


def constrained(shape, kind="random", channels=1, seed=0, dtype=torch.float64, **how):
    field = SplineField(shape, channels, dtype=dtype, **how)
    with torch.no_grad():
        original(field).copy_(adversarial((channels, *field.grid.shape), kind, seed, dtype))
    return field


def original(field):
    return field.parametrizations.coefficients.original


def rounding(field):
    """What two values of the field may be wrong by: weights and products are rounded (2.6 was the worst seen for 8)."""
    return 8 * torch.finfo(field.coefficients.dtype).eps * field.coefficients.detach().abs().max().item()


def lines(field, axis, samples, count, seed=3):
    """(count, samples, ndim): points along an axis, from well before to well after the field, at random others."""
    rng = np.random.default_rng(seed)
    lo, hi = np.array(field.grid.bounds).T
    reach = 5 * np.array(field.grid.spacing)  # more than any kernel
    x = np.repeat(rng.uniform(lo - reach, hi + reach, (count, 1, field.ndim)), samples, 1)
    x[..., axis] = np.linspace(lo[axis] - reach[axis], hi[axis] + reach[axis], samples)
    return torch.from_numpy(x).to(field.coefficients.dtype)


def violation(field, axis=0, word="increasing", samples=20_000, count=13):
    """By how much the field goes the wrong way along an axis, at most; along `count` lines per other axis."""
    g = field.grid
    shape = [samples if a == axis else count for a in range(field.ndim)]
    spacing = [(n + 9) * h / (m - 1) for n, h, m in zip(g.shape, g.spacing, shape, strict=True)]
    origin = [o - 5 * h for o, h in zip(g.origin, g.spacing, strict=True)]  # farther than any kernel reaches
    with torch.no_grad():
        if field.ndim == 1:
            rises = field(lines(field, 0, samples, 1)).diff(dim=1)
        else:  # by the matrices of single axes: the kernels of all degrees and dimensions would have to be compiled
            rises = field.on_grid(gf.Grid.from_spacing(shape, origin, spacing)).diff(dim=1 + axis)
    assert torch.isfinite(rises).all()
    return (-rises if word == "increasing" else rises).max().item()


# ---- monotone on a line ----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("boundary", ("natural", "nearest"))
@pytest.mark.parametrize("degree", range(8))
def test_monotone_splines_of_every_degree(degree, boundary):
    for kind, n in itertools.product(KINDS, (2, 3, 9)):
        field = constrained(n, kind, kernel=degree, boundary=boundary, monotonic=UP, bounds=(-1, 3))
        assert violation(field) <= rounding(field), (kind, n)
        c = field.coefficients.detach()
        assert (c.diff() >= 0).all()  # of the control points not even a rounding


@pytest.mark.parametrize("dtype", (torch.float32, torch.float64))
@pytest.mark.parametrize(
    "how", ({}, {"boundary": "nearest"}, {"kernel": 7}, {"kernel": 4}, {"kernel": "catmull_rom"}), ids=str
)
def test_a_million_samples(how, dtype):
    for kind, word in itertools.product(("huge", "alternating"), ("increasing", "decreasing")):
        field = constrained(30, kind, 2, monotonic=(word, 0), dtype=dtype, **how)
        assert violation(field, word=word, samples=1_000_000) <= rounding(field)


def test_the_tolerance_is_not_what_makes_it_pass():
    """The same control points without order go wrong by far more."""
    field = SplineField(30, dtype=torch.float64)
    with torch.no_grad():
        field.coefficients.copy_(adversarial((1, 30), "random"))
    assert violation(field) > 1e6 * rounding(field)
    for rises, good in (([5.0, 5, 1, 5, 5], True), ([6.0, 6, 1, 6, 6], False)):
        spline = SplineField(6, kernel="catmull_rom", dtype=torch.float64)
        with torch.no_grad():
            spline.coefficients[0, 1:] = torch.tensor(rises).cumsum(0)
        assert (violation(spline) <= rounding(spline)) == good


def test_constant_axes_and_several_channels():
    field = constrained((1, 5), "random", 3, monotonic=[UP, ("decreasing", 1)])
    assert violation(field, 1, "decreasing") <= rounding(field)
    assert violation(field, 0) <= rounding(field) and violation(field, 0, "decreasing") <= rounding(field)
    field = SplineField((1, 1), monotonic=UP, kernel="catmull_rom")
    assert list(field.state_dict()) == ["coefficients"]  # nothing to hold
    periodic = constrained((6, 5), "huge", monotonic=("increasing", -1), periodic=(True, False))
    assert periodic.boundary == ("wrap", "natural") and periodic.monotonic == (("increasing", 1),)
    assert violation(periodic, 1) <= rounding(periodic)


# ---- in several dimensions -------------------------------------------------------------------------------------------
@pytest.mark.parametrize("other", OTHERS)
@pytest.mark.parametrize("degree", range(8))
def test_monotone_along_one_axis_of_many(degree, other):
    """Natural ends of the other axes make falling control points beyond them, and yet no falling field between."""
    for kind, n in itertools.product(("huge", "spike", "alternating"), (2, 5)):
        field = constrained((n, 7), kind, kernel=degree, boundary=[other, "natural"], monotonic=("decreasing", 1))
        assert violation(field, 1, "decreasing", 1000) <= rounding(field), (kind, n)
    if degree == 3:  # at points, too
        x = lines(field, 1, 1000, 30)
        assert field(x).diff(dim=1).max() <= rounding(field)
    field = constrained(
        (3, 4, 3), "huge", kernel=(1, degree, 3), boundary=[other, "nearest", other], monotonic=("increasing", 1)
    )
    assert violation(field, 1, samples=500, count=7) <= rounding(field)


@pytest.mark.parametrize("degree", range(8))
def test_what_natural_ends_do_to_positive_coefficients(degree):
    """The field of a unit coefficient is not negative anywhere: what the two tests of several axes rest on."""
    for n in (2, 3, 4, 5, 9):
        axis = basis.Axis(gf.Grid(n), gf.bspline(degree), "natural")
        assert basis.sampling(axis, np.linspace(-1, 2, 3001)).min() > -1e-15


def largest_before(s, axes):
    """c[i] = s[i] + max over axes of c[i - e_a], cell by cell."""
    c = np.array(s)
    for i in np.ndindex(*s.shape):
        before = [c[tuple(k - (b == a) for b, k in enumerate(i))] for a in axes if i[a] > 0]
        c[i] = s[i] + (max(before) if before else 0)
    return c


@pytest.mark.parametrize("words", list(itertools.product(("increasing", "decreasing"), repeat=2)))
def test_monotone_along_several_axes(words):
    monotonic = [(words[0], 0), (words[1], 2)]
    for kind in KINDS:
        field = constrained((4, 3, 5), kind, monotonic=monotonic, kernel=(3, 2, 5))
        for word, a in monotonic:
            assert violation(field, a, word, 500) <= rounding(field), kind
    field = constrained((4, 3, 5), "random", 2, monotonic=[("increasing", 0), ("increasing", 2)])
    x = original(field).detach().numpy()
    s = np.logaddexp(0, x)
    s[:, 0, :, 0] = x[:, 0, :, 0]
    for channel in range(2):
        for j in range(3):
            expected = largest_before(s[channel, :, j], (0, 1))
            assert_allclose(field.coefficients[channel, :, j].detach(), expected, rtol=1e-13)


def test_every_array_that_rises_can_be_had():
    rng = np.random.default_rng(0)
    for shape, axes in (((7,), (0,)), ((4, 5), (0, 1)), ((3, 4, 5), (0, 1, 2)), ((3, 4, 5), (1,)), ((3, 4, 5), (0, 2))):
        c = rng.normal(size=(2, *shape))
        for a in axes:  # rising along each, without being a sum of functions of one coordinate
            c = np.maximum.accumulate(c, 1 + a)
        c = c + 1e-3 * sum(np.indices(shape)[a] for a in axes)
        field = SplineField(shape, 2, monotonic=[("increasing", a) for a in axes], dtype=torch.float64)
        field.coefficients = torch.from_numpy(c)
        assert_allclose(field.coefficients.detach(), c, rtol=0, atol=1e-14 * np.abs(c).max() * 30)


# ---- Catmull-Rom -----------------------------------------------------------------------------------------------------
def test_monotone_catmull_rom():
    for kind, n in itertools.product(KINDS, (2, 3, 4, 12)):
        field = constrained(n, kind, kernel="catmull_rom", monotonic=UP, bounds=(0, 5))
        assert violation(field) <= rounding(field), (kind, n)
        d = field.coefficients.detach().diff()
        if n > 2 and kind == "random":
            ratio = (d[:, 1:] / d[:, :-1]).log().abs().max().exp()
            assert ratio <= 5 * (1 + 1e-9)
    mixed = constrained((4, 6), "huge", kernel=("quadratic", "catmull_rom"), monotonic=("increasing", 1))
    assert violation(mixed, 1, samples=2000) <= rounding(mixed)


def test_where_catmull_rom_stops_being_monotone():
    """The bound of the construction is sharp: a pair of neighbours that are 5 x as large is the last to be monotone."""
    for ratio, good in ((5.0, True), (5.01, False)):
        c = np.array([0, ratio, ratio + 1, 2 * ratio + 1])
        slopes = (c[2:] - c[:-2]) / 2
        piece = CubicHermiteSpline([0, 1], c[1:3], slopes)
        assert (piece(np.linspace(0, 1, 100_001), 1).min() > -1e-12) == (good or slopes.max() <= 3)
    n = 12
    columns = constraints._decay(n, torch.zeros(1, dtype=torch.float64)).numpy()
    assert (columns[1:] <= 5 * columns[:-1] * (1 + 1e-14)).all() and (
        columns[:-1] <= 5 * columns[1:] * (1 + 1e-14)
    ).all()
    d = 5.0 ** -np.abs(np.arange(n) - 4) + 0.3  # steep and level
    assert nnls(columns, d)[1] < 1e-12  # is a sum of columns
    d[4] = 0.15
    assert nnls(columns, d)[1] > 1e-3


def test_control_points_of_a_monotone_catmull_rom_spline():
    field = SplineField(8, kernel="catmull_rom", monotonic=UP, dtype=torch.float64)
    rises = torch.tensor([1.0, 2, 4, 9, 9, 4, 1])
    c = torch.cat([torch.tensor([-3.0]), rises]).cumsum(0)[None].double()
    field.coefficients = c
    assert_allclose(field.coefficients.detach(), c, atol=1e-13)
    field.coefficients = torch.tensor([[0.0, 0, 0, 10, 10, 0, 10, 11]], dtype=torch.float64)  # no such spline is
    got = field.coefficients.detach()[0]
    assert_allclose(got[[0, -1]], [0, 11], atol=1e-5)
    assert violation(field) <= rounding(field) and (got[3] - got[2]) > 2


# ---- positive --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("boundary", constraints.POSITIVE)
@pytest.mark.parametrize("degree", range(8))
def test_positive(degree, boundary):
    wide = gf.Grid((101, 103), (-1, 2))
    for kind in KINDS:
        field = constrained((4, 5), kind, 2, kernel=degree, boundary=boundary, positive=True)
        with torch.no_grad():
            assert (field.coefficients >= 0).all()
            assert field.on_grid(wide).min() >= -rounding(field), kind
    field = constrained((4, 5), "random", 2, kernel=degree, boundary=boundary, positive=True)
    assert field.on_grid(wide).min() > 0
    assert_allclose(field.coefficients.detach(), np.logaddexp(0, original(field).detach().numpy()), rtol=1e-13)


def test_positive_and_monotone():
    for word, shape in itertools.product(("increasing", "decreasing"), ((6,), (4, 5))):
        field = constrained(shape, "random", boundary="nearest", positive=True, monotonic=(word, 0))
        assert field.coefficients.min() > 0 and violation(field, 0, word) <= rounding(field)
        assert SplineField(shape, boundary="nearest", positive=True, monotonic=(word, 0)).coefficients.min() == 1
        c = field.coefficients.detach().clone()
        field.coefficients = c
        assert_allclose(field.coefficients.detach(), c, rtol=1e-13)
        field.coefficients = -c  # as near as it comes
        assert 0 < field.coefficients.min() < field.coefficients.max() < 1e-6
    both = constrained((4, 5), "huge", boundary="nearest", positive=True, monotonic=[UP, ("decreasing", 1)])
    assert both.coefficients.min() >= 0 and both.coefficients.argmin() == 4


# ---- as a module -----------------------------------------------------------------------------------------------------
def every():
    """One field of each construction."""
    return {
        "one axis": constrained((4, 5), "random", 2, monotonic=("decreasing", 1)),
        "two axes": constrained((4, 5), "random", 2, monotonic=[UP, ("decreasing", 1)], kernel=2),
        "catmull_rom": constrained(6, "random", 2, monotonic=UP, kernel="catmull_rom"),
        "positive": constrained((4, 5), "random", 2, positive=True, boundary="reflect"),
        "both": constrained((4, 5), "random", 2, positive=True, boundary="nearest", monotonic=[UP, ("increasing", 1)]),
    }


each = pytest.mark.parametrize("name", every())


@each
def test_no_gradient_is_dead(name):
    field = every()[name]
    g = torch.autograd.grad(field(lines(field, 0, 50, 10)).square().sum(), original(field))[0]
    assert (g != 0).all() and torch.isfinite(g).all()
    fresh = SplineField(
        field.grid, 2, kernel=field.kernel, boundary=field.boundary, monotonic=field.monotonic, positive=field.positive
    )
    weights = torch.rand(fresh.coefficients.shape, generator=torch.Generator().manual_seed(0)) + 0.1
    g = torch.autograd.grad((fresh.coefficients * weights).sum(), original(fresh))[0]
    assert (g.abs() > 1e-3).all()  # nor at the beginning
    with torch.no_grad():  # nor where all was flat
        fresh.coefficients = torch.ones_like(fresh.coefficients)
    assert_allclose(fresh.coefficients.detach(), 1, atol=1e-2)
    g = torch.autograd.grad((fresh.coefficients * weights).sum(), original(fresh))[0]
    assert (g.abs() > 1e-5).all()


@each
def test_derivatives_of_all_orders(name):
    field = every()[name]
    x = torch.rand(4, field.ndim, dtype=torch.float64, generator=torch.Generator().manual_seed(1))

    def value(raw, points):
        return torch.func.functional_call(field, {"parametrizations.coefficients.original": raw}, (points,))

    raw = original(field).detach().clone().requires_grad_()
    assert torch.autograd.gradcheck(value, (raw, x.requires_grad_()), fast_mode=True)
    assert torch.autograd.gradgradcheck(value, (raw, x), fast_mode=True)
    forward = torch.func.jacfwd(value)(raw.detach(), x.detach())
    assert_allclose(forward, torch.func.jacrev(value)(raw.detach(), x.detach()), atol=1e-12)


@each
def test_training_with_an_optimiser_to_data_it_cannot_reach(name):
    field = every()[name]
    optimiser = torch.optim.Adam(field.parameters(), lr=0.1)
    x = torch.rand(300, field.ndim, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    y = torch.sin(9 * x.sum(-1, keepdim=True))
    losses = []
    for _ in range(60):
        optimiser.zero_grad()
        losses.append((field(x) - y).square().mean())
        losses[-1].backward()
        optimiser.step()
    assert losses[-1] < losses[0]
    for word, a in field.monotonic:
        assert violation(field, a, word, 1000) <= rounding(field)
    assert not field.positive or field(lines(field, 0, 1000, 20)).min() >= -rounding(field)


def test_monotone_regression_finds_the_best():
    """Against non-negative least squares in the differences, which the cone is convex for."""
    rng = np.random.default_rng(0)
    x = np.sort(rng.random(200))
    y = np.tanh(8 * (x - 0.5)) + 0.3 * rng.normal(size=200) - 0.5 * (x > 0.8)
    field = SplineField(9, monotonic=UP, dtype=torch.float64)
    a = basis.sampling(field.spline.axes[0], x) @ np.tril(np.ones((9, 9)))
    best = nnls(np.hstack([a, -a[:, :1]]), y)[1] ** 2
    points, values = torch.from_numpy(x[:, None]), torch.from_numpy(y[:, None])
    optimiser = torch.optim.LBFGS(field.parameters(), max_iter=300, line_search_fn="strong_wolfe")

    def closure():
        optimiser.zero_grad()
        loss = (field(points) - values).square().sum()
        loss.backward()
        return loss

    optimiser.step(closure)
    assert best < closure().item() < 1.001 * best


@each
def test_copies_of_constrained_fields(name):
    field = every()[name]
    x = lines(field, 0, 20, 3)
    expected = field(x).detach()
    file, whole = io.BytesIO(), io.BytesIO()
    torch.save(field.state_dict(), file)
    torch.save(field, whole)
    file.seek(0)
    whole.seek(0)
    how = {"monotonic": field.monotonic, "positive": field.positive, "dtype": torch.float64}
    fresh = SplineField(field.grid, 2, kernel=field.kernel, boundary=field.boundary, **how)
    fresh.load_state_dict(torch.load(file, weights_only=True))
    assert list(field.state_dict()) == ["parametrizations.coefficients.original"]
    copies = copy.deepcopy(field), pickle.loads(pickle.dumps(field)), torch.load(whole, weights_only=False), fresh
    for other in copies:
        assert isinstance(other, SplineField) and repr(other) == repr(field)
        assert torch.equal(other(x), expected) and torch.equal(original(other), original(field))
        with torch.no_grad():
            original(other).add_(1)
        assert torch.equal(field(x), expected) and not torch.equal(other(x), expected)
        other.coefficients = field.coefficients.detach()
        assert_allclose(other(x).detach(), expected, atol=1e-12)
    frozen = pickle.loads(pickle.dumps(field.requires_grad_(False)))
    assert not original(frozen).requires_grad
    x = x[..., :1, :].clone()
    assert_allclose(pickle.loads(pickle.dumps(frozen))(x), expected[..., :1, :], atol=0)


@each
def test_types_of_constrained_fields(name):
    field = every()[name]
    x = lines(field, 0, 20, 3).clamp(0, 1)
    expected = field(x).detach()
    for dtype, atol in ((torch.float32, 1e-5), (torch.float16, 2e-2), (torch.bfloat16, 2e-1)):
        other = copy.deepcopy(field).to(dtype)
        assert other.coefficients.dtype == dtype and other(x.to(dtype)).dtype == dtype
        assert_allclose(other(x.to(dtype)).double().detach(), expected, atol=atol * expected.abs().max())
        for word, a in field.monotonic:
            rises = other.coefficients.detach().double().diff(dim=1 + a)
            assert (rises >= 0 if word == "increasing" else rises <= 0).all()
        other(x.to(dtype)).sum().backward()
        assert original(other).grad.dtype == dtype
        c = other.coefficients.detach().clone()
        other.coefficients = c
        assert_allclose(other.coefficients.detach().double(), c.double(), atol=atol * c.abs().max().double())


@each
def test_compiled(name):
    field = every()[name]
    x = lines(field, 0, 20, 3)
    compiled = torch.compile(lambda x: field(x) + field.roughness(1), fullgraph=True, backend="eager")
    assert_allclose(compiled(x).detach(), (field(x) + field.roughness(1)).detach(), rtol=1e-12)
    (ours,) = torch.autograd.grad(compiled(x).sum(), original(field))
    (theirs,) = torch.autograd.grad((field(x) + field.roughness(1)).sum(), original(field))
    assert_allclose(ours, theirs, rtol=1e-10)


def test_control_points_that_do_not_hold_the_constraint():
    field = SplineField(5, 2, monotonic=UP, dtype=torch.float64)
    field.coefficients = torch.tensor([[0.0, 3, 1, 4, 4], [2.0, 2, 2, 2, 2]], dtype=torch.float64)
    assert_allclose(field.coefficients.detach(), [[0, 2, 2, 4, 4], [2, 2, 2, 2, 2]], atol=1e-6)
    assert (field.coefficients.diff() > 0).all()
    falling = SplineField(4, monotonic=("decreasing", 0), dtype=torch.float64)
    falling.coefficients = torch.tensor([[3.0, 2, 1, -5]], dtype=torch.float64)
    assert_allclose(falling.coefficients.detach(), [[3, 2, 1, -5]], atol=1e-14)
    falling.coefficients = torch.tensor([[3.0, float("nan"), 1, -5]], dtype=torch.float64)
    assert falling.coefficients.isnan().any()  # not made into numbers
    with pytest.raises(
        ValueError, match=r"SplineField: coefficients has shape \(1, 5\) but must be \(channels, \*\(4,\)\)"
    ):
        falling.coefficients = torch.zeros(1, 5, dtype=torch.float64)
    with pytest.raises(ValueError, match="dtype"):
        falling.coefficients = torch.zeros(1, 4)
    tiny = torch.tensor([[0.0, 1e-30, 1.0, 1e8]], dtype=torch.float64)
    field = SplineField(4, monotonic=UP, dtype=torch.float64)
    field.coefficients = tiny
    assert_allclose(field.coefficients.detach(), tiny, rtol=1e-14)
    empty = field(torch.empty(0, 1, dtype=torch.float64))
    assert empty.shape == (0, 1) and field(torch.tensor([[float("nan")]], dtype=torch.float64)).isnan().all()


# ---- on other lattices -----------------------------------------------------------------------------------------------
def test_refined_and_cut_fields_stay_constrained():
    for name, field in every().items():
        x = lines(field, 0, 100, 5).clamp(0, 1)
        made = {"crop": field.crop((0.3, 0.8)), "resample": field.resample(5)}
        if name not in ("catmull_rom", "positive"):  # which cannot be refined exactly
            factor = 3 if name == "two axes" else 2
            if name != "both":
                made["refine"] = field.refine(factor)
                assert_allclose(made["refine"](x).detach(), field(x).detach(), atol=1e-12)
        inside = x * 0.5 + 0.3
        assert_allclose(made["crop"](inside).detach(), field(inside).detach(), atol=1e-12)
        for what, other in made.items():
            assert other.monotonic == field.monotonic and other.positive == field.positive, (name, what)
            assert list(other.state_dict()) == ["parametrizations.coefficients.original"]
            assert original(other).requires_grad and original(other).is_leaf
            for word, a in other.monotonic:
                assert violation(other, a, word, 500) <= rounding(other)
    same = every()["one axis"]
    assert_allclose(same.resample((4, 5)).coefficients.detach(), same.coefficients.detach(), rtol=1e-13)


def test_padded_fields_stay_constrained_where_they_can():
    fields = every()
    inside = lines(fields["one axis"], 0, 100, 5).clamp(0, 1)
    for name, margins, kept in (
        ("one axis", [0, 2], True),
        ("one axis", [2, 0], False),  # natural ends along which the differences may fall below zero
        ("two axes", 1, False),
        ("catmull_rom", 2, False),
    ):
        field, padded = fields[name], fields[name].pad(margins)
        assert padded.monotonic == (field.monotonic if kept else ())
        assert_allclose(
            padded(inside[..., : field.ndim]).detach(), field(inside[..., : field.ndim]).detach(), atol=1e-12
        )
    for name in ("positive", "both"):
        field, padded = fields[name], fields[name].pad(3)
        assert padded.positive and padded.monotonic == field.monotonic
        assert_allclose(padded(inside).detach(), field(inside).detach(), atol=1e-12)
    ring = constrained((6, 5), "random", monotonic=("increasing", 1), periodic=(True, False))
    assert ring.crop([(0.7, 1.2), None]).monotonic == ring.pad([4, 0]).monotonic == ring.monotonic
    ring = constrained((6, 5), "random", positive=True, boundary="mirror", periodic=(True, False))
    cut = ring.crop([(0.2, 0.7), None])
    assert cut.boundary == ("natural", "mirror") and not cut.positive  # which natural ends do not allow
    x = lines(ring, 1, 50, 5).clamp(0.2, 0.7)
    assert_allclose(cut(x).detach(), ring(x).detach(), atol=1e-12)


# ---- what cannot be --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("shape", "how", "message"),
    [
        (5, {"monotonic": UP, "boundary": "mirror"}, "along axis 0 needs boundary 'natural' or 'nearest' .*'mirror'"),
        (5, {"monotonic": UP, "boundary": "grid-constant"}, "with 'grid-constant' the field comes back"),
        ((5, 4), {"monotonic": UP, "periodic": (True, False)}, "with 'wrap' the field comes back"),
        ((5, 4), {"monotonic": UP, "kernel": "catmull_rom"}, "needs B-splines in more than one dimension"),
        ((5, 4), {"monotonic": UP, "kernel": ("cubic", "catmull_rom")}, "needs B-splines in more than one dimension"),
        (5, {"monotonic": UP, "kernel": "catmull_rom", "boundary": "nearest"}, "needs boundary 'natural'"),
        (5, {"monotonic": UP, "kernel": gf.Kernel([[1.0, -1], [0, 1.1]])}, "got kernel 'custom'"),
        (5, {"monotonic": ("rising", 0)}, "must be \\('increasing' or 'decreasing', axis\\)"),
        (5, {"monotonic": ("increasing", 1)}, "with an axis of the 1"),
        (5, {"monotonic": "increasing"}, "must be"),
        (5, {"monotonic": [("increasing", 0, 1)]}, "must be"),
        (5, {"monotonic": ("increasing", 0.5)}, "must be"),
        ((5, 4), {"monotonic": [("increasing", 1), ("decreasing", -1)]}, "names axis -1 twice"),
        (5, {"positive": True}, "positive needs boundary 'nearest', 'mirror', .* got 'natural'"),
        (5, {"positive": True, "kernel": "catmull_rom", "boundary": "mirror"}, "positive needs B-splines"),
        (5, {"positive": True, "boundary": "constant"}, "got 'constant' along axis 0"),
    ],
    ids=str,
)  # fmt: skip
def test_errors(shape, how, message):
    with pytest.raises(ValueError, match=rf"gf\.torch\.SplineField: .*{message}"):
        SplineField(shape, **how)


def test_a_flag_is_a_flag():
    with pytest.raises(TypeError, match="positive must be True or False, got 1"):
        SplineField(5, positive=1, boundary="mirror")


# ---- files -----------------------------------------------------------------------------------------------------------
def test_constraints_are_in_the_file(tmp_path):
    """The same values, constrained likewise; frameworks without constraints say so."""
    import gridfield.jax

    field = SplineField((6, 5), 2, boundary=["nearest", "wrap"], monotonic=("decreasing", 0), positive=True,
                        dtype=torch.float64)  # fmt: skip
    with torch.no_grad():
        torch.nn.init.normal_(field.parametrizations.coefficients.original)
    field.save(tmp_path / "field.safetensors")
    again = SplineField.load(tmp_path / "field.safetensors")
    assert again.monotonic == (("decreasing", 0),) and again.positive
    assert torch.allclose(again.coefficients, field.coefficients, rtol=1e-12, atol=0)
    (again.coefficients.sum()).backward()
    assert again.parametrizations.coefficients.original.grad.abs().min() > 0
    with pytest.raises((TypeError, ValueError), match="monotonic"):
        gridfield.jax.SplineField.load(tmp_path / "field.safetensors")
    labelled = SplineField.from_xarray(field.to_xarray())
    assert labelled.positive and torch.allclose(labelled.coefficients, field.coefficients, rtol=1e-12, atol=0)


@pytest.mark.parametrize("dtype", (torch.float64, torch.float32, torch.float16, torch.bfloat16))
def test_a_constrained_file_is_exact(tmp_path, dtype):
    """The parameter is in it, too: steps that are too small for the sum come back as they were."""
    torch.manual_seed(0)
    for how in ({"monotonic": ("increasing", 0)}, {"positive": True, "boundary": "mirror"}):
        field = SplineField(12, dtype=dtype, **how)
        original = field.parametrizations.coefficients.original
        with torch.no_grad():
            original.normal_(0, 20)
        field.save(tmp_path / "field.safetensors")
        again = SplineField.load(tmp_path / "field.safetensors")
        assert torch.equal(again.coefficients, field.coefficients)
        assert torch.equal(again.parametrizations.coefficients.original, original)
        if "positive" in how:
            assert (field.coefficients > 0).all()


def test_a_sum_is_saved_as_the_field_it_is(tmp_path):
    base, delta = (SplineField(n, dtype=torch.float64) for n in (5, 9))
    torch.nn.init.normal_(base.coefficients)
    torch.nn.init.normal_(delta.coefficients)
    (base + delta).save(tmp_path / "sum.safetensors")
    again = SplineField.load(tmp_path / "sum.safetensors")
    assert torch.equal(again.coefficients, (base + delta).coefficients) and again.grid == delta.grid
