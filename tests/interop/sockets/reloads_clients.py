"""Many sockets by Python's websockets: reloads_clients.py COUNT URL…, which they take in turn.

Each sends numbered messages and waits for every echo. Prints `ready` when all are open, stops at a line on standard
input, and answers with a line of JSON.
"""

import asyncio
import json
import ssl
import sys
import time

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, WebSocketException

#: Seconds between two messages of one socket, and the longest wait for an echo.
PACE, PATIENCE = 0.4, 15

#: Every message is longer than the last, up to this: short and long frames, whole and in pieces on the way.
SIZES = (10, 100, 200, 5000)


async def client(number, url, stopping, opened, found):
    tls = None
    if url.startswith("wss:"):
        tls = ssl.create_default_context()
        tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
    try:
        socket = await connect(url, ssl=tls, ping_interval=None, open_timeout=30, compression=None, proxy=None)
    except (OSError, TimeoutError, WebSocketException) as error:
        found["refused"].append(f"{type(error).__name__}: {error}")
        return opened()
    opened()
    sent = 0
    try:
        # They do not all speak at once.
        await asyncio.sleep(PACE * (number % 50) / 50)
        while not stopping.is_set():
            message = f"{number}:{sent}:" + "m" * SIZES[sent % len(SIZES)]
            began = time.monotonic()
            await socket.send(message)
            sent += 1
            found["sent"] += 1
            back = await asyncio.wait_for(socket.recv(), PATIENCE)
            found["slowest"] = max(found["slowest"], time.monotonic() - began)
            found["right"] += back == message
            await asyncio.sleep(PACE)
        await socket.close()
        found["closed"][str(socket.close_code)] = found["closed"].get(str(socket.close_code), 0) + 1
    except ConnectionClosed as error:
        found["lost"].append(f"{url.split(':')[0]} after {sent} messages: {error}")
    except TimeoutError:
        found["lost"].append(f"{url.split(':')[0]}: no echo of message {sent} within {PATIENCE} s")


async def main(count, urls):
    stopping = asyncio.Event()
    found = {"sent": 0, "right": 0, "refused": [], "lost": [], "closed": {}, "slowest": 0}
    waiting, ready = {"count": count}, asyncio.Event()

    def opened():
        waiting["count"] -= 1
        if waiting["count"] == 0:
            ready.set()

    running = []
    for number in range(count):
        running.append(asyncio.create_task(client(number, urls[number % len(urls)], stopping, opened, found)))
        await asyncio.sleep(0.002)
    await ready.wait()
    print("ready", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
    stopping.set()
    await asyncio.gather(*running)
    print(json.dumps(found))


asyncio.run(main(int(sys.argv[1]), sys.argv[2:]))
