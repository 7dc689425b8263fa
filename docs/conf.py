"""Sphinx configuration; `make docs` builds with warnings as errors."""

import re
from importlib.metadata import version as installed_version

project = "gridfield"
author = "gridfield developers"
copyright = "2026, gridfield developers"
release = version = installed_version("gridfield")

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["_build"]

html_theme = "furo"
html_title = f"gridfield {release}"

myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3

# The order of `__all__`; types, shapes and units stand in the docstrings.
autodoc_member_order = "bysource"
autodoc_typehints = "none"
napoleon_google_docstring = False
napoleon_use_rtype = False
napoleon_use_param = False  # types are prose: `ndim` in a shape is not a link
napoleon_use_ivar = True  # attributes that are properties have a place of their own

# The gallery is made of the examples, each run from top to bottom: one that fails fails the build.
sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "auto_examples",
    "filename_pattern": r"\.py$",
    "ignore_pattern": r"/_[^/]*\.py$",
    "abort_on_example_error": True,
    "download_all_examples": False,
    "show_memory": False,
}


def _escape_stars(app, what, name, obj, options, lines):
    """``(*pts, ndim)`` is a shape, not the beginning of emphasis."""
    for i, line in enumerate(lines):
        if not line.lstrip().startswith((">>>", "...")):
            pieces = re.split(r"(``.*?``)", line)
            pieces[::2] = [re.sub(r"(?<![*\w\\])\*(?=[A-Za-z])", r"\\*", piece) for piece in pieces[::2]]
            lines[i] = "".join(pieces)


def setup(app):
    """Before napoleon, whose own stars are emphasis."""
    app.connect("autodoc-process-docstring", _escape_stars, priority=400)
