/* ioctl(2) with one type for the request: the C libraries disagree about its sign. */
#ifndef BANGER_CONTROL_H
#define BANGER_CONTROL_H

#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

static inline int control(int fd, unsigned long request, const void *argument) {
	return (int)syscall(SYS_ioctl, fd, request, argument);
}

#endif
