#include "idle.h"

#include <errno.h>
#include <sys/wait.h>

#include "agent.h"
#include "growth.h"
#include "job.h"
#include "loop.h"
#include "session.h"

/* Every process descends from PID 1, or is adopted by it. Those that have ended count until they are reaped. */
static bool has_children(void) {
	siginfo_t info;
	return waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) == 0 || errno != ECHILD;
}

bool idle(void) {
	if (!agent.mounted || agent.boot_error[0] != 0 || agent.handed_over) return false;
	if (session_has_streams() || timers_armed() || growth_running()) return false;
	return job_count() == 0 && !has_children();
}
