/* The environment of a program. */
#ifndef BANGER_ENVIRONMENT_H
#define BANGER_ENVIRONMENT_H

#include "user.h"

/*
 * A NULL-terminated environ(7) in one allocation: PATH, HOME, USER, LOGNAME, SHELL, LANG, then `given` (`NAME=value`), where
 * a later entry replaces an earlier one of the same name. The given strings are pointed to, not copied. NULL without memory.
 */
char **environment_build(const struct user *user, bool tty, char **given, size_t given_count);
/* The value of a variable, or NULL. */
const char *environment_get(char **environment, const char *name);

#endif
