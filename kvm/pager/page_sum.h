// A sum over a page: tells a page file that was cut or overwritten from one that gives back what it was given.
#pragma once
#include <cstdint>
#include <cstring>

namespace xenshim {

inline uint64_t PageSum(const uint8_t* page) {
  // Four lanes, so that the multiplications overlap.
  uint64_t lane[4] = {0x9e3779b97f4a7c15, 0xc2b2ae3d27d4eb4f, 0x165667b19e3779f9, 0x27d4eb2f165667c5};
  for (int i = 0; i < 4096; i += 32) {
    uint64_t word[4];
    std::memcpy(word, page + i, 32);
    for (int j = 0; j < 4; j++) {
      lane[j] = (lane[j] ^ word[j]) * 0x9fb21c651e98df25;
      lane[j] ^= lane[j] >> 29;
    }
  }
  return (lane[0] ^ (lane[1] << 1 | lane[1] >> 63)) * 31 + (lane[2] ^ (lane[3] << 3 | lane[3] >> 61));
}

inline bool IsZero(const uint8_t* page) {
  uint64_t first;
  std::memcpy(&first, page, 8);
  return first == 0 && std::memcmp(page, page + 8, 4096 - 8) == 0;
}

}  // namespace xenshim
