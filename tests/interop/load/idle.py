"""Opens tens of thousands of connections that do nothing, and looks what they cost and whom they disturb."""

import json
import os
import re
import resource
import subprocess
import sys
import urllib.request
from pathlib import Path

import programs
import proxies

#: Idle connections in all, and the share of TLS.
IDLE, SECURE = int(os.environ.get("IDLE", "50000")), 0.2

#: Seconds of each load beside them, and its connections.
SECONDS, BUSY = 10, 64

#: Connections that are asked again at the end.
ASKED_AGAIN = 1000

#: What an idle connection may cost in user memory, in bytes; benches/compare/results.md has it to the byte.
COST_MAX = {"clear": 2 * 1024, "TLS": 12 * 1024}

#: Longest a request of the load may take, as its 99th percentile, on a machine that does everything at once.
SLOWEST = 1.0


def play(checks, started, binary):
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    # albedo reckons with two descriptors for each connection.
    each = (limit - 1000) // 2
    fronts = -(-IDLE // each)
    print(f"     {limit} descriptors for a process: {fronts} albedos hold {IDLE} connections, {IDLE // fronts} each")
    target = start_target(started)
    programs.certificate(started.folder)
    several = [Front(started, binary, number, target) for number in range(fronts)]
    for secure in (False, True):
        hold(checks, several, secure, -(-round(IDLE * (SECURE if secure else 1 - SECURE)) // fronts))
    for front in several:
        status = front.status()
        connections = sum(listener["connections"] for listener in status["listeners"])
        checks.check(f"{front.name} holds its connections", connections >= IDLE / fronts, f"{connections}")
    for front in several[:2]:
        load(checks, front)
    still(checks, several)
    kernel = Path("/proc/net/sockstat").read_text()
    print(f"     the kernel meanwhile: {re.search(r'TCP: .*', kernel)[0]} (pages)")
    panicked = [front.name for front in several if "panicked" in started.log(front.name)]
    checks.check("nobody panicked", not panicked, ", ".join(panicked))


class Front:
    def __init__(self, started, binary, number, target):
        self.started, self.name = started, f"albedo-{number}"
        self.port, self.tls_port, self.admin = programs.free_ports(3)
        file = started.folder / f"{self.name}.yaml"
        doors = f"{{ port: {self.port}, address: 127.0.0.1, protocol: HTTP, default_actions: [ {{ forward: small }} ] }}"
        secure = f"{{ port: {self.tls_port}, address: 127.0.0.1, protocol: HTTPS, certificates: [ {{ certificate: tls.pem, key: tls-key.pem }} ], default_actions: [ {{ forward: small }} ] }}"
        file.write_text(f"""admin: 127.0.0.1:{self.admin}
load_balancer: {{ idle_timeout: 1h }}
listeners: [ {doors}, {secure} ]
target_groups: [ {{ name: small, port: {target}, targets: [ 127.0.0.1 ] }} ]
""")
        self.process = started.start([binary, "run", file], [self.port, self.tls_port], self.name)
        self.clients = []
        # Whoever has served a little has what it needs to serve at all.
        wrk(self.port, "http", 1)
        wrk(self.tls_port, "https", 1)

    def hold(self, secure, count):
        """Begins to open so many; a few thousand a process, each process from an address of its own."""
        port = self.tls_port if secure else self.port
        begun = []
        for part in range(0, count, 5000):
            source = f"127.0.{20 + self.port % 200}.{1 + len(self.clients)}"
            command = [sys.executable, Path(__file__).with_name("idle_clients.py"), source, port, min(5000, count - part), int(secure)]
            begun.append(self.started.start(command, name="clients", pipes=True))
            self.clients.append(begun[-1])
        return begun

    def memory(self):
        return programs.memory([self.process.pid])

    def status(self):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.admin}/api/v1/status", timeout=10) as answer:
            return json.load(answer)


def start_target(started):
    (port,) = programs.free_ports(1)
    file = started.folder / "target.conf"
    temporary = " ".join(f"{kind}_temp_path {started.folder}/temp-{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    file.write_text(f"""
{"user root;" if os.geteuid() == 0 else ""}
daemon off; worker_processes 1; pid {started.folder}/target.pid; error_log {started.folder}/target.log crit;
worker_rlimit_nofile {proxies.FILES}; events {{ worker_connections 8192; }}
http {{ access_log off; keepalive_timeout 3600; keepalive_requests 100000000; {temporary}
  server {{ listen 127.0.0.1:{port} backlog=4096; location / {{ return 200 "{"0123456789abcdef" * 8}"; }} }} }}
""")
    started.start(["nginx", "-e", started.folder / "target.log", "-c", file], [port], "target")
    return port


def hold(checks, fronts, secure, count):
    """Opens so many connections to each, and says what they cost."""
    kind = "TLS" if secure else "clear"
    cost, opened = 0, 0
    for front in fronts:
        before = front.memory()
        for client in front.hold(secure, count):
            said = client.stdout.readline()
            opened += int(said.split()[1]) if said.startswith("open ") else 0
        cost += front.memory() - before
    wanted = count * len(fronts)
    checks.check(f"{wanted} idle connections ({kind}) are opened, each with an answer", opened == wanted, str(opened))
    one = cost / max(1, opened)
    checks.check(f"each costs at most {COST_MAX[kind]} bytes of user memory", one <= COST_MAX[kind], f"{one:.0f} bytes")


def load(checks, front):
    for port, scheme in ((front.port, "http"), (front.tls_port, "https")):
        done, wrong, slow = wrk(port, scheme, SECONDS)
        detail = f"{done} requests, 99% within {slow * 1000:.0f} ms {wrong}"
        checks.check(f"{front.name} serves a load by {scheme} beside them", done > 1000 and not wrong and slow <= SLOWEST, detail)
    command = ["h2load", "-D", SECONDS, "-c", 16, "-m", 10, "-t", 1, f"https://localhost:{front.tls_port}/"]
    output = run(command)
    found = re.search(r"requests: .* (\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout", output)
    fine = found and int(found[1]) > 1000 and found[2] == found[3] == found[4] == "0"
    checks.check(f"{front.name} serves a load by HTTP/2 beside them", fine, found[0] if found else output[-300:])


def still(checks, fronts):
    """Whether all of them are there and served, after everything."""
    answered = alive = wanted = asked = 0
    for front in fronts:
        for client in front.clients:
            client.stdin.write(f"ask {ASKED_AGAIN // len(front.clients) // len(fronts)}\n")
            client.stdin.flush()
        for client in front.clients:
            some, open_ones = map(int, client.stdout.readline().split())
            answered, alive = answered + some, alive + open_ones
    checks.check("all of them are open still", alive >= IDLE, str(alive))
    checks.check("and those that ask again are answered", answered >= ASKED_AGAIN * 0.9, str(answered))
    for front in fronts:
        for client in front.clients:
            client.stdin.write("end\n")
            client.stdin.flush()


def wrk(port, scheme, seconds):
    """Requests, what went wrong, and the 99th percentile in seconds."""
    output = run(["wrk", "-t", 1, "-c", BUSY, "-d", f"{seconds}s", "--latency", f"{scheme}://localhost:{port}/"], seconds + 60)
    found, slow = re.search(r"(\d+) requests in", output), re.search(r"99%\s+([\d.]+)(us|ms|s)", output)
    wrong = "; ".join(re.findall(r"Socket errors: .*|Non-2xx.*|unable to .*", output)) if found else output[-300:]
    unit = {"us": 1e-6, "ms": 1e-3, "s": 1}
    return int(found[1]) if found else 0, wrong, float(slow[1]) * unit[slow[2]] if slow else 0


def run(command, limit=120):
    command = [str(word) for word in command]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=limit)
    return done.stdout + done.stderr


if __name__ == "__main__":
    programs.run(play, *sys.argv[1:])
