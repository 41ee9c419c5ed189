"""Every check of the conformance kit finds what it is there for: integrations that are wrong in one way each."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from urllib.parse import quote

import pytest
from pydantic import BaseModel, SecretStr, ValidationError

from datastatus import errors
from datastatus.domain.fetching import FetchScope
from datastatus.domain.records import (
    Customer,
    JournalEntry,
    JournalLine,
    PartyStatus,
    Reference,
    StandardRecord,
    Supplier,
)
from datastatus.domain.retry import RetryPolicy
from datastatus.integrations.base import ConnectorOption, IntegrationInfo, RawRecord, Retrying, Source
from datastatus.integrations.raw import id_of
from datastatus.integrations.registry import Installed
from datastatus.testing import CHECKS, Examination, Subject, assert_conforms, checks, find_problems


class Key(BaseModel):
    """What the shelf is opened with."""

    key: SecretStr


class BareKey(BaseModel):
    """As careless as can be."""

    api_token: str


RAW: Mapping[str, list[dict[str, Any]]] = {
    "customers": [
        {"id": f"c{number}", "name": f"Customer {number}", "changed": f"2026-01-0{number}T00:00:00+00:00"}
        for number in (1, 2, 3)
    ],
    "journalEntries": [
        {"id": f"j{number}", "day": f"2026-02-0{number}", "amount": f"{number}.50"} for number in (1, 2, 3)
    ],
}


class Shelf:
    """A source in memory that does everything right; the classes below each do one thing wrong."""

    info = IntegrationInfo(
        key="shelf",
        name="Shelf",
        source_type="Test",
        data_types=frozenset(RAW),
        online=True,
        incremental=frozenset({"customers"}),
        credentials=Key,
    )

    async def verify(self, credentials: Any) -> None:
        if credentials.key.get_secret_value() != "open sesame":
            raise errors.SourceAuthFailed("the shelf stays shut", code="KEY_REFUSED")

    @asynccontextmanager
    async def open(
        self, options: Mapping[str, str], credentials: Any, retrying: Retrying
    ) -> AsyncIterator[Source]:
        await self.verify(credentials)
        yield self.source(retrying)

    def source(self, retrying: Retrying) -> Source:
        return ShelfSource(retrying)

    def map(self, data_type: str, raw: RawRecord) -> StandardRecord:
        record_id = id_of(raw)
        try:
            return self.record(data_type, raw)
        except ValidationError:
            raise
        except (ArithmeticError, ValueError, TypeError, KeyError) as exc:
            raise errors.MappingFailed(record_id, "?", f"cannot be read: {exc}") from exc

    def record(self, data_type: str, raw: RawRecord) -> StandardRecord:
        if data_type == "customers":
            return Customer(
                id=raw["id"],
                customer_name=raw["name"],
                source_modified_date=datetime.fromisoformat(raw["changed"]),
                status=PartyStatus.ACTIVE,
            )
        amount = Decimal(raw["amount"])
        return JournalEntry(
            id=raw["id"],
            posted_on=date.fromisoformat(raw["day"]),
            journal_lines=tuple(
                JournalLine(account_ref=Reference(id=account), net_amount=value, currency="EUR")
                for account, value in (("4000", amount), ("1200", -amount))
            ),
        )


class ShelfSource:
    def __init__(self, retrying: Retrying) -> None:
        self.retrying = retrying

    def selected(self, data_type: str, scope: FetchScope) -> list[dict[str, Any]]:
        if data_type not in RAW:
            raise errors.SourceUnsupported(f"the shelf has no {data_type}", code="DATA_TYPE_UNSUPPORTED")
        rows = RAW[data_type]
        if scope.sync_from is not None and data_type == "journalEntries":
            rows = [row for row in rows if row["day"] >= scope.sync_from.isoformat()]
        if scope.modified_since is not None and data_type == "customers":
            rows = [row for row in rows if row["changed"] >= scope.modified_since.isoformat()]
        return rows

    async def count(self, data_type: str, scope: FetchScope) -> int | None:
        return len(self.selected(data_type, scope))

    async def fetch(self, data_type: str, scope: FetchScope) -> AsyncIterator[Sequence[RawRecord]]:
        rows = self.selected(data_type, scope)

        async def read(start: int) -> Sequence[RawRecord]:
            return rows[start : start + 2]

        for start in range(0, len(rows), 2):
            yield await self.retrying(lambda start=start: read(start))


# What is written differently in a repr, in JSON, and in a URL.
WRONG_KEY = 'abra\\cad"äbr@'

SUBJECT = Subject(Shelf(), credentials={"key": "open sesame"}, wrong_credentials=[{"key": WRONG_KEY}])


@pytest.fixture(autouse=True)
def shelf_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is checked is found under its key, unless a test says otherwise."""
    installed(monkeypatch, lambda subject: [Installed("shelf", "shelf 1.0", subject.integration)])


def installed(monkeypatch: pytest.MonkeyPatch, found: Callable[[Subject], list[Installed]]) -> None:
    class Watched(Examination):
        def __init__(self, subject: Subject) -> None:
            super().__init__(subject)
            monkeypatch.setattr(checks, "installed_integrations", lambda: found(subject))

    monkeypatch.setattr(checks, "Examination", Watched)


async def test_an_integration_that_does_everything_right_conforms() -> None:
    await assert_conforms(SUBJECT)
    assert await find_problems(SUBJECT) == {}


def described(**changes: Any) -> Callable[[], Subject]:
    class Described(Shelf):
        info = replace(Shelf.info, **changes)

    return lambda: replace(SUBJECT, integration=Described())


def selecting(select: Callable[[ShelfSource, str, FetchScope], list[dict[str, Any]]]) -> Subject:
    """One whose source selects its rows so."""

    class Selecting(ShelfSource):
        def selected(self, data_type: str, scope: FetchScope) -> list[dict[str, Any]]:
            return select(self, data_type, scope)

    return reading(Selecting)


def reading(source: Callable[[Retrying], Source]) -> Subject:
    class Reading(Shelf):
        def source(self, retrying: Retrying) -> Source:
            return source(retrying)

    return replace(SUBJECT, integration=Reading())


def right(source: ShelfSource, data_type: str, scope: FetchScope) -> list[dict[str, Any]]:
    return ShelfSource.selected(source, data_type, scope)


def with_row(**fields: Any) -> Callable[[], Subject]:
    """One whose first customer has these fields too."""

    def select(source: ShelfSource, data_type: str, scope: FetchScope) -> list[dict[str, Any]]:
        first, *rest = right(source, data_type, scope) or [{}]
        return [{**first, **fields}, *rest] if data_type == "customers" else [first, *rest]

    return lambda: selecting(select)


def pages_too_large() -> Subject:
    def select(source: ShelfSource, data_type: str, scope: FetchScope) -> list[dict[str, Any]]:
        rows = right(source, data_type, scope)
        return [{**rows[0], "id": f"{number}"} for number in range(1001)] if rows else []

    class AtOnce(ShelfSource):
        async def fetch(self, data_type: str, scope: FetchScope) -> AsyncIterator[Sequence[RawRecord]]:
            yield select(self, data_type, scope)

    return reading(AtOnce)


def counts_wrong() -> Subject:
    class Counting(ShelfSource):
        async def count(self, data_type: str, scope: FetchScope) -> int | None:
            # Right of everything, and wrong of a part.
            return len(RAW[data_type])

    return reading(Counting)


def counts_in_floats() -> Subject:
    class Counting(ShelfSource):
        async def count(self, data_type: str, scope: FetchScope) -> Any:
            return float(len(self.selected(data_type, scope)))

    return reading(Counting)


def changes_by_itself() -> Subject:
    turns = iter(range(1000))

    def select(source: ShelfSource, data_type: str, scope: FetchScope) -> list[dict[str, Any]]:
        return [{**row, "turn": next(turns)} for row in right(source, data_type, scope)]

    return selecting(select)


def reads_on() -> Subject:
    """Each read goes on where the last one ended, so that a lost answer is lost for good."""

    class Cursor(ShelfSource):
        async def fetch(self, data_type: str, scope: FetchScope) -> AsyncIterator[Sequence[RawRecord]]:
            rows = iter(self.selected(data_type, scope))

            async def read() -> Sequence[RawRecord]:
                return [row for row, _ in zip(rows, range(2), strict=False)]

            while page := await self.retrying(read):
                yield page

    return reading(Cursor)


def leaves_tasks() -> Subject:
    class Leaving(ShelfSource):
        async def fetch(self, data_type: str, scope: FetchScope) -> AsyncIterator[Sequence[RawRecord]]:
            self.task = asyncio.ensure_future(asyncio.sleep(5))
            async for page in super().fetch(data_type, scope):
                yield page
            self.task.cancel()

    return reading(Leaving)


def blocks() -> Subject:
    class Blocking(ShelfSource):
        async def fetch(self, data_type: str, scope: FetchScope) -> AsyncIterator[Sequence[RawRecord]]:
            if data_type == "customers":
                time.sleep(3)  # noqa: ASYNC251 (what must not be done)
            async for page in super().fetch(data_type, scope):
                yield page

    return reading(Blocking)


class MapsTo(Shelf):
    """One that maps so."""

    def __init__(self, mapper: Callable[[Shelf, str, Any], StandardRecord]) -> None:
        self._mapper = mapper

    def map(self, data_type: str, raw: RawRecord) -> StandardRecord:
        return self._mapper(self, data_type, raw)


def mapping(mapper: Callable[[Shelf, str, Any], StandardRecord]) -> Callable[[], Subject]:
    return lambda: replace(SUBJECT, integration=MapsTo(mapper))


def to_another_model(shelf: Shelf, data_type: str, raw: Any) -> StandardRecord:
    record = Shelf.map(shelf, data_type, raw)
    if isinstance(record, Customer):
        return Supplier(id=record.id, supplier_name=record.customer_name, status=record.status)
    return record


def to_another_id(shelf: Shelf, data_type: str, raw: Any) -> StandardRecord:
    return Shelf.map(shelf, data_type, raw).model_copy(update={"id": "always the same"})


def to_what_does_not_balance(shelf: Shelf, data_type: str, raw: Any) -> StandardRecord:
    record = Shelf.map(shelf, data_type, raw)
    if isinstance(record, JournalEntry):
        return record.model_copy(update={"journal_lines": record.journal_lines[:1]})
    return record


def spoils_the_raw(shelf: Shelf, data_type: str, raw: Any) -> StandardRecord:
    record = Shelf.map(shelf, data_type, raw)
    raw["seen"] = "yes"
    return record


def by_the_clock(shelf: Shelf, data_type: str, raw: Any) -> StandardRecord:
    record = Shelf.map(shelf, data_type, raw)
    if isinstance(record, Customer):
        return record.model_copy(update={"contact_name": datetime.now(UTC).isoformat()})
    return record


def exits(shelf: Shelf, data_type: str, raw: Any) -> StandardRecord:
    raise SystemExit(3)


def exits_on_damage(shelf: Shelf, data_type: str, raw: Any) -> StandardRecord:
    try:
        return Shelf.map(shelf, data_type, raw)
    except errors.MappingFailed as exc:
        raise SystemExit(3) from exc


def crashes_on_damage(shelf: Shelf, data_type: str, raw: Any) -> StandardRecord:
    return shelf.record(data_type, raw)


def ignores_sync_from(source: ShelfSource, data_type: str, scope: FetchScope) -> list[dict[str, Any]]:
    return right(source, data_type, replace(scope, sync_from=None))


def is_late_by_a_day(source: ShelfSource, data_type: str, scope: FetchScope) -> list[dict[str, Any]]:
    day = scope.sync_from
    return right(source, data_type, replace(scope, sync_from=day and day + timedelta(days=1)))


def ignores_changes(source: ShelfSource, data_type: str, scope: FetchScope) -> list[dict[str, Any]]:
    return right(source, data_type, replace(scope, modified_since=None))


def misses_a_change(source: ShelfSource, data_type: str, scope: FetchScope) -> list[dict[str, Any]]:
    since = scope.modified_since
    return right(source, data_type, replace(scope, modified_since=since and since + timedelta(seconds=1)))


def keeps_silent(shelf: Shelf, data_type: str, raw: Any) -> StandardRecord:
    return Shelf.map(shelf, data_type, raw).model_copy(update={"source_modified_date": None})


def reads_no_customers(source: ShelfSource, data_type: str, scope: FetchScope) -> list[dict[str, Any]]:
    return [] if data_type == "customers" else right(source, data_type, scope)


def takes_any_type(source: ShelfSource, data_type: str, scope: FetchScope) -> list[dict[str, Any]]:
    return right(source, data_type, scope) if data_type in RAW else []


def needs_no_option() -> Subject:
    class Optional(Shelf):
        info = replace(
            Shelf.info,
            online=False,
            credentials=None,
            connector_options=(ConnectorOption("place", "Where."),),
        )

        async def verify(self, credentials: Any) -> None: ...

    return Subject(Optional(), options={"place": "here"})


class TakesAnyKey(Shelf):
    async def verify(self, credentials: Any) -> None: ...


class TellsTheKey(Shelf):
    def __init__(self, form: Callable[[str], str]) -> None:
        self.form = form

    async def verify(self, credentials: Any) -> None:
        if (key := credentials.key.get_secret_value()) != "open sesame":
            raise errors.SourceAuthFailed(f"{self.form(key)} does not open the shelf", code="KEY_REFUSED")


class IsAwayInstead(Shelf):
    async def verify(self, credentials: Any) -> None:
        try:
            await super().verify(credentials)
        except errors.SourceAuthFailed as exc:
            raise errors.SourceUnavailable(str(exc), code="KEY_REFUSED") from exc


@dataclass(frozen=True)
class Planted:
    """A wrong integration, and what the check must say of it."""

    check: str
    subject: Callable[[], Subject]
    told: str


def tells_the_key(form: Callable[[str], str]) -> Planted:
    subject = replace(SUBJECT, integration=TellsTheKey(form))
    return Planted("CREDENTIALS_TOLD", lambda: subject, "repeats a secret")


PLANTED = [
    Planted("DESCRIBED", described(key="Shelf 1"), "lower-case"),
    Planted("DESCRIBED", described(name=""), "must not be empty"),
    Planted("DESCRIBED", described(data_types=frozenset({"customers", "dragons"})), "dragons"),
    Planted("DESCRIBED", described(data_types=frozenset(), incremental=frozenset()), "is empty"),
    Planted("DESCRIBED", described(incremental=frozenset({"bills"})), "incremental names"),
    Planted("DESCRIBED", described(connector_options=(ConnectorOption("x", "X."),)), "no options"),
    Planted("DESCRIBED", described(online=False), "no credentials"),
    Planted("DESCRIBED", described(retry=RetryPolicy(attempts_max=0)), "one attempt"),
    Planted("DESCRIBED", described(credentials=BareKey), "api_token must be a SecretStr"),
    Planted("FETCHED", lambda: selecting(reads_no_customers), "customers: nothing is fetched"),
    Planted("PAGED", pages_too_large, "a page of 1001 records"),
    Planted("PAGED", with_row(id=7), "no text"),
    Planted("PAGED", with_row(id=""), "empty"),
    Planted("PAGED", with_row(id="c2"), "comes 2 times"),
    Planted("PAGED", with_row(balance=0.1), "a float at balance"),
    Planted("PAGED", with_row(lines=[{"net": 1.5}]), "a float at lines[0].net"),
    Planted("PAGED", with_row(when=date(2026, 1, 1)), "type date at when"),
    Planted("PAGED", with_row(note="M\udcfcller"), "half a surrogate pair at note"),
    Planted("PAGED", with_row(note="x" * (2 << 20)), "1 MiB"),
    Planted("COUNTED", counts_in_floats, "count answered 3.0"),
    Planted("COUNTED", counts_wrong, "3 were counted and 2 fetched"),
    Planted("REPEATABLE", changes_by_itself, "other records"),
    Planted("PATIENT", reads_on, "made twice"),
    Planted("DROPPED", leaves_tasks, "left running"),
    Planted("RESPONSIVE", blocks, "customers: the event loop stood still at "),
    Planted("MAPPED", mapping(to_another_model), "Supplier instead of Customer"),
    Planted("MAPPED", mapping(to_another_id), "always the same"),
    Planted("MAPPED", mapping(to_what_does_not_balance), "JOURNAL_BALANCES"),
    Planted("MAPPED", with_row(name="", changed="never"), "MappingFailed"),
    Planted("MAPPED", mapping(exits), "SystemExit would have ended the whole program"),
    Planted("MAPPED_ALIKE", mapping(spoils_the_raw), "changed the raw record"),
    Planted("MAPPED_ALIKE", mapping(by_the_clock), "otherwise the second time"),
    Planted("DAMAGE_NAMED", mapping(crashes_on_damage), "mapping raised"),
    Planted("DAMAGE_NAMED", mapping(exits_on_damage), "mapping raised IntegrationExited: SystemExit"),
    Planted("SYNCED_FROM", lambda: selecting(ignores_sync_from), "was fetched, dated 2026-02-01"),
    Planted("SYNCED_FROM", lambda: selecting(is_late_by_a_day), "was left out, dated 2026-02-02"),
    Planted("CHANGES_TOLD", lambda: selecting(ignores_changes), "was not changed since"),
    Planted("CHANGES_TOLD", lambda: selecting(misses_a_change), "and left out"),
    Planted("CHANGES_TOLD", mapping(keeps_silent), "does not say when"),
    Planted("OTHERS_REFUSED", lambda: selecting(takes_any_type), "must raise SourceUnsupported"),
    Planted("OPTIONS_MISSED", needs_no_option, "without the option place"),
    Planted("CREDENTIALS_TOLD", lambda: replace(SUBJECT, integration=TakesAnyKey()), "accepts wrong"),
    *map(tells_the_key, (str, repr, json.dumps, quote)),
    Planted("CREDENTIALS_TOLD", lambda: replace(SUBJECT, integration=IsAwayInstead()), "SourceAuthFailed"),
    Planted("CREDENTIALS_TOLD", lambda: replace(SUBJECT, wrong_credentials=()), "no wrong_credentials"),
    Planted("CREDENTIALS_TOLD", lambda: replace(SUBJECT, credentials={"key": "no"}), "the shelf stays shut"),
]


@pytest.mark.parametrize("planted", PLANTED, ids=lambda one: f"{one.check}-{one.told}")
async def test_what_is_wrong_is_found(planted: Planted) -> None:
    found = await find_problems(planted.subject(), planted.check)
    assert found.keys() == {planted.check}
    assert any(planted.told in problem for problem in found[planted.check])


@pytest.mark.parametrize(
    ("found", "told"),
    [
        (lambda subject: [], "0 entry points"),
        (lambda subject: [Installed("shelf", "a 1", subject.integration)] * 2, "2 entry points"),
        (lambda subject: [Installed("shelf", "a 1", None, "cannot be loaded")], "cannot be loaded"),
        (lambda subject: [Installed("shelf", "a 1", Shelf())], "another object"),
    ],
)
async def test_what_is_not_installed_as_it_should_be_is_found(
    monkeypatch: pytest.MonkeyPatch, found: Callable[[Subject], list[Installed]], told: str
) -> None:
    installed(monkeypatch, found)
    problems = await find_problems(SUBJECT, "REGISTERED")
    assert told in problems["REGISTERED"][0]


async def test_what_a_source_has_nothing_of_need_not_be_fetched() -> None:
    subject = replace(selecting(reads_no_customers), without={"customers"})
    assert await find_problems(subject, "FETCHED") == {}


class ReadingAhead(ShelfSource):
    """Reads the next page while the last one is on its way, and what it has begun it ends through the source."""

    is_open = True

    async def fetch(self, data_type: str, scope: FetchScope) -> AsyncIterator[Sequence[RawRecord]]:
        rows = self.selected(data_type, scope)
        ahead = asyncio.ensure_future(asyncio.sleep(0, rows[:1]))
        try:
            for start in range(1, len(rows) + 1):
                page = await ahead
                ahead = asyncio.ensure_future(asyncio.sleep(0, rows[start : start + 1]))
                yield page
        finally:
            ahead.cancel()
            await asyncio.gather(ahead, return_exceptions=True)
            assert self.is_open


async def test_a_source_that_reads_ahead_conforms() -> None:
    class Closing(Shelf):
        @asynccontextmanager
        async def open(
            self, options: Mapping[str, str], credentials: Any, retrying: Retrying
        ) -> AsyncIterator[Source]:
            await self.verify(credentials)
            source = ReadingAhead(retrying)
            try:
                yield source
            finally:
                await asyncio.sleep(0)
                source.is_open = False

    await assert_conforms(replace(SUBJECT, integration=Closing()))


async def test_a_source_that_is_cancelled_within_is_found() -> None:
    class Cancelling(ShelfSource):
        async def count(self, data_type: str, scope: FetchScope) -> int | None:
            raise asyncio.CancelledError

    [told] = (await find_problems(reading(Cancelling), "COUNTED"))["COUNTED"]
    assert told.startswith("raised CancelledError, at ")


def yielding(*pages: Any) -> Subject:
    """One whose source yields these pages of customers."""

    class Yielding(ShelfSource):
        async def fetch(self, data_type: str, scope: FetchScope) -> AsyncIterator[Any]:
            for page in pages:
                yield page

    return replace(reading(Yielding), without={"journalEntries"})


@pytest.mark.parametrize(
    ("subject", "told"),
    [
        (yielding(7), "customers: fetch must yield pages, lists of dicts, and yielded 7"),
        (yielding("abc"), "customers: fetch must yield pages, lists of dicts, and yielded 'abc'"),
        (yielding(["abc"]), "customers: fetch must yield pages, lists of dicts, and yielded 'abc' in one"),
    ],
)
async def test_what_is_no_page_is_told_with_what_is_one(subject: Subject, told: str) -> None:
    assert await find_problems(subject, "FETCHED") == {"FETCHED": [told]}


async def test_a_fetch_that_is_no_async_generator_is_told() -> None:
    class Returning(ShelfSource):
        def fetch(self, data_type: str, scope: FetchScope) -> Any:
            return self.selected(data_type, scope)

    assert await find_problems(reading(Returning), "FETCHED") == {
        "FETCHED": ["customers: fetch must be an async generator, which yields pages, and answered a list"]
    }


class Stumbling(ShelfSource):
    async def fetch(self, data_type: str, scope: FetchScope) -> AsyncIterator[Sequence[RawRecord]]:
        yield [{"id": row["nmae"]} for row in self.selected(data_type, scope)]


async def test_a_fetch_that_fails_is_told_once_with_the_place() -> None:
    found = await find_problems(reading(Stumbling))
    [told] = found.pop("FETCHED")
    assert told.startswith(f"raised KeyError: 'nmae', at {__file__}:")
    assert told.endswith((", in fetch", ", in <listcomp>"))
    failed = ["customers: not checked: the fetch failed"]
    assert {name for name, problems in found.items() if problems == failed} == {
        *("PAGED", "COUNTED", "REPEATABLE", "PATIENT", "DROPPED", "RESPONSIVE", "MAPPED", "MAPPED_ALIKE"),
        *("DAMAGE_NAMED", "SYNCED_FROM", "CHANGES_TOLD"),
    }


async def test_a_fetch_that_fails_is_told_by_whatever_is_checked_first() -> None:
    [told] = (await find_problems(reading(Stumbling), "PAGED"))["PAGED"]
    assert told.startswith("raised KeyError: 'nmae', at ")


async def waits() -> None:
    await asyncio.Event().wait()


async def waits_for_nothing() -> None: ...


@pytest.mark.parametrize("wait", [waits, waits_for_nothing])
async def test_a_fetch_that_never_ends_is_given_up_and_told_with_the_place(
    wait: Callable[[], Awaitable[None]],
) -> None:
    class Endless(ShelfSource):
        async def fetch(self, data_type: str, scope: FetchScope) -> AsyncIterator[Sequence[RawRecord]]:
            while True:
                await wait()
                yield []

    subject = replace(reading(Endless), check_seconds_max=0.05)
    found = await find_problems(subject, "FETCHED", "PAGED")
    assert found["FETCHED"][0].startswith("took longer than 0.05 s")
    assert (f"; it waited at {__file__}:" in found["FETCHED"][0]) == (wait is waits)
    assert found["PAGED"] == ["customers: not checked: the fetch failed"]


async def test_a_time_limit_of_the_integrations_own_is_its_error() -> None:
    class Limited(ShelfSource):
        async def count(self, data_type: str, scope: FetchScope) -> int | None:
            raise TimeoutError("no answer")

    [told] = (await find_problems(reading(Limited), "COUNTED"))["COUNTED"]
    assert told.startswith("raised TimeoutError: no answer, at ")


async def test_what_the_model_refuses_is_told_in_words() -> None:
    [told] = (await find_problems(with_row(name="a\0b")(), "MAPPED"))["MAPPED"]
    assert told.startswith("raised ValidationError of Customer: customerName must not contain NUL, at ")


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"integration": Shelf}, "integration must be an instance .*, not the class Shelf"),
        ({"options": "book"}, "options must be a mapping by name, not a str"),
        ({"credentials": Key(key=SecretStr("x"))}, "credentials must be a mapping by field, .*, not a Key"),
        ({"wrong_credentials": {"key": "abracadabra"}}, "wrong_credentials must be a list of mappings"),
        ({"wrong_credentials": [Key(key=SecretStr("x"))]}, "wrong_credentials must be a list of mappings"),
        ({"without": "customers"}, "without must be a set of data types"),
    ],
)
def test_a_subject_that_is_made_wrongly_is_refused(wrong: dict[str, Any], told: str) -> None:
    with pytest.raises(TypeError, match=told):
        replace(SUBJECT, **wrong)


async def test_credentials_that_are_not_as_the_schema_has_them_are_told_without_their_values() -> None:
    subject = replace(SUBJECT, credentials={"keys": "open sesame"})
    [told] = (await find_problems(subject, "CREDENTIALS_TOLD"))["CREDENTIALS_TOLD"]
    assert "credentials.key: Field required" in told
    assert "sesame" not in told


def test_every_check_is_planted_against() -> None:
    assert {one.check for one in PLANTED} | {"REGISTERED"} == CHECKS.keys()
    assert all(check.__doc__ for check in CHECKS.values())


async def test_a_failure_names_the_integration_the_check_and_the_problem() -> None:
    with pytest.raises(AssertionError) as caught:
        await assert_conforms(replace(SUBJECT, integration=TakesAnyKey()))
    assert str(caught.value).startswith("shelf does not conform:\nCREDENTIALS_TOLD: verify accepts wrong")


async def test_a_self_driven_integration_has_no_source_to_check() -> None:
    class Driven(Shelf):
        info = replace(
            Shelf.info,
            self_driven=True,
            online=False,
            credentials=None,
            data_types=frozenset({"invoices", "commerce-orders"}),
            incremental=frozenset(),
        )

        def open(self, options: Mapping[str, str], credentials: Any, retrying: Retrying) -> Any:
            raise AssertionError("nobody may open it")

    await assert_conforms(Subject(Driven()))
