"""SplineField: a module like any other. Values, derivatives, dense evaluation; copies, types, optimisers, workers."""

import copy
import gc
import io
import itertools
import pickle
import sys
import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from cases import HIGH, KERNELS, SKEW, as_kernel, force
from numpy.testing import assert_allclose, assert_array_equal

import gridfield as gf
from gridfield.torch import SplineField, carry_state

ALL = list(itertools.product(KERNELS.values(), gf.BOUNDARIES)) + [(k, b) for k, bs in HIGH.items() for b in bs]


def field_of(shape=(5, 6), channels=2, seed=0, **how):
    field = SplineField(shape, channels, **how)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        field.coefficients.copy_(torch.randn(field.coefficients.shape, generator=generator, dtype=torch.float64))
    return field


def points_of(field, n=20, seed=1, beyond=0.2):
    """Random points in the field's units, some outside."""
    lo, hi = np.array(field.grid.bounds).T
    x = np.random.default_rng(seed).uniform(lo - beyond * (hi - lo), hi + beyond * (hi - lo), (n, field.ndim))
    return torch.from_numpy(x).to(field.coefficients.dtype)


# ---- values ----------------------------------------------------------------------------------------------------------
def test_a_field_is_sample_of_its_coefficients():
    for kernel, boundary in (("cubic", "natural"), (("linear", SKEW), ("mirror", "wrap"))):
        field = field_of(bounds=[(0, 4), (-1, 1)], kernel=kernel, boundary=boundary, dtype=torch.float64)
        x = points_of(field).reshape(4, 5, 2)
        c = field.coefficients.detach().numpy()
        how = {"grid": field.grid, "kernel": kernel, "boundary": boundary, "prefilter": False}
        assert_array_equal(field(x).detach(), gf.sample(c, x.numpy(), **how))
        first = gf.sample(c, x.numpy(), derivative=[(1, 0), (0, 1)], **how)
        jacobian = field.jacobian(x).detach()
        assert jacobian.shape == (4, 5, 2, 2)
        for i in range(2):
            assert_array_equal(jacobian[..., i], first[i])
        hessian = field.hessian(x).detach()
        assert hessian.shape == (4, 5, 2, 2, 2)
        second = gf.sample(c, x.numpy(), derivative=[(2, 0), (1, 1), (0, 2)], **how)
        for (i, j), k in {(0, 0): 0, (0, 1): 1, (1, 0): 1, (1, 1): 2}.items():
            assert_array_equal(hessian[..., i, j], second[k])


@pytest.mark.parametrize("ndim", (1, 3, 4))
def test_jacobian_and_hessian_by_autograd(ndim):
    """In bounds that are no unit cube: derivatives are per unit of the bounds."""
    bounds = [(0, 2), (-5, 5), (3, 3.5), (0, 1)][:ndim]
    field = field_of((5, 4, 6, 3)[:ndim], 2, bounds=bounds, kernel="cubic", dtype=torch.float64)
    x = points_of(field, 3, beyond=-0.05)
    jacobian, hessian = field.jacobian(x), field.hessian(x)
    assert jacobian.shape == (3, 2, ndim) and hessian.shape == (3, 2, ndim, ndim)
    for p in range(3):
        by_autograd = torch.autograd.functional.jacobian(field, x[p])
        assert_allclose(jacobian[p].detach(), by_autograd, rtol=1e-9, atol=1e-11)
        for c in range(2):
            by_autograd = torch.autograd.functional.hessian(lambda x, c=c: field(x)[c], x[p])
            assert_allclose(hessian[p, c].detach(), by_autograd, rtol=1e-9, atol=1e-9)
    assert_array_equal(hessian.detach(), hessian.detach().transpose(-1, -2))


@pytest.mark.parametrize(("kernel", "boundary"), ALL, ids=str)
def test_on_grid_is_the_field_at_those_points(kernel, boundary, monkeypatch):
    force(monkeypatch, "direct")  # channels one by one there: nothing more to compile for the matrices
    field = field_of(8, 2, kernel=kernel, boundary=boundary, bounds=(0, 5), dtype=torch.float64)
    beyond = gf.Grid(17, (-3.1, 9.3))  # samples off the breaks, many of them outside
    for target in (7, beyond):
        grid = target if isinstance(target, gf.Grid) else field.grid_of(target)
        got = field.on_grid(target)
        assert got.shape == (2, *grid.shape)
        assert_allclose(got.detach(), field(torch.from_numpy(grid.coords())).detach().T, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("shape", "fine", "how"),
    [
        ((4, 5), (9, 8), {}),
        ((4, 5), (9, 8), {"kernel": ("linear", "quintic"), "boundary": ("wrap", "natural")}),
        ((3, 4, 5), (6, 7, 4), {"kernel": "catmull_rom", "boundary": "mirror"}),
        ((2, 3, 1, 4), (3, 4, 2, 3), {"boundary": ("natural", "reflect", "mirror", "constant")}),
        ((1, 5), (3, 4), {}),
        ((2, 2, 2, 2, 2), (3, 2, 3, 2, 3), {"kernel": "linear"}),
    ],
    ids=str,
)
def test_on_grid_in_any_dimension(shape, fine, how):
    field = field_of(shape, 3, bounds=[(0, k + 1) for k in range(len(shape))], dtype=torch.float64, **how)
    grid = field.grid_of(fine)
    expected = field(torch.from_numpy(grid.coords())).movedim(-1, 0)
    assert_allclose(field.on_grid(fine).detach(), expected.detach(), rtol=0, atol=1e-12)
    assert torch.equal(field.on_grid(3), field.on_grid((3,) * len(shape)))
    assert grid.bounds == tuple((0, k + 1) if n > 1 else (0, 0) for k, n in enumerate(fine))


def test_on_grid_of_a_periodic_field():
    field = field_of(gf.Grid((6, 5), [(0, 12), (0, 1)], periodic=(True, False)), dtype=torch.float64)
    assert field.boundary == ("wrap", "natural")
    grid = field.grid_of((9, 4))
    assert grid.periodic == (True, False)
    assert_allclose(grid.axes()[0], np.arange(9) * 12 / 9)  # no sample twice
    x = torch.from_numpy(grid.coords())
    assert_allclose(field.on_grid((9, 4)).detach(), field(x).detach().movedim(-1, 0), rtol=0, atol=1e-12)
    assert_allclose(field(x + torch.tensor([24.0, 0.0])).detach(), field(x).detach(), rtol=0, atol=1e-11)


@pytest.mark.parametrize("dtype", (torch.float32, torch.float64, torch.float16, torch.bfloat16))
def test_types(dtype):
    exact = field_of((5, 6), 2, dtype=torch.float64)
    field = copy.deepcopy(exact).to(dtype)
    assert field.coefficients.dtype == dtype
    x = points_of(field)
    tolerance = {torch.float64: 1e-12, torch.float32: 1e-5, torch.float16: 3e-2, torch.bfloat16: 3e-1}[dtype]
    for f in (lambda f, x: f(x), SplineField.jacobian, lambda f, x: f.on_grid((7, 8))):
        got = f(field, x)
        assert got.dtype == dtype
        # against a field whose coefficients have been rounded alike
        rounded = copy.deepcopy(field).double()
        expected = f(rounded, x.double())
        atol = tolerance * float(expected.detach().abs().max())
        assert_allclose(got.detach().double(), expected.detach(), rtol=0, atol=atol)
    field(x).sum().backward()
    assert field.coefficients.grad.dtype == dtype


def test_half_modules():
    field = field_of().half()
    x = points_of(field).requires_grad_()
    assert x.dtype == torch.float16 and field(x).dtype == torch.float16
    assert field.hessian(x).dtype == torch.float16
    field(x).sum().backward()
    assert x.grad.dtype == torch.float16 and field.coefficients.grad.dtype == torch.float16
    assert field(x.float()).dtype == torch.float16  # as for sample: of the type of the values


def test_the_default_type_is_torchs():
    assert SplineField(4).coefficients.dtype == torch.float32
    torch.set_default_dtype(torch.float64)
    try:
        assert SplineField(4).coefficients.dtype == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)
    assert (SplineField(4).coefficients == 0).all()


# ---- a module --------------------------------------------------------------------------------------------------------
def test_copies_and_state():
    field = field_of(kernel=("cubic", SKEW), boundary=("wrap", "natural"), bounds=[(0, 2), (1, 7)])
    x = points_of(field)
    expected = field(x).detach(), field.on_grid((7, 7)).detach(), field.hessian(x).detach()
    file = io.BytesIO()
    torch.save(field, file)
    file.seek(0)
    copies = {
        "deepcopy": copy.deepcopy(field),
        "pickle": pickle.loads(pickle.dumps(field)),
        "torch.save": torch.load(file, weights_only=False),
    }
    fresh = field_of(kernel=("cubic", SKEW), boundary=("wrap", "natural"), bounds=[(0, 2), (1, 7)], seed=5)
    assert not torch.equal(fresh(x), expected[0])
    assert list(field.state_dict()) == ["coefficients"]
    fresh.load_state_dict(field.state_dict())
    copies["state_dict"] = fresh
    for name, other in copies.items():
        assert other.coefficients is not field.coefficients, name
        got = other(x).detach(), other.on_grid((7, 7)).detach(), other.hessian(x).detach()
        for a, b in zip(got, expected, strict=True):
            assert torch.equal(a, b), name
        with torch.no_grad():
            other.coefficients.add_(1)
        assert torch.equal(field(x), expected[0])
        assert repr(other) == repr(field)
    with pytest.raises(RuntimeError, match="size mismatch"):
        SplineField((4, 6), 2).load_state_dict(field.state_dict())


def test_state_that_is_loaded_is_used():
    """No table remembers the coefficients."""
    field, other = field_of(), field_of(seed=9)
    x = points_of(field)
    before = field.on_grid((7, 7)).detach().clone(), field(x).detach().clone()
    field.load_state_dict(other.state_dict())
    assert torch.equal(field.on_grid((7, 7)), other.on_grid((7, 7))) and torch.equal(field(x), other(x))
    assert not torch.equal(field.on_grid((7, 7)), before[0]) and not torch.equal(field(x), before[1])


def test_moving_a_field_between_types_after_use():
    field = field_of()
    field.on_grid((7, 7))
    double = field.double()
    assert double is field and field.on_grid((7, 7)).dtype == torch.float64
    x = points_of(field)
    assert field(x).dtype == torch.float64
    assert field.float().on_grid((7, 7)).dtype == torch.float32
    assert SplineField(4, device="meta").to_empty(device="cpu")(torch.zeros(2, 1)).shape == (2, 1)


def test_inside_of_other_modules():
    net = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Sigmoid(), SplineField((5, 5), 4), torch.nn.Linear(4, 1))
    assert sum(p.numel() for p in net.parameters()) == 3 * 2 + 2 + 100 + 4 + 1
    net(torch.randn(7, 3)).sum().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in net.parameters())
    assert "SplineField" in repr(net) and "channels=4" in repr(net) and "cubic" in repr(net)


def test_inference_does_not_spoil_training():
    """What is kept from one mode is used in the next."""
    for mode in (torch.inference_mode, torch.no_grad):
        field = field_of()
        x = points_of(field)
        with mode():
            field(x), field.jacobian(x), field.hessian(x), field.on_grid((7, 8))
        (field.on_grid((7, 8)).sum() + field(x).sum() + field.hessian(x).sum()).backward()
        assert torch.isfinite(field.coefficients.grad).all() and float(field.coefficients.grad.abs().max()) > 0


@pytest.mark.parametrize(
    "optimiser",
    [
        lambda p: torch.optim.SGD(p, lr=0.5, momentum=0.5),
        lambda p: torch.optim.Adam(p, lr=0.1),
        lambda p: torch.optim.AdamW(p, lr=0.1, foreach=True),
        lambda p: torch.optim.RMSprop(p, lr=0.02),
        lambda p: torch.optim.Adagrad(p, lr=0.5),
        lambda p: torch.optim.LBFGS(p, max_iter=5),
    ],
    ids=("SGD", "Adam", "AdamW", "RMSprop", "Adagrad", "LBFGS"),
)
def test_any_optimiser_lowers_a_loss(optimiser):
    field = SplineField((8,), 1)
    x = torch.linspace(0, 1, 100)[:, None]
    y = torch.sin(6 * x)
    opt = optimiser(field.parameters())

    def closure():
        opt.zero_grad()
        loss = (field(x) - y).square().mean() + 1e-3 * (
            field.on_grid(20) - torch.sin(6 * torch.linspace(0, 1, 20))
        ).square().mean()
        loss.backward()
        return loss

    losses = [float(opt.step(closure).detach()) for _ in range(25)]
    assert losses[-1] < 0.2 * losses[0]


def test_gradients_of_any_layout():
    """.sum().backward() hands down one number expanded to all of the output: strides of 0, nobody's leaf."""
    field = field_of(dtype=torch.float64)
    x = points_of(field).requires_grad_()
    weights = {
        "sum": lambda y: y.sum(),
        "mean": lambda y: y.mean(),
        "transposed": lambda y: (y.T * torch.arange(40.0).reshape(2, 20)).sum(),
        "one": lambda y: y[3, 1],
        "flipped": lambda y: (y.flip(0) * torch.arange(20.0)[:, None]).sum(),
        "repeated": lambda y: y.expand(5, 20, 2).sum(),
        "strided": lambda y: y[::3, :1].sum(),
    }
    for name, f in weights.items():
        seed = torch.autograd.functional.jacobian(f, field(x).detach())
        got = torch.autograd.grad(f(field(x)), (field.coefficients, x))
        expected = torch.autograd.grad((field(x) * seed.clone().contiguous()).sum(), (field.coefficients, x))
        for a, b in zip(got, expected, strict=True):
            assert_allclose(a, b, rtol=0, atol=1e-12, err_msg=name)
    (non_leaf := x * 2).retain_grad()
    field(non_leaf).sum().backward()
    assert_allclose(x.grad, 2 * non_leaf.grad)
    expanded = torch.full((1, 2), 0.3, dtype=torch.float64, requires_grad=True)
    field(expanded.expand(50, 2)).sum().backward()
    assert_allclose(expanded.grad, 50 * field.jacobian(expanded[0]).sum(0).detach()[None], rtol=1e-10)


def test_gradients_accumulate_and_graphs_may_be_used_twice():
    field = field_of(dtype=torch.float64)
    x = points_of(field)
    y = field(x).square().sum()
    y.backward(retain_graph=True)
    once = field.coefficients.grad.clone()
    y.backward()
    assert_allclose(field.coefficients.grad, 2 * once, rtol=1e-12)


def test_gradient_penalties_train():
    """A loss on the field's own gradient, by autograd and by jacobian: the same update."""
    field = field_of(dtype=torch.float64)
    x = points_of(field, beyond=-0.05).requires_grad_()
    slopes = [torch.autograd.grad(field(x)[:, c].sum(), x, create_graph=True)[0] for c in range(2)]
    loss = sum(s.square().sum() for s in slopes)
    (by_autograd,) = torch.autograd.grad(loss, field.coefficients)
    (by_method,) = torch.autograd.grad(field.jacobian(x).square().sum(), field.coefficients)
    assert_allclose(by_autograd, by_method, rtol=0, atol=1e-10 * float(by_method.abs().max()))


def test_autocast_leaves_coordinates_alone():
    """Under autocast a coordinate must not be rounded to three digits, in derivatives of derivatives either."""
    field = field_of()
    x = points_of(field, beyond=-0.05).requires_grad_()

    def penalty():
        (slope,) = torch.autograd.grad(field(x).sum(), x, create_graph=True)
        return torch.autograd.grad(slope.square().sum(), (field.coefficients, x))

    expected = penalty()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = penalty()
    for a, b in zip(got, expected, strict=True):
        assert a.dtype == torch.float32
        assert_allclose(a, b, rtol=0, atol=1e-4 * float(b.abs().max()))


def test_on_grid_from_many_threads():
    """The matrices kept for the last grid are shared by threads that want others."""
    field = field_of()
    sizes = [(4 + k, 5 + k) for k in range(6)]
    expected = {size: field.on_grid(size).detach() for size in sizes}
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(6) as pool:
            got = list(pool.map(lambda size: (size, field.on_grid(size).detach()), sizes * 40))
    finally:
        sys.setswitchinterval(interval)
    assert all(torch.equal(y, expected[size]) for size, y in got)


@pytest.mark.slow
def test_memory_of_a_training_loop_is_steady():
    """No graph, table or plan is kept from step to step."""
    field = field_of((9, 9))
    opt = torch.optim.SGD(field.parameters(), lr=1e-3)

    def step(k):
        x = torch.rand(100 + k % 7, 2)
        opt.zero_grad()
        (field(x).square().sum() + field.on_grid((12, 12)).square().sum()).backward()
        opt.step()

    for k in range(20):
        step(k)
    tracemalloc.start()
    try:
        gc.collect()
        before = tracemalloc.get_traced_memory()[0]
        for k in range(300):
            step(k)
        gc.collect()  # what Python has not freed yet is not kept
        # a graph, a plan or a closure kept would be more than a kilobyte a step; what is left is caches elsewhere
        assert tracemalloc.get_traced_memory()[0] - before < 300 * 500
    finally:
        tracemalloc.stop()


# ---- data loaders ----------------------------------------------------------------------------------------------------
class Augmented(torch.utils.data.Dataset):
    """Every item is an image deformed on the worker."""

    def __init__(self):
        self.field = field_of((4, 4), 2, dtype=torch.float32)

    def __len__(self):
        return 6

    def __getitem__(self, k):
        image = torch.arange(64 * 64.0).reshape(64, 64) * (k + 1)
        x = torch.from_numpy(gf.Grid.pixels((64, 64)).coords()).float()
        with torch.no_grad():
            return gf.sample(image, x + self.field.on_grid((64, 64)).movedim(0, -1))


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:os.fork:RuntimeWarning")  # JAX, where another test imported it
@pytest.mark.parametrize("start", ("fork", "spawn"))
def test_data_loader_workers(start):
    if start not in torch.multiprocessing.get_all_start_methods():
        pytest.skip(f"no {start} on this platform")
    gf.set_num_threads(2)
    try:
        data = Augmented()
        expected = torch.stack([data[k] for k in range(len(data))])  # the parent has used the kernels and their threads
        loader = torch.utils.data.DataLoader(
            data, batch_size=2, num_workers=2 if start == "fork" else 1, multiprocessing_context=start, timeout=120
        )
        assert torch.equal(torch.cat(list(loader)), expected)
    finally:
        gf.set_num_threads(None)


def test_kernels_of_fields_are_kernels():
    field = SplineField((4, 5), kernel=("cubic", 5), boundary="mirror")
    assert field.kernel == (as_kernel("cubic"), as_kernel("quintic")) and field.boundary == ("mirror", "mirror")
    assert (field.ndim, field.channels, field.grid.shape) == (2, 1, (4, 5))
    assert SplineField(gf.Grid((4, 5), (0, 2))).grid.bounds == ((0, 2), (0, 2))


def test_on_grid_computes_in_single_precision_at_least():
    """Under autocast nothing is rounded, and a half-precision field is computed in single precision, as elsewhere."""
    field = SplineField((5, 6), 2)
    torch.nn.init.normal_(field.coefficients)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(field.on_grid((9, 9)), field.on_grid((9, 9)).float())
        assert field.on_grid((9, 9)).dtype == torch.float32
    half = SplineField((5, 6), 2, dtype=torch.float16)
    half.load_state_dict(field.state_dict())
    single = SplineField((5, 6), 2)
    single.load_state_dict(half.state_dict())
    assert torch.equal(half.on_grid((9, 9)), single.on_grid((9, 9)).half())


# ---- optimisers from coarse to fine ----------------------------------------------------------------------------------
def _steps(field, optimizer, points, values, n):
    losses = []
    for _ in range(n):
        optimizer.zero_grad()
        loss = (field(points) - values).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("kind", ("Adam", "AdamW", "RMSprop", "Adagrad", "SGD", "NAdam"))
def test_an_optimiser_goes_on_with_a_finer_field(kind):
    """Its loss does not jump, as it does where the optimiser starts anew; a field refined by one goes on as it was."""
    torch.manual_seed(0)
    points = torch.rand(2000, 2)
    values = torch.sin(6 * points[:, :1]) * points[:, 1:]
    how = {"lr": 1.0, "momentum": 0.9} if kind == "SGD" else {"lr": 0.02}
    field = SplineField((6, 6))
    optimizer = getattr(torch.optim, kind)(field.parameters(), **how)
    before = _steps(field, optimizer, points, values, 80)
    old = {name: x for name, x in optimizer.state[field.coefficients].items() if torch.is_tensor(x)}
    fine = field.refine(2)
    carry_state(optimizer, field, fine)
    assert optimizer.param_groups[0]["params"] == [fine.coefficients] and len(optimizer.state) == 1
    for name, x in optimizer.state[fine.coefficients].items():
        if torch.is_tensor(x) and x.ndim:
            assert x.shape == fine.coefficients.shape
            degree = 2 if "sq" in name or name == "sum" else 1
            assert x.abs().mean() / old[name].abs().mean() == pytest.approx((36 / 121) ** degree, rel=0.6)
            assert degree == 1 or (x >= 0).all()
    after = _steps(fine, optimizer, points, values, 40)
    assert max(after) < 1.3 * before[-1] and after[-1] < before[-1]


@pytest.mark.parametrize("kind", ("Adam", "NAdam", "Adamax", "RMSprop"))
@pytest.mark.parametrize("shape", ((17, 17), (9, 9), (15, 30)))
def test_an_optimiser_goes_on_with_a_resampled_field(kind, shape):
    """Its steps are as large as before, also where only a corner of the lattice has had gradients."""
    torch.manual_seed(0)
    field, points = SplineField((12, 12)), 0.5 + 0.04 * torch.rand(50, 2)
    optimizer = getattr(torch.optim, kind)(field.parameters(), lr=1e-2)
    _steps(field, optimizer, points, torch.ones(50, 1), 20)
    new = field.resample(shape)
    carry_state(optimizer, field, new)
    before = new.coefficients.detach().clone()
    _steps(new, optimizer, points, torch.ones(50, 1), 1)
    assert (new.coefficients - before).abs().max() < 0.2


def test_optimisers_that_cannot_go_on():
    field, other = SplineField(4), SplineField(4)
    optimizer = torch.optim.Adam(field.parameters())
    with pytest.raises(ValueError, match=r"gf\.torch\.carry_state: the optimiser has no parameter of old"):
        carry_state(optimizer, other, field)
    with pytest.raises(ValueError, match=r"carry_state: old has 1 axes and 1 channels, but new 2 and 1"):
        carry_state(optimizer, field, SplineField((4, 4)))
    for constrained in (SplineField(4, monotonic=("increasing", 0)), field + other):
        with pytest.raises(ValueError, match="old must be a SplineField without constraints"):
            carry_state(optimizer, constrained, field)
    lbfgs = torch.optim.LBFGS(field.parameters())
    carry_state(lbfgs, field, other)
    assert lbfgs.param_groups[0]["params"] == [other.coefficients]
