"""Reloads a proxy again and again under load and counts whoever noticed."""

import hashlib
import os
import re
import socket
import ssl
import statistics
import sys
import time

import programs
import proxies
import scene as scenes

#: Reloads and the seconds between two of them: 200 in two minutes.
RELOADS, PACE = int(os.environ.get("RELOADS", "200")), 0.6

#: Reloads of the peer, as a comparison; 0 leaves it out.
PEER_RELOADS = int(os.environ.get("PEER_RELOADS", "20"))

#: Seconds of load before the first reload, and of rest after the last.
WARM_UP, REST = 8, scenes.DEREGISTRATION_DELAY + 6

#: Reloads from which on the slope of memory says something.
RELOADS_FOR_SLOPE = 100

#: What resident memory may differ by after so many reloads; one generation not given back each time is ten times more.
GROWTH_MAX = 4 << 20


def play(checks, started, name):
    scene = scenes.Scene(started)
    front = proxies.proxy(name, started)
    reload_under_load(checks, scene, front, RELOADS)
    front.end()
    if front.name == "albedo" and PEER_RELOADS:
        peer = proxies.proxy("nginx", started)
        print("     the same client against a peer, for comparison:")
        reload_under_load(Told(), scene, peer, PEER_RELOADS)


class Told:
    """Prints what would be checked of albedo; a peer has nothing to pass."""

    def check(self, sentence, holds, detail=""):
        print(f"     {'yes' if holds else 'no '} {sentence}{f': {detail}' if detail else ''}", flush=True)


def reload_under_load(checks, scene, front, count):
    print(f"     {front.version()}, {count} reloads in {count * PACE:.0f} s")
    taken = socket.create_server(("127.0.0.1", scene.ports["taken"]))
    front.start(scene.table(0))
    watch = scenes.Watch(scene) if front.name == "albedo" else None
    load = scene.load()
    time.sleep(WARM_UP)
    before, points, took, wrong = front.memory(), [], [], []
    began, generation = time.monotonic(), 0
    for turn in range(1, count + 1):
        time.sleep(max(0, began + turn * PACE - time.monotonic()))
        valid = turn % 2 == 1
        front.write(scene.table(turn))
        if not valid:
            spoil(front, turn // 2, scene)
        start = time.monotonic()
        accepted = front.reload()
        took += [time.monotonic() - start] if valid else []
        if accepted != valid:
            wrong.append(f"{turn}: {'refused' if valid else 'accepted'} {said(front)}")
        if valid:
            generation = turn
        elif front.name == "albedo" and len(said(front)) < 20:
            wrong.append(f"{turn}: refused without a reason")
        wrong += [f"{turn}: {fault}" for fault in in_force(scene, generation)]
        points.append((turn, front.memory()))
    spent = time.monotonic() - began
    time.sleep(REST)
    after = front.memory()
    alive = load.alive()
    found = load.stop()
    taken.close()

    checks.check(f"{count} reloads within {count * PACE + PACE:.0f} s", spent < count * PACE + PACE, f"{spent:.1f} s")
    times = f"{statistics.median(took or [0]) * 1000:.0f} ms, {max(took, default=0) * 1000:.0f} at most"
    detail = f"{len(wrong)} wrong: {wrong[:3]}" if wrong else f"a good one takes {times}, the command itself included"
    checks.check("each good file was in force when its reload returned, each bad one was refused with a reason", not wrong, detail)
    checks.check("the load ran to the end", alive and found["total"] > 100 + count * 20, f"{found['total']} requests {found['requests']}")
    checks.check("no request failed", not found["failures"], f"{len(found['failures'])} of {found['total']} {scenes.reasons(found['failures'])}")
    checks.check("no idle connection was reset or closed out of the blue", not found["unasked"], f"{len(found['unasked'])} {scenes.reasons(found['unasked'])}")
    checks.check("no client was asked to come again", not found["announced"], f"{found['announced']} were")
    if watch:
        seen = watch.stop()
        right = set(seen) == {"healthy"} and not watch.missing and watch.reads > count
        checks.check("health was never forgotten", right, f"{watch.reads} looks, {watch.missing} without an answer, states {seen}")
        panicked = "panicked" in (scene.folder / "albedo.out").read_text(errors="replace")
        checks.check("no panic in the log", not panicked)
    # The first fifth settles: allocators, tickets, buffers.
    each = programs.slope(points[len(points) // 5 :])
    growth = each * count
    between = [resident for _, resident in points[:: max(1, len(points) // 4)]]
    shown = " → ".join(f"{resident / 2**20:.1f}" for resident in (before, *between, after))
    detail = f"{shown} MiB, slope {each * 100 / 2**20:+.2f} MiB for 100 reloads"
    # A short run has no slope yet: what is draining comes and goes.
    steady = growth < GROWTH_MAX or count < RELOADS_FOR_SLOPE
    checks.check("memory after equals memory before", abs(after - before) < GROWTH_MAX and steady, detail)


def said(front):
    done = getattr(front, "said", None)
    return (done.stdout + done.stderr).strip()[-300:] if done else ""


def spoil(front, turn, scene):
    """Makes the file that stands one that must be refused; each time for another reason."""
    if front.name != "albedo":
        file = "nginx.conf" if front.name == "nginx" else "haproxy.cfg"
        front.place(file, (front.folder / file).read_text() + "\nnonsense {\n")
        return
    text = (front.folder / "albedo.yaml").read_text()
    chain = f"{scene.folder}/two"
    ways = [
        lambda text: text[: len(text) // 2] + "\n  ]]",
        lambda text: text.replace("workers:", "wokers:", 1),
        lambda text: text.replace("forward: moving", "forward: nobody", 1),
        lambda text: re.sub(r"certificate: \S+", "certificate: /nowhere.pem,", text, count=1),
        lambda text: re.sub(r"certificate: \S+", f"certificate: {chain}.pem,", text, count=1).replace(f"{chain}-key.pem", f"{scene.folder}/one-key.pem"),
        lambda text: text.replace("priority: 2\n", "priority: 1\n", 1),
        lambda text: text.replace("target_groups:", f"  - {{ port: {scene.ports['taken']}, address: 127.0.0.1, protocol: HTTP, default_actions: [ {{ forward: stable }} ] }}\ntarget_groups:", 1),
        lambda _: "",
    ]
    spoiled = ways[turn % len(ways)](text)
    if spoiled == text:
        raise RuntimeError(f"way {turn % len(ways)} spoils nothing")
    front.place("albedo.yaml", spoiled)


def in_force(scene, generation):
    """What differs from the last good file: rules on several fresh connections, certificate, third listener."""
    faults = []
    answers = {scenes.now_serving(scene.ports["port"]) for _ in range(4)}
    if answers != {str(generation)}:
        faults.append(f"/generation says {answers} instead of {generation}")
    served = certificate_of(scene.ports["tls_port"])
    with open(scene.chains[generation % 2]) as file:
        wanted = hashlib.sha256(ssl.PEM_cert_to_DER_cert(file.read())).hexdigest()
    if served != wanted:
        faults.append("the other certificate is served")
    if programs.accepts(scene.ports["other_port"]) != (generation % 2 == 1):
        faults.append(f"the third listener is {'closed' if generation % 2 else 'open'}")
    return faults


def certificate_of(port):
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with socket.create_connection(("127.0.0.1", port), 5) as plain, context.wrap_socket(plain) as stream:
        return hashlib.sha256(stream.getpeercert(binary_form=True)).hexdigest()


if __name__ == "__main__":
    programs.run(play, *sys.argv[1:])
