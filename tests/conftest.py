"""What the whole suite shares: hypothesis profiles, a seeded generator, reported measurements."""

import os

os.environ.setdefault("MPLBACKEND", "Agg")  # before anything imports matplotlib

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


def pytest_terminal_summary(terminalreporter):
    """List what tests measured and noted with `record_property`, above the closing line."""
    noted = [
        f"{name}: {value}" for report in terminalreporter.getreports("passed") for name, value in report.user_properties
    ]
    if noted:
        terminalreporter.section("measured, not asserted")
        for line in noted:
            terminalreporter.line(line)
