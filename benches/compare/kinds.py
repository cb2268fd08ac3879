"""The kinds of modes. Each gives its rounds, one by one: {label: cell}, where a cell holds a value for each row of a table."""

import math
import os
import random
import statistics
import subprocess
import time
from dataclasses import dataclass, field

import loads
import measure
import programs

#: Seconds of load before anything is measured.
WARM_UP = 1.0

#: Seconds that a block takes beside its load, at most: readings, and rest.
BESIDE = 0.05


@dataclass(frozen=True)
class Kind:
    """`against` names the sides of a mode that compares albedo with itself: each with what it is held against."""

    name: str
    title: str
    floors: tuple = field(default=(), kw_only=True)
    against: dict = field(default_factory=dict, kw_only=True)

    #: Rounds unless others are asked for.
    ROUNDS = 40

    def pairs(self, asked):
        """Which ratios are shown: (over, under)."""
        others = ("albedo again", *asked, *self.floors)
        return list(self.against.items()) or [("albedo", label) for label in others]


@dataclass(frozen=True)
class Cost(Kind):
    """CPU time of a proxy's processes for each piece of work.

    Every side's load keeps its connections all the while, and one at a time runs: blocks so short that a machine which is
    slower for some seconds is so for every side of a round. A process may be lucky with its place in memory, by more than
    the ratios differ from round to round; so the rounds are held in sittings, each with processes of its own.
    """

    load: loads.Load
    per: int = 1
    seconds: float = 0.4

    #: Most sittings, and the fewest rounds of one.
    SITTINGS, SITTING = 4, 5

    def rounds(self, bench, sides, count):
        sittings = min(self.SITTINGS, max(1, count // self.SITTING))
        for number in range(sittings):
            yield from self.sitting(bench, sides, count // sittings + (number < count % sittings))

    def sitting(self, bench, sides, count):
        seconds = bench.seconds or self.seconds
        planned = 2 + len(sides) * (WARM_UP + BESIDE + count * (seconds + BESIDE))
        running = [loads.Running(bench, side.start(), self.load, math.ceil(planned)) for side in sides]
        ends = time.monotonic() + planned
        for each in running:
            measure.block(bench, each, WARM_UP)
        for number in range(count):
            if time.monotonic() + len(sides) * (seconds + BESIDE) > ends:
                print(f"  after {number} rounds no time is left: the machine does other things too", flush=True)
                break
            yield {each.side.label: self.cell(each.side, measure.block(bench, each, seconds)) for each in random.sample(running, len(running))}
        for each in running:
            each.go()
        for each in running:
            each.end()
        for side in sides:
            side.end()

    def cell(self, side, block):
        if not block.done:
            raise RuntimeError(f"{side.label} did nothing in a block")
        return block.cell({self.title: block.cpu / block.done * self.per / 1000})


@dataclass(frozen=True)
class Latency(Kind):
    """How long requests take that are due at even intervals, as many as `share` of what nginx can do; with a storm beside them, or none."""

    share: float = 0.5
    storm: loads.Load | None = None

    ROUNDS = 3
    SECONDS, PERCENTILES = 4, ("p50", "p99", "p99.9")

    #: What the load itself was late by, as a share of what it measured, beyond which a block is noisy.
    LATE_MAX = 0.3

    def rounds(self, bench, sides, count):
        for side in sides:
            side.start()
        highest = {side.label: self.highest(bench, side) for side in sides}
        rate = round(self.share * highest.get("nginx", highest["albedo"]), -2)
        print(f"  {rate:.0f} requests a second", flush=True)
        for label in [label for label, most in highest.items() if most < rate]:
            print(f"  {label} is left out: it answers no more than {highest[label]:.0f}", flush=True)
        able = [side for side in sides if highest[side.label] >= rate]
        load = loads.tool("rate", "--rate", rate, "--warm-up", WARM_UP)
        for _ in range(count):
            cells = {side.label: self.cell(bench, side, load, bench.seconds or self.SECONDS) for side in random.sample(able, len(able))}
            yield {label: {**cell, "rate": rate} for label, cell in cells.items()}

    def highest(self, bench, side):
        running = loads.Running(bench, side, loads.wrk(), 5)
        done = [measure.block(bench, running, WARM_UP).done / WARM_UP for _ in range(4)]
        running.end()
        return statistics.median(done[1:])

    def cell(self, bench, side, load, seconds):
        # It shares a core with the targets and the requests that are measured, and gets what those leave.
        storm = loads.Running(bench, side, self.storm, math.ceil(seconds + 2 * WARM_UP), os.SCHED_IDLE) if self.storm else None
        if storm:
            storm.go()
        running = loads.Running(bench, side, load, seconds)
        began = measure.Reading(bench, side)
        said = running.end()
        ended = measure.Reading(bench, side)
        block = measure.between(began, ended, side, ended.at - began.at)
        values = {f"{self.title}: {name}, µs": said["latency_us"][name] for name in self.PERCENTILES}
        late = said["lateness_us"]["p99"] / said["latency_us"]["p99"]
        cell = {**block.cell(values), "late": round(late, 2), "noisy": block.noisy or late > self.LATE_MAX}
        if storm:
            cell["values"][f"{self.title}: their connections a second, more is better"] = storm.end()["done"] / (seconds + 2 * WARM_UP)
        return cell


@dataclass(frozen=True)
class Idle(Kind):
    """User memory of each connection that has done a request and waits: how much more of it two numbers of them take."""

    kind: str

    ROUNDS = 3
    FEW, MANY = 1000, 8000

    def rounds(self, bench, sides, count):
        for _ in range(count):
            yield {side.label: self.cell(bench, side.start()) for side in random.sample(sides, len(sides))}

    def cell(self, bench, side):
        holding = []
        try:
            points = []
            for more in (self.FEW, self.MANY - self.FEW):
                holding.append(self.hold(bench, side, more))
                points.append((self.FEW if not points else self.MANY, at_rest(side)))
            values = {self.title: programs.slope(points)}
        finally:
            for each in holding:
                each.stdin.close()
                each.wait(30)
            side.end()
        return {"values": values}

    def hold(self, bench, side, count):
        port = side.plain if self.kind in ("plain", "tunnel") else side.tls
        process = bench.programs.start(
            [bench.tool("load"), "idle", f"127.0.0.1:{port}", "--connections", count, "--kind", self.kind], name=f"idle-{side.folder.name}", pipes=True,
        )
        said = loads.last_line(process.stdout.readline())
        if not said or said["errors"] or said["open"] != count:
            raise RuntimeError(f"{side.label} does not hold {count} connections: {said}")
        return process


@dataclass(frozen=True)
class Start(Kind):
    """From the start of a program to its first answer, and its memory then."""

    ROUNDS = 5

    def rounds(self, bench, sides, count):
        for _ in range(count):
            yield {side.label: self.cell(bench, side) for side in random.sample(sides, len(sides))}

    def cell(self, bench, side):
        side.write()
        began = time.monotonic()
        process = subprocess.Popen(
            [str(word) for word in side.command()], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            env=side.all_environment(), start_new_session=True, preexec_fn=side.pin,
        )
        bench.programs.processes.append(process)
        side.process = process
        while not bench.answers(side.plain):
            if process.poll() is not None or time.monotonic() - began > programs.STARTS_WITHIN:
                raise RuntimeError(f"{side.label} does not start")
            time.sleep(0.0005)
        took = time.monotonic() - began
        values = {f"{self.title} to the first answer, ms": took * 1000, f"{self.title}: memory then, MiB": programs.memory(side.pids()) / 2**20}
        stripped = side.stripped()
        if stripped:
            values["stripped binary, MiB"] = stripped / 2**20
        side.end()
        return {"values": values}


def at_rest(side):
    """User memory when it grows no more, which it does within seconds."""
    last = -1
    for _ in range(20):
        time.sleep(0.5)
        now = measure.private_memory(side.pids())
        if abs(now - last) < 64 << 10:
            return now
        last = now
    return last
