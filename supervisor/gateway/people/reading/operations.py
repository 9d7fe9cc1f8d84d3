"""All that people can read of runs, plans and data; what streams is described in docs/api.md."""

from supervisor.gateway.api.openapi import Operation, reading
from supervisor.gateway.people.reading import data, plans
from supervisor.gateway.people.reading.wire import (
    DeedList,
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


READING: tuple[Operation, ...] = (
    reading(
        f"{MISSION}/iterations",
        plans.get_iterations,
        "A mission's plans",
        IterationList,
        paged=True,
    ),
    reading(f"{MISSION}/runs", plans.get_runs, "Its runs", RunList, paged=True),
    reading(RUN, plans.get_run, "One run: why, what, how much", RunDetail),
    reading(DATA, data.get_modules, "Which modules hold something", ModuleList),
    reading(f"{DATA}/{{module}}", data.get_records, "A module's records", RecordList, paged=True),
    reading(
        f"{DATA}/{{module}}/{{table}}/{{record}}",
        data.get_record,
        "One record, and who wrote what",
        RecordDetail,
    ),
    reading(
        "/api/v1/me/timeline",
        data.get_timeline,
        "Who did what to which record",
        DeedList,
        paged=True,
    ),
)
