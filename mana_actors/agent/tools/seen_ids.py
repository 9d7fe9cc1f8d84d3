"""Which record ids a model was shown in a run: it may propose changes of no others."""

import re
from collections.abc import Iterable

MAX_ID_CHARS = 512


class SeenIds:
    """The ids known from inputs and readings, and the texts in which others may stand."""

    def __init__(self, ids: Iterable[str] = (), texts: Iterable[str] = ()) -> None:
        self._ids = set(ids)
        self._texts = list(texts)

    def add(self, ids: Iterable[str]) -> None:
        """Remember that the model was shown these."""
        self._ids.update(ids)

    def was_seen(self, record_id: str) -> bool:
        """Whether the id was shown, by itself or as a whole word of a text."""
        if not record_id.strip() or len(record_id) > MAX_ID_CHARS:
            return False
        word = re.compile(rf"(?<![\w-]){re.escape(record_id)}(?![\w-])")
        return record_id in self._ids or any(word.search(text) for text in self._texts)
