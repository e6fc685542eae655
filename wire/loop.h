/* One thread's loop: sockets, file descriptors, signals and timers.
 *
 *     drop removed sources ─▶ wait (at most until the next timer) ─▶ ready sources ─▶ due timers ─┐
 *              ▲                                                                                  │
 *              └──────────────────────────────────────────────────────────────────────────────────┘
 *
 * A callback may add and remove what it likes, itself included. What a source leaves unread wakes
 * the loop again at once (level-triggered): a callback takes a bounded batch and returns.
 *
 * Threading: a loop belongs to one thread. Everything added stays the caller's and must outlive the
 * loop or be removed. */
#ifndef WIRE_LOOP_H
#define WIRE_LOOP_H

#include "core/clock.h"
#include "wire/net.h"

struct loop;
typedef void loop_fn(void *arg);

enum status loop_new(const struct clock *clock, struct loop **out, struct err *err) MUST_USE;
void loop_destroy(struct loop **loop);

/* Calls fn while the source is readable, or has failed or hung up. FULL: no room for one more. */
enum status loop_add_socket(struct loop *l, struct net_socket *s, loop_fn *fn, void *arg,
                            struct err *err) MUST_USE;
enum status loop_add_fd(struct loop *l, int fd, loop_fn *fn, void *arg, struct err *err) MUST_USE;
void loop_remove_socket(struct loop *l, struct net_socket *s);
void loop_remove_fd(struct loop *l, int fd);

/* Calls fn every period_ms (first after one period). A timer that has missed periods fires once. */
enum status loop_add_timer(struct loop *l, int64_t period_ms, loop_fn *fn, void *arg,
                           struct err *err) MUST_USE;

/* Blocks the signal and calls fn from the loop when it arrives (signalfd). */
enum status loop_add_signal(struct loop *l, int signo, loop_fn *fn, void *arg,
                            struct err *err) MUST_USE;

/* Runs until loop_stop. */
enum status loop_run(struct loop *l, struct err *err) MUST_USE;
void loop_stop(struct loop *l);

#endif
