"""Requests as clients have always sent them, and the answers that they expect.

What came later (`fields` of inserts, `createdAt`, `serverTime`, `results`) is left out;
what such a client reads is the same to the byte.
"""

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from mana_actors.http.server import serve
from tests.gateway_parts import KEY
from tests.integration.support import Json
from tests.owners import House, open_house
from tests.postgres import Database
from tests.sync_parts import EPOCH, SyncDevice, insert

pytestmark = pytest.mark.one_postgres

PUSHED = """{
  "clientId": "c-1",
  "appId": "todo",
  "since": "2026-04-26T10:00:00.000Z",
  "schemaVersion": 1,
  "changes": [
    {
      "table": "tasks", "id": "t-1", "op": "insert", "spaceId": "sp-1",
      "data": { "id": "t-1", "title": "enc:1:abc", "createdAt": "2026-04-26T10:00:01.000Z" },
      "actor": { "kind": "user", "principalId": "u-1", "displayName": "Du" },
      "origin": "user"
    },
    {
      "table": "tasks", "id": "t-2", "op": "update", "spaceId": "sp-1",
      "fields": { "isCompleted": { "value": true, "at": "2026-04-26T10:00:02.000Z" } },
      "actor": { "kind": "user", "principalId": "u-1", "displayName": "Du" }
    },
    { "table": "tasks", "id": "t-3", "op": "delete", "deletedAt": "2026-04-26T10:00:03.000Z" }
  ]
}"""
ACTOR = '"actor":{"kind":"user","displayName":"Du","principalId":"u-1"}'
PULLED = (
    '{"eventId":"E","schemaVersion":1,"table":"tasks","id":"t-1","op":"insert",'
    '"data":{"createdAt":"2026-04-26T10:00:01.000Z","id":"t-1","title":"enc:1:abc"},'
    f'"spaceId":"sp-1",{ACTOR},"origin":"user"}},'
    '{"eventId":"E","schemaVersion":1,"table":"tasks","id":"t-2","op":"update",'
    '"fields":{"isCompleted":{"value":true,"at":"2026-04-26T10:00:02.000Z"}},'
    f'"spaceId":"sp-1",{ACTOR}}},'
    '{"eventId":"E","schemaVersion":1,"table":"tasks","id":"t-3","op":"delete",'
    '"deletedAt":"2026-04-26T10:00:03.000Z"}'
)
REFUSED = [
    ("POST", "", '{"schemaVersion": 2}', 400, "unsupported schemaVersion 2 (max 1)"),
    (
        "POST",
        "",
        '{"changes": [{"table": "t", "id": "1", "op": "x"}]}',
        400,
        'invalid op "x" in change 0',
    ),
    (
        "POST",
        "",
        '{"changes": [{"table": "t", "id": "", "op": "insert"}]}',
        400,
        "missing table or id in change 0",
    ),
    ("GET", "/pull", "", 400, "missing collection or since parameter"),
    ("GET", "/pull?collection=tasks", "", 400, "missing collection or since parameter"),
]


def as_of_old(text: str) -> str:
    """An answer without what came later, ids and times of the server's as letters."""
    told = json.loads(text)
    assert json.dumps(told, separators=(",", ":")) == text, "compact, and nothing of it is lost"
    for change in told["serverChanges"]:
        assert len(change["eventId"]) == 36
        change["eventId"] = "E"
        del change["createdAt"]
        if change["op"] == "insert":
            del change["fields"]
    assert len(told["syncedUntil"]) == 30
    told["syncedUntil"] = "S"
    del told["serverTime"]
    told.pop("results", None)
    return json.dumps(told, separators=(",", ":"))


async def test_a_recorded_push_and_pull_read_as_they_always_did(house: House):
    device = SyncDevice(house, "u-1", "c-1", spaces=("sp-1",))
    other = SyncDevice(house, "u-1", "c-2", spaces=("sp-1",))
    headers = device.headers | {"Content-Type": "application/json"}
    answered = await house.client.post("/sync/todo", content=PUSHED, headers=headers)
    assert answered.status_code == 200
    assert as_of_old(answered.text) == '{"serverChanges":[],"conflicts":[],"syncedUntil":"S"}'
    path = f"/sync/todo/pull?collection=tasks&since={EPOCH}"
    pulled = await house.client.get(path, headers=other.headers)
    told = f'{{"serverChanges":[{PULLED}],"conflicts":[],"syncedUntil":"S"}}'
    assert as_of_old(pulled.text) == told


async def test_recorded_refusals_read_as_they_always_did(house: House):
    device = SyncDevice(house)
    for verb, path, body, status, words in REFUSED:
        answered = await house.client.request(
            verb, f"/sync/todo{path}", content=body, headers=device.headers
        )
        assert (answered.status_code, answered.text) == (status, words)
        assert answered.headers["content-type"].startswith("text/plain")


# --- other services -------------------------------------------------------------------------------


class Neighbours:
    """A billing and a membership service; `down` answers 500."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str | None]] = []
        self.is_active, self.down = True, False

    async def status(self, request: Request) -> Response:
        return self._told(request, {"active": self.is_active, "interval": "monthly"})

    async def memberships(self, request: Request) -> Response:
        user = request.path_params["user"]
        told: list[Json] = [{"organizationId": "s-9", "role": "member"}] if user == "anna" else []
        return self._told(request, {"userId": user, "memberships": told})

    def _told(self, request: Request, content: Json) -> Response:
        self.asked.append((request.url.path, request.headers.get("x-service-key")))
        return JSONResponse(content, 500 if self.down else 200)


@asynccontextmanager
async def beside(database: Database, folder: Path, neighbours: Neighbours) -> AsyncGenerator[House]:
    """A gateway that asks these services."""
    routes = [
        Route("/api/v1/internal/sync/status/{user}", neighbours.status),
        Route("/api/v1/internal/users/{user}/memberships", neighbours.memberships),
    ]
    key = folder / "key"
    key.write_text(KEY)
    serving = await serve(Starlette(routes=routes), "127.0.0.1", 0)
    changed = {
        "credits_url": serving.url,
        "memberships_url": serving.url + "/",
        "billing_exempt_apps": ("free",),
        "service_key_file": str(key),
    }
    try:
        async with open_house(database, folder, **changed) as house:
            yield house
    finally:
        await serving.stop()


async def test_whose_sync_is_not_paid_for_is_told_so(database: Database, tmp_path: Path):
    neighbours = Neighbours()
    neighbours.is_active = False
    async with beside(database, tmp_path, neighbours) as house:
        device = SyncDevice(house)
        refused = await device.post(insert("t1"))
        assert refused.status_code == 402
        assert json.loads(refused.text)["error"] == "sync_inactive"
        await device.post(insert("t1"))
        assert neighbours.asked == [("/api/v1/internal/sync/status/u1", KEY)], "kept for a while"
        await device.push(insert("t1"), app="free")
        answered = await house.client.post("/sync/todo", json={})
        assert answered.status_code == 401
        neighbours.down = True
        await SyncDevice(house, "u2").push(insert("t1"))


async def test_spaces_that_another_service_names_are_shared(database: Database, tmp_path: Path):
    neighbours = Neighbours()
    async with beside(database, tmp_path, neighbours) as house:
        anna, bert = SyncDevice(house, "anna"), SyncDevice(house, "bert", "c-b")
        await anna.push(insert("t1") | {"spaceId": "s-9"})
        assert (await bert.post(insert("t2") | {"spaceId": "s-9"})).status_code == 403
        neighbours.down = True
        carl = SyncDevice(house, "carl", "c-c")
        assert (await carl.post(insert("t3") | {"spaceId": "s-9"})).status_code == 403
        assert (await carl.pull())[0] == []
