"""Text from a job or a model as part of Markdown or HTML: shown as it is, and never markup, a link or a mention."""

from __future__ import annotations

import html
import string

from runner.console import one_line, plain

# Named by number, a character is what it is, and never the start of anything: of emphasis, of a cell, of a link.
_BY_NUMBER = {ord(mark): f"&#{ord(mark)};" for mark in string.punctuation if mark not in "-/,;()"}


def code(text: str) -> str:
    """Text on one line, as code. For Markdown anywhere, a table or a heading too, and for HTML.

    GitHub and GitLab look for mentions, issues and URLs wherever there is text, escaped or not, but in no code.
    """
    return f"<code>{one_line(text).translate(_BY_NUMBER)}</code>"


def preformatted(text: str) -> str:
    """Text of any number of lines to stand within `<pre>`, which Markdown takes for HTML until its end."""
    return html.escape(plain(text))
