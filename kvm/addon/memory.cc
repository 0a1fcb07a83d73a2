// Mappings: shared views of guest RAM and of our own memfds.
#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>

#include "addon/module.h"

namespace {

// mmap at an address aligned to `align`: reserve more, map over the aligned part, give the rest back.
void* MapAligned(size_t length, size_t align, int flags, int fd, off_t offset) {
  const int prot = PROT_READ | PROT_WRITE;
  if (align <= 4096) return mmap(nullptr, length, prot, flags, fd, offset);
  const size_t room = length + align;
  void* reserved = mmap(nullptr, room, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (reserved == MAP_FAILED) return MAP_FAILED;
  const uintptr_t start = reinterpret_cast<uintptr_t>(reserved);
  const uintptr_t at = (start + align - 1) & ~(uintptr_t{align} - 1);
  void* mapped = mmap(reinterpret_cast<void*>(at), length, prot, flags | MAP_FIXED, fd, offset);
  if (mapped == MAP_FAILED) {
    const int error = errno;
    munmap(reserved, room);
    errno = error;
    return MAP_FAILED;
  }
  const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  const uintptr_t end = at + ((length + page - 1) & ~(page - 1));
  if (at > start) munmap(reserved, at - start);
  if (start + room > end) munmap(reinterpret_cast<void*>(end), start + room - end);
  return mapped;
}

Napi::Value MappingOf(Napi::Env env, void* address, size_t length) {
  Napi::Object mapping = Napi::Object::New(env);
  mapping.Set("hva", Napi::Number::New(env, static_cast<double>(reinterpret_cast<uintptr_t>(address))));
  mapping.Set("buffer", Napi::ArrayBuffer::New(env, address, length));
  return mapping;
}

Napi::Value MapShared(const Napi::CallbackInfo& info) {
  const int fd = info[0].As<Napi::Number>().Int32Value();
  const off_t offset = static_cast<off_t>(info[1].As<Napi::Number>().Int64Value());
  const size_t length = static_cast<size_t>(info[2].As<Napi::Number>().Int64Value());
  const size_t align = static_cast<size_t>(info[3].As<Napi::Number>().Int64Value());
  void* address = MapAligned(length, align, MAP_SHARED, fd, offset);
  if (address == MAP_FAILED) ThrowErrno(info.Env(), "mmap");
  return MappingOf(info.Env(), address, length);
}

Napi::Value MapAnonymous(const Napi::CallbackInfo& info) {
  const size_t length = static_cast<size_t>(info[0].As<Napi::Number>().Int64Value());
  const size_t align = static_cast<size_t>(info[1].As<Napi::Number>().Int64Value());
  void* address = MapAligned(length, align, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (address == MAP_FAILED) ThrowErrno(info.Env(), "mmap");
  return MappingOf(info.Env(), address, length);
}

void Unmap(const Napi::CallbackInfo& info) {
  const uintptr_t hva = static_cast<uintptr_t>(info[0].As<Napi::Number>().Int64Value());
  const size_t length = static_cast<size_t>(info[1].As<Napi::Number>().Int64Value());
  if (munmap(reinterpret_cast<void*>(hva), length) != 0) ThrowErrno(info.Env(), "munmap");
}

// discard(hva, length): private memory is given back to the host and reads as zeros when touched again.
void Discard(const Napi::CallbackInfo& info) {
  const uintptr_t hva = static_cast<uintptr_t>(info[0].As<Napi::Number>().Int64Value());
  const size_t length = static_cast<size_t>(info[1].As<Napi::Number>().Int64Value());
  if (madvise(reinterpret_cast<void*>(hva), length, MADV_DONTNEED) != 0) ThrowErrno(info.Env(), "madvise");
}

Napi::Value Memfd(const Napi::CallbackInfo& info) {
  const std::string name = info[0].As<Napi::String>();
  const off_t length = static_cast<off_t>(info[1].As<Napi::Number>().Int64Value());
  const int fd = memfd_create(name.c_str(), MFD_CLOEXEC);
  if (fd < 0) ThrowErrno(info.Env(), "memfd_create");
  if (ftruncate(fd, length) != 0) {
    const int error = errno;
    close(fd);
    ThrowErrno(info.Env(), "ftruncate", error);
  }
  return Napi::Number::New(info.Env(), fd);
}

}  // namespace

void InitMemory(Napi::Env env, Napi::Object exports) {
  exports.Set("mapShared", Napi::Function::New(env, MapShared));
  exports.Set("mapAnonymous", Napi::Function::New(env, MapAnonymous));
  exports.Set("unmap", Napi::Function::New(env, Unmap));
  exports.Set("discard", Napi::Function::New(env, Discard));
  exports.Set("memfd", Napi::Function::New(env, Memfd));
}
