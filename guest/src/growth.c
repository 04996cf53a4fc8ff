#include "growth.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "agent.h"
#include "ext4.h"
#include "job.h"
#include "loop.h"

#define RESIZED_WITHIN_MS 3000
#define POLL_MS 2

static char device[128];
static bool running, succeeded;
static struct timer poll_timer;
/* The size the device had when it was looked at last. */
static uint64_t looked_at_bytes;

static struct caller {
	void (*then)(int error);
	uint64_t bytes, deadline_ms;
	/* Growth has been looked for since the call, so that a failing one is not begun over and over. */
	bool looked;
} caller;

static void answer(int error) {
	void (*then)(int error) = caller.then;
	growth_withdraw();
	if (then != NULL) then(error);
}

static void advance(void);

static void ended(void *owner, enum close_kind kind, uint32_t value) {
	(void)owner;
	succeeded = kind == CLOSE_DONE && value == 0;
	if (!succeeded) agent_log("agent: growing the root file system failed");
	running = false;
	if (caller.then != NULL) advance();
}

/* Behind everyone else: growing by some GiB takes a few hundred ms under emulation. */
static _Noreturn void grow(void) {
	setsid();
	setpriority(PRIO_PROCESS, 0, 19);
	int error = ext4_grow(device, "/");
	if (error != 0) agent_log("agent: growing the root file system: %s", strerror(error));
	_exit(error == 0 ? 0 : 1);
}

static void look(void) {
	succeeded = true;
	if (ext4_device_bytes(device, &looked_at_bytes) != 0) looked_at_bytes = 0;
	if (!ext4_can_grow(device)) return;
	succeeded = false;
	pid_t pid = fork();
	if (pid == 0) grow();
	if (pid < 0) agent_log("agent: growing the root file system: %s", strerror(errno));
	else running = job_add(pid, &running, ended) != NULL;
}

void growth_start(const char *path) {
	int printed = snprintf(device, sizeof device, "%s", path);
	if (printed < 0 || (size_t)printed >= sizeof device) device[0] = 0;
	else look();
}

bool growth_running(void) {
	return running;
}

static void poll_fired(struct timer *timer) {
	(void)timer;
	advance();
}

/* False when it has answered, or will look again in a moment. */
static bool has_its_size(void) {
	uint64_t bytes = 0;
	int error = caller.bytes == 0 ? 0 : ext4_device_bytes(device, &bytes);
	if (error == 0 && bytes >= caller.bytes) return true;
	if (error == 0 && now_ms() >= caller.deadline_ms) error = ETIMEDOUT;
	if (error != 0) {
		answer(error);
		return false;
	}
	poll_timer.fired = poll_fired;
	timer_start(&poll_timer, POLL_MS);
	return false;
}

static void advance(void) {
	if (!has_its_size() || running) return;
	if (!caller.looked) {
		caller.looked = true;
		look();
		if (running) return;
	}
	answer(succeeded || caller.bytes == 0 ? 0 : EIO);
}

void growth_ensure(uint64_t bytes, void (*then)(int error)) {
	if (device[0] == 0) {
		then(0);
		return;
	}
	if (bytes != 0 && bytes == looked_at_bytes && succeeded && !running) {
		then(0);
		return;
	}
	caller = (struct caller){.then = then, .bytes = bytes, .deadline_ms = now_ms() + RESIZED_WITHIN_MS};
	advance();
}

void growth_withdraw(void) {
	timer_stop(&poll_timer);
	caller.then = NULL;
}
