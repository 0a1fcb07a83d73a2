#pragma once
#include <napi.h>

#include <cerrno>
#include <cstring>
#include <string>

void InitMemory(Napi::Env env, Napi::Object exports);
void InitEvents(Napi::Env env, Napi::Object exports);
void InitBridge(Napi::Env env, Napi::Object exports);
void InitUring(Napi::Env env, Napi::Object exports);
void InitPager(Napi::Env env, Napi::Object exports);
void InitImage(Napi::Env env, Napi::Object exports);
void InitUnixSocket(Napi::Env env, Napi::Object exports);
void InitStreamSocket(Napi::Env env, Napi::Object exports);
void InitInlineFile(Napi::Env env, Napi::Object exports);
void InitDiscarder(Napi::Env env, Napi::Object exports);
void InitQuickGrants(Napi::Env env, Napi::Object exports);
void InitVectorIo(Napi::Env env, Napi::Object exports);
void InitGather(Napi::Env env, Napi::Object exports);

/// Throws a JavaScript Error "<what>: <strerror>" with a numeric `errno` property.
[[noreturn]] inline void ThrowErrno(Napi::Env env, const char* what, int error = errno) {
  Napi::Error e = Napi::Error::New(env, std::string(what) + ": " + std::strerror(error));
  e.Set("errno", Napi::Number::New(env, error));
  throw e;
}
