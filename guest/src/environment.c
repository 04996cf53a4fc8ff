#include "environment.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BASE_COUNT 7
#define SYSTEM_PATH "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

static bool same_name(const char *one, const char *other) {
	size_t length = strcspn(one, "=");
	return strncmp(one, other, length) == 0 && other[length] == '=';
}

static size_t put(char **environment, size_t count, char *entry) {
	for (size_t i = 0; i < count; i++) {
		if (same_name(entry, environment[i])) {
			environment[i] = entry;
			return count;
		}
	}
	environment[count] = entry;
	return count + 1;
}

char **environment_build(const struct user *user, bool tty, char **given, size_t given_count) {
	size_t pointers = (BASE_COUNT + given_count + 1) * sizeof(char *);
	size_t text_capacity = strlen(user->home) + 2 * strlen(user->name) + strlen(user->shell) + 256;
	char **environment = malloc(pointers + text_capacity);
	if (environment == NULL) return NULL;
	char *text = (char *)environment + pointers;
	const char *const base[BASE_COUNT][2] = {
		{"PATH", SYSTEM_PATH}, {"HOME", user->home},   {"USER", user->name}, {"LOGNAME", user->name},
		{"SHELL", user->shell}, {"LANG", "C.UTF-8"}, {"TERM", "xterm"},
	};
	size_t count = 0;
	for (size_t i = 0; i < BASE_COUNT - (tty ? 0 : 1); i++) {
		environment[count++] = text;
		text += sprintf(text, "%s=%s", base[i][0], base[i][1]) + 1;
	}
	for (size_t i = 0; i < given_count; i++) {
		/* Without a name it is no variable. */
		if (given[i][0] != '=' && strchr(given[i], '=') != NULL) count = put(environment, count, given[i]);
	}
	environment[count] = NULL;
	return environment;
}

const char *environment_get(char **environment, const char *name) {
	size_t length = strlen(name);
	for (char **entry = environment; *entry != NULL; entry++) {
		if (strncmp(*entry, name, length) == 0 && (*entry)[length] == '=') return *entry + length + 1;
	}
	return NULL;
}
