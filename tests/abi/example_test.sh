#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# example_test.sh CMAKE BUILD CC: install, build a driver against what was
# installed and nothing else, and read through it with both programs.
set -eu
cmake=$1 build=$2 cc=$3
here=$(cd "$(dirname "$0")" && pwd)
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT

"$cmake" --install "$build" --prefix "$dir/prefix" >"$dir/install.log"
sdk=$(find "$dir/prefix" -name libplatter_sdk.a)
mkdir "$dir/drivers" "$dir/src"
cp "$here/example/example.c" "$dir/src"
cd "$dir/src"
# Sanitizer symbols of an instrumented SDK are the program's to give.
"$cc" -std=c17 -Wall -Wextra -Werror -fPIC -shared -fvisibility=hidden \
    -I "$dir/prefix/include" example.c "$sdk" -o "$dir/drivers/example.so"

# The oracle: python, not us.
python3 - "$dir" <<'PY'
import random, sys
d = sys.argv[1]
plain = random.Random(1).randbytes(300_000)
open(d + "/coded", "wb").write(bytes(b ^ 0x5a for b in plain))
open(d + "/coded7", "wb").write(bytes(b ^ 7 for b in plain))
open(d + "/whole", "wb").write(plain)
open(d + "/part", "wb").write(plain[123_457:123_457 + 70_001])
PY

same() {
    cmp "$1" "$2" || { echo "wrong bytes: $3"; exit 1; }
}

for platter in "$build/bin/platter" "$dir/prefix/bin/platter"; do
    "$platter" plugins --json --plugin-path "$dir/drivers" >"$dir/plugins.json"
    python3 - "$dir" <<'PY'
import json, sys
rows = json.load(open(sys.argv[1] + "/plugins.json"))
by = {r["name"]: r for r in rows}
e = by["example"]
assert e["file"] == sys.argv[1] + "/drivers/example.so", e
assert e["abi"] == "1.7" and e["kind"] == "format", e
assert [o["name"] for o in e["options"]] == ["key"], e
assert {"raw", "file", "curl", "gzip", "tar"} <= set(by), sorted(by)
PY
    "$platter" read --plugin-path "$dir/drivers" "example:$dir/coded" \
        --offset 123457 --length 70001 >"$dir/out"
    same "$dir/out" "$dir/part" "$platter, a part"
    "$platter" read --plugin-path "$dir/drivers" "example{key=7}:$dir/coded7" \
        >"$dir/out"
    same "$dir/out" "$dir/whole" "$platter, another key"
    gzip -c "$dir/coded" >"$dir/coded.gz"
    "$platter" read --plugin-path "$dir/drivers" "example:gzip:$dir/coded.gz" \
        --offset 123457 --length 70001 >"$dir/out"
    same "$dir/out" "$dir/part" "$platter, over gzip"
    for bad in 'key=256' 'key=x' 'other=1'; do
        if "$platter" read --plugin-path "$dir/drivers" \
            "example{$bad}:$dir/coded" >"$dir/out" 2>"$dir/err"; then
            echo "$platter took example{$bad}"
            exit 1
        fi
        grep -q '^platter: ' "$dir/err" || { cat "$dir/err"; exit 1; }
    done
done
echo "both programs read through the example"
