"""One table of listeners and groups, served by albedo, nginx or HAProxy: a script that holds against a peer is right."""

import json
import os
import re
import resource
import shlex
import shutil
import signal
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from programs import accepts, children, cpu_time, memory, processes_of, wait_for

#: Descriptors that a peer is told to reckon with: enough for every script, and no more memory than that.
FILES = min(24_000, resource.getrlimit(resource.RLIMIT_NOFILE)[1])

#: Longest silence that any proxy allows here, in seconds: no script waits that long on purpose.
SILENCE_MAX = 900


@dataclass(frozen=True)
class Group:
    """Targets are pairs of address and port."""

    name: str
    targets: tuple
    sticky: bool = False
    health_path: str = "/"
    interval: float = 1
    matcher: str = "200"


@dataclass(frozen=True)
class Listener:
    """`rules` are pairs of a path's beginning and a Group's name; `answers` of a path and a text to answer with."""

    port: int
    default: str
    tls: str = ""
    http2: bool = True
    rules: tuple = ()
    answers: tuple = ()


@dataclass(frozen=True)
class Table:
    """`extra` is albedo's alone: `admin`, more settings of `load_balancer` and of each `group`, or a whole `file`."""

    listeners: tuple
    groups: tuple
    workers: int = 0
    extra: dict = field(default_factory=dict)


def proxy(name, programs):
    kinds = {"nginx": Nginx, "haproxy": HaProxy}
    return kinds[name](programs) if name in kinds else Albedo(programs, name)


class Proxy:
    def __init__(self, programs):
        self.programs, self.folder = programs, programs.folder
        self.process = None

    def start(self, table, cpus=None):
        self.write(table)
        self.cpus = cpus
        self.process = self.programs.start(self.command(), [one.port for one in table.listeners], self.name, cpus)
        return self

    def install(self):
        """Runs a copy of the program from now on, which a script may replace."""
        source = self.source()
        self.installed = self.folder / "bin" / self.name
        self.installed.parent.mkdir(exist_ok=True)
        shutil.copy2(source, self.installed)
        # What an upgrade starts may not descend from what we started; its name tells it.
        self.pids = lambda: [pid for pid in processes_of(os.getpid()) if runs(pid, f"{self.folder.name}/bin/{self.name}")]

    def replace(self, text=None):
        """Puts a script in the copy's place, in one step as a package manager does; None brings the program back."""
        fresh = self.folder / "bin" / ".new"
        if text is None:
            shutil.copy2(self.source(), fresh)
        else:
            fresh.write_text(text)
            fresh.chmod(0o755)
        fresh.rename(self.installed)

    def pids(self):
        return processes_of(self.process.pid)

    def memory(self, field="VmRSS"):
        return memory(self.pids(), field)

    def cpu_time(self):
        return cpu_time(self.pids())

    def log(self):
        return self.programs.log(self.name)

    def end(self):
        self.programs.end(self.process)

    def place(self, name, text):
        """Puts a file where the proxy reads it, in one step."""
        file = self.folder / name
        fresh = self.folder / f".{name}.new"
        fresh.write_text(text)
        fresh.rename(file)
        return file

    def done(self, command, **more):
        command = [str(word) for word in command]
        return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, **more)


class Albedo(Proxy):
    name = "albedo"

    def __init__(self, programs, binary):
        super().__init__(programs)
        self.binary = binary
        self.admin = None

    def version(self):
        return self.done([self.binary, "--version"]).stdout.strip()

    def source(self):
        return Path(self.binary).resolve()

    def command(self):
        return [getattr(self, "installed", self.binary), "run", self.folder / "albedo.yaml"]

    def start(self, table, cpus=None):
        self.admin = table.extra.get("admin") or f"unix:{self.folder}/admin.sock"
        super().start(table, cpus)
        # Every target has passed its first check, or never will: what follows measures no start.
        wait_for(lambda: "initial" not in self.states().values(), 15)
        return self

    def write(self, table):
        self.place("albedo.yaml", self.configuration(table))

    def configuration(self, table):
        if "file" in table.extra:
            return table.extra["file"]
        lines = [f"admin: {self.admin}", f"workers: {table.workers or 'auto'}"]
        lines += ["load_balancer:", f"  idle_timeout: {SILENCE_MAX}s", f"  http2: {str(all(l.http2 for l in table.listeners)).lower()}"]
        lines += [f"  {name}: {value}" for name, value in table.extra.get("load_balancer", {}).items()]
        lines += ["listeners:"]
        for listener in table.listeners:
            lines += [f"  - port: {listener.port}", "    address: 127.0.0.1"]
            lines += [f"    protocol: {'HTTPS' if listener.tls else 'HTTP'}"]
            if listener.tls:
                chain = Path(listener.tls)
                lines += [f"    certificates: [ {{ certificate: {chain}, key: {key_of(chain)} }} ]"]
            lines += ["    rules:"] if listener.rules or listener.answers else []
            priority = 0
            for path, text in listener.answers:
                priority += 1
                lines += [f"      - priority: {priority}", f'        conditions: [ {{ path_pattern: ["{path}"] }} ]']
                answer = f'{{ status_code: 200, content_type: text/plain, message_body: "{text}" }}'
                lines += [f"        actions: [ {{ fixed_response: {answer} }} ]"]
            for path, group in listener.rules:
                priority += 1
                lines += [f"      - priority: {priority}", f'        conditions: [ {{ path_pattern: ["{path}*"] }} ]']
                lines += [f"        actions: [ {{ forward: {group} }} ]"]
            lines += [f"    default_actions: [ {{ forward: {listener.default} }} ]"]
        lines += ["target_groups:"]
        for group in table.groups:
            lines += [f"  - name: {group.name}", "    port: 80"]
            lines += ["    stickiness: { type: lb_cookie, duration: 1d }"] if group.sticky else []
            lines += [f"    {name}: {value}" for name, value in table.extra.get("group", {}).items()]
            check = f"path: {group.health_path}, interval: {duration(group.interval)}, timeout: {duration(group.interval / 2)}"
            lines += [f"    health_check: {{ {check}, healthy_threshold: 2, unhealthy_threshold: 2, matcher: \"{group.matcher}\" }}"]
            targets = ", ".join(f'"{address}:{port}"' for address, port in group.targets)
            lines += [f"    targets: [ {targets} ]"]
        return "\n".join(lines) + "\n"

    def reload(self):
        """Whether the file that stands was accepted; by the time we know, every worker runs it."""
        self.said = self.done([self.binary, "reload", "--admin", self.admin])
        return self.said.returncode == 0

    def upgrade(self):
        """Whether another process serves now."""
        self.said = self.done([self.binary, "upgrade", "--admin", self.admin])
        return self.said.returncode == 0

    def status(self):
        said = self.done([self.binary, "status", "--json", "--admin", self.admin]).stdout
        return json.loads(said) if said.startswith("{") else {"target_groups": []}

    def states(self):
        """{(group, target): state}"""
        groups = self.status()["target_groups"]
        return {
            (group["name"], f"{target['id']}:{target.get('port')}"): target["state"]
            for group in groups
            for target in group["targets"]
        }


class Peer(Proxy):
    """nginx or HAProxy: the newest there is."""

    def prefix(self):
        """$NGINX or $HAPROXY, a command; else the one in /opt/forky, if that is ready to be entered; else Debian's."""
        given = os.environ.get(self.name.upper())
        if given:
            return shlex.split(given)
        program = str(getattr(self, "installed", f"/usr/sbin/{self.name}"))
        root = Path("/opt/forky")
        # Not os.path.ismount: it takes a folder bound from the same file system for an ordinary one.
        mounted = f" {root}/tmp " in Path("/proc/self/mounts").read_text()
        if os.geteuid() == 0 and (root / f"usr/sbin/{self.name}").exists() and mounted:
            return ["chroot", str(root), program]
        return [program]

    def source(self):
        command = self.prefix()
        root = Path(command[1] if command[0] == "chroot" else "/")
        return root / command[-1].lstrip("/")

    def version(self):
        said = self.done([*self.prefix(), "-v"])
        return f"{self.name} {'.'.join(map(str, self.number(said.stdout + said.stderr)))}"

    def number(self, said):
        return tuple(int(part) for part in re.search(r"(\d+)\.(\d+)\.(\d+)", said).groups())

    def upgrade(self):
        return self.reload()

    def new_worker(self, before):
        """A process that was not there before a reload serves now, and the last one of those has what it needs."""
        return wait_for(lambda: set(children(self.process.pid)) - before, 10) is not None


class Nginx(Peer):
    name = "nginx"

    def command(self):
        return [*self.prefix(), "-e", self.folder / "nginx.log", "-c", self.folder / "nginx.conf"]

    def write(self, table):
        said = self.done([*self.prefix(), "-v"])
        new = self.number(said.stdout + said.stderr) >= (1, 25, 1)
        upstreams = "\n".join(
            f"upstream {group.name} {{ {'ip_hash;' if group.sticky else ''} "
            + " ".join(f"server {address}:{port};" for address, port in group.targets)
            + " keepalive 512; keepalive_requests 100000000; keepalive_timeout 600s; }"
            for group in table.groups
        )
        servers = ""
        for listener in table.listeners:
            tls = " ssl" if listener.tls else ""
            in_listen, line = ("", f"http2 {'on' if listener.http2 else 'off'};") if new else (" http2" if listener.http2 and tls else "", "")
            servers += f"server {{ listen 127.0.0.1:{listener.port}{tls}{in_listen} backlog=4096; {line}\n"
            if listener.tls:
                servers += f"  ssl_certificate {listener.tls}; ssl_certificate_key {key_of(listener.tls)}; ssl_protocols TLSv1.2 TLSv1.3;\n"
            for path, text in listener.answers:
                servers += f'  location = {path} {{ default_type text/plain; return 200 "{text}"; }}\n'
            for path, group in (*listener.rules, ("/", listener.default)):
                servers += f"  location {path} {{ proxy_pass http://{group}; }}\n"
            servers += "}\n"
        temporary = "\n".join(
            f"{kind}_temp_path {self.folder}/temp-nginx-{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        self.place("nginx.conf", f"""
{"user root;" if os.geteuid() == 0 else ""}
daemon off; worker_processes {table.workers or os.cpu_count()}; pid {self.folder}/nginx.pid; error_log {self.folder}/nginx.log crit;
worker_rlimit_nofile {FILES}; events {{ worker_connections {FILES + FILES // 5}; }}
http {{
  access_log off; tcp_nodelay on; keepalive_timeout {SILENCE_MAX}; keepalive_requests 100000000;
  client_body_timeout {SILENCE_MAX}; proxy_read_timeout {SILENCE_MAX}; proxy_send_timeout {SILENCE_MAX};
  proxy_http_version 1.1; proxy_set_header Host $http_host;
  proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; proxy_set_header X-Forwarded-Proto $scheme;
  map $http_upgrade $said_connection {{ default upgrade; "" ""; }}
  proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection $said_connection;
  {temporary}
  {upstreams}
  {servers}
}}
""")

    def start(self, table, cpus=None):
        if not hasattr(self, "installed"):
            return super().start(table, cpus)
        # nginx takes SIGUSR2 only once the process that started it is gone.
        self.write(table)
        pid = self.folder / "nginx.pid"
        script = f'"$@" & until [ -s {pid} ]; do sleep 0.1; done'
        self.process = self.programs.start(["sh", "-c", script, "sh", *self.command()], name=self.name)
        if wait_for(lambda: all(accepts(one.port) for one in table.listeners), 15) is None:
            raise RuntimeError(f"nginx does not listen: {self.log()}")
        return self

    def reload(self):
        tested = self.done([*self.command(), "-t"])
        if tested.returncode:
            return False
        before = set(children(self.process.pid))
        self.process.send_signal(signal.SIGHUP)
        return self.new_worker(before)

    def upgrade(self):
        file = self.folder / "nginx.pid"
        old = int(file.read_text())
        os.kill(old, signal.SIGUSR2)
        if wait_for(lambda: file.exists() and int(file.read_text() or old) != old, 5) is None:
            return False
        os.kill(old, signal.SIGQUIT)
        return True


class HaProxy(Peer):
    name = "haproxy"

    def command(self):
        return [*self.prefix(), "-W", "-f", self.folder / "haproxy.cfg"]

    def write(self, table):
        lines = ["global", f"  nbthread {table.workers or os.cpu_count()}", f"  maxconn {(FILES - 140) // 2}", "  no strict-limits"]
        lines += ["  ssl-default-bind-options ssl-min-ver TLSv1.2", "defaults", "  mode http", "  timeout connect 5s"]
        lines += [f"  timeout {kind} {SILENCE_MAX}s" for kind in ("client", "server", "http-keep-alive", "tunnel")]
        lines += ["  timeout http-request 30s", "  option http-keep-alive", "  http-reuse always", f"  maxconn {(FILES - 140) // 2}"]
        for number, listener in enumerate(table.listeners):
            lines += [f"frontend f{number}"]
            tls = ""
            if listener.tls:
                both = self.place(f"haproxy-{Path(listener.tls).name}", Path(listener.tls).read_text() + key_of(listener.tls).read_text())
                tls = f" ssl crt {both} alpn {'h2,' if listener.http2 else ''}http/1.1"
            lines += [f"  bind 127.0.0.1:{listener.port}{tls}", "  option forwardfor"]
            for path, text in listener.answers:
                lines += [f'  http-request return status 200 content-type text/plain string "{text}" if {{ path {path} }}']
            lines += [f"  use_backend {group} if {{ path_beg {path} }}" for path, group in listener.rules]
            lines += [f"  default_backend {listener.default}"]
        for group in table.groups:
            lines += [f"backend {group.name}", "  balance roundrobin", "  option redispatch", f"  option httpchk GET {group.health_path}", f"  http-check expect status {group.matcher}"]
            lines += ["  cookie AWSALB insert indirect nocache"] if group.sticky else []
            for number, (address, port) in enumerate(group.targets):
                cookie = f" cookie t{number}" if group.sticky else ""
                lines += [f"  server t{number} {address}:{port} check inter {duration(group.interval)} fall 2 rise 2{cookie}"]
        self.place("haproxy.cfg", "\n".join(lines) + "\n")

    def reload(self):
        tested = self.done([*self.prefix(), "-c", "-f", self.folder / "haproxy.cfg"])
        if tested.returncode:
            return False
        before = set(children(self.process.pid))
        self.process.send_signal(signal.SIGUSR2)
        return self.new_worker(before)


def key_of(chain):
    chain = Path(chain)
    return chain.with_name(f"{chain.stem}-key.pem")


def runs(pid, program):
    """Whether it is a program, or a script, of this name; one that was replaced meanwhile too."""
    try:
        return program in os.readlink(f"/proc/{pid}/exe") or program in Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return False


def duration(seconds):
    return f"{round(seconds * 1000)}ms"
