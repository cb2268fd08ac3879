"""Keeps many sockets open over many reloads that do not concern them."""

import json
import os
import sys
import time
import urllib.request
from collections import Counter
from pathlib import Path

import programs
import proxies

#: Sockets, reloads under them, seconds between two.
SOCKETS, RELOADS, PACE = int(os.environ.get("SOCKETS", "500")), int(os.environ.get("RELOADS", "50")), 0.6


def play(checks, started, name):
    here = Path(__file__).parent
    port, tls_port, admin, *echo = programs.free_ports(5)
    for each in echo:
        started.start([sys.executable, here / "reloads_echo.py", "127.0.0.1", each], [each], "echo")
    chains = [str(programs.certificate(started.folder, each)) for each in ("one", "two")]

    def table(turn):
        """`sockets` stays as it is; everything else changes, in the sockets' own listeners too."""
        others = [(f"127.0.5.{1 + (turn + number) % 9}", echo[0]) for number in range(1 + turn % 3)]
        groups = [proxies.Group("sockets", tuple(("127.0.0.1", each) for each in echo), health_path="/ping")]
        groups += [proxies.Group(f"other-{number}", tuple(others), health_path="/ping") for number in range(1 + turn % 4)]
        rules = tuple((f"/other/{number}/{turn}/", f"other-{number}") for number in range(len(groups) - 1))
        # Another rule before the sockets' own every second time.
        rules = (*rules, ("/ws", "sockets")) if turn % 2 else (("/ws", "sockets"), *rules)
        answers = (("/generation", str(turn)),)
        listeners = (
            proxies.Listener(port, "other-0", rules=rules, answers=answers),
            proxies.Listener(tls_port, "other-0", chains[turn % 2], rules=rules, answers=answers),
        )
        return proxies.Table(listeners, tuple(groups), extra={"admin": f"127.0.0.1:{admin}"})

    front = proxies.proxy(name, started)
    print(f"     {front.version()}, {SOCKETS} sockets, {RELOADS} reloads")
    front.start(table(0))
    urls = [f"ws://127.0.0.1:{port}/ws", f"wss://127.0.0.1:{tls_port}/ws"]
    clients = started.start([sys.executable, here / "reloads_clients.py", SOCKETS, *urls], name="clients", pipes=True)
    if clients.stdout.readline() != "ready\n":
        raise RuntimeError(started.log("clients"))
    refused, old, before = [], [], front.memory()
    for turn in range(1, RELOADS + 1):
        front.write(table(turn))
        if not front.reload():
            refused.append(turn)
        elif programs.wait_for(lambda: generation(port) == str(turn), 10) is None:
            old.append(turn)
        time.sleep(PACE)
    detail = f"refused {refused[:5]}, not in force {old[:5]}" if refused or old else ""
    checks.check(f"{RELOADS} reloads are taken and in force", not refused and not old, detail)
    print(f"     memory {before / 2**20:.1f} → {front.memory() / 2**20:.1f} MiB, {len(front.pids())} processes")
    clients.stdin.write("stop\n")
    clients.stdin.flush()
    found = json.loads(clients.stdout.readline())

    checks.check(f"{SOCKETS} sockets open, half of them by TLS", not found["refused"], few(found["refused"]))
    checks.check("not one closes", not found["lost"], few(found["lost"]))
    enough = found["sent"] > SOCKETS * RELOADS * PACE / 2
    right = found["right"] == found["sent"]
    detail = f"{found['right']} of {found['sent']}, the slowest after {found['slowest'] * 1000:.0f} ms"
    checks.check("every message comes back, in its turn and whole", enough and right, detail)
    checks.check("each socket closes with 1000 when its client wants it", found["closed"] == {"1000": SOCKETS}, str(found["closed"]))


def generation(port):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/generation", timeout=5) as answer:
        return answer.read().decode()


def few(troubles):
    return "; ".join(f"{count}× {text}" for text, count in Counter(troubles).most_common(3))


if __name__ == "__main__":
    programs.run(play, *sys.argv[1:])
