/* Signals, all of them taken in the loop. */
#ifndef BANGER_SIGNALS_H
#define BANGER_SIGNALS_H

/* Blocks every signal and reaps children when SIGCHLD comes. Returns 0 or an errno. */
int signals_start(void);
/* Watches again after loop_restart, and in a forked child. Returns 0 or an errno. */
int signals_rewatch(void);

#endif
