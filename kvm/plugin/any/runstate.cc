#include "plugin/any/runstate.h"

#include <cerrno>
#include <cstring>

#include "plugin/any/clock.h"
#include "plugin/ram.h"

namespace xenshim::any {

int WriteRunstate(uint64_t gpa, bool long_mode) {
  if (gpa == kNone) return 0;
  // int state; uint64_t state_entry_time; uint64_t time[4], at the alignment of the guest's width.
  uint8_t area[48] = {};
  const size_t entry = long_mode ? 8 : 4, size = long_mode ? 48 : 44;
  const uint64_t now = SystemTime();
  std::memcpy(area + entry, &now, sizeof now);
  for (size_t done = 0; done < size;) {
    const size_t part = std::min(size - done, size_t{4096} - ((gpa + done) & 0xfff));
    uint8_t* to = HostAddress(gpa + done, part);
    if (to == nullptr) return -EINVAL;
    std::memcpy(to, area + done, part);
    done += part;
  }
  return 0;
}

void GetRunstate(uint64_t (&out)[kArgs]) {
  std::memset(out, 0, sizeof out);
  out[2] = SystemTime();
}

}  // namespace xenshim::any
