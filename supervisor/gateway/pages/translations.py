"""What pages say, in each language: catalogues in gettext's format, with their plural rules."""

from __future__ import annotations

import gettext
import io
from functools import cache
from importlib import resources
from operator import attrgetter

from babel.messages.catalog import Catalog
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po

from state.runs.reasons import Language


@cache
def translations_of(language: Language) -> gettext.NullTranslations:
    """The catalogue of a language, of one file per group of pages.

    English is what the pages are written in.
    """
    if language == "en":
        return gettext.NullTranslations()
    folder = resources.files("supervisor.gateway.pages").joinpath("catalogues", language)
    whole = Catalog(locale=language)
    for source in sorted(folder.iterdir(), key=attrgetter("name")):
        with source.open("rb") as file:
            for message in read_po(file, locale=language):
                if message.id:
                    whole[message.id] = message
    compiled = io.BytesIO()
    write_mo(compiled, whole)
    compiled.seek(0)
    return gettext.GNUTranslations(compiled)
