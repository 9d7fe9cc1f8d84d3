"""What a person's records are called, as far as they are readable without the person's key."""

from __future__ import annotations

from collections.abc import Iterable

from state.log.own_changes import RecordAt
from state.log.tables import INPUT_APPS, INPUT_TABLES
from state.sealing.values import is_sealed
from supervisor.gateway.pages.owner.gate import Visit
from supervisor.gateway.pages.reader import Reader
from supervisor.gateway.pages.translations import translations_of

MOST_NAMED = 60
"""Records that are read for their names on one page; others are called by table and id."""
APPS = {INPUT_TABLES[module]: app for module, app in INPUT_APPS.items()}
"""The sync channel of each table that missions read."""


def kind_of(table: str, reader: Reader) -> str:
    """What a record of a table is, in a word."""
    _ = translations_of(reader.language).gettext
    known = {
        "notes": _("note"),
        "tasks": _("task"),
        "events": _("event"),
        "journalEntries": _("journal entry"),
        "kontextDoc": _("context document"),
        "userContext": _("profile"),
        "companionGoals": _("goal"),
    }
    return known.get(table, table)


async def record_names(
    visit: Visit, wanted: Iterable[tuple[str, str]]
) -> dict[tuple[str, str], str]:
    """Names by table and id: a title that is readable, else what kind of record it is."""
    _ = translations_of(visit.reader.language).gettext
    named: dict[tuple[str, str], str] = {}
    async with visit.owners.own_log.acting(visit.caller.user, visit.caller.spaces) as own:
        for table, id_ in list(dict.fromkeys(wanted)):
            kind = kind_of(table, visit.reader)
            if table not in APPS or len(named) >= MOST_NAMED:
                named[table, id_] = kind
                continue
            record = await own.record(RecordAt(APPS[table], table, id_), "nothing")
            title = record.fields.get("title") or record.fields.get("name")
            if not record.exists:
                named[table, id_] = _("%(kind)s, not there any more") % {"kind": kind}
            elif isinstance(title, str) and not is_sealed(title):
                named[table, id_] = title
            else:
                sealed = isinstance(title, str)
                named[table, id_] = _("%(kind)s, sealed") % {"kind": kind} if sealed else kind
    return named
