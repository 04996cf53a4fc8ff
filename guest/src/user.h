/* Who a program runs as: /etc/passwd and /etc/group, without NSS (a static program has none). */
#ifndef BANGER_USER_H
#define BANGER_USER_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#define MAX_GROUPS 256
#define MAX_NAME_BYTES 64
#define MAX_PATH_BYTES 4096

struct user {
	uid_t uid;
	gid_t gid;
	/* Supplementary groups. */
	gid_t groups[MAX_GROUPS];
	size_t group_count;
	char name[MAX_NAME_BYTES];
	char home[MAX_PATH_BYTES];
	char shell[MAX_PATH_BYTES];
};

/*
 * Resolves `name`, `uid`, `name:group` or `uid:gid` (empty: root) against the texts of passwd(5) and group(5).
 * A number needs no entry. Returns false when a name is unknown or the form is wrong.
 */
bool user_resolve(const char *spec, const char *passwd, const char *group, struct user *user);
/* The same with the files of the running system. Returns 0, ENOENT for an unknown user, or another errno. */
int user_find(const char *spec, struct user *user);

#endif
