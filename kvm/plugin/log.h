// One-line notes to the shim's log; to stderr when no shim is connected.
#pragma once

namespace xenshim {

enum class Level : unsigned { kDebug = 20, kInfo = 30, kWarn = 40, kError = 50 };

void Log(Level level, const char* format, ...) __attribute__((format(printf, 2, 3)));

}  // namespace xenshim
