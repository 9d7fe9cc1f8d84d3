"""What a mission reads, as a form chooses it: records that are there, and more to be found."""

from __future__ import annotations

from typing import Any

import msgspec

from mana_actors.http.bodies import BadRequest
from state.log.principals import written_record
from state.log.records import InputRef
from state.log.tables import INPUT_APPS, INPUT_TABLES
from state.sealing.values import is_sealed
from state.store.gateway.own_log import OwnWrites
from supervisor.gateway.pages.owner.consent.records import APPS, kind_of, record_names
from supervisor.gateway.pages.owner.gate import Visit
from supervisor.gateway.pages.owner.parts.tool_words import module_said
from supervisor.gateway.pages.translations import translations_of
from supervisor.gateway.people.made.inputs import inputs_of

MODULES = tuple(dict.fromkeys(sorted(INPUT_APPS.keys() - {"todo"})))
"""Modules that one may choose from; another name for one of them is left out."""
MOST_SHOWN, MOST_FOUND, MOST_SEARCHED, PAGE = 60, 30, 1000, 200
MOST_WORDS = 200
CHOSEN, IN, ADD = "chosen", "in.", "add."
"""A hidden field with every record that is chosen; what the boxes of chosen and found ones begin
with."""


class RecordChoice(msgspec.Struct, frozen=True):
    """A record that a mission may read; its name, and whether only its owner's devices open it."""

    module: str
    id: str
    name: str
    is_sealed: bool = False

    @property
    def word(self) -> str:
        """It, as the API names it."""
        return f"{self.module}:{self.id}"


class InputChoices(msgspec.Struct, frozen=True, kw_only=True):
    """What the form shows: what is chosen, how many more, and what was found.

    `packed` is all that is chosen, as the form brings it back.
    """

    chosen: list[RecordChoice]
    more: int
    packed: str
    module: str
    words: str
    found: list[RecordChoice] | None
    modules: list[tuple[str, str]]


async def refs_of(own: OwnWrites, form: dict[str, str], stored: list[InputRef]) -> list[InputRef]:
    """The records that a form leaves chosen, each once; raises ApiProblem and BadRequest.

    What the mission reads already stays as it is, also where its record is gone since; all else
    must be there.
    """
    try:
        listed = msgspec.json.decode(form.get(CHOSEN) or "[]", type=list[tuple[str, str, str]])
    except msgspec.MsgspecError:
        raise BadRequest(CHOSEN, "is none of this page") from None
    found: dict[InputRef, None] = {}
    words: list[str] = []
    for at, ref in enumerate(InputRef(*one) for one in listed):
        if at < MOST_SHOWN and f"{IN}{at}" not in form:
            continue
        if ref in stored:
            found[ref] = None
        else:
            words.append(f"{ref.module}:{ref.id}")
    words += [name.removeprefix(ADD) for name in form if name.startswith(ADD)]
    refs, _ = await inputs_of(own, words)
    return list(found | dict.fromkeys(refs))


async def choices_of(visit: Visit, refs: list[InputRef], form: dict[str, str]) -> InputChoices:
    """What the form shows of these records, and what it finds by the words that it holds."""
    reader, owners = visit.reader, visit.owners
    shown = refs[:MOST_SHOWN]
    names = await record_names(visit, [(ref.table, ref.id) for ref in shown])
    places = [(APPS[ref.table], ref.table, ref.id) for ref in shown if ref.table in APPS]
    sealed = await owners.records.sealed(visit.caller.user, places)
    module, words = form.get("module", "notes"), " ".join(form.get("words", "").split())
    found = None
    if "find" in form and module in MODULES:
        taken = {(ref.table, ref.id) for ref in refs}
        found = await _found(visit, module, words[:MOST_WORDS], taken)
    return InputChoices(
        chosen=[
            RecordChoice(
                ref.module, ref.id, names[ref.table, ref.id], (ref.table, ref.id) in sealed
            )
            for ref in shown
        ],
        more=len(refs) - len(shown),
        packed=msgspec.json.encode([[ref.module, ref.table, ref.id] for ref in refs]).decode(),
        module=module,
        words=words,
        found=found,
        modules=sorted(((one, module_said(one, reader)) for one in MODULES), key=_by_name),
    )


async def _found(
    visit: Visit, module: str, words: str, taken: set[tuple[str, str]]
) -> list[RecordChoice]:
    """Own records of a module by title; a sealed one has no words, and is shown without any."""
    _ = translations_of(visit.reader.language).gettext
    app, table = INPUT_APPS[module], INPUT_TABLES[module]
    wanted = words.casefold().split()
    found: list[RecordChoice] = []
    after: tuple[str, str] | None = None
    for _page in range(MOST_SEARCHED // PAGE):
        rows = await visit.owners.records.records(
            visit.caller.user, app, table=table, after=after, limit=PAGE
        )
        for each in rows:
            record = None if each.rows is None else written_record(each.rows)
            if record is None or record.gone or (table, each.id) in taken:
                continue
            values: dict[str, Any] = {name: field.value for name, field in record.fields.items()}
            title = values.get("title") or values.get("name")
            closed = any(is_sealed(value) for value in values.values())
            if isinstance(title, str) and not is_sealed(title):
                name = title
            else:
                kind = kind_of(table, visit.reader)
                name = _("%(kind)s, sealed") % {"kind": kind} if closed else kind
            if all(part in name.casefold() for part in wanted):
                found.append(RecordChoice(module, each.id, name, closed))
        if not rows or len(found) >= MOST_FOUND:
            break
        after = rows[-1].table, rows[-1].id
    return sorted(found, key=_name)[:MOST_FOUND]


def _name(choice: RecordChoice) -> str:
    return choice.name.casefold()


def _by_name(module: tuple[str, str]) -> str:
    return module[1].casefold()
