"""Fences around data in a prompt, and what is done to data so that it cannot forge one."""

import re

from mana_actors.json_values import as_text

CIPHERTEXT_PREFIX = "enc:1:"
_INVISIBLE = r"[\s\u00ad\u200b-\u200f\u2028-\u202f\u2060-\u2064\ufeff]*+"
_TAG_NAMES = ("data", "agent_persona", "agent_memory", "reminder", "compact-summary", "system")
# What is invisible is taken whole and never given back: else its every place is tried again.
_FORGED = re.compile(
    rf"[<\uff1c\ufe64]({_INVISIBLE}(?:[/\uff0f]{_INVISIBLE})?(?:{'|'.join(_TAG_NAMES)}))(?![a-z0-9])",
    re.IGNORECASE,
)
_CIPHERTEXT = re.compile(r"enc:1:[^\s\"'<>,;)\]}]*")
_NOT_SAFE_IN_LABEL = re.compile(r"[^\w./:@+-]+")


def is_ciphertext(text: str | None) -> bool:
    """Whether `text` is a sealed value, which no model may see."""
    return as_text(text).lstrip().startswith(CIPHERTEXT_PREFIX)


def without_tags(text: str) -> str:
    """`text` in which nothing reads as one of our own tags, and without sealed values or NUL."""
    sealed_out = _CIPHERTEXT.sub("[encrypted]", text)
    return _FORGED.sub(r"&lt;\1", sealed_out).replace("\x00", "")


def fence(text: str, *, number: int, source: str, boundary: str) -> str:
    """`text` between delimiters that it cannot close itself.

    `boundary` is a token of the run that the text's author cannot know; it is also taken out of the
    text. `number` and `source` (module/table) label the block.
    """
    inside = without_tags(text)
    if boundary:
        inside = inside.replace(boundary, "[boundary]")
    label = _NOT_SAFE_IN_LABEL.sub("_", source)[:120]
    opening = f'<data id="{number}" source="{label}" boundary="{boundary}">'
    return f'{opening}\n{inside}\n</data boundary="{boundary}">'
