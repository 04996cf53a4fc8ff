/* HEALTH: a few numbers about the machine. */
#ifndef BANGER_HEALTH_H
#define BANGER_HEALTH_H

#include "textbuf.h"

/* The `MemAvailable` of a /proc/meminfo text in KiB; 0 when it has none. */
unsigned long long health_memory_available_kib(const char *meminfo);
/* The JSON object of docs/agent-protocol.md. */
void health_report(struct textbuf *text);

#endif
