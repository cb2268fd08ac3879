"""The modes: what is measured. A mode is a line of the table at the foot."""

import kinds
import loads

WITH_RELAYS, WITH_RELAY4 = ("relay4", "relay7"), ("relay4",)


def bodies(direction, size, seconds=0.4, tls=False):
    load = loads.tool("bodies", "--direction", direction, "--size", size, tls=tls, counts="bytes")
    name = f"body-{size}/{direction}{'-tls' if tls else ''}"
    way = {"down": "to the client", "up": "to the target"}[direction]
    size_shown = {"1m": "1 MiB", "64m": "64 MiB"}[size]
    return kinds.Cost(name, f"{size_shown} {way}{', TLS' if tls else ''}: CPU per MiB, µs", load, per=1 << 20, seconds=seconds, floors=() if tls else WITH_RELAY4)


MODES = [
    kinds.Cost("h1", "HTTP/1.1: CPU per request, µs", loads.wrk(), floors=WITH_RELAYS),
    kinds.Cost("h1-tls", "HTTP/1.1 over TLS: CPU per request, µs", loads.wrk(tls=True)),
    kinds.Cost("h2-tls", "HTTP/2 over TLS: CPU per request, µs", loads.h2load()),
    kinds.Cost("tls-connect", "new TLS 1.3 connection and a request: CPU, µs", loads.tool("connect", tls=True)),
    kinds.Cost("tcp-connect", "new TCP connection and a request: CPU, µs", loads.tool("connect")),
    kinds.Cost("echo", "WebSocket, 64 bytes: CPU per echo, µs", loads.tool("echo", counts="messages"), floors=WITH_RELAY4),
    bodies("down", "1m"),
    bodies("down", "1m", tls=True),
    bodies("up", "1m"),
    bodies("up", "1m", tls=True),
    bodies("down", "64m", seconds=1),
    bodies("down", "64m", seconds=1, tls=True),
    bodies("up", "64m", seconds=1),
    bodies("up", "64m", seconds=1, tls=True),
    kinds.Idle("idle/plain", "idle connection: bytes of user memory", "plain"),
    kinds.Idle("idle/tls", "idle TLS connection: bytes of user memory", "tls"),
    kinds.Idle("idle/h2", "idle HTTP/2 connection: bytes of user memory", "h2"),
    kinds.Idle("idle/tunnel", "idle WebSocket: bytes of user memory", "tunnel"),
    kinds.Latency("latency", "half of nginx's highest rate", floors=WITH_RELAY4),
    kinds.Latency("handshake-storm", "while others connect by TLS", share=0.1, storm=loads.tool("connect", "--concurrent", 8, tls=True)),
    kinds.Start("start", "from start"),
    kinds.Cost("access-log", "with an access log: CPU per request, µs", loads.wrk(), against={"access log": "albedo", "albedo again": "albedo"}),
    kinds.Cost("reloads", "while it reloads 2.5 times a second: CPU per request, µs", loads.wrk(), against={"reloads": "albedo", "albedo again": "albedo"}),
    kinds.Cost("two-workers", "two workers: CPU per request, µs", loads.wrk(), against={"two workers": "free", "nginx, two workers": "nginx, free"}),
    kinds.Cost("growth/rules", "1,000 rules, the last one asked for: CPU per request, µs", loads.wrk(path="/rule/999/"), against={"1,000 rules": "1 rule"}),
    kinds.Cost("growth/groups", "100 groups in turn: CPU per request, µs", loads.wrk(paths=[f"/rule/{number}/" for number in range(100)]), against={"100 groups": "1 rule"}),
    kinds.Cost("growth/targets", "2,000 targets in turn: CPU per request, µs", loads.wrk(), against={"2,000 targets": "albedo"}),
]
