/* A first program, run for nobody. */
#ifndef BANGER_REHEARSAL_H
#define BANGER_REHEARSAL_H

/*
 * Under emulation code costs most the first time it runs in a QEMU process, and a first program takes much code: of the kernel,
 * of the dynamic linker. In a clone of a frozen machine a thread runs one as soon as a host comes, beside what that host asks
 * for, where there is a second CPU. Prepared before the freeze: the thread waits.
 */
void rehearsal_prepare(void);
/* A host has come. Nothing happens in a machine that was not prepared, or once it has ended. */
void rehearsal_begin(void);
/* The machine is somebody's now: the thread goes away. */
void rehearsal_end(void);

#endif
