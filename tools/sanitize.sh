#!/usr/bin/env bash
# AddressSanitizer with LeakSanitizer, and ThreadSanitizer, over the tests in Rust and the programs in C; docs/checks.md.
#   tools/sanitize.sh [address | thread]     both without an argument
# Linux on x86-64. Each begins by looking whether it finds the faults that are planted for it.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
supp=$root/tests/sanitizers
out=$root/target/sanitize
triple=x86_64-unknown-linux-gnu
# The linker that comes with rustc; older ones of GNU cannot link the runtime.
linker=$(rustc --print sysroot)/lib/rustlib/$triple/bin/gcc-ld
libs=$(rustc --print sysroot)/lib/rustlib/$triple/lib
mkdir -p "$out"
# The flag -Zsanitizer is not stable; the runtimes come with the stable toolchain all the same.
export RUSTC_BOOTSTRAP=1

say() { echo "== $*"; }
fail() { echo "sanitize: $*" >&2; exit 1; }

# Everything but what measures heap, memory or time, or makes so much that a tool takes minutes for it:
# - resources: an_idle_connection_costs..., a_thousand_engines..., running_out_of_descriptors... measure the process
# - an_engine_that_is_destroyed_as_soon...: 20,000 engines
# - bulk::a_thousand_clients...: 1000 clients and a GiB, 140 s under ThreadSanitizer; its smaller sisters run
# - an_engine_whose_descriptors_the_host_closed...: closing what others use is a race by its nature, and reported as one
# - no_allocation has an allocator of its own; header, arrows and examples run no instrumented code
tests=(--lib --test addresses --test bounds --test callbacks --test caller_driven --test clients --test closing --test misuse
  --test panics --test resources --test sends --test timeouts)
skips=(--skip an_idle_connection_costs --skip a_thousand_engines --skip running_out_of_descriptors
  --skip as_soon_as_it_is_made --skip a_thousand_clients --skip whose_descriptors_the_host_closed)

# planted TOOL PROGRAM FAULT TEXT: the fault must be found.
planted() {
  local text
  if text=$("$2" "$3" 2>&1); then fail "$1 did not find the planted fault: $3"; fi
  grep -q "$4" <<<"$text" || fail "$1: $3 was to be reported as \"$4\":
$text"
  say "$1 finds: $3 ($(basename "$2"))"
}

# The C programs are compiled by gcc and linked with the runtime of rustc, so that there is one.
make_cc() {
  cat >"$out/cc-$1" <<WRAPPER
#!/usr/bin/env bash
set -e
program= source= compile=() link=()
while [ \$# -gt 0 ]; do
  case \$1 in
    -o) program=\$2; shift ;;
    *.c) source=\$1 ;;
    *.a | *.o | -l* | -L* | -Wl,*) link+=("\$1") ;;
    *) compile+=("\$1") ;;
  esac
  shift
done
gcc "\${compile[@]}" -g -O1 -fno-omit-frame-pointer -fsanitize=$1 -c "\$source" -o "\$program.o"
gcc -fuse-ld=lld -B"$linker" -rdynamic -o "\$program" "\$program.o" "\${link[@]}" -Wl,--whole-archive "$2" -Wl,--no-whole-archive -lstdc++ -lm -lpthread -ldl -lrt
WRAPPER
  chmod +x "$out/cc-$1"
}

# c_programs NAME FLAGS EXTRA: libwharf.a with these flags in a folder of its own, and the examples against it.
c_programs() {
  local prefix=$out/prefix-$1 static
  mkdir -p "$prefix/include" "$prefix/lib/pkgconfig"
  static=$(RUSTFLAGS=$2 cargo rustc --lib --crate-type staticlib --target $triple -- --print native-static-libs 2>&1 |
    sed -n 's/.*native-static-libs: *//p' | tail -n 1)
  RUSTFLAGS=$2 cargo rustc -q --lib --crate-type staticlib --target $triple
  cp "$CARGO_TARGET_DIR/$triple/debug/libwharf.a" "$prefix/lib/"
  cp include/wharf.h "$prefix/include/"
  sed -e "s|@PREFIX@|$prefix|; s|@VERSION@|0|; s|@DESCRIPTION@|sanitized|; s|@STATIC_LIBS@|$static $3|" wharf.pc.in \
    >"$prefix/lib/pkgconfig/wharf.pc"
  "$out/cc-$1" -I"$prefix/include" -std=gnu99 -o "$out/planted-$1-c" "$supp/planted.c" "$prefix/lib/libwharf.a" $static $3
}

run_c_programs() {
  env -u CARGO_TARGET_DIR -u RUSTFLAGS WHARF_PREFIX="$out/prefix-$1" CC="$out/cc-$1" STATIC=1 \
    cargo test -q --features testing --test examples -- plainly
}

address() {
  local flags="-Zsanitizer=address --cfg wharf_libc_calls"
  export CARGO_TARGET_DIR=$root/target/sanitize-address
  export ASAN_OPTIONS=detect_stack_use_after_return=1
  export LSAN_OPTIONS=suppressions=$supp/lsan.supp:print_suppressions=0
  say "AddressSanitizer and LeakSanitizer: is it on?"
  rustc --edition 2024 -Zsanitizer=address -g -o "$out/planted-address" "$supp/planted.rs"
  planted AddressSanitizer "$out/planted-address" use-after-free heap-use-after-free
  planted LeakSanitizer "$out/planted-address" leak "4321 byte"
  make_cc address "$libs/librustc-stable_rt.asan.a"
  c_programs address "$flags" ""
  planted AddressSanitizer "$out/planted-address-c" use-after-free heap-use-after-free
  planted LeakSanitizer "$out/planted-address-c" leak "4321 byte"
  say "AddressSanitizer and LeakSanitizer: tests in Rust"
  RUSTFLAGS=$flags cargo test -q --features testing --target $triple "${tests[@]}" -- "${skips[@]}"
  say "AddressSanitizer and LeakSanitizer: programs in C"
  run_c_programs address
}

# Names of the standard library's functions that tests/sanitizers/std_locks.c stands around.
std_function() {
  local names
  names=$(nm -D --defined-only "$libs"/libstd-*.so | awk '{ print $3 }' | grep -E "$1" || true)
  [ "$(wc -w <<<"$names")" = 1 ] || fail "this toolchain has no function $1, or several: see $supp/std_locks.c"
  echo "$names"
}

thread() {
  local wraps=(__tsan_atomic64_fetch_sub) defines=() pair name flags
  for pair in MUTEX_LOCK='5mutex5futex.*5Mutex14lock_contended$' RWLOCK_READ='6rwlock5futex.*14read_contended$' \
    RWLOCK_WRITE='6rwlock5futex.*15write_contended$' CONDVAR_WAIT='3sys4sync7condvar5futex.*7Condvar4wait$' \
    CONDVAR_WAIT_TIMEOUT='3sys4sync7condvar5futex.*7Condvar12wait_timeout$' \
    SCOPED_THREAD_ENDS='9ScopeData29decrement_num_running_threads$'; do
    name=$(std_function "${pair#*=}")
    defines+=("-D${pair%%=*}=$name")
    wraps+=("$name")
  done
  local locks=$out/std_locks.o link=
  gcc -O1 -g -Wall -Wextra "${defines[@]}" -c "$supp/std_locks.c" -o "$locks"
  for name in "${wraps[@]}"; do link+=" -Wl,--wrap=$name"; done
  # Half of the program is not instrumented: that is what std_locks.c and tsan.supp are for.
  flags="-Zsanitizer=thread -Cunsafe-allow-abi-mismatch=sanitizer"
  local linked="$flags -Clink-arg=$locks"
  for name in $link; do linked+=" -Clink-arg=$name"; done
  export CARGO_TARGET_DIR=$root/target/sanitize-thread
  export TSAN_OPTIONS="suppressions=$supp/tsan.supp history_size=4"
  say "ThreadSanitizer: is it on?"
  # shellcheck disable=SC2086
  rustc --edition 2024 $linked -g -o "$out/planted-thread" "$supp/planted.rs"
  planted ThreadSanitizer "$out/planted-thread" race "data race"
  "$out/planted-thread" none || fail "ThreadSanitizer does not understand the locks of the standard library"
  make_cc thread "$libs/librustc-stable_rt.tsan.a"
  c_programs thread "$flags" "$locks$link"
  planted ThreadSanitizer "$out/planted-thread-c" race "data race"
  say "ThreadSanitizer: tests in Rust"
  RUSTFLAGS=$linked cargo test -q --features testing --target $triple "${tests[@]}" -- "${skips[@]}"
  say "ThreadSanitizer: programs in C"
  run_c_programs thread
}

for tool in ${@:-address thread}; do
  case $tool in
    address | thread) ("$tool") ;;
    *) fail "no such tool: $tool" ;;
  esac
done
