// A reset of the machine: the new guest must find nothing of the old one, least of all the kernel writing to its pages.
#include "plugin/any/any.h"
#include "plugin/attributes.h"
#include "plugin/irqfd.h"
#include "plugin/machine.h"
#include "plugin/pci.h"
#include "plugin/ram.h"

namespace xenshim {

void UndoEverything() {
  for (auto& vcpu : machine.vcpus) DropSlot(*vcpu);
  if (machine.any) {
    any::Forget();
  } else {
    UnbindAllIrqfds();
    ClearAttributes();
  }
  RemoveAllOwnPages();
  ResetPci();
  machine.held.store(false);
}

}  // namespace xenshim
