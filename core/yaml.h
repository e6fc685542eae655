/* YAML text to value trees, by libyaml (the only file that includes it is yaml.c).
 *
 * The core schema of YAML 1.2: plain scalars become null, bool (true|false), int (decimal, 0x, 0o),
 * real (also .inf, .nan, refused later by the schema where bounds are given) or string; quoted
 * scalars are strings. Refused with file:line:column: duplicate keys, anchors and aliases, tags,
 * several documents, keys that are not scalars, depth over VALUE_DEPTH_MAX, text over
 * YAML_TEXT_MAX. An empty document is an empty map. Every node carries its line and column. */
#ifndef CORE_YAML_H
#define CORE_YAML_H

#include "core/value.h"

#define YAML_TEXT_MAX ((size_t)1 << 20)

enum status yaml_parse(struct arena *a, const char *text, size_t len, const char *file,
                       struct value **out, struct err *err) MUST_USE;
enum status yaml_load(struct arena *a, const char *path, struct value **out,
                      struct err *err) MUST_USE;

#endif
