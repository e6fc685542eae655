/* What mpirun and srun are started with, by the coordinator (worker groups) and by `trireme
 * replay`. */
#ifndef CLIENT_LAUNCH_H
#define CLIENT_LAUNCH_H

#include <stddef.h>

/* Settings for Open MPI on one machine and one thread a rank, "KEY=value": those that the user has
 * not set himself. Fills env[0..n) and returns n ≤ LAUNCH_SETTINGS_MAX; the strings are static. */
#define LAUNCH_SETTINGS_MAX 7
size_t launch_settings(const char *env[LAUNCH_SETTINGS_MAX]);

#endif
