"""What forms of ours send, and how it is told that they are ours."""

from __future__ import annotations

import hmac
from urllib.parse import parse_qsl

from starlette.requests import Request

from mana_actors.http.bodies import BadRequest, read_body
from mana_actors.http.names import Names

SEAL = "seal"
MAX_FORM_BYTES = 256 * 1024
MAX_FIELDS = 200


class NotOurForm(Exception):
    """A form that no page of ours sent, or one of another session."""


class FormSeals:
    """A seal per session, which its pages put into their forms; nobody else knows it."""

    def __init__(self, key: str) -> None:
        self._secret = hmac.digest(key.encode(), b"mana form seal", "sha256")

    def of(self, session: str) -> str:
        """The seal of a session, by what its cookie says."""
        return hmac.new(
            self._secret, session.encode("utf-8", "surrogatepass"), "sha256"
        ).hexdigest()

    async def opened(self, request: Request, names: Names, session: str) -> dict[str, str]:
        """The fields of a form of this session, sent from a page of this server.

        Raises NotOurForm, and BadRequest for what is no form.
        """
        if not names.is_own_page(request.scope):
            raise NotOurForm
        given = await form_of(request)
        if not hmac.compare_digest(given.pop(SEAL, "").encode(), self.of(session).encode()):
            raise NotOurForm
        return given


async def form_of(request: Request, most: int = MAX_FORM_BYTES) -> dict[str, str]:
    """The fields of a form, each once; raises BadRequest."""
    raw = await read_body(request, most)
    if raw is None:
        raise BadRequest("body", f"is larger than {most} bytes", 413)
    try:
        pairs = parse_qsl(
            raw.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=MAX_FIELDS
        )
    except ValueError as exc:
        raise BadRequest("body", "is no form of ours") from exc
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise BadRequest("body", "has a field twice")
    if any("\0" in text for pair in pairs for text in pair):
        raise BadRequest("body", "holds a NUL character")
    return fields
