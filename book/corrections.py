"""The book's own Sphinx extension: small corrections that configuration cannot make."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.transforms.post_transforms import SphinxPostTransform


def _what(asset: Any) -> str:
    """The address of a script or style sheet and, of an inline script, its text."""
    return f"{getattr(asset, 'filename', asset)} {getattr(asset, 'attributes', {}).get('body', '')}"


def drop_thebe(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: nodes.document | None) -> None:
    """Leave out the scripts of thebe: the book runs nothing in the page, and they log an error."""
    for kind in ("script_files", "css_files"):
        context[kind] = [asset for asset in context.get(kind, []) if "thebe" not in _what(asset).lower()]


def drop_edit_button(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: nodes.document | None
) -> None:
    """Leave out the edit button of the reference's pages: they have no source file, the docstrings are their source."""
    if page.startswith("book/api/") or doctree is None:
        for group in context.get("header_buttons", []):
            if "buttons" in group:
                group["buttons"] = [b for b in group["buttons"] if b.get("label") != "source-edit-button"]


def shorten_defaults(
    app: Sphinx, what: str, name: str, of: Any, options: Any, signature: str | None, returned: str | None
) -> tuple[str, str | None] | None:
    """Write ``...`` for a default that is a function or made by one: Sphinx cannot parse ``<lambda>``."""
    return (re.sub(r"= <.*?>+(?=[,)])", "= ...", signature), returned) if signature else None


def name_cells(app: Sphinx, doctree: nodes.document) -> None:
    """Give every cell that has an ``anchor`` in its metadata this id, and let ``{ref}`` find it from any page."""
    labels = app.env.get_domain("std").data["anonlabels"]
    for cell in doctree.findall(nodes.container):
        if anchor := cell.get("cell_metadata", {}).get("anchor"):
            cell["ids"].append(anchor)
            labels[anchor] = app.env.docname, anchor


class LinkResults(SphinxPostTransform):
    """Resolve a relative link to a file that a chapter wrote: it is published beside the chapter's page."""

    default_priority = 8  # before MyST's own resolver, which would warn that there is no such page

    def run(self, **kwargs: Any) -> None:
        """Replace every pending reference whose target lies in ``_extra``."""
        folder = (Path(self.app.srcdir) / "_extra" / self.env.docname).parent
        for node in list(self.document.findall(addnodes.pending_xref)):
            target = str(node.get("reftarget", ""))
            if node.get("reftype") == "myst" and target and (folder / target).is_file():
                node.replace_self(nodes.reference("", "", *node.children, refuri=target, internal=True))


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect the corrections; they come after the theme's own (priority 900)."""
    app.connect("autodoc-process-signature", shorten_defaults)
    app.connect("doctree-read", name_cells)
    app.connect("html-page-context", drop_thebe, priority=900)
    app.connect("html-page-context", drop_edit_button, priority=900)
    app.add_post_transform(LinkResults)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
