"""Sphinx configuration of the documentation; `make docs` builds it.

The pages are plain Markdown. Their Python blocks run while the site is built, one after the other
on each page, and their output is shown. The reference is generated from the library, and results
and notebooks are taken from their own folders, so that nothing is written twice.
"""

from __future__ import annotations

import sys
from importlib.metadata import version as version_of
from pathlib import Path
from typing import TYPE_CHECKING

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import _copies  # noqa: E402
import _formulas  # noqa: E402
import _generated  # noqa: E402

if TYPE_CHECKING:
    from sphinx.application import Sphinx

project = "discrete_grad"
copyright = "the discrete_grad authors"
version = release = version_of("discrete_grad")

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "sphinx_llms_txt",
]
exclude_patterns = ["_build"]
html_theme = "furo"
html_math_renderer = "mathml"
html_title = f"discrete_grad {release}"
html_theme_options = {"navigation_with_keys": True}
html_static_path = ["_static"]
html_css_files = ["wide_contents.css"]

# docstrings write code in single backticks, as Markdown does
default_role = "code"
autodoc_member_order = "alphabetical"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
autoclass_content = "class"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_custom_sections = ["Reference", "References"]

myst_enable_extensions = ["dollarmath", "amsmath", "colon_fence", "attrs_inline"]
myst_heading_anchors = 3
# notebooks keep the outputs of their own run; `make test-slow` runs them
nb_execution_excludepatterns = ["notebooks/*"]
nb_execution_mode = "cache"
nb_execution_raise_on_error = True
nb_execution_timeout = 300
nb_execution_in_temp = True
nb_merge_streams = True
nb_output_stderr = "remove"  # progress bars

# relative, so that the copies are found wherever the site lies
llms_txt_uri_template = "_sources/{docname}{suffix}{sourcelink_suffix}"
llms_txt_summary = "Train a generator of categories through a frozen model that scores them."


def setup(app: Sphinx) -> None:
    """Generated pages come first; the pages' Python blocks become cells as they are read."""
    _formulas.add_to(app)
    app.connect("builder-inited", _generated.write_pages)
    app.connect("source-read", _generated.as_site_page)
    app.connect("autodoc-process-docstring", _generated.as_plain_text, priority=400)
    app.connect("build-finished", _copies.write_outputs)
    app.connect("build-finished", _generated.check_reference)
    app.connect("build-finished", _generated.check_images)
