"""A to-do list in the terminal. It works without a network; `sync` catches up.

python examples/todo.py add "Buy bread"
python examples/todo.py list
python examples/todo.py done 1
python examples/todo.py --url http://localhost:3067 --token-file token sync
"""

import argparse
import asyncio
import sys
from datetime import UTC, datetime
from pathlib import Path

from mana_actors.client import Client, NotSignedIn, ServerAway, ServerRefused, ShownRecord


def arguments() -> argparse.Namespace:
    """What to do, and with which list."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--store", type=Path, default=Path("todo.db"), help="where it is kept")
    parser.add_argument("--url", help="the server to sync with")
    parser.add_argument("--token-file", type=Path, help="a personal token of `mana people token`")
    parser.add_argument("--user", help="whose list a new one is, where no token says it")
    what = parser.add_subparsers(dest="command", required=True)
    add = what.add_parser("add", help="a new task")
    add.add_argument("title")
    for name, text in (("done", "it is done"), ("undo", "it is not"), ("drop", "delete it")):
        one = what.add_parser(name, help=text)
        one.add_argument("number", type=int, help="as `list` shows it")
    what.add_parser("list", help="all that are not deleted")
    what.add_parser("sync", help="send what waits here, and read what is new")
    return parser.parse_args()


async def tasks_of(client: Client) -> list[ShownRecord]:
    """Open ones first, each group in the order in which they were made."""
    tasks = await client.table("tasks").list()
    return sorted(
        tasks, key=lambda one: (bool(one.get("isCompleted")), one.get("createdAt", ""), one.id)
    )


async def changed(client: Client, command: str, number: int) -> None:
    """One task of the list, done, open again or deleted."""
    tasks = await tasks_of(client)
    if not 1 <= number <= len(tasks):
        sys.exit(f"There is no task {number}: see `list`.")
    table, record_id = client.table("tasks"), tasks[number - 1].id
    if command == "drop":
        await table.delete(record_id)
        return
    is_done = command == "done"
    completed_at = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    await table.update(
        record_id, {"isCompleted": is_done, "completedAt": completed_at if is_done else None}
    )


async def shown(client: Client) -> None:
    """The list, and what the server does not know yet."""
    for number, task in enumerate(await tasks_of(client), 1):
        mark = "x" if task.get("isCompleted") else " "
        print(f"{number:3} [{mark}] {task.get('title')}")
    waiting = sum([app.waiting for app in await client.status()])
    if waiting:
        print(f"{waiting} changes wait for `sync`.")


async def main() -> None:
    """One command."""
    given = arguments()
    token = given.token_file.read_text().strip() if given.token_file else None
    async with Client.open(
        given.store, url=given.url, token=token, user=given.user, live=False
    ) as client:
        match given.command:
            case "add":
                await client.table("tasks").insert({"title": given.title, "isCompleted": False})
            case "done" | "undo" | "drop":
                await changed(client, given.command, given.number)
            case "sync":
                await client.sync("todo")
            case _:
                pass
        await shown(client)


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except NotSignedIn:
        sys.exit("Who is it? Give --user for a new list, --url and --token-file for `sync`.")
    except (ServerAway, ServerRefused) as problem:
        sys.exit(f"{problem}. What you wrote is kept here.")
