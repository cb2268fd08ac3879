"""What valgrind's callgrind wrote: instructions and allocations of a thread, by function, by file, by line."""

import re
from collections import Counter
from dataclasses import dataclass, field

#: Entries of the allocators: mimalloc, which is albedo's, and libc's, which AWS-LC uses. Freeing is not counted, it follows.
ALLOCATING = re.compile(r"_?mi_(t?heap_)?(m|z|c|re|rez)alloc\w*|(__libc_)?([mc]|re)alloc|(posix_)?memalign|aligned_alloc")

COPYING = re.compile(r"_*mem(cpy|move)\w*")


@dataclass
class Thread:
    """One thread of one run."""

    instructions: int = 0
    functions: Counter = field(default_factory=Counter)
    files: Counter = field(default_factory=Counter)
    lines: Counter = field(default_factory=Counter)
    #: By caller and callee.
    calls: Counter = field(default_factory=Counter)

    def allocating(self):
        """How often each function allocated."""
        return self.callers(ALLOCATING)

    def copying(self):
        """How often each function had memory copied, out of line."""
        return self.callers(COPYING)

    def callers(self, of):
        found = Counter()
        for (caller, callee), calls in self.calls.items():
            if of.fullmatch(callee) and not of.fullmatch(caller):
                found[caller] += calls
        return found


def command(folder):
    """What is written in front of a command to have it counted."""
    return ["valgrind", "--tool=callgrind", "--separate-threads=yes", f"--callgrind-out-file={folder}/callgrind"]


def threads(folder):
    """What was written of each thread, by its number."""
    return {int(file.name.rpartition("-")[2]): file for file in folder.glob("callgrind-*")}


def read(path):
    """Reads a file of callgrind's format, version 1, with `positions: line` and `events: Ir`."""
    thread, names = Thread(), {"fn": {}, "fl": {}}
    function = callee = file = ""
    line = calls = 0
    with open(path, errors="replace") as text:
        for each in text:
            first = each[:1]
            if first.isdigit() or first in ("+", "-", "*"):
                position, _, cost = each.partition(" ")
                line = line if first == "*" else line + int(position) if first in "+-" else int(position)
                if calls:
                    # What a call cost is its callee's own.
                    thread.calls[function, callee] += calls
                    calls = 0
                    continue
                cost = int(cost)
                thread.instructions += cost
                thread.functions[function] += cost
                thread.files[file] += cost
                thread.lines[f"{file}:{line}"] += cost
                continue
            key, _, value = each.rstrip("\n").partition("=")
            if key == "fn":
                function = named(names["fn"], value)
            elif key == "cfn":
                callee = named(names["fn"], value)
            elif key in ("fl", "fi", "fe"):
                file = named(names["fl"], value)
            elif key in ("cfi", "cfl"):
                named(names["fl"], value)
            elif key == "calls":
                calls = int(value.split()[0])
    return thread


def named(names, value):
    """Names are written once, `(7) name`, and are `(7)` from then on."""
    number, _, name = value.partition(" ")
    if name:
        names[number] = name
    return names.get(number, value)


def growth(before, after):
    """What `after` has more than `before`."""
    more = Thread(after.instructions - before.instructions)
    for each in ("functions", "files", "lines", "calls"):
        mine = getattr(more, each)
        mine.update(getattr(after, each))
        mine.subtract(getattr(before, each))
    return more
