"""Images in a raw body: a marker with the hash of each stands in it until it is sent, and then their content.

So no row, no key and no case in memory holds base64. Only the markers of images that the templates have named count:
what looks like one in a variable is text.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from runner.media.files import MediaError
from runner.records import Text
from runner.templates.values import RefusedError, as_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from runner.records import Image

FUNCTIONS: Final = ("image_base64", "image_media_type")
_MARKER: Final = re.compile("<image sha256:([0-9a-f]{64})>")


def marker(image: Image) -> str:
    """What stands for the content of an image."""
    return f"<image sha256:{_identity(image)}>"


def _identity(image: Image) -> str:
    """What tells images apart: their content, or their files where that was not read."""
    return image.sha256 or str(image.file)


def distinct(images: Iterable[Image]) -> tuple[Image, ...]:
    """Each of these images once."""
    return tuple({_identity(image): image for image in images}.values())


def may_be_named(body: Any) -> bool:
    """Whether a body of a job, whose strings are `Text`, names an image itself; a file that it includes may too."""
    if isinstance(body, Text):
        return any(name in body.value for name in FUNCTIONS)
    items = body.values() if isinstance(body, dict) else body if isinstance(body, list) else ()
    return any(map(may_be_named, items))


class NamedImages:
    """The images that one template of a body names. `describe` finds the image of a path; it may raise MediaError."""

    def __init__(self, describe: Callable[[str], Image]) -> None:
        self._describe = describe
        self.images: list[Image] = []  # in the order in which they are named, each as often as it is
        self.functions: Mapping[str, Callable[..., str]] = {
            "image_base64": self.image_base64,
            "image_media_type": lambda path: self._found(path).sent_type,
        }

    def image_base64(self, path: Any) -> str:
        """The function of that name: a marker, for now."""
        image = self._found(path)
        self.images.append(image)
        return marker(image)

    def unwritten(self, text: str) -> Image | None:
        """An image that was named and whose marker is not in what the template wrote."""
        return next((image for image in self.images if marker(image) not in text), None)

    def _found(self, path: Any) -> Image:
        try:
            return self._describe(as_text(path))
        except MediaError as error:
            raise RefusedError(error.message, error.hint or "check the path") from error


def _refused(name: str) -> Callable[..., str]:
    def refuse(*_: Any, **__: Any) -> str:
        raise RefusedError(f"`{name}` has a meaning only in `body:`", HINT)

    return refuse


HINT: Final = "name the image under `images:` of a turn"
# For templates elsewhere, which an included file may surprise with one.
REFUSED: Final[Mapping[str, Callable[..., str]]] = {name: _refused(name) for name in FUNCTIONS}


def with_content(body: Any, images: Mapping[str, Image], image_base64: Callable[[Image], str]) -> Any:
    """The body with what `image_base64` gives for these images, which are by hash, in place of their markers."""

    def content(match: re.Match[str]) -> str:
        image = images.get(match[1])
        return match[0] if image is None else image_base64(image)

    def filled(value: Any) -> Any:
        if isinstance(value, str):
            return _MARKER.sub(content, value)
        if isinstance(value, dict):
            return {name: filled(item) for name, item in value.items()}
        return [filled(item) for item in value] if isinstance(value, list) else value

    return filled(body)
