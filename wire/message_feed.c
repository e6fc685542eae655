/* What the tracker publishes on its live feed: the fields after v, topic, sequence and op. */
#include "wire/message_private.h"

static const struct field feed_points[] = {
    F_ULID("run", REQUIRED, "the run"), F_INT("rank", REQUIRED, 0, 65535, "the writer's rank"),
    F_LIST("series", REQUIRED, 0, 1024, message_series,
           "[{key, count}]: consecutive stretches of the columns"),
    FIELD_END};
static const struct field feed_run_state[] = {
    F_ULID("run", REQUIRED, "the run"),
    F_ENUM("state", REQUIRED, RUN_STATES, "the state it is in now"),
    F_STRING("reason", NULLABLE, 0, 2000, "why, where there is a reason"), FIELD_END};
static const struct field feed_events[] = {
    F_ULID("sweep", REQUIRED, "the sweep"),
    F_INT("first", REQUIRED, 1, COUNT_MAX, "sequence number of the first event in the log"),
    F_LIST("events", REQUIRED, 0, 10000, NULL, "as event.append took them"), FIELD_END};
static const struct field feed_sweep_state[] = {
    F_ULID("sweep", REQUIRED, "the sweep"),
    F_ENUM("state", REQUIRED, SWEEP_STATES, "the state it is in now"),
    F_STRING("reason", NULLABLE, 0, 2000, "why, where there is a reason"), FIELD_END};

const struct message_type message_feed[] = {
    M_READS("run.points", SERVER_FEED, .request = feed_points, .frames = MESSAGE_POINT_COLUMNS,
            .doc = "topic `run.<id>`: metric points that are on disk now"),
    M_READS("run.state", SERVER_FEED, .request = feed_run_state,
            .doc = "topic `run.<id>`: the run was created or changed its state"),
    M_READS("sweep.events", SERVER_FEED, .request = feed_events,
            .doc = "topic `sweep.<id>`: events were appended to the sweep's log"),
    M_READS("sweep.state", SERVER_FEED, .request = feed_sweep_state,
            .doc = "topic `sweep.<id>`: the sweep was created or changed its state"),
    {.op = NULL},
};
