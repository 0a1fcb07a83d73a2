// userfaultfd with what the pager needs of it, for building with older headers, too.
#pragma once
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>

#include <cstdint>

#ifndef UFFD_FEATURE_WP_HUGETLBFS_SHMEM
#define UFFD_FEATURE_WP_HUGETLBFS_SHMEM (1 << 12)
#endif

namespace xenshim {

// Write protection of shared memory came with Linux 5.19, as did what KVM needs.
constexpr uint64_t kUffdFeatures = UFFD_FEATURE_PAGEFAULT_FLAG_WP | UFFD_FEATURE_WP_HUGETLBFS_SHMEM |
                                   UFFD_FEATURE_MISSING_SHMEM;

// Registers a range for missing pages and write protection. 0 or a negative errno.
inline int RegisterUffd(int uffd, uint64_t start, uint64_t length) {
  uffdio_register range{};
  range.range = {start, length};
  range.mode = UFFDIO_REGISTER_MODE_MISSING | UFFDIO_REGISTER_MODE_WP;
  return ioctl(uffd, UFFDIO_REGISTER, &range) == 0 ? 0 : -errno;
}

}  // namespace xenshim
