"""Long messages travel with the call, so that no capability is left in Ray's shared memory."""

from types import SimpleNamespace

from mana_actors.messages import Identity, Order, Orders, decode_for_agent, encode
from mana_actors.remote import PIECE_BYTES, RayProcess, in_pieces

LONG = Orders(1, "c" * (3 * PIECE_BYTES), (Order("m1", 1),))


def test_pieces_are_short_and_together_the_message() -> None:
    for raw in (b"", b"x", encode(LONG)):
        pieces = in_pieces(raw)
        assert b"".join(pieces) == raw
        assert max(map(len, pieces)) <= PIECE_BYTES


async def test_a_long_message_is_told_in_pieces_and_understood() -> None:
    told: list[tuple[bytes, ...]] = []

    async def remote(*pieces: bytes) -> bytes:
        told.append(pieces)
        return encode(Identity("agent-1", 1, "r1"))

    process = RayProcess("agent-1", SimpleNamespace(tell=SimpleNamespace(remote=remote)))
    await process.tell(LONG)
    assert max(map(len, told[0])) <= PIECE_BYTES
    assert decode_for_agent(b"".join(told[0])) == LONG
