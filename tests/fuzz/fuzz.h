/* SPDX-License-Identifier: MIT */
/* What every fuzz target defines. It returns 0; a finding aborts, or is a sanitizer's. */
#ifndef LOCKSTEP_FUZZ_H
#define LOCKSTEP_FUZZ_H

#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#endif
