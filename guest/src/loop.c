#include "loop.h"

#include <errno.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

#define BATCH 32
/* Waking so much later than asked is no delay of the scheduler: the machine was paused or frozen. */
#define STANDSTILL_MS 2000

static int epoll_fd = -1;
static struct timer *timers;
/* The batch being dispatched, so that a source removed on the way gets nothing more. */
static struct epoll_event batch[BATCH];
static int batch_size;
static uint64_t stood_still_ms, turn_began_ms;

int loop_start(void) {
	epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	return epoll_fd < 0 ? errno : 0;
}

int loop_restart(void) {
	int fd = epoll_create1(EPOLL_CLOEXEC);
	if (fd < 0) return errno;
	close(epoll_fd);
	epoll_fd = fd;
	batch_size = 0;
	return 0;
}

bool loop_watch(struct source *source, uint32_t events) {
	struct epoll_event event = {.events = events, .data.ptr = source};
	int operation = source->watched ? EPOLL_CTL_MOD : EPOLL_CTL_ADD;
	if (epoll_ctl(epoll_fd, operation, source->fd, &event) != 0) return false;
	source->watched = true;
	return true;
}

void loop_unwatch(struct source *source) {
	if (!source->watched) return;
	epoll_ctl(epoll_fd, EPOLL_CTL_DEL, source->fd, NULL);
	source->watched = false;
	for (int i = 0; i < batch_size; i++) {
		if (batch[i].data.ptr == source) batch[i].data.ptr = NULL;
	}
}

void loop_close(struct source *source) {
	if (source->fd < 0) return;
	loop_unwatch(source);
	close(source->fd);
	source->fd = -1;
}

void timer_start(struct timer *timer, uint64_t after_ms) {
	timer_stop(timer);
	timer->due_ms = now_ms() + after_ms;
	timer->armed = true;
	timer->next = timers;
	timer->link = &timers;
	if (timers != NULL) timers->link = &timer->next;
	timers = timer;
}

void timer_stop(struct timer *timer) {
	if (!timer->armed) return;
	timer->armed = false;
	*timer->link = timer->next;
	if (timer->next != NULL) timer->next->link = timer->link;
}

bool timers_armed(void) {
	return timers != NULL;
}

uint64_t now_ms(void) {
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000 - stood_still_ms;
}

static struct timer *earliest_timer(void) {
	struct timer *earliest = timers;
	for (struct timer *timer = timers; timer != NULL; timer = timer->next) {
		if (timer->due_ms < earliest->due_ms) earliest = timer;
	}
	return earliest;
}

static int wait_ms(void) {
	struct timer *timer = earliest_timer();
	if (timer == NULL) return -1;
	uint64_t now = now_ms();
	if (timer->due_ms <= now) return 0;
	uint64_t wait = timer->due_ms - now;
	return wait > 60000 ? 60000 : (int)wait;
}

static void fire_timers(void) {
	if (timers == NULL) return;
	uint64_t now = now_ms();
	/* A callback may stop or start any timer, so begin again after each. */
	for (struct timer *timer = earliest_timer(); timer != NULL && timer->due_ms <= now; timer = earliest_timer()) {
		timer_stop(timer);
		timer->fired(timer);
	}
}

/* How much of the wait the machine ran is not known: timers count none of it rather than too much. */
static int wait_for_events(void) {
	int wait = wait_ms();
	uint64_t before = now_ms();
	int count = epoll_wait(epoll_fd, batch, BATCH, wait);
	uint64_t elapsed = now_ms() - before;
	if (wait >= 0 && elapsed > (uint64_t)wait + STANDSTILL_MS) stood_still_ms += elapsed;
	turn_began_ms = now_ms();
	return count;
}

uint64_t loop_turn_ms(void) {
	return now_ms() - turn_began_ms;
}

void loop_turn(void (*settle)(void)) {
	int count = wait_for_events();
	batch_size = count < 0 ? 0 : count;
	for (int i = 0; i < batch_size; i++) {
		struct source *source = batch[i].data.ptr;
		if (source != NULL) source->ready(source, batch[i].events);
	}
	batch_size = 0;
	fire_timers();
	settle();
}
