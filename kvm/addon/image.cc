// What a disk image needs beyond Node's fs: open-file-description locks, block device geometry, hole punching.
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include <cstdint>

#include "addon/module.h"

namespace {

int Fd(const Napi::Value& value) { return value.As<Napi::Number>().Int32Value(); }

struct flock Range(const Napi::CallbackInfo& info, short type) {
  struct flock range = {};
  range.l_type = type;
  range.l_whence = SEEK_SET;
  range.l_start = static_cast<off_t>(info[1].As<Napi::Number>().Int64Value());
  range.l_len = static_cast<off_t>(info[2].As<Napi::Number>().Int64Value());
  return range;
}

// lockShared(fd, start, length): a shared OFD lock; false if another description holds an exclusive one.
Napi::Value LockShared(const Napi::CallbackInfo& info) {
  struct flock range = Range(info, F_RDLCK);
  const int rc = fcntl(Fd(info[0]), F_OFD_SETLK, &range);
  if (rc < 0 && errno != EAGAIN && errno != EACCES) ThrowErrno(info.Env(), "fcntl(F_OFD_SETLK)");
  return Napi::Boolean::New(info.Env(), rc == 0);
}

// unlock(fd, start, length): gives up this description's locks there.
void Unlock(const Napi::CallbackInfo& info) {
  struct flock range = Range(info, F_UNLCK);
  if (fcntl(Fd(info[0]), F_OFD_SETLK, &range) < 0) ThrowErrno(info.Env(), "fcntl(F_OFD_SETLK)");
}

// lockHeld(fd, start, length): whether any other open file description holds any lock there.
Napi::Value LockHeld(const Napi::CallbackInfo& info) {
  struct flock range = Range(info, F_WRLCK);
  if (fcntl(Fd(info[0]), F_OFD_GETLK, &range) < 0) ThrowErrno(info.Env(), "fcntl(F_OFD_GETLK)");
  return Napi::Boolean::New(info.Env(), range.l_type != F_UNLCK);
}

Napi::Value BlockDeviceSize(const Napi::CallbackInfo& info) {
  uint64_t bytes = 0;
  if (ioctl(Fd(info[0]), BLKGETSIZE64, &bytes) < 0) ThrowErrno(info.Env(), "ioctl(BLKGETSIZE64)");
  return Napi::Number::New(info.Env(), static_cast<double>(bytes));
}

// blockDeviceSectors(fd): { logical, physical } in bytes.
Napi::Value BlockDeviceSectors(const Napi::CallbackInfo& info) {
  int logical = 0;
  unsigned physical = 0;
  if (ioctl(Fd(info[0]), BLKSSZGET, &logical) < 0) ThrowErrno(info.Env(), "ioctl(BLKSSZGET)");
  if (ioctl(Fd(info[0]), BLKPBSZGET, &physical) < 0) ThrowErrno(info.Env(), "ioctl(BLKPBSZGET)");
  Napi::Object sectors = Napi::Object::New(info.Env());
  sectors.Set("logical", Napi::Number::New(info.Env(), logical));
  sectors.Set("physical", Napi::Number::New(info.Env(), physical));
  return sectors;
}

// directAlignment(fd): { memory, offset } in bytes as statx tells them, or undefined where the kernel does not know.
Napi::Value DirectAlignment(const Napi::CallbackInfo& info) {
#ifdef STATX_DIOALIGN
  struct statx stat = {};
  const int rc = statx(Fd(info[0]), "", AT_EMPTY_PATH, STATX_DIOALIGN, &stat);
  if (rc == 0 && (stat.stx_mask & STATX_DIOALIGN) != 0 && stat.stx_dio_offset_align != 0) {
    Napi::Object alignment = Napi::Object::New(info.Env());
    alignment.Set("memory", Napi::Number::New(info.Env(), stat.stx_dio_mem_align));
    alignment.Set("offset", Napi::Number::New(info.Env(), stat.stx_dio_offset_align));
    return alignment;
  }
#endif
  return info.Env().Undefined();
}

// punchHole(fd, offset, length): 0 or a positive errno.
Napi::Value PunchHole(const Napi::CallbackInfo& info) {
  const off_t offset = static_cast<off_t>(info[1].As<Napi::Number>().Int64Value());
  const off_t length = static_cast<off_t>(info[2].As<Napi::Number>().Int64Value());
  const int rc = fallocate(Fd(info[0]), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, length);
  return Napi::Number::New(info.Env(), rc == 0 ? 0 : errno);
}

// fileSystemType(fd): f_type.
Napi::Value FileSystemType(const Napi::CallbackInfo& info) {
  struct statfs about;
  if (fstatfs(Fd(info[0]), &about) < 0) ThrowErrno(info.Env(), "fstatfs");
  return Napi::Number::New(info.Env(), static_cast<double>(static_cast<uint32_t>(about.f_type)));
}

}  // namespace

void InitImage(Napi::Env env, Napi::Object exports) {
  exports.Set("lockShared", Napi::Function::New(env, LockShared));
  exports.Set("unlock", Napi::Function::New(env, Unlock));
  exports.Set("lockHeld", Napi::Function::New(env, LockHeld));
  exports.Set("blockDeviceSize", Napi::Function::New(env, BlockDeviceSize));
  exports.Set("blockDeviceSectors", Napi::Function::New(env, BlockDeviceSectors));
  exports.Set("directAlignment", Napi::Function::New(env, DirectAlignment));
  exports.Set("fileSystemType", Napi::Function::New(env, FileSystemType));
  exports.Set("punchHole", Napi::Function::New(env, PunchHole));
}
