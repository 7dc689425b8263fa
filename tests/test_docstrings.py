"""Every public callable explains itself: sections, and an example that runs."""

import doctest
import importlib
import inspect
import re

import numpy as np
import pytest

import gridfield

MODULES = (
    "gridfield",
    "gridfield.plot",
    "gridfield.models",
    "gridfield.torch",
    "gridfield.jax",
    "gridfield.tensorflow",
    "gridfield.monai",
    "gridfield.xarray",
    "gridfield.compat.torch_cubic_spline_grids",
    "gridfield.compat.elasticdeform",
    "gridfield.compat.elasticdeform.torch",
    "gridfield.compat.elasticdeform.tf",
    "gridfield.compat.pytorch_finufft.functional",
)
HOOKS = {
    "extra_repr",
    "tree_flatten_with_keys",
    "tree_unflatten",
    "get_config",
    "from_config",
    "compute_output_shape",
    "call",
    "randomize",
}
OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def public_callables():
    """(qualified name, object, the class it belongs to or None), each once."""
    seen = {}
    for module_name in MODULES:
        module = importlib.import_module(module_name)
        for name in module.__all__:
            thing = getattr(module, name)
            if inspect.isclass(thing):
                seen.setdefault(id(thing), (f"{module_name}.{name}", thing, None))
                for method_name, method in own_methods(thing):
                    full = f"{module_name}.{name}.{method_name}"
                    seen.setdefault((id(thing), method_name), (full, method, thing))
            elif inspect.isroutine(thing):
                seen.setdefault(id(thing), (f"{module_name}.{name}", thing, None))
    return list(seen.values())


def own_methods(cls):
    """Public methods and properties that this project wrote, its base classes included."""
    found = {}
    for base in cls.__mro__:
        if base.__module__.partition(".")[0] != "gridfield":
            continue
        for name, raw in vars(base).items():
            plain = getattr(raw, "__func__", raw)  # under classmethod and staticmethod
            plain = getattr(plain, "func", plain)  # under functools.cached_property
            is_ours = isinstance(plain, property) or inspect.isfunction(plain)
            # what frameworks call, nobody else
            hook = name in HOOKS
            if not name.startswith("_") and not hook and is_ours:
                found.setdefault(name, plain)
    return found.items()


CALLABLES = public_callables()
each_callable = pytest.mark.parametrize(
    ("name", "thing", "owner"),
    [pytest.param(*case, id=case[0]) for case in CALLABLES if not isinstance(case[1], property)],
)


def examples(thing, name):
    """The doctest in the docstring, with NumPy and gridfield at hand as `np` and `gf`."""
    names = {"np": np, "gf": gridfield}
    text = inspect.getdoc(thing) or ""
    return doctest.DocTestParser().get_doctest(text, names, name, None, None)


EXAMPLES = [pytest.param(test, id=name) for name, thing, _ in CALLABLES if (test := examples(thing, name)).examples]


def test_there_are_doctests():
    assert sum(len(param.values[0].examples) for param in EXAMPLES) > 0


@pytest.mark.parametrize("test", EXAMPLES)
def test_example_runs(test, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # an example may write a file
    report = []
    result = doctest.DocTestRunner(optionflags=OPTIONS).run(test, out=report.append)
    assert result.failed == 0, "".join(report)


@pytest.mark.parametrize(("name", "thing"), [pytest.param(*c[:2], id=c[0]) for c in CALLABLES])
def test_has_a_docstring(name, thing):
    first = (thing.__doc__ or "").strip().partition("\n")[0]
    assert first, f"{name} has no docstring"


@each_callable
def test_has_every_section(name, thing, owner):
    text = inspect.getdoc(thing) or ""
    signature = inspect.signature(thing)
    parameters = [p for p in signature.parameters if p not in ("self", "cls")]

    if parameters:
        listed = section(text, "Parameters")
        assert listed is not None, f"{name} has no Parameters section"
        missing = [p for p in parameters if not re.search(rf"^(?! )[^:\n]*\b{p}\b", listed, re.M)]
        assert not missing, f"{name} does not describe {missing}"
    if not inspect.isclass(thing) and signature.return_annotation not in (None, "None"):
        # a function that returns nothing says so: `-> None`
        assert section(text, "Returns") or section(text, "Yields"), f"{name} has no Returns section"


@each_callable
def test_has_an_example(name, thing, owner):
    own = examples(thing, name).examples
    shared = examples(owner, name).examples if owner else []
    method = name.rpartition(".")[2]
    # A method may be shown in its class's example; `forward` is what calling the object does.
    shown = method == "forward" or any(f".{method}(" in example.source for example in shared)
    assert own or (shared and shown), f"{name} has no example"


def section(text, title):
    """The body of a numpydoc section, or None."""
    found = re.search(rf"^{title}\n-+\n(.*?)(?=^[^\n]+\n-{{3,}}$|\Z)", text, re.M | re.S)
    return found and found[1]
