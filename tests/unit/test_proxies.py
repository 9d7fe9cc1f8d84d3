"""Which proxy stands between this machine and a service elsewhere."""

import pytest

from mana_actors.llm.proxies import ProxyUnusable, proxy_for

PROXY = "http://proxy:3128"
SETTINGS = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch):
    for name in SETTINGS:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.mark.parametrize(
    ("settings", "url", "proxy"),
    [
        ({}, "https://api.example", None),
        ({"ALL_PROXY": PROXY}, "https://api.example", PROXY),
        ({"HTTPS_PROXY": "proxy:3128"}, "https://api.example", PROXY),
        ({"HTTPS_PROXY": PROXY}, "http://api.example", None),
        ({"HTTP_PROXY": "http://a", "ALL_PROXY": "http://b"}, "http://api.example", "http://a"),
        ({"https_proxy": "https://me:pw@proxy"}, "https://x", "https://me:pw@proxy"),
    ],
)
def test_the_scheme_has_its_own_before_the_one_for_all(
    monkeypatch: pytest.MonkeyPatch, settings: dict[str, str], url: str, proxy: str | None
):
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    assert proxy_for(url) == proxy


@pytest.mark.parametrize(
    ("exceptions", "host", "goes_past"),
    [
        ("api.example", "api.example", True),
        ("other, API.Example ", "api.example", True),
        ("example", "api.example", True),
        (".example", "api.example", True),
        ("*.example", "api.example", True),
        ("*", "api.example", True),
        ("other,*", "api.example", True),
        ("https://api.example", "api.example", True),
        ("api.example:443", "api.example:443", True),
        ("api.example:8443", "api.example:443", False),
        ("ample", "api.example", False),
        ("api.example.org", "api.example", False),
        ("", "api.example", False),
        (" , ,", "api.example", False),
        ("[::1", "api.example", False),
        ("10.1.2.3", "10.1.2.3", True),
        ("10.0.0.0/8", "10.1.2.3", True),
        ("10.0.0.1/8", "10.1.2.3", True),
        ("10.0.0.0/99", "10.1.2.3", False),
        ("192.168.0.0/16", "10.1.2.3", False),
        ("fd00::/8", "[fd00::1]:8000", True),
        ("[fd00::1]", "[fd00::1]", True),
        ("fd01::1", "[fd00::1]", False),
    ],
)
def test_no_proxy_names_hosts_and_networks(
    monkeypatch: pytest.MonkeyPatch, exceptions: str, host: str, goes_past: bool
):
    monkeypatch.setenv("ALL_PROXY", PROXY)
    monkeypatch.setenv("NO_PROXY", exceptions)
    assert proxy_for(f"https://{host}/v1") == (None if goes_past else PROXY)


@pytest.mark.parametrize(
    "value", ["socks5://proxy", "ftp://proxy", "http://[::1", "http://", "://"]
)
@pytest.mark.parametrize("name", ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"])
def test_one_that_makes_no_sense_is_named_by_its_variable(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
):
    monkeypatch.setenv(name, value)
    with pytest.raises(ProxyUnusable) as refused:
        proxy_for("https://api.example")
    assert refused.value.setting == name.lower()
