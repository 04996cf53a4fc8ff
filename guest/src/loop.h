/* The event loop: one thread, epoll, file descriptors and timers. */
#ifndef BANGER_LOOP_H
#define BANGER_LOOP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define container_of(pointer, type, member) ((type *)(void *)((char *)(pointer) - offsetof(type, member)))

/* A watched descriptor, embedded in whatever owns it. The loop never closes `fd`. */
struct source {
	int fd;
	bool watched;
	void (*ready)(struct source *source, uint32_t events);
};

struct timer {
	bool armed;
	uint64_t due_ms;
	void (*fired)(struct timer *timer);
	struct timer *next, **link;
};

/* Returns 0, or an errno. */
int loop_start(void);
/* Replaces the epoll instance: what was watched before is forgotten and has to be watched again. */
int loop_restart(void);
/* Watches for the given epoll events. Returns false when the kernel refuses. */
bool loop_watch(struct source *source, uint32_t events);
/* Stops watching; the source gets no event that was already on its way. */
void loop_unwatch(struct source *source);
/* unwatch and close; the fd becomes -1. Nothing happens when it is -1 already. */
void loop_close(struct source *source);
void timer_start(struct timer *timer, uint64_t after_ms);
void timer_stop(struct timer *timer);
/* Whether any timer is still to fire. */
bool timers_armed(void);
/*
 * Milliseconds of CLOCK_MONOTONIC, less the times the machine stood still. (Where a paused machine's clock goes on, no timer
 * may take the pause for time its process had.)
 */
uint64_t now_ms(void);
/* How long ago this turn's events were heard of. */
uint64_t loop_turn_ms(void);
/* Waits once and dispatches. `settle` is called after every batch. */
void loop_turn(void (*settle)(void));

#endif
