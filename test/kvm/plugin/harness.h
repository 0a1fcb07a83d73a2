// The plugin without KVM and without QEMU: its real code, linked into this program, whose ioctl() is the plugin's own.
// Beneath it a fake kernel answers, on the bridge socket this program plays the shim, and a case plays QEMU.
// One case a process, because the plugin's state is that of one virtual machine.
#pragma once
#include <cstdint>
#include <cstdio>
#include <cstdlib>

namespace harness {

struct Case {
  const char* name;
  void (*run)();
  Case* next;
  static inline Case* first = nullptr;
  Case(const char* called, void (*function)()) : name(called), run(function), next(first) { first = this; }
};

inline void Differ(const char* file, int line, const char* what, uint64_t is, uint64_t wanted) {
  std::fprintf(stderr, "%s:%d: %s is %#lx, not %#lx\n", file, line, what, is, wanted);
  std::_Exit(1);
}

}  // namespace harness

#define CASE(name)                                         \
  static void name();                                      \
  static const harness::Case case_of_##name(#name, &name); \
  static void name()
// The second is what is expected.
#define EQUAL(is, wanted)                                                                          \
  do {                                                                                             \
    const auto is_ = static_cast<uint64_t>(is);                                                    \
    const auto wanted_ = static_cast<uint64_t>(wanted);                                            \
    if (is_ != wanted_) harness::Differ(__FILE__, __LINE__, #is, is_, wanted_);                    \
  } while (false)
#define CHECK(holds)                                               \
  do {                                                             \
    if (!(holds)) {                                                \
      std::fprintf(stderr, "%s:%d: not: %s\n", __FILE__, __LINE__, #holds); \
      std::_Exit(1);                                               \
    }                                                              \
  } while (false)
