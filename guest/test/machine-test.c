/* What makes a machine one of its own: CONFIGURE, ids, files, timers, its disk. The network interface: network-test.c. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../src/agent.h"
#include "../src/boot_id.h"
#include "../src/bytes.h"
#include "../src/configure.h"
#include "../src/file.h"
#include "../src/growth.h"
#include "../src/idle.h"
#include "../src/job.h"
#include "../src/loop.h"
#include "../src/machine_id.h"
#include "../src/rehearsal.h"
#include "../src/session.h"
#include "../src/tree.h"
#include "check.h"
#include "client.h"
#include "fakes.h"

#define BOOT_ID "0f0e0d0c-0b0a-4908-8706-050403020100"
#define MACHINE_ID "00112233445546778899aabbccddeeff"

static struct packet packet;

static void configure(void) {
	struct reader reader;
	packet.length = 0;
	packet_str(&packet, "name");
	packet_u32(&packet, 2);
	for (int i = 0; i < 2; i++) {
		packet_str(&packet, "/etc/hosts");
		for (int field = 0; field < 3; field++) packet_u32(&packet, 0);
		packet_str(&packet, "content");
	}
	packet_u64(&packet, 1);
	packet_str(&packet, "0123456789abcdef");
	packet_str(&packet, "10.0.2.15/24");
	packet_str(&packet, "");
	packet_u32(&packet, 0);
	packet_str(&packet, "52:54:00:12:34:56");
	packet_str(&packet, BOOT_ID);
	packet_str(&packet, MACHINE_ID);
	packet_u64(&packet, UINT64_C(5) << 40);
	reader_init(&reader, packet.bytes, packet.length);
	configure_open(1, &reader);
}

static bool calls_were(const char *const *names, unsigned count) {
	for (unsigned i = 0; i < recorder.count; i++) {
		if (i < count && strcmp(recorder.names[i], names[i]) == 0) continue;
		printf("  call %u is %s\n", i, recorder.names[i]);
		return false;
	}
	return recorder.count == count;
}

static const char *const order[] = {
	"entropy", "clock", "boot id", "hostname", "machine id", "file", "file", "network", "growth", "answer"};
#define STEPS (sizeof order / sizeof order[0])

static void randomness_comes_before_everything(void) {
	recorder_start();
	configure();
	recorder_stop();
	CHECK(calls_were(order, STEPS));
	CHECK_NUMBER(recorder.refused, 0);
	CHECK(recorder.growth_bytes == UINT64_C(5) << 40);
	CHECK(strstr(recorder.text, "\"bootId\":\"" BOOT_ID "\",\"configured\":true") != NULL);
	CHECK(!session_has_streams());
}

static void nothing_follows_a_step_that_failed(void) {
	for (unsigned i = 0; i < STEPS - 1; i++) {
		const char *expected[STEPS + 1];
		unsigned count = 0;
		agent.configured = false;
		recorder_start();
		recorder.failing = order[i];
		configure();
		recorder_stop();
		while (count == 0 || strcmp(expected[count - 1], order[i]) != 0) {
			expected[count] = order[count];
			count++;
		}
		expected[count++] = "refused";
		CHECK(calls_were(expected, count));
		CHECK(recorder.refused == EIO && strncmp(recorder.text, "internal: ", 10) == 0);
		CHECK(!agent.configured && !session_has_streams());
	}
}

static void a_configuration_answers_once_the_disk_has_grown(void) {
	recorder_start();
	recorder.growth_takes_time = true;
	configure();
	CHECK_NUMBER(recorder.refused, -1);
	CHECK(session_has_streams());
	/* A second one meanwhile would not know whose growth it is. */
	configure();
	CHECK(recorder.refused == EBUSY && strcmp(recorder.text, "busy") == 0);
	recorder.growth_then(0);
	recorder_stop();
	CHECK_NUMBER(recorder.refused, 0);
	CHECK(!session_has_streams());
}

static void the_clock_is_set_to_what_it_is_by_then(void) {
	CHECK_NUMBER(loop_start(), 0);
	turn(0);
	clock_offsets.monotonic += 40;
	recorder_start();
	configure();
	recorder_stop();
	/* The request says 1 ns, and came 40 ms ago. */
	CHECK(recorder.clock_ns > 40000000 && recorder.clock_ns < 1000000000);
	clock_offsets = (struct clock_offsets){0, 0, 0};
}

static struct text text_of(const char *text) {
	return (struct text){.bytes = text, .length = strlen(text)};
}

static bool file_is(const char *path, const char *text) {
	char content[64];
	return file_read(path, content, sizeof content) >= 0 && strcmp(content, text) == 0;
}

static void a_file_is_overwritten_in_its_place_or_replaced(void) {
	char directory[] = "/tmp/agent-test-XXXXXX", path[64], other[64];
	struct stat first, now;
	uid_t uid = geteuid();
	gid_t gid = getegid();
	CHECK(mkdtemp(directory) != NULL);
	snprintf(path, sizeof path, "%s/file", directory);
	snprintf(other, sizeof other, "%s/other", directory);
	CHECK_NUMBER(tree_settle(path, 0644, uid, gid, text_of("a long text")), 0);
	CHECK(file_is(path, "a long text") && stat(path, &first) == 0 && (first.st_mode & 07777) == 0644);
	CHECK_NUMBER(tree_settle(path, 0644, uid, gid, text_of("short")), 0);
	CHECK(file_is(path, "short") && stat(path, &now) == 0 && now.st_ino == first.st_ino);
	/* What is there already is not written again. */
	struct timespec old[2] = {{.tv_sec = 1}, {.tv_sec = 1}};
	CHECK(utimensat(AT_FDCWD, path, old, 0) == 0);
	CHECK_NUMBER(tree_settle(path, 0644, uid, gid, text_of("short")), 0);
	CHECK(stat(path, &now) == 0 && now.st_ino == first.st_ino && now.st_mtim.tv_sec == 1);
	/* Another mode: another file. The old one is open, so that its number is not given to the new one. */
	int fd = open(path, O_RDONLY);
	CHECK_NUMBER(tree_settle(path, 0600, uid, gid, text_of("other")), 0);
	CHECK(file_is(path, "other") && stat(path, &now) == 0 && now.st_ino != first.st_ino && (now.st_mode & 07777) == 0600);
	/* Not through another name, nor through a link. */
	CHECK(link(path, other) == 0);
	CHECK_NUMBER(tree_settle(path, 0600, uid, gid, text_of("mine")), 0);
	CHECK(file_is(path, "mine") && file_is(other, "other"));
	CHECK(unlink(path) == 0 && symlink("other", path) == 0);
	CHECK_NUMBER(tree_settle(path, 0600, uid, gid, text_of("mine")), 0);
	CHECK(file_is(path, "mine") && file_is(other, "other"));
	CHECK(close(fd) == 0 && unlink(path) == 0 && unlink(other) == 0 && rmdir(directory) == 0);
}

static void what_somebody_else_wrote_is_foreign(void) {
	char directory[] = "/tmp/agent-test-XXXXXX", path[64];
	struct text content = text_of("# ours\nnew\n");
	uid_t uid = geteuid();
	gid_t gid = getegid();
	CHECK(mkdtemp(directory) != NULL);
	snprintf(path, sizeof path, "%s/file", directory);
	CHECK(!tree_is_foreign(path, content));
	static const char *const own[] = {"", "\n", "# ours\n", "# ours\nold\n"};
	static const char *const foreign[] = {"#", "# ours", "# ourselves\n", "\n# ours\n", "[user]\n"};
	for (size_t i = 0; i < sizeof own / sizeof own[0]; i++) {
		CHECK_NUMBER(tree_write(path, 0644, uid, gid, text_of(own[i])), 0);
		CHECK(!tree_is_foreign(path, content));
	}
	for (size_t i = 0; i < sizeof foreign / sizeof foreign[0]; i++) {
		CHECK_NUMBER(tree_write(path, 0644, uid, gid, text_of(foreign[i])), 0);
		CHECK(tree_is_foreign(path, content));
	}
	CHECK(unlink(path) == 0 && symlink("nowhere", path) == 0 && tree_is_foreign(path, content));
	CHECK(unlink(path) == 0 && mkdir(path, 0755) == 0 && tree_is_foreign(path, content));
	CHECK(rmdir(path) == 0 && rmdir(directory) == 0);
}

/* How many children of this process have ended, within 10 s, up to `enough`. */
static int reap(int enough) {
	int count = 0;
	for (int i = 0; i < 10000 && count < enough; i++) {
		if (waitpid(-1, NULL, WNOHANG) > 0) count++;
		else usleep(1000);
	}
	return count;
}

static int rehearse(void) {
	rehearsal_begin();
	EXPECT(waitpid(-1, NULL, 0) < 0);
	rehearsal_prepare();
	/* A thread is no process: the machine can be frozen with it. */
	EXPECT(waitpid(-1, NULL, WNOHANG) < 0 && errno == ECHILD);
	rehearsal_begin();
	EXPECT(reap(1) == 1);
	rehearsal_begin();
	EXPECT(reap(1) == 1);
	rehearsal_end();
	rehearsal_begin();
	usleep(100000);
	EXPECT(waitpid(-1, NULL, WNOHANG) < 0 && errno == ECHILD);
	/* Its name in proc(5) is the process's; the thread has gone. */
	EXPECT(file_has("/proc/self/status", "Threads:\t1\n"));
	return 0;
}

static void a_first_program_is_rehearsed_until_the_machine_is_somebodys(void) {
	int status = -1;
	pid_t pid = fork();
	if (pid == 0) _exit(rehearse() & 0xff);
	CHECK(pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status));
	/* The low bits of the line of what is wrong. */
	CHECK_NUMBER(WEXITSTATUS(status), 0);
}

static void machine_ids_are_put_in_place(void) {
	char directory[] = "/tmp/agent-test-XXXXXX", systemd[64], dbus[64], content[64];
	struct stat before, after;
	CHECK(mkdtemp(directory) != NULL);
	snprintf(systemd, sizeof systemd, "%s/machine-id", directory);
	snprintf(dbus, sizeof dbus, "%s/dbus-id", directory);
	struct machine_id_paths paths = {.systemd = systemd, .dbus = dbus};
	CHECK_NUMBER(machine_id_set(&paths, MACHINE_ID), 0);
	CHECK(file_read(systemd, content, sizeof content) == 33 && strcmp(content, MACHINE_ID "\n") == 0);
	CHECK(access(dbus, F_OK) != 0);
	CHECK(stat(systemd, &before) == 0 && (before.st_mode & 07777) == 0444);
	/* What is there already is left alone; a link of D-Bus too. */
	CHECK(symlink("machine-id", dbus) == 0);
	CHECK_NUMBER(machine_id_set(&paths, MACHINE_ID), 0);
	CHECK(stat(systemd, &after) == 0 && after.st_ino == before.st_ino);
	CHECK(lstat(dbus, &after) == 0 && S_ISLNK(after.st_mode));
	CHECK(unlink(dbus) == 0 && symlink("nowhere", dbus) == 0);
	CHECK_NUMBER(machine_id_set(&paths, MACHINE_ID), 0);
	CHECK(lstat(dbus, &after) == 0 && S_ISLNK(after.st_mode));
	CHECK(unlink(dbus) == 0);
	CHECK(close(open(dbus, O_WRONLY | O_CREAT, 0644)) == 0);
	CHECK_NUMBER(machine_id_set(&paths, "ff112233445546778899aabbccddeeff"), 0);
	CHECK(file_read(dbus, content, sizeof content) == 33 && content[0] == 'f');
	CHECK(file_read(systemd, content, sizeof content) == 33 && content[0] == 'f');
	CHECK(unlink(dbus) == 0 && unlink(systemd) == 0 && rmdir(directory) == 0);
}

static void a_boot_id_is_read_when_it_is_settled(void) {
	char expected[64] = "";
	strcpy(agent.boot_id, BOOT_ID_UNKNOWN);
	CHECK_NUMBER(boot_id_settle(""), 0);
	CHECK(file_read("/proc/sys/kernel/random/boot_id", expected, sizeof expected) == 37);
	CHECK(strncmp(agent.boot_id, expected, 36) == 0 && agent.boot_id[36] == 0);
	/* Given again, or not at all: it stays. */
	expected[36] = 0;
	CHECK_NUMBER(boot_id_settle(expected), 0);
	CHECK_NUMBER(boot_id_settle(""), 0);
	CHECK(strcmp(agent.boot_id, expected) == 0);
}

static unsigned fired;

static void count_fired(struct timer *timer) {
	(void)timer;
	fired++;
}

static void timers_do_not_take_a_standstill_for_time(void) {
	struct timer timer = {.fired = count_fired};
	CHECK_NUMBER(loop_start(), 0);
	fired = 0;
	timer_start(&timer, 10000);
	CHECK(timers_armed());
	/* The wall clock is set, and the machine was asleep for a year. */
	clock_offsets.realtime += INT64_C(31536000000);
	clock_offsets.boottime += INT64_C(31536000000);
	turn(0);
	CHECK_NUMBER(fired, 0);
	/* It was paused for an hour, where that counts as time. */
	turn(3600000);
	CHECK_NUMBER(fired, 0);
	turn(9000);
	CHECK_NUMBER(fired, 0);
	/* Late by less than a second: so the scheduler can be. */
	turn(2000);
	CHECK_NUMBER(fired, 1);
	CHECK(!timers_armed());
	clock_offsets = (struct clock_offsets){0, 0, 0};
}

static int grown;

static void growth_ended(int error) {
	grown = error;
}

/* What growth answers a caller that asks for this size; -1 when it has not yet. */
static int ensure(uint64_t bytes) {
	grown = -1;
	growth_ensure(bytes, growth_ended);
	return grown;
}

/* Until the process that grows has ended and was reaped. */
static int await_growth(void) {
	for (int i = 0; i < 2000 && grown == -1; i++) {
		usleep(1000);
		jobs_reap();
	}
	return grown;
}

static void a_disk_is_waited_for_and_grown(void) {
	CHECK_NUMBER(loop_start(), 0);
	fake_disk = (struct fake_disk){.bytes = 50};
	growth_start("/dev/fake");
	CHECK(!growth_running());
	CHECK_NUMBER(ensure(0), 0);
	CHECK_NUMBER(ensure(50), 0);
	/* The news of the new size comes late, or never, or its caller has gone by then. */
	CHECK_NUMBER(ensure(100), -1);
	turn(1500);
	CHECK_NUMBER(grown, -1);
	fake_disk.bytes = 100;
	turn(2);
	CHECK_NUMBER(grown, 0);
	CHECK_NUMBER(ensure(101), -1);
	turn(1500);
	turn(1500);
	CHECK_NUMBER(grown, ETIMEDOUT);
	CHECK_NUMBER(ensure(101), -1);
	growth_withdraw();
	CHECK(!timers_armed());
	/* It is larger than its file system. */
	fake_disk.can_grow = true;
	fake_disk.bytes = 200;
	CHECK_NUMBER(ensure(200), -1);
	CHECK(growth_running());
	CHECK_NUMBER(await_growth(), 0);
	/* Nothing is looked at again for a size it is known to have. */
	CHECK_NUMBER(ensure(200), 0);
	fake_disk.growing_fails = true;
	fake_disk.bytes = 300;
	CHECK_NUMBER(ensure(300), -1);
	CHECK_NUMBER(await_growth(), EIO);
	CHECK_NUMBER(ensure(300), -1);
	CHECK_NUMBER(await_growth(), EIO);
	/* Nobody asked for a size: a root file system that stays small is still one. */
	CHECK_NUMBER(ensure(0), -1);
	CHECK_NUMBER(await_growth(), 0);
	CHECK(!growth_running());
	clock_offsets = (struct clock_offsets){0, 0, 0};
}

/* In a process without children, as the agent is in a template. */
static int become_idle(void) {
	struct timer timer = {.fired = count_fired};
	agent.mounted = true;
	EXPECT(idle());
	timer_start(&timer, 1000);
	EXPECT(!idle());
	timer_stop(&timer);
	strcpy(agent.boot_error, "no root disk");
	EXPECT(!idle());
	agent.boot_error[0] = 0;
	/* An orphan that PID 1 has inherited, and that nobody waits for. */
	pid_t pid = fork();
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		pause();
	}
	EXPECT(pid > 0 && !idle());
	kill(pid, SIGKILL);
	EXPECT(waitpid(pid, NULL, 0) == pid && idle());
	return 0;
}

static void only_an_agent_without_work_is_idle(void) {
	int status = -1;
	pid_t pid = fork();
	if (pid == 0) _exit(become_idle() & 0xff);
	CHECK(pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status));
	/* The low bits of the line of what is wrong. */
	CHECK_NUMBER(WEXITSTATUS(status), 0);
}

const struct test machine_tests[] = {
	TEST(randomness_comes_before_everything),
	TEST(nothing_follows_a_step_that_failed),
	TEST(a_configuration_answers_once_the_disk_has_grown),
	TEST(machine_ids_are_put_in_place),
	TEST(a_boot_id_is_read_when_it_is_settled),
	TEST(timers_do_not_take_a_standstill_for_time),
	TEST(a_disk_is_waited_for_and_grown),
	TEST(only_an_agent_without_work_is_idle),
	TEST(the_clock_is_set_to_what_it_is_by_then),
	TEST(a_file_is_overwritten_in_its_place_or_replaced),
	TEST(what_somebody_else_wrote_is_foreign),
	TEST(a_first_program_is_rehearsed_until_the_machine_is_somebodys),
	{NULL, NULL},
};
