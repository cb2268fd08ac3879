"""A target on a host of its own. Usage: host.py NAME ADDRESS PORT FILE, which gets a line for each request.

`…/wait?SECONDS` answers after that time, `…/drip?SECONDS` a byte every tenth of a second, everything else at once with
its name. A POST is answered like a GET.
"""

import asyncio
import sys

NAME, ADDRESS, PORT, FILE = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]


async def serve(reader, writer):
    try:
        while head := await reader.readuntil(b"\r\n\r\n"):
            line, *fields = head.decode("latin-1").split("\r\n")
            lengths = [field.split(":")[1] for field in fields if field.lower().startswith("content-length:")]
            await reader.readexactly(int(lengths[0]) if lengths else 0)
            method, path, _ = line.split(" ")
            if path != "/ping":
                with open(FILE, "a") as seen:
                    seen.write(f"{method} {path}\n")
            path, _, seconds = path.partition("?")
            if path.endswith("/drip"):
                count = int(float(seconds) * 10)
                writer.write(f"HTTP/1.1 200 OK\r\nContent-Length: {count}\r\n\r\n".encode())
                for _ in range(count):
                    writer.write(b"x")
                    await writer.drain()
                    await asyncio.sleep(0.1)
                continue
            if path.endswith("/wait"):
                await asyncio.sleep(float(seconds))
            writer.write(f"HTTP/1.1 200 OK\r\nContent-Length: {len(NAME)}\r\n\r\n{NAME}".encode())
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()


async def main():
    server = await asyncio.start_server(serve, ADDRESS, PORT)
    async with server:
        await server.serve_forever()


asyncio.run(main())
