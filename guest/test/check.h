/* A test is a function; a failed check is reported and ends that test. */
#ifndef BANGER_CHECK_H
#define BANGER_CHECK_H

#include <stdbool.h>
#include <stddef.h>

struct test {
	const char *name;
	void (*run)(void);
};

#define TEST(function) {#function, function}

#define CHECK(condition) \
	do { \
		if (!(condition)) { \
			check_failed(__FILE__, __LINE__, #condition, NULL, 0, 0); \
			return; \
		} \
	} while (0)

#define CHECK_NUMBER(actual, expected) \
	do { \
		long long actual_ = (long long)(actual); \
		long long expected_ = (long long)(expected); \
		if (actual_ != expected_) { \
			check_failed(__FILE__, __LINE__, #actual, #expected, actual_, expected_); \
			return; \
		} \
	} while (0)

/* In what runs in a process of its own, and returns the line of what is wrong, or 0. */
#define EXPECT(condition) \
	do { \
		if (!(condition)) return __LINE__; \
	} while (0)

void check_failed(const char *file, int line, const char *what, const char *expected_text, long long actual, long long expected);
/* Whether the test now running has already failed: helpers that check end only themselves. */
bool check_has_failed(void);

extern const struct test unit_tests[], archive_tests[], machine_tests[], network_tests[], exec_tests[], connect_tests[], protocol_tests[];

#endif
