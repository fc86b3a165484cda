"""A path of a turn, which may be a pattern -> the paths that it stands for.

Wildcards count only where the job file itself writes them. What comes out of `{{ }}` names just what it says, since
`photo [1].jpg` in a table is a file and no pattern.
"""

from __future__ import annotations

import os
from functools import lru_cache
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from runner.datasets import globs
from runner.datasets.files import DataError
from runner.errors import Problem
from runner.records import Text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from runner.templates.environment import Templates

MAX_MATCHES: Final = 1000  # of one entry: more than any model takes in one request
_FOLDERS: Final = 8  # whose files are remembered

# Characters that Unicode reserves for such a use stand for the wildcards while a template is rendered.
_STAND_INS: Final = {"*": "\ufdd0", "?": "\ufdd1", "[": "\ufdd2", "{": "\ufdd3"}
_TO_WILDCARDS: Final = str.maketrans({stand_in: wildcard for wildcard, stand_in in _STAND_INS.items()})


class PathPatterns:
    """The patterns of one job, whose paths start at its folder `root`."""

    def __init__(self, root: Path, templates: Templates, allow_dirs: Sequence[Path] = ()) -> None:
        self._root = root
        self._templates = templates
        self._allow_dirs = allow_dirs
        self._listing = lru_cache(maxsize=_FOLDERS)(globs.listed)  # cases in a row look into the same folders
        self._marked: dict[str, Text | None] = {}  # by template: with stand-ins; None for one without a wildcard

    def matching(self, template: Text, path: str, variables: Mapping[str, Any]) -> list[str]:
        """The paths that a template names which has been rendered to `path`: that one, or the files that match it.

        A file that has just that name goes before all that match. The order is that of `cases: {glob}`. Raises
        DataError, at the template's place, for an empty path, a pattern that no file matches, and one of which more
        than MAX_MATCHES do.
        """
        if not path.strip():
            hint = "write the path of a file, or check the variables in it"
            raise DataError(Problem("the path of this file is empty", template.place, hint))
        pattern = self._pattern(template, path, variables)
        if pattern is None or os.path.lexists(self._root / path):
            return [path]
        found = globs.files(
            pattern, self._root, place=template.place, allow_dirs=self._allow_dirs, listing=self._listing
        )
        paths = [row.values["file"]["path"] for row in islice(found, MAX_MATCHES + 1)]
        if len(paths) > MAX_MATCHES:
            message = f"more than {MAX_MATCHES:,} files match `{pattern}`"
            raise DataError(Problem(message, template.place, "no model takes so many: write a pattern for fewer"))
        return paths

    def _pattern(self, template: Text, path: str, variables: Mapping[str, Any]) -> str | None:
        """The pattern that a template makes with these variables; None if it is a plain path."""
        if template.value not in self._marked:
            self._marked[template.value] = self._with_stand_ins(template)
        marked = self._marked[template.value]
        if marked is None or "://" in path or "\0" in path or any(each in path for each in _STAND_INS.values()):
            return None
        rendered = self._templates.render(marked, variables)
        return None if rendered == path else globs.escaped(rendered).translate(_TO_WILDCARDS)

    def _with_stand_ins(self, template: Text) -> Text | None:
        pieces = self._templates.written(template)
        marked = "".join(_marked(piece) if is_text else piece for piece, is_text in pieces)
        return None if marked == template.value else Text(marked, template.place)


def _marked(text: str) -> str:
    """A text of the job file with stand-ins for its wildcards. A brace is one only where commas follow, as in {a,b}."""
    braced = globs.BRACES.sub(lambda found: _STAND_INS["{"] + found[0][1:], text)
    for wildcard in "*?[":
        braced = braced.replace(wildcard, _STAND_INS[wildcard])
    return braced
