/* A training program that records itself, with the installed header and library alone. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <trireme.h>

static void check(enum trireme_status status, const trireme *t, const char *what) {
    if (status == TRIREME_OK)
        return;
    fprintf(stderr, "%s: %d: %s\n", what, (int)status, trireme_error(t));
    exit(1);
}

/* example FILE TIMEOUT_MS: prints the id of the run. */
int main(int argc, char **argv) {
    trireme *t;
    char run[TRIREME_ID_SIZE], why[TRIREME_ERROR_SIZE];
    if (argc != 3)
        return 2;
    if (trireme_open(NULL, &t, why) != TRIREME_OK) {
        fprintf(stderr, "open: %s\n", why);
        return 1;
    }
    check(trireme_run_create(t, "library", "first", run), t, "run_create");
    check(trireme_param_real(t, run, "lr", 0.1), t, "param");
    check(trireme_param_int(t, run, "hidden", 64), t, "param");
    check(trireme_param(t, run, "act", "relu"), t, "param");
    check(trireme_tag(t, run, "who", "you"), t, "tag");
    for (int step = 0; step < 10000; step++) {
        check(trireme_metric(t, run, "loss", step, 1.0 / (step + 1)), t, "metric");
        if (step % 100 == 0)
            check(trireme_metric(t, run, "error", step, step == 0 ? NAN : 0.5), t, "metric");
    }
    check(trireme_artifact(t, run, "notes.txt", "it works", 8), t, "artifact");
    int timeout_ms = (int)strtol(argv[2], NULL, 10);
    if (timeout_ms > 0)
        check(trireme_artifact_file(t, run, "file.bin", argv[1]), t, "artifact_file");
    check(trireme_finish(t, run, "completed", "all steps done"), t, "finish");
    if (timeout_ms > 0) {
        check(trireme_flush(t, timeout_ms), t, "flush");
        check(trireme_param_real(t, run, "lr", 0.2), t, "param"); /* refused later */
        if (trireme_flush(t, timeout_ms) != TRIREME_CONFLICT || *trireme_error(t) == '\0')
            return 3;
    }
    if (trireme_close(&t, timeout_ms) != TRIREME_OK || t != NULL)
        return 4;
    printf("%s\n", run);
    return 0;
}
