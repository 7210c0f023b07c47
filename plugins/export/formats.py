"""Rows as CSV, JSON or Parquet, written as they come; numbers keep every digit, and none becomes a float on the way."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any, BinaryIO

from coldharbour.errors import BadConfig
from coldharbour.web.listings.lines import csv_header, csv_lines, plain
from coldharbour.web.listings.store import Column, Digits, Kind, Rows

DECIMAL_DIGITS = 38  # of Arrow's and Parquet's 128-bit decimals
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def write_csv(columns: Sequence[Column], chunks: Iterable[Rows], sink: BinaryIO) -> None:
    """Write a header and one line per row; nothing stands for null."""
    sink.write(csv_header(columns))
    sink.writelines(csv_lines(chunk) for chunk in chunks)


def write_json(columns: Sequence[Column], chunks: Iterable[Rows], sink: BinaryIO) -> None:
    """Write one array, an object on each line; numerics are strings, as the broker's own are."""
    names = [column.name for column in columns]
    before = b"[\n"
    for chunk in chunks:
        for row in chunk:
            line = json.dumps(dict(zip(names, map(plain, row), strict=True)), ensure_ascii=False)
            sink.write(before + line.encode())
            before = b",\n"
    sink.write(b"\n]\n" if before == b",\n" else b"[]\n")


def write_parquet(
    columns: Sequence[Column], chunks: Iterable[Rows], sink: BinaryIO, digits: Mapping[str, Digits]
) -> None:
    """Write a Parquet file, numerics as decimals with the digits that their column needs.

    Raises BadConfig if the library is missing, or where a column has more digits than a decimal holds.
    """
    core, parquet = parquet_library()
    types = {column.name: _arrow_type(core.DataType, column, digits) for column in columns}
    schema = core.Schema([core.Field(name, kind, nullable=True) for name, kind in types.items()])

    def batches() -> Iterator[Any]:
        for chunk in chunks:
            arrays = [
                _array(core, column, types[column.name], values)
                for column, values in zip(columns, zip(*chunk, strict=True), strict=True)
            ]
            yield core.RecordBatch.from_arrays(arrays, schema=schema)

    parquet.write_parquet(core.RecordBatchReader.from_batches(schema, batches()), sink, compression="zstd(3)")


def parquet_library() -> tuple[Any, Any]:
    """Return the modules that write Parquet. Raises BadConfig, naming the remedy, if they are not installed."""
    try:
        import arro3.core  # noqa: PLC0415  only who exports Parquet needs it
        import arro3.io  # noqa: PLC0415
    except ImportError as error:
        raise BadConfig(
            ["Parquet is written by a library that is not installed here"],
            hint="pip install 'coldharbour[parquet]', or take --format csv or json",
        ) from error
    return arro3.core, arro3.io


def _arrow_type(types: Any, column: Column, digits: Mapping[str, Digits]) -> Any:
    if column.kind is Kind.NUMBER:
        return types.decimal128(DECIMAL_DIGITS, _decimals(column.name, digits[column.name]))
    plain = {
        Kind.FLOAT: types.float64, Kind.INTEGER: types.int64, Kind.DAY: types.date32, Kind.FLAG: types.bool,
        Kind.MOMENT: partial(types.timestamp, "us", tz="UTC"),
    }  # fmt: skip
    return plain.get(column.kind, types.string)()


def _decimals(name: str, digits: Digits) -> int:
    if digits.whole + digits.decimals > DECIMAL_DIGITS:
        raise BadConfig(
            [f"column {name} has numbers of {digits.whole} and {digits.decimals} digits: a decimal holds "
             f"{DECIMAL_DIGITS}"], hint="take --format csv or json: they hold any number"
        )  # fmt: skip
    return digits.decimals


def _array(core: Any, column: Column, kind: Any, values: Sequence[Any]) -> Any:
    """Return the values of one column; what the library cannot take directly goes through an exact detour."""
    detours: Mapping[Kind, tuple[Callable[[Any], object], Any]] = {
        Kind.NUMBER: (plain, core.DataType.string()),
        Kind.TEXTS: (" ".join, core.DataType.string()),
        Kind.MOMENT: (_microseconds, core.DataType.int64()),
        Kind.DAY: (lambda day: (day - EPOCH.date()).days, core.DataType.int32()),
    }
    if column.kind not in detours:
        return core.Array(values, type=kind)
    take, detour = detours[column.kind]
    array = core.Array([None if value is None else take(value) for value in values], type=detour)
    return array if column.kind is Kind.TEXTS else array.cast(kind)


def _microseconds(moment: datetime) -> int:
    since = moment - EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds
