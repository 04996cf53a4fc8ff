/* EXEC: a program whose stdin, stdout and stderr are channels of a stream. */
#ifndef BANGER_EXEC_H
#define BANGER_EXEC_H

#include <stdint.h>

#include "bytes.h"

void exec_open(uint32_t id, struct reader *reader);

#endif
