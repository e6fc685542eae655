/* trireme tracker, coordinator, worker: names for the sibling programs. */
#include "client/cli/commands.h"

const struct command command_tracker = {
    .name = "tracker", .help = {.summary = "run the tracker daemon"}, .program = "trireme-tracker"};

const struct command command_coordinator = {.name = "coordinator",
                                            .help = {.summary = "run the coordinator daemon"},
                                            .program = "trireme-coordinator"};

const struct command command_worker = {
    .name = "worker",
    .help = {.summary = "run a rank of a worker group (under mpirun or srun)"},
    .program = "trireme-worker"};
