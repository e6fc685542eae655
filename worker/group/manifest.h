/* The run's manifest: everything that its bits depend on, and where it ran (design, section 6).
 *
 *     {config, seed, virtual_shards, ranks, data, model, engine, exchange, exchange_because, device,
 *      libraries, build, version, host, environment, resumed_from, started_ns}
 *
 * Replay trains from `config` alone, and compares the rest to explain what differs. */
#ifndef WORKER_GROUP_MANIFEST_H
#define WORKER_GROUP_MANIFEST_H

#include "core/buf.h"
#include "wire/net.h"
#include "worker/train/trainer.h"

/* `resumed_from`: {run, step} or NULL. */
struct value *manifest_make(struct arena *a, const struct trainer *t, struct world *w,
                            const struct device *device, const struct value *resumed_from);

/* It travels in one header, and comes back in that of run.get beside the configuration, the series and
 * the artifacts. */
#define MANIFEST_BYTES_MAX (NET_HEADER_MAX / 2)

/* TOO_LARGE, with what makes it so: asked before anything is trained. */
enum status manifest_fits(const struct value *manifest, struct err *err) MUST_USE;

/* Where the machine or the programs differ: "library onednn: 2.6.3 then, 3.1 now; …"; "" where they
 * do not. Data is not compared here. */
void manifest_differences(const struct value *then, const struct value *now, struct buf *out);

#endif
