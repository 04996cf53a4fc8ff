/* The names in a directory, without "." and "..". */
#ifndef BANGER_ENTRIES_H
#define BANGER_ENTRIES_H

#include <dirent.h>

struct entries {
	DIR *stream;
	/* Why it ended early; 0 when it did not. */
	int error;
};

/* Takes the descriptor over, also when this fails. Returns 0 or an errno. */
int entries_open(struct entries *entries, int fd);
/* The descriptor, for what is done with the names. */
int entries_fd(const struct entries *entries);
/* Valid until the next call; NULL at the end, or at an error. */
const char *entries_next(struct entries *entries);
void entries_close(struct entries *entries);

#endif
