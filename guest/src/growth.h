/* Growing the root file system to the size of its disk, in the background. */
#ifndef BANGER_GROWTH_H
#define BANGER_GROWTH_H

#include <stdbool.h>
#include <stdint.h>

/* Starts a process for it when the device is larger than its ext4 file system, and remembers the device. */
void growth_start(const char *device);
bool growth_running(void);
/*
 * Looks at the device again, whose disk may have another size than when this machine was frozen, and calls `then` once
 * nothing remains to be done: perhaps at once. `bytes` is the size the disk is known to have: the guest hears of a
 * new size a moment after it runs. 0: the size it has. The error is ETIMEDOUT when the device does not get there, EIO when
 * growing fails although a size was asked for, else 0. One caller at a time.
 */
void growth_ensure(uint64_t bytes, void (*then)(int error));
/* `then` is not called any more. */
void growth_withdraw(void);

#endif
