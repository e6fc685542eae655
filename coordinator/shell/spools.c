/* What groups of this home could not tell the tracker before they ended: their spools, read and sent.
 *
 *     HOME/cache/worker-<group>.spool ──▶ a session of its own ──▶ tracker ──▶ the file is removed
 *
 * One at a time. A living group holds its spool's lock; so does the session here. A run that has ended
 * otherwise than by the loss of its group refuses what is late, and that is the end of it. */
#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "coordinator/shell/shell_private.h"
#include "core/log.h"

#define LOOK_MS   1000
#define YOUNG_S   2 /* a group may have made its spool, and not locked it yet */
#define FLUSH_MAX 200

static const char before[] = "worker-", after[] = ".spool";

static bool is_spool(const char *name) {
    size_t len = strlen(name), ends = sizeof before + sizeof after - 2;
    return len > ends && strncmp(name, before, sizeof before - 1) == 0 &&
           strcmp(name + len - (sizeof after - 1), after) == 0;
}

static void on_late(void *arg, const struct value *request, enum status st,
                    const struct value *reply, const struct err *err) {
    (void)arg, (void)reply;
    if (st != STATUS_OK)
        log_line(LOG_WARN, "late_refused", "op=%s run=%s text=\"%s\"",
                 value_get_string(request, "op", ""), value_get_string(request, "run", ""),
                 err != NULL ? err->text : "");
}

/* It cannot be read: out of the way, for a person to look at. */
static void put_aside(const char *path, const struct err *why) {
    char aside[PATH_TEXT_MAX + 8];
    (void)snprintf(aside, sizeof aside, "%s.bad", path);
    log_line(LOG_ERROR, "spool", "file=%s kept_as=%s text=\"%s\"", path, aside, why->text);
    (void)rename(path, aside);
}

static void open_spool(struct shell *s, const char *path) {
    struct err err;
    struct session_options options = {.endpoint = s->options.tracker,
                                      .keys = s->options.spool_keys,
                                      .spool = path,
                                      .clock = s->options.clock,
                                      .on_answer = on_late};
    enum status st = session_open(s->net, &options, &s->spool, &err);
    if (st == STATUS_CORRUPT || st == STATUS_TOO_NEW)
        put_aside(path, &err);
    else if (st == STATUS_OK && session_pending(s->spool) > 0)
        log_line(LOG_INFO, "deliver", "file=%s", path);
    else if (st != STATUS_OK && st != STATUS_BUSY)
        log_err(LOG_WARN, "spool", &err);
}

static bool is_old(const char *path) {
    struct stat info;
    return stat(path, &info) == 0 && time(NULL) - info.st_mtime > YOUNG_S;
}

/* The first that nobody holds; `all`: also one that has just been written. */
static void find_spool(struct shell *s, bool all) {
    char dir[PATH_TEXT_MAX], path[PATH_TEXT_MAX];
    DIR *d = path_join(dir, s->options.home, "cache", NULL) == STATUS_OK ? opendir(dir) : NULL;
    const struct dirent *e;
    while (d != NULL && s->spool == NULL && (e = readdir(d)) != NULL)
        if (is_spool(e->d_name) && path_join(path, dir, e->d_name, NULL) == STATUS_OK &&
            (all || is_old(path)))
            open_spool(s, path);
    if (d != NULL)
        (void)closedir(d);
}

void shell_deliver(struct shell *s) {
    struct err err;
    int64_t now_ns = clock_mono_ns(s->options.clock);
    if (s->spool == NULL && now_ns >= s->spool_look_ns) {
        s->spool_look_ns = now_ns + LOOK_MS * NS_PER_MS;
        find_spool(s, false);
    }
    if (s->spool == NULL)
        return;
    if (session_pump(s->spool, &err) != STATUS_OK)
        log_err(LOG_WARN, "spool", &err);
    if (session_pending(s->spool) == 0) {
        (void)session_close(&s->spool, 0, NULL);
        s->spool_look_ns = now_ns; /* perhaps there are more */
    }
}

void shell_deliver_all(struct shell *s, int ms) {
    struct err err;
    int64_t end_ns = clock_mono_ns(s->options.clock) + ms * NS_PER_MS;
    for (int i = 0; i < FLUSH_MAX; i++) {
        int64_t left_ns = end_ns - clock_mono_ns(s->options.clock);
        if (s->spool == NULL)
            find_spool(s, true);
        if (s->spool == NULL || left_ns <= 0)
            break;
        int left_ms = (int)(left_ns / NS_PER_MS) + 1;
        enum status st =
            session_close(&s->spool, left_ms, &err); /* what is left stays in the file */
        if (st != STATUS_OK) {
            log_err(LOG_WARN, "spool", &err);
            break;
        }
    }
    if (s->spool != NULL)
        (void)session_close(&s->spool, 0, NULL);
}
