/* What the whole agent knows about itself. */
#ifndef BANGER_AGENT_H
#define BANGER_AGENT_H

#include <stdbool.h>
#include <sys/resource.h>

#include "textbuf.h"

#ifndef AGENT_VERSION
#define AGENT_VERSION "0.0.0"
#endif

struct agent {
	/* False in the host-side test harness: operations that change the machine are refused. */
	bool is_machine;
	bool mounted;
	bool configured;
	/* Given to the image's own init: this process is no longer PID 1. */
	bool handed_over;
	/* Why the boot did not finish; empty when it did. */
	char boot_error[256];
	/* BOOT_ID_UNKNOWN until CONFIGURE. */
	char boot_id[40];
	/* What programs get as RLIMIT_NOFILE; the agent itself uses the hard limit. */
	struct rlimit program_nofile;
	/* The program's own argv[0], writable in place. */
	char *own_name;
};

extern struct agent agent;

void agent_init(char **argv);
/* The HELLO object. */
void agent_hello(struct textbuf *text);
/* One line to the console, for what no session can be told. */
void agent_log(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
