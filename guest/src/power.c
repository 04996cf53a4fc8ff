#include "power.h"

#include <errno.h>
#include <linux/reboot.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <unistd.h>

#include "agent.h"
#include "job.h"
#include "session.h"

#define MAX_GRACE_MS 120000
#define TICK_MS 5
/* How long killed processes may take to vanish, and the last answer to leave. */
#define KILLED_MS 1000
#define FLUSH_MS 500
/* What systemd(1) takes as "start reboot.target": SIGRTMIN+5, where glibc's SIGRTMIN is 34. */
#define SYSTEMD_REBOOT_SIGNAL 39

enum step { STEP_IDLE, STEP_TERMINATING, STEP_KILLED, STEP_FLUSHING };

static struct power {
	struct stream stream;
	/* False once the host gave the stream up; the machine goes off all the same. */
	bool answering;
	enum step step;
	uint64_t deadline_ms;
	struct timer timer;
} power;

static void power_abandon(struct stream *stream) {
	stream_forget(stream);
	power.answering = false;
}

static const struct stream_operations power_operations = {.abandon = power_abandon};

/* Everything is an orphan of PID 1 or a descendant of its children: without children there is no process left. */
static bool everyone_gone(void) {
	return !jobs_reap() && !agent.handed_over;
}

static void enter(enum step step, uint64_t at_most_ms) {
	power.step = step;
	power.deadline_ms = now_ms() + at_most_ms;
}

/* On every machine type in use a reset is what ends the VMM (started so that it does not reboot); microvm has no power switch. */
static _Noreturn void turn_off(void) {
	reboot(RB_AUTOBOOT);
	reboot(RB_POWER_OFF);
	for (;;) pause();
}

static void secure_disks(void) {
	sync();
	if (mount(NULL, "/", NULL, MS_REMOUNT | MS_RDONLY, NULL) != 0) sync();
}

static void answer(void) {
	if (power.answering) stream_close(&power.stream, CLOSE_DONE, 0, "");
	power.answering = false;
	enter(STEP_FLUSHING, FLUSH_MS);
}

static void advance(void) {
	bool late = now_ms() >= power.deadline_ms;
	if (power.step == STEP_TERMINATING && (late || everyone_gone())) {
		kill(-1, SIGKILL);
		enter(STEP_KILLED, KILLED_MS);
		late = false;
	}
	/* What init of the image runs as is beyond reach, so there is no end to wait for. */
	if (power.step == STEP_KILLED && (late || agent.handed_over || everyone_gone())) {
		secure_disks();
		answer();
		late = false;
	}
	if (power.step == STEP_FLUSHING && (late || session_flushed())) turn_off();
}

static void tick(struct timer *timer) {
	advance();
	timer_start(timer, TICK_MS);
}

void power_open(uint32_t id, struct reader *reader) {
	uint32_t grace_ms = read_u32(reader);
	if (!reader_finished(reader)) {
		session_fail(id, "bad-request", EINVAL);
		return;
	}
	if (power.step != STEP_IDLE) {
		session_fail(id, "busy", EBUSY);
		return;
	}
	stream_start(&power.stream, &power_operations, id);
	power.answering = true;
	power.timer.fired = tick;
	enter(STEP_TERMINATING, grace_ms < MAX_GRACE_MS ? grace_ms : MAX_GRACE_MS);
	if (agent.handed_over) {
		kill(1, SYSTEMD_REBOOT_SIGNAL);
	} else {
		kill(-1, SIGTERM);
		/* Interactive shells ignore SIGTERM; stopped processes need to run to end. */
		kill(-1, SIGHUP);
		kill(-1, SIGCONT);
	}
	timer_start(&power.timer, 0);
}
