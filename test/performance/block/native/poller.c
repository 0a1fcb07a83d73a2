// A frontend that polls an empty ring for ever, and nothing else: what the core of the load does beside the measurement of
// the limit in the cases where the load polls. Runs until its standard input ends.
#include <poll.h>
#include <stdint.h>
#include <unistd.h>

#include "load.h"

int main(void) {
  static volatile uint32_t rsp_prod;
  struct pollfd input = {0, POLLIN | POLLHUP, 0};
  for (;;) {
    for (int i = 0; i < 100000; i++) {
      if (rsp_prod != 0) return 1;
      (void)ticks();
      RELAX();
    }
    char byte;
    if (poll(&input, 1, 0) > 0 && read(0, &byte, 1) <= 0) return 0;
  }
}
