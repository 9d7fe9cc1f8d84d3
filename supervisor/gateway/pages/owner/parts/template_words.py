"""What agents to begin with do, in the reader's language. Pure."""

from __future__ import annotations

from supervisor.gateway.pages.reader import Reader
from supervisor.gateway.pages.translations import translations_of


def role_said(role: str, reader: Reader) -> str:
    """A template's role in a line; another stays as it is."""
    _ = translations_of(reader.language).gettext
    known = {
        "Plans the week around what matters": _("Plans the week around what matters"),
        "Keeps tasks and notes in order": _("Keeps tasks and notes in order"),
        "Looks after goals and habits": _("Looks after goals and habits"),
        "Finds what is worth reading": _("Finds what is worth reading"),
    }
    return known.get(role, role)
