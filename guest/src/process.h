/* A process of ours as a stream: its standard streams are the stream's channels, its end is the stream's. */
#ifndef BANGER_PROCESS_H
#define BANGER_PROCESS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* Running or being ended: what was hung up a moment ago counts, too. */
#define MAX_JOBS 1024

struct process;

struct process_tty {
	uint16_t rows, columns;
	uid_t uid;
};

/* NULL when there is no memory. Ends in process_begin, or in process_free. */
struct process *process_new(void);
void process_free(struct process *process);
/*
 * Make the standard streams; with `input` its stdin is channel 0, without it has none. `stdio` gets the ends that are for the
 * process, to be closed here once it has them, also when this fails. Return 0 or an errno.
 */
int process_connect_tty(struct process *process, const struct process_tty *tty, bool input, int stdio[3]);
int process_connect_pipes(struct process *process, bool input, int stdio[3]);
void process_close_program_ends(const int stdio[3]);
/* Registers what was started as the leader of a process group, and its stream. */
void process_begin(struct process *process, uint32_t id, pid_t pid);
/* Runs a function as worker.h says, with channels 0 (with `input`) and 1 as its descriptors 0 and 1, or answers why not. */
void process_begin_worker(uint32_t id, bool input, int (*work)(const void *request), const void *request);

#endif
