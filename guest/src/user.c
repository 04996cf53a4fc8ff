#include "user.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "file.h"

#define MAX_FILE_BYTES (4 * 1024 * 1024)
#define MAX_FIELDS 7

struct field {
	const char *bytes;
	size_t length;
};

/* Splits the line at `*next` at its colons and moves on. Returns how many fields it has; 0 at the end of the text. */
static size_t next_line(const char **next, struct field fields[MAX_FIELDS]) {
	const char *at = *next;
	if (*at == 0) return 0;
	size_t line_length = strcspn(at, "\n");
	const char *end = at + line_length;
	*next = *end == '\n' ? end + 1 : end;
	size_t count = 0;
	while (count < MAX_FIELDS) {
		const char *colon = memchr(at, ':', (size_t)(end - at));
		const char *stop = colon == NULL ? end : colon;
		fields[count++] = (struct field){.bytes = at, .length = (size_t)(stop - at)};
		if (colon == NULL) break;
		at = colon + 1;
	}
	return count;
}

static bool field_is(struct field field, const char *text, size_t length) {
	return field.length == length && memcmp(field.bytes, text, length) == 0;
}

/* A decimal 32-bit number. (uint32_t)-1 is no id: it means "unchanged" to setresuid(2). */
static bool parse_id(const char *text, size_t length, uint32_t *id) {
	uint64_t value = 0;
	if (length == 0 || length > 10) return false;
	for (size_t i = 0; i < length; i++) {
		if (text[i] < '0' || text[i] > '9') return false;
		value = value * 10 + (uint64_t)(text[i] - '0');
	}
	if (value >= UINT32_MAX) return false;
	*id = (uint32_t)value;
	return true;
}

static void copy_field(char *target, size_t capacity, struct field field) {
	size_t length = field.length < capacity ? field.length : capacity - 1;
	memcpy(target, field.bytes, length);
	target[length] = 0;
}

/* Fills in a user from the first entry with this name or, when `by_id`, with this number. */
static bool find_user(const char *passwd, const char *name, size_t length, bool by_id, uint32_t id, struct user *user) {
	struct field fields[MAX_FIELDS];
	size_t count;
	while ((count = next_line(&passwd, fields)) > 0) {
		uint32_t uid, gid;
		if (count < 7) continue;
		if (!parse_id(fields[2].bytes, fields[2].length, &uid) || !parse_id(fields[3].bytes, fields[3].length, &gid)) continue;
		if (by_id ? uid != id : !field_is(fields[0], name, length)) continue;
		user->uid = uid;
		user->gid = gid;
		copy_field(user->name, sizeof user->name, fields[0]);
		if (fields[5].length > 0) copy_field(user->home, sizeof user->home, fields[5]);
		if (fields[6].length > 0) copy_field(user->shell, sizeof user->shell, fields[6]);
		return true;
	}
	return false;
}

static bool find_group(const char *group, const char *name, size_t length, gid_t *gid) {
	struct field fields[MAX_FIELDS];
	size_t count;
	while ((count = next_line(&group, fields)) > 0) {
		uint32_t id;
		if (count < 3 || !field_is(fields[0], name, length)) continue;
		if (!parse_id(fields[2].bytes, fields[2].length, &id)) continue;
		*gid = id;
		return true;
	}
	return false;
}

static bool is_member(struct field members, const char *name) {
	size_t length = strlen(name);
	const char *at = members.bytes;
	const char *end = at + members.length;
	while (at < end) {
		const char *comma = memchr(at, ',', (size_t)(end - at));
		const char *stop = comma == NULL ? end : comma;
		if ((size_t)(stop - at) == length && memcmp(at, name, length) == 0) return true;
		at = stop + 1;
	}
	return false;
}

/* As initgroups(3): the primary group and every group that lists the user. */
static void collect_groups(const char *group, struct user *user) {
	struct field fields[MAX_FIELDS];
	size_t count;
	user->groups[user->group_count++] = user->gid;
	while ((count = next_line(&group, fields)) > 0 && user->group_count < MAX_GROUPS) {
		uint32_t gid;
		if (count < 4 || !is_member(fields[3], user->name)) continue;
		if (!parse_id(fields[2].bytes, fields[2].length, &gid) || gid == user->gid) continue;
		user->groups[user->group_count++] = gid;
	}
}

bool user_resolve(const char *spec, const char *passwd, const char *group, struct user *user) {
	*user = (struct user){.uid = 0, .gid = 0, .name = "root", .home = "/", .shell = "/bin/sh"};
	size_t name_length = strcspn(spec, ":");
	const char *group_name = spec[name_length] == ':' ? spec + name_length + 1 : NULL;
	if (name_length >= MAX_NAME_BYTES || (name_length == 0 && group_name != NULL)) return false;
	const char *name = name_length == 0 ? "root" : spec;
	if (name_length == 0) name_length = 4;
	uint32_t uid = 0;
	bool known = find_user(passwd, name, name_length, false, 0, user);
	if (!known && parse_id(name, name_length, &uid)) {
		known = find_user(passwd, name, name_length, true, uid, user);
		if (!known) {
			user->uid = uid;
			user->gid = uid;
			snprintf(user->name, sizeof user->name, "%u", uid);
			known = true;
		}
	}
	/* A root file system without passwd(5) still has a root. */
	if (!known && !(name_length == 4 && memcmp(name, "root", 4) == 0)) return false;
	if (group_name == NULL) {
		collect_groups(group, user);
		return true;
	}
	size_t group_length = strlen(group_name);
	uint32_t gid;
	if (!find_group(group, group_name, group_length, &user->gid)) {
		if (!parse_id(group_name, group_length, &gid)) return false;
		user->gid = gid;
	}
	user->groups[user->group_count++] = user->gid;
	return true;
}

int user_find(const char *spec, struct user *user) {
	char *passwd = file_load("/etc/passwd", MAX_FILE_BYTES);
	if (passwd == NULL && errno != ENOENT) return errno;
	char *group = file_load("/etc/group", MAX_FILE_BYTES);
	if (group == NULL && errno != ENOENT) {
		int error = errno;
		free(passwd);
		return error;
	}
	bool found = user_resolve(spec, passwd == NULL ? "" : passwd, group == NULL ? "" : group, user);
	free(passwd);
	free(group);
	return found ? 0 : ENOENT;
}
