"""The variable `file` of a case that is a file: the parts of its name, and what is in it where a template asks."""

from __future__ import annotations

from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, Final

from runner import media
from runner.media import exif, files
from runner.media.files import MediaError
from runner.templates.values import LazyMapping, RefusedError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

FILE_VARIABLES: Final = ("path", "name", "stem", "suffix", "bytes", "width", "height", "taken")


def file_variables(name: Mapping[str, Any], root: Path, *, allow_dirs: Sequence[Path] = ()) -> LazyMapping:
    """`name` has the parts of the name of a file, as `datasets.globs` gives them; `path` is from folder `root`.

    `bytes`, `width`, `height` and `taken` are found when a template asks for them: the size of the file, the sides of
    the upright picture in pixels, and when it was taken (empty if it does not say).
    """
    path: str = name["path"]

    picture = _Picture(path, root, allow_dirs)
    later: dict[str, Callable[[], Any]] = {name: partial(picture.fact, name) for name in ("width", "height", "taken")}
    return LazyMapping(name, {"bytes": partial(_bytes, path, root, allow_dirs), **later})


class _Picture:
    """What a picture is asked about; it is looked at once. It can be pickled, for the code of `python` assertions."""

    def __init__(self, path: str, root: Path, allow_dirs: Sequence[Path]) -> None:
        self._path = path
        self._root = root
        self._allow_dirs = allow_dirs

    def fact(self, name: str) -> Any:
        """Raises RefusedError if it can't be read."""
        return self._facts[name]

    @cached_property
    def _facts(self) -> Mapping[str, Any]:
        try:
            image = media.look(self._path, self._root, allow_dirs=self._allow_dirs)
            return {"width": image.width, "height": image.height, "taken": exif.taken(image)}
        except MediaError as error:
            raise _refused(error) from error
        except OSError as error:
            raise _unreadable(self._path, error) from error


def _bytes(path: str, root: Path, allow_dirs: Sequence[Path]) -> int:
    try:
        return files.locate(path, root, allow_dirs=allow_dirs, what="file").stat().st_size
    except MediaError as error:
        raise _refused(error) from error
    except OSError as error:
        raise _unreadable(path, error) from error


def _refused(error: MediaError) -> RefusedError:
    return RefusedError(error.message, error.hint or "match only images, or leave the variable out")


def _unreadable(path: str, error: OSError) -> RefusedError:
    return RefusedError(f"the file {path!r} cannot be read: {error.strerror}", "check that it is there, and its rights")
