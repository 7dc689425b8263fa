"""The conformity table: functions x frameworks x what people do with functions. docs/frameworks.md is made of its run.

`make frameworks` runs it and writes the page.
"""

import ast
import contextlib
import io
import os
import pathlib
import subprocess
import sys
import types
import warnings

import jax
import numpy as np
import pytest
import tensorflow as tf
import torch
from frameworks import FRAMEWORKS
from numpy.testing import assert_allclose, assert_array_equal

import gridfield as gf
from gridfield import ops
from gridfield.spline import Spline

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
U = 0.4 * draw(2, 3, 3, seed=3)


def best(F, x):
    """Where derivatives may be asked for, nufft's window is a tap wider: the same numbers need all the digits."""
    return 1e-12 if F.dtype(x) == "float64" else 1e-6


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
    "nufft1": (lambda F, y, x: F.as_real(gf.nufft1(x, F.moveaxis(y, 0, 1), (5, 6), eps=best(F, x))), (Y, X)),
    "nufft2": (lambda F, v, x: F.as_real(gf.nufft2(x, v, eps=best(F, x))), (V, X)),
    "smooth": (lambda F, v: gf.smooth(v, "gaussian", sigma=0.8, grid=gf.Grid.pixels((5, 6))), (V,)),
    "binned_statistic": (lambda F, y, x: gf.binned_statistic(x, y, GRID, "sum", kernel="cubic"), (Y, X)),
    "deform": (lambda F, v, u: gf.deform(v, u, kernel="quintic", boundary="mirror"), (V, U)),
    "SplineField": (lambda F, c, x: SPLINE.sample(F, c, x, "value"), (V, X)),
    "SplineField.jacobian": (lambda F, c, x: SPLINE.sample(F, c, x, "jacobian"), (V, X)),
    "SplineField.hessian": (lambda F, c, x: SPLINE.sample(F, c, x, "hessian"), (V, X)),
    "SplineField.on_grid": (lambda F, c: SPLINE.on_grid(F, c, (7, 9)), (V,)),
}  # fmt: skip
AT_POINTS = [what for what, (_, arrays) in FUNCTIONS.items() if arrays[-1] is X]
WITH_POINTS = [what for what, (_, arrays) in FUNCTIONS.items() if arrays[0] is Y]
OFTEN = (
    "sample",
    "splat",
    "prefilter",
    "nufft2",
    "smooth",
    "binned_statistic",
    "deform",
    "SplineField",
)  # in every run
ALWAYS = ("equal to NumPy, bit for bit", "first derivative", "compiled")  # rows that have all of these in every run
ROWS = {  # that are for some functions only
    "integers": [w for w, (_, a) in FUNCTIONS.items() if a[0] is V and not w.startswith(("SplineField", "nufft"))],
    "half precision": [w for w in FUNCTIONS if not w.startswith("nufft")],  # complex numbers have none
}
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
            CELLS.extend((name, framework, what) for what in ROWS.get(name, FUNCTIONS))
    return CELLS


def often(name, what):
    """Whether a cell is in every run: of most rows with sample and another one of OFTEN, in turn."""
    if what not in OFTEN or what == "sample" or name in ALWAYS:
        return what in OFTEN
    row, others = list(TRANSFORMATIONS).index(name), len(OFTEN) - 1
    return (OFTEN.index(what) - 1 - 2 * row) % others == 0


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
    for points in (False, True) if what in AT_POINTS else (False,):
        arrays = list(given)
        if points:
            arrays[1] = arrays[1][:0]
            arrays[0] = arrays[0][:0] if what in WITH_POINTS else arrays[0]
        else:  # no channels
            arrays[0] = arrays[0][:, :0] if what in WITH_POINTS else arrays[0][:0]
        assert_array_equal(framework.numpy(f(*map(framework.asarray, arrays))), reference(what, arrays))


@transformation("read-only and strided inputs", *FRAMEWORKS)
def strided(framework, what):
    """As the framework takes them over from NumPy: torch shares them, JAX and TensorFlow copy."""
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
        elif framework.face == "torch" and any(s < 0 for a in arrays for s in a.strides):
            continue  # it has no negative strides
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
    once = framework.once if order > 1 else lambda f: f  # the first as one writes it
    got = float(framework.numpy(once(g[-1])(*arrays)))
    expected = differences(framework, once(g[-2]), arrays, along[-1])
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
    got = framework.once(lambda *x: framework.jvp(g[1], x, tuple(along[1])))(*arrays)
    expected = framework.once(g[2])(*arrays)
    assert float(framework.numpy(got)) == pytest.approx(float(framework.numpy(expected)), rel=1e-9, abs=1e-9)


@transformation("forward over forward")
def forward_over_forward(framework, what):
    g, (a, b), arrays = chain(framework, what, 2)
    got = framework.once(lambda *y: framework.jvp(lambda *x: framework.jvp(g[0], x, tuple(a)), y, tuple(b)))(*arrays)
    expected = framework.once(g[2])(*arrays)
    assert float(framework.numpy(got)) == pytest.approx(float(framework.numpy(expected)), rel=1e-9, abs=1e-9)


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
    gradient = framework.once(framework.grad(framework.scalar(f, reference(what).shape)))
    batches = [framework.asarray(np.stack([a, 0.9 * a])) for a in FUNCTIONS[what][1]]
    for k, got in enumerate(framework.vmap(lambda *a: tuple(gradient(*a)), [True] * len(arrays))(*batches)):
        expected = np.stack([framework.numpy(gradient(*(b[i] for b in batches))[k]) for i in range(2)])
        close(framework.numpy(got), expected, 1e-10)


@transformation("gradient of a vmap", "torch.func", "JAX", "TensorFlow (eager)", "TensorFlow (tf.function)")
def gradient_of_a_map(framework, what):
    f, arrays = bound(framework, what)
    plain = framework.scalar(f, reference(what).shape)
    batches = [framework.asarray(np.stack([a, 0.9 * a])) for a in FUNCTIONS[what][1]]
    every = [True] * len(arrays)
    shape = (2, *reference(what).shape)
    weights = np.stack([np.cos(np.arange(np.prod(shape[1:]))).reshape(shape[1:])] * 2)

    def loss(*batches):
        return framework.sum(framework.asarray(weights) * framework.sin(framework.vmap(f, every)(*batches)))

    one = framework.once(framework.grad(plain))
    for k, got in enumerate(framework.once(framework.grad(loss))(*batches)):
        expected = np.stack([framework.numpy(one(*(b[i] for b in batches))[k]) for i in range(2)])
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


@transformation("derivatives of a compiled function", "torch (autograd)", "JAX", "TensorFlow (tf.function)")
def derivatives_of_compiled(framework, what):
    """The tapes outside: first and second derivatives, and forward mode where torch.compile is not its own world."""
    g, along, arrays = chain(framework, what, 2)
    outside = FRAMEWORKS["TensorFlow (eager)"] if framework.face == "tensorflow" else framework
    h = framework.compile(g[0])
    first = outside.along(h, along[0])
    if framework.face == "torch":  # its compiled backward pass is differentiable once
        leaves = [a.clone().requires_grad_() for a in arrays]
        got = sum((d * s).sum() for d, s in zip(torch.autograd.grad(h(*leaves), leaves), along[0], strict=True))
        assert float(got) == pytest.approx(float(framework.numpy(g[1](*arrays))), rel=1e-9, abs=1e-9)
        return
    second = outside.along(first, along[1])
    for got, expected in ((first, g[1]), (second, g[2])):
        assert float(got(*arrays)) == pytest.approx(float(framework.once(expected)(*arrays)), rel=1e-9, abs=1e-9)
    got = outside.jvp(h, tuple(arrays), tuple(along[0]))
    assert float(got) == pytest.approx(float(framework.once(g[1])(*arrays)), rel=1e-9, abs=1e-9)


@transformation("integers", *FRAMEWORKS)
def integers(framework, what, compiled=("uint8", "int64")):
    """Images of every type come back as they do in NumPy; derivatives and sums are floats. Compiled, those of two."""
    f, _ = bound(framework, what)
    for dtype in framework.integers:
        low, high = (0, 2) if dtype == "bool" else (np.iinfo(dtype).min // 2, np.iinfo(dtype).max // 2)
        image = np.random.default_rng(0).integers(low, high, V.shape).astype(dtype)
        arrays = [image, *FUNCTIONS[what][1][1:]]
        for compile in (False, True):
            if compile and (dtype not in compiled or not hasattr(framework, "compile")):
                continue
            g = framework.compile(f) if compile else f
            assert_array_equal(framework.numpy(g(*map(framework.asarray, arrays))), reference(what, arrays))


@transformation("unknown sizes", "torch (autograd)", "JAX", "TensorFlow (eager)", "TensorFlow (tf.function)")
def unknown_sizes(framework, what):
    """The number of points, or of channels where there are none, is unknown while tracing."""
    f, arrays = bound(framework, what)
    points = what in AT_POINTS
    free = [what in WITH_POINTS or not points, points][: len(arrays)]  # of which arguments the first axis is unknown
    more = [np.concatenate([a, a[::-1]]) if some else a for a, some in zip(FUNCTIONS[what][1], free, strict=True)]
    trace = {
        "torch (autograd)": _exported_by_torch,
        "JAX": _exported_by_jax,
        "TensorFlow (tf.function)": _with_unknown_sizes,
    }[framework.title]
    g = trace(f, arrays, free)
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


@transformation("in a loop of the compiler", "JAX", "TensorFlow (tf.function)")
def in_a_loop(framework, what):
    """lax.scan, tf.map_fn: and the gradient through them."""
    f, arrays = bound(framework, what)
    scales = framework.asarray(np.array([1.0, 0.9, 0.8]))

    def stacked(*arrays):
        return framework.loop(lambda s: f(*(s * a for a in arrays)), scales)

    def unrolled(*arrays):
        return framework.F.stack([f(*(s * a for a in arrays)) for s in (1.0, 0.9, 0.8)])

    close(framework.numpy(framework.compile(stacked)(*arrays)), framework.numpy(unrolled(*arrays)), 1e-12)
    shape = (3, *reference(what).shape)
    got, expected = (
        framework.compile(framework.grad(framework.scalar(g, shape)))(*arrays) for g in (stacked, unrolled)
    )
    for a, b in zip(got, expected, strict=True):
        close(framework.numpy(a), framework.numpy(b), 1e-10)


@transformation("save and reload", "torch (autograd)", "JAX", "TensorFlow (eager)", "TensorFlow (tf.function)")
def save_and_reload(framework, what):
    """A traced function as bytes, and back."""
    f, arrays = bound(framework, what)
    if framework.title == "JAX":
        saved = jax.export.export(jax.jit(f))(*arrays).serialize()
        reloaded = jax.export.deserialize(saved).call
    else:

        class Module(torch.nn.Module):
            def forward(self, *a):
                return f(*a)

        saved = io.BytesIO()
        torch.export.save(torch.export.export(Module(), tuple(arrays)), saved)
        saved.seek(0)
        reloaded = torch.export.load(saved).module()
    close(framework.numpy(reloaded(*arrays)), reference(what), 1e-12)


@pytest.mark.parametrize(
    ("name", "title", "what"),
    [pytest.param(*c, id="-".join(c), marks=() if often(c[0], c[2]) else pytest.mark.slow) for c in cells()],
)
def test_table(name, title, what, record_property):
    framework, (check, _) = FRAMEWORKS[title], TRANSFORMATIONS[name]
    error, reason = framework.cannot.get((name, what), framework.cannot.get(name, (None, None)))
    record_property("cell", (name, title, what, reason))
    if reason is None:
        return check(framework, what)
    if error is not None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with pytest.raises(error):
                check(framework, what)


@pytest.mark.slow
@pytest.mark.parametrize("what", ROWS["integers"])
@pytest.mark.parametrize("title", [title for title, framework in FRAMEWORKS.items() if hasattr(framework, "compile")])
def test_integers_of_every_type_compiled(title, what):
    """A graph for each type and function: the table compiles those of two types."""
    framework = FRAMEWORKS[title]
    if {("integers", what), "integers"}.isdisjoint(framework.cannot):
        integers(framework, what, framework.integers)


# ---- the structure ---------------------------------------------------------------------------------------------------
def test_faces_have_no_rule_of_an_op():
    """What an op does, and its derivatives, stand in ops/ once: no face names an op, or a composite of ops."""
    names = {*ops.OPS, *ops.COMPOSITES}
    for file in pathlib.Path(gf.__file__).parent.joinpath("faces").glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            named = {
                ast.Name: lambda n: n.id, ast.Attribute: lambda n: n.attr, ast.FunctionDef: lambda n: n.name,
                ast.Constant: lambda n: n.value if isinstance(n.value, str) else None,
            }.get(type(node), lambda n: None)(node)  # fmt: skip
            assert named not in names, f"{file.name}:{node.lineno} names {named}"


def test_modules_of_frameworks_have_no_recipe():
    """The classes of fields hand over to fields.Field and spline.Spline: no face function but through them."""
    for name in ("torch", "jax", "tensorflow"):
        tree = ast.parse(pathlib.Path(gf.__file__).with_name(f"{name}.py").read_text())
        used = {n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute) and getattr(n.value, "id", "") == "FACE"}
        assert used <= {"widest"}


# ---- no copies -------------------------------------------------------------------------------------------------------
ADDRESS = {
    "NumPy": lambda a: a.ctypes.data,
    "torch (autograd)": lambda a: a.data_ptr(),
    "JAX": lambda a: a.unsafe_buffer_pointer(),
}


@pytest.mark.parametrize("title", ADDRESS)
def test_kernels_read_the_arrays_themselves(title, monkeypatch):
    """Contiguous inputs reach the kernel, and its output the caller, without a copy."""
    from gridfield.cpu.plan import Plan

    seen, original = {}, Plan.sample

    def watch(self, values, points, out=None):
        result = original(self, values, points, out)
        seen.update(values=values.ctypes.data, points=points.ctypes.data, out=result.ctypes.data)
        return result

    monkeypatch.setattr(Plan, "sample", watch)
    framework = FRAMEWORKS[title]
    rng = np.random.default_rng(0)
    values, points = map(framework.asarray, (rng.normal(size=(40, 50)), rng.uniform(0, 30, (100, 2))))
    out = gf.sample(values, points, prefilter=False)
    assert seen == {k: ADDRESS[title](a) for k, a in {"values": values, "points": points, "out": out}.items()}


def test_copies_in_tensorflow(record_property, monkeypatch):
    """TensorFlow decides for itself: reported."""
    from gridfield.cpu.plan import Plan

    seen, original = [], Plan.sample

    def watch(self, values, points, out=None):
        result = original(self, values, points, out)
        seen.append((values.ctypes.data, points.ctypes.data, result.ctypes.data))
        return result

    monkeypatch.setattr(Plan, "sample", watch)
    rng = np.random.default_rng(0)
    values, points = map(tf.constant, (rng.normal(size=(400, 500)), rng.uniform(0, 300, (100, 2))))
    own = tuple(np.asarray(a).ctypes.data for a in (values, points))
    for how, f in {"eager": gf.sample, "tf.function": tf.function(gf.sample)}.items():
        out = f(values, points, prefilter=False)
        addresses = (*own, np.asarray(out).ctypes.data)
        copied = [n for n, a, b in zip(("values", "points", "result"), addresses, seen[-1], strict=True) if a != b]
        record_property(f"TensorFlow {how}, what is copied", ", ".join(copied) or "nothing")


# ---- what is missing or unknown --------------------------------------------------------------------------------------
@pytest.mark.parametrize("framework", ("torch", "jax", "tensorflow", "xarray"))
def test_a_framework_that_is_not_installed(framework):
    code = f"import sys; sys.modules[{framework!r}] = None\nimport gridfield\nimport gridfield.{framework}"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ)
    last = run.stderr.strip().splitlines()[-1]
    assert last == (
        f"ImportError: gridfield.{framework} needs {framework}, which is not installed: "
        f'pip install "gridfield[{framework}]"'
    )


def test_arrays_of_two_frameworks():
    arrays = {
        "torch.Tensor": torch.ones(5, 6), "jax.Array": jax.numpy.ones((5, 6)), "tensorflow.Tensor": tf.ones((5, 6)),
        "numpy.ndarray": np.ones((5, 6)),
    }  # fmt: skip
    for a, values in arrays.items():
        for b, points in arrays.items():
            if a != b:
                with pytest.raises(TypeError, match="all arrays of a call must belong to one framework") as caught:
                    gf.sample(values, points[:, :2])
                assert a in str(caught.value) and b in str(caught.value)
    with pytest.raises(
        TypeError, match=r"points is a torch.Tensor but weights is a jax.Array"
    ):  # not the two that agree
        gf.binned_statistic(torch.ones(5, 2), torch.ones(5), gf.Grid((4, 4)), weights=jax.numpy.ones(5))


def test_a_variable_goes_where_a_tensor_goes():
    v, x = tf.Variable(V), tf.Variable(X)
    with tf.GradientTape() as tape:
        y = gf.sample(v, x, grid=GRID)
        loss = tf.reduce_sum(y**2)
    assert_array_equal(y, reference("sample"))
    assert [g.shape for g in tape.gradient(loss, [v, x])] == [v.shape, x.shape]


def test_tf_gradients_with_a_cotangent():
    @tf.function
    def pulled_back(v, x, ct):
        return tf.gradients(gf.sample(v, x, grid=GRID), [v, x], ct)

    v, x, ct = map(tf.constant, (V, X, draw(7, 2, seed=3)))
    with tf.GradientTape() as tape:
        tape.watch([v, x])
        y = gf.sample(v, x, grid=GRID)
    for got, expected in zip(pulled_back(v, x, ct), tape.gradient(y, [v, x], ct), strict=True):
        close(got, expected)


def test_gradients_that_nobody_wants_are_not_made(monkeypatch):
    """TensorFlow asks a custom gradient for all of them."""
    import dataclasses

    from gridfield.cpu.plan import Plan

    assert dataclasses.is_dataclass(ops.Op)
    calls = []
    for name in ("sample", "splat", "dot"):
        original = getattr(Plan, name)
        monkeypatch.setattr(
            Plan, name, lambda *a, name=name, original=original, **k: (calls.append(name), original(*a, **k))[1]
        )
    v, x = tf.constant(V), tf.constant(X)

    def gradient(v, x):
        with tf.GradientTape() as tape:
            tape.watch(v)
            y = gf.sample(v, x, grid=GRID, prefilter=False)
        return tape.gradient(y, v)

    for f in (gradient, tf.function(gradient)):
        calls.clear()
        f(v, x)
        assert calls == ["sample", "splat"] or calls == ["splat"]  # the value is not wanted either


def test_what_is_unknown_while_tracing_but_must_not_be():
    where = "of which not all sizes are known while tracing"
    spec = [tf.TensorSpec([None, 6], tf.float64), tf.TensorSpec([None, 2], tf.float64)]
    with pytest.raises(TypeError, match=rf"gf\.sample: values has grid axes .* {where}"):
        tf.function(gf.sample, input_signature=spec).get_concrete_function()
    with pytest.raises(TypeError, match=r"gf\.sample: points must be .*number of axes is unknown while tracing"):
        tf.function(gf.sample).get_concrete_function(tf.constant(V), tf.TensorSpec(None, tf.float64))
    with pytest.raises(ValueError, match=r"gf\.sample: points must have shape \(\*pts, ndim\)"):
        tf.function(gf.sample).get_concrete_function(tf.constant(V), tf.TensorSpec([7, None], tf.float64))
    (n,) = jax.export.symbolic_shape("n")
    shapes = jax.ShapeDtypeStruct((n, 6), np.float64), jax.ShapeDtypeStruct((7, 2), np.float64)
    with pytest.raises(TypeError, match=rf"gf\.sample: values has grid axes \(n, 6\) {where}"):
        jax.export.export(jax.jit(gf.sample))(*shapes)


def test_a_device_without_a_kernel_in_jax():
    """Lowered for a GPU that is not there: the reference implementation, no callback, and one warning an op."""
    from gridfield.faces import jax as face

    face._warn_once.cache_clear()
    traced = jax.jit(lambda v, x: gf.sample(v, x, grid=GRID)).trace(jax.numpy.asarray(V), jax.numpy.asarray(X))
    with pytest.warns(UserWarning, match="no (sample|prefilter) kernel for JAX on cuda yet") as caught:
        text = traced.lower(lowering_platforms=("cuda",)).as_text()
    assert len(caught) == 2 and "callback" not in text
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        traced.lower(lowering_platforms=("cuda",))
        assert "callback" in traced.lower().as_text()


def test_single_precision_in_jax():
    """Without x64 all is float32, integers and derivatives of integers too, and nobody warns of a cast."""
    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", False)
    try:
        image, x = jax.numpy.arange(30).reshape(5, 6) * 8, jax.numpy.asarray(X, "float32")
        expected = gf.sample(np.arange(30).reshape(5, 6) * 8, X.astype(np.float32))
        got = gf.sample(image, x)
        assert got.dtype == "int32" and np.abs(np.asarray(got) - expected).max() <= 1
        assert gf.sample(image, x, derivative=(1, 0)).dtype == "float32"
        assert gf.prefilter(image).dtype == "float32"
        assert gf.sample(image + 1j, x).dtype == "complex64"
    finally:
        jax.config.update("jax_enable_x64", before)


def test_jax_without_buffer_callback(monkeypatch):
    """Where a version of JAX lacks it: by pure_callback, with copies."""
    from gridfield.faces import jax as face

    monkeypatch.setattr(face, "buffer_callback", None)
    f = jax.jit(lambda v, x: gf.sample(v, x, grid=GRID, kernel="quartic"))
    assert_array_equal(f(jax.numpy.asarray(V), jax.numpy.asarray(X)), gf.sample(V, X, grid=GRID, kernel="quartic"))


def test_tensorflow_without_its_internals(monkeypatch):
    """Where a version of TensorFlow lacks what tells which gradients are wanted: all are made, and they are right."""
    from gridfield.faces import tensorflow as face

    monkeypatch.setattr(face, "should_record_backprop", lambda tensors: True)
    monkeypatch.setattr(face, "pack_tangents", lambda tensors: types.SimpleNamespace(tangents=()))
    monkeypatch.setattr(face, "stop_recording", contextlib.nullcontext)
    framework = FRAMEWORKS["TensorFlow (eager)"]
    check_order(framework, "sample", 2)
    compiled_gradient(FRAMEWORKS["TensorFlow (tf.function)"], "sample")


def test_a_saved_model_cannot_hold_an_op(tmp_path):
    """What the table says of SavedModel: it is refused when saving."""
    module = tf.Module()
    module.f = tf.function(lambda x: gf.sample(tf.constant(V), x, grid=GRID))
    module.f.get_concrete_function(tf.TensorSpec([7, 2], tf.float64))
    with pytest.raises(ValueError, match="gradients for SavedModel"):
        tf.saved_model.save(module, tmp_path)


@pytest.mark.slow
def test_jacobians_in_jax():
    """jacrev, jacfwd and hessian, also through checkpoint, linearize, strict promotion and without jit."""
    v, x = jax.numpy.asarray(V[0]), jax.numpy.asarray(X)

    def f(x):
        return gf.sample(v, x, grid=GRID)

    slopes = np.moveaxis(gf.sample(V[0], X, grid=GRID, derivative=[(1, 0), (0, 1)]), 0, -1)
    second = gf.sample(V[0], X, grid=GRID, derivative=[(2, 0), (1, 1), (1, 1), (0, 2)]).T.reshape(-1, 2, 2)
    for transform in (jax.jacrev, jax.jacfwd):
        dense = transform(f)(x)
        close(np.asarray(dense)[np.arange(7), np.arange(7)], slopes)
        assert np.count_nonzero(dense) == slopes.size
    close(jax.vmap(jax.hessian(f))(x), second)
    gradient = jax.grad(lambda x: f(x).sum())
    close(jax.grad(jax.checkpoint(lambda x: f(x).sum()))(x), slopes)
    close(jax.linearize(f, x)[1](jax.numpy.ones_like(x)), slopes.sum(-1))
    with jax.numpy_dtype_promotion("strict"):
        close(gradient(x), slopes)
    with jax.disable_jit():
        close(gradient(x), slopes)
        close(f(x), gf.sample(V[0], X, grid=GRID))
    with jax.check_tracer_leaks(True):
        close(jax.jit(gradient)(x), slopes)


SHARDED = """
import jax, jax.numpy as jnp, numpy as np
import gridfield as gf
from jax.sharding import AxisType, PartitionSpec as P
jax.config.update("jax_enable_x64", True)
mesh = jax.make_mesh((2,), ("i",), axis_types=(AxisType.Auto,))
rng = np.random.default_rng(0)
v, x = jnp.asarray(rng.normal(size=(6, 7))), jnp.asarray(rng.uniform(0, 5, (8, 2)))
def loss(v, x):
    return jnp.sin(gf.sample(v, x)).sum()
def penalty(f):
    return lambda v, x: (jax.grad(f, argnums=1)(v, x) ** 2).sum()
total = jax.shard_map(lambda v, x: jax.lax.psum(loss(v, x), "i"), mesh=mesh, in_specs=(P(), P("i")), out_specs=P())
inside = jax.shard_map(jax.grad(loss), mesh=mesh, in_specs=(P(), P("i")), out_specs=P())
np.testing.assert_allclose(jax.jit(inside)(v, x), jax.grad(loss)(v, x), atol=1e-12)
for a, b in ((total, loss), (penalty(total), penalty(loss))):
    for got, expected in zip(jax.jit(jax.grad(a, argnums=(0, 1)))(v, x), jax.grad(b, argnums=(0, 1))(v, x)):
        np.testing.assert_allclose(got, expected, atol=1e-12)
"""


@pytest.mark.slow
def test_gradients_over_several_devices_in_jax():
    """Inside and outside of shard_map: what every device has the same of is summed over them."""
    env = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    run = subprocess.run([sys.executable, "-c", SHARDED], capture_output=True, text=True, env=env)
    assert run.returncode == 0, run.stderr[-2000:]


def test_a_jacobian_penalty_in_tensorflow():
    """The gradient of what tape.jacobian and batch_jacobian give, which take graphs apart."""
    v, x = tf.constant(V[0]), tf.constant(X)
    slopes = gf.sample(V[0], X, grid=GRID, derivative=[(1, 0), (0, 1)]).T
    second = gf.sample(V[0], X, grid=GRID, derivative=[(2, 0), (1, 1), (1, 1), (0, 2)]).T.reshape(-1, 2, 2)

    def penalty(batched):
        with tf.GradientTape() as outer:
            outer.watch(x)
            with tf.GradientTape() as tape:
                tape.watch(x)
                y = gf.sample(v, x, grid=GRID)
                y = y[:, None] if batched else y
            d = tape.batch_jacobian(y, x) if batched else tape.jacobian(y, x)
            loss = tf.reduce_sum(d**2)
        return outer.gradient(loss, x)

    expected = 2 * np.einsum("ni,nij->nj", slopes, second)
    for batched in (False, True):
        close(penalty(batched), expected)
        close(tf.function(penalty)(batched), expected)


def test_variables_of_keras():
    import keras

    kept = keras.Variable(V)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(gf.prefilter(kept, ndim=2) * V) + tf.reduce_sum(gf.sample(kept, tf.constant(X), grid=GRID))
    assert tape.gradient(loss, kept.value).shape == V.shape


def test_unknown_grids_are_refused_with_a_grid_too():
    spec = [tf.TensorSpec([None, None], tf.float64), tf.TensorSpec([None, 2], tf.float64)]
    with pytest.raises(TypeError, match="of which not all sizes are known while tracing"):
        tf.function(lambda v, x: gf.sample(v, x, grid=GRID), input_signature=spec).get_concrete_function()


def test_the_page_is_of_these_tests():
    """docs/frameworks.md has the rows and ticks that a run of these tests gives (`make frameworks`)."""
    page = (pathlib.Path(__file__).parent.parent / "docs/frameworks.md").read_text().splitlines()
    columns = next(line for line in page if line.startswith("| |")).strip("| ").split(" | ")
    rows = {line.split(" | ")[0].strip("| "): line.rstrip(" |").split(" | ")[1:] for line in page if line[:2] == "| "}
    assert set(columns) == set(FRAMEWORKS)
    assert set(rows) - {""} == set(TRANSFORMATIONS)
    for name, (_, frameworks) in TRANSFORMATIONS.items():
        for column, mark in zip(columns, rows[name], strict=True):
            assert (mark == "–") == (column not in frameworks), (name, column)
            cannot = any(FRAMEWORKS[column].cannot.get(k) for k in (name, *((name, f) for f in FUNCTIONS)))
            assert mark == "–" or (mark == "✓") != cannot, (name, column)
