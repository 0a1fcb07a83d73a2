// userfaultfd with what the pager needs of it, for building with older headers, too.
#pragma once
#include <linux/userfaultfd.h>
#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>

#ifndef UFFD_FEATURE_WP_HUGETLBFS_SHMEM
#define UFFD_FEATURE_WP_HUGETLBFS_SHMEM (1 << 12)
#endif

namespace xenshim {

// Write protection of shared memory came with Linux 5.19, as did what KVM needs.
constexpr uint64_t kUffdFeatures = UFFD_FEATURE_PAGEFAULT_FLAG_WP | UFFD_FEATURE_WP_HUGETLBFS_SHMEM |
                                   UFFD_FEATURE_MISSING_SHMEM;

// A userfaultfd of this process with those features, or a negative errno.
inline int OpenUffd() {
  // KVM touches guest memory in the kernel, so UFFD_USER_MODE_ONLY is no use.
  int uffd = static_cast<int>(syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK));
#ifdef USERFAULTFD_IOC_NEW
  if (uffd < 0 && errno == EPERM) {
    const int device = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);
    if (device < 0) return -EPERM;
    uffd = ioctl(device, USERFAULTFD_IOC_NEW, O_CLOEXEC | O_NONBLOCK);
    close(device);
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

// Registers a range for missing pages and write protection. 0 or a negative errno.
inline int RegisterUffd(int uffd, uint64_t start, uint64_t length) {
  uffdio_register range{};
  range.range = {start, length};
  range.mode = UFFDIO_REGISTER_MODE_MISSING | UFFDIO_REGISTER_MODE_WP;
  return ioctl(uffd, UFFDIO_REGISTER, &range) == 0 ? 0 : -errno;
}

}  // namespace xenshim
