"""An event loop in a daemon thread, for servers that synchronous tests start, ask and stop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import Any, TypeVar

T = TypeVar("T")


class LoopThread:
    """One event loop, its thread and its tasks.

    `run` and `do` may be called from any thread; `spawn` from the loop's own. `on_crash` is told of
    each exception that ends a spawned task.
    """

    def __init__(self, name: str, on_crash: Callable[[BaseException], None] | None = None) -> None:
        self.tasks: set[asyncio.Task[None]] = set()
        self._name = name
        self._on_crash = on_crash
        self._loop: asyncio.AbstractEventLoop
        self._over: asyncio.Event
        self._thread: threading.Thread

    def start(self) -> None:
        """Start the thread, and return once its loop runs."""
        started = threading.Event()
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._live(started)), name=self._name, daemon=True
        )
        self._thread.start()
        started.wait()

    async def _live(self, started: threading.Event) -> None:
        self._loop = asyncio.get_running_loop()
        self._over = asyncio.Event()
        started.set()
        await self._over.wait()

    def stop(self) -> None:
        """Cancel every task that is still on the loop, whoever started it, and end the thread.

        A task that were only dropped would be logged by asyncio whenever it is collected, and so in
        the midst of another test.
        """
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join()

    def run(self, work: Coroutine[Any, Any, T], timeout: float = 30) -> T:
        """Run a coroutine on the loop and return its result. Raise AssertionError if it hangs."""
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result(timeout)
        except FutureTimeoutError as error:
            future.cancel()
            raise AssertionError(f"the {self._name} hangs") from error

    def do(self, action: Callable[[], object]) -> None:
        """Call a function on the loop and wait until it is done."""
        if threading.current_thread() is self._thread:
            action()
            return

        async def act() -> None:
            action()

        self.run(act())

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Start a task on the loop."""
        task = self._loop.create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self._on_end)
        return task

    def _on_end(self, task: asyncio.Task[None]) -> None:
        self.tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error and self._on_crash:
            self._on_crash(error)

    async def cancel_tasks(self) -> None:
        """Cancel every task and wait until all have ended; to be awaited on the loop."""
        tasks = [task for task in self.tasks if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
