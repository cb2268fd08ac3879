"""Runs the DataRobot table through albedo and checks what the table promises, step by step."""

import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

import load
import nodes
import table
from table import ADDRESSES, HOST, INTERVAL, SERVICES, THRESHOLD, TIMEOUT

#: Body of the large upload and download, and what albedo may keep resident meanwhile.
LARGE, RESIDENT_MAX = 2 << 30, 64 << 20

#: Seconds that a busy machine may add to a promised time.
SLACK = 1

#: Longest a node may take to be called unhealthy, and healthy again.
UNHEALTHY_WITHIN = THRESHOLD * INTERVAL + TIMEOUT + SLACK
HEALTHY_WITHIN = THRESHOLD * INTERVAL + SLACK

NODES = tuple(ADDRESSES.values())
NAMES = tuple(service.name for service in SERVICES)


class Checks:
    passed = failed = skipped = 0

    def check(self, sentence, holds, detail=""):
        holds = bool(holds)
        self.passed += holds
        self.failed += not holds
        print(f"{'ok  ' if holds else 'FAIL'} {sentence}{f': {detail}' if detail else ''}", flush=True)
        return holds

    def skip(self, sentence, reason):
        self.skipped += 1
        print(f"skip {sentence}: {reason}", flush=True)


class Albedo:
    """One running albedo, spoken to as an operator would."""

    def __init__(self, binary, configuration, admin_port, log):
        self.binary, self.admin, self.log = binary, f"127.0.0.1:{admin_port}", log
        self.process = subprocess.Popen(
            [binary, "run", configuration], stdin=subprocess.DEVNULL, stdout=open(log, "ab"), stderr=subprocess.STDOUT
        )

    def ready(self):
        if self.process.poll() is not None:
            raise RuntimeError(f"albedo ended with {self.process.returncode}:\n{Path(self.log).read_text()[-4000:]}")
        try:
            with urllib.request.urlopen(f"http://{self.admin}/readyz", timeout=2) as answer:
                return answer.status == 200
        except (urllib.error.URLError, OSError):
            return False

    def status(self):
        command = [self.binary, "status", "--json", "--admin", self.admin]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=10)
        return json.loads(done.stdout)

    def states(self):
        """{(group, address): (state, reason)}"""
        groups = self.status()["target_groups"]
        return {
            (group["name"], target["id"]): (target["state"], target.get("reason"))
            for group in groups
            for target in group["targets"]
        }

    def table(self):
        """What `albedo status` prints for a person."""
        command = [self.binary, "status", "--admin", self.admin]
        return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=10).stdout

    def memory(self, field):
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith(f"{field}:"):
                return int(line.split()[1]) * 1024
        raise RuntimeError(f"no {field}")

    def end(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(10)


class Scenario(Checks):
    def __init__(self, repository, binary, folder):
        self.repository, self.binary, self.folder = Path(repository), binary, Path(folder)
        self.shipped = (self.repository / "config/datarobot.yaml").read_text()
        self.albedo = None
        self.cluster = {}
        self.running = []

    # ---- the story -------------------------------------------------------------------------------------

    def play(self):
        self.prepare()
        self.serve("plain", nodes_speak_tls=False)
        self.both_tables(nodes_speak_tls=False)
        self.sessions()
        self.health_checks(nodes_speak_tls=False)
        self.failed_services()
        self.failed_instances()
        self.large_bodies()
        self.stop_while_serving()
        for node in self.cluster.values():
            node.stop()
            node.forget_probes()
            node.start(speaks_tls=True)
        self.serve("tls", nodes_speak_tls=True)
        self.both_tables(nodes_speak_tls=True)
        self.health_checks(nodes_speak_tls=True)
        self.stop_while_serving()

    def prepare(self):
        tls = self.folder / "tls"
        tls.mkdir()
        self.certificate = tls / "fullchain.pem"
        command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
        command += ["-days", "2", "-subj", f"/CN={HOST}", "-addext", f"subjectAltName=DNS:{HOST}"]
        command += ["-keyout", tls / "key.pem", "-out", self.certificate]
        subprocess.run(command, check=True, capture_output=True, stdin=subprocess.DEVNULL)
        for address in NODES:
            node = nodes.Node(
                address, self.folder / address, self.folder / "storage", self.certificate, tls / "key.pem"
            )
            self.cluster[address] = node
            node.start()

    def serve(self, name, nodes_speak_tls):
        admin, *ports = free_ports(4)
        self.ports = dict(zip((443, 8100, 9494), ports))
        configuration = self.folder / f"{name}.yaml"
        configuration.write_text(table.moved(self.shipped, admin, self.ports, nodes_speak_tls))
        checked = subprocess.run(
            [self.binary, "check", configuration], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=20
        )
        self.said = checked.stdout + checked.stderr
        self.check(f"albedo check takes the {name} table", checked.returncode == 0, self.said[-1500:].strip())
        self.albedo = Albedo(self.binary, configuration, admin, self.folder / f"{name}.log")
        self.running.append(self.albedo)
        self.check("the process is ready", wait_for(self.albedo.ready, 10) is not None)
        took = wait_for(lambda: self.all_are("healthy"), 2 * INTERVAL)
        self.check("every target of all seven groups turns healthy", took is not None, self.shown_states(took))

    def both_tables(self, nodes_speak_tls):
        for service in SERVICES:
            port, _ = service.ports(nodes_speak_tls)
            for version, flag in (("1.1", "--http1.1"), ("2", "--http2")):
                answers = self.curl(service.listener, service.path, flag, repeat=12)
                wanted = {
                    "version": version,
                    "status": 200,
                    "service": service.name,
                    "port": str(port),
                    "scheme": "https" if nodes_speak_tls else "http",
                    "host": f"{HOST}:{self.ports[service.listener]}",
                    "uri": service.path,
                    "forwarded_for": "127.0.0.1",
                    "forwarded_proto": "https",
                    "forwarded_port": str(self.ports[service.listener]),
                }
                right = [
                    wanted.items() <= answer.items() and answer["trace"].startswith("Root=1-") for answer in answers
                ]
                sentence = f"HTTPS:{service.listener} {service.path} by HTTP/{version} reaches {service.name}:{port}"
                self.check(sentence, len(right) == 12 and all(right), "" if all(right) else str(answers)[:1500])
                if service.name != "mmqueue":
                    shares = [sum(answer.get("node") == node for answer in answers) for node in NODES]
                    self.check(f"{service.name} takes its three nodes in turn", shares == [4, 4, 4], str(shares))
        for path in ("/api/v2", "/API/v2/projects/", "/x/api/v2/projects/", "/upload", "/socket.io-queue"):
            answer = self.curl(443, path, "--http1.1")[0]
            self.check(f"{path} matches no rule and reaches app", answer.get("service") == "app", "")
        raw = "/api/v2/a%2Fb/..%2f?x=1&y=%20"
        arrived = self.curl(443, raw, "--http1.1")[0].get("uri")
        self.check("path and query arrive as sent", arrived == raw, str(arrived))

    def sessions(self):
        sentence = "mmqueue keeps a session on its node"
        if "stickiness" in self.said and "not served yet" in self.said:
            self.skip(sentence, "stickiness is not served yet")
            return
        path = next(service.path for service in SERVICES if service.name == "mmqueue")
        jar = self.folder / "cookies"
        answers = [self.curl(443, path, "--http1.1", extra=["-c", jar, "-b", jar])[0] for _ in range(10)]
        seen = {answer.get("node") for answer in answers}
        cookie = "AWSALB" in jar.read_text() if jar.exists() else False
        self.check(sentence, cookie and len(seen) == 1, f"cookie {cookie}, nodes {seen}")

    def health_checks(self, nodes_speak_tls):
        """The columns of the health check table, as the nodes saw them."""
        time.sleep(max(0, 2 * INTERVAL + SLACK - self.since_first_probe()))
        for service in SERVICES:
            _, port = service.ports(nodes_speak_tls)
            scheme = "https" if nodes_speak_tls and service.name != "mmqueue" else "http"
            early, gaps, wrong = [], [], []
            for address, node in self.cluster.items():
                probes = [probe for probe in node.probes() if probe[1] == port and probe[3] == service.health_path]
                times = [probe[0] for probe in probes]
                # The second probe comes early, at a place of its own in the interval, so that probes spread over it.
                early += [later - earlier for earlier, later in zip(times[:1], times[1:2])]
                gaps += [later - earlier for earlier, later in zip(times[1:], times[2:])]
                wrong += [p for p in probes if p[2] != scheme or p[4] != f"{address}:{port}" or p[5] != 200]
            sentence = f"{service.name} is checked by {scheme.upper()} on {port} {service.health_path} every {INTERVAL} s"
            steady = len(gaps) >= len(NODES) and all(abs(gap - INTERVAL) < 0.5 for gap in gaps)
            steady = steady and all(gap < INTERVAL + 0.5 for gap in early)
            self.check(sentence, steady and not wrong, f"gaps {[round(g, 2) for g in early + gaps]} wrong {wrong[:3]}")

    def failed_services(self):
        """A service that fails its own check leaves its own group alone, though five share a port.
        It also proves which group answers each path, because each group keeps other nodes."""
        keep = {"app": NODES, "publicapi": NODES[:1], "appupload": NODES[1:2], "internalapi": NODES[:2],
                "dss-api": NODES[2:], "pngexport": NODES[1:], "mmqueue": NODES}
        for name, kept in keep.items():
            for address, node in self.cluster.items():
                node.fail(name, address not in kept)
        expected = {
            (name, address): ("healthy", None) if address in kept else ("unhealthy", "Target.ResponseCodeMismatch")
            for name, kept in keep.items() for address in NODES
        }
        took = wait_for(lambda: self.albedo.states() == expected, UNHEALTHY_WITHIN)
        self.check("services that answer 503 to their check leave their group alone", took is not None, self.shown_states(took))
        words = (*NAMES, *NODES, "healthy", "unhealthy", "Target.ResponseCodeMismatch")
        missing = [word for word in words if word not in self.albedo.table()]
        self.check("albedo status says so in ELBv2's words", not missing, f"missing {missing}" if missing else "")
        for service in SERVICES:
            answers = self.curl(service.listener, service.path, "--http2", repeat=12)
            seen = {answer.get("node") for answer in answers}
            wanted = set(keep[service.name])
            right = seen <= wanted if service.name == "mmqueue" else seen == wanted
            self.check(f"{service.path} is answered by {service.name}'s healthy nodes only", right, str(sorted(map(str, seen))))
        for name in NAMES:
            for node in self.cluster.values():
                node.fail(name, False)
        took = wait_for(lambda: self.all_are("healthy"), HEALTHY_WITHIN)
        self.check("services that pass again return", took is not None, self.shown_states(took))

    def failed_instances(self):
        """'Simulating a Failed Instance', under load: once told to go, once struck dead."""
        http1 = load.Http1Load(self.ports, self.certificate)
        http2 = load.Http2Load(self.ports[443], 120, self.folder / "h2load.log")
        self.running.append(http2)
        try:
            time.sleep(2)
            falls = [self.failed_instance(NODES[2], signal.SIGTERM), self.failed_instance(NODES[1], signal.SIGKILL)]
            time.sleep(2)
        finally:
            records = http1.stop(), http2.stop()
        self.account_for(*records, falls)

    def failed_instance(self, address, how):
        node = self.cluster[address]
        fall = {"node": address, "how": how.name, "struck": time.time()}
        node.stop(how)
        fall["gone"] = time.time()
        took = wait_for(lambda: self.node_is(address, "unhealthy"), UNHEALTHY_WITHIN)
        self.check(f"after {how.name} the node is unhealthy in all seven groups", took is not None, self.shown_states(took))
        others = [state for (_, target), (state, _) in self.albedo.states().items() if target != address]
        self.check("the other nodes stay healthy", set(others) == {"healthy"}, str(set(others)))
        time.sleep(2)
        fall["back"] = time.time()
        node.start()
        took = wait_for(lambda: self.node_is(address, "healthy"), HEALTHY_WITHIN)
        self.check("the node returns and is healthy in all seven groups", took is not None, self.shown_states(took))
        fall["healthy"] = time.time()
        time.sleep(2)
        return fall

    def account_for(self, http1, http2, falls):
        records = sorted(http1 + http2)
        through = all(some and some[-1].end > falls[-1]["healthy"] for some in (http1, http2))
        self.check("both loads ran to the end", through, f"{len(http1)} requests by HTTP/1.1, {len(http2)} by HTTP/2")
        failures = [record for record in records if record.failure]
        for fall in falls:
            label = f"{fall['how']} of {fall['node']}"
            flying = [r for r in records if r.start <= fall["gone"] and r.end >= fall["struck"]]
            lost = [record for record in flying if record.failure]
            late = [r for r in failures if fall["gone"] < r.start <= fall["healthy"]]
            detail = f"{len(lost)} of {len(flying)} in flight were lost {sorted({r.failure for r in lost})}"
            self.check(f"{label}: no request that began after it failed", not late, f"{detail} {late[:3] or ''}")
            failures = [record for record in failures if record not in lost and record not in late]
            after = [r for r in records if r.start > fall["gone"] and r.node == fall["node"]]
            early = [r for r in after if r.start < fall["back"]]
            self.check(f"{label}: nobody was answered by it while it was gone", not early, str(early[:3] or ""))
            served = {r.service for r in after if r.start > fall["healthy"]}
            wanted = set(NAMES) - {"mmqueue"}
            self.check(f"{label}: back, it answers for every service again", wanted <= served, "")
        self.check("every other request succeeded", not failures, str(failures[:5] or ""))

    def large_bodies(self):
        source = self.folder / "large"
        with open("/dev/zero", "rb") as zero, open(source, "wb") as sink:
            head = subprocess.Popen(["head", "-c", str(LARGE)], stdin=zero, stdout=subprocess.PIPE)
            cipher = ["openssl", "enc", "-aes-128-ctr", "-K", "00" * 16, "-iv", "00" * 16]
            subprocess.run(cipher, stdin=head.stdout, stdout=sink, check=True)
            head.wait()
        stored = self.folder / "storage/upload/files/large"
        began = time.monotonic()
        up = self.curl_raw(443, "/upload/files/large", ["--http1.1", "-T", source, "-o", os.devnull, "-w", "%{http_code}"])
        took = time.monotonic() - began
        wanted = digest(source)
        same = up.stdout.strip() == b"201" and stored.exists() and digest(stored) == wanted
        detail = f"{up.stdout!r} {up.stderr[-300:]!r}, {LARGE / took / 1e6:.0f} MB/s"
        self.check("2 GiB go up through HTTPS with the same checksum", same, detail)
        source.unlink()
        began = time.monotonic()
        command = self.curl_command(443, "/upload/files/large", ["--http2"])
        with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as down:
            arrived = hashlib.file_digest(down.stdout, "sha256").hexdigest()
            errors = down.stderr.read()
        took = time.monotonic() - began
        same = down.returncode == 0 and arrived == wanted
        self.check("2 GiB come down through HTTPS with the same checksum", same, f"{errors[-300:]!r}, {LARGE / took / 1e6:.0f} MB/s")
        stored.unlink(missing_ok=True)
        peak, now = self.albedo.memory("VmHWM"), self.albedo.memory("VmRSS")
        detail = f"{peak / 2**20:.1f} MiB at most, {now / 2**20:.1f} MiB now"
        self.check("albedo never held 64 MiB", peak < RESIDENT_MAX, detail)

    def stop_while_serving(self):
        """SIGTERM: what is in flight ends well, then the process ends with 0."""
        command = self.curl_command(443, "/slow", ["--http1.1", "-o", os.devnull, "-w", "%{http_code} %{size_download}"])
        slow = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        time.sleep(0.5)
        self.check("a slow answer is under way", slow.poll() is None)
        self.albedo.process.send_signal(signal.SIGTERM)
        said, errors = slow.communicate(timeout=20)
        self.check("SIGTERM lets it end", said == f"200 {nodes.SLOW_SIZE}".encode(), f"{said!r} {errors!r}")
        try:
            code = self.albedo.process.wait(15)
        except subprocess.TimeoutExpired:
            code = "none within 15 s"
        self.check("SIGTERM ends albedo with 0", code == 0, str(code))
        log = Path(self.albedo.log).read_text(errors="replace")
        self.check("no panic in the log", "panicked" not in log, "")
        self.albedo.end()

    # ---- what the story needs --------------------------------------------------------------------------

    def all_are(self, state):
        states = self.albedo.states()
        wanted = {(name, address) for name in NAMES for address in NODES}
        return states.keys() == wanted and {found for found, _ in states.values()} == {state}

    def node_is(self, address, state):
        states = self.albedo.states()
        return all(states[(name, address)][0] == state for name in NAMES)

    def shown_states(self, took):
        if took is not None:
            return f"{took:.1f} s"
        return "; ".join(f"{group} {target} {state} {reason}" for (group, target), (state, reason) in self.albedo.states().items())

    def since_first_probe(self):
        times = [probe[0] for node in self.cluster.values() for probe in node.probes()]
        return time.time() - min(times, default=time.time())

    def curl_command(self, listener, path, arguments):
        port = self.ports[listener]
        command = ["curl", "-sS", "--max-time", "120", "--path-as-is", "--globoff", "--cacert", self.certificate]
        command += ["--resolve", f"{HOST}:{port}:127.0.0.1", *arguments, f"https://{HOST}:{port}{path}"]
        return [str(word) for word in command]

    def curl_raw(self, listener, path, arguments):
        command = self.curl_command(listener, path, arguments)
        return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=150)

    def curl(self, listener, path, flag, repeat=1, extra=()):
        """Answers to `repeat` requests in a row on one connection, each with what curl saw of it."""
        seen = ["-w", '{"version": "%{http_version}", "status": %{http_code}}\\n']
        command = self.curl_command(listener, path, [flag, *seen, *extra])
        command += [command[-1]] * (repeat - 1)
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=150)
        lines = done.stdout.splitlines()
        try:
            return [json.loads(body) | json.loads(facts) for body, facts in zip(lines[::2], lines[1::2])] or [{}]
        except json.JSONDecodeError:
            return [{"curl": done.stdout + done.stderr}]

    def end(self):
        for thing in self.running:
            if isinstance(thing, Albedo):
                thing.end()
            elif thing.process.poll() is None:
                thing.process.kill()
                thing.process.wait(10)
        for node in self.cluster.values():
            node.stop()


def digest(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def wait_for(holds, seconds):
    """How long it took until `holds()`; None when it did not within `seconds`."""
    began = time.monotonic()
    while True:
        if holds():
            return time.monotonic() - began
        if time.monotonic() - began > seconds:
            return None
        time.sleep(0.2)


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


def main():
    repository, binary = sys.argv[1:]
    # The trap of every way out but SIGKILL: a signal becomes an exception, `finally` ends what runs.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="albedo-datarobot-") as folder:
        scenario = Scenario(repository, binary, folder)
        try:
            scenario.play()
        except Exception as error:  # A step that could not run is a failure like any other.
            scenario.check("the scenario runs to its end", False, f"{type(error).__name__}: {error}")
        finally:
            scenario.end()
    skipped = f", {scenario.skipped} skipped" if scenario.skipped else ""
    print(f"took {time.monotonic() - began:.0f} s")
    print(f"{scenario.passed} passed, {scenario.failed} failed{skipped}")
    sys.exit(scenario.failed > 0)


if __name__ == "__main__":
    main()
