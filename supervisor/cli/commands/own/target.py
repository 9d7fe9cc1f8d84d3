"""Which agent or mission a person means on the command line."""

from typing import TYPE_CHECKING

from mana_actors.http.paths import path_of
from supervisor.cli.failures import USAGE, Failure
from supervisor.cli.options import PersonOptions

if TYPE_CHECKING:
    from supervisor.cli.gateway_client import Gateway

AGENTS = "/api/v1/me/agents"
MISSIONS = "/api/v1/me/missions"
PAGE = 200
"""The most that a list of `/api/v1/me` gives at once."""


def place_of(path: str, target: str, person: PersonOptions) -> tuple["Gateway", str]:
    """The client of the person who is meant, and the path of the agent or mission of theirs."""
    user, said = whose(target, person.as_user)
    me = person._replace(as_user=user).client()
    return me, path_of(path, id_of(me, path, said))


def whose(target: str, as_user: str | None) -> tuple[str | None, str]:
    """The person and the id in USER/ID, or in ID with --as USER; raises Failure where both differ.

    Ids of ours hold no slash; where the person is named, all of the rest is the id.
    """
    if as_user is not None:
        return as_user, target.removeprefix(f"{as_user}/")
    user, slash, id_ = target.partition("/")
    return (user, id_) if slash and id_ else (None, target)


def id_of(me: "Gateway", path: str, said: str) -> str:
    """The id of the one agent or mission that has this id, else this name or title.

    Raises Failure where several have it; what nobody has stays as it is, for the gateway to refuse.
    """
    if me.has(path_of(path, said)):
        return said
    rows = me.items(path, {}, page_size=PAGE)
    named = [row["id"] for row in rows if said in (row.get("name"), row.get("title"))]
    if len(named) > 1:
        raise Failure(f"{len(named)} are called {said}: name one by its id", USAGE)
    return named[0] if named else said
