"""torch.func and torch.compile: transforms give what plain derivatives give; what torch cannot do is refused."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from torch.func import functional_call, grad, hessian, jacfwd, jacrev, jvp, vjp, vmap

import gridfield as gf
from gridfield.torch import SplineField

pytestmark = pytest.mark.filterwarnings(r"ignore:`torch.jit.script\w*` is deprecated:DeprecationWarning")  # torch's own

GRID = gf.Grid.pixels((5, 6))


def draw(*shape, seed=0, low=None):
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.normal(size=shape) if low is None else rng.uniform(low, 4, shape))


V, X, Y = draw(5, 6), draw(7, 2, low=0), draw(7, seed=2)

# what: (function of all its arrays, the arrays)
FUNCTIONS = {
    "sample": (lambda v, x: gf.sample(v, x), (V, X)),
    "sample, no prefilter": (lambda v, x: gf.sample(v, x, prefilter=False, boundary="natural"), (V, X)),
    "sample, derivatives": (
        lambda v, x: gf.sample(v, x, derivative=[(0, 0), (1, 0), (0, 2)], kernel="quintic"),
        (V, X),
    ),
    "sample, nearest data": (lambda v, x: gf.sample(v, x, boundary="nearest"), (V, X)),
    "splat": (lambda y, x: gf.splat(y, x, GRID, kernel="cubic"), (Y, X)),
    "prefilter": (lambda v: gf.prefilter(v, boundary="natural"), (V,)),
    "pad": (lambda v: gf.pad(v, [(1, 2), (0, 3)], boundary="grid-constant", cval=0.7), (V,)),
    "fold": (lambda v: gf.fold(v, [(1, 1), (0, 2)], boundary="natural"), (V,)),
    "a loop": (lambda v, x: gf.splat(torch.sin(gf.sample(v, x)), x, GRID, kernel="cubic"), (V, X)),
}
each_function = pytest.mark.parametrize("what", FUNCTIONS)
each_argument = pytest.mark.parametrize(
    ("what", "argument"), [(what, k) for what, (_, arrays) in FUNCTIONS.items() for k in range(len(arrays))]
)


def partial(what, argument):
    """The function of one of its arrays, and that array."""
    f, arrays = FUNCTIONS[what]
    return lambda a: f(*arrays[:argument], a, *arrays[argument + 1 :]), arrays[argument]


def close(got, expected, atol=1e-10):
    assert got.shape == expected.shape and got.dtype == expected.dtype
    assert_allclose(got.detach(), expected.detach(), rtol=0, atol=atol * max(1.0, float(expected.detach().abs().max())))


# ---- derivatives -----------------------------------------------------------------------------------------------------
@each_argument
def test_jacobians(what, argument):
    """Reverse, forward, and reverse without torch.func agree with differences."""
    f, a = partial(what, argument)
    by_autograd = torch.autograd.functional.jacobian(f, a)
    close(jacrev(f)(a), by_autograd)
    close(jacfwd(f)(a), by_autograd)
    direction, h = torch.randn_like(a), 1e-6
    along = (f(a + h * direction) - f(a - h * direction)) / (2 * h)
    got = (by_autograd.flatten(-a.ndim) * direction.flatten()).sum(-1)
    close(got, along, atol=1e-6)
    assert float(got.abs().max()) > 1e-3


@each_argument
def test_grad_vjp_and_jvp(what, argument):
    f, a = partial(what, argument)
    jacobian = torch.autograd.functional.jacobian(f, a).flatten(-a.ndim)
    tangent = torch.randn_like(a)
    value, out = jvp(f, (a,), (tangent,))
    close(value, f(a))
    close(out, (jacobian * tangent.flatten()).sum(-1))
    value, back = vjp(f, a)
    cotangent = torch.randn_like(value)
    close(back(cotangent)[0].flatten(), cotangent.flatten() @ jacobian.flatten(0, -2))
    close(grad(lambda a: f(a).square().sum())(a).flatten(), 2 * f(a).flatten() @ jacobian.flatten(0, -2))


# with a prefilter and without; the others, seven kernels each, are marked slow
@pytest.mark.parametrize(
    "what", ("sample", "splat", *(pytest.param(w, marks=pytest.mark.slow) for w in ("sample, no prefilter", "a loop")))
)
def test_hessians_in_all_arguments(what):
    """Second derivatives, mixed ones too: forward over reverse, reverse over forward, reverse over reverse."""
    f, arrays = FUNCTIONS[what]

    def scalar(*arrays):
        return f(*arrays).sin().sum()

    expected = torch.autograd.functional.hessian(scalar, arrays)
    both = tuple(range(len(arrays)))
    for transform in (
        hessian(scalar, argnums=both),
        jacrev(jacfwd(scalar, argnums=both), argnums=both),
        jacrev(jacrev(scalar, argnums=both), argnums=both),
    ):
        got = transform(*arrays)
        for i in both:
            for j in both:
                close(got[i][j], expected[i][j])
    assert float(expected[0][1].abs().max()) > 1e-3


def test_third_derivatives():
    v, x = draw(9), draw(3, 1, low=1)
    third = jacfwd(jacrev(jacrev(lambda x: gf.sample(v, x, kernel="quintic").sum())))(x)
    expected = gf.sample(v, x, kernel="quintic", derivative=(3,))
    for i in range(3):
        close(third[i, 0, i, 0, i, 0], expected[i])
        assert float(third[i].abs().sum()) == pytest.approx(float(expected[i].abs()))


@each_function
def test_forward_over_forward_is_refused(what):
    """Torch's custom functions would give zeros, silently."""
    f, a = partial(what, 0)
    with pytest.raises(NotImplementedError, match=r"gf\.\w+: forward-mode over forward-mode .* reverse mode inside"):
        jacfwd(jacfwd(f))(a)
    with pytest.raises(NotImplementedError, match="forward-mode over forward-mode"):
        jvp(lambda a: jvp(f, (a,), (a,))[1], (a,), (a,))


def test_forward_mode_without_torch_func():
    import torch.autograd.forward_ad as forward

    tangent = torch.ones_like(X)
    with forward.dual_level():
        out = forward.unpack_dual(gf.sample(V, forward.make_dual(X, tangent)))
        moved = forward.unpack_dual(
            gf.splat(forward.make_dual(Y, Y), forward.make_dual(X, tangent), GRID, kernel="cubic")
        )
    close(out.tangent, gf.sample(V, X, derivative=[(1, 0), (0, 1)]).sum(0))
    close(moved.tangent, jvp(lambda y, x: gf.splat(y, x, GRID, kernel="cubic"), (Y, X), (Y, tangent))[1])


def test_training_through_a_jvp():
    """The gradient of a loss on a directional derivative, as a physics-informed network has it."""
    v = V.clone().requires_grad_()
    _, along = jvp(lambda x: gf.sample(v, x), (X,), (torch.ones_like(X),))
    (got,) = torch.autograd.grad(along.square().sum(), v)
    slopes = gf.sample(v, X, derivative=[(1, 0), (0, 1)]).sum(0)
    (expected,) = torch.autograd.grad(slopes.square().sum(), v)
    close(got, expected)
    assert float(expected.abs().max()) > 0.1


def test_tangents_of_some_arguments_only():
    for moving in ((V,), (X,)):
        where = 0 if moving[0] is V else 1
        f = (lambda v: gf.sample(v, X)) if where == 0 else (lambda x: gf.sample(V, x))
        _, out = jvp(f, moving, moving)
        both = [torch.zeros_like(V), torch.zeros_like(X)]
        both[where] = moving[0]
        close(out, jvp(gf.sample, (V, X), tuple(both))[1])
    # a linear map has itself for derivative
    close(jvp(lambda v: gf.sample(v, X), (V,), (draw(5, 6, seed=9),))[1], gf.sample(draw(5, 6, seed=9), X))


# ---- vmap ------------------------------------------------------------------------------------------------------------
def stacked(f, *arrays):
    return torch.stack([f(*row) for row in zip(*arrays, strict=True)])


def batches(what):
    """The function's arrays, each with a batch of 3 that differ."""
    _, arrays = FUNCTIONS[what]
    return [torch.stack([a, a.flip(0) * 0.5, a * 0.9]) for a in arrays]


@each_function
def test_vmap_over_everything(what):
    f, _ = FUNCTIONS[what]
    rows = batches(what)
    close(vmap(f)(*rows), stacked(f, *rows))
    last = [a.movedim(0, -1) for a in rows]
    close(vmap(f, in_dims=-1, out_dims=-1)(*last), stacked(f, *rows).movedim(0, -1))
    close(vmap(f, chunk_size=2)(*rows), stacked(f, *rows))


@each_argument
def test_vmap_over_one_argument(what, argument):
    f, _ = partial(what, argument)
    rows = batches(what)[argument]
    close(vmap(f)(rows), stacked(f, rows))


@pytest.mark.parametrize("what", [what for what, (_, arrays) in FUNCTIONS.items() if len(arrays) == 2])
def test_nested_vmap(what):
    f, _ = FUNCTIONS[what]
    first, second = batches(what)
    table = torch.stack([torch.stack([f(a, b) for b in second]) for a in first])
    close(vmap(lambda a: vmap(lambda b: f(a, b))(second))(first), table)
    close(vmap(lambda b: vmap(lambda a: f(a, b))(first))(second), table.transpose(0, 1))
    close(vmap(vmap(f, in_dims=(None, 0)), in_dims=(0, None))(first, second), table)
    deep = torch.stack([first, first + 1])
    close(
        vmap(vmap(f, in_dims=(0, 0)), in_dims=(0, None))(deep, second),
        torch.stack([stacked(f, d, second) for d in deep]),
    )


@each_argument
def test_vmap_of_gradients_is_a_gradient_per_sample(what, argument):
    f, _ = partial(what, argument)
    rows = batches(what)[argument]
    g = grad(lambda a: f(a).square().sum())
    close(vmap(g)(rows), stacked(g, rows))
    # and of derivatives of those, in both modes
    if what in ("sample", "splat", "pad"):
        for transform in (jacfwd, jacrev):
            close(vmap(transform(g))(rows[:2]), stacked(transform(g), rows[:2]))


def test_vmap_over_single_points():
    close(vmap(lambda x: gf.sample(V, x))(X), gf.sample(V, X))
    close(vmap(grad(lambda x: gf.sample(V, x)))(X), gf.sample(V, X, derivative=[(1, 0), (0, 1)]).T)
    close(vmap(lambda y, x: gf.splat(y, x, GRID))(Y, X).sum(0), gf.splat(Y, X, GRID))


def test_jvp_of_a_batch_and_a_batch_of_jvps():
    rows, tangents = torch.stack([X, X * 0.9]), draw(2, 7, 2, seed=4)
    got = vmap(lambda x, t: jvp(lambda x: gf.sample(V, x), (x,), (t,))[1])(rows, tangents)
    close(got, jvp(vmap(lambda x: gf.sample(V, x)), (rows,), (tangents,))[1])
    close(got[0], jvp(lambda x: gf.sample(V, x), (X,), (tangents[0],))[1])


def test_fields_under_transforms():
    """Per-sample gradients of a module's parameters, and an ensemble of fields."""
    field = SplineField((5, 6), 2, dtype=torch.float64, bounds=[(0, 4), (0, 5)])
    coefficients = draw(3, 2, 5, 6)

    def loss(parameters, x):
        return functional_call(field, parameters, (x,)).square().sum()

    per_sample = vmap(grad(loss), in_dims=(None, 0))({"coefficients": coefficients[0]}, X)["coefficients"]
    for k in range(len(X)):
        close(per_sample[k], grad(loss)({"coefficients": coefficients[0]}, X[k])["coefficients"])
    ensemble = vmap(lambda c, x: functional_call(field, {"coefficients": c}, (x,)), in_dims=(0, None))(coefficients, X)
    for k in range(3):
        close(ensemble[k], functional_call(field, {"coefficients": coefficients[k]}, (X,)))
    with torch.no_grad():
        field.coefficients.copy_(coefficients[0])
    close(vmap(jacrev(field))(X), field.jacobian(X))
    close(vmap(jacfwd(field))(X), field.jacobian(X))
    close(vmap(hessian(field))(X), field.hessian(X))


# ---- torch.compile ---------------------------------------------------------------------------------------------------
@pytest.fixture(autouse=True)
def fresh_compiler():
    yield
    torch.compiler.reset()


def compiled(f, backend="aot_eager", **how):
    return torch.compile(f, fullgraph=True, backend=backend, **how)


@each_function
def test_compiled_functions_and_their_gradients(what):
    f, arrays = FUNCTIONS[what]
    results = []
    for run in (f, compiled(f)):
        inputs = [a.clone().requires_grad_() for a in arrays]
        y = run(*inputs)
        results.append([y, *torch.autograd.grad(y.square().sum(), inputs)])
    for got, expected in zip(results[1], results[0], strict=True):
        close(got, expected)
    with torch.no_grad():
        close(compiled(f)(*arrays), f(*arrays))


@pytest.mark.parametrize("method", ("forward", "jacobian", "hessian", "on_grid"))
def test_compiled_field_methods(method):
    field = SplineField((5, 6), 2, dtype=torch.float64)
    with torch.no_grad():
        field.coefficients.copy_(draw(2, 5, 6))
    argument = (7, 8) if method == "on_grid" else X / 4
    f = field if method == "forward" else getattr(field, method)
    expected = f(argument)
    got = compiled(f)(argument)
    close(got, expected)
    gradients = [torch.autograd.grad(y.square().sum(), field.coefficients)[0] for y in (got, expected)]
    close(*gradients)


def test_compiled_without_anything_known_before():
    """The first call ever is the compiled one: grids, texts and tables are made while tracing."""
    field = SplineField((4, 7), 3, kernel="quadratic", bounds=[(0, 3), (0, 6.5)])
    x = torch.rand(9, 2)
    got = compiled(lambda x: field(x).sum() + field.on_grid((6, 6)).sum())(x)
    close(got, field(x).sum() + field.on_grid((6, 6)).sum(), atol=1e-5)
    values = draw(3, 11, 13)
    got = compiled(lambda x: gf.sample(values, x, kernel=("linear", "cubic"), boundary=["wrap", "mirror"]))(X)
    close(got, gf.sample(values, X, kernel=("linear", "cubic"), boundary=["wrap", "mirror"]))


@pytest.mark.parametrize("dynamic", (None, True, pytest.param(False, marks=pytest.mark.slow)))  # a graph for each size
def test_compiled_with_other_sizes(dynamic):
    """More points, then more channels, then another grid."""
    f = compiled(lambda v, x: gf.sample(v, x) * 2, dynamic=dynamic)
    for n in (7, 9, 20):
        close(f(V, draw(n, 2, low=0)), gf.sample(V, draw(n, 2, low=0)) * 2)
    for shape in ((5, 6), (2, 5, 6), (3, 5, 6), (7, 9)):
        v = draw(*shape)
        close(f(v, X), gf.sample(v, X) * 2)


def test_compiled_types():
    for dtype in (torch.float32, torch.float16, torch.complex128, torch.uint8):
        v = (V * 10 if dtype == torch.uint8 else V).to(dtype) if dtype != torch.complex128 else V + 1j * V.flip(0)
        x = X.float() if dtype in (torch.float32, torch.float16) else X
        got, expected = compiled(gf.sample)(v, x), gf.sample(v, x)
        assert got.dtype == expected.dtype == dtype
        assert torch.equal(got, expected)


LEFT_AS_IT_IS = (
    lambda v: gf.prefilter(v, kernel="linear") + v,
    lambda v: gf.prefilter(v) + v,
    lambda v: gf.pad(v, 0) + gf.fold(v, 0),
    lambda v: gf.sample(v, X, kernel="linear"),
)


@pytest.mark.parametrize(
    ("f", "v"),  # each op with two of the three; the other pairs, a graph each, are marked slow
    [pytest.param(f, v, marks=pytest.mark.slow if (i + j) % 3 == 2 else (), id=f"{i}-{j}")
     for i, f in enumerate(LEFT_AS_IT_IS) for j, v in enumerate((draw(1, 6), V, draw(1, 1)))],
)  # fmt: skip
def test_compiled_what_prefilter_leaves_as_it_is(f, v):
    """Ops that return what came in would alias their input, which a compiled graph must not."""
    close(compiled(f)(v), f(v))


def test_exported_programs():
    field = SplineField((5, 6), 2, dtype=torch.float64)
    with torch.no_grad():
        field.coefficients.copy_(draw(2, 5, 6))
    program = torch.export.export(field, (X / 4,))
    close(program.module()(X / 5), field(X / 5))


def test_tensors_without_memory():
    """Under FakeTensorMode, as every tracer of torch has it, an op is its shape and type; nothing is computed."""
    from torch._subclasses import FakeTensorMode

    with FakeTensorMode() as mode:
        v, x = mode.from_tensor(V).requires_grad_(), mode.from_tensor(X).requires_grad_()
        y = gf.sample(v, x, derivative=[(0, 0), (1, 0)])
        assert type(y) is type(v) and y.shape == (2, 7) and y.dtype == torch.float64
        y.sum().backward()
        assert v.grad.shape == V.shape and x.grad.shape == X.shape
        assert gf.splat(x, x, GRID).shape == (2, 5, 6)


def test_errors_while_compiling_are_still_errors():
    with pytest.raises(Exception, match=r"gf\.sample: kernel must be one of"):
        compiled(lambda x: gf.sample(V, x, kernel="nonsense"))(X)
    with pytest.raises(Exception, match="points has 3 coordinates per point"):
        compiled(lambda x: gf.sample(V, x))(draw(4, 3))


def test_a_compiled_training_step():
    """With the real compiler: the same losses as without, to rounding."""
    losses = []
    for compile_it in (False, True):
        field = SplineField((6, 6), 1)
        opt = torch.optim.SGD(field.parameters(), lr=0.5, momentum=0.9)
        x = torch.rand(200, 2, generator=torch.Generator().manual_seed(0))
        y = torch.sin(5 * x[:, :1]) * x[:, 1:]

        def loss_of(x, y, field=field):
            return (field(x) - y).square().mean() + 1e-4 * field.jacobian(x).square().mean()

        run = torch.compile(loss_of, fullgraph=True) if compile_it else loss_of
        history = []
        for _ in range(20):
            opt.zero_grad()
            loss = run(x, y)
            loss.backward()
            opt.step()
            history.append(float(loss.detach()))
        losses.append(history)
    assert_allclose(losses[1], losses[0], rtol=1e-4)
    assert losses[0][-1] < 0.2 * losses[0][0]


def test_opcheck():
    """Torch's own check of a custom operator: schema, fake tensors, autograd registration."""
    from gridfield.scheme import Filter, Margins, intern, scheme

    text = scheme(GRID, (gf.bspline(3),) * 2, ("mirror",) * 2).text
    margins = intern(Margins(((1, 2), (0, 3)), ("natural",) * 2))
    calls = {
        "sample": (V[None, None], X[None], text),
        "splat": (Y[None, None, :, None], X[None], text),
        "dot": (V[None, None], Y[None, None, :, None], X[None], text),
        "prefilter": (V[None], intern(Filter((gf.bspline(3),) * 2, ("mirror",) * 2))),
        "pad": (V[None], margins),
        "fold": (draw(1, 8, 9), margins),
    }
    for name, arguments in calls.items():
        arguments = [a.clone().requires_grad_() if isinstance(a, torch.Tensor) else a for a in arguments]
        torch.library.opcheck(getattr(torch.ops.gridfield, name).default, tuple(arguments))


# ---- forward mode, and batches, where torch itself falls back silently -----------------------------------------------
# an op of points and one of images; their like, three graphs each, are marked slow
@pytest.mark.parametrize(
    "what", ("sample", "prefilter", *(pytest.param(w, marks=pytest.mark.slow) for w in ("splat", "pad")))
)
def test_compiled_forward_mode(what):
    """A custom op under torch.func.jvp gives zeros when compiled: ours has its tangent."""
    f, a = partial(what, 0)
    close(compiled(lambda a: jvp(f, (a,), (a.cos(),))[1])(a), jvp(f, (a,), (a.cos(),))[1])
    close(compiled(jacfwd(f))(a), jacfwd(f)(a))
    field = SplineField((5, 6), 2, bounds=[(0, 4), (0, 5)], dtype=torch.float64)
    torch.nn.init.normal_(field.coefficients)
    close(compiled(vmap(jacfwd(field)))(X), field.jacobian(X))


def test_compiled_forward_over_forward_is_refused():
    with pytest.raises(Exception, match=r"forward-mode over forward-mode|Observed exception"):
        compiled(jacfwd(jacfwd(lambda x: gf.sample(V, x))))(X)


def test_gradients_in_batches():
    """The vmap of torch.autograd itself, which knows nothing of custom functions."""
    x, cts = X.clone().requires_grad_(), draw(3, 7, seed=5)
    (got,) = torch.autograd.grad(gf.sample(V, x), x, cts, is_grads_batched=True)
    close(got, torch.stack([torch.autograd.grad(gf.sample(V, x), x, ct)[0] for ct in cts]))

    def f(v, x):
        return gf.sample(v, x)

    def loss(v, x):
        return f(v, x).sin().sum()

    functional = torch.autograd.functional
    for got, expected in zip(
        functional.jacobian(f, (V, X), vectorize=True), functional.jacobian(f, (V, X)), strict=True
    ):
        close(got, expected)
    for got, expected in zip(
        functional.hessian(loss, (V, X), vectorize=True), functional.hessian(loss, (V, X)), strict=True
    ):
        for a, b in zip(got, expected, strict=True):
            close(a, b)
    assert torch.autograd.gradcheck(f, (V.clone().requires_grad_(), x), check_batched_grad=True)


def test_forward_over_reverse_without_create_graph():
    import torch.autograd.forward_ad as forward

    tangent = torch.ones_like(X)
    with forward.dual_level():
        dual = forward.make_dual(X.clone().requires_grad_(), tangent)
        (g,) = torch.autograd.grad(gf.sample(V, dual).sum(), dual)
        got = forward.unpack_dual(g).tangent
    close(got, jvp(grad(lambda x: gf.sample(V, x).sum()), (X,), (tangent,))[1])


def test_subclasses_in_forward_mode():
    import torch.autograd.forward_ad as forward

    class Mine(torch.Tensor):
        pass

    expected = jvp(lambda x: gf.sample(V, x), (X,), (torch.ones_like(X),))[1]
    close(jvp(lambda x: gf.sample(V, x), (X.as_subclass(Mine),), (torch.ones_like(X),))[1], expected)
    with forward.dual_level():
        out = gf.sample(V, forward.make_dual(X.as_subclass(Mine), torch.ones_like(X)))
        close(forward.unpack_dual(out).tangent.as_subclass(torch.Tensor), expected)


def test_compiled_with_other_numbers():
    """Numbers that a compiler would keep symbolic are static to us: a new value is a new graph, not a failure."""
    f = compiled(lambda v, x, c: gf.sample(v, x, boundary="constant", cval=c), dynamic=True)
    for c in (0.0, 0.5, -2.5):
        close(f(V, X + 4, c), gf.sample(V, X + 4, boundary="constant", cval=c))
    g = compiled(lambda v, n: gf.pad(v, n), dynamic=True)
    field = SplineField((5, 6))
    h = compiled(lambda n: field.on_grid((n, n)), dynamic=True)
    for n in (1, 2, 3):
        close(g(V, n), gf.pad(V, n))
        assert h(n + 1).shape == (1, n + 1, n + 1)
