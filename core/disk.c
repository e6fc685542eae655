/* How much room there is, in numbers and in words. */
#include "core/disk.h"

#include <stdio.h>
#include <sys/statvfs.h>

uint64_t disk_room(const char *path) {
    struct statvfs v;
    if (statvfs(path, &v) != 0 || v.f_blocks == 0) /* a tmpfs without a size */
        return UINT64_MAX;
    return (uint64_t)v.f_bavail * v.f_frsize;
}

void disk_text(const char *path, uint64_t room, char out[DISK_TEXT_MAX]) {
    (void)snprintf(out, DISK_TEXT_MAX, "no space left on %s (%llu KiB free)", path,
                   (unsigned long long)(room >> 10));
}
