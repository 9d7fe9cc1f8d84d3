"""Signing in by a link, going on, signing out: real HTTP, a real database, no other service."""

import asyncio
import base64
import signal
import sys
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx2
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from state.sealing import key_pairs
from supervisor.custody.key_folder import add_key, key_folder
from supervisor.gateway.people.tokens import read_key_set
from supervisor.node.credentials import read_secret
from tests.owners import House, open_house
from tests.postgres import Database

pytestmark = pytest.mark.one_postgres

ME = "/api/v1/me"
AUTH = "/api/v1/auth"
PUBLIC = "https://mana.home"
Json = dict[str, Any]


@pytest.fixture
async def house(database: Database, tmp_path: Path) -> AsyncIterator[House]:
    more = {"keys_dir": str(tmp_path / "keys"), "public_urls": (PUBLIC,)}
    async with open_house(database, tmp_path, auth_url=None, **more) as opened:
        answer = await opened.operator("POST", "/people", {"user": "anna"})
        assert answer.status_code == 201, answer.text
        yield opened


async def link_of(house: House, user: str = "anna") -> str:
    answer = await house.operator("POST", f"/people/{user}/link")
    assert answer.status_code == 201, answer.text
    return answer.json()["link"]


async def post(house: House, path: str, body: Json, **headers: str) -> httpx2.Response:
    return await house.client.post(AUTH + path, json=body, headers=headers)


async def signed_in(house: House, user: str = "anna") -> Json:
    answer = await post(house, "/sign-in", {"link": await link_of(house, user)})
    assert answer.status_code == 200, answer.text
    return answer.json()


async def refreshed(house: House, token: str) -> httpx2.Response:
    return await post(house, "/refresh", {"refreshToken": token})


async def status(house: House, token: str) -> int:
    answer = await house.client.get(ME, headers={"Authorization": f"Bearer {token}"})
    return answer.status_code


def signing_key(house: House) -> tuple[Ed25519PrivateKey, str]:
    path = key_folder(house.settings.keys_path).sign_in_private[0]
    key = key_pairs.issuer_private_key(read_secret("MANA_KEYS_DIR", path))
    return key, key_pairs.issuer_key_id(key.public_key())


def claims_of(token: str) -> Json:
    return jwt.decode(token, options={"verify_signature": False})


# --- links ----------------------------------------------------------------------------------------


async def test_a_link_lets_its_person_in_once(house: House):
    link = await link_of(house)
    answers = [await post(house, "/sign-in", {"link": link}) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200, 401]
    told = answers[0].json()
    assert (told["user"], told["expiresIn"]) == ("anna", 600)
    assert await status(house, told["accessToken"]) == 200


async def test_of_many_who_bring_one_link_at_once_one_gets_in(house: House):
    link = await link_of(house)
    answers = await asyncio.gather(*(post(house, "/sign-in", {"link": link}) for _ in range(8)))
    assert sorted(answer.status_code for answer in answers) == [200] + [401] * 7


async def test_looking_at_a_link_does_not_use_it_up(house: House):
    link = await link_of(house)
    for _ in range(3):
        seen = await house.client.get("/sign-in", params={"link": link})
        assert (seen.status_code, "Sign in" in seen.text) == (200, True)
        # Who chooses another language there comes back with the link.
        assert f'name="back" value="/sign-in?link={link}"' in seen.text
    assert (await post(house, "/sign-in", {"link": link})).status_code == 200


STORES_A_LINK_AND_DIES = """
import asyncio, os, signal, sys
from datetime import timedelta
from state.store.connect import Access, Database
from state.store.people.store import Doer, PeopleStore

async def main(dsn, password_file):
    people = PeopleStore(Database(Access(dsn, "mana_gateway", password_file), max_connections=1))
    await people.add_link("anna", bytes(32), timedelta(minutes=30), Doer("operator"))
    os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main(*sys.argv[1:]))
"""


async def test_a_link_whose_maker_died_before_it_was_shown_stands_in_nobodys_way(house: House):
    at = house.database.dsn("mana_gateway"), str(house.database.password_file("mana_gateway"))
    run = await asyncio.create_subprocess_exec(sys.executable, "-c", STORES_A_LINK_AND_DIES, *at)
    assert await run.wait() == -signal.SIGKILL
    count = "SELECT count(*) AS links FROM mana_ai.sign_in_links WHERE user_id = 'anna'"
    ((links,),) = [tuple(row) for row in await house.sql(count)]
    assert links == 1, "stored before it died"
    answer = await post(house, "/sign-in", {"link": await link_of(house)})
    assert answer.status_code == 200, answer.text


async def test_whatever_is_wrong_with_a_link_is_told_in_the_same_words(house: House):
    used, old, removed = [await link_of(house) for _ in range(3)]
    await post(house, "/sign-in", {"link": used})
    await house.sql(
        "UPDATE mana_ai.sign_in_links SET expires_at = clock_timestamp()"
        " WHERE link_hash = sha256($1)",
        old.encode(),
    )
    answers = [await post(house, "/sign-in", {"link": one}) for one in (used, old, "made-up")]
    await house.operator("DELETE", "/people/anna")
    answers.append(await post(house, "/sign-in", {"link": removed}))
    assert {(answer.status_code, answer.text) for answer in answers} == {
        (401, '{"error":"this link is not good, or not any more: ask for another"}')
    }


async def test_who_brings_many_wrong_links_has_to_wait(house: House):
    answers = [await post(house, "/sign-in", {"link": f"guess-{n}"}) for n in range(30)]
    assert answers[0].status_code == 401
    assert answers[-1].status_code == 429
    assert int(answers[-1].headers["retry-after"]) >= 1
    good = await post(house, "/sign-in", {"link": await link_of(house)})
    assert good.status_code == 200


# --- a browser ------------------------------------------------------------------------------------


async def browser(house: House, **headers: str) -> httpx2.Response:
    origin = str(house.client.base_url).rstrip("/")
    form = {"link": await link_of(house)}
    sent = {"Origin": origin, **headers}
    return await house.client.post("/sign-in", data=form, headers=sent)


async def test_a_browser_gets_a_cookie_that_no_script_and_no_other_site_sees(house: House):
    answer = await browser(house)
    assert (answer.status_code, answer.headers["location"]) == (303, "/me")
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "samesite=strict" in cookie.lower()
    assert "Secure" not in cookie
    told = (await house.client.get(ME)).json()
    assert (told["user"], told["signedInBy"]) == ("anna", "browser")
    over_tls = await browser(house, Origin=PUBLIC)
    assert "Secure" in over_tls.headers["set-cookie"]
    assert over_tls.headers["set-cookie"].startswith("__Host-mana_person_")


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "https://{host}", "http://{host}.evil"]
)
async def test_a_page_elsewhere_can_neither_sign_in_nor_use_a_cookie(house: House, origin: str):
    origin = origin.format(host=house.client.base_url.netloc.decode())
    assert (await browser(house, Origin=origin)).status_code == 403
    assert (await browser(house)).status_code == 303
    body = {"name": "x", "scopes": ["read"]}
    stolen = await house.client.post(f"{ME}/tokens", json=body, headers={"Origin": origin})
    without = await house.client.post(f"{ME}/tokens", json=body)
    own = {"Origin": str(house.client.base_url).rstrip("/")}
    mine = await house.client.post(f"{ME}/tokens", json=body, headers=own)
    assert [a.status_code for a in (stolen, without, mine)] == [401, 401, 201]


async def test_a_browser_that_signed_out_has_nothing(house: House):
    await browser(house)
    own = {"Origin": str(house.client.base_url).rstrip("/")}
    kept = dict(house.client.cookies)
    assert (await house.client.post(f"{AUTH}/sign-out", headers=own)).status_code == 200
    house.client.cookies.update(kept)
    assert (await house.client.get(ME)).status_code == 401


# --- refresh tokens -------------------------------------------------------------------------------


async def test_each_refresh_gives_another_token(house: House):
    seen = [(await signed_in(house))["refreshToken"]]
    for _ in range(4):
        answer = await refreshed(house, seen[-1])
        assert answer.status_code == 200
        assert await status(house, answer.json()["accessToken"]) == 200
        seen.append(answer.json()["refreshToken"])
    assert len(set(seen)) == 5


async def test_two_tabs_that_refresh_at_once_both_go_on(house: House):
    token = (await signed_in(house))["refreshToken"]
    answers = await asyncio.gather(*(refreshed(house, token) for _ in range(6)))
    assert [answer.status_code for answer in answers] == [200] * 6
    assert len({answer.json()["refreshToken"] for answer in answers}) == 1
    again = await refreshed(house, answers[0].json()["refreshToken"])
    assert again.status_code == 200


async def test_an_old_copy_of_a_refresh_token_ends_the_sign_in_for_all(house: House):
    first = await signed_in(house)
    second = (await refreshed(house, first["refreshToken"])).json()
    await house.sql(
        "UPDATE mana_ai.refresh_tokens SET replaced_at = replaced_at - interval '1 minute'"
    )
    assert (await refreshed(house, first["refreshToken"])).status_code == 401
    assert (await refreshed(house, second["refreshToken"])).status_code == 401
    assert await status(house, second["accessToken"]) == 401
    rows = await house.sql("SELECT action FROM mana_ai.people_trail ORDER BY id DESC LIMIT 1")
    assert rows[0]["action"] == "reuse-detected"


async def test_a_sign_in_that_nobody_used_for_long_is_over(house: House):
    told = await signed_in(house)
    await house.sql("UPDATE mana_ai.sign_ins SET expires_at = clock_timestamp()")
    assert (await refreshed(house, told["refreshToken"])).status_code == 401
    assert await status(house, told["accessToken"]) == 401


async def test_however_busy_a_sign_in_ends_one_day(house: House):
    told = await signed_in(house)
    await house.sql("UPDATE mana_ai.sign_ins SET made_at = made_at - interval '89 days 23 hours'")
    assert (await refreshed(house, told["refreshToken"])).status_code == 200
    rows = await house.sql("SELECT expires_at - made_at AS life FROM mana_ai.sign_ins")
    assert rows[0]["life"].days == 90


async def test_an_ended_sign_in_ends_its_access_token_at_once(house: House):
    told = await signed_in(house)
    headers = {"Authorization": f"Bearer {told['accessToken']}"}
    listed = (await house.client.get(f"{ME}/sign-ins", headers=headers)).json()["items"]
    assert len(listed) == 1
    path = f"{ME}/sign-ins/{listed[0]['sign_in_id']}"
    assert (await house.client.delete(path, headers=headers)).status_code == 200
    assert await status(house, told["accessToken"]) == 401
    assert (await refreshed(house, told["refreshToken"])).status_code == 401


async def test_one_person_cannot_end_anothers_sign_in(house: House):
    await house.operator("POST", "/people", {"user": "bert"})
    anna, bert = await signed_in(house), await signed_in(house, "bert")
    path = f"{ME}/sign-ins/{claims_of(anna['accessToken'])['sid']}"
    headers = {"Authorization": f"Bearer {bert['accessToken']}"}
    assert (await house.client.delete(path, headers=headers)).status_code == 404
    assert await status(house, anna["accessToken"]) == 200


# --- access tokens --------------------------------------------------------------------------------


async def test_a_token_that_is_not_exactly_ours_lets_nobody_in(house: House):
    key, kid = signing_key(house)
    good = claims_of((await signed_in(house))["accessToken"])
    now, headers = int(time.time()), {"kid": kid}

    def signed(**changed: Any) -> str:
        return jwt.encode({**good, **changed}, key, "EdDSA", headers)

    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    head = base64.urlsafe_b64encode(b'{"alg":"none","typ":"JWT"}').decode().rstrip("=")
    other = Ed25519PrivateKey.generate()
    hostile = {
        "expired": signed(exp=now - 6),
        "early": signed(nbf=now + 60, iat=now + 60),
        "audience": signed(aud="other"),
        "issuer": signed(iss="https://evil.example"),
        "nobody": signed(sub="bert"),
        "another way": signed(way="browser"),
        "no way": signed(way=None),
        "operator with a sign-in": signed(way="operator"),
        "none": f"{head}.{signed().split('.')[1]}.",
        "unknown kid": jwt.encode(good, other, "EdDSA", {"kid": "other"}),
        "our kid": jwt.encode(good, other, "EdDSA", headers),
        "no kid": jwt.encode(good, key, "EdDSA"),
        "hmac": _hmac_of(good, public, kid),
    }
    assert {name: await status(house, token) for name, token in hostile.items()} == dict.fromkeys(
        hostile, 401
    )
    assert await status(house, signed()) == 200
    assert await status(house, signed(exp=now - 3)) == 200  # clocks may differ by 5 s


def _hmac_of(claims: Json, public_pem: bytes, kid: str) -> str:
    """HS256 with the public key as its secret, which the library would not sign."""
    import hmac
    import json

    def part(of: Json) -> bytes:
        return base64.urlsafe_b64encode(json.dumps(of).encode()).rstrip(b"=")

    body = part({"alg": "HS256", "typ": "JWT", "kid": kid}) + b"." + part(claims)
    mac = base64.urlsafe_b64encode(hmac.digest(public_pem, body, "sha256")).rstrip(b"=")
    return (body + b"." + mac).decode()


async def test_the_key_set_is_what_verifiers_expect_and_holds_no_private_key(house: House):
    _, kid = signing_key(house)
    for path in (f"{AUTH}/jwks", "/api/auth/jwks"):
        answer = await house.client.get(path)
        assert list(read_key_set(answer.content)) == [kid]
        assert "d" not in answer.json()["keys"][0]


async def test_after_a_rotation_the_new_key_signs_and_the_old_still_verifies(house: House):
    before = (await signed_in(house))["accessToken"]
    add_key(house.settings.keys_path, "sign-in", datetime.now(UTC))
    house.owners.office.keys._read()  # pyright: ignore[reportOptionalMemberAccess,reportPrivateUsage]  # what a minute does
    after = (await signed_in(house))["accessToken"]
    kids = [jwt.get_unverified_header(token)["kid"] for token in (before, after)]
    assert kids[0] != kids[1] == signing_key(house)[1]
    assert [await status(house, token) for token in (before, after)] == [200, 200]
    published = read_key_set((await house.client.get(f"{AUTH}/jwks")).content)
    assert set(published) == set(kids)


# --- personal tokens ------------------------------------------------------------------------------


async def test_a_person_makes_lists_and_ends_their_own_tokens(house: House):
    headers = {"Authorization": f"Bearer {(await signed_in(house))['accessToken']}"}
    body = {"name": "laptop", "scopes": ["keys", "read"], "days": 3}
    made = await house.client.post(f"{ME}/tokens", json=body, headers=headers)
    assert (made.status_code, made.json()["scopes"]) == (201, ["read", "keys"])
    token = made.json()["token"]
    listed = await house.client.get(f"{ME}/tokens", headers=headers)
    assert [one["name"] for one in listed.json()["items"]] == ["laptop"]
    assert token not in listed.text
    again = await house.client.post(f"{ME}/tokens", json=body, headers=headers)
    assert (again.status_code, again.json()["field"]) == (409, "name")
    assert await status(house, token) == 200
    await house.client.delete(f"{ME}/tokens/laptop", headers=headers)
    assert await status(house, token) == 401


async def test_a_token_that_is_past_its_end_lets_nobody_in(house: House):
    body = {"name": "laptop", "scopes": ["read"]}
    token = (await house.operator("POST", "/people/anna/tokens", body)).json()["token"]
    assert await status(house, token) == 200
    await house.sql("UPDATE mana_ai.personal_tokens SET expires_at = clock_timestamp()")
    assert await status(house, token) == 401


async def test_a_personal_token_makes_no_other(house: House):
    body = {"name": "laptop", "scopes": ["read", "write", "approve"]}
    token = (await house.operator("POST", "/people/anna/tokens", body)).json()["token"]
    headers = {"Authorization": f"Bearer {token}"}
    answer = await house.client.post(f"{ME}/tokens", json=body | {"name": "x"}, headers=headers)
    assert (answer.status_code, answer.json()["scope"]) == (403, "account")


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"scopes": ["read", "fly"]}, "scopes"),
        ({"scopes": []}, "scopes"),
        ({"scopes": "read"}, "scopes"),
        ({"scopes": ["account"]}, "scopes"),
        ({"scopes": ["keys"]}, "scopes"),
        ({"days": 0}, "days"),
        ({"days": 367}, "days"),
        ({"days": True}, "days"),
        ({"name": ""}, "name"),
        ({"name": "a\nb"}, "name"),
        ({"secret": 1}, "secret"),
    ],
)
async def test_a_wrong_token_request_names_its_field(house: House, changed: Json, field: str):
    body: Json = {"name": "laptop", "scopes": ["read"], **changed}
    answer = await house.operator("POST", "/people/anna/tokens", body)
    assert (answer.status_code, answer.json()["field"]) == (400, field)


# --- with another auth service --------------------------------------------------------------------


async def test_with_an_auth_service_of_the_deployments_ours_is_off(
    database: Database, tmp_path: Path
):
    async with open_house(database, tmp_path) as house:
        answers = [
            await house.client.get(f"{AUTH}/jwks"),
            await post(house, "/sign-in", {"link": "x"}),
            await post(house, "/refresh", {"refreshToken": "x"}),
            await house.operator("GET", "/people"),
            await house.operator("POST", "/people/anna/token"),
            await house.desk().ask("GET", f"{ME}/tokens"),
        ]
        assert {answer.status_code for answer in answers} == {404}
        assert all("MANA_AUTH_URL" in answer.text for answer in answers)
        told = await house.desk().ask("GET", ME)
        assert told.json()["signedInBy"] == "auth-service"
