"""Many idle connections. Usage: idle_clients.py SOURCE PORT COUNT TLS, the last one 0 or 1.

Opens them, each with one request that is answered, and says `open N`. Then, for each line on standard input: `ask N`
asks again on N of them, `end` ends. Answers with how many were answered, and how many are open.
"""

import select
import socket
import ssl
import sys
from concurrent.futures import ThreadPoolExecutor

SOURCE, PORT, COUNT, TLS = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4] == "1"

REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


def open_one(_):
    try:
        connection = socket.create_connection(("127.0.0.1", PORT), 60, (SOURCE, 0))
        if TLS:
            connection = CONTEXT.wrap_socket(connection)
        return connection if ask(connection) else None
    except OSError:
        return None


def ask(connection):
    try:
        connection.sendall(REQUEST)
        answer = b""
        while b"\r\n\r\n" not in answer or len(answer) < 128:
            piece = connection.recv(4096)
            if not piece:
                return False
            answer += piece
        return answer.startswith(b"HTTP/1.1 200 ")
    except OSError:
        return False


def is_open(connection):
    """Nothing comes, not even the end. Tickets of TLS came with the first answer."""
    poll = select.poll()
    poll.register(connection, select.POLLIN)
    return not poll.poll(0)


CONTEXT = ssl.create_default_context()
CONTEXT.check_hostname, CONTEXT.verify_mode = False, ssl.CERT_NONE

with ThreadPoolExecutor(8) as several:
    connections = [one for one in several.map(open_one, range(COUNT)) if one]
print(f"open {len(connections)}", flush=True)
for line in sys.stdin:
    verb, _, count = line.strip().partition(" ")
    if verb == "end":
        break
    alive = sum(map(is_open, connections))
    answered = sum(ask(connection) for connection in connections[:: max(1, len(connections) // int(count))])
    print(f"{answered} {alive}", flush=True)
