/* Slots, and the demand for groups. Private to decide/; coordinator_demand is defined here too. */
#ifndef COORDINATOR_DECIDE_DEMAND_H
#define COORDINATOR_DECIDE_DEMAND_H

#include "coordinator/decide/coordinator.h"

/* The slots that groups may have together. */
int64_t demand_cap(const struct coordinator *c);

#endif
