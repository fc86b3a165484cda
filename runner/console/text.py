"""Text harmless for who reads it on a terminal or in a log: it moves no cursor, colours and reorders nothing, forges no
line and is no command to CI. And numbers as people read them.
"""

from __future__ import annotations

import re

_BIDI_AND_SEPARATORS = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u2028\u2029\ufeff"


def plain(text: str) -> str:
    """`text` with everything that could move a terminal's cursor, colour it or reorder it spelled out (`\\x1b`)."""
    return text.translate(_HARMLESS)


def one_line(text: str) -> str:
    """`plain` text in which line ends are spelled out too, and what CI would take for a command within a line.

    So what comes from a file or a model forges no line of its own, and is read by nobody but people.
    """
    return _COMMAND.sub(r"#\\x23", plain(text).replace("\n", "\\n").replace("\t", "\\t"))


def no_command(text: str) -> str:
    """`text` without what CI systems take for commands if it is printed: `::` where a line begins, `##[` anywhere."""
    if "::" not in text and "##" not in text:
        return text
    return _COMMAND_AT_START.sub(r"\1\\x3a:", _COMMAND.sub(r"#\\x23", text))


def no_command_in_json(text: str) -> str:
    """JSON of the same value in which CI finds no command: `##[` is `##\\u005b` in its strings."""
    return _COMMAND_IN_JSON.sub(r"\1\\u005b", text) if "##" in text else text


def _spelled_out() -> dict[int, str]:
    controls = [*range(0x20), *range(0x7F, 0xA0)]
    surrogates = range(0xD800, 0xE000)  # a stream can't encode them
    spelled = {code: f"\\x{code:02x}" for code in controls if chr(code) not in "\n\t"}
    return spelled | {code: f"\\u{code:04x}" for code in (*map(ord, _BIDI_AND_SEPARATORS), *surrogates)}


_HARMLESS = _spelled_out()
_COMMAND_AT_START = re.compile(r"^([^\S\n]*)::", re.MULTILINE)  # of GitHub Actions
_COMMAND = re.compile(r"##(?=\w*\[)")  # of GitHub Actions, `##[error]`, which it finds anywhere; of Azure, `##vso[...]`
_COMMAND_IN_JSON = re.compile(r"(##\w*)\[")


def cut(text: str, limit: int) -> str:
    """The text on one line and harmless, cut where it is longer than this many characters."""
    line = one_line(text[: limit + 1])
    return line if len(line) <= limit else f"{line[: limit - 1]}…"


def cells(text: str) -> int:
    """The width of `text` in a terminal: wide characters take two cells, combining ones none."""
    if text.isascii():
        return len(text)
    from unicodedata import combining, east_asian_width

    return sum(0 if combining(char) else 2 if east_asian_width(char) in "WF" else 1 for char in text)


def money(usd: float) -> str:
    """Dollars with as many places as small sums need."""
    return f"${usd:,.2f}" if usd >= 1 or usd == 0 else f"${usd:.4f}" if usd >= 0.001 else f"${usd:.6f}"


def spent(usd: float | None, *, unpriced: int) -> str:
    """`$0.12`; `$0.12 + unknown` or `not known` where something has no known price; a dash if nothing was to pay."""
    if usd is None:
        return "not known" if unpriced else "-"
    return money(usd) + (" + unknown" if unpriced else "")


def duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f}s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h {minutes:02}m {rest:02}s" if hours else f"{minutes}m {rest:02}s"


def latency(milliseconds: float | None) -> str:
    """`850ms`, `1.23s`, `3m 05s`; a dash where there is none."""
    if milliseconds is None:
        return "-"
    if milliseconds < 1000:
        return f"{milliseconds:.0f}ms"
    return f"{milliseconds / 1000:.3g}s" if milliseconds < 60_000 else duration(milliseconds / 1000)
