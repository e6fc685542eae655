/* A version in a Triton model repository, by renames alone. */
#include "serving/export/triton.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/json.h"
#include "core/name.h"
#include "core/path.h"
#include "core/process.h"

#define STATE_BYTES_MAX ((size_t)8 << 20)
#define STAGE_DEPTH     4 /* stage/model/N/model.onnx */
#define STATE_ARENA_MAX ((size_t)64 << 20)

/* Everything about one publication. */
struct publication {
    const struct triton_version *t;
    struct arena arena;
    char repository[PATH_TEXT_MAX]; /* absolute */
    char own[PATH_TEXT_MAX];        /* PARENT/.REPO.trireme */
    char state_path[PATH_TEXT_MAX];
    char stage[PATH_TEXT_MAX];
    char model[PATH_TEXT_MAX];   /* REPO/MODEL */
    char version[PATH_TEXT_MAX]; /* REPO/MODEL/N */
    struct value *state;
    int64_t number;
    int lock;
};

/* ---- configuration ---- */

static void write_ports(struct buf *out, const char *word, const struct value *ports) {
    buf_addf(out, "%s [\n", word);
    for (size_t i = 0; ports != NULL && i < ports->count; i++) {
        const struct value *shape = value_get(ports->items[i], "shape");
        const char *dtype = value_get_string(ports->items[i], "dtype", "float32");
        buf_addf(out, "  {\n    name: \"%s\"\n    data_type: TYPE_FP%s\n    dims: [ ",
                 value_get_string(ports->items[i], "name", ""),
                 strcmp(dtype, "float64") == 0 ? "64" : "32");
        for (size_t k = 1; shape != NULL && k < shape->count; k++) /* the batch is not named */
            buf_addf(out, "%s%lld", k > 1 ? ", " : "", (long long)shape->items[k]->integer);
        buf_addf(out, " ]\n  }%s\n", i + 1 < ports->count ? "," : "");
    }
    buf_adds(out, "]\n");
}

/* The text format of Protocol Buffers: JSON leaves only quotes and backslashes to escape. */
static void write_parameter(struct buf *out, const char *key, const char *text) {
    buf_addf(out, "parameters: { key: \"trireme.%s\" value: { string_value: \"", key);
    for (; *text != '\0'; text++) {
        if (*text == '"' || *text == '\\')
            buf_add(out, "\\", 1);
        buf_add(out, text, 1);
    }
    buf_adds(out, "\" } }\n");
}

static void write_json_parameter(struct buf *out, const char *key, const struct value *v) {
    struct buf text = BUF_INIT(TRITON_PARAMETER_MAX);
    if (v != NULL && json_dump(v, JSON_COMPACT, &text, NULL) == STATUS_OK)
        write_parameter(out, key, buf_text(&text));
    buf_release(&text);
}

void triton_config(const struct triton_version *t, int64_t version, struct buf *out) {
    buf_addf(out, "name: \"%s\"\nplatform: \"onnxruntime_onnx\"\nmax_batch_size: %d\n", t->model,
             TRITON_BATCH_MAX);
    write_ports(out, "input", value_get(t->signature, "inputs"));
    write_ports(out, "output", value_get(t->signature, "outputs"));
    buf_addf(out, "version_policy: { specific: { versions: [ %lld ] } }\n", (long long)version);
    write_parameter(out, "run", t->run);
    write_json_parameter(out, "inputs", t->inputs);
    write_json_parameter(out, "outputs", t->outputs);
    write_json_parameter(out, "example", t->example);
}

/* ---- files ---- */

static enum status sync_directory(const char *path, struct err *err) {
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return err_errno(err, errno, "%s", path);
    int rc = fsync(fd), why = errno;
    close(fd);
    return rc == 0 ? STATUS_OK : err_errno(err, why, "fsync %s", path);
}

static enum status exists(const char *path, bool *out, struct err *err) {
    struct stat about;
    *out = lstat(path, &about) == 0;
    if (!*out && errno != ENOENT)
        return err_errno(err, errno, "%s", path);
    return STATUS_OK;
}

/* The stage, and what an export that died left in it. */
static void remove_tree(const char *path, int depth) {
    DIR *d = depth > 0 ? opendir(path) : NULL;
    for (struct dirent *e; d != NULL && (e = readdir(d)) != NULL;) {
        char below[PATH_TEXT_MAX];
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0 ||
            path_join(below, path, e->d_name, NULL) != STATUS_OK)
            continue;
        if (unlink(below) != 0)
            remove_tree(below, depth - 1);
    }
    if (d != NULL)
        closedir(d);
    (void)rmdir(path);
}

/* ---- places ---- */

static enum status same_filesystem(const char *a, const char *b, struct err *err) {
    struct stat x, y;
    if (stat(a, &x) != 0)
        return err_errno(err, errno, "%s", a);
    if (stat(b, &y) != 0)
        return err_errno(err, errno, "%s", b);
    if (x.st_dev != y.st_dev)
        return err_set(
            err, STATUS_INVALID,
            "%s is a mount point: versions are staged beside it and must be renamed into "
            "it; name a directory below it",
            a);
    return STATUS_OK;
}

static enum status find_places(struct publication *p, struct err *err) {
    char parent[PATH_TEXT_MAX], name[PATH_TEXT_MAX];
    enum status st;
    TRY(path_mkdirs(p->t->repository, 0755, err));
    char *real = realpath(p->t->repository, NULL);
    if (real == NULL) {
        st = err_errno(err, errno, "%s", p->t->repository);
        goto out;
    }
    int n = snprintf(p->repository, sizeof p->repository, "%s", real);
    free(real);
    char *slash = strrchr(p->repository, '/');
    if (n < 0 || n >= PATH_TEXT_MAX || slash == NULL || slash[1] == '\0') {
        st = err_set(err, STATUS_INVALID, "%s cannot be a model repository", p->t->repository);
        goto out;
    }
    (void)snprintf(parent, sizeof parent, "%.*s", (int)(slash - p->repository), p->repository);
    if (parent[0] == '\0')
        memcpy(parent, "/", 2);
    if (snprintf(name, sizeof name, ".%s.trireme", slash + 1) >= PATH_TEXT_MAX) {
        st = err_set(err, STATUS_TOO_LARGE, "%s: the path is too long", p->t->repository);
        goto out;
    }
    TRY(path_join(p->own, parent, name, err));
    TRY(path_mkdirs(p->own, 0755, err));
    TRY(same_filesystem(p->repository, p->own, err));
    (void)snprintf(name, sizeof name, "%s.json", p->t->model);
    TRY(path_join(p->state_path, p->own, name, err));
    TRY(path_join(p->stage, p->own, "stage", err));
    TRY(path_join(p->model, p->repository, p->t->model, err));
out:
    return st;
}

/* ---- numbers ---- */

static enum status read_state(struct publication *p, struct err *err) {
    struct buf text = BUF_INIT(STATE_BYTES_MAX);
    enum status st = path_read(p->state_path, &text, err);
    if (st == STATUS_NOT_FOUND) {
        p->state = value_map(&p->arena);
        value_set_int(&p->arena, p->state, "highest", 0);
        value_set(&p->arena, p->state, "versions", value_map(&p->arena));
        st = STATUS_OK;
    } else if (st == STATUS_OK) {
        st = json_parse(&p->arena, buf_text(&text), text.len, p->state_path, &p->state, err);
        const struct value *v = st == STATUS_OK ? value_get(p->state, "versions") : NULL;
        if (st == STATUS_OK && (v == NULL || v->kind != VALUE_MAP))
            st = err_set(err, STATUS_CORRUPT, "%s: it has no list of versions", p->state_path);
    }
    buf_release(&text);
    return st;
}

/* Numbers that others put there count as used too. */
static int64_t highest_used(const struct publication *p) {
    int64_t highest = value_get_int(p->state, "highest", 0);
    DIR *d = opendir(p->model);
    for (struct dirent *e; d != NULL && (e = readdir(d)) != NULL;) {
        char *end;
        long long n = strtoll(e->d_name, &end, 10);
        if (*end == '\0' && n > highest && n <= TRITON_VERSION_MAX)
            highest = n;
    }
    if (d != NULL)
        closedir(d);
    return highest;
}

/* Chooses and enters the number. *there: it is published already, with these bytes. */
static enum status take_number(struct publication *p, const char *hex, bool *there,
                               struct err *err) {
    struct buf text = BUF_INIT(STATE_BYTES_MAX);
    char key[32];
    int64_t highest = highest_used(p);
    enum status st;
    p->number = p->t->version > 0 ? p->t->version : highest + 1;
    if (p->number > TRITON_VERSION_MAX) {
        st = err_set(err, STATUS_TOO_LARGE, "model %s: no version numbers are left", p->t->model);
        goto out;
    }
    (void)snprintf(key, sizeof key, "%lld", (long long)p->number);
    TRY(path_join(p->version, p->model, key, err));
    TRY(exists(p->version, there, err));
    struct value *versions = value_get(p->state, "versions");
    const char *used = value_get_string(versions, key, NULL);
    if ((used != NULL && strcmp(used, hex) != 0) || (used == NULL && *there)) {
        st = err_set(
            err, STATUS_CONFLICT,
            "version %s of %s was used in %s for another model; export it under another name "
            "(--name)",
            key, p->t->model, p->repository);
        goto out;
    }
    value_set_string(&p->arena, versions, key, hex);
    value_set_int(&p->arena, p->state, "highest", p->number > highest ? p->number : highest);
    TRY(json_dump(p->state, JSON_PRETTY, &text, err));
    TRY(path_write(p->state_path, text.data, text.len, 0644, err));
out:
    buf_release(&text);
    return st;
}

/* ---- publishing ---- */

/* STAGE/new/model.onnx, durable. */
static enum status stage_version(struct publication *p, char staged[PATH_TEXT_MAX],
                                 struct err *err) {
    char file[PATH_TEXT_MAX];
    enum status st;
    TRY(path_join(staged, p->stage, "new", err));
    TRY(path_mkdirs(staged, 0755, err));
    TRY(path_join(file, staged, "model.onnx", err));
    TRY(path_write(file, p->t->onnx, p->t->onnx_len, 0644, err));
    TRY(sync_directory(staged, err));
out:
    return st;
}

/* Triton looks for a later mtime than it saw: a clock that went back must not hide the change. */
static void make_later(const char *staged, const char *old) {
    struct stat a, b;
    if (stat(staged, &a) != 0 || stat(old, &b) != 0)
        return;
    bool later = a.st_mtim.tv_sec > b.st_mtim.tv_sec ||
                 (a.st_mtim.tv_sec == b.st_mtim.tv_sec && a.st_mtim.tv_nsec > b.st_mtim.tv_nsec);
    struct timespec times[2] = {b.st_mtim, b.st_mtim};
    times[0].tv_sec++;
    times[1].tv_sec++;
    if (!later)
        (void)utimensat(AT_FDCWD, staged, times, 0);
}

static enum status rename_into(const char *from, const char *to, const char *directory,
                               struct err *err) {
    if (rename(from, to) != 0)
        return err_errno(err, errno, "rename to %s", to);
    return sync_directory(directory, err);
}

/* The first version: the model's whole directory in one rename. */
static enum status publish_model(struct publication *p, const char *config, struct err *err) {
    char whole[PATH_TEXT_MAX], inside[PATH_TEXT_MAX], staged[PATH_TEXT_MAX], key[32];
    enum status st;
    (void)snprintf(key, sizeof key, "%lld", (long long)p->number);
    TRY(stage_version(p, staged, err));
    TRY(path_join(whole, p->stage, "model", err));
    TRY(path_mkdirs(whole, 0755, err));
    TRY(path_join(inside, whole, key, err));
    TRY(rename_into(staged, inside, whole, err));
    TRY(path_join(inside, whole, "config.pbtxt", err));
    TRY(path_write(inside, config, strlen(config), 0644, err));
    TRY(sync_directory(whole, err));
    TRY(rename_into(whole, p->model, p->repository, err));
out:
    return st;
}

static enum status publish_version(struct publication *p, const char *config, bool there,
                                   struct err *err) {
    char staged[PATH_TEXT_MAX], final[PATH_TEXT_MAX];
    enum status st;
    if (!there) {
        TRY(stage_version(p, staged, err));
        TRY(rename_into(staged, p->version, p->model, err));
    }
    TRY(path_mkdirs(p->stage, 0755, err));
    TRY(path_join(staged, p->stage, "config.pbtxt", err));
    TRY(path_join(final, p->model, "config.pbtxt", err));
    TRY(path_write(staged, config, strlen(config), 0644, err));
    make_later(staged, final);
    TRY(rename_into(staged, final, p->model, err));
out:
    return st;
}

static enum status publish(struct publication *p, struct err *err) {
    struct digest digest;
    char hex[DIGEST_HEX], lock[PATH_TEXT_MAX];
    struct buf config = BUF_INIT(STATE_BYTES_MAX);
    bool there = false, model_there = false;
    enum status st;
    hash_bytes(p->t->onnx, p->t->onnx_len, &digest);
    hash_hex(&digest, hex);
    TRY(find_places(p, err));
    TRY(path_join(lock, p->own, "lock", err));
    TRY(process_lock(lock, &p->lock, err));
    remove_tree(p->stage, STAGE_DEPTH);
    TRY(read_state(p, err));
    TRY(take_number(p, hex, &there, err));
    triton_config(p->t, p->number, &config);
    TRY(buf_status(&config, "config.pbtxt", err));
    TRY(exists(p->model, &model_there, err));
    if (model_there)
        TRY(publish_version(p, buf_text(&config), there, err));
    else
        TRY(publish_model(p, buf_text(&config), err));
out:
    if (p->lock >= 0)
        remove_tree(p->stage, STAGE_DEPTH);
    buf_release(&config);
    return st;
}

enum status triton_publish(const struct triton_version *t, int64_t *version, struct err *err) {
    if (!name_valid(t->model, strlen(t->model)))
        return err_set(
            err, STATUS_INVALID,
            "'%.100s' cannot be a directory of a model repository; choose letters, digits, "
            "_ . - with --name",
            t->model);
    struct publication p = {.t = t, .lock = -1};
    arena_init(&p.arena, STATE_ARENA_MAX);
    enum status st = publish(&p, err);
    if (st == STATUS_OK)
        *version = p.number;
    if (p.lock >= 0)
        close(p.lock);
    arena_release(&p.arena);
    return st == STATUS_OK ? st : err_wrap(err, st, "model repository %s", t->repository);
}
