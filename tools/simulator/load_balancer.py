"""What stands before many machines: a load balancer that knows nothing of calls or WebSockets."""

from __future__ import annotations

import asyncio
import itertools
import threading
from contextlib import suppress

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]

HEALTH = b"GET /health HTTP/1.1\r\nHost: balancer\r\nConnection: close\r\n\r\n"
HEALTH_SECONDS = 0.1
UNAVAILABLE = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class LoadBalancer:
    """Share connections out over the machines that call themselves healthy, in turn.

    No sticky sessions: each connection goes to the next machine, whoever asks. A machine whose
    `/health` isn't 200 gets no more connections; those it has, it keeps. Runs on a loop in a thread
    of its own; `machines` holds the ports, and may be changed at any time.
    """

    def __init__(self, *machines: int) -> None:
        self.machines = list(machines)
        self.healthy: set[int] = set()
        self.carried: list[int] = []  # the machine of each connection, in order
        self.port = 0
        self._turn = itertools.count()
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def start(self) -> LoadBalancer:
        """Listen on a free `port`, once the health of every machine is known."""
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._open(), self._loop).result(10)
        return self

    def stop(self) -> None:
        """Cut every connection."""
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    # On the loop from here on

    async def _open(self) -> None:
        await self._look()
        self._server = await asyncio.start_server(self._carry, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        self._keep(asyncio.create_task(self._watch()))

    async def _close(self) -> None:
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _keep(self, task: asyncio.Task[None]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(HEALTH_SECONDS)
            await self._look()

    async def _look(self) -> None:
        machines = list(self.machines)
        well = await asyncio.gather(*map(self._is_healthy, machines))
        self.healthy = {port for port, yes in zip(machines, well, strict=True) if yes}

    async def _is_healthy(self, port: int) -> bool:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(HEALTH)
            status = await asyncio.wait_for(reader.readline(), 5)
            writer.transport.abort()
        except (OSError, asyncio.TimeoutError):
            return False
        return b" 200 " in status

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        self._keep(task)
        machine = await self._connect()
        if not machine:
            writer.write(UNAVAILABLE)
            writer.close()
            return
        await join((reader, writer), machine)

    async def _connect(self) -> Streams | None:
        """Connect to the next healthy machine that answers."""
        healthy = [port for port in self.machines if port in self.healthy]
        first = next(self._turn)
        for n in range(len(healthy)):
            port = healthy[(first + n) % len(healthy)]
            with suppress(OSError):
                streams = await asyncio.open_connection("127.0.0.1", port)
                self.carried.append(port)
                return streams
        return None


async def join(near: Streams, far: Streams) -> None:
    """Pass on what either side sends, until one of them ends; then so does the other."""
    ways = [_pour(near[0], far[1]), _pour(far[0], near[1])]
    pouring = [asyncio.create_task(way) for way in ways]
    try:
        await asyncio.wait(pouring, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for way in pouring:
            way.cancel()
        await asyncio.gather(*pouring, return_exceptions=True)
        for _, writer in (near, far):
            writer.close()


async def _pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
