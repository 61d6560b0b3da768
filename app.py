"""The phone line for an OpenAI agent: Twilio's webhook, its media stream, and its health."""

import functools
import os
import signal
import socket
import sys
from hashlib import sha256
from hmac import compare_digest
from threading import Event, Lock, Thread
from time import sleep, time
from urllib.parse import parse_qsl, urlsplit

from flask import Flask, Response, abort, render_template, request
from flask_sock import Sock
from prometheus_client import CONTENT_TYPE_LATEST
from simple_websocket import Server
from websockets.protocol import Side
from werkzeug.datastructures import MultiDict
from werkzeug.exceptions import BadRequest, HTTPException
from werkzeug.routing import WebsocketMismatch
from werkzeug.serving import BaseWSGIServer, make_server
from wsproto.utilities import ProtocolError

import metrics
from banner import tell_started
from commands import app_command, python
from logs import log, open_log
from opening import LOST, about_caller, address, only_printable
from places import FINISHED, LEAVING, PLACES
from settings import settings, websocket_url
from settings_reading import SettingsError
from signature import Signed
from twilio_calls import TwilioCalls, voice_path
from upstream import WORKFLOW, troubles
from voice_handler import CALLS, DRAINING, carry, watch
from wire import MAX_STREAM_MESSAGE, Connection
from workflow_client import FAILURES, WorkflowClient

MAX_RETURNS = 3  # how often in a row a call may come back after its stream has broken
GOOD_STREAM_SECONDS = 15
HARDLY_BEGUN_SECONDS = 1.0
SERVED_AT = "X-Served-At"  # a header of /health, by which `--check` knows this app from others
READY = Event()  # `start` has run
STARTING = Lock()
UNSIGNED = ("/", "/health", "/health/upstream", "/metrics")  # not for Twilio
FOR_TWILIO = (
    "This address is for Twilio only. The app's log says why the request was refused;"
    " see / for what this is.\n"
)


class NoReader(Thread):
    """Takes the place of simple-websocket's reader: the request's own thread reads."""

    def __init__(self, **_: object) -> None:
        """Have nothing to run."""
        super().__init__()


app = Flask(__name__)
app.config["MAX_CONTENT_LENGTH"] = MAX_STREAM_MESSAGE
app.config["SOCK_SERVER_OPTIONS"] = {"thread_class": NoReader}
sock = Sock(app)


@functools.cache
def workflow() -> WorkflowClient:
    """Return the workflow, which all calls share."""
    return WorkflowClient(settings())


@functools.cache
def twilio_calls() -> TwilioCalls:
    """Return Twilio's REST API."""
    return TwilioCalls(settings(), app.jinja_env, FINISHED)


# --- who may come in ------------------------------------------------------------------------------


@app.before_request
def expect_start() -> None:
    """Get ready if the server hasn't seen to it, and tell the owner that it is started wrongly."""
    server = request.environ.get("SERVER_SOFTWARE")
    if READY.is_set() or server is None:  # without one, this is no server
        return
    with STARTING:
        if READY.is_set():  # by a request that came at the same time
            return
        try:
            start()
        except SettingsError as problems:
            open_log()
            abort(503, " ".join(str(problems).split()))
    how = "without its configuration" if request.is_multithread else "one request at a time"
    log.error("started wrongly, by %s, %s: calls will fail. %s", server, how, right_start())


def right_start() -> str:
    """Tell how to start it instead."""
    return f"In the app's folder, run `{python()} -m gunicorn app:app` or `{app_command()}`"


@app.before_request
def refuse_strangers() -> None:
    """Answer 403, before any upgrade, to what Twilio has not signed for our public address.

    A stream that is too much gets 503: Twilio goes on with the TwiML, and comes back.
    """
    if request.routing_exception or request.path in UNSIGNED:
        return
    streams = request.path == "/media-stream"
    signed = read_signature(streams)
    token = settings().twilio_auth_token
    if not signed.is_right(token):
        abort(403, signed.fault(token))
    if streams:
        reason = why_full()
        if reason:
            abort(503, reason)
        request.environ.pop("HTTP_SEC_WEBSOCKET_EXTENSIONS", None)  # offers to compress


def read_signature(streams: bool) -> Signed:
    """Return the request as Twilio must have signed it; the handshake of a stream for `wss://`."""
    site = settings().webhook_url
    hosts = (request.headers.get(name, "") for name in ("Host", "X-Forwarded-Host"))
    return Signed(
        site=websocket_url(site) if streams else site,
        path=request.path if streams else request.environ.get("RAW_URI", request.full_path),
        form=request.form,
        signature=request.headers.get("X-Twilio-Signature", ""),
        hosts=tuple(filter(None, hosts)),
    )


def why_full() -> str:
    """Return why no more calls are taken; "" if they are."""
    if DRAINING.is_set():
        return "this process is stopping"
    if PLACES.are_taken(settings().max_calls):
        return "all processes have MAX_CALLS calls"
    return ""


@app.errorhandler(404)
@app.errorhandler(405)
def refuse_address(error: HTTPException) -> Response:
    """Tell what Twilio must ask for: its Console may have another path or method."""
    if "X-Twilio-Signature" in request.headers:
        error.description = f"Twilio must ask POST {settings().webhook_url}/voice"
    elif request.routing_exception:
        error.description = error.name  # to a browser, a monitor or a bot
    return refuse(error)


@app.errorhandler(WebsocketMismatch)
def refuse_other_protocol(error: HTTPException) -> Response:
    """Tell that a stream came without its handshake, or a handshake to where no stream is."""
    error.description = "a stream needs a WebSocket handshake: a proxy must pass Upgrade on"
    return refuse(error)


@app.errorhandler(ProtocolError)
def refuse_handshake(error: ProtocolError) -> Response:
    """Answer a handshake that breaks the rules of WebSocket."""
    return refuse(BadRequest(f"no WebSocket handshake: {error}"))


@app.errorhandler(400)
@app.errorhandler(403)
@app.errorhandler(413)
@app.errorhandler(503)
def refuse(error: HTTPException) -> Response:
    """Tell the owner which request was not served, where it was asked, and what must change."""
    host = request.headers.get("Host", "")
    log.warning("refused %s %s at %s: %s", request.method, request.path, host, error.description)
    return Response(FOR_TWILIO, error.code, content_type="text/plain")


# --- the routes -----------------------------------------------------------------------------------


@app.get("/")
def home() -> str:
    """Tell whoever comes with a browser what this is, and whether it is well."""
    state = "It takes no new calls at the moment." if why_full() else "It is taking calls."
    webhook = f"{settings().webhook_url}/voice"
    return render_template("home.html", state=state, troubles=troubles(), webhook=webhook)


@app.get("/health")
def health() -> tuple[dict[str, str], int, dict[str, str]]:
    """Tell an uptime monitor, or a load balancer, whether to send callers here."""
    headers = {SERVED_AT: served_at()}
    if DRAINING.is_set() or LEAVING.value:
        return {"status": "draining"}, 503, headers
    return {"status": "healthy"}, 200, headers


def served_at() -> str:
    """Return what stands for machine, folder and port: all workers have it in common."""
    port = request.environ["SERVER_PORT"]
    where = f"{socket.gethostname()} {app.root_path} {port}"
    return sha256(where.encode()).hexdigest()[:16]


@app.get("/metrics")
def numbers() -> Response:
    """Tell Prometheus how the calls are; only who knows METRICS_TOKEN may ask."""
    token = settings().metrics_token
    if not token:
        abort(404, "METRICS_TOKEN is not set")
    asked_with = request.headers.get("Authorization", "")
    if not compare_digest(asked_with.encode(), f"Bearer {token}".encode()):
        log.warning("refused /metrics: it must be asked with METRICS_TOKEN as bearer token")
        abort(401)
    return Response(metrics.report(), content_type=CONTENT_TYPE_LATEST)


@app.get("/health/upstream")
def upstream_health() -> tuple[dict[str, str], int]:
    """Tell the owner's monitor whether the latest calls failed because of what is behind us.

    Not for load balancers: a line whose agent fails can still apologise.
    """
    found = troubles()
    if found:
        return {"status": "failing", **found}, 503
    return {"status": "healthy"}, 200


@app.post("/voice")
def voice() -> Response:
    """Connect a call to its stream, or tell Twilio what else to do with it."""
    after = query().get("after")
    attempt = attempts()
    if twilio_calls().is_finished(request.form.get("CallSid", "")):
        return twiml("goodbye.xml")
    if after == "transfer":
        return after_transfer(attempt)
    if attempt > MAX_RETURNS:
        what = "it was on hold" if after == "hold" else "its stream failed"
        return turn_away("unavailable.xml", f"{what} {attempt} times in a row")
    if not attempt:
        return connect_new()
    end_old_stream(request.form.get("CallSid", ""))
    if after == "hold":
        return connect("connect.xml", attempt, query().get("opening", ""))
    template = "reconnect.xml" if attempt == MAX_RETURNS else "connect.xml"
    return connect(template, attempt, opening_again())


def connect_new() -> Response:
    """Connect a new call, if there is a place for it."""
    reason = why_full()
    if reason:
        return turn_away("busy.xml", reason)
    return connect("connect.xml", 0, "greeting")


def query() -> MultiDict[str, str]:
    """Return the query of what Twilio asked for first: by itself, the number's fallback has none.

    See https://www.twilio.com/docs/usage/security/availability-reliability#fallback-urls.
    """
    failed = request.form.get("ErrorUrl", "")
    if not failed.startswith(f"{settings().webhook_url}/voice?"):
        return request.args
    return MultiDict(parse_qsl(urlsplit(failed).query))


def turn_away(document: str, why: str) -> Response:
    """End a call that can't be served, and tell the owner."""
    log.error("[%s] turned away: %s", request.form.get("CallSid", ""), why)
    return twiml(document)


def attempts() -> int:
    """Return how often the call has come back in a row: a stream that lasted was a good one."""
    attempt = max(0, query().get("attempt", 0, type=int))
    came_straight_back = "ErrorUrl" not in request.form
    if came_straight_back and stream_seconds() > GOOD_STREAM_SECONDS:
        return min(attempt, 1)
    return attempt


def opening_again() -> str:
    """Return the opening of a call that has come back: one that was hardly begun begins anew."""
    opening = query().get("opening", "")
    return opening if stream_seconds() < HARDLY_BEGUN_SECONDS and opening else "bridge"


def stream_seconds() -> float:
    """Return for how long the stream lasted with which the call comes back."""
    began = query().get("began", 0.0, type=float)
    return time() - began if began else 0.0


def end_old_stream(call_sid: str) -> None:
    """End the stream of a call that has come back: it is gone, and may still take a place here."""
    for handler in CALLS.copy():
        if handler.call.sid == call_sid:
            handler.stream.abort()


def after_transfer(attempt: int) -> Response:
    """End a call whose transfer was answered; go on with one whose wasn't."""
    if request.form.get("DialCallStatus") in ("completed", "answered"):
        return twiml("goodbye.xml")
    return connect("connect.xml", attempt, "no_transfer")


def connect(template: str, attempt: int, opening: str) -> Response:
    """Open the call's stream; should it break, Twilio comes back with the conversation."""
    caller, called = address(request.form, "From"), address(request.form, "To")
    about = about_caller(request.form)
    conversation = only_printable(query().get("conversation", ""))
    if not conversation and not attempt:
        conversation = start_conversation(caller, called, about)
    if not conversation and opening == "bridge":  # it was started later, if at all
        about = f"{about} {LOST}".strip()
    now = f"{time():.1f}"
    since = query().get("since", now)
    comes_back = voice_path(conversation, attempt + 1, since=since, began=now, opening=opening)
    return twiml(
        template,
        conversation=conversation,
        caller=caller,
        called=called,
        about=about,
        attempt=attempt,
        opening=opening,
        since=since,
        comes_back=comes_back,
    )


def start_conversation(caller: str, called: str, about: str) -> str:
    """Start the conversation of a new call; if that fails, its first message will try again."""
    call_sid = request.form.get("CallSid", "")
    try:
        return workflow().start(call_sid, caller, called, about)
    except FAILURES as error:
        WORKFLOW.fail(str(error))
        log.error("[%s] no conversation with the workflow yet: %s", call_sid, error)
    except Exception:  # noqa: BLE001 - a bug is told, and the call is answered
        log.exception("[%s] a bug in this program", call_sid)
    return ""


def twiml(template: str, **values: object) -> Response:
    """Answer with TwiML."""
    text = render_template(template, settings=settings(), **values)
    return Response(text, content_type="text/xml")


@sock.route("/media-stream")
def media_stream(ws: Server) -> None:
    """Carry one call."""
    stream = Connection(ws.sock, Side.SERVER, MAX_STREAM_MESSAGE)
    with PLACES.taken_by(stream):
        carry(stream, settings(), workflow(), twilio_calls())
    ws.connected = False  # it has been closed already


# --- starting and stopping ------------------------------------------------------------------------


def start() -> None:
    """Open the log, check the settings, and get ready for calls. Raises SettingsError."""
    open_log(settings().log_format)
    workflow()  # once, and not when eight first callers ask for it
    Thread(target=watch, daemon=True).start()
    READY.set()


def listen(port: int) -> BaseWSGIServer:
    """Return a server that listens on a port, by IPv6 where there is any, and by IPv4.

    Raises SystemExit if the port can't be had.
    """
    try:
        if socket.has_dualstack_ipv6():
            every = ("::", port)
            door = socket.create_server(every, family=socket.AF_INET6, dualstack_ipv6=True)
        else:
            door = socket.create_server(("0.0.0.0", port))
    except OSError as error:
        why = os.strerror(error.errno or 0)
        advice = "Set PORT to another one, or end what listens there"
        raise SystemExit(f"Cannot listen on port {port}: {why}. {advice}") from None
    with door:  # the server has a copy
        host = door.getsockname()[0]
        return make_server(host, port, app, threaded=True, fd=door.fileno())


def main() -> None:
    """Serve calls, or do what the arguments ask for."""
    if len(sys.argv) > 1:
        import doctor  # noqa: PLC0415 - not needed to answer a call

        sys.exit(doctor.main(sys.argv[1:]))
    serve()


def serve() -> None:
    """Serve until told to stop, and then until the last call has been handed over."""
    start()
    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)  # Ctrl-C
    server = listen(settings().port)
    tell_started(settings())
    Thread(target=server.serve_forever, daemon=True).start()
    while not DRAINING.is_set():
        sleep(0.5)
    if CALLS:
        log.info("stopping when the calls are handed over; Ctrl-C cuts them off")
    while CALLS:
        sleep(0.5)
    sys.exit()


def stop(number: int, _: object) -> None:
    """Drain, as a signal asks for; end at once at another Ctrl-C."""
    if DRAINING.is_set() and number == signal.SIGINT:
        sys.exit(128 + number)
    DRAINING.set()


if __name__ == "__main__":
    main()
