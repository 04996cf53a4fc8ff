#include "clock.h"

#include <errno.h>
#include <time.h>

int clock_set(uint64_t ns) {
	struct timespec now = {.tv_sec = (time_t)(ns / 1000000000), .tv_nsec = (long)(ns % 1000000000)};
	return clock_settime(CLOCK_REALTIME, &now) == 0 ? 0 : errno;
}

unsigned long long clock_ms(void) {
	struct timespec now;
	clock_gettime(CLOCK_REALTIME, &now);
	return (unsigned long long)now.tv_sec * 1000 + (unsigned long long)now.tv_nsec / 1000000;
}
