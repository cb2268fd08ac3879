"""The DataRobot table: what it promises, and the shipped file moved to this machine's addresses."""

import re
from dataclasses import dataclass

#: The name that DataRobot's users call; the certificate carries it.
HOST = "datarobot-ha-testing.ent.datarobot.com"

#: Addresses of the nodes in the shipped file and here.
ADDRESSES = {"192.168.0.4": "127.0.1.4", "192.168.0.5": "127.0.1.5", "192.168.0.6": "127.0.1.6"}

#: Ports of the nodes in the shipped file and here, where no root is needed.
NODE_PORTS = {80: 10080, 443: 10443, 8011: 18011, 8100: 18100, 9494: 19494}

#: The health check of every group: thresholds, seconds.
THRESHOLD, INTERVAL, TIMEOUT = 2, 5, 3


@dataclass(frozen=True)
class Service:
    """One row of each of DataRobot's two tables."""

    name: str
    listener: int
    path: str
    health_path: str
    port: int = 80
    health_port: int | None = None

    def ports(self, nodes_speak_tls):
        """Traffic port and health port on the nodes of this machine."""
        port = 443 if nodes_speak_tls and self.port == 80 else self.port
        return NODE_PORTS[port], NODE_PORTS[self.health_port or port]


SERVICES = (
    Service("app", 443, "/projects/1", "/ping"),
    Service("publicapi", 443, "/api/v2/projects/", "/api/v2/ping"),
    Service("appupload", 443, "/upload/dataset", "/upload/ping"),
    Service("mmqueue", 443, "/socket.io-queue/?transport=polling", "/ping", health_port=8011),
    Service("internalapi", 443, "/api/v0/jobs", "/api/v0/ping"),
    Service("dss-api", 8100, "/datasets", "/status", port=8100),
    Service("pngexport", 9494, "/export", "/ping", port=9494),
)

#: What must be replaced how often; anything else means that the shipped file has changed its shape.
PLACES = {"admin": 1, "listener": 3, "group port": 7, "health port": 1, "address": 21}
TLS_PLACES = 7 + 5 + 6


def moved(shipped, admin_port, listener_ports, nodes_speak_tls, addresses=ADDRESSES):
    """The shipped file with addresses and ports of this machine and, if asked, TLS to the nodes."""
    if nodes_speak_tls:
        shipped, count = re.subn(r"(?m)^( +\w+: )\S+ +# TLS on the nodes: (\S+)$", r"\1\2", shipped)
        assert count == TLS_PLACES, f"{count} values have a comment `# TLS on the nodes`"

    found = dict.fromkeys(PLACES, 0)

    def place(kind, text):
        found[kind] += 1
        return text

    def port(table):
        return lambda match: match[1] + str(table[int(match[2])])

    lines = []
    for line in shipped.splitlines():
        if line.startswith("admin: "):
            line = place("admin", f"admin: 127.0.0.1:{admin_port}")
        elif re.match(r"  - port: \d+$", line):
            line = place("listener", re.sub(r"(.*: )(\d+)$", port(listener_ports), line))
        elif re.match(r"    port: \d+", line):
            line = place("group port", re.sub(r"(    port: )(\d+)", port(NODE_PORTS), line))
        elif re.match(r"      port: \d+", line):
            line = place("health port", re.sub(r"(      port: )(\d+)", port(NODE_PORTS), line))
        elif line.startswith("    targets: "):
            for old, new in addresses.items():
                line = place("address", line.replace(old, new))
                assert new in line, line
        lines.append(line)
    assert found == PLACES, f"{found} instead of {PLACES}"
    return "\n".join(lines) + "\n"
