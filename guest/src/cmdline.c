#include "cmdline.h"

#include <string.h>

bool cmdline_get(const char *cmdline, const char *name, char *value, size_t capacity) {
	static const char blank[] = " \t\n";
	size_t name_length = strlen(name);
	bool found = false;
	const char *at = cmdline + strspn(cmdline, blank);
	while (*at != 0) {
		size_t length = strcspn(at, blank);
		if (length > name_length && strncmp(at, name, name_length) == 0 && at[name_length] == '=') {
			size_t value_length = length - name_length - 1;
			found = value_length < capacity;
			if (found) {
				memcpy(value, at + name_length + 1, value_length);
				value[value_length] = 0;
			}
		}
		at += length;
		at += strspn(at, blank);
	}
	return found;
}
