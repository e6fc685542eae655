/* The beginning and the end that daemons have in common. */
#include "wire/daemon.h"

#include <stdio.h>
#include <sys/resource.h>

#include "core/log.h"
#include "core/output.h"
#include "core/version.h"

#define DESCRIPTORS_RAISED 1024

enum status daemon_begin(const struct daemon *d, int argc, char **argv,
                         struct daemon_options *options, struct err *err) {
    struct operands operands = {0};
    options->ready_fd = -1;
    enum status st = options_parse(d->rows, argc, argv, options, &operands, err);
    if (st != STATUS_OK)
        return st;
    options->done = operands.help || options->version;
    if (operands.help)
        options_help(stdout, d->help, d->rows);
    else if (options->version)
        (void)printf("%s %s%s\n", d->name, TRIREME_VERSION, d->more != NULL ? d->more : "");
    else if (operands.count > 0)
        return err_set(err, STATUS_INVALID, "'%.80s' is not an option; %s takes no operand",
                       operands.items[0], d->name);
    return STATUS_OK;
}

enum status daemon_home(const struct daemon *d, const struct daemon_options *options,
                        char home[PATH_TEXT_MAX], struct err *err) {
    enum status st = log_open(d->room, options->log, err);
    if (st != STATUS_OK)
        return st;
    st = options->home != NULL ? path_absolute(home, options->home, err) : path_home(home, err);
    return st == STATUS_OK ? path_mkdirs(home, 0700, err) : st;
}

enum status daemon_need_descriptors(struct err *err) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= DAEMON_DESCRIPTORS_LEAST)
        return STATUS_OK;
    rlim_t had = limit.rlim_cur;
    if (limit.rlim_max >= DAEMON_DESCRIPTORS_LEAST) {
        limit.rlim_cur = limit.rlim_max < DESCRIPTORS_RAISED ? limit.rlim_max : DESCRIPTORS_RAISED;
        if (setrlimit(RLIMIT_NOFILE, &limit) == 0) {
            log_line(LOG_WARN, "descriptors", "limit=%llu raised=%llu", (unsigned long long)had,
                     (unsigned long long)limit.rlim_cur);
            return STATUS_OK;
        }
    }
    return err_set(err, STATUS_DENIED,
                   "the limit of %llu open descriptors is too low, %d are needed; raise it "
                   "(ulimit -n)",
                   (unsigned long long)had, DAEMON_DESCRIPTORS_LEAST);
}

enum status daemon_endpoints(const struct daemon_options *options, size_t max, const char **out,
                             size_t *count, struct err *err) {
    const struct option_list *list = &options->endpoints;
    if (list->count > max)
        return err_set(err, STATUS_INVALID, "%zu endpoints; at most %zu may be given", list->count,
                       max);
    for (*count = 0; *count < list->count; ++*count)
        out[*count] = list->items[*count];
    return STATUS_OK;
}

static const struct net_keys *keys_to(struct daemon_keys *k, size_t i, const char *server_key) {
    if (server_key == NULL)
        return NULL;
    k->keys[i] = k->keys[0];
    k->keys[i].allowed_dir = NULL;
    k->keys[i].server_key = server_key;
    return &k->keys[i];
}

enum status daemon_keys_load(const struct daemon_options *options, struct daemon_keys *out,
                             struct err *err) {
    *out = (struct daemon_keys){.own = NULL};
    if (options->keys == NULL)
        return STATUS_OK;
    enum status st = net_pair_load(options->keys, &out->pair, err);
    if (st != STATUS_OK)
        return st;
    out->keys[0] = (struct net_keys){.public_key = out->pair.public_key,
                                     .secret_key = out->pair.secret_key,
                                     .allowed_dir = options->allowed};
    out->own = &out->keys[0];
    out->tracker = keys_to(out, 1, options->tracker_key);
    out->coordinator = keys_to(out, 2, options->coordinator_key);
    return STATUS_OK;
}

int daemon_end(const struct daemon *d, const struct daemon_options *options, enum status st,
               const struct err *err) {
    struct err unwritten = {.status = STATUS_OK};
    if (st == STATUS_OK) {
        st = output_finish(&unwritten);
        err = &unwritten;
    }
    if (st != STATUS_OK) {
        log_err(LOG_ERROR, "failed", err);
        if (options->log != NULL)
            (void)fprintf(stderr, "%s: %s\n", d->name, err->text);
    }
    return status_exit_code(st);
}
