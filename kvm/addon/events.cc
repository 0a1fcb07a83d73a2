// Eventfds and descriptor polling on the calling thread's event loop.
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <unistd.h>
#include <uv.h>

#include <cstdint>
#include <memory>

#include "addon/module.h"

namespace {

int Fd(const Napi::Value& value) { return value.As<Napi::Number>().Int32Value(); }

Napi::Value Eventfd(const Napi::CallbackInfo& info) {
  const int fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  if (fd < 0) ThrowErrno(info.Env(), "eventfd");
  return Napi::Number::New(info.Env(), fd);
}

void EventfdSignal(const Napi::CallbackInfo& info) {
  const uint64_t one = 1;
  // EAGAIN means the counter is full: the reader has its event already.
  if (write(Fd(info[0]), &one, sizeof one) < 0 && errno != EAGAIN) ThrowErrno(info.Env(), "write(eventfd)");
}

Napi::Value EventfdDrain(const Napi::CallbackInfo& info) {
  uint64_t count = 0;
  if (read(Fd(info[0]), &count, sizeof count) < 0 && errno != EAGAIN) ThrowErrno(info.Env(), "read(eventfd)");
  return Napi::Number::New(info.Env(), static_cast<double>(count));
}

Napi::Value Timerfd(const Napi::CallbackInfo& info) {
  const int fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
  if (fd < 0) ThrowErrno(info.Env(), "timerfd_create");
  return Napi::Number::New(info.Env(), fd);
}

// (fd, nanoseconds from now): readable once then; 0 disarms.
void TimerfdSet(const Napi::CallbackInfo& info) {
  const auto after = static_cast<int64_t>(info[1].As<Napi::Number>().DoubleValue());
  itimerspec setting{};
  setting.it_value.tv_sec = after / 1'000'000'000;
  setting.it_value.tv_nsec = after % 1'000'000'000;
  if (timerfd_settime(Fd(info[0]), 0, &setting, nullptr) != 0) ThrowErrno(info.Env(), "timerfd_settime");
}

void CloseFd(const Napi::CallbackInfo& info) {
  if (close(Fd(info[0])) != 0) ThrowErrno(info.Env(), "close");
}

// A poll handle and its callback. The uv handle outlives the JavaScript object until uv_close has finished.
struct Poll {
  uv_poll_t handle;
  Napi::FunctionReference readable;
  Napi::Env env;
  explicit Poll(Napi::Env e) : env(e) {}
};

void OnReadable(uv_poll_t* handle, int, int) {
  Poll* poll = static_cast<Poll*>(handle->data);
  Napi::HandleScope scope(poll->env);
  // Exceptions go the way of any uncaught exception; MakeCallback runs the microtasks.
  try {
    poll->readable.MakeCallback(poll->env.Global(), {});
  } catch (const Napi::Error& error) {
    napi_fatal_exception(poll->env, error.Value());
  }
}

void ClosePoll(Poll* poll) {
  if (uv_is_closing(reinterpret_cast<uv_handle_t*>(&poll->handle))) return;
  uv_poll_stop(&poll->handle);
  uv_close(reinterpret_cast<uv_handle_t*>(&poll->handle),
           [](uv_handle_t* handle) { delete static_cast<Poll*>(handle->data); });
}

Napi::Value WatchReadable(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  uv_loop_t* loop = nullptr;
  if (napi_get_uv_event_loop(env, &loop) != napi_ok) throw Napi::Error::New(env, "no event loop");
  auto poll = std::make_unique<Poll>(env);
  poll->handle.data = poll.get();
  const int rc = uv_poll_init(loop, &poll->handle, Fd(info[0]));
  if (rc != 0) ThrowErrno(env, "uv_poll_init", -rc);
  poll->readable = Napi::Persistent(info[1].As<Napi::Function>());
  Poll* raw = poll.release();
  uv_poll_start(&raw->handle, UV_READABLE, OnReadable);

  // `open` tells close() whether the Poll is still ours; the environment's end closes what was left open.
  auto open = std::make_shared<bool>(true);
  struct Hook {
    Poll* poll;
    std::shared_ptr<bool> open;
  };
  auto* hook = new Hook{raw, open};
  auto cleanup = [](void* arg) {
    auto* h = static_cast<Hook*>(arg);
    if (*h->open) {
      *h->open = false;
      ClosePoll(h->poll);
    }
    delete h;
  };
  napi_add_env_cleanup_hook(env, cleanup, hook);
  Napi::Object watcher = Napi::Object::New(env);
  watcher.Set("close", Napi::Function::New(env, [raw, open, hook, cleanup](const Napi::CallbackInfo& call) {
                if (!*open) return;
                *open = false;
                napi_remove_env_cleanup_hook(call.Env(), cleanup, hook);
                delete hook;
                ClosePoll(raw);
              }));
  return watcher;
}

}  // namespace

void InitEvents(Napi::Env env, Napi::Object exports) {
  exports.Set("eventfd", Napi::Function::New(env, Eventfd));
  exports.Set("eventfdSignal", Napi::Function::New(env, EventfdSignal));
  exports.Set("eventfdDrain", Napi::Function::New(env, EventfdDrain));
  exports.Set("timerfd", Napi::Function::New(env, Timerfd));
  exports.Set("timerfdSet", Napi::Function::New(env, TimerfdSet));
  exports.Set("closeFd", Napi::Function::New(env, CloseFd));
  exports.Set("watchReadable", Napi::Function::New(env, WatchReadable));
}
