/* Reading in ahead what every clone of this machine would otherwise read for itself. */
#ifndef BANGER_WARMUP_H
#define BANGER_WARMUP_H

/*
 * Writes a file of the root disk as CONFIGURE does, and takes it away again: bitmaps, directories and journal are in memory
 * afterwards. In an emulated clone that is most of what CONFIGURE would take.
 */
void warmup(void);

#endif
