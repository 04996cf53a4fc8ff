/* Runs every test, or those whose names contain the first argument. */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "check.h"
#include "server.h"

static bool failed;
static int failures, runs;

void check_failed(const char *file, int line, const char *what, const char *expected_text, long long actual, long long expected) {
	failed = true;
	printf("  %s:%d: %s", file, line, what);
	if (expected_text != NULL) printf(" is %lld, not %s (%lld)", actual, expected_text, expected);
	printf("\n");
}

bool check_has_failed(void) {
	return failed;
}

static void run_all(const struct test *tests, const char *filter) {
	for (const struct test *test = tests; test->name != NULL; test++) {
		if (filter != NULL && strstr(test->name, filter) == NULL) continue;
		failed = false;
		runs++;
		test->run();
		printf("%s %s\n", failed ? "FAIL" : "ok  ", test->name);
		fflush(stdout);
		if (failed) failures++;
	}
}

int main(int argc, char **argv) {
	const char *filter = argc > 1 ? argv[1] : NULL;
	signal(SIGPIPE, SIG_IGN);
	/* What a shell or CI left open would be seen by the programs of the tests. */
	syscall(SYS_close_range, 3U, ~0U, 0U);
	server_start_listening(&shared_server);
	run_all(unit_tests, filter);
	run_all(archive_tests, filter);
	run_all(machine_tests, filter);
	run_all(network_tests, filter);
	run_all(exec_tests, filter);
	run_all(connect_tests, filter);
	run_all(protocol_tests, filter);
	if (!server_stop(&shared_server)) {
		printf("FAIL the server did not end in order\n");
		failures++;
	}
	printf("%d tests, %d failed\n", runs, failures);
	return failures == 0 && runs > 0 ? 0 : 1;
}
