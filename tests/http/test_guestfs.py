# SPDX-License-Identifier: Apache-2.0
"""guestfish looks into the disk of an archive, over HTTP.

It boots a kernel of its own in QEMU, which is emulated here (no KVM is asked for): that
takes a quarter of a minute.  nbdkit's curl plugin stands between: QEMU 7.2's own http
driver stalls for good now and then, against nginx as well.  Where /boot has no kernel, the one of Debian's package is
unpacked for it, and not installed."""
import sys, os
sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../support"))
from live import *
import images

www = tmp + "/www"
os.makedirs(www)
images.guest_disk(www + "/disk.raw", 64)
sh("tar --format=oldgnu -Sczf x.tar.gz disk.raw", cwd=www)
nginx = Nginx(www)
server = Platterd({"web": nginx.url()})
U = server.url("/disk/web/x.tar.gz")


def kernel():
    """Environment that gives libguestfs a kernel: the one of /boot, else that of Debian's
    package, unpacked and not installed."""
    if any(n.startswith("vmlinuz") for n in os.listdir("/boot")):
        return {}
    d = tempfile.mkdtemp(dir=tmp)
    os.chmod(d, 0o777)  # apt's own user writes here
    arch = sh(["dpkg", "--print-architecture"]).decode().strip()
    name = re.search(r"Depends: (linux-image-\S+)",
                     sh(["apt-cache", "depends", "linux-image-cloud-" + arch]).decode())[1]
    sh(f"apt-get download -qq {name} && dpkg-deb -x {name}_*.deb .", cwd=d)
    version = os.listdir(d + "/lib/modules")[0]
    sh(["depmod", "-b", d, version])
    return {"SUPERMIN_KERNEL": f"{d}/boot/vmlinuz-{version}", "SUPERMIN_KERNEL_VERSION": version,
            "SUPERMIN_MODULES": f"{d}/lib/modules/{version}"}


@case("guestfish over nbdkit curl: a file of the file system of the disk in the archive")
def guestfish():
    d = tempfile.mkdtemp(dir=tmp)
    # supermin looks at the folder even when it takes nothing from there
    is_bare = not os.path.exists("/lib/modules")
    if is_bare:
        os.mkdir("/lib/modules")
    env = {**os.environ, **kernel(), "LIBGUESTFS_BACKEND": "direct", "LIBGUESTFS_CACHEDIR": d,
           "LIBGUESTFS_BACKEND_SETTINGS": "force_tcg", "TMPDIR": d}
    try:
        guest = ("guestfish --ro --format=raw -a nbd://?socket=$unixsocket run : list-filesystems : "
                 "mount-ro /dev/sda1 / : checksum sha256 /tar")
        p = subprocess.Popen(["nbdkit", "-U", "-", "-r", "curl", U, "--run", guest], env=env,
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)
        try:
            out, err = p.communicate(timeout=400)
        except subprocess.TimeoutExpired:
            os.killpg(p.pid, signal.SIGKILL)
            raise
        assert p.returncode == 0, err
        out = out.decode().split("\n")
    finally:
        if is_bare:
            os.rmdir("/lib/modules")
    assert out[0] == "/dev/sda1: ext4", out
    assert out[1] == hashlib.sha256(open("/usr/bin/tar", "rb").read()).hexdigest(), out


main()
