"""What pages say, in each language: catalogues in gettext's format, with their plural rules."""

from __future__ import annotations

import gettext
import io
from functools import cache
from importlib import resources

from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po

from state.runs.reasons import Language


@cache
def translations_of(language: Language) -> gettext.NullTranslations:
    """The catalogue of a language; English is what the pages are written in."""
    if language == "en":
        return gettext.NullTranslations()
    source = resources.files("supervisor.gateway.pages").joinpath("catalogues", f"{language}.po")
    compiled = io.BytesIO()
    with source.open("rb") as file:
        write_mo(compiled, read_po(file, locale=language))
    compiled.seek(0)
    return gettext.GNUTranslations(compiled)
