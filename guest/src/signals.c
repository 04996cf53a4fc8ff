#include "signals.h"

#include <errno.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "job.h"
#include "loop.h"

/* SIGPIPE and the rest are read and dropped: a blocked signal ends nobody. */
static void signal_ready(struct source *source, uint32_t events) {
	(void)events;
	struct signalfd_siginfo taken[16];
	while (read(source->fd, taken, sizeof taken) > 0) continue;
	jobs_reap();
}

static struct source signals = {.fd = -1, .ready = signal_ready};

int signals_start(void) {
	sigset_t all;
	sigfillset(&all);
	/* Programs inherit dispositions: none may be left ignored by whoever started us. */
	for (int number = 1; number < NSIG; number++) signal(number, SIG_DFL);
	if (sigprocmask(SIG_SETMASK, &all, NULL) != 0) return errno;
	signals.fd = signalfd(-1, &all, SFD_CLOEXEC | SFD_NONBLOCK);
	if (signals.fd < 0) return errno;
	return loop_watch(&signals, EPOLLIN) ? 0 : errno;
}

int signals_rewatch(void) {
	signals.watched = false;
	return loop_watch(&signals, EPOLLIN) ? 0 : errno;
}
