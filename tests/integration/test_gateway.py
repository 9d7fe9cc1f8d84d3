import asyncio
import html
import json
import re
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import pytest

from mana_actors.http.server import serve
from mana_actors.http.sockets import CannotListen
from mana_actors.llm.router.settings import OneService
from mana_actors.messages import Remembered
from state.store.connect import Unavailable
from state.store.gateway.limits import LimitChange, LimitKind
from state.store.people.operators import SessionStore
from supervisor.health.last_hour import HourTold
from supervisor.health.watch import Watch
from tests.fake_provider import FakeProvider
from tests.gateway_parts import KEY, STATS, FakeSupervisor, app_of, busy_hour, client_of, fleet_of
from tests.postgres import SUPERUSER, Database
from tests.router_parts import RunningRouter

pytestmark = pytest.mark.one_postgres

HOSTILE = '"><script>alert(1)</script>'


class Gateway:
    """The app under test, a client with the key, one without, and the database behind."""

    def __init__(self, database: Database, folder: Path) -> None:
        self.database = database
        self.supervisor = FakeSupervisor()
        self.fleet = fleet_of(database)
        self.app = app_of(self.fleet, self.supervisor, folder)
        self.client = client_of(self.app)
        self.stranger = client_of(self.app, key=None)

    async def sql(self, statement: str, *values: Any) -> Any:
        connection = await self.database.connect(SUPERUSER)
        try:
            return await connection.fetch(statement, *values)
        finally:
            await connection.close()

    async def add_shard(self, *, age_s: float = 0) -> None:
        await self.sql(
            "INSERT INTO mana_ai.shards"
            " (shard, buckets, epoch, holder, taken_at, folded_at, ticked_at)"
            " SELECT '0', '[0,256)', 1, 'test', t, t, t"
            "   FROM (SELECT clock_timestamp() - $1::float8 * interval '1 s') AS x (t)",
            age_s,
        )

    async def add_mission(self, user: str, mission: str, **columns: Any) -> None:
        columns = {"record": "{}", "state": "active", "complete": True, **columns}
        names, places = ", ".join(columns), ", ".join(f"${n + 3}" for n in range(len(columns)))
        await self.sql(
            f"INSERT INTO mana_ai.mission_snapshots (user_id, mission_id, {names})"
            f" VALUES ($1, $2, {places})",
            user,
            mission,
            *columns.values(),
        )


@asynccontextmanager
async def opened_gateway(database: Database, folder: Path) -> AsyncGenerator[Gateway]:
    """The app on a test database."""
    made = Gateway(database, folder)
    yield made
    await made.client.aclose()
    await made.stranger.aclose()
    await made.fleet.close()


@pytest.fixture
async def gateway(database: Database, tmp_path: Path) -> AsyncIterator[Gateway]:
    async with opened_gateway(database, tmp_path) as opened:
        yield opened


async def items(gateway: Gateway, path: str, **query: Any) -> list[dict[str, Any]]:
    answer = await gateway.client.get(path, params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()["items"]


async def test_health_is_open_and_well_when_every_shard_works(gateway: Gateway):
    await gateway.add_shard()
    answer = await gateway.stranger.get("/health")
    assert answer.status_code == 200
    assert answer.json() == {
        "ok": True,
        "status": "well",
        "service": "mana-ai",
        "version": "1.2.3",
        "failing": [],
    }
    told = (await gateway.client.get("/health")).json()
    assert told["tick"]["enabled"] is told["tick"]["running"] is True
    assert told["problems"] == []


async def test_a_stranger_is_told_which_parts_fail_and_no_more(gateway: Gateway):
    gateway.supervisor.dead = True
    answer = await gateway.stranger.get("/health")
    assert answer.status_code == 503
    assert set(answer.json()) == {"ok", "status", "service", "version", "failing"}
    assert answer.json()["failing"] == ["shards", "supervisor"]
    for path in ("/health/live", "/health/ready"):
        assert (await gateway.stranger.get(path)).json() == {"ok": True}


async def test_health_says_that_fold_and_tick_are_stuck_even_if_the_supervisor_is_dead(
    gateway: Gateway,
):
    await gateway.add_shard(age_s=3600)
    gateway.supervisor.dead = True
    answer = await gateway.client.get("/health")
    assert answer.status_code == 503
    told = answer.json()
    assert told["tick"]["stuck"] is told["fold"]["stuck"] is True
    assert told["fold"]["lag_s"] >= 3600
    assert [problem.split(":")[0] for problem in told["problems"]] == ["tick", "fold", "supervisor"]


async def test_health_says_that_no_supervisor_ever_started(gateway: Gateway):
    answer = await gateway.client.get("/health")
    assert answer.status_code == 503
    assert "shards: none" in answer.json()["problems"][0]


async def test_health_says_what_is_wrong_with_the_database_and_readiness_follows_it(
    gateway: Gateway,
):
    await gateway.sql("ALTER ROLE mana_gateway NOLOGIN")
    try:
        answer = await gateway.client.get("/health")
        ready = await gateway.stranger.get("/health/ready")
        live = await gateway.stranger.get("/health/live")
    finally:
        await gateway.sql("ALTER ROLE mana_gateway LOGIN")
    assert (answer.status_code, ready.status_code, live.status_code) == (503, 503, 200)
    (problem,) = answer.json()["problems"]
    assert problem.startswith("database: it lets this login")
    assert "pg_hba.conf" in problem


@pytest.mark.parametrize("path", ["/internal/tick", "/internal/nothing", "/internal", "/internal/"])
async def test_internal_paths_are_closed_without_the_key(gateway: Gateway, path: str):
    for key in (None, "", "wrong", KEY + "x"):
        headers = {} if key is None else {"X-Service-Key": key}
        answer = await gateway.stranger.post(path, headers=headers)
        assert answer.status_code == 401
        assert answer.json() == {"error": "invalid or missing service key"}
    assert gateway.supervisor.ticks == 0


@pytest.mark.parametrize("path", ["/%69nternal/tick", "//internal/tick", "/internal%2Ftick"])
async def test_no_other_spelling_of_a_path_passes_the_guard(gateway: Gateway, path: str):
    answer = await gateway.stranger.post(path)
    assert answer.status_code in (400, 401, 404)
    assert gateway.supervisor.ticks == 0


async def test_unknown_internal_paths_are_not_found_with_the_key(gateway: Gateway):
    answer = await gateway.client.get("/internal/nothing")
    assert (answer.status_code, answer.json()) == (404, {"error": "not found"})
    assert (await gateway.client.get("/internal/tick")).status_code == 405


async def test_a_tick_is_accepted_at_once_or_waited_for(gateway: Gateway):
    answer = await gateway.client.post("/internal/tick")
    assert (answer.status_code, answer.json()) == (202, {"id": "t1"})
    answer = await gateway.client.post("/internal/tick?wait=2")
    assert (answer.status_code, answer.json()) == (200, STATS)
    answer = await gateway.client.get("/internal/tick/t1")
    assert answer.json()["state"] == "done"
    assert (await gateway.client.get("/internal/tick/t2")).status_code == 404


async def test_a_tick_that_is_not_over_in_time_is_accepted(gateway: Gateway):
    gateway.supervisor.report = {"id": "t1", "state": "running"}
    answer = await gateway.client.post("/internal/tick?wait=1")
    assert (answer.status_code, answer.json()) == (202, {"id": "t1"})


async def test_a_failed_scan_is_no_success(gateway: Gateway):
    failed = {"id": "t1", "state": "failed", "stats": STATS | {"errors": ["database down"]}}
    gateway.supervisor.report = failed
    answer = await gateway.client.post("/internal/tick?wait=1")
    assert (answer.status_code, answer.json()["errors"]) == (503, ["database down"])


async def test_a_silent_supervisor_is_one_clear_error(gateway: Gateway):
    gateway.supervisor.dead = True
    answer = await gateway.client.post("/internal/tick")
    assert (answer.status_code, answer.json()) == (
        503,
        {"error": "the supervisor does not answer"},
    )


async def test_lists_show_every_user_and_no_text_of_theirs(gateway: Gateway):
    await gateway.add_mission("u1", "m1", record='{"title": "secret title"}', decision="ran")
    await gateway.add_mission("u2", "m1", problems=["cadence: missing"])
    rows = await items(gateway, "/internal/missions")
    assert [(row["user_id"], row["mission_id"]) for row in rows] == [("u1", "m1"), ("u2", "m1")]
    assert "secret title" not in json.dumps(rows)
    (row,) = await items(gateway, "/internal/missions", problems="true")
    assert (row["user_id"], row["problems"]) == ("u2", ["cadence: missing"])
    (row,) = await items(gateway, "/internal/missions", user="u1", state="active")
    assert row["decision"] == "ran"


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("missions?user=nobody", "user"),
        ("agents?user=nobody", "user"),
        ("runs?user=nobody", "user"),
        ("decisions?user=nobody", "user"),
        ("problems?user=nobody", "user"),
        ("missions?user=u1&agent=other", "agent"),
        ("missions?agent=other", "agent"),
        ("runs?user=u1&mission=other", "mission"),
    ],
)
async def test_a_list_of_somebody_unknown_says_so(gateway: Gateway, path: str, field: str):
    await gateway.add_mission("u1", "m1", agent_id="a")
    answer = await gateway.client.get(f"/internal/{path}")
    assert (answer.status_code, answer.json()["field"]) == (404, field)


@pytest.mark.parametrize("path", ["runs?user=u1", "runs?user=u1&agent=a", "decisions?user=u1",
                                  "agents?user=u1", "problems?user=u1", "runs?state=failed",
                                  "missions?user=u1&agent=legacy:ai-default"])  # fmt: skip
async def test_an_empty_list_of_somebody_known_is_empty(gateway: Gateway, path: str):
    await gateway.add_mission("u1", "m1", agent_id="a")
    answer = await gateway.client.get(f"/internal/{path}")
    assert answer.json() == {"items": [], "before": None}


async def test_settings_and_limits_of_nobody_are_refused(gateway: Gateway):
    await gateway.add_mission("u1", "m1")
    for path, content, field in (
        ("users/nobody/settings", {"time_zone": "UTC"}, "user"),
        ("limits", {"kind": "user", "user": "nobody", "tokens": 4}, "user"),
        ("limits", {"kind": "agent", "user": "u1", "agent": "b", "tokens": 4}, "agent"),
    ):
        answer = await gateway.client.put(f"/internal/{path}", json=content)
        assert (answer.status_code, answer.json()["field"]) == (404, field)
    assert await gateway.sql("SELECT FROM mana_ai.limits") == []
    assert await gateway.sql("SELECT FROM mana_ai.user_settings") == []
    lifted = {"kind": "user", "user": "nobody", "tokens": None}
    assert (await gateway.client.put("/internal/limits", json=lifted)).status_code == 200


async def test_default_agents_are_listed_though_nobody_wrote_a_record(gateway: Gateway):
    mana = "legacy:ai-default"
    await gateway.add_mission("u1", "m1", agent_id=mana)
    await gateway.add_mission("u1", "m2", agent_id=mana)
    await gateway.add_mission("u2", "m1", agent_id="a")
    await gateway.add_mission("u3", "m1", agent_id=mana, hidden=True)
    await gateway.sql(
        "INSERT INTO mana_ai.runs (user_id, agent_id, mission_id, due_at, state)"
        " VALUES ('u1', $1, 'm1', now(), 'open')",
        mana,
    )
    (row,) = await items(gateway, "/internal/agents")
    assert (row["user_id"], row["agent_id"], row["recorded"]) == ("u1", mana, False)
    assert (row["state"], row["running"], row["max_concurrent"]) == ("active", 1, 1)
    told = (await gateway.client.get("/internal/agents/u1/legacy:ai-default")).json()
    assert told["record"] is None
    await gateway.sql(
        "INSERT INTO mana_ai.agent_snapshots (user_id, agent_id, record, state, complete)"
        " VALUES ('u1', $1, '{}', 'paused', true)",
        mana,
    )
    (row,) = await items(gateway, "/internal/agents")
    assert (row["state"], row["recorded"]) == ("paused", True)


async def test_a_run_that_waits_is_the_news_of_its_mission(gateway: Gateway):
    await gateway.add_mission("u1", "m1", decision="ran", reason=None)
    await gateway.add_mission("u1", "m2", decision="skipped-budget", reason="no room")
    for mission, reason, waits_for in (
        ("m1", "the model did not answer", "backoff"),
        ("m2", "no room", "budget"),
    ):
        await gateway.sql(
            "INSERT INTO mana_ai.runs (user_id, agent_id, mission_id, due_at, state, reason,"
            " waiting_for) VALUES ('u1', 'legacy:ai-default', $1, now(), 'waiting', $2, $3)",
            mission,
            reason,
            waits_for,
        )
    rows = await items(gateway, "/internal/missions")
    said = [(row["decision"], row["reason"]) for row in rows]
    assert said == [("waiting", "the model did not answer"), ("skipped-budget", "no room")]
    told = (await gateway.client.get("/internal/agents/u1/legacy:ai-default")).json()
    assert [row["decision"] for row in told["missions"]] == ["waiting", "skipped-budget"]


async def test_pages_follow_each_other_without_gap_or_repeat(gateway: Gateway):
    for number in range(5):
        await gateway.add_mission("u/1", f"m{number}")
        await gateway.sql(
            "INSERT INTO mana_ai.runs (user_id, agent_id, mission_id, due_at, state)"
            " VALUES ('u/1', 'a', $1, now(), 'committed')",
            f"m{number}",
        )
        await gateway.sql(
            "INSERT INTO mana_ai.decisions (user_id, mission_id, agent_id, decision)"
            " VALUES ('u/1', $1, 'a', 'ran')",
            f"m{number}",
        )
    forward = [f"m{number}" for number in range(5)]
    for path, wanted in (
        ("missions", forward),
        ("runs", forward[::-1]),
        ("decisions", forward[::-1]),
    ):
        seen: list[str] = []
        query = {"limit": "2", "user": "u/1"}
        while True:
            page = (await gateway.client.get(f"/internal/{path}", params=query)).json()
            seen += [row["mission_id"] for row in page["items"]]
            if page["before"] is None:
                break
            query["before"] = page["before"]
        assert seen == wanted, path


async def test_quarantined_rows_are_listed_with_their_reason(gateway: Gateway):
    await gateway.sql(
        "INSERT INTO mana_ai.quarantine (change_id, user_id, table_name, record_id, reason)"
        " VALUES (gen_random_uuid(), 'u1', 'aiMissions', 'm1', 'data: not an object')"
    )
    (row,) = await items(gateway, "/internal/problems")
    assert row["reason"] == "data: not an object"


async def test_status_counts_the_fleet(gateway: Gateway):
    await gateway.add_shard()
    await gateway.add_mission("u1", "m1")
    told = (await gateway.client.get("/internal/status")).json()
    assert told["counts"]["missions"] == 1
    assert len(told["supervisor"]["awake"]) == 3
    assert told["supervisor"]["idle"]["seconds"] == 21.4
    assert told["shards"][0]["bucket_hi"] == 256


async def test_run_now_is_one_occurrence_per_key(gateway: Gateway):
    await gateway.add_mission("u/1", "m 1")
    path = "/internal/missions/u%2F1/m%201/run"
    first = await gateway.client.post(path, headers={"Idempotency-Key": "k1"})
    again = await gateway.client.post(path, headers={"Idempotency-Key": "k1"})
    other = await gateway.client.post(path, headers={"Idempotency-Key": "k2"})
    assert [first.status_code, again.status_code, other.status_code] == [202, 202, 202]
    assert (first.json()["created"], again.json()["created"]) == (True, False)
    assert first.json()["due_at"] == again.json()["due_at"] != other.json()["due_at"]


async def test_run_now_needs_a_mission_and_a_key_of_its_own(gateway: Gateway):
    await gateway.add_mission("u1", "m1")
    await gateway.add_mission("u1", "m2")
    key = {"Idempotency-Key": "k1"}
    assert (
        await gateway.client.post("/internal/missions/u1/none/run", headers=key)
    ).status_code == 404
    assert (
        await gateway.client.post("/internal/missions/u2/m1/run", headers=key)
    ).status_code == 404
    without = await gateway.client.post("/internal/missions/u1/m1/run")
    assert (without.status_code, without.json()["field"]) == (400, "Idempotency-Key")
    await gateway.client.post("/internal/missions/u1/m1/run", headers=key)
    taken = await gateway.client.post("/internal/missions/u1/m2/run", headers=key)
    assert taken.status_code == 409


async def test_a_users_time_zone_is_checked_and_kept(gateway: Gateway):
    await gateway.add_mission("u1", "m1")
    path = "/internal/users/u1/settings"
    for zone in ("America/New_York", "Asia/Tokyo", None):
        answer = await gateway.client.put(path, json={"time_zone": zone})
        assert answer.status_code == 200, answer.text
        (row,) = await gateway.sql("SELECT user_id, time_zone FROM mana_ai.user_settings")
        assert tuple(row) == ("u1", zone)
    for zone in ("Mars/Olympus", "", 7, "../etc/passwd", "Europe", "a\0b", ["UTC"], "localtime"):
        answer = await gateway.client.put(path, json={"time_zone": zone})
        assert (answer.status_code, answer.json()["field"]) == (400, "time_zone")


@pytest.mark.parametrize(
    ("verb", "path", "field", "content"),
    [
        ("GET", "/internal/missions?user=%00", "user", b""),
        ("GET", "/internal/missions?user=%FF", "query", b""),
        ("GET", "/internal/missions?user=%ED%A0%80", "query", b""),
        ("GET", "/internal/missions?user=", "user", b""),
        ("GET", "/internal/missions?user=a&user=b", "user", b""),
        ("GET", "/internal/missions?usr=a", "usr", b""),
        ("GET", "/internal/missions?limit=0", "limit", b""),
        ("GET", "/internal/missions?limit=1e3", "limit", b""),
        ("GET", "/internal/missions?limit=99999999999999999999", "limit", b""),
        ("GET", "/internal/missions?problems=maybe", "problems", b""),
        ("GET", "/internal/missions?before=%25", "before", b""),
        ("GET", "/internal/missions?state=banana", "state", b""),
        ("GET", "/internal/agents?state=open", "state", b""),
        ("GET", "/internal/runs?state=banana", "state", b""),
        ("GET", "/internal/runs?before=WzEsMl0=", "before", b""),
        ("GET", "/internal/missions?model=a/b", "model", b""),
        ("GET", "/internal/missions?user=" + "a" * 513, "user", b""),
        ("POST", "/internal/tick?wait=9", "wait", b""),
        ("POST", "/internal/tick?wait=nan", "wait", b""),
        ("POST", "/internal/missions/%FF/m1/run", "user", b""),
        ("POST", "/internal/missions/u1/%00/run", "mission", b""),
        ("PUT", "/internal/users/u1/settings", "body", b""),
        ("PUT", "/internal/users/u1/settings", "body", b"[]"),
        ("PUT", "/internal/users/u1/settings", "body", b'{"time_zone": "\xff"}'),
        ("PUT", "/internal/users/u1/settings", "body", b'{"time_zone": "\\ud800"}'),
        ("PUT", "/internal/users/u1/settings", "body", b'{"time_zone": NaN}'),
        ("PUT", "/internal/users/u1/settings", "body", b"[" * 60_000),
        ("PUT", "/internal/users/u1/settings", "time_zone", b"{}"),
        ("PUT", "/internal/users/u1/settings", "zone", b'{"zone": "UTC"}'),
    ],
)
async def test_bad_input_is_one_clear_error_that_names_the_field(
    gateway: Gateway, verb: str, path: str, field: str, content: bytes
):
    headers = {"Idempotency-Key": "k"}
    answer = await gateway.client.request(verb, path, content=content, headers=headers)
    assert answer.status_code == 400, answer.text
    assert answer.json()["field"] == field
    assert "Traceback" not in answer.text


async def test_a_body_that_is_too_large_is_refused(gateway: Gateway):
    answer = await gateway.client.put("/internal/users/u1/settings", content=b" " * 70_000)
    assert (answer.status_code, answer.json()["field"]) == (413, "body")


async def test_an_unexpected_error_shows_nothing(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    text = f"{gateway.database.name}'s text"

    async def broken(*_: object) -> None:
        raise ValueError(text)

    monkeypatch.setattr(gateway.fleet, "counts", broken)
    await gateway.add_shard()
    answer = await gateway.client.get("/internal/status")
    assert (answer.status_code, answer.json()) == (500, {"error": "internal error"})
    assert text not in caplog.text
    assert "ValueError" in caplog.text


async def test_metrics_need_the_key_and_add_up(gateway: Gateway):
    assert (await gateway.stranger.get("/metrics")).status_code == 401
    gateway.supervisor.metered.inc("agent_decisions_total", {"decision": "ran"}, 2)
    bearer = {"Authorization": f"Bearer {KEY}"}
    answer = await gateway.stranger.get("/metrics", headers=bearer)
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert 'mana_ai_agent_decisions_total{decision="ran",service="mana-ai"} 2.0' in answer.text
    labels = 'method="GET",path="/metrics",service="mana-ai",status="401"'
    assert f"mana_ai_http_requests_total{{{labels}}} 1.0" in answer.text
    assert "mana_ai_process_resident_memory_bytes" in answer.text


async def test_metric_paths_are_patterns_so_that_callers_cannot_fill_the_memory(gateway: Gateway):
    for number in range(5):
        await gateway.client.get(f"/nothing/{number}")
        await gateway.client.get(f"/internal/tick/t{number}")
    text = (await gateway.client.get("/metrics")).text
    assert 'path="/internal/tick/{id}"' in text
    assert 'path="unmatched"' in text
    assert "/nothing/" not in text


async def test_metrics_may_be_opened(gateway: Gateway, tmp_path: Path):
    app = app_of(gateway.fleet, gateway.supervisor, tmp_path, metrics_open=True)
    async with client_of(app, key=None) as stranger:
        assert (await stranger.get("/metrics")).status_code == 200


async def test_the_routers_state_and_metrics_are_shown_and_its_absence_is_one_line(
    gateway: Gateway, tmp_path: Path
):
    (tmp_path / "secrets").mkdir()
    with (
        FakeProvider() as model,
        RunningRouter(tmp_path / "secrets", OneService("service", model.url, "eu")) as router,
    ):
        port = router.settings.port
        app = app_of(gateway.fleet, gateway.supervisor, tmp_path, llm_port=port)
        async with client_of(app) as client:
            told = (await client.get("/internal/llm")).json()
            assert (told["status"], told["url"]) == ("healthy", router.url)
            tried = await client.post("/internal/llm/test", json={"model": "mana/none"})
            assert (tried.json()["ok"], tried.json()["exposure"]) == (True, "eu")
            model.script = [{}] * len(model.requests) + [{"status": 422, "kind": "blocked"}]
            tried = await client.post("/internal/llm/test", json={"model": "mana/x"})
            assert (tried.json()["ok"], tried.json()["kind"]) == (False, "blocked")
            assert "mana_llm_tokens_total" in (await client.get("/metrics")).text
    answer = await gateway.client.get("/internal/llm")
    assert (answer.status_code, answer.json()["error"]) == (503, "the model router does not answer")
    assert (await gateway.client.post("/internal/llm/test", json={})).status_code == 400
    assert (await gateway.stranger.get("/internal/llm")).status_code == 401


async def test_a_limit_in_money_without_a_price_is_warned_of_where_limits_are_shown(
    gateway: Gateway, tmp_path: Path
):
    (tmp_path / "secrets").mkdir()
    await gateway.add_shard()
    await gateway.add_mission("u1", "m1", agent_id="a1")
    with (
        FakeProvider() as model,
        RunningRouter(tmp_path / "secrets", OneService("service", model.url, "eu")) as router,
    ):
        port = router.settings.port
        app = app_of(gateway.fleet, gateway.supervisor, tmp_path, llm_port=port)
        async with client_of(app) as client:
            token = (await client.post("/internal/login")).json()["token"]
            await client.get("/login", params={"token": token})
            for micros, warns in ((None, False), (500_000, True)):
                change = {"kind": "each-user", "micros": micros}
                told = (await client.put("/internal/limits", json=change)).json()
                assert ("warnings" in told) is warns
                for path in ("/", "/agents/u1/a1"):
                    page = await client.get(path)
                    assert page.status_code == 200
                    assert ("limits in money do not bound" in page.text) is warns


async def test_the_dashboard_opens_once_per_token_and_stays_open_by_cookie(gateway: Gateway):
    await gateway.add_shard()
    await gateway.add_mission("u1", HOSTILE, reason=HOSTILE, problems=[HOSTILE])
    assert (await gateway.stranger.get("/")).status_code == 401
    token = (await gateway.client.post("/internal/login")).json()["token"]
    assert (await gateway.stranger.get("/login", params={"token": "wrong"})).status_code == 401
    opened = await gateway.stranger.get("/login", params={"token": token})
    assert opened.status_code == 200
    cookie = opened.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    page = await gateway.stranger.get("/fleet")
    assert page.status_code == 200
    assert "u1" in page.text
    assert "<script>" not in page.text
    assert "default-src 'none'" in page.headers["content-security-policy"]
    gateway.stranger.cookies.clear()
    assert (await gateway.stranger.get("/login", params={"token": token})).status_code == 401
    assert (await gateway.stranger.get("/")).status_code == 401


def seal_in(page: str) -> str:
    return page.partition('name="seal" value="')[2].partition('"')[0]


async def new_session(gateway: Gateway) -> dict[str, str]:
    """The header that carries a session which has just begun; the client itself keeps none."""
    token = (await gateway.client.post("/internal/login")).json()["token"]
    opened = await gateway.stranger.get("/login", params={"token": token})
    gateway.stranger.cookies.clear()
    return {"Cookie": opened.headers["set-cookie"].partition(";")[0]}


async def test_who_signs_out_ends_the_session_for_every_copy_of_its_cookie(gateway: Gateway):
    stolen, other = await new_session(gateway), await new_session(gateway)
    page = await gateway.stranger.get("/", headers=stolen)
    seal = seal_in(page.text)
    headers = stolen | {"Origin": str(gateway.stranger.base_url).rstrip("/")}
    refused = await gateway.stranger.post("/sign-out", data={"seal": "x"}, headers=headers)
    assert refused.status_code == 403
    assert (await gateway.stranger.get("/", headers=stolen)).status_code == 200
    over = await gateway.stranger.post("/sign-out", data={"seal": seal}, headers=headers)
    assert over.status_code == 200
    assert (await gateway.stranger.get("/", headers=stolen)).status_code == 401
    assert (await gateway.stranger.get("/live/-/", headers=stolen)).status_code == 401
    assert (await gateway.stranger.get("/", headers=other)).status_code == 200


async def test_a_login_takes_over_no_cookie_that_was_there_before(gateway: Gateway):
    planted = await new_session(gateway)
    token = (await gateway.client.post("/internal/login")).json()["token"]
    opened = await gateway.stranger.get("/login", params={"token": token}, headers=planted)
    assert opened.headers["set-cookie"].partition(";")[0] != planted["Cookie"]
    gateway.stranger.cookies.clear()
    left = await gateway.stranger.get("/", headers=planted)
    assert left.status_code == 401, "the one it replaced has ended"


@pytest.mark.parametrize(
    "value", ["", "x", "9999999999.x.y", "..", "99999999999999999999999.a.b", "é.ü.ß"]
)
async def test_a_made_up_cookie_opens_nothing(gateway: Gateway, value: str):
    token = (await gateway.client.post("/internal/login")).json()["token"]
    opened = await gateway.stranger.get("/login", params={"token": token})
    name = opened.headers["set-cookie"].partition("=")[0]
    gateway.stranger.cookies.clear()
    headers = [(b"Cookie", f"{name}={value}".encode())]
    assert (await gateway.stranger.get("/", headers=headers)).status_code == 401


@asynccontextmanager
async def database_away(gateway: Gateway) -> AsyncGenerator[None]:
    """The gateway's login is refused, and what it had is gone."""
    await gateway.sql("ALTER ROLE mana_gateway NOLOGIN")
    await gateway.sql(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE usename = 'mana_gateway' AND datname = current_database()"
    )
    try:
        yield
    finally:
        await gateway.sql("ALTER ROLE mana_gateway LOGIN")


def form_headers(gateway: Gateway, session: dict[str, str]) -> dict[str, str]:
    return session | {"Origin": str(gateway.stranger.base_url).rstrip("/")}


async def seal_of(gateway: Gateway, session: dict[str, str]) -> dict[str, str]:
    return {"seal": seal_in((await gateway.stranger.get("/sessions", headers=session)).text)}


async def test_the_dashboard_shows_while_the_database_is_away(gateway: Gateway):
    session = await new_session(gateway)
    async with database_away(gateway):
        page = await gateway.stranger.get("/", headers=session)
        assert page.status_code == 200
        assert "database: it lets this login" in page.text
        system = await gateway.stranger.get("/system", headers=session)
        assert system.status_code == 200
        assert "it lets this login" in system.text
        seal = seal_in(page.text)
        assert (await gateway.stranger.get("/fleet", headers=session)).status_code == 503
        headers = form_headers(gateway, session)
        over = await gateway.stranger.post("/sign-out", data={"seal": seal}, headers=headers)
        assert over.status_code == 503, "nothing is done by a session that may have ended"
        begun = await new_session(gateway)
        assert (await gateway.stranger.get("/", headers=begun)).status_code == 200
    for each in (session, begun):
        assert (await gateway.stranger.get("/fleet", headers=each)).status_code == 200
    assert len((await gateway.client.get("/internal/sessions")).json()["items"]) == 2


async def test_of_an_ended_session_only_the_page_of_an_outage_is_left(gateway: Gateway):
    ended = await new_session(gateway)
    assert (await gateway.client.delete("/internal/sessions")).json() == {"ended": 1}
    await gateway.add_shard()
    await gateway.add_mission("u1", "m1", agent_id="a1")
    assert (await gateway.stranger.get("/", headers=ended)).status_code == 401
    async with database_away(gateway):
        assert (await gateway.stranger.get("/", headers=ended)).status_code == 200
        for path in ("/fleet", "/agents/u1/a1", "/sessions"):
            assert (await gateway.stranger.get(path, headers=ended)).status_code == 503
    assert (await gateway.stranger.get("/", headers=ended)).status_code == 401


async def test_a_page_made_when_the_database_is_back_is_not_shown_to_an_ended_session(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
):
    ended = await new_session(gateway)
    await gateway.client.delete("/internal/sessions")
    look, fails = SessionStore.is_open, [True]

    async def at_first_away(store: SessionStore, cookie: bytes) -> bool:
        if fails:
            fails.clear()
            raise Unavailable("ConnectionDoesNotExistError")
        return await look(store, cookie)

    monkeypatch.setattr(SessionStore, "is_open", at_first_away)
    assert (await gateway.stranger.get("/", headers=ended)).status_code == 401
    assert not fails


async def test_sessions_are_listed_and_ended_one_by_one_over_restarts(
    gateway: Gateway, tmp_path: Path
):
    mine, other = await new_session(gateway), await new_session(gateway)
    items = (await gateway.client.get("/internal/sessions")).json()["items"]
    assert len(items) == 2
    assert items[0]["user_agent"].startswith("python-httpx2")
    assert mine["Cookie"].partition("=")[2] not in str(items)
    page = (await gateway.stranger.get("/sessions", headers=mine)).text
    (own,) = [one["name"] for one in items if f"<code>{one['name']}</code> <b>" in page]
    (another,) = [one["name"] for one in items if one["name"] != own]
    headers, path = form_headers(gateway, mine), f"/sessions/{another}/end"
    unsealed = await gateway.stranger.post(path, data={"seal": "x"}, headers=headers)
    assert unsealed.status_code == 403
    seal = {"seal": seal_in(page)}
    assert (await gateway.stranger.post(path, data=seal, headers=headers)).status_code == 303
    assert (await gateway.stranger.post(path, data=seal, headers=headers)).status_code == 404
    app = app_of(gateway.fleet, gateway.supervisor, tmp_path)  # a gateway that started anew
    async with client_of(app, key=None) as restarted:
        assert (await restarted.get("/fleet", headers=other)).status_code == 401
        assert (await restarted.get("/fleet", headers=mine)).status_code == 200
    unused = (await gateway.client.post("/internal/login")).json()["token"]
    over = await gateway.stranger.post("/sessions/all/end", data=seal, headers=headers)
    assert "mana open" in over.text
    assert (await gateway.stranger.get("/fleet", headers=mine)).status_code == 401
    assert (await gateway.stranger.get("/login", params={"token": unused})).status_code == 401
    assert (await gateway.client.delete(f"/internal/sessions/{own}")).status_code == 404
    assert (await gateway.stranger.get("/internal/sessions")).status_code == 401


async def test_limits_are_set_and_lifted_on_a_page(gateway: Gateway):
    await gateway.add_mission("u1", "m1", agent_id="a1")
    session = await new_session(gateway)
    headers, sealed = form_headers(gateway, session), await seal_of(gateway, session)
    told = await gateway.stranger.get("/limits", headers=session)
    assert "No limits are set" in told.text

    async def sent(**form: str) -> httpx2.Response:
        return await gateway.stranger.post("/limits", data=sealed | form, headers=headers)

    for field, form in (
        ("kind", {"kind": "everybody", "tokens": "5"}),
        ("tokens", {"kind": "installation"}),
        ("tokens", {"kind": "installation", "tokens": "-1"}),
        ("tokens", {"kind": "installation", "tokens": "1e99"}),
        ("money", {"kind": "installation", "tokens": "5", "money": "0.0000001"}),
        ("user", {"kind": "installation", "user": "u1", "tokens": "5"}),
        ("user", {"kind": "user", "user": "nobody", "tokens": "5"}),
        ("agent", {"kind": "agent", "user": "u1", "agent": "a2", "tokens": "5"}),
    ):
        wrong = await sent(**form)
        assert wrong.status_code == 400, form
        assert f'id="wrong-{field}"' in wrong.text, form
    assert (await gateway.client.get("/internal/limits")).json()["items"] == []
    assert (await sent(kind="installation", tokens="9000", money="1.5")).status_code == 303
    own = {"kind": "agent", "user": "u1", "agent": "a1"}
    assert (await sent(**own, tokens="700")).status_code == 303
    items = (await gateway.client.get("/internal/limits")).json()["items"]
    kept = [(one["kind"], one["tokens"], one["micros"]) for one in items]
    assert kept == [("installation", 9000, 1_500_000), ("agent", 700, None)]
    await gateway.sql(
        "INSERT INTO mana_ai.token_usage (user_id, agent_id, mission_id, tokens_used)"
        " VALUES ('u1', 'a1', 'm1', 321)"
    )
    told = await gateway.stranger.get("/limits", headers=session)
    assert told.text.count(">321") == 2, "used of the agent's and of everybody's"
    assert (await sent(**own, tokens="none", money="none")).status_code == 303
    items = (await gateway.client.get("/internal/limits")).json()["items"]
    assert [one["kind"] for one in items] == ["installation"]
    unsealed = await gateway.stranger.post("/limits", data=own, headers=headers)
    assert unsealed.status_code == 403
    assert (await gateway.stranger.get("/limits")).status_code == 401


async def walked(gateway: Gateway, session: dict[str, str], path: str) -> list[list[str]]:
    """The keys of a list's rows, page by page, as its own links lead on."""
    pages: list[list[str]] = []
    while path:
        told = await gateway.stranger.get(path, headers=session)
        assert told.status_code == 200, told.text
        pages.append(re.findall(r'data-key="[ma]:([^"]*)"', told.text))
        more = re.findall(r'href="(/fleet\?[^"]*before=[^"]*)"', told.text)
        path = html.unescape(more[0]) if more else ""
    return pages


async def test_a_list_is_sorted_by_what_an_operator_looks_for_page_by_page(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("supervisor.gateway.pages.operator.lists.ROWS_OF_ONE", 2)
    at = datetime(2026, 11, 27, tzinfo=UTC)
    for number, hour in enumerate((3, 1, None, 2, 1)):
        due = None if hour is None else at + timedelta(hours=hour)
        await gateway.add_mission(f"u{number % 2}", f"m{number}", agent_id="a", next_run_at=due)
    for number, decision in ((1, "failed"), (2, "ran"), (3, "failed"), (4, "failed")):
        await gateway.sql(
            "UPDATE mana_ai.mission_snapshots SET decision = $2, decided_at = $3"
            " WHERE mission_id = $1",
            f"m{number}",
            decision,
            at + timedelta(hours=min(number, 3)),
        )
    session = await new_session(gateway)
    found = await walked(gateway, session, "/fleet?list=missions&sort=next")
    assert found == [["u0/m4", "u1/m1"], ["u1/m3", "u0/m0"], ["u0/m2"]]
    found = await walked(gateway, session, "/fleet?list=missions&sort=failed")
    assert found == [["u0/m4", "u1/m3"], ["u1/m1", "u0/m0"], ["u0/m2"]]
    found = await walked(gateway, session, "/fleet?list=missions&sort=next&user=u1")
    assert found == [["u1/m1", "u1/m3"], []]
    assert (await walked(gateway, session, "/fleet?list=missions"))[0] == ["u0/m0", "u0/m2"]


async def test_the_fleets_first_page_stays_small_and_goes_on_with_where_one_is(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
):
    """However many there are: 60 kB, and each number leads to what it counts."""
    hour = busy_hour()

    def told(_: Watch) -> HourTold:
        return hour

    monkeypatch.setattr(Watch, "last_hour", told)
    await gateway.sql(
        """INSERT INTO mana_ai.mission_snapshots (user_id, mission_id, record, state, complete,
        agent_id, next_run_at, decision, decided_at, reason) SELECT 'somebody-' || n,
        gen_random_uuid(), '{}', 'active', true, gen_random_uuid(), '2099-01-01Z',
        'skipped-budget', now(), '41636 of 20000 tokens of the last 24 hours are used'
        FROM generate_series(100, 219) AS n"""
    )
    await gateway.sql(
        """INSERT INTO mana_ai.agent_snapshots (user_id, agent_id, record, state, complete)
        SELECT user_id, agent_id, '{}', 'active', true FROM mana_ai.mission_snapshots"""
    )
    await gateway.sql(
        """INSERT INTO mana_ai.runs (user_id, agent_id, mission_id, due_at, state, holder,
        claimed_at, lease_until, closed_at) SELECT user_id, agent_id, mission_id, now(),
        'committed', 'h', now(), now(), now() FROM mana_ai.mission_snapshots"""
    )
    session = await new_session(gateway)
    first = await gateway.stranger.get("/fleet", headers=session)
    assert len(first.content) <= 60_000
    for counted in ("list=missions", "list=agents", "list=runs&amp;state=open"):
        assert f'<b><a href="/fleet?{counted}">' in first.text
    agents = first.text.partition('href="/fleet?list=agents">Agents')[2].partition("</table>")[0]
    row = agents.partition("<tbody>")[2].partition("</tr>")[0]
    assert "waits for budget" in row, "its last outcome"
    assert 'datetime="2099-01-01' in row, "its next run"
    assert '<td class="n" data-of="Runs 24 h">1</td>' in row
    for kind in ("missions", "agents"):
        one = await gateway.stranger.get(f"/fleet?list={kind}", headers=session)
        assert len(one.content) <= 60_000, kind
        assert "50 of 120" in one.text
        path = html.unescape(re.findall(r'href="(/fleet\?[^"]*before=[^"]*)"', one.text)[0])
        assert "51\u2013100 of 120" in (await gateway.stranger.get(path, headers=session)).text
    wrong = await gateway.stranger.get("/fleet?list=runs&from=0", headers=session)
    assert (wrong.status_code, "from" in wrong.text) == (400, True)


SPENT = (("u1", "a1", 10), ("u1", "a2", 200), ("u2", "a1", 200), ("u3", "a1", 900))


async def test_agents_are_sorted_by_what_they_spent(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("supervisor.gateway.pages.operator.lists.ROWS_OF_ONE", 2)
    for user, agent, tokens in SPENT:
        await gateway.sql(
            "INSERT INTO mana_ai.agent_snapshots (user_id, agent_id, record, state, complete)"
            " VALUES ($1, $2, '{}', 'active', true)",
            user,
            agent,
        )
        await gateway.sql(
            "INSERT INTO mana_ai.token_usage (user_id, agent_id, mission_id, tokens_used)"
            " VALUES ($1, $2, 'm', $3)",
            user,
            agent,
            tokens,
        )
    session = await new_session(gateway)
    page = "/fleet?list=agents&sort=spent"
    assert await walked(gateway, session, page) == [["u3/a1", "u1/a2"], ["u2/a1", "u1/a1"], []]
    told = (await gateway.stranger.get(page, headers=session)).text
    assert re.findall(r'aria-sort="(\w+)"', told) == ["descending"]
    for wrong in ("list=runs&sort=spent", "sort=spent", "list=missions&sort=spent"):
        refused = await gateway.stranger.get(f"/fleet?{wrong}", headers=session)
        assert refused.status_code == 400, wrong
        assert "sort" in refused.text
    stale = await gateway.stranger.get(f"{page}&before=WyJ1IiwiYSJd", headers=session)
    assert stale.status_code == 400, "the cursor of another order"


async def test_many_limits_are_each_read_in_the_place_of_whom_they_name(gateway: Gateway):
    for user, agent, tokens in (("u1", "a1", 10), ("u1", "a2", 200), ("u2", "a1", 3000)):
        await gateway.add_mission(user, f"m-{agent}", agent_id=agent)
        await gateway.sql(
            "INSERT INTO mana_ai.token_usage (user_id, agent_id, mission_id, tokens_used)"
            " VALUES ($1, $2, 'm', $3)",
            user,
            agent,
            tokens,
        )
    named: list[tuple[LimitKind, str, str]] = [
        ("installation", "", ""),
        ("each-user", "", ""),
        ("user", "u1", ""),
        ("user", "u2", ""),
        ("agent", "u1", "a2"),
    ]
    for kind, user, agent in named:
        change = LimitChange(kind=kind, user_id=user, agent_id=agent, tokens=9000)
        await gateway.fleet.set_limit(change)
    limits = await gateway.fleet.limits()
    found = await gateway.fleet.spent(limits)
    used = [
        (one.kind, one.user_id, told and told.used) for one, told in zip(limits, found, strict=True)
    ]
    assert used == [
        ("installation", "", 3210),
        ("each-user", "", None),
        ("user", "u1", 210),
        ("user", "u2", 3000),
        ("agent", "u1", 200),
    ]
    assert await gateway.fleet.spent([]) == []


async def test_an_occupied_port_is_one_line_that_names_it(gateway: Gateway):
    serving = await serve(gateway.app, "127.0.0.1", 0)
    try:
        async with httpx2.AsyncClient(base_url=serving.url) as client:
            assert (await client.get("/health")).json()["service"] == "mana-ai"
        with pytest.raises(CannotListen, match=str(serving.port)) as caught:
            await serve(gateway.app, "127.0.0.1", serving.port)
        assert "\n" not in str(caught.value)
    finally:
        await serving.stop()


@pytest.mark.parametrize(
    "raw",
    [
        b"GET /internal/missions?user=\xff HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /\x00 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: abc\r\n\r\n",
    ],
)
async def test_what_is_not_http_is_refused_and_the_next_caller_is_served(
    gateway: Gateway, raw: bytes
):
    serving = await serve(gateway.app, "127.0.0.1", 0)
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", serving.port)
        writer.write(raw)
        said = await asyncio.wait_for(reader.read(), 5)
        writer.close()
        assert said.startswith(b"HTTP/1.1 4")
        async with httpx2.AsyncClient(base_url=serving.url) as client:
            assert (await client.get("/health")).status_code in (200, 503)
    finally:
        await serving.stop()


async def test_an_agent_shows_what_its_process_holds_beside_the_rows(gateway: Gateway):
    await gateway.add_mission("u1", "m1")
    await gateway.add_mission("u1", "m2")
    path = "/internal/agents/u1/legacy%3Aai-default"
    told = (await gateway.client.get(path)).json()
    assert told["memory"] == {
        "state": "asleep",
        "held": None,
        "agent_differs": False,
        "missions_differ": [],
    }
    versions = {mission["mission_id"]: mission["version"] for mission in told["missions"]}
    held = Remembered(
        is_whole=True, is_behind=False, missions={"m1": versions["m1"], "m2": 9}, under_way=("m1",)
    )
    pair = "u1", "legacy:ai-default"
    gateway.supervisor.memories[pair] = msgspec.to_builtins(held)
    memory = (await gateway.client.get(path)).json()["memory"]
    assert (memory["state"], memory["missions_differ"]) == ("awake", ["m2"])
    assert not memory["agent_differs"]
    assert memory["held"]["under_way"] == ["m1"]
    gateway.supervisor.dead = True
    memory = (await gateway.client.get(path)).json()["memory"]
    assert (memory["state"], memory["held"]) == ("unknown", None)
