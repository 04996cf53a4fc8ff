/* The processes the agent started: reaping, signals, and ending those nobody wants any more. */
#ifndef BANGER_JOB_H
#define BANGER_JOB_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "frame.h"
#include "loop.h"

struct job {
	/* Also the number of its process group. */
	pid_t pid;
	/* Whoever hears of the end; NULL once hung up. */
	void *owner;
	void (*exited)(void *owner, enum close_kind kind, uint32_t value);
	bool reaped;
	struct timer kill_timer;
	struct job *next;
};

/* A process group leader that was just started. NULL when there is no memory. */
struct job *job_add(pid_t pid, void *owner, void (*exited)(void *owner, enum close_kind kind, uint32_t value));
/* How many there are: those being ended count too. */
unsigned job_count(void);
/* Signals the whole process group. */
void job_signal(const struct job *job, int number);
/* SIGHUP and SIGCONT now, SIGKILL after 2 s; the owner hears nothing any more. */
void job_hang_up(struct job *job);
/* Reaps every child that has ended, ours or orphaned. Returns false when there is no child left at all. */
bool jobs_reap(void);

#endif
