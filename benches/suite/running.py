"""One run: a server is started, the load runs against it, both are looked after."""
import json
import os
import resource
import select
import signal
import subprocess
import tempfile
import time

from . import machine

START_SECONDS, LOAD_SECONDS = 30, 300


class Unsupported(Exception):
    """The server says that its library cannot do this."""


class Failed(Exception):
    """A server died or would not start, or the load found something wrong."""


def program_of(build, peer):
    """The peer's program, or None. Some tools make a folder of the program's name with the program inside."""
    for path in (os.path.join(build, peer.program), os.path.join(build, peer.program, peer.program)):
        if os.path.isfile(path) and os.access(path, os.X_OK):
            return os.path.abspath(path)
    return None


def pin_to(cpus):
    return lambda: os.sched_setaffinity(0, cpus)


class Server:
    def __init__(self, command, cpus):
        self.name = os.path.basename(command[0])
        self.errors = tempfile.TemporaryFile()
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=self.errors,
                                        preexec_fn=pin_to(cpus))
        try:
            self.port = self.read_port()
        except BaseException:
            self.stop()
            raise

    def read_port(self):
        line, end = b"", time.monotonic() + START_SECONDS
        while not line.endswith(b"\n"):
            if not select.select([self.process.stdout], [], [], max(0.0, end - time.monotonic()))[0]:
                raise Failed(f"{self.name} printed no port within {START_SECONDS} s")
            byte = os.read(self.process.stdout.fileno(), 1)
            if not byte:
                self.process.wait()
                raise Failed(self.death())
            line += byte
        text = line.decode(errors="replace").strip()
        if text.startswith("unsupported:"):
            raise Unsupported(text.removeprefix("unsupported:").strip())
        if not text.isdigit():
            raise Failed(f"{self.name} printed no port but: {text}")
        return text

    def cpu_seconds(self):
        return time.clock_gettime(~self.process.pid << 3 | 2)  # the CPU clock of a whole process, as load.c reads it

    def death(self):
        code = self.process.poll()
        if code is None:
            return None
        how = f"was ended by signal {-code}" if code < 0 else f"ended with code {code}"
        self.errors.seek(0)
        said = self.errors.read().decode(errors="replace").strip().splitlines()
        return f"the server {self.name} {how}" + (f": {said[-1]}" if said else "")

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(3)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.process.stdout.close()
        self.errors.close()


def drive(build, scenario, keys, server):
    """The load's figures, and how much of a CPU others used meanwhile."""
    command = [os.path.join(build, "load"), scenario.load, server.port, str(server.process.pid),
               *(f"{key}={value}" for key, value in keys.items())]

    def ours():
        mine, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
        return server.cpu_seconds() + sum(each.ru_utime + each.ru_stime for each in (mine, children))

    begin, all_before, ours_before = time.monotonic(), machine.cpu_seconds_of_all(), ours()
    try:
        load = subprocess.run(command, capture_output=True, text=True, timeout=LOAD_SECONDS,
                              preexec_fn=pin_to({machine.LOAD_CPU}))
    except subprocess.TimeoutExpired:
        raise Failed(f"the load did not end within {LOAD_SECONDS} s") from None
    if load.returncode != 0:
        time.sleep(0.1)  # a server that dies may close its sockets a little earlier
    if death := server.death():
        raise Failed(death)
    if load.returncode != 0:
        raise Failed(load.stderr.strip() or f"the load ended with code {load.returncode}")
    ours_used, all_used = ours() - ours_before, machine.cpu_seconds_of_all() - all_before
    run = json.loads(load.stdout)
    run["foreign_cpu_share"] = round(max(0.0, all_used - ours_used) / (time.monotonic() - begin), 3)
    return run


def run_once(build, peer, scenario, workers, quick):
    keys = scenario.keys | (scenario.quick if quick else {})
    told = {key: keys[key] for key in scenario.shared} | scenario.server
    if scenario.load not in ("idle", "stall", "push"):
        keys = keys | {"warmup_ms": 0 if quick else 300}
    if workers > 1:
        told["workers"] = workers
    command = [program_of(build, peer), scenario.mode, *peer.keys, *(f"{key}={value}" for key, value in told.items())]
    has_both = max(scenario.workers) > 1 and scenario.cpus == "both"
    server = Server(command, {machine.SERVER_CPU, machine.LOAD_CPU} if has_both else {machine.SERVER_CPU})
    try:
        run = drive(build, scenario, keys, server)
    finally:
        server.stop()
    run["workers"] = workers
    return run


def run_or_one_worker(build, peer, scenario, workers, quick):
    try:
        return run_once(build, peer, scenario, workers, quick)
    except Unsupported:
        if workers == 1 or not scenario.or_one_worker:
            raise
        return run_once(build, peer, scenario, 1, quick)


MOST_REPEATS, FOREIGN_SHARE = 5, 0.05


def run_undisturbed(build, peer, scenario, workers):
    """Repeated while the machine was disturbed, or its CPUs moved; the last one is kept as it is."""
    for repeats in range(MOST_REPEATS + 1):
        before = machine.placement(build)
        run = run_or_one_worker(build, peer, scenario, workers, quick=False)
        after = machine.placement(build)
        run["placement_ns"], run["repeats"] = [before, after], repeats
        run["disturbed"] = run["foreign_cpu_share"] > FOREIGN_SHARE or not machine.agree(before, after)
        if not run["disturbed"]:
            break
    return run


def version_of(build, peer):
    """What `PEER version` prints, where a peer knows the word; others take it for a mode."""
    try:
        process = subprocess.Popen([program_of(build, peer), "version"], stdin=subprocess.DEVNULL,
                                   stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    except OSError:
        return None
    ready = select.select([process.stdout], [], [], 5)[0]
    text = os.read(process.stdout.fileno(), 200).decode(errors="replace").strip() if ready else ""
    process.kill()
    process.wait()
    process.stdout.close()
    line = text.splitlines()[0] if text else ""
    return None if not line or line.isdigit() or line.startswith(("unsupported:", "usage")) else line
