"""A chosen case -> the case as it is asked: templates rendered, images found, with its key."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from runner import assertions, media
from runner.bedrock import structured
from runner.cases import sidecar
from runner.cases.attaching import Finder, Unfitted, are_alike, prepared, too_many_images
from runner.cases.file_variables import file_variables
from runner.cases.keys import key
from runner.errors import Problem, UsageError
from runner.media.files import MediaError
from runner.records import Assertion, Case, CaseFile, CaseGlob, Message, Request, SidecarFile, Text
from runner.templates import body_images
from runner.templates.body_images import REFUSED
from runner.templates.environment import Templates

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from runner.cases.plan import Chosen
    from runner.errors import Place
    from runner.records import AssertionSpec, Document, Image, Job, S3Object, Turn

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
        self._templates = Templates(self._root)
        self._files = Finder(job, self._templates, self._allow_dirs, find_image=find_image)
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
            assertions=(
                *((structured.assertion(job.response_schema),) if job.response_schema else ()),
                *(self._assertion(spec, named, problems) for spec in (*job.assertions, *chosen.assertions)),
            ),
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
        first = next((template for turn in job.turns for template in turn.attached), None)
        path = "" if first is None else self._templates.render(first, variables)
        return path or None

    def _request(self, job: Job, variables: Mapping[str, Any], problems: list[Problem]) -> Request:
        found = [self._message(turn, job, variables, problems) for turn in job.turns]
        body, images = self._body(job, variables, problems)
        system = "" if job.system is None else self._text(job.system, variables, problems)
        return Request(
            system=system if system.strip() else None,  # Converse refuses an empty one, which can only mean none
            messages=prepared(job, found, problems),
            inference=job.inference,
            extra=job.extra,
            body=body,
            images=images,
            response_schema=job.response_schema,
        )

    def _message(self, turn: Turn, job: Job, variables: Mapping[str, Any], problems: list[Problem]) -> Unfitted:
        images: list[Image | S3Object] = []
        places: list[Place] = []
        documents: list[Document] = []
        video = None
        for template in turn.images:
            with _noting(problems, template.place):
                path = self._path(template, variables)
                found = self._files.images(template, path, variables=variables, job=job)
                images += found
                places += [template.place] * len(found)
        for template in turn.documents:
            with _noting(problems, template.place):
                path = self._path(template, variables)
                documents += self._files.documents(template, path, variables=variables, job=job)
        if turn.video:
            with _noting(problems, turn.video.place):
                video = self._files.video(self._path(turn.video, variables), job)
        text = self._text(turn.text, variables, problems)
        if not text.strip() and not any(known.place == turn.text.place for known in problems):
            if turn.documents:
                problems.append(Problem("the text beside these documents is empty", turn.text.place, _NO_TEXT_HINT))
            elif not turn.attached:
                problems.append(Problem(f"the text of this {turn.role} turn is empty", turn.text.place, _EMPTY_HINT))
        message = Message(role=turn.role, text=text, images=tuple(images), documents=tuple(documents), video=video)
        return Unfitted(message, places)

    def _path(self, template: Text, variables: Mapping[str, Any]) -> str:
        """The path that a template gives. Raises UsageError."""
        return self._templates.render(template, variables, functions=REFUSED)

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

    def _body(self, job: Job, variables: Mapping[str, Any], problems: list[Problem]) -> tuple[Any, tuple[Image, ...]]:
        """The raw body and the images that it names.

        How large they may be depends on how many there are, which only the rendered body tells: it is rendered again
        where there are many.
        """
        if job.body is None:
            return None, ()
        body, named, wrong = self._body_among(1, job, variables)
        if not are_alike(job, 1, len(named)):
            body, named, wrong = self._body_among(len(named), job, variables)
        problems += wrong
        problems += too_many_images(job, [place for _, place in named])
        return body, body_images.distinct(image for image, _ in named)

    def _body_among(
        self, number: int, job: Job, variables: Mapping[str, Any]
    ) -> tuple[Any, list[tuple[Image, Place]], list[Problem]]:
        """The raw body, its images as they are sent among so many and where they are named, and what is wrong."""
        named: list[tuple[Image, Place]] = []
        problems: list[Problem] = []

        def written(template: Text) -> str:
            images = self._files.in_body(job, among=number)
            before = len(problems)
            text = self._text(template, variables, problems, functions=images.functions)
            lost = images.unwritten(text) if len(problems) == before else None
            if lost is not None:
                message = f"the template changes what `image_base64` gives for {lost.path!r}, or does not write it"
                problems.append(Problem(message, template.place, "write `{{ image_base64(PATH) }}`, without a filter"))
            named.extend((image, template.place) for image in images.images)
            return text

        return _map_strings(job.body, written), named, problems

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
        fault = assertions.fault_of(assertion) if len(problems) == before else None  # else it has said why
        if fault is not None:
            problems.append(Problem(fault.message, _nearest_text(spec, fault.steps).place, fault.hint))
        return assertion


def _nearest_text(spec: AssertionSpec, steps: Sequence[str | int]) -> AssertionSpec | Text:
    """What has a place on the way into the value of an assertion: a text in it or, above all texts, the assertion."""
    value = spec.value
    for step in steps:
        if isinstance(value, Text):
            break
        value = value[step]
    return value if isinstance(value, Text) else spec


@contextmanager
def _noting(problems: list[Problem], place: Place) -> Iterator[None]:
    """What goes wrong while the file of a template at `place` is found becomes one of the `problems`."""
    try:
        yield
    except UsageError as error:
        problems.extend(error.problems)
    except MediaError as error:
        problems.append(Problem(error.message, place, error.hint))


def _at_fault(case: Case, problems: Sequence[Problem]) -> Case:
    """The case with all its problems as one fault, which says where each is and which row it concerns.

    A file that several templates ask about has one fault.
    """
    first: dict[str, Problem] = {}
    for problem in problems:
        first.setdefault(problem.message, problem)
    told = [f"{each.message} ({each.place})" if each.place else each.message for each in first.values()]
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
