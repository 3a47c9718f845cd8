/* SPDX-License-Identifier: Apache-2.0 */
/* What a client posts and what lies in the state folder, JSON both: images to
 * register, boot traces, ranges to prefetch.  The first byte says which, the
 * rest is the text.
 *
 * What is taken is there again in the next run, as it was; a list that is
 * damaged is left alone; nothing is kept of what was refused. */
#include <stdbool.h>

#include "fuzz_scratch.h"
#include "stack/image.h"
#include "util/clock.h"
#include "util/log.h"

enum kind {
    POST_IMAGE,
    POST_TRACE,
    POST_PREFETCH,
    FILE_IMAGES,
    FILE_TRACE,
    KINDS
};

enum { DISK = 256 << 10 };

static char trace_name[SCRATCH_PATH]; /* of the disk's: "state/trace-..." */

static bool never(const struct plt_io *io)
{
    (void)io;
    return false;
}

static void no_charge(struct plt_io *io, uint64_t bytes, uint32_t requests)
{
    (void)io;
    (void)bytes;
    (void)requests;
}

static struct images *images_start(enum plt_status *loaded)
{
    char state[SCRATCH_PATH], origin[SCRATCH_PATH];
    struct images *images = NULL;
    struct plt_error err = {.at = PLT_AT_NONE};

    scratch_path(state, "state");
    scratch_path(origin, "f");
    const struct images_config config = {.cache_bytes = 16 << 20,
                                         .state_dir = state};
    MUST(images_new(&config, &images, &err) == PLT_OK);
    MUST(images_add_origin(images, "f", origin, &err) == PLT_OK);
    MUST(images_add_image(images, "mine", "f/x", NULL, NULL, &err) == PLT_OK);
    *loaded = images_load_registered(images, &err);
    MUST(*loaded == PLT_OK || (*loaded == PLT_CORRUPT && err.text[0]));
    return images;
}

static struct image *image_of(struct images *images)
{
    struct reference r = {.target = (char *)(uintptr_t) "f/x",
                          .layers = (char *)(uintptr_t) ""};
    struct plt_error err = {.at = PLT_AT_NONE};
    struct plt_io io = {.struct_size = (uint32_t)sizeof(io),
                        .deadline_ns = clock_after_ms(20000),
                        .cancelled = never,
                        .charge = no_charge};
    struct image *image = NULL;
    uint64_t size = 0;

    MUST(images_open(images, &r, &io, &image, NULL, &err) == PLT_OK);
    MUST(image_resolve_size(image, &io, &size, &err) == PLT_OK && size == DISK);
    return image;
}

static void set_up(void)
{
    static uint8_t disk[DISK] = "a disk";
    /* Keeps the plugins loaded: LeakSanitizer loses its way in the thread-local
     * memory of libraries that come and go. */
    static struct images *keeper;
    const struct images_config bare = {.cache_bytes = 1 << 20};
    struct plt_error err;
    enum plt_status st;

    if (!scratch_make())
        return;
    MUST(images_new(&bare, &keeper, &err) == PLT_OK);
    scratch_folder("f");
    scratch_folder("state");
    scratch_write("f/x", disk, sizeof(disk));
    const int quiet = open("/dev/null", O_WRONLY | O_CLOEXEC);
    MUST(quiet >= 0);
    log_set_fd(quiet);
    struct images *const images = images_start(&st);
    struct image *const image = image_of(images);
    const char *const etag = image_etag(image);
    MUST(etag[0] == '"');
    (void)snprintf(trace_name, sizeof(trace_name), "state/trace-%.*s.json",
                   (int)strlen(etag) - 2, etag + 1);
    image_unref(image);
    images_free(images);
}

static char *slurp(const char *name)
{
    char path[SCRATCH_PATH];
    char *const text = calloc(1, 1 << 20);

    scratch_path(path, name);
    FILE *const f = fopen(path, "rb");
    MUST(text);
    if (f) {
        (void)!fread(text, 1, (1 << 20) - 1, f);
        (void)fclose(f);
    }
    return text;
}

/* As handle_images.c reads a body. */
static json_t *parse(const char *text)
{
    return json_loads(text, JSON_REJECT_DUPLICATES, NULL);
}

/* Nothing is open here: all that is listed is registered. */
static json_t *registered(struct images *images)
{
    const struct images_query all = {.most = SIZE_MAX};
    size_t n;

    return images_json(images, &all, &n);
}

static void check_list(struct images *images, json_t *expected)
{
    json_t *const list = registered(images);

    MUST(list && (!expected || json_equal(list, expected)));
    char *const text = json_dumps(list, 0);
    json_t *const again = text ? parse(text) : NULL;
    MUST(again && json_equal(again, list));
    free(text);
    json_decref(again);
    json_decref(list);
}

static void post_image(const char *text)
{
    struct plt_error err = {.at = PLT_AT_NONE};
    enum plt_status loaded;
    bool is_new = false;
    struct images *images = images_start(&loaded);
    json_t *const entry = parse(text), *const before = registered(images);

    MUST(loaded == PLT_OK && before);
    if (entry) {
        const enum plt_status st =
            images_register(images, entry, &is_new, &err);
        MUST(st == PLT_OK || st == PLT_INVALID || st == PLT_EXISTS);
        MUST(st == PLT_OK || err.text[0]);
        json_t *const after = registered(images);
        MUST(json_array_size(after) ==
             json_array_size(before) + (st == PLT_OK && is_new));
        const bool is_ours = st == PLT_OK && is_new;
        /* Once more is not one more. */
        if (st == PLT_OK)
            MUST(images_register(images, entry, &is_new, &err) == PLT_OK &&
                 !is_new);
        images_free(images);
        images = images_start(&loaded);
        MUST(loaded == PLT_OK);
        check_list(images, after);
        if (is_ours) {
            const char *const name =
                json_string_value(json_object_get(entry, "name"));
            MUST(name);
            MUST(images_unregister(images, name, &err) == PLT_OK);
            check_list(images, before);
        }
        json_decref(after);
    }
    json_decref(before);
    json_decref(entry);
    images_free(images);
}

static void post_trace(const char *text)
{
    struct plt_error err = {.at = PLT_AT_NONE};
    enum plt_status loaded;
    struct images *images = images_start(&loaded);
    struct image *image = image_of(images);
    json_t *const body = parse(text);
    json_t *kept = NULL, *again = NULL;

    if (body && image_trace_load(image, body, &err) == PLT_OK) {
        MUST(image_trace_json(image, &kept, &err) == PLT_OK);
        image_unref(image);
        images_free(images);
        images = images_start(&loaded);
        image = image_of(images);
        MUST(image_trace_json(image, &again, &err) == PLT_OK);
        MUST(json_equal(kept, again));
        json_decref(kept);
        json_decref(again);
        MUST(image_trace_drop(image, &err) == PLT_OK);
    }
    MUST(image_trace_json(image, &kept, &err) == PLT_NOT_FOUND);
    json_decref(body);
    image_unref(image);
    images_free(images);
}

static void post_prefetch(const char *text)
{
    struct plt_error err = {.at = PLT_AT_NONE};
    enum plt_status loaded;
    struct images *const images = images_start(&loaded);
    struct image *const image = image_of(images);
    json_t *const body = parse(text);
    json_t *state = NULL;

    if (body) {
        const enum plt_status st = image_prefetch_ranges(image, body, &err);
        MUST(st == PLT_OK || (st == PLT_INVALID && err.text[0]));
        MUST((image_prefetch_json(image, &state, &err) == PLT_OK) ==
             (st == PLT_OK));
        json_decref(state);
    }
    json_decref(body);
    image_unref(image);
    images_free(images);
}

static void file_images(const char *text)
{
    enum plt_status loaded;
    struct plt_error err = {.at = PLT_AT_NONE};
    struct images *images;
    bool is_new = false;

    scratch_write("state/images.json", text, strlen(text));
    images = images_start(&loaded);
    if (loaded != PLT_OK) {
        char *const now = slurp("state/images.json");
        MUST(strcmp(now, text) == 0);
        free(now);
    } else {
        json_t *const entry =
            json_pack("{s:s, s:s}", "name", "zz-one-more", "source", "f/x");
        const enum plt_status st =
            images_register(images, entry, &is_new, &err);
        json_t *const list = registered(images);
        check_list(images, NULL);
        json_decref(entry);
        images_free(images);
        images = images_start(&loaded);
        MUST(loaded == PLT_OK);
        if (st == PLT_OK)
            check_list(images, list);
        json_decref(list);
    }
    images_free(images);
    scratch_write("state/images.json", NULL, 0);
}

static void file_trace(const char *text)
{
    enum plt_status loaded;
    struct plt_error err = {.at = PLT_AT_NONE};
    json_t *kept = NULL;

    scratch_write(trace_name, text, strlen(text));
    struct images *const images = images_start(&loaded);
    struct image *const image = image_of(images);
    const enum plt_status st = image_trace_json(image, &kept, &err);
    MUST(st == PLT_OK || st == PLT_NOT_FOUND);
    if (st == PLT_OK) {
        MUST(json_integer_value(json_object_get(kept, "virtual-size")) == DISK);
        json_decref(kept);
        const enum plt_status started = image_prefetch_trace(image, &err);
        MUST(started == PLT_OK || started == PLT_NOT_FOUND ||
             started == PLT_INVALID);
    }
    image_unref(image);
    images_free(images);
    scratch_write(trace_name, NULL, 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static void (*const kinds[KINDS])(const char *text) = {
        [POST_IMAGE] = post_image,       [POST_TRACE] = post_trace,
        [POST_PREFETCH] = post_prefetch, [FILE_IMAGES] = file_images,
        [FILE_TRACE] = file_trace,
    };

    set_up();
    if (!size)
        return 0;
    char *const text = calloc(1, size);
    MUST(text);
    memcpy(text, data + 1, size - 1); /* a body ends at its first NUL */
    kinds[data[0] % KINDS](text);
    free(text);
    return 0;
}

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    set_up();
    return 0;
}
