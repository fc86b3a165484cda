"""What the emulator can be told at its start, checked."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from runner.emulator.faults import FAULTS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path


class SettingsError(Exception):
    """The emulator cannot be started as asked. The message is one clear line per problem."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown `word`: the nearest known one, or all of them."""
    choices = sorted(known)
    near = difflib.get_close_matches(word, choices, n=1, cutoff=0.7)  # below it most words are like some other
    return f"did you mean {near[0]}?" if near else f"known: {', '.join(choices)}"


_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "": 1.0}


def seconds(text: str) -> float:
    """A time such as `300ms`, `2s`, `1m` or, in seconds, `0.3`. Raises ValueError."""
    match = re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?)(ms|s|m|)", text)
    if match is None:
        raise ValueError(f"must be a time, as in 300ms or 2s, not {text!r}")
    return float(match[1]) * _UNITS[match[2]]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How to serve. Times are seconds. Raises SettingsError when made with values that make no sense.

    With `secret_access_key` every SigV4 signature must verify (and name `access_key_id`, if that is given too); with
    `bearer_token` a bearer must be that one. Without them the shape of the authorization is checked, its truth is not.

    `latency` is the time to the first byte, `pace` the time between two events of a stream. `faults` maps names from
    FAULTS to the probability that a call meets them; `seed` decides which calls do. Quotas are per model and region, as
    token buckets that hold `burst` seconds' worth and start full. `log` gets one line per request; `unused`, when
    serving ends, one for each entry of `replies` that has answered no call.
    """

    host: str = "127.0.0.1"
    port: int = 0
    access_key_id: str | None = None
    secret_access_key: str | None = field(default=None, repr=False)
    bearer_token: str | None = field(default=None, repr=False)
    replies: Path | None = None
    latency: float = 0
    pace: float = 0
    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    burst: float = 60
    faults: Mapping[str, float] = field(default_factory=dict)
    seed: int = 0
    log: Callable[[str], None] | None = None
    unused: Callable[[str], None] | None = None

    def __post_init__(self) -> None:
        problems = list(self._problems())
        if problems:
            raise SettingsError("\n".join(problems))

    def _problems(self) -> Iterable[str]:
        if not self.host or not self.host.isprintable():
            yield "host must be an address to serve on, such as 127.0.0.1"
        if not 0 <= self.port <= 65535:
            yield f"port must be from 0 to 65535, not {self.port}"
        for name, value in (("latency", self.latency), ("pace", self.pace)):
            if not 0 <= value < float("inf"):
                yield f"{name} must be 0 or more seconds, not {value}"
        for name, quota in (("requests", self.requests_per_minute), ("tokens", self.tokens_per_minute)):
            if quota is not None and not 0 < quota < float("inf"):
                yield f"{name}_per_minute must be more than 0, not {quota}"
        if not 0 < self.burst < float("inf"):
            yield f"burst must be more than 0 seconds, not {self.burst}"
        yield from self._fault_problems()

    def _fault_problems(self) -> Iterable[str]:
        for name, probability in self.faults.items():
            if name not in FAULTS:
                yield f"unknown fault {name!r}: {did_you_mean(name, FAULTS)}"
            elif not 0 <= probability <= 1:
                yield f"the probability of fault {name} must be from 0 to 1, not {probability}"
        if sum(self.faults.values()) > 1 + 1e-9:
            yield "the probabilities of all faults together must not exceed 1: a call meets one fault at most"
