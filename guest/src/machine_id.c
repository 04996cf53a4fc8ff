#include "machine_id.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent.h"
#include "bytes.h"
#include "tree.h"

#define MODE 0444

const struct machine_id_paths machine_id_paths = {.systemd = "/etc/machine-id", .dbus = "/var/lib/dbus/machine-id"};

static int replace(const char *path, const char *id) {
	char line[MACHINE_ID_CAPACITY + 1];
	int length = snprintf(line, sizeof line, "%s\n", id);
	struct text content = {.bytes = line, .length = (size_t)length};
	return tree_settle(path, MODE, geteuid(), getegid(), content);
}

int machine_id_set(const struct machine_id_paths *paths, const char *id) {
	struct stat status;
	int error = replace(paths->systemd, id);
	if (error != 0 || lstat(paths->dbus, &status) != 0 || !S_ISREG(status.st_mode)) return error;
	return replace(paths->dbus, id);
}
