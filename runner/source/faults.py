"""What is wrong where YAML's parser stopped, in plain words.

Nothing here depends on PyYAML but the wording of its messages, which is all that tells one fault from another.
Everything takes time in proportion to the text: a file of one long line is a wrong file too.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from runner.errors import Problem
from runner.words import shorten

if TYPE_CHECKING:
    from collections.abc import Callable

    from runner.source.text import Lines

_MAX_QUOTED: Final = 300  # characters of the file in a hint


def quote_hint(text: str, otherwise: str = "") -> str:
    """Advice to quote a text, with the text in the quotes that need the fewest escapes."""
    if len(text) > _MAX_QUOTED or "\n" in text:
        return "put the whole text in quotes, or below a `|`"
    plain = '"' not in text and "\\" not in text
    quoted = f'"{text}"' if plain else "'" + text.replace("'", "''") + "'"
    return f"quote it: {quoted}" + (f", {otherwise}" if otherwise else "")


# --- the fault -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Fault:
    """Where the parser stopped: `index` is the character, `context` the start of the construct around it."""

    lines: Lines
    index: int
    context: int
    doing: str
    found: str

    @property
    def line(self) -> str:
        """The whole line of the fault."""
        return self.lines.line(self.lines.number(self.index))

    @property
    def line_start(self) -> int:
        return self.lines.start(self.lines.number(self.index))

    @property
    def before(self) -> str:
        """What stands before the fault on its line."""
        return self.lines.text[self.line_start : self.index]

    def rest(self, index: int) -> str:
        """What stands on a line from a character on."""
        number = self.lines.number(index)
        return self.lines.line(number)[index - self.lines.start(number) :].rstrip()

    @property
    def character(self) -> str:
        return self.lines.text[self.index : self.index + 1]

    def problem(self, message: str, hint: str, index: int | None = None) -> Problem:
        return Problem(message, self.lines.place(self.index if index is None else index), hint)


def explain(fault: Fault) -> Problem:
    """The problem that a fault is."""
    for explanation in _EXPLANATIONS:
        problem = explanation(fault)
        if problem is not None:
            return problem
    return fault.problem(
        "YAML cannot read the file from here on",
        "check quotes, brackets and indentation; a text with special characters goes in quotes or below a `|`",
    )


# --- its explanations ------------------------------------------------------------------------------------------------


def _explain_conflict(fault: Fault) -> Problem | None:
    for number in {fault.lines.number(fault.context), fault.lines.number(fault.index)}:
        if re.match(r"<{4,} |={7}$|>{4,} |\|{7}", fault.lines.line(number)):
            return fault.problem(
                "a merge conflict is left in the file",
                "keep one side and remove the markers",
                fault.lines.start(number),
            )
    return None


def _explain_tab(fault: Fault) -> Problem | None:
    indent = re.match(r"[ ]*\t", fault.line)
    if indent is None:
        return None
    return fault.problem(
        "a tab indents this line, and YAML allows only spaces",
        "replace it by spaces",
        fault.line_start + indent.end() - 1,
    )


_TEMPLATE_START = re.compile(r"(?:^|[:,\[{-])\s*(?P<tag>\{[{%])")
_TEMPLATE_TAG = re.compile(r"\{[{%]")
_TEMPLATE_END = re.compile(r"[%}]\}")
_COMMENT = re.compile(r"\s#")
_ITEM_END = re.compile(r"[,\]}]")


def _explain_template(fault: Fault) -> Problem | None:
    for number in dict.fromkeys((fault.lines.number(fault.index), fault.lines.number(fault.context))):
        line = fault.lines.line(number)
        match = _TEMPLATE_START.search(line)
        if match is None:
            continue
        start = match.start("tag")
        # Of a block value the end is a comment or the end of the line.
        comment = _COMMENT.search(line, start + 2)
        value = line[start : comment.start() if comment else len(line)].rstrip()
        if re.search(r"\[|\{\s", line[:start]):
            value = value[: _item_end(value)].rstrip()
        return fault.problem(
            f"a text that starts with `{value[:2]}` must be quoted",
            quote_hint(value),
            fault.lines.start(number) + start,
        )
    return None


def _item_end(value: str) -> int:
    """Where a value inside brackets ends: at the first comma or bracket that is in no tag of Jinja."""
    index = 0
    while True:
        end = _ITEM_END.search(value, index)
        tag = _TEMPLATE_TAG.search(value, index, end.start() if end else len(value))
        close = _TEMPLATE_END.search(value, tag.end()) if tag else None
        if close is None:
            return end.start() if end else len(value)
        index = close.end()


def _explain_colon(fault: Fault) -> Problem | None:
    if not fault.found.startswith("mapping values are not allowed"):
        return None
    inside = re.match(r"\s*+[^:]++: +(?P<value>\S.*)$", fault.line)
    if inside is not None and fault.before.count(": ") + fault.before.count(":\t") >= 1:
        return fault.problem(
            "a colon and a space inside an unquoted text",
            quote_hint(inside["value"].rstrip(), "or put it below a `|`"),
        )
    above = _explain_unfinished_key(fault, fault.lines.number(fault.context) - 1)
    if above is not None:
        return above
    indent = len(fault.line) - len(fault.line.lstrip())
    return fault.problem(
        "this line is indented further than the value above it allows",
        "give keys of one mapping the same indentation",
        fault.line_start + indent,
    )


def _explain_unfinished_key(fault: Fault, number: int) -> Problem | None:
    """A line that was to be a key and its value, and lacks the colon or the space after it."""
    if number < 0:
        return None
    line = fault.lines.line(number)
    match = re.match(r"\s*(?:- )*([A-Za-z_]\w*)(:\S.*|\s.*)?$", line)
    if match is None:
        return None
    name, rest = match[1], shorten((match[2] or "").lstrip(":"))
    missing = "a space is missing after the colon" if (match[2] or "").startswith(":") else "a colon is missing"
    return fault.problem(missing, f"write `{shorten(name)}: {rest.strip()}`", fault.lines.start(number) + match.end(1))


def _explain_character(fault: Fault) -> Problem | None:
    if not re.match(r"found character .*cannot start any token", fault.found):
        return None
    value = fault.rest(fault.index)
    if re.search(r"[\[{]", fault.before):  # as in `{pass_rate: >= 0.95}`
        value = value[: _item_end(value)].rstrip()
    return fault.problem(
        f"an unquoted text cannot start with the character {fault.character}", quote_hint(shorten(value))
    )


def _explain_open_quote(fault: Fault) -> Problem | None:
    if "quoted scalar" not in fault.doing or "escape" in fault.found:
        return None
    quote = fault.lines.text[fault.context]
    inside = "an apostrophe inside is written twice" if quote == "'" else 'a quote inside is written `\\"`'
    return fault.problem(
        f"the quote {quote} that opens here is never closed",
        f"close it with another {quote}; {inside}",
        fault.context,
    )


_NUMBERED_ESCAPE: Final = re.compile(r"\\(?:x\w{0,2}|u\w{0,4}|U\w{0,8})")


def _explain_escape(fault: Fault) -> Problem | None:
    if not re.search("escape|hexa?decimal", fault.found):  # libyaml's spelling is its own
        return None
    backslash = fault.lines.text.rfind("\\", fault.line_start, fault.index + 1)
    start = max(backslash, fault.line_start)
    numbered = _NUMBERED_ESCAPE.match(fault.lines.text, start)
    if numbered:
        return fault.problem(
            f"`{numbered[0]}` stands for no character",
            "write the character itself; in double quotes `\\x` takes 2 hexadecimal digits, `\\u` 4 and `\\U` 8",
            start,
        )
    escape = fault.lines.text[start : start + 2]
    return fault.problem(
        f"`{escape}` is no escape that YAML knows in double quotes",
        f"use single quotes, or write `\\{escape}`",
        start,
    )


def _explain_bracket(fault: Fault) -> Problem | None:
    if fault.doing not in ("while parsing a flow sequence", "while parsing a flow mapping"):
        return None
    opening, closing = ("[", "]") if "sequence" in fault.doing else ("{", "}")
    return fault.problem(
        f"the `{opening}` that opens here is not closed, or a comma is missing in it",
        f"add the `{closing}` or the comma; a text with brackets or commas must be quoted",
        fault.context,
    )


def _explain_alias(fault: Fault) -> Problem | None:
    if fault.doing not in ("while scanning an alias", "while scanning an anchor"):
        return None
    value = fault.rest(fault.context)
    return fault.problem(
        f"a text that starts with `{value[:1]}` must be quoted", quote_hint(shorten(value)), fault.context
    )


def _explain_tag(fault: Fault) -> Problem | None:
    if "tag" not in fault.doing and "tag handle" not in fault.found:
        return None
    return fault.problem(
        "a text that starts with `!` must be quoted", "quote it; tags are not supported here", fault.context
    )


def _explain_block_text(fault: Fault) -> Problem | None:
    if "block scalar" not in fault.doing:
        return None
    return fault.problem(
        f"text follows the `{fault.lines.text[fault.context]}`, which starts a block of text",
        "put the text on the lines below, indented; or quote it",
        fault.context,
    )


def _explain_list_item(fault: Fault) -> Problem | None:
    if "sequence entries are not allowed" not in fault.found:
        return None
    return fault.problem("a list cannot start on the line of its key", "put the `-` on the next line, indented")


def _explain_missing_colon(fault: Fault) -> Problem | None:
    if not fault.found.startswith("could not find expected ':'"):
        return None
    number = fault.lines.number(fault.context)
    above = fault.lines.line(number - 1) if number else ""
    in_block = re.search(r"[|>][0-9+-]*\s*$|^\s", above) is not None
    unfinished = None if in_block else _explain_unfinished_key(fault, number)
    return unfinished or fault.problem(
        "a colon is missing: this line is neither a key nor part of the text above",
        "write `key: value`; the lines of a text below a `|` must all be indented",
        fault.context,
    )


def _explain_after_quote(fault: Fault) -> Problem | None:
    if fault.doing == "while parsing a block mapping" and re.search(r"[\"']\s*$", fault.before):
        return fault.problem(
            "more text follows the closing quote",
            "quote the whole text; inside single quotes an apostrophe is written twice, as in 'it''s'",
        )
    return None


def _explain_stray(fault: Fault) -> Problem | None:
    if fault.character in ("]", "}", ",") and fault.character:
        return fault.problem(
            f"the `{fault.character}` has no business here", "remove it, or quote the text that it belongs to"
        )
    return None


def _explain_indentation(fault: Fault) -> Problem | None:
    if not fault.doing.startswith("while parsing a block") or fault.before.strip():
        return None
    if fault.character == ":":
        return fault.problem("the key before the colon is missing", "write a name before the `:`")
    if fault.character == "-":
        return fault.problem(
            "a list item stands where a key is expected", "indent it below the key that the list belongs to"
        )
    if "collection" in fault.doing:
        return fault.problem(
            "a key stands where a list item is expected",
            "start it with `- `, or move it to the indentation of its mapping",
        )
    return fault.problem(
        "the indentation of this line matches none of the lines above",
        "give keys of one mapping the same indentation",
    )


_EXPLANATIONS: Final[tuple[Callable[[Fault], Problem | None], ...]] = (
    _explain_conflict,
    _explain_tab,
    _explain_template,
    _explain_colon,
    _explain_character,
    _explain_escape,
    _explain_open_quote,
    _explain_bracket,
    _explain_alias,
    _explain_tag,
    _explain_block_text,
    _explain_list_item,
    _explain_missing_colon,
    _explain_after_quote,
    _explain_stray,
    _explain_indentation,
)
