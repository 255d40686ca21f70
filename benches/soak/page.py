"""The page of a soak, and its plot: `page.py FROM TO` reads soak.csv and soak.json in one folder and writes soak.md and
soak.svg into the other. The verdict is that of the run; here it is only shown."""
import csv
import json
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from suite.plots import INK, OURS, pyplot  # noqa: E402

PANELS = [
    ("memory of the process", "KiB", "memory_kib"),
    ("descriptors", "", "files"),
    ("threads", "", "threads"),
    ("open connections", "", "open"),
    ("blocks of the pool in use", "", "blocks"),
    ("connections accepted, a second", "", "accepted"),
    ("messages answered, a second", "", "answers"),
    ("accepts without descriptors", "in all", "exhaustions"),
]
RATES = {"accepted", "answers"}


def smooth(values, width=10):
    """Differences, averaged over some seconds."""
    return [(values[at] - values[max(0, at - width)]) / min(width, at) if at else 0 for at in range(len(values))]


def draw(plot, rows, path):
    minutes = [int(row["second"]) / 60 for row in rows]
    figure, grid = plot.subplots(4, 2, sharex=True, layout="constrained", figsize=(9, 7.5))
    for axes, (title, unit, key) in zip(grid.flat, PANELS):
        values = [int(row[key]) for row in rows]
        axes.plot(minutes, smooth(values) if key in RATES else values, color=OURS, linewidth=0.7)
        axes.set_ylim(bottom=0)
        axes.set_title(f"{title} ({unit})" if unit else title, color=INK)
    for axes in grid[-1]:
        axes.set_xlabel("minutes")
    figure.savefig(path, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    plot.close(figure)


def page(outcome, has_plot):
    minutes = outcome["seconds"] / 60
    lines = [
        "# Soak", "",
        f"Made by `make soak MINUTES={minutes:.0f} OUT=docs`. One process with an engine of two workers, two servers and eight",
        "clients that reconnect; one server stops and starts, or is destroyed and comes back with another configuration, while",
        "the other goes on; peers come and go, reset, end their side, or never read; descriptors run out for 0.3 s every half",
        "minute; clients are replaced. Every answer is compared byte by byte. Each second the process is measured.", "",
    ]
    if has_plot:
        lines += ["![The run: memory, descriptors, threads, connections, blocks, rates](soak.svg)", ""]
    lines += [f"**Outcome: {outcome['faults']} faults in {minutes:.0f} minutes.**", "", "| what happened | times |", "| --- | --- |"]
    lines += [f"| {name} | {value:,} |" for name, value in outcome["summary"].items()]
    lines += [
        "", "## What would be a fault", "",
        "At the end everything must balance: each `on_open` has its `on_close`, each handler its one `on_drop`, accepted and",
        "connected are closed, no block and no byte is in use, descriptors and threads are as many as before the engine.",
        "Nothing may have grown: the first fifth of the run is left out (pools and the allocator fill then), the rest is cut",
        "into three windows; a figure grew when the medians of the windows rise from each to the next and the last exceeds the",
        "first by more than the allowance.", "",
    ]
    lines += [f"- {rule}" for rule in outcome["rules"]]
    lines += [
        "", "That the rules can fail is shown by leaks on purpose: `make soak MINUTES=1 LEAK=memory` (64 KiB a second), `LEAK=files`",
        "(a descriptor a second) and `LEAK=handlers` (one `on_drop` is not counted) each end with a fault that names it.", "",
    ]
    return "\n".join(lines)


def main(folder, out):
    with open(os.path.join(folder, "soak.json"), encoding="utf-8") as file:
        outcome = json.load(file)
    with open(os.path.join(folder, "soak.csv"), encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    plot = pyplot()
    if plot is None:
        print("no plot: install matplotlib")
    else:
        draw(plot, rows, os.path.join(out, "soak.svg"))
    with open(os.path.join(out, "soak.md"), "w", encoding="utf-8") as file:
        file.write(page(outcome, plot is not None))


main(sys.argv[1], sys.argv[2])
