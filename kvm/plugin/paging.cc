#include "plugin/paging.h"

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

}  // namespace

bool RamWatched() { return watch.load() >= 0; }

int WatchRam() {
  if (RamWatched()) return -EBUSY;
  const int uffd = OpenUffd();
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
