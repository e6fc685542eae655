/* Who runs this program, as audit records name people. */
#ifndef CORE_USER_H
#define CORE_USER_H

/* The user's name, or "unknown" where the machine has none; valid until the next call. */
const char *user_name(void);

#endif
