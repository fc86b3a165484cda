"""A chosen case -> the case as it is asked: templates rendered, images found, with its key."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from runner import assertions, media, structured
from runner.errors import Problem, UsageError
from runner.records import Assertion, Case, CaseFile, Message, Request, Text
from runner.template import Templates

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from runner.cases import Chosen
    from runner.records import AssertionSpec, Image, Job, Turn

_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"))
_EMPTY_HINT = "Bedrock refuses a turn without text or images: write something, or check the variables in it"


class Renderer:
    """Renders the cases of one job. Paths in the job are relative to its folder, or within one of `allow_dirs`."""

    def __init__(self, job: Job, allow_dirs: Sequence[Path] = ()) -> None:
        self._root = job.path.parent
        self._allow_dirs = tuple(allow_dirs)
        self._templates = Templates(self._root)
        self._rows_of = str(self._root / job.cases.path) if isinstance(job.cases, CaseFile) else ""

    def case(self, chosen: Chosen) -> Case:
        """The case as it is asked. One that cannot be rendered has a fault, which says why."""
        case, problems = self.examine(chosen)
        return case if not problems else _at_fault(case, problems)

    def examine(self, chosen: Chosen) -> tuple[Case, list[Problem]]:
        """The case, and everything that is wrong with it."""
        job = chosen.variant.job
        problems: list[Problem] = []
        variables = {**job.vars, **chosen.vars, **job.fixed_vars}
        # Columns may have names that no template can say.
        named = {"row": chosen.vars, **variables} if chosen.line else variables
        request = self._request(job, named, problems)
        case = Case(
            job=job,
            id=chosen.id,
            index=chosen.position,
            key=key(job.model, request, repeat=chosen.repeat),
            vars=variables,
            request=request,
            assertions=(
                *((structured.assertion(job.response_schema),) if job.response_schema else ()),
                *(self._assertion(spec, named, problems) for spec in (*job.assertions, *chosen.assertions)),
            ),
            repeat=chosen.repeat,
            matrix=chosen.variant.values or None,
            tags=chosen.tags,
            line=max(chosen.place.line, 1),
            origin=f"{self._rows_of}:{chosen.line}" if self._rows_of else "",
        )
        return case, problems

    def _request(self, job: Job, variables: Mapping[str, Any], problems: list[Problem]) -> Request:
        def text(template: Text) -> str:
            return self._text(template, variables, problems)

        def message(turn: Turn) -> Message:
            images = [self._image(template, text(template), problems) for template in turn.images]
            rendered = text(turn.text)
            if not images and not rendered.strip() and not any(known.place == turn.text.place for known in problems):
                problems.append(Problem(f"the text of this {turn.role} turn is empty", turn.text.place, _EMPTY_HINT))
            return Message(role=turn.role, text=rendered, images=tuple(image for image in images if image is not None))

        system = "" if job.system is None else text(job.system)
        return Request(
            system=system if system.strip() else None,  # Converse refuses an empty one, which can only mean none
            messages=tuple(message(turn) for turn in job.turns),
            inference=job.inference,
            extra=job.extra,
            body=_map_strings(job.body, text),
            response_schema=job.response_schema,
        )

    def _text(self, template: Text, variables: Mapping[str, Any], problems: list[Problem]) -> str:
        try:
            return self._templates.render(template, variables)
        except UsageError as error:
            problems.extend(error.problems)
            return ""

    def _image(self, template: Text, path: str, problems: list[Problem]) -> Image | None:
        if any(problem.place == template.place for problem in problems):
            return None  # its path could not be rendered, which has been said
        try:
            return media.describe(path, self._root, allow_dirs=self._allow_dirs)
        except media.MediaError as error:
            problems.append(Problem(error.message, template.place, error.hint))
            return None

    def _assertion(self, spec: AssertionSpec, variables: Mapping[str, Any], problems: list[Problem]) -> Assertion:
        before = len(problems)
        assertion = Assertion(
            type=spec.type,
            place=spec.place,
            negated=spec.negated,
            value=_map_strings(spec.value, lambda template: self._text(template, variables, problems)),
            threshold=spec.threshold,
            model=spec.model,
            weight=spec.weight,
            assertions=tuple(self._assertion(part, variables, problems) for part in spec.assertions),
        )
        wrong = assertions.problem_with(assertion) if len(problems) == before else None  # else it has said why
        if wrong is not None:
            place = spec.value.place if isinstance(spec.value, Text) else spec.place
            problems.append(Problem(wrong, place, assertions.advice(assertion)))
        return assertion


def key(model: str, request: Request, *, repeat: int) -> str:
    """SHA-256 of what is asked: the model, the rendered request, the content of its images and the repeat.

    Not of how: API, streaming, region and timeouts are left out, and so are the names of image files.
    """
    inference = request.inference
    asked = {
        "model": model,
        "system": request.system,
        "messages": [
            [message.role, message.text, [image.sha256 for image in message.images]] for message in request.messages
        ],
        "inference": None
        if request.body is not None
        else [inference.max_tokens, inference.temperature, inference.top_p, inference.top_k, inference.stop],
        "extra": request.extra,
        "body": request.body,
        "repeat": repeat,
    }
    if request.response_schema is not None:  # rows of jobs without one keep their keys
        asked["response_schema"] = request.response_schema.schema
    return hashlib.sha256(_CANONICAL.encode(asked).encode()).hexdigest()


def _at_fault(case: Case, problems: Sequence[Problem]) -> Case:
    """The case with all its problems as one fault, which says where each is and which row it concerns."""
    told = [f"{problem.message} ({problem.place})" if problem.place else problem.message for problem in problems]
    where = f"{case.origin}: " if case.origin else ""
    return replace(case, fault=Problem(where + "; ".join(told), problems[0].place, problems[0].hint))


def _map_strings(value: Any, change: Callable[[Text], str]) -> Any:
    if isinstance(value, Text):
        return change(value)
    if isinstance(value, dict):
        return {name: _map_strings(item, change) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_map_strings(item, change) for item in value]
    return value
