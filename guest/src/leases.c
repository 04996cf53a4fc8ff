#include "leases.h"

#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

/* A directory that anybody may write to can have any number of entries. */
#define MAX_ENTRIES 1024
#define MAX_PID 4194304

void leases_prepare(const char *path) {
	if (mkdir(path, 01777) == 0) chmod(path, 01777);
}

static int is_held(const char *name) {
	char *end;
	errno = 0;
	unsigned long pid = strtoul(name, &end, 10);
	if (name[0] < '0' || name[0] > '9' || *end != 0) return 1;
	if (errno != 0 || pid == 0 || pid > MAX_PID) return 0;
	return kill((pid_t)pid, 0) == 0 || errno == EPERM;
}

unsigned leases_held(const char *path) {
	DIR *dir = opendir(path);
	if (dir == NULL) return 0;
	unsigned held = 0;
	unsigned seen = 0;
	for (struct dirent *entry = readdir(dir); entry != NULL && seen < MAX_ENTRIES; entry = readdir(dir)) {
		if (entry->d_name[0] == '.') continue;
		seen++;
		if (is_held(entry->d_name)) held++;
		/* Programs that end at all do not clean up, and what is left would hide leases beyond MAX_ENTRIES. */
		else unlinkat(dirfd(dir), entry->d_name, 0);
	}
	closedir(dir);
	return held;
}
