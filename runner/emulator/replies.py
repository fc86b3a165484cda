"""Scripted replies: a YAML file that says what the local model answers, and when it fails.

    - match: haiku                # a regular expression, searched in the last thing the user said
      reply: An old silent pond
    - match: "weather in (Paris|Rome)"
      reply: [Sunny., Rainy.]     # in turn: the first to the first call that matches, and so on
    - match: .*
      times: 2                    # the first two calls that get here, then the entry is skipped
      fault: throttle             # one of `bedrock-run emulate --faults`

The first entry that matches counts; where none does the local model answers by itself. Further keys: `model` (a glob
over the model id), `turn` (only in that turn of the user's, from 1), `stop_reason`, `latency` (`300ms`, `2s`), and for
any error of AWS `status`, `error` and `message`.
"""

from __future__ import annotations

import fnmatch
import re
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING, Any

import yaml

from runner.emulator.errors import AwsError
from runner.emulator.faults import FAULTS
from runner.emulator.settings import SettingsError, did_you_mean, seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from runner.emulator.prompt import Prompt

_ACTIONS = ("reply", "fault", "error", "latency", "stop_reason")


@dataclass(slots=True, kw_only=True)
class Entry:
    """One entry of the file. `served` counts the calls that it has answered; `met` is whether there were any."""

    place: str  # as `replies.yaml:12`
    match: re.Pattern[str]
    model: str = "*"
    turn: int | None = None
    times: int | None = None
    reply: tuple[str, ...] = ()
    stop_reason: str = "end_turn"
    fault: str | None = None
    latency: float | None = None
    error: str | None = None
    status: int | None = None
    message: str = "A scripted error of the local emulator."
    served: Iterator[int] = field(default_factory=count)
    left: int | None = field(init=False)
    met: bool = False

    def __post_init__(self) -> None:
        self.left = self.times

    def fits(self, prompt: Prompt, model_id: str) -> bool:
        user_turns = sum(turn.role == "user" for turn in prompt.turns)
        return (
            self.left != 0
            and self.turn in {None, user_turns}
            and fnmatch.fnmatchcase(model_id, self.model)
            and self.match.search(prompt.question) is not None
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Scripted:
    """What an entry says about one call. `text` is None where the local model is to answer by itself."""

    text: str | None
    stop_reason: str
    fault: str | None
    latency: float | None
    error: AwsError | None


class Script:
    """The entries of a file, in order."""

    def __init__(self, entries: list[Entry]) -> None:
        self._entries = entries

    def unused(self) -> Iterator[str]:
        """The entries that have answered no call yet, a line for each."""
        for entry in self._entries:
            if not entry.met:
                yield f"{entry.place}: no call got to the entry `match: {entry.match.pattern}`"

    def next(self, prompt: Prompt, model_id: str) -> Scripted | None:
        """What the first entry that fits says, counting the call; None where none fits. `model_id` is as called."""
        entry = next((entry for entry in self._entries if entry.fits(prompt, model_id)), None)
        if entry is None:
            return None
        if entry.left is not None:
            entry.left -= 1
        entry.met = True
        turn = next(entry.served)
        return Scripted(
            text=entry.reply[turn % len(entry.reply)] if entry.reply else None,
            stop_reason=entry.stop_reason,
            fault=entry.fault,
            latency=entry.latency,
            error=AwsError(entry.error, entry.message, status=entry.status) if entry.error else None,
        )


def load(path: Path | None) -> Script:
    """Read a replies file; no path is an empty script. Raises SettingsError with every problem as `file:line: what`."""
    if path is None:
        return Script([])
    try:
        loader = yaml.SafeLoader(path.read_text(encoding="utf-8-sig"))
        root = loader.get_single_node()
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror}") from None
    except RecursionError:
        raise SettingsError(f"{path}: nested too deeply") from None
    except UnicodeDecodeError:
        raise SettingsError(f"{path}: not UTF-8 text") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = mark.line + 1 if mark else 1
        raise SettingsError(f"{path}:{line}: {getattr(error, 'problem', None) or 'not YAML'}") from None
    if not isinstance(root, yaml.SequenceNode):
        raise SettingsError(f"{path}:1: a replies file is a list of entries, each with `match` and `reply`")
    problems: list[str] = []
    entries = [entry for node in root.value if (entry := _entry(node, path, problems)) is not None]
    if problems:
        raise SettingsError("\n".join(problems))
    return Script(entries)


def _entry(node: yaml.Node, path: Path, problems: list[str]) -> Entry | None:
    """The entry at `node`, or None after adding to `problems` what is wrong with it."""
    if not isinstance(node, yaml.MappingNode):
        problems.append(_problem(path, node, "an entry has keys, as in `match: hello`"))
        return None
    before = len(problems)
    values: dict[str, Any] = {}
    for key_node, value_node in node.value:
        key = str(key_node.value)
        if key not in _READ or key in values:
            what = f"unknown key {key}: {did_you_mean(key, _READ)}" if key not in _READ else f"{key} is given twice"
            problems.append(_problem(path, key_node, what))
            continue
        values[key] = None  # so that a second one is seen even where this one is wrong
        try:
            values[key] = _READ[key](value_node)
        except ValueError as error:
            problems.append(_problem(path, key_node, f"{key}: {error}"))
    if len(problems) == before and (missing := _missing(values)):
        problems.append(_problem(path, node, missing))
    return Entry(place=f"{path}:{node.start_mark.line + 1}", **values) if len(problems) == before else None


def _missing(values: dict[str, Any]) -> str | None:
    if "match" not in values:
        return "match is missing: what should the user have said? `match: .*` is anything"
    if not any(key in values for key in _ACTIONS):
        return f"nothing to do: give one of {', '.join(_ACTIONS)}"
    if "error" not in values and ("status" in values or "message" in values):
        return "status and message need error: the name of AWS's error"
    return None


def _problem(path: Path, node: yaml.Node, message: str) -> str:
    return f"{path}:{node.start_mark.line + 1}: {message}"


def _text(node: yaml.Node) -> str:
    if not isinstance(node, yaml.ScalarNode) or node.tag == "tag:yaml.org,2002:null":
        raise ValueError("must be text")
    # JSON escapes an emoji as its two halves in UTF-16. A lone half stays: models send such text too.
    return str(node.value).encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")


def _pattern(node: yaml.Node) -> re.Pattern[str]:
    try:
        return re.compile(_text(node))
    except re.error as error:
        raise ValueError(f"not a regular expression: {error}") from None


def _texts(node: yaml.Node) -> tuple[str, ...]:
    if not isinstance(node, yaml.SequenceNode):
        return (_text(node),)
    if not node.value:
        raise ValueError("the list is empty")
    return tuple(_text(item) for item in node.value)


def _fault(node: yaml.Node) -> str:
    name = _text(node)
    if name not in FAULTS:
        raise ValueError(f"unknown fault {name!r}: {did_you_mean(name, FAULTS)}")
    return name


def _error_name(node: yaml.Node) -> str:
    name = _text(node)
    if not re.fullmatch("[A-Za-z_]+", name):
        raise ValueError(f"must be AWS's name for an error, as in ThrottlingException, not {name!r}")
    return name


def _whole(least: int, most: int | None = None) -> Callable[[yaml.Node], int]:
    def read(node: yaml.Node) -> int:
        text = _text(node)
        if not text.isdecimal() or int(text) < least or (most is not None and int(text) > most):
            raise ValueError(f"must be a whole number from {least}{f' to {most}' if most else ''}, not {text!r}")
        return int(text)

    return read


def _duration(node: yaml.Node) -> float:
    return seconds(_text(node))


_READ: dict[str, Callable[[yaml.Node], Any]] = {
    "match": _pattern,
    "model": _text,
    "turn": _whole(1),
    "times": _whole(1),
    "reply": _texts,
    "stop_reason": _text,
    "fault": _fault,
    "latency": _duration,
    "status": _whole(400, 599),
    "error": _error_name,
    "message": _text,
}
