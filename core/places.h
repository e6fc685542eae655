/* Positions of a tree that travels as JSON. A value knows where its text was written (line and
 * column in the sweep file); JSON does not carry that. The numbers travel beside the tree, in
 * reading order, and are put back on the other side, so that a message there names the user's file:
 *
 *     {lr: 0.1, out: [3, 4]}  ──places_collect──▶  [1,1, 1,2, 1,6, 1,11, 1,16, 1,17, 1,20]
 *      a map, two members                           map  lr   0.1  out   list  3     4
 */
#ifndef CORE_PLACES_H
#define CORE_PLACES_H

#include "core/value.h"

/* A list of two integers for each node of `v` and each key, the containers before what they hold,
 * a key before its value. */
struct value *places_collect(struct arena *a, const struct value *v);

/* Gives the nodes of `v` these positions. Nodes beyond the end of the list keep no position; what
 * is not a list of integers gives none. */
void places_apply(struct value *v, const struct value *places);

#endif
