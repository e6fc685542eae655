/* trireme-tracker: opens the store, serves it, ends on SIGTERM or SIGINT. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/log.h"
#include "core/options.h"
#include "core/path.h"
#include "core/process.h"
#include "core/version.h"
#include "tracker/server/server.h"

struct args {
    const char *home, *store, *feed, *artifact_store, *keys, *allowed, *log;
    struct option_list endpoints;
    int64_t ready_fd;
    bool version;
};

static const struct option_row rows[] = {
    {"home", 0, OPTION_STRING, "DIR", "state directory (default: $TRIREME_HOME)", 0, 0,
     offsetof(struct args, home)},
    {"store", 0, OPTION_STRING, "DIR", "the store (default: HOME/store)", 0, 0,
     offsetof(struct args, store)},
    {"endpoint", 'e', OPTION_LIST, "EP", "where to listen (default: ipc below HOME); repeatable", 0,
     0, offsetof(struct args, endpoints)},
    {"feed", 0, OPTION_STRING, "EP", "where to publish the live feed (default: ipc below HOME)", 0,
     0, offsetof(struct args, feed)},
    {"artifact-store", 0, OPTION_STRING, "DIR", "bytes of artifacts as files here", 0, 0,
     offsetof(struct args, artifact_store)},
    {"keys", 0, OPTION_STRING, "FILE", "our CURVE keys for tcp: NAME.secret of `trireme keygen`", 0,
     0, offsetof(struct args, keys)},
    {"allowed", 0, OPTION_STRING, "DIR", "the public keys that may come in, one file each", 0, 0,
     offsetof(struct args, allowed)},
    {"ready-fd", 0, OPTION_INT, "N", "write a byte to this descriptor when all is bound", 0, 65535,
     offsetof(struct args, ready_fd)},
    {"log", 0, OPTION_STRING, "FILE", "append the log here (default: standard error)", 0, 0,
     offsetof(struct args, log)},
    {"version", 0, OPTION_FLAG, NULL, "print the version", 0, 0, offsetof(struct args, version)},
    OPTION_END};

static const struct command_help help = {
    "trireme-tracker [options]",
    "remembers runs, metrics, artifacts, sweeps and models, and serves them over ZeroMQ",
    "A tcp:// endpoint needs --keys and --allowed. SIGTERM stores and answers what was received, "
    "then ends.\n"
    "Exit codes: 0 ended by a signal, 2 wrong options, 6 store damaged or of a later version,\n"
    "7 disk full, 8 store or endpoint in use, 9 refused (network filesystem, tcp without keys)."};

/* What main holds until the end. */
struct program {
    struct args args;
    char home[PATH_TEXT_MAX], store_dir[PATH_TEXT_MAX];
    char endpoint[PATH_TEXT_MAX], feed[PATH_TEXT_MAX];
    struct net_pair pair;
    struct net_keys keys;
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
    if (p->args.home == NULL)
        TRY(path_home(p->home, err));
    else
        TRY(path_absolute(p->home, p->args.home, err));
    TRY(path_mkdirs(p->home, 0700, err));
    if (p->args.store == NULL)
        TRY(path_join(p->store_dir, p->home, "store", err));
    else
        TRY(path_absolute(p->store_dir, p->args.store, err));
    if (p->args.endpoints.count == 0)
        TRY(path_endpoint(p->home, "tracker", p->endpoint, err));
    if (p->args.feed == NULL)
        TRY(path_endpoint(p->home, "feed", p->feed, err));
out:
    return st;
}

static enum status open_all(struct program *p, struct err *err) {
    enum status st = STATUS_OK;
    struct store_options store = {.clock = &clock_system, .artifact_dir = p->args.artifact_store};
    struct server_options server = {.clock = &clock_system, .feed = p->feed};
    TRY(map_bytes("TRIREME_STORE_META_BYTES", &store.meta_bytes, err));
    TRY(map_bytes("TRIREME_STORE_BLOBS_BYTES", &store.blobs_bytes, err));
    if (p->args.keys != NULL) {
        TRY(net_pair_load(p->args.keys, &p->pair, err));
        p->keys = (struct net_keys){.public_key = p->pair.public_key,
                                    .secret_key = p->pair.secret_key,
                                    .allowed_dir = p->args.allowed};
        server.keys = &p->keys;
    }
    if (p->args.endpoints.count > SERVER_ENDPOINTS_MAX)
        return err_set(err, STATUS_INVALID, "at most %d endpoints", SERVER_ENDPOINTS_MAX);
    for (size_t i = 0; i < p->args.endpoints.count; i++)
        server.endpoints[server.endpoint_count++] = p->args.endpoints.items[i];
    if (server.endpoint_count == 0)
        server.endpoints[server.endpoint_count++] = p->endpoint;
    if (p->args.feed != NULL)
        server.feed = p->args.feed;
    TRY(store_open(p->store_dir, &store, &p->store, err));
    log_line(LOG_INFO, "store", "dir=%s format=%d", p->store_dir, STORE_FORMAT);
    TRY(net_new(&p->net, err));
    TRY(server_new(p->net, p->store, &server, &p->server, err));
out:
    return st;
}

static enum status run(struct program *p, int argc, char **argv, struct err *err) {
    enum status st = STATUS_OK;
    struct operands operands;
    p->args.ready_fd = -1;
    TRY(options_parse(rows, argc, argv, &p->args, &operands, err));
    if (operands.help) {
        options_help(stdout, &help, rows);
        goto out;
    }
    if (p->args.version) {
        printf("trireme-tracker %s, store format %d\n", TRIREME_VERSION, STORE_FORMAT);
        goto out;
    }
    if (operands.count > 0)
        return err_set(err, STATUS_INVALID, "trireme-tracker takes no operand: '%.80s'",
                       operands.items[0]);
    TRY(log_open("tracker", p->args.log, err));
    TRY(find_places(p, err));
    TRY(open_all(p, err));
    TRY(process_say_ready(p->args.ready_fd, err));
    TRY(server_run(p->server, err));
    log_line(LOG_INFO, "stopped", "%s", "");
out:
    return st;
}

int main(int argc, char **argv) {
    struct program p = {0};
    struct err err = {.status = STATUS_OK};
    enum status st = run(&p, argc, argv, &err);
    if (st != STATUS_OK) {
        log_err(LOG_ERROR, "failed", &err);
        if (p.args.log != NULL)
            (void)fprintf(stderr, "trireme-tracker: %s\n", err.text);
    }
    server_destroy(&p.server);
    net_destroy(&p.net);
    store_close(&p.store);
    return status_exit_code(st);
}
