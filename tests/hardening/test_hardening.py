# SPDX-License-Identifier: Apache-2.0
"""What the compiler and the linker were told is in what came out: programs and
plugins of a build without sanitizers, read with readelf and objdump."""
import sys, os, glob
sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../support"))
from live import *

FILES = [f"{BIN}/platterd", f"{BIN}/platter"] + sorted(glob.glob(f"{BIN}/../plugins.d/*.so"))
PLUGINS = ("curl", "file", "gzip", "partition", "qcow2", "raw", "tar", "vmdk")


def read(flags, path):
    return sh(["readelf", "-W", *flags.split(), path]).decode()


@case("all programs and plugins are there")
def there():
    names = {os.path.basename(f).removesuffix(".so") for f in FILES}
    assert names == {"platterd", "platter", *PLUGINS}, names


@case("programs are position independent; nothing has a fixed address")
def pie():
    for f in FILES:
        assert re.search(r"Type:\s+DYN", read("-h", f)), f
    for f in FILES[:2]:
        assert re.search(r"FLAGS_1.*\bPIE\b", read("-d", f)), f


@case("relocations are read-only before main, and resolved at once")
def relro():
    for f in FILES:
        assert "GNU_RELRO" in read("-l", f), f
        assert re.search(r"BIND_NOW|Flags:.*NOW", read("-d", f)), f


@case("no stack that can be executed, no segment that can be written and executed")
def noexec():
    for f in FILES:
        text = read("-l", f)
        stack = re.search(r"GNU_STACK.*?\s([RWE ]{2,3})\s+0x", text)
        assert stack and "E" not in stack[1], (f, text)
        for flags in re.findall(r"LOAD\s.*?\s([RWE ]{3})\s+0x", text):
            assert not ("W" in flags and "E" in flags), (f, flags)
        assert "TEXTREL" not in read("-d", f), f


@case("stack protector and checked string functions are in")
def protected():
    for f in FILES:
        symbols = read("--dyn-syms", f)
        name = os.path.basename(f)
        if name != "raw.so":  # too small to have an array on the stack
            assert "__stack_chk_fail" in symbols, f
    everything = "".join(read("--dyn-syms", f) for f in FILES)
    for name in ("__snprintf_chk", "__vsnprintf_chk", "__memcpy_chk", "__fprintf_chk"):
        assert name in everything, name


@case("functions begin where an indirect branch may land (x86-64)")
def cet():
    if os.uname().machine != "x86_64":
        return
    for f in FILES:
        code = sh(["objdump", "-d", "--no-show-raw-insn", f]).decode()
        assert code.count("endbr64") >= 5, (f, code.count("endbr64"))


@case("plugins give away one symbol, and no path of the builder's is searched")
def symbols():
    for f in FILES[2:]:
        own = [x.split()[-1] for x in read("--dyn-syms", f).splitlines()
               if " GLOBAL " in x and " UND " not in x]
        assert own == ["platter_driver"], (f, own)
    for f in FILES:
        assert not re.search(r"\b(RPATH|RUNPATH)\b", read("-d", f)), f


@case("the unit of systemd is as closed as it says")
def unit():
    path = os.path.join(os.path.dirname(__file__), "../../deploy/platterd.service")
    r = subprocess.run(["systemd-analyze", "security", "--offline=true", "--no-pager", path],
                       capture_output=True, text=True)
    level = re.search(r"Overall exposure level for platterd.service: ([0-9.]+)", r.stdout)
    assert level and float(level[1]) < 1.5, (r.stdout[-300:], r.stderr)
    r = subprocess.run(["systemd-analyze", "verify", path], capture_output=True, text=True)
    other = [x for x in r.stderr.splitlines()
             if not re.search(r"not executable|man platterd|Failed to prepare filename", x)
             and "platterd" in x]
    assert not other, other


main()
