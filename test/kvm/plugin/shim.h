// The shim's end of the bridge socket.
#pragma once
#include <deque>
#include <initializer_list>

#include "core/protocol.h"

namespace harness {

// Makes the socket and everything the plugin gets with kInit, before QEMU's first ioctl.
// `any`: what the plugin is to stand in for, as kInit says it.
void OfferShim(uint64_t own_pages = 8, uint32_t xen_version = 0x4'0012, uint64_t any = 0);
// A request and its answer.
xenshim::Message Ask(xenshim::Op op, std::initializer_list<uint64_t> arguments, int fd = -1);
// A one-way message.
void Tell(xenshim::Op op, std::initializer_list<uint64_t> arguments);
// Messages of the plugin so far that are not answers, without waiting; log lines only on demand.
std::deque<xenshim::Message> Heard(bool lines = false);
extern xenshim::Shared* shared;
extern int doorbell;

}  // namespace harness
