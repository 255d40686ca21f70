"""What the machine is, how its CPUs stand to each other, and who else uses them."""
import os
import platform
import subprocess

SERVER_CPU, LOAD_CPU = 0, 1
TICK = os.sysconf("SC_CLK_TCK")


def has_both_cpus():
    return {SERVER_CPU, LOAD_CPU} <= os.sched_getaffinity(0)


def description():
    model = "unknown"
    with open("/proc/cpuinfo") as info:
        for line in info:
            if line.startswith("model name"):
                model = line.split(":", 1)[1].strip()
                break
    return {"kernel": platform.release(), "cpu": model, "cpus": os.cpu_count()}


def placement(build):
    """Nanoseconds that a cache line takes from one CPU to the other and back."""
    probe = subprocess.run([os.path.join(build, "placement")], capture_output=True, text=True, check=True)
    return max(float(probe.stdout), 1.0)


def agree(*placements):
    return max(placements) <= 2 * min(placements)


def cpu_seconds_of_all():
    """What all processes have used up to now, ended ones too as long as somebody waited for them, and stolen time.

    The busy time of /proc/stat will not do: many systems sample it at timer ticks, by which servers that sleep and wake
    many times between two ticks come out wrong by tenths of a CPU. What is accounted to processes is exact.
    """
    ticks = 0
    for process in os.listdir("/proc"):
        if process.isdigit():
            try:
                with open(f"/proc/{process}/stat") as stat:
                    ticks += sum(int(part) for part in stat.read().rsplit(")", 1)[1].split()[11:15])
            except OSError:
                pass  # it has just ended; who waited for it has its time
    with open("/proc/stat") as stat:
        for line in stat:
            words = line.split()
            if words[0] in (f"cpu{SERVER_CPU}", f"cpu{LOAD_CPU}"):
                ticks += int(words[8])
    return ticks / TICK
