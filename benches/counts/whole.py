"""The built binary under callgrind with one worker, and clients that ask it one thing after the other."""

import base64
import hashlib
import re
import socket
import ssl
import subprocess
import threading
import time

import callgrind
import programs

#: Longest wait for a byte, in seconds; under valgrind everything takes fifty times as long.
SILENCE_MAX = 30

ANSWER = (
    b"HTTP/1.1 200 OK\r\nServer: target\r\nDate: Sat, 21 Nov 2026 17:00:00 GMT\r\nContent-Type: application/json\r\n"
    b"Cache-Control: no-store\r\nContent-Length: 1024\r\n\r\n" + b"x" * 1024
)

SMALL = b"GET /api/items?limit=25 HTTP/1.1\r\nHost: localhost\r\nUser-Agent: counts\r\nAccept: */*\r\n\r\n"

#: What a browser sends, more or less.
BROWSER = (
    b"GET /api/v2/projects/5f0c/models?limit=25&offset=50 HTTP/1.1\r\nHost: datarobot.example.com\r\n"
    b"User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r\n"
    b"Accept: application/json, text/plain, */*\r\nAccept-Language: en-US,en;q=0.5\r\n"
    b"Accept-Encoding: gzip, deflate, br, zstd\r\nReferer: https://datarobot.example.com/projects\r\n"
    b"Cookie: session=8f14e45fceea167a5a36dedd4bea2543; theme=dark; csrftoken=Zr4u7xSdGQmY0kq1VfJ3hN8b\r\n"
    b"DNT: 1\r\nConnection: keep-alive\r\nSec-Fetch-Dest: empty\r\nSec-Fetch-Mode: cors\r\n"
    b"Sec-Fetch-Site: same-origin\r\nPriority: u=4\r\n\r\n"
)

UPLOAD = b"POST /api/items HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4096\r\n\r\n" + b"y" * 4096

HANDSHAKE = (
    b"GET /ws HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)

#: A masked text frame of 64 bytes (RFC 6455 §5.2). The target sends it back as it came, since nobody here looks inside.
MESSAGE = b"\x81\xc0mask" + b"z" * 64


class Target(threading.Thread):
    """Answers whatever it is asked, and echoes once it was upgraded."""

    def __init__(self):
        super().__init__(daemon=True)
        self.door = socket.create_server(("127.0.0.1", 0))
        self.port = self.door.getsockname()[1]

    def run(self):
        while True:
            tcp, _ = self.door.accept()
            tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self.serve, args=(tcp,), daemon=True).start()

    def serve(self, tcp):
        with tcp:
            held = b""
            while received := tcp.recv(65536):
                held += received
                head, found, rest = held.partition(b"\r\n\r\n")
                length = re.search(rb"(?i)\r\ncontent-length: (\d+)", head)
                if not found or len(rest) < int(length[1] if length else 0):
                    continue
                held = b""
                key = re.search(rb"(?i)\r\nsec-websocket-key: (\S+)", head)
                tcp.sendall(accepted(key[1]) if key else ANSWER)
                while key and (received := tcp.recv(65536)):
                    tcp.sendall(received)


def accepted(key):
    # RFC 6455 §4.2.2.
    proof = base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
    head = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: "
    return head + proof + b"\r\n\r\n"


class Albedo:
    """One life of the binary under callgrind."""

    def __init__(self, started, binary, name, target, rules=0, tls=False, sticky=False, access_log=False):
        folder = started.folder / name
        folder.mkdir()
        self.started, self.folder = started, folder
        [self.port] = programs.free_ports(1)
        chain = programs.certificate(folder) if tls else None
        lines = [f"admin: unix:{folder}/admin.sock", "workers: 1"]
        lines += [f"load_balancer: {{ access_log: {{ path: {folder}/access.log }} }}"] if access_log else []
        lines += ["listeners:"]
        lines += [f"  - port: {self.port}", "    address: 127.0.0.1", f"    protocol: {'HTTPS' if tls else 'HTTP'}"]
        if tls:
            lines += [f"    certificates: [ {{ certificate: {chain}, key: {folder}/tls-key.pem }} ]"]
        lines += ["    rules:"] if rules else []
        for number in range(1, rules + 1):
            lines += [f"      - priority: {number}", f'        conditions: [ {{ path_pattern: ["/service-{number}/*"] }} ]']
            lines += ["        actions: [ { forward: web } ]"]
        lines += ["    default_actions: [ { forward: web } ]", "target_groups:", "  - name: web", f"    port: {target.port}"]
        # One check at the start, and no other while anything is counted.
        lines += ["    health_check: { interval: 300s }", "    targets: [ 127.0.0.1 ]"]
        lines += ["    stickiness: { type: lb_cookie, duration: 1d }"] if sticky else []
        (folder / "albedo.yaml").write_text("\n".join(lines) + "\n")
        self.process = started.start([*callgrind.command(folder), binary, "run", folder / "albedo.yaml"], [self.port], name)
        asking = [str(binary), "status", "--admin", f"unix:{folder}/admin.sock"]
        healthy = lambda: subprocess.run(asking, capture_output=True).returncode == 0
        if programs.wait_for(healthy, SILENCE_MAX) is None:
            raise RuntimeError(f"no healthy target: {started.log(name)}")

    def end(self):
        """Ends it; gives callgrind's file of each thread."""
        self.started.end(self.process)
        return callgrind.threads(self.folder)


def connect(port, tls):
    tcp = socket.create_connection(("127.0.0.1", port), SILENCE_MAX)
    tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return tls.wrap_socket(tcp, server_hostname="localhost") if tls else tcp


def no_verification():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def ask(stream, request):
    """One request, its answer read to the end."""
    stream.sendall(request)
    held = b""
    while True:
        received = stream.recv(65536)
        if not received:
            raise RuntimeError(f"the connection closed after {held[:200]}")
        held += received
        head, found, body = held.partition(b"\r\n\r\n")
        if found and not head.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(f"no answer of the target: {head.decode(errors='replace')}")
        if found and len(body) == 1024:
            return


def requests(request, tls=False):
    """Asks again and again on one connection."""

    def drive(port, count):
        with connect(port, no_verification() if tls else None) as stream:
            for _ in range(count):
                ask(stream, request)

    return drive


def connections(tls=False):
    """A new connection for each request, with a whole handshake."""

    def drive(port, count):
        for _ in range(count):
            with connect(port, no_verification() if tls else None) as stream:
                ask(stream, SMALL)
                # Until albedo has closed too: two connections at once would share wake-ups, or not.
                stream.shutdown(socket.SHUT_WR)
                while stream.recv(65536):
                    pass

    return drive


def http2(port, count):
    command = ["h2load", "-n", str(count), "-c", "1", "-m", "1", f"https://localhost:{port}/api/items?limit=25"]
    said = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120).stdout
    if f"{count} succeeded" not in said or "Application protocol: h2" not in said:
        raise RuntimeError(f"h2load: {said}")


def messages(port, count):
    """Messages through one tunnel, there and back."""
    with connect(port, None) as stream:
        stream.sendall(HANDSHAKE)
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += stream.recv(1)
        if not head.startswith(b"HTTP/1.1 101"):
            raise RuntimeError(f"no upgrade: {head}")
        for _ in range(count):
            stream.sendall(MESSAGE)
            left = len(MESSAGE)
            while left:
                left -= len(stream.recv(left))


def count(started, binary, name, drive, number, **scene):
    """Callgrind's files of a run in which `drive` did its thing `number` times."""
    target = Target()
    target.start()
    albedo = Albedo(started, binary, f"{name}-{number}", target, **scene)
    drive(albedo.port, number)
    return albedo.end()
