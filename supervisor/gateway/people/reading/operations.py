"""All that people can read of runs, plans and data; what streams is described in docs/api.md."""

from typing import Any

from supervisor.gateway.api.openapi import Operation
from supervisor.gateway.people.reading import data, plans
from supervisor.gateway.people.reading.wire import (
    IterationList,
    ModuleList,
    RecordDetail,
    RecordList,
    RunDetail,
    RunList,
)

MISSION = "/api/v1/me/missions/{mission}"
RUN = "/api/v1/me/runs/{run}"
DATA = "/api/v1/me/data"


def _get(path: str, handler: Any, summary: str, gives: Any, *, paged: bool = False) -> Operation:
    return Operation(
        verb="GET",
        path=path,
        scope="read",
        handler=handler,
        summary=summary,
        gives=gives,
        paged=paged,
    )


READING: tuple[Operation, ...] = (
    _get(
        f"{MISSION}/iterations",
        plans.get_iterations,
        "A mission's plans",
        IterationList,
        paged=True,
    ),
    _get(f"{MISSION}/runs", plans.get_runs, "Its runs", RunList, paged=True),
    _get(RUN, plans.get_run, "One run: why, what, how much", RunDetail),
    _get(DATA, data.get_modules, "Which modules hold something", ModuleList),
    _get(f"{DATA}/{{module}}", data.get_records, "A module's records", RecordList, paged=True),
    _get(
        f"{DATA}/{{module}}/{{table}}/{{record}}",
        data.get_record,
        "One record, and who wrote what",
        RecordDetail,
    ),
)
