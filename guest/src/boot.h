/* From the initramfs to the root file system of the image. */
#ifndef BANGER_BOOT_H
#define BANGER_BOOT_H

/* /dev, /proc, /sys and the descriptors 0 to 2: what everything else needs. */
void boot_begin(void);
/* Loads modules and switches to the root disk the kernel's command line names; sets agent.mounted or agent.boot_error. */
void boot_finish(void);
/* What can wait until the host is served: growing the root file system (in the background), modules nobody needs yet. */
void boot_afterwards(void);

#endif
