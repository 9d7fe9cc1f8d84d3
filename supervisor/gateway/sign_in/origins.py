"""Whether a request with a cookie comes from a page of this very server."""

from urllib.parse import urlsplit

from starlette.requests import Request


def is_from_our_page(request: Request) -> bool:
    """Whether there is exactly one `Origin`, with this server's scheme, name and port."""
    given = request.headers.getlist("origin")
    hosts = request.headers.getlist("host")
    if len(given) != 1 or len(hosts) != 1:
        return False
    origin = urlsplit(given[0])
    return (origin.scheme, origin.netloc) == (scheme_of(request), hosts[0])


def scheme_of(request: Request) -> str:
    """What the browser spoke: behind a proxy, what that says. No page elsewhere can set it."""
    said = request.headers.get("x-forwarded-proto", "")
    return said if said in ("http", "https") else request.url.scheme
