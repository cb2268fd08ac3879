"""Measures what an idle WebSocket costs in memory and an echo in CPU time: albedo, nginx and HAProxy in one run."""

import os
import resource
import statistics
import sys

import programs
import proxies

#: Sockets of each proxy: two descriptors each, so that a low limit allows fewer.
TUNNELS = min(int(os.environ.get("TUNNELS", "10000")), (resource.getrlimit(resource.RLIMIT_NOFILE)[1] - 200) // 2)

#: Places on the way up where memory is read.
STEPS = 10

#: Sockets that talk while all the others are idle, echoes of each in a round, rounds.
TALKING, ECHOES, ROUNDS = 64, 500, int(os.environ.get("ROUNDS", "15"))

#: The proxies share the first core, one at a time; targets and clients have the second.
PROXY_CPU, OTHER_CPU = ({0}, {1}) if os.cpu_count() > 1 else (None, None)


class Way:
    """A target, a proxy and the clients of one of the three."""

    def __init__(self, started, name, program):
        target, port = programs.free_ports(2)
        self.front = proxies.proxy(name, started)
        self.name = self.front.name
        started.start([program, "target", target], [target], f"{self.name}-target", OTHER_CPU)
        table = proxies.Table((proxies.Listener(port, "echo"),), (proxies.Group("echo", (("127.0.0.1", target),)),), workers=1)
        self.front.start(table, PROXY_CPU)
        self.client = started.start([program, "client", port], name=f"{self.name}-client", cpus=OTHER_CPU, pipes=True)
        self.started = started

    def do(self, command):
        self.client.stdin.write(command + "\n")
        self.client.stdin.flush()
        if not self.client.stdout.readline():
            raise RuntimeError(f"{self.name}: {command}: {self.started.log(f'{self.name}-client')}")

    def fill(self):
        """Bytes for each tunnel, by the slope of memory over their number."""
        self.do(f"open {TUNNELS // STEPS}")
        points = [(TUNNELS // STEPS, self.front.memory())]
        for step in range(2, STEPS + 1):
            self.do(f"open {TUNNELS * step // STEPS}")
            points.append((TUNNELS * step // STEPS, self.front.memory()))
        return programs.slope(points)

    def echo(self):
        """Microseconds of CPU for each echo."""
        began = self.front.cpu_time()
        self.do(f"echo {TALKING} {ECHOES}")
        return (self.front.cpu_time() - began) / (TALKING * ECHOES) / 1000


def play(checks, started, binary, program):
    ways = [Way(started, name, program) for name in (binary, "nginx", "haproxy")]
    ours, *peers = ways
    print(f"     {', '.join(way.front.version() for way in ways)}")
    print(f"     {TUNNELS} tunnels each, {TALKING} of them talking, {ROUNDS} rounds; one worker each, {'on a core of its own' if PROXY_CPU else 'one core for all'}")
    memory = {}
    for way in ways:
        memory[way.name] = way.fill()
        print(f"     {way.name}: {memory[way.name]:.0f} bytes an idle tunnel, {way.front.memory() / 2**20:.1f} MiB in all")
    for peer in peers:
        detail = f"{memory[ours.name]:.0f} against {memory[peer.name]:.0f} bytes"
        checks.check(f"an idle tunnel takes less memory than {peer.name}'s", memory[ours.name] < memory[peer.name], detail)

    costs = {way.name: [] for way in ways}
    ticks = {way.name: programs.user_share(way.front.pids()) for way in ways}
    for turn in range(ROUNDS + 1):
        # The first round warms up and does not count; the order changes with every round.
        for way in ways[turn % 3 :] + ways[: turn % 3]:
            costs[way.name] += [way.echo()] if turn else []
    for way in ways:
        user, kernel = (after - before for after, before in zip(programs.user_share(way.front.pids()), ticks[way.name]))
        print(f"     {way.name}: {statistics.median(costs[way.name]):.2f} µs an echo, {user / max(1, user + kernel):.0%} of it outside the kernel")
    for peer in peers:
        ratios = [mine / theirs for mine, theirs in zip(costs[ours.name], costs[peer.name])]
        mine, theirs, ratio = (statistics.median(each) for each in (costs[ours.name], costs[peer.name], ratios))
        detail = f"{mine:.2f} against {theirs:.2f} µs, ratio {ratio:.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        checks.check(f"a 64-byte echo takes less CPU than {peer.name}'s", ratio < 1, detail)


if __name__ == "__main__":
    programs.run(play, *sys.argv[1:])
