"""Plays mmqueue: socket.io servers behind a sticky group, behind the same group without stickiness, and one that dies."""

import json
import re
import signal
import sys
import urllib.request
from collections import Counter
from pathlib import Path

import programs
import proxies
import table

#: The nodes of the shipped file, on addresses that no other script of ours takes.
ADDRESSES = {shipped: shipped.replace("192.168.0.", "127.0.2.") for shipped in table.ADDRESSES}
PORT, HEALTH_PORT = table.NODE_PORTS[80], table.NODE_PORTS[8011]
PATH = "/socket.io-queue/"

#: Clients, messages of each, seconds until all of them are connected and upgraded.
CLIENTS, MESSAGES, SETTLED_WITHIN = 60, 20, 30

#: What a server that never saw a session answers, with status 400: the seed's broken progress bars.
UNKNOWN = "Session ID unknown"


class Server:
    def __init__(self, started, address):
        self.started, self.address, self.process = started, address, None

    def start(self):
        command = ["node", Path(__file__).with_name("socketio_server.js"), self.address, self.address, PORT, HEALTH_PORT, PATH]
        self.process = self.started.start(command, [(self.address, PORT), (self.address, HEALTH_PORT)], "servers")

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(10)

    def counts(self):
        with urllib.request.urlopen(f"http://{self.address}:{HEALTH_PORT}/counts", timeout=5) as answer:
            return json.load(answer)


class Clients:
    def __init__(self, started, port, chain):
        command = ["node", Path(__file__).with_name("socketio_clients.js"), f"https://127.0.0.1:{port}", PATH]
        self.process = started.start(command, name="clients", environment={"CA": str(chain)}, pipes=True)

    def __call__(self, *command):
        self.process.stdin.write(json.dumps(command) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())


def play(checks, started, repository, name):
    front = proxies.proxy(name, started)
    print(f"     {front.version()}")
    servers = {address: Server(started, address) for address in ADDRESSES.values()}
    for server in servers.values():
        server.start()
    chain = programs.certificate(started.folder, "fullchain", table.HOST)
    clients = Clients(started, serve(started, front, repository, chain, sticky=True), chain)
    with_stickiness(checks, clients, servers)
    loss_of_a_server(checks, clients, servers)
    # The clients first: a proxy that is told to stop waits for them.
    started.end(clients.process)
    front.end()
    clients = Clients(started, serve(started, front, repository, chain, sticky=False), chain)
    without_stickiness(checks, clients, servers)


def serve(started, front, repository, chain, sticky):
    """The shipped table on this machine's addresses; gives the port of the listener for 443."""
    admin, *ports = programs.free_ports(4)
    listeners = dict(zip((443, 8100, 9494), ports))
    shipped = (Path(repository) / "config/datarobot.yaml").read_text()
    file = table.moved(shipped, admin, listeners, nodes_speak_tls=False, addresses=ADDRESSES)
    file = file.replace("tls/fullchain.pem", str(chain)).replace("tls/key.pem", str(proxies.key_of(chain)))
    if not sticky:
        file, count = re.subn(r"(?m)^    stickiness: .*\n", "", file)
        assert count == 1, "the shipped table has one sticky group"
    targets = tuple((address, PORT) for address in ADDRESSES.values())
    # What config/datarobot.yaml says of the one group that matters here, for a peer.
    mmqueue = proxies.Group("mmqueue", targets, sticky, "/ping", interval=5)
    app = proxies.Group("app", targets, False, "/ping", interval=5)
    listener = proxies.Listener(listeners[443], "app", str(chain), rules=((PATH, "mmqueue"),))
    front.start(proxies.Table((listener,), (mmqueue, app), extra={"admin": f"127.0.0.1:{admin}", "file": file}))
    return listeners[443]


def with_stickiness(checks, clients, servers):
    state = clients("connect", CLIENTS, SETTLED_WITHIN, True)
    upgraded = sum(client["upgraded"] for client in state)
    detail = f"{upgraded} of {CLIENTS} {errors_of(state)}"
    checks.check("every client begins with long polling and upgrades to WebSocket", upgraded == CLIENTS, detail)
    quiet = not any(client["drops"] or client["errors"] for client in state)
    checks.check("not one was dropped or refused on the way", quiet, errors_of(state))
    shares = Counter(client["server"] for client in state)
    checks.check("the clients spread over all servers", set(shares) == set(servers), str(dict(shares)))
    checks.check("each has a cookie AWSALB", all("AWSALB" in client["cookies"] for client in state))
    right = clients("echo", MESSAGES)["right"]
    checks.check("every message comes back whole from the same server", right == CLIENTS * MESSAGES, f"{right} of {CLIENTS * MESSAGES}")
    counts = [server.counts() for server in servers.values()]
    sessions, upgrades = (sum(count[what] for count in counts) for what in ("sessions", "upgrades"))
    refused = [count["refused"] for count in counts if count["refused"]]
    right = sessions == upgrades == CLIENTS and not refused
    checks.check("the servers saw one session a client, and upgraded each", right, f"{sessions} {upgrades} {refused}")
    before = [client["server"] for client in state]
    clients("again")
    state = clients("settle", SETTLED_WITHIN)
    same = sum(client["server"] == server for client, server in zip(state, before))
    checks.check("clients that come back with their cookies find the same server", same == CLIENTS, f"{same} of {CLIENTS}")


def loss_of_a_server(checks, clients, servers):
    clients("forget")
    before = [client["server"] for client in clients("state")]
    lost = next(iter(servers))
    servers[lost].kill()
    # The clients of the lost server see their sockets end at once, the others see nothing at all.
    programs.wait_for(lambda: not any(client["server"] == lost for client in clients("state")), SETTLED_WITHIN)
    state = clients("settle", SETTLED_WITHIN)
    moved = [client for client, server in zip(state, before) if server == lost]
    stayed = [client for client, server in zip(state, before) if server != lost]
    elsewhere = [client for client in moved if client["upgraded"] and client["server"] in servers and client["server"] != lost]
    detail = f"{len(elsewhere)} of {len(moved)} {errors_of(moved)}"
    checks.check("the clients of a server that was struck dead reconnect to the others", moved and len(elsewhere) == len(moved), detail)
    checks.check("the clients of the others notice nothing", not any(client["drops"] for client in stayed), errors_of(stayed))
    right = clients("echo", MESSAGES)["right"]
    checks.check("every message comes back again", right == CLIENTS * MESSAGES, f"{right} of {CLIENTS * MESSAGES}")
    servers[lost].start()
    before = [client["server"] for client in state]
    clients("again")
    state = clients("settle", SETTLED_WITHIN)
    same = sum(client["server"] == server for client, server in zip(state, before))
    checks.check("who had to move stays where they moved to", same == CLIENTS, f"{same} of {CLIENTS} {errors_of(state)}")


def without_stickiness(checks, clients, servers):
    unknown = sum(server.counts()["refused"].get(UNKNOWN, 0) for server in servers.values())
    state = clients("connect", CLIENTS, SETTLED_WITHIN, False)
    failed = [client for client in state if client["errors"]]
    told = [client for client in failed if any(UNKNOWN in error for error in client["errors"])]
    unknown = sum(server.counts()["refused"].get(UNKNOWN, 0) for server in servers.values()) - unknown
    detail = f"{len(failed)} of {CLIENTS} failed, servers said so {unknown} times; {errors_of(failed)}"
    checks.check(f"control: without stickiness clients fail with '{UNKNOWN}'", len(told) > CLIENTS / 2 and unknown, detail)


def errors_of(state):
    counted = Counter(error for client in state for error in client["errors"])
    return "; ".join(f"{count}× {error}" for error, count in counted.most_common(3))


if __name__ == "__main__":
    programs.run(play, *sys.argv[1:])
