"""Groups of near duplicates as one self-contained page without scripts, with light and dark colours. Every text is escaped."""

import base64
import io
import os
from html import escape
from pathlib import Path
from urllib.parse import quote

from percept.core.io import replacing
from percept.core.report import printable
from percept.data.check.page import STYLE
from percept.data.copies import FileFacts
from percept.infer.dupes import Copy, Dupes, Group
from percept.infer.sheet import small

MORE = """
.dupes { display: grid; gap: 14px; grid-template-columns: repeat(auto-fill, minmax(170px, 1fr)); margin: 10px 0 30px; }
.dupes div { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 10px; font-size: 13px; overflow-wrap: anywhere; }
.dupes div.keep { border: 2px solid var(--accent); } .dupes b { color: var(--accent); }
.dupes img { display: block; width: 100%; height: 140px; object-fit: contain; border-radius: 6px; margin-bottom: 8px; }
"""
MOST = 400
"""Groups of the page."""
COPIES = 24
"""Copies of a group that are shown."""


def write_page(file: Path, found: Dupes, *, title: str) -> None:
    """Write the page; links to the files are relative to it."""
    with replacing(file) as temporary:
        temporary.write_text(page(found, file.parent, title=title), encoding="utf-8")


def page(found: Dupes, folder: Path, *, title: str) -> str:
    """Return the page for a file in `folder`."""
    copies = sum(len(group.copies) for group in found.groups)
    size = sum(group.bytes for group in found.groups)
    facts = (("files", f"{found.files:,}"), ("groups", f"{len(found.groups):,}"), ("copies", f"{copies:,}"), ("MB in copies", f"{size / 1e6:,.1f}"))  # fmt: skip
    cells = "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in facts)
    groups = "".join(_group(number, group, folder) for number, group in enumerate(found.groups[:MOST], 1))
    more = f"<p>and {len(found.groups) - MOST:,} more groups</p>" if len(found.groups) > MOST else ""
    return f"""<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{_text(title)}</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="color-scheme" content="light dark">
<style>{STYLE}{MORE}</style></head><body><main>
<h1>{_text(title)}</h1><dl class="facts">{cells}</dl>
{groups}{more}</main></body></html>
"""


def _text(value: object) -> str:
    return escape(printable(value))


def _group(number: int, group: Group, folder: Path) -> str:
    cards = [_card(group.keep, folder, "<b>keep</b>", keep=True)]
    cards += [_card(copy.file, folder, _remark(copy)) for copy in group.copies[:COPIES]]
    more = f"<div>and {len(group.copies) - COPIES:,} more</div>" if len(group.copies) > COPIES else ""
    return f'<h2>Group {number}</h2><div class="dupes">{"".join(cards)}{more}</div>'


def _remark(copy: Copy) -> str:
    return "the same content" if copy.exact else f"cosine {copy.cosine:.3f}"


def _card(file: FileFacts, folder: Path, remark: str, *, keep: bool = False) -> str:
    buffer = io.BytesIO()
    small(file.path).save(buffer, "JPEG", quality=82)
    image = f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"
    link = quote(os.fsencode(os.path.relpath(file.path, folder)))
    size = f"{file.width} × {file.height}, " if file.width else ""
    return (
        f'<div{" class=keep" if keep else ""}><a href="{link}"><img alt="" src="{image}"></a>{remark}<br>'
        f"{_text(file.path)}<br><span class=soft>{size}{file.bytes / 1e3:,.0f} kB</span></div>"
    )
