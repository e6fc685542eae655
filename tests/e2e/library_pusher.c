/* pusher POINTS: logs so many points, and says in between that they are on disk; a tracker that
 * goes and comes back is no reason to stop. $PUSHER_ENDPOINT and three keys: over tcp. */
#include <stdio.h>
#include <stdlib.h>

#include <trireme.h>

int main(int argc, char **argv) {
    struct trireme_options options = {NULL, getenv("PUSHER_ENDPOINT"), getenv("PUSHER_SERVER_KEY"),
                                      getenv("PUSHER_PUBLIC_KEY"), getenv("PUSHER_SECRET_KEY")};
    trireme *t;
    char run[TRIREME_ID_SIZE], why[TRIREME_ERROR_SIZE];
    long points = argc == 2 ? strtol(argv[1], NULL, 10) : 0;
    if (trireme_open(&options, &t, why) != TRIREME_OK) {
        fprintf(stderr, "%s\n", why);
        return 1;
    }
    if (trireme_run_create(t, "pusher", NULL, run) != TRIREME_OK)
        return 2;
    printf("%s\n", run);
    for (long i = 0; i < points; i++) {
        if (trireme_metric(t, run, "loss", i, (double)i) != TRIREME_OK)
            break;
        if (i % 500 == 499) {
            if (trireme_flush(t, 60000) != TRIREME_OK)
                break;
            printf("%ld\n", i + 1);
            fflush(stdout);
        }
    }
    if (trireme_finish(t, run, "completed", NULL) != TRIREME_OK ||
        trireme_flush(t, 60000) != TRIREME_OK) {
        fprintf(stderr, "%s\n", trireme_error(t));
        return 3;
    }
    return trireme_close(&t, 0) == TRIREME_OK ? 0 : 4;
}
