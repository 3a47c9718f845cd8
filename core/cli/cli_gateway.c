/* SPDX-License-Identifier: Apache-2.0 */
/* The JSON of a gateway: one request, one answer.  Bytes of disks go through
 * the curl driver instead, which reads in parallel and checks what it gets. */
#include <curl/curl.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "util/auto.h"
#include "stack/json_memory.h"

enum { MAX_ANSWER = 1 << 30 };

struct text {
    char *p;
    size_t n, cap;
};

static bool add(struct text *t, const char *data, size_t len)
{
    if (len > MAX_ANSWER - t->n)
        return false;
    if (t->n + len + 1 > t->cap) {
        const size_t cap = 2 * (t->n + len + 1);
        char *const grown = realloc(t->p, cap);
        if (!grown)
            return false;
        t->p = grown;
        t->cap = cap;
    }
    memcpy(t->p + t->n, data, len);
    t->n += len;
    t->p[t->n] = '\0';
    return true;
}

/* RFC 3986: everything but unreserved characters, and '/' where it divides. */
static bool add_coded(struct text *t, const char *value, bool is_path)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyz"
                                "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~";
    bool is_good = true;

    for (; *value && is_good; value++) {
        char coded[4];
        if (strchr(plain, *value) || (is_path && *value == '/')) {
            is_good = add(t, value, 1);
        } else {
            (void)snprintf(coded, sizeof(coded), "%%%02X",
                           (unsigned)(unsigned char)*value);
            is_good = add(t, coded, 3);
        }
    }
    return is_good;
}

/* Selectors as path parameters: ;member=x */
static bool add_reference(struct text *t, const struct options *o,
                          const char *spec)
{
    const struct {
        const char *name, *value;
    } rows[] = {{"member", o->selectors.member},
                {"snapshot", o->selectors.snapshot},
                {"partition", o->selectors.partition},
                {"secret", o->selectors.secret},
                {"layers", o->selectors.layers}};
    bool is_good = add_coded(t, spec, true);

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]) && is_good; i++) {
        if (!rows[i].value)
            continue;
        is_good = add(t, ";", 1) &&
                  add(t, rows[i].name, strlen(rows[i].name)) &&
                  add(t, "=", 1) && add_coded(t, rows[i].value, false);
    }
    return is_good;
}

char *gateway_path(const struct options *o, const char *spec)
{
    struct text t = {NULL, 0, 0};

    if (add_reference(&t, o, spec))
        return t.p;
    free(t.p);
    return NULL;
}

/* The gateway's URL without its last slash. */
static bool add_base(struct text *t, const struct options *o)
{
    size_t len = strlen(o->gateway);

    while (len && o->gateway[len - 1] == '/')
        len--;
    return add(t, o->gateway, len);
}

char *gateway_disk_spec(const struct options *o, const char *spec)
{
    struct text t = {NULL, 0, 0};

    if (add(&t, "raw:", 4) && add_base(&t, o) && add(&t, "/disk/", 6) &&
        add_reference(&t, o, spec))
        return t.p;
    free(t.p);
    return NULL;
}

/* What comes over the wire.  With progress: server-sent events, of which the
 * last one's data is left in text. */
struct wire {
    struct text text;
    struct progress *progress; /* or NULL */
    /* or NULL: told of each event, whose data is not kept */
    void (*on_event)(void *cookie, json_t *value);
    void *cookie;
    const char *method; /* NULL: GET, or POST with a body */
    const char *body;   /* of a POST; NULL: GET */
    size_t seen;        /* text before it has been looked at */
    char name[16];      /* of the event that is being read */
};

/* "event: NAME", "data: JSON" or what divides events. */
static void take_line(struct wire *w, char *line)
{
    if (strncmp(line, "event: ", 7) == 0)
        (void)snprintf(w->name, sizeof(w->name), "%s", line + 7);
    if (strncmp(line, "data: ", 6) == 0 && strcmp(w->name, "progress") == 0) {
        json_t *const doc =
            json_memory_parse(line + 6, strlen(line + 6), 0, NULL);
        if (w->on_event)
            w->on_event(w->cookie, doc);
        else
            progress_show(w->progress, (uint64_t)cli_number(doc, "bytes_done"),
                          (uint64_t)cli_number(doc, "bytes_total"));
        json_decref(doc);
    }
}

static bool hears_events(const struct wire *w)
{
    return w->progress || w->on_event;
}

static size_t on_data(char *data, size_t size, size_t n, void *cookie)
{
    struct wire *const w = (struct wire *)cookie;
    char *end;

    if (!add(&w->text, data, size * n))
        return 0;
    while (hears_events(w) && (end = strchr(w->text.p + w->seen, '\n'))) {
        *end = '\0';
        take_line(w, w->text.p + w->seen);
        *end = '\n';
        w->seen = (size_t)(end + 1 - w->text.p);
    }
    /* Hours of progress are not kept; the last event is longer than "e". */
    if (w->on_event && w->seen && strcmp(w->name, "progress") == 0) {
        w->text.n -= w->seen;
        memmove(w->text.p, w->text.p + w->seen, w->text.n + 1);
        w->seen = 0;
    }
    return size * n;
}

static int on_progress(void *cookie, curl_off_t a, curl_off_t b, curl_off_t c,
                       curl_off_t d)
{
    (void)cookie;
    (void)a;
    (void)b;
    (void)c;
    (void)d;
    return cli_is_stopped();
}

/* A problem document, in the words that a local command would use. */
static int tell_problem(const char *spec, long status, const char *answer)
{
    json_t *const doc = json_memory_parse(answer ? answer : "",
                                          answer ? strlen(answer) : 0, 0, NULL);
    json_t *const detail = json_object_get(doc, "detail");
    json_t *row;
    size_t i;
    const char *const layer = cli_text(doc, "layer");
    int code = EXIT_FAILED;

    if (!doc)
        (void)cli_complain("%s: the gateway answered %ld", spec, status);
    else
        (void)cli_complain(
            "%s: %s%s%s (%ld, request %s)", spec, layer, *layer ? ": " : "",
            detail ? cli_text(doc, "detail") : cli_text(doc, "title"), status,
            cli_text(doc, "request_id"));
    json_array_foreach(json_object_get(doc, "choices"), i, row)
    {
        (void)fprintf(stderr, "  --member '%s'\n", cli_text(row, "name"));
        code = EXIT_CHOICE;
    }
    json_decref(doc);
    return code;
}

/* What the gateway is shown; fields are appended.  False without memory. */
static bool show(const struct options *o, const char *url, CURL *c,
                 struct curl_slist **fields)
{
    static char text[PLT_MAX_CREDENTIAL];
    struct plt_error none;

    if (images_credential(o->images, url, PLT_CREDENTIAL_CA, text, sizeof(text),
                          &none) == PLT_OK)
        (void)curl_easy_setopt(c, CURLOPT_CAINFO, text);
    if (images_credential(o->images, url, PLT_CREDENTIAL_CLIENT, text,
                          sizeof(text), &none) == PLT_OK) {
        (void)curl_easy_setopt(c, CURLOPT_SSLCERT, text);
        (void)curl_easy_setopt(c, CURLOPT_SSLKEY, text);
    }
    if (images_credential(o->images, url, PLT_CREDENTIAL_HEADERS, text,
                          sizeof(text), &none) != PLT_OK)
        return true;
    bool is_good = true;
    for (char *p = text; *p && is_good;) { /* each with its LF */
        char *const end = p + strcspn(p, "\n");
        const bool is_more = *end != '\0';
        *end = '\0';
        struct curl_slist *const grown = curl_slist_append(*fields, p);
        is_good = grown != NULL;
        *fields = is_good ? grown : *fields;
        p = end + is_more;
    }
    OPENSSL_cleanse(text, sizeof(text));
    return is_good;
}

static int fetch(const struct options *o, const char *spec, const char *url,
                 struct wire *wire)
{
    CURL *const c = curl_easy_init();
    char why[CURL_ERROR_SIZE] = "";
    struct curl_slist *fields = NULL;
    long status = 0;

    if (!c || !show(o, url, c, &fields)) {
        curl_slist_free_all(fields);
        curl_easy_cleanup(c);
        return cli_complain("out of memory");
    }
    (void)curl_easy_setopt(c, CURLOPT_URL, url);
    (void)curl_easy_setopt(c, CURLOPT_PROTOCOLS_STR, "http,https");
    (void)curl_easy_setopt(c, CURLOPT_PROXY, "");
    (void)curl_easy_setopt(c, CURLOPT_USERAGENT, "platter/" PLATTER_VERSION);
    (void)curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
    (void)curl_easy_setopt(c, CURLOPT_CONNECTTIMEOUT, 10L);
    (void)curl_easy_setopt(c, CURLOPT_ERRORBUFFER, why);
    (void)curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, on_data);
    (void)curl_easy_setopt(c, CURLOPT_WRITEDATA, wire);
    if (hears_events(wire))
        fields = curl_slist_append(fields, "Accept: text/event-stream");
    if (wire->body) {
        fields = curl_slist_append(fields, "Content-Type: application/json");
        (void)curl_easy_setopt(c, CURLOPT_POSTFIELDSIZE,
                               (long)strlen(wire->body));
        (void)curl_easy_setopt(c, CURLOPT_POSTFIELDS, wire->body);
    }
    if (wire->method)
        (void)curl_easy_setopt(c, CURLOPT_CUSTOMREQUEST, wire->method);
    (void)curl_easy_setopt(c, CURLOPT_HTTPHEADER, fields);
    (void)curl_easy_setopt(c, CURLOPT_NOPROGRESS, 0L);
    (void)curl_easy_setopt(c, CURLOPT_XFERINFOFUNCTION, on_progress);
    const CURLcode code = curl_easy_perform(c);
    (void)curl_easy_getinfo(c, CURLINFO_RESPONSE_CODE, &status);
    curl_easy_cleanup(c);
    curl_slist_free_all(fields);
    if (code == CURLE_ABORTED_BY_CALLBACK)
        return EXIT_STOPPED;
    if (code != CURLE_OK)
        return cli_complain("%s: the gateway does not answer: %s", spec,
                            why[0] ? why : curl_easy_strerror(code));
    return status >= 200 && status < 300
               ? 0
               : tell_problem(spec, status, wire->text.p);
}

/* part: "/LIST" behind the selectors, or "". */
static int ask_part(const struct options *o, const char *kind, const char *spec,
                    const char *part, const char *query, struct wire *wire)
{
    struct text url = {NULL, 0, 0};
    int code = EXIT_FAILED;

    if (add_base(&url, o) && add(&url, "/v1/", 4) &&
        add(&url, kind, strlen(kind)) && add(&url, "/", 1) &&
        add_reference(&url, o, spec) && add(&url, part, strlen(part)) &&
        add(&url, query ? "?" : "", query != 0) &&
        add(&url, query ? query : "", query ? strlen(query) : 0))
        code = fetch(o, spec, url.p, wire);
    free(url.p);
    return code;
}

/* GATEWAY/v1/PATH as it stands. */
static int ask_path(const struct options *o, const char *path, const char *what,
                    struct wire *wire)
{
    struct text url = {NULL, 0, 0};
    int code = EXIT_FAILED;

    if (add_base(&url, o) && add(&url, "/v1/", 4) &&
        add(&url, path, strlen(path)))
        code = fetch(o, what, url.p, wire);
    free(url.p);
    return code;
}

int gateway_call(const struct options *o, const char *method, const char *path,
                 const char *what, const char *body, json_t **out)
{
    struct wire w = {.body = body, .method = body ? NULL : method};
    int code = ask_path(o, path, what, &w);

    *out = !code && w.text.n ? json_memory_parse(w.text.p, w.text.n, 0, NULL)
                             : NULL;
    if (!code && w.text.n && !*out)
        code = cli_complain("%s: the gateway's answer is no JSON", what);
    free(w.text.p);
    return code;
}

int gateway_watch(const struct options *o, const char *path, const char *what,
                  void (*on_event)(void *cookie, json_t *value), void *cookie,
                  json_t **out)
{
    struct wire w = {.on_event = on_event, .cookie = cookie};
    int code = ask_path(o, path, what, &w);
    const char *const data = w.text.p ? strstr(w.text.p, "data: ") : NULL;

    if (!code && data && strcmp(w.name, "error") == 0)
        code = tell_problem(what, 200, data + 6);
    *out = !code && data ? json_memory_parse(data + 6, strlen(data + 6),
                                             JSON_DISABLE_EOF_CHECK, NULL)
                         : NULL;
    if (!code && !*out)
        code = cli_complain("%s: the gateway's answer is not complete", what);
    free(w.text.p);
    return code;
}

static int ask(const struct options *o, const char *kind, const char *spec,
               const char *query, struct wire *wire)
{
    return ask_part(o, kind, spec, "", query, wire);
}

static int bytes_of(const struct options *o, const char *kind, const char *spec,
                    const char *part, const char *query, char **data,
                    size_t *len)
{
    struct wire w = {.progress = NULL};
    const int code = ask_part(o, kind, spec, part, query, &w);

    if (code) {
        free(w.text.p);
        return code;
    }
    *data = w.text.p;
    *len = w.text.n;
    return 0;
}

int gateway_bytes(const struct options *o, const char *kind, const char *spec,
                  const char *query, char **data, size_t *len)
{
    return bytes_of(o, kind, spec, "", query, data, len);
}

int gateway_manifest(const struct options *o, const char *spec,
                     const char *list, const char *query, char **data,
                     size_t *len)
{
    char part[16] = "";

    if (list[0])
        (void)snprintf(part, sizeof(part), "/%s", list);
    return bytes_of(o, "manifest", spec, part, query, data, len);
}

int gateway_check_format(const struct options *o, const char *spec)
{
    json_t *info = NULL;
    int code = o->format ? gateway_json(o, "info", spec, NULL, &info) : 0;

    if (!code && o->format && strcmp(o->format, cli_text(info, "format")) != 0)
        code = cli_complain("%s: it is %s, not %s", spec,
                            cli_text(info, "format"), o->format);
    json_decref(info);
    return code;
}

int gateway_events(const struct options *o, const char *kind, const char *spec,
                   const char *query, const char *key, json_t **out)
{
    struct progress p;
    struct wire w = {.progress = &p};

    progress_begin(&p, kind, 0, o->is_quiet);
    int code = ask(o, kind, spec, query, &w);
    progress_end(&p);
    /* The last event's data; a gateway that knows no events answers JSON. */
    char *data = w.text.p, *next = data;
    while (next && (next = strstr(next, "data: ")))
        data = next += 6;
    if (!code && data && strcmp(w.name, "error") == 0)
        code = tell_problem(spec, 200, data);
    *out = code ? NULL
                : json_memory_parse(data ? data : "", data ? strlen(data) : 0,
                                    JSON_DISABLE_EOF_CHECK, NULL);
    if (!code && !cli_text(*out, key)[0])
        code = cli_complain("%s: the gateway's answer is not complete", spec);
    free(w.text.p);
    return code;
}

int gateway_post(const struct options *o, const char *kind, const char *spec,
                 const char *body, json_t **out)
{
    struct wire w = {.body = body};
    int code = ask(o, kind, spec, NULL, &w);

    *out = code
               ? NULL
               : json_memory_parse(w.text.p ? w.text.p : "", w.text.n, 0, NULL);
    if (!code && !*out)
        code = cli_complain("%s: the gateway's answer is no JSON", spec);
    free(w.text.p);
    return code;
}

int gateway_json(const struct options *o, const char *kind, const char *spec,
                 const char *query, json_t **out)
{
    char *data = NULL;
    size_t len = 0;
    const int code = gateway_bytes(o, kind, spec, query, &data, &len);

    if (code)
        return code;
    *out = data ? json_memory_parse(data, len, 0, NULL) : NULL;
    free(data);
    return *out ? 0 : cli_complain("%s: the gateway's answer is no JSON", spec);
}
