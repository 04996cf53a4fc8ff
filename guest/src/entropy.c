#include "entropy.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/random.h>
#include <string.h>
#include <unistd.h>

#include "control.h"

int entropy_add(struct text bytes) {
	/* struct rand_pool_info, with room for the bytes. */
	struct {
		int bits, size;
		char bytes[MAX_ENTROPY_BYTES];
	} pool;
	if (bytes.length > sizeof pool.bytes) return EINVAL;
	pool.bits = (int)bytes.length * 8;
	pool.size = (int)bytes.length;
	memcpy(pool.bytes, bytes.bytes, bytes.length);
	int fd = open("/dev/urandom", O_RDONLY | O_CLOEXEC);
	if (fd < 0) return errno;
	int error = 0;
	if (control(fd, RNDADDENTROPY, &pool) != 0 || control(fd, RNDRESEEDCRNG, NULL) != 0) error = errno;
	close(fd);
	explicit_bzero(&pool, sizeof pool);
	return error;
}
