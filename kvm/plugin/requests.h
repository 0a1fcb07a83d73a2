// What the shim asks of the VM.
#pragma once
#include "core/protocol.h"

namespace xenshim {

// Carries out one request; `fd` is the descriptor that came with it or -1. Returns 0 or a negative errno.
int64_t HandleRequest(const Message& request, int fd, Message& reply);

}  // namespace xenshim
