"""What an integration promises, a check each. Every check yields the problems that it finds, in plain words."""

from __future__ import annotations

import asyncio
import copy
import json
import re
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from datetime import timedelta
from functools import partial
from types import MappingProxyType
from typing import Any

from datastatus import errors
from datastatus.domain.data_types import DATA_TYPES
from datastatus.domain.fetching import EVERYTHING, FetchScope
from datastatus.domain.records import MODELS
from datastatus.integrations.base import RawRecord
from datastatus.integrations.boundary import contained
from datastatus.integrations.encoding import encode_record
from datastatus.integrations.reading import fetching
from datastatus.integrations.registry import installed_integrations
from datastatus.tasks import is_asked_to_end
from datastatus.testing.examination import Examination, Subject, raw_records, read_twice, travelled
from datastatus.testing.failures import place_of, told
from datastatus.testing.problems import (
    damage_problem,
    middle_day,
    plain_secrets,
    record_problem,
    refusal_problem,
)
from datastatus.testing.standstill import watching_for_standstills

Check = Callable[[Examination], AsyncIterator[str]]

_PAGE_RECORDS_MAX = 1000


async def find_problems(subject: Subject, *names: str) -> dict[str, list[str]]:
    """By the name of a check, what it found; of all checks, or of those named. Empty: it conforms."""
    examination = Examination(subject)
    found = {}
    for name in names or CHECKS:
        problems = []
        limit = asyncio.timeout(subject.check_seconds_max)
        try:
            async with limit:
                with contained():
                    async for problem in CHECKS[name](examination):
                        problems.append(problem)
        except (Exception, asyncio.CancelledError) as exc:
            if is_asked_to_end():
                raise
            # Whatever the integration raises where it should not is what the check has found.
            if limit.expired() and isinstance(exc, TimeoutError):
                place = place_of(subject.integration, exc)
                where = f"; it waited at {place}" if place else ""
                problems.append(f"took longer than {subject.check_seconds_max:g} s{where}")
            else:
                problems.append(told(subject.integration, exc))
        if problems:
            found[name] = problems
    return found


async def assert_conforms(subject: Subject) -> None:
    """Raises AssertionError naming every check that found something, and what."""
    found = await find_problems(subject)
    lines = [f"{name}: {problem}" for name, problems in found.items() for problem in problems]
    assert not lines, f"{subject.integration.info.key} does not conform:\n" + "\n".join(lines)


async def described(examination: Examination) -> AsyncIterator[str]:
    """Its info is complete, and consistent in itself."""
    info = examination.info
    if not re.fullmatch(r"[a-z][a-z0-9_-]*", info.key):
        yield f"the key {info.key!r} must be lower-case letters, digits, - and _"
    if not info.name or not info.source_type:
        yield "name and source_type must not be empty"
    known = DATA_TYPES.keys() if info.self_driven else MODELS.keys()
    if unknown := sorted(info.data_types - known):
        yield f"data_types names what the standard model does not have: {', '.join(unknown)}"
    if not info.data_types:
        yield "data_types is empty"
    if extra := sorted(info.incremental - info.data_types):
        yield f"incremental names what data_types does not: {', '.join(extra)}"
    if info.online and any(option.required for option in info.connector_options):
        yield "an online integration is given no options; what it needs are credentials"
    if not info.online and info.credentials is not None:
        yield "an on-premise connector is given no credentials; what it needs are options"
    if (
        info.retry.attempts_max < 1
        or not 0 < info.retry.first_pause_seconds <= info.retry.longest_pause_seconds
    ):
        yield "retry must make one attempt at least, and its first pause be no longer than its longest"
    for name in plain_secrets(info.credentials) if info.credentials else ():
        yield f"the credential {name} must be a SecretStr, so that it is never printed"


async def registered(examination: Examination) -> AsyncIterator[str]:
    """It is found under its key, in the entry point group datastatus.integrations."""
    key = examination.info.key
    found = [one for one in installed_integrations() if one.name == key]
    if len(found) != 1:
        yield f"{len(found)} entry points are called {key}; one must be, and be installed"
    for one in found:
        if one.problem:
            yield one.problem
        elif one.integration is not examination.subject.integration:
            yield f"the entry point {key} offers another object than the one that is checked"


async def fetched(examination: Examination) -> AsyncIterator[str]:
    """Something is fetched of every data type, except of those that the source of the check has nothing of."""
    for data_type in examination.data_types:
        is_there = data_type not in examination.subject.without
        if is_there and not raw_records(await examination.fetched(data_type)):
            yield f"{data_type}: nothing is fetched; if the source has nothing of it, say so in Subject.without"


async def paged(examination: Examination) -> AsyncIterator[str]:
    """Pages and records are small; a record is JSON without floats, and no other one of its type has its id."""
    for data_type in examination.data_types:
        pages = await examination.fetched(data_type)
        if largest := max((len(page) for page in pages if len(page) > _PAGE_RECORDS_MAX), default=0):
            yield f"{data_type}: a page of {largest} records; {_PAGE_RECORDS_MAX} is the most"
        ids = Counter()
        for raw in raw_records(pages):
            record_id = raw.get("id")
            if not isinstance(record_id, str) or not record_id:
                yield f"{data_type}: a record has the id {record_id!r}, which is no text or empty"
                break
            ids[record_id] += 1
            try:
                encode_record(raw)
            except errors.SourceError as exc:
                yield f"{data_type}: {exc}"
                break
        if twice := [record_id for record_id, times in ids.items() if times > 1]:
            yield f"{data_type}: the id {twice[0]} comes {ids[twice[0]]} times"


async def counted(examination: Examination) -> AsyncIterator[str]:
    """What it counts beforehand is what it fetches, or it says that it does not know."""
    for data_type in examination.data_types:
        scopes = [EVERYTHING]
        if day := middle_day(await examination.records(data_type)):
            scopes.append(FetchScope(sync_from=day))
        for scope in scopes:
            async with examination.open() as source:
                expected = await source.count(data_type, scope)
            if expected is None:
                continue
            if type(expected) is not int:
                yield f"{data_type}: count answered {expected!r}, which is no int"
                break
            fetched = len(raw_records(await examination.fetched(data_type, scope)))
            if expected != fetched:
                yield f"{data_type}: {expected} were counted and {fetched} fetched, with {scope}"


async def repeatable(examination: Examination) -> AsyncIterator[str]:
    """A source that nobody changes reads the same again, and so do two that are open side by side."""
    for data_type in examination.data_types:
        first = _by_id(await examination.fetched(data_type))
        both = await asyncio.gather(examination.fetch(data_type), examination.fetch(data_type))
        if any(_by_id(pages) != first for pages in both):
            yield f"{data_type}: another fetch of the same source gave other records"


async def patient(examination: Examination) -> AsyncIterator[str]:
    """What is read under `retrying` can be read again: losing an answer changes nothing."""
    for data_type in examination.data_types:
        again = await examination.fetch(data_type, read_twice)
        if _by_id(again) != _by_id(await examination.fetched(data_type)):
            yield f"{data_type}: a read that was made twice gave other records"


async def dropped(examination: Examination) -> AsyncIterator[str]:
    """A fetch that is given up leaves nothing running."""
    for data_type in examination.data_types:
        examination.must_be_fetched(data_type)
        before = asyncio.all_tasks()
        async with examination.open() as source, fetching(source, data_type, EVERYTHING) as pages:
            await anext(pages, None)
        if left := asyncio.all_tasks() - before:
            yield f"{data_type}: {len(left)} tasks were left running"


async def responsive(examination: Examination) -> AsyncIterator[str]:
    """Counting and fetching leave the event loop to others: what takes a second without an await is in a thread."""
    for data_type in examination.data_types:
        examination.must_be_fetched(data_type)
        async with watching_for_standstills() as standstill:
            async with examination.open() as source:
                await source.count(data_type, EVERYTHING)
            await examination.fetch(data_type)
        if standstill.place:
            yield (
                f"{data_type}: the event loop stood still at {standstill.place}; "
                "have asyncio.to_thread do what blocks"
            )


async def mapped(examination: Examination) -> AsyncIterator[str]:
    """Every record is of its model, valid, and has the id of its raw record."""
    for data_type in examination.data_types:
        for raw in raw_records(await examination.fetched(data_type)):
            record = examination.subject.integration.map(data_type, travelled(raw))
            if problem := record_problem(data_type, raw, record):
                yield f"{data_type}: record {raw['id']} {problem}"
                break


async def mapped_alike(examination: Examination) -> AsyncIterator[str]:
    """Mapping is pure: the same comes of the same, and the raw record stays as it was."""
    for data_type in examination.data_types:
        for raw in raw_records(await examination.fetched(data_type)):
            given = travelled(raw)
            kept = copy.deepcopy(given)
            first = examination.subject.integration.map(data_type, given)
            if given != kept:
                yield f"{data_type}: mapping changed the raw record {raw['id']}"
                break
            if examination.subject.integration.map(data_type, kept).to_json() != first.to_json():
                yield f"{data_type}: record {raw['id']} was mapped otherwise the second time"
                break


async def damage_named(examination: Examination) -> AsyncIterator[str]:
    """Whatever is wrong with a raw record is a MappingFailed, or refused by the model; never another error."""
    for data_type in examination.data_types:
        raws = [travelled(raw) for raw in raw_records(await examination.fetched(data_type))]
        # The largest one has most of what there is.
        for raw in sorted(raws, key=lambda one: len(json.dumps(one)))[-1:]:
            if problem := damage_problem(examination.subject.integration.map, data_type, raw):
                yield f"{data_type}: {problem}"


async def synced_from(examination: Examination) -> AsyncIterator[str]:
    """`sync_from` leaves out what is dated before that day, and nothing else."""
    for data_type in examination.data_types:
        whole = await examination.records(data_type)
        day = middle_day(whole)
        if day is None:
            continue
        expected = {key for key, one in whole.items() if one.dated is None or one.dated >= day}
        found = (await examination.records(data_type, FetchScope(sync_from=day))).keys()
        if missing := sorted(expected - found):
            yield f"{data_type}: from {day} on, record {missing[0]} was left out, dated {whole[missing[0]].dated}"
        if extra := sorted(found - expected):
            yield f"{data_type}: from {day} on, record {extra[0]} was fetched, dated {whole[extra[0]].dated}"


async def changes_told(examination: Examination) -> AsyncIterator[str]:
    """Of its incremental types it says when each record was changed, and fetches just what was since."""
    for data_type in sorted(examination.info.incremental):
        whole = await examination.records(data_type)
        moments = {key: one.source_modified_date for key, one in whole.items()}
        if silent := [key for key, moment in moments.items() if moment is None]:
            yield f"{data_type}: record {silent[0]} does not say when it was changed"
            continue
        known = sorted(moment for moment in moments.values() if moment)
        if not known:
            continue
        for since in (known[len(known) // 2], known[-1] + timedelta(days=1)):
            expected = {key for key, moment in moments.items() if moment and moment >= since}
            found = (await examination.records(data_type, FetchScope(modified_since=since))).keys()
            if missing := sorted(expected - found):
                yield f"{data_type}: record {missing[0]} was changed since {since}, and left out"
            if extra := sorted(found - expected):
                yield f"{data_type}: record {extra[0]} was not changed since {since}, and fetched"


async def others_refused(examination: Examination) -> AsyncIterator[str]:
    """A data type that it does not have is SourceUnsupported, whoever asks for it."""
    if not examination.data_types:
        return
    others = sorted(MODELS.keys() - examination.info.data_types)
    for data_type in (*others[:1], "no-such-type"):
        try:
            await examination.fetch(data_type)
        except errors.SourceUnsupported:
            continue
        yield f"a fetch of {data_type} must raise SourceUnsupported"


async def options_missed(examination: Examination) -> AsyncIterator[str]:
    """Without an option that it needs, opening it is a SourceError."""
    required = [option.name for option in examination.info.connector_options if option.required]
    for name in required if examination.data_types else ():
        options = {key: value for key, value in examination.subject.options.items() if key != name}
        try:
            credentials = examination.credentials()
            async with examination.subject.integration.open(options, credentials, read_twice):
                pass
        except errors.SourceError:
            continue
        yield f"without the option {name} it opened all the same"


async def credentials_told(examination: Examination) -> AsyncIterator[str]:
    """It accepts good credentials; wrong ones are SourceAuthFailed, asked or used, and repeat no secret."""
    if examination.info.credentials is None:
        return
    await examination.subject.integration.verify(examination.credentials())
    if not examination.subject.wrong_credentials:
        yield "the subject has no wrong_credentials, so nothing tells that any are refused"
    for values in examination.subject.wrong_credentials:
        credentials = examination.credentials(values)
        verify = partial(examination.subject.integration.verify, credentials)
        for where, use in (("verify", verify), ("a fetch", partial(_fetch_with, examination, credentials))):
            if problem := await refusal_problem(where, credentials, use):
                yield problem


async def _fetch_with(examination: Examination, credentials: Any) -> None:
    integration, options = examination.subject.integration, examination.subject.options
    async with (
        integration.open(options, credentials, read_twice) as source,
        fetching(source, examination.data_types[0], EVERYTHING) as pages,
    ):
        await anext(pages, None)


def _by_id(pages: Sequence[Sequence[RawRecord]]) -> dict[Any, RawRecord]:
    return {raw.get("id"): raw for raw in raw_records(pages)}


CHECKS: Mapping[str, Check] = MappingProxyType(
    {
        "DESCRIBED": described,
        "REGISTERED": registered,
        "FETCHED": fetched,
        "PAGED": paged,
        "COUNTED": counted,
        "REPEATABLE": repeatable,
        "PATIENT": patient,
        "DROPPED": dropped,
        "RESPONSIVE": responsive,
        "MAPPED": mapped,
        "MAPPED_ALIKE": mapped_alike,
        "DAMAGE_NAMED": damage_named,
        "SYNCED_FROM": synced_from,
        "CHANGES_TOLD": changes_told,
        "OTHERS_REFUSED": others_refused,
        "OPTIONS_MISSED": options_missed,
        "CREDENTIALS_TOLD": credentials_told,
    }
)
"""Every check by its name."""
