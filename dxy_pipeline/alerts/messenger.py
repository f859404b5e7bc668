"""The process that sends one message through apprise: started for it, and killed when it takes too long.

apprise has no deadline for a whole message (a service that drips its answer holds it for as long as it likes), and its
log may quote addresses and keys: both end with this process. It is told what to send on standard input, for a command
line is public, and answers with one line of JSON: null, or in a few known words why not. Run by `delivery` only.
"""

import json
import logging
import re
import sys

import apprise
from tenacity import Retrying, retry_if_result, stop_after_attempt, wait_fixed

QUICK_ATTEMPTS, QUICK_WAIT_S = 2, 0.5
_STATUS = re.compile(r"error[= ](\d{3})\b")


class _Ear(logging.Handler):
    """Collects what apprise says; nobody else hears it."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(record.getMessage())


def send(url: str, title: str, body: str, kind: str) -> str | None:
    """Send one message, tried twice. Returns None, or in a few words why not; never raises, never quotes the URL."""
    retrying = Retrying(
        retry=retry_if_result(lambda error: error is not None),
        stop=stop_after_attempt(QUICK_ATTEMPTS),
        wait=wait_fixed(QUICK_WAIT_S),
        retry_error_callback=lambda state: state.outcome and state.outcome.result(),
    )
    return retrying(_send_once, url, title, body, kind)


def _send_once(url: str, title: str, body: str, kind: str) -> str | None:
    logger, ear = logging.getLogger("apprise"), _Ear()
    logger.propagate = False
    logger.handlers = [ear]
    try:
        service = apprise.Apprise()
        if not service.add(url):
            return "not a URL that apprise can read"
        if service.notify(body=body, title=title, notify_type=apprise.NotifyType(kind)):
            return None
    except Exception as error:  # whatever a plug-in does, it is one failed attempt
        return f"failed: {type(error).__name__}"
    text = " ".join(ear.said)
    if status := _STATUS.search(text):
        return f"refused with HTTP status {status[1]}"
    return "cannot be reached" if "onnection error" in text else "not accepted by the service"


if __name__ == "__main__":
    print(f"\n{json.dumps(send(**json.load(sys.stdin)))}")
