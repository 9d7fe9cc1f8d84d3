"""Which web pages may read the answers: exact origins only, and no cookies ever."""

from collections.abc import Mapping

from starlette.datastructures import Headers

ALLOWED_METHODS = "GET, POST, PUT, DELETE"
ALLOWED_HEADERS = "Authorization, Content-Type"
PREFLIGHT_S = 600


def allowed(headers: Headers, origins: tuple[str, ...]) -> dict[str, str]:
    """What an answer says to the page that asked; nothing to pages not listed."""
    if not origins:
        return {}
    origin = headers.get("origin")
    told = {"Vary": "Origin"}
    return told | {"Access-Control-Allow-Origin": origin} if origin in origins and origin else told


def preflight(headers: Headers, origins: tuple[str, ...]) -> Mapping[str, str]:
    """The answer to `OPTIONS`, which browsers send without any token."""
    told = allowed(headers, origins)
    if "Access-Control-Allow-Origin" not in told:
        return told
    return told | {
        "Access-Control-Allow-Methods": ALLOWED_METHODS,
        "Access-Control-Allow-Headers": ALLOWED_HEADERS,
        "Access-Control-Max-Age": str(PREFLIGHT_S),
    }
