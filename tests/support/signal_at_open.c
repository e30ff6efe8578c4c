// To be preloaded: the process whose rank in its job is SIGNAL_RANK sends itself the signal SIGNAL_NUMBER when it
// opens a file whose path contains SIGNAL_AT_OPEN. So a test can stop or kill one process at a known place.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

static int open_with(const char* name, const char* path, int flags, va_list arguments) {
  const char *part = getenv("SIGNAL_AT_OPEN"), *rank = getenv("OMPI_COMM_WORLD_RANK");
  const char *wanted = getenv("SIGNAL_RANK"), *number = getenv("SIGNAL_NUMBER");
  if (part && rank && wanted && number && strcmp(rank, wanted) == 0 && strstr(path, part)) kill(getpid(), atoi(number));
  int (*real)(const char*, int, ...) = (int (*)(const char*, int, ...))dlsym(RTLD_NEXT, name);
  const mode_t mode = flags & O_CREAT ? va_arg(arguments, mode_t) : 0;
  return real(path, flags, mode);
}

int open(const char* path, int flags, ...) {
  va_list arguments;
  va_start(arguments, flags);
  const int fd = open_with("open", path, flags, arguments);
  va_end(arguments);
  return fd;
}

int open64(const char* path, int flags, ...) {
  va_list arguments;
  va_start(arguments, flags);
  const int fd = open_with("open64", path, flags, arguments);
  va_end(arguments);
  return fd;
}
