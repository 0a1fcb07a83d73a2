#include "plugin/paging.h"

#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>

#include "core/uffd.h"
#include "plugin/channel.h"
#include "plugin/ram.h"

namespace xenshim {
namespace {

// Kept here as well: when its last descriptor is closed, the kernel gives pages of zeros to whoever waits for a page.
std::atomic<int> watch{-1};

int MakeUffd() {
  // KVM touches guest memory in the kernel, so UFFD_USER_MODE_ONLY is no use.
  int uffd = static_cast<int>(syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK));
#ifdef USERFAULTFD_IOC_NEW
  if (uffd < 0 && errno == EPERM) {
    const int device = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);
    if (device >= 0) {
      uffd = ioctl(device, USERFAULTFD_IOC_NEW, O_CLOEXEC | O_NONBLOCK);
      close(device);
    } else {
      errno = EPERM;
    }
  }
#endif
  if (uffd < 0) return -errno;
  uffdio_api api{};
  api.api = UFFD_API;
  api.features = kUffdFeatures;
  if (ioctl(uffd, UFFDIO_API, &api) != 0) {
    const int error = errno;
    close(uffd);
    return -error;
  }
  return uffd;
}

}  // namespace

bool RamWatched() { return watch.load() >= 0; }

int WatchRam() {
  if (RamWatched()) return -EBUSY;
  const int uffd = MakeUffd();
  if (uffd < 0) return uffd;
  for (const RamMapping& mapping : RamMappings()) {
    if (const int rc = RegisterUffd(uffd, mapping.hva, mapping.length); rc != 0) {
      close(uffd);
      return rc;
    }
    Message message{.op = kRamMapping};
    message.arg[0] = mapping.file;
    message.arg[1] = mapping.offset;
    message.arg[2] = mapping.hva;
    message.arg[3] = mapping.length;
    SendMessage(message);
  }
  watch.store(uffd);
  SendMessage({.op = kRamWatch}, uffd);
  return 0;
}

}  // namespace xenshim
