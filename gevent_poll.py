"""A patch of gevent: `poll(0)` looks and returns, as it does without gevent.

gevent's own lets a round of its loop pass. Before each request the workflow's HTTP client polls
every idle connection like that, with all other requests waiting: at 200 calls replies came half a
second late. Unnecessary from the gevent on whose `poll.poll(0)` doesn't yield (26.9 still does).
"""

from typing import Any

from gevent.monkey import get_original
from gevent.select import poll

plain_poll = get_original("select", "poll")
wait = poll.poll


def look(self: Any, timeout: float | None = None) -> list[tuple[int, int]]:
    """Return the events that are there; wait for them only if `timeout` (ms) isn't 0."""
    if timeout != 0:
        return wait(self, timeout)
    glance = plain_poll()
    for file, events in self.fds.items():
        glance.register(file, events)
    return glance.poll(0)


def apply() -> None:
    """Patch gevent."""
    poll.poll = look
