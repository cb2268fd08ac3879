"""The sides of a comparison: proxies with ports of their own, the same two targets and, unless told otherwise, one worker."""

import os
import re
import subprocess
from functools import partial
from pathlib import Path

import programs

HERE = Path(__file__).parent

#: Where `setup` puts Debian's newest packages, and Envoy.
ROOT, ENVOY = Path(os.environ.get("COMPARE_ROOT", "/opt/forky")), Path(os.environ.get("COMPARE_ENVOY", "/opt/envoy"))

#: Descriptors, and client connections, that every proxy is told to reckon with.
FILES = 20_000
CONNECTIONS = 9_500

#: The proxies have the first core; targets and loads have the second.
EVERY_CPU = os.sched_getaffinity(0)
PROXY_CPU, OTHER_CPU = ({min(EVERY_CPU)}, EVERY_CPU - {min(EVERY_CPU)} or EVERY_CPU)


class Side:
    """One side of a comparison. `template` is a file under peers/, and what the proxy is given is made from it."""

    name = template = ""

    def __init__(self, bench, label, workers=1, cpus=PROXY_CPU):
        self.bench, self.label, self.workers, self.cpus = bench, label, workers, cpus
        self.folder = bench.folder / re.sub(r"\W+", "-", label)
        self.folder.mkdir(exist_ok=True)
        self.plain, self.tls = programs.free_ports(2)
        self.process = None

    def start(self):
        self.write()
        ports = [self.plain, self.tls] if self.template else [self.plain]
        self.process = self.bench.programs.start(self.command(), ports, self.folder.name, self.cpus, self.environment())
        answered = programs.wait_for(lambda: self.bench.answers(self.plain), programs.STARTS_WITHIN)
        if answered is None:
            raise RuntimeError(f"{self.label} gives no answer: {self.bench.programs.log(self.folder.name)}")
        return self

    def end(self):
        self.bench.programs.end(self.process)

    def pids(self):
        return programs.processes_of(self.process.pid)

    def write(self):
        text = (HERE / "peers" / self.template).read_text()
        for name, value in self.settings().items():
            text = text.replace(f"@{name}@", str(value))
        (self.folder / self.template).write_text(text)

    def settings(self):
        first, second = self.bench.targets
        chain, key, both = self.bench.certificate
        return {
            "FOLDER": self.folder, "PLAIN": self.plain, "TLS": self.tls, "FIRST": first, "SECOND": second, "WORKERS": self.workers,
            "CERTIFICATE": chain, "KEY": key, "BOTH": both, "FILES": FILES, "CONNECTIONS": CONNECTIONS,
        }

    def file(self):
        return self.folder / self.template

    def environment(self):
        return {}

    def all_environment(self):
        return {**os.environ, **self.environment()}

    def pin(self):
        os.sched_setaffinity(0, self.cpus)

    def stripped(self):
        """Bytes of the program without symbols, where that says something."""

    def during(self):
        """What happens in each block while its load runs."""


class Albedo(Side):
    """`load_balancer` is more of that; rules, groups and targets are as many as told, and rule N is for /rule/N/ alone."""

    name, template = "albedo", "albedo.yaml"

    def __init__(self, bench, label, load_balancer="", rules=0, groups=0, targets=0, **more):
        super().__init__(bench, label, **more)
        self.load_balancer, self.rules, self.groups = load_balancer, rules, groups
        self.addresses = bench.many_targets[:targets] or [f"127.0.0.1:{port}" for port in bench.targets]

    def command(self):
        return [self.bench.binary, "run", self.file()]

    def version(self):
        return said([self.bench.binary, "--version"])

    def stripped(self):
        bare = self.folder / "stripped"
        subprocess.run(["strip", "-o", bare, self.bench.binary], check=True)
        return bare.stat().st_size

    def settings(self):
        names = ["targets"] + [f"group-{number}" for number in range(self.groups)]
        rules = [
            f'{{ priority: {number + 1}, conditions: [ {{ path_pattern: [ "/rule/{number}/*" ] }} ], actions: [ {{ forward: {names[-1 - number % len(names)]} }} ] }}'
            for number in range(self.rules)
        ]
        targets = ", ".join(f'"{address}"' for address in self.addresses)
        load_balancer = f"load_balancer: {{ {self.load_balancer.replace('@FOLDER@', str(self.folder))} }}" if self.load_balancer else ""
        groups = [f"  - {{ name: {name}, port: {self.bench.targets[0]}, targets: [ {targets} ] }}" for name in names[1:]]
        texts = {"LOAD_BALANCER": load_balancer, "RULES": ", ".join(rules), "GROUPS": "\n".join(groups), "TARGETS": targets}
        return {**texts, **super().settings()}


class Reloading(Albedo):
    """Takes a changed configuration over whenever it is measured."""

    def during(self):
        self.rules = 3 - self.rules
        self.write()
        done = subprocess.run([self.bench.binary, "reload", "--admin", f"unix:{self.folder}/admin.sock"], capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"no reload: {done.stdout}{done.stderr}")


class Nginx(Side):
    name, template = "nginx", "nginx.conf"

    def command(self):
        return [*entered("usr/sbin/nginx"), "-e", self.folder / "start.log", "-c", self.file()]

    def version(self):
        return said([*entered("usr/sbin/nginx"), "-v"])


class HaProxy(Side):
    name, template = "HAProxy", "haproxy.cfg"

    def command(self):
        return [*entered("usr/sbin/haproxy"), "-db", "-f", self.file()]

    def version(self):
        return said([*entered("usr/sbin/haproxy"), "-v"])


class Envoy(Side):
    name, template = "Envoy", "envoy.yaml"

    def command(self):
        return [ENVOY / "bin/envoy", "-c", self.file(), "--concurrency", self.workers, "--disable-hot-restart", "-l", "error"]

    def version(self):
        return said([ENVOY / "bin/envoy", "--version"])


class Caddy(Side):
    name, template = "Caddy", "Caddyfile"

    def command(self):
        return [*entered("usr/bin/caddy"), "run", "--adapter", "caddyfile", "--config", self.file()]

    def version(self):
        return said([*entered("usr/bin/caddy"), "version"])

    def environment(self):
        return {"GOMAXPROCS": str(self.workers), "GOGC": "400", "HOME": str(self.folder), "XDG_DATA_HOME": str(self.folder)}


class Relay(Side):
    """A floor: what a proxy on this machine cannot go below."""

    def __init__(self, bench, label, **more):
        super().__init__(bench, label, **more)
        self.name = label

    def command(self):
        targets = [f"127.0.0.1:{port}" for port in self.bench.targets]
        return [self.bench.tool(self.name), f"127.0.0.1:{self.plain}", *(targets if self.name == "relay7" else targets[:1])]

    def version(self):
        return "-"

    def write(self):
        pass


#: Every side by its label. `albedo again` is a second process of the same binary: what differs between those two is noise.
SIDES = {
    "albedo": Albedo, "albedo again": Albedo, "nginx": Nginx, "haproxy": HaProxy, "envoy": Envoy, "caddy": Caddy,
    "relay4": Relay, "relay7": Relay,
    "access log": partial(Albedo, load_balancer="access_log: { path: @FOLDER@/access.log }"),
    "reloads": partial(Reloading, rules=1),
    "1 rule": partial(Albedo, rules=1),
    "1,000 rules": partial(Albedo, rules=1000),
    "100 groups": partial(Albedo, rules=100, groups=100),
    "2,000 targets": partial(Albedo, targets=2000),
    "free": partial(Albedo, cpus=EVERY_CPU),
    "two workers": partial(Albedo, cpus=EVERY_CPU, workers=2),
    "nginx, free": partial(Nginx, cpus=EVERY_CPU),
    "nginx, two workers": partial(Nginx, cpus=EVERY_CPU, workers=2),
}


def entered(program):
    """The command that runs a program of ROOT."""
    if not (ROOT / program).exists():
        raise RuntimeError(f"{ROOT / program} is missing: run {HERE}/setup")
    return ["chroot", ROOT, f"/{program}"]


def said(command):
    """The version in what a program says of itself."""
    words = [str(word) for word in command]
    done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
    return re.search(r"\d+\.\d+\.\d+", done.stdout + done.stderr)[0]
