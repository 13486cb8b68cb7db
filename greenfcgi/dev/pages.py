"""Pages of the developer mode itself: lists of folders, first steps, not found."""

from __future__ import annotations

import html
from collections.abc import Sequence
from urllib.parse import quote

STYLE = """
:root { color-scheme: light dark; --dim: #777; --line: #8883; --mark: #ffe9a8; --red: #c22f2f; }
@media (prefers-color-scheme: dark) { :root { --mark: #5a4708; --red: #ff7b72; --dim: #999; } }
body { font: 16px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 60rem; overflow-wrap: anywhere;
  padding: 1.5rem 1rem 4rem; }
h1 { font-size: 1.4rem; line-height: 1.3; margin: .5rem 0; } h2 { font-size: 1.05rem; margin: 2rem 0 .4rem; }
code, pre, td { font-family: ui-monospace, monospace; font-size: .88rem; }
pre { background: #8881; border-radius: 6px; margin: .5rem 0; overflow-x: auto; padding: .7rem .9rem; }
a { color: inherit; } .dim { color: var(--dim); } ul { list-style: none; padding: 0; } li { padding: .15rem 0; }
"""

_EXAMPLE = """function main(env, con)
    con:puts("<h1>Hello!</h1>")
end
"""


def document(title: str, body: str, style: str = "") -> bytes:
    """A page of HTML. The title is text, the body is HTML."""
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>{html.escape(title)}</title><style>{STYLE}{style}</style></head>\n<body>\n{body}\n</body></html>\n"
    ).encode("utf-8", "replace")


def listing(path: str, folders: Sequence[str], scripts: Sequence[str], pages: Sequence[str]) -> bytes:
    """What is in the folder that a URL's path names."""
    items = [] if path == "/" else ['<li><a href="../">../</a></li>']
    for name in [*(f"{folder}/" for folder in folders), *scripts, *pages]:
        items.append(f'<li><a href="{quote(name, errors="surrogateescape")}">{_text(name)}</a></li>')
    note = "" if scripts or folders or pages else '<p class="dim">No scripts here.</p>'
    return document(path, f"<h1>{_text(path)}</h1>\n<ul>\n{chr(10).join(items)}\n</ul>{note}")


def first_steps(root: str, extension: str) -> bytes:
    """For a folder without any script."""
    return document(
        "greenfcgi",
        f"<h1>No script yet</h1>\n<p>Write one and save it, for example as "
        f"<code>{_text(root)}/index{extension}</code>. This page then shows it at once.</p>\n"
        f"<pre>{_text(_EXAMPLE)}</pre>",
    )


def missing(path: str, root: str, extensions: Sequence[str], public: str) -> bytes:
    """Nothing is at the path. `public` is the folder of static files, or ""."""
    hint = ""
    if path.endswith(tuple(extensions)):
        hint = f"<p>Save a script as <code>{_text(root + path)}</code>, and it is shown here.</p>"
    elif public:
        hint = f"<p>A static file at this path would be <code>{_text(f'{root}/{public}{path}')}</code>.</p>"
    return document("Not found", f"<h1>Nothing is at {_text(path)}</h1>\n{hint}")


def foreign_host(host: str) -> bytes:
    """For the name of another machine: a page of that name may be trying to read this one (DNS rebinding)."""
    return document(
        "Forbidden",
        f"<h1>{_text(host)} is not a name of this machine</h1>\n<p>Use 127.0.0.1 or localhost, or start greenfcgi "
        f"with <code>--http {_text(host)}</code>.</p>",
    )


def _text(text: str) -> str:
    return html.escape(text.encode("utf-8", "surrogateescape").decode("utf-8", "replace"))
