"""Equations: what a user writes, as an expression graph that differentiates, evaluates and compiles.

Text is read by Python's own parser and then walked by a list of what is allowed: names, numbers, + - * / **, and calls
of the functions in `FUNCTIONS`. Nothing is ever executed, looked up or formatted; what is not on the list is an error
that points at it.
"""

from __future__ import annotations

import ast
import math
import re
import sys
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from . import expression as ex
from .cached import cached_property
from .expression import Node, call, number
from .formulas import ALIASES, CONSTANTS, FUNCTIONS

if TYPE_CHECKING:
    from .cpu.passes import Passes
    from .ops import Face

LONGEST, DEEPEST = 10_000, 100  # characters; brackets within brackets
SIGNS = str.maketrans({"−": "-", "–": "-", "×": "*", "·": "*", "⋅": "*", "÷": "/"})  # as on paper; one for one
SUPERSCRIPTS = "⁰¹²³⁴⁵⁶⁷⁸⁹"
CONDITIONS = {ast.Lt: ("lt", False), ast.LtE: ("le", False), ast.Gt: ("lt", True), ast.GtE: ("le", True)}


class _Reader:
    """One text, being read."""

    def __init__(self, text: str, variables: Sequence[str] | None, where: str) -> None:
        self.given, self.where, self.names, self.shift = text, where, {}, 0
        self.variables = set(variables or ())

    def fail(self, what: str, at: Any = None) -> NoReturn:
        """Quote the equation, with a mark under the place."""
        text, column = self.given, None
        if at is not None:
            row = getattr(at, "lineno", 1) or 1
            offset = getattr(at, "col_offset", None)
            rows = text.split("\n")
            text = rows[row - 1] if row <= len(rows) else text
            if offset is not None:  # bytes of the line as it was parsed
                line = self.line(row)
                column = len(line.encode()[:offset].decode(errors="ignore")) + (self.shift if row == 1 else 0)
        if len(text) > 200:
            first = max(0, (column or 0) - 100)
            text, column = text[first : first + 200], None if column is None else column - first
        mark = "" if column is None else "\n    " + " " * column + "^"
        raise ValueError(f"{self.where}: {what}\n    {text}{mark}")

    def line(self, row: int) -> str:
        """A line as it was parsed."""
        rows = self.parsed.split("\n")
        return rows[row - 1] if row <= len(rows) else ""

    def tree(self) -> tuple[ast.expr, str | None, tuple[str, ...] | None]:
        """What is right of "=", what is left of it, and its arguments if it has some: f(x, y) = ..."""
        text = self.given
        if len(text) > LONGEST:
            text = self.given = text[:200]
            self.fail(f"an equation of more than {LONGEST} characters")
        for s in SUPERSCRIPTS:
            if s in text:
                self.parsed = text
                place = ast.Constant(0, lineno=1, col_offset=len(text[: text.index(s)].encode()))
                self.fail(f"a power is written **{SUPERSCRIPTS.index(s)}, not {s}", None if "\n" in text else place)
        text = text.translate(SIGNS)
        left, arguments, self.parsed = None, None, text
        found = _equals(text)
        if found is not None:
            head = re.fullmatch(r"\s*([^\W\d]\w*)\s*(?:\(([\w\s,]*)\))?\s*", text[:found])
            if head is None:
                self.fail("what is left of = should be one name, such as y or f(x, y)")
            left = head[1]
            if head[2] is not None:
                arguments = tuple(a.strip() for a in head[2].split(",") if a.strip())
            text = text[found + 1 :]
            self.shift = found + 1
        stripped = text.lstrip()
        self.shift += len(text) - len(stripped)
        if "\n" in text[: len(text) - len(stripped)] or (found is not None and "\n" in self.given[:found]):
            self.given, self.shift = stripped, 0
        self.parsed = stripped.rstrip()
        if not self.parsed:
            self.fail("an empty equation")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of 2(x) and 1if, which are refused below
                return ast.parse(self.parsed, mode="eval").body, left, arguments
        except SyntaxError as error:
            self.syntax(error)
        except (RecursionError, MemoryError):
            self.fail("an equation too deeply nested to be read")
        except ValueError as error:
            self.fail(f"not an equation ({error})")

    def syntax(self, error: SyntaxError) -> NoReturn:
        """What Python's parser could not read."""
        what, near = f"not an equation ({error.msg})", self.line(error.lineno or 1)[: error.end_offset or 0]
        if re.search(r"\d\s*[^\W\d]\w*$", near) or "decimal literal" in str(error.msg):
            what += "; multiplication is written *"
        row = self.line(error.lineno or 1)
        offset = min(max((error.offset or 1) - 1, 0), len(row))
        self.fail(what, ast.Constant(0, lineno=error.lineno or 1, col_offset=len(row[:offset].encode())))

    def node(self, tree: ast.expr, depth: int = 0) -> Node:
        """The expression of a tree."""
        if depth > DEEPEST:
            self.fail(f"an equation nested deeper than {DEEPEST} levels", tree)
        out = self.read(tree, depth)
        if out.number is not None and not math.isfinite(out.number):
            self.fail("this is no finite number", tree)
        return out

    def read(self, tree: ast.expr, depth: int) -> Node:
        """One level of it."""
        match tree:
            case ast.Constant(value=bool()) | ast.Constant(value=complex()):
                self.fail("only real numbers can stand in an equation", tree)
            case ast.Constant(value=int() | float() as value):
                try:
                    return number(float(value))
                except OverflowError:
                    self.fail("a number too large for float64", tree)
            case ast.Constant():
                self.fail("only numbers and names can stand in an equation", tree)
            case ast.Name():
                return self.name(tree)
            case ast.UnaryOp(op=ast.UAdd()):
                return self.node(tree.operand, depth + 1)
            case ast.UnaryOp(op=ast.USub()):
                return ex.neg(self.node(tree.operand, depth + 1))
            case ast.BinOp():
                return self.chain(tree, depth)
            case ast.Call():
                return self.called(tree, depth)
            case ast.Compare():
                self.fail("a comparison can only be the first argument of where(condition, a, b)", tree)
            case ast.Attribute():
                self.fail("attributes (names with a dot) cannot stand in an equation", tree)
            case ast.NamedExpr() | ast.Lambda() | ast.IfExp() | ast.BoolOp():
                self.fail("statements of Python cannot stand in an equation; for cases, where(condition, a, b)", tree)
            case ast.Subscript():
                self.fail("subscripts cannot stand in an equation", tree)
        self.fail(f"only + - * / **, numbers, names and functions can stand in an equation, not {_kind(tree)}", tree)

    def name(self, tree: ast.Name) -> Node:
        """A symbol or constant."""
        name = tree.id
        if name in CONSTANTS and name not in self.variables:
            return number(CONSTANTS[name])
        if name.startswith("__"):
            self.fail(f"{name!r} is no name for a parameter", tree)
        if name not in self.variables and (name in FUNCTIONS or name in ALIASES):
            self.fail(f"{name} is a function: write {name}(...)", tree)
        self.names.setdefault(name, None)
        return ex.symbol(name)

    def chain(self, tree: ast.expr, depth: int) -> Node:
        """a + b - c ...: the left side of a left side, however far, without going deeper."""
        ops: list[ast.BinOp] = []
        while isinstance(tree, ast.BinOp):
            ops.append(tree)
            tree = tree.left
        total = self.node(tree, depth + 1)
        for op in reversed(ops):
            right = self.node(op.right, depth + 1)
            match op.op:
                case ast.Add():
                    total = ex.add(total, right)
                case ast.Sub():
                    total = ex.sub(total, right)
                case ast.Mult():
                    total = ex.mul(total, right)
                case ast.Div():
                    total = ex.div(total, right)
                case ast.Pow():
                    total = ex.pow(total, right)
                case ast.BitXor():
                    self.fail("a power is written **, not ^", _after(op.left))
                case _:
                    self.fail(f"only + - * / ** can stand between terms, not {_kind(op.op)}", _after(op.left))
            if total.number is not None and not math.isfinite(total.number):
                self.fail("this is no finite number", op)
        return total

    def called(self, tree: ast.Call, depth: int) -> Node:
        """A function of the list."""
        if not isinstance(tree.func, ast.Name):
            what = "only functions can be called by ( ); multiplication is written *"
            if isinstance(tree.func, ast.Attribute):
                what = "attributes (names with a dot) cannot stand in an equation; write exp(x), not np.exp(x)"
            self.fail(what, tree)
        given = tree.func.id
        name = ALIASES.get(given, given)
        if name not in FUNCTIONS:
            known = ", ".join(sorted(FUNCTIONS))
            self.fail(f"unknown function {given!r} (multiplication is written *); there are {known}", tree)
        least, most, f = FUNCTIONS[name]
        if tree.keywords:
            self.fail(f"{given} takes no named arguments", tree)
        args = list(tree.args)
        if name == "heaviside" and len(args) == 2 and isinstance(args[1], ast.Constant) and args[1].value == 0.5:
            args = args[:1]
        if not least <= len(args) <= most:
            count = str(least) if least == most else f"{least} to {most}"
            self.fail(f"{given} takes {count} argument{'s' * (count != '1')}, got {len(args)}", tree)
        if name == "where":
            return f(self.condition(args[0], depth + 1), *(self.node(a, depth + 1) for a in args[1:]))
        return f(*(self.node(a, depth + 1) for a in args))

    def condition(self, tree: ast.expr, depth: int) -> Node:
        """a < b."""
        if not isinstance(tree, ast.Compare) or len(tree.ops) != 1 or type(tree.ops[0]) not in CONDITIONS:
            self.fail("the first argument of where should be one comparison by < <= > >=", tree)
        op, swapped = CONDITIONS[type(tree.ops[0])]
        a, b = self.node(tree.left, depth + 1), self.node(tree.comparators[0], depth + 1)
        return call(op, b, a) if swapped else call(op, a, b)


def _after(tree: ast.expr) -> ast.expr:
    """The place behind it."""
    return ast.Constant(0, lineno=tree.end_lineno or 1, col_offset=tree.end_col_offset or 0)


def _kind(tree: ast.AST) -> str:
    return type(tree).__name__


def _equals(text: str) -> int | None:
    """Where the first = is that is an equation's: outside of brackets, no comparison, no :=."""
    depth = 0
    for i, c in enumerate(text):
        depth += (c in "([{") - (c in ")]}")
        if c == "=" and depth == 0 and text[i - 1 : i] not in ("<", ">", "!", "=", ":") and text[i + 1 : i + 2] != "=":
            return i
    return None


class Equation:
    """A formula, immutable: its value, derivatives, and compiled passes over data. Made by `parse`."""

    def __init__(
        self, root: Node, names: Sequence[str], text: str, left: str | None = None,
        arguments: tuple[str, ...] | None = None,
    ) -> None:  # fmt: skip
        self.root, self.names, self.text, self.left, self.arguments = root, tuple(names), text, left, arguments

    def __repr__(self) -> str:
        return f"Equation({self.text!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Equation) and (self.root, self.names) == (other.root, other.names)

    def __hash__(self) -> int:
        return hash((self.root.digest, self.names))

    def split(self, variables: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The variables that occur, in the order given; the other names, which are parameters."""
        return tuple(v for v in variables if v in self.names), tuple(n for n in self.names if n not in variables)

    def derivative(self, name: str) -> Equation:
        """In one of the names."""
        (root,) = ex.gradient(self.root, [name])
        return Equation(root, self.names, f"d({self.text})/d{name}")

    def derivatives(self, names: Sequence[str]) -> tuple[Equation, ...]:
        """In several, which share what they have in common."""
        roots = ex.gradient(self.root, list(names))
        return tuple(Equation(r, self.names, f"d({self.text})/d{n}") for r, n in zip(roots, names, strict=True))

    def rename(self, names: Mapping[str, str]) -> Equation:
        """The equation with other names."""
        root = ex.substituted(self.root, {old: ex.symbol(new) for old, new in names.items()})
        new = tuple(dict.fromkeys(names.get(n, n) for n in self.names))
        return Equation(root, new, self.text, self.left, self.arguments)

    @cached_property
    def _steps(self) -> list[Node]:
        return ex.ordered([self.root])

    def evaluate(self, F: Face, values: Mapping[str, Any]) -> Any:
        """The value on arrays of the face's framework, broadcast against each other."""
        missing = [str(n.data) for n in self._steps if n.op == "symbol" and n.data not in values]
        if missing:
            raise ValueError(f"Equation.evaluate: values has no {', '.join(missing)}, which {self.text!r} needs")
        if F.name == "numpy":
            with np.errstate(all="ignore"):
                return self._evaluate(F, {n: _real(values[n]) for n in self.names if n in values})
        return self._evaluate(F, values)

    def _evaluate(self, F: Face, values: Mapping[str, Any]) -> Any:
        from .faces.functions import apply

        found: dict[int, Any] = {}
        like = next((v for v in values.values() if hasattr(v, "shape") and len(v.shape)), None)
        like = next((v for v in values.values() if hasattr(v, "shape")), None) if like is None else like
        for n in self._steps:
            if n.op == "symbol":
                found[id(n)] = values[str(n.data)]
            elif n.op == "number":
                found[id(n)] = n.data
            else:
                found[id(n)] = apply(F, n.op, n.data, [found[id(a)] for a in n.args], like)
        return found[id(self.root)]

    def passes(self, variables: Sequence[str], parameters: Sequence[str], dtype: str = "float64") -> Passes:
        """Compiled passes over data of a type: value and derivatives, summed up as a least-squares fit needs them."""
        from .cpu.expressions import program
        from .cpu.passes import passes

        own = len(self._steps)
        roots = (self.root, *(ex.gradient(self.root, list(parameters)) if own <= ex.MOST else ()))
        steps = len(ex.ordered(roots)) if own <= ex.MOST else own
        if steps > ex.MOST:
            raise ValueError(
                f"gf.curve_fit: an equation of {steps} operations with its derivatives, at most {ex.MOST} are "
                "compiled; a Python function of arrays has no such limit"
            )
        return passes(program(roots, tuple(variables), tuple(parameters)), np.dtype(dtype).name)


def _real(x: Any) -> Any:
    x = np.asarray(x)
    return x if x.dtype.kind == "f" else x.astype(np.float64)


def parse(given: Any, variables: Sequence[str] | None = None, *, where: str = "gf.curve_fit") -> Equation:
    """An Equation from text, a sympy expression, or itself.

    variables: names that are coordinates, whatever else they could mean ("e", say); `where` is for messages. A text may
    be y = ..., whose left side is kept (`left`), as are the arguments of f(x, y) = ... (`arguments`).
    """
    if isinstance(given, Equation):
        return given
    sympy = sys.modules.get("sympy")
    if sympy is not None and isinstance(given, sympy.Basic):
        from .equation_sympy import convert

        root, names, left = convert(given, where)
        return Equation(root, names, str(given), left)
    if not isinstance(given, str):
        raise TypeError(f"{where}: an equation should be a str or a sympy expression, got {type(given).__name__}")
    reader = _Reader(given, variables, where)
    tree, left, arguments = reader.tree()
    reader.variables |= set(arguments or ())
    try:
        root = reader.node(tree)
    except RecursionError:
        reader.fail("an equation too deeply nested to be read")
    return Equation(root, tuple(reader.names), given.strip(), left, arguments)
