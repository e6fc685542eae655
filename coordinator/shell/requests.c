/* Requests: who may send them, what they need first, who handles them. */
#include <string.h>

#include "coordinator/shell/shell_private.h"
#include "core/version.h"
#include "wire/message.h"

#define TICK_BYTES ((size_t)64 << 20) /* a batch ends when its messages fill so much */

/* A request on its way in. */
struct incoming {
    struct net_socket *socket;
    const struct net_message *message;
    const struct message_type *type;
    const struct value *request;
};

/* ---- what the shell answers itself ---- */

static void answer_hello(struct shell *s, struct value **reply) {
    struct value *v = value_map(&s->tick);
    value_set_string(&s->tick, v, "server", "trireme-coordinator");
    value_set_string(&s->tick, v, "version", TRIREME_VERSION);
    value_set_int(&s->tick, v, "format", 1);
    *reply = v;
}

static void answer_shutdown(struct shell *s, struct value **reply) {
    (void)reply;
    shell_begin_stop(s, "the coordinator was asked to shut down");
}

static const struct shell_op {
    const char *name;
    void (*handle)(struct shell *s, struct value **reply);
} shell_ops[] = {
    {.name = "hello", .handle = answer_hello},
    {.name = "coordinator.shutdown", .handle = answer_shutdown},
};

static const struct shell_op *find_shell_op(const char *name) {
    for (size_t i = 0; i < sizeof shell_ops / sizeof shell_ops[0]; i++)
        if (strcmp(shell_ops[i].name, name) == 0)
            return &shell_ops[i];
    return NULL;
}

/* ---- what the core answers ---- */

/* What the shell notes of a group's request before the core hears it. */
static enum status note_group(struct shell *s, const struct incoming *in, struct err *err) {
    enum status st = STATUS_OK;
    const char *group = value_get_string(in->request, "group", NULL);
    const char *token = value_get_string(in->request, "launch", NULL);
    if (group != NULL)
        TRY(shell_note_peer(s, group, in->socket, &in->message->peer, err));
    if (s->launcher != NULL && token != NULL && !launcher_hello(s->launcher, token))
        st = err_set(err, STATUS_CONFLICT, "the process that started this group has ended");
out:
    return st;
}

static enum status ask_core(struct shell *s, const struct coordinator_op *op,
                            const struct incoming *in, struct value **reply, struct err *err) {
    enum status st = STATUS_OK;
    const char *sweep = value_get_string(in->request, "sweep", "");
    TRY(note_group(s, in, err));
    /* Sweeps that are over are not in memory after a restart. */
    if (op->fetch && !coordinator_knows(s->core, sweep))
        TRY(shell_restore_one(s, sweep, err));
    struct turn turn = shell_turn(s);
    st = coordinator_handle(&turn, in->request, reply, err);
    if (st == STATUS_NOMEM || st == STATUS_CORRUPT)
        shell_give_up(s, err);
out:
    return st;
}

static enum status serve(struct shell *s, const struct incoming *in, struct value **reply,
                         struct err *err) {
    const char *name = value_get_string(in->request, "op", "");
    const struct shell_op *ours = find_shell_op(name);
    const struct coordinator_op *op = coordinator_find_op(name);
    if (ours == NULL && op == NULL)
        return err_set(err, STATUS_INVALID, "%s is not for the coordinator", name);
    enum status st = message_allows(in->type, in->message->role, err);
    if (st != STATUS_OK)
        return st;
    if (ours == NULL)
        return ask_core(s, op, in, reply, err);
    ours->handle(s, reply);
    return STATUS_OK;
}

/* ---- taking them ---- */

static void take_request(struct shell *s, struct net_socket *socket, struct net_message *m) {
    struct message request;
    struct value *fields = NULL;
    struct err err = {.status = STATUS_OK};
    enum status st = message_parse(&s->tick, m->header.data, m->header.len, &request, &err);
    struct incoming in = {
        .socket = socket, .message = m, .type = request.type, .request = request.header};
    if (st == STATUS_OK)
        st = serve(s, &in, &fields, &err);
    struct value *answer = st == STATUS_OK ? message_reply(&s->tick, request.id)
                                           : message_failure(&s->tick, request.id, &err);
    for (size_t i = 0; st == STATUS_OK && fields != NULL && i < fields->count; i++)
        value_set(&s->tick, answer, fields->members[i].key, fields->members[i].value);
    shell_add_answer(s, socket, &m->peer, answer);
}

void shell_take_all(struct shell *s, struct net_socket *socket) {
    while (s->answer_count < SHELL_BATCH_MAX && s->tick.bytes_used < TICK_BYTES &&
           s->fatal.status == STATUS_OK) {
        struct net_message m;
        bool got = false;
        struct err err;
        enum status st = net_receive(socket, &m, &got, &err);
        if (st != STATUS_OK && st != STATUS_INVALID) {
            shell_give_up(s, &err);
            return;
        }
        if (st == STATUS_INVALID)
            shell_add_answer(s, socket, &m.peer, message_failure(&s->tick, "", &err));
        else if (got)
            take_request(s, socket, &m);
        if (st == STATUS_OK && !got)
            return;
        net_message_release(&m);
    }
}
