/* Growing an ext4 file system to the size of its disk. */
#ifndef BANGER_EXT4_H
#define BANGER_EXT4_H

#include <stdbool.h>
#include <stdint.h>

#define EXT4_SUPERBLOCK_OFFSET 1024
#define EXT4_SUPERBLOCK_BYTES 1024

struct ext4_size {
	uint64_t blocks;
	uint32_t block_bytes;
};

/* Reads the size out of EXT4_SUPERBLOCK_BYTES of a superblock (Documentation/filesystems/ext4/super.rst); false when it is none. */
bool ext4_parse_size(const uint8_t *superblock, struct ext4_size *size);
/* How large the device is now. Returns 0 or an errno. */
int ext4_device_bytes(const char *device, uint64_t *bytes);
/* Whether the device is larger than its file system by enough to be worth it. */
bool ext4_can_grow(const char *device);
/* Grows the file system of `device`, mounted at `mount_point`, when the device is larger. Returns 0 or an errno. */
int ext4_grow(const char *device, const char *mount_point);

#endif
