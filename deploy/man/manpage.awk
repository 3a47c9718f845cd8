# SPDX-License-Identifier: Apache-2.0
# A page of the documentation, as GitHub shows it, to what go-md2man reads: the
# title line, headings one level up, and tables as lists of definitions, since a
# terminal has no room for columns of sentences.
#   awk -v version=0.1.0 -f manpage.awk platter.1.md | go-md2man
function flush_row(cells, n,    i, text) {
    text = toupper(substr(cells[n], 1, 1)) substr(cells[n], 2)
    sub(/[^.:!?]$/, "&.", text)
    for (i = 2; i < n; i++)
        if (cells[i] != "")
            text = text " " heads[i] ": " cells[i] "."
    printf "%s\n:   %s\n\n", cells[1], text
}

function take_row(line,    n, i, cells) {
    gsub(/\\\|/, "\001", line)
    sub(/^\| */, "", line)
    sub(/ *\|[ \t]*$/, "", line)
    n = split(line, cells, / *\| */)
    for (i = 1; i <= n; i++)
        gsub(/\001/, "|", cells[i])
    if (row == 0) {
        for (i = 1; i <= n; i++)
            heads[i] = cells[i]
    } else if (row > 1) {
        flush_row(cells, n)
    }
    row++
}

/^<!--.*-->$/ { next }
/^(% |# )[a-z0-9.-]+\([0-9]\)$/ && !has_title {
    is_deep = /^#/
    match($2, /\(/)
    name = substr($2, 1, RSTART - 1)
    section = substr($2, RSTART + 1, 1)
    printf "%% \"%s\" \"%s\" \"\" \"platter %s\" \"platter\"\n", toupper(name), section, version
    has_title = 1
    next
}
/^```/ { in_fence = !in_fence; print; next }
in_fence { print; next }
/^\|/ { take_row($0); next }
row { row = 0 }
is_deep && /^## / { sub(/^#/, "") } # go-md2man: one and two # are sections, more are parts
{ print }
