"""A DataRobot web node: one real nginx on an address of its own, with the seven services behind it."""

import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

from table import NODE_PORTS, SERVICES

#: Size of a slow answer, and bytes a second: it takes about a second, so that some are always under way.
SLOW_SIZE, SLOW_RATE = 16 * 1024, "8k"


class Node:
    """Starts, breaks and ends one node. Ends only the processes it started."""

    def __init__(self, address, folder, shared, certificate, key):
        self.address = address
        self.folder = Path(folder)
        self.shared = Path(shared)
        self.certificate, self.key = certificate, key
        self.process = None
        for name in ("down", "files", "temp"):
            (self.folder / name).mkdir(parents=True)
        for name in ("upload/files", "temp"):
            (self.shared / name).mkdir(parents=True, exist_ok=True)
        (self.folder / "files" / "slow").write_bytes(b"s" * SLOW_SIZE)

    def start(self, speaks_tls=False):
        configuration = self.folder / "nginx.conf"
        configuration.write_text(self.configuration(speaks_tls))
        command = ["nginx", "-p", self.folder, "-e", self.folder / "error.log", "-c", configuration]
        # A session of its own: its process group is then this node's nginx and nothing else.
        self.process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True
        )
        deadline = time.monotonic() + 5
        for port in self.ports(speaks_tls):
            while not self.accepts(port):
                if self.process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError((self.folder / "error.log").read_text()[-2000:])
                time.sleep(0.02)

    def stop(self, how=signal.SIGTERM):
        """SIGTERM is nginx's fast shutdown; SIGKILL takes master and workers at once."""
        if self.process is None or self.process.poll() is not None:
            return
        if how == signal.SIGKILL:
            os.killpg(self.process.pid, signal.SIGKILL)
        else:
            os.kill(self.process.pid, how)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(10)
        deadline = time.monotonic() + 5
        while any(self.accepts(port) for port in NODE_PORTS.values()) and time.monotonic() < deadline:
            time.sleep(0.01)

    def fail(self, service, failing):
        """Makes one service's health check answer 503, or 200 again."""
        mark = self.folder / "down" / service
        if failing:
            mark.touch()
        else:
            mark.unlink(missing_ok=True)

    def probes(self):
        """Health probes seen so far: (time, port, scheme, path, host, status)."""
        try:
            lines = (self.folder / "probes.log").read_text().splitlines()
        except FileNotFoundError:
            return []
        rows = [line.split(" ") for line in lines]
        return [(float(row[0]), int(row[1]), row[2], row[3], row[4], int(row[5])) for row in rows]

    def forget_probes(self):
        (self.folder / "probes.log").write_text("")

    def accepts(self, port):
        with socket.socket() as probe:
            probe.settimeout(1)
            return probe.connect_ex((self.address, port)) == 0

    @staticmethod
    def ports(speaks_tls):
        web = NODE_PORTS[443] if speaks_tls else NODE_PORTS[80]
        return web, NODE_PORTS[8011], NODE_PORTS[8100], NODE_PORTS[9494]

    def configuration(self, speaks_tls):
        web, mmqueue_health, dss_api, pngexport = self.ports(speaks_tls)
        tls = " ssl" if speaks_tls else ""
        names = {service.name: service for service in SERVICES}
        shared_port = ("app", "publicapi", "appupload", "internalapi")
        health = "".join(self.health(name, names[name].health_path) for name in shared_port)
        user = "user root;" if os.geteuid() == 0 else ""
        return f"""
{user}
daemon off;
worker_processes 1;
pid {self.folder}/nginx.pid;
error_log {self.folder}/error.log warn;
events {{ worker_connections 4096; }}
http {{
  map $http_user_agent $is_probe {{ default 0; "~^ELB-HealthChecker/2" 1; }}
  log_format probe '$msec $server_port $scheme $request_uri $http_host $status';
  access_log {self.folder}/probes.log probe if=$is_probe;
  default_type application/json;
  client_max_body_size 0;
  client_body_temp_path {self.shared}/temp;
  proxy_temp_path {self.folder}/temp/proxy;
  fastcgi_temp_path {self.folder}/temp/fastcgi;
  uwsgi_temp_path {self.folder}/temp/uwsgi;
  scgi_temp_path {self.folder}/temp/scgi;
  keepalive_requests 1000000;
  keepalive_timeout 300;
  sendfile on;
  tcp_nodelay on;
  ssl_certificate {self.certificate};
  ssl_certificate_key {self.key};

  server {{
    listen {self.address}:{web}{tls};
    {health}
    location / {{ {self.answer("app")} }}
    location /api/v2/ {{ {self.answer("publicapi")} }}
    location /upload/ {{ {self.answer("appupload")} }}
    location /socket.io-queue/ {{ {self.answer("mmqueue")} }}
    location /api/v0/ {{ {self.answer("internalapi")} }}
    location = /slow {{ root {self.folder}/files; limit_rate {SLOW_RATE}; }}
    location /upload/files/ {{ root {self.shared}; dav_methods PUT; }}
  }}
  server {{
    listen {self.address}:{mmqueue_health};
    {self.health("mmqueue", names["mmqueue"].health_path)}
    location / {{ return 404; }}
  }}
  server {{
    listen {self.address}:{dss_api}{tls};
    {self.health("dss-api", names["dss-api"].health_path)}
    location / {{ {self.answer("dss-api")} }}
  }}
  server {{
    listen {self.address}:{pngexport}{tls};
    {self.health("pngexport", names["pngexport"].health_path)}
    location / {{ {self.answer("pngexport")} }}
  }}
}}
"""

    def health(self, service, path):
        mark = self.folder / "down" / service
        return f"location = {path} {{ if (-f {mark}) {{ return 503; }} return 200 'pong'; }}\n    "

    def answer(self, service):
        fields = {
            "node": self.address,
            "service": service,
            "port": "$server_port",
            "scheme": "$scheme",
            "method": "$request_method",
            "uri": "$request_uri",
            "host": "$http_host",
            "forwarded_for": "$http_x_forwarded_for",
            "forwarded_proto": "$http_x_forwarded_proto",
            "forwarded_port": "$http_x_forwarded_port",
            "trace": "$http_x_amzn_trace_id",
        }
        body = ", ".join(f'"{name}": "{value}"' for name, value in fields.items())
        return f"return 200 '{{{body}}}\\n';"


def remove(folder):
    shutil.rmtree(folder, ignore_errors=True)
