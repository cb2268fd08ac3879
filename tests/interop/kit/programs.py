"""What the scripts share: checks that are counted, programs that are started and ended, ports, certificates."""

import ctypes
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

#: Longest a program may take until it listens, and until it has ended after SIGTERM.
STARTS_WITHIN, ENDS_WITHIN = 15, 15


class Checks:
    """Prints a line for each check and counts them."""

    def __init__(self):
        self.passed = self.failed = 0

    def check(self, sentence, holds, detail=""):
        self.passed += bool(holds)
        self.failed += not holds
        print(f"{'ok  ' if holds else 'FAIL'} {sentence}{f': {detail}' if detail else ''}", flush=True)
        return bool(holds)


class Programs:
    """Starts programs and ends those it started, and no others."""

    def __init__(self, folder):
        self.folder, self.processes = Path(folder), []
        # What a proxy leaves behind when it hands over to another process becomes a child of ours, so that we can
        # find it and end it. 36 is PR_SET_CHILD_SUBREAPER.
        ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)

    def start(self, command, ports=(), name=None, cpus=None, environment=None, pipes=False):
        """Starts a program and waits until it listens on its ports: numbers, or pairs of address and number."""
        command = [str(word) for word in command]
        log = open(self.log_file(name or Path(command[0]).name), "ab")
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE if pipes else subprocess.DEVNULL,
            stdout=subprocess.PIPE if pipes else log,
            stderr=log,
            text=True,
            start_new_session=True,
            env={**os.environ, **(environment or {})},
            preexec_fn=(lambda: os.sched_setaffinity(0, cpus)) if cpus else None,
        )
        log.close()
        self.processes.append(process)
        for port in ports:
            took = wait_for(lambda: accepts(port) or process.poll() is not None, STARTS_WITHIN)
            if took is None or process.poll() is not None:
                raise RuntimeError(f"{shlex.join(command)} does not listen: {self.log(name or Path(command[0]).name)}")
        return process

    def log_file(self, name):
        return self.folder / f"{name}.out"

    def log(self, name):
        file = self.log_file(name)
        return file.read_text(errors="replace")[-3000:] if file.exists() else ""

    def end(self, process):
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(ENDS_WITHIN)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait(ENDS_WITHIN)

    def end_all(self):
        for process in reversed(self.processes):
            self.end(process)
        for how in (signal.SIGTERM, signal.SIGKILL):
            wait_for(lambda: not self.strays(how), 5)

    def strays(self, how):
        """Ends what our programs left behind. Only what we started, or what that started, is a child of ours."""
        for pid in children(os.getpid()):
            try:
                os.kill(pid, how)
                os.waitpid(pid, os.WNOHANG)
            except (ProcessLookupError, ChildProcessError):
                pass
        return children(os.getpid())


def run(play, *arguments):
    """Plays a script in a folder of its own, ends what it started, closes with the count."""
    # The trap of every way out but SIGKILL: a signal becomes an exception, `finally` ends what runs.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    began, checks = time.monotonic(), Checks()
    with tempfile.TemporaryDirectory(prefix="albedo-interop-") as folder:
        os.chmod(folder, 0o755)
        programs = Programs(folder)
        try:
            play(checks, programs, *arguments)
        except Exception as error:  # A script that could not run is a failure like any other.
            if os.environ.get("TRACEBACK"):
                raise
            checks.check("the script runs to its end", False, f"{type(error).__name__}: {error}")
        finally:
            programs.end_all()
            keep = os.environ.get("KEEP")
            if keep:
                subprocess.run(["cp", "-r", folder, keep], check=False)
    print(f"took {time.monotonic() - began:.0f} s")
    print(f"{checks.passed} passed, {checks.failed} failed")
    sys.exit(checks.failed > 0)


def wait_for(holds, seconds, pause=0.05):
    """How long it took until `holds()`; None when it did not within `seconds`."""
    began = time.monotonic()
    while True:
        if holds():
            return time.monotonic() - began
        if time.monotonic() - began > seconds:
            return None
        time.sleep(pause)


def accepts(port):
    where = port if isinstance(port, tuple) else ("127.0.0.1", port)
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(where) == 0


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


def certificate(folder, name="tls", common_name="localhost"):
    """Makes folder/NAME.pem and folder/NAME-key.pem, self-signed, good for 127.0.0.1 too; gives the first."""
    chain, key = Path(folder) / f"{name}.pem", Path(folder) / f"{name}-key.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2"
    command = [*command.split(), "-subj", f"/CN={common_name}", "-keyout", key, "-out", chain]
    command += ["-addext", f"subjectAltName=DNS:{common_name},DNS:localhost,IP:127.0.0.1"]
    subprocess.run([str(word) for word in command], check=True, capture_output=True, stdin=subprocess.DEVNULL)
    return chain


# ---- what a process costs ---------------------------------------------------------------------------------------


def children(pid):
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found += [int(child) for child in task.read_text().split()]
        except OSError:
            pass
    return found


def processes_of(pid):
    """The process and everything it started that still lives."""
    found = [pid]
    for one in found:
        found += children(one)
    return found


def cpu_time(pids):
    """Nanoseconds that the processes have run, from the scheduler's own books."""
    files = [file for pid in pids for file in Path(f"/proc/{pid}/task").glob("*/schedstat")]
    return sum(int(file.read_text().split()[0]) for file in files)


def user_share(pids):
    """Ticks of user and of kernel time; a sampled figure, to be taken over seconds."""
    fields = [file.read_text().rpartition(")")[2].split() for pid in pids for file in Path(f"/proc/{pid}/task").glob("*/stat")]
    return sum(int(each[11]) for each in fields), sum(int(each[12]) for each in fields)


def memory(pids, field="VmRSS"):
    """Bytes of the processes' user memory. The kernel's own, for sockets and their buffers, is not in it."""
    total = 0
    for pid in pids:
        try:
            status = Path(f"/proc/{pid}/status").read_text()
        except OSError:
            continue
        found = re.search(rf"{field}:\s+(\d+)", status)
        total += int(found[1]) * 1024 if found else 0
    return total


def slope(points):
    """Least squares through (x, y): how much y grows for each x."""
    count = max(1, len(points))
    middle = sum(x for x, _ in points) / count, sum(y for _, y in points) / count
    spread = sum((x - middle[0]) ** 2 for x, _ in points)
    return sum((x - middle[0]) * (y - middle[1]) for x, y in points) / spread if spread else 0.0
