/*
 * Prints the rate of this host's time stamp counter in kHz: what a guest kernel without a calibration clock is told as
 * tsc_early_khz. Exit status 1 with a message when there is no counter of constant rate.
 */
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define WINDOWS 7
#define WINDOW_NS 20000000
#define READS 16

#if defined(__x86_64__)
#include <x86intrin.h>

struct instant {
	uint64_t ns, ticks;
};

static uint64_t clock_ns(void) {
	struct timespec now;
	/* Raw: not slewed towards NTP's idea of the rate. */
	clock_gettime(CLOCK_MONOTONIC_RAW, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/* The clock between two readings of the counter; of several tries the one in the narrowest bracket was not interrupted. */
static struct instant read_instant(void) {
	struct instant best = {0, 0};
	uint64_t narrowest = UINT64_MAX;
	for (int i = 0; i < READS; i++) {
		unsigned ignored;
		uint64_t before = __rdtscp(&ignored);
		uint64_t ns = clock_ns();
		uint64_t after = __rdtscp(&ignored);
		if (after - before >= narrowest) continue;
		narrowest = after - before;
		best = (struct instant){.ns = ns, .ticks = before + narrowest / 2};
	}
	return best;
}

static uint64_t measure_khz(void) {
	struct timespec window = {.tv_nsec = WINDOW_NS};
	struct instant start = read_instant();
	nanosleep(&window, NULL);
	struct instant end = read_instant();
	uint64_t ns = end.ns - start.ns;
	return ((end.ticks - start.ticks) * 1000000 + ns / 2) / ns;
}

static bool has_flag(const char *flags, const char *name) {
	size_t length = strlen(name);
	for (const char *at = strstr(flags, name); at != NULL; at = strstr(at + length, name)) {
		char end = at[length];
		if (at[-1] == ' ' && (end == ' ' || end == '\n' || end == 0)) return true;
	}
	return false;
}

static bool counter_is_constant(void) {
	static char line[16384];
	FILE *file = fopen("/proc/cpuinfo", "re");
	if (file == NULL) return false;
	bool constant = false;
	while (fgets(line, sizeof line, file) != NULL) {
		if (strncmp(line, "flags", 5) != 0) continue;
		constant = has_flag(line, "constant_tsc") && has_flag(line, "nonstop_tsc") && has_flag(line, "rdtscp");
		break;
	}
	fclose(file);
	return constant;
}

static int compare(const void *one, const void *other) {
	uint64_t a = *(const uint64_t *)one;
	uint64_t b = *(const uint64_t *)other;
	return a < b ? -1 : a > b;
}

int main(void) {
	if (!counter_is_constant()) {
		fprintf(stderr, "tsc-khz: this CPU has no constant_tsc, nonstop_tsc and rdtscp\n");
		return 1;
	}
	uint64_t rates[WINDOWS];
	for (int i = 0; i < WINDOWS; i++) rates[i] = measure_khz();
	qsort(rates, WINDOWS, sizeof rates[0], compare);
	printf("%llu\n", (unsigned long long)rates[WINDOWS / 2]);
	return 0;
}
#else
int main(void) {
	fprintf(stderr, "tsc-khz: only x86-64 has a time stamp counter\n");
	return 1;
}
#endif
