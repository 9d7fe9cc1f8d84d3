"""What pages say: in both languages, in the reader's zone, and never the text of a script."""

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from babel.messages.catalog import Message
from babel.messages.extract import extract_from_dir
from babel.messages.pofile import read_po
from starlette.requests import Request

from mana_actors.http.names import Names
from state.log.cadence import Cadence, Cron, Daily, Interval, Manual, Weekly
from state.runs.reasons import Language
from state.store.connect import Access, Database
from state.store.people.visitors import VisitorStore
from supervisor.gateway.pages import words
from supervisor.gateway.pages.charts import bar_chart, gauge
from supervisor.gateway.pages.page import HEADERS, page, templates
from supervisor.gateway.pages.preferences import own_path
from supervisor.gateway.pages.reader import Reader
from supervisor.gateway.sign_in.browsers import Browsers

GATEWAY = Path(__file__).parents[2] / "supervisor" / "gateway"
NOW = datetime(2026, 11, 27, 22, 30, tzinfo=UTC)
HOSTILE = '"><script>alert(1)</script>'


def reader(language: Language = "en", zone: str = "Europe/Berlin") -> Reader:
    return Reader(language=language, theme="auto", zone=ZoneInfo(zone), now=NOW, path="/")


def messages() -> set[object]:
    """Every text in templates and code that pages translate."""
    ways = [("**.py", "python"), ("**.html", "jinja2")]
    options = {"**.html": {"newstyle_gettext": "true", "trim_blocks": "true"}}
    folders = (GATEWAY / "pages", GATEWAY / "sign_in")
    return {
        found[2]
        for folder in folders
        for found in extract_from_dir(folder, method_map=ways, options_map=options)
    }


def test_every_message_has_its_german_and_no_german_is_left_over():
    found: list[Message] = []
    for path in (GATEWAY / "pages" / "catalogues" / "de").iterdir():
        with path.open("rb") as file:
            found += [message for message in read_po(file, locale="de") if message.id]
    told = {tuple(m.id) if isinstance(m.id, (list, tuple)) else m.id: m for m in found}
    assert len(told) == len(found), "no message stands in two files"
    assert messages() == set(told)
    names = re.compile(r"%\((\w+)\)")
    for message in told.values():
        ids = [message.id] if isinstance(message.id, str) else [*message.id]
        string = message.string
        strings = [*string] if isinstance(string, (list, tuple)) else [string or ""]
        assert all(strings), message.id
        assert not message.fuzzy, message.id
        used = {name for text in ids for name in names.findall(text)}
        assert set(names.findall(strings[-1])) == used, message.id


@pytest.mark.parametrize(
    ("hours", "english", "german"),
    [
        (1, "tomorrow 00:30", "morgen 00:30"),
        (0, "23:30", "23:30"),
        (-24, "yesterday 23:30", "gestern 23:30"),
        (24 * 20, "Thu 17 Dec 23:30", "Do., 17. Dez. 23:30"),
    ],
)
def test_a_time_is_told_in_the_readers_zone(hours: int, english: str, german: str):
    at = NOW + timedelta(hours=hours)
    assert words.moment(at, reader()) == english
    assert words.moment(at, reader("de")) == german


@pytest.mark.parametrize(
    ("cadence", "english", "german"),
    [
        (Manual(), "when asked", "auf Zuruf"),
        (Interval(60), "every hour", "jede Stunde"),
        (Interval(120), "every 2 hours", "alle 2 Stunden"),
        (Interval(1440), "every day", "jeden Tag"),
        (Interval(45), "every 45 minutes", "alle 45 Minuten"),
        (Daily(7, 5), "daily at 07:05", "täglich um 07:05"),
        (Weekly(1, 7), "Mondays at 07:00", "Montags um 07:00"),
        (Weekly(0, 9), "Sundays at 09:00", "Sonntags um 09:00"),
        (Cron("15 7 * * 1,4"), "Mon, Thu at 07:15", "Mo., Do. um 07:15"),
        (Cron("0 8 * * 1-5"), "weekdays at 08:00", "werktags um 08:00"),
        (Cron("*/5 * 1 * *"), "*/5 * 1 * *", "*/5 * 1 * *"),
    ],
)
def test_a_cadence_is_told_in_plain_words(cadence: Cadence, english: str, german: str):
    assert words.cadence_said(cadence, reader()) == english
    assert words.cadence_said(cadence, reader("de")) == german


def test_a_command_in_a_reason_is_shown_as_one_and_an_open_tick_as_it_is():
    shown = templates("en").from_string("{{ reason|sentence }}")
    said = shown.render(reader=reader(), reason="no model service could answer")
    assert "with <code>mana llm status</code> and <code>mana llm test</code>." in said
    whole = templates("en").from_string("{{ why|commands }}")
    assert (
        whole.render(reader=reader(), why="It waits: `<b>`.") == "It waits: <code>&lt;b&gt;</code>."
    )
    assert shown.render(reader=reader(), reason="a `<b> tick") == "A `&lt;b&gt; tick."


def test_what_others_wrote_is_text_and_nothing_but_text():
    shown = page(reader(), "problem.html", 404, code=404, what=HOSTILE, then=HOSTILE)
    assert HOSTILE.encode() not in shown.body
    assert b"&lt;script&gt;" in shown.body
    assert "'unsafe-inline'" not in HEADERS["Content-Security-Policy"]


@pytest.mark.parametrize(
    "path",
    [
        "//evil.example",
        "https://evil.example",
        "/a\r\nSet-Cookie: x=1",
        "/a?b=c\r\nSet-Cookie: x=1",
        "/\\evil",
        "?link=a",
        "",
        "x",
    ],
)
def test_a_form_leads_back_to_no_other_server(path: str):
    assert own_path(path, "/me") == "/me"
    assert own_path("/me/missions/a%2Fb", "/me") == "/me/missions/a%2Fb"
    assert own_path("/sign-in?link=a-B_1", "/me") == "/sign-in?link=a-B_1"


def test_a_gauge_never_says_more_than_all():
    full = gauge(100, 90, 50, "")
    assert (full.used, full.held, full.is_full) == (90.0, 10.0, True)
    assert gauge(0, 0, 0, "").is_full


def test_many_series_become_few_and_no_number_is_lost():
    series = {f"m{n}": [n, 2 * n] for n in range(1, 9)}
    chart = bar_chart("Tokens", ["Mon", "Tue"], series, "others")
    assert len(chart.names) == 5
    assert [sum(row.counts) for row in chart.rows] == [36, 72]
    assert max(bar.y + bar.height for bar in chart.bars) <= chart.height


@pytest.mark.parametrize(
    ("scheme", "host", "cookie", "found"),
    [
        ("http", "127.0.0.1:3070", "mana_person=plain", "plain"),
        ("http", "127.0.0.1:3070", "mana_person=plain; __Host-mana_person=own", "own"),
        ("http", "mana.example", "mana_person=plain", None),  # TLS ends at the proxy
        ("http", "mana.example", "mana_person=plain; __Host-mana_person=own", "own"),
        ("https", "127.0.0.1:3070", "mana_person=plain", None),
    ],
)
def test_over_tls_a_cookie_that_another_host_could_have_set_counts_for_nothing(
    scheme: str, host: str, cookie: str, found: str | None
):
    headers = [(b"host", host.encode()), (b"cookie", cookie.encode())]
    scope = {"type": "http", "scheme": scheme, "headers": headers}
    names = Names(public=("https://mana.example",))
    store = VisitorStore(Database(Access("", "", ""), max_connections=1))
    assert Browsers(store, "mana_person", names).cookie_in(Request(scope)) == found
