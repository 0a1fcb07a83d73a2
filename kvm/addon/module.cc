// The Node addon: one file per facility, each entering its functions into the module's exports.
#include <napi.h>

#include "addon/module.h"

static Napi::Object Init(Napi::Env env, Napi::Object exports) {
  InitMemory(env, exports);
  InitEvents(env, exports);
  InitBridge(env, exports);
  InitUring(env, exports);
  InitImage(env, exports);
  InitPager(env, exports);
  InitUnixSocket(env, exports);
  InitStreamSocket(env, exports);
  InitInlineFile(env, exports);
  InitDiscarder(env, exports);
  InitQuickGrants(env, exports);
  InitVectorIo(env, exports);
  InitGather(env, exports);
  return exports;
}

NODE_API_MODULE(xenshim_native, Init)
