"""Writes results.md and chart.svg from what stands in results.json."""

import json
import statistics
from pathlib import Path

import chart
import modes
import results

#: Columns of the tables; how a label is shown.
PEERS = {"nginx": "nginx", "haproxy": "HAProxy", "envoy": "Envoy", "caddy": "Caddy"}
CONTROL, FLOORS = "albedo again", ("relay7", "relay4")

#: A ratio is shown as one to believe while the control differs from 1 by no more.
CONTROL_MIN = 0.95

#: What the chart shows, and how it calls it: (mode, row or None for the first, title, unit, divisor).
PANELS = [
    ("h1", "HTTP/1.1: CPU per request", "µs", 1),
    ("h1-tls", "HTTP/1.1 over TLS: CPU per request", "µs", 1),
    ("h2-tls", "HTTP/2 over TLS: CPU per request", "µs", 1),
    ("tls-connect", "New TLS 1.3 connection and a request: CPU", "µs", 1),
    ("body-1m/down", "1 MiB to the client: CPU", "µs", 1),
    ("body-1m/down-tls", "1 MiB to the client over TLS: CPU", "µs", 1),
    ("echo", "WebSocket, 64 bytes: CPU per echo", "µs", 1),
    ("idle/tls", "Idle TLS connection: user memory", "KiB", 1024),
]


def write(folder):
    whole = json.loads((folder / "results.json").read_text())
    found = [(mode, loaded(mode.name, whole)) for mode in modes.MODES if mode.name in whole]
    (folder / "results.md").write_text(page(found, whole))
    panels = [panel for panel in (made(whole, *each) for each in PANELS) if panel]
    if panels:
        versions = latest(found)
        drawn = {name for _, _, sides, _ in panels for name, _ in sides}
        names = ", ".join(f"{shown} {versions[label]}" for label, shown in PEERS.items() if shown in drawn)
        (folder / "chart.svg").write_text(chart.chart(panels, f"Shorter is better. Beside {names}; one worker, one core. Red: the floor of any proxy here."))


def loaded(name, whole):
    each = whole[name]
    return results.Result(name, [tuple(pair) for pair in each["pairs"]], each["versions"], each["rounds"])


def latest(found):
    return {label: version for _, result in found for label, version in result.versions.items()}


# ---- the page -----------------------------------------------------------------------------------------------------------


def page(found, whole):
    versions, about = latest(found), [whole[mode.name] for mode, _ in found]
    peers = ", ".join(f"{name} {versions[label]}" for label, name in PEERS.items() if label in versions)
    dates = sorted({each["date"] for each in about})
    machines = sorted({f"{each['machine']}, Linux {each['kernel']}" for each in about})
    lines = ["# albedo beside its peers", ""]
    lines += [f"albedo {versions['albedo']} beside {peers}; {'; '.join(machines)}; {' to '.join(dict.fromkeys((dates[0], dates[-1])))}."]
    lines += ["Made by `benches/compare/run`; [README.md](README.md) says how, and what each proxy is told.", ""]
    beside, itself = [one for one in found if not one[0].against], [one for one in found if one[0].against]
    lines += ["![albedo beside its peers](chart.svg)", "", "## Ratios", ""]
    lines += ["albedo's figure divided by the other's: below 1 albedo needs less. In brackets the interval that holds 95 % of bootstrapped medians."]
    lines += [f"Bold where the control, a second albedo, is within {1 - CONTROL_MIN:.0%} of the first, and for latencies where the load was in time; what is not bold says nothing yet.", ""]
    lines += ratios(beside)
    lines += ["", "## Medians", "", *medians(beside)]
    if itself:
        lines += ["", "## albedo beside itself", "", *variants(itself)]
    lines += ["", "## Blocks", "", *blocks(found, whole)]
    return "\n".join(lines) + "\n"


def ratios(found):
    yield table(["", "albedo", *PEERS.values(), "floor", "control"])
    yield table(["---"] * (len(PEERS) + 4))
    for _, result in found:
        for row in result.rows():
            cells = [row, value(result, row, "albedo"), *(against(result, row, peer) for peer in PEERS)]
            floor = next((label for label in FLOORS if label in result.versions), None)
            yield table([*cells, f"{floor} {against(result, row, floor)}" if floor else "–", against(result, row, CONTROL)])


def medians(found):
    yield table(["", "albedo", *PEERS.values(), *FLOORS])
    yield table(["---"] * (len(PEERS) + len(FLOORS) + 2))
    for _, result in found:
        for row in result.rows():
            yield table([row, *(value(result, row, label) for label in ("albedo", *PEERS, *FLOORS))])


def variants(found):
    yield table(["", "with", "without", "ratio"])
    yield table(["---"] * 4)
    for _, result in found:
        for row in result.rows():
            for over, under in result.pairs:
                yield table([f"{row} ({over})", value(result, row, over), value(result, row, under), against(result, row, under, over)])


def blocks(found, whole):
    yield "How each was measured: `busy` is albedo's share of its core, `connects` the connections it opened to targets meanwhile; a noisy block is one in which the core ran something else, which had a share of `others`."
    yield ""
    yield table(["mode", "date", "rounds", "busy", "connects", "noisy blocks", "others", "command"])
    yield table(["---"] * 8)
    for mode, result in found:
        cells = [cell for each in result.rounds for label, cell in each.items()]
        ours = [each["albedo"] for each in result.rounds if "busy" in each.get("albedo", {})]
        busy = f"{statistics.median(cell['busy'] for cell in ours):.0%}" if ours else "–"
        connects = str(sum(cell.get("connects", 0) for cell in ours)) if ours else "–"
        noisy = f"{sum(cell['noisy'] for cell in cells)} of {len(cells)}" if any("noisy" in cell for cell in cells) else "–"
        others = f"{statistics.median(cell.get('foreign', 0) for cell in cells):.1%}" if noisy != "–" else "–"
        about = whole[mode.name]
        rate = f" ({cells[0]['rate']:.0f} requests a second)" if "rate" in cells[0] else ""
        yield table([mode.name + rate, about["date"], str(len(result.rounds)), busy, connects, noisy, others, f"`{about['command']}`"])


def value(result, row, label):
    return chart.shown(result.median(row, label)) if label in result.versions and result.cells(label, row) else "–"


def against(result, row, under, over="albedo"):
    ratio = result.ratio(row, over, under) if {over, under} <= set(result.versions) else None
    if not ratio:
        return "–"
    mark = "**" if readable(result, row) else ""
    return f"{mark}{ratio[0]:.2f}{mark} ({ratio[1]:.2f}–{ratio[2]:.2f})"


def readable(result, row):
    late = [cell.get("noisy", False) for label in result.versions for cell in result.cells(label, row) if "late" in cell]
    if 2 * sum(late) > len(late):
        return False
    control = result.ratio(row, "albedo", CONTROL) if CONTROL in result.versions else None
    return control is None or CONTROL_MIN <= control[0] <= 1 / CONTROL_MIN


def table(cells):
    return f"| {' | '.join(cells)} |"


# ---- the chart ----------------------------------------------------------------------------------------------------------


def made(whole, name, title, unit, divisor):
    if name not in whole:
        return None
    result = loaded(name, whole)
    row = result.rows()[0]
    labels = [label for label in ("albedo", *PEERS) if label in result.versions and result.cells(label, row)]
    ours = result.median(row, "albedo") / divisor
    # What is shown of a peer is what it takes by the ratio, which the machine's moods do not change.
    floor = next((ours / result.ratio(row, "albedo", label)[0] for label in FLOORS if label in result.versions), None)
    times = [1 if label == "albedo" else 1 / result.ratio(row, "albedo", label)[0] for label in labels]
    # For bodies the relay is none: it may take more than a proxy does.
    if floor and floor > ours * min(times):
        floor = None
    return title, unit, [(PEERS.get(label, label), ours * each) for label, each in zip(labels, times)], floor


if __name__ == "__main__":
    write(Path(__file__).parent)
