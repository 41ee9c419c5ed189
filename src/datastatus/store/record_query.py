"""Puts listings of records together: filters and orders over the standard model become parameterised SQL.

Names come from the models alone, and values go in as parameters, so nothing that a caller wrote is ever SQL.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, assert_never

from pydantic.alias_generators import to_camel

from datastatus.domain.record_fields import Field, Kind, SortKey, Step
from datastatus.domain.record_filter import All, AnyOf, Comparator, Filter, Not, Restriction, restrictions
from datastatus.domain.records import StandardRecord
from datastatus.domain.records.keys import DATE_FIELDS, PARTY_FIELDS

_CASTS = {
    Kind.TEXT: "text",
    Kind.ENUM: "text",
    Kind.DECIMAL: "numeric",
    Kind.DATE: "date",
    Kind.TIME: "timestamptz",
    Kind.BOOLEAN: "boolean",
}

_SORT_KEY_CHARACTERS_MAX = 1000


@dataclass(frozen=True, slots=True)
class Listing:
    """Which records of a publication, in which order, and from where on.

    `after`: the sort keys and the id of the last record seen; None: from the beginning.
    """

    model: type[StandardRecord]
    record_set_id: int
    publication: int
    filter: Filter | None = None
    modified_since: datetime | None = None
    order: tuple[SortKey, ...] = ()
    after: tuple[tuple[str | None, ...], str] | None = None


@dataclass(slots=True)
class Query:
    """SQL with its parameters."""

    sql: str = ""
    parameters: list[Any] = field(default_factory=list)

    def parameter(self, value: Any, cast: str) -> str:
        self.parameters.append(value)
        return f"${len(self.parameters)}::{cast}"


def page_query(listing: Listing, count_max: int) -> Query:
    """The next records; each with its sort keys as texts in `sort_keys`."""
    query = Query()
    where = _where(query, listing)
    keys = [(_key_column(listing.model, key.field), key) for key in listing.order]
    backwards = bool(keys) and keys[-1][1].descending
    if listing.after is not None:
        where.append(_after(query, listing, keys, backwards))
    order = [f"{column} DESC NULLS LAST" if key.descending else column for column, key in keys]
    if len(keys) == 1 and _never_absent(listing.model, keys[0][1].field):
        # An index serves this, backwards too; the condition lets it be one that leaves out what lacks the column.
        order = [f"{keys[0][0]} DESC"] if backwards else [keys[0][0]]
        where.append(f"{keys[0][0]} IS NOT NULL")
    order.append("record_id DESC" if backwards else "record_id")
    sort_keys = ", ".join(f"({column})::text" for column, _ in keys)
    query.sql = (
        f"SELECT record_id, body, modified, source_modified, is_deleted, ARRAY[{sort_keys}]::text[] AS sort_keys "
        f"FROM record WHERE {' AND '.join(where)} ORDER BY {', '.join(order)} "
        f"LIMIT {query.parameter(count_max, 'bigint')}"
    )
    return query


def count_query(listing: Listing) -> Query:
    """How many records the listing has on all its pages."""
    query = Query()
    query.sql = f"SELECT count(*) FROM record WHERE {' AND '.join(_where(query, listing))}"
    return query


def _where(query: Query, listing: Listing) -> list[str]:
    publication = query.parameter(listing.publication, "bigint")
    where = [
        f"record_set_id = {query.parameter(listing.record_set_id, 'bigint')}",
        f"valid_from <= {publication}",
        f"(valid_to IS NULL OR valid_to > {publication})",
    ]
    if listing.modified_since is not None:
        where.append(f"modified > {query.parameter(listing.modified_since, 'timestamptz')}")
    elif listing.filter is None or not _asks_for_deleted(listing.filter):
        where.append("NOT is_deleted")
    if listing.filter is not None:
        where.append(_condition(query, listing.model, listing.filter, negated=False))
    return where


def _asks_for_deleted(node: Filter) -> bool:
    return any(one.field.path == "metadata.isDeleted" for one in restrictions(node))


def _condition(query: Query, model: type[StandardRecord], node: Filter, *, negated: bool) -> str:
    match node:
        case Restriction():
            condition = _restriction(query, model, node)
            # NOT of what is absent is true. Elsewhere an unknown is as good as false, and leaves indexes in play.
            return f"coalesce({condition}, false)" if negated else condition
        case Not(term):
            return f"NOT {_condition(query, model, term, negated=True)}"
        case All(terms):
            joint = " AND ".join(_condition(query, model, term, negated=negated) for term in terms)
            return f"({joint})"
        case AnyOf(terms):
            joint = " OR ".join(_condition(query, model, term, negated=negated) for term in terms)
            return f"({joint})"
        case _:
            assert_never(node)


def _restriction(query: Query, model: type[StandardRecord], one: Restriction) -> str:
    if column := _column(model, one.field):
        return _comparison(query, column, one)
    return _within(query, "body", one.field.steps, one)


def _within(query: Query, holder: str, steps: Sequence[Step], one: Restriction) -> str:
    """Go down from a JSON value; a list on the way is looked through."""
    for index, step in enumerate(steps):
        last = index == len(steps) - 1
        if not step.is_list:
            holder = f"{holder} {'->>' if last and one.field.kind is not Kind.OBJECT else '->'} '{step.name}'"
            continue
        item = f"item{len(steps) - index}"
        listed = f"jsonb_array_elements({holder} -> '{step.name}')"
        if not last:
            inner = _within(query, item, steps[index + 1 :], one)
        elif one.field.kind is Kind.OBJECT:
            inner = "true"
        else:
            inner = _comparison(query, f"({item} #>> '{{}}')", one)
        return f"EXISTS (SELECT FROM {listed} AS listed ({item}) WHERE {inner})"
    if one.field.kind is Kind.OBJECT:
        return f"({holder}) IS NOT NULL"
    return _comparison(query, f"({holder})::{_CASTS[one.field.kind]}", one)


def _comparison(query: Query, column: str, one: Restriction) -> str:
    if one.value is None:
        return f"{column} IS NOT NULL"
    kind = one.field.kind
    if isinstance(one.value, str) and kind is Kind.TEXT:
        if one.comparator is Comparator.HAS and not one.field.is_repeated:
            return (
                f"{column} COLLATE every_language ILIKE {query.parameter(f'%{_escaped(one.value)}%', 'text')}"
            )
        if one.comparator in _EQUALITIES and (one.value.startswith("*") or one.value.endswith("*")):
            negation = "NOT " if one.comparator is Comparator.DIFFERS else ""
            like = f"{column} LIKE {query.parameter(_pattern(one.value), 'text')}"
            return f"{negation}coalesce({like}, false)"
    value = query.parameter(one.value, _CASTS[kind])
    match one.comparator:
        case Comparator.DIFFERS:
            return f"{column} IS DISTINCT FROM {value}"
        case Comparator.EQUALS | Comparator.HAS:
            return f"{column} = {value}"
        case _:
            collation = ' COLLATE "C"' if kind is Kind.TEXT else ""
            return f"{column}{collation} {one.comparator} {value}"


_EQUALITIES = (Comparator.EQUALS, Comparator.DIFFERS, Comparator.HAS)


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")


def _pattern(text: str) -> str:
    """Of a text with `*` at its beginning, its end, or both."""
    beginning = "%" if text.startswith("*") else ""
    end = "%" if len(text) > 1 and text.endswith("*") else ""
    return f"{beginning}{_escaped(text[len(beginning) : len(text) - len(end)])}{end}"


def _column(model: type[StandardRecord], wanted: Field) -> str | None:
    """The column that has the field beside the body, by which there is an index."""
    return _columns(model).get(wanted.path)


def _columns(model: type[StandardRecord]) -> dict[str, str]:
    columns = {
        "id": "record_id",
        "sourceModifiedDate": "source_modified",
        "modifiedDate": "modified",
        "metadata.isDeleted": "is_deleted",
    }
    if model in DATE_FIELDS:
        columns[to_camel(DATE_FIELDS[model])] = "dated"
    if model in PARTY_FIELDS:
        columns[to_camel(PARTY_FIELDS[model]) + ".id"] = "party_id"
    return columns


def _never_absent(model: type[StandardRecord], wanted: Field) -> bool:
    return _column(model, wanted) in ("record_id", "modified", "dated")


def _key_column(model: type[StandardRecord], wanted: Field) -> str:
    if column := _column(model, wanted):
        return column
    *way, last = [step.name for step in wanted.steps]
    path = "".join(f" -> '{name}'" for name in way) + f" ->> '{last}'"
    cast = _CASTS[wanted.kind]
    if cast == "text":
        # Of the last record of a page it travels with the page's token.
        return f'left(body{path}, {_SORT_KEY_CHARACTERS_MAX}) COLLATE "C"'
    return f"(body{path})::{cast}"


def _after(query: Query, listing: Listing, keys: Sequence[tuple[str, SortKey]], backwards: bool) -> str:
    """What comes after the last record seen, where absent keys go last."""
    assert listing.after is not None
    values, last_id = listing.after
    id_value = query.parameter(last_id, "text")
    beyond_id = f"record_id {'<' if backwards else '>'} {id_value}"
    placed = [
        (column, key, None if value is None else query.parameter(value, f"text::{_CASTS[key.field.kind]}"))
        for (column, key), value in zip(keys, values, strict=True)
    ]
    match placed:
        case []:
            return beyond_id
        case [(column, key, str(value))] if _never_absent(listing.model, key.field):
            # One comparison of rows, which an index serves.
            return f"({column}, record_id) {'<' if backwards else '>'} ({value}, {id_value})"
        case _:
            return _general_after(placed, beyond_id)


def _general_after(placed: Sequence[tuple[str, SortKey, str | None]], beyond_id: str) -> str:
    same: list[str] = []
    alternatives: list[str] = []
    for column, key, value in placed:
        if value is not None:
            beyond = f"({column} {'<' if key.descending else '>'} {value} OR {column} IS NULL)"
            alternatives.append(" AND ".join([*same, beyond]))
        same.append(f"{column} IS NULL" if value is None else f"{column} = {value}")
    alternatives.append(" AND ".join([*same, beyond_id]))
    return "(" + " OR ".join(f"({one})" for one in alternatives) + ")"
