"""The page's web server: on 127.0.0.1 alone, for whoever has the link."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from aiohttp import web

from tools.phone.exchange import Exchange
from tools.phone.keepsakes import KEPT
from tools.phone.switchboard import Operator
from tools.phone.watch import CallWatch

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

PAGE = Path(__file__).parent / "page"
NO_LINK = "Open the link that make phone has printed. It works once; after that, this page does."
COOKIE_SECONDS = 24 * 60 * 60
MAX_MESSAGE = 64 * 1024


class PhoneServer:
    """Serve the page and its socket to one browser. Runs on the network's loop.

    The link's token works once and leaves a cookie, which everything else asks for. The socket asks
    for the page's own origin as well, so that no other page can use the cookie.
    """

    def __init__(self, exchange: Exchange, port: int = 0) -> None:
        self.operator: Operator | None = None
        self._exchange = exchange
        self._port = port
        self._token = secrets.token_urlsafe(16)  # "" once it is used
        self._pass = secrets.token_urlsafe(16)
        self._socket: web.WebSocketResponse | None = None
        self._runner: web.AppRunner

    async def open(self) -> None:
        """Listen. Raise OSError if the port is taken."""
        app = web.Application(middlewares=[self._guard])
        app.router.add_get("/", self._page)
        app.router.add_get("/socket", self._serve_socket)
        app.router.add_get(r"/{name:call\..+}", self._save)
        app.router.add_static("/page", PAGE)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self._port).start()
        self._port = self._runner.addresses[0][1]

    async def close(self) -> None:
        """Hang up and stop listening."""
        if self._socket and self.operator:
            await self.operator.finish()
            await self._socket.close()
        await self._runner.cleanup()

    @property
    def origin(self) -> str:
        """What the browser calls this server."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def link(self) -> str:
        """What opens the page, once."""
        return f"{self.origin}/?token={self._token}"

    @property
    def watch(self) -> CallWatch | None:
        """The page's last call."""
        return self.operator.watch if self.operator else None

    @property
    def _cookie(self) -> str:
        return f"phone_{self._port}"  # a browser's cookies are the same for every port

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if self._redeems(request):
            self._token = ""
            return self._admit()
        if not same(request.cookies.get(self._cookie, ""), self._pass):
            return web.Response(status=403, text=NO_LINK)
        answer = await handler(request)
        answer.headers["Cache-Control"] = "no-store"
        return answer

    def _redeems(self, request: web.Request) -> bool:
        given = request.query.get("token", "")
        return bool(self._token) and same(given, self._token)

    def _admit(self) -> web.Response:
        answer = web.Response(status=303, headers={"Location": "/"})
        answer.set_cookie(
            self._cookie, self._pass, max_age=COOKIE_SECONDS, httponly=True, samesite="Lax"
        )
        return answer

    async def _page(self, _: web.Request) -> web.FileResponse:
        return web.FileResponse(PAGE / "index.html")

    async def _save(self, request: web.Request) -> web.Response:
        """Return a file of the last call."""
        keep = KEPT.get(request.match_info["name"])
        if keep is None or self.watch is None:
            raise web.HTTPNotFound
        return web.Response(body=keep.make(self.watch), content_type=keep.content_type)

    async def _serve_socket(self, request: web.Request) -> web.StreamResponse:
        if request.headers.get("Origin") != self.origin:
            return web.Response(status=403, text="Only the phone's own page may use its socket.")
        socket = web.WebSocketResponse(max_msg_size=MAX_MESSAGE, compress=False)
        await socket.prepare(request)
        if self._socket:  # the phone is where it was opened last
            await self._socket.close(code=4001, message=b"opened in another window")
        self._socket = socket
        self.operator = Operator(self._exchange)
        await self.operator.serve(socket)
        return socket


def same(given: str, secret: str) -> bool:
    """Tell whether a secret is known, in the time that any answer takes."""
    return secrets.compare_digest(given.encode(), secret.encode())


@contextmanager
def served(exchange: Exchange, port: int = 0) -> Iterator[PhoneServer]:
    """Serve the page of an exchange. Raises OSError if the port is taken."""
    server = PhoneServer(exchange, port)
    exchange.network.run(server.open())
    try:
        yield server
    finally:
        exchange.network.run(server.close())
