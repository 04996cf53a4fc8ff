/* Growing the root file system to the size of its disk, in the background. */
#ifndef BANGER_GROWTH_H
#define BANGER_GROWTH_H

#include <stdbool.h>

/* Starts a process for it when the device is larger than its ext4 file system. */
void growth_start(const char *device);
bool growth_running(void);
/* Calls `then` once growth has ended, well or not; one caller at a time, NULL withdraws. */
void growth_await(void (*then)(void));

#endif
