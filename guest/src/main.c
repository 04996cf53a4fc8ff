/* The agent as /init of the initramfs: boots, serves, reaps. It never exits: it is PID 1. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "agent.h"
#include "boot.h"
#include "devices.h"
#include "loop.h"
#include "session.h"
#include "signals.h"

int main(int argc, char **argv) {
	(void)argc;
	if (getpid() != 1) {
		fprintf(stderr, "banger-agent " AGENT_VERSION ": runs as PID 1 of a virtual machine only\n");
		return 2;
	}
	agent.is_machine = true;
	boot_begin();
	agent_init(argv);
	boot_finish();
	int error = loop_start();
	if (error == 0) error = signals_start();
	if (error == 0) error = devices_serve();
	if (error != 0) agent_log("agent: no channel to the host: %s", strerror(error));
	/* The answer to a host that has been waiting goes out first. */
	loop_turn(session_settle);
	boot_afterwards();
	/* Even without a channel: an exit would be a kernel panic, and the console's last line would not be ours. */
	for (;;) loop_turn(session_settle);
}
