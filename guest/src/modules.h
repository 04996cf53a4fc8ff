/* Kernel modules of the initramfs. */
#ifndef BANGER_MODULES_H
#define BANGER_MODULES_H

/*
 * Loads the files named in /modules/order, one per line, in that order. Failures are logged and passed over.
 * Those that only MOUNT needs are opened and kept for later: under emulation they cost some 15 ms of the boot.
 */
void modules_load(void);
/* Loads what was kept. Nothing happens the second time. */
void modules_load_kept(void);
/* Deletes the files: they lie in memory. */
void modules_delete(void);

#endif
