"""What the attempts of a request spent that brought no answer, on its way from router to client."""

from collections.abc import Mapping
from typing import Self

import msgspec

from mana_actors.llm.headers import (
    SPENT_MICROS_HEADER,
    SPENT_TOKENS_HEADER,
    UNREPORTED_HEADER,
    count_in,
)


class Wasted(msgspec.Struct, frozen=True):
    """Tokens that failed attempts reported, their price, and how many may have spent in silence.

    Whoever reads it owes `tokens` beside what the answer itself cost, and for each of `unreported`
    the most that a call can cost.
    """

    tokens: int = 0
    micros: int = 0
    unreported: int = 0

    def plus(self, tokens: int, micros: int, unreported: int = 0) -> "Wasted":
        """This, and one more attempt."""
        return Wasted(self.tokens + tokens, self.micros + micros, self.unreported + unreported)

    @property
    def headers(self) -> dict[str, str]:
        """As headers of an answer or an error; none where nothing was wasted."""
        told = (
            (SPENT_TOKENS_HEADER, self.tokens),
            (SPENT_MICROS_HEADER, self.micros if self.tokens else 0),
            (UNREPORTED_HEADER, self.unreported),
        )
        return {name: str(count) for name, count in told if count}

    @classmethod
    def of(cls, headers: Mapping[str, str]) -> Self:
        """What the headers of a router say (names in lower case); nonsense counts as nothing."""
        names = (SPENT_TOKENS_HEADER, SPENT_MICROS_HEADER, UNREPORTED_HEADER)
        return cls(*(count_in(headers.get(name)) or 0 for name in names))
