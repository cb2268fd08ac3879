"""Looks at sockets as a browser does, and at the browser's log of what went over the wire."""

import base64
import hashlib
import json
import os
import subprocess
import sys
import urllib.request
from pathlib import Path

import programs
import proxies

#: Sockets that one page opens at once, and messages on each.
SOCKETS, MESSAGES = 6, 100


def play(checks, started, name):
    here = Path(__file__).parent
    target, *ports = programs.free_ports(3)
    started.start(["node", here / "browser_target.js", target], [target], "target")
    chain = programs.certificate(started.folder)
    group = proxies.Group("page", (("127.0.0.1", target),))
    seen = 0
    for http2, port in zip((False, True), ports):
        front = proxies.proxy(name, started)
        if not seen:
            print(f"     {front.version()}")
        front.start(proxies.Table((proxies.Listener(port, "page", str(chain), http2),), (group,)))
        version = "HTTP/2" if http2 else "HTTP/1.1"
        folder = started.folder / version.replace("/", "")
        folder.mkdir()
        command = ["node", here / "browser_page.js", f"https://localhost:{port}/", SOCKETS, fingerprint(chain), folder]
        done = subprocess.run(
            [str(word) for word in command], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120,
            env={**os.environ, "HOME": str(folder)},
        )
        if done.returncode:
            raise RuntimeError(done.stderr[-2000:])
        found = json.loads(done.stdout)
        spoken = found["nextHopProtocol"]
        checks.check(f"{version}: the page comes by it, and Chromium calls it secure", spoken == ("h2" if http2 else "http/1.1") and found["isSecure"], spoken)
        wanted = {"protocol": "echo", "right": MESSAGES, "bytes": True, "error": False, "code": 4001, "reason": "thank you", "wasClean": True}
        right = [socket for socket in found["sockets"] if socket == wanted]
        odd = [socket for socket in found["sockets"] if socket != wanted]
        checks.check(f"{version}: {SOCKETS} sockets echo {MESSAGES} texts and 300 kB each, and close as the page asked", len(right) == SOCKETS, str(odd[:2] or ""))
        with urllib.request.urlopen(f"http://127.0.0.1:{target}/counts", timeout=5) as answer:
            counts = json.load(answer)
        reached = counts["sockets"] - seen
        seen = counts["sockets"]
        checks.check(f"{version}: the target saw {SOCKETS} sockets, and each close", reached == SOCKETS and counts["closes"] == {"4001 thank you": seen}, str(counts))
        inside, upgraded = on_the_wire(folder / "net.json")
        detail = f"{inside} inside HTTP/2, {upgraded} by Upgrade"
        wanted = (SOCKETS, 0) if http2 else (0, SOCKETS)
        how = "run inside the page's connection" if http2 else "have a connection each"
        checks.check(f"{version}: the sockets {how}", (inside, upgraded) == wanted, detail)
        front.end()


def on_the_wire(log):
    """How many sockets Chromium's log shows: inside HTTP/2 connections, and by Upgrade on connections of their own."""
    record = json.loads(log.read_text())
    types = {number: name for name, number in record["constants"]["logEventTypes"].items()}
    inside = upgraded = 0
    for event in record["events"]:
        fields = [field.lower() for field in headers_of(event.get("params", {}))]
        kind = types[event["type"]]
        inside += kind == "HTTP2_SESSION_SEND_HEADERS" and ":protocol: websocket" in fields
        upgraded += kind == "HTTP_TRANSACTION_SEND_REQUEST_HEADERS" and "upgrade: websocket" in fields
    return inside, upgraded


def headers_of(parameters):
    headers = parameters.get("headers", [])
    return headers if isinstance(headers, list) else [f"{name}: {value}" for name, value in headers.items()]


def fingerprint(chain):
    """SHA-256 of the certificate's public key, as Chromium wants it."""
    quiet = {"check": True, "capture_output": True}
    key = subprocess.run(["openssl", "x509", "-in", chain, "-noout", "-pubkey"], **quiet).stdout
    der = subprocess.run(["openssl", "pkey", "-pubin", "-outform", "der"], input=key, **quiet).stdout
    return base64.b64encode(hashlib.sha256(der).digest()).decode()


if __name__ == "__main__":
    programs.run(play, *sys.argv[1:])
