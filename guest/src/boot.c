#include "boot.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "agent.h"
#include "cmdline.h"
#include "file.h"
#include "growth.h"
#include "leases.h"
#include "loop.h"
#include "modules.h"
#include "network.h"
#include "warmup.h"

#define NEW_ROOT "/newroot"
#define DEVICE_WITHIN_MS 10000
#define POLL_NS 1000000
/* What can wait is done unasked once nobody is waiting for a first command any more. */
#define IDLE_AFTER_MS 1500

static char root_device[128], root_type[32];

static const struct {
	const char *type, *target, *options;
	unsigned long flags;
} api_mounts[] = {
	{"devpts", "/dev/pts", "gid=5,mode=620,ptmxmode=666", MS_NOSUID | MS_NOEXEC},
	{"tmpfs", "/dev/shm", "mode=1777", MS_NOSUID | MS_NODEV},
	{"tmpfs", "/run", "mode=755", MS_NOSUID | MS_NODEV},
	{"cgroup2", "/sys/fs/cgroup", "", MS_NOSUID | MS_NODEV | MS_NOEXEC},
};

static const char *const links[][2] = {
	{"/proc/self/fd", "/dev/fd"},
	{"/proc/self/fd/0", "/dev/stdin"},
	{"/proc/self/fd/1", "/dev/stdout"},
	{"/proc/self/fd/2", "/dev/stderr"},
};

static void mount_or_log(const char *type, const char *target, unsigned long flags, const char *options) {
	mkdir(target, 0755);
	/* EBUSY: there already. */
	if (mount(type, target, type, flags, options) != 0 && errno != EBUSY) {
		agent_log("agent: mount %s: %s", target, strerror(errno));
	}
}

static void open_standard_descriptors(void) {
	int fd = open("/dev/console", O_RDWR | O_NOCTTY);
	if (fd < 0) fd = open("/dev/null", O_RDWR);
	while (fd >= 0 && fd <= STDERR_FILENO) fd = dup(fd);
	if (fd > STDERR_FILENO) close(fd);
}

void boot_begin(void) {
	mount_or_log("devtmpfs", "/dev", MS_NOSUID, "mode=755");
	open_standard_descriptors();
	mount_or_log("proc", "/proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, "");
	mount_or_log("sysfs", "/sys", MS_NOSUID | MS_NODEV | MS_NOEXEC, "");
}

static bool wait_for(const char *path) {
	struct timespec pause = {.tv_nsec = POLL_NS};
	for (int waited_ms = 0; access(path, F_OK) != 0; waited_ms++) {
		if (waited_ms >= DEVICE_WITHIN_MS) return false;
		nanosleep(&pause, NULL);
	}
	return true;
}

static void fail(const char *what, const char *subject, int error) {
	snprintf(agent.boot_error, sizeof agent.boot_error, "%s %.100s: %s", what, subject, strerror(error));
	agent_log("agent: %s", agent.boot_error);
}

/* Moves what is mounted along, and makes the disk the root. Returns 0 or an errno. */
static int switch_root(void) {
	static const char *const moved[] = {"/dev", "/proc", "/sys"};
	for (size_t i = 0; i < sizeof moved / sizeof moved[0]; i++) {
		char target[64];
		snprintf(target, sizeof target, NEW_ROOT "%s", moved[i]);
		mkdir(target, 0755);
		if (mount(moved[i], target, NULL, MS_MOVE, NULL) != 0) return errno;
	}
	/* What the initramfs holds would stay in memory for good. */
	modules_delete();
	unlink("/init");
	if (chdir(NEW_ROOT) != 0 || mount(".", "/", NULL, MS_MOVE, NULL) != 0) return errno;
	if (chroot(".") != 0 || chdir("/") != 0) return errno;
	return 0;
}

/*
 * Without the kernel's thread that reads all bitmaps and zeroes inode tables in the background: a disk is full of zeros where
 * nobody has written, and in a machine that is frozen the thread would go on in every clone. A kernel may not know the options.
 */
static int mount_root(const char *device, const char *type) {
	bool is_ext4 = strcmp(type, "ext4") == 0;
	if (is_ext4 && mount(device, NEW_ROOT, type, 0, "noinit_itable,no_prefetch_block_bitmaps") == 0) return 0;
	return mount(device, NEW_ROOT, type, 0, "");
}

static void enter_root_disk(const char *device, const char *type) {
	mkdir(NEW_ROOT, 0755);
	if (!wait_for(device)) {
		fail("root disk", device, ENODEV);
		return;
	}
	if (mount_root(device, type) != 0) {
		fail("mount of root disk", device, errno);
		return;
	}
	int error = switch_root();
	if (error != 0) fail("switch to root disk", device, error);
	agent.mounted = error == 0;
}

static void mount_api_filesystems(void) {
	for (size_t i = 0; i < sizeof api_mounts / sizeof api_mounts[0]; i++) {
		mount_or_log(api_mounts[i].type, api_mounts[i].target, api_mounts[i].flags, api_mounts[i].options);
	}
	for (size_t i = 0; i < sizeof links / sizeof links[0]; i++) {
		/* Best effort: whoever misses one says so. */
		int ignored = symlink(links[i][0], links[i][1]);
		(void)ignored;
	}
	/* Where /var/lock points to. */
	if (mkdir("/run/lock", 01777) == 0) chmod("/run/lock", 01777);
	leases_prepare(LEASES_DIR);
}

void boot_finish(void) {
	char cmdline[4096];
	modules_load();
	file_read("/proc/cmdline", cmdline, sizeof cmdline);
	if (!cmdline_get(cmdline, "banger.rootfstype", root_type, sizeof root_type)) strcpy(root_type, "ext4");
	if (cmdline_get(cmdline, "banger.root", root_device, sizeof root_device)) enter_root_disk(root_device, root_type);
	mount_api_filesystems();
	int error = network_loopback_up();
	if (error != 0) agent_log("agent: lo: %s", strerror(error));
}

static void idle_fired(struct timer *timer) {
	(void)timer;
	modules_load_kept();
	/* Nobody's machine so long after its boot: it is to be frozen and cloned. */
	if (agent.mounted && !agent.configured) warmup();
}

void boot_afterwards(void) {
	static struct timer idle = {.fired = idle_fired};
	timer_start(&idle, IDLE_AFTER_MS);
	if (agent.mounted && strcmp(root_type, "ext4") == 0) growth_start(root_device);
}
