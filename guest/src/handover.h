/* Giving PID 1 to the image's own init while this program goes on serving. */
#ifndef BANGER_HANDOVER_H
#define BANGER_HANDOVER_H

/*
 * Forks: the parent, PID 1, executes /sbin/init; the child returns and goes on in the same session.
 * Returns 0 once the image's init runs, EBUSY when this process is not PID 1 (any more), or the errno of the failure.
 */
int handover_to_image(void);

#endif
