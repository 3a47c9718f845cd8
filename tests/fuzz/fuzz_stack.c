/* SPDX-License-Identifier: Apache-2.0 */
/* Whole stacks: a file in an origin's folder, opened as a client's request
 * opens it, with every plugin there is, read and asked about in every way.
 *
 * An input is the file, so that a real image is an input as it is.  Behind it
 * may stand the bytes of a neighbour, which the image can name as "b", and a
 * trailer of 16 bytes (struct trailer) that says how it is opened.
 *
 * Besides the sanitizers it holds: whatever span a byte is read by, it is the
 * same; extents cover the disk exactly, and zeros are zeros; a second opening
 * has the same size, ETag and bytes; partitions and members that are listed
 * open, and are what was listed; all JSON is text that can be read again; the
 * file as it is, is the file as it is; the digest is that of the bytes; no byte
 * of a file outside of the origin's folder is ever seen; nothing takes 20
 * seconds. */
#include <dlfcn.h>
#include <limits.h>
#include <stdbool.h>

#include "fuzz_scratch.h"
#include "fuzz_stack_checks.h"
#include "fuzz_stack_inside.h"
#include "stack/readahead.h"
#include "util/log.h"

enum { TRAILER = 16, CACHE = 64 << 20, SMALL_CACHE = 8 << 20 };

enum { /* bits of trailer.flags */
       WITH_SECRET = 1,
       WITH_STATE = 2,   /* a state folder, with what the first opening left */
       WITH_LITTLE = 4,  /* memory */
       WITH_MEMBERS = 8, /* open them, too */
       WITH_SNAPSHOT = 16,
       WITH_DIGEST = 32, /* and an index, handed to another */
       WITH_AHEAD = 64   /* reading ahead */
};

struct trailer {
    uint8_t layers, flags;
    uint32_t seed, main_len; /* the neighbour's bytes follow */
};

static const char *const layers[] = {
    NULL,
    NULL,
    NULL,
    "",
    "raw",
    "qcow2",
    "vmdk",
    "tar",
    "gzip",
    "tar,gzip",
    "raw,tar",
    "qcow2,gzip",
    "vmdk,tar",
    "vmdk,tar,gzip",
    "qcow2,tar,gzip",
    "gzip,gzip",
    "tar,tar",
    "qcow2,qcow2",
    "gzip,qcow2",
    "tar,qcow2",
};

extern const bool fuzz_takes_trailer;
const bool fuzz_takes_trailer = true; /* fuzz_mutate.c */

static char outside[48]; /* what a file outside of the folder holds */

/* "PLTF", layers, flags, 2 bytes of nothing, seed, main_len; little endian. */
static struct trailer trailer_of(const uint8_t *data, size_t *size)
{
    struct trailer t = {.seed = (uint32_t)*size, .main_len = UINT32_MAX};

    if (*size >= TRAILER && memcmp(data + *size - TRAILER, "PLTF", 4) == 0) {
        const uint8_t *const p = data + *size - TRAILER;
        *size -= TRAILER;
        t.layers = (uint8_t)(p[4] % (sizeof(layers) / sizeof(layers[0])));
        t.flags = p[5];
        for (unsigned i = 0; i < 4; i++) {
            t.seed = t.seed << 8 | p[11 - i];
            t.main_len = t.main_len << 8 | p[15 - i];
        }
    }
    if (t.main_len > *size)
        t.main_len = (uint32_t)*size;
    return t;
}

static void set_up(void)
{
    if (!scratch_make())
        return;
    scratch_folder("f");
    scratch_folder("state");
    (void)snprintf(outside, sizeof(outside), "outside-of-the-folder-%ld",
                   (long)getpid());
    scratch_write("outside", outside, sizeof(outside));
    scratch_write("key", "geheim", 6);
    const int quiet = open("/dev/null", O_WRONLY | O_CLOEXEC);
    MUST(quiet >= 0);
    log_set_fd(quiet);
}

static struct images *images_of(const struct trailer *t)
{
    char path[SCRATCH_PATH], key[SCRATCH_PATH], state[SCRATCH_PATH];
    struct images *images = NULL;
    struct plt_error err = {.at = PLT_AT_NONE};

    scratch_path(state, "state");
    const struct images_config config = {
        .cache_bytes = t->flags & WITH_LITTLE ? SMALL_CACHE : CACHE,
        .readahead_bytes = t->flags & WITH_AHEAD ? READAHEAD_MOST : 0,
        .state_dir = t->flags & WITH_STATE ? state : NULL};
    MUST(images_new(&config, &images, &err) == PLT_OK);
    scratch_path(path, "f");
    scratch_path(key, "key");
    MUST(images_add_origin(images, "f", path, &err) == PLT_OK);
    MUST(images_add_secret(images, "key", key, &err) == PLT_OK);
    return images;
}

/* What takes all of the disk. */
static void digest(struct images *images, const struct trailer *t,
                   const struct reference *r, const struct checked *c)
{
    struct image *const image = check_open(images, r);
    struct images *const others = images_of(&(struct trailer){.flags = 0});

    if (image)
        check_digest(image, c);
    image_unref(image);
    if (!(t->flags & WITH_STATE))
        check_index(images, others, r, c);
    images_free(others);
}

/* The same image in a process that knows nothing of it; or, with a state
 * folder, what the first one kept. */
static void open_again(const struct trailer *t, const struct reference *r,
                       const struct checked *first)
{
    struct images *const images = images_of(t);
    struct checked again;

    check_image(images, r, t->seed + 1, outside, &again);
    /* A damaged table is found when a file is opened or when it is read: a
     * stream's length, which tells, may be known or not. */
    if (again.status != first->status) {
        (void)fprintf(stderr, "opened: %s; again: %s\n", first->why, again.why);
        MUST(is_scarce(again.status) || is_scarce(first->status) ||
             (again.status == PLT_CORRUPT && !first->is_sound) ||
             (first->status == PLT_CORRUPT && !again.is_sound));
    }
    if (again.status == PLT_OK && first->status == PLT_OK) {
        MUST(again.size == first->size);
        MUST(strcmp(again.etag, first->etag) == 0);
        if (again.is_whole && first->is_whole)
            MUST(again.n == first->n &&
                 (!again.n || memcmp(again.whole, first->whole, again.n) == 0));
    }
    checked_release(&again);
    images_free(images);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct trailer t;
    struct checked first;
    struct reference r = {.target = (char *)(uintptr_t) "f/x"};

    set_up();
    t = trailer_of(data, &size);
    scratch_write("f/x", data, t.main_len);
    scratch_write("f/b", data + t.main_len, size - t.main_len);
    r.layers = (char *)(uintptr_t)layers[t.layers];
    r.secret = t.flags & WITH_SECRET ? (char *)(uintptr_t) "key" : NULL;
    r.snapshot = t.flags & WITH_SNAPSHOT ? (char *)(uintptr_t) "1" : NULL;
    struct images *const images = images_of(&t);
    check_image(images, &r, t.seed, outside, &first);
    if (first.status == PLT_OK && r.layers && !r.layers[0])
        MUST(first.size == t.main_len && first.is_whole &&
             (!first.n || memcmp(first.whole, data, first.n) == 0));
    if (first.status == PLT_OK)
        check_partitions(images, &r, &first, outside);
    if (first.status == PLT_OK && t.flags & WITH_DIGEST)
        digest(images, &t, &r, &first);
    if (t.flags & WITH_MEMBERS)
        check_members(images, &r, outside);
    images_free(images);
    if (t.seed % 2)
        open_again(&t, &r, &first);
    checked_release(&first);
    if (t.flags & WITH_STATE) {
        char state[SCRATCH_PATH];
        scratch_path(state, "state");
        (void)nftw(state, scratch_drop, 8, FTW_DEPTH | FTW_PHYS);
        scratch_folder("state");
    }
    return 0;
}

/* The plugins are there before the fuzzer counts its edges. */
int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    set_up();
    images_free(images_of(&(struct trailer){.flags = 0}));
    return 0;
}
