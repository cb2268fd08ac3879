"""Measures albedo beside its peers: every side in turn, in another order each round, so that what drifts drifts for all."""

import argparse
import http.client
import json
import os
import subprocess
import time
from pathlib import Path

import modes
import peers
import programs
import report
import results

HERE = Path(__file__).parent


class Bench:
    """What every mode needs: the programs that run, the targets, the certificate and the command line."""

    def __init__(self, checks, started, options):
        self.checks, self.programs, self.options = checks, started, options
        self.folder, self.binary, self.seconds = started.folder, options.binary, options.seconds
        chain = programs.certificate(self.folder)
        key, both = chain.with_name("tls-key.pem"), chain.with_name("both.pem")
        both.write_text(chain.read_text() + key.read_text())
        self.certificate = chain, key, both
        # What wrk's TLS offers is set by no option of it.
        self.openssl = self.folder / "openssl.cnf"
        self.openssl.write_text(OPENSSL)
        self.targets = programs.free_ports(2)
        self.many_targets = [f"127.1.{number // 200}.{number % 200 + 1}:{self.targets[0]}" for number in range(2000)]
        addresses = [f"127.0.0.1:{port}" for port in self.targets] + self.many_targets
        started.start([self.tool("target"), *addresses], self.targets, "targets", peers.OTHER_CPU)
        self.asker, self.asked = http.client.HTTPConnection("127.0.0.1", self.targets[0], timeout=60), 0

    def tool(self, name):
        return Path(self.options.tools) / name

    def counts(self):
        """What the targets have counted, without the requests that ask for it."""
        self.asker.request("GET", "/connections")
        counts = json.loads(self.asker.getresponse().read())
        self.asked += 1
        return {**counts, "requests": counts["requests"] - self.asked}

    def answers(self, port):
        try:
            ask(port)
            return True
        except (OSError, http.client.HTTPException):
            return False

    def play(self, mode):
        """All rounds of a mode, in each of which every side has its turn."""
        pairs = mode.pairs(self.options.peers)
        sides = [make(self, label) for label, make in peers.SIDES.items() if any(label in pair for pair in pairs)]
        result = results.Result(mode.name, pairs, {side.label: side.version() for side in sides}, [])
        print(f"{mode.name}: {', '.join(f'{label} {version}' for label, version in result.versions.items())}", flush=True)
        said, self.loads = time.monotonic(), []
        try:
            for each in mode.rounds(self, sides, self.options.rounds or mode.ROUNDS):
                result.rounds.append(each)
                if time.monotonic() - said > SAY_EVERY:
                    said = time.monotonic()
                    print(f"  after {len(result.rounds)} rounds: {result.line()}", flush=True)
        finally:
            for load in self.loads:
                load.kill()  # One that is halted heeds nothing else.
            for side in sides:
                if side.process:
                    side.end()
        return result


#: Seconds between two lines of how it goes.
SAY_EVERY = 15

#: TLS 1.3 with one cipher suite and one group, for programs that take OpenSSL's own settings.
OPENSSL = """openssl_conf = all
[all]
ssl_conf = ssl
[ssl]
system_default = one
[one]
MinProtocol = TLSv1.3
Ciphersuites = TLS_AES_128_GCM_SHA256
Groups = X25519
"""


def ask(port, path="/"):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path, headers={"Connection": "close"})
        return connection.getresponse().read()
    finally:
        connection.close()


def compare(checks, started, options):
    bench = Bench(checks, started, options)
    for mode in options.modes:
        try:
            result = bench.play(mode)
        except (RuntimeError, OSError, subprocess.SubprocessError) as error:
            checks.check(f"{mode.name} is measured, and everything was answered", False, str(error))
            continue
        checks.check(f"{mode.name} is measured, and everything was answered", True)
        result.show()
        results.keep(HERE / "results.json", result, options)
        report.write(HERE)


def main():
    names = [mode.name for mode in modes.MODES]
    line = argparse.ArgumentParser(prog="run", description=__doc__)
    line.add_argument("modes", nargs="*", metavar="MODE", help=f"all by default: {', '.join(names)}")
    line.add_argument("--peers", default="nginx,haproxy,envoy,caddy", help="which of them (%(default)s)")
    line.add_argument("--rounds", type=int, help="in each of which every side has its turn; 40 for CPU times")
    line.add_argument("--seconds", type=float, help="of a turn; 0.4 for CPU times")
    line.add_argument("--add", action="store_true", help="adds rounds to those that stand in results.json")
    line.add_argument("--binary", required=True)
    line.add_argument("--tools", required=True)
    options = line.parse_args()
    os.sched_setaffinity(0, peers.OTHER_CPU)
    options.modes = [mode for mode in modes.MODES if not options.modes or any(mode.name == name or mode.name.startswith(f"{name}/") for name in options.modes)]
    options.peers = [peer for peer in options.peers.split(",") if peer]
    programs.run(compare, options)


if __name__ == "__main__":
    main()
