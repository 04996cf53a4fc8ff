/* A function of the agent in a process of its own: for what takes long, while everyone else is served. */
#ifndef BANGER_WORKER_H
#define BANGER_WORKER_H

#include <stdint.h>
#include <sys/types.h>

#include "frame.h"

/* How a worker failed. */
struct worker_report {
	uint32_t error;
	/* Begins with a stable word, as the text of a CLOSE. */
	char text[MAX_CLOSE_TEXT_BYTES + 1];
};

/*
 * Forks; the child leads its own session, has `stdio` as its first three descriptors and no other, and ends with what `work`
 * returns: 0, or 1 after worker_fail. Returns its pid, or -1 with errno.
 */
pid_t worker_start(const int stdio[3], int (*work)(const void *request), const void *request);
/* In the worker: says how it failed ("word: subject: reason"; no subject when NULL). Returns 1. */
int worker_fail(const char *word, const char *subject, int error);
/* What a failed worker has said; one that said nothing was killed. */
void worker_read_report(int fd, struct worker_report *report);

#endif
