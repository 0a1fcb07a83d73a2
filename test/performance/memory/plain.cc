// What page-in costs at least: one thread that touches pages of a shared memfd, one that reads each from a file (the first
// argument) and gives it to the kernel with UFFDIO_COPY, and nothing else. Prints the median time of a touch in ns.
#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <thread>
#include <vector>

#include "core/uffd.h"

int main(int, char** arguments) {
  const uint64_t pages = std::strtoull(arguments[2], nullptr, 10);
  const int file = open(arguments[1], O_RDWR | O_CREAT | O_TRUNC, 0600);
  std::vector<char> page(4096, 1);
  for (uint64_t i = 0; i < pages; i++)
    if (write(file, page.data(), 4096) != 4096) return 1;
  const int memfd = memfd_create("plain", 0);
  if (ftruncate(memfd, static_cast<off_t>(pages * 4096)) != 0) return 1;
  auto* memory = static_cast<char*>(mmap(nullptr, pages * 4096, PROT_READ | PROT_WRITE, MAP_SHARED, memfd, 0));
  const int uffd = static_cast<int>(syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK));
  uffdio_api api{};
  api.api = UFFD_API;
  api.features = xenshim::kUffdFeatures;
  const uint64_t start = reinterpret_cast<uint64_t>(memory);
  if (uffd < 0 || ioctl(uffd, UFFDIO_API, &api) != 0 || xenshim::RegisterUffd(uffd, start, pages * 4096) != 0) return 3;
  std::thread([&] {
    alignas(4096) static char buffer[4096];
    pollfd ready{uffd, POLLIN, 0};
    for (;;) {
      poll(&ready, 1, -1);
      uffd_msg message;
      if (read(uffd, &message, sizeof message) != sizeof message) continue;
      const uint64_t at = message.arg.pagefault.address & ~uint64_t{4095};
      if (pread(file, buffer, 4096, static_cast<off_t>(at - start)) != 4096) std::_Exit(1);
      uffdio_copy copy{at, reinterpret_cast<uint64_t>(buffer), 4096, 0, 0};
      ioctl(uffd, UFFDIO_COPY, &copy);
    }
  }).detach();
  std::vector<double> times;
  volatile char sink = 0;
  for (uint64_t i = 0; i < pages; i++) {
    const auto before = std::chrono::steady_clock::now();
    sink = static_cast<char>(sink + memory[i * 7919 % pages * 4096]);
    times.push_back(std::chrono::duration<double, std::nano>(std::chrono::steady_clock::now() - before).count());
  }
  std::sort(times.begin(), times.end());
  std::printf("%f\n", times[pages / 2]);
  std::fflush(stdout);
  std::_Exit(0);
}
