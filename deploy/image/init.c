// The first program of the image: all that is in the initrd, beside the modules that it loads.
//
// It opens the root with dm-verity under the root hash in the kernel's command line, which the
// firmware measured, mounts it read-only, starts one program in it and ends the machine when that
// ends. There is no shell to fall into: whatever fails here switches the machine off.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/dm-ioctl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

static const char kSerial[] = "sottovoce-root";  // of the disk; which letter it gets is chance
static const char kOption[] = "sottovoce.root=";  // data blocks, ":", root hash
static char *const kProgram[] = {"/usr/bin/python3.11", "-I", "/usr/lib/sottovoce/start.py", NULL};
static char *const kEnvironment[] = {"PATH=/usr/bin", "LC_ALL=C.UTF-8", NULL};

enum { kBlock = 4096, kSector = 512, kHashDigits = 64, kModules = 32, kWaits = 600 };

static void switch_off(void) {
  sync();
  reboot(RB_POWER_OFF);
  for (;;) pause();
}

static void __attribute__((format(printf, 1, 2))) fail(const char *format, ...) {
  int error = errno;
  va_list arguments;
  va_start(arguments, format);
  fputs("init: ", stderr);
  vfprintf(stderr, format, arguments);
  fprintf(stderr, ": %s\n", strerror(error));
  switch_off();
}

static void mount_at(const char *what, const char *where, const char *type, unsigned long flags, const char *data) {
  mkdir(where, 0755);
  if (mount(what, where, type, flags, data)) fail("%s on %s", type, where);
}

// Modules are named by their place in the order: /modules/00.ko, /modules/01.ko, ...
static void load_modules(void) {
  for (int index = 0; index < kModules; index++) {
    char path[32];
    snprintf(path, sizeof path, "/modules/%02d.ko", index);
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0) return;
    if (syscall(SYS_finit_module, file, "", 0)) fail("%s", path);
    close(file);
  }
}

// Reads the number of data blocks and the root hash; exactly one such option may be there.
static unsigned long long read_option(char hash[kHashDigits + 1]) {
  static char line[4096];
  FILE *file = fopen("/proc/cmdline", "re");
  if (!file || !fgets(line, sizeof line, file)) fail("the command line");
  fclose(file);
  char *found = strstr(line, kOption);
  errno = EINVAL;
  if (!found || strstr(found + 1, kOption)) fail("not one %s", kOption);
  char *end;
  unsigned long long blocks = strtoull(found + sizeof kOption - 1, &end, 10);
  if (!blocks || *end != ':' || strspn(end + 1, "0123456789abcdef") != kHashDigits) fail("%s", kOption);
  memcpy(hash, end + 1, kHashDigits);
  hash[kHashDigits] = 0;
  return blocks;
}

static void wait_for(const char *path) {
  for (int tries = 0; access(path, F_OK); tries++) {
    if (tries == kWaits) fail("%s", path);
    usleep(50 * 1000);
  }
}

static int has_serial(char letter) {
  char path[40], serial[sizeof kSerial] = "";
  snprintf(path, sizeof path, "/sys/block/vd%c/serial", letter);
  int file = open(path, O_RDONLY | O_CLOEXEC);
  if (file < 0) return 0;
  ssize_t length = read(file, serial, sizeof serial);
  close(file);
  return length == sizeof kSerial - 1 && !memcmp(serial, kSerial, length);
}

static const char *find_disk(void) {
  static char disk[] = "/dev/vda";
  char *letter = disk + sizeof disk - 2;
  for (int tries = 0; tries < kWaits; tries++) {
    for (*letter = 'a'; *letter <= 'z'; ++*letter)
      if (has_serial(*letter)) return disk;
    usleep(50 * 1000);
  }
  errno = ENODEV;
  fail("%s", kSerial);
  return NULL;
}

static void control(int file, unsigned long request, struct dm_ioctl *header) {
  if (ioctl(file, request, header)) fail("device mapper, request %lu", request & 0xff);
}

static struct dm_ioctl *prepare(void *buffer, size_t size) {
  struct dm_ioctl *header = memset(buffer, 0, size);
  header->version[0] = DM_VERSION_MAJOR;
  header->data_size = size;
  header->data_start = sizeof *header;
  strcpy(header->name, "root");
  return header;
}

// Makes /dev/dm-0: the data, whose every block is checked against the tree that follows it. A block
// that differs stops the machine.
static void open_root(void) {
  char hash[kHashDigits + 1];
  unsigned long long blocks = read_option(hash);
  const char *disk = find_disk();
  wait_for(disk);
  int file = open("/dev/mapper/control", O_RDWR | O_CLOEXEC);
  if (file < 0) fail("the device mapper");
  static union { char bytes[2048]; struct dm_ioctl header; } buffer;
  control(file, DM_DEV_CREATE, prepare(buffer.bytes, sizeof buffer));
  struct dm_ioctl *header = prepare(buffer.bytes, sizeof buffer);
  struct dm_target_spec *target = (void *)(buffer.bytes + sizeof *header);
  header->target_count = 1;
  header->flags = DM_READONLY_FLAG;
  target->length = blocks * (kBlock / kSector);
  strcpy(target->target_type, "verity");
  snprintf((char *)(target + 1), sizeof buffer - sizeof *header - sizeof *target,
           "1 %s %s %d %d %llu %llu sha256 %s - 1 panic_on_corruption", disk, disk, kBlock, kBlock, blocks, blocks, hash);
  control(file, DM_TABLE_LOAD, header);
  control(file, DM_DEV_SUSPEND, prepare(buffer.bytes, sizeof buffer));  // which resumes it
  close(file);
}

static void enter_root(void) {
  static const char *const kept[] = {"/proc", "/sys", "/dev"};
  mount_at("/dev/dm-0", "/root", "erofs", MS_RDONLY | MS_NODEV | MS_NOSUID, NULL);
  for (size_t index = 0; index < sizeof kept / sizeof *kept; index++) {
    char target[32];
    snprintf(target, sizeof target, "/root%s", kept[index]);
    if (mount(kept[index], target, NULL, MS_MOVE, NULL)) fail("%s", target);
  }
  if (chdir("/root") || mount(".", "/", NULL, MS_MOVE, NULL) || chroot(".") || chdir("/")) fail("the root");
  mount_at("securityfs", "/sys/kernel/security", "securityfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
  mount_at("tmpfs", "/run", "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=755");
  mount_at("tmpfs", "/tmp", "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=1777");
  mount_at("tmpfs", "/dev/shm", "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=1777");
}

int main(void) {
  mount_at("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
  mount_at("sysfs", "/sys", "sysfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
  mount_at("devtmpfs", "/dev", "devtmpfs", MS_NOSUID | MS_NOEXEC, NULL);
  load_modules();
  open_root();
  wait_for("/dev/dm-0");
  enter_root();
  pid_t started = fork();
  if (started < 0) fail("fork");
  if (started == 0) {
    execve(kProgram[0], kProgram, kEnvironment);
    fail("%s", kProgram[0]);
  }
  int status = 0;
  for (pid_t ended; (ended = wait(&status)) != started;)
    if (ended < 0 && errno != EINTR) fail("wait");
  fprintf(stderr, "init: the worker ended with status %d\n", status);
  switch_off();
}
