"""Which clients read the world's certificates."""

import ssl

import pytest

from mana_actors.trust import is_this_machine, trust_for

HERE = ["http://127.0.0.1:1/v1", "http://localhost", "http://[::1]:80", "http://127.9.9.9"]
ELSEWHERE = [
    "https://127.0.0.1",
    "http://10.0.0.1",
    "http://localhost.example",
    "https://example.com",
    "http://[::",
    "",
]


@pytest.mark.parametrize("url", HERE)
def test_plain_http_to_this_machine_trusts_nobody(url: str):
    context = trust_for(url)
    assert isinstance(context, ssl.SSLContext)
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.get_ca_certs() == []


@pytest.mark.parametrize("url", ELSEWHERE)
def test_any_other_address_is_verified_as_always(url: str):
    assert trust_for(url) is True


def test_an_address_that_is_none_is_not_this_machine():
    assert not is_this_machine("http://[::")
