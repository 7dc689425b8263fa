"""What the pages say is true: their Python blocks run, and the table of kernels is the kernels'."""

import pathlib
import re

import pytest

import gridfield as gf

ROOT = pathlib.Path(__file__).parent.parent
PAGES = ["README.md", *sorted(str(p.relative_to(ROOT)) for p in (ROOT / "docs").glob("*.md"))]


def blocks(page):
    return re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), re.S)


@pytest.mark.parametrize("page", [p for p in PAGES if blocks(p)])
def test_python_blocks_run_and_print_what_they_say(page, capsys, tmp_path, monkeypatch):
    """All blocks of a page, one after the other, as a reader would; a comment after a print is what it prints."""
    monkeypatch.chdir(tmp_path)
    names = {}
    for block in blocks(page):
        exec(compile(block, page, "exec"), names)
        said = re.findall(r"^print\(.*\)  # (.*)$", block, re.M)
        printed = capsys.readouterr().out.splitlines()
        assert not said or printed == said
    assert "gf" in names


def test_pages_with_python_exist():
    assert sum(len(blocks(p)) for p in PAGES) >= 5


def test_table_of_kernels():
    rows = re.findall(r"^\| `(.*?)` \| (.*) \|$", (ROOT / "docs/kernels.md").read_text(), re.M)
    rows = [(name, cells.split(" | ")) for name, cells in rows if len(cells.split(" | ")) == 6]
    assert len(rows) == 9
    for name, (width, degree, continuity, interpolating, prefilter, order) in rows:
        kernel = eval(name, {"gf": gf})
        if isinstance(kernel, str):
            kernel = {k.name: k for k in [*(gf.bspline(n) for n in range(8)), gf.catmull_rom]}[kernel]
        assert (kernel.width, kernel.degree) == (int(width), int(degree)), name
        assert kernel.continuity == int(continuity.replace("−", "-")), name
        assert kernel.interpolating == (interpolating == "yes"), name
        assert bool(kernel.poles) == (prefilter == "yes"), name
        assert approximation_order(kernel) == int(order), name


def approximation_order(kernel):
    """How many powers of x the kernel reproduces (prefiltered where it does not interpolate)."""
    import numpy as np

    x = np.linspace(80, 81, 7)[:, None]  # far from the ends, whose influence decays
    for power in range(9):
        samples = ((np.arange(161.0) - 80) / 10) ** power
        if np.abs(gf.sample(samples, x, kernel=kernel) - ((x[:, 0] - 80) / 10) ** power).max() > 1e-11:
            return power
    return 9
