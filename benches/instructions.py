#!/usr/bin/env python3
"""User-space instructions of the server for each message, counted by callgrind, against the budgets in instructions.json.

    instructions.py BUILD_FOLDER [--accept] [--only echo,broadcast]

Unlike time, instructions do not depend on what else the machine does, so this can guard every change. Each path runs twice,
with few messages and with many; the difference belongs to the messages alone. More than 3 % above its budget fails, and
the functions that grew are named. --accept writes what was measured as the new budgets.
"""
import argparse
import collections
import json
import os
import re
import signal
import subprocess
import sys
import tempfile

TOLERANCE = 1.03
HERE = os.path.dirname(os.path.abspath(__file__))
BUDGETS = os.path.join(HERE, "instructions.json")
MOST_FUNCTIONS = 40

# Most of the load's scenarios run a twentieth of their messages before they measure.
WARMED = 1.05
# name: (server mode and keys, load scenario and keys, few, many, how many units one message is, callgrind's options)
PATHS = {
    "echo": (["echo"], ["pingpong", "connections=1", "bytes=64", "messages={}", "warmup_ms=0"], 1000, 6000, WARMED, []),
    "answers, 16 sends in a callback": (
        ["each"], ["pipeline", "connections=1", "depth=16", "bytes=64", "messages={}", "warmup_ms=0"], 3200, 19200, WARMED, []),
    "broadcast, each delivery": (
        ["broadcast", "bytes=64"],
        ["broadcast", "connections=64", "bytes=64", "messages={}", "window=1", "warmup_ms=0"], 50, 250, 64 * WARMED, []),
    "send of another thread": (
        ["push", "connections=4", "count={}"], ["push", "connections=4", "count={}"], 100, 1100, 4,
        ["--toggle-collect=wharf_send"]),
    "accept, exchange, close": (["echo"], ["churn", "messages={}", "concurrent=1", "warmup_ms=0"], 200, 1200, WARMED, []),
}


def filled(words, count):
    return [word.format(count) for word in words]


def run(build, server, load, options, folder):
    """One run under callgrind; gives what each function used itself."""
    counts = os.path.join(folder, "counts")
    command = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={counts}", "--compress-strings=no", *options,
               os.path.join(build, "wharf"), *server]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        port = process.stdout.readline().strip()
        if not port.isdigit():
            sys.exit(f"the server did not start under valgrind: {' '.join(command)}")
        played = subprocess.run([os.path.join(build, "load"), load[0], port, str(process.pid), *load[1:]],
                                capture_output=True, text=True)
        if played.returncode != 0:
            sys.exit(f"the load failed: {played.stderr.strip()}")
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()
    return functions(counts)


def functions(path):
    """What each function used itself; lines after `calls=` tell what it called, and belong to the callee."""
    used, name, is_call = collections.Counter(), "", False
    with open(path) as counts:
        for line in counts:
            if line.startswith("fn="):
                name = re.sub(r"::h[0-9a-f]{16}$", "", line[3:].strip())
            elif line.startswith("calls="):
                is_call = True
            elif line[:1].isdigit() or line[:1] in "+-*":
                if not is_call:
                    used[name] += int(line.split()[1])
                is_call = False
    return used


def measure(build, path):
    server, load, few, many, units, options = path
    with tempfile.TemporaryDirectory() as folder:
        less, more = (run(build, filled(server, count), filled(load, count), options, folder) for count in (few, many))
    per = (many - few) * units
    each = {name: (used - less[name]) / per for name, used in more.items()}
    biggest = sorted(each.items(), key=lambda item: -item[1])[:MOST_FUNCTIONS]
    return {"instructions": round(sum(each.values()), 1),
            "functions": {name: round(count, 1) for name, count in biggest if count >= 0.5}}


def grown(now, budget):
    before = budget["functions"]
    changes = {name: now["functions"].get(name, 0) - before.get(name, 0) for name in {*now["functions"], *before}}
    return [f"    {change:+8.1f}  {name}" for name, change in sorted(changes.items(), key=lambda item: -item[1])[:12]
            if change >= 0.5]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build")
    parser.add_argument("--accept", action="store_true")
    parser.add_argument("--only", default=",".join(PATHS))
    options = parser.parse_args()
    budgets = {}
    if os.path.exists(BUDGETS):
        with open(BUDGETS) as file:
            budgets = json.load(file)
    failed = False
    for name in [name for name in PATHS if any(name.startswith(chosen) for chosen in options.only.split(","))]:
        now = measure(options.build, PATHS[name])
        # Whether events come together or one by one is chance, and what that adds is no property of the code: the least of
        # three counts.
        for _ in range(2):
            if options.accept or now["instructions"] > budgets.get(name, now)["instructions"] * TOLERANCE:
                now = min(now, measure(options.build, PATHS[name]), key=lambda each: each["instructions"])
        if options.accept:
            budgets[name] = now
            print(f"{name}: {now['instructions']} instructions, accepted")
            continue
        budget = budgets.get(name)
        if budget is None:
            sys.exit(f"{name} has no budget: instructions.py --accept writes one")
        is_over = now["instructions"] > budget["instructions"] * TOLERANCE
        failed |= is_over
        verdict = "OVER ITS BUDGET" if is_over else "within its budget"
        print(f"{name}: {now['instructions']} instructions, {verdict} of {budget['instructions']} + 3 %")
        if is_over:
            print("\n".join(grown(now, budget)))
    if options.accept:
        with open(BUDGETS, "w") as file:
            json.dump(budgets, file, indent=1, sort_keys=True)
            file.write("\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
