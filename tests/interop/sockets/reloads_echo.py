"""An echo server by Python's websockets: reloads_echo.py ADDRESS PORT. Answers /ping with 200 for health checks."""

import asyncio
import http
import signal
import sys

from websockets.asyncio.server import serve


async def echo(connection):
    async for message in connection:
        await connection.send(message)


def ping(connection, request):
    return connection.respond(http.HTTPStatus.OK, "pong\n") if request.path == "/ping" else None


async def main(address, port):
    async with serve(echo, address, int(port), process_request=ping, ping_interval=None):
        stopping = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
        await stopping.wait()


asyncio.run(main(*sys.argv[1:]))
