"""Other lattices, integrals and vector calculus of fields: against quadrature, autograd, and the field itself."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import copy
import itertools
import pickle

import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from scipy.integrate import quad

import gridfield as gf
import gridfield.jax
import gridfield.tensorflow
from gridfield import basis
from gridfield.torch import SplineField

EXACT = ("natural", "mirror", "wrap")


def field_of(shape, channels=2, seed=0, **how):
    field = SplineField(shape, channels, dtype=torch.float64, **how)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        field.coefficients.copy_(torch.randn(field.coefficients.shape, generator=generator, dtype=torch.float64))
    return field


def points(field, n=2000, seed=1, beyond=0.4):
    rng = np.random.default_rng(seed)
    lo, hi = np.array(field.grid.bounds).T
    return torch.from_numpy(rng.uniform(lo - beyond * (hi - lo), hi + beyond * (hi - lo), (n, field.ndim)))


def same(a, b, x, atol=1e-12):
    assert_allclose(a(x).detach(), b(x).detach(), rtol=0, atol=atol)


# ---- other lattices --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("boundary", EXACT)
@pytest.mark.parametrize("degree", range(8))
def test_refine_does_not_change_the_field(degree, boundary):
    """At any point, beyond the ends too, with all derivatives."""
    field = field_of(6, kernel=degree, boundary=boundary, bounds=(-1, 2.5))
    for factor in (2, 3, 4, 5):
        if degree % 2 == 0 and factor % 2 == 0:
            with pytest.raises(ValueError, match=r"factor \d must be odd for a kernel of even degree"):
                field.refine(factor)
            continue
        fine = field.refine(factor)
        n = 6 * factor if boundary == "wrap" else 5 * factor + 1
        assert fine.grid.shape == (n,) and fine.grid.spacing[0] == pytest.approx(field.grid.spacing[0] / factor)
        assert fine.boundary == field.boundary
        x = points(field)
        if degree == 0:  # where it jumps, rounding decides
            u = 7 * np.random.default_rng(0).random(500) / 2
            x = torch.from_numpy(-1 + np.floor(u * 60) / 60 + 1 / 120)[:, None]
        same(fine, field, x)
        if degree > 1:
            assert_allclose(fine.jacobian(x).detach(), field.jacobian(x).detach(), atol=1e-9)


def test_refine_in_several_dimensions():
    field = field_of((4, 5, 1), kernel=("cubic", "quadratic", "quintic"), boundary=["natural", "mirror", "wrap"])
    fine = field.refine((4, 3, 2))
    assert fine.grid.shape == (13, 13, 1)
    same(fine, field, points(field))
    periodic = field_of(gf.Grid((5, 6), periodic=(True, False)), kernel="cubic")
    same(periodic.refine(3), periodic, points(periodic))
    assert periodic.refine(3).grid.shape == (15, 16)
    same(field.refine(1), field, points(field))


@pytest.mark.parametrize("how", ({"kernel": "catmull_rom"}, {"boundary": "reflect"}, {"boundary": "nearest"}))
def test_what_cannot_be_refined(how):
    with pytest.raises(
        ValueError, match=r"gf\.torch\.SplineField\.refine: factor 2 is exact for B-splines .* resample"
    ):
        field_of(6, **how).refine(2)
    with pytest.raises(ValueError, match=r"gf\.torch\.SplineField\.refine: factor 0 must hold an integer of 1"):
        field_of(6).refine(0)


@pytest.mark.parametrize("boundary", ("natural", "mirror", "wrap", "reflect"))
@pytest.mark.parametrize("kernel", ("linear", "quadratic", "cubic", "quintic", "catmull_rom"))
def test_resample_is_the_nearest_field(kernel, boundary):
    """The difference is orthogonal to every field on the lattice: no other is nearer."""
    field = field_of(9, 1, kernel=kernel, boundary=boundary, bounds=(0, 4))
    coarse = field.resample(6)
    breaks = np.union1d(basis.pieces(field.spline.axes[0]), basis.pieces(coarse.spline.axes[0]))
    inside = breaks[(breaks >= 0) & (breaks <= basis.pieces(coarse.spline.axes[0])[-1])]
    x, w = basis.quadrature(inside, 10)
    x = torch.from_numpy(x[:, None])
    difference = (field(x) - coarse(x)).detach().numpy()[:, 0]
    functions = basis.sampling(coarse.spline.axes[0], x.numpy()[:, 0])
    assert np.abs(functions.T @ (w * difference)).max() < 1e-12
    assert np.abs(difference).max() > 1e-3


def test_resample_keeps_what_it_can():
    field = field_of((5, 6), kernel="cubic")
    assert torch.equal(field.resample((5, 6)).coefficients, field.coefficients)  # no drift at unchanged resolution
    for boundary in EXACT:
        field = field_of((5, 6), boundary=boundary)
        finer = field.resample(field.refine(2).grid)
        assert_allclose(finer.coefficients.detach(), field.refine(2).coefficients.detach(), atol=1e-12)
        assert_allclose(finer.resample(field.grid).coefficients.detach(), field.coefficients.detach(), atol=1e-11)
    constant = field_of((5, 1))
    assert_allclose(
        constant.resample((5, 4))(points(constant)).detach(), constant(points(constant)).detach(), atol=1e-9
    )
    line = field_of(5, 1)
    assert_allclose(line.resample(1).coefficients.detach().ravel(), line.integral().detach(), atol=1e-12)  # its mean
    with pytest.raises(ValueError, match=r"\.resample: shape has 1 axes \(3,\) but the field has 2"):
        field.resample(gf.Grid(3))


# ---- integrals -------------------------------------------------------------------------------------------------------
def integral(f, field):
    """By adaptive quadrature on every piece, one axis after the other."""

    def over(fixed, axes):
        if not axes:
            return f(np.array(fixed))
        breaks = basis.pieces(axes[0])
        return sum(
            quad(lambda t: over([*fixed, t], axes[1:]), a, b, epsabs=1e-11)[0] for a, b in itertools.pairwise(breaks)
        )

    return over([], field.spline.axes)


@pytest.mark.parametrize("boundary", ("natural", "mirror", "wrap", "reflect", "nearest"))
@pytest.mark.parametrize("kernel", ("quadratic", "cubic", "quartic", "quintic", "catmull_rom"))
def test_roughness_and_integral_on_a_line(kernel, boundary):
    field = field_of(5, 1, kernel=kernel, boundary=boundary, bounds=(0, 1.5))

    def derivative(x, order):
        how = {"grid": field.grid, "kernel": field.kernel, "boundary": field.boundary, "prefilter": False}
        return gf.sample(field.coefficients.detach().numpy()[0], x, derivative=(order,), **how)

    assert_allclose(field.integral().item(), integral(lambda x: derivative(x, 0), field), atol=1e-10)
    for order in (1, 2, 3):
        expected = integral(lambda x, order=order: derivative(x, order) ** 2, field)
        assert_allclose(field.roughness(order).item(), expected, rtol=1e-9)
        assert expected > 1e-3 or order > field.kernel[0].degree


@pytest.mark.parametrize("order", (1, 2, 3))
def test_roughness_in_the_plane(order):
    """Mixed derivatives count as often as they occur."""
    field = field_of((4, 4), 2, bounds=[(0, 2), (0, 3)], boundary=("natural", "mirror"))
    nodes = [basis.quadrature(basis.pieces(a), 8) for a in field.spline.axes]
    x = np.stack(np.meshgrid(*(n for n, _ in nodes), indexing="ij"), -1)
    w = np.multiply.outer(*(w for _, w in nodes))
    expected = 0.0
    for alpha in itertools.product(range(2), repeat=order):  # every sequence of derivatives, one axis at a time
        d = (order - sum(alpha), sum(alpha))
        values = gf.sample(
            field.coefficients.detach().numpy(),
            x,
            grid=field.grid,
            boundary=field.boundary,
            prefilter=False,
            derivative=d,
        )
        expected += (w[..., None] * values**2).sum()
    assert_allclose(field.roughness(order).item(), expected, rtol=1e-10)
    if order == 2:
        assert field.bending_energy().item() == field.roughness(2).item()


def test_roughness_of_what_is_constant_or_straight():
    field = field_of((4, 1), 1)
    assert_allclose(field.roughness(2).item(), field_of(4, 1).roughness(2).item(), rtol=1e-12)
    straight = SplineField((4, 5), bounds=[(0, 3), (0, 4)], dtype=torch.float64)
    with torch.no_grad():
        straight.coefficients[0] = torch.arange(4.0)[:, None] - 2 * torch.arange(5.0)
    assert straight.roughness(2).item() == pytest.approx(0, abs=1e-12)
    assert straight.roughness(1).item() == pytest.approx((1 + 4) * 12)
    for wrong in (0, 4, True, "2"):
        with pytest.raises(ValueError, match=r"\.roughness: order must be 1, 2 or 3"):
            straight.roughness(wrong)


def test_integrals_are_differentiable():
    field = field_of((4, 5), 2)
    c = field.coefficients

    def of(c):
        return torch.func.functional_call(field, {"coefficients": c}, (torch.zeros(1, 2, dtype=torch.float64),)).sum()

    assert of(c).shape == ()
    (g,) = torch.autograd.grad(field.roughness(2), c)
    assert_allclose((g * c).sum().item(), 2 * field.roughness(2).item(), rtol=1e-12)  # of a quadratic form
    (g,) = torch.autograd.grad(field.integral().sum(), c)
    assert_allclose((g * c).sum().item(), field.integral().sum().item(), rtol=1e-12)
    compiled = torch.compile(lambda: field.roughness(2) + field.integral().sum(), fullgraph=True, backend="aot_eager")
    assert_allclose(compiled().item(), (field.roughness(2) + field.integral().sum()).item(), rtol=1e-12)


# ---- vector calculus -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("ndim", (1, 2, 3, 4))
def test_divergence_and_determinant(ndim):
    field = field_of((4,) * ndim, ndim, bounds=(0, 2))
    x = points(field, 50, beyond=0)
    d = field.jacobian(x)
    assert_allclose(field.divergence(x).detach(), d.diagonal(dim1=-2, dim2=-1).sum(-1).detach(), atol=1e-12)
    assert_allclose(field.jacobian_determinant(x).detach(), torch.linalg.det(d).detach(), rtol=1e-9, atol=1e-9)
    moved = torch.linalg.det(d + torch.eye(ndim, dtype=torch.float64))
    assert_allclose(field.jacobian_determinant(x, displacement=True).detach(), moved.detach(), rtol=1e-9, atol=1e-9)
    grid = field.grid_of(5)
    dense = field.jacobian_determinant(on_grid=5)
    assert dense.shape == grid.shape
    assert_allclose(
        dense.detach(), field.jacobian_determinant(torch.from_numpy(grid.coords())).detach(), rtol=1e-9, atol=1e-9
    )


def test_curl():
    plane, space = field_of((4, 5), 2), field_of((4, 5, 4), 3)
    x = points(plane, 20, beyond=0)
    d = plane.jacobian(x)
    assert_allclose(plane.curl(x).detach(), (d[:, 1, 0] - d[:, 0, 1]).detach(), atol=1e-12)
    x = points(space, 20, beyond=0)
    d = space.jacobian(x)
    levi = torch.zeros(3, 3, 3, dtype=torch.float64)
    for i, j, k in ((0, 1, 2), (1, 2, 0), (2, 0, 1)):
        levi[i, j, k], levi[i, k, j] = 1, -1
    assert_allclose(space.curl(x).detach(), torch.einsum("ijk,nkj->ni", levi, d).detach(), atol=1e-12)
    (g,) = torch.autograd.grad(space.curl(x).square().sum(), space.coefficients)
    assert float(g.abs().max()) > 1e-3


def test_what_is_no_vector_field():
    field = field_of((4, 5), 3)
    for call in (field.divergence, field.curl, field.jacobian_determinant):
        with pytest.raises(ValueError, match=r"channels must be one per axis \(2\), but the field has 3"):
            call(points(field))
    with pytest.raises(ValueError, match="a curl needs 2 or 3"):
        field_of(5, 1).curl(points(field_of(5)))
    with pytest.raises(ValueError, match="points or on_grid must be given, not both"):
        field_of((4, 5), 2).jacobian_determinant()


# ---- in all frameworks -----------------------------------------------------------------------------------------------
def test_the_same_in_all_frameworks():
    c = np.random.default_rng(0).normal(size=(2, 5, 6)).astype(np.float32)
    fields = {}
    for module in (gf.torch, gf.jax, gf.tensorflow):
        field = module.SplineField((5, 6), 2, bounds=[(0, 2), (0, 1)])
        if module is gf.jax:
            field = field.replace(jnp.asarray(c))
        elif module is gf.torch:
            field.load_state_dict({"coefficients": torch.from_numpy(c)})
        else:
            field.coefficients.assign(c)
        fields[module.__name__] = field
    theirs = fields.pop("gridfield.torch")
    for ours in fields.values():
        for what in ("bending_energy", "integral"):
            assert_allclose(np.asarray(getattr(ours, what)()), getattr(theirs, what)().detach(), rtol=1e-4)
        for a, b in ((ours.refine(2), theirs.refine(2)), (ours.resample(4), theirs.resample(4))):
            assert type(a) is type(ours) and a.grid == b.grid
            assert_allclose(np.asarray(a.coefficients), b.coefficients.detach(), atol=1e-5)
        determinant = ours.jacobian_determinant(on_grid=7, displacement=True)
        assert_allclose(
            np.asarray(determinant), theirs.jacobian_determinant(on_grid=7, displacement=True).detach(), atol=2e-3
        )


# ---- parts and margins -----------------------------------------------------------------------------------------------
def between(lo, hi, n=500, seed=5):
    lo, hi = np.atleast_1d(lo), np.atleast_1d(hi)
    return torch.from_numpy(np.random.default_rng(seed).uniform(lo, hi, (n, len(lo))))


@pytest.mark.parametrize("boundary", ("natural", "nearest", "mirror", "reflect", "wrap", "grid-constant"))
@pytest.mark.parametrize("kernel", (*range(8), "catmull_rom"))
def test_crop_and_pad_do_not_change_the_field(kernel, boundary):
    """Within the bounds; at either end and in the middle; with margins of the kernel's reach."""
    field = field_of(10, kernel=kernel, boundary=boundary, bounds=(-2, 7))
    reach = field.kernel[0].left
    for lo, hi in ((-2, -1.5), (0.4, 0.6), (1, 5), (2.5, 7), (6.2, 7), (-2, 7)):
        part = field.crop((lo, hi))
        same(part, field, between(lo + 1e-7, hi - 1e-7))
        first, last = np.floor(lo) - reach, np.ceil(hi) + reach
        if boundary == "wrap":
            assert part.boundary == ("natural",)
        else:
            first, last = max(first, -2), min(last, 7)
            assert part.boundary == field.boundary
        assert_allclose(part.grid.bounds, [(first, last)], atol=1e-12)
    inside = between(-2 + 1e-7, 8 if boundary == "wrap" else 7 - 1e-7)
    for margins in (0, max(reach, 1), reach + 3, [(reach, reach + 20)]):
        larger = field.pad(margins)
        same(larger, field, between(-2 + 1e-7, 7 - 1e-7))
        if margins and boundary == "wrap":
            assert larger.boundary == ("natural",)
            n = larger.grid.shape[0] - 10
            assert n == 2 * margins if isinstance(margins, int) else n == 2 * reach + 20
            continue
        assert larger.boundary == field.boundary
        before = margins if isinstance(margins, int) else margins[0][0]
        back = larger.crop((-2, 7), margin=0)
        assert torch.equal(back.coefficients, field.coefficients) and back.grid == field.grid
        assert larger.grid.bounds[0][0] == -2 - before
    same(field.pad(9), field, inside) if boundary == "wrap" else None
    if boundary == "nearest":  # wherever, and with any margin
        same(field.pad(1), field, between(-20, 20))


def test_crop_with_other_margins():
    field = field_of((10, 8), bounds=[(0, 9), (0, 7)])
    assert field.crop((2.5, 4.5), margin=0).grid.bounds == ((2, 5), (2, 5))
    assert field.crop((2.5, 4.5), margin=(3, 1)).grid.bounds == ((0, 8), (1, 6))
    assert field.crop([(2, 4), None], margin=100).grid == field.grid
    assert field.crop([None, (2, 4)], margin=0).grid.bounds == ((0, 9), (2, 4))
    assert torch.equal(field.crop(np.array([[2, 4], [3, 5]]), margin=0).coefficients, field.coefficients[:, 2:5, 3:6])
    tight = field.crop((2, 4), margin=0)
    with pytest.raises(AssertionError):  # so the default margin is needed
        same(tight, field, between([2, 2], [4, 4]))
    assert field.crop((-100, 0), margin=0).grid.shape == (1, 1)
    # bounds that have been through a rounding are the control points that they were
    grid = field.crop((np.float32(2.0000001), 4 - 1e-9), margin=0).grid
    assert grid.bounds == ((2, 4), (2, 4))
    constant = field_of((6, 1), bounds=[(0, 5), (0, 1)])
    assert constant.crop((2, 30)).grid.shape == (5, 1)
    same(constant.pad(2), constant, between([0, -5], [5, 5]))
    assert constant.pad(2).grid.shape == (10, 5)


def test_parts_of_periodic_fields():
    """They have two ends; the seam is nothing special."""
    field = field_of((12, 5), bounds=[(0, 360), (0, 1)], periodic=(True, False))
    for lo, hi in ((-40, 50), (350, 380), (0, 360), (-360, 400), (3600, 3620), (-3620, -3600)):
        part = field.crop([(lo, hi), None])
        assert part.boundary == ("natural", "natural") and part.grid.periodic == (False, False)
        same(part, field, between([lo, -1], [hi, 2]), 1e-11)
        assert part.grid.bounds[0][0] <= lo < hi <= part.grid.bounds[0][1]
    assert field.crop(None).grid == field.grid and field.crop([None, (0.2, 0.7)]).boundary == ("wrap", "natural")
    longer = field.pad([(3, 30), 0])
    assert longer.grid.bounds == ((-90, 1230), (0, 1)) and longer.boundary == ("natural", "natural")
    same(longer, field, between([-60, 0], [1200, 1]), 1e-11)


def test_new_control_points_are_new():
    field = field_of((6, 6))
    for other in (field.crop((0, 0.5)), field.crop(None), field.pad(1), field.pad(0)):
        assert other.coefficients.is_leaf and other.coefficients.requires_grad and other.coefficients.is_contiguous()
        before = field.coefficients.detach().clone()
        with torch.no_grad():
            other.coefficients.fill_(7)
        assert torch.equal(field.coefficients, before)
    assert not field.requires_grad_(False).pad(1).coefficients.requires_grad
    nan = field_of(8)
    with torch.no_grad():
        nan.coefficients[:, 0] = torch.nan
    assert torch.isfinite(nan.crop((0.4, 1)).coefficients).all()  # what is cut off is gone
    half = SplineField((6, 6), dtype=torch.float16)
    assert half.pad(2).coefficients.dtype == half.crop((0, 0.5)).coefficients.dtype == torch.float16


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda f: f.crop((2, 3)), r"crop: bounds \(2.0, 3.0\) along axis 0 lie outside of the field"),
        (lambda f: f.crop((0.5, 0.2)), r"crop: bounds \(0.5, 0.2\) .* must be lo < hi"),
        (lambda f: f.crop((float("nan"), 1)), "crop: bounds"),
        (lambda f: f.crop([(0, 1)]), r"crop: bounds \[\(0, 1\)\] must be one pair .* each of the 2 axes"),
        (lambda f: f.crop(0.5), "crop: .*bounds 0.5 must be one pair"),
        (lambda f: f.crop((0, 1), margin=-1), "crop: margin -1 must hold an integer of 0 or more"),
        (lambda f: f.pad((1, 2, 3)), r"pad: margins \(1, 2, 3\) must be one int, or one int or pair"),
        (lambda f: f.pad([(1, 2, 3), 1]), "pad: margins .* must be one int, or one int or pair"),
        (lambda f: f.pad(-1), "pad: margins .* must hold an integer of 0 or more"),
    ],
    ids=range(9),
)
def test_parts_and_margins_that_are_none(call, message):
    with pytest.raises((ValueError, TypeError), match=r"gf\.torch\.SplineField\." + message):
        call(field_of((5, 6)))


# ---- periodic axes ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("kernel", (2, 3, 5, "catmull_rom"))
def test_periodic_fields_have_no_seam(kernel):
    """Rolled control points are the field, moved: in values, derivatives, integrals, on other lattices."""
    how = {"bounds": [(-3, 3), (0, 2)], "periodic": (True, False), "kernel": kernel}
    field, moved = field_of((8, 5), **how), field_of((8, 5), **how)
    assert field.grid.spacing == (0.75, 0.5) and field.boundary == ("wrap", "natural")
    with torch.no_grad():
        moved.coefficients.copy_(field.coefficients.roll(3, 1))
    by = torch.tensor([3 * 0.75, 0.0], dtype=torch.float64)
    x = between([-3, 0], [3, 2])
    x[:40, 0] = torch.tensor([3.0, -3.0, 3 - 1e-9, -3 + 1e-9]).repeat(10)  # at the seam
    for f in (SplineField.__call__, SplineField.jacobian, SplineField.hessian):
        if f is not SplineField.hessian or kernel in (3, 5):  # elsewhere it jumps at the knots, where rounding decides
            assert_allclose(f(moved, x + by).detach(), f(field, x).detach(), rtol=0, atol=1e-6)
    assert_allclose(moved.integral().detach(), field.integral().detach(), rtol=1e-12)
    for order in (1, 2, 3):
        assert_allclose(moved.roughness(order).item(), field.roughness(order).item(), rtol=1e-12)
    assert_allclose(moved.on_grid((16, 5)).detach(), field.on_grid((16, 5)).detach().roll(6, 1), rtol=0, atol=1e-12)
    assert_allclose(
        moved.resample((16, 5)).coefficients.detach(),
        field.resample((16, 5)).coefficients.detach().roll(6, 1),
        atol=1e-10,
    )
    if kernel != "catmull_rom":
        same(field.refine(3), field, x)
        assert_allclose(field.refine(3).roughness(2).item(), field.roughness(2).item(), rtol=1e-11)
    # the whole turn, whatever it begins with
    first, second = field.crop([(-3, 0), None], margin=6), field.crop([(0, 3), None], margin=6)
    halves = sum(
        f.on_grid(gf.Grid.cells((4000, 5), [b, (-0.25, 2.25)])).detach().mean(1) * 3
        for f, b in ((first, (-3, 0)), (second, (0, 3)))
    )
    across = field.on_grid(gf.Grid.cells((4000, 5), [(-1, 5), (-0.25, 2.25)])).detach().mean(1) * 6
    assert_allclose(halves, across, atol=1e-6)


def test_periodic_in_all_frameworks():
    for module in (gf.torch, gf.jax, gf.tensorflow):
        field = module.SplineField((6, 5), periodic=(True, False))
        assert field.grid == gf.Grid((6, 5), periodic=(True, False)) and field.boundary == ("wrap", "natural")
        assert module.SplineField(6, periodic=True, boundary="mirror").boundary == ("wrap",)
        with pytest.raises(ValueError, match="periodic must not be given with a Grid"):
            module.SplineField(gf.Grid(5), periodic=True)
        with pytest.raises(ValueError, match="periodic has 3 values"):
            module.SplineField((4, 5), periodic=(True, False, True))


# ---- sums ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("boundary", EXACT)
@pytest.mark.parametrize("kernel", (1, 2, 3, 5))
def test_sums_are_sums(kernel, boundary):
    factor = 3 if kernel == 2 else 2
    base = field_of((4, 5), kernel=kernel, boundary=boundary, bounds=[(0, 3), (1, 2)])
    fine, other = base.refine(factor), base.refine((factor, 1))
    delta = field_of(fine.grid, kernel=kernel, boundary=boundary, seed=3)
    x = points(base)
    for made, expected in (
        (base + delta, base(x) + delta(x)),
        (delta + base, base(x) + delta(x)),
        (base - delta, base(x) - delta(x)),
        (-base, -base(x)),
        (2 * base - delta * np.float32(0.5), 2 * base(x) - 0.5 * delta(x)),
        (np.float64(2) * base, 2 * base(x)),
        (sum([base, delta, base]), 2 * base(x) + delta(x)),
        (other + delta - (base + delta), other(x) - base(x)),
        (-(base - (delta - 3 * base)), delta(x) - 4 * base(x)),
    ):
        assert_allclose(made(x).detach(), expected.detach(), rtol=0, atol=1e-12)
        assert isinstance(made, gf.torch.SumField)
    assert (base + delta).grid == delta.grid and (base + base).grid == base.grid
    assert sum([base]) is base
    if kernel == 3:  # each is finer along one axis: the sum along both
        mixed = base.refine((2, 1)) + base.refine((1, 2))
        assert mixed.grid.shape == fine.grid.shape
        same(mixed, 2 * base, x)


def test_a_sum_has_all_that_a_field_has():
    base, delta = field_of((4, 5)), field_of((7, 9), seed=3)
    field, x = base + delta, points(base)
    plain = SplineField((7, 9), 2, dtype=torch.float64)
    with torch.no_grad():
        plain.coefficients.copy_(base.refine(2).coefficients + delta.coefficients)
    for what in (
        lambda f: f.jacobian(x),
        lambda f: f.hessian(x),
        lambda f: f.on_grid((8, 9)),
        lambda f: f.divergence(x),
        lambda f: f.curl(x),
        lambda f: f.jacobian_determinant(on_grid=6, displacement=True),
        lambda f: f.roughness(2),
        lambda f: f.integral(),
        lambda f: f.coefficients,
    ):
        assert_allclose(what(field).detach(), what(plain).detach(), rtol=1e-10, atol=1e-10)
    for what in (lambda f: f.refine(2), lambda f: f.resample(5), lambda f: f.crop((0, 0.5)), lambda f: f.pad(2)):
        made = what(field)
        assert type(made) is SplineField and made.coefficients.is_leaf and made.coefficients.requires_grad
        assert_allclose(made.coefficients.detach(), what(plain).coefficients.detach(), atol=1e-10)
    assert (field.channels, field.ndim, field.grid_of(3)) == (2, 2, base.grid_of(3))
    assert "scales=(1.0, 1.0)" in repr(field)


def test_a_frozen_base_and_a_learnable_increment():
    base, delta = field_of((4, 5), 1).requires_grad_(False), SplineField((7, 9), dtype=torch.float64)
    field, before = base + delta, base.coefficients.clone()
    assert [p is delta.coefficients for p in field.parameters() if p.requires_grad] == [True]
    x = between([0, 0], [1, 1])
    y = torch.sin(5 * x[:, :1]) + x[:, 1:]
    optimiser = torch.optim.Adam([p for p in field.parameters() if p.requires_grad], lr=0.05)
    losses = []
    for _ in range(100):
        optimiser.zero_grad()
        losses.append((field(x) - y).square().mean() + 1e-6 * field.roughness(2))
        losses[-1].backward()
        optimiser.step()
    assert losses[-1] < 0.05 * losses[0]
    assert torch.equal(base.coefficients, before) and base.coefficients.grad is None
    with torch.no_grad():  # it follows its terms
        expected = field(x) + 1
        base.coefficients.add_(1)
        assert_allclose(field(x), expected, atol=1e-12)
    # as any module
    other = copy.deepcopy(field)
    fresh = field_of((4, 5), 1, seed=9) + field_of((7, 9), 1, seed=9)
    fresh.load_state_dict(field.state_dict())
    for again in (other, fresh, pickle.loads(pickle.dumps(field))):
        assert torch.equal(again(x), field(x))
    assert sorted(field.state_dict()) == ["terms.0.coefficients", "terms.1.coefficients"]
    assert copy.deepcopy(field).float()(x.float()).dtype == torch.float32
    compiled = torch.compile(lambda x: field(x) + field.roughness(2), fullgraph=True, backend="eager")
    assert_allclose(compiled(x).detach(), (field(x) + field.roughness(2)).detach(), rtol=1e-12)
    rising = SplineField((4, 5), monotonic=("increasing", 0), dtype=torch.float64)
    assert_allclose((rising + delta)(x).detach(), (rising(x) + delta(x)).detach(), atol=1e-12)


@pytest.mark.parametrize(
    ("other", "error", "message"),
    [
        (lambda: SplineField(4, kernel=2), ValueError, r"\+ needs fields with the same kernel, got cubic and quad"),
        (lambda: SplineField(4, boundary="mirror"), ValueError, r"\+ needs fields with the same boundary"),
        (lambda: SplineField(4, 2), ValueError, r"\+ needs fields with the same channels, got 1 and 2"),
        (lambda: SplineField(4, bounds=(0, 2)), ValueError, r"\+ needs fields on the same lattice"),
        (lambda: SplineField(4, bounds=(1, 2)), ValueError, r"\+ needs fields on the same lattice"),
        (lambda: SplineField(6), ValueError, r"\+ needs fields on the same lattice"),
        (lambda: SplineField((4, 4)), ValueError, r"\+ needs fields with as many axes"),
        (lambda: SplineField(4, dtype=torch.float64), TypeError, r"\+ needs fields of one dtype, got float32"),
        (lambda: gf.jax.SplineField(4), TypeError, r"\+ needs fields of one framework, got torch and jax"),
    ],
    ids=range(9),
)  # fmt: skip
def test_what_cannot_be_added(other, error, message):
    with pytest.raises(error, match=r"gf\.torch\.SplineField: " + message):
        SplineField(4) + other()


def test_what_is_no_arithmetic_of_fields():
    field = SplineField(4)
    for call, sign in (
        (lambda: field + 1, r"\+"),
        (lambda: 1 + field, r"\+"),
        (lambda: field * field, r"\*"),
        (lambda: field * "2", r"\*|multiply"),
        (lambda: field - 0.5, "-"),
        (lambda: field * True, r"\*"),
    ):
        with pytest.raises(TypeError, match=rf"unsupported operand type\(s\) for ({sign})|can't {sign}"):
            call()
    catmull = SplineField(4, kernel="catmull_rom")
    assert (catmull + catmull).grid.shape == (4,)
    with pytest.raises(ValueError, match=r"\+ needs fields on lattices of which one refines the other: .*catmull_rom"):
        catmull + SplineField(7, kernel="catmull_rom")
    with pytest.raises(TypeError, match=r"gf\.torch\.SumField: terms must be one SplineField or more"):
        gf.torch.SumField([])
    with pytest.raises(ValueError, match=r"gf\.torch\.SumField: scales must be one number per term"):
        gf.torch.SumField([field], [1, 2])


def test_parts_and_sums_in_jax():
    rng = np.random.default_rng(0)
    a = gf.jax.SplineField((4, 5), 2).replace(jnp.asarray(rng.normal(size=(2, 4, 5)), "float32"))
    b = gf.jax.SplineField((7, 9), 2).replace(jnp.asarray(rng.normal(size=(2, 7, 9)), "float32"))
    x = jnp.asarray(rng.random((20, 2)), "float32")
    field = a + b
    assert type(field) is gf.jax.SplineField and field.grid == b.grid
    assert_allclose(field(x), a(x) + b(x), atol=1e-5)
    assert_allclose(sum([a, b, -a, 0.5 * b])(x), 1.5 * b(x), atol=1e-5)
    assert (2.0 * a).coefficients.dtype == (np.float64(2) * a).coefficients.dtype == jnp.float32

    def loss(base, delta, scale):
        return ((base + scale * delta)(x) ** 2).sum() + (base - delta).roughness(2) + a.pad(2).crop((0, 1))(x).sum()

    slopes = jax.jit(jax.grad(loss, argnums=(0, 1, 2)))(a, b, jnp.float32(0.5))
    assert slopes[0].grid == a.grid and slopes[1].grid == b.grid and slopes[2].shape == ()
    eps = 1e-2
    up, down = loss(a, b, 0.5 + eps), loss(a, b, 0.5 - eps)
    assert_allclose((up - down) / (2 * eps), slopes[2], rtol=1e-2)
    g = jax.grad(lambda f: f.pad(2).coefficients.sum() + f.crop((0, 0.4), margin=0).coefficients.sum())(a).coefficients
    c = np.zeros((2, 4, 5))
    c[:, :3, :3] = 1
    assert_allclose(g, c + gf.fold(np.ones((2, 8, 9)), [(2, 2), (2, 2)], boundary="natural"), atol=1e-5)


@pytest.mark.filterwarnings("ignore:.*copy keyword.*:DeprecationWarning")  # Keras and NumPy 2
def test_parts_and_sums_in_keras(tmp_path):
    rng = np.random.default_rng(0)
    base, delta = gf.tensorflow.SplineField((4, 5), 2), gf.tensorflow.SplineField((7, 9), 2)
    base.coefficients.assign(rng.normal(size=(2, 4, 5)))
    delta.coefficients.assign(rng.normal(size=(2, 7, 9)))
    x = rng.random((20, 2)).astype("float32")
    field = base + delta
    assert_allclose(field(x), base(x) + delta(x), atol=1e-5)
    assert_allclose((2 * base - delta)(x), 2 * base(x) - delta(x), atol=1e-5)
    assert_allclose(field.pad(2).crop((0, 1))(x), field(x), atol=1e-5)
    assert type(field.refine(2)) is gf.tensorflow.SplineField
    base.trainable = False
    assert len(field.trainable_variables) == 1 and len(field.non_trainable_variables) == 1
    model = keras.Sequential([field])
    model.compile(keras.optimizers.Adam(0.1), "mse")
    before = base.coefficients.numpy()
    losses = model.fit(x, np.ones((20, 2)), epochs=30, verbose=0).history["loss"]
    assert losses[-1] < 0.3 * losses[0] and (base.coefficients.numpy() == before).all()
    model.save(tmp_path / "m.keras")
    other = keras.models.load_model(tmp_path / "m.keras")
    assert_allclose(other.predict(x, verbose=0), model.predict(x, verbose=0))
    assert other.layers[0].scales == (1.0, 1.0) and field.compute_output_shape((None, 2)) == (None, 2)
