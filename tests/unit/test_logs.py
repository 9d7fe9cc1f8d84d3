"""An error that quotes what somebody wrote is logged by its type and place."""

import asyncio
import logging
import multiprocessing
import re
from pathlib import Path
from typing import Any

import pytest

from mana_actors.logs import SharedLog, cut_over, keep_texts_out, without_text
from supervisor.cli import run
from supervisor.cli.failures import USAGE
from supervisor.cli.node_logs import Tail
from supervisor.supervision import upkeep

WORD = "Erdbeerkuchen"


def choke() -> None:
    """As a library does that quotes a value."""
    try:
        int(WORD)
    except ValueError as exc:
        raise KeyError(f"{WORD} is none") from exc


def test_an_error_without_its_text_still_says_where(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(KeyError) as caught:
        choke()
    logging.getLogger("mana").error("it_broke", exc_info=without_text(caught.value))
    assert "in choke" in caplog.text
    assert "KeyError" in caplog.text
    assert WORD not in caplog.text


async def test_a_task_that_nobody_awaits_breaks_without_its_text(
    caplog: pytest.LogCaptureFixture,
) -> None:
    loop = asyncio.get_running_loop()
    keep_texts_out(loop)

    async def breaks() -> None:
        choke()

    task: Any = asyncio.ensure_future(breaks())
    await asyncio.wait([task])
    del task  # the loop is told when nobody can ask any more
    assert "task_broken error=KeyError" in caplog.text
    assert WORD not in caplog.text


async def test_upkeep_outlives_a_bad_round_and_does_not_quote_it(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    rounds = asyncio.Semaphore(0)

    async def breaks(_: Any) -> bool:
        rounds.release()
        choke()
        return False

    class Supervised:
        has_stood_down = False

    monkeypatch.setattr(upkeep, "one_round", breaks)
    monkeypatch.setattr(upkeep, "EVERY_S", 0)
    it: Any = Supervised()
    running = asyncio.create_task(upkeep.upkeep(it))
    for _ in range(2):
        await rounds.acquire()
    it.has_stood_down = True
    await running
    assert "upkeep_broken error=KeyError" in caplog.text
    assert WORD not in caplog.text


def logger_of(handler: logging.Handler, name: str) -> logging.Logger:
    log = logging.getLogger(name)
    log.handlers[:] = [handler]
    log.propagate = False
    return log


def writes_many(path: Path, number: int) -> None:
    handler = SharedLog(path, most_bytes=20_000)
    handler.whose = f" u{number}/a"
    log = logger_of(handler, "mana.many")
    for line in range(300):
        log.warning("it_happened number=%s agent=u%s/a", line, number)


def test_many_processes_write_whole_lines_into_files_of_a_bounded_size(tmp_path: Path):
    path = tmp_path / "agents.log"
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=writes_many, args=(path, n)) for n in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    files = sorted(tmp_path.glob("agents.log*"))
    assert [file.name for file in files] == ["agents.log", "agents.log.1", "agents.log.2"]
    whole = re.compile(
        r"[-0-9]+ [:,0-9]+ WARNING mana\.many \[\d+ u(\d)/a\] it_happened number=\d+"
        r" agent=u\1/a"
    )
    for file in files:
        assert file.stat().st_size < 21_000
        assert file.stat().st_mode & 0o077 == 0
        lines = file.read_text().splitlines()
        assert lines
        assert [line for line in lines if not whole.fullmatch(line)] == []


def test_an_id_makes_no_line_of_its_own(tmp_path: Path):
    log = logger_of(SharedLog(tmp_path / "x.log"), "mana.forged")
    log.warning("it_happened agent=%s", "a\n2026-01-01 00:00:00,000 INFO forged\x1b[2J\u2028x")
    try:
        choke()
    except KeyError as exc:
        log.exception("it_broke", exc_info=without_text(exc))
    first, *rest = (tmp_path / "x.log").read_bytes().decode().split("\n")
    assert "\\n2026" in first
    assert "\x1b" not in first
    assert "\u2028" not in first
    assert rest[0].endswith("it_broke")
    assert all(line.startswith("    ") for line in rest[1:-1])


def test_a_folder_that_is_gone_ends_nobody(tmp_path: Path):
    log = logger_of(SharedLog(tmp_path / "nothing" / "x.log"), "mana.gone")
    log.warning("it_happened")
    (tmp_path / "nothing").mkdir()
    log.warning("again")
    assert "again" in (tmp_path / "nothing" / "x.log").read_text()


def test_logs_of_one_agent_are_found_among_all(
    tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
):
    folder = tmp_path / "logs"
    folder.mkdir()
    for kind, pair, event in (
        ("agents", "anna/mana", "run_interrupted"),
        ("agents", "anna/mana2", "not_asked"),
        ("supervisor", "", "agent_gone agent=anna/mana"),
        ("supervisor", "", "agent_gone agent=anna/mana2"),
        ("gateway", "", "state_switched"),
    ):
        handler = SharedLog(folder / f"{kind}.log")
        handler.whose = f" {pair}" if pair else ""
        logger_of(handler, "mana.x").warning(event)
    assert run(["logs", "anna/mana", "--data-dir", str(tmp_path)]) == 0
    said = capfdbinary.readouterr().out
    assert said.count(b"\n") == 2
    assert b"agents     | " in said
    assert b"run_interrupted" in said
    assert b"agent=anna/mana\n" in said
    assert run(["logs", "gateway", "--data-dir", str(tmp_path)]) == 0
    assert b"state_switched" in capfdbinary.readouterr().out
    assert run(["logs", "nobody", "--data-dir", str(tmp_path)]) == USAGE


def test_a_log_that_is_turned_over_is_shown_without_gap_or_repeat(tmp_path: Path):
    path = tmp_path / "agents.log"
    log = logger_of(SharedLog(path, most_bytes=2_000), "mana.turned")
    tail = Tail("agents", path, lambda _: True)
    shown: list[bytes] = []
    for number in range(200):
        log.warning("number=%s", number)
        if number % 7 == 0:
            shown += tail.read()
    shown += tail.read()
    assert [int(line.rpartition(b"=")[2]) for line in shown] == list(range(200))


def test_a_full_log_that_others_append_to_is_put_aside_and_they_go_on(tmp_path: Path):
    """Without it what a node prints fills the disk: nobody opens that file again."""
    path = tmp_path / "node.log"
    with path.open("ab", buffering=0) as printing:
        for number in range(3):
            printing.write(f"{number}".encode() * 100)
            cut_over(path, 100)
        printing.write(b"next")
        cut_over(path, 100)
    found = {each.name: each.read_bytes()[:4] for each in tmp_path.iterdir()}
    assert found == {"node.log": b"next", "node.log.1": b"2222", "node.log.2": b"1111"}
