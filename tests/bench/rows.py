# SPDX-License-Identifier: Apache-2.0
"""Results of update.py and edges.py: a run of some of the rows leaves the others
of an earlier run."""
import csv, os


def save(path, rows, keys):
    """rows: dicts of the same keys; those that say which row it is are `keys`."""
    if not rows:
        return
    rows = [{k: f"{v:.3f}" if isinstance(v, float) else "" if v is None else str(v) for k, v in r.items()}
            for r in rows]
    new, old = {tuple(r[k] for k in keys): r for r in rows}, []
    if os.path.exists(path):
        with open(path, newline="") as f:
            old = [r for r in csv.DictReader(f) if r.keys() == rows[0].keys()]
    out = [new.pop(tuple(r[k] for k in keys), r) for r in old] + list(new.values())
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", newline="") as f:
        table = csv.DictWriter(f, rows[0].keys(), lineterminator="\n")
        table.writeheader()
        table.writerows(out)
