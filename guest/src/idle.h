/* Whether this machine may be frozen to be cloned. */
#ifndef BANGER_IDLE_H
#define BANGER_IDLE_H

#include <stdbool.h>

/*
 * Booted, nothing under way (no stream, no growth, no timer that could fire in the clone), and no process but the agent.
 * Called while answering a host, whose own request counts only once its answer is a stream.
 */
bool idle(void);

#endif
