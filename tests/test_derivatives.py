"""Derivatives: against differences, per physical unit; gradcheck and gradgradcheck of everything differentiable."""

import numpy as np
import pytest
import torch
from cases import CASES, Case, as_kernel, gradient, marked, second
from numpy.testing import assert_allclose
from torch.autograd import gradcheck, gradgradcheck

import gridfield as gf
from gridfield.torch import SplineField

pytestmark = pytest.mark.filterwarnings(r"ignore:`torch.jit.script\w*` is deprecated:DeprecationWarning")  # torch's own


def steps(case):
    """(k, axis, l) where derivative l of the case is derivative k differentiated once more along an axis."""
    for k, lower in enumerate(case.orders):
        for axis in range(case.ndim):
            upper = tuple(o + (a == axis) for a, o in enumerate(lower))
            if upper in case.orders:
                yield k, axis, case.orders.index(upper)


@pytest.mark.parametrize("case", [marked(case) for case in CASES if list(steps(case))], ids=str)
def test_derivatives_by_differences(case, rng):
    values, points = case.values(rng), case.points(rng, ties=False)
    exact = case.sample(values, points)
    for lower, axis, upper in steps(case):
        h = np.zeros(case.ndim)
        h[axis] = 1e-5 * case.grid.spacing[axis]
        differences = (case.sample(values, points + h) - case.sample(values, points - h))[lower] / (2 * h[axis])
        scale = max(1.0, np.abs(exact[upper]).max())
        assert_allclose(exact[upper], differences, rtol=0, atol=1e-6 * scale)


def test_derivatives_are_per_physical_unit(rng):
    """The slope of a plane is its slope, whatever the spacing; and halving the spacing doubles a derivative."""
    grid = gf.Grid((5, 6, 7), [(0, 100), (-1, 1), (3, 3.6)])
    slope = np.array([0.03, -2.0, 11.0])
    plane = grid.coords() @ slope
    x = rng.uniform([5, -0.9, 3.05], [95, 0.9, 3.55], (20, 3))
    for kernel in ("linear", "cubic", "catmull_rom"):
        got = gf.sample(plane, x, grid=grid, kernel=kernel, boundary="natural", derivative=list(gradient(3))[1:])
        assert_allclose(got, np.broadcast_to(slope[:, None], got.shape), rtol=1e-10)
    values = rng.normal(size=grid.shape)
    half = gf.Grid.from_spacing(grid.shape, np.array(grid.origin) / 2, np.array(grid.spacing) / 2)
    for order in ((1, 0, 0), (0, 2, 1)):
        y = gf.sample(values, x, grid=grid, derivative=order)
        assert_allclose(gf.sample(values, x / 2, grid=half, derivative=order), y * 2 ** sum(order), rtol=1e-9)


def test_derivatives_of_a_polynomial_are_exact():
    """A spline of degree n holds every polynomial of degree n, and so all its derivatives."""
    n, grid = 5, gf.Grid((101, 102), [(-2, 2), (-1, 3)])
    x, y = np.moveaxis(grid.coords(), -1, 0)
    p = np.random.default_rng(1).normal(size=(n + 1, n + 1))
    inner = np.random.default_rng(2).uniform([-0.4, 0.6], [0.4, 1.4], (20, 2))  # far from the ends
    data = np.polynomial.polynomial.polyval2d(x, y, p)
    for order in ((0, 0), (1, 0), (0, 2), (2, 1)):
        q = np.polynomial.polynomial.polyder(np.polynomial.polynomial.polyder(p, order[0], axis=0), order[1], axis=1)
        expected = np.polynomial.polynomial.polyval2d(*inner.T, q)
        got = gf.sample(data, inner, grid=grid, kernel="quintic", derivative=order)
        assert_allclose(got, expected, rtol=0, atol=1e-7 * np.abs(expected).max())


def test_third_derivatives_by_differences(rng):
    values, x = rng.normal(size=(7, 8)), np.floor(rng.uniform(1, 5, (20, 2))) + rng.uniform(0.1, 0.9, (20, 2))
    how = {"kernel": "quintic"}
    for order, axis in (((2, 0), 0), ((1, 1), 1), ((0, 2), 0)):
        third = tuple(o + (a == axis) for a, o in enumerate(order))
        h = 1e-4 * np.eye(2)[axis]
        differences = gf.sample(values, x + h, derivative=order, **how) - gf.sample(
            values, x - h, derivative=order, **how
        )
        assert_allclose(gf.sample(values, x, derivative=third, **how), differences / 2e-4, rtol=0, atol=1e-5)


def test_third_derivative_by_autograd(rng):
    """Reverse over reverse over reverse."""
    values = torch.from_numpy(rng.normal(size=9))
    x = torch.from_numpy(rng.uniform(1, 7, (10, 1))).requires_grad_()
    y = gf.sample(values, x, kernel="quintic")
    for _ in range(3):
        (y,) = torch.autograd.grad(y.sum(), x, create_graph=True)
    expected = gf.sample(values, x.detach(), kernel="quintic", derivative=(3,))
    assert_allclose(y.detach()[:, 0], expected, rtol=0, atol=1e-10)


# ---- autograd --------------------------------------------------------------------------------------------------------
def differentiable(x):
    return torch.from_numpy(np.ascontiguousarray(x)).requires_grad_()


def check(f, *arrays):
    inputs = tuple(map(differentiable, arrays))
    assert gradcheck(f, inputs, check_forward_ad=True)
    assert gradgradcheck(f, inputs)


# Kernels that are C2 at least: a second derivative must not jump within the step of a difference.
CHECKED = [
    Case((6,), ("cubic",), ("mirror",), ((0,),)),
    Case((7,), ("quintic",), ("wrap",), ((0,), (1,))),
    Case((5, 6), ("cubic", "cubic"), ("natural", "natural"), ((0, 0),)),
    Case((5, 6), ("cubic", "quartic"), ("reflect", "constant"), ((0, 0), (1, 0))),
]
LONG = Case((3, 4, 4), ("linear", "cubic", "catmull_rom"), ("mirror", "grid-constant", "nearest"), ((0, 0, 0),))
each_checked = pytest.mark.parametrize("case", [*CHECKED, pytest.param(LONG, marks=pytest.mark.slow)], ids=str)


@each_checked
def test_gradcheck_sample(case, rng):
    points = case.points(rng, 4, ties=False)
    check(lambda v, x: case.sample(v, x), case.values(rng), points)
    outside = abs(case.sample(case.values(rng), points + 1e-3) - case.sample(case.values(rng), points)).max()
    assert outside > 0


@each_checked
def test_gradcheck_splat(case, rng):
    points = case.points(rng, 4, ties=False)
    check(lambda y, x: case.splat(y, x), rng.normal(size=(len(case.orders), 4)), points)


@pytest.mark.parametrize(
    "boundary",
    [pytest.param(b, marks=() if b in ("mirror", "natural", "grid-constant") else pytest.mark.slow)
     for b in gf.BOUNDARIES],
)  # fmt: skip
def test_gradcheck_sample_with_its_prefilter(boundary, rng):
    case = Case((6,), ("cubic",), (boundary,), ((0,),))
    points = case.points(rng, 3, ties=False)
    check(lambda v, x: gf.sample(v, x, grid=case.grid, boundary=boundary, cval=0.7), case.values(rng), points)


def test_gradcheck_of_channels_and_complex_values(rng):
    points = rng.uniform(0.1, 2.9, (2, 2))
    check(lambda v, x: gf.sample(v, x), rng.normal(size=(2, 2, 4, 4)), points)
    values = rng.normal(size=(2, 4, 4)) + 1j * rng.normal(size=(2, 4, 4))
    check(lambda v, x: gf.sample(v, x), values, points)
    check(lambda v, x: gf.sample(v, x, boundary="constant", cval=0.5), values, points)
    y = rng.normal(size=(2, 2)) + 1j * rng.normal(size=(2, 2))
    check(lambda y, x: gf.splat(y, x, gf.Grid.pixels((4, 4)), kernel="cubic"), y, points)


@pytest.mark.parametrize("boundary", gf.BOUNDARIES)
def test_gradcheck_pad_fold_and_prefilter(boundary, rng):
    check(lambda v: gf.pad(v, [(2, 0), (1, 5)], boundary=boundary, cval=0.7), rng.normal(size=(2, 3, 2)))
    check(lambda v: gf.fold(v, [(2, 0), (1, 5)], boundary=boundary), rng.normal(size=(2, 5, 8)))
    static = {"kernel": ("cubic", "quintic"), "boundary": boundary, "grid": gf.Grid.pixels((4, 3))}

    def prefiltered(v):
        out = gf.prefilter(v, **static)
        return out[0] if isinstance(out, tuple) else out

    check(prefiltered, rng.normal(size=(2, 4, 3)))


@pytest.mark.parametrize(
    ("shape", "kernel", "boundary"), [((5,), "quintic", "natural"), ((4, 5), "cubic", "mirror")], ids=str
)
@pytest.mark.parametrize("method", ("forward", "jacobian", "hessian"))
def test_gradcheck_spline_field(method, shape, kernel, boundary, rng):
    bounds = [(0, 2), (-1, 4)][: len(shape)]
    field = SplineField(shape, 2, kernel=kernel, boundary=boundary, bounds=bounds, dtype=torch.float64)
    lo, hi = np.array(bounds).T
    u = np.floor(rng.uniform(0, np.array(shape) - 1, (3, len(shape)))) + rng.uniform(0.1, 0.9, (3, len(shape)))
    points = lo + u * (hi - lo) / (np.array(shape) - 1)

    def f(coefficients, x):
        return torch.func.functional_call(field, {"coefficients": coefficients}, (x,))

    if method != "forward":  # functional_call calls forward: let that be the method

        class Method(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.field = field

            def forward(self, x):
                return getattr(self.field, method)(x)

        module = Method()

        def f(coefficients, x):
            return torch.func.functional_call(module, {"field.coefficients": coefficients}, (x,))

    inputs = differentiable(rng.normal(size=(2, *shape))), differentiable(points)
    assert gradcheck(f, inputs)
    if method != "hessian" or kernel == "quintic":  # the fourth derivative of a cubic spline is a jump
        assert gradgradcheck(f, inputs)


def test_on_grid_has_the_gradient_of_the_same_points(rng):
    field = SplineField((4, 5), 2, dtype=torch.float64)
    weight = torch.from_numpy(rng.normal(size=(2, 7, 6)))
    assert gradcheck(lambda c: torch.func.functional_call(OnGrid(field), {"field.coefficients": c}, ((7, 6),)),
                     (differentiable(rng.normal(size=(2, 4, 5))),))  # fmt: skip
    (field.on_grid((7, 6)) * weight).sum().backward()
    got, field.coefficients.grad = field.coefficients.grad, None
    points = torch.from_numpy(field.grid_of((7, 6)).coords())
    (field(points).movedim(-1, 0) * weight).sum().backward()
    assert_allclose(got, field.coefficients.grad, rtol=0, atol=1e-12)


class OnGrid(torch.nn.Module):
    def __init__(self, field):
        super().__init__()
        self.field = field

    def forward(self, shape):
        return self.field.on_grid(shape)


@pytest.mark.parametrize("kernel", ("nearest", "linear", "quadratic"))
def test_gradients_of_rough_kernels_are_their_one_sided_slopes(kernel, rng):
    """No second derivative to check, but first ones: off the breaks they are those of the definition."""
    case = Case((7, 8), (kernel,) * 2, ("wrap", "natural"), gradient(2))
    values, points = case.values(rng), case.points(rng, 30, ties=False)
    x = torch.from_numpy(points).requires_grad_()
    v = torch.from_numpy(values).requires_grad_()
    y = gf.sample(v, x, grid=case.grid, kernel=case.kernels, boundary=case.boundaries, prefilter=False)
    y.sum().backward()
    assert_allclose(x.grad.T, case.sample(values, points)[1:], rtol=0, atol=1e-12)
    how = {"kernel": case.kernels, "boundary": case.boundaries}
    assert_allclose(v.grad, gf.splat(np.ones(30), points, case.grid, **how), rtol=0, atol=1e-12)


def test_only_what_is_wanted_is_differentiated(rng):
    values, points = torch.from_numpy(rng.normal(size=(5, 6))), torch.from_numpy(rng.uniform(0, 4, (7, 2)))
    for moving in ("values", "points"):
        v, x = values.clone().requires_grad_(moving == "values"), points.clone().requires_grad_(moving == "points")
        gf.sample(v, x).square().sum().backward()
        assert (v.grad is None) == (moving == "points") and (x.grad is None) == (moving == "values")
        assert float((v.grad if moving == "values" else x.grad).abs().max()) > 0
    assert not gf.sample(values, points).requires_grad
    with torch.no_grad():
        assert not gf.sample(values.requires_grad_(), points).requires_grad


def test_gradients_at_special_points(rng):
    """NaN where the point is NaN, and only there; 0 where the field is held or has ended; nothing of it in the grid."""
    values = torch.from_numpy(rng.normal(size=(5, 6)))
    points = torch.tensor([[1.5, 2.5], [np.nan, 1.0], [np.inf, 2.3], [-7.0, 2.3], [2.2, 1e300]], dtype=torch.float64)
    for boundary in ("natural", "nearest", "constant", "grid-constant"):
        v, x = values.clone().requires_grad_(), points.clone().requires_grad_()
        gf.sample(v, x, boundary=boundary, prefilter=False, cval=2.0)[[0, 2, 3, 4]].sum().backward()
        assert torch.isfinite(v.grad).all()
        assert torch.isnan(x.grad[1]).all() or (x.grad[1] == 0).all()
        others = x.grad[[0, 2, 3, 4]]
        assert torch.isfinite(others).all() and (others[0] != 0).all()
        assert (others[1:3, 0] == 0).all() and others[3, 1] == 0
        if boundary == "constant":
            assert (others[1:] == 0).all()
        expected = gf.splat(torch.ones(4, dtype=torch.float64), points[[0, 2, 3, 4]], gf.Grid.pixels((5, 6)),
                            kernel="cubic", boundary=boundary)  # fmt: skip
        assert_allclose(v.grad, expected, rtol=0, atol=1e-14)


def test_no_points_have_no_gradient():
    v, x = torch.ones(2, 5, 6, requires_grad=True), torch.ones(0, 2, requires_grad=True)
    y = gf.sample(v, x, derivative=[(0, 0), (1, 0)])
    assert y.shape == (2, 0, 2)
    y.sum().backward()
    assert (v.grad == 0).all() and x.grad.shape == (0, 2)
    none = torch.ones(0, 5, 6, requires_grad=True)  # no channels
    x = torch.ones(3, 2, requires_grad=True)
    gf.sample(none, x).sum().backward()
    assert none.grad.shape == (0, 5, 6) and (x.grad == 0).all()


def test_cross_derivatives_commute(rng):
    """All second derivatives of a random field, by the derivative argument and by autograd."""
    values, x = torch.from_numpy(rng.normal(size=(5, 6))), torch.from_numpy(rng.uniform(0, 4, (9, 2)))
    hessians = torch.func.vmap(torch.func.hessian(lambda p: gf.sample(values, p)))(x)
    by_order = gf.sample(values, x, derivative=list(second(2)))
    assert_allclose(hessians[:, 0, 0], by_order[0], rtol=0, atol=1e-11)
    assert_allclose(hessians[:, 0, 1], by_order[1], rtol=0, atol=1e-11)
    assert_allclose(hessians[:, 1, 0], by_order[1], rtol=0, atol=1e-11)
    assert_allclose(hessians[:, 1, 1], by_order[2], rtol=0, atol=1e-11)
    assert as_kernel("cubic").continuity == 2  # or there would be nothing to commute


def test_derivatives_in_points_where_cval_continues_the_samples():
    """What lies beyond the ends moves with the kernel too: its slope is not that of zeros."""
    values = torch.tensor(np.random.default_rng(1).normal(size=(5, 6)), requires_grad=True)
    points = torch.tensor(np.random.default_rng(2).uniform(-1.4, 5.4, (8, 2)), requires_grad=True)
    for prefilter in (False, True):

        def f(v, x, prefilter=prefilter):
            return gf.sample(v, x, boundary="grid-constant", cval=3.0, prefilter=prefilter)

        assert torch.autograd.gradcheck(f, (values, points))
        assert torch.autograd.gradgradcheck(f, (values, points))


def test_vectorized_forward_mode_of_torch():
    """torch.autograd maps tangents by a vmap of its own, older than that of torch.func."""
    x = torch.rand(5, 2, dtype=torch.float64) * 3
    values, modes = torch.rand(5, 5, dtype=torch.float64), torch.rand(4, 4, dtype=torch.complex128)
    forward = {"vectorize": True, "strategy": "forward-mode"}
    for f in (lambda x: gf.sample(values, x), lambda x: torch.view_as_real(gf.nufft2(x, modes, eps=1e-10))):
        rows = torch.autograd.functional.jacobian(f, x)
        assert torch.allclose(torch.autograd.functional.jacobian(f, x, **forward), rows, atol=1e-7)

    def squares(x):
        return (gf.sample(values, x) ** 2).sum()

    forward = {"vectorize": True, "outer_jacobian_strategy": "forward-mode"}
    hessian = torch.autograd.functional.hessian(squares, x)
    assert torch.allclose(torch.autograd.functional.hessian(squares, x, **forward), hessian)
