// The thread that waits for descriptors on the guest's behalf: backends' eventfds, the guest's timers.
#pragma once
#include <functional>

namespace xenshim::any {

// Starts the thread. Its callbacks run one at a time, on it.
void StartWatcher();
// Calls `ready` whenever `fd` is readable. The descriptor must be non-blocking or its read done in `ready`.
void Watch(int fd, std::function<void()> ready);
// After it returns `ready` is not called any more. Not from a callback.
void Unwatch(int fd);

}  // namespace xenshim::any
