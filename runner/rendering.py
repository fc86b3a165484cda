"""A chosen case -> the case as it is asked: templates rendered, images found, with its key."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from itertools import count
from typing import TYPE_CHECKING, Any

from runner import assertions, media, models
from runner.errors import Problem, UsageError
from runner.media import attached, rules, s3
from runner.media.files import MediaError
from runner.records import Assertion, Case, CaseFile, DiskFile, Document, Image, Message, Request, S3Object, Text
from runner.template import Templates

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path
    from typing import Literal

    from runner.cases import Chosen
    from runner.records import AssertionSpec, Job, Turn

_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"))
_EMPTY_HINT = "Bedrock refuses a turn without text or images: write something, or check the variables in it"
_NO_TEXT_HINT = "Bedrock refuses documents without a text: say what is to be done with them"


class Renderer:
    """Renders the cases of one job. Paths in the job are relative to its folder, or within one of `allow_dirs`.

    With `media.look` to find images their content is not read: then the keys of cases mean nothing.
    """

    def __init__(
        self, job: Job, allow_dirs: Sequence[Path] = (), *, find_image: Callable[..., Image] = media.describe
    ) -> None:
        self._root = job.path.parent
        self._allow_dirs = tuple(allow_dirs)
        self._find_image = find_image
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
            assertions=tuple(self._assertion(spec, named, problems) for spec in (*job.assertions, *chosen.assertions)),
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

        limits = self._limits(job)

        def attached(template: Text, kind: Literal["document", "video"]) -> DiskFile | S3Object | None:
            return self._attached(template, kind, text(template), job, problems)

        def message(turn: Turn) -> Message:
            images = [self._image(template, text(template), job, limits, problems) for template in turn.images]
            documents = [attached(template, "document") for template in turn.documents]
            video = attached(turn.video, "video") if turn.video else None
            rendered = text(turn.text)
            if not rendered.strip() and not any(known.place == turn.text.place for known in problems):
                if documents:
                    problems.append(Problem("the text beside these documents is empty", turn.text.place, _NO_TEXT_HINT))
                elif not turn.attached:
                    what = f"the text of this {turn.role} turn is empty"
                    problems.append(Problem(what, turn.text.place, _EMPTY_HINT))
            return Message(
                role=turn.role,
                text=rendered,
                images=tuple(image for image in images if image is not None),
                documents=tuple(Document(name="", content=content) for content in documents if content is not None),
                video=video,
            )

        system = "" if job.system is None else text(job.system)
        messages = _named(message(turn) for turn in job.turns)
        problems += _too_many(job, messages)
        return Request(
            system=system if system.strip() else None,  # Converse refuses an empty one, which can only mean none
            messages=messages,
            inference=job.inference,
            extra=job.extra,
            body=_map_strings(job.body, text),
        )

    def _text(self, template: Text, variables: Mapping[str, Any], problems: list[Problem]) -> str:
        try:
            return self._templates.render(template, variables)
        except UsageError as error:
            problems.extend(error.problems)
            return ""

    def _limits(self, job: Job) -> media.Limits:
        """What a picture of the job may have at most."""
        attached = sum(len(turn.images) + len(turn.documents) for turn in job.turns)
        facts = models.image_facts(job.model)
        max_edge = job.images.max_edge or (facts.edge if facts else None)
        return media.Limits.among(attached, max_edge=max_edge, fit=job.images.fit)

    def _image(
        self, template: Text, path: str, job: Job, limits: media.Limits, problems: list[Problem]
    ) -> Image | S3Object | None:
        if any(problem.place == template.place for problem in problems):
            return None  # its path could not be rendered, which has been said
        try:
            if s3.is_uri(path):
                return attached.in_s3(path, "image", job)
            image = self._find_image(path, self._root, allow_dirs=self._allow_dirs)
            return replace(image, fit=media.plan(image, limits))
        except MediaError as error:
            problems.append(Problem(error.message, template.place, error.hint))
            return None

    def _attached(
        self, template: Text, kind: Literal["document", "video"], path: str, job: Job, problems: list[Problem]
    ) -> DiskFile | S3Object | None:
        if any(problem.place == template.place for problem in problems):
            return None  # as above
        try:
            return attached.describe(path, kind, job, allow_dirs=self._allow_dirs)
        except MediaError as error:
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
    """SHA-256 of what is asked: the model, the rendered request, the content of its files and the repeat.

    Not of how: API, streaming, region and timeouts are left out, and so are the names of files. Of an object in S3 the
    name is all that is known. An image that is made to fit counts with the size that it is sent in.
    """
    inference = request.inference
    asked = {
        "model": model,
        "system": request.system,
        "messages": [_asked(message) for message in request.messages],
        "inference": None
        if request.body is not None
        else [inference.max_tokens, inference.temperature, inference.top_p, inference.top_k, inference.stop],
        "extra": request.extra,
        "body": request.body,
        "repeat": repeat,
    }
    return hashlib.sha256(_CANONICAL.encode(asked).encode()).hexdigest()


def _asked(message: Message) -> list[Any]:
    """What a message asks. Of documents and video it holds the type too: it is told to the model by the suffix."""
    asked: list[Any] = [message.role, message.text, [_content(image) for image in message.images]]
    if message.documents or message.video:  # else the keys of earlier rows would no longer be found
        asked.append([[each.content.media_type, _content(each.content)] for each in message.documents])
    if message.video:
        asked.append([message.video.media_type, _content(message.video)])
    return asked


def _content(file: Image | DiskFile | S3Object) -> str | list[Any]:
    """What decides whether two files are the same."""
    if isinstance(file, S3Object):
        return file.path
    fit = file.fit if isinstance(file, Image) else None
    return file.sha256 if fit is None else [file.sha256, fit.media_type, fit.width, fit.height]


def _named(messages: Iterable[Message]) -> tuple[Message, ...]:
    """The messages, the documents of all of them numbered."""
    numbers = count(1)

    def named(document: Document) -> Document:
        return replace(document, name=f"Document {next(numbers)}")

    return tuple(
        replace(message, documents=tuple(map(named, message.documents))) if message.documents else message
        for message in messages
    )


def _too_many(job: Job, messages: Sequence[Message]) -> Iterator[Problem]:
    documents = [document for message in messages for document in message.documents]
    number = sum(isinstance(document.content, DiskFile) for document in documents)
    if job.api == "converse" and number > rules.MOST_DOCUMENTS:
        last = [template for turn in job.turns for template in turn.documents][-1]
        yield Problem(
            f"the conversation has {number} documents; Bedrock takes at most {rules.MOST_DOCUMENTS} in a request",
            last.place,
            "join some of them, or ask about them in cases of their own",
        )


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
