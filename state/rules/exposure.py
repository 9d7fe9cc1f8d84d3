"""How far a mission's prompts may travel: the deployment says, and an owner may only lower it."""

from collections.abc import Mapping
from typing import Any, Literal, cast

Exposure = Literal["local", "eu", "any"]
"""This machine, a provider in the EU, or anywhere; each includes those before it."""

ORDER: tuple[Exposure, ...] = ("local", "eu", "any")


def exposure_allowed(mission_record: Mapping[str, Any], deployment: Exposure) -> Exposure:
    """The most that a run of this mission may use, never more than the deployment's own.

    A grant that names an exposure lowers it. A grant that is not an object, or names an exposure
    nobody knows, counts as "local": whoever wrote it meant to restrict.
    """
    grant = mission_record.get("grant")
    if grant is None:
        return deployment
    if not isinstance(grant, dict):
        return "local"
    wanted = cast("dict[str, Any]", grant).get("exposure")
    return deployment if wanted is None else lower_of(known_exposure(wanted), deployment)


def lower_of(one: Exposure, other: Exposure) -> Exposure:
    """The more restrictive of two."""
    return one if ORDER.index(one) <= ORDER.index(other) else other


def known_exposure(value: object) -> Exposure:
    """`value` if it is an exposure, else the most restrictive one."""
    for each in ORDER:
        if each == value:
            return each
    return "local"
