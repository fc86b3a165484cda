"""JSON data of a document as jobs hold it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from runner.records import Text

if TYPE_CHECKING:
    from runner.source import Document


def templates_in(value: Any, document: Document, pointer: tuple[str | int, ...]) -> Any:
    """A value of a document in which each string is a `Text`. Keys are no templates."""
    if isinstance(value, dict):
        return {key: templates_in(item, document, (*pointer, key)) for key, item in value.items()}
    if isinstance(value, list):
        return [templates_in(item, document, (*pointer, index)) for index, item in enumerate(value)]
    return Text(value, document.place(pointer)) if isinstance(value, str) else plain(value)


def plain(value: Any) -> Any:
    """JSON data whose numbers have lost their spelling."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, bool):
        return value
    if isinstance(value, int):
        return int(value)
    return float(value) if isinstance(value, float) else value
