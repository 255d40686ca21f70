#!/bin/sh
# build.sh FOLDER: compiles Peer.cs with Mono's compiler against .NET Core's own assemblies; makes FOLDER/dotnet_peer.
# .NET Core 3.1 comes with the Python package dotnetcore2; DOTNET names another one's folder.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
out=$1
command -v mcs >/dev/null || exit 1
dotnet=${DOTNET:-$(python3 -c 'import os, dotnetcore2.runtime as r; print(os.path.dirname(r.get_runtime_path()))' 2>/dev/null)} \
  || exit 1
core=$(ls -d "$dotnet"/shared/Microsoft.NETCore.App/* | tail -n 1)
mkdir -p "$out/dotnet"
references=
for name in System.Private.CoreLib System.Runtime System.Runtime.Extensions System.Console System.Collections \
  System.Collections.Concurrent System.Net.Primitives System.Net.Sockets System.Threading System.Threading.Thread \
  System.Threading.ThreadPool System.Threading.Timer; do
  [ ! -f "$core/$name.dll" ] || references="$references -r:$core/$name.dll"
done
# shellcheck disable=SC2086
mcs -nologo -optimize+ -nostdlib -noconfig $references -out:"$out/dotnet/Peer.dll" "$here/Peer.cs"
cat > "$out/dotnet/Peer.runtimeconfig.json" <<END
{ "runtimeOptions": { "framework": { "name": "Microsoft.NETCore.App", "version": "$(basename "$core")" },
  "configProperties": { "System.Globalization.Invariant": true, "System.GC.Server": false } } }
END
cat > "$out/dotnet_peer" <<END
#!/bin/sh
exec "$dotnet/dotnet" "$out/dotnet/Peer.dll" "\$@"
END
chmod +x "$out/dotnet_peer"
echo dotnet_peer
