"""The parts of the benchmark suite's runner: see ../README.md."""
