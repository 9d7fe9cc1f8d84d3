"""A person in the middle of her week: agents, missions with a past, and what waits for her."""

from datetime import UTC, datetime, timedelta
from typing import Any

from tests.fake_provider import Entry
from tests.inbox import plan
from tests.integration.support import Client, Json, World, text

ANNA = "anna"
COACH, PLANNER, CASHFLOW = "coach", "planner", "cashflow"
WEEK, RUNNING, ACCOUNTS = "week", "running", "accounts"

ANSWERS: tuple[Entry, ...] = (
    {
        "calls": [
            {
                "name": "create_task",
                "args": {
                    "title": "Pay the rent",
                    "dueDate": "2026-12-01",
                    "rationale": "It is due on Tuesday, and the account holds enough.",
                },
            },
            {
                "name": "create_task",
                "args": {
                    "title": "Book the dentist",
                    "rationale": "Your goal says: before the holidays.",
                },
            },
        ],
        "usage": [5912, 311],
    },
    {"content": "Two things that cannot wait; the rest of the week is free.", "usage": [6340, 120]},
)


async def household(world: World) -> Client:
    """Anna's device, once her agents have planned."""
    now = datetime.now(UTC)
    due = text(now.replace(second=0, microsecond=0) - timedelta(minutes=20))
    client = await world.client(ANNA)
    made = text(now - timedelta(days=3))
    agents: tuple[tuple[str, Json], ...] = (
        (COACH, {"name": "Coach", "role": "Keeps me moving", "maxTokensPerDay": 50_000}),
        (PLANNER, {"name": "Week planner", "role": "Plans my week", "maxTokensPerDay": 50_000}),
        (CASHFLOW, {"name": "Cashflow watcher", "role": "Watches my accounts", "state": "paused"}),
    )
    for id_, fields in agents:
        await client.agent(id_, **fields)
    await client.mission(
        WEEK,
        title="Plan my week",
        createdAt=made,
        objective="Look at my goals and open tasks and propose what this week needs.",
        agentId=PLANNER,
        cadence={"kind": "weekly", "dayOfWeek": 1, "atHour": 7, "atMinute": 0},
        nextRunAt=due,
    )
    await client.mission(
        RUNNING,
        title="Keep running",
        createdAt=made,
        objective="Find three slots a week for a run.",
        agentId=COACH,
        cadence={"kind": "daily", "atHour": 18, "atMinute": 0},
        nextRunAt=text(now + timedelta(hours=5)),
        iterations=[_earlier(now)],
    )
    await client.mission(
        ACCOUNTS,
        title="Watch the accounts",
        createdAt=made,
        objective="Warn me before money runs out.",
        agentId=CASHFLOW,
        cadence={"kind": "interval", "everyMinutes": 240},
        nextRunAt=due,
    )
    world.provider.script[:0] = ANSWERS
    await world.driver.tick()
    await world.driver.fold_all()
    return client


def _earlier(now: datetime) -> Json:
    at = text(now - timedelta(days=1))
    step: dict[str, Any] = {
        "id": "run-0",
        "summary": "create_event",
        "intent": {
            "kind": "toolCall",
            "toolName": "create_event",
            "params": {
                "title": "Easy run, 5 km",
                "startTime": text(now + timedelta(days=1)),
                "endTime": text(now + timedelta(days=1, hours=1)),
            },
        },
        "status": "planned",
        "rationale": "Your calendar is free, and it stays dry.",
    }
    summary = "One run tomorrow, while it is dry."
    return plan(step, id_="run-i", startedAt=at, finishedAt=at, summary=summary)
