"""How a grant stands is said without the runner's key, and never better than it is."""

import time
from typing import Any

import pytest

from state.grants.grant import SKEW_NS, Grantee, Trust
from state.grants.mint import Issuer, minted_grant, read_request
from state.grants.standing import SOON_NS, GrantStanding, grant_standing
from state.log.stamps import NS_PER_S, parse_instant
from state.sealing import key_pairs
from tests.owners import RUNNER, SIGNING

NOW = time.time_ns()
DAY_NS = 24 * 3600 * NS_PER_S
ISSUER = Issuer(runner_key=RUNNER.public_key(), signing_key=SIGNING)
TRUST = Trust(issuers={key_pairs.issuer_key_id(SIGNING.public_key()): SIGNING.public_key()})
NEEDED = ("notes:n-1", "tasks:t-1")


def grant(*records: str, at: int = NOW, ttl_ms: int = 7 * 86_400_000) -> dict[str, Any]:
    listed = records or NEEDED
    tables = sorted({one.partition(":")[0] for one in listed})
    body = {"missionId": "m-1", "tables": tables, "recordIds": [*listed], "ttlMs": ttl_ms}
    return minted_grant(
        read_request(body), user_id="u1", master_key=bytes(32), issuer=ISSUER, now=at
    )


def standing(raw: object, **changed: Any) -> GrantStanding:
    known: dict[str, Any] = {
        "grantee": Grantee("u1", "m-1"),
        "trust": TRUST,
        "was_given": False,
        "needed": NEEDED,
        "key_since": NOW - DAY_NS,
        "now": NOW,
    }
    return grant_standing(raw, **known | changed)


def test_a_grant_of_all_that_is_needed_opens_it_until_its_end():
    found = standing(grant())
    assert (found.standing, found.opens, found.uncovered) == ("active", True, ())
    assert found.ends_at is not None
    assert abs(found.ends_at - NOW - 7 * DAY_NS) < NS_PER_S
    assert (found.exposure, found.records) == ("local", NEEDED)


def test_without_one_it_is_none_or_revoked():
    assert standing(None).standing == "none"
    assert standing(None, was_given=True).standing == "revoked"
    assert standing(None).uncovered == NEEDED
    assert not standing(None).opens


@pytest.mark.parametrize(
    ("left_ns", "said"),
    [(SOON_NS, "active"), (SOON_NS - 1, "ends-soon"), (0, "ends-soon"), (-1, "expired")],
)
def test_its_end_is_told_before_it_comes_and_after(left_ns: int, said: str):
    raw = grant()
    ends = parse_instant(raw["expiresAt"])
    assert ends is not None
    found = standing(raw, now=ends - left_ns)
    assert (found.standing, found.ends_at) == (said, ends)
    assert found.opens == (left_ns >= 0)


def test_an_input_added_since_is_named():
    found = standing(grant("notes:n-1"))
    assert (found.standing, found.uncovered) == ("other-inputs", ("tasks:t-1",))
    assert standing(grant(), needed=["notes:n-1"]).standing == "active"


def test_a_key_that_is_younger_than_the_grant_opens_nothing():
    assert standing(grant(), key_since=NOW + SKEW_NS + NS_PER_S).standing == "other-key"
    assert standing(grant(), key_since=NOW + SKEW_NS - NS_PER_S).standing == "active"
    assert standing(grant(), key_since=None).standing == "active"


def test_whose_signature_nobody_knows_opens_nothing():
    assert standing(grant(), trust=Trust()).standing == "other-issuer"


@pytest.mark.parametrize(
    "broken",
    [
        True,
        [],
        "x",
        {"expiresAt": 7},
        grant() | {"exposure": "any"},
        grant() | {"signature": "AAAA"},
        {**grant(), "derivation": {**grant()["derivation"], "recordIds": ["notes:n-9"]}},
        minted_grant(
            read_request({"missionId": "m-1", "tables": ["notes"], "recordIds": ["notes:n-1"]}),
            user_id="u1",
            master_key=bytes(32),
            issuer=Issuer(runner_key=RUNNER.public_key(), signing_key=None),
            now=NOW,
        ),
    ],
)
def test_what_was_changed_or_is_no_grant_is_broken(broken: object):
    found = standing(broken)
    assert (found.standing, found.opens) == ("broken", False)


def test_another_persons_or_missions_is_broken():
    assert standing(grant(), grantee=Grantee("u2", "m-1")).standing == "broken"
    assert standing(grant(), grantee=Grantee("u1", "m-2")).standing == "broken"
