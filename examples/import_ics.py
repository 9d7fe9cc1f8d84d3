"""Put the events of an iCalendar file (RFC 5545) into one's calendar.

    python examples/import_ics.py --url http://localhost:3067 --token-file token holidays.ics

The same file again changes what changed in it and doubles nothing: an event's id is made of its
UID. Recurring events keep their rule and are entered once.
"""

import argparse
import asyncio
import sys
import uuid
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from icalendar import Calendar, Event

from mana_actors.client import Client, NotSignedIn, ServerAway, ServerRefused, WriteRefused

OURS = uuid.UUID("6f1b8f0e-5d3c-4c57-9d5e-2f7d6a0c9b11")
CALENDAR = "imported"


def arguments() -> argparse.Namespace:
    """Which file, and into whose calendar."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("file", type=Path)
    parser.add_argument("--store", type=Path, default=Path("calendar.db"), help="kept here first")
    parser.add_argument("--url", required=True, help="the server to sync with")
    parser.add_argument("--token-file", type=Path, required=True, help="of `mana people token`")
    return parser.parse_args()


def events_in(path: Path) -> list[Event]:
    """The events of a file; ends the program where it is none."""
    try:
        calendar = Calendar.from_ical(path.read_bytes())
    except (OSError, ValueError) as problem:
        sys.exit(f"{path} cannot be read as iCalendar: {problem}")
    found = calendar.walk("VEVENT")
    return [one for one in found if isinstance(one, Event) and "UID" in one and "DTSTART" in one]


def moment(value: date | datetime) -> str:
    """As records have times: an instant in UTC; without a zone, and for whole days, as it is."""
    if isinstance(value, datetime) and value.tzinfo is not None:
        return value.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return value.isoformat()


def records_of(event: Event) -> tuple[str, dict[str, Any], str, dict[str, Any]]:
    """An event and the block of time that it takes: the id and the fields of each."""
    name = f"{event['UID']} {event.get('RECURRENCE-ID', '')}"
    event_id, block_id = (str(uuid.uuid5(OURS, f"{kind} {name}")) for kind in ("event", "block"))
    start, end = event.start, event.end
    zone = getattr(event.DTSTART, "tzinfo", None)
    rule = event.get("RRULE")
    said = {
        "title": str(event.get("SUMMARY", "")) or "(untitled)",
        "description": str(event["DESCRIPTION"]) if "DESCRIPTION" in event else None,
    }
    block = said | {
        "startDate": moment(start),
        "endDate": moment(end),
        "allDay": not isinstance(start, datetime),
        "timezone": str(zone) if zone else None,
        "recurrenceRule": rule.to_ical().decode() if rule else None,
        "kind": "scheduled",
        "type": "event",
        "sourceModule": "calendar",
        "sourceId": event_id,
    }
    shown = said | {
        "calendarId": CALENDAR,
        "timeBlockId": block_id,
        "location": str(event["LOCATION"]) if "LOCATION" in event else None,
    }
    return event_id, shown, block_id, block


async def main() -> None:
    """Keep all of the file here in one go, and push it."""
    given = arguments()
    events = events_in(given.file)
    async with Client.open(
        given.store, url=given.url, token=given.token_file.read_text().strip(), live=False
    ) as client:
        await client.sync("calendar", "timeblocks")
        async with client.transaction():
            await client.table("calendars", "calendar").put(CALENDAR, {"name": "Imported"})
            for event in events:
                event_id, shown, block_id, block = records_of(event)
                await client.table("timeBlocks", "timeblocks").put(block_id, block)
                await client.table("events").put(event_id, shown)
        changed = sum([app.waiting for app in await client.status()])
        await client.sync("timeblocks", "calendar")
    print(f"{len(events)} events; {changed} changes were pushed.")


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except (NotSignedIn, ServerAway, ServerRefused, WriteRefused) as problem:
        sys.exit(str(problem))
