"""The example programs do what they say, each by the client library alone."""

import ast
import asyncio
import sys
from pathlib import Path

import pytest

from tests.integration.support import Json
from tests.owners import House
from tests.sync_parts import SyncDevice, insert

pytestmark = pytest.mark.one_postgres

EXAMPLES = Path(__file__).parents[2] / "examples"
PROGRAMS = ("backup.py", "import_ics.py", "todo.py")
CALENDAR = """BEGIN:VCALENDAR
VERSION:2.0
PRODID:-//tests//EN
BEGIN:VTIMEZONE
TZID:Europe/Zurich
BEGIN:STANDARD
DTSTART:19701025T030000
TZOFFSETFROM:+0200
TZOFFSETTO:+0100
END:STANDARD
END:VTIMEZONE
BEGIN:VEVENT
UID:choir@example
DTSTAMP:20260101T000000Z
DTSTART;TZID=Europe/Zurich:20260202T190000
DURATION:PT1H30M
SUMMARY:Chor mit einem sehr langen Titel, der in der Datei über zwei Zeilen
  geht
LOCATION:Bern\\, Länggasse
RRULE:FREQ=WEEKLY;BYDAY=MO
END:VEVENT
BEGIN:VEVENT
UID:holiday@example
DTSTAMP:20260101T000000Z
DTSTART;VALUE=DATE:20260801
SUMMARY:Bundesfeier
END:VEVENT
BEGIN:VEVENT
DTSTAMP:20260101T000000Z
SUMMARY:without a UID and a time
END:VEVENT
END:VCALENDAR
"""


@pytest.fixture
def device(house: House) -> SyncDevice:
    return SyncDevice(house)


class Shell:
    """Starts examples as a person does, in a folder of their own."""

    def __init__(self, house: House, folder: Path) -> None:
        self._folder = folder
        token = folder / "token"
        token.write_text(house.auth.token("u1"))
        url = str(house.client.base_url).rstrip("/")
        self.server = ("--url", url, "--token-file", str(token))

    async def run(self, program: str, *args: str, fails: bool = False) -> str:
        """What it prints; where it fails, on its error stream, and never a stack trace."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            str(EXAMPLES / program),
            *args,
            cwd=self._folder,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await process.communicate()
        assert (process.returncode != 0) is fails, err.decode()
        assert b"Traceback" not in err
        return err.decode() if fails else out.decode()


@pytest.fixture
def shell(house: House, tmp_path: Path) -> Shell:
    return Shell(house, tmp_path)


async def records(device: SyncDevice, app: str, table: str) -> dict[str, Json]:
    """By id, what was pushed of a table: all of it inserts."""
    found, _ = await SyncDevice(device.house, client="looks").pull(app=app, table=table)
    return {one["id"]: one["data"] for one in found if one["op"] == "insert"}


@pytest.mark.parametrize("program", PROGRAMS)
def test_an_example_is_short_and_uses_only_the_library(program: str):
    text = (EXAMPLES / program).read_text()
    assert len(text.splitlines()) < 150
    ours = {
        node.module
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.ImportFrom)
        and node.module
        and node.module.partition(".")[0] in ("mana_actors", "state", "supervisor", "tests")
    }
    assert ours == {"mana_actors.client"}


async def test_a_to_do_list_works_offline_and_catches_up(device: SyncDevice, shell: Shell):
    assert "Who is it?" in await shell.run("todo.py", "list", fails=True)
    await shell.run("todo.py", "--user", "u1", "add", "Brot")
    await shell.run("todo.py", "add", "Milch")
    told = await shell.run("todo.py", "done", "1")
    assert "[ ] Milch" in told
    assert "[x] Brot" in told
    assert "wait for `sync`" in told
    assert "no task 7" in await shell.run("todo.py", "drop", "7", fails=True)
    away = await shell.run(
        "todo.py", *shell.server[2:], "--url", "http://127.0.0.1:9", "sync", fails=True
    )
    assert "kept here" in away
    await device.push(insert("t9", title="Von woanders", isCompleted=False))
    told = await shell.run("todo.py", *shell.server, "sync")
    assert "Von woanders" in told
    assert "wait" not in told
    assert {one["title"] for one in (await records(device, "todo", "tasks")).values()} == {
        "Brot",
        "Milch",
        "Von woanders",
    }


async def test_a_calendar_is_imported_once(device: SyncDevice, shell: Shell, tmp_path: Path):
    (tmp_path / "c.ics").write_text(CALENDAR)
    assert "2 events" in await shell.run("import_ics.py", *shell.server, "c.ics")
    events = await records(device, "calendar", "events")
    blocks = await records(device, "timeblocks", "timeBlocks")
    by_title = {one["title"]: blocks[one["timeBlockId"]] for one in events.values()}
    choir = by_title["Chor mit einem sehr langen Titel, der in der Datei über zwei Zeilen geht"]
    assert (choir["startDate"], choir["endDate"]) == (
        "2026-02-02T18:00:00.000Z",
        "2026-02-02T19:30:00.000Z",
    )
    assert choir["recurrenceRule"] == "FREQ=WEEKLY;BYDAY=MO"
    holiday = by_title["Bundesfeier"]
    assert (holiday["startDate"], holiday["allDay"]) == ("2026-08-01", True)
    assert {one["location"] for one in events.values()} == {"Bern, Länggasse", None}
    again = await shell.run("import_ics.py", *shell.server, "--store", "other.db", "c.ics")
    assert "2 events; 0 changes" in again
    assert await records(device, "calendar", "events") == events
    (tmp_path / "c.ics").write_text("nothing of the kind")
    assert "cannot be read" in await shell.run("import_ics.py", *shell.server, "c.ics", fails=True)


async def test_a_backup_is_saved_and_put_back(device: SyncDevice, shell: Shell, tmp_path: Path):
    await device.push(insert("t1", title="Brot", tags=["a", {"b": None}]), insert("t2", title="x"))
    await device.push(insert("n1", title="Notiz"), app="notes")
    told = await shell.run("backup.py", *shell.server, "save", "all.jsonl")
    assert told.startswith("3 records")
    assert (tmp_path / "all.jsonl").stat().st_mode & 0o777 == 0o600
    gone = {"table": "tasks", "id": "t1", "op": "delete", "deletedAt": "2026-04-27T10:00:00.000Z"}
    await device.push(gone)
    assert "1 records" in await shell.run("backup.py", *shell.server, "restore", "all.jsonl")
    assert "0 records" in await shell.run("backup.py", *shell.server, "restore", "all.jsonl")
    told = await shell.run("todo.py", "--store", "fresh.db", *shell.server, "sync")
    assert "Brot" in told
    (tmp_path / "all.jsonl").write_text('{"app": "todo"}\n')
    told = await shell.run("backup.py", *shell.server, "restore", "all.jsonl", fails=True)
    assert "line 1" in told
