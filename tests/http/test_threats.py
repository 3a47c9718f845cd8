# SPDX-License-Identifier: Apache-2.0
"""The threat model, row by row, and which tests hold it: each that is named here must
be there.  What a row is about is written out, so that the table reads by itself."""
import os, re, sys
sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../support"))
from live import *

CANARY, POLICY, FAULTS = "http/test_canary.py", "http/test_policy.py", "http/test_faults.py"
RFC, ACCESS, BUDGETS = "http/test_rfc9110.py", "http/test_access.py", "http/test_budgets.py"
QCOW2, VMDK, PARTITIONS = "golden/test_qcow2.py", "golden/test_vmdk.py", "golden/test_partitions.py"
HOSTILE, TABLES = "driver/qcow2/test_qcow2_hostile.c", "driver/qcow2/test_qcow2_tables.c"
ORIGIN, MACHINE, MEMORY = "http/test_remote.py", "fault/test_machine.py", "fault/test_memory.py"
FUZZ = "fuzz/CMakeLists.txt"

# threat -> (suite, a part of a case's sentence or a test's name) ...
THREATS = {
    "disclosure": {
        "VMDK extents that are host paths": [(CANARY, "extents and parents anywhere"), (CANARY, "in a tar.gz")],
        "qcow2 external data files that are host paths": [(CANARY, "data files, extents"),
                                                          (QCOW2, "a data file elsewhere")],
        "json:, nbd:, ssh: and the like as names": [(CANARY, "backing files, data files"),
                                                    (QCOW2, "names that are no file names")],
        "backing files that are absolute, dots, links, devices, /proc":
            [(CANARY, "backing files, data files"), (CANARY, "links that lead out")],
        "images that name URLs, remote ones that name local files": [(CANARY, "backing files, data files")],
        "redirects and names that lead to inner addresses":
            [(POLICY, "a name that leads to loopback"), (POLICY, "other spellings of loopback"),
             (POLICY, "a redirect to another origin"), (CANARY, "redirects:"),
             ("unit/stack/test_address.c", "what_is_not_the_public_s")],
        "redirects to another scheme, host or port": [(CANARY, "redirects:"),
                                                      ("unit/stack/test_policy.c", "redirects_stay")],
        "a raw disk that looks like an image": [(CANARY, "begins like an image")],
        "secrets in logs, process list, errors, metrics":
            [(ACCESS, "a token is nowhere"), ("http/test_config.py", "stands in no log and no process list"),
             ("http/test_config.py", "a password in an origin's address"),
             ("unit/core/test_log.c", "addresses_lose_user")],
    },
    "parsers": {
        "qcow2 tables huge, overlapping, past the end": [(HOSTILE, "tables_that_point_outside"),
                                                         (HOSTILE, "tables_that_point_to_each_other"),
                                                         (TABLES, "refcounts_that_lie")],
        "qcow2 header fields out of range": [(HOSTILE, "header_fields_out_of_bounds")],
        "qcow2 snapshot entries that lie": [(TABLES, "snapshot_tables_that_lie")],
        "compressed clusters past the end, short, long": [(HOSTILE, "broken_compressed_clusters")],
        "chains that loop, or are deep": [(FAULTS, "a chain of backing files that is a loop"),
                                          (QCOW2, "a chain of eighty"), (QCOW2, "smaller and larger backing")],
        "vmdk geometry, footers, markers, descriptors": [(VMDK, "every byte of header and descriptor"),
                                                         (VMDK, "a stream cut off before its footer"),
                                                         (FUZZ, "fuzz_vmdk_descriptor")],
        "grains larger than two, markers that point at themselves": [(FUZZ, "fuzz_vmdk ")],
        "tar sizes, checksums, sparse maps, PAX records, bombs": [("driver/tar/test_driver_tar.c", "a_cut_at_every"),
                                                                  (FUZZ, "fuzz_tar")],
        "gzip headers and dictzip tables that lie, garbage": [
            ("driver/gzip/test_driver_gzip_bgzf.c", "lengths_that_lie"), (FUZZ, "fuzz_gzip ")],
        "index files that ask for gigabytes": [("driver/gzip/test_driver_gzip_foreign.c", "what_is_not_true"),
                                               (FUZZ, "fuzz_gzip_points"), (FUZZ, "fuzz_gzip_foreign")],
        "bombs": [(BUDGETS, "200 opens of bombs")],
        "OVF entities": [(VMDK, "an OVF that attacks"), (CANARY, "an OVF with entities"), (FUZZ, "fuzz_ovf")],
        "partition tables that loop or lie": [(PARTITIONS, "a chain of logical partitions that is a loop"),
                                              ("driver/partition/test_partition_gpt.c", "numbers_that_lie"),
                                              (FUZZ, "fuzz_partition")],
        "recursion": [(FUZZ, "fuzz_stack")],
    },
    "origins": {
        "200 for 206, wrong Content-Range, more or fewer bytes": [(FAULTS, "200-later"), (FAULTS, "wrong-range"), (FAULTS, "short"),
                                                                 (FAULTS, "long"), (FAULTS, "wrong-total"),
                                                                 (FUZZ, "fuzz_curl_answer")],
        "content that changes": [(FAULTS, "a file that changes on its server"), (ORIGIN, "a file that is replaced"),
                                 ("http/test_disk_cache.py", "other bytes under the same validator")],
        "weak or missing validators": [("http/test_disk_cache.py", "what nothing pins")],
        "stalls, resets, truncation, slow drip": [(FAULTS, "stall"), (FAULTS, "stall-first"), (FAULTS, "short"),
                                                   (ORIGIN, "a long request whose connection breaks"),
                                                   (FAULTS, "a slow origin does not delay")],
        "4xx, 5xx, Retry-After, circles of redirects": [(FAULTS, "busy"), (FAULTS, "500"), (FAULTS, "401"),
                                                        (FAULTS, "redirect-loop"), (CANARY, "redirects:")],
        "codings not asked for, huge headers": [(FAULTS, "coded"), (FAULTS, "headers")],
        "TLS: expired, wrong name, untrusted": [("http/test_tls_origin.py", "a certificate that the system"),
                                              ("http/test_tls_origin.py", "has expired"),
                                              ("http/test_tls_origin.py", "of another name"),
                                              ("http/test_tls_origin.py", "no TLS of our days")],
    },
    "clients": {
        "thousands of ranges": [("http/test_surface.py", "too many ranges"),
                                ("unit/gateway/test_range.c", "too_many_ranges")],
        "numbers with signs, spaces, overflow": [("unit/gateway/test_range.c", "malformed_values"),
                                                 ("unit/gateway/test_range.c", "no_short_text")],
        "path traversal in every encoding": [(CANARY, "no spelling of a path"), (RFC, "nothing outside the folder"),
                                             ("unit/stack/test_reference.c", "what_could_leave")],
        "slow headers, bodies, readers, floods": [(BUDGETS, "2,000 slow clients"), (BUDGETS, "a request byte by byte"),
                                                  (BUDGETS, "min_rate"), (BUDGETS, "max_connections_per_client"),
                                                  (BUDGETS, "idle ones go sooner")],
        "request smuggling": [(BUDGETS, "requests that servers read differently")],
        "header bombs, long URLs, methods, Host": [(RFC, "huge headers"), (BUDGETS, "header_size, url_size"), (ACCESS, "and not by way of others")],
        "a million images, selectors or snapshots": [(BUDGETS, "thousands of members"), (BUDGETS, "max_open")],
        "floods of requests that are cancelled": [("race/test_race.py", "clients that leave"), (BUDGETS, "a flood of requests")],
        "timing and guessing of tokens and signed URLs": [(ACCESS, "whatever is changed in a signed URL"),
                                                          (ACCESS, "a token: unknown"),
                                                          ("unit/gateway/test_access.c", "a_wrong_token")],
    },
    "machine": {
        "a state disk that is full, slow, failing, read-only; kill -9": [
            ("http/test_disk_cache.py", "a full disk"), ("http/test_disk_cache.py", "killed again and again"),
            ("http/test_surface.py", "survives kill -9"),
            (MACHINE, "a state folder that is full, slow, read-only"), (MACHINE, "kill -9 over and over"),
            (MACHINE, "a local disk that fails"), (MACHINE, "a local disk that stalls")],
        "allocations that fail": [(MEMORY, "a server, an allocation of ours"), (MEMORY, "the command, any allocation"),
                                  (MEMORY, "a server, any allocation"), (BUDGETS, "client_memory")],
        "clock jumps, signals, descriptors": [(MACHINE, "a clock that jumps"), (MACHINE, "storms of signals"),
                                              (MACHINE, "SIGTERM at any instant"),
                                              (MACHINE, "no descriptors left"), (MACHINE, "leave a reserve")],
        "a plugin that breaks its contract": [("abi/test_abi.c", "answers_what_it_may_not"),
                                              ("abi/test_abi.c", "breaks_the_order_of_extents"),
                                              ("abi/test_abi.c", "a_stream_of_more_than_was_asked")],
        "upgrade while serving": [(ACCESS, "sockets of systemd"),
                                  ("unit/core/test_disk_cache.c", "another_epoch")],
    },
}


def there(suite, part):
    text = open(os.path.join(TOP, "tests", suite)).read()
    found = re.findall(r'@case\(\s*f?"((?:[^"\\]|\\.)*)"', text) + re.findall(r"^Test\(\w+,\s*(\w+)", text, re.M) + \
        re.findall(r"^platter_fuzz\((.*)", text, re.M) + re.findall(r'\("([\w-]+)", \d{3}, (?:None|")', text)
    return any(part in x for x in found)


for _chapter, _rows in THREATS.items():
    @case(f"{_chapter}: every row has its tests")
    def _(rows=_rows):
        assert len(rows) >= 5
        for threat, tests in rows.items():
            assert tests, threat
            for suite, part in tests:
                assert part and there(suite, part), (threat, suite, part)


@case("a test that is not there would be missed")
def _():
    assert not there(CANARY, "no such sentence") and not there(FUZZ, "fuzz_nothing")
    assert sum(len(rows) for rows in THREATS.values()) >= 44


main()
