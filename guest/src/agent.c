#include "agent.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "boot_id.h"
#include "clock.h"

/* Programs meet the usual soft limit, and may raise it as far as systemd lets its services (systemd.exec(5)). */
#define SOFT_NOFILE 1024
#define HARD_NOFILE 524288

struct agent agent;

static void raise_nofile(void) {
	struct rlimit limit;
	if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
	agent.program_nofile = limit;
	struct rlimit own = {.rlim_cur = HARD_NOFILE, .rlim_max = HARD_NOFILE};
	if (agent.is_machine && setrlimit(RLIMIT_NOFILE, &own) == 0) {
		agent.program_nofile = (struct rlimit){.rlim_cur = SOFT_NOFILE, .rlim_max = HARD_NOFILE};
		return;
	}
	own = (struct rlimit){.rlim_cur = limit.rlim_max, .rlim_max = limit.rlim_max};
	setrlimit(RLIMIT_NOFILE, &own);
}

void agent_init(char **argv) {
	agent.own_name = argv[0];
	raise_nofile();
	strcpy(agent.boot_id, BOOT_ID_UNKNOWN);
}

void agent_hello(struct textbuf *text) {
	struct utsname name;
	if (uname(&name) != 0) name.release[0] = 0;
	textbuf_add(text, "{\"agent\":");
	textbuf_add_json_string(text, AGENT_VERSION);
	textbuf_add(text, ",\"bootId\":");
	textbuf_add_json_string(text, agent.boot_id);
	textbuf_add(text, ",\"configured\":%s,\"kernel\":", agent.configured ? "true" : "false");
	textbuf_add_json_string(text, name.release);
	textbuf_add(text, ",\"mounted\":%s,\"error\":", agent.mounted ? "true" : "false");
	if (agent.boot_error[0] == 0) textbuf_add(text, "null");
	else textbuf_add_json_string(text, agent.boot_error);
	textbuf_add(text, ",\"clockMs\":%llu}", clock_ms());
}

void agent_log(const char *format, ...) {
	char line[512];
	va_list arguments;
	va_start(arguments, format);
	int length = vsnprintf(line, sizeof line - 1, format, arguments);
	va_end(arguments);
	if (length < 0) return;
	size_t end = (size_t)length < sizeof line - 1 ? (size_t)length : sizeof line - 2;
	line[end] = '\n';
	/* Nobody can be told when the console fails. */
	ssize_t ignored = write(STDERR_FILENO, line, end + 1);
	(void)ignored;
}
