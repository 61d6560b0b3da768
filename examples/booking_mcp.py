"""A booking tool for the workflow: an MCP server that keeps a workshop's appointments in SQLite.

README.md beside this file says how to start it, and which line workflow.json needs.
"""

import os
import sqlite3
from datetime import date, datetime
from secrets import compare_digest
from typing import Annotated

from mcp.server import MCPServer
from mcp.server.auth.provider import AccessToken
from mcp.server.auth.settings import AuthSettings
from mcp.server.mcpserver.exceptions import ToolError
from pydantic import AnyHttpUrl, Field

OPENS, CLOSES = 8, 18  # one appointment an hour, Monday to Friday
SATURDAY = 5
TOKEN = os.environ.get("BOOKING_TOKEN", "")
FILE = os.environ.get("BOOKING_FILE", "bookings.sqlite3")
PORT = os.environ.get("BOOKING_PORT", "8000")

TABLE = """
CREATE TABLE IF NOT EXISTS bookings (
    day TEXT, hour INTEGER, name TEXT, car TEXT, service TEXT,
    PRIMARY KEY (day, hour)
)"""
TAKEN = "SELECT hour FROM bookings WHERE day = ?"
BOOK = "INSERT OR IGNORE INTO bookings VALUES (?, ?, ?, ?, ?)"
CANCEL = "DELETE FROM bookings WHERE day = ? AND hour = ? AND name = ? COLLATE NOCASE"

# What the model is told of a tool: its docstring, and the types of its arguments.
Hour = Annotated[int, Field(ge=OPENS, lt=CLOSES, description="on the 24-hour clock")]
Text = Annotated[str, Field(min_length=1, max_length=200)]


class OneToken:
    """Let in whoever knows the token."""

    async def verify_token(self, token: str) -> AccessToken | None:
        """Check what came as `Authorization: Bearer …`."""
        if not compare_digest(token.encode(), TOKEN.encode()):
            return None
        return AccessToken(token=token, client_id="workflow", scopes=[])


# An issuer would hand out tokens by OAuth. There is none: both sides are told this one.
auth = AuthSettings(
    issuer_url=AnyHttpUrl("https://none.invalid"),
    resource_server_url=None,
)
server = MCPServer("booking", auth=auth, token_verifier=OneToken())

# Each statement is a transaction of its own: of two callers who want an hour, one gets it.
bookings = sqlite3.connect(FILE, isolation_level=None, check_same_thread=False)
bookings.execute(TABLE)


@server.tool()
def free_hours(day: date) -> list[int]:
    """List the hours, on the 24-hour clock, at which an appointment can begin on a day."""
    now = datetime.now()
    today = now.date()
    if day < today:
        raise ToolError(f"{day} is past: today is {today:%A}, {today}.")
    if day.weekday() >= SATURDAY:
        raise ToolError(f"{day} is a {day:%A}; open Monday to Friday.")
    taken = {hour for (hour,) in bookings.execute(TAKEN, [str(day)])}
    gone = now.hour if day == today else 0
    return [hour for hour in range(OPENS, CLOSES) if hour > gone and hour not in taken]


@server.tool()
def book(day: date, hour: Hour, name: Text, car: Text, service: Text) -> str:
    """Book an appointment for a caller."""
    row = [str(day), hour, name, car, service]
    free = free_hours(day)
    if hour not in free or not bookings.execute(BOOK, row).rowcount:
        raise ToolError(f"Not booked: {hour}:00 is not free. Free hours: {free_hours(day)}.")
    return f"Booked for {name}: {day:%A}, {day}, {hour}:00."


@server.tool()
def cancel(day: date, hour: Hour, name: Text) -> str:
    """Cancel the appointment that a caller has at this time under this name."""
    row = [str(day), hour, name]
    if not bookings.execute(CANCEL, row).rowcount:
        raise ToolError(f"Not cancelled: {name} has no appointment on {day} at {hour}:00.")
    return f"Cancelled: {name}, {day:%A}, {day}, {hour}:00."


if __name__ == "__main__":
    if len(TOKEN) < 16:
        raise SystemExit("Set BOOKING_TOKEN to a secret of at least 16 letters; see README.md.")
    server.run("streamable-http", host="0.0.0.0", port=int(PORT), stateless_http=True)
