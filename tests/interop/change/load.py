"""A strict client: every request that fails and every connection that ends unasked is counted, nothing is tried again.

Run as a program it takes a JSON description, says `ready`, loads until a line comes on standard input, and answers
with a line of JSON: requests and durations by kind, failures, ends of connections. Never more than a few hundred
requests a second: it shall see what happens, not how fast.
"""

import asyncio
import json
import random
import ssl
import sys
import time
from collections import Counter

import h2.config
import h2.connection
import h2.errors
import h2.events

#: Longest wait for an answer or a connection, in seconds.
PATIENCE = 20

#: Seconds between two requests of a client that seldom asks, at least and at most.
SELDOM = 4, 10

UPLOAD = b"u" * 2000


class Failure(Exception):
    """What went wrong with one request."""


class Tally:
    def __init__(self):
        self.began = time.monotonic()
        self.requests, self.failures, self.ends, self.durations = Counter(), [], [], []

    def failed(self, kind, what):
        self.failures.append((round(time.monotonic() - self.began, 3), kind, what))

    def ended(self, kind, how):
        """A connection that nobody used ended: `announced`, or by `FIN` or `RST` out of the blue."""
        self.ends.append((round(time.monotonic() - self.began, 3), kind, how))

    def report(self):
        unasked = [end for end in self.ends if end[2] != "announced"]
        durations = sorted(duration for _, duration in self.durations)
        return {
            "requests": dict(self.requests),
            "total": sum(self.requests.values()),
            "failures": self.failures,
            "unasked": unasked,
            "announced": len(self.ends) - len(unasked),
            "durations": [(round(at, 3), round(duration * 1000, 2)) for at, duration in self.durations],
            "p99": durations[int(len(durations) * 0.99)] if durations else 0,
        }


class Http1(asyncio.Protocol):
    """One HTTP/1.1 connection; one request at a time."""

    def __init__(self, tally, kind):
        self.tally, self.kind = tally, kind
        self.waiter, self.buffer = None, b""
        self.usable, self.announced, self.over = True, False, False

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.buffer += data
        if self.waiter is None:
            self.tally.failed(self.kind, f"bytes that nobody asked for: {data[:80]!r}")
            return self.close()
        head, separator, body = self.buffer.partition(b"\r\n\r\n")
        if not separator:
            return None
        lines = head.decode("latin-1").split("\r\n")
        fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
        if "content-length" not in fields:
            return self.answer(Failure(f"no length: {lines[0]}"))
        if len(body) < int(fields["content-length"]):
            return None
        self.buffer = b""
        if fields.get("connection", "").lower() == "close":
            self.usable, self.announced = False, True
        return self.answer((int(lines[0].split()[1]), body))

    def answer(self, what):
        waiter, self.waiter = self.waiter, None
        if waiter and not waiter.done():
            waiter.set_exception(what) if isinstance(what, Failure) else waiter.set_result(what)

    def eof_received(self):
        self.gone("FIN")

    def connection_lost(self, error):
        self.gone("RST" if error else "FIN")

    def gone(self, how):
        if self.over:
            return
        self.usable, self.over = False, True
        if self.waiter is not None:
            part = f"after {len(self.buffer)} bytes" if self.buffer else "before any byte"
            self.answer(Failure(f"{how} {part} of the answer"))
        else:
            self.tally.ended(self.kind, "announced" if self.announced else how)

    async def request(self, method, path):
        body = UPLOAD if method == "POST" else b""
        length = f"Content-Length: {len(body)}\r\n" if body else ""
        self.waiter = asyncio.get_running_loop().create_future()
        waiter = self.waiter
        self.transport.write(f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n{length}\r\n".encode() + body)
        try:
            return await asyncio.wait_for(waiter, PATIENCE)
        except TimeoutError:
            self.close()
            raise Failure("no answer") from None

    def close(self):
        self.usable, self.over = False, True
        self.transport.close()


class Frames(h2.connection.H2Connection):
    """h2's own takes GOAWAY for the end; RFC 9113 section 6.8 lets the streams that were begun finish."""

    def _receive_goaway_frame(self, frame):
        event = h2.events.ConnectionTerminated()
        event.error_code, event.last_stream_id = frame.error_code, frame.last_stream_id
        return [], [event]


class Http2(asyncio.Protocol):
    """One HTTP/2 connection; several requests at a time."""

    def __init__(self, tally, kind):
        self.tally, self.kind = tally, kind
        self.h2 = Frames(h2.config.H2Configuration(client_side=True, header_encoding="utf-8"))
        self.waiters, self.answers = {}, {}
        self.usable, self.announced = True, False

    def connection_made(self, transport):
        self.transport = transport
        self.h2.initiate_connection()
        self.flush()

    def flush(self):
        self.transport.write(self.h2.data_to_send())

    def data_received(self, data):
        try:
            events = self.h2.receive_data(data)
        except h2.exceptions.ProtocolError as error:
            self.tally.failed(self.kind, f"protocol error: {error}")
            return self.close()
        for event in events:
            stream = getattr(event, "stream_id", None)
            if isinstance(event, h2.events.ResponseReceived):
                self.answers[stream] = [int(dict(event.headers)[":status"]), b""]
            elif isinstance(event, h2.events.DataReceived):
                self.h2.acknowledge_received_data(event.flow_controlled_length, stream)
                self.answers[stream][1] += event.data
            elif isinstance(event, h2.events.StreamEnded):
                self.finish(stream, tuple(self.answers.pop(stream)))
            elif isinstance(event, h2.events.StreamReset):
                self.finish(stream, Failure(f"RST_STREAM {event.error_code!r}"))
            elif isinstance(event, h2.events.ConnectionTerminated):
                self.goaway(event)
        return self.flush() if not self.transport.is_closing() else None

    def goaway(self, event):
        if self.usable:
            self.tally.ended(self.kind, "announced")
        self.usable, self.announced = False, True
        for stream in list(self.waiters):
            if event.last_stream_id is not None and stream > event.last_stream_id:
                self.finish(stream, Failure("GOAWAY left it out"))
        if event.error_code:
            self.tally.failed(self.kind, f"GOAWAY {event.error_code!r}")

    def finish(self, stream, what):
        waiter = self.waiters.pop(stream, None)
        if waiter and not waiter.done():
            waiter.set_exception(what) if isinstance(what, Failure) else waiter.set_result(what)

    def connection_lost(self, error):
        how = "RST" if error else "FIN"
        for stream in list(self.waiters):
            self.finish(stream, Failure(f"{how} while it waited"))
        if self.usable:
            self.tally.ended(self.kind, how)
        self.usable = False

    async def request(self, method, path):
        stream = self.h2.get_next_available_stream_id()
        fields = [(":method", method), (":scheme", "https"), (":authority", "localhost"), (":path", path)]
        body = UPLOAD if method == "POST" else b""
        fields += [("content-length", str(len(body)))] if body else []
        waiter = self.waiters[stream] = asyncio.get_running_loop().create_future()
        self.h2.send_headers(stream, fields, end_stream=not body)
        if body:
            self.h2.send_data(stream, body, end_stream=True)
        self.flush()
        try:
            return await asyncio.wait_for(waiter, PATIENCE)
        except TimeoutError:
            self.waiters.pop(stream, None)
            raise Failure("no answer") from None

    def close(self):
        self.usable = False
        self.transport.close()


class Load:
    """`asks` are (path, exact answer); every client takes them in turn, GET and POST."""

    def __init__(self, plan):
        self.plan, self.tally, self.stopping = plan, Tally(), asyncio.Event()
        self.tls = {}
        for protocol in ("http/1.1", "h2"):
            # The certificate is exchanged on the way; which one is served is the script's own check.
            context = self.tls[protocol] = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            context.set_alpn_protocols([protocol])

    async def open(self, kind, scheme):
        loop = asyncio.get_running_loop()
        make, context = {
            "http": (Http1, None), "https": (Http1, self.tls["http/1.1"]), "h2": (Http2, self.tls["h2"])
        }[scheme]
        port = self.plan["port" if scheme == "http" else "tls_port"]
        try:
            opening = loop.create_connection(lambda: make(self.tally, kind), "127.0.0.1", port, ssl=context)
            transport, connection = await asyncio.wait_for(opening, PATIENCE)
        except (OSError, TimeoutError) as error:
            raise Failure(f"no connection: {error or type(error).__name__}") from None
        if scheme == "h2" and transport.get_extra_info("ssl_object").selected_alpn_protocol() != "h2":
            raise Failure("no HTTP/2")
        return connection

    async def ask(self, kind, connection, number):
        path, wanted = self.plan["asks"][number % len(self.plan["asks"])]
        method = "POST" if number % 3 == 2 else "GET"
        began = time.monotonic()
        self.tally.requests[kind] += 1
        try:
            status, body = await connection.request(method, path)
        except Failure as failure:
            self.tally.failed(kind, f"{method} {path}: {failure}")
            return
        finally:
            self.tally.durations.append((began - self.tally.began, time.monotonic() - began))
        if status != 200 or not body.startswith(wanted.encode()):
            self.tally.failed(kind, f"{method} {path}: {status} {body[:100]!r}")

    async def kept(self, kind, scheme, pause):
        """One client that keeps its connection; a new one only when the old one ended."""
        connection, number = None, random.randrange(1000)
        while not self.stopping.is_set():
            number += 1
            try:
                if connection is None or not connection.usable:
                    connection = await self.open(kind, scheme)
            except Failure as failure:
                self.tally.requests[kind] += 1
                self.tally.failed(kind, str(failure))
            else:
                await self.ask(kind, connection, number)
            await self.rest(pause() if callable(pause) else pause)
        if connection and connection.usable:
            # Whoever was idle at the end must still be served.
            await self.ask(kind, connection, number)
        if connection:
            connection.close()

    async def once(self, kind, scheme, pause):
        """A connection for each request."""
        number = random.randrange(1000)
        while not self.stopping.is_set():
            number += 1
            try:
                connection = await self.open(kind, scheme)
                await self.ask(kind, connection, number)
                connection.close()
            except Failure as failure:
                self.tally.requests[kind] += 1
                self.tally.failed(kind, str(failure))
            await self.rest(pause)

    async def streams(self, kind, pause, count):
        """One HTTP/2 connection that several ask over at once."""
        shared = {"connection": None, "opening": asyncio.Lock()}

        async def stream(number):
            while not self.stopping.is_set():
                number += 1
                try:
                    async with shared["opening"]:
                        if shared["connection"] is None or not shared["connection"].usable:
                            shared["connection"] = await self.open(kind, "h2")
                        connection = shared["connection"]
                except Failure as failure:
                    self.tally.requests[kind] += 1
                    self.tally.failed(kind, str(failure))
                else:
                    await self.ask(kind, connection, number)
                await self.rest(pause)

        await asyncio.gather(*(stream(random.randrange(1000)) for _ in range(count)))
        if shared["connection"]:
            shared["connection"].close()

    async def slow(self, kind, scheme):
        """Answers that take seconds, so that something is always under way."""
        connection = None
        while not self.stopping.is_set():
            self.tally.requests[kind] += 1
            try:
                if connection is None or not connection.usable:
                    connection = await self.open(kind, scheme)
                status, body = await connection.request("GET", self.plan["slow"])
                if status != 200 or len(body) != self.plan["slow_size"]:
                    self.tally.failed(kind, f"slow: {status} {len(body)} bytes")
            except Failure as failure:
                self.tally.failed(kind, f"slow: {failure}")
                await self.rest(0.1)
        if connection:
            connection.close()

    async def rest(self, seconds):
        try:
            await asyncio.wait_for(self.stopping.wait(), seconds)
        except TimeoutError:
            pass

    async def run(self):
        seldom = lambda: random.uniform(*SELDOM)
        clients = []
        for scheme, kept, once, idle, slow in (("http", 8, 3, 40, 3), ("https", 6, 2, 20, 1), ("h2", 0, 1, 10, 2)):
            clients += [self.kept(f"{scheme} keep-alive", scheme, 0.05) for _ in range(kept)]
            clients += [self.once(f"{scheme} one connection a request", scheme, 0.08) for _ in range(once)]
            clients += [self.kept(f"{scheme} mostly idle", scheme, seldom) for _ in range(idle)]
            clients += [self.slow(f"{scheme} slow", scheme) for _ in range(slow)]
        clients += [self.streams("h2 streams", 0.1, 4) for _ in range(3)]
        print("ready", flush=True)
        running = asyncio.gather(*clients)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
        self.stopping.set()
        await running
        return self.tally.report()


if __name__ == "__main__":
    print(json.dumps(asyncio.run(Load(json.loads(sys.argv[1])).run())))
