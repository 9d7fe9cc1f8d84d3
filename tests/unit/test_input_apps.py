"""What a capability's scope lists."""

from state.log.records import InputRef
from state.log.tables import scope_of
from state.rules.policy import parse_policy

READS_NOTES, _ = parse_policy({"tools": {"list_notes": "auto"}, "defaultForAi": "deny"})
INPUTS = [
    InputRef("notes", "notes", "n1"),
    InputRef("notes", "notes", "n1"),
    InputRef("notes", "notesOther", "n2"),
    InputRef("goals", "companionGoals", "g1"),
    InputRef("unknown", "notes", "n3"),
]


def test_each_input_of_a_known_module_is_listed_once() -> None:
    assert scope_of(INPUTS) == [
        "companion/companionGoals/g1",
        "notes/notes/n1",
        "notes/notesOther/n2",
    ]


def test_records_of_a_table_that_is_listed_whole_are_not_listed_besides() -> None:
    assert scope_of(INPUTS, READS_NOTES) == [
        "companion/companionGoals/g1",
        "notes/notes/*",
        "notes/notesOther/n2",
    ]
