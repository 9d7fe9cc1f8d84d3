"""What is known of the entries of an alias file: by itself, by the services, by their refusals."""

from collections.abc import Callable

import msgspec

from mana_actors.llm.provider import LEAST_OUTPUT, AliasFacts, Exposure
from mana_actors.llm.router.aliases.needs import Lacking
from mana_actors.llm.router.aliases.registry import Registry, Target, is_within
from mana_actors.llm.router.entries.abilities import NOTHING, Abilities, Profile, profile_of
from mana_actors.llm.router.entries.lessons import with_lesson

MOST_ENTRIES = 1000
"""Callers may name models that are in no file; of more than these nothing is remembered."""
CONTEXT_LESSON_S = 3600.0
"""So long a context is believed that a refusal told.

Agents do not ask what cannot fit, so nobody would find out that it was wrong."""


class Knowledge:
    """What holds of each entry of `registry`; a new file begins with a new one."""

    def __init__(self, registry: Registry, clock: Callable[[], float]) -> None:
        self.registry, self._clock = registry, clock
        self._told: dict[Target, Abilities] = {}  # by their services
        self._learnt: dict[Target, Abilities] = {}
        self._context_until: dict[Target, float] = {}
        self._known: dict[Target, Profile] = {}

    def of(self, target: Target) -> Profile:
        """What holds of `target`, and who said it: refusals, then the file, then its service."""
        if target in self._context_until and self._context_until[target] <= self._clock():
            self.forget(target, "context_tokens")
        found = self._known.get(target)
        if found is None:
            if len(self._known) >= MOST_ENTRIES:
                self._known.clear()
            found = self._known[target] = self.with_lesson(target, NOTHING)
        return found

    def with_lesson(self, target: Target, lesson: Abilities) -> Profile:
        """What would hold of `target` with one more lesson."""
        learnt, told = self._learnt.get(target, NOTHING), self._told.get(target, NOTHING)
        return profile_of(
            [
                ("learnt", with_lesson(learnt, lesson)),
                *(("file", said) for said in self.registry.said(target)),
                ("asked", told),
                *(("assumed", each) for each in self.registry.assumed(target)),
            ]
        )

    def tell(self, target: Target, told: Abilities) -> None:
        """Keep what a service said of one of its models; the newest word counts."""
        if target in self._told or len(self._told) < MOST_ENTRIES:
            self._told[target] = told
            self._known.pop(target, None)

    def learn(self, target: Target, lesson: Abilities) -> None:
        """Keep what a refusal taught, for as long as this registry is in force."""
        if target not in self._learnt and len(self._learnt) >= MOST_ENTRIES:
            return
        self._learnt[target] = with_lesson(self._learnt.get(target, NOTHING), lesson)
        self._known.pop(target, None)
        if lesson.context_tokens is not None:
            self._context_until[target] = self._clock() + CONTEXT_LESSON_S

    def forget(self, target: Target, *fields: str) -> None:
        """Take back what was learnt in these fields."""
        learnt = self._learnt.pop(target, NOTHING)
        left = msgspec.structs.replace(learnt, **dict.fromkeys(fields))
        if left != NOTHING:
            self._learnt[target] = left
        if "context_tokens" in fields:
            self._context_until.pop(target, None)
        self._known.pop(target, None)

    def is_doubtful(self, target: Target, lacking: Lacking | None) -> bool:
        """Whether only a refusal said that `target` lacks this, which it may take back."""
        is_taught = target in self._learnt and lacking in ("tools", "vision")
        return is_taught and self.of(target).told_by.get(str(lacking)) == "learnt"

    def facts(self, model: object, exposure: Exposure, configured: frozenset[str]) -> AliasFacts:
        """What `model` costs at most within `exposure`; raises UnknownAlias.

        Entries of providers that are not `configured` count only where no other could serve.
        """
        registry = self.registry
        within = [t for t in registry.chain(model) if is_within(registry.exposure(t), exposure)]
        targets = [target for target in within if target.provider in configured] or within
        if not targets:
            return AliasFacts()
        prices = [price for each in targets if (price := registry.price(each)) is not None]
        per_token = [registry.model(each).bytes_per_token for each in targets]
        contexts = [self.of(each).abilities.context for each in targets]
        pairs = zip(contexts, per_token, strict=True)
        longest, roomiest = max(
            (int(max(0, context - LEAST_OUTPUT) * per), context) for context, per in pairs
        )
        return AliasFacts(
            bytes_per_token=min(per_token),
            context_tokens=min(contexts),
            micros_per_prompt_token=max((each.prompt for each in prices), default=0.0),
            micros_per_completion_token=max((each.completion for each in prices), default=0.0),
            largest_context_tokens=roomiest,
            longest_prompt_bytes=longest,
            unpriced=tuple(each.name for each in targets if registry.price(each) is None),
        )
