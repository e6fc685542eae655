/* Items that cannot be recorded, among those that can: each is refused at its call, none spoils another.
 * Prints the run, then what each wrong call returned. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "trireme.h"

static void tell(trireme *t, const char *what, enum trireme_status st) {
    printf("%s %d %s\n", what, (int)st, st == TRIREME_OK ? "" : trireme_error(t));
}

int main(void) {
    trireme *t;
    char run[TRIREME_ID_SIZE], none[TRIREME_ID_SIZE], why[TRIREME_ERROR_SIZE], longer[300] = "";
    memset(longer, 'x', sizeof longer - 1);
    if (trireme_open(NULL, &t, why) != TRIREME_OK || trireme_run_create(t, "names", NULL, run))
        return 1;
    printf("%s\n", run);
    for (int i = 0; i < 1000; i++) {
        if (trireme_metric(t, run, "loss", i, 1.0 / (i + 1)))
            return 2;
        if (i == 500) {
            tell(t, "metric-latin1", trireme_metric(t, run, "pr\xe9" "cision", i, 1));
            tell(t, "metric-empty", trireme_metric(t, run, "", i, 1));
            tell(t, "metric-long", trireme_metric(t, run, longer, i, 1));
            tell(t, "metric-escape", trireme_metric(t, run, "a\033[2J", i, 1));
            tell(t, "metric-bidi", trireme_metric(t, run, "a\xe2\x80\xae", i, 1));
            tell(t, "metric-no-run", trireme_metric(t, "nonsense", "loss", i, 1));
        }
    }
    tell(t, "param-name", trireme_param(t, run, "b\xff", "v"));
    tell(t, "param-value", trireme_param(t, run, "p", "b\xff"));
    tell(t, "param-nan", trireme_param_real(t, run, "lr", NAN));
    tell(t, "param-no-run", trireme_param_int(t, "nonsense", "n", 1));
    tell(t, "tag-name", trireme_tag(t, run, "a\nb", "v"));
    tell(t, "experiment", trireme_run_create(t, "a\033[2J", NULL, none));
    tell(t, "run-name", trireme_run_create(t, "names", longer, none));
    tell(t, "path-up", trireme_artifact(t, run, "../x", "x", 1));
    tell(t, "path-latin1", trireme_artifact(t, run, "\xe9", "x", 1));
    tell(t, "path-of-file", trireme_artifact_file(t, run, "/x", "/dev/null"));
    tell(t, "state", trireme_finish(t, run, "finished", NULL));
    tell(t, "null-experiment", trireme_run_create(t, NULL, NULL, none));
    tell(t, "null-run", trireme_param(t, NULL, "p", "v"));
    tell(t, "null-name", trireme_metric(t, run, NULL, 0, 1));
    tell(t, "null-value", trireme_param(t, run, "p", NULL));
    tell(t, "null-tag", trireme_tag(t, run, "p", NULL));
    tell(t, "null-bytes", trireme_artifact(t, run, "x", NULL, 1));
    tell(t, "null-file", trireme_artifact_file(t, run, "x", NULL));
    tell(t, "null-state", trireme_finish(t, run, NULL, NULL));
    for (int i = 0; i < 256; i++) { /* with loss one too many */
        char name[16];
        (void)sprintf(name, "m%d", i);
        enum trireme_status st = trireme_metric(t, run, name, 0, i);
        if (i < 255 ? st != TRIREME_OK : st == TRIREME_OK)
            return 3;
    }
    tell(t, "metric-257", trireme_metric(t, run, "one-more", 0, 1));
    if (trireme_param_real(t, run, "lr", 0.5) || trireme_artifact(t, run, "good", "x", 1) ||
        trireme_finish(t, run, "completed", NULL) || trireme_flush(t, 10000))
        return 4;
    return trireme_close(&t, 10000) == TRIREME_OK ? 0 : 5;
}
