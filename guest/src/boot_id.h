/* The id of this boot, as programs and the host see it. */
#ifndef BANGER_BOOT_ID_H
#define BANGER_BOOT_ID_H

/* Terminator included. */
#define BOOT_ID_CAPACITY 37
/* What the agent says until CONFIGURE has come. */
#define BOOT_ID_UNKNOWN "00000000-0000-0000-0000-000000000000"

/*
 * Settles what agent.boot_id is. Empty: the kernel's own, which it makes up when it is read for the first time: not reading
 * it before a machine is frozen gives each clone one of its own. Otherwise `given` is put in the kernel's place: a
 * machine that was cloned after somebody has read it. Returns 0 or an errno.
 */
int boot_id_settle(const char *given);
/* Opens what is read then, so that a clone need not; reading it makes the kernel make it up. */
void boot_id_prepare(void);
/*
 * Does ahead what every copy of this machine would do for itself: the id it has is mounted over the kernel's, and a copy only
 * writes another one there. Returns 0 or an errno.
 */
int boot_id_prepare_copies(void);

#endif
