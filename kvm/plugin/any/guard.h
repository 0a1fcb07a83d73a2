// Watches that a guest whose hypercalls cannot be had is stopped with a reason, rather than left to hang.
#pragma once

namespace xenshim::any {

void StartGuard();
void ForgetGuard();
// Ends the machine as a guest's panic does, with one line for the operator.
void StopGuest(const char* why);

}  // namespace xenshim::any
