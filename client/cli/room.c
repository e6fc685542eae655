/* Notices that a sweep waits for room on the disk of its home. */
#include "client/cli/room.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/cli/text.h"
#include "core/disk.h"

enum { SAY_AFTER_MS = 2000, SAY_AGAIN_MS = 30000, REFUSED_MS = 10000 };

static int64_t wait_ms(void) {
    const char *text = getenv("TRIREME_ROOM_WAIT_MS");
    long ms = text != NULL ? strtol(text, NULL, 10) : ROOM_WAIT_MS;
    return ms > 0 && ms < 86400000 ? ms : ROOM_WAIT_MS;
}

/* Grows with every step that is reported and every trial that ends. */
static int64_t mark_of(const struct value *status) {
    const struct value *trials = value_get(status, "trials");
    int64_t mark = value_get_int(status, "finished", 0) + value_get_int(status, "created", 0);
    for (size_t i = 0; trials != NULL && i < trials->count; i++)
        mark += value_get_int(trials->items[i], "step", 0);
    return mark;
}

/* A trial that trains needs no room until it stores something: then the tracker refuses. */
static bool is_held_up(const struct cli *cli, const struct value *status, uint64_t room,
                       int64_t now_ns) {
    int64_t refused_ns = cli->tracker_daemon.full_ns;
    if (refused_ns > 0 && now_ns - refused_ns < REFUSED_MS * NS_PER_MS)
        return true;
    return room < DISK_NONE_BYTES || (room < DISK_LEAST_BYTES &&
                                      (status == NULL || value_get_int(status, "running", 0) == 0));
}

void room_look(struct room *r, const struct cli *cli, const struct value *status) {
    int64_t now_ns = clock_mono_ns(&clock_system),
            mark = status != NULL ? mark_of(status) : r->mark;
    uint64_t room = disk_room(cli->home);
    bool goes_on = mark != r->mark;
    char text[DISK_TEXT_MAX];
    r->mark = mark;
    if (goes_on || !is_held_up(cli, status, room, now_ns)) {
        r->stuck_ns = 0;
        return;
    }
    if (r->stuck_ns == 0)
        r->stuck_ns = now_ns;
    int64_t stuck_ms = (now_ns - r->stuck_ns) / NS_PER_MS, left_ms = wait_ms() - stuck_ms;
    r->over = left_ms <= 0;
    if (r->over || (stuck_ms < SAY_AFTER_MS && stuck_ms < wait_ms() / 2) ||
        (r->said_ns > 0 && now_ns - r->said_ns < SAY_AGAIN_MS * NS_PER_MS))
        return;
    r->said_ns = now_ns;
    disk_text(cli->home, room, text);
    (void)fputs("trireme: ", stderr);
    text_print_safe(text, stderr);
    (void)fprintf(stderr,
                  "; the sweep waits until there is more, and is left in %lld s otherwise\n",
                  (long long)(left_ms / 1000));
}

enum status room_refuse(const struct room *r, const struct cli *cli, const char *sweep,
                        struct err *err) {
    char text[DISK_TEXT_MAX];
    disk_text(cli->home, disk_room(cli->home), text);
    bool ours = cli->coordinator_daemon.launched_here;
    return err_set(err, r->over ? STATUS_FULL : STATUS_CANCELLED,
                   "%.400s: the sweep waited %lld s for room; what was not stored yet is done "
                   "again. Free some space, then go on with: trireme resume %s%s",
                   text, (long long)((clock_mono_ns(&clock_system) - r->stuck_ns) / NS_PER_S),
                   sweep, ours ? "" : " (its coordinator, which is not ours, still waits)");
}

enum status room_blame(const struct cli *cli, enum status st, struct err *err) {
    char text[DISK_TEXT_MAX];
    bool may = st == STATUS_TIMEOUT || st == STATUS_UNAVAILABLE || st == STATUS_IO ||
               (st == STATUS_FULL && strstr(err->text, "no space left on ") == NULL);
    uint64_t room = may ? disk_room(cli->home) : UINT64_MAX;
    if (room >= DISK_NONE_BYTES)
        return st;
    struct err why = *err; /* a daemon's log may have had no room for its last words */
    size_t len = strlen(why.text);
    while (len > 0 && (why.text[len - 1] == ' ' || why.text[len - 1] == ':'))
        why.text[--len] = '\0';
    disk_text(cli->home, room, text);
    return err_set(err, STATUS_FULL, "%.400s; free some, and try again: %s", text, why.text);
}
