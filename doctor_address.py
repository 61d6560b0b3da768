"""Checks of the way from Twilio to the app: its public address, its port, and what is between."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from secrets import token_hex
from socket import create_connection as create_socket
from threading import Thread

import requests
from requests import RequestException, Response, Session, codes
from twilio.request_validator import RequestValidator
from websocket import WebSocketBadStatusException, WebSocketException, create_connection

from app import READY, SERVED_AT, listen
from doctor_examination import CALL_SID, Examination, Fault, reason, too_late
from twilio_calls import voice_path

CONVERSATION = f"check_{token_hex(8)}"
TRIES = 5  # a load balancer may ask other machines first
UNREACHED = (502, 503, 504, 530)  # of a tunnel or a proxy that gets no answer from the app

# --- the port -------------------------------------------------------------------------------------


def port_is_ours(examination: Examination) -> str:
    """See who listens on PORT; if nobody does, serve the app there until the checks are over."""
    port = examination.settings.port
    is_running = is_listened_on(examination)
    if not is_running:
        serve(examination)
    examination.served_at = told_at_port(examination)
    if not examination.served_at:
        raise Fault(f"another program listens on {port}; stop it, or set another PORT")
    if not is_running:
        return f"nothing was listening on {port}, so the app is served there during the checks"
    answer = answer_at_port(examination)
    if answer.status_code == codes.forbidden:
        raise Fault(f"the app on {port} refuses our signature: restart it with these settings")
    if not answer.ok:
        raise Fault(f"the app on {port} answers HTTP {answer.status_code}; its log may tell why")
    return f"the app runs on {port}"


def answer_at_port(examination: Examination) -> Response:
    """Ask the app that runs at PORT as Twilio would."""
    port = examination.settings.port
    with Session() as local:
        local.trust_env = False  # a proxy would look on a machine of its own
        try:
            return post_as_twilio(examination, local, local_url(examination))
        except requests.Timeout as error:
            late = too_late(examination.seconds)
            raise Fault(f"{late} from the app on {port}; restart it") from error
        except RequestException as error:
            raise Fault(f"the app on {port} breaks off: {reason(error)}; restart it") from error


def local_url(examination: Examination) -> str:
    """Return where the app is on this machine."""
    return f"http://127.0.0.1:{examination.settings.port}"


def is_listened_on(examination: Examination) -> bool:
    """Tell whether some program listens on PORT."""
    try:
        create_socket(("127.0.0.1", examination.settings.port), examination.seconds).close()
    except OSError:
        return False
    return True


def serve(examination: Examination) -> None:
    """Serve the app until the checks are over, as `python app.py` does."""
    try:
        server = listen(examination.settings.port)
    except SystemExit as error:
        raise Fault(str(error)) from error
    poll_seconds = 0.05
    READY.set()  # or the first request would take this for a wrong start
    thread = Thread(target=server.serve_forever, args=(poll_seconds,), daemon=True)
    thread.start()
    examination.callback(thread.join)  # it closes the server
    examination.callback(server.shutdown)


def told_at_port(examination: Examination) -> str:
    """Return what the app at PORT says of where it runs; "" if it is another program."""
    with Session() as local:
        local.trust_env = False
        try:
            answer = local.get(f"{local_url(examination)}/health", timeout=examination.seconds)
        except RequestException:
            return ""
    return answer.headers.get(SERVED_AT, "")


# --- the public address ---------------------------------------------------------------------------


def address_is_public(examination: Examination) -> str:
    """See whether Twilio could ask WEBHOOK_URL at all."""
    chosen = examination.settings
    if chosen.is_out_of_reach:
        raise Fault("Twilio can't reach this address; set the https address of a tunnel")
    return chosen.webhook_url


def address_leads_here(examination: Examination) -> str:
    """Ask WEBHOOK_URL/health: it may lead nowhere, or to a process of yesterday's."""
    address_is_public(examination)
    for _ in range(TRIES):
        with address_answers(examination):
            url = f"{examination.settings.webhook_url}/health"
            answer = requests.get(url, timeout=examination.seconds, allow_redirects=False)
        told = answer.headers.get(SERVED_AT)
        if told == examination.served_at:
            return "leads to this app"
        if not told:
            raise Fault(whose_answer(examination, answer))
    where = "run this where the app runs, or restart the tunnel"
    raise Fault(f"leads to another process of this app; {where}")


@contextmanager
def address_answers(examination: Examination) -> Iterator[None]:
    """Tell a failure to reach the address in words that say what to do."""
    try:
        yield
    except requests.exceptions.SSLError as error:
        raise Fault(f"Twilio would not accept its certificate: {reason(error)}") from error
    except requests.Timeout as error:
        late = too_late(examination.seconds)
        raise Fault(f"{late}; is the tunnel, or the proxy, running?") from error
    except RequestException as error:
        hint = "is the tunnel running, and its address still the same?"
        raise Fault(f"can't be reached: {reason(error)}; {hint}") from error


def whose_answer(examination: Examination, answer: Response) -> str:
    """Explain an answer that isn't the app's."""
    status = answer.status_code
    if answer.is_redirect:
        return f"redirects to {answer.headers['Location']}; set the address that it ends at"
    if status in UNREACHED:
        port = examination.settings.port
        return f"HTTP {status}: tunnel or proxy can't reach the app; lead it to port {port}"
    return f"HTTP {status} from something other than this app; lead the address to it"


# --- what Twilio does there -----------------------------------------------------------------------


def signature(examination: Examination, url: str, form: dict[str, str]) -> dict[str, str]:
    """Return the header with which Twilio signs a request."""
    validator = RequestValidator(examination.settings.twilio_auth_token)
    return {"X-Twilio-Signature": validator.compute_signature(url, form)}


def post_as_twilio(examination: Examination, client: Session, base: str) -> Response:
    """Ask the webhook at a base URL about a call that comes back: none is begun by that."""
    chosen = examination.settings
    path = voice_path(CONVERSATION, attempt=1)
    number = chosen.twilio_phone_number
    form = {"CallSid": CALL_SID, "From": number, "To": number}
    signed = signature(examination, chosen.webhook_url + path, form)
    seconds = examination.seconds
    return client.post(base + path, form, headers=signed, timeout=seconds, allow_redirects=False)


def signed_request_gets_through(examination: Examination) -> str:
    """Ask the public webhook as Twilio does."""
    chosen = examination.settings
    with address_answers(examination), Session() as twilio:
        answer = post_as_twilio(examination, twilio, chosen.webhook_url)
    if answer.status_code in (codes.forbidden, codes.not_found):
        raise Fault(
            f"HTTP {answer.status_code}: X-Twilio-Signature, path, query or form arrive changed;"
            " have the tunnel, or the proxy, pass them on as they are"
        )
    if not answer.ok:
        raise Fault(f"HTTP {answer.status_code}; the app's log may tell why")
    if chosen.stream_url not in answer.text or CONVERSATION not in answer.text:
        raise Fault("something in between answers, and not with this app's TwiML")
    return "a signed request arrives intact"


def signed_upgrade_gets_through(examination: Examination) -> str:
    """Open a media stream as Twilio does, and send a ping; no call is told of."""
    url = examination.settings.stream_url
    signed = signature(examination, url, {})
    try:
        stream = create_connection(url, examination.seconds, header=signed, redirect_limit=0)
    except WebSocketBadStatusException as error:
        raise Fault(why_not_upgraded(error.status_code)) from error
    except (WebSocketException, OSError) as error:
        raise Fault(f"no upgrade to a WebSocket: {reason(error)}") from error
    try:
        stream.ping()
        stream.recv_data_frame(control_frame=True)
    except (WebSocketException, OSError) as error:
        raise Fault("upgraded, but frames don't get through the tunnel, or the proxy") from error
    finally:
        stream.shutdown()
    return "a signed upgrade arrives intact, and frames pass"


def why_not_upgraded(status: int) -> str:
    """Explain a handshake that was answered by an HTTP status."""
    if status == codes.forbidden:
        return "HTTP 403: X-Twilio-Signature is dropped from upgrades; have the proxy pass it on"
    if status == codes.service_unavailable:
        return "HTTP 503: the app is draining, or has as many calls as MAX_CALLS allows"
    return f"HTTP {status}: the tunnel, or the proxy, must forward WebSocket upgrades"
