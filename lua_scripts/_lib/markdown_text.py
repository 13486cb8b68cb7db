"""A module for scripts in Python: [modules] in config.toml names it, and scripts require "markdown".

It needs Python-Markdown: pip install markdown
"""

import markdown

import greenfcgi


@greenfcgi.export
def html(text: bytes) -> str:
    """Markdown as HTML."""
    return markdown.markdown(text.decode("utf-8", "replace"), extensions=["tables"])
