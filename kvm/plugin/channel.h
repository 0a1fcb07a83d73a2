// The socket to the shim.
#pragma once
#include "core/protocol.h"

namespace xenshim {

// A shim waits for this process to make its VM.
bool ShimOffered();
// Takes the socket from the environment, shakes hands and starts the service thread. False if there is no shim.
bool ConnectToShim(int capabilities);
// One message, with a descriptor or without. Any thread.
void SendMessage(const Message& message, int fd = -1);

}  // namespace xenshim
