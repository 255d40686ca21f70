#!/usr/bin/env python3
"""CPU per echoed message of Wharf beside a bare epoll loop, in one interleaved run.

    compare.py BUILD_FOLDER [--connections 64] [--bytes 64] [--messages 300000] [--rounds 9]

Each round runs every server once, in turn, pinned to one core, the load on the other. The CPU of a server is what the
system accounts to the finished process, less what it used before the load began. Medians and the spread are printed, and
the ratio to the bare loop, pair by pair.
"""
import argparse
import os
import signal
import statistics
import subprocess
import sys


def cpu_of(pid):
    with open(f"/proc/{pid}/schedstat") as stat:
        return int(stat.read().split()[0])


def cpu_of_all_threads(pid):
    return sum(cpu_of(f"{pid}/task/{task}") for task in os.listdir(f"/proc/{pid}/task"))


def run_once(server, load, options):
    process = subprocess.Popen(["taskset", "-c", "0", *server], stdout=subprocess.PIPE, text=True)
    try:
        port = process.stdout.readline().strip()
        before = cpu_of_all_threads(process.pid)
        shape = [str(options.connections), str(options.bytes), str(options.messages)]
        result = subprocess.run(["taskset", "-c", "1", load, port, *shape], capture_output=True, text=True, check=True)
        used_ns = cpu_of_all_threads(process.pid) - before
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()
    messages, seconds = result.stdout.split()
    return used_ns / int(messages), int(messages) / float(seconds)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build")
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--bytes", type=int, default=64)
    parser.add_argument("--messages", type=int, default=300_000)
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    load = f"{options.build}/load"
    servers = {"bare epoll": [f"{options.build}/bare_epoll"], "wharf": [f"{options.build}/wharf_echo"],
               "wharf, caller-driven": [f"{options.build}/wharf_echo", "caller"],
               "wharf, polling port": [f"{options.build}/wharf_echo", "polling"]}
    figures = {name: [] for name in servers}
    for _ in range(options.rounds):
        for name, command in servers.items():
            figures[name].append(run_once(command, load, options))
    print(f"{options.connections} connections x {options.bytes} B, {options.messages} messages, {options.rounds} rounds")
    floor = [cpu for cpu, _ in figures["bare epoll"]]
    for name, results in figures.items():
        cpu = [cpu for cpu, _ in results]
        ratios = [one / base for one, base in zip(cpu, floor)]
        rate = statistics.median(rate for _, rate in results)
        print(f"{name:21} {statistics.median(cpu):7.0f} ns/message ({min(cpu):.0f}..{max(cpu):.0f})"
              f"  ratio {statistics.median(ratios):.3f} ({min(ratios):.3f}..{max(ratios):.3f})  {rate:9.0f} messages/s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
