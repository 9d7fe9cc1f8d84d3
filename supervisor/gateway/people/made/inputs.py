"""What a mission reads, in words: `goals` is every record of a module, `notes:ID` one of them."""

import difflib
from collections.abc import Sequence

from state.log.own_changes import RecordAt
from state.log.records import InputRef
from state.log.tables import INPUT_APPS, INPUT_TABLES, READ_TABLES
from state.store.gateway.own_log import OwnWrites
from supervisor.gateway.api.problems import invalid

MAX_OF_MODULE = 1000
"""As many as one grant may name."""


async def inputs_of(own: OwnWrites, words: Sequence[str]) -> tuple[list[InputRef], list[str]]:
    """The records that these words name, each once, and what was made of whole modules.

    A module alone means the records that it has now, at most 1,000, the newest. Raises ApiProblem
    for a module that nobody knows, and for a record that is not there.
    """
    found: dict[InputRef, None] = {}
    notes: list[str] = []
    wrong: list[tuple[str, str]] = []
    for number, word in enumerate(words):
        module, _, record = (part.strip() for part in word.partition(":"))
        field = f"read[{number}]"
        if module not in INPUT_APPS:
            near = difflib.get_close_matches(module, INPUT_APPS, 1)
            hint = f"; did you mean {near[0]}?" if near else ""
            known = ", ".join(sorted(INPUT_APPS))
            wrong.append((field, f"is not a module that can be read: {known}{hint}"))
        elif record:
            at = RecordAt(INPUT_APPS[module], INPUT_TABLES[module], record)
            if (await own.record(at, "nothing")).exists:
                found[InputRef(module, at.table, record)] = None
            else:
                wrong.append((field, f"there is no such record in {module}"))
        else:
            ids = await _all_of(own, module)
            found |= dict.fromkeys(InputRef(module, INPUT_TABLES[module], id_) for id_ in ids)
            notes.append(_said(module, len(ids)))
    if wrong:
        raise invalid(*wrong)
    return list(found), notes


async def _all_of(own: OwnWrites, module: str) -> list[str]:
    app, table = INPUT_APPS[module], INPUT_TABLES[module]
    there: list[str] = []
    for id_ in await own.newest_ids(app, table, 2 * MAX_OF_MODULE):  # some of them are deleted
        if (
            len(there) < MAX_OF_MODULE
            and (await own.record(RecordAt(app, table, id_), "nothing")).exists
        ):
            there.append(id_)
    return there


def _said(module: str, count: int) -> str:
    tools = [name for name, of in READ_TABLES.items() if of.table == INPUT_TABLES[module]]
    most = f" (the newest {MAX_OF_MODULE})" if count == MAX_OF_MODULE else ""
    later = f"; later ones it finds with {tools[0]}" if tools else "; later ones are not among them"
    return f"{module}: {count} records as of now{most}{later}"
