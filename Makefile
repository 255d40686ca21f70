# make            the release library, shared and static
# make demo       an echo server and a client that talk to each other, here, now
# make test       every test, on both ports and in the simulated world
# make sim        SEEDS=1000000: run that many seeds; SEED=7: run one and print its trace (docs/simulation.md)
# make install    PREFIX=/usr/local, DESTDIR= for packagers
# make header     include/wharf.h anew from the sources
# make bench      speed and memory beside the usual libraries: QUICK=1, ONLY=wharf,libuv, SCENARIO=churn, ROUNDS=5
# make bench-instructions   instructions of a message against their budgets
# make hostile    honest clients beside hostile peers, in figures: SECONDS=3, ONLY=reset-flood
# make soak       everything again and again, watched for growth: MINUTES=30, LEAK=memory, OUT=docs
# make sanitize   AddressSanitizer, LeakSanitizer, ThreadSanitizer: tests in Rust, programs in C
# make loom       the wake-ups between threads, in every order
# make fuzz       SECONDS=60 for each target: addresses, structs, sequences of calls
# make lint fmt clean

CARGO   ?= cargo
CC      ?= cc
PREFIX  ?= /usr/local
DESTDIR ?=
TARGET  ?= $(or $(CARGO_TARGET_DIR),target)

# The one place of the version and the description is Cargo.toml.
cargo_field  = $(shell sed -n 's/^$(1) = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
VERSION     := $(call cargo_field,version)
DESCRIPTION := $(call cargo_field,description)
MAJOR       := $(firstword $(subst ., ,$(VERSION)))

RELEASE := $(TARGET)/release
LIBDIR  := $(DESTDIR)$(PREFIX)/lib
INCDIR  := $(DESTDIR)$(PREFIX)/include
PCDIR   := $(LIBDIR)/pkgconfig

# Names of the shared library: as cargo makes it, as it is installed, and the links to it.
ifeq ($(shell uname -s),Darwin)
SHARED       := libwharf.dylib
SHARED_FULL  := libwharf.$(VERSION).dylib
SHARED_MAJOR := libwharf.$(MAJOR).dylib
else
SHARED       := libwharf.so
SHARED_FULL  := libwharf.so.$(VERSION)
SHARED_MAJOR := libwharf.so.$(MAJOR)
endif

SOURCES := $(shell find src -name '*.rs' -o -name '*.txt') build.rs Cargo.toml $(wildcard Cargo.lock)

# Files and not only names of steps, so that "sudo make install" after "make" runs no compiler as root.
all: $(RELEASE)/$(SHARED) $(RELEASE)/static-libs

$(RELEASE)/$(SHARED): $(SOURCES)
	$(CARGO) build --release
	@touch -c $@

demo: $(RELEASE)/$(SHARED)
	sh tools/demo.sh $(RELEASE)

# The scenarios run on both ports, each as a test of its own; C sources and examples are compiled and run by tests, too.
# The simulation is built as a profile of its own: fast, and apart from what is installed.
SIMULATION := $(CARGO) test --profile simulation --features simulation --test simulation

test: all
	@rm -f $(TARGET)/tests.failed; { { $(CARGO) test --features testing && $(SIMULATION); } 2>&1 || touch $(TARGET)/tests.failed; } | tee $(TARGET)/tests.log
	@test ! -e $(TARGET)/tests.failed
	sh tools/ran.sh $(TARGET)/tests.log docs/contract.md docs/what-happens-when.md docs/simulation.md

sim: export SEED := $(SEED)
sim: export SEEDS := $(SEEDS)
sim: export FIRST := $(FIRST)
sim: export THREADS := $(THREADS)
sim: export STEPS := $(STEPS)
sim: export PEERS := $(PEERS)
sim: export FAULTS := $(FAULTS)
sim: export ACTIONS := $(ACTIONS)
sim:
	$(SIMULATION) -- --ignored --exact explore --nocapture

# The system libraries that a program needs beside libwharf.a, as the compiler names them.
$(RELEASE)/static-libs: Cargo.toml $(wildcard Cargo.lock)
	@mkdir -p $(RELEASE)
	$(CARGO) rustc --lib --crate-type staticlib -- --print native-static-libs 2>&1 \
	  | sed -n 's/.*native-static-libs: *//p' | tail -n 1 > $@.new
	@test -s $@.new || { echo "the compiler did not name the static libraries" >&2; exit 1; }
	mv $@.new $@

$(RELEASE)/wharf.pc: wharf.pc.in $(RELEASE)/static-libs Cargo.toml FORCE
	sed -e 's|@PREFIX@|$(PREFIX)|' -e 's|@VERSION@|$(VERSION)|' -e 's|@DESCRIPTION@|$(DESCRIPTION)|' \
	  -e "s|@STATIC_LIBS@|$$(cat $(RELEASE)/static-libs)|" wharf.pc.in > $@

install: all $(RELEASE)/wharf.pc
	@! grep -q wharf_test_ $(RELEASE)/$(SHARED) || { echo "$(RELEASE) was built for tests: cargo build --release" >&2; exit 1; }
	mkdir -p $(LIBDIR) $(INCDIR) $(PCDIR)
	install -m 755 $(RELEASE)/$(SHARED) $(LIBDIR)/$(SHARED_FULL)
	ln -sf $(SHARED_FULL) $(LIBDIR)/$(SHARED_MAJOR)
	ln -sf $(SHARED_MAJOR) $(LIBDIR)/$(SHARED)
	install -m 644 $(RELEASE)/libwharf.a $(LIBDIR)/libwharf.a
	install -m 644 include/wharf.h $(INCDIR)/wharf.h
	install -m 644 $(RELEASE)/wharf.pc $(PCDIR)/wharf.pc

uninstall:
	rm -f $(LIBDIR)/$(SHARED_FULL) $(LIBDIR)/$(SHARED_MAJOR) $(LIBDIR)/$(SHARED) $(LIBDIR)/libwharf.a
	rm -f $(INCDIR)/wharf.h $(PCDIR)/wharf.pc

include benches/benches.mk

# docs/checks.md tells what these see, and what not.
sanitize:
	tools/sanitize.sh

loom:
	CARGO_TARGET_DIR=$(TARGET)/loom $(CARGO) test --release --manifest-path tests/loom/Cargo.toml --test models

SECONDS ?= 60
fuzz:
	tools/fuzz.sh $(SECONDS)

# build.rs writes the header into its OUT_DIR; the newest one is the one of these sources.
header: $(RELEASE)/$(SHARED)
	cp "$$(ls -t $(TARGET)/*/build/wharf-*/out/wharf.h | head -n 1)" include/wharf.h

fmt:
	$(CARGO) fmt
	$(CARGO) fmt --manifest-path tests/loom/Cargo.toml
	$(CARGO) fmt --manifest-path fuzz/Cargo.toml

lint:
	$(CARGO) fmt --check
	$(CARGO) fmt --check --manifest-path tests/loom/Cargo.toml
	$(CARGO) fmt --check --manifest-path fuzz/Cargo.toml
	$(CARGO) clippy --all-targets --all-features -- -D warnings

clean:
	$(CARGO) clean

FORCE:
.PHONY: all demo test sim sanitize loom fuzz install uninstall header fmt lint clean FORCE
