"""Other lattices, integrals and vector calculus of fields: against quadrature, autograd, and the field itself."""

import itertools

import jax.numpy as jnp
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
