"""What may happen between a device and the server."""

import asyncio

import httpx2


class Link(httpx2.AsyncBaseTransport):
    """A connection that can be cut in each direction, or be slow; real HTTP while it is whole.

    `goes` False: requests are lost. `comes` False: requests arrive, and their answers are lost.
    """

    def __init__(self) -> None:
        self._wire = httpx2.AsyncHTTPTransport(limits=httpx2.Limits(max_connections=2))
        self.goes, self.comes, self.slow_s = True, True, 0.0

    def heal(self) -> None:
        """Whole again."""
        self.goes, self.comes, self.slow_s = True, True, 0.0

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """As the wire does, where it is not broken."""
        if not self.goes:
            raise httpx2.ConnectError("cut on the way out")
        response = await self._wire.handle_async_request(request)
        await asyncio.sleep(self.slow_s)
        if not self.comes:
            await response.aread()
            await response.aclose()
            raise httpx2.ReadError("cut on the way back")
        return response

    async def aclose(self) -> None:
        """Close its connections."""
        await self._wire.aclose()
