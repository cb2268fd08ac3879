"""The loads: programs that ask a side for work. Each is a command, and a way to read what it says at its end."""

import json
import os
import re
import signal
import subprocess
from dataclasses import dataclass
from typing import Callable

from peers import OTHER_CPU

#: Longest that a load may take to end after its time, in seconds.
PATIENCE = 30


@dataclass(frozen=True)
class Load:
    """`read(output)` gives what the load says and what went wrong; `counts` names the targets' own count of the work."""

    command: Callable
    read: Callable
    counts: str = "requests"


class Running:
    """A load that can be halted and set going again: what it keeps open stays open."""

    def __init__(self, bench, side, load, seconds, policy=os.SCHED_OTHER):
        self.side, self.load, self.seconds = side, load, seconds
        words = [str(word) for word in load.command(bench, side, seconds)]
        self.process = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
            env={**os.environ, "OPENSSL_CONF": str(bench.openssl)},
            preexec_fn=lambda: placed(policy),
        )
        bench.loads.append(self.process)
        self.halt()

    def halt(self):
        self.process.send_signal(signal.SIGSTOP)

    def go(self):
        self.process.send_signal(signal.SIGCONT)

    def end(self):
        """Lets it come to its end; gives what it says. Whatever was not answered is the end of the measurement."""
        self.go()
        output, _ = self.process.communicate(timeout=self.seconds + PATIENCE)
        said, wrong = self.load.read(output)
        if wrong:
            raise RuntimeError(f"{self.side.label} did not answer everything: {wrong}")
        return said


def placed(policy):
    os.sched_setaffinity(0, OTHER_CPU)
    os.sched_setscheduler(0, policy, os.sched_param(policy == os.SCHED_FIFO))


def wrk(tls=False, path="/", paths=(), connections=64):
    """Requests by HTTP/1.1, one after the other on each connection; for `paths` in turn."""

    def command(bench, side, seconds):
        address = f"https://localhost:{side.tls}{path}" if tls else f"http://localhost:{side.plain}{path}"
        # Its patience is longer than it is ever halted.
        words = ["wrk", "-t", 1, "-c", connections, "-d", f"{seconds}s", "--timeout", f"{seconds + PATIENCE}s"]
        if paths:
            script = bench.folder / "paths.lua"
            script.write_text(PATHS.replace("PATHS", ", ".join(f'"{each}"' for each in paths)))
            words += ["-s", script]
        return [*words, address]

    def read(output):
        if not re.search(r"[1-9]\d* requests in", output):
            return None, output[-500:]
        return None, "; ".join(re.findall(r"Socket errors: .*|Non-2xx.*|unable to .*", output))

    return Load(command, read)


#: Makes its requests ahead, and sends them in turn.
PATHS = """
local paths, made, at = { PATHS }, {}, 0
function init() for i, path in ipairs(paths) do made[i] = wrk.format("GET", path) end end
function request() at = at % #made + 1 return made[at] end
"""


def h2load(path="/", clients=16, streams=10):
    """Requests by HTTP/2 over TLS, several at a time on each connection."""

    def command(bench, side, seconds):
        words = ["h2load", "-D", seconds, "-c", clients, "-m", streams, "-t", 1]
        return [*words, "--tls13-ciphers=TLS_AES_128_GCM_SHA256", "--groups=X25519", f"https://localhost:{side.tls}{path}"]

    def read(output):
        ended = re.search(r"(\d+) failed, (\d+) errored, (\d+) timeout", output)
        codes = re.search(r"status codes: (\d+) 2xx, (\d+) 3xx, (\d+) 4xx, (\d+) 5xx", output)
        if not ended or not codes or "Application protocol: h2" not in output:
            return None, output[-500:]
        clean = not any(map(int, (*ended.groups(), *codes.groups()[1:])))
        return None, "" if clean else f"{ended[0]}; {codes[0]}"

    return Load(command, read)


def tool(kind, *words, tls=False, counts="requests"):
    """One of the tools' own loads."""

    def command(bench, side, seconds):
        port = side.tls if tls else side.plain
        return [bench.tool("load"), kind, f"127.0.0.1:{port}", "--seconds", seconds, *words, *(["--tls"] if tls else [])]

    def read(output):
        said = last_line(output)
        if not said:
            return None, output[-500:]
        return said, f"{said['errors']} errors, the first: {said['first_error']}" if said["errors"] else ""

    return Load(command, read, counts)


def last_line(output):
    lines = [line for line in output.splitlines() if line.startswith("{")]
    return json.loads(lines[-1]) if lines else None
