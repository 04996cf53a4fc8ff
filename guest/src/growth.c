#include "growth.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "agent.h"
#include "ext4.h"
#include "job.h"

static bool running;
static void (*waiting)(void);

static void ended(void *owner, enum close_kind kind, uint32_t value) {
	(void)owner;
	if (kind != CLOSE_DONE || value != 0) agent_log("agent: growing the root file system failed");
	running = false;
	void (*then)(void) = waiting;
	waiting = NULL;
	if (then != NULL) then();
}

/* Behind everyone else: growing by some GiB takes a few hundred ms under emulation. */
static _Noreturn void grow(const char *device) {
	setsid();
	setpriority(PRIO_PROCESS, 0, 19);
	int error = ext4_grow(device, "/");
	if (error != 0) agent_log("agent: growing the root file system: %s", strerror(error));
	_exit(error == 0 ? 0 : 1);
}

void growth_start(const char *device) {
	if (!ext4_can_grow(device)) return;
	pid_t pid = fork();
	if (pid == 0) grow(device);
	if (pid < 0) agent_log("agent: growing the root file system: %s", strerror(errno));
	else running = job_add(pid, &running, ended) != NULL;
}

bool growth_running(void) {
	return running;
}

void growth_await(void (*then)(void)) {
	waiting = then;
}
