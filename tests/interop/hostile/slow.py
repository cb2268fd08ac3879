"""Has slowhttptest hold connections in three ways at once, each on a listener of its own, and counts what is left."""

import os
import sys
import time
import urllib.request
from pathlib import Path

import programs
import proxies

#: Connections of each kind, how many of them come in a second, how long slowhttptest goes on.
SLOW, RATE, SECONDS = int(os.environ.get("SLOW", "200")), 100, 55

#: Silence of a client that takes nothing of its answer; ALB's 60 s would make this long. All else is as shipped.
IDLE = 8

#: Something every 5 seconds: a line of the head, some of a body of 8 KiB, 32 bytes taken of an answer of 32 MiB.
KINDS = {
    "heads": "-H -i 5",
    "bodies": "-B -i 5 -s 8192",
    "readers": "-X -w 8 -y 16 -n 5 -z 32 -k 1",
}


def play(checks, started, binary):
    here = Path(__file__).parent
    target, admin, *ports = programs.free_ports(2 + len(KINDS))
    started.start([sys.executable, here / "slow_target.py", target], [target], "target")
    front = proxies.proxy(binary, started)
    listeners = [f"  - {{ port: {port}, address: 127.0.0.1, protocol: HTTP, default_actions: [ {{ forward: web }} ] }}" for port in ports]
    file = [f"admin: 127.0.0.1:{admin}", f"load_balancer: {{ idle_timeout: {IDLE}s }}", "listeners:", *listeners]
    file += ["target_groups:", f'  - {{ name: web, port: {target}, targets: [ "127.0.0.1" ] }}', ""]
    listeners = tuple(proxies.Listener(port, "web") for port in ports)
    front.start(proxies.Table(listeners, (), extra={"admin": f"127.0.0.1:{admin}", "file": "\n".join(file)}))
    print(f"     {front.version()}, {SLOW} of each kind, {RATE} a second")

    began = time.monotonic()
    for (kind, how), port in zip(KINDS.items(), ports):
        url = f"http://127.0.0.1:{port}/bytes/{32 << 20}" if kind == "readers" else f"http://127.0.0.1:{port}/"
        command = f"slowhttptest -c {SLOW} -r {RATE} -l {SECONDS} -p 3 {how} -u {url}"
        started.start(command.split(), name=kind)
    most, gone, served, failed = dict.fromkeys(KINDS, 0), {}, 0, []
    while len(gone) < len(KINDS) and time.monotonic() < began + SECONDS - 5:
        for kind, port in zip(KINDS, ports):
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5) as answer:
                    served += answer.read() == b"ok"
            except OSError as error:
                failed.append(f"beside {kind}: {error}")
        for kind, now in zip(KINDS, connections(front, ports)):
            most[kind] = max(most[kind], now)
            # slowhttptest asks once a second whether the service is there.
            if most[kind] >= SLOW * 9 // 10 and now <= 2:
                gone.setdefault(kind, time.monotonic() - began)
        time.sleep(0.5)
    for kind in KINDS:
        detail = f"after {gone[kind]:.0f} s" if kind in gone else f"{most[kind]} came, and some stay"
        checks.check(f"no slow {kind} are left", kind in gone, detail)
    checks.check("whoever comes beside them is served", served and not failed, f"{served} times{', ' if failed else ''}{'; '.join(failed[:3])}")


def connections(front, ports):
    known = {each["port"]: each["connections"] for each in front.status().get("listeners", [])}
    return [known.get(port, 0) for port in ports]


if __name__ == "__main__":
    programs.run(play, *sys.argv[1:])
