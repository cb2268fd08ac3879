"""Times reloads of a large table, and what a steady load notices of them.

The worker and the control side share one CPU, which is the worst place to be for a request. Load, targets and this script
have another, and go before whatever else runs there, as if they were on machines of their own. Spans without reloads have
the same script at work: it writes a file of the same size at the same pace, beside the one that counts."""

import os
import statistics
import subprocess
import sys
import time
import urllib.error
import urllib.request

import programs
import proxies

RULES, GROUPS, TARGETS = 1000, 100, 20

#: Longest that a reload may take, from the request for it until every worker runs it, in seconds.
LIVE_WITHIN = 0.1

#: Pairs of a span with reloads and one without, seconds of each, seconds between two reloads.
SPANS, SPAN, PACE = 10, 5, 0.3

#: The load: HTTP/1.1 clients, requests a second of each. Steady, and far from what would keep a core busy.
CLIENTS, RATE = 4, 150

#: The proxy has one CPU, everything else another.
CPUS = sorted(os.sched_getaffinity(0))
PROXY_CPU, OTHER_CPU = {CPUS[0]}, {CPUS[-1]}

#: What counts as slower: the median of the spans' p99 by so many microseconds and by this ratio.
SLOWER, RATIO = 500, 1.25


def play(checks, started, binary):
    port, target, admin = programs.free_ports(3)
    addresses = [f"127.0.{100 + group}.{1 + number}" for group in range(GROUPS) for number in range(TARGETS)]
    os.sched_setaffinity(0, OTHER_CPU)
    targets = serve(started, target, addresses)
    if not all([go_first(pid) for pid in programs.processes_of(targets.pid)]):
        print("     load and targets run as everybody does, so figures are rough: only root may let them go first")

    def table(turn):
        """Every rule, every group's list and every tenth target differs from the other one of two tables."""
        groups = [proxies.Group("small", (("127.0.0.1", target),))]
        for number in range(GROUPS):
            own = addresses[number * TARGETS : (number + 1) * TARGETS]
            kept = [(address, target) for at, address in enumerate(own) if at % 10 or turn]
            groups.append(proxies.Group(f"group-{number}", tuple(kept), interval=10))
        rules = tuple((f"/{turn}/{number}/", f"group-{number % GROUPS}") for number in range(RULES - 1))
        listener = proxies.Listener(port, "small", rules=rules, answers=(("/generation", str(turn)),))
        extra = {"admin": f"127.0.0.1:{admin}", "group": {"deregistration_delay": "2s"}}
        return proxies.Table((listener,), tuple(groups), workers=1, extra=extra)

    front = proxies.proxy(binary, started)
    print(f"     {front.version()}, {RULES} rules, {GROUPS} groups, {GROUPS * TARGETS} targets")
    front.start(table(1), PROXY_CPU)
    texts = [front.configuration(table(turn)) for turn in (0, 1)]
    before = front.memory()
    turn, took, worked, wrong, slowest = 1, [], [], [], {"reloads": [], "rest": []}
    for span in range(SPANS * 2):
        kind = "rest" if span % 2 else "reloads"
        load = Load(port, started.folder / "load.log")
        time.sleep(1)
        end = time.monotonic() + SPAN
        while time.monotonic() < end:
            if kind == "rest":
                front.place("nobody-reads-this.yaml", texts[turn])
            else:
                turn = 1 - turn
                front.place("albedo.yaml", texts[turn])
                began, ran = time.monotonic(), front.cpu_time()
                said = reload(admin)
                took.append(time.monotonic() - began)
                worked.append((front.cpu_time() - ran) / 1e6)
                if ask(port) != str(turn):
                    wrong.append(f"{turn}: {said[:200]}")
            time.sleep(PACE)
        slowest[kind].append(load.stop())
    after = front.memory()

    checks.check(f"each of {len(took)} reloads is in force when it is acknowledged", not wrong, "; ".join(wrong[:2]))
    detail = f"median {statistics.median(took) * 1000:.0f} ms, {min(took) * 1000:.0f} to {max(took) * 1000:.0f}; {statistics.median(worked):.0f} ms of CPU, the load's included"
    checks.check(f"a reload is live within {LIVE_WITHIN * 1000:.0f} ms", statistics.median(took) < LIVE_WITHIN, detail)
    failed = sum(failures for spans in slowest.values() for _, _, failures in spans)
    count = sum(requests for spans in slowest.values() for _, requests, _ in spans)
    checks.check("no request failed", not failed, f"{failed} of {count}")
    with_them, without = (statistics.median(p99 for p99, _, _ in slowest[kind]) for kind in ("reloads", "rest"))
    spread = ", ".join(f"{kind} {min(s)[0]:.0f} to {max(s)[0]:.0f}" for kind, s in slowest.items())
    right = with_them - without < SLOWER or with_them / without < RATIO
    checks.check("p99 does not show them", right, f"{with_them:.0f} µs with, {without:.0f} µs without; {spread}")
    print(f"     memory {before / 2**20:.1f} → {after / 2**20:.1f} MiB")


class Load:
    """h2load by HTTP/1.1 at a steady rate; its log has a line for every request."""

    def __init__(self, port, log):
        log.unlink(missing_ok=True)
        self.log = log
        command = ["h2load", "--h1", "-c", CLIENTS, "-t", 1, "-D", SPAN + 30, "--rps", RATE, "--log-file", log, f"http://127.0.0.1:{port}/"]
        self.process = subprocess.Popen([str(word) for word in command], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        go_first(self.process.pid)

    def stop(self):
        """p99 in microseconds, requests, failures."""
        self.process.terminate()
        self.process.wait(10)
        # The last line may have been cut.
        rows = [line.split() for line in self.log.read_text().splitlines()[:-1]]
        durations = sorted(int(row[2]) for row in rows)
        return durations[int(len(durations) * 0.99)], len(rows), sum(row[1] != "200" for row in rows)


def serve(started, port, addresses):
    listens = "\n".join(f"listen {address}:{port};" for address in ("127.0.0.1", *addresses))
    temporary = " ".join(
        f"{kind}_temp_path {started.folder}/temp-targets-{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    file = started.folder / "targets.conf"
    file.write_text(f"""
{"user root;" if os.geteuid() == 0 else ""}
daemon off; worker_processes 1; pid {started.folder}/targets.pid; error_log {started.folder}/targets.log crit;
events {{ worker_connections 8192; }}
http {{
  access_log off; tcp_nodelay on; keepalive_timeout 3600; keepalive_requests 100000000; {temporary}
  server {{ {listens} location / {{ return 200 "0123456789abcdef"; }} }}
}}
""")
    return started.start(["nginx", "-e", started.folder / "targets.log", "-c", file], [port], "targets", OTHER_CPU)


def go_first(pid):
    """Lets a process run whenever it has something to do, as if it had the machine for itself; False if that is forbidden."""
    try:
        os.sched_setscheduler(pid, os.SCHED_FIFO, os.sched_param(1))
    except PermissionError:
        return False
    return True


def reload(admin):
    """Asks for it at the admin address: what a command line takes to start is not counted."""
    request = urllib.request.Request(f"http://127.0.0.1:{admin}/api/v1/reload", method="POST", data=b"")
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.read().decode()


def ask(port):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/generation", timeout=5) as answer:
        return answer.read().decode()


if __name__ == "__main__":
    programs.run(play, *sys.argv[1:])
