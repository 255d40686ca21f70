"""What is compared, and in which scenarios."""
from dataclasses import dataclass, field

BASE = "bare-epoll"  # the one to which the others are set in relation


@dataclass(frozen=True)
class Peer:
    name: str
    program: str
    keys: tuple = ()


PEERS = (
    Peer("wharf", "wharf"),
    Peer("wharf-caller", "wharf", ("turn=caller",)),
    Peer("wharf-polling", "wharf", ("port=polling",)),
    Peer("bare-epoll", "bare_epoll"),
    Peer("bare-uring", "bare_uring"),
    Peer("libuv", "libuv", ("form=usual",)),
    Peer("libuv-tuned", "libuv", ("form=tuned",)),
    Peer("libevent", "libevent"),
    Peer("libev", "libev"),
    Peer("asio", "asio"),
    Peer("tokio", "tokio_peer"),
    Peer("smol", "smol_peer"),
    Peer("go", "go_peer"),
    Peer("dotnet", "dotnet_peer"),
)


@dataclass(frozen=True)
class Figure:
    """A number of one run. `ratio`: whether to divide it by the base's makes sense; not where that one is near 0."""
    key: str
    title: str
    of: object
    ratio: bool = True


def cpu_per(title, key="messages", scale=1.0, unit="ns"):
    return Figure("cpu", f"CPU per {title}, {unit}", lambda run: run["server_cpu_ns"] * scale / run[key])


def speed(title):
    return Figure("speed", f"{title}/s", lambda run: run["messages"] / run["seconds"])


def latency(key, title):
    return Figure(key, f"{title}, us", lambda run: run[key])


GIB = float(1 << 30)
CPU_MESSAGE = cpu_per("message")
CPU_GIB = cpu_per("GiB", "bytes", GIB / 1e6, "ms")
THROUGHPUT = Figure("speed", "MiB/s", lambda run: run["bytes"] / run["seconds"] / (1 << 20))
P50, P99, MAX = latency("p50_us", "p50"), latency("p99_us", "p99"), latency("max_us", "max")
P99_BEST = latency("p99_us_best_half", "p99 of the better half")
MEMORY = Figure("memory", "bytes per connection", ratio=False, of=lambda run: (
    run["server_rss_kib_after"] - run["server_rss_kib_before"]) * 1024 / run["connections"])
MEMORY_ALL = Figure("memory_all", "memory with all, MiB", lambda run: run["server_rss_kib_after"] / 1024, ratio=False)
MEMORY_PEAK = Figure("memory_peak", "peak above the start, MiB", ratio=False, of=lambda run: (
    run["server_rss_kib_peak"] - run["server_rss_kib_before"]) / 1024)
MESSAGES = (CPU_MESSAGE, speed("messages"), P50, P99)


@dataclass(frozen=True)
class Scenario:
    name: str
    about: str
    load: str                                    # the load's name of it
    mode: str                                    # the server's
    figures: tuple
    keys: dict = field(default_factory=dict)     # for the load
    quick: dict = field(default_factory=dict)    # for the load, instead, with --quick
    shared: tuple = ()                           # those of the load's keys that the server is told, too
    server: dict = field(default_factory=dict)   # keys for the server only
    workers: tuple = (1,)                        # a row for each
    or_one_worker: bool = False                  # who cannot do several workers takes part with one
    cpus: str = "both"                           # the server's when workers are several; "one": that of one worker


def pingpong(name, about, connections, messages, size=64, **more):
    keys = {"connections": connections, "bytes": size, "messages": messages}
    quick = {"messages": 2 * connections + 500}
    return Scenario(name, about, "pingpong", "echo", MESSAGES, keys, quick, **more)


def blocking(name, about, per_second):
    return Scenario(name, about, "block", "block", (P99_BEST, P99, P50),
                    {"connections": 64, "per_second": 2000, "blocks_per_second": per_second, "seconds": 3},
                    {"seconds": 0.3}, workers=(2,), or_one_worker=True)


def pipeline(name, mode, about, messages):
    keys = {"connections": 16, "bytes": 64, "depth": 16, "messages": messages}
    return Scenario(name, about, "pipeline", mode, (CPU_MESSAGE, speed("messages")), keys, {"messages": 5000})


SCENARIOS = (
    pingpong("pingpong-1", "1 connection, 64 B, one message under way", 1, 20_000),
    pingpong("pingpong-64", "64 connections, 64 B, one message under way on each", 64, 300_000),
    pingpong("pingpong-1000", "1,000 connections, 64 B, one message under way on each", 1000, 200_000),
    Scenario("rate-20000", "light load: 20,000 messages/s at fixed times over 64 connections, 64 B; latencies count "
             "from the time at which a message was due", "rate", "echo", (CPU_MESSAGE, P50, P99, MAX),
             {"connections": 64, "bytes": 64, "per_second": 20_000, "seconds": 2}, {"seconds": 0.1}),
    pingpong("pingpong-16k", "64 connections, 16 KiB, one message under way on each", 64, 150_000, 16384),
    pipeline("pipeline-echo", "echo", "16 connections, bursts of 16 messages of 64 B, echoed as they come", 2_000_000),
    pipeline("pipeline-each", "each", "16 connections, bursts of 16 messages of 64 B, one send for each", 800_000),
    Scenario("bulk-in", "1 connection, 4 GiB one way in", "sink", "sink", (CPU_GIB, THROUGHPUT),
             {"connections": 1, "total_bytes": 4 << 30}, {"total_bytes": 64 << 20}),
    Scenario("bulk-echo", "1 connection, 2 GiB in and back out at the same time", "bulk", "echo", (CPU_GIB, THROUGHPUT),
             {"connections": 1, "total_bytes": 2 << 30}, {"total_bytes": 32 << 20}),
    Scenario("broadcast-1000", "messages of 1 KiB from one connection to all 1,000, four under way", "broadcast",
             "broadcast", (cpu_per("delivery"), speed("deliveries"), P50, P99),
             {"connections": 1000, "bytes": 1024, "messages": 300, "window": 4}, {"connections": 100, "messages": 20},
             shared=("bytes",)),
    Scenario("push-64", "4 threads of the program's own send messages of 64 B on 64 connections", "push", "push",
             (CPU_MESSAGE, speed("messages")), {"connections": 64, "count": 8000}, {"count": 100},
             shared=("connections", "count")),
    Scenario("churn", "connect, one exchange of 64 B, close; 16 at a time", "churn", "echo",
             (cpu_per("connection", scale=1e-3, unit="us"), speed("connections"), P50, P99),
             {"messages": 15_000, "concurrent": 16}, {"messages": 500}),
    Scenario("idle-10000", "10,000 connections that have each exchanged one message", "idle", "echo",
             (MEMORY, MEMORY_ALL), {"connections": 10_000}, {"connections": 1000}),
    Scenario("stall", "the server produces 1 GiB the way that is written quickly, the peer does not read", "stall",
             "produce", (MEMORY_PEAK,), {"seconds": 4}, {"seconds": 0.3}, server={"count": 1 << 30}),
    blocking("block", "two workers; a handler that blocks for 50 ms five times a second; latencies of 2,000 other "
             "messages/s on 63 connections", 5),
    blocking("block-quiet", "the same, but nothing blocks: what the better half of block is to be compared with", 0),
    pingpong("workers-2", "as pingpong-64, with one worker and with two on the server's one CPU: what a second worker "
             "costs by itself", 64, 300_000, workers=(1, 2), cpus="one"),
    pingpong("workers-2-apart", "the same on both CPUs, one of them the load's, too", 64, 300_000, workers=(1, 2)),
)

CHARTS = (  # file, title, scenarios
    ("messages.svg", "CPU per message, as a ratio to a bare epoll loop",
     ("pingpong-1", "pingpong-64", "pingpong-1000", "pingpong-16k", "rate-20000")),
    ("streams.svg", "CPU per message, byte, delivery or connection, as a ratio to a bare epoll loop",
     ("pipeline-echo", "pipeline-each", "bulk-in", "bulk-echo", "broadcast-1000", "push-64", "churn")),
)
MEMORY_CHART = ("memory.svg", "Memory of an idle connection, bytes", "idle-10000")
