# The benchmark suite. A server whose library or toolchain is missing is skipped, visibly; run.py needs python3 only, the
# charts matplotlib.

BENCH  := $(TARGET)/bench
PEERS  := benches/peers
BFLAGS := -O2 -Wall -Wextra

# Each of them stands in front of the system's own headers, and says which package has it.
try_c = @mkdir -p $(BENCH); echo 'int main(void) { return 0; }' | $(CC) -include $(1) -x c - -o /dev/null 2>/dev/null \
  && { echo "$(notdir $@)"; $(CC) $(BFLAGS) -o $@ $< $(3); } || echo "skipped: $(notdir $@) (install $(2))"

bench: bench-programs
	python3 benches/run.py $(BENCH) $(if $(QUICK),--quick) $(if $(ONLY),--only $(ONLY)) \
	  $(if $(SCENARIO),--scenario $(SCENARIO)) $(if $(ROUNDS),--rounds $(ROUNDS)) \
	  $(if $(QUICK)$(ONLY)$(SCENARIO),,--out docs/benchmarks --readme=README.md)

bench-instructions: $(BENCH)/load $(BENCH)/wharf
	python3 benches/instructions.py $(BENCH)

bench-programs: $(addprefix $(BENCH)/,load placement wharf bare_epoll bare_uring libuv libevent libev asio) \
  bench-rust bench-go bench-dotnet

$(BENCH)/load: $(wildcard benches/load*.c) benches/load.h
	@mkdir -p $(BENCH)
	$(CC) $(BFLAGS) -o $@ $(filter %.c,$^)

$(BENCH)/placement: benches/placement.c
	@mkdir -p $(BENCH)
	$(CC) $(BFLAGS) -pthread -o $@ $<

$(BENCH)/wharf: $(PEERS)/wharf.c $(RELEASE)/$(SHARED) include/wharf.h
	@mkdir -p $(BENCH)
	ln -sf ../release/$(SHARED) $(BENCH)/$(SHARED_MAJOR)
	$(CC) $(BFLAGS) -Iinclude -o $@ $< -L$(RELEASE) -lwharf -pthread '-Wl,-rpath,$$ORIGIN'

$(BENCH)/bare_epoll: $(PEERS)/bare_epoll.c $(PEERS)/peer.h
	$(call try_c,sys/epoll.h,Linux,-pthread)

$(BENCH)/bare_uring: $(PEERS)/bare_uring.c $(PEERS)/peer.h
	$(call try_c,liburing.h,liburing-dev,-luring -pthread)

$(BENCH)/libuv: $(PEERS)/libuv.c $(PEERS)/peer.h
	$(call try_c,uv.h,libuv1-dev,-luv -pthread)

$(BENCH)/libevent: $(PEERS)/libevent.c $(PEERS)/peer.h
	$(call try_c,event2/event.h,libevent-dev,-levent -levent_pthreads -pthread)

$(BENCH)/libev: $(PEERS)/libev.c $(PEERS)/peer.h
	$(call try_c,ev.h,libev-dev,-lev -pthread)

$(BENCH)/asio: $(PEERS)/asio.cc $(PEERS)/peer.h
	@mkdir -p $(BENCH); echo 'int main() {}' | $(CXX) -std=c++17 -include asio/version.hpp -x c++ - -o /dev/null 2>/dev/null \
	  && { echo asio; $(CXX) $(BFLAGS) -std=c++17 -o $@ $< -pthread; } || echo "skipped: asio (install libasio-dev)"

bench-rust:
	@mkdir -p $(BENCH)
	@cd $(PEERS)/rust && $(CARGO) build --release --locked --target-dir $(abspath $(TARGET))/bench-rust \
	  && cp $(abspath $(TARGET))/bench-rust/release/tokio_peer $(abspath $(TARGET))/bench-rust/release/smol_peer $(abspath $(BENCH))/ \
	  || echo "skipped: tokio_peer, smol_peer (their crates could not be built)"

bench-go:
	@mkdir -p $(BENCH)
	@command -v go >/dev/null && { echo go_peer; cd $(PEERS)/go && go build -o $(abspath $(BENCH))/go_peer .; } \
	  || echo "skipped: go_peer (install golang-go)"

bench-dotnet:
	@mkdir -p $(BENCH)
	@sh $(PEERS)/dotnet/build.sh $(abspath $(BENCH)) || echo "skipped: dotnet_peer (install mono-mcs, and dotnetcore2 with pip)"

# Honest clients beside hostile peers, in figures: SECONDS=10 for each run, ONLY=reset-flood,crowd. The whole goes to docs.
hostile:
	HOSTILE_SECONDS=$(SECONDS) HOSTILE_ONLY=$(ONLY) HOSTILE_OUT=$(if $(SECONDS)$(ONLY),,docs) $(CARGO) bench --bench hostile

# Everything again and again: MINUTES=30. LEAK=memory, files or handlers shows that it can fail. OUT=docs for the page;
# what was measured each second is in TARGET/soak/soak.csv.
soak: OUT ?= $(TARGET)/soak
soak:
	@mkdir -p $(TARGET)/soak
	SOAK_MINUTES=$(MINUTES) SOAK_LEAK=$(LEAK) SOAK_OUT=$(abspath $(TARGET))/soak $(CARGO) bench --bench soak
	python3 benches/soak/page.py $(TARGET)/soak $(OUT)

.PHONY: hostile soak bench bench-instructions bench-programs bench-rust bench-go bench-dotnet
