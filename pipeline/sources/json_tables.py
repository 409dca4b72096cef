"""Whole tables in one JSON object, as pandas' ``to_json`` and ``to_dict`` write them."""

from __future__ import annotations

from typing import Any, cast

Row = dict[str, Any]


def table_in(value: Row) -> tuple[list[Row], str] | None:
    """The rows of a table and how it is laid out, in pandas' words; None of an object that is no table.

    An object of objects is one where either the inner names are the numbers of rows (``columns``) or the outer
    ones (``index``); of lists, where all are equally long and hold neither lists nor objects.
    """
    cells: list[Any] = list(value.values())
    if set(value) == {"columns", "index", "data"} and all(isinstance(cell, list) for cell in cells):
        return _split(value["columns"], value["data"])
    schema, data = value.get("schema"), value.get("data")
    if set(value) == {"schema", "data"} and isinstance(schema, dict) and isinstance(data, list):
        listed = cast("list[Any]", data)
        rows = [cast("Row", row) for row in listed if isinstance(row, dict)]
        return (rows, "orient table") if len(rows) == len(listed) else None
    objects = [cast("Row", cell) for cell in cells if isinstance(cell, dict)]
    if objects and all(objects) and len(objects) == len(cells):
        return _objects(value, objects)
    if len(cells) > 1 and all(isinstance(cell, list) for cell in cells):
        lists = cast("list[list[Any]]", cells)
        nested = any(isinstance(item, (dict, list)) for one in lists for item in one)
        if not nested and len({len(one) for one in lists}) == 1:
            rows = [dict(zip(value, row, strict=True)) for row in zip(*lists, strict=True)]
            return rows, "a list for each column"
    return None


def _split(columns: list[Any], data: list[Any]) -> tuple[list[Row], str] | None:
    rows = [cast("list[Any]", row) for row in data if isinstance(row, list)]
    if len(rows) < len(data) or any(len(row) != len(columns) for row in rows):
        return None
    return [dict(zip(map(str, columns), row, strict=True)) for row in rows], "orient split"


def _objects(value: Row, cells: list[Row]) -> tuple[list[Row], str] | None:
    inner = list(cells[0])
    if any(list(cell) != inner for cell in cells):
        return None
    if all(name.isdigit() for name in inner):
        return [{name: value[name][i] for name in value} for i in inner], "orient columns"
    return (cells, "orient index") if all(name.isdigit() for name in value) else None
