"""An error that quotes what somebody wrote is logged by its type and place."""

import asyncio
import logging
from typing import Any

import pytest

from mana_actors.logs import keep_texts_out, without_text
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
