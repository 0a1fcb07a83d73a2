// A process that stands for QEMU and its guest: memory in a shared memfd (descriptor 4), watched by a userfaultfd, which
// goes to the pager over descriptor 3. Threads of it then read and write that memory as told on standard input.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "core/uffd.h"

namespace {

uint64_t* memory;
uint64_t pages;

// The contents of a page at its `turn`-th writing. Half a page: the other half is the shim's.
uint64_t Value(uint64_t page, uint64_t turn, uint64_t word) { return (page + 1) * 0x9e3779b97f4a7c15 + turn * 0x10001 + word; }

void Fill(uint64_t page, uint64_t turn) {
  for (uint64_t word = 0; word < 256; word++) memory[page * 512 + word] = Value(page, turn, word);
}

bool Holds(uint64_t page, uint64_t turn) {
  for (uint64_t word = 0; word < 256; word++)
    if (memory[page * 512 + word] != (turn == 0 ? 0 : Value(page, turn, word))) return false;
  return true;
}

// Reads, checks and rewrites pages at random, those with page % threads == thread.
std::string Work(uint64_t thread, uint64_t threads, uint64_t steps) {
  std::vector<uint64_t> turns(pages);
  uint64_t state = thread * 7919 + 1;
  for (uint64_t step = 0; step < steps; step++) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    const uint64_t page = (state >> 33) % (pages / threads) * threads + thread;
    if (!Holds(page, turns[page])) return "page " + std::to_string(page) + " is wrong at step " + std::to_string(step);
    if ((state >> 20 & 3) != 0) Fill(page, ++turns[page]);
  }
  for (uint64_t page = thread; page < pages; page += threads)
    if (!Holds(page, turns[page])) return "page " + std::to_string(page) + " is wrong at the end";
  return "";
}

void SendUffd(int uffd) {
  uint64_t hva = reinterpret_cast<uint64_t>(memory);
  iovec part{&hva, sizeof hva};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))]{};
  msghdr header{};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  header.msg_control = control;
  header.msg_controllen = sizeof control;
  cmsghdr* c = CMSG_FIRSTHDR(&header);
  c->cmsg_level = SOL_SOCKET;
  c->cmsg_type = SCM_RIGHTS;
  c->cmsg_len = CMSG_LEN(sizeof(int));
  std::memcpy(CMSG_DATA(c), &uffd, sizeof uffd);
  if (sendmsg(3, &header, 0) < 0) std::perror("sendmsg");
}

double Since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double, std::nano>(std::chrono::steady_clock::now() - start).count();
}

}  // namespace

int main() {
  struct stat status;
  fstat(4, &status);
  pages = static_cast<uint64_t>(status.st_size) / 4096;
  void* mapped = mmap(nullptr, pages * 4096, PROT_READ | PROT_WRITE, MAP_SHARED, 4, 0);
  const int uffd = static_cast<int>(syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK));
  uffdio_api api{};
  api.api = UFFD_API;
  api.features = xenshim::kUffdFeatures;
  if (mapped == MAP_FAILED || uffd < 0 || ioctl(uffd, UFFDIO_API, &api) != 0 ||
      xenshim::RegisterUffd(uffd, reinterpret_cast<uint64_t>(mapped), pages * 4096) != 0) {
    std::printf("no userfaultfd: %s\n", std::strerror(errno));
    return 3;
  }
  memory = static_cast<uint64_t*>(mapped);
  SendUffd(uffd);
  char command[32];
  uint64_t a, b;
  while (std::scanf("%31s %lu %lu", command, &a, &b) == 3) {
    const std::string what = command;
    std::string answer = "ok";
    if (what == "fill") {
      for (uint64_t page = a; page < a + b; page++) Fill(page, 1);
    } else if (what == "check") {
      for (uint64_t page = a; page < a + b; page++)
        if (!Holds(page, 1)) answer = "page " + std::to_string(page) + " is wrong";
    } else if (what == "zero") {
      for (uint64_t page = a; page < a + b; page++)
        if (!Holds(page, 0)) answer = "page " + std::to_string(page) + " is not zero";
    } else if (what == "syscall") {
      // The kernel itself touches the page, as KVM does.
      const int null = open("/dev/zero", O_RDONLY);
      if (read(null, memory + a * 512, b) != static_cast<ssize_t>(b)) answer = std::strerror(errno);
      close(null);
    } else if (what == "work") {
      std::vector<std::string> said(a);
      std::vector<std::thread> threads;
      for (uint64_t i = 0; i < a; i++) threads.emplace_back([&, i] { said[i] = Work(i, a, b); });
      for (auto& thread : threads) thread.join();
      for (const auto& each : said)
        if (!each.empty()) answer = each;
    } else if (what == "hammer") {
      // Counts up in each of `a` pages as fast as it can, `b` times, and sees that nothing counted is forgotten.
      for (uint64_t count = 1; count <= b && answer == "ok"; count++)
        for (uint64_t page = 0; page < a; page++) {
          auto* word = static_cast<volatile uint64_t*>(memory) + page * 512 + 100;
          if (*word != count - 1) answer = "page " + std::to_string(page) + " forgot " + std::to_string(count - 1);
          *word = count;
        }
    } else if (what == "time") {
      // ns a first touch takes, the median over frames a … a + b - 1, in no order that could be foreseen; b is a power of two.
      std::vector<double> times;
      volatile uint64_t sink = 0;
      for (uint64_t i = 0; i < b; i++) {
        const uint64_t page = a + i * 7919 % b;
        const auto start = std::chrono::steady_clock::now();
        sink = sink + memory[page * 512];
        times.push_back(Since(start));
      }
      std::sort(times.begin(), times.end());
      answer = std::to_string(times[times.size() / 2]);
    }
    std::printf("%s\n", answer.c_str());
    std::fflush(stdout);
  }
  return 0;
}
