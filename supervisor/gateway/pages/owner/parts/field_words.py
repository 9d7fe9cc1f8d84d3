"""What is wrong with a field of a form, in the reader's language. Pure.

The API says it in English, as the rules do; one that is not known here is told as it is.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from state.runs.reasons import Language
from supervisor.gateway.api.problems import FieldProblem
from supervisor.gateway.pages.owner.parts.refusal_words import (
    Patterns,
    patterns_of,
    refusal_said,
    translated,
)
from supervisor.gateway.pages.translations import translations_of


def field_said(problem: FieldProblem, language: Language) -> str:
    """A field by its name on the page, and what is wrong with it."""
    label = _labels(translations_of(language).gettext).get(problem.field, problem.field)
    return f"{label} {message_said(problem.message, language)}"


def problem_said(problem: str, language: Language) -> str:
    """What is wrong with a record as it is held, which its reader says as `field: what`."""
    field, colon, what = problem.partition(": ")
    if not colon:
        return problem
    labels = _labels(translations_of(language).gettext)
    label = labels.get(field) or labels.get(field.partition(".")[0]) or field
    return f"{label}: {message_said(what, language)}"


def message_said(message: str, language: Language) -> str:
    """What is wrong, without the field."""
    kinds = _kinds(translations_of(language).gettext)
    said = translated(message, language, _compiled(), field_messages, kinds)
    return refusal_said(message, language) if said is None else said


@cache
def _compiled() -> Patterns:
    return patterns_of(field_messages)


def _labels(_: Callable[[str], str]) -> dict[str, str]:
    return {
        "name": _("Name"),
        "role": _("Role"),
        "avatar": _("Sign"),
        "systemPrompt": _("Persona"),
        "memory": _("What it remembers"),
        "policy": _("What it may do"),
        "maxTokensPerDay": _("Tokens in 24 hours"),
        "maxConcurrentMissions": _("Runs at once"),
        "template": _("Template"),
        "title": _("Title"),
        "title, objective or conceptMarkdown": _("Title, purpose or concept"),
        "conceptMarkdown": _("Concept"),
        "spaceId": _("Shared space"),
        "state": _("State"),
        "nextRunAt": _("Next run"),
        "grant": _("Grant"),
        "iterations": _("Plans"),
        "objective": _("What it is for"),
        "agentId": _("Agent"),
        "every": _("When"),
        "cadence": _("When"),
        "cadence.expression": _("Cron expression"),
        "missedRuns": _("If a run is missed"),
        "inputs": _("What it reads"),
        "timeZone": _("Time zone"),
        "words": _("Your words"),
        "body": _("The form"),
    }


def _kinds(_: Callable[[str], str]) -> dict[str, str]:
    """What the decoder calls kinds of values."""
    return {
        "str": _("text"),
        "str | null": _("text or nothing"),
        "int": _("a whole number"),
        "int | null": _("a whole number or nothing"),
        "array": _("a list"),
        "object": _("an object"),
        "bool": _("true or false"),
    }


def field_messages(_: Callable[[str], str]) -> list[str]:
    """All of them, in one order."""
    return [
        _("is missing"),
        _("are missing"),
        _("is blank"),
        _("is not known here"),
        _("is none of this page"),
        _("is no form of ours"),
        _("has a field twice"),
        _("holds a NUL character"),
        _("is over %(count)s bytes"),
        _("is larger than %(count)s bytes"),
        _("cannot be set"),
        _("is taken"),
        _("is not JSON that can be kept"),
        _("is not a space of yours"),
        _("is not a space of yours any more"),
        _("must be %(kind)s"),
        _("must be %(kind)s, got %(given)s"),
        _("must be one of %(names)s"),
        _("must be one of the values that are known here"),
        _("must not be empty"),
        _("must have at most %(most)s characters"),
        _("must have at most %(most)s entries"),
        _("must be at least %(least)s"),
        _("must be at most %(most)s"),
        _("or cadence can be given, not both"),
        _("or inputs can be given, not both"),
        _("you have no such agent"),
        _("the agent is archived"),
        _("is another member's, and agents run only for their maker"),
        _("is another agent's of yours"),
        _("there is no such record in %(module)s"),
        _("is not a module that can be read: %(modules)s"),
        _("is not a module that can be read: %(modules)s; did you mean %(near)s?"),
        _("must be the name of an IANA time zone, or null"),
        _("must be the name of an IANA time zone, or null; did you mean %(near)s?"),
        _("must have five fields: minute hour day month weekday"),
        _("the %(part)s field is wrong, or matches no day"),
        _("missing, so it runs only when asked"),
        _("unknown, so it runs only when asked"),
        _("over %(count)s characters"),
        _("not a number"),
        _("not an object"),
        _("missing"),
        _("must be finite and at least 1"),
        _("must be a whole number from %(least)s to %(most)s"),
        _("not an object, every tool is denied"),
        _("missing, taken as propose"),
        _("unknown decision, denied"),
        _("%(count)s unknown decision(s), denied"),
        _("encrypted, unreadable here"),
        _("not text"),
        _("not text, ignored"),
        _("not a list, taken as empty"),
        _("not an object, ignored"),
        _("%(count)s entries are not objects, ignored"),
        _("%(count)s entries without module, table or id"),
        _("unknown, taken as paused"),
        _("unknown, taken as one"),
        _("not an instant, never due"),
        _("must be a number of at least 0, taken as 0"),
        _("must be a whole number, 0 or more, taken as 1"),
        _("is empty"),
        _("is given twice"),
        _("is longer than %(count)s bytes"),
        _("is not percent-encoded UTF-8"),
        _("is not known here; known are %(names)s"),
        _("is not a cursor of this list"),
        _("is no id"),
        _("is not a module that is known here"),
        _("is not a date like %(example)s"),
        _("is more than a year away"),
        _("is not the id of a proposal"),
        _("is not a proposal of yours"),
        _("is not a tool that proposes something"),
        _("is in the past"),
        _("is no version of this file"),
    ]
