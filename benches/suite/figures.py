"""From runs to figures: medians, spreads, ratios within a round."""
import math
import statistics

from . import machine

BUSY = 0.95


def spread(values):
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def ratios(figure, runs, base_runs):
    """Pair by pair: only runs of one round, and only when the CPUs were equally far from each other."""
    bases, pairs = {run["round"]: run for run in base_runs}, []
    for run in runs:
        base = bases.get(run["round"])
        if base is None or not machine.agree(place(run), place(base)) or figure.of(base) == 0:
            continue
        pairs.append(figure.of(run) / figure.of(base))
    return spread(pairs) | {"pairs": len(pairs)} if pairs else None


def place(run):
    return math.sqrt(run["placement_ns"][0] * run["placement_ns"][1])


def bottleneck(runs):
    """Who had no time left. A load that spins or keeps a schedule is never the one."""
    server = statistics.median(run["server_cpu_ns"] / 1e9 / run["seconds"] / run["workers"] for run in runs)
    load = statistics.median(run["load_cpu_ns"] / 1e9 / run["seconds"] for run in runs)
    busy = [name for name, share in (("server", server), ("load", load)) if share > BUSY]
    if any(run.get("paced") for run in runs) and "load" in busy:
        busy.remove("load")
    return " and ".join(busy) or "neither"


def figures_of(scenario, runs, base_runs):
    result = {}
    for figure in scenario.figures:
        result[figure.key] = spread([figure.of(run) for run in runs])
        if figure.ratio and base_runs:
            result[figure.key]["ratio"] = ratios(figure, runs, base_runs)
    return result
