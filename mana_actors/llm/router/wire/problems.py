"""Errors as callers read them, in the shapes of both our own client and OpenAI's."""

import msgspec

from mana_actors.errors import ProviderError
from mana_actors.json_values import JsonObject
from mana_actors.llm.failures.wasted import Wasted
from mana_actors.llm.router.chain.trail import PassedBy

_STATUS_OF_KIND = {
    "blocked": 422,
    "truncated": 502,
    "auth": 502,
    "rate_limit": 429,
    "capability": 400,
    "exposure": 403,
    "no_healthy_provider": 503,
    "timeout": 504,
    "network": 502,
    "invalid_answer": 502,
}
_WORDS = {
    "blocked": "the provider blocked this request",
    "truncated": "the answer was cut off",
    "auth": "the provider refused the router's key",
    "rate_limit": "the provider is over its rate limit",
    "capability": "no model of this chain can do what the request asks",
    "exposure": "no provider of this chain is within the exposure allowed",
    "no_healthy_provider": "no healthy provider could serve this model",
    "timeout": "the provider did not answer in time",
    "network": "the provider could not be reached",
    "invalid_answer": "the provider's answer made no sense",
}
_OPENAI_TYPE = {429: "rate_limit_error", 401: "authentication_error", 403: "permission_error"}


class Problem(msgspec.Struct, frozen=True):
    """One error, ready to be sent as a whole answer or as a frame of a stream.

    `provider` is the label of who failed, where that is one.
    """

    status: int
    kind: str
    message: str
    code: str = ""
    field: str = ""
    retry_after_s: float | None = None
    attempts: tuple[PassedBy, ...] = ()
    wasted: Wasted = Wasted()
    provider: str = "unknown"

    @property
    def error(self) -> JsonObject:
        """The `error` object of OpenAI's API."""
        known = _OPENAI_TYPE.get(self.status)
        kind = known or ("invalid_request_error" if self.status < 500 else "server_error")
        named = {"param": self.field} if self.field else {}
        return {"message": self.message, "type": kind, "code": self.code or self.kind, **named}

    @property
    def body(self) -> JsonObject:
        """Both shapes in one object."""
        detail: JsonObject = {"kind": self.kind, "message": self.message}
        if self.provider != "unknown":
            detail["provider"] = self.provider
        if self.attempts:
            detail["attempts"] = [
                {"target": each.target.name, "reason": each.reason} for each in self.attempts
            ]
        return {"detail": detail, "error": self.error}

    @property
    def frame(self) -> JsonObject:
        """The object of a `data:` line; `type` is the kind, because a stream has no status left."""
        return {"error": self.error | {"type": self.kind, "code": self.code or self.kind}}


def problem_of(exc: ProviderError) -> Problem:
    """What a caller is told of a failed call: kind, code and status, but no provider's text."""
    status = _STATUS_OF_KIND.get(exc.kind)
    if status is None:  # unknown: a client's fault stays one, whatever else is the provider's
        status = exc.status if 400 <= exc.status < 500 else 502
    attempts: tuple[PassedBy, ...] = getattr(exc, "attempts", ())
    words = _WORDS.get(exc.kind, "the provider refused this request")
    tried = ", ".join(f"{each.target.name}={each.reason}" for each in attempts)
    message = f"{words}. Attempts: {tried}" if tried else words
    return Problem(
        status,
        exc.kind,
        message,
        code=exc.code,
        retry_after_s=exc.retry_after_s,
        attempts=attempts,
        wasted=exc.wasted,
        provider=exc.provider,
    )
