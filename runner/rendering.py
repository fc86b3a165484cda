"""A chosen case -> the case as it is asked: templates rendered, images found, with its key."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from runner import assertions, media, sidecar
from runner.body_images import REFUSED, NamedImages
from runner.datasets.files import DataError
from runner.errors import Problem, UsageError
from runner.file_variables import file_variables
from runner.media.files import MediaError
from runner.path_patterns import PathPatterns
from runner.records import Assertion, Case, CaseFile, CaseGlob, Message, Request, SidecarFile, Text
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
        self._paths = PathPatterns(self._root, self._templates, self._allow_dirs)
        self._is_glob = isinstance(job.cases, CaseGlob)
        self._rows_of = str(self._root / job.cases.path) if isinstance(job.cases, CaseFile) else ""

    def case(self, chosen: Chosen) -> Case:
        """The case as it is asked. One that cannot be rendered has a fault, which says why."""
        case, problems = self.examine(chosen)
        return case if not problems else _at_fault(case, problems)

    def examine(self, chosen: Chosen) -> tuple[Case, list[Problem]]:
        """The case, and everything that is wrong with it."""
        job = chosen.variant.job
        problems: list[Problem] = []
        variables, named = self._variables(chosen)
        request = self._request(job, named, problems)
        plan = self._sidecar(job, named, problems)
        case = Case(
            job=job,
            id=chosen.id,
            index=chosen.position,
            key=key(job.model, request, repeat=chosen.repeat),
            vars=variables,
            request=request,
            assertions=tuple(self._assertion(spec, named, problems) for spec in (*job.assertions, *chosen.assertions)),
            repeat=chosen.repeat,
            matrix=chosen.variant.values or None,
            tags=chosen.tags,
            line=max(chosen.place.line, 1),
            origin=f"{self._rows_of}:{chosen.line}" if self._rows_of else "",
            sidecar=plan,
        )
        return case, problems

    def sidecar(self, chosen: Chosen) -> SidecarFile | None:
        """The sidecar of a case of which nothing else is rendered; None if its path can't be, which `case` tells."""
        return self._sidecar(chosen.variant.job, self._variables(chosen)[1], [])

    def _variables(self, chosen: Chosen) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
        """The variables of a case, and all that its templates may name: columns may have names that none can say."""
        job = chosen.variant.job
        variables = {**job.vars, **chosen.vars, **job.fixed_vars}
        if self._is_glob and "file" not in job.fixed_vars:
            variables["file"] = file_variables(chosen.vars["file"], self._root, allow_dirs=self._allow_dirs)
        return variables, {"row": chosen.vars, **variables} if chosen.line else variables

    def _sidecar(self, job: Job, variables: Mapping[str, Any], problems: list[Problem]) -> SidecarFile | None:
        if job.sidecar is None:
            return None
        try:
            path = self._templates.render(job.sidecar.path, variables)
            folder = sidecar.folder_of_input(self._input(job, variables), self._root)
            found = sidecar.located(path, folder, root=self._root, allow_dirs=self._allow_dirs)
        except UsageError as error:
            told = [replace(each, place=each.place or job.sidecar.path.place) for each in error.problems]
            problems.extend(problem for problem in told if problem not in problems)
            return None
        shown, file = found
        spec = job.sidecar
        return SidecarFile(path=shown, file=file, place=spec.path.place, text=spec.text, variables=variables)

    def _input(self, job: Job, variables: Mapping[str, Any]) -> str | None:
        """The path of the file that a case is about: its own, or the first that it attaches."""
        if self._is_glob and "file" not in job.fixed_vars:
            return str(variables["file"]["path"])
        attached = (template for turn in job.turns for template in turn.images)
        first = next(attached, None)
        return None if first is None else self._templates.render(first, variables)

    def _request(self, job: Job, variables: Mapping[str, Any], problems: list[Problem]) -> Request:
        def text(template: Text) -> str:
            return self._text(template, variables, problems)

        def message(turn: Turn) -> Message:
            images = [image for template in turn.images for image in self._images(template, variables, problems)]
            rendered = text(turn.text)
            if not images and not rendered.strip() and not any(known.place == turn.text.place for known in problems):
                problems.append(Problem(f"the text of this {turn.role} turn is empty", turn.text.place, _EMPTY_HINT))
            return Message(role=turn.role, text=rendered, images=tuple(images))

        named: dict[str, Image] = {}
        body = _map_strings(job.body, lambda template: self._body_text(template, variables, problems, named))
        system = "" if job.system is None else text(job.system)
        return Request(
            system=system if system.strip() else None,  # Converse refuses an empty one, which can only mean none
            messages=tuple(message(turn) for turn in job.turns),
            inference=job.inference,
            extra=job.extra,
            body=body,
            images=tuple(named.values()),
        )

    def _text(
        self,
        template: Text,
        variables: Mapping[str, Any],
        problems: list[Problem],
        *,
        functions: Mapping[str, Callable[..., str]] = REFUSED,
    ) -> str:
        try:
            return self._templates.render(template, variables, functions=functions)
        except UsageError as error:
            problems.extend(error.problems)
            return ""

    def _body_text(
        self, template: Text, variables: Mapping[str, Any], problems: list[Problem], named: dict[str, Image]
    ) -> str:
        """A string of a raw body. The images that it names are added to `named`, by hash."""
        images = NamedImages(partial(media.describe, root=self._root, allow_dirs=self._allow_dirs))
        before = len(problems)
        text = self._text(template, variables, problems, functions=images.functions)
        lost = images.unwritten(text) if len(problems) == before else None
        if lost is not None:
            message = f"the template changes what `image_base64` gives for {lost.path!r}, or does not write it"
            problems.append(Problem(message, template.place, "write `{{ image_base64(PATH) }}`, without a filter"))
        named.update(images.images)
        return text

    def _images(self, template: Text, variables: Mapping[str, Any], problems: list[Problem]) -> list[Image]:
        """The image that an entry of `images:` names, or those that match it."""
        before = len(problems)
        path = self._text(template, variables, problems)
        if len(problems) > before:
            return []  # its path could not be rendered, which has been said
        try:
            paths = self._paths.matching(template, path, variables)
            return [media.describe(path, self._root, allow_dirs=self._allow_dirs) for path in paths]
        except DataError as error:
            problems.append(error.problem)
        except MediaError as error:
            problems.append(Problem(error.message, template.place, error.hint))
        return []

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
    asked: dict[str, Any] = {
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
    if request.images:
        asked["body_images"] = [image.sha256 for image in request.images]
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
