#include "modules.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "agent.h"
#include "file.h"

#define DIRECTORY "/modules/"
#define ORDER_FILE DIRECTORY "order"
#define MAX_ORDER_BYTES (64 * 1024)

#define MAX_KEPT 8

/* Opened, because their names are gone after the switch to the root disk. */
static int kept[MAX_KEPT];
static size_t kept_count;

static void insert(int fd, const char *name) {
	/* EEXIST: built in, or loaded already. */
	if (syscall(SYS_finit_module, fd, "", 0) != 0 && errno != EEXIST) agent_log("agent: module %s: %s", name, strerror(errno));
	close(fd);
}

static bool only_for_mount(const char *path) {
	return strcmp(path, DIRECTORY "overlay.ko") == 0 || strcmp(path, DIRECTORY "squashfs.ko") == 0;
}

static void load(const char *path) {
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0) agent_log("agent: module %s: %s", path, strerror(errno));
	else if (only_for_mount(path) && kept_count < MAX_KEPT) kept[kept_count++] = fd;
	else insert(fd, path);
}

void modules_load_kept(void) {
	for (size_t i = 0; i < kept_count; i++) insert(kept[i], "of a file system");
	kept_count = 0;
}

static void delete(const char *path) {
	unlink(path);
}

static void for_each(void (*action)(const char *path)) {
	char *order = file_load(ORDER_FILE, MAX_ORDER_BYTES);
	if (order == NULL) return;
	char *rest = order;
	for (char *name = strsep(&rest, "\n"); name != NULL; name = strsep(&rest, "\n")) {
		char path[256];
		int printed = snprintf(path, sizeof path, DIRECTORY "%s", name);
		if (*name != 0 && printed > 0 && (size_t)printed < sizeof path) action(path);
	}
	free(order);
}

void modules_load(void) {
	for_each(load);
}

void modules_delete(void) {
	for_each(delete);
	unlink(ORDER_FILE);
	rmdir(DIRECTORY);
}
