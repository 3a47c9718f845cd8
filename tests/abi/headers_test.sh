#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# headers_test.sh INCLUDE CC CXX: each header compiles alone, twice included.
set -eu
include=$1 cc=$2 cxx=$3
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
warn="-Wall -Wextra -Wpedantic -Werror -fsyntax-only"
n=0
for header in "$include"/platter/*.h; do
    name=platter/$(basename "$header")
    printf '#include <%s>\n#include <%s>\nextern int nothing;\n' \
        "$name" "$name" >"$dir/one.c"
    cp "$dir/one.c" "$dir/one.cc"
    for std in c11 c17; do
        # shellcheck disable=SC2086
        "$cc" -std=$std $warn -Wconversion -Wstrict-prototypes -Wundef \
            -I "$include" "$dir/one.c" || { echo "$name as $std"; exit 1; }
    done
    # shellcheck disable=SC2086
    "$cxx" -std=c++17 $warn -I "$include" "$dir/one.cc" ||
        { echo "$name as c++17"; exit 1; }
    n=$((n + 1))
done
echo "$n headers"
[ "$n" -ge 6 ]
