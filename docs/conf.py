"""Sphinx builds the site from this folder: ``make docs``."""

import re
import shutil
import sys
from pathlib import Path

from docutils import nodes

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE / "_extensions")]

from profiler import __version__  # noqa: E402

project = "profiler"
author = "The profiler authors"
copyright = "2026, The profiler authors"
release = version = __version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "sphinx_design",
    "conspec",
    "generated",
    "mathml",
]
exclude_patterns = ["_build"]
needs_sphinx = "8.0"

myst_enable_extensions = ["colon_fence", "deflist", "dollarmath", "smartquotes"]
myst_heading_anchors = 4
myst_update_mathjax = False
html_math_renderer = "mathml"
highlight_language = "none"

# The notebooks carry their outputs; the tests run them.
nb_execution_mode = "off"
nb_ipywidgets_js: dict[str, dict[str, str]] = {}

autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_member_order = "bysource"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False
python_maximum_signature_line_length = 72
add_module_names = False
toc_object_entries_show_parents = "hide"

html_theme = "furo"
html_title = "profiler"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False
copybutton_prompt_text = r"\$ |>>> "
copybutton_prompt_is_regexp = True


def setup(app):
    """Take in what lies beside this folder: the notebooks, and the gallery's reports."""
    notebooks = HERE / "examples"
    shutil.rmtree(notebooks, ignore_errors=True)
    for path in sorted((HERE.parent / "examples").glob("*.ipynb")):
        notebooks.mkdir(exist_ok=True)
        shutil.copy(path, notebooks)
    app.connect("doctree-read", _captions)
    app.connect("html-page-context", _mark_long_code)
    app.connect("build-finished", _copy_gallery)


def _captions(app, doctree):
    """Show what a picture's text says, which only screen readers would have, as its caption."""
    for image in list(doctree.findall(nodes.image)):
        paragraph = image.parent
        if isinstance(paragraph, nodes.paragraph) and len(paragraph) == 1 and image.get("alt"):
            caption = nodes.caption("", image["alt"])
            name = nodes.make_id(Path(image["uri"]).stem)
            paragraph.replace_self(nodes.figure("", image, caption, ids=[name]))


def _mark_long_code(app, pagename, templatename, context, doctree):
    """Code within a line that does not fit on a phone may be broken anywhere; ``site.css`` does."""
    long = re.compile(r'<span class="pre">(?=[^<]{25})')
    context["body"] = long.sub('<span class="pre long">', context.get("body", ""))


def _copy_gallery(app, error):
    reports = HERE / "_build" / "gallery" / "reports"
    if error is None and app.builder.name == "html" and reports.is_dir():
        shutil.copytree(reports, Path(app.outdir, "reports"), dirs_exist_ok=True)
