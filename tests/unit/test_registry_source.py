"""A router follows its alias file from before the first look at it."""

import asyncio
from pathlib import Path

import pytest

from mana_actors.llm.router.aliases.registry import Registry
from mana_actors.llm.router.registry_source import LastGood, RegistrySource
from mana_actors.llm.router.service import LlmRouter
from mana_actors.llm.router.settings import RouterSettings, Source
from tests.router_parts import alias_file

HERE, ELSEWHERE = "http://127.0.0.1:1", "http://127.0.0.1:22"


async def test_a_file_that_changes_right_after_the_first_look_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    first, watched = LastGood.first, asyncio.Event()

    def overtaken(self: LastGood, source: Source) -> tuple[Registry, str]:
        found = first(self, source)
        alias_file(tmp_path, ELSEWHERE, ELSEWHERE)
        return found

    async def reload(_: RegistrySource) -> bool:
        watched.set()
        return True

    monkeypatch.setattr(LastGood, "first", overtaken)
    monkeypatch.setattr(RegistrySource, "reload", reload)
    source = alias_file(tmp_path, HERE, HERE)
    settings = RouterSettings(port=0, token_file="", secrets_dir=str(tmp_path), source=source)
    router = LlmRouter(settings, "token")
    watching = asyncio.create_task(router.source.watch())
    try:
        await asyncio.wait_for(watched.wait(), 20)
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        await router.aclose()
