#include "job.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>

#define KILL_AFTER_MS 2000

static struct job *jobs;
static unsigned count;

struct job *job_add(pid_t pid, void *owner, void (*exited)(void *owner, enum close_kind kind, uint32_t value)) {
	struct job *job = calloc(1, sizeof *job);
	if (job == NULL) return NULL;
	job->pid = pid;
	job->owner = owner;
	job->exited = exited;
	job->next = jobs;
	jobs = job;
	count++;
	return job;
}

unsigned job_count(void) {
	return count;
}

static void job_remove(struct job *job) {
	struct job **link = &jobs;
	while (*link != job) link = &(*link)->next;
	*link = job->next;
	count--;
	timer_stop(&job->kill_timer);
	free(job);
}

void job_signal(const struct job *job, int number) {
	/* A reaped leader's number stays taken as long as its group has members; without any, this finds nobody. */
	kill(-job->pid, number);
}

static void kill_timer_fired(struct timer *timer) {
	struct job *job = container_of(timer, struct job, kill_timer);
	job_signal(job, SIGKILL);
	/* Whoever is still to be reaped is nobody's business any more. */
	job_remove(job);
}

void job_hang_up(struct job *job) {
	job->owner = NULL;
	job_signal(job, SIGHUP);
	job_signal(job, SIGCONT);
	job->kill_timer.fired = kill_timer_fired;
	timer_start(&job->kill_timer, KILL_AFTER_MS);
}

static void job_ended(struct job *job, int status) {
	job->reaped = true;
	/* Hung up: the rest of its group still has until the timer. */
	if (job->owner == NULL) return;
	void *owner = job->owner;
	void (*exited)(void *, enum close_kind, uint32_t) = job->exited;
	job_remove(job);
	if (WIFSIGNALED(status)) exited(owner, CLOSE_SIGNALED, (uint32_t)WTERMSIG(status));
	else exited(owner, CLOSE_DONE, (uint32_t)WEXITSTATUS(status));
}

bool jobs_reap(void) {
	for (;;) {
		int status;
		pid_t pid = waitpid(-1, &status, WNOHANG);
		if (pid < 0 && errno == EINTR) continue;
		if (pid < 0) return false;
		if (pid == 0) return true;
		struct job *job = jobs;
		while (job != NULL && (job->pid != pid || job->reaped)) job = job->next;
		if (job != NULL) job_ended(job, status);
	}
}
