"""The headers that our router and its callers tell each other more by than the wire format has."""

EXPOSURE_HEADER = "x-mana-llm-exposure"
"""Of a request: how far its prompt may travel; of an answer: how far it did."""
DEADLINE_HEADER = "x-mana-llm-deadline"
"""Of a request: the seconds that its caller waits."""
SAID_BY_HEADER = "x-mana-llm-said-by"
"""Of a request: whose turns its messages are, as JSON: place of the message → `provider/model`."""
RESOLVED_HEADER = "x-mana-llm-resolved"
"""Of an answer: the entry that gave it, as `provider/model`."""
CONTEXT_HEADER = "x-mana-llm-context"
"""Of an answer: the context of that entry in tokens."""
COST_HEADER = "x-mana-llm-cost-micros"
"""Of an answer: its price in micro-units, where it says what it cost."""
CARRIED_LOST_HEADER = "x-mana-llm-carried-lost"
"""Of an answer: how many turns did not bring their model what they carry, for another served."""
SPENT_TOKENS_HEADER = "x-mana-llm-spent-tokens"
SPENT_MICROS_HEADER = "x-mana-llm-spent-micros"
UNREPORTED_HEADER = "x-mana-llm-unreported"
"""Of an answer or an error: what failed attempts reported, its price, and how many said nothing."""

_MOST_DIGITS = 15


def count_in(header: str | None) -> int | None:
    """The whole number that a header says, None where it says none."""
    text = header or ""
    is_count = text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS
    return int(text) if is_count else None
