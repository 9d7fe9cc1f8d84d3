"""How large a first call is, for missions as people write them: what fits, beside every tool.

Tokens are bytes of the request by two, as holds count them where an alias says nothing else. A real
tokenizer finds fewer: about one for four bytes of this mix of JSON, German and English.
"""

from tests.bench.figures import Figure, Say, median
from tests.missions import DEMO, OTHERS, conversation, first_bytes, missing

BYTES_PER_TOKEN = 2
MOST_TOKENS = 6000


async def measure(say: Say, *, quick: bool) -> list[Figure]:
    """One row for each mission; `met` also says that its plan can be as good as with every tool."""
    found: list[Figure] = []
    for wanted in DEMO if quick else (*DEMO, *OTHERS):
        fitting, whole = conversation(wanted, "fitting"), conversation(wanted, "all")
        tokens, before = (first_bytes(each) // BYTES_PER_TOKEN for each in (fitting, whole))
        lacking = missing(wanted, fitting)
        say(f"{wanted.name}: lacks {', '.join(lacking) or 'nothing'}")
        found.append(
            Figure(
                name=f"first call: {wanted.name}",
                value=tokens,
                unit="tokens",
                beside=f"{len(whole.tools)} tools, here {len(fitting.tools)}",
                other=before,
                ratio=tokens / before,
                target=f"<= {MOST_TOKENS:,}",
                met=tokens <= MOST_TOKENS and not lacking,
            )
        )
    middle, largest = median([each.value for each in found]), max(each.value for each in found)
    say(f"median {middle:.0f} tokens, largest {largest:.0f}")
    return found
