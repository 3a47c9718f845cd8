# SPDX-License-Identifier: Apache-2.0
"""The documents keep their word: examples are run and print what they promise,
options, metrics and routes are in the manual and nothing else is, and the pages
render without a warning.

An example is an indented block with lines "$ command"; what it prints stands
below each (standard output, then standard error), "..." for what differs from
run to run, "[N]" for an exit code that is not 0.  Where nothing stands, anything
may be printed.  A command goes on in the next line behind a backslash or a pipe.
"""
import glob, sys, os
sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../support"))
from live import *

www, work = tmp + "/www", tmp + "/work"
os.makedirs(www)
os.makedirs(work)


def page(path):
    with open(os.path.join(TOP, path)) as f:
        return f.read()


PAGES = sorted(os.path.relpath(p, TOP) for d in ("core/cli", "core/abi", "gateway", "plugins/*")
               for p in glob.glob(f"{TOP}/{d}/*.[1-9].md"))
PLATTER_1, PLATTERD_8 = page("core/cli/platter.1.md"), page("gateway/platterd.8.md")


# ---- What the examples are about: the disk of deploy/quickstart, small ----

def make_data():
    files = tmp + "/files"
    os.makedirs(files)
    open(files + "/os-release", "w").write('PRETTY_NAME="Guest"\n')
    open(files + "/data", "wb").write(random.randbytes(3 << 20))
    sh(f"""set -e; PATH=$PATH:/usr/sbin:/sbin; cd {www}
truncate -s 1024M disk.raw
printf 'label: dos\\nlabel-id: 0x706c6174\\nstart=2048, type=83, bootable\\n' | sfdisk -q disk.raw
mke2fs -q -F -t ext4 -b 4096 -d {files} -L platter -E offset=1048576,root_owner=0:0 disk.raw \
    $(((1024 * 2048 - 2048) / 8))
tar --format=oldgnu -cSzf x.tar.gz disk.raw
qemu-img convert -O qcow2 -c disk.raw disk.qcow2
qemu-img snapshot -c before-upgrade disk.qcow2
qemu-img convert -O vmdk -o subformat=streamOptimized disk.raw disk.vmdk
gzip -1 -c disk.qcow2 >disk.qcow2.gz
mkdir two && cp --sparse=always disk.raw two/a.raw && cp --sparse=always disk.raw two/b.raw
tar -C two -cSzf two.tar.gz a.raw b.raw && rm -r two""")
    for name in os.listdir(www):
        os.symlink(f"{www}/{name}", f"{work}/{name}")
    os.remove(work + "/disk.raw")  # an example makes one
    os.makedirs(tmp + "/etc")
    json.dump({"origins": {"demo": {"path": www}}}, open(tmp + "/etc/platterd.json", "w"))


make_data()
web = Nginx(www)
server = Platterd({"demo": web.url()}, "--state", tmp + "/gate-state")


def at_home(command):
    """The command as it is on this machine: ports, programs, folders."""
    for was, now in (("http://127.0.0.1:8080", f"http://127.0.0.1:{server.port}"),
                     ("http://127.0.0.1:8090", f"http://127.0.0.1:{web.port}"),
                     ("./build/release/bin/", BIN + "/"),
                     ("/etc/platter/", tmp + "/etc/")):
        command = command.replace(was, now)
    return command


def blocks(text):
    """Indented blocks, and fenced ones, without their indentation."""
    fenced = re.findall(r"^```\w*\n(.*?)^```$", text, re.M | re.S)
    text = re.sub(r"^```\w*\n.*?^```$", "", text, flags=re.M | re.S)
    return fenced + [re.sub("^    ", "", b, flags=re.M)
                     for b in re.findall(r"(?:^    .*\n|^\n(?=    ))+", text, re.M)]


def examples(text):
    """[(command, promised lines, exit code)]"""
    out = []
    for block in blocks(text):
        lines = block.strip("\n").split("\n")
        if not lines[0].startswith("$ "):
            continue
        while lines:
            assert lines[0].startswith("$ "), (lines[0], block)
            command = lines.pop(0)[2:]
            while command.endswith("\\") or command.endswith("|"):
                command += "\n" + lines.pop(0)
            want, code = [], 0
            while lines and not lines[0].startswith("$ "):
                m = re.fullmatch(r"\[(\d+)\]", lines[0])
                if m:
                    code = int(m[1])
                else:
                    want.append(lines[0])
                lines.pop(0)
            out.append((command, want, code))
    return out


def matches(want, got):
    """"..." alone in a line is any number of lines; progress is no promise."""
    if not want:
        return True
    want = [at_home(w).rstrip() for w in want]
    got = re.sub(r" +$", "", got, flags=re.M)
    got = re.sub(r"^\w+: \d+\.\d %, .* left\n", "", got, flags=re.M)
    parts = [".*" if w == "..." else re.escape(w).replace(r"\.\.\.", "[^\n]*") + "\n" for w in want]
    return re.fullmatch("".join(parts), got, re.S)


def run_examples(text, least):
    done = examples(text)
    assert len(done) >= least, f"{len(done)} examples"
    for command, want, code in done:
        r = subprocess.run(["bash", "-c", at_home(command)], cwd=work, capture_output=True,
                           timeout=120, env={**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}"})
        got = (r.stdout + r.stderr).decode(errors="replace").replace("\r\n", "\n")
        assert "Sanitizer" not in got and "runtime error" not in got, got[-3000:]
        got = got + "\n" if got and not got.endswith("\n") else got
        assert r.returncode == code, (command, r.returncode, got[-800:])
        assert matches(want, got), f"{command}\n--- promised\n" + "\n".join(want) + f"\n--- got\n{got[:2000]}"


@case("README: every example prints what it promises")
def readme():
    run_examples(page("README.md"), 6)


@case("platter(1): every example prints what it promises")
def platter_1():
    run_examples(PLATTER_1, 15)


@case("platterd(8): every example prints what it promises")
def platterd_8():
    run_examples(PLATTERD_8, 10)


@case("the pages of the drivers: every example prints what it promises")
def drivers():
    n = 0
    for path in PAGES:
        if path.startswith("plugins/") or path.startswith("core/abi"):
            run_examples(page(path), 0)
            n += len(examples(page(path)))
    assert n >= 8, n


# ---- Nothing is missing, nothing is invented ----

def options_of_help(program):
    text = sh([f"{BIN}/{program}", "--help"]).decode()
    return set(re.findall(r"(?<![\w-])(--[a-z][a-z-]+|-[a-zA-Z])(?![\w-])", text))


def section(text, name):
    m = re.search(rf"^## {name}\n(.*?)(?=^## |\Z)", text, re.M | re.S)
    assert m, name
    return m[1]


def first_cells(text):
    return [m.replace("\\|", "|") for m in re.findall(r"^\| (`.*?`) +\|", text, re.M)]


@case("options: what --help has the manual has, and the other way round")
def options():
    for program, text in (("platter", PLATTER_1), ("platterd", PLATTERD_8)):
        told = set()
        for cell in first_cells(section(text, "OPTIONS")):
            told |= set(re.findall(r"`(--?[a-zA-Z][a-z-]*)", cell))
        have = options_of_help(program)
        assert told == have, (program, "only in the manual", told - have, "only in --help", have - told)


@case("bash completion knows every option of the manual")
def completion():
    text = page("deploy/completion/platter.bash")
    for manual in (PLATTER_1, PLATTERD_8):
        for cell in first_cells(section(manual, "OPTIONS")):
            for option in re.findall(r"`(--?[a-zA-Z][a-z-]*)", cell):
                assert re.search(rf"(?<![\w-]){option}(?![\w-])", text), option


@case("commands: what --help has the manual has, and each one runs")
def commands():
    text = platter("--help").stdout.decode()
    have = set(re.findall(r"^  ([a-z]+) ", text.split("SPEC is a path")[0], re.M))
    told = {c.strip("`").split()[0] for c in first_cells(section(PLATTER_1, "COMMANDS"))}
    assert told == have, (told, have)
    for name in have:
        assert b"unknown command" not in platter(name, "--quiet", check=False).stderr, name


@case("metrics: what /metrics prints the manual has, with its type and labels, and the other way round")
def metrics():
    told = {}
    for name, kind, labels, _ in re.findall(r"^\| `(platter_\w+)` \| (\w+) \|([^|]*)\| (.*) \|$",
                                            section(PLATTERD_8, "METRICS"), re.M):
        told[name] = (kind, set(re.findall(r"`(\w+)`", labels)))
    server.get("/disk/demo/x.tar.gz", {"Range": "bytes=0-9"})
    have, labels = {}, {}
    for line in server.get("/metrics").body.decode().splitlines():
        if line.startswith("# TYPE"):
            _, _, name, kind = line.split()
            have[name] = kind
        elif not line.startswith("#"):
            m = re.match(r"(\w+)(?:\{(.*)\})? ", line)
            base = m[1] if m[1] in have else re.sub("_(bucket|sum|count)$", "", m[1])
            labels.setdefault(base, set()).update(re.findall(r'(\w+)="', m[2] or ""))
    assert set(told) == set(have), (set(told) ^ set(have))
    for name, (kind, words) in told.items():
        assert (kind, words) == (have[name], labels.get(name, set())), (name, kind, words, labels.get(name))


@case("routes: what the server answers the manual has, and the other way round")
def routes():
    table = page("gateway/route.c").split("routes[] = {")[1].split("};")[0]
    have = set()
    for path, takes in re.findall(r'\{"(/[^"]*)",\s+"\w+",\s+KIND_\w+,\s+\w+,\s+\w+,\s+(true|false)', table):
        rest = {"/v1/images/": "NAME", "/v1/mirrors/": "NAME", "/web/": "FILE"}.get(path, "REF")
        have.add(path.replace("*", "NAME") if takes == "false" else path + rest)
    assert len(have) >= 18, have
    told = {c.strip("`") for c in first_cells(section(PLATTERD_8, "HTTP").split("### ")[0])}
    assert told == have, told ^ have


@case("statuses: the words of problem documents are those of status.def")
def statuses():
    rows = re.findall(r"^PLT_STATUS\((\w+), +(\d+), (\d)", page("core/abi/include/platter/status.def"), re.M)
    # What never leaves the process, and what is no error.
    have = {(http, name.lower().replace("_", "-")) for name, http, _ in rows
            if name not in ("OK", "AGAIN", "CANCELLED")}
    told = set(re.findall(r"^\| (\d+) `([a-z-]+)` \|", section(PLATTERD_8, "ERRORS"), re.M))
    assert told == have, told ^ have


@case("statuses, limits and versions of the ABI are those of its headers")
def abi():
    text, header = page("core/abi/platter-driver.3.md"), page("core/abi/include/platter/driver.h")
    major, minor = (re.search(rf"PLT_ABI_{w} (\d+)", header)[1] for w in ("MAJOR", "MINOR"))
    assert f"version {major}.{minor}" in text
    struct = header.split("struct plt_driver {")[1].split("\n};")[0]
    slots = set(re.findall(r"\(\*(\w+)\)\(", struct))
    host = header.split("struct plt_host {")[1].split("\n};")[0]
    calls = set(re.findall(r"\*?\(\*(\w+)\)\(", host))
    for name in slots | calls - {"make", "fn", "destroy"}:
        assert f"`{name}" in text, name


# ---- The pages as pages ----

@case("manual pages render without a warning, no line is wider than a terminal but in examples")
def render():
    for path in PAGES:
        out = f"{tmp}/{os.path.basename(path)[:-3]}"
        sh([f"{TOP}/deploy/man/manpage", "go-md2man", "0", os.path.join(TOP, path), out])
        r = subprocess.run(["man", "--warnings", "-E", "UTF-8", "-l", out], capture_output=True, text=True,
                           env={**os.environ, "MANWIDTH": "80", "MANPAGER": "cat", "LC_ALL": "C.UTF-8"})
        assert r.returncode == 0 and not r.stderr, (path, r.stderr)
        name, number = re.match(r".*/([a-z0-9.-]+)\.(\d)\.md", path).groups()
        lines = r.stdout.splitlines()
        assert lines[0].startswith(f"{name.upper()}({number})"), lines[0]
        for want in ("NAME", "SYNOPSIS", "DESCRIPTION", "SEE ALSO"):
            assert want in lines, (path, want)
        for line in lines:
            assert len(line) <= 80 or line.startswith(" " * 14), (path, line)
            assert "|--" not in line and "│" not in line, (path, line)


@case("links between documents lead somewhere; pages that are named are there")
def links():
    names = {os.path.basename(p)[:-3] for p in PAGES}
    for path in PAGES + ["README.md", "core/ARCHITECTURE.md"]:
        text = page(path)
        for target in re.findall(r"\]\(([^)#:]+)\)", text):
            assert os.path.exists(os.path.join(TOP, os.path.dirname(path), target)), (path, target)
        for name, number in re.findall(r"\b(platterd?(?:[.-][a-z0-9]+)?)\((\d)\)", text):
            assert f"{name}.{number}" in names, (path, name, number)


@case("installed: pages, schema and completion lie where they are looked for")
def installed():
    build, prefix = os.path.dirname(BIN), tmp + "/prefix"
    sh(["cmake", "--install", build, "--prefix", prefix])
    for path in ("bin/platter", "bin/platterd", "share/platter/platterd.schema.json",
                 "share/bash-completion/completions/platter", "share/bash-completion/completions/platterd",
                 "share/man/man1/platter.1", "share/man/man8/platterd.8", "share/man/man5/platterd.json.5",
                 "share/man/man3/platter-driver.3", "share/man/man7/platter-qcow2.7"):
        assert os.path.getsize(f"{prefix}/{path}") > 0, path
    for path in PAGES:
        name = os.path.basename(path)[:-3]
        assert os.path.exists(f"{prefix}/share/man/man{name[-1]}/{name}"), name
    r = sh(["man", "-M", prefix + "/share/man", "-w", "platterd.json"])
    assert b"platterd.json.5" in r


main()
