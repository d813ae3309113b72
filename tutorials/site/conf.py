"""Settings of Sphinx. The pages are those of build/site/source; see rendering/."""

import sys
from importlib import metadata
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from rendering import api

project = "deformable-convnets"
author = "The deformable-convnets authors"
copyright = author
extensions = [
    "myst_nb", "sphinx.ext.autodoc", "sphinx.ext.viewcode", "sphinx.ext.mathjax",
    "rendering.docstrings", "rendering.listing", "rendering.tables",
]  # fmt: skip

nb_execution_mode = "off"  # the notebooks are committed with their outputs
nb_merge_streams = True
nb_render_markdown_format = "gfm"  # tables that cells have written
myst_enable_extensions = ["dollarmath", "colon_fence", "html_image", "amsmath"]
myst_heading_anchors = 4

autodoc_mock_imports = api.missing()
add_module_names = False
highlight_language = "none"  # of blocks that do not say theirs
autodoc_typehints = "signature"
autodoc_class_signature = "mixed"
python_maximum_signature_line_length = 88
python_use_unqualified_type_names = True
python_display_short_literal_types = True
nitpick_ignore_regex = [("py:class", ".*")]  # types in signatures; what we link to is py:obj

# One file, without fonts: what it shows are paths. It needs no network.
MATHJAX = next(f for f in metadata.files("sphinx-mathjax-offline") if f.name == "tex-svg.js")
mathjax_path = "tex-svg.js"
mathjax3_config = {"options": {"enableMenu": False}, "svg": {"fontCache": "global"}}

html_theme = "furo"
html_title = project
html_static_path = ["static", str(MATHJAX.locate())]
html_css_files = ["site.css"]
html_copy_source = False
html_use_index = False  # the search finds the names
html_domain_indices = False
html_show_search_summary = False  # it reads other pages, which files opened from a disk must not
html_show_sphinx = False
html_theme_options = {"navigation_with_keys": False, "top_of_page_buttons": []}
