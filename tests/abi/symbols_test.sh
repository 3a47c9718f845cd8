#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# symbols_test.sh FOLDER: every plugin exports platter_driver and nothing else.
set -eu
n=0
for so in "$1"/*.so; do
    names=$(nm -D --defined-only "$so" | awk '{print $NF}' | sort | tr '\n' ' ')
    if [ "$names" != "platter_driver " ]; then
        echo "$so exports: $names"
        exit 1
    fi
    n=$((n + 1))
done
echo "$n plugins"
[ "$n" -ge 5 ]
