"""How pages say times, numbers, states, cadences and ids.

Pure: the reader says zone, clock and language.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import cache

from babel import Locale
from babel.dates import format_date, format_skeleton, format_timedelta, get_day_names
from babel.numbers import format_decimal

from state.log.cadence import Cadence, Cron, Daily, Interval, Manual, Weekly
from state.log.stamps import datetime_of, parse_instant
from state.runs.reasons import Language, label
from supervisor.gateway.pages.reader import Reader
from supervisor.gateway.pages.translations import translations_of

MINUTE, HOUR, DAY = 60, 3600, 86_400
CALM_LAG_S = 5
MOST_ID_CHARS = 22
LOCALES: dict[Language, Locale] = {"en": Locale("en", "GB"), "de": Locale("de")}
"""How dates and numbers are written in each language."""

SHAPES: dict[str, tuple[str, str]] = {
    **dict.fromkeys(("running", "open", "awake", "due"), ("●", "busy")),
    **dict.fromkeys(("active", "ok"), ("●", "good")),
    **dict.fromkeys(("asleep",), ("○", "quiet")),
    **dict.fromkeys(("pending", "waiting", "waiting-for-device", "refreshing"), ("◐", "busy")),
    **dict.fromkeys(("ran", "committed", "planned", "done", "approved", "well"), ("✓", "good")),
    **dict.fromkeys(("withdrawn", "cancelled", "skipped", "missed", "undone"), ("\u2013", "quiet")),
    **dict.fromkeys(("rejected", "expired", "archived", "none", "deny"), ("\u2013", "quiet")),
    **dict.fromkeys(("failed", "refused", "deleted", "unwell", "broken"), ("!", "bad")),
    **dict.fromkeys(("expires", "differs", "propose"), ("◐", "busy")),
    **dict.fromkeys(("paused", "skipped-paused"), ("❚❚", "quiet")),
    **dict.fromkeys(("grant-active", "access-read"), ("●", "good")),
    **dict.fromkeys(("grant-ends-soon", "grant-other-inputs"), ("◐", "busy")),
    **dict.fromkeys(("grant-expired", "grant-other-key", "grant-other-issuer"), ("!", "bad")),
    **dict.fromkeys(("grant-broken", "access-outside", "access-silent"), ("!", "bad")),
    **dict.fromkeys(("access-not-opened", "access-no-key"), ("\u2013", "quiet")),
    **dict.fromkeys(("grant-none", "grant-revoked"), ("\u2013", "quiet")),
    **dict.fromkeys(("skipped-concurrency", "deferred-browser-run"), ("◐", "busy")),
    "auto": ("●", "good"),
}
"""A state's shape and tone; what is not here and was skipped is trouble, all else is quiet."""


def _locale(reader: Reader) -> Locale:
    return LOCALES[reader.language]


def shape(word: str | None) -> tuple[str, str]:
    """The shape and tone of a state or decision, which its word stands beside."""
    if not word:
        return "\u2013", "quiet"
    return SHAPES.get(word) or (
        ("!", "bad") if word.startswith("skipped-") else ("\u2013", "quiet")
    )


@cache
def state_words(language: Language) -> dict[str, str]:
    """States that the runtime's own table of decisions has no words for."""
    _ = translations_of(language).gettext
    return {
        "active": _("active"),
        "paused": _("paused"),
        "archived": _("archived"),
        "done": _("done"),
        "deleted": _("deleted"),
        "awake": _("awake"),
        "asleep": _("asleep"),
        "unknown": _("not known"),
        "running": _("running"),
        "planned": _("planned"),
        "due": _("due"),
        "missed": _("missed"),
        "skipped": _("not run"),
        "cancelled": _("cancelled"),
        "pending": _("waits for you"),
        "waiting-for-device": _("waits for a device"),
        "rejected": _("rejected"),
        "expired": _("expired"),
        "refused": _("could not be done"),
        "undone": _("taken back"),
        "well": _("well"),
        "unwell": _("needs attention"),
        "differs": _("differs"),
        "auto": _("does it"),
        "propose": _("asks first"),
        "deny": _("never"),
        "none": _("none"),
        "grant-none": _("not granted"),
        "grant-revoked": _("revoked"),
        "grant-active": _("granted"),
        "grant-ends-soon": _("ends soon"),
        "grant-expired": _("has ended"),
        "grant-other-issuer": _("made by somebody unknown"),
        "grant-other-key": _("made for an older key"),
        "grant-other-inputs": _("does not cover all"),
        "grant-broken": _("cannot be used"),
        "access-read": _("read"),
        "access-not-opened": _("could not be opened"),
        "access-outside": _("outside of the grant"),
        "access-silent": _("key without a word"),
        "access-no-key": _("no key given"),
    }


def said(word: str | None, reader: Reader) -> str:
    """A state or decision in two or three words."""
    if not word:
        return "—"
    own = state_words(reader.language)
    return own[word] if word in own else label(word, reader.language)


# --- times ----------------------------------------------------------------------------------------


def instant(value: datetime | str | None) -> datetime | None:
    """A time as rows or the API's texts have it."""
    if isinstance(value, str):
        parsed = parse_instant(value)
        return None if parsed is None else datetime_of(parsed)
    return value


def clock(at: datetime, reader: Reader) -> str:
    """The time of day: `07:00`."""
    return at.astimezone(reader.zone).strftime("%H:%M")


def day(at: datetime, reader: Reader) -> str:
    """The day, as short as it can be told from others: `today`, `Mon 30 Nov`, `3 Jan 2025`."""
    local, today = at.astimezone(reader.zone).date(), reader.now.astimezone(reader.zone).date()
    _ = translations_of(reader.language).gettext
    near = {0: _("today"), 1: _("tomorrow"), -1: _("yesterday")}
    if (local - today).days in near:
        return near[(local - today).days]
    return date_said(at, reader)


def date_said(at: datetime, reader: Reader) -> str:
    """The date, with its year where that is not near: `Mon 30 Nov`, `3 Jan 2025`."""
    local, today = at.astimezone(reader.zone).date(), reader.now.astimezone(reader.zone).date()
    skeleton = "MMMEd" if abs((local - today).days) < 200 else "yMMMd"
    return format_skeleton(skeleton, local, locale=_locale(reader))


def weekday(at: datetime, reader: Reader) -> str:
    """A day under a chart: `Sun 22`; seven of them have to fit, so that no dot does."""
    day = format_skeleton("Ed", at.astimezone(reader.zone).date(), locale=_locale(reader))
    return day.replace(".", "").replace(",", "")


def moment(at: datetime, reader: Reader) -> str:
    """Day and time: `tomorrow 07:00`; of today only the time."""
    local, today = at.astimezone(reader.zone).date(), reader.now.astimezone(reader.zone).date()
    return clock(at, reader) if local == today else f"{day(at, reader)} {clock(at, reader)}"


def whole(at: datetime, reader: Reader) -> str:
    """Day, time and zone, to the second."""
    local = at.astimezone(reader.zone)
    named = format_date(local, "full", locale=_locale(reader))
    return f"{named} {local:%H:%M:%S} {local.tzname() or reader.zone.key}"


def distance(at: datetime, reader: Reader) -> str:
    """How far from now: `in 3 hours`, `12 seconds ago`."""
    delta = at - reader.now
    if abs(delta) < timedelta(seconds=1):
        return translations_of(reader.language).gettext("now")
    return format_timedelta(delta, add_direction=True, threshold=1.2, locale=_locale(reader))


def lasted(seconds: float | None, reader: Reader) -> str:
    """A duration: `1.8 s`, `3 min`."""
    if seconds is None:
        return "—"
    if seconds < MINUTE:
        return f"{format_decimal(round(seconds, 1), locale=_locale(reader))} s"
    return format_timedelta(
        timedelta(seconds=seconds), threshold=1.2, format="short", locale=_locale(reader)
    )


def lag_said(seconds: float | None, reader: Reader) -> str:
    """How far behind something is; what comes and goes by itself is all the same."""
    if seconds is not None and seconds < CALM_LAG_S:
        return f"< {CALM_LAG_S} s"
    return lasted(None if seconds is None else round(seconds), reader)


def zone_name(reader: Reader) -> str:
    """The zone as people say it: `Berlin`."""
    return reader.zone.key.rpartition("/")[2].replace("_", " ")


def date_line(reader: Reader) -> str:
    """Today's date as a line: `Fri 27 Nov`."""
    return format_skeleton("MMMEd", reader.now.astimezone(reader.zone), locale=_locale(reader))


def greeting(reader: Reader) -> str:
    """By the hour of the reader's day."""
    _ = translations_of(reader.language).gettext
    hour = reader.now.astimezone(reader.zone).hour
    if 4 <= hour < 12:
        return _("Good morning")
    return _("Good afternoon") if 12 <= hour < 18 else _("Good evening")


# --- cadences -------------------------------------------------------------------------------------


def cadence_said(cadence: Cadence | None, reader: Reader) -> str:
    """A cadence in plain words: `Mondays at 07:00`; what cron says beyond that stays as it is."""
    _ = translations_of(reader.language).gettext
    match cadence:
        case None:
            return _("no cadence")
        case Manual():
            return _("when asked")
        case Interval(every_minutes=minutes):
            return _every(minutes, reader)
        case Daily(at_hour=hour, at_minute=minute):
            return _("daily at %(time)s") % {"time": f"{hour:02d}:{minute:02d}"}
        case Weekly(day_of_week=weekday, at_hour=hour):
            return _on_days([weekday], f"{hour:02d}:00", reader)
        case Cron(expression=expression):
            return _cron_said(expression, reader)


def _every(minutes: float, reader: Reader) -> str:
    ngettext = translations_of(reader.language).ngettext
    count = int(minutes)
    if minutes % (24 * 60) == 0:
        count = count // (24 * 60)
        said = ngettext("every day", "every %(num)s days", count)
    elif minutes % 60 == 0:
        count = count // 60
        said = ngettext("every hour", "every %(num)s hours", count)
    else:
        said = ngettext("every minute", "every %(num)s minutes", count)
    return said % {"num": count}


def _cron_said(expression: str, reader: Reader) -> str:
    """One time on some weekdays in words, all else as it is written."""
    _ = translations_of(reader.language).gettext
    minute, hour, day_of_month, month, days = expression.split()
    listed = days.split(",")
    if not (minute.isdigit() and hour.isdigit() and day_of_month == month == "*"):
        return expression
    time = f"{int(hour):02d}:{int(minute):02d}"
    if days == "1-5":
        return _("weekdays at %(time)s") % {"time": time}
    if days == "*":
        return _("daily at %(time)s") % {"time": time}
    if all(one.isdigit() for one in listed):
        return _on_days([int(one) % 7 for one in listed], time, reader)
    return expression


def _on_days(days: list[int], time: str, reader: Reader) -> str:
    """Weekdays, from Sunday as 0, at a time of day."""
    _ = translations_of(reader.language).gettext
    names = get_day_names("wide", locale=_locale(reader))
    listed = [str(names[(one - 1) % 7]) for one in days]
    if len(listed) == 1:
        return _("%(day)ss at %(time)s") % {"day": listed[0], "time": time}
    short = get_day_names("abbreviated", locale=_locale(reader))
    together = ", ".join(str(short[(one - 1) % 7]) for one in days)
    return _("%(days)s at %(time)s") % {"days": together, "time": time}


# --- numbers and ids ------------------------------------------------------------------------------


def number(count: float | None, reader: Reader) -> str:
    """A number as the reader's language writes it."""
    return "—" if count is None else format_decimal(count, locale=_locale(reader))


def compact(count: int | None, reader: Reader) -> str:
    """A number in few digits, for where the whole one stands beside it: `12.4k`."""
    if count is None:
        return "—"
    for size, sign in ((1_000_000, "M"), (1_000, "k")):
        if count >= size:
            return f"{format_decimal(round(count / size, 1), locale=_locale(reader))}{sign}"
    return number(count, reader)


def money(micros: int | None, reader: Reader) -> str:
    """Millionths of the currency of the alias file, as an amount."""
    if micros is None:
        return "—"
    return format_decimal(micros / 1_000_000, "#,##0.0000", locale=_locale(reader))


def short_id(text: str) -> str:
    """An id, shortened in the middle."""
    half = MOST_ID_CHARS // 2 - 1
    return text if len(text) <= MOST_ID_CHARS else f"{text[:half]}…{text[-half:]}"


def language_names() -> dict[str, str]:
    """Each language by its own name."""
    return {one: (Locale(one).display_name or one).capitalize() for one in ("en", "de")}
