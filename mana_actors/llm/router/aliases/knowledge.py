"""What is known of the entries of an alias file: by itself, by the services, by their refusals."""

from mana_actors.llm.provider import AliasFacts, Exposure
from mana_actors.llm.router.aliases.registry import Registry, Target, is_within
from mana_actors.llm.router.entries.abilities import NOTHING, Abilities, Profile, profile_of

MOST_ENTRIES = 1000
"""Callers may name models that are in no file; of more than these nothing is remembered."""


class Knowledge:
    """What holds of each entry of `registry`; a new file begins with a new one."""

    def __init__(self, registry: Registry) -> None:
        self.registry = registry
        self._told: dict[Target, Abilities] = {}  # by their services
        self._learnt: dict[Target, Abilities] = {}
        self._known: dict[Target, Profile] = {}

    def of(self, target: Target) -> Profile:
        """What holds of `target`, and who said it: refusals, then the file, then its service."""
        found = self._known.get(target)
        if found is None:
            if len(self._known) >= MOST_ENTRIES:
                self._known.clear()
            learnt, told = self._learnt.get(target, NOTHING), self._told.get(target, NOTHING)
            found = self._known[target] = profile_of(
                [
                    ("learnt", learnt),
                    *(("file", said) for said in self.registry.said(target)),
                    ("asked", told),
                    *(("assumed", each) for each in self.registry.assumed(target)),
                ]
            )
        return found

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
        return AliasFacts(
            bytes_per_token=min(per_token),
            context_tokens=min(contexts),
            micros_per_prompt_token=max((each.prompt for each in prices), default=0.0),
            micros_per_completion_token=max((each.completion for each in prices), default=0.0),
            largest_context_tokens=max(contexts),
            unpriced=tuple(each.name for each in targets if registry.price(each) is None),
        )
