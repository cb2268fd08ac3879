"""Keeps what was measured, in rounds as they were, and says what it means: medians of ratios within a round."""

import json
import platform
import random
import re
import statistics
import time
from dataclasses import dataclass
from pathlib import Path

#: Rounds in which nothing else ran, of which a ratio is made without the others.
CLEAN_MIN = 5

#: Draws of the bootstrap, and the interval that is shown of them.
DRAWS, LOWEST, HIGHEST = 2000, 0.025, 0.975


@dataclass
class Result:
    """`rounds` holds, for each round, {label: cell}; `pairs` the labels whose ratio is of interest: (over, under)."""

    name: str
    pairs: list
    versions: dict
    rounds: list

    def rows(self):
        return list(dict.fromkeys(row for each in self.rounds for cell in each.values() for row in cell["values"]))

    def cells(self, label, row):
        return [each[label] for each in self.rounds if row in each.get(label, {"values": {}})["values"]]

    def median(self, row, label):
        return statistics.median(cell["values"][row] for cell in self.cells(label, row))

    def ratio(self, row, over, under):
        """The median of the rounds' ratios, and the bootstrap's interval of it. Rounds in which others ran are left out if enough remain."""
        both = [(each[over], each[under]) for each in self.rounds if all(row in each.get(label, {"values": {}})["values"] for label in (over, under))]
        clean = [pair for pair in both if not any(cell.get("noisy") for cell in pair)]
        ratios = [one["values"][row] / other["values"][row] for one, other in (clean if len(clean) >= CLEAN_MIN else both) if other["values"][row] > 0]
        if not ratios:
            return None
        chance = random.Random(1)
        drawn = sorted(statistics.median(chance.choices(ratios, k=len(ratios))) for _ in range(DRAWS))
        return statistics.median(ratios), drawn[int(DRAWS * LOWEST)], drawn[int(DRAWS * HIGHEST)]

    def line(self):
        """How it goes."""
        row = self.rows()[0]
        ratios = [(over, under, self.ratio(row, over, under)) for over, under in self.pairs]
        return ", ".join(f"{over}/{under} {ratio[0]:.3f}" for over, under, ratio in ratios if ratio)

    def show(self):
        for row in self.rows():
            print(f"  {row}")
            for label in self.versions:
                cells = self.cells(label, row)
                if not cells:
                    continue
                rest = ""
                if "busy" in cells[0]:
                    rest = f"busy {statistics.median(cell['busy'] for cell in cells):.0%}"
                    connects, noisy = (sum(cell.get(what, 0) for cell in cells) for what in ("connects", "noisy"))
                    rest += f", {connects} connects to targets" if connects else ""
                    rest += f", load late by {statistics.median(cell['late'] for cell in cells):.0%} of p99" if "late" in cells[0] else ""
                    rest += f", {noisy} of {len(cells)} blocks noisy, others had {statistics.median(cell['foreign'] for cell in cells):.0%}" if noisy else ""
                print(f"    {label:20} {self.median(row, label):9.2f}   {rest}")
            for over, under in self.pairs:
                ratio = self.ratio(row, over, under)
                if ratio:
                    print(f"    {f'{over} / {under}':40} {ratio[0]:.3f}  ({ratio[1]:.3f} to {ratio[2]:.3f})", flush=True)


def keep(file, result, options):
    """Puts a mode's result in the place of the last one, or adds to it."""
    told = [f"--{name} {value}" for name in ("rounds", "seconds") if (value := getattr(options, name))]
    whole = json.loads(file.read_text()) if file.exists() else {}
    before = whole.get(result.name, {}).get("rounds", []) if options.add else []
    whole[result.name] = {
        "date": time.strftime("%Y-%m-%d"), "kernel": platform.release(), "machine": machine(), "command": " ".join(["benches/compare/run", result.name, *told]),
        "pairs": result.pairs, "versions": result.versions, "rounds": before + result.rounds,
    }
    file.write_text(json.dumps(whole) + "\n")


def machine():
    names = re.findall(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    return f"{len(names)} × {names[0]}" if names else platform.machine()
