# SPDX-License-Identifier: Apache-2.0
# A page of the documentation, as GitHub shows it, to what go-md2man reads: the
# title line, headings one level up, and tables as lists of definitions, since a
# terminal has no room for columns of sentences.
#   awk -v version=0.1.0 -f manpage.awk platter.1.md | go-md2man
function flush_row(cells, n,    i, text, more) {
    text = toupper(substr(cells[n], 1, 1)) substr(cells[n], 2)
    for (i = 2; i < n; i++)
        if (cells[i] != "")
            more = more " " heads[i] ": " cells[i] "."
    # A value alone is no sentence.
    if (text ~ (more == "" ? "[A-Za-z)]$" : "[^.:!?]$"))
        text = text "."
    printf "%s\n:   %s%s\n\n", cells[1], text, more
}

# A link leads nowhere on paper.
function plain(line,    text) {
    while (match(line, /\[[^]]*\]\([^)]*\)/)) {
        text = substr(line, RSTART + 1, RLENGTH - 1)
        sub(/\]\(.*/, "", text)
        line = substr(line, 1, RSTART - 1) text substr(line, RSTART + RLENGTH)
    }
    return line
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
/^    / { print; next }
{ $0 = plain($0) }
/^\|/ { take_row($0); next }
row { row = 0 }
is_deep && /^## / { sub(/^#/, "") } # go-md2man: one and two # are sections, more are parts
{ print }
