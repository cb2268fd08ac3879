"""Keeps what was measured, in rounds as they were, and says what it means: medians of ratios within a round."""

import json
import platform
import random
import statistics
import time
from dataclasses import dataclass

#: Draws of the bootstrap, and the interval that is shown of them.
DRAWS, LOWEST, HIGHEST = 2000, 0.025, 0.975


@dataclass
class Result:
    """`rounds` holds, for each round, {label: cell}."""

    name: str
    unit: str
    versions: dict
    rounds: list

    def rows(self):
        return list(dict.fromkeys(row for each in self.rounds for cell in each.values() for row in cell["values"]))

    def labels(self):
        return list(dict.fromkeys(label for label in self.versions if any(label in each for each in self.rounds)))

    def values(self, row, label):
        return [each[label]["values"][row] for each in self.rounds if label in each and row in each[label]["values"]]

    def median(self, row, label):
        found = self.values(row, label)
        return statistics.median(found) if found else None

    def ratio(self, row, label, base="albedo"):
        """`base` against another side: the median of the rounds' ratios, and the bootstrap's interval of it."""
        both = [
            each[base]["values"][row] / each[label]["values"][row]
            for each in self.rounds
            if all(row in each.get(one, {"values": {}})["values"] for one in (base, label)) and each[label]["values"][row] > 0
        ]
        if not both:
            return None
        chance = random.Random(1)
        drawn = sorted(statistics.median(chance.choices(both, k=len(both))) for _ in range(DRAWS))
        return statistics.median(both), drawn[int(DRAWS * LOWEST)], drawn[int(DRAWS * HIGHEST)]

    def cells(self, label):
        return [each[label] for each in self.rounds if label in each]

    def line(self):
        """albedo against every other side, in a line for each row."""
        ratios = [(label, self.ratio(row, label)) for row in self.rows() for label in self.labels() if label != "albedo"]
        return ", ".join(f"{label} {ratio[0]:.3f}" for label, ratio in ratios if ratio)

    def show(self):
        for row in self.rows():
            print(f"  {row}, {self.unit}")
            for label in self.labels():
                ratio, cells = self.ratio(row, label), self.cells(label)
                against = f"{ratio[0]:.3f} ({ratio[1]:.3f} to {ratio[2]:.3f})" if ratio and label != "albedo" else ""
                busy = statistics.median(cell.get("busy", 0) for cell in cells)
                connects, noisy = (sum(cell.get(what, 0) for cell in cells) for what in ("connects", "noisy"))
                rest = f"busy {busy:.0%}, {connects} connects, {noisy} of {len(cells)} noisy"
                print(f"    {label:14} {self.median(row, label):9.2f}  {against:25} {rest}", flush=True)


def keep(file, result, options):
    """Puts a mode's result in the place of the last one, or adds to it."""
    whole = json.loads(file.read_text()) if file.exists() else {}
    before = whole.get(result.name, {}).get("rounds", []) if options.add else []
    whole[result.name] = {
        "date": time.strftime("%Y-%m-%d"), "kernel": platform.release(), "seconds": options.seconds,
        "unit": result.unit, "versions": result.versions, "rounds": before + result.rounds,
    }
    file.write_text(json.dumps(whole) + "\n")
