"""What the runs of one agent work with; the same for every attempt of its process."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from mana_actors.agent.attempt.lease import LeaseKeeper
from mana_actors.agent.inputs.resolvers import Resolver
from mana_actors.agent.recall import Recall
from mana_actors.crash import CrashPoint
from mana_actors.keys.client import KeyHolder
from mana_actors.llm.provider import ModelProvider
from mana_actors.messages import AgentSettings
from state.store.agent import AgentStore


class Means(msgspec.Struct, frozen=True):
    """Whose runs they are, and the doors to database, model and keys."""

    user_id: str
    agent_id: str
    holder: str
    settings: AgentSettings
    recall: Recall
    store: AgentStore
    provider: ModelProvider
    key_holder: KeyHolder | None
    leases: LeaseKeeper
    resolvers: Mapping[str, Resolver]
    crash: CrashPoint

    @property
    def held_a_key(self) -> bool:
        """True once a data key was here, and with it decrypted text.

        Such a process must not be used again, because Python cannot wipe memory.
        """
        return self.key_holder is not None and self.key_holder.has_released
