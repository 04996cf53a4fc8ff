#include "modules.h"

#include <errno.h>
#include <fcntl.h>
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

static void load(const char *path) {
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	/* EEXIST: built in, or loaded already. */
	if (fd < 0 || (syscall(SYS_finit_module, fd, "", 0) != 0 && errno != EEXIST)) {
		agent_log("agent: module %s: %s", path, strerror(errno));
	}
	if (fd >= 0) close(fd);
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
