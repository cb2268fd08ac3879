"""Runs Autobahn's cases on three ways to one echo server, side by side, and compares how they end."""

import json
import platform
import subprocess
import sys
from collections import Counter
from pathlib import Path

import programs
import proxies

#: They measure how fast one message after another is, not how it is understood.
SLOW_CASES = ["9.*", "12.*", "13.*"]

#: Longest that one way may take, in seconds.
LIMIT = 3600

#: What its command would do, without the folder of scripts that it needs to be found in.
RUN = """import sys
from autobahntestsuite.wstest import run
sys.argv[1:] = ["-m", "fuzzingclient", "-s", "spec.json"]
run()
"""


def play(checks, started, python2, root, name, *cases):
    echo, port, tls_port = programs.free_ports(3)
    started.start(["node", Path(__file__).with_name("autobahn_echo.js"), echo], [echo], "echo")
    chain = str(programs.certificate(started.folder))
    front = proxies.proxy(name, started)
    print(f"     {front.version()}")
    # The echo server's own answer to a plain request is 426; that is health enough for a peer, and for albedo too.
    group = proxies.Group("echo", (("127.0.0.1", echo),), health_path="/", matcher="426")
    front.start(proxies.Table((proxies.Listener(port, "echo"), proxies.Listener(tls_port, "echo", chain)), (group,)))

    ways = {
        "directly": f"ws://127.0.0.1:{echo}",
        "in clear": f"ws://127.0.0.1:{port}/",
        "by TLS": f"wss://127.0.0.1:{tls_port}/",
    }
    # The ways run side by side: most of a case is waiting.
    running = {way: client(started, python2, root, way, url, cases) for way, url in ways.items()}
    ended = {way: results(started, process, way) for way, process in running.items()}
    direct = ended.pop("directly")
    counted = Counter(behaviour for behaviour, _ in direct.values())
    checks.check("the echo server does its part directly", direct and not counted["FAILED"], f"{len(direct)} cases: {dict(counted)}")
    for way, found in ended.items():
        differing = [(case, direct[case], found.get(case)) for case in direct if found.get(case) != direct[case]]
        for case, wanted, got in differing[:20]:
            print(f"     {way}, case {case}: {wanted} directly, {got} through {front.name}")
        checks.check(f"{way} every case ends as it does directly", found and not differing, f"{len(direct) - len(differing)} of {len(direct)}")


def client(started, python2, root, way, url, cases):
    folder = started.folder / way.replace(" ", "-")
    folder.mkdir()
    spec = {
        "outdir": str(folder / "report"),
        "servers": [{"agent": "echo", "url": url}],
        "cases": list(cases) or ["*"],
        "exclude-cases": [] if cases else SLOW_CASES,
        "exclude-agent-cases": {},
    }
    (folder / "spec.json").write_text(json.dumps(spec))
    (folder / "cases.py").write_text(RUN)
    environment = {"LD_LIBRARY_PATH": f"{root}/usr/lib/{platform.machine()}-linux-gnu"}
    return started.start(["env", "-C", folder, "nice", python2, "cases.py"], name=folder.name, environment=environment)


def results(started, process, way):
    """{case: (behaviour, behaviour at closing)}"""
    folder = started.folder / way.replace(" ", "-")
    try:
        process.wait(LIMIT)
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"{way}: not done within {LIMIT} s") from None
    index = folder / "report/index.json"
    if process.returncode or not index.exists():
        raise RuntimeError(f"{way}: wstest ended with {process.returncode}: {started.log(folder.name)}")
    found = json.loads(index.read_text())["echo"]
    return {case: (result["behavior"], result["behaviorClose"]) for case, result in found.items()}


if __name__ == "__main__":
    programs.run(play, *sys.argv[1:])
