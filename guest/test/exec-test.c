/* EXEC, against a server process. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "../src/bytes.h"
#include "../src/exec_request.h"
#include "check.h"
#include "client.h"
#include "server.h"

static struct outcome outcome;
static struct received frame;

static void sleep_ms(long ms) {
	struct timespec time = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};
	nanosleep(&time, NULL);
}

static void exit_statuses_come_back(void) {
	static const int statuses[] = {0, 1, 7, 126, 127, 255};
	for (size_t i = 0; i < sizeof statuses / sizeof statuses[0]; i++) {
		char script[32];
		snprintf(script, sizeof script, "exit %d", statuses[i]);
		run_shell(0, script, &outcome);
		CHECK(outcome.closed);
		CHECK_NUMBER(outcome.kind, CLOSE_DONE);
		CHECK_NUMBER(outcome.value, statuses[i]);
	}
}

static void death_by_signal_is_told_apart(void) {
	run_shell(0, "kill -9 $$", &outcome);
	CHECK_NUMBER(outcome.kind, CLOSE_SIGNALED);
	CHECK_NUMBER(outcome.value, SIGKILL);
}

static void exec_argv(const char *const *argv, const char *user, const char *cwd) {
	struct client client;
	client_open(&client);
	uint32_t id = client_exec(&client, &(struct program){.argv = argv, .user = user, .cwd = cwd});
	client_finish(&client, id, true, &outcome);
	client_close(&client);
}

static void check_failure(int error, const char *word) {
	CHECK_NUMBER(outcome.kind, CLOSE_FAILED);
	CHECK_NUMBER(outcome.value, error);
	CHECK(strncmp(outcome.text, word, strlen(word)) == 0 && outcome.text[strlen(word)] == ':');
}

static void programs_that_cannot_start_fail_with_errno(void) {
	char path[] = "/tmp/agent-test-XXXXXX";
	int fd = mkstemp(path);
	CHECK(fd >= 0 && write(fd, "no program", 10) == 10 && fchmod(fd, 0755) == 0);
	close(fd);
	exec_argv((const char *const[]){"no-such-program", NULL}, NULL, NULL);
	check_failure(ENOENT, "spawn");
	exec_argv((const char *const[]){"/etc/passwd", NULL}, NULL, NULL);
	check_failure(EACCES, "spawn");
	exec_argv((const char *const[]){path, NULL}, NULL, NULL);
	check_failure(ENOEXEC, "spawn");
	exec_argv((const char *const[]){"", NULL}, NULL, NULL);
	check_failure(ENOENT, "spawn");
	exec_argv((const char *const[]){"true", NULL}, NULL, "/no/such/directory");
	check_failure(ENOENT, "chdir");
	exec_argv((const char *const[]){"true", NULL}, "no-such-user", NULL);
	check_failure(ENOENT, "user");
	unlink(path);
}

static void stdout_and_stderr_are_separate(void) {
	run_shell(0, "echo out; echo err >&2; exit 3", &outcome);
	CHECK(strcmp(outcome.output[1], "out\n") == 0);
	CHECK(strcmp(outcome.output[2], "err\n") == 0);
	CHECK_NUMBER(outcome.value, 3);
}

static void without_stdin_it_is_dev_null(void) {
	run_shell(0, "cat; readlink /proc/self/fd/0", &outcome);
	CHECK(strcmp(outcome.output[1], "/dev/null\n") == 0);
}

static void environment_and_directory_are_as_asked(void) {
	const char *const argv[] = {"sh", "-c", "echo $A-$HOME-$LANG-$TERM; pwd", NULL};
	const char *const environment[] = {"A=1", "HOME=/x", "A=two", "=odd", "novalue", NULL};
	struct client client;
	client_open(&client);
	uint32_t id = client_exec(&client, &(struct program){.argv = argv, .environment = environment, .cwd = "/usr"});
	client_finish(&client, id, true, &outcome);
	client_close(&client);
	CHECK(strcmp(outcome.output[1], "two-/x-C.UTF-8-\n/usr\n") == 0);
}

static void path_of_the_given_environment_is_searched(void) {
	const char *const argv[] = {"true", NULL};
	const char *const environment[] = {"PATH=/nowhere", NULL};
	struct client client;
	client_open(&client);
	uint32_t id = client_exec(&client, &(struct program){.argv = argv, .environment = environment});
	client_finish(&client, id, true, &outcome);
	client_close(&client);
	check_failure(ENOENT, "spawn");
}

static void another_user_is_who_runs(void) {
	if (geteuid() != 0) return;
	const char *const argv[] = {"sh", "-c", "id -u; id -g; id -G", NULL};
	exec_argv(argv, "12345:54321", "/");
	CHECK(strcmp(outcome.output[1], "12345\n54321\n54321\n") == 0);
}

static void signals_and_limits_are_the_usual_ones(void) {
	/* 32 and 33 are the C library's own: glibc's posix_spawn leaves them ignored, and musl does not let us reset them. */
	run_shell(0, "while read -r name value; do case $name in SigBlk:|SigIgn:) echo $((0x$value & 0x7fffffff));; esac; done "
		"</proc/self/status; ls /proc/self/fd | wc -l", &outcome);
	CHECK(strcmp(outcome.output[1], "0\n0\n4\n") == 0);
}

static void megabytes_pass_through_unchanged(void) {
	struct client client;
	uint64_t echoed_digest;
	size_t echoed = 0;
	size_t total = 9 * 1000 * 1000 + 7;
	client_open(&client);
	uint32_t id = client_shell(&client, EXEC_STDIN, "cat");
	uint64_t digest = client_feed(&client, id, total, &echoed_digest, &echoed);
	while (client_receive(&client, &frame) && frame.type != FRAME_CLOSE) {
		if (frame.type != FRAME_DATA) continue;
		echoed += frame.length;
		echoed_digest = fnv(echoed_digest, frame.payload, frame.length);
		client_send_u32(&client, FRAME_WINDOW, frame.channel, id, frame.length);
	}
	client_close(&client);
	CHECK_NUMBER(frame.type, FRAME_CLOSE);
	CHECK_NUMBER(echoed, total);
	CHECK(echoed_digest == digest);
}

static void output_is_complete_when_the_program_ends_at_once(void) {
	run_shell(0, "head -c 200000 /dev/zero; head -c 100 /dev/zero >&2", &outcome);
	CHECK_NUMBER(outcome.lengths[1], 200000);
	CHECK_NUMBER(outcome.lengths[2], 100);
}

static void a_leftover_process_does_not_hold_the_stream_open(void) {
	struct client client;
	client_open(&client);
	uint32_t id = client_shell(&client, 0, "sleep 1000 & echo $!");
	client_finish(&client, id, true, &outcome);
	client_close(&client);
	CHECK(outcome.closed);
	pid_t pid = atoi(outcome.output[1]);
	CHECK(pid > 0 && kill(pid, SIGKILL) == 0);
}

static void a_writing_leftover_does_not_hold_the_stream_open(void) {
	run_shell(0, "(while :; do echo more; done) & sleep 0.05; kill -9 $$", &outcome);
	CHECK(outcome.closed);
	CHECK_NUMBER(outcome.kind, CLOSE_SIGNALED);
}

static void dropped_stdin_is_still_granted(void) {
	struct client client;
	size_t credit = INITIAL_WINDOW_BYTES;
	static const uint8_t block[MAX_PAYLOAD_BYTES];
	client_open(&client);
	uint32_t id = client_shell(&client, EXEC_STDIN, "exec <&-; echo closed; exec sleep 1000");
	CHECK(client_receive(&client, &frame) && frame.type == FRAME_DATA);
	for (size_t sent = 0; sent < 4 * INITIAL_WINDOW_BYTES; sent += sizeof block) {
		while (credit < sizeof block) {
			CHECK(client_receive(&client, &frame));
			if (frame.type == FRAME_WINDOW) credit += get_u32(frame.payload);
		}
		CHECK(client_send(&client, FRAME_DATA, 0, id, block, sizeof block));
		credit -= sizeof block;
	}
	client_close(&client);
}

static void a_slow_host_stalls_one_stream_only(void) {
	struct client client;
	size_t received = 0;
	client_open(&client);
	uint32_t slow = client_shell(&client, 0, "head -c 3000000 /dev/zero");
	while (received < INITIAL_WINDOW_BYTES && client_receive(&client, &frame)) {
		if (frame.type == FRAME_DATA) received += frame.length;
	}
	CHECK_NUMBER(received, INITIAL_WINDOW_BYTES);
	/* Nothing more of the first stream may come, while a second one runs from start to end. */
	uint32_t quick = client_shell(&client, 0, "head -c 100000 /dev/zero");
	size_t other = 0;
	do {
		CHECK(client_receive(&client, &frame));
		CHECK_NUMBER(frame.stream, quick);
		if (frame.type == FRAME_DATA) other += frame.length;
	} while (frame.type != FRAME_CLOSE);
	CHECK_NUMBER(other, 100000);
	client_send_u32(&client, FRAME_WINDOW, CHANNEL_STDOUT, slow, 1000);
	CHECK(client_receive(&client, &frame) && frame.type == FRAME_DATA);
	CHECK_NUMBER(frame.length, 1000);
	client_send_u32(&client, FRAME_WINDOW, CHANNEL_STDOUT, slow, 1000);
	client_finish(&client, slow, true, &outcome);
	CHECK(outcome.closed);
	CHECK_NUMBER(outcome.lengths[1] + received + 1000, 3000000);
	client_close(&client);
}

static void a_program_that_reads_nothing_gets_no_more_credit(void) {
	struct client client;
	static const uint8_t block[MAX_PAYLOAD_BYTES];
	client_open(&client);
	uint32_t id = client_shell(&client, EXEC_STDIN, "exec sleep 1000");
	for (size_t sent = 0; sent < INITIAL_WINDOW_BYTES; sent += sizeof block) {
		CHECK(client_send(&client, FRAME_DATA, 0, id, block, sizeof block));
	}
	/* What the pipe took is granted again, the rest is not; and the session goes on. */
	client_finish(&client, client_shell(&client, 0, "exit 5"), true, &outcome);
	CHECK_NUMBER(outcome.value, 5);
	client_close(&client);
}

static void signal_frames_reach_the_process_group(void) {
	struct client client;
	client_open(&client);
	uint32_t id = client_shell(&client, 0, "trap 'echo got; exit 9' USR1; echo ready; while :; do sleep 0.05; done");
	CHECK(client_receive(&client, &frame) && frame.type == FRAME_DATA);
	client_send_u32(&client, FRAME_SIGNAL, 0, id, 0);
	client_send_u32(&client, FRAME_SIGNAL, 0, id, 4711);
	client_send_u32(&client, FRAME_SIGNAL, 0, id, SIGUSR1);
	client_finish(&client, id, true, &outcome);
	client_close(&client);
	CHECK(strcmp(outcome.output[1], "got\n") == 0);
	CHECK_NUMBER(outcome.value, 9);
}

static void a_terminal_has_its_size_and_is_resized(void) {
	struct client client;
	uint8_t size[4];
	client_open(&client);
	const char *const argv[] = {"sh", "-c", "tty -s && stty size; trap 'stty size; exit 4' WINCH; echo ready; while :; do sleep 0.05; done", NULL};
	uint32_t id = client_exec(&client, &(struct program){.flags = EXEC_TTY, .rows = 33, .columns = 101, .argv = argv});
	char seen[256] = "";
	while (strstr(seen, "ready") == NULL) {
		CHECK(client_receive(&client, &frame) && frame.type == FRAME_DATA && strlen(seen) + frame.length < sizeof seen);
		strcat(seen, (char *)frame.payload);
	}
	CHECK(strncmp(seen, "33 101\r\n", 8) == 0);
	put_u16(size, 44);
	put_u16(size + 2, 7);
	client_send(&client, FRAME_RESIZE, 0, id, size, sizeof size);
	client_finish(&client, id, true, &outcome);
	client_close(&client);
	CHECK(strcmp(outcome.output[1], "44 7\r\n") == 0);
	CHECK_NUMBER(outcome.value, 4);
}

static void a_terminal_interrupts_and_ends_its_input(void) {
	struct client client;
	client_open(&client);
	uint32_t id = client_shell(&client, EXEC_TTY | EXEC_STDIN, "cat; echo after");
	client_send(&client, FRAME_DATA, 0, id, "line\n", 5);
	client_send(&client, FRAME_EOF, 0, id, NULL, 0);
	client_finish(&client, id, true, &outcome);
	CHECK(strstr(outcome.output[1], "line\r\nline\r\nafter\r\n") != NULL);
	id = client_shell(&client, EXEC_TTY | EXEC_STDIN, "echo ready; exec sleep 1000");
	CHECK(client_receive(&client, &frame) && frame.type == FRAME_DATA);
	client_send(&client, FRAME_DATA, 0, id, "\003", 1);
	client_finish(&client, id, true, &outcome);
	client_close(&client);
	CHECK_NUMBER(outcome.kind, CLOSE_SIGNALED);
	CHECK_NUMBER(outcome.value, SIGINT);
}

static void a_terminal_gives_all_output_before_the_end(void) {
	run_shell(EXEC_TTY, "seq 1 20000", &outcome);
	/* 108,894 bytes with newlines, and a carriage return for each of the 20,000 lines. */
	CHECK_NUMBER(outcome.lengths[1], 128894);
}

static void without_argv_it_is_the_login_shell(void) {
	struct client client;
	const char *const none[] = {NULL};
	client_open(&client);
	uint32_t id = client_exec(&client, &(struct program){.flags = EXEC_STDIN, .argv = none});
	client_send(&client, FRAME_DATA, 0, id, "echo $0\n", 8);
	client_send(&client, FRAME_EOF, 0, id, NULL, 0);
	client_finish(&client, id, true, &outcome);
	client_close(&client);
	CHECK(outcome.output[1][0] == '-');
}

/* Whether the process is gone (or a zombie nobody has reaped) within a generous bound. */
static bool ends(pid_t pid) {
	for (int i = 0; i < 1000; i++) {
		if (kill(pid, 0) != 0 && errno == ESRCH) return true;
		sleep_ms(10);
	}
	return false;
}

static void hangup_ends_programs(void) {
	static const char *const scripts[] = {
		"echo $$; exec sleep 1000",
		"trap '' HUP; echo $$; while :; do sleep 0.1; done",
		"echo $$; kill -STOP $$; exec sleep 1000",
	};
	for (size_t i = 0; i < sizeof scripts / sizeof scripts[0]; i++) {
		struct client client;
		client_open(&client);
		client_shell(&client, 0, scripts[i]);
		CHECK(client_receive(&client, &frame) && frame.type == FRAME_DATA);
		pid_t pid = atoi((char *)frame.payload);
		CHECK(pid > 1 && kill(pid, 0) == 0);
		client_close(&client);
		CHECK(ends(pid));
	}
}

static void reset_ends_one_program(void) {
	struct client client;
	client_open(&client);
	uint32_t id = client_shell(&client, EXEC_STDIN, "echo $$; exec sleep 1000");
	CHECK(client_receive(&client, &frame) && frame.type == FRAME_DATA);
	pid_t pid = atoi((char *)frame.payload);
	client_send(&client, FRAME_RESET, 0, id, NULL, 0);
	/* Crossing frames are ignored. */
	client_send(&client, FRAME_DATA, 0, id, "x", 1);
	client_send_u32(&client, FRAME_WINDOW, 1, id, 1);
	client_finish(&client, id, true, &outcome);
	check_failure(ECANCELED, "reset");
	CHECK(pid > 1 && ends(pid));
	client_finish(&client, client_shell(&client, 0, "exit 6"), true, &outcome);
	CHECK_NUMBER(outcome.value, 6);
	client_close(&client);
}

static void no_descriptor_is_left_behind(void) {
	run_shell(0, "true", &outcome);
	int before = server_descriptors(&shared_server);
	for (int i = 0; i < 50; i++) run_shell(i % 2 == 0 ? EXEC_STDIN : EXEC_TTY | EXEC_STDIN, "echo x", &outcome);
	struct client client;
	client_open(&client);
	client_close(&client);
	/* One more connection than before may be in the middle of closing. */
	int after = server_descriptors(&shared_server);
	CHECK(after <= before + 1);
}

const struct test exec_tests[] = {
	TEST(exit_statuses_come_back),
	TEST(death_by_signal_is_told_apart),
	TEST(programs_that_cannot_start_fail_with_errno),
	TEST(stdout_and_stderr_are_separate),
	TEST(without_stdin_it_is_dev_null),
	TEST(environment_and_directory_are_as_asked),
	TEST(path_of_the_given_environment_is_searched),
	TEST(another_user_is_who_runs),
	TEST(signals_and_limits_are_the_usual_ones),
	TEST(megabytes_pass_through_unchanged),
	TEST(output_is_complete_when_the_program_ends_at_once),
	TEST(a_leftover_process_does_not_hold_the_stream_open),
	TEST(a_writing_leftover_does_not_hold_the_stream_open),
	TEST(dropped_stdin_is_still_granted),
	TEST(a_slow_host_stalls_one_stream_only),
	TEST(a_program_that_reads_nothing_gets_no_more_credit),
	TEST(signal_frames_reach_the_process_group),
	TEST(a_terminal_has_its_size_and_is_resized),
	TEST(a_terminal_interrupts_and_ends_its_input),
	TEST(a_terminal_gives_all_output_before_the_end),
	TEST(without_argv_it_is_the_login_shell),
	TEST(hangup_ends_programs),
	TEST(reset_ends_one_program),
	TEST(no_descriptor_is_left_behind),
	{NULL, NULL},
};
