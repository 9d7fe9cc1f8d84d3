"""Every page of an owner and every form on one, with the scope that it takes."""

from __future__ import annotations

from starlette.routing import Route

from state.rules.scopes import Scope
from supervisor.gateway.pages import search
from supervisor.gateway.pages.owner import agent, home, inbox, live, mission, schedule, settings
from supervisor.gateway.pages.owner.consent import access, export, grants
from supervisor.gateway.pages.owner.gate import OwnerGate, OwnerHandler
from supervisor.gateway.pages.owner.make import agent as agent_form
from supervisor.gateway.pages.owner.make import mission as mission_form

PAGES: tuple[tuple[str, str, Scope, OwnerHandler], ...] = (
    ("GET", "/me", "read", home.get_home),
    ("GET", "/me/live", "read", live.get_live),
    ("GET", "/me/inbox", "read", inbox.get_inbox),
    ("POST", "/me/inbox/{id}/{verb}", "approve", inbox.post_answer),
    ("POST", "/me/iterations/{iteration}/approve", "approve", inbox.post_approve_all),
    ("GET", "/me/agents", "read", home.get_agents),
    ("GET", "/me/agents/new", "write", agent_form.get_new),
    ("POST", "/me/agents/new", "write", agent_form.post_new),
    ("GET", "/me/agents/{agent}", "read", agent.get_agent),
    ("GET", "/me/agents/{agent}/edit", "write", agent_form.get_edit),
    ("POST", "/me/agents/{agent}/edit", "write", agent_form.post_edit),
    ("POST", "/me/agents/{agent}/{verb}", "write", agent.post_agent),
    ("POST", "/me/agents/{agent}/approvals/{id}/revoke", "approve", agent.post_revoke),
    ("GET", "/me/missions/new", "write", mission_form.get_new),
    ("POST", "/me/missions/new", "write", mission_form.post_new),
    ("GET", "/me/missions/{mission}", "read", mission.get_mission),
    ("GET", "/me/missions/{mission}/edit", "write", mission_form.get_edit),
    ("POST", "/me/missions/{mission}/edit", "write", mission_form.post_edit),
    ("GET", "/me/missions/{mission}/grant", "read", grants.get_grant),
    ("POST", "/me/missions/{mission}/grant", "keys", grants.post_grant),
    ("POST", "/me/missions/{mission}/grant/revoke", "write", grants.post_revoke),
    ("GET", "/me/access", "read", access.get_access),
    ("GET", "/me/access/export.csv", "read", export.get_export),
    ("GET", "/me/access/export.json", "read", export.get_export),
    ("POST", "/me/access/seen", "read", access.post_seen),
    ("POST", "/me/missions/{mission}/{verb}", "write", mission.post_mission),
    ("GET", "/me/schedule", "read", schedule.get_schedule),
    ("GET", "/me/search", "read", search.get_own),
    ("GET", "/me/settings", "account", settings.get_settings),
    ("POST", "/me/sign-ins/{id}/end", "account", settings.post_end),
    ("POST", "/me/sign-out", "read", settings.post_sign_out),
)


def owner_routes(gate: OwnerGate) -> list[Route]:
    """All of them."""
    return [
        Route(path, gate.guarded(scope, handler), methods=[verb])
        for verb, path, scope, handler in PAGES
    ]
