#!/usr/bin/env python3
"""Wharf beside what one would use instead: CPU, speed, latency and memory, measured in interleaved rounds.

    run.py BUILD_FOLDER --quick
    run.py BUILD_FOLDER [--only wharf,libuv] [--scenario pingpong-64,churn] [--rounds 5] [--out docs/benchmarks]

What is measured and how is told in README.md beside this file.
"""
import argparse
import datetime
import json
import os
import random
import resource
import shlex
import signal
import sys

sys.dont_write_bytecode = True  # leaves nothing in the source tree

from suite import figures, machine, plots, running, tables
from suite.catalogue import BASE, PEERS, SCENARIOS


def stop(sentence):
    print(f"run.py: {sentence}", file=sys.stderr)
    sys.exit(1)


def chosen(names, known, what):
    """Those of the known that are named, in their own order; all when none is."""
    if names is None:
        return list(known)
    names = names.split(",")
    if unknown := [name for name in names if name not in {one.name for one in known}]:
        stop(f"there is no {what} {', '.join(unknown)}; there are {', '.join(one.name for one in known)}")
    return [one for one in known if one.name in names]


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build", help="the folder of the programs")
    parser.add_argument("--quick", action="store_true", help="little of everything: is it right? Writes nothing")
    parser.add_argument("--only", help="these peers: " + ", ".join(peer.name for peer in PEERS))
    parser.add_argument("--scenario", help="these scenarios: " + ", ".join(each.name for each in SCENARIOS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=1, help="of the order in which a round runs the peers")
    parser.add_argument("--out", help="folder for README.md, results.json and the charts; without, the last two go to "
                                      "results/ in the build folder")
    parser.add_argument("--readme", help="a file between whose marks the summary is written")
    parser.add_argument("--render", action="store_true", help="measure nothing: tables and charts of the results.json "
                                                              "there")
    options = parser.parse_args()
    if options.rounds < 1:
        stop("--rounds must be at least 1")
    if options.quick and (options.out or options.render or options.readme):
        stop("--quick writes nothing and reads nothing: --out, --readme and --render do not go with it")
    return options


def built(options):
    """The peers that are there. The programs without which nothing can be measured must be."""
    for program in ("load", "placement"):
        if not os.access(os.path.join(options.build, program), os.X_OK):
            stop(f"{program} is not built: {options.build} is not the folder of the programs, or they were not made")
    peers, there = chosen(options.only, PEERS, "peer"), []
    for peer in peers:
        if running.program_of(options.build, peer):
            there.append(peer)
        elif peer.program == "wharf":
            stop("wharf itself is not built")
        else:
            print(f"skipped: {peer.name} is not built")
    if not running.program_of(options.build, PEERS[0]):
        stop("wharf itself is not built")
    print(flush=True)
    return there


def play_quickly(build, peers, scenarios):
    """Each peer once in each scenario. Only whether it is right."""
    failures = []
    for scenario in scenarios:
        said = []
        for peer in peers:
            for workers in scenario.workers:
                name = peer.name + (f" x{workers}" if workers > 1 else "")
                try:
                    run = running.run_or_one_worker(build, peer, scenario, workers, quick=True)
                    said.append((name if run["workers"] == workers else peer.name) + " ok")
                except running.Unsupported as why:
                    said.append(f"{name} - ({why})")
                except running.Failed as failure:
                    said.append(f"{name} FAILED")
                    failures.append(f"{scenario.name}, {name}: {failure}")
        print(f"{scenario.name}: {', '.join(said)}", flush=True)
    return failures


def play_scenario(build, peers, scenario, rounds, order, failures):
    rows = [{"peer": peer.name, "workers": workers, "reason": None, "runs": []}
            for workers in scenario.workers for peer in peers]
    by_name = {peer.name: peer for peer in peers}
    for number in range(rounds):
        for row in order.sample(rows, len(rows)):
            if row["reason"]:
                continue
            try:
                run = running.run_undisturbed(build, by_name[row["peer"]], scenario, row["workers"])
                row["runs"].append(run | {"round": number})
            except running.Unsupported as why:
                row["reason"] = f"unsupported: {why}"
            except running.Failed as failure:
                row["reason"] = f"failed: {failure}"
                failures.append(f"{scenario.name}, {row['peer']}: {failure}")
                print(failures[-1], file=sys.stderr)
        print(f"{scenario.name}: round {number + 1} of {rounds} done", file=sys.stderr)
    for row in rows:
        base = [other["runs"] for other in rows if other["peer"] == BASE and other["workers"] == row["workers"]]
        row["figures"] = figures.figures_of(scenario, row["runs"], base[0] if base else []) if row["runs"] else {}
        row["bottleneck"] = figures.bottleneck(row["runs"]) if row["runs"] else None
    return {"name": scenario.name, "about": scenario.about, "rounds": rounds, "base": BASE, "keys": scenario.keys,
            "figures": {figure.key: figure.title for figure in scenario.figures}, "rows": rows}


def write_json(results, folder):
    os.makedirs(folder, exist_ok=True)
    path = os.path.join(folder, "results.json")
    with open(path + ".new", "w", encoding="utf-8") as file:
        json.dump(results, file, indent=1, ensure_ascii=False)
        file.write("\n")
    os.replace(path + ".new", path)


def write_page_and_charts(results, folder, page, readme):
    charts = plots.write_all(results, folder)
    if charts is None:
        print("skipped: no charts, matplotlib is not installed")
        charts = []
    if page:
        with open(os.path.join(folder, "README.md"), "w", encoding="utf-8") as file:
            file.write(tables.markdown(results, charts))
    if readme:
        with open(readme, encoding="utf-8") as file:
            text = tables.in_readme(file.read(), results)
        with open(readme, "w", encoding="utf-8") as file:
            file.write(text)
    print(f"written to {folder}")


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # by an exception, so that no server is left behind
    options = arguments()
    folder = options.out or os.path.join(options.build, "results")
    if options.render:
        with open(os.path.join(folder, "results.json"), encoding="utf-8") as file:
            results = json.load(file)
        print("\n".join(tables.plain(result) for result in results["scenarios"]))
        write_page_and_charts(results, folder, options.out, options.readme)
        return 0

    scenarios = chosen(options.scenario, SCENARIOS, "scenario")
    peers = built(options)
    if not machine.has_both_cpus():
        stop("CPU 0 and CPU 1 are needed: one for the server, one for the load")
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # for the servers: 10,000 connections are 10,000 files
    if options.quick:
        failures = play_quickly(options.build, peers, scenarios)
    else:
        said = [arg if arg != options.build else "BUILD_FOLDER" for arg in sys.argv[1:]
                if not arg.startswith("--readme=")]
        versions = {peer.name: running.version_of(options.build, peer) for peer in peers}
        results = {"date": datetime.date.today().isoformat(), **machine.description(),
                   "command": shlex.join(["benches/run.py", *said]), "seed": options.seed, "base": BASE,
                   "versions": {name: text for name, text in versions.items() if text},
                   "not_built": [peer.name for peer in PEERS if not running.program_of(options.build, peer)],
                   "failures": [], "scenarios": []}
        failures, order = results["failures"], random.Random(options.seed)
        for scenario in scenarios:
            results["scenarios"].append(
                play_scenario(options.build, peers, scenario, options.rounds, order, failures))
            print(tables.plain(results["scenarios"][-1]), flush=True)
            write_json(results, folder)  # what is done is kept, should a later one be broken off
        write_page_and_charts(results, folder, options.out, options.readme)
    for failure in failures:
        print(f"run.py: {failure}", file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
