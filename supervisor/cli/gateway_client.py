"""Talking to the gateway over HTTP, found through the data directory or named by --url."""

import asyncio
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import httpx2
import msgspec

from mana_actors.clients.answers import AnswerUnreadable, BoundedAnswer, bounded_answer
from mana_actors.trust import trust_for
from supervisor.cli.environment import folder, service_key
from supervisor.cli.failures import FAILED, UNREACHABLE, USAGE, Failure
from supervisor.node.address import NodeRecord, running_node
from supervisor.node.keeper.state import read_state

TIMEOUT_S = 15.0
MAX_BYTES = 64 * 1024 * 1024  # of one page of a list
REASONS = {
    "timeout": "no answer in time",
    "too_large": "its answer is too large",
    "encoded": "its answer is encoded in a way that was not asked for",
    "ConnectError": "nothing answers there",
}
PAGE = 500
UNAUTHORIZED, SILENT = 401, 503
BAD_INPUT = (400, 413, 422)
LISTED_BY = {"no such agent": "mana agents", "no such mission": "mana missions"}
"""Operators name by id what owners name by its name."""


class Gateway:
    """The gateway of a node; every method raises Failure with one line for a person."""

    def __init__(
        self, url: str, key: str | None, token: str | None = None, *, pages_url: str | None = None
    ) -> None:
        """With the service key an operator's, with a token a person's."""
        self.url, self.token = url.rstrip("/"), token
        self.pages_url = pages_url or self.url  # where people look at it
        try:
            parts = urlsplit(self.url)
            is_address = parts.scheme in ("http", "https") and bool(parts.hostname)
            _ = parts.port  # raises for a port that is none
        except ValueError:
            is_address = False
        if not is_address:
            raise Failure(f"{self.url}: not an address of a gateway", USAGE)
        self._headers = {"X-Service-Key": key} if key else {}
        if token is not None:
            self._headers["Authorization"] = f"Bearer {token}"

    def health(self) -> dict[str, Any] | None:
        """What /health says, well or not; None when nothing answers."""
        try:
            return self._asked("GET", "/health").json()
        except (Failure, ValueError):
            return None

    def get(self, path: str, query: Mapping[str, str] | None = None) -> Any:
        """The JSON at a path."""
        return self.call("GET", path, query=query)

    def has(self, path: str) -> bool:
        """Whether there is something at a path."""
        return self._asked("GET", path).is_success

    def call(
        self,
        verb: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        content: object = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float | None = None,
    ) -> Any:
        """The JSON a call answers."""
        raw = None if content is None else msgspec.json.encode(content)
        answer = self._asked(
            verb, path, query=query, content=raw, headers=headers, timeout_s=timeout_s
        )
        is_failed_tick = answer.status_code == SILENT and b'"scannedAt"' in answer.content
        if not answer.is_error or is_failed_tick:
            return answer.json()
        error = _error_in(answer)
        if answer.status_code == UNAUTHORIZED and self._headers:
            shown = "token" if "Authorization" in self._headers else "service key"
            raise Failure(f"the gateway refused the {shown}: {error}", UNREACHABLE)
        hint = f": {LISTED_BY[error]} tells their ids" if error in LISTED_BY else ""
        raise Failure(error + hint, USAGE if answer.status_code in BAD_INPUT else FAILED)

    def items(
        self,
        path: str,
        query: Mapping[str, str],
        limit: int = sys.maxsize,
        *,
        page_size: int = PAGE,
        name: str = "items",
    ) -> list[dict[str, Any]]:
        """The first `limit` items of a list, over as many pages as that takes.

        A page goes on where its `after` says, that of a list with the newest first its `before`.
        """
        found: list[dict[str, Any]] = []
        asked = dict(query)
        while len(found) < limit:
            asked["limit"] = str(min(page_size, limit - len(found)))
            page = self.get(path, asked)
            found += page[name]
            go_on = "after" if "after" in page else "before"
            if page[go_on] is None:
                break
            asked[go_on] = page[go_on]
        return found[:limit]

    def _asked(
        self,
        verb: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float | None = None,
    ) -> httpx2.Response:
        """The whole answer, bounded in bytes and in time: who answers may be anybody."""

        async def asked() -> BoundedAnswer:
            # Nothing of the environment: a proxy has no business between us and a local gateway.
            async with httpx2.AsyncClient(verify=trust_for(self.url), trust_env=False) as http:
                return await bounded_answer(
                    http,
                    verb,
                    str(httpx2.URL(self.url + path, params=query) if query else self.url + path),
                    within_s=TIMEOUT_S if timeout_s is None else timeout_s,
                    max_bytes=MAX_BYTES,
                    headers={**self._headers, **(headers or {})},
                    content=content,
                )

        try:
            answer = asyncio.run(asked())
        except AnswerUnreadable as exc:
            reason = REASONS.get(exc.reason, exc.reason)
            raise Failure(f"cannot reach {self.url}: {reason}", UNREACHABLE) from exc
        except (httpx2.InvalidURL, UnicodeEncodeError) as exc:
            raise Failure(f"{self.url}: not an address of a gateway", USAGE) from exc
        return httpx2.Response(answer.status_code, content=answer.content)


def gateway(url: str | None, data_dir: str | None) -> Gateway:
    """The gateway at `url` or MANA_URL, else the operators' door of a data directory's node."""
    place, named = folder(data_dir), _named(url)
    if named:
        return Gateway(named, service_key(place))
    node = _node(place)
    return Gateway(node.commands_url, service_key(place), pages_url=node.url)


def address(url: str | None, data_dir: str | None) -> str:
    """Where people reach that gateway; raises Failure where none runs."""
    return _named(url) or _node(folder(data_dir)).url


def _named(url: str | None) -> str | None:
    return url or os.environ.get("MANA_URL")


def _node(place: Path) -> NodeRecord:
    state, node = read_state(place), running_node(place)
    if state is not None and state.phase != "up":
        because = f", because {state.why}" if state.why else ""
        since = f"the node on {place} is {state.phase}{because}"
        raise Failure(f"{since}; try again in a moment", UNREACHABLE)
    if node is None:
        raise Failure(f"nothing runs on {place}: start it with mana up", UNREACHABLE)
    return node


def _error_in(answer: httpx2.Response) -> str:
    """What an answer says went wrong, in whichever of the shapes our routes have."""
    try:
        told = answer.json()
    except ValueError:
        told = None
    if isinstance(told, dict):
        fields = cast("dict[str, Any]", told)
        problems = [
            f"{one['field']}: {one['message']}"
            for one in fields.get("errors") or ()
            if isinstance(one, dict) and {"field", "message"} <= one.keys()
        ]
        names = ("error", "detail", "message", "title")
        said = [str(fields[name]) for name in names if fields.get(name)][:1]
        if problems or said:
            return "; ".join(problems or said)
    return f"it is no mana gateway, or broken (HTTP {answer.status_code})"
