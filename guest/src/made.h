/* Which directories were made here, until they have got what they are to have. */
#ifndef BANGER_MADE_H
#define BANGER_MADE_H

#include <stdbool.h>
#include <stddef.h>

struct made {
	struct made_path *newest;
};

/* False without memory. */
bool made_add(struct made *made, const char *path, size_t length);
/* Whether it was made, and not taken before. */
bool made_take(struct made *made, const char *path);

#endif
