/* The kernel's command line. */
#ifndef BANGER_CMDLINE_H
#define BANGER_CMDLINE_H

#include <stdbool.h>
#include <stddef.h>

/* Copies the value of the last `name=value` word; false when there is none or it does not fit. */
bool cmdline_get(const char *cmdline, const char *name, char *value, size_t capacity);

#endif
