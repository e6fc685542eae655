/* trireme-tracker: opens the store, serves it, ends on SIGTERM or SIGINT. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "core/log.h"
#include "core/process.h"
#include "tracker/server/server.h"
#include "wire/daemon.h"

#define TEXT_OF(n)  TEXT_OF_(n)
#define TEXT_OF_(n) #n

struct args {
    struct daemon_options common;
    const char *store, *feed, *artifact_store;
    int64_t map_gib; /* 0: the default */
    bool check;
};

#define BLOBS_SHARE 16 /* blobs/ may grow to so many times as much as meta/ */

static const struct option_row rows[] = {
    DAEMON_ROWS_PLACE(struct args, common),
    OPTION_ROW_STRING(struct args, store, "store", 0, "DIR", "the store (default: HOME/store)"),
    OPTION_ROW_STRING(struct args, feed, "feed", 0, "EP",
                      "where to publish the live feed (default: ipc below HOME)"),
    OPTION_ROW_STRING(struct args, artifact_store, "artifact-store", 0, "DIR",
                      "bytes of artifacts as files here"),
    OPTION_ROW_INT(struct args, map_gib, "map-size", 0, "GIB", 1, 4096,
                   "what meta/ may grow to, and blobs/ to 16 times as much: address space "
                   "(default: 256, or less where a limit leaves less)"),
    OPTION_ROW_FLAG(struct args, check, "check", 0,
                    "serve nothing: read all of the store, check every sum, and end"),
    DAEMON_ROWS_SERVICE(struct args, common),
    OPTION_END};

static const struct command_help help = {
    .usage = "trireme-tracker [options]",
    .summary = "remembers runs, metrics, artifacts, sweeps and models, and serves them over ZeroMQ",
    .details =
        "A tcp:// endpoint needs --keys and --allowed. SIGTERM stores and answers what was "
        "received, "
        "then ends.\n"
        "Exit codes: 0 ended by a signal, or --check found the store whole, 2 wrong options, 6 "
        "store damaged or of a later version,\n"
        "7 disk full, 8 store or endpoint in use, 9 refused (network filesystem, tcp without "
        "keys)."};

static const struct daemon self = {.name = "trireme-tracker",
                                   .room = "tracker",
                                   .more = ", store format " TEXT_OF(STORE_FORMAT),
                                   .rows = rows,
                                   .help = &help};

/* What main holds until the end. */
struct program {
    struct args args;
    char home[PATH_TEXT_MAX], store_dir[PATH_TEXT_MAX], coordinator[PATH_TEXT_MAX];
    char endpoint[PATH_TEXT_MAX], feed[PATH_TEXT_MAX];
    struct daemon_keys keys;
    struct net *net;
    struct store *store;
    struct server *server;
};

/* For tests that fill a store: bytes of a map, from the environment. */
static enum status map_bytes(const char *name, size_t *out, struct err *err) {
    const char *text = getenv(name);
    if (text == NULL)
        return STATUS_OK;
    char *end;
    errno = 0;
    unsigned long long v = strtoull(text, &end, 10);
    if (errno != 0 || *end != '\0' || end == text || v < 65536)
        return err_set(err, STATUS_INVALID, "%s must be a number of bytes of at least 65536", name);
    *out = (size_t)v;
    return STATUS_OK;
}

static enum status find_places(struct program *p, struct err *err) {
    enum status st = STATUS_OK;
    struct option_list *endpoints = &p->args.common.endpoints;
    TRY(daemon_home(&self, &p->args.common, p->home, err));
    if (p->args.store == NULL)
        TRY(path_join(p->store_dir, p->home, "store", err));
    else
        TRY(path_absolute(p->store_dir, p->args.store, err));
    TRY(path_join(p->coordinator, p->home, "run/coordinator.lock", err));
    if (endpoints->count == 0) {
        TRY(path_endpoint(p->home, "tracker", p->endpoint, err));
        endpoints->items[endpoints->count++] = p->endpoint;
    }
    if (p->args.feed == NULL)
        TRY(path_endpoint(p->home, "feed", p->feed, err));
out:
    return st;
}

static enum status open_all(struct program *p, struct err *err) {
    enum status st = STATUS_OK;
    struct store_options store = {.clock = &clock_system, .artifact_dir = p->args.artifact_store};
    struct server_options server = {
        .clock = &clock_system, .feed = p->feed, .coordinator = p->coordinator};
    TRY(map_bytes("TRIREME_STORE_META_BYTES", &store.meta_bytes, err));
    TRY(map_bytes("TRIREME_STORE_BLOBS_BYTES", &store.blobs_bytes, err));
    if (p->args.map_gib != 0) {
        store.meta_bytes = (size_t)p->args.map_gib << 30;
        store.blobs_bytes = store.meta_bytes * BLOBS_SHARE;
    }
    TRY(daemon_keys_load(&p->args.common, &p->keys, err));
    server.keys = p->keys.own;
    TRY(daemon_endpoints(&p->args.common, SERVER_ENDPOINTS_MAX, server.endpoints,
                         &server.endpoint_count, err));
    if (p->args.feed != NULL)
        server.feed = p->args.feed;
    TRY(store_open(p->store_dir, &store, &p->store, err));
    log_line(LOG_INFO, "store", "dir=%s format=%d", p->store_dir, STORE_FORMAT);
    TRY(net_new(&p->net, err));
    TRY(server_new(p->net, p->store, &server, &p->server, err));
out:
    return st;
}

static enum status check(struct program *p, struct err *err) {
    enum status st = STATUS_OK;
    struct store_options options = {
        .clock = &clock_system, .artifact_dir = p->args.artifact_store, .whole = true};
    struct store_checked all;
    if (access(p->store_dir, F_OK) != 0)
        TRY(err_errno(err, errno, "open store %s", p->store_dir));
    TRY(store_open(p->store_dir, &options, &p->store, err));
    TRY(store_check(p->store, &all, err));
    log_line(LOG_INFO, "store-whole", "dir=%s records=%llu points=%llu artifacts=%llu bytes=%llu",
             p->store_dir, (unsigned long long)all.records, (unsigned long long)all.points,
             (unsigned long long)all.blobs, (unsigned long long)all.bytes);
out:
    return st;
}

static enum status run(struct program *p, int argc, char **argv, struct err *err) {
    enum status st = STATUS_OK;
    TRY(daemon_begin(&self, argc, argv, &p->args.common, err));
    if (p->args.common.done)
        goto out;
    TRY(daemon_need_descriptors(err));
    TRY(find_places(p, err));
    if (p->args.check) {
        TRY(check(p, err));
        goto out;
    }
    TRY(open_all(p, err));
    TRY(process_say_ready(p->args.common.ready_fd, err));
    TRY(server_run(p->server, err));
    log_line(LOG_INFO, "stopped", "%s", "");
out:
    return st;
}

int main(int argc, char **argv) {
    process_guard_stdio();
    struct program p = {0};
    struct err err = {.status = STATUS_OK};
    enum status st = run(&p, argc, argv, &err);
    int exit_code = daemon_end(&self, &p.args.common, st, &err);
    server_destroy(&p.server);
    net_destroy(&p.net);
    store_close(&p.store);
    return exit_code;
}
