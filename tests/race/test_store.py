# SPDX-License-Identifier: Apache-2.0
"""The store of leaves from several threads: puts, gets, syncs, sweeps, scrubs.
Made for the ThreadSanitizer build."""
import sys, os
sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../support"))
from live import *


@case("leaves are put, read, synced, swept and scrubbed at once; none is wrong, none that was synced is gone")
def load():
    r = subprocess.run([BIN + "/store_crash", "--load", "10", tmp], capture_output=True, timeout=200)
    assert r.returncode == 0 and b"all of them are there" in r.stdout, (r.stdout, r.stderr[-8000:])


main()
