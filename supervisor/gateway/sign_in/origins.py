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
    return (origin.scheme, origin.netloc) == (request.url.scheme, hosts[0])
