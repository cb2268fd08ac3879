"""Load that accounts for every request: keep-alive HTTP/1.1 by threads, HTTP/2 by h2load."""

import http.client
import json
import socket
import ssl
import subprocess
import threading
import time
from collections import namedtuple

from nodes import SLOW_SIZE
from table import HOST, SERVICES

#: One request: seconds since the epoch, `failure` is None when the answer was right and whole.
Record = namedtuple("Record", "start end failure service node")

#: Threads of the HTTP/1.1 load, how many of them ask for slow answers, and their pause between requests:
#: a few hundred requests a second.
THREADS, SLOW_THREADS, PAUSE = 10, 3, 0.02

#: Clients and requests a second of each for h2load.
H2_CLIENTS, H2_RATE = 4, 50


class Connection(http.client.HTTPSConnection):
    """HTTPS to a listener on loopback, by the name in its certificate."""

    def __init__(self, port, context):
        super().__init__("127.0.0.1", port, timeout=20, context=context)

    def connect(self):
        plain = socket.create_connection(("127.0.0.1", self.port), self.timeout)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock = self._context.wrap_socket(plain, server_hostname=HOST)


class Http1Load:
    """Every service by GET, some POST, some slow answers, until told to stop."""

    def __init__(self, listener_ports, certificate):
        self.context = ssl.create_default_context(cafile=str(certificate))
        self.ports = listener_ports
        self.records = []
        self.stopping = threading.Event()
        self.threads = [threading.Thread(target=self.work, args=(n,)) for n in range(THREADS)]
        for thread in self.threads:
            thread.start()

    def stop(self):
        self.stopping.set()
        for thread in self.threads:
            thread.join(30)
        return sorted(self.records)

    def work(self, number):
        requests = [("GET", service.listener, service.path, service.name) for service in SERVICES]
        requests += [("POST", 443, "/api/v2/projects/", "publicapi")]
        if number < SLOW_THREADS:
            requests = [("GET", 443, "/slow", None)]
        connections = {}
        while not self.stopping.is_set():
            number += 1
            method, listener, path, service = requests[number % len(requests)]
            connection = connections.get(listener)
            if connection is None:
                connection = connections[listener] = Connection(self.ports[listener], self.context)
            start = time.time()
            node, failure = None, None
            try:
                node, failure = ask(connection, method, path, service)
            except (OSError, http.client.HTTPException, ValueError) as error:
                failure = f"{type(error).__name__}: {error}"
            self.records.append(Record(start, time.time(), failure, service, node))
            if failure:
                connection.close()
                del connections[listener]
            self.stopping.wait(PAUSE)
        for connection in connections.values():
            connection.close()


def ask(connection, method, path, service):
    """The node that answered, and what was wrong with the answer."""
    body = b"x" * 1000 if method == "POST" else None
    connection.request(method, path, body=body, headers={"Host": HOST})
    response = connection.getresponse()
    content = response.read()
    if response.status != 200:
        return None, f"{method} {path}: status {response.status}"
    if service is None:
        return None, None if len(content) == SLOW_SIZE else f"{path}: {len(content)} bytes"
    answer = json.loads(content)
    return answer["node"], None if answer["service"] == service else f"{path}: {answer}"


class Http2Load:
    """h2load on the application's path; its log has a line for every request."""

    def __init__(self, port, seconds, log):
        self.log = log
        command = ["h2load", "-c", H2_CLIENTS, "-m", "10", "-t", "1", "-D", seconds, "--rps", H2_RATE]
        command += ["--connect-to", f"127.0.0.1:{port}", "--log-file", log, f"https://{HOST}:{port}/projects/1"]
        self.output = open(f"{log}.output", "w")
        self.process = subprocess.Popen(
            [str(word) for word in command],
            stdin=subprocess.DEVNULL, stdout=self.output, stderr=subprocess.STDOUT,
        )

    def stop(self):
        if self.process.poll() is None:
            self.process.terminate()
        self.process.wait(10)
        self.output.close()
        records = []
        with open(self.log) as lines:
            for line in lines:
                fields = line.split()
                if len(fields) != 3:
                    continue  # The line that the end of the process cut.
                start, status, duration = int(fields[0]), int(fields[1]), int(fields[2])
                failure = None if status == 200 else f"HTTP/2 status {status}"
                records.append(Record(start / 1e6, (start + duration) / 1e6, failure, "app", None))
        return sorted(records)
