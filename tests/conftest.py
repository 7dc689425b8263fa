"""What the whole suite shares: hypothesis profiles, a seeded generator, reported measurements."""

import os
import sys

os.environ.setdefault("MPLBACKEND", "Agg")  # before anything imports matplotlib
if os.environ.get("HYPOTHESIS_PROFILE") != "ci":
    # Half the time of a test in JAX goes to optimising what runs once. `make test-slow` leaves that as users have it.
    os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

# No deadline, and no health check on time: the first example of a case compiles its kernel.
# derandomize: the same examples in every run, so that a red CI is a red laptop.
_COMMON = {
    "deadline": None,
    "derandomize": True,
    "print_blob": True,
    "suppress_health_check": [HealthCheck.too_slow],
}
settings.register_profile("default", max_examples=30, **_COMMON)
settings.register_profile("ci", max_examples=500, **_COMMON)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


@pytest.fixture
def rng():
    """A generator with a fixed seed, new for each test: no test depends on another's draws."""
    return np.random.default_rng(0)


@pytest.fixture(autouse=True)
def seeded_torch():
    """What torch draws is the same in every run, too: one in a hundred deformations folds, say."""
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)


def pytest_addoption(parser):
    """`make frameworks` gives the page to write."""
    parser.addoption("--frameworks-page", help="write the table of tests/test_frameworks.py to this Markdown page")


def pytest_terminal_summary(terminalreporter, config):
    """List what tests measured and noted with `record_property`, above the closing line."""
    properties = [p for report in terminalreporter.getreports("passed") for p in report.user_properties]
    noted = [f"{name}: {value}" for name, value in properties if name != "cell"]
    if page := config.getoption("--frameworks-page"):
        import framework_page

        framework_page.write(page, [value for name, value in properties if name == "cell"], noted)
    if noted:
        terminalreporter.section("measured, not asserted")
        for line in noted:
            terminalreporter.line(line)
