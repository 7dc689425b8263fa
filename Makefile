# One virtual environment, made on the first call and again only when pyproject.toml or
# constraints.txt change. Needs Python 3.11 or newer and make; everything else comes through pip.

ifeq ($(origin PYTHON),undefined)
PYTHON := $(shell python3.11 -c "" 2>/dev/null && echo python3.11 || echo python3)
endif

VENV  := .venv
BIN   := $(VENV)/$(if $(filter Windows_NT,$(OS)),Scripts,bin)
PY    := $(BIN)/python
# elasticdeform from its source: its wheels do not run with NumPy 2
PIP   := $(PY) -m pip --disable-pip-version-check install -c constraints.txt --no-binary elasticdeform
STAMP := $(VENV)/.installed

# arguments for pytest, e.g. make test PYTEST_ARGS="-k adjoint" for one process
PYTEST_ARGS ?= -n 2

export MPLBACKEND ?= Agg

.PHONY: help demo test test-slow lint format bench frameworks docs clean

help:
	@echo "make demo       register a photograph; prints where the picture is"
	@echo "make test       the test suite, without the tests marked slow"
	@echo "make test-slow  only the tests marked slow (long property-based tests)"
	@echo "make lint       format, style, types, import layers"
	@echo "make format     rewrite the sources in the project's format"
	@echo "make bench      every benchmark, peers beside us in one run"
	@echo "make frameworks write docs/frameworks.md from the run of its tests"
	@echo "make docs       the documentation as HTML, in docs/_build/html"
	@echo "make clean      remove the environment and everything generated"

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) -e ".[dev]"
	@touch $@

$(STAMP)-%: $(STAMP)
	$(PIP) -e ".[$*]"
	@touch $@

.PRECIOUS: $(STAMP)-%

demo: $(STAMP)
	$(PY) examples/register_photograph.py

test: $(STAMP)
	$(PY) -m pytest -m "not slow" $(PYTEST_ARGS)

test-slow: $(STAMP)
	HYPOTHESIS_PROFILE=ci $(PY) -m pytest -m slow $(PYTEST_ARGS)

lint: $(STAMP)
	$(PY) -m ruff format --check .
	$(PY) -m ruff check .
	PYRIGHT_PYTHON_IGNORE_WARNINGS=1 $(PY) -m pyright --pythonpath $(PY)
	$(BIN)/lint-imports

format: $(STAMP)
	$(PY) -m ruff format .
	$(PY) -m ruff check --fix .

# every script in benchmarks/ but the helpers, whose names begin with an underscore
BENCHMARKS = $(filter-out benchmarks/_%,$(sort $(wildcard benchmarks/*.py)))

bench: $(STAMP)-bench
	@test -n "$(BENCHMARKS)" || { echo "no script in benchmarks/" >&2; exit 1; }
	@set -e; for script in $(BENCHMARKS); do echo "== $$script"; $(PY) $$script; done

# the page of what works in which framework, from the run of its tests
frameworks: $(STAMP)
	$(PY) -m pytest tests/test_frameworks.py --frameworks-page docs/frameworks.md $(PYTEST_ARGS)

docs: $(STAMP)-docs
	$(PY) -m sphinx -W --keep-going -b html docs docs/_build/html
	@echo "docs/_build/html/index.html"

clean:
	rm -rf $(VENV) build dist docs/_build docs/auto_examples docs/sg_execution_times.rst
	rm -rf .pytest_cache .hypothesis .ruff_cache .import_linter_cache
