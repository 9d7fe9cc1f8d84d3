"""What a model made of decrypted inputs, sealed for its owner (docs/sealing.md has the format).

Each iteration has a content key. It seals all that is not named readable here, and is itself sealed
to the owner's key. This hides the text but does not prove who wrote it: whoever has the public key
can seal.
"""
# ruff: noqa: PLC0415 - agents load cryptography with their first grant

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, cast

import msgspec

from state.grants import scopes
from state.log.iterations import Iteration
from state.sealing import forgiving_base64
from state.sealing.hpke import hpke_opened, hpke_sealed
from state.sealing.key_pairs import OwnerKey
from state.sealing.values import (
    CiphertextMalformed,
    CiphertextRejected,
    DataKey,
    is_sealed,
    opened,
    sealed_whatever,
)

SHOWN = "(sealed for its owner)"
_INFO = b"mana-derived-text:1:"

Shape = Mapping[str, Any]
"""What stays readable: a name with None, or with the shape of the object or list under it."""

_READABLE: Shape = {
    **dict.fromkeys(("id", "startedAt", "finishedAt", "overallStatus", "source")),
    **dict.fromkeys(("usedEncryptedInputs", "sealedFor", "userFeedback")),
    **dict.fromkeys(("currentPhase", "phaseStartedAt", "cancelRequested")),
    "errorDetails": {"name": None},
    "plan": {
        **dict.fromkeys(("id", "status", "proposalId")),
        "intent": dict.fromkeys(("kind", "toolName")),
    },
}
_NEVER_PLAIN = frozenset({"summary", "rationale", "params", "body"})

Change = Callable[[str, Any], Any]


class Place(msgspec.Struct, frozen=True):
    """Where an iteration belongs; what is sealed for one place opens at no other."""

    user_id: str
    mission_id: str
    iteration_id: str


class SealedFor(msgspec.Struct, frozen=True, rename="camel"):
    """For whom an iteration is sealed: `sealed_key` is base64 of the content key under HPKE."""

    key_id: str
    sealed_key: str


def sealed_iteration(
    iteration: Iteration,
    owner: OwnerKey,
    place: Place,
    content_key: DataKey,
    new_iv: Callable[[], bytes],
) -> Iteration:
    """The iteration with everything but ids, tools, states and times sealed for its owner.

    `content_key` is fresh and for this iteration alone. Raises ValueError on an owner's key that
    seals nothing.
    """
    wrapped = hpke_sealed(content_key.material, owner.public_key, _info(place))
    as_written = msgspec.json.decode(msgspec.json.encode(iteration))  # with what JSON can say
    hidden = _changed(
        as_written, _READABLE, lambda _, value: sealed_whatever(value, content_key, new_iv())
    )
    told = SealedFor(owner.id, forgiving_base64.encoded(wrapped))
    return {**hidden, "sealedFor": msgspec.to_builtins(told)}


def opened_iteration(iteration: Iteration, private_key: bytes, place: Place) -> Iteration:
    """The iteration as it was before it was sealed; one that is not sealed comes back as it is.

    Raises SealingError where it was tampered with, or sealed for another place or another key.
    """
    if "sealedFor" not in iteration:
        return iteration
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

    private = X25519PrivateKey.from_private_bytes(private_key)
    try:
        told = msgspec.convert(iteration["sealedFor"], SealedFor)
        wrapped = forgiving_base64.decoded(told.sealed_key)
        content_key = DataKey(hpke_opened(wrapped or b"", private, _info(place)))
    except InvalidTag:
        raise CiphertextRejected from None
    except (msgspec.ValidationError, ValueError):
        raise CiphertextMalformed from None
    with content_key as key:
        plain = _changed(iteration, _READABLE, lambda name, value: _opened(name, value, key))
    return {name: value for name, value in plain.items() if name != "sealedFor"}


def shown_iteration(iteration: Iteration) -> Iteration:
    """The iteration for people who cannot open it; no ciphertext is in it."""
    if "sealedFor" not in iteration:
        return iteration
    shown = _changed(iteration, _READABLE, lambda _, value: SHOWN if is_sealed(value) else value)
    return {name: value for name, value in shown.items() if name != "sealedFor"}


def tells_derived_text(iterations: Iterable[Mapping[str, Any]]) -> bool:
    """Whether one of these is readable though made of decrypted inputs; so is what quotes it."""
    return any(
        iteration.get("usedEncryptedInputs") and "sealedFor" not in iteration
        for iteration in iterations
    )


def _changed(value: Any, readable: Shape, change: Change) -> Any:
    """`value` with `change` applied to every member that is not named in `readable`."""
    if isinstance(value, list):
        return [_changed(each, readable, change) for each in cast("list[Any]", value)]
    if not isinstance(value, dict):
        return change("", value)
    changed: dict[str, Any] = {}
    for name, member in cast("dict[str, Any]", value).items():
        if name not in readable:
            changed[name] = change(name, member)
        else:
            below = readable[name]
            changed[name] = member if below is None else _changed(member, below, change)
    return changed


def _opened(name: str, value: Any, key: DataKey) -> Any:
    if name in _NEVER_PLAIN and value is not None and not is_sealed(value):
        raise CiphertextMalformed
    return opened(value, key)


def _info(place: Place) -> bytes:
    return _INFO + scopes.canonical([place.user_id, place.mission_id, place.iteration_id])
