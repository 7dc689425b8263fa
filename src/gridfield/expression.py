"""Expressions as a graph: equal parts are one node, numbers are folded, derivatives are graphs again.

A `Node` is an operation, its arguments and a number or a name. Nodes are made by the functions of this module only,
which simplify as they go and keep each node once, so that "is the same expression" is `is`. Nothing here recurses into
an argument: a sum of thousands of terms is a deep graph.

Derivatives are taken in reverse, adjoints pushed from the result to its arguments (B. Speelpenning, "Compiling fast
partial derivatives of functions given by algorithms", thesis, University of Illinois, 1980): the entries of a gradient
share their factors, so that a value with seven derivatives is about three times the value.
"""

from __future__ import annotations

import hashlib
import math
import weakref
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from .cached import lock

# operations by the number of their arguments; "number" and "symbol" have none, "power" has a whole exponent as data
UNARY = (
    "neg", "sqrt", "exp", "log", "log2", "log10", "safe_log", "sin", "cos", "tan", "asin", "acos", "atan", "sinh",
    "cosh", "tanh", "abs", "sign", "heaviside", "erf", "erfc",
)  # fmt: skip
BINARY = ("add", "sub", "mul", "div", "pow", "atan2", "min", "max", "lt", "le", "faddeeva_re", "faddeeva_im")
COMMUTES = {"add", "mul", "min", "max"}
MOST = 20_000  # operations of an equation with its derivatives: they take 17 s to compile
UNROLLED = 64  # whole exponents up to this are products

LN2, LN10, ROOT_PI = math.log(2), math.log(10), math.sqrt(math.pi)


class Node:
    """An operation on nodes. `digest` orders and names it, the same in every process."""

    __slots__ = ("__weakref__", "args", "data", "digest", "op")

    def __init__(self, op: str, args: tuple[Node, ...], data: float | str | None, digest: bytes) -> None:
        self.op, self.args, self.data, self.digest = op, args, data, digest

    @property
    def number(self) -> float | None:
        """The number it is, if it is one."""
        return self.data if self.op == "number" else None  # type: ignore[return-value]

    def __repr__(self) -> str:
        return f"Node({self.op}, {self.data!r}, {len(self.args)} arguments)"

    def __reduce__(self) -> object:
        nodes = ordered([self])
        place = {id(n): i for i, n in enumerate(nodes)}
        return _rebuilt, (tuple((n.op, tuple(place[id(a)] for a in n.args), n.data) for n in nodes),)


_known: weakref.WeakValueDictionary[bytes, Node] = weakref.WeakValueDictionary()
_lock = lock()


def _rebuilt(rows: Sequence[tuple[str, tuple[int, ...], float | str | None]]) -> Node:
    nodes: list[Node] = []
    for op, args, data in rows:
        nodes.append(_node(op, tuple(nodes[i] for i in args), data))
    return nodes[-1]


def _node(op: str, args: tuple[Node, ...] = (), data: float | str | None = None) -> Node:
    """The one node of an operation on arguments."""
    digest = hashlib.blake2b(f"{op} {data!r} ".encode() + b"".join(a.digest for a in args), digest_size=16).digest()
    with _lock:
        node = _known.get(digest)
        if node is None:
            node = _known[digest] = Node(op, args, data, digest)
        return node


def number(x: float) -> Node:
    """A constant."""
    return _node("number", (), float(x) + 0.0)  # no -0.0, which would be another


def symbol(name: str) -> Node:
    """A variable or parameter."""
    return _node("symbol", (), name)


ZERO, ONE, HALF = number(0), number(1), number(0.5)


def ordered(roots: Iterable[Node]) -> list[Node]:
    """All nodes below, arguments before what uses them; in an order that depends on the expressions alone."""
    seen: set[int] = set()
    out: list[Node] = []
    for root in roots:
        stack = [(root, False)]
        while stack:
            node, done = stack.pop()
            if done:
                out.append(node)
            elif id(node) not in seen:
                seen.add(id(node))
                stack.append((node, True))
                stack.extend((a, False) for a in reversed(node.args) if id(a) not in seen)
    return out


def symbols(roots: Iterable[Node]) -> list[str]:
    """The names in it, in order of first appearance as the graph was written."""
    return [str(n.data) for n in ordered(roots) if n.op == "symbol"]


# ---- arithmetic
def _binary(op: str, a: Node, b: Node) -> Node:
    if op in COMMUTES and (b.op == "number", a.digest) > (a.op == "number", b.digest):
        a, b = b, a
    return _node(op, (a, b))


def add(a: Node, b: Node) -> Node:
    """a + b."""
    x, y = a.number, b.number
    if x is not None and y is not None:
        return number(x + y)
    if x == 0:
        return b
    if y == 0:
        return a
    if a is b:
        return mul(number(2), a)
    if b.op == "neg":
        return sub(a, b.args[0])
    if a.op == "neg":
        return sub(b, a.args[0])
    return _binary("add", a, b)


def sub(a: Node, b: Node) -> Node:
    """a - b."""
    x, y = a.number, b.number
    if x is not None and y is not None:
        return number(x - y)
    if y == 0:
        return a
    if x == 0:
        return neg(b)
    if a is b:
        return ZERO
    if b.op == "neg":
        return add(a, b.args[0])
    return _node("sub", (a, b))


def neg(a: Node) -> Node:
    """-a."""
    if a.number is not None:
        return number(-a.number)
    if a.op == "neg":
        return a.args[0]
    if a.op == "sub":
        return sub(a.args[1], a.args[0])
    return _node("neg", (a,))


def mul(a: Node, b: Node) -> Node:
    """a b."""
    if b.number is not None:
        a, b = b, a
    x, y = a.number, b.number
    if x is not None:
        if y is not None:
            return number(x * y)
        if x in (0.0, 1.0, -1.0):
            return ZERO if x == 0 else b if x == 1 else neg(b)
        if b.op == "neg":
            return mul(number(-x), b.args[0])
        if b.op == "mul" and b.args[0].number is not None:
            return mul(number(x * b.args[0].number), b.args[1])
        return _node("mul", (a, b))
    for p, q in ((a, b), (b, a)):
        if p.op == "neg":
            return neg(mul(p.args[0], q))
        if p.op == "mul" and p.args[0].number is not None:
            return mul(p.args[0], mul(p.args[1], q))
    (base, m), (other, n) = _base(a), _base(b)
    if base is other and m > 0 and n > 0 and m + n <= UNROLLED:
        return power(base, m + n)
    return _binary("mul", a, b)


def _base(a: Node) -> tuple[Node, int]:
    return (a.args[0], int(a.data)) if a.op == "power" else (a, 1)  # type: ignore[arg-type]


def div(a: Node, b: Node) -> Node:
    """a / b."""
    x, y = a.number, b.number
    if x is not None and y is not None:
        return number(_folded(lambda: x / y, x, y))
    if y is not None and abs(y) == 1:
        return a if y == 1 else neg(a)
    if x == 0:
        return ZERO
    if a is b:
        return ONE
    if a.op == "neg":
        return neg(div(a.args[0], b))
    if b.op == "neg":
        return neg(div(a, b.args[0]))
    return _node("div", (a, b))


def power(a: Node, n: int) -> Node:
    """a**n for a whole n."""
    if n == 0:
        return ONE
    if n == 1:
        return a
    x = a.number
    if x is not None:
        return number(_folded(lambda: x**n, x))
    if a.op == "power" and abs(int(a.data) * n) <= UNROLLED:  # type: ignore[arg-type]
        return power(a.args[0], int(a.data) * n)  # type: ignore[arg-type]
    if a.op == "neg":
        inner = power(a.args[0], n)
        return neg(inner) if n % 2 else inner
    return _node("power", (a,), n)


def pow(a: Node, b: Node) -> Node:
    """a**b."""
    x, y = a.number, b.number
    if x is not None and y is not None:
        return number(_folded(lambda: math.pow(x, y), x, y))
    if y is not None:
        if y == round(y) and abs(y) <= UNROLLED:
            return power(a, int(y))
        if y == 0.5:
            return call("sqrt", a)
        if y == -0.5:
            return div(ONE, call("sqrt", a))
    if x == 1:
        return ONE
    return _node("pow", (a, b))


def _folded(f: Callable[[], float], *of: float) -> float:
    """The value; where there is none, as arrays have it."""
    try:
        return float(f())
    except OverflowError:
        return math.inf
    except ZeroDivisionError:
        return math.nan if of[0] == 0 and len(of) == 2 else math.inf
    except (ValueError, TypeError):
        return math.nan


_FOLDS: dict[str, Callable[..., Any]] = {
    "sqrt": math.sqrt, "exp": math.exp, "log": math.log, "log2": math.log2, "log10": math.log10, "sin": math.sin,
    "cos": math.cos, "tan": math.tan, "asin": math.asin, "acos": math.acos, "atan": math.atan, "sinh": math.sinh,
    "cosh": math.cosh, "tanh": math.tanh, "abs": abs, "erf": math.erf, "erfc": math.erfc, "atan2": math.atan2,
    "min": min, "max": max, "sign": lambda x: (x > 0) - (x < 0), "heaviside": lambda x: 0.5 * ((x > 0) - (x < 0) + 1),
    "safe_log": lambda x: math.log(x) if x else 0.0,
}  # fmt: skip


def call(op: str, *args: Node) -> Node:
    """A function of the tables above."""
    numbers = [a.number for a in args]
    if op in _FOLDS and None not in numbers:
        return number(_folded(lambda: _FOLDS[op](*numbers), *numbers))  # type: ignore[arg-type]
    if op in ("abs", "cos", "cosh") and args[0].op == "neg":
        return call(op, args[0].args[0])
    if op in ("min", "max") and args[0] is args[1]:
        return args[0]
    return _binary(op, *args) if op in BINARY else _node(op, args)


def where(condition: Node, a: Node, b: Node) -> Node:
    """a where the condition ("lt" or "le") holds, else b."""
    return a if a is b else _node("where", (condition, a, b))


# ---- derivatives
def _through_where(node: Node) -> tuple[Node, Node, Node] | None:
    """(condition, one, other) of what is one or the other."""
    if node.op == "where":
        return node.args  # type: ignore[return-value]
    if node.op in ("min", "max"):
        a, b = node.args
        return (call("le", a, b), a, b) if node.op == "min" else (call("le", b, a), a, b)
    return None


def _faddeeva(node: Node, g: Node) -> list[Node]:
    """By w' = -2 z w + 2 i / sqrt(pi) (Abramowitz and Stegun, 7.1.20).

    Re w' = -2 (x u - y v), Im w' = -2 (x v + y u) + 2 / sqrt(pi).
    """
    x, y = node.args
    u, v = call("faddeeva_re", x, y), call("faddeeva_im", x, y)
    real = mul(number(-2), sub(mul(x, u), mul(y, v)))
    imag = sub(number(2 / ROOT_PI), mul(number(2), add(mul(x, v), mul(y, u))))
    return [mul(g, real), neg(mul(g, imag))] if node.op == "faddeeva_re" else [mul(g, imag), mul(g, real)]


def _pull(node: Node, g: Node) -> list[Node]:
    """The adjoints of a node's arguments, from its own: g times each partial derivative."""
    op, args = node.op, node.args
    x = args[0]
    if op in ("add", "sub"):
        return [g, g if op == "add" else neg(g)]
    if op == "mul":
        return [mul(g, args[1]), mul(g, x)]
    if op == "div":
        return [div(g, args[1]), neg(div(mul(g, node), args[1]))]
    if op == "neg":
        return [neg(g)]
    if op == "power":
        n = int(node.data)  # type: ignore[arg-type]
        return [mul(g, mul(number(n), power(x, n - 1)))]
    if op == "pow":  # x**a log(x) is 0 at x = 0, where log alone is not
        return [mul(g, mul(args[1], pow(x, sub(args[1], ONE)))), mul(g, mul(node, call("safe_log", x)))]
    if op == "atan2":
        square = add(power(x, 2), power(args[1], 2))
        return [div(mul(g, args[1]), square), neg(div(mul(g, x), square))]
    if op.startswith("faddeeva"):
        return _faddeeva(node, g)
    return [_pull_unary(node, x, g)]


def _pull_unary(node: Node, x: Node, g: Node) -> Node:
    match node.op:
        case "exp":
            return mul(g, node)
        case "log" | "safe_log":
            return div(g, x)
        case "log2" | "log10":
            return div(mul(number(1 / (LN2 if node.op == "log2" else LN10)), g), x)
        case "sqrt":
            return div(mul(HALF, g), node)
        case "sin":
            return mul(g, call("cos", x))
        case "cos":
            return neg(mul(g, call("sin", x)))
        case "tan":
            return mul(g, add(ONE, power(node, 2)))
        case "asin":
            return div(g, call("sqrt", sub(ONE, power(x, 2))))
        case "acos":
            return neg(div(g, call("sqrt", sub(ONE, power(x, 2)))))
        case "atan":
            return div(g, add(ONE, power(x, 2)))
        case "sinh":
            return mul(g, call("cosh", x))
        case "cosh":
            return mul(g, call("sinh", x))
        case "tanh":
            return mul(g, sub(ONE, power(node, 2)))
        case "abs":
            return mul(g, call("sign", x))
        case "erf" | "erfc":
            bell = mul(number((2 if node.op == "erf" else -2) / ROOT_PI), call("exp", neg(power(x, 2))))
            return mul(g, bell)
    return ZERO  # sign, heaviside


def gradient(root: Node, names: Sequence[str]) -> list[Node]:
    """The derivatives in the symbols of these names."""
    kept: dict[int, list[Node]] = {}
    # what is one or the other has the derivative of one or the other: an adjoint pushed into the branch that was not
    # taken would be 0 times its derivative, which may be infinite
    choices = [n for n in ordered([root]) if n is not root and _through_where(n)]
    for node in [*choices, root]:
        kept[id(node)] = _gradient(node, names, kept)
    return kept[id(root)]


def _gradient(root: Node, names: Sequence[str], kept: dict[int, list[Node]]) -> list[Node]:
    choice = _through_where(root)
    if choice:
        condition, *branches = choice
        a, b = (kept.get(id(n)) or _gradient(n, names, kept) for n in branches)
        return [where(condition, p, q) for p, q in zip(a, b, strict=True)]
    order = ordered([root])
    wanted = set(names)
    depends: set[int] = set()
    for n in order:
        if (n.op == "symbol" and n.data in wanted) or any(id(a) in depends for a in n.args):
            depends.add(id(n))
    adjoint: dict[int, Node] = {id(root): ONE}
    out = dict.fromkeys(names, ZERO)
    for node in reversed(order):
        g = adjoint.get(id(node))
        if g is None or g is ZERO or id(node) not in depends:
            continue
        if node.op == "symbol":
            out[str(node.data)] = g
        elif id(node) in kept:
            for name, d in zip(names, kept[id(node)], strict=True):
                if d is not ZERO:
                    # symbols are collected where their own adjoint is complete, so this part is added apart
                    out[name + " "] = add(out.get(name + " ", ZERO), mul(g, d))
        else:
            for a, h in zip(node.args, _pull(node, g), strict=True):
                if id(a) in depends:
                    adjoint[id(a)] = add(adjoint[id(a)], h) if id(a) in adjoint else h
    return [add(out[name], out.get(name + " ", ZERO)) for name in names]


def substituted(root: Node, values: dict[str, Node]) -> Node:
    """The expression with symbols replaced."""
    new: dict[int, Node] = {}
    for n in ordered([root]):
        if n.op == "symbol":
            new[id(n)] = values.get(str(n.data), n)
        else:
            new[id(n)] = rebuilt(n, [new[id(a)] for a in n.args])
    return new[id(root)]


def rebuilt(node: Node, args: Sequence[Node]) -> Node:
    """The same operation on other arguments, simplified."""
    if node.op == "number":
        return node
    if node.op == "power":
        return power(args[0], int(node.data))  # type: ignore[arg-type]
    simple = {"add": add, "sub": sub, "mul": mul, "div": div, "neg": neg, "pow": pow, "where": where}
    return simple[node.op](*args) if node.op in simple else call(node.op, *args)
