/* Rows of options. */
#include "wire/export_options.h"

#define TRACKER_ROWS                                                                               \
    OPTION_ROW_STRING(struct export_options, tracker, "tracker", 0, "ENDPOINT",                    \
                      "the tracker (default: the one of this TRIREME_HOME)"),                      \
        OPTION_ROW_STRING(                                                                         \
            struct export_options, keys, "keys", 0, "FILE",                                        \
            "our CURVE keys for a tcp tracker, as `trireme keygen` wrote them (default: none)"),   \
        OPTION_ROW_STRING(struct export_options, tracker_key, "tracker-key", 0, "KEY",             \
                          "the public key of a tcp tracker (default: none)")
#define JSON_ROW OPTION_ROW_FLAG(struct export_options, json, "json", 'j', "print one JSON object")

static const struct option_row export_rows[] = {
    OPTION_ROW_CHOICE(struct export_options, format, "format", 'f', "onnx|safetensors|triton",
                      "what to write (default onnx)"),
    OPTION_ROW_STRING(struct export_options, output, "output", 'o', "DIR",
                      "the directory to write into; for triton, the model repository (no default)"),
    OPTION_ROW_STRING(struct export_options, name, "name", 0, "MODEL",
                      "name of the files (default: the registered model's name, or model)"),
    TRACKER_ROWS,
    JSON_ROW,
    OPTION_END};

static const struct option_row promote_rows[] = {
    OPTION_ROW_STRING(struct export_options, actor, "actor", 0, "WHO",
                      "for the audit log (default: your user name)"),
    OPTION_ROW_STRING(struct export_options, comment, "comment", 'm', "TEXT",
                      "why, for the audit log (default: none)"),
    TRACKER_ROWS, JSON_ROW, OPTION_END};

const struct option_row *export_options_rows(bool promote) {
    return promote ? promote_rows : export_rows;
}
