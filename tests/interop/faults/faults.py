"""Takes hosts away from albedo, each time in another way, and looks who notices and how.

albedo and its clients are in one namespace, each target in another; a wire of its own leads to each. The namespaces
have no way out to anywhere else, and their addresses are those of documentation (RFC 5737).
"""

import ctypes
import http.client
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import programs

#: Times of albedo's configuration, in seconds.
IDLE_TIMEOUT, INTERVAL, TIMEOUT, THRESHOLD = 3, 0.5, 0.4, 2

#: How long two failed checks take at most, and what a busy machine may need beyond that.
DETECTION, SLACK = THRESHOLD * (INTERVAL + TIMEOUT), 2

#: ALB's limit for a connection.
CONNECT_TIMEOUT = 10

PORT, HOSTS = 8000, ("one", "two", "three")


class Network:
    """A namespace in front, and one for each host; all of them end with the script."""

    def __init__(self):
        self.tag = f"albedo-{os.getpid()}"
        self.front = f"{self.tag}-front"
        self.made = []

    def build(self):
        self.add(self.front)
        ip("-n", self.front, "link", "set", "lo", "up")
        for number, host in enumerate(HOSTS):
            self.add(self.space(host))
            ip("-n", self.front, "link", "add", f"to-{host}", "type", "veth", "peer", "name", "eth0", "netns", self.space(host))
            ip("-n", self.front, "address", "add", f"192.0.2.{number * 4 + 1}/30", "dev", f"to-{host}")
            ip("-n", self.space(host), "address", "add", f"{self.address(host)}/30", "dev", "eth0")
            ip("-n", self.front, "link", "set", f"to-{host}", "up")
            for device in ("lo", "eth0"):
                ip("-n", self.space(host), "link", "set", device, "up")

    def add(self, name):
        ip("netns", "add", name)
        self.made.append(name)

    def space(self, host):
        return f"{self.tag}-{host}"

    def address(self, host):
        return f"192.0.2.{HOSTS.index(host) * 4 + 2}"

    def inside(self, host, command):
        return ["ip", "netns", "exec", self.space(host), *command]

    def loses(self, host, rules):
        """Packets of a host are dropped, by (hook, rule); the host itself learns nothing."""
        text = "table inet loss {\n"
        for hook, rule in rules:
            text += f"chain {hook} {{\n type filter hook {hook} priority 0;\n {rule}\n }}\n"
        done(self.inside(host, ["nft", "-f", "-"]), input=text + "}\n")

    def heals(self, host):
        done(self.inside(host, ["nft", "delete", "table", "inet", "loss"]))

    def wire(self, host, how):
        ip("-n", self.space(host), "link", "set", "eth0", how)

    def end(self):
        for name in reversed(self.made):
            subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)


class Fleet:
    def __init__(self, started, network, binary):
        self.started, self.network, self.folder = started, network, started.folder
        self.log = self.folder / "access.log"
        for host in HOSTS:
            here = Path(__file__).with_name("host.py")
            command = [sys.executable, here, host, network.address(host), PORT, self.seen(host)]
            started.start(network.inside(host, command), name=host)
            self.seen(host).touch()
        one, two, three = (f'"{network.address(host)}:{PORT}"' for host in HOSTS)
        check = f"{{ path: /ping, interval: {INTERVAL * 1000:.0f}ms, timeout: {TIMEOUT * 1000:.0f}ms, healthy_threshold: {THRESHOLD}, unhealthy_threshold: {THRESHOLD} }}"
        groups = {"pair": f"{one}, {two}", "lone": one, "other": three}
        rules = "".join(
            f"      - {{ priority: {number}, conditions: [ {{ path_pattern: [\"/{group}/*\"] }} ], actions: [ {{ forward: {group} }} ] }}\n"
            for number, group in enumerate(groups, 1)
        )
        text = f"""admin: 127.0.0.1:9900
load_balancer: {{ idle_timeout: {IDLE_TIMEOUT}s, access_log: {{ path: {self.log}, format: json }} }}
listeners:
  - port: 8080
    protocol: HTTP
    rules:
{rules}    default_actions: [ {{ fixed_response: {{ status_code: 404 }} }} ]
target_groups:
"""
        for group, targets in groups.items():
            text += f"  - {{ name: {group}, port: {PORT}, health_check: {check}, targets: [ {targets} ] }}\n"
        (self.folder / "albedo.yaml").write_text(text)
        started.start([binary, "run", self.folder / "albedo.yaml"], [8080], "albedo")
        self.wait_for_state("pair", "one", "healthy", 10)

    def seen(self, host):
        return self.folder / f"{host}.requests"

    def requests(self, host, text):
        return self.seen(host).read_text().count(text)

    def state(self, group, host):
        """State and reason of a target."""
        status, text = ask("GET", "/api/v1/status", port=9900)[:2]
        assert status == 200, text
        found = next(each for each in json.loads(text)["target_groups"] if each["name"] == group)
        target = next(each for each in found["targets"] if each["id"] == self.network.address(host))
        return target["state"], target.get("reason")

    def wait_for_state(self, group, host, state, seconds):
        return programs.wait_for(lambda: self.state(group, host)[0] == state, seconds)

    def reason(self, path):
        """What the access log says of the last request with this path."""
        def record():
            lines = self.log.read_text().splitlines()
            return [json.loads(line) for line in lines if path in line][-1:]

        programs.wait_for(record, 5)
        return (record() or [{}])[0].get("elb_reason")


class Asking(threading.Thread):
    """A request under way: what became of it, and when."""

    def __init__(self, method, path, body=b""):
        super().__init__(daemon=True)
        self.what, self.answer, self.took = (method, path, body), None, None
        self.start()

    def run(self):
        began = time.monotonic()
        self.answer = ask(*self.what)
        self.took = time.monotonic() - began

    def end(self):
        self.join(60)
        return self.answer, self.took


class Load(threading.Thread):
    """Asks one group again and again; remembers what was not as it should be, and the slowest."""

    def __init__(self, path, wanted):
        super().__init__(daemon=True)
        self.path, self.wanted = path, wanted
        self.count, self.wrong, self.slowest, self.going = 0, [], 0, True
        self.start()

    def run(self):
        while self.going:
            began = time.monotonic()
            answer = ask("GET", self.path)
            self.slowest = max(self.slowest, time.monotonic() - began)
            self.count += 1
            if answer[:2] != (200, self.wanted):
                self.wrong.append(answer)
            time.sleep(0.01)

    def end(self):
        self.going = False
        self.join(60)
        return self.count, self.wrong, self.slowest


def ask(method, path, body=b"", port=8080):
    """Status and body of an answer; status 0 where it broke off."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request(method, path, body or None)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    except (OSError, http.client.HTTPException) as error:
        return 0, repr(error)
    finally:
        connection.close()


def play(checks, started, binary):
    network = Network()
    try:
        network.build()
        # From here on we are in front, and so is all that we start; what is on a host says so.
        enter(network.front)
        fleet = Fleet(started, network, binary)
        vanishes(checks, fleet)
        returns(checks, fleet)
        answers_are_lost(checks, fleet)
        wire_is_pulled(checks, fleet)
        packets_are_lost(checks, fleet)
        panicked = "panicked" in started.log("albedo")
        checks.check("nobody panicked", not panicked)
    finally:
        # Namespaces go once nothing runs in them.
        started.end_all()
        network.end()


def vanishes(checks, fleet):
    """Nothing comes from a host any more, and nothing reaches it: no reset, no error, silence."""
    for _ in range(4):  # Connections to be kept.
        ask("GET", "/pair/")
    load = Load("/other/", "three")
    waiting = [Asking("GET", "/lone/wait?20"), Asking("POST", "/lone/wait?20", b"once")]
    dripping = Asking("GET", "/lone/drip?20")
    programs.wait_for(lambda: fleet.requests("one", "wait?20") == 2 and fleet.requests("one", "drip"), 10)
    time.sleep(0.5)
    fleet.network.loses("one", [("input", "policy drop;"), ("output", "policy drop;")])
    began = time.monotonic()
    took = fleet.wait_for_state("pair", "one", "unhealthy", 20)
    state = fleet.state("pair", "one")
    most = DETECTION + SLACK
    checks.check("a host that vanishes is unhealthy as soon as its checks have failed", took is not None and took <= most and state[1] == "Target.Timeout", f"{took and round(took, 2)} s of {most}, {state}")
    for request in waiting:
        answer, took = request.end()
        checks.check(f"{request.what[0]} that waits for it ends by the idle timeout", answer[0] == 504 and took <= 0.5 + IDLE_TIMEOUT + 20, f"{answer[0]} after {took:.1f} s")
    reason = fleet.reason("/lone/wait?20")
    checks.check("the log says that the target was silent", reason == "target_timeout", str(reason))
    answer, took = dripping.end()
    checks.check("an answer that had begun is cut off by the idle timeout", answer[0] == 0 and took <= 20, f"{answer} after {took:.1f} s")
    once = fleet.requests("one", "POST /lone/wait?20")
    checks.check("the POST was sent once and to nobody else", once == 1 and not fleet.requests("two", "POST"), str(once))

    quick = [Asking("GET", "/pair/") for _ in range(20)]
    ends = [request.end() for request in quick]
    fine = all(answer == (200, "two") and took < 1 for answer, took in ends)
    checks.check("the other target of its group has all that comes", fine, f"the slowest of {len(ends)} took {max(took for _, took in ends):.2f} s")

    # Each connection that was kept costs one request an idle timeout; then there is none left.
    for turn in range(5):
        answer, took = Asking("POST", f"/lone/alone-{turn}", b"x").end()
        reason = fleet.reason(f"/lone/alone-{turn}")
        if reason != "target_timeout":
            break
    timely = CONNECT_TIMEOUT - 0.5 <= took <= CONNECT_TIMEOUT + SLACK
    checks.check("alone in its group, it costs a connect timeout and a 504", answer[0] == 504 and timely and reason == "connect_timeout", f"{answer[0]} after {took:.1f} s, {reason}")
    count, wrong, slowest = load.end()
    checks.check("requests of another group notice nothing of all this", count > 100 and not wrong and slowest < 1, f"{count} requests, {len(wrong)} wrong, the slowest took {slowest:.2f} s {wrong[:2]}")
    print(f"     the host was away for {time.monotonic() - began:.0f} s")


def returns(checks, fleet):
    fleet.network.heals("one")
    # A check that is under way may be in the middle of TCP's own waiting.
    most = THRESHOLD * (INTERVAL + TIMEOUT) + SLACK
    took = fleet.wait_for_state("pair", "one", "healthy", 20)
    checks.check("a host that is back is healthy as soon as its checks have passed", took is not None and took <= most, f"{took and round(took, 2)} s of {most}")
    names = [ask("GET", "/pair/")[1] for _ in range(10)]
    checks.check("and has its share again", 3 <= names.count("one") <= 7, str(names))
    answer = ask("GET", "/lone/")
    checks.check("its own group is as before", answer == (200, "one"), str(answer))


def answers_are_lost(checks, fleet):
    """Requests reach the host and are executed; its answers are lost."""
    for _ in range(6):  # Connections to be kept, by which requests come through.
        ask("POST", "/lone/before", b"x")
    fleet.network.loses("one", [("output", "policy drop;")])
    answer, took = Asking("POST", "/lone/order", b"once").end()
    executed = fleet.requests("one", "/lone/order")
    checks.check("a POST whose answer is lost is a 504 and executed at most once", answer[0] == 504 and executed <= 1, f"{answer[0]} after {took:.1f} s, executed {executed} times")
    fleet.network.heals("one")
    fleet.wait_for_state("pair", "one", "healthy", 20)
    executed = fleet.requests("one", "/lone/order")
    checks.check("and is not executed again when the way is free", executed <= 1, f"{executed} times")


def wire_is_pulled(checks, fleet):
    """The kernel itself says that there is no way to the host."""
    fleet.network.wire("one", "down")
    took = fleet.wait_for_state("pair", "one", "unhealthy", 20)
    checks.check("a host whose wire is pulled out is unhealthy", took is not None and took <= DETECTION + SLACK, f"{took and round(took, 2)} s, {fleet.state('pair', 'one')}")
    answer, took = Asking("GET", "/lone/pulled").end()
    reason = fleet.reason("/lone/pulled")
    fits = {502: "target_unreachable", 504: "connect_timeout"}.get(answer[0]) == reason
    checks.check("alone in its group, it costs what the kernel says", fits and took <= CONNECT_TIMEOUT + SLACK, f"{answer[0]} after {took:.1f} s, {reason}")
    names = {ask("GET", "/pair/")[1] for _ in range(10)}
    checks.check("the other target of its group has all that comes", names == {"two"}, str(names))
    fleet.network.wire("one", "up")
    took = fleet.wait_for_state("pair", "one", "healthy", 20)
    checks.check("it is healthy again when the wire is back", took is not None, f"{took and round(took, 2)} s")


def packets_are_lost(checks, fleet):
    """One packet in twenty, both ways: TCP's affair, and nobody else's."""
    rule = "policy accept;\n numgen random mod 100 < 5 drop"
    fleet.network.loses("three", [("input", rule), ("output", rule)])
    ends = [ask("GET", "/other/") if turn % 2 else ask("POST", "/other/", b"y" * 20_000) for turn in range(200)]
    wrong = [end for end in ends if end != (200, "three")]
    posted = fleet.requests("three", "POST /other/")
    checks.check("200 requests across a wire that loses packets are all answered, POSTs once", not wrong and posted == 100, f"{len(wrong)} wrong, {posted} of 100 POSTs executed {wrong[:2]}")
    fleet.network.heals("three")


def enter(space):
    """Moves this process and its children to come into a network namespace. 0x40000000 is CLONE_NEWNET."""
    with open(f"/run/netns/{space}") as file:
        if ctypes.CDLL(None, use_errno=True).setns(file.fileno(), 0x40000000):
            raise OSError(ctypes.get_errno(), f"cannot enter {space}")


def ip(*words):
    done(["ip", *words])


def done(command, **more):
    command = [str(word) for word in command]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=30, **more)
    if ended.returncode:
        raise RuntimeError(f"{' '.join(command)}: {ended.stderr.strip()}")


if __name__ == "__main__":
    programs.run(play, *sys.argv[1:])
