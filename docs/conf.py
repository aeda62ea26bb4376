"""How the documentation is built: Sphinx with MyST, and a reference made from the declarations."""

import sys
from pathlib import Path

from tomofly import __version__

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "tomofly"
author = "The tomofly developers"
project_copyright = "The tomofly developers"
version = release = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "declared_reference"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build", "_ext"]
nitpicky = False

myst_enable_extensions = ["colon_fence", "deflist", "attrs_block"]
myst_heading_anchors = 4
suppress_warnings = ["autosectionlabel.*"]

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_default_options = {"members": True}

html_theme = "furo"
html_title = f"tomofly {__version__}"
html_show_copyright = False
