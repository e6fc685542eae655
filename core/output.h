/* The end of a program's standard output: whether all that was printed has arrived. */
#ifndef CORE_OUTPUT_H
#define CORE_OUTPUT_H

#include "core/status.h"

/* IO: nobody can write there (it was closed). What acts and then prints asks first: afterwards it is too late. */
enum status output_ready(struct err *err) MUST_USE;

/* The last thing that a program does with it (sooner does no harm). FULL or IO: something printed did not arrive, however long ago. A reader that has left (`| head`) has what it wanted: OK. */
enum status output_finish(struct err *err) MUST_USE;

#endif
