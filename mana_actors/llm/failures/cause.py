"""Why a model call failed, in words of ours, and what an entry of a chain turned out to lack."""

from typing import Literal

import msgspec

Cause = Literal[
    "unconfigured",  # its key file is not there: nobody was called
    "settings",  # a setting of this machine, or an address, cannot be used
    "unreachable",  # no connection came about
    "network",  # a connection was there, and broke
    "timeout",  # nobody answered in time, or a gateway on the way gave up
    "broken",  # a 5xx
    "overloaded",  # too much to do for everybody
    "rate_limit",  # too many requests of ours
    "auth",  # the key is not accepted
    "quota",  # the account is used up, or owes money
    "missing_model",  # no such model there
    "capability",  # the entry cannot do what the request asks; `Lack` says what
    "too_long",  # more than fits into the model's context
    "too_large",  # more than the account may send in one request
    "refused",  # a refusal that speaks of this entry, as far as anybody can tell
    "malformed",  # what we sent is no JSON: it would be refused everywhere
    "blocked",  # a content policy; the same words are refused everywhere
    "invalid_answer",  # an answer that makes no sense
    "failed_answer",  # an answer that says, under a status of 200, that it failed
    "truncated",  # half an answer
    "exposure",  # nobody who may see the prompt
    "no_healthy_provider",  # another router's word for a chain that is exhausted
]

LackKind = Literal[
    "tools",
    "images",
    "parameter",
    "token_limit_name",
    "output_limit",
    "system_first",
    "call_ids",
    "reasoning",
    "schema",
    "context",
]


class Lack(msgspec.Struct, frozen=True):
    """What an entry said it cannot take.

    `name` is the parameter or the word of a schema that was refused, `instead` the one it wants;
    `limit` is the most tokens it takes, and `asked` what it counted in the request; 0 = not said.
    """

    kind: LackKind
    name: str = ""
    instead: str = ""
    limit: int = 0
    asked: int = 0


_OF_KIND: dict[str, Cause] = {
    "blocked": "blocked",
    "truncated": "truncated",
    "auth": "auth",
    "rate_limit": "rate_limit",
    "capability": "capability",
    "no_healthy_provider": "no_healthy_provider",
    "timeout": "timeout",
    "network": "network",
    "invalid_answer": "invalid_answer",
    "exposure": "exposure",
}
OF_CODE: dict[str, Cause] = {
    "context_length_exceeded": "too_long",
    "model_not_found": "missing_model",
    "insufficient_quota": "quota",
}
"""Codes by which we, too, say to callers what was wrong."""
_OF_STATUS: dict[int, Cause] = {
    401: "auth",
    402: "quota",
    403: "auth",
    404: "missing_model",
    408: "timeout",
    409: "broken",
    413: "too_large",
    425: "broken",
    429: "rate_limit",
    503: "overloaded",
    504: "timeout",
    522: "unreachable",
    524: "timeout",
    529: "overloaded",
}


def cause_of_kind(kind: str, status: int, code: str) -> Cause:
    """The cause where nothing but an error's kind, HTTP status (0 = none) and code are known."""
    if kind == "auth" and status == 0:
        return "unconfigured"
    return _OF_KIND.get(kind) or OF_CODE.get(code) or cause_of_status(status)


def cause_of_status(status: int) -> Cause:
    """The cause where nothing but an HTTP status is known."""
    return _OF_STATUS.get(status) or ("broken" if status >= 500 else "refused")
