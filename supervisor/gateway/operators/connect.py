"""Connecting a model while the node runs: one real call first, and only then it plans.

A key goes from the form into a file of mode 0600 and nowhere else: no answer, log, exception or
environment has it. An address may be a private one: nobody but operators gets here.
"""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import get_args
from urllib.parse import urlsplit

import msgspec

from mana_actors.http.bodies import BadRequest
from mana_actors.http.server import serve
from mana_actors.http.sockets import CannotListen
from mana_actors.llm.provider import Exposure
from mana_actors.llm.router.aliases.registry import PerToken, Price
from mana_actors.llm.router.service import LlmRouter
from mana_actors.llm.router.settings import OneService, RouterSettings
from state.secret_files import replace_secret, write_new_secret
from supervisor.node.models import (
    connected,
    connected_file,
    found_service,
    model_asked_for,
    token_file,
    wants_rehearsal,
)
from supervisor.node.settings import AGENT, Settings, SettingsError
from supervisor.node.trial import (
    RouterSilent,
    Trial,
    ask_router,
    context_in_words,
    decoded,
    model_warnings,
    tried,
)

log = logging.getLogger("mana.gateway")
TRIAL_S = 20.0
EXPOSURES: tuple[Exposure, ...] = get_args(Exposure)
KEY_FILE = "connected_key"
SILENT, SLOW = "silent", "slow"
_URL = re.compile(r"https?://[!-~]{1,2000}")
_KEY = re.compile(r"[!-~]{0,4000}")


class WantedModel(msgspec.Struct, frozen=True):
    """A service as somebody names it; `model` may be left to it where it has a single one.

    Without a price a limit in money does not bound it.
    """

    url: str
    model: str
    key: str
    exposure: Exposure
    price: Price | None = None


class TriedModel(msgspec.Struct, frozen=True):
    """What became of trying one; without a `trial` the `problem` is SILENT, SLOW, or in words.

    `can_plan`: it answered, called the tool it was told to, and takes a first prompt.
    """

    service: OneService | None = None
    problem: str = ""
    trial: Trial | None = None
    context: str = ""
    warnings: tuple[str, ...] = ()

    @property
    def can_plan(self) -> bool:
        trial = self.trial
        return trial is not None and trial.ok and trial.calls_tools and not self.warnings


def checked(form: dict[str, str]) -> WantedModel:
    """What a form names; raises BadRequest with the field."""
    url, model, key = (form.get(name, "").strip() for name in ("url", "model", "key"))
    try:
        parts = urlsplit(url)
        is_address = bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        is_address = False
    else:
        is_address = is_address and not (parts.query or parts.fragment or "@" in parts.netloc)
    if not (is_address and _URL.fullmatch(url)):
        raise BadRequest("url", "must be an http or https address and nothing else")
    if len(model) > 200 or not model.isprintable():
        raise BadRequest("model", "must be text of up to 200 characters")
    if not _KEY.fullmatch(key):
        raise BadRequest("key", "must be one line without blanks")
    exposure: dict[str, Exposure] = {one: one for one in EXPOSURES}
    if form.get("exposure") not in exposure:
        raise BadRequest("exposure", f"must be one of {', '.join(EXPOSURES)}")
    return WantedModel(url, model, key, exposure[form["exposure"]], _price(form))


def _price(form: dict[str, str]) -> Price | None:
    """Of a million tokens; both or none are given."""
    given = {name: form.get(f"price_{name}", "").strip() for name in ("prompt", "completion")}
    if not any(given.values()):
        return None
    amounts: dict[str, float] = {}
    for name, text in given.items():
        try:
            amounts[name] = msgspec.convert(text, PerToken, strict=False)
        except msgspec.ValidationError as exc:
            problem = "must be a number from 0 on, and stands beside the other price"
            raise BadRequest(f"price_{name}", problem) from exc
    return Price(**amounts)


async def connect(settings: Settings, wanted: WantedModel) -> TriedModel:
    """Try a service, and have it plan from now on if it can and the node's settings leave room.

    Whoever is refused leaves no key behind.
    """
    key_file = None
    if wanted.key:
        key_file = Path(settings.secrets_dir, f"{KEY_FILE}.{secrets.token_hex(8)}")
        write_new_secret(key_file, wanted.key)
    is_kept = False
    try:
        found = await _tried(settings, wanted, key_file)
        if found.can_plan and found.service is not None and wants_rehearsal(settings):
            before = connected(settings)
            replace_secret(connected_file(settings), msgspec.json.encode(found.service).decode())
            is_kept = True
            _forget_key(before)
            log.info("model_connected")
        return found
    finally:
        if key_file is not None and not is_kept:
            await asyncio.to_thread(key_file.unlink, missing_ok=True)


def disconnect(settings: Settings) -> None:
    """Have the built-in model plan again."""
    before = connected(settings)
    connected_file(settings).unlink(missing_ok=True)
    _forget_key(before)
    log.info("model_disconnected")


def _forget_key(service: OneService | None) -> None:
    """Remove the key of a service that plans no more."""
    if service is not None and service.key_file is not None:
        Path(service.key_file).unlink(missing_ok=True)


async def _tried(settings: Settings, wanted: WantedModel, key_file: Path | None) -> TriedModel:
    candidate = msgspec.structs.replace(
        settings,
        llm_aliases=None,
        llm_url=wanted.url,
        llm_url_exposure=wanted.exposure,
        llm_price_prompt=None if wanted.price is None else wanted.price.prompt,
        llm_price_completion=None if wanted.price is None else wanted.price.completion,
        llm_price_cached=None,
        llm_api_key_file=None if key_file is None else str(key_file),
        agent=msgspec.structs.replace(settings.agent, model=wanted.model or AGENT.model),
    )
    try:
        service, _ = await found_service(candidate)
    except SettingsError as exc:
        # It may hold what the service says of itself, and that may be anything.
        said = exc.problem.replace(wanted.key, "…") if wanted.key else exc.problem
        return TriedModel(problem=said)
    if service.awaited:
        return TriedModel(problem=SILENT)
    with suppress(RouterSilent, CannotListen):
        async with _router(candidate, service) as port:
            asked = msgspec.structs.replace(candidate, llm_port=port)
            model = model_asked_for(asked)
            try:
                trial = await tried(asked, model, TRIAL_S)
            except RouterSilent:  # as long as it may take has passed
                return TriedModel(problem=SLOW)
            told = decoded(await ask_router(asked, "GET", "/v1/aliases"))
            return TriedModel(
                service=service,
                trial=trial,
                context=context_in_words(told, f"{service.name}/{service.model or model}"),
                warnings=tuple(model_warnings(told, asked, has_money_limit=False)),
            )
    return TriedModel(problem=SILENT)


@asynccontextmanager
async def _router(settings: Settings, service: OneService) -> AsyncGenerator[int]:
    """A router of its own for one service, so that it is asked as it will be; its port."""
    token = await asyncio.to_thread(token_file(settings).read_text)
    router = LlmRouter(
        RouterSettings(
            port=0,
            token_file=str(token_file(settings)),
            secrets_dir=settings.secrets_dir,
            source=service,
            exposure=settings.agent.exposure,
            deadline_s=settings.agent.call_deadline_s,
        ),
        token.strip(),
    )
    serving = await serve(router.app, "127.0.0.1", 0)
    keeping = asyncio.create_task(router.keep())
    try:
        yield serving.port
    finally:
        keeping.cancel()
        await asyncio.wait([keeping])
        await serving.stop()
        await router.aclose()
