"""Rows as a table: CSV for spreadsheets, Parquet for programs. Variables, the values of a matrix and the parts of
structured replies become columns.

The CSV begins with a byte order mark, without which Excel reads UTF-8 as Latin-1. No cell is a formula: text that a
spreadsheet would take for one gets an apostrophe before it. Numbers stay numbers.
"""

from __future__ import annotations

import csv
import json
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, NamedTuple, TextIO, TypeVar

from runner.records.row_facts import cost_of, failed_assertions, images_of, request_id, sent_as
from runner.report.repairs import was_repaired

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from runner.records import Row
    from runner.report.rows import Rows
    from runner.running.summary import Summary

_FORMULAS = tuple(
    "=+-@\t\r\n\uff1d\uff0b\uff0d\uff20"
)  # a cell that begins so may be computed; the last are wide = + - @
_CONTROLS = [code for code in (*range(0x20), *range(0x7F, 0xA0)) if chr(code) not in "\t\r\n"]
_SURROGATES = {code: f"\\u{code:04x}" for code in range(0xD800, 0xE000)}  # UTF-8 has no place for them
_NOT_CSV = {code: f"\\x{code:02x}" for code in _CONTROLS} | _SURROGATES

_TOKENS = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens")

Path = tuple[str, ...]  # the keys that lead to a value of a variable or of a structured reply
_Part = Literal["vars", "parsed"]  # of a row
_Name = TypeVar("_Name", str, Path)

_MOST_LEAVES = 1000  # columns, of variables and of structured replies
_GROUP_ROWS = 10_000  # of a Parquet file, in one row group
_GROUP_CHARACTERS = 32_000_000  # a reply may be an essay


class _Column(NamedTuple):
    """A column: its name, the type of its values and where a row has them; None where a row has none."""

    name: str
    kind: str  # text, texts, integer, number, boolean or time
    value: Callable[[Row], Any]


_PICTURES = (
    _Column("images", "texts", lambda row: [image["path"] for image in images_of(row)]),
    _Column("images.sha256", "texts", lambda row: [image["sha256"] or "" for image in images_of(row)]),
    _Column("images.sent", "texts", lambda row: [sent_as(image) or "as it is" for image in images_of(row)]),
)
_SIDECARS = (
    _Column("sidecar", "text", lambda row: row["sidecar"] and row["sidecar"]["path"]),
    _Column("sidecar.sha256", "text", lambda row: row["sidecar"] and row["sidecar"]["sha256"]),
)


def write_csv(out: TextIO, rows: Rows, summary: Summary) -> None:  # noqa: ARG001 - as every report is written
    """Write the rows as CSV (RFC 4180), one at a time. Raises OSError."""
    columns = _columns(rows)
    out.write("\ufeff")
    table = csv.writer(out, quoting=csv.QUOTE_NONNUMERIC)
    table.writerow([_cell(column.name) for column in columns])
    for row in rows:
        table.writerow([_cell(column.value(row)) for column in columns])


def write_parquet(out: BinaryIO, rows: Rows, summary: Summary) -> None:  # noqa: ARG001
    """Write the rows as Parquet, in row groups. Needs pyarrow. Raises OSError."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    types = {
        "text": pa.string(),
        "texts": pa.list_(pa.string()),
        "integer": pa.int64(),
        "number": pa.float64(),
        "boolean": pa.bool_(),
        "time": pa.timestamp("ms", tz="UTC"),
    }
    columns = _columns(rows)
    schema = pa.schema([(column.name.translate(_SURROGATES), types[column.kind]) for column in columns])
    with pq.ParquetWriter(out, schema) as file:
        for group in _groups(rows, columns):
            arrays = [pa.array(values, field.type) for values, field in zip(group, schema, strict=True)]
            file.write_table(pa.Table.from_arrays(arrays, schema=schema))


def _columns(rows: Iterable[Row]) -> list[_Column]:
    """The columns that these rows fill, in the order of the row; those of one part of it as they come."""
    matrix: dict[str, str] = {}
    variables: dict[Path, str] = {}
    parsed: dict[Path, str] = {}
    pictures = sidecars = repairs = False
    for row in rows:
        _note_kinds(matrix, row["matrix"] or {})
        for value, kinds in ((row["vars"], variables), (row["parsed"], parsed)):
            if len(kinds) <= _MOST_LEAVES:
                _note_kinds(kinds, dict(_leaves(value)))
        pictures = pictures or any(True for _ in images_of(row))
        sidecars = sidecars or row["sidecar"] is not None
        repairs = repairs or was_repaired(row)
    return [
        _Column("job", "text", lambda row: row["job"]),
        _Column("case", "text", lambda row: row["case"]),
        _Column("repeat", "integer", lambda row: row["repeat"]),
        _Column("status", "text", lambda row: row["status"]),
        _Column("model", "text", lambda row: row["model"]),
        _Column("region", "text", lambda row: row["region"]),
        *(_Column(f"matrix.{name}", kind or "text", _in_matrix(name)) for name, kind in matrix.items()),
        *_columns_of_leaves("vars", variables),
        *(_PICTURES if pictures else ()),
        _Column("output", "text", lambda row: row["output"]),
        *_columns_of_leaves("parsed", parsed),
        *(_SIDECARS if sidecars else ()),
        _Column("stop_reason", "text", lambda row: row["stop_reason"]),
        *(_Column(name, "integer", _tokens(name)) for name in _TOKENS),
        _Column("cost_usd", "number", cost_of),
        _Column("latency_ms", "integer", lambda row: row["latency_ms"]),
        _Column("first_token_ms", "integer", lambda row: row["first_token_ms"]),
        _Column("attempts", "integer", lambda row: len(row["attempts"])),
        *([_Column("repaired", "boolean", was_repaired)] if repairs else ()),
        _Column("error_code", "text", lambda row: row["error"] and row["error"]["code"]),
        _Column("error_message", "text", lambda row: row["error"] and row["error"]["message"]),
        _Column("failed_assertions", "texts", lambda row: [each["type"] for each in failed_assertions(row)]),
        _Column("reasons", "texts", lambda row: [each["reason"] for each in failed_assertions(row)]),
        _Column("tags", "texts", lambda row: row["tags"]),
        _Column("request_id", "text", request_id),
        _Column("started_at", "time", lambda row: row["started_at"]),
        _Column("finished_at", "time", lambda row: row["finished_at"]),
    ]


def _tokens(name: str) -> Callable[[Row], Any]:
    return lambda row: row["usage"] and row["usage"].get(name)


def _in_matrix(name: str) -> Callable[[Row], Any]:
    return lambda row: (row["matrix"] or {}).get(name)


# --- variables and structured replies --------------------------------------------------------------------------------


def _leaves(value: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """What is in a JSON value and no object with something in it, each with its path."""
    if isinstance(value, dict) and value:
        for name, inside in value.items():
            yield from _leaves(inside, (*path, name))
    elif value is not None or path:
        yield path, value


def _columns_of_leaves(part: _Part, kinds: Mapping[Path, str]) -> Iterator[_Column]:
    """A column for each path. If there are too many, as where keys are data, one for the whole part of the row."""
    if len(kinds) > _MOST_LEAVES:
        yield _Column(part, "text", lambda row: None if row[part] is None else _text(row[part]))
        return
    for path, kind in kinds.items():
        if path or part == "parsed":
            yield _Column(".".join((part, *map(_step, path))), kind or "text", partial(_at, part, path))


def _step(name: str) -> str:
    """A key as a part of a column's name: in quotes where it would read as several keys, or as one in quotes."""
    return json.dumps(name, ensure_ascii=False) if not name or "." in name or '"' in name else name


def _at(part: _Part, path: Path, row: Row) -> Any:
    """The value at a path, lists as JSON; None for an object, since its keys have columns, unless it is empty."""
    value: Any = row[part]
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    if isinstance(value, list) or value == {}:
        return _text(value)
    return None if isinstance(value, dict) else value


def _note_kinds(kinds: dict[_Name, str], values: Mapping[_Name, Any]) -> None:
    """Note for each name the kind that takes all of its values: text takes any."""
    for name, value in values.items():
        kind, known = _kind(value), kinds.get(name, "")
        if {kind, known} == {"integer", "number"}:
            kinds[name] = "number"
        else:
            kinds[name] = kind if known in {"", kind} else known if kind == "" else "text"


def _kind(value: Any) -> str:
    """The kind of a JSON value; empty for null, which every kind takes."""
    match value:
        case None:
            return ""
        case bool():
            return "boolean"
        case int() if -(2**63) <= value < 2**63:
            return "integer"
        case float():
            return "number"
        case _:
            return "text"


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _cell(value: Any) -> str | int | float:
    """A value as a cell of the CSV."""
    match value:
        case None:
            return ""
        case int() | float() if not isinstance(value, bool):
            return value
        case list() if all(isinstance(item, str) for item in value):
            value = "; ".join(value)
    text = _text(value).translate(_NOT_CSV)
    return f"'{text}" if text.lstrip(" ").startswith(_FORMULAS) else text


def _typed(value: Any, kind: str) -> Any:
    """A value as Parquet takes it in a column of this kind."""
    if value is None:
        return None
    match kind:
        case "text":
            return _text(value).translate(_SURROGATES)
        case "texts":
            return [text.translate(_SURROGATES) for text in value]
        case "time":
            return datetime.fromisoformat(value)
        case _:
            return value


def _groups(rows: Iterable[Row], columns: Sequence[_Column]) -> Iterator[list[list[Any]]]:
    """The values of the rows, group by group: for each column a list of them."""
    group: list[list[Any]] = [[] for _ in columns]
    count, characters = 0, 0
    for row in rows:
        for values, column in zip(group, columns, strict=True):
            value = _typed(column.value(row), column.kind)
            values.append(value)
            characters += len(value) if isinstance(value, str) else 0
        count += 1
        if count == _GROUP_ROWS or characters >= _GROUP_CHARACTERS:
            yield group
            group = [[] for _ in columns]
            count, characters = 0, 0
    if count:
        yield group
