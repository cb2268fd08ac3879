"""Reads the books: what a side's processes ran, what the targets saw of it, and what else ran meanwhile."""

import time
from dataclasses import dataclass
from pathlib import Path

import programs

#: A block is noisy when this share of the proxy's core went to others, or of any core to other machines.
FOREIGN_MAX, STOLEN_MAX = 0.02, 0.01

#: Nanoseconds that every core has run something. Where it is missing, nobody's time but the proxy's is known.
ALL_CORES = Path("/sys/fs/cgroup/cpuacct/cpuacct.usage_percpu")

#: What /proc/stat counts in.
TICK = 10_000_000

#: A proxy has come to rest when it ran for less than QUIET nanoseconds within a PAUSE; it is given RESTS of them.
QUIET, PAUSE, RESTS = 100_000, 0.002, 50


@dataclass(frozen=True)
class Block:
    """`cpu` is nanoseconds, `done` what the targets counted, `busy` and `foreign` the shares of a core that the proxy used, and others."""

    cpu: int
    done: int
    connects: int
    busy: float
    foreign: float
    stolen: float

    @property
    def noisy(self):
        return self.foreign > FOREIGN_MAX or self.stolen > STOLEN_MAX

    def cell(self, values):
        shares = {name: round(getattr(self, name), 3) for name in ("busy", "foreign", "stolen")}
        return {"values": values, "connects": self.connects, "noisy": self.noisy, **shares}


def block(bench, running, seconds):
    """Lets a load go for a while, alone."""
    side = running.side
    before = Reading(bench, side)
    running.go()
    side.during()
    time.sleep(max(0, seconds - (time.monotonic_ns() - before.at) / 1e9))
    running.halt()
    wall = time.monotonic_ns() - before.at
    settle(side)
    return between(before, Reading(bench, side), side, wall, running.load.counts)


def between(before, after, side, wall, counts="requests"):
    """The block that two readings enclose, in which the load ran for `wall` nanoseconds."""
    cpu = after.cpu - before.cpu
    return Block(
        cpu, after.counts[counts] - before.counts[counts], after.counts["accepted"] - before.counts["accepted"], busy=cpu / wall,
        foreign=(after.core - before.core - cpu) / wall if len(side.cpus) == 1 else 0, stolen=(after.stolen - before.stolen) / wall,
    )


class Reading:
    def __init__(self, bench, side):
        self.counts, self.at = bench.counts(), time.monotonic_ns()
        self.cpu = programs.cpu_time(side.pids())
        self.core = int(ALL_CORES.read_text().split()[min(side.cpus)]) if ALL_CORES.exists() else 0
        self.stolen = int(Path("/proc/stat").read_text().split("\n", 1)[0].split()[8]) * TICK


def settle(side):
    """Waits until what the load left behind is done."""
    last = programs.cpu_time(side.pids())
    for _ in range(RESTS):
        time.sleep(PAUSE)
        now = programs.cpu_time(side.pids())
        if now - last < QUIET:
            return
        last = now


def private_memory(pids):
    """Bytes that belong to these processes alone."""
    lines = [line for pid in pids for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()]
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Private_Dirty:"))
