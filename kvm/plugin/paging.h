// Guest RAM watched by a userfaultfd, for the shim's pager.
#pragma once

namespace xenshim {

// Makes the userfaultfd, registers every mapping of guest RAM and hands all of it to the shim. 0 or a negative errno.
int WatchRam();
// Guest RAM is watched: a vCPU may wait for a page that only the shim can bring.
bool RamWatched();

}  // namespace xenshim
