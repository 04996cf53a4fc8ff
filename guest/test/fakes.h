/*
 * Functions of the agent and of the system that tests put something else in the place of (linker option --wrap). What no test
 * has asked for goes through to the real one.
 */
#ifndef BANGER_TEST_FAKES_H
#define BANGER_TEST_FAKES_H

#include <stdbool.h>
#include <stdint.h>

#define MAX_CALLS 32

/* While `recording`, calls that would change the machine or answer a host are only written down, by name, in order. */
extern struct recorder {
	bool recording;
	const char *names[MAX_CALLS];
	unsigned count;
	/* The call of this name fails with EIO. */
	const char *failing;
	/* Of the last answer: 0 when it was a success, and its text. */
	int refused;
	char text[256];
	/* Growth that does not end at once ends when this is called. */
	void (*growth_then)(int error);
	bool growth_takes_time;
	uint64_t growth_bytes;
	/* What the clock was set to. */
	uint64_t clock_ns;
} recorder;

/* Begins anew, recording. */
void recorder_start(void);
void recorder_stop(void);

/* The root disk of growth: its size, and whether its file system is smaller, and stays so. */
extern struct fake_disk {
	uint64_t bytes;
	bool can_grow, growing_fails;
} fake_disk;

/* Added to what the clocks say, in ms. */
extern struct clock_offsets {
	int64_t realtime, boottime, monotonic;
} clock_offsets;
/* When not negative: the next epoll_wait finds nothing and takes so many ms of CLOCK_MONOTONIC. */
extern int64_t next_wait_ms;
/* One round of the loop that takes so many ms of CLOCK_MONOTONIC. */
void turn(int64_t taking_ms);

bool file_has(const char *path, const char *text);

/* As if no file system had O_TMPFILE. */
extern bool refuses_nameless_files;
/* Where a file that did not exist was made last. */
extern int made_in;

#endif
