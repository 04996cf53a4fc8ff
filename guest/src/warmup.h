/* Doing ahead what every clone of this machine would otherwise do for itself. */
#ifndef BANGER_WARMUP_H
#define BANGER_WARMUP_H

/*
 * Prepares a machine to be frozen: the files that CONFIGURE writes have a block on the disk, the network interface is up without
 * addresses, what a first program reads is in memory (a few have run), and the next one can be rehearsed. In an
 * emulated clone that is most of what CONFIGURE and a first command would take.
 */
void warmup(void);

#endif
