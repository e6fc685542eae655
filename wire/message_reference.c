/* docs/WIRE.md, written from the tables, so that it cannot age. The prose is here too, so that
 * `trireme wire` prints the page of exactly this version. */
#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "wire/message.h"
#include "wire/net.h"

#define PATH_TEXT 160
#define DEPTH_MAX 4 /* of fields within fields, shown */

/* ---- statuses ---- */

static const char *const status_docs[] = {
    [STATUS_OK] = "never sent as an error",
    [STATUS_INVALID] = "the request is wrong; sending it again will not help",
    [STATUS_NOT_FOUND] = "no such run, key, model, sweep, group",
    [STATUS_AMBIGUOUS] = "several ids begin with this prefix",
    [STATUS_EXISTS] = "the name is taken by something else",
    [STATUS_CONFLICT] =
        "the state does not allow it: a final state, a changed parameter, a lost lease",
    [STATUS_CORRUPT] = "stored bytes do not match their digest or their format",
    [STATUS_TOO_NEW] =
        "a message (or a store) of a later version: update the program that answered",
    [STATUS_TOO_LARGE] = "over a maximum, which the message names",
    [STATUS_FULL] = "disk, map or queue is full; nothing was stored; try again later",
    [STATUS_BUSY] = "somebody else is using it",
    [STATUS_TIMEOUT] = "no answer in time",
    [STATUS_UNAVAILABLE] = "something the server needs is missing for now; try again",
    [STATUS_DENIED] = "your role does not allow it",
    [STATUS_NONFINITE] = "NaN or Inf where a number must be finite",
    [STATUS_CANCELLED] = "somebody asked for it to stop",
    [STATUS_IO] = "the operating system refused",
    [STATUS_NOMEM] = "the server is out of memory",
    [STATUS_INTERNAL] = "a bug: please report it with the message",
};
static_assert(sizeof status_docs / sizeof status_docs[0] == STATUS_COUNT, "one line a status");

static void write_statuses(struct buf *out) {
    buf_adds(out, "| code | meaning |\n|---|---|\n");
    for (int s = STATUS_OK + 1; s < STATUS_COUNT; s++)
        buf_addf(out, "| `%s` | %s |\n", status_name((enum status)s), status_docs[s]);
    buf_adds(out, "\n");
}

/* ---- fields ---- */

static void write_bound(struct buf *out, double v) {
    if (v >= 9.2e18)
        buf_adds(out, "2^63");
    else if (v == 9007199254740992.0)
        buf_adds(out, "2^53");
    else
        buf_addf(out, "%.15g", v);
}

static void write_range(struct buf *out, const struct field *f, const char *noun) {
    buf_adds(out, noun);
    if (!(f->min < f->max))
        return;
    buf_adds(out, ", ");
    write_bound(out, f->min);
    buf_adds(out, " to ");
    write_bound(out, f->max);
}

static void write_count(struct buf *out, const struct field *f, const char *noun, const char *unit,
                        double fallback) {
    buf_addf(out, "%s, at most ", noun);
    buf_addf(out, "%.15g %s", f->max > 0 ? f->max : fallback, unit);
}

static void write_choices(struct buf *out, const char *choices) {
    buf_adds(out, "`");
    for (const char *c = choices; *c != '\0'; c++) {
        if (*c == '|')
            buf_adds(out, "`, `");
        else
            buf_addc(out, *c);
    }
    buf_adds(out, "`");
}

static void write_type(struct buf *out, const struct field *f) {
    switch (f->type) {
    case FIELD_BOOL:
        buf_adds(out, "bool");
        break;
    case FIELD_INT:
        write_range(out, f, "integer");
        break;
    case FIELD_REAL:
        write_range(out, f, "finite number");
        break;
    case FIELD_STRING:
        write_count(out, f, "string", "bytes", 256);
        break;
    case FIELD_ULID:
        buf_adds(out, "ULID");
        break;
    case FIELD_PREFIX:
        buf_adds(out, "start of a ULID, 1 to 26 characters");
        break;
    case FIELD_DIGEST:
        buf_adds(out, "SHA-256, 64 hex digits");
        break;
    case FIELD_ENUM:
        write_choices(out, f->choices);
        break;
    case FIELD_LIST:
        write_count(out, f, "list", "items", SCHEMA_COUNT_DEFAULT);
        break;
    case FIELD_MAP:
        if (f->fields != NULL)
            buf_adds(out, "map");
        else
            write_count(out, f, "map", "keys", SCHEMA_COUNT_DEFAULT);
        break;
    case FIELD_ANY:
        buf_adds(out, "any value");
        break;
    }
    if ((f->flags & NULLABLE) != 0)
        buf_adds(out, ", or null");
}

static void write_rows(struct buf *out, const struct field *fields, const char *prefix, int depth) {
    for (const struct field *f = fields; f->name != NULL && depth < DEPTH_MAX; f++) {
        char path[PATH_TEXT];
        buf_addf(out, "| `%s%s` | ", prefix, f->name);
        write_type(out, f);
        buf_addf(out, " | %s | %s |\n", (f->flags & REQUIRED) != 0 ? "yes" : "",
                 f->doc != NULL ? f->doc : "");
        if (f->fields == NULL)
            continue;
        const char *joint = f->type == FIELD_LIST ? "[]." : ".";
        const struct field *inner = f->type == FIELD_LIST ? f->fields[0].fields : f->fields;
        (void)snprintf(path, sizeof path, "%.80s%.60s%s", prefix, f->name, joint);
        if (inner != NULL)
            write_rows(out, inner, path, depth + 1);
    }
}

static void write_fields(struct buf *out, const struct field *fields) {
    if (fields == NULL || fields[0].name == NULL) {
        buf_adds(out, "No fields.\n\n");
        return;
    }
    buf_adds(out, "| field | type | required | meaning |\n|---|---|---|---|\n");
    write_rows(out, fields, "", 0);
    buf_adds(out, "\n");
}

/* ---- messages ---- */

static void write_part(struct buf *out, const char *title, const struct field *fields,
                       const char *frames) {
    buf_addf(out, "%s\n\n", title);
    write_fields(out, fields);
    if (frames != NULL)
        buf_addf(out, "Frames: %s.\n\n", frames);
}

/* Who may send it, where that is not everybody who is let in. */
static void write_roles(struct buf *out, const struct message_type *t) {
    const char *before = "Roles: ";
    if (t->server == SERVER_GROUP || (t->roles & MESSAGE_ROLE(NET_VIEWER)) != 0)
        return;
    for (unsigned i = 0; i < NET_ROLES; i++) {
        if ((t->roles & MESSAGE_ROLE(i)) == 0)
            continue;
        buf_addf(out, "%s`%s`", before, net_role_name((enum net_role)i));
        before = ", ";
    }
    buf_adds(out, ".\n\n");
}

static void write_server(struct buf *out, enum message_server server) {
    for (const struct message_type *t = message_table(server); t->op != NULL; t++) {
        buf_addf(out, "### %s\n\n%s%s.\n\n", t->op, t->doc,
                 t->writes ? " (changes durable state: `client` and `seq` are honoured)" : "");
        write_roles(out, t);
        bool notice = server == SERVER_GROUP;
        write_part(out, notice ? "Notice:" : "Request:", t->request, t->frames);
        if (!notice)
            write_part(out, "Reply:", t->reply, t->reply_frames);
    }
}

static void write_feed(struct buf *out) {
    for (const struct message_type *t = message_table(SERVER_FEED); t->op != NULL; t++) {
        buf_addf(out, "### feed: %s\n\n%s.\n\n", t->op, t->doc);
        write_part(out, "Fields after `v`, `topic`, `sequence` and `op`:", t->request, t->frames);
    }
}

/* ---- prose ---- */

static const char introduction[] =
    "<!-- Written by `trireme wire` (make docs) from wire/message_*.c. Do not edit. -->\n"
    "# The wire\n"
    "\n"
    "Trireme's processes speak ZeroMQ with JSON headers and raw binary columns. Any language that\n"
    "has both can read and write everything on this page; there is a complete Python program "
    "below.\n"
    "\n"
    "## Where the servers are\n"
    "\n"
    "| server | socket | endpoint | connect with |\n"
    "|---|---|---|---|\n"
    "| tracker | ROUTER | `ipc://$TRIREME_HOME/run/tracker.sock` | DEALER (or REQ) |\n"
    "| live feed of the tracker | PUB | `ipc://$TRIREME_HOME/run/feed.sock` | SUB |\n"
    "| coordinator | ROUTER | `ipc://$TRIREME_HOME/run/coordinator.sock` | DEALER (or REQ) |\n"
    "\n"
    "- `TRIREME_HOME` defaults to `$XDG_STATE_HOME/trireme`, then `~/.local/state/trireme`. Where\n"
    "  `$TRIREME_HOME/run/NAME.sock` is longer than 107 bytes, the sockets are in\n"
    "  `/tmp/trireme-<uid>-<first 16 hex digits of the SHA-256 of the home path>/`. The tracker's\n"
    "  answer to `hello` names the endpoint of the feed.\n"
    "- The directory has mode 0700: whoever can open the socket is its owner and may do "
    "everything.\n"
    "- `tcp://` endpoints speak CURVE only (ZeroMQ RFC 26): the client needs the server's public\n"
    "  key and a pair of its own (`trireme keygen`), whose public half the server's administrator\n"
    "  has put into the directory of allowed keys, one file per key:\n"
    "  `<40 characters of Z85> <role> <name>` (roles: below). An unknown key gets no connection,\n"
    "  hence no answer.\n"
    "- Leave the socket's identity to ZeroMQ (the server accepts up to 16 bytes), and make a new\n"
    "  socket for each process.\n"
    "\n"
    "## Roles\n"
    "\n"
    "A role is a set of rights, not a step of a ladder: each message below says who may send it.\n"
    "\n"
    "| role | may |\n"
    "|---|---|\n"
    "| `viewer` | read |\n"
    "| `submitter` | read; submit, cancel and resume sweeps; record, seal and change runs that "
    "belong to no sweep; tag any run; promote and alias models |\n"
    "| `worker` | read; the messages of a worker group; points, artifacts, manifest and summary of "
    "runs of sweeps, while they are running or were lost less than ten minutes ago; no states |\n"
    "| `coordinator` | read; create and change sweeps, their events and the runs that belong to "
    "them |\n"
    "| `admin` | everything; who comes over `ipc://` is one |\n"
    "\n";

static const char framing[] =
    "## Framing\n"
    "\n"
    "```\n"
    "request, reply, notice   ┌ JSON header ┬ frame ┬ frame …      DEALER ⇄ ROUTER\n"
    "live feed                ┌ topic ┬ JSON header ┬ frame …      PUB ⇒ SUB\n"
    "```\n"
    "\n"
    "The header is one JSON object in UTF-8. The description of each message says what its "
    "further\n"
    "frames contain; most messages have none. A DEALER sends the header as its first frame, "
    "without\n"
    "an empty delimiter; a REQ socket's delimiter is understood and answered with one.\n"
    "\n"
    "```\n"
    "request  "
    "{\"v\":1,\"id\":\"c1-42\",\"op\":\"run.metrics\",\"run\":\"01J…\",\"key\":\"val_error\","
    "\"points\":500}\n"
    "reply    {\"id\":\"c1-42\",\"ok\":true,\"count\":500,\"total\":93750,\"sequence\":41}   + "
    "three columns\n"
    "failure  {\"id\":\"c1-42\",\"ok\":false,\"error\":{\"code\":\"not_found\",\"message\":\"there "
    "is no run 01J…\"}}\n"
    "notice   {\"v\":1,\"op\":\"trial.assign\",…}      from the coordinator to a group, unasked, "
    "no reply\n"
    "```\n"
    "\n"
    "| field of every request | type | required | meaning |\n"
    "|---|---|---|---|\n"
    "| `v` | integer | yes | version of the wire: 1. A later one is refused with `too_new` |\n"
    "| `op` | string | yes | the message's name |\n"
    "| `id` | string, 1 to 64 bytes | yes | yours to choose; the reply carries it. Unique among "
    "the requests that you are waiting for |\n"
    "| `client` | string, 1 to 64 bytes | | with `seq`: names the request forever |\n"
    "| `seq` | integer, 1 to 2^53 | | with `client`: counts up |\n"
    "\n"
    "- **Replies may come in another order than the requests.** Match them by `id`.\n"
    "- **Unknown fields are errors** (`invalid`), as are wrong types and values out of bounds; "
    "the\n"
    "  message says which field and what was expected. A reply may gain fields in later programs "
    "of\n"
    "  the same version: ignore what you do not know.\n"
    "- **Resending.** The reply to a message that changes durable state comes after the change is "
    "on\n"
    "  disk. If it does not come (server restarted, connection lost), send the same request again\n"
    "  with the same `client` and `seq` (and any `id`): it is answered with the stored reply, "
    "never\n"
    "  applied twice. Choose a `client` that nobody else uses (a ULID, a UUID) and, for each new\n"
    "  request, a `seq` greater than all before. Without `client` and `seq`, a resend is a second\n"
    "  request. Replies are kept for a day.\n"
    "- **Full queues.** A server that cannot take more answers `full`; a server whose queue to "
    "you\n"
    "  is full drops its answer. Keep fewer than a few hundred requests unanswered and use a "
    "timeout.\n"
    "- **Silence.** ZeroMQ reconnects by itself; requests that were on their way are lost. Send "
    "again\n"
    "  after a timeout of a few seconds.\n"
    "\n"
    "## Values\n"
    "\n"
    "- Ids of runs, sweeps and groups are ULIDs: 26 characters of Crockford's base 32, upper "
    "case;\n"
    "  they sort by time of creation.\n"
    "- Times (`…_ns`) are nanoseconds since 1970 (UTC), steps count from 0, both int64: parse "
    "JSON\n"
    "  integers as 64-bit integers, not as doubles.\n"
    "- Numbers are finite: JSON has no NaN and no Inf. Columns are IEEE 754 and hold any bits.\n"
    "- **Columns.** Points travel as three frames: all steps (int64), then all times in ns "
    "(int64),\n"
    "  then all values (float64), each 8 bytes little-endian. With several series in a message, "
    "the\n"
    "  series follow one another in each column, in the order of the header's `series` list, "
    "`count`\n"
    "  points each.\n"
    "\n"
    "## Errors\n"
    "\n";

static const char feed_prose[] =
    "## The live feed\n"
    "\n"
    "A PUB socket with one topic per run, `run.<id>`, and one per sweep, `sweep.<id>`. Frame 1 is "
    "the\n"
    "topic, frame 2 the header, and further frames are as the message says:\n"
    "\n"
    "```\n"
    "run.01J…\n"
    "{\"v\":1,\"topic\":\"run.01J…\",\"sequence\":42,\"op\":\"run.points\",\"run\":\"01J…\","
    "\"rank\":0,\n"
    " \"series\":[{\"key\":\"loss\",\"count\":100}]}\n"
    "<100 × int64 steps> <100 × int64 times> <100 × float64 values>\n"
    "```\n"
    "\n"
    "Subscribing to the prefix `run.` gives all runs, to the empty prefix everything. What is\n"
    "published is on disk. `sequence` counts the deltas of one topic, 1, 2, 3 …, and goes on after "
    "a\n"
    "restart of the tracker. PUB drops what a slow reader does not take, so:\n"
    "\n"
    "1. Subscribe first.\n"
    "2. Ask for the snapshot (`run.metrics`, whose reply carries the topic's `sequence`;\n"
    "   `event.read`).\n"
    "3. Drop deltas with a `sequence` up to the snapshot's; apply the one that is greater by one.\n"
    "4. Any other `sequence` is a gap: ask for the snapshot again and go on at 3. Do the same "
    "when\n"
    "   nothing has come for some seconds: the last delta may be the one that was lost.\n"
    "\n"
    "Events have numbers of their own (`first`, then one by one): a gap shows in those numbers, "
    "and\n"
    "`event.read` with `after` fetches what is missing. New values of `op` may appear: skip what "
    "you\n"
    "do not know, but count its `sequence`.\n"
    "\n";

static const char example[] =
    "## A dashboard in Python\n"
    "\n"
    "A whole program, with pyzmq: without arguments it lists the newest runs; with a run and a "
    "metric\n"
    "it follows that curve.\n"
    "\n"
    "```python\n"
    "import json, os, struct, sys\n"
    "import zmq\n"
    "\n"
    "home = os.environ.get(\"TRIREME_HOME\") or os.path.join(\n"
    "    os.environ.get(\"XDG_STATE_HOME\") or os.path.expanduser(\"~/.local/state\"), "
    "\"trireme\")\n"
    "context = zmq.Context()\n"
    "tracker = context.socket(zmq.DEALER)\n"
    "tracker.linger = 0\n"
    "tracker.connect(f\"ipc://{home}/run/tracker.sock\")\n"
    "asked = 0\n"
    "\n"
    "\n"
    "def ask(op, *frames, timeout_ms=10000, **fields):\n"
    "    \"\"\"One request; its reply's header and frames.\"\"\"\n"
    "    global asked\n"
    "    asked += 1\n"
    "    request = {\"v\": 1, \"id\": f\"py-{asked}\", \"op\": op, **fields}\n"
    "    tracker.send_multipart([json.dumps(request).encode(), *frames])\n"
    "    while tracker.poll(timeout_ms):\n"
    "        header, *columns = tracker.recv_multipart()\n"
    "        reply = json.loads(header)\n"
    "        if reply[\"id\"] != request[\"id\"]:\n"
    "            continue  # a late answer to a request that was given up\n"
    "        if not reply[\"ok\"]:\n"
    "            raise RuntimeError(\"{code}: {message}\".format(**reply[\"error\"]))\n"
    "        return reply, columns\n"
    "    raise TimeoutError(op)\n"
    "\n"
    "\n"
    "def points(columns, first, count):\n"
    "    \"\"\"[(step, time_ns, value)] of one stretch of the three columns.\"\"\"\n"
    "    part = [c[8 * first:8 * (first + count)] for c in columns]\n"
    "    return list(zip(struct.unpack(f\"<{count}q\", part[0]), struct.unpack(f\"<{count}q\", "
    "part[1]),\n"
    "                    struct.unpack(f\"<{count}d\", part[2])))\n"
    "\n"
    "\n"
    "def snapshot(run, key):\n"
    "    reply, columns = ask(\"run.metrics\", run=run, key=key, rank=0)\n"
    "    return points(columns, 0, reply[\"count\"]) if reply[\"count\"] else [], "
    "reply[\"sequence\"]\n"
    "\n"
    "\n"
    "def follow(run, key):\n"
    "    \"\"\"Yields the curve each time it has grown.\"\"\"\n"
    "    feed = context.socket(zmq.SUB)\n"
    "    feed.subscribe(f\"run.{run}\")\n"
    "    feed.connect(ask(\"hello\")[0][\"feed\"])\n"
    "    curve, last = snapshot(run, key)\n"
    "    yield curve\n"
    "    while True:\n"
    "        if not feed.poll(5000):  # silence: nothing new, or the last delta was lost\n"
    "            curve, last = snapshot(run, key)\n"
    "            yield curve\n"
    "            continue\n"
    "        topic, header, *columns = feed.recv_multipart()\n"
    "        delta = json.loads(header)\n"
    "        if delta[\"sequence\"] <= last:\n"
    "            continue  # already in the snapshot\n"
    "        if delta[\"sequence\"] > last + 1:\n"
    "            curve, last = snapshot(run, key)  # a gap\n"
    "        else:\n"
    "            last = delta[\"sequence\"]\n"
    "            if delta[\"op\"] == \"run.points\" and delta[\"rank\"] == 0:\n"
    "                first = 0\n"
    "                for series in delta[\"series\"]:\n"
    "                    if series[\"key\"] == key:\n"
    "                        curve = curve + points(columns, first, series[\"count\"])\n"
    "                    first += series[\"count\"]\n"
    "        yield curve\n"
    "\n"
    "\n"
    "if len(sys.argv) == 3:\n"
    "    for curve in follow(sys.argv[1], sys.argv[2]):\n"
    "        if curve:\n"
    "            print(f\"{len(curve)} points, step {curve[-1][0]}: {curve[-1][2]:.6g}\", "
    "flush=True)\n"
    "else:\n"
    "    for run in ask(\"run.list\", limit=20)[0][\"runs\"]:\n"
    "        print(run[\"run\"], run[\"experiment\"], run[\"state\"])\n"
    "```\n"
    "\n";

static void write_limits(struct buf *out) {
    buf_addf(
        out,
        "## Limits\n\n"
        "| what | at most |\n|---|---|\n"
        "| header | %zu bytes, %d levels deep |\n"
        "| frame | %zu bytes |\n"
        "| frames after the header | %d |\n"
        "| messages queued per peer and direction | %d |\n"
        "| identity of a peer | %d bytes |\n\n"
        "A message that exceeds one of the first three is dropped, and answered `invalid` where "
        "an answer is\npossible; a frame of more than twice the maximum ends the connection. Every "
        "string and list has a\nmaximum of its own, below.\n\n",
        NET_HEADER_MAX, VALUE_DEPTH_MAX, NET_FRAME_MAX, NET_FRAMES_MAX, NET_QUEUE_MAX,
        NET_IDENTITY_MAX);
}

void message_write_reference(struct buf *out) {
    buf_adds(out, introduction);
    buf_adds(out, framing);
    write_statuses(out);
    write_limits(out);
    buf_adds(out, example);
    buf_adds(out, feed_prose);
    write_feed(out);
    buf_adds(out, "## Messages to the tracker\n\n");
    write_server(out, SERVER_TRACKER);
    buf_adds(out, "## Messages to the coordinator\n\n");
    write_server(out, SERVER_COORDINATOR);
    buf_adds(out, "## Notices from the coordinator to a worker group\n\n"
                  "They come on the DEALER socket on which the group sent `group.hello`.\n\n");
    write_server(out, SERVER_GROUP);
}
