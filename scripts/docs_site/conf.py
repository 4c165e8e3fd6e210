"""Configuration of Sphinx. Nothing of the site is loaded from another host, so that it can be read offline."""

project = "ByteBrew"
html_title = "ByteBrew"
author = "ByteBrew"
extensions = ["myst_parser"]
source_suffix = {".md": "markdown"}
myst_heading_anchors = 4
myst_url_schemes = ("http", "https", "mailto")
highlight_language = "none"  # an indented block is output as often as a command
html_theme = "furo"
html_theme_options = {"navigation_with_keys": False}
html_show_copyright = False
html_show_sphinx = False
html_copy_source = False
html_show_sourcelink = False
html_show_search_summary = False  # its excerpts are fetched, which a browser refuses to pages of files
html_static_path = ["static"]
html_css_files = ["site.css"]
