"""The site of the documentation: `sphinx-build -W docs site`, which also runs the examples of the gallery."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml

import daps_kit

os.environ.setdefault("OMP_NUM_THREADS", "1")  # one thread for each example that is run

project = "daps-kit"
author = "the authors of daps-kit"
copyright = "the authors of daps-kit, Apache-2.0"
version = release = daps_kit.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["gallery", "examples/*.ipynb", "examples/*.py", "examples/*.md5"]
suppress_warnings = ["config.cache"]

# Pages are Markdown that a forge shows, too: its anchors, its tables, its formulas.
myst_enable_extensions = ["dollarmath", "attrs_inline"]
myst_heading_anchors = 4
myst_url_schemes = ["http", "https", "mailto"]

autodoc_typehints = "signature"
autodoc_member_order = "bysource"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True

html_theme = "pydata_sphinx_theme"
html_title = "daps-kit"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_sidebars = {page: [] for page in ("index", "start", "how-it-works", "faq", "search")}
html_show_sourcelink = False
html_show_search_summary = False  # which would be fetched, and nothing can be from a disk
html_copy_source = False
html_theme_options = {
    "show_nav_level": 1,
    "navigation_depth": 2,
    "header_links_before_dropdown": 6,
    "navbar_align": "left",
    "navbar_end": ["theme-switcher"],
    "navbar_persistent": ["search-button"],
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
    "pygments_light_style": "default",
    "pygments_dark_style": "github-dark-high-contrast",
}

demo = json.loads((Path(__file__).parent / "notebooks" / "demo.ipynb").read_text(encoding="utf-8"))
INSTALL = next("".join(cell["source"]) for cell in demo["cells"] if cell["cell_type"] == "code")

sphinx_gallery_conf = {
    "examples_dirs": "gallery",
    "gallery_dirs": "examples",
    "filename_pattern": r"/\w+\.py$",
    "within_subsection_order": "FileNameSortKey",
    "abort_on_example_error": False,
    "only_warn_on_example_error": False,
    "show_signature": False,
    "min_reported_time": 1e9,
    "write_computation_times": False,  # pages whose tables would load scripts from elsewhere
    "download_all_examples": False,
    "show_memory": False,
    "remove_config_comments": True,
    "image_scrapers": ("matplotlib",),
    "matplotlib_animations": False,
    "first_notebook_cell": INSTALL,
    "reset_modules": ("matplotlib",),
    "parallel": 2,
}


def mathml(translator: Any, node: Any, block: bool) -> None:
    """Write a formula as MathML, which browsers draw without a script or a network."""
    translator.body.append(tex2mathml(node.astext(), as_block=block))
    raise nodes.SkipNode


def link_examples(app: Any, name: str, source: list[str]) -> None:
    """Let links to the programs of the gallery, where a forge finds them, lead to the pages made of them."""
    text = re.sub(r"\]\(gallery/([\w/]+)\.py\)", r"](examples/\1)", source[0])
    source[0] = text.replace("](gallery)", "](examples/index)")


def setup(app: Any) -> None:
    """Let formulas be MathML, and links to examples lead to their pages."""
    app.connect("source-read", link_examples)
    app.add_html_math_renderer(
        "mathml",
        (lambda translator, node: mathml(translator, node, block=False), None),
        (lambda translator, node: mathml(translator, node, block=True), None),
    )


html_math_renderer = "mathml"
