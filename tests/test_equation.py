"""Equations: what may be written, what it means, its derivatives, and the compiled passes over data."""

import math
import pickle
import time

import numpy as np
import pytest
import scipy.special
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.optimize import least_squares

import gridfield as gf
from gridfield import dispatch, equation
from gridfield import expression as ex
from gridfield.cpu.passes import Column
from gridfield.equation import parse
from gridfield.formulas import FUNCTIONS

NUMPY = dispatch.of("numpy")
X = np.linspace(0.1, 2.0, 17)


def value(text, **names):
    return parse(text).evaluate(NUMPY, names)


# ---- reading
GRAMMAR = [
    ("1.5", 1.5 + 0 * X),
    ("x", X),
    ("-x + +x*2", X),
    ("2**-1*x - x/4", X / 4),
    ("x**2**0.5", X ** 2**0.5),
    ("-x**2", -(X**2)),
    ("y = 3*x + 1", 3 * X + 1),
    ("f(x) = exp(-x)", np.exp(-X)),
    ("  \n y =\n  sin(x)*\n pi  " .replace("\n pi", "pi"), np.sin(X) * np.pi),
    ("(x +\n 1)", X + 1),
    ("ln(x) + log(x) + log10(x) + log2(x)", 2 * np.log(X) + np.log10(X) + np.log2(X)),
    ("sqrt(abs(x - 1))", np.sqrt(np.abs(X - 1))),
    ("atan2(x, 2) + arctan(x) + hypot(x, 3)", np.arctan2(X, 2) + np.arctan(X) + np.hypot(X, 3)),
    ("min(x, 1, 0.5) + max(x, 1)", np.minimum(X, 0.5) + np.maximum(X, 1)),
    ("where(x < 1, x, x**2)", np.where(X < 1, X, X**2)),
    ("where(x >= 1, x, x**2)", np.where(X >= 1, X, X**2)),
    ("sign(x - 1) + heaviside(x - 1)", np.sign(X - 1) + np.heaviside(X - 1, 0.5)),
    ("erf(x) - erfc(x)", scipy.special.erf(X) - scipy.special.erfc(X)),
    ("logistic(x) + exp2(x) + pow(x, 3)", scipy.special.expit(X) + 2**X + X**3),
    ("voigt_profile(x, 1, 2)", scipy.special.voigt_profile(X, 1, 2)),
    ("A·x − 1".replace("A", "2"), 2 * X - 1),
    ("e**x", np.exp(X)),
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), GRAMMAR, ids=[t for t, _ in GRAMMAR])
def test_grammar(text, expected):
    np.testing.assert_allclose(np.broadcast_to(value(text, x=X), X.shape), expected, rtol=1e-13)


def test_names_in_order_of_appearance():
    eq = parse("A*exp(-((x-x0)**2+(y-y0)**2)/(2*s**2)) + b")
    assert eq.names == ("A", "x", "x0", "y", "y0", "s", "b")
    assert eq.split(("y", "x", "t")) == (("y", "x"), ("A", "x0", "y0", "s", "b"))
    assert parse("a - a + x").names == ("a", "x")  # what cancels is still a name
    assert parse("e*x", ("e", "x")).names == ("e", "x")  # a name that is a coordinate is no constant
    assert parse("y = a*x").left == "y"
    assert parse("f(x, t) = a*x*t").arguments == ("x", "t")
    assert parse(eq) is eq and pickle.loads(pickle.dumps(eq)) == eq


ATTACKS = [
    ("__import__('os').system('true')", "attributes|names with a dot"),
    ("x.__class__", "attributes"),
    ("().__class__.__bases__", "attributes"),
    ("np.exp(x)", r"write exp\(x\)"),
    ("exp.__globals__", "attributes"),
    ("__builtins__", "no name for a parameter"),
    ("lambda: x", "statements of Python"),
    ("(lambda: x)()", "only functions"),
    ("[x for x in (1,)]", "ListComp"),
    ("(x for x in (1,))", "GeneratorExp"),
    ("{x: 1}", "Dict"),
    ("{x}", "Set"),
    ("x[0]", "subscripts"),
    ("f'{x}'", "JoinedStr"),
    ("'x'", "only numbers and names"),
    ("b'x'", "only numbers and names"),
    ("(y := x)", "statements of Python"),
    ("exp(*x)", "Starred"),
    ("exp(**x)", "no named arguments"),
    ("exp(x=1)", "no named arguments"),
    ("x if x else 1", "statements of Python"),
    ("x and 1", "statements of Python"),
    ("not x", "UnaryOp"),
    ("x < 1", "comparison"),
    ("x == 1", "comparison"),
    ("await x", "Await|not an equation"),
    ("yield x", "not an equation"),
    ("import os", "not an equation"),
    ("x; y", "not an equation"),
    ("print(x)", "unknown function 'print'"),
    ("eval('1')", "unknown function 'eval'"),
    ("getattr(x, 'y')", "unknown function 'getattr'"),
    ("exp(x)(x)", "only functions"),
    ("True", "only real numbers"),
    ("None", "only numbers and names"),
    ("...", "only numbers and names"),
    ("1j*x", "only real numbers"),
    ("x @ y", "MatMult"),
    ("x % 2", "Mod"),
    ("x // 2", "FloorDiv"),
    ("x << 2", "LShift"),
    ("~x", "UnaryOp"),
    ("(x, y)", "Tuple"),
    ("9**9**9", "no finite number"),
    ("9**9**9**9", "no finite number"),
    ("1e999", "no finite number"),
    ("1" * 5000, "no finite number|too large|not an equation"),
    ("log(-1)", "no finite number"),
    ("1/0*x", "no finite number"),
    ("(" * 250 + "x" + ")" * 250, "not an equation|nested"),
    ("-" * 400 + "x", "nested"),
    ("exp(" * 150 + "x" + ")" * 150, "nested|not an equation"),
    ("x" * 20_000, "more than 10000"),
    ("x\x00", "not an equation"),
    ("", "empty"),
    ("y =", "empty"),
    ("1 = x", "left of ="),
    ("a = b = c", "not an equation"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "message"), ATTACKS, ids=[t[:30].replace("\x00", "NUL") for t, _ in ATTACKS])
def test_nothing_else_can_stand_there(text, message):
    with pytest.raises(ValueError, match=message) as caught:
        parse(text)
    assert str(caught.value).startswith("gf.curve_fit: ") and len(str(caught.value)) < 1200


@pytest.mark.parametrize(
    ("text", "message", "column"),
    [
        ("a + x^2", "a power is written \\*\\*, not \\^", 5),
        ("a + foo(x)", "unknown function 'foo'.*exp", 4),
        ("2*x + 3y", "multiplication is written \\*", 6),
        ("2 + a(x)", "unknown function 'a' \\(multiplication is written \\*\\)", 4),
        ("x + 2(x)", "multiplication is written \\*", 4),
        ("x + exp", "exp is a function: write exp\\(...\\)", 4),
        ("y = x + exp", "exp is a function", 8),
        ("1 + exp(x, 2)", "exp takes 1 argument, got 2", 4),
        ("1 + atan2(x)", "atan2 takes 2 arguments, got 1", 4),
        ("1 + where(x, 1, 2)", "one comparison", 10),
        ("µ*x + x²", "a power is written \\*\\*2, not ²", 7),
        ("f(x) = x + g(x)", "unknown function 'g'", 11),
    ],
)
def test_errors_point_at_the_place(text, message, column):
    with pytest.raises(ValueError, match=message) as caught:
        parse(text)
    *_, quoted, mark = str(caught.value).split("\n")
    assert quoted == "    " + text and mark.index("^") == column + 4


def test_long_sums_are_fine():
    text = " + ".join(f"{k}*x" for k in range(1, 200))
    np.testing.assert_allclose(value(text, x=X), 199 * 100 * X)
    assert parse(text).derivative("x").evaluate(NUMPY, {"x": X}) == 199 * 100
    with pytest.raises(TypeError, match="a str or a sympy expression, got float"):
        parse(3.0)


# ---- the graph
def test_equal_parts_are_one():
    root = parse("exp(-x/t) + a*exp(-x/t) + (x/t)**2").root
    nodes = ex.ordered([root])
    assert sum(n.op == "exp" for n in nodes) == 1 and sum(n.op == "div" for n in nodes) == 1
    assert parse("x*y + 1").root is parse("1 + y*x").root
    assert parse("2*3*x").root is parse("6*x").root
    assert parse("x*x").root is parse("x**2").root
    assert parse("x**2.0").root.op == "power" and parse("x**0.5").root.op == "sqrt"
    assert parse("x - x").root is ex.ZERO and parse("0*x").root is ex.ZERO and parse("x**0").root is ex.ONE


NAMES = ("x", "a", "b")
LEAVES = st.sampled_from([ex.symbol(n) for n in NAMES]) | st.floats(0.1, 3).map(lambda v: ex.number(round(v, 3)))
SMOOTH = ("exp", "sin", "cos", "tanh", "atan", "erf", "sinh", "cosh", "neg", "erfc")


def _grown(inner):
    two = st.tuples(st.sampled_from(("add", "sub", "mul", "div", "min", "max")), inner, inner)
    one = st.tuples(st.sampled_from((*SMOOTH, "sqrt", "log")), inner)
    power = st.tuples(st.just("power"), inner, st.integers(-4, 6))
    cases = st.tuples(st.just("where"), inner, inner, inner)
    return (two | one | power | cases).map(_made)


def _made(given):
    op, *args = given
    if op == "power":
        return ex.power(*args)
    if op == "where":
        return ex.where(ex.call("lt", args[0], args[1]), args[1], args[2])
    if op in ("sqrt", "log"):  # of something above 0
        return ex.call(op, ex.add(ex.ONE, ex.power(args[0], 2)))
    simple = {"add": ex.add, "sub": ex.sub, "mul": ex.mul, "div": ex.div, "neg": ex.neg}
    return simple[op](*args) if op in simple else ex.call(op, *args)


TREES = st.recursive(LEAVES, _grown, max_leaves=12)
DIRECT = {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide, "neg": np.negative, "exp": np.exp,
    "log": np.log, "sqrt": np.sqrt, "sin": np.sin, "cos": np.cos, "tanh": np.tanh, "atan": np.arctan,
    "sinh": np.sinh, "cosh": np.cosh, "min": np.minimum, "max": np.maximum, "where": np.where, "lt": np.less,
    "le": np.less_equal, "erf": scipy.special.erf, "erfc": scipy.special.erfc,
}  # fmt: skip


def direct(node, values):
    """The value, by recursion."""
    if node.op == "symbol":
        return values[node.data]
    if node.op == "number":
        return node.data
    args = [direct(a, values) for a in node.args]
    return args[0] ** float(node.data) if node.op == "power" else DIRECT[node.op](*args)


relaxed = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))


@relaxed
@given(TREES, st.integers(0, 2**31))
def test_random_trees(root, seed):
    rng = np.random.default_rng(seed)
    values = {n: rng.uniform(0.2, 2.0, 9) for n in NAMES}
    eq = equation.Equation(root, NAMES, "")
    with np.errstate(all="ignore"):
        expected = np.broadcast_to(direct(root, values), 9)
    got = np.broadcast_to(eq.evaluate(NUMPY, values), 9)
    np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-9)
    # complex numbers in, derivatives out; of what has no complex form, differences
    for name in NAMES:
        slope = np.broadcast_to(eq.derivative(name).evaluate(NUMPY, values), 9)
        h = 1e-6
        up, down = ({**values, name: values[name] + s} for s in (h, -h))
        with np.errstate(all="ignore"):
            a, b = (np.broadcast_to(direct(root, v), 9) for v in (up, down))
            difference = (a - b) / (2 * h)
            curved = np.abs(a - 2 * expected + b) / h  # where there is a bend, or rounding is all there is
        plain = np.isfinite(difference) & (np.abs(expected) < 1e5) & (curved < 1e-3) & (np.abs(slope) < 1e6)
        np.testing.assert_allclose(slope[plain], difference[plain], rtol=2e-3, atol=2e-3)


SLOPES = [
    "exp(a*x)/b", "log(a*x + b)", "log2(a*x) + log10(b*x)", "sqrt(a*x + b)", "sin(a*x)*cos(b*x)", "tan(a*x/4)",
    "asin(a*x/9) + acos(b*x/9)", "atan(a*x) + atan(b)", "sinh(a*x)*cosh(b)", "tanh(a*x + b)", "x**a + b**x",
    "(a*x)**3/b**2", "(a + b*x)**-2", "logistic(a*(x - b))", "hypot(a*x, b)", "exp2(a*x)*b", "pow(x, a*b)",
]  # fmt: skip


@pytest.mark.parametrize("text", SLOPES)
def test_derivatives_by_complex_step(text):
    eq, x = parse(text), X
    values = {"x": x, "a": np.float64(1.3), "b": np.float64(0.7)}
    for name in ("a", "b", "x"):
        moved = {k: v + (1e-30j if k == name else 0j) for k, v in values.items()}
        expected = np.imag(eq._evaluate(NUMPY, moved)) / 1e-30
        got = eq.derivative(name).evaluate(NUMPY, values)
        np.testing.assert_allclose(np.broadcast_to(got, X.shape), np.broadcast_to(expected, X.shape), rtol=1e-10)


@pytest.mark.parametrize("text", ["voigt_profile(x - a, b, c)", "erf(a*x) + erfc(b*x)*c", "atan2(a*x, b + c*x)"])
def test_derivatives_by_differences(text):
    eq = parse(text)
    values = {"x": np.linspace(-20, 20, 41), "a": 0.3, "b": 0.8, "c": 0.4}
    for name in values:
        up, down = ({**values, name: values[name] + s} for s in (1e-6, -1e-6))
        expected = (eq.evaluate(NUMPY, up) - eq.evaluate(NUMPY, down)) / 2e-6
        np.testing.assert_allclose(eq.derivative(name).evaluate(NUMPY, values), expected, rtol=1e-6, atol=1e-9)


def test_derivatives_where_one_side_is_infinite():
    eq = parse("where(x > 0, a*log(x), 0) + x**a")
    x = np.array([0.0, 1.0, 2.0])
    np.testing.assert_allclose(eq.derivative("a").evaluate(NUMPY, {"x": x, "a": 2.0}), [0, 0, 5 * np.log(2)])
    second = eq.derivative("a").derivative("a").evaluate(NUMPY, {"x": x, "a": 2.0})
    np.testing.assert_allclose(second, [0, 0, 4 * np.log(2) ** 2])
    slope = parse("logistic(a*x)").derivative("a").evaluate(NUMPY, {"x": np.array([-1e4, 1e4]), "a": 1.0})
    np.testing.assert_array_equal(slope, [0, 0])
    step = parse("max(x, a)").derivative("a").evaluate(NUMPY, {"x": np.array([0.0, 2.0]), "a": 1.0})
    np.testing.assert_array_equal(step, [1, 0])


# ---- passes
GAUSS = "A*exp(-((cos(t)*(x-x0)+sin(t)*(y-y0))**2/(2*sx**2)+(cos(t)*(y-y0)-sin(t)*(x-x0))**2/(2*sy**2)))+b"


def oracle(eq, coords, y, weight, params):
    """J^T J, J^T r, cost of one fit."""
    variables = tuple(coords)
    names = eq.split(variables)[1]
    values = {**coords, **dict(zip(names, params, strict=True))}
    f = np.broadcast_to(eq.evaluate(NUMPY, values), y.shape)
    J = np.empty((len(y), len(names)))
    for k, d in enumerate(eq.derivatives(names)):
        J[:, k] = d.evaluate(NUMPY, values)
    weight = np.ones_like(y) if weight is None else weight
    there = ~np.isnan(y) & ~np.isnan(weight) & (weight != 0)
    r, J = (weight * (f - y))[there], (weight[:, None] * J)[there]
    return J.T @ J, J.T @ r, 0.5 * (r @ r)


def made(eq, coords, fits, n, seed=0, dtype="float64"):
    rng = np.random.default_rng(seed)
    variables, names = tuple(coords), eq.split(tuple(coords))[1]
    p = len(names)
    params = rng.uniform(0.5, 1.5, (fits, p))
    y = rng.normal(size=(fits, n))
    y[rng.uniform(size=y.shape) < 0.1] = np.nan
    weight = rng.uniform(0, 2, size=(fits, n))
    weight[rng.uniform(size=y.shape) < 0.1] = 0
    passes = eq.passes(variables, names, dtype)
    out = np.full((fits, p, p), -7.0), np.full((fits, p), -7.0), np.full(fits, -7.0)
    return passes, y.astype(dtype), weight.astype(dtype), params, out


EQUATIONS = {  # numbers of parameters on both sides of every change of tiles
    "0": "x**2 + x",
    "1": "a*x",
    "3": "A*exp(-x/T) + b",
    "5": "a + b*x + c*sin(d*x + g)",
    "6": "a + b*x + c*sin(d*x + g) + h*x**2",
    "7": "a + b*x + c*sin(d*x + g) + h*x**2 + k*tanh(x)",
    "13": " + ".join(f"c{k}*x**{k}/{math.factorial(k)}" for k in range(13)),
    "21": " + ".join(f"c{k}*x**{k}/{math.factorial(k)}" for k in range(21)),
}


@pytest.mark.parametrize(("count", "dtype"), [*((c, "float64") for c in EQUATIONS), ("3", "float32"), ("7", "float32")])
def test_normal_equations(count, dtype):
    eq, fits, n = parse(EQUATIONS[count]), 4, 301
    x = np.linspace(0.1, 3, n).astype(dtype)
    passes, y, weight, params, (A, g, cost) = made(eq, {"x": x}, fits, n, dtype=dtype)
    which = np.array([3, 0])
    for w in (weight, None):
        A[:], g[:], cost[:] = -7, -7, -7
        passes.normal([x], y, w, params, which, ("linear", 1.0), A, g, cost)
        for k in which:
            expected = oracle(
                eq, {"x": x.astype(float)}, y[k].astype(float), None if w is None else w[k].astype(float), params[k]
            )
            for got, want in zip((A[k], g[k], cost[k]), expected, strict=True):
                np.testing.assert_allclose(got, want, rtol=1e-10, atol=1e-10 * max(np.abs(want).max(initial=0), 1))
        assert (A[[1, 2]] == -7).all() and (g[[1, 2]] == -7).all() and (cost[[1, 2]] == -7).all()
        alone = np.zeros(fits)
        passes.cost([x], y, w, params, which, ("linear", 1.0), alone)
        np.testing.assert_allclose(alone[which], cost[which], rtol=1e-13)


def test_columns_weights_and_shapes():
    eq, shape = parse(GAUSS), (37, 41)
    x, y0 = np.linspace(-1, 1, 37), np.linspace(-2, 2, 41)
    full = [v.ravel() for v in np.meshgrid(x, y0, indexing="ij")]
    n = 37 * 41
    columns = [Column(x, 41), Column(y0, 1, n)]
    assert columns[0].shape == columns[1].shape == (1, n)
    for c, f in zip(columns, full, strict=True):
        np.testing.assert_array_equal(c.full(0, n), f)
        np.testing.assert_array_equal(c.full(30, 90), f[30:90])
    passes, y, weight, params, (A, g, cost) = made(eq, dict(zip("xy", full, strict=True)), 3, n)
    params[:, 0] = 3
    results = []
    stacked = [np.stack([f] * 3) for f in full]
    spread = [np.broadcast_to(f, (3, n)) for f in full]
    for coords in (columns, full, stacked, spread, [f[None] for f in full]):
        for w in (weight, np.broadcast_to(weight[:1], weight.shape)):
            passes.normal(coords, y, w, params, np.arange(3), ("linear", 1.0), A, g, cost)
            results.append((w is weight, A.tobytes(), g.tobytes(), cost.tobytes()))
    assert len(set(results)) == 2, shape
    expected = oracle(eq, dict(zip("xy", full, strict=True)), y[2], weight[0], params[2])
    np.testing.assert_allclose(A[2], expected[0], rtol=1e-9, atol=1e-9)
    read_only = [f.copy() for f in full]
    for f in (*read_only, y, params):
        f.flags.writeable = False
    passes.normal(read_only, y, None, params, np.arange(3), ("linear", 1.0), A, g, cost)
    f, J = passes.rows(columns, weight, params, 1, 100, 777)
    names = eq.split(("x", "y"))[1]
    values = {**dict(zip(names, params[1], strict=True)), "x": full[0][100:777], "y": full[1][100:777]}
    np.testing.assert_allclose(f, eq.evaluate(NUMPY, values), rtol=1e-12)
    for k, d in enumerate(eq.derivatives(names)):
        np.testing.assert_allclose(J[:, k], weight[1, 100:777] * d.evaluate(NUMPY, values), rtol=1e-9, atol=1e-12)
    f, J = passes.rows(columns, None, params, 0, 5, 5)
    assert f.shape == (0,) and J.shape == (0, 7)


@pytest.mark.parametrize("loss", ["linear", "huber", "soft_l1", "cauchy"])
def test_losses_are_those_of_scipy(loss):
    eq, n, scale = parse("A*exp(-x/T) + b"), 50, 0.3
    x = np.linspace(0, 4, n)
    rng = np.random.default_rng(0)
    params = np.array([[2.0, 1.2, 0.4]])
    y = (2 * np.exp(-x) + 0.5 + rng.standard_t(2, n) * 0.3)[None]
    passes = eq.passes(("x",), ("A", "T", "b"))
    A, g, cost = np.zeros((1, 3, 3)), np.zeros((1, 3)), np.zeros(1)
    passes.normal([x], y, None, params, np.arange(1), (loss, scale), A, g, cost)
    # one evaluation of least_squares: its cost and gradient at the start are those here
    result = least_squares(lambda p: passes.rows([x], None, p[None], 0, 0, n)[0] - y[0], params[0],
                           lambda p: passes.rows([x], None, p[None], 0, 0, n)[1], loss=loss, f_scale=scale,
                           max_nfev=1)  # fmt: skip
    np.testing.assert_allclose(cost[0], result.cost, rtol=1e-12)
    np.testing.assert_allclose(g[0], result.grad, rtol=1e-12)
    np.testing.assert_allclose(A[0], result.jac.T @ result.jac, rtol=1e-11)  # jac is scaled by the loss


def test_same_bits_for_any_number_of_threads():
    eq = parse("A*exp(-x/T) + b*sin(x)")
    passes = eq.passes(("x",), ("A", "T", "b"))
    rng = np.random.default_rng(0)
    for fits, n in ((1, 100_001), (5000, 33), (3, 40_000)):
        x, y, params = rng.uniform(0, 3, n), rng.normal(size=(fits, n)), rng.uniform(0.5, 2, (fits, 3))
        bits = set()
        for threads in (1, 2, 3, 7):
            gf.set_num_threads(threads)
            try:
                A, g, cost = np.zeros((fits, 3, 3)), np.zeros((fits, 3)), np.zeros(fits)
                passes.normal([x], y, None, params, np.arange(fits), ("linear", 1.0), A, g, cost)
            finally:
                gf.set_num_threads(None)
            bits.add((A.tobytes(), g.tobytes(), cost.tobytes()))
        assert len(bits) == 1
        expected = oracle(eq, {"x": x}, y[-1], None, params[-1])
        np.testing.assert_allclose(A[-1], expected[0], rtol=1e-10, atol=1e-9)


def test_nan_of_the_model_is_seen_and_of_the_data_is_not():
    eq = parse("log(x)*a + b")
    passes = eq.passes(("x",), ("a", "b"))
    x, y = np.array([-1.0, 1.0, 2.0, np.nan]), np.array([[0.0, 1, 2, 3], [np.nan, 1, 2, np.nan], [np.nan] * 4])
    A, g, cost = np.zeros((3, 2, 2)), np.zeros((3, 2)), np.zeros(3)
    passes.normal([x], y, None, np.ones((3, 2)), np.arange(3), ("linear", 1.0), A, g, cost)
    assert np.isnan(cost[0]) and np.isfinite(cost[1]) and np.isfinite(A[1]).all()
    assert cost[2] == 0 and (A[2] == 0).all()
    passes.normal([x], y, None, np.ones((3, 2)), np.array([], int), ("linear", 1.0), A, g, cost)
    empty = np.zeros((2, 0))
    passes.normal([empty[0]], empty, None, np.ones((2, 2)), np.arange(2), ("linear", 1.0), A, g, cost)
    assert (cost[:2] == 0).all() and (A[:2] == 0).all()


def test_equation_without_variables():
    passes = parse("a + 2*b").passes((), ("a", "b"))
    A, g, cost = np.zeros((1, 2, 2)), np.zeros((1, 2)), np.zeros(1)
    passes.normal([], np.ones((1, 5)), None, np.ones((1, 2)), np.arange(1), ("linear", 1.0), A, g, cost)
    np.testing.assert_allclose(A[0], [[5, 10], [10, 20]])


# ---- sympy
def test_sympy():
    sympy = pytest.importorskip("sympy")
    x, a, b, y = sympy.symbols("x a b y")
    cases = [
        a * sympy.exp(-(x**2) / (2 * b**2)) + 1,
        sympy.sin(a * x) / b - sympy.sqrt(x) + sympy.Rational(1, 3) * sympy.pi,
        sympy.Abs(x - a) + sympy.Max(x, a, b) + sympy.Heaviside(x - 1) + sympy.sign(x - a) + sympy.erf(x),
        sympy.Piecewise((x, x < 1), (x**2, x < 1.5), (a, True)),
        sympy.log(x, 10) + sympy.E**x + sympy.atan2(x, a) + (a + b) ** -2 + x ** sympy.Rational(-1, 2),
        sympy.Integral(x, x).doit(),
    ]
    values = {"x": X, "a": 1.3, "b": 0.7}
    for case in cases:
        expected = sympy.lambdify((x, a, b), case, modules=["scipy", "numpy"])(X, 1.3, 0.7)
        np.testing.assert_allclose(parse(case).evaluate(NUMPY, values), expected, rtol=1e-13)
    assert parse(sympy.Eq(y, a * x)).left == "y" and parse(sympy.Eq(y, a * x)).names == ("a", "x")
    for bad, message in ((sympy.gamma(x), "gamma cannot stand"), (sympy.oo * x, "no finite number"),
                         (sympy.Function("f")(x), "cannot stand"), (sympy.I * x, "ImaginaryUnit"),
                         (sympy.true, "cannot stand"), (sympy.zoo * x, "finite|cannot")):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            parse(bad)


# ---- frameworks
EVERYTHING = (
    "a*exp(-x) + log(x)*log2(x)*log10(x) + sqrt(x) + sin(x)*cos(x)*tan(x) + asin(x/9) + acos(x/9) + atan(x) + "
    "atan2(x, a) + sinh(x) + cosh(x) + tanh(x) + abs(x - 1) + sign(x - 1) + heaviside(x - 1) + erf(x) + erfc(x) + "
    "min(x, a) + max(x, 1) + where(x < a, x, 2) + x**a + x**3 + x**-2 + voigt_profile(x, a, 0.5) + logistic(x)"
)


def test_every_function_is_in_it():
    assert {f for f in FUNCTIONS if f + "(" not in EVERYTHING} <= {"pow", "hypot", "exp2"}


@pytest.mark.parametrize("framework", ["torch", "jax", "tensorflow"])
def test_on_frameworks(framework):
    module = pytest.importorskip(framework)
    eq, a = parse(EVERYTHING), 1.25
    x = np.linspace(0.1, 2.0, 12)
    expected = eq.evaluate(NUMPY, {"x": x, "a": a})
    slope = eq.derivative("x").evaluate(NUMPY, {"x": x, "a": a})
    if framework == "torch":
        t = module.tensor(x, requires_grad=True)
        got = eq.evaluate(dispatch.of(framework), {"x": t, "a": a})
        (grad,) = module.autograd.grad(got.sum(), t)
        got = got.detach()
    elif framework == "jax":
        with module.enable_x64(True):
            F = dispatch.of(framework)
            t = module.numpy.asarray(x)
            got = module.jit(lambda v: eq.evaluate(F, {"x": v, "a": a}))(t)
            grad = module.grad(lambda v: eq.evaluate(F, {"x": v, "a": a}).sum())(t)
    else:
        t = module.constant(x)
        with module.GradientTape() as tape:
            tape.watch(t)
            got = eq.evaluate(dispatch.of(framework), {"x": t, "a": a})
        grad = tape.gradient(got, t)
    np.testing.assert_allclose(np.asarray(got), expected, rtol=1e-10)
    np.testing.assert_allclose(np.asarray(grad), slope, rtol=1e-9, atol=1e-9)


def test_second_derivatives_and_transforms_on_torch():
    torch = pytest.importorskip("torch")
    eq, F = parse("a*exp(-x/t) + where(x < 1, x**a, log(x)) + min(x, t) + voigt_profile(x, a, t)"), dispatch.of("torch")
    x = torch.linspace(0.1, 2, 5, dtype=torch.float64)
    a, t = (torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in (1.3, 0.7))

    def f(a, t):
        return eq.evaluate(F, {"x": x, "a": a, "t": t})

    assert torch.autograd.gradcheck(f, (a, t)) and torch.autograd.gradgradcheck(f, (a, t))
    many = torch.func.vmap(f, (0, None))(torch.stack([a, 2 * a]), t)
    torch.testing.assert_close(many[1], f(2 * a, t))
    torch.testing.assert_close(torch.compile(f, fullgraph=True, backend="eager")(a, t), f(a, t))
    single = eq.evaluate(F, {"x": x.float(), "a": 1.3, "t": 0.7})
    assert single.dtype == torch.float32


def test_a_name_without_a_value():
    with pytest.raises(ValueError, match="values has no x, which 'a\\*x' needs"):
        parse("a*x", ("x",)).evaluate(dispatch.of("numpy"), {"a": 1.0})


@pytest.mark.parametrize("count", [4, 5, 10])
def test_sums_of_many_parameters(count):
    """Products of more than 12 rows are loops."""
    text = " + ".join(f"a{i}*exp(-(x-m{i})**2/(2*s{i}**2))" for i in range(count))
    formula = parse(text, ["x"])
    names = formula.split(["x"])[1]
    rng = np.random.default_rng(count)
    n, p = 1000, len(names)
    x, y, params = np.linspace(0, 1, n), rng.normal(size=(2, n)), rng.uniform(0.3, 1, (2, p))
    A, g, cost = np.zeros((2, p, p)), np.zeros((2, p)), np.zeros(2)
    passes = formula.passes(("x",), names)
    passes.normal([x], y, None, params, np.arange(2), ("linear", 1.0), A, g, cost)
    for k in range(2):
        f, J = passes.rows([x], None, params, k, 0, n)
        np.testing.assert_allclose(A[k], J.T @ J, rtol=1e-10, atol=1e-10 * np.abs(A).max())
        np.testing.assert_allclose(g[k], J.T @ (f - y[k]), rtol=1e-9, atol=1e-10 * np.abs(g).max())
        np.testing.assert_allclose(cost[k], 0.5 * ((f - y[k]) ** 2).sum(), rtol=1e-12)


def test_many_functions_are_compiled_in_a_moment():
    """Written out, 100 sines took 4.5 s, 500 a minute."""
    text = " + ".join(f"a{k % 5}*sin({k + 1}*x)*erf(x) + b**x*exp(-{k + 1}*x)" for k in range(60))
    formula = parse(text, ["x"])
    names = formula.split(["x"])[1]
    x, params = np.linspace(0.1, 1, 50), np.linspace(0.5, 1.5, len(names))[None]
    passes = formula.passes(("x",), names)
    began = time.process_time()
    f, J = passes.rows([x], None, params, 0, 0, 50)
    assert time.process_time() - began < 10
    values = dict(zip(names, params[0], strict=True)) | {"x": x}
    expected = formula.evaluate(NUMPY, values)
    np.testing.assert_allclose(f, expected, rtol=1e-12, atol=1e-12)
    for name, column in zip(names, J.T, strict=True):
        expected = formula.derivative(name).evaluate(NUMPY, values)
        np.testing.assert_allclose(column, np.broadcast_to(expected, 50), rtol=1e-11, atol=1e-11)


def test_too_large_to_compile():
    sympy = pytest.importorskip("sympy")
    x = sympy.Symbol("x")
    large = sympy.Add(*[x] * 100_000, evaluate=False)
    with pytest.raises(ValueError, match=r"gf.curve_fit: an equation of more than \d+ operations"):
        parse(large, ["x"])
    node = ex.symbol("x")
    for k in range(5000):
        node = ex.call("sin", ex.mul(ex.add(node, ex.symbol("a")), ex.number(k + 0.5)))
    for deep in (node, ex.add(node, ex.substituted(node, {"x": ex.call("exp", ex.symbol("x"))}))):
        with pytest.raises(ValueError, match=r"operations with its derivatives, at most \d+"):
            equation.Equation(deep, ("a", "x"), "large").passes(("x",), ("a",))
