#include "warmup.h"

#include <unistd.h>

#include "file.h"
#include "tree.h"

#define SCRATCH_FILE "/etc/.banger-warmup"

void warmup(void) {
	static const char *const replaced[] = {"/etc/machine-id", "/etc/hostname", "/etc/hosts", "/etc/resolv.conf"};
	static const struct text content = {.bytes = "x", .length = 1};
	char bytes[64];
	for (size_t i = 0; i < sizeof replaced / sizeof replaced[0]; i++) file_read(replaced[i], bytes, sizeof bytes);
	/* Twice: replacing a file is more than making one. Best effort: a root that cannot be written is told of by CONFIGURE. */
	for (int i = 0; i < 2; i++) tree_write(SCRATCH_FILE, 0600, 0, 0, content);
	unlink(SCRATCH_FILE);
}
