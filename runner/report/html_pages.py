"""HTML pages made from templates, each one file that loads nothing but its own pictures and runs no code but its own.

What a template puts in comes from jobs and models. All of it is escaped, so that it is no markup, and what a browser or
an editor would obey is spelled out as for a terminal (`console.plain`). Should something be markup all the same, the
page's Content-Security-Policy lets it load and do nothing.
"""

from __future__ import annotations

from base64 import b64encode
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from runner.console import plain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path


@dataclass(frozen=True)
class HtmlPage:
    """A page whose template, style and script, if it has one, are files of one folder.

    The template is given `style`, `script` and the `policy` that lets just these two act. `filters` are its own.
    """

    folder: Path
    template: str
    style: str
    script: str | None
    filters: Mapping[str, Callable[[Any], str]]

    def pieces(self, *, has_folder: bool = False, **values: object) -> Iterator[str]:
        """The page, piece by piece, made of these values. `has_folder`: it shows pictures that are files beside it."""
        style = self._file(self.style)
        script = None if self.script is None else self._file(self.script)
        return self._environment.get_template(self.template).generate(
            policy=_policy(style=style, script=script, has_folder=has_folder),
            style=Markup(style),  # noqa: S704 - a file of this package
            script=script and Markup(script),  # noqa: S704
            **values,
        )

    def _file(self, name: str) -> str:
        return (self.folder / name).read_text(encoding="utf-8")

    @cached_property
    def _environment(self) -> Environment:
        environment = Environment(
            loader=FileSystemLoader(self.folder),
            autoescape=True,
            undefined=StrictUndefined,
            finalize=_harmless,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        environment.filters |= self.filters
        return environment


def as_made(pieces: Iterable[str]) -> Iterator[Markup]:
    """Pieces that stand in the page as they are: for what was made for their place, as the JSON of a script is."""
    return map(Markup, pieces)


def _harmless(value: object) -> object:
    """What a template puts in: escaping leaves control characters, marks that reorder text and lone surrogates."""
    return plain(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _policy(*, style: str, script: str | None, has_folder: bool) -> str:
    """The Content-Security-Policy: this style, this script and pictures in the file, or also in the folder beside it,
    which is of the page's own origin; no other load, form or frame.

    Trusted types hold the script to making elements one by one: to parse any text as markup is an error.
    """
    allowed = [f"style-src '{_digest(style)}'"]
    if script is not None:
        allowed += [f"script-src '{_digest(script)}'", "img-src data: 'self'" if has_folder else "img-src data:"]
        allowed += ["require-trusted-types-for 'script'", "trusted-types 'none'"]
    return "; ".join(["default-src 'none'", *allowed, "base-uri 'none'", "form-action 'none'"])


def _digest(text: str) -> str:
    return f"sha256-{b64encode(sha256(text.encode()).digest()).decode()}"
