#include "fakes.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>

#include "../src/agent.h"
#include "../src/boot_id.h"
#include "../src/clock.h"
#include "../src/entropy.h"
#include "../src/file.h"
#include "../src/growth.h"
#include "../src/loop.h"
#include "../src/machine_id.h"
#include "../src/network.h"
#include "../src/result.h"
#include "../src/session.h"
#include "../src/tree.h"

struct recorder recorder;
struct fake_disk fake_disk;
struct clock_offsets clock_offsets;
int64_t next_wait_ms = -1;
bool refuses_nameless_files;
int made_in;

static void nothing_to_settle(void) {}

void turn(int64_t taking_ms) {
	next_wait_ms = taking_ms;
	loop_turn(nothing_to_settle);
}

bool file_has(const char *path, const char *text) {
	char content[8192];
	return file_read(path, content, sizeof content) >= 0 && strstr(content, text) != NULL;
}

void recorder_start(void) {
	recorder = (struct recorder){.recording = true, .refused = -1};
}

void recorder_stop(void) {
	recorder.recording = false;
}

static int record(const char *name) {
	if (recorder.count < MAX_CALLS) recorder.names[recorder.count++] = name;
	return recorder.failing != NULL && strcmp(recorder.failing, name) == 0 ? EIO : 0;
}

int __real_entropy_add(struct text bytes);
int __wrap_entropy_add(struct text bytes);
int __wrap_entropy_add(struct text bytes) {
	return recorder.recording ? record("entropy") : __real_entropy_add(bytes);
}

int __real_clock_set(uint64_t ns);
int __wrap_clock_set(uint64_t ns);
int __wrap_clock_set(uint64_t ns) {
	if (!recorder.recording) return __real_clock_set(ns);
	recorder.clock_ns = ns;
	return record("clock");
}

int __real_boot_id_settle(const char *given);
int __wrap_boot_id_settle(const char *given);
int __wrap_boot_id_settle(const char *given) {
	if (!recorder.recording) return __real_boot_id_settle(given);
	snprintf(agent.boot_id, sizeof agent.boot_id, "%s", given);
	return record("boot id");
}

int __real_sethostname(const char *name, size_t length);
int __wrap_sethostname(const char *name, size_t length);
int __wrap_sethostname(const char *name, size_t length) {
	if (!recorder.recording) return __real_sethostname(name, length);
	errno = record("hostname");
	return errno == 0 ? 0 : -1;
}

int __real_machine_id_set(const struct machine_id_paths *paths, const char *id);
int __wrap_machine_id_set(const struct machine_id_paths *paths, const char *id);
int __wrap_machine_id_set(const struct machine_id_paths *paths, const char *id) {
	return recorder.recording ? record("machine id") : __real_machine_id_set(paths, id);
}

int __real_tree_settle(const char *path, mode_t mode, uid_t uid, gid_t gid, struct text content);
int __wrap_tree_settle(const char *path, mode_t mode, uid_t uid, gid_t gid, struct text content);
int __wrap_tree_settle(const char *path, mode_t mode, uid_t uid, gid_t gid, struct text content) {
	if (!recorder.recording) return __real_tree_settle(path, mode, uid, gid, content);
	return record("file");
}

int __real_network_configure(const char *mac, const char *address, const char *gateway);
int __wrap_network_configure(const char *mac, const char *address, const char *gateway);
int __wrap_network_configure(const char *mac, const char *address, const char *gateway) {
	return recorder.recording ? record("network") : __real_network_configure(mac, address, gateway);
}

void __real_growth_ensure(uint64_t bytes, void (*then)(int error));
void __wrap_growth_ensure(uint64_t bytes, void (*then)(int error));
void __wrap_growth_ensure(uint64_t bytes, void (*then)(int error)) {
	if (!recorder.recording) {
		__real_growth_ensure(bytes, then);
		return;
	}
	int error = record("growth");
	recorder.growth_bytes = bytes;
	recorder.growth_then = then;
	if (!recorder.growth_takes_time) then(error);
}

void __real_session_refuse(uint32_t id, int error, const char *text);
void __wrap_session_refuse(uint32_t id, int error, const char *text);
void __wrap_session_refuse(uint32_t id, int error, const char *text) {
	if (!recorder.recording) {
		__real_session_refuse(id, error, text);
		return;
	}
	record("refused");
	recorder.refused = error;
	snprintf(recorder.text, sizeof recorder.text, "%s", text);
}

void __real_session_fail(uint32_t id, const char *word, int error);
void __wrap_session_fail(uint32_t id, const char *word, int error);
void __wrap_session_fail(uint32_t id, const char *word, int error) {
	if (recorder.recording) __wrap_session_refuse(id, error, word);
	else __real_session_fail(id, word, error);
}

void __real_result_send(uint32_t id, struct textbuf *text);
void __wrap_result_send(uint32_t id, struct textbuf *text);
void __wrap_result_send(uint32_t id, struct textbuf *text) {
	if (!recorder.recording) {
		__real_result_send(id, text);
		return;
	}
	record("answer");
	recorder.refused = 0;
	snprintf(recorder.text, sizeof recorder.text, "%s", text->bytes);
	textbuf_free(text);
}

int __wrap_ext4_device_bytes(const char *device, uint64_t *bytes);
int __wrap_ext4_device_bytes(const char *device, uint64_t *bytes) {
	(void)device;
	*bytes = fake_disk.bytes;
	return 0;
}

bool __wrap_ext4_can_grow(const char *device);
bool __wrap_ext4_can_grow(const char *device) {
	(void)device;
	return fake_disk.can_grow;
}

int __wrap_ext4_grow(const char *device, const char *mount_point);
int __wrap_ext4_grow(const char *device, const char *mount_point) {
	(void)device;
	(void)mount_point;
	return fake_disk.growing_fails ? ENOSPC : 0;
}

int __real_clock_gettime(clockid_t clock, struct timespec *now);
int __wrap_clock_gettime(clockid_t clock, struct timespec *now);
int __wrap_clock_gettime(clockid_t clock, struct timespec *now) {
	int result = __real_clock_gettime(clock, now);
	int64_t offset = clock_offsets.boottime;
	if (clock == CLOCK_REALTIME) offset = clock_offsets.realtime;
	if (clock == CLOCK_MONOTONIC) offset = clock_offsets.monotonic;
	int64_t ns = now->tv_nsec + offset % 1000 * 1000000;
	now->tv_sec += (time_t)(offset / 1000 + ns / 1000000000);
	now->tv_nsec = (long)(ns % 1000000000);
	return result;
}

int __real_epoll_wait(int fd, struct epoll_event *events, int capacity, int timeout);
int __wrap_epoll_wait(int fd, struct epoll_event *events, int capacity, int timeout);
int __wrap_epoll_wait(int fd, struct epoll_event *events, int capacity, int timeout) {
	if (next_wait_ms < 0) return __real_epoll_wait(fd, events, capacity, timeout);
	clock_offsets.monotonic += next_wait_ms;
	next_wait_ms = -1;
	return 0;
}

int __real_openat(int directory, const char *path, int flags, ...);
int __wrap_openat(int directory, const char *path, int flags, ...);
int __wrap_openat(int directory, const char *path, int flags, ...) {
	va_list arguments;
	va_start(arguments, flags);
	mode_t mode = (flags & (O_CREAT | O_TMPFILE)) != 0 ? va_arg(arguments, mode_t) : 0;
	va_end(arguments);
	if ((flags & O_EXCL) != 0) made_in = directory;
	if ((flags & O_TMPFILE) != O_TMPFILE || !refuses_nameless_files) return __real_openat(directory, path, flags, mode);
	errno = EOPNOTSUPP;
	return -1;
}
