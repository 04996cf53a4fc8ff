/* Kernel modules of the initramfs. */
#ifndef BANGER_MODULES_H
#define BANGER_MODULES_H

/* Loads the files named in /modules/order, one per line, in that order. Failures are logged and passed over. */
void modules_load(void);
/* Deletes them: they lie in memory. */
void modules_delete(void);

#endif
