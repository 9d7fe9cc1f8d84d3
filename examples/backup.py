"""Write all of one's data into a file, one record a line, and put it back.

    python examples/backup.py --url http://localhost:3067 --token-file token save backup.jsonl
    python examples/backup.py --url http://localhost:3067 --token-file token restore backup.jsonl

`restore` writes what is missing or was deleted since; a record that is there stays as it is now.
Sealed fields are saved sealed: who has the file needs the owner's key to read them.
"""

import argparse
import asyncio
import json
import os
import sys
import tempfile
from pathlib import Path

from mana_actors.client import APPS, Client, NotSignedIn, ServerAway, ServerRefused, WriteRefused


def arguments() -> argparse.Namespace:
    """Which way, and which file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("command", choices=("save", "restore"))
    parser.add_argument("file", type=Path)
    parser.add_argument("--url", required=True, help="the server to read from")
    parser.add_argument("--token-file", type=Path, required=True, help="of `mana people token`")
    parser.add_argument("--apps", nargs="*", default=sorted(set(APPS.values())), metavar="APP")
    return parser.parse_args()


async def read(client: Client, apps: list[str]) -> None:
    """Everything of these apps, saying how far it is."""
    for number, app in enumerate(apps, 1):
        print(f"\rreading {number} of {len(apps)}: {app:12}", end="", file=sys.stderr)
        await client.sync(app)
    print(file=sys.stderr)


async def save(client: Client, path: Path) -> int:
    """The file whole, or as it was before; readable by its owner only."""
    count, new = 0, path.with_name(f"{path.name}.new")
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        for name in await client.tables():
            for record in await client.table(name).list():
                place = {"app": name.app, "table": name.table, "id": record.id}
                line = place | {"fields": record.fields}
                file.write(json.dumps(line, ensure_ascii=False) + "\n")
                count += 1
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)
    return count


async def restore(client: Client, lines: list[str]) -> int:
    """What a backup has and the server has not."""
    count = 0
    for number, line in enumerate(lines, 1):
        try:
            kept = json.loads(line)
            table, record_id = client.table(kept["table"], kept["app"]), kept["id"]
            if await table.get(record_id) is None:
                await table.put(record_id, kept["fields"])
                count += 1
        except (ValueError, KeyError, TypeError) as problem:
            raise WriteRefused(f"line {number}", "is no record of a backup") from problem
    return count


async def main() -> None:
    """One way or the other, by a local store that is thrown away afterwards."""
    given = arguments()
    token = given.token_file.read_text().strip()
    lines: list[str] = []
    if given.command == "restore":
        lines = given.file.read_text("utf-8").splitlines()
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder, "all.db")
        async with Client.open(store, url=given.url, token=token, live=False) as client:
            await read(client, given.apps)
            if given.command == "save":
                print(f"{await save(client, given.file)} records are in {given.file}.")
                return
            count = await restore(client, lines)
            await client.sync()
            print(f"{count} records were put back.")


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except (NotSignedIn, ServerAway, ServerRefused, WriteRefused, OSError) as problem:
        sys.exit(str(problem))
