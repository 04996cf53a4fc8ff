#include "handover.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent.h"
#include "channel.h"
#include "file.h"
#include "loop.h"
#include "signals.h"

#define IMAGE_INIT "/sbin/init"
#define EXECUTE_WITHIN_MS 10000

/* PID 1 from here on: the image's init, or, when that cannot be executed, a process that only reaps. */
static _Noreturn void become_image_init(int report) {
	char name[] = IMAGE_INIT;
	char home[] = "HOME=/";
	char term[] = "TERM=linux";
	char *argv[] = {name, NULL};
	char *environment[] = {home, term, NULL};
	sigset_t none;
	sigemptyset(&none);
	setrlimit(RLIMIT_NOFILE, &agent.program_nofile);
	sigprocmask(SIG_SETMASK, &none, NULL);
	execve(IMAGE_INIT, argv, environment);
	int error = errno;
	write_all(report, &error, sizeof error);
	close(report);
	for (;;) {
		if (waitpid(-1, NULL, 0) < 0) pause();
	}
}

/* 0 when the other side executed (its end of the pipe closed), or its errno. */
static int await_execution(int report) {
	struct pollfd poll_fd = {.fd = report, .events = POLLIN};
	int error = 0;
	if (poll(&poll_fd, 1, EXECUTE_WITHIN_MS) != 1) return ETIMEDOUT;
	return read(report, &error, sizeof error) == (ssize_t)sizeof error ? error : 0;
}

/* An epoll instance made before the fork belongs to the other process as much as to this one. */
static int keep_serving(void) {
	setsid();
	/* systemd spares processes named so when it ends all others at shutdown (systemd: Root Storage Daemons). */
	agent.own_name[0] = '@';
	file_write_text("/proc/self/oom_score_adj", "-1000");
	int error = loop_restart();
	if (error == 0) error = signals_rewatch();
	return error != 0 ? error : channel_rewatch();
}

int handover_to_image(void) {
	int report[2];
	if (getpid() != 1) return EBUSY;
	if (access(IMAGE_INIT, X_OK) != 0) return errno;
	if (pipe2(report, O_CLOEXEC) != 0) return errno;
	pid_t pid = fork();
	if (pid < 0) {
		int error = errno;
		close(report[0]);
		close(report[1]);
		return error;
	}
	if (pid > 0) {
		close(report[0]);
		become_image_init(report[1]);
	}
	close(report[1]);
	int error = keep_serving();
	if (error == 0) error = await_execution(report[0]);
	close(report[0]);
	agent.handed_over = error == 0;
	return error;
}
