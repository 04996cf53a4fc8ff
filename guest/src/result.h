/* A result that is a text: DATA on channel 1 as credit allows, then CLOSE. */
#ifndef BANGER_RESULT_H
#define BANGER_RESULT_H

#include <stdint.h>

#include "textbuf.h"

/* Takes the text over, also when it failed for want of memory (then the answer says so). */
void result_send(uint32_t id, struct textbuf *text);

#endif
