"""Counts what one request, one message, one look-up takes, and holds it against stated.json."""

import argparse
import json
import os
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import callgrind
import programs
import whole

STATED = Path(__file__).parent / "stated.json"

#: Two runs at a time, for as many processors.
LANES = 2


@dataclass(frozen=True)
class Whole:
    """Something that clients do with the built binary."""

    drive: object
    #: How often in the first run; in the second twice as often, and the difference is what counts.
    often: int = 1_000
    scene: dict = field(default_factory=dict)

    def run(self, started, arguments, name, often):
        return whole.count(started, arguments.albedo, name, self.drive, often, **self.scene)


@dataclass(frozen=True)
class Step:
    """One step of a request's way, alone, in main.rs."""

    step: str
    size: int = 0
    often: int = 10_000

    def run(self, started, arguments, name, often):
        folder = started.folder / f"{name}-{often}"
        folder.mkdir()
        command = [*callgrind.command(folder), arguments.steps, self.step, self.size, often]
        done = subprocess.run(map(str, command), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120)
        if done.returncode:
            raise RuntimeError(f"{name}: {done.stderr}")
        # The thread that was started last has done the steps.
        return dict([max(callgrind.threads(folder).items())])


CASES = {
    "request": Whole(whole.requests(whole.SMALL)),
    "request-browser": Whole(whole.requests(whole.BROWSER)),
    "request-upload": Whole(whole.requests(whole.UPLOAD)),
    "request-access-log": Whole(whole.requests(whole.SMALL), scene={"access_log": True}),
    "request-sticky": Whole(whole.requests(whole.SMALL), scene={"sticky": True}),
    "request-1000-rules": Whole(whole.requests(whole.SMALL), scene={"rules": 1_000}),
    "request-tls": Whole(whole.requests(whole.SMALL, tls=True), scene={"tls": True}),
    "request-h2": Whole(whole.http2, scene={"tls": True}),
    "websocket-echo": Whole(whole.messages),
    "connection": Whole(whole.connections(), often=1_500),
    "connection-tls": Whole(whole.connections(tls=True), often=100, scene={"tls": True}),
    "rule-lookup-1": Step("rule-lookup", 1),
    "rule-lookup-100": Step("rule-lookup", 100),
    "rule-lookup-1000": Step("rule-lookup", 1_000),
    "pick-1": Step("pick", 1),
    "pick-10": Step("pick", 10),
    "pick-2000": Step("pick", 2_000),
    "cookie-seal": Step("cookie-seal", often=2_000),
    "cookie-open": Step("cookie-open", often=2_000),
    "request-head": Step("request-head"),
    "response-head": Step("response-head"),
}


@dataclass
class Cost:
    """What one of them takes."""

    growth: callgrind.Thread
    often: int

    @property
    def instructions(self):
        return self.growth.instructions / self.often

    @property
    def allocations(self):
        return round(sum(self.growth.allocating().values()) / self.often, 2) + 0.0


def cost(files, often):
    """Of two runs, one with `often` and one with twice as many; each is callgrind's file of each thread."""
    before, after = ({thread: callgrind.read(file) for thread, file in run.items()} for run in files)
    # The worker's count doubles, more or less: whether a close and the next connection share a wake-up is chance. So may
    # that of a log's thread, which is smaller. What else runs does the same both times, though not with the same count:
    # making random numbers takes what it takes.
    growth = {each: callgrind.growth(before[each], after[each]) for each in before.keys() & after.keys()}
    doubled = [each for each in growth if 0.75 < growth[each].instructions / before[each].instructions < 1.25]
    if not doubled:
        raise RuntimeError("no thread did twice as much")
    worker = max(doubled, key=lambda each: growth[each].instructions)
    return Cost(growth[worker], often)


def profile(name, cost, top=50):
    """Prints where the instructions of one are."""
    growth = cost.growth
    tables = [("instructions by function, without what it calls", growth.functions)]
    tables += [("allocations by caller", growth.allocating()), ("memcpy and memmove by caller", growth.copying())]
    # Files and lines are known where the build has line tables; they show what was inlined.
    if growth.files["???"] < growth.instructions / 2:
        tables += [("instructions by file", growth.files), ("instructions by line", growth.lines)]
    for title, counted in tables:
        total = sum(counted.values())
        print(f"\n{name}, {title}: {total / cost.often:.2f}")
        for where, count in counted.most_common(top):
            if count >= cost.often / 100:
                print(f"{count / cost.often:10.2f} {100 * count / total:5.1f} %  {where[-150:]}")


def play(checks, started, arguments):
    stated = json.loads(STATED.read_text())
    names = arguments.case or list(CASES)
    if any(isinstance(CASES[name], Step) for name in names):
        arguments.steps = built_steps()
    print(f"     {'':20}{'instructions':>14}{'stated':>9}{'':>9}{'allocations':>13}{'stated':>8}")
    seen, fallen = {}, []
    with ThreadPoolExecutor(LANES) as pool:
        runs = {}
        for name in names:
            often = CASES[name].often
            runs[name] = [pool.submit(CASES[name].run, started, arguments, name, each) for each in (often, 2 * often)]
        for name, (before, after) in runs.items():
            seen[name] = cost((before.result(), after.result()), CASES[name].often)
            if not any(function.startswith("albedo::") for function in seen[name].growth.functions):
                raise RuntimeError(f"{arguments.albedo} is stripped; {HOW_TO_BUILD}")
            said, holds, fell = held(name, seen[name], stated["cases"].get(name), stated["margin"])
            checks.check(said, holds or arguments.update)
            fallen += [name] if fell else []
            if arguments.profile:
                profile(name, seen[name])
    if arguments.update:
        stated["cases"].update({name: written(seen[name], stated["cases"].get(name)) for name in seen})
        STATED.write_text(json.dumps(stated, indent=2) + "\n")
    elif checks.failed:
        print("     state anew a rise that is worth what it buys: benches/counts/run --update [CASE…]")
    if fallen and not arguments.update:
        print(f"     state anew what is won, so that it stays: benches/counts/run --update {' '.join(fallen)}")


HOW_TO_BUILD = "CARGO_PROFILE_RELEASE_STRIP=none cargo build --release"


def held(name, cost, stated, margin):
    """A line of the table, whether what is stated holds, and whether it could be less."""
    if stated is None:
        return f"{name:20}{cost.instructions:14.0f}{'-':>9}{'':>9}{cost.allocations:13.2f}{'-':>8}", False, False
    change, margin = cost.instructions / stated["instructions"], stated.get("margin", margin)
    # Any rise of allocations is one too many; what happens less than once in four times is a list that grew. Of many, as
    # in a handshake, a few in a thousand depend on the numbers that chance gives.
    slack = 0.25 + stated["allocations"] / 100
    holds = change <= margin and cost.allocations <= stated["allocations"] + slack
    fell = change < 1 / margin or cost.allocations < stated["allocations"] - slack
    said = f"{name:20}{cost.instructions:14.0f}{stated['instructions']:9}{100 * (change - 1):+7.1f} %"
    return f"{said}{cost.allocations:13.2f}{stated['allocations']:8.2f}", holds, fell


def written(cost, stated):
    """What is stated from now on; a margin of a case's own stays."""
    return {**(stated or {}), "instructions": round(cost.instructions), "allocations": cost.allocations}


def built_steps():
    """The program of src/main.rs."""
    command = "cargo build --release --locked -p albedo-counts --message-format json-render-diagnostics".split()
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, check=True)
    messages = map(json.loads, done.stdout.splitlines())
    [program] = [each["executable"] for each in messages if each.get("executable")]
    return program


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="run", description=__doc__, epilog=f"cases: {', '.join(CASES)}")
    parser.add_argument("--albedo", type=Path, default=os.environ["ALBEDO"], help="a release build with its symbols")
    parser.add_argument("--profile", action="store_true", help="where the instructions are, by function and by line")
    parser.add_argument("--update", action="store_true", help="state what is seen")
    parser.add_argument("case", nargs="*", metavar="CASE", help="all of them, unless some are named")
    arguments = parser.parse_args()
    if unknown := set(arguments.case) - set(CASES):
        parser.error(f"no such case: {' '.join(unknown)}")
    programs.run(play, arguments)
