"""Reading where things stand."""

from __future__ import annotations

from collections.abc import Sequence

import grpc

from benchmarks import bare_server
from benchmarks.bench import Bench
from benchmarks.figures import Figure, Reach
from benchmarks.history import build_history
from benchmarks.loads import Load, run_sql, unary
from benchmarks.queueing import CALLERS, STUB, beside_echo
from benchmarks.seed import data_types
from datastatus.v1.sync_service_pb2 import GetDataStatusRequest

_METHOD = "/datastatus.v1.SyncService/GetDataStatus"


async def data_status(bench: Bench) -> list[Figure]:
    """64 callers, each with one GetDataStatus at a time, of companies that have synced all data types twice.

    Asked for the same again and again, as those do who wait for news; and for what has changed since each time.
    """
    companies = bench.scaled(1000, 40)
    calls = bench.scaled(4000, 400)
    async with bench.service() as service, bench.bare_server() as bare:
        types = await data_types(service.address)
        history = await build_history(service.dsn, companies, types, 2 * companies * len(types))
        requests = [
            GetDataStatusRequest(company_id=history.links[number % companies].company_id)
            for number in range(calls)
        ]
        async with grpc.aio.insecure_channel(service.address) as channel:
            answer = await STUB(channel).GetDataStatus(requests[0])
        assert len(answer.data_types) == len(types)
        await bare_server.prepare(bare.address, _METHOD, [answer.SerializeToString()])

        async def call(address: str, requests: Sequence[GetDataStatusRequest]) -> Load:
            return await bench.load(unary, address, STUB, "GetDataStatus", requests, callers=CALLERS)

        async def changed() -> Load:
            await bench.load(run_sql, service.dsn, "UPDATE company SET revision = revision + 1")
            return await call(service.address, requests[:companies])

        loads, loads_of_changed, echoes = await bench.alternate(
            lambda: call(service.address, requests), changed, lambda: call(bare.address, requests)
        )
    return [
        beside_echo("data_status.rate", "requests/s", loads, echoes, "rate", Reach(ratio_min=0.3)),
        beside_echo("data_status.p99", "ms", loads, echoes, "p99_ms", Reach()),
        beside_echo("data_status.rate_of_changed", "requests/s", loads_of_changed, echoes, "rate", Reach()),
        beside_echo("data_status.p99_of_changed", "ms", loads_of_changed, echoes, "p99_ms", Reach()),
    ]
