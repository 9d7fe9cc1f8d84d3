"""What is described of the requests that answer errors in a way of their own, older than the API's.

Their answers are described as far as clients of the auth service and of the runner rely on them.
"""

from datetime import datetime
from typing import Any, Literal

import msgspec

from state.rules.scopes import Scope
from supervisor.gateway.api.openapi import Handler, Operation
from supervisor.gateway.people import audit, budgets, derived_key, grants, missions, vault
from supervisor.gateway.sign_in import account

SIGN_INS = "/api/v1/me/sign-ins"
TOKENS = "/api/v1/me/tokens"
DERIVED_KEY = "/api/v1/me/ai-derived-key"
GRANT = "/api/v1/me/ai-mission-grant"
VAULT = "/api/v1/me/encryption-vault"
Json = dict[str, Any]


class TrailEntry(msgspec.Struct, frozen=True):
    """Something that was done about a person's ways in, spaces or place, and by whom."""

    at: str
    action: str
    detail: str | None
    by: str
    address: str | None
    client: str | None


class TrailPage(msgspec.Struct, frozen=True):
    """The newest first; `after`, given back, continues with older rows."""

    items: list[TrailEntry]
    after: str | None


class Listed(msgspec.Struct, frozen=True):
    """All there is."""

    items: list[Json]


class TokenGiven(msgspec.Struct, frozen=True):
    """A name, scopes and a number of days."""

    name: str
    scopes: list[Scope]
    days: int | msgspec.UnsetType = msgspec.UNSET


class BrowserLink(msgspec.Struct, frozen=True, rename="camel"):
    """What a browser opens, once and soon."""

    path: str
    link: str
    expires_at: datetime


def _older(
    verb: Literal["GET", "POST", "PUT", "DELETE"],
    path: str,
    scope: Scope,
    handler: Handler,
    summary: str,
    *,
    gives: Any = Json,
    body: Any = None,
    status: int = 200,
    paged: bool = False,
) -> Operation:
    return Operation(
        verb=verb,
        path=path,
        scope=scope,
        handler=handler,
        summary=summary,
        gives=gives,
        status=status,
        body=body,
        paged=paged,
        has_problems=False,
    )


OLDER: tuple[Operation, ...] = (
    _older(
        "GET",
        "/api/v1/me/trail",
        "account",
        account.get_trail,
        "What was done about me, and by whom",
        gives=TrailPage,
        paged=True,
    ),
    _older("GET", SIGN_INS, "account", account.get_sign_ins, "Where I am signed in", gives=Listed),
    _older(
        "POST",
        "/api/v1/me/browser-link",
        "account",
        account.post_browser_link,
        "A link that lets a browser of mine in once",
        gives=BrowserLink,
        status=201,
    ),
    _older("DELETE", f"{SIGN_INS}/{{sign_in}}", "account", account.delete_sign_in, "Sign one out"),
    _older("GET", TOKENS, "account", account.get_tokens, "My personal tokens", gives=Listed),
    _older(
        "POST",
        TOKENS,
        "account",
        account.post_token,
        "A personal token, told this once",
        body=TokenGiven,
        status=201,
    ),
    _older("DELETE", f"{TOKENS}/{{token}}", "account", account.delete_token, "End a token"),
    _older("GET", "/api/v1/me/ai-audit", "read", audit.get_audit, "Which records were opened"),
    _older(
        "GET",
        "/api/v1/me/ai-openings",
        "read",
        audit.get_openings,
        "Which operators opened my texts, and why",
        paged=True,
    ),
    _older("GET", "/api/v1/me/ai-budget", "read", budgets.get_budget, "What agents may spend"),
    _older(
        "GET", "/api/v1/me/ai-missions", "read", missions.get_missions, "Why missions ran or not"
    ),
    _older("POST", GRANT, "keys", grants.post_grant, "Grant records to a mission", body=Json),
    _older(
        "POST", f"{GRANT}/consent", "keys", grants.post_consent, "What a grant gives", body=Json
    ),
    _older(
        "PUT",
        "/api/v1/me/ai-sealed-copies",
        "keys",
        grants.put_copies,
        "Hand sealed copies over",
        body=Json,
    ),
    _older("GET", DERIVED_KEY, "keys", derived_key.get_key, "The key that plans are sealed for"),
    _older("PUT", DERIVED_KEY, "keys", derived_key.put_key, "Another key", body=Json),
    _older("DELETE", DERIVED_KEY, "keys", derived_key.delete_key, "Seal plans no longer"),
    _older("GET", f"{VAULT}/status", "keys", vault.get_status, "How the vault is kept"),
    _older("POST", f"{VAULT}/init", "keys", vault.post_init, "Make a vault, or open it"),
    _older("GET", f"{VAULT}/key", "keys", vault.get_key, "Open the vault"),
    _older("POST", f"{VAULT}/rotate", "keys", vault.post_rotate, "Another master key"),
    _older(
        "POST",
        f"{VAULT}/recovery-wrap",
        "keys",
        vault.post_recovery_wrap,
        "Keep a wrap for recovery",
        body=Json,
    ),
    _older(
        "DELETE", f"{VAULT}/recovery-wrap", "keys", vault.delete_recovery_wrap, "Drop that wrap"
    ),
    _older(
        "POST",
        f"{VAULT}/zero-knowledge",
        "keys",
        vault.post_zero_knowledge,
        "Keep no key here, or again",
        body=Json,
    ),
)
