/* The user's name. */
#include "core/user.h"

#include <pwd.h>
#include <stddef.h>
#include <unistd.h>

const char *user_name(void) {
    const struct passwd *p = getpwuid(geteuid());
    return p != NULL && p->pw_name[0] != '\0' ? p->pw_name : "unknown";
}
