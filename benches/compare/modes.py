"""The modes: what is measured. A mode is a line of the table at the foot."""

import math
import random
import time
from dataclasses import dataclass

import loads
import measure

#: Seconds of load before anything is measured.
WARM_UP = 1.0


@dataclass(frozen=True)
class Cost:
    """CPU time of a proxy's processes for each piece of work.

    Every side's load keeps its connections all the while, and one at a time runs: blocks so short that a machine which is
    slower for some seconds is so for every side of a round.
    """

    name: str
    title: str
    load: loads.Load
    floors: tuple = ()
    unit: str = "µs"

    def rounds(self, bench, sides):
        planned = len(sides) * (WARM_UP + bench.rounds * (bench.seconds + 0.02))
        running = [loads.Running(bench, side, self.load, math.ceil(planned * 1.1 + 1)) for side in sides]
        ends = time.monotonic() + planned * 1.1
        for each in running:
            measure.block(bench, each, WARM_UP)
        for _ in range(bench.rounds):
            if time.monotonic() > ends:
                raise RuntimeError("the machine is too slow for so many rounds")
            yield {each.side.label: self.cell(measure.block(bench, each, bench.seconds)) for each in random.sample(running, len(running))}
        for each in running:
            wrong = each.end()
            if wrong:
                raise RuntimeError(f"{each.side.label} did not answer everything: {wrong}")

    def cell(self, block):
        if not block.done:
            raise RuntimeError("a block in which nothing was done")
        values = {self.title: block.cpu / block.done / 1000}
        return {"values": values, "busy": round(block.busy, 3), "connects": block.connects, "noisy": block.noisy}


MODES = [
    Cost("h1", "HTTP/1.1, CPU per request", loads.wrk(), floors=("relay4", "relay7")),
    Cost("h1-tls", "HTTP/1.1 over TLS, CPU per request", loads.wrk(tls=True)),
    Cost("h2-tls", "HTTP/2 over TLS, CPU per request", loads.h2load()),
    Cost("echo", "WebSocket echo of 64 bytes, CPU per echo", loads.tool("echo", counts="messages"), floors=("relay4",)),
]
