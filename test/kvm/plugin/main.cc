// Argument: the case to run. Without one, the names of all. Exits with 1 and a line for what is wrong.
#include <csignal>
#include <cstring>

#include "harness.h"

int main(int count, char** arguments) {
  struct sigaction action{};
  action.sa_handler = [](int) {};
  sigaction(SIGUSR1, &action, nullptr);
  for (const harness::Case* each = harness::Case::first; each != nullptr; each = each->next) {
    if (count < 2) {
      std::puts(each->name);
    } else if (std::strcmp(each->name, arguments[1]) == 0) {
      each->run();
      std::_Exit(0);
    }
  }
  std::fflush(stdout);
  std::_Exit(count < 2 ? 0 : 2);
}
