"""Parquet: rows as plain JSON values. Needs pyarrow, which the extra `parquet` brings."""

from __future__ import annotations

from datetime import date, datetime, time
from decimal import Decimal
from math import isfinite
from typing import TYPE_CHECKING, Any

from runner.datasets.files import DataError
from runner.words import shorten

if TYPE_CHECKING:
    from collections.abc import Iterator

    from runner.datasets.files import DataSource, Report, Row
    from runner.errors import Problem

_BATCH_ROWS = 1000  # few, since a cell may be an essay
_PLAIN = ("null", "boolean", "integer", "floating", "decimal", "date", "time", "timestamp", "string", "large_string")


def read(source: DataSource, report: Report) -> Iterator[Row]:
    """The rows of the file: dates and times as ISO text, decimals as text. Raises DataError for what is no Parquet."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        hint = "install it: `pip install 'bedrock-run[parquet]'`"
        raise DataError(source.problem("reading Parquet needs pyarrow, which is not installed", hint)) from None
    try:
        with pq.ParquetFile(source.file) as file:
            problems = list(_column_problems(file.schema_arrow, source))
            for problem in problems:
                report(problem)
            if problems:
                return
            number = 0
            for batch in file.iter_batches(_BATCH_ROWS):
                for values in batch.to_pylist():
                    number += 1
                    row = {name: _plain(value) for name, value in values.items()}
                    wrong = [name for name, value in row.items() if not _is_finite(value)]
                    if wrong:
                        message = f"row {number:,} has no finite number in column `{shorten(wrong[0])}`"
                        report(source.problem(message, "write null where there is no number"))
                    else:
                        yield 0, row
    except (pa.ArrowException, OSError, ValueError) as error:  # ValueError: nanoseconds, which Python's times lack
        hint = "write the file again; times in microseconds"
        raise DataError(source.problem(f"cannot be read as Parquet: {shorten(str(error), 200)}", hint)) from None


def _column_problems(schema: Any, source: DataSource) -> Iterator[Problem]:
    names = schema.names
    for name in dict.fromkeys(names):
        if names.count(name) > 1:
            yield source.problem(f"two columns are named `{shorten(name)}`", "rename or remove one of the two")
    for field in schema:
        if not _is_plain(field.type):
            message = f"column `{shorten(field.name)}` holds {field.type}, which JSON has no value for"
            yield source.problem(message, "leave the column out, or write it as text")


def _is_plain(kind: Any) -> bool:
    from pyarrow import types

    if types.is_dictionary(kind):
        return _is_plain(kind.value_type)
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        return _is_plain(kind.value_type)
    if types.is_struct(kind):
        return all(_is_plain(field.type) for field in kind)
    return any(getattr(types, f"is_{name}")(kind) for name in _PLAIN)


def _plain(value: Any) -> Any:
    match value:
        case datetime() | date() | time():
            return value.isoformat()
        case Decimal():
            return str(value)
        case list():
            return [_plain(item) for item in value]
        case dict():
            return {name: _plain(item) for name, item in value.items()}
        case _:
            return value


def _is_finite(value: Any) -> bool:
    match value:
        case float():
            return isfinite(value)
        case list():
            return all(map(_is_finite, value))
        case dict():
            return all(map(_is_finite, value.values()))
        case _:
            return True
