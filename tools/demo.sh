#!/bin/sh
# An echo server on a free port of the loopback interface, and a client that talks to it. Ends by itself.
#   tools/demo.sh <folder of the built library>
set -eu
cd "$(dirname "$0")/.."
release=$1
case $release in /*) ;; *) release=$PWD/$release ;; esac
[ -f include/wharf.h ] || { echo "include/wharf.h is missing: run 'make header'" >&2; exit 1; }

work=$(mktemp -d)
server=
clean_up() {
  [ -z "$server" ] || kill "$server" 2>/dev/null || true
  rm -rf "$work"
}
trap clean_up EXIT
trap 'exit 1' INT TERM

# The programs ask the loader for the library by its versioned name, which an installation would provide.
major=$(sed -n 's/^version = "\([0-9]*\)\..*/\1/p' Cargo.toml | head -n 1)
[ ! -f "$release/libwharf.so" ] || ln -s "$release/libwharf.so" "$work/libwharf.so.$major"
[ ! -f "$release/libwharf.dylib" ] || ln -s "$release/libwharf.dylib" "$work/libwharf.$major.dylib"
for program in echo_server console_client; do
  ${CC:-cc} -std=c99 -O2 -Iinclude -o "$work/$program" "c_examples/$program.c" "$work"/libwharf.* -Wl,-rpath,"$work"
done

# The server's output comes through a pipe: its first line names the address, the rest is shown as it comes.
mkfifo "$work/out"
"$work/echo_server" 127.0.0.1:0 >"$work/out" 2>&1 &
server=$!
exec 3<"$work/out"
read -r first <&3 || { echo "the server did not start" >&2; exit 1; }
echo "server | $first"
sed 's/^/server | /' <&3 &
shown=$!

printf 'Hello, Wharf!\nTwo lines can arrive as one message: TCP is a stream.\nexit\n' |
  { "$work/console_client" "${first#listening on }" || echo "failed" | tee "$work/failed"; } | sed 's/^/client | /'

kill -TERM "$server"
result=0
wait "$server" || result=$?
server=
wait "$shown"
[ ! -f "$work/failed" ] || result=1
exit "$result"
