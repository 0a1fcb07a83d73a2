#include "plugin/any/watcher.h"

#include <pthread.h>
#include <signal.h>
#include <sys/epoll.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>

namespace xenshim::any {
namespace {

int epoll = -1;
// Held while a callback runs, so that none runs for a descriptor that is gone.
std::mutex mutex;
// Never destroyed, as nothing of ours that a thread uses: QEMU's exit() does not wait for our threads.
auto& watched = *new std::map<int, std::function<void()>>;

void* Run(void*) {
  epoll_event events[32];
  for (;;) {
    const int count = epoll_wait(epoll, events, 32, -1);
    for (int i = 0; i < count; i++) {
      std::lock_guard lock(mutex);
      const auto found = watched.find(events[i].data.fd);
      if (found != watched.end()) found->second();
    }
  }
  return nullptr;
}

}  // namespace

void StartWatcher() {
  epoll = epoll_create1(EPOLL_CLOEXEC);
  // QEMU's signals are QEMU's.
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  pthread_t thread;
  const int rc = epoll < 0 ? errno : pthread_create(&thread, nullptr, Run, nullptr);
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  if (rc != 0) {
    std::fprintf(stderr, "xenshim: cannot start the event thread: %s\n", std::strerror(rc));
    std::exit(1);
  }
  pthread_setname_np(thread, "xenshim-events");
  pthread_detach(thread);
}

void Watch(int fd, std::function<void()> ready) {
  std::lock_guard lock(mutex);
  watched[fd] = std::move(ready);
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.fd = fd;
  epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
}

void Unwatch(int fd) {
  std::lock_guard lock(mutex);
  watched.erase(fd);
  epoll_ctl(epoll, EPOLL_CTL_DEL, fd, nullptr);
}

}  // namespace xenshim::any
