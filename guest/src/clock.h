/* The wall clock. */
#ifndef BANGER_CLOCK_H
#define BANGER_CLOCK_H

#include <stdint.h>

/* Sets it to nanoseconds since 1970. Returns 0 or an errno. */
int clock_set(uint64_t ns);
/* Milliseconds since 1970. */
unsigned long long clock_ms(void);

#endif
