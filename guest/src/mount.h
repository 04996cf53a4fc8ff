/* MOUNT: a read-only disk image, made writable by an overlay. */
#ifndef BANGER_MOUNT_H
#define BANGER_MOUNT_H

#include <stdint.h>

#include "bytes.h"

void mount_open(uint32_t id, struct reader *reader);

#endif
