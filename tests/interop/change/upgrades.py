"""Upgrades a proxy again and again under load, and tries to upgrade it to programs that are no proxy."""

import os
import signal
import sys
import time

import programs
import proxies
import scene as scenes

#: Good upgrades, and the seconds of load before the first and after each.
UPGRADES, PACE = int(os.environ.get("UPGRADES", "10")), 6

#: Longest the process that handed over may stay: its clients that seldom ask have asked once by then.
GONE_WITHIN = 30

#: What is no proxy, and why not.
SILENT = "never says that it is ready"
BROKEN = {
    "ends at once with 1": "#!/bin/sh\nexit 1\n",
    "ends with 0 and never serves": "#!/bin/sh\nexit 0\n",
    "is no program": "\x7fELF\x02garbage\n",
    SILENT: "#!/bin/sh\nexec sleep 600\n",
}

#: Leaves out what takes a minute: a program that albedo waits for in vain.
QUICK = bool(os.environ.get("QUICK"))

#: Longest albedo may wait for a program that says nothing.
REFUSED_WITHIN = 90


def play(checks, started, name):
    scene = scenes.Scene(started)
    front = proxies.proxy(name, started)
    front.install()
    print(f"     {front.version()}, {UPGRADES} upgrades")
    front.start(scene.table(0))
    watch = scenes.Watch(scene) if front.name == "albedo" else None
    load = scene.load()
    time.sleep(PACE)
    good_upgrades(checks, scene, front)
    report(checks, watch, load)

    watch = scenes.Watch(scene) if front.name == "albedo" else None
    load = scene.load()
    time.sleep(PACE)
    broken_upgrades(checks, scene, front)
    time.sleep(PACE)
    report(checks, watch, load, undisturbed=True)
    if front.name == "albedo":
        refused_file(checks, scene, front)
        panicked = "panicked" in (scene.folder / "albedo.out").read_text(errors="replace")
        checks.check("no panic in the log", not panicked)


def good_upgrades(checks, scene, front):
    refused, stayed, wrong, memory = [], [], [], []
    for turn in range(1, UPGRADES + 1):
        before = set(front.pids())
        front.replace()
        # The command and the signal take turns.
        if front.name == "albedo" and turn % 2 == 0:
            os.kill(min(before), signal.SIGUSR2)
        elif not front.upgrade():
            refused.append(f"{turn}: {said(front)}")
        if programs.wait_for(lambda: set(front.pids()) - before, 10) is None:
            refused.append(f"{turn}: no new process")
        if scenes.now_serving(scene.ports["port"]) != "0":
            wrong.append(turn)
        if programs.wait_for(lambda: not before & set(front.pids()), GONE_WITHIN) is None:
            stayed.append(f"{turn}: {sorted(before & set(front.pids()))}")
        time.sleep(PACE)
        memory.append(front.memory() / 2**20)
    checks.check(f"{UPGRADES} upgrades by command and by signal succeed", not refused, "; ".join(refused[:3]))
    checks.check(f"each old process is gone within {GONE_WITHIN} s", not stayed, "; ".join(stayed[:3]))
    checks.check("the rules are in force after each", not wrong, str(wrong or ""))
    print(f"     memory after each: {' '.join(f'{one:.1f}' for one in memory)} MiB")


def broken_upgrades(checks, scene, front):
    serving = set(front.pids())
    for why, text in BROKEN.items():
        if front.name != "albedo" and why != "ends at once with 1":
            continue  # nginx does not ask a new program whether it is ready.
        if QUICK and why == SILENT:
            continue
        front.replace(text)
        began = time.monotonic()
        accepted = front.upgrade()
        took = time.monotonic() - began
        settled = programs.wait_for(lambda: set(front.pids()) == serving, REFUSED_WITHIN) is not None
        answers = scenes.now_serving(scene.ports["port"]) == "0"
        told = front.name != "albedo" or len(said(front)) > 10
        detail = f"{'accepted' if accepted else 'refused'} after {took:.1f} s, {said(front)!r}"
        checks.check(f"a binary that {why} changes nothing", not accepted and settled and answers and told, detail)
    front.replace()


def refused_file(checks, scene, front):
    """A good program that finds a file it must refuse: the old one goes on, and a good file mends it."""
    serving = set(front.pids())
    front.place("albedo.yaml", "listeners: nonsense\n")
    refused = not front.upgrade() and set(front.pids()) == serving and scenes.now_serving(scene.ports["port"]) != ""
    checks.check("an upgrade that meets a bad file changes nothing", refused, said(front))
    front.write(scene.table(1))
    accepted = front.upgrade() and scenes.now_serving(scene.ports["port"]) == "1"
    checks.check("the next upgrade brings the next good file", accepted, said(front))


def report(checks, watch, load, undisturbed=False):
    alive = load.alive()
    found = load.stop()
    when = "meanwhile " if undisturbed else ""
    checks.check(f"{when}the load ran to the end", alive and found["total"] > 500, f"{found['total']} requests {found['requests']}")
    failures, unasked = found["failures"], found["unasked"]
    checks.check(f"{when}no request failed", not failures, f"{len(failures)} of {found['total']} {scenes.reasons(failures)}")
    # A process that goes must end its idle connections once; it may announce that, or close them, but not reset them.
    rough = [end for end in unasked if undisturbed or end[2] == "RST"]
    announced = found["announced"]
    detail = f"{announced} were asked to come again, {len(unasked)} were closed: {scenes.reasons(unasked)}"
    checks.check(f"{when}no idle connection was {'touched' if undisturbed else 'reset'}", not rough and not (undisturbed and announced), detail)
    if watch:
        seen = watch.stop()
        right = set(seen) == {"healthy"} and not watch.missing
        checks.check(f"{when}health was never forgotten", right, f"{watch.reads} looks, {watch.missing} without an answer, {seen}")


def said(front):
    done = getattr(front, "said", None)
    return (done.stdout + done.stderr).strip()[-300:] if done else ""


if __name__ == "__main__":
    programs.run(play, *sys.argv[1:])
