#include "worker.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "agent.h"
#include "file.h"

#define REPORT_FD 2
/* The end of a long path is what tells files apart. */
#define MAX_SUBJECT_BYTES 800

static _Noreturn void child_run(const int stdio[3], int (*work)(const void *request), const void *request) {
	sigset_t none;
	setsid();
	/* Our own descriptors are all above 2, so no one overwrites another. */
	for (int fd = 0; fd < 3; fd++) {
		if (dup2(stdio[fd], fd) < 0) _exit(1);
	}
	/* Copies of other programs' pipes would keep those open. */
	syscall(SYS_close_range, 3U, ~0U, 0U);
	/* Who gives a worker up closes its pipes: it cleans up and ends, unless it is stuck until SIGKILL comes. */
	signal(SIGPIPE, SIG_IGN);
	signal(SIGHUP, SIG_IGN);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	umask(0);
	if (agent.handed_over) file_write_text("/proc/self/oom_score_adj", "0");
	_exit(work(request));
}

pid_t worker_start(const int stdio[3], int (*work)(const void *request), const void *request) {
	pid_t pid = fork();
	if (pid == 0) child_run(stdio, work, request);
	return pid;
}

int worker_fail(const char *word, const char *subject, int error) {
	struct worker_report report = {.error = (uint32_t)error};
	size_t length = subject == NULL ? 0 : strlen(subject);
	const char *shown = length > MAX_SUBJECT_BYTES ? subject + length - MAX_SUBJECT_BYTES : subject;
	if (subject == NULL) snprintf(report.text, sizeof report.text, "%s: %s", word, strerror(error));
	else snprintf(report.text, sizeof report.text, "%s: %s%s: %s", word, shown == subject ? "" : "...", shown, strerror(error));
	/* Less than PIPE_BUF: it arrives whole. Nobody is left to be told that it could not be written. */
	write_all(REPORT_FD, &report, sizeof report);
	return 1;
}

void worker_read_report(int fd, struct worker_report *report) {
	if (read(fd, report, sizeof *report) == (ssize_t)sizeof *report) {
		report->text[sizeof report->text - 1] = 0;
		return;
	}
	*report = (struct worker_report){.error = EIO, .text = "internal: the process that did it was killed"};
}
