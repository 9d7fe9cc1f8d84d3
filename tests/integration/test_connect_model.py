"""Connecting a model on a page: what is tried, what is said of it, and where its key is."""

import asyncio
import json
import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from mana_actors.http.sockets import bound_socket
from mana_actors.llm.router.settings import Connected, OneService
from supervisor.gateway.operators import connect
from supervisor.node import models
from supervisor.node.models import CONNECTED_FILE
from tests.fake_provider import Entry, FakeProvider
from tests.gateway_parts import FakeSupervisor, app_of, client_of, fleet_of
from tests.integration.support import until
from tests.postgres import SUPERUSER, Database
from tests.router_parts import RunningRouter

pytestmark = pytest.mark.one_postgres

KEY = "sk-this-is-the-key-nobody-sees-again"
CALLED: Entry = {"calls": [{"name": "report_ready", "args": {"word": "ready"}}]}
HTML: Entry = {"garbage": b"<!doctype html><p>Welcome"}


class Operator:
    """An operator in a browser, beside a router that follows what they connect."""

    def __init__(self, http: httpx2.AsyncClient, folder: Path, router: RunningRouter) -> None:
        self.http, self.folder, self.router = http, folder, router
        self.seal = ""

    async def sent(self, **form: str) -> httpx2.Response:
        form = {"exposure": "any", "key": KEY} | form | {"seal": self.seal}
        return await self.http.post("/models", data=form, headers={"Origin": "http://gateway"})

    @property
    def keys(self) -> list[Path]:
        return sorted((self.folder / "secrets").glob(f"{connect.KEY_FILE}*"))

    async def is_answered_by(self, name: str) -> bool:
        told = await asyncio.to_thread(self.router.chat, "mana/reasoning")
        return told.headers.get("x-mana-llm-resolved") == name


@asynccontextmanager
async def opened(database: Database, folder: Path, **settings: Any) -> AsyncGenerator[Operator]:
    secrets = folder / "secrets"
    secrets.mkdir()
    fleet = fleet_of(database)
    with FakeProvider() as built_in:
        rehearsal = OneService("rehearsal", built_in.url, "local", model="mana/rehearsal")
        source = Connected(str(folder / CONNECTED_FILE), rehearsal)
        with RunningRouter(secrets, source) as router:
            port = router.settings.port
            app = app_of(fleet, FakeSupervisor(), folder, llm_port=port, **settings)
            async with client_of(app) as service, client_of(app, key=None) as http:
                token = (await service.post("/internal/login")).json()["token"]
                await http.get("/login", params={"token": token})
                operator = Operator(http, folder, router)
                page = (await http.get("/models")).text
                operator.seal = page.partition('name="seal" value="')[2].partition('"')[0]
                yield operator
    await fleet.close()


@pytest.fixture
async def operator(database: Database, tmp_path: Path) -> AsyncGenerator[Operator]:
    async with opened(database, tmp_path) as found:
        yield found


async def test_a_model_that_can_plan_is_connected_at_once_and_its_key_is_in_one_file_only(
    operator: Operator, caplog: pytest.LogCaptureFixture
):
    assert "rehearsal model plans" in (await operator.http.get("/")).text
    assert await operator.is_answered_by("rehearsal/mana/rehearsal")
    with FakeProvider([CALLED]) as own:
        own.models = ["gemma3:4b"]
        told = await operator.sent(url=own.url)
        assert told.status_code == 200
        assert "It can plan" in told.text
        assert KEY not in told.text
        assert any(one.headers.get("authorization") == f"Bearer {KEY}" for one in own.requests)
        await until(lambda: operator.is_answered_by("service/gemma3:4b"))
        page = (await operator.http.get("/models")).text
        assert "gemma3:4b" in page
        assert KEY not in page
        assert "rehearsal model plans" not in (await operator.http.get("/")).text
        (kept,) = operator.keys
        assert kept.read_text().strip() == KEY
        assert kept.stat().st_mode & 0o777 == 0o600
        assert (operator.folder / CONNECTED_FILE).stat().st_mode & 0o777 == 0o600
        others = [one for one in operator.folder.rglob("*") if one.is_file() and one != kept]
        assert not [one for one in others if KEY.encode() in one.read_bytes()]
        assert KEY not in caplog.text
        own.script += [*({} for _ in range(len(own.requests))), CALLED]
    with FakeProvider([CALLED]) as other:
        other.models = ["qwen3"]
        assert "It can plan" in (await operator.sent(url=other.url, key="another")).text
        assert [one.read_text().strip() for one in operator.keys] == ["another"]
        await until(lambda: operator.is_answered_by("service/qwen3"))
    assert (await operator.sent(disconnect="yes")).status_code == 303
    assert operator.keys == []
    await until(lambda: operator.is_answered_by("rehearsal/mana/rehearsal"))


async def test_the_page_says_who_uses_a_model_and_how_many_calls_failed(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("state.store.gateway.fleet.RECEIPTS_READ", 3)
    connection = await database.connect(SUPERUSER)
    for number, (user, model) in enumerate(
        (("u0", "old"), ("u1", "gemma"), ("u1", "gemma"), ("u2", "gemma"))
    ):
        call = {"provider": "service", "model": model, "exposure": "eu", "tokens": 70 + number}
        await connection.execute(
            "INSERT INTO mana_ai.runs (user_id, agent_id, mission_id, due_at, state, holder,"
            " claimed_at, lease_until, opened_at, closed_at, answers)"
            " SELECT $1, 'a', 'm' || $2::int, t, 'failed', 'h', t, t, t, t, $3::text::jsonb"
            "   FROM (SELECT clock_timestamp() - (9 - $2::int) * interval '1 minute') AS x (t)",
            user,
            number,
            json.dumps({"1": call, "2": call}),
        )
    await connection.close()
    async with opened(database, tmp_path) as operator:
        assert await operator.is_answered_by("rehearsal/mana/rehearsal")
        page = (await operator.http.get("/models")).text
        used = re.search("<tr><th[^>]*>service/gemma</th>(.*?)</tr>", page)
        assert used is not None
        assert re.findall(">([0-9]+)<", used[1]) == ["2", "3", "3", "6", "432"]
        assert "service/old" not in page, "of the newest runs alone"
        of_gemma = "/fleet?list=runs&model=service/gemma"
        assert f'href="{of_gemma.replace("&", "&amp;")}"' in used[1]
        for page, runs in ((of_gemma, 3), (f"{of_gemma}&user=u1", 2), (f"{of_gemma[:-1]}", 0)):
            assert (await operator.http.get(page)).text.count('data-key="r:') == runs, page
        assert (await operator.http.get("/fleet?model=service/gemma")).status_code == 400
        page = (await operator.http.get("/models")).text
        calls = page.partition("<h2>Calls</h2>")[2]
        called = re.search("<tr><th[^>]*>rehearsal/mana/rehearsal</th>(.*?)</tr>", calls)
        assert called is not None
        assert re.findall(">([0-9]+)<", called[1]) == ["1", "0"]


async def test_a_price_that_is_named_is_the_routers(operator: Operator):
    with FakeProvider([CALLED]) as own:
        own.models = ["gemma3:4b"]
        price = {"price_prompt": "0.25", "price_completion": "1.5"}
        assert "It can plan" in (await operator.sent(url=own.url, **price)).text
        await until(lambda: operator.is_answered_by("service/gemma3:4b"))
        page = (await operator.http.get("/models")).text
        assert "0.25 in, 1.5 out" in page


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"status": 401}, "refused the key"),
        ({"status": 401, "message": f"wrong key {KEY}"}, "refused the key"),
        ({"content": "I am ready"}, "did not call the tool"),
        (HTML, "no model service"),
        ({"hang": "headers"}, "no answer in time"),
        ({"hang": "body"}, "no answer in time"),
        ({"close": "body"}, "connection broke"),
        ({"status": 404, "message": "model not found"}, "no model of this name"),
    ],
)
async def test_of_one_that_cannot_plan_it_says_why_and_keeps_nothing(
    operator: Operator, monkeypatch: pytest.MonkeyPatch, entry: Entry, said: str
):
    monkeypatch.setattr(connect, "TRIAL_S", 2.0)
    with FakeProvider([{"answer": {"data": [{"id": "gemma3:4b"}]}}]) as own:
        own.script += [entry] * 50
        told = await operator.sent(url=own.url, model="gemma3:4b")
    assert said in told.text
    assert "Not connected." in told.text
    assert KEY not in told.text
    assert operator.keys == []
    assert not (operator.folder / CONNECTED_FILE).exists()


async def test_where_nothing_or_a_page_answers_the_address_is_what_to_look_at(
    operator: Operator, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(models, "FIND_S", 1.0)
    with bound_socket("127.0.0.1", 0) as free:
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    with FakeProvider([HTML] * 50) as page, FakeProvider([{"hang": "headers"}] * 50) as hanging:
        for each in (url, page.url, hanging.url):
            told = await operator.sent(url=each)
            assert "look at the address" in told.text, each
            assert operator.keys == []


@pytest.mark.parametrize(
    ("field", "form"),
    [
        ("url", {"url": "file:///etc/passwd"}),
        ("url", {"url": "http://user:secret@localhost:1"}),
        ("url", {"url": "http://localhost:99999"}),
        ("url", {"url": "http://[::1"}),
        ("url", {"url": "http://localhost/?q=1"}),
        ("key", {"url": "http://localhost:1", "key": "one\r\nX-Other: two"}),
        ("price_completion", {"url": "http://localhost:1", "price_prompt": "0.3"}),
        ("price_prompt", {"url": "http://localhost:1", "price_prompt": "-1"}),
        ("price_prompt", {"url": "http://localhost:1", "price_prompt": "nan"}),
        ("model", {"url": "http://localhost:1", "model": "a\x1bb"}),
        ("exposure", {"url": "http://localhost:1", "exposure": "moon"}),
    ],
)
async def test_what_is_no_address_or_key_is_said_beside_its_field(
    operator: Operator, field: str, form: dict[str, str]
):
    told = await operator.sent(**form)
    assert told.status_code == 400
    assert f'id="wrong-{field}"' in told.text
    assert operator.keys == []


async def test_where_the_settings_name_models_the_lines_to_change_are_shown(
    database: Database, tmp_path: Path
):
    async with opened(database, tmp_path, llm_url="http://localhost:1") as operator:
        with FakeProvider([CALLED]) as own:
            own.models = ["gemma3:4b"]
            told = await operator.sent(url=own.url)
        assert f"MANA_LLM_URL={own.url}" in told.text
        assert operator.keys == []
        assert not (operator.folder / CONNECTED_FILE).exists()


async def test_nobody_but_an_operator_tries_an_address(operator: Operator):
    with FakeProvider([CALLED]) as own:
        operator.seal = "x"
        assert (await operator.sent(url=own.url)).status_code == 403
        operator.http.cookies.clear()
        assert (await operator.sent(url=own.url)).status_code == 401
        assert own.requests == []
