/* SPDX-License-Identifier: MIT */
/* Everything a user of the library needs. */
#ifndef LOCKSTEP_LOCKSTEP_H
#define LOCKSTEP_LOCKSTEP_H

#include <lockstep/group.h>
#include <lockstep/identity.h>
#include <lockstep/machine.h>
#include <lockstep/node.h>
#include <lockstep/statesync.h>

#endif
