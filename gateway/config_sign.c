/* SPDX-License-Identifier: Apache-2.0 */
/* What edges are told: manifest_key, which signs manifests, and siblings. */
#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "config_file.h"
#include "edges.h"
#include "manifest/minisign.h"
#include "util/auto.h"

enum { MAX_KEY = 4096 }; /* bytes of its file; minisign writes 254 */

void config_add_sibling(struct config_parse *p, const struct config_at *at,
                        const char *text)
{
    struct config *const c = p->config;

    if (!edges_url_ok(text))
        config_bad(p, at,
                   "takes http(s)://host[:port][/path], no user, query or "
                   "fragment: %s",
                   text);
    else if (c->n_siblings == CONFIG_MAX_SIBLINGS)
        config_bad(p, at, "more than %d siblings", CONFIG_MAX_SIBLINGS);
    else if ((c->siblings[c->n_siblings] = config_copy(p, text)))
        c->n_siblings++;
}

static void forget_key(struct config *c)
{
    if (c->manifest_key_text)
        OPENSSL_cleanse(c->manifest_key_text, strlen(c->manifest_key_text));
    free(c->manifest_key_text);
    c->manifest_key_text = NULL;
}

void config_load_key(struct config_parse *p, const struct config_at *at,
                     const char *file)
{
    struct config *const c = p->config;
    struct minisign_key key;
    struct plt_error err;
    struct stat sb;

    forget_key(c); /* of two the later counts */
    AUTO_FD int fd = open(file, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0 || fstat(fd, &sb) != 0) {
        config_bad(p, at, "%s: %s", file, strerror(errno));
        return;
    }
    if (!S_ISREG(sb.st_mode) || sb.st_size > MAX_KEY) {
        config_bad(p, at, "%s: not a secret key of minisign", file);
        return;
    }
    c->manifest_key_text = calloc(1, (size_t)sb.st_size + 1);
    if (!c->manifest_key_text)
        config_bad(p, at, "out of memory");
    else if (pread(fd, c->manifest_key_text, (size_t)sb.st_size, 0) !=
             (ssize_t)sb.st_size)
        config_bad(p, at, "%s: cannot be read", file);
    else if (minisign_key_of_secret(c->manifest_key_text, &key, &err) != PLT_OK)
        config_bad(p, at, "%s: %s", file, err.text);
}

void config_release_sign(struct config *c)
{
    for (size_t i = 0; i < c->n_siblings; i++)
        free(c->siblings[i]);
    free(c->manifest_key);
    forget_key(c);
}
