"""The paths that a job's turns and its raw body name -> the files that a case is sent with."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Any, NamedTuple

from runner import media, models
from runner.cases.path_patterns import PathPatterns
from runner.errors import Problem
from runner.media import attached, rules, s3
from runner.media.files import MediaError
from runner.records import DiskFile, Document, Image, Message, S3Object
from runner.templates.body_images import NamedImages

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from runner.errors import Place
    from runner.records import Job, Text
    from runner.templates.environment import Templates


class Finder:
    """Finds the files of a job. Paths are relative to its folder, or within one of `allow_dirs`."""

    def __init__(
        self, job: Job, templates: Templates, allow_dirs: Sequence[Path], *, find_image: Callable[..., Image]
    ) -> None:
        """`find_image` is `media.describe`, or `media.look` where nobody asks for what is in the files."""
        root = job.path.parent
        self._find_image = partial(find_image, root=root, allow_dirs=allow_dirs)
        self._patterns = PathPatterns(root, templates, allow_dirs)
        self._allow_dirs = allow_dirs

    def images(self, template: Text, path: str, *, variables: Mapping[str, Any], job: Job) -> list[Image | S3Object]:
        """The image that an entry of `images:` names, which was rendered to `path`, or those that match it.

        Raises MediaError, and DataError for a pattern that no file matches.
        """
        if s3.is_uri(path):
            return [attached.in_s3(path, "image", job)]
        return [self._find_image(each) for each in self._patterns.matching(template, path, variables)]

    def documents(self, template: Text, path: str, *, variables: Mapping[str, Any], job: Job) -> list[Document]:
        """The same of an entry of `documents:`. They have no names yet."""
        paths = [path] if s3.is_uri(path) else self._patterns.matching(template, path, variables)
        found = [attached.describe(each, "document", job, allow_dirs=self._allow_dirs) for each in paths]
        return [Document(name="", content=content) for content in found]

    def video(self, path: str, job: Job) -> DiskFile | S3Object:
        """The video of that path. Raises MediaError."""
        return attached.describe(path, "video", job, allow_dirs=self._allow_dirs)

    def in_body(self, job: Job, *, among: int) -> NamedImages:
        """What finds the images that a template of the raw body names, which has so many in all."""
        fitted = partial(_fitted, limits=_limits(job, among), job=job)
        return NamedImages(lambda path: fitted(self._find_image(path)))


def are_alike(job: Job, some: int, others: int) -> bool:
    """Whether images among `some` files are made to fit as they are among `others`."""
    return _limits(job, some) == _limits(job, others)


class Unfitted(NamedTuple):
    """A message whose images are as they are on disk, and the places of the entries that name them, one for each."""

    message: Message
    places: Sequence[Place]


def prepared(job: Job, found: Sequence[Unfitted], problems: list[Problem]) -> tuple[Message, ...]:
    """The messages of a job's turns, their images made to fit and their documents named; `problems` get what can't be.

    How large an image may be depends on how many files there are, and documents have names as their numbers: so this is
    for all messages of a conversation together.
    """
    if not any(message.attached for message, _ in found):  # most jobs: no limit needs to be known
        return tuple(message for message, _ in found)
    problems += too_many_images(job, [place for _, places in found for place in places])
    problems += _too_many_documents(job, found)
    files = sum(len(message.images) + len(message.documents) for message, _ in found)
    fitted = partial(_fitted, limits=_limits(job, files), job=job)
    numbers = count(1)
    return tuple(
        replace(
            message,
            images=tuple(_each_fitted(zip(message.images, places, strict=True), fitted, problems)),
            documents=tuple(replace(each, name=f"Document {next(numbers)}") for each in message.documents),
        )
        if message.attached
        else message
        for message, places in found
    )


def _limits(job: Job, files: int) -> media.Limits:
    """What an image may have at most among so many files."""
    facts = models.image_facts(job.model)
    max_edge = job.images.max_edge or (facts.edge if facts else None)
    return media.Limits.among(files, max_edge=max_edge, fit=job.images.fit)


def _fitted(image: Image, *, limits: media.Limits, job: Job) -> Image:
    fit = media.plan(image, limits)
    if fit is None:
        return image
    facts = models.image_facts(job.model)
    only_for_the_model = (
        facts is not None
        and limits.max_edge == facts.edge
        and media.plan(image, replace(limits, max_edge=None)) is None
    )
    return replace(image, fit=replace(fit, asks_the_same=only_for_the_model))


def _each_fitted(
    images: Iterable[tuple[Image | S3Object, Place]], fitted: Callable[[Image], Image], problems: list[Problem]
) -> Iterator[Image | S3Object]:
    for image, place in images:
        try:
            yield image if isinstance(image, S3Object) else fitted(image)
        except MediaError as error:
            problems.append(Problem(error.message, place, error.hint))


def too_many_images(job: Job, places: Sequence[Place]) -> Iterator[Problem]:
    """What is to be said of so many images, which are named at these places."""
    most = rules.most_images(job.model)
    if most is not None and len(places) > most:
        yield Problem(
            f"a request would have {len(places)} images; `{job.model}` takes at most {most}",
            places[most],
            "ask about fewer at once, in cases of their own",
        )


def _too_many_documents(job: Job, found: Sequence[Unfitted]) -> Iterator[Problem]:
    documents = [document for message, _ in found for document in message.documents]
    number = sum(isinstance(document.content, DiskFile) for document in documents)
    if job.api == "converse" and number > rules.MOST_DOCUMENTS:
        last = [template for turn in job.turns for template in turn.documents][-1]
        yield Problem(
            f"the conversation has {number} documents; Bedrock takes at most {rules.MOST_DOCUMENTS} in a request",
            last.place,
            "join some of them, or ask about them in cases of their own",
        )
