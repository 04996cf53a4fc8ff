#include "ext4.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <unistd.h>

#include "bytes.h"
#include "control.h"

/* fs/ext4/ext4.h; not in the exported headers. */
#define EXT4_IOC_RESIZE_FS _IOW('f', 16, uint64_t)
#define MAGIC 0xEF53
#define FEATURE_64BIT 0x80U
/* Less than this is not worth the work (and a block group needs more than a few blocks). */
#define MIN_GROWTH_BYTES (16U << 20)

bool ext4_parse_size(const uint8_t *superblock, struct ext4_size *size) {
	uint32_t block_shift = get_u32(superblock + 0x18);
	if (get_u16(superblock + 0x38) != MAGIC || block_shift > 6) return false;
	size->block_bytes = UINT32_C(1024) << block_shift;
	size->blocks = get_u32(superblock + 0x04);
	if ((get_u32(superblock + 0x60) & FEATURE_64BIT) != 0) size->blocks |= (uint64_t)get_u32(superblock + 0x150) << 32;
	return true;
}

int ext4_device_bytes(const char *device, uint64_t *bytes) {
	int fd = open(device, O_RDONLY | O_CLOEXEC);
	if (fd < 0) return errno;
	int error = control(fd, BLKGETSIZE64, bytes) == 0 ? 0 : errno;
	close(fd);
	return error;
}

static int measure(const char *device, struct ext4_size *size, uint64_t *device_bytes) {
	uint8_t superblock[EXT4_SUPERBLOCK_BYTES];
	int fd = open(device, O_RDONLY | O_CLOEXEC);
	if (fd < 0) return errno;
	int error = 0;
	if (control(fd, BLKGETSIZE64, device_bytes) != 0) error = errno;
	else if (pread(fd, superblock, sizeof superblock, EXT4_SUPERBLOCK_OFFSET) != (ssize_t)sizeof superblock) error = EIO;
	else if (!ext4_parse_size(superblock, size)) error = EINVAL;
	close(fd);
	return error;
}

/* How many blocks the file system would have on all of the device; 0 when it should stay as it is. */
static int plan_growth(const char *device, uint64_t *blocks) {
	struct ext4_size size;
	uint64_t device_bytes;
	*blocks = 0;
	int error = measure(device, &size, &device_bytes);
	if (error != 0) return error;
	uint64_t possible = device_bytes / size.block_bytes;
	if (possible > size.blocks && (possible - size.blocks) * size.block_bytes >= MIN_GROWTH_BYTES) *blocks = possible;
	return 0;
}

bool ext4_can_grow(const char *device) {
	uint64_t blocks;
	return plan_growth(device, &blocks) == 0 && blocks != 0;
}

int ext4_grow(const char *device, const char *mount_point) {
	uint64_t blocks;
	int error = plan_growth(device, &blocks);
	if (error != 0 || blocks == 0) return error;
	int fd = open(mount_point, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0) return errno;
	error = control(fd, EXT4_IOC_RESIZE_FS, &blocks) == 0 ? 0 : errno;
	close(fd);
	return error;
}
