"""The conformity table: functions x frameworks x what people do with functions. docs/frameworks.md is made of its run.

`make frameworks` runs it and writes the page.
"""

import warnings

import jax
import numpy as np
import pytest
import tensorflow as tf
import torch
from frameworks import FRAMEWORKS
from numpy.testing import assert_allclose, assert_array_equal

import gridfield as gf
from gridfield.fields import Spline

pytestmark = [
    pytest.mark.filterwarnings(r"ignore:`torch.jit.script\w*` is deprecated:DeprecationWarning"),  # torch's own
    pytest.mark.filterwarnings(r"ignore:.*np.object.*:FutureWarning"),
]

GRID = gf.Grid((5, 6), [(0, 4), (0, 2.5)])
SPLINE = Spline.of((5, 6), "cubic", [(0, 4), (0, 2.5)], "natural", "gf.SplineField")


@pytest.fixture(autouse=True, scope="module")
def double():
    """JAX with its 64-bit types, and as it was afterwards."""
    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", before)


def draw(*shape, seed=0, points=False):
    rng = np.random.default_rng(seed)
    if not points:
        return rng.normal(size=shape)
    # away from the ends and the knots, where a third derivative jumps
    x = np.floor(rng.uniform(0, 4, shape)) + rng.uniform(0.2, 0.8, shape)
    return x * np.array([1.0, 0.5])


V, X, Y = draw(2, 5, 6), draw(7, 2, points=True), draw(7, 2, seed=2)

# what: (function of the face and its arrays, the arrays); the spline's methods are those of every SplineField
FUNCTIONS = {
    "sample": (lambda F, v, x: gf.sample(v, x, grid=GRID), (V, X)),
    "sample(prefilter=False)": (
        lambda F, v, x: gf.sample(v, x, grid=GRID, prefilter=False, boundary="natural"), (V, X)),
    "sample(derivative=[...])": (
        lambda F, v, x: gf.sample(v, x, grid=GRID, kernel="quintic", derivative=[(0, 0), (1, 0), (0, 2)]), (V, X)),
    "splat": (lambda F, y, x: gf.splat(y, x, GRID, kernel="cubic"), (Y, X)),
    "prefilter": (lambda F, v: gf.prefilter(v, boundary="natural", ndim=2), (V,)),
    "pad": (lambda F, v: gf.pad(v, [(1, 2), (0, 3)], boundary="grid-constant", cval=0.7), (V,)),
    "fold": (lambda F, v: gf.fold(v, [(1, 1), (0, 2)], boundary="natural"), (V,)),
    "SplineField": (lambda F, c, x: SPLINE.sample(F, c, x, "value"), (V, X)),
    "SplineField.jacobian": (lambda F, c, x: SPLINE.sample(F, c, x, "jacobian"), (V, X)),
    "SplineField.hessian": (lambda F, c, x: SPLINE.sample(F, c, x, "hessian"), (V, X)),
    "SplineField.on_grid": (lambda F, c: SPLINE.on_grid(F, c, (7, 9)), (V,)),
}  # fmt: skip
TRANSFORMATIONS = {}  # name: check(framework, f, arrays)


def transformation(name, *frameworks):
    """A row of the table; for the frameworks named, or for all but NumPy."""

    def register(check):
        TRANSFORMATIONS[name] = check, frameworks or tuple(f for f in FRAMEWORKS if f != "NumPy")
        return check

    return register


CELLS = []


def cells():
    for name, (_, frameworks) in TRANSFORMATIONS.items():
        for framework in frameworks:
            CELLS.extend((name, framework, what) for what in FUNCTIONS)
    return CELLS


def bound(framework, what):
    """A function of the framework's arrays, and the arrays, in float64."""
    f, arrays = FUNCTIONS[what]
    return (lambda *a: f(framework.F, *a)), [framework.asarray(a) for a in arrays]


def reference(what, arrays=None):
    f, given = FUNCTIONS[what]
    return f(FRAMEWORKS["NumPy"].F, *(given if arrays is None else arrays))


def directions(what, n):
    """Unlike each other, of the size of one."""
    return [[draw(*a.shape, seed=10 * k + i + 5) for i, a in enumerate(FUNCTIONS[what][1])] for k in range(n)]


def close(got, expected, tolerance=1e-10):
    got, expected = np.asarray(got), np.asarray(expected)
    assert got.shape == expected.shape
    assert_allclose(got, expected, rtol=0, atol=tolerance * max(1.0, float(np.abs(expected).max(initial=0))))


# ---- forward ---------------------------------------------------------------------------------------------------------
@transformation("equal to NumPy, bit for bit", *FRAMEWORKS)
def forward(framework, what):
    for dtype in (np.float64, np.float32):
        f, _ = bound(framework, what)
        arrays = [a.astype(dtype) for a in FUNCTIONS[what][1]]
        got = f(*map(framework.asarray, arrays))
        assert isinstance(got, framework.kind)
        expected = reference(what, arrays)
        got = framework.numpy(got)
        assert got.dtype == expected.dtype == dtype
        if what == "SplineField.on_grid":  # a matrix product of each framework's own
            close(got, expected, 1e-13 if dtype == np.float64 else 1e-5)
        else:
            assert_array_equal(got, expected)


@transformation("half precision", *FRAMEWORKS)
def half(framework, what):
    for dtype in framework.half:
        f, arrays = bound(framework, what)
        arrays = [framework.asarray(a, dtype) for a in arrays]
        got = f(*arrays)
        assert got.dtype == dtype
        rounded = [framework.numpy(a).astype(np.float32) for a in arrays]
        close(framework.numpy(got).astype(np.float32), reference(what, rounded), 2e-2)


@transformation("no points, no channels", *FRAMEWORKS)
def empty(framework, what):
    f, _ = bound(framework, what)
    given = FUNCTIONS[what][1]
    for keep in range(len(given)):
        arrays = list(given)
        if len(arrays) == 2 and keep == 1:  # no points
            arrays[1] = arrays[1][:0]
            arrays[0] = arrays[0][:0] if what == "splat" else arrays[0]
        else:  # no channels
            arrays[0] = arrays[0][:, :0] if what == "splat" else arrays[0][:0]
        assert_array_equal(framework.numpy(f(*map(framework.asarray, arrays))), reference(what, arrays))


@transformation("read-only and strided inputs", "NumPy", "torch (autograd)")
def strided(framework, what):
    f, _ = bound(framework, what)
    for view in (
        lambda a: np.stack([a, a], -1)[..., 0],
        lambda a: np.asfortranarray(a),
        lambda a: a[::-1].copy()[::-1],
    ):
        arrays = [view(a) for a in FUNCTIONS[what][1]]
        assert not all(a.flags.c_contiguous for a in arrays)
        before = [a.copy() for a in arrays]
        if framework.title == "NumPy":
            for a in arrays:
                a.flags.writeable = False
        elif any(s < 0 for a in arrays for s in a.strides):
            continue  # torch has no negative strides
        close(framework.numpy(f(*map(framework.asarray, arrays))), reference(what), 1e-12)
        for a, b in zip(arrays, before, strict=True):
            assert_array_equal(a, b)


# ---- derivatives -----------------------------------------------------------------------------------------------------
H = 1e-5


def differences(framework, g, arrays, direction):
    """The derivative of g along a direction, by central differences."""

    def at(h):
        return float(framework.numpy(g(*(a + h * d for a, d in zip(arrays, direction, strict=True)))))

    return (at(H) - at(-H)) / (2 * H)


def chain(framework, what, order):
    """The scalar loss, and its derivatives by reverse mode along one direction after another, up to an order."""
    f, arrays = bound(framework, what)
    along = [[framework.asarray(d) for d in ds] for ds in directions(what, order)]
    g = [framework.scalar(f, reference(what).shape)]
    for d in along:
        g.append(framework.along(g[-1], d))
    return g, along, arrays


def check_order(framework, what, order):
    g, along, arrays = chain(framework, what, order)
    got = float(framework.numpy(g[-1](*arrays)))
    expected = differences(framework, g[-2], arrays, along[-1])
    assert got == pytest.approx(expected, rel=1e-5, abs=1e-5)
    assert abs(got) > 1e-3  # a derivative that is there


@transformation("first derivative")
def first(framework, what):
    check_order(framework, what, 1)


@transformation("second derivative")
def second(framework, what):
    check_order(framework, what, 2)


@transformation("third derivative")
def third(framework, what):
    check_order(framework, what, 3)


@transformation("forward mode")
def forward_mode(framework, what):
    f, arrays = bound(framework, what)
    (direction,) = directions(what, 1)
    got = framework.jvp(f, tuple(arrays), tuple(map(framework.asarray, direction)))
    plain = FUNCTIONS[what][1]
    plus, minus = ([a + s * H * d for a, d in zip(plain, direction, strict=True)] for s in (1, -1))
    close(framework.numpy(got), (reference(what, plus) - reference(what, minus)) / (2 * H), 1e-6)


@transformation("forward over reverse")
def forward_over_reverse(framework, what):
    g, along, arrays = chain(framework, what, 2)
    got = framework.jvp(g[1], tuple(arrays), tuple(along[1]))
    assert float(framework.numpy(got)) == pytest.approx(float(framework.numpy(g[2](*arrays))), rel=1e-9, abs=1e-9)


@transformation("forward over forward")
def forward_over_forward(framework, what):
    g, (a, b), arrays = chain(framework, what, 2)
    got = framework.jvp(lambda *x: framework.jvp(g[0], x, tuple(a)), tuple(arrays), tuple(b))
    assert float(framework.numpy(got)) == pytest.approx(float(framework.numpy(g[2](*arrays))), rel=1e-9, abs=1e-9)


# ---- maps and compilers ----------------------------------------------------------------------------------------------
@transformation("vmap")
def mapped(framework, what):
    """Over each argument alone, and over all."""
    f, _ = bound(framework, what)
    given = FUNCTIONS[what][1]
    batches = [np.stack([a, 0.9 * a, 0.8 * a]) for a in given]
    choices = {(True,) * len(given), *(tuple(i == k for i in range(len(given))) for k in range(len(given)))}
    for of in sorted(choices):
        mixed = [framework.asarray(b if o else a) for a, b, o in zip(given, batches, of, strict=True)]
        expected = np.stack([
            reference(what, [b[k] if o else a for a, b, o in zip(given, batches, of, strict=True)]) for k in range(3)
        ])  # fmt: skip
        close(framework.numpy(framework.vmap(f, of)(*mixed)), expected, 1e-12)


@transformation("vmap of the gradient")
def mapped_gradient(framework, what):
    f, arrays = bound(framework, what)
    gradient = framework.grad(framework.scalar(f, reference(what).shape))
    batches = [framework.asarray(np.stack([a, 0.9 * a])) for a in FUNCTIONS[what][1]]
    for k, got in enumerate(framework.vmap(lambda *a: tuple(gradient(*a)), [True] * len(arrays))(*batches)):
        expected = np.stack([framework.numpy(gradient(*(b[i] for b in batches))[k]) for i in range(2)])
        close(framework.numpy(got), expected, 1e-10)


@transformation("compiled")
def compiled(framework, what):
    f, arrays = bound(framework, what)
    close(framework.numpy(framework.compile(f)(*arrays)), reference(what), 1e-12)


@transformation("compiled gradient")
def compiled_gradient(framework, what):
    f, arrays = bound(framework, what)
    loss = framework.scalar(f, reference(what).shape)
    expected = framework.grad(loss)(*arrays)
    if framework.title == "torch (autograd)":  # the usual way: the graph of the forward pass has a compiled backward
        leaves = [a.clone().requires_grad_() for a in arrays]
        got = torch.autograd.grad(framework.compile(loss)(*leaves), leaves)
    else:
        got = framework.compile(framework.grad(loss))(*arrays)
    for a, b in zip(got, expected, strict=True):
        close(framework.numpy(a), framework.numpy(b), 1e-10)


@transformation("unknown sizes", "torch (autograd)", "JAX", "TensorFlow (eager)", "TensorFlow (tf.function)")
def unknown_sizes(framework, what):
    """The number of points, or of channels where there are none, is unknown while tracing."""
    f, arrays = bound(framework, what)
    points = len(arrays) == 2
    free = ([0] if what == "splat" else []) if points else [0]  # which axis of the first argument is unknown
    more = [np.concatenate([a, a[::-1]]) for a in FUNCTIONS[what][1]]
    if points and what != "splat":
        more[0] = FUNCTIONS[what][1][0]
    trace = {
        "torch (autograd)": _exported_by_torch,
        "JAX": _exported_by_jax,
        "TensorFlow (tf.function)": _with_unknown_sizes,
    }[framework.title]
    g = trace(f, arrays, [bool(free), True] if points else [True])
    for given in (FUNCTIONS[what][1], more):
        got = g(*map(framework.asarray, given))
        close(framework.numpy(got), reference(what, given), 1e-12)


def _exported_by_torch(f, arrays, free):
    class Module(torch.nn.Module):
        def forward(self, *a):
            return f(*a)

    n = torch.export.Dim("n", min=2)
    exported = torch.export.export(
        Module(), tuple(arrays), dynamic_shapes={"a": tuple({0: n} if some else {} for some in free)}
    )
    return exported.module()


def _exported_by_jax(f, arrays, free):
    (n,) = jax.export.symbolic_shape("n")
    specs = [
        jax.ShapeDtypeStruct((n, *a.shape[1:]) if some else a.shape, a.dtype)
        for a, some in zip(arrays, free, strict=True)
    ]
    return jax.export.export(jax.jit(f))(*specs).call


def _with_unknown_sizes(f, arrays, free):
    return tf.function(f, input_signature=[
        tf.TensorSpec([None, *a.shape[1:]] if some else a.shape, a.dtype) for a, some in zip(arrays, free, strict=True)
    ])  # fmt: skip


@pytest.mark.parametrize(("name", "title", "what"), [pytest.param(*c, id="-".join(c)) for c in cells()])
@pytest.mark.filterwarnings("default")  # what is set below is undone
def test_table(name, title, what, record_property):
    framework, (check, _) = FRAMEWORKS[title], TRANSFORMATIONS[name]
    error, reason = framework.cannot.get((name, what), framework.cannot.get(name, (None, None)))
    record_property("cell", (name, title, what, reason))
    if reason is None:
        return check(framework, what)
    if error is not None:
        warnings.simplefilter("ignore")
        with pytest.raises(error):
            check(framework, what)
