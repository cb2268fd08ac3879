"""Soaks albedo with requests, and compares its CPU time per request with nginx's."""

import os
import re
import shlex
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

#: Soak: requests by HTTP/2, seconds of each HTTP/1.1 load, what memory may grow by.
SOAK_REQUESTS, SOAK_SECONDS, GROWTH_MAX = 1_000_000, 30, 8 << 20

#: Comparison: requests by HTTP/2 and seconds of HTTP/1.1 in one measurement, and how often.
PAIR_REQUESTS, PAIR_SECONDS, ROUNDS = 200_000, 8, int(os.environ.get("ROUNDS", "3"))

#: The proxy has the first core, targets and load share the second.
PROXY_CPU, OTHER_CPU = {0}, {1}

#: 128 bytes, as in every figure we publish.
BODY = "0123456789abcdef" * 8


class Bench:
    def __init__(self, binary, folder):
        self.binary, self.folder = binary, Path(folder)
        self.passed = self.failed = 0
        self.processes = []
        names = ("target", "other_target", "admin", "albedo", "albedo_tls", "nginx", "nginx_tls")
        self.ports = dict(zip(names, free_ports(len(names))))

    def check(self, sentence, holds, detail=""):
        self.passed += bool(holds)
        self.failed += not holds
        print(f"{'ok  ' if holds else 'FAIL'} {sentence}{f': {detail}' if detail else ''}", flush=True)

    def start(self, command, ports, cpus=None):
        pin = (lambda: os.sched_setaffinity(0, cpus)) if cpus else None
        log = open(self.folder / "programs.log", "ab")
        process = subprocess.Popen(
            [str(word) for word in command],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, preexec_fn=pin,
        )
        self.processes.append(process)
        deadline = time.monotonic() + 15
        for port in ports:
            while not accepts(port):
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"{command[0]} does not listen: " + self.log())
                time.sleep(0.05)
        return process

    def log(self):
        return (self.folder / "programs.log").read_text(errors="replace")[-3000:]

    def end(self, process):
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait(10)

    def end_all(self):
        for process in reversed(self.processes):
            self.end(process)

    # ---- programs ----------------------------------------------------------------------------------------

    def certificate(self):
        command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost"
        command = shlex.split(command) + ["-addext", "subjectAltName=DNS:localhost"]
        command += ["-keyout", self.folder / "key.pem", "-out", self.folder / "cert.pem"]
        subprocess.run(command, check=True, capture_output=True, stdin=subprocess.DEVNULL)

    def targets(self, cpus):
        port, other = self.ports["target"], self.ports["other_target"]
        file = self.nginx_file("targets", f"""
  server {{
    listen 127.0.0.1:{port} backlog=4096; listen 127.0.0.1:{other} backlog=4096;
    location / {{ return 200 "{BODY}"; }}
  }}""")
        return self.start(["nginx", "-e", self.folder / "targets.log", "-c", file], (port, other), cpus)

    def albedo(self, cpus=None, workers="auto"):
        port, tls = self.ports["albedo"], self.ports["albedo_tls"]
        file = self.folder / "albedo.yaml"
        file.write_text(f"""
admin: 127.0.0.1:{self.ports["admin"]}
workers: {workers}
listeners:
  - port: {port}
    address: 127.0.0.1
    protocol: HTTP
    default_actions: [ {{ forward: small }} ]
  - port: {tls}
    address: 127.0.0.1
    protocol: HTTPS
    certificates: [ {{ certificate: cert.pem, key: key.pem }} ]
    default_actions: [ {{ forward: small }} ]
target_groups:
  - name: small
    port: {self.ports["target"]}
    targets: [ 127.0.0.1, "127.0.0.1:{self.ports["other_target"]}" ]
""")
        return self.start([self.binary, "run", file], (port, tls), cpus)

    def nginx(self, cpus):
        port, tls = self.ports["nginx"], self.ports["nginx_tls"]
        command = newest_nginx()
        version = subprocess.run([*command, "-v"], capture_output=True, text=True).stderr
        number = tuple(int(part) for part in re.search(r"(\d+)\.(\d+)\.(\d+)", version).groups())
        http2_in_listen, http2_line = ("", "http2 on;") if number >= (1, 25, 1) else (" http2", "")
        file = self.nginx_file("proxy", f"""
  upstream targets {{
    server 127.0.0.1:{self.ports["target"]}; server 127.0.0.1:{self.ports["other_target"]};
    keepalive 512; keepalive_requests 100000000;
  }}
  server {{
    listen 127.0.0.1:{port}; listen 127.0.0.1:{tls} ssl{http2_in_listen}; {http2_line}
    ssl_certificate {self.folder}/cert.pem; ssl_certificate_key {self.folder}/key.pem;
    ssl_protocols TLSv1.2 TLSv1.3;
    location / {{
      proxy_pass http://targets; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_set_header Host $http_host; proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
      proxy_set_header X-Forwarded-Proto $scheme; proxy_set_header X-Forwarded-Port $server_port;
    }}
  }}""")
        process = self.start([*command, "-c", file], (port, tls), cpus)
        return process, ".".join(map(str, number)), " ".join(command)

    def nginx_file(self, name, servers):
        file = self.folder / f"{name}.conf"
        temporary = "\n".join(
            f"  {kind}_temp_path {self.folder}/temp-{name}-{kind};"
            for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        file.write_text(f"""
{"user root;" if os.geteuid() == 0 else ""}
daemon off; worker_processes 1; pid {self.folder}/{name}.pid; error_log {self.folder}/{name}.log crit;
worker_rlimit_nofile 20000;
events {{ worker_connections 16384; }}
http {{
  access_log off; sendfile on; tcp_nodelay on; keepalive_timeout 300; keepalive_requests 100000000;
{temporary}{servers}
}}
""")
        return file

    # ---- loads: each gives (requests done, what went wrong) --------------------------------------------------

    def h2load(self, port, requests, clients=16):
        command = ["h2load", "-n", requests, "-c", clients, "-m", 10, "-t", 1, f"https://localhost:{port}/"]
        output = self.run_load(command, 600)
        found = re.search(r"requests: .* (\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout", output)
        codes = re.search(r"status codes: (\d+) 2xx", output)
        if not found or not codes or "Application protocol: h2" not in output:
            return 0, output[-500:]
        done = int(found[1])
        whole = int(codes[1]) == requests and done == requests
        return done, "" if whole else found[0] + "; " + codes[0]

    def wrk(self, port, scheme, seconds):
        command = ["wrk", "-t", 1, "-c", 64, "-d", f"{seconds}s", f"{scheme}://localhost:{port}/"]
        output = self.run_load(command, seconds + 60)
        found = re.search(r"(\d+) requests in", output)
        wrong = re.findall(r"Socket errors: .*|Non-2xx.*|unable to .*", output)
        return (int(found[1]) if found else 0), "; ".join(wrong) if found else output[-500:]

    def run_load(self, command, limit):
        pin = (lambda: os.sched_setaffinity(0, self.load_cpus)) if self.load_cpus else None
        done = subprocess.run(
            [str(word) for word in command],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=limit, preexec_fn=pin,
        )
        return done.stdout + done.stderr

    # ---- the two parts -------------------------------------------------------------------------------------

    def soak(self):
        self.load_cpus = None
        targets = self.targets(None)
        albedo = self.albedo()
        port, tls = self.ports["albedo"], self.ports["albedo_tls"]
        self.h2load(tls, 50_000)
        self.wrk(port, "http", 3)
        self.wrk(tls, "https", 3)
        before = memory(albedo.pid)
        done, wrong = self.h2load(tls, SOAK_REQUESTS)
        self.check(f"{SOAK_REQUESTS} requests by HTTP/2 over TLS, none failed", done == SOAK_REQUESTS and not wrong, wrong)
        after_http2 = memory(albedo.pid)
        for scheme, at in (("http", port), ("https", tls)):
            done, wrong = self.wrk(at, scheme, SOAK_SECONDS)
            sentence = f"{SOAK_SECONDS} s of HTTP/1.1 by {scheme}, none failed"
            self.check(sentence, done > 0 and not wrong, f"{done} requests {wrong}")
        after = memory(albedo.pid)
        shown = " → ".join(f"{value / 2**20:.1f}" for value in (before, after_http2, after))
        self.check("memory stays flat", max(after, after_http2) - before < GROWTH_MAX, f"{shown} MiB resident")
        self.end(albedo)
        self.check("SIGTERM ends albedo with 0", albedo.returncode == 0, str(albedo.returncode))
        self.end(targets)

    def compare(self):
        pinned = os.cpu_count() > 1
        proxy, other = (PROXY_CPU, OTHER_CPU) if pinned else (None, None)
        self.load_cpus = other
        self.targets(other)
        albedo = self.albedo(proxy, workers=1)
        nginx, version, command = self.nginx(proxy)
        print(f"     nginx {version} ({command}), {ROUNDS} rounds, proxy {'pinned to' if pinned else 'not pinned, only'} one core")
        cases = {
            "HTTP/1.1": lambda name: self.wrk(self.ports[name], "http", PAIR_SECONDS),
            "HTTP/1.1 over TLS": lambda name: self.wrk(self.ports[f"{name}_tls"], "https", PAIR_SECONDS),
            "HTTP/2 over TLS": lambda name: self.h2load(self.ports[f"{name}_tls"], PAIR_REQUESTS),
        }
        sides = {"albedo": albedo.pid, "nginx": nginx.pid}
        for case, load in cases.items():
            cost, troubles = {name: [] for name in sides}, []
            for turn in range(ROUNDS + 1):
                # In turn first and second; the round before the first warms up and does not count.
                for name in sorted(sides, reverse=turn % 2 == 1):
                    began = cpu_time(sides[name])
                    done, wrong = load(name)
                    spent = cpu_time(sides[name]) - began
                    troubles += [f"{name}: {wrong}"] if wrong or not done else []
                    if turn and done:
                        cost[name].append(spent / done / 1000)
            if troubles:
                self.check(f"{case}: every request succeeded", False, "; ".join(troubles[:3]))
                continue
            ratios = [ours / theirs for ours, theirs in zip(cost["albedo"], cost["nginx"])]
            ours, theirs = (statistics.median(cost[name]) for name in ("albedo", "nginx"))
            ratio = statistics.median(ratios)
            detail = f"{ours:.2f} µs against {theirs:.2f} µs a request, ratio {ratio:.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
            self.check(f"{case}: albedo needs no more CPU than nginx", ratio <= 1.0, detail)


def newest_nginx():
    if os.environ.get("NGINX"):
        return shlex.split(os.environ["NGINX"])
    root = Path("/opt/forky")
    # Not os.path.ismount: it takes a folder bound from the same file system for an ordinary one.
    mounted = f" {root}/tmp " in Path("/proc/self/mounts").read_text()
    if os.geteuid() == 0 and (root / "usr/sbin/nginx").exists() and mounted:
        return ["chroot", str(root), "nginx"]
    return ["nginx"]


def processes_of(pid):
    """The process and everything it started."""
    found = [pid]
    for one in found:
        for task in Path(f"/proc/{one}/task").iterdir():
            found += [int(child) for child in (task / "children").read_text().split()]
    return found


def cpu_time(pid):
    """Nanoseconds that the process tree has run, from the scheduler's own books."""
    files = [file for one in processes_of(pid) for file in Path(f"/proc/{one}/task").glob("*/schedstat")]
    return sum(int(file.read_text().split()[0]) for file in files)


def memory(pid):
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) * 1024


def accepts(port):
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


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
    binary, *parts = sys.argv[1:]
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    passed = failed = 0
    for part in parts:
        with tempfile.TemporaryDirectory(prefix="albedo-load-") as folder:
            os.chmod(folder, 0o755)
            bench = Bench(binary, folder)
            try:
                bench.certificate()
                {"soak": bench.soak, "compare": bench.compare}[part]()
            except Exception as error:  # A part that could not run is a failure like any other.
                bench.check(f"{part} runs to its end", False, f"{type(error).__name__}: {error}")
            finally:
                bench.end_all()
            passed, failed = passed + bench.passed, failed + bench.failed
    print(f"{passed} passed, {failed} failed")
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
