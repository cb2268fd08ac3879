"""Targets, the load in front of them, and the tables that one reload after another puts in force."""

import json
import os
import select
import sys
import threading
import urllib.error
import urllib.request
from collections import Counter
from pathlib import Path

import programs
import proxies

#: What the targets answer begins with; the rest says on which of their ports.
BODY = "0123456789abcdef" * 8

#: A slow answer takes two seconds, so that every reload meets some.
SLOW_SIZE, SLOW_RATE = 16 * 1024, "8k"

#: Rules, groups and targets that no request needs: what a generation that is not given back would cost.
FILLER_RULES, FILLER_GROUPS, FILLER_TARGETS = 200, 20, 10

#: Addresses of the filler's targets; one nginx listens on all of them.
FILLER_ADDRESSES = [f"127.0.4.{number}" for number in range(1, FILLER_TARGETS + 1)]

#: How long a target that was removed may finish: longer than a slow answer takes.
DEREGISTRATION_DELAY = 6


class Scene:
    def __init__(self, started):
        self.started, self.folder = started, started.folder
        names = ("port", "tls_port", "other_port", "admin", "first", "second", "third", "taken")
        self.ports = dict(zip(names, programs.free_ports(len(names))))
        self.chains = [str(programs.certificate(self.folder, name)) for name in ("one", "two")]
        self.targets()

    def targets(self):
        """Three targets and the filler's, all in one nginx of Debian's, whatever proxy is under test."""
        slow = self.folder / "files"
        slow.mkdir()
        (slow / "slow").write_bytes(b"s" * SLOW_SIZE)
        ports = [self.ports[name] for name in ("first", "second", "third")]
        listens = " ".join(f"listen 127.0.0.1:{port} backlog=4096;" for port in ports)
        listens += " ".join(f"listen {address}:{ports[0]};" for address in FILLER_ADDRESSES)
        temporary = " ".join(
            f"{kind}_temp_path {self.folder}/temp-targets-{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        file = self.folder / "targets.conf"
        file.write_text(f"""
{"user root;" if os.geteuid() == 0 else ""}
daemon off; worker_processes 1; pid {self.folder}/targets.pid; error_log {self.folder}/targets.log crit;
worker_rlimit_nofile 20000; events {{ worker_connections 8192; }}
http {{
  access_log off; tcp_nodelay on; keepalive_timeout 3600; keepalive_requests 100000000; {temporary}
  server {{ {listens}
    location / {{ return 200 "{BODY} $server_port"; }}
    location = /slow {{ root {slow}; limit_rate {SLOW_RATE}; }}
  }}
}}
""")
        self.started.start(["nginx", "-e", self.folder / "targets.log", "-c", file], ports, "targets")

    def table(self, turn):
        """What the reload of this number puts in force. /generation answers with it; `stable` is never touched."""
        first, second, third = (("127.0.0.1", self.ports[name]) for name in ("first", "second", "third"))
        moving = (first, second) if turn % 2 else (third, first)
        groups = [proxies.Group("stable", (first, second)), proxies.Group("moving", moving)]
        fillers = FILLER_ADDRESSES[turn % 5:]
        groups += [
            proxies.Group(f"filler-{number}", tuple((address, self.ports["first"]) for address in fillers), interval=5)
            for number in range(FILLER_GROUPS)
        ]
        # The rules change their places with every turn.
        shift = turn % 7
        order = [(number + shift) % FILLER_RULES for number in range(FILLER_RULES)]
        rules = tuple((f"/filler/{number}/", f"filler-{number % FILLER_GROUPS}") for number in order) + (("/moving", "moving"),)
        answers = (("/generation", str(turn)),)
        listeners = [
            proxies.Listener(self.ports["port"], "stable", rules=rules, answers=answers),
            proxies.Listener(self.ports["tls_port"], "stable", self.chains[turn % 2], rules=rules, answers=answers),
        ]
        if turn % 2:
            listeners.append(proxies.Listener(self.ports["other_port"], "moving", answers=answers))
        extra = {
            "admin": f"127.0.0.1:{self.ports['admin']}",
            "group": {"deregistration_delay": f"{DEREGISTRATION_DELAY}s"},
        }
        return proxies.Table(tuple(listeners), tuple(groups), extra=extra)

    def permanent(self):
        """Targets that stand in every table, as albedo's status names them."""
        first, second = self.ports["first"], self.ports["second"]
        found = {("stable", f"127.0.0.1:{first}"), ("stable", f"127.0.0.1:{second}"), ("moving", f"127.0.0.1:{first}")}
        return found | {
            (f"filler-{number}", f"{address}:{first}") for number in range(FILLER_GROUPS) for address in FILLER_ADDRESSES[4:]
        }

    def load(self):
        return Load(self.started, {
            "port": self.ports["port"],
            "tls_port": self.ports["tls_port"],
            "asks": [["/", BODY], ["/moving/x?y=z", BODY], ["/other", BODY]],
            "slow": "/slow",
            "slow_size": SLOW_SIZE,
        })


class Load:
    """The strict client, in a process of its own."""

    def __init__(self, started, plan):
        command = [sys.executable, Path(__file__).with_name("load.py"), json.dumps(plan)]
        self.process = started.start(command, name="load", pipes=True)
        assert self.process.stdout.readline() == "ready\n", started.log("load")

    def alive(self):
        return self.process.poll() is None and not select.select([self.process.stdout], [], [], 0)[0]

    def stop(self):
        self.process.stdin.write("stop\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())


class Watch:
    """Reads albedo's status ten times a second and remembers every state that a permanent target ever had."""

    def __init__(self, scene):
        self.url = f"http://127.0.0.1:{scene.ports['admin']}/api/v1/status"
        self.permanent, self.seen, self.missing, self.reads = scene.permanent(), Counter(), 0, 0
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self.watch, daemon=True)
        self.thread.start()

    def watch(self):
        while not self.stopping.wait(0.1):
            try:
                with urllib.request.urlopen(self.url, timeout=5) as answer:
                    status = json.load(answer)
            except (OSError, ValueError, urllib.error.URLError):
                self.missing += 1
                continue
            self.reads += 1
            found = {
                (group["name"], f"{target['id']}:{target['port']}"): target["state"]
                for group in status["target_groups"]
                for target in group["targets"]
            }
            for target in self.permanent:
                self.seen[found.get(target, "absent")] += 1

    def stop(self):
        self.stopping.set()
        self.thread.join(10)
        return dict(self.seen)


def reasons(events):
    """The commonest of (at, kind, what), for a person."""
    counted = Counter(f"{kind}: {what}" for _, kind, what in events)
    return "; ".join(f"{count}× {text}" for text, count in counted.most_common(4))


def now_serving(port):
    """What /generation says to a fresh connection."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/generation", timeout=5) as answer:
            return answer.read().decode()
    except (OSError, urllib.error.URLError) as error:
        return str(error)
