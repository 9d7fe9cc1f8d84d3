"""Answers a proposal and dies by SIGKILL at a point: `inbox_worker DSN PASSWORD_FILE ID POINT`.

A point `claim_…` is of a claim by the device `d-1`, one `told_…` of what it tells after that.
"""

import asyncio
import os
import signal
import sys

from state.proposals.answers import Approve
from state.store.connect import Access, Database
from state.store.gateway.carry_out import Answering
from state.store.gateway.proposals import ProposalStore
from supervisor.gateway.people.inbox.shelf import CatalogueShelf


async def main(dsn: str, password_file: str, proposal: str, point: str) -> None:
    """One answer; an empty id stages mission m1 instead."""

    def reached(name: str) -> None:
        if name == point:
            os.kill(os.getpid(), signal.SIGKILL)

    database = Database(Access(dsn, "mana_gateway", password_file), max_connections=2)
    store = ProposalStore(database, CatalogueShelf(), crash=reached)
    if point.startswith("claim_"):
        await store.claim(Answering("u1"), proposal, "d-1")
    elif point.startswith("told_"):
        await store.finish(Answering("u1"), proposal, "d-1", None)
    elif proposal:
        await store.answer(Answering("u1"), proposal, Approve())
    else:
        await store.stage(Answering("u1"), "m1")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:5]))
