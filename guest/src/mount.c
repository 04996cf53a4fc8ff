#include "mount.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent.h"
#include "control.h"
#include "modules.h"
#include "mount_request.h"
#include "session.h"
#include "tree.h"

/* After linux/fs.h: both define the MS_ flags, in the same way. */
#include <sys/mount.h>

#define BASE "/var/lib/banger/"

struct mount_paths {
	char base[64], lower[80], upper[80], work[80], merged[80];
};

static bool is_mount_point(const char *path) {
	char parent[MAX_PATH_BYTES + 4];
	struct stat own, above;
	snprintf(parent, sizeof parent, "%s/..", path);
	return stat(path, &own) == 0 && stat(parent, &above) == 0 && own.st_dev != above.st_dev;
}

/* The host fills the disk after the machine has booted: what the kernel read of it before is void. */
static int forget_buffers(const char *device) {
	int fd = open(device, O_RDONLY | O_CLOEXEC);
	if (fd < 0) return errno;
	int error = control(fd, BLKFLSBUF, NULL) == 0 ? 0 : errno;
	close(fd);
	return error;
}

static int mount_image(const struct mount_request *request, const char *target) {
	int error = forget_buffers(request->device);
	if (error != 0) return error;
	return mount(request->device, target, request->type, MS_RDONLY | MS_NODEV, "") == 0 ? 0 : errno;
}

static int mount_overlay(const struct mount_request *request, const struct mount_paths *paths, const char *target) {
	char options[300];
	int error = tree_make(paths->lower, 0, 0);
	if (error == 0) error = tree_make(paths->upper, 0, 0);
	if (error == 0) error = tree_make(paths->work, 0, 0);
	if (error == 0) error = mount_image(request, paths->lower);
	if (error != 0) return error;
	snprintf(options, sizeof options, "lowerdir=%s,upperdir=%s,workdir=%s", paths->lower, paths->upper, paths->work);
	if (mount("overlay", target, "overlay", 0, options) == 0) return 0;
	error = errno;
	umount2(paths->lower, MNT_DETACH);
	return error;
}

/* A second view of the overlay, which cannot be written to: the host can, through the first. */
static int mount_view(const struct mount_request *request, const struct mount_paths *paths) {
	int error = tree_make(paths->merged, 0, 0);
	if (error == 0 && !is_mount_point(paths->merged)) error = mount_overlay(request, paths, paths->merged);
	if (error != 0) return error;
	if (mount(paths->merged, request->target, NULL, MS_BIND, NULL) == 0) {
		if (mount(NULL, request->target, NULL, MS_BIND | MS_REMOUNT | MS_RDONLY | MS_NODEV, NULL) == 0) return 0;
		error = errno;
		umount2(request->target, MNT_DETACH);
	} else {
		error = errno;
	}
	/* Who is refused must find the disk as it was: free to be written. */
	umount2(paths->merged, MNT_DETACH);
	umount2(paths->lower, MNT_DETACH);
	return error;
}

static int mount_all(const struct mount_request *request) {
	struct mount_paths paths;
	snprintf(paths.base, sizeof paths.base, BASE "%s", request->label);
	snprintf(paths.lower, sizeof paths.lower, "%s/lower", paths.base);
	snprintf(paths.upper, sizeof paths.upper, "%s/upper", paths.base);
	snprintf(paths.work, sizeof paths.work, "%s/work", paths.base);
	snprintf(paths.merged, sizeof paths.merged, "%s/merged", paths.base);
	int error = tree_make(request->target, 0, 0);
	if (error != 0) return error;
	/* Asked again by a host that did not get the answer. */
	if (is_mount_point(request->target) && is_mount_point(paths.lower)) return 0;
	bool read_only = (request->flags & MOUNT_READ_ONLY) != 0;
	return read_only ? mount_view(request, &paths) : mount_overlay(request, &paths, request->target);
}

void mount_open(uint32_t id, struct reader *reader) {
	struct mount_request request;
	if (!mount_request_decode(reader, &request)) {
		session_fail(id, "bad-request", EINVAL);
		return;
	}
	modules_load_kept();
	int error = mount_all(&request);
	if (error == 0) session_done(id);
	else session_fail(id, "mount", error);
}
