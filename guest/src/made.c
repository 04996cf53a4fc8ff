#include "made.h"

#include <stdlib.h>
#include <string.h>

struct made_path {
	struct made_path *next;
	char path[];
};

bool made_add(struct made *made, const char *path, size_t length) {
	struct made_path *added = malloc(sizeof *added + length + 1);
	if (added == NULL) return false;
	memcpy(added->path, path, length);
	added->path[length] = 0;
	added->next = made->newest;
	made->newest = added;
	return true;
}

/* A directory is given its mode soon after the last that was made in it: it is among the newest. */
bool made_take(struct made *made, const char *path) {
	for (struct made_path **link = &made->newest; *link != NULL; link = &(*link)->next) {
		struct made_path *found = *link;
		if (strcmp(found->path, path) != 0) continue;
		*link = found->next;
		free(found);
		return true;
	}
	return false;
}
