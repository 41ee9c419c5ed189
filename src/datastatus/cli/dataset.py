"""`datastatus dataset`: one sync whole."""

from __future__ import annotations

from collections.abc import Iterable

from datastatus.cli.client import (
    CALL_SECONDS,
    DEFAULT_SERVER,
    Client,
    Json,
    Limit,
    Server,
    listed,
    run_client,
)
from datastatus.cli.datasets import wait_words
from datastatus.cli.output import (
    console,
    print_fields,
    print_json,
    print_note,
    print_table,
    status_text,
    when,
)
from datastatus.v1 import dataset_pb2, record_service_pb2, sync_service_pb2, validation_pb2


def dataset(
    dataset_id: str, /, *, limit: Limit = 50, json: Json = False, server: Server = DEFAULT_SERVER
) -> int:
    """Show one sync whole, and what validation found in it.

    With --json the sync is the first document, and each finding one of those that follow.

    Parameters
    ----------
    limit
        At most so many findings.
    """

    async def work(client: Client) -> None:
        request = sync_service_pb2.GetDatasetRequest(dataset_id=dataset_id)
        one = await client.sync.GetDataset(request, timeout=CALL_SECONDS)
        findings, last = await listed(
            client.records.GetValidationResult,
            record_service_pb2.GetValidationResultRequest(dataset_id=dataset_id),
            lambda page: page.issues,
            limit,
        )
        if json:
            for document in (one, *findings):
                print_json(document)
            return
        print_dataset(one)
        if findings:
            console.print()
            print_findings(findings)
            count = last.error_count + last.warning_count
            more = "; --limit N shows more of them" if last.next_page_token else ""
            print_note(f"{len(findings)} of {count} findings{more}")
        elif one.validation.error_count or one.validation.warning_count:
            print_note("its findings are no longer kept")

    return run_client(server, work)


def print_dataset(one: dataset_pb2.Dataset) -> None:
    progress = one.progress
    print_fields(
        [
            ("dataset", one.id),
            ("company", one.company_id),
            ("connection", one.connection_id),
            ("data type", one.data_type),
            ("status", status_text(one.status)),
            ("description", one.status_description),
            ("queued by", dataset_pb2.Trigger.Name(one.trigger).removeprefix("TRIGGER_")),
            ("requested", when(one, "requested")),
            ("started", when(one, "started")),
            ("completed", when(one, "completed")),
            ("attempt", str(one.attempt)),
            (
                "records",
                f"{progress.records_fetched} fetched, {progress.records_mapped} mapped, "
                f"{progress.records_validated} validated, {progress.records_stored} stored"
                + (f"; {progress.percent} %" if progress.HasField("percent") else ""),
            ),
            ("waits", wait_words(one)),
            ("tried again", when(one, "retry_time") if one.HasField("retry_time") else ""),
            (
                "findings",
                f"{one.validation.error_count} errors, {one.validation.warning_count} warnings"
                if one.HasField("validation")
                else "",
            ),
            ("error code", one.error_code),
            ("message", one.error_message),
        ]
    )


def print_findings(findings: Iterable[validation_pb2.ValidationIssue]) -> None:
    print_table(
        ("severity", "rule", "record id", "field", "message"),
        [
            (
                validation_pb2.ValidationSeverity.Name(one.severity).removeprefix("VALIDATION_SEVERITY_"),
                one.rule_id,
                one.record_id,
                one.field,
                "; ".join(
                    [
                        one.message,
                        *([f"expected {one.expected}"] if one.HasField("expected") else []),
                        *([f"found {one.found}"] if one.HasField("found") else []),
                    ]
                ),
            )
            for one in findings
        ],
    )
